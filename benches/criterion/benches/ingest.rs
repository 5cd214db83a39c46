//! Ingest: bulk import, batches of 1,000 into a large pool, and single durable inserts.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a bench that fails may stop where it stands")]

mod common;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use common::{Fixture, RUN_RECORDS, Row, Rows, SIZES, Shape, csv_file, origin, timed};
use criterion::{
    BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use datapool_store::{ImportOptions, Origin};

/// The number of threads that insert concurrently.
const THREADS: usize = 16;
/// The number of inserts that each thread makes in a round.
const ROUND_INSERTS: usize = 50;

/// Imports all rows into an empty pool, from memory, in one commit with all indexes.
fn bulk_import(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest/bulk import");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for shape in Shape::ALL {
        for (size, name) in SIZES {
            let file = csv_file(&Rows::stored(shape).batch(size));
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new(shape.name(), name), |bencher| {
                let import = |fixture: Fixture| {
                    black_box(fixture.pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap());
                    fixture
                };
                bencher.iter_batched(Fixture::empty, import, BatchSize::PerIteration);
            });
        }
    }
}

/// Durable runs of 1,000 new records, in one batch each. The pool grows while it is measured: at 1M, the
/// batches seal its first segment and fill the next.
fn batches_of_1000(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest/batches of 1,000");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(8));
    group.throughput(Throughput::Elements(RUN_RECORDS as u64));
    for shape in Shape::ALL {
        for (size, name) in SIZES {
            let mut inserts = Inserts::into_pool_of(shape, size);
            group.bench_function(BenchmarkId::new(shape.name(), name), |bencher| {
                bencher.iter_custom(|batches| (0..batches).map(|_| inserts.batch(RUN_RECORDS)).sum());
            });
            inserts.print_slowest(shape.name(), name);
        }
    }
}

/// Durable calls with one new record each, each with its own run.
fn one_record_one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest/single, 1 thread");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for (size, name) in SIZES {
        let mut inserts = Inserts::into_pool_of(Shape::Random, size);
        group.bench_function(BenchmarkId::new("one run per record", name), |bencher| {
            bencher.iter_custom(|calls| (0..calls).map(|_| inserts.batch(1)).sum());
        });
        inserts.print_slowest("single", name);
    }
}

/// The same from 16 threads concurrently, so that callers share commits.
fn one_record_16_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest/single, 16 threads");
    group.sample_size(10).throughput(Throughput::Elements((THREADS * ROUND_INSERTS) as u64));
    for (size, name) in SIZES {
        let mut inserts = Inserts::into_pool_of(Shape::Random, size);
        group.bench_function(BenchmarkId::new("one run per record", name), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| inserts.concurrent_round()).sum());
        });
        inserts.print_slowest("16 threads", name);
    }
}

/// A pool, the new rows to insert, and the time of the slowest call so far.
struct Inserts {
    fixture: Fixture,
    fresh: Rows,
    runs: usize,
    slowest: Duration,
}

impl Inserts {
    fn into_pool_of(shape: Shape, size: usize) -> Self {
        let fixture = Fixture::imported(&Rows::stored(shape).batch(size));
        Self { fixture, fresh: Rows::fresh(shape), runs: 0, slowest: Duration::ZERO }
    }

    /// Tracks one batch with its own run. Returns the time of the call.
    fn batch(&mut self, count: usize) -> Duration {
        let (rows, origin) = self.next_run(count);
        let time = timed(|| self.fixture.track(&rows, &origin));
        self.slowest = self.slowest.max(time);
        time
    }

    /// Tracks one record per call from many threads. Returns the total time.
    fn concurrent_round(&mut self) -> Duration {
        let work: Vec<Vec<(Vec<Row>, Origin)>> =
            (0..THREADS).map(|_| (0..ROUND_INSERTS).map(|_| self.next_run(1)).collect()).collect();
        let fixture = &self.fixture;
        let start = Instant::now();
        let slowest = thread::scope(|scope| {
            let insert_all = |calls: &[(Vec<Row>, Origin)]| {
                calls.iter().map(|(rows, origin)| timed(|| fixture.track(rows, origin))).max()
            };
            let threads: Vec<_> = work.iter().map(|calls| scope.spawn(move || insert_all(calls))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).max()
        });
        let time = start.elapsed();
        self.slowest = self.slowest.max(slowest.unwrap_or_default());
        time
    }

    fn next_run(&mut self, count: usize) -> (Vec<Row>, Origin) {
        self.runs += 1;
        (self.fresh.batch(count), origin(self.runs))
    }

    fn print_slowest(&self, data_set: &str, size: &str) {
        // Nothing was measured if a filter on the command line excluded this bench.
        if self.runs > 0 {
            println!("{data_set}/{size}: the slowest of {} calls took {:.1?}\n", self.runs, self.slowest);
        }
    }
}

criterion_group!(benches, bulk_import, batches_of_1000, one_record_one_thread, one_record_16_threads);
criterion_main!(benches);
