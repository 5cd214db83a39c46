//! Pruning, checking, rebuilding, compacting, vacuuming and copying the store.

use std::path::Path;

use datapool_store::{DataPoolStore, Finding, RebuildReport, VerifyReport};

use crate::bars::{Bar, follow};
use crate::failure::Failure;
use crate::format::Format;
use crate::grid::{Column, Grid};
use crate::open::{self, StoreFile};
use crate::output::{self, or_dash};
use crate::plain::plain;

pub(crate) fn verify(file: &StoreFile, format: Format) -> Result<(), Failure> {
    find(file, |store| {
        let report = {
            let bar = Bar::spinner("checking");
            store.verify_with_progress(follow(bar.handle()))?
        };
        let answer = match format {
            Format::Json => output::json(&report),
            Format::Human => print_findings(&report),
        };
        Ok((answer, report.ok))
    })
}

pub(crate) fn rebuild_indexes(file: &StoreFile, format: Format) -> Result<(), Failure> {
    find(file, |store| {
        let report = {
            let _bar = Bar::spinner("rebuilding");
            let mut report = store.rebuild_indexes()?;
            // Records that were damaged but can be read would look repaired.
            for finding in store.verify()?.findings {
                if !report.left.contains(&finding) {
                    report.left.push(finding);
                }
            }
            report
        };
        let answer = match format {
            Format::Json => output::json(&report),
            Format::Human => print_rebuilt(&report),
        };
        Ok((answer, report.left.is_empty()))
    })
}

/// Opens the file for a command that looks for problems and prints them. It returns what printing returned, and
/// true if there are none.
///
/// It prints before the file is closed, because closing a damaged file may fail, and the findings would be lost.
fn find(
    file: &StoreFile,
    look: impl FnOnce(&DataPoolStore) -> Result<(Result<(), Failure>, bool), Failure>,
) -> Result<(), Failure> {
    let mut found = (Ok(()), true);
    open::to_write(file, |store| {
        found = look(store)?;
        Ok(())
    })?;
    match found {
        // The exit code reports problems even if the reader of the findings has closed the pipe.
        (Ok(()) | Err(Failure::ClosedPipe), false) => Err(Failure::Findings),
        (printed, _) => printed,
    }
}

fn print_findings(report: &VerifyReport) -> Result<(), Failure> {
    let checked = format!(
        "checked {}, {}",
        output::number_of(report.pools, "data pool"),
        output::number_of(report.records, "record")
    );
    if report.ok {
        return output::lines([format!("{checked}: {}", output::good("OK, no problems found"))]);
    }
    let found = output::bad(&output::number_of(report.findings_count, "finding"));
    let told = report.findings.len() as u64;
    let left =
        (report.findings_count > told).then(|| format!("only the first {} are listed", output::count(told)));
    output::lines([format!("{checked}: {found}"), table(&report.findings)].into_iter().chain(left))
}

fn table(findings: &[Finding]) -> String {
    let mut grid = Grid::new([
        Column::Number("pool"),
        Column::Text("table"),
        Column::Text("key"),
        Column::Text("what is wrong"),
    ]);
    for finding in findings {
        let pool = or_dash(finding.data_pool_id);
        grid.row([pool, finding.table.clone(), finding.key.clone(), finding.reason.clone()]);
    }
    grid.to_string()
}

fn print_rebuilt(report: &RebuildReport) -> Result<(), Failure> {
    let done = format!(
        "rebuilt the indexes of {}, {}",
        output::number_of(report.pools, "data pool"),
        output::number_of(report.records, "record")
    );
    let left = (!report.left.is_empty()).then(|| {
        let left = output::number_of(report.left.len() as u64, "problem");
        let title = output::bad(&format!("{left} cannot be repaired from the records"));
        format!("{title}\n{}", table(&report.left))
    });
    output::lines([done].into_iter().chain(left))
}

pub(crate) fn prune(file: &StoreFile, pool: Option<&str>, format: Format) -> Result<(), Failure> {
    let report = open::to_write(file, |store| {
        let _bar = Bar::spinner("pruning");
        Ok(match pool {
            Some(pool) => open::pool(store, file, pool)?.prune()?,
            None => store.prune()?,
        })
    })?;
    match format {
        Format::Json => output::json(&report),
        Format::Human => output::lines([format!(
            "removed {} ({}) and {}",
            output::number_of(report.records, "deleted or expired record"),
            output::bytes(report.bytes),
            output::number_of(report.claims, "old claim")
        )]),
    }
}

pub(crate) fn compact(file: &StoreFile, format: Format) -> Result<(), Failure> {
    let mut report = open::to_write(file, |store| {
        let _bar = Bar::spinner("compacting");
        Ok(store.compact()?)
    })?;
    report.bytes_after = closed_size(file, report.bytes_after);
    match format {
        Format::Json => output::json(&report),
        Format::Human => output::lines([sizes(file, report.bytes_before, report.bytes_after)]),
    }
}

pub(crate) fn vacuum(file: &StoreFile, format: Format) -> Result<(), Failure> {
    let mut report = open::to_write(file, |store| {
        let bar = Bar::spinner("vacuuming");
        Ok(store.vacuum_with_progress(follow(bar.handle()))?)
    })?;
    report.bytes_after = closed_size(file, report.bytes_after);
    match format {
        Format::Json => output::json(&report),
        Format::Human => {
            let sizes = sizes(file, report.bytes_before, report.bytes_after);
            output::lines([format!("{sizes}, {}", output::number_of(report.records, "record"))])
        }
    }
}

/// Returns the size of the closed file, because closing writes a little more. `open` is the size before closing.
fn closed_size(file: &StoreFile, open: u64) -> u64 {
    file.path().and_then(|path| path.metadata().ok()).map_or(open, |closed| closed.len())
}

fn sizes(file: &StoreFile, before: u64, after: u64) -> String {
    format!("{}: {} before, {} now", plain(&file.display()), output::bytes(before), output::bytes(after))
}

pub(crate) fn backup(file: &StoreFile, destination: &Path, format: Format) -> Result<(), Failure> {
    let report = open::to_read(file, |store| {
        let bar = Bar::spinner("copying");
        Ok(store.backup_with_progress(destination, follow(bar.handle()))?)
    })?;
    match format {
        Format::Json => output::json(&report),
        Format::Human => {
            let (records, bytes) = (output::number_of(report.records, "record"), output::bytes(report.bytes));
            output::lines([format!("{records}, {bytes} in {}", plain(&destination.display().to_string()))])
        }
    }
}
