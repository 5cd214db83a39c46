//! The rows of the group `postgres`: the store in PostgreSQL, compared with a plain table on the same server.
//!
//! The rival is a table with a unique index on (entity type, value), an index for each column that the store
//! indexes, and `INSERT ... ON CONFLICT DO NOTHING RETURNING` in prepared statements. Each client of the
//! table has its own connection. The clients of the store are threads of one process. Both are durable on
//! return. `DATAPOOL_POSTGRES_URL` sets the server.
//!
//! Always holds: both have the same records before anything is measured, and each round measures both, in
//! turn.

use std::sync::Barrier;
use std::time::Instant;

use datapool_store::{
    DataPoolStore, EntityTypeId, ImportOptions, Key, Mode, Origin, Pool, RecordFilter, RecordQuery,
    StoreOptions,
};
use postgres::{Client, NoTls, Statement};

use crate::Result;
use crate::files::Setting;
use crate::measure::{Spread, float};
use crate::report::{OWN, Report, Unit};

const TABLE: &str = "table";
const ORDERS: EntityTypeId = EntityTypeId::new(37);
const ROUNDS: usize = 3;
const CLIENTS: [usize; 3] = [1, 8, 32];
const BATCH: usize = 1_000;
/// The numbers of batches, single values and checks per round, for all clients together.
const BATCHES: usize = 32;
const SINGLES: usize = 2_048;
const CHECKS: usize = 2_000;
const IMPORTED: usize = 100_000;
/// The number of records that share a run.
const RUN_RECORDS: u64 = 1_000;
const FLOWS: u64 = 20;

const MAKE: &str = "
    DROP TABLE IF EXISTS datapool_rival;
    CREATE TABLE datapool_rival (
        id bigserial PRIMARY KEY, entity_type integer NOT NULL, value text NOT NULL, flow text, run text, step text,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(), UNIQUE (entity_type, value)
    );
    CREATE INDEX ON datapool_rival (flow, id);
    CREATE INDEX ON datapool_rival (run, id);
    CREATE INDEX ON datapool_rival (step, id);
    CREATE INDEX ON datapool_rival (entity_type, id);";
const INSERT: &str = "INSERT INTO datapool_rival (entity_type, value, flow, run, step) SELECT $1, v, $3, $4, $5 \
                      FROM unnest($2::text[]) AS v ON CONFLICT DO NOTHING RETURNING value";
const INSERT_ONE: &str = "INSERT INTO datapool_rival (entity_type, value, flow, run, step) VALUES ($1, $2, $3, $4, $5) \
                          ON CONFLICT DO NOTHING RETURNING id";
const CHECK: &str = "SELECT 1 FROM datapool_rival WHERE entity_type = $1 AND value = $2";
const CHECK_MANY: &str = "SELECT value FROM datapool_rival WHERE entity_type = $1 AND value = ANY($2)";
const COUNT: &str = "SELECT count(*) FROM datapool_rival WHERE flow = $1 AND step = $2";
const PAGE: &str =
    "SELECT * FROM datapool_rival WHERE flow = $1 AND step = $2 ORDER BY id LIMIT 50 OFFSET 1000";

fn url() -> Result<String> {
    std::env::var("DATAPOOL_POSTGRES_URL").map_err(|_| "DATAPOOL_POSTGRES_URL must name the server".into())
}

/// Returns a value from a number. The values have a random order (the finalizer of splitmix64).
fn value(number: u64) -> String {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    format!("order-{:016x}", mixed ^ (mixed >> 27))
}

fn origin(number: u64) -> (String, String, String) {
    let run = number / RUN_RECORDS;
    (format!("flow {}", run % FLOWS), format!("run {run}"), format!("step {}", number % 3))
}

fn values(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(value).collect()
}

/// A client of the table, with its prepared statements.
struct Table {
    client: Client,
    insert: Statement,
    insert_one: Statement,
    check: Statement,
    check_many: Statement,
}

impl Table {
    fn connect() -> Result<Self> {
        let mut client = Client::connect(&url()?, NoTls)?;
        let (insert, insert_one) = (client.prepare(INSERT)?, client.prepare(INSERT_ONE)?);
        let (check, check_many) = (client.prepare(CHECK)?, client.prepare(CHECK_MANY)?);
        Ok(Self { client, insert, insert_one, check, check_many })
    }

    fn track(&mut self, first: u64, values: &[String]) -> Result<usize> {
        let (flow, run, step) = origin(first);
        let new = match values {
            [value] => self.client.query(&self.insert_one, &[&37_i32, value, &flow, &run, &step])?,
            _ => self.client.query(&self.insert, &[&37_i32, &values, &flow, &run, &step])?,
        };
        Ok(new.len())
    }
}

fn track(pool: &Pool, first: u64, values: &[String]) -> Result<usize> {
    let (flow, run, step) = origin(first);
    let verdicts =
        pool.dedupe(Mode::Track, values, |value| Key::new(ORDERS, value), &Origin::new(flow, run, step))?;
    Ok(verdicts.new_count())
}

/// Runs clients concurrently, each with its share of the calls. Returns the total time in seconds.
fn at_once(clients: usize, client: impl Fn(usize, &Barrier) -> Result<()> + Sync) -> Result<f64> {
    let barrier = Barrier::new(clients + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let (barrier, client) = (&barrier, &client);
                scope.spawn(move || client(number, barrier).map_err(|error| error.to_string()))
            })
            .collect();
        barrier.wait();
        let started = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a client panicked")??;
        }
        Ok(started.elapsed().as_secs_f64())
    })
}

/// Provides numbers that were not used before.
struct Numbers(u64);

impl Numbers {
    fn take(&mut self, count: usize) -> u64 {
        let first = self.0;
        self.0 += count as u64;
        first
    }
}

/// Tracks new values with this number of clients, `size` values per call. Returns the seconds per value for
/// the store and for the table.
fn tracked(
    pool: &Pool,
    clients: usize,
    size: usize,
    calls: usize,
    numbers: &mut Numbers,
) -> Result<[f64; 2]> {
    let (share, all) = (calls / clients, calls / clients * clients * size);
    let start = |first: u64, client: usize, call: usize| first + ((client * share + call) * size) as u64;
    let first = numbers.take(all);
    let by_store = at_once(clients, |client, barrier| {
        barrier.wait();
        for call in 0..share {
            let from = start(first, client, call);
            assert_eq!(track(pool, from, &values(from..from + size as u64))?, size);
        }
        Ok(())
    })?;
    let by_table = at_once(clients, |client, barrier| {
        let mut table = Table::connect()?;
        barrier.wait();
        for call in 0..share {
            let from = start(first, client, call);
            assert_eq!(table.track(from, &values(from..from + size as u64))?, size);
        }
        Ok(())
    })?;
    Ok([by_store, by_table].map(|seconds| seconds / float(all as u64)))
}

fn fill(pool: &Pool, table: &mut Table, records: u64) -> Result<()> {
    for first in (0..records).step_by(10 * BATCH) {
        for first in (first..first + 10 * BATCH as u64).step_by(BATCH) {
            let values = values(first..first + BATCH as u64);
            track(pool, first, &values)?;
            table.track(first, &values)?;
        }
    }
    table.client.batch_execute("VACUUM ANALYZE")?;
    Ok(())
}

/// Returns the time of some work in seconds.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

fn checks(pool: &Pool, table: &mut Table, asked: &[String]) -> Result<[f64; 2]> {
    let by_store = timed(|| {
        for value in asked {
            assert!(pool.contains(Key::new(ORDERS, value))?);
        }
        Ok(())
    })?;
    let by_table = timed(|| {
        for value in asked {
            assert_eq!(table.client.query(&table.check, &[&37_i32, value])?.len(), 1);
        }
        Ok(())
    })?;
    Ok([by_store, by_table].map(|seconds| seconds / float(asked.len() as u64)))
}

fn checks_together(pool: &Pool, table: &mut Table, asked: &[String]) -> Result<[f64; 2]> {
    let keys: Vec<Key<'_>> = asked.iter().map(|value| Key::new(ORDERS, value)).collect();
    let by_store = timed(|| {
        assert!(pool.contains_many(&keys)?.into_iter().all(|found| found));
        Ok(())
    })?;
    let by_table = timed(|| {
        assert_eq!(table.client.query(&table.check_many, &[&37_i32, &asked])?.len(), asked.len());
        Ok(())
    })?;
    Ok([by_store, by_table])
}

/// Returns the times for a page by two filters with its total.
fn pages(pool: &Pool, table: &mut Table) -> Result<[f64; 2]> {
    let query = RecordQuery::new().flow_id("flow 7").step_id("step 0").per_page(50).page(21);
    let mut totals = (0, 0);
    let by_store = timed(|| {
        totals.0 = pool.records(&query)?.meta.total;
        Ok(())
    })?;
    let by_table = timed(|| {
        let count: i64 = table.client.query_one(COUNT, &[&"flow 7", &"step 0"])?.get(0);
        table.client.query(PAGE, &[&"flow 7", &"step 0"])?;
        totals.1 = u64::try_from(count)?;
        Ok(())
    })?;
    assert_eq!(totals.0, totals.1);
    Ok([by_store, by_table])
}

fn imports(store: &DataPoolStore, table: &mut Table, round: usize) -> Result<[f64; 2]> {
    use std::fmt::Write as _;
    use std::io::Write as _;

    let mut file = String::from("value,entity_type_id\n");
    for number in 0..IMPORTED {
        writeln!(file, "import-{round}-{number},37")?;
    }
    let pool = store.create_pool(format!("import {round}"))?;
    let by_store = timed(|| {
        assert_eq!(pool.import_csv(file.as_bytes(), &ImportOptions::new())?.added, IMPORTED as u64);
        Ok(())
    })?;
    let by_table = timed(|| {
        let mut transaction = table.client.transaction()?;
        transaction
            .batch_execute("CREATE TEMP TABLE staged (value text, entity_type integer) ON COMMIT DROP")?;
        let mut writer = transaction.copy_in("COPY staged FROM STDIN (FORMAT csv, HEADER)")?;
        writer.write_all(file.as_bytes())?;
        writer.finish()?;
        transaction.execute(
            "INSERT INTO datapool_rival (entity_type, value) SELECT entity_type, value FROM staged ON CONFLICT DO NOTHING",
            &[],
        )?;
        Ok(transaction.commit()?)
    })?;
    Ok([by_store, by_table].map(|seconds| seconds / float(IMPORTED as u64)))
}

pub(crate) fn run(Setting { size, .. }: Setting<'_>) -> Result<Report> {
    let url = url()?;
    let mut client = Client::connect(&url, NoTls)?;
    client.batch_execute("DROP SCHEMA IF EXISTS datapool_bench CASCADE")?;
    client.batch_execute(MAKE)?;
    let mut table = Table::connect()?;
    let store = StoreOptions::new().schema("datapool_bench").connect(&url)?;
    let pool = store.create_pool("orders")?;
    let records = size.records() as u64;
    fill(&pool, &mut table, records)?;
    assert_eq!(pool.count(&RecordFilter::new())?, records);
    let mut report = Report::new("postgres", format!("Over PostgreSQL, {} records", size.name()));
    let mut numbers = Numbers(records);
    let mut row = |work: String, unit: Unit, samples: Vec<[f64; 2]>| {
        let of = |side: usize| Spread::of(samples.iter().filter_map(move |sample| sample.get(side).copied()));
        report.row(work, unit, vec![(OWN, of(0)), (TABLE, of(1))]);
    };
    for clients in CLIENTS {
        for (size, calls, name) in [(BATCH, BATCHES, "batches of 1,000"), (1, SINGLES, "single values")] {
            let samples = (0..ROUNDS).map(|_| tracked(&pool, clients, size, calls, &mut numbers));
            row(format!("{name}, {clients} clients, a value"), Unit::Time, samples.collect::<Result<_>>()?);
        }
    }
    let asked: Vec<String> = (0..CHECKS as u64).map(|number| value(number * 7_919 % records)).collect();
    let samples = (0..ROUNDS).map(|_| checks(&pool, &mut table, &asked));
    row("a check, present".to_owned(), Unit::Time, samples.collect::<Result<_>>()?);
    let samples = (0..ROUNDS).map(|_| checks_together(&pool, &mut table, &asked));
    row("2,000 checks together".to_owned(), Unit::Time, samples.collect::<Result<_>>()?);
    let samples = (0..ROUNDS).map(|round| imports(&store, &mut table, round));
    row("import of 100,000 rows, a row".to_owned(), Unit::Time, samples.collect::<Result<_>>()?);
    let samples = (0..ROUNDS).map(|_| pages(&pool, &mut table));
    row("page by flow and step, with its total".to_owned(), Unit::Time, samples.collect::<Result<_>>()?);
    let version: String = table.client.query_one("SHOW server_version", &[])?.get(0);
    report.note(format!("Server {version}, synchronous commits, its other settings as they come. Medians of three rounds in turn."));
    Ok(report)
}
