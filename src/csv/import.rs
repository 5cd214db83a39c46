//! CSV import: its report, and its two phases, checking the rows and adding them.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bad_row::BadRow;
use super::check::{Count, count_good_rows};
use super::options::{ImportOptions, ImportProgress, OnBadRow, OnDuplicate};
use super::rows::RowReader;
use super::spool::Spool;
use crate::backend::import::{ImportRow, Present, RowSource};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::pool::Pool;
use crate::time::Timestamp;

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// Rows in the file, not counting the header and blank rows.
    pub rows: u64,
    /// Records added.
    pub added: u64,
    /// Rows left out because their value was in the pool already ([`OnDuplicate::Skip`]).
    pub skipped: u64,
    /// Bad rows left out ([`OnBadRow::Skip`]).
    pub bad_rows: u64,
    /// Rows left out because they are empty, or have only delimiters, spaces and tabs. Serialized only if it
    /// is not 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub blank_rows: u64,
    /// The first 100 bad rows.
    pub errors: Vec<BadRow>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The number of rows read between two calls of the observer.
const PROGRESS_ROWS: u64 = 4_096;

impl Pool {
    /// Imports a CSV file from a reader: a header with `value` and `entity_type_id`, then one record a row.
    ///
    /// All rows are added in one commit, or none is, unless [`commit_every`](ImportOptions::commit_every) is
    /// set. Imported records have no origin and the time of the import, unless the options say otherwise. The
    /// size of the file is not limited, and memory does not grow with it. Rows are first read and checked,
    /// then kept in up to 16 MiB of memory and after that in a temporary file beside the store. So other
    /// writers never wait for the reader. Each row becomes a new record, as in the API, so importing a file
    /// twice doubles its records unless [`OnDuplicate::Skip`] is set.
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
    /// `Csv` for a file that is not CSV in UTF-8 or has a bad header, for a bad row (with
    /// [`OnBadRow::Fail`]), a record over 1 MiB or a quote that is not closed; `InvalidArgument` or
    /// `LimitExceeded` for bad options; `AlreadyExists` with [`OnDuplicate::Fail`]; `Cancelled`; `Io` if
    /// reading fails; `NotFound`; `StorageFull`, `OutcomeUnknown` or `Storage`. Nothing was added, except for
    /// the parts that [`committed_rows`](crate::Error::committed_rows) reports.
    pub fn import_csv(&self, reader: impl Read, options: &ImportOptions) -> Result<ImportReport> {
        self.backend().check_may_write()?;
        self.info()?;
        Import::new(self, options)?.run(reader)
    }

    /// Imports a CSV file from a path. The file is read twice, once to check every row and once to add the
    /// rows, so nothing is spooled. A path that can be read only once because it is not a regular file (a
    /// pipe) is imported as by [`import_csv`](Self::import_csv).
    ///
    /// # Errors
    ///
    /// The errors of [`import_csv`](Self::import_csv); also `Io` if the second reading finds a different
    /// number of good rows. Other changes to the file are not detected: the rows of the second reading are
    /// imported.
    pub fn import_csv_path(&self, path: impl AsRef<Path>, options: &ImportOptions) -> Result<ImportReport> {
        self.backend().check_may_write()?;
        let path = path.as_ref();
        let failed = |error| Error::io(format_args!("opening {}", path.display()), error);
        let open = || File::open(path).map_err(failed);
        let file = open()?;
        if options.commit_every.is_some() || !file.metadata().map_err(failed)?.is_file() {
            return self.import_csv(file, options);
        }
        self.info()?;
        let mut import = Import::new(self, options)?;
        if options.on_progress.is_none()
            && let Some(Count { good, blank }) = count_good_rows(path, options)
        {
            (import.report.rows, import.report.blank_rows) = (good, blank);
        } else {
            let mut checked = RowReader::new(file, options, import.now)?;
            while import.read(&mut checked, |_| Ok(()))? {}
            import.observe(checked.bytes())?;
        }
        let expected = import.report.rows - import.report.bad_rows;
        let rows = RowReader::new(open()?, options, import.now)?;
        import.apply(&mut SecondReading { rows, on_bad_row: options.on_bad_row, expected })?;
        Ok(import.report)
    }
}

/// An import under way.
struct Import<'a> {
    pool: &'a Pool,
    options: &'a ImportOptions,
    /// The latest allowed time of a row.
    now: Timestamp,
    report: ImportReport,
    committed_rows: u64,
}

impl<'a> Import<'a> {
    fn new(pool: &'a Pool, options: &'a ImportOptions) -> Result<Self> {
        options.check()?;
        let now = pool.backend().now()?;
        Ok(Self { pool, options, now, report: ImportReport::default(), committed_rows: 0 })
    }

    fn run(mut self, reader: impl Read) -> Result<ImportReport> {
        let done = RowReader::new(reader, self.options, self.now).and_then(|rows| self.apply_parts(rows));
        match (done, self.options.commit_every) {
            (Ok(()), _) => Ok(self.report),
            (Err(error), None) => Err(error),
            (Err(error), Some(_)) => Err(error.with_committed_rows(self.committed_rows, self.report.added)),
        }
    }

    /// Spools and adds one part after the other. Without `commit_every` there is only one part.
    fn apply_parts(&mut self, mut rows: RowReader<impl Read>) -> Result<()> {
        let part_rows = self.options.commit_every.unwrap_or(u64::MAX);
        loop {
            let mut spool = Spool::new(self.pool.shared().directory(), self.options);
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

    /// Reads one row. Returns false at the end of the file.
    fn read<R: Read>(
        &mut self,
        rows: &mut RowReader<R>,
        keep: impl FnOnce(ImportRow<'_>) -> Result<()>,
    ) -> Result<bool> {
        let bytes = rows.bytes();
        match rows.next_row()? {
            None => {
                self.report.blank_rows = rows.blank_rows();
                return Ok(false);
            }
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
        let done = self.pool.backend().import(self.pool.id(), source, present)?;
        self.report.added += done.added;
        self.report.skipped += done.skipped;
        Ok(())
    }
}

/// The second reading of a file that was already checked.
struct SecondReading {
    rows: RowReader<File>,
    on_bad_row: OnBadRow,
    /// The number of good rows still to be read.
    expected: u64,
}

impl RowSource for SecondReading {
    fn next(&mut self, push: &mut dyn FnMut(ImportRow<'_>)) -> Result<bool> {
        let changed =
            || Error::new(ErrorKind::Io, "the file changed while it was imported; nothing was added");
        loop {
            match self.rows.next_row()? {
                None if self.expected == 0 => return Ok(false),
                Some(Ok(row)) => {
                    self.expected = self.expected.checked_sub(1).ok_or_else(changed)?;
                    push(row);
                    return Ok(true);
                }
                Some(Err(_)) if self.on_bad_row == OnBadRow::Skip => {}
                None | Some(Err(_)) => return Err(changed()),
            }
        }
    }
}
