//! Proves that a store under long, concurrent use of all kinds reaches a steady state: no call fails, neither
//! memory nor the file keeps growing, and at the end every index agrees with the records.
//!
//! By default it runs for a few hundred batches. `DATAPOOL_SOAK_MINUTES` sets a duration instead; then the
//! measurements in the last third are compared with those in the middle third.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use datapool_store::{
    DataPoolStore, ExportOptions, ImportOptions, Key, ManualClock, Mode, NewPool, OnDuplicate, Origin, Pool,
    RecordFilter, RecordQuery, RecordSort,
};
use tempfile::TempDir;

use crate::support::{self, Numbers, ORDERS};

const RETENTION: Duration = Duration::from_hours(1);
/// The time by which the clock advances per batch. The pool keeps 360 batches.
const STEP: Duration = Duration::from_secs(10);
const BATCH: u64 = 100;
const CAPACITY: u64 = 20_000;
const DEFAULT_BATCHES: u64 = 300;
const SAMPLE_EVERY_BATCHES: u64 = 50;

/// One store, and the data that all its users share.
struct Soak {
    store: DataPoolStore,
    clock: ManualClock,
    /// A pool with a retention of one hour.
    busy: Pool,
    /// A pool with a capacity.
    bounded: Pool,
    /// A pool that is cleared now and then.
    cleared: Pool,
    batches: AtomicU64,
    is_over: AtomicBool,
    directory: TempDir,
    /// Resident memory and the file's length, in bytes.
    samples: Mutex<Vec<[u64; 2]>>,
}

#[allow(clippy::ptr_arg, reason = "so it is handed on by what takes a slice of them")]
fn key(value: &String) -> Key<'_> {
    Key::new(ORDERS, value.as_str())
}

impl Soak {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Tracks new values, and again some that may still be there. Sets the pace for all.
    fn dedupe(&self, until: &dyn Fn(u64) -> bool) {
        let mut numbers = Numbers::seeded(1);
        while until(self.batches.load(Ordering::Relaxed)) {
            let batch = self.batches.fetch_add(1, Ordering::Relaxed);
            self.clock.advance(STEP);
            let origin = Origin::new("soak", format!("run {batch}"), format!("step {}", batch % 7));
            let again = batch.saturating_sub(numbers.next(500));
            let new = (0..BATCH).map(|item| format!("{batch}-{item}"));
            let values: Vec<String> = new.chain((0..20).map(|item| format!("{again}-{item}"))).collect();
            let verdicts = self.busy.dedupe(Mode::FilterAndTrack, &values, key, &origin).unwrap();
            assert!(verdicts.new_count() >= BATCH as usize, "{batch}");
            let _ = self.bounded.dedupe(Mode::Track, &values, key, &origin).unwrap();
            assert!(self.bounded.count(&RecordFilter::new()).unwrap() <= CAPACITY);
            if batch.is_multiple_of(SAMPLE_EVERY_BATCHES) {
                let file = self.store.stats().unwrap().file_size;
                self.samples.lock().unwrap().push([resident(), file]);
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn claim(&self) {
        let (mut numbers, mut number) = (Numbers::seeded(2), 0_u64);
        while self.goes_on() {
            number += 1;
            let values: Vec<String> = (0..10).map(|item| format!("claimed {number}-{item}")).collect();
            let mut claim = self.busy.claim(&values, key, &Origin::none(), Duration::from_mins(1)).unwrap();
            assert_eq!(claim.held_count(), 10);
            match numbers.next(4) {
                0 => drop(claim),
                1 => assert!(claim.release().unwrap() <= 10),
                // The lease expires, and the claim is swept.
                2 => drop(claim.into_token()),
                _ => drop(claim.confirm().unwrap()),
            }
        }
    }

    fn import_and_delete(&self) {
        let (mut numbers, mut number) = (Numbers::seeded(3), 0_u64);
        while self.goes_on() {
            number += 1;
            let rows: String = (0..500).map(|_| format!("imported {},37\n", numbers.next(3_000))).collect();
            let options = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
            self.cleared.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &options).unwrap();
            let doomed: Vec<String> = (0..50).map(|_| format!("imported {}", numbers.next(3_000))).collect();
            self.cleared.delete_keys(&doomed.iter().map(key).collect::<Vec<_>>()).unwrap();
            let filter =
                RecordFilter::new().flow_run_id(format!("run {}", self.batches.load(Ordering::Relaxed)));
            self.bounded.delete_where(&filter).unwrap();
            if number.is_multiple_of(20) {
                self.cleared.clear().unwrap();
            }
        }
    }

    fn read(&self) {
        let newest = RecordQuery::new().sort(RecordSort::Descending).per_page(100).entity_type_id(ORDERS);
        while self.goes_on() {
            let scanned = self.busy.scan(&RecordFilter::new()).unwrap();
            let ids: Vec<u64> = scanned.map(|record| record.unwrap().id.get()).collect();
            assert!(ids.is_sorted());
            let page = self.busy.records(&newest).unwrap();
            let values: Vec<String> = page.data.into_iter().map(|record| record.value).collect();
            self.busy.contains_many(&values.iter().map(key).collect::<Vec<_>>()).unwrap();
            self.bounded.export_csv(std::io::sink(), &ExportOptions::new()).unwrap();
        }
    }

    fn back_up(&self) {
        let path = self.directory.path().join("copy.redb");
        while self.goes_on() {
            self.store.backup_to(&path).unwrap();
            fs::remove_file(&path).unwrap();
        }
    }
}

/// Returns the resident memory of this process in bytes, or 0 if the system does not report it.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4_096
}

/// Returns the number of used bytes in the file of a closed store.
fn in_use(file: PathBuf) -> u64 {
    let stats = redb::Database::open(file).unwrap().begin_write().unwrap().stats().unwrap();
    stats.allocated_pages() * stats.page_size() as u64
}

#[test]
fn a_store_that_is_used_for_long_levels_off() {
    let minutes: Option<u64> =
        std::env::var("DATAPOOL_SOAK_MINUTES").ok().map(|minutes| minutes.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let clock = support::clock();
    let store = support::options().clock(clock.clone()).open(directory.path().join("pools.redb")).unwrap();
    let busy = store.create_pool(NewPool::new("busy").retention(RETENTION)).unwrap();
    let bounded = store.create_pool(NewPool::new("bounded").capacity(CAPACITY)).unwrap();
    let cleared = store.get_or_create_pool("cleared").unwrap();
    let idle = store.get_or_create_pool("idle").unwrap();
    let at_rest: Vec<String> = (0..5_000).map(|number| format!("at rest {number}")).collect();
    support::track(&idle, &at_rest);
    let (batches, is_over, samples) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
    let soak = Soak { store, clock, busy, bounded, cleared, batches, is_over, directory, samples };
    let started = Instant::now();
    let until: Box<dyn Fn(u64) -> bool + Sync> = match minutes {
        Some(minutes) => Box::new(move |_| started.elapsed() < Duration::from_secs(60 * minutes)),
        None => Box::new(|batches| batches < DEFAULT_BATCHES),
    };
    thread::scope(|scope| {
        // A panic in one thread stops all of them.
        let guarded = |work: &(dyn Fn() + Sync)| {
            struct End<'a>(&'a AtomicBool);
            impl Drop for End<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
            let _end = End(&soak.is_over);
            work();
        };
        let (soak, until) = (&soak, &until);
        scope.spawn(move || guarded(&|| soak.dedupe(&|batches| soak.goes_on() && until(batches))));
        scope.spawn(move || guarded(&|| soak.claim()));
        scope.spawn(move || guarded(&|| soak.import_and_delete()));
        scope.spawn(move || guarded(&|| soak.read()));
        scope.spawn(move || guarded(&|| soak.back_up()));
    });
    let kept = RETENTION.as_secs() / STEP.as_secs() * BATCH;
    let live = soak.busy.count(&RecordFilter::new()).unwrap();
    assert!(live <= kept * 3, "{live} records are live; an hour has {kept}, and claims add some");
    assert_eq!(support::values(&idle), at_rest);
    assert_eq!(soak.store.verify().unwrap().findings, []);
    let samples = soak.samples.into_inner().unwrap();
    let stats = soak.store.stats().unwrap();
    eprintln!(
        "soak: {} batches, {} commits, {} bytes written",
        soak.batches.into_inner(),
        stats.commits,
        stats.bytes_written
    );
    // The bytes in use when nothing is left to reclaim, compared with a copy that has only live data.
    soak.busy.prune().unwrap();
    soak.bounded.prune().unwrap();
    let [file, copy] = ["pools.redb", "copy.redb"].map(|name| soak.directory.path().join(name));
    soak.store.backup_to(&copy).unwrap();
    soak.store.close().unwrap();
    let [used, needed] = [file, copy].map(in_use);
    eprintln!("soak: {used} bytes in use at the end, {needed} in a copy");
    assert!(used <= 2 * needed, "{used} bytes are in use, but a copy needs only {needed}");
    if minutes.is_some() {
        let third = samples.len() / 3;
        // The file may double once, even late in the test, if a reader holds more than ever before.
        for (what, index, eighths) in [("memory", 0, 9), ("the file", 1, 16)] {
            let most = |samples: &[[u64; 2]]| samples.iter().map(|sample| sample[index]).max().unwrap();
            let (middle, last) = (most(&samples[third..2 * third]), most(&samples[2 * third..]));
            eprintln!("soak: {what} at most {middle} bytes in the middle third, {last} in the last");
            assert!(last <= middle * eighths / 8, "{what} grew from {middle} to {last} bytes");
        }
    }
}
