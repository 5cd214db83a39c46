//! The contents of a store after operations, as plain lists.
//!
//! A pool's time is the latest of the clock, the time of its newest record while it has a live one, and the
//! time that this process has last used for the pool. Leases run on the monotonic clock, and by the wall
//! clock again when the store is opened. If the test does not set the clock, all of these are the same.

mod pool;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datapool_store::{ErrorKind, OnDuplicate, Origin, Timestamp};

use self::pool::Adding;
pub(crate) use self::pool::{ClaimModel, PoolModel, firsts, result_of};
use super::{Answer, Op};
use crate::support::items::Asked;

/// The readings of the clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) wall: Timestamp,
    /// The time that has passed, in microseconds.
    pub(crate) passed: i64,
    /// True if the test sets the clock, even backwards. If not, claims past their hour are forgotten.
    pub(crate) may_turn: bool,
}

/// A store as lists. Copying is cheap, because pools that an operation does not change are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) pools: BTreeMap<u64, Arc<PoolModel>>,
    pub(crate) flows: BTreeMap<String, String>,
    next_pool: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self { pools: BTreeMap::new(), flows: BTreeMap::new(), next_pool: 1 }
    }
}

impl Model {
    /// Removes everything that has expired by now.
    pub(crate) fn expire(&mut self, now: Now) {
        for pool in self.pools.values_mut() {
            if pool.has_expired(now) {
                Arc::make_mut(pool).expire(now);
            }
        }
    }

    /// Records that the store was opened, by a new process or again by the same one.
    pub(crate) fn open(&mut self, now: Now, is_new: bool) {
        for pool in self.pools.values_mut() {
            Arc::make_mut(pool).open(now, is_new);
        }
        self.expire(now);
    }

    /// Erases dead data. The store continues as if it were opened again.
    fn vacuum(&mut self, now: Now) {
        if now.may_turn {
            self.open(now, false);
        }
        self.pools.values_mut().for_each(|pool| Arc::make_mut(pool).erase(now));
    }

    /// Returns the states through which an operation leads, one for each visible commit, and its answer.
    pub(crate) fn apply(&self, op: &Op, now: Now) -> (Vec<Self>, Answer) {
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
            Op::Copy { pool, to, filter } => {
                let copied = filter.select(&next.pools[pool].live);
                let items: Vec<Asked> = copied.into_iter().map(|row| row.item.into()).collect();
                return next.import(*to, &items, OnDuplicate::Add, None, now);
            }
            Op::Reopen | Op::Restart { .. } if now.may_turn => {
                next.open(now, matches!(op, Op::Restart { .. }));
                Answer::Done
            }
            Op::Vacuum => {
                next.vacuum(now);
                Answer::Done
            }
            Op::DeleteInAll { filter } => {
                let pools = next.pools.values_mut().map(Arc::make_mut);
                Answer::Count(pools.map(|pool| pool.delete_and_void(filter)).sum())
            }
            _ => match op.pool() {
                Some(pool) => next.pool(pool).apply(op, now),
                None => Answer::Done,
            },
        };
        (vec![next], answer)
    }

    pub(crate) fn pool(&mut self, id: u64) -> &mut PoolModel {
        Arc::make_mut(self.pools.get_mut(&id).unwrap())
    }

    fn has_other(&self, id: u64, name: &str) -> bool {
        self.pools.iter().any(|(other, pool)| *other != id && pool.name == name)
    }

    fn create(&mut self, name: &str, retention: Option<Duration>, capacity: Option<u64>, now: Now) -> Answer {
        if self.has_other(0, name) {
            return Answer::Refused(ErrorKind::AlreadyExists);
        }
        let pool = PoolModel::new(name, retention, capacity, now.wall);
        self.pools.insert(self.next_pool, Arc::new(pool));
        self.next_pool += 1;
        Answer::Count(self.next_pool - 1)
    }

    fn import(
        mut self,
        pool: u64,
        items: &[Asked],
        policy: OnDuplicate,
        every: Option<u64>,
        now: Now,
    ) -> (Vec<Self>, Answer) {
        let part_rows = every.map_or(items.len().max(1), |rows| usize::try_from(rows).unwrap());
        let (mut states, mut added, mut committed) = (vec![self.clone()], 0, 0);
        // Each part is a separate operation, and sees what the previous parts added and evicted.
        for part in items.chunks(part_rows) {
            let pool = self.pool(pool);
            let fresh = pool.absent(part);
            if policy == OnDuplicate::Fail && fresh.len() < part.len() {
                return (states, Answer::Stopped(every.map(|_| committed)));
            }
            let new = if policy == OnDuplicate::Skip { fresh } else { part.to_vec() };
            added += new.len() as u64;
            committed += part.len() as u64;
            pool.add(new, &Origin::none(), Adding::Beside, now);
            pool.evict();
            states.push(self.clone());
        }
        (states, Answer::Count(added))
    }
}
