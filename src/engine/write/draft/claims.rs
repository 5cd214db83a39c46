//! Deciding claims: taking values, confirming, releasing and extending.
//!
//! Always holds: everything is looked up before anything is changed, as in the whole draft. A value has one
//! owner. Adding a record removes the value's owner row, so the owner of a value has seen each live record of
//! it. This includes the rows of claims that no longer exist for callers, because these exist again if the
//! clock is set back before they are swept.

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;

use super::{NewRecord, PoolDraft, SeenItems};
use crate::backend::batch::{Batch, Item};
use crate::backend::claims::{ClaimId, Grant, Held, Settled};
use crate::backend::fingerprint::Fingerprint;
use crate::backend::lease::Kept;
use crate::backend::rules::{Claiming, Owner, Standing, Taken};
use crate::engine::pool::claims::ClaimState;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::RecordNumber;
use crate::model::{ClaimFilter, ClaimOutcome, ClaimVerdict, Origin};
use crate::time::Timestamp;

impl PoolDraft {
    /// Returns the claim in a value's owner row. Its lease may have ended more than an hour ago without the
    /// claim being swept yet: see [`runs`](Self::runs).
    pub(super) fn owner(&self, fingerprint: Fingerprint) -> Result<Option<ClaimId>> {
        // Every owner row belongs to a claim in the state, even while that claim is being swept.
        if self.state.claims.is_empty() {
            return Ok(None);
        }
        match self.claims.owners.get(&fingerprint) {
            Some(owner) => Ok(*owner),
            None => self.base.owner(fingerprint),
        }
    }

    fn existing(&self, id: ClaimId) -> Option<&ClaimState> {
        self.state.claims.get(id, self.now.moment)
    }

    /// Returns true if a claim exists and its lease is running.
    pub(super) fn runs(&self, id: ClaimId) -> bool {
        self.existing(id).is_some_and(|claim| !claim.is_lapsed(self.now.moment))
    }

    fn first_of(&self, fingerprint: Fingerprint) -> Result<Option<RecordNumber>> {
        match self.find_new(fingerprint) {
            Some(id) => Ok(Some(id)),
            None => self.base.find_first(&self.state, fingerprint),
        }
    }

    /// Returns the state of each item's value, or of the version if the item has one.
    fn standings(&self, batch: &Batch) -> Result<Vec<Standing>> {
        if !batch.has_versions() {
            return batch.ask_each(|fingerprint| {
                if let Some(id) = self.first_of(fingerprint)? {
                    return Ok(Standing::Tracked(id));
                }
                Ok(match self.owner_of(fingerprint)? {
                    Owner::Running(id) => Standing::Owned(id),
                    Owner::None | Owner::Lapsed => Standing::Free,
                })
            });
        }
        let keys = self.keys_of(batch, None)?;
        let standing =
            |(index, item): (usize, &Item)| Some(keys.get(&item.fingerprint)?.standing(batch.version(index)));
        Ok(batch.items().iter().enumerate().map(|item| standing(item).unwrap_or_default()).collect())
    }

    /// Claims the values of a batch that are not tracked and not owned, or that are tracked with another
    /// version.
    pub(crate) fn claim(
        &mut self,
        batch: &Arc<Batch>,
        owner: Option<Arc<str>>,
        lease: Duration,
        nonce: u128,
    ) -> Result<Grant> {
        let standings = self.standings(batch)?;
        let tracked = standings.iter().filter_map(|standing| match standing {
            Standing::Tracked(id) => Some(*id),
            _ => None,
        });
        let known = self.fetch(tracked)?;
        // From here on, nothing can fail.
        let id = self.state.next_claim;
        let until = self.now.time.saturating_add(lease);
        let by = batch.origin().cloned().unwrap_or_default();
        let mut claimed = SeenItems::new();
        let mut taken = Taken::default();
        let mut verdicts = Vec::with_capacity(batch.len());
        for (index, (item, standing)) in batch.items().iter().zip(standings).enumerate() {
            let verdict = match taken.decide(item.fingerprint, batch.version(index), standing) {
                Claiming::Takes { seen } => {
                    claimed.push((index, seen));
                    self.claims.owners.insert(item.fingerprint, Some(id));
                    ClaimVerdict::Claimed
                }
                Claiming::Repeats => ClaimVerdict::Duplicate(None),
                Claiming::InFlightHere => ClaimVerdict::InFlight { by: Origin::clone(&by), until },
                Claiming::Tracked(id) => {
                    let first = known.get(&id).cloned().or_else(|| self.new_record(id));
                    ClaimVerdict::Duplicate(first.map(Box::new))
                }
                Claiming::Owned(owner) => self.in_flight(owner),
            };
            verdicts.push((index, verdict));
        }
        let changes = claimed.iter().filter(|(_, seen)| *seen > 0).map(|(index, _)| *index).collect();
        if claimed.is_empty() {
            return Ok(Grant { held: None, fence: None, until, changes, verdicts });
        }
        let fence = self.next_fence();
        let claim = ClaimState {
            origin: by,
            owner,
            since: self.now.time,
            until,
            lease,
            deadline: self.now.moment.after(lease),
            nonce,
            fence,
            items: u32::try_from(claimed.len()).unwrap_or(u32::MAX),
            settled: RoaringBitmap::new(),
        };
        self.state.grant(id, claim);
        self.claims.changed.insert(id);
        self.claims.made.push((id, Arc::clone(batch), claimed));
        Ok(Grant { held: Some(Held { id, nonce }), fence: Some(fence), until, changes, verdicts })
    }

    fn next_fence(&mut self) -> u64 {
        self.claims.granted = true;
        self.state.next_fence(self.now.time)
    }

    /// Takes up all claims of an owner. Each gets a new lease of the same length, a new fencing number and a
    /// new nonce.
    pub(crate) fn take_up(&mut self, owner: &str, nonce: u128) -> Vec<Held> {
        let moment = self.now.moment;
        let claims = self
            .state
            .claims
            .iter()
            .filter(|(_, claim)| claim.owner.as_deref() == Some(owner) && !claim.is_sweepable(moment));
        let held: Vec<Held> =
            claims.map(|(id, _)| Held { id, nonce: nonce.wrapping_add(id.into()) }).collect();
        for Held { id, nonce } in &held {
            let fence = self.next_fence();
            let Some(claim) = self.existing(*id) else { continue };
            let granted = ClaimState {
                since: self.now.time,
                until: self.now.time.saturating_add(claim.lease),
                deadline: moment.after(claim.lease),
                nonce: *nonce,
                fence,
                ..ClaimState::clone(claim)
            };
            self.state.change_claim(*id, granted);
            self.claims.changed.insert(*id);
        }
        held
    }

    /// Releases all claims that a filter selects. Returns their number.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Storage` if the items of a claim cannot be read. Then nothing is changed.
    pub(crate) fn release_matching(&mut self, filter: &ClaimFilter) -> Result<u64> {
        let now = self.now;
        let infos = self.state.claims.infos(now.moment);
        let matching: Vec<ClaimId> =
            infos.filter(|info| filter.takes(info, now.time)).map(|info| info.id).collect();
        let mut values = Vec::new();
        for id in &matching {
            if let Some((_, batch, items)) = self.claims.made.iter().find(|(made, ..)| made == id) {
                let fingerprint =
                    |(item, _): &(usize, RecordNumber)| Some((batch.items().get(*item)?.fingerprint, *id));
                values.extend(items.iter().filter_map(fingerprint));
            } else {
                let (batch, ..) = self.base.batch_of_claim(*id)?;
                values.extend(batch.items().iter().map(|item| (item.fingerprint, *id)));
            }
        }
        let mut owned = Vec::new();
        for (fingerprint, id) in values {
            if self.owner(fingerprint)? == Some(id) {
                owned.push((fingerprint, None));
            }
        }
        // From here on, nothing can fail.
        self.claims.owners.extend(owned);
        for id in &matching {
            self.state.remove_claim(*id);
            self.claims.gone.insert(*id);
        }
        Ok(matching.len() as u64)
    }

    /// Returns the verdict on a value that another claim owns.
    fn in_flight(&self, owner: ClaimId) -> ClaimVerdict {
        let claim = self.existing(owner);
        let by = claim.map_or_else(Origin::none, |claim| Origin::clone(&claim.origin));
        ClaimVerdict::InFlight { by, until: claim.map_or(self.time, |claim| claim.until) }
    }

    /// Returns the state of a claim, if it exists and the holder knows its nonce.
    fn claim_of(&self, held: Held) -> Option<&ClaimState> {
        self.existing(held.id).filter(|claim| claim.nonce == held.nonce)
    }

    /// Like [`claim_of`](Self::claim_of), but also returns a claim whose lease ended more than an hour ago,
    /// if it is not swept yet.
    fn stored_claim_of(&self, held: Held) -> Option<&ClaimState> {
        self.state.claims.stored(held.id).filter(|claim| claim.nonce == held.nonce)
    }

    /// Returns true for each item whose owner row names the claim.
    fn owner_rows(&self, held: Held, batch: &Batch, items: &[usize]) -> Result<Vec<bool>> {
        if self.stored_claim_of(held).is_none() {
            return Ok(vec![false; items.len()]);
        }
        batch.ask_some(items, |fingerprint| Ok(self.owner(fingerprint)? == Some(held.id)))
    }

    /// Removes the owner rows of items. A claim whose lease ended more than an hour ago gives up its values
    /// for good: setting the clock back does not restore them.
    fn free(&mut self, batch: &Batch, positions: &[usize], owned: &[bool]) {
        let owned = positions.iter().zip(owned).filter(|(_, is_own)| **is_own);
        let items = owned.filter_map(|(position, _)| batch.items().get(*position));
        self.claims.owners.extend(items.map(|item| (item.fingerprint, None)));
    }

    /// Tracks the items that the claim owns, with their results. Returns the outcome of each item, in the
    /// same order.
    pub(crate) fn confirm(
        &mut self,
        held: Held,
        batch: &Arc<Batch>,
        mut settled: Settled,
    ) -> Result<Vec<ClaimOutcome>> {
        let rows = self.owner_rows(held, batch, &settled.positions)?;
        let exists = self.claim_of(held).is_some();
        let owned: Vec<bool> = rows.iter().map(|is_own| *is_own && exists).collect();
        let fingerprint = |position: usize| batch.items().get(position).map(|item| item.fingerprint);
        let mut firsts = Vec::with_capacity(owned.len());
        for (position, is_own) in settled.positions.iter().zip(&owned) {
            firsts.push(match fingerprint(*position).filter(|_| !is_own) {
                Some(fingerprint) => self.first_of(fingerprint)?,
                None => None,
            });
        }
        let known = self.fetch(firsts.iter().copied().flatten())?;
        let mut replaced = settled.changes.iter().copied().zip(self.replaced_by(batch, &settled)?).peekable();
        // From here on, nothing can fail.
        self.free(batch, &settled.positions, &rows);
        let number = self.batches.len();
        self.batches.push(Arc::clone(batch));
        let mut results = std::mem::take(&mut settled.results).into_iter().peekable();
        let mut outcomes = Vec::with_capacity(owned.len());
        for ((item, is_own), first) in settled.positions.iter().zip(owned).zip(firsts) {
            let result = results.next_if(|(position, _)| position == item);
            let replaced = replaced.next_if(|(change, _)| change == item).map(|(_, ids)| ids);
            outcomes.push(match (fingerprint(*item), first) {
                (Some(fingerprint), _) if is_own => {
                    let record = NewRecord { batch: number, item: *item };
                    let id = self.replace(fingerprint, &replaced.unwrap_or_default(), record);
                    self.results.extend(result.map(|(_, bytes)| (id, bytes)));
                    ClaimOutcome::Confirmed(id.into())
                }
                (_, Some(id)) => {
                    let first = known.get(&id).cloned().or_else(|| self.new_record(id));
                    first.map_or(ClaimOutcome::LeaseLost, |first| ClaimOutcome::AlreadyTracked(first.into()))
                }
                (_, None) => ClaimOutcome::LeaseLost,
            });
        }
        self.settle(held, &settled);
        self.state.evict();
        Ok(outcomes)
    }

    /// Returns the live records that each claimed change replaces. If the claim still owns the value, it has
    /// seen all of them.
    fn replaced_by(&self, batch: &Batch, settled: &Settled) -> Result<Vec<Vec<RecordNumber>>> {
        batch.ask_some(&settled.changes, |fingerprint| {
            let mut ids = self.base.find_all(&self.state, fingerprint)?;
            ids.extend(self.find_new(fingerprint));
            Ok(ids)
        })
    }

    /// Releases the items that a claim owns. Returns the number of items that it owned.
    pub(crate) fn release(&mut self, held: Held, batch: &Batch, settled: &Settled) -> Result<u64> {
        let rows = self.owner_rows(held, batch, &settled.positions)?;
        let owned = rows.iter().filter(|is_own| **is_own && self.claim_of(held).is_some()).count();
        self.free(batch, &settled.positions, &rows);
        self.settle(held, settled);
        Ok(owned as u64)
    }

    /// Settles items. The claim is removed with its last item; until then it records the settled ones.
    fn settle(&mut self, held: Held, settled: &Settled) {
        let Some(claim) = self.stored_claim_of(held) else { return };
        let settled = &claim.settled | &settled.indexes.iter().copied().collect::<RoaringBitmap>();
        if settled.len() < u64::from(claim.items) {
            let claim = ClaimState { settled, ..ClaimState::clone(claim) };
            self.state.change_claim(held.id, claim);
            self.claims.changed.insert(held.id);
        } else {
            self.state.remove_claim(held.id);
            self.claims.gone.insert(held.id);
        }
    }

    /// Restarts the claim's lease and returns its new expiry.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if the claim owns none of the items any more.
    pub(crate) fn extend(
        &mut self,
        held: Held,
        batch: &Batch,
        items: &[usize],
        lease: Duration,
    ) -> Result<Timestamp> {
        let mut owns_any = false;
        for item in items.iter().filter_map(|index| batch.items().get(*index)) {
            owns_any = self.owner(item.fingerprint)? == Some(held.id);
            if owns_any {
                break;
            }
        }
        let Some(claim) = self.claim_of(held).filter(|_| owns_any) else {
            let text = "the claim holds none of its items any more: its lease ran out over an hour ago, it was released or \
                        taken up by its owner, or somebody else took the items over or tracked them";
            return Err(Error::new(ErrorKind::LeaseLost, text));
        };
        let claim = ClaimState::clone(claim);
        Ok(self.restart_lease(held.id, claim, lease))
    }

    /// Restarts a lease that is kept alive, even if the claim owns none of its items any more. Returns its
    /// new expiry, or `None` if the claim does not exist any more or its lease is no longer kept alive.
    pub(crate) fn renew(&mut self, kept: &Kept) -> Option<Timestamp> {
        // A later extension has set its own length.
        if kept.has_ended() {
            return None;
        }
        let claim = ClaimState::clone(self.claim_of(kept.held)?);
        Some(self.restart_lease(kept.held.id, claim, kept.lease))
    }

    fn restart_lease(&mut self, id: ClaimId, claim: ClaimState, lease: Duration) -> Timestamp {
        let until = self.now.time.saturating_add(lease);
        let deadline = self.now.moment.after(lease);
        self.state.change_claim(id, ClaimState { until, lease, deadline, ..claim });
        self.claims.changed.insert(id);
        self.claims.leases_changed = true;
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::Mode;
    use crate::engine::Engine;
    use crate::engine::format::schema::{Geometry, Tuning};
    use crate::model::Key;
    use crate::options::StoreOptions;
    use crate::testing::with_engine;

    fn batch(engine: &Engine, value: &'static str, ordinal: i64) -> Arc<Batch> {
        let keys = [Key::new(1, value).ordinal(ordinal)];
        Arc::new(Batch::from_keys(&engine.hash_key, keys.into_iter()).unwrap())
    }

    /// The items of these claims are in no file yet.
    #[test]
    fn callers_of_one_commit_see_the_claims_that_those_before_them_made() {
        let (store, engine) = with_engine(&StoreOptions::new(), (Geometry::DEFAULT, Tuning::DEFAULT));
        let pool = store.get_or_create_pool("orders").unwrap();
        let mut draft = PoolDraft::new(engine.view(pool.id()).unwrap(), engine.clock.read());
        let batches = [batch(&engine, "A", 5), batch(&engine, "B", 7)];
        for (nonce, batch) in (1..).zip(&batches) {
            let grant = draft.claim(batch, None, Duration::from_mins(1), nonce).unwrap();
            assert!(grant.held.is_some());
        }
        for (batch, claimed) in batches.iter().zip([5, 7]) {
            let keys = draft.keys_of(batch, Some(Mode::Track)).unwrap();
            assert_eq!(keys.get(&batch.items()[0].fingerprint).unwrap().claimed, Some(claimed));
        }
        assert_eq!(draft.release_matching(&ClaimFilter::all()).unwrap(), 2);
        assert_eq!(draft.claims.owners.len(), 2);
        assert!(draft.claims.owners.values().all(Option::is_none), "the values are free again");
    }
}
