//! A pool: deduplicating, looking up, listing, deleting.
//!
//! Part of the public API: each method is a few lines over the backend. Import and export are in
//! [`crate::csv`], scanning is in [`crate::scan`].

use std::sync::Arc;

use crate::backend::batch::{Batch, check_batch_len};
use crate::backend::counters::Counters;
use crate::backend::operation::{Firsts, Operation, Submission};
use crate::backend::queue::Weight;
use crate::backend::{Backend, Reading};
use crate::dedupe::{Mode, Verdicts};
use crate::error::Result;
use crate::ids::{EntityTypeId, FlowId, PoolId, RecordId};
use crate::model::{DataPool, Key, Origin, PruneReport, Record};
use crate::query::{Explanation, Page, RecordFilter, RecordQuery};
use crate::shared::Shared;

/// A cheap handle on one pool. Clones are handles on the same pool. All of them can be used from any thread.
///
/// The handle keeps the store open. After the pool is deleted, every call fails with `NotFound`.
#[derive(Debug, Clone)]
#[doc(alias("collection", "set", "table", "bucket", "namespace"))]
pub struct Pool {
    shared: Arc<Shared>,
    id: PoolId,
}

impl Pool {
    pub(crate) fn new(shared: Arc<Shared>, id: PoolId) -> Self {
        Self { shared, id }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.shared.backend
    }

    pub(crate) fn reading(&self) -> Result<Arc<dyn Reading>> {
        self.backend().reading(self.id)
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.backend().counters()
    }

    /// Computes, checks and hashes the keys of the items of a call.
    pub(crate) fn batch_of<'a, 'k, T>(
        &self,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
    ) -> Result<Batch> {
        Batch::from_keys(self.backend().hash_key(), items.iter().map(key))
    }

    /// Checks and hashes the keys of a call.
    pub(crate) fn hashed(&self, keys: &[Key<'_>]) -> Result<Batch> {
        Batch::from_keys(self.backend().hash_key(), keys.iter().cloned())
    }

    /// Returns the pool's id.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// Returns the pool's row.
    ///
    /// # Errors
    ///
    /// `NotFound` after the pool was deleted.
    #[doc(alias("describe", "row"))]
    pub fn info(&self) -> Result<DataPool> {
        self.backend().pool_row(self.id)
    }

    /// Returns true if the value is in the pool. For a key with a [version](Key::content), the newest record
    /// of the value must have the same content, or the same or a higher ordinal.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` or `LimitExceeded` for an empty or too long value; `NotFound`.
    #[doc(alias("exists", "has", "is_duplicate"))]
    pub fn contains(&self, key: Key<'_>) -> Result<bool> {
        Ok(self.counters().check(self.reading()?.contains(&key)?))
    }

    /// Answers as [`contains`](Self::contains) for each key, in order. All answers are as of one moment.
    ///
    /// # Errors
    ///
    /// The errors of [`contains`](Self::contains), with the [index](crate::Error::item) of the bad key;
    /// `LimitExceeded` for more than 1,048,576 keys.
    #[doc(alias("exists", "mget"))]
    pub fn contains_many(&self, keys: &[Key<'_>]) -> Result<Vec<bool>> {
        Ok(self.counters().checks(self.reading()?.contains_many(keys)?))
    }

    /// Returns for each key, in order, the record that was first with its value, whatever its version. All
    /// answers are as of one moment.
    ///
    /// # Errors
    ///
    /// The errors of [`contains_many`](Self::contains_many).
    #[doc(alias("get", "find"))]
    pub fn lookup(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>> {
        Ok(self.counters().lookups(self.reading()?.lookup(keys)?))
    }

    /// Finds out which items of a batch are new, and tracks them unless the mode is [`Mode::Filter`].
    ///
    /// This is one atomic step: if several threads bring the same new value at once, exactly one gets it as
    /// new. Of equal items within the batch, the first is new. The caller keeps the items.
    ///
    /// An item whose key has a [version](Key::content) is changed if the newest record of its value has
    /// another version. Changed items pass, and a mode that tracks replaces all live records of the value
    /// with one. Items of the same key are decided in order, each against the one before. Only the last
    /// version is stored, at the position of the first item of the key that passes. While a claim on the key
    /// runs, [`Mode::Track`] leaves an item with a lower ordinal than the claimed one in flight. It tracks
    /// all others, and the claim loses the key.
    ///
    /// `key` is a closure, or a method such as `Order::key`, that returns the key of an item. The key may
    /// borrow from the item or from something else, or own its value. `key` runs once for each item, on the
    /// calling thread, before anything is locked. So it may call the store.
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, EntityTypeId, Key, Mode, Origin};
    ///
    /// const ORDERS: EntityTypeId = EntityTypeId::new(37);
    /// # fn main() -> datapool_store::Result<()> {
    /// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let orders = vec!["A-1", "A-2", "A-1"];
    /// let origin = Origin::new("shop", "run 1", "read orders");
    /// let verdicts = pool.dedupe(Mode::FilterAndTrack, &orders, |o| Key::new(ORDERS, *o), &origin)?;
    /// let split = verdicts.partition(orders);
    /// assert_eq!(split.fresh, ["A-1", "A-2"]);
    /// assert_eq!(split.duplicates, ["A-1"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidArgument` or `LimitExceeded` for a bad key (with its [index](crate::Error::item)) or origin,
    /// or for more than 1,048,576 items; `NotFound`; `StorageFull`, `OutcomeUnknown` or `Storage` if writing
    /// to the disk fails. Except with `OutcomeUnknown`, nothing was tracked.
    #[doc(alias("upsert", "insert if absent", "insert_if_not_exists", "put", "distinct", "unique"))]
    pub fn dedupe<'a, 'k, T>(
        &self,
        mode: Mode,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
    ) -> Result<Verdicts> {
        self.decide(mode, items, key, origin, Firsts::Ignored)
    }

    /// Like [`dedupe`](Self::dedupe), but also returns for each duplicate the record that was
    /// [first](Verdicts::first).
    ///
    /// This needs one more read for each duplicate.
    ///
    /// # Errors
    ///
    /// The errors of [`dedupe`](Self::dedupe).
    pub fn dedupe_with_first<'a, 'k, T>(
        &self,
        mode: Mode,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
    ) -> Result<Verdicts> {
        self.decide(mode, items, key, origin, Firsts::Wanted)
    }

    fn decide<'a, 'k, T>(
        &self,
        mode: Mode,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
        firsts: Firsts,
    ) -> Result<Verdicts> {
        if mode.tracks() {
            self.backend().check_may_write()?;
        }
        let batch = self.batch_to_decide(items, key, origin)?;
        let verdicts = if mode.tracks() {
            self.backend().run(self.tracking(mode, batch, firsts))?
        } else {
            self.backend().decide(self.id, mode, batch, firsts)?
        };
        Ok(self.counters().verdicts(verdicts))
    }

    pub(crate) fn batch_to_decide<'a, 'k, T>(
        &self,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
    ) -> Result<Batch> {
        origin.check()?;
        Ok(self.batch_of(items, key)?.with_origin(origin))
    }

    /// Returns the submission that decides a batch and tracks its new items.
    pub(crate) fn tracking(&self, mode: Mode, batch: Batch, firsts: Firsts) -> Submission<Verdicts> {
        let weight = Weight::of(&batch);
        Submission::new(self.id, weight, Operation::Dedupe { mode, batch: Arc::new(batch), firsts })
    }

    /// Returns one page of the records that match the query's filter, with the exact total.
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a page of 0, a page size outside 1 to 100, or a filter's bad term; `NotFound`.
    #[doc(alias("list", "query", "select", "deduped-data"))]
    pub fn records(&self, query: &RecordQuery) -> Result<Page<Record>> {
        self.reading()?.page(query)
    }

    /// Returns the number of records that match the filter.
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a filter's bad term; `NotFound`.
    #[doc(alias("len", "size"))]
    pub fn count(&self, filter: &RecordFilter) -> Result<u64> {
        self.reading()?.count(filter)
    }

    /// Runs a query and reports how it was executed: what it read to find a page of a listing.
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, RecordQuery};
    ///
    /// # fn main() -> datapool_store::Result<()> {
    /// # let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let explanation = pool.explain(&RecordQuery::new().flow_id("shop").entity_type_id(37))?;
    /// println!("{explanation}");
    /// assert_eq!(explanation.chunks.considered, explanation.chunks.skipped + explanation.chunks.read);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`records`](Self::records).
    #[doc(alias("query plan"))]
    pub fn explain(&self, query: &RecordQuery) -> Result<Explanation> {
        self.reading()?.explain(query)
    }

    /// Returns the number of records of each entity type, the largest first.
    ///
    /// The indexes provide the counts. The cost grows with the number of entity types; it is a few
    /// milliseconds for ten million records.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Corrupt` or `Storage` if reading fails.
    pub fn entity_type_counts(&self) -> Result<Vec<(EntityTypeId, u64)>> {
        self.reading()?.entity_type_counts()
    }

    /// Returns the number of records that each flow tracked, the largest first. Records without a flow are
    /// left out.
    ///
    /// # Errors
    ///
    /// The errors of [`entity_type_counts`](Self::entity_type_counts).
    pub fn flow_counts(&self) -> Result<Vec<(FlowId, u64)>> {
        self.reading()?.flow_counts()
    }

    /// Deletes records by id. Returns the number of records deleted. Unknown and already deleted ids are
    /// ignored.
    ///
    /// ```
    /// # use datapool_store::{DataPoolStore, RecordFilter, RecordQuery};
    /// # fn main() -> datapool_store::Result<()> {
    /// # let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let page = pool.records(&RecordQuery::new().flow_id("shop"))?;
    /// pool.delete_records(page.data.iter().map(|record| record.id))?;
    /// pool.delete_records([3, 4])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `LimitExceeded` for more than 1,048,576 ids; `NotFound` for a deleted pool; `StorageFull`,
    /// `OutcomeUnknown` or `Storage`.
    #[doc(alias("remove", "delete-records"))]
    pub fn delete_records(&self, ids: impl IntoIterator<Item: Into<RecordId>>) -> Result<u64> {
        self.backend().run(self.deleting_records(ids)?)
    }

    /// Returns the submission that deletes records by id.
    pub(crate) fn deleting_records(
        &self,
        ids: impl IntoIterator<Item: Into<RecordId>>,
    ) -> Result<Submission<u64>> {
        let ids: Vec<u64> = ids.into_iter().map(|id| id.into().get()).collect();
        check_batch_len(ids.len()).map_err(|error| error.with_parameter("ids"))?;
        let weight = Weight { items: ids.len(), bytes: 0 };
        Ok(Submission::new(self.id, weight, Operation::DeleteIds(ids)))
    }

    /// Deletes every record with one of these keys, whatever its version. Returns the number of records
    /// deleted.
    ///
    /// Afterwards the values are new again.
    ///
    /// # Errors
    ///
    /// The errors of [`contains_many`](Self::contains_many); `StorageFull`, `OutcomeUnknown` or `Storage`.
    #[doc(alias("remove", "forget"))]
    pub fn delete_keys(&self, keys: &[Key<'_>]) -> Result<u64> {
        self.backend().run(self.deleting_keys(keys)?)
    }

    /// Returns the submission that deletes records by key.
    pub(crate) fn deleting_keys(&self, keys: &[Key<'_>]) -> Result<Submission<u64>> {
        let batch = self.hashed(keys)?;
        Ok(Submission::new(self.id, Weight::of(&batch), Operation::DeleteKeys(batch)))
    }

    /// Deletes every record that matches the filter, for example everything that one run tracked. Returns the
    /// number of records deleted.
    ///
    /// A filter without a term deletes nothing. To delete everything, use [`clear`](Self::clear) or
    /// [`RecordFilter::all`].
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a filter's bad term; `NotFound`; `StorageFull`, `OutcomeUnknown` or `Storage`.
    #[doc(alias("remove", "purge"))]
    pub fn delete_where(&self, filter: &RecordFilter) -> Result<u64> {
        self.backend().check_may_write()?;
        filter.check()?;
        if filter.names_nothing() {
            return self.info().map(|_| 0);
        }
        self.backend().run(self.deleting_where(filter))
    }

    /// Returns the submission that deletes the records that match a filter, which must have a term.
    pub(crate) fn deleting_where(&self, filter: &RecordFilter) -> Submission<u64> {
        Submission::new(self.id, Weight::ALONE, Operation::DeleteWhere(filter.clone()))
    }

    /// Deletes every record. Returns the number of records deleted. Ids are not reused.
    ///
    /// # Errors
    ///
    /// `NotFound`; `StorageFull`, `OutcomeUnknown` or `Storage`.
    #[doc(alias("truncate", "delete_all", "empty"))]
    pub fn clear(&self) -> Result<u64> {
        self.backend().run(self.clearing())
    }

    /// Returns the submission that deletes every record.
    pub(crate) fn clearing(&self) -> Submission<u64> {
        Submission::new(self.id, Weight::ALONE, Operation::Clear)
    }

    /// Reclaims the space of dead records and claims. Returns how much was reclaimed.
    ///
    /// Pools do this by themselves, a little with each write. This call is for pools that are rarely written
    /// to. Later writes reuse the space; the file does not shrink. Live records are neither read nor written.
    /// Whole segments are dropped. A segment with live records loses the dead records at its head, once there
    /// are at least 1,024 of them and more than there are live records in the pool. The work is done in small
    /// commits, so others can write in between.
    ///
    /// # Errors
    ///
    /// `NotFound`; `StorageFull`, `OutcomeUnknown` or `Storage`: space that was reclaimed before the error
    /// stays reclaimed.
    #[doc(alias("vacuum", "garbage collection", "gc"))]
    pub fn prune(&self) -> Result<PruneReport> {
        self.backend().prune(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DataPoolStore;

    /// Earlier versions accepted ids that begin or end with blanks.
    #[test]
    fn ids_that_are_no_longer_written_stay_readable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.redb");
        let origin = Origin::new(" flow", "run\n", " ");
        {
            let pool = DataPoolStore::open(&path).unwrap().get_or_create_pool("orders").unwrap();
            let keys = ["A-1", "A-2"].map(|value| Key::new(37, value));
            let batch = pool.hashed(&keys).unwrap().with_origin(&origin);
            let _ = pool.backend().run(pool.tracking(Mode::Track, batch, Firsts::Ignored)).unwrap();
        }
        let store = DataPoolStore::open(&path).unwrap();
        let pool = store.pool_named("orders").unwrap();
        let record = pool.records(&RecordQuery::new()).unwrap().data.remove(1);
        assert_eq!((record.flow_id.as_ref(), record.flow_run_id.as_ref()), (origin.flow(), origin.run()));
        assert_eq!(record.step_id.as_ref(), origin.step());
        assert_eq!(pool.flow_counts().unwrap(), [(" flow".into(), 2)]);
        assert_eq!(pool.scan(&RecordFilter::new().value("A-2")).unwrap().next().unwrap().unwrap(), record);
        assert!(store.verify().unwrap().ok);
    }
}
