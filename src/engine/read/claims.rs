//! Claims as of one commit: the claims, their items, and the owners of values.

use std::collections::HashMap;
use std::time::Duration;

use crate::backend::batch::Batch;
use crate::backend::claims::{ClaimId, Standing, StoredClaim};
use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::engine::format::claim_items::{blocks_of, decode_block};
use crate::engine::format::codec;
use crate::engine::format::schema::{self, FENCE_ROW};
use crate::engine::pool::claims::{ClaimState, Claims, Owners};
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::view::View;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::model::ClaimInfo;
use crate::time::{Moment, Reading, Timestamp};

/// Reads a pool's claims.
pub(crate) fn load(snapshot: &Snapshot, pool: PoolId, now: Reading) -> Result<Claims> {
    let Some(table) = snapshot.table(schema::CLAIMS)? else { return Ok(Claims::default()) };
    let fence = table.get((pool, FENCE_ROW)).storage()?;
    let mut claims =
        Claims::fenced_to(fence.map(|row| codec::decode_fence(row.value())).transpose()?.unwrap_or(0));
    let items_table = snapshot.table(schema::CLAIM_ITEMS)?;
    for row in table.range((pool, FENCE_ROW + 1)..=(pool, ClaimId::MAX)).storage()? {
        let (key, row) = row.storage()?;
        let (id, row) = (key.value().1, codec::decode_claim(row.value())?);
        // Sweeping begins with the first block. If that is gone, sweeping continues, whatever the clock shows
        // now.
        let is_whole = match &items_table {
            Some(table) => table.get((pool, id, 0)).storage()?.is_some(),
            None => false,
        };
        let deadline = if is_whole { deadline_of(row.until, row.lease, now) } else { Moment::FAR_PAST };
        claims.insert(id, ClaimState::of_row(row, deadline));
    }
    Ok(claims)
}

/// Computes a deadline from the time left of a lease by the wall clock. The time left is never more than the
/// lease's length, whatever the clock shows.
fn deadline_of(until: Timestamp, lease: Duration, now: Reading) -> Moment {
    let left = until.since(now.time).min(lease);
    now.moment.after(left).before(now.time.since(until))
}

impl View {
    /// Returns the claim in the owner row of a value, even if the claim does not exist any more.
    pub(crate) fn owner(&self, fingerprint: Fingerprint) -> Result<Option<ClaimId>> {
        let Some(table) = self.claimed()? else { return Ok(None) };
        Ok(table.get((self.state.id, fingerprint)).storage()?.map(|owner| owner.value()))
    }

    /// Returns the owner rows of the keys with a value, for any entity type. Some may belong to other values.
    pub(crate) fn owners_of_value(&self, value: &str) -> Result<Vec<(Fingerprint, ClaimId)>> {
        let (pool, range) = (self.state.id, self.hash_key.range_of_value(value));
        let Some(table) = self.claimed()? else { return Ok(Vec::new()) };
        let rows = table.range((pool, *range.start())..=(pool, *range.end())).storage()?;
        let owner = |row: redb::Result<_, _>| {
            let (key, owner): (redb::AccessGuard<'_, (PoolId, u128)>, redb::AccessGuard<'_, u64>) =
                row.storage()?;
            Ok((key.value().1, owner.value()))
        };
        rows.map(owner).collect()
    }

    /// Returns every owner row: the value's fingerprint and the claim.
    pub(crate) fn owners(&self) -> Result<Owners> {
        let pool = self.state.id;
        let Some(table) = self.claimed()? else { return Ok(Owners::default()) };
        let rows = table.range((pool, 0)..=(pool, Fingerprint::MAX)).storage()?;
        let owner = |row: redb::Result<_, _>| {
            let (key, owner): (redb::AccessGuard<'_, (PoolId, u128)>, redb::AccessGuard<'_, u64>) =
                row.storage()?;
            Ok((key.value().1, owner.value()))
        };
        rows.map(owner).collect()
    }

    /// Returns true if a claim's first block of items exists. Sweeping begins with it.
    pub(crate) fn has_first_block(&self, id: ClaimId) -> Result<bool> {
        let Some(table) = self.snapshot.table(schema::CLAIM_ITEMS)? else { return Ok(false) };
        Ok(table.get((self.state.id, id, 0)).storage()?.is_some())
    }

    /// Returns the values that each claim claimed, with the record that it saw of each, as far as they can be
    /// read. Leaves out claims that are being swept.
    pub(crate) fn items_by_claim(&self) -> Result<ItemsByClaim> {
        let mut items = HashMap::new();
        for (id, claim) in self.state.claims.iter() {
            if self.has_first_block(id)? {
                let read = self.items_of_claim(id, claim);
                let of = |read: StoredClaim| {
                    read.batch.items().iter().map(|item| item.fingerprint).zip(read.seen).collect()
                };
                items.insert(id, read.map(of));
            }
        }
        Ok(items)
    }

    /// Returns the items that a claim claimed, and the state of each.
    pub(crate) fn items_of_claim(&self, id: ClaimId, claim: &ClaimState) -> Result<StoredClaim> {
        contained("reading a claim", || {
            let (batch, indexes, seen) = self.batch_of_claim(id)?;
            check_items(claim, &indexes)
                .map_err(|reason| Error::corrupt(format!("pool {}: claim {id} {reason}", self.state.id)))?;
            let owned = batch.ask_each(|fingerprint| Ok(self.owner(fingerprint)? == Some(id)))?;
            let standing = |(index, is_own): (&u32, bool)| match (claim.settled.contains(*index), is_own) {
                (true, _) => Standing::Settled,
                (false, true) => Standing::Held,
                (false, false) => Standing::Lost,
            };
            let standings = indexes.iter().zip(owned).map(standing).collect();
            let &ClaimState { until, lease, fence, .. } = claim;
            let batch = batch.with_origin(&claim.origin);
            Ok(StoredClaim { until, lease, fence, batch, indexes, seen, standings })
        })
    }

    /// Returns the items that a claim claimed, their indexes in the batch that was claimed, and the records
    /// that it saw.
    pub(crate) fn batch_of_claim(&self, id: ClaimId) -> Result<(Batch, Vec<u32>, Vec<RecordNumber>)> {
        let (mut batch, mut indexes, mut seen) = (Batch::default(), Vec::new(), Vec::new());
        if let Some(table) = self.snapshot.table(schema::CLAIM_ITEMS)? {
            for row in table.range(blocks_of(self.state.id, id)).storage()? {
                decode_block(row.storage()?.1.value(), |item| {
                    indexes.push(item.index);
                    seen.push(item.seen);
                    batch.push(&self.hash_key, item.entity_type, item.value, item.version);
                })?;
            }
        }
        Ok((batch, indexes, seen))
    }

    /// Returns the pool's claims, oldest first.
    pub(crate) fn claims(&self, moment: Moment) -> Vec<ClaimInfo> {
        self.state.claims.infos(moment).collect()
    }
}

/// The newest record of each claimed value at the time of the claim; 0 if there was none.
pub(crate) type SeenRecords = HashMap<Fingerprint, RecordNumber, BuildFingerprintHasher>;

/// The values that each claim claimed, as far as they can be read.
pub(crate) type ItemsByClaim = HashMap<ClaimId, Result<SeenRecords>>;

/// Returns the newest record that a claim saw of a value, or 0 if it saw none or has no such item. Returns
/// `None` if the claim does not exist or its items cannot be read. The owner of a value has seen every live
/// record of it, because adding a record removes the owner.
pub(crate) fn seen_by(
    claim: ClaimId,
    fingerprint: Fingerprint,
    items: &ItemsByClaim,
) -> Option<RecordNumber> {
    let seen = items.get(&claim)?.as_ref().ok()?;
    Some(seen.get(&fingerprint).copied().unwrap_or(0))
}

/// Checks a claim's items as a whole, and returns what is wrong. There must be as many items as the claim's
/// row says, and they must include the settled ones.
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

#[cfg(test)]
mod tests {
    use super::*;

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
