//! Tests the runner as a user sees it: however it is ended, each order is delivered, and tracked once.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails so")]
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use datapool_store::{Pool, RecordFilter, StoreOptions};
use tempfile::TempDir;

struct Scene {
    directory: TempDir,
    orders: Vec<String>,
}

impl Scene {
    fn of(orders: Vec<String>) -> Self {
        let scene = Self { directory: tempfile::tempdir().unwrap(), orders };
        fs::write(scene.path("orders.txt"), scene.orders.join("\n")).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self) -> Child {
        let files = ["pools.redb", "orders.txt", "sink.txt"].map(|name| self.path(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokio-runner"));
        command.args(files).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn run(&self) -> ExitStatus {
        self.start().wait().unwrap()
    }

    /// Returns the number of times that each order was delivered. A kill may cut off a line.
    fn delivered(&self) -> BTreeMap<String, usize> {
        let text = fs::read_to_string(self.path("sink.txt")).unwrap_or_default();
        let mut times = BTreeMap::new();
        for order in text.lines().filter_map(|line| line.split(' ').next()) {
            *times.entry(order.to_owned()).or_default() += 1;
        }
        times
    }

    /// Waits until the sink has this many lines, or the runner has ended.
    fn wait_for_lines(&self, lines: usize, runner: &mut Child) {
        while self.delivered().values().sum::<usize>() < lines && runner.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn pool(&self) -> Pool {
        let options = StoreOptions::new().open_timeout(Duration::from_secs(5));
        options.open(self.path("pools.redb")).unwrap().pool_named("orders").unwrap()
    }

    fn tracked(&self) -> Vec<String> {
        let mut values: Vec<String> =
            self.pool().scan(&RecordFilter::all()).unwrap().map(|record| record.unwrap().value).collect();
        values.sort();
        values
    }
}

fn orders(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("A-{number:04}")).collect()
}

#[test]
fn a_run_delivers_everything_once_and_the_next_one_nothing() {
    let scene = Scene::of(orders(90).into_iter().chain(["flaky-1".to_owned()]).collect());
    assert!(scene.run().success());
    let once: BTreeMap<String, usize> = scene.orders.iter().map(|order| (order.clone(), 1)).collect();
    assert_eq!(scene.delivered(), once);
    assert!(scene.run().success());
    assert_eq!(scene.delivered(), once);
    assert_eq!(scene.tracked(), scene.orders);
}

#[test]
fn over_kills_each_order_is_delivered_and_tracked_once() {
    let scene = Scene::of(orders(400));
    for kill in 1..=8 {
        let mut runner = scene.start();
        scene.wait_for_lines(kill * 37, &mut runner);
        runner.kill().unwrap(); // SIGKILL
        runner.wait().unwrap();
    }
    // It takes up the claims of the last runner, whose lease runs for ten more minutes.
    assert!(scene.run().success());
    let delivered = scene.delivered();
    for order in &scene.orders {
        assert!(delivered.contains_key(order), "{order} is lost");
    }
    let again: usize = delivered.values().map(|times| times - 1).sum();
    assert!(again <= 8 * 20, "{again} repeated deliveries, more than were under way");
    assert_eq!(scene.tracked(), scene.orders);
    assert!(scene.pool().claims().unwrap().is_empty());
}

#[test]
fn a_signal_ends_it_in_an_orderly_way() {
    let scene = Scene::of(orders(2_000));
    let mut runner = scene.start();
    scene.wait_for_lines(100, &mut runner);
    assert!(Command::new("kill").args(["-TERM", &runner.id().to_string()]).status().unwrap().success());
    assert!(runner.wait().unwrap().success());
    let tracked = scene.tracked();
    assert!((100..2_000).contains(&tracked.len()), "{}", tracked.len());
    let delivered: Vec<String> = scene.delivered().into_keys().collect();
    assert_eq!(delivered, tracked, "what was delivered is tracked, and nothing else");
    assert!(scene.pool().claims().unwrap().is_empty());
    assert!(scene.run().success());
    assert!(scene.delivered().values().all(|times| *times == 1));
    assert_eq!(scene.tracked(), scene.orders);
}

#[test]
fn an_order_that_the_sink_refuses_is_new_for_the_next_run() {
    let mut orders = orders(30);
    orders.push("refused-1".to_owned());
    let scene = Scene::of(orders);
    for _ in 0..2 {
        assert_eq!(scene.run().code(), Some(1));
        assert_eq!(scene.tracked(), scene.orders[..30]);
        assert!(scene.pool().claims().unwrap().is_empty());
    }
}
