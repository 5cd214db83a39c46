//! The planner: from a filter to the records it takes, by blocks.
//!
//! Owns: which index blocks are read, in which order, and how they combine. A block is one chunk of a segment, or
//! a tail. Per block: the union of each attribute's posting lists, the intersection of the attributes, minus the
//! dead. Always holds: the answer equals that of reading every record, which is the test. Chunks that the most
//! selective attribute does not have are never touched; records are read by the caller, for its page only.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range, RangeInclusive};

use roaring::RoaringBitmap;

use super::failure::StorageResult;
use super::postings;
use super::record::PostingKey;
use super::schema::{ChunkNumber, Fingerprint, Slot};
use super::tail::TailView;
use super::view::View;
use crate::error::Result;
use crate::ids::{EntityTypeId, RecordId};
use crate::query::{RecordFilter, RecordSort};
use crate::time::Timestamp;

/// Up to this many pairs of value and entity type are looked up one by one.
const EXACT_PAIRS_MAX: usize = 4_096;

/// One attribute's condition: any of these posting lists.
#[derive(Debug)]
struct AnyOf(Vec<PostingKey>);

/// The condition on values.
#[derive(Debug)]
struct Values<'a> {
    /// Ranges of fingerprints to seek, with the value that must be found there.
    ranges: Vec<(RangeInclusive<Fingerprint>, &'a str)>,
    /// Whether a range is one whole fingerprint, so that whatever is found is right.
    exact: bool,
}

/// How a filter is answered over one view.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    view: &'a View,
    filter: &'a RecordFilter,
    /// The ids that the watermark and the times leave.
    ids: Range<RecordId>,
    /// The most selective first, by experience: a run has few records, an entity type many.
    attributes: Vec<AnyOf>,
    values: Option<Values<'a>>,
}

/// The records of one block that a filter takes.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// The record that position 0 stands for.
    base: RecordId,
    /// Which chunk of which segment it is; none for a tail.
    pub(crate) chunk: Option<(usize, ChunkNumber)>,
    matches: Matches<'a>,
}

#[derive(Debug)]
enum Matches<'a> {
    /// All positions of the range but the deleted ones.
    AllBut {
        positions: Range<u32>,
        deleted: Option<&'a RoaringBitmap>,
    },
    Set(RoaringBitmap),
}

impl Block<'_> {
    pub(crate) fn count(&self) -> u64 {
        match &self.matches {
            Matches::AllBut { positions, deleted } => {
                let dead = deleted.map_or(0, |deleted| deleted.range_cardinality(positions.clone()));
                u64::from(positions.end - positions.start) - dead
            }
            Matches::Set(set) => set.len(),
        }
    }

    /// The positions, relative to the block.
    pub(crate) fn positions(&self) -> RoaringBitmap {
        match &self.matches {
            Matches::AllBut { positions, deleted } => {
                let mut set = RoaringBitmap::new();
                set.insert_range(positions.clone());
                if let Some(deleted) = deleted {
                    set -= *deleted;
                }
                set
            }
            Matches::Set(set) => set.clone(),
        }
    }

    /// The ids, ascending.
    pub(crate) fn ids(&self) -> Vec<RecordId> {
        self.positions().iter().map(|position| self.base + u64::from(position)).collect()
    }
}

/// What a visitor of blocks says: go on, or enough.
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
        let types_answered = values.as_ref().is_some_and(|values| values.exact);
        let attributes = attributes_of(filter, types_answered);
        Ok(Self { view, filter, ids, attributes, values })
    }

    /// The same plan, within an id range.
    pub(crate) fn within(mut self, ids: Range<RecordId>) -> Self {
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

    fn takes_all(&self) -> bool {
        self.attributes.is_empty() && self.values.is_none()
    }

    /// Shows each block that has a match, in the order asked for, until the visitor has enough.
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
        for index in ordered(0..self.view.state.segments.len(), sort) {
            // Without conditions nothing needs an index: unfolded records count like folded ones.
            let indexed_to = if self.takes_all() { RecordId::MAX } else { self.view.state.folded_to };
            let ids = self.ids.start..self.ids.end.min(indexed_to);
            let slots = self.view.state.slots_in(index, &ids);
            if slots.is_empty() {
                continue;
            }
            let flow = if self.takes_all() {
                self.visit_whole_segment(index, slots, sort, visitor)?
            } else {
                self.visit_indexed_segment(index, slots, sort, visitor)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The parts of a slot range, chunk by chunk, relative to each chunk.
    fn chunks(
        &self,
        slots: Range<Slot>,
    ) -> impl DoubleEndedIterator<Item = (ChunkNumber, Range<u32>)> + use<> {
        let size = self.view.state.geometry.chunk_slots;
        (slots.start / size..slots.end.div_ceil(size)).map(move |chunk| {
            let base = chunk * size;
            (chunk, slots.start.saturating_sub(base)..(slots.end - base).min(size))
        })
    }

    fn visit_whole_segment(
        &self,
        index: usize,
        slots: Range<Slot>,
        sort: RecordSort,
        visitor: &mut impl FnMut(Block<'_>) -> Visit,
    ) -> Visit {
        let Some(segment) = self.view.state.segments.get(index) else { return Ok(ControlFlow::Continue(())) };
        for (chunk, positions) in ordered(self.chunks(slots), sort) {
            let matches = Matches::AllBut { positions, deleted: segment.deleted.chunk(chunk) };
            let block = Block { base: self.chunk_base(index, chunk), chunk: Some((index, chunk)), matches };
            if block.count() > 0 && visitor(block)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn visit_indexed_segment(
        &self,
        index: usize,
        slots: Range<Slot>,
        sort: RecordSort,
        visitor: &mut impl FnMut(Block<'_>) -> Visit,
    ) -> Visit {
        let candidates = self.candidates(index, &slots)?;
        for (chunk, positions) in ordered(self.chunks(slots), sort) {
            let Some(lists) = candidates.get(&chunk) else { continue };
            let set = self.evaluate(index, chunk, &positions, lists)?;
            if set.is_empty() {
                continue;
            }
            let block = Block {
                base: self.chunk_base(index, chunk),
                chunk: Some((index, chunk)),
                matches: Matches::Set(set),
            };
            if visitor(block)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn chunk_base(&self, index: usize, chunk: ChunkNumber) -> RecordId {
        let state = &self.view.state;
        let first = state.segments.get(index).map_or(0, |segment| segment.first_id);
        first + u64::from(chunk) * u64::from(state.geometry.chunk_slots)
    }

    /// The chunks of a segment that the most selective condition has, each with what that condition found there.
    fn candidates(&self, index: usize, slots: &Range<Slot>) -> Result<BTreeMap<ChunkNumber, Found>> {
        let mut chunks: BTreeMap<ChunkNumber, Found> = BTreeMap::new();
        if let Some(values) = &self.values {
            for slot in values.slots(self.view, index)? {
                let (chunk, offset) = self.view.state.geometry.chunk_of(slot);
                chunks.entry(chunk).or_default().slots.insert(offset);
            }
            return Ok(chunks);
        }
        let (Some(AnyOf(keys)), Some(table)) = (self.attributes.first(), self.view.postings(index)?) else {
            return Ok(chunks);
        };
        let size = self.view.state.geometry.chunk_slots;
        for attribute in keys {
            let (first, last) =
                (attribute.at_chunk(slots.start / size), attribute.at_chunk((slots.end - 1) / size));
            for row in table.range(first.as_slice()..=last.as_slice()).storage()? {
                let (key, bitmap) = row.storage()?;
                if let Some(chunk) = key.value().last_chunk::<4>() {
                    chunks.entry(u32::from_be_bytes(*chunk)).or_default().lists.push(bitmap);
                }
            }
        }
        Ok(chunks)
    }

    /// The live positions of a chunk that meet every condition.
    fn evaluate(
        &self,
        index: usize,
        chunk: ChunkNumber,
        positions: &Range<u32>,
        found: &Found,
    ) -> Result<RoaringBitmap> {
        let size = self.view.state.geometry.chunk_slots;
        let mut set = found.slots.clone();
        for list in &found.lists {
            set |= postings::decode(list.value(), size)?;
        }
        // Values stand before the attributes; without them the first attribute is what was found.
        let done = usize::from(self.values.is_none());
        for AnyOf(keys) in self.attributes.iter().skip(done) {
            if set.is_empty() {
                return Ok(set);
            }
            set &= self.union(index, chunk, keys)?;
        }
        set.remove_range(..positions.start);
        set.remove_range(positions.end..);
        if let Some(deleted) =
            self.view.state.segments.get(index).and_then(|segment| segment.deleted.chunk(chunk))
        {
            set -= deleted;
        }
        Ok(set)
    }

    fn union(&self, index: usize, chunk: ChunkNumber, keys: &[PostingKey]) -> Result<RoaringBitmap> {
        let size = self.view.state.geometry.chunk_slots;
        let mut union = RoaringBitmap::new();
        let Some(table) = self.view.postings(index)? else { return Ok(union) };
        for key in keys {
            if let Some(list) = table.get(key.at_chunk(chunk).as_slice()).storage()? {
                union |= postings::decode(list.value(), size)?;
            }
        }
        Ok(union)
    }

    fn visit_tails(&self, sort: RecordSort, visitor: &mut impl FnMut(Block<'_>) -> Visit) -> Visit {
        if self.takes_all() {
            return Ok(ControlFlow::Continue(()));
        }
        let tails = self.view.state.frozen.iter().chain([&self.view.state.active]);
        for tail in ordered(tails.collect::<Vec<_>>().into_iter(), sort) {
            let set = self.select_in_tail(tail)?;
            let block = Block { base: tail.ids().start, chunk: None, matches: Matches::Set(set) };
            if block.count() > 0 && visitor(block)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn select_in_tail(&self, tail: &TailView) -> Result<RoaringBitmap> {
        let ranges = self.values.as_ref().map(Values::fingerprints);
        let mut set = tail.select(self.filter, ranges.as_deref(), &self.ids);
        let first = tail.ids().start;
        let dead: Vec<u32> =
            set.iter().filter(|position| !self.view.state.is_live(first + u64::from(*position))).collect();
        set -= RoaringBitmap::from_iter(dead);
        let Some(values) = self.values.as_ref().filter(|values| !values.exact) else { return Ok(set) };
        let mut confirmed = RoaringBitmap::new();
        for position in &set {
            if values.confirms(self.view, first + u64::from(position))? {
                confirmed.insert(position);
            }
        }
        Ok(confirmed)
    }
}

/// What the most selective condition has for one chunk.
#[derive(Default)]
struct Found {
    slots: RoaringBitmap,
    /// Not decoded before the chunk's turn comes.
    lists: Vec<redb::AccessGuard<'static, &'static [u8]>>,
}

impl<'a> Values<'a> {
    fn of(view: &View, filter: &'a RecordFilter) -> Option<Self> {
        let (values, types) = (&filter.values, &filter.entity_types);
        if values.is_empty() {
            return None;
        }
        let key = &view.hash_key;
        let exact = !types.is_empty() && values.len().saturating_mul(types.len()) <= EXACT_PAIRS_MAX;
        let ranges = if exact {
            let one = |value: &'a str, id: EntityTypeId| {
                let fingerprint = key.fingerprint(id, value);
                (fingerprint..=fingerprint, value)
            };
            values.iter().flat_map(|value| types.iter().map(move |id| one(value, *id))).collect()
        } else {
            values.iter().map(|value| (key.range_of_value(value), value.as_str())).collect()
        };
        Some(Self { ranges, exact })
    }

    fn fingerprints(&self) -> Vec<RangeInclusive<Fingerprint>> {
        self.ranges.iter().map(|(range, _)| range.clone()).collect()
    }

    /// The slots of a segment that have one of the values, dead ones included.
    fn slots(&self, view: &View, index: usize) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        for (range, value) in &self.ranges {
            if self.exact && !view.may_contain(index, *range.start())? {
                continue;
            }
            // Records of one fingerprint have one value: the first of them speaks for all.
            let mut spoken: Option<(Fingerprint, bool)> = None;
            for (fingerprint, slot) in view.slots_of(index, range.clone())? {
                let right = match spoken {
                    Some((last, right)) if last == fingerprint => right,
                    _ => self.exact || has_value_at(view, index, slot, value)?,
                };
                spoken = Some((fingerprint, right));
                if right {
                    slots.push(slot);
                }
            }
        }
        Ok(slots)
    }

    fn confirms(&self, view: &View, id: RecordId) -> Result<bool> {
        for (_, value) in &self.ranges {
            if view.has_value(id, value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn has_value_at(view: &View, index: usize, slot: Slot, value: &str) -> Result<bool> {
    match view.state.segments.get(index) {
        Some(segment) => view.has_value(segment.id(slot), value),
        None => Ok(false),
    }
}

fn attributes_of(filter: &RecordFilter, types_answered: bool) -> Vec<AnyOf> {
    let runs = filter.runs.iter().map(|id| PostingKey::of_run(id.as_str())).collect();
    let steps = filter.steps.iter().map(|id| PostingKey::of_step(id.as_str())).collect();
    let flows = filter.flows.iter().map(|id| PostingKey::of_flow(id.as_str())).collect();
    let types = filter.entity_types.iter().filter(|_| !types_answered);
    let types = types.map(|id| PostingKey::of_entity_type(*id)).collect();
    let lists: [Vec<PostingKey>; 4] = [runs, steps, flows, types];
    lists.into_iter().filter(|keys| !keys.is_empty()).map(AnyOf).collect()
}

/// The items in ascending or descending order.
fn ordered<I: DoubleEndedIterator>(items: I, sort: RecordSort) -> impl Iterator<Item = I::Item> {
    let mut items = items;
    std::iter::from_fn(move || match sort {
        RecordSort::Ascending => items.next(),
        RecordSort::Descending => items.next_back(),
    })
}
