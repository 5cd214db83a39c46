//! Proves that calls from many threads behave as if made one after the other: every value is new exactly
//! once, and no call fails. [`crate::histories`] checks that the observations of all kinds of calls fit some
//! order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    Durability, ErrorKind, ImportOptions, Key, Mode, NewPool, Origin, Pool, PoolId, PoolQuery, RecordFilter,
    RecordQuery, Verdict,
};
use tempfile::TempDir;

use crate::support::{self, Need, Numbers, ORDERS};

const THREADS: u64 = 8;

fn key(value: u64) -> Key<'static> {
    Key::new(ORDERS, format!("A-{value}"))
}

fn key_of(value: &u64) -> Key<'_> {
    key(*value)
}

/// Returns the values of a thread's batch: some of its own, and some that all threads bring.
fn overlapping_batch(numbers: &mut Numbers) -> Vec<u64> {
    let length = 1 + numbers.next(60);
    let start = numbers.next(1_000);
    (0..length).map(|_| start + numbers.next(80)).collect()
}

fn eight_threads_bring_overlapping_batches(pool: &Pool) {
    let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
    let told: Vec<(BTreeSet<u64>, Vec<u64>)> = thread::scope(|scope| {
        let run = |thread: u64| {
            let (barrier, origin) = (&barrier, Origin::new("shop", thread, "read"));
            move || {
                let mut numbers = Numbers::seeded(thread);
                let (mut brought, mut new) = (BTreeSet::new(), Vec::new());
                barrier.wait();
                for round in 0..30 {
                    let batch = overlapping_batch(&mut numbers);
                    let mode = if round % 2 == 0 { Mode::Track } else { Mode::FilterAndTrack };
                    let verdicts = pool.dedupe(mode, &batch, key_of, &origin).unwrap();
                    brought.extend(&batch);
                    new.extend(verdicts.partition(batch).fresh);
                }
                (brought, new)
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let brought: BTreeSet<u64> = told.iter().flat_map(|(brought, _)| brought.iter().copied()).collect();
    let mut new: Vec<u64> = told.iter().flat_map(|(_, new)| new.iter().copied()).collect();
    new.sort_unstable();
    assert!(new.is_sorted_by(|a, b| a < b), "a value was new twice");
    assert!(brought.iter().eq(&new), "a value was never new");
    let records = support::records(pool);
    assert!(records.is_sorted_by(|a, b| a.id < b.id && a.created_at <= b.created_at));
    let tracked: BTreeSet<String> = records.iter().map(|record| record.value.clone()).collect();
    assert_eq!((tracked.len(), records.len()), (new.len(), new.len()));
    // Each record belongs to the thread for which its value was new.
    for (thread, (_, new)) in told.iter().enumerate() {
        let filter = RecordFilter::new().flow_run_id(thread as u64);
        let theirs: HashSet<String> =
            pool.scan(&filter).unwrap().map(|record| record.unwrap().value).collect();
        assert_eq!(theirs, new.iter().map(|value| format!("A-{value}")).collect());
    }
}

#[test]
fn every_value_is_new_exactly_once_to_one_of_many_threads() {
    eight_threads_bring_overlapping_batches(&support::pool_for(Need::Any));
}

#[test]
fn every_value_is_new_exactly_once_in_a_file_of_ordinary_sizes() {
    let directory = TempDir::new().unwrap();
    let store = support::options().open(directory.path().join("store.redb")).unwrap();
    eight_threads_bring_overlapping_batches(&store.get_or_create_pool("orders").unwrap());
}

#[test]
fn every_value_is_new_exactly_once_under_relaxed_durability_and_dropping_flushes() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    for flush_every in [Duration::ZERO, Duration::from_millis(1), Duration::from_hours(1)] {
        let options = support::options().durability(Durability::Relaxed { flush_every });
        let store = support::embedded::open(&path, &options, Sizes::SMALL).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        eight_threads_bring_overlapping_batches(&pool);
        store.flush().unwrap();
        support::track(&pool, &["last"]);
        let before = support::records(&pool);
        drop((pool, store));
        let pool = support::options().open(&path).unwrap().pool_named("orders").unwrap();
        assert_eq!(support::records(&pool), before);
        pool.clear().unwrap();
    }
}

#[test]
fn all_threads_are_told_the_same_first_record() {
    let pool = support::pool_for(Need::Any);
    let firsts: Vec<BTreeMap<u64, u64>> = thread::scope(|scope| {
        let run = |thread: u64| {
            let pool = &pool;
            move || {
                let mut firsts = BTreeMap::new();
                for round in 0..10 {
                    let batch: Vec<u64> = (round * 5..round * 5 + 20).collect();
                    let origin = Origin::new("shop", thread, round);
                    let verdicts = pool.dedupe_with_first(Mode::Track, &batch, key_of, &origin).unwrap();
                    for (index, value) in batch.iter().enumerate() {
                        let first = verdicts.first(index);
                        assert_eq!(first.is_some(), verdicts.as_slice()[index] == Verdict::Duplicate);
                        if let Some(first) = first {
                            assert_eq!(first.value, format!("A-{value}"));
                            assert_eq!(*firsts.entry(*value).or_insert(first.id.get()), first.id.get());
                        }
                    }
                }
                firsts
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let records: BTreeMap<String, u64> =
        support::records(&pool).into_iter().map(|record| (record.value, record.id.get())).collect();
    for (value, first) in firsts.iter().flatten() {
        assert_eq!(records[&format!("A-{value}")], *first);
    }
}

#[test]
fn threads_that_ask_for_one_pool_get_one_pool() {
    let store = support::store_for(Need::Any);
    for round in 1..=20 {
        let name = format!("pool {round}");
        let barrier = Barrier::new(8);
        let ids: BTreeSet<PoolId> = thread::scope(|scope| {
            let get = || {
                barrier.wait();
                store.get_or_create_pool(&name).unwrap().id()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(get)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ids.len(), 1);
        assert_eq!(store.pools(&PoolQuery::new()).unwrap().meta.total, round);
    }
}

#[test]
fn of_threads_that_make_one_pool_exactly_one_does() {
    let store = support::store_for(Need::Any);
    let barrier = Barrier::new(8);
    let made = thread::scope(|scope| {
        let make = || {
            barrier.wait();
            store.create_pool(NewPool::new("orders")).map_err(|error| error.kind())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(results.iter().all(|made| !matches!(made, Err(kind) if *kind != ErrorKind::AlreadyExists)));
        results.iter().filter(|made| made.is_ok()).count()
    });
    assert_eq!(made, 1);
}

#[test]
fn calls_that_fail_do_not_disturb_those_beside_them() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    let deleted = store.get_or_create_pool("deleted").unwrap();
    store.delete_pool(deleted.id()).unwrap();
    let barrier = Barrier::new(6);
    thread::scope(|scope| {
        for thread in 0..6_u64 {
            let (pool, deleted, barrier, store) = (&pool, &deleted, &barrier, &store);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..40_u64 {
                    let value = 1_000 * thread + round;
                    match thread {
                        0 => {
                            let result = deleted.dedupe(Mode::Track, &[value], key_of, &Origin::none());
                            assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
                        }
                        1 => {
                            let batch = [format!("B-{value}"), String::new()];
                            let key = |value: &'_ String| Key::new(ORDERS, value.clone());
                            let error = pool.dedupe(Mode::Track, &batch, key, &Origin::none()).unwrap_err();
                            assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(1)));
                        }
                        2 => {
                            let error = store.create_pool(NewPool::new("orders")).unwrap_err();
                            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                            let file = "value,entity_type_id\nB-1,37\nB-2,order\n";
                            pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap_err();
                        }
                        _ => {
                            let verdicts =
                                pool.dedupe(Mode::Track, &[value], key_of, &Origin::none()).unwrap();
                            assert_eq!(verdicts.new_count(), 1);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(support::values(&pool).len(), 3 * 40);
    assert!(support::values(&pool).iter().all(|value| value.starts_with("A-")));
}

#[test]
fn pools_come_and_go_beside_each_other() {
    let store = support::store_for(Need::Any);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..10_u64 {
                    let pool = store.create_pool(NewPool::new(format!("pool {thread} {round}"))).unwrap();
                    let batch: Vec<u64> = (0..40).collect();
                    for _ in 0..3 {
                        let _ = pool.dedupe(Mode::Track, &batch, key_of, &Origin::none()).unwrap();
                    }
                    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 40);
                    if round % 2 == 0 {
                        store.delete_pool(pool.id()).unwrap();
                        assert_eq!(pool.count(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::NotFound);
                    }
                }
            });
        }
    });
    let page = store.pools(&PoolQuery::new().per_page(100)).unwrap();
    assert_eq!(page.meta.total, 20);
    for pool in page.data {
        assert_eq!(support::records(&store.pool(pool.id).unwrap()).len(), 40);
    }
}

const WHOLE: usize = 8;

fn whole_batch(number: u64) -> Vec<u64> {
    (0..WHOLE as u64).map(|item| 100 * number + item).collect()
}

#[test]
fn readers_see_each_batch_whole_or_not_at_all() {
    let pool = support::pool_for(Need::Any);
    let done = AtomicBool::new(false);
    let newest = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..150 {
                newest.store(number, Ordering::SeqCst);
                let batch = whole_batch(number);
                let verdicts =
                    pool.dedupe(Mode::Track, &batch, key_of, &Origin::new("shop", number, "read")).unwrap();
                assert_eq!(verdicts.new_count(), WHOLE);
                if number % 7 == 6 {
                    let keys: Vec<_> = whole_batch(number - 3).into_iter().map(key).collect();
                    assert_eq!(pool.delete_keys(&keys).unwrap(), WHOLE as u64);
                }
                if number == 100 {
                    pool.clear().unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        for reader in 0..3 {
            let (pool, done, newest) = (&pool, &done, &newest);
            scope.spawn(move || {
                let whole =
                    |count: u64, what: &str| assert_eq!(count % WHOLE as u64, 0, "{what}: part of a batch");
                while !done.load(Ordering::SeqCst) {
                    match reader {
                        0 => {
                            let keys: Vec<_> =
                                whole_batch(newest.load(Ordering::SeqCst)).into_iter().map(key).collect();
                            let found = pool.contains_many(&keys).unwrap();
                            assert!(found.iter().all(|other| *other == found[0]), "{found:?}");
                            let found = pool.lookup(&keys).unwrap();
                            assert!(found.iter().all(|other| other.is_some() == found[0].is_some()));
                        }
                        1 => {
                            whole(pool.count(&RecordFilter::new()).unwrap(), "count");
                            let page = pool.records(&RecordQuery::new().flow_id("shop").page(2)).unwrap();
                            whole(page.meta.total, "total");
                        }
                        _ => {
                            let snapshot = pool.snapshot().unwrap();
                            let records: Vec<_> =
                                snapshot.scan(&RecordFilter::new()).unwrap().map(Result::unwrap).collect();
                            let mut runs: BTreeMap<String, u64> = BTreeMap::new();
                            for record in &records {
                                *runs.entry(record.flow_run_id.as_ref().unwrap().to_string()).or_default() +=
                                    1;
                            }
                            assert!(runs.values().all(|count| *count == WHOLE as u64), "{runs:?}");
                            assert_eq!(snapshot.count(&RecordFilter::new()).unwrap(), records.len() as u64);
                        }
                    }
                }
            });
        }
    });
}
