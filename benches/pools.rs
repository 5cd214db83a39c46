//! Many pools with ten unfolded records each: what a commit and a check cost beside one pool alone.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that fails may stop where it stands"
)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use datapool_store::{DataPoolStore, Key, Mode, Origin, Pool};

const RECORDS: u64 = 10;
const SIZES: [(u64, &str); 3] = [(1, "1 pool"), (30_000, "30,000 pools"), (100_000, "100,000 pools")];

fn track(pool: &Pool, number: u64) {
    let value = [format!("value {number}")];
    let verdicts = pool.dedupe(Mode::Track, &value, |value| Key::new(37, value.as_str()), &Origin::none());
    assert_eq!(verdicts.unwrap().new_count(), 1);
}

fn pools(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pools");
    for (count, name) in SIZES {
        let store = DataPoolStore::in_memory().unwrap();
        let pools: Vec<Pool> =
            (0..count).map(|number| store.get_or_create_pool(&format!("pool {number}")).unwrap()).collect();
        for pool in &pools {
            let values: Vec<String> = (0..RECORDS).map(|number| format!("value {number}")).collect();
            let key = |value: &'_ String| Key::new(37, value.to_owned());
            pool.dedupe(Mode::Track, &values, key, &Origin::none()).unwrap();
        }
        // A stride that is prime visits the pools in no order of theirs.
        let mut next = (0..).map(|step: u64| (step, &pools[(step * 7_919 % count) as usize]));
        group.bench_function(BenchmarkId::new("commit", name), |bencher| {
            bencher.iter(|| {
                let (step, pool) = next.next().unwrap();
                track(pool, RECORDS + step);
            });
        });
        let mut next = (0..).map(|step: u64| &pools[(step * 7_919 % count) as usize]);
        group.bench_function(BenchmarkId::new("check", name), |bencher| {
            bencher.iter(|| next.next().unwrap().contains(Key::new(37, "value 3")).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, pools);
criterion_main!(benches);
