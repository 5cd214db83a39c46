//! The data set with which every engine is loaded: records in the order of their ids, run by run, and the
//! names that includes resolve.
//!
//! Owns: the number of records, and the time of each run. Always holds: the rows come from a seeded
//! generator. So each engine generates the same rows for itself, and ten million rows need not be kept in
//! memory.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datapool_store::Timestamp;

use crate::Result;
use crate::common::{ENTITY_TYPES, FLOWS, RUN_RECORDS, Row, Rows, STEPS, Shape, flow, step};

/// The time of the first run: 2025-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);
/// The time between two runs.
const RUN_INTERVAL: Duration = Duration::from_millis(1);

/// The name of the only pool.
pub(crate) const POOL: &str = "bench";

/// A number of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(usize);

/// The form of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Random values, a thousand per run.
    Random,
    /// Consecutively numbered values, a thousand per run.
    Sequential,
    /// Random values, each with its own run.
    RunPerRecord,
}

/// The records of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataSet {
    pub(crate) kind: Kind,
    pub(crate) size: Size,
}

/// The records of one run.
#[derive(Debug)]
pub(crate) struct Run {
    /// The number of the run, from 0. [`origin`](crate::common::origin) returns its flow and step.
    pub(crate) number: usize,
    pub(crate) time: Timestamp,
    pub(crate) rows: Vec<Row>,
}

impl Size {
    /// The sizes at which growth is measured. 1M is one segment of the store.
    pub(crate) const ALL: [Self; 9] = [
        Self(10_000),
        Self(30_000),
        Self(100_000),
        Self(300_000),
        Self::ONE_MILLION,
        Self(3_000_000),
        Self::TEN_MILLION,
        Self::THIRTY_MILLION,
        Self(100_000_000),
    ];
    pub(crate) const ONE_MILLION: Self = Self(1_000_000);
    /// Ten segments of the store.
    pub(crate) const TEN_MILLION: Self = Self(10_000_000);
    pub(crate) const THIRTY_MILLION: Self = Self(30_000_000);

    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            10_000 => "10K",
            30_000 => "30K",
            100_000 => "100K",
            300_000 => "300K",
            1_000_000 => "1M",
            3_000_000 => "3M",
            10_000_000 => "10M",
            30_000_000 => "30M",
            _ => "100M",
        }
    }

    pub(crate) fn records(self) -> usize {
        self.0
    }

    pub(crate) fn run_count(self) -> usize {
        self.records() / RUN_RECORDS
    }

    pub(crate) fn random(self) -> DataSet {
        DataSet { kind: Kind::Random, size: self }
    }

    /// Returns `count` values, spread over all records.
    pub(crate) fn some_values(self, count: usize) -> Vec<String> {
        self.random().some_rows(count).into_iter().map(|row| row.value).collect()
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Random, Self::Sequential, Self::RunPerRecord];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Random => "random values",
            Self::Sequential => "sequential values",
            Self::RunPerRecord => "one run per record",
        }
    }

    fn shape(self) -> Shape {
        match self {
            Self::Random | Self::RunPerRecord => Shape::Random,
            Self::Sequential => Shape::Sequential,
        }
    }

    /// Returns rows that are in no file.
    pub(crate) fn fresh_rows(self) -> Rows {
        Rows::fresh(self.shape())
    }

    fn run_records(self) -> usize {
        match self {
            Self::Random | Self::Sequential => RUN_RECORDS,
            Self::RunPerRecord => 1,
        }
    }
}

impl DataSet {
    /// Returns all rows, in the order of their ids.
    pub(crate) fn rows(self) -> impl Iterator<Item = Row> {
        Rows::stored(self.kind.shape()).take(self.size.records())
    }

    pub(crate) fn run_count(self) -> usize {
        self.size.records() / self.kind.run_records()
    }

    /// Returns all runs, oldest first.
    pub(crate) fn runs(self) -> impl Iterator<Item = Run> {
        let mut rows = self.rows();
        (0..self.run_count()).map(move |number| {
            let rows = rows.by_ref().take(self.kind.run_records()).collect();
            Run { number, time: time_of(number), rows }
        })
    }

    /// Returns `count` rows, spread over all of them, or fewer if there are fewer.
    pub(crate) fn some_rows(self, count: usize) -> Vec<Row> {
        let apart = (self.size.records() / count).max(1);
        self.rows().skip(apart / 2).step_by(apart).take(count).collect()
    }
}

/// The data that a program registers for an id, for includes to resolve.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named<Id> {
    pub(crate) id: Id,
    pub(crate) name: String,
    /// A JSON object with sorted names, so that the store, which parses it, prints the same text.
    pub(crate) attributes: String,
}

impl<Id: Display> Named<Id> {
    fn new(kind: &str, id: Id) -> Self {
        let name = format!("The {kind} {id}");
        let attributes = format!(r#"{{"active":true,"kind":"{kind}","label":"{id}","priority":3}}"#);
        Self { id, name, attributes }
    }
}

pub(crate) fn entity_types() -> impl Iterator<Item = Named<u32>> {
    ENTITY_TYPES.into_iter().map(|id| Named::new("entity type", id))
}

pub(crate) fn flows() -> impl Iterator<Item = Named<String>> {
    (0..FLOWS).map(|run| Named::new("flow", flow(run)))
}

pub(crate) fn flow_runs(set: DataSet) -> impl Iterator<Item = Named<String>> {
    (0..set.run_count()).map(|run| Named::new("flow run", run_id(run)))
}

pub(crate) fn flow_steps() -> impl Iterator<Item = Named<String>> {
    (0..STEPS).map(|run| Named::new("flow step", step(run)))
}

/// Returns the time at which a run tracked its records.
pub(crate) fn time_of(run: usize) -> Timestamp {
    START.saturating_add(RUN_INTERVAL * u32::try_from(run).unwrap_or(u32::MAX))
}

/// Returns the id of a run.
pub(crate) fn run_id(run: usize) -> String {
    format!("run-{run}")
}

/// Returns the file of an engine in a directory. Builds it if it does not exist.
///
/// A file gets its name when it is complete, so an interrupted build is never used.
pub(crate) fn file(
    directory: &Path,
    name: &str,
    set: DataSet,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let name = match set.kind {
        Kind::Random => format!("{name}-{}", set.size.name()),
        kind => format!("{name}-{}-{}", set.size.name(), kind.name().replace(' ', "-")),
    };
    let path = directory.join(&name);
    if path.exists() {
        return Ok(path);
    }
    let unfinished = directory.join(format!("{name}-unfinished"));
    if unfinished.exists() {
        std::fs::remove_file(&unfinished)?;
    }
    let start = Instant::now();
    build(&unfinished)?;
    std::fs::rename(&unfinished, &path)?;
    let megabytes = std::fs::metadata(&path)?.len() / 1_000_000;
    eprintln!("built {} in {:.0?}: {megabytes} MB", path.display(), start.elapsed());
    Ok(path)
}
