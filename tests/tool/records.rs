//! Proves that records are listed and deleted.

use datapool_store::{Flow, RecordQuery};

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
