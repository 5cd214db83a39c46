//! Proves that waiting ends when the awaited event happens, and not before; that no wake-up is lost; and that
//! leases are kept alive.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use datapool_store::{ClaimFilter, ErrorKind, Key, Pool, WaitOutcome};

use super::{MINUTE, claim, is_in_flight, key, runner, ticking_store};
use crate::support::{self, Need, ORDERS, StoreFile, track};

/// Longer than any test, so a waiter must be woken.
const LONG: Duration = Duration::from_mins(10);

fn wait(pool: &Pool, values: &[&str], timeout: Duration) -> Vec<&'static str> {
    let keys: Vec<Key<'_>> = values.iter().map(key).collect();
    pool.wait_for(&keys, timeout).unwrap().iter().map(name).collect()
}

fn name(outcome: &WaitOutcome) -> &'static str {
    match outcome {
        WaitOutcome::Tracked(_) => "tracked",
        WaitOutcome::Free => "free",
        WaitOutcome::InFlight { .. } => "in flight",
        _ => "new kind",
    }
}

/// Returns the answer of a waiter that waits during an event. It must not have answered before.
fn woken_by(pool: &Pool, values: &[&str], event: impl FnOnce()) -> Vec<&'static str> {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let outcomes = wait(pool, values, LONG);
            ended.store(true, Ordering::SeqCst);
            outcomes
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!ended.load(Ordering::SeqCst), "it did not wait");
        event();
        waiting.join().unwrap()
    })
}

#[test]
fn what_is_not_in_flight_is_answered_at_once() {
    let (_store, _clock, pool) = ticking_store();
    track(&pool, &["a"]);
    assert_eq!(wait(&pool, &["a", "b", "a"], LONG), ["tracked", "free", "tracked"]);
    assert_eq!(wait(&pool, &[], LONG), [] as [&str; 0]);
    let held = claim(&pool, "run 1", &["c"]);
    assert_eq!(wait(&pool, &["a", "c"], Duration::ZERO), ["tracked", "in flight"]);
    assert_eq!(wait(&pool, &["c"], Duration::from_millis(5)), ["in flight"]);
    let outcomes = pool.wait_for(&[Key::new(ORDERS, "c")], Duration::ZERO).unwrap();
    assert_eq!(outcomes, [WaitOutcome::InFlight { by: runner("run 1"), until: held.until() }]);
    assert_eq!(pool.wait_for(&[Key::new(ORDERS, "")], LONG).unwrap_err().item(), Some(0));
}

#[test]
fn each_end_of_a_claim_wakes_who_waits() {
    let (_store, clock, pool) = ticking_store();
    let mut held = claim(&pool, "run 1", &["a", "b"]);
    assert_eq!(
        woken_by(&pool, &["a"], || held.confirm_items(&[0]).unwrap().all_confirmed().unwrap()),
        ["tracked"]
    );
    assert_eq!(woken_by(&pool, &["b"], || drop(held)), ["free"]);
    let held = claim(&pool, "run 1", &["c"]);
    assert_eq!(woken_by(&pool, &["c"], || assert_eq!(track(&pool, &["c"]), 1)), ["tracked"]);
    drop(held);
    let held = claim(&pool, "run 1", &["d"]);
    let release = || assert_eq!(pool.release_claims(&ClaimFilter::all()).unwrap(), 1);
    assert_eq!(woken_by(&pool, &["d"], release), ["free"]);
    drop(held);
    let held = claim(&pool, "run 1", &["e"]);
    assert_eq!(woken_by(&pool, &["e"], || clock.advance(MINUTE)), ["free"], "its lease ended");
    drop(held);
    let mut held = claim(&pool, "run 1", &["f"]);
    let shorten = || {
        held.extend(Duration::from_secs(1)).unwrap();
        clock.advance(Duration::from_secs(1));
    };
    assert_eq!(woken_by(&pool, &["f"], shorten), ["free"]);
    let held = claim(&pool, "run 1", &["g"]);
    let import = || {
        let csv = "value,entity_type_id\ng,37\n";
        assert_eq!(pool.import_csv(csv.as_bytes(), &datapool_store::ImportOptions::new()).unwrap().added, 1);
    };
    assert_eq!(woken_by(&pool, &["g"], import), ["tracked"]);
    drop(held);
}

#[test]
fn who_waits_hears_that_the_pool_is_deleted_or_the_store_closed() {
    let (store, _clock, pool) = ticking_store();
    for (end, kind) in [("delete", ErrorKind::NotFound), ("close", ErrorKind::Closed)] {
        let pool = store.get_or_create_pool(end).unwrap();
        let held = claim(&pool, "run 1", &["a"]);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.wait_for(&[Key::new(ORDERS, "a")], LONG).unwrap_err().kind());
            thread::sleep(Duration::from_millis(20));
            if end == "delete" {
                store.delete_pool(pool.id()).unwrap();
            } else {
                store.close().unwrap();
            }
            assert_eq!(waiting.join().unwrap(), kind);
        });
        drop(held);
    }
    drop(pool);
}

/// When the store is opened again, the time left of a lease is computed again. It may end earlier than a
/// waiter assumed.
#[test]
fn opening_again_wakes_who_waits() {
    let file = StoreFile::new();
    let (pool, store) = file.open_orders();
    let held = claim(&pool, "run 1", &["a"]);
    let reopen = || {
        file.clock.set(file.clock.now().saturating_add(MINUTE * 2));
        store.reopen().unwrap();
    };
    assert_eq!(woken_by(&pool, &["a"], reopen), ["free"]);
    drop(held);
}

/// This uses the real clock, so nothing signals that the lease has expired.
#[test]
fn a_lease_that_ends_by_itself_wakes_who_waits() {
    let pool = support::store_for(Need::Any).get_or_create_pool("orders").unwrap();
    let start = Instant::now();
    let held = pool.claim(&["a"], key, &runner("run"), Duration::from_millis(100)).unwrap();
    assert_eq!(wait(&pool, &["a"], LONG), ["free"]);
    assert!(start.elapsed() >= Duration::from_millis(100));
    drop(held);
}

#[test]
fn a_thousand_that_wait_for_one_value_are_all_woken() {
    let (_store, _clock, pool) = ticking_store();
    let mut held = claim(&pool, "run 1", &["a"]);
    let barrier = Barrier::new(1_001);
    thread::scope(|scope| {
        let wait_for_it = || {
            barrier.wait();
            wait(&pool, &["a"], LONG)
        };
        let waiting: Vec<_> = (0..1_000).map(|_| scope.spawn(wait_for_it)).collect();
        barrier.wait();
        held.confirm().unwrap().all_confirmed().unwrap();
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), ["tracked"]);
        }
    });
}

#[test]
fn one_that_waits_for_a_thousand_values_hears_of_each() {
    let (_store, _clock, pool) = ticking_store();
    let numbers: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let all: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let mut held = claim(&pool, "run 1", &all);
    let outcomes = woken_by(&pool, &all, || {
        for chunk in (0..1_000).rev().collect::<Vec<usize>>().chunks(50) {
            held.confirm_items(chunk).unwrap().all_confirmed().unwrap();
        }
    });
    assert_eq!(outcomes, vec!["tracked"; 1_000]);
}

/// Claims come and go as fast as possible while others wait for them. A lost wake-up would leave a waiter
/// waiting.
#[test]
fn no_wake_up_is_lost() {
    let (_store, _clock, pool) = ticking_store();
    let rounds = support::runs(200, 5_000);
    thread::scope(|scope| {
        for worker in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut held = claim(pool, "run", &["a"]);
                    if held.held_count() == 0 {
                        wait(pool, &["a"], LONG);
                    } else if (round + worker) % 2 == 0 {
                        held.release().unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn a_lease_is_kept_alive_as_long_as_its_guard_lives() {
    let pool = support::store_for(Need::Any).get_or_create_pool("orders").unwrap();
    let lease = Duration::from_secs(1);
    let mut held = pool.claim(&["a", "b"], key, &runner("run"), lease).unwrap();
    let mut other = pool.claim(&["c"], key, &runner("run"), lease).unwrap();
    held.keep_alive().unwrap();
    other.keep_alive().unwrap();
    let before = held.until();
    thread::sleep(lease * 2);
    assert!(is_in_flight(&pool, "a") && is_in_flight(&pool, "c"));
    assert!(held.until() > before);
    held.confirm_items(&[1]).unwrap().all_confirmed().unwrap();
    thread::sleep(lease);
    held.confirm().unwrap().all_confirmed().unwrap();
    // Without its guard, the lease ends.
    assert!(other.into_token().is_some());
    thread::sleep(lease + lease / 2);
    assert!(!is_in_flight(&pool, "c"));
}

#[test]
fn a_guard_that_is_kept_alive_says_that_it_lost_its_lease() {
    let (_store, _clock, pool) = ticking_store();
    let mut held = claim(&pool, "run", &["a"]);
    held.keep_alive().unwrap();
    pool.release_claims(&ClaimFilter::all()).unwrap();
    assert_eq!(held.keep_alive().unwrap_err().kind(), ErrorKind::LeaseLost);
    assert!(held.confirm().unwrap().all_confirmed().is_err());
    let mut short = pool.claim(&["b"], key, &runner("run"), Duration::from_millis(999)).unwrap();
    assert_eq!(short.keep_alive().unwrap_err().kind(), ErrorKind::InvalidArgument);
}
