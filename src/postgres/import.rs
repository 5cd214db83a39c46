//! Bulk import: rows are copied into a temporary table, and then added in one statement.
//!
//! Owns: the rows in PostgreSQL's binary COPY format. Always holds: the pool is locked after the rows were copied, and only until
//! they are added; ids follow the order of the rows. Must not know: where the rows come from.

use bytes::{BufMut, BytesMut};
use futures_util::{SinkExt, pin_mut};
use tokio_postgres::Row;

use super::connection::{Connection, Failure, Step};
use super::head::{self, Head, head_step};
use super::isolation::{BEGIN, PLAN_WITH_VALUES};
use super::lookup::{NOW, oldest_of};
use super::reclaim::reclaim_steps;
use super::store::Postgres;
use super::transaction::{Commit, Outcome};
use super::values::{Bits, Columns, bigint, origin_columns, version_columns};
use crate::backend::import::{BulkReport, ImportRow, Present, RowSource};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::model::Origin;
use crate::time::Timestamp;

/// The number of bytes that are sent together.
const CHUNK_BYTES: usize = 1 << 20;
/// The beginning and the end of PostgreSQL's binary COPY format, as its documentation describes it under COPY.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_END: i16 = -1;
const COLUMNS: i16 = 11;

const STAGE: &str = "CREATE TEMP TABLE datapool_staged (n bigint NOT NULL, line bigint NOT NULL, fingerprint uuid NOT NULL, \
                     entity_type bigint NOT NULL, value bytea NOT NULL, flow bytea, run bytea, step bytea, created_at bigint, \
                     content uuid, ordinal bigint) ON COMMIT DROP";
const COPY: &str = "COPY datapool_staged FROM STDIN BINARY";

/// Rows in the binary COPY format.
#[derive(Default)]
struct Rows {
    bytes: BytesMut,
    count: i64,
    first: Option<Timestamp>,
}

impl Rows {
    fn field(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.bytes.put_i32(-1),
            Some(bytes) => {
                // A field has at most a few thousand bytes.
                self.bytes.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                self.bytes.put_slice(bytes);
            }
        }
    }

    fn push(&mut self, store: &Postgres, row: &ImportRow<'_>) {
        if self.count == 0 {
            self.first = row.created_at;
        }
        self.count += 1;
        self.bytes.put_i16(COLUMNS);
        self.field(Some(&self.count.to_be_bytes()));
        self.field(Some(&bigint(row.line).to_be_bytes()));
        let fingerprint = store.hash_key.fingerprint(row.entity_type, row.value);
        self.field(Some(&fingerprint.to_be_bytes()));
        self.field(Some(&i64::from(row.entity_type.get()).to_be_bytes()));
        self.field(Some(row.value.as_bytes()));
        let none = Origin::none();
        for part in origin_columns(row.origin.map_or(&none, |origin| &**origin)) {
            self.field(part.as_deref());
        }
        self.field(
            row.created_at.map(|time| time.as_micros().to_be_bytes()).as_ref().map(|bytes| &bytes[..]),
        );
        let (content, ordinal) = version_columns(row.version);
        self.field(content.map(|Bits(bits)| bits.to_be_bytes()).as_ref().map(|bytes| &bytes[..]));
        self.field(ordinal.map(i64::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    }
}

impl Postgres {
    pub(super) fn import_rows(
        &self,
        pool: PoolId,
        source: &mut (dyn RowSource + Send),
        present: Present,
    ) -> Result<BulkReport> {
        self.check_writable()?;
        // The rows cannot be read a second time.
        let mut is_read = false;
        self.execute_once(pool, |connection| {
            if is_read {
                return Err(not_again(Error::storage("the connection was lost during the commit")));
            }
            let added = self.add_rows(connection, pool, source, present, &mut is_read);
            match added {
                Err(Failure::Lost(error) | Failure::Again(error)) if is_read => Err(not_again(error)),
                added => added,
            }
        })
    }

    fn add_rows(
        &self,
        connection: &mut Connection,
        pool: PoolId,
        source: &mut (dyn RowSource + Send),
        present: Present,
        is_read: &mut bool,
    ) -> Result<Outcome<BulkReport>, Failure> {
        connection.run(vec![
            Step::Command(BEGIN.into()),
            Step::Command(PLAN_WITH_VALUES.into()),
            Step::Command(STAGE.into()),
        ])?;
        *is_read = true;
        let rows = self.copy(connection, source)?;
        let id = bigint(pool.get());
        connection.command("ANALYZE datapool_staged")?;
        let read = connection.run(vec![head::lock(pool), Step::Query(NOW.into(), vec![Box::new(id)])])?;
        let [head, now] = read.as_slice() else {
            return Err(Error::storage("a statement returned no result").into());
        };
        let mut draft = self.draft_of(Head::of(pool, head)?, self.now_by(now)?);
        self.expire(connection, &mut draft, oldest_of(now)?)?;
        let report = if rows.count == 0 {
            BulkReport::default()
        } else {
            Self::add_staged(connection, &mut draft, rows.first, present)?
        };
        if report.added == 0 {
            return Ok(Outcome { answer: report, commit: Commit::nothing() });
        }
        let waiting = std::sync::Arc::clone(&self.waiting);
        let done = move || waiting.wake_pool(pool);
        let mut steps = Vec::new();
        Self::sweep(connection, &draft, &mut steps)?;
        steps.extend(reclaim_steps(&draft.head, report.added));
        steps.push(head_step(&mut draft.head));
        Self::notify(connection, pool, &mut steps)?;
        Ok(Outcome { answer: report, commit: Commit::new(steps, done) })
    }

    /// Copies the rows of a source into the staging table.
    fn copy(
        &self,
        connection: &mut Connection,
        source: &mut (dyn RowSource + Send),
    ) -> Result<Rows, Failure> {
        let mut rows = Rows::default();
        rows.bytes.put_slice(COPY_HEADER);
        let server = connection.server();
        let copying = async {
            let sink =
                connection.client().copy_in::<_, bytes::Bytes>(COPY).await.map_err(CopyError::Server)?;
            pin_mut!(sink);
            loop {
                let mut more = true;
                while more && rows.bytes.len() < CHUNK_BYTES {
                    more = source.next(&mut |row| rows.push(self, &row)).map_err(CopyError::Source)?;
                }
                if !more {
                    rows.bytes.put_i16(COPY_END);
                }
                sink.send(rows.bytes.split().freeze()).await.map_err(CopyError::Server)?;
                if !more {
                    return sink.finish().await.map_err(CopyError::Server);
                }
            }
        };
        match server.answer(copying, None) {
            Some(Ok(_)) => Ok(rows),
            Some(Err(CopyError::Source(error))) => Err(error.into()),
            Some(Err(CopyError::Server(error))) => Err(connection.failed(error)),
            None => Err(connection.silent()),
        }
    }

    /// Adds the staged rows to a pool that is locked.
    fn add_staged(
        connection: &mut Connection,
        draft: &mut super::draft::Draft,
        first: Option<Timestamp>,
        present: Present,
    ) -> Result<BulkReport, Failure> {
        let pool = bigint(draft.head.pool.get());
        if let Some(first) = first {
            Self::begin_at(connection, draft, first)?;
        }
        let horizon = draft.head.horizon(draft.time).map(Timestamp::as_micros);
        let mut skipped = 0;
        if present != Present::Add {
            let rows = doubles(connection, draft, horizon)?;
            if let (Present::Fail, Some(row)) = (present, rows.first()) {
                let text = format!(
                    "line {}: the value {:?} of entity type {} is already in the pool or earlier in the file",
                    row.number("line")?,
                    row.text("value")?,
                    row.number("entity_type")?
                );
                return Err(Error::already_exists(text).into());
            }
            skipped = rows.len() as u64;
            let doubles = rows.iter().map(|row| row.read("n")).collect::<Result<Vec<i64>>>()?;
            if !doubles.is_empty() {
                connection.query("DELETE FROM datapool_staged WHERE n = ANY($1)", vec![Box::new(doubles)])?;
            }
        }
        let insert = "INSERT INTO {s}.record (pool, id, fingerprint, entity_type, value, flow, run, step, created_at, content, \
                      ordinal) SELECT $1::bigint, $2::bigint + row_number() OVER (ORDER BY n) - 1, fingerprint, entity_type, value, \
                      flow, run, step, coalesce(created_at, $3::bigint), content, ordinal FROM datapool_staged ORDER BY n";
        let count = "SELECT count(*) AS count, max(created_at) AS last, count(*) FILTER (WHERE created_at <= $1::bigint) AS expired \
                     FROM datapool_staged";
        let void = "UPDATE {s}.claim_item i SET owned = false FROM datapool_staged d WHERE i.pool = $1 AND i.owned \
                    AND i.fingerprint = d.fingerprint";
        let mut steps = vec![
            Step::Query(count.into(), vec![Box::new(horizon)]),
            Step::Query(
                insert.into(),
                vec![Box::new(pool), Box::new(bigint(draft.head.next_id)), Box::new(draft.time.as_micros())],
            ),
        ];
        if draft.head.next_claim > 1 {
            steps.push(Step::Query(void.into(), vec![Box::new(pool)]));
        }
        let written = connection.run(steps)?;
        let Some(row) = written.first().and_then(|rows| rows.first()) else {
            return Err(Error::storage("a statement returned no result").into());
        };
        let (added, expired) = (row.number("count")?, row.number("expired")?);
        let last: Option<i64> = row.read("last")?;
        if added > 0 {
            draft.head.last_time = last.map_or(draft.time, Timestamp::from_micros);
        }
        if expired > 0 {
            // Times ascend, so the first ones are expired, with all that was there before.
            draft.head.watermark = draft.head.next_id + expired;
            draft.head.live = 0;
        }
        draft.head.next_id += added;
        draft.head.live += added - expired;
        Ok(BulkReport { added, skipped })
    }

    /// Checks that the first row is not older than the pool's live records.
    fn begin_at(
        connection: &mut Connection,
        draft: &mut super::draft::Draft,
        first: Timestamp,
    ) -> Result<(), Failure> {
        let newest =
            "SELECT created_at FROM {s}.record WHERE pool = $1 AND id >= $2 ORDER BY id DESC LIMIT 1";
        let (pool, watermark) = (bigint(draft.head.pool.get()), bigint(draft.head.watermark));
        let rows = connection.query(newest, vec![Box::new(pool), Box::new(watermark)])?;
        let Some(newest) = rows.first().map(|row| row.time("created_at")).transpose()? else { return Ok(()) };
        if newest > first {
            let text = format!(
                "the first row is of {first}, but the pool's newest record is of {newest}: a file with times can be imported only \
                 into a pool whose live records are not newer"
            );
            return Err(Error::invalid_argument(text).into());
        }
        Ok(())
    }
}

/// Returns the staged rows whose value is in the pool, or occurred earlier in the file. A row that is expired already hides no
/// later one.
fn doubles(
    connection: &mut Connection,
    draft: &super::draft::Draft,
    horizon: Option<i64>,
) -> Result<Vec<Row>, Failure> {
    let select = "SELECT d.n, d.line, d.value, d.entity_type FROM (SELECT s.*, row_number() OVER (PARTITION BY fingerprint, \
                  s.is_live ORDER BY n) AS place FROM (SELECT *, $3::bigint IS NULL OR coalesce(created_at, $4) > $3 AS is_live \
                  FROM datapool_staged) s) d WHERE (d.place > 1 AND d.is_live) OR EXISTS (SELECT 1 FROM {s}.record r \
                  WHERE r.pool = $1 AND r.fingerprint = d.fingerprint AND r.id >= $2 AND ($3 IS NULL OR r.created_at > $3)) \
                  ORDER BY d.n";
    connection.query(
        select,
        vec![
            Box::new(bigint(draft.head.pool.get())),
            Box::new(bigint(draft.head.watermark)),
            Box::new(horizon),
            Box::new(draft.time.as_micros()),
        ],
    )
}

/// Returns the failure of an import that added nothing and cannot be tried again here.
fn not_again(error: Error) -> Failure {
    if error.kind() == ErrorKind::Closed {
        return error.into();
    }
    let text = format!("{error}; nothing was added. Import again");
    Error::new(error.kind(), text).with_source(error).into()
}

enum CopyError {
    Source(Error),
    Server(tokio_postgres::Error),
}
