//! Claims: their rows on disk and in memory, who owns a value, and sweeping.
//!
//! Owns: the tables of claims. Layout of a block of items: for each item its index in the claimed batch, less that of the
//! item before it in the block, its entity type and the length of its value, in LEB128, and the value. Items are in the
//! batch's order; blocks are filled up to 4,064 bytes, and each can be read by itself. Always holds: a value's owner is what the owners' table says, if that claim exists; every
//! owner row is of a claim that has a row, and of a value that no live record has; a claim never gets back a value that it
//! lost; a claim that can be swept does not exist for anybody, whether it is swept yet or not. Deadlines are of the
//! monotonic clock: they are made from the grant in the process that granted, and from the wall clock when a pool is
//! loaded. A claim that can be swept may exist again then, so nothing may depend on its end before it is swept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redb::WriteTransaction;
use roaring::RoaringBitmap;
use rpds::RedBlackTreeMapSync;

use crate::engine::format::codec::{self, ClaimRow};
use crate::engine::format::fingerprint::BuildFingerprintHasher;
use crate::engine::format::record::{push_leb128, take_leb128};
use crate::engine::format::schema::{self, BLOCK_MAX_BYTES, Fingerprint};
use crate::engine::pool::batch::Batch;
use crate::engine::read::view::{Snapshot, View};
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::write::draft::PoolDraft;
use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, PoolId};
use crate::limits;
use crate::model::{ClaimInfo, Origin};
use crate::time::{Moment, Reading, Timestamp};

pub(crate) type ClaimId = u64;

/// Owner rows: which claim has which value.
pub(crate) type Owners = HashMap<Fingerprint, ClaimId, BuildFingerprintHasher>;

/// How many items one commit sweeps.
const SWEEP_ITEMS: usize = 4_096;

/// A claim as of one commit.
#[derive(Debug, Clone)]
pub(crate) struct ClaimState {
    pub(crate) origin: Arc<Origin>,
    /// When the lease ends, by the clock at its grant.
    pub(crate) until: Timestamp,
    pub(crate) lease: Duration,
    /// When the lease ends, by the monotonic clock.
    pub(crate) deadline: Moment,
    pub(crate) nonce: u128,
    pub(crate) items: u32,
    /// The indexes in the batch of those that were confirmed or released while others were not.
    pub(crate) settled: RoaringBitmap,
}

impl ClaimState {
    pub(crate) fn is_lapsed(&self, moment: Moment) -> bool {
        self.deadline <= moment
    }

    fn is_sweepable(&self, moment: Moment) -> bool {
        self.deadline.after(limits::CLAIM_KEPT_AFTER_LEASE) <= moment
    }
}

/// The claims of a pool, by id. Cheap to clone and to change in one place. Their items are on disk.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    by_id: RedBlackTreeMapSync<ClaimId, Arc<ClaimState>>,
    /// Nothing can be swept before.
    sweep_from: Moment,
}

impl Default for Claims {
    fn default() -> Self {
        Self { by_id: RedBlackTreeMapSync::default(), sweep_from: Moment::NEVER }
    }
}

impl Claims {
    /// Whether there is no claim, not even one to sweep.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the number of claims that exist.
    pub(crate) fn count(&self, moment: Moment) -> u64 {
        if !self.may_sweep(moment) {
            return self.by_id.size() as u64;
        }
        self.by_id.values().filter(|claim| !claim.is_sweepable(moment)).count() as u64
    }

    /// A claim, even if it can be swept: until it is, its rows are there, and a clock that is set back brings it to life.
    pub(crate) fn stored(&self, id: ClaimId) -> Option<&ClaimState> {
        self.by_id.get(&id).map(|claim| &**claim)
    }

    /// Every claim, those that can be swept included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClaimId, &ClaimState)> {
        self.by_id.iter().map(|(id, claim)| (*id, &**claim))
    }

    /// Whether there is such a claim, even if it can be swept.
    pub(crate) fn contains(&self, id: ClaimId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// A claim, if it exists.
    pub(crate) fn get(&self, id: ClaimId, moment: Moment) -> Option<&ClaimState> {
        self.by_id.get(&id).map(|claim| &**claim).filter(|claim| !claim.is_sweepable(moment))
    }

    pub(crate) fn insert(&mut self, id: ClaimId, claim: ClaimState) {
        self.sweep_from = self.sweep_from.min(claim.deadline.after(limits::CLAIM_KEPT_AFTER_LEASE));
        self.by_id.insert_mut(id, Arc::new(claim));
    }

    pub(crate) fn remove(&mut self, id: ClaimId) {
        self.by_id.remove_mut(&id);
    }

    /// The id that the next claim gets.
    pub(crate) fn next_id(&self) -> ClaimId {
        self.by_id.last().map_or(1, |(last, _)| last + 1)
    }

    /// Whether there is a claim to sweep, as far as that is known without looking at each.
    pub(crate) fn may_sweep(&self, moment: Moment) -> bool {
        self.sweep_from <= moment
    }

    /// A claim to sweep. If there is none, remembers until when.
    fn next_to_sweep(&mut self, moment: Moment) -> Option<ClaimId> {
        if !self.may_sweep(moment) {
            return None;
        }
        let found = self.by_id.iter().find(|(_, claim)| claim.is_sweepable(moment)).map(|(id, _)| *id);
        if found.is_none() {
            let ends = self.by_id.values().map(|claim| claim.deadline.after(limits::CLAIM_KEPT_AFTER_LEASE));
            self.sweep_from = ends.min().unwrap_or(Moment::NEVER);
        }
        found
    }
}

/// Reads a pool's claims.
pub(crate) fn load(snapshot: &Snapshot, pool: PoolId, now: Reading) -> Result<Claims> {
    let mut claims = Claims::default();
    let Some(table) = snapshot.table(schema::CLAIMS)? else { return Ok(claims) };
    let items_table = snapshot.table(schema::CLAIM_ITEMS)?;
    for row in table.range((pool, 0)..=(pool, ClaimId::MAX)).storage()? {
        let (key, row) = row.storage()?;
        let (id, ClaimRow { origin, until, lease, nonce, items, settled }) =
            (key.value().1, codec::decode_claim(row.value())?);
        // Sweeping begins with the first block: whatever the clock says now, it goes on.
        let is_whole = match &items_table {
            Some(table) => table.get((pool, id, 0)).storage()?.is_some(),
            None => false,
        };
        let deadline = if is_whole { deadline_of(until, lease, now) } else { Moment::FAR_PAST };
        let origin = Arc::new(origin);
        claims.insert(id, ClaimState { origin, until, lease, deadline, nonce, items, settled });
    }
    Ok(claims)
}

/// The wall clock says how much of a lease is left; never more than it was long, whatever the clock was set to.
fn deadline_of(until: Timestamp, lease: Duration, now: Reading) -> Moment {
    let left = until.since(now.time).min(lease);
    now.moment.after(left).before(now.time.since(until))
}

impl View {
    /// The claim in a value's owner row, whether it exists or not.
    pub(crate) fn owner(&self, fingerprint: Fingerprint) -> Result<Option<ClaimId>> {
        let Some(table) = self.claimed()? else { return Ok(None) };
        Ok(table.get((self.state.id, fingerprint)).storage()?.map(|owner| owner.value()))
    }

    /// Every owner row: the value and the claim.
    pub(crate) fn owners(&self) -> Result<Owners> {
        let pool = self.state.id;
        let Some(table) = self.claimed()? else { return Ok(Owners::default()) };
        let rows = table.range((pool, 0)..=(pool, Fingerprint::MAX)).storage()?;
        let owner = |row: redb::Result<_, _>| {
            let (key, owner): (redb::AccessGuard<'_, (u64, u128)>, redb::AccessGuard<'_, u64>) =
                row.storage()?;
            Ok((key.value().1, owner.value()))
        };
        rows.map(owner).collect()
    }

    /// Whether a claim's first block of items is there: sweeping begins with it.
    pub(crate) fn has_first_block(&self, id: ClaimId) -> Result<bool> {
        let Some(table) = self.snapshot.table(schema::CLAIM_ITEMS)? else { return Ok(false) };
        Ok(table.get((self.state.id, id, 0)).storage()?.is_some())
    }

    /// The values that each claim was made for, as far as they can be read; without the claims that are half swept.
    pub(crate) fn items_by_claim(&self) -> Result<HashMap<ClaimId, Result<HashSet<Fingerprint>>>> {
        let mut items = HashMap::new();
        for (id, claim) in self.state.claims.iter() {
            if self.has_first_block(id)? {
                let read = self.items_of_claim(id, claim);
                let of = |read: ClaimItems| read.batch.items().iter().map(|item| item.fingerprint).collect();
                items.insert(id, read.map(of));
            }
        }
        Ok(items)
    }

    /// The items that a claim was made for, and how each stands.
    pub(crate) fn items_of_claim(&self, id: ClaimId, claim: &ClaimState) -> Result<ClaimItems> {
        contained("reading a claim", || {
            let (mut batch, mut indexes) = (Batch::default(), Vec::new());
            if let Some(table) = self.snapshot.table(schema::CLAIM_ITEMS)? {
                for row in table.range(blocks_of(self.state.id, id)).storage()? {
                    decode_block(row.storage()?.1.value(), |index, entity_type, value| {
                        indexes.push(index);
                        batch.push(&self.hash_key, entity_type, value);
                    })?;
                }
            }
            check_items(claim, &indexes)
                .map_err(|reason| Error::corrupt(format!("pool {}: claim {id} {reason}", self.state.id)))?;
            let owned = batch.ask_each(|fingerprint| Ok(self.owner(fingerprint)? == Some(id)))?;
            let standing = |(index, is_own): (&u32, bool)| match (claim.settled.contains(*index), is_own) {
                (true, _) => Standing::Settled,
                (false, true) => Standing::Held,
                (false, false) => Standing::Lost,
            };
            let standings = indexes.iter().zip(owned).map(standing).collect();
            Ok(ClaimItems { batch: batch.with_origin(&claim.origin), indexes, standings })
        })
    }

    /// The pool's claims, oldest first.
    pub(crate) fn claims(&self, moment: Moment) -> Vec<ClaimInfo> {
        let info = |(id, claim): (&ClaimId, &Arc<ClaimState>)| ClaimInfo {
            id: *id,
            origin: Origin::clone(&claim.origin),
            until: claim.until,
            is_lapsed: claim.is_lapsed(moment),
            items: claim.items.into(),
        };
        let claims = self.state.claims.by_id.iter();
        claims.filter(|(_, claim)| !claim.is_sweepable(moment)).map(info).collect()
    }
}

/// The items of a claim that is taken up.
pub(crate) struct ClaimItems {
    pub(crate) batch: Batch,
    /// The index of each in the claimed batch, ascending.
    pub(crate) indexes: Vec<u32>,
    pub(crate) standings: Vec<Standing>,
}

/// What is wrong with a claim's items as a whole: they must be as many as its row says, and have those that are settled.
fn check_items(claim: &ClaimState, indexes: &[u32]) -> std::result::Result<(), String> {
    if indexes.len() != claim.items as usize {
        return Err(format!("has {} items instead of {}", indexes.len(), claim.items));
    }
    if !indexes.is_sorted_by(|a, b| a < b) {
        return Err("has items whose indexes are out of order".to_owned());
    }
    match claim.settled.iter().find(|index| indexes.binary_search(index).is_err()) {
        Some(index) => Err(format!("has settled the item with index {index}, which it does not have")),
        None => Ok(()),
    }
}

/// How an item of a claim stands that is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The claim owns its value.
    Held,
    /// It does not any more.
    Lost,
    /// It was confirmed or released.
    Settled,
}

fn blocks_of(pool: PoolId, claim: ClaimId) -> std::ops::RangeInclusive<(u64, u64, u32)> {
    (pool, claim, 0)..=(pool, claim, u32::MAX)
}

/// The blocks of some items of a batch, whose indexes ascend.
fn encode_blocks(batch: &Batch, items: &[usize]) -> Vec<Vec<u8>> {
    let (mut blocks, mut block, mut before) = (Vec::new(), Vec::new(), 0);
    let mut entry = Vec::new();
    for index in items {
        let Some(item) = batch.items().get(*index) else { continue };
        let value = batch.value(*index);
        entry.clear();
        push_leb128(item.entity_type.get().into(), &mut entry);
        push_leb128(value.len() as u64, &mut entry);
        entry.extend_from_slice(value.as_bytes());
        let mut difference = Vec::new();
        push_leb128((index - before) as u64, &mut difference);
        if !block.is_empty() && block.len() + difference.len() + entry.len() > BLOCK_MAX_BYTES {
            blocks.push(std::mem::take(&mut block));
            difference.clear();
            push_leb128(*index as u64, &mut difference);
        }
        block.extend_from_slice(&difference);
        block.extend_from_slice(&entry);
        before = *index;
    }
    blocks.push(block);
    blocks
}

/// Hands on the items of a block, each with its index in the batch.
fn decode_block(bytes: &[u8], mut each: impl FnMut(u32, EntityTypeId, &str)) -> Result<()> {
    let (mut rest, mut before) = (bytes, 0);
    while !rest.is_empty() {
        let (index, entity_type, value) = take_item(&mut rest, before)
            .ok_or_else(|| Error::corrupt("a claim's block of items is damaged"))?;
        each(index, entity_type, value);
        before = index;
    }
    Ok(())
}

/// An item whose index is so much behind `before` as it says.
fn take_item<'b>(rest: &mut &'b [u8], before: u32) -> Option<(u32, EntityTypeId, &'b str)> {
    let index = u64::from(before).checked_add(take_leb128(rest)?)?;
    let index = u32::try_from(index).ok().filter(|index| (*index as usize) < limits::BATCH_MAX_ITEMS)?;
    let entity_type = u32::try_from(take_leb128(rest)?).ok()?;
    let length = usize::try_from(take_leb128(rest)?).ok()?;
    let (value, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some((index, EntityTypeId::new(entity_type), std::str::from_utf8(value).ok()?))
}

/// Writes what a draft changes of its pool's claims.
pub(crate) fn write(txn: &WriteTransaction, draft: &PoolDraft) -> Result<()> {
    let (pool, changes) = (draft.state.id, &draft.claims);
    if !changes.owners.is_empty() {
        let mut owners: Vec<_> = changes.owners.iter().collect();
        owners.sort_unstable();
        let mut table = txn.open_table(schema::CLAIMED).storage()?;
        for (fingerprint, owner) in owners {
            match owner {
                Some(owner) => table.insert((pool, *fingerprint), *owner).storage()?,
                None => table.remove((pool, *fingerprint)).storage()?,
            };
        }
    }
    for id in &changes.gone {
        remove_rows(txn, pool, *id)?;
    }
    let kept = |id: &ClaimId| draft.state.claims.by_id.get(id);
    for (id, batch, items) in changes.made.iter().filter(|(id, ..)| kept(id).is_some()) {
        let mut table = txn.open_table(schema::CLAIM_ITEMS).storage()?;
        for (number, block) in (0_u32..).zip(encode_blocks(batch, items)) {
            table.insert((pool, *id, number), block.as_slice()).storage()?;
        }
    }
    for id in &changes.changed {
        if let Some(claim) = kept(id) {
            let row = codec::encode_claim(claim)?;
            txn.open_table(schema::CLAIMS).storage()?.insert((pool, *id), row.as_slice()).storage()?;
        }
    }
    Ok(())
}

fn remove_rows(txn: &WriteTransaction, pool: PoolId, id: ClaimId) -> Result<()> {
    txn.open_table(schema::CLAIMS).storage()?.remove((pool, id)).storage()?;
    let mut items = txn.open_table(schema::CLAIM_ITEMS).storage()?;
    items.retain_in(blocks_of(pool, id), |_, _| false).storage()
}

/// Removes all of a pool's claims.
pub(crate) fn remove_all(txn: &WriteTransaction, pool: PoolId, claims: &Claims) -> Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    remove_rows_of_pool(txn, pool)
}

/// Removes all rows of a pool's claims.
pub(crate) fn remove_rows_of_pool(txn: &WriteTransaction, pool: PoolId) -> Result<()> {
    let mut claims = txn.open_table(schema::CLAIMS).storage()?;
    claims.retain_in((pool, 0)..=(pool, ClaimId::MAX), |_, _| false).storage()?;
    drop(claims);
    let mut items = txn.open_table(schema::CLAIM_ITEMS).storage()?;
    items.retain_in((pool, 0, 0)..=(pool, ClaimId::MAX, u32::MAX), |_, _| false).storage()?;
    drop(items);
    let mut owners = txn.open_table(schema::CLAIMED).storage()?;
    owners.retain_in((pool, 0)..=(pool, Fingerprint::MAX), |_, _| false).storage()
}

/// Takes values from whatever claims own them.
pub(crate) fn void(txn: &WriteTransaction, pool: PoolId, fingerprints: &[Fingerprint]) -> Result<()> {
    if fingerprints.is_empty() {
        return Ok(());
    }
    let mut owners = txn.open_table(schema::CLAIMED).storage()?;
    for fingerprint in fingerprints {
        owners.remove((pool, *fingerprint)).storage()?;
    }
    Ok(())
}

/// How far a commit swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swept {
    Nothing,
    PartOfClaim,
    Claim,
}

/// A commit's share of sweeping: some blocks of a claim whose time is long over; the claim with its last one.
pub(crate) fn sweep(txn: &WriteTransaction, draft: &mut PoolDraft) -> Result<Swept> {
    let swept = draft.state.claims.next_to_sweep(draft.now.moment);
    let Some(id) = swept else { return Ok(Swept::Nothing) };
    let pool = draft.state.id;
    let mut batch = Batch::default();
    let mut is_rest = true;
    {
        let mut items = txn.open_table(schema::CLAIM_ITEMS).storage()?;
        let mut blocks = items.extract_from_if(blocks_of(pool, id), |_, _| true).storage()?;
        while let Some(block) = blocks.next().transpose().storage()? {
            decode_block(block.1.value(), |_, entity_type, value| {
                batch.push(&draft.base.hash_key, entity_type, value);
            })?;
            if batch.len() >= SWEEP_ITEMS {
                is_rest = false;
                break;
            }
        }
    }
    let mut owners = txn.open_table(schema::CLAIMED).storage()?;
    for item in batch.items() {
        let key = (pool, item.fingerprint);
        let is_own =
            redb::ReadableTable::get(&owners, key).storage()?.is_some_and(|owner| owner.value() == id);
        if is_own {
            owners.remove(key).storage()?;
        }
    }
    drop(owners);
    if !is_rest {
        return Ok(Swept::PartOfClaim);
    }
    remove_rows(txn, pool, id)?;
    draft.state.claims.remove(id);
    Ok(Swept::Claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::fingerprint::HashKey;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_of_items_read_back(
            items in proptest::collection::vec((any::<u32>(), "\\PC{1,700}", 0..4_usize), 1..40),
        ) {
            let key = HashKey::new(*b"0123456789abcdef");
            let (mut batch, mut claimed) = (Batch::default(), Vec::new());
            // Some items lie between that are not claimed, also before the first one.
            for (entity_type, value, between) in &items {
                (0..*between).for_each(|_| batch.push(&key, 1.into(), "not claimed"));
                claimed.push(batch.len());
                batch.push(&key, EntityTypeId::new(*entity_type), value);
            }
            let blocks = encode_blocks(&batch, &claimed);
            let mut read = Vec::new();
            for block in &blocks {
                prop_assert!(block.len() <= BLOCK_MAX_BYTES);
                let push = |index, of: EntityTypeId, value: &str| read.push((index, of.get(), value.to_owned()));
                decode_block(block, push).unwrap();
            }
            for pair in blocks.windows(2) {
                prop_assert!(pair[0].len() + pair[1].len() > BLOCK_MAX_BYTES, "one would do");
            }
            let written = claimed.iter().zip(items);
            let written = written.map(|(index, (of, value, _))| (u32::try_from(*index).unwrap(), of, value));
            prop_assert_eq!(read, written.collect::<Vec<_>>());
        }

        #[test]
        fn damaged_blocks_never_panic(bytes: Vec<u8>) {
            let _ = decode_block(&bytes, |_, _, _| {});
        }
    }

    /// The sweep of a lapsed claim is part of anybody's writes; what is wrong with it is not.
    #[test]
    fn a_damaged_claim_of_one_pool_fails_no_write_to_another() {
        use crate::testing::{self, Sizes};
        use crate::{ErrorKind, Key, ManualClock, Mode, StoreOptions};
        fn key<'a>(value: &'a &str) -> Key<'a> {
            Key::new(37, *value)
        }
        let clock = ManualClock::starting_at("2013-01-01".parse().unwrap());
        let options = StoreOptions::new().clock(clock.clone());
        let store = testing::in_memory(&options, Sizes::SMALL).unwrap();
        let (damaged, other) =
            (store.get_or_create_pool("damaged").unwrap(), store.get_or_create_pool("other").unwrap());
        let lease = Duration::from_mins(1);
        assert!(damaged.claim(&["a"], key, &Origin::none(), lease).unwrap().into_token().is_some());
        let txn = store.shared().engine.session.read().as_ref().unwrap().database.begin_write().unwrap();
        let block = [255; 7];
        txn.open_table(schema::CLAIM_ITEMS).unwrap().insert((damaged.id(), 1, 0), block.as_slice()).unwrap();
        txn.commit().unwrap();
        clock.advance(lease + limits::CLAIM_KEPT_AFTER_LEASE);
        for value in ["b", "c", "d"] {
            let values = [value];
            let verdicts = other.dedupe(Mode::Track, &values, key, &Origin::none()).unwrap();
            assert_eq!(verdicts.new_count(), 1);
        }
        let error = damaged.dedupe(Mode::Track, &["b"], key, &Origin::none()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        store.delete_pool(damaged.id()).unwrap();
    }

    #[test]
    fn what_is_left_of_a_lease_after_loading_is_never_longer_than_the_lease() {
        let minute = Duration::from_mins(1);
        let at = |seconds: i64| Reading {
            time: Timestamp::from_micros(seconds * 1_000_000),
            moment: Moment::START.after(minute),
        };
        let until = Timestamp::from_micros(1_000 * 1_000_000);
        let start = Moment::START.after(minute);
        assert_eq!(deadline_of(until, minute, at(970)), start.after(Duration::from_secs(30)));
        assert_eq!(deadline_of(until, minute, at(-5_000)), start.after(minute));
        assert_eq!(deadline_of(until, minute, at(1_100)), start.before(Duration::from_secs(100)));
    }
}
