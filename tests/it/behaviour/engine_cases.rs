//! Proves that the store is right in the corner cases of its design, one test per case: at the ends of
//! segments, while a tail waits to be folded, during a fold, and after deletions.
//!
//! Segments have 64 records, and folds have 16 in 4 slices. So a test knows exactly where its records are:
//! records 1 to 64 fill the first segment, and fewer than 16 at the end are still in the tail.

use std::ops::Range;
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    DataPoolStore, Durability, ErrorKind, ImportOptions, Key, Mode, NewPool, OnDuplicate, Origin, Pool,
    RecordFilter, RecordQuery, RecordSort, Timestamp,
};

use crate::support::{self, Need, ORDERS, Place, has, pool_for, track};

/// Returns values that are different for each number.
fn values(numbers: Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("value {number}")).collect()
}

/// Tracks each value in its own commit, so that folds proceed slice by slice.
fn track_singly(pool: &Pool, numbers: Range<u32>) {
    for value in values(numbers) {
        assert_eq!(track(pool, &[value]), 1);
    }
}

fn import<S: AsRef<str>>(pool: &Pool, values: &[S]) {
    import_with(pool, values, OnDuplicate::Add).unwrap();
}

/// Imports values as orders. Returns the number added.
fn import_with<S: AsRef<str>>(pool: &Pool, values: &[S], policy: OnDuplicate) -> datapool_store::Result<u64> {
    let rows: String = values.iter().map(|value| format!("{},{ORDERS}\n", value.as_ref())).collect();
    let options = ImportOptions::new().on_duplicate(policy);
    let file = format!("value,entity_type_id\n{rows}");
    pool.import_csv(file.as_bytes(), &options).map(|report| report.added)
}

/// Returns the ids of a value's records, oldest first.
fn ids_of(pool: &Pool, value: &str) -> Vec<u64> {
    ids(pool, &RecordFilter::new().value(value))
}

fn ids(pool: &Pool, filter: &RecordFilter) -> Vec<u64> {
    pool.scan(filter).unwrap().map(|record| record.unwrap().id.get()).collect()
}

fn all_ids(pool: &Pool) -> Vec<u64> {
    ids(pool, &RecordFilter::new())
}

/// Returns the record that was first with the value, looked up in both ways.
fn first_of(pool: &Pool, value: &str) -> Option<u64> {
    let looked_up = pool.lookup(&[Key::new(ORDERS, value)]).unwrap().remove(0).map(|record| record.id.get());
    let key = |value: &&str| Key::new(ORDERS, (*value).to_owned());
    let verdicts = pool.dedupe_with_first(Mode::Filter, &[value], key, &Origin::none()).unwrap();
    assert_eq!(verdicts.first(0).map(|record| record.id.get()), looked_up);
    assert_eq!(has(pool, value), looked_up.is_some());
    looked_up
}

/// Deletes the records of a value one by one, oldest first, and compares the rest with `left` each time.
fn delete_first_by_first(pool: &Pool, value: &str, mut left: Vec<u64>) {
    assert_eq!(ids_of(pool, value), left);
    while !left.is_empty() {
        assert_eq!(first_of(pool, value), Some(left[0]));
        assert_eq!(pool.delete_records([left.remove(0)]).unwrap(), 1);
        assert_eq!(ids_of(pool, value), left);
    }
    assert_eq!(first_of(pool, value), None);
    assert_eq!(track(pool, &[value]), 1);
    assert_eq!(ids_of(pool, value).len(), 1);
}

#[test]
fn deleting_the_first_of_several_repeats_makes_the_next_one_first_within_a_segment() {
    let pool = pool_for(Need::Any);
    import(&pool, &["twice", "other", "twice", "twice"]);
    delete_first_by_first(&pool, "twice", vec![1, 3, 4]);
}

/// A record that is imported after the first record of its value was deleted joins the remaining ones.
#[test]
fn what_is_imported_after_the_first_was_deleted_joins_the_repeats_that_are_left() {
    for before in [0, 1, 5] {
        let pool = pool_for(Need::Any);
        import(&pool, &values(0..before));
        import(&pool, &["twice", "twice", "twice"]);
        let first = u64::from(before) + 1;
        assert_eq!(pool.delete_records([first]).unwrap(), 1);
        import(&pool, &["other", "twice"]);
        delete_first_by_first(&pool, "twice", vec![first + 1, first + 2, first + 4]);
    }
}

#[test]
fn deleting_the_first_of_several_repeats_makes_the_next_one_first_across_segments() {
    let pool = pool_for(Need::Any);
    import(&pool, &["twice", "twice"]);
    import(&pool, &values(2..64));
    import(&pool, &["twice"]);
    import(&pool, &values(65..130));
    import(&pool, &["twice", "twice"]);
    delete_first_by_first(&pool, "twice", vec![1, 2, 65, 131, 132]);
}

#[test]
fn deleting_the_first_of_several_repeats_counts_those_behind_it_in_the_tail() {
    let pool = pool_for(Need::Any);
    import(&pool, &["twice", "twice"]);
    // Once all records of the value are deleted, it is tracked again in the tail, and that record is the
    // first.
    assert_eq!(pool.delete_records([1, 2]).unwrap(), 2);
    assert_eq!(track(&pool, &["twice"]), 1);
    assert_eq!(first_of(&pool, "twice"), Some(3));
    // The value is deleted and tracked again within the tail.
    assert_eq!(pool.delete_records([3]).unwrap(), 1);
    assert_eq!(track(&pool, &["between", "twice"]), 2);
    delete_first_by_first(&pool, "twice", vec![5]);
}

#[test]
fn a_value_deleted_from_the_tail_is_new_again_and_stays_found_through_the_fold() {
    let pool = pool_for(Need::Any);
    for round in 0..10_u64 {
        assert_eq!(track(&pool, &["again"]), 1);
        assert_eq!(track(&pool, &["again"]), 0);
        assert_eq!(first_of(&pool, "again"), Some(round * 11 + 1));
        assert_eq!(pool.delete_keys(&[Key::new(ORDERS, "again")]).unwrap(), 1);
        assert!(!has(&pool, "again"));
        // Ten more commits. In each round, folds begin, continue and end at different points.
        let start = u32::try_from(round).unwrap() * 10;
        track_singly(&pool, start..start + 10);
        assert!(!has(&pool, "again"));
    }
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 100);
}

/// The tails hold at most one and a half times what one fold takes, however the records arrive: one or
/// several per call, each with its own run, or deleted and tracked again repeatedly.
#[test]
fn folds_keep_pace_with_what_comes_in() {
    let fold_entries = Sizes::SMALL.fold_entries as u64;
    for (fresh, again) in [(1, 0), (2, 0), (4, 0), (8, 0), (1, 3), (1, 7)] {
        let pool = pool_for(Need::Any);
        let repeated = values(1_000_000..1_000_000 + again);
        let mut most = 0;
        for call in 0..100 {
            let numbers = call * fresh..(call + 1) * fresh;
            let items: Vec<String> = values(numbers).into_iter().chain(repeated.clone()).collect();
            let origin = Origin::new("shop", format!("run {call}"), "read orders");
            let key = |value: &String| Key::new(ORDERS, value.clone());
            let verdicts = pool.dedupe(Mode::Track, &items, key, &origin).unwrap();
            assert_eq!(verdicts.new_count(), items.len());
            most = most.max(pool.stats().unwrap().unfolded);
            let keys: Vec<Key<'_>> = repeated.iter().map(|value| Key::new(ORDERS, value.as_str())).collect();
            assert_eq!(pool.delete_keys(&keys).unwrap(), u64::from(again));
        }
        let most_allowed = fold_entries * 3 / 2 + u64::from(fresh + again);
        assert!((fold_entries..=most_allowed).contains(&most), "{fresh} {again}: {most}");
    }
}

/// The part that the fold has already written is written again, with the same result. Each record has its own run, so
/// that the slices of the fold have lists.
#[test]
fn a_fold_that_is_cut_off_by_closing_the_store_is_done_anew() {
    let track = |pool: &Pool, numbers: Range<u32>| {
        for number in numbers {
            let origin = Origin::new("shop", format!("run {number}"), "read orders");
            let key = |number: &u32| Key::new(ORDERS, number.to_string());
            assert_eq!(pool.dedupe(Mode::Track, &[number], key, &origin).unwrap().new_count(), 1);
        }
    };
    let fold = u32::try_from(Sizes::SMALL.fold_entries).unwrap();
    for cut_at in fold - 2..2 * fold {
        let place = Place::new();
        track(&place.open().get_or_create_pool("orders").unwrap(), 0..cut_at);
        let store = place.open();
        let pool = store.get_or_create_pool("orders").unwrap();
        track(&pool, cut_at..3 * fold);
        let all: Vec<u64> = (1..=u64::from(3 * fold)).collect();
        assert_eq!(ids(&pool, &RecordFilter::new().flow_id("shop")), all, "{cut_at}");
        assert_eq!(store.verify().unwrap().findings, [], "{cut_at}");
    }
}

#[test]
fn a_value_deleted_from_the_open_segment_is_new_again() {
    let pool = pool_for(Need::Any);
    track(&pool, &values(0..20));
    // A batch larger than a fold is folded at once, so record 1 is in the index.
    assert_eq!(pool.delete_records([1]).unwrap(), 1);
    assert_eq!(track(&pool, &["value 0"]), 1);
    assert_eq!(first_of(&pool, "value 0"), Some(21));
    // After the next folds, only the live record is found.
    track_singly(&pool, 20..50);
    assert_eq!(first_of(&pool, "value 0"), Some(21));
    assert_eq!(ids_of(&pool, "value 0"), [21]);
    assert_eq!(pool.delete_records([21]).unwrap(), 1);
    assert_eq!(first_of(&pool, "value 0"), None);
}

#[test]
fn a_value_deleted_from_a_sealed_segment_is_new_again() {
    let pool = pool_for(Need::Any);
    track_singly(&pool, 0..100);
    assert_eq!(pool.delete_keys(&[Key::new(ORDERS, "value 0")]).unwrap(), 1);
    assert_eq!(first_of(&pool, "value 0"), None);
    assert_eq!(track(&pool, &["value 0"]), 1);
    assert_eq!(first_of(&pool, "value 0"), Some(101));
    track_singly(&pool, 100..200);
    assert_eq!(first_of(&pool, "value 0"), Some(101));
    assert_eq!(ids_of(&pool, "value 0"), [101]);
}

#[test]
fn an_import_crosses_the_end_of_a_segment_while_a_tail_waits() {
    for before in 0..70 {
        let pool = pool_for(Need::Any);
        track_singly(&pool, 0..before);
        import(&pool, &values(0..70));
        let (before, all) = (u64::from(before), u64::from(before) + 70);
        assert_eq!(all_ids(&pool), (1..=all).collect::<Vec<_>>());
        assert_eq!(first_of(&pool, "value 0"), Some(1));
        assert_eq!(ids_of(&pool, "value 69").len(), if before == 70 { 2 } else { 1 });
        // Tracked records have an origin, and imported ones have none.
        let tracked = RecordFilter::new().flow_id("shop");
        assert_eq!(ids(&pool, &tracked), (1..=before).collect::<Vec<_>>());
        assert_eq!(track(&pool, &values(0..72)), 2);
    }
}

#[test]
fn a_skipping_import_sees_the_tail_the_segments_and_its_own_rows() {
    for before in [10, 64, 75, 130] {
        let pool = pool_for(Need::Any);
        track_singly(&pool, 0..before);
        assert_eq!(pool.delete_keys(&[Key::new(ORDERS, "value 3")]).unwrap(), 1);
        let twice = [values(0..200), values(0..200)].concat();
        assert_eq!(import_with(&pool, &twice, OnDuplicate::Skip).unwrap(), u64::from(200 - before) + 1);
        assert_eq!(ids_of(&pool, "value 3"), [u64::from(before) + 1]);
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 200);
    }
}

/// An import looks up its rows in buffers of 65,536. If a segment becomes full within a buffer, the import
/// must not forget the rest of that buffer.
#[test]
fn a_skipping_import_sees_its_own_rows_across_buffers_and_segments() {
    let sizes = Sizes { segment_slots: 50_000, chunk_slots: 10_000, ..Sizes::SMALL };
    let store = support::embedded::in_memory(&support::options(), sizes).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    // The repeated values are the first row of the file, the last of the first segment, the first of the
    // second, the last of the first buffer, and the first of the second.
    let repeated = ["value 0", "value 49999", "value 50000", "value 65535", "value 65536"];
    let mut rows = values(0..66_000);
    rows.extend(repeated.map(String::from));
    assert_eq!(import_with(&pool, &rows, OnDuplicate::Skip).unwrap(), 66_000);
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 66_000);
    let fresh = store.get_or_create_pool("fresh").unwrap();
    for value in repeated {
        let mut rows = values(0..66_000);
        rows.push(value.to_owned());
        let error = import_with(&fresh, &rows, OnDuplicate::Fail).expect_err(value);
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fresh.count(&RecordFilter::new()).unwrap(), 0);
    }
}

#[test]
fn a_failing_import_leaves_tail_and_ids_as_they_were() {
    let pool = pool_for(Need::Any);
    track_singly(&pool, 0..10);
    let mut rows = values(10..150);
    rows.push("value 5".into());
    let error = import_with(&pool, &rows, OnDuplicate::Fail).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(all_ids(&pool), (1..=10).collect::<Vec<_>>());
    assert!(!has(&pool, "value 10"));
    track_singly(&pool, 10..40);
    assert_eq!(all_ids(&pool), (1..=40).collect::<Vec<_>>());
}

#[test]
fn a_batch_may_be_larger_than_several_segments() {
    for before in [0, 1, 15, 63, 64, 65] {
        let pool = pool_for(Need::Any);
        track_singly(&pool, 0..before);
        let batch = [values(0..400), values(0..400)].concat();
        let key = |value: &String| Key::new(ORDERS, value.clone());
        let verdicts = pool.dedupe_with_first(Mode::FilterAndTrack, &batch, key, &support::origin()).unwrap();
        assert_eq!(verdicts.new_count(), 400 - before as usize);
        let firsts: Vec<Option<u64>> =
            (400..800).map(|i| verdicts.first(i).map(|record| record.id.get())).collect();
        assert_eq!(firsts, (1..=400).map(Some).collect::<Vec<_>>());
        assert_eq!(all_ids(&pool), (1..=400).collect::<Vec<_>>());
        assert_eq!(track(&pool, &values(0..400)), 0);
        let page = pool.records(&RecordQuery::new().flow_id("shop").page(4).per_page(100)).unwrap();
        assert_eq!((page.meta.total, page.data.last().unwrap().id.get()), (400, 400));
    }
}

#[test]
fn a_clock_that_jumps_back_or_ahead_keeps_ids_and_times_in_one_order() {
    let clock = support::clock();
    let pool = support::embedded::in_memory(&support::options().clock(clock.clone()), Sizes::SMALL)
        .and_then(|store| store.get_or_create_pool("orders"))
        .unwrap();
    let start = clock.now();
    let hour = Duration::from_hours(1);
    let mut expected = Vec::new();
    // The time to which the clock is set, by the number of records tracked so far.
    let turns = [(20, start.saturating_add(hour)), (40, start), (70, Timestamp::from_micros(0))];
    for number in 0..140 {
        if let Some((_, time)) = turns.iter().find(|(at, _)| *at == number) {
            clock.set(*time);
        }
        if number == 100 {
            clock.set(start.saturating_add(2 * hour));
        }
        track_singly(&pool, number..number + 1);
        expected.push(match number {
            0..20 => start,
            20..100 => start.saturating_add(hour),
            _ => start.saturating_add(2 * hour),
        });
    }
    let times: Vec<Timestamp> =
        pool.scan(&RecordFilter::new()).unwrap().map(|record| record.unwrap().created_at).collect();
    assert_eq!(times, expected);
    let stuck = RecordFilter::new().created_after(start).created_before(start.saturating_add(2 * hour));
    assert_eq!(ids(&pool, &stuck), (21..=100).collect::<Vec<_>>());
}

#[test]
fn a_clock_that_jumped_back_between_two_openings_does_not_turn_pool_time_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let clock = support::clock();
    let start = clock.now();
    let open =
        || support::embedded::open(&path, &support::options().clock(clock.clone()), Sizes::SMALL).unwrap();
    let pool_of = |store: &DataPoolStore| store.get_or_create_pool("orders").unwrap();
    track_singly(&pool_of(&open()), 0..70);
    // The pool's time is kept for as long as a record lives.
    for clear in [false, true] {
        if clear {
            assert!(pool_of(&open()).clear().unwrap() > 0);
        }
        clock.set(Timestamp::from_micros(0));
        let store = open();
        let pool = pool_of(&store);
        assert_eq!(track(&pool, &[format!("cleared: {clear}")]), 1);
        let newest = pool.records(&RecordQuery::new().sort(RecordSort::Descending)).unwrap().data.remove(0);
        let expected = if clear { Timestamp::from_micros(0) } else { start };
        assert_eq!((newest.created_at, newest.id.get()), (expected, 71 + u64::from(clear)));
    }
}

#[test]
fn a_scan_that_began_before_a_clear_ends_quietly() {
    let pool = pool_for(Need::Any);
    track(&pool, &values(0..300));
    for sort in [RecordSort::Ascending, RecordSort::Descending] {
        let mut scan = pool.scan(&RecordFilter::new()).unwrap();
        let mut next = || match sort {
            RecordSort::Ascending => scan.next(),
            RecordSort::Descending => scan.next_back(),
        };
        let before = next().unwrap().unwrap().id.get();
        assert!(pool.clear().unwrap() > 0);
        track(&pool, &values(0..300));
        // The scan may still return what it has already read, but nothing that was tracked later.
        let rest: Vec<u64> = std::iter::from_fn(next).map(|record| record.unwrap().id.get()).collect();
        let first_new = all_ids(&pool)[0];
        assert!(rest.iter().all(|id| *id < first_new && *id != before));
        assert!(rest.len() < 299, "the whole pool was read at once");
    }
}

#[test]
fn a_scan_goes_on_across_the_drop_of_the_segments_before_behind_and_under_it() {
    let pool = pool_for(Need::Any);
    track(&pool, &values(0..640));
    let mut scan = pool.scan(&RecordFilter::new()).unwrap();
    assert_eq!(scan.next().unwrap().unwrap().id.get(), 1);
    assert_eq!(scan.next_back().unwrap().unwrap().id.get(), 640);
    // Of ten segments, the even ones are deleted.
    let gone: Vec<u64> = (1..=640).filter(|id| (id - 1) / 64 % 2 == 0).collect();
    assert_eq!(pool.delete_records(gone.iter().copied()).unwrap(), 320);
    track_singly(&pool, 1_000..1_050);
    let rest: Vec<u64> = scan.map(|record| record.unwrap().id.get()).collect();
    assert!(rest.is_sorted());
    let live: Vec<u64> = rest.into_iter().filter(|id| !gone.contains(id)).collect();
    let expected: Vec<u64> = (1..640).filter(|id| !gone.contains(id)).collect();
    assert_eq!(live, expected);
}

#[test]
fn a_snapshot_answers_as_before_across_fold_seal_and_drop() {
    let pool = pool_for(Need::Any);
    track_singly(&pool, 0..70);
    assert_eq!(pool.delete_records([7, 68]).unwrap(), 2);
    let snapshot = pool.snapshot().unwrap();
    let expected: Vec<u64> = (1..=70).filter(|id| *id != 7 && *id != 68).collect();
    let check = |what: &str| {
        let scanned: Vec<u64> =
            snapshot.scan(&RecordFilter::new()).unwrap().map(|record| record.unwrap().id.get()).collect();
        assert_eq!(scanned, expected, "scan after {what}");
        assert_eq!(snapshot.count(&RecordFilter::new().flow_id("shop")).unwrap(), 68, "count after {what}");
        let values = values(0..80);
        let keys: Vec<Key<'_>> = values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect();
        let there = snapshot.contains_many(&keys).unwrap();
        let firsts = snapshot.lookup(&keys).unwrap();
        for (id, (there, first)) in (1_u64..).zip(there.into_iter().zip(firsts)) {
            assert_eq!(there, expected.contains(&id), "contains of {id} after {what}");
            assert_eq!(
                first.map(|record| record.id.get()),
                there.then_some(id),
                "lookup of {id} after {what}"
            );
        }
        let page = snapshot.records(&RecordQuery::new().per_page(100)).unwrap();
        assert_eq!(page.meta.total, 68, "total after {what}");
    };
    check("nothing");
    track(&pool, &["value 6"]);
    check("tracking again what was deleted");
    track_singly(&pool, 70..95);
    check("a fold");
    track_singly(&pool, 95..140);
    check("a seal");
    assert_eq!(pool.delete_records(1..=64).unwrap(), 63);
    check("deleting a whole segment");
    track_singly(&pool, 140..150);
    check("its drop");
    assert!(pool.clear().unwrap() > 0);
    track_singly(&pool, 0..70);
    check("a clear");
    import(&pool, &values(0..200));
    check("an import");
}

#[test]
fn membership_filters_miss_nothing_after_seals_and_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let open = || support::embedded::open(&path, &support::options(), Sizes::SMALL).unwrap();
    let pool_of = |store: &DataPoolStore| store.get_or_create_pool("orders").unwrap();
    let check = |pool: &Pool, tracked: u32| {
        let values = values(0..2 * tracked);
        let keys: Vec<Key<'_>> = values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect();
        let there = pool.contains_many(&keys).unwrap();
        assert!(there.iter().zip(0..).all(|(there, number)| *there == (number < tracked)));
        let firsts = pool.lookup(&keys).unwrap();
        assert!(firsts.iter().flatten().map(|record| record.id.get()).eq(1..=u64::from(tracked)));
    };
    {
        let store = open();
        // The segments are sealed by single records, by an import and by a batch.
        let pool = pool_of(&store);
        track_singly(&pool, 0..300);
        check(&pool, 300);
        import(&pool, &values(300..500));
        check(&pool, 500);
        track(&pool, &values(500..700));
        check(&pool, 700);
    }
    let store = open();
    let pool = pool_of(&store);
    check(&pool, 700);
    track_singly(&pool, 700..800);
    check(&pool, 800);
    drop((pool, store));
    check(&pool_of(&open()), 800);
}

#[test]
fn a_file_closed_at_any_moment_of_a_fold_opens_with_everything_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    for number in 0..90 {
        let store = support::embedded::open(&path, &support::options(), Sizes::SMALL).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        track_singly(&pool, number..number + 1);
        assert_eq!(track(&pool, &values(0..number + 1)), 0);
        assert_eq!(pool.count(&RecordFilter::new().flow_id("shop")).unwrap(), u64::from(number) + 1);
    }
}

/// Keeps a pool at about 500 records: tracks a new value each time, and now and then deletes old ones or all
/// of them.
fn be_busy(pool: &Pool, commits: Range<u32>) {
    for number in commits {
        assert_eq!(track(pool, &[format!("busy {number}")]), 1);
        if number % 4_000 == 3_999 {
            pool.clear().unwrap();
        } else if number % 500 == 499 {
            let newest = pool.records(&RecordQuery::new().sort(RecordSort::Descending).per_page(1)).unwrap();
            let keep_from = newest.data[0].id.get().saturating_sub(500);
            let old: Vec<u64> = all_ids(pool).into_iter().filter(|id| *id < keep_from).collect();
            assert_eq!(pool.delete_records(old.iter().copied()).unwrap(), old.len() as u64);
        }
    }
}

/// 10,000 commits and more, durable or not. Relaxed ones are flushed every hundred commits, as by the
/// flusher, but independent of time.
#[test]
fn a_busy_pool_beside_an_idle_one_stops_growing_the_file() {
    let relaxed = Durability::Relaxed { flush_every: Duration::from_hours(1) };
    for durability in [Durability::Immediate, relaxed] {
        let (disk, store) = support::measured_store(&support::options().durability(durability));
        let idle = store.get_or_create_pool("idle").unwrap();
        track_singly(&idle, 0..100);
        let busy = store.get_or_create_pool("busy").unwrap();
        // The largest size that the file had, because the size at one moment depends on recent deletions.
        let commit = |numbers: Range<u32>| {
            let bytes = numbers.step_by(100).map(|start| {
                be_busy(&busy, start..start + 100);
                store.flush().unwrap();
                disk.bytes()
            });
            bytes.max().unwrap()
        };
        let first_half = commit(0..5_000);
        let second_half = commit(5_000..10_000);
        assert!(
            second_half <= first_half + first_half / 4,
            "{durability:?}: {first_half}, then {second_half}"
        );
        assert_eq!(all_ids(&idle), (1..=100).collect::<Vec<_>>());
        assert_eq!(track(&idle, &values(0..101)), 1);
    }
}

#[test]
fn many_pools_together_exceed_the_tails_limit_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let relaxed = support::options().durability(Durability::Relaxed { flush_every: Duration::from_hours(1) });
    let open = || support::embedded::open(&path, &relaxed, Sizes::SMALL).unwrap();
    // 50 pools with up to 15 unfolded records each, while only 64 are allowed in all.
    let names: Vec<String> = (0..50).map(|number| format!("pool {number}")).collect();
    let check = |store: &DataPoolStore, each: u32| {
        for name in &names {
            let pool = store.pool_named(name).unwrap();
            assert_eq!(all_ids(&pool), (1..=u64::from(each)).collect::<Vec<_>>());
            assert_eq!(pool.count(&RecordFilter::new().flow_id("shop")).unwrap(), u64::from(each));
            assert_eq!(track(&pool, &values(0..each)), 0);
        }
    };
    let store = open();
    for name in &names {
        store.create_pool(NewPool::new(name.clone())).unwrap();
    }
    for number in 0..20 {
        for name in &names {
            track_singly(&store.pool_named(name).unwrap(), number..number + 1);
        }
    }
    check(&store, 20);
    drop(store);
    let store = open();
    check(&store, 20);
    for number in 20..40 {
        for name in names.iter().rev() {
            track_singly(&store.pool_named(name).unwrap(), number..number + 1);
        }
    }
    check(&store, 40);
}

/// The space of dropped segments is reclaimed by one commit at a time, for any pool. The work of another pool
/// must not block it for ever.
#[test]
fn a_cleared_pool_gives_its_space_back_to_the_others_even_beside_a_bulk_loaded_one() {
    let bytes_beside = |fill: &dyn Fn(&Pool)| {
        let (disk, store) = support::measured_store(&support::options());
        fill(&store.get_or_create_pool("loaded").unwrap());
        let cleared = store.get_or_create_pool("cleared").unwrap();
        track(&cleared, &values(0..12_800));
        cleared.clear().unwrap();
        let other = store.get_or_create_pool("other").unwrap();
        // Enough commits to drop the 200 segments, then as much data as they held.
        track_singly(&other, 0..300);
        track(&other, &values(300..12_000));
        disk.bytes()
    };
    let alone = bytes_beside(&|_| {});
    let beside_an_import = bytes_beside(&|pool| {
        track_singly(pool, 0..10);
        import(pool, &values(10..100));
    });
    let beside_a_batch = bytes_beside(&|pool| {
        track(pool, &values(0..100));
    });
    for bytes in [beside_an_import, beside_a_batch] {
        // When a truncated file grows again, it may become half as large again. Without any reuse, it would
        // have twice the size.
        assert!(bytes < alone + alone * 3 / 4, "space was not reused: {alone} bytes became {bytes}");
    }
}

/// Returns the codes of the rows in a file's table of origins.
fn origin_codes(place: &Place) -> Vec<u32> {
    let origins: redb::TableDefinition<'_, (u64, u32, u32), &[u8]> = redb::TableDefinition::new("origins");
    let mut codes = Vec::new();
    place.damage(|txn| {
        for row in redb::ReadableTable::iter(&txn.open_table(origins).unwrap()).unwrap() {
            codes.push(row.unwrap().0.value().2);
        }
    });
    codes
}

/// If only one record has an origin, the record contains it. If several have it, it is a row.
#[test]
fn an_origin_is_in_its_record_until_a_second_one_has_it() {
    let place = Place::new();
    let of_run = |run: &str| Origin::new("shop", run, "read");
    let expected = ["a", "b", "a", "a", "c", "c", "a", "d"];
    let mut store = place.open();
    let mut tracked = 0;
    for (calls, codes) in [
        (&["a", "b"][..], &[][..]),
        // After opening, no origins are known, so "a" is stored in its record again, in slot 2. Then a second
        // record has it.
        (&["a", "a", "c c"], &[2, 4]),
        (&["a", "d"], &[2, 4]),
    ] {
        let pool = store.get_or_create_pool("orders").unwrap();
        for call in calls {
            let runs: Vec<&str> = call.split(' ').collect();
            let batch = values(tracked..tracked + runs.len() as u32);
            tracked += runs.len() as u32;
            let key = |value: &String| Key::new(ORDERS, value.clone());
            let _ = pool.dedupe(Mode::Track, &batch, key, &of_run(runs[0])).unwrap();
        }
        store.close().unwrap();
        assert_eq!(origin_codes(&place), codes);
        store = place.open();
    }
    let pool = store.get_or_create_pool("orders").unwrap();
    let runs = |pool: &Pool| {
        let records = support::records(pool);
        records.iter().map(|record| record.flow_run_id.as_ref().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(runs(&pool), expected);
    assert_eq!(ids(&pool, &RecordFilter::new().flow_run_id("a")), [1, 3, 4, 7]);
    // After folding, the posting lists give the same result, and so they do when the first of these records
    // is gone.
    track_singly(&pool, 100..164);
    pool.delete_records([1]).unwrap();
    pool.prune().unwrap();
    assert_eq!(ids(&pool, &RecordFilter::new().flow_run_id("a")), [3, 4, 7]);
    assert_eq!(runs(&pool)[..7], expected[1..]);
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn what_is_tracked_after_an_import_in_the_middle_of_a_fold_is_folded_with_its_own_entries() {
    for before in 1..40 {
        let store = support::store_for(Need::Any);
        let pool = store.get_or_create_pool("orders").unwrap();
        track_singly(&pool, 0..before);
        import(&pool, &values(1_000..1_003));
        track_singly(&pool, 100..170);
        let mut expected = values(0..before);
        expected.extend(values(1_000..1_003));
        expected.extend(values(100..170));
        assert_eq!(support::values(&pool), expected, "{before}");
        assert!(expected.iter().all(|value| has(&pool, value)), "{before}");
        // Tracked records have an origin, and imported ones have none.
        assert_eq!(ids(&pool, &RecordFilter::new().flow_id("shop")).len(), before as usize + 70, "{before}");
        pool.prune().unwrap();
        assert!(pool.stats().unwrap().unfolded < 16, "pruning ends the fold, {before}");
        assert!(expected.iter().all(|value| has(&pool, value)), "{before}, pruned");
        assert_eq!(track(&pool, &expected), 0, "{before}");
        assert_eq!(store.verify().unwrap().findings, [], "{before}");
    }
}

/// Neighbours are read by iterating. The next record wanted may be in the same slot of another segment.
#[test]
fn neighbours_in_one_segment_are_not_taken_for_records_of_the_next() {
    let pool = pool_for(Need::Any);
    track_singly(&pool, 0..150);
    for number in 64..128 {
        let wanted = [8, 9, number].map(|number: u32| format!("value {number}"));
        let filter = RecordFilter::new().entity_type_id(ORDERS);
        let filter = wanted.iter().fold(filter, |filter, value| filter.value(value.as_str()));
        for sort in [RecordSort::Ascending, RecordSort::Descending] {
            let page = pool.records(&RecordQuery::new().filter(filter.clone()).sort(sort)).unwrap();
            let mut found: Vec<String> = page.data.into_iter().map(|record| record.value).collect();
            if sort == RecordSort::Descending {
                found.reverse();
            }
            assert_eq!(found, wanted, "{number}");
        }
    }
}
