//! Proves that the planner's answers are those of reading every record.
//!
//! Stores are built by dedupes, imports and deletions at small sizes, so that filters meet sealed segments, open
//! ones, half-written folds and unfolded tails. Each answer through a filter (pages, totals, counts, scans from
//! both ends) is held against `pool.scan` without a filter and plain loops over what it returns. Times in filters
//! hit the times of records exactly, or miss them by a microsecond. The plain loops serve [`crate::model`], too.

use std::time::Duration;

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    EntityTypeId, ImportOptions, ManualClock, Mode, Origin, Pool, Record, RecordFilter, RecordQuery,
    RecordSort, Timestamp,
};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support;
use crate::support::items::{Item, Row, csv_of, rows};

pub(crate) const TYPES: [u32; 3] = [37, 47, 54];

/// Every item that [`any_item`] makes: few enough that batches repeat each other.
pub(crate) fn all_items() -> impl Iterator<Item = Item> {
    (0..60).flat_map(|number| TYPES.map(|entity_type| item(entity_type, number)))
}

fn item(entity_type: u32, number: u8) -> Item {
    Item { entity_type: EntityTypeId::new(entity_type), value: value(number) }
}

/// Some values are such as parsers and trimmers like to break.
fn value(number: u8) -> String {
    match number {
        0 => "a,b".into(),
        1 => " spaced ".into(),
        2 => "quoted \"twice\"".into(),
        3 => "two\r\nlines".into(),
        4 => "=1+1".into(),
        5 => "Größe\0".into(),
        6 => "x".repeat(400),
        _ => format!("value {number}"),
    }
}

pub(crate) fn any_item() -> impl Strategy<Value = Item> + Clone {
    (select(TYPES.to_vec()), 0..60_u8).prop_map(|(entity_type, number)| item(entity_type, number))
}

/// Mostly a flow, a run and a step; sometimes parts of that, sometimes nothing.
pub(crate) fn any_origin() -> impl Strategy<Value = Origin> + Clone {
    (weighted(0.8, 0..3_u64), weighted(0.8, 0..5_u64), weighted(0.8, 0..2_u64)).prop_map(
        |(flow, run, step)| {
            let mut origin = Origin::none();
            if let Some(flow) = flow {
                origin = origin.with_flow(flow);
            }
            if let Some(run) = run {
                origin = origin.with_run(run);
            }
            if let Some(step) = step {
                origin = origin.with_step(step);
            }
            origin
        },
    )
}

/// A time at, just before or just after that of some record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boundary {
    record: Index,
    micros: i64,
}

impl Boundary {
    fn among(&self, times: &[Timestamp]) -> Timestamp {
        let time = if times.is_empty() {
            support::time("2013-01-01")
        } else {
            times[self.record.index(times.len())]
        };
        Timestamp::from_micros(time.as_micros() + self.micros)
    }
}

fn boundary() -> impl Strategy<Value = Boundary> + Clone {
    (any::<Index>(), -1..=1_i64).prop_map(|(record, micros)| Boundary { record, micros })
}

/// A filter, in terms that plain loops can hold records against.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    flows: Vec<u64>,
    runs: Vec<u64>,
    steps: Vec<u64>,
    entity_types: Vec<u32>,
    values: Vec<String>,
    after: Option<Boundary>,
    before: Option<Boundary>,
}

impl Filter {
    /// The store's filter, with the times of these records for boundaries.
    pub(crate) fn build(&self, times: &[Timestamp]) -> RecordFilter {
        let mut filter = RecordFilter::new();
        filter = self.flows.iter().fold(filter, |filter, id| filter.flow_id(*id));
        filter = self.runs.iter().fold(filter, |filter, id| filter.flow_run_id(*id));
        filter = self.steps.iter().fold(filter, |filter, id| filter.step_id(*id));
        filter = self.entity_types.iter().fold(filter, |filter, id| filter.entity_type_id(*id));
        filter = self.values.iter().fold(filter, RecordFilter::value);
        if let Some(after) = &self.after {
            filter = filter.created_after(after.among(times));
        }
        if let Some(before) = &self.before {
            filter = filter.created_before(before.among(times));
        }
        filter
    }

    /// As [`build`](Self::build), for a deletion: what names nothing is everything in so many words.
    pub(crate) fn build_to_delete(&self, times: &[Timestamp]) -> RecordFilter {
        let filter = self.build(times);
        if filter == RecordFilter::new() { RecordFilter::all() } else { filter }
    }

    /// Whether the filter takes a record: the specification's sentences, word for word.
    fn takes(&self, row: &Row, times: &[Timestamp]) -> bool {
        let any_of = |allowed: &[u64], id: Option<&str>| {
            allowed.is_empty() || id.is_some_and(|id| allowed.iter().any(|allowed| allowed.to_string() == id))
        };
        any_of(&self.flows, row.origin.flow().map(AsRef::as_ref))
            && any_of(&self.runs, row.origin.run().map(AsRef::as_ref))
            && any_of(&self.steps, row.origin.step().map(AsRef::as_ref))
            && (self.entity_types.is_empty() || self.entity_types.contains(&row.item.entity_type.get()))
            && (self.values.is_empty() || self.values.contains(&row.item.value))
            && self.after.is_none_or(|after| row.created_at > after.among(times))
            && self.before.is_none_or(|before| row.created_at < before.among(times))
    }

    /// The rows that the filter takes, in their order.
    pub(crate) fn select(&self, rows: &[Row], times: &[Timestamp]) -> Vec<Row> {
        rows.iter().filter(|row| self.takes(row, times)).cloned().collect()
    }
}

/// Any combination of filters, mostly of few, so that something is left; each may name what no record has.
pub(crate) fn any_filter() -> impl Strategy<Value = Filter> + Clone {
    let list = |id| prop_oneof![4 => Just(Vec::new()), 1 => vec(id, 1..3)];
    let types = prop_oneof![3 => Just(Vec::new()), 1 => vec(select(vec![37, 47, 54, 99]), 1..3)];
    let values = prop_oneof![4 => Just(Vec::new()), 1 => vec((0..64_u8).prop_map(value), 1..9)];
    let time = || weighted(0.2, boundary());
    (list(0..4_u64), list(0..6_u64), list(0..3_u64), types, values, time(), time()).prop_map(
        |(flows, runs, steps, entity_types, values, after, before)| Filter {
            flows,
            runs,
            steps,
            entity_types,
            values,
            after,
            before,
        },
    )
}

/// Sizes that put the ends of chunks, folds and segments at odd places.
pub(crate) const SIZES: [Sizes; 4] = [
    Sizes::SMALL,
    Sizes {
        segment_slots: 24,
        chunk_slots: 8,
        fold_entries: 5,
        fold_slices: 2,
        tails_max_entries: 9,
        early_seal_slots: 4,
    },
    Sizes {
        segment_slots: 150,
        chunk_slots: 50,
        fold_entries: 40,
        fold_slices: 16,
        tails_max_entries: 1_000,
        early_seal_slots: 25,
    },
    Sizes {
        segment_slots: 7,
        chunk_slots: 1,
        fold_entries: 30,
        fold_slices: 3,
        tails_max_entries: 20,
        early_seal_slots: 3,
    },
];

pub(crate) fn any_sizes() -> impl Strategy<Value = Sizes> + Clone {
    select(SIZES.to_vec())
}

pub(crate) fn any_sort() -> impl Strategy<Value = RecordSort> + Clone {
    select(vec![RecordSort::Ascending, RecordSort::Descending])
}

/// One step in the making of a store.
#[derive(Debug, Clone)]
enum Step {
    Track(Vec<Item>, Origin),
    /// Each item in a run of its own.
    TrackInRuns(Vec<Item>),
    Import(Vec<Item>),
    DeleteKeys(Vec<Item>),
    DeleteWhere(Filter),
    Clear,
    Advance(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (vec(any_item(), 0..40), any_origin()).prop_map(|(items, origin)| Step::Track(items, origin)),
        2 => vec(any_item(), 0..6).prop_map(Step::TrackInRuns),
        4 => vec(any_item(), 0..60).prop_map(Step::Import),
        2 => vec(any_item(), 0..20).prop_map(Step::DeleteKeys),
        2 => any_filter().prop_map(Step::DeleteWhere),
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
        Step::Track(items, origin) => drop(pool.dedupe(Mode::Track, items, Item::key, origin).unwrap()),
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
        Step::DeleteWhere(filter) => {
            let before = everything(pool);
            let times = times_of(&before);
            let chosen = filter.select(&before, &times);
            assert_eq!(pool.delete_where(&filter.build_to_delete(&times)).unwrap(), chosen.len() as u64);
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

/// Holds every way of asking against the rows that plain loops selected.
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
        sizes in any_sizes(),
        steps in vec(any_step(), 1..16),
        filters in vec((any_filter(), 1..30_u32), 1..12),
    ) {
        let clock = support::clock();
        let store = testing::in_memory(&support::options().clock(clock.clone()), sizes).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        for step in &steps {
            take(step, &pool, &clock);
        }
        let all = everything(&pool);
        let times = times_of(&all);
        for (filter, per_page) in &filters {
            check(&pool, &filter.build(&times), &filter.select(&all, &times), *per_page);
        }
    }
}

/// Every pair of neighbouring times is a boundary of its own, wherever the records lie.
#[test]
fn times_in_filters_are_strict_at_every_record() {
    for sizes in SIZES {
        let clock = support::clock();
        let store = testing::in_memory(&support::options().clock(clock.clone()), sizes).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        for (number, item) in all_items().enumerate() {
            // Runs of equal times, of every length from 1 to 5.
            if number % 5 <= number % 3 {
                clock.advance(Duration::from_micros(2));
            }
            let _ = pool.dedupe(Mode::Track, &[item], Item::key, &Origin::none()).unwrap();
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
    let pool = support::small_pool();
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
    let pool = support::small_pool();
    support::track(&pool, &["A-1", "A-2"]);
    for number in [3, 1 << 40, u64::MAX] {
        let page = pool.records(&RecordQuery::new().page(number).per_page(100)).unwrap();
        assert!(page.data.is_empty() && page.next_cursor.is_none());
        assert_eq!((page.meta.current_page, page.meta.total, page.meta.last_page), (number, 2, 1));
    }
}
