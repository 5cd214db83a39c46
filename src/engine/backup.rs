//! Backup: a compact copy of the store as of one commit, table by table.
//!
//! Always holds: the copy has every table of the snapshot and nothing else; there is never a file under its final name
//! that is not whole and on disk.

use std::fs;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use redb::{Builder, Key, ReadableTableMetadata, TableDefinition, Value, WriteTransaction};

use super::Engine;
use super::any_table::{AnyTable, TableVisitor};
use super::events::{Event, tell};
use super::failure::{StorageResult, contained};
use super::session::{Reader, ReaderKind};
use super::view::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{directory_of, new_file_in, sync_directory};
use crate::model::{BackupReport, Progress};

/// Hears how far a run is, and may stop it.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// After so many rows a run looks up: is it stopped, is the store closed?
const TICK_ROWS: u64 = 16_384;
/// The copy is written in order and never read.
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
            // the store cannot write: a reason more for a backup.
            let _ = self.store_expiry();
        }
        let reader = self.reader(ReaderKind::Backup)?;
        let snapshot = self.snapshot()?;
        let directory = directory_of(path);
        let file = new_file_in(directory, ".datapool-backup-").map_err(failed)?;
        let (records, rows) =
            contained("copying the store", || copy(&snapshot, &reader, file.path(), observer))?;
        file.as_file().sync_all().map_err(failed)?;
        let bytes = file.as_file().metadata().map_err(failed)?.len();
        file.persist_noclobber(path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => failed(error.error),
        })?;
        sync_directory(directory);
        tell(&Event::BackedUp { rows, bytes, took: started.elapsed() });
        Ok(BackupReport { records, rows, bytes })
    }
}

fn exists(path: &Path) -> Error {
    Error::already_exists(format!("{} exists; a backup is written to a new file", path.display()))
}

/// Copies every table. How many records and how many rows there were.
fn copy(snapshot: &Snapshot, reader: &Reader, path: &Path, observer: Observer<'_>) -> Result<(u64, u64)> {
    let failed = |error: redb::Error| {
        Error::new(ErrorKind::Io, format!("writing the copy: {error}")).with_source(error)
    };
    let mut copy =
        Builder::new().set_cache_size(COPY_CACHE_BYTES).create(path).map_err(|e| failed(e.into()))?;
    let txn = copy.begin_write().map_err(|error| failed(error.into()))?;
    let (records, others): (Vec<AnyTable>, Vec<AnyTable>) =
        snapshot.tables()?.into_iter().partition(|table| matches!(table, AnyTable::Records(_)));
    let count_rows = |tables: &[AnyTable]| {
        let mut rows = 0;
        tables.iter().try_for_each(|table| table.visit(&mut CountRows { snapshot, rows: &mut rows }))?;
        Ok(rows)
    };
    let record_rows = count_rows(&records)?;
    let total = record_rows + count_rows(&others)?;
    let run =
        Run { snapshot, reader, txn: &txn, done: AtomicU64::new(0), stopped: AtomicBool::new(false), total };
    // Two tables of one transaction can be filled at once.
    thread::scope(|scope| {
        let beside = thread::Builder::new()
            .name("datapool-backup".to_owned())
            .spawn_scoped(scope, || {
                let copied = contained("copying the store", || {
                    run.copy_all(&others, &mut |_| ControlFlow::Continue(()))
                });
                run.stopped.fetch_or(copied.is_err(), Ordering::Relaxed);
                copied
            })
            .map_err(|error| {
                Error::storage(format!("starting the copying thread: {error}")).with_source(error)
            })?;
        let copied = run.copy_all(&records, observer);
        run.stopped.fetch_or(copied.is_err(), Ordering::Relaxed);
        let beside = beside.join().unwrap_or_else(|_| Err(Error::corrupt("the copying thread panicked")));
        // Whoever was only told to stop is not the cause.
        match (copied, beside) {
            (Err(error), Err(other)) if error.kind() == ErrorKind::Cancelled => Err(other),
            (copied, beside) => copied.and(beside),
        }
    })?;
    let _ = observer(Progress::new(total, total));
    txn.commit().map_err(|error| failed(error.into()))?;
    // The file grew ahead of its rows.
    copy.compact().map_err(|error| failed(error.into()))?;
    copy.close().map_err(|error| failed(error.into()))?;
    Ok((record_rows, total))
}

struct CountRows<'a> {
    snapshot: &'a Snapshot,
    rows: &'a mut u64,
}

impl TableVisitor for CountRows<'_> {
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<()> {
        if let Some(table) = self.snapshot.table(table)? {
            *self.rows += table.len().storage()?;
        }
        Ok(())
    }
}

/// What the threads of a backup share.
struct Run<'a> {
    snapshot: &'a Snapshot,
    reader: &'a Reader,
    txn: &'a WriteTransaction,
    done: AtomicU64,
    stopped: AtomicBool,
    total: u64,
}

impl Run<'_> {
    fn copy_all(&self, tables: &[AnyTable], observer: Observer<'_>) -> Result<()> {
        let mut copy = CopyRows { run: self, observer };
        tables.iter().try_for_each(|table| table.visit(&mut copy))
    }

    /// Counts rows, and finds out whether to go on.
    fn tick(&self, rows: u64, observer: Observer<'_>) -> Result<()> {
        let done = self.done.fetch_add(rows, Ordering::Relaxed) + rows;
        self.reader.check_open()?;
        if self.stopped.load(Ordering::Relaxed) || observer(Progress::new(done, self.total)).is_break() {
            return Err(Error::new(ErrorKind::Cancelled, "the backup was stopped by its observer"));
        }
        Ok(())
    }
}

struct CopyRows<'a, 'o> {
    run: &'a Run<'a>,
    observer: Observer<'o>,
}

impl TableVisitor for CopyRows<'_, '_> {
    /// Rows come in key order: each goes behind the last one.
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<()> {
        let Some(source) = self.run.snapshot.table(table)? else { return Ok(()) };
        let mut copy = self.run.txn.open_table(table).storage()?;
        let mut cursor = copy.upper_bound_mut(Bound::<K::SelfType<'_>>::Unbounded).storage()?;
        let mut rows = 0;
        for row in source.range::<K::SelfType<'_>>(..).storage()? {
            let (key, value) = row.storage()?;
            cursor.insert_before(key.value(), value.value()).storage()?;
            rows += 1;
            if rows == TICK_ROWS {
                self.run.tick(std::mem::take(&mut rows), self.observer)?;
            }
        }
        cursor.close().storage()?;
        self.run.tick(rows, self.observer)
    }
}
