//! The death of records: by the policy, by deletions at the head of the pool, and by clearing.
//!
//! Owns: every change of the watermark, and the decision to seal a segment early so that it can be dropped in
//! time. Always holds: ids are in time order, so retention and capacity only move the watermark and touch no
//! record. The watermark never moves back. Its moves follow from the records and the policy, so a plain
//! commit need not store it (see [`PoolState::evict`]).
//!
//! Finding the first record that has not expired requires reading: see [`crate::engine::read::expiry`].

use std::sync::Arc;
use std::time::Duration;

use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::ids::RecordNumber;
use crate::model::Policy;
use crate::search;
use crate::time::{LatestTime, Timestamp};

/// A segment is sealed early when it holds this fraction (one part in this many) of what the policy keeps.
const EARLY_SEAL_PARTS: u32 = 8;

/// Dead records.
impl PoolState {
    /// Returns true if the pool holds records and all of them are below the watermark.
    pub(crate) fn is_dead(&self) -> bool {
        let holds_records = self.segments.first().is_some_and(|first| first.first_id < self.next_id);
        holds_records && self.is_empty()
    }

    /// Returns true if no record is at or above the watermark.
    pub(crate) fn is_empty(&self) -> bool {
        self.watermark >= self.next_id
    }

    /// Returns true if the first segment is below the watermark and is not the only segment.
    pub(crate) fn first_segment_is_dead(&self) -> bool {
        self.segments.len() > 1 && self.watermark >= self.end_of(0)
    }

    /// Returns the latest time whose records have expired, or `None` if the pool has no retention.
    pub(crate) fn horizon(&self, now: Timestamp) -> Option<Timestamp> {
        let retention = self.policy.retention?;
        self.pool_time(now).checked_sub(retention)
    }

    /// Returns the first id after this many of the oldest live records.
    pub(crate) fn after_oldest(&self, records: u64) -> RecordNumber {
        let has_them = |end: RecordNumber| self.live_in(&(self.watermark..end)) >= records;
        let lowest = self.watermark.saturating_add(records).min(self.next_id);
        // Nearly always, no record in between is deleted.
        if has_them(lowest) { lowest } else { search::first_that(lowest..self.next_id, has_them) }
    }

    /// Returns the id of the newest live record.
    pub(crate) fn newest_live(&self) -> Option<RecordNumber> {
        let live = self.live();
        (live > 0).then(|| self.after_oldest(live) - 1)
    }

    /// Returns the most records that the open segment may take at a point in time. It is a small part of what
    /// the policy keeps, so that the whole segment dies soon after its first record.
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

/// Moving the watermark.
impl PoolState {
    /// Makes the records below `watermark` dead. The watermark never moves back.
    pub(crate) fn expire_to(&mut self, watermark: RecordNumber) {
        self.0.watermark = self.watermark.max(watermark);
    }

    /// Evicts the oldest records beyond the capacity.
    ///
    /// Only deletions change the number of live records below a given `next_id`, and a commit that deletes
    /// stores the watermark. After any other commit, evicting again from the stored state results in the same
    /// watermark.
    pub(crate) fn evict(&mut self) {
        let Some(capacity) = self.policy.capacity else { return };
        let excess = self.live().saturating_sub(capacity);
        if excess > 0 {
            self.0.watermark = self.after_oldest(excess);
        }
    }

    /// Sets another policy. The caller must still find the records that it expires.
    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.0.policy = policy;
    }

    /// Moves the watermark past deleted records that have no live record before them. They are as dead as
    /// those below it.
    pub(crate) fn skip_deleted_head(&mut self) {
        if self.watermark < self.next_id && !self.is_live(self.watermark) {
            let is_before_live = |id: RecordNumber| self.live_in(&(self.watermark..id + 1)) > 0;
            self.0.watermark = search::first_that(self.watermark..self.next_id, is_before_live);
        }
    }

    /// Makes every record dead.
    pub(crate) fn clear(&mut self, shown: Timestamp) {
        self.0.watermark = self.next_id;
        self.start_over(shown);
    }

    /// Starts over if the last record of the pool has died: drops all segments and opens a new one. The time
    /// of an empty pool follows the clock again. Returns true if that changes what is stored.
    pub(crate) fn start_over_if_dead(&mut self, shown: Timestamp) -> bool {
        if self.is_dead() {
            self.start_over(shown);
            return true;
        }
        let is_ahead = self.is_empty() && self.last_time > shown;
        if self.is_empty() {
            (self.0.last_time, self.0.latest) = (self.last_time.min(shown), LatestTime::default());
        }
        is_ahead
    }

    /// Drops all segments, because every record is dead, and opens a new one. The pool's time becomes the
    /// clock's time, because no record is left that was dated by a clock that was ahead.
    fn start_over(&mut self, shown: Timestamp) {
        (self.0.last_time, self.0.latest) = (shown, LatestTime::default());
        let numbers: Vec<_> = self.segments.iter().map(|segment| segment.number).collect();
        let next_number = numbers.iter().max().map_or(0, |number| number + 1);
        Arc::make_mut(&mut self.0.dropped).extend(numbers);
        self.0.segments = Arc::new(vec![SegmentState::open(next_number, self.next_id, shown)]);
        self.drop_all_tables();
        self.all_is_folded();
    }
}
