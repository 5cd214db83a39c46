//! Proves how commands open the store: commands that only read run concurrently and leave no trace, and only
//! `pool create` creates a store.

use datapool_store::{Access, StoreOptions};

use crate::support::{FILE, Place, finish};

/// Every command that only reads.
const READING: [&[&str]; 12] = [
    &["pool", "list"],
    &["pool", "show", "orders"],
    &["records", "orders"],
    &["export", "orders"],
    &["stats"],
    &["stats", "orders"],
    &["dedupe", "orders", "--entity-type", "37", "--mode", "filter"],
    &["dedupe", "orders", "--entity-type", "37", "--mode", "filter", "--json"],
    &["pool", "list", "--json"],
    &["records", "orders", "--json"],
    &["stats", "--json"],
    &["stats", "orders", "--json"],
];

const WRITING: [&[&str]; 10] = [
    &["pool", "create", "customers"],
    &["pool", "update", "orders", "--capacity", "9"],
    &["import", "orders", "-"],
    &["dedupe", "orders", "--entity-type", "37"],
    &["delete", "orders", "1"],
    &["verify"],
    &["compact"],
    &["vacuum"],
    &["clear", "orders", "--yes"],
    &["pool", "delete", "orders", "--yes"],
];

fn with_input(place: &Place, arguments: &[&str]) -> crate::support::Answer {
    let input = if arguments[0] == "import" { "value,entity_type_id\nB-1,37\n" } else { "A-1\nB-1\n" };
    place.run_with(input, arguments.iter().copied())
}

#[test]
fn a_command_that_reads_changes_no_byte_and_adds_no_file() {
    let place = Place::new();
    place.track(&["A-1", "A-2"]);
    let before = std::fs::read(place.path(FILE)).unwrap();
    for arguments in READING {
        with_input(&place, arguments).ok();
        assert_eq!(std::fs::read(place.path(FILE)).unwrap(), before, "{arguments:?}");
        assert_eq!(place.files(), [FILE], "{arguments:?}");
    }
}

#[test]
fn commands_that_read_run_beside_another_reader_and_those_that_write_do_not() {
    let place = Place::new();
    place.track(&["A-1", "A-2"]);
    let reader = StoreOptions::new().access(Access::ReadOnly).open(place.path(FILE)).unwrap();
    for arguments in READING {
        with_input(&place, arguments).ok();
    }
    for arguments in WRITING {
        let error = with_input(&place, arguments).error(75);
        assert!(error.contains(FILE) && error.contains("open already"), "{error}");
        assert!(!error.contains("StoreOptions") && error.contains("--wait"), "{error}");
    }
    reader.close().unwrap();
    for arguments in WRITING {
        with_input(&place, arguments).ok();
    }
}

#[test]
fn a_store_that_another_process_writes_to_is_an_error() {
    let place = Place::new();
    let _writer = place.open();
    for arguments in READING.into_iter().chain(WRITING) {
        let error = with_input(&place, arguments).error(75);
        assert!(error.contains(FILE) && error.contains("open already"), "{error}");
        assert!(!error.contains("StoreOptions") && error.contains("--wait"), "{error}");
    }
}

#[test]
fn a_store_that_is_not_there_is_made_by_pool_create_alone() {
    let place = Place::empty();
    let others = WRITING.into_iter().filter(|arguments| !arguments.contains(&"create"));
    for arguments in READING.into_iter().chain(others).chain([["backup", "copy.redb"].as_slice()]) {
        let error = with_input(&place, arguments).error(1);
        assert!(error.contains("there is no store at /") && error.contains("/pools.redb;"), "{error}");
        assert!(place.files().is_empty(), "{arguments:?} made {:?}", place.files());
    }
    place.run(["pool", "create", "orders"]).ok();
    assert_eq!(place.files(), [FILE]);
}

#[test]
fn a_file_that_is_no_store_is_named_and_left_as_it_is() {
    let place = Place::empty();
    place.write("notes.txt", "not a store, but long enough to be looked at");
    for arguments in
        [["notes.txt", "pool", "list"], ["notes.txt", "pool", "create"], ["notes.txt", "verify", ""]]
    {
        let more = (arguments[2] == "create").then_some("orders");
        let arguments = arguments.into_iter().filter(|argument| !argument.is_empty()).chain(more);
        let error = finish(place.command(arguments), b"").error(1);
        assert!(error.contains("notes.txt is not a data pool store"), "{error}");
    }
    assert_eq!(place.read("notes.txt"), "not a store, but long enough to be looked at");
    let error = finish(place.command([".", "pool", "list"]), b"").error(1);
    assert!(error.contains("is a directory"), "{error}");
}

#[test]
fn a_command_waits_for_a_store_that_another_process_has_open() {
    let place = Place::new();
    let store = place.open();
    let error = place.run(["--wait", "20ms", "stats"]).error(75);
    #[cfg(target_os = "linux")]
    assert!(error.contains(&format!("in process {}", std::process::id())), "{error}");
    let closing = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        store.close().unwrap();
    });
    place.run(["pool", "show", "orders", "--wait", "60s"]).ok();
    closing.join().unwrap();
    assert!(error.contains(FILE), "{error}");
    let usage = place.run(["--wait", "soon", "stats"]);
    assert!(usage.code == 2 && usage.err.contains("45s"), "{usage:?}");
}

#[test]
fn a_store_that_nobody_closed_is_recovered_by_a_command_that_reads() {
    let place = Place::new();
    let store = place.open();
    crate::support::track_as(&store, "shop", &["A-1".to_owned()]);
    // The file as left by a process that died.
    std::fs::copy(place.path(FILE), place.path("died.redb")).unwrap();
    store.close().unwrap();
    let died = StoreOptions::new().access(Access::ReadOnly).open(place.path("died.redb"));
    assert_eq!(died.unwrap_err().kind(), datapool_store::ErrorKind::ReadOnly);
    let answer = finish(place.command(["died.redb", "records", "orders", "--json"]), b"");
    assert_eq!(answer.json()["data"][0]["value"], "A-1");
    StoreOptions::new().access(Access::ReadOnly).open(place.path("died.redb")).unwrap();
}
