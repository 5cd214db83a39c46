//! CSV: import from a file, adding or skipping duplicates, and export.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a bench that fails may stop where it stands")]

mod common;

use std::fs;
use std::hint::black_box;
use std::io;

use common::{Fixture, RUN_RECORDS, Rows, SIZES, Shape, csv_file};
use criterion::{
    BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use datapool_store::{ExportColumns, ExportOptions, ImportOptions, OnDuplicate};

fn import(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("csv/import");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let directory = tempfile::tempdir().unwrap();
    for (size, name) in SIZES {
        let rows = Rows::stored(Shape::Random).batch(size);
        let file = directory.path().join(name);
        fs::write(&file, csv_file(&rows)).unwrap();
        group.throughput(Throughput::Elements(size as u64));

        for (what, policy) in [("add", OnDuplicate::Add), ("skip, all new", OnDuplicate::Skip)] {
            let options = ImportOptions::new().on_duplicate(policy);
            group.bench_function(BenchmarkId::new(what, name), |bencher| {
                let into_empty = |fixture: Fixture| {
                    black_box(fixture.pool.import_csv_path(&file, &options).unwrap());
                    fixture
                };
                bencher.iter_batched(Fixture::empty, into_empty, BatchSize::PerIteration);
            });
        }

        let full = Fixture::imported(&rows);
        let options = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
        group.bench_function(BenchmarkId::new("skip, all present", name), |bencher| {
            bencher.iter(|| black_box(full.pool.import_csv_path(&file, &options).unwrap()));
        });
    }
}

fn export(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("csv/export");
    group.sample_size(10);
    for (size, name) in SIZES {
        let rows = Rows::stored(Shape::Random).batch(size);
        let fixture = Fixture::tracked(&rows, RUN_RECORDS);
        group.throughput(Throughput::Elements(size as u64));
        for (what, columns) in [("importable", ExportColumns::Importable), ("full", ExportColumns::Full)] {
            let options = ExportOptions::new().columns(columns);
            group.bench_function(BenchmarkId::new(what, name), |bencher| {
                bencher.iter(|| black_box(fixture.pool.export_csv(io::sink(), &options).unwrap()));
            });
        }
    }
}

criterion_group!(benches, import, export);
criterion_main!(benches);
