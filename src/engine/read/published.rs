//! What readers see.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::pool::state::PoolState;
use crate::engine::pool::unfolded::Unfolded;
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::view::View;
use crate::ids::PoolId;

/// What readers see: all of one commit.
#[derive(Default)]
pub(crate) struct Published {
    /// The snapshot of the last commit, once a reader needed it.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// The pools that were used so far; none for one that was deleted.
    pub(crate) pools: HashMap<PoolId, Option<Arc<PoolState>>>,
    pub(crate) unfolded: Unfolded,
    /// Views of the snapshot, at most [`VIEWS_MAX`].
    pub(crate) views: HashMap<PoolId, Arc<View>>,
}

/// Each commit drops all views: with more of them, a commit after reads of many pools would take long.
pub(crate) const VIEWS_MAX: usize = 1_024;

impl Published {
    /// Makes a state the pool's current one; `None` if the pool was deleted. Returns the state before.
    pub(crate) fn replace(&mut self, id: PoolId, state: Option<Arc<PoolState>>) -> Option<Arc<PoolState>> {
        let after = state.clone();
        let before = self.pools.insert(id, state).flatten();
        self.unfolded.replace(before.as_deref(), after.as_deref());
        before
    }
}
