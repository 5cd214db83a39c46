//! The Data Pools API over HTTP, one to one onto [`datapool_store`]: nine endpoints, each a call or two of the store.
//!
//! Errors answer as Laravel's do: `{"message"}`, and with 422 `{"message", "errors": {"<parameter>": ["..."]}}`. Calls
//! of the store may block, so each runs in [`spawn_blocking`]. Files stream through such a thread in bounded memory.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header, request::Parts};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{BoxError, Json, Router};
use datapool_store::{
    DataPool, DataPoolStore, Error, ErrorKind, ExportOptions, ImportOptions, ImportReport, Page, Pool,
    PoolId, Record, RecordId, limits,
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::{runtime::Handle, sync::mpsc, task::spawn_blocking, time::timeout};
use tokio_util::io::{StreamReader, SyncIoBridge};

/// How long a transfer may stand still: a client that is gone without a word must not keep a thread.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many chunks wait for the client of a download, where an export writes 64 KiB at a time, or for an import.
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

/// The pool that the path names, in digits as the API prints them. What else is wrong of a request counts after it.
struct Named(Pool);

impl FromRequestParts<DataPoolStore> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, store: &DataPoolStore) -> Outcome<Self> {
        let store = store.clone();
        let text = Path::<String>::from_request_parts(parts, &()).await.map_or(String::new(), |path| path.0);
        let id = text.parse().ok().filter(|id: &PoolId| id.to_string() == text);
        let id = id.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "no such data pool"))?;
        blocking(move || Ok(Self(store.pool(id)?))).await
    }
}

async fn list_pools(State(store): Store, RawQuery(query): RawQuery) -> Answer<Page<DataPool>> {
    blocking(move || Ok(Json(store.pools(&query.unwrap_or_default().parse()?)?))).await
}

async fn create_pool(State(store): Store, body: Bytes) -> Outcome<(StatusCode, Json<Value>)> {
    let new = parse_body(&body, "name")?;
    blocking(move || Ok((StatusCode::CREATED, in_data(store.create_pool(new)?.info()?)))).await
}

async fn show_pool(State(store): Store, Named(pool): Named, RawQuery(query): RawQuery) -> Answer<Value> {
    blocking(move || Ok(in_data(store.find_pool(pool.id(), &query.unwrap_or_default().parse()?)?.info()?)))
        .await
}

async fn update_pool(State(store): Store, Named(pool): Named, body: Bytes) -> Answer<Value> {
    let update = parse_body(&body, "body")?;
    blocking(move || Ok(in_data(store.update_pool(pool.id(), update)?))).await
}

async fn delete_pool(State(store): Store, Named(pool): Named) -> Outcome<StatusCode> {
    blocking(move || Ok(store.delete_pool(pool.id()).map(|()| StatusCode::NO_CONTENT)?)).await
}

async fn list_records(Named(pool): Named, RawQuery(query): RawQuery) -> Answer<Page<Record>> {
    blocking(move || Ok(Json(pool.records(&query.unwrap_or_default().parse()?)?))).await
}

async fn download_records(Named(pool): Named) -> Outcome<Response> {
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

async fn import_records(Named(pool): Named, form: Multipart) -> Answer<ImportReport> {
    let (sender, chunks) = mpsc::channel(WAITING_CHUNKS);
    let file = stream::try_unfold(chunks, async |mut chunks: mpsc::Receiver<Option<Bytes>>| {
        let next = chunks.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        io::Result::Ok(next.map(|chunk| (chunk, chunks)))
    });
    let mut file = SyncIoBridge::new(StreamReader::new(Box::pin(file)));
    let import = spawn_blocking(move || pool.import_csv(&mut file, &ImportOptions::new()));
    let (sent, imported) = (send_file(form, sender).await, import.await.map_err(Failure::internal)?);
    sent.map_err(|error| Failure::invalid("file", error))?;
    Ok(Json(imported?))
}

/// Sends an import the form's file, then `None` if the whole form is in order: without that an import adds nothing.
/// Reads to the end in any case: many clients read no answer before, and lose one that comes with a reset connection.
async fn send_file(mut form: Multipart, import: mpsc::Sender<Option<Bytes>>) -> io::Result<()> {
    let mut files = 0;
    while let Some(mut field) = part_of(form.next_field()).await? {
        let is_file = field.name() == Some("file");
        files += usize::from(is_file);
        while let Some(chunk) = part_of(field.chunk()).await? {
            if is_file {
                let _ = import.send(Some(chunk)).await;
            }
        }
    }
    match files {
        1 => import.send(None).await.or(Ok(())),
        _ => Err(io::Error::other(format!("the form has {files} fields named file; allowed is one"))),
    }
}

#[derive(Deserialize)]
struct RecordIds {
    ids: Vec<RecordId>,
}

async fn delete_records(Named(pool): Named, body: Bytes) -> Answer<Value> {
    let RecordIds { ids } = parse_body(&body, "ids")?;
    blocking(move || Ok(Json(json!({ "deleted": pool.delete_records(&ids)? })))).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(Failure::internal(panic)))
}

fn in_data(pool: DataPool) -> Json<Value> {
    Json(json!({ "data": pool }))
}

/// Reads a JSON object. A body that is none, or lacks a field, is an error of `required`, and one in a list is of its
/// place (`ids.0`), as in Laravel.
fn parse_body<T: for<'a> Deserialize<'a>>(body: &[u8], required: &str) -> Outcome<T> {
    let fields = serde_json::from_slice(body).map_err(|error| Failure::invalid(required, error))?;
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string().replace('[', ".").replace(']', "");
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

/// What axum refuses by itself (a path, a method, an import's body, a body too large), in Laravel's form.
async fn reword_refusal(response: Response) -> Response {
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    match response.status() {
        status if is_json || !status.is_client_error() => response,
        StatusCode::BAD_REQUEST => Failure::invalid("file", "the body is no form").into_response(),
        status => Failure::new(status, status).into_response(),
    }
}
