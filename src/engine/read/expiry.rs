//! Finds the first record of a pool that has not expired at a point in time.
//!
//! Ids are in time order, so this is a search over the times of the records. [`crate::engine::pool::expiry`]
//! applies the result to the pool's state.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::read::view::View;
use crate::engine::storage::failure::contained;
use crate::error::Result;
use crate::ids::{PoolId, RecordNumber};
use crate::search;
use crate::time::Timestamp;

impl Engine {
    /// Returns a pool as of the last commit, without the records that have expired by now.
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

    /// Returns a pool as of the last commit, without the records that have expired at a point in time.
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
    /// Returns the watermark at a point in time, if more records have expired by then.
    pub(crate) fn watermark_at(&self, now: Timestamp) -> Result<Option<RecordNumber>> {
        let Some(horizon) = self.state.horizon(now) else { return Ok(None) };
        if self.oldest_time()?.is_none_or(|oldest| oldest > horizon) {
            return Ok(None);
        }
        self.first_after(horizon).map(Some)
    }

    /// Returns the first id at or above the watermark whose record is younger than `time`, or `next_id` if
    /// there is none.
    fn first_after(&self, time: Timestamp) -> Result<RecordNumber> {
        let state = &self.state;
        // The answer is in the last segment that begins no later than `time`, or directly after that segment.
        let begun = state.segments.partition_point(|segment| segment.base_time <= time);
        let Some((index, segment)) =
            begun.checked_sub(1).and_then(|index| Some((index, state.segments.get(index)?)))
        else {
            return Ok(state.watermark);
        };
        let end = state.end_of(index);
        let (mut low, mut step) = (segment.first_id.max(state.watermark), 1);
        // Expiry advances in small steps, so the answer is near.
        let mut high = low;
        while high < end && self.created_at(high)? <= time {
            low = high + 1;
            high = end.min(high.saturating_add(step));
            step *= 2;
        }
        low = search::try_first_that(low..high, |id| Ok(self.created_at(id)? > time))?;
        let next = state.segments.get(index + 1).map_or(state.next_id, |next| next.first_id);
        Ok(if low < end { low } else { next.max(state.watermark) })
    }
}
