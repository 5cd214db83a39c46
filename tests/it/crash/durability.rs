//! Proves that what a call returned is on disk, after the process was killed and after it ended normally.
//! Also proves that only one process at a time has a file open.
//!
//! The other process is this test binary, started again for one test, with the path of a store in its
//! environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    DataPoolStore, Durability, ErrorKind, ExportOptions, Key, Mode, NewPool, Pool, PoolQuery, RecordFilter,
    Recovery, StoreOptions, Verdict,
};
use tempfile::TempDir;

use crate::support::{self, ORDERS};

/// The environment variable with the store that a child process opens.
pub(super) const STORE: &str = "DATAPOOL_TEST_STORE";
/// The environment variable with the number of writer threads.
const WRITERS: &str = "DATAPOOL_TEST_WRITERS";
/// Set if the child uses instant recovery.
const INSTANT: &str = "DATAPOOL_TEST_INSTANT";
/// Set if the child flushes instead of committing durably.
const RELAXED: &str = "DATAPOOL_TEST_RELAXED";

const BATCH: usize = 3;

/// Starts this binary for one test of this module.
fn child(test: &str, store: &Path, environment: &[(&str, &str)]) -> Child {
    child_of(&format!("crash::durability::{test}"), store, environment)
}

/// Starts this binary for one test.
pub(super) fn child_of(test: &str, store: &Path, environment: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--include-ignored", "--exact", test, "--nocapture", "--test-threads=1"])
        .env(STORE, store)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Prints a line for the parent process, bypassing the test harness.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn open(path: &Path, options: &StoreOptions) -> DataPoolStore {
    support::embedded::open(path, options, Sizes::SMALL).unwrap()
}

fn relaxed() -> StoreOptions {
    // Longer than any test, so only explicit flushes write to disk.
    support::options().durability(Durability::Relaxed { flush_every: Duration::from_hours(1) })
}

fn batch(writer: &str, number: u64) -> Vec<String> {
    (0..BATCH).map(|item| format!("{writer}/{number}/{item}")).collect()
}

/// This is not a test by itself, but the process that the tests below kill.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_tracks_values() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let relaxed_wanted = std::env::var_os(RELAXED).is_some();
    let options = if relaxed_wanted { relaxed() } else { support::options() };
    let is_instant = std::env::var_os(INSTANT).is_some();
    let recovery = if is_instant { Recovery::Instant } else { Recovery::Rebuild };
    let store = open(path.as_ref(), &options.recovery(recovery));
    let pool = store.get_or_create_pool("orders").unwrap();
    let before = pool.count(&RecordFilter::new()).unwrap();
    let writers: u64 = std::env::var(WRITERS).unwrap().parse().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (store, pool) = (&store, &pool);
            scope.spawn(move || {
                // Names that no earlier process has used.
                let name = format!("{before}-{writer}");
                for number in 0.. {
                    assert_eq!(support::track(pool, &batch(&name, number)), BATCH);
                    if relaxed_wanted && number % 5 != 4 {
                        continue;
                    }
                    store.flush().unwrap();
                    tell(&format!("has {name} {number}"));
                }
            });
        }
    });
}

/// Lets a child track values until it has acknowledged this many, and kills it. Returns the names of the
/// writers with the number of the last batch that each acknowledged.
fn killed_after(acknowledgements: usize, path: &Path, environment: &[(&str, &str)]) -> Vec<(String, u64)> {
    let mut child = child("child_process_tracks_values", path, environment);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 {
            break;
        }
        // An incomplete line was not acknowledged.
        let Some(line) = line.strip_suffix('\n') else { break };
        if let Some((writer, number)) = line.strip_prefix("has ").and_then(|line| line.split_once(' ')) {
            acknowledged.push((writer.to_owned(), number.parse().unwrap()));
        }
        if acknowledged.len() == acknowledgements {
            // The child continues while it is being killed, and what it prints in that time counts, too.
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(acknowledged.len() >= acknowledgements, "the child ended by itself: {status}");
    acknowledged
}

/// Checks that everything acknowledged is there, and of everything else only complete batches.
fn has_what_was_acknowledged(pool: &Pool, acknowledged: &[(String, u64)]) {
    let found: BTreeSet<String> = support::values(pool).into_iter().collect();
    for (writer, last) in acknowledged {
        // The batches of a writer came one after the other.
        for number in 0..=*last {
            assert!(
                batch(writer, number).iter().all(|value| found.contains(value)),
                "{writer} {number} is lost"
            );
        }
    }
    for value in &found {
        let (batch_name, _) = value.rsplit_once('/').unwrap();
        let (writer, number) = batch_name.split_once('/').unwrap();
        assert!(batch(writer, number.parse().unwrap()).iter().all(|value| found.contains(value)));
        assert!(support::has(pool, value));
    }
    let ids: Vec<u64> = support::records(pool).iter().map(|record| record.id.get()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "ids are unique and grow");
    assert_eq!(ids.len(), found.len());
}

fn kill_again_and_again(environment: &[(&str, &str)]) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let mut acknowledged = Vec::new();
    for count in [1, 17, 60] {
        acknowledged.extend(killed_after(count, &path, environment));
        let store = open(&path, &support::options());
        let pool = store.pool_named("orders").unwrap();
        has_what_was_acknowledged(&pool, &acknowledged);
    }
}

#[test]
fn what_a_killed_process_was_told_is_tracked_is_found() {
    kill_again_and_again(&[(WRITERS, "1")]);
}

#[test]
fn what_callers_of_one_commit_were_told_is_found() {
    kill_again_and_again(&[(WRITERS, "4")]);
}

#[test]
fn what_a_killed_process_had_flushed_is_found() {
    kill_again_and_again(&[(WRITERS, "2"), (RELAXED, "yes")]);
}

/// Each process recovers the state that the previous one left, and is killed during that or after up to 40
/// acknowledgements. `DATAPOOL_KILLS` sets the number of processes (8), and `DATAPOOL_KILLS_SEED` the seed.
#[test]
fn one_file_outlives_any_number_of_killed_processes() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    drop(open(&path, &support::options()).get_or_create_pool("orders").unwrap());
    let seed = support::from_environment("DATAPOOL_KILLS_SEED").unwrap_or(3);
    let _seed = support::Seed("DATAPOOL_KILLS_SEED", seed);
    let mut numbers = support::Numbers::seeded(seed);
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..support::from_environment("DATAPOOL_KILLS").unwrap_or(8) {
        let mut environment = vec![(WRITERS, if numbers.next(2) == 0 { "1" } else { "4" })];
        environment.extend((numbers.next(2) == 0).then_some((RELAXED, "yes")));
        environment.extend((numbers.next(2) == 0).then_some((INSTANT, "yes")));
        let count = usize::try_from(numbers.next(5) * numbers.next(11)).unwrap();
        acknowledged.extend(killed_after(count, &path, &environment));
        let store = open(&path, &support::options());
        let last: Vec<(String, u64)> = acknowledged.clone().into_iter().collect();
        has_what_was_acknowledged(&store.pool_named("orders").unwrap(), &last);
        assert_eq!(store.verify().unwrap().findings, []);
    }
    println!("{} writers acknowledged, {} bytes", acknowledged.len(), fs::metadata(&path).unwrap().len());
}

/// This is not a test by itself. It claims, confirms one item, writes the claim's token to a file, and works
/// until it is killed.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_claims_and_hands_over() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let store = support::options().open(&path).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let orders = ["A-1", "A-2", "A-3"];
    let key = |order: &&'static str| Key::new(ORDERS, *order);
    let mut claim = pool.claim(&orders, key, &support::origin(), Duration::from_hours(1)).unwrap();
    claim.confirm_items(&[1]).unwrap().all_confirmed().unwrap();
    let token = claim.into_token().unwrap();
    fs::write(Path::new(&path).with_extension("token"), token.to_string()).unwrap();
    tell("handed over");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// This is not a test by itself. It takes up the claim of the token in the file, and confirms.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_takes_a_claim_up() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let store = support::options().open(&path).unwrap();
    let token = fs::read_to_string(Path::new(&path).with_extension("token")).unwrap();
    let mut claim = store.resume_claim(&token.parse().unwrap()).unwrap();
    let open: Vec<String> = claim.keys().map(|(index, key)| format!("{index} {}", key.value())).collect();
    tell(&format!("took up {}", open.join(", ")));
    claim.confirm().unwrap().all_confirmed().unwrap();
    tell("confirmed");
}

/// This is not a test by itself. It opens a store by a relative path, changes the directory, and opens it
/// again.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_changes_its_directory() {
    let Some(directory) = std::env::var_os(STORE) else { return };
    std::env::set_current_dir(&directory).unwrap();
    let store = support::options().open("pools.redb").unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    std::env::set_current_dir("/").unwrap();
    store.reopen().unwrap();
    assert!(support::has(&pool, "A-1"));
    let own = pool.export_csv_path(Path::new(&directory).join("pools.redb"), &ExportOptions::new());
    assert_eq!(own.unwrap_err().kind(), ErrorKind::InvalidArgument);
    tell("found");
}

#[test]
fn a_change_of_the_working_directory_changes_nothing_for_an_open_store() {
    let directory = TempDir::new().unwrap();
    let output =
        child("child_process_changes_its_directory", directory.path(), &[]).wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "found"), "{output:?}");
}

#[test]
fn a_process_takes_up_by_its_token_what_a_killed_one_had_claimed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let mut first = child("child_process_claims_and_hands_over", &path, &[]);
    assert_eq!(said(&mut first, &["handed over"], 1), ["handed over"]);
    first.kill().unwrap();
    first.wait().unwrap();
    {
        // The claim outlived its process, so no other caller gets the items.
        let store = support::options().open(&path).unwrap();
        let pool = store.pool_named("orders").unwrap();
        let verdicts =
            pool.dedupe(Mode::Filter, &["A-1", "A-2", "A-3"], |v| Key::new(ORDERS, *v), &support::origin());
        assert_eq!(verdicts.unwrap().as_slice(), [Verdict::InFlight, Verdict::Duplicate, Verdict::InFlight]);
    }
    let mut second = child("child_process_takes_a_claim_up", &path, &[]);
    let lines = said(&mut second, &["took up", "confirmed"], 2);
    assert_eq!(lines, ["took up 0 A-1, 2 A-3", "confirmed"]);
    second.wait().unwrap();
    let pool = open(&path, &support::options()).pool_named("orders").unwrap();
    assert_eq!(support::values(&pool), ["A-2", "A-1", "A-3"]);
    assert!(pool.claims().unwrap().is_empty());
}

/// This is not a test by itself. It opens the store, prints the result, and keeps it open until its input
/// ends.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_holds_the_store() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let opened = support::options().open(&path);
    tell(&match &opened {
        Ok(_) => "opened".to_owned(),
        Err(error) => format!("failed {:?}", error.kind()),
    });
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Returns the next `count` lines of a child that begin with one of these words.
fn said(child: &mut Child, words: &[&str], count: usize) -> Vec<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.filter(|line| words.iter().any(|word| line.starts_with(word))).take(count).collect()
}

/// Returns what the child prints after trying to open the store.
fn opening(child: &mut Child) -> String {
    said(child, &["failed", "opened"], 1).remove(0)
}

#[test]
fn a_store_that_another_process_has_open_is_already_open_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    support::track(&open(&path, &support::options()).get_or_create_pool("orders").unwrap(), &["A-1"]);
    let mut child = child("child_process_holds_the_store", &path, &[]);
    assert_eq!(opening(&mut child), "opened");
    let before = fs::read(&path).unwrap();
    for _ in 0..2 {
        let error = support::options().open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyOpen, "{error}");
        assert!(fs::read(&path).unwrap() == before, "the file changed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let store = support::options().open(&path).unwrap();
    assert!(support::has(&store.pool_named("orders").unwrap(), "A-1"));
}

#[test]
fn another_process_finds_an_open_store_already_open() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let pool = open(&path, &support::options()).get_or_create_pool("orders").unwrap();
    let mut child = child("child_process_holds_the_store", &path, &[]);
    assert_eq!(opening(&mut child), "failed AlreadyOpen");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(support::track(&pool, &["A-1"]), 1);
}

#[test]
fn a_reopened_store_has_everything_and_its_ids_go_on() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let clock = support::clock();
    let options = support::options().clock(clock.clone());
    let mut rows = Vec::new();
    let mut records = Vec::new();
    for round in 0..6_u64 {
        let store = open(&path, &options);
        let pool = store.get_or_create_pool("orders").unwrap();
        if round > 0 {
            assert_eq!(store.pools(&PoolQuery::new()).unwrap().data, rows);
        }
        assert_eq!(support::records(&pool), records);
        clock.advance(Duration::from_mins(1));
        let new = batch("round", round);
        assert_eq!(support::track(&pool, &new), BATCH);
        support::track(&pool, &(0..50).map(|number| format!("{round} {number}")).collect::<Vec<_>>());
        let first = pool.lookup(&[Key::new(ORDERS, new[0].as_str())]).unwrap().remove(0).unwrap();
        // The 53 records of each round have used up their ids, even if they are deleted.
        assert_eq!((first.id.get(), first.created_at), (1 + 53 * round, clock.now()));
        assert_eq!(pool.delete_records([first.id.get() + 1, first.id.get() + 20]).unwrap(), 2);
        let other = store.create_pool(NewPool::new(format!("pool {round}"))).unwrap();
        assert_eq!(other.id().get(), 2 + 2 * round);
        store.create_pool(NewPool::new("deleted")).unwrap();
        store.delete_pool(other.id().get() + 1).unwrap();
        rows = store.pools(&PoolQuery::new()).unwrap().data;
        records = support::records(&pool);
    }
}

#[test]
fn cleared_and_deleted_records_do_not_come_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let values: Vec<String> = (0..200).map(|number| format!("A-{number}")).collect();
    let pool = |store: DataPoolStore| store.get_or_create_pool("orders").unwrap();
    support::track(&pool(open(&path, &support::options())), &values);
    pool(open(&path, &support::options())).clear().unwrap();
    let reopened = pool(open(&path, &support::options()));
    assert_eq!(support::values(&reopened), [""; 0]);
    assert_eq!(support::track(&reopened, &values[..100]), 100);
    assert_eq!(support::records(&reopened)[0].id.get(), 201);
    reopened.delete_where(&RecordFilter::new().value("A-7")).unwrap();
    drop(reopened);
    let reopened = pool(open(&path, &support::options()));
    assert_eq!(support::records(&reopened).len(), 99);
    assert!(!support::has(&reopened, "A-7") && support::has(&reopened, "A-8"));
}

#[test]
fn time_does_not_run_backwards_over_reopening() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let clock = support::clock();
    let options = support::options().clock(clock.clone());
    support::track(&open(&path, &options).get_or_create_pool("orders").unwrap(), &["A-1"]);
    let before = clock.now();
    clock.set(support::time("2012-06-01"));
    let pool = open(&path, &options).pool_named("orders").unwrap();
    support::track(&pool, &["A-2"]);
    assert_eq!(
        support::records(&pool).iter().map(|record| record.created_at).collect::<Vec<_>>(),
        [before; 2]
    );
    // A clock that jumped back makes no record live again, and loses none.
    assert!(support::has(&pool, "A-1"));
}

#[test]
fn a_store_keeps_the_key_and_the_sizes_it_was_made_with() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let values: Vec<String> = (0..300).map(|number| format!("A-{number}")).collect();
    support::track(&open(&path, &support::options()).get_or_create_pool("orders").unwrap(), &values);
    for options in [StoreOptions::new(), StoreOptions::new().hash_key([7; 16])] {
        let pool = options.cache_size(1 << 20).open(&path).unwrap().pool_named("orders").unwrap();
        let verdicts = pool
            .dedupe(
                Mode::FilterAndTrack,
                &values,
                |value| Key::new(ORDERS, value.as_str()),
                &support::origin(),
            )
            .unwrap();
        assert_eq!(verdicts.new_count(), 0);
        assert_eq!(support::values(&pool), values);
    }
}

/// A copy of the disk of an open store is the same as after a crash.
#[test]
fn instant_recovery_has_nothing_to_repair_and_rebuilding_says_how_far_it_is() {
    let crashed = |options: &StoreOptions| {
        let (disk, store) = support::measured_store(options);
        let pool = store.get_or_create_pool("orders").unwrap();
        for number in 0..40 {
            assert_eq!(support::track(&pool, &[format!("v{number}")]), 1);
        }
        store.flush().unwrap();
        disk.copy()
    };
    let has_everything = |store: &DataPoolStore| {
        let pool = store.pool_named("orders").unwrap();
        assert_eq!(support::values(&pool).len(), 40);
        assert_eq!(support::track(&pool, &["v0", "new"]), 1);
    };
    let steps = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&steps);
    let observed = support::options().on_repair_progress(move |share| {
        heard.lock().unwrap().push(share);
        ControlFlow::Continue(())
    });
    let stopping = support::options().on_repair_progress(|_| ControlFlow::Break(()));
    for durability in [Durability::Immediate, Durability::Relaxed { flush_every: Duration::from_hours(1) }] {
        let options = support::options().durability(durability);
        let image = crashed(&options);
        let error = support::embedded::on_disk(image.copy(), &stopping, Sizes::SMALL).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        has_everything(&support::embedded::on_disk(image, &observed, Sizes::SMALL).unwrap());
        let heard = std::mem::take(&mut *steps.lock().unwrap());
        assert!(
            !heard.is_empty() && heard.is_sorted() && heard.iter().all(|share| (0.0..=1.0).contains(share))
        );

        let image = crashed(&options.recovery(Recovery::Instant));
        has_everything(&support::embedded::on_disk(image, &stopping, Sizes::SMALL).unwrap());
    }
}

#[test]
fn dropping_the_last_handle_of_a_relaxed_store_flushes() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let store = open(&path, &relaxed());
    let pool = store.get_or_create_pool("orders").unwrap();
    support::track(&pool, &["A-1"]);
    drop(store);
    support::track(&pool, &["A-2"]);
    let snapshot = pool.snapshot().unwrap();
    drop(pool);
    assert_eq!(support::options().open(&path).unwrap_err().kind(), ErrorKind::AlreadyOpen);
    drop(snapshot);
    let pool = open(&path, &support::options()).pool_named("orders").unwrap();
    assert_eq!(support::values(&pool), ["A-1", "A-2"]);
}
