//! Proves that commands work on a store in PostgreSQL as on a file, and that passwords are not printed.
//!
//! Tests that need a server only run if `DATAPOOL_POSTGRES_URL` names one.

#[cfg(feature = "postgres")]
use crate::support::Answer;
use crate::support::{FILE, Place, finish};

const SECRET: &str = "postgresql://ann:s3cret@127.0.0.1:1/flows";

#[test]
fn a_password_is_not_printed() {
    let place = Place::new();
    let cases: [&[&str]; 11] = [
        &[SECRET, "pool", "list"],
        &["--store", SECRET, "pool", "create", "orders"],
        &["stats", "--store", SECRET],
        &["copy", SECRET, FILE],
        &["copy", FILE, SECRET],
        &["copy", FILE, FILE, SECRET],
        &[FILE, "stats", "--store", SECRET],
        &[FILE, SECRET],
        // Characters of a password that should have been percent-encoded.
        &["postgresql://ann:pass?s3cret=1@127.0.0.1:1/flows", "pool", "list"],
        &["postgresql://ann:pass/s3cret@127.0.0.1:1/flows", "pool", "list"],
        &["postgresql://ann:pass@s3cret?@127.0.0.1:1/flows?x=1", "pool", "list"],
    ];
    for arguments in cases {
        let answer = finish(place.command(arguments.iter().copied()), b"");
        assert!([1, 2].contains(&answer.code), "{arguments:?}: {answer:?}");
        assert!(!answer.err.is_empty() && !answer.err.contains("s3cret"), "{arguments:?}: {}", answer.err);
    }
}

#[test]
fn a_store_is_named_once_and_a_schema_is_of_a_server() {
    let place = Place::new();
    let cases: [&[&str]; 4] = [
        &["pool", "list"],
        &["--store", FILE, "pool", "list"],
        &[FILE, "pool", "list", "--schema", "shop"],
        &[FILE, "--store", "postgres://host/db", "pool", "list"],
    ];
    for arguments in cases {
        let answer = finish(place.command(arguments.iter().copied()), b"");
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{arguments:?}: {}", answer.err);
    }
}

#[cfg(not(feature = "postgres"))]
#[test]
fn a_tool_for_files_says_how_to_build_one_for_servers() {
    let place = Place::new();
    let error = finish(place.command(["postgres://127.0.0.1/db", "pool", "list"]), b"").error(1);
    assert!(error.contains("--features cli,postgres"), "{error}");
}

/// A store on the tests' server, in its own schema.
#[cfg(feature = "postgres")]
struct Server {
    url: String,
    schema: String,
    place: Place,
}

#[cfg(feature = "postgres")]
impl Server {
    /// Returns `None` if there is no server.
    fn new(name: &str) -> Option<Self> {
        let url = std::env::var("DATAPOOL_POSTGRES_URL").ok()?;
        let now = datapool_store::Timestamp::now().as_micros();
        Some(Self { url, schema: format!("test_tool_{name}_{now}"), place: Place::empty() })
    }

    fn run_with<'a>(&'a self, input: &str, arguments: impl IntoIterator<Item = &'a str>) -> Answer {
        let store = ["--schema", &self.schema, "--store", &self.url];
        finish(self.place.command(store.into_iter().chain(arguments)), input.as_bytes())
    }

    fn run<'a>(&'a self, arguments: impl IntoIterator<Item = &'a str>) -> Answer {
        self.run_with("", arguments)
    }
}

#[cfg(feature = "postgres")]
#[test]
fn commands_run_on_a_server_as_on_a_file() {
    let Some(server) = Server::new("commands") else { return };
    let error = server.run(["pool", "list"]).error(1);
    assert!(error.contains("`pool create`"), "{error}");
    server.run(["pool", "create", "orders", "--retention", "90d"]).ok();
    assert_eq!(
        server.run_with("A-1\nA-2\nA-1\n", ["dedupe", "orders", "--entity-type", "37"]).ok(),
        "A-1\nA-2\n"
    );
    assert_eq!(
        server.run_with("A-2\nA-3\n", ["dedupe", "orders", "--entity-type", "37", "--mode", "filter"]).ok(),
        "A-3\n"
    );
    let imported = server.run_with("value,entity_type_id\nB-1,47\n", ["import", "orders", "-"]).ok();
    assert_eq!(imported, "1 row: 1 added, 0 skipped, 0 bad\n");
    assert_eq!(server.run(["export", "orders"]).ok(), "value,entity_type_id\nA-1,37\nA-2,37\nB-1,47\n");
    assert_eq!(server.run(["records", "orders", "--json"]).json()["meta"]["total"], 3);
    assert_eq!(server.run(["delete", "orders", "1"]).ok(), "deleted 1 record\n");
    server.run(["pool", "update", "orders", "--name", "shop orders"]).ok();
    assert!(server.run(["pool", "show", "shop orders"]).ok().contains("90d"));
    for arguments in
        [["stats", "--json"].as_slice(), &["stats"], &["stats", "shop orders"], &["pool", "list"]]
    {
        server.run(arguments.iter().copied()).ok();
    }
    let stats = server.run(["stats"]).ok();
    assert!(crate::support::has_line(&stats, &["file size", "on the server"]), "{stats}");
    assert!(server.run(["verify"]).ok().contains("OK, no problems found"));
    for arguments in [["compact"].as_slice(), &["vacuum"], &["backup", "copy.redb"]] {
        let error = server.run(arguments.iter().copied()).error(1);
        assert!(error.contains("is for stores in a file"), "{error}");
    }
    server.run(["clear", "shop orders", "--yes"]).ok();
    // The URL replaces FILE.
    let arguments =
        [server.url.as_str(), "pool", "delete", "shop orders", "--yes", "--schema", &server.schema];
    assert_eq!(finish(server.place.command(arguments), b"").ok(), "deleted data pool 1, \"shop orders\"\n");
    assert!(server.place.files().is_empty());
}

#[cfg(feature = "postgres")]
#[test]
fn a_store_is_copied_to_a_server_and_back() {
    let Some(server) = Server::new("copy") else { return };
    crate::copy::fill(&server.place, 12_000);
    let before = crate::copy::contents_of(&server.place, FILE);
    let schema = ["--schema", server.schema.as_str()];
    let there: Vec<&str> = [FILE, &server.url].into_iter().chain(schema).collect();
    crate::copy::copy(&server.place, &there, 5_000, None).ok();
    let again = crate::copy::copy(&server.place, &there, 5_000, None).ok();
    assert!(again.contains("already copied"), "{again}");
    let back: Vec<&str> = [&server.url, "back.redb"].into_iter().chain(schema).collect();
    crate::copy::copy(&server.place, &back, 5_000, None).ok();
    crate::copy::assert_same(&before, &crate::copy::contents_of(&server.place, "back.redb"));
    // Copy from one schema to another.
    let other = format!("{}_2", server.schema);
    let across: Vec<&str> =
        [server.url.as_str(), &server.url, "--to-schema", &other].into_iter().chain(schema).collect();
    assert_eq!(crate::copy::copy(&server.place, &across, 5_000, Some(12)).code, 99);
    crate::copy::copy(&server.place, &across, 5_000, None).ok();
    let store = datapool_store::StoreOptions::new().schema(&other).connect(&server.url).unwrap();
    crate::copy::assert_same(&before, &crate::copy::contents(&store));
}

#[cfg(feature = "postgres")]
#[test]
fn a_copy_to_a_server_that_died_again_and_again_comes_to_its_end() {
    let Some(server) = Server::new("died") else { return };
    crate::copy::fill(&server.place, 200);
    let before = crate::copy::contents_of(&server.place, FILE);
    let there = [FILE, &server.url, "--schema", &server.schema];
    let mut runs = 0;
    while crate::copy::copy(&server.place, &there, 17, Some(2)).code == 99 {
        runs += 1;
    }
    assert!(runs > 10, "{runs}");
    let back = [server.url.as_str(), "back.redb", "--schema", &server.schema];
    let mut runs = 0;
    while crate::copy::copy(&server.place, &back, 17, Some(2)).code == 99 {
        runs += 1;
    }
    assert!(runs > 10, "{runs}");
    crate::copy::assert_same(&before, &crate::copy::contents_of(&server.place, "back.redb"));
}
