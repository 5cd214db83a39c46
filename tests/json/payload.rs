//! Any bytes as a JSON document: it is deduplicated, or refused without a change, and never causes a panic.
//! The result is JSON, and equals what `serde_json` returns after parsing the document and removing items.
//!
//! The first byte decides where the items are, and what happens to those without a key.

use std::collections::HashSet;

use datapool_store::{
    DataPoolStore, DedupedJson, Error, ErrorKind, JsonItems, Mode, OnMissingKey, Origin, RecordFilter,
    Verdict,
};
use serde_json::Value;

const ARRAYS: [&str; 4] = ["", "/a", "/a/0", "/~1/b"];
const KEYS: [&[&str]; 4] = [&["/id"], &[""], &["/id", "/k/0"], &["/k/0/~0"]];
const TREATMENTS: [OnMissingKey; 3] = [OnMissingKey::Pass, OnMissingKey::Drop, OnMissingKey::Fail];

pub(crate) fn run(bytes: &[u8]) {
    let Some((first, payload)) = bytes.split_first() else { return };
    let choice = usize::from(*first);
    let (array, keys, treatment) = (ARRAYS[choice % 4], KEYS[choice / 4 % 4], TREATMENTS[choice / 16 % 3]);
    let items = JsonItems::new(37, keys[0]).at(array).on_missing_key(treatment);
    let items = keys[1..].iter().fold(items, |items, key| items.and_key(*key));

    let pool = DataPoolStore::in_memory().unwrap().get_or_create_pool("orders").unwrap();
    let none = Origin::none();
    let parsed: Option<Value> = without_mark(payload).and_then(|text| serde_json::from_str(text).ok());
    match pool.dedupe_json(Mode::FilterAndTrack, payload, &items, &none) {
        Err(error) => {
            assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 0);
            is_justified(&error, payload, parsed.as_ref(), array);
        }
        Ok(deduped) => {
            let tracked = deduped.verdicts.iter().filter(|verdict| **verdict == Some(Verdict::New)).count();
            assert_eq!(pool.count(&RecordFilter::new()).unwrap(), tracked as u64);
            if let Some(parsed) = parsed {
                agrees(&deduped, &parsed, array, keys, treatment);
            }
            let passing_all = deduped.passed == deduped.verdicts.len();
            assert_eq!(passing_all, deduped.payload.as_bytes() == payload);

            // The result is itself a document, whose keys are now known.
            let again = pool.dedupe_json(Mode::Track, deduped.payload.as_ref(), &items, &none).unwrap();
            assert_eq!((again.verdicts.len(), again.passed), (deduped.passed, deduped.passed));
            assert!(again.verdicts.iter().flatten().all(|verdict| *verdict == Verdict::Duplicate));
        }
    }
}

fn without_mark(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    Some(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Checks that an error matches what is wrong with a document.
fn is_justified(error: &Error, payload: &[u8], parsed: Option<&Value>, array: &str) {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::LimitExceeded => assert!(message.contains("_MAX_"), "{message}"),
        ErrorKind::Json { line, column } => {
            let lines = payload.split(|byte| *byte == b'\n').count() as u64;
            assert!((1..=lines).contains(&line) && column >= 1, "{message}");
            let Some(parsed) = parsed else { return };
            let is_array = parsed.pointer(array).is_some_and(Value::is_array);
            let of_an_item = ["occurs twice", "has no key", "a key is a string", "half a character"];
            let reasons =
                if is_array { &of_an_item[..] } else { &["occurs twice", "array of items should be"] };
            assert!(reasons.iter().any(|reason| message.contains(reason)), "{message}");
        }
        kind => panic!("{kind:?}: {message}"),
    }
}

/// Compares an answer with the parsed document.
fn agrees(deduped: &DedupedJson<'_>, parsed: &Value, array: &str, keys: &[&str], treatment: OnMissingKey) {
    let items = parsed.pointer(array).unwrap().as_array().unwrap();
    assert_eq!(items.len(), deduped.verdicts.len());
    let mut seen = HashSet::new();
    // There is no exact value here for fractions and large integers.
    let mut is_exact = true;
    let mut kept = Vec::new();
    for (item, verdict) in items.iter().zip(&deduped.verdicts) {
        let fields: Vec<&Value> =
            keys.iter().filter_map(|key| item.pointer(key)).filter(|field| !field.is_null()).collect();
        let has_key = fields.len() == keys.len() && (keys.len() > 1 || fields[0] != "");
        assert_eq!(verdict.is_some(), has_key, "{item}");
        is_exact &= fields.iter().all(|field| !field.is_f64());
        let text = |field: &&Value| match (field, keys.len()) {
            (Value::String(text), 1) => text.clone(),
            (field, _) => field.to_string(),
        };
        let value: Vec<String> = fields.iter().map(text).collect();
        if let Some(verdict) = verdict.filter(|_| is_exact) {
            assert_eq!(verdict == Verdict::New, seen.insert(value), "{item}");
        }
        let passes = verdict.map_or(treatment == OnMissingKey::Pass, |verdict| verdict == Verdict::New);
        if passes {
            kept.push(item.clone());
        }
    }
    let mut expected = parsed.clone();
    *expected.pointer_mut(array).unwrap() = Value::from(kept);
    let payload: Value = serde_json::from_str(without_mark(deduped.payload.as_bytes()).unwrap()).unwrap();
    assert_eq!(payload, expected);
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// Runs the target on every file in a folder. Returns the number of files.
    fn replay(folder: &Path) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        let files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        for file in &files {
            println!("{}", file.display());
            super::run(&std::fs::read(file).unwrap());
        }
        files.len()
    }

    #[test]
    fn every_committed_seed_passes_the_fuzz_target() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/seeds/json_payload");
        assert!(replay(&seeds) >= 4);
        if let Some(more) = std::env::var_os("DATAPOOL_FUZZ_INPUTS") {
            println!("{} inputs", replay(&Path::new(&more).join("json_payload")));
        }
    }
}
