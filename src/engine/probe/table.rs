//! A table of fingerprints: it maps fingerprints to records, and is immutable once written.
//!
//! Owns: the shape of a table (its rows by ranges of fingerprints, its filter by pieces of rows), and the
//! parts of it that are cached. Always holds: cached parts belong to this table alone, are never filled from
//! another one, and are dropped with it. A state or snapshot with the table finds in it what was there when
//! it was written.

use std::ops::{ControlFlow, Range, RangeInclusive};
use std::sync::{Arc, OnceLock};

use redb::AccessGuard;

use crate::backend::fingerprint::{Fingerprint, VALUE_BITS};
use crate::engine::format::index_row::{self, Entry, key_of, offset_of};
use crate::engine::format::schema::TableNumber;
use crate::engine::probe::budget::Budget;
use crate::engine::probe::filter::{BITS_PER_ENTRY, LINE_BITS, LINE_BYTES, Line, Question, scaled};
use crate::error::{Error, Result};
use crate::ids::RecordNumber;
use crate::search;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The number of rows that share a piece of the filter. With rows of 200 entries, a piece fills a page.
pub(crate) const ROWS_A_PIECE: u32 = 11;

/// The size of redb's pages.
const PAGE_BYTES: u64 = 4_096;
/// An upper bound that no valid piece reaches.
const ENTRIES_A_PIECE_MAX: u64 = 1 << 16;

/// The source of table rows: a snapshot or a transaction.
pub(crate) trait IndexRows {
    /// Returns a part of a row.
    fn row(&self, table: TableNumber, row: u32, part: u32) -> Result<Option<AccessGuard<'_, &'static [u8]>>>;

    /// Returns a piece of a filter.
    fn piece(&self, table: TableNumber, piece: u32) -> Result<Option<AccessGuard<'_, &'static [u8]>>>;
}

/// The shape of a table: its number of rows, and the lines of its filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    rows: u32,
    /// The number of lines per piece of the filter.
    lines: u32,
    /// The number of lines per row, in units of 2^-16.
    row_lines: u32,
}

impl Shape {
    /// Returns the shape for a number of entries, in rows of about `row_entries`.
    pub(crate) fn of(entries: u64, row_entries: u64) -> Self {
        Self::with_rows(entries, u32::try_from(entries.div_ceil(row_entries).max(1)).unwrap_or(u32::MAX))
    }

    /// Returns the shape for a number of entries in a number of rows.
    pub(crate) fn with_rows(entries: u64, rows: u32) -> Self {
        let rows = rows.max(1);
        let rows_a_piece = u64::from(rows.min(ROWS_A_PIECE));
        let entries_a_piece = entries.div_ceil(rows.into()) * rows_a_piece;
        // A damaged row in the list of tables must not cause a huge allocation.
        let lines = (entries_a_piece.min(ENTRIES_A_PIECE_MAX) * BITS_PER_ENTRY).div_ceil(LINE_BITS).max(1);
        let row_lines = u32::try_from((lines << 16) / rows_a_piece).unwrap_or(u32::MAX);
        Self { rows, lines: u32::try_from(lines).unwrap_or(u32::MAX), row_lines }
    }

    pub(crate) fn rows(self) -> u32 {
        self.rows
    }

    pub(crate) fn pieces(self) -> u32 {
        self.rows.div_ceil(ROWS_A_PIECE)
    }

    /// Returns the rows of a piece.
    pub(crate) fn rows_of_piece(self, piece: u32) -> Range<u32> {
        let first = piece.saturating_mul(ROWS_A_PIECE).min(self.rows);
        first..first.saturating_add(ROWS_A_PIECE).min(self.rows)
    }

    /// Returns the range of values, as their bits in the fingerprint, whose entries are in some rows.
    pub(crate) fn values_of(self, rows: &Range<u32>) -> Range<u64> {
        let first = |row: u32| {
            let value = (u128::from(row) << VALUE_BITS).div_ceil(u128::from(self.rows));
            u64::try_from(value).unwrap_or(u64::MAX)
        };
        first(rows.start)..first(rows.end)
    }

    pub(crate) fn row_of(self, value: u64) -> u32 {
        u32::try_from(scaled(value, self.rows.into()).0).unwrap_or(u32::MAX)
    }

    /// Returns the piece and the line of a value.
    #[inline]
    pub(crate) fn line_of(self, value: u64) -> (u32, usize) {
        let (row, left) = scaled(value, self.rows.into());
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        // The position of the value within the piece, in units of 2^-32 rows. The line is at the same
        // fraction of the lines.
        let within = u64::from(row % ROWS_A_PIECE) << 32 | left >> (VALUE_BITS - 32);
        let line = (within * u64::from(self.row_lines)) >> 48;
        (row / ROWS_A_PIECE, usize::try_from(line).unwrap_or(usize::MAX))
    }

    pub(crate) fn empty_piece(self) -> Vec<Line> {
        vec![Line::default(); self.lines as usize]
    }

    fn piece_bytes(self) -> usize {
        self.lines as usize * LINE_BYTES
    }

    /// Returns the approximate number of bytes in the file of a table with this many entries.
    pub(crate) fn stored_bytes(self, entries: u64) -> u64 {
        let of_row = entries / u64::from(self.rows) * size_of::<Entry>() as u64;
        // A row of more than half a page gets a page of its own.
        let row = if of_row > PAGE_BYTES / 2 { of_row.next_multiple_of(PAGE_BYTES) } else { of_row };
        u64::from(self.rows) * row + self.filter_bytes() as u64
    }

    pub(crate) fn filter_bytes(self) -> usize {
        self.pieces() as usize * self.piece_bytes()
    }

    /// Returns the memory for its filter, and for the cells that cache pieces and rows.
    fn needed_bytes(self) -> usize {
        self.filter_bytes() + self.cells_bytes()
    }

    fn cells_bytes(self) -> usize {
        self.rows as usize * size_of::<RowCell>() + self.pieces() as usize * size_of::<PieceCell>()
    }
}

/// A cached piece of a filter.
type PieceCell = OnceLock<Box<[Line]>>;
/// A cached row.
type RowCell = OnceLock<Box<[Entry]>>;

/// A table of fingerprints.
#[derive(Debug)]
pub(crate) struct FingerprintTable {
    pub(crate) number: TableNumber,
    /// The range of records that it covers. It has entries for those that were live when it was written.
    pub(crate) ids: Range<RecordNumber>,
    /// The approximate number of entries.
    pub(crate) len: u64,
    pub(crate) shape: Shape,
    filter: Box<[PieceCell]>,
    rows: Box<[RowCell]>,
    kept_filter_bytes: AtomicUsize,
    kept_row_bytes: AtomicUsize,
    budget: Arc<Budget>,
}

impl Drop for FingerprintTable {
    fn drop(&mut self) {
        let (filter, rows) = (self.kept_filter_bytes.get_mut(), self.kept_row_bytes.get_mut());
        self.budget.remove_table(self.shape.needed_bytes(), *filter, *rows);
    }
}

impl FingerprintTable {
    pub(crate) fn new(
        number: TableNumber,
        ids: Range<RecordNumber>,
        len: u64,
        shape: Shape,
        budget: &Arc<Budget>,
    ) -> Self {
        budget.add_table(shape.needed_bytes());
        Self {
            number,
            ids,
            len,
            shape,
            filter: (0..shape.pieces()).map(|_| OnceLock::new()).collect(),
            rows: (0..shape.rows()).map(|_| OnceLock::new()).collect(),
            kept_filter_bytes: AtomicUsize::new(0),
            kept_row_bytes: AtomicUsize::new(0),
            budget: Arc::clone(budget),
        }
    }

    /// Returns true if this table is, or will be, merged from several tables including `table`.
    pub(crate) fn is_made_from(&self, table: &Self) -> bool {
        self.ids.start <= table.ids.start && table.ids.end <= self.ids.end
    }

    /// Returns the memory use of its filter and its cached rows in bytes.
    pub(crate) fn memory(&self) -> usize {
        let kept =
            self.kept_filter_bytes.load(Ordering::Relaxed) + self.kept_row_bytes.load(Ordering::Relaxed);
        kept + self.shape.cells_bytes()
    }

    /// Returns the number of cached bytes, and the number that was counted.
    #[cfg(datapool_shuttle)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        let pieces = self.filter.iter().filter(|piece| piece.get().is_some()).count();
        let rows = self.rows.iter().filter_map(OnceLock::get);
        let cached = pieces * self.shape.piece_bytes() + rows.map(|row| size_of_val(&**row)).sum::<usize>();
        (cached, self.memory() - self.shape.cells_bytes())
    }

    /// Returns the id of an entry's record.
    pub(crate) fn id_of(&self, entry: Entry) -> RecordNumber {
        self.ids.start + offset_of(entry)
    }

    /// Caches a piece of the filter that was just written, if the budget allows it. The table must be new: if
    /// the transaction is aborted, the table is dropped, and the piece with it.
    pub(crate) fn keep_piece(&self, piece: u32, lines: Vec<Line>) {
        if let Some(cell) = self.filter.get(piece as usize)
            && self.budget.take_filter(self.shape.piece_bytes())
        {
            self.kept_filter_bytes.fetch_add(self.shape.piece_bytes(), Ordering::Relaxed);
            let _ = cell.set(lines.into());
        }
    }

    /// Returns the line of the filter for a question, if it is in memory.
    #[inline]
    pub(crate) fn line(&self, question: &Question) -> Option<&Line> {
        let (piece, line) = self.shape.line_of(question.value);
        self.filter.get(piece as usize)?.get()?.get(line)
    }

    /// Returns false if the table certainly has no such entry.
    #[inline]
    pub(crate) fn may_contain(&self, source: &impl IndexRows, question: &Question) -> Result<bool> {
        match self.line(question) {
            Some(line) => Ok(line.may_contain(question)),
            None => self.load_and_ask(source, question),
        }
    }

    /// Reads the piece of the filter for a question, and answers from it. Kept out of line, because it runs
    /// once per piece.
    #[inline(never)]
    fn load_and_ask(&self, source: &impl IndexRows, question: &Question) -> Result<bool> {
        let (piece, line) = self.shape.line_of(question.value);
        let Some(stored) = source.piece(self.number, piece)? else {
            return Err(self.damaged(format_args!("piece {piece} of its filter is missing")));
        };
        let (lines, rest) = stored.value().as_chunks::<LINE_BYTES>();
        if !rest.is_empty() || lines.len() != self.shape.lines as usize {
            return Err(self.damaged(format_args!("piece {piece} of its filter is damaged")));
        }
        let may_contain = lines.get(line).is_none_or(|line| Line::of_bytes(line).may_contain(question));
        if let Some(cell) = self.filter.get(piece as usize)
            && self.budget.take_filter(self.shape.piece_bytes())
        {
            self.kept_filter_bytes.fetch_add(self.shape.piece_bytes(), Ordering::Relaxed);
            if cell.set(lines.iter().map(Line::of_bytes).collect()).is_err() {
                // Another thread has cached the piece first.
                self.kept_filter_bytes.fetch_sub(self.shape.piece_bytes(), Ordering::Relaxed);
                self.budget.return_filter(self.shape.piece_bytes());
            }
        }
        Ok(may_contain)
    }

    /// Returns the approximate position of a value in its row of this many entries.
    fn guess(&self, value: u64, entries: usize) -> usize {
        let (_, left) = scaled(value, self.shape.rows.into());
        let place = ((left >> (VALUE_BITS - 16)) * entries as u64) >> 16;
        usize::try_from(place).unwrap_or(0)
    }

    /// Calls the visitor with a fingerprint's entries, by ascending id, until it breaks.
    pub(crate) fn visit(
        &self,
        source: &impl IndexRows,
        fingerprint: Fingerprint,
        value: u64,
        visitor: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let key = key_of(fingerprint);
        let keys = key..=key | Entry::from(u32::MAX);
        self.visit_row(source, value, &keys, visitor)
    }

    /// Calls the visitor with the entries of a value within any entity type.
    pub(crate) fn visit_value(
        &self,
        source: &impl IndexRows,
        value: u64,
        visitor: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let first = Entry::from(value) << (Entry::BITS - VALUE_BITS);
        let keys = first..=first | (Entry::MAX >> VALUE_BITS);
        self.visit_row(source, value, &keys, visitor)
    }

    fn visit_row(
        &self,
        source: &impl IndexRows,
        value: u64,
        keys: &RangeInclusive<Entry>,
        visitor: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let row = self.shape.row_of(value);
        if let Some(entries) = self.rows.get(row as usize).and_then(OnceLock::get) {
            return Ok(visit_entries(entries, keys, self.guess(value, entries.len()), visitor));
        }
        let mut entries = Vec::new();
        if self.read_part(source, row, 0, &mut entries)? {
            return self.visit_parts(source, row, keys, visitor);
        }
        let flow = visit_entries(&entries, keys, self.guess(value, entries.len()), visitor);
        self.keep_row(row, entries);
        Ok(flow)
    }

    /// Visits a row of several parts, which exists if very many records have the same value. Such a row is
    /// never cached. The parts before the keys, of which there may be thousands, are not read one by one.
    #[inline(never)]
    fn visit_parts(
        &self,
        source: &impl IndexRows,
        row: u32,
        keys: &RangeInclusive<Entry>,
        mut visitor: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut entries = Vec::new();
        let mut begins_behind = |part: u64| -> Result<bool> {
            entries.clear();
            self.read_part(source, row, u32::try_from(part).unwrap_or(u32::MAX), &mut entries)?;
            Ok(entries.first().is_none_or(|first| first >= keys.start()))
        };
        let mut end = 1;
        while !begins_behind(end)? {
            end *= 2;
        }
        let first = search::try_first_that(end / 2..end, begins_behind)?.saturating_sub(1);
        for part in u32::try_from(first).unwrap_or(u32::MAX).. {
            entries.clear();
            let is_full = self.read_part(source, row, part, &mut entries)?;
            if visit_entries(&entries, keys, 0, &mut visitor).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if !is_full || entries.last().is_some_and(|last| last > keys.end()) {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn keep_row(&self, row: u32, entries: Vec<Entry>) {
        let bytes = size_of_val(entries.as_slice());
        if let Some(cell) = self.rows.get(row as usize)
            && self.budget.take_row(bytes)
        {
            self.kept_row_bytes.fetch_add(bytes, Ordering::Relaxed);
            if cell.set(entries.into()).is_err() {
                self.kept_row_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.budget.return_row(bytes);
            }
        }
    }

    /// Reads the entries of a row from the file.
    pub(crate) fn read_row(&self, source: &impl IndexRows, row: u32) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut part = 0;
        while self.read_part(source, row, part, &mut entries)? {
            part += 1;
        }
        Ok(entries)
    }

    /// Reads a part of a row and appends its entries; none if there is no such part. Returns true if the part
    /// is full, so the row may have another one.
    fn read_part(
        &self,
        source: &impl IndexRows,
        row: u32,
        part: u32,
        entries: &mut Vec<Entry>,
    ) -> Result<bool> {
        let Some(stored) = source.row(self.number, row, part)? else { return Ok(false) };
        let before = entries.len();
        index_row::decode(stored.value(), entries)?;
        Ok(entries.len() - before == index_row::PART_ENTRIES)
    }

    fn damaged(&self, reason: std::fmt::Arguments<'_>) -> Error {
        Error::corrupt(format!("table {} of fingerprints: {reason}", self.number))
    }
}

fn visit_entries(
    entries: &[Entry],
    keys: &RangeInclusive<Entry>,
    guess: usize,
    visitor: impl FnMut(Entry) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let start = lower_bound(entries, *keys.start(), guess);
    let matching = entries.get(start..).unwrap_or_default().iter().copied();
    matching.take_while(|entry| entry <= keys.end()).try_for_each(visitor)
}

/// Returns the position of the first entry that is not below a key. Fingerprints are random, so it is near
/// the position that interpolation predicts. Searching there reads two cache lines instead of five.
fn lower_bound(entries: &[Entry], key: Entry, guess: usize) -> usize {
    const NEAR: usize = 16;
    let start = guess.saturating_sub(NEAR).min(entries.len());
    let end = guess.saturating_add(NEAR).min(entries.len());
    let near = entries.get(start..end).unwrap_or_default();
    let is_within = near.first().is_none_or(|first| start == 0 || *first < key)
        && near.last().is_none_or(|last| end == entries.len() || *last >= key);
    if is_within {
        return start + near.partition_point(|entry| *entry < key);
    }
    entries.partition_point(|entry| *entry < key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Rows and lines ascend with the values, and each value is within the range of its row.
        #[test]
        fn rows_and_lines_follow_the_values(
            entries in 1_u64..1_000_000, row_entries in 1_u64..300, values in proptest::collection::vec(0_u64..1 << 48, 1..50),
        ) {
            let shape = Shape::of(entries, row_entries);
            let mut values = values;
            values.extend([0, (1 << 48) - 1]);
            values.sort_unstable();
            let mut last = (0, 0, 0);
            for value in values {
                let row = shape.row_of(value);
                let (piece, line) = shape.line_of(value);
                prop_assert!(row < shape.rows() && piece < shape.pieces() && line < shape.lines as usize);
                prop_assert!(shape.values_of(&(row..row + 1)).contains(&value));
                prop_assert!(shape.rows_of_piece(piece).contains(&row));
                prop_assert!(last <= (row, piece, line) || last.1 < piece);
                last = (row, piece, line);
            }
            prop_assert_eq!(shape.values_of(&(0..shape.rows())), 0..1 << 48);
        }

        /// Many records of one value move the others away from the places that interpolation predicts.
        #[test]
        fn a_search_finds_the_first_entry_wherever_it_begins(
            entries in proptest::collection::btree_set(0_u128..400, 0..200), key in 0_u128..402, guess in 0_usize..260,
        ) {
            let entries: Vec<Entry> = entries.into_iter().collect();
            let expected = entries.iter().filter(|entry| **entry < key).count();
            prop_assert_eq!(lower_bound(&entries, key, guess.min(entries.len())), expected);
        }
    }

    #[test]
    fn a_piece_of_a_large_filter_fits_a_page() {
        let shape = Shape::of(100_000_000, 200);
        assert!(shape.piece_bytes() <= crate::engine::format::schema::BLOCK_MAX_BYTES, "{shape:?}");
        assert!(shape.filter_bytes() < 200_000_000);
    }

    /// Every later version must find a value's line in a stored filter.
    #[test]
    fn the_lines_of_a_stored_filter_are_frozen_and_what_a_table_takes_is_known() {
        let values = [
            0,
            0x1234_5678_9abc,
            0x4000_0000_0000,
            0x7fff_ffff_ffff,
            0x9e37_79b9_7f4a,
            0xc0ff_ee00_0000,
            0xffff_ffff_ffff,
        ];
        let shape = Shape::of(10_000, 200);
        assert_eq!((shape.rows, shape.lines, shape.row_lines), (50, 61, 363_426));
        let lines = values.map(|value| shape.line_of(value));
        assert_eq!(lines, [(0, 0), (0, 19), (1, 8), (2, 16), (2, 49), (3, 26), (4, 33)]);
        let few = Shape::of(1_280, 128);
        assert_eq!((few.rows, few.lines, few.row_lines), (10, 35, 229_376));
        let lines = values.map(|value| few.line_of(value));
        assert_eq!(lines, [(0, 0), (0, 2), (0, 8), (0, 17), (0, 21), (0, 26), (0, 34)]);

        let cells = 50 * size_of::<RowCell>() + 5 * size_of::<PieceCell>();
        assert_eq!((shape.piece_bytes(), shape.filter_bytes()), (61 * 64, 5 * 61 * 64));
        assert_eq!((shape.cells_bytes(), shape.needed_bytes()), (cells, 5 * 61 * 64 + cells));
        // Rows of 3,200 bytes take a page each. Rows of up to half a page share pages.
        assert_eq!(shape.stored_bytes(10_000), 50 * 4_096 + 5 * 61 * 64);
        assert_eq!(few.stored_bytes(1_280), 10 * 2_048 + 35 * 64);
        assert_eq!(Shape::of(100, 10).stored_bytes(100), 10 * 160 + 3 * 64);
    }

    #[test]
    fn what_a_table_keeps_in_memory_is_counted_and_given_back_when_it_is_dropped() {
        const MAX: usize = 1_000_000;
        let (budget, shape) = (Arc::new(Budget::of(MAX)), Shape::of(100, 10));
        let table = FingerprintTable::new(1, 1..101, 100, shape, &budget);
        assert_eq!(table.memory(), shape.cells_bytes());
        assert_eq!(table.line(&Question::of(0)), None);
        table.keep_piece(0, shape.empty_piece());
        assert_eq!(table.line(&Question::of(0)), Some(&Line::default()));
        table.keep_row(3, vec![7; 8]);
        assert_eq!(table.rows[3].get().map(|row| row.len()), Some(8));
        assert_eq!(table.memory(), shape.cells_bytes() + shape.piece_bytes() + 8 * 16);
        assert!(!budget.take_row(MAX - shape.needed_bytes() - 8 * 16 + 1));
        drop(table);
        assert!(budget.take_row(MAX) && !budget.take_row(1));
    }
}
