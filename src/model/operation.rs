//! Operations on a whole store: their progress and their results.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::PoolId;

/// The progress of an operation on the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// The number of rows done.
    pub done: u64,
    /// The number of all rows.
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
    /// The size of the file before, in bytes.
    pub bytes_before: u64,
    /// The size of the file after, in bytes.
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
    /// The size of the file before, in bytes.
    pub bytes_before: u64,
    /// The size of the file after, in bytes.
    pub bytes_after: u64,
    /// The number of live records. The file now has no others.
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
    /// The number of live records. The copy has no others.
    pub records: u64,
    /// The number of rows in all tables of the copy.
    pub rows: u64,
    /// The size of the copy in bytes.
    pub bytes: u64,
}

/// A problem that verifying or rebuilding found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// The pool that the problem concerns, if there is one.
    pub data_pool_id: Option<PoolId>,
    /// The name of the table in the file, or `file` for the file itself. See the tables in [the
    /// design](crate::design).
    pub table: String,
    /// The key of the row in readable form; empty if the problem concerns the whole table.
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
    /// The number of pools that were checked.
    pub pools: u64,
    /// The number of records that were read.
    pub records: u64,
}

/// The result of [`DataPoolStore::rebuild_indexes`](crate::DataPoolStore::rebuild_indexes).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RebuildReport {
    /// The number of pools whose indexes were rebuilt.
    pub pools: u64,
    /// The number of records that were indexed.
    pub records: u64,
    /// The problems that rebuilding cannot repair, because the data is not derived from the records.
    pub left: Vec<Finding>,
}
