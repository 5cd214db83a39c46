//! The rows of the group `check`: checks if values exist, one by one, many at once, and from two threads. For
//! `growth`, also the cost of checks right after opening.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use crate::Result;
use crate::common::{Random, Row};
use crate::engines::{Engine, EngineKind, Past};
use crate::files::Setting;
use crate::measure::{Contender, Rounds, Spread, Turn, alternate, float, take_turns, timed};
use crate::report::{Report, Unit};

/// The number of values in one call. Half of them exist.
const MANY: usize = 10_000;
const MANY_KINDS: [EngineKind; 7] = [
    EngineKind::Store,
    EngineKind::Sqlite,
    EngineKind::SqliteJoining,
    EngineKind::Lmdb,
    EngineKind::Fjall,
    EngineKind::RocksDb,
    EngineKind::Redb,
];
/// The approximate time for which a thread checks in a round, and the number of rounds, where threads are
/// compared. It is long enough to hide the cost of starting a thread.
const THREAD_AIM: f64 = 0.1;
const THREAD_ROUNDS: usize = 7;
/// The number of checks that are made to estimate the time of one.
const FIRST_CALLS: usize = 2_000;

/// An open database that is only read.
struct Reader {
    name: &'static str,
    engine: Box<dyn Engine>,
}

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    let mut report = Report::new("check", format!("Checks, {} records", setting.size.name()));
    let rows = super::asked(setting.size.random());
    let mut readers = open(setting, &EngineKind::peers())?;
    for (name, rows) in ["present", "absent"].into_iter().zip(&rows) {
        warm(&mut readers, rows)?;
        eprintln!("measuring: checks, {name}");
        report.row(name, Unit::Time, one_by_one(&mut readers, rows)?);
    }
    eprintln!("measuring: checks, two threads");
    two_threads(&mut readers, &rows, &mut report)?;
    drop(readers);
    eprintln!("measuring: checks, many values");
    report.row(
        "10,000 values",
        Unit::Time,
        many(&mut open(setting, &EngineKind::compiled(&MANY_KINDS))?, &rows)?,
    );
    report.note(
        "Of the 10,000 values half are there; all but the store ask for them in the order of their index.",
    );
    report.note("In random order, of up to 200,000 values of each kind, each asked for before.");
    Ok(report)
}

/// Returns databases with all records, and checks that they agree.
fn open(setting: Setting<'_>, kinds: &[EngineKind]) -> Result<Vec<Reader>> {
    let open = |kind: &EngineKind| {
        let mut engine = kind.open(&setting.base(*kind, Past::Loaded)?)?;
        super::check_contents(kind.name(), engine.as_mut(), setting.size.random())?;
        Ok(Reader { name: kind.name(), engine })
    };
    kinds.iter().map(open).collect()
}

/// Looks up every value, so that each engine has cached what it can.
fn warm(readers: &mut [Reader], rows: &[Row]) -> Result<()> {
    for Reader { engine, .. } in readers {
        rows.iter().try_for_each(|row| engine.contains(row).map(drop))?;
    }
    Ok(())
}

fn one_by_one(readers: &mut [Reader], rows: &[Row]) -> Result<Vec<(&'static str, Spread)>> {
    let names: Vec<_> = readers.iter().map(|reader| reader.name).collect();
    let contender = |reader| {
        let Reader { engine, .. }: &mut Reader = reader;
        Contender::new(move |number| {
            let row = rows.get(number % rows.len()).ok_or("there is a row to ask for")?;
            engine.contains(row)
        })
    };
    let spreads = alternate(readers.iter_mut().map(contender).collect())?;
    Ok(names.into_iter().zip(spreads).collect())
}

fn many(readers: &mut [Reader], [present, absent]: &[Vec<Row>; 2]) -> Result<Vec<(&'static str, Spread)>> {
    let half = MANY / 2;
    let batch = |(present, absent): (&[Row], &[Row])| [present, absent].concat();
    let batches: Vec<Vec<Row>> =
        present.chunks_exact(half).zip(absent.chunks_exact(half)).map(batch).collect();
    let names: Vec<_> = readers.iter().map(|reader| reader.name).collect();
    let expected: Vec<bool> = (0..MANY).map(|index| index < half).collect();
    for Reader { name, engine } in &mut *readers {
        for batch in &batches {
            assert_eq!(engine.contains_many(batch)?, expected, "{name}");
        }
    }
    let contender = |reader| {
        let Reader { engine, .. }: &mut Reader = reader;
        let batches = &batches;
        Contender::new(move |number| {
            let batch = batches.get(number % batches.len()).ok_or("there are values to ask for")?;
            engine.contains_many(batch)
        })
    };
    let spreads = alternate(readers.iter_mut().map(contender).collect())?;
    Ok(names.into_iter().zip(spreads).collect())
}

// ---- Threads --------------------------------------------------------------------------------------------------

/// Reports how many times as many checks two threads make as one.
fn two_threads(readers: &mut [Reader], [present, _]: &[Vec<Row>; 2], report: &mut Report) -> Result<()> {
    let mut turns = Vec::new();
    for Reader { engine, .. } in &*readers {
        let mut handles = [engine.another()?, engine.another()?];
        let calls = calls_for(THREAD_AIM, together(&mut handles, present, 0, FIRST_CALLS)?);
        let mut place = 0;
        turns.push(Turn::new(move || {
            place += 2 * calls;
            let [first, _] = &mut handles;
            let one = together(std::slice::from_mut(first), present, place, calls)?;
            let two = together(&mut handles, present, place, calls)?;
            Ok((one, two))
        }));
    }
    let taken: Vec<Vec<(f64, f64)>> = take_turns(Rounds::Exactly(THREAD_ROUNDS), turns)?;
    let cells = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let spread = |turns: &Vec<(f64, f64)>| Spread::of(turns.iter().map(of));
        readers.iter().map(|reader| reader.name).zip(taken.iter().map(spread)).collect::<Vec<_>>()
    };
    report.row("from 2 threads", Unit::Time, cells(&|(_, two)| *two));
    report.row("speed-up by 2 threads", Unit::Times, cells(&|(one, two)| one / two));
    Ok(())
}

/// Returns the number of calls that take this many seconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
fn calls_for(aim: f64, call: f64) -> usize {
    (aim / call).clamp(1e3, 1e6) as usize
}

/// Returns the mean time of a check if each handle makes `calls` of them in its own thread.
fn together(handles: &mut [Box<dyn Engine>], rows: &[Row], place: usize, calls: usize) -> Result<f64> {
    let all = handles.len() * calls;
    let start = Instant::now();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (engine, place) in handles.iter_mut().zip((place..).step_by(calls)) {
            threads.push(scope.spawn(move || check_all(engine.as_mut(), rows, place..place + calls)));
        }
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(start.elapsed().as_secs_f64() / float(all as u64))
}

/// Returns an error as text, because the error itself may be bound to its thread.
fn check_all(engine: &mut dyn Engine, rows: &[Row], places: Range<usize>) -> std::result::Result<(), String> {
    for place in places {
        let row = rows.get(place % rows.len()).ok_or("there is a row to ask for")?;
        engine.contains(row).map_err(|error| error.to_string())?;
    }
    Ok(())
}

// ---- After opening --------------------------------------------------------------------------------------------

/// The number of first checks after opening. Half of them are for existing values.
const FIRST: usize = 100_000;
/// The number of rounds after the first checks, and the number of checks per round. Each check is for another
/// value.
const WARM_ROUNDS: usize = 9;
const WARM_CALLS: usize = 20_000;
/// The number and the length of random reads that measure how fast the file can be read.
const READS: usize = 200_000;
const READ_BYTES: usize = 4_096;

/// The cost of checks in a newly opened engine, in seconds. Its files are cached by the system.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromOpening {
    /// The time of a random read of 4 KiB from its largest file.
    pub(super) read: f64,
    /// The mean of the first 100,000 checks, and the slowest of them.
    pub(super) first: f64,
    pub(super) slowest_first: f64,
    /// The medians of later rounds, from one, two and eight threads.
    pub(super) present: [f64; 3],
    pub(super) absent: [f64; 3],
}

/// Each engine is measured alone, because the files of all engines would not fit in the system's cache.
pub(super) fn from_opening(setting: Setting<'_>, kind: EngineKind) -> Result<FromOpening> {
    let directory = setting.base(kind, Past::Loaded)?;
    let largest = read_all(&directory)?.ok_or("the engine has a file")?;
    let wanted = FIRST / 2 + WARM_ROUNDS * WARM_CALLS;
    let set = setting.size.random();
    let mut present = set.some_rows(wanted.min(set.size.records()));
    Random(3).shuffle(&mut present);
    let absent: Vec<Row> = set.kind.fresh_rows().take(wanted).collect();
    let read = random_read(&largest)?;

    let mut engine = kind.open(&directory)?;
    let (start, mut slowest_first) = (Instant::now(), 0.0_f64);
    for number in 0..FIRST {
        let (rows, expected) = if number % 2 == 0 { (&present, true) } else { (&absent, false) };
        let row = rows.get(number / 2 % rows.len()).ok_or("there is a row to ask for")?;
        let (took, found) = timed(|| engine.contains(row))?;
        assert_eq!(found, expected, "{}: {row:?}", kind.name());
        slowest_first = slowest_first.max(took);
    }
    let first = start.elapsed().as_secs_f64() / float(FIRST as u64);
    let [present, absent] = [present, absent].map(|rows| warm_checks(&mut engine, &rows));
    Ok(FromOpening { read, first, slowest_first, present: present?, absent: absent? })
}

/// Returns the medians of rounds from one, two and eight threads.
fn warm_checks(engine: &mut Box<dyn Engine>, rows: &[Row]) -> Result<[f64; 3]> {
    let mut medians = [0.0; 3];
    for (threads, median) in [1, 2, 8].into_iter().zip(&mut medians) {
        let mut handles = (0..threads).map(|_| engine.another()).collect::<Result<Vec<_>>>()?;
        let calls = WARM_CALLS / threads;
        let round = |round: usize| together(&mut handles, rows, FIRST / 2 + round * WARM_CALLS, calls);
        let rounds = (0..WARM_ROUNDS).map(round).collect::<Result<Vec<f64>>>()?;
        *median = Spread::of(rounds).median;
    }
    Ok(medians)
}

/// Reads all files, so that the system caches them. Returns the largest one.
fn read_all(directory: &Path) -> Result<Option<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(read_all(&path)?);
        } else {
            io::copy(&mut File::open(&path)?, &mut io::sink())?;
            all.push(path);
        }
    }
    Ok(all.into_iter().max_by_key(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())))
}

fn random_read(file: &Path) -> Result<f64> {
    let file = File::open(file)?;
    let pages = usize::try_from(file.metadata()?.len())? / READ_BYTES;
    let (mut random, mut page) = (Random(7), [0; READ_BYTES]);
    let (took, ()) = timed(|| {
        for _ in 0..READS {
            file.read_exact_at(&mut page, (random.below(pages.max(1)) * READ_BYTES) as u64)?;
        }
        Ok(())
    })?;
    Ok(took / float(READS as u64))
}
