//! Finding records by fingerprint.
//!
//! Owns: the order in which tails and segments are asked, and what an entry with repeats means. Always holds: an
//! entry that is found counts only if the liveness rule of the state that is passed in says so; the writer passes
//! its draft's state, readers the view's own.

use std::ops::RangeInclusive;

use super::failure::StorageResult;
use super::hot::InMemory;
use super::memory::Question;
use super::schema::{Fingerprint, HAS_REPEATS, Slot};
use super::state::PoolState;
use super::view::View;
use crate::error::Result;
use crate::ids::RecordId;

impl View {
    /// A live record of the fingerprint; which one, if an import made several, is not said.
    pub(crate) fn find_any(&self, state: &PoolState, fingerprint: Fingerprint) -> Result<Option<RecordId>> {
        if let Some(id) = self.find_in_tails(state, fingerprint) {
            return Ok(Some(id));
        }
        let mut question = Question::of(fingerprint);
        for index in self.worth_asking(fingerprint).rev() {
            if self.state.end_of(index) <= state.watermark {
                // So are those before it.
                break;
            }
            let found = match self.ask_memory(index, &mut question)? {
                InMemory::Absent => continue,
                InMemory::At(slot) => self.state.segments.get(index).map(|segment| segment.id(slot)),
                InMemory::Unknown => None,
            };
            if let Some(id) = found.filter(|id| state.is_live(*id)) {
                return Ok(Some(id));
            }
            if let Some(id) = self.find_in_table(state, index, fingerprint)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The live record of the fingerprint that was first.
    pub(crate) fn find_first(&self, state: &PoolState, fingerprint: Fingerprint) -> Result<Option<RecordId>> {
        let mut question = Question::of(fingerprint);
        for index in self.worth_asking(fingerprint) {
            if self.state.end_of(index) <= state.watermark || !self.may_contain(index, &mut question)? {
                continue;
            }
            if let Some(id) = self.find_in_table(state, index, fingerprint)? {
                // A slice of a running fold may have indexed a record while an older one waits in the same tail.
                return Ok(self.find_all_in_tails(state, fingerprint).into_iter().chain([id]).min());
            }
        }
        Ok(self.find_all_in_tails(state, fingerprint).into_iter().min())
    }

    /// Every live record of the fingerprint, ascending.
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

    /// The lowest live record of the fingerprint that the segment's index knows.
    fn find_in_table(
        &self,
        state: &PoolState,
        index: usize,
        fingerprint: Fingerprint,
    ) -> Result<Option<RecordId>> {
        let Some(segment) = self.state.segments.get(index) else { return Ok(None) };
        let Some(table) = self.fingerprints(index)? else { return Ok(None) };
        let Some(entry) = table.get(fingerprint).storage()? else { return Ok(None) };
        let entry = entry.value();
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

    /// Every live slot that a segment's index has for a range of fingerprints.
    pub(super) fn live_slots_of(
        &self,
        index: usize,
        fingerprints: RangeInclusive<Fingerprint>,
    ) -> Result<Vec<(Fingerprint, Slot)>> {
        let mut slots = Vec::new();
        let Some(segment) = self.state.segments.get(index) else { return Ok(slots) };
        let Some(table) = self.fingerprints(index)? else { return Ok(slots) };
        for row in table.range(fingerprints).storage()? {
            let (fingerprint, entry) = row.storage()?;
            let (fingerprint, entry) = (fingerprint.value(), entry.value());
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
        Ok(slots)
    }
}
