//! State that only the leading caller of a group uses.

use std::collections::{BTreeSet, HashMap};

use crate::engine::pool::state::PoolState;
use crate::engine::write::append::KnownOrigins;
use crate::engine::write::fold::Fold;
use crate::engine::write::fold::entries::Entries;
use crate::engine::write::log::{Event, log};
use crate::ids::PoolId;

/// State that only the leading caller of a group uses.
#[derive(Default)]
pub(crate) struct Writer {
    pools: HashMap<PoolId, WriterPool>,
    /// Pools with pending work: folds, merges, or rows to remove.
    work: BTreeSet<PoolId>,
    /// The events of the commit that was just published.
    events: Vec<Event>,
}

impl Writer {
    /// Returns what is remembered of a pool.
    pub(crate) fn pool(&mut self, id: PoolId) -> &mut WriterPool {
        self.pools.entry(id).or_default()
    }

    /// Forgets everything after a failure, because it may belong to a transaction that was not committed.
    pub(crate) fn forget(&mut self) {
        self.pools.clear();
    }

    /// Forgets what is remembered of a pool, because it is outdated.
    pub(crate) fn forget_pool(&mut self, id: PoolId) {
        self.pools.remove(&id);
    }

    /// Forgets a pool that was deleted, or whose next caller must get its error.
    pub(crate) fn forget_work(&mut self, id: PoolId) {
        self.forget_pool(id);
        self.work.remove(&id);
    }

    /// Records the current state of a pool.
    pub(crate) fn set_work(&mut self, state: &PoolState) {
        if state.has_work() {
            self.work.insert(state.id);
        } else {
            self.work.remove(&state.id);
        }
    }

    /// Returns the pools with work to do.
    pub(crate) fn pools_with_work(&self) -> impl Iterator<Item = PoolId> {
        self.work.iter().copied()
    }

    /// Queues an event. It is logged once no lock is held that readers need.
    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Logs the queued events.
    pub(crate) fn log_events(&mut self) {
        self.events.drain(..).for_each(|event| log(&event));
    }
}

/// The unfinished background work of a pool, and its known origins. The writer can drop all of it at any
/// time, and then rebuilds it.
#[derive(Debug, Default)]
pub(crate) struct WriterPool {
    pub(crate) fold: Option<Folding>,
    /// The number of entries that may still be merged.
    pub(crate) merge_credit: usize,
    pub(crate) origins: KnownOrigins,
}

/// The fold of a frozen tail.
#[derive(Debug)]
pub(crate) enum Folding {
    /// The entries are being gathered.
    Gathering(Entries),
    Writing(Fold),
}
