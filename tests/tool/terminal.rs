//! Proves that output on a terminal fits its width and sends no control characters to it, and that output
//! elsewhere has the bytes as they are.

use crate::support::{FILE, Place, on_terminal};

/// A value that would clear the screen, and one that is hidden.
const EVIL: &str = "A\u{1b}[2J\u{9b}31mB\u{202e}\u{7f}C";
const SHOWN: &str = "A\\u{1b}[2J\\u{9b}31mB\\u{202e}\\u{7f}C";

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or_default()
}

/// Creates a store with 20 orders of two flows, one of them with a long name.
fn busy_place() -> Place {
    let place = Place::new();
    let store = place.open();
    for flow in ["shop", "a flow with quite a long name"] {
        let values: Vec<String> = (0..10).map(|number| format!("{flow} {number}")).collect();
        crate::support::track_as(&store, flow, &values);
    }
    store.close().unwrap();
    place
}

#[test]
fn everything_fits_a_terminal_of_40_columns() {
    let place = busy_place();
    for arguments in [
        ["records", "orders", "--per-page", "2"].as_slice(),
        &["records", "orders", "--page", "9"],
        &["stats"],
        &["pool", "list"],
        &["verify"],
        &["compact"],
        &["prune"],
        &["rebuild-indexes"],
        &["claims", "orders"],
    ] {
        let command = place.command([FILE].into_iter().chain(arguments.iter().copied()));
        let text = on_terminal(command, "", (24, 40));
        assert!(!text.is_empty() && widest(&text) <= 40, "{arguments:?}: {}\n{text}", widest(&text));
    }
    let copy = on_terminal(place.command(["copy", FILE, "copy.redb"]), "", (24, 40));
    assert!(widest(&copy) <= 40, "{copy}");
}

#[test]
fn the_width_is_the_terminals_then_that_of_columns_then_80() {
    let place = busy_place();
    let widest_with = |size, columns: Option<&str>| {
        let mut command = place.command([FILE, "stats", "orders"]);
        command.env_remove("COLUMNS");
        if let Some(columns) = columns {
            command.env("COLUMNS", columns);
        }
        widest(&on_terminal(command, "", size))
    };
    assert_eq!(widest_with((24, 60), Some("100")), 60);
    assert_eq!(widest_with((0, 60), None), 60);
    assert_eq!(widest_with((0, 0), Some("70")), 70);
    for wrong in [None, Some("0"), Some("wide"), Some("")] {
        assert_eq!(widest_with((0, 0), wrong), 80, "{wrong:?}");
    }
    let mut piped = place.command([FILE, "stats", "orders"]);
    piped.env("COLUMNS", "66");
    assert_eq!(widest(&crate::support::finish(piped, b"").ok()), 66);
}

#[test]
fn values_cannot_control_the_terminal() {
    let place = Place::new();
    let dedupe = ["dedupe", "orders", "--entity-type", "37", "--mode", "track"];
    for (arguments, input) in [
        (dedupe.as_slice(), EVIL),
        (&["contains", "orders", "--entity-type", "37"], EVIL),
        (&["records", "orders"], ""),
        (&["records", "orders", "--value", EVIL], ""),
        (&["export", "orders"], ""),
        (&["export", "orders", "--full"], ""),
    ] {
        let command = place.command([FILE].into_iter().chain(arguments.iter().copied()));
        let text = on_terminal(command, input, (24, 400));
        assert!(text.contains(SHOWN), "{arguments:?}: {text:?}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{arguments:?}: {text:?}");
    }
    for arguments in [
        ["dedupe", "orders", "--entity-type", "37", "--json"].as_slice(),
        &["contains", "orders", "--entity-type", "37", "--json"],
        &["records", "orders", "--json"],
    ] {
        let command = place.command([FILE].into_iter().chain(arguments.iter().copied()));
        let text = on_terminal(command, EVIL, (24, 80));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let value = json.get("value").unwrap_or(&json["data"][0]["value"]);
        assert_eq!(value, EVIL, "{text:?}");
    }
}

#[test]
fn programs_get_values_byte_for_byte() {
    let place = Place::new();
    let dedupe = ["dedupe", "orders", "--entity-type", "37", "--mode", "track"];
    assert_eq!(place.run_with(EVIL, dedupe).ok(), format!("{EVIL}\n"));
    let contains = place.run_with(EVIL, ["contains", "orders", "--entity-type", "37"]).ok();
    assert_eq!(contains, format!("present\t{EVIL}\n"));
    assert!(place.run(["export", "orders"]).ok().contains(EVIL));
    assert!(place.run(["records", "orders", "--json"]).ok().contains("\u{202e}\u{7f}C"));
}

#[test]
fn one_long_value_does_not_widen_the_rows_of_the_others() {
    let place = Place::new();
    place.track(&["A-1", &"x".repeat(4_000), "A-3"]);
    let text = place.run(["records", "orders"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    for index in [0, 1, 2, 4] {
        assert!(lines[index].chars().count() < 100, "{text}");
    }
    assert!(lines[3].contains(&"x".repeat(4_000)) && lines[3].contains("20"), "{text}");
    // Short cells stay below each other.
    assert_eq!(lines[2].find("20"), lines[4].find("20"), "{text}");
}
