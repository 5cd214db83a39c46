//! Proves that claims are swept an hour after their lease, in parts, and that values that others own
//! meanwhile are not affected.

use std::time::Duration;

use datapool_store::{ClaimOutcome, ErrorKind, ImportOptions, Key, NewPool, Origin, PruneReport, limits};

use super::{MINUTE, claim, is_in_flight, runner, ticking_store};
use crate::support::{ORDERS, StoreFile, track, values};

#[test]
fn a_claim_is_swept_an_hour_after_its_end_as_part_of_other_writes() {
    let (store, clock, pool) = ticking_store();
    let busy = store.get_or_create_pool("busy").unwrap();
    let many: Vec<String> = (0..10_000).map(|number| format!("v{number}")).collect();
    let mut late = pool.claim(&many, |v| Key::new(ORDERS, v.as_str()), &runner("run 1"), MINUTE).unwrap();
    let token = claim(&pool, "run 2", &["a"]).into_token().unwrap();
    clock.advance((MINUTE + limits::CLAIM_KEPT_AFTER_LEASE).saturating_sub(Duration::from_secs(1)));
    for number in 0..10 {
        track(&busy, &[format!("early {number}")]);
    }
    assert_eq!(pool.claims().unwrap().len(), 2);
    clock.advance(Duration::from_secs(1));
    for number in 0..10 {
        track(&busy, &[format!("late {number}")]);
    }
    assert!(pool.claims().unwrap().is_empty());
    assert_eq!(store.resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
    let confirmation = late.confirm().unwrap();
    assert_eq!(confirmation.confirmed_count(), 0);
    assert!(confirmation.outcomes().iter().all(|(_, outcome)| *outcome == ClaimOutcome::LeaseLost));
    assert!(values(&pool).is_empty());
    assert_eq!(track(&pool, &many), many.len());
}

#[test]
fn pruning_sweeps_too_and_says_so_and_leaves_what_was_taken_over() {
    let (_store, clock, pool) = ticking_store();
    let late = claim(&pool, "run 1", &["a", "b"]);
    clock.advance(limits::CLAIM_KEPT_AFTER_LEASE);
    let taken = claim(&pool, "run 2", &["a"]);
    assert_eq!(pool.prune().unwrap(), PruneReport::default());
    clock.advance(MINUTE.saturating_sub(Duration::from_micros(1)));
    assert_eq!(pool.prune().unwrap().claims, 0);
    clock.advance(Duration::from_micros(1));
    assert_eq!(pool.prune().unwrap().claims, 1);
    let renewed = claim(&pool, "run 3", &["a"]);
    assert_eq!(pool.claims().unwrap().len(), 2);
    assert!(is_in_flight(&pool, "a"));
    drop((late, taken));
    assert!(is_in_flight(&pool, "a"), "late guards release only their own items");
    drop(renewed);
}

#[test]
fn sweeping_a_claim_leaves_a_value_to_whoever_took_it_over_and_holds_it() {
    let (store, clock, pool) = ticking_store();
    let late = claim(&pool, "run 1", &["a", "b"]);
    clock.advance(2 * MINUTE);
    let key = |value: &'static &str| Key::new(ORDERS, *value);
    let day = Duration::from_hours(24);
    let mut taken = pool.claim(&["a"], key, &Origin::none(), day).unwrap();
    assert_eq!(taken.held_count(), 1);
    clock.advance(limits::CLAIM_KEPT_AFTER_LEASE);
    assert_eq!(pool.prune().unwrap().claims, 1);
    assert_eq!(pool.claim(&["a", "b"], key, &Origin::none(), day).unwrap().held_count(), 1, "b is free");
    assert_eq!(store.verify().unwrap().findings, []);
    assert_eq!(taken.confirm().unwrap().confirmed_count(), 1);
    drop(late);
}

/// Each commit sweeps about 4,096 items, so no writer waits for all items of a large claim.
#[test]
fn a_small_claim_is_swept_by_one_commit_and_a_large_one_by_several() {
    for (items, commits) in [(1, 1), (300, 1), (5_000, 2), (10_000, 3)] {
        for made in commits - 1..=commits {
            let (store, clock, pool) = ticking_store();
            let many: Vec<String> = (0..items).map(|number| format!("v{number}")).collect();
            let late = pool.claim(&many, |v| Key::new(ORDERS, v.as_str()), &runner("run 1"), MINUTE).unwrap();
            clock.advance(MINUTE + limits::CLAIM_KEPT_AFTER_LEASE);
            for number in 0..made {
                track(&pool, &[format!("late {number}")]);
                // This also holds for a claim that is partly swept.
                assert_eq!(store.verify().unwrap().findings, []);
            }
            let left = u64::from(made < commits);
            assert_eq!(pool.prune().unwrap().claims, left, "{items} items after {made} commits");
            drop(late);
        }
    }
}

#[test]
fn pruning_sweeps_large_claims_to_the_end() {
    let (_store, clock, pool) = ticking_store();
    let many: Vec<String> = (0..10_000).map(|number| format!("v{number}")).collect();
    let token =
        pool.claim(&many, |v| Key::new(ORDERS, v.as_str()), &runner("run 1"), MINUTE).unwrap().into_token();
    assert!(token.is_some());
    clock.advance(MINUTE + limits::CLAIM_KEPT_AFTER_LEASE);
    assert_eq!(pool.prune().unwrap().claims, 1);
    assert!(pool.claims().unwrap().is_empty());
    let mut again = pool.claim(&many, |v| Key::new(ORDERS, v.as_str()), &runner("run 2"), MINUTE).unwrap();
    assert_eq!(again.confirm().unwrap().confirmed_count(), many.len());
}

/// Sweeping begins with the first items. Whatever happens then, the claim must not continue without them.
#[test]
fn a_claim_past_its_hour_is_gone_for_everybody_whether_swept_or_not() {
    let file = StoreFile::new();
    let (clock, open) = (&file.clock, || file.open_orders());
    let (pool, store) = open();
    let many: Vec<String> = (0..10_000).map(|number| format!("v{number}")).collect();
    let mut late = pool.claim(&many, |v| Key::new(ORDERS, v.as_str()), &runner("run 1"), MINUTE).unwrap();
    let start = clock.now();
    clock.advance(MINUTE + limits::CLAIM_KEPT_AFTER_LEASE);
    assert!(pool.claims().unwrap().is_empty(), "nothing is swept yet, because nothing was written");
    // One commit sweeps a part of the claim.
    track(&pool, &["x"]);
    assert_eq!(late.extend(MINUTE).unwrap_err().kind(), ErrorKind::LeaseLost);
    let token = late.into_token().unwrap();
    assert_eq!(store.resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert!(!is_in_flight(&pool, "v1") && !is_in_flight(&pool, "v9999"));
    drop((pool, store));
    // By this clock, the lease would have just begun.
    clock.set(start);
    let (pool, store) = open();
    assert_eq!(store.resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert!(!is_in_flight(&pool, "v1") && !is_in_flight(&pool, "v9999"));
    assert!(pool.claims().unwrap().is_empty());
}

/// After reopening, nobody uses the pool. Writes to other pools still sweep and prune it.
#[test]
fn claims_and_expired_records_of_a_pool_that_nobody_opened_are_given_back() {
    let file = StoreFile::new();
    let (clock, open) = (&file.clock, || file.open());
    {
        let store = open();
        let pool = store.create_pool(NewPool::new("orders").retention(MINUTE)).unwrap();
        let all: Vec<String> = (0..200).map(|number| format!("v{number}")).collect();
        track(&pool, &all);
        assert!(claim(&pool, "run 1", &["a"]).into_token().is_some());
        store.create_pool(NewPool::new("busy")).unwrap();
    }
    clock.advance(3 * limits::CLAIM_KEPT_AFTER_LEASE);
    let store = open();
    let busy = store.pool_named("busy").unwrap();
    for number in 0..40 {
        track(&busy, &[format!("w{number}")]);
    }
    assert_eq!(store.pool_named("orders").unwrap().prune().unwrap(), PruneReport::default());
}

#[test]
fn a_program_that_only_imports_sweeps_claims_too() {
    let (_store, clock, pool) = ticking_store();
    assert!(claim(&pool, "run 1", &["a", "b"]).into_token().is_some());
    clock.advance(2 * limits::CLAIM_KEPT_AFTER_LEASE);
    pool.import_csv("value,entity_type_id\nc,37\n".as_bytes(), &ImportOptions::new()).unwrap();
    assert_eq!(pool.prune().unwrap(), PruneReport::default());
}
