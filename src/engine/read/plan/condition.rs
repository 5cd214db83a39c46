//! Finds the chunks of a segment in which every condition occurs.
//!
//! Owns: the intersection of conditions. In turn, each condition moves to the chunk of another one, until all
//! are at the same chunk (a leapfrog join). The condition with the fewest chunks leads. Always holds: if some
//! condition does not occur in a chunk, no bitmap of that chunk is read.

use std::collections::VecDeque;
use std::mem::take;
use std::ops::RangeInclusive;

use super::cursor::{PostingCursor, PostingsTable, is_behind};
use super::tally::ListTally;
use crate::engine::format::chunk_set::ChunkSet;
use crate::engine::format::postings;
use crate::engine::format::record::PostingKey;
use crate::engine::format::schema::{ChunkNumber, Geometry, Slot};
use crate::error::Result;
use crate::query::{AttributeUse, ListUse, RecordSort};

/// The condition on one attribute: any of these posting lists.
#[derive(Debug)]
pub(super) struct AnyOf {
    /// The filter's name in a query.
    pub(super) parameter: &'static str,
    /// Each posting list, and its term in the filter.
    pub(super) lists: Vec<(PostingKey, String)>,
}

impl AnyOf {
    pub(super) fn explain(&self, tallies: &[ListTally]) -> AttributeUse {
        let lists = self.lists.iter().zip(tallies);
        let list = |((_, term), tally): (&(PostingKey, String), &ListTally)| ListUse {
            term: term.clone(),
            bitmaps_read: tally.read.get(),
            bitmaps_passed: tally.met.get() - tally.read.get(),
        };
        AttributeUse { filter: self.parameter.to_owned(), lists: lists.map(list).collect() }
    }
}

/// One condition on one segment: its chunks, and its slots in them. It moves only in the query's direction.
pub(super) struct Condition<'a> {
    sort: RecordSort,
    slots: Slots<'a>,
}

enum Slots<'a> {
    /// Live slots that are already known, by chunk, in the requested order.
    Known(VecDeque<(ChunkNumber, Vec<Slot>)>),
    /// The union of an attribute's posting lists.
    Listed(Vec<PostingCursor<'a>>),
}

impl<'a> Condition<'a> {
    /// Creates the condition that a record is in one of these slots. The slots must be live.
    pub(super) fn of_slots(
        mut slots: Vec<Slot>,
        geometry: Geometry,
        chunks: &RangeInclusive<ChunkNumber>,
        sort: RecordSort,
    ) -> Self {
        slots.sort_unstable();
        let places = slots.into_iter().map(|slot| geometry.chunk_of(slot));
        let mut known: VecDeque<(ChunkNumber, Vec<Slot>)> = VecDeque::new();
        for (chunk, offset) in places.filter(|(chunk, _)| chunks.contains(chunk)) {
            match known.back_mut() {
                Some((last, offsets)) if *last == chunk => offsets.push(offset),
                _ => known.push_back((chunk, vec![offset])),
            }
        }
        if sort == RecordSort::Descending {
            known.make_contiguous().reverse();
        }
        Self { sort, slots: Slots::Known(known) }
    }

    /// Creates the condition that a record is on one of an attribute's posting lists.
    pub(super) fn of_lists(
        any: &'a AnyOf,
        tallies: &'a [ListTally],
        table: &'a PostingsTable,
        chunks: &RangeInclusive<ChunkNumber>,
        sort: RecordSort,
    ) -> Self {
        let lists = any.lists.iter().zip(tallies);
        let cursor = |((key, _), tally): (&'a (PostingKey, String), _)| {
            PostingCursor::new(table, key, tally, chunks.clone(), sort)
        };
        Self { sort, slots: Slots::Listed(lists.map(cursor).collect()) }
    }

    /// Moves to the condition's first chunk at or after the given one, and returns that chunk.
    fn move_to(&mut self, chunk: ChunkNumber) -> Result<Option<ChunkNumber>> {
        match &mut self.slots {
            Slots::Known(known) => {
                while known.front().is_some_and(|(at, _)| is_behind(*at, chunk, self.sort)) {
                    known.pop_front();
                }
                Ok(known.front().map(|(at, _)| *at))
            }
            Slots::Listed(lists) => {
                let mut first = None;
                for list in lists {
                    let Some(at) = list.move_to(chunk)? else { continue };
                    // No list can be nearer. The other lists are not moved until they are needed.
                    if at == chunk {
                        return Ok(Some(at));
                    }
                    if first.is_none_or(|first| is_behind(at, first, self.sort)) {
                        first = Some(at);
                    }
                }
                Ok(first)
            }
        }
    }

    /// Takes the known live slots of the current chunk, in ascending order. Returns `None` if the condition
    /// has no known slots.
    pub(super) fn take_known(&mut self, chunk: ChunkNumber) -> Option<Vec<Slot>> {
        match &mut self.slots {
            Slots::Known(known) => {
                known.front_mut().filter(|(at, _)| *at == chunk).map(|(_, slots)| take(slots))
            }
            Slots::Listed(_) => None,
        }
    }

    /// Adds the condition's slots in the current chunk to a set.
    pub(super) fn unite(&mut self, chunk: ChunkNumber, chunk_slots: u32, set: &mut ChunkSet) -> Result<()> {
        match &mut self.slots {
            Slots::Known(known) => {
                let here = known.front().filter(|(at, _)| *at == chunk);
                here.into_iter().flat_map(|(_, offsets)| offsets).for_each(|offset| set.insert(*offset));
            }
            Slots::Listed(lists) => {
                for list in lists {
                    if list.move_to(chunk)? != Some(chunk) {
                        continue;
                    }
                    if let Some(bitmap) = list.read() {
                        postings::unite(bitmap.value(), chunk_slots, set)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the first chunk, at or after the given one, in which every condition occurs.
pub(super) fn first_common(
    conditions: &mut [Condition<'_>],
    from: ChunkNumber,
) -> Result<Option<ChunkNumber>> {
    let mut chunk = from;
    'asking: loop {
        for condition in conditions.iter_mut() {
            match condition.move_to(chunk)? {
                Some(at) if at == chunk => {}
                Some(at) => {
                    chunk = at;
                    continue 'asking;
                }
                None => return Ok(None),
            }
        }
        return Ok(Some(chunk));
    }
}
