//! The stores that the operations run on: in memory, with a fixed hash key and a clock that stands, so that two runs do the
//! same. Their segments are small, so that 20,000 records reach sealed segments, filters and the tail.

use std::hint::black_box;

use datapool_store::testing::{self, Sizes};
use datapool_store::{Key, ManualClock, Mode, Origin, Pool, RecordFilter, RecordQuery, StoreOptions};

/// Segments of 4,096 records; folds of 1,024 in 4 slices.
const SIZES: Sizes = Sizes {
    segment_slots: 4_096,
    chunk_slots: 1_024,
    fold_entries: 1_024,
    fold_slices: 4,
    tails_max_entries: 65_536,
    early_seal_slots: 1_024,
};

/// How many records the pool has.
pub const RECORDS: u64 = 20_000;
/// How many items each operation is given.
pub const ITEMS: u64 = 1_000;

/// A value as it might be: its number, and what looks random.
#[must_use]
pub fn value(number: u64) -> String {
    let mixed =
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xd1b5_4a32_d192_ed03);
    format!("{mixed:016x}-{number}")
}

/// Values from a number on.
#[must_use]
pub fn values(first: u64) -> Vec<String> {
    (first..first + ITEMS).map(value).collect()
}

/// Values that are in the pool, from all of its segments.
#[must_use]
pub fn present() -> Vec<String> {
    (0..ITEMS).map(|number| value(number * (RECORDS / ITEMS))).collect()
}

/// The key of a value.
#[must_use]
pub fn key(value: &String) -> Key<'_> {
    Key::new(37, value)
}

/// A pool of [`RECORDS`] records by 20 runs of four flows.
#[must_use]
pub fn pool() -> Pool {
    pool_of(RECORDS)
}

/// A pool of so many records, by runs of [`ITEMS`].
///
/// # Panics
///
/// If the store fails: there is nothing to count then.
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
    // What is left to fold and to merge is done. Filters and rows are loaded by questions.
    pool.prune().expect("pruned");
    // redb puts the pages that a commit freed in order with the next ones: not with an operation's.
    for number in 0..2 {
        let verdicts = pool.dedupe(Mode::Track, &[format!("settled {number}")], key, &Origin::none());
        assert_eq!(verdicts.expect("a value").new_count(), 1);
    }
    assert!(values(RECORDS).iter().all(|value| !pool.contains(key(value)).expect("an answer")));
    assert!((0..records).all(|number| pool.contains(key(&value(number))).expect("an answer")));
    // What was freed until now the allocator puts in order with the next large allocation: not with an operation's.
    drop(black_box(Vec::<u8>::with_capacity(1 << 16)));
    pool
}

/// Three filters, a page from the middle.
#[must_use]
pub fn query() -> RecordQuery {
    let filter = RecordFilter::new().flow_id("flow 1").step_id("step 2").entity_type_id(37);
    RecordQuery::new().filter(filter).page(20).per_page(15)
}

/// A CSV file of [`ITEMS`] rows that are not in the pool.
#[must_use]
pub fn file() -> String {
    values(RECORDS).iter().fold("value,entity_type_id\n".to_owned(), |file, value| file + value + ",37\n")
}
