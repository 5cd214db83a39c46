//! CSV files into a pool and out of it.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use datapool_store::{ErrorKind, ExportColumns, ExportOptions, ImportOptions, ImportReport, Pool};

use crate::args::{Export, Import};
use crate::bars::{self, Bar, Handle, follow};
use crate::failure::Failure;
use crate::open;
use crate::output::{self, Column, Format, Grid, or_dash};

/// Stands for standard input or output.
const STANDARD: &str = "-";

pub(crate) fn import(file: &Path, arguments: &Import, format: Format) -> Result<(), Failure> {
    let report = open::to_write(file, |store| {
        let pool = open::pool(store, file, &arguments.pool)?;
        import_into(&pool, arguments)
    })?;
    match format {
        Format::Json => output::json(&report),
        Format::Human => print_report(&report),
    }
}

fn import_into(pool: &Pool, arguments: &Import) -> Result<ImportReport, Failure> {
    let input = arguments.input.as_path();
    let options = ImportOptions::new()
        .on_duplicate(arguments.on_duplicate.into())
        .on_bad_row(arguments.on_bad_row.into());
    if input == Path::new(STANDARD) {
        let bar = Bar::bytes("importing", None);
        let imported = pool.import_csv(io::stdin().lock(), &observed(options, bar.handle(), None));
        return imported.map_err(|error| Failure::about("standard input", error));
    }
    let failed = |error: datapool_store::Error| match error.kind() {
        ErrorKind::Csv { .. } | ErrorKind::AlreadyExists | ErrorKind::Io => {
            Failure::about(input.display(), error)
        }
        _ => error.into(),
    };
    let cannot_open = |error| Failure::new(format!("opening {}: {error}", input.display()));
    let found = std::fs::metadata(input).map_err(cannot_open)?;
    let bytes = found.is_file().then_some(found.len());
    let bar = Bar::bytes("importing", bytes);
    let options = observed(options, bar.handle(), bytes);
    if bytes.is_some() {
        return pool.import_csv_path(input, &options).map_err(failed);
    }
    // A pipe can be read once.
    let opened = File::open(input).map_err(cannot_open)?;
    pool.import_csv(opened, &options).map_err(failed)
}

/// Has the import move a bar. What is read is then added in one step, of which nothing is heard.
fn observed(options: ImportOptions, bar: Handle, total: Option<u64>) -> ImportOptions {
    options.on_progress(move |progress| {
        bar.set(progress.bytes);
        bar.say_rows(progress.rows);
        if total.is_some_and(|total| progress.bytes >= total) {
            bar.turn();
        }
        ControlFlow::Continue(())
    })
}

fn print_report(report: &ImportReport) -> Result<(), Failure> {
    let sums = format!(
        "{}: {} added, {} skipped, {} bad",
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
        .then(|| format!("these are the first {told} of {} bad rows", output::count(report.bad_rows)));
    output::lines([sums, grid.to_string()].into_iter().chain(left))
}

pub(crate) fn export(file: &Path, arguments: &Export, format: Format) -> Result<(), Failure> {
    let columns = if arguments.full { ExportColumns::Full } else { ExportColumns::Importable };
    let options = ExportOptions::new().columns(columns);
    let output: Option<&PathBuf> =
        arguments.output.as_ref().filter(|path| path.as_path() != Path::new(STANDARD));
    let report = open::to_read(file, |store| {
        let pool = open::pool(store, file, &arguments.pool)?;
        let is_in_the_way = output.is_none() && bars::is_output_seen();
        let bar = if is_in_the_way { Bar::hidden() } else { Bar::spinner("exporting") };
        let options = options.on_progress(follow(bar.handle()));
        Ok(match output {
            Some(path) => pool.export_csv_path(path, &options)?,
            None => pool.export_csv(io::stdout().lock(), &options)?,
        })
    })?;
    // To standard output the records are the answer.
    let Some(path) = output else { return Ok(()) };
    match format {
        Format::Json => output::json(&report),
        Format::Human => {
            let rows = output::number_of(report.rows, "row");
            output::lines([format!("{rows} in {}", path.display())])
        }
    }
}
