//! One opening of the file, and its readers.
//!
//! Owns: [`Session`], from opening to closing, and [`Readers`], with which scans, snapshots and backups
//! register. Always holds: work that redb does only without readers (checking and compacting the file) runs
//! while no reader is registered and no snapshot of the file exists. Once a session is closed, its registered
//! readers get `Closed`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::engine::storage::backend::{Backend, Traffic};
use crate::engine::storage::database::OpenDatabase;
use crate::error::{Error, ErrorKind, Result};
use crate::files::FileId;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One opening of the file.
pub(crate) struct Session {
    pub(crate) database: OpenDatabase,
    /// Its length is the file's length.
    pub(crate) backend: Backend,
    /// The identity of the file; `None` if the store is not in a file.
    pub(crate) file: Option<FileId>,
    pub(crate) readers: Arc<Readers>,
}

impl Session {
    pub(crate) fn new(database: OpenDatabase, backend: Backend, file: Option<FileId>) -> Self {
        let readers = Arc::new(Readers { traffic: Arc::clone(backend.traffic()), ..Readers::default() });
        Self { database, backend, file, readers }
    }
}

/// The kind of a registered reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReaderKind {
    /// Reads in slices, each from a fresh snapshot. It does not keep pages from being reused between slices.
    Scan,
    Snapshot,
    Backup,
    /// A check of all indexes.
    Verification,
    /// Vacuuming. No other reader may be registered meanwhile.
    Vacuum,
}

impl ReaderKind {
    fn noun(self) -> &'static str {
        match self {
            Self::Scan => "a scan or export",
            Self::Snapshot => "a snapshot",
            Self::Backup => "a backup",
            Self::Verification => "a verification",
            Self::Vacuum => "a vacuum",
        }
    }
}

#[derive(Debug)]
struct OpenReader {
    kind: ReaderKind,
    since: Instant,
    /// The number of bytes written to the file when the reader was registered.
    written: u64,
    /// The number of drops counted when the reader was registered.
    drops: u64,
}

/// The readers of a session's file.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    closed: AtomicBool,
    traffic: Arc<Traffic>,
    /// The number of commits that freed more than they wrote.
    drops: AtomicU64,
    open: Mutex<Registered>,
    /// The number of existing snapshots of the file, including those of single calls.
    snapshots: Mutex<usize>,
    snapshot_dropped: Condvar,
}

#[derive(Debug, Default)]
struct Registered {
    next: u64,
    readers: BTreeMap<u64, OpenReader>,
}

impl Registered {
    fn check_none(&self, wanted: &str) -> Result<()> {
        let Some(reader) = self.readers.values().next() else { return Ok(()) };
        let others = self.readers.len() - 1;
        let more = if others == 0 { String::new() } else { format!(" (and {others} more)") };
        Err(Error::new(
            ErrorKind::Busy,
            format!("{wanted} must be alone with the file, and {}{more} is open", reader.kind.noun()),
        ))
    }
}

/// The readers that keep pages from being reused, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) readers: u64,
    pub(crate) longest: Option<Duration>,
    /// An upper bound of the bytes of the file that they keep from being reused.
    pub(crate) bytes: u64,
}

impl Readers {
    /// Registers a reader.
    ///
    /// # Errors
    ///
    /// `Busy` during a vacuum; for a vacuum, if any reader is registered.
    pub(crate) fn register(self: &Arc<Self>, kind: ReaderKind) -> Result<Reader> {
        let (since, written, drops) = (Instant::now(), self.traffic.written(), self.drops());
        let reader = OpenReader { kind, since, written, drops };
        let mut registered = self.open.lock();
        if kind == ReaderKind::Vacuum {
            registered.check_none("vacuuming")?;
        }
        if registered.readers.values().any(|other| other.kind == ReaderKind::Vacuum) {
            let text = format!("{} cannot begin while the store is being vacuumed: try again", kind.noun());
            return Err(Error::new(ErrorKind::Busy, text));
        }
        let number = registered.next;
        registered.next += 1;
        registered.readers.insert(number, reader);
        Ok(Reader { readers: Arc::clone(self), number })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Returns an error if a reader is registered, because some work needs exclusive access to the file.
    pub(crate) fn check_none(&self, wanted: &str) -> Result<()> {
        self.open.lock().check_none(wanted)
    }

    fn drops(&self) -> u64 {
        self.drops.load(Ordering::Acquire)
    }

    /// Counts a commit that dropped rows or whole tables, and so freed more than it wrote.
    pub(crate) fn note_drop(&self) {
        self.drops.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns what the readers keep from being reused. A commit frees no more than it writes, unless it
    /// drops rows. After such a commit, readers may hold any number of bytes.
    pub(crate) fn holding(&self) -> Holding {
        let registered = self.open.lock();
        let holders = registered.readers.values().filter(|reader| reader.kind != ReaderKind::Scan);
        holders.fold(Holding::default(), |all, reader| Holding {
            readers: all.readers + 1,
            longest: all.longest.max(Some(reader.since.elapsed())),
            bytes: all.bytes.max(if reader.drops == self.drops() {
                self.traffic.written().saturating_sub(reader.written)
            } else {
                u64::MAX
            }),
        })
    }

    pub(crate) fn snapshot_taken(self: &Arc<Self>) -> LiveSnapshot {
        *self.snapshots.lock() += 1;
        LiveSnapshot(Arc::clone(self))
    }

    /// Waits until no snapshot exists, at most for `patience`. Returns true if none exists.
    pub(crate) fn wait_for_snapshots(&self, patience: Duration) -> bool {
        let mut snapshots = self.snapshots.lock();
        self.snapshot_dropped.wait_while_for(&mut snapshots, |living| *living > 0, patience);
        *snapshots == 0
    }
}

/// Counts a snapshot of the file while this value exists.
#[derive(Debug)]
pub(crate) struct LiveSnapshot(Arc<Readers>);

impl LiveSnapshot {
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Drop for LiveSnapshot {
    fn drop(&mut self) {
        *self.0.snapshots.lock() -= 1;
        self.0.snapshot_dropped.notify_all();
    }
}

/// The registration of a reader, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    readers: Arc<Readers>,
    number: u64,
}

impl Reader {
    /// Returns an error once the store was closed, even if it was opened again.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.readers.is_closed() { Err(Error::closed()) } else { Ok(()) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.open.lock().readers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn snapshots_are_waited_for_and_readers_are_counted_and_closed_with_their_session() {
        let readers = Arc::new(Readers::default());
        // There is none to wait for.
        assert!(readers.wait_for_snapshots(Duration::from_hours(1)));
        let (first, second, third) =
            (readers.snapshot_taken(), readers.snapshot_taken(), readers.snapshot_taken());
        drop(first);
        assert!(!readers.wait_for_snapshots(Duration::from_millis(5)));
        drop(second);
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(50));
                drop(third);
            });
            assert!(readers.wait_for_snapshots(Duration::from_secs(30)));
        });

        let holding = || (readers.holding().readers, readers.holding().bytes);
        let scan = readers.register(ReaderKind::Scan).unwrap();
        assert_eq!(holding(), (0, 0));
        let snapshot = readers.register(ReaderKind::Snapshot).unwrap();
        assert_eq!(holding(), (1, 0));
        readers.note_drop();
        assert_eq!(holding(), (1, u64::MAX), "any number of bytes");
        let backup = readers.register(ReaderKind::Backup).unwrap();
        drop(snapshot);
        assert_eq!(holding(), (1, 0), "it began after the drop");

        let living = readers.snapshot_taken();
        assert!(!living.is_closed() && scan.check_open().is_ok());
        readers.close();
        assert!(living.is_closed() && scan.check_open().is_err());
        assert_eq!(backup.check_open().unwrap_err().kind(), ErrorKind::Closed);
    }
}
