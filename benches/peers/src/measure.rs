//! Timing and printing: medians over alternating runs of the contenders, as Markdown tables.
//!
//! Always holds: in each round every contender runs once, in turn the first and the last to go, so that a machine
//! that becomes slower or faster meanwhile does so for all of them. Whether they answer alike is the group's to check.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Result;

/// How often each contender runs.
const ROUNDS: usize = 11;
/// How often each of several ways runs before one is chosen.
const CHOOSING_ROUNDS: usize = 5;
/// A run repeats its call until it takes about this long, so that the clock's own cost does not show.
const RUN_AIM: Duration = Duration::from_millis(20);
/// The most calls of a run.
const RUN_CALLS_MAX: usize = 10_000;

/// One engine's way to do the work of a row.
pub(crate) struct Contender<'a> {
    /// The number tells calls apart, for work that is never the same twice.
    call: Box<dyn FnMut(usize) -> Result<()> + 'a>,
    calls: usize,
    timings: Vec<Duration>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new<T>(mut call: impl FnMut(usize) -> Result<T> + 'a) -> Self {
        let call = move |number| call(number).map(|answer| drop(black_box(answer)));
        Self { call: Box::new(call), calls: 1, timings: Vec::with_capacity(ROUNDS) }
    }

    /// How long a call takes, on the average of a run's calls.
    fn run(&mut self) -> Result<Duration> {
        let start = Instant::now();
        for number in 0..self.calls {
            (self.call)(number)?;
        }
        Ok(start.elapsed() / u32::try_from(self.calls)?)
    }

    /// Warms what is cached, and finds out how many calls a run has.
    fn warm_up(&mut self) -> Result<()> {
        loop {
            let took = self.run()?.max(Duration::from_nanos(1));
            let wanted = usize::try_from(RUN_AIM.as_nanos() / took.as_nanos())?.clamp(1, RUN_CALLS_MAX);
            // A first, cold call would say too few.
            if wanted <= self.calls * 2 {
                return Ok(());
            }
            self.calls = wanted;
        }
    }

    fn timing(mut self) -> Timing {
        self.timings.sort_unstable();
        let at = |index: usize| self.timings.get(index).copied().unwrap_or_default();
        Timing { median: at(ROUNDS / 2), fastest: at(0), slowest: at(ROUNDS - 1) }
    }
}

/// What the runs of one contender took, for a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    median: Duration,
    fastest: Duration,
    slowest: Duration,
}

/// Runs the contenders by turns.
pub(crate) fn alternate<const N: usize>(mut contenders: [Contender<'_>; N]) -> Result<[Timing; N]> {
    contenders.iter_mut().try_for_each(Contender::warm_up)?;
    let mut turns: Vec<&mut Contender<'_>> = contenders.iter_mut().collect();
    for _ in 0..ROUNDS {
        for contender in &mut turns {
            let took = contender.run()?;
            contender.timings.push(took);
        }
        turns.reverse();
    }
    Ok(contenders.map(Contender::timing))
}

/// The fastest of some ways to do the same: the least of a few alternating runs decides.
///
/// Alternating, since otherwise the machine's mood would choose, and a rival be measured at less than its best. What
/// takes three times as long as the best so far, even at its second call, is given up.
pub(crate) fn fastest<W, T>(ways: impl Iterator<Item = W>, call: impl Fn(&W) -> Result<T>) -> Result<W> {
    let ways: Vec<W> = ways.collect();
    let mut least = Duration::MAX;
    let mut hopeful = Vec::new();
    for (index, way) in ways.iter().enumerate() {
        let mut contender = Contender::new(|_| call(way));
        // A first call also reads what no other way has read yet: the better of two counts.
        let took = contender.run()?.min(contender.run()?);
        if took / 3 <= least {
            least = least.min(took);
            contender.warm_up()?;
            hopeful.push((Duration::MAX, index, contender));
        }
    }
    for _ in 0..CHOOSING_ROUNDS {
        for (took, _, contender) in &mut hopeful {
            *took = contender.run()?.min(*took);
        }
        hopeful.reverse();
    }
    let best = hopeful.iter().min_by_key(|(took, ..)| *took).map(|(_, index, _)| *index);
    drop(hopeful);
    best.and_then(|index| ways.into_iter().nth(index)).ok_or_else(|| "there is no way to choose from".into())
}

/// A table of timings: a row for each piece of work, a column for each engine, the store's first.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    engines: [&'static str; N],
    rows: Vec<(String, [Timing; N])>,
    notes: Vec<String>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(engines: [&'static str; N]) -> Self {
        Self { engines, rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn row(&mut self, work: impl Into<String>, timings: [Timing; N]) {
        self.rows.push((work.into(), timings));
    }

    /// A line below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// To stdout. A rival's ratio is its median by the store's: over 1 the store is faster.
    pub(crate) fn print(&self, title: &str) {
        let rivals = self.engines.iter().skip(1);
        let ratios: Vec<String> = rivals.map(|rival| format!("{rival} / store")).collect();
        println!("\n### {title}\n");
        println!("| work | {} | {} |", self.engines.join(" | "), ratios.join(" | "));
        println!("| --- |{}", " --- |".repeat(self.engines.len() + ratios.len()));
        for (work, timings) in &self.rows {
            let Some((own, rivals)) = timings.split_first() else { continue };
            let ratios: Vec<String> = rivals.iter().map(|rival| ratio(*rival, *own)).collect();
            println!("| {work} | {} | {} |", timings.map(cell).join(" | "), ratios.join(" | "));
        }
        println!("\nMedian of {ROUNDS} alternating runs (fastest to slowest).\n");
        self.notes.iter().for_each(|note| println!("- {note}"));
    }
}

fn ratio(rival: Timing, own: Timing) -> String {
    let ratio = rival.median.as_secs_f64() / own.median.as_secs_f64();
    match ratio {
        ..10.0 => format!("{ratio:.2}"),
        ..1_000.0 => format!("{ratio:.0}"),
        // More digits would say more of the clock than of the engines.
        _ => "over 1,000".to_owned(),
    }
}

fn cell(Timing { median, fastest, slowest }: Timing) -> String {
    format!("{} ({} to {})", readable(median), readable(fastest), readable(slowest))
}

/// Three significant digits.
fn readable(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    let (number, unit) = if micros >= 1e3 { (micros / 1e3, "ms") } else { (micros, "µs") };
    let decimals = match number {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}
