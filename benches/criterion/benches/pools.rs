//! Many pools with ten unfolded records each: the cost of a commit and of a check, compared with a single
//! pool.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that fails may stop where it stands"
)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use datapool_store::{DataPoolStore, Key, Mode, Origin, Pool};

const RECORDS: usize = 10;
const SIZES: [(usize, &str); 3] = [(1, "1 pool"), (30_000, "30,000 pools"), (100_000, "100,000 pools")];
/// A prime number. Steps of this size visit the pools in an irregular order.
const STRIDE: usize = 7_919;

fn track(pool: &Pool, numbers: std::ops::Range<usize>) {
    let values: Vec<String> = numbers.map(|number| format!("value {number}")).collect();
    let verdicts = pool.dedupe(Mode::Track, &values, |value| Key::new(37, value.as_str()), &Origin::none());
    assert_eq!(verdicts.unwrap().new_count(), values.len());
}

fn pools(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pools");
    for (count, name) in SIZES {
        let store = DataPoolStore::in_memory().unwrap();
        let pools: Vec<Pool> =
            (0..count).map(|number| store.get_or_create_pool(format!("pool {number}")).unwrap()).collect();
        for pool in &pools {
            track(pool, 0..RECORDS);
        }
        let mut steps = 0..;
        group.bench_function(BenchmarkId::new("commit", name), |bencher| {
            bencher.iter(|| {
                let step = steps.next().unwrap();
                track(&pools[step * STRIDE % count], RECORDS + step..RECORDS + step + 1);
            });
        });
        group.bench_function(BenchmarkId::new("check", name), |bencher| {
            bencher.iter(|| {
                let step = steps.next().unwrap();
                pools[step * STRIDE % count].contains(Key::new(37, "value 3")).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pools);
criterion_main!(benches);
