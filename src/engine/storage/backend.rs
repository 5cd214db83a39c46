//! The bytes that redb reads and writes: a file, memory, or a test's disk. Also counts the bytes, and
//! reserves disk space.
//!
//! Always holds: only redb closes a backend. A backend that outlives its opening (memory, a test's disk) can
//! be opened again. If the disk is full, redb's calls still succeed, because redb accepts nothing more after
//! a failure: see [`space`](crate::engine::storage::space).

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::backends::InMemoryBackend;
use redb::{BackendError, StorageBackend};

use crate::disk::Disk;
use crate::engine::storage::space::{Allocate, Need, Space};

/// The number of bytes read and written during one opening of the file.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
}

impl Traffic {
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// The medium of a store: its bytes, as redb's backend, and its disk space. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Medium {
    bytes: Arc<dyn StorageBackend>,
    room: Arc<dyn Allocate>,
    /// The disk that a test provided, if there is one.
    disk: Option<Arc<dyn Disk>>,
}

/// The number of bytes of memory that are copied in one step.
const COPIED_BYTES: usize = 1 << 20;

impl Medium {
    pub(crate) fn new(bytes: impl StorageBackend, room: impl Allocate + 'static) -> Self {
        Self { bytes: Arc::new(bytes), room: Arc::new(room), disk: None }
    }

    pub(crate) fn memory() -> Self {
        Self::new(InMemoryBackend::new(), Unlimited)
    }

    pub(crate) fn disk(disk: Box<dyn Disk>) -> Self {
        let disk: Arc<dyn Disk> = disk.into();
        Self { disk: Some(Arc::clone(&disk)), ..Self::new(DiskBackend(Arc::clone(&disk)), disk) }
    }

    pub(crate) fn bytes(&self) -> Arc<dyn StorageBackend> {
        Arc::clone(&self.bytes)
    }

    /// Creates an empty medium for a copy that will replace this one, which is memory or a test's disk.
    pub(crate) fn beside(&self) -> io::Result<Self> {
        match &self.disk {
            Some(disk) => Ok(Self::disk(disk.beside()?)),
            None => Ok(Self::memory()),
        }
    }

    /// Takes over the contents of a medium made by [`beside`](Self::beside). Neither medium may be open.
    pub(crate) fn take_over(&self, copy: &Self) -> io::Result<()> {
        if let (Some(disk), Some(copy)) = (&self.disk, &copy.disk) {
            return disk.take_over(&**copy);
        }
        let len = copy.bytes.len()?;
        self.bytes.set_len(len)?;
        let mut part = vec![0; COPIED_BYTES];
        for offset in (0..len).step_by(COPIED_BYTES) {
            let size = usize::try_from(len - offset).unwrap_or(usize::MAX).min(COPIED_BYTES);
            let part = part.get_mut(..size).unwrap_or_default();
            copy.bytes.read(offset, part)?;
            self.bytes.write(offset, part)?;
        }
        Ok(())
    }
}

/// One opening of a medium. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    inner: Arc<dyn StorageBackend>,
    traffic: Arc<Traffic>,
    space: Arc<Space>,
    /// True if it was opened for writing, so that disk space is reserved for it.
    is_kept: Arc<AtomicBool>,
    /// True while an empty medium becomes a store. If that fails, closing empties it again, so that the next
    /// attempt does not find a part of a store.
    is_unfinished: Arc<AtomicBool>,
}

impl Backend {
    pub(crate) fn new(medium: &Medium) -> Self {
        let inner = Arc::clone(&medium.bytes);
        let space = Arc::new(Space::new(Arc::clone(&medium.room)));
        Self { inner, traffic: Arc::default(), space, is_kept: Arc::default(), is_unfinished: Arc::default() }
    }

    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Keeps what was written to an empty medium: the store is complete.
    pub(crate) fn finish(&self) {
        self.is_unfinished.store(false, Ordering::Release);
    }

    /// Allocates disk space for the whole file, if the disk can. Call it once the file is open for writing.
    pub(crate) fn keep_all(&self) -> io::Result<()> {
        self.is_kept.store(true, Ordering::Release);
        self.space.keep_all(&*self.inner)
    }

    /// Allocates the reserve for work that must be possible on a full disk, if the disk can.
    pub(crate) fn keep_reserve(&self) -> io::Result<()> {
        self.space.keep_reserve(&*self.inner)
    }

    /// Checks that the disk has space for what a commit may write.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn check_room(&self, need: Need) -> io::Result<()> {
        self.space.check(need, &*self.inner)
    }

    /// Like [`check_room`](Self::check_room), but directly before the commit, which may then use the reserve,
    /// too.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn make_room(&self, need: Need) -> io::Result<()> {
        self.space.make_room(need, &*self.inner)
    }
}

fn bytes(buffer: &[u8]) -> u64 {
    buffer.len() as u64
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.space.len(&*self.inner)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.traffic.read.fetch_add(bytes(out), Ordering::Relaxed);
        self.space.read(offset, out, &*self.inner)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // NOTE: ask here, because redb holds the lock now. Before that, another process may be creating the
        // store.
        if self.inner.len()? == 0 {
            self.is_unfinished.store(true, Ordering::Release);
        }
        self.space.set_len(len, &*self.inner)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.space.sync(&*self.inner)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.traffic.written.fetch_add(bytes(data), Ordering::Relaxed);
        self.space.write(offset, data, &*self.inner)
    }

    fn close(&self) -> io::Result<()> {
        if self.is_unfinished.load(Ordering::Acquire) {
            // The failure that ended the creation is reported.
            let _ = self.inner.set_len(0);
        }
        if self.is_kept.load(Ordering::Acquire) {
            // The disk may be full when the file is opened next. Reserve now the space that will not be
            // available then.
            let _ = self.keep_reserve();
        }
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// Memory, which needs no space reserved.
#[derive(Debug)]
struct Unlimited;

impl Allocate for Unlimited {
    fn allocate(&self, _from: u64, _to: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Allocate for File {
    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        use rustix::process::{Resource, getrlimit};
        if getrlimit(Resource::Fsize).current.is_some() {
            // NOTE: on some file systems, allocating beyond the file size limit raises a signal that ends the
            // process.
            return Err(io::ErrorKind::Unsupported.into());
        }
        match fallocate(self, FallocateFlags::KEEP_SIZE, from, to - from) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            Err(Errno::INTR) => self.allocate(from, to),
            done => done.map_err(io::Error::from),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Allocate for File {
    fn allocate(&self, _from: u64, _to: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Allocate for Arc<dyn Disk> {
    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        Disk::allocate(&**self, from, to)
    }
}

/// A [`Disk`] as redb's backend.
#[derive(Debug)]
struct DiskBackend(Arc<dyn Disk>);

impl StorageBackend for DiskBackend {
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
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
