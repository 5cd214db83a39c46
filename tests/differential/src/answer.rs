//! Answers, in a form in which those of the model and of the store can be compared: lines of text.

use datapool_store::{ErrorKind, Version};

use crate::operation::From3;

/// An error: its kind, and the index of the item that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: ErrorKind,
    pub item: Option<usize>,
}

impl Refusal {
    pub fn of(kind: ErrorKind) -> Self {
        Self { kind, item: None }
    }

    pub fn at(kind: ErrorKind, item: usize) -> Self {
        Self { kind, item: Some(item) }
    }
}

pub type Answer = Result<Vec<String>, Refusal>;

/// A record. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: u64,
    pub entity: u32,
    pub value: String,
    pub from: From3,
    pub created: i64,
    pub version: Option<Version>,
}

impl Row {
    pub fn line(&self) -> String {
        let Self { id, entity, value, from, created, version } = self;
        let From3 { flow, run, step } = from;
        let version = version.map(|version| version.to_string());
        format!("{id} {entity} {value:?} {flow:?} {run:?} {step:?} {created} {version:?}")
    }
}

pub fn maybe_line(row: Option<&Row>) -> String {
    row.map_or_else(|| "none".to_owned(), Row::line)
}

/// A pool's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRow {
    pub id: u64,
    pub name: String,
    pub description: Option<String>,
    pub created: i64,
    pub updated: i64,
    pub retention: Option<i64>,
    pub capacity: Option<u64>,
}

impl PoolRow {
    pub fn line(&self) -> String {
        format!("{self:?}")
    }
}

/// The frame of a page: everything but its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub current: u64,
    pub last: u64,
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub per_page: u64,
    pub total: u64,
    pub cursor: Option<String>,
    /// The pages, or cursors, to which the links lead.
    pub links: [Option<String>; 4],
}

impl Frame {
    pub fn line(&self) -> String {
        format!("{self:?}")
    }
}
