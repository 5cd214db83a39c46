//! The data set that every engine is loaded with: records in the order of their ids, run by run.
//!
//! Owns: how many records there are, and when each run tracked its own. Always holds: the rows come from a seeded
//! generator, so each engine draws the same ones for itself and nobody keeps ten million of them in memory.

use std::time::Duration;

use datapool_store::Timestamp;

use crate::common::{RUN_RECORDS, Row, Rows, Shape};

/// 2025-01-01T00:00:00Z, when the first run tracked.
const START: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);
/// How much later each further run tracked.
pub(crate) const RUN_INTERVAL: Duration = Duration::from_millis(1);

/// So many records, a thousand to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// 1,000,000: one segment of the store.
    OneMillion,
    /// 10,000,000: ten segments.
    TenMillion,
}

/// What one run tracked.
#[derive(Debug)]
pub(crate) struct Run {
    /// From 0; [`origin`](crate::common::origin) has its flow and step.
    pub(crate) number: usize,
    pub(crate) time: Timestamp,
    pub(crate) rows: Vec<Row>,
}

impl Size {
    pub(crate) const ALL: [Self; 2] = [Self::OneMillion, Self::TenMillion];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneMillion => "1M",
            Self::TenMillion => "10M",
        }
    }

    pub(crate) fn records(self) -> usize {
        match self {
            Self::OneMillion => 1_000_000,
            Self::TenMillion => 10_000_000,
        }
    }

    pub(crate) fn run_count(self) -> usize {
        self.records() / RUN_RECORDS
    }

    /// All runs, oldest first. The first record of the first run gets the id 1.
    pub(crate) fn runs(self) -> impl Iterator<Item = Run> {
        let mut rows = Rows::stored(Shape::Random);
        (0..self.run_count()).map(move |number| Run {
            number,
            time: self.time_of(number),
            rows: rows.batch(RUN_RECORDS),
        })
    }

    /// When a run tracked its records.
    pub(crate) fn time_of(self, run: usize) -> Timestamp {
        START.saturating_add(RUN_INTERVAL * u32::try_from(run).unwrap_or(u32::MAX))
    }

    /// Values of the data set, each a prime number of records after the one before, so that their pages and their
    /// positions in an index have nothing in common.
    pub(crate) fn some_values(self, count: usize) -> Vec<String> {
        let step = self.records() / count / 2 * 2 + 1;
        Rows::stored(Shape::Random).take(self.records()).step_by(step).map(|row| row.value).take(count).collect()
    }
}
