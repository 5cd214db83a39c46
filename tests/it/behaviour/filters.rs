//! Membership filters that are asked in groups, or all as one, answer as each would by itself, to every view.

use std::collections::BTreeSet;

use datapool_store::testing::{self, Sizes};
use datapool_store::{DataPoolStore, Key, NewPool, Pool, PoolSnapshot, PoolUpdate};
use redb::{ReadableTable, TableDefinition};

use crate::support::{self, Numbers, ORDERS, Place};

/// Each is asked so often that its filters are loaded and laid side by side, and the one of all is copied: 32 questions and
/// some blocks, and sixteen questions for each four records.
const ROUNDS: u32 = 50;

fn values(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("value {number}")).collect()
}

fn keys(values: &[String]) -> Vec<Key<'_>> {
    values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect()
}

/// Which numbers below so many are there.
fn found(pool: &Pool, below: u64) -> BTreeSet<u64> {
    numbers(&pool.contains_many(&keys(&values(0..below))).unwrap())
}

fn numbers(there: &[bool]) -> BTreeSet<u64> {
    (0..).zip(there).filter(|(_, there)| **there).map(|(number, _)| number).collect()
}

/// The view that copies a group has fewer of its segments than a snapshot that asks later.
#[test]
fn a_snapshot_finds_what_was_in_segments_that_its_groups_were_copied_without() {
    let store = support::small_store();
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

/// The same, where so many segments are there that there is a filter of all; some of them, in the middle, are dropped.
#[test]
fn a_snapshot_finds_what_was_in_segments_that_the_filter_of_all_was_copied_without() {
    for gone in [0..300, 300..600, 1_700..1_900] {
        let store = support::small_store();
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

/// Values in some forty segments, of which the oldest are dropped and others deleted; snapshots of any moment.
#[test]
fn every_snapshot_is_answered_as_of_its_own_moment() {
    for seed in 0..support::runs(1, 4) {
        let mut random = Numbers::seeded(seed);
        let store = testing::in_memory(&support::options(), Sizes::SMALL).unwrap();
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

/// Ten segments of 2,048: filters of 3 KiB.
fn store_of_ten_segments() -> (DataPoolStore, Pool) {
    let sizes = Sizes { segment_slots: 2_048, chunk_slots: 256, ..Sizes::SMALL };
    // Room for no hot index.
    let store = testing::in_memory(&support::options().cache_size(64 << 10), sizes).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    for first in (0..20_000).step_by(500) {
        assert_eq!(support::track(&pool, &values(first..first + 500)), 500);
        if first == 10_000 {
            // Asked before all of its segments are there, a group must not be given up.
            pool.prune().unwrap();
            assert_eq!(found(&pool, 100).len(), 100);
        }
    }
    pool.prune().unwrap();
    (store, pool)
}

/// A group takes as much memory as its filters; these go with the next commit.
#[test]
fn filters_are_in_memory_once() {
    let (store, pool) = store_of_ten_segments();
    let memory = || store.stats().unwrap().index_memory;
    let filters = 2_048 * 16 / 8;
    let before = memory();
    for _ in 0..ROUNDS {
        assert!(found(&pool, 1_000).len() == 1_000 && !support::has(&pool, "nothing"));
    }
    // They were in memory since they were made; now eight of them are there twice.
    assert_eq!(memory(), before + 8 * filters);
    support::track(&pool, &["one more"]);
    assert!(memory() < before + filters, "{} instead of {before}", memory());
    assert!(found(&pool, 20_500) == (0..20_000).collect());
}

const MEMBERSHIP: TableDefinition<'_, (u64, u32, u32), &[u8]> = TableDefinition::new("membership");

/// One bit of a filter at a time, so that the sample mostly misses it: what a group has copied of it must not outlive the
/// rebuilding of the segment.
#[test]
fn a_filter_that_was_mended_is_copied_anew() {
    let mut mistaken = 0;
    for bit in (0..16 * 64_usize).step_by(31) {
        let place = Place::with_orders(700);
        place.open().pool(1).unwrap().prune().unwrap();
        place.damage(|txn| {
            let mut table = txn.open_table(MEMBERSHIP).unwrap();
            let mut block = table.get((1, 2, 1)).unwrap().unwrap().value().to_vec();
            block[bit / 8] &= !(1 << (bit % 8));
            table.insert((1, 2, 1), block.as_slice()).unwrap();
        });
        let store = place.open();
        let pool = store.pool(1).unwrap();
        let orders = support::numbered("A", 700);
        let there = || pool.contains_many(&keys(&orders)).unwrap().iter().filter(|there| **there).count();
        (0..ROUNDS).for_each(|_| assert!(there() > 600));
        mistaken += 700 - there();
        store.rebuild_indexes().unwrap();
        for _ in 0..ROUNDS {
            assert_eq!(there(), 700, "{bit}");
        }
    }
    assert!(mistaken > 0, "no group had copied the damage");
}

const FINGERPRINTS: TableDefinition<'_, u128, u32> = TableDefinition::new("fingerprints/1/2");

/// What the filter of all segments has copied of a segment must not outlive its rebuilding.
#[test]
fn a_segment_that_was_mended_is_asked_anew() {
    let place = Place::with_orders(2_000);
    place.open().pool(1).unwrap().prune().unwrap();
    place.damage(|txn| txn.open_table(FINGERPRINTS).unwrap().retain(|_, _| false).unwrap());
    let store = place.open();
    let pool = store.pool(1).unwrap();
    let orders = support::numbered("A", 2_000);
    let there = || pool.contains_many(&keys(&orders)).unwrap().iter().filter(|there| **there).count();
    (0..ROUNDS).for_each(|_| assert_eq!(there(), 2_000 - 64));
    store.rebuild_indexes().unwrap();
    (0..ROUNDS).for_each(|_| assert_eq!(there(), 2_000));
}
