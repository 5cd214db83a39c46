//! Answers that report a failure: `{"message"}`, and with 422 `{"message", "errors": {"<parameter>":
//! ["..."]}}`, worded as in Laravel.

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

/// An answer that reports a failure.
#[derive(Debug)]
pub(crate) struct Failure(StatusCode, Value);

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Display) -> Self {
        Self(status, json!({ "message": message.to_string() }))
    }

    /// Creates a 422 from the errors of each parameter, in the order of the messages. There must be at least
    /// one.
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

    /// Creates a 422 from all errors about the store's parameters, worded by a rule of Laravel where there is
    /// one.
    pub(crate) fn of_parameters(error: &Error, rule: impl Fn(&str) -> Option<String>) -> Self {
        Self::invalid(std::iter::once(error).chain(error.further()).map(|error| {
            let parameter = error.parameter().unwrap_or("query");
            let message = rule(parameter).unwrap_or_else(|| worded(parameter, &error.to_string()));
            (parameter.to_owned(), message)
        }))
    }

    /// Logs the error for the operator. The client only learns that there was one.
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

/// Turns the store's message about a parameter into a sentence that begins like Laravel's.
fn worded(parameter: &str, message: &str) -> String {
    match message.strip_prefix(parameter) {
        Some(rest) => format!("The {} field{rest}.", words(parameter)),
        None => message.to_owned(),
    }
}

/// Returns a parameter's name as Laravel writes it in a sentence.
pub(crate) fn words(parameter: &str) -> String {
    parameter.replace('_', " ")
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// Converts axum's own refusals (a path, a method, a body too large) to Laravel's form.
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
