//! The rows of the group `expire`: the oldest records expire.
//!
//! Always holds: each run has its own copy, newly opened. Afterwards the right records remain: the first of
//! them is found, and the one before it is not. For the store, the clock reaches the time at which the oldest
//! records expire. Later reads no longer see them, even after a crash. Their space is reclaimed in a second
//! step.

use crate::Result;
use crate::common::RUN_RECORDS;
use crate::data::{Size, time_of};
use crate::engines::{EngineKind, Past};
use crate::files::Setting;
use crate::measure::{Rounds, Spread, Turn, float, take_turns, timed};
use crate::report::{Report, Unit};

/// The times until the records were gone, and until their space was reclaimed.
struct Expiry {
    gone: f64,
    given_back: f64,
    records: u64,
}

/// The share of records that expires, and its name.
type Share = (usize, &'static str);
const TENTH: Share = (10, "a tenth");
/// More than one segment of the store, if there are ten.
const EIGHTH: Share = (8, "an eighth");

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    let mut report = Report::new("expire", format!("The oldest of {} records expire", setting.size.name()));
    rows(setting, TENTH, &EngineKind::peers(), &mut report)?;
    if setting.size >= Size::TEN_MILLION {
        rows(setting, EIGHTH, &[EngineKind::Store, EngineKind::Sqlite], &mut report)?;
    }
    report.note(
        "The store gives the space of whole segments back, and of the heads of others once they are more than what is \
         live. The rivals do all in the one step.",
    );
    Ok(report)
}

fn rows(setting: Setting<'_>, share: Share, kinds: &[EngineKind], report: &mut Report) -> Result<()> {
    let (parts, name) = share;
    eprintln!("measuring: expiry of {name}");
    let turns = kinds.iter().map(|kind| Turn::new(move || one_expiry(setting, *kind, parts)));
    let taken = take_turns(Rounds::Enough, turns.collect())?;
    let cells = |of: &dyn Fn(&Expiry) -> f64| {
        let spread = |turns: &Vec<Expiry>| Spread::of(turns.iter().map(of));
        kinds.iter().map(|kind| kind.name()).zip(taken.iter().map(spread)).collect::<Vec<_>>()
    };
    report.row(format!("{name} gone for readers"), Unit::Time, cells(&|expiry| expiry.gone));
    let both = cells(&|expiry| expiry.gone + expiry.given_back);
    report.row(format!("{name} gone, and pruned"), Unit::Time, both);
    let own = taken.first().and_then(|own| own.first()).map_or(0, |expiry| expiry.records);
    let all = setting.size.records() / parts;
    report.note(format!("Of the {all} records of {name} the store gave back the space of {own}."));
    Ok(())
}

fn one_expiry(setting: Setting<'_>, kind: EngineKind, parts: usize) -> Result<Expiry> {
    let mut copy = setting.copy(kind, Past::Loaded)?;
    copy.engine.prepare_to_expire()?;
    let runs = setting.size.run_count();
    let before = time_of(runs / parts);
    let (gone, expired) = timed(|| copy.engine.expire(before))?;
    let (given_back, records) = timed(|| copy.engine.give_back())?;
    let name = kind.name();
    let oldest = runs / parts * RUN_RECORDS;
    assert_eq!(expired, oldest as u64, "{name}");
    assert_eq!(copy.engine.count()?, (setting.size.records() - oldest) as u64, "{name}");
    let rows: Vec<_> = setting.size.random().rows().skip(oldest - 1).take(2).collect();
    assert_eq!(copy.engine.contains_many(&rows)?, [false, true], "{name}");
    eprintln!("expired by {name}: {:.2} ms", float(1_000) * (gone + given_back));
    Ok(Expiry { gone, given_back, records })
}
