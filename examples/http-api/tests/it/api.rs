//! Tests the mapping: all nine endpoints over loopback with a real HTTP client, and each kind of error.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::openapi;
use crate::support::{Api, CUT_FILE, FILE, FORM_AFTER_FILE, FORM_BEFORE_FILE, KEY, NOTHING, answer};
use datapool_store::testing::{self, Disk, Sizes};
use datapool_store::{EntityType, Flow, ManualClock, StoreOptions, limits};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;

/// Returns the message of a 422, which must concern only that parameter.
fn invalid((status, body): (u16, Value), parameter: &str) -> String {
    assert_eq!(status, 422, "{body}");
    assert_eq!(body["errors"], json!({ parameter: [body["message"]] }), "{body}");
    body["message"].as_str().unwrap().to_owned()
}

/// Returns the header and the rows of a CSV file, in any order.
fn rows(file: &str) -> (&str, BTreeSet<&str>) {
    let (header, rows) = file.split_once('\n').unwrap();
    (header, rows.lines().collect())
}

const LARGE_FILE_ROWS: u32 = 100_000;

/// Returns a file that is larger than everything buffered between a store and a client that does not read:
/// the slices that an export reads ahead, 1.2 MB each, and the buffers of the connection.
fn large_file() -> String {
    let row = |number: u32| format!("{number:0300},37\n");
    format!("value,entity_type_id\n{}", (0..LARGE_FILE_ROWS).map(row).collect::<String>())
}

/// Runs a test whose server has one blocking thread. While a transfer occupies it, no other call is answered.
fn with_one_thread(test: impl Future<Output = ()>) {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

/// Returns all nine endpoints, with the pool's id in their paths.
fn endpoints(pool: &str) -> [(Method, String); 9] {
    [
        (Method::GET, "/data-pool"),
        (Method::POST, "/data-pool"),
        (Method::GET, "/data-pool/{}"),
        (Method::PUT, "/data-pool/{}"),
        (Method::DELETE, "/data-pool/{}"),
        (Method::GET, "/data-pool/{}/deduped-data"),
        (Method::GET, "/data-pool/{}/deduped-data/download"),
        (Method::POST, "/data-pool/{}/deduped-data/import"),
        (Method::DELETE, "/data-pool/{}/deduped-data/delete-records"),
    ]
    .map(|(method, path)| (method, path.replace("{}", pool)))
}

#[tokio::test]
async fn no_endpoint_answers_without_the_key() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    let longer = format!("{KEY} and more");
    let twice = format!("Bearer Bearer {KEY}");
    for (method, path) in endpoints(&pool.to_string()) {
        for key in [
            None,
            Some(""),
            Some("Bearer "),
            Some("another key"),
            Some(&*longer),
            Some("Bearer"),
            Some(&*twice),
        ] {
            let request = api.client.request(method.clone(), api.url(&path));
            let request = key.into_iter().fold(request, |request, key| request.header("Authorization", key));
            let refused = answer(request.header("X-API-Key", KEY)).await;
            assert_eq!(
                refused,
                (401, json!({ "message": "Unauthenticated." })),
                "{method} {path} with {key:?}"
            );
        }
    }
    assert_eq!(api.listed("/data-pool", "name").await, ["orders"]);
    for key in [format!("Bearer {KEY}"), format!("bearer {KEY}"), KEY.to_owned()] {
        let request = api.client.get(api.url("/data-pool")).header("Authorization", &key);
        assert_eq!(answer(request).await.0, 200, "{key}");
    }
}

#[tokio::test]
async fn a_pool_that_does_not_exist_is_not_found() {
    let api = Api::start().await;
    api.make_pool("orders").await;
    for id in ["7", "orders", "-1", "+1", "001", "1%20", "%ff", "18446744073709551616"] {
        for (method, path) in endpoints(id).into_iter().skip(2) {
            let (status, body) = match path.rsplit('/').next().unwrap() {
                "import" => {
                    let form = Form::new().part(FILE, Part::text("value,entity_type_id\n").file_name("f"));
                    answer(api.request(method.clone(), &path).multipart(form)).await
                }
                _ => api.send(method.clone(), &path, json!({ "ids": [1] })).await,
            };
            assert_eq!(status, 404, "{method} {path}: {body}");
            assert!(body["message"].is_string() && body["errors"].is_null(), "{body}");
        }
    }
}

#[tokio::test]
async fn a_pool_that_does_not_exist_is_not_found_whatever_else_is_wrong() {
    let api = Api::start().await;
    for (method, path) in endpoints("7").into_iter().skip(2) {
        let request = api.request(method.clone(), &format!("{path}?page=0&filter[x]=%zz"));
        let (status, body) = answer(request.body("no JSON, no form")).await;
        assert_eq!((status, body["errors"].is_null()), (404, true), "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_json() {
    let api = Api::start().await;
    for path in ["/data-pools", "", "/", "/data-pool/1/deduped-data/upload", "/../data-pool"] {
        assert_eq!(api.get(path).await, (404, json!({ "message": "Not Found" })), "{path}");
    }
    let refused = api.request(Method::PATCH, "/data-pool/1").send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &"GET,HEAD,PUT,DELETE".parse().unwrap())
    );
    assert_eq!(refused.json::<Value>().await.unwrap(), json!({ "message": "Method Not Allowed" }));
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    api.track(pool, "shop", 37, &["A-1", "A-2"]);
    for path in ["/data-pool", "/data-pool/1", "/data-pool/1/deduped-data"] {
        let answers = [api.get(path).await, api.get(&format!("{path}/")).await];
        assert_eq!(answers[0], answers[1], "{path}");
        assert_eq!(answers[0].0, 200, "{path}");
    }
    for path in ["/deduped-data/delete-records/?ids=1", "/"] {
        assert_eq!(api.send(Method::DELETE, &format!("/data-pool/1{path}"), NOTHING).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn a_pool_is_made_shown_changed_and_deleted() {
    let api = Api::start().await;
    let body = json!({ "name": "orders", "description": "from the shop" });
    let (status, made) = api.send(Method::POST, "/data-pool", body).await;
    assert_eq!(
        (status, &made["data"]["name"], &made["data"]["description"]),
        (200, &json!("orders"), &json!("from the shop"))
    );
    let path = format!("/data-pool/{}", made["data"]["id"]);
    assert_eq!(api.get(&path).await, (200, made.clone()));

    let (status, renamed) = api.send(Method::PUT, &path, json!({ "name": "sales" })).await;
    assert_eq!((status, &renamed["data"]["name"]), (200, &json!("sales")));
    assert_eq!(renamed["data"]["description"], "from the shop");
    let (status, cleared) = api.send(Method::PUT, &path, json!({ "description": null })).await;
    assert_eq!((status, &cleared["data"]["description"]), (200, &NOTHING));
    assert_eq!(cleared["data"]["name"], "sales");
    assert_eq!(cleared["data"]["created_at"], made["data"]["created_at"]);

    let deleted = api.send(Method::DELETE, &path, NOTHING).await;
    assert_eq!(deleted, (200, json!({ "message": "The data pool was deleted." })));
    assert_eq!(api.get(&path).await.0, 404);
    assert_eq!(api.send(Method::DELETE, &path, NOTHING).await.0, 404);
}

#[tokio::test]
async fn a_pools_bad_fields_are_named_in_laravels_words() {
    let api = Api::start().await;
    let path = format!("/data-pool/{}", api.make_pool("orders").await);
    api.make_pool("customers").await;
    for (body, parameter, message) in [
        (json!({ "name": "ab" }), "name", "The name field must be at least 3 characters."),
        (
            json!({ "name": "é".repeat(101) }),
            "name",
            "The name field must not be greater than 100 characters.",
        ),
        (json!({ "name": 5 }), "name", "The name field must be a string."),
        (json!({ "name": null }), "name", "The name field is required."),
        (json!({ "name": "" }), "name", "The name field is required."),
        (json!({ "name": "customers" }), "name", "The name has already been taken."),
        (
            json!({ "name": "fine", "description": "d".repeat(256) }),
            "description",
            "The description field must not be greater than 255 characters.",
        ),
        (
            json!({ "name": "fine", "description": ["d"] }),
            "description",
            "The description field must be a string.",
        ),
    ] {
        assert_eq!(invalid(api.send(Method::POST, "/data-pool", body.clone()).await, parameter), message);
        assert_eq!(invalid(api.send(Method::PUT, &path, body).await, parameter), message);
    }
    let (status, body) = api.send(Method::POST, "/data-pool", json!({ "description": 5, "other": 1 })).await;
    let all = json!({
        "message": "The name field is required. (and 1 more error)",
        "errors": {
            "name": ["The name field is required."],
            "description": ["The description field must be a string."],
        },
    });
    assert_eq!((status, body), (422, all));
    let (_, body) = api.send(Method::POST, "/data-pool", json!({ "name": "orders", "description": 5 })).await;
    assert_eq!(body["errors"]["name"], json!(["The name has already been taken."]));
    assert_eq!(body["errors"]["description"], json!(["The description field must be a string."]));
    // A pool may keep its own name.
    assert_eq!(api.send(Method::PUT, &path, json!({ "name": "orders" })).await.0, 200);
    assert_eq!(api.listed("/data-pool", "name").await, ["orders", "customers"]);
}

#[tokio::test]
async fn other_fields_of_a_body_are_ignored() {
    let api = Api::start().await;
    let body = json!({ "name": "orders", "description": "é".repeat(255), "id": 9, "retention": 1, "capacity": "none" });
    let (status, made) = api.send(Method::POST, "/data-pool", body).await;
    assert_eq!((status, &made["data"]["id"]), (200, &json!(1)));
    let (status, changed) = api.send(Method::PUT, "/data-pool/1", json!({ "names": "sales" })).await;
    assert_eq!(
        (status, &changed["data"]["name"], &changed["data"]["retention"]),
        (200, &json!("orders"), &NOTHING)
    );
}

#[tokio::test]
async fn a_body_is_json_or_a_form() {
    let api = Api::start().await;
    let form_kind = "application/x-www-form-urlencoded";
    for (kind, body, name) in [
        ("application/json; charset=utf-8", "{\"name\": \"in json\"}", "in json"),
        ("application/vnd.api+json", "{\"name\": \"in other json\"}", "in other json"),
        (form_kind, "name=caf%C3%A9+%26+more&x[y]=1", "café & more"),
        ("Application/X-WWW-Form-URLEncoded; charset=utf-8", "name=first&name=second", "second"),
    ] {
        let request = api.request(Method::POST, "/data-pool").header("Content-Type", kind).body(body);
        let (status, made) = answer(request).await;
        assert_eq!((status, &made["data"]["name"]), (200, &json!(name)), "{kind}");
    }
    let (_, made) = answer(api.request(Method::POST, "/data-pool").body("{\"name\": \"of no kind\"}")).await;
    let path = format!("/data-pool/{}", made["data"]["id"]);
    let put = |kind: &'static str, body: &'static str| {
        answer(api.request(Method::PUT, &path).header("Content-Type", kind).body(body))
    };
    assert_eq!(put(form_kind, "description=once").await.1["data"]["description"], "once");
    assert_eq!(put(form_kind, "description=").await.1["data"]["description"], NOTHING);
    // A JSON value that is not an object has no fields. PHP encodes an empty array as a list.
    for nothing in
        ["", "{}", "[]", "null", "[\"sales\", {\"name\": \"sales\"}]", "\"sales\"", "-1", "1.5", "true"]
    {
        assert_eq!(put("application/json", nothing).await.0, 200, "{nothing}");
        let made = answer(api.request(Method::POST, "/data-pool").body(nothing)).await;
        assert_eq!(invalid(made, "name"), "The name field is required.");
    }
    let form = || Form::new().text("name", "in parts").text("other", "field");
    let (status, made) = answer(api.request(Method::POST, "/data-pool").multipart(form())).await;
    assert_eq!((status, &made["data"]["name"]), (200, &json!("in parts")));

    for (kind, body, status) in [
        ("application/json", "{", 400),
        ("application/json", "[\"sales\"", 400),
        ("application/json", "{\"name\": \"sales\"} {}", 400),
        ("application/json", "name=sales", 400),
        (form_kind, "name=%ff", 400),
        ("text/plain", "name=sales", 415),
        ("multipart/form-data; boundary=x", "--x\r\n", 400),
        ("multipart/form-data", "--x--", 400),
        ("", "{}", 415),
    ] {
        let (refused, body) = put(kind, body).await;
        assert_eq!(refused, status, "{kind}: {body}");
    }
    let (_, shown) = api.get(&path).await;
    assert_eq!(shown["data"]["name"], "of no kind");
}

#[tokio::test]
async fn pools_are_filtered_and_sorted() {
    let clock = ManualClock::starting_at("2013-01-01".parse().unwrap());
    let api = Api::over(StoreOptions::new().clock(clock.clone()).open_in_memory().unwrap()).await;
    for name in ["shop orders", "Shop customers", "50% off & more"] {
        api.make_pool(name).await;
        clock.advance(Duration::from_hours(1));
    }
    for (query, ids) in [
        ("", json!([1, 2, 3])),
        ("?filter[name]=shop", json!([1, 2])),
        ("?filter[id]=3,1", json!([1, 3])),
        ("?filter[,]=Shop+customers,3", json!([2, 3])),
        ("?filter[id]=1,2&filter[name]=CUSTOMERS", json!([2])),
        ("?filter%5Bname%5D=50%25%20off%20%26", json!([3])),
        ("?include=name,description&sort=-created_at", json!([3, 2, 1])),
        ("?sort=created_at&per_page=2&page=2", json!([3])),
        ("?page=9", json!([])),
    ] {
        assert_eq!(json!(api.listed(&format!("/data-pool{query}"), "id").await), ids, "{query}");
    }
}

#[tokio::test]
async fn a_single_pool_is_held_to_the_listings_parameters() {
    let api = Api::start().await;
    let path = format!("/data-pool/{}", api.make_pool("orders").await);
    let (status, shown) = api.get(&format!("{path}?filter[name]=order&include=name&page=3")).await;
    assert_eq!((status, &shown["data"]["name"]), (200, &json!("orders")));
    assert_eq!(api.get(&format!("{path}?filter[name]=customers")).await.0, 404);
    invalid(api.get(&format!("{path}?per_page=101")).await, "per_page");
}

#[tokio::test]
async fn following_the_next_links_shows_each_item_once() {
    let api = Api::start().await;
    for number in 0..23 {
        api.make_pool(&format!("pool {number}")).await;
    }
    let numbers: Vec<String> = (0..23).map(|number| format!("café {number}")).collect();
    api.track(1, "shop", 37, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
    for (listing, query) in [
        ("/data-pool", "?filter[name]=pool+&sort=-created_at&per_page=5"),
        ("/data-pool/1/deduped-data", "?filter[flow_id]=shop&sort=-id&per_page=5"),
    ] {
        let (mut ids, mut next) = (Vec::new(), json!(api.url(&format!("{listing}{query}"))));
        while let Some(url) = next.as_str() {
            let (status, page) = answer(api.client.get(url).header("Authorization", KEY)).await;
            assert_eq!((status, &page["meta"]["total"]), (200, &json!(23)), "{url}");
            assert_eq!(page["meta"]["path"], api.url(listing));
            ids.extend(page["data"].as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()));
            next = page["links"]["next"].clone();
        }
        assert_eq!(ids, (1..=23).rev().collect::<Vec<u64>>(), "{listing}");
    }
}

#[tokio::test]
async fn records_are_filtered_sorted_and_bring_along_what_is_included() {
    let clock = ManualClock::starting_at("2013-01-01".parse().unwrap());
    let api = Api::over(StoreOptions::new().clock(clock.clone()).open_in_memory().unwrap()).await;
    api.store.put_flow(Flow::new("shop", "Shop to ERP")).unwrap();
    api.store.put_entity_type(EntityType::new(37, "orders")).unwrap();
    let pool = api.make_pool("orders").await;
    api.track(pool, "shop", 37, &["A-1", "A,2"]);
    clock.advance(Duration::from_hours(1));
    api.track(pool, "till", 47, &["grün & 100%", "A-1"]);
    let path = format!("/data-pool/{pool}/deduped-data");
    for (query, ids) in [
        ("", json!([1, 2, 3, 4])),
        ("?filter[flow_id]=shop", json!([1, 2])),
        ("?filter[flow_run_id]=shop+run,till%20run&sort=-id", json!([4, 3, 2, 1])),
        ("?filter[step_id]=till%20step&filter[value]=A-1", json!([4])),
        ("?filter[entity_type_id]=47,54", json!([3, 4])),
        ("?filter[value]=A,2", json!([2])),
        ("?filter%5Bvalue%5D=gr%C3%BCn+%26%20100%25", json!([3])),
        ("?filter[created_after]=2013-01-01T00:00:00Z", json!([3, 4])),
        ("?filter[created_before]=2013-01-01T02:00:00%2B01:00", json!([1, 2])),
        ("?filter[created_before]=2013-01-01T02:00:00+01:00", json!([1, 2])),
        ("?sort=-created_at&per_page=3&page=2", json!([1])),
    ] {
        assert_eq!(json!(api.listed(&format!("{path}{query}"), "id").await), ids, "{query}");
    }

    let includes = "include=flow,flowRun,flowStep,entityType,dataPool";
    let (_, page) = api.get(&format!("{path}?{includes}&per_page=1")).await;
    let record = &page["data"][0];
    assert_eq!((&record["flow"]["name"], &record["flow_run"]), (&json!("Shop to ERP"), &NOTHING));
    assert_eq!(
        (&record["entity_type"]["name"], &record["data_pool"]["id"]),
        (&json!("orders"), &json!(pool))
    );
    let path = api.url(&path);
    assert_eq!(
        page["meta"],
        json!({ "current_page": 1, "from": 1, "last_page": 4, "path": path, "per_page": 1, "to": 1, "total": 4 })
    );
}

#[tokio::test]
async fn links_are_those_that_a_proxy_is_asked_by() {
    let api = Api::start().await;
    for (header, value, start) in [
        ("Host", "pools.example.com", "http://pools.example.com/api/v1/data-pool?"),
        ("X-Forwarded-Proto", "HTTPS, http", &api.url("/data-pool?").replace("http:", "https:")),
        ("Host", "somebody:secret@pools.example.com", "http://pools.example.com/api/v1/data-pool?"),
        ("Host", "pools.example.com/x?y=\"><z>", "/api/v1/data-pool?"),
        ("X-Forwarded-Proto", "https", &api.url("/data-pool?").replace("http:", "https:")),
        ("X-Forwarded-Proto", "javascript", &api.url("/data-pool?")),
    ] {
        let (_, page) = answer(api.request(Method::GET, "/data-pool/").header(header, value)).await;
        let first = page["links"]["first"].as_str().unwrap();
        assert!(first.starts_with(start), "{first}");
    }
}

#[tokio::test]
async fn every_parameter_of_the_document_is_taken() {
    let api = Api::start().await;
    api.make_pool("orders").await;
    let samples =
        [("filter[id]", "1"), ("filter[,]", "1"), ("filter[name]", "ord"), ("filter[entity_type_id]", "37")];
    for endpoint in openapi::endpoints().into_iter().filter(|(method, _)| method == "get") {
        let path = endpoint.1.replace("{data_pool}", "1");
        let names = openapi::parameters(&endpoint);
        assert!(
            names.contains(&"per_page".to_owned()) && names.contains(&"sort".to_owned()),
            "{path}: {names:?}"
        );
        for name in names {
            let sample = samples.iter().find(|(of, _)| *of == name).map(|(_, sample)| *sample);
            let include = if path.contains("deduped") {
                "flow,flowRun,flowStep,entityType,dataPool"
            } else {
                "name,description"
            };
            let value = sample.unwrap_or(match &*name {
                "include" => include,
                "sort" => "-created_at",
                "filter[created_before]" | "filter[created_after]" => "2013-01-31 10:00",
                _ => "7",
            });
            let request =
                api.request(Method::GET, &path).header("Accept", "application/json").query(&[(&name, value)]);
            assert_eq!(answer(request).await.0, 200, "{path} {name}");
        }
    }
}

#[tokio::test]
async fn a_bad_query_names_its_parameter() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    let records = format!("/data-pool/{pool}/deduped-data");
    for (path, query, parameter) in [
        ("/data-pool", "page=0", "page"),
        ("/data-pool", "per_page=many", "per_page"),
        ("/data-pool", "sort=name", "sort"),
        ("/data-pool", "include=records", "include"),
        ("/data-pool", "filter[id]=1,,2", "filter[id]"),
        (&records, "per_page=101", "per_page"),
        (&records, "sort=value", "sort"),
        (&records, "include=flow,user", "include"),
        (&records, "filter%5Bentity_type_id%5D=orders", "filter[entity_type_id]"),
        (&records, "filter[created_after]=yesterday", "filter[created_after]"),
        (&records, "filter[value]=", "filter[value]"),
    ] {
        let message = invalid(api.get(&format!("{path}?{query}")).await, parameter);
        assert!(
            message.starts_with(&format!("The {} field", parameter.replace('_', " "))),
            "{query}: {message}"
        );
    }
    for (query, parameter) in [
        ("filter[name]=x", "filter[name]"),
        ("filter%5Bflow_id%5D[a]=x", "filter[flow_id][a]"),
        ("filter%5Bflow_id%5D[]=x&filter[flow_id]=y", "filter[flow_id]"),
        ("sort[]=id", "sort"),
        ("page=1&page=2", "page"),
        ("page=%zz", "page"),
        ("%zz=1", "query"),
    ] {
        invalid(api.get(&format!("{records}?{query}")).await, parameter);
    }
    for (query, message) in [
        ("page=0", "The page field must be at least 1."),
        ("page=one", "The page field must be an integer."),
        ("per_page=0", "The per page field must be at least 1."),
        ("per_page=101", "The per page field must not be greater than 100."),
        ("sort=value", "The sort field is \"value\"; allowed are created_at, -created_at, id, -id."),
    ] {
        assert_eq!(
            invalid(api.get(&format!("{records}?{query}")).await, query.split('=').next().unwrap()),
            message
        );
    }
    let (status, all) =
        api.get(&format!("{records}?page=0&sort=value&filter[entity_type_id]=x&per_page=2")).await;
    assert_eq!((status, all["errors"].as_object().unwrap().len()), (422, 3), "{all}");
    assert!(all["message"].as_str().unwrap().ends_with(" (and 2 more errors)"), "{all}");
    assert_eq!(all["errors"]["page"], json!(["The page field must be at least 1."]));
}

#[tokio::test]
async fn a_download_imports_back_to_the_same_set() {
    let api = Api::start().await;
    let (source, copy) = (api.make_pool("source").await, api.make_pool("copy").await);
    api.track(source, "shop", 37, &["A-1", "with \"quotes\", and commas", "two\r\nlines", "grün"]);
    api.track(source, "shop", 47, &["A-1"]);
    let file = api.download(source).await;
    assert!(file.starts_with("value,entity_type_id\nA-1,37\n"), "{file}");

    let report = json!({ "rows": 5, "added": 5, "skipped": 0, "bad_rows": 0, "errors": [] });
    assert_eq!(api.import(copy, &file).await, (200, report));
    assert_eq!(api.download(copy).await, file);
}

#[tokio::test]
async fn importing_a_file_twice_doubles_it() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    for total in [2, 4] {
        assert_eq!(api.import(pool, "entity_type_id,value,note\n37,A-1,x\n37,A-2,y\n").await.0, 200);
        assert_eq!(api.total(pool).await, total);
    }
    assert_eq!(api.listed(&format!("/data-pool/{pool}/deduped-data"), "flow_id").await, [NOTHING; 4]);
}

#[tokio::test]
async fn a_bad_file_is_invalid_and_adds_nothing() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    for (file, place) in [
        ("", "line 1:"),
        ("value\nA-1\n", "line 1:"),
        ("value,entity_type_id\nA-1,37\nA-2,orders\n", "line 3, column 2:"),
        ("value,entity_type_id\nA-1,37\n,37\n", "line 3, column 1:"),
        ("value,entity_type_id\nA-1,37\nA-2\n", "line 3:"),
        ("value,entity_type_id\nA-1,37\n\"A-2,37\n", "line 3:"),
    ] {
        let message = invalid(api.import(pool, file).await, FILE);
        assert!(message.starts_with(place), "{file:?}: {message}");
    }
    assert_eq!(api.total(pool).await, 0);
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_hears_of_an_early_bad_row() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    let file = large_file().replacen("37", "orders", 1);
    let length = FORM_BEFORE_FILE.len() + file.len() + FORM_AFTER_FILE.len();
    let (mut client, mut refusal) = (api.begin_import(pool, &file, length).await, String::new());
    client.write_all(FORM_AFTER_FILE.as_bytes()).await.unwrap();
    client.read_to_string(&mut refusal).await.unwrap();
    assert!(refusal.starts_with("HTTP/1.1 422") && refusal.contains("line 2, column 2:"), "{refusal}");
}

#[tokio::test]
async fn an_import_needs_a_form_with_a_file() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    let path = format!("/data-pool/{pool}/deduped-data/import");
    let import = || api.request(Method::POST, &path);
    let other_fields = || Form::new().text("note", "from the shop").text("csv", "value,entity_type_id\n");
    let refused = |body: &'static str, kind| answer(import().header("Content-Type", kind).body(body));
    assert_eq!(refused("value,entity_type_id\nA-1,37\n", "text/csv").await.0, 415);
    assert_eq!(refused("value,entity_type_id\nA-1,37\n", "application/json").await.0, 400);
    assert_eq!(refused("no form", "multipart/form-data").await.0, 400);
    let broken = "POST /api/v1/data-pool/1/deduped-data/import HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
    let (mut connection, mut refusal) = (api.connect(broken).await, String::new());
    connection.write_all(b"zz\r\n").await.unwrap();
    connection.read_to_string(&mut refusal).await.unwrap();
    assert!(refusal.starts_with("HTTP/1.1 400"), "{refusal}");
    invalid(refused("{\"file\": \"value,entity_type_id\\n\"}", "application/json").await, FILE);
    invalid(refused("{\"deduped_data_file\": [1]}", "application/json").await, FILE);
    invalid(refused("deduped_data_file=value%0AA-1", "application/x-www-form-urlencoded").await, FILE);
    let by_hand = import().header("Content-Type", "multipart/form-data; boundary=end");
    assert_eq!(answer(by_hand.body(format!("{FORM_BEFORE_FILE}{CUT_FILE}"))).await.0, 400);
    assert_eq!(api.total(pool).await, 0);

    let file = "value,entity_type_id\nA-1,37\n";
    let message = invalid(answer(import().multipart(other_fields())).await, FILE);
    assert_eq!(message, "The deduped data file field is required.");
    let twice = other_fields().text(FILE, file).text("note", "and").text(FILE, file);
    let message = invalid(answer(import().multipart(twice)).await, FILE);
    assert_eq!(message, "The deduped data file field must be given once, not 2 times.");
    assert_eq!(api.total(pool).await, 0);

    let form = other_fields().text(FILE, file).text("note", "that was all");
    assert_eq!(answer(import().multipart(form)).await.0, 200);
    assert_eq!(api.total(pool).await, 1);
}

#[tokio::test]
async fn hundreds_of_thousands_of_rows_stream_in_and_out() {
    let api = Api::start().await;
    let (source, copy) = (api.make_pool("source").await, api.make_pool("copy").await);
    let row = |number: u32| format!("order number {number:08},{}\n", 37 + number % 3);
    let file = format!("value,entity_type_id\n{}", (0..300_000).map(row).collect::<String>());
    assert!(file.len() > 5 << 20);
    assert_eq!(api.import(source, &file).await.1["added"], 300_000);

    let downloaded = api.download(source).await;
    assert_eq!(rows(&downloaded), rows(&file));
    assert_eq!(api.import(copy, &downloaded).await.1["added"], 300_000);
    assert_eq!(api.download(copy).await, downloaded);
}

#[tokio::test]
async fn a_download_has_what_the_filters_take() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    api.track(pool, "shop", 37, &["A-1", "A,2"]);
    api.track(pool, "till", 47, &["A-1"]);
    let path = format!("/data-pool/{pool}/deduped-data/download");
    let ask = |query: &str, accept: &'static str| {
        api.request(Method::GET, &format!("{path}{query}")).header("Accept", accept).send()
    };
    let file = ask("?filter[value]=A-1&filter[flow_id][]=till&sort=-id&page=3", "text/csv").await.unwrap();
    assert_eq!(file.text().await.unwrap(), "value,entity_type_id\nA-1,47\n");
    for accept in ["*/*", "text/csv, application/json", "text/html", "application/json;q=0.1, text/csv;q=0.2"]
    {
        let file = ask("/", accept).await.unwrap();
        assert_eq!(file.headers()["content-type"], "text/csv; charset=utf-8", "{accept}");
    }
    // A client that always asks for JSON still gets the file from this URL.
    let accept = "application/json, text/plain, */*";
    for accept in
        ["application/json", "text/csv;q=0.1, application/json", "application/vnd.api+json; charset=utf-8"]
    {
        let link: Value = ask("", accept).await.unwrap().json().await.unwrap();
        assert!(link["url"].as_str().unwrap().ends_with("/deduped-data/download/file"), "{accept}");
    }
    let link: Value = ask("?filter[value]=A%2C2", accept).await.unwrap().json().await.unwrap();
    let file =
        api.client.get(link["url"].as_str().unwrap()).header("Authorization", KEY).header("Accept", accept);
    assert_eq!(file.send().await.unwrap().text().await.unwrap(), "value,entity_type_id\n\"A,2\",37\n");

    for accept in ["application/json", "text/csv"] {
        let request = api.request(Method::GET, &format!("{path}?filter[name]=x")).header("Accept", accept);
        invalid(answer(request).await, "filter[name]");
    }
}

#[tokio::test]
async fn records_are_deleted_by_id_and_unknown_ids_count_nothing() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    api.track(pool, "shop", 37, &["A-1", "A-2", "A-3", "A-4", "A-5", "A-6", "A-7", "A-8"]);
    let path = format!("/data-pool/{pool}/deduped-data");
    let request = |query: &str| api.request(Method::DELETE, &format!("{path}/delete-records{query}"));
    let delete = |ids: Value| answer(request("").json(&json!({ "ids": ids })));
    let deleted = |count: u64| (200, json!({ "message": "The records were deleted.", "deleted": count }));
    assert_eq!(delete(json!([1, 3, 3, 99])).await, deleted(2));
    assert_eq!(delete(json!(["1", "2"])).await, deleted(1));
    assert_eq!(delete(json!({ "0": 4, "7": "1" })).await, deleted(1));
    assert_eq!(answer(request("?ids=5&ids=6")).await, deleted(2));
    assert_eq!(answer(request("?ids=5,%206")).await, deleted(0));
    assert_eq!(answer(request("?ids%5B%5D=5&ids[]=7&ids[]=5").body("")).await, deleted(1));
    assert_eq!(api.listed(&path, "value").await, ["A-8"]);

    let integer = "must be an integer, at least 0";
    assert_eq!(invalid(delete(json!([8, -1])).await, "ids.1"), format!("The ids.1 field {integer}."));
    assert_eq!(invalid(delete(json!("8,x")).await, "ids.1"), format!("The ids.1 field {integer}."));
    let (status, all) = delete(json!([8.5, 8, [8]])).await;
    assert_eq!(
        (status, &all["message"]),
        (422, &json!(format!("The ids.0 field {integer}. (and 1 more error)")))
    );
    for nothing in [json!([]), json!(""), NOTHING] {
        assert_eq!(invalid(delete(nothing).await, "ids"), "The ids field is required.");
    }
    invalid(answer(request("")).await, "ids");
    invalid(answer(request("?id=8")).await, "ids");
    invalid(delete(json!(true)).await, "ids");
    let too_many = invalid(delete(json!(vec![8; limits::BATCH_MAX_ITEMS + 1])).await, "ids");
    assert_eq!(too_many, format!("The ids field must not have more than {} items.", limits::BATCH_MAX_ITEMS));
    assert_eq!(api.total(pool).await, 1);
}

#[tokio::test]
async fn a_body_that_no_call_takes_is_refused_in_json() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    // One byte more than axum's own limit. All of it is read, so the answer is not lost to a reset
    // connection.
    let body = vec![b' '; (2 << 20) + 1];
    let refused = answer(api.request(Method::PUT, &format!("/data-pool/{pool}")).body(body)).await;
    assert_eq!(refused, (413, json!({ "message": "Payload Too Large" })));
}

#[tokio::test]
async fn an_export_that_fails_midway_breaks_the_download() {
    let api = Api::start().await;
    let pool = api.make_pool("orders").await;
    assert_eq!(api.import(pool, &large_file()).await.0, 200);
    let path = format!("/data-pool/{pool}/deduped-data/download");
    let mut response = api.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.chunk().await.unwrap().unwrap().starts_with(b"value,entity_type_id\n"));

    assert_eq!(api.send(Method::DELETE, &format!("/data-pool/{pool}"), NOTHING).await.0, 200);
    let broken = loop {
        match response.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the download looks complete"),
            Err(error) => break error,
        }
    };
    assert!(broken.is_body() || broken.is_decode(), "{broken:?}");
}

/// A disk in memory that loses power.
#[derive(Debug, Clone, Default)]
struct FailingDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    is_dead: Arc<AtomicBool>,
}

impl FailingDisk {
    fn bytes(&self) -> io::Result<MutexGuard<'_, Vec<u8>>> {
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(io::Error::other("the secret disk is dead"));
        }
        Ok(self.bytes.lock().unwrap())
    }
}

impl Disk for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes()?.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes()?[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes()?.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.bytes().map(drop)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.bytes()?[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[tokio::test]
async fn a_failing_disk_is_a_server_error_without_details() {
    let disk = FailingDisk::default();
    let api = Api::over(testing::on_disk(disk.clone(), &StoreOptions::new(), Sizes::SMALL).unwrap()).await;
    let pool = api.make_pool("orders").await;
    disk.is_dead.store(true, Ordering::SeqCst);
    let error = (500, json!({ "message": "Server Error" }));
    assert_eq!(api.send(Method::POST, "/data-pool", json!({ "name": "customers" })).await, error);
    assert_eq!(api.import(pool, "value,entity_type_id\nA-1,37\n").await, error);
}

#[test]
fn a_client_that_goes_away_frees_its_thread_and_adds_nothing() {
    with_one_thread(async {
        let api = Api::start().await;
        let pool = api.make_pool("orders").await;
        drop(api.begin_import(pool, CUT_FILE, 1_000_000).await);
        assert_eq!(api.total(pool).await, 0);

        assert_eq!(api.import(pool, &large_file()).await.0, 200);
        drop(api.begin_download(pool).await);
        assert_eq!(api.total(pool).await, LARGE_FILE_ROWS);
    });
}

#[test]
fn a_client_that_stands_still_frees_its_thread_after_a_while() {
    with_one_thread(async {
        let api = Api::start().await;
        let pool = api.make_pool("orders").await;
        assert_eq!(api.import(pool, &large_file()).await.0, 200);
        let (mut refusal, mut download) = (String::new(), String::new());

        let mut importer = api.begin_import(pool, CUT_FILE, 1_000_000).await;
        while_hours_pass(importer.read_to_string(&mut refusal)).await.unwrap();
        assert!(refusal.starts_with("HTTP/1.1 408"), "{refusal}");

        let mut downloader = api.begin_download(pool).await;
        assert_eq!(while_hours_pass(api.total(pool)).await, LARGE_FILE_ROWS);
        downloader.read_to_string(&mut download).await.unwrap();
        assert!(!download.ends_with("\r\n0\r\n\r\n"), "the download looks complete");
    });
}

/// Waits for work while the runtime's clock runs fast.
async fn while_hours_pass<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::time::pause();
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            () = tokio::time::advance(Duration::from_hours(1)) => {}
        }
    };
    tokio::time::resume();
    done
}
