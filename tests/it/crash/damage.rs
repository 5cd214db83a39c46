//! Proves that a damaged file results in right answers or errors. Bytes are flipped, zeroed, truncated, or
//! copied over others.
//!
//! Each damaged store is opened, verified and used. If verifying finds nothing, every answer must be right or
//! an error. Answers of an earlier commit are right where redb cannot distinguish damage from an interrupted
//! commit: in a file that was not closed, and in the header. If verifying finds something, later calls only
//! must not panic, abort or run for ever. All of this runs in a child process with little memory and time,
//! which an abort, a large allocation or a hang would end.
//!
//! `DATAPOOL_DAMAGES` sets the number of damages (400), and `DATAPOOL_DAMAGE_SEED` the first seed.

use std::process::Command;

use datapool_store::testing::Sizes;
use datapool_store::{Durability, Error, ErrorKind};

use crate::support::disk::TestDisk;
use crate::support::{self, Numbers, Seed, from_environment};
use crate::workload::{Driver, Op, Resting};

const SEED: &str = "DATAPOOL_DAMAGE_SEED";
/// The length of the header, in which redb keeps the roots of the two newest commits, each with a checksum.
const HEADER: usize = 320;
/// The environment variable with the number of files that a child process damages.
const COUNT: &str = "DATAPOOL_TEST_DAMAGES";

#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    found: u64,
    failed: u64,
    right: u64,
    /// The complete state of an earlier commit was found: redb treated the newest commit as interrupted.
    older: u64,
    /// Panics of redb that were turned into errors.
    contained: u64,
}

impl Tally {
    fn hear(&mut self, error: &Error) {
        use ErrorKind::{
            Closed, Corrupt, InvalidArgument, LeaseLost, NotAStore, NotFound, OutcomeUnknown, Storage,
            UnsupportedFormat,
        };
        // With a damaged store id, tokens belong to another store. After a failed opening, the store is
        // closed.
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
        // The parts of an import are separate commits.
        past.extend(driver.states_of(&op));
        driver.run(&op);
    }
    driver.rest_after(numbers.next(2) == 0, past)
}

fn damage(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let mut below = |end: usize| usize::try_from(numbers.next(end.max(1) as u64)).unwrap();
    // Only the used part of the file is damaged, and one time in four only the header.
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

/// Verifying found nothing, so all answers must be right.
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

/// Any answer is accepted.
fn use_unsound(driver: &mut Driver, numbers: &mut Numbers, tally: &mut Tally) {
    driver.reads().err().iter().for_each(|error| tally.hear(error));
    for _ in 0..4 {
        let op = driver.any_op(numbers);
        if !matches!(op, Op::Verify | Op::Rebuild) {
            driver.attempt(&op).err().iter().for_each(|error| tally.hear(error));
            // The model does not take part, so it knows no claim that was made here.
            driver.forget_claims_that_ended();
        }
    }
    driver.store().reopen().err().iter().for_each(|error| tally.hear(error));
    driver.reads().err().iter().for_each(|error| tally.hear(error));
}

/// This is not a test by itself, but a child process that may be ended.
#[test]
#[ignore = "the entry point of a child process"]
fn child_process_uses_damaged_stores() {
    let Some(count) = from_environment(COUNT) else { return };
    let first = from_environment(SEED).unwrap_or(1);
    let (mut tally, mut resting) = (Tally::default(), whole(first / 40));
    for seed in first..first + count {
        let _seed = Seed(SEED, seed);
        // After an abort, the last of these lines is the seed that caused it.
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
