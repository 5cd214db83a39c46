//! The rows of the group `check`: is this value there? One by one, many at once, and from two threads.

use std::thread;
use std::time::Instant;

use crate::Result;
use crate::common::Row;
use crate::engines::{Engine, EngineKind};
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
/// Checks of a thread in a round, and rounds, where threads are compared.
const THREAD_CALLS: usize = 20_000;
const THREAD_ROUNDS: usize = 7;

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
        eprintln!("measuring: checks, {name}");
        report.row(name, Unit::Time, one_by_one(&mut readers, rows)?);
    }
    eprintln!("measuring: checks, two threads");
    two_threads(&mut readers, &rows, &mut report)?;
    drop(readers);
    eprintln!("measuring: checks, many values");
    report.row("10,000 values", Unit::Time, many(&mut open(setting, &MANY_KINDS)?, &rows)?);
    report.note("Of the 10,000 values half are there; all but the store ask for them in the order of their index.");
    report.note("In random order, of up to 200,000 values of each kind, with warm caches.");
    Ok(report)
}

/// Databases with all records, about which they agree.
fn open(setting: Setting<'_>, kinds: &[EngineKind]) -> Result<Vec<Reader>> {
    let open = |kind: &EngineKind| {
        let mut engine = kind.open(&setting.base(*kind)?)?;
        super::check_contents(kind.name(), engine.as_mut(), setting.size.random())?;
        Ok(Reader { name: kind.name(), engine })
    };
    kinds.iter().map(open).collect()
}

/// What checks take for present and absent values.
pub(super) fn growth(setting: Setting<'_>, kinds: &[EngineKind]) -> Result<[Vec<f64>; 2]> {
    let [present, absent] = super::asked(setting.size.random());
    let mut readers = open(setting, kinds)?;
    let mut medians = |rows: &[Row]| -> Result<Vec<f64>> {
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
    let batches: Vec<Vec<Row>> = present.chunks_exact(half).zip(absent.chunks_exact(half)).map(batch).collect();
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
        let mut place = 0;
        turns.push(Turn::new(move || {
            place += 2 * THREAD_CALLS;
            let [first, _] = &mut handles;
            let one = together(std::slice::from_mut(first), present, place)?;
            let two = together(&mut handles, present, place)?;
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

/// What a check takes when each handle makes many of them in a thread of its own, on the average of all.
fn together(handles: &mut [Box<dyn Engine>], rows: &[Row], place: usize) -> Result<f64> {
    let calls = handles.len() * THREAD_CALLS;
    let start = Instant::now();
    thread::scope(|scope| {
        let check_all = |engine: &mut dyn Engine, place: usize| {
            for number in place..place + THREAD_CALLS {
                let row = rows.get(number % rows.len()).ok_or("there is a row to ask for")?;
                engine.contains(row).map_err(|error| error.to_string())?;
            }
            std::result::Result::<(), String>::Ok(())
        };
        let places = (place..).step_by(THREAD_CALLS);
        let threads: Vec<_> = handles
            .iter_mut()
            .zip(places)
            .map(|(engine, place)| scope.spawn(move || check_all(engine.as_mut(), place)))
            .collect();
        threads.into_iter().try_for_each(|thread| Ok(thread.join().map_err(|_| "a thread panicked")??))
    })
    .map_err(|error: Box<dyn std::error::Error>| error)?;
    Ok(start.elapsed().as_secs_f64() / float(calls as u64))
}
