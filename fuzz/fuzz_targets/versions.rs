//! Any operations on versioned keys. See `tests/it/fuzzing/versions.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| datapool_store_fuzz::run("versions", bytes));
