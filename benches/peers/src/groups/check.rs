//! The rows of the group `check`: is this value there? One by one, many at once, and from two threads. And, for the growth,
//! what checks cost from opening on.

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

/// How many values are asked for at once: half of them are there.
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
/// How long a thread checks in a round, about, and how many rounds there are, where threads are compared: long enough
/// that starting a thread does not show.
const THREAD_AIM: f64 = 0.1;
const THREAD_ROUNDS: usize = 7;
/// Checks that say how long one takes.
const FIRST_CALLS: usize = 2_000;

/// An open database. Nobody writes to it.
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

/// Databases with all records, about which they agree.
fn open(setting: Setting<'_>, kinds: &[EngineKind]) -> Result<Vec<Reader>> {
    let open = |kind: &EngineKind| {
        let mut engine = kind.open(&setting.base(*kind, Past::Loaded)?)?;
        super::check_contents(kind.name(), engine.as_mut(), setting.size.random())?;
        Ok(Reader { name: kind.name(), engine })
    };
    kinds.iter().map(open).collect()
}

/// Asks for every value, so that each engine has in memory what it keeps there.
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

/// How many times as many checks two threads make as one does.
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

/// How many calls take so many seconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
fn calls_for(aim: f64, call: f64) -> usize {
    (aim / call).clamp(1e3, 1e6) as usize
}

/// What a check takes when each handle makes so many of them in a thread of its own, on the average of all.
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

/// An error is its text: the error itself may be bound to its thread.
fn check_all(engine: &mut dyn Engine, rows: &[Row], places: Range<usize>) -> std::result::Result<(), String> {
    for place in places {
        let row = rows.get(place % rows.len()).ok_or("there is a row to ask for")?;
        engine.contains(row).map_err(|error| error.to_string())?;
    }
    Ok(())
}

// ---- From opening on ------------------------------------------------------------------------------------------

/// How many questions come first after opening, half of them for values that are there.
const FIRST: usize = 100_000;
/// The rounds after them, and the questions of a round, each of another value.
const WARM_ROUNDS: usize = 9;
const WARM_CALLS: usize = 20_000;
/// Random reads that say how fast the file can be read at all, and their length.
const READS: usize = 200_000;
const READ_BYTES: usize = 4_096;

/// What checks cost an engine that was just opened, in seconds each. Its files are in the system's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromOpening {
    /// A random read of 4 KiB of its largest file.
    pub(super) read: f64,
    /// The mean of the first 100,000, and the slowest of them.
    pub(super) first: f64,
    pub(super) slowest_first: f64,
    /// After those: medians of rounds from one thread; and from two and eight.
    pub(super) present: [f64; 3],
    pub(super) absent: [f64; 3],
}

/// Each engine has its turn alone: the files of all together would not fit the system's memory.
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

/// Medians of rounds, from one thread, two and eight.
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

/// Reads all files, so that the system has them in memory. Returns the largest.
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
