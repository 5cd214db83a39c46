//! Proves that bad input results in an error of the right kind with the position of the problem, and that the
//! store (or the file that was to be opened) is unchanged afterwards.
//!
//! Next to each refused input is the nearest accepted one: limits are exact, and nothing that the
//! specification allows is refused.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use datapool_store::testing::Sizes;
use datapool_store::{
    Access, DataPool, DataPoolStore, Error, ErrorKind, ExportOptions, IfMissing, ImportOptions, Key, Mode,
    NewPool, OnBadRow, OnDuplicate, Origin, Pool, PoolQuery, PoolUpdate, Record, RecordFilter, RecordQuery,
    Result, StoreOptions, Timestamp, limits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{self, Need, ORDERS};

/// Returns everything that a store shows.
fn contents(store: &DataPoolStore) -> Vec<(DataPool, Vec<Record>)> {
    let pools = store.pools(&PoolQuery::new().per_page(100)).unwrap().data;
    let records = |pool: &DataPool| support::records(&store.pool(pool.id).unwrap());
    pools.into_iter().map(|pool| (pool.clone(), records(&pool))).collect()
}

/// A store with some contents.
struct Fixture {
    store: DataPoolStore,
    pool: Pool,
}

impl Fixture {
    fn new() -> Self {
        let store = support::store_for(Need::Any);
        let pool = store.create_pool(NewPool::new("orders").description("seen orders")).unwrap();
        store.create_pool(NewPool::new("customers")).unwrap();
        let values: Vec<String> = (0..100).map(|number| format!("A-{number}")).collect();
        support::track(&pool, &values);
        Self { store, pool }
    }

    /// Makes a call that must fail and change nothing. Returns its error.
    fn refused<T: Debug>(&self, call: impl FnOnce(&Pool) -> Result<T>) -> Error {
        let before = contents(&self.store);
        let error = call(&self.pool).unwrap_err();
        assert_eq!(contents(&self.store), before, "after: {error}");
        error
    }

    /// Like [`Self::refused`], for a call that must fail with this kind of error.
    fn refuses<T: Debug>(&self, kind: ErrorKind, call: impl FnOnce(&Pool) -> Result<T>) -> Error {
        let error = self.refused(call);
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!((kind.is_caller_error(), kind.is_retryable()), (kind != ErrorKind::Io, false), "{kind:?}");
        error
    }
}

/// Returns the results of every call that takes a batch of keys.
fn batch_calls(pool: &Pool, values: &[&str]) -> Vec<Result<()>> {
    let keys: Vec<Key<'_>> = values.iter().map(|value| Key::new(ORDERS, *value)).collect();
    let key = |value: &&'static str| Key::new(ORDERS, *value);
    let leaked: Vec<&'static str> = values.iter().map(|value| &*String::leak((*value).to_owned())).collect();
    let leaked: &'static [&'static str] = Vec::leak(leaked);
    let origin = support::origin();
    let mut results: Vec<Result<()>> = [Mode::Filter, Mode::Track, Mode::FilterAndTrack]
        .into_iter()
        .flat_map(|mode| {
            [
                pool.dedupe(mode, leaked, key, &origin).map(drop),
                pool.dedupe_with_first(mode, leaked, key, &origin).map(drop),
            ]
        })
        .collect();
    results.push(pool.contains_many(&keys).map(drop));
    results.push(pool.lookup(&keys).map(drop));
    results.push(pool.delete_keys(&keys).map(drop));
    results
}

#[test]
fn a_bad_value_fails_every_batch_call_with_its_index_and_changes_nothing() {
    let fixture = Fixture::new();
    let long = "x".repeat(limits::VALUE_MAX_BYTES + 1);
    let long_by_bytes = "ü".repeat(limits::VALUE_MAX_BYTES / 2) + "x";
    for (bad, kind, size) in [
        ("", ErrorKind::InvalidArgument, "4096"),
        (long.as_str(), ErrorKind::LimitExceeded, "4097"),
        (long_by_bytes.as_str(), ErrorKind::LimitExceeded, "4097"),
    ] {
        for index in [0, 1, 4] {
            let mut values = vec!["A-1", "new 1", "new 2", "A-2", "new 3"];
            values[index] = bad;
            let before = contents(&fixture.store);
            for result in batch_calls(&fixture.pool, &values) {
                let error = result.unwrap_err();
                assert_eq!((error.kind(), error.item()), (kind, Some(index)), "{error}");
                assert!(error.to_string().contains(size), "{error}");
                assert!(error.to_string().len() < 300, "an error of {} bytes", error.to_string().len());
                assert_eq!(contents(&fixture.store), before, "after: {error}");
            }
        }
        fixture.refuses(kind, |pool| pool.contains(Key::new(ORDERS, bad)));
    }
}

#[test]
fn the_first_of_several_bad_values_is_named() {
    let fixture = Fixture::new();
    let long = "x".repeat(5_000);
    for result in batch_calls(&fixture.pool, &["A-1", "fine", "", &long]) {
        assert_eq!(result.unwrap_err().item(), Some(2));
    }
}

#[test]
fn values_of_one_byte_and_of_the_limit_are_tracked() {
    let pool = support::pool_for(Need::Any);
    let values =
        ["x".to_owned(), "y".repeat(limits::VALUE_MAX_BYTES), "ü".repeat(limits::VALUE_MAX_BYTES / 2)];
    assert_eq!(support::track(&pool, &values), 3);
    assert_eq!(support::values(&pool), values);
}

#[test]
fn an_over_long_or_empty_origin_is_refused() {
    let fixture = Fixture::new();
    let long = "x".repeat(limits::ID_MAX_BYTES + 1);
    for (id, kind) in [("", ErrorKind::InvalidArgument), (long.as_str(), ErrorKind::LimitExceeded)] {
        for origin in [
            Origin::none().with_flow(id),
            Origin::none().with_run(id),
            Origin::none().with_step(id),
            Origin::new("shop", id, "read"),
        ] {
            for mode in [Mode::Filter, Mode::Track, Mode::FilterAndTrack] {
                fixture.refuses(kind, |pool| {
                    pool.dedupe(mode, &["new"], |value| Key::new(ORDERS, *value), &origin)
                });
            }
        }
    }
    let longest = "x".repeat(limits::ID_MAX_BYTES);
    let origin = Origin::new(longest.as_str(), longest.as_str(), longest.as_str());
    let verdicts =
        fixture.pool.dedupe(Mode::Track, &["new"], |value| Key::new(ORDERS, *value), &origin).unwrap();
    assert_eq!(verdicts.new_count(), 1);
    let count = |filter| fixture.pool.count(&filter).unwrap();
    assert_eq!(count(RecordFilter::new().flow_id(longest.as_str()).step_id(longest.as_str())), 1);
}

#[test]
fn a_batch_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let fixture = Fixture::new();
    let over = limits::BATCH_MAX_ITEMS + 1;
    let items = vec![(); over];
    let error = fixture.refuses(ErrorKind::LimitExceeded, |pool| {
        pool.dedupe(Mode::Track, &items, |()| Key::new(ORDERS, "new"), &Origin::none())
    });
    assert!(error.to_string().contains("1048577") && error.to_string().contains("1048576"), "{error}");
    let keys = vec![Key::new(ORDERS, "A-1"); over];
    fixture.refuses(ErrorKind::LimitExceeded, |pool| pool.contains_many(&keys));
    fixture.refuses(ErrorKind::LimitExceeded, |pool| pool.lookup(&keys));
    fixture.refuses(ErrorKind::LimitExceeded, |pool| pool.delete_keys(&keys));
    let ids = vec![1; over];
    fixture.refuses(ErrorKind::LimitExceeded, |pool| pool.delete_records(ids.iter().copied()));
    let most = &items[1..];
    let verdicts =
        fixture.pool.dedupe(Mode::Filter, most, |()| Key::new(ORDERS, "new"), &Origin::none()).unwrap();
    assert_eq!((verdicts.len(), verdicts.new_count()), (limits::BATCH_MAX_ITEMS, 1));
}

#[test]
fn an_empty_batch_is_no_error() {
    let fixture = Fixture::new();
    let before = contents(&fixture.store);
    for result in batch_calls(&fixture.pool, &[]) {
        result.unwrap();
    }
    assert_eq!(fixture.pool.delete_records([0_u64; 0]).unwrap(), 0);
    assert_eq!(contents(&fixture.store), before);
}

#[test]
fn pool_names_have_3_to_100_characters_of_any_width() {
    let fixture = Fixture::new();
    let id = fixture.pool.id();
    for name in ["", "a", "ab", "üü", "𝄞𝄞", &"a".repeat(101), &"ü".repeat(101), &"a".repeat(100_000)]
    {
        let create =
            fixture.refuses(ErrorKind::LimitExceeded, |_| fixture.store.create_pool(NewPool::new(name)));
        let get = fixture.refuses(ErrorKind::LimitExceeded, |_| fixture.store.get_or_create_pool(name));
        let update = fixture.refuses(ErrorKind::LimitExceeded, |_| {
            fixture.store.update_pool(id, PoolUpdate::new().name(name))
        });
        for error in [create, get, update] {
            let text = error.to_string();
            let length = name.chars().count().to_string();
            assert!(text.contains(&length) && text.contains('3') && text.contains("100"), "{text}");
            assert!(text.len() < 1_000, "an error of {} bytes", text.len());
        }
    }
    for name in ["abc", "üüü", "𝄞𝄞𝄞", "   ", &"a".repeat(100), &"𝄞".repeat(100)] {
        let pool = fixture.store.create_pool(NewPool::new(name)).unwrap();
        assert_eq!(pool.info().unwrap().name, name);
        assert_eq!(fixture.store.pool_named(name).unwrap().id(), pool.id());
    }
}

#[test]
fn pool_descriptions_have_at_most_255_characters_of_any_width() {
    let fixture = Fixture::new();
    let id = fixture.pool.id();
    for text in ["a".repeat(256), "ü".repeat(256)] {
        let new = NewPool::new("another").description(text.as_str());
        let create = fixture.refuses(ErrorKind::LimitExceeded, |_| fixture.store.create_pool(new));
        let update = PoolUpdate::new().name("renamed").description(text.as_str());
        let update = fixture.refuses(ErrorKind::LimitExceeded, |_| fixture.store.update_pool(id, update));
        for error in [create, update] {
            assert!(error.to_string().contains("256") && error.to_string().contains("255"), "{error}");
        }
    }
    for text in [String::new(), "a".repeat(255), "𝄞".repeat(255)] {
        let updated = fixture.store.update_pool(id, PoolUpdate::new().description(text.as_str())).unwrap();
        assert_eq!(updated.description.as_deref(), Some(text.as_str()));
    }
}

#[test]
fn a_taken_name_is_refused() {
    let fixture = Fixture::new();
    let error =
        fixture.refuses(ErrorKind::AlreadyExists, |_| fixture.store.create_pool(NewPool::new("customers")));
    assert!(error.to_string().contains("\"customers\""), "{error}");
    let rename = PoolUpdate::new().name("customers");
    fixture.refuses(ErrorKind::AlreadyExists, |pool| fixture.store.update_pool(pool.id(), rename));
}

#[test]
fn unknown_pools_are_not_found() {
    let fixture = Fixture::new();
    for id in [0, 3, u64::MAX] {
        let store = &fixture.store;
        for error in [
            fixture.refuses(ErrorKind::NotFound, |_| store.pool(id)),
            fixture.refuses(ErrorKind::NotFound, |_| store.find_pool(id, &PoolQuery::new())),
            fixture
                .refuses(ErrorKind::NotFound, |_| store.update_pool(id, PoolUpdate::new().name("renamed"))),
            fixture.refuses(ErrorKind::NotFound, |_| store.delete_pool(id)),
        ] {
            assert!(error.to_string().contains(&id.to_string()), "{error}");
        }
    }
    for name in ["", "unknown", "ORDERS", "orders "] {
        let error = fixture.refuses(ErrorKind::NotFound, |_| fixture.store.pool_named(name));
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
}

#[test]
fn unknown_record_ids_count_nothing_and_are_no_error() {
    let fixture = Fixture::new();
    let before = contents(&fixture.store);
    assert_eq!(fixture.pool.delete_records([0, 101, u64::MAX]).unwrap(), 0);
    assert_eq!(fixture.pool.delete_keys(&[Key::new(ORDERS, "unknown"), Key::new(99, "A-1")]).unwrap(), 0);
    assert_eq!(contents(&fixture.store), before);
    assert_eq!(fixture.pool.delete_records([0, 7, 7, 101]).unwrap(), 1);
}

#[test]
fn every_call_on_a_deleted_pool_answers_not_found() {
    let fixture = Fixture::new();
    let (store, deleted) = (&fixture.store, fixture.store.create_pool(NewPool::new("short-lived")).unwrap());
    support::track(&deleted, &["A-1"]);
    store.delete_pool(deleted.id()).unwrap();
    let before = contents(store);
    let key = Key::new(ORDERS, "A-1");
    let keys = [key.clone()];
    let (none, all) = (Origin::none(), RecordFilter::new());
    let dedupe = |mode| deleted.dedupe(mode, &["A-1"], |value| Key::new(ORDERS, *value), &none).map(drop);
    let file = "value,entity_type_id\nA-1,37\n";
    let results: Vec<Result<()>> = vec![
        deleted.info().map(drop),
        deleted.contains(key).map(drop),
        deleted.contains_many(&keys).map(drop),
        deleted.lookup(&keys).map(drop),
        dedupe(Mode::Filter),
        dedupe(Mode::Track),
        dedupe(Mode::FilterAndTrack),
        deleted.records(&RecordQuery::new()).map(drop),
        deleted.count(&all).map(drop),
        deleted.scan(&all).map(drop),
        deleted.snapshot().map(drop),
        deleted.delete_records([1]).map(drop),
        deleted.delete_keys(&keys).map(drop),
        deleted.delete_where(&all).map(drop),
        deleted.clear().map(drop),
        deleted.import_csv(file.as_bytes(), &ImportOptions::new()).map(drop),
        deleted.export_csv(Vec::new(), &ExportOptions::new()).map(drop),
        store.delete_pool(deleted.id()),
    ];
    for (number, result) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound, "call {number}");
    }
    assert_eq!(contents(store), before);
}

#[test]
fn pages_count_from_1_and_have_1_to_100_items() {
    let fixture = Fixture::new();
    let (store, pool) = (&fixture.store, &fixture.pool);
    for per_page in [0, 101, u32::MAX] {
        let error = fixture
            .refuses(ErrorKind::InvalidQuery, |pool| pool.records(&RecordQuery::new().per_page(per_page)));
        assert!(error.to_string().contains("per_page") && error.to_string().contains("100"), "{error}");
        let query = PoolQuery::new().per_page(per_page);
        fixture.refuses(ErrorKind::InvalidQuery, |_| store.pools(&query));
        fixture.refuses(ErrorKind::InvalidQuery, |pool| store.find_pool(pool.id(), &query));
    }
    let error = fixture.refuses(ErrorKind::InvalidQuery, |pool| pool.records(&RecordQuery::new().page(0)));
    assert!(error.to_string().contains("page"), "{error}");
    fixture.refuses(ErrorKind::InvalidQuery, |_| store.pools(&PoolQuery::new().page(0)));
    fixture.refuses(ErrorKind::InvalidQuery, |pool| store.find_pool(pool.id(), &PoolQuery::new().page(0)));
    fixture.refuses(ErrorKind::InvalidQuery, |pool| pool.snapshot()?.records(&RecordQuery::new().page(0)));
    let cursor = pool.records(&RecordQuery::new()).unwrap().next_cursor.unwrap();
    fixture.refuses(ErrorKind::InvalidQuery, |pool| pool.records(&RecordQuery::new().cursor(cursor).page(2)));
    assert_eq!(pool.records(&RecordQuery::new().per_page(100)).unwrap().data.len(), 100);
    assert_eq!(pool.records(&RecordQuery::new().per_page(1)).unwrap().data.len(), 1);
}

#[test]
fn a_bad_term_of_a_filter_is_named_by_its_parameter() {
    let fixture = Fixture::new();
    let long_id = "x".repeat(65);
    let many = || 0..1_001_u64;
    let new = RecordFilter::new;
    for (parameter, filter) in [
        ("filter[flow_id]", new().flow_id("")),
        ("filter[flow_id]", new().flow_id(long_id.as_str())),
        ("filter[flow_run_id]", new().flow_run_id(long_id.as_str())),
        ("filter[step_id]", new().step_id("fine").step_id("")),
        ("filter[value]", new().value("")),
        ("filter[value]", new().value("x".repeat(4_097))),
        ("filter[flow_id]", many().fold(new(), RecordFilter::flow_id)),
        ("filter[flow_run_id]", many().fold(new(), RecordFilter::flow_run_id)),
        ("filter[step_id]", many().fold(new(), RecordFilter::step_id)),
        ("filter[entity_type_id]", (0..1_001_u32).fold(new(), RecordFilter::entity_type_id)),
        ("filter[value]", many().fold(new(), |filter, id| filter.value(id.to_string()))),
    ] {
        let query = RecordQuery::new().filter(filter.clone());
        for error in [
            fixture.refuses(ErrorKind::InvalidQuery, |pool| pool.records(&query)),
            fixture.refuses(ErrorKind::InvalidQuery, |pool| pool.count(&filter)),
            fixture.refuses(ErrorKind::InvalidQuery, |pool| pool.scan(&filter)),
            fixture.refuses(ErrorKind::InvalidQuery, |pool| pool.delete_where(&filter)),
        ] {
            assert!(error.to_string().contains(parameter), "{error}");
        }
    }
    let most = (0..1_000_u64).fold(new(), |filter, id| filter.value(format!("A-{id}")));
    assert_eq!(fixture.pool.count(&most).unwrap(), 100);
}

#[test]
fn what_is_no_timestamp_is_refused() {
    for text in [
        "",
        "now",
        "2013",
        "2013-1-1",
        "2013-02-30",
        "2013-13-01",
        "2013-01-01T",
        "2013-01-01 10",
        "2013-01-01 25:00:00",
        "2013-01-01 10:00:00 Berlin",
        "2013-01-01T10:00:00[Europe/Berlin]",
        "2013-W01-1",
        "20130101T100000Z",
        "2013-01-01_10:00:00",
        " 2013-01-01",
        "2013-01-01 ",
        "2013-01-01T10:00:00Z\0",
        "2013-01-01 10:00:60.",
        "2013-01-01T10Z",
        "2013-01-01T100000Z",
        "2013-01-01T1000",
        "2013-01-01T10:0",
        "2013-01-01T10:00:",
        "2013-01-01T10:00:0",
        "2013-01-01T10:00.5",
        "2013-01-01 0200",
        "2013-01-01Z",
        "2013-01-01+02:00",
        "2013-01-01T+02:00",
        "2013-01-01T10:00:00,5Z",
        "2013-01-01T10:00:00.Z",
        "2013-01-01T10:00:00.+02",
        "2013-01-01T10:00:00.5.5",
        "2013-01-01T10:00:00+",
        "2013-01-01T10:00:00 ",
        "2013-01-01T10:00:00+2",
        "2013-01-01T10:00:00+200",
        "2013-01-01T10:00:00+2:00",
        "2013-01-01T10:00:00+02:",
        "2013-01-01T10:00:00+02:0",
        "2013-01-01T10:00:00+02:000",
        "2013-01-01T10:00:00+020000",
        "2013-01-01T10:00:00:02",
        "2013-01-01T10:00:00Z+02",
        "2013-01-01T10:00:00 Z",
        "2013-01-01T10:00:00 +02:00",
        "2013-01-01T10:00:00+-02",
        "2013-01-01T10:00:00\u{2212}02:00",
        "2013-01-01T10:00:00+24:00",
        "2013-01-01T10:00:00+2400",
        "2013-01-01T10:00:00+24",
        "2013-01-01T10:00:00+0260",
        "2013-01-01T10:00:00+02:60",
        "2013-01-01T10:00:00-02:00:30",
        "2013-01-01T10:00:00  02:00",
        "2013-01-01T10:00:00UTC",
        "2013-01-01T10:00:61Z",
        "2013-01-01T24:00:00Z",
        "-2013-01-01",
        "+002013-01-01T10:00:00Z",
        "12us ",
        "+12us",
        "-9999999999999999999us",
        "253402300799999999us",
        "２０１３-01-01",
    ] {
        let error = text.parse::<Timestamp>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text:?}");
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
    }
}

/// Imports bytes in every possible way. Each import must fail at this line and column.
fn refuses_csv(file: &[u8], line: u64, column: Option<u64>) {
    let fixture = Fixture::new();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("in.csv");
    fs::write(&path, file).unwrap();
    let shown = String::from_utf8_lossy(&file[..file.len().min(100)]).into_owned();
    let kind = ErrorKind::Csv { line, column };
    for policy in [OnDuplicate::Add, OnDuplicate::Skip, OnDuplicate::Fail] {
        let options = ImportOptions::new().on_duplicate(policy);
        for error in [
            fixture.refused(|pool| pool.import_csv(file, &options)),
            fixture.refused(|pool| pool.import_csv_path(&path, &options)),
            fixture.refused(|pool| pool.import_csv(file, &options.clone().commit_every(1_000_000))),
        ] {
            assert_eq!(error.kind(), kind, "of {shown:?}: {error}");
            assert!(kind.is_caller_error() && !kind.is_retryable());
            assert!(error.to_string().starts_with(&format!("line {line}")), "{error}");
        }
    }
}

/// Imports bytes from a reader and from a path. Both must add these values.
fn takes_csv(file: &[u8], expected: &[&str]) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("in.csv");
    fs::write(&path, file).unwrap();
    for from_path in [false, true] {
        let pool = support::pool_for(Need::Any);
        let options = ImportOptions::new();
        let report =
            if from_path { pool.import_csv_path(&path, &options) } else { pool.import_csv(file, &options) }
                .unwrap();
        assert_eq!(
            (report.rows, report.added, report.bad_rows),
            (expected.len() as u64, expected.len() as u64, 0)
        );
        assert_eq!(support::values(&pool), expected);
    }
}

#[test]
fn a_csv_file_without_a_good_header_is_refused_on_its_line() {
    for (file, line, column) in [
        ("", 1, None),
        ("\u{feff}", 1, None),
        ("\n\r\n\n", 1, None),
        ("37,A-1\n", 1, None),
        ("value\nA-1\n", 1, None),
        ("entity_type_id\n37\n", 1, None),
        ("Value,entity_type_id\nA-1,37\n", 1, None),
        ("value,ENTITY_TYPE_ID\nA-1,37\n", 1, None),
        ("value, entity_type_id\nA-1,37\n", 1, None),
        ("value;entity_type_id\nA-1;37\n", 1, None),
        ("value,entity_type_id,value\nA-1,37,A-1\n", 1, Some(3)),
        ("value,entity_type_id,note,entity_type_id\nA-1,37,,37\n", 1, Some(4)),
        ("\u{feff}value,value,entity_type_id\nA-1,A-1,37\n", 1, Some(2)),
        ("\"value,entity_type_id\nA-1,37\n", 1, None),
    ] {
        refuses_csv(file.as_bytes(), line, column);
    }
}

#[test]
fn a_bad_row_is_refused_with_its_line_and_column() {
    let head = "value,note,entity_type_id\nB-1,,37\n";
    let long = "x".repeat(4_097);
    let rows: Vec<(Vec<u8>, Option<u64>)> = vec![
        ("B-2,,\n".into(), Some(3)),
        ("B-2,,order\n".into(), Some(3)),
        ("B-2,,-1\n".into(), Some(3)),
        ("B-2,,+1\n".into(), Some(3)),
        ("B-2,, 37\n".into(), Some(3)),
        ("B-2,,37 \n".into(), Some(3)),
        ("B-2,,37.0\n".into(), Some(3)),
        ("B-2,,0x25\n".into(), Some(3)),
        ("B-2,,4294967296\n".into(), Some(3)),
        ("B-2,,99999999999999999999999999\n".into(), Some(3)),
        ("B-2,,３７\n".into(), Some(3)),
        (",,37\n".into(), Some(1)),
        ("\"\",,37\n".into(), Some(1)),
        (format!("{long},,37\n").into(), Some(1)),
        ("B-2,37\n".into(), None),
        ("B-2\n".into(), None),
        ("B-2,,37,\n".into(), None),
        ("B-2,,37,more,and more\n".into(), None),
        (b"B-\xff2,,37\n".to_vec(), Some(1)),
        (b"B-2,,3\xc3\n".to_vec(), Some(3)),
        (b"\xed\xa0\x80,,37\n".to_vec(), Some(1)),
    ];
    for (row, column) in rows {
        let file = |end: &str, after: &str| {
            let mut file = head.replace('\n', end).into_bytes();
            file.extend(&row[..row.len() - 1]);
            file.extend(after.replace('\n', end).bytes());
            file
        };
        refuses_csv(&file("\n", "\nB-3,,37\n"), 3, column);
        refuses_csv(&file("\r\n", "\nB-3,,37\n"), 3, column);
        refuses_csv(&file("\n", ""), 3, column);
    }
}

#[test]
fn an_open_quote_is_refused_on_the_line_it_opens() {
    let head = "value,entity_type_id\nB-1,37\n";
    // A small file, which ends before anything else is wrong.
    refuses_csv(format!("{head}\"B-2,37\nB-3,37\n").as_bytes(), 3, None);
    refuses_csv(format!("{head}\"").as_bytes(), 3, None);
    refuses_csv(format!("{head}\"B-2,37").as_bytes(), 3, None);
    refuses_csv(format!("{head}B-2,\"37\n").as_bytes(), 3, None);
    refuses_csv(format!("{head}\"B \"\"2\"\",37\r\n").as_bytes(), 3, None);
    // Larger than one read, but smaller than the largest record.
    let rows = |count: usize| (0..count).map(|number| format!("C-{number},37\n")).collect::<String>();
    refuses_csv(format!("{head}{}\"B-2,37\n{}", rows(10_000), rows(20_000)).as_bytes(), 10_003, None);
    // A large file, in which the record would exceed the limit.
    let large = format!("{head}\"B-2,37\n{}", rows(400_000));
    assert!(large.len() > 4 << 20);
    refuses_csv(large.as_bytes(), 3, None);
}

#[test]
fn a_record_over_the_limit_is_refused_on_its_first_line() {
    let limit = usize::try_from(limits::CSV_RECORD_MAX_BYTES).unwrap();
    let head = "note,value,entity_type_id\n,B-1,37\n";
    let record = |length: usize| format!("{},B-2,37\n", "x".repeat(length - 8));
    refuses_csv(format!("{head}{},B-3,37\n", record(limit + 2)).as_bytes(), 3, None);
    refuses_csv(format!("{head}{}", "x".repeat(3 * limit)).as_bytes(), 3, None);
    refuses_csv(format!("{head}\"a\nb\n\",\"{}\",37\n", "y".repeat(limit)).as_bytes(), 3, None);
    refuses_csv("x".repeat(2 * limit).as_bytes(), 1, None);
    takes_csv(format!("{head}{},B-3,37\n", record(limit - 2)).as_bytes(), &["B-1", "B-2", "B-3"]);
}

#[test]
fn a_bad_row_that_may_be_skipped_does_not_hide_a_broken_file() {
    let fixture = Fixture::new();
    let skip = ImportOptions::new().on_bad_row(OnBadRow::Skip);
    for (file, line) in [("", 1), ("value\nA-1\n", 1), ("value,entity_type_id\nB-1,37\n,37\n\"B-2,37\n", 4)] {
        let error = fixture.refused(|pool| pool.import_csv(file.as_bytes(), &skip));
        assert_eq!(error.kind(), ErrorKind::Csv { line, column: None }, "of {file:?}: {error}");
    }
}

#[test]
fn a_byte_order_mark_crlf_blank_lines_and_a_missing_last_line_break_are_accepted() {
    let rows = ["B-1", "B-2"];
    takes_csv(b"value,entity_type_id\nB-1,37\nB-2,37\n", &rows);
    takes_csv(b"value,entity_type_id\r\nB-1,37\r\nB-2,37\r\n", &rows);
    takes_csv("\u{feff}value,entity_type_id\nB-1,37\nB-2,37".as_bytes(), &rows);
    takes_csv("\u{feff}\"value\",\"entity_type_id\"\r\n\"B-1\",\"37\"\r\nB-2,37\r\n".as_bytes(), &rows);
    takes_csv(b"value,entity_type_id\n\nB-1,37\n\r\n\nB-2,37\n\n", &rows);
    takes_csv(b"value,entity_type_id\n", &[]);
    takes_csv(b"value,entity_type_id", &[]);
    takes_csv(b"value,entity_type_id\nB-1,0\nB-2,4294967295\n", &rows);
    takes_csv(b"value,entity_type_id\nB-1,00037\nB-2,37\n", &rows);
    takes_csv(
        format!("value,entity_type_id\n{},37\n", "x".repeat(4_096)).as_bytes(),
        &["x".repeat(4_096).as_str()],
    );
}

/// The reader marks the end of the file internally. No value may be confused with that mark.
#[test]
fn a_file_may_end_with_any_value() {
    let mark = "\u{1}datapool end of file\u{1}";
    for value in [mark.to_owned(), format!("a{mark}\n"), format!("\n{mark}\n"), format!("{mark}\n")] {
        for end in ["", "\n", "\r\n"] {
            takes_csv(format!("entity_type_id,value\n37,\"{value}\"{end}").as_bytes(), &[&value]);
            takes_csv(format!("value,entity_type_id\n\"{value}\",37{end}").as_bytes(), &[&value]);
        }
    }
    refuses_csv(format!("value,entity_type_id\n{mark}").as_bytes(), 2, None);
    refuses_csv(format!("value,entity_type_id\n{mark}\n").as_bytes(), 2, None);
}

/// A piece of a CSV file, and its number of lines.
#[derive(Debug, Clone)]
struct Piece(String, u64);

fn any_piece(end: &'static str) -> impl Strategy<Value = Piece> {
    prop_oneof![
        4 => (0..1_000_u32).prop_map(move |number| Piece(format!("C-{number},37{end}"), 1)),
        1 => Just(Piece(end.to_owned(), 1)),
        2 => (1..4_usize, prop::bool::ANY).prop_map(move |(breaks, crlf)| {
            let inner = if crlf { "\r\n" } else { "\n" };
            Piece(format!("\"C{}\",37{end}", inner.repeat(breaks)), breaks as u64 + 1)
        }),
        // More than the parser reads at once.
        1 => Just(Piece(format!("{},37{end}", "long".repeat(1_000)), 1)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_bad_rows_line_is_exact_whatever_stands_before_it(
        (pieces, end) in prop::sample::select(vec!["\n", "\r\n"])
            .prop_flat_map(|end| (vec(any_piece(end), 0..60), Just(end))),
        mark in prop::bool::ANY,
        bad in prop::sample::select(vec![("B,x", Some(2)), (",37", Some(1)), ("\"\n\",37,\"\n\"", None), ("\"B", None)]),
        last in prop::bool::ANY,
    ) {
        let line = 2 + pieces.iter().map(|piece| piece.1).sum::<u64>();
        let before: String = pieces.iter().map(|piece| piece.0.as_str()).collect();
        let mark = if mark { "\u{feff}" } else { "" };
        let after = if last { String::new() } else { format!("{end}D-1,37{end}") };
        let file = format!("{mark}value,entity_type_id{end}{before}{}{after}", bad.0);
        let pool = support::pool_for(Need::Any);
        let error = pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Csv { line, column: bad.1 }, "{}", error);
        prop_assert_eq!(support::records(&pool), vec![]);
    }

    #[test]
    fn no_bytes_make_an_import_panic_or_add_part_of_a_file(
        bytes in vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), Just(b'3'), any::<u8>()], 0..200),
        headed in prop::bool::weighted(0.8),
        skip in prop::bool::ANY,
    ) {
        let mut file = if headed { b"value,entity_type_id\n".to_vec() } else { Vec::new() };
        file.extend(&bytes);
        let pool = support::pool_for(Need::Any);
        let policy = if skip { OnBadRow::Skip } else { OnBadRow::Fail };
        match pool.import_csv(file.as_slice(), &ImportOptions::new().on_bad_row(policy)) {
            Ok(report) => {
                prop_assert_eq!(report.added + report.bad_rows, report.rows);
                prop_assert_eq!(support::records(&pool).len() as u64, report.added);
            }
            Err(error) => {
                prop_assert!(matches!(error.kind(), ErrorKind::Csv { .. }), "{}", error);
                prop_assert_eq!(support::records(&pool), vec![]);
            }
        }
    }
}

#[test]
fn importing_a_path_that_cannot_be_read_is_an_io_error() {
    let fixture = Fixture::new();
    let directory = TempDir::new().unwrap();
    for options in [ImportOptions::new(), ImportOptions::new().commit_every(10)] {
        fixture
            .refuses(ErrorKind::Io, |pool| pool.import_csv_path(directory.path().join("none.csv"), &options));
        fixture.refuses(ErrorKind::Io, |pool| pool.import_csv_path(directory.path(), &options));
    }
}

/// Creates a closed store with one pool and a few records. Returns its file.
fn store_file(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("store.redb");
    let store = support::embedded::open(&path, &support::options(), Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let values: Vec<String> = (0..100).map(|number| format!("A-{number}")).collect();
    support::track(&pool, &values);
    path
}

fn every_way_to_open() -> Vec<StoreOptions> {
    let with = |access, if_missing| support::options().access(access).if_missing(if_missing);
    vec![
        with(Access::ReadWrite, IfMissing::Create),
        with(Access::ReadWrite, IfMissing::Fail),
        with(Access::ReadOnly, IfMissing::Create),
        with(Access::ReadOnly, IfMissing::Fail),
    ]
}

/// Opens a file that is not a store. It must be unchanged, and nothing may be left beside it.
fn refuses_file(path: &Path) -> Error {
    let before = fs::read(path).unwrap();
    let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
    for options in every_way_to_open() {
        let error = options.open(path).unwrap_err();
        assert!(fs::read(path).unwrap() == before, "the file changed, after: {error}");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), beside);
        assert!(error.to_string().contains("store"), "{error}");
    }
    DataPoolStore::open(path).unwrap_err()
}

/// Replaces all occurrences of some bytes in a file. Returns their number.
fn patch(path: &Path, from: &[u8], to: &[u8]) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let mut count = 0;
    for start in 0..bytes.len() - from.len() {
        if bytes[start..].starts_with(from) {
            bytes[start..start + to.len()].copy_from_slice(to);
            count += 1;
        }
    }
    fs::write(path, bytes).unwrap();
    count
}

#[test]
fn a_file_that_is_not_a_store_is_refused_and_left_as_it_was() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file");
    let noise: Vec<u8> =
        (0..100_000_u32).map(|number| number.wrapping_mul(2_654_435_769).to_le_bytes()[3]).collect();
    for bytes in [
        b"x".as_slice(),
        b"redb",
        b"value,entity_type_id\nA-1,37\n",
        "some text\n".repeat(10_000).as_bytes(),
        &[0; 8_192],
        &noise,
        b"SQLite format 3\0",
    ] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(refuses_file(&path).kind(), ErrorKind::NotAStore);
    }
}

#[test]
fn a_directory_is_not_a_store() {
    let directory = TempDir::new().unwrap();
    for options in every_way_to_open() {
        let error = options.open(directory.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAStore);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn an_empty_file_becomes_a_store_only_if_one_may_be_made() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("empty.redb");
    fs::write(&path, b"").unwrap();
    for options in every_way_to_open().into_iter().skip(1) {
        let error = options.open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAStore, "{options:?}: {error}");
        assert!(error.to_string().contains("empty.redb is empty, not a store"), "{error}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0, "{options:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
    support::track(&support::options().open(&path).unwrap().get_or_create_pool("orders").unwrap(), &["A-1"]);
    for options in every_way_to_open() {
        assert!(support::has(&options.open(&path).unwrap().pool_named("orders").unwrap(), "A-1"));
    }
}

#[cfg(unix)]
#[test]
fn a_device_or_socket_is_not_a_store() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [Path::new("/dev/null"), &socket] {
        for options in every_way_to_open() {
            let error = options.open(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAStore, "{error}");
            assert!(error.to_string().contains("is a device, pipe or socket, not a store"), "{error}");
        }
    }
}

#[test]
fn a_database_of_another_program_is_not_a_store() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    drop(support::options().open(&path).unwrap());
    // Without the table "meta", which only a new store has alone, it could be any program's database.
    assert!(patch(&path, b"meta", b"mine") > 0);
    let error = refuses_file(&path);
    assert_eq!(error.kind(), ErrorKind::NotAStore, "{error}");
}

#[test]
fn a_store_of_another_format_is_refused_and_left_as_it_was() {
    for found in [0, 1, 2, 3, 4, 6, 0x0102_0304, u32::MAX] {
        let directory = TempDir::new().unwrap();
        let path = store_file(&directory);
        // The names of the rows are stored in order, followed by their values in the same order.
        let names = b"formatgeometryhash keynext pool idstore id";
        let with = |format: u32| [names.as_slice(), &format.to_le_bytes()].concat();
        assert!(patch(&path, &with(5), &with(found)) > 0);
        let error = refuses_file(&path);
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat { found, supported: 5 }, "{error}");
        assert!(error.to_string().contains(&found.to_string()), "{error}");
    }
}

#[test]
fn an_open_store_cannot_be_opened_again_until_it_is_dropped() {
    let directory = TempDir::new().unwrap();
    let path = store_file(&directory);
    let store = support::options().open(&path).unwrap();
    let pool = store.pool_named("orders").unwrap();
    let before = fs::read(&path).unwrap();
    for _ in 0..3 {
        let error = support::options().open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyOpen, "{error}");
        assert!(error.to_string().contains("store.redb"), "{error}");
    }
    assert!(fs::read(&path).unwrap() == before, "the file changed");
    assert_eq!(support::track(&pool, &["B-1"]), 1);
    drop(store);
    // A pool keeps the store open.
    assert_eq!(support::options().open(&path).unwrap_err().kind(), ErrorKind::AlreadyOpen);
    assert!(support::has(&pool, "B-1"));
    drop(pool);
    let pool = support::options().open(&path).unwrap().pool_named("orders").unwrap();
    assert!(support::has(&pool, "B-1") && support::has(&pool, "A-99"));
}

#[test]
fn a_missing_file_is_not_made_when_that_was_not_asked_for() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("none.redb");
    for options in every_way_to_open().into_iter().skip(1) {
        assert_eq!(options.open(&path).unwrap_err().kind(), ErrorKind::NotFound, "{options:?}");
        assert!(!path.exists());
    }
    let error = support::options().open(directory.path().join("no directory/none.redb")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    if cfg!(unix) {
        // A path through a file is no missing store.
        std::fs::write(directory.path().join("plain"), "no directory").unwrap();
        for options in every_way_to_open() {
            let error = options.open(directory.path().join("plain/none.redb")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{options:?}: {error}");
        }
    }
}

#[test]
fn a_store_cut_short_is_damaged_and_left_as_it_was() {
    let directory = TempDir::new().unwrap();
    let path = store_file(&directory);
    let whole = fs::read(&path).unwrap();
    for length in
        (1..32).map(|part| whole.len() * part / 32).chain([9, 64, 320, 511, 512, 4_096, whole.len() - 1])
    {
        fs::write(&path, &whole[..length]).unwrap();
        let error = refuses_file(&path);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut to {length} bytes: {error}");
    }
    fs::write(&path, &whole).unwrap();
    assert!(support::has(&DataPoolStore::open(&path).unwrap().pool_named("orders").unwrap(), "A-99"));
}

/// Reads everything from a store that may be damaged.
fn read_all(path: &Path) -> Result<()> {
    let store = support::options().open(path)?;
    for pool in store.pools(&PoolQuery::new().per_page(100))?.data {
        let pool = store.pool(pool.id)?;
        pool.contains(Key::new(ORDERS, "A-1"))?;
        pool.count(&RecordFilter::new().flow_id("shop"))?;
        pool.records(&RecordQuery::new().value("A-7"))?;
        pool.lookup(&[Key::new(ORDERS, "A-3"), Key::new(ORDERS, "none")])?;
        pool.scan(&RecordFilter::new())?.collect::<Result<Vec<_>>>()?;
    }
    Ok(())
}

/// Writes in every way to a store that may be damaged. Any outcome is accepted.
fn write_all(path: &Path) -> Result<()> {
    let store = support::options().open(path)?;
    for pool in store.pools(&PoolQuery::new().per_page(100))?.data {
        let pool = store.pool(pool.id)?;
        let values: Vec<String> = (50..180).map(|number| format!("A-{number}")).collect();
        let key = |value: &'_ String| Key::new(ORDERS, value.clone());
        let tracked = pool.dedupe_with_first(Mode::Track, &values, key, &support::origin()).map(drop);
        let deleted = pool.delete_where(&RecordFilter::new().value("A-9")).map(drop);
        let file = "value,entity_type_id\nB-1,37\n";
        let imported = pool.import_csv(file.as_bytes(), &ImportOptions::new()).map(drop);
        let cleared = pool.clear().map(drop);
        tracked.and(deleted).and(imported).and(cleared).and(store.delete_pool(pool.id()))?;
    }
    Ok(())
}

fn is_of_a_kind_for_damage(error: &Error) -> bool {
    use ErrorKind::{Corrupt, NotAStore, NotFound, OutcomeUnknown, Storage, UnsupportedFormat};
    matches!(
        error.kind(),
        Corrupt | NotAStore | NotFound | OutcomeUnknown | Storage | UnsupportedFormat { .. }
    )
}

/// Generates bytes of a store's file to change and their new values, in the first bytes of the file or
/// anywhere.
fn any_damage() -> impl Strategy<Value = (Vec<(prop::sample::Index, u8)>, bool)> {
    (vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..20), prop::bool::weighted(0.3))
}

fn damaged_store_file(directory: &TempDir, damage: &(Vec<(prop::sample::Index, u8)>, bool)) -> PathBuf {
    let path = store_file(directory);
    let mut bytes = fs::read(&path).unwrap();
    let end = if damage.1 { 320 } else { bytes.len() };
    for (place, byte) in &damage.0 {
        bytes[place.index(end)] ^= byte;
    }
    fs::write(&path, &bytes).unwrap();
    path
}

/// The environment variable with the file that a child process uses.
const DAMAGED: &str = "DATAPOOL_TEST_DAMAGED";

/// This is not a test by itself, but a child process that may abort instead of panicking.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_writes_to_a_damaged_store() {
    let Some(path) = std::env::var_os(DAMAGED) else { return };
    if let Err(error) = write_all(path.as_ref()) {
        assert!(is_of_a_kind_for_damage(&error), "{:?}: {error}", error.kind());
    }
}

proptest! {
    #![proptest_config(crate::model::cases(16, 64))]

    #[test]
    fn no_damage_to_a_file_makes_reading_it_panic(damage in any_damage()) {
        let directory = TempDir::new().unwrap();
        let path = damaged_store_file(&directory, &damage);
        if let Err(error) = read_all(&path) {
            prop_assert!(is_of_a_kind_for_damage(&error), "{:?}: {}", error.kind(), error);
        }
    }

    #[test]
    fn no_damage_to_a_file_makes_writing_to_it_panic_or_abort(damage in any_damage()) {
        let directory = TempDir::new().unwrap();
        let path = damaged_store_file(&directory, &damage);
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "behaviour::bad_input::child_process_writes_to_a_damaged_store"])
            .env(DAMAGED, &path)
            .output()
            .unwrap();
        prop_assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        let said = String::from_utf8_lossy(&child.stdout);
        prop_assert!(said.contains("1 passed"), "{said}");
    }
}
