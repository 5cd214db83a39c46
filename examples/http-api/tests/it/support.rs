//! A server on a free port. Every answer to [`Api::answer`] is checked against `openapi.json`.

use std::net::SocketAddr;

use crate::openapi;
use datapool_store::{DataPoolStore, Key, Mode, Origin};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const KEY: &str = "the-tests-key";
/// The field of an import that contains the file.
pub(crate) const FILE: &str = "deduped_data_file";
pub(crate) const NOTHING: Value = Value::Null;

/// A hand-written multipart form with a file.
pub(crate) const FORM_BEFORE_FILE: &str =
    "--end\r\nContent-Disposition: form-data; name=\"deduped_data_file\"\r\n\r\n";
pub(crate) const CUT_FILE: &str = "value,entity_type_id\nA-1,37\nA-";
pub(crate) const FORM_AFTER_FILE: &str = "\r\n--end--\r\n";

/// A server, and a client for it.
pub(crate) struct Api {
    /// The server's store. It is used for tracking, which has no endpoint.
    pub(crate) store: DataPoolStore,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::over(DataPoolStore::in_memory().unwrap()).await
    }

    pub(crate) async fn over(store: DataPoolStore) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = http_api::router(store.clone(), KEY);
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { store, address, client: Client::builder().no_proxy().build().unwrap() }
    }

    /// Returns the base URL given to clients plus one of the reference's paths.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).header("Authorization", KEY)
    }

    /// Sends a body, or none for [`NOTHING`]. Returns the status and the JSON of the answer.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.request(method, path);
        answer(if body == NOTHING { request } else { request.json(&body) }).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, NOTHING).await
    }

    /// Returns one field of each item on a page.
    pub(crate) async fn listed(&self, path: &str, field: &str) -> Vec<Value> {
        let (status, page) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {page}");
        page["data"].as_array().unwrap().iter().map(|item| item[field].clone()).collect()
    }

    pub(crate) async fn total(&self, pool: u64) -> Value {
        self.get(&format!("/data-pool/{pool}/deduped-data")).await.1["meta"]["total"].clone()
    }

    pub(crate) async fn make_pool(&self, name: &str) -> u64 {
        let (status, made) = self.send(Method::POST, "/data-pool", json!({ "name": name })).await;
        assert_eq!(status, 200, "{made}");
        made["data"]["id"].as_u64().unwrap()
    }

    pub(crate) async fn import(&self, pool: u64, file: &str) -> (u16, Value) {
        let part = Part::text(file.to_owned()).file_name("values.csv");
        let path = format!("/data-pool/{pool}/deduped-data/import");
        answer(self.request(Method::POST, &path).multipart(Form::new().part(FILE, part))).await
    }

    pub(crate) async fn download(&self, pool: u64) -> String {
        let path = format!("/data-pool/{pool}/deduped-data/download");
        let response = self.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
        assert_eq!(
            response.headers()["content-disposition"],
            format!("attachment; filename=\"data-pool-{pool}.csv\"")
        );
        response.text().await.unwrap()
    }

    /// Tracks values as one step of a flow does.
    pub(crate) fn track(&self, pool: u64, flow: &str, entity_type: u32, values: &[&str]) {
        let pool = self.store.pool(pool).unwrap();
        let origin = Origin::new(flow, format!("{flow} run"), format!("{flow} step"));
        let _ = pool.dedupe(Mode::Track, values, |value| Key::new(entity_type, *value), &origin).unwrap();
    }

    /// Opens a connection, sends the head of a hand-written request, and asks the server to close after its
    /// answer.
    pub(crate) async fn connect(&self, head: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        let head =
            format!("{head}\r\nHost: {}\r\nAuthorization: {KEY}\r\nConnection: close\r\n\r\n", self.address);
        connection.write_all(head.as_bytes()).await.unwrap();
        connection
    }

    /// Opens a connection and sends the form of an import up to and including `file`. The full body has
    /// `length` bytes.
    pub(crate) async fn begin_import(&self, pool: u64, file: &str, length: usize) -> TcpStream {
        let head = format!(
            "POST /api/v1/data-pool/{pool}/deduped-data/import HTTP/1.1\r\n\
             Content-Type: multipart/form-data; boundary=end\r\nContent-Length: {length}"
        );
        let mut connection = self.connect(&head).await;
        connection.write_all(FORM_BEFORE_FILE.as_bytes()).await.unwrap();
        connection.write_all(file.as_bytes()).await.unwrap();
        connection
    }

    /// Opens a connection, requests a download, and reads its first byte.
    pub(crate) async fn begin_download(&self, pool: u64) -> TcpStream {
        let mut connection =
            self.connect(&format!("GET /api/v1/data-pool/{pool}/deduped-data/download HTTP/1.1")).await;
        assert_eq!(connection.read_u8().await.unwrap(), b'H');
        connection
    }
}

/// Returns the status and the JSON of an answer, which `openapi.json` must have.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let body = response.bytes().await.unwrap();
    openapi::check(&method, &path, status, &kind, &body);
    // The check above has already validated JSON as such.
    let value = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
    (status, value)
}
