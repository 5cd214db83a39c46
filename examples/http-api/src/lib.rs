//! The Data Pools API over HTTP, one to one onto [`datapool_store`]: nine endpoints, each a call or two of the store.
//!
//! Errors answer as Laravel's do: `{"message"}`, and with 422 `{"message", "errors": {"<parameter>": ["..."]}}`. Calls
//! of the store may block, so each runs in [`spawn_blocking`]. Files stream through such a thread in bounded memory.

use std::fmt::Display;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{BoxError, Json, Router};
use datapool_store::{
    DataPool, DataPoolStore, Error, ErrorKind, ExportOptions, ImportOptions, ImportReport, Page, Pool,
    PoolId, Record, RecordId, limits,
};
use futures_util::{TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// How long a transfer may stand still: a client that is gone without a word must not keep a thread.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many chunks of a download wait for the client. An export writes 64 KiB at a time.
const WAITING_CHUNKS: usize = 4;
/// As many ids as the store takes at once, of 20 digits each, with what stands between them.
const IDS_MAX_BYTES: usize = 32 * limits::BATCH_MAX_ITEMS;

type Store = State<DataPoolStore>;
type Outcome<T> = Result<T, Failure>;
type Answer<T> = Outcome<Json<T>>;

/// The nine endpoints over a store, for clients that send `api_key` as `X-API-Key`.
pub fn router(store: DataPoolStore, api_key: impl Into<Arc<str>>) -> Router {
    let import = post(import_records).layer(DefaultBodyLimit::disable());
    let delete_records = delete(delete_records).layer(DefaultBodyLimit::max(IDS_MAX_BYTES));
    Router::new()
        .route("/data-pool", get(list_pools).post(create_pool))
        .route("/data-pool/{data_pool}", get(show_pool).put(update_pool).delete(delete_pool))
        .route("/data-pool/{data_pool}/deduped-data", get(list_records))
        .route("/data-pool/{data_pool}/deduped-data/download", get(download_records))
        .route("/data-pool/{data_pool}/deduped-data/import", import)
        .route("/data-pool/{data_pool}/deduped-data/delete-records", delete_records)
        .layer(map_response(reword_refusal))
        .layer(from_fn_with_state(api_key.into(), require_key))
        .with_state(store)
}

async fn require_key(State(key): State<Arc<str>>, request: Request, next: Next) -> Outcome<Response> {
    let given = request.headers().get("x-api-key").map_or(&[][..], HeaderValue::as_bytes);
    if bool::from(given.ct_eq(key.as_bytes())) {
        return Ok(next.run(request).await);
    }
    Err(Failure::new(StatusCode::UNAUTHORIZED, "the header X-API-Key is missing or wrong"))
}

async fn list_pools(State(store): Store, query: RawQuery) -> Answer<Page<DataPool>> {
    blocking(move || Ok(Json(store.pools(&parse_query(query)?)?))).await
}

async fn create_pool(State(store): Store, body: Bytes) -> Outcome<(StatusCode, Json<Value>)> {
    let new = parse_body(&body, "name")?;
    blocking(move || Ok((StatusCode::CREATED, in_data(store.create_pool(new)?.info()?)))).await
}

async fn show_pool(State(store): Store, Path(id): Path<PoolId>, query: RawQuery) -> Answer<Value> {
    blocking(move || Ok(in_data(store.find_pool(id, &parse_query(query)?)?.info()?))).await
}

async fn update_pool(State(store): Store, Path(id): Path<PoolId>, body: Bytes) -> Answer<Value> {
    let update = parse_body(&body, "body")?;
    blocking(move || Ok(in_data(store.update_pool(id, update)?))).await
}

async fn delete_pool(State(store): Store, Path(id): Path<PoolId>) -> Outcome<StatusCode> {
    blocking(move || Ok(store.delete_pool(id)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_records(State(store): Store, Path(id): Path<PoolId>, query: RawQuery) -> Answer<Page<Record>> {
    blocking(move || Ok(Json(store.pool(id)?.records(&parse_query(query)?)?))).await
}

async fn download_records(State(store): Store, Path(id): Path<PoolId>) -> Outcome<Response> {
    let pool = blocking(move || Ok(store.pool(id)?)).await?;
    let (sender, chunks) = mpsc::channel(WAITING_CHUNKS);
    let export = spawn_blocking(move || pool.export_csv(Download(sender), &ExportOptions::new()));
    // The export's outcome ends the body: a failure breaks the response off, lest it be taken for the whole.
    let body = stream::try_unfold((chunks, export), |(mut chunks, export)| async move {
        match chunks.recv().await {
            Some(chunk) => Ok(Some((chunk, (chunks, export)))),
            None => export.await?.map(|_| None).map_err(BoxError::from),
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(body)).into_response())
}

async fn import_records(
    State(store): Store,
    Path(id): Path<PoolId>,
    form: Result<Multipart, MultipartRejection>,
) -> Answer<ImportReport> {
    let mut form = form.map_err(|refusal| Failure::invalid("file", refusal.body_text()))?;
    blocking(move || {
        let pool = store.pool(id)?;
        let (runtime, broken) = (Handle::current(), |error| Failure::invalid("file", error));
        while let Some(field) = runtime.block_on(part_of(form.next_field())).map_err(broken)? {
            if field.name() == Some("file") {
                return import_file(&pool, field);
            }
        }
        Err(Failure::invalid("file", "the form has no field named file"))
    })
    .await
}

fn import_file(pool: &Pool, field: Field<'_>) -> Answer<ImportReport> {
    let mut is_broken = false;
    let chunks = stream::try_unfold(field, async |mut field| {
        Ok(part_of(field.chunk()).await?.map(|chunk| (chunk, field)))
    });
    // An import fails with `Io` for its own files too: whether the client's broke off is noted here.
    let chunks = chunks.inspect_err(|_: &io::Error| is_broken = true);
    let mut upload = SyncIoBridge::new(StreamReader::new(Box::pin(chunks)));
    let imported = pool.import_csv(&mut upload, &ImportOptions::new());
    if imported.is_err() {
        // Many clients read no answer before all is sent, and lose one that comes with a reset connection.
        let _ = io::copy(&mut upload, &mut io::sink());
    }
    drop(upload);
    match imported {
        Err(error) if error.kind() == ErrorKind::Io && is_broken => Err(Failure::invalid("file", error)),
        imported => Ok(Json(imported?)),
    }
}

#[derive(Deserialize)]
struct RecordIds {
    ids: Vec<RecordId>,
}

async fn delete_records(State(store): Store, Path(id): Path<PoolId>, body: Bytes) -> Answer<Value> {
    let RecordIds { ids } = parse_body(&body, "ids")?;
    blocking(move || Ok(Json(json!({ "deleted": store.pool(id)?.delete_records(&ids)? })))).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(Failure::internal(panic)))
}

fn in_data(pool: DataPool) -> Json<Value> {
    Json(json!({ "data": pool }))
}

fn parse_query<Q: FromStr<Err = Error>>(RawQuery(query): RawQuery) -> Result<Q, Error> {
    query.unwrap_or_default().parse()
}

/// Reads a JSON object. A body that is none, or lacks a field, is an error of `required`, as in Laravel.
fn parse_body<T: for<'a> Deserialize<'a>>(body: &[u8], required: &str) -> Outcome<T> {
    let fields = serde_json::from_slice(body).map_err(|error| Failure::invalid(required, error))?;
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        Failure::invalid(if path == "." { required } else { &path }, error.inner())
    })
}

/// What the client sends next, unless it stands still.
async fn part_of<T>(part: impl Future<Output = Result<T, MultipartError>>) -> io::Result<T> {
    timeout(PATIENCE, part).await?.map_err(|error| io::Error::other(error.body_text()))
}

/// A download as an export writes it. It fails when the client is gone or stands still.
struct Download(mpsc::Sender<Bytes>);

impl Write for Download {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send_timeout(Bytes::copy_from_slice(bytes), PATIENCE);
        Handle::current().block_on(sent).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer that is no success, in Laravel's form.
struct Failure(StatusCode, Value);

impl Failure {
    fn new(status: StatusCode, message: impl Display) -> Self {
        Self(status, json!({ "message": message.to_string() }))
    }

    fn invalid(parameter: &str, message: impl Display) -> Self {
        let message = message.to_string();
        let errors = json!({ parameter: [message] });
        Self(StatusCode::UNPROCESSABLE_ENTITY, json!({ "message": message, "errors": errors }))
    }

    /// Tells the operator what happened, and the client only that something did.
    fn internal(error: impl Display) -> Self {
        eprintln!("{error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Server Error")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let otherwise = match error.kind() {
            ErrorKind::NotFound => return Self::new(StatusCode::NOT_FOUND, error),
            ErrorKind::InvalidQuery => "query",
            ErrorKind::AlreadyExists => "name",
            ErrorKind::Csv { .. } => "file",
            ErrorKind::InvalidArgument | ErrorKind::LimitExceeded => "ids",
            _ => return Self::internal(error),
        };
        Self::invalid(error.parameter().unwrap_or(otherwise), &error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// What axum refuses by itself (a path, a method, an id that is no number, a body too large), in Laravel's form.
async fn reword_refusal(response: Response) -> Response {
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    match response.status() {
        status if is_json || !status.is_client_error() => response,
        StatusCode::BAD_REQUEST => Failure::new(StatusCode::NOT_FOUND, "no such data pool").into_response(),
        status => Failure::new(status, status).into_response(),
    }
}
