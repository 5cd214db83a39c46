//! Deciding operations on claims.
//!
//! Always holds: a value has one owner at most, and only the owner's holder settles it.

use std::sync::Arc;
use std::time::Duration;

use super::Draft;
use super::changes::NewClaim;
use super::decided::Decided;
use super::stored::StoredClaim;
use crate::backend::batch::Batch;
use crate::backend::claims::{ClaimId, Grant, Held, Settled};
use crate::backend::fingerprint::Fingerprint;
use crate::backend::lease::Kept;
use crate::backend::rules::{Claiming, KeyState, Owner, Taken};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::CLAIM_KEPT_AFTER_LEASE;
use crate::model::{ClaimOutcome, ClaimVerdict, Origin};
use crate::time::Timestamp;

impl Draft {
    /// Returns a claim, if it exists.
    fn existing(&self, id: ClaimId) -> Option<&StoredClaim> {
        self.claims.get(&id).filter(|claim| claim.until.saturating_add(CLAIM_KEPT_AFTER_LEASE) > self.now)
    }

    /// Returns the state of a claim, if it exists and the holder knows its nonce.
    fn claim_of(&self, held: Held) -> Option<&StoredClaim> {
        self.existing(held.id).filter(|claim| claim.nonce == held.nonce)
    }

    pub(super) fn owner_of(&self, fingerprint: Fingerprint) -> Owner {
        match self.keys.get(&fingerprint).and_then(|key| key.owner) {
            None => Owner::None,
            Some((id, _)) if self.existing(id).is_some_and(|claim| claim.until > self.now) => {
                Owner::Running(id)
            }
            Some(_) => Owner::Lapsed,
        }
    }

    /// Returns true if a claim owns a value.
    pub(crate) fn is_owner(&self, claim: ClaimId, fingerprint: Fingerprint) -> bool {
        self.keys.get(&fingerprint).and_then(|key| key.owner).is_some_and(|(id, _)| id == claim)
    }

    /// Returns true if a value's owner row names the claim, and the holder knows its nonce.
    fn owns(&self, held: Held, fingerprint: Fingerprint) -> bool {
        if self.claims.get(&held.id).is_none_or(|claim| claim.nonce != held.nonce) {
            return false;
        }
        self.keys.get(&fingerprint).and_then(|key| key.owner).is_some_and(|(id, _)| id == held.id)
    }

    /// Takes a value away from the claim that owns it.
    pub(super) fn void(&mut self, fingerprint: Fingerprint) {
        if let Some(key) = self.keys.get_mut(&fingerprint)
            && key.owner.take().is_some()
        {
            self.changes.voided.insert(fingerprint);
        }
    }

    pub(super) fn claim(
        &mut self,
        batch: &Arc<Batch>,
        owner: Option<Arc<str>>,
        lease: Duration,
        nonce: u128,
    ) -> Decided {
        let id = self.head.next_claim;
        let until = self.now.saturating_add(lease);
        let by = batch.origin().map(|origin| Origin::clone(origin)).unwrap_or_default();
        let states: Vec<KeyState> =
            batch.items().iter().map(|item| self.key_state(item.fingerprint, None)).collect();
        let (mut taken, mut items, mut firsts) = (Taken::default(), Vec::new(), Vec::new());
        let mut verdicts = Vec::with_capacity(batch.len());
        for (index, (item, key)) in batch.items().iter().zip(states).enumerate() {
            let asked = batch.version(index);
            let verdict = match taken.decide(item.fingerprint, asked, key.standing(asked)) {
                Claiming::Takes { seen } => {
                    self.void(item.fingerprint);
                    self.keys.entry(item.fingerprint).or_default().owner = Some((id, asked));
                    items.push((index, seen));
                    ClaimVerdict::Claimed
                }
                Claiming::Repeats => ClaimVerdict::Duplicate(None),
                Claiming::InFlightHere => ClaimVerdict::InFlight { by: by.clone(), until },
                Claiming::Tracked(first) => {
                    firsts.push((index, first));
                    ClaimVerdict::Duplicate(None)
                }
                Claiming::Owned(owner) => {
                    let claim = self.existing(owner);
                    ClaimVerdict::InFlight {
                        by: claim.map(|claim| claim.origin.clone()).unwrap_or_default(),
                        until: claim.map_or(self.time, |claim| claim.until),
                    }
                }
            };
            verdicts.push((index, verdict));
        }
        let changes = items.iter().filter(|(_, seen)| *seen > 0).map(|(index, _)| *index).collect();
        if items.is_empty() {
            return Decided::Grant {
                grant: Grant { held: None, fence: None, until, changes, verdicts },
                firsts,
            };
        }
        self.head.next_claim += 1;
        let fence = self.head.next_fence(self.now);
        self.claims.insert(id, StoredClaim { nonce, until, lease, origin: by });
        let batch = Arc::clone(batch);
        self.changes.claims.push(NewClaim { id, batch, owner, lease, nonce, fence, until, items });
        let held = Some(Held { id, nonce });
        Decided::Grant { grant: Grant { held, fence: Some(fence), until, changes, verdicts }, firsts }
    }

    /// Tracks the items that a claim owns, with their results.
    pub(super) fn confirm(&mut self, held: Held, batch: &Arc<Batch>, settled: &Settled) -> Decided {
        let exists = self.claim_of(held).is_some();
        let mut results = settled.results.iter().peekable();
        let mut outcomes = Vec::with_capacity(settled.positions.len());
        for position in &settled.positions {
            let result = results.next_if(|(of, _)| of == position);
            let Some(fingerprint) = batch.items().get(*position).map(|item| item.fingerprint) else {
                continue;
            };
            let is_own = self.owns(held, fingerprint);
            if is_own {
                self.void(fingerprint);
            }
            outcomes.push(if is_own && exists {
                // The owner of a value has seen each live record of it.
                self.delete_key(fingerprint);
                let id = self.append(fingerprint, batch, *position);
                self.changes.results.extend(result.map(|(_, bytes)| (id, bytes.clone())));
                Ok(ClaimOutcome::Confirmed(id.into()))
            } else {
                let first = self.keys.get(&fingerprint).and_then(|key| key.live.first());
                first.map_or(Ok(ClaimOutcome::LeaseLost), |(first, _)| Err(*first))
            });
        }
        self.settle(held, settled);
        Decided::Outcomes(outcomes)
    }

    /// Frees items that a claim owns. Returns the number of items that it owned.
    pub(super) fn release(&mut self, held: Held, batch: &Batch, settled: &Settled) -> u64 {
        let exists = self.claim_of(held).is_some();
        let mut released = 0;
        for position in &settled.positions {
            let Some(fingerprint) = batch.items().get(*position).map(|item| item.fingerprint) else {
                continue;
            };
            if self.owns(held, fingerprint) {
                self.void(fingerprint);
                released += u64::from(exists);
            }
        }
        self.settle(held, settled);
        released
    }

    fn settle(&mut self, held: Held, settled: &Settled) {
        if self.claims.get(&held.id).is_some_and(|claim| claim.nonce == held.nonce) {
            self.changes.settled.push((held.id, settled.indexes.clone()));
        }
    }

    pub(super) fn extend(
        &mut self,
        held: Held,
        batch: &Batch,
        positions: &[usize],
        lease: Duration,
    ) -> Result<Timestamp> {
        let mut items = positions.iter().filter_map(|position| batch.items().get(*position));
        let owns_any = items.any(|item| self.owns(held, item.fingerprint));
        if !owns_any || self.claim_of(held).is_none() {
            let text = "the claim holds none of its items any more: its lease ran out over an hour ago, it was released or \
                        taken up by its owner, or somebody else took the items over or tracked them";
            return Err(Error::new(ErrorKind::LeaseLost, text));
        }
        Ok(self.restart_lease(held.id, lease))
    }

    /// Restarts a lease that is kept alive. Returns its new expiry, or `None` if the claim does not exist any more or the lease
    /// is not kept alive any more.
    pub(super) fn renew(&mut self, kept: &Kept) -> Option<Timestamp> {
        if kept.has_ended() {
            return None;
        }
        self.claim_of(kept.held)?;
        Some(self.restart_lease(kept.held.id, kept.lease))
    }

    fn restart_lease(&mut self, id: ClaimId, lease: Duration) -> Timestamp {
        let until = self.now.saturating_add(lease);
        if let Some(claim) = self.claims.get_mut(&id) {
            (claim.until, claim.lease) = (until, lease);
        }
        self.changes.leases.insert(id, (until, lease));
        until
    }
}
