//! Proves that the tool verifies, compacts, vacuums and copies a store.

use std::time::Duration;

use datapool_store::{ManualClock, NewPool};

use crate::support::{FILE, Place, has_line, track_as};

#[test]
fn a_sound_store_is_found_to_be_so() {
    let place = Place::new();
    place.track(&["A-1"]);
    let text = place.run(["verify"]).ok();
    assert!(text.ends_with("OK, no problems found\n"), "{text}");
    let json = place.json(["verify"]);
    assert_eq!((&json["ok"], &json["findings"]), (&true.into(), &serde_json::json!([])));
}

#[test]
fn compacting_says_how_long_the_file_was_and_is() {
    let place = Place::new();
    let json = place.json(["compact"]);
    assert!(json["bytes_before"].as_u64().unwrap() > json["bytes_after"].as_u64().unwrap());
    assert_eq!(json["bytes_after"], std::fs::metadata(place.path(FILE)).unwrap().len());
    let text = place.run(["compact"]).ok();
    assert!(has_line(&text, &[FILE, "KiB before", "KiB now"]), "{text}");
}

#[test]
fn vacuuming_erases_what_was_deleted_and_says_what_is_left() {
    let place = Place::new();
    place.track(&["A-1", "a value to be erased"]);
    place.run(["delete", "orders", "2"]).ok();
    let has_it =
        || std::fs::read(place.path(FILE)).unwrap().windows(20).any(|bytes| bytes == b"a value to be erased");
    assert!(has_it());
    let json = place.json(["vacuum"]);
    assert!(!has_it());
    assert_eq!(json["records"], 1);
    assert_eq!(json["bytes_after"], std::fs::metadata(place.path(FILE)).unwrap().len());
    let text = place.run(["vacuum"]).ok();
    assert!(has_line(&text, &[FILE, "KiB before", "KiB now", "1 record"]), "{text}");
    assert_eq!(place.files(), [FILE]);
}

#[test]
fn a_backup_is_a_new_file() {
    let place = Place::new();
    place.track(&["A-1"]);
    let text = place.run(["backup", "copy.redb"]).ok();
    assert!(has_line(&text, &["1 record, ", "in copy.redb"]), "{text}");
    let json = place.json(["backup", "other.redb"]);
    assert_eq!(json["records"], 1);
    assert!(json["rows"].is_u64() && json["bytes"].is_u64(), "{json}");
    assert_eq!(place.files(), ["copy.redb", "other.redb", FILE]);
}

/// Tracks values, and damages one of them so that it can still be read. Returns the bytes of the file.
fn damage_a_value(place: &Place) -> Vec<u8> {
    let value = "a value to be damaged";
    place.track(&[value, "A-2"]);
    let mut bytes = std::fs::read(place.path(FILE)).unwrap();
    let at = bytes.windows(value.len()).position(|window| window == value.as_bytes()).unwrap();
    bytes[at] = b'X';
    place.write(FILE, &bytes);
    bytes
}

#[test]
fn what_is_found_is_printed_and_the_exit_code_is_1() {
    let place = Place::new();
    let bytes = damage_a_value(&place);
    let answer = place.run(["verify", "--json"]);
    assert_eq!(answer.code, 1);
    let json: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(json["ok"], false);
    assert!(!json["findings"].as_array().unwrap().is_empty(), "{json}");
    place.write(FILE, &bytes);
    let answer = place.run(["verify"]);
    assert_eq!(answer.code, 1);
    assert!(answer.out.contains("finding") && answer.out.contains("the file is damaged"), "{}", answer.out);
}

/// Garbles so much of the store's file that it can be opened, but not read.
fn garble(place: &Place) {
    let mut bytes = std::fs::read(place.path(FILE)).unwrap();
    for byte in bytes.iter_mut().take(60_000).skip(20_000) {
        *byte ^= 0x55;
    }
    place.write(FILE, &bytes);
}

#[test]
fn damage_is_reported_with_the_file_named_once_and_a_way_on() {
    let place = Place::new();
    place.track(&["A-1"]);
    garble(&place);
    let error = place.run(["stats"]).error(1);
    assert!(error.starts_with("error: pools.redb: the file is damaged"), "{error}");
    assert!(error.ends_with("; `datapool pools.redb verify` reports where\n"), "{error}");
    let error = place.run(["verify"]).error(1);
    assert!(error.contains("damaged") && !error.contains("` reports where"), "{error}");
    assert_eq!(error.matches(FILE).count(), 1, "{error}");
    assert!(error.contains("restore a backup"), "{error}");
}

#[test]
fn a_backup_is_a_store_with_the_same_records_and_replaces_nothing() {
    let place = Place::new();
    place.track(&["A-1", "A-2"]);
    let before = std::fs::read(place.path(FILE)).unwrap();
    place.run(["backup", "copy.redb"]).ok();
    assert_eq!(std::fs::read(place.path(FILE)).unwrap(), before);
    let export = crate::support::finish(place.command(["copy.redb", "export", "orders"]), b"").ok();
    assert_eq!(export, place.run(["export", "orders"]).ok());
    let error = place.run(["backup", "copy.redb"]).error(1);
    assert!(error.contains("copy.redb exists"), "{error}");
}

#[test]
fn pruning_removes_what_has_expired() {
    let place = Place::empty();
    let clock = ManualClock::starting_at("2013-01-30T10:00:00Z".parse().unwrap());
    let store = place.open_at(Some(&clock));
    store.create_pool(NewPool::new("orders").retention(Duration::from_hours(24))).unwrap();
    store.create_pool("others").unwrap();
    track_as(&store, "shop", &(0..3_000).map(|number| number.to_string()).collect::<Vec<_>>());
    store.close().unwrap();

    assert_eq!(place.json(["prune", "others"])["records"], 0);
    let text = place.run(["prune", "orders"]).ok();
    assert!(text.starts_with("removed 3,000 deleted or expired records ("), "{text}");
    assert_eq!(place.json(["prune"])["records"], 0);
}

#[test]
fn rebuilding_indexes_tells_of_a_damaged_record_that_can_still_be_read() {
    let place = Place::new();
    damage_a_value(&place);
    let answer = place.run(["rebuild-indexes"]);
    assert_eq!(answer.code, 1);
    assert!(answer.out.contains("1 problem cannot be repaired"), "{}", answer.out);
    assert!(answer.out.contains("the file is damaged"), "{}", answer.out);
}

#[test]
fn indexes_are_rebuilt_from_the_records() {
    let place = Place::new();
    place.track(&["A-1", "A-2"]);
    let before = place.json(["records", "orders"]);
    let json = place.json(["rebuild-indexes"]);
    assert_eq!((&json["pools"], &json["records"]), (&1.into(), &2.into()), "{json}");
    assert!(place.run(["rebuild-indexes"]).ok().contains("2 records"));
    assert_eq!(place.json(["records", "orders"]), before);
    assert_eq!(place.run_with("A-1\nA-3\n", ["dedupe", "orders", "--entity-type", "37"]).ok(), "A-3\n");
    assert!(place.run(["verify"]).ok().ends_with("OK, no problems found\n"));
}
