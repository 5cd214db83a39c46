//! What deleted pools and executed calls leave behind goes.

use datapool_store::PoolUpdate;

use super::{ask, connect, new_schema, track_new};
use crate::support::numbered;

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
