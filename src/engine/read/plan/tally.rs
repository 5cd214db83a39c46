//! What a plan did, counted as it does it: what `explain` prints.

use std::cell::Cell;

/// Counters of one plan. Each counts what was really read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Segments with a chunk that was read.
    pub(super) segments_read: Cell<u64>,
    /// Chunks that every condition has: their posting lists were read, or records found there by value.
    pub(super) chunks_read: Cell<u64>,
    /// Entries of tails that were looked at.
    pub(super) tail_entries: Cell<u64>,
    /// Bitmaps of posting lists, by attribute and list.
    pub(super) lists: Vec<Vec<ListTally>>,
    /// Ranges of fingerprints that were sought in a segment.
    pub(super) value_seeks: Cell<u64>,
    /// Seeks that a membership filter made needless.
    pub(super) values_ruled_out: Cell<u64>,
    /// Records that were read to compare their value.
    pub(super) records_compared: Cell<u64>,
}

/// Counters of one posting list.
#[derive(Debug, Default)]
pub(super) struct ListTally {
    /// Bitmaps that a cursor came to, read or not.
    pub(super) met: Cell<u64>,
    /// Those of them that were read.
    pub(super) read: Cell<u64>,
}

/// One more.
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
