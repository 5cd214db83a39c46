//! The claims of a pool as a list: who owns which value, and what each claim must answer.

use std::collections::BTreeMap;
use std::time::Duration;

use datapool_store::{
    Claim, ClaimOutcome, ClaimToken, ClaimVerdict, Confirmation, ErrorKind, Mode, Origin, Timestamp, Verdict,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::Clocks;
use super::pool::{PoolModel, first_of};
use crate::planner::{Item, Row};

/// What is done with a claim that is held.
#[derive(Debug, Clone)]
pub(super) enum Settle {
    Confirm,
    Release,
    Drop,
    ConfirmSome(Vec<Index>),
    ReleaseSome(Vec<Index>),
    Extend {
        lease_ms: u64,
    },
    /// Into a token, and up again.
    HandOver,
}

pub(super) fn any_settle() -> impl Strategy<Value = Settle> {
    let some = || vec(any::<Index>(), 1..5);
    prop_oneof![
        4 => Just(Settle::Confirm),
        1 => Just(Settle::Release),
        1 => Just(Settle::Drop),
        2 => some().prop_map(Settle::ConfirmSome),
        1 => some().prop_map(Settle::ReleaseSome),
        1 => (1..3_000_u64).prop_map(|lease_ms| Settle::Extend { lease_ms }),
        1 => Just(Settle::HandOver),
    ]
}

#[derive(Default)]
pub(super) struct Claims {
    /// Those that the store must list, oldest first.
    list: Vec<ClaimModel>,
    /// The claim that owns a value. It may have lapsed.
    pub(super) owners: BTreeMap<Item, u64>,
    next_id: u64,
}

struct ClaimModel {
    id: u64,
    /// None while the store is being reopened.
    guard: Option<Claim>,
    token: Option<ClaimToken>,
    items: Vec<Item>,
    /// The index of each item for the guard.
    indexes: Vec<usize>,
    /// Whether each item is neither confirmed nor released.
    open: Vec<bool>,
    /// Whether it was lost when the claim was taken up.
    lost: Vec<bool>,
    origin: Origin,
    until: Timestamp,
    lease: Duration,
    /// When the lease ends, in microseconds that passed.
    deadline: i64,
}

impl ClaimModel {
    fn is_lapsed(&self, clocks: &Clocks) -> bool {
        self.deadline <= clocks.passed
    }

    /// How many items the guard takes for held.
    fn held_count(&self) -> usize {
        self.open.iter().zip(&self.lost).filter(|(open, lost)| **open && !**lost).count()
    }

    /// The items that are open, by their place in `items`.
    fn open_places(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|place| self.open[*place]).collect()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

impl Claims {
    fn of(&self, id: u64) -> &ClaimModel {
        self.list.iter().find(|claim| claim.id == id).unwrap()
    }

    /// The claim that owns a value and whose lease runs.
    fn running(&self, item: &Item, clocks: &Clocks) -> Option<&ClaimModel> {
        let claim = self.of(*self.owners.get(item)?);
        (!claim.is_lapsed(clocks)).then_some(claim)
    }

    pub(super) fn is_running(&self, item: &Item, clocks: &Clocks) -> bool {
        self.running(item, clocks).is_some()
    }
}

impl PoolModel {
    pub(super) fn claim(&mut self, items: &[Item], origin: &Origin, lease: Duration, clocks: &Clocks) {
        let claim = self.handle().claim(items, Item::key, origin, lease).unwrap();
        let until = clocks.pool_time(self.last_time).saturating_add(lease);
        let mut indexes = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let expected = if let Some(first) = first_of(&self.live, item) {
                (Some(first), Verdict::Duplicate)
            } else if let Some(other) = self.claims.running(item, clocks) {
                let in_flight = ClaimVerdict::InFlight { by: other.origin.clone(), until: other.until };
                assert_eq!(claim.verdicts()[index], in_flight, "item {index}");
                continue;
            } else if items[..index].contains(item) {
                (None, Verdict::Duplicate)
            } else {
                indexes.push(index);
                (None, Verdict::New)
            };
            match (&claim.verdicts()[index], expected) {
                (ClaimVerdict::Claimed, (_, Verdict::New)) => {}
                (ClaimVerdict::Duplicate(first), (expected, Verdict::Duplicate)) => {
                    assert_eq!(first.as_deref().map(Row::from).as_ref(), expected, "first of item {index}");
                }
                (verdict, expected) => panic!("item {index} is {verdict:?} instead of {expected:?}"),
            }
        }
        assert_eq!(claim.held_count(), indexes.len());
        assert!(claim.keys().map(|(index, _)| index).eq(indexes.iter().copied()));
        if indexes.is_empty() {
            assert!(claim.into_token().is_none());
            return;
        }
        assert_eq!(claim.until(), until);
        self.claims.next_id = self.claims.next_id.max(1);
        let id = self.claims.next_id;
        self.claims.next_id += 1;
        let items: Vec<Item> = indexes.iter().map(|index| items[*index].clone()).collect();
        self.claims.owners.extend(items.iter().map(|item| (item.clone(), id)));
        self.claims.list.push(ClaimModel {
            id,
            guard: Some(claim),
            token: None,
            open: vec![true; items.len()],
            lost: vec![false; items.len()],
            items,
            indexes,
            origin: origin.clone(),
            until,
            lease,
            deadline: clocks.passed + micros(lease),
        });
    }

    pub(super) fn settle(&mut self, which: Index, how: &Settle, clocks: &Clocks) {
        let held: Vec<usize> =
            (0..self.claims.list.len()).filter(|place| self.claims.list[*place].guard.is_some()).collect();
        if held.is_empty() {
            return;
        }
        let place = held[which.index(held.len())];
        let mut guard = self.claims.list[place].guard.take().unwrap();
        let open = self.claims.list[place].open_places();
        let some = |picks: &[Index]| {
            let mut places: Vec<usize> = picks.iter().map(|pick| open[pick.index(open.len())]).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        let indexes = |places: &[usize], claim: &ClaimModel| -> Vec<usize> {
            places.iter().map(|p| claim.indexes[*p]).collect()
        };
        match how {
            Settle::Confirm => {
                let confirmation = guard.confirm().unwrap();
                self.confirmed(place, &open, &confirmation, clocks);
            }
            Settle::ConfirmSome(picks) if !open.is_empty() => {
                let places = some(picks);
                let confirmation = guard.confirm_items(&indexes(&places, &self.claims.list[place])).unwrap();
                self.confirmed(place, &places, &confirmation, clocks);
            }
            Settle::Release => {
                let released = guard.release().unwrap();
                assert_eq!(released, self.released(place, &open));
            }
            Settle::Drop => {
                drop(guard);
                self.released(place, &open);
                self.forget_settled(place);
                return;
            }
            Settle::ReleaseSome(picks) if !open.is_empty() => {
                let places = some(picks);
                let released = guard.release_items(&indexes(&places, &self.claims.list[place])).unwrap();
                assert_eq!(released, self.released(place, &places));
            }
            Settle::ConfirmSome(_) | Settle::ReleaseSome(_) => {}
            Settle::Extend { lease_ms } => self.extend(place, &mut guard, *lease_ms, clocks),
            Settle::HandOver => {
                let token = guard.into_token().unwrap();
                self.take_up(place, token);
                return;
            }
        }
        assert_eq!(guard.held_count(), self.claims.list[place].held_count());
        self.claims.list[place].guard = Some(guard);
        self.forget_settled(place);
    }

    /// A claim goes with its last item.
    fn forget_settled(&mut self, place: usize) {
        if !self.claims.list[place].open.contains(&true) {
            self.claims.list.remove(place);
        }
    }

    fn confirmed(&mut self, place: usize, places: &[usize], confirmation: &Confirmation, clocks: &Clocks) {
        let claim = &self.claims.list[place];
        let (id, origin) = (claim.id, claim.origin.clone());
        let items: Vec<(usize, Item)> =
            places.iter().map(|place| (claim.indexes[*place], claim.items[*place].clone())).collect();
        let live = self.live.clone();
        let outcomes = confirmation.outcomes();
        assert_eq!(outcomes.len(), items.len());
        let (mut added, mut next_id) = (Vec::new(), self.next_id);
        for ((index, item), outcome) in items.iter().zip(outcomes) {
            assert_eq!(*index, outcome.0);
            match &outcome.1 {
                ClaimOutcome::Confirmed(record) => {
                    assert_eq!(self.claims.owners.get(item), Some(&id), "{item:?} is not the claim's own");
                    assert_eq!(*record, next_id);
                    next_id += 1;
                    added.push(item.clone());
                }
                ClaimOutcome::AlreadyTracked(first) => {
                    assert_ne!(self.claims.owners.get(item), Some(&id));
                    assert_eq!(Some(&Row::from(&**first)), first_of(&live, item));
                }
                ClaimOutcome::LeaseLost => {
                    assert_ne!(self.claims.owners.get(item), Some(&id));
                    assert_eq!(first_of(&live, item), None);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(confirmation.confirmed_count(), added.len());
        assert_eq!(confirmation.all_confirmed().is_ok(), added.len() == items.len());
        self.add(added, &origin, clocks);
        self.evict();
        self.close_places(place, places);
    }

    /// Frees what the claim owns of some items. How many that were.
    fn released(&mut self, place: usize, places: &[usize]) -> u64 {
        let claim = &self.claims.list[place];
        let own: Vec<Item> = places.iter().map(|place| claim.items[*place].clone()).collect();
        let id = claim.id;
        let before = self.claims.owners.len();
        self.claims.owners.retain(|item, owner| *owner != id || !own.contains(item));
        self.close_places(place, places);
        (before - self.claims.owners.len()) as u64
    }

    fn close_places(&mut self, place: usize, places: &[usize]) {
        for item in places {
            self.claims.list[place].open[*item] = false;
        }
    }

    fn extend(&mut self, place: usize, guard: &mut Claim, lease_ms: u64, clocks: &Clocks) {
        let lease = Duration::from_millis(lease_ms);
        let extended = guard.extend(lease);
        let claim = &self.claims.list[place];
        let owns_any = claim
            .open_places()
            .iter()
            .any(|item| self.claims.owners.get(&claim.items[*item]) == Some(&claim.id));
        if !owns_any {
            assert_eq!(extended.unwrap_err().kind(), ErrorKind::LeaseLost);
            return;
        }
        let until = clocks.pool_time(self.last_time).saturating_add(lease);
        assert_eq!((extended.unwrap(), guard.until()), (until, until));
        let claim = &mut self.claims.list[place];
        (claim.until, claim.lease, claim.deadline) = (until, lease, clocks.passed + micros(lease));
    }

    /// Before the store is closed: guards become tokens.
    pub(super) fn hand_claims_over(&mut self) {
        for claim in &mut self.claims.list {
            claim.token = claim.guard.take().and_then(Claim::into_token);
        }
    }

    /// After the store was opened: tokens become guards, and leases run on by the wall clock.
    pub(super) fn take_claims_up(&mut self, clocks: &Clocks) {
        self.claims.next_id = self.claims.list.last().map_or(1, |claim| claim.id + 1);
        for place in 0..self.claims.list.len() {
            let claim = &mut self.claims.list[place];
            let left = claim.until.as_micros() - clocks.latest.as_micros();
            claim.deadline = clocks.passed + left.min(micros(claim.lease));
            if let Some(token) = claim.token.take() {
                self.take_up(place, token);
            }
        }
    }

    fn take_up(&mut self, place: usize, token: ClaimToken) {
        let token: ClaimToken = token.to_string().parse().unwrap();
        let guard = self.store().resume_claim(&token).unwrap();
        let owners = &self.claims.owners;
        let claim = &mut self.claims.list[place];
        claim.indexes = (0..claim.items.len()).collect();
        let is_own = claim.items.iter().map(|item| owners.get(item) == Some(&claim.id));
        claim.lost = is_own.zip(&claim.open).map(|(is_own, open)| *open && !is_own).collect();
        let verdict = |(open, lost): (&bool, &bool)| match (open, lost) {
            (false, _) => ClaimVerdict::Settled,
            (true, true) => ClaimVerdict::Lost,
            (true, false) => ClaimVerdict::Claimed,
        };
        let verdicts: Vec<ClaimVerdict> = claim.open.iter().zip(&claim.lost).map(verdict).collect();
        assert_eq!(guard.verdicts(), verdicts);
        assert_eq!((guard.until(), guard.held_count()), (claim.until, claim.held_count()));
        let keys = guard.keys().map(|(index, key)| (index, key.value().to_owned()));
        let held = claim.open_places().into_iter().filter(|place| !claim.lost[*place]);
        assert!(keys.eq(held.map(|place| (place, claim.items[place].value.clone()))));
        claim.guard = Some(guard);
    }

    /// The store lists these claims, and a filter finds in flight what they own.
    pub(super) fn check_claims(&self, items: &[Item], clocks: &Clocks) {
        let listed = self.handle().claims().unwrap();
        let listed: Vec<_> = listed
            .into_iter()
            .map(|claim| (claim.id, claim.origin, claim.until, claim.is_lapsed, claim.items))
            .collect();
        let expected: Vec<_> = self
            .claims
            .list
            .iter()
            .map(|claim| {
                let count = claim.items.len() as u64;
                (claim.id, claim.origin.clone(), claim.until, claim.is_lapsed(clocks), count)
            })
            .collect();
        assert_eq!(listed, expected);
        let verdicts = self.handle().dedupe(Mode::Filter, items, Item::key, &Origin::none()).unwrap();
        for (item, verdict) in items.iter().zip(verdicts.as_slice()) {
            let expected = if first_of(&self.live, item).is_some() {
                Verdict::Duplicate
            } else if self.claims.is_running(item, clocks) {
                Verdict::InFlight
            } else {
                Verdict::New
            };
            assert_eq!(*verdict, expected, "{item:?}");
        }
    }
}
