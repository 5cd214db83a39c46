//! Proves that each pool has its own time: a clock that was once ahead affects only the pools that were used
//! then, and `clear` resets their time.

use std::time::Duration;

use datapool_store::{ManualClock, NewPool, Pool};

use crate::support::{self, Need, StoreFile, records, store_with, time, track};

const DAY: Duration = Duration::from_hours(24);

/// Creates a store whose clock shows the first day of 2013.
fn store() -> (datapool_store::DataPoolStore, ManualClock) {
    let clock = support::clock();
    (support::store_with(Need::Clock, &support::options().clock(clock.clone())), clock)
}

fn newest(pool: &Pool) -> datapool_store::Timestamp {
    records(pool).last().unwrap().created_at
}

#[test]
fn a_clock_that_was_ahead_moves_only_the_pools_that_it_was_used_in() {
    let (store, clock) = store();
    let new = |name: &str| store.create_pool(NewPool::new(name).retention(DAY * 30)).unwrap();
    let (used, unused) = (new("used"), new("unused"));
    track(&used, &["A-1"]);
    track(&unused, &["A-1"]);
    let now = clock.now();
    clock.set(now.saturating_add(DAY * 10));
    track(&used, &["A-2"]);
    clock.set(now);
    track(&used, &["A-3"]);
    track(&unused, &["A-3"]);
    assert_eq!(newest(&used), now.saturating_add(DAY * 10));
    assert_eq!(newest(&unused), now);
    let later = new("later");
    track(&later, &["A-3"]);
    assert_eq!(newest(&later), now);
    assert_eq!(used.stats().unwrap().time_ahead, DAY * 10);
    assert_eq!(unused.stats().unwrap().time_ahead, Duration::ZERO);
    clock.advance(DAY * 11);
    assert_eq!(used.stats().unwrap().time_ahead, Duration::ZERO);
}

/// Every way to leave a pool without live records.
#[test]
fn the_commit_that_leaves_no_live_record_sets_the_time_back() {
    type Empty = fn(&Pool);
    let ways: [(&str, Empty); 4] = [
        ("clear", |pool| assert!(pool.clear().unwrap() > 0)),
        ("delete records", |pool| {
            let ids: Vec<u64> = records(pool).iter().map(|record| record.id.get()).collect();
            pool.delete_records(ids.iter().copied()).unwrap();
        }),
        ("delete keys", |pool| {
            let values = support::values(pool);
            let keys: Vec<_> = values
                .iter()
                .map(|value| datapool_store::Key::new(support::ORDERS, value.as_str()))
                .collect();
            pool.delete_keys(&keys).unwrap();
        }),
        ("delete where", |pool| {
            assert!(pool.delete_where(&datapool_store::RecordFilter::all()).unwrap() > 0);
        }),
    ];
    for (way, empty) in ways {
        for retention in [None, Some(DAY * 30)] {
            let (store, clock) = store();
            let new = retention.map_or(NewPool::new("orders"), |keep| NewPool::new("orders").retention(keep));
            let pool = store.create_pool(new).unwrap();
            let now = clock.now();
            clock.set(now.saturating_add(DAY * 400));
            track(&pool, &["A-1", "A-2"]);
            clock.set(now);
            track(&pool, &["A-3"]);
            assert_eq!(newest(&pool), now.saturating_add(DAY * 400), "{way}");
            empty(&pool);
            assert_eq!(pool.stats().unwrap().time_ahead, Duration::ZERO, "{way}");
            assert_eq!(track(&pool, &["A-1"]), 1);
            assert_eq!(newest(&pool), now, "{way}");
            assert_eq!(store.verify().unwrap().findings, [], "{way}");
            store.reopen().unwrap();
            assert_eq!(newest(&pool), now, "{way}");
            track(&pool, &["A-9"]);
            assert_eq!(newest(&pool), now, "{way}");
        }
    }
}

#[test]
fn what_had_expired_stays_gone_when_the_clock_is_set_back() {
    let (store, clock) = store();
    let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
    track(&pool, &["A-1"]);
    let now = clock.now();
    clock.set(now.saturating_add(DAY * 2));
    assert!(!support::has(&pool, "A-1"));
    clock.set(now);
    assert!(!support::has(&pool, "A-1"));
    store.reopen().unwrap();
    assert!(!support::has(&pool, "A-1"));
    // The pool has no live record, so it follows the clock again.
    assert_eq!(pool.stats().unwrap().time_ahead, Duration::ZERO);
    assert_eq!(track(&pool, &["A-1"]), 1);
    assert_eq!(newest(&pool), now);
    assert_eq!(newest(&pool), time("2013-01-01"));
}

/// The pool's tail may be in the middle of a fold, which commits do in slices.
#[test]
fn a_pool_that_dies_at_any_moment_starts_over_without_a_trace() {
    let step = if support::is_embedded() { 1 } else { 11 };
    for records in (1..90).step_by(step) {
        let clock = support::clock();
        let options = support::options().clock(clock.clone());
        let store = store_with(Need::Clock, &options);
        let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
        for number in 0..records {
            assert_eq!(track(&pool, &[format!("A-{number}")]), 1);
        }
        clock.advance(DAY);
        let later: Vec<String> = (0..70).map(|number| format!("B-{number}")).collect();
        for value in &later {
            assert_eq!(track(&pool, &[value]), 1);
        }
        assert_eq!(support::values(&pool), later, "{records}");
        assert_eq!(store.verify().unwrap().findings, [], "{records}");
        store.prune().unwrap();
        assert_eq!(store.verify().unwrap().findings, [], "{records}, pruned");
    }
}

/// Each commit looks at the next aging pool, and works on pools with pending work.
#[test]
fn commits_to_one_pool_under_a_clock_that_is_ahead_leave_the_time_of_others_alone() {
    let clock = support::clock();
    let options = support::options().clock(clock.clone());
    let store = store_with(Need::Clock, &options);
    let new = |name: &str| store.create_pool(NewPool::new(name).retention(DAY * 30)).unwrap();
    let (used, others) = (new("used"), [new("one"), new("two"), new("three")]);
    for (pool, records) in others.iter().zip([3, 17, 70]) {
        for number in 0..records {
            track(pool, &[format!("A-{number}")]);
        }
    }
    let now = clock.now();
    clock.set(now.saturating_add(DAY * 10));
    for number in 0..100 {
        track(&used, &[format!("A-{number}")]);
    }
    clock.set(now);
    for pool in &others {
        assert_eq!(pool.stats().unwrap().time_ahead, Duration::ZERO);
        track(pool, &["later"]);
        assert_eq!(newest(pool), now);
    }
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn a_pool_that_was_cleared_under_a_clock_that_was_ahead_follows_the_clock_also_after_reopening() {
    let file = StoreFile::new();
    let now = file.clock.now();
    {
        let (pool, _store) = file.open_orders();
        file.clock.set(now.saturating_add(DAY * 400));
        track(&pool, &["A-1"]);
        assert_eq!(pool.clear().unwrap(), 1);
        file.clock.set(now);
        track(&pool, &["A-2"]);
        assert_eq!(newest(&pool), now);
    }
    let (pool, store) = file.open_orders();
    assert_eq!(pool.stats().unwrap().time_ahead, Duration::ZERO);
    track(&pool, &["A-3"]);
    assert_eq!(newest(&pool), now);
    assert_eq!(store.verify().unwrap().findings, []);
}
