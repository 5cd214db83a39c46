//! A pool as of one commit, in memory: its segments, its watermark, its tails.
//!
//! Owns: [`PoolState`]. Always holds: ids of live records are at or above the watermark and below `next_id`;
//! segments are in id order and do not overlap; every id is folded (below `folded_to`), in the frozen tail or in
//! the active tail. A state never changes once it is published; a commit publishes the next one.

use std::ops::Range;
use std::sync::Arc;

use crate::engine::format::codec::{HeadRow, SegmentRow};
use crate::engine::format::schema::{Geometry, SegmentNumber, Slot};
use crate::engine::pool::claims::{ClaimId, Claims};
use crate::engine::pool::liveness::Deleted;
use crate::engine::pool::tail::TailView;
use crate::engine::probe::hot::{HotBudget, HotIndex};
use crate::engine::probe::membership::FilterCell;
use crate::engine::probe::membership::sliced::{Group, SlicedFilters};
use crate::engine::probe::membership::union::UnionFilter;
use crate::ids::{PoolId, RecordId};
use crate::model::Policy;
use crate::time::{LatestTime, Timestamp};

/// A segment as of one commit.
#[derive(Debug, Clone)]
pub(crate) struct SegmentState {
    pub(crate) number: SegmentNumber,
    pub(crate) first_id: RecordId,
    /// How many records it holds once it is sealed; 0 while it is open.
    pub(crate) sealed_len: u32,
    /// What `created_at` of its records counts from.
    pub(crate) base_time: Timestamp,
    pub(crate) deleted: Arc<Deleted>,
    pub(crate) filter: FilterCell,
    /// The filters of its group.
    pub(crate) sliced: SlicedFilters,
    pub(crate) hot: HotIndex,
    /// How many folds have written to its tables since its hot index was new.
    pub(crate) folds: u64,
    /// The filters of the runs of fingerprints that there are beside its table.
    pub(crate) runs: Arc<Vec<FilterCell>>,
}

impl SegmentState {
    /// An empty segment behind those before it, if there are any.
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

    /// What a segment shares with the one before it, if they are of one group.
    pub(crate) fn sliced_behind(before: Option<&Self>, number: SegmentNumber) -> SlicedFilters {
        let relative = before.filter(|before| Group::of(before.number) == Group::of(number));
        relative.map(|relative| relative.sliced.clone()).unwrap_or_default()
    }

    /// Its table is written to at once: its hot index begins anew.
    pub(crate) fn forget_hot_index(&mut self) {
        if !self.filter.is_stored() {
            (self.hot, self.folds) = (HotIndex::default(), 0);
        }
    }

    /// Its runs are in its table now.
    pub(crate) fn runs_are_merged(&mut self) {
        self.runs = Arc::default();
        (self.hot, self.folds) = (self.hot.after_merge(), 0);
    }

    /// The slot of a record of this segment.
    pub(crate) fn slot(&self, id: RecordId) -> Slot {
        u32::try_from(id.saturating_sub(self.first_id)).unwrap_or(u32::MAX)
    }

    pub(crate) fn id(&self, slot: Slot) -> RecordId {
        self.first_id + u64::from(slot)
    }
}

/// A pool as of one commit.
#[derive(Debug, Clone)]
pub(crate) struct PoolState {
    pub(crate) id: PoolId,
    pub(crate) geometry: Geometry,
    pub(crate) policy: Policy,
    /// How many records a segment has at least when it is sealed early, for the policy's sake.
    pub(crate) early_seal_slots: u32,
    /// Records below this id are dead.
    pub(crate) watermark: RecordId,
    /// The watermark that the pool's head has. What the policy ends between two heads follows from the records.
    pub(crate) stored_watermark: RecordId,
    /// Records below this id are in their segments' indexes.
    pub(crate) folded_to: RecordId,
    /// The id that the next record gets.
    pub(crate) next_id: RecordId,
    /// The `created_at` of the newest record, dropped ones included.
    pub(crate) last_time: Timestamp,
    /// See [`pool_time`](Self::pool_time).
    pub(crate) latest: LatestTime,
    /// Oldest first; the last one is open. Never empty.
    pub(crate) segments: Arc<Vec<SegmentState>>,
    /// The filter of many of them together.
    pub(crate) union: UnionFilter,
    /// Dropped segments whose rows in shared tables are still to be removed.
    pub(crate) doomed: Arc<Vec<SegmentNumber>>,
    /// The tail that is being folded, in slices.
    pub(crate) frozen: Option<TailView>,
    /// The tail that new records go to.
    pub(crate) active: TailView,
    pub(crate) claims: Claims,
    /// The id that the next claim gets.
    pub(crate) next_claim: ClaimId,
    /// What the hot indexes of the store share.
    pub(crate) hot_budget: Arc<HotBudget>,
}

impl PoolState {
    /// The segment that holds a record, dead or alive.
    pub(crate) fn segment_of(&self, id: RecordId) -> Option<(usize, &SegmentState)> {
        let index = self.segments.partition_point(|segment| segment.first_id <= id).checked_sub(1)?;
        let segment = self.segments.get(index)?;
        (id < self.end_of(index)).then_some((index, segment))
    }

    /// The first id after a segment's records.
    pub(crate) fn end_of(&self, index: usize) -> RecordId {
        match self.segments.get(index) {
            Some(segment) if index + 1 < self.segments.len() => {
                segment.first_id + u64::from(segment.sealed_len)
            }
            _ => self.next_id,
        }
    }

    /// Whether a segment's tables have all that they will have.
    pub(crate) fn is_folded(&self, index: usize) -> bool {
        self.segments.get(index).is_some_and(|segment| segment.sealed_len > 0)
            && self.end_of(index) <= self.folded_to
    }

    /// The slots of a segment whose ids are in the range.
    pub(crate) fn slots_in(&self, index: usize, ids: &Range<RecordId>) -> Range<Slot> {
        let Some(segment) = self.segments.get(index) else { return 0..0 };
        let start = ids.start.max(segment.first_id);
        let end = ids.end.min(self.end_of(index)).max(start);
        segment.slot(start)..segment.slot(end)
    }

    /// **The liveness rule.** Dead are records below the watermark and those whose deleted bit is set.
    pub(crate) fn is_live(&self, id: RecordId) -> bool {
        id >= self.watermark
            && self
                .segment_of(id)
                .is_some_and(|(_, segment)| !segment.deleted.contains(self.geometry, segment.slot(id)))
    }

    /// How many records of the id range are live.
    pub(crate) fn live_in(&self, ids: &Range<RecordId>) -> u64 {
        let ids = ids.start.max(self.watermark)..ids.end.min(self.next_id);
        let live_of = |index: usize| {
            let slots = self.slots_in(index, &ids);
            let deleted = self.segments.get(index).map(|segment| &segment.deleted);
            let dead = deleted.map_or(0, |deleted| deleted.count_in(self.geometry, slots.clone()));
            u64::from(slots.end - slots.start).saturating_sub(dead)
        };
        (0..self.segments.len()).map(live_of).sum()
    }

    /// How many records are live.
    pub(crate) fn live(&self) -> u64 {
        self.live_in(&(0..RecordId::MAX))
    }

    /// The first id behind the oldest live records, so many of them.
    pub(crate) fn after_oldest(&self, records: u64) -> RecordId {
        let has_them = |end: RecordId| self.live_in(&(self.watermark..end)) >= records;
        let (mut low, mut high) = (self.watermark.saturating_add(records).min(self.next_id), self.next_id);
        if has_them(low) {
            // Nothing in between is deleted: nearly always.
            return low;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if has_them(middle) { high = middle } else { low = middle + 1 }
        }
        low
    }

    /// The segment that new records go to.
    pub(crate) fn open_segment(&self) -> Option<&SegmentState> {
        self.segments.last()
    }

    /// The number of the first segment without a membership filter. No table of a segment below it changes any more.
    pub(crate) fn first_unfiltered_number(&self) -> SegmentNumber {
        let unfiltered = self.segments.iter().find(|segment| !segment.filter.is_stored());
        unfiltered.map_or_else(|| self.open_number(), |segment| segment.number)
    }

    /// The number of the segment that new records go to.
    pub(crate) fn open_number(&self) -> SegmentNumber {
        self.open_segment().map_or(0, |open| open.number)
    }

    /// How many records no index has yet.
    pub(crate) fn unfolded(&self) -> usize {
        self.active.len() + self.frozen.as_ref().map_or(0, TailView::len)
    }

    /// Tables of segments without a filter are written to at once.
    pub(crate) fn forget_hot_indexes(&mut self) {
        Arc::make_mut(&mut self.segments).iter_mut().for_each(SegmentState::forget_hot_index);
    }

    /// The pool's time when the clock shows this: never behind its newest record, nor behind what it was answered for before.
    pub(crate) fn pool_time(&self, shown: Timestamp) -> Timestamp {
        self.latest.reach(shown.max(self.last_time))
    }

    /// The pool's time, as far as it has come: the clock may show a later one.
    pub(crate) fn time_so_far(&self) -> Timestamp {
        self.latest.get().max(self.last_time)
    }

    /// What of this is stored in the pool's head.
    pub(crate) fn head(&self) -> HeadRow {
        let row = |segment: &SegmentState| SegmentRow {
            number: segment.number,
            first_id: segment.first_id,
            sealed_len: segment.sealed_len,
        };
        HeadRow {
            watermark: self.watermark,
            folded_to: self.folded_to,
            last_time: self.last_time.as_micros(),
            segments: self.segments.iter().map(row).collect(),
            doomed: self.doomed.to_vec(),
        }
    }
}
