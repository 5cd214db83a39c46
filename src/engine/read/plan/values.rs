//! The condition on values, which are looked up by fingerprint.

use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::hash::Hash;

use super::tally::{Tally, count};
use crate::backend::fingerprint::Fingerprint;
use crate::engine::format::schema::Slot;
use crate::engine::pool::tail::SoughtValues;
use crate::engine::read::lookup::Asked;
use crate::engine::read::view::{Rows, View};
use crate::error::Result;
use crate::ids::{EntityTypeId, RecordNumber};
use crate::query::RecordFilter;

/// The largest number of rows that are kept, as many as a page has.
const ROWS_MAX: usize = crate::limits::PER_PAGE_MAX as usize;

/// The condition on values.
pub(super) struct Values<'a> {
    /// The fingerprints to look up, each with its value.
    sought: Vec<(Fingerprint, &'a str)>,
    /// True if the filter names exactly one entity type. Then each fingerprint is complete, and everything
    /// found is a match.
    exact: bool,
    /// The entity types of the filter if it is not exact. If there are none, any type matches.
    types: Vec<EntityTypeId>,
    folded: OnceCell<Vec<RecordNumber>>,
    /// Rows that were read to compare values, so that a page need not read them again.
    rows: RefCell<Rows>,
}

impl<'a> Values<'a> {
    pub(super) fn of(view: &View, filter: &'a RecordFilter) -> Option<Self> {
        let mut values: Vec<&str> = filter.values.iter().map(String::as_str).collect();
        values.sort_unstable();
        values.dedup();
        let types = distinct(filter.entity_types.iter().copied());
        if values.is_empty() {
            return None;
        }
        let key = &view.hash_key;
        let fingerprint = |value: &str| match types.as_slice() {
            [only] => key.fingerprint(*only, value),
            // One lookup for all types: the records say which type they have.
            _ => key.of_value(value),
        };
        let mut sought: Vec<_> = values.into_iter().map(|value| (fingerprint(value), value)).collect();
        let exact = types.len() == 1;
        // Sort, so that the rows of tables are read in their order.
        sought.sort_unstable();
        let rows = RefCell::new(Rows::with_capacity(if exact { 0 } else { sought.len().min(ROWS_MAX) }));
        Some(Self { sought, exact, types, folded: OnceCell::new(), rows })
    }

    /// Returns the values to search for in a tail.
    pub(super) fn in_tail(&self) -> SoughtValues {
        let fingerprints = self.sought.iter().map(|(fingerprint, _)| *fingerprint).collect();
        if self.exact { SoughtValues::Exactly(fingerprints) } else { SoughtValues::OfAnyType(fingerprints) }
    }

    /// Returns the live slots of a segment that have one of the values.
    pub(super) fn slots(&self, view: &View, index: usize, tally: &Tally) -> Result<Vec<Slot>> {
        let Some(segment) = view.state.segments.get(index) else { return Ok(Vec::new()) };
        let ids = self.folded_ids(view, tally)?;
        let start = ids.partition_point(|id| *id < segment.first_id);
        let end = ids.partition_point(|id| *id < view.state.end_of(index));
        Ok(ids.get(start..end).unwrap_or_default().iter().map(|id| segment.slot(*id)).collect())
    }

    /// Returns the live folded records with one of the values, in ascending order. All tables are searched
    /// once.
    fn folded_ids(&self, view: &View, tally: &Tally) -> Result<&[RecordNumber]> {
        if let Some(ids) = self.folded.get() {
            return Ok(ids);
        }
        let (mut ids, mut asked) = (Vec::new(), Asked::default());
        for (fingerprint, value) in &self.sought {
            if self.exact {
                ids.append(&mut view.folded_ids_of(*fingerprint, &mut asked)?);
                continue;
            }
            let mut found = view.folded_ids_of_value(*fingerprint, &mut asked)?;
            found.sort_unstable();
            // Records with the same fingerprint have the same value and type, so only the first one is
            // compared.
            for same in found.chunk_by(|a, b| a.0 == b.0) {
                let Some((_, first)) = same.first() else { continue };
                if self.read_and_compare(view, *first, tally, |read| read == *value)? {
                    ids.extend(same.iter().map(|(_, id)| *id));
                }
            }
        }
        ids.sort_unstable();
        tally.value_seeks.set(asked.looked_up);
        tally.values_ruled_out.set(asked.ruled_out);
        Ok(self.folded.get_or_init(|| ids))
    }

    /// Returns true if a record has one of the values and types.
    pub(super) fn confirms(&self, view: &View, id: RecordNumber, tally: &Tally) -> Result<bool> {
        if self.exact {
            return Ok(true);
        }
        self.read_and_compare(view, id, tally, |read| {
            self.sought.binary_search(&(view.hash_key.of_value(read), read)).is_ok()
        })
    }

    fn read_and_compare(
        &self,
        view: &View,
        id: RecordNumber,
        tally: &Tally,
        is_sought: impl FnOnce(&str) -> bool,
    ) -> Result<bool> {
        count(&tally.records_compared);
        let row = view.row(id)?;
        let record = view.stored_in(id, &row)?;
        let is_of_type = self.types.is_empty() || self.types.contains(&record.entity_type);
        let is_sought = is_of_type && is_sought(record.value);
        let mut rows = self.rows.borrow_mut();
        if is_sought && rows.len() < ROWS_MAX {
            rows.insert(id, row);
        }
        Ok(is_sought)
    }

    /// Takes the rows that were kept.
    pub(super) fn take_rows(&self) -> Rows {
        self.rows.take()
    }
}

/// Returns the items without repetitions, so that a repeated term of a filter is looked up once.
pub(super) fn distinct<T: Clone + Eq + Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.filter(|item| seen.insert(item.clone())).collect()
}
