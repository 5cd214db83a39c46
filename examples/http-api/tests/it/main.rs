//! Tests the nine endpoints over loopback.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails so")]

mod api;
mod clients;
mod openapi;
#[cfg(unix)]
mod stop;
mod support;
