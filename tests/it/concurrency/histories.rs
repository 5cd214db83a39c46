//! Proves that calls are linearizable: the observations of threads fit some order in which no call comes
//! before one that had returned when it began.
//!
//! Histories of a few calls on a few values, of every kind that reads or changes a pool, are recorded and
//! checked against a simple model. The check is the search of Wing and Gong ("Testing and verifying
//! concurrent objects", 1993) with memoized dead ends, following Lowe ("Testing for linearizability", 2017).
//! Histories of many threads have calls on one value each and are checked value by value, because
//! linearizability is local (Herlihy and Wing, 1990).
//!
//! `DATAPOOL_HISTORIES` multiplies the number of rounds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use datapool_store::{
    Claim, ClaimOutcome, ClaimVerdict, DataPoolStore, ErrorKind, ImportOptions, Key, Mode, OnDuplicate,
    Origin, Pool, PoolSnapshot, PoolUpdate, RecordFilter, RecordQuery, RecordSort, Verdict,
};

use crate::support::{self, Numbers, ORDERS};

/// A set of the values 0 to 5, as bits.
type Set = u8;
const VALUES: u8 = 6;

const LEASE: Duration = Duration::from_hours(1);

/// A call of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Dedupe(Mode, Set),
    Contains(Set),
    Count,
    /// Lists the newest records, in order.
    List,
    Delete(Set),
    /// Deletes by a filter on one value.
    DeleteWhere(u8),
    Clear,
    Import(OnDuplicate, Set),
    /// Sets the capacity; zero removes it.
    Capacity(u8),
    Claim(Set),
    /// Confirms these values of the thread's claim.
    Confirm(Set),
    Release(Set),
    /// Drops the claim, which releases these values and returns nothing.
    Drop(Set),
    /// Takes a snapshot that replaces the thread's snapshot.
    Freeze,
    /// Asks the thread's snapshot, if it has one.
    ContainsFrozen(Set),
}

/// The answer to a call: sets, a number, or the newest values.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Sets(Set, Set),
    Number(u64),
    Values(Vec<u8>),
    Refused,
    Nothing,
}

/// A simple model of the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct World {
    /// The values of the records, oldest first.
    records: Vec<u8>,
    /// The thread whose claim owns each value; 0 for none. A thread has one claim at a time.
    owners: [u8; VALUES as usize],
    capacity: u8,
    /// The values in the snapshot that each thread holds.
    frozen: BTreeMap<u8, Set>,
}

fn members(set: Set) -> impl Iterator<Item = u8> + Clone {
    (0..VALUES).filter(move |value| set >> value & 1 == 1)
}

fn set_of(values: impl IntoIterator<Item = u8>) -> Set {
    values.into_iter().fold(0, |set, value| set | 1 << value)
}

fn text(value: u8) -> String {
    format!("value {value}")
}

fn texts(set: Set) -> Vec<String> {
    members(set).map(text).collect()
}

/// Returns the values of a set that were found.
fn found_of(set: Set, found: &[bool]) -> Answer {
    Answer::Sets(set_of(members(set).zip(found).filter(|(_, found)| **found).map(|(value, _)| value)), 0)
}

fn value_of(text: &str) -> u8 {
    text.strip_prefix("value ").unwrap().parse().unwrap()
}

fn keys(texts: &[String]) -> Vec<Key<'_>> {
    texts.iter().map(|text| Key::new(ORDERS, text.as_str())).collect()
}

impl World {
    fn has(&self, value: u8) -> bool {
        self.records.contains(&value)
    }

    fn owner(&mut self, value: u8) -> &mut u8 {
        &mut self.owners[usize::from(value)]
    }

    fn add(&mut self, value: u8) {
        self.records.push(value);
        *self.owner(value) = 0;
    }

    fn evict(&mut self) {
        let over = self.records.len().saturating_sub(self.capacity.into());
        if self.capacity > 0 {
            self.records.drain(..over);
        }
    }

    fn delete(&mut self, set: Set) -> Answer {
        let before = self.records.len();
        self.records.retain(|value| set >> value & 1 == 0);
        Answer::Number((before - self.records.len()) as u64)
    }

    /// Applies a call to the model. Returns its answer.
    fn answer(&mut self, call: Call, thread: u8) -> Answer {
        match call {
            Call::Dedupe(mode, set) => {
                let is_held = |world: &mut Self, value| mode != Mode::Track && *world.owner(value) != 0;
                let absent: Vec<u8> = members(set).filter(|value| !self.has(*value)).collect();
                let (held, new): (Vec<u8>, Vec<u8>) =
                    absent.into_iter().partition(|value| is_held(self, *value));
                if mode != Mode::Filter {
                    for value in &new {
                        self.add(*value);
                    }
                    self.evict();
                }
                Answer::Sets(set_of(new), set_of(held))
            }
            Call::Contains(set) => Answer::Sets(set_of(members(set).filter(|value| self.has(*value))), 0),
            Call::Count => Answer::Number(self.records.len() as u64),
            Call::List => Answer::Values(self.records.iter().rev().copied().collect()),
            Call::Delete(set) => self.delete(set),
            Call::DeleteWhere(value) => self.delete(1 << value),
            Call::Clear => self.delete(Set::MAX),
            Call::Import(policy, set) => {
                let present = members(set).filter(|value| self.has(*value)).count();
                if policy == OnDuplicate::Fail && present > 0 {
                    return Answer::Refused;
                }
                let added: Vec<u8> =
                    members(set).filter(|value| policy == OnDuplicate::Add || !self.has(*value)).collect();
                for value in &added {
                    self.add(*value);
                }
                self.evict();
                Answer::Number(added.len() as u64)
            }
            Call::Capacity(capacity) => {
                self.capacity = capacity;
                self.evict();
                Answer::Nothing
            }
            Call::Claim(set) => {
                let absent: Vec<u8> = members(set).filter(|value| !self.has(*value)).collect();
                let (held, claimed): (Vec<u8>, Vec<u8>) =
                    absent.into_iter().partition(|value| *self.owner(*value) != 0);
                for value in &claimed {
                    *self.owner(*value) = thread;
                }
                Answer::Sets(set_of(claimed), set_of(held))
            }
            Call::Confirm(set) => {
                let (owned, lost): (Vec<u8>, Vec<u8>) =
                    members(set).partition(|value| *self.owner(*value) == thread);
                let tracked = set_of(lost.into_iter().filter(|value| self.has(*value)));
                for value in &owned {
                    self.add(*value);
                }
                self.evict();
                Answer::Sets(set_of(owned), tracked)
            }
            Call::Release(set) | Call::Drop(set) => {
                let owned: Vec<u8> = members(set).filter(|value| *self.owner(*value) == thread).collect();
                for value in &owned {
                    *self.owner(*value) = 0;
                }
                if matches!(call, Call::Drop(_)) {
                    Answer::Nothing
                } else {
                    Answer::Number(owned.len() as u64)
                }
            }
            Call::Freeze => {
                self.frozen.insert(thread, set_of(self.records.iter().copied()));
                Answer::Nothing
            }
            Call::ContainsFrozen(set) => match self.frozen.get(&thread) {
                Some(frozen) => Answer::Sets(set & frozen, 0),
                None => Answer::Nothing,
            },
        }
    }
}

/// Returns a random sensible call of a thread whose claim holds these values.
fn any(held: Option<Set>, numbers: &mut Numbers) -> Call {
    let set = 1 + numbers.next(63) as Set;
    let modes = [Mode::Track, Mode::FilterAndTrack, Mode::FilterAndTrack, Mode::Filter];
    let policies = [OnDuplicate::Skip, OnDuplicate::Fail, OnDuplicate::Add];
    match (numbers.next(19), held) {
        (16, _) => Call::Freeze,
        (17.., _) => Call::ContainsFrozen(set),
        (0..5, _) => Call::Dedupe(modes[numbers.next(4) as usize], set),
        (5, _) => Call::Contains(set),
        (6, _) => Call::Count,
        (7, _) => Call::List,
        (8, _) => Call::Delete(set),
        (9, _) => Call::DeleteWhere(numbers.next(VALUES.into()) as u8),
        (10, _) => Call::Clear,
        (11, _) => Call::Import(policies[numbers.next(3) as usize], set),
        (12, _) => Call::Capacity(numbers.next(5) as u8),
        (_, None) => Call::Claim(set),
        (13, Some(held)) => Call::Drop(held),
        (14, Some(held)) => Call::Release(held),
        (_, Some(held)) => Call::Confirm(held),
    }
}

/// Returns a random call on one value.
fn any_of_one(held: Option<Set>, numbers: &mut Numbers) -> Call {
    let value = numbers.next(VALUES.into()) as u8;
    match (numbers.next(10), held) {
        (0..3, _) => Call::Dedupe(Mode::FilterAndTrack, 1 << value),
        (3, _) => Call::Dedupe(Mode::Track, 1 << value),
        (4, _) => Call::Contains(1 << value),
        (5, _) => Call::Delete(1 << value),
        (6, _) => Call::Import(OnDuplicate::Skip, 1 << value),
        (_, None) => Call::Claim(1 << value),
        (7, Some(held)) => Call::Release(held),
        (_, Some(held)) => Call::Confirm(held),
    }
}

/// A thread that makes calls, and its claim.
struct Caller<'a> {
    store: &'a DataPoolStore,
    pool: &'a Pool,
    claim: Option<(Claim, Set)>,
    snapshot: Option<PoolSnapshot>,
}

impl<'a> Caller<'a> {
    fn new(store: &'a DataPoolStore, pool: &'a Pool) -> Self {
        Self { store, pool, claim: None, snapshot: None }
    }

    fn make(&mut self, call: Call) -> Answer {
        let pool = self.pool;
        match call {
            Call::Dedupe(mode, set) => {
                let texts = texts(set);
                let verdicts = pool
                    .dedupe(mode, &texts, |text| Key::new(ORDERS, text.as_str()), &Origin::none())
                    .unwrap();
                let of = |wanted: Verdict| {
                    set_of(
                        members(set)
                            .zip(verdicts.as_slice())
                            .filter(|(_, is)| **is == wanted)
                            .map(|(value, _)| value),
                    )
                };
                Answer::Sets(of(Verdict::New), of(Verdict::InFlight))
            }
            Call::Contains(set) => found_of(set, &pool.contains_many(&keys(&texts(set))).unwrap()),
            Call::Count => Answer::Number(pool.count(&RecordFilter::new()).unwrap()),
            Call::List => {
                let page =
                    pool.records(&RecordQuery::new().sort(RecordSort::Descending).per_page(100)).unwrap();
                assert_eq!(page.meta.total, page.data.len() as u64);
                Answer::Values(page.data.iter().map(|record| value_of(&record.value)).collect())
            }
            Call::Delete(set) => Answer::Number(pool.delete_keys(&keys(&texts(set))).unwrap()),
            Call::DeleteWhere(value) => {
                Answer::Number(pool.delete_where(&RecordFilter::new().value(text(value))).unwrap())
            }
            Call::Clear => Answer::Number(pool.clear().unwrap()),
            Call::Import(policy, set) => {
                let rows: String = texts(set).iter().map(|text| format!("{text},37\n")).collect();
                let file = format!("value,entity_type_id\n{rows}");
                match pool.import_csv(file.as_bytes(), &ImportOptions::new().on_duplicate(policy)) {
                    Ok(report) => Answer::Number(report.added),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                        Answer::Refused
                    }
                }
            }
            Call::Capacity(capacity) => {
                let update = match capacity {
                    0 => PoolUpdate::new().clear_capacity(),
                    records => PoolUpdate::new().capacity(records.into()),
                };
                self.store.update_pool(pool.id(), update).unwrap();
                Answer::Nothing
            }
            Call::Claim(set) => {
                let texts = texts(set);
                let claim = pool
                    .claim(&texts, |text| Key::new(ORDERS, text.as_str()), &Origin::none(), LEASE)
                    .unwrap();
                let of = |wanted: fn(&ClaimVerdict) -> bool| {
                    set_of(
                        members(set)
                            .zip(claim.verdicts())
                            .filter(|(_, (_, is))| wanted(is))
                            .map(|(value, _)| value),
                    )
                };
                let claimed = of(|verdict| matches!(verdict, ClaimVerdict::Claimed));
                let held = of(|verdict| matches!(verdict, ClaimVerdict::InFlight { .. }));
                self.claim = (claimed != 0).then_some((claim, claimed));
                Answer::Sets(claimed, held)
            }
            Call::Confirm(set) => {
                let (mut claim, _) = self.claim.take().unwrap();
                let confirmation = claim.confirm().unwrap();
                let of = |wanted: fn(&ClaimOutcome) -> bool| {
                    let outcomes = members(set).zip(confirmation.outcomes());
                    set_of(outcomes.filter(|(_, (_, is))| wanted(is)).map(|(value, _)| value))
                };
                Answer::Sets(
                    of(|outcome| matches!(outcome, ClaimOutcome::Confirmed(_))),
                    of(|outcome| matches!(outcome, ClaimOutcome::AlreadyTracked(_))),
                )
            }
            Call::Release(_) => Answer::Number(self.claim.take().unwrap().0.release().unwrap()),
            Call::Drop(_) => {
                self.claim = None;
                Answer::Nothing
            }
            Call::Freeze => {
                self.snapshot = Some(pool.snapshot().unwrap());
                Answer::Nothing
            }
            Call::ContainsFrozen(set) => match &self.snapshot {
                Some(snapshot) => found_of(set, &snapshot.contains_many(&keys(&texts(set))).unwrap()),
                None => Answer::Nothing,
            },
        }
    }
}

/// An observed call. It began and returned at these ticks of a shared counter.
#[derive(Debug, Clone)]
struct Observed {
    thread: u8,
    call: Call,
    answer: Answer,
    begun: u64,
    answered: u64,
}

impl Observed {
    /// Returns true if the answer implies that the call changed nothing, whatever the state was.
    fn changed_nothing(&self) -> bool {
        match (self.call, &self.answer) {
            (
                Call::Contains(_)
                | Call::Count
                | Call::List
                | Call::Dedupe(Mode::Filter, _)
                | Call::ContainsFrozen(_),
                _,
            ) => true,
            (Call::Dedupe(..) | Call::Claim(_) | Call::Confirm(_), answer) => {
                matches!(answer, Answer::Sets(0, _))
            }
            (Call::Delete(_) | Call::DeleteWhere(_) | Call::Clear | Call::Release(_), answer) => {
                *answer == Answer::Number(0)
            }
            (Call::Import(..), answer) => matches!(answer, Answer::Number(0) | Answer::Refused),
            (Call::Capacity(_) | Call::Drop(_) | Call::Freeze, _) => false,
        }
    }
}

/// Returns true if the calls could have happened one after the other, each between its beginning and its
/// return.
fn is_linearizable(history: &[Observed]) -> bool {
    fn search(history: &[Observed], done: u64, world: &World, dead_ends: &mut HashSet<(u64, World)>) -> bool {
        if done.count_ones() as usize == history.len() {
            return true;
        }
        if !dead_ends.insert((done, world.clone())) {
            return false;
        }
        let open = || history.iter().enumerate().filter(|(index, _)| done >> index & 1 == 0);
        // A call that returned before another began comes before it.
        let first_answer = open().map(|(_, observed)| observed.answered).min().unwrap_or(u64::MAX);
        let next =
            open().filter(|(_, observed)| observed.begun < first_answer).filter_map(|(index, observed)| {
                let mut after = world.clone();
                let is_right = after.answer(observed.call, observed.thread) == observed.answer;
                is_right.then_some((observed, done | 1 << index, after))
            });
        let next: Vec<_> = next.collect();
        // A call that changes nothing can be taken next wherever it fits, because the others can follow it as
        // well as precede it. Without this, one history of 64 threads in some thousands took minutes.
        if let Some((_, done, _)) = next.iter().find(|(observed, ..)| observed.changed_nothing()) {
            return search(history, *done, world, dead_ends);
        }
        next.iter().any(|(_, done, after)| search(history, *done, after, dead_ends))
    }
    search(history, 0, &World::default(), &mut HashSet::new())
}

#[test]
fn the_search_accepts_possible_histories_and_refuses_impossible_ones() {
    let observed = |thread, call, answer, begun, answered| Observed { thread, call, answer, begun, answered };
    let track = Call::Dedupe(Mode::Track, 1);
    let (new, known) = (Answer::Sets(1, 0), Answer::Sets(0, 0));
    let is_possible = |calls: &[(u8, Call, &Answer, u64, u64)]| {
        let calls = calls.iter().map(|(thread, call, answer, begun, answered)| {
            observed(*thread, *call, (*answer).clone(), *begun, *answered)
        });
        is_linearizable(&calls.collect::<Vec<_>>())
    };
    assert!(!is_possible(&[(1, track, &new, 0, 2), (2, track, &new, 1, 3)]), "twice new");
    assert!(is_possible(&[(1, track, &known, 0, 2), (2, track, &new, 1, 3)]));
    assert!(!is_possible(&[(1, track, &known, 0, 1), (2, track, &new, 2, 3)]), "new after it was known");
    let both = Call::Dedupe(Mode::Track, 3);
    let half = [(1, both, &Answer::Sets(3, 0), 0, 3), (2, Call::Contains(3), &Answer::Sets(1, 0), 1, 2)];
    assert!(!is_possible(&half), "half of a batch");
    let lost = [(1, both, &Answer::Sets(3, 0), 0, 1), (2, Call::Count, &Answer::Number(1), 2, 3)];
    assert!(!is_possible(&lost), "a lost record");
    let claim = (1, Call::Claim(1), &new, 0, 1);
    let confirm = (1, Call::Confirm(1), &new, 4, 5);
    let filter = Call::Dedupe(Mode::FilterAndTrack, 1);
    assert!(is_possible(&[claim, (2, filter, &Answer::Sets(0, 1), 2, 3), confirm]));
    assert!(!is_possible(&[claim, (2, filter, &new, 2, 3), confirm]), "a claimed value is new to another");
    assert!(!is_possible(&[claim, (2, Call::Claim(1), &new, 2, 3), confirm]), "claimed twice");
    let evicted = [
        (1, Call::Capacity(1), &Answer::Nothing, 0, 1),
        (1, both, &Answer::Sets(3, 0), 2, 3),
        (2, Call::List, &Answer::Values(vec![1, 0]), 4, 5),
    ];
    assert!(!is_possible(&evicted), "more than the capacity");
    let frozen = |found: &'static Answer| {
        [
            (1, track, &Answer::Sets(1, 0), 0, 1),
            (2, Call::Freeze, &Answer::Nothing, 2, 3),
            (1, Call::Delete(1), &Answer::Number(1), 4, 5),
            (2, Call::ContainsFrozen(1), found, 6, 7),
        ]
    };
    assert!(is_possible(&frozen(&Answer::Sets(1, 0))));
    assert!(!is_possible(&frozen(&Answer::Sets(0, 0))), "a snapshot that loses a record");
}

/// The number of stores over which the threads are spread, if several can have the same pools.
const STORES: usize = 3;

/// Lets threads call a pool concurrently, each this many times.
fn record(
    stores: &[DataPoolStore],
    pool: &Pool,
    (threads, calls): (u8, usize),
    seed: u64,
    next: fn(Option<Set>, &mut Numbers) -> Call,
) -> Vec<Observed> {
    let (clock, barrier) = (AtomicU64::new(0), Barrier::new(threads.into()));
    let mut history: Vec<Observed> = thread::scope(|scope| {
        let run = |number: u8| {
            let (clock, barrier) = (&clock, &barrier);
            move || {
                let mut numbers = Numbers::seeded(1_000 * seed + u64::from(number));
                let store = &stores[usize::from(number) % stores.len()];
                let pool = store.pool(pool.id()).unwrap();
                let mut caller = Caller::new(store, &pool);
                barrier.wait();
                let mut observed = Vec::new();
                for step in 0..=calls {
                    // A remaining claim is dropped, which is a call, too.
                    let held = caller.claim.as_ref().map(|(_, held)| *held);
                    let call = match (step == calls, held) {
                        (false, _) => next(held, &mut numbers),
                        (true, Some(held)) => Call::Drop(held),
                        (true, None) => break,
                    };
                    let begun = clock.fetch_add(1, Ordering::SeqCst);
                    let answer = caller.make(call);
                    let answered = clock.fetch_add(1, Ordering::SeqCst);
                    observed.push(Observed { thread: number, call, answer, begun, answered });
                }
                observed
            }
        };
        let threads: Vec<_> = (1..=threads).map(|number| scope.spawn(run(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // The final state is part of the history.
    let end = clock.into_inner();
    let mut caller = Caller::new(&stores[0], pool);
    for (call, begun) in [(Call::List, end), (Call::Dedupe(Mode::Filter, 63), end + 2)] {
        let answer = caller.make(call);
        history.push(Observed { thread: 0, call, answer, begun, answered: begun + 1 });
    }
    history
}

fn rounds(default: u64) -> u64 {
    let times = std::env::var("DATAPOOL_HISTORIES").map_or(1, |times| times.parse().unwrap());
    // Calls to a server take longer.
    let default = if support::is_embedded() { default } else { default / 5 };
    default * times
}

/// Returns empty pools of one store. Some are new, and some have had segments.
fn emptied_pool(store: &DataPoolStore, round: u64) -> Pool {
    let pool = store.get_or_create_pool(format!("pool {}", round % 7)).unwrap();
    store.update_pool(pool.id(), PoolUpdate::new().clear_capacity()).unwrap();
    pool.clear().unwrap();
    pool
}

#[test]
fn histories_of_all_calls_are_linearizable() {
    let stores = support::handles(STORES);
    for seed in 0..rounds(500) {
        let shape = [(2, 5), (3, 4), (4, 3), (6, 2), (8, 2)][(seed % 5) as usize];
        let pool = emptied_pool(&stores[0], seed);
        let history = record(&stores, &pool, shape, seed, any);
        assert!(is_linearizable(&history), "seed {seed}: no order explains {history:#?}");
    }
    assert_eq!(stores[0].verify().unwrap().findings, []);
}

#[test]
fn histories_of_many_threads_are_linearizable_value_by_value() {
    let stores = support::handles(STORES);
    for seed in 0..rounds(24) {
        let shape = [(16, 3), (32, 2), (64, 2)][(seed % 3) as usize];
        let pool = emptied_pool(&stores[0], seed);
        let history = record(&stores, &pool, shape, seed, any_of_one);
        for value in 0..VALUES {
            let of_value: Vec<Observed> =
                history.iter().filter_map(|observed| of_one(observed, value)).collect();
            assert!(is_linearizable(&of_value), "seed {seed}: no order explains {of_value:#?}");
        }
    }
    assert_eq!(stores[0].verify().unwrap().findings, []);
}

/// Returns the part of an observed call that concerns one value, if there is one.
fn of_one(observed: &Observed, value: u8) -> Option<Observed> {
    let bit = 1 << value;
    let (call, answer) = match (observed.call, &observed.answer) {
        (Call::List, Answer::Values(values)) => {
            (Call::List, Answer::Values(values.iter().copied().filter(|other| *other == value).collect()))
        }
        (Call::Dedupe(Mode::Filter, 63), Answer::Sets(new, held)) => {
            (Call::Dedupe(Mode::Filter, bit), Answer::Sets(new & bit, held & bit))
        }
        (
            Call::Dedupe(_, set)
            | Call::Contains(set)
            | Call::Delete(set)
            | Call::Import(_, set)
            | Call::Claim(set)
            | Call::Confirm(set)
            | Call::Release(set)
            | Call::Drop(set),
            answer,
        ) if set == bit => (observed.call, answer.clone()),
        _ => return None,
    };
    Some(Observed { call, answer, ..observed.clone() })
}
