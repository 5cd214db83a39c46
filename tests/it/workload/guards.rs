//! The claims that the process holds, as guards or as tokens.

use std::collections::BTreeMap;

use datapool_store::{
    Claim, ClaimOutcome, ClaimToken, ClaimVerdict, Confirmation, Error, ErrorKind, Key, Result, Verdict,
    limits,
};

use super::driver::Driver;
use super::filter::ClaimsFilter;
use super::model::{ClaimModel, result_of};
use super::random::all_items;
use super::seen::SeenClaim;
use super::{Answer, How, Named, Outcome, Told};
use crate::support::items::{Item, Row};

pub(super) enum Held {
    /// A guard, with the positions of the items that were lost when the claim was taken up.
    Guard(Claim, Vec<usize>),
    Token(Token),
}

/// A token, and the fencing number of its grant. It is void once the owner has taken up the claim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(super) token: ClaimToken,
    pub(super) fence: u64,
}

impl Token {
    fn of(claim: &Claim) -> Option<Self> {
        Some(Self { token: claim.token()?, fence: claim.fencing_number().unwrap() })
    }
}

/// Tokens by pool and claim.
pub(crate) type Claims = BTreeMap<(u64, u64), Token>;

/// Returns the positions of the items that a claim had lost when it was taken up.
fn lost_of(claim: &Claim) -> Vec<usize> {
    let places = claim.verdicts().iter().enumerate();
    places.filter(|(_, (_, verdict))| *verdict == ClaimVerdict::Lost).map(|(place, _)| place).collect()
}

impl ClaimModel {
    fn indexes_of(&self, places: &[usize]) -> Vec<usize> {
        places.iter().map(|place| self.indexes[*place]).collect()
    }

    fn keys_of(&self, places: &[usize]) -> Vec<Key<'_>> {
        places.iter().map(|place| self.items[*place].key()).collect()
    }

    /// Checks that a call that names open items and then one that is not open reports the latter.
    fn refuses_others(&self, guard: &mut Claim, places: &[usize], named: Named, confirms: bool) {
        let (error, item) = match named {
            Named::ByIndex => {
                let open = self.indexes_of(&self.open_places());
                let other = (0..=self.batch_len).find(|index| !open.contains(index)).unwrap();
                let indexes = [self.indexes_of(places), vec![other]].concat();
                let confirmed = confirms.then(|| guard.confirm_items(&indexes).unwrap_err());
                (confirmed.unwrap_or_else(|| guard.release_items(&indexes).unwrap_err()), other)
            }
            Named::ByKey => {
                let is_open = |item: &Item| self.open_places().iter().any(|at| self.items[*at] == *item);
                let other = all_items().iter().find(|item| !is_open(item)).unwrap();
                let keys = [self.keys_of(places), vec![other.key()]].concat();
                let confirmed = confirms.then(|| guard.confirm_keys(&keys).unwrap_err());
                (confirmed.unwrap_or_else(|| guard.release_keys(&keys).unwrap_err()), places.len())
            }
        };
        assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(item)), "{error}");
    }
}

impl Driver {
    /// Returns the claims that can be settled, with their pools.
    pub(crate) fn claims(&self) -> Vec<(u64, u64)> {
        let is_over =
            |(pool, claim): (u64, u64)| self.model().pools[&pool].claims[&claim].is_over(self.now());
        let can_be = |(which, held): (&(u64, u64), &Held)| {
            (matches!(held, Held::Guard(..)) || !is_over(*which)).then_some(*which)
        };
        self.held.iter().filter_map(can_be).collect()
    }

    /// Returns the answer of a new claim, which the test identifies by `which`.
    pub(super) fn claimed(&mut self, which: (u64, u64), claim: Result<Claim>) -> Result<Answer> {
        self.next_claim += 1;
        let claim = claim?;
        let told = |(_, verdict): &(usize, ClaimVerdict)| match verdict {
            ClaimVerdict::Claimed => Told { verdict: Verdict::New, first: None, by: None },
            ClaimVerdict::InFlight { by, until } => {
                Told { verdict: Verdict::InFlight, first: None, by: Some((by.clone(), *until)) }
            }
            ClaimVerdict::Duplicate(first) => {
                Told { verdict: Verdict::Duplicate, first: first.as_deref().map(Row::from), by: None }
            }
            other => panic!("{other:?}"),
        };
        let told: Vec<Told> = claim.verdicts().iter().map(told).collect();
        for (index, told) in told.iter().enumerate() {
            assert_eq!(claim.verdict(index), Some(&claim.verdicts()[index].1));
            let is_held = claim.keys().any(|(held, _)| held == index);
            assert_eq!(is_held, told.verdict == Verdict::New, "item {index}");
        }
        let fence = claim.fencing_number();
        if claim.held_count() > 0 {
            self.held.insert(which, Held::Guard(claim, vec![]));
        } else {
            assert!(claim.into_token().is_none());
        }
        Ok(Answer::Claimed(told, fence))
    }

    pub(super) fn take_up(&mut self, pool: u64, owner: &str) -> Result<Answer> {
        let ids = self.model().pools[&pool].claims_of(owner, self.now());
        let claims = self.store().pool(pool)?.resume_claims_of(owner)?;
        assert_eq!(claims.len(), ids.len(), "claims of {owner}");
        let fences = claims.iter().map(|claim| claim.fencing_number().unwrap()).collect();
        for (id, claim) in ids.into_iter().zip(claims) {
            let lost = lost_of(&claim);
            let former = self.held.insert((pool, id), Held::Guard(claim, lost));
            if let Some(held) = former {
                self.is_void(id, held);
            }
        }
        Ok(Answer::TakenUp(fences))
    }

    pub(super) fn release_claims(&mut self, pool: u64, filter: &ClaimsFilter) -> Result<Answer> {
        let ids = self.model().pools[&pool].claims_that(filter, self.now());
        let handle = self.store().pool(pool)?;
        let listed: Vec<u64> = handle.claims()?.iter().map(|claim| claim.id).collect();
        let released = handle.release_claims(&filter.build(&listed))?;
        for id in ids {
            let former = self.held.remove(&(pool, id));
            if let Some(held) = former {
                self.is_void(id, held);
            }
        }
        Ok(Answer::Count(released))
    }

    /// Checks that a claim was released, or taken up by its owner: its former holder can do nothing with it.
    fn is_void(&self, id: u64, held: Held) {
        let is_lost = |error: Error| assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
        match held {
            // The disk may fail, so the test must not make accesses that are not part of the operation.
            Held::Guard(guard, _) if !self.looks() => _ = guard.into_token(),
            Held::Guard(mut guard, _) => {
                is_lost(guard.extend(limits::LEASE_MIN).unwrap_err());
                is_lost(self.store().resume_claim(&guard.token().unwrap()).unwrap_err());
                match id % 3 {
                    0 => assert_eq!(guard.confirm().unwrap().confirmed_count(), 0),
                    1 => assert_eq!(guard.release().unwrap(), 0),
                    _ => drop(guard),
                }
            }
            Held::Token(_) if !self.looks() => {}
            Held::Token(held) => is_lost(self.store().resume_claim(&held.token).unwrap_err()),
        }
    }

    pub(super) fn settle(&mut self, which: (u64, u64), how: &How) -> Result<Answer> {
        let model = self.model().pools[&which.0].claims[&which.1].clone();
        let (mut guard, lost) = match self.held.remove(&which).unwrap() {
            Held::Guard(guard, lost) => (guard, lost),
            Held::Token(token) => {
                // Even if something fails, the claim may be taken up later.
                self.held.insert(which, Held::Token(token));
                let claim = self.store().resume_claim(&token.token)?;
                if self.looks() {
                    let expected = SeenClaim::expected(self.model(), which, Some(token.fence), self.now());
                    assert_eq!(Some(SeenClaim::of(&claim)), expected);
                }
                let lost = lost_of(&claim);
                if matches!(how, How::HandOver) {
                    self.held.insert(which, Held::Guard(claim, lost));
                    return Ok(Answer::Done);
                }
                (claim, lost)
            }
        };
        if self.looks()
            && let How::ConfirmSome(places, named) | How::ReleaseSome(places, named) = how
        {
            model.refuses_others(&mut guard, places, *named, matches!(how, How::ConfirmSome(..)));
        }
        let answer = match how {
            How::Confirm => guard.confirm().map(|confirmation| outcomes(&confirmation)),
            How::ConfirmWith(seed) => {
                let mut asked = vec![];
                let confirmation = guard.confirm_with(|index| {
                    asked.push(index);
                    result_of(*seed, index)
                });
                assert_eq!(asked, model.indexes_of(&model.open_places()));
                confirmation.map(|confirmation| outcomes(&confirmation))
            }
            How::ConfirmSome(places, Named::ByIndex) => {
                guard.confirm_items(&model.indexes_of(places)).map(|confirmation| outcomes(&confirmation))
            }
            How::ConfirmSome(places, Named::ByKey) => {
                guard.confirm_keys(&model.keys_of(places)).map(|confirmation| outcomes(&confirmation))
            }
            How::Release => guard.release().map(Answer::Count),
            How::ReleaseSome(places, Named::ByIndex) => {
                guard.release_items(&model.indexes_of(places)).map(Answer::Count)
            }
            How::ReleaseSome(places, Named::ByKey) => {
                guard.release_keys(&model.keys_of(places)).map(Answer::Count)
            }
            How::Extend(lease) => guard.extend(*lease).map(|until| {
                assert_eq!(guard.until(), until);
                Answer::Done
            }),
            How::Drop => {
                drop(guard);
                return Ok(Answer::Done);
            }
            How::Store => {
                let token = guard.token().unwrap();
                match self.store().resume_claim(&token) {
                    Ok(twin) => {
                        let expected =
                            SeenClaim::expected(self.model(), which, guard.fencing_number(), self.now());
                        assert_eq!(Some(SeenClaim::of(&twin)), expected);
                        assert_eq!(twin.into_token(), Some(token));
                        Ok(Answer::Done)
                    }
                    Err(error) => Err(error),
                }
            }
            How::HandOver => {
                let token = Token::of(&guard);
                assert_eq!(guard.into_token(), token.map(|token| token.token));
                if let Some(token) = token {
                    self.held.insert(which, Held::Token(token));
                    if model.is_over(self.now()) {
                        let error = self.store().resume_claim(&token.token).unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::LeaseLost);
                    }
                }
                return Ok(Answer::Done);
            }
        };
        self.held.insert(which, Held::Guard(guard, lost));
        answer
    }

    /// Checks that a guard knows the state of its claim, except for items that it does not know to be lost.
    pub(super) fn guard_agrees(&self, which: (u64, u64)) {
        let Some(Held::Guard(guard, lost)) = self.held.get(&which) else { return };
        let model = &self.model().pools[&which.0].claims[&which.1];
        let held: Vec<usize> =
            model.open_places().into_iter().filter(|place| !lost.contains(place)).collect();
        assert_eq!((guard.until(), guard.held_count()), (model.until, held.len()));
        assert_eq!(guard.fencing_number(), Some(model.fence));
        let keys = guard.keys().map(|(index, key)| (index, key.value().to_owned()));
        assert!(keys.eq(held.iter().map(|place| (model.indexes[*place], model.items[*place].value.clone()))));
    }

    /// Checks that the claims an owner has just taken up agree with their guards.
    pub(super) fn guards_of_owner_agree(&self, pool: u64, owner: &str) {
        for id in self.model().pools[&pool].claims_of(owner, self.now()) {
            self.guard_agrees((pool, id));
            let Some(Held::Guard(guard, _)) = self.held.get(&(pool, id)) else {
                panic!("no guard of claim {id}")
            };
            let expected = SeenClaim::expected(self.model(), (pool, id), guard.fencing_number(), self.now());
            assert_eq!(Some(SeenClaim::of(guard)), expected);
        }
    }

    /// Gives up all guards without releasing anything.
    pub(super) fn hand_over(&mut self) {
        for (which, held) in std::mem::take(&mut self.held) {
            let token = match held {
                Held::Guard(guard, _) => {
                    let token = Token::of(&guard);
                    let _ = guard.into_token();
                    token
                }
                Held::Token(token) => Some(token),
            };
            self.held.extend(token.map(|token| (which, Held::Token(token))));
        }
    }

    pub(super) fn tokens(&mut self) -> Claims {
        self.hand_over();
        let token = |held: &Held| match held {
            Held::Guard(..) => None,
            Held::Token(token) => Some(*token),
        };
        self.held.iter().filter_map(|(which, held)| Some((*which, token(held)?))).collect()
    }

    /// Gives up what is held of claims that the model does not have.
    pub(crate) fn forget_claims_that_ended(&mut self) {
        let model = &self.current[0];
        self.held.retain(|(pool, claim), held| {
            let claim = model.pools.get(pool).and_then(|pool| pool.claims.get(claim));
            claim.is_some_and(|claim| match held {
                Held::Guard(guard, _) => guard.fencing_number() == Some(claim.fence),
                Held::Token(token) => token.fence == claim.fence,
            })
        });
    }

    /// Turns tokens into guards after the store was opened. If a claim was past its hour but is not by the
    /// present clock, only this shows if it was swept.
    pub(super) fn take_claims_up(&mut self) {
        let now = self.now();
        for (which, token) in self.tokens() {
            let (pool, id) = which;
            let (is_over, may_be_swept) = {
                let claim = &self.model().pools[&pool].claims[&id];
                (claim.is_over(now), claim.may_be_swept)
            };
            let parsed: ClaimToken = token.token.to_string().parse().unwrap();
            match self.store().resume_claim(&parsed) {
                Ok(claim) => {
                    assert!(!is_over, "claim {which:?} is past its hour");
                    let expected = SeenClaim::expected(self.model(), which, Some(token.fence), now);
                    assert_eq!(Some(SeenClaim::of(&claim)), expected);
                    let lost = lost_of(&claim);
                    self.held.insert(which, Held::Guard(claim, lost));
                    self.guard_agrees(which);
                    self.each_model(|model| {
                        model.pool(pool).claims.get_mut(&id).unwrap().may_be_swept = false;
                    });
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::LeaseLost, "claim {which:?}: {error}");
                    assert!(is_over || may_be_swept, "claim {which:?} is gone");
                    if !is_over {
                        self.each_model(|model| model.pool(pool).sweep(id));
                        self.held.remove(&which);
                    }
                }
            }
        }
    }
}

fn outcomes(confirmation: &Confirmation) -> Answer {
    let outcome = |(index, outcome): &(usize, ClaimOutcome)| match outcome {
        ClaimOutcome::Confirmed(id) => (*index, Outcome::Confirmed(id.get())),
        ClaimOutcome::AlreadyTracked(first) => (*index, Outcome::AlreadyTracked(Row::from(&**first))),
        ClaimOutcome::LeaseLost => (*index, Outcome::Lost),
        other => panic!("{other:?}"),
    };
    let outcomes: Vec<_> = confirmation.outcomes().iter().map(outcome).collect();
    let confirmed = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Confirmed(_))).count();
    assert_eq!(confirmation.confirmed_count(), confirmed);
    assert_eq!(confirmation.all_confirmed().is_ok(), confirmed == outcomes.len());
    Answer::Outcomes(outcomes)
}
