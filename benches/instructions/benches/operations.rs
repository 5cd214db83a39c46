//! Ten operations, each with a limit on its instructions: the count when the limit was set plus 5 %. The
//! margin covers the seeds of hash maps and differences in how processors copy memory.
//!
//! An exceeded limit fails the run. A cheaper operation does not: lower its count in the change that made it
//! cheaper.
//!
//! Only instructions of the calling thread are counted, so all work is kept on that thread: an import that
//! skips duplicates does its own indexing, and an export of a single slice does its own reading. The indexes
//! are complete before an operation runs. An import folds the rest of the tail and, because it fills a
//! segment, merges the runs of that segment.
//!
//! `benches/instructions/run` runs them.

use std::hint::black_box;
use std::time::Duration;

use datapool_instructions::{RECORDS, file, key, pool, pool_of, present, query, values};
use datapool_store::{ExportOptions, ImportOptions, Mode, OnDuplicate, Origin, Pool, RecordQuery};
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

/// Sets the limit to 5 % more than this count.
fn counted(instructions: u64) -> LibraryBenchmarkConfig {
    let limit = instructions + instructions / 20;
    LibraryBenchmarkConfig::default()
        .tool(Callgrind::default().hard_limits([(EventKind::Ir, limit)]).to_owned())
        .to_owned()
}

fn with_present() -> (Pool, Vec<String>) {
    (pool(), present())
}

fn with_new() -> (Pool, Vec<String>) {
    (pool(), values(RECORDS))
}

fn with_one() -> (Pool, Vec<String>) {
    (pool(), vec!["one of its own".to_owned()])
}

fn with_query() -> (Pool, RecordQuery) {
    (pool(), query())
}

/// Creates a pool with one slice of an export, which reads 4,096 records at once.
fn with_a_slice() -> Pool {
    pool_of(4_000)
}

fn with_file() -> (Pool, String) {
    (pool(), file())
}

#[library_benchmark(config = counted(1_694_000))]
#[bench::of_1000(setup = with_present)]
fn contains_present((pool, values): (Pool, Vec<String>)) -> (Pool, usize) {
    let found = values.iter().filter(|value| pool.contains(key(value)).unwrap_or_default()).count();
    (pool, black_box(found))
}

#[library_benchmark(config = counted(1_326_000))]
#[bench::of_1000(setup = with_new)]
fn contains_absent((pool, values): (Pool, Vec<String>)) -> (Pool, usize) {
    let found = values.iter().filter(|value| pool.contains(key(value)).unwrap_or_default()).count();
    (pool, black_box(found))
}

#[library_benchmark(config = counted(1_918_000))]
#[bench::of_1000(setup = with_present)]
fn contains_many((pool, values): (Pool, Vec<String>)) -> (Pool, usize) {
    let keys: Vec<_> = values.iter().map(key).collect();
    let found = pool.contains_many(&keys).map_or(0, |found| found.len());
    (pool, black_box(found))
}

#[library_benchmark(config = counted(6_306_000))]
#[bench::of_1000(setup = with_present)]
fn lookup((pool, values): (Pool, Vec<String>)) -> (Pool, usize) {
    let keys: Vec<_> = values.iter().map(key).collect();
    let found = pool.lookup(&keys).map_or(0, |found| found.len());
    (pool, black_box(found))
}

#[library_benchmark(config = counted(3_883_000))]
#[bench::of_1000_new(setup = with_new)]
fn filter_and_track((pool, values): (Pool, Vec<String>)) -> (Pool, usize) {
    let verdicts =
        pool.dedupe(Mode::FilterAndTrack, &values, key, &Origin::new("flow 1", "run 99", "step 1"));
    (pool, black_box(verdicts.map_or(0, |verdicts| verdicts.new_count())))
}

#[library_benchmark(config = counted(235_200))]
#[bench::of_1_new(setup = with_one)]
fn track_one((pool, values): (Pool, Vec<String>)) -> (Pool, usize) {
    let verdicts = pool.dedupe(Mode::Track, &values, key, &Origin::none());
    (pool, black_box(verdicts.map_or(0, |verdicts| verdicts.new_count())))
}

#[library_benchmark(config = counted(12_597_000))]
#[bench::of_1000(setup = with_new)]
fn claim_and_confirm((pool, values): (Pool, Vec<String>)) -> (Pool, usize) {
    let confirmed = pool
        .claim(&values, key, &Origin::none(), Duration::from_mins(1))
        .and_then(|mut claim| claim.confirm())
        .map_or(0, |confirmation| confirmation.outcomes().len());
    (pool, black_box(confirmed))
}

#[library_benchmark(config = counted(378_000))]
#[bench::by_three_filters(setup = with_query)]
fn page((pool, query): (Pool, RecordQuery)) -> (Pool, u64) {
    let total = pool.records(&query).map_or(0, |page| page.meta.total);
    (pool, black_box(total))
}

#[library_benchmark(config = counted(8_795_000))]
#[bench::of_1000_rows(setup = with_file)]
fn import((pool, file): (Pool, String)) -> (Pool, u64) {
    let options = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
    let added = pool.import_csv(file.as_bytes(), &options).map_or(0, |report| report.added);
    (pool, black_box(added))
}

#[library_benchmark(config = counted(5_349_000))]
#[bench::of_4000_rows(setup = with_a_slice)]
fn export(pool: Pool) -> (Pool, u64) {
    let rows = pool.export_csv(std::io::sink(), &ExportOptions::new()).map_or(0, |report| report.rows);
    (pool, black_box(rows))
}

library_benchmark_group!(
    name = operations,
    benchmarks = [
        contains_present,
        contains_absent,
        contains_many,
        lookup,
        filter_and_track,
        track_one,
        claim_and_confirm,
        page,
        import,
        export
    ]
);

main!(library_benchmark_groups = operations);
