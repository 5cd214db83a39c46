//! Export: options, and writing records as CSV.

use std::borrow::Cow;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::Reading;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Existing, ReadableBy, SyncingWriter, directory_of, follow_links, new_file_in, publish};
use crate::ids::RecordNumber;
use crate::model::{Progress, Record};
use crate::parallel::in_order;
use crate::pool::Pool;
use crate::query::{RecordFilter, RecordSort};
use crate::words::words;

/// The columns of an export. Prints, parses and serializes as `importable` or `full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ExportColumns {
    /// `value,entity_type_id`: imports back to the same set. The default.
    #[default]
    Importable,
    /// `value,entity_type_id,id,flow_id,flow_run_id,step_id,version,created_at`.
    Full,
}

words!(ExportColumns, "a choice of columns": Importable => "importable", Full => "full");

/// The form in which an export writes cells that a spreadsheet would read as a formula. Prints, parses and
/// serializes as `exact` or `spreadsheet-safe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CellQuoting {
    /// Writes such cells as they are. The default.
    #[default]
    Exact,
    /// Writes a `'` before a leading `=`, `+`, `-`, `@`, tab or carriage return, so that a spreadsheet shows
    /// the text instead of running it. Such cells do not import back to the same value.
    SpreadsheetSafe,
}

words!(CellQuoting, "a way of quoting": Exact => "exact", SpreadsheetSafe => "spreadsheet-safe");

type Observer = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// The number of rows after which the observer is called.
const TICK_ROWS: u64 = 4_096;
/// The number of records that a thread reads and formats at once. With 1,024, the threads wait a third longer
/// for each other.
const SLICE_RECORDS: u64 = 4_096;
/// The approximate size of this many rows as text.
const SLICE_BYTES: usize = 160 << 10;
/// The most bytes passed to the writer at once, because it may buffer them for a slow reader.
const WRITE_BYTES: usize = 64 << 10;

/// The options of a CSV export.
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
    /// Exports every record, as `value,entity_type_id`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exports only the records that match the filter.
    #[must_use]
    pub fn filter(mut self, filter: RecordFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets the columns. Default: [`ExportColumns::Importable`].
    #[must_use]
    pub fn columns(mut self, columns: ExportColumns) -> Self {
        self.columns = columns;
        self
    }

    /// Sets how cells that look like a formula are written. Default: [`CellQuoting::Exact`].
    #[must_use]
    pub fn quoting(mut self, quoting: CellQuoting) -> Self {
        self.quoting = quoting;
        self
    }

    /// Calls `observer` about every 4,096 records and once at the end, with the number of records written and
    /// the number of records at the start. `Break` stops the export with
    /// [`Cancelled`](crate::ErrorKind::Cancelled). The observer runs on the calling thread, while nothing is
    /// locked: it may call the store.
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
                Err(Error::new(ErrorKind::Cancelled, "the export was stopped by its progress callback"))
            }
            _ => Ok(()),
        }
    }
}

/// The result of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// Records written, not counting the header.
    pub rows: u64,
}

impl Pool {
    /// Writes the pool's records as CSV, oldest first.
    ///
    /// An export reads like [`scan`](Self::scan): others can write meanwhile, and records that they add are
    /// not exported. Up to four threads read ahead. The calling thread writes to `writer`, up to 64 KiB at a
    /// time, and flushes it at the end.
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
    /// `InvalidQuery` for a filter's bad term; `Io` if the writer fails; `Cancelled` by the observer;
    /// `NotFound`; `Closed` if the store is closed meanwhile; `Storage`. The bytes that the writer has by
    /// then look like a whole file: the caller must mark or discard them.
    pub fn export_csv(&self, mut writer: impl Write, options: &ExportOptions) -> Result<ExportReport> {
        let total = if options.on_progress.is_some() { self.count(&options.filter)? } else { 0 };
        options.filter.check()?;
        let reader = self.backend().open_scan()?;
        let slices = {
            let Range { start, end } = self.reading()?.ids()?;
            let step = usize::try_from(SLICE_RECORDS).unwrap_or(usize::MAX);
            (start..end).step_by(step).map(move |first| first..end.min(first + SLICE_RECORDS))
        };
        let failed = |error| Error::io("writing CSV", error);
        let mut header = csv_writer();
        header.write_record(options.columns.names()).map_err(write_error)?;
        writer.write_all(&text_of(header)?).map_err(failed)?;
        let mut report = ExportReport::default();
        let read = |ids| {
            reader.check_open()?;
            options.slice(&*self.reading()?, ids)
        };
        let write = |Slice { text, rows }| {
            text.chunks(WRITE_BYTES).try_for_each(|bytes| writer.write_all(bytes)).map_err(failed)?;
            let ticks = report.rows / TICK_ROWS;
            report.rows += rows;
            if report.rows / TICK_ROWS > ticks {
                options.tell(Progress::new(report.rows, total))
            } else {
                Ok(())
            }
        };
        in_order(slices, read, write)?;
        writer.flush().map_err(failed)?;
        options.tell(Progress::new(report.rows, total))?;
        Ok(report)
    }

    /// Writes the pool's records to a file, like [`export_csv`](Self::export_csv).
    ///
    /// The file is written beside the path, synced and renamed, so a reader of `path` sees either the old
    /// file or the complete new one. A file that is replaced keeps its permissions. A path that is not a
    /// regular file (a pipe, a device) is written to directly.
    ///
    /// # Errors
    ///
    /// The errors of [`export_csv`](Self::export_csv); `InvalidArgument` for the store's own file.
    pub fn export_csv_path(&self, path: impl AsRef<Path>, options: &ExportOptions) -> Result<ExportReport> {
        let path = path.as_ref();
        let failed = |error| Error::io(format_args!("writing {}", path.display()), error);
        if self.shared().is_own_file(path) {
            return Err(Error::invalid_argument(format!("{} is the store itself", path.display())));
        }
        // A link stays a link: its target is replaced.
        let led_to = || if path.exists() { path.to_owned() } else { follow_links(path) };
        let target = path.canonicalize().unwrap_or_else(|_| led_to());
        let existing = std::fs::metadata(&target).ok();
        if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
            // A pipe or a device is written to, not replaced; a directory is refused by the system.
            let file = OpenOptions::new().write(true).open(&target).map_err(failed)?;
            return self.export_csv(file, options);
        }
        let file =
            new_file_in(directory_of(&target), ".datapool-export-", ReadableBy::Usual).map_err(failed)?;
        let report = self.export_csv(SyncingWriter::new(file.as_file()), options)?;
        let like = existing.map(|_| target.as_path());
        publish(file, &target, like, Existing::Replaced).map_err(failed)?;
        Ok(report)
    }
}

impl ExportColumns {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Importable => &["value", "entity_type_id"],
            Self::Full => &[
                "value",
                "entity_type_id",
                "id",
                "flow_id",
                "flow_run_id",
                "step_id",
                "version",
                "created_at",
            ],
        }
    }
}

/// Rows as CSV text.
struct Slice {
    text: Vec<u8>,
    rows: u64,
}

impl ExportOptions {
    /// Formats the records of an id range.
    fn slice(&self, reading: &dyn Reading, ids: Range<RecordNumber>) -> Result<Slice> {
        let mut csv = csv_writer();
        let mut rows = 0;
        match self.columns {
            ExportColumns::Importable => {
                reading.each_value(&self.filter, ids, &mut |entity_type, value| {
                    rows += 1;
                    let mut digits = itoa::Buffer::new();
                    let value = self.quoting.cell(value);
                    csv.write_record([value.as_ref(), digits.format(entity_type.get())]).map_err(write_error)
                })?;
            }
            ExportColumns::Full => {
                for record in reading.slice(&self.filter, ids, RecordSort::Ascending, usize::MAX)? {
                    rows += 1;
                    self.write_full(&mut csv, &record).map_err(write_error)?;
                }
            }
        }
        Ok(Slice { text: text_of(csv)?, rows })
    }

    fn write_full(&self, csv: &mut csv::Writer<Vec<u8>>, record: &Record) -> csv::Result<()> {
        let id = |id: Option<&str>| self.quoting.cell(id.unwrap_or_default()).into_owned();
        csv.write_field(self.quoting.cell(&record.value).as_ref())?;
        csv.write_field(record.entity_type_id.to_string())?;
        csv.write_field(record.id.to_string())?;
        csv.write_field(id(record.flow_id.as_ref().map(AsRef::as_ref)))?;
        csv.write_field(id(record.flow_run_id.as_ref().map(AsRef::as_ref)))?;
        csv.write_field(id(record.step_id.as_ref().map(AsRef::as_ref)))?;
        csv.write_field(record.version.map(|version| version.to_string()).unwrap_or_default())?;
        csv.write_field(record.created_at.to_string())?;
        csv.write_record(None::<&[u8]>)
    }
}

fn csv_writer() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().buffer_capacity(WRITE_BYTES).from_writer(Vec::with_capacity(SLICE_BYTES))
}

fn text_of(csv: csv::Writer<Vec<u8>>) -> Result<Vec<u8>> {
    csv.into_inner().map_err(|error| Error::io("writing CSV", error.into_error()))
}

fn write_error(error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Error::io("writing CSV", error),
        other => Error::io("writing CSV", std::io::Error::other(format!("{other:?}"))),
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
