//! Proves that a backup is the whole store as of one moment, even if others write meanwhile; that it is
//! compact; and that there is never an incomplete backup under its name.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redb::{ReadableDatabase, ReadableTableMetadata};

use datapool_store::testing::Sizes;
use datapool_store::{
    ClaimVerdict, DataPoolStore, ErrorKind, Flow, Key, Mode, NewPool, Origin, Pool, RecordFilter, RecordQuery,
};

use crate::support::{self, Need, ORDERS, Place, StoreFile};

fn open(path: &Path) -> DataPoolStore {
    support::embedded::open(path, &support::options(), Sizes::SMALL).unwrap()
}

/// Parses a value into its writer and its number.
fn parse(value: &str) -> (usize, u64) {
    let (writer, number) = value.split_once('-').unwrap();
    (writer.parse().unwrap(), number.parse().unwrap())
}

/// Each writer tracks 0, 1, 2, ... in batches of 3. Now and then it deletes the lower half of its values.
fn write(pool: &Pool, writer: usize, done: &AtomicBool) {
    for batch in 0_u64.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let values: Vec<String> =
            (0..3).map(|position| format!("{writer}-{}", batch * 3 + position)).collect();
        support::track(pool, &values);
        if batch % 50 == 49 {
            let gone: Vec<String> = (0..batch).map(|number| format!("{writer}-{number}")).collect();
            let keys: Vec<Key<'_>> = gone.iter().map(|value| Key::new(ORDERS, value.as_str())).collect();
            pool.delete_keys(&keys).unwrap();
        }
    }
}

#[test]
fn a_backup_beside_eight_writers_is_the_store_as_of_one_moment() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("pools.redb"));
    let pools: Vec<Pool> =
        (0..2).map(|number| store.get_or_create_pool(format!("pool {number}")).unwrap()).collect();
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let pool = pools[writer % 2].clone();
            scope.spawn(move || write(&pool, writer, done));
        }
        for round in 0..6 {
            let path = directory.path().join(format!("copy {round}"));
            let before = pools[0].stats().unwrap();
            store.backup_to(&path).unwrap();
            let copy = open(&path);
            let report = copy.verify().unwrap();
            assert_eq!(report.findings, [], "round {round}");
            for (number, pool) in pools.iter().enumerate() {
                let copied = copy.pool(pool.id()).unwrap();
                let found: BTreeSet<(usize, u64)> =
                    support::values(&copied).iter().map(|value| parse(value)).collect();
                for writer in (0..8).filter(|writer| writer % 2 == number) {
                    let numbers: Vec<u64> =
                        found.iter().filter(|(by, _)| *by == writer).map(|(_, number)| *number).collect();
                    let Some(first) = numbers.first() else { continue };
                    // There is no gap and no incomplete batch, so this is a moment of its writer's history.
                    assert!(
                        numbers.iter().copied().eq(*first..first + numbers.len() as u64),
                        "round {round}"
                    );
                    assert_eq!((first + numbers.len() as u64) % 3, 0, "round {round}, writer {writer}");
                }
                if number == 0 {
                    assert!(copied.stats().unwrap().newest >= before.newest, "round {round}");
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Counts the rows of a closed file through redb.
fn rows_of(path: &Path) -> u64 {
    let database = redb::Database::create(path).unwrap();
    let txn = database.begin_read().unwrap();
    let tables = txn.list_tables().unwrap();
    tables.map(|table| txn.open_untyped_table(table).unwrap().len().unwrap()).sum()
}

#[test]
fn a_backup_has_everything_and_is_a_store_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("pools.redb"));
    let pool = store.create_pool(NewPool::new("orders").description("seen").capacity(1_000)).unwrap();
    let values: Vec<String> = (0..300).map(|number| format!("A-{number}")).collect();
    support::track(&pool, &values);
    pool.delete_records([3, 4]).unwrap();
    store.put_flow(Flow::new("shop", "The shop")).unwrap();
    let claim =
        pool.claim(&["C-1"], |v| Key::new(ORDERS, *v), &Origin::none(), Duration::from_mins(1)).unwrap();
    let token = claim.into_token().unwrap();
    let path = directory.path().join("copy.redb");
    let mut heard = Vec::new();
    let report = store
        .backup_with_progress(&path, |progress| {
            heard.push(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
    let last = heard.last().unwrap();
    assert_eq!(last.done, last.total);
    assert_eq!(report.records, 298);
    assert_eq!(report.rows, rows_of(&path));
    // Later changes are not in the backup, and the copy is independent of the store.
    support::track(&pool, &["later"]);
    let copy = open(&path);
    let copied = copy.pool_named("orders").unwrap();
    assert_eq!(copied.info().unwrap(), pool.info().unwrap());
    assert_eq!(support::values(&copied).len(), 298);
    assert!(!support::has(&copied, "later"));
    assert_eq!(copy.flow("shop").unwrap().unwrap().name, "The shop");
    let filter = RecordFilter::new().flow_id("shop").value("A-9");
    assert_eq!(copied.records(&RecordQuery::new().filter(filter)).unwrap().meta.total, 1);
    let other = copied.claim(&["C-1"], |v| Key::new(ORDERS, *v), &Origin::none(), Duration::from_secs(9));
    assert!(matches!(other.unwrap().verdict(0), Some(ClaimVerdict::InFlight { .. })));
    copy.resume_claim(&token).unwrap().confirm().unwrap().all_confirmed().unwrap();
    assert!(support::has(&copied, "C-1") && !support::has(&pool, "C-1"));
    assert_eq!(copied.records(&RecordQuery::new()).unwrap().data.len(), 15);
    assert_eq!(copy.verify().unwrap().findings, []);
}

/// Users who may not read the store may not read its copy. A read-only store can be backed up, too.
#[cfg(unix)]
#[test]
fn a_backup_has_the_permissions_of_its_store() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    support::track(&open(&path).get_or_create_pool("orders").unwrap(), &["A-1"]);
    for mode in [0o600, 0o640, 0o444] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let options = support::options().access(datapool_store::Access::ReadOnly);
        let store = support::embedded::open(&path, &options, Sizes::SMALL).unwrap();
        let copy = directory.path().join(format!("copy {mode:o}"));
        store.backup_to(&copy).unwrap();
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, mode);
        let copied = support::embedded::open(&copy, &options, Sizes::SMALL).unwrap();
        assert_eq!(support::values(&copied.pool_named("orders").unwrap()), ["A-1"]);
    }
}

#[test]
fn a_backup_is_compact() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let store = open(&path);
    let pool = store.get_or_create_pool("orders").unwrap();
    for round in 0..40 {
        let values: Vec<String> = (0..400).map(|number| format!("{round}-{number}")).collect();
        let _ = pool.dedupe(Mode::Track, &values, |v| Key::new(ORDERS, v), &support::origin()).unwrap();
        if round % 4 != 0 {
            pool.clear().unwrap();
        }
    }
    pool.prune().unwrap();
    let copy = directory.path().join("copy.redb");
    let report = store.backup_to(&copy).unwrap();
    store.compact().unwrap();
    let compacted = fs::metadata(&path).unwrap().len();
    // A new file has a few pages more than the smallest one.
    assert!(report.bytes <= compacted + 64 * 1_024, "{} and {compacted}", report.bytes);
}

#[test]
fn what_has_expired_is_gone_from_a_copy_whatever_the_clock_shows_when_it_is_opened() {
    let file = StoreFile::new();
    let hour = Duration::from_hours(1);
    for (number, others) in [0, 70].into_iter().enumerate() {
        let store = file.open();
        let pool = store.create_pool(NewPool::new(format!("pool {number}")).retention(hour)).unwrap();
        support::track(&pool, &support::numbered("A", 100));
        file.clock.advance(hour / 2);
        support::track(&pool, &support::numbered("B", others));
        let before = file.clock.now();
        file.clock.advance(hour / 2 + Duration::from_secs(1));
        let path = file.path().with_file_name(format!("copy {number}"));
        let report = store.backup_to(&path).unwrap();
        file.clock.set(before);
        let copy =
            support::embedded::open(&path, &support::options().clock(file.clock.clone()), Sizes::SMALL);
        let copied = copy.unwrap().pool(pool.id()).unwrap();
        assert_eq!(support::values(&copied), support::numbered("B", others));
        assert_eq!(support::track(&copied, &support::numbered("A", 100)), 100);
        let of_earlier = 70 * number as u64;
        assert_eq!(report.records, of_earlier, "{report:?}");
    }
}

/// The records of a pool with dead ones are copied one by one, so a gap is noticed: in a segment, and at its end.
#[test]
fn a_missing_record_fails_a_backup_rather_than_being_left_out() {
    const RECORDS: redb::TableDefinition<'_, u32, &[u8]> = redb::TableDefinition::new("records/1/0");
    for missing in [40, 63] {
        let place = Place::new();
        let pool = place.open().create_pool("orders").unwrap();
        support::track(&pool, &support::numbered("A", 100));
        pool.delete_records([3]).unwrap();
        drop(pool);
        place.damage(|txn| assert!(txn.open_table(RECORDS).unwrap().remove(missing).unwrap().is_some()));
        let store = place.open();
        let copy = place.path.with_file_name("copy.redb");
        let error = store.backup_to(&copy).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{missing}: {error}");
        assert!(error.to_string().contains(&missing.to_string()) && !copy.exists(), "{error}");
    }
}

#[test]
fn a_backup_to_an_existing_file_is_refused_and_leaves_it_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let store = open(&path);
    support::track(&store.get_or_create_pool("orders").unwrap(), &["A-1"]);
    let taken = directory.path().join("taken");
    fs::write(&taken, "precious").unwrap();
    for target in [&taken, &path, &directory.path().to_path_buf()] {
        let error = store.backup_to(target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    }
    // Another program creates the file while the backup runs.
    let raced = directory.path().join("raced");
    let error = store
        .backup_with_progress(&raced, |_| {
            fs::write(&raced, "precious").unwrap();
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    for file in [taken, raced] {
        assert_eq!(fs::read_to_string(file).unwrap(), "precious");
    }
    let missing = directory.path().join("no such directory").join("copy");
    assert_eq!(store.backup_to(missing).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(support::names(directory.path()), ["pools.redb", "raced", "taken"]);
}

#[test]
fn a_backup_that_is_stopped_or_whose_store_is_closed_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("pools.redb"));
    let pool = store.get_or_create_pool("orders").unwrap();
    let values: Vec<String> = (0..300).map(|number| format!("A-{number}")).collect();
    support::track(&pool, &values);
    let copy = directory.path().join("copy");
    let stopped = store.backup_with_progress(&copy, |_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);
    let closed = store
        .backup_with_progress(&copy, |_| {
            store.close().unwrap();
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed, "{closed}");
    assert_eq!(support::names(directory.path()), ["pools.redb"]);
    store.reopen().unwrap();
    // The observer of a backup may call the store.
    store
        .backup_with_progress(&copy, |_| {
            support::track(&pool, &["meanwhile"]);
            assert!(store.stats().unwrap().snapshots > 0);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(!support::has(&open(&copy).pool_named("orders").unwrap(), "meanwhile"));
}

#[test]
fn a_store_in_memory_or_opened_for_reading_is_backed_up_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = support::store_for(Need::Any);
    support::track(&store.get_or_create_pool("orders").unwrap(), &["A-1"]);
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    store.backup_to(&first).unwrap();
    let options = support::options().access(datapool_store::Access::ReadOnly);
    support::embedded::open(&first, &options, Sizes::SMALL).unwrap().backup_to(&second).unwrap();
    assert_eq!(support::values(&open(&second).pool_named("orders").unwrap()), ["A-1"]);
}
