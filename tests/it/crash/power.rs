//! Proves that a loss of power at any moment loses nothing that was acknowledged, neither completely nor in
//! part.
//!
//! Random operations of every kind run on a simulated disk at small segment sizes. At a random write, sync or
//! change of length, the power fails. Of the unsynced data, any 512-byte sectors are on the disk, in any of
//! the written versions, and the disk has any of its lengths since the last sync. Half of the runs lose power
//! again while the store is being recovered, at any change that this makes. The state found must be one of
//! the model. With `Immediate`, it is the state after the last acknowledged operation or after the
//! interrupted one. With `Relaxed`, it is the state after any operation since the last flush, or since a
//! claim was last granted or settled. `verify` must find nothing, and the store must continue to work.
//!
//! `DATAPOOL_POWER_RUNS` sets the number of runs (2,000), and `DATAPOOL_POWER_SEED` the seed of the first
//! one. A failing run prints its seed.

use datapool_store::testing::Sizes;
use datapool_store::{Durability, Recovery, StoreStats};

use crate::support::disk::{Fault, TestDisk};
use crate::support::{self, Numbers, Seed, from_environment};
use crate::workload::{Driver, Op, RELAXED};

/// Counts over all runs.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    operations: u64,
    cut: u64,
    cut_again: u64,
    folds: u64,
    seals: u64,
    dropped: u64,
}

impl Tally {
    fn add(&mut self, stats: &StoreStats) {
        self.folds += stats.folds;
        self.seals += stats.seals;
        self.dropped += stats.segments_dropped;
    }
}

fn sizes(numbers: &mut Numbers) -> Sizes {
    let small = [
        Sizes::SMALL,
        Sizes {
            segment_slots: 32,
            chunk_slots: 8,
            fold_entries: 8,
            tails_max_entries: 24,
            early_seal_slots: 8,
            ..Sizes::SMALL
        },
        Sizes {
            segment_slots: 48,
            chunk_slots: 16,
            fold_entries: 24,
            fold_slices: 6,
            tails_max_entries: 40,
            early_seal_slots: 4,
        },
    ];
    small[usize::try_from(numbers.next(3)).unwrap()]
}

/// Runs operations until the power fails.
fn run_until_cut(driver: &mut Driver, numbers: &mut Numbers, tally: &mut Tally) {
    let (last, reach) = (2 + numbers.next(50), [6, 25, 80][usize::try_from(numbers.next(3)).unwrap()]);
    for number in 0..last + 10 {
        if number == last {
            tally.add(&driver.store().stats().unwrap());
            driver.disk.fail(Fault::power(usize::try_from(numbers.next(reach)).unwrap()));
        }
        let op = driver.any_op(numbers);
        tally.operations += 1;
        let answer = driver.attempt(&op);
        if driver.disk.failed() {
            driver.unacknowledged(&op);
            tally.cut += 1;
            return;
        }
        driver.acknowledged(&op, &answer.unwrap_or_else(|error| panic!("{op:?}: {error}")));
    }
}

/// Loses power again while the image is being recovered. Returns what is left.
fn cut_again(driver: &Driver, image: Vec<u8>, numbers: &mut Numbers, tally: &mut Tally) -> Vec<u8> {
    let rehearsal = TestDisk::holding(image.clone());
    let store = driver.open_on(&rehearsal).unwrap();
    let changes = rehearsal.changes();
    drop(store);
    if changes == 0 {
        return image;
    }
    let disk = TestDisk::holding(image);
    disk.fail(Fault::power(usize::try_from(numbers.next(changes as u64)).unwrap()));
    drop(driver.open_on(&disk));
    assert!(disk.failed(), "recovery makes the same changes each time");
    tally.cut_again += 1;
    disk.after_a_loss_of_power(numbers)
}

fn run(seed: u64, durability: Durability, recovery: Recovery, tally: &mut Tally) {
    let _seed = Seed("DATAPOOL_POWER_SEED", seed);
    let mut numbers = Numbers::seeded(seed);
    let cache = [0, 64 << 10, 16 << 20][usize::try_from(numbers.next(3)).unwrap()];
    let options = support::options().recovery(recovery).cache_size(cache);
    let mut driver = Driver::new(durability, options, sizes(&mut numbers));
    driver.run(&Op::Create { name: "orders".into(), retention: None, capacity: None });
    driver.run(&Op::Flush);
    // Half of the runs lose power twice, the second time in a recovered store.
    for _ in 0..=numbers.next(2) {
        run_until_cut(&mut driver, &mut numbers, tally);
        let mut image = driver.disk.after_a_loss_of_power(&mut numbers);
        driver.crash();
        if numbers.next(2) == 0 {
            image = cut_again(&driver, image, &mut numbers, tally);
        }
        driver.recover(image);
    }
    for _ in 0..4 {
        let op = driver.any_op(&mut numbers);
        driver.run(&op);
    }
    driver.run(&Op::Reopen);
    driver.is_current();
    driver.run(&Op::Verify);
    tally.runs += 1;
}

/// Runs a quarter of all runs.
fn run_all(durability: Durability, recovery: Recovery) {
    let runs =
        from_environment("DATAPOOL_POWER_RUNS").unwrap_or_else(|| support::runs(240, 2_000)).div_ceil(4);
    let first = from_environment("DATAPOOL_POWER_SEED").unwrap_or(1);
    let mut tally = Tally::default();
    for seed in first..first + runs {
        run(seed, durability, recovery, &mut tally);
    }
    println!("{durability:?}, {recovery:?}: {tally:?}");
    if runs >= 100 {
        // Otherwise the test would prove less than it claims.
        assert!(tally.cut > runs && tally.cut_again > runs / 3, "{tally:?}");
        assert!(tally.folds > runs && tally.seals > runs / 4 && tally.dropped > runs / 10, "{tally:?}");
    }
}

#[test]
fn what_an_immediate_store_acknowledged_survives_a_loss_of_power() {
    run_all(Durability::Immediate, Recovery::Rebuild);
}

#[test]
fn what_an_immediate_store_with_instant_recovery_acknowledged_survives_a_loss_of_power() {
    run_all(Durability::Immediate, Recovery::Instant);
}

#[test]
fn a_loss_of_power_takes_from_a_relaxed_store_no_more_than_what_came_after_the_last_flush() {
    run_all(RELAXED, Recovery::Rebuild);
}

#[test]
fn a_loss_of_power_takes_from_a_relaxed_store_with_instant_recovery_no_more_than_what_came_after_the_last_flush()
 {
    run_all(RELAXED, Recovery::Instant);
}
