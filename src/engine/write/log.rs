//! Events: what commits did, with durations, for programs that listen.
//!
//! They go through `log`, the facade of redb, fjall and tantivy. It has no dependencies, every subscriber of `tracing`
//! can receive its events (through `tracing-log`), and a program that installs no logger pays one atomic load. Events
//! are behind the feature `log`, which is off by default. The target is `datapool_store`. The level is `debug`, or
//! `warn` for events that need attention.

use std::time::{Duration, Instant};

use crate::engine::write::counters::Work;
use crate::ids::PoolId;
use crate::model::PruneReport;

/// An event that the store logs.
#[derive(Debug)]
#[cfg_attr(not(feature = "log"), allow(dead_code, reason = "nobody listens"))]
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
    /// A commit did background work: folds, seals, space given back.
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
    /// A commit failed, and may or may not be on disk.
    OutcomeUnknown,
    /// A verification came to its end.
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
}

/// Logs an event.
#[cfg(not(feature = "log"))]
pub(crate) fn log(_event: &Event) {}

/// Logs an event.
#[cfg(feature = "log")]
pub(crate) fn log(event: &Event) {
    const TARGET: &str = "datapool_store";
    match event {
        Event::Commit { calls, pools, records, started } => {
            let took = started.elapsed();
            log::debug!(target: TARGET, "commit calls={calls} pools={pools} records={records} took={took:?}");
        }
        Event::Import { pool, rows, started } => {
            let took = started.elapsed();
            log::debug!(target: TARGET, "import pool={pool} rows={rows} took={took:?}");
        }
        Event::Work { pool, work, pruned, took } => {
            let Work { folds, seals, segments_dropped } = work;
            let PruneReport { records, claims, .. } = pruned;
            log::debug!(
                target: TARGET,
                "work pool={pool} folds={folds} seals={seals} segments_dropped={segments_dropped} \
                 records_removed={records} claims_swept={claims} took={took:?}"
            );
        }
        Event::Opened { took } => log::debug!(target: TARGET, "opened took={took:?}"),
        Event::Closed => log::debug!(target: TARGET, "closed"),
        Event::OutcomeUnknown => {
            log::warn!(target: TARGET, "a commit failed and may or may not be on disk; writes are refused");
        }
        Event::Verified { findings: 0, took } => log::debug!(target: TARGET, "verified took={took:?}"),
        Event::Verified { findings, took } => {
            log::warn!(target: TARGET, "verified findings={findings} took={took:?}");
        }
        Event::BackedUp { rows, bytes, took } => {
            log::debug!(target: TARGET, "backup rows={rows} bytes={bytes} took={took:?}");
        }
        Event::Compacted { before, after, took } => {
            log::debug!(target: TARGET, "compacted before={before} after={after} took={took:?}");
        }
    }
}
