//! A pool's head: its next id, its watermark, its policy.
//!
//! Owns: the table `head`. Always holds: the head's row is the lock of the pool. A writer locks it first, and decides from what
//! it reads after that.

use tokio_postgres::Row;

use super::connection::Step;
use super::values::{Columns, bigint, micros};
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::model::Policy;
use crate::time::Timestamp;

/// Reads the head without locking it.
pub(super) const READ: &str = "SELECT * FROM {s}.head WHERE pool = $1";
const LOCK: &str = "SELECT * FROM {s}.head WHERE pool = $1 FOR UPDATE";
const LOCK_CATALOGUE: &str = "SELECT number FROM {s}.meta WHERE name = 'next pool' FOR UPDATE";
/// The pool whose marks are those of calls that change the catalogue.
pub(super) const CATALOGUE: PoolId = PoolId::new(0);

/// Returns the step that locks a pool.
pub(super) fn lock(pool: PoolId) -> Step {
    Step::Lock(LOCK, vec![Box::new(bigint(pool.get()))])
}

/// Returns the step that locks the catalogue. A transaction that also locks pools locks them first, by ascending id: so a
/// transaction that waits for a pool does not block the catalogue, and transactions never wait for each other in a circle.
pub(super) fn lock_catalogue() -> Step {
    Step::Lock(LOCK_CATALOGUE, Vec::new())
}

#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(super) pool: PoolId,
    pub(super) next_id: RecordNumber,
    /// Records below it are not live.
    pub(super) watermark: RecordNumber,
    /// Rows of records below it were removed.
    pub(super) reclaimed: RecordNumber,
    /// The number of records at or above the watermark. Some may have expired since it was stored.
    pub(super) live: u64,
    pub(super) last_time: Timestamp,
    pub(super) next_claim: u64,
    pub(super) fence: u64,
    pub(super) policy: Policy,
}

impl Head {
    /// # Errors
    ///
    /// `NotFound` if there is no such pool.
    pub(super) fn of(pool: PoolId, rows: &[Row]) -> Result<Self> {
        let Some(row) = rows.first() else { return Err(no_pool(pool)) };
        Ok(Self {
            pool,
            next_id: row.number("next_id")?,
            watermark: row.number("watermark")?,
            reclaimed: row.number("reclaimed")?,
            live: row.number("live")?,
            last_time: row.time("last_time")?,
            next_claim: row.number("next_claim")?,
            fence: row.number("fence")?,
            policy: Policy { retention: row.duration("retention")?, capacity: row.numbered("capacity")? },
        })
    }

    /// Returns the latest creation time of records that have expired at a point of the pool's time.
    pub(super) fn horizon(&self, time: Timestamp) -> Option<Timestamp> {
        time.checked_sub(self.policy.retention?)
    }

    /// Returns the next fencing number. It follows the wall clock, so that it is also higher than
    /// those that were granted before the database was restored from a backup.
    pub(super) fn next_fence(&mut self, now: Timestamp) -> u64 {
        self.fence = self.fence.saturating_add(1).max(u64::try_from(now.as_micros()).unwrap_or(0));
        self.fence
    }

    /// Returns the number of live records over the capacity.
    pub(super) fn excess(&self) -> u64 {
        self.policy.capacity.map_or(0, |capacity| self.live.saturating_sub(capacity))
    }
}

pub(super) fn no_pool(id: PoolId) -> Error {
    Error::not_found(format!("no data pool has the id {id}"))
}

/// Returns the step that stores a head, and moves its watermark over the records above the capacity.
pub(super) fn head_step(head: &mut Head) -> Step {
    let excess = head.excess();
    head.live -= excess;
    let store = "UPDATE {s}.head SET next_id = $2, live = $3, last_time = $4, next_claim = $5, fence = $6, retention = $7, \
                 capacity = $8, watermark = CASE WHEN $10::bigint = 0 THEN $9::bigint ELSE coalesce((SELECT r.id FROM {s}.record r \
                 WHERE r.pool = $1 AND r.id >= $9 ORDER BY r.id OFFSET $10 LIMIT 1), $2) END WHERE pool = $1";
    let capacity = head.policy.capacity.map(bigint);
    Step::Query(
        store.into(),
        vec![
            Box::new(bigint(head.pool.get())),
            Box::new(bigint(head.next_id)),
            Box::new(bigint(head.live)),
            Box::new(head.last_time.as_micros()),
            Box::new(bigint(head.next_claim)),
            Box::new(bigint(head.fence)),
            Box::new(head.policy.retention.map(micros)),
            Box::new(capacity),
            Box::new(bigint(head.watermark)),
            Box::new(bigint(excess)),
        ],
    )
}
