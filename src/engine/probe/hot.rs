//! The hot index: the fingerprints of segments that are asked often, in memory.
//!
//! A check of a value asks a segment's table, a look-up in a tree of pages that costs most of a microsecond, unless memory
//! can answer. Once a segment was asked often enough, its readers copy its table into a [`HotTable`], each a slice; from its
//! beginning on, the folds add what they write. Always holds: a table that is whole knows every fingerprint of the segment's
//! table, in every view that shares this index. Folds only add fingerprints; a merge leaves dead ones out, so the segment has
//! another index after it ([`HotIndex::after_merge`]). The slot that it names is one that the fingerprint had in some view: it answers for
//! a state in which it is live; otherwise the segment's table must be asked.
//!
//! That needs an order. A fold counts up the version, then looks for a table to add to; a reader puts the table there, then
//! looks at the version, and reads only from views that have seen it. So what a fold did not add, those views have.
//!
//! All tables of a store share a [`HotBudget`]. When it is spent, those of segments that nobody asked lately give way; and any
//! of a segment with a membership filter to one of a segment without, which every absent value asks.

mod table;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use self::table::{HotTable, Refused};
use crate::engine::format::schema::{Fingerprint, Geometry, Slot};
use crate::error::Result;

/// Each time a segment's table had to answer so many questions, it is looked whether its hot table should be begun.
const BEGIN_EVERY_QUESTIONS: u32 = 16 * COPY_EVERY_QUESTIONS;
/// It should once there was a question for so many of its rows. A sealed segment's filter is wrong for one in 400 absent
/// values: what only these ask is not worth copying before 1.6 million of them.
const ROWS_FOR_A_QUESTION: u64 = 256;
/// After one question for so many slots of a segment, tables that nobody asked meanwhile give way. Copying the table of a
/// segment of 2^20 costs as much as some 80,000 questions.
const SLOTS_FOR_A_QUESTION_TO_MAKE_ROOM: u32 = 16;
/// Every so many, a slice is copied: a batch of a thousand values waits for 8 ms of that at most, where pages are cold.
const COPY_EVERY_QUESTIONS: u32 = 16;
/// Smaller tables are asked nearly as fast.
const MIN_ROWS: u64 = 8_192;
/// How many rows of the table a reader copies at most: 0.05 to 0.2 ms.
const SLICE_ROWS: u32 = 1_024;

/// What memory knows of a fingerprint in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InMemory {
    Absent,
    /// Its slot in some view: the right one, if it is live in the state that is asked.
    At(Slot),
    /// The segment's table must be asked.
    Unknown,
}

/// What answers for a segment's fingerprint table, if it can. Shared by the states of many commits.
#[derive(Clone, Default)]
pub(crate) struct HotIndex(Arc<Cell>);

#[derive(Default)]
struct Cell {
    /// How often the segment's table had to be asked.
    asked: AtomicU32,
    /// How many folds have written to the segment's table: what [`HotIndex::fold`] was told.
    version: AtomicU64,
    copy: ArcSwapOption<HotCopy>,
    /// Its fingerprints crowd: it is not worth another try.
    is_hopeless: AtomicBool,
    /// Few questions get past the segment's membership filter.
    is_filtered: AtomicBool,
}

/// A hot table, whole or on its way.
struct HotCopy {
    table: HotTable,
    is_whole: AtomicBool,
    /// Whether anybody asked since room was last made.
    was_asked: AtomicBool,
    /// Where the next slice begins; readers take turns.
    next: Mutex<Place>,
    /// How many fingerprints it has; whoever writes holds this.
    len: Mutex<usize>,
    /// Views of fewer folds do not have what was not added; none until it is known.
    since: OnceLock<u64>,
    room: Room,
}

/// A place among a segment's fingerprints: those of its table come before those of its runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// None in the segment's table.
    pub(crate) run: Option<u32>,
    pub(crate) fingerprint: Fingerprint,
}

/// Some of a segment's fingerprints with their slots, and where those that follow begin; none at the end.
pub(crate) struct Slice {
    pub(crate) rows: Vec<(Fingerprint, Slot)>,
    pub(crate) next: Option<Place>,
}

impl std::fmt::Debug for HotIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HotIndex").field("memory", &self.memory()).finish_non_exhaustive()
    }
}

impl HotIndex {
    pub(crate) fn ask(&self, fingerprint: Fingerprint) -> InMemory {
        let copy = self.0.copy.load();
        let Some(copy) = copy.as_ref().filter(|copy| copy.is_whole.load(Ordering::Acquire)) else {
            return InMemory::Unknown;
        };
        // Written only when it changes: readers share the cache line.
        if !copy.was_asked.load(Ordering::Relaxed) {
            copy.was_asked.store(true, Ordering::Relaxed);
        }
        copy.table.get(fingerprint).map_or(InMemory::Absent, InMemory::At)
    }

    /// Reads the memory that [`ask`](Self::ask) will read for these fingerprints, so that they wait for it together.
    pub(crate) fn prefetch(&self, fingerprints: impl Iterator<Item = Fingerprint> + Clone) {
        if let Some(copy) = self.0.copy.load().as_ref() {
            copy.table.prefetch(fingerprints);
        }
    }

    /// The segment has a membership filter from now on.
    pub(crate) fn is_filtered_now(&self) {
        self.0.is_filtered.store(true, Ordering::Relaxed);
    }

    /// A fold is about to commit these rows; the segment has the version once it is. What is not committed then does no
    /// harm: the records are there, whatever their index.
    pub(crate) fn fold(&self, version: u64, rows: &[(Fingerprint, Slot)]) {
        self.0.version.store(version, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(copy) = self.0.copy.load_full() {
            self.add(&copy, rows);
        }
    }

    /// The index of the same segment once its runs are merged into its table, in which dead entries are gone. A whole copy
    /// goes on, since it has them still. What is copied later is of the merged table, and answers only views that have it:
    /// older ones keep the index that they have.
    pub(crate) fn after_merge(&self) -> Self {
        let next = Self::default();
        if let Some(copy) = self.0.copy.load_full().filter(|copy| copy.is_whole.load(Ordering::Acquire)) {
            copy.room.budget.holders.lock().push(Arc::downgrade(&next.0));
            next.0.copy.store(Some(copy));
        }
        next
    }

    /// Counts a question that the segment's table must answer, and copies a slice of that table now and then: `read` reads
    /// so many rows from a place on. `version` is that of the view that is read, `size` what it has.
    pub(crate) fn grow(
        &self,
        budget: &Arc<HotBudget>,
        geometry: Geometry,
        version: u64,
        size: impl FnOnce() -> Result<Size>,
        read: impl FnOnce(Place, usize) -> Result<Slice>,
    ) -> Result<()> {
        let asked = self.0.asked.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if !asked.is_multiple_of(COPY_EVERY_QUESTIONS) {
            return Ok(());
        }
        let copy = match self.0.copy.load_full() {
            Some(copy) => copy,
            None if asked.is_multiple_of(BEGIN_EVERY_QUESTIONS) => {
                let size = size()?;
                if size.rows < MIN_ROWS.min(u64::from(geometry.segment_slots) / 4)
                    || u64::from(asked) < size.rows / ROWS_FOR_A_QUESTION
                    || self.0.is_hopeless.load(Ordering::Relaxed)
                {
                    return Ok(());
                }
                self.0.is_filtered.store(size.is_filtered, Ordering::Relaxed);
                let makes_room = !size.is_filtered || asked.is_multiple_of(make_room_after(geometry));
                let Some(copy) = self.begin(budget, size.capacity(geometry), makes_room) else {
                    return Ok(());
                };
                copy
            }
            None => return Ok(()),
        };
        let since = *copy.since.get_or_init(|| {
            fence(Ordering::SeqCst);
            self.0.version.load(Ordering::SeqCst)
        });
        let Some(mut next) = copy.next.try_lock() else { return Ok(()) };
        if version < since || copy.is_whole.load(Ordering::Acquire) {
            return Ok(());
        }
        copy.was_asked.store(true, Ordering::Relaxed);
        let slice = read(*next, slice_rows(geometry))?;
        if !self.add(&copy, &slice.rows) {
            return Ok(());
        }
        match slice.next {
            Some(place) => *next = place,
            None => copy.is_whole.store(true, Ordering::Release),
        }
        Ok(())
    }

    /// Puts an empty table there, if there is room for it and nobody else does.
    fn begin(&self, budget: &Arc<HotBudget>, capacity: usize, makes_room: bool) -> Option<Arc<HotCopy>> {
        let mut others = budget.holders.try_lock()?;
        let bytes = HotTable::bytes(capacity);
        if makes_room && !budget.has_room(bytes) {
            budget.make_room(&mut others, bytes, self.0.is_filtered.load(Ordering::Relaxed));
        }
        if self.0.copy.load().is_some() {
            return None;
        }
        let room = budget.take(bytes)?;
        let copy = Arc::new(HotCopy {
            table: HotTable::with_capacity(capacity),
            is_whole: AtomicBool::new(false),
            was_asked: AtomicBool::new(true),
            next: Mutex::default(),
            len: Mutex::default(),
            since: OnceLock::new(),
            room,
        });
        self.0.copy.store(Some(Arc::clone(&copy)));
        others
            .retain(|holder| holder.strong_count() > 0 && !std::ptr::eq(holder.as_ptr(), &raw const *self.0));
        others.push(Arc::downgrade(&self.0));
        Some(copy)
    }

    /// Adds rows; if they do not fit, the table goes, and a larger one is begun when the segment is asked again. Whether they
    /// did.
    fn add(&self, copy: &HotCopy, rows: &[(Fingerprint, Slot)]) -> bool {
        let mut len = copy.len.lock();
        for (fingerprint, slot) in rows {
            if let Err(refused) = copy.table.insert(&mut len, *fingerprint, *slot) {
                self.0.is_hopeless.fetch_or(refused == Refused::Crowded, Ordering::Relaxed);
                self.0.copy.store(None);
                return false;
            }
        }
        true
    }

    /// How many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.0.copy.load().as_ref().map_or(0, |copy| copy.room.bytes)
    }
}

/// How many rows of a table a reader copies at once.
pub(crate) fn slice_rows(geometry: Geometry) -> usize {
    (geometry.segment_slots / 128).clamp(4, SLICE_ROWS) as usize
}

/// The number of questions after which tables that nobody asked give way to that of a segment with a filter.
fn make_room_after(geometry: Geometry) -> u32 {
    (geometry.segment_slots / SLOTS_FOR_A_QUESTION_TO_MAKE_ROOM).max(BEGIN_EVERY_QUESTIONS)
}

/// How large a segment's table is.
pub(crate) struct Size {
    pub(crate) rows: u64,
    /// How many rows it will have at most, once the segment gets no more records. A fold may still be writing them.
    pub(crate) most: Option<u64>,
    /// Whether the segment has a membership filter.
    pub(crate) is_filtered: bool,
}

impl Size {
    /// How many rows a hot table is made for: while a segment fills, it is made anew once. The rows that it has now do not
    /// tell, since a fold that is under way has written the lowest fingerprints only.
    fn capacity(&self, geometry: Geometry) -> usize {
        let full = u64::from(geometry.segment_slots);
        let capacity = match self.most {
            Some(most) => most,
            None if self.rows >= full / 8 => full,
            None => full / 8,
        };
        usize::try_from(capacity).unwrap_or(usize::MAX)
    }
}

/// How much memory the hot tables of a store may take together.
#[derive(Default)]
pub(crate) struct HotBudget {
    limit: usize,
    used: AtomicUsize,
    /// Who has a table. Whoever holds this begins one.
    holders: Mutex<Vec<Weak<Cell>>>,
}

impl std::fmt::Debug for HotBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HotBudget").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl HotBudget {
    pub(crate) fn of(bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit: bytes, ..Self::default() })
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(bytes) <= self.limit
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Room { budget: Arc::clone(self), bytes })
    }

    /// Takes tables away until there is room: for a segment with a filter those that nobody asked since this was last called
    /// for one, and forgets who asked; for one without a filter those of segments with one, the oldest first.
    fn make_room(&self, holders: &mut Vec<Weak<Cell>>, bytes: usize, is_filtered: bool) {
        holders.retain(|holder| {
            let Some(cell) = holder.upgrade() else { return false };
            let gives_way = if is_filtered {
                let copy = cell.copy.load();
                !copy.as_ref().is_some_and(|copy| copy.was_asked.swap(false, Ordering::Relaxed))
            } else {
                cell.is_filtered.load(Ordering::Relaxed)
            };
            if gives_way && !self.has_room(bytes) {
                cell.copy.store(None);
            }
            cell.copy.load().is_some()
        });
    }
}

/// A share of a budget. Dropping it gives it back.
struct Room {
    budget: Arc<HotBudget>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const GEOMETRY: Geometry = Geometry { segment_slots: 4_096, chunk_slots: 256 };
    /// Room is made after 16,384 questions.
    const LARGE: Geometry = Geometry { segment_slots: 1 << 18, chunk_slots: 256 };

    fn fingerprint(number: u32) -> Fingerprint {
        crate::engine::format::fingerprint::HashKey::new(*b"0123456789abcdef")
            .fingerprint(1.into(), &number.to_string())
    }

    fn slice(rows: impl Iterator<Item = (Fingerprint, Slot)>, wanted: usize) -> Slice {
        let rows: Vec<_> = rows.collect();
        let last = rows.last().filter(|_| rows.len() == wanted);
        let next = last.map(|(last, _)| Place { run: None, fingerprint: last + 1 });
        Slice { rows, next }
    }

    /// A segment's table, as of each fold.
    #[derive(Default)]
    struct Segment {
        index: HotIndex,
        table: BTreeMap<Fingerprint, Slot>,
        folds: u64,
        most: Option<u64>,
        is_open: bool,
    }

    impl Segment {
        fn fold(&mut self, slots: std::ops::Range<Slot>) {
            let mut rows: Vec<_> = slots.map(|slot| (fingerprint(slot), slot)).collect();
            rows.sort_unstable();
            self.folds += 1;
            self.index.fold(self.folds, &rows);
            self.table.extend(rows);
        }

        /// Asks for slots so many times; whether memory answered the last time, always rightly.
        fn ask(&self, budget: &Arc<HotBudget>, times: u32) -> bool {
            self.ask_of(GEOMETRY, budget, times)
        }

        fn ask_of(&self, geometry: Geometry, budget: &Arc<HotBudget>, times: u32) -> bool {
            let mut is_known = false;
            for number in (0..6_000).cycle().take(times as usize) {
                let expected = self.table.get(&fingerprint(number)).copied();
                match self.index.ask(fingerprint(number)) {
                    InMemory::At(slot) => assert_eq!(Some(slot), expected, "{number}"),
                    InMemory::Absent => assert_eq!(None, expected, "{number}"),
                    InMemory::Unknown => {
                        is_known = false;
                        let size = || {
                            Ok(Size {
                                rows: self.table.len() as u64,
                                most: self.most,
                                is_filtered: !self.is_open,
                            })
                        };
                        let read = |start: Place, wanted| {
                            let rows = self.table.range(start.fingerprint..).take(wanted);
                            Ok(slice(rows.map(|(fingerprint, slot)| (*fingerprint, *slot)), wanted))
                        };
                        self.index.grow(budget, geometry, self.folds, size, read).unwrap();
                        continue;
                    }
                }
                is_known = true;
            }
            is_known
        }
    }

    #[test]
    fn a_table_is_copied_once_it_was_asked_often_and_kept_up_by_folds() {
        let budget = HotBudget::of(1 << 20);
        let mut segment = Segment::default();
        segment.fold(0..1_023);
        assert!(!segment.ask(&budget, 6_000), "it is too small");
        segment.fold(1_023..1_500);
        assert!(segment.ask(&budget, 6_000));
        for start in (1_500..4_000).step_by(500) {
            segment.fold(start..start + 500);
            assert!(segment.ask(&budget, 6_000), "{start}");
        }
    }

    #[test]
    fn a_table_that_is_outgrown_makes_room_for_a_larger_one() {
        let budget = HotBudget::of(1 << 20);
        let capacity = |rows, most| Size { rows, most, is_filtered: false }.capacity(GEOMETRY);
        assert_eq!([capacity(511, None), capacity(512, None), capacity(600, Some(700))], [512, 4_096, 700]);
        let mut segment = Segment::default();
        segment.fold(0..2_000);
        assert!(segment.ask(&budget, 6_000));
        let full = segment.index.memory();
        segment.fold(2_000..4_096);
        assert!(segment.ask(&budget, 6_000));
        assert_eq!(segment.index.memory(), full);
        segment.fold(4_096..5_000);
        assert_eq!(segment.index.memory(), 0);
    }

    /// The slices of a fold ascend: those of its first half lie in half of the table.
    #[test]
    fn a_table_that_is_begun_in_the_middle_of_a_fold_takes_the_rest_of_it() {
        let budget = HotBudget::of(1 << 25);
        let mut rows: Vec<_> = (0..1 << 16).map(|slot| (fingerprint(slot), slot)).collect();
        rows.sort_unstable();
        // A segment that fills, and one that is sealed before it is full.
        for most in [None, Some(1 << 16)] {
            let mut segment = Segment { most, ..Segment::default() };
            for (slice, number) in rows.chunks(4_096).zip(1..) {
                segment.folds += 1;
                segment.index.fold(segment.folds, slice);
                segment.table.extend(slice.iter().copied());
                assert_eq!(
                    segment.ask_of(Geometry::DEFAULT, &budget, 2_000),
                    number > 1,
                    "{most:?} {number}"
                );
            }
        }
    }

    #[test]
    fn what_a_fold_wrote_before_its_view_is_read_is_not_missed() {
        let budget = HotBudget::of(1 << 20);
        let mut segment = Segment::default();
        segment.fold(0..2_000);
        // A fold was told, but no view has it yet: nothing may be read from an earlier one.
        segment.index.fold(2, &[(fingerprint(5_000), 3_000)]);
        assert!(!segment.ask(&budget, 6_000));
        segment.folds = 2;
        segment.table.insert(fingerprint(5_000), 3_000);
        assert!(segment.ask(&budget, 6_000));
    }

    #[test]
    fn tables_that_nobody_asks_give_way_and_the_others_stay() {
        let bytes = HotTable::bytes(1 << 15);
        let budget = HotBudget::of(bytes * 2);
        let mut segments: [Segment; 3] = Default::default();
        for segment in &mut segments {
            segment.fold(0..9_000);
        }
        let [first, second, third] = &segments;
        assert!(first.ask_of(LARGE, &budget, 12_000) && second.ask_of(LARGE, &budget, 12_000));
        assert!(!third.ask_of(LARGE, &budget, 10_000));
        assert_eq!(budget.used.load(Ordering::Relaxed), bytes * 2);
        // All are asked in turn: nothing is gained by changing places.
        for _ in 0..20 {
            assert!(first.ask_of(LARGE, &budget, 100) && second.ask_of(LARGE, &budget, 100));
            assert!(!third.ask_of(LARGE, &budget, 10_000));
        }
        // The first is asked no more.
        for _ in 0..20 {
            assert!(second.ask_of(LARGE, &budget, 100));
            third.ask_of(LARGE, &budget, 10_000);
        }
        assert!(third.ask_of(LARGE, &budget, 100) && second.ask_of(LARGE, &budget, 100));
        assert_eq!(first.index.memory(), 0);
        assert_eq!(budget.used.load(Ordering::Relaxed), bytes * 2);
        drop(segments);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn those_of_segments_with_a_filter_give_way_to_one_without() {
        let bytes = HotTable::bytes(1 << 15);
        let budget = HotBudget::of(bytes * 2);
        let mut segments: [Segment; 4] = Default::default();
        for segment in &mut segments {
            segment.fold(0..9_000);
        }
        segments[2].is_open = true;
        segments[3].is_open = true;
        let ask = |segment: &Segment| segment.ask_of(LARGE, &budget, 10_000);
        assert_eq!(segments[..3].iter().map(ask).collect::<Vec<_>>(), [true, true, true]);
        assert_eq!(segments.each_ref().map(ask), [false, true, true, true]);
        // None is left that has a filter.
        assert_eq!(segments.each_ref().map(ask), [false, false, true, true]);
        segments[2].index.is_filtered_now();
        assert_eq!(segments.each_ref().map(ask), [false, false, true, true]);
        let mut fifth = Segment { is_open: true, ..Segment::default() };
        fifth.fold(0..9_000);
        assert!(ask(&fifth));
        assert_eq!(segments.each_ref().map(ask), [false, false, false, true]);
        assert_eq!(budget.used.load(Ordering::Relaxed), bytes * 2);
    }

    #[test]
    fn a_segment_whose_fingerprints_crowd_is_not_copied_again_and_again() {
        let budget = HotBudget::of(1 << 20);
        let (index, rows) = (HotIndex::default(), 8_000);
        let begun = std::cell::Cell::new(0);
        for _ in 0..40_000 {
            assert!(matches!(index.ask(7), InMemory::Unknown));
            let size = || Ok(Size { rows, most: Some(rows), is_filtered: true });
            let read = |start: Place, wanted: usize| {
                begun.set(begun.get() + u32::from(start == Place::default()));
                Ok(slice((start.fingerprint..).take(wanted).map(|low| (low, 0)), wanted))
            };
            index.grow(&budget, GEOMETRY, 0, size, read).unwrap();
        }
        assert_eq!((begun.get(), index.memory()), (1, 0));
    }
}
