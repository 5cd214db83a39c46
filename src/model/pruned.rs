//! The result of pruning.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// The space that pruning gave back: that of deleted and expired records, and of lapsed claims.
///
/// The file does not get shorter: later writes use the space again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PruneReport {
    /// Segments that were dropped as a whole.
    pub segments: u64,
    /// Dead records that were removed, including those of dropped segments.
    pub records: u64,
    /// The bytes that these records and their results took.
    pub bytes: u64,
    /// Claims that were swept.
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
