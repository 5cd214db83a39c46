//! Proves which certificates connections trust. The server has a self-signed one, which `.ci/postgres` makes.

use std::process::Command;

use datapool_store::{DataPoolStore, ErrorKind, StoreOptions};

use super::{ask, connect_with, environment, new_schema, until};

/// A server that offers encryption, until this is dropped.
struct Encrypting;

impl Encrypting {
    fn start() -> Self {
        ask("ALTER SYSTEM SET ssl = on");
        ask("SELECT pg_reload_conf()");
        until(|| ask("SHOW ssl") == "on");
        Self
    }
}

impl Drop for Encrypting {
    fn drop(&mut self) {
        ask("ALTER SYSTEM RESET ssl");
        ask("SELECT pg_reload_conf()");
    }
}

/// Connects with a name by which the server knows the connections.
fn connect_named(schema: &str, parameters: &str) -> DataPoolStore {
    connect_with(schema, &format!("?application_name={schema}{parameters}"))
}

/// The number of encrypted connections of the store in this schema.
fn encrypted(schema: &str) -> u32 {
    let count =
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name =";
    ask(&format!("{count} '{schema}'")).parse().unwrap()
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn connections_are_encrypted_if_the_server_can_and_verified_if_the_url_says_so() {
    let (_encrypting, schema) = (Encrypting::start(), new_schema());
    let store = connect_named(&schema, "");
    store.create_pool("orders").unwrap();
    assert!(encrypted(&schema) > 0, "the server encrypts, and its certificate is not verified by default");
    store.close().unwrap();

    let plain = connect_named(&schema, "&sslmode=disable");
    plain.pool_named("orders").unwrap();
    assert_eq!(encrypted(&schema), 0);
    plain.close().unwrap();

    let url = environment("DATAPOOL_POSTGRES_URL") + "?sslmode=require";
    let error = StoreOptions::new().schema(&schema).connect(&url).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");

    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "postgres::tls::client_that_verifies"])
        .envs([("SSL_CERT_FILE", ask("SHOW ssl_cert_file")), ("DATAPOOL_CLIENT_SCHEMA", schema.clone())])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[test]
#[ignore = "the entry point of a child process of the test above"]
fn client_that_verifies() {
    let Ok(schema) = std::env::var("DATAPOOL_CLIENT_SCHEMA") else { return };
    let store = connect_named(&schema, "&sslmode=require");
    store.pool_named("orders").unwrap();
    assert!(encrypted(&schema) > 0);
}
