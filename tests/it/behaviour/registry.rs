//! Proves that registered entries are returned, and are included with the records of a page on request.

use std::collections::BTreeMap;

use datapool_store::{
    EntityType, EntityTypeId, ErrorKind, Flow, FlowId, FlowRun, FlowStep, Key, Mode, Origin, RecordInclude,
    RecordQuery, limits,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{self, Need, options, store_for, track};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such number", |n| n.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, String, Value),
    Delete(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..20, ".{0,20}", json_value()).prop_map(|(id, name, attributes)| Step::Put(id, name, attributes)),
        1 => (0_u8..20).prop_map(Step::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn registering_is_a_map_by_id(steps in proptest::collection::vec(step(), 0..30)) {
        let store = store_for(Need::Any);
        let (mut flows, mut types): (BTreeMap<String, Flow>, BTreeMap<u32, EntityType>) = Default::default();
        for step in steps {
            match step {
                Step::Put(id, name, attributes) => {
                    let flow = Flow::new(u64::from(id), name.clone()).attributes(attributes.clone());
                    store.put_flow(flow.clone()).unwrap();
                    flows.insert(id.to_string(), flow);
                    let entity_type = EntityType::new(u32::from(id) << 20, name).attributes(attributes);
                    store.put_entity_type(entity_type.clone()).unwrap();
                    types.insert(u32::from(id) << 20, entity_type);
                }
                Step::Delete(id) => {
                    let known = flows.remove(&id.to_string()).is_some();
                    prop_assert_eq!(store.delete_flow(u64::from(id)).unwrap(), known);
                    types.remove(&(u32::from(id) << 20));
                    prop_assert_eq!(store.delete_entity_type(u32::from(id) << 20).unwrap(), known);
                }
            }
        }
        for id in 0..20_u64 {
            prop_assert_eq!(store.flow(id).unwrap(), flows.get(&id.to_string()).cloned());
        }
        let listed: Vec<Flow> = store.flows().map(Result::unwrap).collect();
        prop_assert_eq!(listed, flows.into_values().collect::<Vec<_>>());
        let listed: Vec<EntityType> = store.entity_types().map(Result::unwrap).collect();
        prop_assert_eq!(listed, types.into_values().collect::<Vec<_>>());
        prop_assert_eq!(store.flow_runs().count() + store.flow_steps().count(), 0);
    }
}

#[test]
fn many_are_put_in_one_call_and_listed_in_order_whatever_their_number() {
    let store = support::store_for(Need::Any);
    let runs: Vec<FlowRun> =
        (0..1_000).map(|n| FlowRun::new(format!("{n:04}"), format!("Run {n}"))).collect();
    let mut shuffled: Vec<FlowRun> = runs.iter().rev().cloned().collect();
    shuffled.swap(3, 500);
    store.put_flow_runs(&shuffled).unwrap();
    assert_eq!(store.flow_runs().map(Result::unwrap).collect::<Vec<_>>(), runs);
    store.put_flow_runs(&[]).unwrap();
    store.put_flow_runs(&[FlowRun::new("0001", "first"), FlowRun::new("0001", "last")]).unwrap();
    assert_eq!(store.flow_run("0001").unwrap().unwrap().name, "last");
    assert!(store.delete_flow_run("0001").unwrap());
    assert!(!store.delete_flow_run("0001").unwrap());
    assert_eq!(store.flow_runs().count(), 999);
}

#[test]
fn what_is_registered_survives_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let step =
        FlowStep::new("read", "Read").attributes(json!({"deep": [[[{}]]], "float": 0.1, "big": u64::MAX}));
    options().open(&path).unwrap().put_flow_step(step.clone()).unwrap();
    assert_eq!(options().open(&path).unwrap().flow_step("read").unwrap(), Some(step));
}

#[test]
fn what_is_over_a_limit_is_refused_and_nothing_of_the_call_is_registered() {
    let store = store_for(Need::Any);
    let deep = (0..limits::ATTRIBUTES_MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
    store.put_flow(Flow::new("deep", "x").attributes(deep.clone())).unwrap();
    assert_eq!(store.flow("deep").unwrap().unwrap().attributes, deep);
    store.put_flow(Flow::new("long", "ü".repeat(limits::REGISTERED_NAME_MAX_CHARS))).unwrap();
    for (bad, parameter, limit) in [
        (Flow::new("x", "x".repeat(256)), Some("name"), "REGISTERED_NAME_MAX_CHARS"),
        (Flow::new("x", "x").attributes(json!([deep])), Some("attributes"), "ATTRIBUTES_MAX_DEPTH"),
        (Flow::new("x", "x").attributes("x".repeat(65_535)), Some("attributes"), "ATTRIBUTES_MAX_BYTES"),
        (Flow::new("x".repeat(65), "x"), None, "ID_MAX_BYTES"),
    ] {
        let error = store.put_flows(&[Flow::new("good", "x"), bad]).unwrap_err();
        assert_eq!((error.kind(), error.parameter()), (ErrorKind::LimitExceeded, parameter));
        assert!(error.to_string().contains(limit), "{error}");
    }
    for id in ["", "a,b"] {
        assert_eq!(store.put_flow(Flow::new(id, "x")).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(store.flows().count(), 2);
}

#[test]
fn one_call_registers_no_more_entries_than_a_batch_has() {
    let store = store_for(Need::Any);
    let most = limits::BATCH_MAX_ITEMS;
    let (flow, run, step) = (Flow::new("x", ""), FlowRun::new("x", ""), FlowStep::new("x", ""));
    for error in [
        store.put_flows(&vec![flow.clone(); most + 1]).unwrap_err(),
        store.put_flow_runs(&vec![run; most + 1]).unwrap_err(),
        store.put_flow_steps(&vec![step; most + 1]).unwrap_err(),
        store.put_entity_types(&vec![EntityType::new(37, ""); most + 1]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("BATCH_MAX_ITEMS"), "{error}");
    }
    assert_eq!(store.flows().count() + store.entity_types().count(), 0);
    store.put_flows(&vec![flow; most]).unwrap();
    assert_eq!(store.flows().count(), 1);
}

#[test]
fn a_page_brings_along_what_it_was_asked_for_and_nothing_else() {
    let store = store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    track(&pool, &["before"]);
    store.put_flow(Flow::new("shop", "Shop")).unwrap();
    let key = |value: &&'static str| Key::new(37, *value);
    let _ = pool.dedupe(Mode::Track, &["bare"], key, &Origin::none()).unwrap();

    let page = pool.records(&RecordQuery::new().include([RecordInclude::Flow])).unwrap();
    let flows: Vec<Option<&str>> =
        page.data.iter().map(|record| record.included.flow().map(|flow| flow.name.as_str())).collect();
    // The flow was registered after the record was tracked. The other record has no flow.
    assert_eq!(flows, [Some("Shop"), None]);
    assert!(page.data.iter().all(|record| record.included.data_pool().is_none()));
    let json = serde_json::to_value(&page.data[0]).unwrap();
    assert!(json.get("flow").is_some() && json.get("flow_run").is_none() && json.get("data_pool").is_none());

    let page = pool.records(&RecordQuery::new().include(RecordInclude::ALL)).unwrap();
    assert_eq!(page.data[1].included.data_pool(), Some(&pool.info().unwrap()));
    assert_eq!(page.data[0].included.flow_run(), None);
    let json = serde_json::to_value(&page.data[0]).unwrap();
    assert_eq!((&json["flow"]["name"], &json["flow_run"]), (&json!("Shop"), &Value::Null));

    store.delete_flow("shop").unwrap();
    let page = pool.records(&RecordQuery::new().include([RecordInclude::Flow])).unwrap();
    assert_eq!(page.data[0].included.flow(), None);
    assert_eq!(page.data[0].flow_id, Some(FlowId::from("shop")));
}

#[test]
fn a_snapshot_includes_what_was_registered_at_its_moment() {
    let store = store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    track(&pool, &["a"]);
    let query = RecordQuery::new().include([RecordInclude::EntityType]);
    let snapshot = pool.snapshot().unwrap();
    store.put_entity_type(EntityType::new(EntityTypeId::new(37), "Orders")).unwrap();
    assert_eq!(snapshot.records(&query).unwrap().data[0].included.entity_type(), None);
    assert_eq!(pool.records(&query).unwrap().data[0].included.entity_type().unwrap().name, "Orders");
}
