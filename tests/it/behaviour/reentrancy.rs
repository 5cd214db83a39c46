//! Proves that any code of a caller may call the store, drop a claim, or panic: nothing hangs, nothing is
//! left half done, and the store continues to work.

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datapool_store::{
    Claim, DataPoolStore, ExportOptions, ImportOptions, Key, Mode, Origin, Pool, RecordFilter, RecordQuery,
};
use tempfile::TempDir;

use crate::support::{self, Need, ORDERS, returns};

const LEASE: Duration = Duration::from_mins(1);

/// Returns a value's key after running some other code.
fn key_after<'a>(value: &'a str, first: &dyn Fn()) -> Key<'a> {
    first();
    Key::new(ORDERS, value)
}

/// Reads and writes a pool in every way, and leaves it unchanged except for ids.
fn use_everything(store: &DataPoolStore, pool: &Pool) {
    let before = support::values(pool);
    assert_eq!(support::track(pool, &["inner"]), 1);
    assert!(support::has(pool, "inner"));
    let mut claim =
        pool.claim(&["inner claimed"], |value| Key::new(ORDERS, *value), &Origin::none(), LEASE).unwrap();
    assert_eq!(claim.confirm().unwrap().confirmed_count(), 1);
    pool.import_csv("value,entity_type_id\ninner imported,37\n".as_bytes(), &ImportOptions::new()).unwrap();
    let mut file = Vec::new();
    pool.export_csv(&mut file, &ExportOptions::new()).unwrap();
    assert_eq!(pool.records(&RecordQuery::new()).unwrap().meta.total, before.len() as u64 + 3);
    let inner = pool.scan(&RecordFilter::new()).unwrap().map(|record| record.unwrap());
    let inner: Vec<u64> =
        inner.filter(|record| record.value.starts_with("inner")).map(|record| record.id.get()).collect();
    assert_eq!(pool.delete_records(inner.iter().copied()).unwrap(), 3);
    store.flush().unwrap();
    pool.prune().unwrap();
    assert_eq!(support::values(pool), before);
}

fn store_with_pool() -> (DataPoolStore, Pool) {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &(0..40).map(|number| format!("A-{number}")).collect::<Vec<_>>());
    (store, pool)
}

fn held_claim(pool: &Pool, value: &str) -> Claim {
    let claim = pool.claim(&[value], |value| Key::new(ORDERS, *value), &Origin::none(), LEASE).unwrap();
    assert_eq!(claim.held_count(), 1);
    claim
}

/// A reader that runs some code before each slice that it returns.
struct Reading<'a, F>(Cursor<&'a [u8]>, F);

impl<F: FnMut()> Read for Reading<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.1)();
        let length = buffer.len().min(64);
        self.0.read(&mut buffer[..length])
    }
}

/// A writer that runs some code before each write.
struct Writing<F>(F);

impl<F: FnMut()> Write for Writing<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (self.0)();
        Ok(())
    }
}

/// The code that runs inside.
type Action = Arc<dyn Fn() + Send + Sync>;

/// A kind of code that a caller can provide, which runs the action inside.
type Within = fn(&DataPoolStore, &Pool, &Action);

const FILE: &str = "value,entity_type_id\nB-1,37\nB-2,37\n";

fn observer<P>(action: &Action) -> impl Fn(P) -> ControlFlow<()> + Send + Sync + use<P> {
    let action = Arc::clone(action);
    move |_| {
        action();
        ControlFlow::Continue(())
    }
}

const CLOSURES: [(&str, Within); 10] = [
    ("the key of a dedupe", |_, pool, action| {
        let key = |value: &'static &str| key_after(value, &**action);
        let verdicts = pool.dedupe(Mode::FilterAndTrack, &["B-1", "B-2"], key, &Origin::none()).unwrap();
        assert_eq!(verdicts.new_count(), 2);
    }),
    ("the key of a claim", |_, pool, action| {
        let key = |value: &'static &str| key_after(value, &**action);
        let mut claim = pool.claim(&["B-1", "B-2"], key, &Origin::none(), LEASE).unwrap();
        assert_eq!(claim.confirm().unwrap().confirmed_count(), 2);
    }),
    ("the results of a confirmation", |_, pool, action| {
        let key = |value: &'static &str| Key::new(ORDERS, *value);
        let mut claim = pool.claim(&["B-1", "B-2"], key, &Origin::none(), LEASE).unwrap();
        let confirmed = claim.confirm_with(|index| {
            action();
            (index == 1).then_some("kept")
        });
        assert_eq!(confirmed.unwrap().confirmed_count(), 2);
        let kept = pool.results(&[Key::new(ORDERS, "B-1"), Key::new(ORDERS, "B-2")]).unwrap();
        assert_eq!(kept, [None, Some(b"kept".to_vec())]);
    }),
    ("an import's reader", |_, pool, action| {
        let reader = Reading(Cursor::new(FILE.as_bytes()), &**action);
        assert_eq!(pool.import_csv(reader, &ImportOptions::new()).unwrap().added, 2);
    }),
    ("an import's observer", |_, pool, action| {
        let options = ImportOptions::new().on_progress(observer(action));
        assert_eq!(pool.import_csv(FILE.as_bytes(), &options).unwrap().added, 2);
    }),
    ("an export's writer", |_, pool, action| {
        pool.export_csv(Writing(&**action), &ExportOptions::new()).unwrap();
        support::track(pool, &["B-1", "B-2"]);
    }),
    ("an export's observer", |_, pool, action| {
        pool.export_csv(io::sink(), &ExportOptions::new().on_progress(observer(action))).unwrap();
        support::track(pool, &["B-1", "B-2"]);
    }),
    ("a scan", |_, pool, action| {
        for record in pool.scan(&RecordFilter::new()).unwrap() {
            record.unwrap();
            action();
        }
        support::track(pool, &["B-1", "B-2"]);
    }),
    ("a backup's observer", |store, pool, action| {
        let directory = TempDir::new().unwrap();
        if !support::is_embedded() {
            action();
            support::track(pool, &["B-1", "B-2"]);
            return;
        }
        store.backup_with_progress(directory.path().join("copy.redb"), observer(action)).unwrap();
        support::track(pool, &["B-1", "B-2"]);
    }),
    ("a verification's observer", |store, pool, action| {
        assert_eq!(store.verify_with_progress(observer(action)).unwrap().findings, []);
        support::track(pool, &["B-1", "B-2"]);
    }),
];

/// Runs each attempt on its own thread and store.
fn in_each(attempt: fn(&str, Within, &DataPoolStore, &Pool)) {
    for (name, within) in CLOSURES {
        let comes_back = returns(move || {
            let (store, pool) = store_with_pool();
            attempt(name, within, &store, &pool);
        });
        assert!(comes_back, "{name} hangs, or fails");
    }
}

#[test]
fn whatever_is_handed_in_may_use_the_whole_store() {
    in_each(|name, within, store, pool| {
        let (inner, its_pool) = (store.clone(), pool.clone());
        let action: Action = Arc::new(move || use_everything(&inner, &its_pool));
        within(store, pool, &action);
        assert!(support::has(pool, "B-1") && support::has(pool, "B-2"), "{name}");
        assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 42, "{name}");
        assert_eq!(store.verify().unwrap().findings, [], "{name}");
    });
}

#[test]
fn a_claim_may_be_dropped_in_whatever_is_handed_in() {
    in_each(|name, within, store, pool| {
        let claim = Mutex::new(Some(held_claim(pool, "B-3")));
        let action: Action = Arc::new(move || drop(claim.lock().unwrap().take()));
        within(store, pool, &action);
        assert!(pool.claims().unwrap().is_empty(), "{name}");
        assert_eq!(support::track(pool, &["B-3"]), 1, "{name}");
    });
}

#[test]
fn a_panic_in_whatever_is_handed_in_leaves_the_store_as_it_was() {
    in_each(|name, within, store, pool| {
        let before = support::values(pool);
        let action: Action = Arc::new(|| panic!("the caller's"));
        let outcome = catch_unwind(AssertUnwindSafe(|| within(store, pool, &action)));
        assert!(outcome.is_err(), "{name} was not called");
        assert_eq!(support::values(pool), before, "{name}");
        assert!(pool.claims().unwrap().is_empty(), "{name}");
        use_everything(store, pool);
        assert_eq!(store.verify().unwrap().findings, [], "{name}");
    });
}
