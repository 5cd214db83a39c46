//! Proves that the store, whatever is done to it in whatever order, answers as a list of records would.
//!
//! Random operations run on a store of small sizes in a real file and on [`PoolModel`]s: plain lists, searched by
//! loops. Reopening, with other sizes for its work, is one of the operations; so is turning the clock, back as well.
//! Snapshots are held across later operations and must keep their answers. Every answer is compared, and after
//! each operation everything the touched pool holds.
//!
//! A failing case is kept in `tests/proptest-regressions` and is run first from then on; `PROPTEST_CASES=10000`
//! makes a long run.

use std::path::PathBuf;

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    DataPoolStore, ErrorKind, ExportColumns, ExportOptions, ImportOptions, Key, ManualClock, Mode, NewPool,
    OnDuplicate, Origin, Pool, PoolQuery, PoolSnapshot, PoolUpdate, Record, RecordFilter, RecordQuery,
    RecordSort, Timestamp, Verdict,
};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::planner::{
    Filter, Item, Row, all_items, any_filter, any_item, any_origin, any_sizes, any_sort, cases, csv_of, rows,
};
use crate::support;

#[derive(Debug, Clone)]
enum Op {
    Create { name: u8 },
    Update { pool: Index, name: Option<u8>, description: Option<Option<u8>> },
    Delete { pool: Index },
    List,
    In(Index, PoolOp),
    Turn { micros: i64 },
    Reopen { sizes: Sizes },
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
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let turn = prop_oneof![4 => 0..3_i64, 1 => -5_000_000..0_i64, 1 => 0..5_000_000_i64];
    let description = weighted(0.5, weighted(0.5, 0..9_u8));
    prop_oneof![
        1 => (0..4_u8).prop_map(|name| Op::Create { name }),
        1 => (any::<Index>(), weighted(0.5, 0..4_u8), description)
            .prop_map(|(pool, name, description)| Op::Update { pool, name, description }),
        1 => any::<Index>().prop_map(|pool| Op::Delete { pool }),
        1 => Just(Op::List),
        80 => (any::<Index>(), any_pool_op()).prop_map(|(pool, op)| Op::In(pool, op)),
        8 => turn.prop_map(|micros| Op::Turn { micros }),
        4 => any_sizes().prop_map(|sizes| Op::Reopen { sizes }),
    ]
}

/// What pool time may be. It is the latest of the clock, what the pool has stored, and what this process answered
/// by; which calls of the past read the clock is the store's own affair.
struct PoolTime {
    clock: ManualClock,
    /// The latest time that this process certainly answered by.
    answered: Timestamp,
    /// The latest time that the clock showed to this process.
    shown: Timestamp,
}

impl PoolTime {
    fn starting_with(clock: ManualClock) -> Self {
        let answered = Timestamp::from_micros(i64::MIN);
        Self { answered, shown: clock.now(), clock }
    }

    fn turn(&mut self, micros: i64) {
        self.clock.set(Timestamp::from_micros(self.clock.now().as_micros() + micros));
        self.shown = self.shown.max(self.clock.now());
    }

    /// A write just stored `time` in a pool whose latest time was `stored`.
    fn check(&mut self, time: Timestamp, stored: Timestamp) {
        let earliest = self.clock.now().max(self.answered).max(stored);
        assert!(time >= earliest, "{time} ran backwards behind {earliest}");
        assert!(time <= self.shown.max(stored), "{time} was never shown by the clock nor stored");
        self.answered = self.answered.max(self.clock.now());
        if time > stored {
            self.answered = time;
        }
    }
}

/// A pool as a list.
struct PoolModel {
    id: u64,
    /// None only while the store is being reopened.
    open: Option<Pool>,
    name: String,
    description: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// The live records, oldest first.
    live: Vec<Row>,
    next_id: u64,
    last_time: Timestamp,
    /// The times of records past and present, for filters to hit.
    times: Vec<Timestamp>,
    snapshots: Vec<Held>,
}

/// A snapshot, and what it must answer as long as it is held.
struct Held {
    snapshot: PoolSnapshot,
    live: Vec<Row>,
}

impl Held {
    fn check(&self) {
        assert_eq!(
            read(self.snapshot.scan(&RecordFilter::new()).unwrap()),
            self.live,
            "a held snapshot changed"
        );
    }

    fn check_thoroughly(&self, filter: &Filter, times: &[Timestamp]) {
        self.check();
        let selected = filter.select(&self.live, times);
        let filter = filter.build(times);
        assert_eq!(self.snapshot.count(&filter).unwrap(), selected.len() as u64);
        let mut newest_first = read(self.snapshot.scan(&filter).unwrap().rev());
        newest_first.reverse();
        assert_eq!(newest_first, selected);
        let page = self.snapshot.records(&RecordQuery::new().filter(filter).per_page(100)).unwrap();
        assert_eq!(page.meta.total, selected.len() as u64);
        assert_eq!(rows(&page.data), selected[..selected.len().min(100)]);
        let items: Vec<Item> = all_items().collect();
        let keys: Vec<Key<'_>> = items.iter().map(Item::key).collect();
        let found = self.snapshot.lookup(&keys).unwrap();
        for ((item, record), is_there) in
            items.iter().zip(found).zip(self.snapshot.contains_many(&keys).unwrap())
        {
            assert_eq!(record.as_ref().map(Row::from).as_ref(), first_of(&self.live, item));
            assert_eq!(is_there, record.is_some());
        }
    }
}

fn read(scan: impl Iterator<Item = datapool_store::Result<Record>>) -> Vec<Row> {
    scan.map(|record| Row::from(&record.unwrap())).collect()
}

fn first_of<'a>(live: &'a [Row], item: &Item) -> Option<&'a Row> {
    live.iter().find(|row| row.item == *item)
}

fn pool_name(number: u8) -> String {
    format!("Pool {number}")
}

struct World {
    _directory: tempfile::TempDir,
    path: PathBuf,
    /// None only while it is being reopened.
    store: Option<DataPoolStore>,
    time: PoolTime,
    pools: Vec<PoolModel>,
    deleted: Vec<Pool>,
    next_pool: u64,
}

impl World {
    fn new(sizes: Sizes) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.redb");
        let time = PoolTime::starting_with(support::clock());
        let store = Some(Self::open(&path, &time.clock, sizes));
        let mut world =
            Self { _directory: directory, path, store, time, pools: vec![], deleted: vec![], next_pool: 1 };
        world.create(0);
        world.create(1);
        world
    }

    fn open(path: &std::path::Path, clock: &ManualClock, sizes: Sizes) -> DataPoolStore {
        testing::open(path, &support::options().clock(clock.clone()), sizes).unwrap()
    }

    fn store(&self) -> &DataPoolStore {
        self.store.as_ref().unwrap()
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Create { name } => self.create(*name),
            Op::Update { pool, name, description } => self.update(*pool, *name, *description),
            Op::Delete { pool } => self.delete(*pool),
            Op::List => self.list(),
            Op::In(_, _) if self.pools.is_empty() => {}
            Op::In(pool, PoolOp::CopyTo { pool: to, filter }) => self.copy(*pool, *to, filter),
            Op::In(pool, op) => {
                let index = pool.index(self.pools.len());
                self.pools[index].run(op, &mut self.time);
                self.pools[index].check();
            }
            Op::Turn { micros } => self.time.turn(*micros),
            Op::Reopen { sizes } => self.reopen(*sizes),
        }
        self.pools.iter().flat_map(|pool| &pool.snapshots).for_each(Held::check);
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
        self.time.check(row.created_at, Timestamp::from_micros(i64::MIN));
        self.pools.push(PoolModel {
            id: row.id,
            open: Some(handle),
            name,
            description: Some("made".into()),
            created_at: row.created_at,
            updated_at: row.created_at,
            live: vec![],
            next_id: 1,
            last_time: row.created_at,
            times: vec![],
            snapshots: vec![],
        });
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
        self.time.check(row.updated_at, pool.updated_at);
        pool.updated_at = row.updated_at;
        pool.check_row();
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
        target.add(items, &Origin::none(), &mut self.time);
        target.check();
    }

    fn reopen(&mut self, sizes: Sizes) {
        // Every handle keeps the file open.
        self.deleted.clear();
        for pool in &mut self.pools {
            pool.snapshots.clear();
            pool.open = None;
        }
        self.store = None;
        self.time = PoolTime::starting_with(self.time.clock.clone());
        let store = Self::open(&self.path, &self.time.clock, sizes);
        for pool in &mut self.pools {
            pool.open = Some(store.pool_named(&pool.name).unwrap());
        }
        self.store = Some(store);
        self.pools.iter().for_each(PoolModel::check);
    }

    fn finish(&mut self) {
        self.list();
        for pool in &self.pools {
            pool.check();
            pool.check_row();
            let listed = pool.handle().records(&RecordQuery::new().per_page(100)).unwrap();
            assert_eq!(rows(&listed.data), pool.live[..pool.live.len().min(100)]);
            let everything = Filter::default();
            pool.snapshots.iter().for_each(|held| held.check_thoroughly(&everything, &pool.times));
        }
        self.reopen(Sizes::SMALL);
        self.list();
    }
}

/// The items of rows, in their order.
fn items_of(rows: &[Row]) -> Vec<Item> {
    rows.iter().map(|row| row.item.clone()).collect()
}

fn keys_of(items: &[Item]) -> Vec<Key<'_>> {
    items.iter().map(Item::key).collect()
}

impl PoolModel {
    fn handle(&self) -> &Pool {
        self.open.as_ref().unwrap()
    }

    /// Holds everything the pool has against the list.
    fn check(&self) {
        let pool = self.handle();
        assert_eq!(read(pool.scan(&RecordFilter::new()).unwrap()), self.live);
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), self.live.len() as u64);
        let items: Vec<Item> = all_items().collect();
        self.check_items(&items);
    }

    fn check_items(&self, items: &[Item]) {
        let there = self.handle().contains_many(&keys_of(items)).unwrap();
        let firsts = self.handle().lookup(&keys_of(items)).unwrap();
        assert_eq!((there.len(), firsts.len()), (items.len(), items.len()));
        for ((item, is_there), first) in items.iter().zip(there).zip(firsts) {
            let expected = first_of(&self.live, item);
            assert_eq!(is_there, expected.is_some(), "contains_many of {item:?}");
            assert_eq!(first.as_ref().map(Row::from).as_ref(), expected, "lookup of {item:?}");
        }
    }

    fn check_row(&self) {
        let row = self.handle().info().unwrap();
        assert_eq!((row.id, &row.name, &row.description), (self.id, &self.name, &self.description));
        assert_eq!((row.created_at, row.updated_at), (self.created_at, self.updated_at));
    }

    fn run(&mut self, op: &PoolOp, time: &mut PoolTime) {
        match op {
            PoolOp::Dedupe { mode, firsts, items, origin } => {
                self.dedupe(*mode, *firsts, items, origin, time);
            }
            PoolOp::Check { items } => {
                self.check_items(items);
                for item in items {
                    let expected = first_of(&self.live, item).is_some();
                    assert_eq!(self.handle().contains(item.key()).unwrap(), expected);
                }
            }
            PoolOp::DeleteRecords { picks } => {
                let ids = self.ids_of(picks);
                let deleted = self.handle().delete_records(&ids).unwrap();
                assert_eq!(deleted, self.forget(|row| ids.contains(&row.id)));
            }
            PoolOp::DeleteKeys { items } => {
                let deleted = self.handle().delete_keys(&keys_of(items)).unwrap();
                assert_eq!(deleted, self.forget(|row| items.contains(&row.item)));
            }
            PoolOp::DeleteWhere { filter } => {
                let chosen = filter.select(&self.live, &self.times);
                let deleted = self.handle().delete_where(&filter.build(&self.times)).unwrap();
                assert_eq!(deleted, self.forget(|row| chosen.contains(row)));
            }
            PoolOp::Clear => {
                let deleted = self.handle().clear().unwrap();
                assert_eq!(deleted, self.forget(|_| true));
            }
            PoolOp::List { filter, sort, page, per_page } => self.list(filter, *sort, *page, *per_page),
            PoolOp::Walk { filter, sort, per_page, between } => {
                self.walk(filter, *sort, *per_page, *between, time);
            }
            PoolOp::Scan { filter, ends } => self.scan(filter, ends),
            PoolOp::InterruptedScan { filter, taken, sort, deleted, tracked } => {
                self.interrupted_scan(filter, *taken, *sort, deleted, tracked, time);
            }
            PoolOp::TakeSnapshot => {
                let held = Held { snapshot: self.handle().snapshot().unwrap(), live: self.live.clone() };
                self.snapshots.push(held);
            }
            PoolOp::DropSnapshot(_, _) if self.snapshots.is_empty() => {}
            PoolOp::DropSnapshot(which, filter) => {
                let held = self.snapshots.remove(which.index(self.snapshots.len()));
                held.check_thoroughly(filter, &self.times);
            }
            PoolOp::Import { items, policy, commit_every } => {
                self.import(items, *policy, *commit_every, time);
            }
            PoolOp::Export { filter, columns } => self.export(filter, *columns),
            PoolOp::CopyTo { .. } => unreachable!("needs two pools"),
        }
    }

    fn ids_of(&self, picks: &[Pick]) -> Vec<u64> {
        picks.iter().map(|pick| pick.id(&self.live)).collect()
    }

    /// Removes rows from the list. How many.
    fn forget(&mut self, is_gone: impl Fn(&Row) -> bool) -> u64 {
        let before = self.live.len();
        self.live.retain(|row| !is_gone(row));
        (before - self.live.len()) as u64
    }

    /// Adds the records that one commit (or several at one time) just wrote; their time is read from the store.
    fn add(&mut self, items: Vec<Item>, origin: &Origin, time: &mut PoolTime) {
        if items.is_empty() {
            return;
        }
        let newest =
            self.handle().records(&RecordQuery::new().sort(RecordSort::Descending).per_page(1)).unwrap();
        let created_at = newest.data[0].created_at;
        time.check(created_at, self.last_time);
        self.last_time = created_at;
        self.times.push(created_at);
        for item in items {
            self.live.push(Row { id: self.next_id, item, origin: origin.clone(), created_at });
            self.next_id += 1;
        }
    }

    fn dedupe(&mut self, mode: Mode, firsts: Firsts, items: &[Item], origin: &Origin, time: &mut PoolTime) {
        let verdicts = match firsts {
            Firsts::Asked => self.handle().dedupe_with_first(mode, items, Item::key, origin),
            Firsts::NotAsked => self.handle().dedupe(mode, items, Item::key, origin),
        };
        let verdicts = verdicts.unwrap();
        assert_eq!(verdicts.len(), items.len());
        let before = self.live.clone();
        let is_new = |(index, item): (usize, &Item)| {
            first_of(&before, item).is_none() && !items[..index].contains(item)
        };
        let fresh: Vec<Item> = items
            .iter()
            .enumerate()
            .filter(|(i, item)| is_new((*i, item)))
            .map(|(_, item)| item.clone())
            .collect();
        if mode != Mode::Filter {
            self.add(fresh.clone(), origin, time);
        }
        for (index, item) in items.iter().enumerate() {
            let new = is_new((index, item));
            let expected = if new { Verdict::New } else { Verdict::Duplicate };
            assert_eq!(verdicts.as_slice()[index], expected, "verdict {index} of {mode:?}");
            assert_eq!(verdicts.passes(index), new || mode == Mode::Track);
            let first = (firsts == Firsts::Asked && !new).then(|| first_of(&self.live, item)).flatten();
            assert_eq!(
                verdicts.first(index).map(Row::from).as_ref(),
                first,
                "first of item {index} in {mode:?}"
            );
        }
        let split = verdicts.partition(items.to_vec());
        assert_eq!(split.fresh, fresh);
        assert_eq!(split.duplicates.len(), items.len() - fresh.len());
        assert!(split.in_flight.is_empty() && split.unmatched.is_empty());
    }

    /// What a listing shows, in its order.
    fn listed(&self, filter: &Filter, sort: RecordSort) -> Vec<Row> {
        let mut selected = filter.select(&self.live, &self.times);
        if sort == RecordSort::Descending {
            selected.reverse();
        }
        selected
    }

    fn list(&self, filter: &Filter, sort: RecordSort, page: u64, per_page: u32) {
        let expected = self.listed(filter, sort);
        let filter = filter.build(&self.times);
        assert_eq!(self.handle().count(&filter).unwrap(), expected.len() as u64);
        let query = RecordQuery::new().filter(filter).sort(sort).page(page).per_page(per_page);
        let answer = self.handle().records(&query).unwrap();
        let size = per_page as usize;
        let start = usize::try_from(page - 1).unwrap().saturating_mul(size).min(expected.len());
        let end = start.saturating_add(size).min(expected.len());
        assert_eq!(rows(&answer.data), expected[start..end]);
        assert_eq!(answer.meta.total, expected.len() as u64);
        assert_eq!(answer.meta.per_page, per_page);
        assert_eq!(answer.meta.current_page, page);
        assert_eq!(answer.meta.last_page, (expected.len() as u64).div_ceil(u64::from(per_page)).max(1));
        let shown = start < end;
        assert_eq!(answer.meta.from, shown.then_some(start as u64 + 1));
        assert_eq!(answer.meta.to, shown.then_some(end as u64));
        assert_eq!(answer.next_cursor.is_some(), shown && end < expected.len());
    }

    /// Goes through a whole listing by cursor. Each page begins behind the last one's last record, whatever has
    /// become of it.
    fn walk(
        &mut self,
        filter: &Filter,
        sort: RecordSort,
        per_page: u32,
        between: Between,
        time: &mut PoolTime,
    ) {
        // Boundaries stay as they were, so that tracking between pages does not move them.
        let times = self.times.clone();
        let query = RecordQuery::new().filter(filter.build(&times)).sort(sort).per_page(per_page);
        let mut next = query.clone();
        let mut last: Option<u64> = None;
        loop {
            let mut listed = filter.select(&self.live, &times);
            if sort == RecordSort::Descending {
                listed.reverse();
            }
            let is_before = |row: &&Row| match (last, sort) {
                (None, _) => false,
                (Some(last), RecordSort::Ascending) => row.id <= last,
                (Some(last), RecordSort::Descending) => row.id >= last,
            };
            let skipped = listed.iter().filter(is_before).count();
            let end = (skipped + per_page as usize).min(listed.len());
            let page = self.handle().records(&next).unwrap();
            assert_eq!(rows(&page.data), listed[skipped..end]);
            assert_eq!(page.meta.total, listed.len() as u64);
            assert_eq!(page.meta.from, (skipped < end).then_some(skipped as u64 + 1));
            let Some(cursor) = page.next_cursor else {
                assert_eq!(end, listed.len());
                return;
            };
            last = page.data.last().map(|record| record.id);
            next = query.clone().cursor(cursor);
            match between {
                Between::Nothing => {}
                Between::DeleteLast => {
                    let id = last.unwrap();
                    assert_eq!(self.handle().delete_records(&[id]).unwrap(), 1);
                    assert_eq!(self.forget(|row| row.id == id), 1);
                }
                Between::Track => self.track_next_unseen(time),
            }
        }
    }

    fn track_next_unseen(&mut self, time: &mut PoolTime) {
        if let Some(item) = all_items().find(|item| first_of(&self.live, item).is_none()) {
            self.dedupe(Mode::Track, Firsts::NotAsked, &[item], &Origin::none(), time);
        }
    }

    /// Takes from both ends in turn, by a repeated pattern, until they meet.
    fn scan(&self, filter: &Filter, ends: &[RecordSort]) {
        let mut expected: std::collections::VecDeque<Row> = filter.select(&self.live, &self.times).into();
        let mut scan = self.handle().scan(&filter.build(&self.times)).unwrap();
        for end in ends.iter().cycle() {
            let (got, wanted) = match end {
                RecordSort::Ascending => (scan.next(), expected.pop_front()),
                RecordSort::Descending => (scan.next_back(), expected.pop_back()),
            };
            assert_eq!(got.map(|record| Row::from(&record.unwrap())), wanted);
            if wanted.is_none() {
                break;
            }
        }
        assert!(scan.next().is_none() && scan.next_back().is_none());
    }

    fn interrupted_scan(
        &mut self,
        filter: &Filter,
        taken: usize,
        sort: RecordSort,
        deleted: &[Pick],
        tracked: &[Item],
        time: &mut PoolTime,
    ) {
        let times = self.times.clone();
        let before = filter.select(&self.live, &times);
        let mut scan = self.handle().scan(&filter.build(&times)).unwrap();
        let mut next = move || match sort {
            RecordSort::Ascending => scan.next(),
            RecordSort::Descending => scan.next_back(),
        };
        let mut got: Vec<Row> = Vec::new();
        for _ in 0..taken {
            got.extend(next().map(|record| Row::from(&record.unwrap())));
        }
        let ids = self.ids_of(deleted);
        assert_eq!(self.handle().delete_records(&ids).unwrap(), self.forget(|row| ids.contains(&row.id)));
        self.dedupe(Mode::Track, Firsts::NotAsked, tracked, &Origin::none(), time);
        got.extend(std::iter::from_fn(next).map(|record| Row::from(&record.unwrap())));
        if sort == RecordSort::Descending {
            got.reverse();
        }
        assert!(got.is_sorted_by(|a, b| a.id < b.id), "a scan repeats itself or is out of order");
        assert!(got.iter().all(|row| before.contains(row)), "a scan shows what was not there at its start");
        let throughout = before.iter().filter(|row| self.live.contains(row));
        assert!(
            throughout.into_iter().all(|row| got.contains(row)),
            "a scan misses what was there throughout"
        );
    }

    fn import(
        &mut self,
        items: &[Item],
        policy: OnDuplicate,
        commit_every: Option<u64>,
        time: &mut PoolTime,
    ) {
        let mut options = ImportOptions::new().on_duplicate(policy);
        if let Some(rows) = commit_every {
            options = options.commit_every(rows);
        }
        let result = self.handle().import_csv(csv_of(items).as_bytes(), &options);
        let is_new = |(index, item): &(usize, &Item)| {
            first_of(&self.live, item).is_none() && !items[..*index].contains(item)
        };
        let clash = items.iter().enumerate().position(|row| !is_new(&row));
        if let (OnDuplicate::Fail, Some(clash)) = (policy, clash) {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            let kept = commit_every.map(|rows| clash as u64 / rows * rows);
            assert_eq!(error.committed_rows(), kept);
            let kept = usize::try_from(kept.unwrap_or(0)).unwrap();
            self.add(items[..kept].to_vec(), &Origin::none(), time);
            return;
        }
        let added: Vec<Item> = match policy {
            OnDuplicate::Skip => {
                items.iter().enumerate().filter(is_new).map(|(_, item)| item.clone()).collect()
            }
            _ => items.to_vec(),
        };
        let report = result.unwrap();
        let counts = (report.rows, report.added, report.skipped, report.bad_rows);
        let skipped = (items.len() - added.len()) as u64;
        assert_eq!(counts, (items.len() as u64, added.len() as u64, skipped, 0));
        self.add(added, &Origin::none(), time);
    }

    fn export(&self, filter: &Filter, columns: ExportColumns) {
        let options = ExportOptions::new().filter(filter.build(&self.times)).columns(columns);
        let mut file = Vec::new();
        let report = self.handle().export_csv(&mut file, &options).unwrap();
        let expected = filter.select(&self.live, &self.times);
        assert_eq!(report.rows, expected.len() as u64);
        let mut reader = csv::Reader::from_reader(file.as_slice());
        let read: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let fields = |row: &Row| {
            let text = |id: Option<String>| id.unwrap_or_default();
            let mut fields = vec![row.item.value.clone(), row.item.entity_type.to_string()];
            if columns == ExportColumns::Full {
                fields.push(row.id.to_string());
                fields.push(text(row.origin.flow().map(ToString::to_string)));
                fields.push(text(row.origin.run().map(ToString::to_string)));
                fields.push(text(row.origin.step().map(ToString::to_string)));
                fields.push(row.created_at.to_string());
            }
            csv::StringRecord::from(fields)
        };
        assert_eq!(read, expected.iter().map(fields).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn the_store_answers_as_a_list_of_records_would(sizes in any_sizes(), ops in vec(any_op(), 1..80)) {
        let mut world = World::new(sizes);
        for op in &ops {
            world.run(op);
        }
        world.finish();
    }
}
