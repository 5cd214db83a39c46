//! The filter of the union: one Bloom filter over the fingerprints of many sealed segments.
//!
//! A value that is new to a pool of many segments is in none of them, and yet each group of their filters must be asked. One
//! more filter over all of them says so at once; only a value that it may contain is asked of the segments. Filters cannot
//! be united bit by bit, for that they are too small: so its fingerprints are copied from the segments' tables, a slice with
//! a question now and then, by those who ask.
//!
//! Owns: which segments it speaks for, and the copying. Always holds: it knows every fingerprint that the tables of its
//! segments have in views in which they are merged: from then on a segment's table never changes. It must not be asked for
//! segments that are not merged in the view that asks. When segments are rebuilt, their pool gets another one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::blocked::BlockedFilter;
use crate::engine::format::schema::{Fingerprint, SegmentNumber};
use crate::error::Result;

/// In fewer sealed segments, present values lose as much by the additional question as absent ones gain.
pub(crate) const SEGMENTS_MIN: SegmentNumber = 16;
/// So many more sealed segments, and half as many as it has, are worth another copy.
const OUTGROWN_BY_MIN: SegmentNumber = 8;
/// Once a question was asked for so many of the segments' records, copying begins.
const RECORDS_FOR_A_QUESTION: u64 = 128;
/// Every so many questions, a slice is copied.
const COPY_EVERY_QUESTIONS: u32 = 16;

/// The union's filter of a pool; shared by the states of many commits.
#[derive(Clone, Default)]
pub(crate) struct UnionFilter(Arc<Cell>);

#[derive(Default)]
struct Cell {
    /// How often it was asked for more segments than it has.
    asked: AtomicU32,
    /// Readers take turns.
    copying: Mutex<Option<Copying>>,
    whole: ArcSwapOption<Union>,
    /// A segment's table could not be read.
    is_hopeless: AtomicBool,
}

struct Union {
    segments: Range<SegmentNumber>,
    filter: BlockedFilter,
}

struct Copying {
    union: Union,
    /// Where the next slice begins.
    segment: SegmentNumber,
    next: Fingerprint,
}

/// What a view has of a segment's fingerprints, from one on.
pub(crate) enum Slice {
    /// Fewer than were asked for at the end.
    Fingerprints(Vec<Fingerprint>),
    /// The segment is not sealed yet.
    Later,
    /// The segment was dropped.
    Gone,
}

/// What a union is made of: segments whose numbers follow each other.
pub(crate) struct Members {
    pub(crate) segments: Range<SegmentNumber>,
    pub(crate) records: u64,
}

impl std::fmt::Debug for UnionFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnionFilter").field("memory", &self.memory()).finish_non_exhaustive()
    }
}

impl UnionFilter {
    /// The segments that do not have the fingerprint, as far as is known, and whether the filter should be made anew, with
    /// all sealed segments of a pool whose open one has this number.
    pub(crate) fn ask(&self, fingerprint: Fingerprint, open: SegmentNumber) -> (Range<SegmentNumber>, bool) {
        let union = self.0.whole.load();
        let Some(union) = union.as_ref() else { return (0..0, true) };
        let Range { start, end } = union.segments;
        let is_outgrown = open.saturating_sub(end) >= OUTGROWN_BY_MIN.max((end - start) / 2);
        let absent = if union.filter.may_contain(fingerprint) { 0..0 } else { start..end };
        (absent, is_outgrown)
    }

    /// Counts a question, and copies a slice of so many rows now and then: `read` reads it, of one of the segments that
    /// `members` told, if there were enough.
    pub(crate) fn grow(
        &self,
        rows: usize,
        members: impl FnOnce() -> Members,
        read: impl FnOnce(SegmentNumber, Fingerprint) -> Result<Slice>,
    ) {
        let asked = self.0.asked.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if !asked.is_multiple_of(COPY_EVERY_QUESTIONS) || self.0.is_hopeless.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut copying) = self.0.copying.try_lock() else { return };
        if copying.is_none() {
            *copying = self.begun(members(), asked);
        }
        let Some(copy) = copying.as_mut() else { return };
        match read(copy.segment, copy.next) {
            Ok(Slice::Fingerprints(fingerprints)) => {
                if copy.take(&fingerprints, rows) {
                    self.0.asked.store(0, Ordering::Relaxed);
                    self.0.whole.store(copying.take().map(|copy| Arc::new(copy.union)));
                }
            }
            Ok(Slice::Later) => {}
            // What is left is begun anew.
            Ok(Slice::Gone) => *copying = None,
            // Whoever needs what cannot be read will be told; this answer does not depend on it.
            Err(_) => {
                *copying = None;
                self.0.is_hopeless.store(true, Ordering::Relaxed);
            }
        }
    }

    /// None unless there are enough segments, not only those that the filter has, and enough questions were asked for their
    /// records.
    fn begun(&self, Members { segments, records }: Members, asked: u32) -> Option<Copying> {
        let has_them =
            |union: &Arc<Union>| union.segments.start <= segments.start && segments.end <= union.segments.end;
        let is_worth_it = segments.end.saturating_sub(segments.start) >= SEGMENTS_MIN
            && u64::from(asked) >= records / RECORDS_FOR_A_QUESTION
            && !self.0.whole.load().as_ref().is_some_and(has_them);
        is_worth_it.then(|| Copying {
            segment: segments.start,
            next: 0,
            union: Union { segments, filter: BlockedFilter::with_capacity(records) },
        })
    }

    /// How many bytes of memory it takes, once it is whole.
    pub(crate) fn memory(&self) -> usize {
        self.0.whole.load().as_ref().map_or(0, |union| union.filter.memory())
    }
}

impl Copying {
    /// Adds a slice of a segment's fingerprints. Whether they were the last.
    fn take(&mut self, fingerprints: &[Fingerprint], rows: usize) -> bool {
        for fingerprint in fingerprints {
            self.union.filter.insert(*fingerprint);
        }
        match fingerprints.last() {
            Some(last) if fingerprints.len() >= rows => self.next = last.saturating_add(1),
            _ => (self.segment, self.next) = (self.segment + 1, 0),
        }
        self.segment >= self.union.segments.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::fingerprint::HashKey;
    use crate::error::Error;
    use std::cell::Cell as Counter;
    use std::collections::BTreeMap;

    /// How many rows a slice has.
    const ROWS: usize = 4;
    /// How many fingerprints a segment has.
    const LEN: u32 = 10;

    fn fingerprint(number: u32) -> Fingerprint {
        HashKey::new(*b"0123456789abcdef").fingerprint(1.into(), &number.to_string())
    }

    /// The fingerprints of a segment: those of its own range of numbers, ascending.
    fn table(segment: SegmentNumber) -> Vec<Fingerprint> {
        let mut fingerprints: Vec<_> = (segment * LEN..(segment + 1) * LEN).map(fingerprint).collect();
        fingerprints.sort_unstable();
        fingerprints
    }

    /// A pool's sealed segments.
    struct Pool {
        union: UnionFilter,
        tables: BTreeMap<SegmentNumber, Vec<Fingerprint>>,
        /// How many slices were read.
        slices: Counter<u32>,
    }

    impl Pool {
        fn of(segments: Range<SegmentNumber>) -> Self {
            let tables = segments.map(|segment| (segment, table(segment))).collect();
            Self { union: UnionFilter::default(), tables, slices: Counter::new(0) }
        }

        fn open(&self) -> SegmentNumber {
            self.tables.keys().last().map_or(0, |last| last + 1)
        }

        /// All segments from the last gap on.
        fn members(&self) -> Members {
            let open = self.open();
            let count = (0..open).rev().take_while(|segment| self.tables.contains_key(segment)).count();
            let count = u32::try_from(count).unwrap();
            Members { segments: open - count..open, records: u64::from(count * LEN) }
        }

        /// Asks for each number in turn; no segment that has it is ruled out.
        fn ask(&self, times: u32) {
            let absent = |number| {
                let (absent, is_outgrown) = self.union.ask(fingerprint(number), self.open());
                assert!(!absent.contains(&(number / LEN)), "{number}: {absent:?}");
                is_outgrown
            };
            for number in (0..(self.open() + 5) * LEN).cycle().take(times as usize) {
                if absent(number) {
                    self.union.grow(ROWS, || self.members(), |segment, start| Ok(self.read(segment, start)));
                }
            }
        }

        fn read(&self, segment: SegmentNumber, start: Fingerprint) -> Slice {
            self.slices.set(self.slices.get() + 1);
            let Some(table) = self.tables.get(&segment) else { return Slice::Gone };
            let behind = table.iter().filter(|fingerprint| **fingerprint >= start);
            Slice::Fingerprints(behind.copied().take(ROWS).collect())
        }

        /// The segments that are ruled out for nearly all that is nowhere.
        fn ruled_out(&self) -> Range<SegmentNumber> {
            let nowhere =
                (1_000_000..1_000_200).map(|number| self.union.ask(fingerprint(number), self.open()).0);
            let ruled_out: Vec<_> = nowhere.filter(|absent| !absent.is_empty()).collect();
            let first = ruled_out.first().cloned().unwrap_or_default();
            assert!(ruled_out.is_empty() || ruled_out.len() > 190, "{}", ruled_out.len());
            assert!(ruled_out.iter().all(|absent| *absent == first));
            first
        }
    }

    #[test]
    fn it_is_copied_once_it_was_asked_often_and_rules_out_no_segment_that_has_the_fingerprint() {
        let few = Pool::of(0..SEGMENTS_MIN - 1);
        few.ask(20_000);
        assert_eq!((few.ruled_out(), few.slices.get()), (0..0, 0));
        let pool = Pool::of(5..25);
        // A slice with every sixteenth question, three slices a segment.
        pool.ask(16 * 3 * 20 - 1);
        assert_eq!((pool.ruled_out(), pool.union.memory()), (0..0, 0));
        pool.ask(1);
        assert_eq!((pool.ruled_out(), pool.slices.get()), (5..25, 60));
        assert_eq!(pool.union.memory(), 1_024);
        pool.ask(20_000);
        assert_eq!(pool.slices.get(), 60);
    }

    #[test]
    fn it_is_made_anew_once_half_as_many_segments_came() {
        let mut pool = Pool::of(0..20);
        pool.ask(20_000);
        pool.tables.extend((20..29).map(|segment| (segment, table(segment))));
        pool.ask(20_000);
        assert_eq!(pool.ruled_out(), 0..20);
        pool.tables.insert(29, table(29));
        pool.ask(20_000);
        assert_eq!(pool.ruled_out(), 0..30);
        // The oldest go, others come.
        pool.tables.retain(|segment, _| *segment >= 15);
        pool.tables.extend((30..45).map(|segment| (segment, table(segment))));
        pool.ask(20_000);
        assert_eq!(pool.ruled_out(), 15..45);
    }

    #[test]
    fn a_segment_that_goes_while_it_is_copied_is_left_out() {
        let mut pool = Pool::of(0..40);
        pool.ask(16 * 3 * 30);
        assert!(pool.slices.get() > 80 && pool.ruled_out().is_empty());
        pool.tables.remove(&35);
        pool.ask(20_000);
        assert!(pool.ruled_out().is_empty(), "only four are behind the gap");
        pool.tables.extend((40..60).map(|segment| (segment, table(segment))));
        pool.ask(20_000);
        assert_eq!(pool.ruled_out(), 36..60);
    }

    /// Those behind a gap are too few, those before it are there already.
    #[test]
    fn what_it_has_is_not_copied_again() {
        let mut pool = Pool::of(0..20);
        pool.ask(20_000);
        let slices = pool.slices.get();
        pool.tables.extend((20..40).map(|segment| (segment, table(segment))));
        for _ in 0..20_000 {
            assert!(pool.union.ask(0, 40).1);
            let members = || Members { segments: 0..20, records: 200 };
            pool.union.grow(ROWS, members, |segment, start| Ok(pool.read(segment, start)));
        }
        assert_eq!((pool.ruled_out(), pool.slices.get()), (0..20, slices));
    }

    #[test]
    fn a_view_that_lacks_a_segment_yet_leaves_its_copying_to_others() {
        let pool = Pool::of(0..20);
        pool.ask(16 * 3 * 10);
        let slices = pool.slices.get();
        for _ in 0..1_000 {
            pool.union.grow(ROWS, || panic!("it was begun"), |_, _| Ok(Slice::Later));
        }
        pool.ask(16 * 3 * 20);
        assert_eq!((pool.ruled_out(), pool.slices.get()), (0..20, slices + 30));
    }

    #[test]
    fn a_table_that_cannot_be_read_ends_it() {
        let pool = Pool::of(0..20);
        pool.ask(16 * 3 * 10);
        let fails = |_, _| Err(Error::corrupt("a damaged page"));
        (0..COPY_EVERY_QUESTIONS).for_each(|_| pool.union.grow(ROWS, || panic!("it was begun"), fails));
        let slices = pool.slices.get();
        pool.ask(20_000);
        assert_eq!((pool.ruled_out(), pool.slices.get()), (0..0, slices));
    }
}
