//! The store's tests, in one binary: a folder per kind, a module per subject.
//!
//! They test the behaviour that users can rely on. The store comes from a single place ([`support`]), so that
//! another engine with the same API can be tested with them.

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

mod behaviour;
mod concurrency;
mod crash;
mod format;
mod fuzzing;
mod house;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
mod support;
mod workload;
