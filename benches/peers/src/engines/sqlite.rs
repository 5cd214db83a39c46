//! SQLite, used for writing as an experienced engineer would.
//!
//! For speed: WAL mode; statements are prepared once and kept; one transaction per batch or import, begun as
//! a write transaction; indexes on flow, run and step leave out records without them; values are looked up in
//! the order of their index. The first load of a file uses no journal, creates the indexes afterwards with
//! helper threads, and is synced at the end.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datapool_store::Timestamp;
use rusqlite::types::Type;
use rusqlite::{CachedStatement, Connection, params_from_iter};

use super::{CACHE_BYTES, CsvFile, Engine, Past, Runs, each_csv_row};
use crate::Result;
use crate::common::{Row, flow, step};
use crate::data::{DataSet, Run, run_id, time_of};

/// The time for which a writer waits for others.
const BUSY_TIMEOUT: Duration = Duration::from_mins(2);
/// The number of prepared statements that are kept.
const STATEMENTS_KEPT: usize = 32;

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS record (
        id INTEGER PRIMARY KEY, pool INTEGER NOT NULL, entity_type INTEGER NOT NULL, value TEXT NOT NULL,
        flow TEXT, run TEXT, step TEXT, created_at INTEGER NOT NULL);";
const UNIQUE_INDEX: &str =
    "CREATE UNIQUE INDEX IF NOT EXISTS record_by_key ON record (pool, entity_type, value);";
const OTHER_INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS record_by_flow ON record (flow) WHERE flow IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_by_run ON record (run) WHERE run IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_by_step ON record (step) WHERE step IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_by_entity_type ON record (entity_type);
    CREATE INDEX IF NOT EXISTS record_by_time ON record (created_at);";

const WITHOUT_JOURNAL: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;";

const INSERT: &str = "
    INSERT INTO record (pool, entity_type, value, flow, run, step, created_at) VALUES (1, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING";
const CONTAINS: &str = "SELECT 1 FROM record WHERE pool = 1 AND entity_type = ? AND value = ?";

/// The ways in which SQLite is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All indexes exist from the beginning.
    Plain,
    /// The first load creates the indexes at its end. This is only for an empty file, where a crash loses
    /// nothing.
    IndexedLater,
    /// The first load uses no journal, too, but the indexes exist from the beginning.
    Unjournaled,
    /// Like `IndexedLater`, but with only the unique index.
    Unique,
    /// Looks up many values in one statement.
    Joining,
}

#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
    path: PathBuf,
    form: Form,
}

impl Sqlite {
    pub(super) fn open(directory: &Path, form: Form) -> Result<Self> {
        let path = directory.join("pools.sqlite");
        let connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch(&format!(
            "PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA threads = 2; \
             PRAGMA cache_size = -{};",
            CACHE_BYTES / 1_024
        ))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        let this = Self { connection, path, form };
        this.connection.execute_batch(match form {
            Form::IndexedLater | Form::Unjournaled => WITHOUT_JOURNAL,
            Form::Plain | Form::Joining | Form::Unique => "PRAGMA journal_mode = WAL;",
        })?;
        this.connection.execute_batch(TABLE)?;
        if !matches!(form, Form::IndexedLater | Form::Unique) {
            this.make_indexes()?;
        }
        Ok(this)
    }

    fn make_indexes(&self) -> Result<()> {
        self.connection.execute_batch(UNIQUE_INDEX)?;
        if self.form != Form::Unique {
            self.connection.execute_batch(OTHER_INDEXES)?;
        }
        Ok(())
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.statement(sql)?.execute(())?;
        Ok(())
    }

    /// Runs a closure in one transaction. An error ends the program, and so the transaction.
    fn transaction<T>(&self, begin: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.run(begin)?;
        let done = work()?;
        self.run("COMMIT")?;
        Ok(done)
    }

    /// Runs a transaction that adds rows, and creates the indexes at its end if the form does that.
    fn add(&self, work: impl FnOnce(&mut CachedStatement<'_>) -> Result<u64>) -> Result<u64> {
        let insert = || work(&mut self.statement(INSERT)?);
        let new = self.transaction("BEGIN IMMEDIATE", insert)?;
        if matches!(self.form, Form::IndexedLater | Form::Unjournaled | Form::Unique) {
            // Fails if a value is not unique. A program that cannot rule that out has to check it here.
            self.make_indexes()?;
            File::open(&self.path)?.sync_all()?;
        }
        Ok(new)
    }

    fn contains_each(&self, rows: &[Row]) -> Result<Vec<bool>> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|index| rows.get(*index).map(|row| (row.entity_type, &row.value)));
        let mut found = vec![false; rows.len()];
        self.transaction("BEGIN", || {
            let mut contains = self.statement(CONTAINS)?;
            for index in order {
                if let (Some(row), Some(found)) = (rows.get(index), found.get_mut(index)) {
                    *found = contains.exists((row.entity_type, &row.value))?;
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Looks up all values in one statement. It may have at most 32,766 parameters, two per value.
    fn contains_joining(&self, rows: &[Row]) -> Result<Vec<bool>> {
        let mut sql = "WITH asked(number, entity_type, value) AS (VALUES ".to_owned();
        for number in 0..rows.len() {
            write!(sql, "{}({number},?,?)", if number == 0 { "" } else { "," })?;
        }
        sql.push_str(
            ") SELECT number FROM asked CROSS JOIN record \
             ON record.pool = 1 AND record.entity_type = asked.entity_type AND record.value = asked.value",
        );
        let mut statement = self.statement(&sql)?;
        let parameters =
            rows.iter().flat_map(|row| -> [&dyn rusqlite::ToSql; 2] { [&row.entity_type, &row.value] });
        let mut found = vec![false; rows.len()];
        let mut numbers = statement.query(params_from_iter(parameters))?;
        while let Some(row) = numbers.next()? {
            if let Some(found) = found.get_mut(usize::try_from(row.get::<_, i64>(0)?)?) {
                *found = true;
            }
        }
        Ok(found)
    }
}

impl Engine for Sqlite {
    fn another(&self) -> Result<Box<dyn Engine>> {
        let directory = self.path.parent().ok_or("the file lies in a directory")?;
        Ok(Box::new(Self::open(directory, self.form)?))
    }

    fn import(&mut self, file: &Path) -> Result<u64> {
        let now = time_of(0).as_micros();
        self.add(|insert| {
            let mut new = 0;
            each_csv_row(file, |entity_type, value| {
                let none = None::<&str>;
                new += insert.execute((entity_type, value, none, none, none, now))? as u64;
                Ok(())
            })?;
            Ok(new)
        })
    }

    fn load(&mut self, set: DataSet, _: Past) -> Result<()> {
        if self.form == Form::Unique {
            self.connection.execute_batch(WITHOUT_JOURNAL)?;
        }
        self.add(|insert| {
            let mut new = 0;
            for Run { number, time, rows } in set.runs() {
                let (flow, run, step) = (flow(number), run_id(number), step(number));
                for row in rows {
                    let row = (row.entity_type, &row.value, &flow, &run, &step, time.as_micros());
                    new += insert.execute(row)? as u64;
                }
            }
            Ok(new)
        })?;
        // Leaves the file as if it had always been in this mode.
        self.connection.execute_batch("PRAGMA journal_mode = WAL;")?;
        Ok(())
    }

    fn track(&mut self, rows: &[Row], runs: Runs, time: Timestamp) -> Result<usize> {
        let time = time.as_micros();
        self.transaction("BEGIN IMMEDIATE", || {
            let mut insert = self.statement(INSERT)?;
            let mut new = 0;
            let (mut number, one) = match runs {
                Runs::One(run) => (run, Some((flow(run), run_id(run), step(run)))),
                Runs::Each(first) => (first, None),
            };
            for Row { entity_type, value } in rows {
                new += if let Some((flow, run, step)) = &one {
                    insert.execute((entity_type, value, flow, run, step, time))?
                } else {
                    insert.execute((entity_type, value, flow(number), run_id(number), step(number), time))?
                };
                number += 1;
            }
            Ok(new)
        })
    }

    fn contains(&mut self, row: &Row) -> Result<bool> {
        Ok(self.statement(CONTAINS)?.exists((row.entity_type, &row.value))?)
    }

    fn contains_many(&mut self, rows: &[Row]) -> Result<Vec<bool>> {
        match self.form {
            Form::Plain | Form::IndexedLater | Form::Unjournaled | Form::Unique => self.contains_each(rows),
            Form::Joining => self.contains_joining(rows),
        }
    }

    fn count(&mut self) -> Result<u64> {
        let count: i64 = self.statement("SELECT count(*) FROM record")?.query_row((), |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    }

    fn expire(&mut self, before: Timestamp) -> Result<u64> {
        self.transaction("BEGIN IMMEDIATE", || {
            let mut delete = self.statement("DELETE FROM record WHERE created_at < ?")?;
            Ok(delete.execute([before.as_micros()])? as u64)
        })
    }

    fn export(&mut self, file: &Path) -> Result<()> {
        let mut csv = CsvFile::create(file)?;
        let mut statement = self.statement("SELECT value, entity_type FROM record ORDER BY id")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let value = row.get_ref(0)?;
            let value = value
                .as_bytes()
                .map_err(|_| format!("a value is {}, not {}", value.data_type(), Type::Text))?;
            csv.push(value, row.get(1)?)?;
        }
        csv.finish()
    }
}

/// One connection for all threads, protected by a lock, so that no thread waits by sleeping as SQLite does.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<parking_lot::Mutex<Sqlite>>);

impl Shared {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        Ok(Self(Arc::new(parking_lot::Mutex::new(Sqlite::open(directory, Form::Plain)?))))
    }
}

impl Engine for Shared {
    fn another(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(self.clone()))
    }

    fn import(&mut self, file: &Path) -> Result<u64> {
        self.0.lock().import(file)
    }

    fn load(&mut self, set: DataSet, past: Past) -> Result<()> {
        self.0.lock().load(set, past)
    }

    fn track(&mut self, rows: &[Row], runs: Runs, time: Timestamp) -> Result<usize> {
        self.0.lock().track(rows, runs, time)
    }

    fn contains(&mut self, row: &Row) -> Result<bool> {
        self.0.lock().contains(row)
    }

    fn contains_many(&mut self, rows: &[Row]) -> Result<Vec<bool>> {
        self.0.lock().contains_many(rows)
    }

    fn count(&mut self) -> Result<u64> {
        self.0.lock().count()
    }

    fn expire(&mut self, before: Timestamp) -> Result<u64> {
        self.0.lock().expire(before)
    }

    fn export(&mut self, file: &Path) -> Result<()> {
        self.0.lock().export(file)
    }
}
