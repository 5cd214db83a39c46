//! Counts the work of a plan while it runs, for `explain`.

use std::cell::Cell;

/// The counters of one plan. Each counts what was actually read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The number of segments with a chunk that was read.
    pub(super) segments_read: Cell<u64>,
    /// The number of chunks in which every condition occurs. Their posting lists were read, or their records
    /// were found by value.
    pub(super) chunks_read: Cell<u64>,
    /// The number of tail entries examined.
    pub(super) tail_entries: Cell<u64>,
    /// The counters of posting lists, by attribute and list.
    pub(super) lists: Vec<Vec<ListTally>>,
    /// The number of lookups of a value in a table of fingerprints.
    pub(super) value_seeks: Cell<u64>,
    /// The number of lookups that a table's filter avoided.
    pub(super) values_ruled_out: Cell<u64>,
    /// The number of records that were read to compare their value.
    pub(super) records_compared: Cell<u64>,
}

/// The counters of one posting list.
#[derive(Debug, Default)]
pub(super) struct ListTally {
    /// The number of bitmaps that a cursor reached, read or not.
    pub(super) met: Cell<u64>,
    /// The number of these bitmaps that were read.
    pub(super) read: Cell<u64>,
}

/// Adds one to a counter.
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
