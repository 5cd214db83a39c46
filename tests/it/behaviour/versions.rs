//! Proves that an item of a tracked key passes again if its content differs, or if it is newer. Tests each
//! cell of the specification's table, in all modes, claims, checks, imports and exports, and that the
//! replaced record is gone.

use std::fmt::Write as _;
use std::time::Duration;

use datapool_store::{
    Claim, ClaimOutcome, ClaimVerdict, DataPoolStore, ErrorKind, ExportColumns, ExportOptions, ImportOptions,
    Key, ManualClock, Mode, NewPool, OnDuplicate, Origin, Pool, Record, RecordFilter, RecordId, Verdict,
    Verdicts, Version, WaitOutcome,
};

use crate::support::{self, Need, Place};

const PRODUCTS: u32 = 54;
const MINUTE: Duration = Duration::from_mins(1);

/// An item: its SKU, and its version in a short form, which is nothing, `o:7`, or a content.
type Product<'p> = (&'p str, &'p str);

fn key<'p>((sku, version): &Product<'p>) -> Key<'p> {
    let key = Key::new(PRODUCTS, *sku);
    match version.strip_prefix("o:") {
        Some(number) => key.ordinal(number.parse().unwrap()),
        None if version.is_empty() => key,
        None => key.content(version),
    }
}

fn version(of: &str) -> Option<Version> {
    key(&("x", of)).version()
}

fn dedupe(pool: &Pool, mode: Mode, products: &[Product<'_>]) -> Verdicts {
    pool.dedupe_with_first(mode, products, key, &Origin::none()).unwrap()
}

/// Returns verdicts in a short form: `new`, `dup`, `held`, `changed`, or `changed 7` if record 7 is replaced.
fn words(verdicts: &Verdicts) -> Vec<String> {
    let word = |verdict: &Verdict| match verdict {
        Verdict::New => "new".to_owned(),
        Verdict::Duplicate => "dup".to_owned(),
        Verdict::InFlight => "held".to_owned(),
        Verdict::Changed { previous: None } => "changed".to_owned(),
        Verdict::Changed { previous: Some(id) } => format!("changed {id}"),
        other => panic!("{other:?}"),
    };
    verdicts.iter().map(word).collect()
}

fn said(pool: &Pool, mode: Mode, products: &[Product<'_>]) -> Vec<String> {
    let verdicts = dedupe(pool, mode, products);
    let words = words(&verdicts);
    if mode == Mode::Filter {
        let plain = pool.dedupe(mode, products, key, &Origin::none()).unwrap();
        assert_eq!(plain.as_slice(), verdicts.as_slice(), "with and without first records");
    }
    words
}

fn track(pool: &Pool, sku: &str, version: &str) -> String {
    said(pool, Mode::Track, &[(sku, version)]).remove(0)
}

/// Returns the records with their ids, SKUs and versions.
fn live(pool: &Pool) -> Vec<(u64, String, Option<Version>)> {
    support::records(pool).into_iter().map(|record| (record.id.get(), record.value, record.version)).collect()
}

fn new_pool() -> Pool {
    support::store_for(Need::Any).get_or_create_pool("products").unwrap()
}

fn claim(pool: &Pool, products: &[Product<'_>]) -> Claim {
    pool.claim(products, key, &Origin::none().with_run("runner"), MINUTE).unwrap()
}

fn claim_words(claim: &Claim) -> Vec<&'static str> {
    let word = |(_, verdict): &(usize, ClaimVerdict)| match verdict {
        ClaimVerdict::Claimed => "claimed",
        ClaimVerdict::InFlight { .. } => "held",
        ClaimVerdict::Duplicate(Some(_)) => "dup",
        ClaimVerdict::Duplicate(None) => "repeat",
        ClaimVerdict::Lost => "lost",
        ClaimVerdict::Settled => "settled",
        other => panic!("{other:?}"),
    };
    claim.verdicts().iter().map(word).collect()
}

/// The version in the pool, the version asked for, and the verdict.
const TABLE: [(&str, &str, &str); 21] = [
    ("nothing", "", "new"),
    ("nothing", "red", "new"),
    ("nothing", "o:7", "new"),
    ("", "", "dup"),
    ("", "red", "changed"),
    ("", "o:7", "changed"),
    ("red", "", "dup"),
    ("red", "red", "dup"),
    ("red", "blue", "changed"),
    ("red", "o:7", "changed"),
    ("o:7", "", "dup"),
    ("o:7", "o:7", "dup"),
    ("o:7", "o:8", "changed"),
    ("o:7", "o:6", "dup"),
    ("o:7", "red", "changed"),
    ("o:-9223372036854775808", "o:9223372036854775807", "changed"),
    ("o:9223372036854775807", "o:-9223372036854775808", "dup"),
    ("o:0", "o:-1", "dup"),
    ("o:-1", "o:0", "changed"),
    ("o:0", "o:0", "dup"),
    ("o:0", "", "dup"),
];

#[test]
fn each_cell_of_the_table_holds_in_each_mode_in_claims_and_in_checks() {
    for folded in [false, true] {
        for (stored, asked, expected) in TABLE {
            for mode in [Mode::Filter, Mode::Track, Mode::FilterAndTrack] {
                let pool = new_pool();
                if stored != "nothing" {
                    assert_eq!(track(&pool, "A", stored), "new");
                }
                if folded {
                    // An import folds the existing records.
                    let other = "value,entity_type_id\nother,54\n";
                    pool.import_csv(other.as_bytes(), &ImportOptions::new()).unwrap();
                }
                let case = format!("{stored:?} asked {asked:?}, {mode}, folded: {folded}");
                let asked_key = || key(&("A", asked));
                assert_eq!(pool.contains(asked_key()).unwrap(), expected == "dup", "{case}");
                assert_eq!(pool.contains_many(&[asked_key()]).unwrap(), [expected == "dup"], "{case}");
                let claimed = claim(&pool, &[("A", asked)]);
                let of_claim = if expected == "dup" { "dup" } else { "claimed" };
                assert_eq!(claim_words(&claimed), [of_claim], "{case}");
                drop(claimed);

                let verdicts = dedupe(&pool, mode, &[("A", asked)]);
                let word = if expected == "changed" { "changed 1" } else { expected };
                assert_eq!(words(&verdicts), [word], "{case}");
                let passes = expected != "dup" || mode == Mode::Track;
                assert_eq!(verdicts.passes(0), passes, "{case}");
                assert_eq!(
                    verdicts.first(0).map(|record| record.id.get()),
                    (expected != "new").then_some(1),
                    "{case}"
                );
                let split = verdicts.partition(["A"]);
                assert_eq!(
                    (split.fresh.len(), split.duplicates.len()),
                    match expected {
                        "dup" => (0, 1),
                        _ => (1, 0),
                    }
                );
                let of_key: Vec<_> = live(&pool).into_iter().filter(|(_, sku, _)| sku == "A").collect();
                let tracked = expected != "dup" && mode != Mode::Filter;
                match of_key.as_slice() {
                    [] => assert!(stored == "nothing" && !tracked, "{case}"),
                    [(id, _, found)] => {
                        assert_eq!(*found, version(if tracked { asked } else { stored }), "{case}");
                        assert_eq!(*id == 1, !tracked || expected == "new" && !folded, "{case}");
                    }
                    more => panic!("{case}: {more:?}"),
                }
            }
        }
    }
}

#[test]
fn a_changed_item_replaces_its_record_in_one_step() {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.get_or_create_pool("products").unwrap();
    let first = Origin::new("sync", "night 1", "read");
    let _ = pool.dedupe(Mode::Track, &[("A", "red"), ("B", "red")], key, &first).unwrap();
    clock.advance(MINUTE);
    let second = Origin::new("sync", "night 2", "read");
    let verdicts =
        pool.dedupe_with_first(Mode::FilterAndTrack, &[("A", "blue"), ("B", "red")], key, &second).unwrap();
    assert_eq!(words(&verdicts), ["changed 1", "dup"]);
    assert_eq!((verdicts.new_count(), verdicts.changed_count()), (0, 1));
    assert_eq!(verdicts.first(0).unwrap().origin(), first, "the record that was replaced");
    let [a, b] = &pool.lookup(&[key(&("A", "")), key(&("B", "x"))]).unwrap()[..] else { panic!() };
    let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
    assert_eq!((a.id.get(), a.version, a.created_at, a.origin()), (3, version("blue"), clock.now(), second));
    assert_eq!((b.id.get(), b.version), (2, version("red")));
    let stats = pool.stats().unwrap();
    assert_eq!(stats.live, 2);
    let kept = u64::from(support::is_embedded());
    assert_eq!(stats.expired + stats.deleted, kept, "the space of the old one is not given back yet");
    assert_eq!(pool.count(&RecordFilter::new().flow_run_id("night 1")).unwrap(), 1);
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn content_that_comes_back_is_changed_each_time_and_an_ordinal_is_not() {
    let pool = new_pool();
    let contents = ["red", "blue", "red", "red"].map(|content| track(&pool, "A", content));
    assert_eq!(contents, ["new", "changed 1", "changed 2", "dup"]);
    let ordinals = ["o:1", "o:3", "o:2", "o:3", "o:4"].map(|ordinal| track(&pool, "B", ordinal));
    assert_eq!(ordinals, ["new", "changed 4", "dup", "dup", "changed 5"]);
    assert_eq!(support::records(&pool).len(), 2);
}

#[test]
fn a_batch_with_one_key_five_times_decides_each_against_the_one_before() {
    let batch = [("A", "red"), ("A", "blue"), ("A", ""), ("A", "blue"), ("A", "red")];
    for mode in [Mode::Filter, Mode::Track, Mode::FilterAndTrack] {
        let pool = new_pool();
        let verdicts = dedupe(&pool, mode, &batch);
        assert_eq!(words(&verdicts), ["new", "changed", "dup", "dup", "changed"], "{mode}");
        let firsts: Vec<bool> = (0..5).map(|index| verdicts.first(index).is_some()).collect();
        let tracks = mode != Mode::Filter;
        assert_eq!(firsts, [false, false, tracks, tracks, false], "{mode}");
        let stored = live(&pool);
        assert_eq!(stored.len(), usize::from(tracks), "only the last version is stored");
        if tracks {
            assert_eq!(stored, [(1, "A".to_owned(), version("red"))]);
        }
        // The second time, one of them is already tracked.
        let again = words(&dedupe(
            &pool,
            mode,
            &[("A", "o:1"), ("A", "o:2"), ("A", "o:1"), ("A", "o:3"), ("A", "red")],
        ));
        let first = if tracks { "changed 1" } else { "new" };
        assert_eq!(again, [first, "changed", "dup", "changed", "changed"], "{mode}");
    }
}

#[test]
fn callers_of_one_commit_see_what_the_ones_before_decided() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("products").unwrap();
    track(&pool, "A", "o:0");
    // In whatever groups the calls are committed, each number passes at most once, and the last one stays.
    std::thread::scope(|scope| {
        for first in 1..=8_i64 {
            let pool = pool.clone();
            scope.spawn(move || {
                for number in (0..50).map(|round| first + round * 8) {
                    let _ = pool
                        .dedupe(
                            Mode::FilterAndTrack,
                            &[number],
                            |n| Key::new(PRODUCTS, "A").ordinal(*n),
                            &Origin::none(),
                        )
                        .unwrap();
                }
            });
        }
    });
    let left = support::records(&pool);
    assert_eq!((left.len(), left[0].version), (1, Some(Version::Ordinal(400))));
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn doubles_of_a_key_are_all_replaced_and_its_version_is_that_of_the_newest() {
    for rows in [2, 200] {
        let store = support::store_for(Need::Any);
        let pool = store.get_or_create_pool("products").unwrap();
        let mut file = "value,entity_type_id,version\n".to_owned();
        for number in 0..rows {
            writeln!(file, "A,54,o:{number}\nB{number},54,").unwrap();
        }
        let options = ImportOptions::new().version_column("version");
        pool.import_csv(file.as_bytes(), &options).unwrap();
        pool.import_csv(file.as_bytes(), &options).unwrap();
        let newest = rows - 1;
        assert!(pool.contains(Key::new(PRODUCTS, "A").ordinal(newest)).unwrap());
        assert!(!pool.contains(Key::new(PRODUCTS, "A").ordinal(newest + 1)).unwrap());
        let first = pool.lookup(&[Key::new(PRODUCTS, "A").ordinal(newest)]).unwrap().remove(0).unwrap();
        assert_eq!(
            (first.id.get(), first.version),
            (1, Some(Version::Ordinal(0))),
            "the oldest record is returned"
        );

        // The newest record decides, even after a deletion.
        let ids: Vec<RecordId> = support::records(&pool)
            .iter()
            .filter(|record| record.value == "A")
            .map(|record| record.id)
            .collect();
        pool.delete_records([*ids.last().unwrap()]).unwrap();
        assert!(!pool.contains(Key::new(PRODUCTS, "A").ordinal(newest)).unwrap());

        let verdicts = dedupe(&pool, Mode::FilterAndTrack, &[("A", "red")]);
        let previous = ids[ids.len() - 2];
        assert_eq!(verdicts.as_slice(), [Verdict::Changed { previous: Some(previous) }]);
        assert_eq!(verdicts.first(0).unwrap().id, previous);
        let left: Vec<Record> =
            support::records(&pool).into_iter().filter(|record| record.value == "A").collect();
        assert_eq!((left.len(), left[0].version), (1, version("red")));
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

/// Enough items for several segments and folds. The version of each depends on the round.
#[test]
fn versions_hold_across_segments_folds_merges_and_reopening() {
    let place = Place::new();
    let skus: Vec<String> = (0..300).map(|number| format!("SKU-{number}")).collect();
    let all = |round: i64| -> Vec<(&str, i64)> {
        (0..)
            .zip(&skus)
            .map(|(number, sku)| (sku.as_str(), if number % 3 == 0 { round } else { 0 }))
            .collect()
    };
    let by_ordinal = |pool: &Pool, mode, round| {
        let items = all(round);
        let mut words = Vec::new();
        for batch in items.chunks(70) {
            let verdicts = pool.dedupe(
                mode,
                batch,
                |(sku, number)| Key::new(PRODUCTS, *sku).ordinal(*number),
                &Origin::none(),
            );
            words.extend(
                self::words(&verdicts.unwrap())
                    .into_iter()
                    .map(|word| word.split(' ').next().unwrap().to_owned()),
            );
        }
        words
    };
    for round in 0..6 {
        let store = place.open();
        let pool = store.get_or_create_pool("products").unwrap();
        let expected = |number: usize| match (round, number % 3) {
            (0, _) => "new",
            (_, 0) => "changed",
            _ => "dup",
        };
        let words = by_ordinal(&pool, Mode::Filter, round);
        assert!(
            words.iter().enumerate().all(|(number, word)| word == expected(number)),
            "round {round}: {words:?}"
        );
        assert_eq!(by_ordinal(&pool, Mode::FilterAndTrack, round), words);
        assert!(by_ordinal(&pool, Mode::FilterAndTrack, round).iter().all(|word| word == "dup"));
        let keys: Vec<Key<'_>> =
            all(round).into_iter().map(|(sku, n)| Key::new(PRODUCTS, sku).ordinal(n)).collect();
        assert_eq!(pool.contains_many(&keys).unwrap(), vec![true; 300]);
        let higher: Vec<Key<'_>> =
            all(round).into_iter().map(|(sku, n)| Key::new(PRODUCTS, sku).ordinal(n + 1)).collect();
        assert_eq!(pool.contains_many(&higher).unwrap(), vec![false; 300]);
        assert_eq!(pool.stats().unwrap().live, 300);
        if round % 2 == 1 {
            store.rebuild_indexes().unwrap();
        }
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

fn ticking(new: NewPool) -> (DataPoolStore, ManualClock, Pool) {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.create_pool(new).unwrap();
    (store, clock, pool)
}

#[test]
fn what_expired_was_deleted_or_evicted_is_new_again_whatever_its_version() {
    let (_store, clock, pool) = ticking(NewPool::new("products").retention(MINUTE));
    track(&pool, "A", "o:9");
    clock.advance(MINUTE / 2);
    track(&pool, "B", "o:9");
    clock.advance(MINUTE / 2);
    assert_eq!(said(&pool, Mode::Filter, &[("A", "o:1"), ("B", "o:1")]), ["new", "dup"]);
    pool.delete_keys(&[Key::new(PRODUCTS, "B").content("another version")]).unwrap();
    assert_eq!(track(&pool, "B", "o:1"), "new", "a deletion by key ignores versions");

    let (store, _clock, pool) = ticking(NewPool::new("products").capacity(3));
    for sku in ["A", "B", "C"] {
        track(&pool, sku, "red");
    }
    // First records are replaced, then appended, and the capacity is applied last, so no other record is
    // evicted.
    assert_eq!(track(&pool, "A", "blue"), "changed 1");
    assert_eq!(
        said(&pool, Mode::Filter, &[("A", "blue"), ("B", "red"), ("C", "red")]),
        ["dup", "dup", "dup"]
    );
    assert_eq!(track(&pool, "D", "red"), "new");
    assert_eq!(
        said(&pool, Mode::Filter, &[("B", "red"), ("A", "blue")]),
        ["new", "dup"],
        "the oldest record leaves"
    );
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn a_claimed_change_replaces_the_record_that_it_saw() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("products").unwrap();
    for (sku, version) in [("A", "red"), ("B", "o:1"), ("C", ""), ("D", "red")] {
        track(&pool, sku, version);
    }
    let batch = [
        ("A", "blue"),
        ("A", "blue"),
        ("A", "red"),
        ("B", "o:1"),
        ("B", "o:2"),
        ("C", "x"),
        ("D", "red"),
        ("E", "x"),
    ];
    let mut mine = claim(&pool, &batch);
    let expected = ["claimed", "repeat", "held", "dup", "claimed", "claimed", "dup", "claimed"];
    assert_eq!(claim_words(&mine), expected);
    let (_, ClaimVerdict::InFlight { by, until }) = &mine.verdicts()[2] else { panic!() };
    assert_eq!((by, *until), (&Origin::none().with_run("runner"), mine.until()), "by the same claim");
    assert_eq!(
        store.verify().unwrap().findings,
        [],
        "a claimed value may keep the record that the claim saw"
    );
    if support::is_embedded() {
        store.rebuild_indexes().unwrap();
    }

    assert_eq!(live(&pool).len(), 4, "nothing is replaced before it is confirmed");
    let token = mine.token().unwrap();
    let keys: Vec<_> = mine.keys().map(|(index, key)| (index, key.version())).collect();
    assert_eq!(keys, [(0, version("blue")), (4, version("o:2")), (5, version("x")), (7, version("x"))]);
    mine.confirm_keys(&[Key::new(PRODUCTS, "B")]).unwrap().all_confirmed().unwrap();
    assert_eq!(mine.release_keys(&[Key::new(PRODUCTS, "C").content("whatever")]).unwrap(), 1);
    let _ = mine.into_token();
    let mut again = store.resume_claim(&token).unwrap();
    assert_eq!(claim_words(&again), ["claimed", "settled", "settled", "claimed"]);
    assert_eq!(
        again.keys().map(|(_, key)| key.version()).collect::<Vec<_>>(),
        [version("blue"), version("x")]
    );
    again.confirm().unwrap().all_confirmed().unwrap();
    let found = live(&pool);
    let of = |sku: &str| {
        found.iter().filter(|(_, value, _)| value == sku).map(|(_, _, version)| *version).collect::<Vec<_>>()
    };
    let expected = [("A", "blue"), ("B", "o:2"), ("C", ""), ("D", "red"), ("E", "x")];
    assert!(expected.iter().all(|(sku, is)| of(sku) == [version(is)]), "{found:?}");
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn under_a_running_claim_the_record_answers_what_cannot_change_it() {
    let (_store, clock, pool) = ticking(NewPool::new("products"));
    for (sku, version) in [("A", "red"), ("B", "o:3"), ("C", "")] {
        track(&pool, sku, version);
    }
    let mine = claim(&pool, &[("A", "blue"), ("B", "o:7"), ("C", "red"), ("D", "o:7")]);
    assert_eq!(claim_words(&mine), ["claimed"; 4]);
    let asked = [
        ("A", "", "dup"),
        ("A", "red", "held"),
        ("A", "blue", "held"),
        ("A", "green", "held"),
        ("A", "o:1", "held"),
        ("B", "", "dup"),
        ("B", "o:3", "dup"),
        ("B", "o:2", "dup"),
        ("B", "o:4", "held"),
        ("B", "o:7", "held"),
        ("B", "o:9", "held"),
        ("B", "red", "held"),
        ("C", "", "dup"),
        ("C", "o:1", "held"),
        ("C", "red", "held"),
        ("D", "", "held"),
        ("D", "o:1", "held"),
        ("D", "red", "held"),
    ];
    let items: Vec<Product<'_>> = asked.iter().map(|(sku, version, _)| (*sku, *version)).collect();
    let expected: Vec<&str> = asked.iter().map(|(_, _, word)| *word).collect();
    for mode in [Mode::Filter, Mode::FilterAndTrack] {
        assert_eq!(said(&pool, mode, &items), expected, "{mode}");
    }
    assert_eq!(claim_words(&claim(&pool, &items)), expected);
    for (item, word) in items.iter().zip(&expected) {
        assert_eq!(said(&pool, Mode::Filter, &[*item]), [*word], "{item:?} alone");
        let outcome = pool.wait_for(&[key(item)], Duration::ZERO).unwrap().remove(0);
        assert_eq!(matches!(outcome, WaitOutcome::InFlight { .. }), *word == "held", "{item:?}");
        assert_eq!(matches!(outcome, WaitOutcome::Tracked(_)), *word == "dup", "{item:?}");
    }
    // Checks see only records.
    let contains = [("A", "red", true), ("A", "blue", false), ("B", "o:7", false), ("D", "", false)];
    for (sku, version, expected) in contains {
        assert_eq!(pool.contains(key(&(sku, version))).unwrap(), expected, "{sku} {version}");
    }
    clock.advance(MINUTE);
    assert_eq!(
        said(&pool, Mode::Filter, &[("A", "red"), ("A", "blue"), ("B", "o:4")]),
        ["dup", "changed 1", "changed 2"]
    );
    drop(mine);
    let outcomes = pool.wait_for(&[key(&("A", "red")), key(&("A", "blue"))], Duration::ZERO).unwrap();
    assert!(matches!(&outcomes[..], [WaitOutcome::Tracked(_), WaitOutcome::Free]), "{outcomes:?}");
}

#[test]
fn what_is_tracked_in_spite_of_a_claim_voids_it_unless_it_is_older_than_the_claimed_item() {
    let cases = [
        // The record, the claimed version, the version tracked meanwhile, its verdict, and the outcome of the
        // claim.
        ("red", "blue", "green", "changed 1", "already tracked"),
        ("red", "blue", "blue", "changed 1", "already tracked"),
        ("red", "blue", "red", "dup", "confirmed"),
        ("red", "blue", "", "dup", "confirmed"),
        ("red", "blue", "o:1", "changed 1", "already tracked"),
        ("o:3", "o:7", "o:3", "dup", "confirmed"),
        ("o:3", "o:7", "", "dup", "confirmed"),
        ("o:3", "o:7", "o:5", "held", "confirmed"),
        ("o:3", "o:7", "o:7", "changed 1", "already tracked"),
        ("o:3", "o:7", "o:8", "changed 1", "already tracked"),
        ("o:3", "o:7", "red", "changed 1", "already tracked"),
        ("o:3", "blue", "o:4", "changed 1", "already tracked"),
        ("nothing", "o:7", "o:5", "held", "confirmed"),
        ("nothing", "o:7", "o:7", "new", "already tracked"),
        ("nothing", "o:7", "", "new", "already tracked"),
        ("nothing", "blue", "blue", "new", "already tracked"),
        ("nothing", "", "o:1", "new", "already tracked"),
    ];
    for (stored, claimed, tracked, verdict, outcome) in cases {
        for resumed in [false, true] {
            let case = format!("{stored:?}, claimed {claimed:?}, tracked {tracked:?}, resumed: {resumed}");
            let store = support::store_for(Need::Any);
            let pool = store.get_or_create_pool("products").unwrap();
            if stored != "nothing" {
                track(&pool, "A", stored);
            }
            let mut mine = claim(&pool, &[("other", ""), ("A", claimed)]);
            if resumed {
                mine = store.resume_claim(&mine.into_token().unwrap()).unwrap();
            }
            assert_eq!(track(&pool, "A", tracked), verdict, "{case}");
            assert_eq!(store.verify().unwrap().findings, [], "{case}");
            let confirmation = mine.confirm_items(&[1]).unwrap();
            let found = match &confirmation.outcomes()[0].1 {
                ClaimOutcome::Confirmed(_) => "confirmed",
                ClaimOutcome::AlreadyTracked(record) => {
                    assert_eq!(record.version, version(tracked), "{case}");
                    "already tracked"
                }
                other => panic!("{case}: {other:?}"),
            };
            assert_eq!(found, outcome, "{case}");
            let left = live(&pool);
            assert_eq!(left.len(), 1, "{case}: {left:?}");
            assert_eq!(left[0].2, version(if outcome == "confirmed" { claimed } else { tracked }), "{case}");
            assert_eq!(store.verify().unwrap().findings, [], "{case}");
        }
    }
}

#[test]
fn a_claimed_change_whose_record_is_gone_is_tracked_and_an_import_voids_it() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("products").unwrap();
    track(&pool, "A", "red");
    track(&pool, "B", "red");
    let mut mine = claim(&pool, &[("A", "blue"), ("B", "blue")]);
    pool.delete_keys(&[Key::new(PRODUCTS, "A")]).unwrap();
    pool.import_csv("value,entity_type_id\nB,54\n".as_bytes(), &ImportOptions::new()).unwrap();
    let confirmation = mine.confirm().unwrap();
    let outcomes: Vec<_> = confirmation.outcomes().iter().map(|(_, outcome)| outcome).collect();
    assert!(
        matches!(outcomes[..], [ClaimOutcome::Confirmed(_), ClaimOutcome::AlreadyTracked(first)] if first.id.get() == 2),
        "{outcomes:?}"
    );
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn a_full_export_imports_back_with_versions() {
    let store = support::store_for(Need::Any);
    let (pool, copy) =
        (store.get_or_create_pool("products").unwrap(), store.get_or_create_pool("copy").unwrap());
    for (sku, version) in [("A", "red"), ("B", "o:-7"), ("C", ""), ("A", "blue")] {
        track(&pool, sku, version);
    }
    let mut file = Vec::new();
    pool.export_csv(&mut file, &ExportOptions::new().columns(ExportColumns::Full)).unwrap();
    let text = String::from_utf8(file).unwrap();
    let header = "value,entity_type_id,id,flow_id,flow_run_id,step_id,version,created_at";
    assert_eq!(text.lines().next(), Some(header));
    assert!(text.lines().nth(1).unwrap().starts_with("B,54,2,,,,o:-7,"), "{text}");
    copy.import_csv(text.as_bytes(), &ImportOptions::full_export()).unwrap();
    let without_ids =
        |pool: &Pool| live(pool).into_iter().map(|(_, sku, version)| (sku, version)).collect::<Vec<_>>();
    assert_eq!(without_ids(&copy), without_ids(&pool));
    // A row is a duplicate if its value is present, whatever its version.
    let file = "value,entity_type_id,version\nA,54,o:1\nD,54,o:1\nD,54,o:2\n";
    let options = ImportOptions::new().version_column("version");
    let report = copy.import_csv(file.as_bytes(), &options.clone().on_duplicate(OnDuplicate::Skip)).unwrap();
    assert_eq!((report.added, report.skipped), (1, 2));
    let error = copy.import_csv(file.as_bytes(), &options.on_duplicate(OnDuplicate::Fail)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_bad_version_is_a_bad_row_with_its_column() {
    let pool = new_pool();
    let options = ImportOptions::new().version_column("v");
    for bad in ["7", "c:12", "o:1.5", "o:", "C:00000000000000000000000000000000"] {
        let file = format!("value,v,entity_type_id\nA,o:1,54\nB,{bad},54\n");
        let error = pool.import_csv(file.as_bytes(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Csv { line: 3, column: Some(2) }, "{error}");
        assert!(error.to_string().contains("is not a version; allowed are c: and 32 digits"), "{error}");
    }
    let error = pool.import_csv("value,entity_type_id\nA,54\n".as_bytes(), &options).unwrap_err();
    assert!(error.to_string().contains("no column \"v\""), "{error}");
    assert_eq!(support::records(&pool).len(), 0);
}

#[test]
fn a_record_shows_its_version_and_reads_back() {
    let pool = new_pool();
    track(&pool, "A", "");
    track(&pool, "B", "o:7");
    let json: Vec<String> =
        support::records(&pool).iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    assert!(!json[0].contains("version"), "{}", json[0]);
    assert!(json[1].ends_with(r#","version":"o:7"}"#), "{}", json[1]);
    for (text, record) in json.iter().zip(support::records(&pool)) {
        assert_eq!(serde_json::from_str::<Record>(text).unwrap(), record);
        assert_eq!(record.key().version(), record.version);
        assert!(pool.contains(record.key()).unwrap());
    }
}

/// Two records are damaged. Lookups that do not ask for a version, or find no version flag, do not read them.
#[test]
fn records_are_read_only_for_versions_that_are_asked_and_there() {
    let place = Place::new();
    {
        let pool = place.open().get_or_create_pool("products").unwrap();
        track(&pool, "A", "");
        track(&pool, "B", "o:1");
        // An import folds the existing records.
        pool.import_csv("value,entity_type_id\nC,54\n".as_bytes(), &ImportOptions::new()).unwrap();
    }
    place.damage(|txn| {
        let records: redb::TableDefinition<'_, u32, &[u8]> = redb::TableDefinition::new("records/1/0");
        let mut records = txn.open_table(records).unwrap();
        for slot in [0, 1] {
            records.insert(slot, [0xff].as_slice()).unwrap();
        }
    });
    let pool = place.open().pool_named("products").unwrap();
    assert_eq!(
        pool.contains_many(&[Key::new(PRODUCTS, "A"), Key::new(PRODUCTS, "B")]).unwrap(),
        [true, true]
    );
    assert!(!pool.contains(Key::new(PRODUCTS, "A").content("red")).unwrap());
    let verdicts = pool.dedupe(Mode::Filter, &[("A", "red"), ("C", "")], key, &Origin::none()).unwrap();
    assert_eq!(words(&verdicts), ["changed 1", "dup"]);
    let error = pool.contains(Key::new(PRODUCTS, "B").ordinal(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}
