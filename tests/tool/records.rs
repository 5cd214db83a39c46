//! Proves that the tool lists and deletes records.

use datapool_store::{EntityTypeId, Flow, Key, Mode, Origin, RecordQuery};
use serde_json::Value;

use crate::support::{Place, has_line, track_as};

#[test]
fn records_are_listed_by_page_and_filter() {
    let place = Place::new();
    let store = place.open();
    track_as(&store, "shop", &["A-1".to_owned(), "A-2".to_owned()]);
    track_as(&store, "fair", &["A-3".to_owned()]);
    store.close().unwrap();

    let text = place.run(["records", "orders"]).ok();
    assert!(has_line(&text, &["1", "37", "A-1", "shop", "run 1", "read orders", "20"]), "{text}");
    assert!(text.ends_with("\n3 records\n"), "{text}");
    let text = place.run(["records", "1", "filter[flow_id]=fair"]).ok();
    assert!(has_line(&text, &["3", "37", "A-3", "fair"]) && !text.contains("A-1"), "{text}");
    let text = place.run(["records", "1", "sort=-id&per_page=2"]).ok();
    assert!(
        text.ends_with("1 to 2 of 3 records; the next page: 'sort=-created_at&page=2&per_page=2'\n"),
        "{text}"
    );
}

#[test]
fn a_page_of_records_as_json_is_that_of_the_library() {
    let place = Place::new();
    let store = place.open();
    track_as(&store, "shop", &["A-1".to_owned(), "A-2".to_owned()]);
    store.put_flow(Flow::new("shop", "The shop")).unwrap();
    let query = "filter[value]=A-2&include=flow";
    let pool = store.pool(1).unwrap();
    let expected =
        serde_json::to_value(pool.records(&query.parse::<RecordQuery>().unwrap()).unwrap()).unwrap();
    store.close().unwrap();
    assert_eq!(expected["data"][0]["value"], "A-2");
    assert_eq!(place.json(["records", "orders", query]), expected);
    assert!(has_line(&place.run(["records", "orders", query]).ok(), &["A-2", "shop (The shop)"]));
}

#[test]
fn a_value_cannot_move_the_terminals_cursor() {
    let place = Place::new();
    place.track(&["A\u{1b}[2J\tB"]);
    let text = place.run(["records", "orders"]).ok();
    assert!(text.contains("A\\u{1b}[2J\\tB") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn records_are_deleted_by_id_and_new_again() {
    let place = Place::new();
    place.track(&["A-1", "A-2", "A-3"]);
    assert_eq!(place.run(["delete", "orders", "1", "3", "99"]).ok(), "deleted 2 records\n");
    assert_eq!(place.json(["delete", "1", "2", "2"]), serde_json::json!({"deleted": 1}));
    let answer = place.run_with("A-1\n", ["dedupe", "orders", "--entity-type", "37"]);
    assert_eq!(answer.ok(), "A-1\n");
}

/// Creates a store with two flows of two runs each, each with the values 0 to 9.
fn place_with_flows() -> Place {
    let place = Place::new();
    let store = place.open();
    for (index, flow, run) in
        [(0, "shop", "run 1"), (1, "shop", "run 2"), (2, "fair", "run 1"), (3, "fair", "run 2")]
    {
        let values: Vec<String> = (0..10).map(|number| format!("{index}-{number}")).collect();
        let key = |value| Key::new(EntityTypeId::new(37 + index), value);
        let pool = store.pool(1).unwrap();
        let verdicts = pool.dedupe(Mode::Track, &values, key, &Origin::new(flow, run, "read")).unwrap();
        assert_eq!(verdicts.new_count(), values.len());
    }
    store.close().unwrap();
    place
}

fn values(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|record| record["value"].as_str().unwrap()).collect()
}

#[test]
fn options_say_what_a_query_says() {
    let place = place_with_flows();
    let cases: [(&[&str], &str, usize); 7] = [
        (&["--flow", "shop"], "filter[flow_id]=shop", 20),
        (&["--flow", "shop", "--run", "run 2"], "filter[flow_id]=shop&filter[flow_run_id]=run 2", 10),
        (
            &["--step", "read", "--entity-type", "37", "--entity-type", "40"],
            "filter[entity_type_id]=37,40",
            20,
        ),
        (
            &["--value", "1-3", "--value", "2-4", "--value", "9-9"],
            "filter[value][]=1-3&filter[value][]=2-4&filter[value][]=9-9",
            2,
        ),
        (&["--after", "2001-01-01", "--before", "2200-01-01T10:00"], "", 40),
        (&["--before", "2001-01-01"], "filter[created_before]=2001-01-01", 0),
        (&["--sort=-created_at", "--page", "2", "--per-page", "7"], "sort=-created_at&page=2&per_page=7", 40),
    ];
    for (options, query, total) in cases {
        let by_options = place.json(["records", "orders"].into_iter().chain(options.iter().copied()));
        let by_query = place.json(["records", "orders", query]);
        assert_eq!(by_options["data"], by_query["data"], "{options:?}");
        assert_eq!(by_options["meta"]["total"], total, "{options:?}");
    }
    let page = place.json(["records", "orders", "--sort=-created_at", "--per-page", "2", "--flow", "fair"]);
    assert_eq!(values(&page), ["3-9", "3-8"]);
    // Just after the first records were created, by less than a microsecond.
    let page = place.json(["records", "orders", "--per-page", "1", "--sort=id"]);
    let after = page["data"][0]["created_at"].as_str().unwrap().replace('Z', "5Z");
    let page = place.json(["records", "orders", "--before", after.as_str()]);
    assert_eq!(page["meta"]["total"], 10);
    let error = place.run(["records", "orders", "sort=-created_at", "--flow", "shop"]).error(2);
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn the_next_page_is_named_in_the_form_that_the_user_used() {
    let place = place_with_flows();
    let text = place.run(["records", "orders", "--sort=-created_at", "--per-page", "7", "--page", "2"]).ok();
    assert!(text.ends_with("8 to 14 of 40 records; the next page: --page 3\n"), "{text}");
    assert!(place.run(["records", "orders"]).ok().ends_with("; the next page: --page 2\n"));
    let text = place.run(["records", "orders", "per_page=7"]).ok();
    assert!(text.ends_with("1 to 7 of 40 records; the next page: 'page=2&per_page=7'\n"), "{text}");
}

#[test]
fn records_are_deleted_by_value_and_by_filter() {
    let place = place_with_flows();
    let delete = |arguments: &[&str]| {
        place.json(["delete", "orders"].into_iter().chain(arguments.iter().copied()))["deleted"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(delete(&["--value", "0-0", "--entity-type", "38"]), 0);
    assert_eq!(delete(&["--value", "0-0", "--entity-type", "37"]), 1);
    assert_eq!(delete(&["--flow", "shop", "--run", "run 2"]), 10);
    assert_eq!(
        delete(&[
            "--where",
            "filter[flow_id]=fair,other&filter[value][]=2-1&filter[value][]=3-1&filter[value][]=1-1"
        ]),
        2
    );
    assert_eq!(place.json(["records", "orders"])["meta"]["total"], 40 - 13);
}

#[test]
fn deleting_needs_to_know_which_records() {
    let place = place_with_flows();
    let cases: [(&[&str], &str); 6] = [
        (&[], "no records are named: by ID..., by a filter (--value, --run and so on), or by --where QUERY"),
        (&["--where", ""], "it names no records; to delete all of them, use `clear`"),
        (&["--where", "sort=-created_at"], "it names no records"),
        (&["--where", "filter[flow_id]=shop&page=2"], "only filters are allowed"),
        (&["1", "--flow", "shop"], "cannot be used with"),
        (&["--where", "filter[flow_id]=shop", "--value", "0-0"], "cannot be used with"),
    ];
    for (arguments, expected) in cases {
        let error = place.run(["delete", "orders"].into_iter().chain(arguments.iter().copied())).error(2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert_eq!(place.json(["records", "orders"])["meta"]["total"], 40);
}

#[test]
fn an_export_may_have_a_part_of_the_records() {
    let place = place_with_flows();
    let text = place.run(["export", "orders", "--flow", "fair", "--value", "3-4", "--value", "0-1"]).ok();
    assert_eq!(text, "value,entity_type_id\n3-4,40\n");
    let text = place.run(["export", "orders", "some.csv", "--run", "run 1", "--entity-type", "39"]).ok();
    assert_eq!(text, "10 rows in some.csv\n");
    assert_eq!(place.read("some.csv").lines().count(), 11);
}
