//! Walking a posting list chunk by chunk.
//!
//! Neighbouring chunks' bitmaps lie side by side in the table: stepping to the next one costs a fraction of a look-up.
//! So a cursor steps where the chunk it is asked for is near, and looks up where it is far.

use redb::{AccessGuard, Range, ReadOnlyTable};

use crate::engine::failure::StorageResult;
use crate::engine::record::PostingKey;
use crate::engine::schema::ChunkNumber;
use crate::error::Result;
use crate::query::RecordSort;

/// Up to this many chunks ahead a cursor steps instead of looking up.
const NEAR_CHUNKS: u32 = 4;

pub(super) type PostingsTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
/// A list's bitmap of one chunk, not decoded yet.
pub(super) type Bitmap = AccessGuard<'static, &'static [u8]>;
type Row = (AccessGuard<'static, &'static [u8]>, Bitmap);

/// One posting list of one segment. It is asked for chunks in one direction.
pub(super) struct PostingCursor<'a> {
    table: &'a PostingsTable,
    key: &'a PostingKey,
    sort: RecordSort,
    /// The chunk that was asked for last.
    last: Option<ChunkNumber>,
    walk: Option<Range<'static, &'static [u8], &'static [u8]>>,
    /// What the walk has read and nobody asked for yet.
    ahead: Option<(ChunkNumber, Bitmap)>,
}

impl<'a> PostingCursor<'a> {
    pub(super) fn new(table: &'a PostingsTable, key: &'a PostingKey, sort: RecordSort) -> Self {
        Self { table, key, sort, last: None, walk: None, ahead: None }
    }

    /// The bitmap of a chunk, if the list has one.
    pub(super) fn seek(&mut self, chunk: ChunkNumber) -> Result<Option<Bitmap>> {
        let near = self.last.is_some_and(|last| last.abs_diff(chunk) <= NEAR_CHUNKS);
        self.last = Some(chunk);
        if !near {
            (self.walk, self.ahead) = (None, None);
            return self.table.get(self.key.at_chunk(chunk).as_slice()).storage();
        }
        if self.walk.is_none() {
            self.walk = Some(self.walk_from(chunk)?);
        }
        self.step_to(chunk)
    }

    fn walk_from(&self, chunk: ChunkNumber) -> Result<Range<'static, &'static [u8], &'static [u8]>> {
        let (first, last) = match self.sort {
            RecordSort::Ascending => (self.key.at_chunk(chunk), self.key.at_chunk(ChunkNumber::MAX)),
            RecordSort::Descending => (self.key.at_chunk(0), self.key.at_chunk(chunk)),
        };
        self.table.range(first.as_slice()..=last.as_slice()).storage()
    }

    fn step_to(&mut self, chunk: ChunkNumber) -> Result<Option<Bitmap>> {
        loop {
            if self.ahead.is_none() {
                self.ahead = self.next_row()?;
            }
            let Some((at, _)) = &self.ahead else { return Ok(None) };
            let behind = match self.sort {
                RecordSort::Ascending => *at < chunk,
                RecordSort::Descending => *at > chunk,
            };
            if behind {
                self.ahead = None;
                continue;
            }
            return Ok(if *at == chunk { self.ahead.take().map(|(_, bitmap)| bitmap) } else { None });
        }
    }

    fn next_row(&mut self) -> Result<Option<(ChunkNumber, Bitmap)>> {
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let row = match self.sort {
            RecordSort::Ascending => walk.next(),
            RecordSort::Descending => walk.next_back(),
        };
        Ok(row.transpose().storage()?.and_then(numbered))
    }
}

/// A row with the chunk that its key ends in.
pub(super) fn numbered((key, bitmap): Row) -> Option<(ChunkNumber, Bitmap)> {
    let chunk = ChunkNumber::from_be_bytes(*key.value().last_chunk::<4>()?);
    Some((chunk, bitmap))
}
