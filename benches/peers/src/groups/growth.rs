//! The rows of the group `growth`: what an operation costs at all sizes up to the one that was asked for.
//!
//! The largest sizes take most of an hour. Owns: [`Measured`], which keeps each point beside the databases as soon as it is
//! measured: a run that was ended goes on where it was. Removing the file, or lines of it, has them measured anew.

use std::fs::OpenOptions;
use std::path::PathBuf;

use super::{batch, check, import, listing};
use crate::Result;
use crate::data::Size;
use crate::engines::EngineKind;
use crate::files::Setting;
use crate::measure::{Rounds, Spread};
use crate::report::{Report, Unit};

const KINDS: [EngineKind; 2] = [EngineKind::Store, EngineKind::Sqlite];
/// How often each imports; the largest, which takes minutes, once.
const IMPORT_ROUNDS: usize = 3;
const IMPORTED_ONCE_FROM: usize = 10_000_000;

/// What is followed.
pub(crate) const OPERATIONS: [&str; 5] =
    ["import, a row", "batch, a value", "present", "absent", "filtered page"];

/// What an operation costs an engine at a size.
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
    for operation in OPERATIONS {
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
    report.note("A filtered page: 50 records from the middle by flow, step and type, with their total.");
    Ok((report, points))
}

fn measure(setting: Setting<'_>, measured: &mut Measured) -> Result<()> {
    let [import, batch, present, absent, page] = OPERATIONS;
    let size = setting.size;
    if !measured.has(import, size) {
        let rounds = if size.records() < IMPORTED_ONCE_FROM { IMPORT_ROUNDS } else { 1 };
        let imports = import::measure(setting, &KINDS, Rounds::Exactly(rounds))?;
        let median = |all: &Vec<import::Import>| Spread::of(all.iter().map(|import| import.seconds)).median;
        measured.keep(import, size, imports.iter().map(|(_, all)| median(all)))?;
    }
    if !measured.has(batch, size) {
        measured.keep(batch, size, batch::growth(setting, &KINDS)?.into_iter())?;
    }
    if !measured.has(present, size) || !measured.has(absent, size) {
        let [of_present, of_absent] = check::growth(setting, &KINDS)?;
        measured.keep(present, size, of_present.into_iter())?;
        measured.keep(absent, size, of_absent.into_iter())?;
    }
    if !measured.has(page, size) {
        let spreads = listing::filtered_page(setting)?;
        measured.keep(page, size, spreads.iter().map(|spread| spread.median))?;
    }
    Ok(())
}

/// The points so far, and the file that has them.
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
                let operation = OPERATIONS.into_iter().find(|known| *known == operation);
                let engine = KINDS.iter().map(|kind| kind.name()).find(|known| *known == engine);
                let size = Size::ALL.into_iter().find(|size| size.records() == records);
                let (Some(operation), Some(engine), Some(size)) = (operation, engine, size) else {
                    return Err(format!("{} has a line that is no point of a growth", file.display()).into());
                };
                // A later line is a later measurement.
                points.retain(|point: &Point| {
                    (point.operation, point.engine, point.size) != (operation, engine, size)
                });
                points.push(Point { operation, engine, size, seconds });
            }
            eprintln!("{} points are in {}", points.len(), file.display());
        }
        Ok(Self { points, file })
    }

    fn has(&self, operation: &str, size: Size) -> bool {
        let here = self.points.iter().filter(|point| point.operation == operation && point.size == size);
        here.count() >= KINDS.len()
    }

    /// Takes what the operation costs each engine.
    fn keep(&mut self, operation: &'static str, size: Size, costs: impl Iterator<Item = f64>) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(&self.file)?;
        let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        self.points.retain(|point| point.operation != operation || point.size != size);
        for (kind, seconds) in KINDS.into_iter().zip(costs) {
            let engine = kind.name();
            eprintln!("  {operation}, {}, {engine}: {:.3} µs", size.name(), seconds * 1e6);
            csv.serialize((operation, engine, size.records(), seconds))?;
            self.points.push(Point { operation, engine, size, seconds });
        }
        Ok(csv.flush()?)
    }
}
