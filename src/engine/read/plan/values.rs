//! The condition on values: ranges of fingerprints to search.

use std::ops::RangeInclusive;

use std::collections::HashSet;
use std::hash::Hash;

use super::tally::{Tally, count};
use crate::engine::format::schema::{Fingerprint, Slot};
use crate::engine::read::memory::Question;
use crate::engine::read::view::View;
use crate::error::Result;
use crate::ids::{EntityTypeId, RecordId};
use crate::query::RecordFilter;

/// Up to this many pairs of value and entity type are looked up one by one.
const EXACT_PAIRS_MAX: usize = 4_096;

/// The condition on values.
#[derive(Debug)]
pub(super) struct Values<'a> {
    /// Ranges of fingerprints to search, with the value that must be found there.
    ranges: Vec<(RangeInclusive<Fingerprint>, &'a str)>,
    /// True if each range is one whole fingerprint, so that every hit is right.
    pub(super) exact: bool,
}

impl<'a> Values<'a> {
    pub(super) fn of(view: &View, filter: &'a RecordFilter) -> Option<Self> {
        let values = distinct(filter.values.iter().map(String::as_str));
        let types = distinct(filter.entity_types.iter().copied());
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
            values.iter().flat_map(|value| types.iter().map(|id| one(value, *id))).collect()
        } else {
            values.iter().map(|value| (key.range_of_value(value), *value)).collect()
        };
        Some(Self { ranges, exact })
    }

    /// Returns the ranges in order. Two of them are the same or have nothing in common.
    pub(super) fn fingerprints(&self) -> Vec<RangeInclusive<Fingerprint>> {
        let mut ranges: Vec<_> = self.ranges.iter().map(|(range, _)| range.clone()).collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        ranges
    }

    /// Returns the live slots of a segment that have one of the values.
    pub(super) fn slots(&self, view: &View, index: usize, tally: &Tally) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        for (range, value) in &self.ranges {
            if self.exact && !view.may_contain(index, &mut Question::of(*range.start()))? {
                count(&tally.values_ruled_out);
                continue;
            }
            count(&tally.value_seeks);
            // Records of one fingerprint have one value, so the first of them decides for all.
            let mut spoken: Option<(Fingerprint, bool)> = None;
            for (fingerprint, slot) in view.live_slots_of(index, range.clone())? {
                let right = match spoken {
                    Some((last, right)) if last == fingerprint => right,
                    _ => self.exact || has_value_at(view, index, slot, value, tally)?,
                };
                spoken = Some((fingerprint, right));
                if right {
                    slots.push(slot);
                }
            }
        }
        Ok(slots)
    }

    pub(super) fn confirms(&self, view: &View, id: RecordId, tally: &Tally) -> Result<bool> {
        for (_, value) in &self.ranges {
            count(&tally.records_compared);
            if view.has_value(id, value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn has_value_at(view: &View, index: usize, slot: Slot, value: &str, tally: &Tally) -> Result<bool> {
    count(&tally.records_compared);
    match view.state.segments.get(index) {
        Some(segment) => view.has_value(segment.id(slot), value),
        None => Ok(false),
    }
}

/// Returns the items without repeats, so that a term that a filter has twice is looked up once.
pub(super) fn distinct<T: Clone + Eq + Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.filter(|item| seen.insert(item.clone())).collect()
}
