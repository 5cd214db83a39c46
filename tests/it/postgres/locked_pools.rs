//! A pool whose row somebody else has locked delays its own calls, and no others.

use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::thread;
use std::time::Duration;

use datapool_store::{ClaimVerdict, ErrorKind, ImportOptions, Mode, Origin, PoolId, RecordFilter};

use super::{ask, connect, connect_with, key, new_schema, psql, track_new, until, until_calls_wait, within};

/// A lock on a pool's row, until it is dropped.
pub(super) struct Locked {
    psql: Child,
    input: Option<ChildStdin>,
}

impl Locked {
    pub(super) fn new(schema: &str, pool: PoolId) -> Self {
        let mut psql = psql(&[]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = psql.stdin.take().unwrap();
        writeln!(input, "BEGIN; SELECT FROM {schema}.head WHERE pool = {pool} FOR UPDATE;").unwrap();
        let held = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE \
             '%{schema}.head WHERE pool = {pool} FOR UPDATE;'"
        );
        until(|| ask(&held) == "1");
        Self { psql, input: Some(input) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.psql.wait();
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn calls_that_wait_for_a_locked_pool_leave_connections_to_calls_on_others() {
    let schema = new_schema();
    let store = connect(&schema);
    let (locked, other) = (store.create_pool("locked").unwrap(), store.create_pool("other").unwrap());
    let lock = Locked::new(&schema, locked.id());
    let waiting: Vec<_> = (0..12)
        .map(|_| {
            let locked = locked.clone();
            thread::spawn(move || _ = locked.prune().unwrap())
        })
        .collect();
    until_calls_wait(&schema, 8);
    assert_eq!(within(5, move || track_new(&other, &["A".to_owned()])), 1);
    drop(lock);
    for call in waiting {
        call.join().unwrap();
    }
}

/// Another try would end in the same way.
#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_call_or_an_import_that_the_server_ends_for_its_time_fails_at_once_and_changes_nothing() {
    let schema = new_schema();
    let store = connect_with(&schema, "?options=-cstatement_timeout%3D500");
    let pool = store.create_pool("orders").unwrap();
    let file = "value,entity_type_id\nA-1,37\n";
    let lock = Locked::new(&schema, pool.id());
    let locked = pool.clone();
    let error = within(10, move || locked.prune().unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("statement timeout"), "{error}");
    let error = pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap_err();
    assert!(error.to_string().contains("statement timeout"), "{error}");
    drop(lock);
    assert_eq!(pool.count(&RecordFilter::all()).unwrap(), 0);
    assert_eq!(pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap().added, 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn deleting_a_locked_pool_does_not_keep_others_from_being_made() {
    let schema = new_schema();
    let store = connect(&schema);
    let locked = store.create_pool("locked").unwrap().id();
    let lock = Locked::new(&schema, locked);
    let of_thread = store.clone();
    let deleting = thread::spawn(move || of_thread.delete_pool(locked).unwrap());
    until_calls_wait(&schema, 1);
    let of_call = store.clone();
    within(5, move || of_call.create_pool("other").unwrap());
    drop(lock);
    deleting.join().unwrap();
    assert_eq!(store.all_pools().unwrap().len(), 1);
}

#[cfg(feature = "async")]
#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn asynchronous_calls_on_other_pools_do_not_wait_for_a_locked_one() {
    use futures_executor::block_on;

    let schema = new_schema();
    let store = connect(&schema);
    let (locked, other) = (store.create_pool("locked").unwrap(), store.create_pool("other").unwrap());
    let lock = Locked::new(&schema, locked.id());
    let deduping = |pool: &datapool_store::Pool| {
        pool.to_async().dedupe(Mode::Track, &["A".to_owned()], key, &Origin::none())
    };
    let (waits, goes_on) = (deduping(&locked), deduping(&other));
    let waits = thread::spawn(|| block_on(waits).unwrap());
    until_calls_wait(&schema, 1);
    let made = store.to_async().create_pool("third");
    assert_eq!(within(5, || block_on(goes_on).unwrap()).new_count(), 1);
    within(5, || block_on(made).unwrap());
    drop(lock);
    assert_eq!(waits.join().unwrap().new_count(), 1);
    block_on(store.to_async().close()).unwrap();
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn leases_in_other_pools_are_kept_alive_while_one_is_locked() {
    let (schema, lease) = (new_schema(), Duration::from_millis(1_500));
    let store = connect(&schema);
    let claim = |name: &str| {
        let pool = store.create_pool(name).unwrap();
        let mut claim = pool.claim(&["A".to_owned()], key, &Origin::none(), lease).unwrap();
        assert_eq!(claim.verdict(0), Some(&ClaimVerdict::Claimed));
        claim.keep_alive().unwrap();
        (pool.id(), claim)
    };
    let ((locked, lost), (_, mut kept)) = (claim("locked"), claim("other"));
    let lock = Locked::new(&schema, locked);
    until_calls_wait(&schema, 1);
    // Longer than a lease: without renewals it would have ended.
    let renewals = (0..4).map(|_| {
        let before = kept.until();
        until(|| kept.until() > before);
    });
    assert_eq!(renewals.count(), 4);
    kept.confirm().unwrap().all_confirmed().unwrap();
    drop(lock);
    drop(lost);
}
