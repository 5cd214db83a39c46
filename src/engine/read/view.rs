//! Consistent reading: a snapshot of the file and the pool's state as of the same commit.
//!
//! Owns: [`View`]. Always holds: the tables of a view and its state belong to the same commit. While a view
//! exists, no page that its commit uses can be reused, so hold it briefly.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use redb::ReadOnlyTable;

use crate::backend::fingerprint::HashKey;
use crate::engine::format::codec;
use crate::engine::format::record::{self, StoredOrigin, StoredRecord};
use crate::engine::format::schema::{self, SegmentTables, Slot};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::read::snapshot::{Lazy, Snapshot, opened};
use crate::engine::storage::failure::StorageResult;
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::model::{Included, Origin, Record, Version};
use crate::search;
use crate::time::Timestamp;

/// The tables of one segment, each opened on first use.
#[derive(Default)]
struct SegmentView {
    records: Lazy<u32, &'static [u8]>,
    postings: Lazy<&'static [u8], &'static [u8]>,
    results: Lazy<u32, &'static [u8]>,
}

/// The tables of one pool as of one commit, each opened on first use.
#[derive(Default)]
struct PoolTables {
    segments: Box<[SegmentView]>,
    origins: Lazy<(PoolId, u32, u32), &'static [u8]>,
    claimed: Lazy<(PoolId, u128), u64>,
}

/// One pool as of one commit.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) state: Arc<PoolState>,
    pub(crate) hash_key: HashKey,
    /// Created when the first table is needed, because most checks of absent values need none. The views of
    /// one commit share it, because they differ only in expired records.
    tables: OnceLock<Arc<PoolTables>>,
    /// The time of the first record at or above the watermark, if there is one.
    oldest_time: OnceLock<Option<Timestamp>>,
    /// The number of records read through this view. `explain` uses its own view to count them.
    records_read: AtomicU64,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("state", &self.state).finish_non_exhaustive()
    }
}

impl View {
    pub(crate) fn new(snapshot: Arc<Snapshot>, state: Arc<PoolState>, hash_key: HashKey) -> Self {
        Self {
            snapshot,
            state,
            hash_key,
            tables: OnceLock::new(),
            oldest_time: OnceLock::new(),
            records_read: AtomicU64::new(0),
        }
    }

    /// Returns a separate view of the same moment, which only the caller uses.
    pub(crate) fn own(&self) -> Self {
        self.of_state(Arc::clone(&self.state))
    }

    /// Returns a view of the same snapshot with another state.
    pub(crate) fn of_state(&self, state: Arc<PoolState>) -> Self {
        Self::new(Arc::clone(&self.snapshot), state, self.hash_key.clone())
    }

    /// Returns a view of the same commit in which more records are dead.
    pub(crate) fn with_watermark(&self, watermark: RecordNumber) -> Self {
        let mut state = PoolState::clone(&self.state);
        state.expire_to(watermark);
        Self {
            snapshot: Arc::clone(&self.snapshot),
            state: Arc::new(state),
            hash_key: self.hash_key.clone(),
            tables: self.tables.clone(),
            oldest_time: OnceLock::new(),
            records_read: AtomicU64::new(0),
        }
    }

    /// Returns the time of the oldest record at or above the watermark, even if it is deleted; `None` if
    /// there is none.
    pub(crate) fn oldest_time(&self) -> Result<Option<Timestamp>> {
        if let Some(time) = self.oldest_time.get() {
            return Ok(*time);
        }
        let state = &self.state;
        let behind = state.segments.partition_point(|segment| segment.first_id <= state.watermark);
        // There may be a gap between two segments where dead ones were dropped.
        let first = match state.segment_of(state.watermark) {
            Some(_) => Some(state.watermark),
            None => state.segments.get(behind).map(|next| next.first_id).filter(|id| *id < state.next_id),
        };
        let time = first.map(|id| self.created_at(id)).transpose()?;
        Ok(*self.oldest_time.get_or_init(|| time))
    }

    pub(crate) fn records_read(&self) -> u64 {
        self.records_read.load(Ordering::Relaxed)
    }

    fn count_record(&self) {
        self.records_read.fetch_add(1, Ordering::Relaxed);
    }

    fn tables(&self) -> &PoolTables {
        self.tables.get_or_init(|| {
            let segments = self.state.segments.iter().map(|_| SegmentView::default()).collect();
            Arc::new(PoolTables { segments, ..PoolTables::default() })
        })
    }

    fn names(&self, index: usize) -> Result<SegmentTables> {
        let segment = self.state.segments.get(index).ok_or_else(|| no_segment(index))?;
        Ok(SegmentTables::new(self.state.id, segment.number))
    }

    fn segment(&self, index: usize) -> Result<&SegmentView> {
        self.tables().segments.get(index).ok_or_else(|| no_segment(index))
    }

    pub(crate) fn records(&self, index: usize) -> Result<Option<&ReadOnlyTable<u32, &'static [u8]>>> {
        opened(&self.segment(index)?.records, || self.snapshot.table(self.names(index)?.records()))
    }

    pub(crate) fn postings(
        &self,
        index: usize,
    ) -> Result<Option<&ReadOnlyTable<&'static [u8], &'static [u8]>>> {
        opened(&self.segment(index)?.postings, || self.snapshot.table(self.names(index)?.postings()))
    }

    /// Returns the results table of a segment, or `None` if the segment has no results.
    pub(crate) fn results(&self, index: usize) -> Result<Option<&ReadOnlyTable<u32, &'static [u8]>>> {
        opened(&self.segment(index)?.results, || self.snapshot.table(self.names(index)?.results()))
    }

    /// Returns the table of owners of claimed values, for all pools.
    pub(crate) fn claimed(&self) -> Result<Option<&ReadOnlyTable<(PoolId, u128), u64>>> {
        opened(&self.tables().claimed, || self.snapshot.table(schema::CLAIMED))
    }

    /// Reads a record of a segment.
    fn stored(&self, index: usize, slot: Slot) -> Result<Row> {
        self.count_record();
        let row = match self.records(index)? {
            Some(table) => table.get(slot).storage()?,
            None => None,
        };
        row.ok_or_else(|| self.missing(index, slot))
    }

    pub(crate) fn missing(&self, index: usize, slot: Slot) -> Error {
        let pool = self.state.id;
        Error::corrupt(format!("pool {pool}: the record in slot {slot} of segment {index} is missing"))
    }

    /// Returns the pool time of a record, dead or alive.
    pub(crate) fn created_at(&self, id: RecordNumber) -> Result<Timestamp> {
        let (index, segment) = self.segment_of(id)?;
        let slot = segment.slot(id);
        let row = self.stored(index, slot)?;
        Ok(record::decode_slot(slot, segment.base_time, row.value())?.created_at())
    }

    /// Reads the row of a live record.
    pub(crate) fn row(&self, id: RecordNumber) -> Result<Row> {
        let (index, segment) = self.segment_of(id)?;
        self.stored(index, segment.slot(id))
    }

    /// Decodes the record in a row.
    pub(crate) fn stored_in<'r>(&self, id: RecordNumber, row: &'r Row) -> Result<StoredRecord<'r>> {
        let (_, segment) = self.segment_of(id)?;
        record::decode(segment.slot(id), segment.base_time, row.value())
    }

    fn segment_of(&self, id: RecordNumber) -> Result<(usize, &SegmentState)> {
        self.state
            .segment_of(id)
            .ok_or_else(|| Error::corrupt(format!("pool {}: no segment holds record {id}", self.state.id)))
    }

    /// Reads live records, in ascending order of ids.
    pub(crate) fn fetch(&self, ids: &[RecordNumber]) -> Result<Vec<Record>> {
        self.fetch_with(ids, Rows::default())
    }

    /// Like [`fetch`](Self::fetch), but uses rows that were already read.
    pub(crate) fn fetch_with(&self, ids: &[RecordNumber], rows: Rows) -> Result<Vec<Record>> {
        let mut reader = RecordReader { view: self, rows, origins: HashMap::new(), run: None };
        let next = ids.iter().skip(1).copied().map(Some).chain([None]);
        ids.iter().zip(next).map(|(id, next)| reader.read(*id, next == Some(*id + 1))).collect()
    }

    /// Reads the versions of live records, in ascending order of ids.
    pub(crate) fn versions(&self, ids: &[RecordNumber]) -> Result<Vec<Option<Version>>> {
        let mut reader =
            RecordReader { view: self, rows: Rows::default(), origins: HashMap::new(), run: None };
        let next = ids.iter().skip(1).copied().map(Some).chain([None]);
        let version = |(id, next): (&RecordNumber, Option<RecordNumber>)| {
            let (index, segment) = self.segment_of(*id)?;
            let slot = segment.slot(*id);
            let row = reader.row(*id, index, slot, next == Some(*id + 1))?;
            Ok(record::decode(slot, segment.base_time, row.value())?.version)
        };
        ids.iter().zip(next).map(version).collect()
    }

    /// Calls back with live records in their stored form, without their origins. The ids must ascend and be
    /// close together.
    pub(crate) fn each_stored(
        &self,
        ids: &[RecordNumber],
        mut show: impl FnMut(StoredRecord<'_>) -> Result<()>,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(()) };
        let (index, segment) = self.segment_of(*first)?;
        let mut wanted = ids.iter().map(|id| segment.slot(*id)).peekable();
        if let Some(table) = self.records(index)? {
            for row in table.range(segment.slot(*first)..=segment.slot(*last)).storage()? {
                let (slot, row) = row.storage()?;
                if let Some(slot) = wanted.next_if_eq(&slot.value()) {
                    show(record::decode(slot, segment.base_time, row.value())?)?;
                }
            }
        }
        self.records_read.fetch_add(ids.len() as u64, Ordering::Relaxed);
        wanted.next().map_or(Ok(()), |missing| Err(self.missing(index, missing)))
    }

    /// Returns the origin with a code in a segment.
    pub(crate) fn origin(&self, segment: &SegmentState, code: Slot) -> Result<Arc<Origin>> {
        let table = opened(&self.tables().origins, || self.snapshot.table(schema::ORIGINS))?;
        let row = match table {
            Some(table) => table.get((self.state.id, segment.number, code)).storage()?,
            None => None,
        };
        let row = row.ok_or_else(|| {
            Error::corrupt(format!(
                "pool {}: origin {code} of segment {} is missing",
                self.state.id, segment.number
            ))
        })?;
        Ok(Arc::new(codec::decode_origin(row.value())?))
    }
}

fn no_segment(index: usize) -> Error {
    Error::corrupt(format!("the pool has no segment {index}"))
}

/// A run of records that are read by iterating over the table, instead of one lookup for each.
struct Run {
    index: usize,
    next: Slot,
    rows: redb::Range<'static, u32, &'static [u8]>,
}

/// Reads many records of one view. It iterates over neighbouring records, and reads each origin once.
struct RecordReader<'a> {
    view: &'a View,
    rows: Rows,
    origins: HashMap<(usize, Slot), Arc<Origin>>,
    run: Option<Run>,
}

/// A record's row.
pub(crate) type Row = redb::AccessGuard<'static, &'static [u8]>;

/// Rows of records, by id.
pub(crate) type Rows = HashMap<RecordNumber, Row>;

/// The largest number of cached origins. When it is reached, the cache is cleared.
const ORIGINS_KEPT: usize = 4_096;

impl RecordReader<'_> {
    /// Reads the row of a record, given its segment and slot. `is_followed` is true if the next record to
    /// read is its neighbour.
    fn row(&mut self, id: RecordNumber, index: usize, slot: Slot, is_followed: bool) -> Result<Row> {
        let row = match self.rows.remove(&id) {
            Some(row) => Some(row),
            None => self.walk(index, slot, is_followed)?,
        };
        match row {
            Some(row) => Ok(row),
            None => self.view.stored(index, slot),
        }
    }

    /// Reads a record. `is_followed` is true if the next record to read is its neighbour.
    fn read(&mut self, id: RecordNumber, is_followed: bool) -> Result<Record> {
        let view = self.view;
        let (index, segment) = view.segment_of(id)?;
        let slot = segment.slot(id);
        let row = self.row(id, index, slot, is_followed)?;
        let stored = record::decode(slot, segment.base_time, row.value())?;
        let origin = match &stored.origin {
            StoredOrigin::None => None,
            StoredOrigin::Code(code) => Some(self.origin(index, segment, *code)?),
            StoredOrigin::Here(row) => Some(Arc::new(codec::decode_origin(row)?)),
        };
        let origin = origin.as_deref();
        Ok(Record {
            id: id.into(),
            data_pool_id: view.state.id,
            entity_type_id: stored.entity_type,
            value: stored.value.to_owned(),
            flow_id: origin.and_then(|origin| origin.flow.clone()),
            flow_run_id: origin.and_then(|origin| origin.run.clone()),
            step_id: origin.and_then(|origin| origin.step.clone()),
            created_at: stored.created_at,
            version: stored.version,
            included: Included::default(),
        })
    }

    /// Returns the row of a slot by iterating over the table. If the row does not follow the last one read,
    /// starts a new iteration, but only if it is followed by its neighbour.
    fn walk(&mut self, index: usize, slot: Slot, is_followed: bool) -> Result<Option<Row>> {
        let follows = self.run.as_ref().is_some_and(|run| run.index == index && run.next == slot);
        if !follows {
            if !is_followed {
                return Ok(None);
            }
            let Some(table) = self.view.records(index)? else { return Ok(None) };
            // Starting an iteration costs one lookup. The rows that follow are almost free.
            self.run = Some(Run { index, next: slot, rows: table.range(slot..).storage()? });
        }
        let Some(run) = &mut self.run else { return Ok(None) };
        run.next = slot + 1;
        self.view.count_record();
        match run.rows.next().transpose().storage()? {
            Some((key, row)) if key.value() == slot => Ok(Some(row)),
            _ => Ok(None),
        }
    }

    fn origin(&mut self, index: usize, segment: &SegmentState, code: Slot) -> Result<Arc<Origin>> {
        if let Some(origin) = self.origins.get(&(index, code)) {
            return Ok(Arc::clone(origin));
        }
        if self.origins.len() >= ORIGINS_KEPT {
            self.origins.clear();
        }
        let origin = self.view.origin(segment, code)?;
        self.origins.insert((index, code), Arc::clone(&origin));
        Ok(origin)
    }
}

/// Finding points in time, by searching over ids in time order.
impl View {
    /// Returns the first id whose record was created at or after `time`, or `next_id` if there is none.
    pub(crate) fn first_at_or_after(&self, time: Timestamp) -> Result<RecordNumber> {
        let state = &self.state;
        // The answer is in the last segment whose base time is earlier than `time`, or after that segment.
        let earlier = state.segments.partition_point(|segment| segment.base_time < time);
        let Some(index) = earlier.checked_sub(1) else { return Ok(self.id_range_of(0).start) };
        let ids = self.id_range_of(index);
        let ids = self.narrow_by_blocks(index, ids, time)?;
        // Records below the watermark may already be removed, and are never needed.
        let start = ids.start.max(state.watermark);
        let first = search::try_first_that(start..ids.end, |id| Ok(self.created_at(id)? >= time))?;
        if first < self.id_range_of(index).end || index + 1 >= state.segments.len() {
            return Ok(first);
        }
        Ok(self.id_range_of(index + 1).start)
    }

    fn id_range_of(&self, index: usize) -> Range<RecordNumber> {
        let start = self.state.segments.get(index).map_or(self.state.next_id, |segment| segment.first_id);
        start..self.state.end_of(index).max(start)
    }

    /// Returns the block of a segment with the first record at or after `time`, from the sparse time index.
    fn narrow_by_blocks(
        &self,
        index: usize,
        ids: Range<RecordNumber>,
        time: Timestamp,
    ) -> Result<Range<RecordNumber>> {
        let (Some(times), Some(segment)) =
            (self.snapshot.table(schema::TIMES)?, self.state.segments.get(index))
        else {
            return Ok(ids);
        };
        let block_slots = u64::from(schema::TIME_BLOCK_SLOTS);
        let blocks = (ids.end - ids.start).div_ceil(block_slots);
        // The answer is not below the watermark, so earlier blocks need not be searched.
        let behind = segment.slot(self.state.watermark.max(segment.first_id)) / schema::TIME_BLOCK_SLOTS + 1;
        let is_later = |block: u64| {
            let block = u32::try_from(block).unwrap_or(u32::MAX);
            let first = times.get((self.state.id, segment.number, block)).storage()?;
            Ok(first.is_none_or(|first| Timestamp::from_micros(first.value()) >= time))
        };
        let block = search::try_first_that(u64::from(behind).min(blocks)..blocks, is_later)?;
        let start = ids.start + block.saturating_sub(1) * block_slots;
        Ok(start..ids.end.min(start + block_slots))
    }
}
