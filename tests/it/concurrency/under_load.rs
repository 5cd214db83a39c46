//! Proves that cursors and scans stay right while other threads insert and delete and records expire: records
//! that exist throughout appear exactly once and in order, and a scan shows nothing newer than its start.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use datapool_store::{
    ManualClock, NewPool, Pool, Record, RecordFilter, RecordId, RecordQuery, RecordSort, Timestamp,
};

use crate::support::{self, Need, track};

/// The number of records that exist throughout. Between any two of them are ten that come and go.
const STABLE: usize = 120;
/// The number of times that each reader reads everything.
const ROUNDS: usize = 8;

/// The number of initial records that expire one by one, one step of the clock apart.
const OLD: usize = 1_500;
const STEP: Duration = Duration::from_millis(1);

/// The data that the threads share.
struct Load {
    pool: Pool,
    clock: ManualClock,
    retention: Duration,
    /// The records that exist throughout.
    stable: BTreeSet<RecordId>,
    /// The records between them.
    early: Vec<RecordId>,
    /// The number of steps that the clock may still take before a stable record expires.
    steps: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    fn new() -> Self {
        let clock = support::clock();
        let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
        let retention = STEP * u32::try_from(OLD).unwrap();
        let pool = store.create_pool(NewPool::new("orders").retention(retention)).unwrap();
        for n in 0..OLD {
            track(&pool, &[format!("old {n}")]);
            clock.advance(STEP);
        }
        for n in 0..STABLE {
            track(&pool, &[format!("stable {n}")]);
            track(&pool, &(0..10).map(|m| format!("early {n} {m}")).collect::<Vec<_>>());
        }
        let ids = |prefix: &str| -> Vec<RecordId> {
            let all = pool.scan(&RecordFilter::new()).unwrap().map(Result::unwrap);
            all.filter(|record| record.value.starts_with(prefix)).map(|record| record.id).collect()
        };
        let (stable, early) = (ids("stable").into_iter().collect(), ids("early"));
        let (steps, stop) = (AtomicUsize::new(OLD - 1), AtomicBool::new(false));
        Self { pool, clock, retention, stable, early, steps, stop }
    }

    /// Adds and deletes until stopped: early records one by one, and its own records by value and by id. Also
    /// lets records expire.
    fn churn(&self, writer: usize, early: &[RecordId]) {
        let mut round = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let values: Vec<String> = (0..7).map(|n| format!("churn {writer} {round} {n}")).collect();
            track(&self.pool, &values);
            if let Some(id) = early.get(round) {
                assert_eq!(self.pool.delete_records([*id]).unwrap(), 1);
            }
            let take_step = |left: usize| left.checked_sub(1);
            if self.steps.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_step).is_ok() {
                self.clock.advance(STEP);
            }
            // Deletes all of them, so that the pool stays small for any duration of the readers.
            let filter = values.iter().fold(RecordFilter::new(), RecordFilter::value);
            assert_eq!(self.pool.delete_where(&filter).unwrap(), 7);
            round += 1;
        }
    }

    /// Returns the time before which all records have expired.
    fn horizon(&self) -> Timestamp {
        self.clock.now().saturating_sub(self.retention)
    }
}

/// Runs a reader while two writers add and delete records.
fn under_load(reader: impl Fn(&Load) + Sync) {
    let load = Load::new();
    let (first, second) = load.early.split_at(load.early.len() / 2);
    std::thread::scope(|scope| {
        let writers = [(0, first), (1, second)].map(|(writer, early)| {
            let load = &load;
            scope.spawn(move || load.churn(writer, early))
        });
        let readers = [(); 2].map(|()| scope.spawn(|| (0..ROUNDS).for_each(|_| reader(&load))));
        let outcomes = readers.map(std::thread::ScopedJoinHandle::join);
        load.stop.store(true, Ordering::Relaxed);
        for outcome in outcomes {
            outcome.unwrap();
        }
        for writer in writers {
            writer.join().unwrap();
        }
    });
    assert!(load.steps.into_inner() < OLD - 1, "nothing expired meanwhile");
}

/// Checks ids in the order in which they came: strictly ordered, with all stable ones among them.
fn assert_once_and_in_order(mut ids: Vec<RecordId>, sort: RecordSort, stable: &BTreeSet<RecordId>) {
    if sort == RecordSort::Descending {
        ids.reverse();
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let missing: Vec<&RecordId> = stable.iter().filter(|id| ids.binary_search(id).is_err()).collect();
    assert!(missing.is_empty(), "{missing:?} are missing");
}

#[test]
fn cursors_show_what_stays_exactly_once_while_others_come_and_go() {
    under_load(|Load { pool, stable, .. }| {
        for sort in [RecordSort::Ascending, RecordSort::Descending] {
            let newest = pool.records(&RecordQuery::new().sort(RecordSort::Descending).per_page(1)).unwrap();
            let newest = newest.data[0].id;
            let query = RecordQuery::new().flow_id("shop").sort(sort).per_page(37);
            let (mut ids, mut next) = (Vec::new(), Some(query.clone()));
            while let Some(query) = next {
                let page = pool.records(&query).unwrap();
                assert!(page.meta.total >= page.data.len() as u64);
                ids.extend(page.data.iter().map(|record| record.id));
                // A reader need not follow writers that are faster than itself.
                let behind =
                    page.data.last().is_some_and(|last| sort == RecordSort::Descending || last.id < newest);
                next = page.next_cursor.filter(|_| behind).map(|cursor| query.clone().cursor(cursor));
            }
            assert_once_and_in_order(ids, sort, stable);
        }
    });
}

#[test]
fn scans_show_what_stays_exactly_once_and_nothing_newer_than_their_start() {
    under_load(|load| {
        let Load { pool, stable, .. } = load;
        for filter in [RecordFilter::new(), RecordFilter::new().entity_type_id(37).flow_run_id("run 1")] {
            let expired = load.horizon();
            let scan = pool.scan(&filter).unwrap();
            let marker = track(pool, &["newer"]);
            let records: Vec<Record> = scan.map(Result::unwrap).collect();
            assert!(
                records.iter().all(|record| record.created_at > expired),
                "a scan shows an expired record"
            );
            let ids: Vec<RecordId> = records.iter().map(|record| record.id).collect();
            assert_once_and_in_order(ids, RecordSort::Ascending, stable);
            let ids: Vec<RecordId> =
                pool.scan(&filter).unwrap().rev().map(|record| record.unwrap().id).collect();
            assert_once_and_in_order(ids, RecordSort::Descending, stable);
            assert!(marker <= 1);
        }
        let scan = pool.scan(&RecordFilter::new()).unwrap();
        let after = format!("after {:?}", std::thread::current().id());
        track(pool, &[&after]);
        assert!(
            scan.map(Result::unwrap).all(|record| record.value != after),
            "{after} was added after the scan began"
        );
        pool.delete_where(&RecordFilter::new().value(&after)).unwrap();
    });
}

#[test]
fn both_ends_of_a_scan_meet_once_while_others_come_and_go() {
    under_load(|Load { pool, stable, .. }| {
        let mut scan = pool.scan(&RecordFilter::new()).unwrap();
        let (mut front, mut back) = (Vec::new(), Vec::new());
        loop {
            match scan.next() {
                Some(record) => front.push(record.unwrap().id),
                None => break,
            }
            if let Some(record) = scan.next_back() {
                back.push(record.unwrap().id);
            }
        }
        back.reverse();
        front.extend(back);
        assert_once_and_in_order(front, RecordSort::Ascending, stable);
    });
}

#[test]
fn a_scan_and_a_cursor_end_well_when_everything_is_cleared_on_the_way() {
    let Load { pool, stable, .. } = Load::new();
    let mut scan = pool.scan(&RecordFilter::new()).unwrap();
    let page = pool.records(&RecordQuery::new().per_page(10)).unwrap();
    let first: Vec<RecordId> = scan.by_ref().take(3).map(|record| record.unwrap().id).collect();
    pool.clear().unwrap();
    track(&pool, &["after the clear"]);
    // Records that were already read may still come, but nothing twice and nothing newer.
    let rest: Vec<RecordId> = scan.map(|record| record.unwrap().id).collect();
    let all: Vec<RecordId> = first.into_iter().chain(rest).collect();
    assert!(all.is_sorted_by(|a, b| a < b) && all.len() < stable.len(), "{all:?}");
    let next = pool.records(&RecordQuery::new().cursor(page.next_cursor.unwrap())).unwrap();
    let values: Vec<&str> = next.data.iter().map(|record| record.value.as_str()).collect();
    assert_eq!((values, next.meta.total, next.next_cursor), (vec!["after the clear"], 1, None));
}
