//! Proves that an owner can take up the claims that it left behind, that operators can release claims by
//! their properties, and that fencing numbers grow.

use datapool_store::testing::Sizes;
use datapool_store::{ClaimFilter, ClaimOptions, ErrorKind, Timestamp, limits};
use std::time::Duration;

use super::{MINUTE, claim, is_in_flight, key, outcomes, runner, ticking_store};
use crate::support::{Place, StoreFile, embedded, options, track, values};

fn owned(pool: &datapool_store::Pool, owner: &str, values: &[&str]) -> datapool_store::Claim {
    let options = ClaimOptions::new().lease(MINUTE).owner(owner);
    pool.claim_with(values, key, &runner("run 1"), &options).unwrap()
}

#[test]
fn an_owner_takes_up_all_its_claims_and_earlier_guards_and_tokens_are_lost() {
    let (store, clock, pool) = ticking_store();
    let mut first = owned(&pool, "worker-7", &["a", "b", "c"]);
    first.confirm_items(&[1]).unwrap().all_confirmed().unwrap();
    let token = first.token().unwrap();
    let second = owned(&pool, "worker-7", &["d"]);
    let other = owned(&pool, "worker-8", &["e"]);
    let nobody = claim(&pool, "run 2", &["f"]);
    clock.advance(MINUTE / 2);

    let mut resumed = pool.resume_claims_of("worker-7").unwrap();
    let open: Vec<Vec<(usize, String)>> = resumed
        .iter()
        .map(|claim| claim.keys().map(|(index, key)| (index, key.value().to_owned())).collect())
        .collect();
    assert_eq!(open, [vec![(0, "a".to_owned()), (2, "c".to_owned())], vec![(0, "d".to_owned())]]);
    assert!(resumed.iter().all(|claim| claim.until() == clock.now().saturating_add(MINUTE)), "new leases");
    assert_eq!(store.resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(first.extend(MINUTE).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(outcomes(&first.confirm().unwrap()), [(0, "lost"), (2, "lost")]);
    drop((first, second));
    assert!(
        is_in_flight(&pool, "a") && is_in_flight(&pool, "d"),
        "dropping a guard of lost items releases nothing"
    );

    for claim in &mut resumed {
        claim.confirm().unwrap().all_confirmed().unwrap();
    }
    assert_eq!(values(&pool), ["b", "a", "c", "d"]);
    assert!(pool.resume_claims_of("worker-7").unwrap().is_empty());
    drop((other, nobody));
}

/// If one claim is damaged, the readable ones must not be released.
#[test]
fn taking_up_claims_of_which_one_is_damaged_releases_none() {
    const ITEMS: redb::TableDefinition<'_, (u64, u64, u32), &[u8]> =
        redb::TableDefinition::new("claim items");
    let place = Place::new();
    {
        let pool = place.open().get_or_create_pool("orders").unwrap();
        for value in ["a", "b", "c"] {
            assert!(owned(&pool, "worker-7", &[value]).into_token().is_some());
        }
    }
    place.damage(|txn| drop(txn.open_table(ITEMS).unwrap().insert((1, 2, 0), [255; 3].as_slice()).unwrap()));
    let store = place.open();
    let pool = store.pool_named("orders").unwrap();
    for _ in 0..2 {
        assert_eq!(pool.resume_claims_of("worker-7").unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(["a", "b", "c"].iter().all(|value| is_in_flight(&pool, value)));
    }
    assert_eq!(pool.claims().unwrap().len(), 3);
}

#[test]
fn an_owner_comes_back_after_the_file_was_closed_and_before_the_hour_is_over() {
    let file = StoreFile::new();
    let (clock, open) = (file.clock.clone(), || file.open());
    // The guard and its token disappear without a trace.
    assert!(owned(&open().get_or_create_pool("orders").unwrap(), "worker-7", &["a"]).into_token().is_some());
    clock.advance(MINUTE * 2);
    let store = open();
    let pool = store.pool_named("orders").unwrap();
    let listed = pool.claims().unwrap();
    assert_eq!((listed[0].owner.as_deref(), listed[0].is_lapsed), (Some("worker-7"), true));
    let mut resumed = pool.resume_claims_of("worker-7").unwrap();
    assert!(is_in_flight(&pool, "a"), "the lease runs again");
    resumed[0].confirm().unwrap().all_confirmed().unwrap();

    assert!(owned(&pool, "worker-7", &["b"]).into_token().is_some());
    clock.advance(MINUTE + limits::CLAIM_KEPT_AFTER_LEASE);
    assert!(pool.resume_claims_of("worker-7").unwrap().is_empty());
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn fencing_numbers_grow_in_a_pool_whatever_the_clock_does_and_over_a_restored_backup() {
    let file = StoreFile::new();
    let (clock, open) = (file.clock.clone(), || file.open());
    let store = open();
    let pool = store.get_or_create_pool("orders").unwrap();
    let mut claim = owned(&pool, "worker-7", &["a"]);
    let first = claim.fencing_number().unwrap();
    assert_eq!(i64::try_from(first).unwrap(), clock.now().as_micros(), "the wall clock");
    clock.advance(Duration::from_secs(1));
    claim.extend(MINUTE).unwrap();
    let resumed = store.resume_claim(&claim.into_token().unwrap()).unwrap();
    assert_eq!(resumed.fencing_number(), Some(first), "one grant");
    assert!(resumed.into_token().is_some());
    let second = pool.resume_claims_of("worker-7").unwrap().pop().unwrap().fencing_number().unwrap();
    assert!(second > first);

    // All claims are gone, and the clock is set back. The numbers still grow, even after opening the store
    // again.
    clock.set(Timestamp::from_micros(5));
    assert_eq!(owned(&pool, "x", &["b"]).fencing_number(), Some(second + 1));
    drop((pool, store));
    let store = open();
    let pool = store.pool_named("orders").unwrap();
    assert!(pool.claims().unwrap().is_empty());
    assert_eq!(owned(&pool, "x", &["c"]).fencing_number(), Some(second + 2));
    assert_eq!(pool.claim(&[] as &[&str], key, &runner("run"), MINUTE).unwrap().fencing_number(), None);
    assert_eq!(store.verify().unwrap().findings, []);

    // So they do in a copy, which has no claims.
    let path = file.path().with_file_name("copy.redb");
    store.backup_to(&path).unwrap();
    let copy = embedded::open(&path, &options().clock(clock), Sizes::SMALL).unwrap();
    let pool = copy.pool_named("orders").unwrap();
    assert!(pool.claims().unwrap().is_empty());
    assert_eq!(owned(&pool, "x", &["c"]).fencing_number(), Some(second + 3));
}

#[test]
fn operators_release_claims_by_owner_origin_age_and_id() {
    let (store, clock, pool) = ticking_store();
    let old = owned(&pool, "worker-7", &["a"]);
    clock.advance(MINUTE * 2);
    let mut young = owned(&pool, "worker-7", &["b", "c"]);
    let mut run = claim(&pool, "run 9", &["d"]);
    track(&pool, &["c"]);

    let none = [
        ClaimFilter::new(),
        ClaimFilter::new().owner("worker"),
        ClaimFilter::new().id(77),
        ClaimFilter::new().flow_id("shop").flow_run_id("run 2"),
        ClaimFilter::new().older_than(MINUTE * 2),
        ClaimFilter::new().lapsed().flow_run_id("run 9"),
    ];
    for filter in &none {
        assert_eq!(pool.release_claims(filter).unwrap(), 0, "{filter:?}");
    }
    assert_eq!(pool.release_claims(&ClaimFilter::new().owner("worker-7").older_than(MINUTE)).unwrap(), 1);
    assert!(!is_in_flight(&pool, "a") && is_in_flight(&pool, "b"));
    assert_eq!(pool.release_claims(&ClaimFilter::new().owner("worker-7")).unwrap(), 1);
    assert!(!is_in_flight(&pool, "b"));
    assert_eq!(outcomes(&young.confirm().unwrap()), [(0, "lost"), (1, "already tracked")]);
    assert_eq!(pool.release_claims(&ClaimFilter::all()).unwrap(), 1, "only one claim is left");
    assert_eq!(run.extend(MINUTE).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(values(&pool), ["c"]);
    assert!(pool.claims().unwrap().is_empty());
    assert_eq!(store.verify().unwrap().findings, []);
    drop((old, young, run));
}

#[test]
fn a_bad_owner_is_refused_and_nothing_is_claimed() {
    let (_store, _clock, pool) = ticking_store();
    let long = "x".repeat(limits::OWNER_MAX_BYTES + 1);
    for (owner, kind) in [("", ErrorKind::InvalidArgument), (long.as_str(), ErrorKind::LimitExceeded)] {
        let options = ClaimOptions::new().owner(owner);
        let error = pool.claim_with(&["a"], key, &runner("run"), &options).unwrap_err();
        assert_eq!((error.kind(), error.parameter()), (kind, Some("owner")), "{error}");
        assert_eq!(pool.resume_claims_of(owner).unwrap_err().kind(), kind);
    }
    assert!(pool.claims().unwrap().is_empty());
    let longest = "x".repeat(limits::OWNER_MAX_BYTES);
    drop(owned(&pool, &longest, &["a"]));
}
