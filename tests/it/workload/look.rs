//! Operations on a store in a file whose clock is set back and forth. All contents are compared after each
//! operation.

use std::time::Duration;

use datapool_store::testing::{self, Sizes};
use datapool_store::{Error, ErrorKind, Origin, RecordFilter, Result};

use super::driver::Driver;
use super::filter::Filter;
use super::random::all_items;
use super::readers::HeldSnapshot;
use super::seen::{self, SeenPool, listed_claims};
use super::{Answer, Op};
use crate::support;
use crate::support::items::{Item, rows};

impl Driver {
    /// Runs an operation, and compares everything that it may have changed.
    pub(crate) fn run_and_look(&mut self, op: &Op) {
        self.run(op);
        match op {
            Op::Pass { .. } | Op::Turn { .. } => self.tick(),
            Op::Reopen | Op::Restart { .. } | Op::Vacuum => {
                self.tick();
                self.take_claims_up();
            }
            Op::Rebuild => self.run(&Op::Verify),
            _ => {}
        }
        if matches!(op, Op::Vacuum) {
            self.run(&Op::Verify);
        }
        let copied_to = if let Op::Copy { to, .. } = op { Some(*to) } else { None };
        match op.pool().filter(|pool| self.model().pools.contains_key(pool)) {
            Some(pool) => [pool].into_iter().chain(copied_to).for_each(|pool| self.look_at(pool)),
            None => self.look_at_all(),
        }
        self.snapshots.iter().for_each(HeldSnapshot::check);
    }

    /// Compares everything in every way, and again after reopening the store.
    pub(crate) fn finish(&mut self) {
        self.end_scans();
        let filter = Filter::default();
        for snapshot in self.snapshots.drain(..) {
            snapshot.check_thoroughly(&filter);
        }
        for op in [Op::Verify, Op::Restart { sizes: Sizes::SMALL }, Op::Verify] {
            self.run_and_look(&op);
        }
    }

    fn look_at_all(&mut self) {
        self.is_current();
        self.answers_agree();
        for pool in &self.deleted {
            let is_gone = |error: Error| assert_eq!(error.kind(), ErrorKind::NotFound);
            is_gone(pool.info().unwrap_err());
            is_gone(pool.count(&RecordFilter::new()).unwrap_err());
            is_gone(pool.clear().unwrap_err());
            is_gone(self.store().pool(pool.id()).unwrap_err());
            is_gone(self.store().delete_pool(pool.id()).unwrap_err());
        }
    }

    fn look_at(&self, pool: u64) {
        let (handle, model) = (self.store().pool(pool).unwrap(), &self.model().pools[&pool]);
        let seen = SeenPool::of(&handle, &handle.info().unwrap()).unwrap();
        let expected = SeenPool::expected(model, self.now());
        assert!(seen == expected, "pool {pool} {}", expected.difference(&seen));
        seen::answers_agree(&handle, model, self.now()).unwrap();
    }

    /// Makes the store read the clock in each pool, so that the time that it has used is known.
    fn tick(&mut self) {
        let now = self.now();
        for (pool, model) in &self.model().pools {
            let stats = self.store().pool(*pool).unwrap().stats().unwrap();
            assert_eq!(stats.time_ahead, model.time_ahead(now), "pool {pool}");
        }
    }

    /// Makes a copy. It must have the pools and their records, and list the claims that a new process would
    /// have by this clock, without those that the store has swept.
    pub(super) fn back_up(&self) -> Result<Answer> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy.redb");
        self.store().backup_to(&path)?;
        let copy = testing::open(&path, &self.options, Sizes::SMALL)?;
        let now = self.now();
        let mut model = self.model().clone();
        model.open(now, true);
        for (pool, model) in &model.pools {
            let (handle, original) = (copy.pool(*pool)?, self.store().pool(*pool)?);
            assert_eq!(handle.info()?, original.info()?);
            assert_eq!(rows(&support::records(&handle)), self.model().pools[pool].live);
            assert_eq!(seen::results(&handle, model.next_id)?, self.model().pools[pool].results);
            let listed = listed_claims(&handle)?;
            let there = || model.claims.values().filter(|claim| !claim.is_over(now));
            assert!(listed.iter().all(|listed| there().any(|claim| claim.listed(now) == *listed)));
            let mut must = there().filter(|claim| !claim.may_be_swept);
            assert!(must.all(|claim| listed.contains(&claim.listed(now))), "{listed:?}");
            let lease = Duration::from_secs(1);
            let granted = handle.claim(all_items(), Item::key, &Origin::none(), lease)?;
            let number = granted.fencing_number();
            assert!(
                number.is_none_or(|number| number == model.next_fence(now)),
                "the copy granted the fencing number {number:?}"
            );
        }
        let report = copy.verify()?;
        assert_eq!((report.findings, report.pools), (vec![], model.pools.len() as u64));
        Ok(Answer::Done)
    }
}
