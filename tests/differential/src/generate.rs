//! Random operations, chosen by what the model has.

mod claims;
mod csv;
mod items;
mod queries;
mod store;

use std::collections::VecDeque;

use datapool_store::Mode;

use crate::model::Model;
use crate::operation::{Edit, Edits, Fields, Kind, Operation, PoolList, Question, Registry};
use crate::random::Random;
pub use items::content;

/// The number of contents that items have.
pub const CONTENTS: u64 = 6;
pub const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// What a run may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// The clock is never set back: a crash may then revive expired records.
    pub forward_only: bool,
    /// The clock is not set at all.
    pub steady: bool,
    /// Each operation is one commit that can fail, and nothing is dropped, which could fail without saying so.
    pub one_commit: bool,
    /// Operations on the file, which are for the embedded engine.
    pub file: bool,
    /// The most records of the one big pool.
    pub big: usize,
}

pub struct Generator {
    random: Random,
    limits: Limits,
    /// Numbers for new values, guards, tokens and snapshots.
    counter: u64,
    waiting: VecDeque<Operation>,
}

const NAMES: [&str; 14] = [
    "orders",
    "Orders",
    "customers",
    "shop orders",
    "Größe",
    "ΟΔΟΣ",
    "products",
    "a,b",
    "1",
    "x & y = z",
    "100%",
    "日本語",
    "tickets",
    "ab",
];

impl Generator {
    pub fn new(seed: u64, limits: Limits) -> Self {
        Self { random: Random::new(seed), limits, counter: 0, waiting: VecDeque::new() }
    }

    /// True if no operation is waiting that belongs to the last one.
    pub fn is_between(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Operations that wait were chosen for guards and snapshots that are gone.
    pub fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn next(&mut self, model: &Model) -> Operation {
        if let Some(operation) = self.waiting.pop_front() {
            return operation;
        }
        if model.pools.is_empty() && self.is_large() {
            let fields = Fields { name: "large".to_owned(), ..Fields::default() };
            return Operation::CreatePool { fields, or_get: false };
        }
        if model.pools.len() < 2 {
            return Operation::CreatePool { fields: self.fields(), or_get: self.random.once_in(4) };
        }
        let weights = [6, 30, 26, 30, 7, 10, 5, 5, 6, 9, 4];
        match self.random.weighted(&weights) {
            0 => self.catalog(model),
            1 => self.dedupe(model),
            2 => self.ask(model),
            3 => self.claims(model),
            4 => self.delete(model),
            5 => self.import(model),
            6 => self.export(model),
            7 => self.registry(model),
            8 => self.snapshots(model),
            9 => self.time(model),
            _ => self.whole_store(model),
        }
    }

    /// Mostly a pool that exists; seldom one that was deleted or never made.
    fn a_pool(&mut self, model: &Model) -> u64 {
        if self.random.once_in(150) {
            return self.random.between(0, model.next_pool + 1);
        }
        let ids: Vec<u64> = model.pools.keys().copied().collect();
        *self.random.pick(&ids)
    }

    /// True if the run has a pool of many records, which is the first one.
    fn is_large(&self) -> bool {
        self.limits.big > 50_000
    }

    /// A pool that may lose all of its records: not the large one.
    fn a_small_pool(&mut self, model: &Model) -> u64 {
        loop {
            let pool = self.a_pool(model);
            if !self.is_large() || model.pools.keys().next() != Some(&pool) {
                return pool;
            }
        }
    }

    fn retention(&mut self) -> i64 {
        let choices = [1_000, 50_000, SECOND, 60 * SECOND, HOUR, 24 * HOUR, 90 * 24 * HOUR];
        *self.random.pick(&choices)
    }

    fn fields(&mut self) -> Fields {
        let mut name = (*self.random.pick(&NAMES)).to_owned();
        if self.random.once_in(3) {
            name = format!("{name} {}", self.random.below(20));
        }
        if self.random.once_in(60) {
            name = "é".repeat(usize::try_from(self.random.between(99, 101)).unwrap());
        }
        let description = self.random.once_in(3).then(|| self.description());
        let retention = self.random.once_in(3).then(|| self.retention());
        let capacity = self.random.once_in(4).then(|| self.capacity());
        Fields { name, description, retention, capacity }
    }

    fn description(&mut self) -> String {
        if self.random.once_in(10) { "ö".repeat(256) } else { format!("pool {}", self.random.below(9)) }
    }

    fn capacity(&mut self) -> u64 {
        let choices = [0, 1, 3, 10, 50, 50, 500, 100_000];
        *self.random.pick(&choices)
    }

    fn edit<T>(&mut self, set: impl FnOnce(&mut Self) -> T) -> Edit<T> {
        match self.random.below(6) {
            0 => Edit::Set(set(self)),
            1 => Edit::Clear,
            _ => Edit::Keep,
        }
    }

    fn catalog(&mut self, model: &Model) -> Operation {
        let pool = self.a_small_pool(model);
        let names: Vec<String> = model.pools.values().map(|pool| pool.row.name.clone()).collect();
        match self.random.weighted(&[12, 14, 3, 6, 4, 5, 12]) {
            0 if model.pools.len() < 9 => {
                Operation::CreatePool { fields: self.fields(), or_get: self.random.once_in(3) }
            }
            0 | 2 if model.pools.len() > 3 => Operation::DeletePool { pool },
            1 => {
                let name = self.random.once_in(4).then(|| self.fields().name);
                let description = self.edit(Self::description);
                let retention = self.edit(Self::retention);
                let capacity = self.edit(Self::capacity);
                Operation::UpdatePool { pool, edits: Edits { name, description, retention, capacity } }
            }
            4 => Operation::PoolNamed { name: self.random.pick(&names).clone() },
            5 => Operation::FindPool { pool, list: self.pool_list(&names) },
            6 => Operation::ListPools(self.pool_list(&names)),
            _ => Operation::ShowPool { pool },
        }
    }

    fn pool_list(&mut self, names: &[String]) -> PoolList {
        let part = |name: &str| name.chars().take(3).collect::<String>().to_uppercase();
        let mut list = PoolList { page: 1, per_page: 15, ..PoolList::default() };
        for _ in 0..self.random.below(3) {
            let name = self.random.pick(names).clone();
            match self.random.below(4) {
                0 => list.ids.push(self.random.between(1, 12)),
                1 => list.names.push(if self.random.once_in(2) { part(&name) } else { name }),
                2 => list.terms.push(name),
                _ => list.terms.push(self.random.between(1, 12).to_string()),
            }
        }
        list.sort = u8::try_from(self.random.below(3)).unwrap();
        list.page = self.random.between(1, 3);
        list.per_page = self.random.between(1, 15);
        list.as_text = self.random.once_in(2);
        list
    }

    fn dedupe(&mut self, model: &Model) -> Operation {
        let pool = self.a_pool(model);
        let mode =
            *self.random.pick(&[Mode::Filter, Mode::Track, Mode::FilterAndTrack, Mode::FilterAndTrack]);
        let (items, from) = (self.batch(model, pool), self.origin());
        Operation::Dedupe { pool, mode, items, from, firsts: self.random.once_in(2) }
    }

    fn ask(&mut self, model: &Model) -> Operation {
        let pool = self.a_pool(model);
        match self.random.below(12) {
            0 => Operation::Stats { pool },
            1 => Operation::Counts { pool },
            _ => Operation::Ask { pool, question: self.question(model, pool) },
        }
    }

    fn question(&mut self, model: &Model, pool: u64) -> Question {
        match self.random.weighted(&[4, 4, 2, 1, 10, 4, 3]) {
            0 => Question::Contains(self.few(model, pool)),
            1 => Question::Lookup(self.few(model, pool)),
            2 => Question::Results(self.few(model, pool)),
            3 => Question::ResultOf(self.record_id(model, pool)),
            4 => Question::Page(self.query(model, pool)),
            5 => Question::Count(self.filter(model, pool)),
            _ => Question::Scan { filter: self.filter(model, pool), reverse: self.random.once_in(2) },
        }
    }

    fn delete(&mut self, model: &Model) -> Operation {
        let pool = self.a_pool(model);
        match self.random.weighted(&[10, 8, 8, 3, 1, 2]) {
            0 => {
                let count = self.random.between(1, 12);
                let ids = (0..count).map(|_| self.record_id(model, pool)).collect();
                Operation::DeleteIds { pool, ids }
            }
            1 => Operation::DeleteKeys { pool, items: self.few(model, pool) },
            2 => Operation::DeleteWhere {
                pool: self.a_small_pool(model),
                filter: self.narrow_filter(model, pool),
            },
            3 => Operation::DeleteEverywhere { filter: self.narrow_filter(model, pool) },
            4 => Operation::Clear { pool: self.a_small_pool(model) },
            _ => Operation::Prune { pool: self.random.once_in(2).then_some(pool) },
        }
    }

    fn export(&mut self, model: &Model) -> Operation {
        let pool = self.a_pool(model);
        let filter = if self.random.once_in(2) { self.filter(model, pool) } else { Default::default() };
        let [full, safe, by_path] = [2, 4, 3].map(|n| self.random.once_in(n));
        Operation::Export { pool, filter, full, safe, by_path }
    }

    fn registry(&mut self, model: &Model) -> Operation {
        let kind = *self.random.pick(&[Kind::EntityType, Kind::Flow, Kind::Run, Kind::Step]);
        let what = match self.random.weighted(&[8, 4, 3, 2, 1]) {
            0 => {
                let put = |this: &mut Self| {
                    let number = this.random.below(50);
                    (this.id_of_kind(kind), format!("Name {number}"), number)
                };
                Registry::Put((0..self.random.between(1, 4)).map(|_| put(self)).collect())
            }
            1 => Registry::Get(self.id_of_kind(kind)),
            2 => Registry::List,
            3 => Registry::Delete(self.id_of_kind(kind)),
            _ => {
                Registry::DeleteBefore(model.now - i64::try_from(self.random.below(7_200)).unwrap() * SECOND)
            }
        };
        Operation::Register { kind, what }
    }

    fn snapshots(&mut self, model: &Model) -> Operation {
        let held: Vec<u64> = model.snapshots.keys().copied().collect();
        let choice = self.random.below(10);
        if held.is_empty() || (choice == 0 && held.len() < 3) {
            let pool = self.a_pool(model);
            if model.pools.get(&pool).is_some_and(|pool| pool.records.len() > 20_000) {
                return Operation::ShowPool { pool };
            }
            return Operation::TakeSnapshot { pool, snapshot: self.number() };
        }
        let snapshot = *self.random.pick(&held);
        if choice == 1 {
            return Operation::DropSnapshot { snapshot };
        }
        let pool = model.snapshots[&snapshot].0.row.id;
        Operation::AskSnapshot { snapshot, question: self.question(model, pool) }
    }
}
