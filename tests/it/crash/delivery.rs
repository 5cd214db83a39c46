//! Proves that a runner that claims, works and confirms delivers each item at least once and tracks it
//! exactly once, even if it is killed at any step, and that nobody waits for the lease of an owner that has
//! come back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapool_store::{Claim, ClaimOptions, ClaimVerdict, Key, Origin, RecordFilter};
use tempfile::TempDir;

use super::durability::{STORE, child_of};
use crate::support::{self, ORDERS};

/// The environment variable with the number of steps after which the child is killed.
const STEPS: &str = "DATAPOOL_TEST_STEPS";
/// The environment variable with the number of items, and of items per claim.
const ITEMS: &str = "DATAPOOL_TEST_ITEMS";
const CLAIMED: usize = 3;
/// A runner that waits for this lease would not finish in time.
const LEASE: Duration = Duration::from_hours(24);

fn beside(store: &Path, name: &str) -> PathBuf {
    store.with_extension(name)
}

/// Aborts after this many steps, without the usual work at the end of a process.
struct Steps(u64);

impl Steps {
    fn step(&mut self) {
        self.0 -= 1;
        if self.0 == 0 {
            std::process::abort();
        }
    }
}

/// A runner that delivers all items. It continues where the previous one was killed.
fn deliver_all(path: &Path) {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let mut steps = Steps(number(STEPS));
    let store = support::options().open(path).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let token_file = beside(path, "token");
    if let Ok(text) = fs::read_to_string(&token_file) {
        // A partly written token is not valid. Then the owner's name finds the claim.
        if let Some(mut claim) = text.parse().ok().and_then(|token| store.resume_claim(&token).ok()) {
            deliver(&mut claim, path, &mut steps);
        }
        fs::remove_file(&token_file).unwrap();
        steps.step();
    }
    for mut claim in pool.resume_claims_of("runner").unwrap() {
        steps.step();
        deliver(&mut claim, path, &mut steps);
    }
    let items: Vec<String> = (0..number(ITEMS)).map(|item| format!("A-{item}")).collect();
    for some in items.chunks(CLAIMED) {
        let options = ClaimOptions::new().lease(LEASE).owner("runner");
        let key = |item: &String| Key::new(ORDERS, item.clone());
        let mut claim = pool.claim_with(some, key, &Origin::none(), &options).unwrap();
        let in_flight =
            |(_, verdict): &(usize, ClaimVerdict)| matches!(verdict, ClaimVerdict::InFlight { .. });
        assert!(!claim.verdicts().iter().any(in_flight), "it would wait for its own lease");
        if let Some(token) = claim.token() {
            steps.step();
            fs::write(&token_file, token.to_string()).unwrap();
            steps.step();
            deliver(&mut claim, path, &mut steps);
            fs::remove_file(&token_file).unwrap();
            steps.step();
        }
    }
    fs::write(beside(path, "finished"), "").unwrap();
}

/// Delivers the items of a claim one by one, and confirms them.
fn deliver(claim: &mut Claim, path: &Path, steps: &mut Steps) {
    let open: Vec<(usize, String)> =
        claim.keys().map(|(index, key)| (index, key.value().to_owned())).collect();
    for (index, value) in open {
        let mut delivered =
            OpenOptions::new().create(true).append(true).open(beside(path, "delivered")).unwrap();
        delivered.write_all(format!("{value}\n").as_bytes()).unwrap();
        steps.step();
        claim.confirm_items(&[index]).unwrap().all_confirmed().unwrap();
        steps.step();
    }
}

/// The runner is this test binary, started as a child process with the path of its store.
#[test]
fn a_runner_that_is_killed_at_each_step_delivers_and_tracks_everything() {
    const TEST: &str = "crash::delivery::a_runner_that_is_killed_at_each_step_delivers_and_tracks_everything";
    if let Some(path) = std::env::var_os(STORE) {
        return deliver_all(path.as_ref());
    }
    let kills = support::from_environment("DATAPOOL_KILLS").unwrap_or(support::runs(40, 300));
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.redb");
    let (mut killed, mut items) = (0, 0_u64);
    // Each item takes about three steps. A child makes 1 to 12 steps.
    while killed < kills {
        items += 30;
        fs::remove_file(beside(&path, "finished")).ok();
        while !beside(&path, "finished").exists() {
            let (steps, all) = ((killed * 7 % 12 + 1).to_string(), items.to_string());
            let child = child_of(TEST, &path, &[(STEPS, &steps), (ITEMS, &all)]);
            let output = child.wait_with_output().unwrap();
            killed += u64::from(!output.status.success());
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(!text.contains("panicked") && !text.contains("FAILED"), "{text}");
        }
    }
    let delivered = fs::read_to_string(beside(&path, "delivered")).unwrap();
    let store = support::options().open(&path).unwrap();
    let pool = store.pool_named("orders").unwrap();
    assert_eq!(pool.count(&RecordFilter::new()).unwrap(), items, "tracked once each");
    for item in 0..items {
        let value = format!("A-{item}");
        assert!(support::has(&pool, &value) && delivered.lines().any(|line| line == value), "{value}");
    }
    assert!(pool.claims().unwrap().is_empty());
    assert_eq!(store.verify().unwrap().findings, []);
}
