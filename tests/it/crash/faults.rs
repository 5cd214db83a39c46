//! Proves that a failing disk affects only the call that it fails: the store never panics and never answers
//! wrongly, refuses to write once it does not know what is on disk, and has everything acknowledged when it
//! is opened again, after a single failed call as well as after a loss of power.
//!
//! Every write, sync and resize of a small workload is made to fail in turn.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use datapool_store::{
    DataPoolStore, Durability, ErrorKind, ImportOptions, Key, Mode, Pool, RecordFilter, Result, StoreOptions,
    Verdict,
};

use crate::support::disk::{Fault, Operation, Reason, TestDisk, Torn};
use crate::support::{self, ORDERS};

type Values = BTreeSet<String>;

/// One call of the workload.
#[derive(Debug, Clone, Copy)]
enum Call {
    Track(u32, u32),
    Delete(u32, u32),
    Import(u32, u32),
    /// Claims, then confirms.
    Claim(u32, u32),
    Prune,
    Clear,
}

/// Reaches tails, folds, seals, deletions, imports, claims and dropped segments.
const CALLS: [Call; 18] = [
    Call::Track(0, 5),
    Call::Track(3, 12),
    Call::Track(12, 30),
    Call::Delete(4, 8),
    Call::Claim(2, 10),
    Call::Track(6, 40),
    Call::Import(50, 90),
    Call::Track(80, 160),
    Call::Delete(60, 130),
    Call::Prune,
    Call::Claim(100, 130),
    Call::Track(160, 165),
    Call::Clear,
    Call::Track(0, 10),
    Call::Track(10, 90),
    Call::Track(90, 95),
    Call::Delete(0, 50),
    Call::Claim(20, 70),
];

fn value(number: u32) -> String {
    format!("A-{number}")
}

impl Call {
    fn values(self) -> Vec<String> {
        match self {
            Self::Track(from, to)
            | Self::Delete(from, to)
            | Self::Import(from, to)
            | Self::Claim(from, to) => (from..to).map(value).collect(),
            Self::Prune | Self::Clear => Vec::new(),
        }
    }

    fn make(self, pool: &Pool) -> Result<()> {
        let values = self.values();
        match self {
            Self::Track(..) => {
                let key = |value: &'_ String| Key::new(ORDERS, value.clone());
                pool.dedupe(Mode::Track, &values, key, &support::origin()).map(drop)
            }
            Self::Delete(..) => {
                let keys: Vec<Key<'_>> =
                    values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect();
                pool.delete_keys(&keys).map(drop)
            }
            Self::Import(..) => {
                let rows: String = values.iter().map(|value| format!("{value},37\n")).collect();
                let file = format!("value,entity_type_id\n{rows}");
                pool.import_csv(file.as_bytes(), &ImportOptions::new()).map(drop)
            }
            Self::Claim(..) => {
                let key = |value: &'_ String| Key::new(ORDERS, value.clone());
                let lease = std::time::Duration::from_mins(1);
                let mut claim = pool.claim(&values, key, &support::origin(), lease)?;
                claim.confirm()?.all_confirmed()
            }
            Self::Prune => pool.prune().map(drop),
            Self::Clear => pool.clear().map(drop),
        }
    }

    /// Returns the live values after the call.
    fn model(self, mut live: Values) -> Values {
        match self {
            Self::Track(..) | Self::Import(..) | Self::Claim(..) => live.extend(self.values()),
            Self::Delete(..) => live.retain(|value| !self.values().contains(value)),
            Self::Prune => {}
            Self::Clear => live.clear(),
        }
        live
    }
}

/// Looks up the values in every way. Each answer must be right for these values, or an error.
fn answers_are_those_of(pool: &Pool, live: &Values, context: &str) {
    let asked: Vec<String> = (0..170).map(value).collect();
    let keys: Vec<Key<'_>> = asked.iter().map(|value| Key::new(ORDERS, value.as_str())).collect();
    let expected: Vec<bool> = asked.iter().map(|value| live.contains(value)).collect();
    if let Ok(found) = pool.contains_many(&keys) {
        assert_eq!(found, expected, "{context}");
    }
    for (key, expected) in keys.iter().zip(&expected) {
        if let Ok(found) = pool.contains(key.clone()) {
            assert_eq!(found, *expected, "{key:?}, {context}");
        }
    }
    if let Ok(found) = pool.lookup(&keys) {
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), expected, "{context}");
    }
    if let Ok(count) = pool.count(&RecordFilter::new().flow_id("shop")) {
        assert!(count <= live.len() as u64, "{context}");
    }
    if let Ok(records) = pool.scan(&RecordFilter::new()).and_then(Iterator::collect::<Result<Vec<_>>>) {
        assert_eq!(records.into_iter().map(|record| record.value).collect::<Values>(), *live, "{context}");
    }
}

/// The state after a run of the workload.
struct Run {
    disk: TestDisk,
    /// The values that were acknowledged.
    live: Values,
    /// The values if the call with the unknown outcome did reach the disk.
    pending: Option<Values>,
}

/// Runs the workload on a disk that will fail, and reads after each failed call.
fn run(fault: Fault) -> Run {
    let disk = TestDisk::default();
    let store = disk.open(&support::options()).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let mut run = Run { disk: disk.clone(), live: Values::new(), pending: None };
    disk.fail(fault);
    for call in CALLS {
        let context = format!("{fault:?}, at {call:?}");
        match call.make(&pool) {
            Ok(()) => {
                assert!(run.pending.is_none(), "a write after an unknown outcome, {context}");
                run.live = call.model(run.live);
            }
            Err(error) => {
                assert!(disk.failed(), "{context}: {error}");
                match error.kind() {
                    ErrorKind::OutcomeUnknown if run.pending.is_none() => {
                        run.pending = Some(call.model(run.live.clone()));
                    }
                    ErrorKind::OutcomeUnknown => {}
                    ErrorKind::Storage | ErrorKind::StorageFull => {
                        assert!(run.pending.is_none(), "{error} after an unknown outcome, {context}");
                    }
                    kind => panic!("{kind:?}: {error}, {context}"),
                }
                answers_are_those_of(&pool, &run.live, &context);
                // The whole store is in the cache, so reading continues here.
                let found = support::values(&pool).into_iter().collect::<Values>();
                assert_eq!(found, run.live, "{context}");
            }
        }
    }
    run
}

/// Opens the current contents of the disk, and what may be left after a loss of power.
fn reopened_it_has_what_it_must(run: &Run, context: &str) {
    for (number, image) in run.disk.images().into_iter().enumerate() {
        let disk = TestDisk::holding(image);
        let store = match disk.open(&support::options()) {
            Ok(store) => store,
            Err(error) => panic!("image {number}, {context}: {error}"),
        };
        let pool = store.pool_named("orders").unwrap();
        let found: Values = support::values(&pool).into_iter().collect();
        let whole = found == run.live || run.pending.as_ref() == Some(&found);
        assert!(
            whole,
            "image {number}, {context}: {found:?}; acknowledged are {:?}, pending {:?}",
            run.live, run.pending
        );
        answers_are_those_of(&pool, &found, context);
        // Remaining claims hold values that are not tracked, and they end.
        for claim in pool.claims().unwrap() {
            assert!(claim.items > 0, "{claim:?}, {context}");
        }
        let asked: Vec<String> = (0..170).map(value).collect();
        let key = |value: &'_ String| Key::new(ORDERS, value.clone());
        let verdicts = pool.dedupe(Mode::Filter, &asked, key, &support::origin()).unwrap();
        for (value, verdict) in asked.iter().zip(verdicts.as_slice()) {
            assert_eq!(
                *verdict == Verdict::Duplicate,
                found.contains(value),
                "{value}: {verdict:?}, {context}"
            );
        }
        assert_eq!(support::track(&pool, &["after all"]), 1);
        assert!(support::has(&pool, "after all"));
    }
}

/// Fails the first, the second, ... operation of the kind, until the workload has no more of them.
fn fail_each(operation: Operation, forever: bool, torn: Torn) -> usize {
    for after in 0.. {
        let fault = Fault { operation, after, forever, torn, reason: Reason::Broken };
        let run = run(fault);
        reopened_it_has_what_it_must(&run, &format!("{fault:?}"));
        if !run.disk.failed() {
            return after;
        }
    }
    0
}

#[test]
fn a_failing_write_fails_its_call_alone() {
    assert!(fail_each(Operation::Write, false, Torn::Nothing) > CALLS.len());
}

#[test]
fn a_torn_write_and_a_dead_disk_lose_nothing_acknowledged() {
    assert!(fail_each(Operation::Write, true, Torn::Half) > CALLS.len());
}

#[test]
fn a_failing_sync_leaves_the_outcome_to_be_found_on_reopening() {
    for forever in [false, true] {
        assert!(fail_each(Operation::Sync, forever, Torn::Nothing) >= CALLS.len());
    }
}

#[test]
fn a_disk_that_does_not_grow_fails_the_call_that_needs_it() {
    for forever in [false, true] {
        assert!(fail_each(Operation::SetLen, forever, Torn::Nothing) > 0);
    }
}

/// Data that the disk does not return cannot be read, but the cache may hide that.
#[test]
fn a_failing_read_is_an_error_or_goes_unnoticed() {
    let options = support::options().cache_size(0);
    for forever in [false, true] {
        for after in (0..400).step_by(support::runs(35, 7) as usize) {
            let disk = TestDisk::default();
            let store = disk.open(&options).unwrap();
            let pool = store.get_or_create_pool("orders").unwrap();
            let mut live = Values::new();
            for call in &CALLS[..8] {
                call.make(&pool).unwrap();
                live = call.model(live);
            }
            disk.fail(Fault {
                operation: Operation::Read,
                after,
                forever,
                torn: Torn::Nothing,
                reason: Reason::Broken,
            });
            answers_are_those_of(&pool, &live, &format!("read {after} fails"));
            let outcome = Call::Track(160, 165).make(&pool);
            if let Err(error) = &outcome {
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::Storage | ErrorKind::StorageFull | ErrorKind::OutcomeUnknown
                    ),
                    "{error}"
                );
            } else {
                live = Call::Track(160, 165).model(live);
            }
            answers_are_those_of(&pool, &live, &format!("read {after} failed"));
            drop((pool, store));
            let run = Run {
                disk,
                pending: outcome.is_err().then(|| Call::Track(160, 165).model(live.clone())),
                live,
            };
            reopened_it_has_what_it_must(&run, &format!("read {after} failed"));
        }
    }
}

/// Runs the workload until a call fails, opens the store again in place, and continues. Returns true if a
/// call failed.
fn fail_and_reopen(fault: Fault) -> bool {
    let disk = TestDisk::default();
    let store = disk.open(&support::options()).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let scan = pool.scan(&RecordFilter::new()).unwrap();
    let snapshot = pool.snapshot().unwrap();
    let mut live = Values::new();
    disk.fail(fault);
    for (done, call) in CALLS.into_iter().enumerate() {
        let context = format!("{fault:?}, at {call:?}");
        if call.make(&pool).is_ok() {
            live = call.model(live);
            continue;
        }
        disk.heal();
        store.reopen().unwrap();
        let found: Values = support::values(&pool).into_iter().collect();
        assert!(found == live || found == call.model(live.clone()), "{context}: {found:?} of {live:?}");
        assert_eq!(snapshot.count(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::Closed, "{context}");
        assert!(scan.into_iter().all(|record| record.unwrap_err().kind() == ErrorKind::Closed), "{context}");
        assert_eq!(store.verify().unwrap().findings, [], "{context}");
        let mut live = found;
        for call in &CALLS[done + 1..] {
            call.make(&pool).unwrap();
            live = call.model(live);
            assert_eq!(
                support::values(&pool).into_iter().collect::<Values>(),
                live,
                "{context}, then {call:?}"
            );
        }
        assert_eq!(store.verify().unwrap().findings, [], "{context}");
        return true;
    }
    false
}

#[test]
fn a_store_that_is_reopened_in_place_after_a_failure_has_what_was_acknowledged_and_goes_on() {
    for operation in [Operation::Write, Operation::Sync, Operation::SetLen] {
        for forever in [false, true] {
            let fault = |after| Fault { operation, after, forever, torn: Torn::Half, reason: Reason::Broken };
            let mut after = 0;
            while fail_and_reopen(fault(after)) {
                after += support::runs(4, 1) as usize;
            }
            // If growth is refused once, the disk is asked for it again.
            assert!(after > 0 || (operation == Operation::SetLen && !forever), "{operation:?}");
        }
    }
}

#[test]
fn a_failure_while_the_whole_store_is_worked_on_loses_nothing() {
    type Work = fn(&DataPoolStore) -> Result<()>;
    let works: [(&str, Work); 4] = [
        ("compact", |store| store.compact().map(drop)),
        ("vacuum", |store| store.vacuum().map(drop)),
        ("rebuild", |store| store.rebuild_indexes().map(drop)),
        ("verify", |store| store.verify().map(drop)),
    ];
    for (name, work) in works {
        for operation in [Operation::Read, Operation::Write, Operation::Sync, Operation::SetLen] {
            for after in (0..).step_by(support::runs(6, 1) as usize) {
                let context = format!("{name}, {operation:?} {after}");
                let disk = TestDisk::default();
                let store = disk.open(&support::options().cache_size(0)).unwrap();
                let pool = store.get_or_create_pool("orders").unwrap();
                let calls = &CALLS[..9];
                for call in calls {
                    call.make(&pool).unwrap();
                }
                let live = calls.iter().fold(Values::new(), |live, call| call.model(live));
                disk.fail(Fault {
                    operation,
                    after,
                    forever: after % 2 == 0,
                    torn: Torn::Half,
                    reason: Reason::Broken,
                });
                let worked = work(&store);
                if let Err(error) = &worked {
                    let kinds = [ErrorKind::OutcomeUnknown, ErrorKind::StorageFull, ErrorKind::Storage];
                    assert!(kinds.contains(&error.kind()), "{error:?}, {context}");
                }
                let failed = disk.failed();
                disk.heal();
                let run = Run { disk, live, pending: None };
                reopened_it_has_what_it_must(&run, &context);
                store.reopen().unwrap();
                answers_are_those_of(&pool, &run.live, &context);
                assert_eq!(support::values(&pool).into_iter().collect::<Values>(), run.live, "{context}");
                assert_eq!(store.verify().unwrap().findings, [], "{context}");
                if !failed {
                    break;
                }
            }
        }
    }
}

#[test]
fn the_first_unknown_outcome_refuses_every_further_write_and_says_how_to_recover() {
    let disk = TestDisk::default();
    let store = disk.open(&support::options()).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    disk.fail(Fault {
        operation: Operation::Sync,
        after: 0,
        forever: false,
        torn: Torn::Nothing,
        reason: Reason::Broken,
    });
    let error = Call::Track(2, 3).make(&pool).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    let new = || datapool_store::NewPool::new("another");
    let results: Vec<Result<()>> = vec![
        Call::Track(3, 4).make(&pool),
        Call::Delete(1, 2).make(&pool),
        Call::Import(3, 4).make(&pool),
        Call::Clear.make(&pool),
        pool.delete_records([1]).map(drop),
        pool.delete_where(&RecordFilter::all()).map(drop),
        store.create_pool(new()).map(drop),
        store.update_pool(pool.id(), datapool_store::PoolUpdate::new().name("renamed")).map(drop),
        store.delete_pool(pool.id()),
    ];
    for (number, result) in results.into_iter().enumerate() {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "call {number}: {error}");
        assert!(error.to_string().contains("open the store again"), "{error}");
    }
    // Reading continues as before the failure.
    assert_eq!(support::values(&pool), ["A-1"]);
    let verdicts = pool
        .dedupe(Mode::Filter, &["A-1", "A-2"], |value| Key::new(ORDERS, *value), &support::origin())
        .unwrap();
    assert_eq!(verdicts.pass_on(["A-1", "A-2"]), ["A-2"]);
    assert_eq!(store.pool_named("orders").unwrap().info().unwrap().name, "orders");
    assert_eq!(store.pool_named("another").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_failure_while_a_store_is_made_or_opened_is_an_error_and_can_be_tried_again() {
    let made = TestDisk::default();
    let pool = made.open(&support::options()).unwrap().get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let unclosed = made.images().remove(0);
    drop(pool);
    let closed = made.images().remove(0);
    for (before, values) in [(Vec::new(), [].as_slice()), (closed, &["A-1"]), (unclosed, &["A-1"])] {
        for operation in [Operation::Read, Operation::Write, Operation::Sync, Operation::SetLen] {
            for after in 0.. {
                let disk = TestDisk::holding(before.clone());
                disk.fail(Fault {
                    operation,
                    after,
                    forever: true,
                    torn: Torn::Half,
                    reason: Reason::Broken,
                });
                let opened = disk.open(&support::options());
                if !disk.failed() {
                    opened.unwrap();
                    break;
                }
                // Closing may fail as well, without being reported.
                if let Err(error) = opened {
                    assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::Storage | ErrorKind::StorageFull | ErrorKind::OutcomeUnknown
                        ),
                        "{error}"
                    );
                }
                if values.is_empty() {
                    continue;
                }
                for image in disk.images() {
                    let store = TestDisk::holding(image).open(&support::options()).unwrap();
                    assert_eq!(support::values(&store.pool_named("orders").unwrap()), values);
                }
            }
        }
    }
}

#[test]
fn everything_acknowledged_survives_a_loss_of_power_after_any_call() {
    let disk = TestDisk::default();
    let store = disk.open(&support::options()).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let mut run = Run { disk, live: Values::new(), pending: None };
    for call in CALLS {
        call.make(&pool).unwrap();
        run.live = call.model(run.live);
        reopened_it_has_what_it_must(&run, &format!("after {call:?}"));
    }
}

fn relaxed() -> StoreOptions {
    // Longer than any test, so only explicit flushes write to disk.
    support::options().durability(Durability::Relaxed { flush_every: Duration::from_hours(1) })
}

#[test]
fn a_loss_of_power_takes_from_a_relaxed_store_whole_calls_since_the_last_flush() {
    for flush_after in 0..CALLS.len() {
        let disk = TestDisk::default();
        let store = disk.open(&relaxed()).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        store.flush().unwrap();
        let mut states = vec![Values::new()];
        for (number, call) in CALLS.iter().enumerate() {
            call.make(&pool).unwrap();
            states.push(call.model(states.last().unwrap().clone()));
            if number == flush_after {
                store.flush().unwrap();
            }
        }
        for image in disk.images() {
            let store = TestDisk::holding(image).open(&relaxed()).unwrap();
            let found: Values = support::values(&store.pool_named("orders").unwrap()).into_iter().collect();
            assert!(
                states[flush_after + 1..].contains(&found),
                "flushed after call {flush_after}: {found:?}"
            );
        }
    }
}

#[test]
fn a_failing_flush_is_heard_of_and_reads_answer_as_before() {
    for operation in [Operation::Write, Operation::Sync] {
        for after in 0.. {
            let disk = TestDisk::default();
            let store = disk.open(&relaxed()).unwrap();
            let pool = store.get_or_create_pool("orders").unwrap();
            store.flush().unwrap();
            support::track(&pool, &["A-1", "A-2"]);
            disk.fail(Fault {
                operation,
                after,
                forever: false,
                torn: Torn::Nothing,
                reason: Reason::Broken,
            });
            let flushed = store.flush();
            if !disk.failed() {
                flushed.unwrap();
                break;
            }
            let error = flushed.unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Storage | ErrorKind::StorageFull | ErrorKind::OutcomeUnknown
                ),
                "{error}"
            );
            assert_eq!(support::values(&pool), ["A-1", "A-2"]);
            if error.kind() == ErrorKind::OutcomeUnknown {
                assert_eq!(Call::Track(3, 4).make(&pool).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
            }
            // If a flush failed to write something, no later flush may claim to have written it.
            if store.flush().is_ok() {
                let image = disk.images().pop().unwrap();
                let store = TestDisk::holding(image).open(&relaxed()).unwrap();
                assert_eq!(support::values(&store.pool_named("orders").unwrap()), ["A-1", "A-2"]);
            }
        }
    }
}

/// The answer shows if anything was lost, whatever part of closing and opening fails.
#[test]
fn opening_again_says_so_if_it_may_lose_what_was_not_flushed() {
    let both = ["A-1", "A-2"];
    let (mut told, mut lost) = (0, 0);
    for operation in [Operation::Read, Operation::Write, Operation::Sync] {
        for after in 0.. {
            let disk = TestDisk::default();
            let store = disk.open(&relaxed()).unwrap();
            let pool = store.get_or_create_pool("orders").unwrap();
            store.flush().unwrap();
            support::track(&pool, &both);
            let (torn, reason) = (Torn::Nothing, Reason::Full);
            disk.fail(Fault { operation, after, forever: false, torn, reason });
            let reopened = store.reopen();
            let failed = disk.failed();
            disk.heal();
            let is_open = store.stats().is_ok();
            match reopened {
                Ok(()) => assert_eq!(support::values(&pool), both, "{operation:?} {after}"),
                Err(error) if is_open => {
                    assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::Storage | ErrorKind::StorageFull | ErrorKind::OutcomeUnknown
                        ),
                        "{error}"
                    );
                    assert_eq!(support::values(&pool), both, "{operation:?} {after}");
                    told += 1;
                    store.reopen().unwrap();
                    lost += usize::from(support::values(&pool).is_empty());
                }
                Err(_) => {
                    store.reopen().unwrap();
                    assert_eq!(support::values(&pool), both, "{operation:?} {after}");
                }
            }
            if !failed {
                break;
            }
        }
    }
    assert!(told > 0 && lost > 0, "{told} told, {lost} lost");
}

/// Nobody is there when the thread that flushes fails, so whoever comes next must be told.
#[test]
fn a_failed_flush_in_the_background_is_told_to_whoever_closes_or_opens_again_first() {
    let soon = Durability::Relaxed { flush_every: Duration::from_millis(1) };
    for (operation, closes) in [
        (Operation::Write, true),
        (Operation::Write, false),
        (Operation::Sync, true),
        (Operation::Sync, false),
    ] {
        let disk = TestDisk::default();
        let store = disk.open(&support::options().durability(soon)).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        store.flush().unwrap();
        let (torn, reason) = (Torn::Nothing, Reason::Broken);
        disk.fail(Fault { operation, after: 0, forever: true, torn, reason });
        support::track(&pool, &["A-1"]);
        while !disk.failed() {
            std::thread::yield_now();
        }
        disk.heal();
        let first = if closes { store.close() } else { store.reopen() };
        assert_eq!(first.unwrap_err().kind(), ErrorKind::OutcomeUnknown, "{operation:?} {closes}");
        // The caller knows now.
        store.reopen().unwrap();
        // After a failed sync it may be there.
        assert!(operation == Operation::Sync || !support::has(&pool, "A-1"));
    }
}

#[test]
fn a_flush_waits_for_one_that_is_under_way() {
    let disk = TestDisk::default();
    let store = disk.open(&relaxed()).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    store.flush().unwrap();
    support::track(&pool, &["A-1"]);
    let (held, holding) = mpsc::channel();
    let (release, released) = mpsc::channel();
    *disk.gate.shut.lock().unwrap() = Some((held, released));
    let open = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| store.flush());
        holding.recv().unwrap();
        let second = scope.spawn(|| store.flush().map(|()| open.load(Ordering::SeqCst)));
        // Gives the second call many chances to return too early. It must not.
        for _ in 0..10_000 {
            std::thread::yield_now();
        }
        open.store(true, Ordering::SeqCst);
        release.send(()).unwrap();
        first.join().unwrap().unwrap();
        assert!(second.join().unwrap().unwrap(), "a flush returned before the disk was done");
    });
}
