//! Finding records by fingerprint.
//!
//! Owns: the order in which tails and tables are searched. Always holds: an entry counts only if the liveness
//! rule of the given state says so. The writer passes the state of its draft; readers pass that of the view.

use std::array;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use redb::AccessGuard;

use crate::backend::fingerprint::Fingerprint;
use crate::backend::rules::LiveRecords;
use crate::engine::format::index_row::{Entry, has_version, key_of};
use crate::engine::format::schema::TableNumber;
use crate::engine::pool::state::PoolState;
use crate::engine::probe::filter::{Line, Question};
use crate::engine::probe::table::{FingerprintTable, IndexRows};
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use crate::ids::RecordNumber;

/// The number of fingerprints looked up per block. Their data stays in the processor's caches.
const BLOCK: usize = 1_024;

/// One of many fingerprints looked up together.
struct Sought<'f> {
    fingerprint: Fingerprint,
    question: Question,
    found: &'f mut Option<RecordNumber>,
}

/// Counts how filters answered, for `explain`.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) looked_up: u64,
    pub(crate) ruled_out: u64,
}

impl Asked {
    fn count(&mut self, may_contain: bool) -> bool {
        *(if may_contain { &mut self.looked_up } else { &mut self.ruled_out }) += 1;
        may_contain
    }
}

/// The rows of the pool's tables as of the snapshot.
impl IndexRows for View {
    fn row(&self, table: TableNumber, row: u32, part: u32) -> Result<Option<AccessGuard<'_, &'static [u8]>>> {
        match self.snapshot.fingerprints()? {
            Some(rows) => rows.get((self.state.id, table, row, part)).storage(),
            None => Ok(None),
        }
    }

    fn piece(&self, table: TableNumber, piece: u32) -> Result<Option<AccessGuard<'_, &'static [u8]>>> {
        match self.snapshot.filters()? {
            Some(pieces) => pieces.get((self.state.id, table, piece)).storage(),
            None => Ok(None),
        }
    }
}

impl View {
    /// Returns a live record of the fingerprint. If there are several, it may be any of them.
    pub(crate) fn find_any(&self, fingerprint: Fingerprint) -> Result<Option<RecordNumber>> {
        let state = &*self.state;
        if let Some(id) = self.find_in_tails(state, fingerprint) {
            return Ok(Some(id));
        }
        let question = Question::of(fingerprint);
        touch_lines(&state.tables, &question);
        // Everything below the watermark is dead, and so are all tables below it.
        let tables = state.tables.iter().rev().take_while(|table| table.ids.end > state.watermark);
        for table in tables {
            if table.may_contain(self, &question)?
                && let Some(id) = self.first_live(state, table, fingerprint, &question)?
            {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Like [`find_any`](Self::find_any), for many fingerprints, preferably in ascending order. Searches one
    /// table for all of them before the next table, so that cache misses overlap.
    pub(crate) fn find_any_of(
        &self,
        state: &PoolState,
        fingerprints: &[Fingerprint],
    ) -> Result<Vec<Option<RecordNumber>>> {
        let mut found = Vec::with_capacity(fingerprints.len());
        for block in fingerprints.chunks(BLOCK) {
            found.append(&mut self.find_any_of_block(state, block)?);
        }
        Ok(found)
    }

    fn find_any_of_block(
        &self,
        state: &PoolState,
        block: &[Fingerprint],
    ) -> Result<Vec<Option<RecordNumber>>> {
        let mut found: Vec<_> = block.iter().map(|sought| self.find_in_tails(state, *sought)).collect();
        let open = block.iter().zip(&mut found).filter(|(_, found)| found.is_none());
        let mut open: Vec<Sought<'_>> = open
            .map(|(fingerprint, found)| Sought {
                fingerprint: *fingerprint,
                question: Question::of(*fingerprint),
                found,
            })
            .collect();
        for table in self.state.tables.iter().rev().filter(|table| table.ids.end > state.watermark) {
            if open.is_empty() {
                break;
            }
            touch_lines_of(table, open.iter().map(|sought| &sought.question));
            for sought in &mut open {
                if table.may_contain(self, &sought.question)? {
                    *sought.found = self.first_live(state, table, sought.fingerprint, &sought.question)?;
                }
            }
            open.retain(|sought| sought.found.is_none());
        }
        Ok(found)
    }

    /// Returns the live records of each of many fingerprints, preferably in ascending order. Like
    /// [`find_any_of`](Self::find_any_of), it searches one table before the next. Records are read for their
    /// versions only if an index says that they have one, in the order of their ids.
    pub(crate) fn live_records_of(
        &self,
        state: &PoolState,
        fingerprints: &[Fingerprint],
    ) -> Result<Vec<LiveRecords>> {
        let mut found = vec![LiveRecords::default(); fingerprints.len()];
        let mut with_version = vec![false; fingerprints.len()];
        for ((block, found), marks) in
            fingerprints.chunks(BLOCK).zip(found.chunks_mut(BLOCK)).zip(with_version.chunks_mut(BLOCK))
        {
            self.find_live(state, block, found, marks)?;
        }
        let newest = |(place, (found, mark)): (usize, (&LiveRecords, &bool))| {
            found.ids.last().filter(|_| *mark).map(|id| (*id, place))
        };
        let mut to_read: Vec<_> = found.iter().zip(&with_version).enumerate().filter_map(newest).collect();
        to_read.sort_unstable();
        let ids: Vec<RecordNumber> = to_read.iter().map(|(id, _)| *id).collect();
        for ((_, place), version) in to_read.into_iter().zip(self.versions(&ids)?) {
            if let Some(found) = found.get_mut(place) {
                found.version = version;
            }
        }
        Ok(found)
    }

    /// Finds the live records of a block of fingerprints, and marks each fingerprint whose newest record has
    /// a version.
    fn find_live(
        &self,
        state: &PoolState,
        block: &[Fingerprint],
        found: &mut [LiveRecords],
        with_version: &mut [bool],
    ) -> Result<()> {
        let questions: Vec<Question> = block.iter().map(|fingerprint| Question::of(*fingerprint)).collect();
        for table in self.state.tables.iter().filter(|table| table.ids.end > state.watermark) {
            touch_lines_of(table, questions.iter());
            let keys = block.iter().zip(&questions).zip(found.iter_mut().zip(with_version.iter_mut()));
            for ((fingerprint, question), (found, mark)) in keys {
                if table.may_contain(self, question)? {
                    let _all = table.visit(self, *fingerprint, question.value, |entry| {
                        let id = table.id_of(entry);
                        if state.is_live(id) {
                            found.ids.push(id);
                            *mark = has_version(entry);
                        }
                        ControlFlow::Continue(())
                    })?;
                }
            }
        }
        for (fingerprint, (found, mark)) in block.iter().zip(found.iter_mut().zip(with_version)) {
            let mut ids = self.find_all_in_tails(state, *fingerprint);
            ids.sort_unstable();
            if let Some(newest) = ids.last() {
                let tails = self.state.frozen.iter().chain([&self.state.active]);
                *mark = tails.into_iter().any(|tail| tail.has_version(*newest));
                found.ids.append(&mut ids);
            }
        }
        Ok(())
    }

    /// Returns the first live record of a fingerprint in a table. Kept out of line, because most lookups end
    /// at the filter.
    #[inline(never)]
    fn first_live(
        &self,
        state: &PoolState,
        table: &FingerprintTable,
        fingerprint: Fingerprint,
        question: &Question,
    ) -> Result<Option<RecordNumber>> {
        let mut first = None;
        let _ended = table.visit(self, fingerprint, question.value, |entry| {
            let id = table.id_of(entry);
            if state.is_live(id) {
                first = Some(id);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(first)
    }

    /// Returns the oldest live record of the fingerprint.
    pub(crate) fn find_first(
        &self,
        state: &PoolState,
        fingerprint: Fingerprint,
    ) -> Result<Option<RecordNumber>> {
        let question = Question::of(fingerprint);
        touch_lines(&self.state.tables, &question);
        for table in self.state.tables.iter().filter(|table| table.ids.end > state.watermark) {
            if table.may_contain(self, &question)?
                && let Some(id) = self.first_live(state, table, fingerprint, &question)?
            {
                return Ok(Some(id));
            }
        }
        Ok(self.find_all_in_tails(state, fingerprint).into_iter().min())
    }

    /// Returns every live record of the fingerprint, ascending.
    pub(crate) fn find_all(&self, state: &PoolState, fingerprint: Fingerprint) -> Result<Vec<RecordNumber>> {
        let mut ids = self.folded_ids_of(fingerprint, &mut Asked::default())?;
        ids.append(&mut self.find_all_in_tails(state, fingerprint));
        ids.retain(|id| state.is_live(*id));
        ids.sort_unstable();
        Ok(ids)
    }

    /// Returns the live folded records of a fingerprint, in ascending order.
    pub(crate) fn folded_ids_of(
        &self,
        fingerprint: Fingerprint,
        asked: &mut Asked,
    ) -> Result<Vec<RecordNumber>> {
        let (question, mut ids) = (Question::of(fingerprint), Vec::new());
        touch_lines(&self.state.tables, &question);
        for table in self.state.tables.iter().filter(|table| table.ids.end > self.state.watermark) {
            if asked.count(table.may_contain(self, &question)?) {
                let _all = table.visit(self, fingerprint, question.value, |entry| {
                    ids.extend(Some(table.id_of(entry)).filter(|id| self.state.is_live(*id)));
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(ids)
    }

    /// Returns the live folded records whose fingerprint has the same value part as this one, with any entity
    /// type. Each comes with the bits that identify its fingerprint.
    pub(crate) fn folded_ids_of_value(
        &self,
        fingerprint: Fingerprint,
        asked: &mut Asked,
    ) -> Result<Vec<(Entry, RecordNumber)>> {
        let (question, mut ids) = (Question::of_value(fingerprint), Vec::new());
        touch_lines(&self.state.tables, &question);
        for table in self.state.tables.iter().filter(|table| table.ids.end > self.state.watermark) {
            if asked.count(table.may_contain(self, &question)?) {
                let _all = table.visit_value(self, question.value, |entry| {
                    let id = table.id_of(entry);
                    if self.state.is_live(id) {
                        ids.push((key_of(entry), id));
                    }
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(ids)
    }

    fn find_in_tails(&self, state: &PoolState, fingerprint: Fingerprint) -> Option<RecordNumber> {
        let is_live = |id| state.is_live(id);
        let active = self.state.active.find_live(fingerprint, is_live);
        active.or_else(|| self.state.frozen.as_ref()?.find_live(fingerprint, is_live))
    }

    fn find_all_in_tails(&self, state: &PoolState, fingerprint: Fingerprint) -> Vec<RecordNumber> {
        let mut ids = Vec::new();
        self.state.active.find_all(fingerprint, &mut ids);
        if let Some(frozen) = &self.state.frozen {
            frozen.find_all(fingerprint, &mut ids);
        }
        ids.retain(|id| state.is_live(*id));
        ids
    }
}

/// The number of lines that are located before they are read.
const TOUCHED: usize = 8;
/// With fewer tables, the processor fetches the lines in time by itself.
const TOUCHED_MIN: usize = 4;

/// Reads the filter lines for a question into the processor's cache. It first locates the lines and then
/// reads them in two short loops, so that the processor fetches them in parallel.
fn touch_lines(tables: &[Arc<FingerprintTable>], question: &Question) {
    if tables.len() < TOUCHED_MIN {
        return;
    }
    let mut touched = 0;
    for tables in tables.chunks(TOUCHED) {
        let lines: [Option<&Line>; TOUCHED] =
            array::from_fn(|number| tables.get(number).and_then(|table| table.line(question)));
        touched ^= lines.iter().flatten().fold(0, |touched, line| touched ^ line.first_word());
    }
    black_box(touched);
}

/// Like [`touch_lines`], for many questions to one table.
fn touch_lines_of<'q>(table: &FingerprintTable, questions: impl Iterator<Item = &'q Question>) {
    let words = questions.map(|question| table.line(question).map_or(0, Line::first_word));
    black_box(words.fold(0, |touched, word| touched ^ word));
}
