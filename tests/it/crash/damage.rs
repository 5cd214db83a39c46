//! Proves that a damaged file gives right answers or errors: bytes are flipped, zeroed, cut off, or copied over others.
//!
//! Each damaged store is opened, verified and used. If verifying finds nothing, every answer must be right or an error;
//! those of an earlier commit are right where redb cannot tell damage from a commit that was cut: in a file that was not
//! closed, and in the header. If it finds something, what follows may only not panic, abort or go on without end. All of
//! that happens in a child process of little memory and time, which an abort, a large allocation or a hang would end.
//!
//! `DATAPOOL_DAMAGES` says how many (400), `DATAPOOL_DAMAGE_SEED` the first one's seed.

use std::process::Command;

use datapool_store::testing::Sizes;
use datapool_store::{Durability, Error, ErrorKind};

use crate::support::disk::TestDisk;
use crate::support::{self, Numbers, Seed, from_environment};
use crate::workload::{Driver, Op, Resting};

const SEED: &str = "DATAPOOL_DAMAGE_SEED";
/// redb keeps the roots of the two newest commits in it, each with a checksum.
const HEADER: usize = 320;
/// Names how many files a child process damages.
const COUNT: &str = "DATAPOOL_TEST_DAMAGES";

#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    found: u64,
    failed: u64,
    right: u64,
    /// The state of an earlier commit was found, whole: redb took the newest for one that never came to its end.
    older: u64,
    /// Panics of redb that became errors.
    contained: u64,
}

impl Tally {
    fn hear(&mut self, error: &Error) {
        use ErrorKind::{
            Closed, Corrupt, InvalidArgument, LeaseLost, NotAStore, NotFound, OutcomeUnknown, Storage,
            UnsupportedFormat,
        };
        // A damaged id makes tokens those of another store; a failed opening leaves the store closed.
        let is_of_damage = matches!(
            error.kind(),
            Closed
                | Corrupt
                | InvalidArgument
                | LeaseLost
                | NotAStore
                | NotFound
                | OutcomeUnknown
                | Storage
                | UnsupportedFormat { .. }
        );
        assert!(is_of_damage, "{error:?}");
        self.contained += u64::from(error.to_string().contains("panicked"));
    }
}

fn whole(seed: u64) -> Resting {
    let mut numbers = Numbers::seeded(seed);
    let options = support::options().cache_size(64 << 10);
    let mut driver = Driver::new(Durability::Immediate, options, Sizes::SMALL);
    let mut past = vec![];
    for _ in 0..60 {
        past.push(driver.model().clone());
        let op = driver.any_op(&mut numbers);
        // The parts of an import are commits of their own.
        past.extend(driver.states_of(&op));
        driver.run(&op);
    }
    driver.rest_after(numbers.next(2) == 0, past)
}

fn damage(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let mut below = |end: usize| usize::try_from(numbers.next(end.max(1) as u64)).unwrap();
    // The pages that hold something come first, and the header before them.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let end = [320, used, used, used][below(4)].min(used);
    let longest = [8, 512, 4_096][below(3)];
    let (at, length) = (below(end), 1 + below(longest));
    let to = (at + length).min(bytes.len());
    match below(4) {
        0 => {
            for _ in 0..=below(8) {
                bytes[below(end)] ^= 1 << below(8);
            }
        }
        1 => bytes[at..to].fill(0),
        2 => bytes.truncate(below(used)),
        _ => {
            let from = below(used.saturating_sub(to - at));
            bytes.copy_within(from..from + (to - at), at);
        }
    }
}

fn use_damaged(resting: &Resting, numbers: &mut Numbers, tally: &mut Tally) {
    let mut bytes = resting.bytes.clone();
    damage(&mut bytes, numbers);
    let must_be_newest = resting.closed && bytes.get(..HEADER) == resting.bytes.get(..HEADER);
    let mut driver = match resting.wake(TestDisk::holding(bytes)) {
        Ok(driver) => driver,
        Err(error) => {
            tally.refused += 1;
            return tally.hear(&error);
        }
    };
    match driver.store().verify() {
        Ok(report) if report.findings.is_empty() => {
            use_sound(&mut driver, must_be_newest, numbers, tally);
        }
        verified => {
            tally.found += 1;
            verified.err().iter().for_each(|error| tally.hear(error));
            use_unsound(&mut driver, numbers, tally);
        }
    }
}

/// Verifying found nothing: answers are right.
fn use_sound(driver: &mut Driver, must_be_newest: bool, numbers: &mut Numbers, tally: &mut Tally) {
    if must_be_newest {
        driver.forget_the_past();
    }
    let mut used = driver.is_as_it_was_left();
    if matches!(used, Ok(false)) {
        tally.older += 1;
        return;
    }
    for _ in 0..3 {
        let op = driver.any_op(numbers);
        used = used.and_then(|_| {
            let answer = driver.attempt(&op)?;
            driver.acknowledged(&op, &answer);
            Ok(true)
        });
    }
    match used.and_then(|_| driver.is_as_it_was_left()) {
        Ok(_) => tally.right += 1,
        Err(error) => {
            tally.failed += 1;
            tally.hear(&error);
        }
    }
}

/// Whatever it answers, it answers.
fn use_unsound(driver: &mut Driver, numbers: &mut Numbers, tally: &mut Tally) {
    driver.reads().err().iter().for_each(|error| tally.hear(error));
    for _ in 0..4 {
        let op = driver.any_op(numbers);
        if !matches!(op, Op::Verify | Op::Rebuild) {
            driver.attempt(&op).err().iter().for_each(|error| tally.hear(error));
        }
    }
    driver.store().reopen().err().iter().for_each(|error| tally.hear(error));
    driver.reads().err().iter().for_each(|error| tally.hear(error));
}

/// Not a test of its own: the process that may be ended.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_uses_damaged_stores() {
    let Some(count) = from_environment(COUNT) else { return };
    let first = from_environment(SEED).unwrap_or(1);
    let (mut tally, mut resting) = (Tally::default(), whole(first / 40));
    for seed in first..first + count {
        let _seed = Seed(SEED, seed);
        // What an abort leaves is the last of these.
        eprintln!("{SEED}={seed}");
        if seed % 40 == 0 {
            resting = whole(seed / 40);
        }
        use_damaged(&resting, &mut Numbers::seeded(seed), &mut tally);
    }
    println!("\n{tally:?}");
}

#[test]
fn a_damaged_file_gives_right_answers_or_errors() {
    let count = from_environment("DATAPOOL_DAMAGES").unwrap_or_else(|| support::runs(100, 400));
    let seconds = 60 + count / 10;
    let limited =
        format!(r#"ulimit -v 2000000; ulimit -t {seconds}; exec "$0" --ignored --exact "$1" --nocapture"#);
    let child = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .arg("crash::damage::child_process_uses_damaged_stores")
        .env(COUNT, count.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let heard = String::from_utf8_lossy(&child.stderr);
    let last: Vec<&str> = heard.lines().rev().take(12).collect();
    assert!(child.status.success(), "{}: {last:#?}", child.status);
    let said = String::from_utf8_lossy(&child.stdout);
    let tally = said.lines().find(|line| line.starts_with("Tally")).unwrap();
    println!("{count} damaged: {tally}");
}
