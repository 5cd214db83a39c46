//! The store: one open file and its pools.
//!
//! Part of the public API: each method is a few lines over the backend.

use std::path::Path;
use std::sync::Arc;

use crate::backend::Backend;
use crate::engine::embedded::Embedded;
use crate::engine::format::schema::{Geometry, Tuning};
use crate::engine::maintain::opener::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::model::{DataPool, NewPool, PoolUpdate, PruneReport};
use crate::options::StoreOptions;
use crate::pool::Pool;
use crate::query::{Page, PoolQuery, PoolSort, RecordFilter};
use crate::shared::Shared;

/// One open store: a file (or memory) with any number of data pools.
///
/// Clones are handles on the same open file, and so is every [`Pool`]. All of them can be used from any
/// thread. The file is closed when the last of them is dropped, or by [`close`](Self::close). Only one store,
/// in one process, can have a file open at a time, or any number of stores that [only
/// read](crate::Access::ReadOnly).
///
/// Calls that write block until the change is on disk. In async code, use the feature `async`, whose
/// [handles](crate::in_async_code) return futures.
#[derive(Debug, Clone)]
#[doc(alias("database", "db", "connection"))]
pub struct DataPoolStore {
    shared: Arc<Shared>,
}

impl DataPoolStore {
    /// Opens the store at `path`, or creates it, with the default [options](StoreOptions).
    ///
    /// # Errors
    ///
    /// The errors of [`StoreOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        StoreOptions::new().open(path)
    }

    /// Connects to the PostgreSQL database at a URL and opens the store in it, with the default
    /// [options](StoreOptions).
    ///
    /// # Errors
    ///
    /// The errors of [`StoreOptions::connect`].
    #[cfg(feature = "postgres")]
    pub fn connect(url: &str) -> Result<Self> {
        StoreOptions::new().connect(url)
    }

    /// Creates an empty store in memory. Its contents are gone when the last handle is dropped.
    ///
    /// # Errors
    ///
    /// The errors of [`StoreOptions::open_in_memory`].
    #[doc(alias(":memory:", "mock"))]
    pub fn in_memory() -> Result<Self> {
        StoreOptions::new().open_in_memory()
    }

    pub(crate) fn open_with(path: &Path, options: &StoreOptions) -> Result<Self> {
        Self::open_place(Place::Path(path), options, Geometry::DEFAULT, Tuning::DEFAULT)
    }

    pub(crate) fn in_memory_with(options: &StoreOptions) -> Result<Self> {
        Self::open_place(Place::Memory, options, Geometry::DEFAULT, Tuning::DEFAULT)
    }

    pub(crate) fn open_place(
        place: Place<'_>,
        options: &StoreOptions,
        geometry: Geometry,
        tuning: Tuning,
    ) -> Result<Self> {
        Ok(Self::over(Arc::new(Embedded::open(place, options, geometry, tuning)?)))
    }

    pub(crate) fn over(backend: Arc<dyn Backend>) -> Self {
        Self { shared: Arc::new(Shared::new(backend)) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.shared.backend
    }

    pub(crate) fn handle(&self, id: PoolId) -> Pool {
        Pool::new(Arc::clone(&self.shared), id)
    }

    /// Creates a pool: from its [fields](NewPool), or from a name alone.
    ///
    /// # Errors
    ///
    /// `LimitExceeded` for a name of less than 3 or more than 100 characters, a description of more than 255,
    /// a retention outside 1 ms to 36,500 days, or a capacity of 0; `AlreadyExists` if the name is taken.
    #[doc(alias("create table", "new_pool"))]
    pub fn create_pool(&self, new: impl Into<NewPool>) -> Result<Pool> {
        let new = new.into();
        new.check()?;
        let pool = self.backend().create_pool(&new)?;
        Ok(self.handle(pool.id))
    }

    /// Returns the pool of that name, and creates it if there is none.
    ///
    /// A new pool gets the given description, retention and capacity; without them, it keeps every record. An
    /// existing pool is returned as it is, even if its fields differ. [`update_pool`](Self::update_pool)
    /// changes them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use datapool_store::{DataPoolStore, NewPool};
    /// # fn main() -> datapool_store::Result<()> {
    /// # let store = DataPoolStore::in_memory()?;
    /// let orders = store.get_or_create_pool("orders")?;
    /// let recent = store.get_or_create_pool(NewPool::new("recent orders").retention(Duration::from_secs(86_400)))?;
    /// # assert!(orders.info()?.retention.is_none() && recent.info()?.retention.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`create_pool`](Self::create_pool), except `AlreadyExists`. Bad fields are refused even
    /// if the pool exists.
    #[doc(alias("ensure", "create if not exists", "upsert"))]
    pub fn get_or_create_pool(&self, new: impl Into<NewPool>) -> Result<Pool> {
        let new = new.into();
        new.check()?;
        loop {
            if let Some(id) = self.backend().pool_id(&new.name)? {
                return Ok(self.handle(id));
            }
            match self.backend().create_pool(&new) {
                Ok(pool) => return Ok(self.handle(pool.id)),
                // Another caller was faster. Yet another may delete the pool meanwhile.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the pool with that id.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn pool(&self, id: impl Into<PoolId>) -> Result<Pool> {
        let id = id.into();
        self.backend().pool_row(id)?;
        Ok(self.handle(id))
    }

    /// Returns the pool with exactly that name.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn pool_named(&self, name: &str) -> Result<Pool> {
        let id = self.backend().pool_id(name)?;
        id.map(|id| self.handle(id))
            .ok_or_else(|| Error::not_found(format!("no data pool is named {name:?}")))
    }

    /// Returns the pool with that id, if it matches the query's filters. The query's order and page are
    /// checked but have no effect.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such pool or a filter does not hold; `InvalidQuery`.
    pub fn find_pool(&self, id: impl Into<PoolId>, query: &PoolQuery) -> Result<Pool> {
        let id = id.into();
        query.check()?;
        let row = self.backend().pool_row(id)?;
        if query.filter.matches(&row) {
            return Ok(self.handle(id));
        }
        Err(Error::not_found(format!("data pool {id} does not match the query's filters")))
    }

    /// Returns one page of the pools.
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a page of 0 or a page size outside 1 to 100.
    #[doc(alias("list"))]
    pub fn pools(&self, query: &PoolQuery) -> Result<Page<DataPool>> {
        query.check()?;
        let mut rows = self.backend().pool_rows()?;
        rows.retain(|row| query.filter.matches(row));
        match query.sort {
            PoolSort::Id => {}
            PoolSort::CreatedAt => rows.sort_by_key(|row| (row.created_at, row.id)),
            PoolSort::CreatedAtDescending => {
                rows.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
            }
        }
        let total = rows.len() as u64;
        let skipped = usize::try_from(query.page.skip()).unwrap_or(usize::MAX);
        let data = rows.into_iter().skip(skipped).take(query.page.per_page as usize).collect();
        Ok(query.answer(data, total))
    }

    /// Returns every pool, by ascending id, all as of one moment: [`pools`](Self::pools) without filters and
    /// pages.
    ///
    /// ```
    /// # use datapool_store::DataPoolStore;
    /// # fn main() -> datapool_store::Result<()> {
    /// # let store = DataPoolStore::in_memory()?;
    /// # store.create_pool("orders")?;
    /// for pool in store.all_pools()? {
    ///     println!("{} {} {}", pool.id, pool.name, store.pool(pool.id)?.stats()?.live);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`; `Corrupt` or `Storage` if reading fails.
    #[doc(alias("list", "iter"))]
    pub fn all_pools(&self) -> Result<impl ExactSizeIterator<Item = DataPool> + use<>> {
        Ok(self.backend().pool_rows()?.into_iter())
    }

    /// Changes a pool's name, description, retention or capacity, and returns its row. Records that the new
    /// retention or capacity excludes are gone when this returns. Records that had expired before stay
    /// expired.
    ///
    /// # Errors
    ///
    /// `NotFound`; `LimitExceeded` as in [`create_pool`](Self::create_pool); `AlreadyExists` if the new name
    /// is another pool's.
    #[doc(alias("alter", "rename", "patch"))]
    pub fn update_pool(&self, id: impl Into<PoolId>, update: PoolUpdate) -> Result<DataPool> {
        update.check()?;
        self.backend().update_pool(id.into(), &update)
    }

    /// Deletes a pool with all its records and claims, in one commit. From then on, calls on its
    /// handles fail with `NotFound`.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    #[doc(alias("drop", "remove"))]
    pub fn delete_pool(&self, id: impl Into<PoolId>) -> Result<()> {
        self.backend().delete_pool(id.into())
    }

    /// Deletes every record that matches the filter, in all pools. Returns the number of records deleted.
    /// This is one commit: all of them are deleted, or none.
    ///
    /// A filter that names values also voids claims on these keys, in every pool. Confirming such an item
    /// gives `LeaseLost`, and the next caller that claims the value gets it. Entity types, flows, runs and
    /// steps of the filter must match the item and the origin of its claim. A filter with a time voids no
    /// claims, because a claimed item is not created yet.
    ///
    /// A filter without a term deletes nothing; [`RecordFilter::all`] deletes every record, and voids no
    /// claims.
    ///
    /// Afterwards the values are new again. Their bytes stay in the file until a [vacuum](Self::vacuum).
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a filter's bad term; `ReadOnly`; `Corrupt` or `Storage` if a pool cannot be read;
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the disk fails.
    #[doc(alias("forget", "erase", "purge", "gdpr"))]
    pub fn delete_where(&self, filter: &RecordFilter) -> Result<u64> {
        self.backend().check_may_write()?;
        filter.check()?;
        if filter.names_nothing() {
            return self.backend().pool_rows().map(|_| 0);
        }
        self.backend().delete_in_all(filter)
    }

    /// Reclaims the space of dead records in all pools: [`Pool::prune`] for each of them.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage`: space that was reclaimed before the error stays
    /// reclaimed.
    #[doc(alias("garbage collection", "gc"))]
    pub fn prune(&self) -> Result<PruneReport> {
        self.backend().check_may_write()?;
        let mut total = PruneReport::default();
        for pool in self.backend().pool_rows()? {
            match self.backend().prune(pool.id) {
                Ok(report) => total += report,
                // The pool was deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Waits until everything written so far is on disk. With
    /// [`Durability::Immediate`](crate::Durability::Immediate) it returns at once.
    ///
    /// # Errors
    ///
    /// `Closed`; `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the disk fails.
    #[doc(alias("sync", "fsync", "checkpoint"))]
    pub fn flush(&self) -> Result<()> {
        self.backend().flush()
    }
}

impl StoreOptions {
    /// Opens the store at `path`, or creates it.
    ///
    /// # Errors
    ///
    /// `AlreadyOpen` if another handle still has the file open after [`open_timeout`](Self::open_timeout),
    /// unless both only read; `NotAStore`, `UnsupportedFormat` or `Corrupt` if the file is not a store, has
    /// another format, or is damaged (the file is not changed); `NotFound` with
    /// [`IfMissing::Fail`](crate::IfMissing::Fail) or [`Access::ReadOnly`](crate::Access::ReadOnly);
    /// `ReadOnly` if the file needs recovery but may not be written; `Cancelled` by the observer of a
    /// recovery; `Io` or `Storage` if the system reports an error.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<DataPoolStore> {
        DataPoolStore::open_with(path.as_ref(), self)
    }

    /// Connects to the PostgreSQL database at a URL
    /// (`postgresql://user:password@host:5432/database?sslmode=require`) and opens the store in it. Creates
    /// the tables if there are none. For its callers, the store works like one in a file, but any number of
    /// processes can have it open.
    ///
    /// [`durability`](Self::durability), [`recovery`](Self::recovery), [`cache_size`](Self::cache_size) and
    /// [`open_timeout`](Self::open_timeout) have no effect here: the changes of a call are committed when it
    /// returns.
    ///
    /// A call takes as long as the server works on it. After `tcp_user_timeout` seconds without an answer (30
    /// unless the URL says otherwise) it opens a second connection. If the server does not take that within
    /// `connect_timeout` seconds (10), the call fails with `Storage`, or with `OutcomeUnknown` if it was
    /// committing. A pooler in front of a stopped server takes connections in its place, and so does another
    /// host of the URL: then the call waits.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a URL or a [schema](Self::schema) that is malformed; the message names a bad
    /// parameter of the URL and what is allowed, and shows no value; `Storage` if the server
    /// cannot be reached or refuses; `NotFound` with [`IfMissing::Fail`](crate::IfMissing::Fail) or
    /// [`Access::ReadOnly`](crate::Access::ReadOnly) if there is no store; `UnsupportedFormat` if its tables
    /// are of a later version.
    #[cfg(feature = "postgres")]
    pub fn connect(&self, url: &str) -> Result<DataPoolStore> {
        Ok(DataPoolStore::over(crate::postgres::Postgres::connect(url, self)?))
    }

    /// Creates an empty store in memory. Its contents are gone when the last handle is dropped.
    ///
    /// # Errors
    ///
    /// `Storage` if the system cannot provide a random hash key.
    pub fn open_in_memory(&self) -> Result<DataPoolStore> {
        DataPoolStore::in_memory_with(self)
    }
}
