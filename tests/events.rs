//! Proves which events a subscriber receives: commits, imports, folds, seals, prunes, and operations on the
//! whole store.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    DataPoolStore, ErrorKind, ImportOptions, Key, Mode, NewPool, Origin, Pool, RecordFilter, StoreOptions,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Records events as `log` would print them: the message, then each field with its value.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<(Level, String)>>>);

thread_local! {
    /// The store that the listener calls while it handles an event.
    static ASKED: RefCell<Option<DataPoolStore>> = const { RefCell::new(None) };
}

/// Calls the store, which a subscriber should not do. Reading must work, and writing must be refused.
fn ask(store: &DataPoolStore) {
    assert_eq!(store.stats().unwrap().pools, 1);
    assert_eq!(store.create_pool(NewPool::new("another")).unwrap_err().kind(), ErrorKind::Busy);
}

/// The text of an event. The message is the first field, so it comes first.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => write!(self.message, "{value:?}").unwrap(),
            name => write!(self.fields, " {name}={value:?}").unwrap(),
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "datapool_store"
    }

    fn event(&self, event: &Event<'_>) {
        ASKED.with(|store| store.borrow().iter().for_each(ask));
        let mut text = Text::default();
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.message + &text.fields));
    }

    // The store creates no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Creates a pool in memory with tiny segments, so that a few records reach every path.
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

/// Runs some work. Returns the events that this thread emitted.
fn heard(work: impl FnOnce()) -> Vec<(Level, String)> {
    let listener = Listener::default();
    tracing::subscriber::with_default(listener.clone(), work);
    listener.0.lock().unwrap().clone()
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
    assert_told(&told, Level::DEBUG, &["opened", "took="]);
    assert_told(&told, Level::DEBUG, &["commit calls=1 pools=1 records=1", "took="]);
    assert_told(&told, Level::DEBUG, &["work pool=1 folds=1", "took="]);
    assert_told(&told, Level::DEBUG, &["seals=1", "took="]);
    assert_told(&told, Level::DEBUG, &["import pool=1 rows=2", "took="]);
    assert_told(&told, Level::DEBUG, &["segments_dropped=1"]);
    assert_told(&told, Level::DEBUG, &["closed"]);
    let commits = told.iter().filter(|(_, text)| text.starts_with("commit ")).count();
    assert_eq!(commits, 101, "one commit per value, and one for the deletion");
    let nothing = "folds=0 seals=0 segments_dropped=0 records_removed=0 claims_swept=0";
    assert!(!told.iter().any(|(_, text)| text.contains(nothing)), "{told:#?}");
}

#[test]
fn runs_over_the_store_are_told_and_findings_are_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let told = heard(|| {
        let (store, pool) = small_pool();
        track(&pool, "A-1");
        store.backup_to(directory.path().join("copy")).unwrap();
        store.compact().unwrap();
        store.vacuum().unwrap();
        assert!(store.verify().unwrap().ok);
    });
    assert_told(&told, Level::DEBUG, &["backup rows=", "bytes=", "took="]);
    assert_told(&told, Level::DEBUG, &["compacted before=", "after="]);
    assert_told(&told, Level::DEBUG, &["vacuumed records=1 before=", "after=", "took="]);
    assert_told(&told, Level::DEBUG, &["verified took="]);
    assert!(told.iter().all(|(level, _)| *level == Level::DEBUG));
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
    assert_told(&told, Level::DEBUG, &["work pool=1 folds=1"]);
}
