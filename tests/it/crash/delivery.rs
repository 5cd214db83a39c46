//! Proves that a runner that claims, works and confirms delivers each item at least once and tracks it exactly once, at
//! whatever step it is killed, and that nobody waits for a lease whose owner came back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapool_store::{Claim, ClaimOptions, ClaimVerdict, Key, Origin, RecordFilter};
use tempfile::TempDir;

use super::durability::{STORE, child_of};
use crate::support::{self, ORDERS};

/// After so many steps the child is killed.
const STEPS: &str = "DATAPOOL_TEST_STEPS";
/// How many items there are, and how many are claimed together.
const ITEMS: &str = "DATAPOOL_TEST_ITEMS";
const CLAIMED: usize = 3;
/// Who waited for a lease would not come to an end.
const LEASE: Duration = Duration::from_hours(24);

fn beside(store: &Path, name: &str) -> PathBuf {
    store.with_extension(name)
}

/// Dies once it has made so many steps, without anything that a process does when it ends.
struct Steps(u64);

impl Steps {
    fn step(&mut self) {
        self.0 -= 1;
        if self.0 == 0 {
            std::process::abort();
        }
    }
}

/// A runner that delivers all items, and starts where the one before it was killed.
fn deliver_all(path: &Path) {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let mut steps = Steps(number(STEPS));
    let store = support::options().open(path).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    let token_file = beside(path, "token");
    if let Ok(text) = fs::read_to_string(&token_file) {
        // A token that was written in part is none, and the owner's name finds its claim.
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
        assert!(!claim.verdicts().iter().any(in_flight), "it waits for a lease of its own");
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

/// Delivers what a claim holds, item by item, and confirms it.
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

/// The runner is this test, started again as a child with the path of its store.
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
    // Each item of three takes some three steps; a child makes 1 to 12 of them.
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
