//! Backup: a copy of the store without free space, as of one commit, table by table.
//!
//! Always holds: the copy has every table of the snapshot and nothing else; a file under its final name is always whole
//! and on disk.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Builder, Key, StorageBackend, TableDefinition, Value, WriteTransaction};

use crate::engine::Engine;
use crate::engine::format::tables::{AnyTable, TableVisitor};
use crate::engine::maintain::observer::{Observer, Watch};
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::snapshot::count_rows;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::storage::session::{Reader, ReaderKind};
use crate::engine::write::log::{Event, log};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Existing, directory_of, new_file_in, publish};
use crate::model::{BackupReport, Progress};

/// After this many rows, a run checks whether it must stop, and whether the store is closed.
const TICK_ROWS: u64 = 16_384;
/// A copy below this size is compacted: a small file has grown ahead of its rows, by a quarter at a million records. A
/// copy of 10 M records became no shorter, in 0.5 s.
const COMPACT_BELOW_BYTES: u64 = 256 << 20;
/// The time between two calls of the observer.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The cache of the copy, which is written in order and never read.
const COPY_CACHE_BYTES: usize = 64 << 20;

impl Engine {
    /// Copies the store to a new file.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`; `Io`; `Cancelled`; `Closed`; `Corrupt` or `Storage` if the store cannot be read.
    pub(crate) fn backup(&self, path: &Path, observer: Observer<'_>) -> Result<BackupReport> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(exists(path));
        }
        let failed = |error| Error::io(format_args!("writing {}", path.display()), error);
        let started = Instant::now();
        if !self.is_read_only() {
            // What has expired must be expired in the copy, whatever the clock says where it is opened. If this fails,
            // the store cannot write, which is one more reason for a backup.
            let _ = self.store_expiry();
        }
        let reader = self.reader(ReaderKind::Backup)?;
        let snapshot = contained("copying the store", || self.snapshot())?;
        let file = new_file_in(directory_of(path), ".datapool-backup-").map_err(failed)?;
        let source = Source { snapshot, reader };
        let copied = file.as_file().try_clone().map_err(failed)?;
        let (records, rows) =
            Watch::over(observer, |watch| copy(&source, copied, watch)).map_err(|error| {
                match error.kind() {
                    ErrorKind::Io => {
                        Error::new(ErrorKind::Io, format!("{}: {error}", path.display())).with_source(error)
                    }
                    _ => error,
                }
            })?;
        let bytes = file.as_file().metadata().map_err(failed)?.len();
        // Users who may not read the store may not read its copy. Set last, because a store that may not be written can
        // have a copy, too.
        publish(file, path, self.opener.permissions(), Existing::Kept).map_err(|error| {
            match error.kind() {
                io::ErrorKind::AlreadyExists => exists(path),
                _ => failed(error),
            }
        })?;
        log(&Event::BackedUp { rows, bytes, took: started.elapsed() });
        Ok(BackupReport { records, rows, bytes })
    }
}

fn exists(path: &Path) -> Error {
    Error::already_exists(format!("{} exists; a backup is written to a new file", path.display()))
}

/// The source of the copy.
struct Source {
    snapshot: Arc<Snapshot>,
    reader: Reader,
}

/// Creates the error for a copy that cannot be written.
fn not_written(error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(error) => Error::io("writing the copy", error),
        error => Error::new(ErrorKind::Io, format!("writing the copy: {error}")).with_source(error),
    }
}

/// The copy's file. This process holds its lock from its creation until it has its name: redb takes and frees none.
#[derive(Debug)]
struct CopyBackend(FileBackend);

impl StorageBackend for CopyBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// Copies every table. Returns the number of records and the number of rows.
fn copy(source: &Source, file: File, watch: &mut Watch<'_>) -> Result<(u64, u64)> {
    let length = file.try_clone().map_err(|error| Error::io("writing the copy", error))?;
    let backend = CopyBackend(FileBackend::new(file).map_err(not_written)?);
    let mut copy =
        Builder::new().set_cache_size(COPY_CACHE_BYTES).create_with_backend(backend).map_err(not_written)?;
    let txn = copy.begin_write().map_err(not_written)?;
    let (records, others, record_rows, total) = contained("copying the store", || {
        let (records, others): (Vec<AnyTable>, Vec<AnyTable>) =
            source.snapshot.tables()?.into_iter().partition(|table| matches!(table, AnyTable::Records(_)));
        let record_rows = count_rows(&source.snapshot, &records)?;
        let total = record_rows + count_rows(&source.snapshot, &others)?;
        Ok((records, others, record_rows, total))
    })?;
    let run = Run { source, txn: &txn, done: AtomicU64::new(0), is_stopped: AtomicBool::new(false) };
    // Two tables of one transaction can be filled at once. This thread calls the observer.
    thread::scope(|scope| {
        let (ended, end) = mpsc::channel();
        let mut copying = Vec::with_capacity(2);
        for tables in [&records, &others] {
            let (run, ended) = (&run, ended.clone());
            let work = move || {
                let copied = contained("copying the store", || run.copy_all(tables));
                run.is_stopped.fetch_or(copied.is_err(), Ordering::Relaxed);
                // Nobody waits any more once the run is stopped.
                let _ = ended.send(());
                copied
            };
            let thread = thread::Builder::new().name("datapool-backup".to_owned()).spawn_scoped(scope, work);
            copying.push(thread.map_err(|error| {
                run.is_stopped.store(true, Ordering::Relaxed);
                Error::storage(format!("starting a copying thread: {error}")).with_source(error)
            })?);
        }
        let mut watched = Ok(());
        for _ in 0..copying.len() {
            while end.recv_timeout(LOOK_EVERY).is_err() && watched.is_ok() {
                let done = run.done.load(Ordering::Relaxed);
                watched = watch.tell(Progress::new(done, total), &source.reader);
                run.is_stopped.fetch_or(watched.is_err(), Ordering::Relaxed);
            }
        }
        let ends = copying
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Error::corrupt("a copying thread panicked"))));
        // A thread that only had to stop is not the cause.
        let failures: Vec<Error> = ends.filter_map(Result::err).chain(watched.err()).collect();
        let is_cause = |error: &&Error| error.kind() != ErrorKind::Cancelled;
        failures.iter().find(is_cause).or(failures.first()).map_or(Ok(()), |error| Err(error.clone()))
    })?;
    watch.tell(Progress::new(total, total), &source.reader)?;
    txn.commit().map_err(not_written)?;
    if length.metadata().is_ok_and(|file| file.len() < COMPACT_BELOW_BYTES) {
        copy.compact().map_err(not_written)?;
    }
    copy.close().map_err(not_written)?;
    Ok((record_rows, total))
}

/// The state that the threads of a backup share.
struct Run<'a> {
    source: &'a Source,
    txn: &'a WriteTransaction,
    done: AtomicU64,
    is_stopped: AtomicBool,
}

impl Run<'_> {
    fn copy_all(&self, tables: &[AnyTable]) -> Result<()> {
        tables.iter().try_for_each(|table| table.visit(&mut CopyRows(self)))
    }

    /// Counts rows. Fails if the run must stop.
    fn tick(&self, rows: u64) -> Result<()> {
        self.done.fetch_add(rows, Ordering::Relaxed);
        self.source.reader.check_open()?;
        if self.is_stopped.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "the backup was stopped"));
        }
        Ok(())
    }
}

struct CopyRows<'a>(&'a Run<'a>);

impl TableVisitor for CopyRows<'_> {
    /// Copies the rows in key order: each goes after the last one.
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<()> {
        let Some(source) = self.0.source.snapshot.table(table)? else { return Ok(()) };
        let mut copy = self.0.txn.open_table(table).map_err(not_written)?;
        let mut cursor = copy.upper_bound_mut(Bound::<K::SelfType<'_>>::Unbounded).map_err(not_written)?;
        let mut rows = 0;
        for row in source.range::<K::SelfType<'_>>(..).storage()? {
            let (key, value) = row.storage()?;
            cursor.insert_before(key.value(), value.value()).map_err(not_written)?;
            rows += 1;
            if rows == TICK_ROWS {
                self.0.tick(std::mem::take(&mut rows))?;
            }
        }
        cursor.close().map_err(not_written)?;
        self.0.tick(rows)
    }
}
