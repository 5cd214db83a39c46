//! The counters of the store's statistics.
//!
//! Always holds: counting takes no lock, and threads that check at the same time share no cache line.

use std::cell::Cell;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::dedupe::{Verdict, Verdicts};
use crate::model::{GroupSizes, Record, StoreStats};

/// The number of cache lines over which the counters of checks are spread.
const STRIPES: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    checks: AtomicU64,
    hits: AtomicU64,
}

/// The counts of what the store has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    stripes: [Stripe; STRIPES],
    commits: AtomicU64,
    groups: AtomicU64,
    calls: AtomicU64,
    largest_group: AtomicU64,
    folds: AtomicU64,
    seals: AtomicU64,
    segments_dropped: AtomicU64,
}

/// Returns the stripe in which this thread counts.
fn own_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed)));
    // While the thread is ending, any stripe will do.
    OWN.try_with(Cell::get).unwrap_or_default() % STRIPES
}

impl Counters {
    fn add_checks(&self, checks: usize, hits: usize) {
        if let Some(stripe) = self.stripes.get(own_stripe()) {
            stripe.checks.fetch_add(checks as u64, Ordering::Relaxed);
            stripe.hits.fetch_add(hits as u64, Ordering::Relaxed);
        }
    }

    /// Counts one answer.
    pub(crate) fn check(&self, found: bool) -> bool {
        self.add_checks(1, usize::from(found));
        found
    }

    /// Counts the answers to some keys.
    pub(crate) fn checks(&self, found: Vec<bool>) -> Vec<bool> {
        self.add_checks(found.len(), found.iter().filter(|found| **found).count());
        found
    }

    /// Counts the answers to some keys.
    pub(crate) fn lookups(&self, found: Vec<Option<Record>>) -> Vec<Option<Record>> {
        self.add_checks(found.len(), found.iter().flatten().count());
        found
    }

    /// Counts a batch's verdicts.
    pub(crate) fn verdicts(&self, verdicts: Verdicts) -> Verdicts {
        let duplicates = verdicts.as_slice().iter().filter(|verdict| **verdict == Verdict::Duplicate);
        self.add_checks(verdicts.len(), duplicates.count());
        verdicts
    }

    /// Counts the verdicts of a claim.
    pub(crate) fn claim(&self, items: usize, duplicates: usize) {
        self.add_checks(items, duplicates);
    }

    pub(crate) fn commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn group(&self, calls: usize) {
        let calls = calls as u64;
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(calls, Ordering::Relaxed);
        self.largest_group.fetch_max(calls, Ordering::Relaxed);
    }

    pub(crate) fn work(&self, work: Work) {
        self.folds.fetch_add(work.folds, Ordering::Relaxed);
        self.seals.fetch_add(work.seals, Ordering::Relaxed);
        self.segments_dropped.fetch_add(work.segments_dropped, Ordering::Relaxed);
    }

    /// Returns the part of the statistics that comes from the counters.
    pub(crate) fn read(&self) -> StoreStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            checks: self.stripes.iter().map(|stripe| read(&stripe.checks)).sum(),
            hits: self.stripes.iter().map(|stripe| read(&stripe.hits)).sum(),
            commits: read(&self.commits),
            group_sizes: GroupSizes::new(read(&self.groups), read(&self.calls), read(&self.largest_group)),
            folds: read(&self.folds),
            seals: read(&self.seals),
            segments_dropped: read(&self.segments_dropped),
            ..StoreStats::default()
        }
    }
}

/// The background work that commits performed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) folds: u64,
    pub(crate) seals: u64,
    pub(crate) segments_dropped: u64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.folds += other.folds;
        self.seals += other.seals;
        self.segments_dropped += other.segments_dropped;
    }
}
