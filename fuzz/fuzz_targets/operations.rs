//! Any row of operations on a disk that fails. See `tests/it/fuzzing/operations.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| datapool_store_fuzz::run("operations", bytes));
