//! The planner: finds the records that match a filter, block by block.
//!
//! Owns: which index blocks are read, in which order, and how they are combined. A block is one chunk of a
//! segment, or a tail. The matches of a block are the union of each attribute's posting lists, intersected
//! over the attributes, minus the dead records. Always holds: the answer equals that of a scan over all
//! records; tests compare the two. If some condition does not occur in a chunk, no bitmap of that chunk is
//! read. Only the caller reads records, and only those of its page.

mod block;
mod condition;
mod cursor;
mod tally;
mod values;

use std::ops::{ControlFlow, Range, RangeInclusive};

use roaring::RoaringBitmap;

pub(crate) use self::block::Block;
use self::block::Matches;
use self::condition::{AnyOf, Condition, first_common};
use self::tally::{ListTally, Tally, count};
use self::values::{Values, distinct};
use crate::engine::format::chunk_set::ChunkSet;
use crate::engine::format::record::PostingKey;
use crate::engine::format::schema::{ChunkNumber, Slot};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::tail::TailView;
use crate::engine::read::view::{Rows, View};
use crate::error::Result;
use crate::ids::RecordNumber;
use crate::query::{Blocks, Explanation, RecordFilter, RecordSort};
use crate::time::Timestamp;

/// The plan of a filter over one view.
pub(crate) struct Plan<'a> {
    view: &'a View,
    filter: &'a RecordFilter,
    /// The range of ids that the watermark and the time filters leave.
    ids: Range<RecordNumber>,
    /// The attributes in the order in which they are read. Those that are usually selective come first and
    /// lead: a run has few records, an entity type has many. After a few chunks, the attribute that is
    /// actually the most selective leads.
    attributes: Vec<AnyOf>,
    values: Option<Values<'a>>,
    tally: Tally,
}

/// The result of visiting a block: continue or stop.
pub(crate) type Visit = Result<ControlFlow<()>>;

impl<'a> Plan<'a> {
    pub(crate) fn new(view: &'a View, filter: &'a RecordFilter) -> Result<Self> {
        let mut ids = view.state.watermark..view.state.next_id;
        if let Some(after) = filter.created_after {
            ids.start = match after.as_micros().checked_add(1) {
                Some(micros) => ids.start.max(view.first_at_or_after(Timestamp::from_micros(micros))?),
                None => ids.end,
            };
        }
        if let Some(before) = filter.created_before {
            ids.end = ids.end.min(view.first_at_or_after(before)?);
        }
        ids.end = ids.end.max(ids.start);
        let values = Values::of(view, filter);
        let attributes = attributes_of(filter, values.is_some());
        let tallies = |any: &AnyOf| any.lists.iter().map(|_| ListTally::default()).collect();
        let tally = Tally { lists: attributes.iter().map(tallies).collect(), ..Tally::default() };
        Ok(Self { view, filter, ids, attributes, values, tally })
    }

    /// Returns the same plan, restricted to an id range.
    pub(crate) fn within(mut self, ids: Range<RecordNumber>) -> Self {
        self.ids.start = self.ids.start.max(ids.start);
        self.ids.end = self.ids.end.min(ids.end).max(self.ids.start);
        self
    }

    pub(crate) fn count(&self) -> Result<u64> {
        if self.takes_all() {
            return Ok(self.view.state.live_in(&self.ids));
        }
        let mut total = 0;
        self.visit(RecordSort::Ascending, |block| {
            total += block.count();
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(total)
    }

    /// Takes the rows of the records that were read to compare their values.
    pub(crate) fn take_rows(&self) -> Rows {
        self.values.as_ref().map(Values::take_rows).unwrap_or_default()
    }

    fn takes_all(&self) -> bool {
        self.attributes.is_empty() && self.values.is_none()
    }

    /// Returns what was read so far. The fields about the page itself are empty.
    pub(crate) fn explain(&self) -> Explanation {
        let (state, tally) = (&self.view.state, &self.tally);
        let chunks_of = |index| {
            u64::from(state.slots_in(index, &(0..RecordNumber::MAX)).end.div_ceil(state.geometry.chunk_slots))
        };
        let chunks = (0..state.segments.len()).map(chunks_of).sum();
        let uses = self.attributes.iter().zip(&tally.lists).map(|(any, tallies)| any.explain(tallies));
        Explanation {
            query: String::new(),
            ids: self.ids.start.into()..self.ids.end.into(),
            segments: Blocks::new(state.segments.len() as u64, tally.segments_read.get()),
            chunks: Blocks::new(chunks, tally.chunks_read.get()),
            attributes: uses.collect(),
            value_seeks: tally.value_seeks.get(),
            value_seeks_saved: tally.values_ruled_out.get(),
            unindexed: tally.tail_entries.get(),
            records_compared: tally.records_compared.get(),
            records_read: 0,
            includes_read: 0,
            total: 0,
        }
    }

    /// Calls the visitor with each block that has a match, in the requested order, until it stops.
    pub(crate) fn visit(&self, sort: RecordSort, mut visitor: impl FnMut(Block<'_>) -> Visit) -> Result<()> {
        let visitor = &mut visitor;
        let flow = match sort {
            RecordSort::Ascending => self.visit_segments(sort, visitor)?,
            RecordSort::Descending => self.visit_tails(sort, visitor)?,
        };
        if flow.is_continue() {
            let _last = match sort {
                RecordSort::Ascending => self.visit_tails(sort, visitor)?,
                RecordSort::Descending => self.visit_segments(sort, visitor)?,
            };
        }
        Ok(())
    }

    fn visit_segments(&self, sort: RecordSort, visitor: &mut impl FnMut(Block<'_>) -> Visit) -> Visit {
        let segments = self.view.state.segments.iter().enumerate();
        for (index, segment) in ordered(segments, sort) {
            // Without conditions no index is needed, and unfolded records count like folded ones.
            let indexed_to = if self.takes_all() { RecordNumber::MAX } else { self.view.state.folded_to };
            let ids = self.ids.start..self.ids.end.min(indexed_to);
            let slots = self.view.state.slots_in(index, &ids);
            if slots.is_empty() {
                continue;
            }
            let part =
                Part { index, segment, slots, chunk_slots: self.view.state.geometry.chunk_slots, sort };
            let flow = if self.takes_all() {
                part.visit_whole(visitor)?
            } else {
                self.visit_indexed_segment(&part, visitor)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn visit_indexed_segment(&self, part: &Part<'_>, visitor: &mut impl FnMut(Block<'_>) -> Visit) -> Visit {
        let mut conditions = self.conditions(part)?;
        let mut next = Some(part.first_chunk()).filter(|_| !conditions.is_empty());
        let chunks_before = self.tally.chunks_read.get();
        while let Some(from) = next {
            let Some(chunk) = first_common(&mut conditions, from)? else { break };
            if self.tally.chunks_read.get() == chunks_before {
                count(&self.tally.segments_read);
            }
            count(&self.tally.chunks_read);
            let block = part.block(chunk, part.evaluate(chunk, &mut conditions)?);
            if !block.is_empty() && visitor(block)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            next = part.chunk_after(chunk);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the conditions for a part of a segment: first the values, whose slots are found at once, then
    /// the attributes. Returns none if nothing there can match.
    fn conditions(&self, part: &Part<'_>) -> Result<Vec<Condition<'_>>> {
        let (chunks, mut conditions) = (part.chunks(), Vec::new());
        if let Some(values) = &self.values {
            let slots = values.slots(self.view, part.index, &self.tally)?;
            if slots.is_empty() {
                return Ok(Vec::new());
            }
            conditions.push(Condition::of_slots(slots, self.view.state.geometry, &chunks, part.sort));
        }
        if self.attributes.is_empty() {
            return Ok(conditions);
        }
        let Some(table) = self.view.postings(part.index)? else { return Ok(Vec::new()) };
        for (any, tallies) in self.attributes.iter().zip(&self.tally.lists) {
            conditions.push(Condition::of_lists(any, tallies, table, &chunks, part.sort));
        }
        Ok(conditions)
    }

    fn visit_tails(&self, sort: RecordSort, visitor: &mut impl FnMut(Block<'_>) -> Visit) -> Visit {
        if self.takes_all() {
            return Ok(ControlFlow::Continue(()));
        }
        let tails = self.view.state.frozen.iter().chain([&self.view.state.active]);
        for tail in ordered(tails.collect::<Vec<_>>().into_iter(), sort) {
            let set = self.select_in_tail(tail)?;
            let block = Block { base: tail.ids().start, chunk: None, matches: Matches::Tail(set) };
            if block.count() > 0 && visitor(block)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn select_in_tail(&self, tail: &TailView) -> Result<RoaringBitmap> {
        let sought = self.values.as_ref().map(Values::in_tail);
        let (mut set, looked_at) = tail.select(self.filter, sought.as_ref(), &self.ids);
        self.tally.tail_entries.set(self.tally.tail_entries.get() + looked_at);
        let first = tail.ids().start;
        let dead: Vec<u32> =
            set.iter().filter(|position| !self.view.state.is_live(first + u64::from(*position))).collect();
        set -= RoaringBitmap::from_iter(dead);
        let Some(values) = self.values.as_ref() else { return Ok(set) };
        let mut confirmed = RoaringBitmap::new();
        for position in &set {
            if values.confirms(self.view, first + u64::from(position), &self.tally)? {
                confirmed.insert(position);
            }
        }
        Ok(confirmed)
    }
}

/// The part of a segment that is visited, and the direction. It has at least one slot.
struct Part<'a> {
    index: usize,
    segment: &'a SegmentState,
    slots: Range<Slot>,
    chunk_slots: u32,
    sort: RecordSort,
}

impl Part<'_> {
    fn chunks(&self) -> RangeInclusive<ChunkNumber> {
        self.slots.start / self.chunk_slots..=(self.slots.end - 1) / self.chunk_slots
    }

    fn first_chunk(&self) -> ChunkNumber {
        match self.sort {
            RecordSort::Ascending => *self.chunks().start(),
            RecordSort::Descending => *self.chunks().end(),
        }
    }

    /// Returns the next chunk in the requested order.
    fn chunk_after(&self, chunk: ChunkNumber) -> Option<ChunkNumber> {
        let next = match self.sort {
            RecordSort::Ascending => chunk + 1,
            RecordSort::Descending => chunk.checked_sub(1)?,
        };
        self.chunks().contains(&next).then_some(next)
    }

    /// Returns the positions of a chunk that belong to the part.
    fn positions(&self, chunk: ChunkNumber) -> Range<u32> {
        let base = chunk * self.chunk_slots;
        self.slots.start.saturating_sub(base)..(self.slots.end - base).min(self.chunk_slots)
    }

    fn visit_whole(&self, visitor: &mut impl FnMut(Block<'_>) -> Visit) -> Visit {
        for chunk in ordered(self.chunks(), self.sort) {
            let deleted = self.segment.deleted.chunk(chunk);
            let block = self.block(chunk, Matches::AllBut { positions: self.positions(chunk), deleted });
            if block.count() > 0 && visitor(block)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the live positions of a chunk that meet every condition.
    fn evaluate(&self, chunk: ChunkNumber, conditions: &mut [Condition<'_>]) -> Result<Matches<'static>> {
        let positions = self.positions(chunk);
        if let [only] = conditions
            && let Some(mut known) = only.take_known(chunk)
        {
            known.retain(|position| positions.contains(position));
            return Ok(Matches::Few(known));
        }
        let mut set = ChunkSet::new();
        let Some((first, others)) = conditions.split_first_mut() else { return Ok(Matches::Chunk(set)) };
        first.unite(chunk, self.chunk_slots, &mut set)?;
        set.retain_range(&positions);
        let mut union = ChunkSet::new();
        for condition in others {
            if set.is_empty() {
                return Ok(Matches::Chunk(set));
            }
            union.clear();
            condition.unite(chunk, self.chunk_slots, &mut union)?;
            set.intersect(&union);
        }
        if let Some(deleted) = self.segment.deleted.chunk(chunk) {
            set.subtract(deleted);
        }
        Ok(Matches::Chunk(set))
    }

    fn block<'b>(&self, chunk: ChunkNumber, matches: Matches<'b>) -> Block<'b> {
        let base = self.segment.id(chunk * self.chunk_slots);
        Block { base, chunk: Some((self.index, chunk)), matches }
    }
}

fn attributes_of(filter: &RecordFilter, types_answered: bool) -> Vec<AnyOf> {
    let runs = filter.runs.iter().map(|id| (PostingKey::of_run(id.as_str()), id.to_string()));
    let steps = filter.steps.iter().map(|id| (PostingKey::of_step(id.as_str()), id.to_string()));
    let flows = filter.flows.iter().map(|id| (PostingKey::of_flow(id.as_str()), id.to_string()));
    let types = filter.entity_types.iter().filter(|_| !types_answered);
    let types = types.map(|id| (PostingKey::of_entity_type(*id), id.to_string()));
    let attributes = [
        AnyOf { parameter: "flow_run_id", lists: distinct(runs) },
        AnyOf { parameter: "step_id", lists: distinct(steps) },
        AnyOf { parameter: "flow_id", lists: distinct(flows) },
        AnyOf { parameter: "entity_type_id", lists: distinct(types) },
    ];
    attributes.into_iter().filter(|any| !any.lists.is_empty()).collect()
}

/// Iterates over the items in ascending or descending order.
fn ordered<I: DoubleEndedIterator>(items: I, sort: RecordSort) -> impl Iterator<Item = I::Item> {
    let mut items = items;
    std::iter::from_fn(move || match sort {
        RecordSort::Ascending => items.next(),
        RecordSort::Descending => items.next_back(),
    })
}
