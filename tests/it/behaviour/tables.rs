//! Proves that tables of fingerprints find everything that folds, imports and merges write, in every view,
//! and after reopening.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use datapool_store::testing::Sizes;
use datapool_store::{
    DataPoolStore, ImportOptions, Key, NewPool, Pool, PoolSnapshot, PoolUpdate, RecordFilter,
};
use redb::{ReadableTable, TableDefinition};

use crate::support::{self, Need, Numbers, ORDERS, Place, Seed};

type Bytes = &'static [u8];
const FINGERPRINTS: TableDefinition<'_, (u64, u32, u32, u32), Bytes> = TableDefinition::new("fingerprints");
const FILTERS: TableDefinition<'_, (u64, u32, u32), Bytes> = TableDefinition::new("filters");

/// Folds of sixteen records, so that there are soon tables of several levels.
const SIZES: Sizes = Sizes { segment_slots: 256, ..Sizes::SMALL };
/// Enough rounds for everything to be cached that can be.
const ROUNDS: u32 = 3;

fn open(place: &Place) -> DataPoolStore {
    support::embedded::open(&place.path, &support::options(), SIZES).unwrap()
}

fn value(number: u64) -> String {
    format!("value {number}")
}

fn values(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(value).collect()
}

fn keys(values: &[String]) -> Vec<Key<'_>> {
    values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect()
}

/// Returns the first live record of each value, from the records alone.
fn firsts(pool: &Pool) -> BTreeMap<String, u64> {
    let mut firsts = BTreeMap::new();
    for record in support::records(pool) {
        firsts.entry(record.value).or_insert(record.id.get());
    }
    firsts
}

/// Values are tracked, deleted, tracked again and imported twice. The store is closed at any moment, so folds
/// and merges begin again.
#[test]
fn every_value_is_found_in_tables_in_those_that_are_merged_and_after_reopening() {
    let (mut most, mut last, mut merging) = (0, 0, 0);
    for seed in 0..6 {
        let _seed = Seed("seed", seed);
        let mut numbers = Numbers::seeded(seed);
        let place = Place::new();
        let mut store = open(&place);
        let values: Vec<String> = (0..900).map(|number| format!("value {number}")).collect();
        let some = |numbers: &mut Numbers, most: u64| {
            let start = numbers.next(890) as usize;
            values[start..start + 1 + numbers.next(most) as usize].to_vec()
        };
        for step in 0..250 {
            let pool = store.get_or_create_pool("orders").unwrap();
            match numbers.next(12) {
                0 => drop(pool.delete_keys(&keys(&some(&mut numbers, 4))).unwrap()),
                1 if step % 50 == 0 => {
                    let rows = some(&mut numbers, 9).join(",37\n");
                    let file = format!("value,entity_type_id\n{rows},37\n");
                    pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
                }
                2 => {
                    drop((pool, store));
                    let tables = tables(&place);
                    most = tables.len().max(most);
                    last = tables.last().copied().unwrap_or(0).max(last);
                    merging += u32::from(is_merging(&place));
                    store = open(&place);
                    continue;
                }
                _ => drop(support::track(&pool, &some(&mut numbers, 9))),
            }
            let expected = firsts(&pool);
            let found = pool.contains_many(&keys(&values)).unwrap();
            let live: Vec<bool> = values.iter().map(|value| expected.contains_key(value)).collect();
            assert_eq!(found, live, "step {step}");
            let found = pool.lookup(&keys(&values)).unwrap();
            let ids: Vec<Option<u64>> = found.iter().map(|first| Some(first.as_ref()?.id.get())).collect();
            let first: Vec<_> = values.iter().map(|value| expected.get(value).copied()).collect();
            assert_eq!(ids, first, "step {step}");
            if step % 10 == 0 {
                assert_eq!(store.verify().unwrap().findings, [], "step {step}");
            }
        }
    }
    // The test has reached the intended states.
    assert!(most > 8 && last > 30 && merging > 0, "{most} {last} {merging}");
}

/// Returns the numbers of the tables with rows in a closed store.
fn tables(place: &Place) -> BTreeSet<u32> {
    let mut tables = BTreeSet::new();
    place.damage(|txn| {
        let rows = txn.open_table(FINGERPRINTS).unwrap();
        tables = rows.iter().unwrap().map(|row| row.unwrap().0.value().1).collect();
    });
    tables
}

/// Returns true if the newest table is being merged: pieces of its filter are missing.
fn is_merging(place: &Place) -> bool {
    let store = open(place);
    let pool = store.get_or_create_pool("orders").unwrap();
    pool.prune().unwrap().segments > 0 || pool.stats().unwrap().live == 0
}

/// A snapshot is read after segments were dropped and newer views were read.
#[test]
fn a_snapshot_finds_what_was_in_segments_that_its_groups_were_copied_without() {
    let store = support::store_for(Need::Embedded);
    let pool = store.create_pool(NewPool::new("orders")).unwrap();
    support::track(&pool, &values(0..700));
    pool.prune().unwrap();
    let snapshot = pool.snapshot().unwrap();
    store.update_pool(pool.id(), PoolUpdate::new().capacity(500)).unwrap();
    pool.prune().unwrap();
    for _ in 0..ROUNDS {
        assert!(found(&pool, 800) == (200..700).collect());
    }
    for _ in 0..ROUNDS {
        assert!(numbers(&snapshot.contains_many(&keys(&values(0..800))).unwrap()) == (0..700).collect());
    }
}

/// The same with many segments, some of which are dropped at the start, in the middle or near the end.
#[test]
fn a_snapshot_finds_what_was_in_segments_that_the_filter_of_all_was_copied_without() {
    for gone in [0..300, 300..600, 1_700..1_900] {
        let store = support::store_for(Need::Embedded);
        let pool = store.create_pool(NewPool::new("orders")).unwrap();
        support::track(&pool, &values(0..2_000));
        pool.prune().unwrap();
        let (snapshot, before) = (pool.snapshot().unwrap(), pool.stats().unwrap().segments);
        pool.delete_keys(&keys(&values(gone.clone()))).unwrap();
        pool.prune().unwrap();
        assert!(pool.stats().unwrap().segments < before);
        let left = || (0..2_000).filter(|number| !gone.contains(number)).collect();
        for _ in 0..ROUNDS {
            assert!(found(&pool, 2_100) == left());
        }
        for _ in 0..ROUNDS {
            assert!(
                numbers(&snapshot.contains_many(&keys(&values(0..2_100))).unwrap()) == (0..2_000).collect()
            );
        }
    }
}

/// Returns the numbers below a limit that are in the pool.
fn found(pool: &Pool, below: u64) -> BTreeSet<u64> {
    numbers(&pool.contains_many(&keys(&values(0..below))).unwrap())
}

fn numbers(there: &[bool]) -> BTreeSet<u64> {
    (0..).zip(there).filter(|(_, there)| **there).map(|(number, _)| number).collect()
}

/// Values in about forty segments. The oldest segments are dropped and others deleted, while snapshots of
/// many moments are held.
#[test]
fn every_snapshot_is_answered_as_of_its_own_moment_while_tables_are_dropped() {
    for seed in 0..support::runs(1, 4) {
        let mut random = Numbers::seeded(seed);
        let store = support::embedded::in_memory(&support::options(), Sizes::SMALL).unwrap();
        let capacity = 1_600;
        let pool = store.create_pool(NewPool::new("orders").capacity(capacity)).unwrap();
        let (mut order, mut next): (Vec<u64>, u64) = (Vec::new(), 0);
        let mut snapshots: Vec<(PoolSnapshot, BTreeSet<u64>)> = Vec::new();
        for round in 0..100 {
            let count = 1 + random.next(60);
            support::track(&pool, &values(next..next + count));
            order.extend(next..next + count);
            next += count;
            order.drain(..order.len().saturating_sub(capacity as usize));
            if random.next(5) == 0 && !order.is_empty() {
                let deleted = order.remove(random.next(order.len() as u64) as usize);
                pool.delete_keys(&keys(&values(deleted..deleted + 1))).unwrap();
            }
            if random.next(6) == 0 {
                pool.prune().unwrap();
            }
            let live: BTreeSet<u64> = order.iter().copied().collect();
            if random.next(4) == 0 {
                snapshots.push((pool.snapshot().unwrap(), live.clone()));
            }
            if snapshots.len() > 4 {
                snapshots.remove(0);
            }
            assert!(found(&pool, next + 50) == live, "{seed}: {round}");
            let all = values(0..next + 50);
            for (snapshot, live) in &snapshots {
                let there = snapshot.contains_many(&keys(&all)).unwrap();
                assert!(numbers(&there) == *live, "{seed}: {round}");
                let first = snapshot.lookup(&keys(&all)).unwrap();
                assert!((0..).zip(&first).all(|(number, first)| live.contains(&number) == first.is_some()));
            }
        }
    }
}

const VALUES: u64 = 1_500;

/// Values are tracked, deleted and tracked again in the open segment, while snapshots of many moments are
/// held for some time.
#[test]
fn every_snapshot_is_answered_as_of_its_own_moment_while_values_come_and_go() {
    let sizes = Sizes { segment_slots: 2_048, chunk_slots: 256, fold_entries: 32, ..Sizes::SMALL };
    let values: Vec<String> = (0..VALUES).map(value).collect();
    for seed in 0..4 {
        let mut numbers = Numbers::seeded(seed);
        let store = support::embedded::in_memory(&support::options(), sizes).unwrap();
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
    }
}

fn answers(there: &[bool], tracked: &BTreeSet<u64>) -> bool {
    there.iter().zip(0..).all(|(there, number)| *there == tracked.contains(&number))
}

/// Checks that the record that a lookup finds has the value, and that no earlier record does.
fn firsts_are_first(snapshot: &PoolSnapshot, values: &[String]) {
    let mut first = std::collections::HashMap::new();
    for record in snapshot.scan(&RecordFilter::new()).unwrap() {
        let record = record.unwrap();
        first.entry(record.value).or_insert(record.id.get());
    }
    let found = snapshot.lookup(&keys(values)).unwrap();
    for (value, record) in values.iter().zip(found) {
        assert_eq!(record.map(|record| record.id.get()), first.get(value).copied(), "{value}");
    }
}

/// An import that adds every row makes several records of a value, some of which are then deleted.
#[test]
fn a_look_up_names_the_first_of_several_records() {
    let sizes = Sizes { segment_slots: 2_048, chunk_slots: 256, fold_entries: 32, ..Sizes::SMALL };
    let store = support::embedded::in_memory(&support::options(), sizes).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let values: Vec<String> = (0..600).map(value).collect();
    for round in 0..3 {
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
                pool.lookup(&keys(&values)).unwrap().iter().flatten().map(|first| first.id.get()).collect();
            pool.delete_records(ids.iter().copied()).unwrap();
            snapshot
        })
        .collect();
    for snapshot in &snapshots {
        firsts_are_first(snapshot, &values);
    }
    assert!(pool.contains_many(&keys(&values)).unwrap().iter().all(|there| !there));
}

fn import(pool: &Pool, values: &[String]) {
    let rows: String = values.iter().map(|value| format!("{value},37\n")).collect();
    let file = format!("value,entity_type_id\n{rows}");
    pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
}

/// Filters and rows may use three quarters of the cache, whatever is looked up.
#[test]
fn filters_and_rows_stay_within_their_share_of_the_cache() {
    let cache = 400_000;
    let sizes = Sizes { segment_slots: 2_048, chunk_slots: 256, fold_entries: 32, ..Sizes::SMALL };
    let store = support::embedded::in_memory(&support::options().cache_size(cache), sizes).unwrap();
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
        assert!(memory <= cache as u64 / 4 * 3 + 6 * 4_096, "{memory}");
    }
    // Not all rows fit. They would need 16 bytes per record.
    assert!(store.stats().unwrap().index_memory > 6 * 1_500 * 14);
}

/// Once a caller knows that a value is tracked, every later lookup must find it.
#[test]
fn readers_beside_folds_and_merges_miss_nothing() {
    let sizes = Sizes { segment_slots: 4_096, chunk_slots: 256, fold_entries: 64, ..Sizes::SMALL };
    for round in 0..4 {
        let store = support::embedded::in_memory(&support::options(), sizes).unwrap();
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
    }
}

/// Some rows are cached when their tables are merged.
#[test]
fn what_is_asked_before_and_after_a_merge_is_found() {
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
        let open = || support::embedded::open(&place.path, &support::options(), sizes).unwrap();
        let pool = open().get_or_create_pool("orders").unwrap();
        for batch in values.chunks(50) {
            support::track(&pool, batch);
        }
        drop(pool);
        // Nothing is cached now.
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

/// Cached parts of a damaged filter must not survive its rebuilding.
#[test]
fn a_filter_that_was_mended_is_asked_anew() {
    let place = Place::with_orders(700);
    place.open().pool(1).unwrap().prune().unwrap();
    place.damage(|txn| {
        let mut table = txn.open_table(FILTERS).unwrap();
        let keys: Vec<_> = table.iter().unwrap().map(|row| row.unwrap().0.value()).collect();
        for key in keys {
            let zeros = vec![0; table.get(key).unwrap().unwrap().value().len()];
            table.insert(key, zeros.as_slice()).unwrap();
        }
    });
    is_mended(&place, 700);
}

/// The same is true of damaged rows.
#[test]
fn rows_that_were_mended_are_asked_anew() {
    let place = Place::with_orders(2_000);
    place.open().pool(1).unwrap().prune().unwrap();
    place.damage(|txn| {
        let mut row = 0;
        txn.open_table(FINGERPRINTS)
            .unwrap()
            .retain(|_, _| {
                row += 1;
                row % 3 > 0
            })
            .unwrap();
    });
    is_mended(&place, 2_000);
}

/// Checks that not all orders can be found until the indexes are rebuilt.
fn is_mended(place: &Place, orders: usize) {
    let store = place.open();
    let pool = store.pool(1).unwrap();
    let values = support::numbered("A", orders);
    let there = || pool.contains_many(&keys(&values)).unwrap().iter().filter(|there| **there).count();
    let found = there();
    (0..ROUNDS).for_each(|_| assert_eq!(there(), found));
    assert!(found < orders);
    store.rebuild_indexes().unwrap();
    (0..ROUNDS).for_each(|_| assert_eq!(there(), orders));
}

/// The row of such a value has several parts. Merging and verifying read all of them.
#[test]
fn a_value_of_very_many_records_keeps_all_of_them_while_tables_are_merged_and_verified() {
    let sizes = Sizes { segment_slots: 2_048, chunk_slots: 256, ..Sizes::SMALL };
    let place = Place::new();
    let all_are_there = |pool: &Pool, rounds: u64| {
        let of_value = RecordFilter::new().value("the same");
        assert_eq!(pool.count(&of_value).unwrap(), rounds * 900);
        assert_eq!(pool.count(&of_value.entity_type_id(ORDERS)).unwrap(), rounds * 900);
        let mut sought = values(0..rounds * 100);
        sought.push("the same".to_owned());
        assert!(pool.contains_many(&keys(&sought)).unwrap().iter().all(|there| *there));
        firsts_are_first(&pool.snapshot().unwrap(), &sought);
    };
    let store = support::embedded::open(&place.path, &support::options(), sizes).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    for round in 0..8 {
        let mut rows = values(round * 100..(round + 1) * 100);
        rows.extend(std::iter::repeat_n("the same".to_owned(), 900));
        import(&pool, &rows);
        pool.prune().unwrap();
        all_are_there(&pool, round + 1);
        assert_eq!(store.verify().unwrap().findings, []);
    }
    drop((pool, store));
    let store = support::embedded::open(&place.path, &support::options(), sizes).unwrap();
    all_are_there(&store.pool_named("orders").unwrap(), 8);
    assert_eq!(store.verify().unwrap().findings, []);
}
