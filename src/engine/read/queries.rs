//! Queries for the public API, each over one view: checks, lookups, pages, counts and slices.

use std::ops::{ControlFlow, Range};

use crate::backend::batch::Batch;
use crate::backend::rules::LiveRecords;
use crate::engine::read::plan::Plan;
use crate::engine::read::view::{Rows, View};
use crate::engine::storage::failure::contained;
use crate::error::Result;
use crate::ids::{EntityTypeId, RecordNumber};
use crate::model::{Key, Record};
use crate::query::{Cursor, Explanation, Page, RecordFilter, RecordQuery, RecordSort};

impl View {
    /// Returns true if a value is in the pool. For a key with a version, returns true if an item with it
    /// would be a duplicate.
    pub(crate) fn contains(&self, key: &Key<'_>) -> Result<bool> {
        key.check()?;
        if key.version().is_some() {
            return Ok(self.contains_many(std::slice::from_ref(key))? == [true]);
        }
        let fingerprint = self.hash_key.fingerprint(key.entity_type(), key.value());
        contained("checking a value", || Ok(self.find_any(fingerprint)?.is_some()))
    }

    /// Like [`contains`](Self::contains), for many keys, in order.
    pub(crate) fn contains_many(&self, keys: &[Key<'_>]) -> Result<Vec<bool>> {
        let batch = Batch::from_keys(&self.hash_key, keys.iter().cloned())?;
        contained("checking values", || {
            if batch.has_versions() {
                let live =
                    batch.ask_together(|fingerprints| self.live_records_of(&self.state, fingerprints))?;
                let contains = |(index, live): (usize, &LiveRecords)| live.contain(batch.version(index));
                return Ok(live.iter().enumerate().map(contains).collect());
            }
            let found = batch.ask_together(|fingerprints| self.find_any_of(&self.state, fingerprints))?;
            Ok(found.iter().map(Option::is_some).collect())
        })
    }

    /// Returns for each key, in order, the record that was first with its value.
    pub(crate) fn lookup(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>> {
        let batch = Batch::from_keys(&self.hash_key, keys.iter().cloned())?;
        contained("looking values up", || {
            let ids = batch.ask_each(|fingerprint| self.find_first(&self.state, fingerprint))?;
            let mut found: Vec<(RecordNumber, usize)> =
                ids.into_iter().zip(0..).filter_map(|(id, index)| Some((id?, index))).collect();
            found.sort_unstable();
            let records = self.fetch(&found.iter().map(|(id, _)| *id).collect::<Vec<_>>())?;
            let mut answers = vec![None; batch.len()];
            for ((id, index), record) in found.into_iter().zip(records) {
                self.check_value(id, &record.value, batch.value(index))?;
                if let Some(answer) = answers.get_mut(index) {
                    *answer = Some(record);
                }
            }
            Ok(answers)
        })
    }

    /// Checks that a record found by its fingerprint has the value.
    pub(super) fn check_value(&self, id: RecordNumber, found: &str, value: &str) -> Result<()> {
        if found == value {
            return Ok(());
        }
        Err(crate::error::Error::corrupt(format!(
            "pool {}: the fingerprint index leads from {value:?} to record {id}, which has {found:?}",
            self.state.id
        )))
    }

    /// Returns the number of records that match the filter.
    pub(crate) fn count(&self, filter: &RecordFilter) -> Result<u64> {
        filter.check()?;
        contained("counting", || Plan::new(self, filter)?.count())
    }

    /// Returns one page of a listing.
    pub(crate) fn page(&self, query: &RecordQuery) -> Result<Page<Record>> {
        query.check()?;
        contained("listing", || self.answer(&Plan::new(self, &query.filter)?, query).map(|(page, _)| page))
    }

    /// Explains how a page of a listing is found: runs the query, and returns what it read.
    pub(crate) fn explain(&self, query: &RecordQuery) -> Result<Explanation> {
        query.check()?;
        contained("explaining", || {
            let view = self.own();
            let plan = Plan::new(&view, &query.filter)?;
            let (page, includes_read) = view.answer(&plan, query)?;
            let (records_read, total) = (view.records_read(), page.meta.total);
            Ok(Explanation { query: query.to_string(), records_read, includes_read, total, ..plan.explain() })
        })
    }

    /// Returns the page of a plan, and the number of lookups for its includes.
    fn answer(&self, plan: &Plan<'_>, query: &RecordQuery) -> Result<(Page<Record>, u64)> {
        let found = find_page(plan, query)?;
        let mut data = self.fetch_ordered(&found.ids, query.sort, plan.take_rows())?;
        data.shrink_to_fit();
        let includes_read = self.include(&mut data, &query.include)?;
        Ok((query.answer(data, found.skipped, found.total), includes_read))
    }

    /// Returns up to `limit` records of an id range that match the filter, in the requested order.
    pub(crate) fn slice(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordNumber>,
        sort: RecordSort,
        limit: usize,
    ) -> Result<Vec<Record>> {
        contained("scanning", || {
            let mut found: Vec<RecordNumber> = Vec::new();
            let plan = Plan::new(self, filter)?.within(ids);
            plan.visit(sort, |block| {
                let wanted = (limit - found.len()) as u64;
                found.extend(block.ids_at(0..wanted.min(block.count()), sort));
                Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            self.fetch_ordered(&found, sort, plan.take_rows())
        })
    }

    /// Calls back with the entity type and the value of each record of an id range that matches the filter,
    /// oldest first.
    pub(crate) fn each_value(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordNumber>,
        mut show: impl FnMut(EntityTypeId, &str) -> Result<()>,
    ) -> Result<()> {
        contained("scanning", || {
            Plan::new(self, filter)?.within(ids).visit(RecordSort::Ascending, |block| {
                self.each_stored(&block.ids(), |stored| show(stored.entity_type, stored.value))?;
                Ok(ControlFlow::Continue(()))
            })
        })
    }

    fn fetch_ordered(&self, ids: &[RecordNumber], sort: RecordSort, rows: Rows) -> Result<Vec<Record>> {
        if sort == RecordSort::Ascending {
            return self.fetch_with(ids, rows);
        }
        let ascending: Vec<RecordNumber> = ids.iter().rev().copied().collect();
        let mut records = self.fetch_with(&ascending, rows)?;
        records.reverse();
        Ok(records)
    }
}

/// Finds the records of the page, and counts the records before it and in total.
fn find_page(plan: &Plan<'_>, query: &RecordQuery) -> Result<FoundPage> {
    let mut found = FoundPage::default();
    plan.visit(query.sort, |block| {
        let count = block.count();
        let before = match query.cursor {
            None => query.page.skip().saturating_sub(found.total).min(count),
            Some(Cursor(last)) => block.count_through(last.get(), query.sort),
        };
        let wanted = u64::from(query.page.per_page) - found.ids.len() as u64;
        found.ids.extend(block.ids_at(before..count.min(before + wanted), query.sort));
        found.skipped += before;
        found.total += count;
        Ok(ControlFlow::Continue(()))
    })?;
    if query.cursor.is_none() {
        // A page past the end skips more records than exist.
        found.skipped = query.page.skip();
    }
    Ok(found)
}

/// The position of a page in its listing.
#[derive(Default)]
struct FoundPage {
    ids: Vec<RecordNumber>,
    skipped: u64,
    total: u64,
}
