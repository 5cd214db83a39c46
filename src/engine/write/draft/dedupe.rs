//! Deciding which values are new, and tracking them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{NewRecord, PoolDraft};
use crate::backend::batch::Batch;
use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::backend::operation::Firsts;
use crate::backend::rules::Owner;
use crate::dedupe::{Mode, Verdict, Verdicts};
use crate::error::Result;
use crate::ids::RecordNumber;
use crate::model::Record;

impl PoolDraft {
    /// Decides a batch. If `firsts` are wanted, also returns the record that was first for each duplicate.
    pub(crate) fn dedupe(&mut self, mode: Mode, batch: &Arc<Batch>, firsts: Firsts) -> Result<Verdicts> {
        if batch.has_versions() {
            return self.dedupe_versions(mode, batch, firsts);
        }
        let present = match firsts {
            // The records that this group adds are looked up below.
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
        // From here on, nothing can fail.
        let number = self.batches.len();
        self.batches.push(Arc::clone(batch));
        // Values that are not tracked are remembered until the end of the batch.
        let mut seen: HashSet<Fingerprint, BuildFingerprintHasher> = HashSet::default();
        let mut decided = Vec::with_capacity(batch.len());
        for (item, (entry, found)) in batch.items().iter().zip(present).enumerate() {
            let first = found.or_else(|| self.find_new(entry.fingerprint));
            let owner = owners.get(item).copied().unwrap_or_default();
            if first.is_none() && matches!(owner, Owner::Running(_)) && mode != Mode::Track {
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
        Ok(self.decided(mode, decided, firsts, &known))
    }

    /// Decides a batch that has versions. The items of each key are decided in order, each against the one
    /// before.
    fn dedupe_versions(&mut self, mode: Mode, batch: &Arc<Batch>, firsts: Firsts) -> Result<Verdicts> {
        let mut keys = self.keys_of(batch, Some(mode))?;
        let known = match firsts {
            Firsts::Ignored => HashMap::new(),
            Firsts::Wanted => self.fetch(keys.values().flat_map(|key| key.live.ids.iter().copied()))?,
        };
        // From here on, nothing can fail.
        let number = self.batches.len();
        self.batches.push(Arc::clone(batch));
        let mut decided = Vec::with_capacity(batch.len());
        for (item, entry) in batch.items().iter().enumerate() {
            let Some(key) = keys.get_mut(&entry.fingerprint) else { continue };
            let verdict = key.decide(mode, batch.version(item));
            decided.push((verdict, key.named_by(verdict)));
            if verdict.passes() {
                self.pass(mode, entry.fingerprint, key, NewRecord { batch: number, item });
            }
        }
        Ok(self.decided(mode, decided, firsts, &known))
    }

    /// Ends a batch: evicts records beyond the capacity. Returns the verdicts, with the record that each one
    /// names.
    fn decided(
        &mut self,
        mode: Mode,
        decided: Vec<(Verdict, Option<RecordNumber>)>,
        firsts: Firsts,
        known: &HashMap<RecordNumber, Record>,
    ) -> Verdicts {
        let firsts = match firsts {
            Firsts::Ignored => Vec::new(),
            Firsts::Wanted => {
                let record = |id: RecordNumber| known.get(&id).cloned().or_else(|| self.new_record(id));
                decided.iter().map(|(_, first)| first.and_then(record)).collect()
            }
        };
        self.state.evict();
        Verdicts::new(mode, decided.into_iter().map(|(verdict, _)| verdict).collect(), firsts)
    }

    /// Returns the owner of each item's value, or nothing in a pool without claims.
    fn owners_of(&self, batch: &Batch, present: &[Option<RecordNumber>]) -> Result<Vec<Owner>> {
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
            self.owner_of(fingerprint)
        })
    }
}
