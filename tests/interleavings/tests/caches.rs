//! What is kept of the tables of fingerprints.

use std::sync::Arc;

use datapool_store::testing::Sizes;
use datapool_store::testing::scheduled::{self, Kept};
use datapool_store::{DataPoolStore, Pool};
use datapool_store_interleavings::{contains, explore, options, together, track};

/// Creates a store with a cache of this size, and a pool with two tables, of which nothing is in memory.
fn folded(cache: usize) -> (DataPoolStore, Pool, scheduled::Caches) {
    let (store, caches) = scheduled::in_memory(&options().0.cache_size(cache), Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    for first in (0..40).step_by(8) {
        track(&pool, &(first..first + 8).collect::<Vec<_>>()).unwrap();
    }
    store.reopen().unwrap();
    let kept = caches.of(pool.id()).unwrap();
    assert!(kept.tables > 0 && kept.cached == 0, "{kept:?}");
    (store, pool, caches)
}

fn check(caches: &scheduled::Caches, pool: &Pool) -> Kept {
    let kept = caches.of(pool.id()).unwrap();
    assert_eq!((kept.counted, kept.budgeted), (kept.cached, kept.cached), "{kept:?}");
    kept
}

#[test]
fn what_several_readers_load_at_once_is_kept_and_counted_once() {
    explore("caches: counted once", || {
        let (_store, pool, caches) = folded(1 << 20);
        together(3, &Arc::new(pool.clone()), |thread, pool: &Pool| {
            let found = contains(pool, &[thread, 5, 39, 100 + thread]).unwrap();
            assert_eq!(found, [true, true, true, false]);
        });
        assert!(check(&caches, &pool).cached > 0);
    });
}

#[test]
fn what_is_kept_is_given_back_when_a_merge_or_the_end_of_the_pool_drops_its_table() {
    explore("caches: given back", || {
        let (store, pool, caches) = folded(1 << 20);
        let other = store.get_or_create_pool("others").unwrap();
        together(2, &Arc::new(pool.clone()), |thread, pool: &Pool| match thread {
            0 => (40..64).step_by(8).for_each(|first| {
                let new = track(pool, &(first..first + 8).collect::<Vec<_>>()).unwrap();
                assert_eq!(new, [true; 8]);
            }),
            _ => (0..4).for_each(|first| assert_eq!(contains(pool, &[first, 20]).unwrap(), [true, true])),
        });
        check(&caches, &pool);
        store.delete_pool(pool.id()).unwrap();
        contains(&other, &[1]).unwrap();
        assert_eq!(check(&caches, &other).cached, 0);
    });
}

#[test]
fn without_room_for_rows_nothing_is_kept_of_them_and_all_answers_are_right() {
    explore("caches: no room", || {
        let (_store, pool, caches) = folded(0);
        let before = check(&caches, &pool).cached;
        together(3, &Arc::new(pool.clone()), |thread, pool: &Pool| {
            assert_eq!(contains(pool, &[thread, 39, 100]).unwrap(), [true, true, false]);
        });
        let after = check(&caches, &pool);
        assert!(after.cached >= before && after.cached < 4_096, "{after:?}");
    });
}
