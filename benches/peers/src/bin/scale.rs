//! The costs of the store at one size: opening, checks, batches with their slowest call, and memory.
//!
//! Usage: `scale FILE RECORDS`
//!
//! Fills FILE with this many records in batches of 1,000, unless it exists. Prints one line per figure.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the figures have three digits"
)]
#![allow(clippy::indexing_slicing, reason = "a program that fails may stop where it stands")]

mod shared;

use std::error::Error;
use std::fs::{self, File};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use datapool_store::{DataPoolStore, EntityTypeId, Key, Mode, Origin, Pool, RecordFilter};
use shared::{memory, mix, value};

const ORDERS: EntityTypeId = EntityTypeId::new(37);
const BATCH: u64 = 1_000;
const BATCHES: u64 = 3_000;
const QUESTIONS: u64 = 100_000;
const ROUNDS: u64 = 9;
const ASKED_A_ROUND: u64 = 20_000;
/// Values at or above this number are in no pool.
const ABSENT: u64 = 1 << 40;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn key(value: &String) -> Key<'_> {
    Key::new(ORDERS, value)
}

/// Tracks new values in batches. Returns the milliseconds of each call, ascending.
fn track(pool: &Pool, numbers: std::ops::Range<u64>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let mut first = numbers.start;
    while first < numbers.end {
        let values: Vec<String> = (first..numbers.end.min(first + BATCH)).map(value).collect();
        let origin = Origin::new("orders", first / BATCH, "track");
        let started = Instant::now();
        let verdicts = pool.dedupe(Mode::Track, &values, key, &origin)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        assert_eq!(verdicts.new_count(), values.len());
        first += BATCH;
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn print_batches(what: &str, times: &[f64]) {
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: median {:.2} ms, 99 % {:.1}, 99.9 % {:.1}, slowest {:.1}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Returns the median of several rounds, in microseconds per check.
fn asked(pool: &Pool, number: impl Fn(u64) -> u64, is_present: bool) -> Result<f64> {
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let asked =
            (0..ASKED_A_ROUND).map(|question| mix(question << 8 | round << 1 | u64::from(is_present)));
        let values: Vec<String> = asked.map(|random| value(number(random))).collect();
        let started = Instant::now();
        for value in &values {
            assert_eq!(pool.contains(key(value))?, is_present);
        }
        rounds.push(started.elapsed().as_secs_f64() * 1e6 / ASKED_A_ROUND as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}

/// Returns the time of a random read of 4 KiB, in microseconds.
fn read_time(path: &str) -> io::Result<f64> {
    let file = File::open(path)?;
    let pages = file.metadata()?.len() / 4_096;
    let mut page = [0; 4_096];
    let started = Instant::now();
    for read in 0..200_000 {
        file.read_exact_at(&mut page, mix(read) % pages * 4_096)?;
        black_box(&page);
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / 2e5)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, records] = arguments.as_slice() else { return Err("usage: scale FILE RECORDS".into()) };
    let records: u64 = records.parse()?;
    if !fs::exists(path)? {
        let store = DataPoolStore::open(path)?;
        let started = Instant::now();
        let times = track(&store.get_or_create_pool("orders")?, 0..records)?;
        println!("filled in {:.0} s", started.elapsed().as_secs_f64());
        print_batches("batches while it was filled", &times);
        store.close()?;
    }
    // Reads the file, so that the system caches it.
    io::copy(&mut File::open(path)?, &mut io::sink())?;
    println!("p, a random read of 4 KiB: {:.2} us", read_time(path)?);

    let started = Instant::now();
    let store = DataPoolStore::open(path)?;
    let pool = store.get_or_create_pool("orders")?;
    println!("opened in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let (mut slowest, started) = (0_f64, Instant::now());
    for question in 0..QUESTIONS {
        let is_present = question % 2 == 0;
        let random = mix(question ^ 5);
        let value = value(if is_present { random % records } else { ABSENT + random % ABSENT });
        let asked = Instant::now();
        assert_eq!(pool.contains(key(&value))?, is_present);
        slowest = slowest.max(asked.elapsed().as_secs_f64());
    }
    println!("the first {QUESTIONS} questions: {:.3} s", started.elapsed().as_secs_f64());
    println!("slowest of them: {:.1} ms", slowest * 1e3);
    println!("present: {:.2} us", asked(&pool, |random| random % records, true)?);
    println!("absent: {:.2} us", asked(&pool, |random| ABSENT + random % ABSENT, false)?);
    println!("memory at most, after the checks: {}", memory()?);
    // Another run on the same file must add other values.
    let first = 2 * ABSENT + pool.count(&RecordFilter::all())?;
    let times = track(&pool, first..first + BATCHES * BATCH)?;
    print_batches("batches of 1,000 new values", &times);
    println!("memory at most: {}", memory()?);
    Ok(store.close()?)
}
