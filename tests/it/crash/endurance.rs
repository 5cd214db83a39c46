//! Proves that a store stays right through a long life: one file, thousands of transitions, among them crashes and faults.
//!
//! Random operations of every kind run on a simulated disk at small segment sizes, beside a model. Among them the store is
//! opened again; the process is killed or the power lost, in the middle of an operation; any read, write, sync or growth
//! fails, once or until the store is opened again. Whatever happened, the store goes on from what it then holds, which must be
//! a state that its durability allows. So what one recovery left crooked, all that follows must live with.
//!
//! `DATAPOOL_TRANSITIONS` says how many for each durability and recovery (1,500), `DATAPOOL_ENDURANCE_SEED` with which seed.

use std::collections::VecDeque;

use datapool_store::testing::Sizes;
use datapool_store::{Durability, ErrorKind, Recovery, StoreStats};

use crate::model::workload::random::{index, one_of};
use crate::model::workload::{Driver, How, Op, RELAXED};
use crate::support::disk::{Fault, Operation, Reason, Torn};
use crate::support::{self, Numbers, Seed, from_environment};

/// How many of the last events are told if it fails.
const RECENT: usize = 60;

/// What a life came to.
#[derive(Debug, Default)]
struct Tally {
    transitions: u64,
    reopened: u64,
    killed: u64,
    power_lost: u64,
    faults: u64,
    failed_calls: u64,
    /// How often opening again refused once, since it may lose what was not flushed.
    told_of_losses: u64,
    folds: u64,
    seals: u64,
}

impl Tally {
    /// Counts what the store says of its time since it was opened.
    fn add(&mut self, stats: &StoreStats) {
        self.folds += stats.folds;
        self.seals += stats.seals;
    }
}

struct Life {
    driver: Driver,
    is_relaxed: bool,
    numbers: Numbers,
    tally: Tally,
    /// What was done last, for whoever must find out what went wrong.
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

    /// Runs operations until the disk fails one, but not for ever. That one, and what it answered.
    fn until_it_fails(&mut self) -> Option<(Op, datapool_store::Result<crate::model::workload::Answer>)> {
        for _ in 0..30 {
            let op = self.driver.any_op(&mut self.numbers);
            self.tally.transitions += 1;
            let answer = self.driver.attempt(&op);
            self.note(format!("{op:?}: {answer:?}"));
            if self.driver.disk.failed() {
                return Some((op, answer));
            }
            self.driver.acknowledged(&op, &answer.unwrap_or_else(|error| panic!("{op:?}: {error}")));
        }
        None
    }

    /// The process dies while it changes the disk; if the power goes too, what was not synced arrives in part.
    fn crash(&mut self, loses_power: bool) {
        self.tally.add(&self.driver.store().stats().unwrap());
        let after = index(&mut self.numbers, 60);
        self.note(format!("a crash at change {after}; loses power: {loses_power}"));
        self.driver.disk.fail(Fault::power(after));
        if let Some((op, _)) = self.until_it_fails() {
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

    /// The disk fails; whoever uses the store opens it again.
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
        let Some((op, answer)) = met else { return };
        self.tally.faults += 1;
        // Dropping a claim's guard says nothing of what went wrong.
        let is_silent = matches!(op, Op::Settle { how: How::Drop, .. });
        let kinds = [ErrorKind::Storage, ErrorKind::StorageFull, ErrorKind::OutcomeUnknown];
        match answer {
            Ok(answer) if !is_silent => self.driver.acknowledged(&op, &answer),
            Ok(_) => self.driver.unacknowledged(&op),
            Err(error) => {
                assert!(kinds.contains(&error.kind()), "{op:?}, {fault:?}: {error:?}");
                self.tally.failed_calls += 1;
                self.driver.unacknowledged(&op);
            }
        }
        if let Err(error) = self.driver.store().reopen() {
            assert!(self.is_relaxed && kinds.contains(&error.kind()), "{error:?}");
            self.tally.told_of_losses += 1;
            self.driver.store().reopen().unwrap();
        }
        self.driver.is_a_survivor();
        self.driver.answers_agree();
    }
}

fn live(durability: Durability, recovery: Recovery) {
    let transitions = from_environment("DATAPOOL_TRANSITIONS").unwrap_or(1_500);
    let seed = from_environment("DATAPOOL_ENDURANCE_SEED").unwrap_or(1);
    let _seed = Seed("DATAPOOL_ENDURANCE_SEED", seed);
    // Reads reach the disk: pages have little room in memory.
    let options = support::options().recovery(recovery).cache_size(64 << 10);
    let mut driver = Driver::new(durability, options, Sizes::SMALL);
    driver.run(&Op::Flush);
    let mut life = Life {
        driver,
        is_relaxed: durability != Durability::Immediate,
        numbers: Numbers::seeded(seed),
        tally: Tally::default(),
        recent: VecDeque::new(),
    };
    while life.tally.transitions < transitions {
        life.step();
    }
    life.tally.add(&life.driver.store().stats().unwrap());
    life.driver.is_current();
    life.driver.answers_agree();
    life.driver.run(&Op::Verify);
    println!("{durability:?}, {recovery:?}: {:?}", life.tally);
    if transitions >= 1_000 {
        // Otherwise this proves less than it says.
        let Tally { reopened, killed, power_lost, faults, failed_calls, folds, seals, .. } = life.tally;
        let rare = [reopened, killed, power_lost, faults, failed_calls].into_iter().min().unwrap();
        assert!(rare > transitions / 500 && folds > transitions / 20 && seals > transitions / 100);
    }
}

#[test]
fn an_immediate_store_stays_right_through_crashes_and_faults() {
    live(Durability::Immediate, Recovery::Rebuild);
}

#[test]
fn an_immediate_store_with_instant_recovery_stays_right_through_crashes_and_faults() {
    live(Durability::Immediate, Recovery::Instant);
}

#[test]
fn a_relaxed_store_stays_right_through_crashes_and_faults() {
    live(RELAXED, Recovery::Rebuild);
}

#[test]
fn a_relaxed_store_with_instant_recovery_stays_right_through_crashes_and_faults() {
    live(RELAXED, Recovery::Instant);
}
