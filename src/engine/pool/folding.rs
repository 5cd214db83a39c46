//! The part of a pool's state that folding changes: its tails, and the indexes of its segments.
//!
//! Always holds: every id is either folded (below `folded_to`), in the frozen tail or in the active tail. At
//! most one tail is frozen.

use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::{TailEntry, TailView};

/// Pending work.
impl PoolState {
    /// Returns true if there is background work for commits to do.
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

    /// Freezes the active tail so that it can be folded, and begins a new one. Nothing changes on disk.
    pub(crate) fn freeze(&mut self) {
        let next = self.active.ids().end;
        self.0.frozen = Some(std::mem::replace(&mut self.0.active, TailView::empty(next)));
    }

    /// Ends the fold of the frozen tail, whose entries are now in the indexes.
    pub(crate) fn frozen_is_folded(&mut self) {
        if let Some(frozen) = self.0.frozen.take() {
            self.0.folded_to = frozen.ids().end;
        }
    }

    /// Begins new tails, because every record is folded or dead.
    pub(crate) fn all_is_folded(&mut self) {
        self.0.folded_to = self.next_id;
        self.0.frozen = None;
        self.0.active = TailView::empty(self.next_id);
    }
}
