//! Proves what the tool says of itself, and of arguments that it cannot make sense of.

use crate::support::{FILE, Place, finish};

const COMMANDS: [&[&str]; 16] = [
    &[],
    &["pool"],
    &["pool", "create"],
    &["pool", "list"],
    &["pool", "show"],
    &["pool", "update"],
    &["pool", "delete"],
    &["import"],
    &["export"],
    &["records"],
    &["dedupe"],
    &["delete"],
    &["stats"],
    &["verify"],
    &["compact"],
    &["vacuum"],
];

#[test]
fn every_command_explains_itself_with_an_example() {
    let place = Place::empty();
    for command in COMMANDS.into_iter().chain([["backup"].as_slice()]) {
        let text = place.run(command.iter().copied().chain(["--help"])).ok();
        assert!(text.contains("Usage: datapool"), "{text}");
        let is_group = command == ["pool"];
        assert!(is_group || text.contains(&format!("datapool pools.redb {}", command.join(" "))), "{text}");
    }
    let text = finish(place.command(["copy", "--help"]), b"").ok();
    assert!(
        text.contains("Usage: datapool copy") && text.contains("datapool copy pools.redb postgresql://"),
        "{text}"
    );
    assert!(place.run(["--help"]).ok().contains("Exit code: 0, or 1 with the error"));
    let version = finish(place.command(["--version"]), b"").ok();
    assert_eq!(version, concat!("datapool ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(place.files().is_empty());
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let place = Place::new();
    let cases: [&[&str]; 16] = [
        &["frobnicate"],
        &["help"],
        &["pool"],
        &["pool", "create"],
        &["pool", "create", "other", "--retention", "90"],
        &["pool", "create", "other", "--retention", "none"],
        &["pool", "create", "other", "--capacity", "many"],
        &["pool", "list", "per_page=500"],
        &["records", "orders", "filter[colour]=red"],
        &["records"],
        &["delete", "orders"],
        &["delete", "orders", "x"],
        &["dedupe", "orders"],
        &["dedupe", "orders", "--entity-type", "37", "--mode", "guess"],
        &["import", "orders", "in.csv", "--on-bad-row", "add"],
        &["export", "orders", "out.csv", "--half"],
    ];
    for arguments in cases {
        let answer = place.run(arguments.iter().copied());
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{arguments:?}");
        assert!(!answer.err.is_empty(), "{arguments:?}");
    }
    let answer = finish(place.command([]), b"");
    assert_eq!(answer.code, 2);
    let error = place.run(["records", "orders", "per_page=500"]).error(2);
    assert!(error.contains("per_page is 500; allowed are 1 to 100"), "{error}");
    let error = place.run(["pool", "update", "orders", "--retention", "soon"]).error(2);
    assert!(error.contains("90d, 12h, 30m, 45s and 500ms, and none"), "{error}");
    assert_eq!(place.files(), [FILE]);
}

#[test]
fn json_may_be_asked_for_before_and_behind_the_command() {
    let place = Place::new();
    let expected = place.run(["pool", "list", "--json"]).ok();
    assert!(expected.starts_with("{\"data\":["), "{expected}");
    assert_eq!(place.run(["--json", "pool", "list"]).ok(), expected);
    assert_eq!(place.run(["pool", "--json", "list"]).ok(), expected);
    assert_eq!(finish(place.command(["--json", FILE, "pool", "list"]), b"").ok(), expected);
}
