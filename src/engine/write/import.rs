//! Bulk import: many rows in one transaction, indexed as they arrive.
//!
//! Owns: the pipeline of an import's transaction. The tail is folded first. Then one thread reads and hashes
//! rows, this thread appends them, and another one sorts their index entries and writes those of full
//! segments. Always holds: an import that fails leaves no trace. Readers see all of its rows or none.

mod rows;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, Scope};
use std::time::Instant;

use redb::WriteTransaction;

use self::rows::{Buffer, ReadAhead, read_ahead};
use crate::backend::counters::Work;
use crate::backend::fingerprint::HashKey;
use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::backend::import::{BulkReport, Present, RowSource};
use crate::engine::Engine;
use crate::engine::format::record::{StoredOrigin, StoredRecord};
use crate::engine::format::schema::{SegmentNumber, Slot, TableNumber};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::{TailEntry, TailView};
use crate::engine::probe::filter::Question;
use crate::engine::probe::table::FingerprintTable;
use crate::engine::read::view::View;
use crate::engine::storage::space::Need;
use crate::engine::write::append::{Follower, KnownOrigins, OriginWriter, append_to_segment};
use crate::engine::write::claim_rows;
use crate::engine::write::commit::Changes;
use crate::engine::write::fold::fold_now;
use crate::engine::write::fold::whole::WholeFold;
use crate::engine::write::log::Event;
use crate::engine::write::reclaim::prune_at_once;
use crate::engine::write::tables::IndexWriter;
use crate::engine::write::writer::Writer;
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::parallel::spawn;
use crate::time::Timestamp;

/// The largest number of commits for background work that an import makes, because there may be no other
/// writer.
const WORK_OFF_COMMITS: usize = 16;

impl Engine {
    /// Adds rows to a pool in one commit.
    ///
    /// # Errors
    ///
    /// `NotFound`; `AlreadyExists` with [`Present::Fail`]; `InvalidArgument` if a live record is newer than
    /// the first row; the errors of the source and of the commit.
    pub(crate) fn import(
        &self,
        pool: PoolId,
        source: &mut (dyn RowSource + Send),
        present: Present,
    ) -> Result<BulkReport> {
        self.exclusive(|writer| {
            let (now, started) = (self.clock.now(), Instant::now());
            let view = self.view_at(pool, now)?;
            let txn = self.begin()?;
            let mut import = Import::new(self, &txn, &view, now, present)?;
            let import_folds = import.fold_tails()?;
            let seals_from = import.state.open_number();
            let (report, mut state, voided) = import.run(source)?;
            drop(view);
            if report.added == 0 {
                return Ok(report);
            }
            claim_rows::void(&txn, pool, &voided)?;
            state.evict();
            let segments_dropped = prune_at_once(&txn, &mut state)?;
            // Segments are numbered in the order in which they are opened, and each is opened when the one
            // before is sealed.
            let seals = u64::from(state.open_number().saturating_sub(seals_from));
            let folds = u64::from(import_folds);
            let work = Work { folds, seals, segments_dropped };
            let event = Some(Event::Import { pool, rows: report.added, started });
            self.commit(writer, txn, Changes { need: Need::Adding, pools: vec![state.into()], work, event })?;
            self.work_off(writer);
            Ok(report)
        })
    }
}

impl Engine {
    /// Performs an import's share of background work, in separate commits.
    fn work_off(&self, writer: &mut Writer) {
        for _ in 0..WORK_OFF_COMMITS {
            let Some(id) = self.next_due(writer) else { return };
            // The import itself is complete. If this fails, the next caller that uses that pool gets the
            // error.
            if self.work_step(writer, id).is_err() {
                writer.forget();
                self.forget_work(writer, id);
            }
        }
    }
}

struct Import<'a> {
    engine: &'a Engine,
    txn: &'a WriteTransaction,
    base: &'a View,
    state: PoolState,
    /// The time of the next appended rows.
    time: Timestamp,
    /// Rows with this time or an earlier one are expired when they are added.
    horizon: Option<Timestamp>,
    origins: KnownOrigins,
    present: Present,
    report: BulkReport,
    /// The fingerprints that this import added to the open segment. Kept only if rows must be looked up.
    added_here: HashSet<Fingerprint, BuildFingerprintHasher>,
    /// The channel through which the written tables of fingerprints arrive.
    tables: (mpsc::Sender<FingerprintTable>, mpsc::Receiver<FingerprintTable>),
    /// The values that claims own.
    owned: HashSet<Fingerprint, BuildFingerprintHasher>,
    /// Those of them that this import tracked.
    voided: Vec<Fingerprint>,
    /// The number of records of the open segment that are not yet sent for indexing.
    unindexed: usize,
}

/// A message to the indexing thread.
enum ForIndex {
    /// Entries of the open segment, starting at a slot.
    Entries(Slot, Vec<TailEntry>),
    /// The segment has no more entries.
    End(Box<Portion>),
}

/// The largest number of buffers whose entries may wait for the indexing thread: those of the segment after
/// the one that it is writing.
const WAITING_MAX: usize = 16;

/// A segment's share of the index.
struct Portion {
    segment: SegmentState,
    state: PoolState,
    /// The number for its table of fingerprints.
    table: TableNumber,
}

impl<'a> Import<'a> {
    fn new(
        engine: &'a Engine,
        txn: &'a WriteTransaction,
        base: &'a View,
        now: Timestamp,
        present: Present,
    ) -> Result<Self> {
        let mut state = PoolState::clone(&base.state);
        state.skip_deleted_head();
        state.start_over_if_dead(now);
        let owned =
            if state.claims.is_empty() { HashSet::default() } else { base.owners()?.into_keys().collect() };
        let (time, horizon) = (state.pool_time(now), state.horizon(now));
        Ok(Self {
            engine,
            txn,
            base,
            state,
            time,
            horizon,
            origins: KnownOrigins::default(),
            present,
            report: BulkReport::default(),
            added_here: HashSet::default(),
            tables: mpsc::channel(),
            owned,
            voided: Vec::new(),
            unindexed: 0,
        })
    }

    /// Folds the tails. Returns true if there was anything to fold.
    fn fold_tails(&mut self) -> Result<bool> {
        let folded_to = self.state.folded_to;
        let tails = self.base.state.frozen.iter().chain([&self.base.state.active]);
        // If the pool was dead and starts over, nothing is left to fold.
        let entries = tails.flat_map(TailView::entries).filter(|(id, _)| *id >= folded_to);
        let mut entries = entries.peekable();
        let is_any = entries.peek().is_some();
        fold_now(self.txn, &mut self.state, entries, &self.engine.tuning)?;
        self.state.all_is_folded();
        Ok(is_any)
    }

    /// Appends and indexes every row. Returns the report, the state to publish, and the values taken from
    /// claims.
    fn run(
        mut self,
        source: &mut (dyn RowSource + Send),
    ) -> Result<(BulkReport, PoolState, Vec<Fingerprint>)> {
        let (txn, hash_key) = (self.txn, &self.engine.hash_key);
        let row_entries = self.engine.tuning.row_entries();
        let tables = self.tables.0.clone();
        let mut indexer = Indexer { txn, fold: WholeFold::default(), row_entries, tables };
        if self.present == Present::Add {
            thread::scope(|scope| {
                let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
                let indexing = spawn(scope, "datapool-index", move || {
                    receiver.into_iter().try_for_each(|what| indexer.take(what))
                })?;
                // The receiver is dropped only if its thread failed, and then that error is reported.
                let stopped = |_| Error::storage("the indexing thread stopped");
                let appended =
                    self.append_all(scope, hash_key, source, |what| sender.send(what).map_err(stopped));
                drop(sender);
                let done =
                    indexing.join().unwrap_or_else(|_| Err(Error::corrupt("the indexing thread panicked")));
                // A failure of the indexing thread also ends the appending, so its error is the cause.
                done.and(appended)
            })?;
        } else {
            // Indexed rows are looked up again, so the thread that appends them also indexes them.
            thread::scope(|scope| self.append_all(scope, hash_key, source, |what| indexer.take(what)))?;
        }
        self.keep_tables();
        self.state.all_is_folded();
        Ok((self.report, self.state, self.voided))
    }

    /// Appends every row, and sends the entries for indexing.
    fn append_all<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        hash_key: &'scope HashKey,
        source: &'scope mut (dyn RowSource + Send),
        mut index: impl FnMut(ForIndex) -> Result<()>,
    ) -> Result<()> {
        let mut first = Buffer::default();
        first.fill(hash_key, source)?;
        if let Some(time) = first.times.first() {
            self.begin_at(*time)?;
        }
        let rest = first.is_full().then(|| read_ahead(scope, hash_key, source)).transpose()?;
        self.append(&first, &mut index)?;
        if let Some(ReadAhead { buffers, used, thread }) = rest {
            let _ = used.send(first);
            for buffer in buffers {
                self.append(&buffer, &mut index)?;
                // If there is nothing more to read, nobody takes the buffer.
                let _ = used.send(buffer);
            }
            thread.join().unwrap_or_else(|_| Err(Error::corrupt("the reading thread panicked")))?;
        }
        self.hand_over(&mut index)
    }

    /// Prepares the pool for rows that begin at a time in the past.
    ///
    /// Ids are in time order among live records, and among all records of one segment. So the open segment is
    /// sealed if its last record is newer, even if that record is dead. Segments without a live record are
    /// dropped.
    fn begin_at(&mut self, time: Timestamp) -> Result<()> {
        if let Some(newest) = self.state.newest_live() {
            let created_at = self.base.created_at(newest)?;
            if created_at > time {
                return Err(Error::invalid_argument(format!(
                    "the first row's time is {time}, but record {newest} of the pool is newer: {created_at}; rows with times \
                     can be imported only into a pool whose live records are not newer"
                )));
            }
        }
        let last = self.state.next_id - 1;
        let is_open = self.state.open_segment().is_some_and(|open| open.first_id <= last);
        if is_open && self.base.created_at(last)? > time {
            self.state.seal_open_segment(time);
        }
        self.state.drop_dead_segments();
        Ok(())
    }

    /// Appends the rows of a buffer.
    fn append(&mut self, buffer: &Buffer, index: &mut impl FnMut(ForIndex) -> Result<()>) -> Result<()> {
        // Check now, because rows that cannot be committed would fill the memory.
        self.engine.check_room(Need::Adding)?;
        let wanted = self.wanted_rows(buffer)?;
        let mut rest = wanted.as_slice();
        while let Some(row) = rest.first() {
            if let Some(time) = buffer.times.get(*row) {
                self.time = *time;
                // A segment that began long before may be full now.
                if self.open_segment_is_full() {
                    self.hand_over(index)?;
                    self.remember(buffer, rest);
                }
            }
            let (first, entries) = self.append_to_segment(buffer, rest)?;
            rest = rest.get(entries.len()..).unwrap_or_default();
            self.unindexed += entries.len();
            index(ForIndex::Entries(first, entries))?;
            if self.open_segment_is_full() {
                self.hand_over(index)?;
                self.remember(buffer, rest);
            }
        }
        Ok(())
    }

    /// Returns the rows of the buffer that must be added.
    fn wanted_rows(&mut self, buffer: &Buffer) -> Result<Vec<usize>> {
        let rows = &buffer.rows;
        if self.present == Present::Add {
            return Ok((0..rows.len()).collect());
        }
        let present = rows.ask_together(|fingerprints| self.are_present(fingerprints))?;
        let mut wanted = Vec::with_capacity(rows.len());
        for (index, (item, present)) in rows.items().iter().zip(present).enumerate() {
            // A row that is already expired does not make a later row a duplicate. Of equal rows within a
            // buffer, the first is added.
            if !present && (self.is_expired(buffer, index) || self.added_here.insert(item.fingerprint)) {
                wanted.push(index);
            } else if self.present == Present::Skip {
                self.report.skipped += 1;
            } else {
                return Err(Error::already_exists(format!(
                    "line {}: the value {:?} of entity type {} is in the pool already, or earlier in the file",
                    buffer.lines.get(index).copied().unwrap_or_default(),
                    rows.value(index),
                    item.entity_type
                )));
            }
        }
        Ok(wanted)
    }

    /// Records the rows left over for the next segment as added, so that they are found there.
    fn remember(&mut self, buffer: &Buffer, rows: &[usize]) {
        if self.present != Present::Add {
            let rows = rows.iter().filter(|row| !self.is_expired(buffer, **row));
            let items = rows.filter_map(|row| buffer.rows.items().get(*row));
            let fingerprints: Vec<Fingerprint> = items.map(|item| item.fingerprint).collect();
            self.added_here.extend(fingerprints);
        }
    }

    /// Returns true if a row is older than the pool's retention.
    fn is_expired(&self, buffer: &Buffer, row: usize) -> bool {
        buffer.times.get(row).is_some_and(|time| Some(*time) <= self.horizon)
    }

    /// Returns true for each fingerprint that has a live record or was added by this import. Ascending order
    /// is fastest.
    fn are_present(&self, fingerprints: &[Fingerprint]) -> Result<Vec<bool>> {
        let found = self.base.find_any_of(&self.base.state, fingerprints)?;
        let mut present: Vec<bool> = found.iter().map(Option::is_some).collect();
        for (fingerprint, present) in fingerprints.iter().zip(&mut present) {
            *present |= self.added_here.contains(fingerprint);
        }
        // Records from before this import are looked up in the base.
        let added = self.state.tables.iter().filter(|table| table.ids.start >= self.base.state.next_id);
        let mut rows = None;
        for table in added {
            let rows = match &mut rows {
                Some(rows) => rows,
                none => none.insert(IndexWriter::open(self.txn, self.state.id)?),
            };
            for (fingerprint, present) in
                fingerprints.iter().zip(&mut present).filter(|(_, present)| !**present)
            {
                let question = Question::of(*fingerprint);
                if table.may_contain(rows, &question)? {
                    let found = table.visit(rows, *fingerprint, question.value, |entry| {
                        if self.state.is_live(table.id_of(entry)) {
                            ControlFlow::Break(())
                        } else {
                            ControlFlow::Continue(())
                        }
                    })?;
                    *present = found.is_break();
                }
            }
        }
        Ok(present)
    }

    /// Appends rows to the open segment until it is full. Returns the slot of the first row, and the index
    /// entries.
    fn append_to_segment(&mut self, buffer: &Buffer, rows: &[usize]) -> Result<(Slot, Vec<TailEntry>)> {
        // Assigning the first id opens the next segment if the last one is full.
        let first = self.state.assign_id(self.time);
        let Some(segment) = self.state.open_segment().cloned() else {
            return Err(Error::corrupt("the pool has no open segment"));
        };
        let used = usize::try_from(first - segment.first_id).unwrap_or(usize::MAX);
        let room = (self.state.open_segment_slots(self.time) as usize).saturating_sub(used);
        let taken = rows.len().min(room);
        let slot = segment.slot(first);
        let now = rows.get(..taken).unwrap_or_default();
        let entries: Vec<TailEntry> = now.iter().filter_map(|row| buffer.tail_entry(*row)).collect();
        if !self.owned.is_empty() {
            for entry in &entries {
                if self.owned.remove(&entry.fingerprint) {
                    self.voided.push(entry.fingerprint);
                }
            }
        }
        let mut origins = self.store_origins(segment.number, (slot..).zip(&entries))?.into_iter();
        let time_of = |row: &usize| buffer.times.get(*row).copied().unwrap_or(self.time);
        let stored = now.iter().filter_map(|row| {
            let entity_type = buffer.rows.items().get(*row)?.entity_type;
            let (value, created_at) = (buffer.rows.value(*row), time_of(row));
            let version = buffer.rows.version(*row);
            let origin = origins.next().unwrap_or(StoredOrigin::None);
            Some(StoredRecord { origin, entity_type, created_at, version, value })
        });
        append_to_segment(self.txn, self.state.id, &segment, slot, stored)?;
        let appended_time = now.last().map_or(self.time, time_of);
        self.state.assign_more_ids((taken as u64).saturating_sub(1), appended_time);
        self.report.added += taken as u64;
        if let Some(horizon) = self.horizon {
            let expired = now.partition_point(|row| time_of(row) <= horizon);
            if expired > 0 {
                self.state.expire_to(first + expired as RecordNumber);
            }
        }
        // The next segment begins no earlier than this one ends.
        self.time = appended_time;
        Ok((slot, entries))
    }

    /// Returns how records store their origins, or nothing if none of them has an origin.
    fn store_origins<'e>(
        &mut self,
        segment: SegmentNumber,
        records: impl Iterator<Item = (Slot, &'e TailEntry)> + Clone,
    ) -> Result<Vec<StoredOrigin<'static>>> {
        if records.clone().all(|(_, entry)| entry.origin.is_none()) {
            return Ok(Vec::new());
        }
        let mut writer = OriginWriter::new(self.txn, self.state.id, segment, &mut self.origins);
        let mut records = records.peekable();
        let mut stored = Vec::with_capacity(records.size_hint().0);
        while let Some((slot, entry)) = records.next() {
            let follower = match (&entry.origin, records.peek().map(|(_, next)| &next.origin)) {
                (Some(origin), Some(Some(next))) if Arc::ptr_eq(origin, next) => Follower::OfSameBatch,
                _ => Follower::OfAnother,
            };
            stored.push(writer.store(entry.origin.as_ref(), slot, follower)?);
        }
        Ok(stored)
    }

    fn open_segment_is_full(&self) -> bool {
        let open = self.state.open_segment();
        open.is_some_and(|open| {
            self.state.next_id - open.first_id >= u64::from(self.state.open_segment_slots(self.time))
        })
    }

    /// Sends the new entries of the open segment for indexing, if there are any.
    fn hand_over(&mut self, index: &mut impl FnMut(ForIndex) -> Result<()>) -> Result<()> {
        let Some(segment) = self.state.open_segment().cloned().filter(|_| self.unindexed > 0) else {
            return Ok(());
        };
        self.unindexed = 0;
        let table = self.state.take_table_number();
        let portion = Portion { segment, state: self.state.clone(), table };
        if self.open_segment_is_full() {
            self.state.seal_open_segment(self.time);
            self.added_here.clear();
        }
        index(ForIndex::End(Box::new(portion)))?;
        self.keep_tables();
        Ok(())
    }

    /// Adds the tables that were written meanwhile.
    fn keep_tables(&mut self) {
        for table in self.tables.1.try_iter() {
            self.state.add_table(table);
        }
    }
}

/// Collects and writes index entries, segment by segment.
struct Indexer<'a> {
    txn: &'a WriteTransaction,
    fold: WholeFold,
    row_entries: u64,
    /// Receives the tables that were written.
    tables: mpsc::Sender<FingerprintTable>,
}

impl Indexer<'_> {
    fn take(&mut self, what: ForIndex) -> Result<()> {
        match what {
            ForIndex::Entries(first, entries) => {
                (first..).zip(entries).for_each(|(slot, entry)| self.fold.push(slot, entry));
                Ok(())
            }
            ForIndex::End(portion) => self.write(*portion),
        }
    }

    fn write(&mut self, Portion { segment, state, table }: Portion) -> Result<()> {
        let fold = std::mem::take(&mut self.fold);
        if let Some(table) = fold.write(self.txn, &state, &segment, table, self.row_entries)? {
            // The receiver outlives this thread.
            let _ = self.tables.send(table);
        }
        Ok(())
    }
}
