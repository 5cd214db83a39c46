//! The state of a segment in memory.

use std::sync::Arc;

use crate::engine::format::schema::{SegmentNumber, Slot};
use crate::engine::pool::liveness::Deleted;
use crate::ids::RecordNumber;
use crate::time::Timestamp;

/// A segment as of one commit.
#[derive(Debug, Clone)]
pub(crate) struct SegmentState {
    pub(crate) number: SegmentNumber,
    pub(crate) first_id: RecordNumber,
    /// The number of records in a sealed segment; 0 while it is open.
    pub(crate) sealed_len: u32,
    /// The base time, to which `created_at` of its records is relative.
    pub(crate) base_time: Timestamp,
    pub(crate) deleted: Arc<Deleted>,
}

impl SegmentState {
    /// Creates an empty open segment.
    pub(crate) fn open(number: SegmentNumber, first_id: RecordNumber, base_time: Timestamp) -> Self {
        Self { number, first_id, sealed_len: 0, base_time, deleted: Arc::default() }
    }

    /// Returns the slot of a record of this segment.
    pub(crate) fn slot(&self, id: RecordNumber) -> Slot {
        u32::try_from(id.saturating_sub(self.first_id)).unwrap_or(u32::MAX)
    }

    pub(crate) fn id(&self, slot: Slot) -> RecordNumber {
        self.first_id + u64::from(slot)
    }
}
