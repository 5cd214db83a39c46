//! The seam between the public layer and the engines.
//!
//! Owns: [`Backend`], one open store, and [`Reading`], a pool as of one moment. Keys, hashing, CSV, queries
//! and JSON are above it, and are shared by all engines. Below it are the engines: [`crate::engine`], which
//! keeps a store in one file, and others. Always holds: only data crosses the seam. Calls that write are an
//! [`Operation`](operation::Operation) and its [`Answer`], so an engine can send them elsewhere.
//!
//! Must not know: where records are stored.

pub(crate) mod batch;
pub(crate) mod claims;
pub(crate) mod counters;
pub(crate) mod fingerprint;
pub(crate) mod import;
pub(crate) mod keep_alive;
pub(crate) mod lanes;
pub(crate) mod lease;
pub(crate) mod operation;
pub(crate) mod queue;
pub(crate) mod rules;
pub(crate) mod wait_for;
pub(crate) mod waiting;

use std::fmt::Debug;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::batch::Batch;
use self::claims::{Held, StoredClaim};
use self::counters::Counters;
use self::fingerprint::HashKey;
use self::import::{BulkReport, Present, RowSource};
use self::operation::{Answer, Entry, Firsts, OfAnswer, Request, Submission};
use self::waiting::Waiting;
use crate::dedupe::{Mode, Verdicts};
use crate::error::Result;
use crate::ids::{EntityTypeId, FlowId, PoolId, RecordId, RecordNumber};
use crate::model::{
    BackupReport, ClaimInfo, CompactReport, DataPool, Key, NewPool, PoolStats, PoolUpdate, Progress,
    PruneReport, RebuildReport, Record, RegisteredEntry, RegisteredKind, StoreStats, VacuumReport,
    VerifyReport, WaitOutcome,
};
use crate::query::{Explanation, Page, RecordFilter, RecordQuery, RecordSort};
use crate::time::Timestamp;

/// The observer of a long call, which can stop it.
pub(crate) type Observer<'o> = &'o mut dyn FnMut(Progress) -> ControlFlow<()>;

/// One open store.
pub(crate) trait Backend: Debug + Send + Sync {
    fn store_id(&self) -> u128;

    /// Returns the key of the store's fingerprints.
    fn hash_key(&self) -> &HashKey;

    fn counters(&self) -> &Counters;

    /// Returns the signals of the values that callers wait for.
    fn waiting(&self) -> &Arc<Waiting>;

    /// Returns the time that the store's clock shows.
    fn now(&self) -> Result<Timestamp>;

    /// Returns the path of the store's file, or `None` if it has none.
    fn path(&self) -> Option<&Path> {
        None
    }

    // ---- Pools ------------------------------------------------------------------------------------------------

    fn create_pool(&self, new: &NewPool) -> Result<DataPool>;
    fn update_pool(&self, id: PoolId, update: &PoolUpdate) -> Result<DataPool>;
    fn delete_pool(&self, id: PoolId) -> Result<()>;
    fn pool_id(&self, name: &str) -> Result<Option<PoolId>>;
    fn pool_row(&self, id: PoolId) -> Result<DataPool>;

    /// Returns the rows of all pools, by ascending id, as of one moment.
    fn pool_rows(&self) -> Result<Vec<DataPool>>;

    // ---- Writing ----------------------------------------------------------------------------------------------

    /// Returns an error if the store was opened for reading only. Every call that writes checks this first.
    fn check_may_write(&self) -> Result<()>;

    /// Decides and commits an operation, together with those of other callers. Blocks until its outcome is
    /// durable.
    fn submit(&self, request: Request) -> Result<Answer>;

    /// Submits operations of several callers, in order, in as few commits as their weights allow, and
    /// delivers the answers. Blocks until all have an outcome.
    fn submit_all(&self, entries: Vec<Entry>);

    /// Returns true if a call may wait for its pool for long, because another process has locked it. Calls on other pools must
    /// not wait for that call then.
    fn delays_by_pool(&self) -> bool {
        false
    }

    /// Decides a batch in a mode that tracks nothing.
    fn decide(&self, pool: PoolId, mode: Mode, batch: Batch, firsts: Firsts) -> Result<Verdicts>;

    /// Deletes the records that match a filter in all pools, and voids claims on the keys that the filter
    /// names, in one step. Returns the number of records deleted.
    fn delete_in_all(&self, filter: &RecordFilter) -> Result<u64>;

    /// Adds rows to a pool in one commit.
    fn import(
        &self,
        pool: PoolId,
        source: &mut (dyn RowSource + Send),
        present: Present,
    ) -> Result<BulkReport>;

    fn prune(&self, pool: PoolId) -> Result<PruneReport>;

    // ---- Reading ----------------------------------------------------------------------------------------------

    /// Returns a pool as of now.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such pool.
    fn reading(&self, pool: PoolId) -> Result<Arc<dyn Reading>>;

    /// Registers a scan: some calls must not run while one is open.
    fn open_scan(&self) -> Result<Box<dyn OpenReader>>;

    /// Returns a pool as of now. The view does not change while it is held.
    fn open_snapshot(&self, pool: PoolId) -> Result<(Arc<dyn Reading>, Box<dyn OpenReader>)>;

    fn claims(&self, pool: PoolId) -> Result<Vec<ClaimInfo>>;

    /// Returns a stored claim, if it exists and the holder knows its nonce.
    fn stored_claim(&self, pool: PoolId, held: Held) -> Result<Option<StoredClaim>>;

    /// Finds the first item of a batch that is in flight, starting at a position.
    fn first_in_flight(&self, pool: PoolId, batch: &Batch, from: usize) -> Result<Option<InFlight>>;

    /// Returns the state of each item's value, as of one moment.
    fn wait_outcomes(&self, pool: PoolId, batch: &Batch) -> Result<Vec<WaitOutcome>>;

    fn pool_stats(&self, pool: PoolId) -> Result<PoolStats>;

    // ---- Registered entries -----------------------------------------------------------------------------------

    /// Registers entries in one step. Entries of the same key are replaced. If a key occurs several times,
    /// the last entry is kept.
    fn put_registered(&self, kind: RegisteredKind, rows: Vec<RegisteredEntry>) -> Result<()>;

    /// Removes an entry. Returns false if there was none.
    fn delete_registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<bool>;

    /// Removes the entries that were registered before a point in time, in one step. Returns the number
    /// removed.
    fn delete_registered_before(&self, kind: RegisteredKind, time: Timestamp) -> Result<u64>;

    fn registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<Option<RegisteredEntry>>;

    /// Returns up to `limit` entries in the order of their keys, starting after the given key, or with the
    /// first entry.
    fn registered_after(
        &self,
        kind: RegisteredKind,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<RegisteredEntry>>;

    // ---- Operating --------------------------------------------------------------------------------------------

    fn stats(&self) -> Result<StoreStats>;
    fn verify(&self, observer: Observer<'_>) -> Result<VerifyReport>;
    fn rebuild_indexes(&self) -> Result<RebuildReport>;
    fn backup(&self, path: &Path, observer: Observer<'_>) -> Result<BackupReport>;
    fn compact(&self) -> Result<CompactReport>;
    fn vacuum(&self, observer: Observer<'_>) -> Result<VacuumReport>;

    /// Makes everything written so far durable.
    fn flush(&self) -> Result<()>;

    fn close(&self) -> Result<()>;
    fn reopen(&self) -> Result<()>;

    /// Makes everything written so far durable, when the last handle is dropped. It cannot report a failure.
    fn finish(&self);
}

impl dyn Backend + '_ {
    /// Submits an operation, and blocks until its outcome is durable.
    ///
    /// # Errors
    ///
    /// The errors of the operation, which then changed nothing. If the commit fails, all callers of the group
    /// get its error.
    pub(crate) fn run<T: OfAnswer>(&self, submission: Submission<T>) -> Result<T> {
        operation::read(self.submit(submission.request)?)
    }
}

/// A pool as of one moment.
pub(crate) trait Reading: Debug + Send + Sync {
    /// Returns the range of ids that may have live records.
    fn ids(&self) -> Result<Range<RecordNumber>>;

    fn contains(&self, key: &Key<'_>) -> Result<bool>;

    /// Returns true for each key that is in the pool, in order.
    fn contains_many(&self, keys: &[Key<'_>]) -> Result<Vec<bool>>;

    /// Returns for each key, in order, the record that was first with its value.
    fn lookup(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>>;

    fn page(&self, query: &RecordQuery) -> Result<Page<Record>>;
    fn count(&self, filter: &RecordFilter) -> Result<u64>;
    fn explain(&self, query: &RecordQuery) -> Result<Explanation>;

    /// Returns the number of records of each entity type, the largest first.
    fn entity_type_counts(&self) -> Result<Vec<(EntityTypeId, u64)>>;

    /// Returns the number of records of each flow, the largest first.
    fn flow_counts(&self) -> Result<Vec<(FlowId, u64)>>;

    fn result(&self, record: RecordId) -> Result<Option<Vec<u8>>>;

    /// Returns for each key, in order, the result of the record that was first with its value.
    fn results_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Returns up to `limit` records of an id range that match the filter, in the requested order.
    fn slice(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordNumber>,
        sort: RecordSort,
        limit: usize,
    ) -> Result<Vec<Record>>;

    /// Calls back with the entity type and the value of each record of an id range that matches the filter,
    /// oldest first.
    fn each_value(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordNumber>,
        show: &mut dyn FnMut(EntityTypeId, &str) -> Result<()>,
    ) -> Result<()>;
}

/// An open scan or snapshot.
pub(crate) trait OpenReader: Debug + Send + Sync {
    /// Returns an error once the store was closed, even if it was opened again.
    ///
    /// # Errors
    ///
    /// `Closed`.
    fn check_open(&self) -> Result<()>;
}

/// An item that is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// Its position in the batch.
    pub(crate) item: usize,
    /// The time after which the caller must look again, even if no signal is raised; `None` if the lease does
    /// not end.
    pub(crate) look_again_in: Option<Duration>,
}
