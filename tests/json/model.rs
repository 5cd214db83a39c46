//! Proves with a simple model which items of any document pass, and that everything that passes is unchanged
//! byte for byte.
//!
//! A document is generated as pieces of text, with unusual white space and escapes, and with the value of
//! each item. The model decides with a set of values. The expected document is assembled from the pieces. It
//! must also equal the result of parsing and filtering with `serde_json::Value`.

use std::collections::HashSet;
use std::fmt::Write;

use datapool_store::{CompositeKey, JsonItems, Mode, OnMissingKey, Origin, Verdict};
use proptest::prelude::*;
use serde_json::Value;

use crate::{ORDERS, pool, values};

const MODES: [Mode; 3] = [Mode::Filter, Mode::Track, Mode::FilterAndTrack];
const TREATMENTS: [OnMissingKey; 3] = [OnMissingKey::Fail, OnMissingKey::Pass, OnMissingKey::Drop];

/// The positions of the array, with the text around it.
const PLACES: [(&str, &str, &str); 5] = [
    ("", " ", "\n"),
    ("/orders", "{\"x\" : 1.50,\t\"orders\":", " , \"y\": [1, {}]}"),
    ("/a~1b/~0~01/", "\u{feff}{\"\\u0061/b\":{ \"orders\": [],\"~~1\":{\"\": ", "}, \"z\": 1e400 } }"),
    ("/1", "[[1] ,", ",\"\\ud800\"]"),
    ("/data/0/orders", "\r\n{\"data\": [{\"orders\":", "}, {\"orders\": [1]}], \"data2\": null}\r\n"),
];

/// Numbers and the text of each.
const NUMBERS: [(&str, &str); 9] = [
    ("17", "17"),
    ("17.0", "17"),
    ("1.7e1", "17"),
    ("-0", "0"),
    ("0.10", "0.1"),
    ("1E2", "100"),
    ("1e-1", "0.1"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("-3", "-3"),
];

/// The value at an item's pointer.
#[derive(Debug, Clone)]
enum Field {
    Absent,
    Null,
    Text(String),
    Number(usize),
    Boolean(bool),
}

impl Field {
    fn json(&self, style: &mut Style<'_>) -> Option<String> {
        Some(match self {
            Self::Absent => return None,
            Self::Null => "null".to_owned(),
            Self::Text(text) => string(text, style),
            Self::Number(index) => NUMBERS[*index].0.to_owned(),
            Self::Boolean(boolean) => boolean.to_string(),
        })
    }

    /// Returns the value if the field is the whole key.
    fn value(&self) -> Option<String> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Self::Number(index) => Some(NUMBERS[*index].1.to_owned()),
            Self::Boolean(boolean) => Some(boolean.to_string()),
        }
    }

    /// Returns the text in a composite key.
    fn element(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(Value::from(text.as_str()).to_string()),
            _ => self.value(),
        }
    }
}

#[derive(Debug, Clone)]
struct Item {
    id: Field,
    shop: Field,
    others: Vec<Value>,
}

impl Item {
    fn value(&self, several: bool) -> Option<String> {
        if several {
            return Some(format!("[{},{}]", self.id.element()?, self.shop.element()?));
        }
        self.id.value()
    }

    /// Returns the item with its fields at `/order/i~1d` and `/shop`, in an unusually formatted object.
    fn json(&self, style: &mut Style<'_>) -> String {
        let mut members: Vec<(String, String)> =
            self.others.iter().map(|other| ("x".to_owned(), render(other, style))).collect();
        if let Some(id) = self.id.json(style) {
            let order = object([("x".to_owned(), "[]".to_owned()), ("i/d".to_owned(), id)].as_slice(), style);
            members.insert(style.below(members.len() + 1), ("order".to_owned(), order));
        }
        if let Some(shop) = self.shop.json(style) {
            members.insert(style.below(members.len() + 1), ("shop".to_owned(), shop));
        }
        object(&members, style)
    }
}

/// Decisions about the format of a text.
struct Style<'s> {
    decisions: &'s [u8],
    at: usize,
}

impl Style<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.at += 1;
        (usize::from(self.decisions[self.at % self.decisions.len()]) * (self.at | 1)) % end
    }

    fn space(&mut self) -> &'static str {
        ["", "", " ", "\n  ", "\t", "\r\n", " \n\t"][self.below(7)]
    }
}

fn object(members: &[(String, String)], style: &mut Style<'_>) -> String {
    let mut text = format!("{{{}", style.space());
    for (index, (name, value)) in members.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let name = string(name, style);
        let spaces = [(); 4].map(|()| style.space());
        write!(text, "{comma}{}{name}{}:{}{value}{}", spaces[0], spaces[1], spaces[2], spaces[3]).unwrap();
    }
    text + "}"
}

fn render(value: &Value, style: &mut Style<'_>) -> String {
    match value {
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(|element| render(element, style)).collect();
            format!("[{}{}]", style.space(), elements.join(&format!("{},{}", style.space(), style.space())))
        }
        Value::Object(members) => {
            let members: Vec<_> =
                members.iter().map(|(name, value)| (name.clone(), render(value, style))).collect();
            object(&members, style)
        }
        Value::String(text) => string(text, style),
        other => other.to_string(),
    }
}

fn string(text: &str, style: &mut Style<'_>) -> String {
    let mut json = "\"".to_owned();
    for character in text.chars() {
        match (style.below(4), character) {
            (0, _) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(json, "\\u{unit:04x}").unwrap();
                }
            }
            (1, '/') => json.push_str("\\/"),
            (_, '"' | '\\' | '\0'..='\u{1f}') => {
                let quoted = Value::from(character.to_string()).to_string();
                json.push_str(&quoted[1..quoted.len() - 1]);
            }
            _ => json.push(character),
        }
    }
    json + "\""
}

/// A document in pieces.
struct Document {
    /// The text up to and including the `[`.
    start: String,
    /// Each item with the text between it and the `[` or the previous item.
    items: Vec<(String, String)>,
    /// The text after the last item.
    end: String,
}

impl Document {
    fn new(items: &[Item], place: (&str, &str, &str), style: &mut Style<'_>) -> Self {
        let separated = items.iter().enumerate().map(|(index, item)| {
            let before = if index == 0 {
                style.space().to_owned()
            } else {
                format!("{},{}", style.space(), style.space())
            };
            (before, item.json(style))
        });
        let items: Vec<(String, String)> = separated.collect();
        let end = format!("{}]{}", style.space(), place.2);
        Self { start: format!("{}[", place.1), items, end }
    }

    /// Returns the document with some of its items, by the rule in the documentation.
    fn with(&self, passes: &[bool]) -> String {
        let mut text = self.start.clone();
        let mut kept = 0;
        for ((before, item), _) in self.items.iter().zip(passes).filter(|(_, passes)| **passes) {
            text += if kept == 0 { &self.items[0].0 } else { before };
            text += item;
            kept += 1;
        }
        let rest = if kept == 0 { self.end.trim_start_matches([' ', '\n', '\t', '\r']) } else { &self.end };
        if passes.is_empty() { text + &self.end } else { text + rest }
    }
}

/// Removes items from a parsed document.
fn filtered(text: &str, pointer: &str, passes: &[bool]) -> Option<Value> {
    let mut value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    let items = value.pointer_mut(pointer).unwrap().as_array_mut().unwrap();
    let mut passes = passes.iter();
    items.retain(|_| *passes.next().unwrap());
    Some(value)
}

/// Returns the verdicts of a plain set of values.
fn decide(seen: &mut HashSet<String>, mode: Mode, keys: &[Option<String>]) -> Vec<Option<Verdict>> {
    let mut known = seen.clone();
    let verdict = |key: &String| {
        if known.insert(key.clone()) { Verdict::New } else { Verdict::Duplicate }
    };
    let verdicts = keys.iter().map(Option::as_ref).map({
        let mut verdict = verdict;
        move |key| key.map(&mut verdict)
    });
    let verdicts: Vec<Option<Verdict>> = verdicts.collect();
    if mode != Mode::Filter {
        seen.extend(keys.iter().flatten().cloned());
    }
    verdicts
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\/\u{1}é\u{1f600}]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::hash_map("[a-c\"~/]{0,2}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        1 => Just(Field::Absent),
        1 => Just(Field::Null),
        4 => prop::sample::select(vec!["", "A", "17", "true", "é\"\\/", "0.1", "\u{1f600}\n", "[17,true]"])
            .prop_map(|text| Field::Text(text.to_owned())),
        4 => (0..NUMBERS.len()).prop_map(Field::Number),
        1 => any::<bool>().prop_map(Field::Boolean),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let others = proptest::collection::vec(any_json(), 0..3);
    (field(), field(), others).prop_map(|(id, shop, others)| Item { id, shop, others })
}

/// One call: the items, the position of the array, the format, and the mode.
type Call = (Vec<Item>, usize, Vec<u8>, usize);

fn call() -> impl Strategy<Value = Call> {
    (
        proptest::collection::vec(item(), 0..8),
        0..PLACES.len(),
        proptest::collection::vec(any::<u8>(), 1..40),
        0..MODES.len(),
    )
}

proptest! {
    #[test]
    fn items_pass_as_a_plain_model_says_and_all_stays_as_it_came(
        calls in proptest::collection::vec(call(), 1..5),
        several: bool,
        treatment in prop::sample::select(TREATMENTS.to_vec()),
    ) {
        let pool = pool();
        let mut seen = HashSet::new();
        for (items, place, decisions, mode) in calls {
            let (mode, place) = (MODES[mode], PLACES[place]);
            let document = Document::new(&items, place, &mut Style { decisions: &decisions, at: 0 });
            let all = vec![true; items.len()];
            let payload = document.with(&all);
            let keys: Vec<Option<String>> = items.iter().map(|item| item.value(several)).collect();
            let mut where_they_are = JsonItems::new(ORDERS, "/order/i~1d").at(place.0).on_missing_key(treatment);
            if several {
                where_they_are = where_they_are.and_key("/shop");
            }
            let result = pool.dedupe_json(mode, &payload, &where_they_are, &Origin::none());
            let missing = keys.iter().position(Option::is_none).filter(|_| treatment == OnMissingKey::Fail);
            if let Some(missing) = missing {
                prop_assert_eq!(result.unwrap_err().item(), Some(missing));
                continue;
            }
            let deduped = result.unwrap();
            let verdicts = decide(&mut seen, mode, &keys);
            let passes: Vec<bool> = verdicts.iter().map(|verdict| match verdict {
                _ if mode == Mode::Track => true,
                None => treatment == OnMissingKey::Pass,
                Some(verdict) => *verdict == Verdict::New,
            }).collect();
            prop_assert_eq!(&deduped.verdicts, &verdicts);
            prop_assert_eq!(deduped.passed, passes.iter().filter(|passes| **passes).count());
            prop_assert_eq!(&deduped.payload, &document.with(&passes));
            if let Some(expected) = filtered(&payload, place.0, &passes) {
                prop_assert_eq!(filtered(&deduped.payload, place.0, &vec![true; deduped.passed]), Some(expected));
            }
        }
        prop_assert_eq!(values(&pool).into_iter().collect::<HashSet<_>>(), seen);
    }

    #[test]
    fn integers_and_texts_make_the_composite_key_of_them(number: i64, text: String, style in proptest::collection::vec(any::<u8>(), 1..20)) {
        let json = string(&text, &mut Style { decisions: &style, at: 0 });
        let item = format!("{{\"n\": {number}, \"t\": {json}}}");
        let key = JsonItems::new(ORDERS, "/n").and_key("/t").key_of(&item).unwrap().unwrap();
        let expected = CompositeKey::new().integer(number).text(&text);
        prop_assert_eq!(key.value(), expected.as_str());
        let alone = JsonItems::new(ORDERS, "/n").key_of(&item).unwrap().unwrap();
        prop_assert_eq!(alone.value(), number.to_string());
    }
}
