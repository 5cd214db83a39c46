//! Proves what an export writes, that its file is complete or absent, and that it delays no other caller.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datapool_store::{
    CellQuoting, EntityTypeId, ErrorKind, ExportColumns, ExportOptions, Key, Mode, Origin, Pool, RecordFilter,
};
use tempfile::TempDir;

use crate::behaviour::csv::{export, import, orders};
use crate::support::{self, CUSTOMERS, Need};

/// Creates a pool with two records that have an origin and one that has none, at known times.
fn known_pool() -> Pool {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1", "a, \"b\"\nc"]);
    clock.advance(Duration::from_micros(1_500_001));
    let origin = Origin::none().with_run("=run");
    let _ = pool.dedupe(Mode::Track, &["-1"], |value| Key::new(CUSTOMERS, *value), &origin).unwrap();
    import(&pool, "value,entity_type_id\n@home,4294967295\n");
    pool
}

#[test]
fn an_export_has_the_values_and_their_types_oldest_first() {
    let file = export(&known_pool(), &ExportOptions::new());
    assert_eq!(file, "value,entity_type_id\nA-1,37\n\"a, \"\"b\"\"\nc\",37\n-1,47\n@home,4294967295\n");
}

#[test]
fn a_full_export_says_where_each_record_came_from_and_when() {
    let file = export(&known_pool(), &ExportOptions::new().columns(ExportColumns::Full));
    let expected = "value,entity_type_id,id,flow_id,flow_run_id,step_id,version,created_at\n\
        A-1,37,1,shop,run 1,read orders,,2013-01-01T00:00:00.000000Z\n\
        \"a, \"\"b\"\"\nc\",37,2,shop,run 1,read orders,,2013-01-01T00:00:00.000000Z\n\
        -1,47,3,,=run,,,2013-01-01T00:00:01.500001Z\n\
        @home,4294967295,4,,,,,2013-01-01T00:00:01.500001Z\n";
    assert_eq!(file, expected);
}

#[test]
fn an_export_of_an_empty_pool_is_its_header_and_imports() {
    let pool = support::pool_for(Need::Any);
    let file = export(&pool, &ExportOptions::new());
    assert_eq!(file, "value,entity_type_id\n");
    assert_eq!(import(&pool, &file).rows, 0);
}

#[test]
fn a_spreadsheet_safe_export_has_no_cell_that_begins_like_a_formula() {
    let options = ExportOptions::new().columns(ExportColumns::Full).quoting(CellQuoting::SpreadsheetSafe);
    let file = export(&known_pool(), &options);
    assert!(file.contains("\n'-1,47,3,,'=run,,"), "{file}");
    assert!(file.contains("\n'@home,"), "{file}");
    assert!(file.contains("\nA-1,37,1,shop,"), "{file}");
    let pool = support::pool_for(Need::Any);
    let values = ["=1+1", "+1", "-1", "@a", "\ta", "\ra", "a=1", "'=1", "=a,\"b\""];
    support::track(&pool, &values);
    let file = export(&pool, &ExportOptions::new().quoting(CellQuoting::SpreadsheetSafe));
    import(&pool, &file);
    let written = &support::values(&pool)[values.len()..];
    assert_eq!(written, ["'=1+1", "'+1", "'-1", "'@a", "'\ta", "'\ra", "a=1", "'=1", "'=a,\"b\""]);
}

#[test]
fn an_export_takes_a_filter() {
    let pool = known_pool();
    let mut file = Vec::new();
    let filter = RecordFilter::new().entity_type_id(CUSTOMERS).entity_type_id(EntityTypeId::new(u32::MAX));
    let report = pool.export_csv(&mut file, &ExportOptions::new().filter(filter)).unwrap();
    assert_eq!(
        (report.rows, file.as_slice()),
        (2, b"value,entity_type_id\n-1,47\n@home,4294967295\n".as_slice())
    );
    let bad = ExportOptions::new().filter(RecordFilter::new().value(""));
    assert_eq!(pool.export_csv(Vec::new(), &bad).unwrap_err().kind(), ErrorKind::InvalidQuery);
}

#[test]
fn a_writer_that_fails_fails_the_export() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::Error::other("no space")) } else { Ok(taken) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let pool = support::pool_for(Need::Any);
    import(&pool, &orders(0..20_000));
    for room in [0, 10, 100_000] {
        let error = pool.export_csv(Full(room), &ExportOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("no space"), "{error}");
    }
    pool.export_csv(Full(1_000_000), &ExportOptions::new()).unwrap();
}

#[test]
fn an_export_to_a_path_replaces_the_file_as_a_whole() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("out.csv");
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["A-1"]);
    pool.export_csv_path(&path, &ExportOptions::new()).unwrap();
    let mut reader = File::open(&path).unwrap();
    support::track(&pool, &["A-2"]);
    assert_eq!(pool.export_csv_path(&path, &ExportOptions::new()).unwrap().rows, 2);
    let mut old = String::new();
    reader.read_to_string(&mut old).unwrap();
    assert_eq!(old, orders(["A-1"]), "a reader of the old file still sees the old file");
    assert_eq!(fs::read_to_string(&path).unwrap(), orders(["A-1", "A-2"]));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn an_export_that_fails_leaves_the_old_file_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("out.csv");
    fs::write(&path, "old").unwrap();
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    store.delete_pool(pool.id()).unwrap();
    let error = pool.export_csv_path(&path, &ExportOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    let pool = support::pool_for(Need::Any);
    for path in [directory.path().join("none/out.csv"), directory.path().to_owned()] {
        let error = pool.export_csv_path(&path, &ExportOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn an_export_onto_the_stores_own_file_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let pool = support::options().open(&path).unwrap().get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let before = fs::read(&path).unwrap();
    let mut paths = vec![path.clone(), directory.path().join("./store.redb")];
    #[cfg(unix)]
    {
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        paths.push(link);
    }
    for target in paths {
        let error = pool.export_csv_path(&target, &ExportOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(fs::read(&path).unwrap() == before, "the store's file changed");
    }
    support::track(&pool, &["A-2"]);
    drop(pool);
    let pool = support::options().open(&path).unwrap().pool_named("orders").unwrap();
    assert_eq!(support::values(&pool), ["A-1", "A-2"]);
}

#[test]
fn an_export_while_others_write_has_what_was_there_throughout_and_nothing_newer() {
    struct Writing<'a>(&'a Pool, Vec<u8>);
    impl Write for Writing<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            support::track(self.0, &[format!("new {}", self.1.len())]);
            let last = self.0.count(&RecordFilter::new()).unwrap();
            self.0.delete_records([last / 2]).unwrap();
            self.1.extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let pool = support::pool_for(Need::Any);
    import(&pool, &orders((0..40_000).map(|number| format!("A-{number}"))));
    let before: BTreeSet<String> = support::values(&pool).into_iter().collect();
    let mut writer = Writing(&pool, Vec::new());
    let report = pool.export_csv(&mut writer, &ExportOptions::new()).unwrap();
    let copy = support::pool_for(Need::Any);
    import(&copy, std::str::from_utf8(&writer.1).unwrap());
    let exported = support::values(&copy);
    assert_eq!(exported.len() as u64, report.rows);
    let exported: BTreeSet<String> = exported.into_iter().collect();
    assert_eq!(exported.len() as u64, report.rows, "a record was exported twice");
    assert!(exported.is_subset(&before), "the export has a record newer than its start");
    let throughout = |value: &String| before.contains(value);
    assert!(
        support::values(&pool).iter().filter(|value| throughout(value)).all(|value| exported.contains(value))
    );
}

#[cfg(unix)]
#[test]
fn an_export_through_a_link_replaces_what_it_leads_to_and_a_device_stays_a_device() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let directory = TempDir::new().unwrap();
    let (target, link) = (directory.path().join("target.csv"), directory.path().join("link.csv"));
    fs::write(&target, "old").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&target, &link).unwrap();
    let pool = known_pool();
    pool.export_csv_path(&link, &ExportOptions::new()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().starts_with("value,entity_type_id"));
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    // A link whose target does not exist yet, and one that leads there through another, relative link.
    let (later, first) = (directory.path().join("later.csv"), directory.path().join("first.csv"));
    symlink("later.csv", &first).unwrap();
    let latest = directory.path().join("latest.csv");
    symlink(&first, &latest).unwrap();
    pool.export_csv_path(&latest, &ExportOptions::new()).unwrap();
    assert!([&first, &latest].iter().all(|link| fs::symlink_metadata(link).unwrap().is_symlink()));
    assert!(fs::symlink_metadata(&later).unwrap().is_file());
    let device = directory.path().join("device");
    symlink("/dev/null", &device).unwrap();
    pool.export_csv_path(&device, &ExportOptions::new()).unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(
        pool.export_csv_path(directory.path(), &ExportOptions::new()).unwrap_err().kind(),
        ErrorKind::Io
    );
}

#[test]
fn an_exports_observer_hears_how_far_it_is_may_call_the_store_and_can_stop_it() {
    let pool = support::pool_for(Need::Any);
    let values: Vec<String> = (0..9_000).map(|number| format!("A-{number}")).collect();
    support::track(&pool, &values);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (list, seen) = (Arc::clone(&heard), pool.clone());
    let options = ExportOptions::new().on_progress(move |progress| {
        support::track(&seen, &[format!("meanwhile {}", progress.done)]);
        list.lock().unwrap().push((progress.done, progress.total));
        ControlFlow::Continue(())
    });
    let mut file = Vec::new();
    pool.export_csv(&mut file, &options).unwrap();
    assert_eq!(*heard.lock().unwrap(), [(4_096, 9_000), (8_192, 9_000), (9_000, 9_000)]);
    assert_eq!(String::from_utf8(file).unwrap().lines().count(), 9_001);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.csv");
    let stopping = ExportOptions::new().on_progress(|_| ControlFlow::Break(()));
    let error = pool.export_csv_path(&path, &stopping).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
}

/// Several threads read slices directly from the segments. The file must equal what the `csv` crate writes
/// for a scan.
#[test]
fn an_export_of_many_slices_is_what_a_scan_has() {
    let pool = support::pool_for(Need::Any);
    let pieces = ["plain", "a,b", "\"", "line\nbreak", "\r", "ü", " ", "'", "=1", "\t"];
    let mut numbers = support::Numbers::seeded(5);
    for batch in 0..40_u64 {
        let value = |number: u64| format!("{}{batch}-{number}", pieces[(number % 10) as usize]);
        let values: Vec<String> = (0..300).map(value).collect();
        let origin = Origin::new(format!("flow;{}", batch % 3), format!("run \"{batch}\""), "step");
        let key = |value: &'_ String| Key::new((value.len() % 3) as u32 * 1_000_003, value.clone());
        let _ = pool.dedupe(Mode::Track, &values, key, &origin).unwrap();
    }
    let doomed: Vec<u64> = (0..3_000).map(|_| 1 + numbers.next(12_000)).collect();
    pool.delete_records(doomed.iter().copied()).unwrap();
    pool.delete_records(4_000..4_200).unwrap();
    let filters = [
        RecordFilter::new(),
        RecordFilter::new().entity_type_id(1_000_003),
        RecordFilter::new().flow_id("flow;1").entity_type_id(0).entity_type_id(2_000_006),
        RecordFilter::new().value("plain39-290"),
        RecordFilter::new().flow_id("nobody's"),
    ];
    for filter in filters {
        for columns in [ExportColumns::Importable, ExportColumns::Full] {
            let mut expected = csv::Writer::from_writer(Vec::new());
            let full = columns == ExportColumns::Full;
            let header = [
                "value",
                "entity_type_id",
                "id",
                "flow_id",
                "flow_run_id",
                "step_id",
                "version",
                "created_at",
            ];
            expected.write_record(&header[..if full { 8 } else { 2 }]).unwrap();
            for record in pool.scan(&filter).unwrap() {
                let record = record.unwrap();
                let mut row = vec![record.value, record.entity_type_id.to_string()];
                if full {
                    row.push(record.id.to_string());
                    row.push(record.flow_id.map(|id| id.to_string()).unwrap_or_default());
                    row.push(record.flow_run_id.map(|id| id.to_string()).unwrap_or_default());
                    row.push(record.step_id.map(|id| id.to_string()).unwrap_or_default());
                    row.push(record.version.map(|version| version.to_string()).unwrap_or_default());
                    row.push(record.created_at.to_string());
                }
                expected.write_record(&row).unwrap();
            }
            let mut file = Vec::new();
            let options = ExportOptions::new().filter(filter.clone()).columns(columns);
            let report = pool.export_csv(&mut file, &options).unwrap();
            assert_eq!(report.rows, pool.count(&filter).unwrap());
            let expected = expected.into_inner().unwrap();
            assert!(file == expected, "{filter:?}, {columns:?}: {} and {} bytes", file.len(), expected.len());
        }
    }
}

/// If the reader is slow, the writer buffers what it was given. That must not be much, even if the values are
/// long.
#[test]
fn a_writer_gets_no_more_than_64_kib_at_once() {
    struct Longest(usize);
    impl Write for Longest {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.max(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &(0..300).map(|number| format!("{number:04000}")).collect::<Vec<_>>());
    let mut longest = Longest(0);
    pool.export_csv(&mut longest, &ExportOptions::new()).unwrap();
    assert_eq!(longest.0, 64 << 10);
}
