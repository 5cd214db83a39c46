//! Proves that the planner has the same answers as reading every record.
//!
//! Stores are built by dedupes, imports and deletions with small sizes, so that filters apply to sealed
//! segments, open ones, half-written folds and unfolded tails. Each answer with a filter (pages, totals,
//! counts, scans from both ends) is compared with `pool.scan` without a filter and plain loops over its
//! records. Times in filters equal the times of records, or differ by a microsecond.

use std::time::Duration;

use datapool_store::{
    ImportOptions, ManualClock, Mode, Origin, Pool, PoolUpdate, Record, RecordFilter, RecordQuery,
    RecordSort, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::items::{Item, Row, csv_of, rows};
use crate::support::{self, Need, Numbers, Place};
use crate::workload::random::{SIZES, TYPES, VALUES, all_items, filter, item, origin};

fn any_item() -> impl Strategy<Value = Item> + Clone {
    (0..TYPES.len() as u64, 0..60_u64).prop_map(|(entity_type, value)| item(entity_type * VALUES + value))
}

/// Generates the bytes from which a filter or an origin is made once the contents are known.
fn any_choice() -> impl Strategy<Value = Vec<u8>> + Clone {
    vec(any::<u8>(), 24)
}

/// A step in building a store.
#[derive(Debug, Clone)]
enum Step {
    Track(Vec<Item>, Vec<u8>),
    /// Tracks each item in its own run.
    TrackInRuns(Vec<Item>),
    Import(Vec<Item>),
    DeleteKeys(Vec<Item>),
    DeleteWhere(Vec<u8>),
    Clear,
    Advance(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (vec(any_item(), 0..40), any_choice()).prop_map(|(items, choice)| Step::Track(items, choice)),
        2 => vec(any_item(), 0..6).prop_map(Step::TrackInRuns),
        4 => vec(any_item(), 0..60).prop_map(Step::Import),
        2 => vec(any_item(), 0..20).prop_map(Step::DeleteKeys),
        2 => any_choice().prop_map(Step::DeleteWhere),
        1 => Just(Step::Clear),
        5 => (1..4_u64).prop_map(Step::Advance),
    ]
}

fn times_of(rows: &[Row]) -> Vec<Timestamp> {
    rows.iter().map(|row| row.created_at).collect()
}

fn everything(pool: &Pool) -> Vec<Row> {
    let records: Vec<Record> = pool.scan(&RecordFilter::new()).unwrap().map(Result::unwrap).collect();
    rows(&records)
}

fn take(step: &Step, pool: &Pool, clock: &ManualClock) {
    match step {
        Step::Track(items, choice) => {
            let origin = origin(&mut Numbers::given(choice));
            drop(pool.dedupe(Mode::Track, items, Item::key, &origin).unwrap());
        }
        Step::TrackInRuns(items) => {
            for (run, item) in (0_u64..).zip(items) {
                let origin = Origin::new(1, run, 0);
                drop(pool.dedupe(Mode::Track, std::slice::from_ref(item), Item::key, &origin).unwrap());
            }
        }
        Step::Import(items) => {
            drop(pool.import_csv(csv_of(items).as_bytes(), &ImportOptions::new()).unwrap());
        }
        Step::DeleteKeys(items) => {
            pool.delete_keys(&items.iter().map(Item::key).collect::<Vec<_>>()).unwrap();
        }
        Step::DeleteWhere(choice) => {
            let before = everything(pool);
            let filter = filter(&mut Numbers::given(choice), &times_of(&before));
            let chosen = filter.select(&before);
            assert_eq!(pool.delete_where(&filter.build_to_delete()).unwrap(), chosen.len() as u64);
            let left: Vec<Row> = before.into_iter().filter(|row| !chosen.contains(row)).collect();
            assert_eq!(everything(pool), left);
        }
        Step::Clear => {
            let before = everything(pool).len();
            assert_eq!(pool.clear().unwrap(), before as u64);
        }
        Step::Advance(micros) => clock.advance(Duration::from_micros(*micros)),
    }
}

/// Compares every way of querying with the rows that plain loops selected.
fn check(pool: &Pool, filter: &RecordFilter, expected: &[Row], per_page: u32) {
    assert_eq!(pool.count(filter).unwrap(), expected.len() as u64, "count of {filter:?}");
    let forward: Vec<Record> = pool.scan(filter).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows(&forward), expected, "scan of {filter:?}");
    let mut backward: Vec<Record> = pool.scan(filter).unwrap().rev().map(Result::unwrap).collect();
    backward.reverse();
    assert_eq!(forward, backward, "scan of {filter:?} from its end");
    for sort in [RecordSort::Ascending, RecordSort::Descending] {
        let query = RecordQuery::new().filter(filter.clone()).sort(sort).per_page(per_page);
        let mut listed = Vec::new();
        for page in 1.. {
            let page = pool.records(&query.clone().page(page)).unwrap();
            assert_eq!(page.meta.total, expected.len() as u64, "total of {query:?}");
            if page.data.is_empty() {
                break;
            }
            listed.extend(rows(&page.data));
        }
        if sort == RecordSort::Descending {
            listed.reverse();
        }
        assert_eq!(listed, expected, "pages of {query:?}");
    }
}

proptest! {
    #![proptest_config(crate::model::cases(24, 96))]

    #[test]
    fn every_filter_takes_what_plain_loops_over_a_full_scan_take(
        sizes in select(SIZES.to_vec()),
        steps in vec(any_step(), 1..16),
        filters in vec((any_choice(), 1..30_u32), 1..12),
    ) {
        let clock = support::clock();
        let store = support::embedded::in_memory(&support::options().clock(clock.clone()), sizes).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        for step in &steps {
            take(step, &pool, &clock);
        }
        let all = everything(&pool);
        let times = times_of(&all);
        for (choice, per_page) in &filters {
            let filter = filter(&mut Numbers::given(choice), &times);
            check(&pool, &filter.build(), &filter.select(&all), *per_page);
        }
    }
}

/// Every pair of neighbouring times is a separate boundary, wherever the records are.
#[test]
fn times_in_filters_are_strict_at_every_record() {
    for sizes in SIZES {
        let clock = support::clock();
        let store = support::embedded::in_memory(&support::options().clock(clock.clone()), sizes).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        for (number, item) in all_items().iter().take(180).enumerate() {
            // Sequences of 1 to 5 equal times.
            if number % 5 <= number % 3 {
                clock.advance(Duration::from_micros(2));
            }
            let _ = pool.dedupe(Mode::Track, std::slice::from_ref(item), Item::key, &Origin::none()).unwrap();
        }
        let all = everything(&pool);
        let ends =
            all.first().unwrap().created_at.as_micros() - 2..=all.last().unwrap().created_at.as_micros() + 2;
        for time in ends.map(Timestamp::from_micros) {
            let after = all.iter().filter(|row| row.created_at > time).count() as u64;
            let before = all.iter().filter(|row| row.created_at < time).count() as u64;
            let at = all.len() as u64 - after - before;
            let (earlier, later) = (time.as_micros() - 1, time.as_micros() + 1);
            let just = RecordFilter::new()
                .created_after(Timestamp::from_micros(earlier))
                .created_before(Timestamp::from_micros(later));
            assert_eq!(pool.count(&RecordFilter::new().created_after(time)).unwrap(), after);
            assert_eq!(pool.count(&RecordFilter::new().created_before(time)).unwrap(), before);
            assert_eq!(pool.count(&just).unwrap(), at);
            assert_eq!(pool.count(&RecordFilter::new().created_after(time).created_before(time)).unwrap(), 0);
        }
    }
}

#[test]
fn the_ends_of_time_are_boundaries_like_any_other() {
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["A-1", "A-2"]);
    let (first, last) = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
    let count = |filter: RecordFilter| pool.count(&filter).unwrap();
    assert_eq!(count(RecordFilter::new().created_after(first)), 2);
    assert_eq!(count(RecordFilter::new().created_before(last)), 2);
    assert_eq!(count(RecordFilter::new().created_before(first)), 0);
    assert_eq!(count(RecordFilter::new().created_after(last)), 0);
    assert_eq!(count(RecordFilter::new().created_after(last).created_before(first)), 0);
}

#[test]
fn a_page_far_past_the_end_is_empty_and_keeps_its_number() {
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["A-1", "A-2"]);
    for number in [3, 1 << 40, u64::MAX] {
        let page = pool.records(&RecordQuery::new().page(number).per_page(100)).unwrap();
        assert!(page.data.is_empty() && page.next_cursor.is_none());
        assert_eq!((page.meta.current_page, page.meta.total, page.meta.last_page), (number, 2, 1));
    }
}

/// The watermark moves into the first segment.
#[test]
fn times_in_filters_are_strict_at_each_block_of_the_time_index() {
    const RECORDS: u64 = 26_000;
    let place = Place::new();
    let micros = |id: u64| support::time("2012-01-01").saturating_add(Duration::from_micros(10 * id));
    let rows: String = (1..=RECORDS).map(|id| format!("v{id},37,{}\n", micros(id))).collect();
    let file = format!("value,entity_type_id,created_at\n{rows}");
    let check = |pool: &Pool, dead: u64| {
        let ends = (0..=RECORDS).step_by(4_096).flat_map(|slot| [slot, slot + 1, slot + 2]);
        let others = [1, 2_000, 5_999, 6_000, 6_001, 6_002, 10_000, 14_000, 22_000, RECORDS];
        for id in ends.chain(others).filter(|id| (1..=RECORDS).contains(id)) {
            let count = |filter: RecordFilter| pool.count(&filter).unwrap();
            let (time, later) = (micros(id), micros(id).saturating_add(Duration::from_micros(1)));
            let (below, through) = ((id - 1).saturating_sub(dead), id.saturating_sub(dead));
            assert_eq!(count(RecordFilter::new().created_before(time)), below, "before {id}, {dead} dead");
            assert_eq!(
                count(RecordFilter::new().created_before(later)),
                through,
                "through {id}, {dead} dead"
            );
            assert_eq!(count(RecordFilter::new().created_after(time)), RECORDS - id.max(dead), "after {id}");
        }
    };
    for opened in 0..2 {
        let store =
            support::embedded::open(&place.path, &support::options(), support::FOUR_TIME_BLOCKS).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        if opened == 0 {
            let options = ImportOptions::new().created_at_column("created_at");
            assert_eq!(pool.import_csv(file.as_bytes(), &options).unwrap().added, RECORDS);
        }
        check(&pool, if opened == 0 { 0 } else { 6_000 });
        store.update_pool(pool.id(), PoolUpdate::new().capacity(RECORDS - 6_000)).unwrap();
        check(&pool, 6_000);
        assert_eq!(store.verify().unwrap().findings, []);
    }
}
