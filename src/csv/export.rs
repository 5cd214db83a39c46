//! Export: options, and writing records as CSV.

use std::borrow::Cow;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::files::{Existing, directory_of, new_file_in, publish};
use crate::model::{Progress, Record};
use crate::pool::Pool;
use crate::query::RecordFilter;

/// Which columns an export has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ExportColumns {
    /// `value,entity_type_id`: imports back to the same set. The default.
    #[default]
    Importable,
    /// `value,entity_type_id,id,flow_id,flow_run_id,step_id,created_at`.
    Full,
}

/// How an export writes cells that a spreadsheet would take for a formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CellQuoting {
    /// As they are. The default.
    #[default]
    Exact,
    /// With a `'` before a leading `=`, `+`, `-`, `@`, tab or carriage return, so that a spreadsheet shows the text
    /// instead of running it. Such cells do not import back to the same value.
    SpreadsheetSafe,
}

type Observer = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// The observer hears of an export's progress each time so many rows are written.
const TICK_ROWS: u64 = 4_096;

/// What to export, and how.
#[derive(Clone, Default)]
pub struct ExportOptions {
    pub(super) filter: RecordFilter,
    pub(super) columns: ExportColumns,
    pub(super) quoting: CellQuoting,
    pub(super) on_progress: Option<Observer>,
}

impl fmt::Debug for ExportOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportOptions")
            .field("filter", &self.filter)
            .field("columns", &self.columns)
            .field("quoting", &self.quoting)
            .field("on_progress", &self.on_progress.is_some())
            .finish()
    }
}

impl ExportOptions {
    /// Every record, as `value,entity_type_id`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only the records that the filter takes.
    #[must_use]
    pub fn filter(mut self, filter: RecordFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Which columns. Default: [`ExportColumns::Importable`].
    #[must_use]
    pub fn columns(mut self, columns: ExportColumns) -> Self {
        self.columns = columns;
        self
    }

    /// How cells are written that begin like a formula. Default: [`CellQuoting::Exact`].
    #[must_use]
    pub fn quoting(mut self, quoting: CellQuoting) -> Self {
        self.quoting = quoting;
        self
    }

    /// Calls `observer` every 4,096 records and once at the end, with how many are written of how many there were at the
    /// start; `Break` stops the export with [`Cancelled`](crate::ErrorKind::Cancelled). It runs on the calling thread with
    /// nothing locked: it may call the store.
    #[must_use]
    pub fn on_progress(
        mut self,
        observer: impl Fn(Progress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_progress = Some(Arc::new(observer));
        self
    }

    fn tell(&self, progress: Progress) -> Result<()> {
        match &self.on_progress {
            Some(observer) if observer(progress).is_break() => {
                Err(Error::new(ErrorKind::Cancelled, "the export was stopped by its observer"))
            }
            _ => Ok(()),
        }
    }
}

/// What an export wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// Records written, the header not counted.
    pub rows: u64,
}

impl Pool {
    /// Writes the pool's records as CSV, oldest first.
    ///
    /// It reads like [`scan`](Self::scan): others write meanwhile, and what they add is not in the file. The writer
    /// is buffered inside and flushed at the end.
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, ExportOptions, ImportOptions};
    ///
    /// # fn main() -> datapool_store::Result<()> {
    /// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// pool.import_csv("value,entity_type_id\nA-1,37\n".as_bytes(), &ImportOptions::new())?;
    /// let mut file = Vec::new();
    /// pool.export_csv(&mut file, &ExportOptions::new())?;
    /// assert_eq!(file, b"value,entity_type_id\nA-1,37\n");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a filter's bad term; `Io` if the writer fails; `Cancelled` by the observer; `NotFound`; `Closed` if
    /// the store is closed meanwhile; `Storage`. What the writer has got
    /// by then is a beginning that looks whole: it is the caller's to mark or discard.
    pub fn export_csv(&self, writer: impl Write, options: &ExportOptions) -> Result<ExportReport> {
        let total = if options.on_progress.is_some() { self.count(&options.filter)? } else { 0 };
        let scan = self.scan(&options.filter)?;
        let mut csv = csv::WriterBuilder::new().buffer_capacity(64 << 10).from_writer(writer);
        csv.write_record(options.columns.names()).map_err(write_error)?;
        let mut report = ExportReport::default();
        for record in scan {
            options.write_row(&mut csv, &record?).map_err(write_error)?;
            report.rows += 1;
            if report.rows.is_multiple_of(TICK_ROWS) {
                options.tell(Progress::new(report.rows, total))?;
            }
        }
        csv.flush().map_err(|error| Error::io("writing CSV", error))?;
        options.tell(Progress::new(report.rows, total))?;
        Ok(report)
    }

    /// Writes the pool's records to a file, as [`export_csv`](Self::export_csv).
    ///
    /// It is written beside the path, brought to disk and renamed: a reader of `path` sees the old file or the whole
    /// new one, never half of it. A file that is replaced hands its permissions on. What is no file (a pipe, a device)
    /// is written to as it is.
    ///
    /// # Errors
    ///
    /// As [`export_csv`](Self::export_csv); `InvalidArgument` for the store's own file.
    pub fn export_csv_path(&self, path: impl AsRef<Path>, options: &ExportOptions) -> Result<ExportReport> {
        let path = path.as_ref();
        let failed = |error| Error::io(format_args!("writing {}", path.display()), error);
        if self.shared().is_own_file(path) {
            return Err(Error::invalid_argument(format!("{} is the store itself", path.display())));
        }
        // A link stays a link: what it leads to is replaced.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let existing = std::fs::metadata(&target).ok();
        if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
            // A pipe or a device is written to, not replaced; a directory is refused by the system.
            let file = OpenOptions::new().write(true).open(&target).map_err(failed)?;
            return self.export_csv(file, options);
        }
        let mut file = new_file_in(directory_of(&target), ".datapool-export-").map_err(failed)?;
        let report = self.export_csv(file.as_file_mut(), options)?;
        let permissions = existing.map(|existing| existing.permissions());
        publish(file, &target, permissions, Existing::Replaced).map_err(failed)?;
        Ok(report)
    }
}

impl ExportColumns {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Importable => &["value", "entity_type_id"],
            Self::Full => {
                &["value", "entity_type_id", "id", "flow_id", "flow_run_id", "step_id", "created_at"]
            }
        }
    }
}

impl ExportOptions {
    fn write_row<W: Write>(&self, csv: &mut csv::Writer<W>, record: &Record) -> csv::Result<()> {
        csv.write_field(self.quoting.cell(&record.value).as_ref())?;
        csv.write_field(record.entity_type_id.to_string())?;
        if self.columns == ExportColumns::Full {
            let id = |id: Option<&str>| self.quoting.cell(id.unwrap_or_default()).into_owned();
            csv.write_field(record.id.to_string())?;
            csv.write_field(id(record.flow_id.as_ref().map(AsRef::as_ref)))?;
            csv.write_field(id(record.flow_run_id.as_ref().map(AsRef::as_ref)))?;
            csv.write_field(id(record.step_id.as_ref().map(AsRef::as_ref)))?;
            csv.write_field(record.created_at.to_string())?;
        }
        csv.write_record(None::<&[u8]>)
    }
}

impl CellQuoting {
    fn cell(self, text: &str) -> Cow<'_, str> {
        let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        match self {
            Self::SpreadsheetSafe if is_formula => Cow::Owned(format!("'{text}")),
            _ => Cow::Borrowed(text),
        }
    }
}

fn write_error(error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Error::io("writing CSV", error),
        other => Error::io("writing CSV", std::io::Error::other(format!("{other:?}"))),
    }
}
