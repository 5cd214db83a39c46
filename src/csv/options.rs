//! How a CSV file is imported.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::EntityTypeId;
use crate::model::Origin;

/// The reaction of an import to a row whose value is live in the pool when the import's turn to write comes, or came
/// earlier in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// Adds it as a record of its own, as the API does: importing a file twice doubles it. The default.
    #[default]
    Add,
    /// Leaves it out and counts it: importing a file twice changes nothing.
    Skip,
    /// Fails with [`AlreadyExists`](crate::ErrorKind::AlreadyExists).
    Fail,
}

/// The reaction of an import to a bad row: a missing or non-numeric entity type, an empty or over-long value, a wrong
/// number of fields, bad UTF-8, anything but a delimiter or a line end after a closing quote; and, where the file has such
/// columns, a bad flow, run or step id, or a time that is malformed, later than now, or earlier than that of a row before it.
///
/// A row with a bad quote reaches from its first line to the end of the line with the offending byte; nothing of it is
/// imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnBadRow {
    /// Fails with [`Csv`](crate::ErrorKind::Csv), which has line and column. The default.
    #[default]
    Fail,
    /// Leaves it out and reports it: the first 100 with line, column and reason, and the count of all.
    Skip,
}

/// The progress of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportProgress {
    /// Rows read, bad ones included, blank ones not.
    pub rows: u64,
    /// Bytes of the file read.
    pub bytes: u64,
    /// Rows that are in the pool for good: more than 0 only with [`ImportOptions::commit_every`].
    pub committed_rows: u64,
}

type Observer = Arc<dyn Fn(ImportProgress) -> ControlFlow<()> + Send + Sync>;

/// Where an import takes the entity types of its rows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntityTypeFrom {
    Column(String),
    /// All rows are of this one.
    Given(EntityTypeId),
}

/// The options of a CSV import.
///
/// ```
/// use datapool_store::{DataPoolStore, ImportOptions, Origin, RecordQuery};
///
/// # fn main() -> datapool_store::Result<()> {
/// // A spreadsheet's export, with columns of its own.
/// let file = "Order;Customer\nA-1;Ann\nA-2;\"Bob \"\"Jr\"\"\"\n";
/// let options = ImportOptions::new()
///     .delimiter(';')
///     .value_column("Order")
///     .entity_type(37)
///     .origin(&Origin::none().with_flow("orders of 2013"));
/// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
/// assert_eq!(pool.import_csv(file.as_bytes(), &options)?.added, 2);
/// let query: RecordQuery = "filter[flow_id]=orders of 2013".parse()?;
/// assert_eq!(pool.records(&query)?.data.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ImportOptions {
    pub(super) on_duplicate: OnDuplicate,
    pub(super) on_bad_row: OnBadRow,
    pub(super) commit_every: Option<u64>,
    pub(super) on_progress: Option<Observer>,
    pub(super) delimiter: char,
    pub(super) value_column: String,
    pub(super) entity_type: EntityTypeFrom,
    pub(super) origin: Origin,
    /// Of flow, run and step.
    pub(super) origin_columns: [Option<String>; 3],
    pub(super) created_at_column: Option<String>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            on_duplicate: OnDuplicate::default(),
            on_bad_row: OnBadRow::default(),
            commit_every: None,
            on_progress: None,
            delimiter: ',',
            value_column: "value".to_owned(),
            entity_type: EntityTypeFrom::Column("entity_type_id".to_owned()),
            origin: Origin::none(),
            origin_columns: [None, None, None],
            created_at_column: None,
        }
    }
}

impl fmt::Debug for ImportOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportOptions")
            .field("on_duplicate", &self.on_duplicate)
            .field("on_bad_row", &self.on_bad_row)
            .field("commit_every", &self.commit_every)
            .field("on_progress", &self.on_progress.is_some())
            .field("delimiter", &self.delimiter)
            .field("value_column", &self.value_column)
            .field("entity_type", &self.entity_type)
            .field("origin", &self.origin)
            .field("origin_columns", &self.origin_columns)
            .field("created_at_column", &self.created_at_column)
            .finish()
    }
}

impl ImportOptions {
    /// All rows or none, each a new record, stopping at the first bad row. The file has the columns `value` and
    /// `entity_type_id`, delimited by commas.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`new`](Self::new), for a file that was exported with [`ExportColumns::Full`](crate::ExportColumns::Full): its
    /// records come back with their origins and times, and with new ids.
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, ExportColumns, ExportOptions, ImportOptions, Key, Mode, Origin};
    ///
    /// # fn main() -> datapool_store::Result<()> {
    /// let store = DataPoolStore::in_memory()?;
    /// let (orders, copy) = (store.get_or_create_pool("orders")?, store.get_or_create_pool("copy")?);
    /// let _ = orders.dedupe(Mode::Track, &["A-1"], |o| Key::new(37, *o), &Origin::new("shop", "run 7", "read"))?;
    /// let mut file = Vec::new();
    /// orders.export_csv(&mut file, &ExportOptions::new().columns(ExportColumns::Full))?;
    /// copy.import_csv(file.as_slice(), &ImportOptions::full_export())?;
    /// let (first, again) = (orders.lookup(&[Key::new(37, "A-1")])?, copy.lookup(&[Key::new(37, "A-1")])?);
    /// let (first, again) = (first[0].as_ref().unwrap(), again[0].as_ref().unwrap());
    /// assert_eq!((&first.flow_run_id, first.created_at), (&again.flow_run_id, again.created_at));
    /// # Ok(())
    /// # }
    /// ```
    pub fn full_export() -> Self {
        Self::new()
            .origin_columns(Some("flow_id"), Some("flow_run_id"), Some("step_id"))
            .created_at_column("created_at")
    }

    /// Sets the reaction to values that are in the pool already. Default: [`OnDuplicate::Add`].
    #[must_use]
    pub fn on_duplicate(mut self, policy: OnDuplicate) -> Self {
        self.on_duplicate = policy;
        self
    }

    /// Sets the reaction to bad rows. Default: [`OnBadRow::Fail`].
    #[must_use]
    pub fn on_bad_row(mut self, policy: OnBadRow) -> Self {
        self.on_bad_row = policy;
        self
    }

    /// Sets the delimiter: any ASCII character but a quote and the line breaks. Default: `,`.
    #[must_use]
    pub fn delimiter(mut self, delimiter: impl Into<char>) -> Self {
        self.delimiter = delimiter.into();
        self
    }

    /// The name of the column with the values. Default: `value`.
    #[must_use]
    pub fn value_column(mut self, name: impl Into<String>) -> Self {
        self.value_column = name.into();
        self
    }

    /// The name of the column with the entity types. Default: `entity_type_id`.
    #[must_use]
    pub fn entity_type_column(mut self, name: impl Into<String>) -> Self {
        self.entity_type = EntityTypeFrom::Column(name.into());
        self
    }

    /// The entity type of all rows, for a file that has no column for it. Replaces
    /// [`entity_type_column`](Self::entity_type_column), and is replaced by it.
    #[must_use]
    pub fn entity_type(mut self, entity_type: impl Into<EntityTypeId>) -> Self {
        self.entity_type = EntityTypeFrom::Given(entity_type.into());
        self
    }

    /// The origin of all rows. Default: none.
    #[must_use]
    pub fn origin(mut self, origin: &Origin) -> Self {
        self.origin = origin.clone();
        self
    }

    /// The names of the columns with the ids of flow, flow run and flow step. An empty cell means that the row has no such
    /// id. What has no column is that of [`origin`](Self::origin).
    #[must_use]
    pub fn origin_columns(mut self, flow: Option<&str>, run: Option<&str>, step: Option<&str>) -> Self {
        self.origin_columns = [flow, run, step].map(|name| name.map(str::to_owned));
        self
    }

    /// The name of the column with the times at which the rows were created, in any form that a [`Timestamp`](crate::Timestamp) parses.
    /// Default: there is none, and all rows are created when they are imported.
    ///
    /// A pool's ids are in the order of time, so the times must ascend from row to row (equal ones are fine), and none may be
    /// later than now: other rows are bad rows. The import fails with [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if
    /// a live record of the pool is newer than the first row, or with [`commit_every`](Self::commit_every). Rows that are older
    /// than the pool's retention are added, and are expired at once.
    #[must_use]
    pub fn created_at_column(mut self, name: impl Into<String>) -> Self {
        self.created_at_column = Some(name.into());
        self
    }

    /// Commits after each so many rows instead of once at the end: progress is kept when the import fails or the
    /// process dies, and other writers get their turn in between. Committed parts stay; a failing import's error
    /// [says how many rows](crate::Error::committed_rows) they are. Zero is the same as one.
    #[must_use]
    pub fn commit_every(mut self, rows: u64) -> Self {
        self.commit_every = Some(rows.max(1));
        self
    }

    /// Calls `observer` every 4,096 rows while the file is read, and once at its end; `Break` stops the import
    /// with [`Cancelled`](crate::ErrorKind::Cancelled). It runs on the calling thread with nothing locked: it may
    /// call the store.
    #[must_use]
    pub fn on_progress(
        mut self,
        observer: impl Fn(ImportProgress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_progress = Some(Arc::new(observer));
        self
    }

    pub(super) fn has_origin_columns(&self) -> bool {
        self.origin_columns.iter().any(Option::is_some)
    }

    pub(super) fn delimiter_byte(&self) -> Result<u8> {
        match u8::try_from(self.delimiter) {
            Ok(byte) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(byte),
            _ => Err(Error::invalid_argument(format!(
                "the delimiter is {:?}; allowed is any ASCII character but a quote and the line breaks",
                self.delimiter
            ))),
        }
    }

    /// The columns that a file must have.
    pub(super) fn required_columns(&self) -> Vec<&str> {
        let entity_type = match &self.entity_type {
            EntityTypeFrom::Column(name) => Some(name),
            EntityTypeFrom::Given(_) => None,
        };
        let names = [Some(&self.value_column), entity_type].into_iter().flatten();
        names
            .chain(self.origin_columns.iter().flatten())
            .chain(&self.created_at_column)
            .map(String::as_str)
            .collect()
    }

    pub(super) fn check(&self) -> Result<()> {
        self.delimiter_byte()?;
        self.origin.check()?;
        if self.created_at_column.is_some() && self.commit_every.is_some() {
            return Err(Error::invalid_argument(
                "an import with created_at_column is one commit: its times must follow those that the pool has; \
                 leave out commit_every",
            ));
        }
        Ok(())
    }
}
