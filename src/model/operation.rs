//! Operations over a whole store: their progress and their results.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::PoolId;

/// The progress of an operation over the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// Rows that are done.
    pub done: u64,
    /// Rows in all.
    pub total: u64,
}

impl Progress {
    pub(crate) fn new(done: u64, total: u64) -> Self {
        Self { done, total }
    }
}

/// The result of [compacting](crate::DataPoolStore::compact).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CompactReport {
    /// Bytes of the file before.
    pub bytes_before: u64,
    /// Bytes of the file now.
    pub bytes_after: u64,
}

impl CompactReport {
    pub(crate) fn new(bytes_before: u64, bytes_after: u64) -> Self {
        Self { bytes_before, bytes_after }
    }
}

/// The result of [vacuuming](crate::DataPoolStore::vacuum).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VacuumReport {
    /// Bytes of the file before.
    pub bytes_before: u64,
    /// Bytes of the file now.
    pub bytes_after: u64,
    /// Live records, which are all that the file has now.
    pub records: u64,
}

impl VacuumReport {
    pub(crate) fn new(bytes_before: u64, bytes_after: u64, records: u64) -> Self {
        Self { bytes_before, bytes_after, records }
    }
}

/// The result of a [backup](crate::DataPoolStore::backup_to).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupReport {
    /// Live records, which are all that the copy has.
    pub records: u64,
    /// Rows of all tables of the copy.
    pub rows: u64,
    /// Bytes of the copy.
    pub bytes: u64,
}

/// A problem that verifying or rebuilding found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// The pool that the problem is about, if it is about one.
    pub data_pool_id: Option<PoolId>,
    /// The table of the file, by its name there; `file` stands for the file itself. See the tables in [the
    /// design](crate::design).
    pub table: String,
    /// The key of the row, as a person can read it; empty for a whole table.
    pub key: String,
    /// The problem of the row or table.
    pub reason: String,
}

impl Finding {
    pub(crate) fn new(
        pool: Option<PoolId>,
        table: impl Into<String>,
        key: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { data_pool_id: pool, table: table.into(), key: key.into(), reason: reason.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key, reason, .. } = self;
        if key.is_empty() { write!(f, "{table}: {reason}") } else { write!(f, "{table} [{key}]: {reason}") }
    }
}

/// The result of [`DataPoolStore::verify`](crate::DataPoolStore::verify).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use = "the report says whether the file is damaged: see `ok`"]
pub struct VerifyReport {
    /// True if no problem was found.
    pub ok: bool,
    /// The first 1,000 problems.
    pub findings: Vec<Finding>,
    /// The number of all problems.
    pub findings_count: u64,
    /// Pools that were checked.
    pub pools: u64,
    /// Records that were read.
    pub records: u64,
}

/// The result of [`DataPoolStore::rebuild_indexes`](crate::DataPoolStore::rebuild_indexes).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RebuildReport {
    /// Pools whose indexes were rebuilt.
    pub pools: u64,
    /// Records that were indexed.
    pub records: u64,
    /// Problems that rebuilding cannot repair, because the data is not derived from the records.
    pub left: Vec<Finding>,
}
