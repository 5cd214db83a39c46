//! The rows of the group `import`: a CSV file into an empty database, durable, with all indexes.
//!
//! Always holds: each import runs in its own process, so that its memory is separate, and no allocator or
//! cache is warm. The time from opening the CSV file to the return of the call is measured; creating the
//! database is not.

use std::path::Path;
use std::process::Command;

use datapool_store::StoreOptions;

use crate::Result;
use crate::engines::EngineKind;
use crate::files::{Setting, disk_bytes, settle};
use crate::measure::{Rounds, Spread, Turn, float, take_turns, timed};
use crate::report::{Report, Unit};

const KINDS: [EngineKind; 9] = [
    EngineKind::Store,
    EngineKind::StoreSkipping,
    EngineKind::Sqlite,
    EngineKind::SqliteIndexedLater,
    EngineKind::Lmdb,
    EngineKind::Fjall,
    EngineKind::RocksDb,
    EngineKind::Redb,
    EngineKind::RedbAppend,
];

/// The cost of an import.
#[derive(Debug, Clone, Copy)]
pub(super) struct Import {
    /// The time per row.
    pub(super) seconds: f64,
    file_bytes: f64,
    /// The peak memory of the process; `None` if the system does not report it.
    peak_bytes: Option<f64>,
}

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    let imports = measure(setting, &EngineKind::compiled(&KINDS), Rounds::Enough)?;
    let mut report = Report::new("import", format!("Import, {} records", setting.size.name()));
    let cells = |of: &dyn Fn(&Import) -> Option<f64>| {
        let spread = |imports: &Vec<Import>| Spread::of(imports.iter().filter_map(of));
        let spreads = imports.iter().map(|(kind, imports)| (kind.name(), spread(imports)));
        spreads.filter(|(_, spread)| !spread.median.is_nan()).collect::<Vec<_>>()
    };
    report.row("rows", Unit::Rate("rows"), cells(&|import| Some(import.seconds)));
    report.row("file", Unit::Bytes, cells(&|import| Some(import.file_bytes)));
    report.row("peak memory", Unit::Bytes, cells(&|import| import.peak_bytes));
    let over_cache = cells(&|import| Some((import.peak_bytes? - cached(import.file_bytes)).max(0.0)));
    report.row("memory over the cache", Unit::Bytes, over_cache);
    report.note("The cache is 256 MiB, or the file's length if that is less.");
    report.note("LMDB's memory is mostly pages of its file, which are the system's to take back.");
    report.note("fjall's import is not one atomic step: each of its tables is ingested separately.");
    report.note("The other engines have unique keys; \"store, skipping\" is the matching mode of the store.");
    Ok(report)
}

/// Returns the number of bytes of a file that its engine may cache.
fn cached(file_bytes: f64) -> f64 {
    file_bytes.min(float(StoreOptions::DEFAULT_CACHE_SIZE as u64))
}

/// Returns the cost of imports by several engines, which take turns.
pub(super) fn measure(
    setting: Setting<'_>,
    kinds: &[EngineKind],
    rounds: Rounds,
) -> Result<Vec<(EngineKind, Vec<Import>)>> {
    let csv = setting.csv()?;
    let turn = |kind: &EngineKind| {
        let (kind, csv) = (*kind, csv.clone());
        Turn::new(move || one_import(setting, kind, &csv))
    };
    let taken = take_turns(rounds, kinds.iter().map(turn).collect())?;
    Ok(kinds.iter().copied().zip(taken).collect())
}

fn one_import(setting: Setting<'_>, kind: EngineKind, csv: &Path) -> Result<Import> {
    let directory = setting.scratch()?;
    settle();
    let mut child = Command::new(std::env::current_exe()?);
    let output = child.arg(crate::IMPORT_ONCE).arg(kind.name()).arg(csv).arg(directory.path()).output()?;
    let (text, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    let mut words = text.split_whitespace();
    let mut next = || words.next().ok_or_else(|| format!("importing by {}: {errors}", kind.name()));
    let (seconds, added, peak) =
        (next()?.parse::<f64>()?, next()?.parse::<usize>()?, next()?.parse::<u64>()?);
    assert_eq!(added, setting.size.records(), "{}", kind.name());
    let seconds = seconds / float(added as u64);
    let file_bytes = float(disk_bytes(directory.path())?);
    let import = Import { seconds, file_bytes, peak_bytes: (peak > 0).then(|| float(peak)) };
    eprintln!("import by {}: {:.2} µs a row", kind.name(), import.seconds * 1e6);
    Ok(import)
}

/// Runs in the child process: imports, and prints the cost.
pub(crate) fn run_once(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut next = || arguments.next().ok_or("an import needs an engine, a file and a directory");
    let (name, csv, directory) = (next()?, next()?, next()?);
    let kind = EngineKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or("no such engine")?;
    let mut engine = kind.open(Path::new(&directory))?;
    let (seconds, added) = timed(|| engine.import(Path::new(&csv)))?;
    println!("{seconds} {added} {}", peak_memory().unwrap_or_default());
    Ok(())
}

/// Returns the peak memory of this process in bytes. Only Linux reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1_024)
}
