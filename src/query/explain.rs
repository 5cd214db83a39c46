//! Reports on how a listing was answered, for people and for tests.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::RecordId;

/// The work of a listing: which index blocks were read, and which were skipped. Returned by
/// [`Pool::explain`](crate::Pool::explain), which runs the query and counts what it does. Prints as a short report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The query, as a query string.
    pub query: String,
    /// The range of ids that the pool's oldest live record and the time filters allow.
    pub ids: Range<RecordId>,
    /// The pool's segments.
    pub segments: Blocks,
    /// The chunks of these segments. A chunk is up to 16,384 records; posting lists are stored by chunk.
    pub chunks: Blocks,
    /// The attributes that posting lists answered, in the order in which they are read: runs, steps, flows, entity
    /// types. The order does not depend on how rare they are: in any order, bitmaps are read only of chunks in which
    /// all of them occur.
    pub attributes: Vec<AttributeUse>,
    /// The number of look-ups in tables of fingerprints: at most one for each table and each pair of a value and an entity type
    /// that the query names; where it names no entity type, or more than 4,096 pairs, one for each table and value.
    pub value_seeks: u64,
    /// Look-ups that a table's membership filter made needless.
    pub value_seeks_saved: u64,
    /// Entries of records that no index has yet. They were looked at in memory.
    pub unindexed: u64,
    /// Records read: those of the page, those compared, and a few to find where a time filter begins or ends.
    pub records_read: u64,
    /// The number of records that were read to compare their values with a filter's.
    pub records_compared: u64,
    /// The number of lookups of registered entries and of the pool's row for the includes: one for each distinct id,
    /// and none if nothing of that kind was ever registered.
    pub includes_read: u64,
    /// The number of records that match the filter.
    pub total: u64,
}

/// Index blocks of one size: `considered` is the sum of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Blocks {
    /// The number of blocks.
    pub considered: u64,
    /// The number of blocks that were skipped: they are outside the range of ids, or some filter does not occur in
    /// them, or they only had to be counted.
    pub skipped: u64,
    /// The number of blocks that were read: chunks in which every filter occurs, and segments with such a chunk.
    pub read: u64,
}

impl Blocks {
    pub(crate) fn new(considered: u64, read: u64) -> Self {
        Self { considered, skipped: considered.saturating_sub(read), read }
    }
}

/// One attribute's filter, as posting lists answered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttributeUse {
    /// The filter: `flow_id`, `flow_run_id`, `step_id` or `entity_type_id`.
    pub filter: String,
    /// Each of its posting lists.
    pub lists: Vec<ListUse>,
}

/// One posting list that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListUse {
    /// The filter's term: the list contains the records of this id.
    pub term: String,
    /// The number of its bitmaps that were read, one for each chunk: at most one for each chunk in which every filter
    /// occurs, and none in a chunk in which the filters before it have no record in common.
    pub bitmaps_read: u64,
    /// The number of further bitmaps that the query passed without reading them.
    pub bitmaps_passed: u64,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "query     {}", if self.query.is_empty() { "(all records)" } else { &self.query })?;
        writeln!(f, "ids       {} to below {}", self.ids.start, self.ids.end)?;
        writeln!(f, "segments  {}", self.segments)?;
        writeln!(f, "chunks    {}", self.chunks)?;
        for attribute in &self.attributes {
            for list in &attribute.lists {
                writeln!(
                    f,
                    "list      {} {}: {} bitmaps read, {} passed",
                    attribute.filter, list.term, list.bitmaps_read, list.bitmaps_passed
                )?;
            }
        }
        if self.value_seeks + self.value_seeks_saved > 0 {
            writeln!(
                f,
                "values    {} seeks, {} saved by membership filters, {} records compared",
                self.value_seeks, self.value_seeks_saved, self.records_compared
            )?;
        }
        writeln!(f, "unindexed {} entries looked at in memory", self.unindexed)?;
        writeln!(f, "records   {} read, {} match", self.records_read, self.total)?;
        write!(f, "includes  {} looked up", self.includes_read)
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} considered, {} skipped, {} read", self.considered, self.skipped, self.read)
    }
}
