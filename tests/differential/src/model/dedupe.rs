//! Deciding a batch: new, duplicate, changed, in flight.

use std::collections::BTreeMap;

use datapool_store::{Mode, Version};

use super::pool::{Name, Pool, Record};
use crate::answer::maybe_line;
use crate::operation::{From3, Item};

/// The verdict on an item by the pool alone.
pub enum Decision {
    New,
    Changed,
    Duplicate,
    InFlight,
}

/// True if an item with the version `asked` changes a key whose version is `stored`.
pub fn changes(asked: Option<Version>, stored: Option<Version>) -> bool {
    match (asked, stored) {
        (None, _) => false,
        (Some(Version::Ordinal(asked)), Some(Version::Ordinal(stored))) => asked > stored,
        (Some(asked), stored) => stored != Some(asked),
    }
}

/// An item of the batch that passed, and what later items of its key are compared with.
struct Passed {
    last: Item,
    previous: Option<Record>,
}

impl Pool {
    /// Decides one item that no earlier item of its batch decides.
    pub fn decide(&self, item: &Item, tracks_all: bool) -> Decision {
        let newest = self.newest(item);
        let stored = newest.and_then(|record| record.version);
        let by_record = match newest {
            None => Decision::New,
            Some(_) if changes(item.version, stored) => Decision::Changed,
            Some(_) => Decision::Duplicate,
        };
        let Some((claimed, _)) = self.running(item) else { return by_record };
        if tracks_all {
            let is_below = match (item.version, claimed.version) {
                (Some(Version::Ordinal(asked)), Some(Version::Ordinal(claimed))) => asked < claimed,
                _ => false,
            };
            return match by_record {
                Decision::Duplicate => Decision::Duplicate,
                _ if is_below => Decision::InFlight,
                other => other,
            };
        }
        if self.is_answered_by_record(item) { Decision::Duplicate } else { Decision::InFlight }
    }

    /// Under a running claim, the record answers questions without a version, and with an ordinal that is not above its
    /// own.
    pub fn is_answered_by_record(&self, item: &Item) -> bool {
        let is_content = matches!(item.version, Some(Version::Content(_)));
        self.newest(item).is_some_and(|record| !is_content && !changes(item.version, record.version))
    }

    pub fn dedupe(
        &mut self,
        now: i64,
        mode: Mode,
        items: &[Item],
        from: &From3,
        with_firsts: bool,
    ) -> Vec<String> {
        let mut passed: BTreeMap<Name, Passed> = BTreeMap::new();
        let mut order: Vec<Name> = Vec::new();
        // For each item its verdict, the record that it is compared with, and true if that is of this batch.
        let mut verdicts: Vec<(String, Option<Record>, bool)> = Vec::new();
        for item in items {
            let name = (item.entity, item.value.clone());
            if let Some(before) = passed.get_mut(&name) {
                if changes(item.version, before.last.version) {
                    before.last = item.clone();
                    verdicts.push(("changed None".to_owned(), None, false));
                } else {
                    verdicts.push(("duplicate".to_owned(), None, true));
                }
                continue;
            }
            let newest = self.newest(item).cloned();
            let passes = match self.decide(item, mode == Mode::Track) {
                Decision::Duplicate => {
                    verdicts.push(("duplicate".to_owned(), self.oldest(item).cloned(), false));
                    false
                }
                Decision::InFlight => {
                    verdicts.push(("in flight".to_owned(), None, false));
                    false
                }
                Decision::New => {
                    verdicts.push(("new".to_owned(), None, false));
                    true
                }
                Decision::Changed => {
                    let previous = newest.as_ref().map(|record| record.id);
                    verdicts.push((format!("changed {previous:?}"), newest.clone(), false));
                    true
                }
            };
            if passes {
                passed.insert(name.clone(), Passed { last: item.clone(), previous: newest });
                order.push(name);
            }
        }
        let mut added: BTreeMap<Name, Record> = BTreeMap::new();
        if mode != Mode::Filter && !order.is_empty() {
            for name in &order {
                let Passed { last, previous } = &passed[name];
                debug_assert!(previous.is_none() || changes(last.version, None));
                let id = self.replace(last, from);
                added.insert(name.clone(), self.records[&id].clone());
            }
            self.committed(now);
        }
        let first = |item: &Item, record: Option<Record>, of_batch: bool| {
            let found =
                if of_batch { added.get(&(item.entity, item.value.clone())).cloned() } else { record };
            maybe_line(found.map(|record| record.row()).as_ref())
        };
        let lines = verdicts.into_iter().zip(items).map(|((verdict, record, of_batch), item)| {
            if with_firsts { format!("{verdict}, first {}", first(item, record, of_batch)) } else { verdict }
        });
        lines.collect()
    }
}
