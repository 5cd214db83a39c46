//! The engine: everything that knows redb and the layout of the file.
//!
//! Owns: [`Engine`], one open file. Its folders, from the top down; each uses only those below it:
//!
//! - [`embedded`]: the engine behind the seam, [`crate::backend`].
//! - [`maintain`]: opening, closing, verifying, rebuilding, backup, vacuuming, compacting, statistics.
//! - [`mod@write`]: group commit, decisions, transactions, background work.
//! - [`read`]: a pool as of one commit, and queries on it.
//! - [`pool`]: a pool in memory.
//! - [`probe`]: tables of fingerprints: their filters, and the rows of them that are in memory.
//! - [`mod@format`]: the layout of the file.
//! - [`storage`]: redb's handle, and the room on the disk.
//!
//! Always holds: what readers see changes only in [`Engine::publish`], after redb's commit has returned `Ok`. The
//! snapshot and the pool states that are handed out are of the same commit.
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
    /// The latest time of each pool that was used. It is that of the pool's current state, and outlives it when the file is
    /// opened again.
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
    /// A manual clock calls it when time has passed.
    _watcher: Arc<dyn Fn() + Send + Sync>,
    opener: Opener,
    /// The open file; `None` while the store is closed. It is the last field, so that it is closed after the snapshots
    /// are gone.
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

    /// The number of entries that a row of a table of fingerprints has on average.
    pub(crate) fn row_entries(&self) -> u64 {
        self.tuning.row_entries()
    }
}
