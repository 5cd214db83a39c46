//! datapool-store, through its public API.
//!
//! For speed: only its defaults. The forms differ in what the caller asks for.

use std::path::Path;
use std::time::Duration;

use datapool_store::{
    DataPoolStore, Durability, ExportOptions, ImportOptions, Key, ManualClock, Mode, OnDuplicate, Pool,
    PoolUpdate, RecordFilter, StoreOptions, Timestamp,
};

use super::{Engine, Past, Runs};
use crate::Result;
use crate::common::{Row, origin};
use crate::data::{DataSet, POOL, Run, time_of};

/// The retention that a pool gets when its records are to expire.
const RETENTION: Duration = Duration::from_hours(24 * 365);

/// The ways in which the store is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Durable on return. An import adds each row.
    Plain,
    /// Like `Plain`, but an import skips existing values.
    Skipping,
    /// Calls return before they are durable, and a batch is flushed at its end. A call has one origin, so
    /// rows of many runs need many calls.
    Flushed,
}

#[derive(Debug, Clone)]
pub(super) struct Store {
    form: Form,
    database: DataPoolStore,
    pool: Pool,
    clock: ManualClock,
}

impl Store {
    pub(super) fn open(directory: &Path, form: Form) -> Result<Self> {
        let durability = match form {
            Form::Plain | Form::Skipping => Durability::Immediate,
            // The flush is explicit and comes long before this.
            Form::Flushed => Durability::Relaxed { flush_every: Duration::from_hours(24) },
        };
        Self::open_with(directory, form, durability)
    }

    fn open_with(directory: &Path, form: Form, durability: Durability) -> Result<Self> {
        let clock = ManualClock::starting_at(time_of(0));
        let options = StoreOptions::new().hash_key(*b"a bench hash key").clock(clock.clone());
        let database = options.durability(durability).open(directory.join("pools.redb"))?;
        let pool = database.get_or_create_pool(POOL)?;
        Ok(Self { form, database, pool, clock })
    }
}

/// The durability while a database is built, to be fast.
const BUILDING: Durability = Durability::Relaxed { flush_every: Duration::from_millis(500) };

/// Builds a database. The runs are tracked one by one. At the end, pending background work is done, because
/// the rivals' pages are full, too.
pub(super) fn build(directory: &Path, set: DataSet) -> Result<()> {
    fill(Store::open_with(directory, Form::Plain, BUILDING)?, set)
}

fn fill(mut store: Store, set: DataSet) -> Result<()> {
    store.load(set, Past::Grown)?;
    store.pool.prune()?;
    Ok(store.database.close()?)
}

impl Engine for Store {
    fn another(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(self.clone()))
    }

    fn import(&mut self, file: &Path) -> Result<u64> {
        let policy = if self.form == Form::Skipping { OnDuplicate::Skip } else { OnDuplicate::Add };
        Ok(self.pool.import_csv_path(file, &ImportOptions::new().on_duplicate(policy))?.added)
    }

    fn load(&mut self, set: DataSet, _: Past) -> Result<()> {
        for Run { number, time, rows } in set.runs() {
            let new = self.track(&rows, Runs::One(number), time)?;
            assert_eq!(new, rows.len(), "run {number} has a value that another one had before");
        }
        Ok(self.database.flush()?)
    }

    fn track(&mut self, rows: &[Row], runs: Runs, time: Timestamp) -> Result<usize> {
        self.clock.set(time);
        let dedupe = |rows, run| self.pool.dedupe(Mode::FilterAndTrack, rows, Row::key, &origin(run));
        match runs {
            Runs::One(run) => Ok(dedupe(rows, run)?.new_count()),
            Runs::Each(first) => {
                let mut new = 0;
                for (run, row) in (first..).zip(rows.chunks(1)) {
                    new += dedupe(row, run)?.new_count();
                }
                self.database.flush()?;
                Ok(new)
            }
        }
    }

    fn contains(&mut self, row: &Row) -> Result<bool> {
        Ok(self.pool.contains(row.key())?)
    }

    fn contains_many(&mut self, rows: &[Row]) -> Result<Vec<bool>> {
        let keys: Vec<Key<'_>> = rows.iter().map(Row::key).collect();
        Ok(self.pool.contains_many(&keys)?)
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.pool.count(&RecordFilter::new())?)
    }

    fn expire(&mut self, before: Timestamp) -> Result<u64> {
        let count = self.count()?;
        // Records exactly as old as the retention are expired.
        let last = Timestamp::from_micros(before.as_micros() - 1);
        self.clock.set(last.saturating_add(RETENTION));
        Ok(count - self.count()?)
    }

    fn prepare_to_expire(&mut self) -> Result<()> {
        self.database.update_pool(self.pool.id(), PoolUpdate::new().retention(RETENTION))?;
        Ok(())
    }

    fn give_back(&mut self) -> Result<u64> {
        Ok(self.pool.prune()?.records)
    }

    fn export(&mut self, file: &Path) -> Result<()> {
        self.pool.export_csv_path(file, &ExportOptions::new())?;
        Ok(())
    }
}
