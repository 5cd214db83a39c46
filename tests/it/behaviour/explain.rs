//! Proves that listings use their indexes, by what a query reads: chunks without a match are not read, a page
//! reads only its own records, and each value is looked up once.

use std::collections::BTreeSet;

use datapool_store::{
    EntityType, Flow, FlowRun, FlowStep, ImportOptions, Key, ManualClock, Mode, Origin, Pool, RecordFilter,
    RecordInclude, RecordQuery, RecordSort,
};

use crate::support::{self, Need, clock, options, store_with, track};

/// The number of slots of a segment and of a chunk in [`Sizes::SMALL`].
const SEGMENT: u64 = 64;
const CHUNK: u64 = 16;
const SEGMENTS: u64 = 20;

/// Creates a pool with twenty full segments, all folded except the last. Each run tracks 16 records, which
/// are one chunk. Every 40th run, two in all, belongs to the flow `rare`. Values are numbers, the entity type
/// is the number modulo 4, and each run is one second after the one before.
fn pool() -> (Pool, ManualClock) {
    let clock = clock();
    let store = store_with(Need::Embedded, &options().clock(clock.clone()));
    let pool = store.get_or_create_pool("orders").unwrap();
    for run in 0..SEGMENTS * SEGMENT / CHUNK {
        let flow = if run % 40 == 7 { "rare" } else { "common" };
        let numbers: Vec<u64> = (run * CHUNK..(run + 1) * CHUNK).collect();
        let origin = Origin::new(flow, run, run % 3);
        let key = |number: &u64| Key::new((number % 4) as u32, number.to_string());
        let _ = pool.dedupe(Mode::Track, &numbers, key, &origin).unwrap();
        clock.advance(std::time::Duration::from_secs(1));
    }
    (pool, clock)
}

#[test]
fn three_filters_touch_only_the_chunks_that_can_match() {
    let (pool, _) = pool();
    // Run 47 has the flow rare and step 2 (47 % 3). It is one chunk of segment 11. Every third chunk has step
    // 2. One other chunk has rare.
    let query = RecordQuery::new().flow_id("rare").step_id(2).entity_type_id(3);
    for (sort, rare_passed) in [(RecordSort::Ascending, 1), (RecordSort::Descending, 0)] {
        let query = query.clone().sort(sort);
        let explanation = pool.explain(&query).unwrap();
        assert_eq!(
            (explanation.segments.read, explanation.chunks.read, explanation.total),
            (1, 1, 4),
            "{explanation}"
        );
        let lists = explanation.attributes.iter().flat_map(|attribute| &attribute.lists);
        let (read, passed): (Vec<u64>, Vec<u64>) =
            lists.map(|list| (list.bitmaps_read, list.bitmaps_passed)).unzip();
        assert_eq!(read, [1, 1, 1], "{explanation}");
        // The list of steps leads and reaches a chunk in each segment. From there, the list of rare passes
        // run 7 if that is still ahead, and the list of the type passes nothing.
        assert!((SEGMENTS - 2..=SEGMENTS).contains(&passed[0]), "{explanation}");
        assert_eq!((passed[1], passed[2]), (rare_passed, 0), "{explanation}");
    }

    // A run is in one chunk.
    let query = query.flow_run_id(47);
    let explanation = pool.explain(&query).unwrap();
    assert_eq!(
        (explanation.segments.read, explanation.chunks.read, explanation.total),
        (1, 1, 4),
        "{explanation}"
    );
    assert_eq!(explanation.segments.considered, SEGMENTS);
    assert!(explanation.chunks.considered >= SEGMENTS * SEGMENT / CHUNK - 4, "{explanation}");
    assert_eq!(explanation.records_read, 4, "{explanation}");
    let nothing = pool.explain(&RecordQuery::new().flow_run_id("none").flow_id("common")).unwrap();
    assert_eq!((nothing.chunks.read, nothing.segments.read, nothing.records_read), (0, 0, 0), "{nothing}");
}

/// The value part of a fingerprint depends on the value alone. So one record per entity type is read to
/// compare its value. If the filter names one entity type, the whole fingerprint is looked up and nothing is
/// compared.
#[test]
fn records_are_compared_once_for_each_entity_type_of_a_value() {
    let pool = support::pool_for(Need::Embedded);
    let rows = (0..12).map(|row| format!("A-1,{}\n", row % 3)).collect::<String>();
    pool.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &ImportOptions::new()).unwrap();
    let explain = |query: RecordQuery| {
        let explanation = pool.explain(&query.value("A-1")).unwrap();
        (explanation.unindexed, explanation.total, explanation.records_compared)
    };
    assert_eq!(explain(RecordQuery::new()), (0, 12, 3));
    assert_eq!(explain(RecordQuery::new().entity_type_id(2)), (0, 4, 0));
    assert_eq!(explain(RecordQuery::new().entity_type_id(0).entity_type_id(2)), (0, 8, 3));
    for entity_type in [7, 8] {
        let key = |value: &&'static str| Key::new(entity_type, *value);
        let _ = pool.dedupe(Mode::Track, &["A-1", "A-2"], key, &Origin::none()).unwrap();
    }
    assert_eq!(explain(RecordQuery::new()), (2, 14, 5));
    assert_eq!(explain(RecordQuery::new().entity_type_id(7)), (1, 1, 0));
    assert_eq!(explain(RecordQuery::new().entity_type_id(2).entity_type_id(7)), (2, 5, 4));
}

/// This includes the records of a tail that is being folded.
#[test]
fn records_that_no_index_has_yet_are_counted() {
    let pool = support::pool_for(Need::Embedded);
    let query = RecordQuery::new().flow_id("shop");
    let mut seen = BTreeSet::new();
    for number in 0..60 {
        support::track(&pool, &[format!("A-{number}"), format!("B-{number}")]);
        let unindexed = pool.explain(&query).unwrap().unindexed;
        assert_eq!(unindexed, pool.stats().unwrap().unfolded, "{number}");
        seen.insert(unindexed);
    }
    assert!(seen.last() > Some(&16), "there were never two tails at once: {seen:?}");
}

#[test]
fn any_filters_read_exactly_the_chunks_that_all_of_them_have() {
    type HasRun = fn(u64) -> bool;
    let cases: [(&str, HasRun); 7] = [
        ("filter[flow_id]=rare,none", |run| run % 40 == 7),
        ("filter[step_id]=1,2&filter[flow_id]=rare", |run| run % 40 == 7 && run % 3 > 0),
        ("filter[flow_run_id]=3,30,47,48&filter[step_id]=0", |run| [3, 30, 48].contains(&run)),
        ("filter[flow_run_id]=3,30,47,48&filter[flow_id]=rare,common&filter[step_id]=2", |run| run == 47),
        ("filter[step_id]=0,2&filter[entity_type_id]=0,9", |run| run % 3 != 1),
        ("filter[flow_id]=none&filter[entity_type_id]=1", |_| false),
        ("filter[value]=112&filter[flow_id]=common&filter[entity_type_id]=0", |_| false),
    ];
    let (pool, _) = pool();
    for (filters, has) in cases {
        for sort in [RecordSort::Ascending, RecordSort::Descending] {
            let query = filters.parse::<RecordQuery>().unwrap().sort(sort);
            let explanation = pool.explain(&query).unwrap();
            // Each run is a chunk. Those at the end are not indexed yet.
            let indexed = SEGMENTS * SEGMENT - explanation.unindexed;
            let chunks: Vec<u64> = (0..indexed / CHUNK).filter(|run| has(*run)).collect();
            let segments: BTreeSet<u64> = chunks.iter().map(|chunk| chunk * CHUNK / SEGMENT).collect();
            let read = (explanation.segments.read, explanation.chunks.read);
            assert_eq!(read, (segments.len() as u64, chunks.len() as u64), "{explanation}");
        }
    }
}

#[test]
fn a_time_window_leaves_the_segments_outside_it_alone() {
    let (pool, clock) = pool();
    let end = clock.now().saturating_add(std::time::Duration::ZERO);
    let start = crate::support::time("2013-01-01T00:00:40Z");
    let query = RecordQuery::new()
        .entity_type_id(1)
        .created_after(start)
        .created_before(end)
        .created_before(crate::support::time("2013-01-01T00:00:44Z"));
    let explanation = pool.explain(&query).unwrap();
    // These are runs 41, 42 and 43 in segment 10.
    assert_eq!(
        (explanation.total, explanation.segments.read, explanation.chunks.read),
        (12, 1, 3),
        "{explanation}"
    );
    assert_eq!(explanation.ids, (41 * CHUNK + 1).into()..(44 * CHUNK + 1).into());
}

#[test]
fn a_page_from_the_middle_reads_only_its_own_records() {
    let (pool, _) = pool();
    for query in
        ["page=64&per_page=10", "sort=-id&page=30&per_page=10", "filter[flow_id]=common&page=60&per_page=10"]
    {
        let query: RecordQuery = query.parse().unwrap();
        let explanation = pool.explain(&query).unwrap();
        assert_eq!(explanation.records_read, 10, "{explanation}");
    }
    let all = pool.explain(&RecordQuery::new().page(64).per_page(10)).unwrap();
    assert_eq!((all.chunks.read, all.unindexed, all.total), (0, 0, SEGMENTS * SEGMENT), "{all}");
}

/// This holds for any number of segments.
#[test]
fn a_value_is_sought_once_in_the_tables_whose_filters_know_it() {
    let (pool, _) = pool();
    for query in [RecordQuery::new().value("700"), RecordQuery::new().value("700").entity_type_id(0)] {
        let is_exact = query != RecordQuery::new().value("700");
        let explanation = pool.explain(&query).unwrap();
        assert_eq!((explanation.total, explanation.chunks.read), (1, 1), "{explanation}");
        let asked = explanation.value_seeks + explanation.value_seeks_saved;
        assert!(asked > 1 && asked < 40, "{explanation}");
        // The filter of another table may give a false positive.
        assert!((1..4).contains(&explanation.value_seeks), "{explanation}");
        assert_eq!(explanation.records_compared, u64::from(!is_exact), "{explanation}");
        assert_eq!(explanation.unindexed, 0, "{explanation}");
    }
    // One lookup covers all entity types.
    let pairs: RecordQuery = "filter[value]=700&filter[entity_type_id]=0,1,2".parse().unwrap();
    let one = pool.explain(&RecordQuery::new().value("700").entity_type_id(0)).unwrap();
    let three = pool.explain(&pairs).unwrap();
    let asked =
        |explanation: &datapool_store::Explanation| explanation.value_seeks + explanation.value_seeks_saved;
    assert_eq!((three.total, asked(&three)), (1, asked(&one)), "{three}");
}

#[test]
fn a_term_that_is_repeated_is_asked_for_once() {
    let (pool, _) = pool();
    for (repeated, once) in [
        ("filter[flow_id]=rare,rare,none,rare", "filter[flow_id]=rare,none"),
        ("filter[flow_run_id]=47,47&filter[step_id]=2,2", "filter[flow_run_id]=47&filter[step_id]=2"),
        ("filter[entity_type_id]=3,1,3", "filter[entity_type_id]=3,1"),
        ("filter[value][]=700&filter[value][]=700", "filter[value]=700"),
        (
            "filter[value][]=700&filter[value][]=700&filter[entity_type_id]=0,1,0",
            "filter[value]=700&filter[entity_type_id]=0,1",
        ),
    ] {
        let explain = |text: &str| {
            let mut explanation = pool.explain(&text.parse().unwrap()).unwrap();
            explanation.query.clear();
            explanation
        };
        assert_eq!(explain(repeated), explain(once), "{repeated}");
    }
}

#[test]
fn includes_are_looked_up_once_for_each_distinct_id() {
    let store = store_with(Need::Embedded, &options());
    let pool = store.get_or_create_pool("orders").unwrap();
    track(&pool, &(0..50).map(|n| format!("v{n}")).collect::<Vec<_>>());
    let key = |value: &String| Key::new(47, value.clone());
    let origin = Origin::new("till", "run 2", "read orders");
    let values: Vec<String> = (0..50).map(|n| format!("v{n}")).collect();
    let _ = pool.dedupe(Mode::Track, &values, key, &origin).unwrap();
    let query = RecordQuery::new().per_page(100).include(RecordInclude::ALL);
    let lookups = |query: &RecordQuery| pool.explain(query).unwrap().includes_read;
    // Nothing is registered, so only the pool can be looked up.
    assert_eq!(lookups(&query), 1);
    store.put_flow(Flow::new("shop", "Shop")).unwrap();
    assert_eq!(lookups(&query), 1 + 2);
    store.put_entity_type(EntityType::new(37, "Orders")).unwrap();
    store.put_flow_run(FlowRun::new("run 1", "First")).unwrap();
    store.put_flow_step(FlowStep::new("read orders", "Read")).unwrap();
    // A hundred records have two flows, runs and entity types each, one step and one pool.
    assert_eq!(lookups(&query), 2 + 2 + 2 + 1 + 1);
    assert_eq!(lookups(&query.clone().per_page(50)), 5);
    assert_eq!(lookups(&RecordQuery::new().per_page(100)), 0);
}

#[test]
fn what_it_counts_adds_up_and_prints() {
    let (pool, _) = pool();
    track(&pool, &["unindexed"]);
    let query: RecordQuery =
        "filter[flow_id]=common,shop&filter[value][]=3&filter[value][]=unindexed".parse().unwrap();
    let explanation = pool.explain(&query).unwrap();
    for blocks in [explanation.segments, explanation.chunks] {
        assert_eq!(blocks.considered, blocks.skipped + blocks.read);
    }
    assert_eq!(explanation.total, pool.records(&query).unwrap().meta.total);
    let text = explanation.to_string();
    for part in
        [&*query.to_string(), "segments  ", "flow_id shop: ", "entries looked at in memory", "2 match"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(pool.count(&RecordFilter::new().value("3").value("unindexed")).unwrap(), 2);
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["segments"]["considered"], serde_json::json!(explanation.segments.considered));
}
