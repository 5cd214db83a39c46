//! Proves that any single read, write, sync or change of length may fail, in any operation, with EIO or
//! ENOSPC. The error is one of the storage kinds, reads continue as before, and after opening the store again
//! the operation has either happened or not.
//!
//! Each operation runs on a copy of the same store, once for each of its calls to the disk.

use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{Durability, ErrorKind, Mode, OnDuplicate, Origin, Version};

use crate::support;
use crate::support::disk::{Fault, Operation, Reason, TestDisk, Torn};
use crate::support::items::{Asked, content};
use crate::workload::filter::{ClaimsFilter, Filter};
use crate::workload::random::item;
use crate::workload::{Driver, How, Named, Op, Resting};

/// Returns a store with folds, seals and deletions, and two claims of one owner; with its pool and its first
/// claim.
fn store(cache: usize) -> (Resting, u64, u64) {
    let options = support::options().cache_size(cache);
    let mut driver = Driver::new(Durability::Immediate, options, Sizes::SMALL);
    let pool = 1;
    driver.run(&Op::Create { name: "orders".into(), retention: None, capacity: None });
    driver.run(&Op::PutFlow { id: "flow 1".into(), name: "one".into() });
    let origin = || Origin::new(1_u64, 2_u64, 0_u64);
    for start in [0, 30, 60, 90] {
        let items = asked(start, start + 30, 1);
        driver.run(&Op::Dedupe { pool, mode: Mode::Track, firsts: false, items, origin: origin() });
    }
    driver.run(&Op::DeleteKeys { pool, items: (3..20).map(item).collect() });
    // The first claim has changed items, too.
    for (id, start) in [(1, 115), (2, 210)] {
        let (items, lease) = (asked(start, start + 10, 2), Duration::from_mins(1));
        driver.run(&Op::Claim { pool, id, items, origin: origin(), lease, owner: Some("worker".into()) });
    }
    (driver.rest(true), pool, 1)
}

/// Returns items, two thirds of which have a version.
fn asked(from: u64, to: u64, generation: u8) -> Vec<Asked> {
    let version = |number: u64| match number % 3 {
        0 => None,
        1 => Some(content(generation)),
        _ => Some(Version::Ordinal(generation.into())),
    };
    (from..to).map(|number| Asked { item: item(number), version: version(number) }).collect()
}

fn operations(pool: u64, claim: u64) -> Vec<Op> {
    let items = |from, to| (from..to).map(item).collect::<Vec<_>>();
    let origin = Origin::new(2_u64, 3_u64, 1_u64);
    let dedupe =
        |mode| Op::Dedupe { pool, mode, firsts: false, items: asked(100, 160, 3), origin: origin.clone() };
    let settle = |how| Op::Settle { pool, claim, how };
    let update = |retention, capacity| {
        let (name, description) = (Some("renamed".to_owned()), Some(Some("text".to_owned())));
        Op::Update { pool, name, description, retention, capacity }
    };
    let import = |policy, every| Op::Import { pool, items: asked(110, 240, 4), policy, every };
    vec![
        Op::Create { name: "another".into(), retention: None, capacity: Some(9) },
        update(Some(Some(Duration::from_mins(1))), None),
        update(None, Some(Some(20))),
        Op::Delete { pool },
        dedupe(Mode::Filter),
        dedupe(Mode::Track),
        dedupe(Mode::FilterAndTrack),
        Op::Claim {
            pool,
            id: 3,
            items: asked(100, 150, 5),
            origin: origin.clone(),
            lease: Duration::from_mins(1),
            owner: None,
        },
        Op::TakeUp { pool, owner: "worker".into() },
        Op::ReleaseClaims { pool, filter: ClaimsFilter::default() },
        settle(How::Confirm),
        settle(How::ConfirmSome(vec![0, 3], Named::ByIndex)),
        settle(How::ConfirmWith(3)),
        settle(How::Release),
        settle(How::ReleaseSome(vec![1, 2], Named::ByIndex)),
        settle(How::Drop),
        settle(How::Extend(Duration::from_mins(2))),
        settle(How::HandOver),
        settle(How::Store),
        Op::DeleteRecords { pool, ids: vec![30, 31, 70] },
        Op::DeleteKeys { pool, items: items(50, 90) },
        Op::DeleteWhere { pool, filter: Filter { runs: vec![2], ..Filter::default() } },
        Op::Clear { pool },
        import(OnDuplicate::Add, None),
        import(OnDuplicate::Skip, Some(40)),
        Op::PutFlow { id: "flow 2".into(), name: "two".into() },
        Op::DeleteFlow { id: "flow 1".into() },
        Op::Prune { pool: Some(pool) },
        Op::Rebuild,
        Op::Compact,
        Op::Vacuum,
        Op::DeleteInAll { filter: Filter { values: vec![item(205).value], ..Filter::default() } },
        Op::Verify,
        Op::Reopen,
    ]
}

/// Returns true if reading continues as before after the operation failed.
fn leaves_reads_alone(op: &Op) -> bool {
    // Reopening closes the store. Verifying, rebuilding, compacting and vacuuming evict it from the cache.
    // Parts of an import stay.
    !matches!(
        op,
        Op::Reopen | Op::Verify | Op::Rebuild | Op::Compact | Op::Vacuum | Op::Import { every: Some(_), .. }
    )
}

/// Runs an operation with a fault. Returns true if the fault was reached.
fn run(resting: &Resting, op: &Op, fault: Fault) -> bool {
    let mut driver = resting.wake(TestDisk::holding(resting.bytes.clone())).unwrap();
    driver.is_current();
    driver.disk.fail(fault);
    let answer = driver.attempt(op);
    let failed = driver.disk.failed();
    driver.disk.heal();
    let is_silent = matches!(op, Op::Settle { how: How::Drop, .. });
    match answer {
        Ok(_) if failed && is_silent => driver.unacknowledged(op),
        Ok(answer) => driver.acknowledged(op, &answer),
        Err(error) => {
            assert!(failed, "{op:?}: {error}");
            let kinds = [ErrorKind::Storage, ErrorKind::StorageFull, ErrorKind::OutcomeUnknown];
            assert!(kinds.contains(&error.kind()), "{op:?}, {fault:?}: {error:?}");
            if fault.operation != Operation::Read && leaves_reads_alone(op) {
                // The whole store is in the cache.
                assert!(driver.is_current_or_a_part(op), "reading fails after {op:?}, {fault:?}");
            } else {
                let _ = driver.is_current_or_a_part(op);
            }
            driver.unacknowledged(op);
        }
    }
    driver.store().reopen().unwrap();
    driver.is_a_survivor();
    driver.answers_agree();
    driver.run(&Op::Verify);
    failed
}

fn fail_each(operation: Operation) {
    let (resting, pool, claim) = store(if operation == Operation::Read { 0 } else { 16 << 20 });
    // Each call of the operation to the disk, or a selection of them.
    let step = usize::try_from(support::runs(if operation == Operation::Read { 11 } else { 3 }, 1)).unwrap();
    let mut met = 0;
    for op in operations(pool, claim) {
        for reason in [Reason::Broken, Reason::Full] {
            let fault = |after| Fault { operation, after, forever: false, torn: Torn::Half, reason };
            let mut after = 0;
            while run(&resting, &op, fault(after)) {
                after += step;
            }
            met += after / step;
        }
    }
    println!("{operation:?}: {met} faults");
    assert!(met > 0);
}

#[test]
fn any_read_of_any_operation_may_fail() {
    fail_each(Operation::Read);
}

#[test]
fn any_write_of_any_operation_may_fail() {
    fail_each(Operation::Write);
}

#[test]
fn any_sync_of_any_operation_may_fail() {
    fail_each(Operation::Sync);
}

#[test]
fn any_change_of_the_length_may_fail() {
    fail_each(Operation::SetLen);
}
