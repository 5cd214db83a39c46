//! The part of a pool's state that folding changes: its tails, and the indexes of its segments.
//!
//! Always holds: every id is folded (below `folded_to`), in the frozen tail or in the active tail; at most one tail is
//! frozen; a segment that is sealed and folded first gets its runs merged, and then its filter.

use std::sync::Arc;

use crate::engine::format::schema::SegmentNumber;
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::{TailEntry, TailView};
use crate::engine::probe::hot::HotIndex;
use crate::engine::probe::membership::sliced::{Group, SlicedFilters};
use crate::engine::probe::membership::union::UnionFilter;
use crate::engine::probe::membership::{Filter, FilterCell};

/// Work that is left.
impl PoolState {
    /// Returns true if the pool has background work for commits to do.
    pub(crate) fn has_work(&self) -> bool {
        self.frozen.is_some()
            || !self.dropped.is_empty()
            || self.first_segment_is_dead()
            || self.segment_with_runs().is_some()
            || self.segment_without_filter().is_some()
    }

    fn folded_segments(&self) -> impl Iterator<Item = (usize, &SegmentState)> {
        self.segments.iter().enumerate().filter(|(index, _)| self.is_folded(*index))
    }

    /// Returns a segment whose runs can be merged, because it gets no more of them.
    pub(crate) fn segment_with_runs(&self) -> Option<(usize, &SegmentState)> {
        self.folded_segments().find(|(_, segment)| !segment.runs.is_empty())
    }

    /// Returns a segment whose filter can be built.
    pub(crate) fn segment_without_filter(&self) -> Option<(usize, &SegmentState)> {
        self.folded_segments().find(|(_, segment)| segment.runs.is_empty() && !segment.filter.is_stored())
    }
}

/// Tails.
impl PoolState {
    /// Adds new records to the active tail.
    pub(crate) fn extend_tail(&mut self, entries: impl Iterator<Item = TailEntry>) {
        self.0.active = self.active.append(entries);
    }

    /// Freezes the active tail, so that it can be folded, and begins a new one. Changes nothing on disk.
    pub(crate) fn freeze(&mut self) {
        let next = self.active.ids().end;
        self.0.frozen = Some(std::mem::replace(&mut self.0.active, TailView::empty(next)));
    }

    /// Ends the fold of the frozen tail, which is in its segment's indexes now.
    pub(crate) fn frozen_is_folded(&mut self) {
        if let Some(frozen) = self.0.frozen.take() {
            self.0.folded_to = frozen.ids().end;
        }
    }

    /// Begins new tails, since every record is folded or dead.
    pub(crate) fn all_is_folded(&mut self) {
        self.0.folded_to = self.next_id;
        self.0.frozen = None;
        self.0.active = TailView::empty(self.next_id);
    }
}

/// Index tables, and their copies in memory.
impl PoolState {
    fn change_segment(&mut self, number: SegmentNumber, change: impl FnOnce(&mut SegmentState)) {
        let segments = Arc::make_mut(&mut self.0.segments);
        if let Some(segment) = segments.iter_mut().find(|segment| segment.number == number) {
            change(segment);
        }
    }

    /// Drops the hot indexes of segments without a filter, because their tables are written to directly.
    pub(crate) fn forget_hot_indexes(&mut self) {
        Arc::make_mut(&mut self.0.segments).iter_mut().for_each(SegmentState::forget_hot_index);
    }

    /// Records that a slice of a fold has written to a segment's table.
    pub(crate) fn slice_is_folded(&mut self, number: SegmentNumber) {
        self.change_segment(number, |segment| segment.folds += 1);
    }

    /// Adds a run to a segment; `filter` is that of the run's fingerprints.
    pub(crate) fn add_run(&mut self, number: SegmentNumber, filter: Filter) {
        self.change_segment(number, |segment| {
            Arc::make_mut(&mut segment.runs).push(FilterCell::ready(filter));
        });
    }

    /// Records that a segment's runs are merged into its table.
    pub(crate) fn runs_are_merged(&mut self, number: SegmentNumber) {
        self.change_segment(number, SegmentState::runs_are_merged);
    }

    /// Records that a segment's table is complete and its filter stored.
    pub(crate) fn set_filter(&mut self, number: SegmentNumber, filter: Filter) {
        self.change_segment(number, |segment| {
            segment.filter = FilterCell::ready(filter);
            segment.hot.is_filtered_now();
        });
    }

    /// Drops all copies of a segment's indexes, because the indexes were rebuilt.
    pub(crate) fn indexes_are_rebuilt(&mut self, number: SegmentNumber, filter: Option<Filter>) {
        self.0.union = UnionFilter::default();
        let sliced = SlicedFilters::default();
        for segment in Arc::make_mut(&mut self.0.segments) {
            if Group::of(segment.number) == Group::of(number) {
                segment.sliced = sliced.clone();
            }
        }
        self.change_segment(number, |segment| {
            segment.filter = filter.map(FilterCell::ready).unwrap_or_default();
            (segment.hot, segment.folds) = (HotIndex::default(), 0);
            segment.runs = Arc::default();
        });
    }

    /// Frees the filters that their group made unnecessary.
    pub(crate) fn drop_sliced_filters(&mut self) {
        let is_needless = |segment: &SegmentState| {
            segment.filter.is_loaded() && segment.sliced.memory_of(segment.number) > 0
        };
        if self.segments.iter().any(is_needless) {
            let segments = Arc::make_mut(&mut self.0.segments).iter_mut();
            segments
                .filter(|segment| is_needless(segment))
                .for_each(|segment| segment.filter = FilterCell::stored());
        }
    }
}
