//! Proves what each mode and each treatment of items without a key passes on, and which values they track.

use std::borrow::Cow;
use std::time::Duration;

use datapool_store::{
    CompositeKey, DataPoolStore, JsonItems, Key, Mode, OnMissingKey, Origin, Pool, Result, Verdict,
};

use crate::{ORDERS, pool, values};

fn dedupe(pool: &Pool, mode: Mode, payload: &str, items: &JsonItems) -> (String, Vec<Option<Verdict>>) {
    let deduped = pool.dedupe_json(mode, payload, items, &Origin::none()).unwrap();
    (deduped.payload.into_owned(), deduped.verdicts)
}

#[test]
fn items_without_a_key_pass_or_are_left_out_as_asked_and_are_never_tracked() {
    let payload = r#"[{"id": 1}, {}, {"id": null}, {"id": ""}, 7, {"id": 1}]"#;
    let verdicts = [Some(Verdict::New), None, None, None, None, Some(Verdict::Duplicate)];
    for (mode, treatment, expected) in [
        (Mode::Filter, OnMissingKey::Pass, r#"[{"id": 1}, {}, {"id": null}, {"id": ""}, 7]"#),
        (Mode::Filter, OnMissingKey::Drop, r#"[{"id": 1}]"#),
        (Mode::FilterAndTrack, OnMissingKey::Pass, r#"[{"id": 1}, {}, {"id": null}, {"id": ""}, 7]"#),
        (Mode::FilterAndTrack, OnMissingKey::Drop, r#"[{"id": 1}]"#),
        (Mode::Track, OnMissingKey::Pass, payload),
        (Mode::Track, OnMissingKey::Drop, payload),
    ] {
        let pool = pool();
        let items = JsonItems::new(ORDERS, "/id").on_missing_key(treatment);
        let (passed, found) = dedupe(&pool, mode, payload, &items);
        assert_eq!((passed.as_str(), found.as_slice()), (expected, &verdicts[..]), "{mode:?} {treatment:?}");
        let tracked: &[&str] = if mode == Mode::Filter { &[] } else { &["1"] };
        assert_eq!(values(&pool), tracked);
    }
}

#[test]
fn what_another_runner_has_claimed_passes_only_in_track() {
    let pool = pool();
    let items = JsonItems::new(ORDERS, "");
    let orders = [r#""A-1""#, "17"];
    let keys: Vec<Key<'_>> = orders.iter().map(|order| items.key_of(order).unwrap().unwrap()).collect();
    let claim = pool.claim(&keys, Key::clone, &Origin::none(), Duration::from_hours(1)).unwrap();
    let payload = r#"["17", "A-2", "A-1"]"#;
    let verdicts = [Some(Verdict::InFlight), Some(Verdict::New), Some(Verdict::InFlight)];
    for mode in [Mode::Filter, Mode::FilterAndTrack] {
        assert_eq!(dedupe(&pool, mode, payload, &items), (r#"["A-2"]"#.to_owned(), verdicts.to_vec()));
    }
    assert_eq!(dedupe(&pool, Mode::Track, payload, &items).0, payload);
    drop(claim);
}

#[test]
fn a_number_and_the_text_of_it_are_the_same_value_unless_the_key_has_several_fields() {
    let one = pool();
    let payload = r#"[{"id": 17}, {"id": "17"}, {"id": 17.0}, {"id": 1.7e1}, {"id": true}, {"id": "true"}, {"id": 17.5}]"#;
    let (_, found) = dedupe(&one, Mode::Track, payload, &JsonItems::new(ORDERS, "/id"));
    let new: Vec<bool> = found.iter().map(|verdict| *verdict == Some(Verdict::New)).collect();
    assert_eq!(new, [true, false, false, false, true, false, true]);
    assert_eq!(values(&one), ["17", "true", "17.5"]);

    let several = pool();
    let items = JsonItems::new(ORDERS, "/id").and_key("/id");
    let (_, found) = dedupe(&several, Mode::Track, payload, &items);
    let new: Vec<bool> = found.iter().map(|verdict| *verdict == Some(Verdict::New)).collect();
    assert_eq!(new, [true, true, false, false, true, true, true]);
    let expected = ["[17,17]", r#"["17","17"]"#, "[true,true]", r#"["true","true"]"#, "[17.5,17.5]"];
    assert_eq!(values(&several), expected);
}

#[test]
fn a_key_of_several_fields_is_the_composite_key_of_them() {
    let items = JsonItems::new(ORDERS, "/shop").and_key("/lines/0/sku").and_key("/b").and_key("/n");
    let order = r#"{"n": -170141183460469231731687303715884105728, "b": false, "shop": "é\"\n\u0007",
        "lines": [{"sku": ""}, {"sku": "B"}]}"#;
    let key = CompositeKey::new().text("é\"\n\u{7}").text("").boolean(false).integer(i128::MIN);
    assert_eq!(items.key_of(order).unwrap(), Some(Key::new(ORDERS, key)));
    let missing = items.on_missing_key(OnMissingKey::Pass);
    for order in [r#"{"shop": "A", "lines": [], "b": true, "n": 1}"#, r#"{"shop": null}"#, "{}", "[]", "1"] {
        assert_eq!(missing.key_of(order).unwrap(), None, "{order}");
    }
}

#[test]
fn a_document_is_text_or_bytes_and_one_that_passes_whole_is_not_copied() {
    let pool = pool();
    let items = JsonItems::new(ORDERS, "").at("/orders");
    let text = "\u{feff} {\"orders\" :[ 1 , \"A\\u002d1\"\r\n], \"n\": 1.50}\n";
    let whole = |payload: Result<datapool_store::DedupedJson<'_>>| {
        let deduped = payload.unwrap();
        assert!(matches!(deduped.payload, Cow::Borrowed(_)));
        assert_eq!((deduped.payload.as_ref(), deduped.passed), (text, 2));
    };
    let none = Origin::none();
    whole(pool.dedupe_json(Mode::Filter, text, &items, &none));
    whole(pool.dedupe_json(Mode::Filter, &text.to_owned(), &items, &none));
    whole(pool.dedupe_json(Mode::Filter, text.as_bytes(), &items, &none));
    whole(pool.dedupe_json(Mode::FilterAndTrack, &text.as_bytes().to_vec(), &items, &none));
    assert_eq!(values(&pool), ["1", "A-1"]);
    let deduped = pool.dedupe_json(Mode::FilterAndTrack, text, &items, &none).unwrap();
    assert_eq!(deduped.payload, "\u{feff} {\"orders\" :[], \"n\": 1.50}\n");
    assert_eq!(deduped.passed, 0);
    for empty in ["[]", " [\n] "] {
        let deduped = pool.dedupe_json(Mode::Filter, empty, &JsonItems::new(ORDERS, ""), &none).unwrap();
        assert_eq!((deduped.payload.as_ref(), deduped.passed, deduped.verdicts.len()), (empty, 0, 0));
    }
}

#[test]
fn an_indented_document_stays_indented_whichever_items_are_removed() {
    let payload = "{\n  \"orders\": [\n    1,\n    2 ,\n    3\n  ]\n}\n";
    for (seen, expected) in [
        (vec!["1"], "{\n  \"orders\": [\n    2 ,\n    3\n  ]\n}\n"),
        (vec!["2"], "{\n  \"orders\": [\n    1 ,\n    3\n  ]\n}\n"),
        (vec!["3"], "{\n  \"orders\": [\n    1,\n    2\n  ]\n}\n"),
        (vec!["1", "2"], "{\n  \"orders\": [\n    3\n  ]\n}\n"),
        (vec!["2", "3"], "{\n  \"orders\": [\n    1\n  ]\n}\n"),
        (vec!["1", "2", "3"], "{\n  \"orders\": []\n}\n"),
    ] {
        let pool = pool();
        let _ = pool.dedupe(Mode::Track, &seen, |value| Key::new(ORDERS, *value), &Origin::none()).unwrap();
        let items = JsonItems::new(ORDERS, "").at("/orders");
        assert_eq!(dedupe(&pool, Mode::Filter, payload, &items).0, expected, "{seen:?}");
    }
}

#[test]
fn the_origin_and_the_entity_type_are_stored_with_each_value() {
    let store = DataPoolStore::in_memory().unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let origin = Origin::new("shop", "run 1", "read orders");
    let deduped = pool.dedupe_json(Mode::FilterAndTrack, "[1]", &JsonItems::new(47, ""), &origin).unwrap();
    assert_eq!(deduped.verdicts, [Some(Verdict::New)]);
    let record = pool.lookup(&[Key::new(47, "1")]).unwrap().remove(0).unwrap();
    assert_eq!(record.flow_id.as_ref(), origin.flow());
    let other = pool.dedupe_json(Mode::FilterAndTrack, "[1]", &JsonItems::new(54, ""), &origin).unwrap();
    assert_eq!(other.verdicts, [Some(Verdict::New)]);
}
