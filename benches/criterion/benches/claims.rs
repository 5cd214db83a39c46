//! The cost of claims compared with plain deduplication, and of expiring a tenth of a large pool.
//!
//! Both sides of a comparison are measured in turn within one run, so that changes in the machine's speed
//! affect both. The ratio of the medians is printed.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a bench that fails may stop where it stands")]

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{Fixture, RUN_RECORDS, Row, Rows, SIZES, Shape, csv_file, median, origin, timed};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use datapool_store::{
    DataPoolStore, ImportOptions, ManualClock, Mode, NewPool, Pool, RecordFilter, StoreOptions, Timestamp,
};
use tempfile::TempDir;

const LEASE: Duration = Duration::from_mins(1);

/// The length of a result in bytes.
const RESULT_BYTES: usize = 200;

/// Durable batches of 1,000 new records, in three ways: tracked at once; claimed, then confirmed; and
/// claimed, then confirmed with results. All three write to the same pool in turn.
fn claim_and_confirm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claims/batches of 1,000");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(RUN_RECORDS as u64));
    for (size, name) in SIZES {
        let fixture = Fixture::imported(&Rows::stored(Shape::Random).batch(size));
        let mut fresh = Rows::fresh(Shape::Random);
        let (mut run, mut tracked, mut confirmed) = (0, Vec::new(), Vec::new());
        let (mut ends, mut ends_with_results) = (Vec::new(), Vec::new());
        let mut all = || {
            run += 1;
            let (one, other, by) = (fresh.batch(RUN_RECORDS), fresh.batch(RUN_RECORDS), origin(run));
            tracked.push(timed(|| fixture.track(&one, &by)));
            confirmed.push(timed(|| {
                let mut claim = fixture.pool.claim(&other, Row::key, &by, LEASE).unwrap();
                ends.push(timed(|| assert_eq!(claim.confirm().unwrap().confirmed_count(), other.len())));
            }));
            let third = fresh.batch(RUN_RECORDS);
            let with_results = timed(|| {
                let mut claim = fixture.pool.claim(&third, Row::key, &by, LEASE).unwrap();
                ends_with_results.push(timed(|| {
                    let confirmation = claim.confirm_with(|_| Some([7; RESULT_BYTES])).unwrap();
                    assert_eq!(confirmation.confirmed_count(), third.len());
                }));
            });
            (*tracked.last().unwrap(), *confirmed.last().unwrap(), with_results)
        };
        group.bench_function(BenchmarkId::new("filter and track", name), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| all().0).sum());
        });
        group.bench_function(BenchmarkId::new("claim and confirm", name), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| all().1).sum());
        });
        group.bench_function(BenchmarkId::new("claim and confirm with results", name), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| all().2).sum());
        });
        if !tracked.is_empty() {
            let (rounds, tracked, confirmed) = (tracked.len(), median(tracked), median(confirmed));
            let ratio = confirmed.as_secs_f64() / tracked.as_secs_f64();
            println!(
                "{name}: {tracked:.2?} and {confirmed:.2?}, {ratio:.2} times, medians of {rounds} in turn"
            );
            let (without, with) = (median(ends), median(ends_with_results));
            let ratio = with.as_secs_f64() / without.as_secs_f64();
            println!(
                "confirming alone: {without:.2?}; with results of {RESULT_BYTES} bytes {with:.2?}, {ratio:.2} times\n"
            );
        }
    }
}

/// A pool of ten segments of 2^20 records, imported a day apart. Then one tenth after the other expires. Its
/// space is reclaimed in turn by `prune` and by the writes of another pool.
///
/// The file is four times as large as the cache, so the pages of the oldest segments are read from the file,
/// as in real use.
fn expiry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claims/expiry of 10M");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_nanos(1));
    group.bench_function("the first count after 10 % expired", |bencher| {
        let mut aged = AgedPool::build();
        bencher.iter_custom(|rounds| (0..rounds).map(|_| aged.expire_a_segment()).sum());
        aged.print();
    });
}

/// The number of checks that are timed.
const CHECKS: u32 = 100_000;

struct AgedPool {
    store: DataPoolStore,
    clock: ManualClock,
    pool: Pool,
    /// Another pool of the store, and the rows that are written to it.
    busy: Pool,
    fresh: Rows,
    /// Rows of the pool that do not expire.
    kept: Vec<Row>,
    left: u32,
    built: u32,
    times: Times,
    _directory: TempDir,
}

#[derive(Default)]
struct Times {
    first_counts: Vec<Duration>,
    prunes: Vec<Duration>,
    slowest_writes: Vec<Duration>,
    checks_before: Vec<Duration>,
    checks_after: Vec<Duration>,
}

impl AgedPool {
    const SEGMENT: usize = 1 << 20;
    const SEGMENTS: u32 = 10;
    const DAY: Duration = Duration::from_hours(24);

    fn build() -> Self {
        let directory = tempfile::Builder::new().prefix("datapool-bench-").tempdir().unwrap();
        let clock = ManualClock::starting_at(Timestamp::from_micros(1_735_689_600_000_000));
        let options = StoreOptions::new().hash_key(*b"a bench hash key").clock(clock.clone());
        let store = options.open(directory.path().join("pools.redb")).unwrap();
        let busy = store.get_or_create_pool("busy").unwrap();
        let mut aged = Self {
            pool: busy.clone(),
            store,
            clock,
            busy,
            fresh: Rows::fresh(Shape::Random),
            kept: Vec::new(),
            left: 0,
            built: 0,
            times: Times::default(),
            _directory: directory,
        };
        aged.fill();
        aged
    }

    fn fill(&mut self) {
        self.built += 1;
        let new = NewPool::new(format!("bench {}", self.built)).retention(Self::DAY * (Self::SEGMENTS + 1));
        self.pool = self.store.create_pool(new).unwrap();
        let mut rows = Rows::stored(Shape::Random);
        for _ in 0..Self::SEGMENTS {
            let part = rows.batch(Self::SEGMENT);
            self.pool.import_csv(csv_file(&part).as_bytes(), &ImportOptions::new()).unwrap();
            self.clock.advance(Self::DAY);
            self.kept = part.into_iter().take(CHECKS as usize).collect();
        }
        self.left = Self::SEGMENTS - 1;
    }

    /// Returns the time of the first count that no longer includes the expired segment.
    fn expire_a_segment(&mut self) -> Duration {
        if self.left == 0 {
            self.store.delete_pool(self.pool.id()).unwrap();
            self.fill();
        }
        self.left -= 1;
        let checked = self.check();
        self.times.checks_before.push(checked);
        self.clock.advance(Self::DAY);
        let live = u64::from(self.left + 1) * Self::SEGMENT as u64;
        let first_count =
            timed(|| assert_eq!(black_box(self.pool.count(&RecordFilter::new()).unwrap()), live));
        self.times.first_counts.push(first_count);
        if self.left.is_multiple_of(2) {
            let mut segments = 0;
            self.times.prunes.push(timed(|| segments = self.pool.prune().unwrap().segments));
            assert_eq!(segments, 1);
        } else {
            let write = |row: Row| {
                timed(|| {
                    let _ = black_box(self.busy.dedupe(Mode::Track, &[row], Row::key, &origin(0)).unwrap());
                })
            };
            let slowest = self.fresh.batch(50).into_iter().map(write).max();
            self.times.slowest_writes.extend(slowest);
            assert_eq!(self.pool.prune().unwrap().segments, 0, "the writes left something");
        }
        let checked = self.check();
        self.times.checks_after.push(checked);
        first_count
    }

    /// Returns the time of a check for a record that does not expire.
    fn check(&self) -> Duration {
        let all =
            || self.kept.iter().for_each(|row| assert!(black_box(self.pool.contains(row.key()).unwrap())));
        timed(all) / CHECKS
    }

    fn print(self) {
        let Times { first_counts, prunes, slowest_writes, checks_before, checks_after } = self.times;
        let slowest = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
        println!("segments that expired: {}", first_counts.len());
        println!("prune: median {:.1?}, slowest {:.1?}", median(prunes.clone()), slowest(&prunes));
        println!("without it, the slowest of 50 writes of another pool: {:.1?}", slowest(&slowest_writes));
        println!(
            "a check before and after: {:.0?} and {:.0?}\n",
            median(checks_before),
            median(checks_after)
        );
    }
}

criterion_group!(benches, claim_and_confirm, expiry);
criterion_main!(benches);
