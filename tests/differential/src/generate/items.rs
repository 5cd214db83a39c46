//! Values, keys, batches and origins.

use datapool_store::{CompositeKey, Version};

use super::{CONTENTS, Generator};
use crate::model::Model;
use crate::operation::{From3, Item, Kind};

const ODD_VALUES: [&str; 20] = [
    "with,comma",
    "with \"quotes\"",
    " blanks ",
    "line\nbreak",
    "a\rb",
    "=1+1",
    "-5",
    "@x",
    "+y",
    "\ttab",
    "größe 🎉",
    "é",
    "e\u{301}",
    "0",
    "007",
    "nul \0",
    "V1",
    "v1 ",
    "[\"a\",1]",
    "a;b|c",
];
pub const FLOWS: [&str; 6] = ["shop", "1", "2", "flow ü", "a&b=c+d%", "=x"];
pub const RUNS: [&str; 8] = ["r1", "r2", "r3", "r4", "r5", "run;6", "7", "\"8\""];
pub const STEPS: [&str; 4] = ["read", "write", "3", "[x]"];
pub const ENTITIES: [u32; 5] = [37, 47, 54, 0, u32::MAX];

/// The version of an item with one of the contents.
pub fn content(number: u64) -> Version {
    Version::of_content(format!("content {number}"))
}

impl Generator {
    pub fn value(&mut self) -> String {
        match self.random.weighted(&[60, 10, 3, 3, 10, 1]) {
            0 => format!("v{}", self.random.below(40)),
            1 => (*self.random.pick(&ODD_VALUES)).to_owned(),
            2 => self.random.below(30).to_string(),
            3 => {
                let number = i64::try_from(self.random.below(5)).unwrap();
                CompositeKey::new().text("a").integer(number).boolean(number > 2).as_str().to_owned()
            }
            4 => format!("n{}", self.number()),
            _ => "x".repeat(usize::try_from(self.random.between(4_090, 4_096)).unwrap()),
        }
    }

    pub fn version(&mut self) -> Option<Version> {
        match self.random.below(8) {
            0 | 1 => Some(content(self.random.below(CONTENTS))),
            2 | 3 => Some(Version::Ordinal(i64::try_from(self.random.below(12)).unwrap() - 4)),
            _ => None,
        }
    }

    pub fn item(&mut self) -> Item {
        let entity = ENTITIES[self.random.weighted(&[60, 20, 10, 3, 1])];
        Item { entity, value: self.value(), version: self.version() }
    }

    /// A batch: mostly a few items, seldom an empty one, many, or one with a bad item.
    pub fn batch(&mut self, model: &Model, pool: u64) -> Vec<Item> {
        let size = model.pools.get(&pool).map_or(0, |pool| pool.records.len());
        let is_big = model.pools.keys().next() == Some(&pool) && size < self.limits.big;
        if is_big && self.random.once_in(3) {
            let count = self.random.between(500, 6_000);
            return (0..count)
                .map(|_| {
                    let value = format!("n{}", self.number());
                    Item { entity: 37, value, version: None }
                })
                .collect();
        }
        let count = match self.random.weighted(&[60, 20, 1, 1]) {
            0 => self.random.between(1, 8),
            1 => self.random.between(8, 40),
            2 => self.random.between(100, 400),
            _ => 0,
        };
        let mut items: Vec<Item> = (0..count).map(|_| self.item()).collect();
        if !items.is_empty() && self.random.once_in(60) {
            let place = usize::try_from(self.random.below(count)).unwrap();
            let value = if self.random.once_in(2) { String::new() } else { "y".repeat(4_097) };
            items[place].value = value;
        }
        items
    }

    pub fn few(&mut self, model: &Model, pool: u64) -> Vec<Item> {
        let mut items = Vec::new();
        for _ in 0..self.random.between(1, 10) {
            let known = self.known(model, pool).filter(|_| self.random.once_in(2));
            items.push(known.unwrap_or_else(|| self.item()));
        }
        items
    }

    /// The key of a live record.
    fn known(&mut self, model: &Model, pool: u64) -> Option<Item> {
        let records = &model.pools.get(&pool)?.records;
        let (id, _) = records.last_key_value()?;
        let from = self.random.between(1, *id);
        let (_, record) = records.range(from..).next()?;
        Some(Item { entity: record.entity, value: record.value.clone(), version: self.version() })
    }

    pub fn record_id(&mut self, model: &Model, pool: u64) -> u64 {
        let next = model.pools.get(&pool).map_or(5, |pool| pool.next_id);
        if self.random.once_in(3) {
            return self.random.between(next.saturating_sub(20), next + 2);
        }
        self.random.below(next + 3)
    }

    pub fn origin(&mut self) -> From3 {
        let mut part = |ids: &[&str]| {
            let id = (*self.random.pick(ids)).to_owned();
            (!self.random.once_in(5)).then_some(id)
        };
        From3 { flow: part(&FLOWS), run: part(&RUNS), step: part(&STEPS) }
    }

    pub fn id_of_kind(&mut self, kind: Kind) -> String {
        let ids: &[&str] = match kind {
            Kind::EntityType => return self.random.pick(&ENTITIES).to_string(),
            Kind::Flow => &FLOWS,
            Kind::Run => &RUNS,
            Kind::Step => &STEPS,
        };
        (*self.random.pick(ids)).to_owned()
    }
}
