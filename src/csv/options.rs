//! The options of a CSV import.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::EntityTypeId;
use crate::model::Origin;
use crate::words::words;

/// The treatment of a row whose value is live in the pool when the import takes its turn to write, or
/// occurred earlier in the file. An earlier row that expired at once, because it is older than the pool's
/// retention, does not count. Prints, parses and serializes as `add`, `skip` or `fail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// Adds the row as a new record, as the API does. Importing a file twice doubles its records. The
    /// default.
    #[default]
    Add,
    /// Leaves the row out and counts it. Importing a file twice changes nothing.
    Skip,
    /// Fails with [`AlreadyExists`](crate::ErrorKind::AlreadyExists).
    Fail,
}

words!(OnDuplicate, "a policy for duplicates": Add => "add", Skip => "skip", Fail => "fail");

/// The treatment of a bad row. A row is bad if its entity type is missing or not a number, if its value is
/// empty or too long, if it has a wrong number of fields or bad UTF-8, or if anything other than a delimiter
/// or a line end follows a closing quote. If the file has columns for them, a bad flow, run or step id or a
/// malformed version makes a row bad. So does a time that is malformed, later than now, or earlier than that
/// of an earlier good row.
///
/// A row with a bad quote extends from its first line to the end of the line with the offending byte. None of
/// it is imported.
///
/// Prints, parses and serializes as `fail` or `skip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnBadRow {
    /// Fails with [`Csv`](crate::ErrorKind::Csv), which has the line and the column. The default.
    #[default]
    Fail,
    /// Leaves the row out and reports it. The report has the line, column and reason of the first 100, and
    /// the number of all bad rows.
    Skip,
}

words!(OnBadRow, "a policy for bad rows": Fail => "fail", Skip => "skip");

/// The progress of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportProgress {
    /// Rows read, including bad ones, but not blank ones.
    pub rows: u64,
    /// Bytes of the file read.
    pub bytes: u64,
    /// Rows that are committed: more than 0 only with [`ImportOptions::commit_every`].
    pub committed_rows: u64,
}

type Observer = Arc<dyn Fn(ImportProgress) -> ControlFlow<()> + Send + Sync>;

/// The source of the entity types of an import's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntityTypeFrom {
    Column(String),
    /// The entity type of all rows.
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
    /// The columns with the flow, run and step ids.
    pub(super) origin_columns: [Option<String>; 3],
    pub(super) created_at_column: Option<String>,
    pub(super) version_column: Option<String>,
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
            version_column: None,
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
            .field("version_column", &self.version_column)
            .finish()
    }
}

impl ImportOptions {
    /// Creates the default options: all rows are imported or none, each as a new record, and the import stops
    /// at the first bad row. The file has the columns `value` and `entity_type_id`, separated by commas.
    pub fn new() -> Self {
        Self::default()
    }

    /// Like [`new`](Self::new), but for a file that was exported with
    /// [`ExportColumns::Full`](crate::ExportColumns::Full): its records keep their origins, times and
    /// versions, but get new ids.
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
            .version_column("version")
    }

    /// Sets what happens to rows whose value is already in the pool. Default: [`OnDuplicate::Add`].
    #[must_use]
    pub fn on_duplicate(mut self, policy: OnDuplicate) -> Self {
        self.on_duplicate = policy;
        self
    }

    /// Sets what happens to bad rows. Default: [`OnBadRow::Fail`].
    #[must_use]
    pub fn on_bad_row(mut self, policy: OnBadRow) -> Self {
        self.on_bad_row = policy;
        self
    }

    /// Sets the delimiter: any ASCII character except a quote and the line breaks. Default: `,`.
    #[must_use]
    pub fn delimiter(mut self, delimiter: impl Into<char>) -> Self {
        self.delimiter = delimiter.into();
        self
    }

    /// Sets the name of the column with the values. Default: `value`.
    #[must_use]
    pub fn value_column(mut self, name: impl Into<String>) -> Self {
        self.value_column = name.into();
        self
    }

    /// Sets the name of the column with the entity types. Default: `entity_type_id`.
    #[must_use]
    pub fn entity_type_column(mut self, name: impl Into<String>) -> Self {
        self.entity_type = EntityTypeFrom::Column(name.into());
        self
    }

    /// Sets the entity type of all rows, for a file without a column for it. Overrides an earlier
    /// [`entity_type_column`](Self::entity_type_column), and a later one overrides this.
    #[must_use]
    pub fn entity_type(mut self, entity_type: impl Into<EntityTypeId>) -> Self {
        self.entity_type = EntityTypeFrom::Given(entity_type.into());
        self
    }

    /// Sets the origin of all rows. Default: no origin.
    #[must_use]
    pub fn origin(mut self, origin: &Origin) -> Self {
        self.origin = origin.clone();
        self
    }

    /// Sets the names of the columns with the ids of flow, flow run and flow step. An empty cell means that
    /// the row has no such id. A part without a column comes from [`origin`](Self::origin).
    #[must_use]
    pub fn origin_columns(mut self, flow: Option<&str>, run: Option<&str>, step: Option<&str>) -> Self {
        self.origin_columns = [flow, run, step].map(|name| name.map(str::to_owned));
        self
    }

    /// Sets the name of the column with the times at which the rows were created, in any form that a
    /// [`Timestamp`](crate::Timestamp) parses. Default: no column; all rows are created at the time of the
    /// import.
    ///
    /// The ids of a pool are in time order. So the times must not decrease from row to row, and none may be
    /// later than now by the store's clock. A row that breaks this rule is a bad row. So a full export of a pool
    /// whose [time is ahead of the clock](crate::PoolStats::time_ahead) can be imported once the clock has caught
    /// up; [`backup_to`](crate::DataPoolStore::backup_to) copies such a pool at once. The import fails with
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a live record of the pool is newer than the
    /// first row, or if [`commit_every`](Self::commit_every) is set. Rows that are older than the pool's
    /// retention are added and expire at once.
    #[must_use]
    pub fn created_at_column(mut self, name: impl Into<String>) -> Self {
        self.created_at_column = Some(name.into());
        self
    }

    /// Sets the name of the column with the versions, in the form that a [`Version`](crate::Version) prints.
    /// An empty cell means that the row has no version. A row with any other text is a bad row. Default: no
    /// column.
    ///
    /// A row with a version becomes a new record like any other; it replaces none. From then on, its key has
    /// the version of the row, even if the cell is empty. Versions do not affect which rows
    /// [`on_duplicate`](Self::on_duplicate) treats as duplicates.
    #[must_use]
    pub fn version_column(mut self, name: impl Into<String>) -> Self {
        self.version_column = Some(name.into());
        self
    }

    /// Commits after every so many rows, instead of once at the end. Progress is kept if the import fails or
    /// the process dies, and other writers get their turn in between. Committed parts stay; the error of a
    /// failing import [reports their rows](crate::Error::committed_rows). Zero is the same as one.
    #[must_use]
    pub fn commit_every(mut self, rows: u64) -> Self {
        self.commit_every = Some(rows.max(1));
        self
    }

    /// Calls `observer` every 4,096 rows while the file is read, and once at its end. `Break` stops the
    /// import with [`Cancelled`](crate::ErrorKind::Cancelled). The observer runs on the calling thread, while
    /// nothing is locked: it may call the store.
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

    /// Returns the names of the columns that a file must have.
    pub(super) fn required_columns(&self) -> Vec<&str> {
        let entity_type = match &self.entity_type {
            EntityTypeFrom::Column(name) => Some(name),
            EntityTypeFrom::Given(_) => None,
        };
        let names = [Some(&self.value_column), entity_type].into_iter().flatten();
        names
            .chain(self.origin_columns.iter().flatten())
            .chain(&self.created_at_column)
            .chain(&self.version_column)
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
