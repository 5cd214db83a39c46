//! Proves that the example runs to its end, with a store in a file and with one on a server.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

use std::path::Path;
use std::process::Command;

/// Runs the example with the store of this name. Returns its output.
fn run(store: &str) -> String {
    let flights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/flights.csv");
    let output = Command::new(env!("CARGO_BIN_EXE_flow-runner")).arg(flights).arg(store).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The results of its steps, without their times.
fn results(text: &str) -> Vec<String> {
    let steps = ["import", "replay", "again", "claim", "list", "check"];
    let lines = text.lines().filter(|line| steps.iter().any(|step| line.starts_with(step)));
    lines.map(|line| line.split("  ").take(5).collect::<Vec<_>>().join(" ").trim().to_owned()).collect()
}

fn over_a_file() -> String {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path().join("flights.redb").to_str().unwrap())
}

#[test]
fn everything_is_still_there_over_a_file() {
    let text = over_a_file();
    assert!(text.contains("\neverything is still there\n"), "{text}");
    assert!(results(&text).len() >= 8, "{text}");
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "needs a server with a new store: .ci/postgres runs it"]
fn over_a_server_the_results_are_the_same() {
    let url = std::env::var("DATAPOOL_POSTGRES_URL")
        .unwrap_or_else(|_| panic!("DATAPOOL_POSTGRES_URL is not set: this test is run by .ci/postgres"));
    let text = run(&url);
    assert!(text.contains("\neverything is still there\n"), "{text}");
    assert_eq!(results(&text), results(&over_a_file()));
}
