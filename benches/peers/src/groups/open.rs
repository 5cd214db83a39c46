//! The rows of the group `open`: the time from opening a properly closed file to the first answer.
//!
//! The file is cached by the system, but not by the engine.

use crate::Result;
use crate::engines::{EngineKind, Past};
use crate::files::Setting;
use crate::measure::{Rounds, Spread, Turn, take_turns, timed};
use crate::report::{Report, Unit};

const ROUNDS: usize = 11;

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    eprintln!("measuring: opening");
    let rows = setting.size.random().some_rows(ROUNDS);
    let mut turns = Vec::new();
    for kind in EngineKind::peers() {
        let base = setting.base(kind, Past::Loaded)?;
        let mut asked = rows.iter().cycle();
        turns.push(Turn::new(move || {
            let row = asked.next().ok_or("there is a row to ask for")?;
            // Closing is not timed, because the engine is returned.
            let (seconds, (engine, found)) = timed(|| {
                let mut engine = kind.open(&base)?;
                let found = engine.contains(row)?;
                Ok((engine, found))
            })?;
            drop(engine);
            assert!(found, "{}: {row:?}", kind.name());
            Ok(seconds)
        }));
    }
    let taken = take_turns(Rounds::Exactly(ROUNDS), turns)?;
    let mut report = Report::new("open", format!("Opening a file of {} records", setting.size.name()));
    let spreads = taken.into_iter().map(Spread::of);
    report.row(
        "to the first answer",
        Unit::Time,
        EngineKind::peers().iter().map(|kind| kind.name()).zip(spreads),
    );
    Ok(report)
}
