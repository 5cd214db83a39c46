//! Proves that a store stays right through a long life: one file, thousands of transitions, with crashes and
//! faults among them.
//!
//! Random operations of every kind run on a simulated disk with small segments, next to a model. In between,
//! the store is opened again; the process is killed or the power is lost in the middle of an operation; and
//! any read, write, sync or growth fails, once or until the store is opened again. In each case, the store
//! continues with the state that it then has, which must be one that its durability allows. So an error in
//! one recovery affects everything that follows.
//!
//! `DATAPOOL_TRANSITIONS` sets the number of transitions for each durability and recovery (1,500), and
//! `DATAPOOL_ENDURANCE_SEED` the seed.

use datapool_store::{Durability, Recovery};

use crate::support::{Numbers, Seed, from_environment};
use crate::workload::RELAXED;
use crate::workload::life::{Life, Tally};

fn live(durability: Durability, recovery: Recovery) {
    let transitions = from_environment("DATAPOOL_TRANSITIONS").unwrap_or(1_500);
    let seed = from_environment("DATAPOOL_ENDURANCE_SEED").unwrap_or(1);
    let _seed = Seed("DATAPOOL_ENDURANCE_SEED", seed);
    let tally = Life::new(durability, recovery, Numbers::seeded(seed)).live(transitions);
    println!("{durability:?}, {recovery:?}: {tally:?}");
    if transitions >= 1_000 {
        // Otherwise the test would prove less than it claims.
        let Tally { reopened, killed, power_lost, faults, failed_calls, folds, seals, .. } = tally;
        let rare = [reopened, killed, power_lost, faults, failed_calls].into_iter().min().unwrap();
        assert!(rare > transitions / 1_000 && folds > transitions / 20 && seals > transitions / 100);
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
