//! Any bytes as rows of a file with correct checksums. See `tests/it/fuzzing/rows.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(init: datapool_store_fuzz::let_contained_panics_pass(), |bytes: &[u8]| datapool_store_fuzz::run("rows", bytes));
