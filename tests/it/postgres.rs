//! Proves that the PostgreSQL engine is exact when connections and the server fail, and that it reads no more
//! than it needs.
//!
//! These tests need a server: `.ci/postgres` runs them, one after the other, with `DATAPOOL_POSTGRES_URL`
//! (the server), `DATAPOOL_POSTGRES_BIN` (its programs), `DATAPOOL_POSTGRES_LOG` (its log) and
//! `DATAPOOL_POSTGRES_RESTART` (a program that stops it immediately, like a power failure, and starts it
//! again).

mod closing;
#[cfg(feature = "async")]
mod futures;
mod leftovers;
mod locked_pools;
mod lost_commits;
mod proxy;
mod refusals;
mod schemas;
mod silence;
mod statements;
mod tls;
mod upkeep;
mod urls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use datapool_store::{
    ClaimVerdict, DataPoolStore, Key, Mode, Origin, Pool, RecordFilter, StoreOptions, Verdict, WaitOutcome,
};

use crate::support::engine::new_schema;
use crate::support::{Numbers, ORDERS, from_environment, numbered};

const CLIENTS: usize = 16;
/// Values that all clients bring.
const SHARED: u64 = 2_000;
const LEASE: Duration = Duration::from_mins(5);

fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests are run by .ci/postgres"))
}

fn connect_with(schema: &str, parameters: &str) -> DataPoolStore {
    let url = environment("DATAPOOL_POSTGRES_URL") + parameters;
    StoreOptions::new().schema(schema).connect(&url).unwrap()
}

fn connect(schema: &str) -> DataPoolStore {
    connect_with(schema, "")
}

fn psql(arguments: &[&str]) -> Command {
    let mut psql = Command::new(Path::new(&environment("DATAPOOL_POSTGRES_BIN")).join("psql"));
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align"]).args(arguments);
    psql.arg(environment("DATAPOOL_POSTGRES_URL"));
    psql
}

/// Sends a query to the server, and returns its answer.
fn ask(statement: &str) -> String {
    let output = psql(&["--command", statement]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until a condition holds.
fn until(mut condition: impl FnMut() -> bool) {
    let late = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < late, "this takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until so many statements on a store wait for a lock.
fn until_calls_wait(schema: &str, count: usize) {
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{schema}%'"
    );
    until(|| ask(&waiting).parse::<usize>().unwrap() >= count);
}

/// Makes a call on a thread of its own, and fails if it takes longer than some seconds.
fn within<T: Send + 'static>(seconds: u64, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || answer.send(call()));
    answered.recv_timeout(Duration::from_secs(seconds)).expect("the call takes too long, or failed")
}

fn key(value: &String) -> Key<'_> {
    Key::new(ORDERS, value)
}

/// Tracks values, and returns the number of those that are new.
fn track_new(pool: &Pool, values: &[String]) -> usize {
    pool.dedupe(Mode::Track, values, key, &Origin::none()).unwrap().new_count()
}

// ---- Clients --------------------------------------------------------------------------------------------------

/// A client of the tests below, in its own process. It tracks and claims its own and shared values, and logs
/// the answers.
#[test]
#[ignore = "the entry point of a child process of the tests below"]
fn client() {
    let Ok(schema) = std::env::var("DATAPOOL_CLIENT_SCHEMA") else { return };
    let number = from_environment("DATAPOOL_CLIENT").unwrap();
    let until = Instant::now() + Duration::from_secs(from_environment("DATAPOOL_CLIENT_SECONDS").unwrap());
    let mut log = File::create(environment("DATAPOOL_CLIENT_LOG")).unwrap();
    let pool = connect(&schema).pool_named("orders").unwrap();
    let origin = Origin::new("client", number, "run");
    let mut numbers = Numbers::seeded(number);
    let mut round = 0_u64;
    while Instant::now() < until {
        round += 1;
        let own: Vec<String> = (0..3).map(|item| format!("own-{number}-{round}-{item}")).collect();
        let shared = (0..3).map(|_| format!("shared-{}", numbers.next(SHARED)));
        let batch: Vec<String> = own.iter().cloned().chain(shared).collect();
        if round.is_multiple_of(2) {
            track(&pool, &batch, own.len(), &origin, &mut log);
        } else {
            claim(&pool, &batch, own.len(), &origin, &mut log);
        }
    }
}

fn track(pool: &Pool, batch: &[String], own: usize, origin: &Origin, log: &mut File) {
    let verdicts = pool.dedupe(Mode::FilterAndTrack, batch, key, origin).unwrap();
    for (index, (value, verdict)) in batch.iter().zip(verdicts.as_slice()).enumerate() {
        // No other client brings these values, so only this client's own lost call could have tracked them.
        assert!(index >= own || *verdict == Verdict::New, "{value} is {verdict:?}");
        if *verdict == Verdict::New {
            writeln!(log, "new {value}").unwrap();
        }
    }
}

fn claim(pool: &Pool, batch: &[String], own: usize, origin: &Origin, log: &mut File) {
    let mut claim = pool.claim(batch, key, origin, LEASE).unwrap();
    for (index, value) in batch.iter().enumerate().take(own) {
        assert_eq!(claim.verdict(index), Some(&ClaimVerdict::Claimed), "{value}");
    }
    let confirmation = claim.confirm_with(|index| Some(format!("result of {}", batch[index]))).unwrap();
    // The lease is long, so every claimed item is confirmed.
    confirmation.all_confirmed().unwrap();
    for (index, _) in confirmation.outcomes() {
        writeln!(log, "confirmed {}", batch[*index]).unwrap();
    }
}

fn start_client(schema: &str, number: usize, seconds: u64, log: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "postgres::client"])
        .env("DATAPOOL_CLIENT_SCHEMA", schema)
        .env("DATAPOOL_CLIENT", number.to_string())
        .env("DATAPOOL_CLIENT_SECONDS", seconds.to_string())
        .env("DATAPOOL_CLIENT_LOG", log)
        .spawn()
        .unwrap()
}

/// Runs clients while something disturbs them, and compares their answers with the contents of the pool.
fn clients_are_told_the_truth(seconds: u64, mut disturb: impl FnMut(&str)) {
    let (schema, directory) = (new_schema(), tempfile::tempdir().unwrap());
    let store = connect(&schema);
    let pool = store.create_pool("orders").unwrap();
    let log = |number: usize| directory.path().join(number.to_string());
    let clients: Vec<Child> =
        (0..CLIENTS).map(|number| start_client(&schema, number, seconds, &log(number))).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        disturb(&schema);
    }
    for mut client in clients {
        assert!(client.wait().unwrap().success(), "a client got a wrong answer or an error");
    }
    let (mut told, mut confirmed) = (BTreeMap::new(), BTreeSet::new());
    for number in 0..CLIENTS {
        for line in BufReader::new(File::open(log(number)).unwrap()).lines().map(Result::unwrap) {
            let (what, value) = line.split_once(' ').unwrap();
            *told.entry(value.to_owned()).or_insert(0) += 1;
            if what == "confirmed" {
                confirmed.insert(value.to_owned());
            }
        }
    }
    assert!(told.len() > 500, "only {} values", told.len());
    let twice: Vec<_> = told.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "values reported as new more than once: {twice:?}");
    let values: Vec<String> = told.into_keys().collect();
    let keys: Vec<Key<'_>> = values.iter().map(key).collect();
    assert!(
        pool.contains_many(&keys).unwrap().into_iter().all(|found| found),
        "an acknowledged value is lost"
    );
    assert_eq!(
        pool.count(&RecordFilter::new()).unwrap(),
        values.len() as u64,
        "a value has two records, or no client got it as new"
    );
    let results = pool.results(&keys).unwrap();
    for (value, result) in values.iter().zip(results) {
        let expected = confirmed.contains(value).then(|| format!("result of {value}").into_bytes());
        assert_eq!(result, expected, "{value}");
    }
    assert_eq!(pool.claims().unwrap(), []);
    assert_eq!(store.verify().unwrap().findings, []);
    eprintln!("{} values by {CLIENTS} clients in {seconds} s", values.len());
}

fn seconds(default: u64) -> u64 {
    from_environment("DATAPOOL_POSTGRES_SECONDS").unwrap_or(default)
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn no_client_is_told_something_wrong_when_backends_are_ended_in_the_middle_of_calls() {
    let mut ended = 0;
    clients_are_told_the_truth(seconds(5), |schema| {
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE query LIKE '%{schema}%' \
             AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3) AS chosen"
        );
        ended += ask(&end).parse::<u32>().unwrap();
        std::thread::sleep(Duration::from_millis(60));
    });
    assert!(ended >= 40, "only {ended} backends were ended");
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn no_client_is_told_something_wrong_when_the_server_stops_at_once_and_starts_again() {
    let restart = environment("DATAPOOL_POSTGRES_RESTART");
    clients_are_told_the_truth(seconds(7), |_| {
        std::thread::sleep(Duration::from_secs(2));
        assert!(Command::new(&restart).status().unwrap().success());
    });
}

// ---- Queries to the server ------------------------------------------------------------------------------------

/// Transactions use "read committed" explicitly, whatever the server's default is. Otherwise they would fail,
/// or decide on the state from before they waited.
#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_server_whose_transactions_are_serializable_by_default_gives_the_same_answers() {
    let (schema, parameters) = (new_schema(), "?options=-cdefault_transaction_isolation%3Dserializable");
    let new: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let schema = &schema;
                scope.spawn(move || {
                    let pool = connect_with(schema, parameters).get_or_create_pool("orders").unwrap();
                    let new = |round: usize| {
                        let values: Vec<String> =
                            (0..20).map(|item| format!("{}", (round + item) % 200)).collect();
                        pool.dedupe(Mode::Track, &values, key, &Origin::none()).unwrap().new_count()
                    };
                    (0..100).map(new).sum::<usize>()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(new, 119, "each value is new to one client");
}

/// The plans are those that the server really used, from its log.
#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_batch_reads_records_by_index_and_of_one_pool() {
    let schema = new_schema();
    let store = connect(&schema);
    for name in ["orders", "others"] {
        let pool = store.create_pool(name).unwrap();
        for part in 0..20 {
            let values = numbered(&format!("{name}-{part}"), 1_000);
            assert_eq!(
                pool.dedupe(Mode::Track, &values, key, &Origin::new("shop", part, "read"))
                    .unwrap()
                    .new_count(),
                1_000
            );
        }
    }
    ask("VACUUM ANALYZE");
    let explained = "?options=-csession_preload_libraries%3Dauto_explain%20-cauto_explain.log_min_duration%3D0\
         %20-cauto_explain.log_analyze%3Don%20-cauto_explain.log_timing%3Doff";
    let pool = connect_with(&schema, explained).pool_named("orders").unwrap();
    let batch: Vec<String> = numbered("orders-3", 500).into_iter().chain(numbered("fresh", 500)).collect();
    assert_eq!(pool.dedupe(Mode::FilterAndTrack, &batch, key, &Origin::none()).unwrap().new_count(), 500);
    let mut claim = pool.claim(&numbered("claimed", 1_000), key, &Origin::none(), LEASE).unwrap();
    claim.confirm().unwrap().all_confirmed().unwrap();
    let keys: Vec<Key<'_>> = batch.iter().map(key).collect();
    assert!(pool.contains_many(&keys).unwrap().into_iter().all(|found| found));
    drop(claim);

    let log = std::fs::read_to_string(environment("DATAPOOL_POSTGRES_LOG")).unwrap();
    let of_store = |plan: &&str| plan.contains(schema.as_str()) && plan.contains("Query Text:");
    let plans: Vec<&str> = log.split("  plan:").filter(of_store).collect();
    assert!(plans.len() >= 15, "the log has {} plans", plans.len());
    for table in ["record", "claim_item", "result"] {
        let scan = format!("Seq Scan on {table} ");
        let scanned: Vec<_> = plans.iter().filter(|plan| plan.contains(&scan)).collect();
        // A table with a few rows is scanned as a whole. The table of claimed items was empty when the plans
        // were made.
        assert!(table == "claim_item" || scanned.is_empty(), "{table} is scanned: {scanned:?}");
    }
    // A list that is compared with each row, element by element, costs its length for each row.
    let by_lists = |plan: &&&str| {
        let tables = ["record", "claim_item", "result"];
        let is_large = tables.iter().any(|table| plan.contains(&format!(" on {table} ")));
        is_large && plan.lines().any(|line| line.contains("Filter:") && line.contains("= ANY ($"))
    };
    let quadratic: Vec<_> = plans.iter().filter(by_lists).collect();
    assert!(quadratic.is_empty(), "{quadratic:?}");
    let of_records: Vec<_> = plans.iter().filter(|plan| plan.contains(" on record ")).collect();
    assert!(of_records.len() >= 5, "only {} plans read records", of_records.len());
    for plan in of_records {
        // By index, in one pool, and once for the whole batch rather than once for each item.
        let scans = plan.lines().filter(|line| line.contains("Scan") && line.contains(" on record "));
        let most_loops = scans
            .filter_map(|line| line.split("loops=").nth(1)?.split(')').next()?.parse::<u64>().ok())
            .max();
        let conditions: Vec<&str> = plan.lines().filter(|line| line.contains("Index Cond:")).collect();
        let is_of_one_pool = conditions.iter().all(|condition| condition.contains("pool"));
        assert!(most_loops.is_none_or(|loops| loops <= 1) && is_of_one_pool, "{plan}");
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn who_waits_in_one_process_is_woken_by_another() {
    let schema = new_schema();
    let (mine, others) = (connect(&schema), connect(&schema));
    let (waits, works) = (mine.create_pool("orders").unwrap(), others.pool_named("orders").unwrap());
    for round in 0..20 {
        let value = format!("A-{round}");
        let mut claim = works.claim(std::slice::from_ref(&value), key, &Origin::none(), LEASE).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| waits.wait_for(&[key(&value)], LEASE));
            claim.confirm().unwrap().all_confirmed().unwrap();
            let outcomes = waiting.join().unwrap().unwrap();
            assert!(matches!(&outcomes[0], WaitOutcome::Tracked(record) if record.value == value));
        });
    }
}
