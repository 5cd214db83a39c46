//! Proves that dead data can be erased: after a vacuum and in a backup, no byte of a value, origin or claimed
//! item is left that no live data uses, in whatever way it died. Also proves that a vacuum changes nothing
//! else.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    ClaimOutcome, ClaimVerdict, DataPoolStore, EntityTypeId, ErrorKind, Flow, IfMissing, Key, Mode, NewPool,
    Origin, Pool, PoolUpdate, RecordFilter, Result, VacuumReport, limits,
};

use crate::support::{self, CUSTOMERS, Need, Numbers, ORDERS, Place, StoreFile};

const MINUTE: Duration = Duration::from_mins(1);

/// Returns 40 random characters that occur nowhere by chance.
fn secret(numbers: &mut Numbers) -> String {
    (0..40).map(|_| char::from(b"0123456789abcdef"[numbers.next(16) as usize])).collect()
}

fn key<'k>(value: &&'k str) -> Key<'k> {
    Key::new(ORDERS, *value)
}

fn track(pool: &Pool, values: &[&str], origin: &Origin) {
    let _ = pool.dedupe(Mode::Track, values, |value| Key::new(ORDERS, *value), origin).unwrap();
}

fn has_bytes(path: &Path, text: &str) -> bool {
    fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
}

/// A way in which something that only `secret` identifies enters a pool and dies there.
type Death = fn(&StoreFile, &DataPoolStore, &Pool, &str);

const DEATHS: [(&str, Death); 24] = [
    ("deleted by id", |_, _, pool, secret| {
        track(pool, &["a", secret, "b"], &support::origin());
        let found = pool.lookup(&[Key::new(ORDERS, secret)]).unwrap().remove(0).unwrap();
        assert_eq!(pool.delete_records([found.id]).unwrap(), 1);
    }),
    ("deleted by key", |_, _, pool, secret| {
        track(pool, &[secret], &Origin::none());
        assert_eq!(pool.delete_keys(&[Key::new(ORDERS, secret)]).unwrap(), 1);
    }),
    ("deleted by filter", |_, _, pool, secret| {
        track(pool, &[secret], &Origin::none());
        assert_eq!(pool.delete_where(&RecordFilter::new().value(secret)).unwrap(), 1);
    }),
    ("deleted in all pools", |_, store, pool, secret| {
        track(pool, &[secret], &Origin::none());
        track(&store.get_or_create_pool("another").unwrap(), &[secret], &Origin::none());
        assert_eq!(store.delete_where(&RecordFilter::new().value(secret)).unwrap(), 2);
    }),
    ("cleared", |_, _, pool, secret| {
        track(pool, &[secret], &Origin::none());
        assert!(pool.clear().unwrap() > 0);
    }),
    ("deleted with its pool", |_, store, _, secret| {
        let pool = store.create_pool(NewPool::new("short lived").description(secret)).unwrap();
        track(&pool, &[secret], &Origin::none());
        store.delete_pool(pool.id()).unwrap();
    }),
    ("expired", |file, store, pool, secret| {
        store.update_pool(pool.id(), PoolUpdate::new().retention(MINUTE)).unwrap();
        track(pool, &[secret], &Origin::none());
        file.clock.advance(MINUTE);
    }),
    ("evicted", |_, store, pool, secret| {
        track(pool, &[secret], &Origin::none());
        store.update_pool(pool.id(), PoolUpdate::new().capacity(3)).unwrap();
        track(pool, &["1", "2", "3"], &support::origin());
    }),
    ("dead, then folded", |_, _, pool, secret| {
        track(pool, &[secret], &Origin::none());
        pool.delete_keys(&[Key::new(ORDERS, secret)]).unwrap();
        support::track(pool, &support::numbered("F", 200));
    }),
    ("folded, then dead", |_, _, pool, secret| {
        track(pool, &[secret], &Origin::none());
        support::track(pool, &support::numbered("F", 200));
        pool.delete_keys(&[Key::new(ORDERS, secret)]).unwrap();
    }),
    ("an origin of one record", |_, _, pool, secret| {
        track(pool, &["of it"], &Origin::new(secret, "run", "step"));
        pool.delete_keys(&[Key::new(ORDERS, "of it")]).unwrap();
    }),
    ("an origin of several records", |_, _, pool, secret| {
        track(pool, &["one", "two", "three"], &Origin::new("flow", secret, "step"));
        support::track(pool, &support::numbered("F", 100));
        assert_eq!(pool.delete_where(&RecordFilter::new().flow_run_id(secret)).unwrap(), 3);
    }),
    ("a claim that was confirmed, and its record deleted", |_, _, pool, secret| {
        let mut claim = pool.claim(&["other", secret], key, &Origin::none(), MINUTE).unwrap();
        claim.confirm_items(&[1]).unwrap().all_confirmed().unwrap();
        pool.delete_keys(&[Key::new(ORDERS, secret)]).unwrap();
        assert!(claim.into_token().is_some());
    }),
    ("a claim that was released in part", |_, _, pool, secret| {
        let mut claim = pool.claim(&["other", secret], key, &Origin::none(), MINUTE).unwrap();
        assert_eq!(claim.release_items(&[1]).unwrap(), 1);
        assert!(claim.into_token().is_some());
    }),
    ("a claim that was released", |_, _, pool, secret| {
        drop(pool.claim(&[secret], key, &Origin::new(secret, "run", "step"), MINUTE).unwrap());
    }),
    ("a claim that lost it to a record, which was deleted", |_, _, pool, secret| {
        let claim = pool.claim(&["other", secret], key, &Origin::none(), MINUTE).unwrap();
        track(pool, &[secret], &Origin::none());
        pool.delete_keys(&[Key::new(ORDERS, secret)]).unwrap();
        assert!(claim.into_token().is_some());
    }),
    ("a claim that is void", |_, store, pool, secret| {
        let claim = pool.claim(&["other", secret], key, &Origin::none(), MINUTE).unwrap();
        assert_eq!(store.delete_where(&RecordFilter::new().value(secret)).unwrap(), 0);
        assert!(claim.into_token().is_some());
    }),
    ("a claim that is past its hour", |file, _, pool, secret| {
        let options = datapool_store::ClaimOptions::new().lease(MINUTE).owner(secret);
        let claim = pool.claim_with(&[secret], key, &Origin::new("flow", secret, "step"), &options).unwrap();
        assert!(claim.into_token().is_some());
        file.clock.advance(MINUTE + limits::CLAIM_KEPT_AFTER_LEASE);
    }),
    ("a pool's former name and description", |_, store, pool, secret| {
        store.update_pool(pool.id(), PoolUpdate::new().name(secret).description(secret)).unwrap();
        store.update_pool(pool.id(), PoolUpdate::new().name("orders").clear_description()).unwrap();
    }),
    ("a flow that is no longer registered", |_, store, _, secret| {
        store.put_flow(Flow::new(secret, secret)).unwrap();
        assert!(store.delete_flow(secret).unwrap());
    }),
    ("imported", |_, _, pool, secret| {
        let csv = format!("value,entity_type_id\n{secret},37\n{secret},37\nkept,37\n");
        pool.import_csv(csv.as_bytes(), &datapool_store::ImportOptions::new()).unwrap();
        assert_eq!(pool.delete_keys(&[Key::new(ORDERS, secret)]).unwrap(), 2);
    }),
    ("a result of a record that was deleted", |_, _, pool, secret| {
        let mut claim = pool.claim(&["of it"], key, &Origin::none(), MINUTE).unwrap();
        claim.confirm_with(|_| Some(secret)).unwrap().all_confirmed().unwrap();
        pool.delete_keys(&[Key::new(ORDERS, "of it")]).unwrap();
    }),
    ("the origin and the result of a record that was replaced", |_, _, pool, secret| {
        let first = |value: &&'static str| Key::new(ORDERS, *value).content("first");
        let mut claim = pool.claim(&["of it"], first, &Origin::new("flow", "run", secret), MINUTE).unwrap();
        claim.confirm_with(|_| Some(secret)).unwrap().all_confirmed().unwrap();
        let second = |value: &&'static str| Key::new(ORDERS, *value).content("second");
        let verdicts = pool.dedupe(Mode::Track, &["of it"], second, &Origin::none()).unwrap();
        assert!(matches!(verdicts[0], datapool_store::Verdict::Changed { .. }));
    }),
    ("a result of a record that expired", |file, store, pool, secret| {
        store.update_pool(pool.id(), PoolUpdate::new().retention(MINUTE)).unwrap();
        let mut claim = pool.claim(&["of it"], key, &Origin::none(), MINUTE).unwrap();
        claim.confirm_with(|_| Some(secret)).unwrap().all_confirmed().unwrap();
        file.clock.advance(MINUTE);
    }),
];

fn with_death(death: Death, size: usize, numbers: &mut Numbers) -> (tempfile::TempDir, StoreFile, String) {
    let (directory, file, secret) = (tempfile::tempdir().unwrap(), StoreFile::new(), secret(numbers));
    let (pool, store) = file.open_orders();
    support::track(&pool, &support::numbered("A", size));
    death(&file, &store, &pool, &secret);
    (directory, file, secret)
}

#[test]
fn after_a_vacuum_nothing_of_the_dead_is_in_the_file() {
    let (mut numbers, mut left) = (Numbers::seeded(1), 0);
    for (name, death) in DEATHS {
        let mut was_there = false;
        for size in [0, 5, 90] {
            let (_directory, file, secret) = with_death(death, size, &mut numbers);
            let (pool, store) = file.open_orders();
            let (live, path) = (support::values(&pool), file.path());
            was_there |= has_bytes(&path, &secret);
            let report = store.vacuum().unwrap();
            assert!(!has_bytes(&path, &secret), "{name}, beside {size}");
            assert_eq!(support::values(&pool), live, "{name}");
            assert!(report.records >= live.len() as u64, "{name}");
            assert_eq!(store.verify().unwrap().findings, [], "{name}");
            store.close().unwrap();
            assert!(!has_bytes(&path, &secret), "{name}, beside {size}, closed");
            store.reopen().unwrap();
            assert_eq!(support::values(&pool), live, "{name}");
            for value in &live {
                assert!(has_bytes(&path, value), "{name}: {value} is live");
            }
        }
        left += usize::from(was_there);
    }
    // The space of some is reused at once.
    assert!(left * 4 > DEATHS.len() * 3, "without a vacuum, {left} of {} stay in the file", DEATHS.len());
}

#[test]
fn nothing_of_the_dead_is_in_a_backup() {
    let mut numbers = Numbers::seeded(2);
    for (name, death) in DEATHS {
        for size in [0, 5, 90] {
            let (directory, file, secret) = with_death(death, size, &mut numbers);
            let (pool, store) = file.open_orders();
            let copy = directory.path().join("copy");
            let report = store.backup_to(&copy).unwrap();
            assert!(!has_bytes(&copy, &secret), "{name}, beside {size}");
            let options = support::options().clock(file.clock.clone());
            let copied = support::embedded::open(&copy, &options, Sizes::SMALL).unwrap();
            assert_eq!(copied.verify().unwrap().findings, [], "{name}");
            let values = support::values(&copied.pool_named("orders").unwrap());
            assert_eq!(values, support::values(&pool), "{name}");
            assert!(report.records >= values.len() as u64 && report.rows > 0);
        }
    }
}

#[test]
fn what_is_live_or_in_flight_stays() {
    let mut numbers = Numbers::seeded(3);
    let (file, secrets) = (StoreFile::new(), [(); 8].map(|()| secret(&mut numbers)));
    let [value, flow, run, step, claimed, lapsed, name, tracked] = &secrets;
    let (pool, store) = file.open_orders();
    let origin = Origin::new(flow.as_str(), run.as_str(), step.as_str());
    track(&pool, &["dead", value], &origin);
    pool.delete_keys(&[Key::new(ORDERS, "dead")]).unwrap();
    store.put_flow(Flow::new("flow", name.as_str())).unwrap();
    let short = pool.claim(&[lapsed.as_str()], key, &Origin::none(), Duration::from_secs(1)).unwrap();
    file.clock.advance(Duration::from_secs(2));
    let mut claim = pool.claim(&[claimed.as_str(), tracked], key, &origin, MINUTE).unwrap();
    track(&pool, &[tracked], &origin);
    let token = short.into_token().unwrap();
    store.vacuum().unwrap();
    for secret in &secrets {
        assert!(has_bytes(&file.path(), secret), "{secret}");
    }
    // The guard continues to work. So does a lapsed claim that nobody took over.
    let outcomes = claim.confirm().unwrap();
    let [(0, ClaimOutcome::Confirmed(_)), (1, ClaimOutcome::AlreadyTracked(first))] = outcomes.outcomes()
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(first.value, *tracked);
    store.resume_claim(&token).unwrap().confirm().unwrap().all_confirmed().unwrap();
    assert_eq!(pool.count(&RecordFilter::new().flow_id(flow.as_str())).unwrap(), 3);
    assert!(support::has(&pool, lapsed));
}

#[test]
fn an_item_whose_value_is_erased_keeps_its_place_in_its_claim() {
    let file = StoreFile::new();
    let (pool, store) = file.open_orders();
    let values = ["settled", "kept", "lost", "tracked"];
    let mut claim = pool.claim(&values, key, &Origin::none(), MINUTE).unwrap();
    claim.release_items(&[0]).unwrap();
    track(&pool, &["lost", "tracked"], &Origin::none());
    pool.delete_keys(&[Key::new(ORDERS, "lost")]).unwrap();
    let token = claim.into_token().unwrap();
    let listed = pool.claims().unwrap();
    for _ in 0..2 {
        store.vacuum().unwrap();
        assert!(!has_bytes(&file.path(), "settled") && !has_bytes(&file.path(), "lost"));
        assert_eq!(pool.claims().unwrap(), listed);
        let resumed = store.resume_claim(&token).unwrap();
        let verdicts: Vec<_> = resumed.verdicts().iter().map(|(index, verdict)| (*index, verdict)).collect();
        let (settled, lost) = (&ClaimVerdict::Settled, &ClaimVerdict::Lost);
        assert_eq!(verdicts, [(0, settled), (1, &ClaimVerdict::Claimed), (2, lost), (3, lost)]);
        assert_eq!(resumed.partition(values).unmatched, Vec::<&str>::new());
        assert!(resumed.into_token().is_some());
    }
    assert_eq!(store.verify().unwrap().findings, []);
    assert_eq!(store.rebuild_indexes().unwrap().left, []);
    let mut resumed = store.resume_claim(&token).unwrap();
    let error = resumed.confirm_keys(&[Key::new(ORDERS, "lost")]).unwrap_err();
    assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(0)), "{error}");
    let outcomes = resumed.confirm().unwrap();
    let [(1, ClaimOutcome::Confirmed(_)), (2, ClaimOutcome::LeaseLost), (3, ClaimOutcome::AlreadyTracked(_))] =
        outcomes.outcomes()
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(pool.claims().unwrap(), []);
}

/// The open segment has live records before dead ones, only dead ones, or none.
#[test]
fn a_pool_whose_last_records_are_dead_keeps_its_next_id_and_its_time() {
    for (size, deleted) in
        [(10, 5..=10), (70, 65..=70), (70, 3..=70), (64, 60..=64), (10, 1..=10), (90, 90..=90)]
    {
        let file = StoreFile::new();
        let (pool, store) = file.open_orders();
        support::track(&pool, &support::numbered("A", size));
        file.clock.advance(MINUTE);
        support::track(&pool, &["newest"]);
        let newest = support::records(&pool).last().unwrap().created_at;
        let mut ids: Vec<u64> = deleted.clone().collect();
        ids.push(size as u64 + 1);
        assert_eq!(pool.delete_records(ids.iter().copied()).unwrap(), ids.len() as u64);
        let live = support::records(&pool);
        for _ in 0..2 {
            store.vacuum().unwrap();
            store.close().unwrap();
            store.reopen().unwrap();
            assert_eq!(support::records(&pool), live, "{size}, {deleted:?}");
        }
        file.clock.set(support::time("2012-01-01"));
        support::track(&pool, &["next"]);
        let next = support::records(&pool).pop().unwrap();
        assert_eq!(next.id.get(), size as u64 + 2, "{size}, {deleted:?}");
        let time = if live.is_empty() { support::time("2012-01-01") } else { newest };
        assert_eq!(next.created_at, time, "{size}, {deleted:?}");
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

#[test]
fn a_vacuumed_store_is_as_small_as_a_new_one_and_a_second_vacuum_leaves_it_so() {
    let place = Place::new();
    let store = place.open();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &support::numbered("A", 5_000));
    pool.delete_where(&RecordFilter::new().created_after("2000-01-01".parse().unwrap())).unwrap();
    support::track(&pool, &["B-1"]);
    let first = store.vacuum().unwrap();
    assert!(first.bytes_after * 4 < first.bytes_before, "{first:?}");
    assert_eq!((first.records, first.bytes_after), (1, fs::metadata(&place.path).unwrap().len()));
    let second = store.vacuum().unwrap();
    assert_eq!((second.records, second.bytes_before), (1, first.bytes_after));
    assert!(second.bytes_after <= first.bytes_after);
    assert_eq!(support::records(&pool)[0].id.get(), 5_001);
    assert_eq!(pool.stats().unwrap().deleted, 0);
}

#[test]
fn an_empty_store_is_vacuumed() {
    for store in [support::store_for(Need::Any), Place::new().open()] {
        assert_eq!(store.vacuum().unwrap().records, 0);
        let pool = store.create_pool("orders").unwrap();
        assert_eq!((pool.id().get(), store.vacuum().unwrap().records), (1, 0));
        assert_eq!(support::track(&pool, &["A-1"]), 1);
        store.delete_pool(pool.id()).unwrap();
        store.vacuum().unwrap();
        assert_eq!(store.create_pool("another").unwrap().id().get(), 2);
    }
}

#[test]
fn a_store_in_memory_is_vacuumed_in_memory() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &support::numbered("A", 3_000));
    assert_eq!(pool.delete_records(2..=3_000_u64).unwrap(), 2_999);
    let VacuumReport { bytes_before, bytes_after, records, .. } = store.vacuum().unwrap();
    assert!(bytes_after < bytes_before && records == 1, "{bytes_before} and {bytes_after}");
    assert_eq!(
        (support::values(&pool), store.stats().unwrap().file_size),
        (vec!["A-0".to_owned()], bytes_after)
    );
    assert_eq!(store.verify().unwrap().findings, []);
    store.reopen().unwrap();
    assert_eq!(support::values(&pool), ["A-0"]);
}

#[test]
fn a_vacuum_is_busy_while_a_scan_snapshot_or_backup_is_open() {
    let place = Place::with_orders(300);
    let store = place.open();
    let pool = store.pool_named("orders").unwrap();
    let scan = pool.scan(&RecordFilter::new()).unwrap();
    let error = store.vacuum().unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.to_string().contains("a scan or export"), "{error}");
    drop(scan);
    let snapshot = pool.snapshot().unwrap();
    assert_eq!(store.vacuum().unwrap_err().kind(), ErrorKind::Busy);
    drop(snapshot);
    store
        .backup_with_progress(place.path.with_extension("copy"), |_| {
            assert_eq!(store.vacuum().unwrap_err().kind(), ErrorKind::Busy);
            ControlFlow::Continue(())
        })
        .unwrap();
    store.vacuum().unwrap();
    assert_eq!(support::values(&pool).len(), 300);
}

#[test]
fn during_a_vacuum_reading_goes_on_and_nothing_else_hangs() {
    let place = Place::with_orders(300);
    let (directory, store) = (place.path.parent().unwrap(), place.open());
    let pool = store.pool_named("orders").unwrap();
    pool.delete_records([1]).unwrap();
    let mut asked = 0;
    let calls = || -> Vec<(&str, Result<()>)> {
        vec![
            ("scan", pool.scan(&RecordFilter::new()).map(drop)),
            ("snapshot", pool.snapshot().map(drop)),
            ("backup", store.backup_to(directory.join("copy")).map(drop)),
            ("verify", store.verify().map(drop)),
            ("track", pool.dedupe(Mode::Track, &["new"], key, &Origin::none()).map(drop)),
            ("delete", pool.delete_records([2]).map(drop)),
            ("delete in all", store.delete_where(&RecordFilter::all()).map(drop)),
            ("create", store.create_pool("another").map(drop)),
            ("compact", store.compact().map(drop)),
            ("vacuum", store.vacuum().map(drop)),
            ("rebuild", store.rebuild_indexes().map(drop)),
            ("close", store.close()),
            ("reopen", store.reopen()),
        ]
    };
    store
        .vacuum_with_progress(|progress| {
            assert!(progress.done <= progress.total);
            asked += 1;
            assert!(support::has(&pool, "A-7") && !support::has(&pool, "A-0"));
            assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 299);
            for (name, answer) in calls() {
                assert_eq!(answer.unwrap_err().kind(), ErrorKind::Busy, "{name}");
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(asked > 0);
    assert_eq!(support::values(&pool).len(), 299);
    assert_eq!(support::track(&pool, &["new"]), 1);
    assert_eq!(support::names(directory), ["pools.redb"]);
}

#[test]
fn a_vacuum_that_is_stopped_leaves_the_file_as_it_is_and_nothing_beside_it() {
    let place = Place::with_orders(300);
    let (directory, store) = (place.path.parent().unwrap(), place.open());
    let pool = store.pool_named("orders").unwrap();
    pool.delete_records([1]).unwrap();
    let length = store.stats().unwrap().file_size;
    let stopped = store.vacuum_with_progress(|_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Cancelled, "{stopped}");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.vacuum_with_progress(|_| panic!("the observer's own"))
    }));
    assert!(panicked.is_err());
    assert_eq!(support::names(directory), ["pools.redb"]);
    assert_eq!(store.stats().unwrap().file_size, length);
    assert!(has_bytes(&place.path, "A-0"));
    assert_eq!(support::track(&pool, &["B-1"]), 1);
    store.vacuum().unwrap();
    assert_eq!(support::values(&pool).len(), 300);
}

#[test]
fn what_a_killed_vacuum_left_goes_with_the_next_one() {
    let place = Place::with_orders(3);
    let left = place.path.with_file_name(".datapool-vacuum-abc123");
    fs::write(&left, "half a copy").unwrap();
    place.open().vacuum().unwrap();
    assert_eq!(support::names(place.path.parent().unwrap()), ["pools.redb"]);
}

/// Opening through a link finds the new file, and no user may read it who could not read the old one.
#[cfg(unix)]
#[test]
fn a_vacuum_keeps_links_and_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = Place::with_orders(3);
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    symlink(&place.path, &link).unwrap();
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o640)).unwrap();
    let store = support::embedded::open(&link, &support::options(), Sizes::SMALL).unwrap();
    let pool = store.pool_named("orders").unwrap();
    pool.delete_records([1]).unwrap();
    store.vacuum().unwrap();
    support::track(&pool, &["after"]);
    store.close().unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), place.path);
    assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(support::names(directory.path()), ["link"]);
    assert_eq!(support::names(place.path.parent().unwrap()), ["pools.redb"]);
    assert_eq!(support::values(&place.open().pool_named("orders").unwrap()), ["A-1", "A-2", "after"]);
    assert!(!has_bytes(&place.path, "A-0"));
}

/// A backup was moved to the path of the file that the store still has open.
#[cfg(unix)]
#[test]
fn a_vacuum_replaces_no_other_file_than_its_own() {
    let place = Place::with_orders(3);
    let store = place.open();
    fs::remove_file(&place.path).unwrap();
    fs::write(&place.path, "somebody else's").unwrap();
    let error = store.vacuum().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage, "{error}");
    assert!(error.to_string().contains("another one took its place"), "{error}");
    assert_eq!(fs::read_to_string(&place.path).unwrap(), "somebody else's");
    assert_eq!(support::names(place.path.parent().unwrap()), ["pools.redb"]);
    assert_eq!(support::values(&store.pool_named("orders").unwrap()).len(), 3);
}

/// The vacuumed file takes its place while a process that opened the old file is waiting for the lock.
#[cfg(unix)]
#[test]
fn whoever_gets_the_lock_of_a_file_that_was_replaced_opens_the_new_one() {
    let place = Place::with_orders(3);
    let new = place.path.with_extension("new");
    {
        let store = place.open();
        store.pool_named("orders").unwrap().delete_records([1]).unwrap();
        store.backup_to(&new).unwrap();
    }
    // The store was not closed, so opening it calls the observer after taking the lock.
    let store = place.open();
    support::track(&store.pool_named("orders").unwrap(), &["in the old file only"]);
    let killed = place.path.with_extension("killed");
    fs::copy(&place.path, &killed).unwrap();
    drop(store);
    fs::rename(&killed, &place.path).unwrap();
    let (from, to) = (new.clone(), place.path.clone());
    let options = support::options().if_missing(IfMissing::Fail).on_repair_progress(move |_| {
        let _ = fs::rename(&from, &to);
        ControlFlow::Continue(())
    });
    let store = place.open_with(&options).unwrap();
    assert!(!new.exists(), "the file was replaced meanwhile");
    let pool = store.pool_named("orders").unwrap();
    assert_eq!(support::values(&pool), ["A-1", "A-2"]);
    support::track(&pool, &["B-1"]);
    drop((pool, store));
    assert_eq!(support::values(&place.open().pool_named("orders").unwrap()), ["A-1", "A-2", "B-1"]);
}

/// Several stores wait for the file. Each vacuums it and passes it on.
#[test]
fn stores_that_wait_for_a_file_that_is_vacuumed_lose_nothing() {
    let place = Place::with_orders(3);
    let options = support::options().open_timeout(MINUTE);
    let rounds = support::runs(6, 30);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (place, options) = (&place, &options);
            scope.spawn(move || {
                for round in 0..rounds {
                    let store = place.open_with(options).unwrap();
                    let pool = store.pool_named("orders").unwrap();
                    support::track(&pool, &[format!("{writer}-{round}"), format!("dead {writer}-{round}")]);
                    pool.delete_keys(&[Key::new(ORDERS, format!("dead {writer}-{round}"))]).unwrap();
                    store.vacuum().unwrap();
                }
            });
        }
    });
    let store = place.open();
    let found = support::values(&store.pool_named("orders").unwrap());
    assert_eq!(found.len() as u64, 3 + 4 * rounds);
    assert!(found.iter().all(|value| !value.starts_with("dead")));
    assert_eq!(support::names(place.path.parent().unwrap()), ["pools.redb"]);
}

/// Readers, writers and runners with claims work during repeated vacuums.
#[test]
fn calls_beside_vacuums_are_answered_as_ever() {
    let place = Place::with_orders(100);
    let store = place.open();
    let pool = store.pool_named("orders").unwrap();
    let rounds = support::runs(8, 40);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let pool = pool.clone();
            scope.spawn(move || {
                for round in 0..rounds * 5 {
                    let value = format!("{writer}-{round}");
                    let claimed = pool.claim(&[value.as_str()], key, &Origin::none(), MINUTE).unwrap();
                    let mut claim = claimed;
                    claim.confirm().unwrap().all_confirmed().unwrap();
                    assert!(support::has(&pool, &value) && support::has(&pool, "A-5"));
                    if round % 2 == 0 {
                        assert_eq!(pool.delete_keys(&[Key::new(ORDERS, value)]).unwrap(), 1);
                    }
                }
            });
        }
        for _ in 0..rounds {
            store.vacuum().unwrap();
        }
    });
    assert_eq!(support::values(&pool).len() as u64, 100 + 2 * (rounds * 5 / 2));
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn a_filter_deletes_in_all_pools_in_one_commit() {
    let store = support::store_for(Need::Any);
    let pools: Vec<Pool> =
        (0..3).map(|number| store.create_pool(format!("pool {number}")).unwrap()).collect();
    for pool in &pools[..2] {
        support::track(pool, &["jo", "other"]);
        let _ = pool.dedupe(Mode::Track, &["jo"], |v| Key::new(CUSTOMERS, *v), &Origin::none()).unwrap();
    }
    assert_eq!(store.delete_where(&RecordFilter::new()).unwrap(), 0);
    let commits = store.stats().unwrap().commits;
    assert_eq!(store.delete_where(&RecordFilter::new().value("jo").entity_type_id(ORDERS)).unwrap(), 2);
    assert_eq!(store.stats().unwrap().commits, commits + 1);
    assert_eq!(store.delete_where(&RecordFilter::new().value("jo")).unwrap(), 2);
    assert_eq!(store.delete_where(&RecordFilter::new().value("jo")).unwrap(), 0);
    assert_eq!(pools.iter().map(|pool| support::values(pool).len()).collect::<Vec<_>>(), [1, 1, 0]);
    let error = store.delete_where(&RecordFilter::new().value("")).unwrap_err();
    assert_eq!(
        (error.kind(), error.parameter()),
        (ErrorKind::InvalidQuery, Some("filter[value]")),
        "{error}"
    );
    assert_eq!(store.delete_where(&RecordFilter::all()).unwrap(), 2);
}

#[test]
fn a_filter_that_names_values_voids_claims_on_them_in_all_pools() {
    let store = support::store_for(Need::Any);
    let pools: Vec<Pool> =
        (0..2).map(|number| store.create_pool(format!("pool {number}")).unwrap()).collect();
    let shop = Origin::new("shop", "run 1", "step");
    let types = [ORDERS, CUSTOMERS];
    let claim_all = |pool: &Pool| {
        let items: Vec<(EntityTypeId, &str)> =
            types.into_iter().flat_map(|of| [(of, "jo"), (of, "other")]).collect();
        pool.claim(&items, |(of, value)| Key::new(*of, *value), &shop, MINUTE).unwrap()
    };
    let is_held = |pool: &Pool, of: EntityTypeId, value: &str| {
        let filtered = pool.dedupe(Mode::Filter, &[value], |v| Key::new(of, *v), &Origin::none()).unwrap();
        filtered.new_count() == 0
    };
    let held = |pool: &Pool| -> Vec<bool> {
        types.into_iter().flat_map(|of| [is_held(pool, of, "jo"), is_held(pool, of, "other")]).collect()
    };
    let claims: Vec<_> = pools.iter().map(claim_all).collect();
    let jo = || RecordFilter::new().value("jo");
    let none_voided = [
        RecordFilter::all(),
        RecordFilter::new().flow_id("shop"),
        RecordFilter::new().entity_type_id(ORDERS),
        jo().created_after("2000-01-01".parse().unwrap()),
        jo().created_before("2100-01-01".parse().unwrap()),
        jo().flow_id("another"),
        jo().entity_type_id(9),
        RecordFilter::new().value("j"),
    ];
    for filter in none_voided {
        assert_eq!(store.delete_where(&filter).unwrap(), 0);
        assert!(pools.iter().all(|pool| held(pool) == [true; 4]), "{filter:?}");
    }
    // Only the store's call does this, because it covers all pools.
    assert_eq!(pools[0].delete_where(&jo()).unwrap(), 0);
    assert_eq!(held(&pools[0]), [true; 4]);
    store.delete_where(&jo().entity_type_id(CUSTOMERS)).unwrap();
    assert!(pools.iter().all(|pool| held(pool) == [true, true, false, true]));
    store.delete_where(&jo().flow_id("shop").step_id("step")).unwrap();
    assert!(pools.iter().all(|pool| held(pool) == [false, true, false, true]));
    for mut claim in claims {
        let confirmation = claim.confirm().unwrap();
        let lost: Vec<usize> = confirmation
            .outcomes()
            .iter()
            .filter(|(_, outcome)| *outcome == ClaimOutcome::LeaseLost)
            .map(|(index, _)| *index)
            .collect();
        assert_eq!((lost, confirmation.confirmed_count()), (vec![0, 2], 2));
    }
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn whoever_waits_for_a_value_wakes_when_its_claim_is_void() {
    let store = support::store_for(Need::Any);
    let pool = store.create_pool("orders").unwrap();
    let claim = pool.claim(&["jo"], key, &Origin::none(), MINUTE).unwrap();
    let waiting = pool.clone();
    let waiter = std::thread::spawn(move || waiting.wait_for(&[Key::new(ORDERS, "jo")], MINUTE).unwrap());
    store.delete_where(&RecordFilter::new().value("jo")).unwrap();
    assert_eq!(waiter.join().unwrap(), [datapool_store::WaitOutcome::Free]);
    drop(claim);
}

/// Ids of dead records are never reused, and retention, capacity and clearing continue as before.
#[test]
fn policies_and_clearing_go_on_after_a_vacuum() {
    let file = StoreFile::new();
    let (_, store) = file.open_orders();
    let pool = store.create_pool(NewPool::new("recent").retention(MINUTE * 2).capacity(40)).unwrap();
    let mut last = 0;
    for round in 0..12_u64 {
        support::track(&pool, &support::numbered(&round.to_string(), 30));
        pool.delete_where(&RecordFilter::new().value(format!("{round}-3"))).unwrap();
        let records = support::records(&pool);
        assert!(
            records.len() <= 40
                && records.iter().all(|record| record.created_at >= support::time("2013-01-01"))
        );
        let newest = records.last().unwrap().id.get();
        assert!(newest > last, "round {round}");
        last = newest;
        if round == 6 {
            pool.clear().unwrap();
        }
        let (before, stats) = (support::records(&pool), pool.stats().unwrap());
        assert_eq!(store.vacuum().unwrap().records, before.len() as u64);
        assert_eq!(support::records(&pool), before, "round {round}");
        let after = pool.stats().unwrap();
        assert_eq!((after.live, after.oldest, after.newest), (stats.live, stats.oldest, stats.newest));
        assert_eq!(store.verify().unwrap().findings, [], "round {round}");
        file.clock.advance(Duration::from_secs(25));
    }
    file.clock.advance(MINUTE * 3);
    assert_eq!(store.vacuum().unwrap().records, 0);
    support::track(&pool, &["next"]);
    assert_eq!(support::records(&pool)[0].id.get(), last + 1);
}

/// A commit that leaves no live record sets the pool's time to the clock. This also holds when the pool is
/// loaded again.
#[test]
fn what_is_tracked_after_the_clock_was_put_right_is_copied() {
    const DAY: Duration = Duration::from_hours(24);
    let reopen = |store: &DataPoolStore| store.reopen().unwrap();
    let vacuum = |store: &DataPoolStore| assert_eq!(store.vacuum().unwrap().records, 0);
    let nothing = |_: &DataPoolStore| {};
    let loads: [&dyn Fn(&DataPoolStore); 3] = [&reopen, &vacuum, &nothing];
    for (load, is_cleared) in loads.iter().flat_map(|load| [(load, true), (load, false)]) {
        let (directory, file) = (tempfile::tempdir().unwrap(), StoreFile::new());
        let (pool, store) = file.open_orders();
        store.update_pool(pool.id(), PoolUpdate::new().retention(DAY)).unwrap();
        file.clock.advance(5 * DAY);
        support::track(&pool, &["a"]);
        if is_cleared {
            pool.clear().unwrap();
        } else {
            file.clock.advance(2 * DAY);
        }
        load(&store);
        file.clock.set(support::time("2013-01-01 00:00:00"));
        support::track(&pool, &["b", "c"]);
        // Records that expired by the clock that was ahead must not return, so the pool's time stays ahead.
        let live = support::values(&pool);
        assert!(live == ["b", "c"] || !is_cleared, "{live:?}");
        let backup = store.backup_to(directory.path().join("copy")).unwrap();
        assert_eq!(backup.records, live.len() as u64);
        for _ in 0..2 {
            assert_eq!(store.vacuum().unwrap().records, live.len() as u64);
            assert_eq!(support::values(&pool), live);
            store.reopen().unwrap();
            assert_eq!(support::values(&pool), live);
        }
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

#[cfg(unix)]
#[test]
fn a_copy_under_way_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let file = StoreFile::new();
    let (pool, store) = file.open_orders();
    support::track(&pool, &support::numbered("A", 100));
    let directory = file.path().parent().unwrap().to_owned();
    let modes = || -> Vec<u32> {
        let copies = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap());
        let copies = copies.filter(|entry| entry.file_name().to_str().unwrap().starts_with(".datapool-"));
        copies.map(|entry| entry.metadata().unwrap().permissions().mode() & 0o777).collect()
    };
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    let mut seen = Vec::new();
    store
        .vacuum_with_progress(|_| {
            seen.extend(modes());
            ControlFlow::Continue(())
        })
        .unwrap();
    store
        .backup_with_progress(directory.join("copy"), |_| {
            seen.extend(modes());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(seen.len() >= 2 && seen.iter().all(|mode| *mode == 0o600), "{seen:?}");
    for path in [file.path(), directory.join("copy")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}

#[test]
fn what_a_killed_backup_left_beside_the_store_goes_with_a_vacuum() {
    let file = StoreFile::new();
    let (_pool, store) = file.open_orders();
    let left = file.path().parent().unwrap().join(".datapool-backup-1a2b3c");
    fs::write(&left, "a value that was erased since").unwrap();
    store.vacuum().unwrap();
    assert!(!left.exists());
}

#[test]
fn the_digest_of_a_content_that_a_claim_has_lost_goes_and_that_of_a_held_one_stays() {
    let file = StoreFile::new();
    let (pool, store) = file.open_orders();
    let of_content = |value: &&'static str| Key::new(ORDERS, *value).content(*value);
    let claim = pool.claim(&["held", "lost"], of_content, &Origin::none(), MINUTE).unwrap();
    let token = claim.into_token().unwrap();
    assert_eq!(support::track(&pool, &["lost"]), 1);
    let digest = |content: &str| match datapool_store::Version::of_content(content) {
        datapool_store::Version::Content(digest) => digest,
        other => panic!("{other}"),
    };
    let count = |digest: [u8; 16]| {
        fs::read(file.path()).unwrap().windows(16).filter(|bytes| *bytes == digest).count()
    };
    store.vacuum().unwrap();
    assert_eq!((count(digest("held")), count(digest("lost"))), (1, 0));
    let mut claim = store.resume_claim(&token).unwrap();
    assert_eq!(claim.confirm_items(&[0]).unwrap().confirmed_count(), 1);
    let record = support::records(&pool).into_iter().find(|record| record.value == "held").unwrap();
    assert_eq!(record.version, Some(datapool_store::Version::of_content("held")));
    assert_eq!(store.verify().unwrap().findings, []);
}

/// The copy is taken over in parts of 1 MiB, of which the last one is shorter.
#[test]
fn a_store_in_memory_is_vacuumed_in_memory_though_it_is_large() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    let values = support::numbered(&"x".repeat(300), 12_000);
    for batch in values.chunks(1_000) {
        support::track(&pool, batch);
    }
    assert_eq!(pool.delete_records(1..=6_000_u64).unwrap(), 6_000);
    let VacuumReport { bytes_before, bytes_after, records, .. } = store.vacuum().unwrap();
    assert!(bytes_after < bytes_before && records == 6_000, "{bytes_before} and {bytes_after}");
    assert!(bytes_after > 3 << 19 && !bytes_after.is_multiple_of(1 << 20), "{bytes_after}");
    for _ in 0..2 {
        assert!(support::values(&pool) == values[6_000..]);
        assert_eq!(store.verify().unwrap().findings, []);
        store.reopen().unwrap();
    }
}
