//! Proves that an import keeps the times of its rows and the order of ids by time, and that a full export can
//! be imported back completely.

use std::fs;
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    DataPoolStore, ErrorKind, ExportColumns, ExportOptions, ImportOptions, Key, ManualClock, Mode, NewPool,
    OnBadRow, OnDuplicate, Origin, Pool, PoolUpdate, RecordFilter, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{self, Need, ORDERS};

const MINUTE: Duration = Duration::from_mins(1);

/// Creates a store with small sizes at the first second of 2013, its clock, and an empty pool.
fn pool() -> (DataPoolStore, ManualClock, Pool) {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.get_or_create_pool("orders").unwrap();
    (store, clock, pool)
}

fn options() -> ImportOptions {
    ImportOptions::new().created_at_column("created_at")
}

/// Returns a file of orders with these times.
fn file<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let rows: String = rows.into_iter().map(|(value, time)| format!("{value},37,{time}\n")).collect();
    format!("value,entity_type_id,created_at\n{rows}")
}

fn times(pool: &Pool) -> Vec<(String, Timestamp)> {
    support::records(pool).into_iter().map(|record| (record.value, record.created_at)).collect()
}

#[test]
fn a_record_at_the_earliest_time_is_live() {
    let pool = support::pool_for(Need::Any);
    let file = "value,entity_type_id,created_at\nA-1,37,-9223372036854775808us\n";
    let added = pool.import_csv(file.as_bytes(), &options()).unwrap().added;
    assert_eq!((added, pool.count(&RecordFilter::new()).unwrap()), (1, 1));
    assert!(pool.contains(Key::new(ORDERS, "A-1")).unwrap());
    let skipping = options().on_duplicate(OnDuplicate::Skip);
    assert_eq!(pool.import_csv(file.as_bytes(), &skipping).unwrap().skipped, 1);
}

#[test]
fn rows_keep_the_times_that_the_file_says() {
    let (store, _, pool) = pool();
    let rows = [("A", "2012-01-01"), ("B", "2012-01-01T00:00:00.000001Z"), ("C", "2013-01-01")];
    let report = pool.import_csv(file(rows).as_bytes(), &options()).unwrap();
    assert_eq!(report.added, 3);
    let expected: Vec<_> = rows.map(|(value, time)| (value.to_owned(), support::time(time))).into();
    assert_eq!(times(&pool), expected);
    let after = RecordFilter::new().created_after(support::time("2012-01-01"));
    assert_eq!(pool.count(&after).unwrap(), 2);
    support::track(&pool, &["D"]);
    assert_eq!(times(&pool)[3], ("D".to_owned(), support::time("2013-01-01")));
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn a_time_out_of_order_malformed_or_later_than_now_makes_its_row_bad() {
    let (_, _, pool) = pool();
    let rows = [
        ("A", "2012-05-01"),
        ("B", "2012-04-30"),
        ("C", ""),
        ("D", "yesterday"),
        ("E", "2012-05-01"),
        ("F", "2013-01-01T00:00:00.000001Z"),
        ("G", "2013-01-01"),
    ];
    let report = pool.import_csv(file(rows).as_bytes(), &options().on_bad_row(OnBadRow::Skip)).unwrap();
    assert_eq!(support::values(&pool), ["A", "E", "G"]);
    let bad: Vec<_> = report.errors.iter().map(|bad| (bad.line, bad.column)).collect();
    assert_eq!(bad, [3, 4, 5, 7].map(|line| (line, Some(3))));
    let words = ["earlier", "missing", "\"yesterday\"", "later than now"];
    assert!(
        report.errors.iter().zip(words).all(|(bad, word)| bad.reason.contains(word)),
        "{:?}",
        report.errors
    );
    let error = pool.import_csv(file([("H", "2013-01-02")]).as_bytes(), &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Csv { line: 2, column: Some(3) });
}

#[test]
fn rows_older_than_a_live_record_are_refused_as_a_whole() {
    let (store, clock, pool) = pool();
    support::track(&pool, &["A"]);
    clock.advance(MINUTE);
    support::track(&pool, &["B"]);
    let row = |time: &str| file([("C", time)]);
    let error = pool.import_csv(row("2013-01-01T00:00:30Z").as_bytes(), &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(
        error.to_string().contains("2013-01-01T00:00:30") && error.to_string().contains("00:01:00"),
        "{error}"
    );
    assert_eq!(support::values(&pool), ["A", "B"]);
    // A dead record is ignored, even if it lies in between.
    pool.delete_keys(&[Key::new(ORDERS, "B")]).unwrap();
    pool.import_csv(row("2013-01-01T00:00:30Z").as_bytes(), &options()).unwrap();
    assert_eq!(support::values(&pool), ["A", "C"]);
    let error = pool.import_csv(row("2013-01-01").as_bytes(), &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    pool.clear().unwrap();
    pool.import_csv(row("2012-01-01").as_bytes(), &options()).unwrap();
    assert_eq!(support::values(&pool), ["C"]);
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn times_and_parts_exclude_each_other() {
    let (_, _, pool) = pool();
    let error =
        pool.import_csv(file([("A", "2012-01-01")]).as_bytes(), &options().commit_every(10)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("commit_every"), "{error}");
}

#[test]
fn rows_beyond_the_retention_are_added_and_dead_for_good() {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.create_pool(NewPool::new("orders").retention(60 * MINUTE)).unwrap();
    let rows = [
        ("A", "2012-01-01"),
        ("B", "2012-12-31T22:59:59Z"),
        ("C", "2012-12-31T23:00:01Z"),
        ("D", "2013-01-01"),
    ];
    for _ in 0..2 {
        let report = pool.import_csv(file(rows).as_bytes(), &options()).unwrap();
        assert_eq!((report.rows, report.added), (4, 4));
        assert_eq!(support::values(&pool), ["C", "D"]);
        pool.clear().unwrap();
    }
    // Import both rows.
    pool.import_csv(file(rows[..2].iter().copied()).as_bytes(), &options()).unwrap();
    assert_eq!(support::values(&pool), [""; 0]);
    pool.import_csv(file(rows).as_bytes(), &options()).unwrap();
    store.update_pool(pool.id(), PoolUpdate::new().clear_retention()).unwrap();
    assert_eq!(support::values(&pool), ["C", "D"]);
    assert_eq!(store.verify().unwrap().findings, []);
}

/// Both rows in one buffer, or with the end of a segment between them.
#[test]
fn a_row_beyond_the_retention_hides_no_later_one_of_its_value() {
    for between in [0, 200] {
        for policy in [OnDuplicate::Skip, OnDuplicate::Fail, OnDuplicate::Add] {
            let (store, _, _) = pool();
            let pool = store.create_pool(NewPool::new("kept").retention(60 * MINUTE)).unwrap();
            let others: Vec<String> = (0..between).map(|number| format!("B-{number}")).collect();
            let rows = [("A", "2012-01-01"), ("A", "2012-12-31T23:30:00Z")].into_iter();
            let others = others.iter().map(|value| (value.as_str(), "2012-12-31T23:40:00Z"));
            let rows: Vec<_> = rows.chain(others).collect();
            let report =
                pool.import_csv(file(rows.clone()).as_bytes(), &options().on_duplicate(policy)).unwrap();
            assert_eq!((report.added, report.skipped), (rows.len() as u64, 0), "{policy:?}");
            assert!(support::has(&pool, "A"), "{policy:?} with {between} rows between");
            assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 1 + between, "{policy:?}");
            // The live row counts as present for later rows.
            let again = pool.import_csv(
                file([("A", "2013-01-01")]).as_bytes(),
                &options().on_duplicate(OnDuplicate::Skip),
            );
            assert_eq!(again.unwrap().skipped, 1, "{policy:?}");
            assert_eq!(store.verify().unwrap().findings, []);
        }
    }
}

#[test]
fn a_capacity_holds_after_an_import_with_times() {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock));
    let pool = store.create_pool(NewPool::new("orders").capacity(3)).unwrap();
    let values: Vec<String> = (0..300).map(|n| format!("v{n}")).collect();
    let rows = values.iter().map(|value| (value.as_str(), "2012-01-01"));
    assert_eq!(pool.import_csv(file(rows).as_bytes(), &options()).unwrap().added, 300);
    assert_eq!(support::values(&pool), ["v297", "v298", "v299"]);
    assert_eq!(store.verify().unwrap().findings, []);
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Track(usize),
    /// Deletes this many of the newest records, or of the oldest.
    DeleteNewest(usize),
    DeleteOldest(usize),
    Clear,
    /// Imports rows with these distances in minutes. The last of them is `ago` minutes old.
    Import {
        apart: Vec<u64>,
        ago: u64,
        skip: bool,
    },
    Reopen,
    /// Exports to another pool and compares it.
    Copy,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40_u64).prop_map(Step::Pass),
        3 => (1..30_usize).prop_map(Step::Track),
        2 => (1..40_usize).prop_map(Step::DeleteNewest),
        1 => (1..40_usize).prop_map(Step::DeleteOldest),
        1 => Just(Step::Clear),
        5 => (vec(0..9_u64, 0..90), 0..60_u64, any::<bool>()).prop_map(|(apart, ago, skip)| Step::Import { apart, ago, skip }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Copy),
    ]
}

fn everything(pool: &Pool) -> Vec<(String, Timestamp, Option<String>)> {
    let of = |record: datapool_store::Record| {
        (record.value, record.created_at, record.flow_run_id.map(|run| run.to_string()))
    };
    support::records(pool).into_iter().map(of).collect()
}

/// A model of a pool with plain vectors.
struct Model {
    live: Vec<(String, Timestamp, Option<String>)>,
    retention: Option<Duration>,
    made: usize,
}

impl Model {
    fn expire(&mut self, now: Timestamp) {
        if let Some(retention) = self.retention {
            self.live.retain(|(_, time, _)| *time > now.saturating_sub(retention));
        }
    }

    fn value(&mut self) -> String {
        self.made += 1;
        format!("v{}", self.made)
    }
}

proptest! {
    #![proptest_config(crate::model::cases(24, 96))]

    #[test]
    fn whatever_comes_before_and_after_an_import_with_times_the_pool_has_what_plain_vectors_have(
        steps in vec(any_step(), 1..25),
        retention in prop::option::of(1..300_u64),
    ) {
        let (clock, directory) = (support::clock(), TempDir::new().unwrap());
        let options = support::options().clock(clock.clone());
        let store = support::embedded::open(&directory.path().join("s.redb"), &options, Sizes::SMALL).unwrap();
        let retention = retention.map(|minutes| MINUTE * u32::try_from(minutes).unwrap());
        let new = NewPool::new("orders");
        let pool = store.create_pool(retention.map_or(new.clone(), |retention| new.retention(retention))).unwrap();
        let mut model = Model { live: Vec::new(), retention, made: 0 };
        for step in steps {
            let now = clock.now();
            model.expire(now);
            match step {
                Step::Pass(minutes) => clock.advance(MINUTE * u32::try_from(minutes).unwrap()),
                Step::Track(count) => {
                    let values: Vec<String> = (0..count).map(|_| model.value()).collect();
                    support::track(&pool, &values);
                    let run = support::origin().run().map(ToString::to_string);
                    model.live.extend(values.into_iter().map(|value| (value, now, run.clone())));
                }
                Step::DeleteNewest(count) => {
                    let gone = model.live.split_off(model.live.len().saturating_sub(count));
                    let keys: Vec<_> = gone.into_iter().map(|(value, ..)| Key::new(ORDERS, value)).collect();
                    prop_assert_eq!(pool.delete_keys(&keys).unwrap(), keys.len() as u64);
                }
                Step::DeleteOldest(count) => {
                    let gone = model.live.drain(..count.min(model.live.len()));
                    let keys: Vec<_> = gone.map(|(value, ..)| Key::new(ORDERS, value)).collect();
                    prop_assert_eq!(pool.delete_keys(&keys).unwrap(), keys.len() as u64);
                }
                Step::Clear => {
                    pool.clear().unwrap();
                    model.live.clear();
                }
                Step::Import { apart, ago, skip } => {
                    let total: u64 = ago + apart.iter().sum::<u64>();
                    let mut time = now.saturating_sub(MINUTE * u32::try_from(total).unwrap());
                    let mut rows = Vec::new();
                    for minutes in apart {
                        time = time.saturating_add(MINUTE * u32::try_from(minutes).unwrap());
                        rows.push((model.value(), time, (time.as_micros() % 7 > 0).then(|| format!("run {minutes}"))));
                    }
                    let text: String = rows
                        .iter()
                        .map(|(value, time, run)| format!("{value},37,{},{time}\n", run.as_deref().unwrap_or_default()))
                        .collect();
                    let file = format!("value,entity_type_id,run,created_at\n{text}");
                    let policy = if skip { OnDuplicate::Skip } else { OnDuplicate::Add };
                    let options = self::options().origin_columns(None, Some("run"), None).on_duplicate(policy);
                    let done = pool.import_csv(file.as_bytes(), &options);
                    let is_newer = |first: &(String, Timestamp, _)| model.live.iter().any(|(_, time, _)| *time > first.1);
                    if rows.first().is_some_and(is_newer) {
                        prop_assert_eq!(done.unwrap_err().kind(), ErrorKind::InvalidArgument);
                    } else {
                        prop_assert_eq!(done.unwrap().added, rows.len() as u64);
                        model.live.extend(rows);
                    }
                }
                Step::Reopen => store.reopen().unwrap(),
                Step::Copy => {
                    let copy = store.get_or_create_pool("copy").unwrap();
                    copy.clear().unwrap();
                    let mut file = Vec::new();
                    pool.export_csv(&mut file, &ExportOptions::new().columns(ExportColumns::Full)).unwrap();
                    copy.import_csv(file.as_slice(), &ImportOptions::full_export()).unwrap();
                    prop_assert_eq!(everything(&copy), everything(&pool));
                }
            }
            model.expire(clock.now());
            prop_assert_eq!(&everything(&pool), &model.live);
            for (_, time, _) in model.live.iter().step_by(17) {
                let after = model.live.iter().filter(|(_, other, _)| other > time).count() as u64;
                let before = model.live.iter().filter(|(_, other, _)| other < time).count() as u64;
                prop_assert_eq!(pool.count(&RecordFilter::new().created_after(*time)).unwrap(), after);
                prop_assert_eq!(pool.count(&RecordFilter::new().created_before(*time)).unwrap(), before);
            }
            for run in ["run 0", "run 5"] {
                let of_run = model.live.iter().filter(|(_, _, other)| other.as_deref() == Some(run)).count() as u64;
                prop_assert_eq!(pool.count(&RecordFilter::new().flow_run_id(run)).unwrap(), of_run);
            }
            if let Some((value, ..)) = model.live.last() {
                prop_assert!(support::has(&pool, value));
            }
        }
        prop_assert_eq!(store.verify().unwrap().findings, vec![]);
    }
}

#[test]
fn a_full_export_imports_back_whole_from_a_path_and_from_a_reader() {
    let (store, clock, pool) = pool();
    for batch in 0..40 {
        let values: Vec<String> = (0..batch).map(|n| format!("\"{batch},\"\n{n}")).collect();
        let origin = match batch % 4 {
            0 => Origin::none(),
            1 => Origin::none().with_run(format!("run {batch}")),
            2 => Origin::new("shop", "r", format!("\"step\" {}", batch % 3)),
            _ => Origin::new("shop", format!("run {batch}"), "s"),
        };
        let _ = pool.dedupe(Mode::Track, &values, |value| Key::new(37, value.as_str()), &origin).unwrap();
        clock.advance(MINUTE);
    }
    let full = |pool: &Pool| {
        let mut file = Vec::new();
        pool.export_csv(&mut file, &ExportOptions::new().columns(ExportColumns::Full)).unwrap();
        String::from_utf8(file).unwrap()
    };
    let file = full(&pool);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("full.csv");
    fs::write(&path, &file).unwrap();
    for from_path in [false, true] {
        let copy = store.get_or_create_pool("copy").unwrap();
        let options = ImportOptions::full_export().on_duplicate(OnDuplicate::Skip);
        let done = if from_path {
            copy.import_csv_path(&path, &options)
        } else {
            copy.import_csv(file.as_bytes(), &options)
        };
        assert_eq!(done.unwrap().added, pool.count(&RecordFilter::new()).unwrap());
        // The ids begin at 1 in both pools.
        assert_eq!(full(&copy), file);
        assert_eq!(store.verify().unwrap().findings, []);
        store.delete_pool(copy.id()).unwrap();
    }
}

/// Searching by time needs the records of a segment in time order, also the dead ones.
#[test]
fn rows_that_are_older_than_a_dead_record_are_found_by_their_times() {
    let (store, _, pool) = pool();
    pool.import_csv(file([("B", "2012-01-01")]).as_bytes(), &options()).unwrap();
    support::track(&pool, &["N"]);
    assert_eq!(pool.delete_keys(&[Key::new(ORDERS, "N")]).unwrap(), 1);
    pool.import_csv(file([("C", "2012-06-01"), ("D", "2012-08-01")]).as_bytes(), &options()).unwrap();
    let count = |filter: RecordFilter| pool.count(&filter).unwrap();
    for (time, before) in [("2012-01-01", 0), ("2012-03-01", 1), ("2012-07-01", 2), ("2012-09-01", 3)] {
        let time = support::time(time);
        assert_eq!(count(RecordFilter::new().created_before(time)), before, "{time}");
        let at = u64::from(time == support::time("2012-01-01"));
        assert_eq!(count(RecordFilter::new().created_after(time)), 3 - before - at, "{time}");
    }
    assert_eq!(store.verify().unwrap().findings, []);
}
