//! The machine: everything that knows redb and the layout of the file.
//!
//! Owns: [`Engine`], one open file. Its folders, from the top down; each uses only those below it:
//!
//! - [`maintain`]: opening, closing, checking, mending, copying, compacting, figures.
//! - [`write`]: who is next, what changes, how it gets on disk, and what is done behind it.
//! - [`read`]: a pool as of one commit, and what is asked of it.
//! - [`pool`]: a pool in memory.
//! - [`probe`]: what memory knows about a fingerprint.
//! - [`format`]: what is on disk.
//! - [`storage`]: redb's handle.
//!
//! Always holds: what readers see changes only in [`Engine::publish`], after redb's commit returned Ok; the snapshot that is
//! handed out and the states of the pools are of the same commit.
//!
//! Must not know: the public face, the CSV format.

pub(crate) mod format;
pub(crate) mod maintain;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod read;
pub(crate) mod storage;
pub(crate) mod write;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

pub(crate) use format::fingerprint::HashKey;
pub(crate) use maintain::open::{Place, random_bytes};
pub(crate) use storage::session::{Reader, ReaderKind};
pub(crate) use write::commit::Group;
pub(crate) use write::counters::Counters;
pub(crate) use write::flusher::Flusher;
pub(crate) use write::import::{ImportRow, Present, RowSource};
pub(crate) use write::queue::Weight;

use self::format::schema::{Geometry, Tuning};
use self::maintain::open::Opener;
use self::pool::state::PoolState;
use self::pool::unfolded::Unfolded;
use self::probe::hot::HotBudget;
use self::read::view::{Snapshot, View};
use self::storage::database::closed;
use self::storage::failure::contained;
use self::storage::poison::Refusal;
use self::storage::session::Session;
use self::write::aging::Aging;
use self::write::apply::WriterPool;
use self::write::commit::Job;
use self::write::flusher::FlushSignal;
use self::write::log::Event;
use self::write::queue::Queue;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::options::{Durability, Recovery};
use crate::time::{Clock, LatestTime, Reading};

/// One open file.
pub(crate) struct Engine {
    geometry: Geometry,
    tuning: Tuning,
    hot_budget: Arc<HotBudget>,
    store_id: u128,
    hash_key: HashKey,
    clock: Clock,
    /// Those of the pools that were loaded before the file was opened again.
    latest_times: Mutex<HashMap<PoolId, LatestTime>>,
    durability: Durability,
    recovery: Recovery,
    published: RwLock<Published>,
    queue: Queue<Job>,
    writer: Mutex<WriterCore>,
    aging: Mutex<Aging>,
    refusal: Refusal,
    /// A relaxed commit is not on disk yet.
    unflushed: AtomicBool,
    flush_signal: Arc<FlushSignal>,
    counters: Counters,
    opener: Opener,
    /// The open file; none while the store is closed. Last, so that it is closed after the snapshots are gone.
    session: RwLock<Option<Session>>,
}

/// What readers see: all of one commit.
#[derive(Default)]
pub(crate) struct Published {
    /// The snapshot of the last commit, once a reader needed it.
    snapshot: Option<Arc<Snapshot>>,
    /// The pools that were used so far; none for one that was deleted.
    pools: HashMap<PoolId, Option<Arc<PoolState>>>,
    unfolded: Unfolded,
    /// Views of the snapshot, at most [`VIEWS_MAX`].
    views: HashMap<PoolId, Arc<View>>,
}

/// Each commit drops all views: with more of them, a commit after reads of many pools would take long.
const VIEWS_MAX: usize = 1_024;

impl Published {
    /// Makes a state the pool's current one; `None` if the pool was deleted. Returns the state before.
    fn replace(&mut self, id: PoolId, state: Option<Arc<PoolState>>) -> Option<Arc<PoolState>> {
        let after = state.clone();
        let before = self.pools.insert(id, state).flatten();
        self.unfolded.replace(before.as_deref(), after.as_deref());
        before
    }
}

/// What only the caller that leads a group touches.
#[derive(Default)]
pub(crate) struct WriterCore {
    pools: HashMap<PoolId, WriterPool>,
    /// Pools with folds to finish, filters to build, segments to drop.
    work: BTreeSet<PoolId>,
    /// What the commit that was just published did.
    events: Vec<Event>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn store_id(&self) -> u128 {
        self.store_id
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    /// The snapshot of the last commit.
    fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = &self.published.read().snapshot {
            return Ok(Arc::clone(snapshot));
        }
        let mut published = self.published.write();
        self.snapshot_of(&mut published)
    }

    fn snapshot_of(&self, published: &mut Published) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = &published.snapshot {
            return Ok(Arc::clone(snapshot));
        }
        let session = self.session.read();
        let snapshot = Arc::new(Snapshot::open(session.as_ref().ok_or_else(closed)?)?);
        published.snapshot = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// A pool as of the last commit.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such pool.
    fn committed_view(&self, id: PoolId) -> Result<Arc<View>> {
        if let Some(view) = self.published.read().views.get(&id) {
            return Ok(Arc::clone(view));
        }
        loop {
            let snapshot = {
                let mut published = self.published.write();
                match published.pools.get(&id).cloned() {
                    Some(None) => return Err(no_pool(id)),
                    Some(Some(state)) => {
                        let snapshot = self.snapshot_of(&mut published)?;
                        let view = Arc::new(View::new(snapshot, state, self.hash_key.clone()));
                        if published.views.len() >= VIEWS_MAX {
                            published.views.clear();
                        }
                        published.views.insert(id, Arc::clone(&view));
                        return Ok(view);
                    }
                    None => self.snapshot_of(&mut published)?,
                }
            };
            self.load_pool(id, &snapshot)?;
        }
    }

    /// Hands out `later` from now on, unless a commit or another reader was faster.
    fn keep_view(&self, before: &Arc<View>, later: &Arc<View>) {
        // NOTE: who holds the lock may wait for this view to be dropped; it only saves others some work.
        let Some(mut published) = self.published.try_write() else { return };
        if let Some(current) = published.views.get_mut(&later.state.id)
            && Arc::ptr_eq(current, before)
        {
            *current = Arc::clone(later);
        }
    }

    /// A pool's state as a snapshot has it; none if there is no such pool.
    fn read_pool(&self, id: PoolId, snapshot: &Arc<Snapshot>, now: Reading) -> Result<Option<PoolState>> {
        self::read::load::load(self, snapshot, id, now)
    }

    /// Reads a pool's state from a snapshot and remembers it, unless another thread was faster.
    fn load_pool(&self, id: PoolId, snapshot: &Arc<Snapshot>) -> Result<()> {
        let state = contained("loading a pool", || self.read_pool(id, snapshot, self.clock.read()))?;
        let Some(state) = state else { return Err(no_pool(id)) };
        let mut published = self.published.write();
        if snapshot.is_closed() {
            return Err(closed());
        }
        // NOTE: a commit to a pool loads it first, so while there is no entry the pool has not changed since the
        // snapshot was taken; and a deleted pool leaves an entry.
        if !published.pools.contains_key(&id) {
            self.aging.lock().set(&state);
            published.replace(id, Some(Arc::new(state)));
        }
        Ok(())
    }
}

fn no_pool(id: PoolId) -> Error {
    Error::not_found(format!("no data pool has the id {id}"))
}
