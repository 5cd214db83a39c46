//! Claims beside plain deduplication, and expiry: how much dearer it is to hold values first, and what dropping a tenth
//! of a large pool costs.
//!
//! What is compared is measured in turn within one run, so that the machine's moods hit both sides; the ratio of the
//! medians is printed.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a bench that fails may stop where it stands")]

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Fixture, RUN_RECORDS, Row, Rows, SIZES, Shape, csv_file, origin};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use datapool_store::{ImportOptions, Key, ManualClock, Mode, NewPool, StoreOptions, Timestamp};

const LEASE: Duration = Duration::from_mins(1);

/// Batches of 1,000 new records, durable on return: tracked at once, and claimed, then confirmed. Both go into one pool
/// in turn.
fn claim_and_confirm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claims/batches of 1,000");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(RUN_RECORDS as u64));
    for (size, name) in SIZES {
        let fixture = Fixture::imported(&Rows::stored(Shape::Random).batch(size));
        let mut fresh = Rows::fresh(Shape::Random);
        let (mut run, mut tracked, mut confirmed) = (0, Vec::new(), Vec::new());
        let mut both = || {
            run += 1;
            let (one, other, by) = (fresh.batch(RUN_RECORDS), fresh.batch(RUN_RECORDS), origin(run));
            tracked.push(timed(|| fixture.track(&one, &by)));
            confirmed.push(timed(|| {
                let mut claim = fixture.pool.claim(&other, Row::key, &by, LEASE).unwrap();
                assert_eq!(claim.confirm().unwrap().confirmed_count(), other.len());
            }));
            (*tracked.last().unwrap(), *confirmed.last().unwrap())
        };
        group.bench_function(BenchmarkId::new("filter and track", name), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| both().0).sum());
        });
        group.bench_function(BenchmarkId::new("claim and confirm", name), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| both().1).sum());
        });
        if !tracked.is_empty() {
            let (rounds, tracked, confirmed) = (tracked.len(), median(tracked), median(confirmed));
            let ratio = confirmed.as_secs_f64() / tracked.as_secs_f64();
            println!(
                "{name}: {tracked:.2?} and {confirmed:.2?}, {ratio:.2} times, medians of {rounds} in turn\n"
            );
        }
    }
}

/// A pool of ten segments of 2^20 records, imported a day apart; then a tenth after the other expires.
fn expiry(criterion: &mut Criterion) {
    const SEGMENT: usize = 1 << 20;
    const SEGMENTS: u32 = 10;
    const DAY: Duration = Duration::from_hours(24);
    let mut group = criterion.benchmark_group("claims/expiry of 10M");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("drop 10 %", |bencher| {
        let directory = tempfile::Builder::new().prefix("datapool-bench-").tempdir().unwrap();
        let clock = ManualClock::starting_at(Timestamp::from_micros(1_735_689_600_000_000));
        let options = StoreOptions::new().hash_key(*b"a bench hash key").clock(clock.clone());
        let store = options.open(directory.path().join("pools.redb")).unwrap();
        let mut rows = Rows::stored(Shape::Random);
        let mut name = 0;
        let mut build = || {
            name += 1;
            let new = NewPool::new(format!("bench {name}")).retention(DAY * (SEGMENTS + 1));
            let pool = store.create_pool(new).unwrap();
            let mut kept = Vec::new();
            for _ in 0..SEGMENTS {
                let part = rows.batch(SEGMENT);
                pool.import_csv(csv_file(&part).as_bytes(), &ImportOptions::new()).unwrap();
                clock.advance(DAY);
                kept = part.into_iter().take(100_000).collect();
            }
            // The last row is still to come: a segment ends where the next one begins.
            let last = Key::new(37, "the open segment");
            let _ = pool.dedupe(Mode::Track, &[last], Key::clone, &origin(0)).unwrap();
            (pool, kept)
        };
        let (mut pool, mut kept) = build();
        let mut left = SEGMENTS - 1;
        let (mut drops, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                if left == 0 {
                    store.delete_pool(pool.id()).unwrap();
                    (pool, kept) = build();
                    left = SEGMENTS - 1;
                }
                left -= 1;
                let check = |kept: &[Row]| timed(|| {
                    for row in kept {
                        assert!(black_box(pool.contains(row.key()).unwrap()));
                    }
                });
                before.push(check(&kept));
                clock.advance(DAY);
                let mut report = None;
                let time = timed(|| report = Some(pool.prune().unwrap()));
                assert_eq!(report.unwrap().segments, 1);
                after.push(check(&kept));
                drops.push(time);
                total += time;
            }
            total
        });
        let slowest = drops.iter().max().copied().unwrap_or_default();
        let each = |times: Vec<Duration>| median(times) / 100_000;
        println!(
            "{} times a segment: median {:.1?}, slowest {slowest:.1?}; a check took {:.0?} before and {:.0?} after\n",
            drops.len(),
            median(drops),
            each(before),
            each(after)
        );
    });
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

criterion_group!(benches, claim_and_confirm, expiry);
criterion_main!(benches);
