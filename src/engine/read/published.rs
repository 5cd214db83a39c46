//! The data that readers see.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::pool::state::PoolState;
use crate::engine::pool::unfolded::Unfolded;
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::view::View;
use crate::ids::PoolId;

/// The data that readers see, all of one commit.
#[derive(Default)]
pub(crate) struct Published {
    /// The snapshot of the last commit, if a reader has needed it.
    snapshot: Option<Arc<Snapshot>>,
    /// The pools used so far; `None` for a deleted pool.
    pools: HashMap<PoolId, Option<Arc<PoolState>>>,
    unfolded: Unfolded,
    /// Views of the snapshot, at most [`VIEWS_MAX`].
    views: HashMap<PoolId, Arc<View>>,
}

/// The largest number of cached views. Each commit drops all views, so with more of them a commit that
/// follows reads of many pools would take long.
const VIEWS_MAX: usize = 1_024;

/// The snapshot and views of one commit that were given to readers. Dropping the last reference closes them,
/// which must happen while no lock is held.
#[derive(Default)]
#[must_use]
pub(crate) struct HandedOut {
    _snapshot: Option<Arc<Snapshot>>,
    _views: HashMap<PoolId, Arc<View>>,
}

/// The knowledge that readers have of a pool.
pub(crate) enum Known {
    Loaded(Arc<PoolState>),
    /// The pool was deleted.
    Deleted,
    NotLoaded,
}

impl Published {
    pub(crate) fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// Stores the snapshot of the last commit, which a reader has opened.
    pub(crate) fn set_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = Some(snapshot);
    }

    pub(crate) fn pool(&self, id: PoolId) -> Known {
        match self.pools.get(&id) {
            Some(Some(state)) => Known::Loaded(Arc::clone(state)),
            Some(None) => Known::Deleted,
            None => Known::NotLoaded,
        }
    }

    /// Returns the state of a pool if it is loaded.
    pub(crate) fn loaded(&self, id: PoolId) -> Option<&Arc<PoolState>> {
        self.pools.get(&id)?.as_ref()
    }

    /// Iterates over the states of all loaded pools.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Arc<PoolState>> {
        self.pools.values().flatten()
    }

    /// Sets the current state of a pool; `None` if the pool was deleted.
    pub(crate) fn replace(&mut self, id: PoolId, state: Option<Arc<PoolState>>) {
        let after = state.clone();
        let before = self.pools.insert(id, state).flatten();
        self.unfolded.replace(before.as_deref(), after.as_deref());
    }

    /// Returns the pool with the longest active tail that can be frozen, if all active tails together have
    /// more than `max` records.
    pub(crate) fn longest_tail(&self, max: usize) -> Option<&Arc<PoolState>> {
        let longest = (self.unfolded.records() > max).then(|| self.unfolded.longest()).flatten();
        longest.and_then(|id| self.loaded(id))
    }

    pub(crate) fn view(&self, id: PoolId) -> Option<&Arc<View>> {
        self.views.get(&id)
    }

    /// Caches a view for the next readers.
    pub(crate) fn add_view(&mut self, view: &Arc<View>) {
        if self.views.len() >= VIEWS_MAX {
            self.views.clear();
        }
        self.views.insert(view.state.id, Arc::clone(view));
    }

    /// Replaces the cached view `before` with `later`, if `before` is still the cached one.
    pub(crate) fn replace_view(&mut self, before: &Arc<View>, later: &Arc<View>) {
        if let Some(current) = self.views.get_mut(&later.state.id).filter(|view| Arc::ptr_eq(view, before)) {
            *current = Arc::clone(later);
        }
    }

    /// Takes back the snapshot and views, because they belong to an earlier commit or must not be given out
    /// any more.
    pub(crate) fn take_handed_out(&mut self) -> HandedOut {
        HandedOut { _snapshot: self.snapshot.take(), _views: std::mem::take(&mut self.views) }
    }
}
