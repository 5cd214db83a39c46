//! Proves that calls notice a server that has stopped while its host still takes what they send, and that they
//! wait for one that is only slow.

use std::process::Command;

use datapool_store::{ErrorKind, RecordFilter};

use super::locked_pools::Locked;
use super::proxy::Proxy;
use super::{ask, connect_with, new_schema, track_new, until, within};

/// Both limits in seconds, so that a silent server is noticed soon.
const SOON: &str = "tcp_user_timeout=1&connect_timeout=1";

/// The server's processes, stopped until this is dropped.
struct Stopped {
    processes: Vec<String>,
}

impl Stopped {
    fn all() -> Self {
        let file = ask("SELECT pg_read_file('postmaster.pid')");
        let others = ask("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
        // The postmaster first, so that no process is added.
        let processes = file.lines().take(1).chain(others.lines()).map(str::to_owned).collect();
        let stopped = Self { processes };
        assert!(stopped.signal("-STOP"), "the server's processes cannot be stopped");
        stopped
    }

    fn signal(&self, signal: &str) -> bool {
        Command::new("kill").arg(signal).args(&self.processes).status().unwrap().success()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn calls_fail_when_the_server_has_stopped_and_succeed_when_it_goes_on() {
    let store = connect_with(&new_schema(), &format!("?{SOON}"));
    let pool = store.create_pool("orders").unwrap();
    assert_eq!(track_new(&pool, &["A".to_owned()]), 1);
    let snapshot = pool.snapshot().unwrap();

    let stopped = Stopped::all();
    let (of_read, of_write, of_list) = (pool.clone(), pool.clone(), store.clone());
    let calls = [
        std::thread::spawn(move || of_read.count(&RecordFilter::new()).map(drop)),
        std::thread::spawn(move || of_write.clear().map(drop)),
        std::thread::spawn(move || of_list.all_pools().map(drop)),
        std::thread::spawn(move || snapshot.count(&RecordFilter::new()).map(drop)),
    ];
    let answers = within(60, move || calls.map(|call| call.join().unwrap()));
    drop(stopped);

    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage, "{error}");
        assert!(error.to_string().contains("did not answer"), "{error}");
    }
    assert_eq!(track_new(&pool, &["B".to_owned()]), 1);
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), 2);
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_call_waits_as_long_as_a_slow_server_takes_connections() {
    let (proxy, schema) = (Proxy::start(), new_schema());
    let store = proxy.connect_with(&schema, SOON);
    let pool = store.create_pool("orders").unwrap();
    let lock = Locked::new(&schema, pool.id());
    let of_call = pool.clone();
    let call = std::thread::spawn(move || track_new(&of_call, &["A".to_owned()]));
    // The call looks more than once if the server still takes connections.
    let before = proxy.connections();
    until(|| proxy.connections() >= before + 2);
    drop(lock);
    assert_eq!(call.join().unwrap(), 1);
}
