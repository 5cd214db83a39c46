//! A cursor over the chunks of a posting list.
//!
//! The bitmaps of neighbouring chunks are adjacent in the table, and stepping to the next one costs a
//! fraction of a lookup. So a cursor steps to a chunk that is near, and looks up one that is far. It moves
//! only in the query's direction.

use std::ops::RangeInclusive;

use redb::{AccessGuard, Range, ReadOnlyTable};

use super::tally::{ListTally, count};
use crate::engine::format::record::PostingKey;
use crate::engine::format::schema::ChunkNumber;
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use crate::query::RecordSort;

/// The largest distance in chunks at which a cursor steps instead of looking up.
const NEAR_CHUNKS: u32 = 4;

pub(super) type PostingsTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
/// The bitmap of one chunk of a list, not decoded yet.
type Bitmap = AccessGuard<'static, &'static [u8]>;
type Rows = Range<'static, &'static [u8], &'static [u8]>;

/// A cursor over one posting list of one segment, positioned at one of its chunks.
pub(super) struct PostingCursor<'a> {
    table: &'a PostingsTable,
    key: &'a PostingKey,
    tally: &'a ListTally,
    sort: RecordSort,
    /// The range of relevant chunks. The list may have others.
    chunks: RangeInclusive<ChunkNumber>,
    /// The list's rows after the cursor's chunk; `None` before the first move.
    rows: Option<Rows>,
    at: Option<(ChunkNumber, Bitmap)>,
}

impl<'a> PostingCursor<'a> {
    pub(super) fn new(
        table: &'a PostingsTable,
        key: &'a PostingKey,
        tally: &'a ListTally,
        chunks: RangeInclusive<ChunkNumber>,
        sort: RecordSort,
    ) -> Self {
        Self { table, key, tally, sort, chunks, rows: None, at: None }
    }

    /// Moves to the list's first chunk at or after the given one. Returns that chunk, or `None` at the end of
    /// the list.
    pub(super) fn move_to(&mut self, chunk: ChunkNumber) -> Result<Option<ChunkNumber>> {
        loop {
            match (&self.at, &self.rows) {
                (Some((at, _)), _) if !is_behind(*at, chunk, self.sort) => return Ok(Some(*at)),
                (Some((at, _)), Some(_)) if at.abs_diff(chunk) <= NEAR_CHUNKS => {}
                (None, Some(_)) => return Ok(None),
                _ => self.rows = Some(self.look_up(chunk)?),
            }
            self.at = self.step()?;
        }
    }

    /// Returns the bitmap of the current chunk. It is read at most once per chunk.
    pub(super) fn read(&self) -> Option<&Bitmap> {
        let (_, bitmap) = self.at.as_ref()?;
        count(&self.tally.read);
        Some(bitmap)
    }

    /// Returns the list's rows, starting at a chunk.
    fn look_up(&self, chunk: ChunkNumber) -> Result<Rows> {
        let (first, last) = match self.sort {
            RecordSort::Ascending => (chunk, *self.chunks.end()),
            RecordSort::Descending => (*self.chunks.start(), chunk),
        };
        let (first, last) = (self.key.at_chunk(first), self.key.at_chunk(last));
        self.table.range(first.as_slice()..=last.as_slice()).storage()
    }

    fn step(&mut self) -> Result<Option<(ChunkNumber, Bitmap)>> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        let row = match self.sort {
            RecordSort::Ascending => rows.next(),
            RecordSort::Descending => rows.next_back(),
        };
        let Some((key, bitmap)) = row.transpose().storage()? else { return Ok(None) };
        count(&self.tally.met);
        Ok(key.value().last_chunk::<4>().map(|chunk| (ChunkNumber::from_be_bytes(*chunk), bitmap)))
    }
}

/// Returns true if a chunk comes before another in the requested order.
pub(super) fn is_behind(chunk: ChunkNumber, other: ChunkNumber, sort: RecordSort) -> bool {
    match sort {
        RecordSort::Ascending => chunk < other,
        RecordSort::Descending => chunk > other,
    }
}
