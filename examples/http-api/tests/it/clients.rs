//! Tests that clients written only from the platform's reference work: all nine endpoints, with the encodings
//! of each client.
//!
//! `tests/clients` has the exact bytes that axios 1.21, Ruby 3.1's `Net::HTTP` and Java 17's `HttpClient`
//! were observed to send. The requests of Guzzle 7 have the headers of its default handler, and bodies from
//! PHP 8.2's `http_build_query`.

use std::collections::BTreeSet;
use std::env;
use std::process::{Command, Output};

use crate::openapi;
use crate::support::{Api, KEY};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

const FILE_OF_CLIENTS: &str = "value,entity_type_id\nA-1,37\nA-2,47\ngrün & 100%,54\n";

/// Returns the requests of a connection.
fn requests(mut bytes: &'static [u8]) -> Vec<&'static [u8]> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let text = std::str::from_utf8(&bytes[..head]).unwrap().to_ascii_lowercase();
        let length =
            text.split("content-length: ").nth(1).map_or("0", |rest| rest.split("\r\n").next().unwrap());
        let (request, rest) = bytes.split_at(head + length.parse::<usize>().unwrap());
        requests.push(request);
        bytes = rest;
    }
    requests
}

/// Sends a request unchanged. Returns the status, the content type and the body of the answer.
async fn exchange(connection: &mut BufReader<TcpStream>, request: &[u8]) -> (u16, String, Vec<u8>) {
    connection.write_all(request).await.unwrap();
    let (mut status, mut length, mut kind) = (0, None, String::new());
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await.unwrap();
        let line = line.trim_end();
        match line.split_once(": ") {
            _ if line.is_empty() => break,
            Some(("content-length", value)) => length = Some(value.parse::<usize>().unwrap()),
            Some(("content-type", value)) => kind = value.to_owned(),
            Some(_) => {}
            None => status = line.split(' ').nth(1).unwrap().parse().unwrap(),
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            connection.read_exact(&mut body).await.unwrap();
        }
        // A chunked body: each chunk is preceded by its length in hexadecimal.
        None => loop {
            let mut line = String::new();
            connection.read_line(&mut line).await.unwrap();
            let start = body.len();
            body.resize(start + usize::from_str_radix(line.trim_end(), 16).unwrap(), 0);
            connection.read_exact(&mut body[start..]).await.unwrap();
            let is_last = body.len() == start;
            connection.read_line(&mut String::new()).await.unwrap();
            if is_last {
                break;
            }
        },
    }
    (status, kind, body)
}

/// Sends the nine requests of a client over one connection, and checks each answer.
async fn converse(bytes: &'static [u8]) {
    let api = Api::start().await;
    let mut connection = BufReader::new(TcpStream::connect(api.address).await.unwrap());
    let (mut answers, mut endpoints) = (Vec::new(), BTreeSet::new());
    for request in requests(bytes) {
        let (status, kind, body) = exchange(&mut connection, request).await;
        let line = std::str::from_utf8(request.split(|byte| *byte == b'\r').next().unwrap()).unwrap();
        let (method, target) = line.split_once(' ').unwrap();
        let path = target.split([' ', '?']).next().unwrap();
        let method: Method = method.parse().unwrap();
        endpoints.extend(openapi::check(&method, path, status, &kind, &body));
        assert_eq!(status, 200, "{line}: {}", String::from_utf8_lossy(&body));
        answers
            .push(serde_json::from_slice(&body).unwrap_or(Value::String(String::from_utf8(body).unwrap())));
    }
    let published = openapi::endpoints().into_iter().filter(|(_, path)| !path.ends_with("/file"));
    assert_eq!(endpoints, published.collect());

    let [made, listed, shown, changed, imported, records, file, deleted, gone] = answers.try_into().unwrap();
    assert_eq!(
        (&made["data"]["name"], &made["data"]["description"]),
        (&json!("Orders & more"), &json!("vus à Genève"))
    );
    assert_eq!((&listed["data"], &listed["meta"]["per_page"]), (&json!([made["data"]]), &json!(50)));
    assert_eq!(shown, made);
    assert_eq!(
        (&changed["data"]["name"], &changed["data"]["description"]),
        (&json!("Orders & more"), &Value::Null)
    );
    assert_eq!((&imported["added"], &imported["bad_rows"]), (&json!(3), &json!(0)));
    let values: Vec<_> = records["data"].as_array().unwrap().iter().map(|record| &record["value"]).collect();
    assert_eq!(values, ["grün & 100%", "A-1"]);
    assert_eq!(records["data"][0]["data_pool"]["name"], "Orders & more");
    assert_eq!(file, FILE_OF_CLIENTS);
    assert_eq!(deleted["deleted"], 2);
    assert!(gone["message"].is_string());
    assert_eq!(api.get("/data-pool").await.1["meta"]["total"], 0);
}

#[tokio::test]
async fn axios() {
    converse(include_bytes!("../clients/axios.http")).await;
}

#[tokio::test]
async fn guzzle() {
    converse(include_bytes!("../clients/guzzle.http")).await;
}

#[tokio::test]
async fn ruby() {
    converse(include_bytes!("../clients/ruby.http")).await;
}

#[tokio::test]
async fn java() {
    converse(include_bytes!("../clients/java.http")).await;
}

/// Runs a program while the server answers its requests.
async fn run(mut program: Command) -> Output {
    program.env("NO_PROXY", "*").env("no_proxy", "*");
    spawn_blocking(move || program.output().unwrap_or_else(|error| panic!("{program:?}: {error}")))
        .await
        .unwrap()
}

/// All nine endpoints with `curl`, which most systems have.
#[tokio::test]
async fn curl() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("there is no curl here: not tested");
        return;
    }
    let api = Api::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("values.csv");
    std::fs::write(&path, FILE_OF_CLIENTS).unwrap();
    let file = format!("deduped_data_file=@{}", path.display());
    let json = "Content-Type: application/json";
    for (arguments, path, expected) in [
        (&["-H", json, "-d", r#"{"name": "orders"}"#][..], "/data-pool", r#""name":"orders""#),
        (&["-d", "name=Customers&description=by mail"], "/data-pool/", r#""description":"by mail""#),
        (
            &["-G", "-d", "per_page=50", "--data-urlencode", "filter[name]=ORDERS"],
            "/data-pool",
            r#""total":1"#,
        ),
        (&[], "/data-pool/1", r#""id":1"#),
        (
            &["-X", "PUT", "-H", json, "-d", r#"{"description": "by shop"}"#],
            "/data-pool/1",
            r#""description":"by shop""#,
        ),
        (&["-F", &file], "/data-pool/1/deduped-data/import", r#""added":3"#),
        (&["-g"], "/data-pool/1/deduped-data/?filter[value]=gr%C3%BCn+%26+100%25", r#""total":1"#),
        (&[], "/data-pool/1/deduped-data/download", FILE_OF_CLIENTS),
        (
            &["-H", "Accept: application/json"],
            "/data-pool/1/deduped-data/download",
            "/deduped-data/download/file",
        ),
        (
            &["-g", "-X", "DELETE"],
            "/data-pool/1/deduped-data/delete-records?ids[]=1&ids[]=3",
            r#""deleted":2"#,
        ),
        (&["-X", "DELETE"], "/data-pool/1", r#""message":"#),
        (&[], "/data-pool/", r#""total":1"#),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "-H", &format!("Authorization: {KEY}")]);
        let output = run({
            curl.args(arguments).arg(api.url(path));
            curl
        })
        .await;
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && answer.contains(expected), "{arguments:?} {path}: {answer}");
    }
}

/// All nine endpoints with Python's `requests`, which `run-tests` installs.
#[tokio::test]
async fn python_requests() {
    let Some(python) = env::var_os("HTTP_API_PYTHON") else {
        eprintln!("HTTP_API_PYTHON names no Python that has `requests`: not tested");
        return;
    };
    let api = Api::start().await;
    let mut client = Command::new(python);
    client.arg("tests/clients/client.py").args([&api.url(""), KEY]);
    let output = run(client).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(api.get("/data-pool").await.1["meta"]["total"], 0);
}
