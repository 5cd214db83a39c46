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

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use self::format::fingerprint::HashKey;
use self::format::schema::{Geometry, Tuning};
use self::maintain::opener::Opener;
use self::probe::hot::HotBudget;
use self::read::published::Published;
use self::storage::poison::Poison;
use self::storage::session::Session;
use self::write::counters::Counters;
use self::write::flush_signal::FlushSignal;
use self::write::group::Job;
use self::write::queue::Queue;
use self::write::turns::Aging;
use self::write::writer::Writer;
use crate::ids::PoolId;
use crate::options::{Durability, Recovery};
use crate::time::{Clock, LatestTime};

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
    writer: Mutex<Writer>,
    aging: Mutex<Aging>,
    poison: Poison,
    /// A relaxed commit is not on disk yet.
    unflushed: AtomicBool,
    flush_signal: Arc<FlushSignal>,
    counters: Counters,
    opener: Opener,
    /// The open file; none while the store is closed. Last, so that it is closed after the snapshots are gone.
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

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }
}
