//! Proves which texts are ids of flows, runs and steps, and that the others are refused by every call that would write
//! them or filter by them.

use std::time::Duration;

use datapool_store::{
    Error, ErrorKind, Flow, FlowId, FlowRun, FlowRunId, FlowStep, FlowStepId, Key, Mode, Origin, Pool,
    RecordFilter,
};

use crate::support::{small_pool, small_store};

/// What no list of ids can hold, and why.
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

/// Every part of an origin that may hold the id.
fn origins(id: &str) -> [Origin; 3] {
    [Origin::none().with_flow(id), Origin::none().with_run(id), Origin::none().with_step(id)]
}

/// The errors of every call that takes an origin.
fn refusals(pool: &Pool, origin: &Origin) -> [Error; 3] {
    [
        pool.dedupe(Mode::Track, &["A-1"], key, origin).map(drop).unwrap_err(),
        pool.dedupe(Mode::Filter, &["A-1"], key, origin).map(drop).unwrap_err(),
        pool.claim(&["A-1"], key, origin, Duration::from_mins(1)).map(drop).unwrap_err(),
    ]
}

#[test]
fn an_id_that_no_list_can_hold_is_not_tracked_or_claimed() {
    let pool = small_pool();
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
    let store = small_store();
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
    let pool = small_pool();
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
    let pool = small_pool();
    let origin = Origin::new("read  orders", "a\u{200b}", "a;b");
    let _ = pool.dedupe(Mode::Track, &["A-1"], key, &origin).unwrap();
    let filter = RecordFilter::new().flow_id("read  orders").flow_run_id("a\u{200b}").step_id("a;b");
    assert_eq!(pool.count(&filter).unwrap(), 1);
    assert_eq!(pool.count(&RecordFilter::new().flow_id("read orders")).unwrap(), 0);
}
