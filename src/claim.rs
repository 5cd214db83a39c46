//! Claims: values held for one runner until its work is confirmed.
//!
//! Part of the public API: each method is a few lines over the engine. The calls of a pool and of a store are in [`calls`]; the
//! verdicts and outcomes of claims are in [`crate::model`].

mod calls;

use std::sync::Arc;
use std::time::Duration;

use crate::dedupe::Split;
use crate::engine::pool::batch::{Batch, Positions};
use crate::engine::pool::claims::ClaimState;
use crate::engine::read::claims::{ClaimItems, Standing};
use crate::engine::read::view::View;
use crate::engine::write::draft::claims::{Held, Settled};
use crate::engine::write::group::Group;
use crate::engine::write::keep_alive::Kept;
use crate::engine::write::queue::Weight;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::limits::KEPT_LEASE_MIN;
use crate::model::{ClaimToken, ClaimVerdict, Confirmation, Key, check_lease};
use crate::pool::Pool;
use crate::time::Timestamp;

/// New items that one runner holds. While the lease runs, no other caller gets them as new.
///
/// Made by [`Pool::claim`] and [`Pool::claim_with`]; taken up from a token by
/// [`DataPoolStore::resume_claim`](crate::DataPoolStore::resume_claim), and for an owner by
/// [`Pool::resume_claims_of`]. Process the items whose verdict is [`Claimed`](ClaimVerdict::Claimed), then [`confirm`](Self::confirm) them: they are tracked, with the claim's origin.
/// If the work fails, [`release`](Self::release) them: they are new again. Both also work for some of the items.
///
/// **Dropping a claim releases** the items that are neither confirmed nor released, so that a flow that returns early
/// or panics blocks no other runner. A drop cannot report an error: if the release fails, the items stay held until the
/// lease ends. The drop writes, and blocks until the disk has answered. [`into_token`](Self::into_token) keeps the
/// claim without the guard.
///
/// Everything that a claim's methods change is on disk when they return, whatever the store's durability.
///
/// # Items
///
/// An item is named by its index in the batch that was claimed, as long as the claim exists: tokens and restarts do not
/// change it. If only values are known, [`confirm_keys`](Self::confirm_keys) and [`release_keys`](Self::release_keys)
/// name items by key.
///
/// # Leases
///
/// Once a lease has run out, the next claimer may take the items. As long as no other caller has taken them, confirming
/// late succeeds, for up to an hour; then the claim is swept. Leases run on the monotonic clock: setting the system's
/// clock neither ends nor extends them. After the store is opened again, the rest of a lease is read from the system's
/// clock, and cut to the lease's length.
#[derive(Debug)]
#[must_use = "dropping a claim releases what it holds"]
pub struct Claim {
    pool: Pool,
    /// `None` once the claim holds nothing.
    held: Option<Held>,
    until: Timestamp,
    lease: Duration,
    fence: Option<u64>,
    /// The lease is renewed as long as this is kept.
    kept: Option<Arc<Kept>>,
    /// The whole batch; for a claim that was taken up, only the items that were claimed.
    batch: Arc<Batch>,
    /// For each item of the batch, in order: its index in the batch that was claimed, and its verdict.
    verdicts: Vec<(usize, ClaimVerdict)>,
    standings: Vec<Standing>,
    /// The position in the batch of each open item's value; made when first needed.
    by_value: Option<Positions>,
}

impl Claim {
    /// Creates a guard of a claim that is stored.
    fn of_stored(pool: &Pool, view: &View, held: Held, claim: &ClaimState) -> Result<Self> {
        let ClaimItems { batch, indexes, standings } = view.items_of_claim(held.id, claim)?;
        let verdict = |standing: &Standing| match standing {
            Standing::Held => ClaimVerdict::Claimed,
            Standing::Lost => ClaimVerdict::Lost,
            Standing::Settled => ClaimVerdict::Settled,
        };
        let indexes = indexes.into_iter().map(|index| index as usize);
        let verdicts = indexes.zip(standings.iter().map(verdict)).collect();
        Ok(Self {
            pool: pool.clone(),
            held: Some(held),
            until: claim.until,
            lease: claim.lease,
            fence: Some(claim.fence),
            kept: None,
            batch: Arc::new(batch),
            verdicts,
            standings,
            by_value: None,
        })
    }

    /// Returns the verdict of each item when the claim was made or taken up, with the item's index, ascending.
    ///
    /// A new claim has a verdict for each item of the batch. A claim that was taken up has one for each item that was
    /// claimed: it does not know the others.
    pub fn verdicts(&self) -> &[(usize, ClaimVerdict)] {
        &self.verdicts
    }

    /// Returns the verdict of the item with this index, or `None` if [`verdicts`](Self::verdicts) has none.
    pub fn verdict(&self, index: usize) -> Option<&ClaimVerdict> {
        self.verdicts.get(self.position(index)?).map(|(_, verdict)| verdict)
    }

    /// Splits the batch that was claimed. Claimed items are fresh. Items that another runner holds or took over are in
    /// flight. Items that were settled before the claim was taken up are duplicates. Items without a verdict are
    /// unmatched: all but the claimed ones, if the claim was taken up.
    pub fn partition<T>(&self, items: impl IntoIterator<Item = T>) -> Split<T> {
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

    /// Returns the items that are claimed and neither confirmed nor released yet: the index and the key of each.
    pub fn keys(&self) -> impl Iterator<Item = (usize, Key<'_>)> {
        let items = self.batch.items().iter().zip(&self.verdicts).zip(&self.standings).enumerate();
        let held = items.filter(|(_, (_, standing))| **standing == Standing::Held);
        held.map(|(position, ((item, (index, _)), _))| {
            (*index, Key::new(item.entity_type, self.batch.value(position)))
        })
    }

    /// Returns the number of items that are neither confirmed nor released yet.
    pub fn held_count(&self) -> usize {
        self.standings.iter().filter(|standing| **standing == Standing::Held).count()
    }

    /// Returns the expiry of the lease, by the clock when it was granted.
    pub fn until(&self) -> Timestamp {
        self.kept.as_ref().map_or(self.until, |kept| kept.until())
    }

    /// Returns the fencing number of this grant; `None` if nothing was claimed.
    ///
    /// In a pool, each grant has a higher number than all before it. The number is the highest so far plus one, or the
    /// wall clock in microseconds if that is higher: so the numbers also grow after a backup was restored, unless the
    /// system's clock was set back. A system that the runner writes to can refuse a writer with a lower number than the
    /// highest it has seen: so a runner whose lease has ended does no harm. [`extend`](Self::extend) and [`resume_claim`](crate::DataPoolStore::resume_claim) keep the
    /// number; [`resume_claims_of`](Pool::resume_claims_of) is a new grant.
    ///
    /// See Kleppmann, "How to do distributed locking" (2016).
    pub fn fencing_number(&self) -> Option<u64> {
        self.fence
    }

    /// Returns the claim's token, to be stored before the work begins: if this process dies, another one [takes the claim
    /// up](crate::DataPoolStore::resume_claim) by it. The guard goes on, and still releases when it is dropped. `None` if every item
    /// is confirmed or released.
    pub fn token(&self) -> Option<ClaimToken> {
        let store = self.pool.shared().engine.store_id();
        let Held { id, nonce } = self.held.filter(|_| !self.open_positions().is_empty())?;
        Some(ClaimToken { store, pool: self.pool.id(), claim: id, nonce })
    }

    /// Tracks every item that is neither confirmed nor released yet, in one commit that also ends the claim.
    ///
    /// Each item has its own outcome. An item that another caller took over does not keep the others from being
    /// confirmed. Neither does an item that was [`Lost`](ClaimVerdict::Lost) when the claim was taken up; it has an
    /// outcome, too. After an error the claim holds what it held before, and can be confirmed again.
    ///
    /// # Errors
    ///
    /// `NotFound` if the pool was deleted; `StorageFull`, `OutcomeUnknown` or `Storage` if the disk refuses.
    pub fn confirm(&mut self) -> Result<Confirmation> {
        let positions = self.open_positions();
        self.confirm_at(positions)
    }

    /// Tracks some of the items, by index. The claim keeps the others.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an index that the claim does not hold, with that [index](Error::item), and nothing
    /// is confirmed; also the errors of [`confirm`](Self::confirm).
    pub fn confirm_items(&mut self, indexes: &[usize]) -> Result<Confirmation> {
        let positions = self.positions_of(indexes)?;
        self.confirm_at(positions)
    }

    /// Tracks some of the items, by key. The claim keeps the others.
    ///
    /// The outcomes carry the items' indexes in the batch that was claimed, ascending.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a key that the claim does not hold, with its [index](Error::item) in `keys`, and nothing is
    /// confirmed. `InvalidArgument` or `LimitExceeded` for a bad key, or for more than 1,048,576 keys. Also
    /// the errors of [`confirm`](Self::confirm).
    pub fn confirm_keys(&mut self, keys: &[Key<'_>]) -> Result<Confirmation> {
        let positions = self.positions_of_keys(keys)?;
        self.confirm_at(positions)
    }

    /// Frees every item that is still held: the items are new again. Returns the number of items that the claim owned
    /// until now. Items that another caller took over or tracked do not count.
    ///
    /// # Errors
    ///
    /// The errors of [`confirm`](Self::confirm).
    pub fn release(&mut self) -> Result<u64> {
        let positions = self.open_positions();
        self.release_at(positions)
    }

    /// Frees some of the items, by index. The claim keeps the others.
    ///
    /// # Errors
    ///
    /// The errors of [`confirm_items`](Self::confirm_items).
    pub fn release_items(&mut self, indexes: &[usize]) -> Result<u64> {
        let positions = self.positions_of(indexes)?;
        self.release_at(positions)
    }

    /// Frees some of the items, by key. The claim keeps the others.
    ///
    /// # Errors
    ///
    /// The errors of [`confirm_keys`](Self::confirm_keys).
    pub fn release_keys(&mut self, keys: &[Key<'_>]) -> Result<u64> {
        let positions = self.positions_of_keys(keys)?;
        self.release_at(positions)
    }

    /// Restarts the lease with a new length, and returns its new expiry.
    ///
    /// # Errors
    ///
    /// `LimitExceeded` for a lease outside 1 ms to 365 days; `InvalidArgument` for one of less than 1 s if the claim is
    /// [kept alive](Self::keep_alive); `LeaseLost` if the claim owns none of its items any more; also the errors of
    /// [`confirm`](Self::confirm). After an error, the lease is unchanged.
    pub fn extend(&mut self, lease: Duration) -> Result<Timestamp> {
        check_lease(lease)?;
        if self.kept.is_some() {
            check_kept_lease(lease)?;
        }
        let Some(held) = self.held else {
            return Err(Error::new(
                ErrorKind::LeaseLost,
                "every item of the claim was confirmed, released or lost: it has no lease to extend",
            ));
        };
        let (pool, batch, items) = (self.pool.id(), Arc::clone(&self.batch), self.open_positions());
        let extend = move |group: &mut Group<'_>| group.pool(pool)?.extend(held, &batch, &items, lease);
        self.until = self.until();
        let kept = self.kept.take();
        // NOTE: before the lease changes, or a renewal that is under way could restart it with its former length.
        kept.iter().for_each(|kept| kept.end());
        let extended = self.pool.shared().engine.submit(Weight { items: 1, bytes: 0 }, extend);
        if let Ok(until) = extended {
            (self.until, self.lease) = (until, lease);
        }
        if kept.is_some() {
            self.keep()?;
        }
        extended
    }

    /// Renews the lease for as long as this guard lives: at once, and then each time a third of its length has passed.
    /// One thread of the store does so for all claims; it starts with the first.
    ///
    /// A lease ends all the same if the disk refuses, if the process is stopped for longer than the lease, or if a call
    /// that has the writer to itself (an import, a rebuild, compacting) takes longer. Then other runners may take the
    /// items, and the guard's next call says so: [`confirm`](Self::confirm) in its outcomes, others by
    /// `LeaseLost`. With a [`ManualClock`](crate::ManualClock), the thirds are of real time.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a lease of less than 1 s; also the errors of [`extend`](Self::extend).
    pub fn keep_alive(&mut self) -> Result<()> {
        check_kept_lease(self.lease)?;
        self.extend(self.lease)?;
        self.keep()
    }

    /// Has the store's thread renew the lease.
    fn keep(&mut self) -> Result<()> {
        let Some(held) = self.held else { return Ok(()) };
        let kept = Kept::new(self.pool.id(), held, self.lease, self.until);
        let shared = self.pool.shared();
        shared.keep_alive.keep(&shared.engine, &kept)?;
        self.kept = Some(kept);
        Ok(())
    }

    /// Gives up the guard and keeps the claim: any process with the token can [take it
    /// up](crate::DataPoolStore::resume_claim). Returns `None` if every item is confirmed or released. Items that the claim
    /// has [lost](ClaimVerdict::Lost) count as open: confirming them returns what became of each.
    #[must_use = "without its token only its owner can take the claim up before its lease ends"]
    pub fn into_token(mut self) -> Option<ClaimToken> {
        let token = self.token();
        (self.held, self.kept) = (None, None);
        token
    }

    fn position(&self, index: usize) -> Option<usize> {
        self.verdicts.binary_search_by_key(&index, |(index, _)| *index).ok()
    }

    fn is_open(&self, position: usize) -> bool {
        self.standings.get(position).is_some_and(|standing| *standing != Standing::Settled)
    }

    /// Returns the positions in the batch of the items that are neither confirmed nor released. Some may be lost.
    fn open_positions(&self) -> Vec<usize> {
        (0..self.standings.len()).filter(|position| self.is_open(*position)).collect()
    }

    /// Returns the positions in the batch of the open items with these indexes: ascending, each once.
    fn positions_of(&self, indexes: &[usize]) -> Result<Vec<usize>> {
        let open = |index: &usize| {
            let position = self.position(*index).filter(|position| self.is_open(*position));
            position.ok_or_else(|| {
                let text =
                    "the claim does not hold it: it was not claimed, or is confirmed or released already";
                Error::invalid_argument(text).with_item(*index)
            })
        };
        Ok(in_order(indexes.iter().map(open).collect::<Result<_>>()?))
    }

    /// Returns the positions in the batch of the open items with these keys: ascending, each once.
    fn positions_of_keys(&mut self, keys: &[Key<'_>]) -> Result<Vec<usize>> {
        let asked = Batch::from_keys(self.pool.shared().engine.hash_key(), keys.iter().cloned())?;
        let by_value = self.by_value.get_or_insert_with(|| {
            let items = self.batch.items().iter().zip(&self.standings).enumerate();
            let open = items.filter(|(_, (_, standing))| **standing != Standing::Settled);
            open.map(|(position, (item, _))| (item.fingerprint, position)).collect()
        });
        let mut positions = Vec::with_capacity(keys.len());
        for (number, (item, key)) in asked.items().iter().zip(keys).enumerate() {
            let position = by_value.get(&item.fingerprint);
            let is_open =
                |position: &&usize| self.standings.get(**position).is_some_and(|of| *of != Standing::Settled);
            let Some(position) = position.filter(is_open) else {
                let text = format!(
                    "the claim does not hold {:?} of entity type {}: it was not claimed, or is confirmed or released \
                     already",
                    key.value(),
                    key.entity_type()
                );
                return Err(Error::invalid_argument(text).with_item(number));
            };
            positions.push(*position);
        }
        Ok(in_order(positions))
    }

    fn index_at(&self, position: usize) -> usize {
        self.verdicts.get(position).map_or(position, |(index, _)| *index)
    }

    fn confirm_at(&mut self, positions: Vec<usize>) -> Result<Confirmation> {
        let outcomes = self.settle(&positions, |held, batch, settled, group, pool| {
            group.pool(pool)?.confirm(held, batch, settled)
        })?;
        let indexes = positions.iter().map(|position| self.index_at(*position));
        Ok(Confirmation::new(indexes.zip(outcomes.unwrap_or_default()).collect()))
    }

    fn release_at(&mut self, positions: Vec<usize>) -> Result<u64> {
        let released = self.settle(&positions, |held, batch, settled, group, pool| {
            group.pool(pool)?.release(held, batch, settled)
        })?;
        Ok(released.unwrap_or_default())
    }

    /// Settles items, and records that once it is on disk. Returns `None` if there are none.
    fn settle<R: Send + 'static>(
        &mut self,
        positions: &[usize],
        operation: fn(Held, &Arc<Batch>, &Settled, &mut Group<'_>, PoolId) -> Result<R>,
    ) -> Result<Option<R>> {
        let Some(held) = self.held.filter(|_| !positions.is_empty()) else { return Ok(None) };
        let all = positions.len() == self.open_positions().len();
        // Below BATCH_MAX_ITEMS.
        let indexes = positions.iter().filter_map(|position| u32::try_from(self.index_at(*position)).ok());
        let settled = Settled { positions: positions.to_vec(), indexes: indexes.collect() };
        let bytes = positions.iter().map(|position| self.batch.value(*position).len()).sum();
        let (weight, pool, batch) =
            (Weight { items: positions.len(), bytes }, self.pool.id(), Arc::clone(&self.batch));
        let engine = &self.pool.shared().engine;
        let answer = engine.submit(weight, move |group| operation(held, &batch, &settled, group, pool))?;
        for position in positions {
            if let Some(standing) = self.standings.get_mut(*position) {
                *standing = Standing::Settled;
            }
        }
        if all {
            (self.held, self.kept) = (None, None);
        }
        Ok(Some(answer))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A drop cannot report a failure: the lease ends the claim.
        let _ = self.release();
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

/// Sorts the positions, and removes repeats.
fn in_order(mut positions: Vec<usize>) -> Vec<usize> {
    positions.sort_unstable();
    positions.dedup();
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataPoolStore, Origin};

    #[test]
    fn a_renewal_that_is_under_way_does_not_undo_an_extension() {
        let pool = DataPoolStore::in_memory().unwrap().get_or_create_pool("orders").unwrap();
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        let mut claim = pool.claim(&["a"], |value| Key::new(37, *value), &Origin::none(), minute).unwrap();
        claim.keep_alive().unwrap();
        let taken = claim.kept.clone().unwrap();
        let until = claim.extend(hour).unwrap();
        assert!(pool.shared().engine.renew(vec![taken]).is_empty());
        assert_eq!(pool.claims().unwrap()[0].until, until);
        assert_eq!(pool.shared().engine.renew(vec![claim.kept.clone().unwrap()]).len(), 1);
        assert!(claim.until() >= until);

        assert_eq!(claim.extend(KEPT_LEASE_MIN / 2).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(pool.claims().unwrap()[0].until >= until, "the lease is unchanged");
    }
}
