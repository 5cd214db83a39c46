//! Deciding items with versions: the keys of a batch, in their state so far in the draft.
//!
//! Owns: what happens to a key's records when an item of it passes. Always holds: a key for which an item
//! with a version was tracked has one live record, that of the last item that passed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{NewRecord, PoolDraft};
use crate::backend::batch::Batch;
use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::backend::rules::{KeyState, Owner};
use crate::dedupe::Mode;
use crate::error::Result;
use crate::ids::RecordNumber;
use crate::model::Version;

/// The states of a batch's keys, by fingerprint.
pub(super) type KeyStates = HashMap<Fingerprint, KeyState, BuildFingerprintHasher>;

/// The ordinals of a claim's items.
type Ordinals = HashMap<Fingerprint, i64, BuildFingerprintHasher>;

impl PoolDraft {
    /// Returns the owner of a value.
    pub(super) fn owner_of(&self, fingerprint: Fingerprint) -> Result<Owner> {
        Ok(match self.owner(fingerprint)? {
            None => Owner::None,
            Some(id) if self.runs(id) => Owner::Running(id),
            Some(_) => Owner::Lapsed,
        })
    }

    /// Returns the states of the keys of a batch. `mode` is `Some` for a deduplication.
    pub(super) fn keys_of(&self, batch: &Batch, mode: Option<Mode>) -> Result<KeyStates> {
        let mut fingerprints: Vec<Fingerprint> = batch.items().iter().map(|item| item.fingerprint).collect();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        let found = self.base.live_records_of(&self.state, &fingerprints)?;
        let mut keys =
            KeyStates::with_capacity_and_hasher(fingerprints.len(), BuildFingerprintHasher::default());
        for (fingerprint, mut live) in fingerprints.into_iter().zip(found) {
            if let Some(id) = self.find_new(fingerprint) {
                live.ids.push(id);
                live.version = self.new_version(id);
            }
            let owner = self.owner_of(fingerprint)?;
            keys.insert(fingerprint, KeyState::new(live, owner));
        }
        if mode == Some(Mode::Track) {
            self.read_claimed(batch, &mut keys)?;
        }
        Ok(keys)
    }

    /// Reads the ordinals that running claims hold for the keys of items that have an ordinal.
    fn read_claimed(&self, batch: &Batch, keys: &mut KeyStates) -> Result<()> {
        let mut known: HashMap<ClaimId, Ordinals> = HashMap::new();
        for (index, item) in batch.items().iter().enumerate() {
            if let Some(Version::Ordinal(_)) = batch.version(index)
                && let Some(key) = keys.get_mut(&item.fingerprint)
                && let Owner::Running(claim) = key.owner
            {
                let ordinals = match known.entry(claim) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(self.ordinals_of_claim(claim)?),
                };
                key.claimed = ordinals.get(&item.fingerprint).copied();
            }
        }
        Ok(())
    }

    fn ordinals_of_claim(&self, claim: ClaimId) -> Result<Ordinals> {
        let ordinal = |batch: &Batch, index: usize| match (batch.items().get(index), batch.version(index)) {
            (Some(item), Some(Version::Ordinal(ordinal))) => Some((item.fingerprint, ordinal)),
            _ => None,
        };
        if let Some((_, batch, items)) = self.claims.made.iter().find(|(made, ..)| *made == claim) {
            return Ok(items.iter().filter_map(|(index, _)| ordinal(batch, *index)).collect());
        }
        let (batch, ..) = self.base.batch_of_claim(claim)?;
        Ok((0..batch.len()).filter_map(|index| ordinal(&batch, index)).collect())
    }

    /// Records that an item of the key has passed. The next items are compared with it. If the mode tracks,
    /// its record replaces those of the key.
    pub(super) fn pass(
        &mut self,
        mode: Mode,
        fingerprint: Fingerprint,
        key: &mut KeyState,
        record: NewRecord,
    ) {
        let is_first = !std::mem::replace(&mut key.is_of_batch, true);
        key.live.version = self.batches.get(record.batch).and_then(|batch| batch.version(record.item));
        if !mode.tracks() {
            key.live.ids.clear();
        } else if is_first {
            let id = self.replace(fingerprint, &key.live.ids, record);
            key.live.ids = vec![id];
            if key.owner != Owner::None {
                self.claims.owners.insert(fingerprint, None);
                key.owner = Owner::None;
            }
        } else if let Some(id) = key.live.ids.last()
            && let Some(place) = self.place_of_new(*id)
            && let Some(of_batch) = self.new.get_mut(place)
        {
            // Only the last version of a key in a batch is stored.
            *of_batch = record;
        }
    }

    /// Appends a record that replaces others.
    pub(super) fn replace(
        &mut self,
        fingerprint: Fingerprint,
        replaced: &[RecordNumber],
        record: NewRecord,
    ) -> RecordNumber {
        self.delete_ids(replaced);
        self.append(fingerprint, record)
    }
}
