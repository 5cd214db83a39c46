//! The contents of requests: the pool in the path, parameters, and the fields of a body, as JSON or as a
//! form.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use axum::body::Bytes;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use datapool_store::{DataPoolStore, Error, Pool, PoolId, PoolQuery, RecordId, RecordQuery, limits};
use percent_encoding::percent_decode_str;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::answer::{Failure, NAME_TAKEN, Outcome, words};
use crate::blocking;

/// The field of an import that contains the file.
pub(crate) const FILE: &str = "deduped_data_file";

/// The pool that the path names, in digits as the API prints them. Its errors come before all others of a
/// request.
pub(crate) struct Named(pub(crate) Pool);

impl FromRequestParts<DataPoolStore> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, store: &DataPoolStore) -> Outcome<Self> {
        let store = store.clone();
        let text = Path::<String>::from_request_parts(parts, &()).await.map_or(String::new(), |path| path.0);
        let id =
            text.parse::<PoolId>().map_err(|_| Failure::new(StatusCode::NOT_FOUND, "no such data pool"))?;
        blocking(move || Ok(Self(store.pool(id)?))).await
    }
}

/// The request's own URL, without a query and without a slash at its end. The links of a page begin with it.
pub(crate) struct Url(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Url {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let path = parts.uri.path().trim_end_matches('/');
        // Proxies that terminate TLS set this header. Each puts its own value first.
        let protocol = header("x-forwarded-proto").and_then(|protocols| protocols.split(',').next());
        let is_https = protocol.is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("https"));
        let scheme = if is_https { "https" } else { "http" };
        let named = header(header::HOST.as_str()).and_then(|host| host.parse::<Authority>().ok());
        let authority = parts.uri.authority().or(named.as_ref());
        // Drop everything before an @, so that no password appears in a link.
        let host = authority.and_then(|authority| authority.as_str().rsplit('@').next());
        Ok(Self(host.map_or_else(|| path.to_owned(), |host| format!("{scheme}://{host}{path}"))))
    }
}

/// The parameters of a listing.
pub(crate) struct Listing(String);

impl<S: Sync> FromRequestParts<S> for Listing {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.uri.query().unwrap_or_default().to_owned()))
    }
}

impl Listing {
    pub(crate) fn pools(&self) -> Outcome<PoolQuery> {
        self.0.parse().map_err(|error| self.refusal(&error))
    }

    pub(crate) fn records(&self) -> Outcome<RecordQuery> {
        self.0.parse().map_err(|error| self.refusal(&error))
    }

    fn refusal(&self, error: &Error) -> Failure {
        let given = form_fields(&self.0).unwrap_or_default();
        Failure::of_parameters(error, |parameter| {
            let max = match parameter {
                "page" => i64::MAX,
                "per_page" => limits::PER_PAGE_MAX.into(),
                _ => return None,
            };
            let rule = match given.get(parameter)?.as_str()?.parse::<i64>() {
                Err(_) => "must be an integer".to_owned(),
                Ok(..=0) => "must be at least 1".to_owned(),
                Ok(number) if number > max => format!("must not be greater than {max}"),
                Ok(_) => return None,
            };
            Some(format!("The {} field {rule}.", words(parameter)))
        })
    }
}

/// Returns true if the client prefers JSON, by Laravel's rule: the media type with the highest quality
/// decides, and of several such types the first one.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let quality = |kind: &&str| {
        let given =
            kind.split(';').find_map(|parameter| parameter.trim().strip_prefix("q=")?.parse::<f32>().ok());
        given.unwrap_or(1.0)
    };
    let best = accepted.split(',').rev().max_by(|a, b| quality(a).total_cmp(&quality(b)));
    best.is_some_and(is_json)
}

fn is_json(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

/// The encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Form,
    /// A form in parts, which may be files.
    Multipart,
}

impl Encoding {
    /// Returns the encoding for the content type. A body without one is JSON.
    pub(crate) fn of(headers: &HeaderMap) -> Outcome<Self> {
        let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Json) };
        let kind = kind.to_str().unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Ok(Self::Form),
            "multipart/form-data" => Ok(Self::Multipart),
            _ if is_json(kind) => Ok(Self::Json),
            _ => Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format_args!("a body is application/json or a form, not {kind:?}"),
            )),
        }
    }
}

/// The fields that endpoints know. Others are ignored, as in Laravel, and use no memory.
const KNOWN: [&str; 4] = ["name", "description", "ids", FILE];

/// The fields of a body, and the errors of those that were read.
#[derive(Debug)]
pub(crate) struct Fields {
    values: Map<String, Value>,
    failures: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Outcome<Self> {
        let encoding = Encoding::of(request.headers())?;
        if encoding == Encoding::Multipart {
            return Self::read_form(request).await;
        }
        let body = Bytes::from_request(request, state).await.map_err(|refusal| {
            let status = refusal.status();
            Failure::new(status, status.canonical_reason().unwrap_or_default())
        })?;
        blocking(move || Self::read(encoding, &body)).await
    }
}

impl Fields {
    /// Parses a body.
    ///
    /// # Errors
    ///
    /// 400 if the body does not match its content type.
    fn read(encoding: Encoding, body: &[u8]) -> Outcome<Self> {
        let malformed = |error: &dyn Display| {
            Failure::new(StatusCode::BAD_REQUEST, format_args!("the body is malformed: {error}"))
        };
        let values = match encoding {
            _ if body.is_empty() => Map::new(),
            Encoding::Form => {
                let text = std::str::from_utf8(body).map_err(|error| malformed(&error))?;
                form_fields(text).map_err(|error| malformed(&error))?
            }
            Encoding::Json | Encoding::Multipart => {
                let KnownFields(fields) = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
                fields
            }
        };
        Ok(Self { values, failures: Vec::new() })
    }

    /// Reads the text fields of a multipart form.
    async fn read_form(request: Request) -> Outcome<Self> {
        let malformed = |error: MultipartError| {
            Failure::new(
                StatusCode::BAD_REQUEST,
                format_args!("the form is malformed: {}", error.body_text()),
            )
        };
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|error| Failure::new(error.status(), error.body_text()))?;
        let mut values = Map::new();
        while let Some(field) = form.next_field().await.map_err(malformed)? {
            let name = field.name().unwrap_or_default().to_owned();
            add_field(&mut values, &name, field.text().await.map_err(malformed)?);
        }
        Ok(Self { values, failures: Vec::new() })
    }

    /// Adds the fields of a query string that are not in the body.
    pub(crate) fn or_else(&mut self, Listing(query): Listing) {
        for (field, value) in form_fields(&query).unwrap_or_default() {
            self.values.entry(field).or_insert(value);
        }
    }

    pub(crate) fn name(&mut self, is_required: bool) -> Option<String> {
        let chars = limits::POOL_NAME_MIN_CHARS..=limits::POOL_NAME_MAX_CHARS;
        match self.values.remove("name") {
            None if !is_required => None,
            None | Some(Value::Null) => self.required("name"),
            Some(Value::String(text)) if text.is_empty() => self.required("name"),
            Some(value) => self.text("name", value, chars),
        }
    }

    /// Returns the description. It is empty for null, which forms do not have. Both clear it.
    pub(crate) fn description(&mut self) -> Option<String> {
        match self.values.remove("description")? {
            Value::Null => Some(String::new()),
            value => self.text("description", value, 0..=limits::DESCRIPTION_MAX_CHARS),
        }
    }

    /// Returns the file of an import that is sent as text.
    pub(crate) fn file(&mut self) -> Option<String> {
        match self.values.remove(FILE) {
            None | Some(Value::Null) => self.required(FILE),
            Some(value) => self.text(FILE, value, 0..=usize::MAX),
        }
    }

    /// Returns ids of records: numbers or digits, in a list or separated by commas.
    pub(crate) fn ids(&mut self) -> Vec<RecordId> {
        let list = match self.values.remove("ids") {
            Some(Value::Array(list)) => list,
            // PHP encodes a list with gaps as an object.
            Some(Value::Object(list)) => list.into_iter().map(|(_, id)| id).collect(),
            Some(Value::String(text)) if !text.is_empty() => {
                text.split(',').map(|id| id.trim().into()).collect()
            }
            Some(id @ Value::Number(_)) => vec![id],
            Some(Value::Bool(_)) => return self.wrong("ids", "must be an array"),
            None | Some(Value::Null | Value::String(_)) => Vec::new(),
        };
        if list.is_empty() {
            self.required::<()>("ids");
        }
        if list.len() > limits::BATCH_MAX_ITEMS {
            let rule = format!("must not have more than {} items", limits::BATCH_MAX_ITEMS);
            return self.wrong("ids", &rule);
        }
        let ids = list.iter().enumerate().filter_map(|(place, id)| {
            let number = match id {
                Value::Number(id) => id.as_u64(),
                Value::String(id) => id.parse().ok(),
                _ => None,
            };
            number
                .map(RecordId::new)
                .or_else(|| self.wrong(&format!("ids.{place}"), "must be an integer, at least 0"))
        });
        ids.collect()
    }

    /// Records that another pool has the name.
    pub(crate) fn name_is_taken(&mut self) {
        self.failures.push(("name".to_owned(), NAME_TAKEN.to_owned()));
    }

    /// Returns an error if any field was wrong.
    ///
    /// # Errors
    ///
    /// 422 with all errors of the fields that were read.
    pub(crate) fn check(self) -> Outcome<()> {
        if self.failures.is_empty() { Ok(()) } else { Err(Failure::invalid(self.failures)) }
    }

    fn text(&mut self, field: &str, value: Value, chars: RangeInclusive<usize>) -> Option<String> {
        let Value::String(text) = value else { return self.wrong(field, "must be a string") };
        let length = text.chars().count();
        if length < *chars.start() {
            return self.wrong(field, &format!("must be at least {} characters", chars.start()));
        }
        if length > *chars.end() {
            return self.wrong(field, &format!("must not be greater than {} characters", chars.end()));
        }
        Some(text)
    }

    fn required<T: Default>(&mut self, field: &str) -> T {
        self.wrong(field, "is required")
    }

    fn wrong<T: Default>(&mut self, field: &str, rule: &str) -> T {
        self.failures.push((field.to_owned(), format!("The {} field {rule}.", words(field))));
        T::default()
    }
}

/// The known fields of a JSON object. Any other JSON value has none.
struct KnownFields(Map<String, Value>);

impl<'de> Deserialize<'de> for KnownFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KnownFields(Map::new()))
    }
}

impl<'de> Visitor<'de> for KnownFields {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if KNOWN.contains(&&*name) {
                self.0.insert(name.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

/// Parses the fields of a form or a query string.
fn form_fields(text: &str) -> Result<Map<String, Value>, std::str::Utf8Error> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().map(String::from)
    };
    let mut fields = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        add_field(&mut fields, &decode(name)?, decode(value)?);
    }
    Ok(fields)
}

/// Adds a field of a form. As in PHP, `name[]` and `name[0]` make a list, and if a field is given twice, the
/// last one counts. Several `ids` fields also make a list, because Python clients write lists in that way.
fn add_field(fields: &mut Map<String, Value>, name: &str, value: String) {
    let (name, is_list) = match name.split_once('[') {
        Some((name, _)) => (name, true),
        None => (name, name == "ids" && fields.contains_key(name)),
    };
    let value = Value::String(value);
    if !is_list {
        fields.insert(name.to_owned(), value);
        return;
    }
    match fields.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
        Value::Array(list) => list.push(value),
        first => *first = Value::Array(vec![first.take(), value]),
    }
}
