//! The rows of the group `growth`: what an operation costs at all sizes up to the one that was asked for.

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
    let mut points = Vec::new();
    for size in Size::ALL.into_iter().filter(|size| *size <= setting.size) {
        eprintln!("measuring: growth, {}", size.name());
        points.extend(points_at(Setting { size, ..setting })?);
    }
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

fn points_at(setting: Setting<'_>) -> Result<Vec<Point>> {
    let rounds = if setting.size.records() < IMPORTED_ONCE_FROM { IMPORT_ROUNDS } else { 1 };
    let imports = import::measure(setting, &KINDS, Rounds::Exactly(rounds))?;
    let imports = imports.iter().map(|(_, all)| Spread::of(all.iter().map(|import| import.seconds)).median);
    let [present, absent] = check::growth(setting, &KINDS)?;
    let pages = listing::filtered_page(setting)?.map(|spread| spread.median).to_vec();
    let costs = [imports.collect(), batch::growth(setting, &KINDS)?, present, absent, pages];
    let mut points = Vec::new();
    for (operation, seconds) in OPERATIONS.into_iter().zip(costs) {
        for (kind, seconds) in KINDS.into_iter().zip(seconds) {
            eprintln!("  {operation}, {}, {}: {:.3} µs", setting.size.name(), kind.name(), seconds * 1e6);
            points.push(Point { operation, engine: kind.name(), size: setting.size, seconds });
        }
    }
    Ok(points)
}
