//! Over a server: verifying finds what is wrong in its tables, pruning removes what nobody can see, and what opens and closes a store.

use std::time::Duration;

use datapool_store::{Access, ErrorKind, IfMissing, NewPool, Origin, RecordFilter, StoreOptions};

use super::{LEASE, ask, connect, key, new_schema, track_new};
use crate::support::{self, engine, numbered};

const HOUR: Duration = Duration::from_hours(1);

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn verifying_finds_what_is_wrong_in_the_tables_and_names_it() {
    let schema = new_schema();
    let store = connect(&schema);
    let (orders, others) = (store.create_pool("orders").unwrap(), store.create_pool("others").unwrap());
    assert_eq!(track_new(&orders, &numbered("A", 10)) + track_new(&others, &numbered("A", 5_000)), 5_010);
    let claim = orders.claim(&numbered("C", 2), key, &Origin::none(), LEASE).unwrap();
    let sound = store.verify().unwrap();
    assert_eq!((sound.ok, sound.pools, sound.records, sound.findings_count), (true, 2, 5_010, 0));

    let pool = orders.id();
    let of_head = |change: &str| format!("UPDATE {schema}.head SET {change} WHERE pool = {pool}");
    let of_record =
        |change: &str| format!("UPDATE {schema}.record SET {change} WHERE pool = {pool} AND id = 3");
    let head = pool.to_string();
    for (damage, repair, kind, which, reason) in [
        (
            of_head("live = 11"),
            of_head("live = 10"),
            "head",
            &*head,
            "counts 11 live records, but the pool has 10",
        ),
        (
            of_head("live = 9"),
            of_head("live = 10"),
            "head",
            &head,
            "counts 9 live records, but the pool has 10",
        ),
        (
            of_head("next_id = 10"),
            of_head("next_id = 11"),
            "head",
            &head,
            "the next id is 10, but a record has that id",
        ),
        (of_record("value = 'other'"), of_record("value = 'A-2'"), "record", "3", "does not match the value"),
        (
            of_record("entity_type = 38"),
            of_record("entity_type = 37"),
            "record",
            "3",
            "does not match the value",
        ),
        (of_record("value = '\\xff'"), of_record("value = 'A-2'"), "record", "3", ""),
        (
            format!("UPDATE {schema}.claim SET id = 99 WHERE pool = {pool}"),
            format!("UPDATE {schema}.claim SET id = 1 WHERE pool = {pool}"),
            "head",
            &head,
            "2 claimed items belong to no claim",
        ),
    ] {
        ask(&damage);
        let report = store.verify().unwrap();
        assert_eq!((report.ok, report.pools, report.findings_count), (false, 2, 1), "{damage}: {report:?}");
        let finding = &report.findings[0];
        assert_eq!(
            (finding.data_pool_id, &*finding.table, &*finding.key),
            (Some(pool), kind, which),
            "{damage}"
        );
        assert!(finding.reason.contains(reason), "{damage}: {finding:?}");
        ask(&repair);
        assert!(store.verify().unwrap().ok, "{repair}");
    }

    ask(&format!("UPDATE {schema}.record SET fingerprint = gen_random_uuid() WHERE pool = {}", others.id()));
    let report = store.verify().unwrap();
    assert_eq!((report.ok, report.findings_count, report.findings.len()), (false, 5_000, 1_000));
    drop(claim);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn pruning_removes_dead_records_and_old_claims_and_counts_them() {
    let (schema, clock) = (new_schema(), support::clock());
    let store = engine::connect(&schema, &StoreOptions::new().clock(clock.clone())).unwrap();
    let pool = store.create_pool(NewPool::new("orders").retention(HOUR * 24)).unwrap();
    assert_eq!(track_new(&pool, &numbered("A", 100)), 100);
    clock.advance(HOUR * 23);
    assert_eq!(track_new(&pool, &numbered("B", 7)), 7);
    for (values, lease) in [("C", LEASE), ("D", HOUR * 24)] {
        assert!(
            pool.claim(&numbered(values, 5), key, &Origin::none(), lease).unwrap().into_token().is_some()
        );
    }
    clock.advance(HOUR * 2);
    let report = pool.prune().unwrap();
    assert_eq!((report.records, report.claims), (100, 1));
    let rows = |table: &str| ask(&format!("SELECT count(*) FROM {schema}.{table}"));
    assert_eq!((rows("record"), rows("claim"), rows("claim_item")), ("7".into(), "1".into(), "5".into()));
    let again = pool.prune().unwrap();
    assert_eq!((again.records, again.claims), (0, 0));
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 7);
    assert!(store.verify().unwrap().ok);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn the_tables_of_a_later_version_are_refused_and_left_as_they_are() {
    let schema = new_schema();
    drop(connect(&schema));
    ask(&format!("UPDATE {schema}.meta SET number = number + 7 WHERE name = 'version'"));
    let contents = || ask(&format!("SELECT string_agg(m::text, ',' ORDER BY name) FROM {schema}.meta m"));
    let before = contents();
    for options in [
        StoreOptions::new(),
        StoreOptions::new().if_missing(IfMissing::Fail),
        StoreOptions::new().access(Access::ReadOnly),
    ] {
        let error = engine::connect(&schema, &options).unwrap_err();
        let ErrorKind::UnsupportedFormat { found, supported } = error.kind() else { panic!("{error}") };
        assert_eq!(found, supported + 7);
    }
    assert_eq!(contents(), before);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn only_who_may_write_and_create_makes_a_store() {
    let schema = new_schema();
    for options in
        [StoreOptions::new().if_missing(IfMissing::Fail), StoreOptions::new().access(Access::ReadOnly)]
    {
        let error = engine::connect(&schema, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(&schema), "{error}");
        assert_eq!(ask(&format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'")), "0");
    }
    let store = connect(&schema);
    let reader = engine::connect(&schema, &StoreOptions::new().access(Access::ReadOnly)).unwrap();
    let error = reader.create_pool("orders").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    assert_eq!(store.all_pools().unwrap().len(), 0);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn what_only_files_have_is_unsupported() {
    let store = connect(&new_schema());
    let directory = tempfile::tempdir().unwrap();
    for refused in [
        store.backup_to(directory.path().join("copy")).unwrap_err(),
        store.rebuild_indexes().unwrap_err(),
        store.compact().unwrap_err(),
        store.vacuum().unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert!(refused.to_string().contains("the server's own means"), "{refused}");
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_snapshot_ends_with_closing_also_if_the_store_is_opened_again() {
    let store = connect(&new_schema());
    let pool = store.create_pool("orders").unwrap();
    assert_eq!(track_new(&pool, &numbered("A", 3)), 3);
    let snapshot = pool.snapshot().unwrap();
    assert_eq!(snapshot.count(&RecordFilter::new()).unwrap(), 3);
    store.close().unwrap();
    assert_eq!(snapshot.count(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::Closed);
    store.reopen().unwrap();
    assert_eq!(snapshot.count(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 3);
}
