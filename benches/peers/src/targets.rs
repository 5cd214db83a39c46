//! The targets of the store, row by row, and a check of whether it meets them.
//!
//! Always holds: a target is compared with medians of one run of the program, unless it limits the slowest
//! call. Of a rival with several forms, the best one counts.

use std::fmt::Write as _;

use crate::data::Size;
use crate::engines::EngineKind;
use crate::report::{OWN, Report, Row, Unit, readable, times};

/// The target of a row.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// The store must be this many times better than the best of some rivals: the rival's cost divided by the
    /// store's is at least this.
    Times(f64, &'static [EngineKind]),
    /// Like [`Times`](Self::Times), for a rival that is not an engine.
    TimesNamed(f64, &'static str),
    /// The median is at most this.
    AtMost(f64),
    /// The slowest is at most this.
    NoneOver(f64),
    /// The measured factor is at least this.
    AtLeast(f64),
}

use Wanted::{AtLeast, AtMost, NoneOver, Times, TimesNamed};

/// A group, a row of it, the target, and the sizes at which it applies, or no sizes if it applies at all of
/// them.
struct Target(&'static str, &'static str, Wanted, &'static [Size]);

const SQLITE: &[EngineKind] = &[EngineKind::Sqlite];
const SQLITE_THREADED: &[EngineKind] = &[EngineKind::Sqlite, EngineKind::SqliteShared];
const SQLITE_MANY: &[EngineKind] = &[EngineKind::Sqlite, EngineKind::SqliteJoining];
const LMDB: &[EngineKind] = &[EngineKind::Lmdb];
const REDB_APPEND: &[EngineKind] = &[EngineKind::RedbAppend];
const ANY: &[Size] = &[];
const SMALLER: &[Size] = &[Size::ONE_MILLION];
const LARGER: &[Size] = &[Size::TEN_MILLION];

const TARGETS: [Target; 37] = [
    Target("import", "rows", Times(8.0, SQLITE), ANY),
    Target("import", "rows", Times(4.0, &[EngineKind::SqliteIndexedLater]), ANY),
    Target("import", "rows", Times(0.5, REDB_APPEND), ANY),
    Target("import", "file", Times(1.0 / 0.7, SQLITE), ANY),
    Target("import", "memory over the cache", AtMost(150e6), ANY),
    Target("batch", "random values, a value", Times(40.0, SQLITE), ANY),
    Target("batch", "random values, 99.9 % of batches", AtMost(20e-3), ANY),
    Target("batch", "random values, slowest batch", NoneOver(100e-3), ANY),
    Target("batch", "sequential values, 99.9 % of batches", AtMost(20e-3), ANY),
    Target("batch", "sequential values, slowest batch", NoneOver(100e-3), ANY),
    Target("batch", "one run per record, 99.9 % of calls", AtMost(20e-3), ANY),
    Target("batch", "one run per record, slowest call", NoneOver(100e-3), ANY),
    Target("single", "1 thread, a call", Times(1.0, SQLITE), ANY),
    Target("single", "1 thread, a call", Times(1.0 / 1.2, REDB_APPEND), ANY),
    Target("single", "16 threads", Times(5.0, SQLITE_THREADED), ANY),
    Target("single", "64 threads", Times(10.0, SQLITE_THREADED), ANY),
    Target("single", "slowest of 16 threads", NoneOver(50e-3), ANY),
    Target("single", "slowest of 64 threads", NoneOver(50e-3), ANY),
    Target("check", "present", Times(4.0, SQLITE), SMALLER),
    Target("check", "present", Times(3.0, SQLITE), LARGER),
    Target("check", "present", Times(1.0, LMDB), ANY),
    Target("check", "absent", Times(6.0, SQLITE), SMALLER),
    Target("check", "absent", Times(8.0, SQLITE), LARGER),
    Target("check", "absent", Times(3.0, LMDB), ANY),
    Target("check", "absent", AtMost(0.3e-6), SMALLER),
    Target("check", "10,000 values", Times(6.0, SQLITE_MANY), ANY),
    Target("check", "speed-up by 2 threads", AtLeast(1.8), ANY),
    Target("listing", "middle page, one flow, step and type", TimesNamed(100.0, "SQLite"), ANY),
    Target("listing", "total of all", TimesNamed(100.0, "SQLite"), ANY),
    Target("expire", "a tenth gone for readers", Times(200.0, SQLITE), ANY),
    Target("expire", "a tenth gone, and pruned", Times(200.0, SQLITE), ANY),
    Target("expire", "a tenth gone, and pruned", AtMost(40e-3), ANY),
    Target("expire", "an eighth gone, and pruned", Times(200.0, SQLITE), ANY),
    Target("expire", "an eighth gone, and pruned", AtMost(40e-3), ANY),
    Target("export", "rows", TimesNamed(3.0, crate::groups::SQLITE_COMMAND), ANY),
    Target("open", "to the first answer", AtMost(50e-3), ANY),
    Target("open", "to the first answer", NoneOver(50e-3), ANY),
];

/// Returns a table of the measured targets, and if they are met.
pub(crate) fn judge(reports: &[Report], size: Size) -> String {
    let mut text = format!("### Targets, {} records\n\n", size.name());
    text.push_str("| group | work | wanted | got | |\n| --- | --- | --- | --- | --- |\n");
    let mut judged = false;
    for Target(group, work, wanted, sizes) in &TARGETS {
        if !sizes.is_empty() && !sizes.contains(&size) {
            continue;
        }
        let rows = reports.iter().filter(|report| report.group == *group).flat_map(|report| &report.rows);
        for row in rows.filter(|row| is_of(row, work)) {
            let Some(Verdict { wanted, got, met }) = wanted.judge(row) else { continue };
            let met = if met { "met" } else { "**not met**" };
            _ = writeln!(text, "| {group} | {} | {wanted} | {got} | {met} |", row.work);
            judged = true;
        }
    }
    if judged { text } else { String::new() }
}

/// Returns true if a row is about some work. Text after a colon is only known after measuring.
fn is_of(row: &Row, work: &str) -> bool {
    row.work.strip_prefix(work).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

struct Verdict {
    wanted: String,
    got: String,
    met: bool,
}

impl Wanted {
    /// Returns `None` if the row cannot be judged.
    fn judge(self, row: &Row) -> Option<Verdict> {
        let own = row.of(OWN)?;
        let show = |value| readable(value, row.unit);
        Some(match self {
            Times(factor, rivals) => {
                let names = rivals.iter().map(|rival| rival.name());
                let best = names.filter_map(|name| Some((row.ratio(name)?, name)));
                let (ratio, name) = best.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
                compared(ratio, factor, name)
            }
            TimesNamed(factor, name) => compared(row.ratio(name)?, factor, name),
            AtMost(most) => {
                let wanted = format!("at most {}", show(most));
                Verdict { wanted, got: show(own.median), met: own.median <= most }
            }
            NoneOver(most) => {
                let wanted = format!("none over {}", show(most));
                Verdict { wanted, got: show(own.most), met: own.most <= most }
            }
            AtLeast(least) => {
                let wanted = format!("at least {}", readable(least, Unit::Times));
                Verdict { wanted, got: show(own.median), met: own.median >= least }
            }
        })
    }
}

fn compared(ratio: f64, factor: f64, rival: &str) -> Verdict {
    Verdict { wanted: format!("{} times {rival}", times(factor)), got: times(ratio), met: ratio >= factor }
}
