//! Writing tables of fingerprints.
//!
//! Always holds: entries of dead records are left out. A table is written from its first piece to its last.
//! All rows of a piece are written in one commit.

use std::ops::Range;

use redb::{AccessGuard, ReadableTable, Table, WriteTransaction};

use crate::backend::fingerprint::{Fingerprint, VALUE_BITS};
use crate::engine::format::index_row::{Entry, encode, entry, has_version};
use crate::engine::format::schema::{self, TableNumber, Tuning};
use crate::engine::pool::state::PoolState;
use crate::engine::probe::filter::{Line, Question};
use crate::engine::probe::table::{FingerprintTable, IndexRows, Shape};
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use crate::ids::{PoolId, RecordNumber};

/// The stored rows of a pool's tables, open for reading and writing.
pub(crate) struct IndexWriter<'txn> {
    pool: PoolId,
    rows: Table<'txn, (PoolId, u32, u32, u32), &'static [u8]>,
    filters: Table<'txn, (PoolId, u32, u32), &'static [u8]>,
}

impl IndexRows for IndexWriter<'_> {
    fn row(&self, table: TableNumber, row: u32, part: u32) -> Result<Option<AccessGuard<'_, &'static [u8]>>> {
        self.rows.get((self.pool, table, row, part)).storage()
    }

    fn piece(&self, table: TableNumber, piece: u32) -> Result<Option<AccessGuard<'_, &'static [u8]>>> {
        self.filters.get((self.pool, table, piece)).storage()
    }
}

impl<'txn> IndexWriter<'txn> {
    pub(crate) fn open(txn: &'txn WriteTransaction, pool: PoolId) -> Result<Self> {
        // Open each alone first. redb panics on some damaged files when it opens a table, and then another
        // open table cannot be dropped without aborting the process.
        drop(txn.open_table(schema::FINGERPRINTS).storage()?);
        let filters = txn.open_table(schema::FILTERS).storage()?;
        Ok(Self { pool, rows: txn.open_table(schema::FINGERPRINTS).storage()?, filters })
    }

    /// Writes a piece of a table: all its rows, from their sorted entries, and its part of the filter.
    /// Returns the lines of the filter.
    pub(super) fn write_piece(
        &mut self,
        table: &FingerprintTable,
        piece: u32,
        entries: &[Entry],
    ) -> Result<Vec<Line>> {
        let mut lines = table.shape.empty_piece();
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let row = table.shape.row_of(value_of(*first));
            let len = rest.partition_point(|entry| table.shape.row_of(value_of(*entry)) == row);
            let (entries, others) = rest.split_at(len);
            rest = others;
            for entry in entries {
                let question = Question::of(*entry);
                let (_, line) = table.shape.line_of(question.value);
                if let Some(line) = lines.get_mut(line) {
                    line.insert(&question);
                }
            }
            for (part, bytes) in (0..).zip(encode(entries)) {
                self.rows.insert((self.pool, table.number, row, part), bytes.as_slice()).storage()?;
            }
        }
        let bytes: Vec<u8> = lines.iter().flat_map(|line| line.to_bytes()).collect();
        self.filters.insert((self.pool, table.number, piece), bytes.as_slice()).storage()?;
        Ok(lines)
    }

    /// Returns the first piece of a table that is not stored yet.
    pub(super) fn next_piece(&self, table: TableNumber) -> Result<u32> {
        let pieces = (self.pool, table, 0)..=(self.pool, table, u32::MAX);
        let last = self.filters.range(pieces).storage()?.next_back().transpose().storage()?;
        Ok(last.map_or(0, |(key, _)| key.value().2 + 1))
    }

    /// Reads all live entries of a table in a range of values, converted to entries of a table that begins at
    /// `first_id`.
    pub(super) fn read_values(
        &self,
        state: &PoolState,
        table: &FingerprintTable,
        values: &Range<u64>,
        first_id: RecordNumber,
        entries: &mut Vec<Entry>,
    ) -> Result<()> {
        let Some(last) = values.end.checked_sub(1).filter(|last| *last >= values.start) else {
            return Ok(());
        };
        for row in table.shape.row_of(values.start)..=table.shape.row_of(last) {
            for stored in table.read_row(self, row)? {
                let id = table.id_of(stored);
                if values.contains(&value_of(stored)) && state.is_live(id) {
                    entries.push(entry(stored, id - first_id, has_version(stored)));
                }
            }
        }
        Ok(())
    }
}

/// Returns the bits of an entry that depend on the value alone.
#[allow(clippy::cast_possible_truncation, reason = "48 bits")]
fn value_of(entry: Entry) -> u64 {
    (entry >> (Entry::BITS - VALUE_BITS)) as u64
}

/// The data of a record for a table: its fingerprint, its id, and true if it has a version.
pub(crate) type Folded = (Fingerprint, RecordNumber, bool);

/// A table being written from sorted entries.
pub(crate) struct TableWriter {
    table: FingerprintTable,
    next_piece: u32,
    /// The entries of incomplete pieces.
    waiting: Vec<Entry>,
}

impl TableWriter {
    /// Creates a table for at most `len` entries.
    pub(crate) fn new(
        state: &PoolState,
        number: TableNumber,
        ids: Range<RecordNumber>,
        len: u64,
        row_entries: u64,
    ) -> Self {
        let table = FingerprintTable::new(number, ids, len, Shape::of(len, row_entries), &state.budget);
        Self { table, next_piece: 0, waiting: Vec::new() }
    }

    /// Adds the next entries, in the order of fingerprints. Leaves out those of dead records.
    pub(crate) fn push(&mut self, state: &PoolState, entries: impl Iterator<Item = Folded>) {
        let first_id = self.table.ids.start;
        let live = entries.filter(|(_, id, _)| state.is_live(*id));
        let entry = |(fingerprint, id, has_version): Folded| {
            entry(fingerprint, id.saturating_sub(first_id), has_version)
        };
        self.waiting.extend(live.map(entry));
    }

    /// Writes the complete pieces.
    pub(crate) fn write_complete(&mut self, writer: &mut IndexWriter<'_>) -> Result<()> {
        let complete = self.waiting.last().map_or(0, |last| self.table.shape.line_of(value_of(*last)).0);
        self.write_pieces(writer, complete)
    }

    /// Writes the remaining pieces, and returns the table.
    pub(crate) fn finish(mut self, writer: &mut IndexWriter<'_>) -> Result<FingerprintTable> {
        self.write_pieces(writer, self.table.shape.pieces())?;
        Ok(self.table)
    }

    pub(super) fn write_pieces(&mut self, writer: &mut IndexWriter<'_>, end: u32) -> Result<()> {
        let mut written = 0;
        for piece in self.next_piece..end {
            let rest = self.waiting.get(written..).unwrap_or_default();
            let len = rest.partition_point(|entry| self.table.shape.line_of(value_of(*entry)).0 <= piece);
            let entries = rest.get(..len).unwrap_or_default();
            // Equal fingerprints are in the order of their ids, because whole entries are compared.
            debug_assert!(entries.is_sorted());
            let lines = writer.write_piece(&self.table, piece, entries)?;
            self.table.keep_piece(piece, lines);
            written += len;
        }
        self.waiting.drain(..written);
        self.next_piece = self.next_piece.max(end);
        Ok(())
    }
}

/// Writes a table of folded records, from sorted fingerprints, and adds it to the pool's tables. Small last
/// tables are merged into it.
pub(crate) fn add_folded(
    txn: &WriteTransaction,
    state: &mut PoolState,
    ids: Range<RecordNumber>,
    fingerprints: &[Folded],
    tuning: &Tuning,
) -> Result<()> {
    let mut len = fingerprints.iter().filter(|(_, id, _)| state.is_live(*id)).count() as u64;
    if len == 0 {
        return Ok(());
    }
    let (mut first_id, mut absorbed) = (ids.start, Vec::new());
    while let Some(last) = state.table_to_absorb(&(first_id..ids.end), len, tuning.absorb_max()) {
        (first_id, len) = (last.ids.start, len + last.len);
        state.drop_last_table();
        absorbed.push(last);
    }
    let mut writer = IndexWriter::open(txn, state.id)?;
    let mut entries = Vec::new();
    for table in &absorbed {
        writer.read_values(state, table, &(0..1 << VALUE_BITS), first_id, &mut entries)?;
    }
    let live = fingerprints.iter().filter(|(_, id, _)| state.is_live(*id));
    entries.extend(live.map(|(fingerprint, id, has_version)| {
        entry(*fingerprint, id.saturating_sub(first_id), *has_version)
    }));
    // The entries are almost sorted, which only the stable sort makes use of.
    #[allow(clippy::stable_sort_primitive, reason = "the stable sort makes use of sorted runs")]
    entries.sort();
    let len = entries.len() as u64;
    let number = state.take_table_number();
    let mut table = TableWriter::new(state, number, first_id..ids.end, len, tuning.row_entries());
    table.waiting = entries;
    let table = table.finish(&mut writer)?;
    state.add_table(table);
    Ok(())
}
