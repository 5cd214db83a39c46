//! The records of all loaded pools that are in no index yet.
//!
//! Owns: [`Unfolded`], the lengths of their active tails, in order. Always holds: the cost of a change to one
//! pool does not grow with the number of pools. Frozen tails do not count, because they are being folded
//! already.

use std::collections::BTreeSet;

use crate::engine::pool::state::PoolState;
use crate::ids::PoolId;

/// The active tails of the loaded pools, by length.
#[derive(Debug, Default)]
pub(crate) struct Unfolded {
    records: usize,
    /// The tails that can be frozen: non-empty tails of pools without a frozen tail.
    tails: BTreeSet<(usize, PoolId)>,
}

impl Unfolded {
    /// Records that the state of a pool was replaced. `None` stands for a pool that is not loaded.
    pub(crate) fn replace(&mut self, before: Option<&PoolState>, after: Option<&PoolState>) {
        if let Some(before) = before {
            self.records -= before.active.len();
            self.tails.remove(&(before.active.len(), before.id));
        }
        if let Some(after) = after {
            self.records += after.active.len();
            if after.frozen.is_none() && !after.active.is_empty() {
                self.tails.insert((after.active.len(), after.id));
            }
        }
    }

    /// Returns the number of records in active tails.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Returns the pool with the longest active tail that can be frozen.
    pub(crate) fn longest(&self) -> Option<PoolId> {
        self.tails.last().map(|(_, id)| *id)
    }
}
