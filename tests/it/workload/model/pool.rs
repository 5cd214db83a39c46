//! One pool as lists: its records, its claims, and the owners of values.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use datapool_store::{ErrorKind, Mode, Origin, Timestamp, Verdict, Version, limits};

use super::Now;
use crate::support::items::{Asked, Item, Row};
use crate::workload::filter::{ClaimsFilter, Filter};
use crate::workload::{Answer, How, Op, Outcome, Told, is_passed};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolModel {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) retention: Option<Duration>,
    pub(crate) capacity: Option<u64>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// The live records, oldest first.
    pub(crate) live: Vec<Row>,
    /// The results of live records, by id.
    pub(crate) results: BTreeMap<u64, Vec<u8>>,
    pub(crate) next_id: u64,
    /// The time of the newest record, as long as there is a live one.
    last_time: Option<Timestamp>,
    /// The latest time that this process has used.
    latest: Option<Timestamp>,
    /// The claims. If the clock may be set back, this includes those past their hour, which may become valid
    /// again unless they are swept.
    pub(crate) claims: BTreeMap<u64, ClaimModel>,
    /// The claim that owns each value. It may have lapsed, or be past its hour.
    pub(crate) owners: BTreeMap<Item, u64>,
    /// The highest fencing number given so far.
    fence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimModel {
    pub(crate) items: Vec<Item>,
    pub(crate) versions: Vec<Option<Version>>,
    /// The newest record of each item's value when it was claimed, or 0 if there was none.
    seen: Vec<u64>,
    /// The index of each item in the batch.
    pub(crate) indexes: Vec<usize>,
    pub(crate) batch_len: usize,
    /// True for each item that is neither confirmed nor released.
    pub(crate) open: Vec<bool>,
    /// The positions of lost items whose values are erased.
    pub(crate) erased: BTreeSet<usize>,
    pub(crate) origin: Origin,
    pub(crate) owner: Option<String>,
    /// The time at which it was made, or taken up by its owner.
    pub(crate) since: Timestamp,
    pub(crate) fence: u64,
    pub(crate) until: Timestamp,
    lease: Duration,
    /// The time at which the lease ends, in microseconds of passed time.
    deadline: i64,
    /// True if it was past its hour since it was last seen. Then only the store knows if it was swept.
    pub(crate) may_be_swept: bool,
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

impl ClaimModel {
    fn version_of(&self, item: &Item) -> Option<Version> {
        let place = self.items.iter().position(|of| of == item).unwrap();
        self.versions[place]
    }

    /// Returns the positions of its open items.
    pub(crate) fn open_places(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|place| self.open[*place]).collect()
    }

    /// Returns the time since the grant, by the wall clock.
    pub(crate) fn age(&self, now: Now) -> Duration {
        let micros = now.wall.as_micros() - self.since.as_micros();
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Returns the time left of its lease, in microseconds.
    pub(crate) fn left(&self, now: Now) -> i64 {
        self.deadline - now.passed
    }

    pub(crate) fn is_lapsed(&self, now: Now) -> bool {
        self.left(now) <= 0
    }

    /// Returns true if the claim is past its hour, so it does not exist for callers.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        self.deadline + micros(limits::CLAIM_KEPT_AFTER_LEASE) <= now.passed
    }
}

impl PoolModel {
    pub(super) fn new(
        name: &str,
        retention: Option<Duration>,
        capacity: Option<u64>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            name: name.to_owned(),
            description: None,
            retention,
            capacity,
            created_at,
            updated_at: created_at,
            live: vec![],
            results: BTreeMap::new(),
            next_id: 1,
            last_time: None,
            latest: None,
            claims: BTreeMap::new(),
            owners: BTreeMap::new(),
            fence: 0,
        }
    }

    /// Returns true if the present time changes anything.
    pub(super) fn has_expired(&self, now: Now) -> bool {
        let time = self.time(now);
        self.live.first().is_some_and(|row| self.is_expired(row, time))
            || self.claims.values().any(|claim| claim.is_over(now) && !claim.may_be_swept)
            || now.may_turn && self.latest != Some(time)
    }

    fn is_expired(&self, row: &Row, time: Timestamp) -> bool {
        self.retention.is_some_and(|retention| row.created_at.saturating_add(retention) <= time)
    }

    pub(super) fn expire(&mut self, now: Now) {
        let time = self.time(now);
        let expired = self.live.iter().filter(|row| self.is_expired(row, time)).count();
        self.live.drain(..expired);
        self.forget_results();
        if now.may_turn {
            self.latest = Some(time);
            self.claims.values_mut().for_each(|claim| claim.may_be_swept |= claim.is_over(now));
            return;
        }
        self.claims.retain(|_, claim| !claim.is_over(now));
        let claims = &self.claims;
        self.owners.retain(|_, owner| claims.contains_key(owner));
    }

    /// Returns the pool's time. Without live records, it is the clock's time.
    fn time(&self, now: Now) -> Timestamp {
        if self.live.is_empty() || !now.may_turn {
            return now.wall;
        }
        self.latest.into_iter().chain(self.last_time).fold(now.wall, Timestamp::max)
    }

    /// Returns how far the pool's time is ahead of the clock.
    pub(crate) fn time_ahead(&self, now: Now) -> Duration {
        let ahead = self.time(now).as_micros() - now.wall.as_micros();
        Duration::from_micros(u64::try_from(ahead).unwrap())
    }

    /// Opens the pool. A new process has not used any time yet. The time left of leases is computed from the
    /// wall clock, and is never more than their length.
    pub(super) fn open(&mut self, now: Now, is_new: bool) {
        self.latest = self.latest.filter(|_| !is_new);
        for claim in self.claims.values_mut() {
            let left = claim.until.as_micros() - now.wall.as_micros();
            claim.deadline = now.passed + left.min(micros(claim.lease));
        }
    }

    /// Records that the store has swept a claim.
    pub(crate) fn sweep(&mut self, id: u64) {
        let swept = self.claims.remove(&id);
        assert!(swept.is_some_and(|claim| claim.may_be_swept), "claim {id} is gone");
        self.owners.retain(|_, owner| *owner != id);
    }

    /// Evicts the oldest records beyond the capacity.
    pub(super) fn evict(&mut self) {
        let capacity = self.capacity.map_or(usize::MAX, |capacity| usize::try_from(capacity).unwrap());
        self.live.drain(..self.live.len().saturating_sub(capacity));
        self.forget_results();
    }

    /// Removes the results of removed records.
    fn forget_results(&mut self) {
        let live = &self.live;
        self.results.retain(|id, _| live.binary_search_by_key(id, |row| row.id).is_ok());
    }

    pub(super) fn add(&mut self, items: Vec<Asked>, origin: &Origin, adding: Adding, now: Now) {
        if items.is_empty() {
            return;
        }
        let created_at = self.time(now);
        self.last_time = Some(created_at);
        self.latest = Some(created_at).filter(|_| now.may_turn);
        if adding == Adding::InPlace {
            self.live.retain(|row| items.iter().all(|asked| asked.item != row.item));
        }
        for Asked { item, version } in items {
            // A record removes the owner of its value.
            self.owners.remove(&item);
            self.live.push(Row { id: self.next_id, item, origin: origin.clone(), created_at, version });
            self.next_id += 1;
        }
    }

    /// Returns the items whose value is not in the pool, each once.
    pub(super) fn absent(&self, items: &[Asked]) -> Vec<Asked> {
        let mut there: BTreeSet<&Item> = self.live.iter().map(|row| &row.item).collect();
        items.iter().filter(|asked| there.insert(&asked.item)).cloned().collect()
    }

    /// Returns true if the item would be a duplicate without claims.
    pub(crate) fn contains(&self, asked: &Asked) -> bool {
        let newest = self.live.iter().rev().find(|row| row.item == asked.item);
        newest.is_some_and(|row| !changes(asked.version, row.version))
    }

    /// Returns the claim that owns a value, if its lease is running.
    pub(crate) fn running(&self, item: &Item, now: Now) -> Option<&ClaimModel> {
        let claim = &self.claims[self.owners.get(item)?];
        (!claim.is_lapsed(now)).then_some(claim)
    }

    pub(crate) fn verdicts(&self, mode: Mode, items: &[Asked], now: Now) -> Vec<Verdict> {
        let newest = newest(&self.live);
        // The version with which an item of each value has passed.
        let mut left_by: BTreeMap<&Item, Option<Version>> = BTreeMap::new();
        let verdict = |asked: &Asked, left_by: &BTreeMap<&Item, Option<Version>>| {
            let of_batch = left_by.get(&asked.item).copied();
            let record = newest.get(&asked.item).filter(|_| of_batch.is_none());
            let known = of_batch.or(record.map(|row| row.version));
            let passes = known.is_none_or(|known| changes(asked.version, known));
            let claim = self.running(&asked.item, now).filter(|_| of_batch.is_none());
            let is_held = claim.is_some_and(|claim| match mode {
                Mode::Track => passes && is_older(asked.version, claim.version_of(&asked.item)),
                _ => passes || is_content(asked.version),
            });
            match (is_held, passes, known) {
                (true, ..) => Verdict::InFlight,
                (_, false, _) => Verdict::Duplicate,
                (_, true, None) => Verdict::New,
                (_, true, Some(_)) => Verdict::Changed { previous: record.map(|row| row.id.into()) },
            }
        };
        let mut verdicts = vec![];
        for asked in items {
            let decided = verdict(asked, &left_by);
            verdicts.push(decided);
            if is_passed(decided) {
                left_by.insert(&asked.item, asked.version);
            }
        }
        verdicts
    }

    /// Returns the verdicts, with the live record that was first for each duplicate, and the previous record
    /// for each changed item. `before` has the records that were live before.
    fn told(&self, mode: Mode, items: &[Asked], verdicts: &[Verdict], before: &[Row]) -> Vec<Told> {
        let (former, now) = (firsts(before), firsts(&self.live));
        let mut passed: BTreeSet<&Item> = BTreeSet::new();
        let mut told = vec![];
        for (Asked { item, .. }, verdict) in items.iter().zip(verdicts) {
            let first = match verdict {
                Verdict::Duplicate if !passed.contains(item) => former.get(item).copied(),
                Verdict::Duplicate if mode != Mode::Filter => now.get(item).copied(),
                Verdict::Changed { previous: Some(id) } => before.iter().find(|row| row.id == id.get()),
                _ => None,
            };
            if is_passed(*verdict) {
                passed.insert(item);
            }
            told.push(Told { verdict: *verdict, first: first.cloned(), by: None });
        }
        told
    }

    pub(super) fn apply(&mut self, op: &Op, now: Now) -> Answer {
        match op {
            Op::Dedupe { mode, firsts, items, origin, .. } => {
                let verdicts = self.verdicts(*mode, items, now);
                let before = self.live.clone();
                if *mode != Mode::Filter {
                    self.add(last_passed(items, &verdicts), origin, Adding::InPlace, now);
                }
                // This is decided before the evictions, because this call may evict the first record.
                let mut told = self.told(*mode, items, &verdicts, &before);
                self.evict();
                for told in told.iter_mut().filter(|_| !firsts) {
                    told.first = None;
                }
                Answer::Verdicts(told)
            }
            Op::Claim { .. } => self.claim(op, now),
            Op::TakeUp { owner, .. } => {
                let taken = self.claims_of(owner, now);
                Answer::TakenUp(taken.into_iter().map(|id| self.take_up(id, now)).collect())
            }
            Op::ReleaseClaims { filter, .. } => {
                let released = self.claims_that(filter, now);
                for id in &released {
                    self.claims.remove(id);
                    self.owners.retain(|_, owner| owner != id);
                }
                Answer::Count(released.len() as u64)
            }
            Op::Settle { claim, how, .. } => self.settle(*claim, how, now),
            Op::DeleteRecords { ids, .. } => self.forget(|row| ids.contains(&row.id)),
            Op::DeleteKeys { items, .. } => self.forget(|row| items.contains(&row.item)),
            Op::DeleteWhere { filter, .. } => self.forget(|row| filter.takes(row)),
            Op::Clear { .. } => self.forget(|_| true),
            Op::Update { name, description, retention, capacity, .. } => {
                self.name = name.clone().unwrap_or_else(|| self.name.clone());
                self.description = description.clone().unwrap_or_else(|| self.description.clone());
                self.retention = retention.unwrap_or(self.retention);
                self.capacity = capacity.unwrap_or(self.capacity);
                self.updated_at = now.wall.max(self.updated_at);
                self.expire(now);
                self.evict();
                Answer::Done
            }
            _ => Answer::Done,
        }
    }

    fn forget(&mut self, is_gone: impl Fn(&Row) -> bool) -> Answer {
        let before = self.live.len();
        self.live.retain(|row| !is_gone(row));
        self.forget_results();
        Answer::Count((before - self.live.len()) as u64)
    }

    /// Deletes the records that a filter matches, and voids claims on the values that it names.
    pub(super) fn delete_and_void(&mut self, filter: &Filter) -> u64 {
        let before = self.live.len();
        self.live.retain(|row| !filter.takes(row));
        self.forget_results();
        let claims = &self.claims;
        self.owners.retain(|item, owner| !filter.voids(item, &claims[owner].origin));
        (before - self.live.len()) as u64
    }

    /// Erases the values of lost items, unless a live record has them or an existing claim owns them.
    pub(super) fn erase(&mut self, now: Now) {
        let live = firsts(&self.live);
        let is_owned =
            |item: &Item| self.owners.get(item).is_some_and(|owner| !self.claims[owner].is_over(now));
        let is_kept = |item: &Item| live.contains_key(item) || is_owned(item);
        let erased = |claim: &ClaimModel| -> BTreeSet<usize> {
            claim.open_places().into_iter().filter(|place| !is_kept(&claim.items[*place])).collect()
        };
        let erased: Vec<_> = self.claims.iter().map(|(id, claim)| (*id, erased(claim))).collect();
        for (id, places) in erased {
            self.claims.get_mut(&id).unwrap().erased.extend(places);
        }
    }

    /// Returns the existing claims that a filter selects, oldest first.
    pub(crate) fn claims_that(&self, filter: &ClaimsFilter, now: Now) -> Vec<u64> {
        let existing = self.claims.iter().filter(|(_, claim)| !claim.is_over(now)).enumerate();
        let taken = existing.filter(|(place, (_, claim))| filter.takes(*place, claim, now));
        taken.map(|(_, (id, _))| *id).collect()
    }

    pub(crate) fn claims_of(&self, owner: &str, now: Now) -> Vec<u64> {
        self.claims_that(&ClaimsFilter { owner: Some(owner.to_owned()), ..ClaimsFilter::default() }, now)
    }

    /// Returns the fencing number of the next grant.
    pub(crate) fn next_fence(&self, now: Now) -> u64 {
        (self.fence + 1).max(u64::try_from(now.wall.as_micros()).unwrap_or(0))
    }

    /// Grants a claim to its owner again.
    fn take_up(&mut self, id: u64, now: Now) -> u64 {
        self.fence = self.next_fence(now);
        let claim = self.claims.get_mut(&id).unwrap();
        (claim.since, claim.until) = (now.wall, now.wall.saturating_add(claim.lease));
        (claim.fence, claim.deadline) = (self.fence, now.passed + micros(claim.lease));
        self.fence
    }

    fn claim(&mut self, op: &Op, now: Now) -> Answer {
        let Op::Claim { id, items: batch, origin, lease, owner, .. } = op else { unreachable!("{op:?}") };
        let (firsts, newest) = (firsts(&self.live), newest(&self.live));
        let until = now.wall.saturating_add(*lease);
        let (mut told, mut indexes, mut held) = (vec![], vec![], BTreeMap::new());
        let (mut items, mut versions, mut seen) = (vec![], vec![], vec![]);
        for (index, Asked { item, version }) in batch.iter().enumerate() {
            let newest = newest.get(item);
            let contains = newest.is_some_and(|row| !changes(*version, row.version));
            let answers = contains && !is_content(*version);
            let first = firsts.get(item).map(|row| Row::clone(row));
            let (verdict, first, by) = match (held.get(item), self.running(item, now)) {
                (Some(held), _) if held == version => (Verdict::Duplicate, None, None),
                (Some(_), _) if !answers => (Verdict::InFlight, None, Some((origin.clone(), until))),
                (None, Some(other)) if !answers => {
                    (Verdict::InFlight, None, Some((other.origin.clone(), other.until)))
                }
                _ if contains => (Verdict::Duplicate, first, None),
                _ => (Verdict::New, None, None),
            };
            if verdict == Verdict::New {
                held.insert(item, *version);
                indexes.push(index);
                items.push(item.clone());
                versions.push(*version);
                seen.push(newest.map_or(0, |row| row.id));
            }
            told.push(Told { verdict, first, by });
        }
        let fence = (!items.is_empty()).then(|| self.next_fence(now));
        if let Some(fence) = fence {
            self.fence = fence;
            self.owners.extend(items.iter().map(|item| (item.clone(), *id)));
            let claim = ClaimModel {
                open: vec![true; items.len()],
                erased: BTreeSet::new(),
                items,
                versions,
                seen,
                indexes,
                batch_len: batch.len(),
                origin: origin.clone(),
                owner: owner.clone(),
                since: now.wall,
                fence,
                until,
                lease: *lease,
                deadline: now.passed + micros(*lease),
                may_be_swept: false,
            };
            self.claims.insert(*id, claim);
        }
        Answer::Claimed(told, fence)
    }

    /// Settles items of a claim. A claim past its hour holds nothing for callers, but settling it still frees
    /// the values that it owned. If the clock is set back later, the claim exists again without them.
    fn settle(&mut self, id: u64, how: &How, now: Now) -> Answer {
        let claim = self.claims[&id].clone();
        let exists = !claim.is_over(now);
        let all = claim.open_places();
        let (places, confirms) = match how {
            How::Confirm | How::ConfirmWith(_) => (&all, true),
            How::ConfirmSome(places, _) => (places, true),
            How::Release | How::Drop => (&all, false),
            How::ReleaseSome(places, _) => (places, false),
            How::Store if !exists => return Answer::Refused(ErrorKind::LeaseLost),
            How::HandOver | How::Store => return Answer::Done,
            How::Extend(lease) => return self.extend(id, *lease, now),
        };
        let (mut outcomes, mut confirmed) = (vec![], vec![]);
        for place in places {
            let (index, item) = (claim.indexes[*place], &claim.items[*place]);
            let owns = self.owners.get(item) == Some(&id);
            let is_erased = claim.erased.contains(place);
            let first = self.live.iter().find(|row| row.item == *item && !is_erased);
            let outcome = match first {
                _ if owns && exists => Outcome::Confirmed(self.next_id + confirmed.len() as u64),
                Some(first) => Outcome::AlreadyTracked(first.clone()),
                None => Outcome::Lost,
            };
            outcomes.push((index, outcome));
            if owns {
                self.owners.remove(item);
            }
            if owns && exists {
                let result = if let How::ConfirmWith(seed) = how { result_of(*seed, index) } else { None };
                self.results.extend(result.map(|result| (self.next_id + confirmed.len() as u64, result)));
                let newest = self.live.iter().rev().find(|row| row.item == *item);
                assert!(
                    newest.is_none_or(|row| row.id <= claim.seen[*place]),
                    "tracked without the claim noticing"
                );
                confirmed.push(Asked { item: item.clone(), version: claim.versions[*place] });
            }
        }
        let released = confirmed.len() as u64;
        if confirms {
            self.add(confirmed, &claim.origin, Adding::InPlace, now);
            self.evict();
        }
        let settled = self.claims.get_mut(&id).unwrap();
        for place in places {
            settled.open[*place] = false;
        }
        if settled.open_places().is_empty() {
            self.claims.remove(&id);
        }
        match how {
            How::Drop => Answer::Done,
            _ if confirms => Answer::Outcomes(outcomes),
            _ => Answer::Count(released),
        }
    }

    fn extend(&mut self, id: u64, lease: Duration, now: Now) -> Answer {
        let claim = self.claims.get_mut(&id).unwrap();
        let owns = |place: &usize| self.owners.get(&claim.items[*place]) == Some(&id);
        if claim.is_over(now) || !claim.open_places().iter().any(owns) {
            return Answer::Refused(ErrorKind::LeaseLost);
        }
        (claim.until, claim.lease) = (now.wall.saturating_add(lease), lease);
        claim.deadline = now.passed + micros(lease);
        Answer::Done
    }
}

/// Returns the result with which an item is confirmed, by its index: often none, sometimes empty, and rarely
/// long.
pub(crate) fn result_of(seed: u64, index: usize) -> Option<Vec<u8>> {
    let text = format!("result {index} of {seed}");
    match (seed + index as u64 * 7) % 9 {
        0..3 => None,
        3 => Some(vec![]),
        4 => Some(text.repeat(500).into_bytes()),
        _ => Some(text.into_bytes()),
    }
}

/// Returns the first record of each value.
pub(crate) fn firsts(live: &[Row]) -> BTreeMap<&Item, &Row> {
    live.iter().rev().map(|row| (&row.item, row)).collect()
}

/// Returns the newest record of each value.
fn newest(live: &[Row]) -> BTreeMap<&Item, &Row> {
    live.iter().map(|row| (&row.item, row)).collect()
}

/// The way in which a record is added to those with the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adding {
    Beside,
    InPlace,
}

/// The table of the specification.
fn changes(asked: Option<Version>, stored: Option<Version>) -> bool {
    match (stored, asked) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(Version::Ordinal(stored)), Some(Version::Ordinal(asked))) => asked > stored,
        (Some(stored), Some(asked)) => asked != stored,
    }
}

fn is_content(version: Option<Version>) -> bool {
    matches!(version, Some(Version::Content(_)))
}

fn is_older(asked: Option<Version>, claimed: Option<Version>) -> bool {
    match (asked, claimed) {
        (Some(Version::Ordinal(asked)), Some(Version::Ordinal(claimed))) => asked < claimed,
        _ => false,
    }
}

/// Returns the values that passed, in the order in which they first did, with their last versions.
fn last_passed(items: &[Asked], verdicts: &[Verdict]) -> Vec<Asked> {
    let mut passed: Vec<Asked> = vec![];
    for (asked, _) in items.iter().zip(verdicts).filter(|(_, verdict)| is_passed(**verdict)) {
        match passed.iter_mut().find(|other| other.item == asked.item) {
            Some(other) => other.version = asked.version,
            None => passed.push(asked.clone()),
        }
    }
    passed
}
