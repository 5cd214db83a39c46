//! The store's tests, in one binary: a module per subject.
//!
//! They hold the behaviour that users can rely on, and take the store from one place ([`support`]), so that
//! another engine behind the same API can be held to them.

#![allow(missing_docs, reason = "tests are named as sentences")]

mod bad_input;
mod concurrency;
mod csv;
mod dedupe;
mod durability;
mod engine_cases;
mod faults;
mod house;
mod listing;
mod model;
mod planner;
mod pools;
mod support;
