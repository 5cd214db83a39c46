//! Deciding: what a group's operations change in one pool, before anything is written.
//!
//! Owns: [`PoolDraft`], the current view plus an overlay of what earlier operations of the group decided. Always
//! holds: an operation looks everything up before it changes the draft, so a refused one leaves no trace; ids,
//! segments and deletions of the draft are those that the write will make.

pub(crate) mod claims;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::dedupe::{Mode, Verdict, Verdicts};
use crate::engine::format::fingerprint::BuildFingerprintHasher;
use crate::engine::format::schema::Fingerprint;
use crate::engine::pool::batch::Batch;
use crate::engine::pool::claims::ClaimId;
use crate::engine::pool::segments::ChangedBits;
use crate::engine::pool::state::PoolState;
use crate::engine::read::plan::Plan;
use crate::engine::read::view::View;
use crate::error::Result;
use crate::ids::RecordId;
use crate::model::{Included, Origin, Record};
use crate::query::{RecordFilter, RecordSort};
use crate::time::{Reading, Timestamp};

/// A record that the group adds: an item of one of the group's batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRecord {
    pub(crate) batch: usize,
    pub(crate) item: usize,
}

/// One pool as the group will leave it.
#[derive(Debug)]
pub(crate) struct PoolDraft {
    pub(crate) base: Arc<View>,
    pub(crate) state: PoolState,
    /// What the clocks showed to the group.
    pub(crate) now: Reading,
    /// The group's pool time.
    pub(crate) time: Timestamp,
    pub(crate) batches: Vec<Arc<Batch>>,
    /// The records to append, in id order, from the base's `next_id` on.
    pub(crate) new: Vec<NewRecord>,
    newest: HashMap<Fingerprint, RecordId, BuildFingerprintHasher>,
    pub(crate) changed_bits: BTreeSet<ChangedBits>,
    pub(crate) head_changed: bool,
    /// The base is not what is stored: whatever is written, the head is, too.
    pub(crate) starts_over: bool,
    pub(crate) claims: ClaimChanges,
}

/// What a group changes of a pool's claims. Their states are in the draft's pool state.
#[derive(Debug, Default)]
pub(crate) struct ClaimChanges {
    /// The owners that values get; none for those that are free now.
    pub(crate) owners: HashMap<Fingerprint, Option<ClaimId>, BuildFingerprintHasher>,
    /// New claims, each with the items that it owns.
    pub(crate) made: Vec<(ClaimId, Arc<Batch>, Vec<usize>)>,
    /// Claims whose rows are written: new ones, extended ones, and those that are settled in part.
    pub(crate) changed: BTreeSet<ClaimId>,
    /// Claims that are settled.
    pub(crate) gone: BTreeSet<ClaimId>,
}

impl ClaimChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.changed.is_empty() && self.gone.is_empty()
    }
}

impl PoolDraft {
    /// A pool without a live record starts over.
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
            newest: HashMap::default(),
            changed_bits: BTreeSet::new(),
            head_changed: false,
            claims: ClaimChanges::default(),
        }
    }

    pub(crate) fn changes_something(&self) -> bool {
        !self.new.is_empty() || !self.changed_bits.is_empty() || self.head_changed || !self.claims.is_empty()
    }

    /// Whether it takes room, rather than giving some back.
    pub(crate) fn adds(&self) -> bool {
        !self.new.is_empty() || !self.claims.made.is_empty()
    }

    /// A live record of the fingerprint that this group adds.
    fn find_new(&self, fingerprint: Fingerprint) -> Option<RecordId> {
        self.newest.get(&fingerprint).copied().filter(|id| self.state.is_live(*id))
    }

    /// Decides a batch. With `firsts`, duplicates say which record was first.
    pub(crate) fn dedupe(&mut self, mode: Mode, batch: &Arc<Batch>, firsts: Firsts) -> Result<Verdicts> {
        let present = match firsts {
            // What this group adds is looked for below.
            Firsts::Ignored => {
                batch.ask_together(|fingerprints| self.base.find_any_of(&self.state, fingerprints))?
            }
            Firsts::Wanted => batch.ask_each(|fingerprint| match self.find_new(fingerprint) {
                Some(id) => Ok(Some(id)),
                None => self.base.find_first(&self.state, fingerprint),
            })?,
        };
        let owners = self.owners_of(batch, &present)?;
        let known = match firsts {
            Firsts::Ignored => HashMap::new(),
            Firsts::Wanted => self.fetch(present.iter().copied().flatten())?,
        };
        // From here on nothing fails.
        let number = self.batches.len();
        self.batches.push(Arc::clone(batch));
        // What is not tracked is remembered for the length of the batch.
        let mut seen: HashSet<Fingerprint, BuildFingerprintHasher> = HashSet::default();
        let mut decided = Vec::with_capacity(batch.len());
        for (item, (entry, found)) in batch.items().iter().zip(present).enumerate() {
            let first = found.or_else(|| self.find_new(entry.fingerprint));
            let owner = owners.get(item).copied().unwrap_or_default();
            if first.is_none() && owner == Owner::Running && mode != Mode::Track {
                decided.push((Verdict::InFlight, None));
                continue;
            }
            let is_new = first.is_none() && (mode.tracks() || seen.insert(entry.fingerprint));
            if is_new && mode.tracks() {
                self.append(entry.fingerprint, NewRecord { batch: number, item });
                if owner != Owner::None {
                    self.claims.owners.insert(entry.fingerprint, None);
                }
            }
            decided.push((if is_new { Verdict::New } else { Verdict::Duplicate }, first));
        }
        let firsts = match firsts {
            Firsts::Ignored => Vec::new(),
            Firsts::Wanted => {
                let record = |id: RecordId| known.get(&id).cloned().or_else(|| self.new_record(id));
                decided.iter().map(|(_, first)| first.and_then(record)).collect()
            }
        };
        self.state.evict();
        Ok(Verdicts::new(mode, decided.into_iter().map(|(verdict, _)| verdict).collect(), firsts))
    }

    /// For each item whether a claim owns its value; empty in a pool without claims.
    fn owners_of(&self, batch: &Batch, present: &[Option<RecordId>]) -> Result<Vec<Owner>> {
        if self.state.claims.is_empty() {
            return Ok(Vec::new());
        }
        let tracked: HashSet<Fingerprint, BuildFingerprintHasher> = batch
            .items()
            .iter()
            .zip(present)
            .filter(|(_, id)| id.is_some())
            .map(|(item, _)| item.fingerprint)
            .collect();
        batch.ask_each(|fingerprint| {
            if tracked.contains(&fingerprint) {
                return Ok(Owner::None);
            }
            Ok(match self.owner(fingerprint)? {
                None => Owner::None,
                Some(id) if self.runs(id) => Owner::Running,
                Some(_) => Owner::Lapsed,
            })
        })
    }

    fn fetch(&self, ids: impl Iterator<Item = RecordId>) -> Result<HashMap<RecordId, Record>> {
        let stored: BTreeSet<RecordId> = ids.filter(|id| *id < self.base.state.next_id).collect();
        let stored: Vec<RecordId> = stored.into_iter().collect();
        Ok(self.base.fetch(&stored)?.into_iter().map(|record| (record.id, record)).collect())
    }

    /// A record that this group adds, as it will be.
    fn new_record(&self, id: RecordId) -> Option<Record> {
        let position = usize::try_from(id.checked_sub(self.base.state.next_id)?).ok()?;
        let NewRecord { batch, item } = *self.new.get(position)?;
        let batch = self.batches.get(batch)?;
        let none = Origin::none();
        let origin = batch.origin().map_or(&none, |origin| &**origin);
        Some(Record {
            id,
            data_pool_id: self.state.id,
            entity_type_id: batch.items().get(item)?.entity_type,
            value: batch.value(item).to_owned(),
            flow_id: origin.flow.clone(),
            flow_run_id: origin.run.clone(),
            step_id: origin.step.clone(),
            created_at: self.time,
            included: Included::default(),
        })
    }

    fn append(&mut self, fingerprint: Fingerprint, record: NewRecord) -> RecordId {
        let id = self.state.assign_id(self.time);
        self.new.push(record);
        self.newest.insert(fingerprint, id);
        id
    }

    /// Deletes live records by id. How many there were.
    pub(crate) fn delete_ids(&mut self, ids: &[RecordId]) -> u64 {
        ids.iter().map(|id| u64::from(self.delete(*id))).sum()
    }

    fn delete(&mut self, id: RecordId) -> bool {
        let changed = self.state.delete(id);
        self.changed_bits.extend(changed);
        changed.is_some()
    }

    /// Deletes every live record of the batch's keys. How many there were.
    pub(crate) fn delete_keys(&mut self, batch: &Batch) -> Result<u64> {
        let mut ids = Vec::new();
        batch.ask_each(|fingerprint| {
            ids.extend(self.find_new(fingerprint));
            ids.extend(self.base.find_all(&self.state, fingerprint)?);
            Ok(())
        })?;
        Ok(self.delete_ids(&ids))
    }

    /// Deletes every live record that the filter takes. How many there were.
    ///
    /// The filter is answered from the base: this must be the group's only operation.
    pub(crate) fn delete_where(&mut self, filter: &RecordFilter) -> Result<u64> {
        let base = Arc::clone(&self.base);
        let plan = Plan::new(&base, filter)?;
        let mut chunks = Vec::new();
        let mut ids = Vec::new();
        plan.visit(RecordSort::Ascending, |block| {
            match block.chunk {
                Some(chunk) => chunks.push((chunk, block.positions())),
                None => ids.extend(block.ids()),
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        let mut deleted = self.delete_ids(&ids);
        for ((index, chunk), positions) in chunks {
            let bits = ChangedBits { index, chunk };
            deleted += self.state.delete_positions(bits, &positions);
            self.changed_bits.insert(bits);
        }
        Ok(deleted)
    }

    /// Deletes every record, by moving the watermark. How many were live.
    ///
    /// This must be the group's only operation.
    pub(crate) fn clear(&mut self) -> u64 {
        let live = self.state.live();
        self.state.clear(self.now.time);
        self.time = self.now.time;
        self.head_changed = true;
        live
    }
}

/// The owner of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    None,
    /// A claim whose lease does not run. It may not exist for anybody any more, but its row is still there.
    Lapsed,
    Running,
}

/// Whether a dedupe looks up which record was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firsts {
    Ignored,
    Wanted,
}
