//! Runs random operations against the store and the model side by side.

use std::sync::atomic::{AtomicU64, Ordering};

use datapool_store::ErrorKind;

use crate::answer::Answer;
use crate::generate::{Generator, Limits};
use crate::model::Model;
use crate::operation::{Filter, Kind, Operation, Question, Registry};
use crate::subject::{Setup, Subject, is_full};

/// The run under way, for the message of a panic.
pub static SEED: AtomicU64 = AtomicU64::new(0);
pub static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The first difference of a run.
#[derive(Debug)]
pub struct Difference {
    pub number: u64,
    pub text: String,
}

pub struct Run {
    pub model: Model,
    pub generator: Generator,
    /// The number of operations done.
    pub done: u64,
    /// The number of operations that failed because the disk was full.
    pub full: u64,
    /// The most records that a pool had.
    pub largest: usize,
    /// The number of snapshots that a full disk ended.
    pub ended_snapshots: u64,
    next_check: u64,
    pub verbose: bool,
}

/// The number of operations after which everything is compared.
const EVERYTHING: u64 = 300;

impl Run {
    pub fn new(seed: u64, start: i64, leases_by_clock: bool, limits: Limits) -> Self {
        SEED.store(seed, Ordering::Relaxed);
        let (model, generator) = (Model::new(start, leases_by_clock), Generator::new(seed, limits));
        Self {
            model,
            generator,
            done: 0,
            full: 0,
            largest: 0,
            ended_snapshots: 0,
            next_check: EVERYTHING,
            verbose: false,
        }
    }

    /// Does the next operation in the model alone.
    pub fn step_model(&mut self) -> Operation {
        let operation = self.generator.next(&self.model);
        let _ = self.model.apply(&operation);
        self.done += 1;
        if self.is_time_for_everything() {
            // Comparing everything has each pool answer.
            for pool in self.model.pools.keys().copied().collect::<Vec<_>>() {
                let _ = self.model.apply(&Operation::Stats { pool });
            }
        }
        operation
    }

    /// The process that held the guards, tokens and snapshots has died. Leases run by the clock from now on.
    pub fn left_alone(&mut self) {
        let _ = self.model.apply(&Operation::CloseAndOpen);
        self.model.tokens.clear();
        self.generator.forget_waiting();
    }

    /// Does the next operation in both, and compares everything now and then.
    pub fn step(&mut self, subject: &mut Subject, verbose: bool) -> Result<(), Difference> {
        let operation = self.generator.next(&self.model);
        self.done += 1;
        NUMBER.store(self.done, Ordering::Relaxed);
        self.verbose = verbose;
        if verbose {
            eprintln!("{} at {}: {}", self.done, self.model.now, short(&format!("{operation:?}")));
        }
        self.compare(subject, &operation)?;
        if self.is_time_for_everything() {
            self.compare_everything(subject)?;
        }
        Ok(())
    }

    /// Operations that belong together, such as setting the clock and learning times, stay together.
    fn is_time_for_everything(&mut self) -> bool {
        let is_time = self.done >= self.next_check && self.generator.is_between();
        if is_time {
            self.next_check = self.done + EVERYTHING;
        }
        is_time
    }

    fn compare(&mut self, subject: &mut Subject, operation: &Operation) -> Result<(), Difference> {
        let found = subject.apply(operation);
        if is_full(&found) {
            self.full += 1;
            if self.verbose {
                eprintln!("  the disk is full");
            }
            return Ok(());
        }
        if let (Operation::AskSnapshot { snapshot, .. }, Err(refusal)) = (operation, &found)
            && refusal.kind == ErrorKind::Closed
            && self.full > 0
        {
            // A full disk can end snapshots.
            self.ended_snapshots += 1;
            let gone = Operation::DropSnapshot { snapshot: *snapshot };
            let _ = (subject.apply(&gone), self.model.apply(&gone));
            return Ok(());
        }
        if let Operation::LearnTime { pool } = operation {
            let ahead = found.iter().flatten().find_map(|ahead| ahead.parse().ok()).unwrap_or(0);
            if std::env::var_os("SHOW_TIME").is_some() {
                eprintln!("   {ahead} ahead");
            }
            let learnt = self.model.learn_time(*pool, ahead);
            return learnt.map_err(|text| Difference { number: self.done, text });
        }
        let expected = self.model.apply(operation);
        if found == expected {
            return Ok(());
        }
        let text = format!("{}\n{}", short(&format!("{operation:?}")), difference(&expected, &found));
        Err(Difference { number: self.done, text })
    }

    pub fn compare_everything(&mut self, subject: &mut Subject) -> Result<(), Difference> {
        let sizes = self.model.pools.values().map(|pool| pool.records.len());
        self.largest = sizes.fold(self.largest, usize::max);
        for pool in self.model.pools.keys().copied().collect::<Vec<_>>() {
            let question = Question::Scan { filter: Filter::default(), reverse: false };
            self.compare(subject, &Operation::Ask { pool, question })?;
            self.compare(subject, &Operation::ListClaims { pool })?;
            self.compare(subject, &Operation::Stats { pool })?;
            self.compare(subject, &Operation::Counts { pool })?;
            let results = self.model.pools[&pool].records.values().filter(|record| record.result.is_some());
            for id in results.map(|record| record.id).take(50).collect::<Vec<_>>() {
                self.compare(subject, &Operation::Ask { pool, question: Question::ResultOf(id) })?;
            }
        }
        for kind in [Kind::EntityType, Kind::Flow, Kind::Run, Kind::Step] {
            self.compare(subject, &Operation::Register { kind, what: Registry::List })?;
        }
        let list = crate::operation::PoolList { page: 1, per_page: 100, ..Default::default() };
        self.compare(subject, &Operation::ListPools(list))?;
        if self.model.snapshots.is_empty() {
            self.compare(subject, &Operation::Verify)?;
        }
        Ok(())
    }
}

/// Runs a seed to its end.
pub fn run(
    seed: u64,
    setup: &Setup,
    limits: Limits,
    operations: u64,
    verbose: bool,
) -> Result<Run, Difference> {
    let mut subject = Subject::open(setup.clone())
        .map_err(|error| Difference { number: 0, text: format!("opening: {error}") })?;
    let mut run = Run::new(seed, setup.start, !subject.is_embedded(), limits);
    while run.done < operations || !run.generator.is_between() {
        run.step(&mut subject, verbose)?;
    }
    run.compare_everything(&mut subject)?;
    Ok(run)
}

/// Returns a text in which long runs of one character are cut, and its end if it is long.
pub fn short(text: &str) -> String {
    let (mut shown, mut last, mut repeated) = (String::new(), ' ', 0);
    for letter in text.chars() {
        repeated = if letter == last { repeated + 1 } else { 0 };
        last = letter;
        if repeated < 12 {
            shown.push(letter);
        }
        if shown.len() > 3_000 {
            return shown + " ...";
        }
    }
    shown
}

/// Says where two answers differ.
fn difference(expected: &Answer, found: &Answer) -> String {
    let (Ok(expected), Ok(found)) = (expected, found) else {
        return format!(
            "model: {}\nstore: {}",
            short(&format!("{expected:?}")),
            short(&format!("{found:?}"))
        );
    };
    let mut text = format!("model: {} lines, store: {} lines", expected.len(), found.len());
    let longest = expected.len().max(found.len());
    let differ = (0..longest).filter(|line| expected.get(*line) != found.get(*line));
    for line in differ.take(3) {
        let (expected, found) = (expected.get(line), found.get(line));
        text.push_str(&format!("\nline {line}\n  model: {}", short(&format!("{expected:?}"))));
        text.push_str(&format!("\n  store: {}", short(&format!("{found:?}"))));
    }
    text
}
