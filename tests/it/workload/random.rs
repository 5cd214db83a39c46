//! Random operations that fit what a store holds.

use std::collections::BTreeSet;
use std::time::Duration;

use datapool_store::{EntityTypeId, Mode, OnDuplicate, Origin};

use super::model::{Model, PoolModel};
use super::{How, Op, Where};
use crate::support::Numbers;
use crate::support::items::Item;

/// How many values there are, of each of two entity types.
pub(crate) const VALUES: u64 = 150;
const TYPES: [u32; 2] = [37, 47];

pub(crate) fn item(number: u64) -> Item {
    let entity_type = EntityTypeId::new(TYPES[usize::from(number >= VALUES)]);
    Item { entity_type, value: format!("value {}", number % VALUES) }
}

/// Every item there is.
pub(crate) fn all_items() -> Vec<Item> {
    (0..2 * VALUES).map(item).collect()
}

pub(crate) fn index(numbers: &mut Numbers, below: usize) -> usize {
    usize::try_from(numbers.next(below as u64)).unwrap()
}

pub(crate) fn one_of<T: Clone>(numbers: &mut Numbers, of: &[T]) -> T {
    of[index(numbers, of.len())].clone()
}

/// Items that repeat each other now and then; often next to each other, so that a batch is mostly new or mostly known.
fn items(numbers: &mut Numbers, at_most: u64) -> Vec<Item> {
    let (count, start) = (1 + numbers.next(at_most), numbers.next(2 * VALUES));
    let spread = 2 * count + 4;
    (0..count).map(|_| item((start + numbers.next(spread)) % (2 * VALUES))).collect()
}

fn origin(numbers: &mut Numbers) -> Origin {
    match numbers.next(5) {
        0 => Origin::none(),
        _ => Origin::new(numbers.next(3), numbers.next(6), numbers.next(2)),
    }
}

fn millis(numbers: &mut Numbers, below: u64) -> Duration {
    Duration::from_millis(1 + numbers.next(below))
}

fn maybe<T>(numbers: &mut Numbers, of_four: u64, make: impl FnOnce(&mut Numbers) -> T) -> Option<T> {
    (numbers.next(4) < of_four).then(|| make(numbers))
}

/// An operation on a store of this state. `held` are the claims that can be settled, with their pools.
pub(crate) fn any_op(numbers: &mut Numbers, model: &Model, held: &[(u64, u64)], next_claim: u64) -> Op {
    let kind = numbers.next(100);
    let Some(pool) = model.pools.keys().nth(index(numbers, model.pools.len().max(1))).copied() else {
        return create(numbers);
    };
    match kind {
        0..30 => {
            let mode =
                one_of(numbers, &[Mode::Track, Mode::FilterAndTrack, Mode::FilterAndTrack, Mode::Filter]);
            Op::Dedupe { pool, mode, items: items(numbers, 24), origin: origin(numbers) }
        }
        30..40 => {
            let lease = millis(numbers, 20_000);
            Op::Claim { pool, id: next_claim, items: items(numbers, 16), origin: origin(numbers), lease }
        }
        40..54 if !held.is_empty() => settle(numbers, model, held),
        54..63 => delete(numbers, pool, &model.pools[&pool]),
        63..74 => {
            let policy =
                one_of(numbers, &[OnDuplicate::Add, OnDuplicate::Skip, OnDuplicate::Skip, OnDuplicate::Fail]);
            let every = maybe(numbers, 2, |numbers| 1 + numbers.next(20));
            Op::Import { pool, items: items(numbers, 60), policy, every }
        }
        74..76 => create(numbers),
        76..81 => update(numbers, pool),
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
        _ => Op::Pass {
            time: match numbers.next(12) {
                0 => Duration::from_mins(90),
                1..6 => millis(numbers, 10_000),
                _ => millis(numbers, 500),
            },
        },
    }
}

fn create(numbers: &mut Numbers) -> Op {
    let retention = maybe(numbers, 1, |numbers| millis(numbers, 30_000));
    let capacity = maybe(numbers, 1, |numbers| 1 + numbers.next(100));
    Op::Create { name: format!("pool {}", numbers.next(12)), retention, capacity }
}

fn update(numbers: &mut Numbers, pool: u64) -> Op {
    Op::Update {
        pool,
        name: maybe(numbers, 1, |numbers| format!("pool {}", numbers.next(12))),
        description: maybe(numbers, 1, |numbers| maybe(numbers, 3, |numbers| numbers.next(99).to_string())),
        retention: maybe(numbers, 2, |numbers| maybe(numbers, 2, |numbers| millis(numbers, 30_000))),
        capacity: maybe(numbers, 2, |numbers| maybe(numbers, 2, |numbers| 1 + numbers.next(120))),
    }
}

fn delete(numbers: &mut Numbers, pool: u64, model: &PoolModel) -> Op {
    let live = &model.live;
    if live.is_empty() {
        return Op::Clear { pool };
    }
    match numbers.next(9) {
        0..3 => {
            let ids = (0..=numbers.next(12)).map(|_| live[index(numbers, live.len())].id).collect();
            Op::DeleteRecords { pool, ids }
        }
        3..6 => Op::DeleteKeys { pool, items: items(numbers, 16) },
        6..8 => {
            let wanted = match numbers.next(4) {
                0 => Where::Flow(numbers.next(3)),
                1 => Where::Run(numbers.next(6)),
                2 => Where::Before(live[index(numbers, live.len())].created_at),
                _ => Where::Type(one_of(numbers, &TYPES)),
            };
            Op::DeleteWhere { pool, wanted }
        }
        _ => Op::Clear { pool },
    }
}

fn settle(numbers: &mut Numbers, model: &Model, held: &[(u64, u64)]) -> Op {
    let (pool, claim) = one_of(numbers, held);
    let open = model.pools[&pool].claims[&claim].open_places();
    let mut some = || {
        let picks: BTreeSet<usize> =
            (0..=numbers.next(4)).map(|_| open[index(numbers, open.len())]).collect();
        picks.into_iter().collect::<Vec<_>>()
    };
    let picks = some();
    let how = match numbers.next(11) {
        0..3 => How::Confirm,
        3 => How::Release,
        4 => How::Drop,
        5..7 => How::ConfirmSome(picks),
        7 => How::ReleaseSome(picks),
        8..10 => How::Extend(millis(numbers, 20_000)),
        _ => How::HandOver,
    };
    Op::Settle { pool, claim, how }
}
