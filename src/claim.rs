//! Claims: values held for one runner until its work is confirmed.
//!
//! The public face: each method is a few lines over the engine. What a claim answers is in [`crate::model`].

use std::sync::Arc;
use std::time::Duration;

use crate::dedupe::Split;
use crate::engine::batch::Batch;
use crate::engine::claims::Standing;
use crate::engine::draft::claims::{Held, Settled};
use crate::engine::{Group, Weight, random_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::limits::{LEASE_MAX, LEASE_MIN};
use crate::model::{ClaimInfo, ClaimToken, ClaimVerdict, Confirmation, Key, Origin};
use crate::pool::Pool;
use crate::store::DataPoolStore;
use crate::time::Timestamp;

/// Items that are held for one runner: nobody else is told that they are new while the lease runs.
///
/// Made by [`Pool::claim`], or from a token by [`DataPoolStore::resume_claim`]. Work on the items that are
/// [`Claimed`](ClaimVerdict::Claimed), then [`confirm`](Self::confirm): they are tracked, by the claim's origin. If the
/// work fails, [`release`](Self::release) them, and they are new again. Both work for some of the items, too.
///
/// **Dropping a claim releases** what is neither confirmed nor released, so that a flow that returns early or panics
/// blocks nobody. A drop cannot report an error: if the release fails, the lease ends the claim. The drop writes, and
/// blocks until the disk has answered. [`into_token`](Self::into_token) keeps the claim without the guard.
///
/// Everything that a claim's methods change is on disk when they return, whatever the store's durability.
///
/// # Leases
///
/// A lease that ran out frees the items for the next claimer, not before: confirming late succeeds as long as nobody
/// took them over (or an hour has passed: then the claim is swept). Leases run on the monotonic clock: setting the
/// system's clock neither ends nor stretches them. After the store is opened again, what is left of them is read from
/// the system's clock, and cut to the lease's length.
#[derive(Debug)]
#[must_use = "dropping a claim releases what it holds"]
pub struct Claim {
    pool: Pool,
    /// None once nothing is held any more.
    held: Option<Held>,
    until: Timestamp,
    batch: Arc<Batch>,
    verdicts: Vec<ClaimVerdict>,
    standings: Vec<Standing>,
}

impl Pool {
    /// Claims what is new of a batch: holds it until it is confirmed, released, or the lease runs out.
    ///
    /// One atomic step, as [`dedupe`](Self::dedupe): of several threads that bring the same new value at once, exactly
    /// one gets it. Within the batch the first of equal items is claimed; the repeats are duplicates.
    ///
    /// ```
    /// use std::time::Duration;
    /// use datapool_store::{ClaimVerdict, DataPoolStore, EntityTypeId, Key, Origin};
    ///
    /// const ORDERS: EntityTypeId = EntityTypeId::new(37);
    /// # fn deliver(_order: &str) -> Result<(), ()> { Ok(()) }
    /// # fn main() -> datapool_store::Result<()> {
    /// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let orders = vec!["A-1", "A-2"];
    /// let origin = Origin::new("shop", "run 1", "deliver");
    /// let mut claim = pool.claim(&orders, |o| Key::new(ORDERS, *o), &origin, Duration::from_secs(60))?;
    ///
    /// // Another run asks for the same order, and leaves it alone.
    /// let other = pool.claim(&["A-1"], |o| Key::new(ORDERS, *o), &Origin::none(), Duration::from_secs(60))?;
    /// assert!(matches!(other.verdicts()[0], ClaimVerdict::InFlight { .. }));
    ///
    /// for order in claim.partition(&orders).fresh {
    ///     if deliver(order).is_err() {
    ///         return Ok(()); // The claim is dropped: the orders are new for the next run.
    ///     }
    /// }
    /// claim.confirm()?.all_confirmed()?;
    /// assert!(pool.contains(Key::new(ORDERS, "A-1"))?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidArgument` or `LimitExceeded` for a bad key (with its [index](Error::item)) or origin, for more than
    /// 1,048,576 items, or for a lease outside 1 ms to 365 days; `NotFound`; `OutcomeUnknown` or `Storage` if the disk
    /// refuses. In all cases but `OutcomeUnknown` nothing was claimed.
    pub fn claim<'a, T>(
        &self,
        items: &'a [T],
        key: impl Fn(&'a T) -> Key<'a>,
        origin: &Origin,
        lease: Duration,
    ) -> Result<Claim> {
        origin.check()?;
        check_lease(lease)?;
        let engine = &self.shared().engine;
        let batch = Arc::new(Batch::from_keys(engine.hash_key(), items.iter().map(key))?.with_origin(origin));
        let (id, weight, asked) = (self.id(), Weight::of(&batch), Arc::clone(&batch));
        let nonce = u128::from_le_bytes(random_bytes()?);
        let grant = engine.submit(weight, move |group| group.pool(id)?.claim(&asked, lease, nonce))?;
        let (held, until, verdicts) = (grant.held, grant.until, grant.verdicts);
        let duplicates =
            verdicts.iter().filter(|verdict| matches!(verdict, ClaimVerdict::Duplicate { .. })).count();
        engine.counters().claim(verdicts.len(), duplicates);
        let standing = |verdict: &ClaimVerdict| match verdict {
            ClaimVerdict::Claimed => Standing::Held,
            _ => Standing::Settled,
        };
        let standings = verdicts.iter().map(standing).collect();
        Ok(Claim { pool: self.clone(), held, until, batch, verdicts, standings })
    }

    /// The claims on this pool that are neither settled nor swept, oldest first, lapsed ones included.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn claims(&self) -> Result<Vec<ClaimInfo>> {
        Ok(self.view()?.claims(self.shared().engine.clock().moment()))
    }
}

impl DataPoolStore {
    /// Takes up the claim that a token stands for, in this process or another one than made it.
    ///
    /// The items are those that the claim was made for, in their order, from index 0 on: [`keys`](Claim::keys) has those
    /// that it holds. Those that were confirmed or released are [`Settled`](ClaimVerdict::Settled); those that it does
    /// not hold any more are [`Lost`](ClaimVerdict::Lost), and confirming says what became of them. Taking up extends
    /// nothing: [`extend`](Claim::extend) does.
    ///
    /// A token can be taken up again, as long as the claim exists. Then there are two guards of one claim: who confirms an
    /// item first, wins, and dropping one of them releases the items for both.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the token is of another store; `LeaseLost` if the claim does not exist any more (it was
    /// settled, or swept an hour after its end); `NotFound` if the pool was deleted.
    pub fn resume_claim(&self, token: &ClaimToken) -> Result<Claim> {
        let engine = &self.shared().engine;
        if token.store != engine.store_id() {
            return Err(Error::invalid_argument("the token is of another store than this one"));
        }
        let pool = self.pool(token.pool)?;
        let view = pool.view()?;
        let claim = view.state.claims.get(token.claim, engine.clock().moment());
        let claim = claim.filter(|claim| claim.nonce == token.nonce).ok_or_else(|| {
            let text = format!(
                "claim {} on data pool {} does not exist any more: it was settled, or its lease ran out over an hour ago",
                token.claim, token.pool
            );
            Error::new(ErrorKind::LeaseLost, text)
        })?;
        let (batch, standings) = view.items_of_claim(token.claim, claim)?;
        let verdict = |standing: &Standing| match standing {
            Standing::Held => ClaimVerdict::Claimed,
            Standing::Lost => ClaimVerdict::Lost,
            Standing::Settled => ClaimVerdict::Settled,
        };
        let verdicts = standings.iter().map(verdict).collect();
        let (until, held) = (claim.until, Some(Held { id: token.claim, nonce: token.nonce }));
        Ok(Claim { pool, held, until, batch: Arc::new(batch), verdicts, standings })
    }
}

impl Claim {
    /// What the claim said of each item when it was made or taken up, in their order.
    pub fn verdicts(&self) -> &[ClaimVerdict] {
        &self.verdicts
    }

    /// Splits the caller's items: claimed ones are fresh; those that another runner holds or took over are in flight; those
    /// that were settled before the claim was taken up are duplicates.
    pub fn partition<T>(&self, items: impl IntoIterator<Item = T>) -> Split<T> {
        let mut split = Split::default();
        for (index, item) in items.into_iter().enumerate() {
            match self.verdicts.get(index) {
                Some(ClaimVerdict::Claimed) => split.fresh.push(item),
                Some(ClaimVerdict::Duplicate(_) | ClaimVerdict::Settled) => split.duplicates.push(item),
                Some(ClaimVerdict::InFlight { .. } | ClaimVerdict::Lost) => split.in_flight.push(item),
                None => split.unmatched.push(item),
            }
        }
        split
    }

    /// The items that are claimed and neither confirmed nor released yet: each index, and what was compared.
    pub fn keys(&self) -> impl Iterator<Item = (usize, Key<'_>)> {
        let items = self.batch.items().iter().zip(&self.standings).enumerate();
        let held = items.filter(|(_, (_, standing))| **standing == Standing::Held);
        held.map(|(index, (item, _))| (index, Key::new(item.entity_type, self.batch.value(index))))
    }

    /// How many items are claimed and neither confirmed nor released yet.
    pub fn held_count(&self) -> usize {
        self.standings.iter().filter(|standing| **standing == Standing::Held).count()
    }

    /// When the lease runs out, by the clock at its grant.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Tracks every item that is neither confirmed nor released yet, in one commit that also ends the claim.
    ///
    /// Each item has its own outcome: one that somebody took over does not keep the others from being confirmed; nor does
    /// one that was [`Lost`](ClaimVerdict::Lost) already when the claim was taken up, which has its outcome here as well.
    /// After an error the claim holds what it held, and can be confirmed again.
    ///
    /// # Errors
    ///
    /// `NotFound` if the pool was deleted; `OutcomeUnknown` or `Storage` if the disk refuses.
    pub fn confirm(&mut self) -> Result<Confirmation> {
        let items = self.open_items();
        self.confirm_checked(items)
    }

    /// Tracks some of the items, by index; the claim goes on holding the others.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an index that the claim does not hold, with that [index](Error::item), and nothing
    /// is confirmed; else as [`confirm`](Self::confirm).
    pub fn confirm_items(&mut self, indexes: &[usize]) -> Result<Confirmation> {
        let items = self.checked(indexes)?;
        self.confirm_checked(items)
    }

    /// Frees every item that is still held: they are new again. How many the claim owned until now; not counted are
    /// those that somebody else took over or tracked.
    ///
    /// # Errors
    ///
    /// As [`confirm`](Self::confirm).
    pub fn release(&mut self) -> Result<u64> {
        let items = self.open_items();
        self.release_checked(items)
    }

    /// Frees some of the items, by index; the claim goes on holding the others.
    ///
    /// # Errors
    ///
    /// As [`confirm_items`](Self::confirm_items).
    pub fn release_items(&mut self, indexes: &[usize]) -> Result<u64> {
        let items = self.checked(indexes)?;
        self.release_checked(items)
    }

    /// Has the lease begin anew, and last so long from now. When it runs out then.
    ///
    /// # Errors
    ///
    /// `LimitExceeded` for a lease outside 1 ms to 365 days; `LeaseLost` if the claim owns none of its items any more;
    /// else as [`confirm`](Self::confirm). The lease is then as it was.
    pub fn extend(&mut self, lease: Duration) -> Result<Timestamp> {
        check_lease(lease)?;
        let Some(held) = self.held else {
            return Err(Error::new(ErrorKind::LeaseLost, "the claim holds nothing (any more)"));
        };
        let (pool, batch, items) = (self.pool.id(), Arc::clone(&self.batch), self.open_items());
        let extend = move |group: &mut Group<'_>| group.pool(pool)?.extend(held, &batch, &items, lease);
        self.until = self.pool.shared().engine.submit(Weight { items: 1, bytes: 0 }, extend)?;
        Ok(self.until)
    }

    /// Gives the guard up and keeps the claim: whoever has the token can [take it up](DataPoolStore::resume_claim).
    /// None if the claim holds nothing.
    pub fn into_token(mut self) -> Option<ClaimToken> {
        let store = self.pool.shared().engine.store_id();
        let Held { id, nonce } = self.held.take().filter(|_| !self.open_items().is_empty())?;
        Some(ClaimToken { store, pool: self.pool.id(), claim: id, nonce })
    }

    fn is_open(&self, index: usize) -> bool {
        self.standings.get(index).is_some_and(|standing| *standing != Standing::Settled)
    }

    /// What is neither confirmed nor released, though some of it may be lost.
    fn open_items(&self) -> Vec<usize> {
        (0..self.standings.len()).filter(|index| self.is_open(*index)).collect()
    }

    /// Indexes of open items, ascending, each once.
    fn checked(&self, indexes: &[usize]) -> Result<Vec<usize>> {
        if let Some(index) = indexes.iter().find(|index| !self.is_open(**index)) {
            let text = "the claim does not hold it: it was not claimed, or is confirmed or released already";
            return Err(Error::invalid_argument(text).with_item(*index));
        }
        let mut items = indexes.to_vec();
        items.sort_unstable();
        items.dedup();
        Ok(items)
    }

    /// The places of items, ascending, among those that the claim was made for.
    fn places(&self, items: &[usize]) -> Vec<u32> {
        let is_claimed = |verdict: &ClaimVerdict| {
            !matches!(verdict, ClaimVerdict::InFlight { .. } | ClaimVerdict::Duplicate(_))
        };
        let claimed = self.verdicts.iter().enumerate().filter(|(_, verdict)| is_claimed(verdict));
        let places = (0_u32..).zip(claimed.map(|(index, _)| index));
        places.filter(|(_, index)| items.binary_search(index).is_ok()).map(|(place, _)| place).collect()
    }

    fn confirm_checked(&mut self, items: Vec<usize>) -> Result<Confirmation> {
        let outcomes = self.settle(&items, |held, batch, settled, group, pool| {
            group.pool(pool)?.confirm(held, batch, settled)
        })?;
        Ok(Confirmation::new(items.into_iter().zip(outcomes.unwrap_or_default()).collect()))
    }

    fn release_checked(&mut self, items: Vec<usize>) -> Result<u64> {
        let released = self.settle(&items, |held, batch, settled, group, pool| {
            group.pool(pool)?.release(held, batch, settled)
        })?;
        Ok(released.unwrap_or_default())
    }

    /// Has items settled, and remembers it once that is on disk. Nothing if there are none.
    fn settle<R: Send + 'static>(
        &mut self,
        items: &[usize],
        operation: fn(Held, &Arc<Batch>, &Settled, &mut Group<'_>, PoolId) -> Result<R>,
    ) -> Result<Option<R>> {
        let Some(held) = self.held.filter(|_| !items.is_empty()) else { return Ok(None) };
        let all = items.len() == self.open_items().len();
        let places = if all { None } else { Some(self.places(items)) };
        let settled = Settled { items: items.to_vec(), places };
        let bytes = items.iter().map(|index| self.batch.value(*index).len()).sum();
        let (weight, pool, batch) =
            (Weight { items: items.len(), bytes }, self.pool.id(), Arc::clone(&self.batch));
        let engine = &self.pool.shared().engine;
        let answer = engine.submit(weight, move |group| operation(held, &batch, &settled, group, pool))?;
        for index in items {
            if let Some(standing) = self.standings.get_mut(*index) {
                *standing = Standing::Settled;
            }
        }
        if all {
            self.held = None;
        }
        Ok(Some(answer))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure: the lease ends the claim.
        let _ = self.release();
    }
}

fn check_lease(lease: Duration) -> Result<()> {
    if (LEASE_MIN..=LEASE_MAX).contains(&lease) {
        return Ok(());
    }
    Err(Error::limit_exceeded(format!(
        "a lease of {lease:?} is out of range; allowed are {LEASE_MIN:?} to {LEASE_MAX:?} (LEASE_MIN, LEASE_MAX)"
    ))
    .with_parameter("lease"))
}
