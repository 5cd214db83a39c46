//! Reading: a pool as of one moment, and queries on it.
//!
//! Owns: [`PoolReading`]. Always holds: what one call answers is as of one snapshot of the server. Without a snapshot of its own,
//! each call takes a fresh one. [`seen`] is a pool in a transaction; [`included`]: what records name; [`opened`]: scans and
//! snapshots.

mod included;
mod opened;
mod seen;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_postgres::Row;

use self::included::include;
pub(super) use self::opened::Opened;
use self::seen::{RECORD, Seen, entity_type_of};
use super::connection::{Connection, Failure, Patience};
use super::head::Head;
use super::store::{Postgres, unsupported};
use super::values::{Bits, Columns, bigint};
use crate::backend::Reading;
use crate::backend::batch::Batch;
use crate::backend::rules::LiveRecords;
use crate::error::Result;
use crate::ids::{EntityTypeId, FlowId, PoolId, RecordId, RecordNumber};
use crate::model::{Key, Record, Version};
use crate::query::{Cursor, Explanation, Page, RecordFilter, RecordQuery, RecordSort};
use crate::time::Timestamp;

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

    /// Returns the live records of each item's key.
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
                include(seen, &mut data, *what)?;
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
        Err(unsupported("explaining a query"))
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
