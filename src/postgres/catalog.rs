//! The pools of a store: creating, changing, deleting and listing them.
//!
//! Owns: the table `catalogue`, and reads of one statement. Always holds: names are unique; a pool's policy is the same in its
//! row and in its head. Must not know: what operations
//! on records and claims decide.

use tokio_postgres::Row;

use super::connection::{Connection, Failure, Patience, Step};
use super::head::{CATALOGUE, Head, head_step, lock, lock_catalogue, no_pool};
use super::isolation::BEGIN;
use super::leftovers;
use super::lookup::{Lock, Needs, oldest_of};
use super::store::{CLOCK, Postgres};
use super::transaction::{Commit, Outcome};
use super::values::{Bits, Columns, bigint, micros};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::model::{DataPool, NewPool, PoolUpdate};

const ROW: &str = "SELECT * FROM {s}.catalogue WHERE id = $1";

fn row_of(row: &Row) -> Result<DataPool> {
    Ok(DataPool {
        id: row.number("id")?.into(),
        name: row.text("name")?,
        description: row.optional_text("description")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        retention: row.duration("retention")?,
        capacity: row.numbered("capacity")?,
    })
}

/// Reads a pool's row.
///
/// # Errors
///
/// `NotFound` if there is no such pool.
pub(super) fn pool_row(connection: &mut Connection, id: PoolId) -> Result<DataPool, Failure> {
    let rows = connection.query(ROW, vec![Box::new(bigint(id.get()))])?;
    Ok(rows.first().map_or_else(|| Err(no_pool(id)), row_of)?)
}

fn id_of_name(connection: &mut Connection, name: &str) -> Result<Option<PoolId>, Failure> {
    let rows = connection
        .query("SELECT id FROM {s}.catalogue WHERE name = $1", vec![Box::new(name.as_bytes().to_vec())])?;
    Ok(rows.first().map(|row| Ok::<_, Error>(row.number("id")?.into())).transpose()?)
}

fn check_name_is_free(connection: &mut Connection, name: &str, own: Option<PoolId>) -> Result<(), Failure> {
    match id_of_name(connection, name)? {
        Some(id) if Some(id) != own => {
            let text = format!("the name {name:?} is taken by data pool {id}; names are unique");
            Err(Error::already_exists(text).with_parameter("name").into())
        }
        _ => Ok(()),
    }
}

impl Postgres {
    /// Runs a read that needs no transaction. Tries it again if the connection is lost.
    pub(super) fn read<T>(&self, mut read: impl FnMut(&mut Connection) -> Result<T, Failure>) -> Result<T> {
        let mut patience = Patience::new(self.retry_for);
        loop {
            match self.connections.with(&mut read) {
                Ok(done) => return Ok(done),
                Err(failure) => patience.next(failure)?,
            }
        }
    }

    /// Begins a transaction that locks the catalogue. Returns the wall clock.
    pub(super) fn lock_catalogue(&self, connection: &mut Connection) -> Result<i64, Failure> {
        let read = connection.run(vec![
            Step::Command(BEGIN.into()),
            lock_catalogue(),
            Step::Query(CLOCK.into(), Vec::new()),
        ])?;
        let clock = read.get(2).map(Vec::as_slice).unwrap_or_default();
        Ok(self.now_by(clock)?.as_micros())
    }

    pub(super) fn make_pool(&self, new: &NewPool) -> Result<DataPool> {
        self.check_writable()?;
        self.execute_once(CATALOGUE, |connection| {
            let now = self.lock_catalogue(connection)?;
            let pool = self.insert_pool(connection, new, now)?;
            Ok(Outcome { answer: pool, commit: Commit::new(Vec::new(), || {}) })
        })
    }

    fn insert_pool(&self, connection: &mut Connection, new: &NewPool, now: i64) -> Result<DataPool, Failure> {
        check_name_is_free(connection, &new.name, None)?;
        let next =
            "UPDATE {s}.meta SET number = number + 1 WHERE name = 'next pool' RETURNING number - 1 AS id";
        let rows = connection.query(next, Vec::new())?;
        let Some(id) = rows.first() else {
            return Err(Error::corrupt("the store's table meta has no next pool").into());
        };
        let id: i64 = id.read("id")?;
        let insert = "INSERT INTO {s}.catalogue (id, name, description, created_at, updated_at, retention, capacity, made_by) \
                      VALUES ($1, $2, $3, $4, $4, $5, $6, $7) RETURNING *";
        let head = "INSERT INTO {s}.head (pool, last_time, retention, capacity) VALUES ($1, $2, $3, $4)";
        let (retention, capacity) = (new.retention.map(micros), new.capacity.map(bigint));
        let written = connection.run(vec![
            Step::Query(
                insert.into(),
                vec![
                    Box::new(id),
                    Box::new(new.name.as_bytes().to_vec()),
                    Box::new(new.description.as_ref().map(|text| text.as_bytes().to_vec())),
                    Box::new(now),
                    Box::new(retention),
                    Box::new(capacity),
                    Box::new(Bits(self.session)),
                ],
            ),
            Step::Query(
                head.into(),
                // A pool without a record has no time of its own.
                vec![Box::new(id), Box::new(i64::MIN), Box::new(retention), Box::new(capacity)],
            ),
        ])?;
        let row = written.first().and_then(|rows| rows.first());
        Ok(row.map_or_else(|| Err(Error::storage("a statement returned no result")), row_of)?)
    }

    pub(super) fn change_pool(&self, id: PoolId, update: &PoolUpdate) -> Result<DataPool> {
        self.check_writable()?;
        self.execute_once(id, |connection| {
            let mut draft = self.read_draft(connection, id, &Needs::default(), Lock::ForUpdate)?;
            let mut pool = pool_row(connection, id)?;
            if let Some(name) = &update.name {
                check_name_is_free(connection, name, Some(id))?;
                pool.name.clone_from(name);
            }
            update.description.apply_to(&mut pool.description);
            update.retention.apply_to(&mut pool.retention);
            update.capacity.apply_to(&mut pool.capacity);
            pool.updated_at = pool.updated_at.max(draft.now);
            draft.head.policy = pool.policy();
            // What the new retention does not keep expires now. The draft's watermark is ahead of the stored one if
            // records had expired before.
            let oldest = "SELECT id, created_at FROM {s}.record WHERE pool = $1 AND id >= $2 ORDER BY id LIMIT 1";
            let from = bigint(draft.head.watermark);
            let oldest = connection.query(oldest, vec![Box::new(bigint(id.get())), Box::new(from)])?;
            self.expire(connection, &mut draft, oldest_of(&oldest)?)?;
            let store = "UPDATE {s}.catalogue SET name = $2, description = $3, updated_at = $4, retention = $5, capacity = $6 \
                         WHERE id = $1";
            let step = Step::Query(
                store.into(),
                vec![
                    Box::new(bigint(id.get())),
                    Box::new(pool.name.as_bytes().to_vec()),
                    Box::new(pool.description.as_ref().map(|text| text.as_bytes().to_vec())),
                    Box::new(pool.updated_at.as_micros()),
                    Box::new(pool.retention.map(micros)),
                    Box::new(pool.capacity.map(bigint)),
                ],
            );
            let steps = vec![step, head_step(&mut draft.head)];
            Ok(Outcome { answer: pool, commit: Commit::new(steps, || {}) })
        })
    }

    pub(super) fn remove_pool(&self, id: PoolId) -> Result<()> {
        self.check_writable()?;
        let pool = bigint(id.get());
        self.execute_once(CATALOGUE, |connection| {
            let begin = Step::Command(BEGIN.into());
            let locked = connection.run(vec![begin, lock(id), lock_catalogue()])?;
            Head::of(id, locked.get(1).map(Vec::as_slice).unwrap_or_default())?;
            let steps =
                ["catalogue WHERE id", "head WHERE pool", "claim_item WHERE pool", "claim WHERE pool"];
            let step = |table: &str| {
                Step::Query(format!("DELETE FROM {{s}}.{table} = $1").into(), vec![Box::new(pool)])
            };
            let mut steps: Vec<Step> = steps.map(step).into();
            steps.push(leftovers::note(id));
            Self::notify(connection, id, &mut steps)?;
            let waiting = std::sync::Arc::clone(&self.waiting);
            let done = move || waiting.wake_pool(id);
            Ok(Outcome { answer: (), commit: Commit::new(steps, done) })
        })?;
        self.forget_pool(id);
        self.waiting.notify();
        // The pool is deleted. Its rows affect no call, and the next removal continues after a failure here.
        let _ = self.remove_leftovers();
        Ok(())
    }

    pub(super) fn id_of_pool(&self, name: &str) -> Result<Option<PoolId>> {
        self.read(|connection| id_of_name(connection, name))
    }

    pub(super) fn row_of_pool(&self, id: PoolId) -> Result<DataPool> {
        self.read(|connection| pool_row(connection, id))
    }

    pub(super) fn rows_of_pools(&self) -> Result<Vec<DataPool>> {
        let rows =
            self.read(|connection| connection.query("SELECT * FROM {s}.catalogue ORDER BY id", Vec::new()))?;
        rows.iter().map(row_of).collect()
    }

    /// Returns true if an error says that a pool was deleted in between.
    pub(super) fn is_gone(error: &Error) -> bool {
        error.kind() == ErrorKind::NotFound
    }
}
