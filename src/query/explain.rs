//! Reports on how a listing was executed, for people and for tests.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::RecordId;

/// The work of a listing: the numbers of index blocks that were read and skipped. Returned by
/// [`Pool::explain`](crate::Pool::explain), which runs the query and counts what it does. Prints as a short
/// report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The query, as a query string.
    pub query: String,
    /// The range of ids that remains after the pool's oldest live record and the time filters are applied.
    pub ids: Range<RecordId>,
    /// The pool's segments.
    pub segments: Blocks,
    /// The chunks of these segments. A chunk is up to 16,384 records; posting lists are stored by chunk.
    pub chunks: Blocks,
    /// The attributes that posting lists answered, in the order in which they are read: runs, steps, flows,
    /// entity types. The order does not depend on their selectivity, because bitmaps are read only in chunks
    /// in which all of them occur.
    pub attributes: Vec<AttributeUse>,
    /// The number of lookups in tables of fingerprints: at most one for each table and each pair of a value
    /// and an entity type that the query names. If the query names no entity type, or more than 4,096 pairs,
    /// at most one for each table and value.
    pub value_seeks: u64,
    /// The number of lookups that a table's membership filter avoided.
    pub value_seeks_saved: u64,
    /// The number of entries of records that are not in an index yet. They are checked in memory.
    pub unindexed: u64,
    /// The number of records read: those on the page, those whose values were compared, and a few to find
    /// where a time filter begins or ends.
    pub records_read: u64,
    /// The number of records read to compare their values with those of the filter.
    pub records_compared: u64,
    /// The number of lookups of registered entries and of the pool's row for the includes: one for each
    /// distinct id, and none if nothing of that kind was ever registered.
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
    /// The number of blocks skipped: they are outside the range of ids, do not contain some filter's term, or
    /// only had to be counted.
    pub skipped: u64,
    /// The number of blocks read: chunks in which every filter occurs, and segments with such a chunk.
    pub read: u64,
}

impl Blocks {
    pub(crate) fn new(considered: u64, read: u64) -> Self {
        Self { considered, skipped: considered.saturating_sub(read), read }
    }
}

/// The use of posting lists for the filter of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttributeUse {
    /// The filter: `flow_id`, `flow_run_id`, `step_id` or `entity_type_id`.
    pub filter: String,
    /// The posting lists of its terms.
    pub lists: Vec<ListUse>,
}

/// One posting list that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListUse {
    /// The filter's term: the list contains the records of this id.
    pub term: String,
    /// The number of bitmaps read, one per chunk. A bitmap is read only in chunks in which every filter
    /// occurs and the preceding filters have a record in common.
    pub bitmaps_read: u64,
    /// The number of further bitmaps that the query skipped.
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
