//! Proves that a claim whose hour after the lease is over, but that is not swept yet, takes no value back
//! when the clock is set back and the store is opened again.

use std::time::Duration;

use datapool_store::{ErrorKind, ImportOptions, Key, Mode, OnDuplicate, Origin, Pool};

use super::{MINUTE, claim, is_in_flight, key, outcomes, runner};
use crate::support::{ORDERS, StoreFile, track, values};

const HOUR_AND_MORE: Duration = Duration::from_mins(62);

/// The ways in which a value enters the pool while a claim that is not swept yet still lists it.
#[derive(Debug, Clone, Copy)]
enum Way {
    Dedupe(Mode),
    DedupeWithFirst(Mode),
    Import(OnDuplicate),
    Claim,
}

impl Way {
    const ALL: [Self; 8] = [
        Self::Dedupe(Mode::Track),
        Self::Dedupe(Mode::FilterAndTrack),
        Self::DedupeWithFirst(Mode::Track),
        Self::DedupeWithFirst(Mode::FilterAndTrack),
        Self::Import(OnDuplicate::Add),
        Self::Import(OnDuplicate::Skip),
        Self::Import(OnDuplicate::Fail),
        Self::Claim,
    ];

    fn bring_in(self, pool: &Pool, value: &str) {
        match self {
            Self::Dedupe(mode) => {
                let verdicts = pool.dedupe(mode, &[value], key, &Origin::none()).unwrap();
                assert_eq!(verdicts.new_count(), 1);
            }
            Self::DedupeWithFirst(mode) => {
                let verdicts = pool.dedupe_with_first(mode, &[value], key, &Origin::none()).unwrap();
                assert_eq!(verdicts.new_count(), 1);
            }
            Self::Import(on_duplicate) => {
                let file = format!("value,entity_type_id\n{value},37\n");
                let options = ImportOptions::new().on_duplicate(on_duplicate);
                assert_eq!(pool.import_csv(file.as_bytes(), &options).unwrap().added, 1);
            }
            Self::Claim => claim(pool, "another", &[value]).confirm().unwrap().all_confirmed().unwrap(),
        }
    }
}

/// Each commit sweeps one claim, so other ended claims still exist. Setting the clock back makes them valid
/// again.
#[test]
fn a_value_that_was_tracked_past_a_claims_hour_is_never_confirmed_by_that_claim() {
    for way in Way::ALL {
        let file = StoreFile::new();
        let start = file.clock.now();
        let (pool, store) = file.open_orders();
        for number in 0..3 {
            let other = claim(&pool, "run 1", &[format!("other {number}").as_str()]);
            assert!(other.into_token().is_some());
        }
        let token = claim(&pool, "run 2", &["b", "a"]).into_token().unwrap();
        file.clock.advance(HOUR_AND_MORE);
        way.bring_in(&pool, "a");
        assert_eq!(store.verify().unwrap().findings, [], "{way:?}");
        drop((pool, store));

        file.clock.set(start);
        let (pool, store) = file.open_orders();
        assert_eq!(store.verify().unwrap().findings, [], "{way:?}");
        // An import causes more commits, which sweep the claim. Then there is no claim to take up.
        match store.resume_claim(&token) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::LeaseLost, "{way:?}: {error}"),
            Ok(mut again) => {
                let confirmation = again.confirm().unwrap();
                assert_eq!(outcomes(&confirmation), [(0, "confirmed"), (1, "already tracked")], "{way:?}");
            }
        }
        assert_eq!(values(&pool).iter().filter(|value| *value == "a").count(), 1, "{way:?}");
        assert_eq!(store.verify().unwrap().findings, [], "{way:?}");
    }
}

/// Deleting the record does not return the value to the claim that lost it.
#[test]
fn a_value_that_was_tracked_past_a_claims_hour_and_deleted_is_free_when_the_clock_is_set_back() {
    let file = StoreFile::new();
    let start = file.clock.now();
    let (pool, store) = file.open_orders();
    assert!(claim(&pool, "run 1", &["other"]).into_token().is_some());
    let token = claim(&pool, "run 2", &["a", "b"]).into_token().unwrap();
    file.clock.advance(HOUR_AND_MORE);
    track(&pool, &["a"]);
    pool.delete_keys(&[Key::new(ORDERS, "x")]).unwrap();
    file.clock.set(start);
    drop((pool, store));
    let (pool, store) = file.open_orders();
    pool.delete_keys(&[Key::new(ORDERS, "a")]).unwrap();
    assert!(!is_in_flight(&pool, "a") && is_in_flight(&pool, "b"));
    let mut again = store.resume_claim(&token).unwrap();
    assert_eq!(outcomes(&again.confirm().unwrap()), [(0, "lost"), (1, "confirmed")]);
}

/// The claim that took over a value keeps it, whether the previous claim is swept or becomes valid again.
#[test]
fn a_value_that_was_claimed_anew_past_a_claims_hour_stays_with_the_new_claim() {
    for is_released in [false, true] {
        let file = StoreFile::new();
        let start = file.clock.now();
        let (pool, store) = file.open_orders();
        let first = claim(&pool, "run 1", &["other"]).into_token().unwrap();
        let second = claim(&pool, "run 2", &["a", "b"]).into_token().unwrap();
        file.clock.advance(HOUR_AND_MORE);
        let mut third = claim(&pool, "run 3", &["a"]);
        if is_released {
            third.release().unwrap();
        }
        let third = third.into_token();
        drop((pool, store));
        file.clock.set(start);
        let (_pool, store) = file.open_orders();
        // The first claim was swept by the commit of the third.
        assert_eq!(store.resume_claim(&first).unwrap_err().kind(), ErrorKind::LeaseLost);
        if let Some(token) = third {
            let mut third = store.resume_claim(&token).unwrap();
            assert_eq!(outcomes(&third.confirm().unwrap()), [(0, "confirmed")]);
        }
        // The release was one more commit, which swept the second claim.
        match store.resume_claim(&second) {
            Ok(mut second) => {
                assert!(!is_released);
                assert_eq!(outcomes(&second.confirm().unwrap()), [(0, "already tracked"), (1, "confirmed")]);
            }
            Err(error) => assert!(is_released && error.kind() == ErrorKind::LeaseLost, "{error}"),
        }
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

/// The rows that are swept last still exist when the first ones are gone.
#[test]
fn values_tracked_while_a_large_claim_is_swept_in_part_are_tracked_once() {
    let file = StoreFile::new();
    let start = file.clock.now();
    let (pool, store) = file.open_orders();
    let many: Vec<String> = (0..10_000).map(|number| format!("v{number}")).collect();
    let of = |value: &'static str| Key::new(ORDERS, value);
    let token =
        pool.claim(&many, |v| Key::new(ORDERS, v.as_str()), &runner("run 1"), MINUTE).unwrap().into_token();
    file.clock.advance(HOUR_AND_MORE);
    track(&pool, &["x"]);
    assert_eq!(track(&pool, &["v1", "v5000", "v9999"]), 3);
    assert_eq!(store.verify().unwrap().findings, []);
    drop((pool, store));
    file.clock.set(start);
    let (pool, store) = file.open_orders();
    assert_eq!(store.resume_claim(&token.unwrap()).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(pool.claims().unwrap(), []);
    assert_eq!(store.verify().unwrap().findings, []);
    let mut next = pool.claim(&["v0", "v9998", "v9999"], |v| of(v), &Origin::none(), MINUTE).unwrap();
    assert_eq!(next.confirm().unwrap().confirmed_count(), 2);
    pool.prune().unwrap();
    assert_eq!(store.verify().unwrap().findings, []);
    assert_eq!(values(&pool), ["x", "v1", "v5000", "v9999", "v0", "v9998"]);
}

/// A runner that gave up a claim past its hour, or learned that it is lost, does not get it back when the
/// clock is set back.
#[test]
fn a_claim_that_was_given_up_past_its_hour_stays_given_up_when_the_clock_is_set_back() {
    type GiveUp = fn(datapool_store::Claim);
    let ways: [(&str, GiveUp); 5] = [
        ("released", |mut claim| assert_eq!(claim.release().unwrap(), 0)),
        ("dropped", drop),
        ("confirmed", |mut claim| {
            assert_eq!(outcomes(&claim.confirm().unwrap()), [(0, "lost"), (1, "lost")]);
        }),
        ("released by index", |mut claim| assert_eq!(claim.release_items(&[0, 1]).unwrap(), 0)),
        ("confirmed by key", |mut claim| {
            let keys = ["a", "b"].map(|value| Key::new(ORDERS, value));
            assert_eq!(outcomes(&claim.confirm_keys(&keys).unwrap()), [(0, "lost"), (1, "lost")]);
        }),
    ];
    for (way, give_up) in ways {
        let file = StoreFile::new();
        let start = file.clock.now();
        let (pool, store) = file.open_orders();
        // Commits sweep these claims first.
        let others: Vec<_> = (0..4)
            .map(|number| claim(&pool, "run 1", &[format!("other {number}").as_str()]).into_token())
            .collect();
        let token = claim(&pool, "run 2", &["a", "b"]).into_token().unwrap();
        let guard = store.resume_claim(&token).unwrap();
        file.clock.advance(HOUR_AND_MORE);
        assert_eq!((pool.stats().unwrap().claims, pool.claims().unwrap().len()), (0, 0), "{way}");
        give_up(guard);
        assert_eq!(store.verify().unwrap().findings, [], "{way}");
        drop((pool, store, others));

        file.clock.set(start);
        let (pool, store) = file.open_orders();
        assert_eq!(store.resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost, "{way}");
        assert!(!is_in_flight(&pool, "a") && !is_in_flight(&pool, "b"), "{way}");
        assert_eq!(pool.stats().unwrap().claims, pool.claims().unwrap().len() as u64, "{way}");
        assert_eq!(store.verify().unwrap().findings, [], "{way}");
    }
}
