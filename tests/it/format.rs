//! Proves that a file of each released format can be opened, and has the same answers as when it was written.
//!
//! `tests/data/format-5.redb` was written once by version 0.1.0 of the crate, and is never written again
//! after that release, so code that reads it wrongly is wrong. It was filled by [`fill`], at the time of
//! [`support::clock`], then compacted and closed. A new store is filled in the same way, and both must have
//! the same answers. Files of unknown formats are refused, including formats 1 to 4, which were never
//! released: see the tests of `engine::open`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    Access, ClaimOptions, ClaimToken, ClaimVerdict, DataPoolStore, EntityType, Flow, ImportOptions, Key,
    ManualClock, Mode, NewPool, Origin, Pool, PoolQuery, RecordFilter, RecordInclude, RecordQuery,
    StoreOptions,
};

use crate::support::{self, CUSTOMERS, Need, ORDERS, store_with};

const PRODUCTS: u32 = 54;
const MINUTE: Duration = Duration::from_mins(1);

pub(crate) fn fixture() -> PathBuf {
    support::data("format-5.redb")
}

pub(crate) fn token_file() -> PathBuf {
    fixture().with_extension("token.json")
}

pub(crate) fn options(clock: &ManualClock) -> StoreOptions {
    support::options().clock(clock.clone())
}

/// Fills a store with everything that a file can contain: pools with and without a policy; records with and
/// without origins and versions; repeats; deletions; expired, evicted and replaced records; folded and
/// unfolded ones; stubs; results; sealed segments; claims on new and on changed items; and registered
/// entries.
fn fill(store: &DataPoolStore, clock: &ManualClock) -> ClaimToken {
    let orders = store.create_pool(NewPool::new("orders").description("all that was ordered")).unwrap();
    for batch in 0..12_u32 {
        clock.advance(Duration::from_hours(1));
        let values: Vec<String> = (0..20).map(|number| format!("A-{}", batch * 15 + number)).collect();
        let origin = Origin::new(
            format!("flow {}", batch % 3).as_str(),
            format!("run {batch}").as_str(),
            format!("step {}", batch % 2).as_str(),
        );
        let entity_type = if batch % 4 == 3 { CUSTOMERS } else { ORDERS };
        let _ = orders.dedupe(Mode::Track, &values, |v| Key::new(entity_type, v), &origin).unwrap();
    }
    let rows: String =
        (0..90).map(|number| format!("A-{},37\n\"with, comma {number}\",47\n", number * 2)).collect();
    orders.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &ImportOptions::new()).unwrap();
    orders.delete_keys(&[Key::new(ORDERS, "A-4"), Key::new(CUSTOMERS, "with, comma 7")]).unwrap();
    orders.delete_records([1, 30, 31]).unwrap();
    clock.advance(Duration::from_mins(1));
    support::track(&orders, &["straße", "東京", "🦀"]);

    let recent =
        store.create_pool(NewPool::new("recent").retention(Duration::from_hours(2)).capacity(50)).unwrap();
    for batch in 0..6 {
        clock.advance(Duration::from_mins(30));
        let values: Vec<String> = (0..25).map(|number| format!("R-{batch}-{number}")).collect();
        support::track(&recent, &values);
    }
    let capped = store.create_pool(NewPool::new("capped").capacity(10)).unwrap();
    support::track(&capped, &(0..30).map(|number| format!("C-{number}")).collect::<Vec<_>>());
    let gone = store.create_pool(NewPool::new("gone for good")).unwrap();
    support::track(&gone, &["G-1"]);
    store.delete_pool(gone.id()).unwrap();

    // From here on, the earlier dead records are stubs.
    let of_order = |value: &&'static str| Key::new(ORDERS, *value);
    let mut answered = orders.claim(&["W-1", "W-2"], of_order, &support::origin(), MINUTE).unwrap();
    answered.confirm_with(|index| Some(format!("201 Created: {index}"))).unwrap().all_confirmed().unwrap();
    store.vacuum().unwrap();
    assert_eq!(orders.delete_keys(&[Key::new(ORDERS, "W-2")]).unwrap(), 1);

    let products = store.create_pool(NewPool::new("products")).unwrap();
    for night in 0..4_i64 {
        let of_night = |number: &i64| product(*number, if number % 3 == 0 { night } else { 0 });
        let _ = products.dedupe(Mode::Track, &numbers(), of_night, &support::origin()).unwrap();
    }
    let rows =
        "value,entity_type_id,version\nP-1,54,o:7\nP-2,54,c:000102030405060708090a0b0c0d0e0f\nP-2,54,\n";
    products.import_csv(rows.as_bytes(), &ImportOptions::new().version_column("version")).unwrap();
    let changed = |number: &i64| product(*number, 9);
    let held = products.claim(&[3, 4, 5], changed, &support::origin(), Duration::from_hours(24)).unwrap();
    assert!(held.into_token().is_some());

    store.put_flow(Flow::new("flow 1", "The first").attributes(serde_json::json!({"owner": "ops"}))).unwrap();
    store.put_entity_type(EntityType::new(ORDERS, "Orders")).unwrap();
    let lease = Duration::from_hours(24);
    let owned = ClaimOptions::new().lease(lease).owner("worker-7");
    let mut settled =
        orders.claim_with(&["S-1", "S-2"], |v| Key::new(ORDERS, *v), &support::origin(), &owned).unwrap();
    let _ = settled.confirm_items(&[0]).unwrap();
    assert!(settled.into_token().is_some());
    // The second item is already tracked.
    let batch = ["O-1", "with, comma 1", "O-2"];
    let open = orders.claim(&batch, |v| Key::new(CUSTOMERS, *v), &support::origin(), lease).unwrap();
    open.into_token().unwrap()
}

fn numbers() -> Vec<i64> {
    (0..40).collect()
}

/// Returns the key of a product. Even numbers have ordinals, and odd ones have contents.
fn product(number: i64, version: i64) -> Key<'static> {
    let key = Key::new(PRODUCTS, format!("P-{number}"));
    if number % 2 == 0 { key.ordinal(version) } else { key.content(version.to_le_bytes()) }
}

/// Returns the answers of a store, from every way that reads another part of the file.
pub(crate) fn answers(store: &DataPoolStore) -> Vec<String> {
    let mut answers = vec![format!("{:?}", store.pools(&PoolQuery::new()).unwrap().data)];
    for row in store.pools(&PoolQuery::new()).unwrap().data {
        let pool = store.pool(row.id).unwrap();
        answers.extend(answers_of(&pool));
    }
    answers.push(format!("{:?}", store.flow("flow 1").unwrap()));
    answers.push(format!("{:?}", store.entity_type(ORDERS).unwrap()));
    answers
}

fn answers_of(pool: &Pool) -> Vec<String> {
    let records = support::records(pool);
    let mut answers: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
    for record in &records {
        let key = Key::new(record.entity_type_id, record.value.as_str());
        answers.push(format!("{:?}", pool.lookup(&[key]).unwrap()[0].as_ref().map(|first| first.id.get())));
        answers.push(format!("{:?}", pool.contains(record.key()).unwrap()));
        answers.push(format!("{:?}", pool.result(record.id).unwrap()));
    }
    for version in [0, 3, 4, 9] {
        let verdicts = pool
            .dedupe(Mode::Filter, &numbers(), |number| product(*number, version), &Origin::none())
            .unwrap();
        answers.push(format!("{verdicts:?}"));
    }
    let half = support::time("2013-01-01 06:30:00");
    for filter in [
        RecordFilter::new().flow_id("flow 1"),
        RecordFilter::new().flow_run_id("run 5").step_id("step 1"),
        RecordFilter::new().entity_type_id(CUSTOMERS),
        RecordFilter::new().value("A-60"),
        RecordFilter::new().created_after(half),
        RecordFilter::new().created_before(half).entity_type_id(ORDERS),
    ] {
        let query =
            RecordQuery::new().filter(filter).include([RecordInclude::Flow, RecordInclude::EntityType]);
        answers.push(serde_json::to_string(&pool.records(&query).unwrap()).unwrap());
    }
    answers.push(format!("{:?}", pool.claims().unwrap()));
    let stats = pool.stats().unwrap();
    answers.push(format!("{} {:?} {:?}", stats.live, stats.oldest, stats.newest));
    answers
}

#[test]
fn a_file_of_format_5_answers_as_it_did() {
    let clock = support::clock();
    let store = store_with(Need::Clock, &options(&clock));
    fill(&store, &clock);
    let expected = answers(&store);
    // Counted by hand, in case both are wrong in the same way: twelve overlapping batches have 210 values,
    // then 180 rows, 6 deleted and 5 more.
    let orders = store.pool_named("orders").unwrap();
    assert_eq!(orders.stats().unwrap().live, 210 + 180 - 6 + 5);
    assert_eq!(store.pool_named("recent").unwrap().stats().unwrap().live, 50);
    let answer = orders.results(&[Key::new(ORDERS, "W-1"), Key::new(ORDERS, "W-2")]).unwrap();
    assert_eq!(answer, [Some(b"201 Created: 0".to_vec()), None]);
    let products = store.pool_named("products").unwrap().stats().unwrap();
    // Of 40, each third was replaced three times. Three rows of an import come in addition.
    assert_eq!((products.live, products.live + products.expired + products.deleted), (43, 40 + 3 * 14 + 3));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.redb");
    fs::copy(fixture(), &path).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let old = support::embedded::open(&path, &options(&clock).access(access), Sizes::SMALL).unwrap();
        let found = answers(&old);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{access:?}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn a_file_of_format_5_is_sound_and_goes_on() {
    let clock = support::clock();
    let store = store_with(Need::Clock, &options(&clock));
    fill(&store, &clock);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.redb");
    fs::copy(fixture(), &path).unwrap();
    let old = support::embedded::open(&path, &options(&clock), Sizes::SMALL).unwrap();
    assert_eq!(old.verify().unwrap().findings, []);
    let token: ClaimToken = serde_json::from_str(&fs::read_to_string(token_file()).unwrap()).unwrap();
    let mut claim = old.resume_claim(&token).unwrap();
    assert_eq!(claim.verdicts(), [(0, ClaimVerdict::Claimed), (2, ClaimVerdict::Claimed)]);
    let fence = claim.fencing_number().unwrap();
    claim.confirm().unwrap().all_confirmed().unwrap();
    let orders = old.pool_named("orders").unwrap();
    assert!(orders.contains(Key::new(CUSTOMERS, "O-2")).unwrap());
    let resumed = orders.resume_claims_of("worker-7").unwrap();
    let keys: Vec<_> = resumed[0].keys().map(|(index, key)| (index, key.value().to_owned())).collect();
    assert_eq!(keys, [(1, "S-2".to_owned())]);
    assert!(resumed[0].fencing_number().unwrap() > fence);
    assert_eq!(support::track(&orders, &["A-4", "A-60", "new"]), 2);
    assert_eq!(old.create_pool(NewPool::new("another")).unwrap().id().get(), 6, "ids are never given again");
    old.rebuild_indexes().unwrap();
    assert_eq!(old.verify().unwrap().findings, []);
}
