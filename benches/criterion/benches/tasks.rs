//! Single durable claims and confirmations: tasks of an async runtime compared with blocking threads.
//!
//! Both are measured in turn within one run, and the ratio of the medians is printed.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a bench that fails may stop where it stands")]

mod common;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Fixture, Row, Rows, Shape, median, origin};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

const LEASE: Duration = Duration::from_mins(1);
/// The number of values per round.
const VALUES: usize = 8_000;
const THREADS: usize = 64;
const TASKS: usize = 1_000;

fn single_claims(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tasks/single claims and confirmations");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(VALUES as u64));
    let fixture = Fixture::imported(&Rows::stored(Shape::Random).batch(1_000_000));
    let mut fresh = Rows::fresh(Shape::Random);
    let (mut by_threads, mut by_tasks) = (Vec::new(), Vec::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut both = || {
        by_threads.push(threads(&fixture, &fresh.batch(VALUES)));
        by_tasks.push(tasks(&runtime, &fixture, fresh.batch(VALUES)));
        (*by_threads.last().unwrap(), *by_tasks.last().unwrap())
    };
    group.bench_function("64 threads", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| both().0).sum());
    });
    group.bench_function("1,000 tasks", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| both().1).sum());
    });
    if !by_threads.is_empty() {
        let rounds = by_threads.len();
        let [threads, tasks] = [median(by_threads), median(by_tasks)];
        let ratio = threads.as_secs_f64() / tasks.as_secs_f64();
        let values = f64::from(u32::try_from(VALUES).unwrap());
        let a_second = |time: Duration| values / time.as_secs_f64();
        println!(
            "threads {:.0} a second, tasks {:.0}: {ratio:.2} times, medians of {rounds} in turn\n",
            a_second(threads),
            a_second(tasks)
        );
    }
}

fn threads(fixture: &Fixture, rows: &[Row]) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for own in rows.chunks(rows.len() / THREADS) {
            scope.spawn(move || {
                for row in own.chunks(1) {
                    let mut claim = fixture.pool.claim(row, Row::key, &origin(1), LEASE).unwrap();
                    assert_eq!(claim.confirm().unwrap().confirmed_count(), 1);
                }
            });
        }
    });
    start.elapsed()
}

fn tasks(runtime: &tokio::runtime::Runtime, fixture: &Fixture, rows: Vec<Row>) -> Duration {
    let (pool, rows) = (fixture.pool.to_async(), Arc::new(rows));
    let start = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|number| {
                let (pool, rows) = (pool.clone(), Arc::clone(&rows));
                runtime.spawn(async move {
                    let own = rows.len() / TASKS;
                    for row in rows.chunks(1).skip(number * own).take(own) {
                        let mut claim = pool.claim(row, Row::key, &origin(1), LEASE).await.unwrap();
                        assert_eq!(claim.confirm().await.unwrap().confirmed_count(), 1);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    start.elapsed()
}

criterion_group!(benches, single_claims);
criterion_main!(benches);
