//! Proves that queries and the HTTP API's query strings are equivalent: printing and parsing are inverse,
//! each parameter is read as the API documents it, and everything else is an `InvalidQuery` that states what
//! is allowed.

use datapool_store::{
    ErrorKind, Key, Mode, Origin, PoolInclude, PoolQuery, PoolSort, RecordInclude, RecordQuery, RecordSort,
    Timestamp,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::fuzzing::query_string::spellings;
use crate::support::{self, Need, pool_for, time, track};

/// Generates texts that are difficult to encode in a query string.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[ +&=%#?,;\\[\\]\"'äß€😀/:@]{1,12}",
        "%[0-9a-f]{2}",
        "[\\x00-\\x1f\\x7f\\u{80}-\\u{9f}\\u{2028}\\u{feff}a%+]{1,8}",
        proptest::string::string_regex("\\PC{1,20}").unwrap(),
        vec(any::<char>(), 1..20).prop_map(String::from_iter),
    ]
}

fn id() -> impl Strategy<Value = String> {
    text()
        .prop_map(|text| text.replace(',', ".").trim().to_owned())
        .prop_filter("fits an id", |id| (1..=64).contains(&id.len()))
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<i64>(), -62_200_000_000_000_000..253_500_000_000_000_000_i64]
        .prop_map(Timestamp::from_micros)
}

prop_compose! {
    fn record_query()(
        flows in vec(id(), 0..3),
        runs in vec(id(), 0..3),
        steps in vec(id(), 0..3),
        types in vec(any::<u32>(), 0..3),
        values in vec(text(), 0..3),
        after in option::of(timestamp()),
        before in option::of(timestamp()),
        include in btree_set(proptest::sample::select(&RecordInclude::ALL[..]), 0..6),
        descending: bool,
        position in prop_oneof![(1_u64..).prop_map(Ok), (1_u64..).prop_map(Err)],
        per_page in 1_u32..=100,
    ) -> RecordQuery {
        let mut query = RecordQuery::new().include(include).per_page(per_page);
        for id in flows { query = query.flow_id(id) }
        for id in runs { query = query.flow_run_id(id) }
        for id in steps { query = query.step_id(id) }
        for id in types { query = query.entity_type_id(id) }
        for value in values { query = query.value(value) }
        if let Some(time) = after { query = query.created_after(time) }
        if let Some(time) = before { query = query.created_before(time) }
        if descending { query = query.sort(RecordSort::Descending) }
        match position {
            Ok(page) => query.page(page),
            Err(id) => query.cursor(id.to_string().parse().unwrap()),
        }
    }
}

prop_compose! {
    fn pool_query()(
        ids in vec(any::<u64>(), 0..3),
        names in vec(text(), 0..3),
        terms in vec(text(), 0..3),
        include in btree_set(proptest::sample::select(&PoolInclude::ALL[..]), 0..3),
        sort in proptest::sample::select(&[PoolSort::Id, PoolSort::CreatedAt, PoolSort::CreatedAtDescending][..]),
        page in 1_u64..,
        per_page in 1_u32..=100,
    ) -> PoolQuery {
        let query = PoolQuery::new().include(include).sort(sort).page(page).per_page(per_page);
        let query = ids.into_iter().fold(query, PoolQuery::id);
        let query = names.into_iter().fold(query, PoolQuery::name);
        terms.into_iter().fold(query, PoolQuery::id_or_name)
    }
}

/// Generates texts that look like query strings but are mostly wrong.
fn almost_a_query() -> impl Strategy<Value = String> {
    let names = [
        "filter[flow_id]",
        "filter%5Bvalue%5D",
        "filter[created_after]",
        "filter[entity_type_id]",
        "filter[id]",
        "filter[,]",
        "filter[name]",
        "filter[",
        "include",
        "sort",
        "page",
        "per_page",
        "cursor",
        "",
        "%",
        "filter[value][]",
        "filter[value][0]",
        "filter[flow_id][]",
        "filter%5Bflow_id%5D%5B0%5D",
        "filter[flow_id][1]",
        "filter[id][]",
        "filter[,][]",
        "filter[name][7]",
        "filter[created_after][]",
        "include[]",
        "include[0]",
        "sort[]",
        "[]",
        "[0]",
    ];
    let values = [
        "1",
        "a,b",
        "1, 2",
        "+a+,+b+",
        "",
        ",",
        "%zz",
        "%ff",
        "+",
        "-1",
        "2013-01-01",
        "flow",
        "-id",
        "99999999999999999999",
        "%00",
    ];
    let pair = (
        proptest::sample::select(names.to_vec()).prop_map(str::to_owned),
        prop_oneof![proptest::sample::select(values.to_vec()).prop_map(str::to_owned), any::<String>(),],
    );
    let pairs = vec(pair.prop_map(|(name, value)| format!("{name}={value}")), 0..4);
    prop_oneof![pairs.prop_map(|pairs| pairs.join("&")), any::<String>()]
}

proptest! {
    #[test]
    fn a_printed_record_query_parses_to_the_same_query(query in record_query()) {
        prop_assert_eq!(query.to_string().parse::<RecordQuery>().unwrap(), query);
    }

    #[test]
    fn a_record_query_is_the_same_with_arrays_and_blanks(query in record_query()) {
        for text in spellings(&query.to_string()) {
            prop_assert_eq!(text.parse::<RecordQuery>().unwrap(), query.clone(), "{}", text);
        }
    }

    #[test]
    fn a_pool_query_is_the_same_with_arrays_and_blanks(query in pool_query()) {
        for text in spellings(&query.to_string()) {
            prop_assert_eq!(text.parse::<PoolQuery>().unwrap(), query.clone(), "{}", text);
        }
    }

    #[test]
    fn a_printed_pool_query_parses_to_the_same_query(query in pool_query()) {
        prop_assert_eq!(query.to_string().parse::<PoolQuery>().unwrap(), query);
    }

    #[test]
    fn any_text_is_a_query_or_an_invalid_query(text in almost_a_query()) {
        match text.parse::<RecordQuery>() {
            Ok(query) => prop_assert_eq!(query.to_string().parse::<RecordQuery>().unwrap(), query),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidQuery),
        }
        match text.parse::<PoolQuery>() {
            Ok(query) => prop_assert_eq!(query.to_string().parse::<PoolQuery>().unwrap(), query),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidQuery),
        }
    }
}

fn records(text: &str) -> RecordQuery {
    text.parse().unwrap()
}

fn pools(text: &str) -> PoolQuery {
    text.parse().unwrap()
}

#[test]
fn each_parameter_of_the_api_means_the_method_of_its_name() {
    let built = RecordQuery::new();
    for (text, expected) in [
        ("", built.clone()),
        ("filter[flow_id]=12", built.clone().flow_id(12)),
        ("filter[flow_run_id]=a,b", built.clone().flow_run_id("a").flow_run_id("b")),
        ("filter[step_id]=s", built.clone().step_id("s")),
        ("filter[entity_type_id]=37,47", built.clone().entity_type_id(37).entity_type_id(47)),
        ("filter[value]=a,b", built.clone().value("a,b")),
        ("filter[created_after]=2013-01-31", built.clone().created_after(time("2013-01-31T00:00:00Z"))),
        (
            "filter[created_before]=2013-01-31 10:00:00",
            built.clone().created_before(time("2013-01-31T10:00:00Z")),
        ),
        ("include=flow,flowRun,flowStep,entityType,dataPool", built.clone().include(RecordInclude::ALL)),
        ("include=dataPool,flow,flow", built.clone().include([RecordInclude::Flow, RecordInclude::DataPool])),
        ("sort=created_at", built.clone()),
        ("sort=id", built.clone()),
        ("sort=-created_at", built.clone().sort(RecordSort::Descending)),
        ("sort=-id", built.clone().sort(RecordSort::Descending)),
        ("page=3&per_page=100", built.clone().page(3).per_page(100)),
    ] {
        assert_eq!(records(text), expected, "{text}");
    }
    let built = PoolQuery::new();
    for (text, expected) in [
        ("filter[id]=1,2", built.clone().id(1).id(2)),
        ("filter[name]=a,b", built.clone().name("a,b")),
        ("filter[,]=1,orders", built.clone().id_or_name("1").id_or_name("orders")),
        ("include=description,name", built.clone().include(PoolInclude::ALL)),
        ("sort=-created_at", built.clone().sort(PoolSort::CreatedAtDescending)),
        ("sort=created_at", built.clone().sort(PoolSort::CreatedAt)),
        ("page=2&per_page=1", built.clone().page(2).per_page(1)),
    ] {
        assert_eq!(pools(text), expected, "{text}");
    }
}

#[test]
fn encodings_that_clients_use_all_read_the_same() {
    let expected = RecordQuery::new().flow_id("a").flow_id("b c").value("x+y&z=ü,");
    for text in [
        "filter[flow_id]=a,b c&filter[value]=x%2By%26z=ü,",
        "?filter%5Bflow_id%5D=a%2Cb+c&filter%5Bvalue%5D=x%2By%26z%3D%C3%BC%2C",
        "filter%5bflow_id%5d=a,b%20c&&filter[value]=x%2by%26z=%c3%bc,&",
    ] {
        assert_eq!(records(text), expected, "{text}");
    }
    // A plus sign of an offset arrives as a space.
    assert_eq!(
        records("filter[created_after]=2013-01-01T02:00:00+02:00"),
        RecordQuery::new().created_after(time("2013-01-01"))
    );
    assert_eq!(pools("filter%5B%2C%5D=orders"), PoolQuery::new().id_or_name("orders"));
}

#[test]
fn arrays_are_read_as_clients_write_them() {
    let built = RecordQuery::new();
    let both = built.clone().flow_id(12).flow_id(13);
    let all = built.clone().flow_id(12).flow_id(13).flow_id(14);
    for (text, expected) in [
        // The forms of PHP and Rails, axios and qs, encoded as by `http_build_query` and URLSearchParams.
        ("filter[flow_id][]=12&filter[flow_id][]=13", both.clone()),
        ("filter[flow_id][0]=12&filter[flow_id][1]=13", both.clone()),
        ("filter%5Bflow_id%5D%5B0%5D=12&filter%5Bflow_id%5D%5B1%5D=13", both.clone()),
        ("filter[flow_id]%5B%5D=12&filter%5Bflow_id%5D[]=13", both.clone()),
        ("filter[flow_id][1]=13&filter[flow_id][0]=12", both.clone()),
        ("filter[flow_id][7]=12&page=1&filter[flow_id][9]=13", both.clone()),
        ("filter[flow_id][3]=12&filter[flow_id][]=13", both),
        ("filter[flow_id][]=12,13&filter[flow_id][]=14", all.clone()),
        ("filter[flow_id][]=+12+,+13&filter[flow_id][]=+14", all),
        ("filter[flow_run_id][]=a&filter[step_id][0]=b", built.clone().flow_run_id("a").step_id("b")),
        (
            "filter[entity_type_id][]=37&filter[entity_type_id][]=47",
            built.clone().entity_type_id(37).entity_type_id(47),
        ),
        ("filter[value][]=a,b&filter[value][]=+c+", built.clone().value("a,b").value(" c ")),
        ("filter[value][1]=b&filter[value][0]=a", built.clone().value("a").value("b")),
        (
            "include[]=flow&include[]=dataPool&include[]=flow",
            built.clone().include([RecordInclude::Flow, RecordInclude::DataPool]),
        ),
        ("include[0]=flow,dataPool", built.clone().include([RecordInclude::Flow, RecordInclude::DataPool])),
    ] {
        assert_eq!(records(text), expected, "{text}");
    }
    let built = PoolQuery::new();
    for (text, expected) in [
        ("filter[id][]=1&filter[id][]=2", built.clone().id(1).id(2)),
        ("filter[id][0]=1,2", built.clone().id(1).id(2)),
        ("filter[name][]=a,b&filter[name][]=+c", built.clone().name("a,b").name(" c")),
        (
            "filter[,][]=a,b&filter[,][]=+c&filter[,][]=2",
            built.clone().id_or_name("a,b").id_or_name(" c").id_or_name("2"),
        ),
        ("filter%5B%2C%5D%5B0%5D=orders", built.clone().id_or_name("orders")),
        ("include[]=name&include[]=description", built.include(PoolInclude::ALL)),
    ] {
        assert_eq!(pools(text), expected, "{text}");
    }
}

#[test]
fn blanks_around_the_terms_of_a_list_are_dropped() {
    let built = RecordQuery::new();
    for (text, expected) in [
        ("filter[flow_id]=12, 13", built.clone().flow_id(12).flow_id(13)),
        ("filter[flow_id]=+12+,%09read orders%0a", built.clone().flow_id(12).flow_id("read orders")),
        ("filter[flow_run_id]=a ,\u{3000}b\u{a0}", built.clone().flow_run_id("a").flow_run_id("b")),
        ("filter[step_id]= a", built.clone().step_id("a")),
        ("filter[entity_type_id]=37 , 47", built.clone().entity_type_id(37).entity_type_id(47)),
        ("include=flow, dataPool", built.clone().include([RecordInclude::Flow, RecordInclude::DataPool])),
        ("filter[value]= a, b ", built.value(" a, b ")),
    ] {
        assert_eq!(records(text), expected, "{text}");
    }
    let built = PoolQuery::new();
    for (text, expected) in [
        ("filter[id]=1, 2", built.clone().id(1).id(2)),
        ("filter[,]=Shop orders , 2", built.clone().id_or_name("Shop orders").id_or_name("2")),
        ("filter[name]= a, b", built.clone().name(" a, b")),
        ("include= name ,description", built.include(PoolInclude::ALL)),
    ] {
        assert_eq!(pools(text), expected, "{text}");
    }
}

#[test]
fn terms_that_no_list_can_hold_print_as_an_array() {
    let values = RecordQuery::new().value("a").value("b");
    assert_eq!(values.to_string(), "filter%5Bvalue%5D%5B%5D=a&filter%5Bvalue%5D%5B%5D=b");
    let terms = PoolQuery::new().id_or_name("a, b").id_or_name("c");
    assert_eq!(terms.to_string(), "filter%5B,%5D%5B%5D=a,%20b&filter%5B,%5D%5B%5D=c");
    let blank = PoolQuery::new().id_or_name(" orders");
    assert_eq!(blank.to_string(), "filter%5B,%5D%5B%5D=%20orders");
}

/// The error messages of record queries, then of pool queries.
const REFUSED: [(&str, Option<&str>, &str); 42] = [
    ("flow_id=1", Some("flow_id"), "unknown parameter \"flow_id\"; allowed are filter[flow_id],"),
    ("filter[name]=x", Some("filter[name]"), "unknown parameter \"filter[name]\"; allowed are"),
    ("filter[name][]=x", Some("filter[name][]"), "unknown parameter \"filter[name][]\"; allowed are"),
    ("filter[]=x", Some("filter[]"), "unknown parameter \"filter[]\"; allowed are"),
    ("filter[flow_id][a]=x", Some("filter[flow_id][a]"), "unknown parameter \"filter[flow_id][a]\""),
    ("filter[flow_id][-1]=x", Some("filter[flow_id][-1]"), "unknown parameter \"filter[flow_id][-1]\""),
    ("filter[flow_id][][]=x", Some("filter[flow_id][][]"), "unknown parameter \"filter[flow_id][][]\""),
    (
        "filter[flow_id][99999999999999999999]=x",
        Some("filter[flow_id][99999999999999999999]"),
        "unknown parameter \"filter[flow_id][99999999999999999999]\"",
    ),
    (
        "filter[flow_id]=1&filter[flow_id][]=2",
        Some("filter[flow_id]"),
        "filter[flow_id] is given as a value and as an array; each parameter is allowed in one form",
    ),
    (
        "include[0]=flow&include=flow",
        Some("include"),
        "include is given as a value and as an array; each parameter is allowed in one form",
    ),
    (
        "filter[value][0]=a&filter[value][0]=b",
        Some("filter[value]"),
        "filter[value] has index 0 twice, the first time as \"a\"; each index is allowed once",
    ),
    (
        "filter[step_id][]=a&filter[step_id][0]=b",
        Some("filter[step_id]"),
        "filter[step_id] has index 0 twice",
    ),
    (
        "page=1&page[]=1",
        Some("page"),
        "page is given as a value and as an array; each parameter is allowed in one",
    ),
    ("page[]=1", Some("page"), "page is given as an array; allowed is one value, as page=..."),
    ("per_page[0]=1", Some("per_page"), "per_page is given as an array; allowed is one value"),
    ("sort[]=id", Some("sort"), "sort is given as an array; allowed is one value"),
    ("cursor[]=5", Some("cursor"), "cursor is given as an array; allowed is one value"),
    (
        "filter[created_before][]=2013-01-31",
        Some("filter[created_before]"),
        "filter[created_before] is given as an array; allowed is one value, as filter[created_before]=...",
    ),
    ("page=1&page=2", Some("page"), "page is given twice, the second time as \"2\""),
    ("page=0", Some("page"), "page is 0; pages count from 1"),
    ("page=", Some("page"), "page is \"\"; allowed are whole numbers from 1"),
    ("page=+1", Some("page"), "page is \" 1\"; allowed are whole numbers from 1"),
    ("page=%2B1", Some("page"), "page is \"+1\"; allowed are whole numbers from 1"),
    ("page=99999999999999999999", Some("page"), "page is \"99999999999999999999\"; allowed are"),
    ("per_page=101", Some("per_page"), "per_page is 101; allowed are 1 to 100 (PER_PAGE_MAX)"),
    ("per_page=all", Some("per_page"), "per_page is \"all\"; allowed are 1 to 100 (PER_PAGE_MAX)"),
    ("cursor=x", Some("cursor"), "cursor is \"x\"; allowed are cursors that a page gave"),
    ("cursor=5&page=2", Some("page"), "page is 2 beside a cursor"),
    ("sort=value", Some("sort"), "sort is \"value\"; allowed are created_at, -created_at, id, -id"),
    ("sort=id,created_at", Some("sort"), "sort is \"id,created_at\"; allowed are"),
    (
        "include=flow,owner",
        Some("include"),
        "include names \"owner\"; allowed are flow, flowRun, flowStep, entityType",
    ),
    (
        "filter[flow_id]=a,,b",
        Some("filter[flow_id]"),
        "filter[flow_id] is \"a,,b\"; allowed is a term, or several",
    ),
    (
        "filter[flow_id]=a, ,b",
        Some("filter[flow_id]"),
        "filter[flow_id] is \"a, ,b\"; allowed is a term, or several",
    ),
    (
        "filter[flow_id][]=a&filter[flow_id][]=",
        Some("filter[flow_id]"),
        "filter[flow_id] is \"\"; allowed is a term, or several",
    ),
    (
        "filter[entity_type_id]=-1",
        Some("filter[entity_type_id]"),
        "filter[entity_type_id] is \"-1\"; allowed are whole",
    ),
    (
        "filter[entity_type_id]=37,007",
        Some("filter[entity_type_id]"),
        "filter[entity_type_id] is \"007\"; allowed are whole numbers up to 4294967295, with commas between them; leading",
    ),
    (
        "filter[entity_type_id]=%2B7",
        Some("filter[entity_type_id]"),
        "filter[entity_type_id] is \"+7\"; allowed are",
    ),
    ("cursor=05", Some("cursor"), "cursor is \"05\"; allowed are cursors that a page gave"),
    ("filter[value]=", Some("filter[value]"), "filter[value]: a value is empty"),
    (
        "filter[created_after]=soon",
        Some("filter[created_after]"),
        "filter[created_after]: \"soon\" is not a timestamp",
    ),
    ("filter[value]=%4", Some("filter[value]"), "\"%4\" has a % without two hexadecimal digits"),
    ("filter[value]=%ff", Some("filter[value]"), "\"%ff\" does not decode to UTF-8"),
];

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    for (text, parameter, message) in REFUSED {
        let error = text.parse::<RecordQuery>().unwrap_err();
        assert_eq!(
            (error.kind(), error.parameter()),
            (ErrorKind::InvalidQuery, parameter),
            "{text}: {error}"
        );
        assert!(error.to_string().starts_with(message), "{text}: {error}");
    }
    for (text, parameter) in [
        ("filter[flow_id]=1", Some("filter[flow_id]")),
        ("cursor=1", Some("cursor")),
        ("sort=id", Some("sort")),
        ("include=flow", Some("include")),
        ("filter[id]=one", Some("filter[id]")),
        ("filter[id]=007", Some("filter[id]")),
        ("filter[id]=1,%2B7", Some("filter[id]")),
        ("filter[,]=a,", Some("filter[,]")),
        ("filter[,]=", Some("filter[,]")),
        ("filter[,]=a, ,b", Some("filter[,]")),
        ("filter[,][]=", Some("filter[,]")),
        ("filter[,]=a&filter[,][]=b", Some("filter[,]")),
        ("filter[id][0]=1&filter[id][0]=1", Some("filter[id]")),
        ("filter[name][]=a&filter[name]=b", Some("filter[name]")),
        ("sort[]=created_at", Some("sort")),
        ("page[0]=1", Some("page")),
        ("filter[flow_id][]=1", Some("filter[flow_id][]")),
    ] {
        let error = text.parse::<PoolQuery>().unwrap_err();
        assert_eq!(
            (error.kind(), error.parameter()),
            (ErrorKind::InvalidQuery, parameter),
            "{text}: {error}"
        );
    }
    let long = format!("sort={}", "x".repeat(5_000));
    assert!(long.parse::<RecordQuery>().unwrap_err().to_string().len() < 250);
    let many = format!("filter[flow_id]={}", vec!["f"; 1_001].join(","));
    assert!(many.parse::<RecordQuery>().unwrap_err().to_string().contains("FILTER_MAX_TERMS"));
}

#[test]
fn both_flows_of_a_list_with_a_blank_are_found() {
    let pool = pool_for(Need::Any);
    for flow in ["12", "13", "14"] {
        let origin = Origin::new(flow, "run", "step");
        let values = [format!("A-{flow}")];
        let _ = pool.dedupe(Mode::Track, &values, |value| Key::new(37, value), &origin).unwrap();
    }
    for query in [
        "filter[flow_id]=12, 13",
        "filter[flow_id]=12%20,+13",
        "filter[flow_id][]=12&filter[flow_id][]=13",
        "filter%5Bflow_id%5D%5B0%5D=12&filter%5Bflow_id%5D%5B1%5D=13",
    ] {
        let page = pool.records(&records(query)).unwrap();
        let values: Vec<&str> = page.data.iter().map(|record| record.value.as_str()).collect();
        assert_eq!(values, ["A-12", "A-13"], "{query}");
        assert_eq!(pool.records(&records(&page.links.first)).unwrap(), page);
    }
}

#[test]
fn links_lead_through_a_listing_in_either_order() {
    let pool = pool_for(Need::Any);
    let values: Vec<String> = (0..100).map(|n| format!("v{n}")).collect();
    track(&pool, &values);
    for query in
        ["filter[entity_type_id]=37&per_page=7", "sort=-id&per_page=7&filter[flow_id]=shop&include=flow"]
    {
        let first = pool.records(&records(query)).unwrap();
        assert_eq!((first.meta.last_page, &first.links.prev), (15, &None));
        let (mut seen, mut page, mut back) = (Vec::new(), first.clone(), Vec::new());
        loop {
            seen.extend(page.data.iter().map(|record| record.id.get()));
            back.push(page.clone());
            let Some(next) = &page.links.next else { break };
            page = pool.records(&records(next)).unwrap();
        }
        assert_eq!(seen.len(), 100);
        assert_eq!(pool.records(&records(&first.links.last)).unwrap(), page);
        assert_eq!(pool.records(&records(&page.links.first)).unwrap(), first);
        while let Some(prev) = &page.links.prev {
            back.pop();
            page = pool.records(&records(prev)).unwrap();
            assert_eq!(Some(&page), back.last());
        }
        assert_eq!(page, first);

        let past = pool.records(&records(query).page(1_000)).unwrap();
        assert_eq!((past.links.prev, past.links.next), (Some(first.links.last.clone()), None));
    }
}

#[test]
fn links_of_a_page_that_a_cursor_asked_for_go_on_by_cursor() {
    let pool = pool_for(Need::Any);
    track(&pool, &["a", "b", "c", "d", "e"]);
    let first = pool.records(&RecordQuery::new().per_page(2)).unwrap();
    let second = pool.records(&RecordQuery::new().per_page(2).cursor(first.next_cursor.unwrap())).unwrap();
    let next = second.links.next.clone().unwrap();
    assert_eq!((next.as_str(), &second.links.prev), ("?cursor=4&per_page=2", &None));
    let third = pool.records(&records(&next)).unwrap();
    assert_eq!((third.data[0].value.as_str(), &third.links.next), ("e", &None));
}

#[test]
fn a_name_is_found_in_any_case_and_at_any_place() {
    let store = support::store_for(Need::Any);
    for name in ["ΟΔΟΣΑΒ", "Straße 5", "Çeşme ılık"] {
        store.get_or_create_pool(name).unwrap();
    }
    for (part, id) in [
        ("ΟΔΟΣ", 1),
        ("οδος", 1),
        ("οδοσ", 1),
        ("σα", 1),
        ("ςα", 1),
        ("STRAẞE 5", 2),
        ("straße", 2),
        ("ÇEŞME", 3),
        ("ILIK", 3),
    ] {
        let page = store.pools(&PoolQuery::new().name(part)).unwrap();
        assert_eq!(page.data.iter().map(|pool| pool.id.get()).collect::<Vec<_>>(), [id], "{part}");
    }
    for part in ["οδο ς", "STRASSE"] {
        assert_eq!(store.pools(&PoolQuery::new().name(part)).unwrap().meta.total, 0, "{part}");
    }
}

#[test]
fn a_term_is_an_id_only_as_the_id_prints() {
    let store = support::store_for(Need::Any);
    for name in ["first", "0001", "+01"] {
        store.get_or_create_pool(name).unwrap();
    }
    for (terms, ids) in [
        ("1", &[1][..]),
        ("0001", &[2]),
        ("%2B01", &[3]),
        ("01", &[]),
        ("%2B1", &[]),
        ("3,first", &[1, 3]),
        ("18446744073709551617", &[]),
    ] {
        let page = store.pools(&pools(&format!("filter[,]={terms}"))).unwrap();
        assert_eq!(page.data.iter().map(|pool| pool.id.get()).collect::<Vec<_>>(), ids, "{terms}");
    }
}

#[test]
fn several_names_mean_any_of_them() {
    let store = support::store_for(Need::Any);
    for name in ["Shop orders", "customers", "products"] {
        store.get_or_create_pool(name).unwrap();
    }
    let page = store.pools(&PoolQuery::new().name("ORDER").name("prod")).unwrap();
    let names: Vec<&str> = page.data.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["Shop orders", "products"]);
}

#[test]
fn every_bad_parameter_of_a_query_is_told() {
    let text = "filter[flow_id]=%20a&sort=name&include=flow,step&page=0&per_page=500&colour=red&filter[entity_type_id]=x";
    let error = text.parse::<RecordQuery>().unwrap_err();
    let all: Vec<&str> =
        std::iter::once(&error).chain(error.further()).map(|error| error.parameter().unwrap()).collect();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        ["colour", "filter[entity_type_id]", "include", "page", "per_page", "sort"],
        "{error}"
    );
    assert!(error.further().iter().all(|error| error.further().is_empty()));
    let error = "page=0&filter[id]=x".parse::<PoolQuery>().unwrap_err();
    assert_eq!(error.further().len(), 1);
    assert!("page=0".parse::<PoolQuery>().unwrap_err().further().is_empty());
}

#[test]
fn every_bad_field_of_a_pool_is_told() {
    let store = support::store_for(Need::Any);
    let new = datapool_store::NewPool::new("ab").description("x".repeat(256)).capacity(0);
    let error = store.create_pool(new).unwrap_err();
    let all: Vec<_> = std::iter::once(&error).chain(error.further()).map(|error| error.parameter()).collect();
    assert_eq!(all, [Some("name"), Some("description"), Some("capacity")]);
    let pool = store.get_or_create_pool("orders").unwrap();
    let update = datapool_store::PoolUpdate::new().name("ab").retention(std::time::Duration::ZERO);
    let error = store.update_pool(pool.id(), update).unwrap_err();
    assert_eq!((error.parameter(), error.further()[0].parameter()), (Some("name"), Some("retention")));
}
