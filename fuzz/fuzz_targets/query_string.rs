//! Any text as a query string. See `tests/it/fuzzing/query_string.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| datapool_store_fuzz::run("query_string", bytes));
