//! What a pool's policy ends: records that are too old, and those beyond its capacity.
//!
//! Owns: where the watermark stands at a point in time, and when a segment is sealed early so that it can be dropped
//! in time. Always holds: ids are in time order, so both limits move the watermark and touch no record; what moved it
//! follows from the records and the policy, so that a plain commit need not store it (see [`PoolState::evict`]).

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::pool::state::PoolState;
use crate::engine::read::view::View;
use crate::engine::storage::failure::contained;
use crate::error::Result;
use crate::ids::{PoolId, RecordId};
use crate::time::Timestamp;

/// A segment is sealed early when it holds so many parts of what the policy keeps.
const EARLY_SEAL_PARTS: u32 = 8;

impl Engine {
    /// A pool as of the last commit, less what has expired by now.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such pool.
    pub(crate) fn view(&self, id: PoolId) -> Result<Arc<View>> {
        let view = self.committed_view(id)?;
        if view.state.policy.retention.is_none() {
            return Ok(view);
        }
        self.expire(view, self.clock.now())
    }

    /// A pool as of the last commit, less what has expired at a point in time.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such pool.
    pub(crate) fn view_at(&self, id: PoolId, now: Timestamp) -> Result<Arc<View>> {
        self.expire(self.committed_view(id)?, now)
    }

    fn expire(&self, view: Arc<View>, now: Timestamp) -> Result<Arc<View>> {
        let Some(watermark) = contained("looking for expired records", || view.watermark_at(now))? else {
            return Ok(view);
        };
        let later = Arc::new(view.with_watermark(watermark));
        self.keep_view(&view, &later);
        Ok(later)
    }
}

impl View {
    /// Where the watermark stands at a point in time, if further records have expired by then.
    pub(crate) fn watermark_at(&self, now: Timestamp) -> Result<Option<RecordId>> {
        let Some(horizon) = self.state.horizon(now) else { return Ok(None) };
        if self.oldest_time()?.is_none_or(|oldest| oldest > horizon) {
            return Ok(None);
        }
        self.first_after(horizon).map(Some)
    }

    /// The first id at or above the watermark whose record is younger than `time`; `next_id` if there is none.
    fn first_after(&self, time: Timestamp) -> Result<RecordId> {
        let state = &self.state;
        // The last segment that begins no later than `time` holds the answer, or ends before it.
        let begun = state.segments.partition_point(|segment| segment.base_time <= time);
        let Some((index, segment)) =
            begun.checked_sub(1).and_then(|index| Some((index, state.segments.get(index)?)))
        else {
            return Ok(state.watermark);
        };
        let end = state.end_of(index);
        let (mut low, mut step) = (segment.first_id.max(state.watermark), 1);
        // Expiry moves in small steps: the answer is near.
        let mut high = low;
        while high < end && self.created_at(high)? <= time {
            low = high + 1;
            high = end.min(high.saturating_add(step));
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.created_at(middle)? <= time { low = middle + 1 } else { high = middle }
        }
        let next = state.segments.get(index + 1).map_or(state.next_id, |next| next.first_id);
        Ok(if low < end { low } else { next.max(state.watermark) })
    }
}

impl PoolState {
    /// Records of this time and before are expired; none if the pool has no retention.
    pub(crate) fn horizon(&self, now: Timestamp) -> Option<Timestamp> {
        let retention = self.policy.retention?;
        self.pool_time(now).checked_sub(retention)
    }

    /// Has the oldest records beyond the capacity leave.
    ///
    /// Only deletions change how many are live below a given `next_id`. So a commit that deletes stores the watermark,
    /// and after any other, doing this again on what was stored leads to the same place.
    pub(crate) fn evict(&mut self) {
        let Some(capacity) = self.policy.capacity else { return };
        let excess = self.live().saturating_sub(capacity);
        if excess > 0 {
            self.watermark = self.after_oldest(excess);
        }
    }

    /// How many records the open segment takes at most, at a point in time: small parts of what the policy keeps, so
    /// that a whole segment dies soon after its first record.
    pub(crate) fn open_segment_slots(&self, time: Timestamp) -> u32 {
        let (all, early) =
            (self.geometry.segment_slots, self.early_seal_slots.min(self.geometry.segment_slots));
        let base_time = self.open_segment().map_or(time, |open| open.base_time);
        let is_long = |retention: Duration| time.since(base_time) >= retention / EARLY_SEAL_PARTS;
        if self.policy.retention.is_some_and(is_long) {
            return early;
        }
        let part = |capacity: u64| u32::try_from(capacity / u64::from(EARLY_SEAL_PARTS)).unwrap_or(u32::MAX);
        self.policy.capacity.map_or(all, |capacity| part(capacity).clamp(early, all))
    }
}
