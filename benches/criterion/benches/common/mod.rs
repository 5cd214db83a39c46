//! Shared by the benches: the data sets of the design's section 8, and stores that contain them.
//!
//! Every run has the same rows, origins and hash key. Stores are files in a temporary directory, so that
//! commits have their real cost on disk.

#![allow(dead_code, reason = "each bench uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that fails may stop where it stands"
)]
#![allow(clippy::cast_possible_truncation, reason = "rows and random numbers stay far below 2^32")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use datapool_store::{
    DataPoolStore, Durability, ImportOptions, Key, Mode, Origin, Pool, RecordFilter, StoreOptions,
};
use tempfile::TempDir;

/// The sizes of the measured pools, with their names.
pub(crate) const SIZES: [(usize, &str); 2] = [(10_000, "10K"), (1_000_000, "1M")];
/// The number of records that a flow run tracks.
pub(crate) const RUN_RECORDS: usize = 1_000;

pub(crate) const ENTITY_TYPES: [u32; 6] = [37, 47, 54, 61, 68, 75];
pub(crate) const FLOWS: usize = 20;
/// The number of steps: three for each flow.
pub(crate) const STEPS: usize = 60;

// ---- Rows -----------------------------------------------------------------------------------------------------

/// The form of the values in a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// 20 to 40 random characters, in random order.
    Random,
    /// Numbered consecutively.
    Sequential,
}

impl Shape {
    pub(crate) const ALL: [Self; 2] = [Self::Random, Self::Sequential];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Sequential => "sequential",
        }
    }
}

/// A value and its entity type.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) entity_type: u32,
    pub(crate) value: String,
}

impl Row {
    pub(crate) fn key(&self) -> Key<'_> {
        Key::new(self.entity_type, &self.value)
    }
}

/// An infinite sequence of distinct rows of one shape.
#[derive(Debug)]
pub(crate) struct Rows {
    shape: Shape,
    random: Random,
    next: usize,
}

impl Rows {
    /// Returns the rows with which stores are filled.
    pub(crate) fn stored(shape: Shape) -> Self {
        Self { shape, random: Random(1), next: 0 }
    }

    /// Returns rows that are in no store.
    pub(crate) fn fresh(shape: Shape) -> Self {
        Self { shape, random: Random(2), next: 1_000_000_000 }
    }

    /// Returns the next `count` rows.
    pub(crate) fn batch(&mut self, count: usize) -> Vec<Row> {
        self.take(count).collect()
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let value = match self.shape {
            Shape::Random => self.random.text(),
            Shape::Sequential => format!("order-{:016}", self.next),
        };
        let entity_type = ENTITY_TYPES[self.random.below(ENTITY_TYPES.len())];
        self.next += 1;
        Some(Row { entity_type, value })
    }
}

/// Returns the rows as a CSV file.
pub(crate) fn csv_file(rows: &[Row]) -> String {
    let mut file = "value,entity_type_id\n".to_owned();
    for row in rows {
        writeln!(file, "{},{}", row.value, row.entity_type).unwrap();
    }
    file
}

/// Returns the origin of the records of a run. Runs use 20 flows and 60 steps in turn.
pub(crate) fn origin(run: usize) -> Origin {
    Origin::new(flow(run), format!("run-{run}"), step(run))
}

/// Returns the flow of a run.
pub(crate) fn flow(run: usize) -> String {
    format!("flow-{}", run % FLOWS)
}

/// Returns the step of a run.
pub(crate) fn step(run: usize) -> String {
    format!("step-{}", run % STEPS)
}

/// A small random number generator (`SplitMix64`) that gives the same numbers in every run, on every machine.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }

    /// Returns 20 to 40 letters and digits.
    fn text(&mut self) -> String {
        const CHARACTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let length = 20 + self.below(21);
        let mut text = String::with_capacity(length);
        while text.len() < length {
            let mut bits = self.next();
            for _ in 0..(length - text.len()).min(12) {
                text.push(char::from(CHARACTERS[(bits % 32) as usize]));
                bits /= 32;
            }
        }
        text
    }
}

// ---- Stores ---------------------------------------------------------------------------------------------------

/// A store file with one pool. When it is dropped, it is closed and removed.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) pool: Pool,
    pub(crate) store: DataPoolStore,
    pub(crate) directory: TempDir,
}

impl Fixture {
    /// Creates an empty pool, durable on return.
    pub(crate) fn empty() -> Self {
        Self::open(Durability::Immediate)
    }

    fn open(durability: Durability) -> Self {
        let directory = tempfile::Builder::new().prefix("datapool-bench-").tempdir().unwrap();
        let options = StoreOptions::new().durability(durability).hash_key(*b"a bench hash key");
        let store = options.open(directory.path().join("pools.redb")).unwrap();
        let pool = store.get_or_create_pool("bench").unwrap();
        Self { pool, store, directory }
    }

    /// Creates a pool with these rows, imported without origins. All indexes are written.
    pub(crate) fn imported(rows: &[Row]) -> Self {
        let fixture = Self::empty();
        let report = fixture.pool.import_csv(csv_file(rows).as_bytes(), &ImportOptions::new()).unwrap();
        assert_eq!(report.added, rows.len() as u64);
        fixture
    }

    /// Creates a pool with these rows, tracked by runs of `run_records` records each.
    ///
    /// The store is relaxed, so that building it is fast for any number of runs. This does not affect
    /// reading.
    pub(crate) fn tracked(rows: &[Row], run_records: usize) -> Self {
        let fixture = Self::open(Durability::Relaxed { flush_every: Duration::from_millis(500) });
        for (run, rows) in rows.chunks(run_records).enumerate() {
            fixture.track(rows, &origin(run));
        }
        fixture.store.flush().unwrap();
        assert_eq!(fixture.pool.count(&RecordFilter::new()).unwrap(), rows.len() as u64);
        fixture
    }

    /// Tracks rows, all of which must be new.
    pub(crate) fn track(&self, rows: &[Row], origin: &Origin) {
        let verdicts = self.pool.dedupe(Mode::FilterAndTrack, rows, Row::key, origin).unwrap();
        assert_eq!(verdicts.new_count(), rows.len());
    }
}

pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
