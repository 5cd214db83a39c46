//! What a store must hold after operations, as plain lists. Time only goes forwards here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datapool_store::{ErrorKind, Mode, OnDuplicate, Origin, Timestamp, Verdict};

use super::{Answer, How, Op, Outcome, Where};
use crate::support::items::{Item, Row};

/// How long a claim is kept once its lease is over.
const KEPT: Duration = Duration::from_hours(1);

/// A store as lists. Cheap to copy: pools that an operation does not touch are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) pools: BTreeMap<u64, Arc<PoolModel>>,
    pub(crate) flows: BTreeMap<String, String>,
    next_pool: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolModel {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) retention: Option<Duration>,
    pub(crate) capacity: Option<u64>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// The live records, oldest first.
    pub(crate) live: Vec<Row>,
    next_id: u64,
    pub(crate) claims: BTreeMap<u64, ClaimModel>,
    /// The claim that owns a value. It may have lapsed.
    pub(crate) owners: BTreeMap<Item, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimModel {
    pub(crate) items: Vec<Item>,
    /// Whether each item is neither confirmed nor released.
    pub(crate) open: Vec<bool>,
    pub(crate) origin: Origin,
    pub(crate) until: Timestamp,
}

impl ClaimModel {
    /// The places of its items that are open.
    pub(crate) fn open_places(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|place| self.open[*place]).collect()
    }
}

impl Default for Model {
    fn default() -> Self {
        Self { pools: BTreeMap::new(), flows: BTreeMap::new(), next_pool: 1 }
    }
}

impl Model {
    /// What is too old by now is gone.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        for pool in self.pools.values_mut() {
            if pool.has_expired(now) {
                Arc::make_mut(pool).expire(now);
            }
        }
    }

    /// The states through which an operation leads, one for each commit that shows; and its answer.
    pub(crate) fn apply(&self, op: &Op, now: Timestamp) -> (Vec<Self>, Answer) {
        let mut next = self.clone();
        next.expire(now);
        let answer = match op {
            Op::Create { name, retention, capacity } => next.create(name, *retention, *capacity, now),
            Op::Update { pool, name: Some(name), .. } if next.has_other(*pool, name) => {
                Answer::Refused(ErrorKind::AlreadyExists)
            }
            Op::Delete { pool } => {
                next.pools.remove(pool);
                Answer::Done
            }
            Op::PutFlow { id, name } => {
                next.flows.insert(id.clone(), name.clone());
                Answer::Done
            }
            Op::DeleteFlow { id } => Answer::Count(u64::from(next.flows.remove(id).is_some())),
            Op::Import { pool, items, policy, every } => {
                return next.import(*pool, items, *policy, *every, now);
            }
            _ => match op.pool() {
                Some(pool) => next.pool(pool).apply(op, now),
                None => Answer::Done,
            },
        };
        (vec![next], answer)
    }

    fn pool(&mut self, id: u64) -> &mut PoolModel {
        Arc::make_mut(self.pools.get_mut(&id).unwrap())
    }

    fn has_other(&self, id: u64, name: &str) -> bool {
        self.pools.iter().any(|(other, pool)| *other != id && pool.name == name)
    }

    fn create(
        &mut self,
        name: &str,
        retention: Option<Duration>,
        capacity: Option<u64>,
        now: Timestamp,
    ) -> Answer {
        if self.has_other(0, name) {
            return Answer::Refused(ErrorKind::AlreadyExists);
        }
        let pool = PoolModel {
            name: name.to_owned(),
            description: None,
            retention,
            capacity,
            created_at: now,
            updated_at: now,
            live: vec![],
            next_id: 1,
            claims: BTreeMap::new(),
            owners: BTreeMap::new(),
        };
        self.pools.insert(self.next_pool, Arc::new(pool));
        self.next_pool += 1;
        Answer::Count(self.next_pool - 1)
    }

    fn import(
        mut self,
        pool: u64,
        items: &[Item],
        policy: OnDuplicate,
        every: Option<u64>,
        now: Timestamp,
    ) -> (Vec<Self>, Answer) {
        let part_rows = every.map_or(items.len().max(1), |rows| usize::try_from(rows).unwrap());
        let (mut states, mut added) = (vec![self.clone()], 0);
        for part in items.chunks(part_rows) {
            let pool = self.pool(pool);
            let live = pool.live_items();
            let is_new =
                |(index, item): &(usize, &Item)| !live.contains(item) && !part[..*index].contains(item);
            let fresh: Vec<Item> =
                part.iter().enumerate().filter(is_new).map(|(_, item)| item.clone()).collect();
            if policy == OnDuplicate::Fail && fresh.len() < part.len() {
                return (states, Answer::Refused(ErrorKind::AlreadyExists));
            }
            let new = if policy == OnDuplicate::Skip { fresh } else { part.to_vec() };
            added += new.len() as u64;
            pool.add(new, &Origin::none(), now);
            pool.evict();
            states.push(self.clone());
        }
        (states, Answer::Count(added))
    }
}

impl PoolModel {
    fn has_expired(&self, now: Timestamp) -> bool {
        let first = self.live.first();
        first.is_some_and(|row| self.is_expired(row, now))
            || self.claims.values().any(|claim| claim.until.saturating_add(KEPT) <= now)
    }

    fn is_expired(&self, row: &Row, now: Timestamp) -> bool {
        self.retention.is_some_and(|retention| row.created_at.saturating_add(retention) <= now)
    }

    fn expire(&mut self, now: Timestamp) {
        let expired = self.live.iter().filter(|row| self.is_expired(row, now)).count();
        self.live.drain(..expired);
        self.claims.retain(|_, claim| claim.until.saturating_add(KEPT) > now);
        let claims = &self.claims;
        self.owners.retain(|_, owner| claims.contains_key(owner));
    }

    /// The oldest beyond the capacity leave.
    fn evict(&mut self) {
        let capacity = self.capacity.map_or(usize::MAX, |capacity| usize::try_from(capacity).unwrap());
        self.live.drain(..self.live.len().saturating_sub(capacity));
    }

    pub(crate) fn live_items(&self) -> BTreeSet<Item> {
        self.live.iter().map(|row| row.item.clone()).collect()
    }

    /// A record voids whatever claim owns its value.
    fn add(&mut self, items: Vec<Item>, origin: &Origin, now: Timestamp) {
        for item in items {
            self.owners.remove(&item);
            self.live.push(Row { id: self.next_id, item, origin: origin.clone(), created_at: now });
            self.next_id += 1;
        }
    }

    pub(crate) fn verdicts(&self, mode: Mode, items: &[Item], now: Timestamp) -> Vec<Verdict> {
        let live = self.live_items();
        let is_claimed =
            |item: &Item| self.owners.get(item).is_some_and(|owner| self.claims[owner].until > now);
        let verdict = |(index, item): (usize, &Item)| {
            if live.contains(item) {
                Verdict::Duplicate
            } else if mode != Mode::Track && is_claimed(item) {
                Verdict::InFlight
            } else if items[..index].contains(item) {
                Verdict::Duplicate
            } else {
                Verdict::New
            }
        };
        items.iter().enumerate().map(verdict).collect()
    }

    fn apply(&mut self, op: &Op, now: Timestamp) -> Answer {
        match op {
            Op::Dedupe { mode, items, origin, .. } => {
                let verdicts = self.verdicts(*mode, items, now);
                if *mode != Mode::Filter {
                    self.add(new_ones(items, &verdicts), origin, now);
                    self.evict();
                }
                Answer::Verdicts(verdicts)
            }
            Op::Claim { id, items, origin, lease, .. } => {
                let verdicts = self.verdicts(Mode::FilterAndTrack, items, now);
                let items = new_ones(items, &verdicts);
                self.owners.extend(items.iter().map(|item| (item.clone(), *id)));
                if !items.is_empty() {
                    let (open, until) = (vec![true; items.len()], now.saturating_add(*lease));
                    self.claims.insert(*id, ClaimModel { items, open, origin: origin.clone(), until });
                }
                Answer::Verdicts(verdicts)
            }
            Op::Settle { claim, how, .. } => self.settle(*claim, how, now),
            Op::DeleteRecords { ids, .. } => self.forget(|row| ids.contains(&row.id)),
            Op::DeleteKeys { items, .. } => self.forget(|row| items.contains(&row.item)),
            Op::DeleteWhere { wanted, .. } => self.forget(|row| wanted.matches(row)),
            Op::Clear { .. } => self.forget(|_| true),
            Op::Update { name, description, retention, capacity, .. } => {
                self.name = name.clone().unwrap_or_else(|| self.name.clone());
                self.description = description.clone().unwrap_or_else(|| self.description.clone());
                self.retention = retention.unwrap_or(self.retention);
                self.capacity = capacity.unwrap_or(self.capacity);
                self.updated_at = now;
                self.expire(now);
                self.evict();
                Answer::Done
            }
            _ => Answer::Done,
        }
    }

    fn forget(&mut self, is_gone: impl Fn(&Row) -> bool) -> Answer {
        let before = self.live.len();
        self.live.retain(|row| !is_gone(row));
        Answer::Count((before - self.live.len()) as u64)
    }

    fn settle(&mut self, id: u64, how: &How, now: Timestamp) -> Answer {
        let claim = self.claims[&id].clone();
        let all = claim.open_places();
        let (places, confirms) = match how {
            How::Confirm => (&all, true),
            How::ConfirmSome(places) => (places, true),
            How::Release | How::Drop => (&all, false),
            How::ReleaseSome(places) => (places, false),
            How::HandOver => return Answer::Done,
            How::Extend(lease) => {
                let owns = |place: &usize| self.owners.get(&claim.items[*place]) == Some(&id);
                if !all.iter().any(owns) {
                    return Answer::Refused(ErrorKind::LeaseLost);
                }
                self.claims.get_mut(&id).unwrap().until = now.saturating_add(*lease);
                return Answer::Done;
            }
        };
        let (mut outcomes, mut confirmed) = (vec![], vec![]);
        for item in places.iter().map(|place| &claim.items[*place]) {
            let is_own = self.owners.get(item) == Some(&id);
            let first = self.live.iter().find(|row| row.item == *item);
            outcomes.push(match first {
                _ if is_own => Outcome::Held,
                Some(first) => Outcome::AlreadyTracked(first.id),
                None => Outcome::Lost,
            });
            if is_own {
                self.owners.remove(item);
                confirmed.push(item.clone());
            }
        }
        let released = confirmed.len() as u64;
        if confirms {
            self.add(confirmed, &claim.origin, now);
            self.evict();
        }
        let settled = self.claims.get_mut(&id).unwrap();
        for place in places {
            settled.open[*place] = false;
        }
        if settled.open_places().is_empty() {
            self.claims.remove(&id);
        }
        match how {
            How::Drop => Answer::Done,
            _ if confirms => Answer::Outcomes(outcomes),
            _ => Answer::Count(released),
        }
    }
}

fn new_ones(items: &[Item], verdicts: &[Verdict]) -> Vec<Item> {
    let new = items.iter().zip(verdicts).filter(|(_, verdict)| **verdict == Verdict::New);
    new.map(|(item, _)| item.clone()).collect()
}

impl Where {
    fn matches(&self, row: &Row) -> bool {
        let is = |id: Option<String>, wanted: &u64| id.is_some_and(|id| id == wanted.to_string());
        match self {
            Self::Flow(flow) => is(row.origin.flow().map(ToString::to_string), flow),
            Self::Run(run) => is(row.origin.run().map(ToString::to_string), run),
            Self::Type(entity_type) => row.item.entity_type.get() == *entity_type,
            Self::Before(time) => row.created_at < *time,
        }
    }
}
