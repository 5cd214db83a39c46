//! The rows of the group `single`: one new value a call, each of a run of its own, durable on return.
//!
//! Always holds: all threads of an engine start together, each with its own handle and its own values.

use std::thread;
use std::time::Instant;

use datapool_store::Timestamp;

use crate::Result;
use crate::common::Row;
use crate::data::{Kind, time_of};
use crate::engines::{Engine, EngineKind, Past, Runs};
use crate::files::{Copy, Setting};
use crate::measure::{Rounds, Spread, Turn, float, take_turns, timed};
use crate::report::{Report, Unit};

/// What one thread writes by. The last is the floor.
const ALONE: [EngineKind; 6] = [
    EngineKind::Store,
    EngineKind::Sqlite,
    EngineKind::Lmdb,
    EngineKind::Fjall,
    EngineKind::Redb,
    EngineKind::RedbAppend,
];
const ALONE_ROUNDS: usize = 11;
const ALONE_CALLS: usize = 50;

/// What many threads write by.
const THREADED: [EngineKind; 6] = [
    EngineKind::Store,
    EngineKind::Sqlite,
    EngineKind::SqliteShared,
    EngineKind::Lmdb,
    EngineKind::Fjall,
    EngineKind::Redb,
];
const THREADS: [usize; 2] = [16, 64];
/// Calls of a thread in a round.
const THREAD_CALLS: usize = 20;

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    let mut report = Report::new("single", format!("One value a call, {} records", setting.size.name()));
    alone(setting, &mut report)?;
    for threads in THREADS {
        threaded(setting, threads, &mut report)?;
    }
    report.note(
        "\"redb, append only\" is the floor: a commit of one row, which is not looked for and has no index.",
    );
    report.note("SQLite: a connection for each thread, which waits for the others as SQLite does.");
    Ok(report)
}

fn alone(setting: Setting<'_>, report: &mut Report) -> Result<()> {
    eprintln!("measuring: one value a call, 1 thread");
    let mut copies = open(setting, &ALONE)?;
    let turn = |copy| {
        let copy: &mut Copy = copy;
        let mut fresh = Fresh::new(setting, 0);
        Turn::new(move || {
            (0..ALONE_CALLS).map(|_| fresh.track(copy.engine.as_mut())).collect::<Result<Vec<_>>>()
        })
    };
    let taken = take_turns(Rounds::Exactly(ALONE_ROUNDS), copies.iter_mut().map(turn).collect())?;
    let calls: Vec<_> =
        ALONE.iter().map(|kind| kind.name()).zip(taken.iter().map(|turns| turns.concat())).collect();
    let median = |all: &Vec<f64>| Spread::of(all.iter().copied());
    report.row("1 thread, a call", Unit::Time, calls.iter().map(|(name, all)| (*name, median(all))));
    Ok(())
}

fn threaded(setting: Setting<'_>, threads: usize, report: &mut Report) -> Result<()> {
    eprintln!("measuring: one value a call, {threads} threads");
    let copies = open(setting, &THREADED)?;
    let mut turns = Vec::new();
    for copy in &copies {
        let handles = (0..threads).map(|number| Ok((copy.engine.another()?, Fresh::new(setting, number))));
        let mut handles = handles.collect::<Result<Vec<_>>>()?;
        turns.push(Turn::new(move || together(&mut handles)));
    }
    let taken = take_turns(Rounds::Enough, turns)?;
    let spreads = |of: &dyn Fn(&Together) -> f64| {
        let names = THREADED.iter().map(|kind| kind.name());
        names.zip(taken.iter().map(|turns| Spread::of(turns.iter().map(of)))).collect::<Vec<_>>()
    };
    report.row(format!("{threads} threads"), Unit::Rate("calls"), spreads(&|turn| turn.call));
    report.row(format!("slowest of {threads} threads"), Unit::Time, spreads(&|turn| turn.slowest));
    Ok(())
}

/// Databases with all records, about which they agree.
fn open(setting: Setting<'_>, kinds: &[EngineKind]) -> Result<Vec<Copy>> {
    let open = |kind: &EngineKind| {
        let mut copy = setting.copy(*kind, Past::Grown)?;
        if *kind != EngineKind::RedbAppend {
            super::check_contents(kind.name(), copy.engine.as_mut(), setting.size.random())?;
        }
        Ok(copy)
    };
    kinds.iter().map(open).collect()
}

/// What many threads took together.
struct Together {
    /// On the average of all calls, of the time that all took.
    call: f64,
    slowest: f64,
}

fn together(handles: &mut [(Box<dyn Engine>, Fresh)]) -> Result<Together> {
    let calls = handles.len() * THREAD_CALLS;
    let start = Instant::now();
    let slowest = thread::scope(|scope| {
        let track_all = |(engine, fresh): &mut (Box<dyn Engine>, Fresh)| {
            // An error's text: the error itself may be bound to its thread.
            let all = (0..THREAD_CALLS).map(|_| fresh.track(engine.as_mut()));
            all.collect::<Result<Vec<f64>>>().map_err(|error| error.to_string())
        };
        let threads: Vec<_> =
            handles.iter_mut().map(|handle| scope.spawn(move || track_all(handle))).collect();
        let mut slowest = 0.0_f64;
        for thread in threads {
            let took = thread.join().map_err(|_| "a thread panicked")??;
            slowest = took.into_iter().fold(slowest, f64::max);
        }
        Result::Ok(slowest)
    })?;
    Ok(Together { call: start.elapsed().as_secs_f64() / float(calls as u64), slowest })
}

/// What one thread writes next.
struct Fresh {
    rows: Box<dyn Iterator<Item = Row> + Send>,
    next_run: usize,
    time: Timestamp,
}

impl Fresh {
    /// How far apart the values of threads are: no thread writes so many.
    const APART: usize = 2_000;

    fn new(setting: Setting<'_>, thread: usize) -> Self {
        let rows = Box::new(Kind::Random.fresh_rows().skip(thread * Self::APART));
        let next_run = setting.size.run_count() + thread * Self::APART;
        Self { rows, next_run, time: time_of(setting.size.run_count()) }
    }

    /// Writes one new value. How long that takes.
    fn track(&mut self, engine: &mut dyn Engine) -> Result<f64> {
        let rows: Vec<Row> = self.rows.by_ref().take(1).collect();
        self.next_run += 1;
        let (seconds, new) = timed(|| engine.track(&rows, Runs::One(self.next_run), self.time))?;
        assert_eq!(new, 1);
        Ok(seconds)
    }
}
