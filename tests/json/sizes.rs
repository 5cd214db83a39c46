//! Proves that documents may be deep and large, and tests the limit on their items.

use datapool_store::{ErrorKind, JsonItems, Mode, OnMissingKey, Origin};

use crate::{ORDERS, pool, values};

#[test]
fn nesting_may_be_deeper_than_any_stack() {
    let levels = 1_000_000;
    let arrays = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let objects = format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let payload =
        format!(r#"{{"x": {arrays}, "orders": [{{"y": {objects}, "id": 1}}, {{"id": 1}}], "z": {objects}}}"#);
    let items = JsonItems::new(ORDERS, "/id").at("/orders");
    let deduped = pool().dedupe_json(Mode::FilterAndTrack, &payload, &items, &Origin::none()).unwrap();
    assert!(deduped.payload == payload.replace(r#", {"id": 1}"#, ""));

    // A pointer may be as deep as the document.
    let pointer = "/a".repeat(300);
    let nested = format!("{}[1]{}", "{\"a\":".repeat(300), "}".repeat(300));
    let items = JsonItems::new(ORDERS, "").at(pointer);
    let deduped = pool().dedupe_json(Mode::Filter, &nested, &items, &Origin::none()).unwrap();
    assert_eq!(deduped.passed, 1);

    let open = "[".repeat(levels);
    let error = pool().dedupe_json(Mode::Filter, &open, &JsonItems::new(ORDERS, ""), &Origin::none());
    assert!(matches!(error.unwrap_err().kind(), ErrorKind::Json { line: 1, .. }));
}

#[test]
fn a_document_has_at_most_as_many_items_as_a_batch_with_or_without_a_key() {
    let most = 1_048_576;
    let array = |count: usize| format!("[{}1]", "{},".repeat(count - 1));
    let items = JsonItems::new(ORDERS, "/id").on_missing_key(OnMissingKey::Drop);
    let pool = pool();
    let longest = array(most);
    let deduped = pool.dedupe_json(Mode::FilterAndTrack, &longest, &items, &Origin::none()).unwrap();
    assert_eq!((deduped.payload.as_ref(), deduped.verdicts.len()), ("[]", most));
    let error = pool.dedupe_json(Mode::Track, &array(most + 1), &items, &Origin::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(
        error.to_string().contains("has 1048577 items; the limit is 1048576 (BATCH_MAX_ITEMS)"),
        "{error}"
    );
    assert!(values(&pool).is_empty());
}

#[test]
fn a_large_document_passes_and_comes_back_without_what_was_seen() {
    let order = |number: u32| format!("    {{\"number\": {number}, \"note\": \"{}\"}}", "é".repeat(40));
    let document = |numbers: &mut dyn Iterator<Item = u32>| {
        let orders: Vec<String> = numbers.map(order).collect();
        format!("{{\n  \"orders\": [\n{}\n  ]\n}}", orders.join(",\n"))
    };
    let pool = pool();
    let items = JsonItems::new(ORDERS, "/number").at("/orders");
    let odd = document(&mut (0..50_000).filter(|number| number % 2 == 1));
    let deduped = pool.dedupe_json(Mode::FilterAndTrack, &odd, &items, &Origin::none()).unwrap();
    assert!(deduped.payload == odd);
    let all = document(&mut (0..50_000));
    let deduped = pool.dedupe_json(Mode::FilterAndTrack, &all, &items, &Origin::none()).unwrap();
    assert!(deduped.payload == document(&mut (0..50_000).filter(|number| number % 2 == 0)));
}
