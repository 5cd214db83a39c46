//! The engine for one open file, as a [`Backend`].
//!
//! Owns: the calls that pass on to the engine, and the thread that flushes. Always holds: the flusher ends
//! before the file is closed.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::batch::Batch;
use crate::backend::claims::{Held, StoredClaim};
use crate::backend::counters::Counters;
use crate::backend::fingerprint::HashKey;
use crate::backend::import::{BulkReport, Present, RowSource};
use crate::backend::operation::{Answer, Entry, Firsts, Request};
use crate::backend::waiting::Waiting;
use crate::backend::{Backend, InFlight, Observer, OpenReader, Reading};
use crate::dedupe::{Mode, Verdicts};
use crate::engine::Engine;
use crate::engine::format::schema::{Geometry, Tuning};
use crate::engine::maintain::opener::Place;
use crate::engine::read::view::View;
use crate::engine::storage::session::{Reader, ReaderKind};
use crate::engine::write::flusher::Flusher;
use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, FlowId, PoolId, RecordId, RecordNumber};
use crate::model::{
    BackupReport, ClaimInfo, CompactReport, DataPool, Key, NewPool, PoolStats, PoolUpdate, PruneReport,
    RebuildReport, Record, RegisteredEntry, RegisteredKind, StoreStats, VacuumReport, VerifyReport,
    WaitOutcome,
};
use crate::options::{Durability, StoreOptions};
use crate::query::{Explanation, Page, RecordFilter, RecordQuery, RecordSort};
use crate::time::Timestamp;

/// One open file.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// Declared before the engine, so that its thread ends before the file is closed.
    _flusher: Option<Flusher>,
    engine: Arc<Engine>,
    /// The file's path; `None` for a store in memory.
    path: Option<PathBuf>,
}

impl Embedded {
    /// Opens a file, or creates it.
    ///
    /// # Errors
    ///
    /// The errors of [`StoreOptions::open`].
    pub(crate) fn open(
        place: Place<'_>,
        options: &StoreOptions,
        geometry: Geometry,
        tuning: Tuning,
    ) -> Result<Self> {
        // The path is made absolute, so that a later change of the working directory does not lead to another
        // file.
        let path = match &place {
            Place::Path(path) => Some(absolute(path)?),
            _ => None,
        };
        let place = path.as_deref().map_or(place, Place::Path);
        let engine = Arc::new(Engine::open(place, options, geometry, tuning)?);
        let flusher = match options.durability {
            Durability::Relaxed { flush_every } => Some(Flusher::start(&engine, flush_every)?),
            Durability::Immediate => None,
        };
        Ok(Self { _flusher: flusher, engine, path })
    }

    #[cfg(any(test, datapool_shuttle))]
    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::io(format_args!("opening {:?}", path.display()), error))
}

impl Backend for Embedded {
    fn store_id(&self) -> u128 {
        self.engine.store_id()
    }

    fn hash_key(&self) -> &HashKey {
        self.engine.hash_key()
    }

    fn counters(&self) -> &Counters {
        self.engine.counters()
    }

    fn waiting(&self) -> &Arc<Waiting> {
        self.engine.waiting()
    }

    fn now(&self) -> Result<Timestamp> {
        Ok(self.engine.clock().now())
    }

    fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn create_pool(&self, new: &NewPool) -> Result<DataPool> {
        self.engine.create_pool(new)
    }

    fn update_pool(&self, id: PoolId, update: &PoolUpdate) -> Result<DataPool> {
        self.engine.update_pool(id, update)
    }

    fn delete_pool(&self, id: PoolId) -> Result<()> {
        self.engine.delete_pool(id)
    }

    fn pool_id(&self, name: &str) -> Result<Option<PoolId>> {
        self.engine.pool_id(name)
    }

    fn pool_row(&self, id: PoolId) -> Result<DataPool> {
        self.engine.pool_row(id)
    }

    fn pool_rows(&self) -> Result<Vec<DataPool>> {
        self.engine.pool_rows()
    }

    fn check_may_write(&self) -> Result<()> {
        self.engine.check_may_write()
    }

    fn submit(&self, request: Request) -> Result<Answer> {
        self.engine.submit(request)
    }

    fn submit_all(&self, entries: Vec<Entry>) {
        self.engine.submit_all(entries);
    }

    fn decide(&self, pool: PoolId, mode: Mode, batch: Batch, firsts: Firsts) -> Result<Verdicts> {
        self.engine.decide_only(pool, mode, batch, firsts)
    }

    fn delete_in_all(&self, filter: &RecordFilter) -> Result<u64> {
        self.engine.delete_in_all(filter)
    }

    fn import(
        &self,
        pool: PoolId,
        source: &mut (dyn RowSource + Send),
        present: Present,
    ) -> Result<BulkReport> {
        self.engine.import(pool, source, present)
    }

    fn prune(&self, pool: PoolId) -> Result<PruneReport> {
        self.engine.prune(pool)
    }

    fn reading(&self, pool: PoolId) -> Result<Arc<dyn Reading>> {
        Ok(self.engine.view(pool)?)
    }

    fn open_scan(&self) -> Result<Box<dyn OpenReader>> {
        Ok(Box::new(self.engine.reader(ReaderKind::Scan)?))
    }

    fn open_snapshot(&self, pool: PoolId) -> Result<(Arc<dyn Reading>, Box<dyn OpenReader>)> {
        let reader = self.engine.reader(ReaderKind::Snapshot)?;
        Ok((self.engine.view(pool)?, Box::new(reader)))
    }

    fn claims(&self, pool: PoolId) -> Result<Vec<ClaimInfo>> {
        Ok(self.engine.view(pool)?.claims(self.engine.clock().moment()))
    }

    fn stored_claim(&self, pool: PoolId, held: Held) -> Result<Option<StoredClaim>> {
        let view = self.engine.view(pool)?;
        let claim = view.state.claims.get(held.id, self.engine.clock().moment());
        let claim = claim.filter(|claim| claim.nonce == held.nonce);
        claim.map(|claim| view.items_of_claim(held.id, claim)).transpose()
    }

    fn first_in_flight(&self, pool: PoolId, batch: &Batch, from: usize) -> Result<Option<InFlight>> {
        self.engine.first_in_flight(pool, batch, from)
    }

    fn wait_outcomes(&self, pool: PoolId, batch: &Batch) -> Result<Vec<WaitOutcome>> {
        self.engine.wait_outcomes(pool, batch)
    }

    fn pool_stats(&self, pool: PoolId) -> Result<PoolStats> {
        self.engine.view(pool)?.stats(self.engine.clock().read())
    }

    fn put_registered(&self, kind: RegisteredKind, entries: Vec<RegisteredEntry>) -> Result<()> {
        self.engine.put_registered(kind, entries)
    }

    fn delete_registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<bool> {
        self.engine.delete_registered(kind, key)
    }

    fn delete_registered_before(&self, kind: RegisteredKind, time: Timestamp) -> Result<u64> {
        self.engine.delete_registered_before(kind, time)
    }

    fn registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<Option<RegisteredEntry>> {
        self.engine.registered(kind, key)
    }

    fn registered_after(
        &self,
        kind: RegisteredKind,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<RegisteredEntry>> {
        self.engine.registered_after(kind, after, limit)
    }

    fn stats(&self) -> Result<StoreStats> {
        self.engine.stats()
    }

    fn verify(&self, observer: Observer<'_>) -> Result<VerifyReport> {
        self.engine.verify(observer)
    }

    fn rebuild_indexes(&self) -> Result<RebuildReport> {
        self.engine.rebuild_indexes()
    }

    fn backup(&self, path: &Path, observer: Observer<'_>) -> Result<BackupReport> {
        self.engine.backup(path, observer)
    }

    fn compact(&self) -> Result<CompactReport> {
        self.engine.compact()
    }

    fn vacuum(&self, observer: Observer<'_>) -> Result<VacuumReport> {
        self.engine.vacuum(observer)
    }

    fn flush(&self) -> Result<()> {
        self.engine.check_open()?;
        self.engine.flush()
    }

    fn close(&self) -> Result<()> {
        self.engine.close()
    }

    fn reopen(&self) -> Result<()> {
        self.engine.reopen()
    }

    fn finish(&self) {
        // A failure cannot be reported here; `flush` reports it.
        let _ = self.engine.store_expiry();
        let _ = self.engine.flush();
    }
}

impl OpenReader for Reader {
    fn check_open(&self) -> Result<()> {
        Reader::check_open(self)
    }
}

impl Reading for View {
    fn ids(&self) -> Result<Range<RecordNumber>> {
        Ok(self.state.watermark..self.state.next_id)
    }

    fn contains(&self, key: &Key<'_>) -> Result<bool> {
        View::contains(self, key)
    }

    fn contains_many(&self, keys: &[Key<'_>]) -> Result<Vec<bool>> {
        View::contains_many(self, keys)
    }

    fn lookup(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>> {
        View::lookup(self, keys)
    }

    fn page(&self, query: &RecordQuery) -> Result<Page<Record>> {
        View::page(self, query)
    }

    fn count(&self, filter: &RecordFilter) -> Result<u64> {
        View::count(self, filter)
    }

    fn explain(&self, query: &RecordQuery) -> Result<Explanation> {
        View::explain(self, query)
    }

    fn entity_type_counts(&self) -> Result<Vec<(EntityTypeId, u64)>> {
        View::entity_type_counts(self)
    }

    fn flow_counts(&self) -> Result<Vec<(FlowId, u64)>> {
        View::flow_counts(self)
    }

    fn result(&self, record: RecordId) -> Result<Option<Vec<u8>>> {
        View::result(self, record)
    }

    fn results_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Vec<u8>>>> {
        View::results_of(self, keys)
    }

    fn slice(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordNumber>,
        sort: RecordSort,
        limit: usize,
    ) -> Result<Vec<Record>> {
        View::slice(self, filter, ids, sort, limit)
    }

    fn each_value(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordNumber>,
        show: &mut dyn FnMut(EntityTypeId, &str) -> Result<()>,
    ) -> Result<()> {
        View::each_value(self, filter, ids, show)
    }
}
