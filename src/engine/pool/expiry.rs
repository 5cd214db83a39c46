//! What ends records: the policy, deletions of the oldest ones, clearing.
//!
//! Owns: every change of the watermark, and when a segment is sealed early so that it can be dropped in time. Always holds:
//! ids are in time order, so retention and capacity move the watermark and touch no record; the watermark never moves back;
//! what moved it follows from the records and the policy, so that a plain commit need not store it (see
//! [`PoolState::evict`]).
//!
//! Finding out up to which record a pool has expired takes reading records: [`crate::engine::read::expiry`].

use std::sync::Arc;
use std::time::Duration;

use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::probe::membership::union::UnionFilter;
use crate::ids::RecordId;
use crate::model::Policy;
use crate::search;
use crate::time::{LatestTime, Timestamp};

/// A segment is sealed early when it holds so many parts of what the policy keeps.
const EARLY_SEAL_PARTS: u32 = 8;

/// What is dead.
impl PoolState {
    /// Whether the watermark has passed all records that there are.
    pub(crate) fn is_dead(&self) -> bool {
        let holds_records = self.segments.first().is_some_and(|first| first.first_id < self.next_id);
        holds_records && self.is_empty()
    }

    /// Whether no record is at or above the watermark.
    pub(crate) fn is_empty(&self) -> bool {
        self.watermark >= self.next_id
    }

    /// Whether the watermark has passed a whole segment.
    pub(crate) fn first_segment_is_dead(&self) -> bool {
        self.segments.len() > 1 && self.watermark >= self.end_of(0)
    }

    /// Records of this time and before are expired; none if the pool has no retention.
    pub(crate) fn horizon(&self, now: Timestamp) -> Option<Timestamp> {
        let retention = self.policy.retention?;
        self.pool_time(now).checked_sub(retention)
    }

    /// The first id behind the oldest live records, so many of them.
    pub(crate) fn after_oldest(&self, records: u64) -> RecordId {
        let has_them = |end: RecordId| self.live_in(&(self.watermark..end)) >= records;
        let lowest = self.watermark.saturating_add(records).min(self.next_id);
        // Nothing in between is deleted: nearly always.
        if has_them(lowest) { lowest } else { search::first_that(lowest..self.next_id, has_them) }
    }

    /// The newest live record.
    pub(crate) fn newest_live(&self) -> Option<RecordId> {
        let live = self.live();
        (live > 0).then(|| self.after_oldest(live) - 1)
    }

    /// The number of records that the open segment takes at most, at a point in time: small parts of what the policy keeps, so
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

/// What moves the watermark.
impl PoolState {
    /// Records below `watermark` have died.
    pub(crate) fn expire_to(&mut self, watermark: RecordId) {
        self.0.watermark = self.watermark.max(watermark);
    }

    /// Has the oldest records beyond the capacity leave.
    ///
    /// Only deletions change how many are live below a given `next_id`. So a commit that deletes stores the watermark,
    /// and after any other, doing this again on what was stored leads to the same place.
    pub(crate) fn evict(&mut self) {
        let Some(capacity) = self.policy.capacity else { return };
        let excess = self.live().saturating_sub(capacity);
        if excess > 0 {
            self.0.watermark = self.after_oldest(excess);
        }
    }

    /// The pool has another policy from now on. What it ends is still to be looked for.
    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.0.policy = policy;
    }

    /// Moves the watermark over deleted records that nothing live comes before: they are as dead as those below it.
    pub(crate) fn skip_deleted_head(&mut self) {
        if self.watermark < self.next_id && !self.is_live(self.watermark) {
            let is_before_live = |id: RecordId| self.live_in(&(self.watermark..id + 1)) > 0;
            self.0.watermark = search::first_that(self.watermark..self.next_id, is_before_live);
        }
    }

    /// Every record dies.
    pub(crate) fn clear(&mut self, shown: Timestamp) {
        self.0.watermark = self.next_id;
        self.start_over(shown);
    }

    /// When the last record of a pool has died, all its segments go, and a new one begins; the time of a pool that holds none
    /// goes by the clock again. Returns whether that changes what is stored.
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

    /// Once every record is dead, all segments go, and a new one begins. So does the pool's time, by what the clock shows:
    /// nothing is left that a clock which was ahead has dated.
    fn start_over(&mut self, shown: Timestamp) {
        (self.0.last_time, self.0.latest) = (shown, LatestTime::default());
        let numbers: Vec<_> = self.segments.iter().map(|segment| segment.number).collect();
        let next_number = numbers.iter().max().map_or(0, |number| number + 1);
        Arc::make_mut(&mut self.0.dropped).extend(numbers);
        self.0.segments = Arc::new(vec![SegmentState::open(next_number, None, self.next_id, shown)]);
        self.0.union = UnionFilter::default();
        self.all_is_folded();
    }
}
