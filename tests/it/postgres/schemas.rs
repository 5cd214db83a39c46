//! Proves which schemas a store can be in, and that a store notices if another one takes its place.

use std::thread;
use std::time::Duration;

use datapool_store::{ErrorKind, Origin, WaitOutcome};

use super::{LEASE, ask, connect, connect_with, key, new_schema, track_new};

/// Waiting makes the writers notify, on a channel with the schema's name.
#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_schema_may_have_a_reserved_word_or_the_longest_name() {
    for schema in ["select".to_owned(), "x".repeat(63)] {
        ask(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE"));
        let (store, other) = (connect(&schema), connect(&schema));
        let pool = store.create_pool("orders").unwrap();
        let waiter = other.pool(pool.id()).unwrap();
        let values = ["A".to_owned()];
        let mut claim = pool.claim(&values, key, &Origin::none(), LEASE).unwrap();
        let waiting = thread::spawn(move || waiter.wait_for(&[key(&"A".to_owned())], Duration::from_mins(1)));
        while ask(&format!("SELECT count(*) FROM \"{schema}\".listener")) == "0" {
            thread::yield_now();
        }
        claim.confirm().unwrap().all_confirmed().unwrap();
        assert!(matches!(waiting.join().unwrap().unwrap()[..], [WaitOutcome::Tracked(_)]), "{schema}");
        ask(&format!("DROP SCHEMA \"{schema}\" CASCADE"));
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_user_who_owns_the_schema_needs_no_right_to_create_one() {
    let (schema, role) = (new_schema(), format!("owner_of_{}", new_schema()));
    ask(&format!("CREATE ROLE {role}"));
    ask(&format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"));
    let store = connect_with(&schema, &format!("?options=-crole%3D{role}"));
    let pool = store.create_pool("orders").unwrap();
    assert_eq!(track_new(&pool, &["A".to_owned()]), 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn opening_again_notices_that_another_store_is_there_or_none() {
    let schema = new_schema();
    let store = connect(&schema);
    ask(&format!("DROP SCHEMA {schema} CASCADE"));
    assert_eq!(store.reopen().unwrap_err().kind(), ErrorKind::NotFound);
    let other = connect(&schema);
    let error = store.reopen().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("replaced"), "{error}");
    other.reopen().unwrap();
}
