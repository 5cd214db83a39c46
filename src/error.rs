//! The one error type of the crate.
//!
//! Owns: [`Error`] and [`ErrorKind`]. Always holds: a message names what was wrong, with the offending name
//! or value, and what is allowed. Must not know: redb. The engine maps storage errors to kinds. Here they are
//! only an opaque source.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, for programs that react to it.
///
/// New kinds may be added: match with a wildcard arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no pool or record of that id or name.
    NotFound,
    /// A pool of that name exists, or the destination file exists.
    AlreadyExists,
    /// An argument is malformed, for example an empty value, a bad timestamp or a bad entity type.
    InvalidArgument,
    /// An argument is over (or under) one of the [limits](crate::limits).
    LimitExceeded,
    /// A listing's query is malformed, for example an unknown parameter or a number out of range.
    InvalidQuery,
    /// A CSV file is malformed.
    Csv {
        /// The line on which the CSV record begins, from 1.
        line: u64,
        /// The field of that record, from 1; `None` if the whole record is meant.
        column: Option<u64>,
    },
    /// A JSON document is malformed, or does not have the items and keys that it should have.
    Json {
        /// The line, from 1.
        line: u64,
        /// The character of that line, from 1.
        column: u64,
    },
    /// A progress callback stopped the operation.
    Cancelled,
    /// A claim's lease ran out and another runner took the value over.
    LeaseLost,
    /// The operation cannot run while another one does.
    Busy,
    /// The store was closed, or could not open its file again (see [`StorageFull`](Self::StorageFull)).
    Closed,
    /// The store was opened [for reading only](crate::Access::ReadOnly).
    ReadOnly,
    /// Another handle, in this process or another one, has the file open. Any number of handles that [only
    /// read](crate::Access::ReadOnly) may have it open together.
    /// [`open_timeout`](crate::StoreOptions::open_timeout) waits for the other handle.
    AlreadyOpen,
    /// The file is not a data pool store.
    NotAStore,
    /// The file was written by another version of the format.
    UnsupportedFormat {
        /// The version in the file.
        found: u32,
        /// The newest version that this crate reads.
        supported: u32,
    },
    /// The file is damaged. [`verify`](crate::DataPoolStore::verify) reports where, and
    /// [`rebuild_indexes`](crate::DataPoolStore::rebuild_indexes) repairs everything that follows from the
    /// records.
    Corrupt,
    /// A commit failed so late that it may or may not be on disk. The store refuses writes until it is opened
    /// again ([`reopen`](crate::DataPoolStore::reopen)). Reads answer as before the failed operation.
    OutcomeUnknown,
    /// The disk has no space for what a call would add, or a quota or limit of the system forbids it. Nothing
    /// was changed. Reading, deleting and clearing still work. Everything works again once there is space. If a
    /// commit finds out in its last moment, the store opens its file again by itself, which ends open scans and
    /// snapshots with `Closed`. If that fails, because nothing at all can be written, the store is closed until
    /// [`reopen`](crate::DataPoolStore::reopen).
    StorageFull,
    /// Reading or writing the store's file failed, and nothing was committed. Reads of what the store has in
    /// memory still succeed. Everything else fails with this kind until the file is opened again
    /// ([`reopen`](crate::DataPoolStore::reopen)). Over PostgreSQL: the server refused, or could not be reached
    /// for 30 seconds. Later calls make a new connection; nothing needs to be reopened.
    Storage,
    /// Reading or writing a file that is not the store's own failed.
    Io,
    /// The engine behind this store cannot do that: compacting, for example, is for stores in a file.
    Unsupported,
}

impl ErrorKind {
    /// Returns true if the input was wrong: the same call fails again until its arguments, its file or the
    /// names that it uses change. An HTTP API answers with a status of 400 to 499.
    ///
    /// These are `NotFound`, `AlreadyExists`, `InvalidArgument`, `LimitExceeded`, `InvalidQuery`, `Csv` and
    /// `Json`.
    pub const fn is_caller_error(self) -> bool {
        matches!(
            self,
            Self::NotFound
                | Self::AlreadyExists
                | Self::InvalidArgument
                | Self::LimitExceeded
                | Self::InvalidQuery
                | Self::Csv { .. }
                | Self::Json { .. }
        )
    }

    /// Returns true if nothing was changed, and the same call can succeed later without anything being done
    /// to the store. Wait between attempts, and give up at some point.
    ///
    /// These are `Busy` and `AlreadyOpen`, which end when another operation or handle does, and
    /// `StorageFull`, which ends once there is space. After `OutcomeUnknown` and `Storage`,
    /// [`reopen`](crate::DataPoolStore::reopen) first. A file of the program's own (`Io`) has to be read or
    /// written from its beginning.
    ///
    /// ```
    /// use std::time::Duration;
    /// use datapool_store::{DataPoolStore, Result};
    ///
    /// fn compact(store: &DataPoolStore) -> Result<()> {
    ///     for attempt in 1.. {
    ///         match store.compact() {
    ///             Err(error) if error.kind().is_retryable() && attempt < 5 => {
    ///                 std::thread::sleep(Duration::from_millis(100));
    ///             }
    ///             compacted => return compacted.map(drop),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// # compact(&DataPoolStore::in_memory().unwrap()).unwrap();
    /// ```
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::AlreadyOpen | Self::StorageFull)
    }
}

/// An error: a [kind](Error::kind) for programs, a message for people, and the cause where there is one.
///
/// ```
/// use datapool_store::{DataPoolStore, ErrorKind};
///
/// # fn main() -> datapool_store::Result<()> {
/// let store = DataPoolStore::in_memory()?;
/// let error = store.pool_named("orders").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert_eq!(error.to_string(), "no data pool is named \"orders\"");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

impl fmt::Debug for Error {
    /// Prints the kind and the message, which a `main` that returns an error shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    item: Option<usize>,
    parameter: Option<Cow<'static, str>>,
    committed_rows: Option<u64>,
    further: Vec<Error>,
    /// Shared, because every caller of a group gets the error of its failed commit.
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Inner {
    /// Returns the cause itself, so that it can be downcast, for example the `io::Error` of a reader that
    /// failed.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            item: None,
            parameter: None,
            committed_rows: None,
            further: Vec::new(),
            cause: None,
        }))
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_item(mut self, index: usize) -> Self {
        self.0.item = Some(index);
        self.0.message = format!("item {index}: {}", self.0.message);
        self
    }

    /// Names the parameter that the message is about.
    pub(crate) fn with_parameter(mut self, parameter: impl Into<Cow<'static, str>>) -> Self {
        self.0.parameter = Some(parameter.into());
        self
    }

    pub(crate) fn with_committed_rows(mut self, rows: u64, added: u64) -> Self {
        if rows > 0 {
            let reason = std::mem::take(&mut self.0.message);
            let of = if added == rows { String::new() } else { format!(" of {rows}") };
            self.0.message =
                format!("{added}{of} rows were added and stay; the import ended there: {reason}");
        }
        self.0.committed_rows = Some(rows);
        self
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the store is closed; `reopen` opens it again")
    }

    pub(crate) fn io(doing: impl fmt::Display, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{doing}: {source}")).with_source(source)
    }

    /// Creates an error about a query's parameter. The message continues after the parameter's name.
    pub(crate) fn bad_parameter(parameter: &'static str, rest: impl fmt::Display) -> Self {
        Self::invalid_query(format!("{parameter} {rest}")).with_parameter(parameter)
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the index, from 0, of the batch item that the error is about.
    pub fn item(&self) -> Option<usize> {
        self.0.item
    }

    /// Returns the parameter that the error is about, by its name in the HTTP API: a parameter of a query
    /// (`filter[flow_id]`, `per_page`, or an unknown one), a field of a pool (`name`, `description`), or
    /// `ids`. Returns `None` if the error is about none of these.
    pub fn parameter(&self) -> Option<&str> {
        self.0.parameter.as_deref()
    }

    /// Returns the other errors of the same input: the other bad parameters of a query string, or the other
    /// bad fields of a pool that is created or changed. Each has a message and a
    /// [`parameter`](Self::parameter) of its own. Their order is not specified.
    pub fn further(&self) -> &[Error] {
        &self.0.further
    }

    /// Returns the number of rows that an import with [`commit_every`](crate::ImportOptions::commit_every)
    /// had committed when it failed: these rows stay. Rows that were skipped as duplicates count, bad and blank
    /// ones do not. Returns `None` for every other operation, which changes nothing if it fails.
    pub fn committed_rows(&self) -> Option<u64> {
        self.0.committed_rows
    }
}

/// Combines the checks of one input. Returns the first failure, with the [further](Error::further) ones.
pub(crate) fn all(checks: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut failures = checks.into_iter().filter_map(Result::err);
    let Some(mut first) = failures.next() else { return Ok(()) };
    for mut failure in failures {
        let further = std::mem::take(&mut failure.0.further);
        first.0.further.push(failure);
        first.0.further.extend(further);
    }
    Err(first)
}

/// The most characters of an offending text that a message repeats.
const SHOWN_CHARS: usize = 100;

/// Returns a text as messages show it: quoted, and cut if it is long.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// Constructors for the kinds that many places raise.
macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(pub(crate) fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

constructors! {
    not_found => NotFound,
    already_exists => AlreadyExists,
    invalid_argument => InvalidArgument,
    limit_exceeded => LimitExceeded,
    invalid_query => InvalidQuery,
    corrupt => Corrupt,
    storage => Storage,
}
