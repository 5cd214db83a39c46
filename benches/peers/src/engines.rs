//! The engines that write: what each must be able to do, and the list of engines.
//!
//! Owns: [`Engine`], the operations that the rows need, and [`EngineKind`]. Always holds: what an engine has
//! written is on disk when the call returns, caches are as large as the store's, and no engine reads what
//! another one has cached. [`indexed`] is the code that a program writes itself on top of an engine that has
//! only sorted tables.

mod fjall;
mod indexed;
mod lmdb;
mod redb;
mod redb_append;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sqlite;
mod store;

use std::fs::File;
use std::path::Path;

use datapool_store::{StoreOptions, Timestamp};

use self::sqlite::Sqlite;
use self::store::Store;
use crate::Result;
use crate::common::Row;
use crate::data::DataSet;

/// The size of an engine's cache in bytes. LMDB has no cache of its own; it uses the system's.
const CACHE_BYTES: usize = StoreOptions::DEFAULT_CACHE_SIZE;

/// The size of the buffer for reading and writing CSV files, as in the store.
const CSV_BUFFER_BYTES: usize = 64 << 10;

/// The runs that track a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runs {
    /// All rows belong to the run with this number.
    One(usize),
    /// Each row has its own run. The first has this number.
    Each(usize),
}

/// The way in which a database got its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// All at once. Tables that are filled in their order have full pages, which is best for reading.
    Loaded,
    /// Gradually. Pages have free space, which is best for writing.
    Grown,
}

/// A handle on an open database. Dropping the last one closes it.
pub(crate) trait Engine: Send {
    /// Returns a handle on the same database, for another thread.
    fn another(&self) -> Result<Box<dyn Engine>>;

    /// Adds the rows of a CSV file with all indexes, in one step. Returns the number of new rows.
    fn import(&mut self, file: &Path) -> Result<u64>;

    /// Adds the runs of a data set to an empty database, as fast as `past` allows.
    fn load(&mut self, set: DataSet, past: Past) -> Result<()>;

    /// Adds the rows whose value is not in the database yet, in one step. Returns their number.
    fn track(&mut self, rows: &[Row], runs: Runs, time: Timestamp) -> Result<usize>;

    fn contains(&mut self, row: &Row) -> Result<bool>;

    /// Answers for all rows in order, as of one moment.
    fn contains_many(&mut self, rows: &[Row]) -> Result<Vec<bool>>;

    fn count(&mut self) -> Result<u64>;

    /// Expires all older records. Returns their number.
    fn expire(&mut self, before: Timestamp) -> Result<u64>;

    /// Prepares for expiry. This is not measured.
    fn prepare_to_expire(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes the space of expired records reusable, if that is a separate step. Returns the number of
    /// records.
    fn give_back(&mut self) -> Result<u64> {
        Ok(0)
    }

    /// Writes `value,entity_type_id` of all records, oldest first, to a file that is synced at the end.
    fn export(&mut self, file: &Path) -> Result<()>;
}

/// The engines that are compared, each in several forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineKind {
    Store,
    /// The store, skipping existing values on import, as the unique keys of the rivals do.
    StoreSkipping,
    /// The store with relaxed durability and one flush for many calls.
    StoreFlushed,
    Sqlite,
    /// SQLite, creating the indexes after inserting the rows.
    SqliteIndexedLater,
    /// SQLite with only its unique index, which is enough for a program that only checks.
    SqliteUnique,
    /// SQLite with one connection shared by all threads.
    SqliteShared,
    /// SQLite, looking up many values in one statement.
    SqliteJoining,
    Lmdb,
    Fjall,
    RocksDb,
    Redb,
    /// Appends records to one table of redb, without any index. No store on redb can be faster than this.
    RedbAppend,
}

impl EngineKind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Store,
        Self::StoreSkipping,
        Self::StoreFlushed,
        Self::Sqlite,
        Self::SqliteIndexedLater,
        Self::SqliteUnique,
        Self::SqliteShared,
        Self::SqliteJoining,
        Self::Lmdb,
        Self::Fjall,
        Self::RocksDb,
        Self::Redb,
        Self::RedbAppend,
    ];
    /// The store and its rivals, each in its plain form.
    const PEERS: [Self; 6] = [Self::Store, Self::Sqlite, Self::Lmdb, Self::Fjall, Self::RocksDb, Self::Redb];

    pub(crate) fn peers() -> Vec<Self> {
        Self::compiled(&Self::PEERS)
    }

    /// Returns those of some engines that this program was compiled with.
    pub(crate) fn compiled(kinds: &[Self]) -> Vec<Self> {
        let is_compiled = |kind: &&Self| cfg!(feature = "rocksdb") || **kind != Self::RocksDb;
        kinds.iter().filter(is_compiled).copied().collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Store | Self::StoreFlushed => "store",
            Self::StoreSkipping => "store, skipping",
            Self::Sqlite | Self::SqliteUnique => "SQLite",
            Self::SqliteIndexedLater => "SQLite, indexes later",
            Self::SqliteShared => "SQLite, one connection",
            Self::SqliteJoining => "SQLite, joining",
            Self::Lmdb => "LMDB",
            Self::Fjall => "fjall",
            Self::RocksDb => "RocksDB",
            Self::Redb => "redb",
            Self::RedbAppend => "redb, append only",
        }
    }

    /// Returns the name of the directory for its files, which is the same for all forms of an engine.
    pub(crate) fn directory_name(self) -> &'static str {
        match self {
            Self::Store | Self::StoreSkipping | Self::StoreFlushed => "store",
            Self::Sqlite | Self::SqliteIndexedLater | Self::SqliteShared | Self::SqliteJoining => "sqlite",
            Self::SqliteUnique => "sqlite-unique",
            Self::Lmdb => "lmdb",
            Self::Fjall => "fjall",
            Self::RocksDb => "rocksdb",
            Self::Redb => "redb",
            Self::RedbAppend => "redb-append",
        }
    }

    /// Opens the database in a directory, or creates it.
    pub(crate) fn open(self, directory: &Path) -> Result<Box<dyn Engine>> {
        Ok(match self {
            Self::Store => Box::new(Store::open(directory, store::Form::Plain)?),
            Self::StoreSkipping => Box::new(Store::open(directory, store::Form::Skipping)?),
            Self::StoreFlushed => Box::new(Store::open(directory, store::Form::Flushed)?),
            Self::Sqlite => Box::new(Sqlite::open(directory, sqlite::Form::Plain)?),
            Self::SqliteIndexedLater => Box::new(Sqlite::open(directory, sqlite::Form::IndexedLater)?),
            Self::SqliteShared => Box::new(sqlite::Shared::open(directory)?),
            Self::SqliteUnique => Box::new(Sqlite::open(directory, sqlite::Form::Unique)?),
            Self::SqliteJoining => Box::new(Sqlite::open(directory, sqlite::Form::Joining)?),
            Self::Lmdb => Box::new(lmdb::open(directory)?),
            Self::Fjall => Box::new(fjall::open(directory)?),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => Box::new(rocksdb::open(directory)?),
            #[cfg(not(feature = "rocksdb"))]
            Self::RocksDb => return Err("built without the feature `rocksdb`".into()),
            Self::Redb => Box::new(redb::open(directory)?),
            Self::RedbAppend => Box::new(redb_append::RedbAppend::open(directory)?),
        })
    }

    /// Creates a database of a data set in an empty directory.
    pub(crate) fn build(self, directory: &Path, set: DataSet, past: Past) -> Result<()> {
        match self {
            // Loading uses another form than measuring: relaxed, or without a journal.
            Self::Store | Self::StoreSkipping | Self::StoreFlushed => store::build(directory, set),
            Self::SqliteUnique => Sqlite::open(directory, sqlite::Form::Unique)?.load(set, past),
            Self::Sqlite | Self::SqliteIndexedLater | Self::SqliteShared | Self::SqliteJoining => {
                let form = match past {
                    Past::Loaded => sqlite::Form::IndexedLater,
                    Past::Grown => sqlite::Form::Unjournaled,
                };
                Sqlite::open(directory, form)?.load(set, past)
            }
            Self::Lmdb | Self::Fjall | Self::RocksDb | Self::Redb | Self::RedbAppend => {
                self.open(directory)?.load(set, past)
            }
        }
    }

    /// Returns the past of its databases for a wanted past. For some engines it makes no difference.
    pub(crate) fn past(self, wanted: Past) -> Past {
        match self {
            Self::Store
            | Self::StoreSkipping
            | Self::StoreFlushed
            | Self::SqliteUnique
            | Self::RedbAppend => Past::Loaded,
            _ => wanted,
        }
    }
}

// ---- CSV ------------------------------------------------------------------------------------------------------

/// Calls back with the entity type and the value of each row of a CSV file.
fn each_csv_row(file: &Path, mut each: impl FnMut(u32, &str) -> Result<()>) -> Result<()> {
    let mut csv = csv::ReaderBuilder::new().buffer_capacity(CSV_BUFFER_BYTES).from_path(file)?;
    let mut record = csv::StringRecord::new();
    while csv.read_record(&mut record)? {
        let value = record.get(0).ok_or("a row has a value")?;
        let entity_type = record.get(1).ok_or("a row has an entity type")?;
        each(entity_type.parse()?, value)?;
    }
    Ok(())
}

/// A CSV file being written.
struct CsvFile {
    csv: csv::Writer<File>,
}

impl CsvFile {
    fn create(file: &Path) -> Result<Self> {
        let file = File::create(file)?;
        let mut csv = csv::WriterBuilder::new().buffer_capacity(CSV_BUFFER_BYTES).from_writer(file);
        csv.write_record(["value", "entity_type_id"])?;
        Ok(Self { csv })
    }

    fn push(&mut self, value: &[u8], entity_type: u32) -> Result<()> {
        self.csv.write_field(value)?;
        self.csv.write_field(entity_type.to_string())?;
        Ok(self.csv.write_record(None::<&[u8]>)?)
    }

    /// Writes the rest, and syncs the file.
    fn finish(mut self) -> Result<()> {
        self.csv.flush()?;
        Ok(self.csv.get_ref().sync_all()?)
    }
}
