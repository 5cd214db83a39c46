//! Reading for the public face: checks, look-ups, pages, counts, slices, each over one view.

use std::ops::{ControlFlow, Range};

use super::batch::Batch;
use super::failure::contained;
use super::plan::{Block, Plan};
use super::view::View;
use crate::error::Result;
use crate::ids::RecordId;
use crate::model::{Key, Record};
use crate::query::{Cursor, Page, RecordFilter, RecordQuery, RecordSort};

impl View {
    /// Whether a value is in the pool.
    pub(crate) fn contains(&self, key: &Key<'_>) -> Result<bool> {
        key.check()?;
        let fingerprint = self.hash_key.fingerprint(key.entity_type(), key.value());
        contained("checking a value", || Ok(self.find_any(&self.state, fingerprint)?.is_some()))
    }

    /// For each key whether its value is in the pool, in order.
    pub(crate) fn contains_many(&self, keys: &[Key<'_>]) -> Result<Vec<bool>> {
        let batch = Batch::from_keys(&self.hash_key, keys.iter().cloned())?;
        contained("checking values", || {
            batch.ask_each(|fingerprint| Ok(self.find_any(&self.state, fingerprint)?.is_some()))
        })
    }

    /// For each key the record that was first with its value, in order.
    pub(crate) fn lookup(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>> {
        let batch = Batch::from_keys(&self.hash_key, keys.iter().cloned())?;
        contained("looking values up", || {
            let ids = batch.ask_each(|fingerprint| self.find_first(&self.state, fingerprint))?;
            let mut found: Vec<(RecordId, usize)> =
                ids.into_iter().zip(0..).filter_map(|(id, index)| Some((id?, index))).collect();
            found.sort_unstable();
            let records = self.fetch(&found.iter().map(|(id, _)| *id).collect::<Vec<_>>())?;
            let mut answers = vec![None; batch.len()];
            for ((id, index), record) in found.into_iter().zip(records) {
                self.check_value(id, &record, batch.value(index))?;
                if let Some(answer) = answers.get_mut(index) {
                    *answer = Some(record);
                }
            }
            Ok(answers)
        })
    }

    /// A record that was found by its fingerprint must have the value.
    fn check_value(&self, id: RecordId, record: &Record, value: &str) -> Result<()> {
        if record.value == value {
            return Ok(());
        }
        Err(crate::error::Error::corrupt(format!(
            "pool {}: the fingerprint index leads from {value:?} to record {id}, which has {:?}",
            self.state.id, record.value
        )))
    }

    /// How many records the filter takes.
    pub(crate) fn count(&self, filter: &RecordFilter) -> Result<u64> {
        filter.check()?;
        contained("counting", || Plan::new(self, filter)?.count())
    }

    /// One page of a listing.
    pub(crate) fn page(&self, query: &RecordQuery) -> Result<Page<Record>> {
        query.check()?;
        contained("listing", || self.page_unchecked(query))
    }

    fn page_unchecked(&self, query: &RecordQuery) -> Result<Page<Record>> {
        let skip = match query.cursor {
            None => query.page.skip(),
            Some(Cursor(last)) => {
                let before = match query.sort {
                    RecordSort::Ascending => 0..last.saturating_add(1),
                    RecordSort::Descending => last..RecordId::MAX,
                };
                Plan::new(self, &query.filter)?.within(before).count()?
            }
        };
        let (ids, total) = self.ids_of_page(query, skip)?;
        let mut data = self.fetch_ordered(&ids, query.sort)?;
        data.shrink_to_fit();
        self.include(&mut data, &query.include)?;
        Ok(query.answer(data, skip, total))
    }

    /// The ids of the records after `skip` of them, up to a page; and how many there are in all.
    fn ids_of_page(&self, query: &RecordQuery, skip: u64) -> Result<(Vec<RecordId>, u64)> {
        let end = skip.saturating_add(u64::from(query.page.per_page));
        let mut ids = Vec::new();
        let mut total = 0;
        Plan::new(self, &query.filter)?.visit(query.sort, |block| {
            let count = block.count();
            let from = skip.saturating_sub(total).min(count);
            let to = end.saturating_sub(total).min(count);
            if from < to {
                ids.extend(nth_ids(&block, query.sort, from..to));
            }
            total += count;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((ids, total))
    }

    /// Up to `limit` records of an id range, in the order asked for.
    pub(crate) fn slice(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordId>,
        sort: RecordSort,
        limit: usize,
    ) -> Result<Vec<Record>> {
        contained("scanning", || {
            let mut found: Vec<RecordId> = Vec::new();
            Plan::new(self, filter)?.within(ids).visit(sort, |block| {
                let wanted = (limit - found.len()) as u64;
                found.extend(nth_ids(&block, sort, 0..wanted.min(block.count())));
                Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            self.fetch_ordered(&found, sort)
        })
    }

    fn fetch_ordered(&self, ids: &[RecordId], sort: RecordSort) -> Result<Vec<Record>> {
        if sort == RecordSort::Ascending {
            return self.fetch(ids);
        }
        let ascending: Vec<RecordId> = ids.iter().rev().copied().collect();
        let mut records = self.fetch(&ascending)?;
        records.reverse();
        Ok(records)
    }
}

/// The ids of a block's matches at some positions of the order asked for.
fn nth_ids(block: &Block<'_>, sort: RecordSort, positions: Range<u64>) -> Vec<RecordId> {
    let skip = usize::try_from(positions.start).unwrap_or(usize::MAX);
    let take = usize::try_from(positions.end - positions.start).unwrap_or(usize::MAX);
    let ids = block.ids();
    match sort {
        RecordSort::Ascending => ids.into_iter().skip(skip).take(take).collect(),
        RecordSort::Descending => ids.into_iter().rev().skip(skip).take(take).collect(),
    }
}
