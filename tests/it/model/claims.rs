//! The claims of a pool as a list: who owns which value, and what each claim must answer.

use std::collections::BTreeMap;
use std::time::Duration;

use datapool_store::{
    Claim, ClaimOutcome, ClaimToken, ClaimVerdict, Confirmation, Error, ErrorKind, Key, Mode, OnDuplicate,
    Origin, Pool, Timestamp, Verdict, limits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::pool::{PoolModel, first_of};
use super::{Clocks, Firsts, Op, PoolOp};
use crate::model::planner::{all_items, any_item, any_origin, any_sizes};
use crate::support::items::{Item, Row};

/// What is done with a claim that is held.
#[derive(Debug, Clone)]
pub(super) enum Settle {
    Confirm,
    Release,
    Drop,
    ConfirmSome(Vec<Index>, Named),
    ReleaseSome(Vec<Index>, Named),
    Extend {
        lease_ms: u64,
    },
    /// Into a token, and up again.
    HandOver,
}

/// How some items of a claim are named.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named {
    ByIndex,
    ByKey,
}

pub(super) fn any_settle() -> impl Strategy<Value = Settle> {
    let some = || (vec(any::<Index>(), 1..5), select(vec![Named::ByIndex, Named::ByKey]));
    prop_oneof![
        4 => Just(Settle::Confirm),
        1 => Just(Settle::Release),
        1 => Just(Settle::Drop),
        2 => some().prop_map(|(picks, named)| Settle::ConfirmSome(picks, named)),
        1 => some().prop_map(|(picks, named)| Settle::ReleaseSome(picks, named)),
        1 => (1..3_000_u64).prop_map(|lease_ms| Settle::Extend { lease_ms }),
        1 => Just(Settle::HandOver),
    ]
}

/// So long that claims are past their hour.
pub(super) const PAST_THE_HOUR: std::ops::Range<u64> = 3_600_000_000..3_610_000_000;

/// Claims, and what takes their values from them, while clocks run far ahead and are set back before the store is opened
/// again.
pub(super) fn any_claims_op() -> impl Strategy<Value = Op> {
    let few = || vec(any_item(), 1..6);
    let in_pool = |op: BoxedStrategy<PoolOp>| (any::<Index>(), op).prop_map(|(pool, op)| Op::In(pool, op));
    let modes = select(vec![Mode::Filter, Mode::Track, Mode::FilterAndTrack]);
    let policy = select(vec![OnDuplicate::Add, OnDuplicate::Skip]);
    let claim = (few(), any_origin(), 1..3_000_u64).prop_map(|(items, origin, lease_ms)| PoolOp::Claim {
        items,
        origin,
        lease_ms,
    });
    let settle = (any::<Index>(), any_settle()).prop_map(|(claim, how)| PoolOp::Settle { claim, how });
    let dedupe = (modes, few(), any_origin()).prop_map(|(mode, items, origin)| PoolOp::Dedupe {
        mode,
        firsts: Firsts::NotAsked,
        items,
        origin,
    });
    let import =
        (few(), policy).prop_map(|(items, policy)| PoolOp::Import { items, policy, commit_every: None });
    let delete = few().prop_map(|items| PoolOp::DeleteKeys { items });
    prop_oneof![
        8 => in_pool(claim.boxed()),
        4 => in_pool(settle.boxed()),
        3 => in_pool(dedupe.boxed()),
        1 => in_pool(import.boxed()),
        1 => in_pool(delete.boxed()),
        1 => (0..1_000_000_u64).prop_map(|micros| Op::Pass { micros }),
        3 => PAST_THE_HOUR.prop_map(|micros| Op::Pass { micros }),
        3 => (-20_000_000_000..0_i64).prop_map(|micros| Op::Turn { micros }),
        4 => any_sizes().prop_map(|sizes| Op::Reopen { sizes }),
        1 => Just(Op::ReopenInPlace),
        2 => Just(Op::Verify),
        1 => Just(Op::Rebuild),
        1 => Just(Op::Backup),
    ]
}

#[derive(Default)]
pub(super) struct Claims {
    /// Those that the store must list, oldest first, and those past their hour: a clock that is set back may bring them
    /// to life, unless they are swept.
    list: Vec<ClaimModel>,
    /// The claim that owns a value. It may have lapsed, or be past its hour.
    pub(super) owners: BTreeMap<Item, u64>,
}

struct ClaimModel {
    id: u64,
    /// None while the store is being reopened, and after it was in vain.
    guard: Option<Claim>,
    token: Option<ClaimToken>,
    items: Vec<Item>,
    /// The index of each item in the batch.
    indexes: Vec<usize>,
    batch_len: usize,
    /// Whether each item is neither confirmed nor released.
    open: Vec<bool>,
    /// Whether it was lost when the claim was taken up.
    lost: Vec<bool>,
    origin: Origin,
    until: Timestamp,
    lease: Duration,
    /// When the lease ends, in microseconds that passed.
    deadline: i64,
    /// It was past its hour at some time: nobody but the store knows whether it was swept.
    may_be_swept: bool,
}

impl ClaimModel {
    fn is_lapsed(&self, clocks: &Clocks) -> bool {
        self.deadline <= clocks.passed
    }

    /// Past its hour: it does not exist for anybody.
    fn is_over(&self, clocks: &Clocks) -> bool {
        self.deadline + micros(limits::CLAIM_KEPT_AFTER_LEASE) <= clocks.passed
    }

    /// How much of the lease is left to a process that opens the store now.
    fn left(&self, now: Timestamp) -> i64 {
        (self.until.as_micros() - now.as_micros()).min(micros(self.lease))
    }

    /// How many items the guard takes for held.
    fn held_count(&self) -> usize {
        self.open.iter().zip(&self.lost).filter(|(open, lost)| **open && !**lost).count()
    }

    fn indexes_of(&self, places: &[usize]) -> Vec<usize> {
        places.iter().map(|place| self.indexes[*place]).collect()
    }

    fn keys_of(&self, places: &[usize]) -> Vec<Key<'_>> {
        places.iter().map(|place| self.items[*place].key()).collect()
    }

    /// The items that are open, by their place in `items`.
    fn open_places(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|place| self.open[*place]).collect()
    }
}

/// A call that names an item which is not open, after some that are, says which it is.
fn refuses_index(claim: &ClaimModel, places: &[usize], call: impl FnOnce(&[usize]) -> Error) {
    let open = claim.indexes_of(&claim.open_places());
    let other = (0..=claim.batch_len).find(|index| !open.contains(index)).unwrap();
    let error = call(&[claim.indexes_of(places), vec![other]].concat());
    assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(other)), "{error}");
}

/// As [`refuses_index`], by key.
fn refuses_key(claim: &ClaimModel, places: &[usize], call: impl FnOnce(&[Key<'_>]) -> Error) {
    let is_open = |item: &Item| claim.open_places().iter().any(|place| claim.items[*place] == *item);
    let Some(other) = all_items().find(|item| !is_open(item)) else { return };
    let error = call(&[claim.keys_of(places), vec![other.key()]].concat());
    assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(places.len())), "{error}");
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
        let until = clocks.clock.now().saturating_add(lease);
        let mut indexes = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let expected = if let Some(first) = first_of(&self.live, item) {
                (Some(first), Verdict::Duplicate)
            } else if let Some(other) = self.claims.running(item, clocks) {
                let in_flight = ClaimVerdict::InFlight { by: other.origin.clone(), until: other.until };
                assert_eq!(claim.verdict(index), Some(&in_flight), "item {index}");
                continue;
            } else if items[..index].contains(item) {
                (None, Verdict::Duplicate)
            } else {
                indexes.push(index);
                (None, Verdict::New)
            };
            match (claim.verdict(index).unwrap(), expected) {
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
        // Ids go on behind the last claim that is not swept, whether it is listed or not.
        let id = self.handle().claims().unwrap().last().unwrap().id;
        self.drop_swept(|claim| claim.id >= id, clocks);
        let batch_len = items.len();
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
            batch_len,
            origin: origin.clone(),
            until,
            lease,
            deadline: clocks.passed + micros(lease),
            may_be_swept: false,
        });
    }

    /// The store has swept these claims.
    fn drop_swept(&mut self, is_swept: impl Fn(&ClaimModel) -> bool, clocks: &Clocks) {
        let list = std::mem::take(&mut self.claims.list);
        let (swept, kept) = list.into_iter().partition(|claim| is_swept(claim));
        self.claims.list = kept;
        for claim in swept {
            let claim: ClaimModel = claim;
            assert!(claim.may_be_swept || claim.is_over(clocks), "claim {} is gone", claim.id);
            self.claims.owners.retain(|_, owner| *owner != claim.id);
            if let Some(token) = claim.token {
                assert_eq!(self.store().resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
            }
        }
    }

    pub(super) fn settle(&mut self, which: Index, how: &Settle, clocks: &Clocks) {
        let held: Vec<usize> =
            (0..self.claims.list.len()).filter(|place| self.claims.list[*place].guard.is_some()).collect();
        if held.is_empty() {
            return;
        }
        let place = held[which.index(held.len())];
        let mut guard = self.claims.list[place].guard.take().unwrap();
        if self.claims.list[place].is_over(clocks) {
            self.settle_in_vain(place, guard, how);
            return;
        }
        let open = self.claims.list[place].open_places();
        let some = |picks: &[Index]| {
            let mut places: Vec<usize> = picks.iter().map(|pick| open[pick.index(open.len())]).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        match how {
            Settle::Confirm => {
                let confirmation = guard.confirm().unwrap();
                self.confirmed(place, &open, &confirmation, clocks);
            }
            Settle::ConfirmSome(picks, named) if !open.is_empty() => {
                let places = some(picks);
                let claim = &self.claims.list[place];
                let confirmation = match named {
                    Named::ByIndex => {
                        refuses_index(claim, &places, |indexes| guard.confirm_items(indexes).unwrap_err());
                        guard.confirm_items(&claim.indexes_of(&places)).unwrap()
                    }
                    Named::ByKey => {
                        refuses_key(claim, &places, |keys| guard.confirm_keys(keys).unwrap_err());
                        guard.confirm_keys(&claim.keys_of(&places)).unwrap()
                    }
                };
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
            Settle::ReleaseSome(picks, named) if !open.is_empty() => {
                let places = some(picks);
                let claim = &self.claims.list[place];
                let released = match named {
                    Named::ByIndex => {
                        refuses_index(claim, &places, |indexes| guard.release_items(indexes).unwrap_err());
                        guard.release_items(&claim.indexes_of(&places)).unwrap()
                    }
                    Named::ByKey => {
                        refuses_key(claim, &places, |keys| guard.release_keys(keys).unwrap_err());
                        guard.release_keys(&claim.keys_of(&places)).unwrap()
                    }
                };
                assert_eq!(released, self.released(place, &places));
            }
            Settle::ConfirmSome(..) | Settle::ReleaseSome(..) => {}
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

    /// The claim is past its hour: nothing is its own. It goes with what its guard gives up; else, if it is not swept, it may
    /// come back to life.
    fn settle_in_vain(&mut self, place: usize, mut guard: Claim, how: &Settle) {
        let claim = &self.claims.list[place];
        match how {
            Settle::Confirm | Settle::ConfirmSome(..) => {
                let confirmation = guard.confirm().unwrap();
                let open = claim.open_places();
                assert_eq!(confirmation.outcomes().len(), open.len());
                for (item, (index, outcome)) in open.iter().zip(confirmation.outcomes()) {
                    assert_eq!(*index, claim.indexes[*item]);
                    match outcome {
                        ClaimOutcome::AlreadyTracked(first) => {
                            let first = Row::from(&**first);
                            assert_eq!(Some(&first), first_of(&self.live, &claim.items[*item]));
                        }
                        outcome => {
                            assert_eq!(*outcome, ClaimOutcome::LeaseLost);
                            assert_eq!(first_of(&self.live, &claim.items[*item]), None);
                        }
                    }
                }
            }
            Settle::Release | Settle::ReleaseSome(..) => assert_eq!(guard.release().unwrap(), 0),
            Settle::Drop => {}
            Settle::Extend { lease_ms } => {
                let extended = guard.extend(Duration::from_millis(*lease_ms));
                assert_eq!(extended.unwrap_err().kind(), ErrorKind::LeaseLost);
                self.claims.list[place].guard = Some(guard);
                return;
            }
            Settle::HandOver => {
                let token = guard.into_token().unwrap();
                assert_eq!(self.store().resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
                self.claims.list[place].token = Some(token);
                return;
            }
        }
        drop(guard);
        let gone = self.claims.list.remove(place);
        self.claims.owners.retain(|_, owner| *owner != gone.id);
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
        let until = clocks.clock.now().saturating_add(lease);
        assert_eq!((extended.unwrap(), guard.until()), (until, until));
        let claim = &mut self.claims.list[place];
        (claim.until, claim.lease, claim.deadline) = (until, lease, clocks.passed + micros(lease));
    }

    /// Before the store is closed: guards become tokens.
    pub(super) fn hand_claims_over(&mut self) {
        for claim in &mut self.claims.list {
            if let Some(guard) = claim.guard.take() {
                claim.token = guard.into_token();
            }
        }
    }

    /// After the store was opened: tokens become guards, and leases run on by the wall clock.
    pub(super) fn take_claims_up(&mut self, clocks: &Clocks) {
        for claim in &mut self.claims.list {
            claim.may_be_swept |= claim.is_over(clocks);
            claim.deadline = clocks.passed + claim.left(clocks.clock.now());
        }
        // What is not past its hour by this clock is listed, unless it was swept when it was.
        let listed: Vec<u64> = self.handle().claims().unwrap().iter().map(|claim| claim.id).collect();
        self.drop_swept(|claim| !claim.is_over(clocks) && !listed.contains(&claim.id), clocks);
        for place in 0..self.claims.list.len() {
            let is_over = self.claims.list[place].is_over(clocks);
            match self.claims.list[place].token {
                Some(token) if is_over => {
                    assert_eq!(self.store().resume_claim(&token).unwrap_err().kind(), ErrorKind::LeaseLost);
                }
                Some(token) => self.take_up(place, token),
                None => {}
            }
        }
    }

    /// The claims that a copy lists, which is opened at this time: those that the store lists, and maybe others that are
    /// past their hour for the store alone. None is listed that is past its hour by the clock.
    pub(super) fn check_claims_of_copy(&self, copy: &Pool, clocks: &Clocks) {
        let now = clocks.clock.now();
        let held = |pool: &Pool| {
            pool.claims().unwrap().into_iter().map(|claim| (claim.id, claim.items)).collect::<Vec<_>>()
        };
        let is_over = |id: u64| {
            let claim = self.claims.of(id);
            claim.left(now) + micros(limits::CLAIM_KEPT_AFTER_LEASE) <= 0
        };
        let listed = held(copy);
        assert!(listed.iter().all(|(id, _)| !is_over(*id)));
        let must: Vec<_> = held(self.handle()).into_iter().filter(|(id, _)| !is_over(*id)).collect();
        assert!(must.iter().all(|claim| listed.contains(claim)), "{must:?}, not {listed:?}");
    }

    fn take_up(&mut self, place: usize, token: ClaimToken) {
        let token: ClaimToken = token.to_string().parse().unwrap();
        let guard = self.store().resume_claim(&token).unwrap();
        let owners = &self.claims.owners;
        let claim = &mut self.claims.list[place];
        claim.token = None;
        let is_own = claim.items.iter().map(|item| owners.get(item) == Some(&claim.id));
        claim.lost = is_own.zip(&claim.open).map(|(is_own, open)| *open && !is_own).collect();
        let verdict = |(open, lost): (&bool, &bool)| match (open, lost) {
            (false, _) => ClaimVerdict::Settled,
            (true, true) => ClaimVerdict::Lost,
            (true, false) => ClaimVerdict::Claimed,
        };
        let verdicts = claim.open.iter().zip(&claim.lost).map(verdict);
        let verdicts: Vec<(usize, ClaimVerdict)> = claim.indexes.iter().copied().zip(verdicts).collect();
        assert_eq!(guard.verdicts(), verdicts);
        let split = guard.partition(0..claim.batch_len);
        let of = |wanted: &[ClaimVerdict]| -> Vec<usize> {
            verdicts.iter().filter(|(_, is)| wanted.contains(is)).map(|(index, _)| *index).collect()
        };
        assert_eq!(split.fresh, of(&[ClaimVerdict::Claimed]));
        assert_eq!(split.duplicates, of(&[ClaimVerdict::Settled]));
        assert_eq!(split.in_flight, of(&[ClaimVerdict::Lost]));
        let unmatched = (0..claim.batch_len).filter(|index| !claim.indexes.contains(index));
        assert!(unmatched.eq(split.unmatched));
        assert_eq!((guard.until(), guard.held_count()), (claim.until, claim.held_count()));
        let keys = guard.keys().map(|(index, key)| (index, key.value().to_owned()));
        let held = claim.open_places().into_iter().filter(|place| !claim.lost[*place]);
        assert!(keys.eq(held.map(|place| (claim.indexes[place], claim.items[place].value.clone()))));
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
            .filter(|claim| !claim.is_over(clocks))
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
