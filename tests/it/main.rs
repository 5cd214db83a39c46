//! The store's tests, in one binary: a module per subject.
//!
//! They hold the behaviour that users can rely on, and take the store from one place ([`support`]), so that
//! another engine behind the same API can be held to them.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails so"
)]
#![allow(
    clippy::format_collect,
    clippy::option_option,
    clippy::large_enum_variant,
    reason = "clarity before speed"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]

mod backup;
mod bad_input;
mod claims;
mod concurrency;
mod csv;
mod csv_files;
mod csv_times;
mod damage;
mod dedupe;
mod disk;
mod durability;
mod endurance;
mod engine_cases;
mod every_fault;
mod explain;
mod export;
mod faults;
mod filters;
mod format;
mod full_disk;
mod fuzzing;
mod held_snapshots;
mod histories;
mod hot_index;
mod house;
mod ids;
mod lifecycle;
mod listing;
mod many_pools;
mod model;
mod opening;
mod operations;
mod pages;
mod planner;
mod pool_time;
mod pools;
mod power;
mod query_strings;
mod reentrancy;
mod registry;
mod retention;
mod runs;
mod soak;
mod stats;
mod support;
mod timestamps;
mod under_load;
mod verify;
mod workload;
