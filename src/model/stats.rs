//! Statistics of a store and of a pool.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;
use crate::time::Timestamp;

/// Statistics of one pool, as of one moment. Returned by [`Pool::stats`](crate::Pool::stats).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// The number of live records.
    pub live: u64,
    /// The number of records that have expired by the pool's retention or capacity and whose space is not
    /// reclaimed yet, because their segment has live records. Records that were deleted before are not
    /// counted.
    pub expired: u64,
    /// The number of records in such segments that were deleted by id, value or filter, or replaced by a
    /// record with another version.
    pub deleted: u64,
    /// The number of segments.
    pub segments: u64,
    /// The approximate size of the pool's records, results and indexes in the file, in bytes. It is estimated
    /// from the number of rows and the length of some of them, and is usually accurate to within 20 %.
    pub bytes: u64,
    /// The time of the oldest live record.
    pub oldest: Option<Timestamp>,
    /// The time of the newest live record.
    pub newest: Option<Timestamp>,
    /// The number of seconds by which the pool's time is ahead of the clock: 0 unless the clock was once
    /// ahead. Until the clock has caught up, or the pool has no live record ([`clear`](crate::Pool::clear)),
    /// records get the pool's time and expire by it.
    #[serde(with = "seconds")]
    pub time_ahead: Duration,
    /// The number of claims that [`Pool::claims`](crate::Pool::claims) lists, including lapsed ones: claims
    /// that are not settled and whose lease did not end more than an hour ago.
    pub claims: u64,
    /// The number of records that are held in memory until they are indexed in bulk.
    pub unfolded: u64,
    /// The number of records in each segment, oldest first.
    pub fill: Vec<SegmentFill>,
}

impl PoolStats {
    pub(crate) fn new(live: u64, claims: u64, unfolded: u64) -> Self {
        Self {
            live,
            expired: 0,
            deleted: 0,
            segments: 0,
            bytes: 0,
            oldest: None,
            newest: None,
            time_ahead: Duration::ZERO,
            claims,
            unfolded,
            fill: Vec::new(),
        }
    }
}

/// The number of records in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmentFill {
    /// The segment's number within its pool.
    pub number: u32,
    /// True if the segment is sealed: it takes no more records.
    pub sealed: bool,
    /// The number of records stored in it, including dead ones.
    pub records: u64,
    /// The number of live records in it.
    pub live: u64,
    /// The largest number of records that a segment can have.
    pub slots: u64,
}

impl SegmentFill {
    pub(crate) fn new(number: u32, sealed: bool, records: u64, live: u64, slots: u64) -> Self {
        Self { number, sealed, records, live, slots }
    }
}

/// Statistics of the whole store. Returned by [`DataPoolStore::stats`](crate::DataPoolStore::stats).
///
/// Counters start at 0 when this process opens the store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreStats {
    /// The number of pools in the file.
    pub pools: u64,
    /// The file's length in bytes.
    pub file_size: u64,
    /// An upper bound of the bytes of the file that are cached. Their limit is a quarter of
    /// [`cache_size`](crate::StoreOptions::cache_size).
    pub cache_memory: u64,
    /// The approximate memory use of the indexes of pools in use, in bytes. It consists of the filters and
    /// rows of the value index, whose limit is three quarters of
    /// [`cache_size`](crate::StoreOptions::cache_size), and in addition the tails and deletions.
    pub index_memory: u64,
    /// The age of the oldest open snapshot, backup or verification, in seconds.
    #[serde(serialize_with = "seconds::serialize_some", deserialize_with = "seconds::deserialize_some")]
    pub oldest_snapshot: Option<Duration>,
    /// The number of open snapshots, backups and verifications.
    pub snapshots: u64,
    /// An upper bound of the bytes of the file that cannot be reused until these readers end: the bytes
    /// written since the oldest of them began, or the whole file if records or pools were dropped since then.
    pub held_by_readers: u64,
    /// The number of bytes read from the file since it was opened or reopened.
    pub bytes_read: u64,
    /// The number of bytes written to the file since it was opened or reopened.
    pub bytes_written: u64,
    /// The number of values that were looked up by checks, lookups, deduplications and claims.
    pub checks: u64,
    /// The number of these values that were found.
    pub hits: u64,
    /// The number of commits, including those of folding and pruning.
    pub commits: u64,
    /// The sizes of commit groups.
    pub group_sizes: GroupSizes,
    /// The number of tails that were folded into indexes.
    pub folds: u64,
    /// The number of segments that were sealed.
    pub seals: u64,
    /// The number of segments whose space was reclaimed.
    pub segments_dropped: u64,
}

/// The sizes of commit groups: calls that arrive together share a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupSizes {
    /// The number of groups that were committed.
    pub groups: u64,
    /// The number of calls in these groups.
    pub calls: u64,
    /// The largest number of calls in one group.
    pub largest: u64,
    /// The mean number of calls in a group; 0 if there was none.
    pub mean: f64,
}

impl GroupSizes {
    #[allow(clippy::cast_precision_loss, reason = "a mean of counters far below 2^52")]
    pub(crate) fn new(groups: u64, calls: u64, largest: u64) -> Self {
        let mean = if groups == 0 { 0.0 } else { calls as f64 / groups as f64 };
        Self { groups, calls, largest, mean }
    }
}
