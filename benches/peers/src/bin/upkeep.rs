//! The costs of running the store alone: imports, opening, backups, verification, compaction, and many pools.
//!
//! Usage: `upkeep DIRECTORY RECORDS`
//!
//! Makes its files in DIRECTORY, and removes those of an earlier run. Prints one line per figure.

#![allow(clippy::cast_precision_loss, reason = "the figures have three digits")]

mod shared;

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use datapool_store::{
    DataPoolStore, EntityTypeId, ImportOptions, Key, Mode, Origin, RecordFilter, Recovery, StoreOptions,
};
use shared::{memory, value};

const ORDERS: EntityTypeId = EntityTypeId::new(37);
const POOLS: u32 = 10_000;
/// The argument with which this program starts itself to write a batch and die.
const DIE: &str = "--die";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn megabytes(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.len() / 1_000_000)
}

fn print(what: &str, started: Instant) {
    println!("{what}: {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
}

/// Writes a file of values. One in ten is of another entity type.
fn write_csv(path: &Path, records: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "value,entity_type_id")?;
    for number in 0..records {
        writeln!(file, "{},{}", value(number), if number % 10 == 0 { 47 } else { 37 })?;
    }
    Ok(file.flush()?)
}

/// Opens a store, asks one question and closes it. Prints the time until the answer.
fn open(what: &str, path: &Path, recovery: Recovery) -> Result<()> {
    let started = Instant::now();
    let store = StoreOptions::new().recovery(recovery).open(path)?;
    let answer = store.pool_named("orders")?.contains(Key::new(ORDERS, value(1)))?;
    print(what, started);
    assert!(answer);
    Ok(store.close()?)
}

/// Writes a batch, and dies without closing the store.
fn die(path: &Path, recovery: Recovery) -> Result<()> {
    let store = StoreOptions::new().recovery(recovery).open(path)?;
    let values: Vec<String> = (0..1_000).map(|number| value(number + (1 << 40))).collect();
    let key = |value: &'_ String| Key::new(ORDERS, value.clone());
    let _ = store.pool_named("orders")?.dedupe(Mode::Track, &values, key, &Origin::none())?;
    std::process::abort();
}

fn after_a_death(path: &Path, recovery: Recovery) -> Result<()> {
    let which = if recovery == Recovery::Instant { "instant" } else { "rebuild" };
    let died = Command::new(std::env::current_exe()?).arg(DIE).arg(path).arg(which).status()?;
    assert!(!died.success());
    open(&format!("opened after its process died, {which}"), path, recovery)
}

fn large_pool(directory: &Path, records: u64) -> Result<()> {
    let (csv, path) = (directory.join("orders.csv"), directory.join("orders.redb"));
    write_csv(&csv, records)?;
    let store = DataPoolStore::open(&path)?;
    let started = Instant::now();
    let report = store.get_or_create_pool("orders")?.import_csv_path(&csv, &ImportOptions::new())?;
    assert_eq!(report.added, records);
    let rows = records as f64 / started.elapsed().as_secs_f64();
    println!("import: {rows:.0} rows/s; memory at most {}; file {} MB", memory()?, megabytes(&path)?);
    store.close()?;
    open("opened after it was closed", &path, Recovery::Rebuild)?;
    after_a_death(&path, Recovery::Rebuild)?;
    after_a_death(&path, Recovery::Instant)?;
    after_a_death(&path, Recovery::Instant)?;

    let store = DataPoolStore::open(&path)?;
    let started = Instant::now();
    let _ = store.backup_to(directory.join("backup.redb"))?;
    print("backup", started);
    let started = Instant::now();
    assert!(store.verify()?.ok);
    print("verify", started);
    let before = megabytes(&path)?;
    let started = Instant::now();
    let _ = store.compact()?;
    print(&format!("compact, from {before} to {} MB", megabytes(&path)?), started);
    let started = Instant::now();
    let deleted = store.pool_named("orders")?.delete_where(&RecordFilter::new().entity_type_id(47))?;
    print(&format!("deleted {deleted} by entity type"), started);
    let started = Instant::now();
    let _ = store.vacuum()?;
    print(&format!("vacuum, to {} MB", megabytes(&path)?), started);
    Ok(store.close()?)
}

fn many_pools(directory: &Path) -> Result<()> {
    let path = directory.join("pools.redb");
    let store = DataPoolStore::open(&path)?;
    for number in 0..POOLS {
        let pool = store.get_or_create_pool(format!("pool {number}"))?;
        let _ =
            pool.dedupe(Mode::Track, &["A-1", "A-2", "A-3"], |v| Key::new(ORDERS, *v), &Origin::none())?;
    }
    store.close()?;
    let bytes_a_pool = |path: &Path| -> Result<u64> { Ok(fs::metadata(path)?.len() / u64::from(POOLS)) };
    let before = bytes_a_pool(&path)?;
    let started = Instant::now();
    let store = DataPoolStore::open(&path)?;
    assert!(store.pool_named("pool 77")?.contains(Key::new(ORDERS, "A-2"))?);
    print(&format!("{POOLS} pools opened"), started);
    let _ = store.compact()?;
    store.close()?;
    println!("{POOLS} pools of three records: {before} bytes each, compacted {}", bytes_a_pool(&path)?);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [DIE, path, "instant"] => die(Path::new(path), Recovery::Instant),
        [DIE, path, _] => die(Path::new(path), Recovery::Rebuild),
        [directory, records] => {
            let directory = PathBuf::from(directory);
            let _ = fs::remove_dir_all(directory.join("upkeep"));
            let directory = directory.join("upkeep");
            fs::create_dir_all(&directory)?;
            large_pool(&directory, records.parse()?)?;
            many_pools(&directory)?;
            Ok(fs::remove_dir_all(directory)?)
        }
        _ => Err("usage: upkeep DIRECTORY RECORDS".into()),
    }
}
