//! A flow runner on real flights: import, dedupe, claims, listing, export, reopening.
//!
//! ```sh
//! cargo run --profile quick -p flow-runner                   # tests/data/flights.csv
//! cargo run --release -p flow-runner -- path/to/flights.csv  # another file with the same columns, at full speed
//! cargo run --release -p flow-runner --features postgres -- path/to/flights.csv postgresql://ann@db.example.org/flows
//! ```
//!
//! Each flight is a value that must be handled once. The carrier stands for the flow, the day for the run of
//! the flow, and the destination for the step. Each step asks the pool which of its flights are new, and
//! processes only those. The store is a file in a temporary directory, which is removed at the end. A second
//! argument names another file, or a server. After opening the store, everything is the same.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::iter::Sum;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use datapool_store::{
    ClaimVerdict, DataPoolStore, ExportColumns, ExportOptions, ImportOptions, Key, Mode, Origin, Page, Pool,
    Record, RecordFilter, RecordQuery,
};
use serde::Deserialize;

/// The pool that the file is imported into.
const IMPORTED: &str = "imported flights";
/// The pool that the flow runs deduplicate against.
const TRACKED: &str = "tracked flights";
/// The pool of the flights that are delivered with claims.
const CLAIMED: &str = "delivered flights";
/// The time that a runner may take for the flights of a step.
const LEASE: Duration = Duration::from_mins(5);
/// The number of keys per check.
const CHECK_KEYS: usize = 100_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1);
    let csv_file = arguments.next().map_or_else(sample, PathBuf::from);
    let flights = read_flights(&csv_file)?;
    let days = by_day(&flights);
    println!("{}: {} flights, {} days", csv_file.display(), grouped(count(&flights)), days.len());
    println!("\n{:<8}  {:<56}{:>12}{:>19}", "step", "result", "time", "speed");
    println!("{}", "-".repeat(95));

    let directory = tempfile::Builder::new().prefix("flow_runner-").tempdir()?;
    let store_name = arguments.next().unwrap_or_else(|| directory.path().join("flights.redb").into());
    let store = open(&store_name)?;
    ensure(store.all_pools()?.next().is_none(), "the store must be new, and this one has data pools")?;
    import(&store, &csv_file, &flights)?;
    replay(&store, &days, &flights)?;
    replay_first_day_again(&store, &days)?;
    claim(&store, &days)?;
    let page = list(&store, &days)?;
    export(&store, &directory.path().join("tracked.csv"))?;

    drop(store);
    reopen(&store_name, &flights, &days, &page)?;
    directory.close()?;
    Ok(())
}

/// Opens the store with this name, which is a file or the URL of a server.
fn open(name: &OsStr) -> datapool_store::Result<DataPoolStore> {
    #[cfg(feature = "postgres")]
    if let Some(url) = name.to_str().filter(|name| name.starts_with("postgresql://")) {
        return DataPoolStore::connect(url);
    }
    DataPoolStore::open(name)
}

// ---- The flights ----------------------------------------------------------------------------------------------

/// A row of the file. Other columns are ignored.
#[derive(Deserialize)]
struct Flight {
    value: String,
    entity_type_id: u32,
    flow_id: String,
    flow_run_id: String,
    flow_step_id: String,
}

impl Flight {
    /// Returns the key that identifies the flight: its value within its entity type.
    fn key(&self) -> Key<'_> {
        Key::new(self.entity_type_id, &self.value)
    }
}

/// The flights of each step of a flow run.
type Steps<'a> = BTreeMap<&'a str, Vec<&'a Flight>>;
/// The steps of each flow that runs on one day.
type Flows<'a> = BTreeMap<&'a str, Steps<'a>>;
/// The flows of each day, earliest day first.
type Days<'a> = BTreeMap<&'a str, Flows<'a>>;

fn sample() -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    directory.ancestors().nth(2).unwrap_or(directory).join("tests/data/flights.csv")
}

fn read_flights(file: &Path) -> Outcome<Vec<Flight>> {
    let mut start = [0; 2];
    let is_compressed = File::open(file)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| start == [0x1f, 0x8b]);
    let name = file.display();
    ensure(
        !is_compressed,
        format_args!("{name} is compressed with gzip: unpack it first, with `gunzip --keep {name}`"),
    )?;
    let failed = |error| format!("{}: {error}", file.display());
    let rows = csv::Reader::from_path(file).map_err(failed)?.into_deserialize();
    let flights: Vec<Flight> = rows.collect::<Result<_, _>>().map_err(failed)?;
    ensure(!flights.is_empty(), format_args!("{}: no flights", file.display()))?;
    Ok(flights)
}

fn by_day(flights: &[Flight]) -> Days<'_> {
    let mut days = Days::new();
    for flight in flights {
        let flows = days.entry(&flight.flow_run_id).or_default();
        let steps = flows.entry(&flight.flow_id).or_default();
        steps.entry(&flight.flow_step_id).or_default().push(flight);
    }
    days
}

fn count<T>(items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) -> u64 {
    items.into_iter().len() as u64
}

/// Returns the number of distinct keys. This many must pass a deduplication, whatever the file repeats.
fn distinct(flights: &[Flight]) -> u64 {
    flights.iter().map(Flight::key).collect::<HashSet<_>>().len() as u64
}

// ---- What the flow runner does --------------------------------------------------------------------------------

/// Imports every row of the file as a record without an origin, all in one commit.
fn import(store: &DataPoolStore, csv_file: &Path, flights: &[Flight]) -> Outcome<()> {
    let pool = store.get_or_create_pool(IMPORTED)?;
    explain(
        "Every row of the file becomes a record, in one commit. Records that are there already stay as they are.",
    );
    let all = count(flights);
    let options = ImportOptions::new().on_progress(move |progress| {
        show_progress("importing", progress.rows, all);
        ControlFlow::Continue(())
    });
    let (imported, time) = timed(|| pool.import_csv_path(csv_file, &options))?;
    show_progress("importing", all, all);

    say("import", format_args!("{} rows added", grouped(imported.added)), speed(imported.rows, time));
    ensure(imported.added == count(flights), "the import did not add every row")
}

/// Runs the flows of every day, day by day.
fn replay(store: &DataPoolStore, days: &Days<'_>, flights: &[Flight]) -> Outcome<()> {
    let pool = store.get_or_create_pool(TRACKED)?;
    explain(
        "Flow runs track their flights in another pool: FilterAndTrack passes on what is new, in one atomic step.",
    );
    let run = |(number, (day, flows)): (u64, (&&str, &Flows<'_>))| {
        show_progress("replaying", number, count(days));
        run_day(&pool, day, flows)
    };
    let (tally, time) = timed(|| (1..).zip(days).map(run).sum::<Outcome<Tally>>())?;

    say("replay", &tally, speed(count(flights), time));
    ensure(tally.fresh == distinct(flights), "the replay did not pass each flight on exactly once")
}

/// Runs the first day again. Everything is known, so nothing passes.
fn replay_first_day_again(store: &DataPoolStore, days: &Days<'_>) -> Outcome<()> {
    let pool = store.pool_named(TRACKED)?;
    let (day, flows) = days.first_key_value().ok_or("there is no day to replay")?;
    explain("The same flights come again, as they do when a flow is restarted: nothing passes.");
    let (tally, time) = timed(|| run_day(&pool, day, flows))?;

    say("again", format_args!("{day}, {tally}"), speed(tally.duplicates, time));
    ensure(tally.fresh == 0, format_args!("{} flights of {day} passed twice", tally.fresh))
}

/// Runs each flow once, all at the same time, as flow runners do. Calls that arrive together share a commit.
fn run_day(pool: &Pool, day: &str, flows: &Flows<'_>) -> Outcome<Tally> {
    thread::scope(|scope| {
        let start = |(&flow, steps)| scope.spawn(move || run_flow(pool, flow, day, steps));
        let runs: Vec<_> = flows.iter().map(start).collect();
        runs.into_iter().map(|run| Ok(run.join().map_err(|_| "a flow run panicked")??)).sum()
    })
}

/// Runs one flow once. Each step deduplicates its flights as one batch and passes on the new ones.
fn run_flow(pool: &Pool, flow: &str, run: &str, steps: &Steps<'_>) -> datapool_store::Result<Tally> {
    let mut tally = Tally::default();
    for (&step, flights) in steps {
        let origin = Origin::new(flow, run, step);
        let verdicts = pool.dedupe(Mode::FilterAndTrack, flights, |flight| flight.key(), &origin)?;
        let split = verdicts.partition(flights);
        // A real step would do its work here, only on `split.fresh`.
        tally.batches += 1;
        tally.fresh += count(&split.fresh);
        tally.duplicates += count(&split.duplicates);
    }
    Ok(tally)
}

/// The busiest run of the first day delivers its flights with a claim. One in ten deliveries fails, and the
/// next run gets exactly those.
fn claim(store: &DataPoolStore, days: &Days<'_>) -> Outcome<()> {
    let pool = store.get_or_create_pool(CLAIMED)?;
    let run = busiest_run_of_first_day(days)?;
    let flights: Vec<&Flight> = run.steps.values().flatten().copied().collect();
    explain(
        "With a claim, a flight counts as seen once its delivery is confirmed. One in ten fails; the next run gets those.",
    );
    let mut expected = run.flights();
    for attempt in [1, 2] {
        let origin = Origin::new(run.flow, run.day, format!("delivery {attempt}"));
        let deliver = || -> datapool_store::Result<(u64, u64)> {
            let mut claim = pool.claim(&flights, |flight| flight.key(), &origin, LEASE)?;
            let claimed =
                (0..flights.len()).filter(|index| claim.verdict(*index) == Some(&ClaimVerdict::Claimed));
            let claimed: Vec<usize> = claimed.collect();
            let delivered: Vec<usize> = claimed
                .iter()
                .enumerate()
                .filter(|(nth, _)| attempt == 2 || nth % 10 != 9)
                .map(|(_, index)| *index)
                .collect();
            claim.confirm_items(&delivered)?.all_confirmed()?;
            // The claim is dropped here. Items that were not confirmed are new for the next run.
            Ok((count(&claimed), count(&delivered)))
        };
        let ((claimed, delivered), time) = timed(deliver)?;
        let failed = claimed - delivered;
        say(
            "claim",
            format_args!("run {attempt}: {claimed} claimed, {delivered} confirmed, {failed} released"),
            speed(claimed, time),
        );
        ensure(
            claimed == expected,
            format_args!("run {attempt} claimed {claimed} flights instead of {expected}"),
        )?;
        expected = failed;
    }
    ensure(expected == 0, "flights are left")
}

/// Lists what the busiest flow tracked on the first day: two filters, and the second page.
fn list(store: &DataPoolStore, days: &Days<'_>) -> Outcome<Page<Record>> {
    let pool = store.pool_named(TRACKED)?;
    let run = busiest_run_of_first_day(days)?;
    explain("A page of what one flow run tracked, by two indexes, with its exact total.");
    let (page, time) = timed(|| pool.records(&run.listing()))?;

    let meta = &page.meta;
    let found = format!("{} records, page {} of {}", grouped(meta.total), meta.current_page, meta.last_page);
    say("list", format_args!("flow {}, run {}: {found}", run.flow, run.day), milliseconds(time));
    println!("{:8}  {:>8}  {:<24}{:<6}{:<6}created", "", "id", "value", "type", "step");
    page.data.iter().for_each(print_record);
    ensure(meta.total == run.flights(), "the listing's total is not what the run tracked")?;
    Ok(page)
}

/// One flow's run on one day.
struct Run<'a> {
    day: &'a str,
    flow: &'a str,
    steps: &'a Steps<'a>,
}

impl Run<'_> {
    fn flights(&self) -> u64 {
        self.steps.values().flatten().map(|flight| flight.key()).collect::<HashSet<_>>().len() as u64
    }

    fn listing(&self) -> RecordQuery {
        RecordQuery::new().flow_id(self.flow).flow_run_id(self.day).page(2).per_page(5)
    }
}

fn busiest_run_of_first_day<'a>(days: &'a Days<'a>) -> Outcome<Run<'a>> {
    let (day, flows) = days.first_key_value().ok_or("there is no day to list")?;
    let runs = flows.iter().map(|(flow, steps)| Run { day, flow, steps });
    Ok(runs.max_by_key(Run::flights).ok_or("the first day has no flow")?)
}

/// Exports everything that was tracked, with its origins, as a CSV file.
fn export(store: &DataPoolStore, file: &Path) -> Outcome<()> {
    let pool = store.pool_named(TRACKED)?;
    let options = ExportOptions::new().columns(ExportColumns::Full);
    explain("Everything that was tracked, with flow, run, step and time, as a CSV file.");
    let (exported, time) = timed(|| pool.export_csv_path(file, &options))?;

    let written = format!("{} rows, {}", grouped(exported.rows), file_size(file)?);
    say("export", written, speed(exported.rows, time));
    let rows = csv::Reader::from_path(file)?.into_records().count() as u64;
    ensure(rows == pool.count(&RecordFilter::new())?, "the exported file does not have every record")
}

/// Opens the store again and shows that everything is still there: the counts, every flight, the listing and
/// the verdicts.
fn reopen(store_name: &OsStr, flights: &[Flight], days: &Days<'_>, listed: &Page<Record>) -> Outcome<()> {
    explain("The store is closed and opened again.");
    let (store, time) = timed(|| open(store_name))?;
    let size = match store.stats()?.file_size {
        // The store is on a server.
        0 => String::new(),
        bytes => format!("{} KiB", grouped(bytes / 1_024)),
    };
    say("reopen", size, milliseconds(time));

    check_pool(&store.pool_named(IMPORTED)?, count(flights), flights)?;
    let tracked = store.pool_named(TRACKED)?;
    check_pool(&tracked, distinct(flights), flights)?;
    let page = tracked.records(&busiest_run_of_first_day(days)?.listing())?;
    ensure(page == *listed, "the same listing answers differently after reopening")?;
    replay_first_day_again(&store, days)?;
    println!("\neverything is still there");
    if cfg!(debug_assertions) {
        println!("(built without optimisation: `--release` shows the real speed)");
    }
    Ok(())
}

/// Checks that a pool has this number of records, and every flight among them.
fn check_pool(pool: &Pool, records: u64, flights: &[Flight]) -> Outcome<()> {
    let name = pool.info()?.name;
    let counted = pool.count(&RecordFilter::new())?;
    ensure(counted == records, format_args!("{name:?} has {counted} records instead of {records}"))?;

    let keys: Vec<_> = flights.iter().map(Flight::key).collect();
    let (answers, time) = timed(|| keys.chunks(CHECK_KEYS).map(|keys| pool.contains_many(keys)).collect())?;
    let answers: Vec<Vec<bool>> = answers;
    let missing = answers.iter().flatten().filter(|known| !**known).count();
    let found = format!("{} records in {name:?}, {missing} flights missing", grouped(counted));
    say("check", found, speed(count(&keys), time));
    ensure(missing == 0, format_args!("{missing} flights are missing in {name:?}"))
}

/// Stops the program with an error if something does not hold.
fn ensure(holds: bool, otherwise: impl Display) -> Outcome<()> {
    if holds { Ok(()) } else { Err(otherwise.to_string().into()) }
}

// ---- Output ---------------------------------------------------------------------------------------------------

/// The work of the steps of some runs.
#[derive(Default)]
struct Tally {
    batches: u64,
    fresh: u64,
    duplicates: u64,
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |all, one| Self {
            batches: all.batches + one.batches,
            fresh: all.fresh + one.fresh,
            duplicates: all.duplicates + one.duplicates,
        })
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (new, seen) = (grouped(self.fresh), grouped(self.duplicates));
        write!(f, "{} batches: {new} new, {seen} seen before", grouped(self.batches))
    }
}

/// Prints an explanation of the next line.
fn explain(text: impl Display) {
    println!("\n{:<8}  {text}", "");
}

/// Shows the progress of a long step on a line that the next output replaces. Does so only on a terminal.
fn show_progress(what: &str, done: u64, all: u64) {
    const WIDTH: usize = 40;
    if !io::stderr().is_terminal() {
        return;
    }
    let filled = (1..=WIDTH).take_while(|part| *part as u64 * all <= done * WIDTH as u64).count();
    let (filled, rest) = ("#".repeat(filled), ".".repeat(WIDTH - filled));
    let end = if done < all { "" } else { "\r\x1b[K" };
    eprint!("\r          {what} [{filled}{rest}] {} of {}{end}", grouped(done), grouped(all));
}

/// Prints one line: what was done, the result, and the speed.
fn say(what: &str, result: impl Display, speed: impl Display) {
    println!("{what:<8}  {:<56}{speed}", result.to_string());
}

fn print_record(record: &Record) {
    let step = record.step_id.as_ref().map_or("", |step| step.as_str());
    let Record { id, value, entity_type_id, created_at, .. } = record;
    println!("{:8}  {id:>8}  {value:<24}{:<6}{step:<6}{created_at}", "", entity_type_id.get());
}

fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, Duration), E> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed()))
}

fn speed(rows: u64, time: Duration) -> String {
    let per_second = u128::from(rows) * 1_000_000 / time.as_micros().max(1);
    format!("{}{:>12} rows/s", milliseconds(time), grouped(per_second))
}

fn milliseconds(time: Duration) -> String {
    format!("{:>9.1} ms", time.as_secs_f64() * 1_000.0)
}

fn file_size(file: &Path) -> Outcome<String> {
    Ok(format!("{} KiB", grouped(fs::metadata(file)?.len() / 1_024)))
}

/// Formats `1234567` as `1,234,567`.
fn grouped(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
