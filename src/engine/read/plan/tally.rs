//! Counts the work of a plan as it is done, for `explain`.

use std::cell::Cell;

/// Counters of one plan. Each counts what was really read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Segments with a chunk that was read.
    pub(super) segments_read: Cell<u64>,
    /// Chunks in which every condition occurs: their posting lists were read, or their records found by value.
    pub(super) chunks_read: Cell<u64>,
    /// Entries of tails that were looked at.
    pub(super) tail_entries: Cell<u64>,
    /// Bitmaps of posting lists, by attribute and list.
    pub(super) lists: Vec<Vec<ListTally>>,
    /// Look-ups of a value in a table of fingerprints.
    pub(super) value_seeks: Cell<u64>,
    /// Those that a table's filter made needless.
    pub(super) values_ruled_out: Cell<u64>,
    /// Records that were read to compare their value.
    pub(super) records_compared: Cell<u64>,
}

/// Counters of one posting list.
#[derive(Debug, Default)]
pub(super) struct ListTally {
    /// Bitmaps at which a cursor arrived, read or not.
    pub(super) met: Cell<u64>,
    /// The bitmaps among these that were read.
    pub(super) read: Cell<u64>,
}

/// Adds one to a counter.
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
