//! Proves that a result is kept exactly as long as its record lives; that its limits hold; and that pools
//! without results have no tables for them.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    Access, Claim, ClaimOutcome, ClaimVerdict, Confirmation, DataPoolStore, ErrorKind, ImportOptions, Key,
    ManualClock, NewPool, Origin, Pool, PoolUpdate, RecordFilter, WaitOutcome, limits,
};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use super::{MINUTE, claim, outcomes, ticking_store};
use crate::support::{self, Need, ORDERS, Place, has, track};

fn keys(values: &[String]) -> Vec<Key<'_>> {
    values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect()
}

fn claim_all(pool: &Pool, values: &[String]) -> Claim {
    pool.claim(values, |value| Key::new(ORDERS, value.as_str()), &Origin::none(), MINUTE).unwrap()
}

/// Tracks values, each with the result for its index.
fn keep(pool: &Pool, values: &[String], result: impl FnMut(usize) -> Option<Vec<u8>>) {
    claim_all(pool, values).confirm_with(result).unwrap().all_confirmed().unwrap();
}

fn result(pool: &Pool, value: &str) -> Option<Vec<u8>> {
    pool.results(&[Key::new(ORDERS, value)]).unwrap().remove(0)
}

fn text(result: Option<Vec<u8>>) -> Option<String> {
    result.map(|result| String::from_utf8(result).unwrap())
}

/// Returns the tables of results in a closed file.
fn tables(place: &Place) -> Vec<String> {
    let database = redb::Database::create(&place.path).unwrap();
    let snapshot = database.begin_read().unwrap();
    let names = snapshot.list_tables().unwrap().map(|table| table.name().to_owned());
    let mut tables: Vec<String> = names.filter(|name| name.starts_with("results/")).collect();
    tables.sort();
    tables
}

/// Returns the range of slots with results in a segment of a closed file.
fn slots(place: &Place, table: &str) -> Option<Range<u32>> {
    let table: TableDefinition<'_, u32, &[u8]> = TableDefinition::new(table);
    let database = redb::Database::create(&place.path).unwrap();
    let table = database.begin_read().unwrap().open_table(table).ok()?;
    Some(table.first().unwrap()?.0.value()..table.last().unwrap()?.0.value() + 1)
}

#[test]
fn a_result_is_kept_with_its_record_and_a_duplicate_gets_it() {
    let (_store, _clock, pool) = ticking_store();
    let mut first = claim(&pool, "run 1", &["a", "b", "c", "d"]);
    let mut asked = vec![];
    let confirmation = first.confirm_with(|index| {
        asked.push(index);
        [Some("created"), None, Some(""), Some("Größe\0")][index]
    });
    confirmation.unwrap().all_confirmed().unwrap();
    assert_eq!(asked, [0, 1, 2, 3], "once for each item, in order");
    assert_eq!(first.held_count(), 0);

    let again = claim(&pool, "run 2", &["c", "a", "b", "d"]);
    let kept = again.verdicts().iter().map(|(_, verdict)| {
        let ClaimVerdict::Duplicate(Some(first)) = verdict else { panic!("{verdict:?}") };
        text(pool.result(first.id).unwrap())
    });
    // No result differs from an empty result.
    let expected = [Some(String::new()), Some("created".into()), None, Some("Größe\0".into())];
    assert_eq!(kept.collect::<Vec<_>>(), expected);
    let asked = ["a", "x", "a", "c", "b"].map(|value| Key::new(ORDERS, value));
    let kept: Vec<_> = pool.results(&asked).unwrap().into_iter().map(text).collect();
    assert_eq!(kept, [Some("created".into()), None, Some("created".into()), Some(String::new()), None]);
    for unknown in [0, 5, u64::MAX] {
        assert_eq!(pool.result(unknown).unwrap(), None);
    }
    let bad = pool.results(&[Key::new(ORDERS, "a"), Key::new(ORDERS, "")]).unwrap_err();
    assert_eq!((bad.kind(), bad.item()), (ErrorKind::InvalidArgument, Some(1)));
}

#[test]
fn results_come_as_whatever_turns_into_bytes() {
    let (_store, _clock, pool) = ticking_store();
    let confirm = |value: &str, confirm: &dyn Fn(&mut Claim) -> datapool_store::Result<Confirmation>| {
        confirm(&mut claim(&pool, "run 1", &[value])).unwrap().all_confirmed().unwrap();
        result(&pool, value)
    };
    let bytes = Some(b"ok".to_vec());
    assert_eq!(confirm("a", &|claim| claim.confirm_with(|_| Some(b"ok".to_vec()))), bytes);
    assert_eq!(confirm("b", &|claim| claim.confirm_with(|_| Some("ok".to_owned()))), bytes);
    assert_eq!(confirm("c", &|claim| claim.confirm_with(|_| Some("ok"))), bytes);
    assert_eq!(confirm("d", &|claim| claim.confirm_with(|_| Some(b"ok"))), bytes);
    assert_eq!(confirm("e", &|claim| claim.confirm_with(|_| Some(b"ok".as_slice()))), bytes);
    assert_eq!(confirm("f", &|claim| claim.confirm_with(|_| None::<Vec<u8>>)), None);
}

#[test]
fn a_result_has_64_kib_at_most() {
    let (store, _clock, pool) = ticking_store();
    let mut held = claim(&pool, "run 1", &["a", "b", "c"]);
    let most = limits::RESULT_MAX_BYTES;
    assert_eq!(most, 65_536);
    let mut asked = vec![];
    let refused = held.confirm_with(|index| {
        asked.push(index);
        Some(vec![7; if index == 1 { most + 1 } else { 3 }])
    });
    let error = refused.unwrap_err();
    assert_eq!((error.kind(), error.item()), (ErrorKind::LimitExceeded, Some(1)));
    let message = error.to_string();
    assert!(message.contains("65537") && message.contains("65536 (RESULT_MAX_BYTES)"), "{message}");
    assert_eq!(asked, [0, 1], "later results are not asked for");
    assert_eq!((held.held_count(), has(&pool, "a")), (3, false), "nothing is confirmed");

    held.confirm_with(|index| Some(vec![index as u8; most])).unwrap().all_confirmed().unwrap();
    for (index, value) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(result(&pool, value), Some(vec![index as u8; most]));
    }
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn the_results_of_a_call_have_64_mib_at_most() {
    let pool = support::store_for(Need::Any).get_or_create_pool("orders").unwrap();
    let (most, largest) = (limits::RESULTS_MAX_BYTES, limits::RESULT_MAX_BYTES);
    assert_eq!(most, 64 << 20);
    let values = support::numbered("A", most / largest + 1);
    let mut held = claim_all(&pool, &values);
    let error =
        held.confirm_with(|index| Some(vec![1; largest.min(most + 1 - index * largest)])).unwrap_err();
    assert_eq!((error.kind(), error.item()), (ErrorKind::LimitExceeded, Some(1_024)));
    let message = error.to_string();
    assert!(message.contains("67108865") && message.contains("67108864 (RESULTS_MAX_BYTES)"), "{message}");
    assert_eq!((held.held_count(), pool.count(&RecordFilter::all()).unwrap()), (1_025, 0));

    let confirmed = held.confirm_with(|index| Some(vec![2; largest.min(most - index * largest)])).unwrap();
    assert_eq!(confirmed.confirmed_count(), 1_025);
    assert_eq!(pool.result(1).unwrap(), Some(vec![2; largest]));
    assert_eq!(pool.result(1_025).unwrap(), Some(vec![]));
}

#[test]
fn items_that_are_settled_already_or_repeat_others_are_not_asked_for() {
    let (_store, _clock, pool) = ticking_store();
    track(&pool, &["tracked"]);
    let other = claim(&pool, "run 1", &["held"]);
    let mut mine = claim(&pool, "run 2", &["tracked", "a", "a", "held", "b", "c", "d", "b"]);
    mine.confirm_items(&[4]).unwrap().all_confirmed().unwrap();
    mine.release_items(&[5]).unwrap();
    let mut asked = vec![];
    let confirmation = mine.confirm_with(|index| {
        asked.push(index);
        Some(index.to_string())
    });
    assert_eq!(outcomes(&confirmation.unwrap()), [(1, "confirmed"), (6, "confirmed")]);
    assert_eq!(asked, [1, 6]);
    let kept = ["a", "b", "c", "d", "tracked"].map(|value| text(result(&pool, value)));
    assert_eq!(kept, [Some("1".into()), None, None, Some("6".into()), None]);
    let nothing = mine.confirm_with(|_| -> Option<Vec<u8>> { panic!("the claim holds nothing") });
    assert_eq!(nothing.unwrap().outcomes(), []);
    drop(other);
}

#[test]
fn a_claim_that_lost_an_item_does_not_keep_its_result() {
    let (_store, clock, pool) = ticking_store();
    let mut late = claim(&pool, "run 1", &["taken", "tracked", "mine", "voided"]);
    clock.advance(MINUTE);
    let mut other = claim(&pool, "run 2", &["taken"]);
    other.confirm_with(|_| Some("of run 2")).unwrap().all_confirmed().unwrap();
    track(&pool, &["tracked", "voided"]);
    pool.delete_keys(&[Key::new(ORDERS, "voided")]).unwrap();
    let confirmation = late.confirm_with(|index| Some(format!("of run 1: {index}"))).unwrap();
    let expected = [(0, "already tracked"), (1, "already tracked"), (2, "confirmed"), (3, "lost")];
    assert_eq!(outcomes(&confirmation), expected);
    let kept = ["taken", "tracked", "mine", "voided"].map(|value| text(result(&pool, value)));
    assert_eq!(kept, [Some("of run 2".into()), None, Some("of run 1: 2".into()), None]);
    let ClaimOutcome::AlreadyTracked(first) = &confirmation.outcomes()[0].1 else { panic!() };
    assert_eq!(text(pool.result(first.id).unwrap()).as_deref(), Some("of run 2"));
}

#[test]
fn a_resumed_claim_asks_by_the_indexes_of_the_batch() {
    let (store, clock, pool) = ticking_store();
    track(&pool, &["tracked"]);
    let mut first = claim(&pool, "run 1", &["tracked", "a", "b", "c", "d"]);
    first.confirm_items(&[2]).unwrap().all_confirmed().unwrap();
    let token = first.into_token().unwrap();
    clock.advance(MINUTE);
    let other = claim(&pool, "run 2", &["c"]);
    let mut resumed = store.resume_claim(&token).unwrap();
    let mut asked = vec![];
    let confirmation = resumed.confirm_with(|index| {
        asked.push(index);
        Some(index.to_string())
    });
    // The claim asks for the results of open items, including lost ones.
    assert_eq!(asked, [1, 3, 4]);
    assert_eq!(outcomes(&confirmation.unwrap()), [(1, "confirmed"), (3, "lost"), (4, "confirmed")]);
    drop(other);
    let kept = ["a", "b", "c", "d"].map(|value| text(result(&pool, value)));
    assert_eq!(kept, [Some("1".into()), None, None, Some("4".into())]);
}

#[test]
fn a_panic_while_results_are_asked_for_leaves_the_claim_open() {
    let (store, _clock, pool) = ticking_store();
    let mut held = claim(&pool, "run 1", &["a", "b"]);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        held.confirm_with(|index| if index == 0 { Some("kept") } else { panic!("the caller's") })
    }));
    assert!(outcome.is_err());
    assert_eq!((held.held_count(), has(&pool, "a")), (2, false));
    track(&pool, &["x"]);
    held.confirm_with(|_| Some("after all")).unwrap().all_confirmed().unwrap();
    assert_eq!(text(result(&pool, "b")).as_deref(), Some("after all"));
    assert_eq!(store.verify().unwrap().findings, []);
}

/// Deleting a record in any way deletes its result at once.
#[test]
fn a_result_goes_with_its_record_and_is_not_the_next_ones() {
    type Gone = fn(&DataPoolStore, &Pool, &ManualClock);
    let ways: [(&str, Gone); 7] = [
        ("by id", |_, pool, _| _ = pool.delete_records([1]).unwrap()),
        ("by key", |_, pool, _| _ = pool.delete_keys(&[Key::new(ORDERS, "a")]).unwrap()),
        ("by filter", |_, pool, _| _ = pool.delete_where(&RecordFilter::new().value("a")).unwrap()),
        ("clear", |_, pool, _| _ = pool.clear().unwrap()),
        ("expiry", |_, _, clock| clock.advance(2 * MINUTE)),
        ("eviction", |_, pool, _| _ = track(pool, &["c", "d", "e", "f"])),
        ("a smaller capacity", |store, pool, _| {
            store.update_pool(pool.id(), PoolUpdate::new().capacity(1)).map(drop).unwrap();
        }),
    ];
    for (way, gone) in ways {
        let (store, clock, _) = ticking_store();
        let new = NewPool::new("limited").retention(2 * MINUTE).capacity(4);
        let pool = store.create_pool(new).unwrap();
        claim(&pool, "run 1", &["a", "b"]).confirm_with(|_| Some("old")).unwrap().all_confirmed().unwrap();
        let before = pool.snapshot().unwrap();
        gone(&store, &pool, &clock);
        assert!(!has(&pool, "a"), "{way}");
        assert_eq!((pool.result(1).unwrap(), result(&pool, "a")), (None, None), "{way}");
        assert_eq!(before.result(1).unwrap().as_deref(), Some(b"old".as_slice()), "{way}");
        drop(before);
        claim(&pool, "run 2", &["a"]).confirm().unwrap().all_confirmed().unwrap();
        assert_eq!((pool.result(1).unwrap(), result(&pool, "a")), (None, None), "{way}");
        pool.prune().unwrap();
        assert_eq!(store.verify().unwrap().findings, [], "{way}");
    }
}

#[test]
fn of_several_records_the_oldest_live_ones_result_counts() {
    let (_store, _clock, pool) = ticking_store();
    claim(&pool, "run 1", &["a"]).confirm_with(|_| Some("first")).unwrap().all_confirmed().unwrap();
    pool.import_csv("value,entity_type_id\na,37\n".as_bytes(), &ImportOptions::new()).unwrap();
    assert_eq!(text(result(&pool, "a")).as_deref(), Some("first"));
    pool.delete_records([1]).unwrap();
    assert_eq!((result(&pool, "a"), has(&pool, "a")), (None, true), "the import kept no result");
}

/// Many segments, folds and openings, with results for a third of the records.
#[test]
fn results_stay_with_their_records_across_segments_folds_and_openings() {
    let place = Place::new();
    let values = support::numbered("A", 600);
    let expected = |index: usize| index.is_multiple_of(3).then(|| format!("result {index}").into_bytes());
    {
        let pool = place.open().get_or_create_pool("orders").unwrap();
        for (start, part) in (0..).step_by(150).zip(values.chunks(150)) {
            keep(&pool, part, |index| expected(start + index));
        }
        pool.delete_records((1..=600).step_by(6)).unwrap();
    }
    let is_kept = |index: usize| expected(index).filter(|_| !index.is_multiple_of(6));
    let check = |pool: &Pool| {
        let kept = (0..600).map(is_kept).collect::<Vec<_>>();
        assert!(pool.results(&keys(&values)).unwrap() == kept);
        assert!((1..=600).map(|id| pool.result(id).unwrap()).eq(kept.iter().cloned()));
    };
    let store = place.open();
    check(&store.pool_named("orders").unwrap());
    store.rebuild_indexes().unwrap();
    check(&store.pool_named("orders").unwrap());
    assert_eq!(store.verify().unwrap().findings, []);
    drop(store);
    let read_only = place.open_with(&support::options().access(Access::ReadOnly)).unwrap();
    check(&read_only.pool_named("orders").unwrap());
}

#[test]
fn only_segments_with_results_have_a_table_for_them_and_it_goes_with_the_segment() {
    let place = Place::new();
    let store = place.open();
    let (pool, plain) =
        (store.get_or_create_pool("orders").unwrap(), store.get_or_create_pool("plain").unwrap());
    let values = support::numbered("A", 200);
    for pool in [&pool, &plain] {
        for values in values.chunks(20) {
            claim_all(pool, values).confirm_with(|_| None::<Vec<u8>>).unwrap().all_confirmed().unwrap();
        }
    }
    // The segments have 64 records. These are the fourth and the fifth.
    keep(&pool, &support::numbered("B", 100), |index| Some(vec![1; index]));
    drop((pool, plain, store));
    assert_eq!(tables(&place), ["results/1/3", "results/1/4"]);
    let store = place.open();
    let pool = store.pool_named("orders").unwrap();
    pool.delete_records(1..=256).unwrap();
    pool.prune().unwrap();
    drop((pool, store));
    assert_eq!(tables(&place), ["results/1/4"]);
    let store = place.open();
    assert_eq!(store.verify().unwrap().findings, []);
    store.delete_pool(1).unwrap();
    drop(store);
    assert_eq!(tables(&place), [""; 0]);
}

/// Large results are removed in shares, so that no commit is long.
#[test]
fn results_of_a_dropped_segment_are_removed_in_shares() {
    let place = Place::new();
    let sizes = Sizes { segment_slots: 256, ..Sizes::SMALL };
    let open = || support::embedded::open(&place.path, &support::options(), sizes).unwrap();
    let store = open();
    let (pool, other) =
        (store.get_or_create_pool("orders").unwrap(), store.get_or_create_pool("other").unwrap());
    keep(&pool, &support::numbered("A", 256), |_| Some(vec![1; limits::RESULT_MAX_BYTES]));
    pool.clear().unwrap();
    drop((pool, other, store));
    let first = |place: &Place| slots(place, "results/1/0").map(|slots| slots.start);
    // 64 results have 4 MiB.
    let mut starts = vec![];
    while let Some(start) = first(&place) {
        starts.push(start);
        let store = open();
        assert_eq!(store.verify().unwrap().findings, [], "the store verifies while results are left");
        track(&store.pool_named("orders").unwrap(), &[format!("later {start}")]);
        assert!(starts.len() < 10, "{starts:?}");
    }
    assert!(starts.is_sorted_by(|one, next| one + 64 == *next) && starts.len() >= 3, "{starts:?}");
    let store = open();
    assert_eq!(store.pool_named("orders").unwrap().result(1).unwrap(), None);
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn pruning_counts_the_bytes_of_results() {
    let (_store, _clock, pool) = ticking_store();
    keep(&pool, &support::numbered("A", 300), |_| Some(vec![1; 10_000]));
    pool.clear().unwrap();
    assert!(pool.prune().unwrap().bytes + 64 * 10_000 >= 3_000_000);
}

/// The dead records at the head of a segment with live records are removed, and so are their results.
#[test]
fn results_of_a_dead_head_are_cut_off_with_it() {
    let place = Place::new();
    let sizes = Sizes { segment_slots: 8_192, chunk_slots: 1_024, early_seal_slots: 4_096, ..Sizes::SMALL };
    let open = || support::embedded::open(&place.path, &support::options(), sizes).unwrap();
    let store = open();
    let pool = store.create_pool(NewPool::new("orders").capacity(50)).unwrap();
    let values = support::numbered("A", 2_000);
    for values in values.chunks(40) {
        keep(&pool, values, |_| Some(values[0].clone().into_bytes()));
    }
    pool.prune().unwrap();
    assert_eq!(text(result(&pool, "A-1960")).as_deref(), Some("A-1960"));
    assert_eq!(store.verify().unwrap().findings, []);
    drop((pool, store));
    let left = slots(&place, "results/1/0").unwrap();
    assert!(left.start >= 900 && left.end == 2_000, "{left:?}");
    let store = open();
    store.rebuild_indexes().unwrap();
    assert_eq!(text(result(&store.pool_named("orders").unwrap(), "A-1999")).as_deref(), Some("A-1960"));
}

#[test]
fn a_pool_that_keeps_few_records_with_results_stays_small() {
    let (disk, store) = support::measured_store(&support::options());
    let pool = store.create_pool(NewPool::new("orders").capacity(100)).unwrap();
    let mut largest = [0, 0];
    for round in 0..60 {
        let values = support::numbered(&format!("A-{round}"), 50);
        keep(&pool, &values, |_| Some(vec![7; 3_000]));
        let half = &mut largest[round / 30];
        *half = disk.bytes().max(*half);
    }
    assert!(largest[1] <= largest[0] + largest[0] / 4, "{largest:?}");
}

#[test]
fn verify_finds_results_without_a_record_and_rebuilding_leaves_results_alone() {
    for (slot, length) in [(700, 3), (3, limits::RESULT_MAX_BYTES + 1)] {
        let place = Place::new();
        keep(&place.open().get_or_create_pool("orders").unwrap(), &support::numbered("A", 20), |_| {
            Some(b"kept".to_vec())
        });
        place.damage(|txn| {
            let table: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("results/1/0");
            txn.open_table(table).unwrap().insert(slot, vec![1; length].as_slice()).unwrap();
        });
        let store = place.open();
        for _ in 0..2 {
            let findings = store.verify().unwrap().findings;
            let found: Vec<_> = findings.iter().map(|found| (&*found.table, &*found.key)).collect();
            assert_eq!(found, [("results/1/0", &*slot.to_string())]);
            store.rebuild_indexes().unwrap();
        }
        assert_eq!(text(result(&store.pool_named("orders").unwrap(), "A-7")).as_deref(), Some("kept"));
    }
}

#[test]
fn a_result_is_there_as_soon_as_its_record_is() {
    let pool = support::pool_for(Need::Any);
    let (pool, start) = (&pool, Barrier::new(8));
    std::thread::scope(|scope| {
        for runner in 0..8 {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for number in 0..60 {
                    let value = format!("A-{number}");
                    let mut claim = claim(pool, "run", &[value.as_str()]);
                    if claim.held_count() > 0 {
                        let confirmation = claim.confirm_with(|_| Some(format!("{number} by {runner}")));
                        confirmation.unwrap().all_confirmed().unwrap();
                    }
                    let key = Key::new(ORDERS, value.as_str());
                    let outcome = pool.wait_for(&[key], Duration::from_mins(1)).unwrap().remove(0);
                    let WaitOutcome::Tracked(record) = outcome else { panic!("{outcome:?}") };
                    let kept = text(pool.result(record.id).unwrap()).unwrap();
                    assert!(kept.starts_with(&format!("{number} by ")), "{kept}");
                }
            });
        }
    });
}

#[test]
fn statistics_count_the_bytes_of_results() {
    let pool = support::pool_for(Need::Any);
    for values in support::numbered("A", 1_000).chunks(100) {
        keep(&pool, values, |_| None);
    }
    let without = pool.stats().unwrap().bytes;
    for values in support::numbered("B", 1_000).chunks(100) {
        keep(&pool, values, |_| Some(vec![1; 1_000]));
    }
    let with = pool.stats().unwrap().bytes - 2 * without;
    assert!((900_000..1_300_000).contains(&with), "{with}");
}
