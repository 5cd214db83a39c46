//! Deciding which values are new, and tracking these.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{NewRecord, PoolDraft};
use crate::dedupe::{Mode, Verdict, Verdicts};
use crate::engine::format::fingerprint::BuildFingerprintHasher;
use crate::engine::format::schema::Fingerprint;
use crate::engine::pool::batch::Batch;
use crate::error::Result;
use crate::ids::RecordNumber;

impl PoolDraft {
    /// Decides a batch. If `firsts` are wanted, each duplicate comes with the record that was first.
    pub(crate) fn dedupe(&mut self, mode: Mode, batch: &Arc<Batch>, firsts: Firsts) -> Result<Verdicts> {
        let present = match firsts {
            // Records that this group adds are looked up below.
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
        // Values that are not tracked are remembered for the length of the batch.
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
                let record = |id: RecordNumber| known.get(&id).cloned().or_else(|| self.new_record(id));
                decided.iter().map(|(_, first)| first.and_then(record)).collect()
            }
        };
        self.state.evict();
        Ok(Verdicts::new(mode, decided.into_iter().map(|(verdict, _)| verdict).collect(), firsts))
    }

    /// Returns for each item the owner of its value; empty in a pool without claims.
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
            Ok(match self.owner(fingerprint)? {
                None => Owner::None,
                Some(id) if self.runs(id) => Owner::Running,
                Some(_) => Owner::Lapsed,
            })
        })
    }
}

/// The owner of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    None,
    /// A claim whose lease does not run. It may not exist for callers any more, but its row is still there.
    Lapsed,
    Running,
}

/// Selects if a deduplication looks up the records that were first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firsts {
    Ignored,
    Wanted,
}
