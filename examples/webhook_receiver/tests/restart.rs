//! Tests the program when it is killed with SIGKILL and started again: a repeat gets the response that the
//! killed process sent.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Receiver {
    process: Child,
    address: String,
}

impl Receiver {
    fn start(store: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_webhook-receiver"));
        let mut process = command
            .arg(store)
            .arg("127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { process, address }
    }

    /// Sends a delivery. Returns the head and the body of the answer.
    fn send(&self, key: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "POST /webhooks HTTP/1.1\r\nHost: here\r\nIdempotency-Key: {key}\r\nConnection: close\r\n"
        );
        write!(stream, "{head}Content-Length: 2\r\n\r\n{{}}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        (head.to_ascii_lowercase(), body.to_owned())
    }
}

impl Drop for Receiver {
    /// Kills the program with SIGKILL.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_repeat_after_a_kill_and_a_restart_gets_the_first_response() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("pools.redb");
    let mut responses = Vec::new();
    for round in 0..4 {
        let receiver = Receiver::start(&store);
        for (number, response) in responses.iter().enumerate() {
            let (head, body) = receiver.send(&format!("key {number}"));
            assert!(head.contains("idempotency-replayed: true"), "{head}");
            assert_eq!(body, *response, "round {round}");
        }
        let (head, body) = receiver.send(&format!("key {round}"));
        assert!(!head.contains("idempotency-replayed") && body.starts_with("received "), "{head} {body}");
        responses.push(body);
    }
    responses.dedup();
    assert_eq!(responses.len(), 4, "responses created at different times must differ");
}
