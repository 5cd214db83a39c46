//! The result of pruning.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// The space that pruning reclaimed: that of deleted and expired records, and of lapsed claims.
///
/// The file does not shrink, but later writes reuse the space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PruneReport {
    /// The number of segments that were dropped as a whole.
    pub segments: u64,
    /// The number of dead records that were removed, including those in dropped segments.
    pub records: u64,
    /// The number of bytes that these records and their results took.
    pub bytes: u64,
    /// The number of claims that were swept.
    pub claims: u64,
}

impl PruneReport {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for PruneReport {
    fn add_assign(&mut self, other: Self) {
        self.segments += other.segments;
        self.records += other.records;
        self.bytes += other.bytes;
        self.claims += other.claims;
    }
}
