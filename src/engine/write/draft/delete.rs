//! Deciding deletions: by ids, by keys, by a filter, or of all records.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::PoolDraft;
use crate::backend::batch::Batch;
use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::Fingerprint;
use crate::engine::pool::segments::ChangedBits;
use crate::engine::read::plan::Plan;
use crate::error::Result;
use crate::ids::RecordNumber;
use crate::query::{RecordFilter, RecordSort};

impl PoolDraft {
    /// Deletes live records by id. Returns the number of records deleted.
    pub(crate) fn delete_ids(&mut self, ids: &[RecordNumber]) -> u64 {
        ids.iter().map(|id| u64::from(self.delete(*id))).sum()
    }

    fn delete(&mut self, id: RecordNumber) -> bool {
        let changed = self.state.delete(id);
        self.changed_bits.extend(changed);
        changed.is_some()
    }

    /// Deletes every live record of the batch's keys. Returns the number of records deleted.
    pub(crate) fn delete_keys(&mut self, batch: &Batch) -> Result<u64> {
        let mut ids = Vec::new();
        batch.ask_each(|fingerprint| {
            ids.extend(self.find_new(fingerprint));
            ids.extend(self.base.find_all(&self.state, fingerprint)?);
            Ok(())
        })?;
        Ok(self.delete_ids(&ids))
    }

    /// Deletes every live record that matches the filter. Returns the number of records deleted.
    ///
    /// The filter is evaluated on the base, so this must be the group's only operation.
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

    /// Takes the keys that a filter names away from the claims that own them. The origin of a claim must
    /// match, like that of a record. A claimed item matches no time filter.
    ///
    /// The claims are read from the base, so this must be the group's only operation on claims.
    pub(crate) fn void_claims_on(&mut self, filter: &RecordFilter) -> Result<()> {
        if self.state.claims.is_empty() || !filter.may_name_claimed() {
            return Ok(());
        }
        // Each claim is read once, even if several of its values are named.
        let mut owned: BTreeMap<ClaimId, HashSet<Fingerprint>> = BTreeMap::new();
        for value in &filter.values {
            for (fingerprint, id) in self.base.owners_of_value(value)? {
                owned.entry(id).or_default().insert(fingerprint);
            }
        }
        let values: HashSet<&str> = filter.values.iter().map(String::as_str).collect();
        let mut voided = Vec::new();
        for (id, owned) in owned {
            let claim = self.state.claims.stored(id);
            if claim.is_none_or(|claim| !filter.takes_origin(&claim.origin)) {
                continue;
            }
            let (batch, ..) = self.base.batch_of_claim(id)?;
            // The fingerprint of another value may have the same value part as a named one.
            let named = batch.items().iter().enumerate().filter(|(position, item)| {
                owned.contains(&item.fingerprint)
                    && filter.takes_entity_type(item.entity_type)
                    && values.contains(batch.value(*position))
            });
            voided.extend(named.map(|(_, item)| (item.fingerprint, None)));
        }
        self.claims.owners.extend(voided);
        Ok(())
    }

    /// Deletes every record by moving the watermark. Returns the number of records that were live.
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
