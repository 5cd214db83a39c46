//! Proves that the tool lists and releases claims.

use std::time::Duration;

use datapool_store::{ClaimOptions, Key, Origin};
use serde_json::json;

use crate::support::{ORDERS, Place, has_line};

const LEASE: Duration = Duration::from_hours(1);

/// Creates a store in which two owners and a claim without an owner hold one value each. Their runners are
/// gone.
fn place_with_claims() -> Place {
    let place = Place::new();
    let store = place.open();
    let pool = store.pool(1).unwrap();
    let origin = Origin::new("shop", "run 1", "read");
    for (owner, value) in [(Some("worker 1"), "A-1"), (Some("worker 2"), "A-2"), (None, "A-3")] {
        let options = ClaimOptions::new().lease(LEASE);
        let options = match owner {
            Some(owner) => options.owner(owner),
            None => options,
        };
        // A killed runner releases nothing.
        std::mem::forget(
            pool.claim_with(&[value], |value| Key::new(ORDERS, *value), &origin, &options).unwrap(),
        );
    }
    drop(pool);
    store.close().unwrap();
    place
}

/// Returns the values that a runner would get as new now.
fn new_values(place: &Place) -> String {
    let filter = ["dedupe", "orders", "--entity-type", "37", "--mode", "filter"];
    let answer = place.run_with("A-1\nA-2\nA-3\n", filter);
    assert_eq!(answer.code, 0, "{}", answer.err);
    answer.out
}

#[test]
fn claims_are_listed_with_their_owners() {
    let place = place_with_claims();
    let text = place.run(["claims", "orders"]).ok();
    assert!(has_line(&text, &["worker 1", "1", "shop", "run 1", "read", "20"]), "{text}");
    assert!(text.ends_with("\n3 claims\n"), "{text}");
    let text = place.run(["claims", "orders", "--owner", "worker 2"]).ok();
    assert!(
        text.contains("worker 2") && !text.contains("worker 1") && text.ends_with("\n1 claim\n"),
        "{text}"
    );
    let json = place.json(["claims", "orders"]);
    let owners: Vec<_> = json.as_array().unwrap().iter().map(|claim| claim["owner"].clone()).collect();
    assert_eq!(owners, [json!("worker 1"), json!("worker 2"), json!(null)]);
    assert_eq!(new_values(&place), "");
}

#[test]
fn a_released_claim_gives_its_values_back() {
    let place = place_with_claims();
    let id = place.json(["claims", "orders", "--owner", "worker 2"])[0]["id"].to_string();
    // This claim does not belong to the first worker.
    let error = place.run(["claims", "orders", "--owner", "worker 1", "--release", &id]).error(1);
    assert!(error.contains(&format!("no open claim {id} of \"worker 1\"")), "{error}");
    assert_eq!(place.run(["claims", "orders", "--release", &id]).ok(), "released 1 claim\n");
    assert_eq!(new_values(&place), "A-2\n");
    let error = place.run(["claims", "orders", "--release", &id]).error(1);
    assert!(
        error.contains(&format!("data pool \"orders\" has no open claim {id}; `claims` lists")),
        "{error}"
    );
}

#[test]
fn all_claims_are_released_or_all_of_an_owner() {
    let place = place_with_claims();
    let of_owner = place.json(["claims", "orders", "--owner", "worker 1", "--release-all"]);
    assert_eq!((of_owner, new_values(&place)), (json!({"released": 1}), "A-1\n".to_owned()));
    assert_eq!(place.run(["claims", "orders", "--release-all"]).ok(), "released 2 claims\n");
    assert_eq!(new_values(&place), "A-1\nA-2\nA-3\n");
    assert_eq!(place.run(["claims", "orders", "--release-all"]).ok(), "released 0 claims\n");
}
