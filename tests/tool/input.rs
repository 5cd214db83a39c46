//! Proves that standard input is read before the store is opened, and which parts of it are skipped.

use std::io::Write;
use std::process::{Child, ChildStdin, Output, Stdio};

use serde_json::Value;

use crate::support::{FILE, Place};

const DEDUPE: [&str; 4] = ["dedupe", "orders", "--entity-type", "37"];

/// Returns a few megabytes of lines, many times what a pipe holds.
fn many_lines(line: impl Fn(u32) -> String) -> String {
    (0..500_000).map(line).collect()
}

/// Starts a command that has begun to read its input and waits for more.
fn waiting(place: &Place, arguments: &[&str], input: &str) -> (Child, ChildStdin) {
    let mut command = place.command([FILE].into_iter().chain(arguments.iter().copied()));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // This returns when all but the last pipe's capacity is read.
    stdin.write_all(input.as_bytes()).unwrap();
    (child, stdin)
}

fn ended(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    output
}

fn total(place: &Place) -> Value {
    place.json(["records", "orders"])["meta"]["total"].clone()
}

#[test]
fn others_use_the_store_while_dedupe_waits_for_values() {
    for (mode, tracked) in [("filter", 1), ("track", 500_001), ("filter-and-track", 500_001)] {
        let place = Place::new();
        let arguments: Vec<&str> = DEDUPE.into_iter().chain(["--mode", mode]).collect();
        let (child, mut stdin) = waiting(&place, &arguments, &many_lines(|number| format!("A-{number}\n")));
        place.track(&["A-0"]);
        stdin.write_all(b"A-0\nA-500000").unwrap();
        drop(stdin);
        let output = String::from_utf8(ended(child).stdout).unwrap();
        // Values that were tracked meanwhile count.
        assert_eq!(output.starts_with("A-0\n"), mode == "track");
        assert!(output.ends_with("A-499999\nA-500000\n") || mode == "track", "{mode}");
        assert_eq!(total(&place), tracked, "{mode}");
    }
}

#[test]
fn others_use_the_store_while_an_import_waits_for_rows() {
    let inputs = if cfg!(target_os = "linux") { &["-", "/dev/stdin"][..] } else { &["-"] };
    for input in inputs {
        let place = Place::new();
        let rows = many_lines(|number| format!("order number {number},37\n"));
        let file = format!("value,entity_type_id\n{rows}");
        let (child, mut stdin) = waiting(&place, &["import", "orders", input], &file);
        place.track(&["A-1"]);
        assert_eq!(total(&place), 1);
        stdin.write_all(b"A-2,37\n").unwrap();
        drop(stdin);
        assert_eq!(ended(child).stdout, b"500,001 rows: 500,001 added, 0 skipped, 0 bad\n");
        assert_eq!(total(&place), 500_002);
        assert_eq!(place.files(), [FILE]);
    }
}

#[test]
fn input_that_breaks_off_within_a_row_imports_nothing() {
    let place = Place::new();
    let (child, mut stdin) = waiting(&place, &["import", "orders", "-"], "value,entity_type_id\nA-1,37\n");
    stdin.write_all(b"A-2,").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: standard input: line 3"), "{error}");
    assert_eq!(total(&place), 0);
}

#[test]
fn one_byte_order_mark_at_the_very_start_is_dropped() {
    let place = Place::new();
    let dedupe = |input: &[u8]| place.run_with(input, DEDUPE).ok();
    assert_eq!(dedupe(b"\xef\xbb\xbfA-1\r\n"), "A-1\n");
    assert_eq!(dedupe(b"A-1\n"), "");
    assert_eq!(dedupe(b"\xef\xbb\xbf"), "");
    // A second mark, and one elsewhere, belong to their values.
    assert_eq!(dedupe(b"\xef\xbb\xbf\xef\xbb\xbfA-1\nA-2\n"), "\u{feff}A-1\nA-2\n");
    assert_eq!(dedupe(b"A-2\n\xef\xbb\xbfA-2\n"), "\u{feff}A-2\n");

    let import = |input: &str| place.run_with(input, ["import", "orders", "-"]);
    import("\u{feff}value,entity_type_id\nB-1,37\n").ok();
    import("\u{feff}\u{feff}value,entity_type_id\nB-2,37\n").error(1);
    assert_eq!(total(&place), 5);
}

#[test]
fn blank_lines_are_skipped() {
    let place = Place::new();
    let input = "\n\r\nA-1\n \t\n\nA-2\r\n\r\n  \n A-3 \n\n";
    let answer = place.run_with(input, DEDUPE.into_iter().chain(["--json"])).json_lines();
    let values: Vec<&str> = answer.iter().map(|line| line["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["A-1", "A-2", " A-3 "]);
    assert_eq!(place.run_with("\n\n", DEDUPE).ok(), "");
    assert_eq!(total(&place), 3);
}
