//! Any text as a claim token. See `tests/it/fuzzing/claim_token.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| datapool_store_fuzz::run("claim_token", bytes));
