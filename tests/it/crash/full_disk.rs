//! Proves that a full disk only takes away space: calls that would add are refused and change nothing;
//! reading, deleting and clearing continue; the file keeps nothing of what was refused; and once there is
//! space, everything works again without opening the store again.

use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    Durability, Error, ErrorKind, ExportOptions, ImportOptions, Key, Mode, RecordFilter, StoreOptions,
};

use crate::support::disk::{Fault, Keeping, Operation, Reason, TestDisk, Torn};
use crate::support::{self, Numbers, ORDERS};
use crate::workload::{Driver, How, Op, RELAXED};

const KB: u64 = 1_024;

/// Returns true if an operation adds nothing, and so must succeed on a full disk.
fn takes_away(op: &Op) -> bool {
    matches!(
        op,
        Op::Delete { .. }
            | Op::DeleteRecords { .. }
            | Op::DeleteKeys { .. }
            | Op::DeleteWhere { .. }
            | Op::DeleteInAll { .. }
            | Op::Clear { .. }
            | Op::DeleteFlow { .. }
            | Op::Verify
            | Op::Flush
            | Op::Reopen
            | Op::Pass { .. }
            | Op::Dedupe { mode: Mode::Filter, .. }
            | Op::Settle { how: How::Release | How::ReleaseSome(..) | How::Drop | How::HandOver, .. }
    )
}

/// Runs random operations on a disk that is full most of the time. Returns the number of refused ones.
fn live_on_a_full_disk(durability: Durability, cache: usize, keeps: Keeping, seed: u64) -> usize {
    let mut numbers = Numbers::seeded(seed);
    let mut driver = Driver::new(durability, support::options().cache_size(cache), Sizes::SMALL);
    for _ in 0..60 {
        let op = driver.any_op(&mut numbers);
        driver.run(&op);
    }
    let mut refused = 0;
    for _ in 0..12 {
        let room = [0, 0, 20, 150, 600][usize::try_from(numbers.next(5)).unwrap()] * KB;
        driver.disk.leave_room(room, keeps);
        let mut last = None;
        for _ in 0..12 {
            let op = driver.any_op(&mut numbers);
            match driver.attempt(&op) {
                // Dropping a claim's guard does not report errors.
                Ok(_) if matches!(op, Op::Settle { how: How::Drop, .. }) => driver.refused(&op),
                Ok(answer) => driver.acknowledged(&op, &answer),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "seed {seed}, {op:?}: {error}");
                    assert!(keeps == Keeping::No || !takes_away(&op), "seed {seed}, {op:?}: {error}");
                    driver.refused(&op);
                    refused += 1;
                    last = Some(op);
                }
            }
        }
        driver.is_current();
        driver.answers_agree();
        driver.disk.leave_room(64 << 20, keeps);
        // The store gets its reserve back.
        driver.run(&Op::PutFlow { id: "flow".into(), name: "a flow".into() });
        let is_there = |op: &Op| op.pool().is_none_or(|pool| driver.model().pools.contains_key(&pool));
        if let Some(op) =
            last.filter(|op| is_there(op) && !matches!(op, Op::Settle { .. } | Op::Claim { .. }))
        {
            driver.run(&op);
        }
    }
    driver.run(&Op::Verify);
    refused
}

#[test]
fn on_a_full_disk_reading_and_taking_away_go_on_and_with_room_everything_does() {
    let mut refused = 0;
    let seeds = support::runs(4, 30);
    for seed in 1..=seeds {
        for keeps in [Keeping::Yes, Keeping::No] {
            refused += live_on_a_full_disk(Durability::Immediate, 16 << 20, keeps, seed);
            refused += live_on_a_full_disk(Durability::Immediate, 64 << 10, keeps, seed);
        }
        refused += live_on_a_full_disk(RELAXED, 16 << 20, Keeping::Yes, seed);
    }
    println!("{refused} refused");
    assert!(refused as u64 > 3 * seeds);
}

#[test]
fn a_store_that_could_not_be_created_leaves_an_empty_file_that_can_be_opened() {
    let mut failures = 0;
    let mut attempt = |disk: &TestDisk, case: &str| {
        let is_open = disk.open(&support::options()).is_ok();
        if !is_open {
            failures += 1;
            assert_eq!(disk.bytes(), b"", "{case}");
        }
        disk.heal();
        disk.leave_room(64 << 20, Keeping::Yes);
        support::track(
            &disk.open(&support::options()).unwrap().get_or_create_pool("orders").unwrap(),
            &["A-1"],
        );
        is_open
    };
    for operation in [Operation::Write, Operation::Sync, Operation::SetLen] {
        for after in 0.. {
            let disk = TestDisk::default();
            let (torn, reason) = (Torn::Half, Reason::Full);
            disk.fail(Fault { operation, after, forever: false, torn, reason });
            if attempt(&disk, &format!("{operation:?} {after}")) && !disk.failed() {
                break;
            }
        }
    }
    for pages in 0..40 {
        let disk = TestDisk::default();
        disk.leave_room(pages * 4 * KB, Keeping::No);
        attempt(&disk, &format!("{pages} pages"));
    }
    assert!(failures > 10, "{failures}");
}

fn csv(rows: u32) -> String {
    let rows: String = (0..rows).map(|row| format!("value number {row},37\n")).collect();
    format!("value,entity_type_id\n{rows}")
}

/// Returns a fault by which a write finds no place, or all writes from then on.
fn no_place(after: usize, forever: bool) -> Fault {
    Fault { operation: Operation::Write, after, forever, torn: Torn::Nothing, reason: Reason::Full }
}

#[test]
fn a_store_that_cannot_open_its_file_again_either_is_closed_until_it_is_reopened() {
    let (mut refused, mut closed) = (0, 0);
    for after in 0..60 {
        let disk = TestDisk::default();
        let store = disk.open(&support::options()).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        support::track(&pool, &["A-1"]);
        // Nothing can be written, not even where the file has space.
        disk.fail(no_place(after, true));
        let claim = pool.claim(
            &["A-2"],
            |value| Key::new(ORDERS, *value),
            &support::origin(),
            Duration::from_mins(1),
        );
        // Dropping it does not report errors.
        drop(claim);
        let was_refused = disk.failed();
        disk.heal();
        match pool.contains(Key::new(ORDERS, "A-1")) {
            Ok(is_there) => assert!(is_there, "{after}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed, "{after}");
                assert!(was_refused);
                closed += 1;
            }
        }
        refused += usize::from(was_refused);
        store.reopen().unwrap();
        assert_eq!(support::values(&pool), ["A-1"], "{after}");
        support::track(&pool, &["A-2"]);
    }
    println!("{refused} refused, {closed} closed");
    assert!(closed > 0 && refused > closed && refused < 60);
}

#[test]
fn what_was_deleted_stays_deleted_if_its_space_cannot_be_given_back() {
    let (mut refused, mut deleted) = (0, 0);
    for after in 0..80 {
        let disk = TestDisk::default();
        let store = disk.open(&support::options()).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        let other = store.get_or_create_pool("other").unwrap();
        pool.import_csv(csv(400).as_bytes(), &ImportOptions::new()).unwrap();
        support::track(&other, &["A-1"]);
        disk.leave_room(0, Keeping::Yes);
        // The store learns that the disk is full.
        let adding = pool.import_csv(csv(4_000).as_bytes(), &ImportOptions::new()).unwrap_err();
        assert_eq!(adding.kind(), ErrorKind::StorageFull);
        // One page finds no place.
        disk.fail(no_place(after, false));
        let cleared = pool.clear();
        let failed = disk.failed();
        disk.heal();
        // The header always has a place, so a failure to write it is not taken for a full disk.
        let header_failed = |error: &Error| error.kind() == ErrorKind::OutcomeUnknown;
        let left = match cleared {
            Ok(count) => {
                assert_eq!(count, 400, "{after}");
                deleted += usize::from(failed);
                0
            }
            Err(error) if header_failed(&error) => continue,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{after}");
                refused += 1;
                400
            }
        };
        // The next calls do not notice it.
        match pool.prune() {
            Ok(_) => {}
            Err(error) if header_failed(&error) => continue,
            Err(error) => panic!("{after}: {error}"),
        }
        assert_eq!(support::values(&pool).len(), left, "{after}");
        assert_eq!(support::values(&other), ["A-1"], "{after}");
        assert_eq!(other.clear().unwrap(), 1, "{after}");
    }
    println!("{refused} refused, {deleted} deleted");
    assert!(refused > 0 && deleted > 0);
}

#[test]
fn an_import_in_parts_that_finds_no_room_says_what_stays() {
    for durability in [Durability::Immediate, RELAXED] {
        let disk = TestDisk::default();
        let store = disk.open(&support::options().durability(durability)).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        disk.leave_room(2 << 20, Keeping::Yes);
        let options = ImportOptions::new().commit_every(1_000);
        let error = pool.import_csv(csv(100_000).as_bytes(), &options).unwrap_err();
        let rows = error.committed_rows().unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        assert!(rows >= 1_000 && rows % 1_000 == 0, "{rows}");
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), rows);
        assert!(error.to_string().starts_with(&format!("{rows} rows were added and stay")), "{error}");
        // If nothing was added, the message is the same as for any other call.
        let error = pool.import_csv(csv(100_000).as_bytes(), &options).unwrap_err();
        assert_eq!((error.committed_rows(), error.kind()), (Some(0), ErrorKind::StorageFull), "{error}");
        assert!(error.to_string().contains("nothing was changed"), "{error}");
    }
}

#[test]
fn the_file_keeps_nothing_of_an_import_that_found_no_room() {
    for keeps in [Keeping::Yes, Keeping::No] {
        for cache in [16 << 20, 64 << 10] {
            let disk = TestDisk::default();
            let store = disk.open(&support::options().cache_size(cache)).unwrap();
            let pool = store.get_or_create_pool("orders").unwrap();
            support::track(&pool, &["A-1"]);
            disk.leave_room(2 << 20, keeps);
            let (taken, length) = (disk.taken(), disk.bytes().len());
            for _ in 0..support::runs(1, 3) {
                let error = pool.import_csv(csv(100_000).as_bytes(), &ImportOptions::new()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{keeps:?}: {error}");
                assert!(disk.taken() <= taken + 64 * KB, "{keeps:?}: {taken} and then {}", disk.taken());
                assert!(
                    disk.bytes().len() <= length * 2,
                    "{keeps:?}: {length} and then {}",
                    disk.bytes().len()
                );
                assert_eq!(support::values(&pool), ["A-1"]);
                support::track(&pool, &["A-1"]);
            }
            store.compact().unwrap();
            assert_eq!(store.verify().unwrap().findings, []);
            pool.clear().unwrap();
            assert_eq!(support::track(&pool, &["A-1"]), 1);
        }
    }
}

#[test]
fn the_file_of_a_killed_import_is_cut_when_it_is_opened() {
    let disk = TestDisk::default();
    let options = support::options().cache_size(64 << 10);
    let store = disk.open(&options).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let length = disk.bytes().len();
    disk.fail(Fault::power(1_500));
    pool.import_csv(csv(50_000).as_bytes(), &ImportOptions::new()).unwrap_err();
    let killed = disk.bytes();
    assert!(killed.len() > 4 * length, "{} of {length}", killed.len());
    let disk = TestDisk::holding(killed);
    let pool = disk.open(&options).unwrap().pool_named("orders").unwrap();
    assert!(disk.bytes().len() <= length, "{} of {length}", disk.bytes().len());
    assert_eq!(support::values(&pool), ["A-1"]);
}

/// Runs where a small file system can be mounted. The process runs the test again in its own mount namespace.
#[cfg(target_os = "linux")]
#[test]
fn on_a_real_file_system_that_is_full() {
    use std::process::Command;
    const INSIDE: &str = "DATAPOOL_SMALL_FILE_SYSTEM";
    if let Ok(directory) = std::env::var(INSIDE) {
        return fill_a_file_system(std::path::Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=1m datapool "$1" || exit 77; shift; exec "$@""#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]).arg(directory.path());
    unshare.arg(std::env::current_exe().unwrap());
    unshare.args(["--exact", "crash::full_disk::on_a_real_file_system_that_is_full", "--nocapture"]);
    let Ok(run) = unshare.env(INSIDE, directory.path()).output() else {
        return println!("not tested: there is no `unshare`");
    };
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    if run.status.code() == Some(77) || text.starts_with("unshare:") {
        return println!("not tested: nothing can be mounted here: {text}");
    }
    assert!(run.status.success(), "{}{text}", String::from_utf8_lossy(&run.stdout));
}

/// Runs in a file system of 1 MiB.
#[cfg(target_os = "linux")]
fn fill_a_file_system(directory: &std::path::Path) {
    let path = directory.join("full.redb");
    let store = StoreOptions::new().open(&path).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let snapshot = pool.snapshot().unwrap();
    let error = pool.import_csv(csv(200_000).as_bytes(), &ImportOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    // Rows that do not fit in memory go to a temporary file beside the store.
    let error = pool.import_csv(csv(800_000).as_bytes(), &ImportOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(error.to_string().contains("temporary file in"), "{error}");
    let mut tracked = 0;
    let full = loop {
        let values: Vec<String> = (tracked..tracked + 100).map(|number| format!("B-{number}")).collect();
        let key = |value: &'_ String| datapool_store::Key::new(37, value.clone());
        match pool.dedupe(Mode::Track, &values, key, &support::origin()) {
            Ok(_) => tracked += 100,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    assert!(full.kind().is_retryable() && !full.kind().is_caller_error());
    assert!(full.to_string().contains("No space left on device"), "{full}");
    assert_eq!(support::values(&pool).len(), tracked + 1);
    assert_eq!(snapshot.count(&RecordFilter::new()).unwrap(), 1);
    drop(snapshot);
    assert_eq!(store.verify().unwrap().findings, []);
    // A file of another program takes the remaining space.
    let ballast = directory.join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 1 << 20]);
    let backup = store.backup_to(directory.join("copy.redb")).unwrap_err();
    assert_eq!(backup.kind(), ErrorKind::Io, "{backup}");
    let export = pool.export_csv_path(directory.join("all.csv"), &ExportOptions::new()).unwrap_err();
    assert_eq!(export.kind(), ErrorKind::Io, "{export}");
    assert!(backup.to_string().contains("No space left") && export.to_string().contains("No space left"));
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(
        names.collect::<std::collections::BTreeSet<_>>(),
        ["ballast".into(), "full.redb".into()].into()
    );
    assert_eq!(pool.delete_where(&RecordFilter::new().value("B-7")).unwrap(), 1);
    assert_eq!(support::values(&pool).len(), tracked);
    // Deleting frees space within the file. If nothing else returns it to the disk, compacting does.
    pool.clear().unwrap();
    store.compact().unwrap();
    assert_eq!(support::track(&pool, &["A-1"]), 1);
    std::fs::remove_file(&ballast).unwrap();
    pool.clear().unwrap();
    assert_eq!(support::track(&pool, &["A-2"]), 1);
    store.compact().unwrap();
    drop((pool, store));
    let pool = StoreOptions::new().open(&path).unwrap().pool_named("orders").unwrap();
    assert_eq!(support::values(&pool), ["A-2"]);
}

/// A closed store has its reserve, too, and another program may take any space that becomes free.
#[test]
fn deleting_goes_on_in_a_store_that_is_opened_on_a_full_disk_and_while_the_disk_is_filled_again() {
    for records in [100, 1_000, 5_000] {
        let disk = TestDisk::default();
        let store = disk.open(&support::options()).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        support::track(&pool, &support::numbered("A", records));
        drop((pool, store));
        disk.leave_room(0, Keeping::Yes);
        let store = disk.open(&support::options()).unwrap();
        let pool = store.pool_named("orders").unwrap();
        for id in 1..=20 {
            disk.leave_room(0, Keeping::Yes);
            assert_eq!(pool.delete_records([id]).unwrap(), 1, "{records} records");
        }
        disk.leave_room(0, Keeping::Yes);
        assert_eq!(pool.clear().unwrap(), records as u64 - 20);
        disk.leave_room(0, Keeping::Yes);
        store.delete_pool(pool.id()).unwrap();
        assert_eq!(store.verify().unwrap().findings, []);
    }
}
