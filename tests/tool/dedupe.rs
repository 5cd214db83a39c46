//! Proves which lines of standard input are passed on, which are tracked, and what is reported about each.

use std::time::Duration;

use datapool_store::{Key, Origin};
use serde_json::{Value, json};

use crate::support::{ORDERS, Place};

const DEDUPE: [&str; 4] = ["dedupe", "orders", "--entity-type", "37"];

fn dedupe(place: &Place, input: &str, more: &[&str]) -> String {
    place.run_with(input, DEDUPE.into_iter().chain(more.iter().copied())).ok()
}

/// Returns the value, the verdict and the first record's id of each line.
fn verdicts(place: &Place, input: &str, more: &[&str]) -> Vec<(String, String, Option<u64>)> {
    let answer = place.run_with(input, DEDUPE.into_iter().chain(more.iter().copied()).chain(["--json"]));
    let read = |line: Value| {
        assert_eq!(line.as_object().unwrap().len(), 3, "{line}");
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        (text("value"), text("verdict"), line["first"].get("id").map(|id| id.as_u64().unwrap()))
    };
    answer.json_lines().into_iter().map(read).collect()
}

fn said(value: &str, verdict: &str, first: Option<u64>) -> (String, String, Option<u64>) {
    (value.to_owned(), verdict.to_owned(), first)
}

fn tracked(place: &Place) -> u64 {
    place.json(["records", "orders"])["meta"]["total"].as_u64().unwrap()
}

#[test]
fn new_values_are_passed_on_and_tracked_by_default() {
    let place = Place::new();
    assert_eq!(dedupe(&place, "A-1\nA-2\nA-1\n", &[]), "A-1\nA-2\n");
    assert_eq!(dedupe(&place, "A-2\r\nA-3", &["--mode", "filter-and-track"]), "A-3\n");
    assert_eq!(dedupe(&place, "A-1\nA-2\nA-3\n", &[]), "");
    assert_eq!(dedupe(&place, "", &[]), "");
    assert_eq!(tracked(&place), 3);
}

#[test]
fn filter_passes_on_new_values_and_tracks_nothing() {
    let place = Place::new();
    place.track(&["A-1"]);
    assert_eq!(dedupe(&place, "A-1\nA-2\nA-2\n", &["--mode", "filter"]), "A-2\n");
    assert_eq!(tracked(&place), 1);
}

#[test]
fn track_passes_everything_on() {
    let place = Place::new();
    place.track(&["A-1"]);
    assert_eq!(dedupe(&place, "A-1\nA-2\nA-2\n", &["--mode", "track"]), "A-1\nA-2\nA-2\n");
    assert_eq!(tracked(&place), 2);
}

#[test]
fn a_value_is_a_duplicate_only_within_its_entity_type() {
    let place = Place::new();
    place.track(&["A-1"]);
    let answer = place.run_with("A-1\n", ["dedupe", "orders", "--entity-type", "47"]);
    assert_eq!(answer.ok(), "A-1\n");
}

#[test]
fn json_has_a_verdict_for_every_line_in_order_and_the_record_that_was_first() {
    let place = Place::new();
    place.track(&["A-1"]);
    let input = "A-2\nA-1\nA-2\nA-3\n";
    let in_filter = [
        said("A-2", "new", None),
        said("A-1", "duplicate", Some(1)),
        said("A-2", "duplicate", None),
        said("A-3", "new", None),
    ];
    assert_eq!(verdicts(&place, input, &["--mode", "filter"]), in_filter);
    let tracking = [
        said("A-2", "new", None),
        said("A-1", "duplicate", Some(1)),
        said("A-2", "duplicate", Some(2)),
        said("A-3", "new", None),
    ];
    assert_eq!(verdicts(&place, input, &[]), tracking);
    let again =
        [said("A-3", "duplicate", Some(3)), said("A-4", "new", None), said("A-4", "duplicate", Some(4))];
    assert_eq!(verdicts(&place, "A-3\nA-4\nA-4\n", &["--mode", "track"]), again);
    assert!(verdicts(&place, "", &[]).is_empty());
}

#[test]
fn the_first_record_is_as_a_listing_has_it_with_its_origin() {
    let place = Place::new();
    let origin = ["--flow", "shop", "--run", "run 1", "--step", "read orders"];
    assert_eq!(dedupe(&place, "A-1\n", &origin), "A-1\n");
    let answer = place.run_with("A-1\n", DEDUPE.into_iter().chain(["--json"])).json();
    assert_eq!(answer["first"], place.json(["records", "orders"])["data"][0]);
    assert_eq!(answer["first"]["flow_id"], "shop");
    assert_eq!(answer["first"]["flow_run_id"], "run 1");
    assert_eq!(answer["first"]["step_id"], "read orders");
}

#[test]
fn what_another_runner_has_claimed_is_in_flight_and_not_passed_on() {
    let place = Place::new();
    let store = place.open();
    let claim = store
        .pool(1)
        .unwrap()
        .claim(&["A-1"], |value| Key::new(ORDERS, *value), &Origin::none(), Duration::from_hours(1))
        .unwrap();
    assert!(claim.into_token().is_some());
    store.close().unwrap();
    for mode in ["filter", "filter-and-track"] {
        assert_eq!(verdicts(&place, "A-1\n", &["--mode", mode]), [said("A-1", "in_flight", None)]);
    }
    let answer = place.run_with("A-1\nA-2\n", DEDUPE);
    assert_eq!((answer.code, answer.out.as_str()), (0, "A-2\n"));
    assert!(answer.err.contains("1 value in flight"), "{}", answer.err);
    assert_eq!(dedupe(&place, "A-1\n", &["--mode", "track"]), "A-1\n");
}

#[test]
fn a_line_that_is_no_value_is_named_and_nothing_is_tracked() {
    let place = Place::new();
    let long = format!("A-1\n{}\n", "x".repeat(4_097));
    let cases: [(&[u8], &str); 2] = [
        (b"A-1\n\n\xff\xfe\n", "line 3: it is not UTF-8"),
        (long.as_bytes(), "line 2: it is longer than 4096 bytes"),
    ];
    for (input, expected) in cases {
        let error = place.run_with(input, DEDUPE).error(1);
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(tracked(&place), 0);
}

#[test]
fn more_than_a_batch_takes_is_refused_at_the_first_line_too_many() {
    let place = Place::new();
    let error = place.run_with("x\n".repeat(1_048_577), DEDUPE).error(1);
    assert!(error.contains("line 1048577: a batch has at most 1048576 values"), "{error}");
    assert_eq!(tracked(&place), 0);
    assert_eq!(dedupe(&place, &"x\n".repeat(1_048_576), &[]), "x\n");
}

#[test]
fn a_flow_that_cannot_be_is_refused() {
    let place = Place::new();
    let error = place.run_with("A-1\n", DEDUPE.into_iter().chain(["--flow", "a,b"])).error(2);
    assert!(error.contains("comma"), "{error}");
    assert_eq!(json!(tracked(&place)), 0);
}

const LINES: &str =
    "\u{feff}{ \"id\": 17,\t\"n\": 1.50}\r\n\n{\"id\": \"A-1\"}\n \t\n{\"id\": \"17\", \"s\": \"x\"} \n";

#[test]
fn lines_of_json_are_passed_on_as_they_came_if_their_key_is_new() {
    let place = Place::new();
    let by_id = ["--json-lines", "/id"];
    let filter = [by_id.as_slice(), &["--mode", "filter"]].concat();
    let fresh = "{ \"id\": 17,\t\"n\": 1.50}\n{\"id\": \"A-1\"}\n";
    assert_eq!(dedupe(&place, LINES, &filter), fresh);
    assert_eq!(tracked(&place), 0);
    assert_eq!(dedupe(&place, LINES, &by_id), fresh);
    assert_eq!(tracked(&place), 2);
    // The key is a value like any other.
    assert_eq!(dedupe(&place, "17\nA-1\nA-2\n", &[]), "A-2\n");
    let track = [by_id.as_slice(), &["--mode", "track"]].concat();
    assert_eq!(dedupe(&place, "{\"id\":1}\n{\"id\":1}", &track), "{\"id\":1}\n{\"id\":1}\n");
    assert_eq!(dedupe(&place, "", &by_id), "");
}

#[test]
fn several_pointers_make_a_composite_key() {
    let place = Place::new();
    let input = "{\"a\": [{\"b\": 1}], \"\": true}\n{\"a\": [{\"b\": \"1\"}], \"\": true}\n{\"a\": [{\"b\": 1.0}], \"\": true}\n";
    let expected = input.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(dedupe(&place, input, &["--json-lines", "/a/0/b", "--json-lines", "/"]), expected);
    assert_eq!(dedupe(&place, input, &["--json-lines", "/a/0/b", "--json-lines", "/"]), "");
    assert_eq!(dedupe(&place, "[1,true]\n[\"1\",true]\n", &[]), "");
}

#[test]
fn json_has_the_value_the_verdict_and_the_item_of_every_line_of_json() {
    let place = Place::new();
    place.track(&["A-1"]);
    let more = ["--json-lines", "/id", "--on-missing-key", "pass", "--json"];
    let input = format!("{LINES}{{\"id\": null}}\n7\n");
    let answers = place.run_with(input, DEDUPE.into_iter().chain(more)).json_lines();
    let first = place.json(["records", "orders", "sort=id"])["data"].clone();
    assert_eq!(
        answers,
        [
            json!({"value": "17", "verdict": "new", "first": null, "item": {"id": 17, "n": 1.50}}),
            json!({"value": "A-1", "verdict": "duplicate", "first": first[0], "item": {"id": "A-1"}}),
            json!({"value": "17", "verdict": "duplicate", "first": first[1], "item": {"id": "17", "s": "x"}}),
            json!({"value": null, "verdict": "no_key", "first": null, "item": {"id": null}}),
            json!({"value": null, "verdict": "no_key", "first": null, "item": 7}),
        ]
    );
    let printed = place.run_with("{ \"id\": 1.50 }", DEDUPE.into_iter().chain(more)).ok();
    assert!(printed.contains("\"item\":{ \"id\": 1.50 }"), "{printed}");
}

#[test]
fn lines_of_json_without_a_key_fail_pass_or_are_left_out() {
    let place = Place::new();
    let input = "{\"id\": 1}\n\n{}\n{\"id\": \"\"}\n{\"id\": 1}\n";
    let run = |more: &[&str]| {
        place.run_with(input, DEDUPE.into_iter().chain(["--json-lines", "/id"]).chain(more.iter().copied()))
    };
    let error = run(&[]).error(1);
    assert!(error.contains("line 3, column 1: the item has no key: nothing is at \"/id\""), "{error}");
    assert_eq!(tracked(&place), 0);
    let pass = ["--on-missing-key", "pass"];
    assert_eq!(run(&pass).ok(), "{\"id\": 1}\n{}\n{\"id\": \"\"}\n");
    assert_eq!(run(&pass).ok(), "{}\n{\"id\": \"\"}\n");
    let drop = ["--on-missing-key", "drop"];
    assert_eq!(run(&drop).ok(), "");
    let all = "{\"id\": 1}\n{}\n{\"id\": \"\"}\n{\"id\": 1}\n";
    assert_eq!(run(&["--on-missing-key", "drop", "--mode", "track"]).ok(), all);
    assert_eq!(tracked(&place), 1);
}

#[test]
fn a_line_that_is_no_json_is_named_by_line_and_column_and_nothing_is_tracked() {
    let place = Place::new();
    let long = format!("{{\"id\": 1}}\n{{\"id\": \"{}\"}}\n", "x".repeat(4_097));
    let cases: [(&[u8], &str); 5] = [
        (b"{\"id\": 1}\n\n{\"id\": 2\n", "line 3, column 8: the document is not JSON: EOF"),
        (b"{\"id\": 1} {\"id\": 2}\n", "line 1, column 11: the document is not JSON: trailing characters"),
        (b"{\"id\": 1}\n{\"id\": \"\xff\"}\n", "line 2, column 9: the document is not UTF-8"),
        (b"{\"id\": 1}\n{\"id\": [1]}\n", "line 2, column 8: an array is at \"/id\""),
        (long.as_bytes(), "line 2: a value has 4097 bytes"),
    ];
    for (input, expected) in cases {
        let error = place.run_with(input, DEDUPE.into_iter().chain(["--json-lines", "/id"])).error(1);
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(tracked(&place), 0);
}

#[test]
fn a_json_pointer_that_is_none_is_wrong_usage() {
    let place = Place::new();
    for (arguments, expected) in [
        (["--json-lines", "id"].as_slice(), "does not begin with \"/\""),
        (&["--json-lines", "/id", "--json-lines", "/~"], "has a \"~\" without 0 or 1"),
        (&["--json-lines"], "a value is required"),
        (&["--on-missing-key", "pass"], "--json-lines"),
    ] {
        let error = place.run_with("{}", DEDUPE.into_iter().chain(arguments.iter().copied())).error(2);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn each_pointer_has_an_option_of_its_own_and_the_pool_may_come_after_it() {
    let place = Place::new();
    let arguments = ["dedupe", "--json-lines", "/id", "orders", "--entity-type", "37"];
    assert_eq!(place.run_with("{\"id\": 1}\n", arguments).ok(), "{\"id\": 1}\n");
    assert_eq!(place.json(["records", "orders"])["data"][0]["value"], "1");
    let two = ["dedupe", "--json-lines", "/a", "--json-lines", "/b", "orders", "--entity-type", "37"];
    place.run_with("{\"a\": \"A\", \"b\": 2}\n", two).ok();
    assert_eq!(place.json(["records", "orders"])["data"][1]["value"], "[\"A\",2]");
}
