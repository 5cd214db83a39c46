//! Deduplicating, asking and deleting.

use std::collections::BTreeMap;

use datapool_store::{Mode, PoolSnapshot, Record, RecordFilter, Result, Scan, Verdict};

use super::Subject;
use super::text;
use crate::answer::{Answer, Refusal};
use crate::operation::{From3, Item, Operation, Question};

/// A pool or a snapshot of one: they have the same calls.
enum Asked<'a> {
    Pool(datapool_store::Pool),
    Snapshot(&'a PoolSnapshot),
}

macro_rules! ask {
    ($asked:expr, $call:ident($($argument:expr),*)) => {
        match $asked {
            Asked::Pool(pool) => pool.$call($($argument),*),
            Asked::Snapshot(snapshot) => snapshot.$call($($argument),*),
        }
    };
}

impl Subject {
    pub fn dedupe(&self, pool: u64, mode: Mode, items: &[Item], from: &From3, firsts: bool) -> Answer {
        let (pool, origin) = (self.pool(pool)?, text::origin(from));
        let verdicts = if firsts {
            pool.dedupe_with_first(mode, items, text::key, &origin)?
        } else {
            pool.dedupe(mode, items, text::key, &origin)?
        };
        let line = |(index, verdict): (usize, &Verdict)| {
            let line = match verdict {
                Verdict::New => "new".to_owned(),
                Verdict::Duplicate => "duplicate".to_owned(),
                Verdict::InFlight => "in flight".to_owned(),
                Verdict::Changed { previous } => format!("changed {:?}", previous.map(|id| id.get())),
                other => format!("{other:?}"),
            };
            let passes = mode == Mode::Track || matches!(verdict, Verdict::New | Verdict::Changed { .. });
            if passes != verdicts.passes(index) {
                return format!("{line}, but passes is {}", verdicts.passes(index));
            }
            if firsts { format!("{line}, first {}", text::maybe_row(verdicts.first(index))) } else { line }
        };
        Ok(verdicts.iter().enumerate().map(line).collect())
    }

    pub fn ask(&self, pool: u64, question: &Question) -> Answer {
        self.pool(pool).and_then(|pool| answer(&Asked::Pool(pool), question)).map_err(Refusal::from)
    }

    pub fn ask_snapshot(&self, snapshot: u64, question: &Question) -> Answer {
        answer(&Asked::Snapshot(&self.snapshots[&snapshot]), question).map_err(Refusal::from)
    }

    pub fn delete(&self, operation: &Operation) -> Result<u64> {
        match operation {
            Operation::DeleteIds { pool, ids } => self.pool(*pool)?.delete_records(ids.iter().copied()),
            Operation::DeleteKeys { pool, items } => self.pool(*pool)?.delete_keys(&text::keys(items)),
            Operation::DeleteWhere { pool, filter } => self.pool(*pool)?.delete_where(&text::filter(filter)),
            Operation::DeleteEverywhere { filter } => self.store.delete_where(&text::filter(filter)),
            Operation::Clear { pool } => self.pool(*pool)?.clear(),
            other => panic!("{other:?} deletes nothing"),
        }
    }

    pub fn stats(&self, pool: u64) -> Answer {
        let stats = self.pool(pool)?.stats()?;
        let [oldest, newest] = [stats.oldest, stats.newest].map(|time| time.map(|time| time.as_micros()));
        let (live, claims, ahead) = (stats.live, stats.claims, text::micros(stats.time_ahead));
        Ok(vec![format!("live {live} oldest {oldest:?} newest {newest:?} claims {claims} ahead {ahead}")])
    }

    pub fn counts(&self, pool: u64) -> Answer {
        let pool = self.pool(pool)?;
        let entities = counted(pool.entity_type_counts()?);
        Ok(vec![entities, counted(pool.flow_counts()?)])
    }
}

fn counted<Id: ToString>(counts: Vec<(Id, u64)>) -> String {
    if !counts.is_sorted_by(|a, b| a.1 >= b.1) {
        return "the largest is not first".to_owned();
    }
    let counts: BTreeMap<String, u64> =
        counts.into_iter().map(|(id, count)| (id.to_string(), count)).collect();
    format!("{counts:?}")
}

fn answer(asked: &Asked<'_>, question: &Question) -> Result<Vec<String>> {
    let shown =
        |found: Vec<Option<Record>>| found.iter().map(|found| text::maybe_row(found.as_ref())).collect();
    Ok(match question {
        Question::Contains(items) if items.len() == 1 => {
            vec![ask!(asked, contains(text::key(&items[0])))?.to_string()]
        }
        Question::Contains(items) => {
            let found = ask!(asked, contains_many(&text::keys(items)))?;
            found.iter().map(ToString::to_string).collect()
        }
        Question::Lookup(items) => shown(ask!(asked, lookup(&text::keys(items)))?),
        Question::Results(items) => {
            let found = ask!(asked, results(&text::keys(items)))?;
            found.iter().map(|result| format!("{result:?}")).collect()
        }
        Question::ResultOf(id) => vec![format!("{:?}", ask!(asked, result(*id))?)],
        Question::Count(filter) => vec![ask!(asked, count(&text::filter(filter)))?.to_string()],
        Question::Scan { filter, reverse } => {
            let filter: RecordFilter = text::filter(filter);
            let scan: Scan = ask!(asked, scan(&filter))?;
            let line = |record: Result<Record>| record.map(|record| text::row(&record).line());
            if *reverse {
                scan.rev().map(line).collect::<Result<_>>()?
            } else {
                scan.map(line).collect::<Result<_>>()?
            }
        }
        Question::Page(query) => {
            let parsed = text::query(query)?;
            text::page_of_records(&ask!(asked, records(&parsed))?, query, &parsed)
        }
    })
}
