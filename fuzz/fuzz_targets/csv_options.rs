//! Any options of a CSV import, and any cells. See `tests/it/fuzzing/csv_options.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| datapool_store_fuzz::run("csv_options", bytes));
