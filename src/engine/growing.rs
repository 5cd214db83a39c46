//! The membership filter of a segment that has none on disk: in memory, grown with the segment.
//!
//! A check of an absent value asks the open segment's table, a look-up in a tree, unless something in memory says no. Once a
//! segment was asked often enough, its readers build a filter from its table, each a slice; from its beginning on, the folds
//! add what they write. Always holds: a filter that is whole knows every fingerprint of the table, in every view that has it.
//!
//! That needs an order. A fold counts up the version, then looks for a filter to add to; a reader puts the filter there,
//! then looks at the version, and reads only from views that have seen it. So what a fold did not add, those views have.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use fastbloom::AtomicBloomFilter;
use parking_lot::{Mutex, MutexGuard};

use super::fingerprint::low_half;
use super::membership::{BITS_PER_FINGERPRINT, PROBES};
use super::schema::{Fingerprint, Geometry};

/// After so many questions to a segment its filter is built.
const BUILD_AFTER_QUESTIONS: u32 = 256;
/// Smaller tables are asked as fast as a filter would be.
const MIN_ROWS: u64 = 8_192;
/// How many rows of the table a reader adds at most: some 0.1 ms.
const SLICE_ROWS: u32 = 2_048;

/// A filter that grows.
#[derive(Debug, Default)]
pub(crate) struct GrowingFilter {
    asked: AtomicU32,
    /// How many folds have written to the segment's table since this was made: what [`fold`](Self::fold) was told.
    version: AtomicU64,
    filter: OnceLock<Begun>,
    is_whole: AtomicBool,
}

#[derive(Debug)]
struct Begun {
    bits: AtomicBloomFilter,
    /// Where the next slice begins; readers take turns.
    next: Mutex<Fingerprint>,
    /// Views of fewer folds do not have what was not added; none until it is known.
    since: OnceLock<u64>,
}

impl GrowingFilter {
    /// Whether the segment may hold a fingerprint; none if there is no filter that could tell.
    pub(crate) fn may_contain(&self, fingerprint: Fingerprint) -> Option<bool> {
        if !self.is_whole.load(Ordering::Acquire) {
            return None;
        }
        self.filter.get().map(|begun| begun.bits.contains_hash(low_half(fingerprint)))
    }

    /// Counts a question that could not be answered. Whether there were enough of them to build the filter.
    pub(crate) fn is_wanted(&self) -> bool {
        let is_enough = self.asked.load(Ordering::Relaxed) >= BUILD_AFTER_QUESTIONS;
        if !is_enough {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        is_enough
    }

    /// A fold is about to commit rows of these fingerprints; the segment has the version once it is.
    pub(crate) fn fold(&self, version: u64, fingerprints: &[Fingerprint]) {
        self.version.store(version, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(begun) = self.filter.get() {
            for fingerprint in fingerprints {
                begun.bits.insert_hash(low_half(*fingerprint));
            }
        }
    }

    /// A turn to add a slice of a view's table, if nobody has it and the view may be read from.
    pub(crate) fn turn(&self, geometry: Geometry, rows: u64, version: u64) -> Option<Turn<'_>> {
        if rows < MIN_ROWS.min(u64::from(geometry.segment_slots) / 4) {
            return None;
        }
        let begun = self.filter.get_or_init(|| {
            let bits = geometry.segment_slots.max(64) as usize * BITS_PER_FINGERPRINT;
            let bits = AtomicBloomFilter::with_num_bits(bits).seed(&0).hashes(PROBES);
            Begun { bits, next: Mutex::default(), since: OnceLock::new() }
        });
        let since = *begun.since.get_or_init(|| {
            fence(Ordering::SeqCst);
            self.version.load(Ordering::SeqCst)
        });
        if version < since {
            return None;
        }
        let next = begun.next.try_lock()?;
        let rows = (geometry.segment_slots / 512).clamp(4, SLICE_ROWS) as usize;
        (!self.is_whole.load(Ordering::Acquire)).then_some(Turn { growing: self, begun, next, rows })
    }

    /// How many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.filter.get().map_or(0, |begun| begun.bits.num_bits() / 8)
    }
}

/// The right to add a slice.
pub(crate) struct Turn<'g> {
    growing: &'g GrowingFilter,
    begun: &'g Begun,
    next: MutexGuard<'g, Fingerprint>,
    /// How many rows to add.
    pub(crate) rows: usize,
}

impl Turn<'_> {
    /// The fingerprint to go on from.
    pub(crate) fn start(&self) -> Fingerprint {
        *self.next
    }

    pub(crate) fn add(&mut self, fingerprint: Fingerprint) {
        self.begun.bits.insert_hash(low_half(fingerprint));
        *self.next = fingerprint.saturating_add(1);
    }

    /// There is nothing behind the last one.
    pub(crate) fn finish(self) {
        self.growing.is_whole.store(true, Ordering::Release);
    }
}
