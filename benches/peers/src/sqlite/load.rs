//! The database file: its schema, filled from a data set.
//!
//! Always holds: indexes are created after the rows, and every table and index has statistics.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ToSql};

use crate::Result;
use crate::common::{flow, step};
use crate::data::{self, DataSet, Named, POOL, Run, run_id, time_of};

const TABLES: &str = "
    CREATE TABLE pool (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE entity_type (id INTEGER PRIMARY KEY, name TEXT NOT NULL, attributes TEXT NOT NULL);
    CREATE TABLE flow (id TEXT PRIMARY KEY, name TEXT NOT NULL, attributes TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE flow_run (id TEXT PRIMARY KEY, name TEXT NOT NULL, attributes TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE flow_step (id TEXT PRIMARY KEY, name TEXT NOT NULL, attributes TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE record (
        id INTEGER PRIMARY KEY, pool INTEGER NOT NULL, entity_type INTEGER NOT NULL, value TEXT NOT NULL,
        flow TEXT, run TEXT, step TEXT, created_at INTEGER NOT NULL);";

/// The pool is the first column of each index, because every query names one; without it, no index would
/// cover a count. In the unique index, the value comes before the entity type, so that it also answers a
/// filter on the value alone.
const ATTRIBUTE_INDEXES: &str = "
    CREATE UNIQUE INDEX record_by_value ON record (pool, value, entity_type);
    CREATE INDEX record_by_pool ON record (pool);
    CREATE INDEX record_by_flow ON record (pool, flow);
    CREATE INDEX record_by_run ON record (pool, run);
    CREATE INDEX record_by_step ON record (pool, step);
    CREATE INDEX record_by_entity_type ON record (pool, entity_type);
    CREATE INDEX record_by_time ON record (pool, created_at);";

/// Covers the filters of the measured listings.
const LISTING_INDEX: &str =
    "CREATE INDEX record_listing ON record (pool, entity_type, flow, step, created_at);";

/// The file is not read before it is complete, so a crash may lose it: no journal, and no waiting for the
/// disk.
const IN_A_HURRY: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;";

/// Creates the file of a data set with an index for each attribute, which suits filters that are not known in
/// advance.
pub(super) fn plain_file(directory: &Path, set: DataSet) -> Result<PathBuf> {
    data::file(directory, "sqlite", set, |path| build(path, set))
}

/// Creates the file with an additional index that covers the measured filters, as one would add after seeing
/// slow queries.
pub(super) fn indexed_file(directory: &Path, set: DataSet) -> Result<PathBuf> {
    let plain = plain_file(directory, set)?;
    data::file(directory, "sqlite-listing", set, |path| {
        // The same rows in the same pages. The other file may be open, but only for reading.
        std::fs::copy(&plain, path)?;
        add_listing_index(path)
    })
}

fn build(path: &Path, set: DataSet) -> Result<()> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(IN_A_HURRY)?;
    connection.execute_batch(TABLES)?;
    let transaction = connection.transaction()?;
    register(&transaction, set)?;
    insert_records(&transaction, set)?;
    transaction.commit()?;
    connection.execute_batch(ATTRIBUTE_INDEXES)?;
    finish(connection)
}

fn add_listing_index(path: &Path) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch(IN_A_HURRY)?;
    connection.execute_batch(LISTING_INDEX)?;
    finish(connection)
}

fn finish(connection: Connection) -> Result<()> {
    connection.execute_batch("ANALYZE;")?;
    connection.close().map_err(|(_, error)| error.into())
}

fn insert_records(connection: &Connection, set: DataSet) -> Result<()> {
    let mut insert = connection.prepare(
        "INSERT INTO record (pool, entity_type, value, flow, run, step, created_at) VALUES (1, ?, ?, ?, ?, ?, ?)",
    )?;
    for Run { number, time, rows } in set.runs() {
        let (flow, run, step) = (flow(number), run_id(number), step(number));
        for row in rows {
            insert.execute((row.entity_type, &row.value, &flow, &run, &step, time.as_micros()))?;
        }
    }
    Ok(())
}

fn register(connection: &Connection, set: DataSet) -> Result<()> {
    let now = time_of(0).as_micros();
    connection.execute("INSERT INTO pool VALUES (1, ?, NULL, ?, ?)", (POOL, now, now))?;
    insert_names(connection, "entity_type", data::entity_types())?;
    insert_names(connection, "flow", data::flows())?;
    insert_names(connection, "flow_run", data::flow_runs(set))?;
    insert_names(connection, "flow_step", data::flow_steps())
}

fn insert_names<Id: ToSql>(
    connection: &Connection,
    table: &str,
    all: impl Iterator<Item = Named<Id>>,
) -> Result<()> {
    let mut insert = connection.prepare(&format!("INSERT INTO {table} VALUES (?, ?, ?)"))?;
    for Named { id, name, attributes } in all {
        insert.execute((id, name, attributes))?;
    }
    Ok(())
}
