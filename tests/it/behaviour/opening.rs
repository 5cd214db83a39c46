//! Proves how opening waits for a file, which process is named as its holder, what a read-only store refuses,
//! and that nothing is left of exports and backups whose process was killed.

use std::fs;
use std::time::{Duration, Instant};

use datapool_store::{
    Access, ClaimToken, DataPoolStore, ErrorKind, ExportOptions, Flow, ImportOptions, Key, Mode, NewPool,
    Origin, PoolUpdate, RecordFilter, Result, StoreOptions,
};

use crate::support::{self, Need, ORDERS};

#[test]
fn opening_waits_for_a_file_as_long_as_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let store = DataPoolStore::open(&path).unwrap();
    let wait = Duration::from_millis(60);
    let started = Instant::now();
    let error = StoreOptions::new().open_timeout(wait).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
    assert!(error.kind().is_retryable() && !error.kind().is_caller_error());
    assert!(started.elapsed() >= wait);
    let held = std::thread::spawn(move || {
        std::thread::sleep(wait);
        drop(store);
    });
    assert!(StoreOptions::new().open_timeout(Duration::from_mins(1)).open(&path).is_ok());
    held.join().unwrap();
}

#[test]
fn of_many_that_create_a_file_at_once_one_creates_it_and_the_others_wait() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..30 {
        let path = directory.path().join(format!("pools {round}.redb"));
        let at_once = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for name in ["orders", "customers", "products", "messages"] {
                let (path, at_once) = (&path, &at_once);
                scope.spawn(move || {
                    at_once.wait();
                    let options = StoreOptions::new().open_timeout(Duration::from_mins(2));
                    options.open(path).unwrap().create_pool(NewPool::new(name)).unwrap();
                });
            }
        });
        assert_eq!(DataPoolStore::open(&path).unwrap().all_pools().unwrap().len(), 4);
    }
}

#[test]
fn a_file_of_zeros_is_not_a_store_and_the_message_says_why_it_may_be_one_of_zeros() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    for length in [9, 4_096, 73_728] {
        fs::write(&path, vec![0; length]).unwrap();
        let error = DataPoolStore::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAStore, "{error}");
        assert!(error.to_string().contains("killed while it created the store"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), vec![0; length]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_holder_of_a_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let store = DataPoolStore::open(&path).unwrap();
    for options in [StoreOptions::new(), StoreOptions::new().access(Access::ReadOnly)] {
        let error = options.open(&path).unwrap_err().to_string();
        assert!(error.contains("in this process") && error.contains("pools.redb"), "{error}");
    }
    drop(store);
}

#[test]
fn a_store_that_only_reads_refuses_every_call_that_writes_whatever_it_would_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let store = DataPoolStore::open(&path).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let claim = pool.claim(&["B-1"], |v| Key::new(ORDERS, *v), &Origin::none(), Duration::from_hours(1));
    let token: ClaimToken = claim.unwrap().into_token().unwrap();
    drop((pool, store));
    let before = fs::read(&path).unwrap();
    let store = StoreOptions::new().access(Access::ReadOnly).open(&path).unwrap();
    let pool = store.pool_named("orders").unwrap();
    let no_values: [&str; 0] = [];
    let key = |value: &'_ &'static str| Key::new(ORDERS, *value);
    let track =
        |values: &'static [&'static str]| pool.dedupe(Mode::Track, values, key, &Origin::none()).map(drop);
    let lease = Duration::from_mins(1);
    let empty_file = "value,entity_type_id\n";
    let calls: Vec<(&str, Result<()>)> = vec![
        ("track nothing", track(&[])),
        ("track what is there", track(&["A-1"])),
        ("filter and track", pool.dedupe(Mode::FilterAndTrack, &no_values, key, &Origin::none()).map(drop)),
        ("claim nothing", pool.claim(&no_values, key, &Origin::none(), lease).map(drop)),
        ("delete no records", pool.delete_records([0_u64; 0]).map(drop)),
        ("delete unknown records", pool.delete_records([99]).map(drop)),
        ("delete no keys", pool.delete_keys(&[]).map(drop)),
        ("delete where nothing is named", pool.delete_where(&RecordFilter::new()).map(drop)),
        ("delete where nothing is found", pool.delete_where(&RecordFilter::new().value("Z")).map(drop)),
        ("clear", pool.clear().map(drop)),
        ("prune", pool.prune().map(drop)),
        ("prune all", store.prune().map(drop)),
        ("import nothing", pool.import_csv(empty_file.as_bytes(), &ImportOptions::new()).map(drop)),
        ("import what is no CSV", pool.import_csv("".as_bytes(), &ImportOptions::new()).map(drop)),
        ("import no file", pool.import_csv_path("/nowhere", &ImportOptions::new()).map(drop)),
        ("create", store.create_pool(NewPool::new("customers")).map(drop)),
        ("create what is there", store.create_pool(NewPool::new("orders")).map(drop)),
        ("update nothing", store.update_pool(pool.id(), PoolUpdate::new()).map(drop)),
        ("update no pool", store.update_pool(99, PoolUpdate::new()).map(drop)),
        ("delete no pool", store.delete_pool(99)),
        ("register nothing", store.put_flows(&[])),
        ("register", store.put_flow(Flow::new("1", "one"))),
        ("forget nothing", store.delete_flow("1").map(drop)),
        ("forget what is old", store.delete_flows_before(support::time("2013-01-01")).map(drop)),
        ("rebuild", store.rebuild_indexes().map(drop)),
        ("compact", store.compact().map(drop)),
        ("vacuum", store.vacuum().map(drop)),
        ("delete in all", store.delete_where(&datapool_store::RecordFilter::all()).map(drop)),
        ("confirm", store.resume_claim(&token).and_then(|mut claim| claim.confirm().map(drop))),
        ("release", store.resume_claim(&token).and_then(|mut claim| claim.release().map(drop))),
    ];
    for (name, answer) in calls {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::ReadOnly, "{name}");
    }
    assert_eq!(store.get_or_create_pool("orders").unwrap().id(), pool.id());
    assert_eq!(support::values(&pool), ["A-1"]);
    store.close().unwrap();
    assert!(fs::read(&path).unwrap() == before, "the file was changed");
}

#[test]
fn what_killed_exports_and_backups_left_goes_with_the_next_of_the_same_kind() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = DataPoolStore::open(path("pools.redb")).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let left = [".datapool-export-killed", ".datapool-backup-killed"];
    let others = [".datapool-export", "datapool-export-mine.csv", ".datapool-vacuum-1"];
    for name in left.iter().chain(&others) {
        fs::write(path(name), "half").unwrap();
    }
    // One of them is still being written.
    let (held, taken) = (".datapool-export-held", fs::File::create(path(".datapool-export-held")).unwrap());
    taken.lock().unwrap();
    pool.export_csv_path(path("all.csv"), &ExportOptions::new()).unwrap();
    assert!(!path(left[0]).exists() && path(left[1]).exists() && path(held).exists());
    store.backup_to(path("copy.redb")).unwrap();
    assert!(!path(left[1]).exists() && path(held).exists());
    for name in others {
        assert_eq!(fs::read(path(name)).unwrap(), b"half", "{name}");
    }
    drop(taken);
    pool.export_csv_path(path("all.csv"), &ExportOptions::new()).unwrap();
    assert!(!path(held).exists());
    assert_eq!(support::values(&DataPoolStore::open(path("copy.redb")).unwrap().pool(1).unwrap()), ["A-1"]);
}

#[test]
fn what_cannot_be_written_is_told_by_the_systems_own_reason() {
    let directory = tempfile::tempdir().unwrap();
    let store = DataPoolStore::open(directory.path().join("pools.redb")).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let nowhere = directory.path().join("nowhere");
    let export = pool.export_csv_path(nowhere.join("all.csv"), &ExportOptions::new()).unwrap_err();
    let backup = store.backup_to(nowhere.join("copy.redb")).unwrap_err();
    for error in [export, backup] {
        assert_eq!(error.kind(), ErrorKind::Io);
        let expected = format!("No such file or directory: {}", nowhere.display());
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn registrations_are_forgotten_by_age() {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    for run in 0..10 {
        store.put_flow_run(datapool_store::FlowRun::new(format!("run {run}").as_str(), "a run")).unwrap();
        clock.advance(Duration::from_hours(1));
    }
    store.put_flow_run(datapool_store::FlowRun::new("run 2", "again")).unwrap();
    store.put_flow(Flow::new("flow", "a flow")).unwrap();
    let before = support::time("2013-01-01").saturating_add(Duration::from_hours(6));
    assert_eq!(store.delete_flow_runs_before(before).unwrap(), 5);
    let left: Vec<String> = store.flow_runs().map(|run| run.unwrap().id.to_string()).collect();
    assert_eq!(left, ["run 2", "run 6", "run 7", "run 8", "run 9"]);
    assert_eq!(store.delete_flow_runs_before(before).unwrap(), 0);
    assert!(store.flow("flow").unwrap().is_some());
}
