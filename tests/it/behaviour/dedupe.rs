//! Proves the answers of a dedupe, and what it tracks: by mode, in order, for repeats within a batch, within
//! entity types, for exact bytes, and for composite keys. Also tests key closures that do unusual things.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use datapool_store::{
    CompositeKey, EntityTypeId, ErrorKind, Key, Mode, Origin, Pool, Record, Verdict, Verdicts,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{self, CUSTOMERS, Need, ORDERS};

use Verdict::{Duplicate, New};

const MODES: [Mode; 3] = [Mode::Filter, Mode::Track, Mode::FilterAndTrack];

fn dedupe(pool: &Pool, mode: Mode, values: &[&str]) -> Verdicts {
    let key = |value: &&'_ str| Key::new(ORDERS, (*value).to_owned());
    pool.dedupe(mode, values, key, &support::origin()).unwrap()
}

#[test]
fn each_mode_passes_on_and_tracks_what_the_table_says() {
    let items = ["old", "new", "old", "newer"];
    let table = [
        (Mode::Filter, vec!["new", "newer"], vec!["old"]),
        (Mode::Track, items.to_vec(), vec!["old", "new", "newer"]),
        (Mode::FilterAndTrack, vec!["new", "newer"], vec!["old", "new", "newer"]),
    ];
    for (mode, passed_on, tracked) in table {
        let pool = support::pool_for(Need::Any);
        support::track(&pool, &["old"]);
        let verdicts = dedupe(&pool, mode, &items);
        assert_eq!(verdicts.as_slice(), [Duplicate, New, Duplicate, New], "{mode:?}");
        assert_eq!(verdicts.pass_on(items), passed_on, "{mode:?}");
        assert_eq!(verdicts.new_count(), 2, "{mode:?}");
        assert_eq!(support::values(&pool), tracked, "{mode:?}");
        let split = verdicts.partition(items);
        assert_eq!((split.fresh, split.duplicates), (vec!["new", "newer"], vec!["old", "old"]), "{mode:?}");
        assert!(split.in_flight.is_empty() && split.unmatched.is_empty());
    }
}

#[test]
fn the_first_of_equal_items_in_a_batch_wins_in_every_mode() {
    for mode in MODES {
        let pool = support::pool_for(Need::Any);
        let verdicts = dedupe(&pool, mode, &["a", "b", "a", "a", "b", "c"]);
        assert_eq!(verdicts.as_slice(), [New, New, Duplicate, Duplicate, Duplicate, New], "{mode:?}");
        let tracked: &[&str] = if mode == Mode::Filter { &[] } else { &["a", "b", "c"] };
        assert_eq!(support::values(&pool), tracked, "{mode:?}");
    }
}

#[test]
fn filtering_remembers_nothing() {
    let pool = support::pool_for(Need::Any);
    for _ in 0..3 {
        assert_eq!(dedupe(&pool, Mode::Filter, &["a", "b"]).as_slice(), [New, New]);
    }
    assert_eq!(dedupe(&pool, Mode::FilterAndTrack, &["a", "b"]).as_slice(), [New, New]);
    assert_eq!(dedupe(&pool, Mode::Filter, &["a", "b"]).as_slice(), [Duplicate, Duplicate]);
}

#[test]
fn an_empty_batch_gets_no_verdicts() {
    for mode in MODES {
        let verdicts = dedupe(&support::pool_for(Need::Any), mode, &[]);
        assert!(verdicts.is_empty() && verdicts.pass_on(["stray"]).is_empty() && !verdicts.passes(0));
    }
}

#[test]
fn items_beyond_the_batch_are_kept_apart() {
    let verdicts = dedupe(&support::pool_for(Need::Any), Mode::Track, &["a", "a"]);
    let split = verdicts.partition(["a", "a", "more", "and more"]);
    assert_eq!(
        (split.fresh, split.duplicates, split.unmatched),
        (vec!["a"], vec!["a"], vec!["more", "and more"])
    );
    assert_eq!(verdicts.partition(["a"]).fresh, ["a"]);
}

/// The model of a pool: the position of the record of each value and entity type.
type Model = BTreeMap<(u32, u8), usize>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_and_firsts_are_those_of_a_map(
        batches in vec((prop::sample::select(MODES.to_vec()), any::<bool>(), vec((37..40_u32, 0..30_u8), 0..50)), 1..12),
    ) {
        let pool = support::pool_for(Need::Any);
        let mut model = Model::new();
        for (number, (mode, with_first, batch)) in batches.iter().enumerate() {
            let origin = Origin::new("flow", number as u64, "step");
            let key = |(entity_type, value): &(u32, u8)| Key::new(*entity_type, format!("value {value}"));
            let verdicts = if *with_first {
                pool.dedupe_with_first(*mode, batch, key, &origin).unwrap()
            } else {
                pool.dedupe(*mode, batch, key, &origin).unwrap()
            };
            prop_assert_eq!(verdicts.len(), batch.len());
            let mut seen = Vec::new();
            for (index, item) in batch.iter().enumerate() {
                let is_new = !model.contains_key(item) && !seen.contains(item);
                let verdict = verdicts.as_slice()[index];
                prop_assert_eq!(verdict, if is_new { New } else { Duplicate });
                prop_assert_eq!(verdicts.passes(index), is_new || *mode == Mode::Track);
                seen.push(*item);
                let first = if is_new { None } else { model.get(item).copied() };
                if is_new && *mode != Mode::Filter {
                    model.insert(*item, model.len());
                }
                if *with_first {
                    prop_assert_eq!(verdicts.first(index).map(|record| record.id.get()), first.map(|at| at as u64 + 1));
                    let value = verdicts.first(index).map(|record| (record.entity_type_id.get(), record.value.clone()));
                    prop_assert_eq!(value, first.map(|_| (item.0, format!("value {}", item.1))));
                } else {
                    prop_assert_eq!(verdicts.first(index), None);
                }
            }
            let passed = verdicts.pass_on(batch.iter().enumerate());
            prop_assert!(passed.iter().all(|(index, _)| verdicts.passes(*index)));
            prop_assert!(passed.is_sorted_by_key(|(index, _)| *index));
            let split = verdicts.partition(0..batch.len());
            prop_assert!(split.fresh.is_sorted() && split.duplicates.is_sorted());
            prop_assert_eq!(split.fresh.len() + split.duplicates.len(), batch.len());
        }
        let mut tracked: Vec<_> = model.iter().map(|((entity_type, value), at)| (*at as u64 + 1, *entity_type, format!("value {value}"))).collect();
        tracked.sort();
        let found: Vec<_> = support::records(&pool).into_iter().map(|r| (r.id.get(), r.entity_type_id.get(), r.value)).collect();
        prop_assert_eq!(found, tracked);
    }

    #[test]
    fn values_are_compared_by_their_exact_bytes(values in prop::collection::btree_set("\\PC{1,12}|[ \\t\\r\\n\\x00a-cA-Cäß]{1,6}", 1..40)) {
        let values: Vec<String> = values.into_iter().collect();
        let pool = support::pool_for(Need::Any);
        prop_assert_eq!(support::track(&pool, &values), values.len());
        prop_assert_eq!(support::values(&pool), values.clone());
        prop_assert_eq!(support::track(&pool, &values), 0);
    }

    #[test]
    fn different_fields_make_different_composite_keys(a in vec(any_field(), 0..5), b in vec(any_field(), 0..5)) {
        prop_assert_eq!(a == b, composite(&a) == composite(&b), "{:?} and {:?}", a, b);
        // The text is canonical JSON: parsing and writing it returns the same text.
        let text = composite(&a);
        let fields: Vec<serde_json::Value> = serde_json::from_str(text.as_str()).unwrap();
        prop_assert_eq!(fields.len(), a.len());
        for (field, json) in a.iter().zip(&fields) {
            match field {
                Field::Text(text) => prop_assert_eq!(json.as_str(), Some(text.as_str())),
                Field::Integer(number) => prop_assert_eq!(json.to_string(), number.to_string()),
                Field::Boolean(boolean) => prop_assert_eq!(json.as_bool(), Some(*boolean)),
            }
        }
        prop_assert_eq!(serde_json::to_string(&fields).unwrap(), text.as_str());
    }
}

#[test]
fn values_that_look_alike_are_different_values() {
    let pool = support::pool_for(Need::Any);
    let values = [
        "a",
        "A",
        " a",
        "a ",
        "a\n",
        "a\0",
        "ａ",
        "é",
        "e\u{301}",
        "É",
        "\u{feff}a",
        "0",
        "00",
        "+0",
        "null",
        "\"a\"",
    ];
    assert_eq!(dedupe(&pool, Mode::FilterAndTrack, &values).new_count(), values.len());
    assert_eq!(support::values(&pool), values);
}

#[test]
fn a_value_is_a_duplicate_only_within_its_entity_type() {
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["A-1"]);
    for entity_type in [CUSTOMERS, EntityTypeId::new(0), EntityTypeId::new(u32::MAX)] {
        let key = |value: &&'static str| Key::new(entity_type, *value);
        assert!(!pool.contains(key(&"A-1")).unwrap());
        let verdicts = pool.dedupe(Mode::Track, &["A-1", "A-1"], key, &Origin::none()).unwrap();
        assert_eq!(verdicts.as_slice(), [New, Duplicate]);
    }
    assert_eq!(pool.delete_keys(&[Key::new(ORDERS, "A-1")]).unwrap(), 1);
    assert!(pool.contains(Key::new(CUSTOMERS, "A-1")).unwrap() && !support::has(&pool, "A-1"));
}

#[test]
fn pools_know_nothing_of_each_other() {
    let store = support::store_for(Need::Any);
    let (orders, others) =
        (store.get_or_create_pool("orders").unwrap(), store.get_or_create_pool("others").unwrap());
    support::track(&orders, &["A-1"]);
    assert!(!support::has(&others, "A-1"));
    assert_eq!(support::track(&others, &["A-1"]), 1);
    others.clear().unwrap();
    assert!(support::has(&orders, "A-1"));
}

#[test]
fn a_duplicate_names_the_record_that_was_first_and_does_not_renew_it() {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.get_or_create_pool("orders").unwrap();
    let key = |value: &&'static str| Key::new(ORDERS, *value);
    let first_origin = Origin::new("first flow", "first run", "first step");
    let _ = pool.dedupe(Mode::Track, &["A-1"], key, &first_origin).unwrap();
    let first_time = clock.now();
    for round in 0..3_u64 {
        clock.advance(Duration::from_mins(1));
        let again = Origin::new("flow", round, "step");
        let verdicts = pool.dedupe_with_first(Mode::Track, &["A-1", "new", "new"], key, &again).unwrap();
        let first = verdicts.first(0).unwrap();
        assert_eq!((first.id.get(), first.created_at, first.value.as_str()), (1, first_time, "A-1"));
        assert_eq!(first.flow_id, Some("first flow".into()));
        assert_eq!(first.flow_run_id, Some("first run".into()));
        assert_eq!(first.step_id, Some("first step".into()));
        // The repeated value was first tracked in the same batch.
        let repeated: Option<&Record> = verdicts.first(2);
        assert_eq!(repeated.unwrap().id.get(), round + 2);
        assert_eq!(repeated.unwrap().flow_run_id, Some(round.into()));
        assert_eq!(repeated.unwrap().created_at, clock.now());
        assert_eq!(pool.delete_keys(&[key(&"new")]).unwrap(), 1);
    }
    // A filter tracks nothing, so its repeats have no first record.
    let verdicts = pool.dedupe_with_first(Mode::Filter, &["newer", "newer"], key, &Origin::none()).unwrap();
    assert_eq!((verdicts.as_slice(), verdicts.first(1)), ([New, Duplicate].as_slice(), None));
}

#[test]
fn looking_up_answers_with_the_first_record_in_order() {
    let pool = support::pool_for(Need::Any);
    let values: Vec<String> = (0..200).map(|number| format!("A-{number}")).collect();
    support::track(&pool, &values);
    pool.delete_records([3]).unwrap();
    let keys = ["A-199", "none", "A-0", "A-2", "A-0"].map(|value| Key::new(ORDERS, value));
    let ids: Vec<Option<u64>> =
        pool.lookup(&keys).unwrap().into_iter().map(|record| record.map(|record| record.id.get())).collect();
    assert_eq!(ids, [Some(200), None, Some(1), None, Some(1)]);
    assert_eq!(pool.contains_many(&keys).unwrap(), [true, false, true, false, true]);
}

#[test]
fn a_deleted_value_is_new_again_and_gets_a_new_id() {
    for delete in [
        |pool: &Pool| pool.delete_records([2]),
        |pool: &Pool| pool.delete_keys(&[Key::new(ORDERS, "b")]),
        |pool: &Pool| pool.delete_where(&datapool_store::RecordFilter::new().value("b")),
        |pool: &Pool| pool.clear().map(|_| 1),
    ] {
        let pool = support::pool_for(Need::Any);
        support::track(&pool, &["a", "b", "c"]);
        assert_eq!(delete(&pool).unwrap(), 1);
        assert!(!support::has(&pool, "b"));
        assert_eq!(pool.delete_keys(&[Key::new(ORDERS, "b")]).unwrap(), 0);
        assert_eq!(dedupe(&pool, Mode::FilterAndTrack, &["b"]).as_slice(), [New]);
        let first = pool.lookup(&[Key::new(ORDERS, "b")]).unwrap().remove(0).unwrap();
        assert_eq!(first.id.get(), 4);
    }
}

#[test]
fn a_failed_call_remembers_nothing() {
    let pool = support::pool_for(Need::Any);
    for mode in MODES {
        let items = ["a", "b", ""];
        let key = |value: &&'static str| Key::new(ORDERS, *value);
        let error = pool.dedupe(mode, &items, key, &Origin::none()).unwrap_err();
        assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(2)));
        assert_eq!(dedupe(&pool, Mode::Filter, &["a", "b"]).new_count(), 2);
    }
    assert_eq!(dedupe(&pool, Mode::Track, &["a"]).new_count(), 1);
    assert_eq!(support::records(&pool)[0].id.get(), 1);
}

#[test]
fn a_key_closure_may_call_the_store() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    for mode in MODES {
        let key = |value: &&'static str| {
            // The closure runs before the batch is decided, so what it tracks is already there.
            assert_eq!(support::track(&pool, &[format!("seen {value} {mode:?}")]), 1);
            assert_eq!(support::values(&pool).last().unwrap(), &format!("seen {value} {mode:?}"));
            store.get_or_create_pool("from within").unwrap();
            pool.delete_keys(&[Key::new(ORDERS, *value)]).unwrap();
            Key::new(ORDERS, *value)
        };
        let verdicts = pool.dedupe(mode, &["a", "b"], key, &Origin::none()).unwrap();
        assert_eq!(verdicts.new_count(), 2);
    }
}

#[test]
fn a_panic_in_a_key_closure_reaches_the_caller_and_leaves_the_store_working() {
    let pool = support::pool_for(Need::Any);
    for mode in MODES {
        let key = |value: &&'static str| {
            assert_ne!(*value, "b", "as planned");
            Key::new(ORDERS, *value)
        };
        let call = || pool.dedupe(mode, &["a", "b"], key, &Origin::none());
        catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        assert!(support::values(&pool).is_empty());
    }
    assert_eq!(support::track(&pool, &["a", "b"]), 2);
    assert_eq!(support::values(&pool), ["a", "b"]);
}

/// A field of a composite key.
#[derive(Debug, Clone, PartialEq)]
enum Field {
    Text(String),
    Integer(i128),
    Boolean(bool),
}

fn any_field() -> impl Strategy<Value = Field> {
    let texts = vec![
        "", "1", "true", "null", ",", "\"", "\",\"", "[", "]", "[]", "\\", "\\\"", "a", "\n", "\u{0}", "é",
    ];
    prop_oneof![
        prop::sample::select(texts).prop_map(|text| Field::Text(text.to_owned())),
        any::<String>().prop_map(Field::Text),
        (-2..3_i128).prop_map(Field::Integer),
        any::<i64>().prop_map(|number| Field::Integer(number.into())),
        any::<bool>().prop_map(Field::Boolean),
    ]
}

fn composite(fields: &[Field]) -> CompositeKey {
    fields.iter().fold(CompositeKey::new(), |key, field| match field {
        Field::Text(text) => key.text(text),
        Field::Integer(number) => key.integer(*number),
        Field::Boolean(boolean) => key.boolean(*boolean),
    })
}

/// Stored values depend on these texts, so they must never change.
#[test]
fn the_text_of_a_composite_key_is_frozen() {
    let new = CompositeKey::new;
    for (key, text) in [
        (new(), "[]"),
        (new().text(""), r#"[""]"#),
        (new().text("a").integer(1), r#"["a",1]"#),
        (new().integer(-7_i64).boolean(true).boolean(false), "[-7,true,false]"),
        (
            new().integer(u64::MAX).integer(i128::MIN),
            "[18446744073709551615,-170141183460469231731687303715884105728]",
        ),
        (new().text("\"\\/"), r#"["\"\\/"]"#),
        (new().text("\u{8}\u{c}\n\r\t"), r#"["\b\f\n\r\t"]"#),
        (new().text("\0\u{1b}\u{7f}"), "[\"\\u0000\\u001b\u{7f}\"]"),
        (new().text("ü𝄞\u{2028}</script>"), "[\"ü𝄞\u{2028}</script>\"]"),
        (new().text(",").text("[1]"), r#"[",","[1]"]"#),
    ] {
        assert_eq!(key.as_str(), text);
    }
}

#[test]
fn a_plain_value_of_a_composite_keys_text_is_the_same_value() {
    let pool = support::pool_for(Need::Any);
    let flights = [("JFK", 1545_u32, true), ("JFK", 1545, false), ("LGA", 1545, true), ("JFK", 1545, true)];
    let key = |(airport, number, delayed): &(&'static str, u32, bool)| {
        Key::new(ORDERS, CompositeKey::new().text(airport).integer(*number).boolean(*delayed))
    };
    let verdicts = pool.dedupe(Mode::FilterAndTrack, &flights, key, &Origin::none()).unwrap();
    assert_eq!(verdicts.as_slice(), [New, New, New, Duplicate]);
    assert!(support::has(&pool, r#"["JFK",1545,true]"#));
    assert!(!support::has(&pool, r#"["JFK", 1545, true]"#));
}

#[test]
fn verdicts_are_a_list() {
    let pool = support::pool_for(Need::Any);
    support::track(&pool, &["old"]);
    let verdicts = dedupe(&pool, Mode::Filter, &["old", "new", "new"]);
    assert_eq!((verdicts[0], verdicts[1], verdicts[2]), (Duplicate, New, Duplicate));
    assert!(catch_unwind(AssertUnwindSafe(|| verdicts[3])).is_err());
    let borrowed: Vec<Verdict> = (&verdicts).into_iter().copied().collect();
    assert_eq!(borrowed, verdicts.as_slice());
    let numbered = verdicts.iter().zip(["old", "new", "new"]).filter(|(verdict, _)| **verdict == New).count();
    assert_eq!(numbered, verdicts.new_count());
    assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), borrowed);
}

#[test]
fn a_record_has_the_key_and_the_origin_of_its_item() {
    let pool = support::pool_for(Need::Any);
    let key = |flight: &(&str, i32)| Key::new(37, CompositeKey::new().text(flight.0).integer(flight.1));
    let origins = [Origin::none(), support::origin(), Origin::none().with_run(7)];
    for (number, origin) in (1..).zip(&origins) {
        let _ = pool.dedupe(Mode::Track, &[("UA", number)], key, origin).unwrap();
    }
    for (number, (record, origin)) in (1..).zip(support::records(&pool).iter().zip(&origins)) {
        assert_eq!((record.key(), &record.origin()), (key(&("UA", number)), origin));
        assert_eq!(pool.lookup(&[record.key()]).unwrap(), [Some(record.clone())]);
    }
}
