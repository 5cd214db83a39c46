//! Statements that must be prepared again are executed in the transaction that they belong to.

use datapool_store::{Origin, RecordFilter, Timestamp};

use super::{LEASE, ask, connect, key, new_schema, track_new};

/// One of many filters, each of which is another statement.
fn filter(number: u64) -> RecordFilter {
    let has = |bit: u64| number & (1 << bit) != 0;
    let mut filter = RecordFilter::new();
    if has(0) {
        filter = filter.flow_id("shop");
    }
    if has(1) {
        filter = filter.flow_run_id("run");
    }
    if has(2) {
        filter = filter.step_id("step");
    }
    if has(3) {
        filter = filter.created_after(Timestamp::from_micros(0));
    }
    (0..number / 16).fold(filter, RecordFilter::value)
}

/// More statements than a connection keeps, so that some are forgotten and prepared again.
#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn what_a_call_writes_is_written_in_one_transaction_however_many_statements_there_were() {
    let schema = new_schema();
    connect(&schema).create_pool("orders").unwrap();
    for before in (172..192).step_by(2) {
        // It has a connection of its own, which knows no statement.
        let pool = connect(&schema).pool_named("orders").unwrap();
        track_new(&pool, &["A".to_owned()]);
        for number in 0..before {
            pool.count(&filter(number)).unwrap();
        }
        let value = format!("B-{before}");
        let mut claim = pool.claim(std::slice::from_ref(&value), key, &Origin::none(), LEASE).unwrap();
        claim.confirm_with(|_| Some("result")).unwrap().all_confirmed().unwrap();
        let transactions = ask(&format!(
            "WITH last AS (SELECT max(id) AS id FROM {schema}.record) SELECT count(DISTINCT x) FROM last, LATERAL (\
             SELECT xmin::text AS x FROM {schema}.record r WHERE r.id = last.id \
             UNION ALL SELECT xmin::text FROM {schema}.result WHERE record = last.id \
             UNION ALL SELECT xmin::text FROM {schema}.head) AS written"
        ));
        assert_eq!(transactions, "1", "after {before} statements");
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn calls_go_on_after_a_table_was_changed() {
    let schema = new_schema();
    let store = connect(&schema);
    let pool = store.create_pool("orders").unwrap();
    let new = |value: &str| track_new(&pool, &[value.to_owned()]);
    assert_eq!(new("A"), 1);
    for table in ["head", "catalogue"] {
        ask(&format!("ALTER TABLE {schema}.{table} ADD COLUMN later bigint"));
    }
    assert_eq!((new("A"), new("B")), (0, 1));
    assert_eq!(pool.info().unwrap().name, "orders");
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 2);
    assert_eq!(ask(&format!("SELECT count(*) FROM {schema}.record")), "2");
}
