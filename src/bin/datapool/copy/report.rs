//! The report at the end of a copy.

use serde::Serialize;

use super::registered::RegisteredReport;
use crate::failure::Failure;
use crate::grid::{Column, Grid};
use crate::output;

/// The result for one pool.
#[derive(Debug, Serialize)]
pub(super) struct PoolReport {
    pub(super) name: String,
    pub(super) from: u64,
    pub(super) to: u64,
    /// Records in the copy.
    pub(super) records: u64,
    /// Records that this run added.
    pub(super) added: u64,
}

/// The result of a copy.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// True if an earlier run copied everything, and both stores are still the same.
    pub(super) already_copied: bool,
    pub(super) pools: Vec<PoolReport>,
    pub(super) records: u64,
    pub(super) added: u64,
    #[serde(flatten)]
    pub(super) registered: RegisteredReport,
    /// Open claims of the source. They are not copied.
    pub(super) open_claims: u64,
}

impl Report {
    pub(super) fn print(&self) -> Result<(), Failure> {
        let mut grid = Grid::new([
            Column::Text("pool"),
            Column::Number("from id"),
            Column::Number("to id"),
            Column::Number("records"),
            Column::Number("added now"),
        ]);
        for pool in &self.pools {
            grid.row([
                pool.name.clone(),
                pool.from.to_string(),
                pool.to.to_string(),
                output::count(pool.records),
                output::count(pool.added),
            ]);
        }
        let sums = format!(
            "{} {}, {}; registered: {}",
            if self.already_copied { "already copied" } else { "copied" },
            output::number_of(self.pools.len() as u64, "data pool"),
            output::number_of(self.records, "record"),
            self.registered
        );
        let left = format!("not copied: results, and {}", output::number_of(self.open_claims, "open claim"));
        output::lines([grid.to_string(), sums, left])
    }
}
