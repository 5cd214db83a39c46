//! Timing: alternating runs of the contenders, and what came of them.
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

/// How many rounds of turns there are, where one takes less than [`LONG_ROUND`]; and where it takes longer.
const TURN_ROUNDS: (usize, usize) = (5, 3);
const LONG_ROUND: Duration = Duration::from_secs(20);

/// What was measured several times: seconds, bytes, or whatever the row is of.
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

    /// What was measured once, or follows from several measurements.
    pub(crate) fn exactly(value: f64) -> Self {
        Self { median: value, least: value, most: value }
    }
}

/// As exact as a measurement is: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// What some work takes, in seconds.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64(), done))
}

// ---- Calls ----------------------------------------------------------------------------------------------------

/// One engine's way to do the work of a row, which can be repeated as often as one likes.
pub(crate) struct Contender<'a> {
    /// The number tells calls apart, for work that is never the same twice.
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

    /// How long a call takes, on the average of a run's calls.
    fn run(&mut self) -> Result<Duration> {
        let numbers = self.next..self.next + self.calls;
        self.next = numbers.end;
        let start = Instant::now();
        for number in numbers {
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
}

/// Runs the contenders by turns; what a call takes.
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

// ---- Turns ----------------------------------------------------------------------------------------------------

/// One engine's turn at work that changes something: it prepares, measures and reports by itself.
pub(crate) struct Turn<'a, T> {
    take: Box<dyn FnMut() -> Result<T> + 'a>,
    taken: Vec<T>,
}

impl<'a, T> Turn<'a, T> {
    pub(crate) fn new(take: impl FnMut() -> Result<T> + 'a) -> Self {
        Self { take: Box::new(take), taken: Vec::new() }
    }
}

/// How often all have their turn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rounds {
    Exactly(usize),
    /// More often if it is quick.
    Enough,
}

/// Has all take their turns, round by round. What each measured.
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
