//! Rows of deleted pools: they are removed in small transactions, after the pool itself.
//!
//! Always holds: the transaction that deletes a pool leaves a note in the table `meta`, which is removed last. So an interrupted
//! removal continues when a store is opened, a pool is deleted, or a store is pruned. Must not know: pools that exist.

use super::connection::{Failure, Step};
use super::store::Postgres;
use super::values::{Columns, bigint};
use crate::error::Result;
use crate::ids::PoolId;

/// The number of records that are removed in one transaction.
const REMOVED_AT_ONCE: i64 = 50_000;

/// Returns the step that notes a deleted pool, so that its rows are removed.
pub(super) fn note(pool: PoolId) -> Step {
    let note = "INSERT INTO {s}.meta (name, number) VALUES ($1, $2)";
    Step::Query(note.into(), vec![Box::new(format!("deleted pool {pool}")), Box::new(bigint(pool.get()))])
}

impl Postgres {
    /// Removes the rows of deleted pools.
    pub(super) fn remove_leftovers(&self) -> Result<(), Failure> {
        while self.remove_some_leftovers()? {}
        Ok(())
    }

    /// Removes some rows of a deleted pool. Returns true if there may be more.
    pub(super) fn remove_some_leftovers(&self) -> Result<bool, Failure> {
        self.connections.with(|connection| {
            let noted =
                "SELECT number FROM {s}.meta WHERE name LIKE 'deleted pool %' ORDER BY number LIMIT 1";
            let noted = connection.query(noted, Vec::new())?;
            let Some(row) = noted.first() else { return Ok(false) };
            let pool: i64 = row.read("number")?;
            for (table, key) in [("result", "record"), ("record", "id")] {
                let last = format!(
                    "SELECT max({key}) AS last FROM (SELECT {key} FROM {{s}}.{table} WHERE pool = $1 ORDER BY {key} LIMIT $2) AS batch"
                );
                let last = connection.query(last, vec![Box::new(pool), Box::new(REMOVED_AT_ONCE)])?;
                let last: Option<i64> = last.first().map(|row| row.read("last")).transpose()?.flatten();
                if let Some(last) = last {
                    let delete = format!("DELETE FROM {{s}}.{table} WHERE pool = $1 AND {key} <= $2");
                    connection.query(delete, vec![Box::new(pool), Box::new(last)])?;
                    return Ok(true);
                }
            }
            connection.query("DELETE FROM {s}.executed WHERE pool = $1", vec![Box::new(pool)])?;
            let forget = "DELETE FROM {s}.meta WHERE name LIKE 'deleted pool %' AND number = $1";
            connection.query(forget, vec![Box::new(pool)])?;
            Ok(true)
        })
    }
}
