//! Listings: exact totals, and pages from the middle.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that fails may stop where it stands"
)]

mod common;

use std::hint::black_box;

use common::{Fixture, RUN_RECORDS, Random, Rows, SIZES, Shape, flow, step};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datapool_store::{Pool, RecordFilter, RecordQuery};

/// The number of records per page.
const PER_PAGE: u32 = 50;

fn runs_of_1000_records(criterion: &mut Criterion) {
    for shape in Shape::ALL {
        listings(criterion, shape.name(), shape, RUN_RECORDS);
    }
}

fn one_run_per_record(criterion: &mut Criterion) {
    listings(criterion, "one run per record", Shape::Random, 1);
}

fn listings(criterion: &mut Criterion, data_set: &str, shape: Shape, run_records: usize) {
    for (size, name) in SIZES {
        let rows = Rows::stored(shape).batch(size);
        let fixture = Fixture::tracked(&rows, run_records);
        let pool = &fixture.pool;
        let mut group = criterion.benchmark_group(format!("listing/{data_set}"));
        group.sample_size(20).throughput(Throughput::Elements(1));

        let id = |what: &str| BenchmarkId::new(what, name);
        middle_page(&mut group, id("page of all"), pool, &RecordFilter::new());
        middle_page(&mut group, id("page by flow, step, type"), pool, &one_step());
        middle_page(&mut group, id("page by flows, steps, types"), pool, &many_steps());
        group.bench_function(id("count by flow, step, type"), |bencher| {
            bencher.iter(|| black_box(pool.count(&one_step()).unwrap()));
        });

        let mut random = Random(3);
        group.bench_function(id("page by value"), |bencher| {
            bencher.iter(|| {
                let query = RecordQuery::new().value(&rows[random.below(size)].value);
                black_box(pool.records(&query).unwrap())
            });
        });
        let runs = size / run_records;
        group.bench_function(id("page by run"), |bencher| {
            bencher.iter(|| {
                let query = RecordQuery::new().flow_run_id(format!("run-{}", random.below(runs)));
                black_box(pool.records(&query).unwrap())
            });
        });
    }
}

/// Returns a filter for one step of one flow and one entity type: 1 record in 360.
fn one_step() -> RecordFilter {
    RecordFilter::new().flow_id(flow(7)).step_id(step(7)).entity_type_id(37)
}

/// Returns a filter for five of twenty flows, two of three steps of each, and three of six entity types: 1
/// record in 12.
fn many_steps() -> RecordFilter {
    let flows = [1, 5, 9, 13, 17];
    let filter = RecordFilter::new().entity_type_id(37).entity_type_id(54).entity_type_id(68);
    let filter = flows.into_iter().fold(filter, |filter, run| filter.flow_id(flow(run)));
    flows.into_iter().fold(filter, |filter, run| filter.step_id(step(run)).step_id(step(run + 20)))
}

/// Measures the middle page of all matches, with the exact total.
fn middle_page(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    pool: &Pool,
    filter: &RecordFilter,
) {
    let total = pool.count(filter).unwrap();
    assert!(total > 0, "{filter:?} matches nothing");
    let page = total / u64::from(PER_PAGE) / 2 + 1;
    let query = RecordQuery::new().filter(filter.clone()).per_page(PER_PAGE).page(page);
    group.bench_function(id, |bencher| bencher.iter(|| black_box(pool.records(&query).unwrap())));
}

criterion_group!(benches, runs_of_1000_records, one_run_per_record);
criterion_main!(benches);
