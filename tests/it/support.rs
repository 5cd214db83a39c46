//! What many tests need: stores to test, keys, clocks.

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    DataPoolStore, EntityTypeId, Key, ManualClock, Mode, Origin, Pool, StoreOptions, Timestamp,
};

pub const ORDERS: EntityTypeId = EntityTypeId::new(37);
pub const CUSTOMERS: EntityTypeId = EntityTypeId::new(47);

/// A clock that stands at the first second of 2013.
pub fn clock() -> ManualClock {
    ManualClock::starting_at(time("2013-01-01"))
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Options for tests: a fixed hash key, a small cache.
pub fn options() -> StoreOptions {
    StoreOptions::new().hash_key(*b"a key for tests.").cache_size(16 << 20)
}

/// A store in memory with tiny segments, so that a few records reach every path.
pub fn small_store() -> DataPoolStore {
    testing::in_memory(&options(), Sizes::SMALL).unwrap()
}

/// A pool of such a store.
pub fn small_pool() -> Pool {
    small_store().get_or_create_pool("orders").unwrap()
}

pub fn origin() -> Origin {
    Origin::new("shop", "run 1", "read orders")
}

/// Tracks values as orders; how many were new.
pub fn track<S: AsRef<str>>(pool: &Pool, values: &[S]) -> usize {
    let key = |value: &'_ S| Key::new(ORDERS, value.as_ref().to_owned());
    pool.dedupe(Mode::Track, values, key, &origin()).unwrap().new_count()
}

pub fn has(pool: &Pool, value: &str) -> bool {
    pool.contains(Key::new(ORDERS, value)).unwrap()
}
