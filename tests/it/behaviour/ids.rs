//! Proves which texts are valid ids of flows, runs and steps, and that every call that writes them or filters
//! by them refuses all others. Also proves that ids of pools, records and entity types are numbers.

use std::time::Duration;

use datapool_store::{
    EntityTypeId, Error, ErrorKind, Flow, FlowId, FlowRun, FlowRunId, FlowStep, FlowStepId, Key, Mode,
    Origin, Pool, PoolId, PoolQuery, RecordFilter, RecordId,
};
use proptest::prelude::*;

use crate::support::{Need, pool_for, store_for};

/// Texts that a list of ids cannot contain, and the reasons.
const REFUSED: [(&str, &str); 9] = [
    ("a,b", "has a comma"),
    (",", "has a comma"),
    (" a", "begins or ends with a blank"),
    ("a ", "begins or ends with a blank"),
    ("a\n", "begins or ends with a blank"),
    ("\ta", "begins or ends with a blank"),
    ("\u{a0}a", "begins or ends with a blank"),
    ("a\u{3000}", "begins or ends with a blank"),
    (" ", "begins or ends with a blank"),
];

fn key(value: &&'static str) -> Key<'static> {
    Key::new(37, *value)
}

/// Returns origins with this id in each of their parts.
fn origins(id: &str) -> [Origin; 3] {
    [Origin::none().with_flow(id), Origin::none().with_run(id), Origin::none().with_step(id)]
}

/// Returns the errors of every call that takes an origin.
fn refusals(pool: &Pool, origin: &Origin) -> [Error; 3] {
    [
        pool.dedupe(Mode::Track, &["A-1"], key, origin).map(drop).unwrap_err(),
        pool.dedupe(Mode::Filter, &["A-1"], key, origin).map(drop).unwrap_err(),
        pool.claim(&["A-1"], key, origin, Duration::from_mins(1)).map(drop).unwrap_err(),
    ]
}

#[test]
fn an_id_that_no_list_can_hold_is_not_tracked_or_claimed() {
    let pool = pool_for(Need::Any);
    for (id, reason) in REFUSED {
        for error in origins(id).iter().flat_map(|origin| refusals(&pool, origin)) {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.to_string().contains("allowed is text of 1 to 64 bytes without commas"), "{error}");
        }
    }
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 0);
}

#[test]
fn an_id_that_no_list_can_hold_is_not_registered() {
    let store = store_for(Need::Any);
    for (id, reason) in REFUSED {
        for error in [
            store.put_flow(Flow::new(id, "name")).unwrap_err(),
            store.put_flow_run(FlowRun::new(id, "name")).unwrap_err(),
            store.put_flow_step(FlowStep::new(id, "name")).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}

#[test]
fn an_id_that_no_list_can_hold_is_not_filtered_by() {
    let pool = pool_for(Need::Any);
    for (id, reason) in REFUSED {
        let filter = RecordFilter::new;
        for (parameter, filter) in [
            ("filter[flow_id]", filter().flow_id(FlowId::from(id))),
            ("filter[flow_run_id]", filter().flow_run_id(FlowRunId::from(id.to_owned()))),
            ("filter[step_id]", filter().step_id("a").step_id(FlowStepId::from(id))),
        ] {
            let error = pool.count(&filter).unwrap_err();
            assert_eq!((error.kind(), error.parameter()), (ErrorKind::InvalidQuery, Some(parameter)));
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}

#[test]
fn blanks_within_an_id_are_part_of_it() {
    let pool = pool_for(Need::Any);
    let origin = Origin::new("read  orders", "a\u{200b}", "a;b");
    let _ = pool.dedupe(Mode::Track, &["A-1"], key, &origin).unwrap();
    let filter = RecordFilter::new().flow_id("read  orders").flow_run_id("a\u{200b}").step_id("a;b");
    assert_eq!(pool.count(&filter).unwrap(), 1);
    assert_eq!(pool.count(&RecordFilter::new().flow_id("read orders")).unwrap(), 0);
}

proptest! {
    #[test]
    fn an_id_that_is_a_number_reads_back_from_its_digits(id: u64, entity_type: u32) {
        let (pool, record, of_type) = (PoolId::new(id), RecordId::new(id), EntityTypeId::new(entity_type));
        prop_assert_eq!((pool.get(), record.get(), of_type.get()), (id, id, entity_type));
        prop_assert_eq!((pool.to_string(), record.to_string()), (id.to_string(), id.to_string()));
        prop_assert_eq!(format!("{pool:>25}{record:025}"), format!("{id:>25}{id:025}"));
        prop_assert_eq!(id.to_string().parse::<PoolId>().unwrap(), pool);
        prop_assert_eq!(id.to_string().parse::<RecordId>().unwrap(), record);
        prop_assert_eq!(entity_type.to_string().parse::<EntityTypeId>().unwrap(), of_type);
        let json = serde_json::to_string(&(pool, record, of_type)).unwrap();
        prop_assert_eq!(&json, &format!("[{id},{id},{entity_type}]"));
        prop_assert_eq!(serde_json::from_str::<(PoolId, RecordId, EntityTypeId)>(&json).unwrap(), (pool, record, of_type));
    }

    #[test]
    fn any_other_text_is_no_number_of_an_id(text in prop_oneof!["[+-]?[0-9]{1,25}", "0[0-9]{0,3}", " ?[0-9]{1,3} ?", ".{0,200}"]) {
        let is_text_of = |number: Option<String>| number.is_some_and(|number| number == text);
        let allowed = is_text_of(text.parse::<u64>().ok().map(|id| id.to_string()));
        prop_assert_eq!(text.parse::<PoolId>().is_ok(), allowed);
        match text.parse::<RecordId>() {
            Ok(id) => prop_assert!(allowed && id.to_string() == text),
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
                prop_assert!(!allowed && error.to_string().contains("is not a record id"), "{}", error);
                prop_assert!(error.to_string().len() < 2_000);
            }
        }
        let of_types = is_text_of(text.parse::<u32>().ok().map(|id| id.to_string()));
        prop_assert_eq!(text.parse::<EntityTypeId>().is_ok(), of_types);
    }
}

#[test]
fn calls_take_ids_as_numbers_and_as_ids() {
    let store = store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    let _ = pool.dedupe(Mode::Track, &["A-1", "A-2", "A-3", "A-4"], key, &Origin::none()).unwrap();
    assert_eq!(store.pool(1).unwrap().id(), store.pool(pool.id()).unwrap().id());
    assert_eq!(store.pools(&PoolQuery::new().id(1).id(pool.id())).unwrap().meta.total, 1);
    let first = pool.scan(&RecordFilter::new()).unwrap().next().unwrap().unwrap().id;
    assert_eq!(pool.delete_records([first]).unwrap(), 1);
    let ids = [RecordId::new(2), first];
    assert_eq!(pool.delete_records(ids).unwrap(), 1);
    assert_eq!(pool.delete_records(ids).unwrap(), 0);
    assert_eq!(pool.delete_records(3..5).unwrap(), 2);
    store.delete_pool(pool.id()).unwrap();
    assert_eq!(store.delete_pool(1).unwrap_err().kind(), ErrorKind::NotFound);
}
