//! The tests of JSON documents: which items pass, which parts stay unchanged, and what is refused.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails so"
)]

mod errors;
mod model;
mod modes;
mod payload;
mod sizes;

use datapool_store::{DataPoolStore, EntityTypeId, Pool, RecordFilter};

const ORDERS: EntityTypeId = EntityTypeId::new(37);

/// Creates an empty pool in memory.
fn pool() -> Pool {
    DataPoolStore::in_memory().unwrap().get_or_create_pool("orders").unwrap()
}

/// Returns the values of a pool, oldest first.
fn values(pool: &Pool) -> Vec<String> {
    pool.scan(&RecordFilter::new()).unwrap().map(|record| record.unwrap().value).collect()
}
