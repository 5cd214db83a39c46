//! Any bytes as a JSON document. See `tests/json/payload.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| datapool_store_fuzz::run("json_payload", bytes));
