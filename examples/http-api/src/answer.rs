//! Answers that are no success: `{"message"}`, and with 422 `{"message", "errors": {"<parameter>": ["..."]}}`, in Laravel's words.

use std::fmt::Display;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use datapool_store::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::request::FILE;

pub(crate) type Outcome<T> = Result<T, Failure>;
pub(crate) type Answer<T> = Outcome<Json<T>>;

pub(crate) const NAME_TAKEN: &str = "The name has already been taken.";

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Failure(StatusCode, Value);

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Display) -> Self {
        Self(status, json!({ "message": message.to_string() }))
    }

    /// What is wrong of each parameter, in the order of the messages: at least one.
    pub(crate) fn invalid(messages: impl IntoIterator<Item = (String, String)>) -> Self {
        let (mut all, mut errors) = (Vec::new(), Map::new());
        for (parameter, message) in messages {
            all.push(message.clone());
            if let Value::Array(of_parameter) = errors.entry(parameter).or_insert_with(|| json!([])) {
                of_parameter.push(message.into());
            }
        }
        let summary = match all.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            [first, _] => format!("{first} (and 1 more error)"),
            [first, others @ ..] => format!("{first} (and {} more errors)", others.len()),
        };
        Self(StatusCode::UNPROCESSABLE_ENTITY, json!({ "message": summary, "errors": errors }))
    }

    pub(crate) fn of(parameter: &str, message: impl Display) -> Self {
        Self::invalid([(parameter.to_owned(), message.to_string())])
    }

    /// All that is wrong of the store's parameters, by a rule of Laravel where there is one.
    pub(crate) fn of_parameters(error: &Error, rule: impl Fn(&str) -> Option<String>) -> Self {
        Self::invalid(std::iter::once(error).chain(error.further()).map(|error| {
            let parameter = error.parameter().unwrap_or("query");
            let message = rule(parameter).unwrap_or_else(|| worded(parameter, &error.to_string()));
            (parameter.to_owned(), message)
        }))
    }

    /// Tells the operator what happened, and the client only that something did.
    pub(crate) fn internal(error: impl Display) -> Self {
        eprintln!("{error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Server Error")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::new(StatusCode::NOT_FOUND, error),
            ErrorKind::AlreadyExists => Self::of("name", NAME_TAKEN),
            ErrorKind::Csv { .. } => Self::of(FILE, error),
            ErrorKind::InvalidQuery | ErrorKind::InvalidArgument | ErrorKind::LimitExceeded => {
                Self::of_parameters(&error, |_| None)
            }
            ErrorKind::StorageFull => {
                eprintln!("{error}");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "The server's disk is full.")
            }
            _ => Self::internal(error),
        }
    }
}

/// The store's message of a parameter, as a sentence that begins as Laravel's do.
fn worded(parameter: &str, message: &str) -> String {
    match message.strip_prefix(parameter) {
        Some(rest) => format!("The {} field{rest}.", words(parameter)),
        None => message.to_owned(),
    }
}

/// A parameter as Laravel names it in a sentence.
pub(crate) fn words(parameter: &str) -> String {
    parameter.replace('_', " ")
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// What axum refuses by itself (a path, a method, a body too large), in Laravel's form.
pub(crate) async fn reword_refusal(response: Response) -> Response {
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let status = response.status();
    if is_json || !status.is_client_error() {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut reworded = Failure::new(status, status.canonical_reason().unwrap_or_default()).into_response();
    if let Some(allow) = allow {
        reworded.headers_mut().insert(header::ALLOW, allow);
    }
    reworded
}
