//! The current view of a pool, and the snapshot to which it belongs.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::pool::state::PoolState;
use crate::engine::read::load;
use crate::engine::read::published::{Known, Published};
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::view::View;
use crate::engine::storage::failure::contained;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::time::Reading;

impl Engine {
    /// Returns the snapshot of the last commit.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = self.published.read().snapshot() {
            return Ok(Arc::clone(snapshot));
        }
        let mut published = self.published.write();
        self.snapshot_of(&mut published)
    }

    fn snapshot_of(&self, published: &mut Published) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = published.snapshot() {
            return Ok(Arc::clone(snapshot));
        }
        let session = self.session.read();
        let snapshot = Arc::new(Snapshot::open(session.as_ref().ok_or_else(Error::closed)?)?);
        published.set_snapshot(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Returns a pool as of the last commit.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such pool.
    pub(crate) fn committed_view(&self, id: PoolId) -> Result<Arc<View>> {
        if let Some(view) = self.published.read().view(id) {
            return Ok(Arc::clone(view));
        }
        loop {
            let snapshot = {
                let mut published = self.published.write();
                match published.pool(id) {
                    Known::Deleted => return Err(no_pool(id)),
                    Known::Loaded(state) => {
                        let snapshot = self.snapshot_of(&mut published)?;
                        let view = Arc::new(View::new(snapshot, state, self.hash_key.clone()));
                        published.add_view(&view);
                        return Ok(view);
                    }
                    Known::NotLoaded => self.snapshot_of(&mut published)?,
                }
            };
            self.load_pool(id, &snapshot)?;
        }
    }

    /// Caches `later` instead of `before`, unless a commit or another reader has replaced it first.
    pub(crate) fn keep_view(&self, before: &Arc<View>, later: &Arc<View>) {
        // NOTE: the holder of the lock may wait until this view is dropped, so this must not block. Caching
        // it only saves work.
        if let Some(mut published) = self.published.try_write() {
            published.replace_view(before, later);
        }
    }

    /// Returns the state of a pool as of a snapshot, or `None` if there is no such pool.
    pub(crate) fn read_pool(
        &self,
        id: PoolId,
        snapshot: &Arc<Snapshot>,
        now: Reading,
    ) -> Result<Option<PoolState>> {
        load::load(self, snapshot, id, now)
    }

    /// Reads a pool's state from a snapshot and publishes it, unless another thread did so first.
    fn load_pool(&self, id: PoolId, snapshot: &Arc<Snapshot>) -> Result<()> {
        let state = contained("loading a pool", || self.read_pool(id, snapshot, self.clock.read()))?;
        let Some(state) = state else { return Err(no_pool(id)) };
        let mut published = self.published.write();
        if snapshot.is_closed() {
            return Err(Error::closed());
        }
        // NOTE: a commit to a pool loads it first, so while there is no entry, the pool has not changed since
        // the snapshot was taken. A deleted pool leaves an entry.
        if matches!(published.pool(id), Known::NotLoaded) {
            self.aging.lock().set(&state);
            published.replace(id, Some(Arc::new(state)));
        }
        Ok(())
    }
}

pub(crate) fn no_pool(id: PoolId) -> Error {
    Error::not_found(format!("no data pool has the id {id}"))
}
