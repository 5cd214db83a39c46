//! The state of a claim's guard: the batch that was claimed, and the part of it that is still held.
//!
//! Owns: [`Claimed`], which never changes, and [`Hold`], which does. Each change of a claim has two halves: a
//! [`Change`] for the writer, and an update of the hold once that is on disk. Blocking guards and guards for
//! async code share these halves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::results::Results;
use crate::backend::batch::{Batch, Positions};
use crate::backend::claims::{Grant, Held, Settled, Standing, StoredClaim};
use crate::backend::lease::Kept;
use crate::backend::operation::{OfAnswer, Operation, Submission};
use crate::backend::queue::Weight;
use crate::dedupe::Split;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::KEPT_LEASE_MIN;
use crate::model::{ClaimOutcome, ClaimToken, ClaimVerdict, Confirmation, Key, check_lease};
use crate::pool::Pool;
use crate::time::Timestamp;

/// A batch that was claimed, with a verdict on each item.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) pool: Pool,
    /// The whole batch; for a claim that was taken up, only the items that were claimed.
    batch: Arc<Batch>,
    /// For each item of the batch, in order: its index in the batch that was claimed, and its verdict.
    pub(crate) verdicts: Vec<(usize, ClaimVerdict)>,
    pub(crate) fence: Option<u64>,
    /// The positions of the claimed items whose key had a record, ascending.
    changes: Vec<usize>,
}

/// The part of a claim that is still held.
#[derive(Debug)]
pub(crate) struct Hold {
    /// `None` once the claim holds nothing.
    held: Option<Held>,
    until: Timestamp,
    lease: Duration,
    /// The lease is renewed for as long as this is held.
    kept: Option<Arc<Kept>>,
    standings: Vec<Standing>,
    /// The position in the batch of each open item, by value. It is computed when it is first needed.
    by_value: Option<Positions>,
    /// The outcomes of items, by position, from calls whose answer nobody has received; `None` if the item
    /// was released. The next call that names the item returns the outcome.
    unheard: BTreeMap<usize, Option<ClaimOutcome>>,
    /// The number of items released by such calls.
    #[cfg_attr(
        not(feature = "async"),
        allow(dead_code, reason = "blocking callers are always there for the answer")
    )]
    unheard_released: u64,
}

/// The way in which a call settles items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settling {
    Confirming,
    Releasing,
}

/// A change of a claim that a call submits.
pub(crate) struct Change<T> {
    /// `None` if there is nothing to settle.
    pub(crate) submission: Option<Submission<T>>,
    /// The positions of the items that the submission settles, ascending.
    pub(crate) positions: Vec<usize>,
    /// These positions and those of requested items that an unheard call has already settled, ascending.
    #[cfg_attr(
        not(feature = "async"),
        allow(dead_code, reason = "blocking callers are always there for the answer")
    )]
    pub(crate) asked: Vec<usize>,
}

/// The items of a claim that a call names.
#[derive(Debug)]
pub(crate) enum Which<'a> {
    Open,
    Indexes(&'a [usize]),
    /// Keys, checked and hashed.
    Keys(&'a Batch),
}

impl Claimed {
    /// Returns both halves of the guard of a new claim.
    pub(crate) fn of_grant(pool: &Pool, batch: Arc<Batch>, grant: Grant, lease: Duration) -> (Self, Hold) {
        let Grant { held, until, fence, changes, verdicts } = grant;
        let standing = |(_, verdict): &(usize, ClaimVerdict)| match verdict {
            ClaimVerdict::Claimed => Standing::Held,
            _ => Standing::Settled,
        };
        let standings = verdicts.iter().map(standing).collect();
        let hold = Hold::new(held, until, lease, standings);
        (Self { pool: pool.clone(), batch, verdicts, fence, changes }, hold)
    }

    /// Returns both halves of the guard of a stored claim.
    pub(crate) fn of_stored(pool: &Pool, by: Held, claim: StoredClaim) -> (Self, Hold) {
        let StoredClaim { until, lease, fence, batch, indexes, seen, standings } = claim;
        let verdict = |standing: &Standing| match standing {
            Standing::Held => ClaimVerdict::Claimed,
            Standing::Lost => ClaimVerdict::Lost,
            Standing::Settled => ClaimVerdict::Settled,
        };
        let indexes = indexes.into_iter().map(|index| index as usize);
        let verdicts = indexes.zip(standings.iter().map(verdict)).collect();
        let hold = Hold::new(Some(by), until, lease, standings);
        let seen = seen.iter().enumerate().filter(|(_, seen)| **seen > 0);
        let (batch, changes) = (Arc::new(batch), seen.map(|(position, _)| position).collect());
        (Self { pool: pool.clone(), batch, verdicts, fence: Some(fence), changes }, hold)
    }

    pub(crate) fn verdict(&self, index: usize) -> Option<&ClaimVerdict> {
        self.verdicts.get(self.position(index)?).map(|(_, verdict)| verdict)
    }

    pub(crate) fn partition<T>(&self, items: impl IntoIterator<Item = T>) -> Split<T> {
        let mut split = Split::default();
        let mut verdicts = self.verdicts.iter().peekable();
        for (index, item) in items.into_iter().enumerate() {
            match verdicts.next_if(|(of, _)| *of == index).map(|(_, verdict)| verdict) {
                Some(ClaimVerdict::Claimed) => split.fresh.push(item),
                Some(ClaimVerdict::Duplicate(_) | ClaimVerdict::Settled) => split.duplicates.push(item),
                Some(ClaimVerdict::InFlight { .. } | ClaimVerdict::Lost) => split.in_flight.push(item),
                None => split.unmatched.push(item),
            }
        }
        split
    }

    pub(crate) fn claimed<'i, T>(&self, items: &'i [T]) -> impl Iterator<Item = (usize, &'i T)> + use<'i, T> {
        let of_verdict = |(index, verdict): &(usize, ClaimVerdict)| {
            let item = items.get(*index).filter(|_| verdict.is_claimed())?;
            Some((*index, item))
        };
        self.verdicts.iter().filter_map(of_verdict).collect::<Vec<_>>().into_iter()
    }

    fn position(&self, index: usize) -> Option<usize> {
        self.verdicts.binary_search_by_key(&index, |(index, _)| *index).ok()
    }

    fn index_at(&self, position: usize) -> usize {
        self.verdicts.get(position).map_or(position, |(index, _)| *index)
    }

    /// Returns the index and the key of the item at a position.
    pub(crate) fn key_at(&self, position: usize) -> Option<(usize, Key<'_>)> {
        let item = self.batch.items().get(position)?;
        let key = Key::new(item.entity_type, self.batch.value(position));
        Some((self.index_at(position), Key { version: self.batch.version(position), ..key }))
    }
}

impl Hold {
    fn new(held: Option<Held>, until: Timestamp, lease: Duration, standings: Vec<Standing>) -> Self {
        let (unheard, unheard_released) = (BTreeMap::new(), 0);
        Self { held, until, lease, kept: None, standings, by_value: None, unheard, unheard_released }
    }

    /// Returns the positions of the items that the claim holds: claimed, and neither confirmed nor released
    /// yet.
    pub(crate) fn held_positions(&self) -> impl Iterator<Item = usize> {
        let standings = self.standings.iter().enumerate();
        standings.filter(|(_, standing)| **standing == Standing::Held).map(|(position, _)| position)
    }

    pub(crate) fn until(&self) -> Timestamp {
        self.kept.as_ref().map_or(self.until, |kept| kept.until())
    }

    pub(crate) fn token(&self, claimed: &Claimed) -> Option<ClaimToken> {
        let store = claimed.pool.backend().store_id();
        let Held { id, nonce } = self.held.filter(|_| self.open_positions().next().is_some())?;
        Some(ClaimToken { store, pool: claimed.pool.id(), claim: id, nonce })
    }

    /// Lets go of the claim without changing it, so that dropping the guard releases nothing.
    pub(crate) fn let_go(&mut self) {
        self.held = None;
        self.end_renewals();
    }

    /// Ends keeping the lease alive. A renewal that is under way has no effect any more.
    fn end_renewals(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.end();
        }
    }

    /// Returns the positions of the items that are neither confirmed nor released, including lost ones.
    fn open_positions(&self) -> impl Iterator<Item = usize> {
        let standings = self.standings.iter().enumerate();
        standings.filter(|(_, standing)| **standing != Standing::Settled).map(|(position, _)| position)
    }

    /// Returns the position and the index of each item that is neither confirmed nor released.
    pub(crate) fn open_items(&self, claimed: &Claimed) -> impl Iterator<Item = (usize, usize)> {
        self.open_positions().map(|position| (position, claimed.index_at(position)))
    }

    fn is_open_at(&self, position: usize) -> bool {
        self.standings.get(position).is_some_and(|standing| *standing != Standing::Settled)
    }

    /// Returns true if a call may name the item at a position. The item must be open, or settled by an
    /// unheard call; a release may not name an item that such a call confirmed.
    fn may_be_asked(&self, position: usize, settling: Settling) -> bool {
        self.is_open_at(position)
            || match self.unheard.get(&position) {
                Some(unheard) => settling == Settling::Confirming || unheard.is_none(),
                None => false,
            }
    }

    /// Returns the positions of the items that a call names, ascending and without repeats.
    fn asked(&mut self, claimed: &Claimed, which: Which<'_>, settling: Settling) -> Result<Vec<usize>> {
        let mut positions: Vec<usize> = match which {
            Which::Open => {
                let unheard = self.unheard.keys().copied();
                let unheard = unheard.filter(|position| self.may_be_asked(*position, settling));
                self.open_positions().chain(unheard).collect()
            }
            Which::Indexes(indexes) => self.asked_by_index(claimed, indexes, settling)?,
            Which::Keys(keys) => self.asked_by_key(claimed, keys, settling)?,
        };
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }

    fn asked_by_index(&self, claimed: &Claimed, indexes: &[usize], settling: Settling) -> Result<Vec<usize>> {
        let asked = |index: &usize| {
            let position = claimed.position(*index).filter(|position| self.may_be_asked(*position, settling));
            position.ok_or_else(|| {
                let text =
                    "the claim does not hold it: it was not claimed, or is confirmed or released already";
                Error::invalid_argument(text).with_item(*index)
            })
        };
        indexes.iter().map(asked).collect()
    }

    fn asked_by_key(&mut self, claimed: &Claimed, keys: &Batch, settling: Settling) -> Result<Vec<usize>> {
        if self.by_value.is_none() {
            let items = claimed.batch.items().iter().enumerate();
            let asked = items.filter(|(position, _)| self.may_be_asked(*position, Settling::Confirming));
            let by_value = asked.map(|(position, item)| (item.fingerprint, position)).collect();
            self.by_value = Some(by_value);
        }
        let mut positions = Vec::with_capacity(keys.len());
        for (number, item) in keys.items().iter().enumerate() {
            let position =
                self.by_value.as_ref().and_then(|by_value| by_value.get(&item.fingerprint).copied());
            let Some(position) = position.filter(|position| self.may_be_asked(*position, settling)) else {
                let text = format!(
                    "the claim does not hold {:?} of entity type {}: it was not claimed, or is confirmed or released \
                     already",
                    keys.value(number),
                    item.entity_type
                );
                return Err(Error::invalid_argument(text).with_item(number));
            };
            positions.push(position);
        }
        Ok(positions)
    }

    /// Returns the change that confirms some items, with their results.
    pub(crate) fn confirmation(
        &mut self,
        claimed: &Claimed,
        which: Which<'_>,
        results: Results,
    ) -> Result<Change<Vec<ClaimOutcome>>> {
        let asked = self.asked(claimed, which, Settling::Confirming)?;
        Ok(self.settlement(claimed, asked, results, |held, batch, settled| Operation::Confirm {
            held,
            batch,
            settled,
        }))
    }

    /// Returns the change that releases some items.
    pub(crate) fn release(&mut self, claimed: &Claimed, which: Which<'_>) -> Result<Change<u64>> {
        let asked = self.asked(claimed, which, Settling::Releasing)?;
        Ok(self.settlement(claimed, asked, Results::default(), |held, batch, settled| Operation::Release {
            held,
            batch,
            settled,
        }))
    }

    fn settlement<T: OfAnswer>(
        &self,
        claimed: &Claimed,
        asked: Vec<usize>,
        results: Results,
        operation: fn(Held, Arc<Batch>, Settled) -> Operation,
    ) -> Change<T> {
        let positions: Vec<usize> =
            asked.iter().copied().filter(|position| self.is_open_at(*position)).collect();
        let Some(held) = self.held.filter(|_| !positions.is_empty()) else {
            return Change { submission: None, positions: Vec::new(), asked };
        };
        // The number is below BATCH_MAX_ITEMS.
        let indexes = positions.iter().filter_map(|position| u32::try_from(claimed.index_at(*position)).ok());
        let indexes = indexes.collect();
        let is_change = |position: &usize| claimed.changes.binary_search(position).is_ok();
        let changes = positions.iter().copied().filter(is_change).collect();
        let bytes: usize = positions.iter().map(|position| claimed.batch.value(*position).len()).sum();
        let weight = Weight { items: positions.len(), bytes: bytes + results.bytes() };
        let results = results.of(&positions);
        let settled = Settled { positions: positions.clone(), indexes, results, changes };
        let operation = operation(held, Arc::clone(&claimed.batch), settled);
        let submission = Submission::new(claimed.pool.id(), weight, operation);
        Change { submission: Some(submission), positions, asked }
    }

    /// Records that items are settled. Call it once that is on disk.
    pub(crate) fn settle(&mut self, positions: &[usize]) {
        for position in positions {
            if let Some(standing) = self.standings.get_mut(*position) {
                *standing = Standing::Settled;
            }
        }
        if self.open_positions().next().is_none() {
            self.let_go();
        }
    }

    /// Records that items are confirmed, once that is on disk. The caller is waiting and receives the
    /// outcomes.
    pub(crate) fn confirm(
        &mut self,
        claimed: &Claimed,
        positions: &[usize],
        outcomes: Vec<ClaimOutcome>,
    ) -> Confirmation {
        self.settle(positions);
        let indexes = positions.iter().map(|position| claimed.index_at(*position));
        Confirmation::new(indexes.zip(outcomes).collect())
    }
}

/// These methods are only for guards of async code, whose callers may be gone when the answer arrives.
#[cfg(feature = "async")]
impl Hold {
    /// Records that items are confirmed, once that is on disk. Returns the outcomes of all requested items,
    /// and keeps them until they are [`heard`](Self::heard).
    pub(crate) fn confirm_unheard(
        &mut self,
        claimed: &Claimed,
        (positions, asked): (&[usize], &[usize]),
        outcomes: Vec<ClaimOutcome>,
    ) -> Confirmation {
        self.settle(positions);
        self.unheard.extend(positions.iter().copied().zip(outcomes.into_iter().map(Some)));
        let outcome = |position: &usize| {
            let unheard = self.unheard.get(position)?;
            // The item was released, so the claim does not hold it any more.
            let outcome = unheard.clone().unwrap_or(ClaimOutcome::LeaseLost);
            Some((claimed.index_at(*position), outcome))
        };
        Confirmation::new(asked.iter().filter_map(outcome).collect())
    }

    /// Records that items are released, once that is on disk. Returns the number of items released by this
    /// call and by unheard ones.
    pub(crate) fn release_unheard(&mut self, positions: &[usize], released: u64) -> u64 {
        self.settle(positions);
        self.unheard.extend(positions.iter().map(|position| (*position, None)));
        self.unheard_released += released;
        self.unheard_released
    }

    /// Records that the caller has received these outcomes.
    pub(crate) fn heard(&mut self, claimed: &Claimed, confirmation: &Confirmation) {
        for (index, _) in confirmation.outcomes() {
            let position = claimed.position(*index);
            if let Some(None) = position.and_then(|position| self.unheard.remove(&position)) {
                self.unheard_released = self.unheard_released.saturating_sub(1);
            }
        }
    }

    /// Records that the caller has received the number of released items.
    pub(crate) fn heard_released(&mut self) {
        self.unheard.retain(|_, outcome| outcome.is_some());
        self.unheard_released = 0;
    }
}

impl Hold {
    /// Returns the submission that restarts the lease, with a new length or its current one. Until it has an
    /// outcome, renewals are suspended, because a renewal under way could restart the lease with its former
    /// length.
    pub(crate) fn extension(
        &mut self,
        claimed: &Claimed,
        lease: Option<Duration>,
        keep: Keep,
    ) -> Result<(Extension, Submission<Timestamp>)> {
        let lease = lease.unwrap_or(self.lease);
        check_lease(lease)?;
        let was_kept = self.kept.is_some();
        if was_kept || keep == Keep::Alive {
            check_kept_lease(lease)?;
        }
        let Some(held) = self.held else {
            return Err(Error::new(
                ErrorKind::LeaseLost,
                "every item of the claim was confirmed, released or lost: it has no lease to extend",
            ));
        };
        self.until = self.until();
        self.end_renewals();
        let (batch, positions) = (Arc::clone(&claimed.batch), self.open_positions().collect());
        let extend = Operation::Extend { held, batch, positions, lease };
        let submission = Submission::new(claimed.pool.id(), Weight::ONE, extend);
        Ok((Extension { lease, keep, was_kept }, submission))
    }

    /// Records the outcome of an extension. After an error, the lease is unchanged.
    pub(crate) fn extended(
        &mut self,
        claimed: &Claimed,
        extension: Extension,
        extended: Result<Timestamp>,
    ) -> Result<Timestamp> {
        let Extension { lease, keep, was_kept } = extension;
        if let Ok(until) = extended {
            (self.until, self.lease) = (until, lease);
        }
        if (was_kept || keep == Keep::Alive && extended.is_ok())
            && let Some(held) = self.held
        {
            let kept = Kept::new(claimed.pool.id(), held, self.lease, self.until);
            let shared = claimed.pool.shared();
            shared.keep_alive.keep(&shared.backend, &kept)?;
            self.kept = Some(kept);
        }
        extended
    }
}

fn check_kept_lease(lease: Duration) -> Result<()> {
    if lease >= KEPT_LEASE_MIN {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "a lease of {lease:?} is too short to be kept alive; allowed are {KEPT_LEASE_MIN:?} (KEPT_LEASE_MIN) and more"
    ))
    .with_parameter("lease"))
}

/// An extension under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension {
    lease: Duration,
    keep: Keep,
    was_kept: bool,
}

/// The renewal of a lease after an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The store's thread renews it.
    Alive,
    /// As it was before.
    AsBefore,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::keep_alive::renew;
    use crate::{DataPoolStore, Origin};

    #[test]
    fn a_renewal_that_is_under_way_does_not_undo_an_extension() {
        let pool = DataPoolStore::in_memory().unwrap().get_or_create_pool("orders").unwrap();
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        let mut claim = pool.claim(&["a"], |value| Key::new(37, *value), &Origin::none(), minute).unwrap();
        claim.keep_alive().unwrap();
        let taken = claim.hold.kept.clone().unwrap();
        let until = claim.extend(hour).unwrap();
        assert!(renew(pool.backend(), vec![taken]).is_empty());
        assert_eq!(pool.claims().unwrap()[0].until, until);
        assert_eq!(renew(pool.backend(), vec![claim.hold.kept.clone().unwrap()]).len(), 1);
        assert!(claim.until() >= until);

        assert_eq!(claim.extend(KEPT_LEASE_MIN / 2).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(pool.claims().unwrap()[0].until >= until, "the lease is unchanged");
    }

    #[test]
    fn a_renewal_that_is_under_way_does_not_renew_a_claim_whose_guard_became_a_token() {
        let store = DataPoolStore::in_memory().unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        let mut claim = pool.claim(&["a"], |value| Key::new(37, *value), &Origin::none(), hour).unwrap();
        claim.keep_alive().unwrap();
        let taken = claim.hold.kept.clone().unwrap();
        let mut resumed = store.resume_claim(&claim.into_token().unwrap()).unwrap();
        let until = resumed.extend(minute).unwrap();
        assert!(renew(pool.backend(), vec![taken]).is_empty());
        assert_eq!(pool.claims().unwrap()[0].until, until);
    }

    #[test]
    fn a_lease_is_renewed_again_after_the_store_was_closed_and_opened() {
        let directory = tempfile::tempdir().unwrap();
        let store = DataPoolStore::open(directory.path().join("pools.redb")).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        let (minute, key) = (Duration::from_mins(1), |value: &&'static str| Key::new(37, *value));
        let mut claim = pool.claim(&["a"], key, &Origin::none(), minute).unwrap();
        claim.keep_alive().unwrap();
        let (kept, backend) = (claim.hold.kept.clone().unwrap(), pool.backend());
        store.close().unwrap();
        let again = renew(backend, vec![kept]);
        assert_eq!(again.len(), 1, "it is tried again");
        store.reopen().unwrap();
        let before = claim.until();
        assert_eq!(renew(backend, again).len(), 1);
        assert!(claim.until() >= before);
        claim.confirm().unwrap().all_confirmed().unwrap();

        let mut other = pool.claim(&["b"], key, &Origin::none(), minute).unwrap();
        other.keep_alive().unwrap();
        store.delete_pool(pool.id()).unwrap();
        assert!(renew(backend, other.hold.kept.clone().into_iter().collect()).is_empty());
    }
}
