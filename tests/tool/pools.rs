//! Proves that the tool creates, lists, shows, changes and deletes pools, by id and by name.

use std::time::Duration;

use datapool_store::{ManualClock, Timestamp};

use crate::support::{FILE, Place, has_line, track_as};

#[test]
fn a_pool_is_made_with_what_it_keeps_and_shown_by_id_and_by_name() {
    let place = Place::empty();
    let text = place.run([
        "pool",
        "create",
        "orders",
        "--description",
        "Of the shop",
        "--retention",
        "90d",
        "--capacity",
        "1000000",
    ]);
    let text = text.ok();
    for (name, value) in [
        ("id", "1"),
        ("name", "orders"),
        ("description", "Of the shop"),
        ("retention", "90d"),
        ("capacity", "1,000,000"),
        ("created (UTC)", "20"),
    ] {
        assert!(has_line(&text, &[name, value]), "{name}: {text}");
    }
    assert_eq!(place.run(["pool", "show", "1"]).ok(), text);
    assert_eq!(place.run(["pool", "show", "orders"]).ok(), text);
    let json = place.json(["pool", "show", "orders"]);
    assert_eq!(json["id"], 1);
    assert_eq!(json["description"], "Of the shop");
    assert_eq!(json["retention"], 90 * 24 * 60 * 60);
    assert_eq!(json["capacity"], 1_000_000);
    assert_eq!(json, serde_json::to_value(place.open().pool(1).unwrap().info().unwrap()).unwrap());
}

#[test]
fn making_a_pool_prints_its_row_as_json() {
    let place = Place::empty();
    let json = place.json(["pool", "create", "orders", "--retention", "500ms"]);
    assert_eq!(json["name"], "orders");
    assert_eq!(json["retention"], 0.5);
    assert_eq!(json["description"], serde_json::Value::Null);
    assert_eq!(json, place.json(["pool", "show", "orders"]));
}

#[test]
fn a_name_that_is_taken_or_too_short_is_refused_and_leaves_no_new_store() {
    let place = Place::new();
    let error = place.run(["pool", "create", "orders"]).error(1);
    assert!(error.contains("orders"), "{error}");
    let error = place.command(["new.redb", "pool", "create", "ab"]);
    let error = crate::support::finish(error, b"").error(2);
    assert!(error.contains("\"ab\"") && error.contains("3 to 100"), "{error}");
    assert_eq!(place.files(), [FILE]);
}

#[test]
fn digits_are_an_id_if_there_is_one_and_else_a_name() {
    let place = Place::new();
    place.run(["pool", "create", "777"]).ok();
    place.run(["pool", "create", "customers"]).ok();
    assert_eq!(place.json(["pool", "show", "777"])["id"], 2);
    assert_eq!(place.json(["pool", "show", "2"])["name"], "777");
    assert_eq!(place.json(["pool", "show", "customers"])["id"], 3);
    for unknown in ["778", "03", "no pool", ""] {
        let error = place.run(["pool", "show", unknown]).error(1);
        assert!(error.contains(FILE) && error.contains(&format!("{unknown:?}")), "{error}");
    }
}

#[test]
fn pools_are_listed_by_page() {
    let place = Place::new();
    assert!(place.run(["pool", "list"]).ok().ends_with("\n1 data pool\n"));
    place.run(["pool", "create", "customers", "--capacity", "5"]).ok();
    let text = place.run(["pool", "list"]).ok();
    assert!(has_line(&text, &["1", "orders"]) && has_line(&text, &["2", "customers", "5"]), "{text}");
    assert!(text.ends_with("2 data pools\n"), "{text}");

    let text = place.run(["pool", "list", "per_page=1"]).ok();
    assert!(text.ends_with("1 to 1 of 2 data pools; the next page: 'page=2&per_page=1'\n"), "{text}");
    let text = place.run(["pool", "list", "page=2&per_page=1"]).ok();
    assert!(has_line(&text, &["2", "customers"]) && !text.contains("orders"), "{text}");
    assert!(place.run(["pool", "list", "page=9"]).ok().ends_with("none on page 9 of 1: 2 data pools\n"));

    let json = place.json(["pool", "list", "filter[name]=CUST&sort=-created_at"]);
    assert_eq!(json["data"][0]["id"], 2);
    assert_eq!(json["meta"]["total"], 1);
    assert_eq!(json["links"]["next"], serde_json::Value::Null);
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let place = Place::empty();
    place
        .run(["pool", "create", "orders", "--description", "x", "--retention", "12h", "--capacity", "7"])
        .ok();
    let json = place.json(["pool", "update", "orders", "--name", "shop orders"]);
    assert_eq!((&json["name"], &json["description"]), (&"shop orders".into(), &"x".into()));
    assert_eq!((&json["retention"], &json["capacity"]), (&(12 * 3600).into(), &7.into()));

    let text = place.run(["pool", "update", "1", "--retention", "45s", "--capacity", "8"]).ok();
    assert!(has_line(&text, &["retention", "45s"]) && has_line(&text, &["capacity", "8"]), "{text}");

    let json =
        place.json(["pool", "update", "1", "--description", "", "--retention", "none", "--capacity", "none"]);
    assert_eq!(json["description"], serde_json::Value::Null);
    assert!(json.get("retention").is_none() && json.get("capacity").is_none(), "{json}");
}

#[test]
fn a_pool_is_deleted_with_its_records() {
    let place = Place::new();
    place.track(&["A-1"]);
    assert_eq!(place.run(["pool", "delete", "orders", "--yes"]).ok(), "deleted data pool 1, \"orders\"\n");
    place.run(["pool", "show", "orders"]).error(1);
    place.run(["pool", "create", "orders"]).ok();
    assert_eq!(place.json(["records", "orders"])["meta"]["total"], 0);
    assert_eq!(place.json(["pool", "delete", "2", "-y"]), serde_json::json!({"deleted": 2}));
    assert_eq!(place.json(["pool", "list"])["meta"]["total"], 0);
}

#[test]
fn what_cannot_be_taken_back_is_not_done_without_consent() {
    let place = Place::new();
    place.track(&["A-1", "A-2"]);
    for arguments in [["pool", "delete", "orders"].as_slice(), &["clear", "orders"]] {
        let error = place.run_with("y\n", arguments.iter().copied()).error(1);
        for part in ["data pool 1, \"orders\"", "2 records", "0 claims", "--yes"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    assert_eq!(place.json(["stats", "orders"])["live"], 2);
    assert_eq!(place.run(["clear", "orders", "--yes"]).ok(), "deleted 2 records\n");
    assert_eq!(place.json(["clear", "orders", "--yes"]), serde_json::json!({"deleted": 0}));
    let error = place.run(["clear", "nobody's"]).error(1);
    assert!(error.contains("nobody's"), "{error}");
}

#[test]
fn an_update_says_how_many_records_it_ends() {
    let place = Place::new();
    place.track(&["A-1", "A-2", "A-3"]);
    assert!(!place.run(["pool", "update", "orders", "--capacity", "3"]).ok().contains("expired"));
    let text = place.run(["pool", "update", "orders", "--capacity", "1", "--yes"]).ok();
    assert!(text.ends_with("\n2 records expired\n"), "{text}");
    place.json(["pool", "update", "orders", "--retention", "1ms", "-y"]);
}

#[test]
fn the_usage_of_pool_commands_names_the_file() {
    for command in ["create", "list", "show", "update", "delete"] {
        let place = Place::empty();
        let help = place.run(["pool", command, "--help"]).ok();
        assert!(help.contains(&format!("datapool [FILE] pool {command} ")), "{help}");
    }
}

#[test]
fn an_update_that_would_expire_records_is_not_done_without_consent() {
    let place = Place::empty();
    let clock = ManualClock::starting_at(Timestamp::now() - Duration::from_hours(48));
    let store = place.open_at(Some(&clock));
    track_as(&store, "shop", &["A-1".to_owned(), "A-2".to_owned()]);
    clock.advance(Duration::from_hours(47));
    track_as(&store, "shop", &["A-3".to_owned()]);
    store.close().unwrap();
    let cases: [(&[&str], &str); 3] = [
        (&["--capacity", "1"], "expire 2 records"),
        (&["--retention", "24h"], "expire 2 records"),
        (&["--retention", "1ms", "--capacity", "2"], "expire 3 records"),
    ];
    for (settings, what) in cases {
        let update = ["pool", "update", "orders"].into_iter().chain(settings.iter().copied());
        let error = place.run_with("y\n", update).error(1);
        for part in [what, "data pool 1, \"orders\"", "--yes"] {
            assert!(error.contains(part), "{settings:?}: {error}");
        }
    }
    assert_eq!(place.json(["stats", "orders"])["live"], 3);
    // Nothing would expire, so it does not ask.
    place.run(["pool", "update", "orders", "--retention", "90d", "--capacity", "3"]).ok();
    place.run(["pool", "update", "orders", "--name", "shop orders"]).ok();
    assert!(
        place
            .run(["pool", "update", "1", "--capacity", "1", "--yes"])
            .ok()
            .ends_with("\n2 records expired\n")
    );
}

#[test]
fn pages_of_pools_are_chosen_by_options_too() {
    let place = Place::new();
    place.run(["pool", "create", "customers"]).ok();
    let text = place.run(["pool", "list", "--per-page", "1"]).ok();
    assert!(text.ends_with("1 to 1 of 2 data pools; the next page: --page 2\n"), "{text}");
    let text = place.run(["pool", "list", "--per-page", "1", "--page", "2"]).ok();
    assert!(has_line(&text, &["2", "customers"]) && !text.contains("orders"), "{text}");
    let json = place.json(["pool", "list", "--per-page", "1", "--page", "2"]);
    assert_eq!(json["data"], place.json(["pool", "list", "page=2&per_page=1"])["data"]);
    let wrong: [&[&str]; 3] = [&["--page", "0"], &["--per-page", "101"], &["page=2", "--per-page", "1"]];
    for arguments in wrong {
        place.run(["pool", "list"].into_iter().chain(arguments.iter().copied())).error(2);
    }
}
