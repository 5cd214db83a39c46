//! The store under test: applies operations to it, and puts its answers in the form of the model's.

mod ask;
mod claims;
mod csv;
mod pools;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    Claim, ClaimToken, DataPoolStore, Durability, ErrorKind, ManualClock, Pool, PoolSnapshot, Recovery,
    StoreOptions, Timestamp,
};

use crate::answer::{Answer, Refusal};
use crate::operation::Operation;

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A file in a directory.
    Directory(PathBuf),
    Postgres {
        url: String,
        schema: String,
    },
}

/// The options of a run, which its seed chooses.
#[derive(Debug, Clone)]
pub struct Setup {
    pub place: Place,
    pub small: bool,
    pub relaxed: bool,
    pub instant: bool,
    pub cache: usize,
    pub start: i64,
    /// Where files lie that are imported and exported.
    pub files: PathBuf,
}

pub struct Subject {
    setup: Setup,
    pub clock: ManualClock,
    pub store: DataPoolStore,
    /// The number of the file, which grows when the run moves to a backup.
    file: u64,
    guards: BTreeMap<u64, Claim>,
    tokens: BTreeMap<u64, ClaimToken>,
    snapshots: BTreeMap<u64, PoolSnapshot>,
    /// The highest fencing number of each pool.
    fences: BTreeMap<u64, u64>,
}

impl From<datapool_store::Error> for Refusal {
    fn from(error: datapool_store::Error) -> Self {
        Self { kind: error.kind(), item: error.item() }
    }
}

type Result<T> = std::result::Result<T, datapool_store::Error>;

fn unit(result: Result<()>) -> Answer {
    result.map(|()| Vec::new()).map_err(Refusal::from)
}

impl Setup {
    fn options(&self, clock: &ManualClock) -> StoreOptions {
        let options = StoreOptions::new().clock(clock.clone()).cache_size(self.cache);
        let flush_every = std::time::Duration::from_millis(5);
        let durability =
            if self.relaxed { Durability::Relaxed { flush_every } } else { Durability::Immediate };
        let recovery = if self.instant { Recovery::Instant } else { Recovery::Rebuild };
        options.durability(durability).recovery(recovery)
    }

    fn file(&self, number: u64) -> PathBuf {
        match &self.place {
            Place::Directory(directory) => directory.join(format!("pools-{number}.redb")),
            Place::Postgres { .. } => PathBuf::new(),
        }
    }

    fn open(&self, clock: &ManualClock, file: u64) -> Result<DataPoolStore> {
        let options = self.options(clock);
        match &self.place {
            Place::Directory(_) if self.small => testing::open(&self.file(file), &options, Sizes::SMALL),
            Place::Directory(_) => options.open(self.file(file)),
            Place::Postgres { url, schema } => options.schema(schema).connect(url),
        }
    }
}

impl Subject {
    pub fn open(setup: Setup) -> Result<Self> {
        let clock = ManualClock::starting_at(Timestamp::from_micros(setup.start));
        let store = setup.open(&clock, 0)?;
        Ok(Self {
            setup,
            clock,
            store,
            file: 0,
            guards: BTreeMap::new(),
            tokens: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            fences: BTreeMap::new(),
        })
    }

    /// Opens the file that a killed process left.
    pub fn open_left(setup: Setup, now: i64) -> Result<Self> {
        let newest = (0..1_000).rev().find(|number| setup.file(*number).exists()).unwrap_or(0);
        let clock = ManualClock::starting_at(Timestamp::from_micros(now));
        let store = setup.open(&clock, newest)?;
        let (guards, tokens, snapshots) = Default::default();
        Ok(Self { setup, clock, store, file: newest, guards, tokens, snapshots, fences: BTreeMap::new() })
    }

    pub fn is_embedded(&self) -> bool {
        matches!(self.setup.place, Place::Directory(_))
    }

    fn pool(&self, id: u64) -> Result<Pool> {
        self.store.pool(id)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.setup.files.join(format!("{name}-{}", std::process::id()))
    }

    pub fn apply(&mut self, operation: &Operation) -> Answer {
        use Operation::*;
        match operation {
            CreatePool { .. }
            | UpdatePool { .. }
            | DeletePool { .. }
            | ShowPool { .. }
            | PoolNamed { .. }
            | FindPool { .. }
            | ListPools(_)
            | Register { .. } => self.apply_to_catalog(operation),
            Claim { .. }
            | Confirm { .. }
            | Release { .. }
            | DropGuard { .. }
            | IntoToken { .. }
            | Resume { .. }
            | ResumeOwner { .. }
            | Extend { .. }
            | KeepAlive { .. }
            | ReleaseClaims { .. }
            | ListClaims { .. }
            | Wait { .. } => self.apply_to_claims(operation),
            Dedupe { pool, mode, items, from, firsts } => self.dedupe(*pool, *mode, items, from, *firsts),
            Ask { pool, question } => self.ask(*pool, question),
            AskSnapshot { snapshot, question } => self.ask_snapshot(*snapshot, question),
            TakeSnapshot { pool, snapshot } => {
                let taken = self.pool(*pool)?.snapshot()?;
                self.snapshots.insert(*snapshot, taken);
                Ok(Vec::new())
            }
            DropSnapshot { snapshot } => {
                self.snapshots.remove(snapshot);
                Ok(Vec::new())
            }
            DeleteIds { .. }
            | DeleteKeys { .. }
            | DeleteWhere { .. }
            | DeleteEverywhere { .. }
            | Clear { .. } => {
                let deleted = self.delete(operation)?;
                Ok(vec![deleted.to_string()])
            }
            Prune { pool: Some(pool) } => unit(self.pool(*pool)?.prune().map(drop)),
            Prune { pool: None } => unit(self.store.prune().map(drop)),
            Import { pool, import } => self.import(*pool, import),
            Export { pool, filter, full, safe, by_path } => {
                self.export(*pool, filter, (*full, *safe, *by_path))
            }
            Stats { pool } => self.stats(*pool),
            LearnTime { pool } => {
                let ahead = text::micros(self.pool(*pool)?.stats()?.time_ahead);
                Ok(vec![ahead.to_string()])
            }
            Counts { pool } => self.counts(*pool),
            Advance(by) => {
                self.clock.advance(text::duration(*by));
                Ok(Vec::new())
            }
            SetClock(to) => {
                self.clock.set(Timestamp::from_micros(*to));
                Ok(Vec::new())
            }
            Flush => unit(self.store.flush()),
            Reopen => {
                self.snapshots.clear();
                unit(self.store.reopen())
            }
            CloseAndOpen => self.close_and_open(),
            MoveToBackup => self.move_to_backup(),
            Verify => self.verify(),
            Rebuild => self.rebuild(),
            Compact => unit(self.store.compact().map(drop)),
            Vacuum => unit(self.store.vacuum().map(drop)),
        }
    }

    fn verify(&self) -> Answer {
        let report = self.store.verify()?;
        if report.ok { Ok(Vec::new()) } else { Ok(vec![format!("{report:?}")]) }
    }

    fn rebuild(&self) -> Answer {
        let report = self.store.rebuild_indexes()?;
        if report.left.is_empty() { Ok(Vec::new()) } else { Ok(vec![format!("{report:?}")]) }
    }

    /// Closes the store as a program that ends, and opens it again as the next one.
    fn close_and_open(&mut self) -> Answer {
        self.snapshots.clear();
        self.store.close()?;
        // Dropping a guard of a closed store releases nothing.
        self.guards.clear();
        self.store = self.setup.open(&self.clock, self.file)?;
        Ok(Vec::new())
    }

    /// Makes a backup, and goes on with it in place of the store.
    fn move_to_backup(&mut self) -> Answer {
        let (old, new) = (self.setup.file(self.file), self.setup.file(self.file + 1));
        self.store.backup_to(&new)?;
        self.snapshots.clear();
        self.store.close()?;
        self.guards.clear();
        self.file += 1;
        self.store = self.setup.open(&self.clock, self.file)?;
        remove(&old);
        Ok(Vec::new())
    }

    /// Remembers a grant's fencing number. It must be higher than all before it.
    fn grant(&mut self, pool: u64, fence: Option<u64>) -> Option<String> {
        let fence = fence?;
        let highest = self.fences.entry(pool).or_default();
        if fence <= *highest {
            return Some(format!("the fencing number {fence} follows {highest}"));
        }
        *highest = fence;
        None
    }
}

fn remove(path: &Path) {
    std::fs::remove_file(path).ok();
}

/// The kind of a failure because the disk is full.
pub fn is_full(answer: &Answer) -> bool {
    matches!(answer, Err(refusal) if refusal.kind == ErrorKind::StorageFull)
}
