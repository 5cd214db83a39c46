//! Proves that pages serialize exactly as in the HTTP API. Golden files in `tests/data/pages` have a page of
//! each kind. For an intended change, `DATAPOOL_BLESS=1` writes them again; review the difference.

use std::path::Path;

use datapool_store::{
    DataPoolStore, EntityType, Flow, FlowStep, ImportOptions, Key, Mode, NewPool, Origin, Page, Pool,
    PoolQuery, RecordQuery,
};
use serde::Serialize;

use crate::support::{clock, options};

/// Creates a store whose every byte is known: three pools, one with tracked and imported records, and some
/// registered ids.
fn store() -> (DataPoolStore, Pool) {
    let clock = clock();
    let store = options().clock(clock.clone()).open_in_memory().unwrap();
    let pool = store.create_pool(NewPool::new("Shop orders").description("Seen since \"2013\"")).unwrap();
    for name in ["customers", "products"] {
        clock.advance(std::time::Duration::from_secs(1));
        store.create_pool(NewPool::new(name)).unwrap();
    }
    clock.advance(std::time::Duration::from_micros(1_500_001));
    let key = |value: &&'static str| Key::new(37, *value);
    let origin = Origin::new(12, "run-1", "read orders");
    let _ = pool.dedupe(Mode::Track, &["A-1", "a \"quoted\" ü", "A-3"], key, &origin).unwrap();
    let _ = pool.dedupe(Mode::Track, &["A-4"], key, &Origin::new(13, "run-2", "read orders")).unwrap();
    pool.import_csv("value,entity_type_id\nA-5,47\n".as_bytes(), &ImportOptions::new()).unwrap();

    let attributes = serde_json::json!({"active": true, "tags": ["a", 1.5, null]});
    store.put_flow(Flow::new(12, "Shop to ERP").attributes(attributes)).unwrap();
    store.put_flow_step(FlowStep::new("read orders", "Read orders")).unwrap();
    store.put_entity_type(EntityType::new(37, "Orders")).unwrap();
    (store, pool)
}

fn assert_golden<T>(name: &str, page: &Page<T>)
where
    T: Serialize + serde::de::DeserializeOwned + Clone + PartialEq + std::fmt::Debug,
{
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/pages/{name}.json"));
    let text = serde_json::to_string_pretty(page).unwrap() + "\n";
    if std::env::var_os("DATAPOOL_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
    // A client reads back what the store had answered, except for what is not serialized.
    let read: Page<T> = serde_json::from_str(&text).unwrap();
    let mut sent = page.clone();
    sent.next_cursor = None;
    assert_eq!(read, sent, "{}", path.display());
}

#[test]
fn pages_of_records_are_what_the_golden_files_hold() {
    let (_store, pool) = store();
    for (name, query) in [
        ("records", ""),
        ("records-middle", "filter[entity_type_id]=37&sort=-created_at&page=2&per_page=2"),
        ("records-includes", "include=flow,flowRun,flowStep,entityType,dataPool"),
        ("records-some-includes", "include=flow,entityType&filter[value]=A-4"),
        ("records-none", "filter[flow_id]=99"),
        ("records-past-the-end", "page=7&per_page=2"),
        ("records-cursor", "cursor=2&per_page=2"),
    ] {
        assert_golden(name, &pool.records(&query.parse::<RecordQuery>().unwrap()).unwrap());
    }
}

#[test]
fn pages_over_http_are_what_the_golden_files_hold() {
    let (store, pool) = store();
    let page = pool.records(&"sort=-id&page=2&per_page=1".parse().unwrap()).unwrap();
    let url = format!("https://example.com/api/v1/data-pool/{}/deduped-data", pool.id());
    assert_golden("records-over-http", &page.with_base_url(&url));
    let page = store.pools(&"filter[name]=shop".parse().unwrap()).unwrap();
    assert_golden("pools-over-http", &page.with_base_url("https://example.com/api/v1/data-pool"));
}

#[test]
fn pages_of_pools_are_what_the_golden_files_hold() {
    let (store, _) = store();
    for (name, query) in [
        ("pools", ""),
        ("pools-middle", "sort=-created_at&page=2&per_page=1&include=name"),
        ("pools-none", "filter[name]=nobody"),
    ] {
        assert_golden(name, &store.pools(&query.parse::<PoolQuery>().unwrap()).unwrap());
    }
}

#[test]
fn the_cursor_is_not_part_of_the_page() {
    let (_store, pool) = store();
    let page = pool.records(&RecordQuery::new().per_page(1)).unwrap();
    assert!(page.next_cursor.is_some());
    let json = serde_json::to_value(&page).unwrap();
    let fields: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["data", "links", "meta"]);
}

#[test]
fn the_links_of_a_page_are_absolute_once_it_has_its_url() {
    let (store, _pool) = store();
    let url = "https://example.com/api/v1/data-pool";
    let page = store.pools(&"page=2&per_page=1&sort=-created_at".parse::<PoolQuery>().unwrap()).unwrap();
    let absolute = page.clone().with_base_url(url);
    assert_eq!((page.meta.path, absolute.meta.path), (None, Some(url.to_owned())));
    for (link, absolute) in [
        (Some(page.links.first), Some(absolute.links.first)),
        (Some(page.links.last), Some(absolute.links.last)),
        (page.links.prev, absolute.links.prev),
        (page.links.next, absolute.links.next),
    ] {
        assert_eq!(absolute.unwrap(), format!("{url}{}", link.unwrap()));
    }
    let only = store.pools(&PoolQuery::new()).unwrap().with_base_url(url);
    assert_eq!((only.links.prev, only.links.next), (None, None));
}

#[test]
fn a_page_is_a_list_of_its_items() {
    let (_store, pool) = store();
    let page = pool.records(&RecordQuery::new().per_page(3)).unwrap();
    assert_eq!((page[0].value.as_str(), &page[2]), ("A-1", &page.data[2]));
    assert!(std::panic::catch_unwind(|| page[3].value.clone()).is_err());
    let mut borrowed = Vec::new();
    for record in &page {
        borrowed.push(record.clone());
    }
    assert_eq!((&borrowed, page.iter().len()), (&page.data, 3));
    assert_eq!(page.into_iter().collect::<Vec<_>>(), borrowed);
}
