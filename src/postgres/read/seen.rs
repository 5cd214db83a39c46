//! A pool in a transaction that reads.
//!
//! Owns: [`Seen`], and the columns of a record. Always holds: everything that is read of it is as of one moment. Must not know:
//! which query reads.

use std::collections::HashMap;

use tokio_postgres::Row;

use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, PoolId, RecordNumber};
use crate::model::{Included, Record};
use crate::postgres::connection::{Connection, Failure, Patience, Step};
use crate::postgres::draft::Draft;
use crate::postgres::filter::Condition;
use crate::postgres::head::{self, Head};
use crate::postgres::isolation::BEGIN_READING;
use crate::postgres::store::{CLOCK, Postgres};
use crate::postgres::values::{Bits, Columns, bigint};
use crate::time::Timestamp;

/// The columns of a record.
pub(super) const RECORD: &str = "id, entity_type, value, flow, run, step, created_at, content, ordinal";
/// Reads the live records of some fingerprints, with the pool's time. Returns one row without a record if there are none.
const LIVE: &str = "SELECT r.id, r.fingerprint, r.content, r.ordinal, n.now, h.retention IS NOT NULL AS expires FROM {s}.head h \
                    CROSS JOIN LATERAL (SELECT coalesce($3::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) AS now) n \
                    LEFT JOIN {s}.record r ON r.pool = h.pool AND r.fingerprint = ANY($2) AND r.id >= h.watermark AND \
                    (h.retention IS NULL OR r.created_at > greatest(n.now, h.last_time, $4::bigint)::numeric - h.retention) \
                    WHERE h.pool = $1";

/// A pool in a transaction that reads.
pub(crate) struct Seen<'c> {
    pub(crate) connection: &'c mut Connection,
    pub(crate) head: Head,
    pub(crate) time: Timestamp,
}

impl Seen<'_> {
    pub(crate) fn live(&self) -> Condition {
        Condition::live(&self.head, self.time)
    }

    pub(crate) fn query(
        &mut self,
        before: &str,
        condition: Condition,
        after: &str,
    ) -> Result<Vec<Row>, Failure> {
        let Condition { text, params } = condition;
        self.connection.query(format!("{before} WHERE {text} {after}"), params)
    }

    pub(super) fn record(&self, row: &Row) -> Result<Record> {
        record_of(self.head.pool, row)
    }
}

pub(super) fn record_of(pool: PoolId, row: &Row) -> Result<Record> {
    let origin = row.origin()?;
    Ok(Record {
        id: row.number("id")?.into(),
        data_pool_id: pool,
        entity_type_id: entity_type_of(row)?,
        value: row.text("value")?,
        flow_id: origin.flow,
        flow_run_id: origin.run,
        step_id: origin.step,
        created_at: row.time("created_at")?,
        version: row.version()?,
        included: Included::default(),
    })
}

pub(super) fn entity_type_of(row: &Row) -> Result<EntityTypeId> {
    let number = row.number("entity_type")?;
    let number = u32::try_from(number);
    number.map(EntityTypeId::new).map_err(|_| Error::corrupt("a record's entity type is out of range"))
}

impl Postgres {
    /// Reads a pool as of now.
    pub(crate) fn see<T>(
        &self,
        pool: PoolId,
        mut read: impl FnMut(&mut Seen<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut patience = Patience::new(self.retry_for);
        loop {
            let attempt = self.connections.with(|connection| {
                let (head, time) = match self.begin_seeing(connection, pool) {
                    Ok(seen) => seen,
                    Err(failure) => {
                        connection.roll_back();
                        return Err(failure);
                    }
                };
                let done = read(&mut Seen { connection, head, time });
                match done {
                    Ok(done) => connection.command("COMMIT").map(|()| done),
                    Err(failure) => {
                        connection.roll_back();
                        Err(failure)
                    }
                }
            });
            match attempt {
                Ok(done) => return Ok(done),
                Err(failure) => patience.next(failure)?,
            }
        }
    }

    /// Begins a transaction that sees one moment. Returns the pool's head and time as of then.
    pub(super) fn begin_seeing(
        &self,
        connection: &mut Connection,
        pool: PoolId,
    ) -> Result<(Head, Timestamp), Failure> {
        let read = connection.run(vec![
            Step::Command(BEGIN_READING.into()),
            Step::Query(CLOCK.into(), Vec::new()),
            Step::Query(head::READ.into(), vec![Box::new(bigint(pool.get()))]),
        ])?;
        let [_, clock, head] = read.as_slice() else {
            return Err(Error::storage("a statement returned no result").into());
        };
        let draft: Draft = self.draft_of(Head::of(pool, head)?, self.now_by(clock)?);
        Ok((draft.head, draft.time))
    }

    /// Reads the live records of some fingerprints as of now, in one statement.
    pub(super) fn live_rows(&self, pool: PoolId, asked: Vec<Bits>) -> Result<Vec<Row>> {
        let latest = self.latest.get(pool).map(Timestamp::as_micros);
        let mut rows = self.read(|connection| {
            connection.query(
                LIVE,
                vec![
                    Box::new(bigint(pool.get())),
                    Box::new(asked.clone()),
                    Box::new(self.manual_now().map(Timestamp::as_micros)),
                    Box::new(latest),
                ],
            )
        })?;
        let Some(row) = rows.first() else { return Err(head::no_pool(pool)) };
        if row.read::<bool>("expires")? {
            self.latest.reach(pool, row.time("now")?);
        }
        // The pool's own row comes without a record if there is none.
        rows.retain(|row| matches!(row.read::<Option<i64>>("id"), Ok(Some(_))));
        Ok(rows)
    }

    /// Reads records by id.
    pub(crate) fn records_of(
        connection: &mut Connection,
        pool: PoolId,
        ids: Vec<i64>,
    ) -> Result<HashMap<RecordNumber, Record>, Failure> {
        let query = format!("SELECT {RECORD} FROM {{s}}.record WHERE pool = $1 AND id = ANY($2)");
        let rows = connection.query(query, vec![Box::new(bigint(pool.get())), Box::new(ids)])?;
        let records = rows.iter().map(|row| Ok((row.number("id")?, record_of(pool, row)?)));
        Ok(records.collect::<Result<_>>()?)
    }
}
