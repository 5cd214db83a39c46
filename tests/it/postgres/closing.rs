//! Closing a store takes a few seconds at most, whatever the server does.

use std::time::Duration;

use datapool_store::{DataPoolStore, NewPool, Origin};

use super::proxy::Proxy;
use super::{LEASE, key, new_schema, track_new, until, within};

/// A store with pools whose expiry is stored when it is closed, one of which somebody waits for.
fn store(proxy: &Proxy) -> DataPoolStore {
    let store = proxy.connect(&new_schema());
    for name in ["one", "two", "three"] {
        let pool = store.create_pool(NewPool::new(name).retention(Duration::from_hours(1))).unwrap();
        assert_eq!(track_new(&pool, &["A".to_owned()]), 1);
        let claim = pool.claim(&["B".to_owned()], key, &Origin::none(), LEASE).unwrap();
        pool.wait_for(&[key(&"B".to_owned())], Duration::from_millis(1)).unwrap();
        claim.into_token().unwrap();
    }
    store
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_store_is_closed_soon_though_its_server_is_silent() {
    let proxy = Proxy::start();
    let store = store(&proxy);
    proxy.go_silent();
    within(8, move || store.close().unwrap());
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_store_is_dropped_soon_though_its_server_is_gone() {
    let proxy = Proxy::start();
    let store = store(&proxy);
    proxy.refuse();
    within(8, move || drop(store));
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_store_is_closed_soon_while_a_call_waits_for_a_silent_server() {
    let proxy = Proxy::start();
    let store = store(&proxy);
    proxy.go_silent();
    let of_call = store.clone();
    let asked = std::thread::spawn(move || of_call.all_pools().map(drop));
    until(|| proxy.silenced() > 0);
    within(8, move || store.close().unwrap());
    proxy.refuse();
    assert!(asked.join().unwrap().is_err());
}
