//! A pool as of one moment, for as long as the snapshot is held.
//!
//! Part of the public API: each method is a few lines over the backend.

use std::sync::Arc;

use crate::backend::counters::Counters;
use crate::backend::{OpenReader, Reading};
use crate::error::Result;
use crate::model::{Key, Record};
use crate::pool::Pool;
use crate::query::{Page, RecordFilter, RecordQuery};
use crate::shared::Shared;

/// A pool as of one moment. See [`Pool::snapshot`].
///
/// If the store is closed, every call fails with `Closed`, even if the store is opened again. A full disk may
/// have the same effect: see [`StorageFull`](crate::ErrorKind::StorageFull).
#[derive(Debug, Clone)]
pub struct PoolSnapshot {
    reading: Arc<dyn Reading>,
    reader: Arc<dyn OpenReader>,
    shared: Arc<Shared>,
}

impl Pool {
    /// Returns the pool as of this moment. The snapshot does not change while it is held.
    ///
    /// While a snapshot is held, the file cannot reuse the space of data that is changed or deleted anywhere
    /// in the store, so it grows. Hold it briefly.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    #[doc(alias("begin_read", "transaction"))]
    pub fn snapshot(&self) -> Result<PoolSnapshot> {
        PoolSnapshot::of(self)
    }
}

impl PoolSnapshot {
    pub(crate) fn of(pool: &Pool) -> Result<Self> {
        let (reading, reader) = pool.backend().open_snapshot(pool.id())?;
        Ok(Self { reading, reader: reader.into(), shared: Arc::clone(pool.shared()) })
    }

    /// Returns the view.
    ///
    /// # Errors
    ///
    /// `Closed` if the store was closed since then.
    pub(crate) fn reading(&self) -> Result<&dyn Reading> {
        self.reader.check_open()?;
        Ok(&*self.reading)
    }

    fn counters(&self) -> &Counters {
        self.shared.backend.counters()
    }

    /// Returns true if the value was in the pool, with the version of the key if it has one.
    ///
    /// # Errors
    ///
    /// The errors of [`Pool::contains`].
    pub fn contains(&self, key: Key<'_>) -> Result<bool> {
        Ok(self.counters().check(self.reading()?.contains(&key)?))
    }

    /// Returns for each key, in order, true if its value was in the pool, with the version of the key if it
    /// has one.
    ///
    /// # Errors
    ///
    /// The errors of [`Pool::contains_many`].
    pub fn contains_many(&self, keys: &[Key<'_>]) -> Result<Vec<bool>> {
        Ok(self.counters().checks(self.reading()?.contains_many(keys)?))
    }

    /// Returns for each key, in order, the record that was first with its value.
    ///
    /// # Errors
    ///
    /// The errors of [`Pool::lookup`].
    pub fn lookup(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>> {
        Ok(self.counters().lookups(self.reading()?.lookup(keys)?))
    }

    /// Returns one page of the records that match the query's filter, with the exact total.
    ///
    /// # Errors
    ///
    /// The errors of [`Pool::records`].
    pub fn records(&self, query: &RecordQuery) -> Result<Page<Record>> {
        self.reading()?.page(query)
    }

    /// Returns the number of records that match the filter.
    ///
    /// # Errors
    ///
    /// The errors of [`Pool::count`].
    pub fn count(&self, filter: &RecordFilter) -> Result<u64> {
        self.reading()?.count(filter)
    }
}
