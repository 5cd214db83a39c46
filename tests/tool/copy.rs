//! Proves that `copy` gives another store the same pools, records and registered entries; that it can
//! continue after dying at any point, without duplicates; and that it refuses to continue a copy that it did
//! not begin.

use std::time::Duration;

use datapool_store::{
    DataPoolStore, Flow, FlowRun, ImportOptions, Key, ManualClock, Mode, NewPool, Origin, RecordFilter,
    StoreOptions, Timestamp,
};
use serde_json::json;

use crate::support::{Answer, FILE, ORDERS, Place, finish, has_line};

const COPY: &str = "copy.redb";
const DAY: Duration = Duration::from_hours(24);

/// Values that CSV must quote, or that look like something else.
const ODD: [&str; 9] =
    ["a,b", "\"", "say \"hi\"", "two\nlines", "cr\r\nlf\r", " blanks ", "=1+1", "ä\u{1f600}", "nul\0"];

/// Fills a store with four pools, with origins, versions, times, deletions and expired records.
pub(crate) fn fill(place: &Place, orders: u64) {
    let start = Timestamp::now() - 40 * DAY;
    let clock = ManualClock::starting_at(start);
    let store = place.open_at(Some(&clock));
    fill_orders(&store, &clock, orders);
    let recent =
        store.create_pool(NewPool::new("recent").retention(30 * DAY).description("A month")).unwrap();
    let few = store.create_pool(NewPool::new("few").capacity(5)).unwrap();
    clock.set(start + DAY);
    for pool in [&recent, &few] {
        let _ = pool.dedupe(Mode::Track, &["old 1", "old 2"], |v| Key::new(47, *v), &Origin::none()).unwrap();
    }
    clock.set(start + 20 * DAY);
    let values: Vec<String> = (0..30).map(|n| format!("new {n}")).collect();
    for (run, values) in values.chunks(10).enumerate() {
        clock.advance(Duration::from_secs(1));
        let origin = Origin::none().with_flow("shop").with_run(run);
        for pool in [&recent, &few] {
            let _ = pool.dedupe(Mode::Track, values, |v| Key::new(ORDERS, v), &origin).unwrap();
        }
    }
    store.create_pool("empty").unwrap();
    store.put_flow(Flow::new("shop", "Shop").attributes(json!({"active": true, "share": 0.1}))).unwrap();
    store.put_flow_run(FlowRun::new("run 1", "First run")).unwrap();
    store.put_entity_type(datapool_store::EntityType::new(ORDERS, "Order")).unwrap();
    store.put_flow_step(datapool_store::FlowStep::new("read", "Read orders")).unwrap();
    store.close().unwrap();
}

fn fill_orders(store: &DataPoolStore, clock: &ManualClock, count: u64) {
    let pool = store.create_pool(NewPool::new("orders").description("Orders, \"all\"")).unwrap();
    let values: Vec<String> = (0..count).map(|number| format!("order {number}")).collect();
    for (run, values) in values.chunks(1_000).enumerate() {
        clock.advance(Duration::from_micros(1_500_001));
        let origin = Origin::new("shop", format!("run {run}"), "read");
        let key = |value: &String| match run % 3 {
            0 => Key::new(ORDERS, value.clone()).ordinal(7),
            1 => Key::new(ORDERS, value.clone()).content(value),
            _ => Key::new(ORDERS, value.clone()),
        };
        let _ = pool.dedupe(Mode::Track, values, key, &origin).unwrap();
    }
    let _ = pool.dedupe(Mode::Track, &ODD, |value| Key::new(0, *value), &Origin::none()).unwrap();
    // The same value twice.
    pool.import_csv(
        "value,entity_type_id\nA-1,4294967295\nA-1,4294967295\n".as_bytes(),
        &ImportOptions::new(),
    )
    .unwrap();
    let deleted: Vec<u64> = (1..=count).filter(|id| id % 7 == 0).collect();
    pool.delete_records(deleted).unwrap();
}

/// Returns the contents that a copy keeps, as text.
pub(crate) fn contents(store: &DataPoolStore) -> Vec<String> {
    let mut all = Vec::new();
    for row in store.all_pools().unwrap() {
        all.push(format!("{} {:?} {:?} {:?}", row.name, row.description, row.retention, row.capacity));
        for record in store.pool(row.id).unwrap().scan(&RecordFilter::new()).unwrap() {
            let record = record.unwrap();
            all.push(format!("{:?} {:?} {}", record.key(), record.origin(), record.created_at));
        }
    }
    all.extend(store.entity_types().map(|entry| format!("{:?}", entry.unwrap())));
    all.extend(store.flows().map(|entry| format!("{:?}", entry.unwrap())));
    all.extend(store.flow_runs().map(|entry| format!("{:?}", entry.unwrap())));
    all.extend(store.flow_steps().map(|entry| format!("{:?}", entry.unwrap())));
    all
}

pub(crate) fn contents_of(place: &Place, file: &str) -> Vec<String> {
    contents(&StoreOptions::new().open(place.path(file)).unwrap())
}

#[track_caller]
pub(crate) fn assert_same(one: &[String], other: &[String]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one, other);
    }
}

/// Copies in slices of this many records. With `dies_after`, the process ends after that many commits.
pub(crate) fn copy(place: &Place, arguments: &[&str], slice: u64, dies_after: Option<u64>) -> Answer {
    let mut command = place.command(["copy"].into_iter().chain(arguments.iter().copied()));
    command.env("DATAPOOL_COPY_SLICE", slice.to_string());
    if let Some(commits) = dies_after {
        command.env("DATAPOOL_COPY_DIES_AFTER", commits.to_string());
    }
    finish(command, b"")
}

#[test]
fn a_copy_has_the_same_pools_records_and_registered_entries() {
    let place = Place::empty();
    fill(&place, 12_000);
    let report = copy(&place, &[FILE, COPY, "--json"], 5_000, None).json();
    let before = contents_of(&place, FILE);
    assert!(before.len() > 10_000);
    assert_same(&before, &contents_of(&place, COPY));
    let live = 12_000 - 12_000 / 7 + ODD.len() as u64 + 2;
    let pools = report["pools"].as_array().unwrap();
    assert_eq!((&pools[0]["name"], &pools[0]["records"]), (&json!("orders"), &json!(live)));
    assert_eq!(
        pools.iter().map(|pool| pool["records"].as_u64().unwrap()).collect::<Vec<_>>(),
        [live, 30, 5, 0]
    );
    assert_eq!((&report["records"], &report["added"]), (&json!(live + 35), &json!(live + 35)));
    assert_eq!((&report["flows"], &report["flow_runs"], &report["kept"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(report["open_claims"], 0);
    assert!(finish(place.command([COPY, "verify"]), b"").ok().contains("OK, no problems found"));
}

#[test]
fn a_copy_that_died_anywhere_goes_on_without_doubling_anything() {
    let place = Place::empty();
    fill(&place, 60);
    let before = contents_of(&place, FILE);
    let (mut deaths, mut finished) = (0, 0);
    for commits in 1.. {
        let answer = copy(&place, &[FILE, COPY], 17, Some(commits));
        if answer.code == 0 {
            break;
        }
        assert_eq!((answer.code, answer.err.as_str()), (99, ""), "after {commits} commits");
        deaths += 1;
        let again = copy(&place, &[FILE, COPY], 17, None).ok();
        // If it died after its last commit, nothing was left to do.
        finished += u64::from(again.contains("already copied"));
        assert_same(&before, &contents_of(&place, COPY));
        std::fs::remove_file(place.path(COPY)).unwrap();
    }
    assert!(deaths > 30, "{deaths}");
    assert_eq!(finished, 1);
}

#[test]
fn a_copy_that_dies_again_and_again_comes_to_its_end() {
    let place = Place::empty();
    fill(&place, 300);
    let mut runs = 0;
    while copy(&place, &[FILE, COPY], 10, Some(3)).code == 99 {
        runs += 1;
    }
    assert!(runs > 10, "{runs}");
    assert_same(&contents_of(&place, FILE), &contents_of(&place, COPY));
}

#[test]
fn records_that_come_to_the_source_meanwhile_are_copied_too() {
    let place = Place::empty();
    fill(&place, 60);
    assert_eq!(copy(&place, &[FILE, COPY], 17, Some(8)).code, 99);
    place.track(&["B-1", "B-2"]);
    copy(&place, &[FILE, COPY], 17, None).ok();
    assert_same(&contents_of(&place, FILE), &contents_of(&place, COPY));
}

#[test]
fn a_pool_that_the_copy_did_not_begin_is_refused_before_anything_is_written() {
    let place = Place::empty();
    fill(&place, 60);
    finish(place.command([COPY, "pool", "create", "recent"]), b"").ok();
    let error = copy(&place, &[FILE, COPY], 17, None).error(1);
    assert!(error.contains("\"recent\"") && error.contains("did not begin"), "{error}");
    let store = StoreOptions::new().open(place.path(COPY)).unwrap();
    assert_eq!((store.all_pools().unwrap().len(), store.flows().count()), (1, 0));
    store.close().unwrap();

    // A finished copy is not begun again, either.
    copy(&place, &[FILE, "again.redb"], 17, None).ok();
    place.run(["delete", "orders", "--value", "order 1"]).ok();
    let error = copy(&place, &[FILE, "again.redb"], 17, None).error(1);
    assert!(error.contains("\"orders\"") && error.contains("did not begin"), "{error}");
}

#[test]
fn a_finished_copy_that_is_repeated_has_nothing_left_to_do() {
    let place = Place::empty();
    fill(&place, 60);
    let first = copy(&place, &[FILE, COPY, "--json"], 17, None).json();
    let before = std::fs::read(place.path(COPY)).unwrap();
    let text = copy(&place, &[FILE, COPY], 17, None).ok();
    assert!(text.contains("already copied 4 data pools"), "{text}");
    let again = copy(&place, &[FILE, COPY, "--json"], 17, None).json();
    assert_eq!((&again["records"], &again["added"]), (&first["records"], &json!(0)));
    assert_eq!((&again["flows"], &again["kept"]), (&json!(1), &json!(0)));
    assert_same(&contents_of(&place, FILE), &contents_of(&place, COPY));
    assert_eq!(std::fs::metadata(place.path(COPY)).unwrap().len(), before.len() as u64);

    // Only the same pools with the same records count.
    for change in [
        ["pool", "update", "few", "--capacity", "6"].as_slice(),
        &["pool", "update", "few", "--description", "Another"],
        &["delete", "orders", "--value", "order 2"],
    ] {
        place.run(change.iter().copied()).ok();
        let error = copy(&place, &[FILE, COPY], 17, None).error(1);
        assert!(error.contains("did not begin"), "{change:?}: {error}");
        finish(place.command([COPY].into_iter().chain(change.iter().copied())), b"").ok();
        copy(&place, &[FILE, COPY], 17, None).ok();
    }
}

#[test]
fn a_pool_whose_copy_is_not_finished_says_so_in_its_description() {
    let place = Place::empty();
    fill(&place, 60);
    assert_eq!(copy(&place, &[FILE, COPY], 10, Some(10)).code, 99);
    let list = || finish(place.command([COPY, "pool", "list"]), b"").ok();
    assert!(has_line(&list(), &["orders", "copy not finished"]), "{}", list());
    copy(&place, &[FILE, COPY], 10, None).ok();
    assert!(has_line(&list(), &["orders", "Orders, \"all\""]), "{}", list());
    assert!(!list().contains("not finished"), "{}", list());
}

#[test]
fn pools_of_other_names_and_entries_of_the_destination_stay() {
    let place = Place::empty();
    fill(&place, 60);
    finish(place.command([COPY, "pool", "create", "others"]), b"").ok();
    let store = StoreOptions::new().open(place.path(COPY)).unwrap();
    store.put_flow(Flow::new("shop", "Another shop")).unwrap();
    store.put_flow(Flow::new("tail", "Tail")).unwrap();
    store.close().unwrap();
    let text = copy(&place, &[FILE, COPY], 17, None).ok();
    assert!(text.contains("1 entry that TO already had"), "{text}");
    let store = StoreOptions::new().open(place.path(COPY)).unwrap();
    let names: Vec<String> = store.all_pools().unwrap().map(|row| row.name).collect();
    assert_eq!(names, ["others", "orders", "recent", "few", "empty"]);
    let flows: Vec<String> = store.flows().map(|flow| flow.unwrap().name).collect();
    assert_eq!(flows, ["Another shop", "Tail"]);
}

#[test]
fn a_copy_does_not_go_on_if_its_records_were_deleted_in_the_source() {
    let place = Place::empty();
    fill(&place, 60);
    // After the first slices of "orders".
    assert_eq!(copy(&place, &[FILE, COPY], 10, Some(10)).code, 99);
    place.run(["delete", "orders", "2"]).ok();
    let error = copy(&place, &[FILE, COPY], 10, None).error(1);
    assert!(error.contains("\"orders\"") && error.contains("deleted"), "{error}");
    // Follow the advice of the message.
    finish(place.command([COPY, "pool", "delete", "orders", "--yes"]), b"").ok();
    copy(&place, &[FILE, COPY], 10, None).ok();
    assert_same(&contents_of(&place, FILE), &contents_of(&place, COPY));
}

/// A store whose only pool keeps 60 records for 90 days, and has them; and a copy that died after some.
fn place_with_a_begun_copy() -> Place {
    let place = Place::empty();
    let create = ["pool", "create", "orders", "--capacity", "60", "--retention", "90d"];
    place.run(create).ok();
    for part in 0..6 {
        let values: Vec<String> = (0..10).map(|number| format!("{part}-{number}")).collect();
        place.track(&values.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert_eq!(copy(&place, &[FILE, COPY], 10, Some(14)).code, 99);
    let copied =
        finish(place.command([COPY, "stats", "orders", "--json"]), b"").json()["live"].as_u64().unwrap();
    assert!((20..60).contains(&copied), "{copied}");
    place
}

#[test]
fn a_copy_goes_on_if_its_oldest_records_have_expired_in_the_source() {
    let place = place_with_a_begun_copy();
    place.track(&["B-1", "B-2", "B-3"]);
    copy(&place, &[FILE, COPY], 10, None).ok();
    let contents = contents_of(&place, FILE);
    assert_eq!(contents.len(), 1 + 60);
    assert_same(&contents, &contents_of(&place, COPY));
}

#[test]
fn deleted_records_do_not_pass_for_expired_ones() {
    let changes: [&[&str]; 3] =
        [&["delete", "orders", "5"], &["clear", "orders", "--yes"], &["delete", "orders", "--value", "1-0"]];
    for change in changes {
        let place = place_with_a_begun_copy();
        place.run(change.iter().copied()).ok();
        place.track(&["B-1", "B-2", "B-3"]);
        let error = copy(&place, &[FILE, COPY], 10, None).error(1);
        assert!(error.contains("\"orders\"") && error.contains("deleted"), "{change:?}: {error}");
    }
}

#[test]
fn a_copy_does_not_go_on_if_somebody_else_wrote_to_it() {
    let place = Place::empty();
    fill(&place, 60);
    assert_eq!(copy(&place, &[FILE, COPY], 10, Some(10)).code, 99);
    finish(place.command([COPY, "dedupe", "orders", "--entity-type", "1"]), b"X\n").ok();
    let error = copy(&place, &[FILE, COPY], 10, None).error(1);
    assert!(error.contains("\"orders\"") && error.contains("somebody else"), "{error}");
}

#[test]
fn the_destination_of_an_unfinished_copy_is_no_source() {
    let place = Place::empty();
    fill(&place, 60);
    assert_eq!(copy(&place, &[FILE, COPY], 10, Some(10)).code, 99);
    let error = copy(&place, &[COPY, "third.redb"], 10, None).error(1);
    assert!(error.contains("unfinished copy"), "{error}");
}

#[test]
fn open_claims_are_counted_and_not_copied() {
    let place = Place::new();
    let store = place.open();
    let pool = store.pool_named("orders").unwrap();
    let keys = [Key::new(ORDERS, "A-1")];
    let claim = pool.claim(&keys, Clone::clone, &Origin::none(), DAY).unwrap();
    assert!(claim.into_token().is_some());
    store.close().unwrap();
    let text = copy(&place, &[FILE, COPY], 10, None).ok();
    assert!(text.contains("not copied: results, and 1 open claim\n"), "{text}");
    assert!(text.contains("copied 1 data pool, 0 records"), "{text}");
}

#[test]
fn what_cannot_be_copied_leaves_no_file() {
    let place = Place::empty();
    let error = copy(&place, &[FILE, COPY], 10, None).error(1);
    assert!(error.contains("there is no store at /"), "{error}");
    assert!(place.files().is_empty());
    fill(&place, 10);
    let error = copy(&place, &[FILE, "./pools.redb"], 10, None).error(2);
    assert!(error.contains("FROM and TO are both"), "{error}");
    assert_eq!(place.files(), [FILE]);
}

#[test]
fn copy_names_its_stores_itself() {
    let place = Place::new();
    for arguments in [
        &[FILE, "copy", FILE, COPY][..],
        &["copy", FILE],
        &["copy", FILE, COPY, "--schema", "shop"],
        &["copy", "postgresql://host", COPY, "--to-schema", "shop"],
    ] {
        let answer = finish(place.command(arguments.iter().copied()), b"");
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{arguments:?}: {}", answer.err);
    }
}
