//! The rows of the group `single`: one new value per call, each with its own run, durable on return.
//!
//! Always holds: all threads of an engine start together, each with its own handle and its own values.

use std::ops::Range;
use std::thread;
use std::time::Instant;

use datapool_store::Timestamp;

use crate::Result;
use crate::common::{RUN_RECORDS, Row};
use crate::data::{Kind, time_of};
use crate::engines::{Engine, EngineKind, Past, Runs};
use crate::files::{Copy, Setting};
use crate::measure::{Rounds, Spread, Turn, float, take_turns, timed};
use crate::report::{Report, Unit};

/// The engines. The last is the lower bound.
const KINDS: [EngineKind; 8] = [
    EngineKind::Store,
    EngineKind::Sqlite,
    EngineKind::SqliteShared,
    EngineKind::Lmdb,
    EngineKind::Fjall,
    EngineKind::RocksDb,
    EngineKind::Redb,
    EngineKind::RedbAppend,
];
/// Turns are short, so that other load on the disk affects several engines equally.
const ALONE_ROUNDS: usize = 55;
const ALONE_CALLS: usize = 10;

/// The number of batches written to each database before. With them, the store is in the middle of a fold. A
/// commit of one value does so little of the fold that all measured commits do some. In the long run, one
/// commit in fifty does.
const BATCHES_BEFORE: usize = 32;

const THREADS: [usize; 2] = [16, 64];
/// The number of calls of a thread per round.
const THREAD_CALLS: usize = 20;

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    let mut report = Report::new("single", format!("One value a call, {} records", setting.size.name()));
    let mut copies = EngineKind::compiled(&KINDS)
        .into_iter()
        .map(|kind| open(setting, kind))
        .collect::<Result<Vec<_>>>()?;
    alone(setting, &mut copies, &mut report)?;
    let mut first = 1;
    for threads in THREADS {
        threaded(setting, &copies, first..first + threads, &mut report)?;
        first += threads;
    }
    report.note(
        "\"redb, append only\" is the floor: a commit of one row, which is not looked for and has no index.",
    );
    report.note("SQLite: a connection for each thread, which waits for the others as SQLite does.");
    Ok(report)
}

fn alone(setting: Setting<'_>, copies: &mut [Copy], report: &mut Report) -> Result<()> {
    eprintln!("measuring: one value a call, 1 thread");
    let (mut names, mut turns) = (Vec::new(), Vec::new());
    // A connection that is not shared is the same as the plain one, so skip it.
    for Copy { kind, engine, .. } in copies.iter_mut().filter(|copy| copy.kind != EngineKind::SqliteShared) {
        let mut fresh = Fresh::new(setting, 0);
        let mut call = move || fresh.track(engine.as_mut());
        turns.push(Turn::new(move || (0..ALONE_CALLS).map(|_| call()).collect::<Result<Vec<_>>>()));
        names.push(kind.name());
    }
    let taken = take_turns(Rounds::Exactly(ALONE_ROUNDS), turns)?;
    let spreads = taken.iter().map(|turns| Spread::of(turns.concat()));
    report.row("1 thread, a call", Unit::Time, names.into_iter().zip(spreads));
    Ok(())
}

fn threaded(setting: Setting<'_>, copies: &[Copy], numbers: Range<usize>, report: &mut Report) -> Result<()> {
    let threads = numbers.len();
    eprintln!("measuring: one value a call, {threads} threads");
    let (mut names, mut turns) = (Vec::new(), Vec::new());
    for Copy { kind, engine, .. } in copies.iter().filter(|copy| copy.kind != EngineKind::RedbAppend) {
        let handles = numbers.clone().map(|number| Ok((engine.another()?, Fresh::new(setting, number))));
        let mut handles = handles.collect::<Result<Vec<_>>>()?;
        turns.push(Turn::new(move || together(&mut handles)));
        names.push(kind.name());
    }
    let taken = take_turns(Rounds::Enough, turns)?;
    let spreads = |of: &dyn Fn(&Together) -> f64| {
        names
            .iter()
            .copied()
            .zip(taken.iter().map(|turns| Spread::of(turns.iter().map(of))))
            .collect::<Vec<_>>()
    };
    report.row(format!("{threads} threads"), Unit::Rate("calls"), spreads(&|turn| turn.call));
    report.row(format!("slowest of {threads} threads"), Unit::Time, spreads(&|turn| turn.slowest));
    Ok(())
}

/// Returns a database with all records, and checks that all engines agree on them.
fn open(setting: Setting<'_>, kind: EngineKind) -> Result<Copy> {
    let mut copy = setting.copy(kind, Past::Grown)?;
    if kind != EngineKind::RedbAppend {
        super::check_contents(kind.name(), copy.engine.as_mut(), setting.size.random())?;
    }
    let mut fresh = Fresh::new(setting, Fresh::THREADS);
    for _ in 0..BATCHES_BEFORE {
        fresh.track_many(copy.engine.as_mut(), RUN_RECORDS)?;
    }
    Ok(copy)
}

/// The times of many threads together.
struct Together {
    /// The total time divided by the number of calls.
    call: f64,
    slowest: f64,
}

fn together(handles: &mut [(Box<dyn Engine>, Fresh)]) -> Result<Together> {
    let calls = handles.len() * THREAD_CALLS;
    let start = Instant::now();
    let slowest = thread::scope(|scope| {
        let track_all = |(engine, fresh): &mut (Box<dyn Engine>, Fresh)| {
            // Returns an error as text, because the error itself may be bound to its thread.
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

/// The next rows that a thread writes.
struct Fresh {
    rows: Box<dyn Iterator<Item = Row> + Send>,
    next_run: usize,
    time: Timestamp,
}

impl Fresh {
    /// The distance between the values of two threads. No thread writes more values.
    const APART: usize = 2_000;
    /// More threads than are ever used.
    const THREADS: usize = 100;

    fn new(setting: Setting<'_>, thread: usize) -> Self {
        let mut rows = Box::new(Kind::Random.fresh_rows());
        // Skip them now, and not with the first call, which runs concurrently with other threads.
        rows.by_ref().take(thread * Self::APART).for_each(drop);
        let next_run = setting.size.run_count() + thread * Self::APART;
        Self { rows, next_run, time: time_of(setting.size.run_count()) }
    }

    /// Writes one new value. Returns the time that it takes.
    fn track(&mut self, engine: &mut dyn Engine) -> Result<f64> {
        self.track_many(engine, 1)
    }

    /// Writes `records` new values with one run. Returns the time that it takes.
    fn track_many(&mut self, engine: &mut dyn Engine, records: usize) -> Result<f64> {
        let rows: Vec<Row> = self.rows.by_ref().take(records).collect();
        self.next_run += 1;
        let (seconds, new) = timed(|| engine.track(&rows, Runs::One(self.next_run), self.time))?;
        assert_eq!(new, rows.len());
        Ok(seconds)
    }
}
