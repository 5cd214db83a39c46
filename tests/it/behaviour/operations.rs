//! Proves that operations on the whole store keep their promises in corner cases: observers that panic, write
//! or break, failing disks, damage that rebuilding must not make worse, and instant recovery after each
//! operation.

use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datapool_store::testing::{Disk, Sizes};
use datapool_store::{
    DataPoolStore, Durability, ErrorKind, ImportOptions, Key, Mode, NewPool, Origin, Pool, RecordFilter,
    Recovery,
};
use redb::{ReadableTable, TableDefinition};

use crate::support::{self, Need, ORDERS, Place, is_walked, numbered, returns};

type Bytes = &'static [u8];
const META: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("meta");
const POOLS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("pools");
const TIMES: TableDefinition<'_, (u64, u32, u32), i64> = TableDefinition::new("times");

/// A disk whose syncs and writes can be made to fail.
#[derive(Debug, Clone, Default)]
struct Failing {
    memory: support::Memory,
    broken: Arc<AtomicBool>,
}

impl Failing {
    fn check(&self) -> std::io::Result<()> {
        if self.broken.load(Ordering::SeqCst) { Err(std::io::Error::other("broken")) } else { Ok(()) }
    }
}

impl Disk for Failing {
    fn len(&self) -> std::io::Result<u64> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.check()?;
        self.memory.set_len(len)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.check()?;
        self.memory.sync()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        self.memory.write(offset, data)
    }
}

/// The times of blocks whose first record was removed cannot be rebuilt, so they stay.
#[test]
fn rebuilding_a_pool_with_a_cut_head_changes_no_answer() {
    let clock = support::clock();
    let sizes = Sizes {
        segment_slots: 65_536,
        chunk_slots: 16_384,
        fold_entries: 4_096,
        tails_max_entries: 65_536,
        ..Sizes::SMALL
    };
    let store = support::embedded::in_memory(&support::options().clock(clock.clone()), sizes).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let mut times = Vec::new();
    for batch in numbered("A", 20_000).chunks(1_000) {
        support::track(&pool, batch);
        times.push(clock.now());
        clock.advance(Duration::from_secs(1));
    }
    pool.delete_records(1..=15_000).unwrap();
    pool.prune().unwrap();
    let counts = |pool: &Pool| -> Vec<u64> {
        times.iter().map(|time| pool.count(&RecordFilter::new().created_after(*time)).unwrap()).collect()
    };
    let before = counts(&pool);
    assert_eq!(store.verify().unwrap().findings, []);
    let report = store.rebuild_indexes().unwrap();
    assert_eq!(report.left, []);
    let after = counts(&pool);
    assert_eq!(store.verify().unwrap().findings, []);
    assert_eq!(before, after);
}

/// The panic resumes where the operation ends.
#[test]
fn a_panic_of_verifys_observer_is_no_damage() {
    let store = support::store_for(Need::Any);
    support::track(&store.get_or_create_pool("orders").unwrap(), &numbered("A", 200));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.verify_with_progress(|_| panic!("a bug of the caller"))
    }));
    if let Ok(report) = outcome {
        panic!("no panic, but: {report:#?}");
    }
}

#[test]
fn a_panic_of_backups_observer_is_no_damage() {
    let store = support::store_for(Need::Any);
    support::track(&store.get_or_create_pool("orders").unwrap(), &numbered("A", 200));
    let place = Place::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.backup_with_progress(&place.path, |_| panic!("a bug of the caller"))
    }));
    if let Ok(report) = outcome {
        panic!("no panic, but: {report:#?}");
    }
}

/// A call to the store from within an observer works or returns `Busy`, but never hangs.
#[test]
fn the_observer_of_a_recovery_may_call_the_store_while_it_is_reopened() {
    let disk = Failing::default();
    let slot: Arc<OnceLock<(DataPoolStore, Pool)>> = Arc::default();
    let (inner, heard) = (Arc::clone(&slot), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&heard);
    let options = support::options().on_repair_progress(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        if let Some((_store, pool)) = inner.get() {
            let _answer = pool.dedupe(Mode::Track, &["N"], |v| Key::new(ORDERS, *v), &Origin::none());
        }
        ControlFlow::Continue(())
    });
    let store = support::embedded::on_disk(disk.clone(), &options, Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    assert!(slot.set((store.clone(), pool.clone())).is_ok());
    disk.broken.store(true, Ordering::SeqCst);
    let failed = pool.dedupe(Mode::Track, &["A"], |v| Key::new(ORDERS, *v), &Origin::none()).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
    disk.broken.store(false, Ordering::SeqCst);
    let again = store.clone();
    let came_back = returns(move || again.reopen().unwrap());
    assert!(came_back, "reopen hangs; its observer was called {} times", heard.load(Ordering::SeqCst));
    assert!(heard.load(Ordering::SeqCst) > 0, "nothing was recovered: this test proves nothing");
}

/// `close()` promises that all calls fail with `Closed` from then on.
#[test]
fn a_store_closed_after_an_unknown_outcome_answers_closed() {
    let disk = Failing::default();
    let store = support::embedded::on_disk(disk.clone(), &support::options(), Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    disk.broken.store(true, Ordering::SeqCst);
    let failed = pool.dedupe(Mode::Track, &["A"], |v| Key::new(ORDERS, *v), &Origin::none()).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
    store.close().unwrap();
    assert_eq!(pool.contains(Key::new(ORDERS, "A")).unwrap_err().kind(), ErrorKind::Closed);
    let kinds = [
        ("clear", pool.clear().unwrap_err().kind()),
        ("compact", store.compact().unwrap_err().kind()),
        ("vacuum", store.vacuum().unwrap_err().kind()),
        ("verify", store.verify().unwrap_err().kind()),
        ("create_pool", store.create_pool(NewPool::new("another")).unwrap_err().kind()),
        ("rebuild", store.rebuild_indexes().unwrap_err().kind()),
    ];
    let wrong: Vec<_> = kinds.into_iter().filter(|(_, kind)| *kind != ErrorKind::Closed).collect();
    assert_eq!(wrong, []);
}

/// `held_by_readers` promises an upper bound of the bytes that cannot be reused until the readers end.
#[test]
fn what_readers_hold_is_no_more_than_the_statistics_say() {
    let (disk, store) = {
        let disk = support::Memory::default();
        let store = support::embedded::on_disk(
            disk.clone(),
            &support::options(),
            Sizes {
                segment_slots: 65_536,
                chunk_slots: 16_384,
                fold_entries: 65_536,
                tails_max_entries: 262_144,
                fold_slices: 16,
                early_seal_slots: 4_096,
            },
        )
        .unwrap();
        (disk, store)
    };
    let pool = store.get_or_create_pool("orders").unwrap();
    let long = "x".repeat(200);
    let rows: String = (0..60_000).map(|n| format!("{long}{n},37\n")).collect();
    pool.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &ImportOptions::new()).unwrap();
    store.compact().unwrap();
    let full = disk.bytes() as u64;
    let snapshot = pool.snapshot().unwrap();
    pool.clear().unwrap();
    pool.prune().unwrap();
    let held = store.stats().unwrap().held_by_readers;
    // Without the reader, the file is almost empty. With it, everything is held.
    pool.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &ImportOptions::new()).unwrap();
    drop(snapshot);
    pool.clear().unwrap();
    pool.prune().unwrap();
    store.compact().unwrap();
    let empty = disk.bytes() as u64;
    assert!(
        held >= (full - empty) / 2,
        "the statistics say that at most {held} bytes are held, of {full}; empty, the file has {empty}"
    );
}

/// If the row of a pool cannot be read, its name is known nowhere else. No new, empty pool may take its
/// place, because everything would be new in it.
#[test]
fn a_damaged_row_of_a_pool_is_left_with_its_name_and_the_rest_is_mended() {
    let place = Place::with_orders(100);
    support::track(&place.open().get_or_create_pool("others").unwrap(), &numbered("B", 100));
    place.damage(|txn| {
        txn.open_table(POOLS).unwrap().insert(1, [9, 9, 9].as_slice()).unwrap();
    });
    let store = place.open();
    assert!(!store.verify().unwrap().ok);
    let is_taken = || store.create_pool(NewPool::new("orders")).unwrap_err().kind();
    assert_eq!(is_taken(), ErrorKind::AlreadyExists);
    let rebuilt = store.rebuild_indexes().unwrap();
    assert_eq!((rebuilt.left.len(), rebuilt.pools), (1, 1));
    assert_eq!(is_taken(), ErrorKind::AlreadyExists);
    let pool = store.get_or_create_pool("orders").unwrap();
    assert_eq!(pool.count(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// The id of the next pool follows from the existing pools, so that none is overwritten.
#[test]
fn a_next_pool_id_that_is_taken_is_found() {
    let place = Place::with_orders(100);
    place.damage(|txn| {
        let mut meta = txn.open_table(META).unwrap();
        meta.insert(b"next pool id".as_slice(), 1_u64.to_le_bytes().as_slice()).map(drop).unwrap();
    });
    let store = place.open();
    let report = store.verify().unwrap();
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert_eq!(
        (report.findings[0].table.as_str(), report.findings[0].key.as_str()),
        ("meta", "next pool id")
    );
    // Nothing is overwritten until the id is repaired.
    assert_eq!(store.create_pool(NewPool::new("another")).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.rebuild_indexes().unwrap().left, []);
    assert_eq!(store.create_pool(NewPool::new("another")).unwrap().id().get(), 2);
    assert_eq!(store.verify().unwrap().findings, []);
}

/// A changed first time puts the records of a segment out of order.
#[test]
fn an_altered_first_time_that_breaks_the_order_is_found() {
    let place = Place::new();
    let store = place.open();
    let pool = store.get_or_create_pool("orders").unwrap();
    for batch in numbered("A", 200).chunks(10) {
        support::track(&pool, batch);
    }
    pool.prune().unwrap();
    drop((pool, store));
    place.damage(|txn| {
        let mut times = txn.open_table(TIMES).unwrap();
        let first = times.get((1, 0, 0)).unwrap().unwrap().value();
        // Ten years later, and so newer than the segments after it.
        times.insert((1, 0, 0), first + 315_576_000_000_000).unwrap();
    });
    let store = place.open();
    let records = support::records(&store.pool(1).unwrap());
    let sorted = records.is_sorted_by_key(|record| record.created_at);
    let report = store.verify().unwrap();
    assert!(!report.ok, "verify found nothing; the records are in time order: {sorted}");
}

/// After a verification, opening after a crash is as fast as after any other call.
#[test]
fn verifying_keeps_the_promise_of_instant_recovery() {
    for durability in [Durability::Immediate, Durability::Relaxed { flush_every: Duration::from_hours(1) }] {
        let instant = support::options().recovery(Recovery::Instant).durability(durability);
        let disk = support::Memory::default();
        let store = support::embedded::on_disk(disk.clone(), &instant, Sizes::SMALL).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        support::track(&pool, &["A-1"]);
        assert_eq!(store.verify().unwrap().findings, []);
        assert!(!is_walked(disk.copy(), &instant), "{durability:?}");
        let after = support::embedded::on_disk(disk.copy(), &instant, Sizes::SMALL).unwrap();
        assert_eq!(support::values(&after.pool_named("orders").unwrap()), ["A-1"]);
    }
}

/// Closing and opening keep the promise, too: a crash right after opening.
#[test]
fn opening_keeps_the_promise_of_instant_recovery() {
    let instant = support::options().recovery(Recovery::Instant);
    let disk = support::Memory::default();
    let store = support::embedded::on_disk(disk.clone(), &instant, Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    store.reopen().unwrap();
    assert!(!is_walked(disk.copy(), &instant), "reopened, then crashed");
    support::track(&pool, &["A-2"]);
    assert!(!is_walked(disk.copy(), &instant), "reopened, tracked, then crashed");
    store.rebuild_indexes().unwrap();
    assert!(!is_walked(disk.copy(), &instant), "rebuilt, then crashed");
}

/// A store is created with `Instant`, and its process dies before the first commit.
#[test]
fn making_a_store_keeps_the_promise_of_instant_recovery() {
    let instant = support::options().recovery(Recovery::Instant);
    let disk = support::Memory::default();
    let _store = support::embedded::on_disk(disk.clone(), &instant, Sizes::SMALL).unwrap();
    assert!(!is_walked(disk.copy(), &instant));
}

/// A vacuum writes a new file, after which the process dies.
#[test]
fn vacuuming_keeps_the_promise_of_instant_recovery() {
    let instant = support::options().recovery(Recovery::Instant);
    let place = Place::new();
    let store = place.open_with(&instant).unwrap();
    support::track(&store.get_or_create_pool("orders").unwrap(), &["A-1"]);
    store.vacuum().unwrap();
    let copy = place.path.with_file_name("copy.redb");
    fs::copy(&place.path, &copy).unwrap();
    let is_walked = support::walks(&instant, |options| {
        let after = support::embedded::open(&copy, options, Sizes::SMALL).unwrap();
        assert_eq!(support::values(&after.pool_named("orders").unwrap()), ["A-1"]);
    });
    assert!(!is_walked);
}

/// Sealed and dropped segments are counted, whoever seals or drops them.
#[test]
fn what_an_import_seals_and_drops_is_counted() {
    let store = support::store_for(Need::Any);
    let pool = store.create_pool(NewPool::new("orders").capacity(64)).unwrap();
    let before = store.stats().unwrap();
    let rows: String = (0..1_000).map(|n| format!("A-{n},37\n")).collect();
    pool.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &ImportOptions::new()).unwrap();
    let after = store.stats().unwrap();
    let numbers: Vec<u32> = pool.stats().unwrap().fill.iter().map(|fill| fill.number).collect();
    assert_eq!(after.seals - before.seals, u64::from(*numbers.last().unwrap()), "segments were sealed");
    assert_eq!(
        after.segments_dropped - before.segments_dropped,
        u64::from(numbers[0]),
        "segments were dropped"
    );
}

#[test]
fn a_compaction_that_the_disk_failed_loses_nothing() {
    let disk = Failing::default();
    let store = support::embedded::on_disk(disk.clone(), &support::options(), Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &numbered("A", 500));
    pool.delete_records(1..=400).unwrap();
    disk.broken.store(true, Ordering::SeqCst);
    // Checking the checksums fails, so nothing is moved.
    let failed = store.compact().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Storage, "{failed}");
    let read = pool.contains(Key::new(ORDERS, "A-450"));
    // While the disk fails, opening may fail, too.
    let _ = store.reopen();
    disk.broken.store(false, Ordering::SeqCst);
    store.reopen().unwrap();
    assert!(support::has(&pool, "A-450"));
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 100);
    // A read before that is right, or says to open the store again.
    match read {
        Ok(found) => assert!(found),
        Err(error) => assert!(error.to_string().contains("`reopen`"), "{error}"),
    }
}

#[test]
fn reads_go_on_after_a_verification_that_the_disk_failed() {
    let disk = Failing::default();
    let relaxed = support::options().durability(Durability::Relaxed { flush_every: Duration::from_hours(1) });
    let store = support::embedded::on_disk(disk.clone(), &relaxed, Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &numbered("A", 500));
    disk.broken.store(true, Ordering::SeqCst);
    store.verify().unwrap_err();
    let read = pool.contains(Key::new(ORDERS, "A-450"));
    assert_eq!(read.map_err(|error| error.to_string()), Ok(true));
}

#[test]
fn many_readers_do_not_keep_a_verification_waiting() {
    let store = support::store_for(Need::Any);
    let pool = store.create_pool(NewPool::new("orders").retention(Duration::from_hours(1))).unwrap();
    support::track(&pool, &numbered("A", 500));
    let done = &AtomicBool::new(false);
    let outcomes = std::thread::scope(|scope| {
        for thread in 0..16 {
            let pool = pool.clone();
            scope.spawn(move || {
                let mut n = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    n += 1;
                    assert!(support::has(&pool, "A-20"));
                    pool.count(&RecordFilter::new().flow_id("shop")).unwrap();
                    if thread < 2 {
                        support::track(&pool, &[format!("{thread}-{n}")]);
                    }
                }
            });
        }
        let mut outcomes = Vec::new();
        for _ in 0..15 {
            let verified = store.verify().map(|report| report.ok).map_err(|e| e.kind());
            let compacted = store.compact().map(drop).map_err(|e| e.kind());
            outcomes.push((verified, compacted));
        }
        done.store(true, Ordering::Relaxed);
        outcomes
    });
    let compacted = if support::is_embedded() { Ok(()) } else { Err(ErrorKind::Unsupported) };
    assert!(outcomes.iter().all(|outcome| *outcome == (Ok(true), compacted)));
}

/// `Break` at the last report stops the operation, too.
#[test]
fn a_backup_stopped_at_its_last_report_is_stopped() {
    let store = support::store_for(Need::Any);
    support::track(&store.get_or_create_pool("orders").unwrap(), &numbered("A", 200));
    let place = Place::new();
    let outcome = store.backup_with_progress(&place.path, |progress| {
        if progress.done == progress.total { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::Cancelled));
    assert!(!place.path.exists());
}

#[test]
fn verifying_twice_finds_the_same() {
    let place = Place::new();
    let store = place.open();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &numbered("A", 3_000));
    pool.prune().unwrap();
    drop((pool, store));
    let store = place.open();
    place.flip_last(b"A-1222");
    let first = store.verify().unwrap();
    assert!(!first.ok);
    let second = store.verify();
    assert!(second.is_ok(), "{second:?}");
}

/// The environment variable that makes this binary, started again under a system limit, run out of space.
const LIMITED: &str = "DATAPOOL_TEST_LIMITED";

/// A process that may not write files of more than a few hundred KiB backs up a larger store in memory.
#[cfg(unix)]
#[test]
fn a_full_destination_is_no_failure_of_the_stores_storage() {
    if std::env::var_os(LIMITED).is_none() {
        let test = "behaviour::operations::a_full_destination_is_no_failure_of_the_stores_storage";
        let limited = r#"trap "" XFSZ; ulimit -f 600; exec "$0" --exact "$1""#;
        let ran = std::process::Command::new("sh")
            .args(["-c", limited])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env(LIMITED, "yes")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    for batch in numbered(&"x".repeat(300), 6_000).chunks(500) {
        support::track(&pool, batch);
    }
    let place = Place::new();
    let error = store.backup_to(&place.path).unwrap_err();
    let left = fs::read_dir(place.path.parent().unwrap()).unwrap().count();
    assert_eq!((error.kind(), left), (ErrorKind::Io, 0));
}

/// This also holds if there are segments whose space is being reclaimed, which are not checked.
#[test]
fn progress_of_verifying_reaches_its_total() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &numbered("A", 2_000));
    pool.clear().unwrap();
    support::track(&pool, &["B-1"]);
    let mut last = None;
    let report = store
        .verify_with_progress(|progress| {
            last = Some(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(report.ok);
    let last = last.unwrap();
    assert_eq!(last.done, last.total);
}

#[test]
fn an_error_is_the_callers_or_passes_or_is_neither() {
    let neither = [
        ErrorKind::Cancelled,
        ErrorKind::LeaseLost,
        ErrorKind::Closed,
        ErrorKind::ReadOnly,
        ErrorKind::NotAStore,
        ErrorKind::UnsupportedFormat { found: 3, supported: 4 },
        ErrorKind::Corrupt,
        ErrorKind::OutcomeUnknown,
        ErrorKind::Storage,
        ErrorKind::Io,
        ErrorKind::Unsupported,
    ];
    assert!(neither.iter().all(|kind| !kind.is_caller_error() && !kind.is_retryable()));
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    let scan = pool.scan(&RecordFilter::new()).unwrap();
    let busy = store.compact().unwrap_err().kind();
    assert!(busy.is_retryable() && !busy.is_caller_error(), "{busy:?}");
    drop(scan);
    store.compact().unwrap();
}

/// What was stopped is no finding, and who breaks is not asked again.
#[test]
fn verifying_ends_at_whichever_report_its_observer_stops_it() {
    let store = support::store_for(Need::Any);
    for name in ["orders", "customers"] {
        support::track(&store.get_or_create_pool(name).unwrap(), &numbered("A", 200));
    }
    let mut reports = 0;
    let whole = store.verify_with_progress(|_| {
        reports += 1;
        ControlFlow::Continue(())
    });
    assert!(whole.unwrap().ok && reports > 1, "{reports} reports");
    for last in 1..=reports {
        let mut heard = 0;
        let stopped = store.verify_with_progress(|_| {
            heard += 1;
            if heard == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((stopped.map_err(|error| error.kind()), heard), (Err(ErrorKind::Cancelled), last));
    }
}
