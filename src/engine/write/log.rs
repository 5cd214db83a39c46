//! Events: what commits did, with durations, for programs that subscribe to them.
//!
//! Events go through `tracing`, with their figures as fields, so that a subscriber can filter and aggregate
//! them. Programs that use `log` get the same events as text through tracing's feature `log`. In a program
//! with neither, an event costs one atomic load. Events need the feature `tracing`, which is off by default.
//! The target is `datapool_store`. The level is `debug`, or `warn` for events that need attention.

use std::time::{Duration, Instant};

use crate::backend::counters::Work;
use crate::ids::PoolId;
use crate::model::PruneReport;

/// An event that the store logs.
#[derive(Debug)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "without `tracing` nothing reads the events"))]
pub(crate) enum Event {
    /// A group of calls was committed.
    Commit {
        calls: usize,
        pools: usize,
        records: usize,
        started: Instant,
    },
    /// Rows were imported in one commit.
    Import {
        pool: PoolId,
        rows: u64,
        started: Instant,
    },
    /// A commit performed background work: folds, seals, reclaimed space.
    Work {
        pool: PoolId,
        work: Work,
        pruned: PruneReport,
        took: Duration,
    },
    /// The file was opened.
    Opened {
        took: Duration,
    },
    /// The file was closed.
    Closed,
    /// A commit failed and may or may not be on disk.
    OutcomeUnknown,
    /// A verification has finished.
    Verified {
        findings: u64,
        took: Duration,
    },
    BackedUp {
        rows: u64,
        bytes: u64,
        took: Duration,
    },
    Compacted {
        before: u64,
        after: u64,
        took: Duration,
    },
    Vacuumed {
        records: u64,
        before: u64,
        after: u64,
        took: Duration,
    },
}

/// Logs an event.
#[cfg(not(feature = "tracing"))]
pub(crate) fn log(_event: &Event) {}

/// Logs an event.
#[cfg(feature = "tracing")]
pub(crate) fn log(event: &Event) {
    const TARGET: &str = "datapool_store";
    match event {
        Event::Commit { calls, pools, records, started } => {
            let took = started.elapsed();
            tracing::debug!(target: TARGET, calls, pools, records, ?took, "commit");
        }
        Event::Import { pool, rows, started } => {
            let took = started.elapsed();
            tracing::debug!(target: TARGET, pool = pool.get(), rows, ?took, "import");
        }
        Event::Work { pool, work, pruned, took } => {
            let Work { folds, seals, segments_dropped } = work;
            tracing::debug!(
                target: TARGET,
                pool = pool.get(),
                folds,
                seals,
                segments_dropped,
                records_removed = pruned.records,
                claims_swept = pruned.claims,
                ?took,
                "work"
            );
        }
        Event::Opened { took } => tracing::debug!(target: TARGET, ?took, "opened"),
        Event::Closed => tracing::debug!(target: TARGET, "closed"),
        Event::OutcomeUnknown => {
            tracing::warn!(target: TARGET, "a commit failed and may or may not be on disk; writes are refused");
        }
        Event::Verified { findings: 0, took } => tracing::debug!(target: TARGET, ?took, "verified"),
        Event::Verified { findings, took } => tracing::warn!(target: TARGET, findings, ?took, "verified"),
        Event::BackedUp { rows, bytes, took } => {
            tracing::debug!(target: TARGET, rows, bytes, ?took, "backup");
        }
        Event::Compacted { before, after, took } => {
            tracing::debug!(target: TARGET, before, after, ?took, "compacted");
        }
        Event::Vacuumed { records, before, after, took } => {
            tracing::debug!(target: TARGET, records, before, after, ?took, "vacuumed");
        }
    }
}
