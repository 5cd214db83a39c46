//! What can be done to a store, and what it answers.

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
        /// Whether duplicates say which record was first.
        firsts: bool,
        items: Vec<Asked>,
        origin: Origin,
    },
    /// The id is the test's own: no other claim has it.
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
    /// In all pools; claims on the values that the filter names are void.
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
    /// An export of this pool, imported into another or itself.
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
    /// Some records are taken from one end. The rest is read when an operation says so.
    OpenScan {
        pool: u64,
        filter: Filter,
        sort: RecordSort,
        taken: usize,
    },
    /// Numbers are places in the list of the open ones.
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
    /// Of a pool, or of all.
    Prune {
        pool: Option<u64>,
    },
    Flush,
    Rebuild,
    Compact,
    /// What is dead is erased. Claims are handed over.
    Vacuum,
    Verify,
    /// A copy of the store is made, opened, and looked through.
    Backup,
    /// Under the handles that there are.
    Reopen,
    /// By a new process, with other sizes for its work.
    Restart {
        sizes: Sizes,
    },
    Pass {
        time: Duration,
    },
    /// Somebody sets the clock.
    Turn {
        micros: i64,
    },
}

/// What is done with a claim. Places are those of its items.
#[derive(Debug, Clone)]
pub(crate) enum How {
    Confirm,
    ConfirmSome(Vec<usize>, Named),
    /// With results: what [`result_of`](super::model::result_of) says of this seed.
    ConfirmWith(u64),
    Release,
    ReleaseSome(Vec<usize>, Named),
    Drop,
    Extend(Duration),
    /// Into a token; if it is one, up again.
    HandOver,
    /// A token is stored, and the guard goes on.
    Store,
}

/// How some items of a claim are named.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Named {
    ByIndex,
    ByKey,
}

/// How the records that a filter takes are read.
#[derive(Debug, Clone)]
pub(crate) enum Reading {
    Page {
        sort: RecordSort,
        page: u64,
        per_page: u32,
    },
    /// The page behind a record, which may be deleted.
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
    /// Records deleted, added or set free; or a new pool's id.
    Count(u64),
    Verdicts(Vec<Told>),
    /// What a claim says of its items, and its fencing number.
    Claimed(Vec<Told>, Option<u64>),
    /// The fencing numbers of claims that were taken up, oldest claim first.
    TakenUp(Vec<u64>),
    /// Of items by their indexes in the batch.
    Outcomes(Vec<(usize, Outcome)>),
    Refused(ErrorKind),
    /// An import met a duplicate. How many rows it had committed, if it commits by parts.
    Stopped(Option<u64>),
}

/// What is said of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) verdict: Verdict,
    /// The record that was first with its value, if that was asked.
    pub(crate) first: Option<Row>,
    /// Whose claim owns its value, and until when, if that was asked.
    pub(crate) by: Option<(Origin, Timestamp)>,
}

/// Whether an item is new or changed.
pub(crate) fn is_passed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::New | Verdict::Changed { .. })
}

/// What became of an item that a claim confirms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Confirmed(u64),
    AlreadyTracked(Row),
    Lost,
}

impl Op {
    /// The one pool that it is about.
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
