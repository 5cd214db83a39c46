//! The state of a pool in memory, as of one commit: its segments, its watermark and its tails.
//!
//! Owns: [`PoolState`]. Always holds: ids of live records are at or above the watermark and below `next_id`;
//! segments are in id order and do not overlap; every id is folded (below `folded_to`), in the frozen tail or
//! in the active tail. A state never changes after it is published; each commit publishes a new one.
//!
//! These modules have its transitions and their invariants: [`segments`](super::segments),
//! [`expiry`](super::expiry), [`folding`](super::folding) and [`levels`](super::levels). The transitions of
//! claims are here.

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::backend::claims::ClaimId;
use crate::engine::format::codec::{HeadRow, SegmentRow, TableRow};
use crate::engine::format::schema::{Geometry, SegmentNumber, Slot, TableNumber};
use crate::engine::pool::claims::{ClaimState, Claims};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::tail::TailView;
use crate::engine::probe::budget::Budget;
use crate::engine::probe::table::FingerprintTable;
use crate::ids::{PoolId, RecordNumber};
use crate::model::Policy;
use crate::time::{LatestTime, Moment, Timestamp};

/// A pool as of one commit. All code can read its fields. Only the named transitions in `pool/` change them.
#[derive(Debug, Clone)]
pub(crate) struct PoolState(pub(in crate::engine::pool) PoolFields);

impl Deref for PoolState {
    type Target = PoolFields;

    fn deref(&self) -> &PoolFields {
        &self.0
    }
}

/// The fields of a [`PoolState`].
#[derive(Debug, Clone)]
pub(crate) struct PoolFields {
    pub(crate) id: PoolId,
    pub(crate) geometry: Geometry,
    pub(crate) policy: Policy,
    /// The fewest records for which the policy seals a segment early.
    pub(crate) early_seal_slots: u32,
    /// Records below this id are dead.
    pub(crate) watermark: RecordNumber,
    /// The watermark in the stored head. What the policy has expired since then follows from the records.
    pub(crate) stored_watermark: RecordNumber,
    /// Records below this id are in their segments' indexes.
    pub(crate) folded_to: RecordNumber,
    /// The id of the next record.
    pub(crate) next_id: RecordNumber,
    /// The `created_at` of the newest record, even if that was dropped.
    pub(crate) last_time: Timestamp,
    /// See [`PoolState::pool_time`].
    pub(crate) latest: LatestTime,
    /// Oldest first; the last one is open. Never empty.
    pub(crate) segments: Arc<Vec<SegmentState>>,
    /// Segments that were removed from the list. Their rows must still be removed.
    pub(crate) dropped: Arc<Vec<SegmentNumber>>,
    /// The tail that is being folded slice by slice.
    pub(crate) frozen: Option<TailView>,
    /// The tail that new records go to.
    pub(crate) active: TailView,
    pub(crate) claims: Claims,
    /// The id of the next claim.
    pub(crate) next_claim: ClaimId,
    /// The tables of fingerprints of folded records, oldest first.
    pub(crate) tables: Arc<Vec<Arc<FingerprintTable>>>,
    /// The tables being written by merges. Each has the ids of the tables that it is merged from.
    pub(crate) merging: Arc<Vec<Arc<FingerprintTable>>>,
    /// Tables that were removed from the list. Their rows must still be removed.
    pub(crate) dropped_tables: Arc<Vec<TableNumber>>,
    /// The number of the next table.
    pub(crate) next_table: TableNumber,
    /// The memory budget that all tables of the store share.
    pub(crate) budget: Arc<Budget>,
}

impl PoolState {
    /// Creates a pool from its stored fields, and expires what the policy has expired since the head was
    /// written. The tails must still be read.
    pub(crate) fn stored(fields: PoolFields) -> Self {
        let mut state = Self(fields);
        state.evict();
        // Dead records need no index, and may already be removed.
        state.0.folded_to = state.folded_to.max(state.watermark);
        state.0.active = TailView::empty(state.folded_to);
        state
    }

    /// Adds what loading the pool has read: its tails, and the time of its last record if there is one.
    pub(crate) fn with_tails(
        mut self,
        frozen: Option<TailView>,
        active: TailView,
        last: Option<Timestamp>,
    ) -> Self {
        (self.0.frozen, self.0.active) = (frozen, active);
        self.0.last_time = last.map_or(self.last_time, |last| last.max(self.last_time));
        self
    }

    /// Records that the stored head has the current watermark.
    pub(crate) fn head_is_stored(&mut self) {
        self.0.stored_watermark = self.watermark;
    }
}

impl PoolState {
    /// Returns the segment that holds a record, dead or alive.
    pub(crate) fn segment_of(&self, id: RecordNumber) -> Option<(usize, &SegmentState)> {
        let index = self.segments.partition_point(|segment| segment.first_id <= id).checked_sub(1)?;
        let segment = self.segments.get(index)?;
        (id < self.end_of(index)).then_some((index, segment))
    }

    /// Returns the first id after a segment's records.
    pub(crate) fn end_of(&self, index: usize) -> RecordNumber {
        match self.segments.get(index) {
            Some(segment) if index + 1 < self.segments.len() => {
                segment.first_id + u64::from(segment.sealed_len)
            }
            _ => self.next_id,
        }
    }

    /// Returns true if a segment is sealed and all its records are in its indexes.
    pub(crate) fn is_folded(&self, index: usize) -> bool {
        self.segments.get(index).is_some_and(|segment| segment.sealed_len > 0)
            && self.end_of(index) <= self.folded_to
    }

    /// Returns the slots of a segment whose ids are in the range.
    pub(crate) fn slots_in(&self, index: usize, ids: &Range<RecordNumber>) -> Range<Slot> {
        let Some(segment) = self.segments.get(index) else { return 0..0 };
        let start = ids.start.max(segment.first_id);
        let end = ids.end.min(self.end_of(index)).max(start);
        segment.slot(start)..segment.slot(end)
    }

    /// **The liveness rule.** A record is dead if it is below the watermark or its deleted bit is set.
    pub(crate) fn is_live(&self, id: RecordNumber) -> bool {
        id >= self.watermark
            && self
                .segment_of(id)
                .is_some_and(|(_, segment)| !segment.deleted.contains(self.geometry, segment.slot(id)))
    }

    /// Returns the number of live records in the id range.
    pub(crate) fn live_in(&self, ids: &Range<RecordNumber>) -> u64 {
        let ids = ids.start.max(self.watermark)..ids.end.min(self.next_id);
        let live_of = |index: usize| {
            let slots = self.slots_in(index, &ids);
            let deleted = self.segments.get(index).map(|segment| &segment.deleted);
            let dead = deleted.map_or(0, |deleted| deleted.count_in(self.geometry, slots.clone()));
            u64::from(slots.end - slots.start).saturating_sub(dead)
        };
        (0..self.segments.len()).map(live_of).sum()
    }

    /// Returns the number of live records.
    pub(crate) fn live(&self) -> u64 {
        self.live_in(&(0..RecordNumber::MAX))
    }

    /// Returns the segment that new records go to.
    pub(crate) fn open_segment(&self) -> Option<&SegmentState> {
        self.segments.last()
    }

    /// Returns the number of the segment that new records go to.
    pub(crate) fn open_number(&self) -> SegmentNumber {
        self.open_segment().map_or(0, |open| open.number)
    }

    /// Returns the number of records that are in no index yet.
    pub(crate) fn unfolded(&self) -> usize {
        self.active.len() + self.frozen.as_ref().map_or(0, TailView::len)
    }

    /// Returns the pool's time when the clock shows `shown`. It is never earlier than the newest record, or
    /// than a time that was already used for the pool.
    pub(crate) fn pool_time(&self, shown: Timestamp) -> Timestamp {
        self.latest.reach(shown.max(self.last_time))
    }

    /// Returns the latest time that the pool has used. The clock may show a later one.
    pub(crate) fn time_so_far(&self) -> Timestamp {
        self.latest.get().max(self.last_time)
    }

    /// Returns the row to store as the pool's head.
    pub(crate) fn head(&self) -> HeadRow {
        let row = |segment: &SegmentState| SegmentRow {
            number: segment.number,
            first_id: segment.first_id,
            sealed_len: segment.sealed_len,
        };
        let table = |table: &Arc<FingerprintTable>| TableRow {
            number: table.number,
            first_id: table.ids.start,
            end_id: table.ids.end,
            len: table.len,
            rows: table.shape.rows(),
        };
        HeadRow {
            watermark: self.watermark,
            folded_to: self.folded_to,
            last_time: self.last_time.as_micros(),
            segments: self.segments.iter().map(row).collect(),
            dropped: self.dropped.to_vec(),
            tables: self.tables.iter().map(table).collect(),
            merging: self.merging.iter().map(table).collect(),
            dropped_tables: self.dropped_tables.to_vec(),
            next_table: self.next_table,
        }
    }

    /// Iterates over the numbers of all segments, including those whose rows are being removed.
    pub(crate) fn segment_numbers(&self) -> impl Iterator<Item = SegmentNumber> {
        self.segments.iter().map(|segment| segment.number).chain(self.dropped.iter().copied())
    }

    /// Returns the approximate memory use of the indexes in bytes.
    pub(crate) fn memory(&self) -> usize {
        let tails = self.active.memory() + self.frozen.as_ref().map_or(0, TailView::memory);
        let deleted = self.segments.iter().map(|segment| segment.deleted.memory()).sum::<usize>();
        tails + deleted + self.tables.iter().map(|table| table.memory()).sum::<usize>()
    }
}

/// Claims.
impl PoolState {
    /// Adds a new claim. Its id must be the next one.
    pub(crate) fn grant(&mut self, id: ClaimId, claim: ClaimState) {
        self.0.claims.insert(id, claim);
        self.0.next_claim = id + 1;
    }

    /// Returns the next fencing number.
    pub(crate) fn next_fence(&mut self, now: Timestamp) -> u64 {
        self.0.claims.next_fence(now)
    }

    /// Replaces a claim that was extended or taken up, or some of whose items were settled.
    pub(crate) fn change_claim(&mut self, id: ClaimId, claim: ClaimState) {
        self.0.claims.insert(id, claim);
    }

    /// Removes a claim that was settled, released or swept.
    pub(crate) fn remove_claim(&mut self, id: ClaimId) {
        self.0.claims.remove(id);
    }

    /// Returns a claim to sweep. If there is none, remembers the earliest moment at which there can be one.
    pub(crate) fn next_claim_to_sweep(&mut self, moment: Moment) -> Option<ClaimId> {
        self.0.claims.next_to_sweep(moment)
    }
}
