//! Proves what the store tells to a program that listens: commits, imports, folds, seals, prunes, and runs over the store.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::cell::RefCell;
use std::sync::Mutex;

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    DataPoolStore, ErrorKind, ImportOptions, Key, Mode, NewPool, Origin, Pool, RecordFilter, StoreOptions,
};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Keeps what is told on the threads that ask for it.
struct Listener;

thread_local! {
    static HEARD: Mutex<Option<Vec<(Level, String)>>> = const { Mutex::new(None) };
}

thread_local! {
    /// The store that the listener calls from within.
    static ASKED: RefCell<Option<DataPoolStore>> = const { RefCell::new(None) };
}

/// A logger should not call the store. If it does, reading works, and writing is refused.
fn ask(store: &DataPoolStore) {
    assert_eq!(store.stats().unwrap().pools, 1);
    assert_eq!(store.create_pool(NewPool::new("another")).unwrap_err().kind(), ErrorKind::Busy);
}

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "datapool_store"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            ASKED.with(|store| store.borrow().iter().for_each(ask));
            let told = (record.level(), record.args().to_string());
            HEARD.with(|heard| heard.lock().unwrap().iter_mut().for_each(|list| list.push(told.clone())));
        }
    }

    fn flush(&self) {}
}

/// A pool of a store in memory with tiny segments, so that a few records reach every path.
fn small_pool() -> (DataPoolStore, Pool) {
    let store = testing::in_memory(&StoreOptions::new(), Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    (store, pool)
}

fn track(pool: &Pool, value: &str) {
    let origin = Origin::new("shop", "run 1", "read orders");
    let verdicts = pool.dedupe(Mode::Track, &[value], |value| Key::new(37, *value), &origin).unwrap();
    assert_eq!(verdicts.new_count(), 1);
}

/// What is told meanwhile on this thread.
fn heard(work: impl FnOnce()) -> Vec<(Level, String)> {
    // Another test may have installed it.
    let _ = log::set_logger(&Listener);
    log::set_max_level(LevelFilter::Debug);
    HEARD.with(|heard| *heard.lock().unwrap() = Some(Vec::new()));
    work();
    HEARD.with(|heard| heard.lock().unwrap().take()).unwrap()
}

fn assert_told(heard: &[(Level, String)], level: Level, parts: &[&str]) {
    let told = heard.iter().any(|(at, text)| *at == level && parts.iter().all(|part| text.contains(part)));
    assert!(told, "{parts:?} at {level}: {heard:#?}");
}

#[test]
fn commits_folds_seals_imports_and_prunes_are_told_with_their_durations() {
    let told = heard(|| {
        let (store, pool) = small_pool();
        for number in 0..100 {
            track(&pool, &format!("A-{number}"));
        }
        pool.import_csv(&b"value,entity_type_id\nB-1,37\nB-2,37\n"[..], &ImportOptions::new()).unwrap();
        pool.delete_where(&RecordFilter::new().created_after("2000-01-01".parse().unwrap())).unwrap();
        pool.prune().unwrap();
        store.close().unwrap();
    });
    assert_told(&told, Level::Debug, &["opened", "took="]);
    assert_told(&told, Level::Debug, &["commit calls=1 pools=1 records=1", "took="]);
    assert_told(&told, Level::Debug, &["work pool=1 folds=1", "took="]);
    assert_told(&told, Level::Debug, &["seals=1", "took="]);
    assert_told(&told, Level::Debug, &["import pool=1 rows=2", "took="]);
    assert_told(&told, Level::Debug, &["segments_dropped=1"]);
    assert_told(&told, Level::Debug, &["closed"]);
    let commits = told.iter().filter(|(_, text)| text.starts_with("commit ")).count();
    assert_eq!(commits, 101, "each group once: the values, and the deletion");
}

#[test]
fn runs_over_the_store_are_told_and_findings_are_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let told = heard(|| {
        let (store, pool) = small_pool();
        track(&pool, "A-1");
        store.backup_to(directory.path().join("copy")).unwrap();
        store.compact().unwrap();
        assert!(store.verify().unwrap().ok);
    });
    assert_told(&told, Level::Debug, &["backup rows=", "bytes=", "took="]);
    assert_told(&told, Level::Debug, &["compacted before=", "after="]);
    assert_told(&told, Level::Debug, &["verified took="]);
    assert!(told.iter().all(|(level, _)| *level == Level::Debug));
}

#[test]
fn a_listener_that_calls_the_store_hangs_nobody() {
    let told = heard(|| {
        let (store, pool) = small_pool();
        ASKED.with(|asked| *asked.borrow_mut() = Some(store.clone()));
        for number in 0..100 {
            track(&pool, &format!("A-{number}"));
        }
        ASKED.with(|asked| *asked.borrow_mut() = None);
        track(&pool, "B-1");
    });
    assert_told(&told, Level::Debug, &["work pool=1 folds=1"]);
}
