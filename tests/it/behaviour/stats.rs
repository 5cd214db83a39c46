//! Proves that the statistics are right: what they count, what they measure, and the names under which they
//! serialize.

use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use datapool_store::{
    DataPoolStore, Durability, ImportOptions, Key, Mode, NewPool, Origin, Pool, RecordFilter, StoreOptions,
    Timestamp,
};
use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};

use crate::support::{self, Need, ORDERS, Place, store_with};

fn filled(store: &DataPoolStore, records: usize) -> Pool {
    let pool = store.get_or_create_pool("orders").unwrap();
    let values: Vec<String> =
        (0..records).map(|number| format!("a value of some length {number:08}")).collect();
    for batch in values.chunks(1_000) {
        support::track(&pool, batch);
    }
    pool
}

#[test]
fn checks_and_hits_count_every_value_that_was_asked_for() {
    let store = support::store_for(Need::Embedded);
    let pool = store.get_or_create_pool("orders").unwrap();
    let counts = || {
        let stats = store.stats().unwrap();
        (stats.checks, stats.hits)
    };
    assert_eq!(counts(), (0, 0));
    support::track(&pool, &["A-1", "A-2", "A-1"]);
    assert_eq!(counts(), (3, 1), "two new values and a repeat");
    assert!(support::has(&pool, "A-1") && !support::has(&pool, "B-1"));
    assert_eq!(counts(), (5, 2));
    let keys = ["A-1", "A-2", "C-1"].map(|value| Key::new(ORDERS, value));
    pool.contains_many(&keys).unwrap();
    pool.lookup(&keys).unwrap();
    assert_eq!(counts(), (11, 6));
    let filtered =
        pool.dedupe(Mode::Filter, &["A-1", "D-1"], |v| Key::new(ORDERS, *v), &Origin::none()).unwrap();
    assert_eq!(filtered.new_count(), 1);
    assert_eq!(counts(), (13, 7));
    let claim = pool
        .claim(&["A-1", "E-1"], |v| Key::new(ORDERS, *v), &Origin::none(), Duration::from_secs(9))
        .unwrap();
    assert_eq!(counts(), (15, 8));
    drop(claim);
    pool.snapshot().unwrap().contains(Key::new(ORDERS, "A-1")).unwrap();
    assert_eq!(counts(), (16, 9));
    // A call that fails has looked up nothing.
    pool.contains(Key::new(ORDERS, "")).unwrap_err();
    assert_eq!(counts(), (16, 9));
    store.reopen().unwrap();
    assert_eq!(counts(), (16, 9), "the counters survive reopening");
}

#[test]
fn group_sizes_tell_how_calls_shared_commits() {
    let store = support::store_for(Need::Embedded);
    let pool = store.get_or_create_pool("orders").unwrap();
    let before = store.stats().unwrap();
    assert_eq!(before.group_sizes.groups, 0);
    support::track(&pool, &["A-1"]);
    support::track(&pool, &["A-1"]);
    let alone = store.stats().unwrap();
    assert_eq!((alone.group_sizes.groups, alone.group_sizes.calls, alone.group_sizes.largest), (1, 1, 1));
    assert_eq!(alone.commits, before.commits + 1, "a call that changes nothing is not committed");
    let start = Barrier::new(16);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (pool, start) = (&pool, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..50 {
                    support::track(pool, &[format!("{thread}-{number}")]);
                }
            });
        }
    });
    let sizes = store.stats().unwrap().group_sizes;
    assert_eq!(sizes.calls, 1 + 16 * 50);
    assert!((1..=16).contains(&sizes.largest), "{sizes:?}");
    assert!(sizes.groups <= sizes.calls && sizes.mean >= 1.0 && sizes.mean <= 16.0, "{sizes:?}");
}

#[test]
fn folds_seals_and_dropped_segments_are_counted() {
    let store = support::store_for(Need::Embedded);
    let pool = filled(&store, 0);
    for number in 0..300 {
        support::track(&pool, &[format!("A-{number}")]);
    }
    let stats = store.stats().unwrap();
    // Segments have 64 records, and folds have 16.
    assert_eq!(stats.seals, 4);
    assert!((300 / 16 - 2..=300 / 16).contains(&stats.folds), "{stats:?}");
    assert_eq!(stats.segments_dropped, 0);
    let keys: Vec<String> = (0..128).map(|number| format!("A-{number}")).collect();
    pool.delete_keys(&keys.iter().map(|value| Key::new(ORDERS, value.as_str())).collect::<Vec<_>>()).unwrap();
    pool.prune().unwrap();
    assert_eq!(store.stats().unwrap().segments_dropped, 2);
    let rows: String = (0..200).map(|number| format!("I-{number},37\n")).collect();
    let file = format!("value,entity_type_id\n{rows}");
    pool.import_csv(file.as_bytes(), &datapool_store::ImportOptions::new()).unwrap();
    assert!(store.stats().unwrap().seals > 4);
}

#[test]
fn a_held_snapshot_shows_its_age_and_the_space_that_it_holds() {
    let (disk, store) = support::measured_store(&support::options());
    let pool = filled(&store, 1_000);
    let idle = store.stats().unwrap();
    assert_eq!((idle.oldest_snapshot, idle.snapshots, idle.held_by_readers), (None, 0, 0));
    let first = pool.snapshot().unwrap();
    let second = first.clone();
    let size = disk.bytes();
    for number in 0..400 {
        support::track(&pool, &[format!("later {number}")]);
    }
    let held = store.stats().unwrap();
    assert_eq!(held.snapshots, 1, "a clone is the same snapshot");
    assert!(held.oldest_snapshot.is_some());
    let grown = (disk.bytes() - size) as u64;
    assert!(grown > 0, "the snapshot made the file grow");
    assert!(held.held_by_readers >= grown.min(held.file_size) / 2, "{held:?}, grown by {grown}");
    assert!(held.held_by_readers <= held.file_size);
    assert_eq!(held.file_size, disk.bytes() as u64);
    // A scan reads each slice from a fresh snapshot, so it holds nothing.
    let scan = pool.scan(&RecordFilter::new()).unwrap();
    drop(first);
    assert_eq!(store.stats().unwrap().snapshots, 1);
    drop(second);
    let after = store.stats().unwrap();
    assert_eq!((after.oldest_snapshot, after.snapshots, after.held_by_readers), (None, 0, 0));
    drop(scan);
}

#[test]
fn memory_of_indexes_follows_the_tails_and_is_given_back() {
    let store = StoreOptions::new().open_in_memory().unwrap();
    let pool = filled(&store, 40_000);
    let stats = (store.stats().unwrap(), pool.stats().unwrap());
    assert_eq!(stats.1.unfolded, 40_000);
    assert!((40_000 * 32..40_000 * 300).contains(&stats.0.index_memory), "{stats:?}");
    store.rebuild_indexes().unwrap();
    assert_eq!(pool.stats().unwrap().unfolded, 0);
    assert!(store.stats().unwrap().index_memory < 40_000 * 3);
    assert!(stats.0.cache_memory > 0 && stats.0.cache_memory <= stats.0.file_size);
    assert!(stats.0.bytes_written > 40_000 * 20);
}

#[test]
fn the_bytes_of_a_pool_are_estimated_within_a_third() {
    let directory = tempfile::tempdir().unwrap();
    for (number, runs) in [(0, 40), (1, 40_000)] {
        let path = directory.path().join(number.to_string());
        let store = StoreOptions::new().hash_key([7; 16]).open(&path).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        let values: Vec<String> =
            (0..40_000).map(|number| format!("a value of some length {number:08}")).collect();
        for (number, batch) in values.chunks(40_000 / runs).enumerate() {
            let origin = Origin::new("shop", format!("run {number}").as_str(), "read");
            if runs > 100 && number > 3_000 {
                break;
            }
            let _ = pool.dedupe(Mode::Track, batch, |v| Key::new(ORDERS, v), &origin).unwrap();
        }
        store.rebuild_indexes().unwrap();
        let (estimated, records) = (pool.stats().unwrap().bytes, pool.stats().unwrap().live);
        store.compact().unwrap();
        // An empty store uses some pages, too.
        let size = store.stats().unwrap().file_size;
        let actual = size.saturating_sub(40_000);
        assert!(
            estimated > actual * 2 / 3 && estimated < actual * 4 / 3,
            "{estimated} of {actual} bytes for {records} records in {runs} runs"
        );
    }
}

#[test]
fn a_pools_figures_tell_what_is_live_what_is_dead_and_how_full_its_segments_are() {
    let clock = support::clock();
    let options = support::options().clock(clock.clone());
    let store = store_with(Need::Embedded, &options);
    let pool = store.create_pool(NewPool::new("orders").retention(Duration::from_secs(100))).unwrap();
    let empty = pool.stats().unwrap();
    assert_eq!((empty.live, empty.oldest, empty.newest, empty.segments), (0, None, None, 1));
    let track = |range: std::ops::Range<u32>| {
        let values: Vec<String> = range.map(|number| format!("A-{number}")).collect();
        support::track(&pool, &values);
    };
    track(0..30);
    clock.advance(Duration::from_mins(1));
    track(30..100);
    pool.delete_records([40, 41]).unwrap();
    let claim =
        pool.claim(&["C-1"], |v| Key::new(ORDERS, *v), &Origin::none(), Duration::from_secs(9)).unwrap();
    let stats = pool.stats().unwrap();
    assert_eq!((stats.live, stats.expired, stats.deleted, stats.claims), (98, 0, 2, 1));
    assert_eq!((stats.oldest, stats.newest), (Some(support::time("2013-01-01")), Some(clock.now())));
    clock.advance(Duration::from_secs(50));
    let stats = pool.stats().unwrap();
    assert_eq!((stats.live, stats.expired, stats.deleted), (68, 30, 2));
    assert_eq!(stats.oldest, Some(support::time("2013-01-01 00:01:00")));
    let fill: Vec<(bool, u64, u64, u64)> = stats
        .fill
        .iter()
        .map(|segment| (segment.sealed, segment.records, segment.live, segment.slots))
        .collect();
    assert_eq!(fill.iter().map(|segment| segment.1).sum::<u64>(), 100);
    assert!(fill.iter().all(|segment| segment.3 == 64));
    assert!(!fill.last().unwrap().0, "the last segment is open: {fill:?}");
    assert!(fill.len() > 1 && fill[..fill.len() - 1].iter().all(|segment| segment.0), "{fill:?}");
    assert_eq!(stats.segments, fill.len() as u64);
    drop(claim);
}

#[test]
fn deleted_records_are_no_expired_ones_wherever_they_lie() {
    let store = support::store_for(Need::Embedded);
    let plain = store.create_pool(NewPool::new("plain")).unwrap();
    let kept = store.create_pool(NewPool::new("kept").retention(Duration::from_hours(1))).unwrap();
    let capped = store.create_pool(NewPool::new("capped").capacity(100)).unwrap();
    for pool in [plain, kept, capped] {
        support::track(&pool, &(0..10).map(|number| format!("A-{number}")).collect::<Vec<_>>());
        // The first records are then below the watermark, but not the last one.
        pool.delete_records([1, 2, 3, 7]).unwrap();
        let stats = pool.stats().unwrap();
        assert_eq!((stats.live, stats.expired, stats.deleted), (6, 0, 4));
    }
}

#[test]
fn figures_serialize_by_the_names_of_their_fields() {
    let store = support::store_for(Need::Embedded);
    let pool = filled(&store, 3);
    let stats = serde_json::to_value(store.stats().unwrap()).unwrap();
    for name in [
        "pools",
        "file_size",
        "cache_memory",
        "index_memory",
        "oldest_snapshot",
        "held_by_readers",
        "checks",
        "hits",
        "commits",
        "group_sizes",
    ] {
        assert!(stats.get(name).is_some(), "{name} in {stats}");
    }
    assert_eq!(stats["oldest_snapshot"], serde_json::Value::Null);
    assert_eq!(stats["group_sizes"]["calls"], 1);
    let snapshot = pool.snapshot().unwrap();
    let held = serde_json::to_value(store.stats().unwrap()).unwrap();
    assert!(held["oldest_snapshot"].is_f64(), "{held}");
    drop(snapshot);
    let stats = serde_json::to_value(pool.stats().unwrap()).unwrap();
    for name in ["live", "expired", "deleted", "segments", "bytes", "claims"] {
        assert!(stats[name].is_u64(), "{name} in {stats}");
    }
    let newest: Timestamp = stats["newest"].as_str().unwrap().parse().unwrap();
    assert_eq!(Some(newest), pool.stats().unwrap().newest);
    assert_eq!(stats["fill"][0]["live"], 3);
}

/// Returns the bytes of those tables in a closed file that grow with the records of its only pool.
fn bytes_of_tables(path: &Path) -> u64 {
    let database = redb::Database::create(path).unwrap();
    let txn = database.begin_read().unwrap();
    let grow = ["records/", "postings/", "results/", "origins", "fingerprints", "filters"];
    let bytes = |table: redb::UntypedTableHandle| {
        if !grow.iter().any(|start| table.name().starts_with(start)) {
            return 0;
        }
        let stats = txn.open_untyped_table(table).unwrap().stats().unwrap();
        stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes()
    };
    txn.list_tables().unwrap().map(bytes).sum()
}

fn track_all(pool: &Pool, values: &[String], together: usize, run: impl Fn(usize) -> String) {
    for (number, batch) in values.chunks(together).enumerate() {
        let origin = Origin::new("shop", run(number).as_str(), "read orders");
        let _ = pool.dedupe(Mode::Track, batch, |v| Key::new(ORDERS, v), &origin).unwrap();
    }
}

/// Imports 6,000 short values, which indexes them, each with the other cells that `cells` returns for it.
fn import(pool: &Pool, header: &str, cells: impl Fn(u32) -> String, options: &ImportOptions) {
    let rows: String = (0..6_000).map(|number| format!("{number},37{}\n", cells(number))).collect();
    pool.import_csv(format!("value,entity_type_id{header}\n{rows}").as_bytes(), options).unwrap();
}

fn keep(pool: &Pool, result: impl Fn(usize) -> Vec<u8>) {
    for (number, values) in support::numbered("A", 3_100).chunks(100).enumerate() {
        pool.claim(values, |v| Key::new(ORDERS, v.as_str()), &Origin::none(), Duration::from_mins(1))
            .unwrap()
            .confirm_with(|index| Some(result(100 * number + index)))
            .unwrap()
            .all_confirmed()
            .unwrap();
    }
}

const AN_ORIGIN_FOR_FOUR: &str = "an origin for every four records";

/// A pool of a certain shape: up to 4,096 records of a segment are measured, and the size of more is estimated.
type Shape = (&'static str, fn(&Pool));

const SHAPES: [Shape; 9] = [
    ("few records", |pool| track_all(pool, &support::numbered("", 1_000), 500, |_| "run".to_owned())),
    ("short values with one origin", |pool| {
        track_all(pool, &support::numbered("", 6_000), 1_000, |_| "run".to_owned());
    }),
    ("values that are longer at the end", |pool| {
        let long = "x".repeat(100);
        let value = |number| if number < 3_100 { format!("{number}") } else { format!("{long}{number}") };
        let values: Vec<String> = (0..6_000).map(value).collect();
        track_all(pool, &values, 1_000, |_| "run".to_owned());
    }),
    // Their rows come one by one, so the pages of their table are half empty.
    (AN_ORIGIN_FOR_FOUR, |pool| {
        let run = |number| format!("a run with a long number {number:06}");
        track_all(pool, &support::numbered("", 6_000), 4, run);
    }),
    ("batches as long as the distance of samples", |pool| {
        track_all(pool, &support::numbered("", 64_000), 1_000, |number| format!("run {number}"));
    }),
    ("indexed, with one origin", |pool| {
        import(pool, "", |_| String::new(), &ImportOptions::new().origin(&support::origin()));
    }),
    ("indexed, with a flow, run and step for each record", |pool| {
        let options = ImportOptions::new().origin_columns(Some("flow"), Some("run"), Some("step"));
        let cells = |number| format!(",flow {number:04},run {number:04},step {number:04}");
        import(pool, ",flow,run,step", cells, &options);
    }),
    ("short results", |pool| keep(pool, |_| vec![1; 4])),
    ("results that are longer at the end", |pool| {
        keep(pool, |number| vec![1; if number < 1_850 { 4 } else { 300 }]);
    }),
];

#[test]
fn the_bytes_of_pools_of_many_shapes_are_estimated_within_a_fifth() {
    let relaxed = Durability::Relaxed { flush_every: Duration::from_hours(1) };
    for (shape, fill) in SHAPES {
        let place = Place::new();
        let store = support::options().durability(relaxed).open(&place.path).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        fill(&pool);
        let estimated = pool.stats().unwrap().bytes;
        drop((pool, store));
        let actual = bytes_of_tables(&place.path);
        let tolerated = if shape == AN_ORIGIN_FOR_FOUR { actual / 3 } else { actual / 5 };
        assert!(estimated.abs_diff(actual) <= tolerated, "{shape}: {estimated} of {actual} bytes");
    }
}
