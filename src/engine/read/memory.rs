//! What memory knows of a fingerprint, before a segment's table is read.
//!
//! Owns: the order in which a segment's membership filter and its hot index are asked, and their filling by those who ask.
//! Always holds: memory says "absent" only of fingerprints that the segment's table does not have.

use std::ops::Range;

use redb::ReadableTableMetadata;

use crate::engine::format::schema::{self, Fingerprint, HAS_REPEATS, SegmentNumber};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::probe::hot::{self, InMemory, Place, Size, Slice};
use crate::engine::probe::membership::sliced::{self, Answer, Block, Group};
use crate::engine::probe::membership::union::{self, Members};
use crate::engine::probe::membership::{Filter, words_for};
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;

/// How many fingerprints of a segment's table its filter must know before it is used.
const SAMPLE: usize = 16;

/// A fingerprint that is asked of one segment after another.
pub(crate) struct Question {
    fingerprint: Fingerprint,
    /// The group of the segment that was asked last: its other segments need not ask it again.
    group: Option<(Group, Known)>,
}

/// What the filters of a group know of a fingerprint.
#[derive(Debug, Clone, Copy)]
enum Known {
    Answer(Answer),
    /// They are being copied.
    Soon,
    /// They are asked one by one.
    Nothing,
}

impl Question {
    pub(crate) fn of(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, group: None }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// Reads the memory in which the filters of a segment's group will be asked for these fingerprints, so that they wait for it
/// together; not if that group was `prefetched` last.
pub(crate) fn prefetch_filters(
    segment: &SegmentState,
    prefetched: &mut Option<Group>,
    fingerprints: impl Iterator<Item = Fingerprint>,
) {
    let group = Group::of(segment.number);
    if prefetched.replace(group) != Some(group) {
        segment.sliced.prefetch(fingerprints);
    }
}

impl View {
    /// The segments, by index, that the filter of their union does not rule out; those beyond it are among them.
    pub(crate) fn worth_asking(
        &self,
        fingerprint: Fingerprint,
    ) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let ruled_out = self.ruled_out(fingerprint);
        (0..ruled_out.start).chain(ruled_out.end..self.state.segments.len())
    }

    /// The segments, by index, that the filter of their union rules out.
    pub(crate) fn ruled_out(&self, fingerprint: Fingerprint) -> Range<usize> {
        if self.state.segments.len() > union::SEGMENTS_MIN as usize {
            self.ruled_out_by_union(fingerprint)
        } else {
            0..0
        }
    }

    /// Kept out of line: smaller pools do not ask the union, and each instruction counts for them.
    #[inline(never)]
    fn ruled_out_by_union(&self, fingerprint: Fingerprint) -> Range<usize> {
        let segments = &self.state.segments;
        let (absent, is_outgrown) = self.state.union.ask(fingerprint, self.state.open_number());
        if is_outgrown {
            self.grow_union();
        }
        // The union was copied from later views, too: of a segment that is not merged in this one, it may lack what has died
        // since.
        let absent = absent.start..absent.end.min(self.first_unfiltered());
        let place = |number| segments.partition_point(|segment| segment.number < number);
        if absent.is_empty() { 0..0 } else { place(absent.start)..place(absent.end) }
    }

    /// Copies a slice of a segment's fingerprints into the filter of the union, if it was asked often enough and it is this
    /// view's turn.
    fn grow_union(&self) {
        let wanted = hot::slice_rows(self.state.geometry);
        let read = |number, start: Fingerprint| {
            let segments = &self.state.segments;
            let index = match segments.binary_search_by_key(&number, |segment| segment.number) {
                Ok(index) if segments.get(index).is_some_and(|segment| segment.filter.is_stored()) => index,
                Err(_) if number < self.state.open_number() => return Ok(union::Slice::Gone),
                _ => return Ok(union::Slice::Later),
            };
            let Some(table) = self.fingerprints(index)? else {
                return Ok(union::Slice::Fingerprints(Vec::new()));
            };
            let rows = table.range::<Fingerprint>(start..).storage()?.take(wanted);
            rows.map(|row| Ok(row.storage()?.0.value()))
                .collect::<Result<_>>()
                .map(union::Slice::Fingerprints)
        };
        self.state.union.grow(wanted, || self.state.largest_union(), read);
    }

    /// Whether a segment may hold a fingerprint, by its membership filter and its hot index; if not, nothing needs to be read.
    pub(crate) fn may_contain(&self, index: usize, question: &mut Question) -> Result<bool> {
        Ok(self.passes_filters(index, question)?
            && !matches!(self.ask_hot_index(index, question, true)?, InMemory::Absent))
    }

    /// Whether a segment's tables may have a fingerprint, by its membership filter, or since it has some.
    pub(crate) fn passes_filters(&self, index: usize, question: &mut Question) -> Result<bool> {
        match self.state.segments.get(index) {
            Some(segment) if segment.filter.is_stored() => self.ask_filters(index, segment, question),
            // What is not folded is in the tails alone.
            segment => Ok(segment.is_some_and(|segment| segment.first_id < self.state.folded_to)),
        }
    }

    /// What a segment's hot index knows of a fingerprint that passes its filter; if nothing, and `copies`, it may know more later.
    pub(crate) fn ask_hot_index(&self, index: usize, question: &Question, copies: bool) -> Result<InMemory> {
        let Some(segment) = self.state.segments.get(index) else { return Ok(InMemory::Absent) };
        let answer = segment.hot.ask(question.fingerprint);
        if copies && matches!(answer, InMemory::Unknown) {
            self.grow_hot_index(index, segment)?;
        }
        Ok(answer)
    }

    /// Whether a segment may have a fingerprint, by the filters of its group or its own. Loads them once they were asked
    /// often enough.
    fn ask_filters(&self, index: usize, segment: &SegmentState, question: &mut Question) -> Result<bool> {
        let known = self.ask_group(segment, question)?;
        if let Known::Answer(answer) = known
            && let Some(may_contain) = answer.of(segment.number)
        {
            return Ok(may_contain);
        }
        let is_coming = matches!(known, Known::Soon);
        let filter = if segment.filter.is_loaded() || !is_coming && segment.filter.is_worth_loading() {
            segment.filter.get_or_load(|| self.load_filter(index, segment, None))?
        } else {
            None
        };
        Ok(filter.is_none_or(|filter| filter.may_contain(question.fingerprint)))
    }

    /// What the filters of a segment's group know.
    fn ask_group(&self, segment: &SegmentState, question: &mut Question) -> Result<Known> {
        let group = Group::of(segment.number);
        if let Some((asked, known)) = question.group
            && asked == group
        {
            return Ok(known);
        }
        let known = match segment.sliced.ask(question.fingerprint) {
            Some(answer) => Known::Answer(answer),
            None if self.copy_filters(segment)? => Known::Soon,
            None => Known::Nothing,
        };
        question.group = Some((group, known));
        Ok(known)
    }

    /// Copies a block of each filter of the segment's group, if these get no more and it is this view's turn. Whether the group
    /// will soon answer.
    fn copy_filters(&self, segment: &SegmentState) -> Result<bool> {
        let Some((first, members)) = self.state.whole_group(segment.number) else { return Ok(false) };
        let read = |block| members.iter().map(|member| self.filter_block(member.number, block)).collect();
        let is_right = |knows: &dyn Fn(SegmentNumber, Fingerprint) -> bool| {
            for (index, member) in (first..).zip(members) {
                if !self.fingerprint_sample(index, None)?.iter().all(|sample| knows(member.number, *sample)) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        segment.sliced.grow(words_for(self.state.geometry.segment_slots), read, is_right)
    }

    /// Copies a slice of a segment's fingerprints into its hot index, if it was asked often enough and it is this view's turn.
    fn grow_hot_index(&self, index: usize, segment: &SegmentState) -> Result<()> {
        let runs = self.run_numbers(index);
        let size = || {
            let mut rows = 0;
            for run in self.fingerprint_parts(index) {
                rows +=
                    self.fingerprints_in(index, run)?.map_or(Ok(0), ReadableTableMetadata::len).storage()?;
            }
            let is_merged = runs.is_empty() && self.state.is_folded(index);
            let most = || if is_merged { rows } else { segment.sealed_len.into() };
            let is_filtered = segment.filter.is_stored();
            Ok(Size { rows, most: (segment.sealed_len > 0).then(most), is_filtered })
        };
        let read = |start: Place, wanted| {
            let mut rows = Vec::with_capacity(wanted);
            if let Some(table) = self.fingerprints_in(index, start.run)? {
                for row in table.range(start.fingerprint..).storage()?.take(wanted) {
                    let (fingerprint, entry) = row.storage()?;
                    rows.push((fingerprint.value(), entry.value() & !HAS_REPEATS));
                }
            }
            let next = if let Some((last, _)) = rows.last().filter(|_| rows.len() == wanted) {
                Some(Place { fingerprint: last.saturating_add(1), ..start })
            } else {
                let run = start.run.map_or(0, |run| run + 1);
                // The first slices of the run that is being written are in no hot index that is begun after them.
                (run <= runs.end).then_some(Place { run: Some(run), fingerprint: 0 })
            };
            Ok(Slice { rows, next })
        };
        segment.hot.grow(&self.state.hot_budget, self.state.geometry, segment.folds, size, read)
    }

    /// Whether a run of a segment may have a fingerprint, by its filter.
    pub(crate) fn run_may_contain(&self, index: usize, run: u32, fingerprint: Fingerprint) -> Result<bool> {
        let Some(segment) = self.state.segments.get(index) else { return Ok(false) };
        let Some(filter) = segment.runs.get(run as usize) else { return Ok(false) };
        if !filter.is_loaded() && !filter.is_worth_loading() {
            return Ok(true);
        }
        let filter = filter.get_or_load(|| self.load_filter(index, segment, Some(run)))?;
        Ok(filter.is_none_or(|filter| filter.may_contain(fingerprint)))
    }

    /// The filter of a segment or of one of its runs.
    fn load_filter(&self, index: usize, segment: &SegmentState, run: Option<u32>) -> Result<Option<Filter>> {
        let Some(table) = self.snapshot.table(schema::MEMBERSHIP)? else { return Ok(None) };
        let mut blocks = Vec::new();
        let key = |block| (self.state.id, segment.number, block);
        let (first, last) = schema::filter_blocks(run).into_inner();
        for row in table.range(key(first)..=key(last)).storage()? {
            blocks.push(row.storage()?.1.value().to_vec());
        }
        let Some(filter) = Filter::from_blocks(&blocks) else { return Ok(None) };
        let sample = self.fingerprint_sample(index, run)?;
        Ok(filter.knows_all(&sample).then_some(filter))
    }

    fn filter_block(&self, segment: SegmentNumber, number: u32) -> Result<Block> {
        let row = match self.snapshot.table(schema::MEMBERSHIP)? {
            Some(table) => table.get((self.state.id, segment, number)).storage()?,
            None => None,
        };
        Ok(Block { segment, bytes: row.map(|row| row.value().to_vec()).unwrap_or_default() })
    }

    /// Some fingerprints that the table of the segment, or of a run, has.
    fn fingerprint_sample(&self, index: usize, run: Option<u32>) -> Result<Vec<Fingerprint>> {
        let Some(table) = self.fingerprints_in(index, run)? else { return Ok(Vec::new()) };
        let rows = table.range::<u128>(..).storage()?.take(SAMPLE);
        rows.map(|row| Ok(row.storage()?.0.value())).collect()
    }
}

impl PoolState {
    /// The most segments that have all that they will have, and whose numbers follow each other.
    fn largest_union(&self) -> Members {
        let runs = self
            .segments
            .chunk_by(|a, b| a.number + 1 == b.number && a.filter.is_stored() && b.filter.is_stored());
        let longest = runs.max_by_key(|run| run.len()).unwrap_or_default();
        let start = longest.first().map_or(0, |first| first.number);
        let end = longest.last().map_or(0, |last| last.number + 1);
        Members {
            segments: start..end,
            records: longest.iter().map(|segment| u64::from(segment.sealed_len)).sum(),
        }
    }

    /// The segments of a segment's group, and where they begin, if no more will come, each has its filter, and they are enough to
    /// be asked together.
    fn whole_group(&self, number: SegmentNumber) -> Option<(usize, &[SegmentState])> {
        let group = Group::of(number);
        if self.open_segment().is_none_or(|open| Group::of(open.number) == group) {
            return None;
        }
        let start = self.segments.partition_point(|segment| Group::of(segment.number) < group);
        let end = self.segments.partition_point(|segment| Group::of(segment.number) <= group);
        let members = self.segments.get(start..end)?;
        let is_whole =
            members.len() >= sliced::MEMBERS_MIN && members.iter().all(|member| member.filter.is_stored());
        is_whole.then_some((start, members))
    }
}
