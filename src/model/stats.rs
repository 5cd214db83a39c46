//! What a store and a pool tell of themselves.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::time::Timestamp;

/// Figures of one pool, as of one moment. Made by [`Pool::stats`](crate::Pool::stats).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// Live records.
    pub live: u64,
    /// Records that have left by age or by the pool's capacity, and were not deleted before, in segments that have live ones
    /// beside them, so that their space is not given back yet.
    pub expired: u64,
    /// Records in such segments that were deleted by id, value or filter.
    pub deleted: u64,
    /// Segments.
    pub segments: u64,
    /// About how many bytes of the file the pool's records and indexes take: estimated from the number of rows and from the
    /// length of some of them, mostly within a fifth.
    pub bytes: u64,
    /// The time of the oldest live record.
    pub oldest: Option<Timestamp>,
    /// The time of the newest live record.
    pub newest: Option<Timestamp>,
    /// Seconds by which the pool's time is ahead of the clock: 0 unless the clock was once ahead. Records get that time, and expire
    /// by it, until the clock has caught up, or the pool holds no live record ([`clear`](crate::Pool::clear)).
    #[serde(serialize_with = "in_seconds")]
    pub time_ahead: Duration,
    /// The claims that [`Pool::claims`](crate::Pool::claims) lists: neither settled nor over for more than an hour, lapsed ones
    /// included.
    pub claims: u64,
    /// Records that wait in memory to be indexed in bulk.
    pub unfolded: u64,
    /// Each segment, oldest first.
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

/// The number of records in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SegmentFill {
    /// The segment's number within its pool.
    pub number: u32,
    /// True if the segment is full.
    pub sealed: bool,
    /// Records that are stored in it, dead ones included.
    pub records: u64,
    /// The number of live records in it.
    pub live: u64,
    /// The most records a segment takes.
    pub slots: u64,
}

impl SegmentFill {
    pub(crate) fn new(number: u32, sealed: bool, records: u64, live: u64, slots: u64) -> Self {
        Self { number, sealed, records, live, slots }
    }
}

/// Figures of the whole store. Made by [`DataPoolStore::stats`](crate::DataPoolStore::stats).
///
/// Counters count from the moment the store was opened by this process.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StoreStats {
    /// Pools in the file.
    pub pools: u64,
    /// The file's length in bytes.
    pub file_size: u64,
    /// At most so many bytes of the file are in the cache; its limit is three eighths of
    /// [`cache_size`](crate::StoreOptions::cache_size).
    pub cache_memory: u64,
    /// About how many bytes of memory the indexes of pools in use take: those of values that are asked often, which share
    /// the [`cache_size`](crate::StoreOptions::cache_size), and beyond it tails, membership filters, deletions.
    pub index_memory: u64,
    /// For how long the oldest open snapshot, backup or verification has been open, in seconds.
    #[serde(serialize_with = "as_seconds")]
    pub oldest_snapshot: Option<Duration>,
    /// The number of open ones.
    pub snapshots: u64,
    /// At most so many bytes of the file cannot be used again until they end: what was written since the oldest of them
    /// began, or the whole file once records or pools were dropped since.
    pub held_by_readers: u64,
    /// Bytes read from the file since it was opened, or opened again.
    pub bytes_read: u64,
    /// Bytes written to the file since then.
    pub bytes_written: u64,
    /// Values that were asked for: by checks, look-ups, dedupes and claims.
    pub checks: u64,
    /// The number of values found.
    pub hits: u64,
    /// Commits, those of folding and pruning included.
    pub commits: u64,
    /// The sizes of commit groups.
    pub group_sizes: GroupSizes,
    /// Tails that were folded into indexes.
    pub folds: u64,
    /// Segments that were sealed.
    pub seals: u64,
    /// Segments whose space was given back.
    pub segments_dropped: u64,
}

/// The sizes of commit groups: calls that arrive together share a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GroupSizes {
    /// Groups that were committed.
    pub groups: u64,
    /// Calls that they carried.
    pub calls: u64,
    /// The most calls that one carried.
    pub largest: u64,
    /// Calls to a group; 0 if there was none.
    pub mean: f64,
}

impl GroupSizes {
    #[allow(clippy::cast_precision_loss, reason = "a mean of counters that never come near 2^52")]
    pub(crate) fn new(groups: u64, calls: u64, largest: u64) -> Self {
        let mean = if groups == 0 { 0.0 } else { calls as f64 / groups as f64 };
        Self { groups, calls, largest, mean }
    }
}

/// A duration as a number of seconds.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn in_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    duration.as_secs_f64().serialize(serializer)
}

#[allow(clippy::ref_option, reason = "serde's signature")]
fn as_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}
