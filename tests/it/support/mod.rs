//! Helpers for many tests: stores, keys and clocks.

pub(crate) mod disk;
pub(crate) mod engine;
pub(crate) mod items;

use engine::Engine;
pub(crate) use engine::{Need, embedded, handles, is_embedded, pool_for, store_for, store_with};

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use datapool_store::testing::{Disk, Sizes};
use datapool_store::{
    DataPoolStore, EntityTypeId, Key, ManualClock, Mode, Origin, Pool, Record, RecordFilter, Result,
    StoreOptions, Timestamp,
};

pub(crate) const ORDERS: EntityTypeId = EntityTypeId::new(37);
pub(crate) const CUSTOMERS: EntityTypeId = EntityTypeId::new(47);

/// Returns a file or folder of the tests' data, for a crate in the root or in one of its folders.
pub(crate) fn data(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = root.ancestors().map(|folder| folder.join("tests/data"));
    folders.find(|folder| folder.is_dir()).unwrap().join(name)
}

/// Returns the names of the files in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Segments with four blocks of the time index, which has the time of each 4,096th record.
pub(crate) const FOUR_TIME_BLOCKS: Sizes = Sizes {
    segment_slots: 16_384,
    chunk_slots: 1_024,
    fold_entries: 4_096,
    tails_max_entries: 65_536,
    early_seal_slots: 16_384,
    ..Sizes::SMALL
};

/// Returns a clock that is set to the first second of 2013.
pub(crate) fn clock() -> ManualClock {
    ManualClock::starting_at(time("2013-01-01"))
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Returns options for tests: a fixed hash key and a small cache. A file that was just closed may stay locked
/// for a moment, because a child process that another test starts has a copy of the handle until its program
/// runs.
pub(crate) fn options() -> StoreOptions {
    let options = StoreOptions::new().hash_key(*b"a key for tests.").cache_size(16 << 20);
    options.open_timeout(Duration::from_millis(500))
}

/// Sizes of the cache in which few, more, or all rows of small tables fit.
pub(crate) const CACHE_SIZES: [usize; 4] = [64 << 10, 100_000, 280_000, 16 << 20];

pub(crate) fn origin() -> Origin {
    Origin::new("shop", "run 1", "read orders")
}

/// Tracks values as orders. Returns the number of new ones.
pub(crate) fn track<S: AsRef<str>>(pool: &Pool, values: &[S]) -> usize {
    let key = |value: &'_ S| Key::new(ORDERS, value.as_ref().to_owned());
    pool.dedupe(Mode::Track, values, key, &origin()).unwrap().new_count()
}

pub(crate) fn has(pool: &Pool, value: &str) -> bool {
    pool.contains(Key::new(ORDERS, value)).unwrap()
}

/// Returns every live record of a pool, oldest first.
pub(crate) fn records(pool: &Pool) -> Vec<Record> {
    pool.scan(&RecordFilter::new()).unwrap().map(Result::unwrap).collect()
}

/// Returns the value of every live record of a pool, oldest first.
pub(crate) fn values(pool: &Pool) -> Vec<String> {
    records(pool).into_iter().map(|record| record.value).collect()
}

/// A disk in memory whose length can be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Memory {
    /// Returns a separate disk with the same bytes: the contents after a loss of power now, if the disk syncs
    /// at once.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }
}

impl Disk for Memory {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.bytes() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Creates a store with small sizes on such a disk.
pub(crate) fn measured_store(options: &StoreOptions) -> (Memory, DataPoolStore) {
    let disk = Memory::default();
    let store = embedded::on_disk(disk.clone(), options, Sizes::SMALL).unwrap();
    (disk, store)
}

/// Returns true if opening a disk has to read all of it, as after a crash without instant recovery.
pub(crate) fn is_walked(disk: Memory, options: &StoreOptions) -> bool {
    walks(options, |options| drop(embedded::on_disk(disk, options, Sizes::SMALL).unwrap()))
}

/// Returns true if `open` has to read all of a store.
pub(crate) fn walks(options: &StoreOptions, open: impl FnOnce(&StoreOptions)) -> bool {
    let is_walked = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&is_walked);
    open(&options.clone().on_repair_progress(move |_| {
        heard.store(true, Ordering::Relaxed);
        ControlFlow::Continue(())
    }));
    is_walked.load(Ordering::Relaxed)
}

/// A path for a file that a test opens in several ways, and damages.
pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        embedded::needed();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.redb");
        Self { _directory: directory, path }
    }

    pub(crate) fn open_with(&self, options: &StoreOptions) -> Result<DataPoolStore> {
        embedded::open(&self.path, options, Sizes::SMALL)
    }

    pub(crate) fn open(&self) -> DataPoolStore {
        self.open_with(&options()).unwrap()
    }

    /// Creates a closed store with a pool "orders" of this many records.
    pub(crate) fn with_orders(records: usize) -> Self {
        let place = Self::new();
        track(&place.open().get_or_create_pool("orders").unwrap(), &numbered("A", records));
        place
    }

    /// Changes rows of the closed file through redb.
    pub(crate) fn damage(&self, change: impl FnOnce(&redb::WriteTransaction)) {
        let database = redb::Database::create(&self.path).unwrap();
        let txn = database.begin_write().unwrap();
        change(&txn);
        txn.commit().unwrap();
    }

    /// Flips a byte without redb, at the last occurrence of these bytes in the file.
    pub(crate) fn flip_last(&self, needle: &[u8]) {
        let mut flipped = needle.to_vec();
        flipped[0] ^= 0xff;
        self.overwrite_last(needle, &flipped);
    }

    /// Overwrites the last such bytes of the file with others of the same length.
    pub(crate) fn overwrite_last(&self, needle: &[u8], with: &[u8]) {
        let mut bytes = std::fs::read(&self.path).unwrap();
        let at = bytes.windows(needle.len()).rposition(|window| window == needle).unwrap();
        bytes[at..at + with.len()].copy_from_slice(with);
        std::fs::write(&self.path, bytes).unwrap();
    }
}

/// Returns `A-0`, `A-1`, and so on.
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// A store with small sizes and a clock, in a file or in a schema, for tests that open it again.
pub(crate) struct StoreFile {
    directory: tempfile::TempDir,
    schema: String,
    pub(crate) clock: ManualClock,
}

impl StoreFile {
    pub(crate) fn new() -> Self {
        let schema = match Engine::of_this_run() {
            Engine::Embedded => String::new(),
            Engine::Postgres => engine::new_schema(),
        };
        Self { directory: tempfile::tempdir().unwrap(), schema, clock: clock() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        embedded::needed();
        self.directory.path().join("pools.redb")
    }

    pub(crate) fn open(&self) -> DataPoolStore {
        let options = options().clock(self.clock.clone());
        match Engine::of_this_run() {
            Engine::Embedded => embedded::open(&self.path(), &options, Sizes::SMALL).unwrap(),
            Engine::Postgres => engine::connect(&self.schema, &options).unwrap(),
        }
    }

    /// Opens the store. Returns the pool "orders" and the store.
    pub(crate) fn open_orders(&self) -> (Pool, DataPoolStore) {
        let store = self.open();
        (store.get_or_create_pool("orders").unwrap(), store)
    }
}

/// A sequence of decisions: pseudo-random numbers that are the same in each run, or the numbers of a fuzzer's
/// input.
pub(crate) enum Numbers {
    Seeded(u64),
    Given(VecDeque<u8>),
}

impl Numbers {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::Seeded(seed)
    }

    /// Returns the numbers of an input. After its end, they are zeros.
    pub(crate) fn given(input: &[u8]) -> Self {
        Self::Given(input.iter().copied().collect())
    }

    /// Returns true if the input is at its end.
    pub(crate) fn is_at_end(&self) -> bool {
        matches!(self, Self::Given(input) if input.is_empty())
    }

    pub(crate) fn next(&mut self, below: u64) -> u64 {
        let number = match self {
            Self::Seeded(seed) => {
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *seed >> 33
            }
            Self::Given(input) => {
                let bytes = if below <= 1 << 8 { 1 } else { 4 };
                (0..bytes).fold(0, |number, _| number << 8 | u64::from(input.pop_front().unwrap_or_default()))
            }
        };
        number % below
    }
}

/// Returns the number in an environment variable.
pub(crate) fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is not a number")))
}

/// Returns the number of repetitions of a test: fewer by default, so that `cargo test` takes little more than
/// a minute, and more with `DATAPOOL_THOROUGH`. With a server, an eighth of that.
pub(crate) fn runs(quick: u64, thorough: u64) -> u64 {
    match std::env::var_os("DATAPOOL_THOROUGH") {
        Some(_) => thorough,
        None if is_embedded() => quick,
        // A call to a server takes as long as a hundred calls of the embedded engine.
        None => quick.div_ceil(8),
    }
}

/// If the test fails, prints the variable and the seed that run it again.
pub(crate) struct Seed(pub(crate) &'static str, pub(crate) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {}={}", self.0, self.1);
        }
    }
}

/// Runs work on another thread. Returns false if it does not return, or panics.
pub(crate) fn returns(work: impl FnOnce() + Send + 'static) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = sender.send(());
    });
    receiver.recv_timeout(Duration::from_mins(1)).is_ok()
}
