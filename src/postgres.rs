//! The engine over PostgreSQL and Citus.
//!
//! Owns: the calls of the backend trait, each a few lines over the parts. From the top down:
//!
//! - [`catalog`]: pools; [`leftovers`]: rows of deleted pools; [`registry`]: registered names; [`operate`]: statistics, verifying,
//!   pruning; [`import`].
//! - [`group`]: group commit, over [`lookup`], reading for a group; [`draft`], deciding; and [`mod@write`], writing. [`alone`]:
//!   operations that share their transaction with no other. [`reclaim`]: removing dead rows.
//! - [`transaction`]: transactions that are executed once; [`marks`]: how they know; [`isolation`]: how they begin.
//! - [`mod@read`] and [`claims`]: a pool as of one moment; [`filter`]: filters as SQL.
//! - [`store`]: what the calls share; [`job`]: what callers submit; [`listener`] and [`listen`]: waking callers that wait; [`head`]:
//!   a pool's row, which is its lock.
//! - [`schema`]: the tables; [`values`]: columns; [`url`], [`connection`] and [`tls`]: the server.
//!
//! Always holds: verdicts are decided from what is read after the pool was locked. Statements that touch records are about
//! one pool, so that Citus sends them to one node.

mod alone;
mod catalog;
mod claims;
mod connection;
mod draft;
mod filter;
mod group;
mod head;
mod import;
mod isolation;
mod job;
mod leftovers;
mod listen;
mod listener;
mod lookup;
mod marks;
mod operate;
mod read;
mod reclaim;
mod registry;
mod schema;
mod store;
mod tls;
mod transaction;
mod url;
mod values;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::connection::Failure;
use self::read::{Opened, PoolReading};
pub(crate) use self::store::Postgres;
use self::store::unsupported;
use crate::backend::batch::Batch;
use crate::backend::claims::{Held, StoredClaim};
use crate::backend::counters::Counters;
use crate::backend::fingerprint::HashKey;
use crate::backend::import::{BulkReport, Present, RowSource};
use crate::backend::operation::{Answer, Entry, Firsts, Request};
use crate::backend::waiting::Waiting;
use crate::backend::{Backend, InFlight, Observer, OpenReader, Reading};
use crate::dedupe::{Mode, Verdicts};
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::model::{
    BackupReport, ClaimInfo, CompactReport, DataPool, NewPool, PoolStats, PoolUpdate, PruneReport,
    RebuildReport, RegisteredEntry, RegisteredKind, StoreStats, VacuumReport, VerifyReport, WaitOutcome,
};
use crate::query::RecordFilter;
use crate::time::Timestamp;

impl Postgres {
    fn opened(&self) -> Result<Box<dyn OpenReader>> {
        if self.connections.is_closed() {
            return Err(Error::closed());
        }
        Ok(Box::new(Opened { store: self.own()?, closes: self.closes() }))
    }
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
            let clock = connection.query(store::CLOCK, Vec::new())?;
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

    fn delays_by_pool(&self) -> bool {
        true
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
        // Calls that returned were committed: nothing is buffered.
        if self.connections.is_closed() { Err(Error::closed()) } else { Ok(()) }
    }

    fn close(&self) -> Result<()> {
        if !self.connections.is_closed() {
            self.leave();
            self.connections.close();
            self.closes.fetch_add(1, Ordering::SeqCst);
            self.waiting.wake_all();
            self.waiting.notify();
        }
        Ok(())
    }

    fn reopen(&self) -> Result<()> {
        self.connections.reopen();
        self.closes.fetch_add(1, Ordering::SeqCst);
        self.waiting.wake_all();
        self.waiting.notify();
        // Reports a server that cannot be reached, or a store that is gone, to this caller, not to the next one.
        let meta = self
            .connections
            .with(|connection| schema::open(connection, schema::Missing::Fail))
            .map_err(Failure::into_error)?;
        if meta.store_id != self.store_id {
            return Err(Error::not_found("the store was replaced by another one: connect again"));
        }
        Ok(())
    }

    fn finish(&self) {
        self.leave();
    }
}
