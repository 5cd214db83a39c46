//! Runs: what folds write beside a segment's table is found there, while it is merged, and once it is.

use std::collections::{BTreeMap, BTreeSet};

use datapool_store::testing::{self, Sizes};
use datapool_store::{DataPoolStore, ImportOptions, Key, Pool};
use redb::{ReadableTable, TableDefinition, TableHandle};

use crate::support::{self, Numbers, ORDERS, Place, Seed};

/// The first run of the first segment.
const RUN: TableDefinition<'_, u128, u32> = TableDefinition::new("runs/1/0/0");
const MEMBERSHIP: TableDefinition<'_, (u64, u32, u32), &[u8]> = TableDefinition::new("membership");
/// Where the blocks of the first run's filter begin.
const FILTER_BLOCKS: u32 = 1 << 24;

/// A segment of sixteen runs.
const SIZES: Sizes = Sizes { segment_slots: 256, ..Sizes::SMALL };

fn open(place: &Place) -> DataPoolStore {
    testing::open(&place.path, &support::options(), SIZES).unwrap()
}

fn keys(values: &[String]) -> Vec<Key<'_>> {
    values.iter().map(|value| Key::new(ORDERS, value.as_str())).collect()
}

/// The first live record of each value, by the records alone.
fn firsts(pool: &Pool) -> BTreeMap<String, u64> {
    let mut firsts = BTreeMap::new();
    for record in support::records(pool) {
        firsts.entry(record.value).or_insert(record.id);
    }
    firsts
}

/// Values that are tracked, deleted, tracked again and imported twice, in a store that is closed at any moment: folds are
/// begun anew, and so are merges.
#[test]
fn every_value_is_found_in_runs_in_those_that_are_merged_and_after_reopening() {
    let (mut most_runs, mut leftovers, mut merges) = (0, 0, 0);
    for seed in 0..6 {
        let _seed = Seed("seed", seed);
        let mut numbers = Numbers::seeded(seed);
        let place = Place::new();
        let mut store = open(&place);
        let values: Vec<String> = (0..900).map(|number| format!("value {number}")).collect();
        let some = |numbers: &mut Numbers, most: u64| {
            let start = numbers.next(890) as usize;
            values[start..start + 1 + numbers.next(most) as usize].to_vec()
        };
        for step in 0..250 {
            let pool = store.get_or_create_pool("orders").unwrap();
            match numbers.next(12) {
                0 => drop(pool.delete_keys(&keys(&some(&mut numbers, 4))).unwrap()),
                1 if step % 50 == 0 => {
                    let rows = some(&mut numbers, 9).join(",37\n");
                    let file = format!("value,entity_type_id\n{rows},37\n");
                    pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
                }
                2 => {
                    drop((pool, store));
                    let runs = Rows::of(&place);
                    most_runs = runs.whole.max(most_runs);
                    leftovers += u32::from(runs.is_partial);
                    merges += u32::from(runs.whole > 0 && runs.is_merging);
                    store = open(&place);
                    continue;
                }
                _ => drop(support::track(&pool, &some(&mut numbers, 9))),
            }
            let expected = firsts(&pool);
            let found = pool.contains_many(&keys(&values)).unwrap();
            let live: Vec<bool> = values.iter().map(|value| expected.contains_key(value)).collect();
            assert_eq!(found, live, "step {step}");
            let found = pool.lookup(&keys(&values)).unwrap();
            let ids: Vec<Option<u64>> = found.iter().map(|first| Some(first.as_ref()?.id)).collect();
            let first: Vec<_> = values.iter().map(|value| expected.get(value).copied()).collect();
            assert_eq!(ids, first, "step {step}");
            if step % 10 == 0 {
                assert_eq!(store.verify().unwrap().findings, [], "step {step}");
            }
        }
    }
    // It reached what it is about.
    assert!(most_runs >= 8 && leftovers >= 3 && merges >= 1, "{most_runs} {leftovers} {merges}");
}

/// What a closed store has in its first segment's runs.
struct Rows {
    /// How many runs there are.
    whole: u32,
    /// Whether there is one that a fold did not end.
    is_partial: bool,
    /// Whether some of them are in the segment's table, too.
    is_merging: bool,
}

impl Rows {
    fn of(place: &Place) -> Self {
        let mut rows = Self { whole: 0, is_partial: false, is_merging: false };
        place.damage(|txn| {
            let names = txn.list_tables().unwrap().map(|table| table.name().to_owned());
            let names: BTreeSet<String> = names.filter(|name| name.starts_with("runs/1/0/")).collect();
            let table = txn.open_table(TableDefinition::<u128, u32>::new("fingerprints/1/0")).unwrap();
            let membership = txn.open_table(MEMBERSHIP).unwrap();
            let has_filter = |run: u32| membership.get((1, 0, (run + 1) * FILTER_BLOCKS)).unwrap().is_some();
            rows.whole = (0..30).take_while(|run| has_filter(*run)).count() as u32;
            rows.is_partial = names.len() > rows.whole as usize;
            rows.is_merging = names.iter().any(|name| {
                let run = txn.open_table(TableDefinition::<u128, u32>::new(name)).unwrap();
                run.iter().unwrap().any(|row| table.get(row.unwrap().0.value()).unwrap().is_some())
            });
        });
        rows
    }
}

/// A store whose first segment has ten runs and the beginning of another, and values for them.
fn with_runs() -> (Place, Vec<String>) {
    let place = Place::new();
    let values = support::numbered("value", 190);
    let pool = open(&place).get_or_create_pool("orders").unwrap();
    for batch in values.chunks(5) {
        support::track(&pool, batch);
    }
    drop(pool);
    (place, values)
}

#[test]
fn once_a_segment_is_sealed_its_runs_are_merged_and_gone() {
    let (place, values) = with_runs();
    let runs = Rows::of(&place);
    assert!(runs.whole >= 4 && !runs.is_merging, "{}", runs.whole);
    let store = open(&place);
    let pool = store.pool_named("orders").unwrap();
    support::track(&pool, &support::numbered("other", 70));
    pool.prune().unwrap();
    assert!(pool.contains_many(&keys(&values)).unwrap().iter().all(|found| *found));
    assert_eq!(store.verify().unwrap().findings, []);
    drop((pool, store));
    place.damage(|txn| {
        let tables: Vec<String> = txn.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
        assert!(!tables.iter().any(|name| name.starts_with("runs/1/0/")), "{tables:?}");
        let membership = txn.open_table(MEMBERSHIP).unwrap();
        let blocks = membership.range((1, 0, 0)..(1, 1, 0)).unwrap();
        let blocks: Vec<u32> = blocks.map(|row| row.unwrap().0.value().2).collect();
        assert_eq!(blocks, [0, 1]);
    });
}

/// A fold that was begun as a run, the only one, is ended by a batch that is folded at once.
#[test]
fn a_run_that_was_never_ended_is_gone_once_its_segment_has_a_filter() {
    let place = Place::new();
    let store = open(&place);
    let pool = store.get_or_create_pool("orders").unwrap();
    let values = support::numbered("value", 240);
    let (first, others) = values.split_at(19);
    for value in first {
        support::track(&pool, &[value]);
    }
    for batch in others.chunks(30) {
        support::track(&pool, batch);
    }
    drop((pool, store));
    let runs = Rows::of(&place);
    assert!(runs.whole == 0 && runs.is_partial, "{} {}", runs.whole, runs.is_partial);
    let store = open(&place);
    let pool = store.pool_named("orders").unwrap();
    support::track(&pool, &support::numbered("other", 40));
    pool.prune().unwrap();
    assert!(pool.contains_many(&keys(&values)).unwrap().iter().all(|found| *found));
    assert_eq!(store.verify().unwrap().findings, []);
    drop((pool, store));
    assert!(!Rows::of(&place).is_partial);
}

/// Damages the runs of a store; expects findings in those tables, and that rebuilding mends it.
fn assert_found_and_mended(tables: &[&str], change: impl FnOnce(&redb::WriteTransaction)) {
    let (place, values) = with_runs();
    place.damage(change);
    let store = open(&place);
    let findings = store.verify().unwrap().findings;
    let found: BTreeSet<&str> = findings.iter().map(|finding| finding.table.as_str()).collect();
    assert!(found.into_iter().eq(tables.iter().copied()), "{findings:#?}");
    assert_eq!(store.rebuild_indexes().unwrap().left, []);
    assert_eq!(store.verify().unwrap().findings, []);
    let pool = store.pool_named("orders").unwrap();
    assert!(pool.contains_many(&keys(&values)).unwrap().iter().all(|found| *found));
    assert!(!support::has(&pool, "value 190"));
}

fn first_entry(txn: &redb::WriteTransaction) -> (u128, u32) {
    let table = txn.open_table(RUN).unwrap();
    let first = table.first().unwrap().unwrap();
    (first.0.value(), first.1.value())
}

#[test]
fn missing_altered_and_added_entries_of_runs_are_found_and_mended() {
    // What is missing is so in the segment's fingerprints, wherever they are.
    assert_found_and_mended(&["fingerprints/1/0", "runs/1/0/0"], |txn| {
        let (key, slot) = first_entry(txn);
        txn.open_table(RUN).unwrap().insert(key, slot ^ 1).unwrap();
    });
    assert_found_and_mended(&["membership", "runs/1/0/0"], |txn| {
        txn.open_table(RUN).unwrap().insert(77, 900).unwrap();
    });
    assert_found_and_mended(&["fingerprints/1/0"], |txn| {
        let (key, _) = first_entry(txn);
        txn.open_table(RUN).unwrap().remove(key).unwrap();
    });
}

#[test]
fn damaged_filters_of_runs_are_found_and_mended() {
    let block = |number| (1, 0, FILTER_BLOCKS + number);
    assert_found_and_mended(&["membership"], |txn| {
        assert!(txn.open_table(MEMBERSHIP).unwrap().remove(block(1)).unwrap().is_some());
    });
    assert_found_and_mended(&["membership"], |txn| {
        let mut table = txn.open_table(MEMBERSHIP).unwrap();
        let length = table.get(block(1)).unwrap().unwrap().value().len();
        table.insert(block(1), vec![0; length].as_slice()).unwrap();
    });
    assert_found_and_mended(&["membership"], |txn| {
        txn.open_table(MEMBERSHIP).unwrap().insert((1, 0, 28 * FILTER_BLOCKS), [1].as_slice()).unwrap();
    });
}
