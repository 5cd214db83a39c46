//! Proves what pages, totals, cursors, scans and snapshots show, especially while records come and go.
//!
//! [`crate::planner`] proves that filters match the right records, in any combination.

use std::collections::BTreeSet;
use std::time::Duration;

use datapool_store::{
    ImportOptions, Key, ManualClock, Mode, Origin, Page, Pool, Record, RecordFilter, RecordQuery, RecordSort,
    Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{self, CUSTOMERS, Need, ORDERS};

/// Creates a pool with the values `A-1`, `A-2`, ..., whose ids are the same numbers.
fn pool_of(count: u64) -> Pool {
    let pool = support::pool_for(Need::Any);
    add(&pool, 1..=count);
    pool
}

fn add(pool: &Pool, numbers: impl IntoIterator<Item = u64>) {
    let values: Vec<String> = numbers.into_iter().map(|number| format!("A-{number}")).collect();
    support::track(pool, &values);
}

fn ids<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<u64> {
    records.into_iter().map(|record| record.id.get()).collect()
}

/// Returns the numbers in a page's metadata: `current_page`, `from`, `last_page`, `to`, `total`.
fn meta(page: &Page<Record>) -> (u64, Option<u64>, u64, Option<u64>, u64) {
    let meta = &page.meta;
    (meta.current_page, meta.from, meta.last_page, meta.to, meta.total)
}

#[test]
fn a_page_has_15_records_oldest_first_unless_asked_otherwise() {
    let pool = pool_of(100);
    let page = pool.records(&RecordQuery::new()).unwrap();
    assert_eq!(ids(&page.data), (1..=15).collect::<Vec<_>>());
    assert_eq!((meta(&page), page.meta.per_page), ((1, Some(1), 7, Some(15), 100), 15));
    let page = pool.records(&RecordQuery::new().sort(RecordSort::Descending).page(7)).unwrap();
    assert_eq!(ids(&page.data), (1..=10).rev().collect::<Vec<_>>());
    assert_eq!(meta(&page), (7, Some(91), 7, Some(100), 100));
    assert_eq!(page.next_cursor, None);
}

#[test]
fn a_page_past_the_end_is_empty_and_says_where_the_end_is() {
    let pool = pool_of(30);
    for page_number in [3, 4, 1_000_000, u64::MAX] {
        for sort in [RecordSort::Ascending, RecordSort::Descending] {
            let page = pool.records(&RecordQuery::new().sort(sort).page(page_number)).unwrap();
            assert!(page.data.is_empty() && page.next_cursor.is_none());
            assert_eq!(meta(&page), (page_number, None, 2, None, 30));
        }
    }
}

#[test]
fn where_nothing_is_found_there_is_one_empty_page() {
    let pool = pool_of(30);
    for pool in [support::pool_for(Need::Any), pool.clone()] {
        let page = pool.records(&RecordQuery::new().value("none")).unwrap();
        assert!(page.data.is_empty() && page.next_cursor.is_none());
        assert_eq!(meta(&page), (1, None, 1, None, 0));
        let page = pool.records(&RecordQuery::new().value("none").page(2)).unwrap();
        assert_eq!(meta(&page), (2, None, 1, None, 0));
    }
}

#[test]
fn the_last_page_has_no_cursor_even_when_it_is_full() {
    let pool = pool_of(30);
    let first = pool.records(&RecordQuery::new()).unwrap();
    let last = pool.records(&RecordQuery::new().page(2)).unwrap();
    assert_eq!((last.data.len(), last.next_cursor), (15, None));
    let by_cursor = pool.records(&RecordQuery::new().cursor(first.next_cursor.unwrap())).unwrap();
    assert_eq!(by_cursor.data, last.data);
    assert_eq!((meta(&by_cursor), by_cursor.next_cursor), (meta(&last), None));
}

#[test]
fn a_cursor_says_where_it_stands_now() {
    let pool = pool_of(40);
    let query = RecordQuery::new().per_page(10);
    let cursor = pool.records(&query).unwrap().next_cursor.unwrap();
    // Half of the records before the cursor are deleted, and more come after it.
    pool.delete_records([1, 2, 3, 4, 5]).unwrap();
    add(&pool, 41..=43);
    let page = pool.records(&query.clone().cursor(cursor)).unwrap();
    assert_eq!(ids(&page.data), (11..=20).collect::<Vec<_>>());
    assert_eq!((page.meta.from, page.meta.to, page.meta.total), (Some(6), Some(15), 38));
    // The record at the cursor may be deleted, too.
    pool.delete_records([10, 11]).unwrap();
    let page = pool.records(&query.cursor(cursor)).unwrap();
    assert_eq!(ids(&page.data), (12..=21).collect::<Vec<_>>());
}

#[test]
fn a_cursor_behind_which_nothing_is_left_gives_an_empty_page() {
    let pool = pool_of(20);
    let cursor = pool.records(&RecordQuery::new()).unwrap().next_cursor.unwrap();
    pool.delete_records(16..=20).unwrap();
    let page = pool.records(&RecordQuery::new().cursor(cursor)).unwrap();
    assert!(page.data.is_empty() && page.next_cursor.is_none());
    assert_eq!((page.meta.from, page.meta.to, page.meta.total), (None, None, 15));
    pool.clear().unwrap();
    let page = pool.records(&RecordQuery::new().cursor(cursor)).unwrap();
    assert_eq!((page.data.len(), page.meta.total), (0, 0));
}

#[test]
fn a_page_by_cursor_whose_records_are_gone_stands_where_a_page_past_the_end_does() {
    for sort in [RecordSort::Ascending, RecordSort::Descending] {
        let pool = pool_of(40);
        let query = RecordQuery::new().sort(sort).per_page(20);
        let first = pool.records(&query).unwrap();
        let second = pool.records(&query.clone().cursor(first.next_cursor.unwrap())).unwrap();
        assert_eq!(meta(&second), (2, Some(21), 2, Some(40), 40));
        pool.delete_records(ids(&second.data)).unwrap();
        let gone = pool.records(&query.clone().cursor(first.next_cursor.unwrap())).unwrap();
        assert_eq!(meta(&gone), (2, None, 1, None, 20));
        assert_eq!((gone.links.prev, gone.links.next, gone.next_cursor), (None, None, None));
        assert_eq!(gone.meta, pool.records(&query.page(2)).unwrap().meta);
    }
}

/// A change of the pool between two pages, or between two records of a scan.
#[derive(Debug, Clone)]
enum Change {
    Delete(Vec<prop::sample::Index>),
    Add(u64),
    Clear,
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => vec(any::<prop::sample::Index>(), 1..20).prop_map(Change::Delete),
        8 => (1..30_u64).prop_map(Change::Add),
        1 => Just(Change::Clear),
    ]
}

impl Change {
    /// Makes the change. `next` is the id of the next record.
    fn make(&self, pool: &Pool, next: &mut u64) {
        match self {
            Self::Delete(choices) => {
                let live = ids(&support::records(pool));
                let chosen: Vec<u64> = choices
                    .iter()
                    .filter(|_| !live.is_empty())
                    .map(|choice| live[choice.index(live.len())])
                    .collect();
                pool.delete_records(chosen.iter().copied()).unwrap();
            }
            Self::Add(count) => {
                add(pool, *next..*next + count);
                *next += count;
            }
            Self::Clear => drop(pool.clear().unwrap()),
        }
    }
}

/// Compares what a listing showed with what existed: `alive` throughout, or `ever` at any time during it.
fn shows_each_once(shown: &[u64], alive: &BTreeSet<u64>, ever: &BTreeSet<u64>, sort: RecordSort) {
    match sort {
        RecordSort::Ascending => assert!(shown.is_sorted_by(|a, b| a < b), "{shown:?}"),
        RecordSort::Descending => assert!(shown.is_sorted_by(|a, b| a > b), "{shown:?}"),
    }
    let shown: BTreeSet<u64> = shown.iter().copied().collect();
    assert!(alive.is_subset(&shown), "missing: {:?}", alive.difference(&shown).collect::<Vec<_>>());
    assert!(shown.is_subset(ever), "never there: {:?}", shown.difference(ever).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn cursors_show_every_record_once_while_records_come_and_go(
        count in 0..250_u64,
        per_page in 1..40_u32,
        changes in vec(any_change(), 0..12),
        descending in any::<bool>(),
    ) {
        let pool = pool_of(count);
        let sort = if descending { RecordSort::Descending } else { RecordSort::Ascending };
        let query = RecordQuery::new().sort(sort).per_page(per_page).flow_id("shop");
        let mut alive: BTreeSet<u64> = (1..=count).collect();
        let mut next = count + 1;
        let mut changes = changes.iter();
        let mut page = pool.records(&query).unwrap();
        let mut shown = ids(&page.data);
        while let Some(cursor) = page.next_cursor {
            if let Some(change) = changes.next() {
                change.make(&pool, &mut next);
            }
            let live: BTreeSet<u64> = ids(&support::records(&pool)).into_iter().collect();
            alive.retain(|id| live.contains(id));
            page = pool.records(&query.clone().cursor(cursor)).unwrap();
            prop_assert!(page.data.iter().all(|record| live.contains(&record.id.get())), "a deleted record is shown");
            prop_assert_eq!(page.meta.total, live.len() as u64);
            let before = live.iter().filter(|id| {
                let first = page.data.first().map(|record| record.id.get());
                first.is_some_and(|first| if descending { **id > first } else { **id < first })
            });
            prop_assert_eq!(page.meta.from, page.data.first().map(|_| before.count() as u64 + 1));
            shown.extend(ids(&page.data));
        }
        shows_each_once(&shown, &alive, &(1..next).collect(), sort);
    }

    #[test]
    fn a_scan_shows_what_was_there_throughout_once_and_nothing_newer(
        count in 0..400_u64,
        changes in vec((any_change(), 0..150_usize), 0..8),
        descending in any::<bool>(),
    ) {
        let pool = pool_of(count);
        let mut scan = pool.scan(&RecordFilter::new().flow_run_id("run 1")).unwrap();
        let mut alive: BTreeSet<u64> = (1..=count).collect();
        let mut next = count + 1;
        let mut shown = Vec::new();
        let mut take = |number: usize| {
            for _ in 0..number {
                let record = if descending { scan.next_back() } else { scan.next() };
                shown.extend(record.map(|record| record.unwrap().id.get()));
            }
        };
        for (change, number) in &changes {
            take(*number);
            change.make(&pool, &mut next);
            let live: BTreeSet<u64> = ids(&support::records(&pool)).into_iter().collect();
            alive.retain(|id| live.contains(id));
        }
        take(500);
        let sort = if descending { RecordSort::Descending } else { RecordSort::Ascending };
        shows_each_once(&shown, &alive, &(1..=count).collect(), sort);
    }

    #[test]
    fn a_scan_from_both_ends_meets_in_the_middle(count in 0..300_u64, ends in vec(any::<bool>(), 400)) {
        let pool = pool_of(count);
        for mut scan in [
            pool.scan(&RecordFilter::new()).unwrap(),
            pool.snapshot().unwrap().scan(&RecordFilter::new()).unwrap(),
        ] {
            let (mut low, mut high) = (1, count);
            for front in &ends {
                let record = if *front { scan.next() } else { scan.next_back() };
                let id = record.map(|record| record.unwrap().id.get());
                let expected = (low <= high).then_some(if *front { low } else { high });
                prop_assert_eq!(id, expected);
                if *front { low += 1 } else { high -= u64::from(high > 0) }
            }
        }
    }
}

/// Longer than the slices that a scan reads.
#[test]
fn a_long_scan_has_every_record_from_both_ends() {
    const COUNT: u64 = 20_000;
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    let rows: String = (1..=COUNT).map(|number| format!("A-{number},{}\n", 37 + number % 2)).collect();
    let file = format!("value,entity_type_id\n{rows}");
    pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
    let all = RecordFilter::new();
    let forward: Vec<Record> = pool.scan(&all).unwrap().map(Result::unwrap).collect();
    assert_eq!(ids(&forward), (1..=COUNT).collect::<Vec<_>>());
    let mut backward: Vec<Record> = pool.scan(&all).unwrap().rev().map(Result::unwrap).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    let odd = RecordFilter::new().entity_type_id(38);
    let found: Vec<u64> = pool.scan(&odd).unwrap().map(|record| record.unwrap().id.get()).collect();
    assert_eq!(found, (1..=COUNT).step_by(2).collect::<Vec<_>>());
    let mut scan = pool.scan(&odd).unwrap();
    assert_eq!(
        (scan.nth(6_000).unwrap().unwrap().id.get(), scan.next_back().unwrap().unwrap().id.get()),
        (12_001, COUNT - 1)
    );
    assert_eq!(scan.count(), 3_998);
}

#[test]
fn a_finished_scan_stays_finished() {
    let pool = pool_of(3);
    let mut scan = pool.scan(&RecordFilter::new()).unwrap();
    assert_eq!(scan.by_ref().count(), 3);
    add(&pool, 4..=5);
    assert!(scan.next().is_none() && scan.next_back().is_none());
}

#[test]
fn a_scan_of_a_pool_that_is_deleted_meanwhile_ends_with_an_error() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    add(&pool, 1..=500);
    let mut scan = pool.scan(&RecordFilter::new()).unwrap();
    scan.next().unwrap().unwrap();
    store.delete_pool(pool.id()).unwrap();
    let errors = scan.by_ref().filter(Result::is_err).count();
    assert_eq!((errors, scan.count()), (1, 0));
}

#[test]
fn a_snapshot_stays_as_it_was_whatever_happens_to_the_pool() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    add(&pool, 1..=200);
    let before = support::records(&pool);
    let snapshot = pool.snapshot().unwrap();
    let mut scan = snapshot.scan(&RecordFilter::new()).unwrap();
    let mut scanned: Vec<Record> = scan.by_ref().take(10).map(Result::unwrap).collect();
    let is_as_before = || {
        let all: Vec<Record> = snapshot.scan(&RecordFilter::new()).unwrap().map(Result::unwrap).collect();
        assert_eq!(all, before);
        assert_eq!(snapshot.count(&RecordFilter::new().flow_id("shop")).unwrap(), 200);
        let page = snapshot.records(&RecordQuery::new().page(3)).unwrap();
        assert_eq!((page.data.as_slice(), page.meta.total), (&before[30..45], 200));
        let keys = ["A-7", "A-201"].map(|value| Key::new(ORDERS, value));
        assert_eq!(snapshot.contains_many(&keys).unwrap(), [true, false]);
        assert!(snapshot.contains(keys[0].clone()).unwrap());
        assert_eq!(snapshot.lookup(&keys).unwrap(), [Some(before[6].clone()), None]);
    };
    is_as_before();
    pool.delete_records(1..=100).unwrap();
    is_as_before();
    add(&pool, 201..=400);
    is_as_before();
    pool.clear().unwrap();
    add(&pool, 1..=50);
    is_as_before();
    store.delete_pool(pool.id()).unwrap();
    // Other commits, which would reuse the pool's pages if they could.
    let other = store.get_or_create_pool("other").unwrap();
    (0..20).for_each(|round| add(&other, round * 50..round * 50 + 50));
    is_as_before();
    scanned.extend(scan.map(Result::unwrap));
    assert_eq!(scanned, before);
}

/// Creates a pool with three records per second, in the first seconds of 2013.
fn timed_pool() -> (Pool, Timestamp) {
    let clock = support::clock();
    let start = clock.now();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.get_or_create_pool("orders").unwrap();
    for second in 0..40 {
        add(&pool, 3 * second..3 * second + 3);
        clock.advance(Duration::from_secs(1));
    }
    (pool, start)
}

#[test]
fn a_time_between_two_microseconds_is_after_the_one_and_before_the_other() {
    for (micros, second) in [(1, "1970-01-01T00:00:00"), (-999_999, "1969-12-31T23:59:59")] {
        let clock = ManualClock::starting_at(Timestamp::from_micros(micros));
        let pool =
            support::options().clock(clock).open_in_memory().unwrap().get_or_create_pool("orders").unwrap();
        support::track(&pool, &["a"]);
        for (fraction, before, after) in [
            ("000001", 0, 0),
            ("0000010", 0, 0),
            ("0000010000000000001", 1, 0),
            ("0000015", 1, 0),
            ("000000999", 0, 1),
            ("00000", 0, 1),
            ("000002", 1, 0),
            ("9999999", 1, 0),
        ] {
            let total = |filter: &str| -> u64 {
                let query: RecordQuery = format!("filter[{filter}]={second}.{fraction}Z").parse().unwrap();
                let json = serde_json::json!({ filter: format!("{second}.{fraction}Z") });
                let of_json: RecordFilter = serde_json::from_value(json).unwrap();
                assert_eq!(query, RecordQuery::new().filter(of_json));
                pool.records(&query).unwrap().meta.total
            };
            assert_eq!(
                (total("created_before"), total("created_after")),
                (before, after),
                "{second}.{fraction}"
            );
        }
    }
}

#[test]
fn created_after_and_before_are_strict() {
    let (pool, start) = timed_pool();
    let at = |seconds: u64| start.saturating_add(Duration::from_secs(seconds));
    let before = |time: Timestamp| Timestamp::from_micros(time.as_micros() - 1);
    let count = |filter: &RecordFilter| {
        let count = pool.count(filter).unwrap();
        assert_eq!(pool.records(&RecordQuery::new().filter(filter.clone())).unwrap().meta.total, count);
        count
    };
    let new = RecordFilter::new;
    for second in 0..40 {
        assert_eq!(count(&new().created_after(at(second))), 3 * (39 - second));
        assert_eq!(count(&new().created_after(before(at(second)))), 3 * (40 - second));
        assert_eq!(count(&new().created_before(at(second))), 3 * second);
        assert_eq!(count(&new().created_after(before(at(second))).created_before(at(second + 1))), 3);
        assert_eq!(count(&new().created_after(at(second)).created_before(at(second + 1))), 0);
        assert_eq!(count(&new().created_after(at(second)).created_before(at(second))), 0);
    }
    assert_eq!(
        count(
            &new()
                .created_after("2013-01-01T00:00:09Z".parse().unwrap())
                .created_before(support::time("2013-01-01 00:00:12"))
        ),
        6
    );
}

#[test]
fn several_terms_of_a_filter_mean_any_and_several_filters_mean_all() {
    let pool = support::pool_for(Need::Any);
    for flow in 0..4_u64 {
        for run in 0..4_u64 {
            for entity_type in [ORDERS, CUSTOMERS] {
                let key = |value: &String| Key::new(entity_type, value.clone());
                let values = [format!("{flow}-{run}"), format!("{run}")];
                let _ = pool.dedupe(Mode::Track, &values, key, &Origin::new(flow, run, "step")).unwrap();
            }
        }
    }
    let new = RecordFilter::new;
    // Per entity type, there are 16 values with two numbers, and 4 with one, which flow 0 brought first.
    for (filter, expected) in [
        (new(), 40),
        (new().flow_id(1_u64), 8),
        (new().flow_id(0_u64).flow_id(1_u64), 24),
        (new().flow_id(0_u64).flow_id(0_u64), 16),
        (new().flow_id(0_u64).flow_id("none"), 16),
        (new().flow_id(0_u64).flow_id(1_u64).flow_run_id(2_u64), 6),
        (new().flow_run_id(2_u64).flow_run_id(3_u64).entity_type_id(ORDERS), 10),
        (new().value("1-1").value("2").value("none"), 4),
        (new().value("1-1").value("2").entity_type_id(CUSTOMERS).flow_id(1_u64), 1),
        (new().step_id("step"), 40),
        (new().step_id("STEP"), 0),
        (new().step_id("ste"), 0),
        (new().entity_type_id(ORDERS).entity_type_id(CUSTOMERS), 40),
        (new().entity_type_id(99), 0),
    ] {
        assert_eq!(pool.count(&filter).unwrap(), expected, "{filter:?}");
        let scanned = pool.scan(&filter).unwrap().count();
        assert_eq!(scanned as u64, expected, "{filter:?}");
        assert_eq!(pool.records(&RecordQuery::new().filter(filter)).unwrap().meta.total, expected);
    }
}

#[test]
fn records_without_an_origin_match_no_filter_of_one() {
    let pool = support::pool_for(Need::Any);
    let file = "value,entity_type_id\nA-1,37\n";
    pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
    let key = |value: &&'static str| Key::new(ORDERS, *value);
    let _ = pool.dedupe(Mode::Track, &["A-2"], key, &Origin::none().with_run("run 1")).unwrap();
    let new = RecordFilter::new;
    let found = |filter: RecordFilter| {
        pool.scan(&filter).unwrap().map(|record| record.unwrap().value).collect::<Vec<_>>()
    };
    assert_eq!(found(new().flow_id("shop")), [""; 0]);
    assert_eq!(found(new().flow_run_id("run 1")), ["A-2"]);
    assert_eq!(found(new()), ["A-1", "A-2"]);
}

#[test]
fn deleting_by_a_filter_deletes_what_listing_by_it_shows() {
    let pool = pool_of(150);
    let origin = Origin::new("shop", "run 2", "read");
    let values: Vec<String> = (151..=170).map(|number| format!("A-{number}")).collect();
    let key = |value: &'_ String| Key::new(ORDERS, value.clone());
    let _ = pool.dedupe(Mode::Track, &values, key, &origin).unwrap();
    let run = RecordFilter::new().flow_run_id("run 2");
    assert_eq!(pool.delete_where(&run).unwrap(), 20);
    assert_eq!((pool.count(&run).unwrap(), pool.delete_where(&run).unwrap()), (0, 0));
    assert_eq!(ids(&support::records(&pool)), (1..=150).collect::<Vec<_>>());
    // A filter without a term deletes nothing, however it was made.
    for empty in
        [RecordFilter::new(), RecordFilter::default(), "".parse::<RecordQuery>().unwrap().into_filter()]
    {
        assert_eq!((pool.delete_where(&empty).unwrap(), pool.count(&empty).unwrap()), (0, 150));
    }
    let paged = "page=2&sort=-id&include=flow".parse::<RecordQuery>().unwrap().into_filter();
    assert_eq!(pool.delete_where(&paged).unwrap(), 0);
    assert_eq!(pool.count(&RecordFilter::all()).unwrap(), 150);
    // Terms narrow down `all`.
    assert_eq!(pool.delete_where(&RecordFilter::all().flow_run_id("run 2")).unwrap(), 0);
    assert_eq!(pool.delete_where(&RecordFilter::all()).unwrap(), 150);
    assert_eq!(support::records(&pool), []);
}

#[test]
fn a_scan_of_a_snapshot_keeps_the_store_open() {
    let directory = tempfile::TempDir::new().unwrap();
    let store = support::options().open(directory.path().join("store.redb")).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let values: Vec<String> = (0..200).map(|number| format!("A-{number}")).collect();
    support::track(&pool, &values);
    let scan = pool.snapshot().unwrap().scan(&RecordFilter::new()).unwrap();
    drop((store, pool));
    assert_eq!(scan.map(|record| record.unwrap().value).collect::<Vec<_>>(), values);
}
