//! The store for async code.

use std::path::{Path, PathBuf};

use super::claim::AsyncClaim;
use super::future::StoreFuture;
use super::pool::AsyncPool;
use super::threads::{Turn, alone};
use crate::error::Result;
use crate::ids::PoolId;
use crate::model::{
    BackupReport, ClaimToken, CompactReport, DataPool, NewPool, PoolUpdate, PruneReport, StoreStats,
    VacuumReport, VerifyReport,
};
use crate::options::StoreOptions;
use crate::query::{Page, PoolQuery, RecordFilter};
use crate::store::DataPoolStore;

/// One open store, for async code: the calls of [`DataPoolStore`], which return futures. Clones are cheap.
///
/// It has no runtime of its own and works in tokio, smol and any other. No call blocks the thread that polls
/// it or drops it.
///
/// ```
/// use datapool_store::{Key, Mode, Origin, StoreOptions};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("pools.redb");
/// let work = async {
///     let store = StoreOptions::new().open_async(path).await?;
///     let pool = store.get_or_create_pool("orders").await?;
///     let verdicts =
///         pool.dedupe(Mode::FilterAndTrack, &["A-1"], |o| Key::new(37, *o), &Origin::none()).await?;
///     assert_eq!(verdicts.new_count(), 1);
///     store.close().await
/// };
/// # futures_executor::block_on(work)?;
/// # Ok::<(), datapool_store::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AsyncStore {
    store: DataPoolStore,
}

impl StoreOptions {
    /// Like [`open`](Self::open), on its own thread. If the future is dropped, the store is closed as soon as
    /// it is open.
    pub fn open_async(&self, path: impl AsRef<Path>) -> StoreFuture<AsyncStore> {
        let (options, path) = (self.clone(), path.as_ref().to_owned());
        StoreFuture::new(alone(move || Ok(options.open(path)?.to_async())))
    }
}

impl DataPoolStore {
    /// Returns a handle on the same store for async code.
    ///
    /// Once a store has had such a handle, a thread closes it after its last handle is dropped. To be sure
    /// that the file is closed, close the store: [`AsyncStore::close`] or [`close`](Self::close).
    pub fn to_async(&self) -> AsyncStore {
        self.shared().threads.use_them();
        AsyncStore { store: self.clone() }
    }
}

impl AsyncStore {
    /// Returns a blocking handle on the same store.
    pub fn to_blocking(&self) -> DataPoolStore {
        self.store.clone()
    }

    /// Runs blocking calls on a separate thread. Use it for calls that have no method here.
    pub fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&DataPoolStore) -> Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let store = self.store.clone();
        StoreFuture::new(async move {
            let asked = store.clone();
            store.shared().threads.run(move || call(&asked)).await
        })
    }

    fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&DataPoolStore) -> Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let store = self.store.clone();
        StoreFuture::new(async move {
            let asked = store.clone();
            store.shared().threads.read(Turn::Last, move || call(&asked)).await
        })
    }

    fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&DataPoolStore) -> Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let store = self.store.clone();
        StoreFuture::new(async move {
            let asked = store.clone();
            store.shared().threads.write_alone(&store.shared().backend, move || call(&asked)).await
        })
    }

    // ---- Pools ------------------------------------------------------------------------------------------------

    /// Like [`DataPoolStore::create_pool`].
    pub fn create_pool(&self, new: impl Into<NewPool>) -> StoreFuture<AsyncPool> {
        let new = new.into();
        self.write(move |store| Ok(store.create_pool(new)?.to_async()))
    }

    /// Like [`DataPoolStore::get_or_create_pool`].
    pub fn get_or_create_pool(&self, new: impl Into<NewPool>) -> StoreFuture<AsyncPool> {
        let new = new.into();
        self.write(move |store| Ok(store.get_or_create_pool(new)?.to_async()))
    }

    /// Like [`DataPoolStore::pool`].
    pub fn pool(&self, id: impl Into<PoolId>) -> StoreFuture<AsyncPool> {
        let id = id.into();
        self.read(move |store| Ok(store.pool(id)?.to_async()))
    }

    /// Like [`DataPoolStore::pool_named`].
    pub fn pool_named(&self, name: &str) -> StoreFuture<AsyncPool> {
        let name = name.to_owned();
        self.read(move |store| Ok(store.pool_named(&name)?.to_async()))
    }

    /// Like [`DataPoolStore::pools`].
    pub fn pools(&self, query: &PoolQuery) -> StoreFuture<Page<DataPool>> {
        let query = query.clone();
        self.read(move |store| store.pools(&query))
    }

    /// Like [`DataPoolStore::update_pool`].
    pub fn update_pool(&self, id: impl Into<PoolId>, update: PoolUpdate) -> StoreFuture<DataPool> {
        let id = id.into();
        self.write(move |store| store.update_pool(id, update))
    }

    /// Like [`DataPoolStore::delete_pool`].
    pub fn delete_pool(&self, id: impl Into<PoolId>) -> StoreFuture<()> {
        let id = id.into();
        self.write(move |store| store.delete_pool(id))
    }

    /// Like [`DataPoolStore::delete_where`].
    pub fn delete_where(&self, filter: &RecordFilter) -> StoreFuture<u64> {
        let filter = filter.clone();
        self.write(move |store| store.delete_where(&filter))
    }

    /// Like [`DataPoolStore::resume_claim`]. If the future is dropped, the claim is unchanged.
    pub fn resume_claim(&self, token: &ClaimToken) -> StoreFuture<AsyncClaim> {
        let token = *token;
        let resumed = self.read(move |store| store.resumed(&token));
        StoreFuture::new(async move { resumed.await.map(AsyncClaim::new) })
    }

    // ---- Operating --------------------------------------------------------------------------------------------

    /// Like [`DataPoolStore::stats`].
    pub fn stats(&self) -> StoreFuture<StoreStats> {
        self.read(DataPoolStore::stats)
    }

    /// Like [`DataPoolStore::flush`]. Waits for everything that was submitted before.
    pub fn flush(&self) -> StoreFuture<()> {
        self.write(DataPoolStore::flush)
    }

    /// Like [`DataPoolStore::prune`], on its own thread.
    pub fn prune(&self) -> StoreFuture<PruneReport> {
        self.blocking(DataPoolStore::prune)
    }

    /// Like [`DataPoolStore::verify`], on its own thread.
    pub fn verify(&self) -> StoreFuture<VerifyReport> {
        self.blocking(DataPoolStore::verify)
    }

    /// Like [`DataPoolStore::compact`], on its own thread.
    pub fn compact(&self) -> StoreFuture<CompactReport> {
        self.blocking(DataPoolStore::compact)
    }

    /// Like [`DataPoolStore::vacuum`], on its own thread. If the future is dropped, the vacuum continues.
    pub fn vacuum(&self) -> StoreFuture<VacuumReport> {
        self.blocking(DataPoolStore::vacuum)
    }

    /// Like [`DataPoolStore::backup_to`], on its own thread. If the future is dropped, the backup continues.
    pub fn backup_to(&self, path: impl Into<PathBuf>) -> StoreFuture<BackupReport> {
        let path = path.into();
        self.blocking(move |store| store.backup_to(path))
    }

    /// Like [`DataPoolStore::close`]. First, everything that was submitted before finishes, including long
    /// calls, and the items of dropped guards are released. From the first poll on, other futures fail with
    /// `Closed`. Within a long call, this future fails with `Busy`.
    pub fn close(&self) -> StoreFuture<()> {
        let store = self.store.clone();
        StoreFuture::new(async move {
            let closed = store.clone();
            store.shared().threads.close(&store.shared().backend, move || closed.backend().close()).await
        })
    }

    /// Like [`DataPoolStore::reopen`].
    pub fn reopen(&self) -> StoreFuture<()> {
        self.write(DataPoolStore::reopen)
    }
}
