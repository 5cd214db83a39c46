//! The engine over PostgreSQL, and over what distributes it.
//!
//! Owns: [`Postgres`], one open store in one schema of a database. Its parts, from the top down:
//!
//! - [`catalog`]: pools; [`registry`]: what is registered; [`operate`]: statistics, verifying, pruning; [`import`].
//! - [`mod@write`]: a group of operations as one transaction that is executed once; [`alone`]: operations that share theirs with
//!   no other; [`draft`]: deciding.
//! - [`mod@read`] and [`claims`]: a pool as of one moment; [`filter`]: filters as SQL.
//! - [`head`]: a pool's row, which is its lock; [`schema`]: the tables; [`values`]: columns; [`connection`] and [`tls`].
//!
//! Always holds: verdicts are decided after the pool was locked, by what is read then. Statements that touch records are about
//! one pool, so that Citus sends them to one node.

mod alone;
mod catalog;
mod claims;
mod connection;
mod draft;
mod filter;
mod head;
mod import;
mod operate;
mod read;
mod registry;
mod schema;
mod tls;
mod values;
mod write;

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_postgres::{Config, Row};

use self::connection::{Connections, Failure};
use self::read::{Opened, PoolReading};
use self::schema::Missing;
use self::values::Columns;
use self::write::Job;
use crate::backend::batch::Batch;
use crate::backend::claims::{Held, StoredClaim};
use crate::backend::counters::Counters;
use crate::backend::fingerprint::HashKey;
use crate::backend::import::{BulkReport, Present, RowSource};
use crate::backend::operation::{Answer, Entry, Firsts, Request};
use crate::backend::queue::Queue;
use crate::backend::waiting::Waiting;
use crate::backend::{Backend, InFlight, Observer, OpenReader, Reading};
use crate::dedupe::{Mode, Verdicts};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::model::{
    BackupReport, ClaimInfo, CompactReport, DataPool, NewPool, PoolStats, PoolUpdate, PruneReport,
    RebuildReport, RegisteredEntry, RegisteredKind, StoreStats, VacuumReport, VerifyReport, WaitOutcome,
};
use crate::options::{Access, IfMissing, StoreOptions};
use crate::query::RecordFilter;
use crate::random::random_bytes;
use crate::time::{LatestTime, ManualClock, Timestamp};

/// The most connections that the calls of a process use at a time.
const CONNECTIONS: usize = 8;
/// The time for which a call that has lost its connection is tried again.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// One open store.
pub(crate) struct Postgres {
    /// This store, for readings that outlive a call.
    own: Weak<Postgres>,
    connections: Connections,
    store_id: u128,
    hash_key: HashKey,
    clock: Option<ManualClock>,
    access: Access,
    retry_for: Duration,
    counters: Counters,
    waiting: Arc<Waiting>,
    /// The callers in line of each pool.
    queues: Mutex<HashMap<PoolId, Arc<Queue<Job>>>>,
    latest: LatestTimes,
    /// The number by which the server knows this process's transactions.
    session: u128,
    calls: AtomicI64,
    /// The number of times that the store was closed.
    closes: AtomicU64,
}

/// The latest time of each pool that this process has answered by.
#[derive(Debug, Default)]
struct LatestTimes(Mutex<HashMap<PoolId, LatestTime>>);

impl LatestTimes {
    /// Moves a pool's time on to `now`, and returns the latest one.
    fn reach(&self, pool: PoolId, now: Timestamp) -> Timestamp {
        self.0.lock().entry(pool).or_default().reach(now)
    }

    fn forget(&self, pool: PoolId) {
        self.0.lock().remove(&pool);
    }

    fn pools(&self) -> Vec<PoolId> {
        self.0.lock().keys().copied().collect()
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// The error for what this engine cannot do.
fn unsupported(what: &str) -> Error {
    let text = format!(
        "{what} is for stores in a file; a store over PostgreSQL is operated with the server's own means"
    );
    Error::new(ErrorKind::Unsupported, text)
}

impl Postgres {
    /// Connects to the store that a URL names, and makes its tables if there are none.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a bad URL; the errors of [`StoreOptions::connect`].
    pub(crate) fn connect(url: &str, options: &StoreOptions) -> Result<Arc<Self>> {
        let config = Config::from_str(url).map_err(|error| {
            let text = format!(
                "the URL of the server cannot be read: {error}; it looks like postgresql://user@host/database"
            );
            Error::invalid_argument(text).with_source(error)
        })?;
        check_schema(&options.schema)?;
        let connections = Connections::new(config, tls::tls()?, &options.schema, CONNECTIONS)?;
        let missing = match (options.if_missing, options.access) {
            (IfMissing::Create, Access::ReadWrite) => Missing::Create { hash_key: options.hash_key },
            _ => Missing::Fail,
        };
        let meta =
            connections.with(|connection| schema::open(connection, missing)).map_err(Failure::into_error)?;
        let session = u128::from_be_bytes(random_bytes()?);
        Ok(Arc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            connections,
            store_id: meta.store_id,
            hash_key: HashKey::new(meta.hash_key),
            clock: options.clock.clone(),
            access: options.access,
            retry_for: RETRY_FOR,
            counters: Counters::default(),
            waiting: Arc::default(),
            queues: Mutex::default(),
            latest: LatestTimes::default(),
            session,
            calls: AtomicI64::new(1),
            closes: AtomicU64::new(0),
        }))
    }

    fn own(&self) -> Result<Arc<Self>> {
        self.own.upgrade().ok_or_else(Error::closed)
    }

    fn next_call(&self) -> i64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn closes(&self) -> u64 {
        self.closes.load(Ordering::SeqCst)
    }

    fn manual_now(&self) -> Option<Timestamp> {
        self.clock.as_ref().map(ManualClock::now)
    }

    /// Returns the time of a manual clock, or that of the server's clock, which was asked by [`write::CLOCK`].
    fn now_by(&self, clock: &[Row]) -> Result<Timestamp> {
        match (self.manual_now(), clock.first()) {
            (Some(now), _) => Ok(now),
            (None, Some(row)) => row.time("now"),
            (None, None) => Err(Error::storage("the server's clock gave no answer")),
        }
    }

    fn check_writable(&self) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => {
                let text =
                    "the store is open for reading only: open it with `Access::ReadWrite` to write to it";
                Err(Error::new(ErrorKind::ReadOnly, text))
            }
        }
    }

    fn opened(&self) -> Result<Box<dyn OpenReader>> {
        if self.connections.is_closed() {
            return Err(Error::closed());
        }
        Ok(Box::new(Opened { store: self.own()?, closes: self.closes() }))
    }
}

/// The name goes into statements as it is.
fn check_schema(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if begins_well && name.len() <= 63 && name.bytes().all(is_plain) {
        return Ok(());
    }
    let text = format!(
        "{name:?} is not a name for the store's schema; allowed are 1 to 63 lower-case letters, digits and underscores, not a digit first"
    );
    Err(Error::invalid_argument(text).with_parameter("schema"))
}

impl Backend for Postgres {
    fn store_id(&self) -> u128 {
        self.store_id
    }

    fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    fn now(&self) -> Result<Timestamp> {
        self.read(|connection| {
            let clock = connection.query(write::CLOCK, Vec::new())?;
            Ok(self.now_by(&clock)?)
        })
    }

    fn create_pool(&self, new: &NewPool) -> Result<DataPool> {
        self.make_pool(new)
    }

    fn update_pool(&self, id: PoolId, update: &PoolUpdate) -> Result<DataPool> {
        self.change_pool(id, update)
    }

    fn delete_pool(&self, id: PoolId) -> Result<()> {
        self.remove_pool(id)
    }

    fn pool_id(&self, name: &str) -> Result<Option<PoolId>> {
        self.id_of_pool(name)
    }

    fn pool_row(&self, id: PoolId) -> Result<DataPool> {
        self.row_of_pool(id)
    }

    fn pool_rows(&self) -> Result<Vec<DataPool>> {
        self.rows_of_pools()
    }

    fn check_may_write(&self) -> Result<()> {
        self.check_writable()
    }

    fn submit(&self, request: Request) -> Result<Answer> {
        self.check_writable()?;
        self.submit_request(request)
    }

    fn submit_all(&self, entries: Vec<Entry>) {
        match self.check_writable() {
            Ok(()) => self.submit_entries(entries),
            Err(refused) => entries.into_iter().for_each(|entry| (entry.deliver)(Err(refused.clone()))),
        }
    }

    fn decide(&self, pool: PoolId, mode: Mode, batch: Batch, firsts: Firsts) -> Result<Verdicts> {
        self.decide_only(pool, mode, batch, firsts)
    }

    fn delete_in_all(&self, filter: &RecordFilter) -> Result<u64> {
        self.delete_everywhere(filter)
    }

    fn import(
        &self,
        pool: PoolId,
        source: &mut (dyn RowSource + Send),
        present: Present,
    ) -> Result<BulkReport> {
        self.import_rows(pool, source, present)
    }

    fn prune(&self, pool: PoolId) -> Result<PruneReport> {
        self.prune_pool(pool)
    }

    fn reading(&self, pool: PoolId) -> Result<Arc<dyn Reading>> {
        Ok(Arc::new(PoolReading::new(self.own()?, pool)))
    }

    fn open_scan(&self) -> Result<Box<dyn OpenReader>> {
        self.opened()
    }

    fn open_snapshot(&self, pool: PoolId) -> Result<(Arc<dyn Reading>, Box<dyn OpenReader>)> {
        let opened = self.opened()?;
        Ok((Arc::new(PoolReading::snapshot(self.own()?, pool)?), opened))
    }

    fn claims(&self, pool: PoolId) -> Result<Vec<ClaimInfo>> {
        self.list_claims(pool)
    }

    fn stored_claim(&self, pool: PoolId, held: Held) -> Result<Option<StoredClaim>> {
        self.claim_as_stored(pool, held)
    }

    fn first_in_flight(&self, pool: PoolId, batch: &Batch, from: usize) -> Result<Option<InFlight>> {
        self.find_in_flight(pool, batch, from)
    }

    fn wait_outcomes(&self, pool: PoolId, batch: &Batch) -> Result<Vec<WaitOutcome>> {
        self.outcomes_of_waiting(pool, batch)
    }

    fn pool_stats(&self, pool: PoolId) -> Result<PoolStats> {
        self.stats_of_pool(pool)
    }

    fn put_registered(&self, kind: RegisteredKind, entries: Vec<RegisteredEntry>) -> Result<()> {
        self.register(kind, entries)
    }

    fn delete_registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<bool> {
        self.forget_registered(kind, key)
    }

    fn delete_registered_before(&self, kind: RegisteredKind, time: Timestamp) -> Result<u64> {
        self.forget_registered_before(kind, time)
    }

    fn registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<Option<RegisteredEntry>> {
        self.read_registered(kind, key)
    }

    fn registered_after(
        &self,
        kind: RegisteredKind,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<RegisteredEntry>> {
        self.read_registered_after(kind, after, limit)
    }

    fn stats(&self) -> Result<StoreStats> {
        self.stats_of_store()
    }

    fn verify(&self, observer: Observer<'_>) -> Result<VerifyReport> {
        self.verify_store(observer)
    }

    fn rebuild_indexes(&self) -> Result<RebuildReport> {
        Err(unsupported("rebuilding indexes"))
    }

    fn backup(&self, _: &Path, _: Observer<'_>) -> Result<BackupReport> {
        Err(unsupported("a backup to a file"))
    }

    fn compact(&self) -> Result<CompactReport> {
        Err(unsupported("compacting"))
    }

    fn vacuum(&self, _: Observer<'_>) -> Result<VacuumReport> {
        Err(unsupported("vacuuming"))
    }

    fn flush(&self) -> Result<()> {
        // What returned was committed. Nothing waits.
        if self.connections.is_closed() { Err(Error::closed()) } else { Ok(()) }
    }

    fn close(&self) -> Result<()> {
        if !self.connections.is_closed() {
            self.store_expiry();
            self.connections.close();
            self.closes.fetch_add(1, Ordering::SeqCst);
            self.waiting.wake_all();
            self.waiting.notify();
        }
        Ok(())
    }

    fn reopen(&self) -> Result<()> {
        self.close()?;
        self.connections.reopen();
        // A server that is not there is known now rather than later.
        self.connections
            .with(|connection| connection.query("SELECT 1", Vec::new()))
            .map_err(Failure::into_error)?;
        Ok(())
    }

    fn finish(&self) {
        self.store_expiry();
    }
}
