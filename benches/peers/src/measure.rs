//! Timing: alternating runs of the contenders, and their results.
//!
//! Always holds: in each round every contender runs once, in an order that is reversed each time, so that a
//! machine that becomes slower or faster affects all of them. Each group checks that the answers agree.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Result;

/// The number of runs of each contender.
const ROUNDS: usize = 11;
/// The number of runs of each way before the fastest is chosen.
const CHOOSING_ROUNDS: usize = 5;
/// A run repeats its call for about this long, so that the cost of reading the clock is negligible.
const RUN_AIM: Duration = Duration::from_millis(20);
/// The largest number of calls in a run.
const RUN_CALLS_MAX: usize = 10_000;

/// The number of rounds of turns if a round is shorter than [`LONG_ROUND`], and if it is longer.
const TURN_ROUNDS: (usize, usize) = (5, 3);
const LONG_ROUND: Duration = Duration::from_secs(20);

/// A repeated measurement: seconds, bytes, or another unit of the row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| samples.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(samples.len() / 2), least: at(0), most: at(samples.len().saturating_sub(1)) }
    }

    /// Creates the result of a single measurement, or of a computation.
    pub(crate) fn exactly(value: f64) -> Self {
        Self { median: value, least: value, most: value }
    }
}

/// Converts a number. The result is exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// Runs some work and measures its time in seconds.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64(), done))
}

// ---- Calls ----------------------------------------------------------------------------------------------------

/// One engine's way to do the work of a row. It can be repeated any number of times.
pub(crate) struct Contender<'a> {
    /// The argument numbers the calls, for work that must differ each time.
    call: Box<dyn FnMut(usize) -> Result<()> + 'a>,
    calls: usize,
    next: usize,
    runs: Vec<Duration>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new<T>(mut call: impl FnMut(usize) -> Result<T> + 'a) -> Self {
        let call = move |number| call(number).map(|answer| drop(black_box(answer)));
        Self { call: Box::new(call), calls: 1, next: 0, runs: Vec::with_capacity(ROUNDS) }
    }

    /// Returns the mean time of a call in one run.
    fn run(&mut self) -> Result<Duration> {
        let numbers = self.next..self.next + self.calls;
        self.next = numbers.end;
        let start = Instant::now();
        for number in numbers {
            (self.call)(number)?;
        }
        Ok(start.elapsed() / u32::try_from(self.calls)?)
    }

    /// Warms caches, and determines the number of calls per run.
    fn warm_up(&mut self) -> Result<()> {
        loop {
            let took = self.run()?.max(Duration::from_nanos(1));
            let wanted = usize::try_from(RUN_AIM.as_nanos() / took.as_nanos())?.clamp(1, RUN_CALLS_MAX);
            // A single cold call would result in too few calls.
            if wanted <= self.calls * 2 {
                return Ok(());
            }
            self.calls = wanted;
        }
    }
}

/// Runs the contenders in turns. Returns the times per call.
pub(crate) fn alternate(mut contenders: Vec<Contender<'_>>) -> Result<Vec<Spread>> {
    contenders.iter_mut().try_for_each(Contender::warm_up)?;
    let mut turns: Vec<&mut Contender<'_>> = contenders.iter_mut().collect();
    for _ in 0..ROUNDS {
        for contender in &mut turns {
            let took = contender.run()?;
            contender.runs.push(took);
        }
        turns.reverse();
    }
    let spread = |contender: Contender<'_>| Spread::of(contender.runs.iter().map(Duration::as_secs_f64));
    Ok(contenders.into_iter().map(spread).collect())
}

/// Returns the fastest of several ways to do the same. The shortest time in a few alternating runs decides.
///
/// The runs alternate because otherwise changes in the machine's speed would decide, and a rival could be
/// measured below its best. A way that takes more than three times as long as the best so far, even in its
/// second call, is dropped.
pub(crate) fn fastest<W, T>(ways: impl Iterator<Item = W>, call: impl Fn(&W) -> Result<T>) -> Result<W> {
    let ways: Vec<W> = ways.collect();
    let mut least = Duration::MAX;
    let mut hopeful = Vec::new();
    for (index, way) in ways.iter().enumerate() {
        let mut contender = Contender::new(|_| call(way));
        // The first call also reads data that no other way has read yet, so the better of two calls counts.
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

// ---- Turns ----------------------------------------------------------------------------------------------------

/// One engine's turn at work that changes data. It prepares, measures and reports by itself.
pub(crate) struct Turn<'a, T> {
    take: Box<dyn FnMut() -> Result<T> + 'a>,
    taken: Vec<T>,
}

impl<'a, T> Turn<'a, T> {
    pub(crate) fn new(take: impl FnMut() -> Result<T> + 'a) -> Self {
        Self { take: Box::new(take), taken: Vec::new() }
    }
}

/// The number of rounds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rounds {
    Exactly(usize),
    /// More rounds if they are short.
    Enough,
}

/// Runs all turns, round by round. Returns the measurements of each.
pub(crate) fn take_turns<T>(rounds: Rounds, mut turns: Vec<Turn<'_, T>>) -> Result<Vec<Vec<T>>> {
    let mut order: Vec<&mut Turn<'_, T>> = turns.iter_mut().collect();
    let (mut wanted, mut done) = (1, 0);
    while done < wanted {
        let start = Instant::now();
        for turn in &mut order {
            let taken = (turn.take)()?;
            turn.taken.push(taken);
        }
        order.reverse();
        wanted = match rounds {
            Rounds::Exactly(rounds) => rounds,
            Rounds::Enough if done > 0 => wanted,
            Rounds::Enough if start.elapsed() < LONG_ROUND => TURN_ROUNDS.0,
            Rounds::Enough => TURN_ROUNDS.1,
        };
        done += 1;
    }
    Ok(turns.into_iter().map(|turn| turn.taken).collect())
}
