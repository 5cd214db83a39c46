//! A segment in memory.

use std::sync::Arc;

use crate::engine::format::schema::{SegmentNumber, Slot};
use crate::engine::pool::liveness::Deleted;
use crate::engine::probe::hot::HotIndex;
use crate::engine::probe::membership::FilterCell;
use crate::engine::probe::membership::sliced::{Group, SlicedFilters};
use crate::ids::RecordId;
use crate::time::Timestamp;

/// A segment as of one commit.
#[derive(Debug, Clone)]
pub(crate) struct SegmentState {
    pub(crate) number: SegmentNumber,
    pub(crate) first_id: RecordId,
    /// The number of records once it is sealed; 0 while it is open.
    pub(crate) sealed_len: u32,
    /// The time from which `created_at` of its records counts.
    pub(crate) base_time: Timestamp,
    pub(crate) deleted: Arc<Deleted>,
    pub(crate) filter: FilterCell,
    /// The filters of its group, side by side.
    pub(crate) sliced: SlicedFilters,
    pub(crate) hot: HotIndex,
    /// The number of folds that have written to its tables since its hot index was new.
    pub(crate) folds: u64,
    /// The filters of the runs that are not merged into its table yet.
    pub(crate) runs: Arc<Vec<FilterCell>>,
}

impl SegmentState {
    /// Creates an empty segment after the one before it, if there is one.
    pub(crate) fn open(
        number: SegmentNumber,
        before: Option<&Self>,
        first_id: RecordId,
        base_time: Timestamp,
    ) -> Self {
        let (deleted, filter, hot) = (Arc::default(), FilterCell::default(), HotIndex::default());
        let sliced = Self::sliced_behind(before, number);
        let runs = Arc::default();
        Self { number, first_id, sealed_len: 0, base_time, deleted, filter, sliced, hot, folds: 0, runs }
    }

    /// Returns what a segment shares with the one before it, if both are in one group.
    pub(crate) fn sliced_behind(before: Option<&Self>, number: SegmentNumber) -> SlicedFilters {
        let relative = before.filter(|before| Group::of(before.number) == Group::of(number));
        relative.map(|relative| relative.sliced.clone()).unwrap_or_default()
    }

    /// Begins a new hot index, because the table is written to directly.
    pub(in crate::engine::pool) fn forget_hot_index(&mut self) {
        if !self.filter.is_stored() {
            (self.hot, self.folds) = (HotIndex::default(), 0);
        }
    }

    /// Records that the runs are merged into the table.
    pub(in crate::engine::pool) fn runs_are_merged(&mut self) {
        self.runs = Arc::default();
        (self.hot, self.folds) = (self.hot.after_merge(), 0);
    }

    /// Returns the slot of a record of this segment.
    pub(crate) fn slot(&self, id: RecordId) -> Slot {
        u32::try_from(id.saturating_sub(self.first_id)).unwrap_or(u32::MAX)
    }

    pub(crate) fn id(&self, slot: Slot) -> RecordId {
        self.first_id + u64::from(slot)
    }

    /// Returns the approximate number of bytes of memory that the segment takes.
    pub(crate) fn memory(&self) -> usize {
        let runs: usize = self.runs.iter().map(FilterCell::memory).sum();
        let filters = self.filter.memory() + self.sliced.memory_of(self.number) + runs;
        self.deleted.memory() + filters + self.hot.memory()
    }
}
