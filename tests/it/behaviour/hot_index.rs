//! The hot index: what is copied into memory answers as the file does, to every view.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use datapool_store::testing::{self, Sizes};
use datapool_store::{DataPoolStore, Key, Pool, PoolSnapshot};

use crate::support::{self, Numbers, ORDERS};

/// Whether indexes of so many records are in memory: 17 bytes for each, at least.
fn is_hot(store: &DataPoolStore, records: u64) -> bool {
    store.stats().unwrap().index_memory >= 17 * records
}

fn value(number: u64) -> String {
    format!("value {number}")
}

const VALUES: u64 = 1_500;

fn keys(values: &[String]) -> Vec<Key<'_>> {
    values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect()
}

/// Values that are tracked, deleted and tracked again, in a segment that is hot; snapshots of any moment, kept for a while.
#[test]
fn every_snapshot_is_answered_as_of_its_own_moment() {
    let sizes = Sizes { segment_slots: 2_048, chunk_slots: 256, fold_entries: 32, ..Sizes::SMALL };
    let values: Vec<String> = (0..VALUES).map(value).collect();
    for seed in 0..4 {
        let mut numbers = Numbers::seeded(seed);
        let store = testing::in_memory(&support::options(), sizes).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        let mut tracked = BTreeSet::new();
        let mut snapshots: Vec<(PoolSnapshot, BTreeSet<u64>)> = Vec::new();
        for round in 0..220 {
            let batch: Vec<u64> = (0..20).map(|_| numbers.next(VALUES)).collect();
            let texts: Vec<String> = batch.iter().map(|number| value(*number)).collect();
            if numbers.next(4) == 0 {
                pool.delete_keys(&keys(&texts)).unwrap();
                tracked.retain(|number| !batch.contains(number));
            } else {
                support::track(&pool, &texts);
                tracked.extend(batch);
            }
            if numbers.next(10) == 0 {
                snapshots.push((pool.snapshot().unwrap(), tracked.clone()));
            }
            if snapshots.len() > 5 {
                snapshots.remove(0);
            }
            if round % 10 != 9 {
                continue;
            }
            assert!(answers(&pool.contains_many(&keys(&values)).unwrap(), &tracked), "{seed}: {round}");
            for (snapshot, tracked) in &snapshots {
                assert!(
                    answers(&snapshot.contains_many(&keys(&values)).unwrap(), tracked),
                    "{seed}: {round}"
                );
                firsts_are_first(snapshot, &values);
            }
        }
        assert!(is_hot(&store, 1_024));
    }
}

fn answers(there: &[bool], tracked: &BTreeSet<u64>) -> bool {
    there.iter().zip(0..).all(|(there, number)| *there == tracked.contains(&number))
}

/// The record that a look-up finds has the value, and no earlier one does.
fn firsts_are_first(snapshot: &PoolSnapshot, values: &[String]) {
    let mut first = std::collections::HashMap::new();
    for record in snapshot.scan(&datapool_store::RecordFilter::new()).unwrap() {
        let record = record.unwrap();
        first.entry(record.value).or_insert(record.id);
    }
    let found = snapshot.lookup(&keys(values)).unwrap();
    for (value, record) in values.iter().zip(found) {
        assert_eq!(record.map(|record| record.id), first.get(value).copied(), "{value}");
    }
}

/// An import that takes every row makes several records of a value, of which some are deleted.
#[test]
fn a_look_up_names_the_first_of_several_records_also_in_a_hot_segment() {
    let sizes = Sizes { segment_slots: 2_048, chunk_slots: 256, fold_entries: 32, ..Sizes::SMALL };
    let store = testing::in_memory(&support::options(), sizes).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let values: Vec<String> = (0..600).map(value).collect();
    for round in 0..3 {
        // Rows that an import indexes at once are not told to a hot index that is there: it must begin anew.
        import(&pool, &values);
        let others: Vec<String> = (0..40).map(|number| format!("{round}: {number}")).collect();
        import(&pool, &others);
        for _ in 0..3 {
            assert!(pool.contains_many(&keys(&values)).unwrap().iter().all(|there| *there));
            assert!(pool.contains_many(&keys(&others)).unwrap().iter().all(|there| *there));
        }
    }
    let snapshots: Vec<PoolSnapshot> = (0..3)
        .map(|_| {
            for _ in 0..3 {
                assert!(pool.contains_many(&keys(&values)).unwrap().iter().all(|there| *there));
            }
            let snapshot = pool.snapshot().unwrap();
            let ids: Vec<u64> =
                pool.lookup(&keys(&values)).unwrap().iter().flatten().map(|first| first.id).collect();
            pool.delete_records(&ids).unwrap();
            snapshot
        })
        .collect();
    for snapshot in &snapshots {
        firsts_are_first(snapshot, &values);
    }
    assert!(pool.contains_many(&keys(&values)).unwrap().iter().all(|there| !there));
    assert!(is_hot(&store, 1_024));
}

fn import(pool: &Pool, values: &[String]) {
    let rows: String = values.iter().map(|value| format!("{value},37\n")).collect();
    let file = format!("value,entity_type_id\n{rows}");
    pool.import_csv(file.as_bytes(), &datapool_store::ImportOptions::new()).unwrap();
}

/// Five eighths of the cache are theirs, whatever is asked.
#[test]
fn hot_indexes_stay_within_their_share_of_the_cache() {
    let cache = 400_000;
    let sizes = Sizes { segment_slots: 2_048, chunk_slots: 256, fold_entries: 32, ..Sizes::SMALL };
    let store = testing::in_memory(&support::options().cache_size(cache), sizes).unwrap();
    let pools: Vec<Pool> = (0..6)
        .map(|number| {
            let pool = store.get_or_create_pool(format!("pool {number}").as_str()).unwrap();
            import(&pool, &(0..1_500).map(value).collect::<Vec<_>>());
            pool
        })
        .collect();
    let values: Vec<String> = (0..3_000).map(value).collect();
    for round in 0..30 {
        for pool in &pools {
            let there = pool.contains_many(&keys(&values)).unwrap();
            assert!(there.iter().zip(0..).all(|(there, number)| *there == (number < 1_500)), "{round}");
        }
        let memory = store.stats().unwrap().index_memory;
        assert!(memory <= cache as u64 / 8 * 5 + 6 * 2_048, "{memory}");
    }
    assert!(is_hot(&store, 2_048));
}

/// Its tail answers until the fold is done: a hot index that was begun before would have its lowest fingerprints alone.
#[test]
fn no_hot_index_is_begun_while_a_segment_is_folded_for_the_first_time() {
    const SEGMENT: usize = 4_096;
    let sizes = Sizes {
        segment_slots: 4_096,
        chunk_slots: 256,
        fold_entries: 65_536,
        fold_slices: 64,
        tails_max_entries: 1 << 20,
        ..Sizes::SMALL
    };
    let store = testing::in_memory(&support::options(), sizes).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    for batch in support::numbered("A", SEGMENT + 1_400).chunks(500) {
        support::track(&pool, batch);
    }
    let unfolded = pool.stats().unwrap().unfolded;
    assert!(unfolded > SEGMENT as u64, "the fold is done: {unfolded}");
    let memory = || store.stats().unwrap().index_memory;
    let before = memory();
    for number in 0..20_000 {
        assert!(!support::has(&pool, &format!("B-{number}")));
    }
    assert_eq!(memory(), before);
}

/// Readers copy the table of the open segment, a slice each, while folds add to it. Whoever has been told that a
/// value is tracked must find it ever after.
#[test]
fn a_hot_index_that_grows_beside_folds_misses_nothing() {
    let sizes = Sizes { segment_slots: 4_096, chunk_slots: 256, fold_entries: 64, ..Sizes::SMALL };
    for round in 0..4 {
        let store = testing::in_memory(&support::options(), sizes).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        let acknowledged = &AtomicU64::new(0);
        let value = |number: u64| format!("{round}-{number}");
        let last = 10_500;
        std::thread::scope(|scope| {
            for reader in 0..3 {
                let pool = pool.clone();
                scope.spawn(move || {
                    let mut numbers = support::Numbers::seeded(reader);
                    loop {
                        let known = acknowledged.load(Ordering::SeqCst);
                        let asked = numbers.next(known.max(1));
                        assert!(known == 0 || support::has(&pool, &value(asked)), "{asked} of {known}");
                        assert!(!support::has(&pool, &value(1_000_000 + asked)));
                        if known >= last {
                            break;
                        }
                    }
                });
            }
            let mut number = 0;
            while number < last {
                let batch: Vec<String> = (number..number + 7).map(value).collect();
                support::track(&pool, &batch);
                number += 7;
                acknowledged.store(number, Ordering::SeqCst);
            }
        });
        for number in 0..last {
            assert!(support::has(&pool, &value(number)), "{number}");
        }
        assert!(is_hot(&store, 3 * 4_096));
    }
}

/// What the fold had written of its run before, no fold adds to the hot index any more.
#[test]
fn a_hot_index_that_is_copied_within_one_fold_has_all_that_this_fold_wrote() {
    const FOLD: usize = 1_024;
    let sizes = Sizes {
        segment_slots: 8_192,
        chunk_slots: 256,
        fold_entries: FOLD,
        fold_slices: 16,
        tails_max_entries: 4 * FOLD,
        ..Sizes::SMALL
    };
    let values = support::numbered("A", 6 * FOLD);
    let track = |pool: &Pool, values: &[String]| {
        for batch in values.chunks(16) {
            support::track(pool, batch);
        }
    };
    let ask_absent = |pool: &Pool| {
        for number in 0..9_000 {
            assert!(!support::has(pool, &format!("B-{number}")));
        }
    };
    let mut copied_within = 0;
    for moment in 0..16 {
        // Room for one.
        let store = testing::in_memory(&support::options().cache_size(400_000), sizes).unwrap();
        let other = store.get_or_create_pool("other").unwrap();
        track(&other, &values[..4 * FOLD]);
        ask_absent(&other);
        let pool = store.get_or_create_pool("orders").unwrap();
        let (before, behind) = values.split_at(4 * FOLD + 16 * moment);
        track(&pool, before);
        store.delete_pool(other.id()).unwrap();
        let memory = || store.stats().unwrap().index_memory;
        let without = memory();
        let unfolded = pool.stats().unwrap().unfolded;
        ask_absent(&pool);
        assert!(memory() > without + 15 * u64::from(sizes.segment_slots));
        copied_within += u32::from(unfolded > FOLD as u64);
        track(&pool, behind);
        for value in &values {
            assert!(support::has(&pool, value), "{moment}: {value}");
        }
    }
    assert!(copied_within > 4, "{copied_within}");
}

/// Half of a segment's runs are copied when they are merged into its table: what was not copied yet is there now.
#[test]
fn what_is_copied_while_runs_are_merged_has_all_of_them() {
    let sizes = Sizes {
        segment_slots: 4_096,
        chunk_slots: 256,
        fold_entries: 256,
        tails_max_entries: 1_024,
        ..Sizes::SMALL
    };
    let values: Vec<String> = (0..4_150).map(value).collect();
    for questions in (0..3_000).step_by(500) {
        let place = support::Place::new();
        let open = || testing::open(&place.path, &support::options(), sizes).unwrap();
        let pool = open().get_or_create_pool("orders").unwrap();
        for batch in values.chunks(50) {
            support::track(&pool, batch);
        }
        drop(pool);
        // Nothing is in memory now.
        let store = open();
        let pool = store.pool_named("orders").unwrap();
        for value in &values[..questions] {
            assert!(support::has(&pool, value), "{value}");
        }
        pool.prune().unwrap();
        for value in values.iter().chain(&values) {
            assert!(support::has(&pool, value), "{value}, after {questions}");
        }
    }
}
