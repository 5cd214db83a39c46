//! A pool for async code.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::claim::AsyncClaim;
use super::future::StoreFuture;
use super::threads::{Answer, Threads, Turn};
use crate::backend::Backend;
use crate::backend::batch::Batch;
use crate::backend::operation::{Firsts, OfAnswer, Submission};
use crate::backend::wait_for::{Step, Waiter};
use crate::csv::{ExportOptions, ExportReport, ImportOptions, ImportReport};
use crate::dedupe::{Mode, Verdicts};
use crate::error::Result;
use crate::ids::{EntityTypeId, FlowId, PoolId, RecordId};
use crate::model::{
    ClaimFilter, ClaimInfo, ClaimOptions, DataPool, Key, Origin, PoolStats, PruneReport, Record, WaitOutcome,
};
use crate::pool::Pool;
use crate::query::{Page, RecordFilter, RecordQuery};

/// A handle on one pool, for async code: the calls of [`Pool`], which return futures. Clones are cheap.
///
/// Calls that write share commits with all other callers, as they do with [`Pool`]. One thread of the store
/// makes these calls and waits for the disk. Up to four threads read. An import, export or prune has its own
/// thread.
///
/// ```
/// use datapool_store::{DataPoolStore, EntityTypeId, Key, Mode, Origin};
///
/// const ORDERS: EntityTypeId = EntityTypeId::new(37);
/// # fn main() -> datapool_store::Result<()> {
/// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?.to_async();
/// let work = async move {
///     let orders = vec!["A-1", "A-2", "A-1"];
///     let verdicts =
///         pool.dedupe(Mode::FilterAndTrack, &orders, |o| Key::new(ORDERS, *o), &Origin::none()).await?;
///     assert_eq!(verdicts.partition(orders).fresh, ["A-1", "A-2"]);
///     assert!(pool.contains(Key::new(ORDERS, "A-1")).await?);
///     datapool_store::Result::Ok(())
/// };
/// # futures_executor::block_on(work)
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AsyncPool {
    pool: Pool,
}

impl Pool {
    /// Returns a handle on the same pool for async code.
    ///
    /// Once a store has had such a handle, a thread closes it after its last handle is dropped. To be sure
    /// that the file is closed, close the store: [`AsyncStore::close`](crate::AsyncStore::close) or
    /// [`DataPoolStore::close`](crate::DataPoolStore::close).
    pub fn to_async(&self) -> AsyncPool {
        self.shared().threads.use_them();
        AsyncPool { pool: self.clone() }
    }
}

fn backend(pool: &Pool) -> &Arc<dyn Backend> {
    &pool.shared().backend
}

fn threads(pool: &Pool) -> &Threads {
    &pool.shared().threads
}

impl AsyncPool {
    /// Returns a blocking handle on the same pool.
    pub fn to_blocking(&self) -> Pool {
        self.pool.clone()
    }

    /// Returns the pool's id.
    pub fn id(&self) -> PoolId {
        self.pool.id()
    }

    /// Runs blocking calls on a separate thread. Use it for calls that have no method here.
    ///
    /// ```
    /// # use datapool_store::{DataPoolStore, Record, RecordFilter, Result};
    /// # fn main() -> datapool_store::Result<()> {
    /// # let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?.to_async();
    /// # futures_executor::block_on(async move {
    /// let filter = RecordFilter::new().flow_run_id("run 1");
    /// let records: Vec<Record> = pool.blocking(move |pool| pool.scan(&filter)?.collect()).await?;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Pool) -> Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let pool = self.pool.clone();
        StoreFuture::new(async move {
            let asked = pool.clone();
            threads(&pool).run(move || call(&asked)).await
        })
    }

    fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Pool) -> Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let pool = self.pool.clone();
        StoreFuture::new(async move {
            let asked = pool.clone();
            threads(&pool).read(Turn::Last, move || call(&asked)).await
        })
    }

    /// Submits a write that shares a commit. `finish` converts its answer, on the thread that writes.
    fn write<S: OfAnswer + 'static, T: Send + 'static>(
        &self,
        submission: Result<Submission<S>>,
        finish: impl FnOnce(&Pool, S) -> Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let pool = self.pool.clone();
        StoreFuture::new(async move {
            let (submission, asked) = (submission?, pool.clone());
            let prepare = |answer: Answer<T>| Some(answer.of(submission, move |done| finish(&asked, done?)));
            threads(&pool).write(backend(&pool), pool.id(), prepare).await
        })
    }

    // ---- Reading ----------------------------------------------------------------------------------------------

    /// Like [`Pool::info`].
    pub fn info(&self) -> StoreFuture<DataPool> {
        self.read(Pool::info)
    }

    /// Like [`Pool::contains`].
    pub fn contains(&self, key: Key<'_>) -> StoreFuture<bool> {
        let key = key.into_owned();
        self.read(move |pool| pool.contains(key))
    }

    /// Like [`Pool::contains_many`].
    pub fn contains_many(&self, keys: &[Key<'_>]) -> StoreFuture<Vec<bool>> {
        let keys = owned(keys);
        self.read(move |pool| pool.contains_many(&keys))
    }

    /// Like [`Pool::lookup`].
    pub fn lookup(&self, keys: &[Key<'_>]) -> StoreFuture<Vec<Option<Record>>> {
        let keys = owned(keys);
        self.read(move |pool| pool.lookup(&keys))
    }

    /// Like [`Pool::result`].
    pub fn result(&self, record: impl Into<RecordId>) -> StoreFuture<Option<Vec<u8>>> {
        let record = record.into();
        self.read(move |pool| pool.result(record))
    }

    /// Like [`Pool::results`].
    pub fn results(&self, keys: &[Key<'_>]) -> StoreFuture<Vec<Option<Vec<u8>>>> {
        let keys = owned(keys);
        self.read(move |pool| pool.results(&keys))
    }

    /// Like [`Pool::records`].
    pub fn records(&self, query: &RecordQuery) -> StoreFuture<Page<Record>> {
        let query = query.clone();
        self.read(move |pool| pool.records(&query))
    }

    /// Like [`Pool::count`].
    pub fn count(&self, filter: &RecordFilter) -> StoreFuture<u64> {
        let filter = filter.clone();
        self.read(move |pool| pool.count(&filter))
    }

    /// Like [`Pool::entity_type_counts`].
    pub fn entity_type_counts(&self) -> StoreFuture<Vec<(EntityTypeId, u64)>> {
        self.read(Pool::entity_type_counts)
    }

    /// Like [`Pool::flow_counts`].
    pub fn flow_counts(&self) -> StoreFuture<Vec<(FlowId, u64)>> {
        self.read(Pool::flow_counts)
    }

    /// Like [`Pool::claims`].
    pub fn claims(&self) -> StoreFuture<Vec<ClaimInfo>> {
        self.read(Pool::claims)
    }

    /// Like [`Pool::stats`].
    pub fn stats(&self) -> StoreFuture<PoolStats> {
        self.read(Pool::stats)
    }

    // ---- Deduplicating ----------------------------------------------------------------------------------------

    /// Like [`Pool::dedupe`]. The keys are computed at once.
    pub fn dedupe<'a, 'k, T>(
        &self,
        mode: Mode,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
    ) -> StoreFuture<Verdicts> {
        self.decide(mode, self.pool.batch_to_decide(items, key, origin), Firsts::Ignored)
    }

    /// Like [`Pool::dedupe_with_first`]. The keys are computed at once.
    pub fn dedupe_with_first<'a, 'k, T>(
        &self,
        mode: Mode,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
    ) -> StoreFuture<Verdicts> {
        self.decide(mode, self.pool.batch_to_decide(items, key, origin), Firsts::Wanted)
    }

    fn decide(&self, mode: Mode, batch: Result<Batch>, firsts: Firsts) -> StoreFuture<Verdicts> {
        if mode.tracks() {
            let submission = batch.map(|batch| self.pool.tracking(mode, batch, firsts));
            return self.write(submission, |pool, verdicts| Ok(pool.counters().verdicts(verdicts)));
        }
        self.read(move |pool| {
            let verdicts = backend(pool).decide(pool.id(), mode, batch?, firsts)?;
            Ok(pool.counters().verdicts(verdicts))
        })
    }

    // ---- Claiming ---------------------------------------------------------------------------------------------

    /// Like [`Pool::claim`]. The keys are computed at once. If the future is dropped, the items that it
    /// claimed are released.
    pub fn claim<'a, 'k, T>(
        &self,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
        lease: Duration,
    ) -> StoreFuture<AsyncClaim> {
        self.claim_with(items, key, origin, &ClaimOptions::new().lease(lease))
    }

    /// Like [`Pool::claim_with`]. The keys are computed at once. If the future is dropped, the items that it
    /// claimed are released.
    pub fn claim_with<'a, 'k, T>(
        &self,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
        options: &ClaimOptions,
    ) -> StoreFuture<AsyncClaim> {
        let batch = self.pool.batch_to_claim(items, key, origin, options);
        let claiming = batch.and_then(|batch| Ok((Arc::clone(&batch), self.pool.claiming(&batch, options)?)));
        let (batch, submission) = match claiming {
            Ok((batch, submission)) => (batch, Ok(submission)),
            Err(error) => (Arc::default(), Err(error)),
        };
        let options = options.clone();
        self.write(submission, move |pool, grant| Ok(AsyncClaim::new(pool.granted(batch, grant, &options))))
    }

    /// Like [`Pool::resume_claims_of`]. If the future is dropped, the claims are as if their owner had died.
    pub fn resume_claims_of(&self, owner: &str) -> StoreFuture<Vec<AsyncClaim>> {
        let taken = self.write(self.pool.taking_up(owner), Pool::taken_up);
        StoreFuture::new(async move { Ok(taken.await?.into_iter().map(AsyncClaim::new).collect()) })
    }

    /// Like [`Pool::release_claims`].
    pub fn release_claims(&self, filter: &ClaimFilter) -> StoreFuture<u64> {
        self.write(Ok(self.pool.releasing(filter)), |_, released| Ok(released))
    }

    /// Like [`Pool::wait_for`]. The timeout starts when the future is first polled.
    pub fn wait_for(&self, keys: &[Key<'_>], timeout: Duration) -> StoreFuture<Vec<WaitOutcome>> {
        let (pool, batch) = (self.pool.clone(), self.pool.hashed(keys));
        StoreFuture::new(async move {
            let mut waiter = Waiter::new(pool.id(), batch?, timeout);
            loop {
                let asked = pool.clone();
                let look = move || {
                    let step = waiter.look(asked.backend())?;
                    Ok((waiter, step))
                };
                let step;
                // Its timeout may be over, so it goes ahead of calls that may take long.
                (waiter, step) = threads(&pool).read(Turn::Next, look).await?;
                match step {
                    Step::Done(outcomes) => return Ok(outcomes),
                    Step::Sleep(sleep) => threads(&pool).sleep(sleep).await,
                }
            }
        })
    }

    // ---- Deleting ---------------------------------------------------------------------------------------------

    /// Like [`Pool::delete_records`].
    pub fn delete_records(&self, ids: impl IntoIterator<Item: Into<RecordId>>) -> StoreFuture<u64> {
        self.write(self.pool.deleting_records(ids), |_, deleted| Ok(deleted))
    }

    /// Like [`Pool::delete_keys`].
    pub fn delete_keys(&self, keys: &[Key<'_>]) -> StoreFuture<u64> {
        self.write(self.pool.deleting_keys(keys), |_, deleted| Ok(deleted))
    }

    /// Like [`Pool::delete_where`].
    pub fn delete_where(&self, filter: &RecordFilter) -> StoreFuture<u64> {
        match filter.check() {
            Ok(()) if filter.names_nothing() => {
                let filter = filter.clone();
                self.read(move |pool| pool.delete_where(&filter))
            }
            Ok(()) => self.write(Ok(self.pool.deleting_where(filter)), |_, deleted| Ok(deleted)),
            Err(error) => StoreFuture::new(async { Err(error) }),
        }
    }

    /// Like [`Pool::clear`].
    pub fn clear(&self) -> StoreFuture<u64> {
        self.write(Ok(self.pool.clearing()), |_, deleted| Ok(deleted))
    }

    // ---- Long calls -------------------------------------------------------------------------------------------

    /// Like [`Pool::prune`], on its own thread.
    pub fn prune(&self) -> StoreFuture<PruneReport> {
        self.blocking(Pool::prune)
    }

    /// Like [`Pool::import_csv`], on its own thread, where the reader may block. If the future is dropped,
    /// the import continues.
    pub fn import_csv(
        &self,
        reader: impl Read + Send + 'static,
        options: ImportOptions,
    ) -> StoreFuture<ImportReport> {
        self.blocking(move |pool| pool.import_csv(reader, &options))
    }

    /// Like [`Pool::import_csv_path`], on its own thread. If the future is dropped, the import continues.
    pub fn import_csv_path(
        &self,
        path: impl Into<PathBuf>,
        options: ImportOptions,
    ) -> StoreFuture<ImportReport> {
        let path = path.into();
        self.blocking(move |pool| pool.import_csv_path(path, &options))
    }

    /// Like [`Pool::export_csv`], on its own thread, where the writer may block. If the future is dropped,
    /// the export continues.
    pub fn export_csv(
        &self,
        writer: impl Write + Send + 'static,
        options: ExportOptions,
    ) -> StoreFuture<ExportReport> {
        self.blocking(move |pool| pool.export_csv(writer, &options))
    }

    /// Like [`Pool::export_csv_path`], on its own thread. If the future is dropped, the export continues.
    pub fn export_csv_path(
        &self,
        path: impl Into<PathBuf>,
        options: ExportOptions,
    ) -> StoreFuture<ExportReport> {
        let path = path.into();
        self.blocking(move |pool| pool.export_csv_path(path, &options))
    }
}

fn owned(keys: &[Key<'_>]) -> Vec<Key<'static>> {
    keys.iter().cloned().map(Key::into_owned).collect()
}
