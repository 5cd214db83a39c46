//! A webhook receiver: each delivery is handled once, by its idempotency key, and a repeat gets the same
//! answer as the first. See the README beside this package.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use datapool_store::{AsyncPool, ClaimVerdict, EntityTypeId, Error, Key, Origin, Record, limits};

const DELIVERIES: EntityTypeId = EntityTypeId::new(1);
/// The longest time that the work on a delivery may take. If the process dies, the key is free after this
/// time.
const LEASE: Duration = Duration::from_mins(1);
const RETRY_AFTER_SECONDS: u64 = 1;

/// The work on a delivery's body. Its text is sent back: the response, which is kept, or the error, which is
/// not.
pub type Work =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

#[derive(Clone)]
struct Receiver {
    pool: AsyncPool,
    work: Work,
}

/// Returns the routes: `POST /webhooks`.
pub fn routes(pool: AsyncPool, work: Work) -> Router {
    Router::new().route("/webhooks", post(receive)).with_state(Receiver { pool, work })
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response {
    let key = headers.get("idempotency-key").map(|key| key.to_str());
    let Some(Ok(key)) = key else {
        return (StatusCode::BAD_REQUEST, "the header Idempotency-Key is missing or not text\n")
            .into_response();
    };
    handle(&receiver, key, body).await.unwrap_or_else(|error| failure(&error))
}

async fn handle(receiver: &Receiver, key: &str, body: String) -> Result<Response, Error> {
    let origin = Origin::none().with_flow("webhooks");
    let mut claim = receiver.pool.claim(&[key], |key| Key::new(DELIVERIES, *key), &origin, LEASE).await?;
    match claim.verdict(0) {
        Some(ClaimVerdict::Claimed) => {}
        Some(ClaimVerdict::Duplicate(Some(first))) => return replay(receiver, first).await,
        _ => {
            let retry = [(header::RETRY_AFTER, RETRY_AFTER_SECONDS.to_string())];
            return Ok((StatusCode::CONFLICT, retry, "this delivery is being handled\n").into_response());
        }
    }
    // If the client goes away, this future is dropped, and if the work panics, it ends. Both drop the claim,
    // so the key is free again.
    match (receiver.work)(body).await {
        Ok(response) => {
            let kept = (response.len() <= limits::RESULT_MAX_BYTES).then_some(response.as_str());
            claim.confirm_with(|_| kept).await?.all_confirmed()?;
            Ok(response.into_response())
        }
        Err(reason) => {
            claim.release().await?;
            Ok((StatusCode::INTERNAL_SERVER_ERROR, text(reason)).into_response())
        }
    }
}

/// Returns the answer to the first delivery, if its response was kept.
async fn replay(receiver: &Receiver, first: &Record) -> Result<Response, Error> {
    let response = match receiver.pool.result(first.id).await? {
        Some(response) => String::from_utf8_lossy(&response).into_owned(),
        None => format!("handled {} as record {}\n", first.created_at, first.id),
    };
    Ok(([("idempotency-replayed", "true")], response).into_response())
}

fn failure(error: &Error) -> Response {
    let kind = error.kind();
    let status = match kind {
        _ if kind.is_caller_error() => StatusCode::BAD_REQUEST,
        _ if kind.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, text(error)).into_response()
}

fn text(of: impl Display) -> String {
    format!("{of}\n")
}
