//! What the store should answer: a plain model, written from the documentation. Every question reads every record.
//!
//! It shares no code with the store, except for types that are data: versions, modes and kinds of errors.

mod ask;
mod catalog;
mod claimed;
mod claims;
mod csv;
mod dedupe;
mod pool;
mod registry;

use std::collections::BTreeMap;

use datapool_store::ErrorKind;

use crate::answer::{Answer, Refusal};
use crate::operation::{Operation, check_items};
pub use claims::{Guard, Token, result_of};
pub use csv::quoted;
pub use pool::{Pool, Record};
pub use registry::Entries;
pub use registry::attributes;

/// The store, its clocks, and what the program holds.
#[derive(Debug, Clone)]
pub struct Model {
    /// What the clock shows, in microseconds.
    pub now: i64,
    /// The latest that it has shown.
    pub latest: i64,
    /// The time that has passed. Setting the clock does not change it.
    pub passed: i64,
    /// Leases run on the clock that can be set (over PostgreSQL), not on the time that has passed.
    pub leases_by_clock: bool,
    pub pools: BTreeMap<u64, Pool>,
    pub next_pool: u64,
    pub registered: [Entries; 4],
    pub guards: BTreeMap<u64, Guard>,
    pub tokens: BTreeMap<u64, Token>,
    /// Pools as they were, with what was registered then.
    pub snapshots: BTreeMap<u64, (Pool, [Entries; 4])>,
}

impl Model {
    pub fn new(now: i64, leases_by_clock: bool) -> Self {
        Self {
            now,
            latest: now,
            passed: 0,
            leases_by_clock,
            pools: BTreeMap::new(),
            next_pool: 1,
            registered: Default::default(),
            guards: BTreeMap::new(),
            tokens: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        }
    }

    /// Returns a pool as of now: time that has passed has ended records.
    pub fn pool(&mut self, id: u64) -> Result<&mut Pool, Refusal> {
        let moment = self.moment();
        let pool = self.pools.get_mut(&id).ok_or(Refusal::of(ErrorKind::NotFound))?;
        pool.reach(self.now);
        pool.moment = moment;
        Ok(pool)
    }

    /// Returns the time by which leases run.
    pub fn moment(&self) -> i64 {
        if self.leases_by_clock { self.now } else { self.passed }
    }

    pub fn apply(&mut self, operation: &Operation) -> Answer {
        use Operation::*;
        match operation {
            CreatePool { fields, or_get } => self.create_pool(fields, *or_get),
            UpdatePool { pool, edits } => self.update_pool(*pool, edits),
            DeletePool { pool } => self.delete_pool(*pool),
            ShowPool { pool } => self.show_pool(*pool),
            PoolNamed { name } => self.pool_named(name),
            FindPool { pool, list } => self.find_pool(*pool, list),
            ListPools(list) => self.list_pools(list),
            Dedupe { pool, mode, items, from, firsts } => {
                let now = self.now;
                self.pool(*pool)?;
                check_items(items)?;
                Ok(self.pool(*pool)?.dedupe(now, *mode, items, from, *firsts))
            }
            Ask { pool, question } => self.ask(*pool, question),
            Wait { pool, items } => Ok(self.pool(*pool)?.wait(items)),
            Claim { pool, items, from, lease, owner, guard } => {
                self.claim(*pool, items, from, *lease, owner.as_deref(), *guard)
            }
            Confirm { guard, which, results } => self.confirm(*guard, which, *results),
            Release { guard, which } => self.release(*guard, which),
            DropGuard { guard } => self.drop_guard(*guard),
            IntoToken { guard } => Ok(self.hand_over(*guard)),
            Resume { token, guard } => self.resume(*token, *guard),
            ResumeOwner { pool, owner, first_guard } => self.resume_owner(*pool, owner, *first_guard),
            Extend { guard, lease } => self.extend(*guard, Some(*lease)),
            KeepAlive { guard } => self.extend(*guard, None).map(|_| Vec::new()),
            ReleaseClaims { pool, filter } => self.release_claims(*pool, filter),
            ListClaims { pool } => Ok(self.pool(*pool)?.list_claims()),
            TakeSnapshot { pool, snapshot } => {
                let copy = self.pool(*pool)?.clone();
                self.snapshots.insert(*snapshot, (copy, self.registered.clone()));
                Ok(Vec::new())
            }
            AskSnapshot { snapshot, question } => {
                let (pool, registered) = &self.snapshots[snapshot];
                Ok(pool.answer(question, registered))
            }
            DropSnapshot { snapshot } => {
                self.snapshots.remove(snapshot);
                Ok(Vec::new())
            }
            DeleteIds { pool, ids } => self.delete(*pool, |record| ids.contains(&record.id)),
            DeleteKeys { pool, items } => self.delete(*pool, |record| {
                items.iter().any(|item| item.entity == record.entity && item.value == record.value)
            }),
            DeleteWhere { pool, filter } => {
                let names_nothing = filter.names_nothing();
                self.delete(*pool, |record| !names_nothing && filter.takes(record))
            }
            DeleteEverywhere { filter } => Ok(self.delete_everywhere(filter)),
            Clear { pool } => self.delete(*pool, |_| true),
            Prune { pool } => self.prune(*pool),
            Import { pool, import } => self.import(*pool, import),
            Export { pool, filter, full, safe, .. } => {
                Ok(vec![self.pool(*pool)?.export(filter, *full, *safe)])
            }
            Register { kind, what } => Ok(self.register(*kind, what)),
            Stats { pool } => {
                let now = self.now;
                Ok(self.pool(*pool)?.stats(now))
            }
            Counts { pool } => Ok(self.pool(*pool)?.counts()),
            Advance(by) => {
                self.now += by;
                self.latest = self.latest.max(self.now);
                self.passed += by;
                Ok(Vec::new())
            }
            SetClock(to) => {
                self.now = *to;
                self.latest = self.latest.max(self.now);
                Ok(Vec::new())
            }
            Reopen => {
                self.reopened();
                self.snapshots.clear();
                Ok(Vec::new())
            }
            CloseAndOpen | MoveToBackup => {
                self.reopened();
                self.snapshots.clear();
                self.guards.clear();
                Ok(Vec::new())
            }
            Vacuum => {
                self.reopened();
                Ok(Vec::new())
            }
            LearnTime { .. } | Verify | Rebuild | Compact | Flush => Ok(Vec::new()),
        }
    }

    /// Takes over a pool's time, which is this far ahead of the clock.
    ///
    /// The documentation does not say which calls move the time of a pool on, and opening again forgets what they did. So
    /// after the clock was set back, several times are possible: none before the newest record, none after the latest that
    /// the clock has shown.
    pub fn learn_time(&mut self, id: u64, ahead: i64) -> Result<(), String> {
        let (now, latest) = (self.now, self.latest);
        let Some(pool) = self.pools.get_mut(&id) else { return Ok(()) };
        let Some((_, newest)) = pool.records.last_key_value() else { return Ok(()) };
        let (time, earliest) = (now + ahead, now.max(newest.created));
        if !(earliest..=latest.max(earliest)).contains(&time) {
            return Err(format!("the time {time} of pool {id} is not between {earliest} and {latest}"));
        }
        pool.time = time;
        Ok(())
    }

    fn delete(&mut self, pool: u64, doomed: impl Fn(&Record) -> bool) -> Answer {
        let now = self.now;
        Ok(vec![self.pool(pool)?.delete(now, doomed).to_string()])
    }

    fn delete_everywhere(&mut self, filter: &crate::operation::Filter) -> Vec<String> {
        let (now, mut deleted) = (self.now, 0);
        let ids: Vec<u64> = self.pools.keys().copied().collect();
        if filter.names_nothing() {
            return vec!["0".to_owned()];
        }
        for id in ids {
            let Ok(pool) = self.pool(id) else { continue };
            deleted += pool.delete(now, |record| filter.takes(record));
            pool.void_named(filter);
        }
        vec![deleted.to_string()]
    }

    fn prune(&mut self, pool: Option<u64>) -> Answer {
        let ids = pool.map_or_else(|| self.pools.keys().copied().collect(), |id| vec![id]);
        for id in ids {
            self.pool(id)?.sweep();
        }
        Ok(Vec::new())
    }

    /// After opening again, leases run by the clock: what is left of a lease is computed from it.
    fn reopened(&mut self) {
        let (now, moment) = (self.now, self.moment());
        if self.leases_by_clock {
            return;
        }
        for pool in self.pools.values_mut() {
            for claim in &mut pool.claims {
                claim.end = moment + (claim.until - now).min(claim.lease);
            }
        }
    }
}
