//! What deleted pools and executed calls leave behind goes.

use datapool_store::PoolUpdate;

use super::{ask, connect, new_schema, track_new};
use crate::support::numbered;

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_deleted_pool_leaves_no_rows() {
    let schema = new_schema();
    let store = connect(&schema);
    let pool = store.create_pool("orders").unwrap();
    assert_eq!(track_new(&pool, &numbered("A", 100)), 100);
    store.delete_pool(pool.id()).unwrap();
    for table in ["record", "head", "catalogue"] {
        assert_eq!(ask(&format!("SELECT count(*) FROM {schema}.{table}")), "0", "{table}");
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn what_an_interrupted_deletion_left_is_removed_later() {
    let schema = new_schema();
    let left = || ask(&format!("SELECT count(*) FROM {schema}.record"));
    let resumptions: [fn(&str); 3] = [
        |schema| drop(connect(schema)),
        |schema| _ = connect(schema).pool_named("other").unwrap().prune().unwrap(),
        |schema| connect(schema).delete_pool(connect(schema).create_pool("third").unwrap().id()).unwrap(),
    ];
    connect(&schema).create_pool("other").unwrap();
    for resume in resumptions {
        let store = connect(&schema);
        let pool = store.create_pool("orders").unwrap();
        assert_eq!(track_new(&pool, &numbered("A", 100)), 100);
        ask(&format!(
            "CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''interrupted''; END'; \
             CREATE TRIGGER refuse BEFORE DELETE ON {schema}.record EXECUTE FUNCTION {schema}.refuse()"
        ));
        store.delete_pool(pool.id()).unwrap();
        ask(&format!("DROP FUNCTION {schema}.refuse() CASCADE"));
        assert_eq!((left(), store.all_pools().unwrap().len()), ("100".to_owned(), 1));
        resume(&schema);
        assert_eq!(left(), "0");
    }
    let store = connect(&schema);
    store.delete_pool(store.pool_named("other").unwrap().id()).unwrap();
    let notes = ask(&format!("SELECT name FROM {schema}.meta ORDER BY name"));
    assert_eq!(notes, "hash key\nnext pool\nstore id\nversion", "nothing is noted any more");
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn marks_of_executed_calls_do_not_pile_up() {
    let schema = new_schema();
    let store = connect(&schema);
    let pool = store.create_pool("orders").unwrap();
    for round in 0..20 {
        store.update_pool(pool.id(), PoolUpdate::new().capacity(1_000 + round)).unwrap();
        pool.prune().unwrap();
        track_new(&pool, &numbered("A", 3));
        store.delete_pool(store.create_pool("other").unwrap().id()).unwrap();
    }
    let marks = || ask(&format!("SELECT count(*) FROM {schema}.executed WHERE pool IN (0, {})", pool.id()));
    assert!(marks().parse::<u32>().unwrap() <= 4, "there are {} marks", marks());

    // Those of other processes go when nobody can ask about them any more.
    ask(&format!(
        "INSERT INTO {schema}.executed SELECT {}, gen_random_uuid(), 1, extract(epoch from clock_timestamp()) * 1000000 - \
         86400000000 FROM generate_series(1, 100)",
        pool.id()
    ));
    let fresh = connect(&schema).pool_named("orders").unwrap();
    assert_eq!(track_new(&fresh, &numbered("B", 3)), 3);
    assert!(marks().parse::<u32>().unwrap() <= 5, "there are {} marks", marks());
}
