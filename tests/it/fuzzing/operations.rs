//! Any row of operations on a disk that fails when the input says so: each call answers as a plain list would, or fails
//! with the right kind of error; after reopening, in place or from what a loss of power left, the call that failed has
//! happened whole or not at all, and `verify` finds nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use datapool_store::{
    Claim, ClaimOutcome, ClaimVerdict, DataPoolStore, Error, ErrorKind, ImportOptions, Key, ManualClock,
    Mode, OnDuplicate, Origin, Pool, PoolUpdate, RecordFilter, Recovery, Result, StoreOptions, Timestamp,
    Verdict,
};

use super::Input;
use crate::support::disk::{Fault, Operation, Reason, TestDisk, Torn};
use crate::support::{self, Numbers, ORDERS};

/// Of how many values, and by how many runs.
const VALUES: u8 = 96;
const RUNS: u8 = 5;
const OPERATIONS_MAX: usize = 48;
const LEASE: Duration = Duration::from_mins(1);
/// Longer than any lease and than any retention.
const LONG: Duration = Duration::from_hours(2);

#[derive(Debug, Clone)]
enum Op {
    Dedupe {
        mode: Mode,
        values: Vec<u8>,
        run: u8,
    },
    Import {
        values: Vec<u8>,
        skip: bool,
    },
    DeleteKeys(Vec<u8>),
    DeleteRun(u8),
    Clear,
    Claim {
        values: Vec<u8>,
        run: u8,
    },
    /// Confirms or releases a claim that is held.
    Settle {
        which: u8,
        confirm: bool,
    },
    SetRetention(Option<u8>),
    SetCapacity(Option<u8>),
    Prune,
    Compact,
    Rebuild,
    Verify,
    Reopen,
}

impl Op {
    /// What writes comes first and more often: an input of zeros tracks.
    fn read(input: &mut Input<'_>) -> Self {
        match input.below(22) {
            0..=2 => Self::Dedupe { mode: Mode::Track, values: values(input), run: input.below(RUNS) },
            3 | 4 => {
                Self::Dedupe { mode: Mode::FilterAndTrack, values: values(input), run: input.below(RUNS) }
            }
            5 => Self::Dedupe { mode: Mode::Filter, values: values(input), run: input.below(RUNS) },
            6 | 7 => Self::Import { values: values(input), skip: input.below(2) == 1 },
            8 => Self::DeleteKeys(values(input)),
            9 => Self::DeleteRun(input.below(RUNS)),
            10 => Self::Clear,
            11 | 12 => Self::Claim { values: values(input), run: input.below(RUNS) },
            13 | 14 => Self::Settle { which: input.byte(), confirm: input.below(3) > 0 },
            15 => Self::SetRetention(Some(input.byte()).filter(|seconds| *seconds > 0)),
            16 => Self::SetCapacity(Some(input.below(80)).filter(|records| *records > 0)),
            17 => Self::Prune,
            18 => Self::Compact,
            19 => Self::Rebuild,
            20 => Self::Verify,
            _ => Self::Reopen,
        }
    }
}

/// A stretch of values, which may begin anew: then some come twice.
fn values(input: &mut Input<'_>) -> Vec<u8> {
    let (start, length) = (input.below(VALUES), 1 + input.below(48));
    let wraps = input.below(2) == 1;
    let within = |offset: u8| if wraps { offset % (length / 2 + 1) } else { offset };
    (0..length).map(|offset| (start + within(offset)) % VALUES).collect()
}

fn value(number: u8) -> String {
    format!("A-{number}")
}

fn key_of(number: &u8) -> Key<'_> {
    Key::new(ORDERS, value(*number))
}

fn origin(run: u8) -> Origin {
    Origin::new("shop", u64::from(run), "read")
}

/// What a call says.
#[derive(Debug, PartialEq)]
enum Answer {
    Verdicts(Vec<Verdict>),
    Count(u64),
    /// What became of each item of a confirmation.
    Outcomes(Vec<(u8, &'static str)>),
    Done,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    value: u8,
    run: Option<u8>,
    created_at: Timestamp,
}

/// The pool as a list.
#[derive(Debug, Clone, Default)]
struct Model {
    live: Vec<Row>,
    retention: Option<Duration>,
    capacity: Option<u64>,
    /// Who owns a value, and until when its lease runs.
    owners: BTreeMap<u8, (u64, Timestamp)>,
    claims: u64,
}

impl Model {
    fn has(&self, value: u8) -> bool {
        self.live.iter().any(|row| row.value == value)
    }

    fn is_in_flight(&self, value: u8, now: Timestamp) -> bool {
        self.owners.get(&value).is_some_and(|(_, until)| *until > now)
    }

    fn expire(&mut self, now: Timestamp) {
        let Some(retention) = self.retention else { return };
        let horizon = now.saturating_sub(retention);
        self.live.retain(|row| row.created_at > horizon);
    }

    fn evict(&mut self) {
        let capacity = self.capacity.map_or(usize::MAX, |records| usize::try_from(records).unwrap());
        self.live.drain(..self.live.len().saturating_sub(capacity));
    }

    /// Adds records, which voids the claims on their values.
    fn add(&mut self, values: impl IntoIterator<Item = u8>, run: Option<u8>, created_at: Timestamp) {
        for value in values {
            self.owners.remove(&value);
            self.live.push(Row { value, run, created_at });
        }
    }

    fn verdicts(&self, mode: Option<Mode>, values: &[u8], now: Timestamp) -> Vec<Verdict> {
        let verdict = |(index, value): (usize, &u8)| match value {
            value if self.has(*value) => Verdict::Duplicate,
            value if mode != Some(Mode::Track) && self.is_in_flight(*value, now) => Verdict::InFlight,
            value if values[..index].contains(value) => Verdict::Duplicate,
            _ => Verdict::New,
        };
        values.iter().enumerate().map(verdict).collect()
    }

    fn remove(&mut self, gone: impl Fn(&Row) -> bool) -> Answer {
        let before = self.live.len();
        self.live.retain(|row| !gone(row));
        Answer::Count((before - self.live.len()) as u64)
    }

    /// What a call answers, and the pool after it.
    fn after(&self, op: &Op, held: &[Held], now: Timestamp) -> (Answer, Self) {
        let mut model = self.clone();
        let answer = match op {
            Op::Dedupe { mode, values, run } => {
                let verdicts = self.verdicts(Some(*mode), values, now);
                if *mode != Mode::Filter {
                    model.add(of(&verdicts, values, Verdict::New), Some(*run), now);
                }
                Answer::Verdicts(verdicts)
            }
            Op::Import { values, skip } => {
                let is_added = |(index, value): (usize, &u8)| {
                    !(*skip && (self.has(*value) || values[..index].contains(value)))
                };
                let places = values.iter().enumerate().filter(|place| is_added(*place));
                let added: Vec<u8> = places.map(|(_, value)| *value).collect();
                let count = added.len() as u64;
                model.add(added, None, now);
                Answer::Count(count)
            }
            Op::DeleteKeys(values) => model.remove(|row| values.contains(&row.value)),
            Op::DeleteRun(run) => model.remove(|row| row.run == Some(*run)),
            Op::Clear => model.remove(|_| true),
            Op::Claim { values, .. } => {
                let verdicts = self.verdicts(None, values, now);
                model.claims += 1;
                let until = now.saturating_add(LEASE);
                let claimed = of(&verdicts, values, Verdict::New);
                model.owners.extend(claimed.into_iter().map(|value| (value, (model.claims, until))));
                Answer::Verdicts(verdicts)
            }
            Op::Settle { which, confirm } => match chosen(held, *which) {
                None => Answer::Done,
                Some(place) => model.settle(&held[place], *confirm, now),
            },
            Op::SetRetention(seconds) => {
                model.retention = seconds.map(|seconds| Duration::from_secs(seconds.into()));
                Answer::Done
            }
            Op::SetCapacity(records) => {
                model.capacity = records.map(u64::from);
                Answer::Done
            }
            Op::Prune | Op::Compact | Op::Rebuild | Op::Verify | Op::Reopen => Answer::Done,
        };
        model.expire(now);
        model.evict();
        (answer, model)
    }

    fn settle(&mut self, held: &Held, confirm: bool, now: Timestamp) -> Answer {
        let mut outcomes = Vec::new();
        for value in &held.values {
            let is_own = self.owners.get(value).is_some_and(|(id, _)| *id == held.id);
            outcomes.push((
                *value,
                match (is_own, self.has(*value)) {
                    (true, _) => "confirmed",
                    (false, true) => "tracked",
                    (false, false) => "lost",
                },
            ));
        }
        let own = |outcome: &&(u8, &str)| outcome.1 == "confirmed";
        let own: Vec<u8> = outcomes.iter().filter(own).map(|(value, _)| *value).collect();
        if confirm {
            self.add(own, Some(held.run), now);
            return Answer::Outcomes(outcomes);
        }
        self.owners.retain(|value, _| !own.contains(value));
        Answer::Count(own.len() as u64)
    }
}

/// The values of one verdict.
fn of(verdicts: &[Verdict], values: &[u8], wanted: Verdict) -> Vec<u8> {
    let pairs = verdicts.iter().zip(values).filter(|(verdict, _)| **verdict == wanted);
    pairs.map(|(_, value)| *value).collect()
}

/// A claim that is held.
struct Held {
    id: u64,
    guard: Claim,
    values: Vec<u8>,
    run: u8,
}

fn chosen(held: &[Held], which: u8) -> Option<usize> {
    usize::from(which).checked_rem(held.len())
}

struct World {
    disk: TestDisk,
    clock: ManualClock,
    options: StoreOptions,
    store: DataPoolStore,
    pool: Pool,
    model: Model,
    held: Vec<Held>,
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(&mut input);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0 => world.arm(&mut input),
            1 => world.pass(&mut input),
            2 if input.below(4) == 0 => world.lose_power(&mut input),
            _ => {
                let op = Op::read(&mut input);
                world.step(&op, &mut input);
            }
        }
    }
    world.finish();
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let (disk, clock) = (TestDisk::default(), support::clock());
        let kind = input.byte();
        let recovery = if kind & 1 == 0 { Recovery::Rebuild } else { Recovery::Instant };
        let cache = if kind & 2 == 0 { 16 << 20 } else { 0 };
        let options = support::options().clock(clock.clone()).recovery(recovery).cache_size(cache);
        let store = disk.open(&options).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        Self { disk, clock, options, store, pool, model: Model::default(), held: Vec::new() }
    }

    fn arm(&mut self, input: &mut Input<'_>) {
        let operations =
            [Operation::Write, Operation::Sync, Operation::SetLen, Operation::Read, Operation::Change];
        let operation = operations[usize::from(input.below(5))];
        let (after, how) = (usize::from(input.byte()), input.byte());
        let torn = [Torn::Nothing, Torn::Half, Torn::Underway][usize::from(how % 3)];
        let reason = if how & 8 == 0 { Reason::Broken } else { Reason::Full };
        self.disk.fail(Fault { operation, after, forever: how & 16 == 0, torn, reason });
    }

    /// Lets time pass, so little that a claim can be confirmed late, or so much that whoever holds one gives it up.
    fn pass(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            255 => self.give_up_claims(),
            millis => self.clock.advance(Duration::from_millis(u64::from(millis) * 200)),
        }
        self.model.expire(self.clock.now());
    }

    /// Whatever is in flight has lapsed afterwards, be it released or not: the disk may fail while guards are dropped.
    fn give_up_claims(&mut self) {
        self.held.clear();
        self.clock.advance(LONG);
        self.model.owners.clear();
        self.model.expire(self.clock.now());
    }

    fn step(&mut self, op: &Op, input: &mut Input<'_>) {
        let now = self.clock.now();
        let (expected, after) = self.model.after(op, &self.held, now);
        match self.call(op) {
            Ok(answer) => {
                assert_eq!(answer, expected, "{op:?}");
                self.model = after;
                if let Err(error) = self.check() {
                    let before = self.model.clone();
                    self.recover(&error, vec![before], input);
                }
            }
            Err(error) => {
                let before = self.model.clone();
                self.recover(&error, vec![before, after], input);
            }
        }
    }

    fn call(&mut self, op: &Op) -> Result<Answer> {
        let update =
            |update: PoolUpdate| self.store.update_pool(self.pool.id(), update).map(|_| Answer::Done);
        match op {
            Op::Dedupe { mode, values, run } => {
                let verdicts = self.pool.dedupe(*mode, values, key_of, &origin(*run))?;
                Ok(Answer::Verdicts(verdicts.as_slice().to_vec()))
            }
            Op::Import { values, skip } => {
                let rows: String = values.iter().map(|number| format!("{},37\n", value(*number))).collect();
                let policy = if *skip { OnDuplicate::Skip } else { OnDuplicate::Add };
                let options = ImportOptions::new().on_duplicate(policy);
                let report =
                    self.pool.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &options)?;
                Ok(Answer::Count(report.added))
            }
            Op::DeleteKeys(values) => {
                self.pool.delete_keys(&values.iter().map(key_of).collect::<Vec<_>>()).map(Answer::Count)
            }
            Op::DeleteRun(run) => {
                self.pool.delete_where(&RecordFilter::new().flow_run_id(u64::from(*run))).map(Answer::Count)
            }
            Op::Clear => self.pool.clear().map(Answer::Count),
            Op::Claim { values, run } => self.claim(values, *run),
            Op::Settle { which, confirm } => self.settle(*which, *confirm),
            Op::SetRetention(None) => update(PoolUpdate::new().clear_retention()),
            Op::SetRetention(Some(s)) => {
                update(PoolUpdate::new().retention(Duration::from_secs((*s).into())))
            }
            Op::SetCapacity(None) => update(PoolUpdate::new().clear_capacity()),
            Op::SetCapacity(Some(records)) => update(PoolUpdate::new().capacity((*records).into())),
            Op::Prune => self.pool.prune().map(|_| Answer::Done),
            Op::Compact => self.store.compact().map(|_| Answer::Done),
            Op::Rebuild => {
                let report = self.store.rebuild_indexes()?;
                assert_eq!(report.left, []);
                Ok(Answer::Done)
            }
            Op::Verify => {
                let report = self.store.verify()?;
                assert_eq!(report.findings, []);
                Ok(Answer::Done)
            }
            Op::Reopen => self.store.reopen().map(|()| Answer::Done),
        }
    }

    fn claim(&mut self, values: &[u8], run: u8) -> Result<Answer> {
        let guard = self.pool.claim(values, key_of, &origin(run), LEASE)?;
        let verdict = |(_, verdict): &(usize, ClaimVerdict)| match verdict {
            ClaimVerdict::Claimed => Verdict::New,
            ClaimVerdict::InFlight { .. } => Verdict::InFlight,
            ClaimVerdict::Duplicate(_) => Verdict::Duplicate,
            other => panic!("{other:?} of a new claim"),
        };
        let verdicts: Vec<Verdict> = guard.verdicts().iter().map(verdict).collect();
        let values = of(&verdicts, values, Verdict::New);
        if !values.is_empty() {
            self.held.push(Held { id: self.model.claims + 1, guard, values, run });
        }
        Ok(Answer::Verdicts(verdicts))
    }

    fn settle(&mut self, which: u8, confirm: bool) -> Result<Answer> {
        let Some(place) = chosen(&self.held, which) else { return Ok(Answer::Done) };
        let mut held = self.held.remove(place);
        if !confirm {
            return held.guard.release().map(Answer::Count);
        }
        let confirmation = held.guard.confirm()?;
        let outcome = |outcome: &ClaimOutcome| match outcome {
            ClaimOutcome::Confirmed(_) => "confirmed",
            ClaimOutcome::AlreadyTracked(_) => "tracked",
            ClaimOutcome::LeaseLost => "lost",
            other => panic!("{other:?}"),
        };
        let outcomes = confirmation.outcomes().iter().map(|(_, became)| outcome(became));
        Ok(Answer::Outcomes(held.values.iter().copied().zip(outcomes).collect()))
    }

    fn rows(&self) -> Result<Vec<Row>> {
        let row = |record: datapool_store::Record| Row {
            value: record.value[2..].parse().unwrap(),
            run: record.flow_run_id.map(|run| run.to_string().parse().unwrap()),
            created_at: record.created_at,
        };
        self.pool.scan(&RecordFilter::new())?.map(|record| record.map(row)).collect()
    }

    /// Reads by records, by fingerprints and by posting lists.
    fn check(&self) -> Result<()> {
        assert_eq!(self.rows()?, self.model.live);
        let all: Vec<u8> = (0..VALUES).collect();
        let expected: Vec<bool> = all.iter().map(|value| self.model.has(*value)).collect();
        assert_eq!(self.pool.contains_many(&all.iter().map(key_of).collect::<Vec<_>>())?, expected);
        for run in 0..RUNS {
            let expected = self.model.live.iter().filter(|row| row.run == Some(run)).count() as u64;
            assert_eq!(self.pool.count(&RecordFilter::new().flow_run_id(u64::from(run)))?, expected);
        }
        Ok(())
    }

    /// After a call that failed: the store is opened again, and has one of these states.
    fn recover(&mut self, error: &Error, states: Vec<Model>, input: &mut Input<'_>) {
        assert!(self.disk.failed(), "no failure of the disk, but: {error}");
        assert!(
            matches!(error.kind(), ErrorKind::Storage | ErrorKind::StorageFull | ErrorKind::OutcomeUnknown),
            "{error:?}"
        );
        let loses_power = input.below(2) == 1;
        if loses_power {
            self.lose_power_now(input);
        } else {
            self.disk.heal();
            self.store.reopen().unwrap();
        }
        self.give_up_claims();
        let (found, now) = (self.rows().unwrap(), self.clock.now());
        let state = states.into_iter().find_map(|mut state| {
            state.owners.clear();
            state.expire(now);
            (state.live == found).then_some(state)
        });
        let policy = self.pool.info().unwrap();
        let Some(state) = state else { panic!("{found:?} is neither before nor after; {error}") };
        self.model = Model { retention: policy.retention, capacity: policy.capacity, ..state };
        self.is_sound();
    }

    /// The power goes between two calls, or in the midst of a failure that nobody has met yet.
    fn lose_power(&mut self, input: &mut Input<'_>) {
        self.lose_power_now(input);
        self.give_up_claims();
        self.is_sound();
    }

    fn lose_power_now(&mut self, input: &mut Input<'_>) {
        let image = self.disk.after_a_loss_of_power(&mut Numbers::seeded(input.byte().into()));
        // Guards let go of the store that is gone.
        self.held.clear();
        self.disk = TestDisk::holding(image);
        self.store = self.disk.open(&self.options).unwrap();
        self.pool = self.store.pool_named("orders").unwrap();
    }

    fn is_sound(&self) {
        self.check().unwrap();
        assert_eq!(self.store.verify().unwrap().findings, []);
    }

    fn finish(mut self) {
        self.disk.heal();
        self.store.reopen().unwrap();
        self.give_up_claims();
        self.is_sound();
    }
}
