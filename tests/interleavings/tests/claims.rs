//! Claims, and waiting for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use datapool_store::{Claim, ClaimFilter, ErrorKind, Mode, Origin, Pool, RecordFilter, WaitOutcome};
use datapool_store_interleavings::{contains, explore, key, store, together, track};
use shuttle::rand::Rng;
use shuttle::thread;

const LEASE: Duration = Duration::from_secs(60);

fn claim(pool: &Pool, values: &[u64]) -> datapool_store::Result<Claim> {
    pool.claim(values, |value| key(*value), &Origin::none(), LEASE)
}

/// Waits for values without a limit of time, so that a waiter that is not woken waits for ever.
fn wait_for(pool: &Pool, values: &[u64]) -> datapool_store::Result<Vec<WaitOutcome>> {
    pool.wait_for(&values.iter().map(|value| key(*value)).collect::<Vec<_>>(), Duration::MAX)
}

#[test]
fn a_value_has_one_holder_at_a_time_and_is_tracked_once() {
    explore("claims: one holder", || {
        let (_store, pool, _) = store();
        let holders = [const { AtomicU64::new(0) }; 2];
        let confirmed = together(3, &Arc::new((pool.clone(), holders)), |thread, (pool, holders)| {
            let mut claim = claim(pool, &[0, 1]).unwrap();
            let held: Vec<usize> = claim.claimed(&[0, 1]).map(|(index, _)| index).collect();
            for index in &held {
                assert_eq!(holders[*index].fetch_add(1, Ordering::SeqCst), 0, "two hold {index}");
            }
            thread::yield_now();
            let confirms: Vec<usize> =
                held.iter().copied().filter(|index| (*index as u64 + thread) % 2 == 0).collect();
            for index in &held {
                holders[*index].fetch_sub(1, Ordering::SeqCst);
            }
            claim.confirm_items(&confirms).unwrap().confirmed_count() as u64
        });
        assert_eq!(confirmed.iter().sum::<u64>(), pool.count(&RecordFilter::all()).unwrap());
        assert!(pool.claims().unwrap().is_empty());
    });
}

/// The ways in which a value stops being in flight.
#[derive(Debug, Clone, Copy)]
enum End {
    Confirm,
    Release,
    Drop,
    Lapse,
    ReleaseClaims,
    TrackedByOther,
    Voided,
    DeletedPool,
    Close,
    Reopen,
}

const ENDS: [End; 10] = {
    use End::*;
    [Confirm, Release, Drop, Lapse, ReleaseClaims, TrackedByOther, Voided, DeletedPool, Close, Reopen]
};

#[test]
fn a_waiter_is_woken_by_each_way_in_which_a_claim_ends() {
    explore("claims: waiting", || {
        let end = ENDS[shuttle::rand::thread_rng().gen_range(0..ENDS.len())];
        let (store, pool, clock) = store();
        let mut held = claim(&pool, &[1]).unwrap();
        let wait = |pool: &Pool| {
            let pool = pool.clone();
            thread::spawn(move || wait_for(&pool, &[1]))
        };
        let waiters = [wait(&pool), wait(&pool)];
        match end {
            End::Confirm => held.confirm().unwrap().all_confirmed().map(drop).unwrap(),
            End::Release => assert_eq!(held.release().unwrap(), 1),
            End::Drop => drop(held),
            End::Lapse => clock.advance(LEASE),
            End::ReleaseClaims => assert_eq!(pool.release_claims(&ClaimFilter::all()).unwrap(), 1),
            End::TrackedByOther => {
                let tracked = pool.dedupe(Mode::Track, &[1], |value| key(*value), &Origin::none());
                assert_eq!(tracked.unwrap().new_count(), 1);
            }
            End::Voided => {
                assert_eq!(store.delete_where(&RecordFilter::new().value("A-1")).unwrap(), 0);
            }
            End::DeletedPool => store.delete_pool(pool.id()).unwrap(),
            End::Close => store.close().unwrap(),
            End::Reopen => {
                store.reopen().unwrap();
                // The claim is still there, and the waiters wait for it again.
                assert_eq!(held.release().unwrap(), 1);
            }
        }
        for waiter in waiters {
            let outcome = waiter.join().unwrap();
            match (end, outcome) {
                (End::Confirm | End::TrackedByOther, Ok(outcomes)) => {
                    assert!(matches!(outcomes[..], [WaitOutcome::Tracked(_)]), "{outcomes:?}");
                }
                (End::Close | End::Reopen, Err(error)) => assert_eq!(error.kind(), ErrorKind::Closed),
                (End::DeletedPool, Err(error)) => assert_eq!(error.kind(), ErrorKind::NotFound),
                (_, Ok(outcomes)) => assert!(matches!(outcomes[..], [WaitOutcome::Free]), "{outcomes:?}"),
                (_, Err(error)) => panic!("{end:?}: {error}"),
            }
        }
    });
}

#[test]
fn of_several_values_a_waiter_waits_for_all() {
    explore("claims: several values", || {
        let (_store, pool, _) = store();
        let first = claim(&pool, &[1, 2]).unwrap();
        let second = claim(&pool, &[3]).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (pool, is_over) = (pool.clone(), Arc::clone(&is_over));
            thread::spawn(move || {
                let outcomes = wait_for(&pool, &[3, 1, 2]).unwrap();
                assert!(is_over.load(Ordering::SeqCst), "{outcomes:?}");
                assert!(!outcomes.iter().any(|outcome| matches!(outcome, WaitOutcome::InFlight { .. })));
            })
        };
        let other = {
            let pool = pool.clone();
            thread::spawn(move || {
                // Between the two, somebody else may claim a value again.
                let mut claim = claim(&pool, &[3, 4]).unwrap();
                let _ = claim.confirm().unwrap();
            })
        };
        let mut second = second;
        assert_eq!(second.confirm().unwrap().confirmed_count(), 1);
        let mut first = first;
        is_over.store(true, Ordering::SeqCst);
        assert_eq!(first.confirm_items(&[0]).unwrap().confirmed_count(), 1);
        drop(first);
        other.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn waiters_that_claim_one_after_the_other_all_get_their_turn() {
    explore("claims: turns", || {
        let (_store, pool, _) = store();
        let turns = AtomicU64::new(0);
        together(3, &Arc::new((pool, turns)), |_, (pool, turns)| {
            loop {
                let mut claim = claim(pool, &[1]).unwrap();
                if claim.held_count() == 1 {
                    turns.fetch_add(1, Ordering::SeqCst);
                    claim.release().unwrap();
                    return;
                }
                wait_for(pool, &[1]).unwrap();
            }
        });
    });
}

#[test]
fn a_claim_that_lapsed_goes_to_one_of_those_that_want_it_and_the_late_confirmation_says_so() {
    explore("claims: late confirmation", || {
        let (_store, pool, clock) = store();
        let mut late = claim(&pool, &[1]).unwrap();
        let other = {
            let (pool, clock) = (pool.clone(), clock.clone());
            thread::spawn(move || {
                clock.advance(LEASE);
                let mut claim = claim(&pool, &[1]).unwrap();
                let held = claim.held_count();
                claim.confirm().unwrap().confirmed_count() + 10 * held
            })
        };
        let confirmed = late.confirm().unwrap().confirmed_count();
        let other = other.join().unwrap();
        assert!(matches!((confirmed, other), (1, 0) | (0, 11)), "{confirmed} {other}");
        assert_eq!(pool.count(&RecordFilter::all()).unwrap(), 1);
        assert_eq!(contains(&pool, &[1]).unwrap(), [true]);
        assert_eq!(track(&pool, &[1]).unwrap(), [false]);
    });
}
