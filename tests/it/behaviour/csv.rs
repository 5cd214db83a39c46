//! Proves that an import adds what its policies allow, either completely or as far as it reports; that it
//! delays no other caller; and that an export can be imported back to the same records.
//!
//! Malformed files are tested in [`crate::bad_input`], and the output of exports in [`crate::export`].

use std::fs::{self};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, mpsc};

use datapool_store::{
    Error, ErrorKind, ExportColumns, ExportOptions, ImportOptions, ImportProgress, ImportReport, Key, Mode,
    OnBadRow, OnDuplicate, Pool, RecordFilter, limits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{self, CUSTOMERS, Need, ORDERS};

/// Returns the values of a pool with their entity types, oldest first.
fn items(pool: &Pool) -> Vec<(u32, String)> {
    let records = support::records(pool);
    records.into_iter().map(|record| (record.entity_type_id.get(), record.value)).collect()
}

pub(crate) fn import(pool: &Pool, file: &str) -> ImportReport {
    pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap()
}

pub(crate) fn export(pool: &Pool, options: &ExportOptions) -> String {
    let mut file = Vec::new();
    let report = pool.export_csv(&mut file, options).unwrap();
    assert_eq!(report.rows, pool.count(&RecordFilter::new()).unwrap());
    String::from_utf8(file).unwrap()
}

/// Returns a file of orders, with one row per value.
pub(crate) fn orders(values: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    let rows: String = values.into_iter().map(|value| format!("{value},37\n")).collect();
    format!("value,entity_type_id\n{rows}")
}

/// Generates values that are difficult for parsers, trimming and spreadsheets.
fn any_value() -> impl Strategy<Value = String> {
    let pieces = vec![
        "\"",
        "\"\"",
        ",",
        ";",
        "\n",
        "\r",
        "\r\n",
        "=",
        "+",
        "-",
        "@",
        "'",
        "\t",
        " ",
        "\\",
        "\0",
        "\u{feff}",
        "ü",
        "𝄞",
        "é",
        "e\u{301}",
        "\u{1}datapool end of file\u{1}",
        "value",
        "37",
        "a",
        "#",
    ];
    prop_oneof![
        vec(prop::sample::select(pieces), 1..8).prop_map(|pieces| pieces.concat()),
        any::<String>().prop_filter("1 byte or more", |value| !value.is_empty()),
    ]
}

fn any_items() -> impl Strategy<Value = Vec<(u32, String)>> {
    vec((prop::sample::select(vec![0, 37, 47, u32::MAX]), any_value()), 0..80)
}

/// Returns a CSV file of these items, with the columns in the given order and other columns in between.
fn file_of(items: &[(u32, String)], columns: &[&str], quoted: bool, end: &str) -> String {
    let cell = |text: &str| {
        let must_quote = quoted || text.contains(['"', ',', '\n', '\r']);
        if must_quote { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
    };
    let line = |cells: Vec<String>| cells.join(",") + end;
    let mut file = line(columns.iter().map(|column| cell(column)).collect());
    for (entity_type, value) in items {
        let of = |column: &&str| match *column {
            "value" => cell(value),
            "entity_type_id" => cell(&entity_type.to_string()),
            other => cell(&format!("some {other}, \"of it\"\n")),
        };
        file += &line(columns.iter().map(of).collect());
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_exported_imports_back_to_the_same_records(
        items_in in any_items(),
        full in prop::bool::ANY,
    ) {
        let (pool, copy) = (support::pool_for(Need::Any), support::pool_for(Need::Any));
        for (entity_type, value) in &items_in {
            let key = |value: &&'_ String| Key::new(*entity_type, (*value).clone());
            let _ = pool.dedupe(Mode::Track, &[value], key, &support::origin()).unwrap();
        }
        let columns = if full { ExportColumns::Full } else { ExportColumns::Importable };
        let file = export(&pool, &ExportOptions::new().columns(columns));
        import(&copy, &file);
        prop_assert_eq!(items(&copy), items(&pool));
        prop_assert_eq!(export(&copy, &ExportOptions::new()), export(&pool, &ExportOptions::new()));
    }

    #[test]
    fn columns_stand_in_any_order_among_others_quoted_or_not(
        items_in in any_items(),
        columns in Just(vec!["value", "entity_type_id", "note", "Value", ""]).prop_shuffle(),
        quoted in prop::bool::ANY,
        crlf in prop::bool::ANY,
        mark in prop::bool::ANY,
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mark = if mark { "\u{feff}" } else { "" };
        // At the start of a file, these bytes are read as a byte order mark.
        let quoted = quoted || columns[0].is_empty();
        let file = format!("{mark}{}", file_of(&items_in, &columns, quoted, end));
        let pool = support::pool_for(Need::Any);
        let report = import(&pool, &file);
        prop_assert_eq!((report.rows, report.added), (items_in.len() as u64, items_in.len() as u64));
        prop_assert_eq!(items(&pool), items_in);
    }

    #[test]
    fn a_reader_may_give_its_bytes_in_any_portions(items_in in any_items(), portions in vec(1..40_usize, 1..20)) {
        let file = file_of(&items_in, &["value", "entity_type_id"], false, "\n");
        let pool = support::pool_for(Need::Any);
        let reader = Trickle { bytes: file.as_bytes(), portions: portions.into_iter().cycle(), interrupt: false };
        pool.import_csv(reader, &ImportOptions::new()).unwrap();
        prop_assert_eq!(items(&pool), items_in);
    }
}

/// A reader that returns small portions. On request, it is interrupted before each.
struct Trickle<'a, I> {
    bytes: &'a [u8],
    portions: I,
    interrupt: bool,
}

impl<I: Iterator<Item = usize>> Read for Trickle<'_, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let portion = self.portions.next().unwrap();
        if self.interrupt && portion == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(portion);
        self.bytes.read(&mut buffer[..length])
    }
}

/// The documentation of `Read` on `Interrupted`: typically there is nothing to do but to retry.
#[test]
fn a_reader_that_is_interrupted_is_asked_again() {
    let pool = support::pool_for(Need::Any);
    let file = orders(0..100);
    let reader =
        Trickle { bytes: file.as_bytes(), portions: [0, 7, 0, 0, 50].into_iter().cycle(), interrupt: true };
    let report = pool.import_csv(reader, &ImportOptions::new()).unwrap();
    assert_eq!(report.added, 100);
}

#[test]
fn every_row_becomes_a_record_without_origin_and_existing_ones_stay() {
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["A-1", "A-2"]);
    let before = support::records(&pool);
    let report = import(&pool, "value,entity_type_id\nA-1,37\nB-1,37\nB-1,47\nB-1,37\n");
    assert_eq!((report.rows, report.added, report.skipped, report.bad_rows), (4, 4, 0, 0));
    let after = support::records(&pool);
    assert_eq!(after[..2], before);
    let added: Vec<_> = after[2..]
        .iter()
        .map(|record| (record.id.get(), record.entity_type_id, record.value.as_str()))
        .collect();
    assert_eq!(added, [(3, ORDERS, "A-1"), (4, ORDERS, "B-1"), (5, CUSTOMERS, "B-1"), (6, ORDERS, "B-1")]);
    assert!(after[2..].iter().all(|r| r.flow_id.is_none() && r.flow_run_id.is_none() && r.step_id.is_none()));
    // The first record of a value stays the first, and all records are deleted together.
    let first = pool.lookup(&[Key::new(ORDERS, "B-1")]).unwrap().remove(0).unwrap();
    assert_eq!(first.id.get(), 4);
    assert_eq!(pool.delete_keys(&[Key::new(ORDERS, "B-1")]).unwrap(), 2);
    assert!(!support::has(&pool, "B-1"));
}

#[test]
fn importing_a_file_twice_doubles_it_or_changes_nothing_as_asked() {
    let pool = support::pool_for(Need::Any);
    let file = orders((0..150).map(|number| format!("A-{number}")));
    import(&pool, &file);
    import(&pool, &file);
    let doubled = items(&pool);
    assert_eq!(doubled.len(), 300);
    let skip = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
    let report = pool.import_csv(file.as_bytes(), &skip).unwrap();
    assert_eq!((report.rows, report.added, report.skipped), (150, 0, 150));
    assert_eq!(items(&pool), doubled);
    pool.clear().unwrap();
    let report = pool.import_csv(file.as_bytes(), &skip).unwrap();
    assert_eq!((report.rows, report.added, report.skipped), (150, 150, 0));
}

#[test]
fn a_present_value_fails_an_import_that_is_told_to_fail() {
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["A-1"]);
    let fail = ImportOptions::new().on_duplicate(OnDuplicate::Fail);
    for (file, line) in [(orders(["B-1", "B-2", "A-1", "B-3"]), 4), (orders(["B-1", "B-2", "B-1"]), 4)] {
        let error = pool.import_csv(file.as_bytes(), &fail).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(error.committed_rows(), None);
        assert!(error.to_string().contains(&format!("line {line}")), "{error}");
        assert_eq!(support::values(&pool), ["A-1"]);
    }
    // The same text with another entity type is another value. A deleted value is not present.
    pool.import_csv("value,entity_type_id\nA-1,47\n".as_bytes(), &fail).unwrap();
    pool.delete_keys(&[Key::new(ORDERS, "A-1")]).unwrap();
    pool.import_csv(orders(["A-1"]).as_bytes(), &fail).unwrap();
    assert!(support::has(&pool, "A-1"));
}

/// A row of a file in the model of an import.
#[derive(Debug, Clone, Copy)]
enum Row {
    Good(u8),
    Bad,
}

/// A report, or an error's kind and its number of committed rows.
type Outcome = Result<ImportReport, (ErrorKind, Option<u64>)>;

/// Models an import with plain loops: its outcome, the records that it adds, and the number of committed rows
/// if it fails.
fn modelled(
    rows: &[Row],
    mut live: Vec<u8>,
    options: (OnDuplicate, OnBadRow, Option<u64>),
) -> (Vec<u8>, Outcome) {
    let (on_duplicate, on_bad_row, commit_every) = options;
    let mut report = ImportReport::default();
    let mut committed = commit_every.map(|_| 0);
    let mut part = Vec::new();
    let mut rest = rows.iter().zip(2_u64..);
    loop {
        let next = rest.next();
        if let Some((row, line)) = next {
            match row {
                Row::Good(number) => part.push(*number),
                Row::Bad if on_bad_row == OnBadRow::Fail => {
                    return (live, Err((ErrorKind::Csv { line, column: Some(2) }, committed)));
                }
                Row::Bad => report.bad_rows += 1,
            }
            report.rows += 1;
        }
        if next.is_none() || commit_every == Some(part.len() as u64) {
            let before = live.clone();
            for number in &part {
                match on_duplicate {
                    OnDuplicate::Add => live.push(*number),
                    _ if !live.contains(number) => live.push(*number),
                    OnDuplicate::Skip => report.skipped += 1,
                    _ => return (before, Err((ErrorKind::AlreadyExists, committed))),
                }
            }
            report.added += (live.len() - before.len()) as u64;
            committed = committed.map(|rows| rows + part.len() as u64);
            part.clear();
        }
        if next.is_none() {
            return (live, Ok(report));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_combination_of_policies_does_what_plain_loops_do(
        present in prop::collection::btree_set(0..30_u8, 0..10),
        rows in vec(prop_oneof![6 => (0..60_u8).prop_map(Row::Good), 1 => Just(Row::Bad)], 0..40),
        on_duplicate in prop::sample::select(vec![OnDuplicate::Add, OnDuplicate::Skip, OnDuplicate::Fail]),
        on_bad_row in prop::sample::select(vec![OnBadRow::Fail, OnBadRow::Skip]),
        commit_every in prop::option::of(1..12_u64),
        from_path in prop::bool::ANY,
    ) {
        let pool = support::pool_for(Need::Any);
        let present: Vec<u8> = present.into_iter().collect();
        support::track(&pool, &present.iter().map(|number| format!("A-{number}")).collect::<Vec<_>>());
        let line = |row: &Row| match row {
            Row::Good(number) => format!("A-{number},37\n"),
            Row::Bad => "A-1,order\n".to_owned(),
        };
        let file = format!("value,entity_type_id\n{}", rows.iter().map(line).collect::<String>());
        let mut options = ImportOptions::new().on_duplicate(on_duplicate).on_bad_row(on_bad_row);
        if let Some(rows) = commit_every {
            options = options.commit_every(rows);
        }
        let result = if from_path {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("in.csv");
            fs::write(&path, &file).unwrap();
            pool.import_csv_path(&path, &options)
        } else {
            pool.import_csv(file.as_bytes(), &options)
        };
        let (live, expected) = modelled(&rows, present, (on_duplicate, on_bad_row, commit_every));
        let live: Vec<String> = live.into_iter().map(|number| format!("A-{number}")).collect();
        prop_assert_eq!(support::values(&pool), live);
        match (result, expected) {
            (Ok(report), Ok(expected)) => {
                prop_assert_eq!(
                    (report.rows, report.added, report.skipped, report.bad_rows),
                    (expected.rows, expected.added, expected.skipped, expected.bad_rows)
                );
                prop_assert_eq!(report.errors.len() as u64, report.bad_rows);
            }
            (Err(error), Err(expected)) => {
                prop_assert_eq!((error.kind(), error.committed_rows()), expected, "{}", error);
            }
            (result, expected) => prop_assert!(false, "{result:?}, but expected {expected:?}"),
        }
    }
}

#[test]
fn the_report_describes_the_first_100_bad_rows_and_counts_all() {
    let pool = support::pool_for(Need::Any);
    let rows: String = (0..250).map(|number| format!("A-{number},37\nB-{number},order {number}\n")).collect();
    let file = format!("value,entity_type_id\n{rows}");
    let skip = ImportOptions::new().on_bad_row(OnBadRow::Skip);
    let report = pool.import_csv(file.as_bytes(), &skip).unwrap();
    assert_eq!((report.rows, report.added, report.bad_rows), (500, 250, 250));
    assert_eq!(report.errors.len(), limits::IMPORT_REPORT_MAX_ERRORS);
    for (number, bad) in (0_u64..).zip(&report.errors) {
        assert_eq!((bad.line, bad.column), (3 + 2 * number, Some(2)));
        assert!(bad.reason.contains(&format!("order {number}")), "{}", bad.reason);
    }
}

#[test]
fn an_import_from_a_path_does_what_one_from_a_reader_does() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("in.csv");
    let rows: String = (0..5_000)
        .map(|number| format!("\"A,{}\",{}\n", number % 3_000, if number % 7 == 0 { "x" } else { "37" }))
        .collect();
    let file = format!("value,entity_type_id\n{rows}");
    fs::write(&path, &file).unwrap();
    let skip = ImportOptions::new().on_bad_row(OnBadRow::Skip).on_duplicate(OnDuplicate::Skip);
    for options in [skip.clone(), skip.clone().on_duplicate(OnDuplicate::Add), skip.commit_every(700)] {
        let (from_reader, from_path) = (support::pool_for(Need::Any), support::pool_for(Need::Any));
        let reports = (
            from_reader.import_csv(file.as_bytes(), &options).unwrap(),
            from_path.import_csv_path(&path, &options).unwrap(),
        );
        assert_eq!(reports.0, reports.1);
        assert_eq!(items(&from_reader), items(&from_path));
    }
}

/// Records the calls of an import's progress callback.
fn watched(options: ImportOptions) -> (ImportOptions, Arc<Mutex<Vec<ImportProgress>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let options = options.on_progress(move |progress| {
        told.lock().unwrap().push(progress);
        ControlFlow::Continue(())
    });
    (options, seen)
}

#[test]
fn progress_grows_to_the_whole_file() {
    let file = orders(
        (0..20_000).map(|number| if number % 10 == 0 { ",".to_owned() } else { format!("A-{number}") }),
    );
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("in.csv");
    fs::write(&path, &file).unwrap();
    for commit_every in [None, Some(3_000)] {
        for from_path in [false, true] {
            let pool = support::pool_for(Need::Any);
            let mut options = ImportOptions::new().on_bad_row(OnBadRow::Skip);
            if let Some(rows) = commit_every {
                options = options.commit_every(rows);
            }
            let (options, seen) = watched(options);
            let report = if from_path {
                pool.import_csv_path(&path, &options)
            } else {
                pool.import_csv(file.as_bytes(), &options)
            };
            assert_eq!(report.unwrap().rows, 20_000);
            let seen = seen.lock().unwrap();
            let rows: Vec<u64> = seen.iter().map(|progress| progress.rows).collect();
            assert_eq!(rows, [4_096, 8_192, 12_288, 16_384, 20_000]);
            assert!(seen.is_sorted_by_key(|progress| (progress.bytes, progress.committed_rows)));
            assert_eq!(seen.last().unwrap().bytes, file.len() as u64);
            let committed = seen.last().unwrap().committed_rows;
            assert_eq!(committed, if commit_every.is_some() { 18_000 } else { 0 });
        }
    }
}

#[test]
fn progress_of_an_empty_import_is_told_once() {
    let (options, seen) = watched(ImportOptions::new());
    support::pool_for(Need::Any).import_csv(orders([""; 0]).as_bytes(), &options).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|progress| (progress.rows, progress.bytes)).collect::<Vec<_>>(), [(0, 21)]);
}

/// Imports 20,000 rows and cancels when the callback has seen this many.
fn cancelled_after(rows: u64, options: ImportOptions, from_path: bool) -> (Pool, Error) {
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["B-1"]);
    let file = orders((0..20_000).map(|number| format!("A-{number}")));
    let options = options.on_progress(move |progress| {
        if progress.rows >= rows { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let error = if from_path {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("in.csv");
        fs::write(&path, file).unwrap();
        pool.import_csv_path(path, &options)
    } else {
        pool.import_csv(file.as_bytes(), &options)
    };
    (pool, error.unwrap_err())
}

#[test]
fn a_callback_that_breaks_cancels_the_import_and_nothing_is_added() {
    for from_path in [false, true] {
        for rows in [1, 10_000, 20_000] {
            let (pool, error) = cancelled_after(rows, ImportOptions::new(), from_path);
            assert_eq!((error.kind(), error.committed_rows()), (ErrorKind::Cancelled, None));
            assert_eq!(support::values(&pool), ["B-1"]);
        }
    }
}

#[test]
fn committed_parts_of_a_cancelled_import_stay() {
    for from_path in [false, true] {
        let (pool, error) = cancelled_after(10_000, ImportOptions::new().commit_every(5_000), from_path);
        assert_eq!((error.kind(), error.committed_rows()), (ErrorKind::Cancelled, Some(10_000)));
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 10_001);
        assert!(support::has(&pool, "A-9999") && !support::has(&pool, "A-10000"));
    }
}

#[test]
fn a_progress_callback_may_call_the_store() {
    let pool = support::pool_for(Need::Any);
    let inner = pool.clone();
    let options = ImportOptions::new().on_progress(move |progress| {
        // The callback reads, writes, imports and exports.
        let value = [format!("seen {} rows", progress.rows)];
        assert_eq!(support::track(&inner, &value), 1);
        assert!(support::has(&inner, &value[0]));
        import(&inner, &orders(["within"]));
        export(&inner, &ExportOptions::new());
        inner.delete_keys(&[Key::new(ORDERS, "within")]).unwrap();
        ControlFlow::Continue(())
    });
    for options in [options.clone(), options.commit_every(1_000)] {
        pool.clear().unwrap();
        let file = orders((0..10_000).map(|number| format!("A-{number}")));
        pool.import_csv(file.as_bytes(), &options).unwrap();
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 10_003);
        assert!(support::has(&pool, "seen 8192 rows") && support::has(&pool, "A-9999"));
    }
}

#[test]
fn an_import_may_read_from_the_pool_it_adds_to() {
    struct Asking<'a>(Pool, &'a [u8]);
    impl Read for Asking<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            support::track(&self.0, &["asked"]);
            let length = buffer.len().min(10);
            self.1.read(&mut buffer[..length])
        }
    }
    let pool = support::pool_for(Need::Any);
    let file = orders(["A-1", "A-2"]);
    pool.import_csv(Asking(pool.clone(), file.as_bytes()), &ImportOptions::new()).unwrap();
    assert_eq!(support::values(&pool), ["asked", "A-1", "A-2"]);
}

/// A reader that reports when it is being read, and returns what it is sent.
struct Awaited {
    waiting: mpsc::Sender<()>,
    input: mpsc::Receiver<Vec<u8>>,
}

impl Read for Awaited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.waiting.send(()).unwrap();
        let Ok(bytes) = self.input.recv() else { return Ok(0) };
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

#[test]
fn others_write_while_an_imports_reader_is_waited_for() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    let (waiting, waits) = mpsc::channel();
    let (give, input) = mpsc::channel();
    std::thread::scope(|scope| {
        let import = scope.spawn(|| pool.import_csv(Awaited { waiting, input }, &ImportOptions::new()));
        for bytes in ["value,entity_type_id\n", "A-1,37\n", "A-2,37\n"] {
            waits.recv().unwrap();
            support::track(&pool, &[format!("tracked before {bytes:?}")]);
            pool.delete_keys(&[Key::new(ORDERS, format!("tracked before {bytes:?}"))]).unwrap();
            pool.clear().unwrap();
            store.create_pool(datapool_store::NewPool::new(format!("made before {bytes:?}"))).unwrap();
            import_elsewhere(&store.get_or_create_pool("elsewhere").unwrap());
            assert!(!support::has(&pool, "A-1"), "an import shows nothing before it is finished");
            give.send(bytes.as_bytes().to_vec()).unwrap();
        }
        waits.recv().unwrap();
        support::track(&pool, &["A-0"]);
        drop(give);
        assert_eq!(import.join().unwrap().unwrap().added, 2);
    });
    assert_eq!(support::values(&pool), ["A-0", "A-1", "A-2"]);
}

fn import_elsewhere(pool: &Pool) {
    assert_eq!(import(pool, &orders(["A-1"])).added, 1);
}

/// A row is a duplicate if its value is live when the import takes its turn to write, not when the import
/// began.
#[test]
fn what_others_track_while_an_import_reads_is_present_for_it() {
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["A-3"]);
    let (waiting, waits) = mpsc::channel();
    let (give, input) = mpsc::channel();
    let report = std::thread::scope(|scope| {
        let skip = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
        let pool = &pool;
        let import = scope.spawn(move || pool.import_csv(Awaited { waiting, input }, &skip));
        waits.recv().unwrap();
        give.send(orders(["A-1", "A-2", "A-3"]).into_bytes()).unwrap();
        waits.recv().unwrap();
        support::track(pool, &["A-1"]);
        pool.delete_keys(&[Key::new(ORDERS, "A-3")]).unwrap();
        drop(give);
        import.join().unwrap().unwrap()
    });
    assert_eq!((report.added, report.skipped), (2, 1));
    assert_eq!(support::values(&pool), ["A-1", "A-2", "A-3"]);
}

#[test]
fn committed_parts_show_while_the_rest_is_waited_for() {
    let pool = support::pool_for(Need::Any);
    let (waiting, waits) = mpsc::channel();
    let (give, input) = mpsc::channel();
    std::thread::scope(|scope| {
        let (pool, options) = (&pool, ImportOptions::new().commit_every(2));
        let import = scope.spawn(move || pool.import_csv(Awaited { waiting, input }, &options));
        waits.recv().unwrap();
        give.send(orders(["A-1", "A-2", "A-3"]).into_bytes()).unwrap();
        waits.recv().unwrap();
        assert_eq!(support::values(pool), ["A-1", "A-2"]);
        give.send(b"A-4,order\n".to_vec()).unwrap();
        drop(give);
        let error = import.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Csv { line: 5, column: Some(2) });
        assert_eq!(error.committed_rows(), Some(2));
    });
    assert_eq!(support::values(&pool), ["A-1", "A-2"]);
}

#[test]
fn a_reader_that_fails_fails_the_import() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line is dead"))
        }
    }
    let pool = support::pool_for(Need::Any);
    let file = orders((0..20_000).map(|number| format!("A-{number}")));
    for length in [0, 10, 21, 1_000, file.len()] {
        let reader = file.as_bytes()[..length].chain(Failing);
        let error = pool.import_csv(reader, &ImportOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("the line is dead"), "{error}");
        assert_eq!(support::values(&pool), [""; 0]);
    }
    let parts = ImportOptions::new().commit_every(1_000);
    let error = pool.import_csv(file.as_bytes().chain(Failing), &parts).unwrap_err();
    let committed = error.committed_rows().unwrap();
    assert!(committed >= 19_000, "{committed} rows of 20000");
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), committed);
}

/// The rows take 24 MiB, more than an import keeps in memory.
#[test]
fn an_import_larger_than_its_buffer_goes_through_a_temporary_file_that_leaves_no_trace() {
    const ROWS: u64 = 200_000;
    let directory = TempDir::new().unwrap();
    let store = support::options().open(directory.path().join("store.redb")).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let pad = "x".repeat(100);
    let file = orders((0..ROWS).map(|number| format!("{}-{pad}", number % 190_000)));
    let skip = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
    let report = pool.import_csv(file.as_bytes(), &skip).unwrap();
    assert_eq!((report.rows, report.added, report.skipped), (ROWS, 190_000, 10_000));
    let first = support::records(&pool);
    assert!(first.iter().enumerate().all(|(number, record)| record.value == format!("{number}-{pad}")));
    // The last row is bad, so nothing is imported.
    let error = pool.import_csv(format!("{file},37\n").as_bytes(), &ImportOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Csv { line: ROWS + 2, column: Some(1) });
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 190_000);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
