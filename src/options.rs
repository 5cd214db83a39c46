//! The options for opening a store.
//!
//! Owns: [`StoreOptions`], [`Access`], [`Durability`], [`Recovery`], [`IfMissing`]. Must not know: the
//! engine's internals.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::time::ManualClock;
use crate::words::words;

/// The moment at which a call that writes returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// After the change is on disk. Callers that arrive together share one commit. The default.
    #[default]
    Immediate,
    /// After the change is visible to every reader of the process; a background thread writes it to disk.
    ///
    /// A crash may lose the calls of the last interval, never more, and never damages the file. Ids of lost
    /// records may be reused. [`DataPoolStore::flush`](crate::DataPoolStore::flush) waits for the disk.
    /// Dropping the last handle flushes.
    Relaxed {
        /// The longest time that a change may stay in memory only. With zero the thread flushes as soon as it
        /// can.
        flush_every: Duration,
    },
}

/// The way a store recovers when it is opened after the process or the machine crashed.
///
/// Neither way loses an acknowledged change. They differ in when the work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Recovery {
    /// Opening reads and checks the whole file, which takes seconds per gigabyte. Commits have no extra cost.
    /// The default.
    #[default]
    Rebuild,
    /// Opening is immediate, if every commit before the crash was made with this option. Each commit takes
    /// 0.2 to 0.5 ms longer on a large file, and writes a few more bytes.
    Instant,
}

words!(Recovery, "a way to recover": Rebuild => "rebuild", Instant => "instant");

/// The observer of a recovery's progress.
#[derive(Clone)]
pub(crate) struct RepairObserver(pub(crate) Arc<dyn Fn(f64) -> ControlFlow<()> + Send + Sync>);

impl fmt::Debug for RepairObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepairObserver(..)")
    }
}

/// The reaction of opening if the file does not exist or is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfMissing {
    /// Creates a new store. The default.
    #[default]
    Create,
    /// Fails with [`NotFound`](crate::ErrorKind::NotFound) if there is no file, and with
    /// [`NotAStore`](crate::ErrorKind::NotAStore) if the file is empty. An empty file is not changed.
    Fail,
}

words!(IfMissing, "a policy for missing files": Create => "create", Fail => "fail");

/// The access that an open store has to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Access {
    /// Reads and writes; no other handle has the file open. The default.
    #[default]
    ReadWrite,
    /// Only reads; calls that would write fail with [`ReadOnly`](crate::ErrorKind::ReadOnly). Any number of
    /// handles, in any processes, may have the file open this way, as long as none has it open for writing.
    ///
    /// The file must exist and must have been closed properly. If the process that wrote to it died, open it
    /// for writing once, to recover it.
    ReadOnly,
}

words!(Access, "an access": ReadWrite => "read-write", ReadOnly => "read-only");

/// Options for opening a store.
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
    pub(crate) access: Access,
    pub(crate) durability: Durability,
    pub(crate) recovery: Recovery,
    pub(crate) on_repair: Option<RepairObserver>,
    pub(crate) cache_size: usize,
    pub(crate) if_missing: IfMissing,
    pub(crate) open_timeout: Duration,
    pub(crate) clock: Option<ManualClock>,
    pub(crate) hash_key: Option<[u8; 16]>,
    #[cfg(feature = "postgres")]
    pub(crate) schema: String,
}

impl StoreOptions {
    /// The default size of the cache: 256 MiB.
    pub const DEFAULT_CACHE_SIZE: usize = 256 * 1024 * 1024;

    /// Creates the default options: writes are durable on return, a cache of 256 MiB, the system's clock, a
    /// random hash key.
    pub fn new() -> Self {
        Self {
            access: Access::ReadWrite,
            durability: Durability::Immediate,
            recovery: Recovery::Rebuild,
            on_repair: None,
            cache_size: Self::DEFAULT_CACHE_SIZE,
            if_missing: IfMissing::Create,
            open_timeout: Duration::ZERO,
            clock: None,
            hash_key: None,
            #[cfg(feature = "postgres")]
            schema: "datapool".to_owned(),
        }
    }

    /// Sets the access to the file. Default: [`Access::ReadWrite`].
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Sets when calls that write return. Default: [`Durability::Immediate`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how the store recovers after a crash. Default: [`Recovery::Rebuild`].
    #[must_use]
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// Calls `observer` while the file is being recovered after a crash, with the fraction done (0 to 1, in a
    /// few steps). `Break` stops opening with [`Cancelled`](crate::ErrorKind::Cancelled), and the file can be
    /// opened again. The observer is not called if there is nothing to recover.
    #[must_use]
    pub fn on_repair_progress(
        mut self,
        observer: impl Fn(f64) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_repair = Some(RepairObserver(Arc::new(observer)));
        self
    }

    /// Sets how many bytes of the file are cached in memory. A quarter is for pages, including dirty ones.
    /// Three quarters are for the index of values: first its membership filters, which take 14 bits per
    /// record, then its rows, which take 16 bytes per record. With a smaller cache, checks of present values
    /// read the file more often.
    ///
    /// Indexes of records that are not folded yet need additional memory: see the memory section of [the
    /// design](crate::design).
    #[must_use]
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.cache_size = bytes;
        self
    }

    /// Sets what opening does if the file does not exist or is empty. Default: [`IfMissing::Create`].
    #[must_use]
    pub fn if_missing(mut self, if_missing: IfMissing) -> Self {
        self.if_missing = if_missing;
        self
    }

    /// Sets how long opening waits for a file that another handle has open, in this process or another one,
    /// before it fails with [`AlreadyOpen`](crate::ErrorKind::AlreadyOpen). Default: it does not wait. It
    /// retries at least every 50 ms. Waiting callers get the file in no particular order.
    /// [`reopen`](crate::DataPoolStore::reopen) has the same timeout.
    #[must_use]
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// Takes the time from `clock` instead of the system's clock, for tests and benchmarks.
    #[must_use]
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Creates a new store with this hash key instead of a random one, so that two runs of a test or a
    /// benchmark write the same file. An existing store keeps its own key.
    ///
    /// If the key is known, someone who chooses the values can make fingerprints collide: never use this in
    /// production.
    #[must_use]
    pub fn hash_key(mut self, key: [u8; 16]) -> Self {
        self.hash_key = Some(key);
        self
    }

    /// Sets the database schema that holds the tables of a store in PostgreSQL. Default: `datapool`. Each
    /// schema is a store of its own. A name has 1 to 63 lower-case letters, digits and underscores, and does
    /// not begin with a digit.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self::new()
    }
}
