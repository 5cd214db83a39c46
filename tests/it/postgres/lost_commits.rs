//! Calls on the catalogue whose connection is lost around COMMIT are executed once, and answered truthfully.

use std::thread;

use datapool_store::{Flow, PoolUpdate, Timestamp};

use super::proxy::{Fault, Proxy};
use super::{connect, new_schema, until_calls_wait};

fn nothing() -> Box<dyn FnOnce() + Send> {
    Box::new(|| {})
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_pool_is_made_once_whether_its_lost_commit_took_place_or_not() {
    let (schema, proxy) = (new_schema(), Proxy::start());
    let store = proxy.connect(&schema);
    for (name, fault) in [("before", Fault::CutBefore), ("after", Fault::CutAfter(nothing()))] {
        proxy.fail_next(fault);
        assert_eq!(store.create_pool(name).unwrap().info().unwrap().name, name);
    }
    assert_eq!(proxy.struck(), 2);
    assert_eq!(store.all_pools().unwrap().len(), 2);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_pool_whose_commit_takes_place_late_belongs_to_the_call_that_made_it() {
    let (schema, proxy) = (new_schema(), Proxy::start());
    let store = proxy.connect(&schema);
    proxy.fail_next(Fault::Hold);
    let made = thread::scope(|scope| {
        let making = scope.spawn(|| store.create_pool("orders"));
        until_calls_wait(&schema, 1);
        proxy.let_through();
        making.join().unwrap()
    });
    assert_eq!(made.unwrap().info().unwrap().name, "orders");
    assert_eq!(store.all_pools().unwrap().len(), 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_pool_that_others_rename_at_once_is_not_made_again() {
    let (schema, proxy) = (new_schema(), Proxy::start());
    let (store, other) = (proxy.connect(&schema), connect(&schema));
    let rename = move || {
        let pool = other.pool_named("orders").unwrap();
        other.update_pool(pool.id(), PoolUpdate::new().name("renamed")).unwrap();
    };
    proxy.fail_next(Fault::CutAfter(Box::new(rename)));
    let pool = store.create_pool("orders").unwrap();
    assert_eq!(pool.info().unwrap().name, "renamed");
    assert_eq!(store.all_pools().unwrap().len(), 1);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn what_was_removed_by_a_lost_commit_is_counted() {
    let (schema, proxy) = (new_schema(), Proxy::start());
    let store = proxy.connect(&schema);
    for fault in [|| Fault::CutBefore, || Fault::CutAfter(nothing())] {
        store.put_flows(&["a", "b", "c"].map(|id| Flow::new(id, "Shop"))).unwrap();
        proxy.fail_next(fault());
        assert!(store.delete_flow("a").unwrap());
        proxy.fail_next(fault());
        assert_eq!(store.delete_flows_before(Timestamp::from_micros(i64::MAX)).unwrap(), 2);
        store.create_pool("orders").unwrap();
        proxy.fail_next(fault());
        store.delete_pool(store.pool_named("orders").unwrap().id()).unwrap();
    }
    assert_eq!(proxy.struck(), 6);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn an_entry_that_others_remove_at_once_is_not_put_again() {
    let (schema, proxy) = (new_schema(), Proxy::start());
    let (store, other) = (proxy.connect(&schema), connect(&schema));
    proxy.fail_next(Fault::CutAfter(Box::new(move || assert!(other.delete_flow("shop").unwrap()))));
    store.put_flow(Flow::new("shop", "Shop")).unwrap();
    assert_eq!(proxy.struck(), 1);
    assert_eq!(store.flow("shop").unwrap(), None);
}
