//! Any bytes as a CSV file. See `tests/it/fuzzing/import_csv.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| datapool_store_fuzz::run("import_csv", bytes));
