//! Proves that queries, filters, options, policies and reports deserialize from their serialized form, and
//! that the calls that take them check their values.

use crate::support::Need;
use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use datapool_store::{
    Access, BackupReport, CellQuoting, ClaimFilter, ClaimInfo, ClaimOptions, CompactReport, Cursor, Error,
    ErrorKind, Explanation, ExportColumns, ExportOptions, ExportReport, IfMissing, ImportOptions,
    ImportReport, Key, Mode, NewPool, OnBadRow, OnDuplicate, Origin, Pool, PoolInclude, PoolQuery, PoolSort,
    PoolStats, PoolUpdate, PruneReport, RebuildReport, RecordFilter, RecordInclude, RecordQuery, RecordSort,
    Recovery, StoreStats, Timestamp, VacuumReport, VerifyReport,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json, to_value};

use crate::support;

/// Serializes a value to JSON and back.
fn through_json<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    assert_eq!(through_json(value), *value);
}

/// Checks that each choice parses from its word, as text and in JSON, and that another word is refused with a
/// list of the allowed ones.
fn has_words<T>(choices: &[T], words: &[&str])
where
    T: Copy + PartialEq + Debug + Display + FromStr<Err = Error> + Serialize + DeserializeOwned,
{
    assert_eq!(choices.iter().map(T::to_string).collect::<Vec<_>>(), words);
    for (choice, word) in choices.iter().zip(words) {
        assert_eq!(word.parse::<T>().unwrap(), *choice);
        assert_eq!(to_value(choice).unwrap(), json!(word));
        reads_back(choice);
        assert_eq!(format!("{choice:>20}"), format!("{word:>20}"));
    }
    for other in ["", "Filter", "fail ", "x"] {
        let error = other.parse::<T>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().ends_with(&format!("allowed are {}", words.join(", "))), "{error}");
        assert_eq!(from_value::<T>(json!(other)).unwrap_err().to_string(), error.to_string());
    }
}

#[test]
fn choices_are_words() {
    has_words(&Mode::ALL, &["filter", "track", "filter-and-track"]);
    has_words(&OnDuplicate::ALL, &["add", "skip", "fail"]);
    has_words(&OnBadRow::ALL, &["fail", "skip"]);
    has_words(&ExportColumns::ALL, &["importable", "full"]);
    has_words(&CellQuoting::ALL, &["exact", "spreadsheet-safe"]);
    has_words(&RecordSort::ALL, &["created_at", "-created_at"]);
    has_words(&PoolSort::ALL, &["id", "created_at", "-created_at"]);
    has_words(&RecordInclude::ALL, &["flow", "flowRun", "flowStep", "entityType", "dataPool"]);
    has_words(&PoolInclude::ALL, &["name", "description"]);
    has_words(&Access::ALL, &["read-write", "read-only"]);
    has_words(&IfMissing::ALL, &["create", "fail"]);
    has_words(&Recovery::ALL, &["rebuild", "instant"]);
}

fn record_filters() -> impl Strategy<Value = RecordFilter> {
    let ids = || vec(".{0,5}", 0..3);
    let times = || option::of(any::<i64>().prop_map(Timestamp::from_micros));
    let terms = (ids(), ids(), ids(), vec(any::<u32>(), 0..3), ids(), times(), times());
    (terms, any::<bool>()).prop_map(|((flows, runs, steps, types, values, after, before), is_all)| {
        let mut filter = if is_all { RecordFilter::all() } else { RecordFilter::new() };
        filter = flows.into_iter().fold(filter, RecordFilter::flow_id);
        filter = runs.into_iter().fold(filter, RecordFilter::flow_run_id);
        filter = steps.into_iter().fold(filter, RecordFilter::step_id);
        filter = types.into_iter().fold(filter, RecordFilter::entity_type_id);
        filter = values.into_iter().fold(filter, RecordFilter::value);
        filter = after.into_iter().fold(filter, RecordFilter::created_after);
        before.into_iter().fold(filter, RecordFilter::created_before)
    })
}

fn record_queries() -> impl Strategy<Value = RecordQuery> {
    let includes = proptest::sample::subsequence(RecordInclude::ALL.to_vec(), 0..=RecordInclude::ALL.len());
    let sorts = proptest::sample::select(RecordSort::ALL.to_vec());
    let cursors = option::of(any::<u64>().prop_map(|id| id.to_string().parse::<Cursor>().unwrap()));
    (record_filters(), sorts, includes, any::<(u64, u32)>(), cursors).prop_map(
        |(filter, sort, include, (page, per_page), cursor)| {
            let query =
                RecordQuery::new().filter(filter).sort(sort).include(include).page(page).per_page(per_page);
            cursor.into_iter().fold(query, RecordQuery::cursor)
        },
    )
}

fn pool_queries() -> impl Strategy<Value = PoolQuery> {
    let includes = proptest::sample::subsequence(PoolInclude::ALL.to_vec(), 0..=PoolInclude::ALL.len());
    let sorts = proptest::sample::select(PoolSort::ALL.to_vec());
    let terms = (vec(any::<u64>(), 0..3), vec(".{0,5}", 0..3), vec(".{0,5}", 0..3));
    (terms, sorts, includes, any::<(u64, u32)>()).prop_map(
        |((ids, names, terms), sort, include, (page, per_page))| {
            let query = PoolQuery::new().sort(sort).include(include).page(page).per_page(per_page);
            let query = ids.into_iter().fold(query, PoolQuery::id);
            let query = names.into_iter().fold(query, PoolQuery::name);
            terms.into_iter().fold(query, PoolQuery::id_or_name)
        },
    )
}

/// Generates durations that a number of seconds represents to the microsecond.
fn durations() -> impl Strategy<Value = Duration> {
    (0..1_u64 << 52).prop_map(Duration::from_micros)
}

fn claim_filters() -> impl Strategy<Value = ClaimFilter> {
    let texts = || option::of(".{0,5}");
    (option::of(any::<u64>()), texts(), texts(), texts(), option::of(durations()), any::<bool>()).prop_map(
        |(id, owner, flow, run, age, lapsed)| {
            let filter = id.into_iter().fold(ClaimFilter::new(), ClaimFilter::id);
            let filter = owner.into_iter().fold(filter, ClaimFilter::owner);
            let filter = flow.into_iter().fold(filter, ClaimFilter::flow_id);
            let filter = run.into_iter().fold(filter, ClaimFilter::flow_run_id);
            let filter = age.into_iter().fold(filter, ClaimFilter::older_than);
            if lapsed { filter.lapsed() } else { filter }
        },
    )
}

fn pool_updates() -> impl Strategy<Value = PoolUpdate> {
    let retentions = option::of(option::of(durations()));
    let capacities = option::of(option::of(any::<u64>()));
    (option::of(".{0,5}"), option::of(option::of(".{0,5}")), retentions, capacities).prop_map(
        |(name, description, retention, capacity)| {
            let mut update = PoolUpdate::new();
            update = name.into_iter().fold(update, PoolUpdate::name);
            update = match description {
                None => update,
                Some(None) => update.clear_description(),
                Some(Some(text)) => update.description(text),
            };
            update = match retention {
                None => update,
                Some(None) => update.clear_retention(),
                Some(Some(retention)) => update.retention(retention),
            };
            match capacity {
                None => update,
                Some(None) => update.clear_capacity(),
                Some(Some(records)) => update.capacity(records),
            }
        },
    )
}

proptest! {
    #[test]
    fn queries_filters_and_options_read_back(
        record_query in record_queries(),
        pool_query in pool_queries(),
        claim_filter in claim_filters(),
        update in pool_updates(),
        (lease, owner) in (durations(), option::of(".{0,5}")),
        ids in vec(option::of(".{0,5}"), 3),
    ) {
        prop_assert_eq!(through_json(&record_query), record_query.clone());
        prop_assert_eq!(through_json(&record_query.clone().into_filter()), record_query.into_filter());
        prop_assert_eq!(through_json(&pool_query), pool_query);
        prop_assert_eq!(through_json(&claim_filter), claim_filter);
        prop_assert_eq!(through_json(&update), update);
        let options = owner.iter().fold(ClaimOptions::new().lease(lease), ClaimOptions::owner);
        prop_assert_eq!(through_json(&options), options);
        let new = NewPool::new("orders").retention(lease).capacity(lease.subsec_micros().into());
        prop_assert_eq!(through_json(&new), new);
        let origin = ids[0].iter().fold(Origin::none(), Origin::with_flow);
        let origin = ids[1].iter().fold(origin, Origin::with_run);
        let origin = ids[2].iter().fold(origin, Origin::with_step);
        prop_assert_eq!(through_json(&origin), origin);
    }
}

#[test]
fn a_query_in_a_programs_settings_needs_only_what_differs() {
    let settings = json!({
        "filter": {"flow_id": ["12", "13"], "entity_type_id": [37], "created_after": "2013-01-31"},
        "sort": "-created_at",
        "include": ["flowRun"],
        "per_page": 50,
    });
    let built = RecordQuery::new().flow_id(12).flow_id(13).entity_type_id(37);
    let built = built.created_after(support::time("2013-01-31")).include([RecordInclude::FlowRun]);
    assert_eq!(from_value::<RecordQuery>(settings).unwrap(), built.sort(RecordSort::Descending).per_page(50));
    assert_eq!(from_value::<RecordQuery>(json!({})).unwrap(), RecordQuery::new());
    assert_eq!(from_value::<RecordFilter>(json!({})).unwrap(), RecordFilter::new());
    assert_eq!(from_value::<PoolQuery>(json!({})).unwrap(), PoolQuery::new());
    assert_eq!(from_value::<ClaimFilter>(json!({})).unwrap(), ClaimFilter::new());
    assert_eq!(from_value::<ClaimOptions>(json!({})).unwrap(), ClaimOptions::new());
    let by_name = from_value::<PoolQuery>(json!({"filter": {"name": ["shop"], "id": [1]}})).unwrap();
    assert_eq!(by_name, PoolQuery::new().name("shop").id(1));
}

#[test]
fn what_is_misspelt_is_refused_and_widens_nothing() {
    assert!(from_value::<RecordFilter>(json!({"flow": ["12"]})).is_err());
    assert!(from_value::<RecordQuery>(json!({"filter": {"flowId": ["12"]}})).is_err());
    assert!(from_value::<RecordQuery>(json!({"filters": {}})).is_err());
    assert!(from_value::<RecordQuery>(json!({"sort": "created"})).is_err());
    assert!(from_value::<PoolQuery>(json!({"filter": {"names": []}})).is_err());
    assert!(from_value::<PoolQuery>(json!({"cursor": "1"})).is_err());
    assert!(from_value::<ClaimFilter>(json!({"older-than": 5})).is_err());
    assert!(from_value::<ClaimOptions>(json!({"leases": 5})).is_err());
    for seconds in [json!(-1), json!(1e300), json!("1")] {
        assert!(from_value::<ClaimFilter>(json!({"older_than": seconds})).is_err());
        assert!(from_value::<ClaimOptions>(json!({"lease": seconds})).is_err());
        assert!(from_value::<NewPool>(json!({"name": "orders", "retention": seconds})).is_err());
    }
}

#[test]
fn what_is_deserialized_is_checked_by_the_call() {
    let store = support::store_for(Need::Any);
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    let kind = |error: Error| error.kind();
    for bad in [json!({"page": 0}), json!({"per_page": 0}), json!({"per_page": 101})] {
        let of_records: RecordQuery = from_value(bad.clone()).unwrap();
        assert_eq!(pool.records(&of_records).map_err(kind).unwrap_err(), ErrorKind::InvalidQuery);
        assert_eq!(pool.explain(&of_records).map_err(kind).unwrap_err(), ErrorKind::InvalidQuery);
        let of_pools: PoolQuery = from_value(bad).unwrap();
        assert_eq!(store.pools(&of_pools).map(drop).map_err(kind), Err(ErrorKind::InvalidQuery));
        assert_eq!(
            store.find_pool(pool.id(), &of_pools).map(drop).map_err(kind),
            Err(ErrorKind::InvalidQuery)
        );
    }
    let many = vec!["x"; 100_000];
    for bad in [
        json!({"flow_id": ["a,b"]}),
        json!({"value": [""]}),
        json!({"value": many}),
        json!({"step_id": [""]}),
    ] {
        let filter: RecordFilter = from_value(bad).unwrap();
        let refused = [
            pool.count(&filter).map(drop),
            pool.scan(&filter).map(drop),
            pool.delete_where(&filter).map(drop),
            pool.export_csv(Vec::new(), &ExportOptions::new().filter(filter)).map(drop),
        ];
        assert!(refused.into_iter().all(|refused| refused.map_err(kind) == Err(ErrorKind::InvalidQuery)));
    }
    let too_long: PoolQuery = from_value(json!({"filter": {"id_or_name": [""]}})).unwrap();
    assert_eq!(store.pools(&too_long).map(drop).map_err(kind), Err(ErrorKind::InvalidQuery));
    let claim = |options: Value| {
        let options: ClaimOptions = from_value(options).unwrap();
        pool.claim_with(&["B-1"], |value| Key::new(37, *value), &Origin::none(), &options)
            .map(drop)
            .map_err(kind)
    };
    assert_eq!(claim(json!({"lease": 0})), Err(ErrorKind::LimitExceeded));
    assert_eq!(claim(json!({"owner": ""})), Err(ErrorKind::InvalidArgument));
    let origin: Origin = from_value(json!({"flow_id": " a", "flow_run_id": null, "step_id": null})).unwrap();
    let tracked = pool.dedupe(Mode::Track, &["B-1"], |value| Key::new(37, *value), &origin);
    assert_eq!(tracked.map(drop).map_err(kind), Err(ErrorKind::InvalidArgument));
    let nothing: RecordFilter = from_value(json!({})).unwrap();
    assert_eq!(pool.delete_where(&nothing).unwrap(), 0, "a filter without terms deletes nothing");
    assert_eq!(support::values(&pool), ["A-1"]);
}

fn tracked_pool() -> (datapool_store::DataPoolStore, Pool) {
    let clock = support::clock();
    let store = support::options().clock(clock).open_in_memory().unwrap();
    let pool =
        store.create_pool(NewPool::new("orders").retention(Duration::from_millis(86_400_500))).unwrap();
    support::track(&pool, &["A-1", "A-2", "A-3"]);
    (store, pool)
}

#[test]
fn reports_and_statistics_read_back() {
    let (store, pool) = tracked_pool();
    let file = "value,entity_type_id\nB-1,37\nA-1,37\n,37\n\nB-2,x\n";
    let options = ImportOptions::new().on_duplicate(OnDuplicate::Skip).on_bad_row(OnBadRow::Skip);
    let imported = pool.import_csv(file.as_bytes(), &options).unwrap();
    assert_eq!((imported.added, imported.bad_rows, imported.blank_rows), (1, 2, 1));
    reads_back::<ImportReport>(&imported);
    reads_back::<ExportReport>(&pool.export_csv(Vec::new(), &ExportOptions::new()).unwrap());
    let claim = pool
        .claim(&["C-1"], |value| Key::new(37, *value), &support::origin(), Duration::from_mins(1))
        .unwrap();
    let claims = pool.claims().unwrap();
    assert_eq!(claims.len(), 1);
    reads_back::<Vec<ClaimInfo>>(&claims);
    let explanation = pool.explain(&RecordQuery::new().flow_id("shop").value("A-1")).unwrap();
    reads_back::<Explanation>(&explanation);
    {
        let _snapshot = pool.snapshot().unwrap();
        let mut stats = store.stats().unwrap();
        assert!(stats.oldest_snapshot.is_some());
        // Durations are read back to the microsecond.
        stats.oldest_snapshot = Some(Duration::from_micros(1_500_007));
        reads_back::<StoreStats>(&stats);
    }
    reads_back::<PoolStats>(&pool.stats().unwrap());
    drop(claim);
    let directory = tempfile::tempdir().unwrap();
    reads_back::<BackupReport>(&store.backup_to(directory.path().join("copy")).unwrap());
    reads_back::<CompactReport>(&store.compact().unwrap());
    reads_back::<VacuumReport>(&store.vacuum().unwrap());
    reads_back::<VerifyReport>(&store.verify().unwrap());
    reads_back::<RebuildReport>(&store.rebuild_indexes().unwrap());
    reads_back::<PruneReport>(&store.prune().unwrap());
}
