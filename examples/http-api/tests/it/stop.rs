//! Tests that the program shuts down on a service manager's signal: running requests are answered.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

fn a_request_under_way_is_answered_after(signal: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_http-api"));
    program.arg("127.0.0.1:0").arg(directory.path().join("pools.redb")).env("DATA_POOL_API_KEY", "secret");
    let mut server = program.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();

    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (head, body) = ("Host: x\r\nAuthorization: secret\r\nConnection: close\r\n", r#"{"name": "orders"}"#);
    let length = body.len();
    // With "100-continue", the client knows when the server has begun to read the request.
    write!(
        client,
        "POST /api/v1/data-pool HTTP/1.1\r\n{head}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    )
    .unwrap();
    let mut begun = [0; 25];
    client.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(Command::new("kill").args([signal, &server.id().to_string()]).status().unwrap().success());
    while TcpStream::connect(address).is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    client.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("orders"), "{answer}");
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_wrong_call_says_how_to_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, reason) in [
        (&["--help"][..], "usage: "),
        (&["127.0.0.1:0", "a", "b"], "usage: "),
        (&["nonsense"], "nonsense: "),
        (&["127.0.0.1:99999"], "127.0.0.1:99999: "),
        (&["127.0.0.1:0", "/nowhere/pools.redb"], "/nowhere/pools.redb"),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_http-api"));
        program.args(arguments).current_dir(&directory).env("DATA_POOL_API_KEY", "secret");
        let output = program.output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.contains(reason), "{arguments:?}: {message}");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn sigterm() {
    a_request_under_way_is_answered_after("-TERM");
}

#[test]
fn ctrl_c() {
    a_request_under_way_is_answered_after("-INT");
}
