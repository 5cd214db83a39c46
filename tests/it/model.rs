//! Proves that the store, whatever is done to it in whatever order, answers as a list of records would.
//!
//! Random operations run on a store of small sizes in a real file and on [`PoolModel`]s: plain lists, searched by
//! loops. Reopening, with other sizes for its work, is one of the operations; so are letting time pass and setting the
//! clock, back as well; records expire and leases run out by it. Snapshots are held across later operations and must keep
//! their answers; claims are held too, and handed over the reopening by tokens. Every answer is compared, and after
//! each operation everything the touched pool holds.
//!
//! A failing case is kept in `tests/proptest-regressions` and is run first from then on; `PROPTEST_CASES=10000`
//! makes a long run.

mod claims;
pub(crate) mod planner;
mod pool;

use std::path::PathBuf;
use std::time::Duration;

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    DataPoolStore, ErrorKind, ExportColumns, ExportOptions, ImportOptions, ManualClock, Mode, NewPool,
    OnDuplicate, Origin, Pool, PoolQuery, PoolUpdate, RecordFilter, RecordQuery, RecordSort, Timestamp,
};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use self::claims::{PAST_THE_HOUR, Settle, any_claims_op, any_settle};
use self::pool::{Held, PoolModel, items_of};
use crate::model::planner::{Filter, any_filter, any_item, any_origin, any_sizes, any_sort};
use crate::support;
use crate::support::items::{Item, Row, rows};

#[derive(Debug, Clone)]
enum Op {
    Create {
        name: u8,
    },
    Update {
        pool: Index,
        name: Option<u8>,
        description: Option<Option<u8>>,
    },
    SetPolicy {
        pool: Index,
        retention_ms: Option<Option<u64>>,
        capacity: Option<Option<u64>>,
    },
    Delete {
        pool: Index,
    },
    List,
    In(Index, PoolOp),
    /// Somebody sets the clock.
    Turn {
        micros: i64,
    },
    Pass {
        micros: u64,
    },
    Reopen {
        sizes: Sizes,
    },
    /// The store is opened again under the handles that there are.
    ReopenInPlace,
    Verify,
    Rebuild,
    Compact,
    /// A copy is made and opened.
    Backup,
}

/// What is done in one pool.
#[derive(Debug, Clone)]
enum PoolOp {
    Dedupe {
        mode: Mode,
        firsts: Firsts,
        items: Vec<Item>,
        origin: Origin,
    },
    Check {
        items: Vec<Item>,
    },
    DeleteRecords {
        picks: Vec<Pick>,
    },
    DeleteKeys {
        items: Vec<Item>,
    },
    DeleteWhere {
        filter: Filter,
    },
    Clear,
    List {
        filter: Filter,
        sort: RecordSort,
        page: u64,
        per_page: u32,
    },
    Walk {
        filter: Filter,
        sort: RecordSort,
        per_page: u32,
        between: Between,
    },
    Scan {
        filter: Filter,
        ends: Vec<RecordSort>,
    },
    /// A scan that is under way while records go and come.
    InterruptedScan {
        filter: Filter,
        taken: usize,
        sort: RecordSort,
        deleted: Vec<Pick>,
        tracked: Vec<Item>,
    },
    TakeSnapshot,
    DropSnapshot(Index, Filter),
    Import {
        items: Vec<Item>,
        policy: OnDuplicate,
        commit_every: Option<u64>,
    },
    Export {
        filter: Filter,
        columns: ExportColumns,
    },
    /// An export of this pool, imported into another.
    CopyTo {
        pool: Index,
        filter: Filter,
    },
    Claim {
        items: Vec<Item>,
        origin: Origin,
        lease_ms: u64,
    },
    Settle {
        claim: Index,
        how: Settle,
    },
    Prune,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firsts {
    Asked,
    NotAsked,
}

/// What happens between two pages of a walk by cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    /// The record that the cursor stands on is deleted.
    DeleteLast,
    /// A record joins behind everything.
    Track,
}

/// A record's id, or one that no record has.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Live(Index),
    Any(u64),
}

impl Pick {
    fn id(self, live: &[Row]) -> u64 {
        match self {
            Self::Live(index) if !live.is_empty() => live[index.index(live.len())].id,
            Self::Live(_) => 0,
            Self::Any(id) => id,
        }
    }
}

fn any_picks(count: usize) -> impl Strategy<Value = Vec<Pick>> {
    let any_id = prop_oneof![0..400_u64, Just(u64::MAX)];
    vec(prop_oneof![5 => any::<Index>().prop_map(Pick::Live), 1 => any_id.prop_map(Pick::Any)], 0..count)
}

fn any_batch() -> impl Strategy<Value = Vec<Item>> {
    prop_oneof![2 => vec(any_item(), 0..8), 2 => vec(any_item(), 8..40), 2 => vec(any_item(), 40..100)]
}

fn any_pool_op() -> impl Strategy<Value = PoolOp> {
    let modes =
        select(vec![Mode::Filter, Mode::Track, Mode::Track, Mode::FilterAndTrack, Mode::FilterAndTrack]);
    let firsts = select(vec![Firsts::Asked, Firsts::NotAsked]);
    let between = select(vec![Between::Nothing, Between::DeleteLast, Between::Track]);
    let policy = select(vec![OnDuplicate::Add, OnDuplicate::Skip, OnDuplicate::Fail]);
    let columns = select(vec![ExportColumns::Importable, ExportColumns::Full]);
    let page = prop_oneof![10 => 1..6_u64, 1 => Just(1_000_000)];
    let per_page = prop_oneof![1..8_u32, 8..=100_u32];
    prop_oneof![
        18 => (modes, firsts, any_batch(), any_origin())
            .prop_map(|(mode, firsts, items, origin)| PoolOp::Dedupe { mode, firsts, items, origin }),
        2 => vec(any_item(), 0..20).prop_map(|items| PoolOp::Check { items }),
        3 => any_picks(20).prop_map(|picks| PoolOp::DeleteRecords { picks }),
        2 => vec(any_item(), 0..20).prop_map(|items| PoolOp::DeleteKeys { items }),
        2 => any_filter().prop_map(|filter| PoolOp::DeleteWhere { filter }),
        1 => Just(PoolOp::Clear),
        4 => (any_filter(), any_sort(), page, per_page)
            .prop_map(|(filter, sort, page, per_page)| PoolOp::List { filter, sort, page, per_page }),
        2 => (any_filter(), any_sort(), 1..12_u32, between)
            .prop_map(|(filter, sort, per_page, between)| PoolOp::Walk { filter, sort, per_page, between }),
        2 => (any_filter(), vec(any_sort(), 1..9)).prop_map(|(filter, ends)| PoolOp::Scan { filter, ends }),
        1 => (any_filter(), 0..90_usize, any_sort(), any_picks(60), vec(any_item(), 0..20)).prop_map(
            |(filter, taken, sort, deleted, tracked)| {
                PoolOp::InterruptedScan { filter, taken, sort, deleted, tracked }
            },
        ),
        1 => Just(PoolOp::TakeSnapshot),
        1 => (any::<Index>(), any_filter()).prop_map(|(which, filter)| PoolOp::DropSnapshot(which, filter)),
        4 => (any_batch(), policy, weighted(0.3, 1..50_u64))
            .prop_map(|(items, policy, commit_every)| PoolOp::Import { items, policy, commit_every }),
        1 => (any_filter(), columns).prop_map(|(filter, columns)| PoolOp::Export { filter, columns }),
        1 => (any::<Index>(), any_filter()).prop_map(|(pool, filter)| PoolOp::CopyTo { pool, filter }),
        8 => (any_batch(), any_origin(), 1..3_000_u64)
            .prop_map(|(items, origin, lease_ms)| PoolOp::Claim { items, origin, lease_ms }),
        9 => (any::<Index>(), any_settle()).prop_map(|(claim, how)| PoolOp::Settle { claim, how }),
        1 => Just(PoolOp::Prune),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let turn = prop_oneof![
        8 => 0..3_i64,
        2 => -5_000_000..0_i64,
        2 => 0..5_000_000_i64,
        1 => -20_000_000_000..0_i64
    ];
    let description = weighted(0.5, weighted(0.5, 0..9_u8));
    prop_oneof![
        1 => (0..4_u8).prop_map(|name| Op::Create { name }),
        1 => (any::<Index>(), weighted(0.5, 0..4_u8), description)
            .prop_map(|(pool, name, description)| Op::Update { pool, name, description }),
        3 => (any::<Index>(), weighted(0.7, weighted(0.7, 1..3_000_u64)), weighted(0.7, weighted(0.7, 1..90_u64)))
            .prop_map(|(pool, retention_ms, capacity)| Op::SetPolicy { pool, retention_ms, capacity }),
        1 => any::<Index>().prop_map(|pool| Op::Delete { pool }),
        1 => Just(Op::List),
        80 => (any::<Index>(), any_pool_op()).prop_map(|(pool, op)| Op::In(pool, op)),
        4 => turn.prop_map(|micros| Op::Turn { micros }),
        8 => prop_oneof![4 => 0..3_u64, 4 => 0..1_000_000_u64, 2 => 0..5_000_000_u64, 1 => PAST_THE_HOUR]
            .prop_map(|micros| Op::Pass { micros }),
        4 => any_sizes().prop_map(|sizes| Op::Reopen { sizes }),
        2 => Just(Op::ReopenInPlace),
        4 => Just(Op::Verify),
        1 => Just(Op::Rebuild),
        1 => Just(Op::Compact),
        1 => Just(Op::Backup),
    ]
}

/// The two clocks, as the store must read them.
///
/// A pool's time is the latest of the clock, of what the pool has stored, and of what this process has answered by in that pool. So
/// that it is known exactly, every pool is read after each turn of the clock: see [`World::tick`].
struct Clocks {
    clock: ManualClock,
    /// How much time has passed, in microseconds.
    passed: i64,
}

fn pool_name(number: u8) -> String {
    format!("Pool {number}")
}

struct World {
    _directory: tempfile::TempDir,
    path: PathBuf,
    cache_size: usize,
    /// None only while it is being reopened.
    store: Option<DataPoolStore>,
    clocks: Clocks,
    pools: Vec<PoolModel>,
    deleted: Vec<Pool>,
    next_pool: u64,
}

impl World {
    fn new(sizes: Sizes, cache_size: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.redb");
        let clock = support::clock();
        let store = Self::open(&path, &clock, sizes, cache_size);
        let clocks = Clocks { clock, passed: 0 };
        let mut world = Self {
            _directory: directory,
            path,
            cache_size,
            store: Some(store),
            clocks,
            pools: vec![],
            deleted: vec![],
            next_pool: 1,
        };
        world.create(0);
        world.create(1);
        world
    }

    fn open(path: &std::path::Path, clock: &ManualClock, sizes: Sizes, cache_size: usize) -> DataPoolStore {
        testing::open(path, &support::options().clock(clock.clone()).cache_size(cache_size), sizes).unwrap()
    }

    fn store(&self) -> &DataPoolStore {
        self.store.as_ref().unwrap()
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Create { name } => self.create(*name),
            Op::Update { pool, name, description } => self.update(*pool, *name, *description),
            Op::SetPolicy { pool, retention_ms, capacity } => {
                self.set_policy(*pool, *retention_ms, *capacity);
            }
            Op::Delete { pool } => self.delete(*pool),
            Op::List => self.list(),
            Op::In(_, _) if self.pools.is_empty() => {}
            Op::In(pool, PoolOp::CopyTo { pool: to, filter }) => self.copy(*pool, *to, filter),
            Op::In(pool, op) => {
                let index = pool.index(self.pools.len());
                self.pools[index].run(op, &self.clocks);
                self.pools[index].check(&self.clocks);
            }
            Op::Turn { micros } => {
                let clock = &self.clocks.clock;
                clock.set(Timestamp::from_micros(clock.now().as_micros() + micros));
                self.tick();
            }
            Op::Pass { micros } => {
                self.clocks.clock.advance(Duration::from_micros(*micros));
                self.clocks.passed += i64::try_from(*micros).unwrap();
                self.tick();
            }
            Op::Reopen { sizes } => self.reopen(*sizes),
            Op::ReopenInPlace => self.reopen_in_place(),
            Op::Verify => self.verify(),
            Op::Rebuild => self.rebuild(),
            Op::Compact => self.compact(),
            Op::Backup => self.back_up(),
        }
        self.pools.iter().flat_map(|pool| &pool.snapshots).for_each(Held::check);
    }

    /// Has the store read the clock in each pool, and what is too old expire.
    fn tick(&mut self) {
        self.pools.iter_mut().for_each(|pool| pool.tick(&self.clocks));
    }

    fn create(&mut self, name: u8) {
        let name = pool_name(name);
        let made = self.store().create_pool(NewPool::new(name.clone()).description("made"));
        if self.pools.iter().any(|pool| pool.name == name) {
            assert_eq!(made.unwrap_err().kind(), ErrorKind::AlreadyExists);
            return;
        }
        let handle = made.unwrap();
        let row = handle.info().unwrap();
        assert_eq!(row.id, self.next_pool, "ids of pools are never reused");
        self.next_pool += 1;
        assert_eq!(row.created_at, self.clocks.clock.now());
        self.pools.push(PoolModel::new(handle, self.store().clone(), &row));
    }

    fn update(&mut self, pool: Index, name: Option<u8>, description: Option<Option<u8>>) {
        if self.pools.is_empty() {
            return;
        }
        let index = pool.index(self.pools.len());
        let mut update = PoolUpdate::new();
        if let Some(name) = name {
            update = update.name(pool_name(name));
        }
        match description {
            None => {}
            Some(None) => update = update.clear_description(),
            Some(Some(text)) => update = update.description(text.to_string()),
        }
        let updated = self.store().update_pool(self.pools[index].id, update);
        let others = self.pools.iter().enumerate().filter(|(other, _)| *other != index);
        let is_taken = |name| others.clone().any(|(_, other)| other.name == pool_name(name));
        if name.is_some_and(is_taken) {
            assert_eq!(updated.unwrap_err().kind(), ErrorKind::AlreadyExists);
            return;
        }
        let row = updated.unwrap();
        let pool = &mut self.pools[index];
        if let Some(name) = name {
            pool.name = pool_name(name);
        }
        if let Some(description) = description {
            pool.description = description.map(|text| text.to_string());
        }
        pool.updated_at = self.clocks.clock.now().max(pool.updated_at);
        assert_eq!(row.updated_at, pool.updated_at);
        pool.check_row();
    }

    fn set_policy(&mut self, pool: Index, retention_ms: Option<Option<u64>>, capacity: Option<Option<u64>>) {
        if self.pools.is_empty() {
            return;
        }
        let index = pool.index(self.pools.len());
        let mut update = PoolUpdate::new();
        let retention = retention_ms.map(|ms| ms.map(Duration::from_millis));
        update = match retention {
            None => update,
            Some(None) => update.clear_retention(),
            Some(Some(retention)) => update.retention(retention),
        };
        update = match capacity {
            None => update,
            Some(None) => update.clear_capacity(),
            Some(Some(capacity)) => update.capacity(capacity),
        };
        let row = self.store().update_pool(self.pools[index].id, update).unwrap();
        let pool = &mut self.pools[index];
        pool.retention = retention.unwrap_or(pool.retention);
        pool.capacity = capacity.unwrap_or(pool.capacity);
        pool.updated_at = row.updated_at;
        pool.expire(&self.clocks);
        pool.evict();
        pool.check_row();
        pool.check(&self.clocks);
    }

    fn delete(&mut self, pool: Index) {
        if self.pools.is_empty() {
            return;
        }
        let gone = self.pools.remove(pool.index(self.pools.len()));
        self.store().delete_pool(gone.id).unwrap();
        gone.snapshots.iter().for_each(Held::check);
        let again = self.store().delete_pool(gone.id).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::NotFound);
        self.deleted.push(gone.handle().clone());
    }

    fn list(&self) {
        let page = self.store().pools(&PoolQuery::new().per_page(100)).unwrap();
        let names: Vec<&str> = page.data.iter().map(|pool| pool.name.as_str()).collect();
        let mut expected: Vec<(u64, &str)> =
            self.pools.iter().map(|pool| (pool.id, pool.name.as_str())).collect();
        expected.sort_unstable();
        assert_eq!(names, expected.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
        self.pools.iter().for_each(PoolModel::check_row);
        for pool in &self.deleted {
            assert_eq!(pool.info().unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(pool.count(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(pool.clear().unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(self.store().pool(pool.id()).unwrap_err().kind(), ErrorKind::NotFound);
        }
    }

    fn copy(&mut self, from: Index, to: Index, filter: &Filter) {
        let (from, to) = (from.index(self.pools.len()), to.index(self.pools.len()));
        let source = &self.pools[from];
        let mut file = Vec::new();
        let options = ExportOptions::new().filter(filter.build(&source.times));
        source.handle().export_csv(&mut file, &options).unwrap();
        let items = items_of(&filter.select(&source.live, &source.times));
        let target = &mut self.pools[to];
        let report = target.handle().import_csv(file.as_slice(), &ImportOptions::new()).unwrap();
        assert_eq!((report.rows, report.added), (items.len() as u64, items.len() as u64));
        target.add(items, &Origin::none(), &self.clocks);
        target.evict();
        target.check(&self.clocks);
    }

    fn reopen(&mut self, sizes: Sizes) {
        // Every handle keeps the file open.
        self.deleted.clear();
        self.pools.iter_mut().for_each(PoolModel::close);
        self.store = None;
        let store = Self::open(&self.path, &self.clocks.clock, sizes, self.cache_size);
        self.pools.iter_mut().for_each(|pool| {
            // A new process has answered by no time yet.
            pool.latest = None;
            pool.reopen(&store, &self.clocks);
        });
        self.tick();
        self.store = Some(store);
        self.pools.iter().for_each(|pool| pool.check(&self.clocks));
    }

    fn reopen_in_place(&mut self) {
        self.deleted.clear();
        for pool in &mut self.pools {
            let snapshots = std::mem::take(&mut pool.snapshots);
            pool.close();
            pool.snapshots = snapshots;
        }
        let store = self.store().clone();
        store.reopen().unwrap();
        self.pools.iter_mut().flat_map(|pool| pool.snapshots.drain(..)).for_each(|held| held.check_ended());
        self.pools.iter_mut().for_each(|pool| pool.reopen(&store, &self.clocks));
        self.tick();
        self.pools.iter().for_each(|pool| pool.check(&self.clocks));
    }

    fn has_snapshots(&self) -> bool {
        self.pools.iter().any(|pool| !pool.snapshots.is_empty())
    }

    fn verify(&self) {
        let verified = self.store().verify();
        if self.has_snapshots() {
            assert_eq!(verified.unwrap_err().kind(), ErrorKind::Busy);
            return;
        }
        let report = verified.unwrap();
        assert_eq!((report.findings.as_slice(), report.ok), (&[][..], true));
        assert_eq!(report.pools, self.pools.len() as u64);
        assert!(report.records >= self.pools.iter().map(|pool| pool.live.len() as u64).sum());
    }

    fn rebuild(&self) {
        let report = self.store().rebuild_indexes().unwrap();
        assert_eq!(report.left, []);
        assert_eq!(report.pools, self.pools.len() as u64);
        self.pools.iter().for_each(|pool| pool.check(&self.clocks));
        self.verify();
    }

    fn compact(&self) {
        let compacted = self.store().compact();
        if self.has_snapshots() {
            assert_eq!(compacted.unwrap_err().kind(), ErrorKind::Busy);
            return;
        }
        let report = compacted.unwrap();
        assert!(report.bytes_after <= report.bytes_before);
        assert_eq!(std::fs::metadata(&self.path).unwrap().len(), report.bytes_after);
        self.pools.iter().for_each(|pool| pool.check(&self.clocks));
    }

    fn back_up(&self) {
        let path = self.path.with_extension("copy");
        self.store().backup_to(&path).unwrap();
        {
            let copy = Self::open(&path, &self.clocks.clock, Sizes::SMALL, self.cache_size);
            for pool in &self.pools {
                pool.check_copy(&copy, &self.clocks);
            }
            let report = copy.verify().unwrap();
            assert_eq!(report.findings, []);
        }
        std::fs::remove_file(path).unwrap();
    }

    fn finish(&mut self) {
        self.list();
        for pool in &self.pools {
            pool.check(&self.clocks);
            pool.check_row();
            let listed = pool.handle().records(&RecordQuery::new().per_page(100)).unwrap();
            assert_eq!(rows(&listed.data), pool.live[..pool.live.len().min(100)]);
            let everything = Filter::default();
            pool.snapshots.iter().for_each(|held| held.check_thoroughly(&everything, &pool.times));
        }
        self.reopen(Sizes::SMALL);
        self.list();
        self.verify();
    }
}

/// As [`support::runs`], for the cases of a property; `PROPTEST_CASES` sets them, too.
pub(crate) fn cases(quick: u32, thorough: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return config;
    }
    let cases = support::runs(quick.into(), thorough.into());
    ProptestConfig { cases: u32::try_from(cases).unwrap(), ..config }
}

proptest! {
    #![proptest_config(cases(24, 96))]

    #[test]
    fn the_store_answers_as_a_list_of_records_would(
        sizes in any_sizes(),
        cache_size in select(support::CACHE_SIZES.to_vec()),
        ops in vec(any_op(), 1..80),
    ) {
        let mut world = World::new(sizes, cache_size);
        for op in &ops {
            world.run(op);
        }
        world.finish();
    }

    #[test]
    fn claims_past_their_hour_take_no_value_back_when_the_clock_is_set_back(
        sizes in any_sizes(),
        ops in vec(any_claims_op(), 1..60),
    ) {
        let mut world = World::new(sizes, support::CACHE_SIZES[3]);
        for op in &ops {
            world.run(op);
        }
        world.finish();
    }
}
