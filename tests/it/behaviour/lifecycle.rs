//! Proves what closing, reopening, compacting and read-only stores promise: which handles continue, which
//! calls get `Closed`, `Busy` or `ReadOnly`, and that nothing is lost.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    Access, ClaimVerdict, DataPoolStore, Durability, ErrorKind, IfMissing, ImportOptions, Key, Mode, NewPool,
    Origin, Pool, PoolQuery, PoolUpdate, RecordFilter, RecordQuery, Recovery, Result, StoreOptions,
};

use crate::support::{self, Need, ORDERS, Place, is_walked};

impl Place {
    fn filled(&self) -> (DataPoolStore, Pool) {
        let store = self.open();
        let pool = store.get_or_create_pool("orders").unwrap();
        let values: Vec<String> = (0..200).map(|number| format!("A-{number}")).collect();
        support::track(&pool, &values);
        pool.delete_where(&RecordFilter::new().value("A-7")).unwrap();
        (store, pool)
    }
}

fn read_only() -> StoreOptions {
    support::options().access(Access::ReadOnly)
}

/// Returns the result of every call of a pool and a store.
fn every_call(store: &DataPoolStore, pool: &Pool) -> Vec<(&'static str, Result<()>)> {
    let key = || Key::new(ORDERS, "A-1");
    let none = Origin::none();
    let mut calls = reads(store, pool);
    calls.extend([
        ("dedupe", pool.dedupe(Mode::Track, &["N-1"], |v| Key::new(ORDERS, *v), &none).map(drop)),
        ("claim", pool.claim(&["N-2"], |v| Key::new(ORDERS, *v), &none, LEASE).map(drop)),
        (
            "import_csv",
            pool.import_csv(&b"value,entity_type_id\nN-3,37\n"[..], &ImportOptions::new()).map(drop),
        ),
        ("delete_records", pool.delete_records([1]).map(drop)),
        ("delete_keys", pool.delete_keys(&[key()]).map(drop)),
        ("delete_where", pool.delete_where(&RecordFilter::new().value("A-1")).map(drop)),
        ("clear", pool.clear().map(drop)),
        ("create_pool", store.create_pool(NewPool::new("another")).map(drop)),
        ("update_pool", store.update_pool(pool.id(), PoolUpdate::new().name("renamed")).map(drop)),
        ("delete_pool", store.delete_pool(pool.id())),
        ("put_flow", store.put_flow(datapool_store::Flow::new("shop", "The shop"))),
        ("compact", store.compact().map(drop)),
        ("vacuum", store.vacuum().map(drop)),
        ("delete_where in all", store.delete_where(&RecordFilter::new().value("A-1")).map(drop)),
        ("verify", store.verify().map(drop)),
        ("rebuild_indexes", store.rebuild_indexes().map(drop)),
    ]);
    calls
}

const LEASE: Duration = Duration::from_mins(1);

/// Returns the results of the calls that only read.
fn reads(store: &DataPoolStore, pool: &Pool) -> Vec<(&'static str, Result<()>)> {
    let key = || Key::new(ORDERS, "A-1");
    let none = Origin::none();
    vec![
        ("contains", pool.contains(key()).map(drop)),
        ("contains_many", pool.contains_many(&[key()]).map(drop)),
        ("lookup", pool.lookup(&[key()]).map(drop)),
        ("filter", pool.dedupe(Mode::Filter, &["A-1"], |v| Key::new(ORDERS, *v), &none).map(drop)),
        ("records", pool.records(&RecordQuery::new()).map(drop)),
        ("count", pool.count(&RecordFilter::new()).map(drop)),
        ("explain", pool.explain(&RecordQuery::new()).map(drop)),
        ("scan", pool.scan(&RecordFilter::new()).map(drop)),
        ("snapshot", pool.snapshot().map(drop)),
        ("export_csv", pool.export_csv(Vec::new(), &datapool_store::ExportOptions::new()).map(drop)),
        ("info", pool.info().map(drop)),
        ("claims", pool.claims().map(drop)),
        ("pool stats", pool.stats().map(drop)),
        ("entity_type_counts", pool.entity_type_counts().map(drop)),
        ("flow_counts", pool.flow_counts().map(drop)),
        ("pool", store.pool(pool.id()).map(drop)),
        ("pool_named", store.pool_named("orders").map(drop)),
        ("pools", store.pools(&PoolQuery::new()).map(drop)),
        ("stats", store.stats().map(drop)),
        ("flow", store.flow("shop").map(drop)),
    ]
}

#[test]
fn a_closed_store_answers_closed_to_every_handle_and_closing_again_does_nothing() {
    let place = Place::new();
    let (store, pool) = place.filled();
    let clone = store.clone();
    store.close().unwrap();
    for (name, result) in every_call(&clone, &pool) {
        assert_eq!(result.expect_err(name).kind(), ErrorKind::Closed, "{name}");
    }
    let copy = place.path.with_extension("copy");
    assert_eq!(store.backup_to(&copy).unwrap_err().kind(), ErrorKind::Closed);
    assert!(!copy.exists());
    // Calls that would have nothing to do.
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.put_flows(&[]).unwrap_err().kind(), ErrorKind::Closed);
    clone.close().unwrap();
    // The file is free, although there are still handles.
    let (again, _) = place.filled();
    assert_eq!(again.pool_named("orders").unwrap().count(&RecordFilter::new()).unwrap(), 199);
}

#[test]
fn a_closed_store_is_opened_again_under_its_handles() {
    let place = Place::new();
    let (store, pool) = place.filled();
    store.close().unwrap();
    store.reopen().unwrap();
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 199);
    assert_eq!(support::track(&pool, &["A-1", "A-7", "B-1"]), 2);
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn scans_snapshots_and_exports_end_with_closed_when_the_store_is_closed_or_reopened() {
    for reopened in [false, true] {
        let place = Place::new();
        let (store, pool) = place.filled();
        let mut scan = pool.scan(&RecordFilter::new()).unwrap();
        scan.next().unwrap().unwrap();
        let snapshot = pool.snapshot().unwrap();
        let mut of_snapshot = snapshot.scan(&RecordFilter::new()).unwrap();
        of_snapshot.next().unwrap().unwrap();
        if reopened {
            store.reopen().unwrap();
        } else {
            store.close().unwrap();
        }
        for scan in [scan, of_snapshot] {
            let rest: Vec<_> = scan.collect();
            let (last, before) = rest.split_last().unwrap();
            assert_eq!(last.as_ref().unwrap_err().kind(), ErrorKind::Closed);
            assert!(before.iter().all(Result::is_ok), "records that were already read are returned");
            assert!(rest.len() < 199);
        }
        assert_eq!(snapshot.contains(Key::new(ORDERS, "A-1")).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(snapshot.lookup(&[Key::new(ORDERS, "A-1")]).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(snapshot.records(&RecordQuery::new()).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(snapshot.count(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_claim_outlives_reopening_and_its_guard_goes_on_with_it() {
    let place = Place::new();
    let (store, pool) = place.filled();
    let mut claim = pool.claim(&["C-1", "C-2"], |v| Key::new(ORDERS, *v), &Origin::none(), LEASE).unwrap();
    store.reopen().unwrap();
    let other = pool.claim(&["C-1"], |v| Key::new(ORDERS, *v), &Origin::none(), LEASE).unwrap();
    assert!(matches!(other.verdict(0), Some(ClaimVerdict::InFlight { .. })));
    claim.confirm().unwrap().all_confirmed().unwrap();
    assert!(support::has(&pool, "C-1") && support::has(&pool, "C-2"));
}

#[test]
fn a_store_in_memory_keeps_what_it_has_when_it_is_closed_and_opened_again() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    store.reopen().unwrap();
    assert!(support::has(&pool, "A-1"));
    store.close().unwrap();
    assert_eq!(pool.clear().unwrap_err().kind(), ErrorKind::Closed);
    store.reopen().unwrap();
    assert_eq!(support::values(&pool), ["A-1"]);
}

#[test]
fn closing_and_reopening_bring_relaxed_calls_to_disk() {
    let place = Place::new();
    let relaxed = support::options().durability(Durability::Relaxed { flush_every: Duration::from_hours(1) });
    let store = place.open_with(&relaxed).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    store.reopen().unwrap();
    assert!(support::has(&pool, "A-1"));
    support::track(&pool, &["A-2"]);
    store.close().unwrap();
    let copy = place.path.with_extension("copy");
    fs::copy(&place.path, &copy).unwrap();
    let copied = support::embedded::open(&copy, &support::options(), Sizes::SMALL).unwrap();
    assert_eq!(support::values(&copied.pool_named("orders").unwrap()), ["A-1", "A-2"]);
}

#[test]
fn reopening_refuses_another_store_or_an_empty_file_in_its_place_and_can_be_tried_again() {
    let place = Place::new();
    let (store, pool) = place.filled();
    store.close().unwrap();
    let away = place.path.with_extension("away");
    fs::rename(&place.path, &away).unwrap();
    assert_eq!(store.reopen().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!place.path.exists(), "a new file was made");
    fs::write(&place.path, b"").unwrap();
    assert_eq!(store.reopen().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::metadata(&place.path).unwrap().len(), 0, "the empty file was changed");
    fs::remove_file(&place.path).unwrap();
    drop(place.open());
    assert_eq!(store.reopen().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pool.clear().unwrap_err().kind(), ErrorKind::Closed);
    fs::remove_file(&place.path).unwrap();
    fs::rename(&away, &place.path).unwrap();
    store.reopen().unwrap();
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 199);
}

#[test]
fn reopening_and_closing_in_the_midst_of_readers_and_writers_loses_nothing_and_hangs_nobody() {
    let place = Place::new();
    let store = place.open();
    let pool = store.get_or_create_pool("orders").unwrap();
    let done = &AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let pool = pool.clone();
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    for number in 0.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let values = [format!("W-{writer}-{number}")];
                        match pool.dedupe(Mode::Track, &values, |v| Key::new(ORDERS, v), &Origin::none()) {
                            Ok(_) => acknowledged.extend(values),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        for _ in 0..2 {
            let pool = pool.clone();
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let ended =
                        |error: datapool_store::Error| assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                    pool.contains(Key::new(ORDERS, "W-1-1")).map_or_else(ended, drop);
                    pool.count(&RecordFilter::new()).map_or_else(ended, drop);
                    let records =
                        pool.scan(&RecordFilter::new()).and_then(Iterator::collect::<Result<Vec<_>>>);
                    records.map_or_else(ended, drop);
                }
            });
        }
        for round in 0..30 {
            if round % 3 == 0 {
                store.close().unwrap();
            }
            store.reopen().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(!acknowledged.is_empty());
    for value in &acknowledged {
        assert!(support::has(&pool, value), "{value}");
    }
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn compacting_makes_the_file_shorter_and_changes_no_answer() {
    let place = Place::new();
    let (store, pool) = place.filled();
    for round in 0..20 {
        let values: Vec<String> = (0..500).map(|number| format!("R-{round}-{number}")).collect();
        support::track(&pool, &values);
    }
    pool.delete_where(&RecordFilter::new().created_after("2000-01-01".parse().unwrap())).unwrap();
    pool.prune().unwrap();
    support::track(&pool, &["A-1"]);
    let report = store.compact().unwrap();
    assert!(report.bytes_after < report.bytes_before, "{report:?}");
    assert_eq!(fs::metadata(&place.path).unwrap().len(), report.bytes_after);
    assert_eq!(support::values(&pool), ["A-1"]);
    assert_eq!(store.verify().unwrap().findings, []);
    drop((store, pool));
    assert_eq!(support::values(&place.open().pool_named("orders").unwrap()), ["A-1"]);
}

#[test]
fn compacting_answers_busy_while_a_scan_or_snapshot_is_open() {
    let place = Place::new();
    let (store, pool) = place.filled();
    let scan = pool.scan(&RecordFilter::new()).unwrap();
    let snapshot = pool.snapshot().unwrap();
    let error = store.compact().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("(and 1 more)"), "{error}");
    drop(scan);
    assert_eq!(store.compact().unwrap_err().kind(), ErrorKind::Busy);
    drop(snapshot);
    store.compact().unwrap();
}

/// A store is compacted, then its process dies. With `Recovery::Instant`, opening has nothing to rebuild.
#[test]
fn compacting_keeps_the_promise_of_instant_recovery() {
    let instant = support::options().recovery(Recovery::Instant);
    let disk = support::Memory::default();
    let store = support::embedded::on_disk(disk.clone(), &instant, Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    store.compact().unwrap();
    assert!(!is_walked(disk.copy(), &instant));
    let after = support::embedded::on_disk(disk.copy(), &instant, Sizes::SMALL).unwrap();
    assert_eq!(support::values(&after.pool_named("orders").unwrap()), ["A-1"]);
}

#[test]
fn a_store_opened_for_reading_reads_everything_and_writes_nothing() {
    let place = Place::new();
    drop(place.filled());
    let before = fs::read(&place.path).unwrap();
    {
        let store = place.open_with(&read_only()).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 199);
        assert_eq!(
            pool.records(&RecordQuery::new().filter(RecordFilter::new().flow_id("shop"))).unwrap().meta.total,
            199
        );
        let reads = reads(&store, &pool);
        let count = reads.len();
        for (name, result) in reads {
            assert!(result.is_ok(), "{name}: {result:?}");
        }
        for (name, result) in every_call(&store, &pool).into_iter().skip(count) {
            assert_eq!(result.expect_err(name).kind(), ErrorKind::ReadOnly, "{name}");
        }
        store.flush().unwrap();
        store.reopen().unwrap();
        assert_eq!(pool.clear().unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 199);
        store.close().unwrap();
    }
    assert!(fs::read(&place.path).unwrap() == before, "the file was changed");
}

#[test]
fn many_may_read_a_file_at_once_and_none_while_another_writes() {
    let place = Place::new();
    let writer = place.filled();
    assert_eq!(place.open_with(&read_only()).unwrap_err().kind(), ErrorKind::AlreadyOpen);
    drop(writer);
    let first = place.open_with(&read_only()).unwrap();
    let second = place.open_with(&read_only()).unwrap();
    assert_eq!(second.pool_named("orders").unwrap().count(&RecordFilter::new()).unwrap(), 199);
    assert_eq!(place.open_with(&support::options()).unwrap_err().kind(), ErrorKind::AlreadyOpen);
    first.close().unwrap();
    drop(second);
    place.open();
}

#[test]
fn opening_for_reading_makes_no_file_and_recovers_none() {
    let place = Place::new();
    for if_missing in [IfMissing::Create, IfMissing::Fail] {
        let error = place.open_with(&read_only().if_missing(if_missing)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!place.path.exists());
    }
    fs::write(&place.path, b"").unwrap();
    assert_eq!(place.open_with(&read_only()).unwrap_err().kind(), ErrorKind::NotAStore);
    fs::remove_file(&place.path).unwrap();
    let disk = support::Memory::default();
    let store = support::embedded::on_disk(disk.clone(), &support::options(), Sizes::SMALL).unwrap();
    support::track(&store.get_or_create_pool("orders").unwrap(), &["A-1"]);
    // The process dies.
    let left = disk.copy();
    let error = support::embedded::on_disk(left.clone(), &read_only(), Sizes::SMALL).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert!(error.to_string().contains("must be recovered"), "{error}");
    drop(support::embedded::on_disk(left.clone(), &support::options(), Sizes::SMALL).unwrap());
    let store = support::embedded::on_disk(left, &read_only(), Sizes::SMALL).unwrap();
    assert_eq!(support::values(&store.pool_named("orders").unwrap()), ["A-1"]);
}

#[test]
fn what_a_reader_with_retention_sees_expires_though_nothing_can_be_written() {
    let place = Place::new();
    let clock = support::clock();
    let options = support::options().clock(clock.clone());
    let store = place.open_with(&options).unwrap();
    let pool = store.create_pool(NewPool::new("orders").retention(LEASE)).unwrap();
    support::track(&pool, &["A-1"]);
    drop((store, pool));
    let store = place.open_with(&options.access(Access::ReadOnly)).unwrap();
    let pool = store.pool_named("orders").unwrap();
    assert!(support::has(&pool, "A-1"));
    clock.advance(LEASE);
    assert!(!support::has(&pool, "A-1"));
    store.close().unwrap();
}

#[test]
fn a_store_is_closed_from_within_a_key_closure_and_the_call_says_so() {
    let place = Place::new();
    let (store, pool) = place.filled();
    let key = |value: &&'static str| {
        store.close().unwrap();
        Key::new(ORDERS, *value)
    };
    let error = pool.dedupe(Mode::Track, &["N-1"], key, &Origin::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    store.reopen().unwrap();
    assert!(!support::has(&pool, "N-1"));
}

/// The snapshot keeps redb's transaction, and finds the value in memory.
#[test]
fn a_closed_store_frees_its_file_and_answers_nothing_though_a_snapshot_is_held() {
    let place = Place::new();
    let store = place.open();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let snapshot = pool.snapshot().unwrap();
    assert!(snapshot.contains(Key::new(ORDERS, "A-1")).unwrap());
    store.close().unwrap();
    assert_eq!(snapshot.contains(Key::new(ORDERS, "A-1")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(snapshot.contains_many(&[]).unwrap_err().kind(), ErrorKind::Closed);
    let other = place.open();
    let orders = other.pool_named("orders").unwrap();
    assert_eq!(support::track(&orders, &["A-1", "A-2"]), 1);
    drop(snapshot);
    assert!(support::has(&orders, "A-2"));
}
