//! Proves that a store is checked, compacted and copied.

use crate::support::{FILE, Place, has_line};

#[test]
fn a_sound_store_is_found_to_be_so() {
    let place = Place::new();
    place.track(&["A-1"]);
    let text = place.run(["verify"]).ok();
    assert!(text.ends_with("all is as it must be\n"), "{text}");
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
fn a_backup_is_a_new_file() {
    let place = Place::new();
    place.track(&["A-1"]);
    let text = place.run(["backup", "copy.redb"]).ok();
    assert!(has_line(&text, &["row", "in copy.redb"]), "{text}");
    let json = place.json(["backup", "other.redb"]);
    assert!(json["rows"].is_u64() && json["bytes"].is_u64(), "{json}");
    assert_eq!(place.files(), ["copy.redb", "other.redb", FILE]);
}
