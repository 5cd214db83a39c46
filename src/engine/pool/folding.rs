//! The part of a pool's state that folding changes: its tails, and the indexes of its segments.
//!
//! Always holds: every id is folded (below `folded_to`), in the frozen tail or in the active tail; at most one tail is frozen.

use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::{TailEntry, TailView};

/// Work that is left.
impl PoolState {
    /// Returns true if commits have more to do here than what callers ask for.
    pub(crate) fn has_work(&self) -> bool {
        self.frozen.is_some()
            || !self.dropped.is_empty()
            || !self.dropped_tables.is_empty()
            || !self.merging.is_empty()
            || self.first_segment_is_dead()
            || self.first_table_is_dead()
            || self.due_merge().is_some()
    }
}

/// Tails.
impl PoolState {
    /// Adds new records to the active tail.
    pub(crate) fn extend_tail(&mut self, entries: impl Iterator<Item = TailEntry>) {
        self.0.active = self.active.append(entries);
    }

    /// Freezes the active tail, so that it can be folded, and begins a new one. Changes nothing on disk.
    pub(crate) fn freeze(&mut self) {
        let next = self.active.ids().end;
        self.0.frozen = Some(std::mem::replace(&mut self.0.active, TailView::empty(next)));
    }

    /// Ends the fold of the frozen tail, which is in its segment's indexes now.
    pub(crate) fn frozen_is_folded(&mut self) {
        if let Some(frozen) = self.0.frozen.take() {
            self.0.folded_to = frozen.ids().end;
        }
    }

    /// Begins new tails, since every record is folded or dead.
    pub(crate) fn all_is_folded(&mut self) {
        self.0.folded_to = self.next_id;
        self.0.frozen = None;
        self.0.active = TailView::empty(self.next_id);
    }
}
