//! The rows of the group `check`: is this value there? One by one, many at once, and from two threads.

use std::ops::Range;
use std::thread;
use std::time::Instant;

use crate::Result;
use crate::common::Row;
use crate::engines::{Engine, EngineKind, Past};
use crate::files::Setting;
use crate::measure::{Contender, Rounds, Spread, Turn, alternate, float, take_turns};
use crate::report::{Report, Unit};

/// How many values are asked for at once: half of them are there.
const MANY: usize = 10_000;
const MANY_KINDS: [EngineKind; 6] = [
    EngineKind::Store,
    EngineKind::Sqlite,
    EngineKind::SqliteJoining,
    EngineKind::Lmdb,
    EngineKind::Fjall,
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
    let mut readers = open(setting, &EngineKind::PEERS)?;
    for (name, rows) in ["present", "absent"].into_iter().zip(&rows) {
        warm(&mut readers, rows)?;
        eprintln!("measuring: checks, {name}");
        report.row(name, Unit::Time, one_by_one(&mut readers, rows)?);
    }
    // LMDB opens no file twice: the others stay as they are.
    let mut segmented = open(setting, &[EngineKind::StoreSegmented])?;
    segmented.extend(readers.drain(1..));
    let [present, absent] = &rows;
    warm(&mut segmented, present)?;
    warm(&mut segmented, absent)?;
    eprintln!("measuring: checks, absent, 100 segments");
    report.row("absent, 100 segments", Unit::Time, one_by_one(&mut segmented, absent)?);
    readers.extend(segmented.drain(1..));
    eprintln!("measuring: checks, two threads");
    two_threads(&mut readers, &rows, &mut report)?;
    drop(readers);
    eprintln!("measuring: checks, many values");
    report.row("10,000 values", Unit::Time, many(&mut open(setting, &MANY_KINDS)?, &rows)?);
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

/// What checks take for present and absent values.
pub(super) fn growth(setting: Setting<'_>, kinds: &[EngineKind]) -> Result<[Vec<f64>; 2]> {
    let [present, absent] = super::asked(setting.size.random());
    let mut readers = open(setting, kinds)?;
    let mut medians = |rows: &[Row]| -> Result<Vec<f64>> {
        warm(&mut readers, rows)?;
        Ok(one_by_one(&mut readers, rows)?.into_iter().map(|(_, spread)| spread.median).collect())
    };
    Ok([medians(&present)?, medians(&absent)?])
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
