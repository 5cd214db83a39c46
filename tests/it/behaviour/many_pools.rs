//! Proves that many pools with few records each work like a single pool: correctly and in bounded memory.

use std::collections::BTreeMap;

use datapool_store::testing::Sizes;
use datapool_store::{Pool, RecordFilter};

use crate::support::{self, Numbers, Place};

const POOLS: u64 = 300;
/// All tails together hold 64 records; beyond that, the longest ones are folded. Slices of folds have their
/// default size.
const SIZES: Sizes = Sizes { fold_entries: 4_096, fold_slices: 64, ..Sizes::SMALL };
/// The limit on records in active tails.
const LIMIT: u64 = SIZES.tails_max_entries as u64;

fn unfolded(pools: &[Pool]) -> u64 {
    pools.iter().map(|pool| pool.stats().unwrap().unfolded).sum()
}

#[test]
fn unfolded_records_stay_bounded_however_many_pools_there_are() {
    let place = Place::new();
    let mut random = Numbers::seeded(5);
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    for opened in 0..3 {
        let store = support::embedded::open(&place.path, &support::options(), SIZES).unwrap();
        let pools: Vec<Pool> =
            (0..POOLS).map(|number| store.get_or_create_pool(format!("pool {number}")).unwrap()).collect();
        for step in 0..900 {
            let number = random.next(POOLS);
            let count = 1 + random.next(4);
            let tracked = model.entry(number).or_default();
            let values: Vec<String> = (*tracked..*tracked + count).map(|value| format!("v{value}")).collect();
            *tracked += count;
            assert_eq!(support::track(&pools[number as usize], &values), values.len());
            if step % 100 == 99 {
                let unfolded = unfolded(&pools);
                // As many again may wait in frozen tails for their turn.
                assert!(unfolded <= 2 * LIMIT, "{unfolded} after {step} steps, opened {opened} times");
            }
        }
        for (number, tracked) in &model {
            let pool = &pools[*number as usize];
            assert_eq!(pool.count(&RecordFilter::new()).unwrap(), *tracked);
            assert!((0..*tracked).all(|value| support::has(pool, &format!("v{value}"))), "pool {number}");
        }
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

/// Sixteen threads share commits, each of which adds records to many pools.
#[test]
fn commits_that_many_pools_share_fold_as_much_as_they_bring() {
    let store = support::embedded::in_memory(&support::options(), SIZES).unwrap();
    let pools: Vec<Pool> =
        (0..POOLS).map(|number| store.get_or_create_pool(format!("pool {number}")).unwrap()).collect();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let pools = &pools;
            scope.spawn(move || {
                let mut random = Numbers::seeded(thread);
                for step in 0..200 {
                    let pool = &pools[random.next(POOLS) as usize];
                    assert_eq!(support::track(pool, &[format!("{thread}-{step}")]), 1);
                }
            });
        }
    });
    let unfolded = unfolded(&pools);
    // A turn has a minimum cost even for a short tail, so more tails of one record may wait.
    assert!(unfolded <= LIMIT + 2 * POOLS, "{unfolded}");
    let live: u64 = pools.iter().map(|pool| pool.count(&RecordFilter::new()).unwrap()).sum();
    assert_eq!(live, 16 * 200);
    assert_eq!(store.verify().unwrap().findings, []);
}
