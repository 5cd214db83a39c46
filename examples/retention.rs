//! A pool that keeps its records for 90 days. The clock is set by hand, so a year passes in a moment.
//!
//! ```sh
//! cargo run --release --example retention
//! ```
//!
//! Each day 200 orders arrive. A tenth of them repeat orders of earlier weeks. A repeat within the 90 days is
//! a duplicate; after that it is new again. The pool stops growing, and so does the file.

use std::time::Duration;

use datapool_store::{
    DataPoolStore, EntityTypeId, Key, ManualClock, Mode, NewPool, Origin, RecordFilter, Result, StoreOptions,
};

const ORDERS: EntityTypeId = EntityTypeId::new(37);
const DAY: Duration = Duration::from_hours(24);
const RETENTION_DAYS: u32 = 90;
const ORDERS_A_DAY: u32 = 200;
/// The number of these that repeat earlier orders.
const REPEATS_A_DAY: u32 = 20;

/// Returns the orders of a day: new ones, and some of an earlier day.
fn orders_of(day: u32, repeated: Option<u32>) -> Vec<String> {
    let new = (0..ORDERS_A_DAY - REPEATS_A_DAY).map(|number| format!("{day}-{number}"));
    let again =
        repeated.into_iter().flat_map(|day| (0..REPEATS_A_DAY).map(move |number| format!("{day}-{number}")));
    new.chain(again).collect()
}

fn main() -> Result<()> {
    let path = std::env::temp_dir().join(format!("datapool-retention-{}.redb", std::process::id()));
    let clock = ManualClock::starting_at("2025-01-01".parse()?);
    let store = StoreOptions::new().clock(clock.clone()).open(&path)?;
    let outcome = run_a_year(&store, &clock, || std::fs::metadata(&path).map_or(0, |file| file.len()));
    drop(store);
    // The file belongs to this example, so a failure to remove it is harmless.
    let _ = std::fs::remove_file(path);
    outcome
}

fn run_a_year(store: &DataPoolStore, clock: &ManualClock, file_bytes: impl Fn() -> u64) -> Result<()> {
    let pool = store.create_pool(NewPool::new("orders").retention(DAY * RETENTION_DAYS))?;
    println!("{:>10} {:>12} {:>12} {:>14} {:>12}", "date", "live", "oldest", "repeats known", "file, KiB");
    let mut known = 0;
    for day in 0..365_u32 {
        // Repeats are 30 days old in the first half of the year. In the second half they are 100 days old,
        // and so expired.
        let age = if day < 180 { 30 } else { 100 };
        let orders = orders_of(day, day.checked_sub(age));
        let origin = Origin::new("shop", u64::from(day), "read orders");
        let verdicts =
            pool.dedupe(Mode::FilterAndTrack, &orders, |order| Key::new(ORDERS, order), &origin)?;
        known += orders.len() - verdicts.new_count();
        if day % 30 == 29 {
            let live = pool.count(&RecordFilter::new())?;
            let oldest = pool.scan(&RecordFilter::new())?.next().transpose()?;
            let date = |time: String| time.get(..10).unwrap_or_default().to_owned();
            let oldest = oldest.map(|record| date(record.created_at.to_string())).unwrap_or_default();
            let now = date(clock.now().to_string());
            println!("{now:>10} {live:>12} {oldest:>12} {known:>14} {:>12}", file_bytes() / 1024);
            known = 0;
        }
        clock.advance(DAY);
    }
    // Nothing is written any more. After 90 days all records have expired, and their space can be reclaimed.
    clock.advance(DAY * RETENTION_DAYS);
    assert_eq!(pool.count(&RecordFilter::new())?, 0);
    let report = pool.prune()?;
    println!("given back at the end: {} records in {} segments", report.records, report.segments);
    Ok(())
}
