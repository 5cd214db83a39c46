//! Proves the tool's help, and its errors for invalid arguments.

use datapool_store::limits::VALUE_MAX_BYTES;
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
    assert!(error.contains("<FILE>, or the environment variable DATAPOOL_FILE"), "{error}");
    run(FILE, &["man"]).ok();
    assert_eq!(place.files(), [FILE]);
}

#[test]
fn errors_for_programs_are_json_with_a_kind() {
    let place = Place::new();
    place.write("garbage", "no store");
    let cases: [(&[&str], i32, &str, &str); 8] = [
        (&[FILE, "records", "others"], 1, "NotFound", "no data pool of the id or name \"others\""),
        (&[FILE, "pool", "create", "orders"], 1, "AlreadyExists", "orders"),
        (&["missing.redb", "pool", "list"], 1, "NotFound", "missing.redb"),
        (&["garbage", "pool", "list"], 1, "NotAStore", "garbage"),
        (&[FILE, "frobnicate"], 2, "Usage", "frobnicate"),
        (&[FILE, "delete", "orders"], 2, "Usage", "no records are named"),
        (&[FILE, "records", "orders", "per_page=500"], 2, "Usage", "allowed are 1 to 100"),
        (&[FILE, "import", "orders", "/no/such.csv"], 1, "Io", "opening /no/such.csv: No such file"),
    ];
    for (arguments, code, kind, words) in cases {
        let answer = finish(place.command(arguments.iter().copied().chain(["--json"])), b"");
        assert_eq!((answer.code, answer.out.as_str()), (code, ""), "{arguments:?}: {}", answer.err);
        let error: Value = serde_json::from_str(&answer.err).unwrap();
        assert_eq!(error["error"]["kind"], kind, "{arguments:?}");
        assert!(error["error"]["message"].as_str().unwrap().contains(words), "{arguments:?}: {error}");
        assert_eq!(answer.err.lines().count(), 1);
    }
    let long = "x".repeat(VALUE_MAX_BYTES + 1);
    for (lines, input, kind) in [
        (false, long.as_bytes(), "LimitExceeded"),
        (false, b"a\n\xff\n", "InvalidArgument"),
        (true, b"{", "Json"),
        (true, format!("{{\"id\": \"{long}\"}}").as_bytes(), "LimitExceeded"),
    ] {
        let mut arguments = vec![FILE, "dedupe", "orders", "--entity-type", "37", "--json"];
        arguments.extend(if lines { &["--json-lines", "/id"][..] } else { &[] });
        let answer = finish(place.command(arguments), input);
        let error: Value = serde_json::from_str(&answer.err).unwrap();
        assert_eq!(error["error"]["kind"], kind, "{error}");
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

#[test]
fn values_that_no_store_would_take_are_wrong_usage() {
    let place = Place::empty();
    let long = "x".repeat(5_000);
    let cases: [(&[&str], &str); 24] = [
        (&["pool", "create", "orders", "--retention", "0s"], "allowed are 1 ms to 36500 days"),
        (&["pool", "create", "orders", "--retention", "36501d"], "allowed are 1 ms to 36500 days"),
        (&["pool", "create", "orders", "--capacity", "0"], "allowed is 1 or more"),
        (&["pool", "create", "ab"], "3 to 100"),
        (&["pool", "create", "orders", "--description", &long], "255"),
        (&["pool", "update", "orders", "--retention", "0s"], "allowed are 1 ms to 36500 days"),
        (&["pool", "update", "orders", "--capacity", "0"], "allowed is 1 or more"),
        (&["pool", "update", "orders", "--name", "ab"], "3 to 100"),
        (&["pool", "update", "orders", "--description", &long], "255"),
        (&["dedupe", "orders", "--entity-type", "37", "--flow", ""], "a flow id is empty"),
        (&["dedupe", "orders", "--entity-type", "37", "--run", "a,b"], "comma"),
        (&["dedupe", "orders", "--entity-type", "37", "--step", " a"], "blank"),
        (&["import", "orders", "in.csv", "--flow", ""], "a flow id is empty"),
        (&["import", "orders", "in.csv", "--delimiter", "\""], "any ASCII character"),
        (&["records", "orders", "--flow", ""], "a flow id is empty"),
        (&["records", "orders", "--run", &long], "64"),
        (&["records", "orders", "--value", ""], "a value is empty"),
        (&["records", "orders", "--value", &long], "4096"),
        (&["export", "orders", "--step", ""], "a flow step id is empty"),
        (&["delete", "orders", "--value", ""], "a value is empty"),
        (&["claims", "orders", "--owner", ""], "owner"),
        (&["claims", "orders", "--owner", &long, "--release-all"], "64"),
        (&["records", "orders", "filter[value]="], "a value is empty"),
        (&["delete", "orders", "--where", "filter[flow_id]="], "allowed is a term"),
    ];
    for (arguments, expected) in cases {
        let error = place.run(arguments.iter().copied()).error(2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    let many = ["--value", "x"].repeat(1_001);
    let error = place.run(["records", "orders"].into_iter().chain(many)).error(2);
    assert!(error.contains("1000"), "{error}");
    let error = finish(place.command(["copy", FILE, FILE]), b"").error(2);
    assert!(error.contains("FROM and TO are both pools.redb"), "{error}");
    assert!(place.files().is_empty());
}

#[cfg(feature = "postgres")]
#[test]
fn a_schema_or_url_that_no_server_would_take_is_wrong_usage() {
    let place = Place::empty();
    let cases: [(&[&str], &str); 3] = [
        (
            &["--store", "postgresql://127.0.0.1:1/db", "--schema", "A b", "pool", "list"],
            "lower-case letters",
        ),
        (&["--store", "postgresql://127.0.0.1:x/db", "pool", "list"], "bad value for port"),
        (&["--store", "postgresql://127.0.0.1:1/db", "--wait", "1s", "pool", "list"], "--wait"),
    ];
    for (arguments, expected) in cases {
        let error = finish(place.command(arguments.iter().copied()), b"").error(2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
        let answer = finish(place.command(arguments.iter().copied().chain(["--json"])), b"");
        assert!(answer.err.starts_with("{\"error\":{\"kind\":\"Usage\""), "{}", answer.err);
    }
}

#[test]
fn a_mistyped_command_is_recognized() {
    let place = Place::new();
    let cases: [(&[&str], &str); 6] = [
        (&["satts"], "similar command exists: 'stats'"),
        (&["recrods", "orders"], "similar command exists: 'records'"),
        (&["recrods", "orders", "--json"], "similar command exists: 'records'"),
        (&["verfiy", "--wait", "1s"], "similar command exists: 'verify'"),
        (&[FILE, "recrods", "orders"], "similar subcommand exists: 'records'"),
        (&[FILE, "pool", "craete", "orders"], "similar subcommand exists: 'create'"),
    ];
    for (arguments, expected) in cases {
        let mut command = place.command(arguments.iter().copied());
        command.env("DATAPOOL_FILE", FILE);
        let error = finish(command, b"").error(2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    // A file of that name is meant.
    place.write("satts", "");
    let error = finish(place.command(["satts"]), b"").error(2);
    assert!(!error.contains("similar command"), "{error}");
    let error = finish(place.command(["other.redb"]), b"").error(2);
    assert!(!error.contains("similar command") && error.contains("requires a subcommand"), "{error}");
}
