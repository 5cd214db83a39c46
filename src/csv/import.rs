//! Import: options, report, and the two phases: parsing, then applying.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::check::count_good_rows;
use super::rows::{BadRow, Row, RowReader};
use super::spool::Spool;
use crate::engine::{Present, RowSource};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::EntityTypeId;
use crate::limits;
use crate::pool::Pool;

/// What an import does with a row whose value is live in the pool when the import's turn to write comes, or came
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

/// What an import does with a bad row: a missing or non-numeric entity type, an empty or over-long value, a wrong
/// number of fields, bad UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnBadRow {
    /// Fails with [`Csv`](crate::ErrorKind::Csv), which has line and column. The default.
    #[default]
    Fail,
    /// Leaves it out and reports it: the first 100 with line, column and reason, and the count of all.
    Skip,
}

/// How far an import has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportProgress {
    /// Rows read, bad ones included.
    pub rows: u64,
    /// Bytes of the file read.
    pub bytes: u64,
    /// Rows that are in the pool for good: more than 0 only with [`ImportOptions::commit_every`].
    pub committed_rows: u64,
}

type Observer = Arc<dyn Fn(ImportProgress) -> ControlFlow<()> + Send + Sync>;

/// How a CSV file is imported.
#[derive(Clone, Default)]
pub struct ImportOptions {
    pub(super) on_duplicate: OnDuplicate,
    pub(super) on_bad_row: OnBadRow,
    pub(super) commit_every: Option<u64>,
    pub(super) on_progress: Option<Observer>,
}

impl fmt::Debug for ImportOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportOptions")
            .field("on_duplicate", &self.on_duplicate)
            .field("on_bad_row", &self.on_bad_row)
            .field("commit_every", &self.commit_every)
            .field("on_progress", &self.on_progress.is_some())
            .finish()
    }
}

impl ImportOptions {
    /// All rows or none, each a new record, stopping at the first bad row.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do with values that are there already. Default: [`OnDuplicate::Add`].
    #[must_use]
    pub fn on_duplicate(mut self, policy: OnDuplicate) -> Self {
        self.on_duplicate = policy;
        self
    }

    /// What to do with bad rows. Default: [`OnBadRow::Fail`].
    #[must_use]
    pub fn on_bad_row(mut self, policy: OnBadRow) -> Self {
        self.on_bad_row = policy;
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
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// Rows in the file, the header not counted.
    pub rows: u64,
    /// Records added.
    pub added: u64,
    /// Rows left out because their value was there already ([`OnDuplicate::Skip`]).
    pub skipped: u64,
    /// Bad rows left out ([`OnBadRow::Skip`]).
    pub bad_rows: u64,
    /// The first 100 bad rows.
    pub errors: Vec<BadRow>,
}

/// How many rows are read between two calls of the observer.
const PROGRESS_ROWS: u64 = 4_096;

impl Pool {
    /// Imports a CSV file from a reader: a header with `value` and `entity_type_id`, then one record a row.
    ///
    /// All rows are added in one commit or none is, unless [`commit_every`](ImportOptions::commit_every) says
    /// otherwise. Imported records have no origin. There is no limit on the file's size, and memory does not grow
    /// with it: rows are read and checked first, into 16 MiB of memory and then a temporary file beside the store,
    /// so that other writers never wait for the reader. Each row becomes a new record, as in the API: importing a
    /// file twice doubles it, unless [`OnDuplicate::Skip`] is asked for.
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, ImportOptions, OnDuplicate};
    ///
    /// # fn main() -> datapool_store::Result<()> {
    /// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let file = "value,entity_type_id\nA-1,37\nA-2,37\nA-1,37\n";
    /// let options = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
    /// let report = pool.import_csv(file.as_bytes(), &options)?;
    /// assert_eq!((report.rows, report.added, report.skipped), (3, 2, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Csv` for a bad header, a bad row (with [`OnBadRow::Fail`]), a record over 1 MiB or a quote that is not
    /// closed; `AlreadyExists` with [`OnDuplicate::Fail`]; `Cancelled`; `Io` if reading fails; `NotFound`;
    /// `OutcomeUnknown` or `Storage`. Nothing was added, but for the parts that
    /// [`committed_rows`](crate::Error::committed_rows) tells of.
    pub fn import_csv(&self, reader: impl Read, options: &ImportOptions) -> Result<ImportReport> {
        self.view()?;
        Import::new(self, options).run(reader)
    }

    /// Imports a CSV file from a path. It is read twice, so that nothing is spooled: to check every row, then to add
    /// them. What can be read only once (a pipe) goes through [`import_csv`](Self::import_csv).
    ///
    /// # Errors
    ///
    /// As [`import_csv`](Self::import_csv); `Io` also if the file changes between the two readings.
    pub fn import_csv_path(&self, path: impl AsRef<Path>, options: &ImportOptions) -> Result<ImportReport> {
        let path = path.as_ref();
        let open =
            || File::open(path).map_err(|error| Error::io(format_args!("opening {}", path.display()), error));
        if options.commit_every.is_some() {
            return self.import_csv(open()?, options);
        }
        self.view()?;
        let mut import = Import::new(self, options);
        if options.on_progress.is_none()
            && let Some(rows) = count_good_rows(path)
        {
            import.report.rows = rows;
        } else {
            let mut checked = RowReader::new(open()?)?;
            while import.read(&mut checked, |_| Ok(()))? {}
            import.observe(checked.bytes())?;
        }
        let expected = import.report.rows - import.report.bad_rows;
        let rows = RowReader::new(open()?)?;
        import.apply(&mut SecondReading { rows, on_bad_row: options.on_bad_row, expected })?;
        Ok(import.report)
    }
}

/// An import under way.
struct Import<'a> {
    pool: &'a Pool,
    options: &'a ImportOptions,
    report: ImportReport,
    committed_rows: u64,
}

impl<'a> Import<'a> {
    fn new(pool: &'a Pool, options: &'a ImportOptions) -> Self {
        Self { pool, options, report: ImportReport::default(), committed_rows: 0 }
    }

    fn run(mut self, reader: impl Read) -> Result<ImportReport> {
        let done = RowReader::new(reader).and_then(|rows| self.apply_parts(rows));
        match (done, self.options.commit_every) {
            (Ok(()), _) => Ok(self.report),
            (Err(error), None) => Err(error),
            (Err(error), Some(_)) => Err(error.with_committed_rows(self.committed_rows)),
        }
    }

    /// Spools and applies part after part; without `commit_every` there is one.
    fn apply_parts(&mut self, mut rows: RowReader<impl Read>) -> Result<()> {
        let part_rows = self.options.commit_every.unwrap_or(u64::MAX);
        loop {
            let mut spool = Spool::new(self.pool.shared().directory());
            let mut more = true;
            while more && spool.rows() < part_rows {
                more = self.read(&mut rows, |row| spool.push(&row))?;
            }
            if !more {
                self.observe(rows.bytes())?;
            }
            if spool.rows() > 0 {
                let count = spool.rows();
                self.apply(&mut spool.into_rows()?)?;
                self.committed_rows += count;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Reads one row. Whether there was one.
    fn read<R: Read>(
        &mut self,
        rows: &mut RowReader<R>,
        keep: impl FnOnce(Row<'_>) -> Result<()>,
    ) -> Result<bool> {
        let bytes = rows.bytes();
        match rows.next_row()? {
            None => return Ok(false),
            Some(Ok(row)) => keep(row)?,
            Some(Err(bad)) if self.options.on_bad_row == OnBadRow::Fail => return Err(bad.into_error()),
            Some(Err(bad)) => {
                self.report.bad_rows += 1;
                if self.report.errors.len() < limits::IMPORT_REPORT_MAX_ERRORS {
                    self.report.errors.push(bad);
                }
            }
        }
        self.report.rows += 1;
        if self.report.rows.is_multiple_of(PROGRESS_ROWS) {
            self.observe(bytes)?;
        }
        Ok(true)
    }

    fn observe(&self, bytes: u64) -> Result<()> {
        let Some(observer) = &self.options.on_progress else { return Ok(()) };
        let progress = ImportProgress { rows: self.report.rows, bytes, committed_rows: self.committed_rows };
        match observer(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                let text = format!(
                    "the import was stopped by its progress callback after {} rows",
                    self.report.rows
                );
                Err(Error::new(ErrorKind::Cancelled, text))
            }
        }
    }

    fn apply(&mut self, source: &mut (dyn RowSource + Send)) -> Result<()> {
        let present = match self.options.on_duplicate {
            OnDuplicate::Add => Present::Add,
            OnDuplicate::Skip => Present::Skip,
            OnDuplicate::Fail => Present::Fail,
        };
        let done = self.pool.shared().engine.import(self.pool.id(), source, present)?;
        self.report.added += done.added;
        self.report.skipped += done.skipped;
        Ok(())
    }
}

/// A file that was checked already, read again.
struct SecondReading {
    rows: RowReader<File>,
    on_bad_row: OnBadRow,
    /// How many good rows must still come.
    expected: u64,
}

impl RowSource for SecondReading {
    fn next(&mut self, push: &mut dyn FnMut(EntityTypeId, &str)) -> Result<Option<u64>> {
        let changed =
            || Error::new(ErrorKind::Io, "the file changed while it was imported; nothing was added");
        loop {
            match self.rows.next_row()? {
                None if self.expected == 0 => return Ok(None),
                Some(Ok(row)) => {
                    self.expected = self.expected.checked_sub(1).ok_or_else(changed)?;
                    push(row.entity_type, row.value);
                    return Ok(Some(row.line));
                }
                Some(Err(_)) if self.on_bad_row == OnBadRow::Skip => {}
                None | Some(Err(_)) => return Err(changed()),
            }
        }
    }
}
