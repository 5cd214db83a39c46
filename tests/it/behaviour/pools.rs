//! Proves that pools can be created, found, listed, changed and deleted, and that many small pools work.
//!
//! Invalid names and descriptions are tested in [`crate::bad_input`].

use crate::support::{self, Need};
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    DataPool, DataPoolStore, ErrorKind, ManualClock, NewPool, PoolId, PoolQuery, PoolSort, PoolUpdate,
    RecordFilter,
};
use tempfile::TempDir;

fn timed_store() -> (DataPoolStore, ManualClock) {
    let clock = support::clock();
    (support::store_with(Need::Clock, &support::options().clock(clock.clone())), clock)
}

fn named(store: &DataPoolStore, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| store.create_pool(NewPool::new(*name)).unwrap().id().get()).collect()
}

fn ids(store: &DataPoolStore, query: &PoolQuery) -> Vec<u64> {
    let page = store.pools(query).unwrap();
    assert_eq!(page.next_cursor, None);
    page.data.iter().map(|pool| pool.id.get()).collect()
}

#[test]
fn a_new_pool_has_what_it_was_made_with() {
    let (store, clock) = timed_store();
    let pool = store.create_pool(NewPool::new("orders").description("seen orders")).unwrap();
    let row = pool.info().unwrap();
    assert_eq!((pool.id(), row.id, row.name.as_str()), (PoolId::new(1), PoolId::new(1), "orders"));
    assert_eq!(row.description.as_deref(), Some("seen orders"));
    assert_eq!((row.created_at, row.updated_at), (clock.now(), clock.now()));
    assert_eq!(store.create_pool(NewPool::new("customers")).unwrap().info().unwrap().description, None);
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 0);
}

#[test]
fn a_pool_is_found_by_its_id_and_its_exact_name() {
    let store = support::store_for(Need::Any);
    let ids = named(&store, &["orders", "Orders", "orders "]);
    assert_eq!(ids, [1, 2, 3]);
    for (id, name) in ids.into_iter().zip(["orders", "Orders", "orders "]) {
        assert_eq!(store.pool(id).unwrap().info().unwrap().name, name);
        assert_eq!(store.pool_named(name).unwrap().id().get(), id);
    }
    assert_eq!(store.pool_named("ORDERS").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_pool_is_found_by_its_id_only_if_the_querys_filters_hold() {
    let store = support::store_for(Need::Any);
    named(&store, &["Shop orders", "customers"]);
    let new = PoolQuery::new;
    for (query, holds) in [
        (new(), true),
        (new().name("ORDER"), true),
        (new().name("customers"), false),
        (new().id(1), true),
        (new().id(2), false),
        (new().id(2).id(1), true),
        (new().id_or_name("Shop orders"), true),
        (new().id_or_name("1"), true),
        (new().id_or_name("shop"), false),
        (new().id(1).name("customers"), false),
        (new().page(7).per_page(1).sort(PoolSort::CreatedAtDescending), true),
    ] {
        let found = store.find_pool(1, &query);
        match found {
            Ok(pool) => assert!(holds && pool.id().get() == 1, "{query:?}"),
            Err(error) => assert!(!holds && error.kind() == ErrorKind::NotFound, "{query:?}: {error}"),
        }
    }
}

#[test]
fn getting_or_creating_makes_a_pool_once() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let again = store.get_or_create_pool("orders").unwrap();
    assert_eq!(again.id(), pool.id());
    assert!(support::has(&again, "A-1"));
    assert_eq!(store.pools(&PoolQuery::new()).unwrap().meta.total, 1);
    store.delete_pool(pool.id()).unwrap();
    let new = store.get_or_create_pool("orders").unwrap();
    assert_ne!(new.id(), pool.id());
    assert!(!support::has(&new, "A-1"));
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let (store, clock) = timed_store();
    let id = store.create_pool(NewPool::new("orders").description("old")).unwrap().id();
    named(&store, &["customers"]);
    let made = clock.now();
    let mut expected = store.pool(id).unwrap().info().unwrap();
    let mut update = |update: PoolUpdate, change: fn(&mut DataPool)| {
        clock.advance(Duration::from_secs(1));
        change(&mut expected);
        expected.updated_at = clock.now();
        assert_eq!(store.update_pool(id, update).unwrap(), expected);
        assert_eq!(store.pool(id).unwrap().info().unwrap(), expected);
        assert_eq!(expected.created_at, made);
    };
    update(PoolUpdate::new().name("renamed"), |row| row.name = "renamed".into());
    update(PoolUpdate::new().description("new"), |row| row.description = Some("new".into()));
    update(PoolUpdate::new().description(""), |row| row.description = Some(String::new()));
    update(PoolUpdate::new().clear_description(), |row| row.description = None);
    update(PoolUpdate::new().clear_description(), |_| ());
    update(PoolUpdate::new().name("renamed"), |_| ());
    update(PoolUpdate::new().name("orders").description("both"), |row| {
        (row.name, row.description) = ("orders".into(), Some("both".into()));
    });
    // The last call wins.
    update(PoolUpdate::new().description("x").clear_description(), |row| row.description = None);
    update(PoolUpdate::new().clear_description().description("x"), |row| row.description = Some("x".into()));
}

#[test]
fn an_update_of_nothing_leaves_name_and_description() {
    let store = support::store_for(Need::Any);
    let id = store.create_pool(NewPool::new("orders").description("old")).unwrap().id();
    let row = store.update_pool(id, PoolUpdate::new()).unwrap();
    assert_eq!((row.name.as_str(), row.description.as_deref()), ("orders", Some("old")));
}

#[test]
fn a_renamed_pool_gives_its_old_name_free_and_keeps_its_records() {
    let store = support::store_for(Need::Any);
    let pool = store.create_pool(NewPool::new("orders")).unwrap();
    support::track(&pool, &["A-1"]);
    store.update_pool(pool.id(), PoolUpdate::new().name("old orders")).unwrap();
    assert_eq!(store.pool_named("orders").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.pool_named("old orders").unwrap().id(), pool.id());
    let new = store.create_pool(NewPool::new("orders")).unwrap();
    assert!(support::has(&pool, "A-1") && !support::has(&new, "A-1"));
}

#[test]
fn names_are_unique_also_after_a_change() {
    let store = support::store_for(Need::Any);
    let ids = named(&store, &["orders", "customers"]);
    let taken = |result: Result<(), datapool_store::Error>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::AlreadyExists);
    };
    taken(store.create_pool(NewPool::new("orders")).map(drop));
    taken(store.update_pool(ids[1], PoolUpdate::new().name("orders")).map(drop));
    store.update_pool(ids[1], PoolUpdate::new().name("products")).unwrap();
    store.create_pool(NewPool::new("customers")).unwrap();
    taken(store.update_pool(ids[1], PoolUpdate::new().name("customers")).map(drop));
    // A pool may keep its own name.
    store.update_pool(ids[1], PoolUpdate::new().name("products")).unwrap();
}

#[test]
fn a_deleted_pool_takes_its_records_along_and_its_id_is_not_given_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let open = || support::embedded::open(&path, &support::options(), Sizes::SMALL).unwrap();
    let store = open();
    let keep = store.create_pool(NewPool::new("keep")).unwrap();
    support::track(&keep, &["A-1"]);
    for id in 2..6 {
        let pool = store.create_pool(NewPool::new("orders")).unwrap();
        assert_eq!(pool.id().get(), id);
        assert_eq!(
            support::track(&pool, &(0..200).map(|number| format!("A-{number}")).collect::<Vec<_>>()),
            200
        );
        store.delete_pool(id).unwrap();
        assert_eq!(store.pool(id).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.pool_named("orders").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.delete_pool(id).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(ids(&store, &PoolQuery::new()), [1]);
    }
    drop((store, keep));
    let store = open();
    assert_eq!(store.pool(5).unwrap_err().kind(), ErrorKind::NotFound);
    let pool = store.create_pool(NewPool::new("orders")).unwrap();
    assert_eq!((pool.id().get(), support::values(&pool)), (6, vec![]));
    assert_eq!(support::values(&store.pool(1).unwrap()), ["A-1"]);
}

#[test]
fn a_listing_takes_filters_that_must_all_hold() {
    let store = support::store_for(Need::Any);
    named(
        &store,
        &["Shop orders", "shop customers", "ORDERS of 2012", "Straße", "3"]
            .map(|name| if name == "3" { "333" } else { name }),
    );
    let new = PoolQuery::new;
    for (query, expected) in [
        (new(), vec![1, 2, 3, 4, 5]),
        (new().name("order"), vec![1, 3]),
        (new().name("SHOP"), vec![1, 2]),
        (new().name("shop, orders"), vec![]),
        (new().name("STRASSE"), vec![]),
        (new().name("straße"), vec![4]),
        (new().name(""), vec![1, 2, 3, 4, 5]),
        (new().id(2), vec![2]),
        (new().id(5).id(1).id(99), vec![1, 5]),
        (new().id_or_name("2"), vec![2]),
        (new().id_or_name("Straße").id_or_name("1"), vec![1, 4]),
        (new().id_or_name("333"), vec![5]),
        (new().id_or_name("orders"), vec![]),
        (new().name("shop").id(2).id(3), vec![2]),
        (new().name("shop").id_or_name("3"), vec![]),
    ] {
        assert_eq!(ids(&store, &query), expected, "{query:?}");
        assert_eq!(store.pools(&query).unwrap().meta.total, expected.len() as u64);
    }
}

#[test]
fn a_listing_is_sorted_by_id_or_creation_either_way() {
    let (store, clock) = timed_store();
    for name in ["one", "two", "three"] {
        named(&store, &[name]);
        clock.advance(Duration::from_secs(1));
    }
    named(&store, &["four"]);
    store.update_pool(1, PoolUpdate::new().name("one, changed later")).unwrap();
    let sorted = |sort| ids(&store, &PoolQuery::new().sort(sort));
    assert_eq!(sorted(PoolSort::Id), [1, 2, 3, 4]);
    assert_eq!(sorted(PoolSort::CreatedAt), [1, 2, 3, 4]);
    assert_eq!(sorted(PoolSort::CreatedAtDescending), [4, 3, 2, 1]);
}

#[test]
fn pages_of_pools_have_exact_totals() {
    let store = support::store_for(Need::Any);
    for number in 1..=37 {
        store.create_pool(NewPool::new(format!("pool {number}"))).unwrap();
    }
    let page = store.pools(&PoolQuery::new()).unwrap();
    let meta = page.meta;
    assert_eq!((page.data.len(), meta.current_page, meta.last_page, meta.per_page), (15, 1, 3, 15));
    assert_eq!((meta.from, meta.to, meta.total), (Some(1), Some(15), 37));
    let page = store.pools(&PoolQuery::new().page(3).sort(PoolSort::CreatedAtDescending)).unwrap();
    assert_eq!(
        page.data.iter().map(|pool| pool.id.get()).collect::<Vec<_>>(),
        (1..=7).rev().collect::<Vec<_>>()
    );
    assert_eq!((page.meta.from, page.meta.to, page.meta.total), (Some(31), Some(37), 37));
    for number in [4, u64::MAX] {
        let page = store.pools(&PoolQuery::new().page(number)).unwrap();
        assert!(page.data.is_empty());
        let meta = page.meta;
        assert_eq!(
            (meta.current_page, meta.from, meta.to, meta.last_page, meta.total),
            (number, None, None, 3, 37)
        );
    }
    let meta = store.pools(&PoolQuery::new().name("none")).unwrap().meta;
    assert_eq!((meta.current_page, meta.from, meta.to, meta.last_page, meta.total), (1, None, None, 1, 0));
}

#[test]
fn a_thousand_small_pools_share_a_store() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let relaxed = datapool_store::Durability::Relaxed { flush_every: Duration::from_hours(1) };
    let open =
        || support::embedded::open(&path, &support::options().durability(relaxed), Sizes::SMALL).unwrap();
    let values = |number: u64| [format!("A-{number}"), "everywhere".to_owned()];
    let store = open();
    for number in 1..=1_000 {
        let pool = store.create_pool(NewPool::new(format!("pool {number}"))).unwrap();
        assert_eq!(support::track(&pool, &values(number)), 2);
    }
    let check = |store: &DataPoolStore| {
        assert_eq!(store.pools(&PoolQuery::new()).unwrap().meta.total, 1_000);
        for number in (1..=1_000).step_by(7) {
            let pool = store.pool_named(&format!("pool {number}")).unwrap();
            assert_eq!(support::values(&pool), values(number));
            assert!(support::has(&pool, "everywhere") && !support::has(&pool, &format!("A-{}", number + 1)));
            assert_eq!(pool.count(&RecordFilter::new().flow_id("shop")).unwrap(), 2);
        }
    };
    check(&store);
    drop(store);
    let store = open();
    check(&store);
    for number in 1..=1_000 {
        assert_eq!(support::track(&store.pool(number).unwrap(), &values(number)), 0);
    }
    let last = store.pools(&PoolQuery::new().per_page(100).page(10)).unwrap();
    assert_eq!((last.data.len(), last.data[99].id.get()), (100, 1_000));
}

#[test]
fn getting_or_creating_with_fields_applies_them_to_a_new_pool_only() {
    let store = support::store_for(Need::Any);
    let day = Duration::from_hours(24);
    let fields = NewPool::new("orders").description("seen").retention(day).capacity(7);
    let made = store.get_or_create_pool(fields.clone()).unwrap().info().unwrap();
    assert_eq!(
        (made.description.as_deref(), made.retention, made.capacity),
        (Some("seen"), Some(day), Some(7))
    );
    for same_name in
        [NewPool::new("orders"), fields.clone().capacity(8).retention(2 * day).description("other")]
    {
        assert_eq!(store.get_or_create_pool(same_name).unwrap().info().unwrap(), made);
    }
    let bad = store.get_or_create_pool(fields.capacity(0)).unwrap_err();
    assert_eq!((bad.kind(), bad.parameter()), (ErrorKind::LimitExceeded, Some("capacity")));
    assert_eq!(store.get_or_create_pool("orders").unwrap().info().unwrap(), made);
    assert_eq!(store.all_pools().unwrap().len(), 1);
}

#[test]
fn a_name_alone_makes_a_pool() {
    let store = support::store_for(Need::Any);
    let name = String::from("customers");
    let borrowed = store.get_or_create_pool(&name).unwrap();
    assert_eq!(store.create_pool("orders").unwrap().info().unwrap().name, "orders");
    assert_eq!(store.create_pool(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(store.get_or_create_pool(name).unwrap().id(), borrowed.id());
}

#[test]
fn all_pools_are_those_of_all_pages() {
    let store = support::store_for(Need::Any);
    assert_eq!(store.all_pools().unwrap().next(), None);
    for number in 0..230 {
        store.create_pool(format!("pool {number}")).unwrap();
    }
    for id in [1, 77, 230] {
        store.delete_pool(id).unwrap();
    }
    let mut paged = Vec::new();
    for number in 1..=3 {
        paged.extend(store.pools(&PoolQuery::new().per_page(100).page(number)).unwrap());
    }
    assert_eq!(paged.len(), 227);
    let all = store.all_pools().unwrap();
    store.create_pool("later").unwrap();
    assert_eq!(all.collect::<Vec<_>>(), paged);
}
