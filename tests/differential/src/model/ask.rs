//! Questions to a pool: checks, lookups, results, counts, pages, scans.

use super::pool::{Pool, Record};
use super::registry::Entries;
use super::{Model, dedupe::changes};
use crate::answer::{Answer, Frame, maybe_line};
use crate::operation::{Filter, Item, Query, Question};

impl Model {
    pub fn ask(&mut self, pool: u64, question: &Question) -> Answer {
        self.pool(pool)?;
        Ok(self.pools[&pool].answer(question, &self.registered))
    }
}

impl Pool {
    pub fn answer(&self, question: &Question, registered: &[Entries; 4]) -> Vec<String> {
        match question {
            Question::Contains(items) => items.iter().map(|item| self.has(item).to_string()).collect(),
            Question::Lookup(items) => {
                let row = |item| maybe_line(self.oldest(item).map(Record::row).as_ref());
                items.iter().map(row).collect()
            }
            Question::Results(items) => {
                let result = |item| self.oldest(item).and_then(|record| record.result.clone());
                items.iter().map(|item| format!("{:?}", result(item))).collect()
            }
            Question::ResultOf(id) => {
                let result = self.records.get(id).and_then(|record| record.result.clone());
                vec![format!("{result:?}")]
            }
            Question::Count(filter) => vec![self.matching(filter).len().to_string()],
            Question::Scan { filter, reverse } => {
                let mut found = self.matching(filter);
                if *reverse {
                    found.reverse();
                }
                found.into_iter().map(|record| record.row().line()).collect()
            }
            Question::Page(query) => self.page(query, registered),
        }
    }

    /// True if the newest record of the key has the version asked for, or a higher ordinal.
    fn has(&self, item: &Item) -> bool {
        self.newest(item).is_some_and(|record| !changes(item.version, record.version))
    }

    pub fn matching(&self, filter: &Filter) -> Vec<&Record> {
        self.records.values().filter(|record| filter.takes(record)).collect()
    }

    fn page(&self, query: &Query, registered: &[Entries; 4]) -> Vec<String> {
        let mut found = self.matching(&query.filter);
        if query.descending {
            found.reverse();
        }
        let total = found.len() as u64;
        let skipped = match query.cursor {
            None => (query.page - 1).saturating_mul(query.per_page),
            Some(cursor) => {
                let before = |record: &&&Record| {
                    if query.descending { record.id >= cursor } else { record.id <= cursor }
                };
                found.iter().filter(before).count() as u64
            }
        };
        let skip = usize::try_from(skipped).unwrap_or(usize::MAX);
        let per_page = usize::try_from(query.per_page).unwrap_or(usize::MAX);
        let shown: Vec<&Record> = found.into_iter().skip(skip).take(per_page).collect();
        let is_last = skipped.saturating_add(shown.len() as u64) >= total;
        let cursor = shown.last().filter(|_| !is_last).map(|record| record.id.to_string());
        let frame = frame(skipped, shown.len() as u64, total, query, cursor);
        let line = |record: &Record| {
            let mut line = record.row().line();
            for (index, wanted) in query.include.iter().enumerate() {
                if *wanted {
                    line.push_str(&format!(" with {}", self.included(record, index, registered)));
                }
            }
            line
        };
        std::iter::once(frame.line()).chain(shown.into_iter().map(line)).collect()
    }

    fn included(&self, record: &Record, index: usize, registered: &[Entries; 4]) -> String {
        let from = &record.from;
        let (kind, id) = match index {
            0 => (1, from.flow.clone()),
            1 => (2, from.run.clone()),
            2 => (3, from.step.clone()),
            3 => (0, Some(record.entity.to_string())),
            _ => return self.row.line(),
        };
        let entry = id.and_then(|id| registered[kind].get(&id));
        entry.map_or_else(|| "null".to_owned(), |entry| format!("{:?} {}", entry.name, entry.attributes))
    }
}

fn frame(skipped: u64, shown: u64, total: u64, query: &Query, cursor: Option<String>) -> Frame {
    let per_page = query.per_page;
    let last = total.div_ceil(per_page).max(1);
    let current = if query.cursor.is_some() { skipped / per_page + 1 } else { query.page };
    let page = |number: u64| Some(format!("page {number}"));
    let next = match query.cursor {
        Some(_) => cursor.as_ref().map(|cursor| format!("cursor {cursor}")),
        None => (current < last).then(|| page(current + 1)).flatten(),
    };
    let prev = (current > 1 && query.cursor.is_none()).then(|| page((current - 1).min(last))).flatten();
    Frame {
        current,
        last,
        from: (shown > 0).then(|| skipped + 1),
        to: (shown > 0).then(|| skipped + shown),
        per_page,
        total,
        cursor,
        links: [page(1), page(last), prev, next],
    }
}

/// The frame of a page of pools.
pub fn pools_frame(page: u64, per_page: u64, shown: u64, total: u64) -> Frame {
    let query = Query { page, per_page, ..Query::default() };
    frame((page - 1).saturating_mul(per_page), shown, total, &query, None)
}
