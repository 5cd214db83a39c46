//! How a store is opened.
//!
//! Owns: [`StoreOptions`], [`Durability`], [`IfMissing`]. Must not know: the engine's internals.

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::store::DataPoolStore;
use crate::time::ManualClock;

/// When a call that writes returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// When the change is on disk. Callers that arrive together share one commit. The default.
    #[default]
    Immediate,
    /// When the change is visible to every reader of the process; a background thread brings it to disk.
    ///
    /// A crash may lose the calls of the last interval, never more, and never damages the file. Ids of lost
    /// records may be given again. [`DataPoolStore::flush`] waits for the disk. Dropping the last handle flushes.
    Relaxed {
        /// How long a change may stay in memory only. Zero flushes as soon as the thread gets to it.
        flush_every: Duration,
    },
}

/// What opening does when the file does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfMissing {
    /// Makes a new store. The default.
    #[default]
    Create,
    /// Fails with [`NotFound`](crate::ErrorKind::NotFound).
    Fail,
}

/// Options and flags for opening a store.
///
/// ```no_run
/// use datapool_store::{Durability, StoreOptions};
/// use std::time::Duration;
///
/// # fn main() -> datapool_store::Result<()> {
/// let store = StoreOptions::new()
///     .cache_size(512 * 1024 * 1024)
///     .durability(Durability::Relaxed { flush_every: Duration::from_millis(50) })
///     .open("pools.redb")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub(crate) durability: Durability,
    pub(crate) cache_size: usize,
    pub(crate) if_missing: IfMissing,
    pub(crate) clock: Option<ManualClock>,
    pub(crate) hash_key: Option<[u8; 16]>,
}

impl StoreOptions {
    /// The cache of a store unless [`cache_size`](Self::cache_size) says otherwise: 256 MiB.
    pub const DEFAULT_CACHE_SIZE: usize = 256 * 1024 * 1024;

    /// Durable on return, a cache of 256 MiB, the system's clock, a random hash key.
    pub fn new() -> Self {
        Self {
            durability: Durability::Immediate,
            cache_size: Self::DEFAULT_CACHE_SIZE,
            if_missing: IfMissing::Create,
            clock: None,
            hash_key: None,
        }
    }

    /// When calls that write return. Default: [`Durability::Immediate`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How many bytes of the file to keep in memory, pages waiting to be written included.
    ///
    /// Indexes of records that are not folded yet, and the membership filters of the segments that were asked,
    /// come on top: see the memory section of [the design](crate::design).
    #[must_use]
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.cache_size = bytes;
        self
    }

    /// What to do when the file does not exist. Default: [`IfMissing::Create`].
    #[must_use]
    pub fn if_missing(mut self, if_missing: IfMissing) -> Self {
        self.if_missing = if_missing;
        self
    }

    /// Takes the time from `clock` instead of the system, for tests and benchmarks.
    #[must_use]
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Makes a new store with this hash key instead of a random one, so that two runs of a test or a benchmark
    /// lay out the same file. An existing store keeps its own.
    ///
    /// With a known key, whoever feeds values can aim for colliding fingerprints: never use it in production.
    #[must_use]
    pub fn hash_key(mut self, key: [u8; 16]) -> Self {
        self.hash_key = Some(key);
        self
    }

    /// Opens the store at `path`, or makes it.
    ///
    /// # Errors
    ///
    /// `AlreadyOpen` if any handle has the file open; `NotAStore`, `UnsupportedFormat` or `Corrupt` if the file
    /// is something else, newer or damaged (it is left as it was); `NotFound` with [`IfMissing::Fail`]; `Io` or
    /// `Storage` if the system refuses.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<DataPoolStore> {
        DataPoolStore::open_with(path.as_ref(), self)
    }

    /// Makes an empty store in memory. Nothing of it outlives the last handle.
    ///
    /// # Errors
    ///
    /// `Storage` if the system gives no random hash key.
    pub fn open_in_memory(&self) -> Result<DataPoolStore> {
        DataPoolStore::in_memory_with(self)
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self::new()
    }
}
