//! One pool: its live records, its time, and the claims on it.

use std::collections::BTreeMap;

use datapool_store::Version;

use crate::answer::{PoolRow, Row};
use crate::operation::{Filter, From3, Item};

pub const HOUR: i64 = 3_600_000_000;

/// An entity type and a value.
pub type Name = (u32, String);

#[derive(Debug, Clone)]
pub struct Record {
    pub id: u64,
    pub entity: u32,
    pub value: String,
    pub from: From3,
    pub created: i64,
    pub version: Option<Version>,
    pub result: Option<Vec<u8>>,
}

impl Record {
    pub fn row(&self) -> Row {
        let Self { id, entity, value, from, created, version, .. } = self.clone();
        Row { id, entity, value, from, created, version }
    }
}

#[derive(Debug, Clone)]
pub struct Held {
    pub index: usize,
    pub item: Item,
    /// The newest record of the key when it was claimed.
    pub seen: Option<u64>,
    /// Neither confirmed nor released.
    pub open: bool,
}

#[derive(Debug, Clone)]
pub struct Claim {
    pub number: u64,
    /// Grows with each take-over by the owner: earlier guards and tokens are void.
    pub grant: u64,
    pub from: From3,
    pub owner: Option<String>,
    pub since: i64,
    /// The end of the lease by the clock when it was granted.
    pub until: i64,
    /// The end of the lease by the time of leases.
    pub end: i64,
    pub lease: i64,
    pub held: Vec<Held>,
}

#[derive(Debug, Clone)]
pub struct Pool {
    pub row: PoolRow,
    pub records: BTreeMap<u64, Record>,
    /// The live records of each key, oldest first.
    pub keys: BTreeMap<Name, Vec<u64>>,
    pub next_id: u64,
    /// The pool's time: the latest that it has answered by, or given to a record.
    pub time: i64,
    /// What the clock shows.
    pub now: i64,
    pub moment: i64,
    pub claims: Vec<Claim>,
    pub next_claim: u64,
    /// The claim that owns a key.
    pub owners: BTreeMap<Name, u64>,
}

impl Pool {
    pub fn new(row: PoolRow) -> Self {
        Self {
            time: i64::MIN,
            row,
            records: BTreeMap::new(),
            keys: BTreeMap::new(),
            next_id: 1,
            now: i64::MIN,
            moment: 0,
            claims: Vec::new(),
            next_claim: 1,
            owners: BTreeMap::new(),
        }
    }

    /// Answers at a time: the pool's time moves to the clock's, unless it is ahead, and records expire.
    pub fn reach(&mut self, now: i64) {
        self.now = now;
        self.time = self.time.max(now);
        self.expire();
    }

    /// Returns the time of a record that is added now. A pool without a live record takes the clock's.
    pub fn arrive(&mut self) -> i64 {
        if self.records.is_empty() {
            self.time = self.now;
        }
        self.time
    }

    pub fn expire(&mut self) {
        let Some(retention) = self.row.retention else { return };
        while let Some(first) = self.records.first_entry() {
            if first.get().created.saturating_add(retention) > self.time {
                break;
            }
            let id = first.get().id;
            self.remove(id);
        }
    }

    /// Applies the capacity: the oldest records leave.
    pub fn evict(&mut self) {
        while let Some(capacity) = self.row.capacity
            && self.records.len() as u64 > capacity
            && let Some(first) = self.records.first_entry()
        {
            let id = first.get().id;
            self.remove(id);
        }
    }

    /// Ends an operation that wrote. A pool without a live record takes the clock's time.
    pub fn committed(&mut self, now: i64) {
        self.expire();
        self.evict();
        if self.records.is_empty() {
            self.time = now;
        }
    }

    pub fn remove(&mut self, id: u64) {
        let Some(record) = self.records.remove(&id) else { return };
        let name = (record.entity, record.value);
        if let Some(ids) = self.keys.get_mut(&name) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.keys.remove(&name);
            }
        }
    }

    /// Adds a record at the pool's time, and takes its key from the claim that owns it.
    pub fn add(&mut self, item: &Item, from: &From3, created: i64) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let name = (item.entity, item.value.clone());
        self.owners.remove(&name);
        self.keys.entry(name).or_default().push(id);
        let Item { entity, value, version } = item.clone();
        let record = Record { id, entity, value, from: from.clone(), created, version, result: None };
        self.records.insert(id, record);
        id
    }

    /// Removes all live records of the item's key, and adds one.
    pub fn replace(&mut self, item: &Item, from: &From3) -> u64 {
        let created = self.arrive();
        for id in self.ids_of(item) {
            self.remove(id);
        }
        self.add(item, from, created)
    }

    pub fn ids_of(&self, item: &Item) -> Vec<u64> {
        self.keys.get(&(item.entity, item.value.clone())).cloned().unwrap_or_default()
    }

    pub fn oldest(&self, item: &Item) -> Option<&Record> {
        self.ids_of(item).first().and_then(|id| self.records.get(id))
    }

    pub fn newest(&self, item: &Item) -> Option<&Record> {
        self.ids_of(item).last().and_then(|id| self.records.get(id))
    }

    pub fn delete(&mut self, now: i64, doomed: impl Fn(&Record) -> bool) -> u64 {
        let ids: Vec<u64> = self.records.values().filter(|r| doomed(r)).map(|r| r.id).collect();
        for id in &ids {
            self.remove(*id);
        }
        if !ids.is_empty() {
            self.committed(now);
        }
        ids.len() as u64
    }

    pub fn stats(&self, now: i64) -> Vec<String> {
        let live = self.records.len();
        let times = [self.records.first_key_value(), self.records.last_key_value()];
        let [oldest, newest] = times.map(|found| found.map(|(_, record)| record.created));
        let claims = self.claims.iter().filter(|claim| self.is_listed(claim)).count();
        let ahead = if live == 0 { 0 } else { self.time.saturating_sub(now).max(0) };
        vec![format!("live {live} oldest {oldest:?} newest {newest:?} claims {claims} ahead {ahead}")]
    }

    pub fn counts(&self) -> Vec<String> {
        let (mut entities, mut flows) = (BTreeMap::new(), BTreeMap::new());
        for record in self.records.values() {
            *entities.entry(record.entity.to_string()).or_insert(0_u64) += 1;
            if let Some(flow) = &record.from.flow {
                *flows.entry(flow.clone()).or_insert(0_u64) += 1;
            }
        }
        vec![format!("{entities:?}"), format!("{flows:?}")]
    }
}

impl Filter {
    /// True if a deletion by this filter deletes nothing.
    pub fn names_nothing(&self) -> bool {
        let Self { flows, runs, steps, entities, values, after, before, all } = self;
        let texts = [flows, runs, steps, values];
        !all && texts.iter().all(|list| list.is_empty())
            && entities.is_empty()
            && after.is_none()
            && before.is_none()
    }

    pub fn takes(&self, record: &Record) -> bool {
        self.takes_from(&record.from)
            && (self.entities.is_empty() || self.entities.contains(&record.entity))
            && (self.values.is_empty() || self.values.contains(&record.value))
            && self.after.is_none_or(|time| record.created > time)
            && self.before.is_none_or(|time| record.created < time)
    }

    pub fn takes_from(&self, from: &From3) -> bool {
        let takes = |terms: &[String], id: &Option<String>| {
            terms.is_empty() || id.as_ref().is_some_and(|id| terms.contains(id))
        };
        takes(&self.flows, &from.flow) && takes(&self.runs, &from.run) && takes(&self.steps, &from.step)
    }
}
