//! The rows of the group `growth`: the cost of an operation at all sizes up to the requested one.
//!
//! All sizes up to 30 M take half an hour. Owns: [`Measured`], which stores each point beside the databases
//! as soon as it is measured, so an interrupted run can be continued. To measure points again, remove the
//! file, or lines of it.

use std::fs::OpenOptions;
use std::path::PathBuf;

use super::{batch, check, import, listing};
use crate::Result;
use crate::data::Size;
use crate::engines::EngineKind;
use crate::files::Setting;
use crate::measure::{Rounds, Spread};
use crate::report::{Report, Unit};

/// The number of imports per engine. The largest import, which takes minutes, runs once.
const IMPORT_ROUNDS: usize = 3;
const IMPORTED_ONCE_FROM: usize = 10_000_000;

const IMPORT: &str = "import, a row";
const BATCH: &str = "batch, a value";
const PRESENT: &str = "check, present";
const ABSENT: &str = "check, absent";
const FIRST: &str = "first 100,000 checks, each";
const PAGE: &str = "filtered page";

/// The operations in the chart.
pub(crate) const DRAWN: [&str; 6] = [IMPORT, BATCH, PRESENT, ABSENT, FIRST, PAGE];
/// Further figures about checks.
const MORE_OF_CHECKS: [&str; 6] = [
    "slowest of the first checks",
    "a random read of the file",
    "present, 2 threads",
    "present, 8 threads",
    "absent, 2 threads",
    "absent, 8 threads",
];

/// Returns the engines that are measured for an operation at a size. SQLite's writes and pages are measured
/// up to ten million records, because a larger file with all its indexes takes hours to grow. At a hundred
/// million, only checks are measured.
fn kinds(operation: &str, size: Size) -> &'static [EngineKind] {
    use EngineKind::{Fjall, Lmdb, Redb, RocksDb, Sqlite, SqliteUnique, Store};
    match operation {
        IMPORT | BATCH | PAGE if size <= Size::TEN_MILLION => &[Store, Sqlite],
        IMPORT | BATCH | PAGE if size <= Size::THIRTY_MILLION => &[Store],
        IMPORT | BATCH | PAGE => &[],
        _ if size <= Size::THIRTY_MILLION => &[Store, SqliteUnique, Lmdb, Fjall, RocksDb, Redb],
        _ => &[Store, SqliteUnique],
    }
}

/// The cost of an operation for an engine at a size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) operation: &'static str,
    pub(crate) engine: &'static str,
    pub(crate) size: Size,
    pub(crate) seconds: f64,
}

pub(super) fn run(setting: Setting<'_>) -> Result<(Report, Vec<Point>)> {
    let mut report = Report::new("growth", format!("Growth, up to {} records", setting.size.name()));
    let mut measured = Measured::open(setting)?;
    for size in Size::ALL.into_iter().filter(|size| *size <= setting.size) {
        eprintln!("measuring: growth, {}", size.name());
        measure(Setting { size, ..setting }, &mut measured)?;
    }
    let points: Vec<Point> = measured.points.into_iter().filter(|point| point.size <= setting.size).collect();
    for operation in DRAWN.into_iter().chain(MORE_OF_CHECKS) {
        for size in Size::ALL {
            let here = points.iter().filter(|point| point.operation == operation && point.size == size);
            let cells: Vec<_> = here.map(|point| (point.engine, Spread::exactly(point.seconds))).collect();
            if !cells.is_empty() {
                report.row(format!("{operation}, {}", size.name()), Unit::Time, cells);
            }
        }
    }
    report.note(
        "A batch: the mean of 70 of 1,000, which are added to the pool; the store folds once among them.",
    );
    report.note(
        "The first checks are those after opening, half of them for values that are there. The other checks come after them, each \
         for a value that was not asked for before; medians of nine rounds of 20,000. The files are in the system's memory, and \
         each engine has its turn alone. SQLite has its unique index only. Threads: the time by the number of all checks.",
    );
    report.note("A filtered page: 50 records from the middle by flow, step and type, with their total.");
    Ok((report, points))
}

fn measure(setting: Setting<'_>, measured: &mut Measured) -> Result<()> {
    let size = setting.size;
    let missing = measured.missing(IMPORT, size);
    if !missing.is_empty() {
        let rounds = if size.records() < IMPORTED_ONCE_FROM { IMPORT_ROUNDS } else { 1 };
        for (kind, imports) in import::measure(setting, &missing, Rounds::Exactly(rounds))? {
            let median = Spread::of(imports.iter().map(|import| import.seconds)).median;
            measured.keep(IMPORT, size, kind, median)?;
        }
    }
    let missing = measured.missing(BATCH, size);
    if !missing.is_empty() {
        for (kind, mean) in missing.iter().zip(batch::growth(setting, &missing)?) {
            measured.keep(BATCH, size, *kind, mean)?;
        }
    }
    for kind in measured.missing(PRESENT, size) {
        let checks = check::from_opening(setting, kind)?;
        let ([present, present_2, present_8], [absent, absent_2, absent_8]) = (checks.present, checks.absent);
        measured.keep(FIRST, size, kind, checks.first)?;
        let more = [checks.slowest_first, checks.read, present_2, present_8, absent_2, absent_8];
        for (operation, seconds) in MORE_OF_CHECKS.into_iter().zip(more) {
            measured.keep(operation, size, kind, seconds)?;
        }
        measured.keep(ABSENT, size, kind, absent)?;
        // This is the last figure to be stored, so if it exists the others do, too.
        measured.keep(PRESENT, size, kind, present)?;
    }
    let missing = measured.missing(PAGE, size);
    if !missing.is_empty() {
        for (kind, spread) in missing.iter().zip(listing::filtered_page(setting, missing.len() > 1)?) {
            measured.keep(PAGE, size, *kind, spread.median)?;
        }
    }
    Ok(())
}

/// The points so far, and the file that stores them.
struct Measured {
    points: Vec<Point>,
    file: PathBuf,
}

impl Measured {
    fn open(setting: Setting<'_>) -> Result<Self> {
        let file = setting.directory.join("growth.csv");
        let mut points = Vec::new();
        if file.exists() {
            for row in csv::ReaderBuilder::new().has_headers(false).from_path(&file)?.deserialize() {
                let (operation, engine, records, seconds): (String, String, usize, f64) = row?;
                let operation = DRAWN.into_iter().chain(MORE_OF_CHECKS).find(|known| *known == operation);
                let engine = EngineKind::ALL.iter().map(|kind| kind.name()).find(|known| *known == engine);
                let size = Size::ALL.into_iter().find(|size| size.records() == records);
                let (Some(operation), Some(engine), Some(size)) = (operation, engine, size) else {
                    return Err(format!("{} has a line that is not a measured point", file.display()).into());
                };
                // A later line replaces an earlier one.
                points.retain(|point: &Point| {
                    (point.operation, point.engine, point.size) != (operation, engine, size)
                });
                points.push(Point { operation, engine, size, seconds });
            }
            eprintln!("{} points are in {}", points.len(), file.display());
        }
        Ok(Self { points, file })
    }

    /// Returns the engines that have no such point yet.
    fn missing(&self, operation: &str, size: Size) -> Vec<EngineKind> {
        let has = |kind: &EngineKind| {
            let mut here =
                self.points.iter().filter(|point| point.operation == operation && point.size == size);
            here.any(|point| point.engine == kind.name())
        };
        EngineKind::compiled(kinds(operation, size)).into_iter().filter(|kind| !has(kind)).collect()
    }

    /// Stores the cost of the operation for an engine.
    fn keep(&mut self, operation: &'static str, size: Size, kind: EngineKind, seconds: f64) -> Result<()> {
        let (engine, file) = (kind.name(), OpenOptions::new().create(true).append(true).open(&self.file)?);
        let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        eprintln!("  {operation}, {}, {engine}: {:.3} µs", size.name(), seconds * 1e6);
        csv.serialize((operation, engine, size.records(), seconds))?;
        self.points.push(Point { operation, engine, size, seconds });
        Ok(csv.flush()?)
    }
}
