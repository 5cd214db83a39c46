//! The groups of rows, and the code that runs each.

mod batch;
mod check;
mod expire;
mod export;
mod growth;
mod import;
mod listing;
mod open;
#[cfg(feature = "postgres")]
mod postgres;
mod single;

pub(crate) use export::SQLITE_COMMAND;
pub(crate) use growth::{DRAWN, Point};
pub(crate) use import::run_once;

use datapool_store::Timestamp;

use crate::Result;
use crate::common::{Random, Row};
use crate::data::{DataSet, time_of};
use crate::engines::Engine;
use crate::files::Setting;
use crate::report::Report;

/// Rows that are measured together on the same files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Import,
    Batch,
    Single,
    Check,
    Expire,
    Export,
    Open,
    Listing,
    Values,
    Growth,
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Group {
    /// The groups that need no server.
    pub(crate) const ALONE: [Self; 10] = [
        Self::Import,
        Self::Batch,
        Self::Single,
        Self::Check,
        Self::Expire,
        Self::Export,
        Self::Open,
        Self::Listing,
        Self::Values,
        Self::Growth,
    ];

    /// Returns all groups.
    pub(crate) fn all() -> Vec<Self> {
        let all = Self::ALONE.to_vec();
        #[cfg(feature = "postgres")]
        let all = [all, vec![Self::Postgres]].concat();
        all
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Batch => "batch",
            Self::Single => "single",
            Self::Check => "check",
            Self::Expire => "expire",
            Self::Export => "export",
            Self::Open => "open",
            Self::Listing => "listing",
            Self::Values => "values",
            Self::Growth => "growth",
            #[cfg(feature = "postgres")]
            Self::Postgres => "postgres",
        }
    }

    /// Measures a group. Returns its report, and for `growth` also the points.
    pub(crate) fn run(self, setting: Setting<'_>) -> Result<(Report, Vec<Point>)> {
        let report = match self {
            Self::Import => import::run(setting),
            Self::Batch => batch::run(setting),
            Self::Single => single::run(setting),
            Self::Check => check::run(setting),
            Self::Expire => expire::run(setting),
            Self::Export => export::run(setting),
            Self::Open => open::run(setting),
            Self::Listing => listing::run(setting),
            Self::Values => listing::by_value(setting),
            Self::Growth => return growth::run(setting),
            #[cfg(feature = "postgres")]
            Self::Postgres => postgres::run(setting),
        };
        Ok((report?, Vec::new()))
    }
}

// ---- Shared by several groups ---------------------------------------------------------------------------------

/// The largest number of rows that are looked up in turn. They are on different pages, and a cache cannot
/// hold all of them.
const ASKED_MAX: usize = 200_000;

/// Returns rows to look up, in an order that is independent of where they are stored: present ones and absent
/// ones.
fn asked(set: DataSet) -> [Vec<Row>; 2] {
    let mut present = set.some_rows(ASKED_MAX.min(set.size.records()));
    Random(3).shuffle(&mut present);
    // As many as there are present ones, so that both use the same amount of memory.
    let absent = set.kind.fresh_rows().take(present.len()).collect();
    [present, absent]
}

/// Checks that an engine has all rows of a data set and no others.
fn check_contents(name: &str, engine: &mut dyn Engine, set: DataSet) -> Result<()> {
    assert_eq!(engine.count()?, set.size.records() as u64, "{name}");
    let [mut rows, absent] = asked(set);
    rows.truncate(500);
    let present = rows.len();
    rows.extend(absent.into_iter().take(500));
    let expected: Vec<bool> = (0..rows.len()).map(|index| index < present).collect();
    assert_eq!(engine.contains_many(&rows)?, expected, "{name}");
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(engine.contains(row)?, expected, "{name}: {row:?}");
    }
    Ok(())
}

/// Returns the time of a run that follows those of a data set.
fn time_after(set: DataSet, run: usize) -> Timestamp {
    time_of(set.run_count() + run)
}
