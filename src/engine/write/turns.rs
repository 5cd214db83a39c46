//! Pools that need work as time passes, because records expire and claims lapse.
//!
//! Owns: the list of these pools among the loaded ones, and whose turn it is. Each commit looks at the next
//! one. After opening, commits also look at the pools in the file, so that unused pools age, too.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::engine::pool::state::PoolState;
use crate::ids::PoolId;

/// The smallest weight of a pool's turn, in records of a fold.
pub(crate) const TURN_MIN_RECORDS: usize = 16;

/// The loaded pools that age, and the next turn.
#[derive(Debug)]
pub(crate) struct Aging {
    ids: BTreeSet<PoolId>,
    looked_at: PoolId,
    /// The last pool of the file that was looked at; `None` once all of them were.
    pub(crate) visited: Option<PoolId>,
}

impl Default for Aging {
    fn default() -> Self {
        Self { ids: BTreeSet::new(), looked_at: PoolId::new(0), visited: Some(PoolId::new(0)) }
    }
}

impl Aging {
    /// Records that a pool was loaded or its state changed.
    pub(crate) fn set(&mut self, state: &PoolState) {
        if state.policy.retention.is_some() || !state.claims.is_empty() {
            self.ids.insert(state.id);
        } else {
            self.ids.remove(&state.id);
        }
    }

    pub(crate) fn remove(&mut self, id: PoolId) {
        self.ids.remove(&id);
    }

    /// Returns the pool whose turn it is.
    pub(crate) fn next(&mut self) -> Option<PoolId> {
        let behind = (Bound::Excluded(self.looked_at), Bound::Unbounded);
        let next = self.ids.range(behind).next().or_else(|| self.ids.first()).copied()?;
        self.looked_at = next;
        Some(next)
    }
}
