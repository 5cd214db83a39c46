//! The engine: everything that knows redb and the layout of the file.
//!
//! Owns: [`Engine`], one open file. Its folders, from the top down; each uses only those below it:
//!
//! - [`embedded`]: the engine behind the seam, [`crate::backend`].
//! - [`maintain`]: opening, closing, verifying, rebuilding, backup, vacuuming, compacting, statistics.
//! - [`mod@write`]: group commit, decisions, transactions, background work.
//! - [`read`]: snapshots of a pool, and queries on them.
//! - [`pool`]: the state of a pool that is in memory.
//! - [`probe`]: the tables of fingerprints: their membership filters and their cached rows.
//! - [`mod@format`]: the layout of the file.
//! - [`storage`]: the redb database, and the space on the disk.
//!
//! Always holds: readers see changes only after [`Engine::publish`], which runs after redb's commit has
//! returned `Ok`. The snapshot and the pool states that it publishes belong to the same commit.
//!
//! Must not know: the public API, the CSV format.

pub(crate) mod embedded;
pub(crate) mod format;
pub(crate) mod maintain;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod read;
pub(crate) mod storage;
pub(crate) mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use self::format::schema::{Geometry, Tuning};
use self::maintain::opener::Opener;
use self::probe::budget::Budget;
use self::read::published::Published;
use self::storage::poison::Poison;
use self::storage::session::Session;
use self::write::flush_signal::FlushSignal;
use self::write::group::Job;
use self::write::turns::Aging;
use self::write::writer::Writer;
use crate::backend::counters::Counters;
use crate::backend::fingerprint::HashKey;
use crate::backend::queue::Queue;
use crate::backend::waiting::Waiting;
use crate::ids::PoolId;
use crate::options::{Durability, Recovery};
use crate::time::{Clock, LatestTime};

/// One open file.
pub(crate) struct Engine {
    geometry: Geometry,
    tuning: Tuning,
    budget: Arc<Budget>,
    store_id: u128,
    hash_key: HashKey,
    clock: Clock,
    /// The latest time of each pool that was used. The pool's current state has the same time. It is kept
    /// here, too, so that it survives when the file is opened again.
    latest_times: Mutex<HashMap<PoolId, LatestTime>>,
    durability: Durability,
    recovery: Recovery,
    published: RwLock<Published>,
    queue: Queue<Job>,
    writer: Mutex<Writer>,
    aging: Mutex<Aging>,
    poison: Poison,
    /// True if a relaxed commit is not on disk yet.
    unflushed: AtomicBool,
    flush_signal: Arc<FlushSignal>,
    counters: Counters,
    waiting: Arc<Waiting>,
    /// The callback that a manual clock calls when time has passed.
    _watcher: Arc<dyn Fn() + Send + Sync>,
    opener: Opener,
    /// The open file; `None` while the store is closed. It is the last field so that it is dropped after the
    /// snapshots.
    session: RwLock<Option<Session>>,
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

    pub(crate) fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    /// Returns the average number of entries in a row of a table of fingerprints.
    pub(crate) fn row_entries(&self) -> u64 {
        self.tuning.row_entries()
    }
}
