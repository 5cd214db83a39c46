//! Proves that a token carries a complete claim to another process: its items keep their indexes, and lost
//! and settled items stay so. Also proves that keys name items as well as indexes do.

use datapool_store::{ClaimToken, ClaimVerdict, ErrorKind, Key, limits};

use super::{MINUTE, claim, claimed, is_in_flight, key, outcomes, runner, ticking_store};
use crate::support::{self, ORDERS, StoreFile, has, track, values};

#[test]
fn a_token_takes_the_claim_up_where_it_was_left() {
    let (store, clock, pool) = ticking_store();
    let long = "x".repeat(limits::VALUE_MAX_BYTES);
    let items = ["a", "b", "c", long.as_str(), "d"];
    let mut held = pool.claim(&items, key, &runner("run 1"), MINUTE).unwrap();
    held.confirm_items(&[0]).unwrap().all_confirmed().unwrap();
    let token = held.into_token().unwrap();
    assert!(is_in_flight(&pool, "b"), "the token keeps the claim");
    clock.advance(MINUTE);
    let thief = claim(&pool, "run 2", &["c"]);
    let text = token.to_string();
    let mut again = store.resume_claim(&text.parse().unwrap()).unwrap();
    assert_eq!(claimed(&again), [false, true, false, true, true]);
    assert_eq!(again.verdict(0), Some(&ClaimVerdict::Settled));
    assert_eq!(again.verdict(2), Some(&ClaimVerdict::Lost));
    let split = again.partition([0, 1, 2, 3, 4]);
    assert_eq!((split.fresh, split.duplicates, split.in_flight), (vec![1, 3, 4], vec![0], vec![2]));
    let keys: Vec<_> = again.keys().map(|(index, key)| (index, key.value().to_owned())).collect();
    assert_eq!(keys, [(1, "b".to_owned()), (3, long.clone()), (4, "d".to_owned())]);
    assert_eq!(again.confirm_items(&[0]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    // A lost item has an outcome, too, because the flow must learn of it.
    let confirmation = again.confirm().unwrap();
    assert_eq!(outcomes(&confirmation), [(1, "confirmed"), (2, "lost"), (3, "confirmed"), (4, "confirmed")]);
    assert_eq!(confirmation.all_confirmed().unwrap_err().item(), Some(2));
    assert_eq!(values(&pool), ["a", "b", long.as_str(), "d"]);
    let record = &support::records(&pool)[2];
    assert_eq!(record.flow_run_id.as_ref().unwrap().as_str(), "run 1");
    let error = store.resume_claim(&token).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    drop(thief);
}

#[test]
fn a_claim_that_was_overtaken_says_so_when_it_is_taken_up_and_confirmed() {
    let (store, _clock, pool) = ticking_store();
    let token = claim(&pool, "run 1", &["a", "b"]).into_token().unwrap();
    track(&pool, &["a", "b"]);
    let mut again = store.resume_claim(&token).unwrap();
    assert_eq!(again.verdicts(), [(0, ClaimVerdict::Lost), (1, ClaimVerdict::Lost)]);
    assert_eq!((again.held_count(), again.keys().count()), (0, 0));
    let one = again.confirm_items(&[1]).unwrap();
    assert_eq!(outcomes(&one), [(1, "already tracked")]);
    assert_eq!(outcomes(&again.confirm().unwrap()), [(0, "already tracked")]);
    assert!(pool.claims().unwrap().is_empty(), "nothing is left of the claim");
    assert_eq!(values(&pool), ["a", "b"]);

    // Dropping a guard ends the claim, even if it owned nothing.
    let token = claim(&pool, "run 1", &["c"]).into_token().unwrap();
    track(&pool, &["c"]);
    drop(store.resume_claim(&token).unwrap());
    assert!(pool.claims().unwrap().is_empty());
}

#[test]
fn a_claim_goes_when_two_guards_have_settled_all_of_it_between_them() {
    let (store, _clock, pool) = ticking_store();
    let token = claim(&pool, "run 1", &["a", "b", "c"]).into_token().unwrap();
    let (mut one, mut other) = (store.resume_claim(&token).unwrap(), store.resume_claim(&token).unwrap());
    one.confirm_items(&[0]).unwrap().all_confirmed().unwrap();
    assert_eq!(other.release_items(&[1]).unwrap(), 1);
    one.confirm_items(&[2]).unwrap().all_confirmed().unwrap();
    assert!(pool.claims().unwrap().is_empty());
    // To the other guard, it looks as if another caller had tracked them.
    assert_eq!(outcomes(&other.confirm().unwrap()), [(0, "already tracked"), (2, "already tracked")]);
    assert!(other.into_token().is_none());
    assert_eq!(outcomes(&one.confirm().unwrap()), [(1, "lost")]);
    assert_eq!(values(&pool), ["a", "c"]);
}

/// Items that were not claimed leave gaps between the indexes, also at the beginning.
#[test]
fn an_item_keeps_its_index_when_its_claim_is_taken_up_again_and_again() {
    let file = StoreFile::new();
    let (pool, store) = file.open_orders();
    track(&pool, &["tracked"]);
    let other = claim(&pool, "run 1", &["held"]).into_token();
    let batch = ["tracked", "a", "held", "b", "a", "c", "d", "tracked"];
    let mut token = claim(&pool, "run 2", &batch).into_token().unwrap();
    drop((pool, store));
    for (index, value) in [(5, "c"), (1, "a"), (6, "d")] {
        let (pool, store) = file.open_orders();
        let mut held = store.resume_claim(&token).unwrap();
        for other in [0, 2, 4, 7, 8] {
            let error = held.confirm_items(&[index, other]).unwrap_err();
            assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(other)), "{error}");
            assert_eq!(held.verdict(other), None);
        }
        assert!(!has(&pool, value));
        assert_eq!(outcomes(&held.confirm_items(&[index]).unwrap()), [(index, "confirmed")]);
        assert!(has(&pool, value));
        assert_eq!(held.confirm_items(&[index]).unwrap_err().item(), Some(index));
        token = held.into_token().unwrap();
    }
    let (pool, store) = file.open_orders();
    let mut held = store.resume_claim(&token).unwrap();
    let verdicts = [
        (1, ClaimVerdict::Settled),
        (3, ClaimVerdict::Claimed),
        (5, ClaimVerdict::Settled),
        (6, ClaimVerdict::Settled),
    ];
    assert_eq!(held.verdicts(), verdicts);
    let split = held.partition(batch);
    assert_eq!((split.fresh, split.duplicates), (vec!["b"], vec!["a", "c", "d"]));
    assert_eq!((split.in_flight, split.unmatched), (vec![], vec!["tracked", "held", "a", "tracked"]));
    assert!(held.keys().map(|(index, key)| (index, key.value().to_owned())).eq([(3, "b".to_owned())]));
    assert_eq!(outcomes(&held.confirm().unwrap()), [(3, "confirmed")]);
    assert_eq!(values(&pool), ["tracked", "c", "a", "d", "b"]);
    assert!(other.is_some() && pool.claims().unwrap().len() == 1);
}

/// Large values fill separate blocks, and indexes start again in each block.
#[test]
fn an_item_keeps_its_index_in_a_claim_of_many_blocks() {
    let (store, _clock, pool) = ticking_store();
    let batch: Vec<String> =
        (0..3_000).map(|number| format!("{number}-{}", "x".repeat(number % 900))).collect();
    let every_third: Vec<&String> = batch.iter().step_by(3).collect();
    track(&pool, &every_third);
    let held = pool.claim(&batch, |v| Key::new(ORDERS, v.as_str()), &runner("run 1"), MINUTE).unwrap();
    let token = held.into_token().unwrap();
    let mut again = store.resume_claim(&token).unwrap();
    let indexes: Vec<usize> = (0..3_000).filter(|index| index % 3 > 0).collect();
    assert!(again.verdicts().iter().map(|(index, _)| *index).eq(indexes.iter().copied()));
    assert!(again.keys().all(|(index, key)| key.value() == batch[index]));
    again.confirm_items(&[1, 1_499, 2_999]).unwrap().all_confirmed().unwrap();
    assert!([1, 1_499, 2_999].iter().all(|index| has(&pool, &batch[*index])));
    assert!(!has(&pool, &batch[2]) && !has(&pool, &batch[1_498]));
    assert_eq!(again.release().unwrap(), 1_997);
}

#[test]
fn keys_name_the_items_of_a_claim_and_of_one_that_was_taken_up() {
    let (store, _clock, pool) = ticking_store();
    track(&pool, &["old"]);
    let named = |value: &'static str| Key::new(ORDERS, value);
    let mut held = claim(&pool, "run 1", &["old", "a", "b", "a", "c", "d", "e"]);
    // Naming an item twice counts once.
    let confirmation = held.confirm_keys(&[named("b"), named("a"), named("b")]).unwrap();
    assert_eq!(outcomes(&confirmation), [(1, "confirmed"), (2, "confirmed")]);
    assert_eq!(held.release_keys(&[named("c")]).unwrap(), 1);
    for other in [named("a"), named("c"), named("old"), named("new"), Key::new(47, "d")] {
        let keys = [named("d"), other];
        for error in [held.confirm_keys(&keys).unwrap_err(), held.release_keys(&keys).unwrap_err()] {
            assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(1)), "{error}");
            assert!(error.to_string().contains(keys[1].value()), "{error}");
        }
    }
    let error = held.confirm_keys(&[named("d"), named("d"), named("")]).unwrap_err();
    assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(2)), "{error}");
    assert!(held.confirm_keys(&[]).unwrap().outcomes().is_empty());
    assert!(is_in_flight(&pool, "d") && !is_in_flight(&pool, "c"), "a refused call settles nothing");

    let mut again = store.resume_claim(&held.into_token().unwrap()).unwrap();
    assert_eq!(again.confirm_keys(&[named("d"), named("a")]).unwrap_err().item(), Some(1));
    track(&pool, &["e"]);
    let confirmation = again.confirm_keys(&[named("e"), named("d")]).unwrap();
    assert_eq!(outcomes(&confirmation), [(5, "confirmed"), (6, "already tracked")]);
    assert!(pool.claims().unwrap().is_empty());
    assert_eq!(again.release_keys(&[named("e")]).unwrap_err().item(), Some(0));
    assert_eq!(values(&pool), ["old", "a", "b", "e", "d"]);
}

#[test]
fn a_claims_damaged_items_are_an_error_that_says_what_is_wrong() {
    type Bytes = &'static [u8];
    const ITEMS: redb::TableDefinition<'_, (u64, u64, u32), Bytes> =
        redb::TableDefinition::new("claim items");
    // Each item has an index, an entity type, four times the length of the value, and the value.
    let cases: [(&[&[u8]], &str); 7] = [
        (&[&[0, 37, 4, b'a', 0, 37, 4, b'b']], "out of order"),
        (&[&[3, 37, 4, b'a'], &[3, 37, 4, b'b']], "out of order"),
        (&[&[0xff, 0xff, 0x7f, 37, 4, b'a', 1, 37, 4, b'b']], "damaged"),
        (&[&[0, 37, 4, b'a', 1, 37, 36, b'b']], "damaged"),
        // An unknown kind of version, and a truncated version.
        (&[&[0, 37, 4, b'a', 1, 37, 7, b'b']], "damaged"),
        (&[&[0, 37, 4, b'a', 1, 37, 6, b'b', 1, 2, 3]], "damaged"),
        (&[&[0, 37, 4, b'a']], "1 items instead of 2"),
    ];
    for (blocks, reason) in cases {
        let place = support::Place::new();
        let token = {
            let store = place.open();
            let pool = store.get_or_create_pool("orders").unwrap();
            claim(&pool, "run 1", &["a", "b"]).into_token().unwrap()
        };
        place.damage(|txn| {
            let mut table = txn.open_table(ITEMS).unwrap();
            for (number, block) in (0..).zip(blocks) {
                table.insert((1, 1, number), *block).unwrap();
            }
        });
        let store = place.open();
        let error = store.resume_claim(&token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        let findings = store.verify().unwrap().findings;
        assert!(findings.len() == 1 && findings[0].table == "claim items", "{findings:?}");
    }
}

/// The length of a lease limits the time left, whatever the clock was set to meanwhile.
#[test]
fn a_lease_that_was_extended_is_as_long_after_reopening() {
    let file = StoreFile::new();
    let (pool, store) = file.open_orders();
    let mut held = claim(&pool, "run 1", &["a"]);
    let until = held.extend(10 * MINUTE).unwrap();
    let token = held.into_token().unwrap();
    drop((pool, store));
    file.clock.advance(5 * MINUTE);
    let (pool, store) = file.open_orders();
    assert_eq!(pool.claims().unwrap()[0].until, until);
    assert!(is_in_flight(&pool, "a"));
    file.clock.advance(4 * MINUTE);
    assert!(is_in_flight(&pool, "a"));
    store.resume_claim(&token).unwrap().confirm().unwrap().all_confirmed().unwrap();
}

#[test]
fn what_two_guards_of_a_claim_settle_twice_stays_settled() {
    let (store, _clock, pool) = ticking_store();
    let token = claim(&pool, "run 1", &["a", "b", "c"]).into_token().unwrap();
    let (mut one, mut other) = (store.resume_claim(&token).unwrap(), store.resume_claim(&token).unwrap());
    one.confirm_items(&[0]).unwrap().all_confirmed().unwrap();
    assert_eq!(outcomes(&other.confirm_items(&[0]).unwrap()), [(0, "already tracked")]);
    one.confirm_items(&[1]).unwrap().all_confirmed().unwrap();
    other.confirm_items(&[2]).unwrap().all_confirmed().unwrap();
    assert!(pool.claims().unwrap().is_empty());
}

#[test]
fn a_dropped_claim_that_was_taken_up_releases_and_a_second_token_finds_nothing() {
    let (store, _clock, pool) = ticking_store();
    let token = claim(&pool, "run 1", &["a"]).into_token().unwrap();
    let (one, mut two) = (store.resume_claim(&token).unwrap(), store.resume_claim(&token).unwrap());
    drop(one);
    assert_eq!(outcomes(&two.confirm().unwrap()), [(0, "lost")]);
    // The id of a claim is not enough, because the holder of the next claim is another runner.
    let mut next = claim(&pool, "run 2", &["a"]);
    assert_eq!(store.resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(outcomes(&next.confirm().unwrap()), [(0, "confirmed")]);
}

/// After reopening, ids of claims may be reused. An old token must not match a new claim.
#[test]
fn a_token_of_a_settled_claim_fits_no_later_claim_of_the_same_id() {
    let file = StoreFile::new();
    let open = || file.open();
    let store = open();
    let pool = store.get_or_create_pool("orders").unwrap();
    let token = claim(&pool, "run 1", &["a"]).into_token().unwrap();
    drop(store.resume_claim(&token).unwrap());
    drop((store, pool));
    let store = open();
    let pool = store.get_or_create_pool("orders").unwrap();
    let held = claim(&pool, "run 1", &["a"]);
    assert_eq!(store.resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert!(is_in_flight(&pool, "a"));
    drop(held);
}

#[test]
fn a_token_of_another_store_or_a_damaged_one_is_refused() {
    let (store, _clock, pool) = ticking_store();
    let (other, _, other_pool) = ticking_store();
    let token = claim(&pool, "run 1", &["a"]).into_token().unwrap();
    let _held = claim(&other_pool, "run 1", &["a"]);
    let error = other.resume_claim(&token).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let text = token.to_string();
    for bad in ["", "dpclaim1", &text[1..], &format!("{text}.0"), &text.replace("dpclaim1", "dpclaim2")] {
        let error = bad.parse::<ClaimToken>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
    }
    let wrong: ClaimToken =
        format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' })
            .parse()
            .unwrap();
    assert_eq!(store.resume_claim(&wrong).unwrap_err().kind(), ErrorKind::LeaseLost);
    assert!(is_in_flight(&pool, "a"));
}
