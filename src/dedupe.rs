//! Deduplication: modes, verdicts, and splitting a batch by them.
//!
//! Owns: [`Mode`], [`Verdict`], [`Verdicts`], [`Split`]. Always holds: verdicts are in the order of the
//! items. Must not know: how a verdict is found. That is the engine's task.

use std::ops::Index;

use crate::ids::RecordId;
use crate::model::Record;
use crate::words::words;

/// The mode of a deduplication: which items it passes on, and which it tracks.
///
/// Prints, parses and serializes as `filter`, `track` or `filter-and-track`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Passes on only new and changed items, and tracks nothing.
    Filter,
    /// Passes on everything, and tracks each value that is not in the pool yet or has changed.
    Track,
    /// Passes on only new and changed items, and tracks these.
    FilterAndTrack,
}

words!(Mode, "a mode": Filter => "filter", Track => "track", FilterAndTrack => "filter-and-track");

impl Mode {
    pub(crate) fn tracks(self) -> bool {
        matches!(self, Self::Track | Self::FilterAndTrack)
    }
}

/// The verdict of a deduplication on one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The value is not in the pool and did not occur earlier in the batch.
    New,
    /// The value is in the pool, or occurred earlier in the batch, and the item does not change it.
    Duplicate,
    /// Another runner has claimed the value.
    InFlight,
    /// The value is in the pool, but with another [version](crate::Key::content). The item passes like a new
    /// one. Only items whose key has a version get this verdict.
    Changed {
        /// The newest record of the value so far. If the mode tracks, this item's record replaces it. `None`
        /// if an earlier item of the same batch comes before it.
        previous: Option<RecordId>,
    },
}

impl Verdict {
    /// Returns true for a new item and for a changed one.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::New | Self::Changed { .. })
    }
}

/// The verdicts of a deduplication on a batch: one for each item, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the verdicts say which items to pass on"]
pub struct Verdicts {
    mode: Mode,
    items: Vec<Verdict>,
    firsts: Vec<Option<Record>>,
}

impl Verdicts {
    pub(crate) fn new(mode: Mode, items: Vec<Verdict>, firsts: Vec<Option<Record>>) -> Self {
        Self { mode, items, firsts }
    }

    /// Returns the number of items in the batch.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns true if the batch was empty.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the verdicts, in the order of the items.
    pub fn as_slice(&self) -> &[Verdict] {
        &self.items
    }

    /// Returns the verdicts one by one, in the order of the items.
    pub fn iter(&self) -> std::slice::Iter<'_, Verdict> {
        self.items.iter()
    }

    /// Returns the number of new items.
    pub fn new_count(&self) -> usize {
        self.items.iter().filter(|verdict| **verdict == Verdict::New).count()
    }

    /// Returns the number of changed items in the batch.
    pub fn changed_count(&self) -> usize {
        self.items.iter().filter(|verdict| matches!(verdict, Verdict::Changed { .. })).count()
    }

    /// Returns the record that was first with the value of item `index`; for a changed item, its
    /// [previous](Verdict::Changed) record.
    ///
    /// Returns `None` if the item is neither a duplicate nor changed, or if it repeats an item of the same
    /// batch in [`Mode::Filter`] (which tracks nothing). Always returns `None` if the verdicts come from
    /// [`Pool::dedupe`](crate::Pool::dedupe), which does not look up first records;
    /// [`Pool::dedupe_with_first`](crate::Pool::dedupe_with_first) does.
    pub fn first(&self, index: usize) -> Option<&Record> {
        self.firsts.get(index)?.as_ref()
    }

    /// Returns true if the mode passes item `index` on: everything in [`Mode::Track`], new and changed items
    /// otherwise.
    pub fn passes(&self, index: usize) -> bool {
        match self.items.get(index) {
            None => false,
            Some(_) if self.mode == Mode::Track => true,
            Some(verdict) => verdict.passes(),
        }
    }

    /// Returns the caller's items that the mode passes on, in order.
    pub fn pass_on<T>(&self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        let numbered = items.into_iter().enumerate();
        numbered.filter(|(index, _)| self.passes(*index)).map(|(_, item)| item).collect()
    }

    /// Splits the caller's items by verdict, each part in order.
    ///
    /// In [`Mode::Track`], duplicates are among the duplicates, too, although that mode passes them on.
    pub fn partition<T>(&self, items: impl IntoIterator<Item = T>) -> Split<T> {
        let mut split = Split::default();
        for (index, item) in items.into_iter().enumerate() {
            match self.items.get(index) {
                Some(Verdict::New | Verdict::Changed { .. }) => split.fresh.push(item),
                Some(Verdict::Duplicate) => split.duplicates.push(item),
                Some(Verdict::InFlight) => split.in_flight.push(item),
                None => split.unmatched.push(item),
            }
        }
        split
    }
}

impl Index<usize> for Verdicts {
    type Output = Verdict;

    /// Returns the verdict on item `index`.
    ///
    /// # Panics
    ///
    /// Panics if there is no such item, like a `Vec`. [`as_slice`](Verdicts::as_slice) has `get`.
    #[allow(clippy::indexing_slicing, reason = "the caller promises a valid index, as with a Vec")]
    fn index(&self, index: usize) -> &Verdict {
        &self.items[index]
    }
}

impl IntoIterator for Verdicts {
    type Item = Verdict;
    type IntoIter = std::vec::IntoIter<Verdict>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'v> IntoIterator for &'v Verdicts {
    type Item = &'v Verdict;
    type IntoIter = std::slice::Iter<'v, Verdict>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A batch, split by verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Split<T> {
    /// The new and changed items.
    pub fresh: Vec<T>,
    /// The items whose value was in the pool or occurred earlier in the batch.
    pub duplicates: Vec<T>,
    /// The items whose value another runner has claimed.
    pub in_flight: Vec<T>,
    /// Items after the end of the batch that was deduplicated. Empty if `partition` gets the batch's own
    /// items.
    pub unmatched: Vec<T>,
}

impl<T> Default for Split<T> {
    fn default() -> Self {
        Self { fresh: Vec::new(), duplicates: Vec::new(), in_flight: Vec::new(), unmatched: Vec::new() }
    }
}
