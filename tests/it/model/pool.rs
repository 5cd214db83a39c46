//! One pool as a list: what each operation in it must answer.

use std::collections::BTreeMap;
use std::time::Duration;

use datapool_store::{
    DataPool, DataPoolStore, EntityTypeId, ErrorKind, ExportColumns, ExportOptions, FlowId, ImportOptions,
    Key, Mode, OnDuplicate, Origin, Pool, PoolSnapshot, Record, RecordFilter, RecordQuery, RecordSort,
    Timestamp, Verdict,
};

use super::claims::Claims;
use super::{Between, Clocks, Firsts, Pick, PoolOp};
use crate::model::planner::{Filter, all_items};
use crate::support::items::{Item, Row, csv_of, rows};

/// A pool as a list.
pub(super) struct PoolModel {
    pub(super) id: u64,
    /// None only while the store is being reopened.
    open: Option<(DataPoolStore, Pool)>,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) retention: Option<Duration>,
    pub(super) capacity: Option<u64>,
    created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// The live records, oldest first.
    pub(super) live: Vec<Row>,
    pub(super) next_id: u64,
    /// The time of the newest record, while there is a live one.
    last_time: Option<Timestamp>,
    /// The latest time that this process answered by.
    pub(super) latest: Option<Timestamp>,
    /// The times of records past and present, for filters to hit.
    pub(super) times: Vec<Timestamp>,
    pub(super) snapshots: Vec<Held>,
    pub(super) claims: Claims,
}

/// A snapshot, and what it must answer as long as it is held.
pub(super) struct Held {
    snapshot: PoolSnapshot,
    live: Vec<Row>,
}

impl Held {
    pub(super) fn check(&self) {
        assert_eq!(
            read(self.snapshot.scan(&RecordFilter::new()).unwrap()),
            self.live,
            "a held snapshot changed"
        );
        // Above all for what was deleted since: tables that were made later do not have it.
        let items: Vec<Item> = all_items().collect();
        let keys = keys_of(&items);
        let found = self.snapshot.lookup(&keys).unwrap();
        for ((item, record), is_there) in
            items.iter().zip(found).zip(self.snapshot.contains_many(&keys).unwrap())
        {
            assert_eq!(record.as_ref().map(Row::from).as_ref(), first_of(&self.live, item), "{item:?}");
            assert_eq!(is_there, record.is_some(), "{item:?}");
        }
    }

    /// The store was closed, and opened again.
    pub(super) fn check_ended(&self) {
        let ended = self.snapshot.count(&RecordFilter::new()).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::Closed);
        assert_eq!(self.snapshot.scan(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::Closed);
    }

    pub(super) fn check_thoroughly(&self, filter: &Filter, times: &[Timestamp]) {
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
    }
}

fn read(scan: impl Iterator<Item = datapool_store::Result<Record>>) -> Vec<Row> {
    scan.map(|record| Row::from(&record.unwrap())).collect()
}

pub(super) fn first_of<'a>(live: &'a [Row], item: &Item) -> Option<&'a Row> {
    live.iter().find(|row| row.item == *item)
}

/// The items of rows, in their order.
pub(super) fn items_of(rows: &[Row]) -> Vec<Item> {
    rows.iter().map(|row| row.item.clone()).collect()
}

fn keys_of(items: &[Item]) -> Vec<Key<'_>> {
    items.iter().map(Item::key).collect()
}

impl PoolModel {
    pub(super) fn new(pool: Pool, store: DataPoolStore, row: &DataPool) -> Self {
        Self {
            id: row.id,
            open: Some((store, pool)),
            name: row.name.clone(),
            description: row.description.clone(),
            retention: None,
            capacity: None,
            created_at: row.created_at,
            updated_at: row.created_at,
            live: vec![],
            next_id: 1,
            last_time: None,
            latest: None,
            times: vec![],
            snapshots: vec![],
            claims: Claims::default(),
        }
    }

    pub(super) fn handle(&self) -> &Pool {
        &self.open.as_ref().unwrap().1
    }

    pub(super) fn store(&self) -> &DataPoolStore {
        &self.open.as_ref().unwrap().0
    }

    /// Lets go of everything that keeps the file open.
    pub(super) fn close(&mut self) {
        self.snapshots.clear();
        self.hand_claims_over();
        self.open = None;
    }

    pub(super) fn reopen(&mut self, store: &DataPoolStore, clocks: &Clocks) {
        let pool = store.pool_named(&self.name).unwrap();
        self.open = Some((store.clone(), pool));
        self.take_claims_up(clocks);
    }

    /// The pool's time. It goes by the clock alone where nothing is live.
    fn time(&mut self, clocks: &Clocks) -> Timestamp {
        if self.live.is_empty() {
            (self.last_time, self.latest) = (None, None);
        }
        let now = clocks.clock.now();
        let latest = self.latest.into_iter().chain(self.last_time).fold(now, Timestamp::max);
        self.latest = Some(latest);
        latest
    }

    /// Has the store read the clock.
    pub(super) fn tick(&mut self, clocks: &Clocks) {
        let before = self.handle().stats().unwrap();
        let is_live = !self.live.is_empty();
        let ahead = self.time(clocks).as_micros() - clocks.clock.now().as_micros();
        self.expire(clocks);
        if is_live && !self.live.is_empty() {
            assert_eq!(before.time_ahead, Duration::from_micros(u64::try_from(ahead).unwrap()));
        }
    }

    /// What is too old by now is gone.
    pub(super) fn expire(&mut self, clocks: &Clocks) {
        let Some(retention) = self.retention else { return };
        let now = self.time(clocks);
        self.live.retain(|row| row.created_at.saturating_add(retention) > now);
    }

    /// The oldest beyond the capacity leave.
    pub(super) fn evict(&mut self) {
        let capacity = self.capacity.map_or(usize::MAX, |capacity| usize::try_from(capacity).unwrap());
        self.live.drain(..self.live.len().saturating_sub(capacity));
    }

    /// Holds everything the pool has against the list.
    pub(super) fn check(&self, clocks: &Clocks) {
        let pool = self.handle();
        assert_eq!(read(pool.scan(&RecordFilter::new()).unwrap()), self.live);
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), self.live.len() as u64);
        let items: Vec<Item> = all_items().collect();
        self.check_items(&items);
        self.check_claims(&items, clocks);
        self.check_figures();
    }

    fn check_figures(&self) {
        let stats = self.handle().stats().unwrap();
        assert_eq!(stats.live, self.live.len() as u64);
        assert_eq!(stats.oldest, self.live.first().map(|row| row.created_at));
        assert_eq!(stats.newest, self.live.last().map(|row| row.created_at));
        assert_eq!(stats.segments, stats.fill.len() as u64);
        assert_eq!(stats.fill.iter().map(|segment| segment.live).sum::<u64>(), stats.live);
        let stored: u64 = stats.fill.iter().map(|segment| segment.records).sum();
        assert_eq!(stored, stats.live + stats.expired + stats.deleted);
        let mut types: BTreeMap<EntityTypeId, u64> = BTreeMap::new();
        let mut flows: BTreeMap<FlowId, u64> = BTreeMap::new();
        for row in &self.live {
            *types.entry(row.item.entity_type).or_default() += 1;
            if let Some(flow) = row.origin.flow() {
                *flows.entry(flow.clone()).or_default() += 1;
            }
        }
        let counted = self.handle().entity_type_counts().unwrap();
        assert!(counted.is_sorted_by(|a, b| a.1 >= b.1));
        assert_eq!(counted.into_iter().collect::<BTreeMap<_, _>>(), types);
        assert_eq!(self.handle().flow_counts().unwrap().into_iter().collect::<BTreeMap<_, _>>(), flows);
    }

    /// Holds a copy of the pool against the list.
    pub(super) fn check_copy(&self, copy: &DataPoolStore, clocks: &Clocks) {
        let pool = copy.pool(self.id).unwrap();
        assert_eq!(pool.info().unwrap(), self.handle().info().unwrap());
        assert_eq!(read(pool.scan(&RecordFilter::new()).unwrap()), self.live);
        self.check_claims_of_copy(&pool, clocks);
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

    pub(super) fn check_row(&self) {
        let row = self.handle().info().unwrap();
        assert_eq!((row.id, &row.name, &row.description), (self.id, &self.name, &self.description));
        assert_eq!((row.created_at, row.updated_at), (self.created_at, self.updated_at));
        assert_eq!((row.retention, row.capacity), (self.retention, self.capacity));
    }

    pub(super) fn run(&mut self, op: &PoolOp, clocks: &Clocks) {
        match op {
            PoolOp::Dedupe { mode, firsts, items, origin } => {
                self.dedupe(*mode, *firsts, items, origin, clocks);
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
                let deleted = self.handle().delete_where(&filter.build_to_delete(&self.times)).unwrap();
                assert_eq!(deleted, self.forget(|row| chosen.contains(row)));
            }
            PoolOp::Clear => {
                let deleted = self.handle().clear().unwrap();
                assert_eq!(deleted, self.forget(|_| true));
            }
            PoolOp::List { filter, sort, page, per_page } => self.list(filter, *sort, *page, *per_page),
            PoolOp::Walk { filter, sort, per_page, between } => {
                self.walk(filter, *sort, *per_page, *between, clocks);
            }
            PoolOp::Scan { filter, ends } => self.scan(filter, ends),
            PoolOp::InterruptedScan { filter, taken, sort, deleted, tracked } => {
                self.interrupted_scan(filter, *taken, *sort, deleted, tracked, clocks);
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
                self.import(items, *policy, *commit_every, clocks);
            }
            PoolOp::Export { filter, columns } => self.export(filter, *columns),
            PoolOp::CopyTo { .. } => unreachable!("needs two pools"),
            PoolOp::Claim { items, origin, lease_ms } => {
                self.claim(items, origin, Duration::from_millis(*lease_ms), clocks);
            }
            PoolOp::Settle { claim, how } => self.settle(*claim, how, clocks),
            PoolOp::Prune => {
                let _ = self.handle().prune().unwrap();
            }
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

    /// Adds the records that one operation just wrote. What the capacity does not keep of them leaves with
    /// [`evict`](Self::evict).
    pub(super) fn add(&mut self, items: Vec<Item>, origin: &Origin, clocks: &Clocks) {
        if items.is_empty() {
            return;
        }
        let created_at = self.time(clocks);
        self.last_time = Some(created_at);
        self.times.push(created_at);
        for item in items {
            // A record voids whatever claim owns its value.
            self.claims.owners.remove(&item);
            self.live.push(Row { id: self.next_id, item, origin: origin.clone(), created_at });
            self.next_id += 1;
        }
    }

    fn dedupe(&mut self, mode: Mode, firsts: Firsts, items: &[Item], origin: &Origin, clocks: &Clocks) {
        let verdicts = match firsts {
            Firsts::Asked => self.handle().dedupe_with_first(mode, items, Item::key, origin),
            Firsts::NotAsked => self.handle().dedupe(mode, items, Item::key, origin),
        };
        let verdicts = verdicts.unwrap();
        assert_eq!(verdicts.len(), items.len());
        let expected: Vec<Verdict> = items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                if first_of(&self.live, item).is_some() {
                    Verdict::Duplicate
                } else if mode != Mode::Track && self.claims.is_running(item, clocks) {
                    Verdict::InFlight
                } else if items[..index].contains(item) {
                    Verdict::Duplicate
                } else {
                    Verdict::New
                }
            })
            .collect();
        assert_eq!(verdicts.as_slice(), expected, "{mode:?} of {items:?}");
        let of = |wanted: Verdict| -> Vec<Item> {
            let pairs = items.iter().zip(&expected).filter(|(_, verdict)| **verdict == wanted);
            pairs.map(|(item, _)| item.clone()).collect()
        };
        if mode != Mode::Filter {
            self.add(of(Verdict::New), origin, clocks);
        }
        for (index, item) in items.iter().enumerate() {
            let is_new = expected[index] == Verdict::New;
            assert_eq!(verdicts.passes(index), is_new || mode == Mode::Track);
            let is_duplicate = expected[index] == Verdict::Duplicate;
            // Decided before the evictions: the first record may leave with this very call.
            let first =
                (firsts == Firsts::Asked && is_duplicate).then(|| first_of(&self.live, item)).flatten();
            assert_eq!(
                verdicts.first(index).map(Row::from).as_ref(),
                first,
                "first of item {index} in {mode:?}"
            );
        }
        self.evict();
        let split = verdicts.partition(items.to_vec());
        assert_eq!(split.fresh, of(Verdict::New));
        assert_eq!(split.duplicates, of(Verdict::Duplicate));
        assert_eq!(split.in_flight, of(Verdict::InFlight));
        assert!(split.unmatched.is_empty());
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
    fn walk(&mut self, filter: &Filter, sort: RecordSort, per_page: u32, between: Between, clocks: &Clocks) {
        // Boundaries stay as they were, so that tracking between pages does not move them.
        let times = self.times.clone();
        let query = RecordQuery::new().filter(filter.build(&times)).sort(sort).per_page(per_page);
        let mut next = query.clone();
        let mut last: Option<u64> = None;
        let end_of_tracking = self.next_id + 50;
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
                Between::DeleteLast => {
                    let id = last.unwrap();
                    assert_eq!(self.handle().delete_records(&[id]).unwrap(), 1);
                    assert_eq!(self.forget(|row| row.id == id), 1);
                }
                // Not for ever: under a capacity there is always an unseen one, and the walk would never end.
                Between::Track if self.next_id < end_of_tracking => self.track_next_unseen(clocks),
                Between::Nothing | Between::Track => {}
            }
        }
    }

    fn track_next_unseen(&mut self, clocks: &Clocks) {
        if let Some(item) = all_items().find(|item| first_of(&self.live, item).is_none()) {
            self.dedupe(Mode::Track, Firsts::NotAsked, &[item], &Origin::none(), clocks);
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
        clocks: &Clocks,
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
        self.dedupe(Mode::Track, Firsts::NotAsked, tracked, &Origin::none(), clocks);
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

    fn import(&mut self, items: &[Item], policy: OnDuplicate, commit_every: Option<u64>, clocks: &Clocks) {
        let mut options = ImportOptions::new().on_duplicate(policy);
        if let Some(rows) = commit_every {
            options = options.commit_every(rows);
        }
        let result = self.handle().import_csv(csv_of(items).as_bytes(), &options);
        // Each part is an operation of its own: it sees what the parts before added and evicted.
        let part_rows = commit_every.map_or(items.len().max(1), |rows| usize::try_from(rows).unwrap());
        let (mut added_rows, mut committed_rows) = (0, 0);
        for part in items.chunks(part_rows) {
            let is_new = |(index, item): &(usize, &Item)| {
                first_of(&self.live, item).is_none() && !part[..*index].contains(item)
            };
            let fresh: Vec<Item> =
                part.iter().enumerate().filter(is_new).map(|(_, item)| item.clone()).collect();
            if policy == OnDuplicate::Fail && fresh.len() < part.len() {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                assert_eq!(error.committed_rows(), commit_every.map(|_| committed_rows));
                return;
            }
            let added = if policy == OnDuplicate::Skip { fresh } else { part.to_vec() };
            added_rows += added.len() as u64;
            committed_rows += part.len() as u64;
            self.add(added, &Origin::none(), clocks);
            self.evict();
        }
        let report = result.unwrap();
        let counts = (report.rows, report.added, report.skipped, report.bad_rows);
        let rows = items.len() as u64;
        assert_eq!(counts, (rows, added_rows, rows - added_rows, 0));
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
