//! What a plan did, counted as it does it: what `explain` prints.

use std::cell::{Cell, RefCell};

/// Counters of one plan. Each counts what was really read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Segments with a chunk that was read.
    pub(super) segments_read: Cell<u64>,
    /// Chunks that every condition has: their posting lists were read, or records found there by value.
    pub(super) chunks_read: Cell<u64>,
    /// Entries of tails that were looked at.
    pub(super) tail_entries: Cell<u64>,
    /// Rows of posting lists that were read, by condition and posting list.
    pub(super) lists_read: RefCell<Vec<Vec<u64>>>,
    /// Ranges of fingerprints that were sought in a segment.
    pub(super) value_seeks: Cell<u64>,
    /// Seeks that a membership filter made needless.
    pub(super) values_ruled_out: Cell<u64>,
    /// Records that were read to compare their value.
    pub(super) records_compared: Cell<u64>,
}

impl Tally {
    /// Counts a row of a posting list: which condition's, and which of its lists.
    pub(super) fn count_list(&self, condition: usize, list: usize) {
        let mut lists = self.lists_read.borrow_mut();
        if let Some(count) = lists.get_mut(condition).and_then(|lists| lists.get_mut(list)) {
            *count += 1;
        }
    }
}

/// One more.
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
