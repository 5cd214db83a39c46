//! Proves that a claim holds its values for one runner until it is confirmed, released, or taken over after
//! its lease; that it never makes a value be tracked twice; and that tokens carry a claim to another process.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    Claim, ClaimOutcome, ClaimVerdict, DataPoolStore, Durability, ErrorKind, ImportOptions, Key, ManualClock,
    Mode, NewPool, OnDuplicate, Origin, Pool, RecordFilter, Verdict, limits,
};

use crate::support::{self, Need, ORDERS, StoreFile, has, track, values};

mod owners;
mod past_their_hour;
mod results;
mod sweeping;
mod tokens;
mod waiting;

const MINUTE: Duration = Duration::from_mins(1);

fn ticking_store() -> (DataPoolStore, ManualClock, Pool) {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.get_or_create_pool("orders").unwrap();
    (store, clock, pool)
}

fn key<'a>(value: &'a &str) -> Key<'a> {
    Key::new(ORDERS, *value)
}

fn runner(name: &str) -> Origin {
    Origin::new("shop", name, "deliver")
}

fn claim(pool: &Pool, name: &str, values: &[&str]) -> Claim {
    pool.claim(values, key, &runner(name), MINUTE).unwrap()
}

fn claimed(claim: &Claim) -> Vec<bool> {
    claim.verdicts().iter().map(|(_, verdict)| *verdict == ClaimVerdict::Claimed).collect()
}

fn is_in_flight(pool: &Pool, value: &str) -> bool {
    let verdicts = pool.dedupe(Mode::Filter, &[value], key, &Origin::none()).unwrap();
    verdicts.as_slice()[0] == Verdict::InFlight
}

/// Returns the outcomes of items, without the records.
fn outcomes(confirmation: &datapool_store::Confirmation) -> Vec<(usize, &'static str)> {
    let name = |outcome: &ClaimOutcome| match outcome {
        ClaimOutcome::Confirmed(_) => "confirmed",
        ClaimOutcome::AlreadyTracked(_) => "already tracked",
        ClaimOutcome::LeaseLost => "lost",
        _ => "new kind",
    };
    confirmation.outcomes().iter().map(|(index, outcome)| (*index, name(outcome))).collect()
}

#[test]
fn a_claim_gives_each_item_its_verdict() {
    let (_store, clock, pool) = ticking_store();
    track(&pool, &["tracked"]);
    let first = claim(&pool, "run 1", &["held"]);
    let until = clock.now().saturating_add(MINUTE);
    assert_eq!(first.until(), until);
    let second = claim(&pool, "run 2", &["tracked", "held", "new", "new", "held"]);
    let verdicts = second.verdicts();
    let (0, ClaimVerdict::Duplicate(Some(record))) = &verdicts[0] else { panic!("{verdicts:?}") };
    assert_eq!((record.id.get(), record.value.as_str()), (1, "tracked"));
    let in_flight = ClaimVerdict::InFlight { by: runner("run 1"), until };
    let others = [
        (1, in_flight.clone()),
        (2, ClaimVerdict::Claimed),
        (3, ClaimVerdict::Duplicate(None)),
        (4, in_flight.clone()),
    ];
    assert_eq!(verdicts[1..], others);
    assert_eq!((second.verdict(4), second.verdict(5)), (Some(&in_flight), None));
    let split = second.partition([0, 1, 2, 3, 4, 5]);
    assert_eq!((split.fresh, split.duplicates, split.in_flight), (vec![2], vec![0, 3], vec![1, 4]));
    assert_eq!(split.unmatched, [5]);
    assert_eq!(second.held_count(), 1);
    let keys: Vec<_> = second.keys().map(|(index, key)| (index, key.value().to_owned())).collect();
    assert_eq!(keys, [(2, "new".to_owned())]);
}

#[test]
fn a_claimed_value_is_in_flight_for_filters_and_unknown_to_checks() {
    let (_store, _clock, pool) = ticking_store();
    let held = claim(&pool, "run 1", &["a", "b"]);
    for mode in [Mode::Filter, Mode::FilterAndTrack] {
        let verdicts = pool.dedupe_with_first(mode, &["a", "c", "a"], key, &Origin::none()).unwrap();
        let new = if mode == Mode::Filter { Verdict::New } else { verdicts.as_slice()[1] };
        assert_eq!(verdicts.as_slice(), [Verdict::InFlight, new, Verdict::InFlight]);
        assert!(!verdicts.passes(0) && verdicts.first(0).is_none());
        assert_eq!(verdicts.partition(["a", "c", "a"]).in_flight, ["a", "a"]);
    }
    assert!(!has(&pool, "a"));
    assert!(pool.lookup(&[Key::new(ORDERS, "a")]).unwrap()[0].is_none());
    assert_eq!(values(&pool), ["c"]);
    drop(held);
    assert_eq!(track(&pool, &["a", "b"]), 2);
}

#[test]
fn confirming_tracks_under_the_claims_origin_and_ends_the_claim() {
    let (_store, clock, pool) = ticking_store();
    let mut held = claim(&pool, "run 1", &["a", "b"]);
    clock.advance(Duration::from_secs(5));
    let confirmation = held.confirm().unwrap();
    assert_eq!(outcomes(&confirmation), [(0, "confirmed"), (1, "confirmed")]);
    assert_eq!(confirmation.outcomes()[1].1, ClaimOutcome::Confirmed(2.into()));
    assert_eq!(confirmation.confirmed_count(), 2);
    confirmation.all_confirmed().unwrap();
    assert_eq!(held.held_count(), 0);
    assert!(pool.claims().unwrap().is_empty());
    let records = support::records(&pool);
    assert_eq!(records[0].flow_run_id.as_ref().unwrap().as_str(), "run 1");
    assert_eq!(records[0].created_at, clock.now(), "tracked when it was confirmed");
    // Nothing is left for a second confirmation.
    assert!(held.confirm().unwrap().outcomes().is_empty());
    assert_eq!(held.extend(MINUTE).unwrap_err().kind(), ErrorKind::LeaseLost);
    drop(held);
    assert_eq!(values(&pool), ["a", "b"]);
}

#[test]
fn a_released_or_dropped_claim_can_be_taken_again() {
    let (_store, _clock, pool) = ticking_store();
    let mut held = claim(&pool, "run 1", &["a", "b"]);
    assert_eq!(held.release().unwrap(), 2);
    assert_eq!(held.release().unwrap(), 0);
    assert_eq!(claimed(&claim(&pool, "run 2", &["a", "b"])), [true, true]);
    // The claim was dropped at once.
    let flow = pool.clone();
    let result = std::thread::spawn(move || {
        let _held = claim(&flow, "run 3", &["a"]);
        panic!("the flow fails");
    })
    .join();
    assert!(result.is_err());
    assert_eq!(claimed(&claim(&pool, "run 4", &["a", "b"])), [true, true]);
    assert!(pool.claims().unwrap().is_empty() && values(&pool).is_empty());
}

#[test]
fn items_are_confirmed_and_released_one_by_one() {
    let (_store, _clock, pool) = ticking_store();
    track(&pool, &["old"]);
    let mut held = claim(&pool, "run 1", &["a", "old", "b", "c", "d"]);
    assert_eq!(outcomes(&held.confirm_items(&[2, 0, 2]).unwrap()), [(0, "confirmed"), (2, "confirmed")]);
    assert_eq!(held.release_items(&[3]).unwrap(), 1);
    assert_eq!(held.held_count(), 1);
    assert!(!is_in_flight(&pool, "c") && is_in_flight(&pool, "d"));
    // Two settled items, one that was never claimed, and an index without an item.
    for index in [0, 3, 1, 5] {
        for error in
            [held.confirm_items(&[4, index]).unwrap_err(), held.release_items(&[4, index]).unwrap_err()]
        {
            assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(index)), "{error}");
        }
    }
    assert!(is_in_flight(&pool, "d"), "a refused call settles nothing");
    drop(held);
    assert!(!is_in_flight(&pool, "d"));
    assert_eq!(values(&pool), ["old", "a", "b"]);
}

#[test]
fn a_lease_that_ran_out_is_free_for_the_next_claimer_and_no_sooner() {
    let (_store, clock, pool) = ticking_store();
    let mut late = claim(&pool, "run 1", &["a", "b"]);
    clock.advance(MINUTE.saturating_sub(Duration::from_micros(1)));
    assert!(is_in_flight(&pool, "a"));
    clock.advance(Duration::from_micros(1));
    assert!(!is_in_flight(&pool, "a"));
    assert!(pool.claims().unwrap()[0].is_lapsed);
    let mut next = claim(&pool, "run 2", &["a"]);
    assert_eq!(claimed(&next), [true]);
    // The confirmation is late, but nobody took over b.
    let confirmation = late.confirm().unwrap();
    assert_eq!(outcomes(&confirmation), [(0, "lost"), (1, "confirmed")]);
    let error = confirmation.all_confirmed().unwrap_err();
    assert_eq!((error.kind(), error.item()), (ErrorKind::LeaseLost, Some(0)), "{error}");
    assert_eq!(outcomes(&next.confirm().unwrap()), [(0, "confirmed")]);
    assert_eq!(values(&pool), ["b", "a"]);
}

#[test]
fn confirming_after_a_takeover_that_is_confirmed_itself_says_who_was_first() {
    let (_store, clock, pool) = ticking_store();
    let mut late = claim(&pool, "run 1", &["a"]);
    clock.advance(MINUTE);
    claim(&pool, "run 2", &["a"]).confirm().unwrap().all_confirmed().unwrap();
    let confirmation = late.confirm().unwrap();
    let ClaimOutcome::AlreadyTracked(first) = &confirmation.outcomes()[0].1 else {
        panic!("{confirmation:?}")
    };
    assert_eq!(first.flow_run_id.as_ref().unwrap().as_str(), "run 2");
    assert_eq!(values(&pool), ["a"]);
}

/// An item that is lost stays lost, even when the runner that took it over releases it.
#[test]
fn what_was_taken_over_stays_lost_when_it_is_released_again() {
    let (_store, clock, pool) = ticking_store();
    let mut late = claim(&pool, "run 1", &["a"]);
    clock.advance(MINUTE);
    drop(claim(&pool, "run 2", &["a"]));
    assert_eq!(late.extend(MINUTE).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(outcomes(&late.confirm().unwrap()), [(0, "lost")]);
    assert!(values(&pool).is_empty());
    assert!(pool.claims().unwrap().is_empty());
}

#[test]
fn releasing_removes_only_ones_own_claim_and_never_a_record() {
    let (_store, clock, pool) = ticking_store();
    let mut late = claim(&pool, "run 1", &["a", "b", "c"]);
    clock.advance(MINUTE);
    let next = claim(&pool, "run 2", &["a"]);
    track(&pool, &["b"]);
    assert_eq!(late.release().unwrap(), 1, "only c still belonged to it");
    assert!(is_in_flight(&pool, "a") && has(&pool, "b"));
    drop(next);
}

#[test]
fn extending_gives_a_lease_a_new_beginning_even_after_it_ran_out() {
    let (_store, clock, pool) = ticking_store();
    let mut held = claim(&pool, "run 1", &["a"]);
    clock.advance(MINUTE / 2);
    assert_eq!(held.extend(MINUTE).unwrap(), clock.now().saturating_add(MINUTE));
    clock.advance(MINUTE.saturating_sub(Duration::from_secs(1)));
    assert!(is_in_flight(&pool, "a"));
    clock.advance(MINUTE);
    assert!(!is_in_flight(&pool, "a"));
    held.extend(MINUTE).unwrap();
    assert!(is_in_flight(&pool, "a"));
    assert_eq!(held.until(), clock.now().saturating_add(MINUTE));
}

#[test]
fn setting_the_clock_neither_ends_nor_stretches_a_lease() {
    let (_store, clock, pool) = ticking_store();
    let held = claim(&pool, "run 1", &["a"]);
    clock.set(clock.now().saturating_add(100 * MINUTE));
    assert!(is_in_flight(&pool, "a"), "set ahead");
    clock.set(clock.now().saturating_sub(1_000 * MINUTE));
    clock.advance(MINUTE.saturating_sub(Duration::from_secs(1)));
    assert!(is_in_flight(&pool, "a"), "set back");
    clock.advance(Duration::from_secs(1));
    assert!(!is_in_flight(&pool, "a"), "its lease has passed");
    drop(held);
}

#[test]
fn after_reopening_a_lease_runs_on_the_wall_clock_and_is_never_longer_than_it_was() {
    let file = StoreFile::new();
    let (clock, open) = (&file.clock, || file.open_orders());
    let (pool, store) = open();
    let token = claim(&pool, "run 1", &["a"]).into_token().unwrap();
    let start = clock.now();
    drop((pool, store));

    // Half of the lease passed while nobody had the store open.
    clock.set(start.saturating_add(MINUTE / 2));
    let (pool, store) = open();
    clock.advance((MINUTE / 2).saturating_sub(Duration::from_secs(1)));
    assert!(is_in_flight(&pool, "a"));
    clock.advance(Duration::from_secs(1));
    assert!(!is_in_flight(&pool, "a"));
    drop((pool, store));

    // By the wall clock, which is set far back, weeks would be left.
    clock.set(start.saturating_sub(100_000 * MINUTE));
    let (pool, store) = open();
    assert!(is_in_flight(&pool, "a"));
    clock.advance(MINUTE);
    assert!(!is_in_flight(&pool, "a"));
    store.resume_claim(&token).unwrap().confirm().unwrap().all_confirmed().unwrap();
    assert_eq!(values(&pool), ["a"]);
}

#[test]
fn tracking_or_importing_a_claimed_value_voids_the_claim() {
    for import in [false, true] {
        let (_store, _clock, pool) = ticking_store();
        let mut held = claim(&pool, "run 1", &["a", "b"]);
        if import {
            let options = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
            let report = pool.import_csv("value,entity_type_id\na,37\nc,37\n".as_bytes(), &options).unwrap();
            assert_eq!(report.added, 2);
        } else {
            let verdicts = pool.dedupe(Mode::Track, &["a", "c"], key, &Origin::none()).unwrap();
            assert_eq!(verdicts.as_slice(), [Verdict::New, Verdict::New]);
        }
        assert!(!is_in_flight(&pool, "a"));
        let confirmation = held.confirm().unwrap();
        assert_eq!(outcomes(&confirmation), [(0, "already tracked"), (1, "confirmed")]);
        let ClaimOutcome::AlreadyTracked(first) = &confirmation.outcomes()[0].1 else { panic!() };
        assert_eq!((first.id.get(), first.value.as_str()), (1, "a"));
        assert_eq!(values(&pool), ["a", "c", "b"]);
    }
}

/// A voided claim does not get the value back when the record that voided it is deleted.
#[test]
fn a_voided_claim_stays_void_after_the_record_is_gone() {
    let (_store, _clock, pool) = ticking_store();
    let mut held = claim(&pool, "run 1", &["a"]);
    track(&pool, &["a"]);
    pool.clear().unwrap();
    assert!(!is_in_flight(&pool, "a"));
    assert_eq!(outcomes(&held.confirm().unwrap()), [(0, "lost")]);
    assert!(values(&pool).is_empty());
}

#[test]
fn filtering_and_tracking_takes_over_what_lapsed() {
    let (_store, clock, pool) = ticking_store();
    let mut late = claim(&pool, "run 1", &["a"]);
    clock.advance(MINUTE);
    let verdicts = pool.dedupe(Mode::FilterAndTrack, &["a", "a"], key, &Origin::none()).unwrap();
    assert_eq!(verdicts.as_slice(), [Verdict::New, Verdict::Duplicate]);
    assert_eq!(outcomes(&late.confirm().unwrap()), [(0, "already tracked")]);
    assert_eq!(values(&pool), ["a"]);
}

#[test]
fn clearing_and_expiry_leave_claims_alone() {
    let (store, clock, pool) = ticking_store();
    store
        .update_pool(
            pool.id(),
            datapool_store::PoolUpdate::new().retention(Duration::from_secs(1)).capacity(1),
        )
        .unwrap();
    track(&pool, &["old"]);
    let mut held = claim(&pool, "run 1", &["a", "b"]);
    assert_eq!(pool.clear().unwrap(), 1);
    clock.advance(Duration::from_secs(2));
    assert!(is_in_flight(&pool, "a"));
    held.confirm().unwrap().all_confirmed().unwrap();
    // Both were tracked, and then the older one was evicted.
    assert_eq!(values(&pool), ["b"]);
}

#[test]
fn a_deleted_pool_takes_its_claims_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let store =
        support::embedded::open(&directory.path().join("pools.redb"), &support::options(), Sizes::SMALL)
            .unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let kept = store.get_or_create_pool("kept").unwrap();
    let mut held = claim(&pool, "run 1", &["a"]);
    let token = claim(&pool, "run 2", &["b"]).into_token().unwrap();
    let other = claim(&kept, "run 1", &["a"]);
    store.delete_pool(pool.id()).unwrap();
    assert_eq!(held.confirm().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.resume_claim(&token).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pool.claims().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(is_in_flight(&kept, "a"));
    let again = store.get_or_create_pool("orders").unwrap();
    assert!(!is_in_flight(&again, "a"));
    drop((held, other));
}

#[test]
fn claims_are_listed_oldest_first_and_counted() {
    let (_store, clock, pool) = ticking_store();
    let first = claim(&pool, "run 1", &["a", "b"]);
    clock.advance(MINUTE / 2);
    let second = claim(&pool, "run 2", &["c", "a"]);
    assert!(claim(&pool, "run 3", &["a"]).into_token().is_none(), "nothing was claimed");
    let listed = pool.claims().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].id, &listed[0].origin, listed[0].items), (1, &runner("run 1"), 2));
    assert_eq!((listed[1].id, listed[1].until, listed[1].items), (2, second.until(), 1));
    assert_eq!(pool.stats().unwrap().claims, 2);
    clock.advance(MINUTE / 2);
    let lapsed: Vec<bool> = pool.claims().unwrap().iter().map(|claim| claim.is_lapsed).collect();
    assert_eq!(lapsed, [true, false]);
    let json = serde_json::to_value(&listed[0]).unwrap();
    let expected = serde_json::json!({
        "id": 1, "flow_id": "shop", "flow_run_id": "run 1", "step_id": "deliver",
        "owner": null, "since": "2013-01-01T00:00:00.000000Z", "until": "2013-01-01T00:01:00.000000Z",
        "is_lapsed": false, "items": 2
    });
    assert_eq!(json, expected);
    drop((first, second));
    assert!(pool.claims().unwrap().is_empty());
    assert_eq!(pool.stats().unwrap().claims, 0);
}

// ---- Durability, threads, processes ---------------------------------------------------------------------------

#[test]
fn a_claim_is_durable_when_it_returns_even_in_a_relaxed_store() {
    let relaxed = Durability::Relaxed { flush_every: Duration::from_hours(1) };
    let options = support::options().durability(relaxed).clock(support::clock());
    let (disk, store) = support::measured_store(&options);
    let pool = store.get_or_create_pool("orders").unwrap();
    track(&pool, &["tracked"]);
    let held = claim(&pool, "run 1", &["a"]);
    let copy = disk.copy();
    let after_power_loss = support::embedded::on_disk(copy, &options, Sizes::SMALL).unwrap();
    let again = after_power_loss.pool_named("orders").unwrap();
    assert!(is_in_flight(&again, "a"));
    assert_eq!(again.claims().unwrap().len(), 1);
    drop(held);
}

#[test]
fn a_bad_claim_is_refused_and_claims_nothing() {
    let (_store, _clock, pool) = ticking_store();
    let too_long = "x".repeat(limits::VALUE_MAX_BYTES + 1);
    let error = pool.claim(&["a", "", "b"], key, &Origin::none(), MINUTE).unwrap_err();
    assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(1)));
    let error = pool.claim(&["a", too_long.as_str()], key, &Origin::none(), MINUTE).unwrap_err();
    assert_eq!((error.kind(), error.item()), (ErrorKind::LimitExceeded, Some(1)));
    for lease in [Duration::ZERO, limits::LEASE_MAX + Duration::from_secs(1), Duration::MAX] {
        let error = pool.claim(&["a"], key, &Origin::none(), lease).unwrap_err();
        assert_eq!((error.kind(), error.parameter()), (ErrorKind::LimitExceeded, Some("lease")), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("{lease:?}")) && text.contains("1 ms to 365 days"), "{text}");
    }
    let mut held = claim(&pool, "run 1", &["c"]);
    assert_eq!(held.extend(Duration::ZERO).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert!(!is_in_flight(&pool, "a"));
    let none: [&str; 0] = [];
    let empty = pool.claim(&none, key, &Origin::none(), MINUTE).unwrap();
    assert!(empty.verdicts().is_empty() && empty.into_token().is_none());
}

#[test]
fn a_guard_dropped_inside_a_key_closure_does_not_hang() {
    let (_store, _clock, pool) = ticking_store();
    let held = Mutex::new(Some(claim(&pool, "run 1", &["a"])));
    let again = pool
        .claim(
            &["a"],
            |value| {
                drop(held.lock().unwrap().take());
                key(value)
            },
            &Origin::none(),
            MINUTE,
        )
        .unwrap();
    assert_eq!(claimed(&again), [true]);
}

/// 64 threads with overlapping batches. Some release, some drop, some let the lease expire, some pass on a
/// token, and some confirm item by item. Each thread counts the items that it confirms. At the end, each item
/// was confirmed exactly once.
#[test]
fn of_many_threads_with_overlapping_claims_exactly_one_confirms_each_item() {
    const ITEMS: u64 = 400;
    let (store, clock, pool) = ticking_store();
    let (tokens, confirmed) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::<u64, usize>::new()));
    let done = AtomicUsize::new(0);
    let number_of = |claim: &Claim| -> BTreeMap<usize, u64> {
        claim.keys().map(|(index, key)| (index, key.value().parse().unwrap())).collect()
    };
    let confirm = |claim: &mut Claim, indexes: Option<Vec<usize>>| {
        let numbers = number_of(claim);
        let confirmation = match indexes {
            Some(indexes) => claim.confirm_items(&indexes),
            None => claim.confirm(),
        };
        let mut confirmed = confirmed.lock().unwrap();
        for (index, outcome) in confirmation.unwrap().outcomes() {
            if matches!(outcome, ClaimOutcome::Confirmed(_)) {
                *confirmed.entry(numbers[index]).or_default() += 1;
                done.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..64_u64 {
            let (store, pool, clock, tokens, done, confirm) =
                (&store, &pool, &clock, &tokens, &done, &confirm);
            scope.spawn(move || {
                let mut numbers = support::Numbers::seeded(thread);
                while done.load(Ordering::SeqCst) < ITEMS as usize {
                    let start = numbers.next(ITEMS);
                    let items: Vec<String> =
                        (start..start + 1 + numbers.next(12)).map(|n| (n % ITEMS).to_string()).collect();
                    let origin = Origin::none().with_run(thread);
                    let of = |item| Key::new(ORDERS, String::as_str(item));
                    let mut held = pool.claim(&items, of, &origin, MINUTE).unwrap();
                    match numbers.next(8) {
                        0 => drop(held),
                        1 => drop(held.release().unwrap()),
                        2 => {
                            // The lease of every claim expires.
                            clock.advance(MINUTE);
                            confirm(&mut held, None);
                        }
                        3 => tokens.lock().unwrap().extend(held.into_token()),
                        4 => {
                            let token = tokens.lock().unwrap().pop();
                            if let Some(mut resumed) = token.and_then(|token| store.resume_claim(&token).ok())
                            {
                                confirm(&mut resumed, None);
                            }
                            confirm(&mut held, None);
                        }
                        5 => {
                            let half = held.keys().map(|(index, _)| index).step_by(2).collect();
                            confirm(&mut held, Some(half));
                        }
                        _ => confirm(&mut held, None),
                    }
                }
            });
        }
    });
    let confirmed = confirmed.into_inner().unwrap();
    assert_eq!(confirmed, (0..ITEMS).map(|number| (number, 1)).collect());
    let mut tracked: Vec<u64> = values(&pool).iter().map(|value| value.parse().unwrap()).collect();
    tracked.sort_unstable();
    assert!(tracked.into_iter().eq(0..ITEMS), "every item is tracked once");
    // Nobody needs what the tokens still hold.
    for token in tokens.into_inner().unwrap() {
        drop(store.resume_claim(&token));
    }
    clock.advance(MINUTE + limits::CLAIM_KEPT_AFTER_LEASE);
    pool.prune().unwrap();
    assert!(pool.claims().unwrap().is_empty());
}

/// Two threads compete for the same values. Each value goes to exactly one of them.
#[test]
fn of_threads_that_claim_one_value_exactly_one_gets_it() {
    let (_store, _clock, pool) = ticking_store();
    for round in 0..50 {
        let value = format!("v{round}");
        let held: Vec<Claim> = std::thread::scope(|scope| {
            let claim_it = || pool.claim(&[value.as_str()], key, &Origin::none(), MINUTE).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim_it)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(held.iter().map(Claim::held_count).sum::<usize>(), 1);
    }
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 0);
}

#[test]
fn a_pool_row_and_a_claim_may_change_in_one_group() {
    let store = support::store_for(Need::Any);
    let pool = store.create_pool(NewPool::new("orders").capacity(2)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..30 {
                    let value = format!("{thread}/{round}");
                    let mut held = pool.claim(&[value.as_str()], key, &Origin::none(), MINUTE).unwrap();
                    held.confirm().unwrap().all_confirmed().unwrap();
                }
            });
        }
    });
    assert_eq!(values(&pool).len(), 2);
    assert!(pool.claims().unwrap().is_empty());
}

#[test]
fn claimed_items_come_with_their_indexes_and_can_be_confirmed_one_by_one() {
    let (store, _clock, pool) = ticking_store();
    track(&pool, &["old"]);
    let other = claim(&pool, "run 1", &["held"]);
    let batch = ["old", "A-1", "held", "A-2", "A-1"];
    let mut mine = claim(&pool, "run 2", &batch);
    assert_eq!(mine.claimed(&batch).collect::<Vec<_>>(), [(1, &"A-1"), (3, &"A-2")]);
    assert_eq!(mine.claimed(&batch[..2]).collect::<Vec<_>>(), [(1, &"A-1")]);
    assert!(mine.verdicts().iter().all(|(index, verdict)| verdict.is_claimed() == [1, 3].contains(index)));
    for (index, value) in mine.claimed(&batch) {
        mine.confirm_items(&[index]).unwrap().all_confirmed().unwrap();
        assert!(has(&pool, value));
    }
    assert_eq!(mine.held_count(), 0);
    let token = other.into_token().unwrap();
    let taken_up = store.resume_claim(&token).unwrap();
    assert_eq!(taken_up.claimed(&["held"]).collect::<Vec<_>>(), [(0, &"held")]);
}

#[test]
fn no_row_of_a_deleted_pools_claims_is_left() {
    let store = support::store_for(Need::Any);
    let new = |name: &str| store.get_or_create_pool(name).unwrap();
    let (held, settled, without) = (new("held"), new("settled"), new("without"));
    let running = claim(&held, "run 1", &["a", "b"]);
    // A pool keeps its last fencing number when no claim is left.
    claim(&settled, "run 1", &["a"]).confirm().unwrap().all_confirmed().unwrap();
    track(&without, &["a"]);
    for pool in [&held, &settled, &without] {
        store.delete_pool(pool.id()).unwrap();
        assert_eq!(store.verify().unwrap().findings, []);
    }
    drop(running);
    assert_eq!(store.verify().unwrap().findings, []);
}
