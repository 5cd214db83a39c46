//! The memory budget for the filters and rows of fingerprint tables.
//!
//! Always holds: filters come first. A row is kept only if the filters of all tables still fit.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Filters of this total size are kept regardless of the limit, because without them each check would read
/// the file.
const FILTERS_MIN_BYTES: usize = 4 << 20;

/// The bytes in use, and their limit. All tables of a store share it.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    /// The bytes that the filters of all tables need, including those that are not loaded.
    all_filters: AtomicUsize,
    filters: AtomicUsize,
    rows: AtomicUsize,
}

impl Budget {
    pub(crate) fn of(max: usize) -> Self {
        Self {
            max,
            all_filters: AtomicUsize::new(0),
            filters: AtomicUsize::new(0),
            rows: AtomicUsize::new(0),
        }
    }

    /// Adds a table whose filter needs this many bytes.
    pub(super) fn add_table(&self, needed: usize) {
        self.all_filters.fetch_add(needed, Ordering::Relaxed);
    }

    /// Removes a table, and what was loaded of it.
    pub(super) fn remove_table(&self, needed: usize, loaded: usize, rows: usize) {
        self.all_filters.fetch_sub(needed, Ordering::Relaxed);
        self.filters.fetch_sub(loaded, Ordering::Relaxed);
        self.rows.fetch_sub(rows, Ordering::Relaxed);
    }

    /// Reserves memory for a piece of a filter. Returns true if there is enough.
    pub(super) fn take_filter(&self, bytes: usize) -> bool {
        let before = self.filters.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.max.max(FILTERS_MIN_BYTES);
        if !fits {
            self.filters.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Gives memory back, because another thread has loaded the same piece.
    pub(super) fn return_filter(&self, bytes: usize) {
        self.filters.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Like [`return_filter`](Self::return_filter), for a row.
    pub(super) fn return_row(&self, bytes: usize) {
        self.rows.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes in use.
    #[cfg(datapool_shuttle)]
    pub(crate) fn kept(&self) -> usize {
        self.filters.load(Ordering::Relaxed) + self.rows.load(Ordering::Relaxed)
    }

    /// Reserves memory for a row. Returns true if there is enough.
    pub(super) fn take_row(&self, bytes: usize) -> bool {
        let filters = self.all_filters.load(Ordering::Relaxed);
        let before = self.rows.fetch_add(bytes, Ordering::Relaxed);
        let fits = filters + before + bytes <= self.max;
        if !fits {
            self.rows.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_get_what_the_filters_of_all_tables_leave() {
        let budget = Budget::of(10_000_000);
        budget.add_table(6_000_000);
        assert!(budget.take_row(3_000_000) && !budget.take_row(2_000_000) && budget.take_row(1_000_000));
        assert!(budget.take_filter(6_000_000));
        budget.remove_table(6_000_000, 6_000_000, 4_000_000);
        assert!(budget.take_row(10_000_000) && !budget.take_row(1));
        // Filters still get memory, up to the whole limit.
        assert!(budget.take_filter(10_000_000) && !budget.take_filter(1));
    }
}
