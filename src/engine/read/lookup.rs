//! Finding records by fingerprint.
//!
//! Owns: the order in which tails and segments are searched, and the meaning of an entry with repeats. Always holds: an
//! entry that is found counts only if its record is live in the state that is passed in. The writer passes its draft's
//! state, readers the view's own.

use std::ops::{Range, RangeInclusive};

use crate::engine::format::schema::{Fingerprint, HAS_REPEATS, Slot};
use crate::engine::pool::state::PoolState;
use crate::engine::probe::hot::InMemory;
use crate::engine::read::memory::{Question, prefetch_filters};
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use crate::ids::RecordId;

/// Fingerprints looked up per block: the notes on them must stay in the processor's caches.
const ASKED_TOGETHER: usize = 1_024;
/// Of this many lookups in a block, one may copy a slice of a hot index, because the whole block waits for it. In a
/// call of more than one block, each may: the call takes long anyway, and many lookups use what is copied.
const COPYING_EVERY: usize = 2;

/// One of many fingerprints that are looked up together.
struct Sought<'f> {
    question: Question,
    /// The segments that do not have it.
    ruled_out: Range<usize>,
    found: &'f mut Option<RecordId>,
}

impl View {
    /// Returns a live record of the fingerprint. If an import made several, it may be any of them.
    pub(crate) fn find_any(&self, fingerprint: Fingerprint) -> Result<Option<RecordId>> {
        let state = &*self.state;
        if let Some(id) = self.find_in_tails(state, fingerprint) {
            return Ok(Some(id));
        }
        let mut question = Question::of(fingerprint);
        for index in self.worth_asking(fingerprint).rev() {
            if self.state.end_of(index) <= state.watermark {
                // So are the segments before it.
                break;
            }
            if self.passes_filters(index, &mut question)?
                && let Some(id) = self.find_behind_filters(state, index, &question, true)?
            {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Like [`find_any`](Self::find_any), for many fingerprints; ascending order is fastest. All of them are looked up
    /// in one segment before the next, so that the processor waits for their cache misses together.
    pub(crate) fn find_any_of(
        &self,
        state: &PoolState,
        fingerprints: &[Fingerprint],
    ) -> Result<Vec<Option<RecordId>>> {
        let mut found = Vec::with_capacity(fingerprints.len());
        let copying_every = if fingerprints.len() > ASKED_TOGETHER { 1 } else { COPYING_EVERY };
        for block in fingerprints.chunks(ASKED_TOGETHER) {
            found.append(&mut self.find_any_of_block(state, block, copying_every)?);
        }
        Ok(found)
    }

    fn find_any_of_block(
        &self,
        state: &PoolState,
        block: &[Fingerprint],
        copying_every: usize,
    ) -> Result<Vec<Option<RecordId>>> {
        let mut found: Vec<_> = block.iter().map(|asked| self.find_in_tails(state, *asked)).collect();
        let mut open: Vec<Sought<'_>> = Vec::with_capacity(block.len());
        for (fingerprint, found) in block.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            let ruled_out = self.ruled_out(*fingerprint);
            open.push(Sought { question: Question::of(*fingerprint), ruled_out, found });
        }
        let ruled_out = open.iter().map(|sought| &sought.ruled_out).find(|range| !range.is_empty());
        let inside = ruled_out.cloned().unwrap_or_default();
        let outside = (inside.end..self.state.segments.len()).rev().chain((0..inside.start).rev());
        self.ask_segments(state, outside, &mut open, copying_every)?;
        // If the union was rebuilt meanwhile, some have another range. Looking them up again is harmless.
        open.retain(|sought| sought.ruled_out != inside);
        self.ask_segments(state, inside.rev(), &mut open, copying_every)?;
        Ok(found)
    }

    /// Looks in segments for what was not found yet. Of `copying_every` lookups, one may copy a slice of a hot index.
    fn ask_segments(
        &self,
        state: &PoolState,
        indexes: impl Iterator<Item = usize>,
        open: &mut Vec<Sought<'_>>,
        copying_every: usize,
    ) -> Result<()> {
        let mut prefetched = None;
        for index in indexes.filter(|index| self.state.end_of(*index) > state.watermark) {
            let Some(segment) = self.state.segments.get(index) else { continue };
            prefetch_filters(
                segment,
                &mut prefetched,
                open.iter().map(|sought| sought.question.fingerprint()),
            );
            let mut behind_filters = Vec::new();
            for sought in &mut *open {
                if self.passes_filters(index, &mut sought.question)? {
                    behind_filters.push(sought);
                }
            }
            segment.hot.prefetch(behind_filters.iter().map(|sought| sought.question.fingerprint()));
            for (number, sought) in behind_filters.into_iter().enumerate() {
                let copies = number.is_multiple_of(copying_every);
                *sought.found = self.find_behind_filters(state, index, &sought.question, copies)?;
            }
            open.retain(|sought| sought.found.is_none());
        }
        Ok(())
    }

    /// Returns a live record of the fingerprint in a segment whose filters it has passed.
    fn find_behind_filters(
        &self,
        state: &PoolState,
        index: usize,
        question: &Question,
        copies: bool,
    ) -> Result<Option<RecordId>> {
        let found = match self.ask_hot_index(index, question, copies)? {
            InMemory::Absent => return Ok(None),
            InMemory::At(slot) => self.state.segments.get(index).map(|segment| segment.id(slot)),
            InMemory::Unknown => None,
        };
        match found.filter(|id| state.is_live(*id)) {
            Some(id) => Ok(Some(id)),
            None => self.find_any_in_segment(state, index, question.fingerprint()),
        }
    }

    /// Returns the first live record of the fingerprint.
    pub(crate) fn find_first(&self, state: &PoolState, fingerprint: Fingerprint) -> Result<Option<RecordId>> {
        let mut question = Question::of(fingerprint);
        for index in self.worth_asking(fingerprint) {
            if self.state.end_of(index) <= state.watermark || !self.may_contain(index, &mut question)? {
                continue;
            }
            if let Some(id) = self.find_first_in_segment(state, index, fingerprint)? {
                // A slice of a running fold may have indexed a record while an older one waits in the same tail.
                return Ok(self.find_all_in_tails(state, fingerprint).into_iter().chain([id]).min());
            }
        }
        Ok(self.find_all_in_tails(state, fingerprint).into_iter().min())
    }

    /// Returns every live record of the fingerprint, ascending.
    pub(crate) fn find_all(&self, state: &PoolState, fingerprint: Fingerprint) -> Result<Vec<RecordId>> {
        let mut ids = self.find_all_in_tails(state, fingerprint);
        let mut question = Question::of(fingerprint);
        for index in self.worth_asking(fingerprint) {
            if self.may_contain(index, &mut question)? {
                let slots = self.live_slots_of(index, fingerprint..=fingerprint)?;
                let segment = self.state.segments.get(index);
                ids.extend(slots.iter().filter_map(|(_, slot)| Some(segment?.id(*slot))));
            }
        }
        ids.retain(|id| state.is_live(*id));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn find_in_tails(&self, state: &PoolState, fingerprint: Fingerprint) -> Option<RecordId> {
        let is_live = |id| state.is_live(id);
        let active = self.state.active.find_live(fingerprint, is_live);
        active.or_else(|| self.state.frozen.as_ref()?.find_live(fingerprint, is_live))
    }

    fn find_all_in_tails(&self, state: &PoolState, fingerprint: Fingerprint) -> Vec<RecordId> {
        let mut ids = Vec::new();
        self.state.active.find_all(fingerprint, &mut ids);
        if let Some(frozen) = &self.state.frozen {
            frozen.find_all(fingerprint, &mut ids);
        }
        ids.retain(|id| state.is_live(*id));
        ids
    }

    /// Returns the entries of a fingerprint in the segment's runs and table, the newest run first.
    fn entries_of(
        &self,
        index: usize,
        fingerprint: Fingerprint,
    ) -> Result<impl Iterator<Item = Result<u32>>> {
        let table = self.fingerprints(index)?;
        let asked = move |run| {
            if self.run_may_contain(index, run, fingerprint)? {
                self.run(index, run)?.map_or(Ok(None), |table| table.get(fingerprint)).storage()
            } else {
                Ok(None)
            }
        };
        let in_runs = self.run_numbers(index).rev().map(asked);
        let in_table = table.into_iter().map(move |table| table.get(fingerprint).storage());
        Ok(in_runs.chain(in_table).filter_map(|entry| Some(entry.transpose()?.map(|entry| entry.value()))))
    }

    /// Returns a live record of the fingerprint that the segment's index knows. Kept out of line: inlining cost the
    /// in-memory path 5 % more instructions.
    #[inline(never)]
    fn find_any_in_segment(
        &self,
        state: &PoolState,
        index: usize,
        fingerprint: Fingerprint,
    ) -> Result<Option<RecordId>> {
        for entry in self.entries_of(index, fingerprint)? {
            if let Some(id) = self.live_of_entry(state, index, fingerprint, entry?)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Returns the lowest live record of the fingerprint that the segment's index knows.
    fn find_first_in_segment(
        &self,
        state: &PoolState,
        index: usize,
        fingerprint: Fingerprint,
    ) -> Result<Option<RecordId>> {
        let mut first: Option<RecordId> = None;
        for entry in self.entries_of(index, fingerprint)? {
            let id = self.live_of_entry(state, index, fingerprint, entry?)?;
            first = first.into_iter().chain(id).min();
        }
        Ok(first)
    }

    /// Returns the lowest live record of an entry and its repeats.
    fn live_of_entry(
        &self,
        state: &PoolState,
        index: usize,
        fingerprint: Fingerprint,
        entry: u32,
    ) -> Result<Option<RecordId>> {
        let Some(segment) = self.state.segments.get(index) else { return Ok(None) };
        let id = segment.id(entry & !HAS_REPEATS);
        if state.is_live(id) {
            return Ok(Some(id));
        }
        if entry & HAS_REPEATS == 0 {
            return Ok(None);
        }
        let Some(repeats) = self.repeats()? else { return Ok(None) };
        let key = |slot| (self.state.id, segment.number, fingerprint, slot);
        for row in repeats.range(key(0)..=key(u32::MAX)).storage()? {
            let id = segment.id(row.storage()?.0.value().3);
            if state.is_live(id) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Returns every live slot that a segment's index has for a range of fingerprints, in their order.
    pub(crate) fn live_slots_of(
        &self,
        index: usize,
        fingerprints: RangeInclusive<Fingerprint>,
    ) -> Result<Vec<(Fingerprint, Slot)>> {
        let mut slots = Vec::new();
        let Some(segment) = self.state.segments.get(index) else { return Ok(slots) };
        let mut entries = Vec::new();
        let one = Some(*fingerprints.start()).filter(|start| start == fingerprints.end());
        for run in self.fingerprint_parts(index) {
            if let (Some(run), Some(one)) = (run, one)
                && !self.run_may_contain(index, run, one)?
            {
                continue;
            }
            let Some(table) = self.fingerprints_in(index, run)? else { continue };
            for row in table.range(fingerprints.clone()).storage()? {
                let (fingerprint, entry) = row.storage()?;
                entries.push((fingerprint.value(), entry.value()));
            }
        }
        entries.sort_unstable();
        for (fingerprint, entry) in entries {
            slots.push((fingerprint, entry & !HAS_REPEATS));
            if entry & HAS_REPEATS == 0 {
                continue;
            }
            let Some(repeats) = self.repeats()? else { continue };
            let key = |slot| (self.state.id, segment.number, fingerprint, slot);
            for row in repeats.range(key(0)..=key(u32::MAX)).storage()? {
                slots.push((fingerprint, row.storage()?.0.value().3));
            }
        }
        slots.retain(|(_, slot)| self.state.is_live(segment.id(*slot)));
        if !segment.runs.is_empty() {
            // A record that is being merged is found twice, and so are the repeats of two entries.
            slots.sort_unstable();
            slots.dedup();
        }
        Ok(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::InMemory;
    use crate::options::StoreOptions;
    use crate::testing::{self, Sizes};
    use crate::{EntityTypeId, ImportOptions, Key};

    /// A call of more than one block copies hot indexes with each lookup, as calls of single values do.
    #[test]
    fn many_values_at_once_fill_a_hot_index_as_fast_as_single_ones() {
        let sizes = Sizes { segment_slots: 4_096, chunk_slots: 256, ..Sizes::SMALL };
        let values: Vec<String> = (0..4_096).map(|number| format!("value {number}")).collect();
        let file = format!("value,entity_type_id\n{},37\n", values.join(",37\n"));
        let is_hot_after = |calls: usize, together: usize| {
            let store = testing::in_memory(&StoreOptions::new(), sizes).unwrap();
            let pool = store.get_or_create_pool("orders").unwrap();
            pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
            let keys: Vec<Key<'_>> =
                values.iter().map(|value| Key::new(EntityTypeId::new(37), value.as_str())).collect();
            for keys in keys.chunks(together).take(calls) {
                assert!(pool.contains_many(keys).unwrap().iter().all(|there| *there));
            }
            let view = store.shared().engine.view(pool.id()).unwrap();
            // While it is being copied, it does not answer for anything.
            matches!(view.state.segments[0].hot.ask(0), InMemory::Absent)
        };
        // A slice has 32 rows, and one is copied with every sixteenth question.
        assert!(is_hot_after(2, 2_048));
        assert!(is_hot_after(4_096, 1));
        assert!(!is_hot_after(4, 1_024));
        assert!(!is_hot_after(1, 2_048));
    }
}
