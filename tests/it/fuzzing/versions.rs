//! Any bytes as operations on versioned keys: deduplications, claims, imports and deletions. Every verdict,
//! check and record agrees with a simple model of the rule which items pass again.

use std::time::Duration;

use datapool_store::{ClaimVerdict, ImportOptions, Key, Mode, Origin, Pool, RecordFilter, Verdict, Version};

use super::Input;
use crate::support::{self, ORDERS};

const VALUES: [&str; 4] = ["A-1", "A-2", "B-1", "B-2"];
const MODES: [Mode; 3] = [Mode::Filter, Mode::Track, Mode::FilterAndTrack];

/// An item: the index of its value, and its version.
type Item = (usize, Option<Version>);

fn item(input: &mut Input<'_>) -> Item {
    let value = usize::from(input.below(4));
    let version = match input.below(8) {
        0 | 1 => None,
        2..=4 => Some(Version::of_content([input.below(3)])),
        _ => Some(Version::Ordinal([i64::MIN, -1, 0, 1, i64::MAX][usize::from(input.below(5))])),
    };
    (value, version)
}

fn key((value, version): &Item) -> Key<'static> {
    let key = Key::new(ORDERS, VALUES[*value]);
    match version {
        None => key,
        Some(Version::Ordinal(number)) => key.ordinal(*number),
        Some(content) => {
            let same = |byte: &u8| Version::of_content([*byte]) == *content;
            key.content([(0..3).find(same).unwrap()])
        }
    }
}

/// The answer to an item, given the versions of its key's live records, the newest last.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    New,
    Duplicate,
    Changed,
}

fn answer(live: &[Option<Version>], asked: Option<Version>) -> Answer {
    let Some(current) = live.last() else { return Answer::New };
    match (asked, current) {
        (None, _) => Answer::Duplicate,
        (Some(asked), Some(current)) if asked == *current => Answer::Duplicate,
        (Some(Version::Ordinal(asked)), Some(Version::Ordinal(current))) if asked < *current => {
            Answer::Duplicate
        }
        _ => Answer::Changed,
    }
}

/// The versions of the live records of each value.
#[derive(Debug, Default, Clone)]
struct Model([Vec<Option<Version>>; 4]);

impl Model {
    /// Answers a batch. Later items of a key are decided against the earlier ones.
    fn batch(&mut self, items: &[Item], tracks: bool) -> Vec<Answer> {
        let mut decided = self.clone();
        let answers = items
            .iter()
            .map(|(value, version)| {
                let live = &mut decided.0[*value];
                let answer = answer(live, *version);
                if answer != Answer::Duplicate {
                    *live = vec![*version];
                }
                answer
            })
            .collect();
        if tracks {
            *self = decided;
        }
        answers
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let store = support::options().clock(support::clock()).open_in_memory().unwrap();
    let pool = store.get_or_create_pool("products").unwrap();
    let mut model = Model::default();
    while !input.is_empty() {
        match input.below(6) {
            0..=2 => dedupe(&mut input, &pool, &mut model),
            3 => claim(&mut input, &pool, &mut model),
            4 => import(&mut input, &pool, &mut model),
            _ => {
                let value = usize::from(input.below(4));
                let deleted = pool.delete_keys(&[Key::new(ORDERS, VALUES[value])]).unwrap();
                assert_eq!(deleted, model.0[value].len() as u64);
                model.0[value].clear();
            }
        }
        agree(&pool, &model);
    }
}

fn dedupe(input: &mut Input<'_>, pool: &Pool, model: &mut Model) {
    let mode = MODES[usize::from(input.below(3))];
    let items: Vec<Item> = (0..=input.below(6)).map(|_| item(input)).collect();
    let before = model.clone();
    let expected = model.batch(&items, mode != Mode::Filter);
    let verdicts = pool.dedupe_with_first(mode, &items, key, &Origin::none()).unwrap();
    let mut seen = Vec::new();
    for (index, (item, expected)) in items.iter().zip(&expected).enumerate() {
        match (&verdicts[index], expected) {
            (Verdict::New, Answer::New) => {}
            (Verdict::Duplicate, Answer::Duplicate) => {
                let is_of_the_pool = !seen.contains(&item.0);
                assert_eq!(verdicts.first(index).is_some(), is_of_the_pool || mode != Mode::Filter);
            }
            (Verdict::Changed { previous }, Answer::Changed) => {
                let is_of_the_pool = !seen.contains(&item.0) && !before.0[item.0].is_empty();
                assert_eq!(previous.is_some(), is_of_the_pool);
            }
            (found, expected) => panic!("{found:?} for {item:?} of {items:?}, but expected was {expected:?}"),
        }
        if *expected != Answer::Duplicate {
            seen.push(item.0);
        }
        assert_eq!(verdicts.passes(index), mode == Mode::Track || *expected != Answer::Duplicate);
    }
}

fn claim(input: &mut Input<'_>, pool: &Pool, model: &mut Model) {
    let item = item(input);
    let expected = answer(&model.0[item.0], item.1);
    let mut claim = pool.claim(&[item], key, &Origin::none(), Duration::from_mins(1)).unwrap();
    match claim.verdict(0).unwrap() {
        ClaimVerdict::Claimed => assert_ne!(expected, Answer::Duplicate, "{item:?}"),
        ClaimVerdict::Duplicate(first) => {
            assert_eq!((expected, first.is_some()), (Answer::Duplicate, true), "{item:?}");
            return;
        }
        other => panic!("{other:?}"),
    }
    if input.below(2) == 0 {
        claim.confirm().unwrap().all_confirmed().unwrap();
        model.0[item.0] = vec![item.1];
    } else {
        assert_eq!(claim.release().unwrap(), 1);
    }
}

/// Imports a row, which becomes one more record of its key.
fn import(input: &mut Input<'_>, pool: &Pool, model: &mut Model) {
    let (value, version) = item(input);
    let text = version.map(|version| version.to_string()).unwrap_or_default();
    let file = format!("value,version\n{},{text}\n", VALUES[value]);
    let options = ImportOptions::new().entity_type(ORDERS).version_column("version");
    assert_eq!(pool.import_csv(file.as_bytes(), &options).unwrap().added, 1);
    model.0[value].push(version);
}

fn agree(pool: &Pool, model: &Model) {
    let mut found: [Vec<Option<Version>>; 4] = Default::default();
    for record in pool.scan(&RecordFilter::new()).unwrap() {
        let record = record.unwrap();
        found[VALUES.iter().position(|value| *value == record.value).unwrap()].push(record.version);
    }
    assert_eq!(found, model.0);
    for (value, live) in model.0.iter().enumerate() {
        let current = live.last().copied().flatten();
        let asked = [None, Some(Version::of_content([0])), Some(Version::of_content([2]))];
        let ordinals = [i64::MIN, 0, i64::MAX].map(|number| Some(Version::Ordinal(number)));
        for version in asked.into_iter().chain(ordinals) {
            let expected = match (version, current) {
                (None, _) => !live.is_empty(),
                (Some(Version::Ordinal(asked)), Some(Version::Ordinal(current))) => current >= asked,
                (asked, current) => asked == current,
            };
            assert_eq!(pool.contains(key(&(value, version))).unwrap(), expected, "{value} {version:?}");
        }
    }
}
