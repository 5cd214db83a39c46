//! Reading: a pool as of one moment, and queries on it.
//!
//! Owns: [`PoolReading`]. Always holds: what one call answers is as of one snapshot of the server. Without a snapshot of its own,
//! each call takes a fresh one.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_postgres::Row;

use super::connection::{Connection, Failure, Patience, Step};
use super::draft::Draft;
use super::filter::Condition;
use super::head::{self, Head};
use super::isolation::BEGIN_READING;
use super::store::{CLOCK, Postgres};
use super::values::{Bits, Columns, bigint};
use crate::backend::batch::Batch;
use crate::backend::rules::LiveRecords;
use crate::backend::{OpenReader, Reading};
use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, FlowId, PoolId, RecordId, RecordNumber};
use crate::model::{Included, Key, Record, RegisteredEntry, RegisteredId, Version};
use crate::query::{Cursor, Explanation, Page, RecordFilter, RecordInclude, RecordQuery, RecordSort};
use crate::time::Timestamp;

/// The columns of a record.
const RECORD: &str = "id, entity_type, value, flow, run, step, created_at, content, ordinal";

/// The live records of some fingerprints, with the pool's time; one row without a record if there are none.
const LIVE: &str = "SELECT r.id, r.fingerprint, r.content, r.ordinal, n.now, h.retention IS NOT NULL AS expires FROM {s}.head h \
                    CROSS JOIN LATERAL (SELECT coalesce($3::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) AS now) n \
                    LEFT JOIN {s}.record r ON r.pool = h.pool AND r.fingerprint = ANY($2) AND r.id >= h.watermark AND \
                    (h.retention IS NULL OR r.created_at > greatest(n.now, h.last_time, $4::bigint)::numeric - h.retention) \
                    WHERE h.pool = $1";

/// A pool, as of each call or as of one moment.
pub(super) struct PoolReading {
    store: Arc<Postgres>,
    pool: PoolId,
    /// A connection in a transaction that sees one moment, with the pool as of then.
    held: Option<Mutex<Held>>,
}

struct Held {
    connection: Connection,
    head: Head,
    time: Timestamp,
}

impl std::fmt::Debug for PoolReading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolReading").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// A pool in a transaction that reads.
pub(super) struct Seen<'c> {
    pub(super) connection: &'c mut Connection,
    pub(super) head: Head,
    pub(super) time: Timestamp,
}

impl Seen<'_> {
    pub(super) fn live(&self) -> Condition {
        Condition::live(&self.head, self.time)
    }

    pub(super) fn query(
        &mut self,
        before: &str,
        condition: Condition,
        after: &str,
    ) -> Result<Vec<Row>, Failure> {
        let Condition { text, params } = condition;
        self.connection.query(format!("{before} WHERE {text} {after}"), params)
    }

    fn record(&self, row: &Row) -> Result<Record> {
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

fn entity_type_of(row: &Row) -> Result<EntityTypeId> {
    let number = row.number("entity_type")?;
    let number = u32::try_from(number);
    number.map(EntityTypeId::new).map_err(|_| Error::corrupt("a record's entity type is out of range"))
}

impl Postgres {
    /// Reads a pool as of now.
    pub(super) fn see<T>(
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
    fn begin_seeing(&self, connection: &mut Connection, pool: PoolId) -> Result<(Head, Timestamp), Failure> {
        let read = connection.run(vec![
            Step::Command(BEGIN_READING.into()),
            Step::Query(CLOCK.into(), Vec::new()),
            Step::Query(head::READ.into(), vec![Box::new(bigint(pool.get()))]),
        ])?;
        let [_, clock, head] = read.as_slice() else {
            return Err(Error::storage("a statement gave no answer").into());
        };
        let draft: Draft = self.draft_of(Head::of(pool, head)?, self.now_by(clock)?);
        Ok((draft.head, draft.time))
    }

    /// Reads the live records of some fingerprints as of now, in one statement.
    fn live_rows(&self, pool: PoolId, asked: Vec<Bits>) -> Result<Vec<Row>> {
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
    pub(super) fn records_of(
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

impl PoolReading {
    pub(super) fn new(store: Arc<Postgres>, pool: PoolId) -> Self {
        Self { store, pool, held: None }
    }

    /// Takes a snapshot, on a connection of its own.
    pub(super) fn snapshot(store: Arc<Postgres>, pool: PoolId) -> Result<Self> {
        let mut patience = Patience::new(store.retry_for);
        let held = loop {
            let attempt = store.connections.connect().and_then(|mut connection| {
                let (head, time) = store.begin_seeing(&mut connection, pool)?;
                Ok(Held { connection, head, time })
            });
            match attempt {
                Ok(held) => break held,
                Err(failure) => patience.next(failure)?,
            }
        };
        Ok(Self { store, pool, held: Some(Mutex::new(held)) })
    }

    fn see<T>(&self, mut read: impl FnMut(&mut Seen<'_>) -> Result<T, Failure>) -> Result<T> {
        let Some(held) = &self.held else { return self.store.see(self.pool, read) };
        let held = &mut *held.lock();
        let snapshot = held.head.clone();
        read(&mut Seen { connection: &mut held.connection, head: snapshot, time: held.time })
            .map_err(Failure::into_error)
    }

    fn hashed(&self, keys: &[Key<'_>]) -> Result<Batch> {
        Batch::from_keys(&self.store.hash_key, keys.iter().cloned())
    }

    /// Returns the live records of each item's key, as far as they are wanted.
    fn live_of(&self, batch: &Batch) -> Result<HashMap<u128, LiveRecords>> {
        let fingerprints: BTreeSet<u128> = batch.items().iter().map(|item| item.fingerprint).collect();
        let asked: Vec<Bits> = fingerprints.into_iter().map(Bits).collect();
        let rows = match &self.held {
            None => self.store.live_rows(self.pool, asked)?,
            Some(_) => self.see(|seen| {
                let mut condition = seen.live();
                let place = condition.param(asked.clone());
                condition.and_text(format_args!("fingerprint = ANY(${place})"));
                seen.query("SELECT id, fingerprint, content, ordinal FROM {s}.record", condition, "")
            })?,
        };
        let mut live: HashMap<u128, Vec<(RecordNumber, Option<Version>)>> = HashMap::new();
        for row in &rows {
            let Bits(fingerprint) = row.read("fingerprint")?;
            live.entry(fingerprint).or_default().push((row.number("id")?, row.version()?));
        }
        let records = |mut live: Vec<(RecordNumber, Option<Version>)>| {
            live.sort_unstable_by_key(|(id, _)| *id);
            let version = live.last().and_then(|(_, version)| *version);
            LiveRecords { ids: live.into_iter().map(|(id, _)| id).collect(), version }
        };
        Ok(live.into_iter().map(|(fingerprint, live)| (fingerprint, records(live))).collect())
    }

    fn include(
        &self,
        seen: &mut Seen<'_>,
        records: &mut [Record],
        what: RecordInclude,
    ) -> Result<(), Failure> {
        match what {
            RecordInclude::Flow => {
                Self::resolve(seen, records, |record| record.flow_id.clone(), Included::set_flow)
            }
            RecordInclude::FlowRun => {
                Self::resolve(seen, records, |record| record.flow_run_id.clone(), Included::set_flow_run)
            }
            RecordInclude::FlowStep => {
                Self::resolve(seen, records, |record| record.step_id.clone(), Included::set_flow_step)
            }
            RecordInclude::EntityType => {
                Self::resolve(seen, records, |record| Some(record.entity_type_id), Included::set_entity_type)
            }
            RecordInclude::DataPool => {
                if !records.is_empty() {
                    let pool = Arc::new(super::catalog::pool_row(seen.connection, self.pool)?);
                    for record in records {
                        record.included.set_data_pool(Some(Arc::clone(&pool)));
                    }
                }
                Ok(())
            }
        }
    }

    fn resolve<Id: RegisteredId + Eq + std::hash::Hash>(
        seen: &mut Seen<'_>,
        records: &mut [Record],
        id_of: impl Fn(&Record) -> Option<Id>,
        set: impl Fn(&mut Included, Option<Arc<crate::model::Registered<Id>>>),
    ) -> Result<(), Failure> {
        let keys: BTreeSet<Vec<u8>> =
            records.iter().filter_map(|record| Some(id_of(record)?.to_key())).collect();
        let found = super::registry::entries(seen.connection, Id::KIND, keys.into_iter().collect())?;
        let mut entries = HashMap::new();
        for entry in found {
            let key = entry.key.clone();
            entries.insert(key, Arc::new(RegisteredEntry::read::<Id>(entry)?));
        }
        for record in records {
            let entry = id_of(record).and_then(|id| entries.get(&id.to_key()).cloned());
            set(&mut record.included, entry);
        }
        Ok(())
    }
}

impl Reading for PoolReading {
    fn ids(&self) -> Result<Range<RecordNumber>> {
        self.see(|seen| Ok(seen.head.watermark..seen.head.next_id))
    }

    fn contains(&self, key: &Key<'_>) -> Result<bool> {
        key.check()?;
        Ok(self.contains_many(std::slice::from_ref(key))? == [true])
    }

    fn contains_many(&self, keys: &[Key<'_>]) -> Result<Vec<bool>> {
        let batch = self.hashed(keys)?;
        let live = self.live_of(&batch)?;
        let items = batch.items().iter().enumerate();
        let contains = |(index, item): (usize, &crate::backend::batch::Item)| {
            live.get(&item.fingerprint).is_some_and(|live| live.contain(batch.version(index)))
        };
        Ok(items.map(contains).collect())
    }

    fn lookup(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Record>>> {
        let batch = self.hashed(keys)?;
        let fingerprints: BTreeSet<u128> = batch.items().iter().map(|item| item.fingerprint).collect();
        let first = self.see(|seen| {
            let mut condition = seen.live();
            let asked: Vec<Bits> = fingerprints.iter().copied().map(Bits).collect();
            let place = condition.param(asked);
            condition.and_text(format_args!("fingerprint = ANY(${place})"));
            let select = format!("SELECT DISTINCT ON (fingerprint) fingerprint, {RECORD} FROM {{s}}.record");
            let rows = seen.query(&select, condition, "ORDER BY fingerprint, id")?;
            let mut first: HashMap<u128, Record> = HashMap::new();
            for row in &rows {
                let Bits(fingerprint) = row.read("fingerprint")?;
                first.insert(fingerprint, seen.record(row)?);
            }
            Ok(first)
        })?;
        Ok(batch.items().iter().map(|item| first.get(&item.fingerprint).cloned()).collect())
    }

    fn page(&self, query: &RecordQuery) -> Result<Page<Record>> {
        query.check()?;
        self.see(|seen| {
            let matching = |seen: &Seen<'_>| seen.live().matching(&query.filter, &self.store.hash_key);
            let total =
                count_of(seen.query("SELECT count(*) AS count FROM {s}.record", matching(seen), "")?)?;
            let (order, mut condition) = match query.sort {
                RecordSort::Ascending => ("ASC", matching(seen)),
                RecordSort::Descending => ("DESC", matching(seen)),
            };
            let mut skipped = query.page.skip();
            if let Some(Cursor(last)) = query.cursor {
                let (rest, before) = match query.sort {
                    RecordSort::Ascending => (
                        matching(seen).after(last.get()),
                        matching(seen).before(last.get().saturating_add(1)),
                    ),
                    RecordSort::Descending => (
                        matching(seen).before(last.get()),
                        matching(seen).after(last.get().saturating_sub(1)),
                    ),
                };
                condition = rest;
                skipped = count_of(seen.query("SELECT count(*) AS count FROM {s}.record", before, "")?)?;
            }
            let offset = if query.cursor.is_some() { 0 } else { bigint(skipped) };
            let (limit, offset) = (condition.param(i64::from(query.page.per_page)), condition.param(offset));
            let select = format!("SELECT {RECORD} FROM {{s}}.record");
            let rows = seen.query(
                &select,
                condition,
                &format!("ORDER BY id {order} LIMIT ${limit} OFFSET ${offset}"),
            )?;
            let mut data: Vec<Record> = rows.iter().map(|row| seen.record(row)).collect::<Result<_>>()?;
            for what in &query.include {
                self.include(seen, &mut data, *what)?;
            }
            Ok(query.answer(data, skipped, total))
        })
    }

    fn count(&self, filter: &RecordFilter) -> Result<u64> {
        filter.check()?;
        self.see(|seen| {
            let condition = seen.live().matching(filter, &self.store.hash_key);
            Ok(count_of(seen.query("SELECT count(*) AS count FROM {s}.record", condition, "")?)?)
        })
    }

    fn explain(&self, query: &RecordQuery) -> Result<Explanation> {
        query.check()?;
        Err(super::store::unsupported("explaining a query by index blocks"))
    }

    fn entity_type_counts(&self) -> Result<Vec<(EntityTypeId, u64)>> {
        self.see(|seen| {
            let condition = seen.live();
            let select = "SELECT entity_type, count(*) AS count FROM {s}.record";
            let rows =
                seen.query(select, condition, "GROUP BY entity_type ORDER BY count DESC, entity_type")?;
            Ok(rows
                .iter()
                .map(|row| Ok((entity_type_of(row)?, row.number("count")?)))
                .collect::<Result<_>>()?)
        })
    }

    fn flow_counts(&self) -> Result<Vec<(FlowId, u64)>> {
        self.see(|seen| {
            let mut condition = seen.live();
            condition.text.push_str(" AND flow IS NOT NULL");
            let select = "SELECT flow, count(*) AS count FROM {s}.record";
            let rows = seen.query(select, condition, "GROUP BY flow ORDER BY count DESC, flow")?;
            Ok(rows
                .iter()
                .map(|row| Ok((row.text("flow")?.into(), row.number("count")?)))
                .collect::<Result<_>>()?)
        })
    }

    fn result(&self, record: RecordId) -> Result<Option<Vec<u8>>> {
        self.see(|seen| {
            let mut condition = seen.live();
            let place = condition.param(bigint(record.get()));
            condition.and_text(format_args!("id = ${place}"));
            let is_live = !seen.query("SELECT id FROM {s}.record", condition, "")?.is_empty();
            if !is_live {
                return Ok(None);
            }
            let rows = seen.connection.query(
                "SELECT bytes FROM {s}.result WHERE pool = $1 AND record = $2",
                vec![Box::new(bigint(seen.head.pool.get())), Box::new(bigint(record.get()))],
            )?;
            Ok(rows.first().map(|row| row.read("bytes")).transpose()?)
        })
    }

    fn results_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Vec<u8>>>> {
        let batch = self.hashed(keys)?;
        let fingerprints: BTreeSet<u128> = batch.items().iter().map(|item| item.fingerprint).collect();
        let results = self.see(|seen| {
            let mut condition = seen.live();
            let asked: Vec<Bits> = fingerprints.iter().copied().map(Bits).collect();
            let place = condition.param(asked);
            condition.and_text(format_args!("fingerprint = ANY(${place})"));
            let select = "SELECT DISTINCT ON (fingerprint) fingerprint, id FROM {s}.record";
            let rows = seen.query(select, condition, "ORDER BY fingerprint, id")?;
            let mut first: HashMap<i64, u128> = HashMap::new();
            for row in &rows {
                let Bits(fingerprint) = row.read("fingerprint")?;
                first.insert(row.read("id")?, fingerprint);
            }
            let ids: Vec<i64> = first.keys().copied().collect();
            let rows = seen.connection.query(
                "SELECT record, bytes FROM {s}.result WHERE pool = $1 AND record = ANY($2)",
                vec![Box::new(bigint(seen.head.pool.get())), Box::new(ids)],
            )?;
            let mut results: HashMap<u128, Vec<u8>> = HashMap::new();
            for row in &rows {
                let record: i64 = row.read("record")?;
                if let Some(fingerprint) = first.get(&record) {
                    results.insert(*fingerprint, row.read("bytes")?);
                }
            }
            Ok(results)
        })?;
        Ok(batch.items().iter().map(|item| results.get(&item.fingerprint).cloned()).collect())
    }

    fn slice(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordNumber>,
        sort: RecordSort,
        limit: usize,
    ) -> Result<Vec<Record>> {
        self.see(|seen| {
            let mut condition = seen.live().matching(filter, &self.store.hash_key).within(&ids);
            let limit = condition.param(bigint(limit as u64));
            let order = if sort == RecordSort::Ascending { "ASC" } else { "DESC" };
            let select = format!("SELECT {RECORD} FROM {{s}}.record");
            let rows = seen.query(&select, condition, &format!("ORDER BY id {order} LIMIT ${limit}"))?;
            Ok(rows.iter().map(|row| seen.record(row)).collect::<Result<_>>()?)
        })
    }

    fn each_value(
        &self,
        filter: &RecordFilter,
        ids: Range<RecordNumber>,
        show: &mut dyn FnMut(EntityTypeId, &str) -> Result<()>,
    ) -> Result<()> {
        let rows = self.see(|seen| {
            let condition = seen.live().matching(filter, &self.store.hash_key).within(&ids);
            seen.query("SELECT entity_type, value FROM {s}.record", condition, "ORDER BY id")
        })?;
        rows.iter().try_for_each(|row| show(entity_type_of(row)?, &row.text("value")?))
    }
}

fn count_of(rows: Vec<Row>) -> Result<u64> {
    rows.first().map_or(Ok(0), |row| row.number("count"))
}

/// A scan or snapshot, which ends when the store is closed.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Arc<Postgres>,
    /// The number of times that the store had been closed.
    pub(super) closes: u64,
}

impl OpenReader for Opened {
    fn check_open(&self) -> Result<()> {
        if self.store.closes() == self.closes { Ok(()) } else { Err(Error::closed()) }
    }
}
