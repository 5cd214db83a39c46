//! The rows of the group `expire`: the oldest tenth goes.
//!
//! Always holds: each run has a copy of its own, just opened; afterwards nine tenths are left, of which the first is
//! found and what was before it is not. For the store the time comes at which the tenth is expired: a read that follows
//! no longer sees it, at any time and after any crash. Its space is given back in a second step.

use crate::Result;
use crate::data::time_of;
use crate::engines::EngineKind;
use crate::files::Setting;
use crate::measure::{Rounds, Spread, Turn, float, take_turns, timed};
use crate::report::{Report, Unit};

/// What it took until the records were gone, and until their space was given back.
struct Expiry {
    gone: f64,
    given_back: f64,
    records: u64,
}

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    eprintln!("measuring: expiry");
    let kinds = EngineKind::PEERS;
    let turns = kinds.into_iter().map(|kind| Turn::new(move || one_expiry(setting, kind)));
    let taken = take_turns(Rounds::Enough, turns.collect())?;
    let cells = |of: &dyn Fn(&Expiry) -> f64| {
        let spread = |turns: &Vec<Expiry>| Spread::of(turns.iter().map(of));
        kinds.iter().map(|kind| kind.name()).zip(taken.iter().map(spread)).collect::<Vec<_>>()
    };
    let mut report = Report::new("expire", format!("The oldest tenth of {} records expires", setting.size.name()));
    report.row("gone for readers", Unit::Time, cells(&|expiry| expiry.gone));
    report.row("gone, and the space given back", Unit::Time, cells(&|expiry| expiry.gone + expiry.given_back));
    let own = taken.first().and_then(|own| own.first()).map_or(0, |expiry| expiry.records);
    let tenth = setting.size.records() / 10;
    report.note(format!(
        "The store gave back the space of {own} of {tenth} records: whole segments, and heads of segments once they are \
         more than what is live. The rivals do all in the one step."
    ));
    Ok(report)
}

fn one_expiry(setting: Setting<'_>, kind: EngineKind) -> Result<Expiry> {
    let mut copy = setting.copy(kind)?;
    copy.engine.prepare_to_expire()?;
    let runs = setting.size.run_count();
    let before = time_of(runs / 10);
    let (gone, expired) = timed(|| copy.engine.expire(before))?;
    let (given_back, records) = timed(|| copy.engine.give_back())?;
    let name = kind.name();
    let tenth = setting.size.records() / 10;
    assert_eq!(expired, tenth as u64, "{name}");
    assert_eq!(copy.engine.count()?, (setting.size.records() - tenth) as u64, "{name}");
    let rows: Vec<_> = setting.size.random().rows().skip(tenth - 1).take(2).collect();
    assert_eq!(copy.engine.contains_many(&rows)?, [false, true], "{name}");
    eprintln!("expired by {name}: {:.2} ms", float(1_000) * (gone + given_back));
    Ok(Expiry { gone, given_back, records })
}
