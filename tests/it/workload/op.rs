//! The operations on a store, and their answers.

use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{ErrorKind, ExportColumns, Mode, OnDuplicate, Origin, RecordSort, Timestamp, Verdict};

use super::filter::{ClaimsFilter, Filter};
use crate::support::items::{Asked, Item, Row};

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create {
        name: String,
        retention: Option<Duration>,
        capacity: Option<u64>,
    },
    Update {
        pool: u64,
        name: Option<String>,
        description: Option<Option<String>>,
        retention: Option<Option<Duration>>,
        capacity: Option<Option<u64>>,
    },
    Delete {
        pool: u64,
    },
    Dedupe {
        pool: u64,
        mode: Mode,
        /// True if the first record of each duplicate is requested.
        firsts: bool,
        items: Vec<Asked>,
        origin: Origin,
    },
    /// Claims a batch. The test chooses a unique id.
    Claim {
        pool: u64,
        id: u64,
        items: Vec<Asked>,
        origin: Origin,
        lease: Duration,
        owner: Option<String>,
    },
    /// An owner takes up its claims.
    TakeUp {
        pool: u64,
        owner: String,
    },
    ReleaseClaims {
        pool: u64,
        filter: ClaimsFilter,
    },
    Settle {
        pool: u64,
        claim: u64,
        how: How,
    },
    DeleteRecords {
        pool: u64,
        ids: Vec<u64>,
    },
    DeleteKeys {
        pool: u64,
        items: Vec<Item>,
    },
    DeleteWhere {
        pool: u64,
        filter: Filter,
    },
    /// Deletes in all pools. Claims on values that the filter names become void.
    DeleteInAll {
        filter: Filter,
    },
    Clear {
        pool: u64,
    },
    Import {
        pool: u64,
        items: Vec<Asked>,
        policy: OnDuplicate,
        every: Option<u64>,
    },
    /// Exports this pool and imports the file into another pool or the same one.
    Copy {
        pool: u64,
        to: u64,
        filter: Filter,
    },
    Read {
        pool: u64,
        filter: Filter,
        reading: Reading,
    },
    /// Opens a scan and takes some records from one end. Another operation reads the rest.
    OpenScan {
        pool: u64,
        filter: Filter,
        sort: RecordSort,
        taken: usize,
    },
    /// Ends an open scan. The number is its position in the list of open scans.
    EndScan {
        number: usize,
    },
    TakeSnapshot {
        pool: u64,
    },
    DropSnapshot {
        number: usize,
        filter: Filter,
    },
    PutFlow {
        id: String,
        name: String,
    },
    DeleteFlow {
        id: String,
    },
    /// Prunes one pool or all of them.
    Prune {
        pool: Option<u64>,
    },
    Flush,
    Rebuild,
    Compact,
    /// Erases dead data. Claims are carried over.
    Vacuum,
    Verify,
    /// Makes a copy of the store, opens it and compares its contents.
    Backup,
    /// Reopens the store with the existing handles.
    Reopen,
    /// Opens the store in a new process, with other work sizes.
    Restart {
        sizes: Sizes,
    },
    Pass {
        time: Duration,
    },
    /// Sets the clock.
    Turn {
        micros: i64,
    },
}

/// The action on a claim. Places are positions of its items.
#[derive(Debug, Clone)]
pub(crate) enum How {
    Confirm,
    ConfirmSome(Vec<usize>, Named),
    /// Confirms with the results that [`result_of`](super::model::result_of) returns for this seed.
    ConfirmWith(u64),
    Release,
    ReleaseSome(Vec<usize>, Named),
    Drop,
    Extend(Duration),
    /// Turns the claim into a token, and takes it up again if there is one.
    HandOver,
    /// Stores a token, and keeps the guard.
    Store,
}

/// The way in which items of a claim are named.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Named {
    ByIndex,
    ByKey,
}

/// The way in which the matching records of a filter are read.
#[derive(Debug, Clone)]
pub(crate) enum Reading {
    Page {
        sort: RecordSort,
        page: u64,
        per_page: u32,
    },
    /// The page after a record, which may be deleted.
    Behind {
        sort: RecordSort,
        last: u64,
        per_page: u32,
    },
    /// From both ends in turn, by a repeated pattern, until they meet.
    Scan {
        ends: Vec<RecordSort>,
    },
    Export(ExportColumns),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// The number of records deleted or added, or of items released; or the id of a new pool.
    Count(u64),
    Verdicts(Vec<Told>),
    /// The verdicts of a claim on its items, and its fencing number.
    Claimed(Vec<Told>, Option<u64>),
    /// The fencing numbers of claims that were taken up, oldest claim first.
    TakenUp(Vec<u64>),
    /// The outcomes of items, with their indexes in the batch.
    Outcomes(Vec<(usize, Outcome)>),
    Refused(ErrorKind),
    /// An import that stopped at a duplicate, with the number of committed rows if it commits in parts.
    Stopped(Option<u64>),
}

/// The answer for one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) verdict: Verdict,
    /// The record that was first with its value, if it was requested.
    pub(crate) first: Option<Row>,
    /// The origin and the expiry of the claim that owns its value, if they were requested.
    pub(crate) by: Option<(Origin, Timestamp)>,
}

/// Returns true if the item is new or changed.
pub(crate) fn is_passed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::New | Verdict::Changed { .. })
}

/// The outcome of confirming an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Confirmed(u64),
    AlreadyTracked(Row),
    Lost,
}

impl Op {
    /// Returns the pool of the operation, if there is exactly one.
    pub(crate) fn pool(&self) -> Option<u64> {
        match self {
            Self::Update { pool, .. }
            | Self::Delete { pool }
            | Self::Dedupe { pool, .. }
            | Self::Claim { pool, .. }
            | Self::TakeUp { pool, .. }
            | Self::ReleaseClaims { pool, .. }
            | Self::Settle { pool, .. }
            | Self::DeleteRecords { pool, .. }
            | Self::DeleteKeys { pool, .. }
            | Self::DeleteWhere { pool, .. }
            | Self::Clear { pool }
            | Self::Import { pool, .. }
            | Self::Read { pool, .. }
            | Self::OpenScan { pool, .. }
            | Self::TakeSnapshot { pool } => Some(*pool),
            Self::Prune { pool } => *pool,
            _ => None,
        }
    }
}
