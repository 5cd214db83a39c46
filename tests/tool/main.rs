//! The tests of the command-line tool. Each runs the program as its users do, in its own directory.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails so"
)]
#![allow(clippy::format_collect, reason = "clarity before speed")]

mod claims;
mod contains;
mod copy;
mod csv;
mod dedupe;
mod input;
mod manual;
mod opening;
mod pools;
mod records;
mod server;
mod stats;
mod support;
#[cfg(target_os = "linux")]
mod terminal;
mod upkeep;
mod usage;
