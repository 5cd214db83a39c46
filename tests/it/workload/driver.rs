//! A store, and the states that it may be in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    DataPoolStore, Durability, ErrorKind, ManualClock, Pool, Result, StoreOptions, Timestamp,
};

use super::guards::{Claims, Held};
use super::model::{Model, Now};
use super::random::{self, Mix, Scene};
use super::readers::{HeldSnapshot, OpenScan};
use super::seen::{self, Seen};
use super::{Answer, Op};
use crate::support;
use crate::support::disk::TestDisk;
use crate::support::engine::{connect, new_schema};

/// A store, and the states that it may be in.
pub(crate) struct Driver {
    /// The disk of the store, if it is not in a file.
    pub(crate) disk: TestDisk,
    pub(super) file: Option<(tempfile::TempDir, PathBuf)>,
    /// The schema of a store on a server.
    pub(super) schema: Option<String>,
    pub(super) store: Option<DataPoolStore>,
    pub(super) options: StoreOptions,
    pub(super) sizes: Sizes,
    mix: Mix,
    pub(super) clock: ManualClock,
    /// The time that has passed, in microseconds.
    pub(super) passed: i64,
    durability: Durability,
    pub(super) held: BTreeMap<(u64, u64), Held>,
    pub(super) next_claim: u64,
    pub(super) snapshots: Vec<HeldSnapshot>,
    pub(super) scans: Vec<OpenScan>,
    /// Handles of pools that were deleted since the store was opened.
    pub(super) deleted: Vec<Pool>,
    /// The times of past and present records, for use in filters.
    pub(super) times: Vec<Timestamp>,
    /// The states that the store may be in. There is more than one only if they look the same.
    pub(super) current: Vec<Model>,
    /// The states that the store may be in after a loss of power.
    survivors: Vec<Model>,
}

/// A store that nobody has open, and its contents.
pub(crate) struct Resting {
    pub(crate) bytes: Vec<u8>,
    /// True if it was closed properly.
    pub(crate) closed: bool,
    model: Model,
    /// The states that it had before.
    past: Vec<Model>,
    tokens: Claims,
    now: Now,
    next_claim: u64,
    options: StoreOptions,
    sizes: Sizes,
}

impl Resting {
    /// Opens the store on this disk.
    pub(crate) fn wake(&self, disk: TestDisk) -> Result<Driver> {
        let options = self.options.clone();
        let mut driver = Driver::closed(disk, Durability::Immediate, options, self.sizes, self.now);
        driver.held = self.tokens.iter().map(|(which, token)| (*which, Held::Token(*token))).collect();
        driver.next_claim = self.next_claim;
        driver.current = vec![self.model.clone()];
        driver.survivors = self.past.iter().chain([&self.model]).cloned().collect();
        driver.store = Some(driver.open()?);
        Ok(driver)
    }
}

impl Driver {
    /// Returns the contents of the disk now. The store is first closed, or left as by a killed process.
    pub(crate) fn rest(self, closed: bool) -> Resting {
        self.rest_after(closed, vec![])
    }

    pub(crate) fn rest_after(mut self, closed: bool, past: Vec<Model>) -> Resting {
        let tokens = self.tokens();
        let killed = self.disk.bytes();
        self.store = None;
        Resting {
            closed,
            bytes: if closed { self.disk.bytes() } else { killed },
            model: self.current.remove(0),
            past,
            tokens,
            now: self.now(),
            next_claim: self.next_claim,
            options: self.options,
            sizes: self.sizes,
        }
    }

    /// Creates a store on a disk that can be made to fail.
    pub(crate) fn new(durability: Durability, options: StoreOptions, sizes: Sizes) -> Self {
        let now = Now { wall: support::clock().now(), passed: 0, may_turn: false };
        let options = options.durability(durability);
        let mut driver = Self::closed(TestDisk::default(), durability, options, sizes, now);
        driver.store = Some(driver.open().unwrap());
        driver
    }

    /// Creates a store in a file, whose clock may be set. All contents are compared after each operation.
    pub(crate) fn in_file(options: StoreOptions, sizes: Sizes, mix: Mix) -> Self {
        let options = options.durability(Durability::Immediate);
        let now = Now { wall: support::clock().now(), passed: 0, may_turn: true };
        let mut driver = Self::closed(TestDisk::default(), Durability::Immediate, options, sizes, now);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.redb");
        (driver.file, driver.mix) = (Some((directory, path)), mix);
        driver.store = Some(driver.open().unwrap());
        driver
    }

    /// Creates a store on the tests' server. All contents are compared after each operation.
    pub(crate) fn on_server(options: StoreOptions) -> Self {
        let now = Now { wall: support::clock().now(), passed: 0, may_turn: false };
        let mut driver = Self::closed(TestDisk::default(), Durability::Immediate, options, Sizes::SMALL, now);
        (driver.schema, driver.mix) = (Some(new_schema()), Mix::Everything);
        driver.store = Some(driver.open().unwrap());
        driver
    }

    fn closed(disk: TestDisk, durability: Durability, options: StoreOptions, sizes: Sizes, now: Now) -> Self {
        let clock = ManualClock::starting_at(now.wall);
        let models = vec![Model::default()];
        Self {
            disk,
            file: None,
            schema: None,
            store: None,
            options: options.clock(clock.clone()),
            sizes,
            mix: Mix::Crashes,
            clock,
            passed: now.passed,
            durability,
            held: BTreeMap::new(),
            next_claim: 1,
            snapshots: vec![],
            scans: vec![],
            deleted: vec![],
            times: vec![],
            current: models.clone(),
            survivors: models,
        }
    }

    pub(super) fn open(&self) -> Result<DataPoolStore> {
        match (&self.file, &self.schema) {
            (Some((_, path)), _) => testing::open(path, &self.options, self.sizes),
            (None, Some(schema)) => connect(schema, &self.options),
            (None, None) => self.open_on(&self.disk),
        }
    }

    /// Returns true if all contents are compared after each operation.
    pub(super) fn looks(&self) -> bool {
        self.file.is_some() || self.schema.is_some()
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: self.clock.now(), passed: self.passed, may_turn: self.file.is_some() }
    }

    /// Changes all models of the states in which the store may be.
    pub(super) fn each_model(&mut self, change: impl Fn(&mut Model)) {
        self.current.iter_mut().for_each(change);
    }

    pub(crate) fn store(&self) -> &DataPoolStore {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn model(&self) -> &Model {
        &self.current[0]
    }

    pub(crate) fn any_op(&self, numbers: &mut support::Numbers) -> Op {
        let scene = Scene {
            mix: self.mix,
            model: self.model(),
            now: self.now(),
            held: &self.claims(),
            next_claim: self.next_claim,
            scans: self.scans.len(),
            snapshots: self.snapshots.len(),
            times: &self.times,
        };
        match random::any_op(numbers, &scene) {
            // A store on a server has no file, and its leases run on the server's clock, which is never set back.
            Op::Rebuild | Op::Compact | Op::Vacuum | Op::Backup if self.schema.is_some() => Op::Verify,
            Op::Turn { .. } if self.schema.is_some() => Op::Pass { time: Duration::from_micros(1) },
            op => op,
        }
    }

    /// Returns the states through which an operation will lead.
    pub(crate) fn states_of(&self, op: &Op) -> Vec<Model> {
        self.model().apply(op, self.now()).0
    }

    /// Runs an operation on a working disk.
    pub(crate) fn run(&mut self, op: &Op) {
        let answer = self.attempt(op).unwrap_or_else(|error| panic!("{op:?}: {error}"));
        self.acknowledged(op, &answer);
    }

    /// Runs an operation. A refusal for another reason than the disk is an answer.
    pub(crate) fn attempt(&mut self, op: &Op) -> Result<Answer> {
        let answer = self.call(op);
        match answer {
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::LeaseLost) => {
                Ok(Answer::Refused(error.kind()))
            }
            answer => answer,
        }
    }

    /// Records an answer that came while the disk was working.
    pub(crate) fn acknowledged(&mut self, op: &Op, answer: &Answer) {
        let now = self.now();
        let before = self.current.clone();
        let (mut next, mut expected) = (vec![], vec![]);
        for model in &before {
            let (mut states, answers) = model.apply(op, now);
            if answers == *answer {
                next.extend(states.pop());
                self.survivors.extend(states);
            }
            expected.push(answers);
        }
        assert!(!next.is_empty(), "{op:?} answers {answer:?} instead of {expected:?}");
        let is_promised = self.is_durable(op, &before, &next);
        if is_promised {
            self.survivors.clear();
        }
        self.survivors.extend(next.iter().cloned());
        self.current = next;
        self.forget_claims_that_ended();
        if let Some(pool) = op.pool().filter(|_| self.looks()).and_then(|pool| self.model().pools.get(&pool))
        {
            let newest = pool.live.last().map(|row| row.created_at);
            self.times.extend(newest.filter(|time| self.times.last() != Some(time)));
        }
        if let Op::Claim { pool, id: claim, .. } | Op::Settle { pool, claim, .. } = op {
            self.guard_agrees((*pool, *claim));
        }
        if let Op::TakeUp { pool, owner } = op {
            self.guards_of_owner_agree(*pool, owner);
        }
    }

    /// Returns true if the answer implies that the operation and all before it are on disk.
    fn is_durable(&self, op: &Op, before: &[Model], after: &[Model]) -> bool {
        if self.durability == Durability::Immediate {
            return true;
        }
        match op {
            Op::Flush | Op::Reopen | Op::Compact | Op::Vacuum => true,
            // Claims are always durable.
            Op::Claim { pool, .. }
            | Op::TakeUp { pool, .. }
            | Op::ReleaseClaims { pool, .. }
            | Op::Settle { pool, .. } => before.iter().zip(after).any(|(before, after)| {
                let (before, after) = (&before.pools[pool], &after.pools[pool]);
                before.claims != after.claims || before.owners != after.owners
            }),
            _ => false,
        }
    }

    /// Records that the disk failed during an operation. All of it, some of its separate commits, or nothing
    /// may have been done.
    pub(crate) fn unacknowledged(&mut self, op: &Op) {
        let now = self.now();
        for model in &self.current {
            self.survivors.extend(model.apply(op, now).0);
        }
    }

    /// Ends the process: nothing is closed properly, because the disk is dead.
    pub(crate) fn crash(&mut self) {
        self.hand_over();
        self.store = None;
    }

    /// Opens a disk that may hold a surviving state, without reading it.
    pub(crate) fn open_on(&self, disk: &TestDisk) -> Result<DataPoolStore> {
        testing::on_disk(disk.clone(), &self.options, self.sizes)
    }

    /// Opens what survived, and compares it with the states that may have survived.
    pub(crate) fn recover(&mut self, image: Vec<u8>) {
        self.disk = TestDisk::holding(image);
        let store =
            self.open_on(&self.disk).unwrap_or_else(|error| panic!("opening what survived failed: {error}"));
        self.store = Some(store);
        self.is_a_survivor();
        self.answers_agree();
        assert_eq!(self.store().verify().unwrap().findings, []);
    }

    /// Checks after reopening that the store is in one of the states that may survive.
    pub(crate) fn is_a_survivor(&mut self) {
        let survivors = std::mem::take(&mut self.survivors);
        self.current = self.those_that_agree(survivors, "the survivors are");
        // This state was found on disk, so it stays there.
        self.survivors.clone_from(&self.current);
        self.forget_claims_that_ended();
    }

    /// Reads everything, which must be what was acknowledged.
    pub(crate) fn is_current(&mut self) {
        let current = self.current.clone();
        self.current = self.those_that_agree(current, "the state is");
    }

    fn those_that_agree(&mut self, mut models: Vec<Model>, what: &str) -> Vec<Model> {
        // If guards are compared elsewhere, leave them alone.
        let tokens = if self.looks() { Claims::new() } else { self.tokens() };
        let now = self.now();
        let seen = Seen::of(self.store(), &tokens).unwrap();
        for model in &mut models {
            model.expire(now);
        }
        let expected: Vec<Seen> = models.iter().map(|model| Seen::expected(model, now, &tokens)).collect();
        let agree = |(model, expected)| (seen == expected).then_some(model);
        let mut agreeing: Vec<Model> = Vec::new();
        for model in models.into_iter().zip(expected.clone()).filter_map(agree) {
            if !agreeing.contains(&model) {
                agreeing.push(model);
            }
        }
        assert!(!agreeing.is_empty(), "found is {}, {what} {}", seen.summary(), summaries(&expected, &seen));
        agreeing
    }

    /// Records that an operation was refused because the disk is full. Some of its separate commits may have
    /// been done, or nothing.
    pub(crate) fn refused(&mut self, op: &Op) {
        let now = self.now();
        let parts = self.current.iter().flat_map(|model| model.apply(op, now).0);
        let models = self.current.iter().cloned().chain(parts).collect();
        self.current = self.those_that_agree(models, "the states are");
        self.survivors.extend(self.current.iter().cloned());
        self.forget_claims_that_ended();
    }

    /// Reads what can be read after an operation that failed and may have been partly done. Returns true if
    /// everything could be read.
    pub(crate) fn is_current_or_a_part(&mut self, op: &Op) -> bool {
        let (now, tokens) = (self.now(), self.tokens());
        let Ok(seen) = Seen::of(self.store(), &tokens) else { return false };
        let parts = self.current.iter().flat_map(|model| model.apply(op, now).0);
        let mut models: Vec<Model> = self.current.iter().cloned().chain(parts).collect();
        for model in &mut models {
            model.expire(now);
        }
        let expected: Vec<Seen> = models.iter().map(|model| Seen::expected(model, now, &tokens)).collect();
        assert!(expected.contains(&seen), "found is {}, not {}", seen.summary(), summaries(&expected, &seen));
        true
    }

    /// From now on, only the state in which it was left is right.
    pub(crate) fn forget_the_past(&mut self) {
        self.survivors.clear();
    }

    /// Reads everything from a store that may be damaged. Returns true if it is in the state in which it was
    /// left, and false if it is in an earlier state. An earlier state may look the same.
    ///
    /// Panics if it is in neither.
    pub(crate) fn is_as_it_was_left(&mut self) -> Result<bool> {
        let (now, tokens) = (self.now(), self.tokens());
        let seen = Seen::of(self.store(), &tokens)?;
        let left = Seen::expected(self.model(), now, &tokens);
        let mut models = std::mem::take(&mut self.current);
        models.append(&mut self.survivors);
        for model in &mut models {
            model.expire(now);
        }
        models.retain(|model| Seen::expected(model, now, &tokens) == seen);
        assert!(!models.is_empty(), "found is {}, not {}", seen.summary(), left.difference(&seen));
        self.current = models;
        Ok(seen == left)
    }

    /// Reads everything, and accepts any contents.
    pub(crate) fn reads(&mut self) -> Result<()> {
        let tokens = self.tokens();
        Seen::of(self.store(), &tokens).map(drop)
    }

    /// Checks queries that use indexes.
    pub(crate) fn answers_agree(&self) {
        for (id, model) in &self.model().pools {
            seen::answers_agree(&self.store().pool(*id).unwrap(), model, self.now()).unwrap();
        }
    }
}

fn summaries(expected: &[Seen], seen: &Seen) -> String {
    expected.iter().map(|expected| format!("\n  {}", expected.difference(seen))).collect()
}
