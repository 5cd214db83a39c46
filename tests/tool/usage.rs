//! Proves the tool's help, and its errors for invalid arguments.

use serde_json::Value;

use crate::support::{FILE, Place, finish};

const COMMANDS: [&[&str]; 21] = [
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
    &["contains"],
    &["claims"],
    &["delete"],
    &["clear"],
    &["stats"],
    &["prune"],
    &["verify"],
    &["rebuild-indexes"],
    &["compact"],
    &["vacuum"],
];

#[test]
fn every_command_explains_itself_with_an_example() {
    let place = Place::empty();
    for command in COMMANDS.into_iter().chain([["backup"].as_slice()]) {
        let text = place.run(command.iter().copied().chain(["--help"])).ok();
        let usage =
            ["datapool [FILE]"].into_iter().chain(command.iter().copied()).collect::<Vec<_>>().join(" ");
        let usage = if command.is_empty() { "datapool [OPTIONS] [FILE] <COMMAND>" } else { &usage };
        assert!(text.contains(&format!("Usage: {usage}")), "{usage}: {text}");
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

#[test]
fn the_environment_may_name_the_store() {
    let place = Place::new();
    let run = |file: &str, arguments: &[&str]| {
        let mut command = place.command(arguments.iter().copied());
        command.env("DATAPOOL_FILE", file);
        finish(command, b"")
    };
    let expected = place.run(["pool", "list"]).ok();
    assert_eq!(run(FILE, &["pool", "list"]).ok(), expected);
    // An argument takes precedence.
    assert_eq!(run("other.redb", &[FILE, "pool", "list"]).ok(), expected);
    assert!(run("other.redb", &["pool", "list"]).error(1).contains("other.redb"));
    let error = run("", &["pool", "list"]).error(2);
    assert!(error.contains("<FILE>, which DATAPOOL_FILE can name, too"), "{error}");
    run(FILE, &["man"]).ok();
    assert_eq!(place.files(), [FILE]);
}

#[test]
fn errors_for_programs_are_json_with_a_kind() {
    let place = Place::new();
    place.write("garbage", "no store");
    let cases: [(&[&str], i32, &str, &str); 7] = [
        (&[FILE, "records", "others"], 1, "NotFound", "no data pool of the id or name \"others\""),
        (&[FILE, "pool", "create", "orders"], 1, "AlreadyExists", "orders"),
        (&["missing.redb", "pool", "list"], 1, "NotFound", "missing.redb"),
        (&["garbage", "pool", "list"], 1, "NotAStore", "garbage"),
        (&[FILE, "frobnicate"], 2, "Usage", "frobnicate"),
        (&[FILE, "delete", "orders"], 2, "Usage", "no records are named"),
        (&[FILE, "records", "orders", "per_page=500"], 2, "Usage", "allowed are 1 to 100"),
    ];
    for (arguments, code, kind, words) in cases {
        let answer = finish(place.command(arguments.iter().copied().chain(["--json"])), b"");
        assert_eq!((answer.code, answer.out.as_str()), (code, ""), "{arguments:?}: {}", answer.err);
        let error: Value = serde_json::from_str(&answer.err).unwrap();
        assert_eq!(error["error"]["kind"], kind, "{arguments:?}");
        assert!(error["error"]["message"].as_str().unwrap().contains(words), "{arguments:?}: {error}");
        assert_eq!(answer.err.lines().count(), 1);
    }
}

#[test]
fn a_misspelled_url_is_refused_without_its_password() {
    let place = Place::new();
    for url in
        ["mysql://ann:s3cret@host/db", "postgres:/ann:s3cret@host/db", "POSTGRESQL://ann:s3cret@host/db"]
    {
        for arguments in
            [vec![url, "pool", "list"], vec!["copy", FILE, url], vec!["--store", url, "pool", "list"]]
        {
            let error = finish(place.command(arguments.iter().copied()), b"").error(2);
            assert!(error.contains("postgresql://") && !error.contains("s3cret"), "{arguments:?}: {error}");
        }
    }
    assert_eq!(place.files(), [FILE]);
}

#[test]
fn wrong_usage_shows_the_usage_of_its_command() {
    let place = Place::new();
    let error = place.run(["delete", "orders"]).error(2);
    assert!(error.contains("Usage: datapool [FILE] delete [OPTIONS] <POOL>"), "{error}");
    for page in [["--page", "0"], ["--per-page", "0"], ["--per-page", "101"]] {
        place.run(["records", "orders"].into_iter().chain(page)).error(2);
    }
}

#[test]
fn a_pipe_gets_no_colours() {
    let place = Place::new();
    place.track(&["A-1"]);
    for arguments in [["records", "orders"].as_slice(), &["verify"], &["records", "others"], &["stats"]] {
        let answer = place.run(arguments.iter().copied());
        assert!(!answer.out.contains('\u{1b}') && !answer.err.contains('\u{1b}'), "{answer:?}");
    }
}
