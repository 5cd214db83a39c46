//! Copies the live data of the store, as of one commit, to an empty medium. Backups and vacuuming use it.
//!
//! A pool without dead records is copied row by row. For any other pool, only live records are copied, and
//! its indexes are built from them. Segments without a live record are left out, and so are slots below the
//! watermark. Each other dead slot gets a stub, because ids are positions in segments. [`claims`] copies the
//! claims.
//!
//! Always holds: the copy has no byte of a dead record, or of data derived from one. It has everything else
//! that is in the file.

mod claims;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use redb::{
    Builder, Database, Key, ReadableDatabase, ReadableTableMetadata, StorageBackend, TableDefinition, Value,
    WriteTransaction,
};
use roaring::RoaringBitmap;

use crate::engine::Engine;
use crate::engine::format::record::{self, StoredOrigin};
use crate::engine::format::schema::{self, SegmentNumber, SegmentTables, Slot};
use crate::engine::format::tables::{AnyTable, TableVisitor};
use crate::engine::maintain::observer::Watch;
use crate::engine::pool::state::PoolState;
use crate::engine::read::load::KnownOrigins;
use crate::engine::read::snapshot::{Snapshot, count_rows};
use crate::engine::read::view::View;
use crate::engine::storage::backend::Medium;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::storage::session::Reader;
use crate::engine::write::apply::write_head;
use crate::engine::write::fold::whole::WholeFold;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::model::Progress;
use crate::time::Reading;

/// The number of rows after which a run checks if it must stop, or if the store is closed.
const TICK_ROWS: u64 = 16_384;
/// Copies below this size are compacted, because a small file has allocated space ahead of its rows: a
/// quarter at a million records. Compacting a copy of 10 M records took 0.5 s and did not shrink it.
const COMPACT_BELOW_BYTES: u64 = 256 << 20;
/// The time between two calls of the observer.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The cache size for the copy.
const COPY_CACHE_BYTES: usize = 64 << 20;

/// The source of a copy.
pub(crate) struct Source<'e> {
    pub(crate) engine: &'e Engine,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) reader: &'e Reader,
    pub(crate) now: Reading,
}

/// The numbers of records and rows in a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copied {
    /// The number of live records.
    pub(crate) records: u64,
    /// The number of rows of all tables.
    pub(crate) rows: u64,
}

/// The reason why a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// The medium of the copy cannot be written.
    Written(io::Error),
    /// The source cannot be read, or the copy was stopped.
    Other(Error),
}

/// Copies the live records and everything else in the file.
pub(crate) fn copy(
    source: &Source<'_>,
    medium: &Medium,
    watch: &mut Watch<'_>,
) -> std::result::Result<Copied, CopyError> {
    let failure = Arc::default();
    let backend = CopyBackend { inner: medium.bytes(), failure: Arc::clone(&failure) };
    let copied = contained("copying the store", || {
        let mut copy =
            Builder::new().set_cache_size(COPY_CACHE_BYTES).create_with_backend(backend).storage()?;
        let txn = copy.begin_write().storage()?;
        let records = copy_all(source, &txn, watch)?;
        txn.commit().storage()?;
        let rows = rows_of(&copy)?;
        if medium.bytes().len().is_ok_and(|len| len < COMPACT_BELOW_BYTES) {
            copy.compact().storage()?;
        }
        copy.close().storage()?;
        Ok(Copied { records, rows })
    });
    copied.map_err(|error| failure.lock().take().map_or(CopyError::Other(error), CopyError::Written))
}

fn rows_of(database: &Database) -> Result<u64> {
    let txn = database.begin_read().storage()?;
    let tables = txn.list_tables().storage()?;
    tables.map(|table| txn.open_untyped_table(table).storage()?.len().storage()).sum()
}

/// The medium of the copy. It keeps its first failure, which causes all later ones. The creator of a file
/// holds its lock, so redb neither takes nor releases one.
#[derive(Debug)]
struct CopyBackend {
    inner: Arc<dyn StorageBackend>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl CopyBackend {
    fn note<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| {
            let kind = error.kind();
            self.failure.lock().get_or_insert(error);
            kind.into()
        })
    }
}

impl StorageBackend for CopyBackend {
    fn len(&self) -> io::Result<u64> {
        self.note(self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note(self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(self.inner.write(offset, data))
    }
}

/// The plan of a copy: what to copy of each pool.
#[derive(Default)]
struct Plan {
    /// Pools without dead records, which are copied as they are.
    whole: HashSet<PoolId>,
    /// The other pools, in their states in the copy.
    others: Vec<PoolState>,
    /// The segments in the copy.
    segments: BTreeMap<PoolId, BTreeSet<SegmentNumber>>,
    /// The number of live records.
    records: u64,
}

impl Plan {
    /// Plans the copy, and copies the claims.
    fn make(source: &Source<'_>, txn: &WriteTransaction) -> Result<Self> {
        let mut plan = Self::default();
        let Some(pools) = source.snapshot.table(schema::POOLS)? else { return Ok(plan) };
        for row in pools.range::<PoolId>(..).storage()? {
            source.reader.check_open()?;
            let view = source.pool(row.storage()?.0.value())?;
            claims::copy(txn, &view, source.now.moment)?;
            let mut state = PoolState::clone(&view.state);
            plan.records += state.live();
            if state.live() == state.next_id - 1 {
                plan.whole.insert(state.id);
            } else {
                state.leave_out_dead(source.now.time);
                plan.others.push(state.clone());
            }
            let numbers = state.segments.iter().map(|segment| segment.number);
            plan.segments.insert(state.id, numbers.collect());
        }
        Ok(plan)
    }

    fn has_segment(&self, pool: PoolId, segment: SegmentNumber) -> bool {
        self.segments.get(&pool).is_some_and(|segments| segments.contains(&segment))
    }

    /// Returns the tables of the segments of pools that are copied as they are: the record tables, and all
    /// others.
    fn tables_of_whole(&self) -> (Vec<AnyTable>, Vec<AnyTable>) {
        let segments = self.segments.iter().filter(|(pool, _)| self.whole.contains(pool));
        let (mut records, mut others) = (Vec::new(), Vec::new());
        for (pool, segments) in segments {
            for segment in segments {
                let names = SegmentTables::new(*pool, *segment);
                records.push(AnyTable::Records(names.records));
                others.extend([AnyTable::Postings(names.postings), AnyTable::Results(names.results)]);
            }
        }
        (records, others)
    }

    /// Returns the record tables of the other pools.
    fn records_of_others(&self) -> Vec<AnyTable> {
        let of_pool = |state: &PoolState| {
            let names = state.segments.iter().map(|segment| SegmentTables::new(state.id, segment.number));
            names.map(|names| AnyTable::Records(names.records)).collect::<Vec<_>>()
        };
        self.others.iter().flat_map(of_pool).collect()
    }
}

/// The tables that are copied as they are.
const COPIED: [AnyTable; 7] = [
    AnyTable::Meta,
    AnyTable::Pools,
    AnyTable::PoolNames,
    AnyTable::EntityTypes,
    AnyTable::Flows,
    AnyTable::FlowRuns,
    AnyTable::FlowSteps,
];
/// The tables that all pools share, of which only some rows are copied as they are.
const SHARED: [AnyTable; 6] = [
    AnyTable::PoolHeads,
    AnyTable::Fingerprints,
    AnyTable::Filters,
    AnyTable::Origins,
    AnyTable::Times,
    AnyTable::Deleted,
];

impl Source<'_> {
    /// Returns a pool as of the snapshot, without expired records.
    fn pool(&self, id: PoolId) -> Result<View> {
        let state = self.engine.read_pool(id, &self.snapshot, self.now)?;
        let state = state.ok_or_else(|| Error::corrupt(format!("pool {id} is gone")))?;
        let view = self.view(state);
        Ok(match view.watermark_at(self.now.time)? {
            Some(watermark) => view.with_watermark(watermark),
            None => view,
        })
    }

    fn view(&self, state: PoolState) -> View {
        View::new(Arc::clone(&self.snapshot), Arc::new(state), self.engine.hash_key().clone())
    }
}

/// Copies everything. Returns the number of live records.
fn copy_all(source: &Source<'_>, txn: &WriteTransaction, watch: &mut Watch<'_>) -> Result<u64> {
    let plan = Plan::make(source, txn)?;
    let (records, of_whole) = plan.tables_of_whole();
    let others = plan.records_of_others();
    let tables = [records.as_slice(), &of_whole, &others, &COPIED, &SHARED].concat();
    let total = count_rows(&source.snapshot, &tables)?;
    let run = Run { source, txn, total, done: AtomicU64::new(0), is_stopped: AtomicBool::new(false) };
    // redb can fill two tables of one transaction at the same time.
    run.on_threads(watch, &[&|| run.copy_tables(&records), &|| run.copy_shared(&plan, &of_whole)])?;
    // The index tables are filled now, so they can be opened again.
    run.on_threads(watch, &[&|| plan.others.iter().try_for_each(|state| run.copy_live(state))])?;
    watch.tell(Progress::new(total, total), source.reader)?;
    Ok(plan.records)
}

/// The state that the threads of a copy share.
struct Run<'a> {
    source: &'a Source<'a>,
    txn: &'a WriteTransaction,
    total: u64,
    done: AtomicU64,
    is_stopped: AtomicBool,
}

impl Run<'_> {
    /// Runs each closure on its own thread. This thread calls the observer.
    fn on_threads(&self, watch: &mut Watch<'_>, works: &[&(dyn Fn() -> Result<()> + Sync)]) -> Result<()> {
        thread::scope(|scope| {
            let (ended, end) = mpsc::channel();
            let mut working = Vec::with_capacity(works.len());
            for work in works {
                let ended = ended.clone();
                let work = move || {
                    let copied = contained("copying the store", *work);
                    self.is_stopped.fetch_or(copied.is_err(), Ordering::Relaxed);
                    // Once the run is stopped, nobody may be waiting.
                    let _ = ended.send(());
                    copied
                };
                let thread =
                    thread::Builder::new().name("datapool-copy".to_owned()).spawn_scoped(scope, work);
                working.push(thread.map_err(|error| {
                    self.is_stopped.store(true, Ordering::Relaxed);
                    Error::storage(format!("starting a copying thread: {error}")).with_source(error)
                })?);
            }
            let mut watched = Ok(());
            for _ in 0..working.len() {
                while end.recv_timeout(LOOK_EVERY).is_err() && watched.is_ok() {
                    let done = self.done.load(Ordering::Relaxed).min(self.total);
                    watched = watch.tell(Progress::new(done, self.total), self.source.reader);
                    self.is_stopped.fetch_or(watched.is_err(), Ordering::Relaxed);
                }
            }
            let ends = working.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::corrupt("a copying thread panicked")))
            });
            // The error of a thread that only had to stop is not the cause.
            let failures: Vec<Error> = ends.filter_map(Result::err).chain(watched.err()).collect();
            let is_cause = |error: &&Error| error.kind() != ErrorKind::Cancelled;
            failures.iter().find(is_cause).or(failures.first()).map_or(Ok(()), |error| Err(error.clone()))
        })
    }

    /// Counts rows. Returns an error if the run must stop.
    fn tick(&self, rows: u64) -> Result<()> {
        self.done.fetch_add(rows, Ordering::Relaxed);
        self.source.reader.check_open()?;
        if self.is_stopped.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "the copy was stopped"));
        }
        Ok(())
    }

    fn copy_tables(&self, tables: &[AnyTable]) -> Result<()> {
        tables.iter().try_for_each(|table| table.visit(&mut CopyTable(self)))
    }

    /// Copies the rows in shared tables, and the tables of whole pools other than their records.
    fn copy_shared(&self, plan: &Plan, of_whole: &[AnyTable]) -> Result<()> {
        self.copy_tables(&COPIED)?;
        self.copy_tables(of_whole)?;
        let is_whole = |pool: PoolId| plan.whole.contains(&pool);
        self.copy_rows(schema::POOL_HEADS, |pool: &PoolId| is_whole(*pool))?;
        self.copy_rows(schema::FINGERPRINTS, |key: &(PoolId, u32, u32, u32)| is_whole(key.0))?;
        self.copy_rows(schema::FILTERS, |key: &(PoolId, u32, u32)| is_whole(key.0))?;
        self.copy_rows(schema::ORIGINS, |key: &(PoolId, u32, u32)| {
            is_whole(key.0) && plan.has_segment(key.0, key.1)
        })?;
        self.copy_rows(schema::TIMES, |key: &(PoolId, u32, u32)| plan.has_segment(key.0, key.1))?;
        self.copy_rows(schema::DELETED, |key: &(PoolId, u32, u32)| plan.has_segment(key.0, key.1))
    }

    /// Copies the rows with the wanted keys in key order, so that each is appended after the last one.
    fn copy_rows<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
        keeps: impl Fn(&K::SelfType<'_>) -> bool,
    ) -> Result<()> {
        let Some(source) = self.source.snapshot.table(table)? else { return Ok(()) };
        let mut copy = self.txn.open_table(table).storage()?;
        let mut cursor = copy.upper_bound_mut(Bound::<K::SelfType<'_>>::Unbounded).storage()?;
        let mut rows = 0;
        for row in source.range::<K::SelfType<'_>>(..).storage()? {
            let (key, value) = row.storage()?;
            let key = key.value();
            if keeps(&key) {
                cursor.insert_before(key, value.value()).storage()?;
            }
            rows += 1;
            if rows == TICK_ROWS {
                self.tick(std::mem::take(&mut rows))?;
            }
        }
        cursor.close().storage()?;
        self.tick(rows)
    }

    /// Copies the live records of a pool, and builds its indexes from them.
    fn copy_live(&self, planned: &PoolState) -> Result<()> {
        let view = self.source.view(planned.clone());
        let mut state = planned.clone();
        for index in 0..planned.segments.len() {
            self.copy_segment(&view, &mut state, index)?;
        }
        write_head(self.txn, &mut state)
    }

    fn copy_segment(&self, view: &View, state: &mut PoolState, index: usize) -> Result<()> {
        let Some(segment) = view.state.segments.get(index) else { return Ok(()) };
        // Slots below the watermark are never read.
        let slots = view.state.slots_in(index, &(view.state.watermark..view.state.next_id));
        let Some(source) = view.records(index)?.filter(|_| !slots.is_empty()) else { return Ok(()) };
        let names = SegmentTables::new(state.id, segment.number);
        let (mut fold, mut origins, mut codes) =
            (WholeFold::default(), KnownOrigins::default(), RoaringBitmap::new());
        {
            let mut records = self.txn.open_table(names.records()).storage()?;
            let mut cursor = records.upper_bound_mut(Bound::<u32>::Unbounded).storage()?;
            let (mut expected, mut stub, mut rows) = (slots.start, Vec::new(), 0);
            for row in source.range(slots.clone()).storage()? {
                let (slot, row) = row.storage()?;
                let slot = slot.value();
                if slot != expected {
                    break;
                }
                expected += 1;
                if state.is_live(segment.id(slot)) {
                    let record = record::decode(slot, segment.base_time, row.value())?;
                    if let StoredOrigin::Code(code) = record.origin {
                        codes.insert(code);
                    }
                    fold.push(slot, view.entry_of(segment, &record, &mut origins)?);
                    cursor.insert_before(slot, row.value()).storage()?;
                } else {
                    let stored = record::decode_slot(slot, segment.base_time, row.value())?;
                    record::encode_stub(stored.created_at(), segment.base_time, &mut stub);
                    cursor.insert_before(slot, stub.as_slice()).storage()?;
                }
                rows += 1;
                if rows == TICK_ROWS {
                    self.tick(std::mem::take(&mut rows))?;
                }
            }
            cursor.close().storage()?;
            self.tick(rows)?;
            if expected < slots.end {
                return Err(view.missing(index, expected));
            }
        }
        self.copy_rows(names.results(), |slot: &Slot| state.is_live(segment.id(*slot)))?;
        self.copy_origins(state.id, segment.number, &codes)?;
        let table = state.take_table_number();
        let row_entries = self.source.engine.row_entries();
        if let Some(table) = fold.write(self.txn, state, segment, table, row_entries)? {
            state.add_table(table);
        }
        Ok(())
    }

    /// Copies the origins that live records of a segment have.
    fn copy_origins(&self, pool: PoolId, segment: SegmentNumber, codes: &RoaringBitmap) -> Result<()> {
        let source = self.source.snapshot.table(schema::ORIGINS)?;
        let Some(source) = source.filter(|_| !codes.is_empty()) else { return Ok(()) };
        let mut copy = self.txn.open_table(schema::ORIGINS).storage()?;
        for code in codes {
            if let Some(row) = source.get((pool, segment, code)).storage()? {
                copy.insert((pool, segment, code), row.value()).storage()?;
            }
        }
        Ok(())
    }
}

struct CopyTable<'a>(&'a Run<'a>);

impl TableVisitor for CopyTable<'_> {
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<()> {
        self.0.copy_rows(table, |_| true)
    }
}
