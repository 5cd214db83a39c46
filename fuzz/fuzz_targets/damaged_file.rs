//! A store file with changed bytes. See `tests/it/fuzzing/damaged_file.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(init: datapool_store_fuzz::let_contained_panics_pass(), |bytes: &[u8]| datapool_store_fuzz::run("damaged_file", bytes));
