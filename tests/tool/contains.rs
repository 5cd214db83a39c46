//! Proves that the tool checks values without tracking them.

use serde_json::json;

use crate::support::Place;

const CONTAINS: [&str; 4] = ["contains", "orders", "--entity-type", "37"];

#[test]
fn every_value_has_its_answer_in_order_and_none_is_tracked() {
    let place = Place::new();
    place.track(&["A-1", "A-2"]);
    let input = "\u{feff}A-2\r\nB-1\n\nA-2\nA\u{1b}[2J\n";
    let answers = "present\tA-2\nabsent\tB-1\npresent\tA-2\nabsent\tA\u{1b}[2J\n";
    for _ in 0..2 {
        assert_eq!(place.run_with(input, CONTAINS).ok(), answers);
    }
    assert_eq!(place.run_with("", CONTAINS).ok(), "");
    assert_eq!(place.run_with("A-1\n", ["contains", "orders", "--entity-type", "47"]).ok(), "absent\tA-1\n");
}

#[test]
fn json_answers_have_the_record_that_was_first() {
    let place = Place::new();
    place.track(&["A-1"]);
    let answers = place.run_with("B-1\nA-1\n", CONTAINS.into_iter().chain(["--json"])).json_lines();
    assert_eq!(answers[0], json!({"value": "B-1", "present": false, "first": null}));
    assert_eq!((&answers[1]["value"], &answers[1]["present"]), (&json!("A-1"), &json!(true)));
    assert_eq!((&answers[1]["first"]["id"], &answers[1]["first"]["value"]), (&json!(1), &json!("A-1")));
    assert_eq!(answers.len(), 2);
}

#[test]
fn values_that_are_too_long_are_refused_with_their_line() {
    let place = Place::new();
    let error = place.run_with(format!("A-1\n{}\n", "x".repeat(2_000_000)), CONTAINS).error(1);
    assert!(error.contains("line 2"), "{error}");
}
