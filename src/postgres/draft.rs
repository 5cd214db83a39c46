//! Deciding: the changes of a group's operations in one pool, in memory, before anything is written.
//!
//! Owns: [`Draft`], what was read of a pool after it was locked, with what earlier operations of the group decided: [`stored`] and
//! [`changes`]. [`claims`] decides operations on claims, this file the others; [`decided`] has the answers. Always holds: a refused
//! operation leaves no trace. The rules are those of [`crate::backend::rules`]. Must not know: how anything is read or written.

mod changes;
mod claims;
mod decided;
mod stored;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::Row;

pub(super) use self::changes::{Changes, NewClaim, NewRecord};
pub(super) use self::decided::Decided;
pub(super) use self::stored::{Stored, StoredClaim};
use super::head::Head;
use super::values::Columns;
use crate::backend::batch::Batch;
use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::backend::operation::{Answer, Firsts, Operation};
use crate::backend::rules::{KeyState, Owner};
use crate::dedupe::Mode;
use crate::error::{Error, Result};
use crate::ids::RecordNumber;
use crate::model::{Included, Origin, Record, Version};
use crate::time::Timestamp;

/// A map by fingerprint.
pub(super) type ByFingerprint<T> = HashMap<Fingerprint, T, BuildFingerprintHasher>;

/// The state of one pool after the group.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) head: Head,
    /// The wall clock.
    pub(super) now: Timestamp,
    /// The pool's time.
    pub(super) time: Timestamp,
    pub(super) keys: ByFingerprint<Stored>,
    /// The live ones of the ids that the group deletes.
    pub(super) live_ids: HashSet<RecordNumber>,
    pub(super) claims: HashMap<ClaimId, StoredClaim>,
    pub(super) changes: Changes,
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
            | Operation::ReleaseMatching(_) => {
                return Err(Error::storage("the operation needs a transaction of its own"));
            }
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

    /// Decides a batch: the items of each key in order, each compared with the one before.
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

    /// Applies an item that has passed: the next items of its key are compared with it. If the mode tracks, its record replaces
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
}
