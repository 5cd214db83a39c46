//! Proves that the figures are those of the library, and that the charts show them.

use std::time::Duration;

use datapool_store::{EntityType, ImportOptions, ManualClock};
use serde_json::{Value, json};

use crate::support::{FILE, Place, has_line, track_as};

const DAY: Duration = Duration::from_hours(24);

/// Returns this many unique values.
fn values(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix} {number}")).collect()
}

/// Creates a store with three days of records by two flows, with a day without records in between, and an
/// import of customers.
fn busy_place() -> Place {
    let place = Place::empty();
    let clock = ManualClock::starting_at("2013-01-30T23:59:59.999999Z".parse().unwrap());
    let store = place.open_at(Some(&clock));
    track_as(&store, "shop", &values("first", 1_000));
    clock.advance(Duration::from_micros(1));
    track_as(&store, "fair", &values("second", 2_000));
    clock.advance(DAY * 2);
    let file = "value,entity_type_id\nC-1,47\nC-2,47\n";
    store.pool(1).unwrap().import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
    store.pool(1).unwrap().delete_records([1, 2, 3]).unwrap();
    store.put_entity_type(EntityType::new(37, "orders")).unwrap();
    store.close().unwrap();
    place
}

#[test]
fn the_figures_of_a_pool_have_the_librarys_names_and_what_its_records_divide_into() {
    let place = busy_place();
    let json = place.json(["stats", "orders"]);
    for (name, value) in
        [("id", 1), ("live", 2_999), ("expired", 0), ("deleted", 3), ("segments", 1), ("claims", 0)]
    {
        assert_eq!(json[name], value, "{name}");
    }
    assert_eq!(json["name"], "orders");
    assert_eq!(json["oldest"], "2013-01-30T23:59:59.999999Z");
    assert_eq!(json["newest"], "2013-02-02T00:00:00.000000Z");
    assert!(json["bytes"].as_u64().unwrap() > 10_000);
    assert_eq!(json["fill"][0]["records"], 3_002);
    let per_day = json!([
        {"day": "2013-01-30", "records": 997},
        {"day": "2013-01-31", "records": 2_000},
        {"day": "2013-02-02", "records": 2},
    ]);
    assert_eq!(json["per_day"], per_day);
    let entity_types =
        json!([{"entity_type_id": 37, "records": 2_997}, {"entity_type_id": 47, "records": 2}]);
    assert_eq!(json["entity_types"], entity_types);
    assert_eq!(
        json["flows"],
        json!([{"flow_id": "fair", "records": 2_000}, {"flow_id": "shop", "records": 997}])
    );
}

#[test]
fn the_figures_of_the_store_have_the_librarys_names_and_every_pool() {
    let place = busy_place();
    place.run(["pool", "create", "customers"]).ok();
    let json = place.json(["stats"]);
    for name in ["file_size", "cache_memory", "index_memory", "checks", "hits", "commits"] {
        assert!(json[name].is_u64(), "{name}: {json}");
    }
    assert_eq!(json["file_size"], std::fs::metadata(place.path(FILE)).unwrap().len());
    assert_eq!(json["oldest_snapshot"], Value::Null);
    assert_eq!(json["group_sizes"], json!({"groups": 0, "calls": 0, "largest": 0, "mean": 0.0}));
    let pools = json["pools"].as_array().unwrap();
    assert_eq!(pools.len(), 2);
    assert_eq!(pools[0], place.json(["stats", "1"]));
    assert_eq!((&pools[1]["name"], &pools[1]["live"]), (&"customers".into(), &0.into()));
    assert_eq!((&pools[1]["oldest"], &pools[1]["per_day"]), (&Value::Null, &json!([])));
}

#[test]
fn the_charts_show_days_shares_and_segments() {
    let place = busy_place();
    let text = place.run(["stats", "orders"]).ok();
    assert!(has_line(&text, &["live", "2,999"]) && has_line(&text, &["deleted", "3"]), "{text}");
    assert!(has_line(&text, &["oldest (UTC)", "2013-01-30 23:59:59"]), "{text}");
    assert!(text.contains("Records per day (UTC)\n"), "{text}");
    assert!(has_line(&text, &["2013-01-30", "997", "█"]), "{text}");
    assert!(has_line(&text, &["2013-01-31", "2,000", "██"]), "{text}");
    assert!(has_line(&text, &["2013-02-01", "0"]), "{text}");
    assert!(has_line(&text, &["2013-02-02", "2", "▏"]), "{text}");
    assert!(has_line(&text, &["37 (orders)", "2,997", "99.9%", "██"]), "{text}");
    assert!(has_line(&text, &["47", "2", "0.1%", "▏"]), "{text}");
    assert!(has_line(&text, &["fair", "2,000", "66.7%", "██"]), "{text}");
    assert!(has_line(&text, &["shop", "997", "33.2%", "█"]), "{text}");
    assert!(has_line(&text, &["without a flow", "2", "0.1%", "▏"]), "{text}");
    assert!(has_line(&text, &["0 open", "3,002", "0.3%", "2,999 live", "▏"]), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_store_shows_itself_a_table_of_its_pools_and_each_pool() {
    let place = busy_place();
    place.run(["pool", "create", "customers"]).ok();
    let text = place.run(["stats"]).ok();
    assert!(has_line(&text, &["store", FILE]) && has_line(&text, &["file size", "iB"]), "{text}");
    assert!(has_line(&text, &["pools", "2"]) && has_line(&text, &["live records", "2,999"]), "{text}");
    assert!(has_line(&text, &["1", "orders", "2,999", "3", "KiB", "2013-02-02 00:00:00"]), "{text}");
    assert!(has_line(&text, &["2", "customers", "0", "-"]), "{text}");
    assert!(
        has_line(&text, &["pool", "1, \"orders\""]) && has_line(&text, &["pool", "2, \"customers\""]),
        "{text}"
    );
}

#[test]
fn longer_spans_are_summed_by_week_month_or_year() {
    let place = Place::empty();
    let clock = ManualClock::starting_at("2013-01-28".parse().unwrap());
    for (days, title, label) in [
        (40, "Records per week (UTC, from Monday)", "2013-03-04"),
        (300, "Records per month (UTC)", "2014-01"),
        (3_000, "Records per year (UTC)", "2022"),
    ] {
        let store = place.open_at(Some(&clock));
        track_as(&store, "shop", &values(title, 7));
        clock.advance(DAY * days);
        track_as(&store, "shop", &values(label, 5));
        store.close().unwrap();
        let text = place.run(["stats", "orders"]).ok();
        assert!(text.contains(title) && has_line(&text, &[label, "5", "█"]), "{text}");
    }
}

#[test]
fn of_many_shares_the_largest_have_bars_and_the_others_one_together() {
    let place = Place::empty();
    let store = place.open();
    for flow in 1..=15_usize {
        track_as(&store, &format!("flow {flow:02}"), &values(&format!("of {flow}"), flow * 10));
    }
    store.close().unwrap();
    let text = place.run(["stats", "orders"]).ok();
    assert!(
        has_line(&text, &["flow 15", "150", "12.5%"]) && has_line(&text, &["flow 06", "60", "5.0%"]),
        "{text}"
    );
    assert!(!text.contains("flow 05"), "{text}");
    assert!(has_line(&text, &["5 other flows", "150", "12.5%"]), "{text}");
    assert_eq!(place.json(["stats", "orders"])["flows"].as_array().unwrap().len(), 15);
}

#[test]
fn of_many_pools_the_largest_are_shown_in_detail_and_fifty_in_the_table() {
    let place = Place::empty();
    let store = place.open();
    for number in 0..60_u64 {
        let pool = store.get_or_create_pool(format!("pool {number:02}")).unwrap();
        let rows: String = (0..number).map(|row| format!("{row},37\n")).collect();
        let file = format!("value,entity_type_id\n{rows}");
        pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
    }
    store.close().unwrap();
    let text = place.run(["stats"]).ok();
    assert!(text.contains("and 10 data pools with fewer records"), "{text}");
    assert!(text.contains("Only the 10 largest of 60 data pools"), "{text}");
    let detailed = |number: u64| has_line(&text, &["pool", &format!("{}, \"pool {number:02}\"", number + 1)]);
    assert!(detailed(59) && detailed(50) && !detailed(49), "{text}");
    assert!(text.contains("pool 10") && !text.contains("pool 09"), "{text}");
    assert_eq!(place.json(["stats"])["pools"].as_array().unwrap().len(), 60);
    assert!(has_line(&place.run(["stats", "pool 03"]).ok(), &["live", "3"]));
}
