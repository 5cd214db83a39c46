//! Proves that a vacuum that is interrupted at any step, by a loss of power, a killed process or a full disk,
//! leaves a store that opens with all live data.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use datapool_store::testing::Sizes;
use datapool_store::{Durability, Key, Mode, Origin, Recovery};

use super::durability::{STORE, child_of};
use crate::support::disk::{Fault, Keeping, TestDisk};
use crate::support::{self, Numbers, ORDERS};
use crate::workload::random::item;
use crate::workload::{Driver, How, Named, Op, RELAXED};

/// Returns a store with dead records, a claim that has lost an item, and a partly settled claim.
fn driver(durability: Durability, recovery: Recovery) -> Driver {
    let mut driver = Driver::new(durability, support::options().recovery(recovery), Sizes::SMALL);
    driver.run(&Op::Create { name: "orders".into(), retention: None, capacity: None });
    driver.run(&Op::Create { name: "small".into(), retention: None, capacity: Some(20) });
    let origin = || Origin::new(1_u64, 2_u64, 0_u64);
    for pool in [1, 2] {
        for start in [0, 50, 100] {
            let items = (start..start + 50).map(|number| item(number).into()).collect();
            driver.run(&Op::Dedupe { pool, mode: Mode::Track, firsts: false, items, origin: origin() });
        }
        driver.run(&Op::DeleteKeys { pool, items: (60..145).map(item).collect() });
        let (id, items) = (pool, (200..210).map(|number| item(number).into()).collect());
        let lease = std::time::Duration::from_mins(1);
        driver.run(&Op::Claim { pool, id, items, origin: origin(), lease, owner: None });
        driver.run(&Op::Settle { pool, claim: id, how: How::ConfirmSome(vec![0, 3], Named::ByIndex) });
        driver.run(&Op::DeleteInAll { filter: value_of(205) });
    }
    driver
}

fn value_of(number: u64) -> crate::workload::filter::Filter {
    crate::workload::filter::Filter { values: vec![item(number).value], ..Default::default() }
}

/// Returns true if the power failed before the vacuum had ended.
fn lose_power(durability: Durability, recovery: Recovery, after: usize, numbers: &mut Numbers) -> bool {
    let mut driver = driver(durability, recovery);
    driver.disk.fail(Fault::power(after));
    let answer = driver.attempt(&Op::Vacuum);
    let failed = driver.disk.failed();
    if failed {
        driver.unacknowledged(&Op::Vacuum);
    } else {
        driver.acknowledged(&Op::Vacuum, &answer.unwrap());
    }
    let image = driver.disk.after_a_loss_of_power(numbers);
    driver.crash();
    driver.recover(image);
    driver.run(&Op::Vacuum);
    driver.is_current();
    driver.run(&Op::Verify);
    failed
}

#[test]
fn a_loss_of_power_at_any_step_of_a_vacuum_loses_nothing() {
    let mut numbers = Numbers::seeded(1);
    let step = support::runs(5, 1) as usize;
    for (durability, recovery) in [
        (Durability::Immediate, Recovery::Rebuild),
        (Durability::Immediate, Recovery::Instant),
        (RELAXED, Recovery::Rebuild),
    ] {
        let mut after = 0;
        while lose_power(durability, recovery, after, &mut numbers) {
            after += step;
        }
        assert!(after > 10, "{after} steps");
    }
}

#[test]
fn a_vacuum_on_a_full_disk_leaves_the_old_file_in_use() {
    for room in [0, 16 << 10, 40 << 10] {
        let disk = TestDisk::default();
        let store = disk.open(&support::options()).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        support::track(&pool, &support::numbered("A", 2_000));
        pool.delete_records([5]).unwrap();
        disk.leave_room(room, Keeping::Yes);
        let before = disk.taken();
        let error = store.vacuum().unwrap_err();
        assert_eq!(error.kind(), datapool_store::ErrorKind::StorageFull, "{error}");
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(support::values(&pool).len(), 1_999);
        assert_eq!(pool.delete_records([6]).unwrap(), 1);
        assert!(disk.taken() <= before + (64 << 10));
        disk.leave_room(64 << 20, Keeping::Yes);
        assert_eq!(store.vacuum().unwrap().records, 1_998);
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

fn values_of(round: u64, kind: &str) -> Vec<String> {
    (0..20).map(|number| format!("{kind} {round}/{number}")).collect()
}

/// This is not a test by itself, but the process that the test below kills.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_vacuums() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let store = support::embedded::open(path.as_ref(), &support::options(), Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let first = pool.stats().unwrap().newest.map_or(0, |newest| newest.as_micros().cast_unsigned());
    for round in first.. {
        assert_eq!(support::track(&pool, &values_of(round, "live")), 20);
        let dead = values_of(round, "dead");
        support::track(&pool, &dead);
        let keys: Vec<Key<'_>> = dead.iter().map(|value| Key::new(ORDERS, value.as_str())).collect();
        assert_eq!(pool.delete_keys(&keys).unwrap(), 20);
        println!("\nhas {round}");
        store.vacuum().unwrap();
        println!("\nvacuumed {round}");
    }
}

/// Kills a child after this many lines. Returns the rounds that it has acknowledged.
fn kill_after(lines: usize, path: &Path) -> Vec<u64> {
    let mut child = child_of("crash::vacuum::child_process_vacuums", path, &[]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut acknowledged, mut told, mut line) = (vec![], 0, String::new());
    while out.read_line(&mut line).unwrap() > 0 {
        if line.ends_with('\n') && (line.starts_with("has ") || line.starts_with("vacuumed ")) {
            told += 1;
            let round = line.strip_prefix("has ").map(|round| round.trim_end().parse::<u64>().unwrap());
            acknowledged.extend(round);
        }
        if told == lines {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(told >= lines, "the child ended by itself");
    acknowledged
}

#[test]
fn a_process_that_is_killed_while_it_vacuums_leaves_everything_that_is_live() {
    let place = support::Place::new();
    drop(place.open());
    let (mut numbers, mut live) = (Numbers::seeded(5), BTreeSet::new());
    for _ in 0..support::runs(6, 40) {
        // With an odd number, the child is most likely in the middle of a vacuum.
        let acknowledged = kill_after(1 + 2 * numbers.next(6) as usize, &place.path);
        live.extend(acknowledged.into_iter().flat_map(|round| values_of(round, "live")));
        let store = place.open();
        let pool = store.pool_named("orders").unwrap();
        let found: BTreeSet<String> = support::values(&pool).into_iter().collect();
        assert!(live.is_subset(&found), "{:?} are lost", live.difference(&found).collect::<Vec<_>>());
        assert_eq!(store.verify().unwrap().findings, []);
        // Values that were not acknowledged may be there, too.
        live = found.into_iter().filter(|value| value.starts_with("live")).collect();
        store.vacuum().unwrap();
        let names = fs::read_dir(place.path.parent().unwrap()).unwrap();
        assert_eq!(names.count(), 1, "the left-over files of the killed process are gone");
    }
}
