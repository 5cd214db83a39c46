//! Importing and exporting CSV files.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use datapool_store::{Error, ErrorKind, ExportColumns, ExportOptions, ImportOptions, ImportReport, Pool};

use crate::args::{Export, Import};
use crate::bars::{Bar, Handle, follow};
use crate::failure::Failure;
use crate::format::Format;
use crate::grid::{Column, Grid};
use crate::input::{self, Whole};
use crate::open::{self, StoreFile};
use crate::output::{self, or_dash};
use crate::plain::plain;
use crate::terminal::{self, Escaping};

/// The argument that stands for standard input or output.
const STANDARD: &str = "-";

pub(crate) fn import(file: &StoreFile, arguments: &Import, format: Format) -> Result<(), Failure> {
    // Read before opening: others can use the store while this waits for input.
    let source = Source::of(&arguments.input, file.path())?;
    let options = arguments.options();
    let report = open::to_write(file, |store| {
        let pool = open::pool(store, file, &arguments.pool)?;
        source.import_into(&pool, options)
    })?;
    match format {
        Format::Json => output::json(&report),
        Format::Human => print_report(&report),
    }
}

/// The source of an import's rows.
enum Source<'a> {
    /// A file and its size. The library can read it more than once.
    File(&'a Path, u64),
    /// The name and the contents of an input that could be read only once.
    Read(String, Whole),
}

impl<'a> Source<'a> {
    /// Finds the source that the argument names. Input that is not a file is read to its end. `store` is the file that
    /// will be opened, if the store is one.
    fn of(input: &'a Path, store: Option<&Path>) -> Result<Self, Failure> {
        let read = |name: String, reader: &mut dyn Read| {
            let _bar = Bar::spinner("reading");
            input::read_whole(reader, &name, store).map(|whole| Self::Read(name, whole))
        };
        if input == Path::new(STANDARD) {
            return read("standard input".to_owned(), &mut io::stdin().lock());
        }
        let cannot_open = |error| Failure::of(ErrorKind::Io, format!("opening {}: {error}", input.display()));
        let found = std::fs::metadata(input).map_err(cannot_open)?;
        if found.is_file() {
            return Ok(Self::File(input, found.len()));
        }
        read(input.display().to_string(), &mut File::open(input).map_err(cannot_open)?)
    }

    fn import_into(self, pool: &Pool, options: ImportOptions) -> Result<ImportReport, Failure> {
        let (name, bytes) = match &self {
            Self::File(path, bytes) => (path.display().to_string(), *bytes),
            Self::Read(name, whole) => (name.clone(), whole.bytes),
        };
        let bar = Bar::bytes("importing", bytes);
        let options = observed(options, bar.handle(), bytes);
        let imported = match self {
            Self::File(path, _) => pool.import_csv_path(path, &options),
            Self::Read(_, whole) => pool.import_csv(whole.reader, &options),
        };
        imported.map_err(|error| match error.kind() {
            ErrorKind::Csv { .. } | ErrorKind::AlreadyExists | ErrorKind::Io => Failure::about(name, error),
            _ => error.into(),
        })
    }
}

/// Makes the import move a bar. Adding the rows after reading them is one step, which reports no progress.
fn observed(options: ImportOptions, bar: Handle, total: u64) -> ImportOptions {
    options.on_progress(move |progress| {
        bar.set(progress.bytes);
        bar.say_rows(progress.rows);
        if progress.bytes >= total {
            bar.turn();
        }
        ControlFlow::Continue(())
    })
}

fn print_report(report: &ImportReport) -> Result<(), Failure> {
    let blank = match report.blank_rows {
        0 => String::new(),
        rows => format!("; {} blank", output::count(rows)),
    };
    let sums = format!(
        "{}: {} added, {} skipped, {} bad{blank}",
        output::number_of(report.rows, "row"),
        output::count(report.added),
        output::count(report.skipped),
        output::count(report.bad_rows)
    );
    if report.errors.is_empty() {
        return output::lines([sums]);
    }
    let mut grid = Grid::new([Column::Number("line"), Column::Number("column"), Column::Text("reason")]);
    for bad in &report.errors {
        grid.row([bad.line.to_string(), or_dash(bad.column), bad.reason.clone()]);
    }
    let told = report.errors.len() as u64;
    let left = (report.bad_rows > told)
        .then(|| format!("only the first {told} of {} bad rows are listed", output::count(report.bad_rows)));
    output::lines([sums, grid.to_string()].into_iter().chain(left))
}

pub(crate) fn export(file: &StoreFile, arguments: &Export, format: Format) -> Result<(), Failure> {
    let columns = if arguments.full { ExportColumns::Full } else { ExportColumns::Importable };
    let options = ExportOptions::new().columns(columns).filter(arguments.filter.filter());
    let output: Option<&PathBuf> =
        arguments.output.as_ref().filter(|path| path.as_path() != Path::new(STANDARD));
    let report = open::to_read(file, |store| {
        let pool = open::pool(store, file, &arguments.pool)?;
        let is_in_the_way = output.is_none() && terminal::is_seen();
        let bar = if is_in_the_way { Bar::hidden() } else { Bar::spinner("exporting") };
        let options = options.on_progress(follow(bar.handle()));
        match output {
            Some(path) => pool.export_csv_path(path, &options).map_err(|error| about_output(path, error)),
            None if terminal::is_seen() => Ok(pool.export_csv(Escaping::new(io::stdout().lock()), &options)?),
            None => Ok(pool.export_csv(io::stdout().lock(), &options)?),
        }
    })?;
    // On standard output, the records are the answer.
    let Some(path) = output else { return Ok(()) };
    match format {
        Format::Json => output::json(&report),
        Format::Human => {
            let rows = output::number_of(report.rows, "row");
            output::lines([format!("{rows} in {}", plain(&path.display().to_string()))])
        }
    }
}

/// Adds the name of the output to an error of writing, unless the message has it.
fn about_output(path: &Path, error: Error) -> Failure {
    let path = path.display().to_string();
    let is_about_writing = matches!(error.kind(), ErrorKind::Io | ErrorKind::StorageFull);
    if is_about_writing && !error.to_string().contains(&path) {
        Failure::about(path, error)
    } else {
        error.into()
    }
}
