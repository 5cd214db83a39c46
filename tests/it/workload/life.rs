//! A long life of a store: one file and many transitions, with crashes and faults among them.

use std::collections::VecDeque;

use datapool_store::testing::Sizes;
use datapool_store::{Durability, ErrorKind, Recovery, StoreStats};

use super::random::{index, one_of};
use super::{Answer, Driver, How, Op};
use crate::support::disk::{Fault, Operation, Reason, Torn};
use crate::support::{self, Numbers};

/// The number of recent events that are printed after a failure.
const RECENT: usize = 60;

/// Counts over a life.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) transitions: u64,
    pub(crate) reopened: u64,
    pub(crate) killed: u64,
    pub(crate) power_lost: u64,
    pub(crate) faults: u64,
    pub(crate) failed_calls: u64,
    /// The number of times that reopening failed once, because it might lose unflushed changes.
    pub(crate) told_of_losses: u64,
    pub(crate) folds: u64,
    pub(crate) seals: u64,
}

impl Tally {
    /// Adds the store's counters since it was opened.
    fn add(&mut self, stats: &StoreStats) {
        self.folds += stats.folds;
        self.seals += stats.seals;
    }
}

/// What the failure of the disk met.
enum Met {
    Nothing,
    /// The guard of a claim that an operation has ended was dropped, which does not report errors.
    Silence,
    Call(Op, datapool_store::Result<Answer>),
}

pub(crate) struct Life {
    driver: Driver,
    is_relaxed: bool,
    numbers: Numbers,
    tally: Tally,
    /// The latest operations, to help find the cause of a failure.
    recent: VecDeque<String>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.recent.iter().for_each(|event| eprintln!("{event}"));
        }
    }
}

impl Life {
    fn note(&mut self, event: String) {
        self.recent.push_back(event);
        self.recent.drain(..self.recent.len().saturating_sub(RECENT));
    }

    /// Creates an empty store. Its cache is small, so that reads reach the disk.
    pub(crate) fn new(durability: Durability, recovery: Recovery, numbers: Numbers) -> Self {
        let options = support::options().recovery(recovery).cache_size(64 << 10);
        let mut driver = Driver::new(durability, options, Sizes::SMALL);
        driver.run(&Op::Flush);
        Self {
            driver,
            is_relaxed: durability != Durability::Immediate,
            numbers,
            tally: Tally::default(),
            recent: VecDeque::new(),
        }
    }

    /// Runs until this many transitions were made, or the numbers are used up. Returns the counts.
    pub(crate) fn live(mut self, transitions: u64) -> Tally {
        while self.tally.transitions < transitions && !self.numbers.is_at_end() {
            self.step();
        }
        self.tally.add(&self.driver.store().stats().unwrap());
        self.driver.is_current();
        self.driver.answers_agree();
        self.driver.run(&Op::Verify);
        std::mem::take(&mut self.tally)
    }

    fn step(&mut self) {
        match self.numbers.next(100) {
            0 => self.crash(true),
            1 => self.crash(false),
            2..5 => self.meet_a_fault(),
            _ => {
                let op = self.driver.any_op(&mut self.numbers);
                self.tally.reopened += u64::from(matches!(op, Op::Reopen));
                self.tally.transitions += 1;
                self.note(format!("{op:?}"));
                self.driver.run(&op);
            }
        }
        if self.numbers.next(20) == 0 {
            self.driver.is_current();
        }
    }

    /// Runs operations until the disk fails, with a limit.
    fn until_it_fails(&mut self) -> Met {
        for _ in 0..30 {
            let op = self.driver.any_op(&mut self.numbers);
            self.tally.transitions += 1;
            let answer = self.driver.attempt(&op);
            self.note(format!("{op:?}: {answer:?}"));
            if self.driver.disk.failed() {
                return Met::Call(op, answer);
            }
            self.driver.acknowledged(&op, &answer.unwrap_or_else(|error| panic!("{op:?}: {error}")));
            if self.driver.disk.failed() {
                return Met::Silence;
            }
        }
        Met::Nothing
    }

    /// The process dies while it changes the disk. With a loss of power, unsynced changes arrive in part.
    fn crash(&mut self, loses_power: bool) {
        self.tally.add(&self.driver.store().stats().unwrap());
        let after = index(&mut self.numbers, 60);
        self.note(format!("a crash at change {after}; loses power: {loses_power}"));
        self.driver.disk.fail(Fault::power(after));
        if let Met::Call(op, _) = self.until_it_fails() {
            self.driver.unacknowledged(&op);
        }
        let image = if loses_power {
            self.driver.disk.after_a_loss_of_power(&mut self.numbers)
        } else {
            self.driver.disk.bytes()
        };
        self.driver.crash();
        self.driver.recover(image);
        let counted = if loses_power { &mut self.tally.power_lost } else { &mut self.tally.killed };
        *counted += 1;
    }

    /// The disk fails, and the store is opened again.
    fn meet_a_fault(&mut self) {
        self.tally.add(&self.driver.store().stats().unwrap());
        let fault = Fault {
            operation: one_of(
                &mut self.numbers,
                &[Operation::Read, Operation::Write, Operation::Sync, Operation::SetLen, Operation::Change],
            ),
            after: index(&mut self.numbers, 40),
            forever: self.numbers.next(2) == 0,
            torn: one_of(&mut self.numbers, &[Torn::Nothing, Torn::Half]),
            reason: one_of(&mut self.numbers, &[Reason::Broken, Reason::Full]),
        };
        self.note(format!("{fault:?}"));
        self.driver.disk.fail(fault);
        let met = self.until_it_fails();
        self.driver.disk.heal();
        let kinds = [ErrorKind::Storage, ErrorKind::StorageFull, ErrorKind::OutcomeUnknown];
        match met {
            Met::Nothing => return,
            Met::Silence => {}
            // Dropping a claim's guard does not report errors.
            Met::Call(op @ Op::Settle { how: How::Drop, .. }, Ok(_)) => self.driver.unacknowledged(&op),
            Met::Call(op, Ok(answer)) => self.driver.acknowledged(&op, &answer),
            Met::Call(op, Err(error)) => {
                assert!(kinds.contains(&error.kind()), "{op:?}, {fault:?}: {error:?}");
                self.tally.failed_calls += 1;
                self.driver.unacknowledged(&op);
            }
        }
        self.tally.faults += 1;
        if let Err(error) = self.driver.store().reopen() {
            assert!(self.is_relaxed && kinds.contains(&error.kind()), "{error:?}");
            self.tally.told_of_losses += 1;
            self.driver.store().reopen().unwrap();
        }
        self.driver.is_a_survivor();
        self.driver.answers_agree();
    }
}
