//! The clock, and operations on the whole store.

use super::{Generator, HOUR, Limits, SECOND};
use crate::model::Model;
use crate::operation::{Filter, Operation, Question};
use crate::random::Random;

impl Generator {
    pub fn time(&mut self, model: &Model) -> Operation {
        let micros = |random: &mut Random, most: i64| {
            i64::try_from(random.below(u64::try_from(most).unwrap())).unwrap()
        };
        let set = if self.limits.steady { 0 } else { 2 };
        match self.random.weighted(&[10, 6, 4, 2, 3, set, set]) {
            0 => Operation::Advance(micros(&mut self.random, 3 * SECOND)),
            1 => Operation::Advance(micros(&mut self.random, 600 * SECOND)),
            2 => Operation::Advance(micros(&mut self.random, 3 * HOUR)),
            3 => Operation::Advance(micros(&mut self.random, 48 * HOUR)),
            4 => self.towards_a_boundary(model),
            5 if !self.limits.forward_only => {
                let to = model.now - micros(&mut self.random, 4 * HOUR);
                self.answer_all(model);
                self.set_clock(model, to)
            }
            _ => {
                let to = model.now + micros(&mut self.random, 2 * HOUR);
                self.set_clock(model, to)
            }
        }
    }

    /// Advances the clock to the very end of a lease or of a record's life, or to a microsecond before or after it.
    fn towards_a_boundary(&mut self, model: &Model) -> Operation {
        let mut waits = Vec::new();
        for pool in model.pools.values() {
            waits.extend(pool.claims.iter().map(|claim| claim.end - model.moment()));
            waits.extend(pool.claims.iter().map(|claim| claim.end + HOUR - model.moment()));
            if let Some(retention) = pool.row.retention {
                waits.extend(
                    pool.records.values().take(5).map(|record| record.created + retention - model.now),
                );
            }
        }
        waits.retain(|wait| (1..24 * HOUR).contains(wait));
        if waits.is_empty() {
            return Operation::Advance(SECOND);
        }
        let wait = *self.random.pick(&waits) + i64::try_from(self.random.below(3)).unwrap() - 1;
        Operation::Advance(wait.max(0))
    }

    pub fn whole_store(&mut self, model: &Model) -> Operation {
        let weights = match self.limits {
            Limits { file: false, .. } => [2, 2, 0, 0, 4, 0, 0, 1],
            Limits { one_commit: true, .. } => [0, 0, 0, 0, 1, 1, 0, 2],
            _ => [3, 3, 1, 2, 3, 1, 2, 2],
        };
        let operation = match self.random.weighted(&weights) {
            0 => Operation::Reopen,
            1 => Operation::CloseAndOpen,
            2 => Operation::MoveToBackup,
            3 => Operation::Rebuild,
            4 => Operation::Verify,
            5 => Operation::Compact,
            6 => Operation::Vacuum,
            _ => Operation::Flush,
        };
        // Verifying, compacting and vacuuming run without readers.
        let alone = matches!(operation, Operation::Verify | Operation::Compact | Operation::Vacuum);
        if alone {
            self.waiting.extend(
                model.snapshots.keys().map(|snapshot| Operation::DropSnapshot { snapshot: *snapshot }),
            );
        }
        match operation {
            Operation::Reopen | Operation::CloseAndOpen | Operation::MoveToBackup | Operation::Vacuum => {
                let first = self.after_sweep(operation);
                // The first call on a pool computes what is left of its leases.
                self.waiting.extend(model.pools.keys().map(|pool| Operation::ListClaims { pool: *pool }));
                self.learn_times(model);
                first
            }
            other if self.waiting.is_empty() => other,
            other => {
                self.waiting.push_back(other);
                self.waiting.pop_front().unwrap()
            }
        }
    }

    fn set_clock(&mut self, model: &Model, to: i64) -> Operation {
        // Where leases run by this clock, claims that are over must not come back.
        if !self.limits.file {
            self.waiting.push_back(Operation::Prune { pool: None });
        }
        self.waiting.push_back(Operation::SetClock(to));
        self.learn_times(model);
        self.waiting.pop_front().unwrap()
    }

    /// Has each pool answer. What has expired at a time by which nobody has answered may be there again when the clock is
    /// set back before anybody does.
    fn answer_all(&mut self, model: &Model) {
        let count = |pool: &u64| Operation::Ask { pool: *pool, question: Question::Count(Filter::default()) };
        self.waiting.extend(model.pools.keys().map(count));
    }

    fn learn_times(&mut self, model: &Model) {
        self.waiting.extend(model.pools.keys().map(|pool| Operation::LearnTime { pool: *pool }));
    }

    /// A claim whose lease ended over an hour ago does not exist, but if nobody swept it, a clock that was set back
    /// brings it back when the store is opened again. So they are swept first.
    fn after_sweep(&mut self, operation: Operation) -> Operation {
        self.waiting.push_back(Operation::Prune { pool: None });
        self.waiting.push_back(operation);
        self.waiting.pop_front().unwrap()
    }
}
