//! Proves that the tool imports and exports CSV files, and what it reports about them.

use std::io::Read;
use std::process::Stdio;

use serde_json::json;

use crate::support::{FILE, Place, finish, has_line};

const GOOD: &str = "value,entity_type_id\nA-1,37\n\"A,\n\"\"2\",47\nA-1,37\n";
const BAD: &str = "value,entity_type_id\nA-1,37\nA-2,x\n,47\nA-4,47\nA-5\n";

#[test]
fn an_import_adds_every_row_and_says_how_many() {
    let place = Place::new();
    place.write("in.csv", GOOD);
    assert_eq!(place.run(["import", "orders", "in.csv"]).ok(), "3 rows: 3 added, 0 skipped, 0 bad\n");
    let json = place.json(["import", "1", "in.csv", "--on-duplicate", "skip"]);
    assert_eq!(json, json!({"rows": 3, "added": 0, "skipped": 3, "bad_rows": 0, "errors": []}));
    let error = place.run(["import", "1", "in.csv", "--on-duplicate", "fail"]).error(1);
    assert!(error.contains("in.csv") && error.contains("A-1"), "{error}");
    assert_eq!(place.json(["records", "orders"])["meta"]["total"], 3);
}

#[test]
fn standard_input_is_imported_like_a_file() {
    let place = Place::new();
    let answer = place.run_with(GOOD, ["import", "orders", "-", "--json"]);
    assert_eq!(answer.json()["added"], 3);
    let error = place.run_with("value\n", ["import", "orders", "-"]).error(1);
    assert!(error.contains("standard input") && error.contains("entity_type_id"), "{error}");
}

#[test]
fn a_bad_row_fails_the_import_and_is_named() {
    let place = Place::new();
    place.write("in.csv", BAD);
    let error = place.run(["import", "orders", "in.csv", "--on-bad-row", "fail"]).error(1);
    assert!(error.contains("in.csv: line 3, column 2") && error.contains("\"x\""), "{error}");
    assert_eq!(place.json(["records", "orders"])["meta"]["total"], 0);
}

#[test]
fn bad_rows_that_are_skipped_are_reported_by_line_and_column() {
    let place = Place::new();
    place.write("in.csv", BAD);
    let json = place.json(["import", "orders", "in.csv", "--on-bad-row", "skip"]);
    assert_eq!((&json["rows"], &json["added"]), (&5.into(), &2.into()));
    assert_eq!((&json["skipped"], &json["bad_rows"]), (&0.into(), &3.into()));
    let errors = json["errors"].as_array().unwrap();
    let places: Vec<_> =
        errors.iter().map(|error| (error["line"].clone(), error["column"].clone())).collect();
    assert_eq!(places, [(3.into(), 2.into()), (4.into(), 1.into()), (6.into(), serde_json::Value::Null)]);
    assert!(errors[0]["reason"].as_str().unwrap().contains("\"x\""));

    let text = place.run(["import", "orders", "in.csv", "--on-bad-row", "skip"]).ok();
    assert!(text.starts_with("5 rows: 2 added, 0 skipped, 3 bad\n"), "{text}");
    assert!(has_line(&text, &["3", "2", "\"x\""]) && has_line(&text, &["6", "-"]), "{text}");
}

#[test]
fn of_many_bad_rows_the_first_hundred_are_reported() {
    let place = Place::new();
    place.write("in.csv", format!("value,entity_type_id\n{}", "A,x\n".repeat(250)));
    let json = place.json(["import", "orders", "in.csv", "--on-bad-row", "skip"]);
    assert_eq!(json["bad_rows"], 250);
    assert_eq!(json["errors"].as_array().unwrap().len(), 100);
    let text = place.run(["import", "orders", "in.csv", "--on-bad-row", "skip"]).ok();
    assert!(text.ends_with("only the first 100 of 250 bad rows are listed\n"), "{text}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let place = Place::new();
    let error = place.run(["import", "orders", "in.csv"]).error(1);
    assert!(error.starts_with("error: opening in.csv: "), "{error}");
    let error = place.run(["import", "orders", "."]).error(1);
    assert!(error.starts_with("error: .: "), "{error}");
}

#[test]
fn an_export_imports_back_to_the_same_set() {
    let place = Place::new();
    place.write("in.csv", GOOD);
    place.run(["import", "orders", "in.csv"]).ok();
    assert_eq!(place.run(["export", "orders", "out.csv"]).ok(), "3 rows in out.csv\n");
    assert_eq!(place.read("out.csv"), GOOD);
    assert_eq!(place.json(["export", "1", "out.csv"]), json!({"rows": 3}));
    assert_eq!(place.run(["export", "orders"]).ok(), GOOD);
    assert_eq!(place.run(["export", "orders", "-", "--json"]).ok(), GOOD);

    place.run(["pool", "create", "again"]).ok();
    place.run(["import", "again", "out.csv"]).ok();
    assert_eq!(place.run(["export", "again"]).ok(), GOOD);
    assert_eq!(place.files(), ["in.csv", "out.csv", FILE]);
}

#[test]
fn a_full_export_has_id_origin_and_time() {
    let place = Place::new();
    place.run_with("A-1\n", ["dedupe", "orders", "--entity-type", "37", "--flow", "shop"]).ok();
    let text = place.run(["export", "orders", "--full"]).ok();
    let (header, row) = text.split_once('\n').unwrap();
    assert_eq!(header, "value,entity_type_id,id,flow_id,flow_run_id,step_id,version,created_at");
    assert!(row.starts_with("A-1,37,1,shop,,,,20") && row.ends_with("Z\n"), "{row}");
}

#[test]
fn the_store_itself_is_not_overwritten_by_an_export() {
    let place = Place::new();
    let error = place.run(["export", "orders", FILE]).error(1);
    assert!(error.contains(FILE), "{error}");
    place.run(["pool", "show", "orders"]).ok();
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    // More than a pipe holds.
    let rows: String = (0..50_000).map(|number| format!("order number {number},37\n")).collect();
    place.write("in.csv", format!("value,entity_type_id\n{rows}"));
    place.run(["import", "orders", "in.csv"]).ok();
    let values: String = (0..50_000).map(|number| format!("another {number}\n")).collect();
    let commands: [(&[&str], &str); 3] = [
        (&[FILE, "export", "orders"], ""),
        (&[FILE, "dedupe", "orders", "--entity-type", "37", "--mode", "filter"], &values),
        (&[FILE, "dedupe", "orders", "--entity-type", "37", "--mode", "filter", "--json"], &values),
    ];
    for (arguments, input) in commands {
        place.write("input", input);
        let input = std::fs::File::open(place.path("input")).unwrap();
        let mut command = place.command(arguments.iter().copied());
        let mut child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0; 10]).unwrap();
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_full_is_an_error() {
    let place = Place::new();
    place.track(&["A-1"]);
    for arguments in [[FILE, "export", "orders"], [FILE, "records", "orders"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: writing "));
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_imported_though_it_can_be_read_only_once() {
    let place = Place::new();
    place.write("in.csv", GOOD);
    let command = place.command([FILE, "import", "orders", "/dev/stdin"]);
    assert_eq!(finish(command, GOOD.as_bytes()).ok(), "3 rows: 3 added, 0 skipped, 0 bad\n");
}

#[test]
fn other_peoples_files_are_imported_by_their_own_names() {
    let place = Place::new();
    place.write("in.csv", "Order;Type\nA-1;37\n\n\"A;2\";47\n");
    let error = place.run(["import", "orders", "in.csv"]).error(1);
    assert!(error.contains("in.csv: line 1") && error.contains("\";\""), "{error}");
    let columns = ["--delimiter", ";", "--value-column", "Order"];
    let import = |more: &[&str]| {
        let arguments = ["import", "orders", "in.csv"].into_iter().chain(columns).chain(more.iter().copied());
        place.run(arguments.collect::<Vec<_>>())
    };
    assert_eq!(
        import(&["--entity-type-column", "Type"]).ok(),
        "2 rows: 2 added, 0 skipped, 0 bad; 1 blank\n"
    );
    import(&["--entity-type", "54", "--flow", "shop", "--run", "r 1"]).ok();
    let found = place.json(["records", "orders", "filter[flow_id]=shop&filter[entity_type_id]=54"]);
    assert_eq!((&found["meta"]["total"], &found["data"][1]["value"]), (&2.into(), &"A;2".into()));
    place.write("in.tsv", "value\tentity_type_id\nB-1\t37\n");
    place.run(["import", "orders", "in.tsv", "--delimiter", "tab"]).ok();
    import(&["--entity-type", "54", "--entity-type-column", "Type"]).error(2);
    import(&["--entity-type", "54", "--full", "--flow", "shop"]).error(2);
}

#[test]
fn a_full_export_imports_back_with_origins_and_times() {
    let place = Place::new();
    place.run_with("A-1\nA-2\n", ["dedupe", "orders", "--entity-type", "37", "--flow", "shop"]).ok();
    place.run(["export", "orders", "full.csv", "--full"]).ok();
    place.run(["pool", "create", "again"]).ok();
    place.run(["import", "again", "full.csv", "--full"]).ok();
    assert_eq!(place.run(["export", "again", "--full"]).ok(), place.read("full.csv"));
}

#[cfg(target_os = "linux")]
#[test]
fn an_export_to_a_full_disk_names_the_file() {
    let place = Place::new();
    place.track(&["A-1"]);
    let error = place.run(["export", "orders", "/dev/full"]).error(1);
    assert!(error.contains("/dev/full: ") && error.contains("No space left"), "{error}");
    assert_eq!(error.matches("/dev/full").count(), 1, "{error}");
    let error = place.run(["export", "orders", "no/out.csv"]).error(1);
    assert_eq!(error.matches("no/out.csv").count(), 1, "{error}");
}
