//! The list of a pool's segments: growing, sealing, deleting, dropping.
//!
//! Always holds: segments are in id order and do not overlap. Only the last one is open. The records of a
//! segment are in time order.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::engine::format::schema::{ChunkNumber, SegmentNumber};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::ids::RecordNumber;
use crate::time::Timestamp;

/// The place of deletion bits that a deletion has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangedBits {
    /// The index of the segment in the pool's list.
    pub(crate) index: usize,
    pub(crate) chunk: ChunkNumber,
}

/// Growing.
impl PoolState {
    /// Assigns the next id to a record with this pool time. Seals a full segment and opens the next one.
    pub(crate) fn assign_id(&mut self, time: Timestamp) -> RecordNumber {
        let id = self.next_id;
        let len = self.open_segment().map_or(0, |open| open.slot(id));
        if len > 0 && len >= self.open_segment_slots(time) {
            self.seal_open_segment(time);
        } else if len == 0
            && let Some(open) = Arc::make_mut(&mut self.0.segments).last_mut()
        {
            open.base_time = time;
        }
        self.0.next_id = id + 1;
        self.0.last_time = time;
        id
    }

    /// Assigns `more` ids after the last one, to records with ascending pool times. The segment of the last
    /// id must have room for them.
    pub(crate) fn assign_more_ids(&mut self, more: u64, newest: Timestamp) {
        self.0.next_id += more;
        self.0.last_time = self.last_time.max(newest);
    }

    /// Seals the open segment if it has records. The base time of the next segment is this pool time.
    pub(crate) fn seal_open_segment(&mut self, next_base_time: Timestamp) {
        let next_id = self.next_id;
        let segments = Arc::make_mut(&mut self.0.segments);
        let Some(open) = segments.last_mut().filter(|open| open.first_id < next_id) else { return };
        open.sealed_len = open.slot(next_id);
        let number = open.number + 1;
        segments.push(SegmentState::open(number, next_id, next_base_time));
    }
}

/// Deleting.
impl PoolState {
    /// Deletes a live record. Returns the bits that changed, or `None` if there is no such record.
    pub(crate) fn delete(&mut self, id: RecordNumber) -> Option<ChangedBits> {
        if !self.is_live(id) {
            return None;
        }
        let geometry = self.geometry;
        let (index, segment) = self.segment_of(id)?;
        let slot = segment.slot(id);
        let segment = Arc::make_mut(&mut self.0.segments).get_mut(index)?;
        Arc::make_mut(&mut segment.deleted).insert(geometry, slot);
        Some(ChangedBits { index, chunk: geometry.chunk_of(slot).0 })
    }

    /// Deletes records by their positions in a chunk. Returns the number of records that were not deleted
    /// before.
    pub(crate) fn delete_positions(&mut self, bits: ChangedBits, positions: &RoaringBitmap) -> u64 {
        let segment = Arc::make_mut(&mut self.0.segments).get_mut(bits.index);
        segment.map_or(0, |segment| Arc::make_mut(&mut segment.deleted).insert_all(bits.chunk, positions))
    }
}

/// Dropping.
impl PoolState {
    /// Removes sealed and folded segments without live records from the list. Their rows must still be
    /// removed. Returns true if there were any.
    pub(crate) fn drop_dead_segments(&mut self) -> bool {
        let is_dead = |(index, segment): &(usize, &SegmentState)| {
            self.is_folded(*index) && self.live_in(&(segment.first_id..self.end_of(*index))) == 0
        };
        let dead: Vec<SegmentNumber> =
            self.segments.iter().enumerate().filter(is_dead).map(|(_, segment)| segment.number).collect();
        if dead.is_empty() {
            return false;
        }
        Arc::make_mut(&mut self.0.segments).retain(|segment| !dead.contains(&segment.number));
        Arc::make_mut(&mut self.0.dropped).extend(dead);
        true
    }

    /// Turns this into the state of a copy without dead records. Segments with only dead records are left
    /// out, and so are all indexes, because the copy builds new ones. Other dead records keep their slots,
    /// and the pool keeps its next id and its time.
    pub(crate) fn leave_out_dead(&mut self, shown: Timestamp) {
        self.skip_deleted_head();
        self.start_over_if_dead(shown);
        self.all_is_folded();
        let open_first = self.open_segment().map_or(self.next_id, |open| open.first_id);
        if self.live_in(&(open_first..self.next_id)) == 0 {
            // The next segment begins at the next id, with the last time as its base time.
            self.seal_open_segment(self.last_time);
        }
        self.drop_dead_segments();
        self.0.dropped = Arc::default();
        self.forget_tables();
    }

    /// Removes the last segment from the list of dropped ones, because all its rows were removed.
    pub(crate) fn forget_last_dropped(&mut self) {
        Arc::make_mut(&mut self.0.dropped).pop();
    }
}
