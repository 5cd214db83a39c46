//! Verifying: checks the file's checksums, and every index against the records.
//!
//! Owns: the run over the store, and its findings. [`checksums`] lets redb check the file, [`segment`] checks
//! the indexes of a segment, [`strays`] finds rows that belong to nothing, and [`claims`] checks claims. Always
//! holds: it checks what is on disk as of one commit, and reads it again from the file. What the rules of
//! [`crate::engine::write::fold`], [`crate::engine::write::append`] and [`crate::engine::pool::liveness`] allow
//! is not a finding.

mod checksums;
mod claims;
mod expected;
pub(crate) mod owned;
mod results;
mod segment;
pub(crate) mod strays;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use redb::ReadableTable;

use self::checksums::Checked;
use self::expected::Expected;
use self::owned::{Numbers, Owned};
use crate::backend::Observer;
use crate::engine::Engine;
use crate::engine::format::codec;
use crate::engine::format::schema;
use crate::engine::format::tables::AnyTable;
use crate::engine::maintain::observer::Watch;
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::snapshot::count_rows;
use crate::engine::read::view::View;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::storage::session::{Reader, ReaderKind};
use crate::engine::write::catalog::next_pool_id;
use crate::engine::write::log::{Event, log};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::model::{Finding, Progress, VerifyReport};
use crate::time::Reading;

/// The number of findings that are described.
const FINDINGS_MAX: usize = 1_000;

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    count: u64,
}

impl Findings {
    fn add(&mut self, pool: Option<PoolId>, table: &str, key: impl Into<String>, reason: impl Into<String>) {
        self.count += 1;
        if self.list.len() < FINDINGS_MAX {
            self.list.push(Finding::new(pool, table, key, reason));
        }
    }
}

impl Engine {
    /// Verifies everything.
    ///
    /// # Errors
    ///
    /// `Busy`; `ReadOnly`; `Cancelled`; `Closed`; `Storage`. Damage is a finding, not an error.
    pub(crate) fn verify(&self, observer: Observer<'_>) -> Result<VerifyReport> {
        Watch::over(observer, |watch| self.verify_watched(watch))
    }

    fn verify_watched(&self, watch: &mut Watch<'_>) -> Result<VerifyReport> {
        let started = Instant::now();
        let mut findings = Findings::default();
        match self.check_file("verifying")? {
            Checked::Sound => {}
            Checked::PutInOrder => {
                findings.add(None, "file", "", "it was not in order; the storage has put it in order");
            }
            Checked::Damaged(reason) => findings.add(None, "file", "", reason),
        }
        let reader = self.reader(ReaderKind::Verification)?;
        let snapshot = contained("verifying", || self.snapshot())?;
        let mut run = Verification {
            engine: self,
            snapshot,
            reader,
            now: self.clock.read(),
            findings,
            watch,
            progress: Progress::new(0, 0),
            checked: 0,
        };
        let pools = run.check_all()?;
        // Segments whose space is being reclaimed are not checked, but count as done.
        run.progress.done = run.progress.total;
        run.tick(0)?;
        let Findings { list, count } = run.findings;
        log(&Event::Verified { findings: count, took: started.elapsed() });
        Ok(VerifyReport {
            ok: count == 0,
            findings: list,
            findings_count: count,
            pools,
            records: run.checked,
        })
    }
}

/// One verification of the store.
struct Verification<'e, 'w, 'o> {
    engine: &'e Engine,
    snapshot: Arc<Snapshot>,
    reader: Reader,
    now: Reading,
    findings: Findings,
    watch: &'w mut Watch<'o>,
    progress: Progress,
    /// The number of records that were read.
    checked: u64,
}

impl Verification<'_, '_, '_> {
    /// Checks all pools, and rows that belong to no pool. Returns the number of pools.
    fn check_all(&mut self) -> Result<u64> {
        let (pools, records) =
            match contained("verifying", || Ok((self.check_catalog()?, self.count_records()?))) {
                // Without a readable list of pools, nothing more can be checked.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.note("pools", Err(error))?;
                    return Ok(0);
                }
                other => other?,
            };
        self.progress.total = records;
        let mut segments = Owned::new();
        for id in &pools {
            // Damage that makes a pool unreadable is one finding. The other pools are still checked.
            let checked = contained("verifying", || self.check_pool(*id));
            let numbers = match checked {
                Ok(numbers) => Some(numbers),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.findings.add(Some(*id), "pool heads", id.to_string(), error.to_string());
                    None
                }
                Err(error) => return Err(error),
            };
            segments.insert(*id, numbers);
        }
        let strays = contained("verifying", || self.check_strays(&segments));
        self.note("file", strays)?;
        let registered = contained("verifying", || self.check_registered());
        self.note("file", registered)?;
        Ok(pools.len() as u64)
    }

    /// Adds a finding if a check failed because of damage.
    fn note(&mut self, table: &str, checked: Result<()>) -> Result<()> {
        match checked {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.findings.add(None, table, "", error.to_string());
                Ok(())
            }
            other => other,
        }
    }

    /// Checks the rows of pools, and that each name leads to its pool. Returns the ids of the pools.
    fn check_catalog(&mut self) -> Result<Vec<PoolId>> {
        let mut ids = Vec::new();
        let mut names = BTreeMap::new();
        if let Some(table) = self.snapshot.table(schema::POOL_NAMES)? {
            for row in ReadableTable::iter(&table).storage()? {
                let (name, id) = row.storage()?;
                names.insert(name.value().to_vec(), id.value());
            }
        }
        if let Some(table) = self.snapshot.table(schema::POOLS)? {
            for row in ReadableTable::iter(&table).storage()? {
                let (id, row) = row.storage()?;
                let id = id.value();
                ids.push(id);
                match codec::decode_pool(id, row.value()) {
                    Err(error) => {
                        self.findings.add(Some(id), "pools", id.to_string(), error.to_string());
                    }
                    Ok(pool) => {
                        let reason = match names.remove(pool.name.as_bytes()) {
                            Some(found) if found == id => continue,
                            Some(other) => format!("it leads to pool {other}; pool {id} has that name"),
                            None => "the pool's name is missing".to_owned(),
                        };
                        self.findings.add(Some(id), "pool names", &pool.name, reason);
                    }
                }
            }
        }
        self.check_next_id(ids.last().copied().unwrap_or(PoolId::new(0)))?;
        for (name, id) in names {
            let name = String::from_utf8_lossy(&name).into_owned();
            self.findings.add(Some(id), "pool names", name, format!("pool {id} has no such name"));
        }
        Ok(ids)
    }

    /// Checks that no later pool gets the id of an existing one.
    fn check_next_id(&mut self, last: PoolId) -> Result<()> {
        let next = match self.snapshot.table(schema::META)? {
            Some(meta) => next_pool_id(&meta)?,
            None => None,
        };
        if next.is_none_or(|next| next <= last) {
            let text = format!("it is {}; there is a pool {last}", next.unwrap_or(PoolId::new(0)));
            self.findings.add(None, "meta", "next pool id", text);
        }
        Ok(())
    }

    fn count_records(&self) -> Result<u64> {
        let names = self.snapshot.table_names()?;
        let is_records = |table: &AnyTable| matches!(table, AnyTable::Records(_));
        let records: Vec<AnyTable> =
            names.iter().filter_map(|name| AnyTable::named(name)).filter(is_records).collect();
        count_rows(&self.snapshot, &records)
    }

    /// Checks one pool. Returns the numbers of its segments and tables, including those whose rows are being
    /// removed.
    fn check_pool(&mut self, id: PoolId) -> Result<Numbers> {
        let state = self.engine.read_pool(id, &self.snapshot, self.now)?;
        let state = Arc::new(state.ok_or_else(|| Error::corrupt(format!("pool {id} is gone")))?);
        let hash_key = self.engine.hash_key.clone();
        let view = View::new(Arc::clone(&self.snapshot), Arc::clone(&state), hash_key);
        let (mut owners, items) = (self.read_owners(&view)?, view.items_by_claim());
        let (mut last_time, mut expected) = (None, Expected::of(&state));
        for index in 0..state.segments.len() {
            let claimed = (&mut owners, items.as_ref().ok());
            last_time = self.check_segment(&view, index, last_time, claimed, &mut expected)?;
        }
        self.check_tables(&view, &expected)?;
        self.check_claims(&view, &owners, &items?)?;
        Ok(Numbers { segments: state.segment_numbers().collect(), tables: state.table_numbers().collect() })
    }

    /// Counts checked records. Returns an error if the run must stop.
    fn tick(&mut self, records: u64) -> Result<()> {
        self.checked += records;
        self.progress.done = (self.progress.done + records).min(self.progress.total);
        self.watch.tell(self.progress, &self.reader)
    }
}
