//! Deciding: the changes of a group's operations in one pool, in memory, before anything is written.
//!
//! Owns: [`Draft`], what was read of a pool after it was locked, with what earlier operations of the group decided. Always holds:
//! a refused operation leaves no trace. The rules are those of [`crate::backend::rules`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::head::Head;
use super::values::Columns;
use tokio_postgres::Row;

use crate::backend::batch::Batch;
use crate::backend::claims::{ClaimId, Grant, Held, ResultBytes, Settled};
use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::backend::lease::Kept;
use crate::backend::operation::{Answer, Firsts, Operation};
use crate::backend::rules::{Claiming, KeyState, LiveRecords, Owner, Taken};
use crate::dedupe::{Mode, Verdict, Verdicts};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::RecordNumber;
use crate::limits::CLAIM_KEPT_AFTER_LEASE;
use crate::model::{ClaimOutcome, ClaimVerdict, Included, Origin, Record, Version};
use crate::time::Timestamp;

/// A map by fingerprint.
pub(super) type ByFingerprint<T> = HashMap<Fingerprint, T, BuildFingerprintHasher>;

/// What is stored of a key.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    /// Its live records, ascending, each with its version.
    pub(super) live: Vec<(RecordNumber, Option<Version>)>,
    /// The claim in its owner row, with the version that it claimed.
    pub(super) owner: Option<(ClaimId, Option<Version>)>,
}

impl Stored {
    fn records(&self) -> LiveRecords {
        LiveRecords {
            ids: self.live.iter().map(|(id, _)| *id).collect(),
            version: self.live.last().and_then(|(_, version)| *version),
        }
    }
}

/// What is stored of a claim.
#[derive(Debug, Clone)]
pub(super) struct StoredClaim {
    pub(super) nonce: u128,
    pub(super) until: Timestamp,
    pub(super) lease: Duration,
    pub(super) origin: Origin,
}

/// A record that the group adds: an item of a batch.
#[derive(Debug, Clone)]
pub(super) struct NewRecord {
    pub(super) batch: Arc<Batch>,
    pub(super) item: usize,
}

/// A claim that the group makes.
#[derive(Debug)]
pub(super) struct NewClaim {
    pub(super) id: ClaimId,
    pub(super) batch: Arc<Batch>,
    pub(super) owner: Option<Arc<str>>,
    pub(super) lease: Duration,
    pub(super) nonce: u128,
    pub(super) fence: u64,
    pub(super) until: Timestamp,
    /// The indexes of its items, each with the newest record of its key, or 0.
    pub(super) items: Vec<(usize, RecordNumber)>,
}

/// The changes of a group.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) new: BTreeMap<RecordNumber, NewRecord>,
    pub(super) results: Vec<(RecordNumber, ResultBytes)>,
    /// Stored records that are deleted.
    pub(super) deleted: BTreeSet<RecordNumber>,
    /// Values that no claim owns any more.
    pub(super) voided: BTreeSet<Fingerprint>,
    pub(super) claims: Vec<NewClaim>,
    /// Items of claims that are settled, by their indexes.
    pub(super) settled: Vec<(ClaimId, Vec<u32>)>,
    /// New ends and lengths of leases.
    pub(super) leases: BTreeMap<ClaimId, (Timestamp, Duration)>,
}

impl Changes {
    /// Returns the length of the longest list that a statement needs to find the rows to change.
    pub(super) fn longest_list(&self) -> usize {
        let settled = self.settled.iter().map(|(_, items)| items.len());
        settled.chain([self.deleted.len(), self.voided.len()]).max().unwrap_or(0)
    }
}

/// The state of one pool after the group.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) head: Head,
    /// The wall clock.
    pub(super) now: Timestamp,
    /// The pool's time.
    pub(super) time: Timestamp,
    pub(super) keys: ByFingerprint<Stored>,
    /// Of the ids that the group deletes, those that are live.
    pub(super) live_ids: HashSet<RecordNumber>,
    pub(super) claims: HashMap<ClaimId, StoredClaim>,
    pub(super) changes: Changes,
}

/// The answer to an operation, where it names records that are still to be read.
#[derive(Debug)]
pub(super) enum Decided {
    Answer(Answer),
    Verdicts {
        mode: Mode,
        verdicts: Vec<Verdict>,
        firsts: Vec<Option<RecordNumber>>,
    },
    /// The duplicates of these indexes name these records.
    Grant {
        grant: Grant,
        firsts: Vec<(usize, RecordNumber)>,
    },
    Outcomes(Vec<std::result::Result<ClaimOutcome, RecordNumber>>),
}

impl Decided {
    /// Returns the records that the answer names.
    pub(super) fn records(&self) -> Vec<RecordNumber> {
        match self {
            Self::Answer(_) => Vec::new(),
            Self::Verdicts { firsts, .. } => firsts.iter().copied().flatten().collect(),
            Self::Grant { firsts, .. } => firsts.iter().map(|(_, id)| *id).collect(),
            Self::Outcomes(outcomes) => {
                outcomes.iter().filter_map(|outcome| outcome.as_ref().err().copied()).collect()
            }
        }
    }

    /// Returns the answer with the records that it names.
    pub(super) fn finish(self, record: impl Fn(RecordNumber) -> Option<Record>) -> Answer {
        match self {
            Self::Answer(answer) => answer,
            Self::Verdicts { mode, verdicts, firsts } => {
                let firsts = firsts.into_iter().map(|first| first.and_then(&record)).collect();
                Answer::Verdicts(Verdicts::new(mode, verdicts, firsts))
            }
            Self::Grant { mut grant, firsts } => {
                for (index, id) in firsts {
                    if let Some((_, verdict)) = grant.verdicts.get_mut(index) {
                        *verdict = ClaimVerdict::Duplicate(record(id).map(Box::new));
                    }
                }
                Answer::Grant(grant)
            }
            Self::Outcomes(outcomes) => {
                let outcome = |outcome: std::result::Result<ClaimOutcome, RecordNumber>| {
                    outcome.unwrap_or_else(|id| {
                        record(id).map_or(ClaimOutcome::LeaseLost, |first| {
                            ClaimOutcome::AlreadyTracked(first.into())
                        })
                    })
                };
                Answer::Outcomes(outcomes.into_iter().map(outcome).collect())
            }
        }
    }
}

impl Draft {
    /// Performs an operation.
    ///
    /// # Errors
    ///
    /// The errors of the operation. Then nothing is changed.
    pub(super) fn perform(&mut self, operation: &Operation) -> Result<Decided> {
        Ok(match operation {
            Operation::Dedupe { mode, batch, firsts } => self.dedupe(*mode, batch, *firsts),
            Operation::DeleteIds(ids) => Decided::Answer(Answer::Count(self.delete_ids(ids))),
            Operation::DeleteKeys(batch) => Decided::Answer(Answer::Count(self.delete_keys(batch))),
            Operation::Claim { batch, owner, lease, nonce } => {
                self.claim(batch, owner.clone(), *lease, *nonce)
            }
            Operation::Confirm { held, batch, settled } => self.confirm(*held, batch, settled),
            Operation::Release { held, batch, settled } => {
                Decided::Answer(Answer::Count(self.release(*held, batch, settled)))
            }
            Operation::Extend { held, batch, positions, lease } => {
                Decided::Answer(Answer::Until(self.extend(*held, batch, positions, *lease)?))
            }
            Operation::Renew(kept) => Decided::Answer(Answer::Renewed(self.renew(kept))),
            Operation::DeleteWhere(_)
            | Operation::Clear
            | Operation::TakeUp { .. }
            | Operation::ReleaseMatching(_) => return Err(Error::storage("the operation shares no group")),
        })
    }

    /// Returns true if a record that was read is live.
    pub(super) fn is_live(&self, row: &Row) -> Result<bool> {
        let horizon = self.head.horizon(self.time);
        let is_kept = match horizon {
            None => true,
            Some(horizon) => row.time("created_at")? > horizon,
        };
        Ok(is_kept && row.number("id")? >= self.head.watermark)
    }

    /// Returns true if there is something to write.
    pub(super) fn changes_something(&self) -> bool {
        let Changes { new, results: _, deleted, voided, claims, settled, leases } = &self.changes;
        !(new.is_empty()
            && deleted.is_empty()
            && voided.is_empty()
            && claims.is_empty()
            && settled.is_empty()
            && leases.is_empty())
    }

    /// Returns a record that the group adds, as it will be.
    pub(super) fn new_record(&self, id: RecordNumber) -> Option<Record> {
        let NewRecord { batch, item } = self.changes.new.get(&id)?;
        let none = Origin::none();
        let origin = batch.origin().map_or(&none, |origin| &**origin);
        Some(Record {
            id: id.into(),
            data_pool_id: self.head.pool,
            entity_type_id: batch.items().get(*item)?.entity_type,
            value: batch.value(*item).to_owned(),
            flow_id: origin.flow.clone(),
            flow_run_id: origin.run.clone(),
            step_id: origin.step.clone(),
            created_at: self.time,
            version: batch.version(*item),
            included: Included::default(),
        })
    }

    // ---- Records ----------------------------------------------------------------------------------------------

    fn append(&mut self, fingerprint: Fingerprint, batch: &Arc<Batch>, item: usize) -> RecordNumber {
        let id = self.head.next_id;
        self.head.next_id += 1;
        self.head.live += 1;
        self.head.last_time = self.time;
        self.keys.entry(fingerprint).or_default().live.push((id, batch.version(item)));
        self.changes.new.insert(id, NewRecord { batch: Arc::clone(batch), item });
        id
    }

    fn delete(&mut self, id: RecordNumber) {
        self.head.live -= 1;
        if self.changes.new.remove(&id).is_none() {
            self.changes.deleted.insert(id);
        }
    }

    /// Deletes all live records of a key. Returns their number.
    fn delete_key(&mut self, fingerprint: Fingerprint) -> u64 {
        let live =
            self.keys.get_mut(&fingerprint).map(|key| std::mem::take(&mut key.live)).unwrap_or_default();
        for (id, _) in &live {
            self.delete(*id);
        }
        live.len() as u64
    }

    fn delete_ids(&mut self, ids: &[RecordNumber]) -> u64 {
        let mut deleted = 0;
        for id in ids {
            let is_live = self.changes.new.contains_key(id)
                || self.live_ids.contains(id) && !self.changes.deleted.contains(id);
            if is_live {
                self.delete(*id);
                deleted += 1;
                for key in self.keys.values_mut() {
                    key.live.retain(|(of, _)| of != id);
                }
            }
        }
        deleted
    }

    fn delete_keys(&mut self, batch: &Batch) -> u64 {
        batch.items().iter().map(|item| self.delete_key(item.fingerprint)).sum()
    }

    // ---- Deduplication ----------------------------------------------------------------------------------------

    pub(super) fn key_state(&self, fingerprint: Fingerprint, mode: Option<Mode>) -> KeyState {
        let stored = self.keys.get(&fingerprint);
        let mut key =
            KeyState::new(stored.map(Stored::records).unwrap_or_default(), self.owner_of(fingerprint));
        if mode == Some(Mode::Track)
            && let Owner::Running(_) = key.owner
            && let Some((_, Some(Version::Ordinal(ordinal)))) = stored.and_then(|stored| stored.owner)
        {
            key.claimed = Some(ordinal);
        }
        key
    }

    /// Decides a batch: the items of each key in order, each against the one before.
    pub(super) fn dedupe(&mut self, mode: Mode, batch: &Arc<Batch>, firsts: Firsts) -> Decided {
        let mut keys: ByFingerprint<KeyState> = ByFingerprint::default();
        let mut verdicts = Vec::with_capacity(batch.len());
        let mut named = Vec::new();
        for (item, entry) in batch.items().iter().enumerate() {
            let fingerprint = entry.fingerprint;
            keys.entry(fingerprint).or_insert_with(|| self.key_state(fingerprint, Some(mode)));
            let Some(key) = keys.get_mut(&fingerprint) else { continue };
            let verdict = key.decide(mode, batch.version(item));
            if firsts == Firsts::Wanted {
                named.push(key.named_by(verdict));
            }
            if verdict.passes() {
                self.pass(mode, fingerprint, key, batch, item);
            }
            verdicts.push(verdict);
        }
        Decided::Verdicts { mode, verdicts, firsts: named }
    }

    /// An item of the key has passed: it is what the next ones are held against. If the mode tracks, its record replaces
    /// those of the key.
    fn pass(
        &mut self,
        mode: Mode,
        fingerprint: Fingerprint,
        key: &mut KeyState,
        batch: &Arc<Batch>,
        item: usize,
    ) {
        let is_first = !std::mem::replace(&mut key.is_of_batch, true);
        key.live.version = batch.version(item);
        if !mode.tracks() {
            key.live.ids.clear();
        } else if is_first {
            self.delete_key(fingerprint);
            key.live.ids = vec![self.append(fingerprint, batch, item)];
            if key.owner != Owner::None {
                self.void(fingerprint);
                key.owner = Owner::None;
            }
        } else if let Some(id) = key.live.ids.last() {
            // Only the last version of a batch is stored.
            self.changes.new.insert(*id, NewRecord { batch: Arc::clone(batch), item });
            if let Some(stored) = self.keys.get_mut(&fingerprint) {
                stored.live = vec![(*id, batch.version(item))];
            }
        }
    }

    // ---- Claims -----------------------------------------------------------------------------------------------

    /// Returns a claim, if it exists.
    fn existing(&self, id: ClaimId) -> Option<&StoredClaim> {
        self.claims.get(&id).filter(|claim| claim.until.saturating_add(CLAIM_KEPT_AFTER_LEASE) > self.now)
    }

    /// Returns the state of a claim, if it exists and the holder knows its nonce.
    fn claim_of(&self, held: Held) -> Option<&StoredClaim> {
        self.existing(held.id).filter(|claim| claim.nonce == held.nonce)
    }

    fn owner_of(&self, fingerprint: Fingerprint) -> Owner {
        match self.keys.get(&fingerprint).and_then(|key| key.owner) {
            None => Owner::None,
            Some((id, _)) if self.existing(id).is_some_and(|claim| claim.until > self.now) => {
                Owner::Running(id)
            }
            Some(_) => Owner::Lapsed,
        }
    }

    /// Returns true if a claim owns a value.
    pub(super) fn is_owner(&self, claim: ClaimId, fingerprint: Fingerprint) -> bool {
        self.keys.get(&fingerprint).and_then(|key| key.owner).is_some_and(|(id, _)| id == claim)
    }

    /// Returns true if a value's owner row names the claim, and the holder knows its nonce.
    fn owns(&self, held: Held, fingerprint: Fingerprint) -> bool {
        if self.claims.get(&held.id).is_none_or(|claim| claim.nonce != held.nonce) {
            return false;
        }
        self.keys.get(&fingerprint).and_then(|key| key.owner).is_some_and(|(id, _)| id == held.id)
    }

    /// Takes a value away from the claim that owns it.
    fn void(&mut self, fingerprint: Fingerprint) {
        if let Some(key) = self.keys.get_mut(&fingerprint)
            && key.owner.take().is_some()
        {
            self.changes.voided.insert(fingerprint);
        }
    }

    fn claim(
        &mut self,
        batch: &Arc<Batch>,
        owner: Option<Arc<str>>,
        lease: Duration,
        nonce: u128,
    ) -> Decided {
        let id = self.head.next_claim;
        let until = self.now.saturating_add(lease);
        let by = batch.origin().map(|origin| Origin::clone(origin)).unwrap_or_default();
        let states: Vec<KeyState> =
            batch.items().iter().map(|item| self.key_state(item.fingerprint, None)).collect();
        let (mut taken, mut items, mut firsts) = (Taken::default(), Vec::new(), Vec::new());
        let mut verdicts = Vec::with_capacity(batch.len());
        for (index, (item, key)) in batch.items().iter().zip(states).enumerate() {
            let asked = batch.version(index);
            let verdict = match taken.decide(item.fingerprint, asked, key.standing(asked)) {
                Claiming::Takes { seen } => {
                    self.void(item.fingerprint);
                    self.keys.entry(item.fingerprint).or_default().owner = Some((id, asked));
                    items.push((index, seen));
                    ClaimVerdict::Claimed
                }
                Claiming::Repeats => ClaimVerdict::Duplicate(None),
                Claiming::InFlightHere => ClaimVerdict::InFlight { by: by.clone(), until },
                Claiming::Tracked(first) => {
                    firsts.push((index, first));
                    ClaimVerdict::Duplicate(None)
                }
                Claiming::Owned(owner) => {
                    let claim = self.existing(owner);
                    ClaimVerdict::InFlight {
                        by: claim.map(|claim| claim.origin.clone()).unwrap_or_default(),
                        until: claim.map_or(self.time, |claim| claim.until),
                    }
                }
            };
            verdicts.push((index, verdict));
        }
        let changes = items.iter().filter(|(_, seen)| *seen > 0).map(|(index, _)| *index).collect();
        if items.is_empty() {
            return Decided::Grant {
                grant: Grant { held: None, fence: None, until, changes, verdicts },
                firsts,
            };
        }
        self.head.next_claim += 1;
        let fence = self.head.next_fence(self.now);
        self.claims.insert(id, StoredClaim { nonce, until, lease, origin: by });
        let batch = Arc::clone(batch);
        self.changes.claims.push(NewClaim { id, batch, owner, lease, nonce, fence, until, items });
        let held = Some(Held { id, nonce });
        Decided::Grant { grant: Grant { held, fence: Some(fence), until, changes, verdicts }, firsts }
    }

    /// Tracks the items that a claim owns, with their results.
    fn confirm(&mut self, held: Held, batch: &Arc<Batch>, settled: &Settled) -> Decided {
        let exists = self.claim_of(held).is_some();
        let mut results = settled.results.iter().peekable();
        let mut outcomes = Vec::with_capacity(settled.positions.len());
        for position in &settled.positions {
            let result = results.next_if(|(of, _)| of == position);
            let Some(fingerprint) = batch.items().get(*position).map(|item| item.fingerprint) else {
                continue;
            };
            let is_own = self.owns(held, fingerprint);
            if is_own {
                self.void(fingerprint);
            }
            outcomes.push(if is_own && exists {
                // The owner of a value has seen each live record of it.
                self.delete_key(fingerprint);
                let id = self.append(fingerprint, batch, *position);
                self.changes.results.extend(result.map(|(_, bytes)| (id, bytes.clone())));
                Ok(ClaimOutcome::Confirmed(id.into()))
            } else {
                let first = self.keys.get(&fingerprint).and_then(|key| key.live.first());
                first.map_or(Ok(ClaimOutcome::LeaseLost), |(first, _)| Err(*first))
            });
        }
        self.settle(held, settled);
        Decided::Outcomes(outcomes)
    }

    /// Frees items that a claim owns. Returns the number of items that it owned.
    fn release(&mut self, held: Held, batch: &Batch, settled: &Settled) -> u64 {
        let exists = self.claim_of(held).is_some();
        let mut released = 0;
        for position in &settled.positions {
            let Some(fingerprint) = batch.items().get(*position).map(|item| item.fingerprint) else {
                continue;
            };
            if self.owns(held, fingerprint) {
                self.void(fingerprint);
                released += u64::from(exists);
            }
        }
        self.settle(held, settled);
        released
    }

    fn settle(&mut self, held: Held, settled: &Settled) {
        if self.claims.get(&held.id).is_some_and(|claim| claim.nonce == held.nonce) {
            self.changes.settled.push((held.id, settled.indexes.clone()));
        }
    }

    fn extend(
        &mut self,
        held: Held,
        batch: &Batch,
        positions: &[usize],
        lease: Duration,
    ) -> Result<Timestamp> {
        let mut items = positions.iter().filter_map(|position| batch.items().get(*position));
        let owns_any = items.any(|item| self.owns(held, item.fingerprint));
        if !owns_any || self.claim_of(held).is_none() {
            let text = "the claim holds none of its items any more: its lease ran out over an hour ago, it was released or \
                        taken up by its owner, or somebody else took the items over or tracked them";
            return Err(Error::new(ErrorKind::LeaseLost, text));
        }
        Ok(self.restart_lease(held.id, lease))
    }

    /// Restarts a lease that is kept alive. Returns its new expiry, or `None` if the claim does not exist any more or the lease
    /// is not kept alive any more.
    fn renew(&mut self, kept: &Kept) -> Option<Timestamp> {
        if kept.has_ended() {
            return None;
        }
        self.claim_of(kept.held)?;
        Some(self.restart_lease(kept.held.id, kept.lease))
    }

    fn restart_lease(&mut self, id: ClaimId, lease: Duration) -> Timestamp {
        let until = self.now.saturating_add(lease);
        if let Some(claim) = self.claims.get_mut(&id) {
            (claim.until, claim.lease) = (until, lease);
        }
        self.changes.leases.insert(id, (until, lease));
        until
    }
}
