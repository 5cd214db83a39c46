//! Deciding: what the operations of a group change in one pool, before anything is written.
//!
//! Owns: [`PoolDraft`], the current view with an overlay of what earlier operations of the group decided.
//! Always holds: an operation looks everything up before it changes the draft, so a refused operation leaves
//! no trace. The ids, segments and deletions of the draft are exactly those that are written.

pub(crate) mod claims;
pub(crate) mod dedupe;
mod delete;
mod keys;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::backend::batch::Batch;
use crate::backend::claims::{ClaimId, ResultBytes};
use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::backend::operation::{Answer, Operation};
use crate::engine::pool::segments::ChangedBits;
use crate::engine::pool::state::PoolState;
use crate::engine::read::view::View;
use crate::error::Result;
use crate::ids::RecordNumber;
use crate::model::{Included, Origin, Record, Version};
use crate::time::{Reading, Timestamp};

/// A record that the group adds: an item of one of the group's batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRecord {
    pub(crate) batch: usize,
    pub(crate) item: usize,
}

/// The state of one pool as the group will leave it.
#[derive(Debug)]
pub(crate) struct PoolDraft {
    pub(crate) base: Arc<View>,
    pub(crate) state: PoolState,
    /// The readings of the clocks for the group.
    pub(crate) now: Reading,
    /// The group's pool time.
    pub(crate) time: Timestamp,
    pub(crate) batches: Vec<Arc<Batch>>,
    /// The records to append, in id order, starting at the base's `next_id`.
    pub(crate) new: Vec<NewRecord>,
    /// The results of some of them, in id order.
    pub(crate) results: Vec<(RecordNumber, ResultBytes)>,
    newest: HashMap<Fingerprint, RecordNumber, BuildFingerprintHasher>,
    pub(crate) changed_bits: BTreeSet<ChangedBits>,
    pub(crate) head_changed: bool,
    /// True if the base differs from the stored state. Then the head is written together with any other
    /// change.
    pub(crate) starts_over: bool,
    pub(crate) claims: ClaimChanges,
}

/// The items that a claim owns: their indexes in its batch, each with the newest record of its key, or 0 if
/// there is none.
pub(crate) type SeenItems = Vec<(usize, RecordNumber)>;

/// The changes of a group to a pool's claims. The states of the claims are in the draft's pool state.
#[derive(Debug, Default)]
pub(crate) struct ClaimChanges {
    /// The new owners of values; `None` for values that are free now.
    pub(crate) owners: HashMap<Fingerprint, Option<ClaimId>, BuildFingerprintHasher>,
    /// New claims, each with the items that it owns.
    pub(crate) made: Vec<(ClaimId, Arc<Batch>, SeenItems)>,
    /// Claims whose rows must be written: new, extended and partly settled ones.
    pub(crate) changed: BTreeSet<ClaimId>,
    /// Claims that were settled or released.
    pub(crate) gone: BTreeSet<ClaimId>,
    /// True if a fencing number was given.
    pub(crate) granted: bool,
    /// True if the expiry of a lease changed.
    pub(crate) leases_changed: bool,
}

impl ClaimChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.changed.is_empty() && self.gone.is_empty()
    }
}

impl PoolDraft {
    /// Creates a draft. A pool without a live record starts over.
    pub(crate) fn new(base: Arc<View>, now: Reading) -> Self {
        let mut state = PoolState::clone(&base.state);
        let starts_over = state.start_over_if_dead(now.time);
        let base = if starts_over { Arc::new(base.of_state(Arc::new(state.clone()))) } else { base };
        Self {
            starts_over,
            now,
            time: state.pool_time(now.time),
            state,
            base,
            batches: Vec::new(),
            new: Vec::new(),
            results: Vec::new(),
            newest: HashMap::default(),
            changed_bits: BTreeSet::new(),
            head_changed: false,
            claims: ClaimChanges::default(),
        }
    }

    /// Performs an operation.
    ///
    /// # Errors
    ///
    /// The errors of the operation, which then changed nothing.
    pub(crate) fn perform(&mut self, operation: Operation) -> Result<Answer> {
        Ok(match operation {
            Operation::Dedupe { mode, batch, firsts } => Answer::Verdicts(self.dedupe(mode, &batch, firsts)?),
            Operation::DeleteIds(ids) => Answer::Count(self.delete_ids(&ids)),
            Operation::DeleteKeys(batch) => Answer::Count(self.delete_keys(&batch)?),
            Operation::DeleteWhere(filter) => Answer::Count(self.delete_where(&filter)?),
            Operation::Clear => Answer::Count(self.clear()),
            Operation::Claim { batch, owner, lease, nonce } => {
                Answer::Grant(self.claim(&batch, owner, lease, nonce)?)
            }
            Operation::Confirm { held, batch, settled } => {
                Answer::Outcomes(self.confirm(held, &batch, settled)?)
            }
            Operation::Release { held, batch, settled } => {
                Answer::Count(self.release(held, &batch, &settled)?)
            }
            Operation::Extend { held, batch, positions, lease } => {
                Answer::Until(self.extend(held, &batch, &positions, lease)?)
            }
            Operation::Renew(kept) => Answer::Renewed(self.renew(&kept)),
            Operation::TakeUp { owner, nonce } => Answer::TakenUp(self.take_up(&owner, nonce)),
            Operation::ReleaseMatching(filter) => Answer::Count(self.release_matching(&filter)?),
        })
    }

    pub(crate) fn changes_something(&self) -> bool {
        !self.new.is_empty() || !self.changed_bits.is_empty() || self.head_changed || !self.claims.is_empty()
    }

    /// Returns true if the draft needs space. Returns false if it only frees some.
    pub(crate) fn adds(&self) -> bool {
        !self.new.is_empty() || !self.claims.made.is_empty()
    }

    /// Returns a live record of the fingerprint among those that this group adds.
    fn find_new(&self, fingerprint: Fingerprint) -> Option<RecordNumber> {
        self.newest.get(&fingerprint).copied().filter(|id| self.state.is_live(*id))
    }

    fn fetch(&self, ids: impl Iterator<Item = RecordNumber>) -> Result<HashMap<RecordNumber, Record>> {
        let stored: BTreeSet<RecordNumber> = ids.filter(|id| *id < self.base.state.next_id).collect();
        let stored: Vec<RecordNumber> = stored.into_iter().collect();
        Ok(self.base.fetch(&stored)?.into_iter().map(|record| (record.id.get(), record)).collect())
    }

    /// Returns the position in `new` of a record that this group adds.
    fn place_of_new(&self, id: RecordNumber) -> Option<usize> {
        usize::try_from(id.checked_sub(self.base.state.next_id)?).ok()
    }

    fn new_version(&self, id: RecordNumber) -> Option<Version> {
        let NewRecord { batch, item } = *self.new.get(self.place_of_new(id)?)?;
        self.batches.get(batch)?.version(item)
    }

    /// Returns a record that this group adds.
    fn new_record(&self, id: RecordNumber) -> Option<Record> {
        let NewRecord { batch, item } = *self.new.get(self.place_of_new(id)?)?;
        let batch = self.batches.get(batch)?;
        let none = Origin::none();
        let origin = batch.origin().map_or(&none, |origin| &**origin);
        Some(Record {
            id: id.into(),
            data_pool_id: self.state.id,
            entity_type_id: batch.items().get(item)?.entity_type,
            value: batch.value(item).to_owned(),
            flow_id: origin.flow.clone(),
            flow_run_id: origin.run.clone(),
            step_id: origin.step.clone(),
            created_at: self.time,
            version: batch.version(item),
            included: Included::default(),
        })
    }

    fn append(&mut self, fingerprint: Fingerprint, record: NewRecord) -> RecordNumber {
        let id = self.state.assign_id(self.time);
        self.new.push(record);
        self.newest.insert(fingerprint, id);
        id
    }
}
