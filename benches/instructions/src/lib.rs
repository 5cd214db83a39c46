//! The stores on which the operations run. They are in memory, with a fixed hash key and a stopped clock, so
//! that two runs do the same work. Their segments are small, so that 20,000 records reach sealed segments,
//! filters and the tail.

use std::hint::black_box;

use datapool_store::testing::{self, Sizes};
use datapool_store::{Key, ManualClock, Mode, Origin, Pool, RecordFilter, RecordQuery, StoreOptions};

/// Segments of 4,096 records; folds of 1,024 records in 4 slices.
const SIZES: Sizes = Sizes {
    segment_slots: 4_096,
    chunk_slots: 1_024,
    fold_entries: 1_024,
    fold_slices: 4,
    tails_max_entries: 65_536,
    early_seal_slots: 1_024,
};

/// The number of records in the pool.
pub const RECORDS: u64 = 20_000;
/// The number of items given to each operation.
pub const ITEMS: u64 = 1_000;

/// Returns a realistic value: a hash-like prefix and the number.
#[must_use]
pub fn value(number: u64) -> String {
    let mixed =
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xd1b5_4a32_d192_ed03);
    format!("{mixed:016x}-{number}")
}

/// Returns [`ITEMS`] consecutive values.
#[must_use]
pub fn values(first: u64) -> Vec<String> {
    (first..first + ITEMS).map(value).collect()
}

/// Returns values that are in the pool, from all of its segments.
#[must_use]
pub fn present() -> Vec<String> {
    (0..ITEMS).map(|number| value(number * (RECORDS / ITEMS))).collect()
}

/// Returns the key of a value.
#[must_use]
pub fn key(value: &String) -> Key<'_> {
    Key::new(37, value)
}

/// Creates a pool of [`RECORDS`] records, tracked by 20 runs of four flows.
#[must_use]
pub fn pool() -> Pool {
    pool_of(RECORDS)
}

/// Creates a pool with this number of records, tracked by runs of [`ITEMS`].
///
/// # Panics
///
/// Panics if the store fails, because then there is nothing to count.
#[must_use]
pub fn pool_of(records: u64) -> Pool {
    let clock = ManualClock::starting_at("2013-01-01".parse().expect("a time"));
    let options = StoreOptions::new().hash_key([7; 16]).clock(clock);
    let store = testing::in_memory(&options, SIZES).expect("a store in memory");
    let pool = store.get_or_create_pool("orders").expect("a pool");
    for run in 0..records / ITEMS {
        let origin = Origin::new(
            format!("flow {}", run % 4).as_str(),
            format!("run {run}").as_str(),
            format!("step {}", run % 3).as_str(),
        );
        let batch = values(run * ITEMS);
        let verdicts = pool.dedupe(Mode::Track, &batch, key, &origin).expect("a batch");
        assert_eq!(verdicts.new_count(), batch.len());
    }
    // Finish folding and merging. The lookups below load filters and rows.
    pool.prune().expect("pruned");
    // redb processes the freed pages of a commit in the next commits. These commits keep that cost out of the
    // measured operation.
    for number in 0..2 {
        let verdicts = pool.dedupe(Mode::Track, &[format!("settled {number}")], key, &Origin::none());
        assert_eq!(verdicts.expect("a value").new_count(), 1);
    }
    assert!(values(RECORDS).iter().all(|value| !pool.contains(key(value)).expect("an answer")));
    assert!((0..records).all(|number| pool.contains(key(&value(number))).expect("an answer")));
    // The allocator tidies up freed memory at the next large allocation. This one keeps that cost out of the
    // measured operation.
    drop(black_box(Vec::<u8>::with_capacity(1 << 16)));
    pool
}

/// Returns a query with three filters for a page from the middle.
#[must_use]
pub fn query() -> RecordQuery {
    let filter = RecordFilter::new().flow_id("flow 1").step_id("step 2").entity_type_id(37);
    RecordQuery::new().filter(filter).page(20).per_page(15)
}

/// Returns a CSV file of [`ITEMS`] rows that are not in the pool.
#[must_use]
pub fn file() -> String {
    values(RECORDS).iter().fold("value,entity_type_id\n".to_owned(), |file, value| file + value + ",37\n")
}
