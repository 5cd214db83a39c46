//! Checks if values are in the pool: one by one and in batches, present and absent, in random order.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that fails may stop where it stands"
)]

mod common;

use std::hint::black_box;

use common::{Fixture, Random, Row, Rows, SIZES, Shape};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datapool_store::Key;

/// The number of keys in a batch.
const BATCH_KEYS: usize = 10_000;

fn checks(criterion: &mut Criterion) {
    for shape in Shape::ALL {
        for (size, name) in SIZES {
            let rows = Rows::stored(shape).batch(size);
            let fixture = Fixture::imported(&rows);
            let mut group = criterion.benchmark_group(format!("check/{}", shape.name()));
            group.sample_size(20);
            for (kind, asked) in [("present", rows), ("absent", Rows::fresh(shape).batch(size))] {
                let asked = shuffled(asked);
                one_by_one(&mut group, BenchmarkId::new(format!("contains {kind}"), name), &fixture, &asked);
                in_batches(
                    &mut group,
                    BenchmarkId::new(format!("contains_many {kind}"), name),
                    &fixture,
                    &asked,
                );
            }
        }
    }
}

/// Shuffles rows, so that the order of the keys is independent of where they are stored.
fn shuffled(mut rows: Vec<Row>) -> Vec<Row> {
    Random(3).shuffle(&mut rows);
    rows
}

fn one_by_one(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, fixture: &Fixture, rows: &[Row]) {
    let mut keys = rows.iter().map(Row::key).cycle();
    group.throughput(Throughput::Elements(1));
    group.bench_function(id, |bencher| {
        bencher.iter(|| black_box(fixture.pool.contains(keys.next().unwrap()).unwrap()));
    });
}

fn in_batches(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, fixture: &Fixture, rows: &[Row]) {
    let keys: Vec<Key<'_>> = rows.iter().map(Row::key).collect();
    let mut batches = keys.chunks_exact(BATCH_KEYS).cycle();
    group.throughput(Throughput::Elements(BATCH_KEYS as u64));
    group.bench_function(id, |bencher| {
        bencher.iter(|| black_box(fixture.pool.contains_many(batches.next().unwrap()).unwrap()));
    });
}

criterion_group!(benches, checks);
criterion_main!(benches);
