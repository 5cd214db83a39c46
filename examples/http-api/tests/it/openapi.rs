//! Checks answers against `openapi.json`.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::{Value, json};

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../openapi.json")).unwrap());

/// An endpoint: its method in lower case, and its path with placeholders.
pub(crate) type Endpoint = (String, String);

/// Returns every endpoint of the document.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let methods = |methods: &Value| methods.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let of = |(path, item): (&String, &Value)| {
        methods(item).into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).filter(|(method, _)| method != "parameters").collect()
}

/// Returns the query parameters of an endpoint.
pub(crate) fn parameters((method, path): &Endpoint) -> Vec<String> {
    let listed = DOCUMENT["paths"][path][method]["parameters"].as_array().cloned().unwrap_or_default();
    listed.iter().map(|parameter| resolved(parameter)["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the endpoint of a request, if it is one.
fn endpoint_of(method: &Method, path: &str) -> Option<Endpoint> {
    let path = path.strip_prefix("/api/v1")?.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    endpoints().into_iter().find(|(of, pattern)| {
        let pattern: Vec<&str> = pattern.split('/').collect();
        *of == method.as_str().to_ascii_lowercase()
            && pattern.len() == parts.len()
            && pattern.iter().zip(&parts).all(|(pattern, part)| pattern == part || pattern.starts_with('{'))
    })
}

fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

fn message() -> Value {
    json!({ "$ref": "#/components/schemas/Message" })
}

/// Panics unless the document has this answer for the endpoint. Refused paths and methods are not endpoints,
/// and their answer need only be a message. Returns the endpoint, if it is one.
pub(crate) fn check(
    method: &Method,
    path: &str,
    status: u16,
    content_type: &str,
    body: &[u8],
) -> Option<Endpoint> {
    let shown = String::from_utf8_lossy(body);
    let of = format!("{method} {path}: {status} {content_type} {shown:.400}");
    let endpoint = endpoint_of(method, path);
    let schema = endpoint.as_ref().map_or_else(
        || {
            assert!([401, 404, 405].contains(&status), "{of}");
            message()
        },
        |(method, path)| {
            let responses = &DOCUMENT["paths"][path][method]["responses"];
            let named = if status < 500 { status.to_string() } else { "default".to_owned() };
            let content = resolved(&responses[named])["content"].clone();
            let of_kind = &content[content_type.split(';').next().unwrap()];
            assert!(of_kind.is_object(), "the document has no such answer to {of}");
            of_kind["schema"].clone()
        },
    );
    let body = match content_type {
        "application/json" => serde_json::from_slice(body).unwrap(),
        _ => Value::String(shown.into_owned()),
    };
    let schema = json!({ "components": DOCUMENT["components"], "allOf": [schema] });
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap();
    let errors: Vec<_> =
        validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "the document does not have {of}: {errors:?}");
    endpoint
}
