//! Operations of every kind on a store whose disk fails, beside a model of what the store must hold.
//!
//! A [`Driver`] has a store open on a [`TestDisk`], and knows what was acknowledged: which states the store may be in
//! now, and which it may be in once it was opened again. Whoever breaks the disk asks it whether that still holds.

pub(crate) mod life;
pub(crate) mod model;
pub(crate) mod random;
mod seen;

use std::collections::BTreeMap;
use std::time::Duration;

use datapool_store::testing::{self, Sizes};
use datapool_store::{
    Claim, ClaimOutcome, ClaimToken, ClaimVerdict, Confirmation, DataPoolStore, Durability, ErrorKind, Flow,
    ImportOptions, ManualClock, Mode, NewPool, OnDuplicate, Origin, Pool, PoolUpdate, RecordFilter, Result,
    StoreOptions, Timestamp, Verdict,
};

use self::model::Model;
use self::seen::Seen;
use crate::support;
use crate::support::disk::TestDisk;
use crate::support::items::{Item, csv_of};

/// Flushed when an operation says so: the interval is longer than any test.
pub(crate) const RELAXED: Durability = Durability::Relaxed { flush_every: Duration::from_hours(1) };

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create {
        name: String,
        retention: Option<Duration>,
        capacity: Option<u64>,
    },
    Update {
        pool: u64,
        name: Option<String>,
        description: Option<Option<String>>,
        retention: Option<Option<Duration>>,
        capacity: Option<Option<u64>>,
    },
    Delete {
        pool: u64,
    },
    Dedupe {
        pool: u64,
        mode: Mode,
        items: Vec<Item>,
        origin: Origin,
    },
    /// The id is the test's own: no other claim has it.
    Claim {
        pool: u64,
        id: u64,
        items: Vec<Item>,
        origin: Origin,
        lease: Duration,
    },
    Settle {
        pool: u64,
        claim: u64,
        how: How,
    },
    DeleteRecords {
        pool: u64,
        ids: Vec<u64>,
    },
    DeleteKeys {
        pool: u64,
        items: Vec<Item>,
    },
    DeleteWhere {
        pool: u64,
        wanted: Where,
    },
    Clear {
        pool: u64,
    },
    Import {
        pool: u64,
        items: Vec<Item>,
        policy: OnDuplicate,
        every: Option<u64>,
    },
    PutFlow {
        id: String,
        name: String,
    },
    DeleteFlow {
        id: String,
    },
    /// Of a pool, or of all.
    Prune {
        pool: Option<u64>,
    },
    Flush,
    Rebuild,
    Compact,
    Verify,
    /// Under the handles that there are.
    Reopen,
    Pass {
        time: Duration,
    },
}

/// What is done with a claim. Places are those of its items.
#[derive(Debug, Clone)]
pub(crate) enum How {
    Confirm,
    ConfirmSome(Vec<usize>),
    Release,
    ReleaseSome(Vec<usize>),
    Drop,
    Extend(Duration),
    /// Into a token, and up again.
    HandOver,
}

#[derive(Debug, Clone)]
pub(crate) enum Where {
    Flow(u64),
    Run(u64),
    Type(u32),
    Before(Timestamp),
}

impl Where {
    fn filter(&self) -> RecordFilter {
        match self {
            Self::Flow(flow) => RecordFilter::new().flow_id(*flow),
            Self::Run(run) => RecordFilter::new().flow_run_id(*run),
            Self::Type(entity_type) => RecordFilter::new().entity_type_id(*entity_type),
            Self::Before(time) => RecordFilter::new().created_before(*time),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// Records deleted, added or set free; or a new pool's id.
    Count(u64),
    Verdicts(Vec<Verdict>),
    Outcomes(Vec<Outcome>),
    Refused(ErrorKind),
}

/// What became of an item that a claim confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Held,
    AlreadyTracked(u64),
    Lost,
}

impl Op {
    /// The one pool that it is about.
    pub(crate) fn pool(&self) -> Option<u64> {
        match self {
            Self::Update { pool, .. }
            | Self::Delete { pool }
            | Self::Dedupe { pool, .. }
            | Self::Claim { pool, .. }
            | Self::Settle { pool, .. }
            | Self::DeleteRecords { pool, .. }
            | Self::DeleteKeys { pool, .. }
            | Self::DeleteWhere { pool, .. }
            | Self::Clear { pool }
            | Self::Import { pool, .. } => Some(*pool),
            Self::Prune { pool } => *pool,
            _ => None,
        }
    }
}

/// A claim that this process holds: a guard, with its index of each of the claim's items; or a token.
enum Held {
    Guard(Claim, Vec<usize>),
    Token(ClaimToken),
}

pub(crate) type Claims = BTreeMap<(u64, u64), ClaimToken>;

/// A store on a disk, and what it may hold.
pub(crate) struct Driver {
    pub(crate) disk: TestDisk,
    store: Option<DataPoolStore>,
    options: StoreOptions,
    sizes: Sizes,
    clock: ManualClock,
    durability: Durability,
    held: BTreeMap<(u64, u64), Held>,
    next_claim: u64,
    /// The states that the store may be in: more than one only if they look the same.
    current: Vec<Model>,
    /// The states that it may be in after a loss of power.
    survivors: Vec<Model>,
}

/// A store that nobody has open, and what it holds.
pub(crate) struct Resting {
    pub(crate) bytes: Vec<u8>,
    /// Whether it was closed in order.
    pub(crate) closed: bool,
    model: Model,
    /// The states that it was in before.
    past: Vec<Model>,
    tokens: Claims,
    now: Timestamp,
    next_claim: u64,
    options: StoreOptions,
    sizes: Sizes,
}

impl Resting {
    /// Opens it on this disk.
    pub(crate) fn wake(&self, disk: TestDisk) -> Result<Driver> {
        let clock = ManualClock::starting_at(self.now);
        let options = self.options.clone().clock(clock.clone());
        let store = testing::on_disk(disk.clone(), &options, self.sizes)?;
        let held = self.tokens.iter().map(|(which, token)| (*which, Held::Token(*token)));
        Ok(Driver {
            disk,
            store: Some(store),
            options,
            sizes: self.sizes,
            clock,
            durability: Durability::Immediate,
            held: held.collect(),
            next_claim: self.next_claim,
            current: vec![self.model.clone()],
            survivors: self.past.iter().chain([&self.model]).cloned().collect(),
        })
    }
}

impl Driver {
    /// What lies on the disk now: of a store that is closed in order first, or as a killed process leaves it.
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
            now: self.clock.now(),
            next_claim: self.next_claim,
            options: self.options,
            sizes: self.sizes,
        }
    }

    /// The claims that can be settled, with their pools.
    pub(crate) fn claims(&self) -> Vec<(u64, u64)> {
        self.held.keys().copied().collect()
    }

    /// Makes a store.
    pub(crate) fn new(durability: Durability, options: StoreOptions, sizes: Sizes) -> Self {
        let (disk, clock) = (TestDisk::default(), support::clock());
        let options = options.durability(durability).clock(clock.clone());
        let store = testing::on_disk(disk.clone(), &options, sizes).unwrap();
        let models = vec![Model::default()];
        Self {
            disk,
            store: Some(store),
            options,
            sizes,
            clock,
            durability,
            held: BTreeMap::new(),
            next_claim: 1,
            current: models.clone(),
            survivors: models,
        }
    }

    pub(crate) fn store(&self) -> &DataPoolStore {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn model(&self) -> &Model {
        &self.current[0]
    }

    pub(crate) fn any_op(&self, numbers: &mut support::Numbers) -> Op {
        random::any_op(numbers, self.model(), &self.claims(), self.next_claim)
    }

    /// The states through which an operation will lead.
    pub(crate) fn states_of(&self, op: &Op) -> Vec<Model> {
        self.model().apply(op, self.clock.now()).0
    }

    /// Does it on a disk that works.
    pub(crate) fn run(&mut self, op: &Op) {
        let answer = self.attempt(op).unwrap_or_else(|error| panic!("{op:?}: {error}"));
        self.acknowledged(op, &answer);
    }

    /// Does it. What it is refused for besides the disk is an answer.
    pub(crate) fn attempt(&mut self, op: &Op) -> Result<Answer> {
        let answer = self.call(op);
        match answer {
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::LeaseLost) => {
                Ok(Answer::Refused(error.kind()))
            }
            answer => answer,
        }
    }

    /// The answer came while the disk was well.
    pub(crate) fn acknowledged(&mut self, op: &Op, answer: &Answer) {
        let now = self.clock.now();
        let before = self.current.clone();
        let mut next = vec![];
        for model in &before {
            let (mut states, expected) = model.apply(op, now);
            if expected == *answer {
                next.extend(states.pop());
                self.survivors.extend(states);
            }
        }
        let expected: Vec<Answer> = before.iter().map(|model| model.apply(op, now).1).collect();
        assert!(!next.is_empty(), "{op:?} answers {answer:?} instead of {expected:?}");
        let is_promised = self.is_durable(op, &before, &next);
        if is_promised {
            self.survivors.clear();
        }
        self.survivors.extend(next.iter().cloned());
        self.current = next;
        self.forget_claims_that_ended();
    }

    /// Whether what an answer says is on disk, and so is all before it.
    fn is_durable(&self, op: &Op, before: &[Model], after: &[Model]) -> bool {
        if self.durability == Durability::Immediate {
            return true;
        }
        match op {
            Op::Flush | Op::Reopen | Op::Compact => true,
            // Claims are always durable.
            Op::Claim { pool, .. } | Op::Settle { pool, .. } => {
                before.iter().zip(after).any(|(before, after)| {
                    let (before, after) = (&before.pools[pool], &after.pools[pool]);
                    before.claims != after.claims || before.owners != after.owners
                })
            }
            _ => false,
        }
    }

    /// The disk failed under it: it may have been done in whole, in those of its parts that are commits, or not.
    pub(crate) fn unacknowledged(&mut self, op: &Op) {
        let now = self.clock.now();
        for model in &self.current {
            self.survivors.extend(model.apply(op, now).0);
        }
    }

    fn call(&mut self, op: &Op) -> Result<Answer> {
        let store = self.store().clone();
        let done = |result: Result<()>| result.map(|()| Answer::Done);
        match op {
            Op::Create { name, retention, capacity } => {
                let new = set(NewPool::new(name.clone()), *retention, NewPool::retention);
                let new = set(new, *capacity, NewPool::capacity);
                store.create_pool(new).map(|pool| Answer::Count(pool.id()))
            }
            Op::Update { pool, name, description, retention, capacity } => {
                let mut update = PoolUpdate::new();
                update = set(update, name.clone(), PoolUpdate::name);
                update = set_or_clear(
                    update,
                    description.as_ref(),
                    PoolUpdate::description,
                    PoolUpdate::clear_description,
                );
                update = set_or_clear(
                    update,
                    retention.as_ref(),
                    PoolUpdate::retention,
                    PoolUpdate::clear_retention,
                );
                update =
                    set_or_clear(update, capacity.as_ref(), PoolUpdate::capacity, PoolUpdate::clear_capacity);
                done(store.update_pool(*pool, update).map(drop))
            }
            Op::Delete { pool } => done(store.delete_pool(*pool)),
            Op::PutFlow { id, name } => done(store.put_flow(Flow::new(id.as_str(), name.as_str()))),
            Op::DeleteFlow { id } => store.delete_flow(id.as_str()).map(|was| Answer::Count(u64::from(was))),
            Op::Prune { pool: None } => done(store.prune().map(drop)),
            Op::Flush => done(store.flush()),
            Op::Rebuild => done(store.rebuild_indexes().map(|report| assert_eq!(report.left, []))),
            Op::Compact => done(store.compact().map(drop)),
            Op::Verify => done(store.verify().map(|report| assert_eq!(report.findings, []))),
            Op::Reopen => {
                self.hand_over();
                done(store.reopen())
            }
            Op::Pass { time } => {
                self.clock.advance(*time);
                Ok(Answer::Done)
            }
            Op::Settle { pool, claim, how } => self.settle((*pool, *claim), how),
            Op::Claim { pool, id, items, origin, lease } => {
                let pool = store.pool(*pool)?;
                self.claim(&pool, *id, items, origin, *lease)
            }
            _ => call_on(&store.pool(op.pool().unwrap())?, op),
        }
    }

    fn claim(
        &mut self,
        pool: &Pool,
        id: u64,
        items: &[Item],
        origin: &Origin,
        lease: Duration,
    ) -> Result<Answer> {
        self.next_claim += 1;
        let claim = pool.claim(items, Item::key, origin, lease)?;
        let verdict = |(_, verdict): &(usize, ClaimVerdict)| match verdict {
            ClaimVerdict::Claimed => Verdict::New,
            ClaimVerdict::InFlight { .. } => Verdict::InFlight,
            ClaimVerdict::Duplicate(_) => Verdict::Duplicate,
            other => panic!("{other:?}"),
        };
        let verdicts: Vec<Verdict> = claim.verdicts().iter().map(verdict).collect();
        let indexes: Vec<usize> = claim.keys().map(|(index, _)| index).collect();
        if !indexes.is_empty() {
            self.held.insert((pool.id(), id), Held::Guard(claim, indexes));
        }
        Ok(Answer::Verdicts(verdicts))
    }

    fn settle(&mut self, which: (u64, u64), how: &How) -> Result<Answer> {
        let (mut guard, indexes) = match self.held.remove(&which).unwrap() {
            Held::Guard(guard, indexes) => (guard, indexes),
            Held::Token(token) => {
                // Whatever fails, the claim may be taken up later.
                self.held.insert(which, Held::Token(token));
                let guard = self.store().resume_claim(&token)?;
                let indexes = guard.verdicts().iter().map(|(index, _)| *index).collect();
                (guard, indexes)
            }
        };
        let some = |places: &[usize]| places.iter().map(|place| indexes[*place]).collect::<Vec<_>>();
        let answer = match how {
            How::Confirm => guard.confirm().map(|confirmation| outcomes(&confirmation)),
            How::ConfirmSome(places) => guard.confirm_items(&some(places)).map(|answer| outcomes(&answer)),
            How::Release => guard.release().map(Answer::Count),
            How::ReleaseSome(places) => guard.release_items(&some(places)).map(Answer::Count),
            How::Extend(lease) => guard.extend(*lease).map(|_| Answer::Done),
            How::Drop => {
                drop(guard);
                return Ok(Answer::Done);
            }
            How::HandOver => {
                if let Some(token) = guard.into_token() {
                    self.held.insert(which, Held::Token(token));
                }
                return Ok(Answer::Done);
            }
        };
        self.held.insert(which, Held::Guard(guard, indexes));
        answer
    }

    /// Lets go of all guards without releasing anything.
    fn hand_over(&mut self) {
        for (which, held) in std::mem::take(&mut self.held) {
            let token = match held {
                Held::Guard(guard, _) => guard.into_token(),
                Held::Token(token) => Some(token),
            };
            self.held.extend(token.map(|token| (which, Held::Token(token))));
        }
    }

    fn tokens(&mut self) -> Claims {
        self.hand_over();
        let token = |held: &Held| match held {
            Held::Guard(..) => None,
            Held::Token(token) => Some(*token),
        };
        self.held.iter().filter_map(|(which, held)| Some((*which, token(held)?))).collect()
    }

    /// The process is gone: nothing is closed in order, since the disk is dead.
    pub(crate) fn crash(&mut self) {
        self.hand_over();
        self.store = None;
    }

    /// Opens a disk that may hold what survived, without looking at it.
    pub(crate) fn open_on(&self, disk: &TestDisk) -> Result<DataPoolStore> {
        testing::on_disk(disk.clone(), &self.options, self.sizes)
    }

    /// Opens what survived, and holds it against what may have.
    pub(crate) fn recover(&mut self, image: Vec<u8>) {
        self.disk = TestDisk::holding(image);
        let store = self.open_on(&self.disk).unwrap_or_else(|error| panic!("what survived opens: {error}"));
        self.store = Some(store);
        self.is_a_survivor();
        self.answers_agree();
        assert_eq!(self.store().verify().unwrap().findings, []);
    }

    /// The store was opened again: it must be in one of the states that survive.
    pub(crate) fn is_a_survivor(&mut self) {
        let survivors = std::mem::take(&mut self.survivors);
        self.current = self.those_that_agree(survivors, "the survivors are");
        // It was found on disk, so it stays there.
        self.survivors.clone_from(&self.current);
        self.forget_claims_that_ended();
    }

    /// Reads everything. It must be what was acknowledged.
    pub(crate) fn is_current(&mut self) {
        let current = self.current.clone();
        self.current = self.those_that_agree(current, "the state is");
    }

    fn those_that_agree(&mut self, mut models: Vec<Model>, what: &str) -> Vec<Model> {
        let (now, tokens) = (self.clock.now(), self.tokens());
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

    /// An operation was refused for want of room: it must have been done in those of its parts that are commits, or not.
    pub(crate) fn refused(&mut self, op: &Op) {
        let now = self.clock.now();
        let parts = self.current.iter().flat_map(|model| model.apply(op, now).0);
        let models = self.current.iter().cloned().chain(parts).collect();
        self.current = self.those_that_agree(models, "the states are");
        self.survivors.extend(self.current.iter().cloned());
        self.forget_claims_that_ended();
    }

    fn forget_claims_that_ended(&mut self) {
        let model = &self.current[0];
        self.held.retain(|(pool, claim), _| {
            model.pools.get(pool).is_some_and(|pool| pool.claims.contains_key(claim))
        });
    }

    /// Reads what can be read after an operation failed that may have been done in part. Whether that was everything.
    pub(crate) fn is_current_or_a_part(&mut self, op: &Op) -> bool {
        let (now, tokens) = (self.clock.now(), self.tokens());
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

    /// No state but the one that it was left in is right.
    pub(crate) fn forget_the_past(&mut self) {
        self.survivors.clear();
    }

    /// Reads everything that a store shows which may be damaged. Whether it is as it was left, and not in a state of the
    /// past. One of the past may look the same.
    ///
    /// Panics if it is in neither.
    pub(crate) fn is_as_it_was_left(&mut self) -> Result<bool> {
        let (now, tokens) = (self.clock.now(), self.tokens());
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

    /// Reads everything, whatever it says.
    pub(crate) fn reads(&mut self) -> Result<()> {
        let tokens = self.tokens();
        Seen::of(self.store(), &tokens).map(drop)
    }

    /// Asks in ways that go through indexes.
    pub(crate) fn answers_agree(&self) {
        for (id, model) in &self.model().pools {
            seen::answers_agree(&self.store().pool(*id).unwrap(), model).unwrap();
        }
    }
}

fn summaries(expected: &[Seen], seen: &Seen) -> String {
    expected.iter().map(|expected| format!("\n  {}", expected.difference(seen))).collect()
}

fn set<T, V>(value: T, field: Option<V>, set: impl FnOnce(T, V) -> T) -> T {
    match field {
        Some(field) => set(value, field),
        None => value,
    }
}

fn set_or_clear<T, V: Clone>(
    value: T,
    field: Option<&Option<V>>,
    set: impl FnOnce(T, V) -> T,
    clear: impl FnOnce(T) -> T,
) -> T {
    match field {
        Some(Some(field)) => set(value, field.clone()),
        Some(None) => clear(value),
        None => value,
    }
}

fn call_on(pool: &Pool, op: &Op) -> Result<Answer> {
    match op {
        Op::Dedupe { mode, items, origin, .. } => {
            let verdicts = pool.dedupe(*mode, items, Item::key, origin)?;
            Ok(Answer::Verdicts(verdicts.as_slice().to_vec()))
        }
        Op::DeleteRecords { ids, .. } => pool.delete_records(ids).map(Answer::Count),
        Op::DeleteKeys { items, .. } => {
            let keys: Vec<_> = items.iter().map(Item::key).collect();
            pool.delete_keys(&keys).map(Answer::Count)
        }
        Op::DeleteWhere { wanted, .. } => pool.delete_where(&wanted.filter()).map(Answer::Count),
        Op::Clear { .. } => pool.clear().map(Answer::Count),
        Op::Import { items, policy, every, .. } => {
            let mut options = ImportOptions::new().on_duplicate(*policy);
            options = set(options, *every, ImportOptions::commit_every);
            let report = pool.import_csv(csv_of(items).as_bytes(), &options)?;
            Ok(Answer::Count(report.added))
        }
        Op::Prune { .. } => pool.prune().map(|_| Answer::Done),
        other => unreachable!("{other:?} is not about one pool"),
    }
}

fn outcomes(confirmation: &Confirmation) -> Answer {
    let outcome = |outcome: &ClaimOutcome| match outcome {
        ClaimOutcome::Confirmed(_) => Outcome::Held,
        ClaimOutcome::AlreadyTracked(first) => Outcome::AlreadyTracked(first.id),
        ClaimOutcome::LeaseLost => Outcome::Lost,
        other => panic!("{other:?}"),
    };
    Answer::Outcomes(confirmation.outcomes().iter().map(|(_, it)| outcome(it)).collect())
}
