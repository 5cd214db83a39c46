//! The operations of a run, as data. The model and the store each get the same one.

use std::sync::Arc;

use datapool_store::{ErrorKind, Mode, Version};

use crate::answer::Refusal;

/// The key of an item.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    pub entity: u32,
    pub value: String,
    pub version: Option<Version>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let version = self.version.map(|version| version.to_string()).unwrap_or_default();
        write!(f, "({} {:?} {version})", self.entity, self.value)
    }
}

/// A flow, a run and a step; each may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct From3 {
    pub flow: Option<String>,
    pub run: Option<String>,
    pub step: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Fields {
    pub name: String,
    pub description: Option<String>,
    pub retention: Option<i64>,
    pub capacity: Option<u64>,
}

/// A change of an optional field.
#[derive(Debug, Clone, Default)]
pub enum Edit<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

#[derive(Debug, Clone, Default)]
pub struct Edits {
    pub name: Option<String>,
    pub description: Edit<String>,
    pub retention: Edit<i64>,
    pub capacity: Edit<u64>,
}

/// A filter of records. Times are in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub flows: Vec<String>,
    pub runs: Vec<String>,
    pub steps: Vec<String>,
    pub entities: Vec<u32>,
    pub values: Vec<String>,
    pub after: Option<i64>,
    pub before: Option<i64>,
    pub all: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Query {
    pub filter: Filter,
    pub descending: bool,
    /// Flow, run, step, entity type, pool.
    pub include: [bool; 5],
    pub page: u64,
    pub per_page: u64,
    /// The id after which the page begins.
    pub cursor: Option<u64>,
    /// The query goes to the store as this query string.
    pub text: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct PoolList {
    pub ids: Vec<u64>,
    pub names: Vec<String>,
    pub terms: Vec<String>,
    /// 0: by id, 1: by time, 2: newest first.
    pub sort: u8,
    pub page: u64,
    pub per_page: u64,
    pub as_text: bool,
}

#[derive(Debug, Clone)]
pub enum Which {
    All,
    Indexes(Vec<usize>),
    Keys(Vec<Item>),
}

#[derive(Debug, Clone, Default)]
pub struct ClaimsFilter {
    pub owner: Option<String>,
    pub flow: Option<String>,
    pub run: Option<String>,
    pub older_than: Option<i64>,
    pub lapsed: bool,
    pub all: bool,
}

/// A line of a CSV file, as its author knows it.
#[derive(Debug, Clone)]
pub enum CsvRow {
    Good {
        value: String,
        entity: u32,
        from: From3,
        created: Option<i64>,
        version: Option<Version>,
    },
    /// A bad row: the line on which it begins, and its column where the documentation tells which it is.
    Bad {
        line: u64,
        column: Option<u64>,
    },
    Blank,
}

#[derive(Clone)]
pub struct CsvFile {
    pub bytes: Arc<Vec<u8>>,
    pub rows: Arc<Vec<CsvRow>>,
}

impl std::fmt::Debug for CsvFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        write!(f, "{} rows, begins {:?}", self.rows.len(), text.chars().take(1_500).collect::<String>())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    Add,
    Skip,
    Fail,
}

#[derive(Debug, Clone)]
pub struct Import {
    pub file: CsvFile,
    pub duplicates: Duplicates,
    pub skip_bad: bool,
    pub commit_every: Option<u64>,
    pub delimiter: char,
    /// The entity type of all rows, if the file has no column for it.
    pub entity: Option<u32>,
    pub from: From3,
    pub origin_columns: bool,
    pub created_column: bool,
    pub version_column: bool,
    /// From a file, not from a reader.
    pub by_path: bool,
}

/// A question to a pool or to a snapshot of it.
#[derive(Debug, Clone)]
pub enum Question {
    Contains(Vec<Item>),
    Lookup(Vec<Item>),
    Results(Vec<Item>),
    ResultOf(u64),
    Page(Query),
    Count(Filter),
    Scan { filter: Filter, reverse: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    EntityType,
    Flow,
    Run,
    Step,
}

#[derive(Debug, Clone)]
pub enum Registry {
    Put(Vec<(String, String, u64)>),
    Get(String),
    List,
    Delete(String),
    DeleteBefore(i64),
}

#[derive(Debug, Clone)]
pub enum Operation {
    CreatePool {
        fields: Fields,
        or_get: bool,
    },
    UpdatePool {
        pool: u64,
        edits: Edits,
    },
    DeletePool {
        pool: u64,
    },
    ShowPool {
        pool: u64,
    },
    PoolNamed {
        name: String,
    },
    FindPool {
        pool: u64,
        list: PoolList,
    },
    ListPools(PoolList),
    Dedupe {
        pool: u64,
        mode: Mode,
        items: Vec<Item>,
        from: From3,
        firsts: bool,
    },
    Ask {
        pool: u64,
        question: Question,
    },
    Wait {
        pool: u64,
        items: Vec<Item>,
    },
    Claim {
        pool: u64,
        items: Vec<Item>,
        from: From3,
        lease: i64,
        owner: Option<String>,
        guard: u64,
    },
    Confirm {
        guard: u64,
        which: Which,
        results: bool,
    },
    Release {
        guard: u64,
        which: Which,
    },
    DropGuard {
        guard: u64,
    },
    IntoToken {
        guard: u64,
    },
    Resume {
        token: u64,
        guard: u64,
    },
    ResumeOwner {
        pool: u64,
        owner: String,
        first_guard: u64,
    },
    Extend {
        guard: u64,
        lease: i64,
    },
    KeepAlive {
        guard: u64,
    },
    ReleaseClaims {
        pool: u64,
        filter: ClaimsFilter,
    },
    ListClaims {
        pool: u64,
    },
    TakeSnapshot {
        pool: u64,
        snapshot: u64,
    },
    AskSnapshot {
        snapshot: u64,
        question: Question,
    },
    DropSnapshot {
        snapshot: u64,
    },
    DeleteIds {
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
    DeleteEverywhere {
        filter: Filter,
    },
    Clear {
        pool: u64,
    },
    Prune {
        pool: Option<u64>,
    },
    Import {
        pool: u64,
        import: Import,
    },
    Export {
        pool: u64,
        filter: Filter,
        full: bool,
        safe: bool,
        by_path: bool,
    },
    Register {
        kind: Kind,
        what: Registry,
    },
    Stats {
        pool: u64,
    },
    /// The model takes over the pool's time, if it is a possible one.
    LearnTime {
        pool: u64,
    },
    Counts {
        pool: u64,
    },
    Advance(i64),
    SetClock(i64),
    Reopen,
    CloseAndOpen,
    MoveToBackup,
    Verify,
    Rebuild,
    Compact,
    Vacuum,
    Flush,
}

/// Checks the values of a call's items.
pub fn check_items(items: &[Item]) -> Result<(), Refusal> {
    for (index, item) in items.iter().enumerate() {
        match item.value.len() {
            0 => return Err(Refusal::at(ErrorKind::InvalidArgument, index)),
            1..=4_096 => {}
            _ => return Err(Refusal::at(ErrorKind::LimitExceeded, index)),
        }
    }
    Ok(())
}
