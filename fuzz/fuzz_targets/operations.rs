//! Any sequence of operations on a failing disk. See `tests/it/fuzzing/operations.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| datapool_store_fuzz::run("operations", bytes));
