//! The Data Pools API over HTTP, mapped one to one to [`datapool_store`]. It has nine endpoints, each of
//! which makes one or two calls of the store.
//!
//! This file has the endpoints. [`mod@request`] parses requests, [`mod@answer`] words their errors as Laravel
//! does, and [`mod@transfer`] streams files in and out in bounded memory. Calls of the store may block, so
//! each runs in [`spawn_blocking`].

mod answer;
mod request;
mod transfer;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use datapool_store::{
    DataPool, DataPoolStore, ImportReport, NewPool, Page, PoolId, PoolUpdate, Record, limits,
};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::task::spawn_blocking;

use answer::{Answer, Failure, Outcome, reword_refusal};
use request::{Fields, Listing, Named, Url, wants_json};

/// Enough for as many ids as the store takes at once, each with 20 digits and its separators.
const IDS_MAX_BYTES: usize = 32 * limits::BATCH_MAX_ITEMS;

type Store = State<DataPoolStore>;

/// Returns a router with the nine endpoints over a store, for clients that send `api_key` as `Authorization`.
/// A slash at the end of a path is ignored.
pub fn router(store: DataPoolStore, api_key: impl Into<Arc<str>>) -> Router {
    let endpoints = [
        ("", get(list_pools).post(create_pool)),
        ("/{data_pool}", get(show_pool).put(update_pool).delete(delete_pool)),
        ("/{data_pool}/deduped-data", get(list_records)),
        ("/{data_pool}/deduped-data/download", get(download_records)),
        // The URL in the download's JSON. It always returns the file, whatever the client accepts.
        ("/{data_pool}/deduped-data/download/file", get(transfer::download)),
        ("/{data_pool}/deduped-data/import", post(import_records).layer(DefaultBodyLimit::disable())),
        (
            "/{data_pool}/deduped-data/delete-records",
            delete(delete_records).layer(DefaultBodyLimit::max(IDS_MAX_BYTES)),
        ),
    ];
    let mut router = Router::new();
    for (path, methods) in endpoints {
        for slash in ["", "/"] {
            router = router.route(&format!("/api/v1/data-pool{path}{slash}"), methods.clone());
        }
    }
    router
        .layer(map_response(reword_refusal))
        .layer(from_fn_with_state(api_key.into(), require_key))
        .with_state(store)
}

async fn require_key(State(key): State<Arc<str>>, request: Request, next: Next) -> Outcome<Response> {
    let given = request.headers().get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    let given = match given.split_at_checked(b"Bearer ".len()) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"Bearer ") => key,
        _ => given,
    };
    if bool::from(given.ct_eq(key.as_bytes())) {
        return Ok(next.run(request).await);
    }
    Err(Failure::new(StatusCode::UNAUTHORIZED, "Unauthenticated."))
}

async fn list_pools(State(store): Store, url: Url, query: Listing) -> Answer<Page<DataPool>> {
    blocking(move || Ok(Json(store.pools(&query.pools()?)?.with_base_url(&url.0)))).await
}

async fn create_pool(State(store): Store, mut fields: Fields) -> Answer<Value> {
    let (name, description) = (fields.name(true), fields.description());
    let fields = check_name(&store, fields, name.as_deref(), None).await?;
    fields.check()?;
    let new = NewPool::new(name.unwrap_or_default());
    let new = description.into_iter().filter(|text| !text.is_empty()).fold(new, NewPool::description);
    blocking(move || Ok(in_data(store.create_pool(new)?.info()?))).await
}

async fn show_pool(State(store): Store, Named(pool): Named, query: Listing) -> Answer<Value> {
    blocking(move || Ok(in_data(store.find_pool(pool.id(), &query.pools()?)?.info()?))).await
}

async fn update_pool(State(store): Store, Named(pool): Named, mut fields: Fields) -> Answer<Value> {
    let (name, description) = (fields.name(false), fields.description());
    let fields = check_name(&store, fields, name.as_deref(), Some(pool.id())).await?;
    fields.check()?;
    let update = name.into_iter().fold(PoolUpdate::new(), PoolUpdate::name);
    let update = match description {
        Some(text) if text.is_empty() => update.clear_description(),
        Some(text) => update.description(text),
        None => update,
    };
    blocking(move || Ok(in_data(store.update_pool(pool.id(), update)?))).await
}

/// Adds an error if another pool has the name, so that it is reported together with all other errors.
async fn check_name(
    store: &DataPoolStore,
    mut fields: Fields,
    name: Option<&str>,
    own: Option<PoolId>,
) -> Outcome<Fields> {
    let (store, name) = (store.clone(), name.map(str::to_owned));
    blocking(move || {
        let other = name.and_then(|name| store.pool_named(&name).ok());
        if other.is_some_and(|other| Some(other.id()) != own) {
            fields.name_is_taken();
        }
        Ok(fields)
    })
    .await
}

async fn delete_pool(State(store): Store, Named(pool): Named) -> Answer<Value> {
    blocking(move || {
        store.delete_pool(pool.id())?;
        Ok(Json(json!({ "message": "The data pool was deleted." })))
    })
    .await
}

async fn list_records(Named(pool): Named, url: Url, query: Listing) -> Answer<Page<Record>> {
    blocking(move || Ok(Json(pool.records(&query.records()?)?.with_base_url(&url.0)))).await
}

async fn download_records(
    pool: Named,
    Url(url): Url,
    headers: HeaderMap,
    RawQuery(parameters): RawQuery,
    query: Listing,
) -> Outcome<Response> {
    if !wants_json(&headers) {
        return transfer::download(pool, query).await;
    }
    query.records()?;
    let parameters = parameters.map(|query| format!("?{query}")).unwrap_or_default();
    let message = "The file is at the URL; it is made when it is asked for.";
    Ok(Json(json!({ "message": message, "url": format!("{url}/file{parameters}") })).into_response())
}

async fn import_records(Named(pool): Named, request: Request) -> Answer<ImportReport> {
    Ok(Json(transfer::import(pool, request).await?))
}

async fn delete_records(Named(pool): Named, query: Listing, mut fields: Fields) -> Answer<Value> {
    // Many clients drop the body of a DELETE, so the query counts, too.
    fields.or_else(query);
    let ids = fields.ids();
    fields.check()?;
    blocking(move || {
        let deleted = pool.delete_records(ids)?;
        Ok(Json(json!({ "message": "The records were deleted.", "deleted": deleted })))
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(Failure::internal(panic)))
}

fn in_data(pool: DataPool) -> Json<Value> {
    Json(json!({ "data": pool }))
}
