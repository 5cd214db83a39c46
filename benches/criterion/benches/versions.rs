//! Changed items compared with new ones: batches of 1,000 products with content versions, into one pool in
//! turn.
//!
//! Both are measured in turn within one run, so that changes in the machine's speed affect both. The ratio of
//! the medians is printed.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a bench that fails may stop where it stands")]

mod common;

use std::fmt::Write as _;
use std::time::Duration;

use common::{Fixture, RUN_RECORDS, Random, Row, Rows, SIZES, Shape, median, origin, timed};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use datapool_store::{ImportOptions, Key, Mode, Version};

/// A row, and the number from which its content is made.
type Product = (Row, usize);

fn key((row, content): &Product) -> Key<'_> {
    row.key().content(content.to_le_bytes())
}

/// Creates a pool with these rows, each with content 0.
fn imported(rows: &[Row]) -> Fixture {
    let fixture = Fixture::empty();
    let version = Version::of_content(0_usize.to_le_bytes());
    let mut file = "value,entity_type_id,version\n".to_owned();
    for row in rows {
        writeln!(file, "{},{},{version}", row.value, row.entity_type).unwrap();
    }
    let options = ImportOptions::new().version_column("version");
    assert_eq!(fixture.pool.import_csv(file.as_bytes(), &options).unwrap().added, rows.len() as u64);
    fixture
}

fn changed_and_new(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("versions/batches of 1,000");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(RUN_RECORDS as u64));
    for (size, name) in SIZES {
        let stored = Rows::stored(Shape::Random).batch(size);
        let fixture = imported(&stored);
        let (mut fresh, mut random) = (Rows::fresh(Shape::Random), Random(7));
        let (mut run, mut new, mut changed) = (0, Vec::new(), Vec::new());
        let mut both = || {
            run += 1;
            // Neighbours in a shuffled order, so each row occurs at most once.
            let start = random.below(size - RUN_RECORDS + 1);
            let known: Vec<Product> =
                stored.iter().skip(start).take(RUN_RECORDS).map(|row| (row.clone(), run)).collect();
            let unknown: Vec<Product> = fresh.batch(RUN_RECORDS).into_iter().map(|row| (row, run)).collect();
            new.push(timed(|| assert_eq!(dedupe(&fixture, &unknown, run), (RUN_RECORDS, 0))));
            changed.push(timed(|| assert_eq!(dedupe(&fixture, &known, run), (0, RUN_RECORDS))));
            (*new.last().unwrap(), *changed.last().unwrap())
        };
        group.bench_function(BenchmarkId::new("new", name), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| both().0).sum());
        });
        group.bench_function(BenchmarkId::new("changed", name), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| both().1).sum());
        });
        if !new.is_empty() {
            let (rounds, new, changed) = (new.len(), median(new), median(changed));
            let ratio = changed.as_secs_f64() / new.as_secs_f64();
            println!("{name}: {new:.2?} and {changed:.2?}, {ratio:.2} times, medians of {rounds} in turn\n");
        }
    }
}

/// Returns the numbers of new and of changed items.
fn dedupe(fixture: &Fixture, products: &[Product], run: usize) -> (usize, usize) {
    let verdicts = fixture.pool.dedupe(Mode::FilterAndTrack, products, key, &origin(run)).unwrap();
    (verdicts.new_count(), verdicts.changed_count())
}

criterion_group!(benches, changed_and_new);
criterion_main!(benches);
