//! The rows of the group `batch`: batches of 1,000 new values into a pool that is already large.
//!
//! Always holds: all engines get the same batches, into databases that have grown, because pages that were
//! filled at once would have to be split first. The store defers some of its work, which a median hides, so
//! the mean is reported, too.

use crate::Result;
use crate::common::{RUN_RECORDS, Row};
use crate::data::{DataSet, Kind};
use crate::engines::{Engine, EngineKind, Runs};
use crate::files::{Copy, Setting};
use crate::measure::{Rounds, Spread, Turn, float, take_turns, timed};
use crate::report::{OWN, Report, Unit};

/// The number of turns of each engine, and the number of batches per turn.
const ROUNDS: usize = 32;
const TURN_BATCHES: usize = 10;
/// More values than the batches write.
const BEYOND: usize = 2_000_000;
/// The number of rounds for `growth`, a little more than the store has between two folds.
const GROWTH_ROUNDS: usize = 7;
/// The number of additional batches that the store writes afterwards, to include its rare slow ones.
const MORE_BATCHES: usize = 960;
/// The number of additional calls of the store if each record has its own run and so its own call. They cover
/// two folds.
const MORE_CALLS: usize = 150_000;

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    let mut report = Report::new("batch", format!("Batches of 1,000, {} records", setting.size.name()));
    for kind in Kind::ALL {
        rows(setting, DataSet { kind, size: setting.size }, &mut report)?;
    }
    report.note("The mean is of all batches; the slowest is of as many, for each engine but the store.");
    report.note(format!(
        "The store's 99.9 % and slowest are of {} batches.",
        ROUNDS * TURN_BATCHES + MORE_BATCHES
    ));
    report
        .note("One run per record: in the store a call has one run, so these are 1,000 calls and one flush.");
    report.note(format!(
        "The store's 99.9 % and slowest of calls are of {MORE_CALLS}, each with a flush of its own."
    ));
    Ok(report)
}

fn rows(setting: Setting<'_>, set: DataSet, report: &mut Report) -> Result<()> {
    let name = set.kind.name();
    eprintln!("measuring: batches of {name}");
    let mut writers = writers(setting, set, &EngineKind::peers())?;
    let batches = measure(&mut writers, ROUNDS)?;
    let cells = |of: &dyn Fn(&[f64]) -> Spread| {
        let cells = batches.iter().map(|(kind, seconds)| (kind.name(), of(seconds)));
        cells.collect::<Vec<_>>()
    };
    let per_value = |seconds: &f64| seconds / float(RUN_RECORDS as u64);
    report.row(format!("{name}, a value"), Unit::Time, cells(&|all| Spread::of(all.iter().map(per_value))));
    let mean = cells(&|all| Spread::exactly(mean_for_a_value(all)));
    report.row(format!("{name}, a value, mean"), Unit::Time, mean);

    let mut slowest = cells(&|all| Spread::exactly(Spread::of(all.iter().copied()).most));
    let own = writers.first_mut().ok_or("the store comes first")?;
    if set.kind == Kind::RunPerRecord {
        let taken = (0..MORE_CALLS).map(|_| own.write(1)).collect::<Result<Vec<f64>>>()?;
        let [nearly_all, every] = tail_of(taken);
        report.row(format!("{name}, 99.9 % of calls"), Unit::Time, [(OWN, nearly_all)]);
        report.row(format!("{name}, slowest call"), Unit::Time, [(OWN, every)]);
    } else {
        let mut taken = batches.first().map(|(_, seconds)| seconds.clone()).unwrap_or_default();
        for _ in 0..MORE_BATCHES {
            taken.push(own.write(RUN_RECORDS)?);
        }
        let [nearly_all, every] = tail_of(taken);
        report.row(format!("{name}, 99.9 % of batches"), Unit::Time, [(OWN, nearly_all)]);
        if let Some((_, own)) = slowest.first_mut() {
            *own = every;
        }
    }
    report.row(format!("{name}, slowest batch"), Unit::Time, slowest);
    Ok(())
}

/// Returns the 99.9th percentile and the maximum of some times.
fn tail_of(mut seconds: Vec<f64>) -> [Spread; 2] {
    seconds.sort_unstable_by(f64::total_cmp);
    let at = |rank: usize| Spread::exactly(seconds.get(rank - 1).copied().unwrap_or(f64::NAN));
    [at((seconds.len() * 999).div_ceil(1_000)), at(seconds.len())]
}

/// Returns the mean time per value of batches, including the work that the store defers.
pub(super) fn growth(setting: Setting<'_>, kinds: &[EngineKind]) -> Result<Vec<f64>> {
    let mut writers = writers(setting, setting.size.random(), kinds)?;
    let batches = measure(&mut writers, GROWTH_ROUNDS)?;
    Ok(batches.iter().map(|(_, all)| mean_for_a_value(all)).collect())
}

fn mean_for_a_value(seconds: &[f64]) -> f64 {
    seconds.iter().sum::<f64>() / float((seconds.len() * RUN_RECORDS) as u64)
}

/// An engine, and the next rows that it writes.
struct Writer {
    copy: Copy,
    set: DataSet,
    fresh: Box<dyn Iterator<Item = Row>>,
    next_run: usize,
}

/// Returns databases with all records. Checks that they agree on which rows are new, and writes the first
/// batches to warm them up.
fn writers(setting: Setting<'_>, set: DataSet, kinds: &[EngineKind]) -> Result<Vec<Writer>> {
    let mut mixed = set.some_rows(10);
    let mut writers = Vec::new();
    for kind in kinds {
        let kind = match (kind, set.kind) {
            (EngineKind::Store, Kind::RunPerRecord) => EngineKind::StoreFlushed,
            _ => *kind,
        };
        let copy = setting.grown(kind, set)?;
        let fresh = Box::new(set.kind.fresh_rows());
        writers.push(Writer { copy, set, fresh, next_run: set.run_count() });
    }
    // Ten rows exist, ten are new, and the new ones come twice.
    mixed.extend(set.kind.fresh_rows().skip(BEYOND).take(10).flat_map(|row| [row.clone(), row]));
    for writer in &mut writers {
        let name = writer.copy.kind.name();
        super::check_contents(name, writer.copy.engine.as_mut(), set)?;
        let new = writer.copy.engine.track(&mixed, Runs::One(0), super::time_after(set, 0))?;
        assert_eq!(new, 10, "{name}");
        writer.write(RUN_RECORDS)?;
    }
    Ok(writers)
}

fn measure(writers: &mut [Writer], rounds: usize) -> Result<Vec<(EngineKind, Vec<f64>)>> {
    let kinds: Vec<EngineKind> = writers.iter().map(|writer| writer.copy.kind).collect();
    let turn = |writer| {
        let writer: &mut Writer = writer;
        Turn::new(move || (0..TURN_BATCHES).map(|_| writer.write(RUN_RECORDS)).collect::<Result<Vec<f64>>>())
    };
    let taken = take_turns(Rounds::Exactly(rounds), writers.iter_mut().map(turn).collect())?;
    Ok(kinds.into_iter().zip(taken.into_iter().map(|turns| turns.concat())).collect())
}

impl Writer {
    /// Writes a batch of new values. Returns the time that it takes.
    fn write(&mut self, records: usize) -> Result<f64> {
        let rows: Vec<Row> = self.fresh.by_ref().take(records).collect();
        let (runs, time) = match self.set.kind {
            Kind::RunPerRecord => (Runs::Each(self.next_run), crate::data::time_of(self.next_run)),
            Kind::Random | Kind::Sequential => {
                (Runs::One(self.next_run), crate::data::time_of(self.next_run))
            }
        };
        self.next_run += if matches!(runs, Runs::Each(_)) { records } else { 1 };
        let engine: &mut dyn Engine = self.copy.engine.as_mut();
        let (seconds, new) = timed(|| engine.track(&rows, runs, time))?;
        assert_eq!(new, rows.len(), "{}", self.copy.kind.name());
        Ok(seconds)
    }
}
