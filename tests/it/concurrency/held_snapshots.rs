//! Proves that a held snapshot answers as of its own moment, whatever background work does meanwhile.
//!
//! Folds, merges, dropped tables and cached filters and rows all outlive the commit for which they were made.
//! The model is a frozen copy of the live values. Snapshots are mostly asked for values that were deleted
//! later: newer tables do not contain these, so anything built from newer tables would answer "absent".

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use datapool_store::testing::Sizes;
use datapool_store::{
    DataPoolStore, ErrorKind, ImportOptions, Key, OnDuplicate, Pool, PoolSnapshot, PoolUpdate, RecordFilter,
};

use crate::support::{self, Numbers, ORDERS};

const ROOM_FOR_ONE: usize = support::CACHE_SIZES[1];

fn values(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("v{number}")).collect()
}

fn keys(values: &[String]) -> Vec<Key<'_>> {
    values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect()
}

/// Checks that a snapshot has each of these values, with each way of looking them up.
fn has_all(snapshot: &PoolSnapshot, values: &[String], moment: &str) {
    let together = snapshot.contains_many(&keys(values)).unwrap();
    let firsts = snapshot.lookup(&keys(values)).unwrap();
    for ((value, there), first) in values.iter().zip(together).zip(firsts) {
        let alone = snapshot.contains(Key::new(ORDERS, value.as_str())).unwrap();
        let counted = snapshot.count(&RecordFilter::new().value(value.as_str())).unwrap();
        let found = (there, alone, first.is_some(), counted);
        assert_eq!(found, (true, true, true, 1), "{value} {moment}");
    }
}

fn ask_one_by_one(pool: &Pool, numbers: std::ops::Range<u64>, times: usize) {
    for value in values(numbers).iter().cycle().take(times) {
        assert!(support::has(pool, value), "{value}");
    }
}

fn track_one_by_one(pool: &Pool, numbers: std::ops::Range<u64>) {
    for value in values(numbers) {
        assert_eq!(support::track(pool, &[value]), 1);
    }
}

/// Rows of another pool take the memory. When this pool's rows are cached again, they come from the merged
/// table, which lacks the deleted records.
#[test]
fn a_hot_index_that_is_copied_again_does_not_answer_older_snapshots() {
    let store =
        support::embedded::in_memory(&support::options().cache_size(ROOM_FOR_ONE), Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    track_one_by_one(&pool, 0..60);
    ask_one_by_one(&pool, 0..16, 4_000);
    let snapshot = pool.snapshot().unwrap();
    let victims = values(20..36);
    assert_eq!(pool.delete_keys(&keys(&victims)).unwrap(), 16);
    track_one_by_one(&pool, 60..70);
    pool.prune().unwrap();
    has_all(&snapshot, &victims, "after the merge");
    // Lookups in another pool use the memory.
    let other = store.get_or_create_pool("other").unwrap();
    track_one_by_one(&other, 0..60);
    ask_one_by_one(&other, 0..16, 4_000);
    has_all(&snapshot, &victims, "after another pool took the memory");
    for round in 0..5 {
        ask_one_by_one(&pool, 0..16, 70_000);
        has_all(&snapshot, &victims, &format!("after it was copied again, round {round}"));
    }
}

/// Rows are cached before, during and after the merge of their tables.
#[test]
fn a_hot_index_that_is_copied_across_a_merge_misses_nothing() {
    for asked in (0..2_000).step_by(100) {
        let store = support::embedded::in_memory(&support::options(), Sizes::SMALL).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        track_one_by_one(&pool, 0..60);
        ask_one_by_one(&pool, 0..40, asked);
        let snapshot = pool.snapshot().unwrap();
        let victims = values(20..36);
        assert_eq!(pool.delete_keys(&keys(&victims)).unwrap(), 16);
        track_one_by_one(&pool, 60..70);
        pool.prune().unwrap();
        for _ in 0..4 {
            ask_one_by_one(&pool, 0..20, 1_000);
            has_all(&snapshot, &victims, &format!("after {asked} questions"));
        }
    }
}

/// Tables are merged many times after the snapshot was taken, and their filters are cached.
#[test]
fn the_filter_of_all_segments_does_not_answer_for_what_was_not_merged_yet() {
    let store = support::embedded::in_memory(&support::options(), Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let first = 64 * 18;
    track_one_by_one(&pool, 0..first + 50);
    let snapshot = pool.snapshot().unwrap();
    let victims = values(first..first + 30);
    assert_eq!(pool.delete_keys(&keys(&victims)).unwrap(), 30);
    track_one_by_one(&pool, first + 50..first + 50 + 64 * 12);
    for number in 0..40_000 {
        assert!(!support::has(&pool, &format!("absent {number}")));
    }
    has_all(&snapshot, &victims, "after the filter was made");
}

/// The store with its pool, its live values, and the held snapshots, each with a copy of the values that were
/// live.
struct World {
    store: DataPoolStore,
    pool: Pool,
    other: Pool,
    /// The first id of each live value.
    live: BTreeMap<u64, u64>,
    next_value: u64,
    next_id: u64,
    held: Vec<(PoolSnapshot, BTreeMap<u64, u64>)>,
    random: Numbers,
}

impl World {
    /// The seed decides the amount of data: no segments at first, or twenty of them.
    fn new(seed: u64, cache_size: usize) -> Self {
        let store =
            support::embedded::in_memory(&support::options().cache_size(cache_size), Sizes::SMALL).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        let other = store.get_or_create_pool("other").unwrap();
        track_one_by_one(&other, 0..60);
        let next_value = if seed.is_multiple_of(2) { 0 } else { 64 * 20 };
        support::track(&pool, &values(0..next_value));
        let live = (0..next_value).map(|number| (number, number + 1)).collect();
        let (held, random) = (Vec::new(), Numbers::seeded(seed));
        Self { store, pool, other, live, next_value, next_id: next_value + 1, held, random }
    }

    /// Looks up absent values until filters are cached.
    fn ask_absent(&self) {
        let absent = values(10_000_000..10_000_000 + 4_000);
        assert!(self.pool.contains_many(&keys(&absent)).unwrap().iter().all(|there| !there));
        assert!(absent[..300].iter().all(|value| !support::has(&self.pool, value)));
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.next(end)
    }

    /// Returns up to `count` live values, mostly among the newest ones.
    fn some_live(&mut self, count: u64) -> Vec<u64> {
        let len = self.live.len() as u64;
        if len == 0 {
            return Vec::new();
        }
        let back = if self.below(3) == 0 { len } else { len.min(150) };
        let start = len - 1 - self.below(back);
        let taken = 1 + self.below(count);
        self.live.keys().copied().skip(start as usize).take(taken as usize).collect()
    }

    fn add(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.live.insert(*number, self.next_id);
            self.next_id += 1;
        }
    }

    /// Returns new values, and some that were deleted before.
    fn fresh(&mut self, count: u64) -> Vec<u64> {
        let count = 1 + self.below(count);
        let mut numbers: Vec<u64> = (self.next_value..self.next_value + count).collect();
        self.next_value += count;
        for _ in 0..self.below(6) {
            let again = self.below(self.next_value);
            if !self.live.contains_key(&again) && !numbers.contains(&again) {
                numbers.push(again);
            }
        }
        numbers
    }

    fn track(&mut self) {
        let numbers = self.fresh(60);
        if self.below(2) == 0 {
            assert_eq!(support::track(&self.pool, &values(numbers.clone())), numbers.len());
        } else {
            for value in values(numbers.clone()) {
                assert_eq!(support::track(&self.pool, &[value]), 1);
            }
        }
        self.add(&numbers);
    }

    fn import(&mut self, rows: &[u64], policy: OnDuplicate) -> datapool_store::Result<u64> {
        let rows: String = values(rows.iter().copied()).iter().map(|value| format!("{value},37\n")).collect();
        let file = format!("value,entity_type_id\n{rows}");
        let options = ImportOptions::new().on_duplicate(policy);
        self.pool.import_csv(file.as_bytes(), &options).map(|report| report.added)
    }

    fn step(&mut self) {
        match self.below(34) {
            0..10 => self.track(),
            10..15 => {
                let gone = self.some_live(40);
                let deleted = self.pool.delete_keys(&keys(&values(gone.clone()))).unwrap();
                assert_eq!(deleted, gone.len() as u64);
                self.live.retain(|number, _| !gone.contains(number));
            }
            15 => drop(self.pool.prune().unwrap()),
            16 => {
                let numbers = self.fresh(150);
                assert_eq!(self.import(&numbers, OnDuplicate::Add).unwrap(), numbers.len() as u64);
                self.add(&numbers);
            }
            // Makes the writer forget the progress of its work, so that it starts again.
            17..20 => {
                let known = self.some_live(1);
                if !known.is_empty() {
                    let error = self.import(&known, OnDuplicate::Fail).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                }
            }
            20 => {
                if self.below(2) == 0 {
                    let report = self.store.rebuild_indexes().unwrap();
                    assert_eq!(report.left, []);
                }
            }
            21 => {
                if self.below(12) == 0 {
                    assert_eq!(self.pool.clear().unwrap(), self.live.len() as u64);
                    self.live.clear();
                }
            }
            22 => {
                if self.below(3) == 0 {
                    self.evict_half();
                }
            }
            23..26 => self.ask_absent(),
            26..29 => {
                let asked = self.some_live(40);
                values(asked)
                    .iter()
                    .cycle()
                    .take(700)
                    .for_each(|value| assert!(support::has(&self.pool, value)));
            }
            29 => ask_one_by_one(&self.other, 0..16, 600),
            _ => {
                self.held.push((self.pool.snapshot().unwrap(), self.live.clone()));
                if self.held.len() > 4 {
                    let oldest = self.below(4);
                    self.held.remove(oldest as usize);
                }
            }
        }
    }

    /// Evicts the oldest half by setting a capacity and removing it again.
    fn evict_half(&mut self) {
        let kept = self.live.len() / 2 + 1;
        let update = |update| drop(self.store.update_pool(self.pool.id(), update).unwrap());
        update(PoolUpdate::new().capacity(kept as u64));
        update(PoolUpdate::new().clear_capacity());
        let mut by_age: Vec<(u64, u64)> = self.live.iter().map(|(number, id)| (*id, *number)).collect();
        by_age.sort_unstable();
        for (_, number) in &by_age[..by_age.len().saturating_sub(kept)] {
            self.live.remove(number);
        }
    }

    /// Asks each snapshot for values that were deleted since, and for a sample of all values.
    fn check(&mut self, moment: &str) {
        let some: Vec<u64> = (0..60).map(|_| self.random.next(self.next_value.max(1) + 20)).collect();
        for (index, (snapshot, frozen)) in self.held.iter().enumerate() {
            let gone = frozen.keys().copied().filter(|number| self.live.get(number) != frozen.get(number));
            let gone: Vec<u64> = gone.collect();
            let every = gone.len() / 100 + 1;
            let asked = gone.iter().skip(some.len() % every).step_by(every).chain(&some);
            let asked: Vec<u64> = asked.copied().collect();
            check_answers(snapshot, frozen, &asked, &format!("in snapshot {index}, {moment}"));
        }
        let numbers = values(some.clone());
        for (number, there) in some.iter().zip(self.pool.contains_many(&keys(&numbers)).unwrap()) {
            assert_eq!(there, self.live.contains_key(number), "v{number} now, {moment}");
        }
    }
}

fn check_answers(snapshot: &PoolSnapshot, frozen: &BTreeMap<u64, u64>, asked: &[u64], moment: &str) {
    let values = values(asked.iter().copied());
    let together = snapshot.contains_many(&keys(&values)).unwrap();
    let firsts = snapshot.lookup(&keys(&values)).unwrap();
    for (((number, value), there), first) in asked.iter().zip(&values).zip(together).zip(firsts) {
        let expected = frozen.get(number).copied();
        assert_eq!(there, expected.is_some(), "contains_many of {value} {moment}");
        assert_eq!(first.map(|record| record.id.get()), expected, "lookup of {value} {moment}");
    }
    for (number, value) in asked.iter().zip(&values).step_by(7) {
        let key = Key::new(ORDERS, value.as_str());
        assert_eq!(snapshot.contains(key).unwrap(), frozen.contains_key(number), "contains {value} {moment}");
        let counted = snapshot.count(&RecordFilter::new().value(value.as_str())).unwrap();
        assert_eq!(counted, u64::from(frozen.contains_key(number)), "count of {value} {moment}");
    }
    assert_eq!(snapshot.count(&RecordFilter::new()).unwrap(), frozen.len() as u64, "{moment}");
}

/// `DATAPOOL_SNAPSHOT_SEEDS` sets the number of seeds per cache size; `DATAPOOL_SNAPSHOT_SEED` runs a single
/// seed.
#[test]
fn snapshots_keep_their_answers_across_all_background_work() {
    let seeds = support::from_environment("DATAPOOL_SNAPSHOT_SEEDS").unwrap_or_else(|| support::runs(1, 4));
    let one = support::from_environment("DATAPOOL_SNAPSHOT_SEED");
    for seed in one.map_or(0..seeds, |seed| seed..seed + 1) {
        let _seed = support::Seed("DATAPOOL_SNAPSHOT_SEED", seed);
        for cache_size in support::CACHE_SIZES {
            let mut world = World::new(seed, cache_size);
            for step in 0..160 {
                world.step();
                world.check(&format!("step {step} with a cache of {cache_size}"));
            }
        }
    }
}

/// Some threads write, prune and rebuild, some fill the caches, and some hold snapshots. The contents of a
/// snapshot are read once from its records. Then it is asked for them until the writing ends.
#[test]
fn snapshots_that_are_held_beside_many_threads_keep_their_answers() {
    for (seed, cache_size) in (0..support::runs(1, 9)).zip(support::CACHE_SIZES) {
        let store =
            support::embedded::in_memory(&support::options().cache_size(cache_size), Sizes::SMALL).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        support::track(&pool, &values(0..64 * 18));
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                write_and_forget(&store, &pool, seed);
                is_done.store(true, Ordering::SeqCst);
            });
            scope.spawn(|| {
                let absent = values(10_000_000..10_002_000);
                while !is_done.load(Ordering::SeqCst) {
                    assert!(pool.contains_many(&keys(&absent)).unwrap().iter().all(|there| !there));
                }
            });
            for holder in 0..2 {
                let (pool, is_done) = (&pool, &is_done);
                scope.spawn(move || {
                    let mut random = Numbers::seeded(holder);
                    while !is_done.load(Ordering::SeqCst) {
                        let snapshot = pool.snapshot().unwrap();
                        let mut frozen = BTreeMap::new();
                        for record in snapshot.scan(&RecordFilter::new()).unwrap() {
                            let record = record.unwrap();
                            let number: u64 = record.value[1..].parse().unwrap();
                            frozen.entry(number).or_insert(record.id.get());
                        }
                        let last = frozen.keys().last().copied().unwrap_or(0);
                        for _ in 0..random.next(30) {
                            let asked: Vec<u64> =
                                (0..150).map(|_| last - random.next(400.min(last + 1))).collect();
                            check_answers(&snapshot, &frozen, &asked, "beside other threads");
                        }
                    }
                });
            }
        });
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

fn write_and_forget(store: &DataPoolStore, pool: &Pool, seed: u64) {
    let mut random = Numbers::seeded(seed);
    let mut next = 64 * 18;
    for _ in 0..250 {
        let count = 1 + random.next(40);
        support::track(pool, &values(next..next + count));
        next += count;
        let start = next - random.next(200);
        match random.next(12) {
            0..7 => drop(pool.delete_keys(&keys(&values(start..start + 30))).unwrap()),
            7 | 8 => drop(pool.prune().unwrap()),
            9 => drop(store.rebuild_indexes().unwrap()),
            _ => {}
        }
    }
}
