//! The notes that a copy keeps in its destination, so that it can continue after an interruption.
//!
//! A note is a registered flow run. It is about one pool of the source, and names its id and its time of creation, so that
//! it is not mistaken for the note of another store.

use datapool_store::{DataPool, FlowRun};
use serde::{Deserialize, Serialize};

use super::side::Side;
use crate::failure::Failure;

/// The start of the ids of notes.
pub(super) const PREFIX: &str = "datapool copy ";

/// The progress of one pool's copy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Note {
    /// The pool's copy; `None` until it is created.
    pub(super) pool: Option<u64>,
    /// The last record that was added.
    pub(super) at: Option<Position>,
    /// The slice that is added next.
    pub(super) pending: Option<Pending>,
    pub(super) state: State,
}

/// A record of the source.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Position {
    /// The number of records that the copy has with it.
    pub(super) records: u64,
    pub(super) id: u64,
    /// Its time in microseconds.
    pub(super) time: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The last record of the slice.
    pub(super) end: Position,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// Records are added.
    #[default]
    Copying,
    /// All records are copied. Some may expire now, under the retention that the copy gets.
    Finishing,
    /// The pool is copied.
    Done,
    /// All pools are copied, and the notes are being removed. Only in the note about the first pool.
    Complete,
}

fn id_of(row: &DataPool) -> String {
    format!("{PREFIX}{} {}", row.id, row.created_at.as_micros())
}

impl Note {
    pub(super) fn read(to: &Side<'_>, row: &DataPool) -> Result<Option<Self>, Failure> {
        let id = id_of(row);
        let entry = to.store.flow_run(id.as_str()).map_err(|error| to.failed(error))?;
        let note = entry.map(|entry| serde_json::from_value(entry.attributes)).transpose();
        note.map_err(|error| {
            Failure::new(format!("{}: the flow run {id:?} is not a note of a copy: {error}", to.name))
        })
    }

    pub(super) fn write(&self, to: &Side<'_>, row: &DataPool) -> Result<(), Failure> {
        let attributes = serde_json::to_value(self)
            .map_err(|error| Failure::new(format!("writing a note about the copy: {error}")))?;
        let name = format!("Copy of data pool {:?}, not finished", row.name);
        let entry = FlowRun::new(id_of(row), name).attributes(attributes);
        to.store.put_flow_run(entry).map_err(|error| to.failed(error))?;
        committed();
        Ok(())
    }
}

/// Records in the note about the first pool that all pools are copied.
pub(super) fn complete(to: &Side<'_>, rows: &[DataPool]) -> Result<(), Failure> {
    let note = Note { state: State::Complete, ..Note::default() };
    rows.first().map_or(Ok(()), |first| note.write(to, first))
}

/// Removes the notes of a complete copy. The note that says so goes last.
pub(super) fn remove_all(to: &Side<'_>, rows: &[DataPool]) -> Result<(), Failure> {
    for row in rows.iter().skip(1).chain(rows.first()) {
        if to.store.delete_flow_run(id_of(row)).map_err(|error| to.failed(error))? {
            committed();
        }
    }
    Ok(())
}

/// Marks a commit to the destination. In debug builds, tests can end the process here, like a kill.
pub(super) fn committed() {
    #[cfg(debug_assertions)]
    {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COMMITS: AtomicU64 = AtomicU64::new(0);
        let commits = COMMITS.fetch_add(1, Ordering::Relaxed) + 1;
        if std::env::var("DATAPOOL_COPY_DIES_AFTER").is_ok_and(|limit| limit == commits.to_string()) {
            std::process::exit(99);
        }
    }
}
