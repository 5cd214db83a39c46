//! Random operations that suit the contents of a store.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    EntityTypeId, ExportColumns, Mode, OnDuplicate, Origin, RecordSort, Timestamp, Version, limits,
};

use super::filter::{ClaimsFilter, Filter};
use super::model::{Model, Now, PoolModel};
use super::{How, Named, Op, Reading};
use crate::support::items::{Asked, Item, Row, content};
use crate::support::{self, Numbers};

/// The number of values per entity type, small enough that batches overlap.
pub(crate) const VALUES: u64 = 80;
pub(crate) const TYPES: [u32; 3] = [37, 47, 54];

pub(crate) fn item(number: u64) -> Item {
    let entity_type = EntityTypeId::new(TYPES[usize::try_from(number / VALUES).unwrap()]);
    Item { entity_type, value: value(number % VALUES) }
}

/// Returns a value. Some are difficult for parsers and trimming.
fn value(number: u64) -> String {
    match number {
        0 => "a,b".into(),
        1 => " spaced ".into(),
        2 => "quoted \"twice\"".into(),
        3 => "two\r\nlines".into(),
        4 => "=1+1".into(),
        5 => "Größe\0".into(),
        6 => "x".repeat(400),
        _ => format!("value {number}"),
    }
}

/// Returns every possible item.
pub(crate) fn all_items() -> &'static [Item] {
    static ITEMS: LazyLock<Vec<Item>> =
        LazyLock::new(|| (0..VALUES * TYPES.len() as u64).map(item).collect());
    &ITEMS
}

/// Returns every possible item in one of its versions.
pub(crate) fn all_asked() -> &'static [Asked] {
    static ITEMS: LazyLock<Vec<Asked>> = LazyLock::new(|| {
        let versions =
            [content(0), content(1), Version::Ordinal(2), Version::Ordinal(3), Version::Ordinal(4)];
        all_items()
            .iter()
            .cloned()
            .zip(versions.into_iter().cycle())
            .map(|(item, version)| Asked { item, version: Some(version) })
            .collect()
    });
    &ITEMS
}

/// Sizes that put the ends of chunks, folds and segments at unusual positions.
pub(crate) const SIZES: [Sizes; 4] = [
    Sizes::SMALL,
    Sizes {
        segment_slots: 24,
        chunk_slots: 8,
        fold_entries: 5,
        fold_slices: 2,
        tails_max_entries: 9,
        early_seal_slots: 4,
    },
    Sizes {
        segment_slots: 150,
        chunk_slots: 50,
        fold_entries: 40,
        fold_slices: 16,
        tails_max_entries: 1_000,
        early_seal_slots: 25,
    },
    Sizes {
        segment_slots: 7,
        chunk_slots: 1,
        fold_entries: 30,
        fold_slices: 3,
        tails_max_entries: 20,
        early_seal_slots: 3,
    },
];

/// A mix of operations and their frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// A mix for failing disks. The clock only moves forwards.
    Crashes,
    Everything,
    /// Claims, and operations that take their values, while clocks run far ahead and are set back before the
    /// store is opened again.
    Claims,
}

/// The state of a store, for generating a suitable operation.
pub(crate) struct Scene<'s> {
    pub(crate) mix: Mix,
    pub(crate) model: &'s Model,
    pub(crate) now: Now,
    /// The claims that can be settled, with their pools.
    pub(crate) held: &'s [(u64, u64)],
    pub(crate) next_claim: u64,
    pub(crate) scans: usize,
    pub(crate) snapshots: usize,
    /// Times for use in filters.
    pub(crate) times: &'s [Timestamp],
}

pub(crate) fn index(numbers: &mut Numbers, below: usize) -> usize {
    usize::try_from(numbers.next(below as u64)).unwrap()
}

pub(crate) fn one_of<T: Clone>(numbers: &mut Numbers, of: &[T]) -> T {
    of[index(numbers, of.len())].clone()
}

/// Returns items that sometimes repeat. They are often adjacent, so that a batch is mostly new or mostly
/// known.
fn items(numbers: &mut Numbers, at_most: u64) -> Vec<Item> {
    let all = VALUES * TYPES.len() as u64;
    let (count, start) = (1 + numbers.next(at_most), numbers.next(all));
    let spread = 2 * count + 4;
    (0..count).map(|_| item((start + numbers.next(spread)) % all)).collect()
}

/// Returns a few items out of few.
fn few(numbers: &mut Numbers) -> Vec<Item> {
    (0..=numbers.next(5)).map(|_| item(numbers.next(50))).collect()
}

/// Adds versions. Half of all batches have none; others have some, or only versions, of one kind or both.
fn with_versions(numbers: &mut Numbers, items: Vec<Item>) -> Vec<Asked> {
    let kinds: &[u64] = match numbers.next(8) {
        0..4 => &[0],
        4 => &[0, 1, 2],
        5 => &[1, 1, 1, 0],
        6 => &[2],
        _ => &[1, 2],
    };
    let version = |numbers: &mut Numbers| match one_of(numbers, kinds) {
        0 => None,
        1 => Some(content(numbers.next(3) as u8)),
        _ => Some(Version::Ordinal(numbers.next(6).cast_signed() - 1)),
    };
    items.into_iter().map(|item| Asked { item, version: version(numbers) }).collect()
}

/// Returns an origin: mostly a flow, a run and a step, sometimes only parts of it, sometimes nothing.
pub(crate) fn origin(numbers: &mut Numbers) -> Origin {
    let parts = [7, 7, 7, 7, 7, 7, 0, 1, 2, 5][index(numbers, 10)];
    let mut origin = Origin::none();
    if parts & 1 > 0 {
        origin = origin.with_flow(numbers.next(3));
    }
    if parts & 2 > 0 {
        origin = origin.with_run(numbers.next(6));
    }
    if parts & 4 > 0 {
        origin = origin.with_step(numbers.next(2));
    }
    origin
}

fn millis(numbers: &mut Numbers, below: u64) -> Duration {
    Duration::from_millis(1 + numbers.next(below))
}

fn maybe<T>(numbers: &mut Numbers, of_four: u64, make: impl FnOnce(&mut Numbers) -> T) -> Option<T> {
    (numbers.next(4) < of_four).then(|| make(numbers))
}

fn times_of(live: &[Row]) -> Vec<Timestamp> {
    live.iter().map(|row| row.created_at).collect()
}

/// Returns any combination of terms, mostly few, so that some records match. Terms may name what no record
/// has. Times equal some of the given ones, or are directly before or after them.
pub(crate) fn filter(numbers: &mut Numbers, times: &[Timestamp]) -> Filter {
    fn list<T>(numbers: &mut Numbers, at_most: u64, make: impl Fn(&mut Numbers) -> T) -> Vec<T> {
        let count = if numbers.next(5) == 0 { 1 + numbers.next(at_most) } else { 0 };
        (0..count).map(|_| make(numbers)).collect()
    }
    let time = |numbers: &mut Numbers| {
        let time = match times {
            [] => support::time("2013-01-01"),
            times => one_of(numbers, times),
        };
        Timestamp::from_micros(time.as_micros() + one_of(numbers, &[-1, 0, 1]))
    };
    Filter {
        flows: list(numbers, 2, |numbers| numbers.next(4)),
        runs: list(numbers, 2, |numbers| numbers.next(7)),
        steps: list(numbers, 2, |numbers| numbers.next(3)),
        entity_types: list(numbers, 2, |numbers| one_of(numbers, &[37, 47, 54, 99])),
        values: list(numbers, 8, |numbers| value(numbers.next(VALUES + 5))),
        after: (numbers.next(5) == 0).then(|| time(numbers)),
        before: (numbers.next(5) == 0).then(|| time(numbers)),
    }
}

impl Scene<'_> {
    /// Returns a filter whose times are those of a pool's records, or of any earlier ones.
    fn filter(&self, numbers: &mut Numbers, pool: &PoolModel) -> Filter {
        let times = if numbers.next(3) == 0 { self.times.to_vec() } else { times_of(&pool.live) };
        filter(numbers, &times)
    }

    /// Returns the items of a batch, with at most `at_most` of them on a failing disk.
    fn batch(&self, numbers: &mut Numbers, at_most: u64) -> Vec<Asked> {
        let items = match self.mix {
            Mix::Crashes => items(numbers, at_most),
            Mix::Everything => {
                let at_most = one_of(numbers, &[8, 40, 100]);
                items(numbers, at_most)
            }
            Mix::Claims => few(numbers),
        };
        with_versions(numbers, items)
    }

    /// Returns the time to pass: often so short that records are adjacent, or just long enough for something
    /// to end.
    fn time(&self, numbers: &mut Numbers, pool: &PoolModel) -> Duration {
        let past_the_hour = limits::CLAIM_KEPT_AFTER_LEASE;
        if self.mix == Mix::Crashes {
            return match numbers.next(12) {
                0 => Duration::from_mins(90),
                1..6 => millis(numbers, 10_000),
                _ => millis(numbers, 500),
            };
        }
        let wall = self.now.wall.as_micros();
        let ends: Vec<i64> = if numbers.next(2) == 0 {
            pool.claims.values().map(|claim| claim.left(self.now)).collect()
        } else {
            let ends = pool.live.iter().map(|row| Some(row.created_at.saturating_add(pool.retention?)));
            ends.flatten().map(|end| end.as_micros() - wall).collect()
        };
        match numbers.next(12) {
            0 => past_the_hour + millis(numbers, 20_000),
            1..5 if !ends.is_empty() => {
                let micros = u64::try_from(one_of(numbers, &ends)).unwrap_or(0) + numbers.next(2);
                let hour = if numbers.next(4) == 0 { past_the_hour } else { Duration::ZERO };
                hour + Duration::from_micros(micros)
            }
            5..8 => Duration::from_micros(numbers.next(3)),
            8..10 => Duration::from_micros(numbers.next(20_000_000)),
            _ => Duration::from_micros(numbers.next(4_000_000)),
        }
    }
}

/// Returns an operation for a store in this state.
pub(crate) fn any_op(numbers: &mut Numbers, scene: &Scene<'_>) -> Op {
    if scene.model.pools.is_empty() {
        return create(numbers, scene);
    }
    match scene.mix {
        Mix::Crashes => any_change(numbers, scene),
        Mix::Everything => any_look(numbers, scene),
        Mix::Claims => any_claims_op(numbers, scene),
    }
}

fn any_pool<'s>(numbers: &mut Numbers, scene: &Scene<'s>) -> (u64, &'s PoolModel) {
    let place = index(numbers, scene.model.pools.len());
    scene.model.pools.iter().nth(place).map(|(id, pool)| (*id, &**pool)).unwrap()
}

fn any_change(numbers: &mut Numbers, scene: &Scene<'_>) -> Op {
    let kind = numbers.next(100);
    let (pool, model) = any_pool(numbers, scene);
    match kind {
        0..30 => {
            let mode =
                one_of(numbers, &[Mode::Track, Mode::FilterAndTrack, Mode::FilterAndTrack, Mode::Filter]);
            dedupe(numbers, scene, pool, mode)
        }
        30..40 => claim(numbers, scene, pool),
        40..54 if !scene.held.is_empty() => settle(numbers, scene),
        54..63 => delete(numbers, scene, pool, model),
        63..74 => {
            let policy =
                one_of(numbers, &[OnDuplicate::Add, OnDuplicate::Add, OnDuplicate::Skip, OnDuplicate::Fail]);
            let every = maybe(numbers, 2, |numbers| 1 + numbers.next(20));
            Op::Import { pool, items: scene.batch(numbers, 60), policy, every }
        }
        74..76 => create(numbers, scene),
        76..81 => update(numbers, scene, pool),
        81 => Op::Delete { pool },
        82..84 => {
            let id = format!("flow {}", numbers.next(4));
            if numbers.next(3) == 0 {
                Op::DeleteFlow { id }
            } else {
                Op::PutFlow { id, name: numbers.next(99).to_string() }
            }
        }
        84 => Op::Prune { pool: None },
        85 => Op::Prune { pool: Some(pool) },
        86..89 => Op::Flush,
        89 => Op::Rebuild,
        90 => Op::Compact,
        91 => Op::Verify,
        92 => Op::Reopen,
        93..96 => over_claims(numbers, scene, pool, model),
        96 => Op::Vacuum,
        _ => Op::Pass { time: scene.time(numbers, model) },
    }
}

/// Returns a change, or an operation that reads the store, sets its clock or opens it.
fn any_look(numbers: &mut Numbers, scene: &Scene<'_>) -> Op {
    let kind = numbers.next(110);
    if kind >= 28 {
        return any_change(numbers, scene);
    }
    let (pool, model) = any_pool(numbers, scene);
    let filter = scene.filter(numbers, model);
    let sort = one_of(numbers, &[RecordSort::Ascending, RecordSort::Descending]);
    let per_page = u32::try_from(1 + one_of(numbers, &[7, 99]).min(numbers.next(100))).unwrap();
    match kind {
        0..5 => {
            let page = if numbers.next(11) == 0 { 1_000_000 } else { 1 + numbers.next(5) };
            Op::Read { pool, filter, reading: Reading::Page { sort, page, per_page } }
        }
        5..9 => {
            // A live record, a deleted one, or one that does not exist yet.
            let last = numbers.next(model.next_id + 3);
            let last = if model.live.is_empty() || numbers.next(3) == 0 {
                last
            } else {
                model.live[index(numbers, model.live.len())].id
            };
            Op::Read { pool, filter, reading: Reading::Behind { sort, last, per_page } }
        }
        9..11 => {
            let ends = (0..=numbers.next(8))
                .map(|_| one_of(numbers, &[RecordSort::Ascending, RecordSort::Descending]));
            Op::Read { pool, filter, reading: Reading::Scan { ends: ends.collect() } }
        }
        11 => {
            let columns = one_of(numbers, &[ExportColumns::Importable, ExportColumns::Full]);
            Op::Read { pool, filter, reading: Reading::Export(columns) }
        }
        12..15 if scene.scans > 0 => Op::EndScan { number: index(numbers, scene.scans) },
        12..15 => Op::OpenScan { pool, filter, sort, taken: index(numbers, 90) },
        15..17 if scene.snapshots > 0 && (scene.snapshots > 2 || numbers.next(2) == 0) => {
            Op::DropSnapshot { number: index(numbers, scene.snapshots), filter }
        }
        15..17 => Op::TakeSnapshot { pool },
        17 => Op::Copy { pool, to: any_pool(numbers, scene).0, filter },
        18..22 => turn(numbers),
        22..25 => Op::Restart { sizes: one_of(numbers, &SIZES) },
        25 => Op::Backup,
        26 => Op::Reopen,
        _ => Op::Verify,
    }
}

fn any_claims_op(numbers: &mut Numbers, scene: &Scene<'_>) -> Op {
    let kind = numbers.next(41);
    let (pool, model) = any_pool(numbers, scene);
    match kind {
        0..8 => claim(numbers, scene, pool),
        8..12 if !scene.held.is_empty() => settle(numbers, scene),
        12..15 => {
            let mode = one_of(numbers, &[Mode::Filter, Mode::Track, Mode::FilterAndTrack]);
            dedupe(numbers, scene, pool, mode)
        }
        15 => {
            let policy = one_of(numbers, &[OnDuplicate::Add, OnDuplicate::Skip]);
            Op::Import { pool, items: scene.batch(numbers, 0), policy, every: None }
        }
        16 => Op::DeleteKeys { pool, items: few(numbers) },
        17..19 => Op::Pass { time: scene.time(numbers, model) },
        19..22 => Op::Pass { time: limits::CLAIM_KEPT_AFTER_LEASE + millis(numbers, 20_000) },
        22..25 => Op::Turn { micros: -far(numbers) },
        25..29 => Op::Restart { sizes: one_of(numbers, &SIZES) },
        29 => Op::Reopen,
        30 => Op::Rebuild,
        31 => Op::Backup,
        32..37 => over_claims(numbers, scene, pool, model),
        37..39 => Op::Vacuum,
        39 => Op::DeleteInAll { filter: scene.filter(numbers, model) },
        _ => Op::Verify,
    }
}

/// Corrects the clock slightly, or sets it by hours.
fn turn(numbers: &mut Numbers) -> Op {
    let near = i64::try_from(numbers.next(20_000_000)).unwrap();
    let micros = match numbers.next(13) {
        0..4 => -near,
        4..6 => near,
        6 => -far(numbers),
        _ => near % 3,
    };
    Op::Turn { micros }
}

/// Returns a number of microseconds of up to a few hours.
fn far(numbers: &mut Numbers) -> i64 {
    i64::try_from(numbers.next(20_000) * 1_000_000 + numbers.next(1_000_000)).unwrap()
}

fn dedupe(numbers: &mut Numbers, scene: &Scene<'_>, pool: u64, mode: Mode) -> Op {
    let firsts = numbers.next(2) == 0;
    Op::Dedupe { pool, mode, firsts, items: scene.batch(numbers, 24), origin: origin(numbers) }
}

fn claim(numbers: &mut Numbers, scene: &Scene<'_>, pool: u64) -> Op {
    let lease = millis(numbers, 20_000);
    let items = scene.batch(numbers, 16);
    let (origin, owner) = (origin(numbers), maybe(numbers, 3, owner));
    Op::Claim { pool, id: scene.next_claim, items, origin, lease, owner }
}

fn owner(numbers: &mut Numbers) -> String {
    format!("worker {}", numbers.next(2))
}

/// Ends claims from outside: their owner takes them up, or they are released by a filter.
fn over_claims(numbers: &mut Numbers, scene: &Scene<'_>, pool: u64, model: &PoolModel) -> Op {
    if numbers.next(2) == 0 {
        return Op::TakeUp { pool, owner: owner(numbers) };
    }
    let ages: Vec<Duration> = model.claims.values().map(|claim| claim.age(scene.now)).collect();
    // At most two conditions, so that several claims can still be distinguished.
    let conditions = [numbers.next(9), numbers.next(9)];
    let has = |condition| conditions.contains(&condition);
    let filter = ClaimsFilter {
        owner: has(0).then(|| owner(numbers)),
        place: has(1).then(|| index(numbers, model.claims.len() + 1)),
        flow: has(2).then(|| numbers.next(3)),
        run: has(3).then(|| numbers.next(6)),
        older_than: (has(4) && !ages.is_empty())
            .then(|| one_of(numbers, &ages).saturating_sub(Duration::from_micros(numbers.next(2)))),
        lapsed: has(5),
    };
    Op::ReleaseClaims { pool, filter }
}

/// If all contents are compared after each operation, there are only few pools.
fn name(numbers: &mut Numbers, scene: &Scene<'_>) -> String {
    format!("pool {}", numbers.next(if scene.mix == Mix::Crashes { 12 } else { 4 }))
}

fn create(numbers: &mut Numbers, scene: &Scene<'_>) -> Op {
    let retention = maybe(numbers, 1, |numbers| millis(numbers, 30_000));
    let capacity = maybe(numbers, 1, |numbers| 1 + numbers.next(100));
    Op::Create { name: name(numbers, scene), retention, capacity }
}

fn update(numbers: &mut Numbers, scene: &Scene<'_>, pool: u64) -> Op {
    Op::Update {
        pool,
        name: maybe(numbers, 1, |numbers| name(numbers, scene)),
        description: maybe(numbers, 1, |numbers| maybe(numbers, 3, |numbers| numbers.next(99).to_string())),
        retention: maybe(numbers, 2, |numbers| maybe(numbers, 2, |numbers| millis(numbers, 30_000))),
        capacity: maybe(numbers, 2, |numbers| maybe(numbers, 2, |numbers| 1 + numbers.next(120))),
    }
}

fn delete(numbers: &mut Numbers, scene: &Scene<'_>, pool: u64, model: &PoolModel) -> Op {
    let live = &model.live;
    if live.is_empty() {
        return Op::Clear { pool };
    }
    match numbers.next(10) {
        0..3 => {
            let id = |numbers: &mut Numbers| match numbers.next(6) {
                0 => one_of(numbers, &[0, model.next_id / 2, model.next_id, u64::MAX]),
                _ => live[index(numbers, live.len())].id,
            };
            Op::DeleteRecords { pool, ids: (0..=numbers.next(16)).map(|_| id(numbers)).collect() }
        }
        3 => Op::DeleteKeys { pool, items: items(numbers, 16) },
        4..6 => {
            let items = (0..=numbers.next(16)).map(|_| live[index(numbers, live.len())].item.clone());
            Op::DeleteKeys { pool, items: items.collect() }
        }
        6..8 => Op::DeleteWhere { pool, filter: scene.filter(numbers, model) },
        8 => Op::DeleteInAll { filter: scene.filter(numbers, model) },
        _ => Op::Clear { pool },
    }
}

fn settle(numbers: &mut Numbers, scene: &Scene<'_>) -> Op {
    let (pool, claim) = one_of(numbers, scene.held);
    let open = scene.model.pools[&pool].claims[&claim].open_places();
    let picks: BTreeSet<usize> = (0..=numbers.next(4)).map(|_| open[index(numbers, open.len())]).collect();
    let picks = picks.into_iter().collect::<Vec<_>>();
    // The key of an item whose value is erased cannot name it.
    let erased = &scene.model.pools[&pool].claims[&claim].erased;
    let has_erased = picks.iter().any(|place| erased.contains(place));
    let named = if has_erased { Named::ByIndex } else { one_of(numbers, &[Named::ByIndex, Named::ByKey]) };
    let how = match numbers.next(15) {
        0..3 => How::Confirm,
        3 => How::Release,
        4 => How::Drop,
        5..7 => How::ConfirmSome(picks, named),
        7 => How::ReleaseSome(picks, named),
        8..10 => How::Extend(millis(numbers, 20_000)),
        10 => How::Store,
        11 => How::HandOver,
        _ => How::ConfirmWith(numbers.next(100)),
    };
    Op::Settle { pool, claim, how }
}
