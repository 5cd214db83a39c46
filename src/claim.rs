//! Claims: values held for one runner until its work is confirmed.
//!
//! Part of the public API: each method is a few lines over the backend. The calls of a pool and of a store are in [`calls`]; the
//! verdicts and outcomes of claims are in [`crate::model`].

mod calls;
pub(crate) mod hold;
pub(crate) mod results;

use std::time::Duration;

use self::hold::{Change, Claimed, Hold, Keep, Which};
use self::results::Results;
use crate::backend::Backend;
use crate::dedupe::Split;
use crate::error::Result;
use crate::model::{ClaimToken, ClaimVerdict, Confirmation, Key};
use crate::time::Timestamp;

/// New items that one runner holds. While the lease runs, no other caller gets them as new.
///
/// Made by [`Pool::claim`](crate::Pool::claim) and [`Pool::claim_with`](crate::Pool::claim_with); taken up from a token by
/// [`DataPoolStore::resume_claim`](crate::DataPoolStore::resume_claim), and for an owner by
/// [`Pool::resume_claims_of`](crate::Pool::resume_claims_of). Process the items whose verdict is
/// [`Claimed`](ClaimVerdict::Claimed), then [`confirm`](Self::confirm) them: they are tracked, with the claim's origin.
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
#[doc(alias("lock", "lease", "guard", "reservation"))]
pub struct Claim {
    claimed: Claimed,
    hold: Hold,
}

impl Claim {
    pub(crate) fn new((claimed, hold): (Claimed, Hold)) -> Self {
        Self { claimed, hold }
    }

    /// Returns the verdict of each item when the claim was made or taken up, with the item's index, ascending.
    ///
    /// A new claim has a verdict for each item of the batch. A claim that was taken up has one for each item that was
    /// claimed: it does not know the others.
    pub fn verdicts(&self) -> &[(usize, ClaimVerdict)] {
        &self.claimed.verdicts
    }

    /// Returns the verdict of the item with this index, or `None` if [`verdicts`](Self::verdicts) has none.
    pub fn verdict(&self, index: usize) -> Option<&ClaimVerdict> {
        self.claimed.verdict(index)
    }

    /// Returns the items of the batch that was claimed whose verdict is [`Claimed`](ClaimVerdict::Claimed), in order, each with
    /// its index. An index past the end of `items` is left out. The iterator does not borrow the claim, so that each item can
    /// be confirmed as it is done.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use datapool_store::{DataPoolStore, Key, Origin};
    /// # fn deliver(_order: &str) -> bool { true }
    /// # fn main() -> datapool_store::Result<()> {
    /// # let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let orders = vec!["A-1", "A-2"];
    /// let mut claim = pool.claim(&orders, |o| Key::new(37, *o), &Origin::none(), Duration::from_secs(60))?;
    /// for (index, order) in claim.claimed(&orders) {
    ///     if deliver(order) {
    ///         claim.confirm_items(&[index])?.all_confirmed()?;
    ///     }
    /// }
    /// # assert_eq!(claim.held_count(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn claimed<'i, T>(&self, items: &'i [T]) -> impl Iterator<Item = (usize, &'i T)> + use<'i, T> {
        self.claimed.claimed(items)
    }

    /// Splits the batch that was claimed. Claimed items are fresh. Items that another runner holds or took over are in
    /// flight. Items that were settled before the claim was taken up are duplicates. Items without a verdict are
    /// unmatched: all but the claimed ones, if the claim was taken up.
    pub fn partition<T>(&self, items: impl IntoIterator<Item = T>) -> Split<T> {
        self.claimed.partition(items)
    }

    /// Returns the items that are claimed and neither confirmed nor released yet: the index and the key of each.
    pub fn keys(&self) -> impl Iterator<Item = (usize, Key<'_>)> {
        self.hold.held_positions().filter_map(|position| self.claimed.key_at(position))
    }

    /// Returns the number of items that are neither confirmed nor released yet.
    pub fn held_count(&self) -> usize {
        self.hold.held_positions().count()
    }

    /// Returns the expiry of the lease, by the clock when it was granted.
    pub fn until(&self) -> Timestamp {
        self.hold.until()
    }

    /// Returns the fencing number of this grant; `None` if nothing was claimed.
    ///
    /// In a pool, each grant has a higher number than all before it. The number is the highest so far plus one, or the
    /// wall clock in microseconds if that is higher: so the numbers also grow after a backup was restored, unless the
    /// system's clock was set back. A system that the runner writes to can refuse a writer with a lower number than the
    /// highest it has seen: so a runner whose lease has ended does no harm. [`extend`](Self::extend) and
    /// [`resume_claim`](crate::DataPoolStore::resume_claim) keep the number;
    /// [`resume_claims_of`](crate::Pool::resume_claims_of) is a new grant.
    ///
    /// See Kleppmann, "How to do distributed locking" (2016).
    pub fn fencing_number(&self) -> Option<u64> {
        self.claimed.fence
    }

    /// Returns the claim's token, to be stored before the work begins: if this process dies, another one [takes the claim
    /// up](crate::DataPoolStore::resume_claim) by it. The guard goes on, and still releases when it is dropped. `None` if every item
    /// is confirmed or released.
    pub fn token(&self) -> Option<ClaimToken> {
        self.hold.token(&self.claimed)
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
    #[doc(alias("ack", "commit", "complete"))]
    pub fn confirm(&mut self) -> Result<Confirmation> {
        self.confirm_some(Which::Open, Results::default())
    }

    /// Like [`confirm`](Self::confirm), and keeps results with the records: what `result` returns for an item, from the
    /// item's index in the batch that was claimed. `None` keeps nothing. A later duplicate gets the bytes by
    /// [`Pool::result`](crate::Pool::result) or [`Pool::results`](crate::Pool::results), so that a receiver can answer a
    /// repeated request as it answered the first.
    ///
    /// `result` runs once for each item that is neither confirmed nor released yet, in the order of their indexes, on the
    /// calling thread, before anything is locked or written, so it may call the store. A `Vec` or a `String` is taken
    /// without a copy. If `result` panics, nothing is confirmed, and the claim stays open. The result of an item that is
    /// not [`Confirmed`](crate::ClaimOutcome::Confirmed) is dropped.
    ///
    /// A result goes when its record goes: it is not returned any more once the record is deleted or has expired. The
    /// space is given back with that of the record's segment. Checks, listings and exports do not read results, and a
    /// copy by export and import has none.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use datapool_store::{ClaimVerdict, DataPoolStore, EntityTypeId, Key, Origin};
    /// # const REQUESTS: EntityTypeId = EntityTypeId::new(1);
    /// # fn main() -> datapool_store::Result<()> {
    /// # let pool = DataPoolStore::in_memory()?.get_or_create_pool("requests")?;
    /// let (key, lease) = (|id: &&'static str| Key::new(REQUESTS, *id), Duration::from_secs(60));
    /// let mut claim = pool.claim(&["r-1"], key, &Origin::none(), lease)?;
    /// claim.confirm_with(|_| Some("201 Created"))?.all_confirmed()?;
    ///
    /// let again = pool.claim(&["r-1"], key, &Origin::none(), lease)?;
    /// let Some(ClaimVerdict::Duplicate(Some(first))) = again.verdict(0) else { panic!("it is tracked") };
    /// assert_eq!(pool.result(first.id)?.as_deref(), Some(b"201 Created".as_slice()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `LimitExceeded` for a result of more than 65,536 bytes ([`RESULT_MAX_BYTES`](crate::limits::RESULT_MAX_BYTES)), or
    /// for results of more than 67,108,864 bytes together ([`RESULTS_MAX_BYTES`](crate::limits::RESULTS_MAX_BYTES)), with
    /// the [index](crate::Error::item) of the item that goes over: nothing is confirmed, and the claim stays open. Also
    /// the errors of [`confirm`](Self::confirm).
    #[doc(alias("response", "idempotency", "ack"))]
    pub fn confirm_with<B: Into<Vec<u8>>>(
        &mut self,
        result: impl FnMut(usize) -> Option<B>,
    ) -> Result<Confirmation> {
        let results = Results::collect(self.hold.open_items(&self.claimed), result)?;
        self.confirm_some(Which::Open, results)
    }

    /// Tracks some of the items, by index. The claim keeps the others.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an index that the claim does not hold, with that [index](crate::Error::item), and nothing
    /// is confirmed; also the errors of [`confirm`](Self::confirm).
    pub fn confirm_items(&mut self, indexes: &[usize]) -> Result<Confirmation> {
        self.confirm_some(Which::Indexes(indexes), Results::default())
    }

    /// Tracks some of the items, by key without its version. The claim keeps the others.
    ///
    /// The outcomes carry the items' indexes in the batch that was claimed, ascending.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a key that the claim does not hold, with its [index](crate::Error::item) in `keys`, and nothing is
    /// confirmed. `InvalidArgument` or `LimitExceeded` for a bad key, or for more than 1,048,576 keys. Also
    /// the errors of [`confirm`](Self::confirm).
    pub fn confirm_keys(&mut self, keys: &[Key<'_>]) -> Result<Confirmation> {
        self.confirm_some(Which::Keys(&self.claimed.pool.hashed(keys)?), Results::default())
    }

    /// Frees every item that is still held: the items are new again. Returns the number of items that the claim owned
    /// until now. Items that another caller took over or tracked do not count.
    ///
    /// # Errors
    ///
    /// The errors of [`confirm`](Self::confirm).
    #[doc(alias("nack", "unlock", "rollback", "abort"))]
    pub fn release(&mut self) -> Result<u64> {
        self.release_some(Which::Open)
    }

    /// Frees some of the items, by index. The claim keeps the others.
    ///
    /// # Errors
    ///
    /// The errors of [`confirm_items`](Self::confirm_items).
    pub fn release_items(&mut self, indexes: &[usize]) -> Result<u64> {
        self.release_some(Which::Indexes(indexes))
    }

    /// Frees some of the items, by key without its version. The claim keeps the others.
    ///
    /// # Errors
    ///
    /// The errors of [`confirm_keys`](Self::confirm_keys).
    pub fn release_keys(&mut self, keys: &[Key<'_>]) -> Result<u64> {
        self.release_some(Which::Keys(&self.claimed.pool.hashed(keys)?))
    }

    /// Restarts the lease with a new length, and returns its new expiry.
    ///
    /// # Errors
    ///
    /// `LimitExceeded` for a lease outside 1 ms to 365 days; `InvalidArgument` for one of less than 1 s if the claim is
    /// [kept alive](Self::keep_alive); `LeaseLost` if the claim owns none of its items any more; also the errors of
    /// [`confirm`](Self::confirm). After an error, the lease is unchanged.
    #[doc(alias("renew", "heartbeat"))]
    pub fn extend(&mut self, lease: Duration) -> Result<Timestamp> {
        self.extend_and(Some(lease), Keep::AsBefore)
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
    /// `InvalidArgument` for a lease of less than 1 s; also the errors of [`extend`](Self::extend): `LeaseLost` if the claim holds
    /// nothing, as when every item of the batch was a duplicate.
    #[doc(alias("renew", "heartbeat"))]
    pub fn keep_alive(&mut self) -> Result<()> {
        self.extend_and(None, Keep::Alive).map(drop)
    }

    /// Gives up the guard and keeps the claim: any process with the token can [take it
    /// up](crate::DataPoolStore::resume_claim). Returns `None` if every item is confirmed or released. Items that the claim
    /// has [lost](ClaimVerdict::Lost) count as open: confirming them returns what became of each.
    #[must_use = "without its token only its owner can take the claim up before its lease ends"]
    pub fn into_token(mut self) -> Option<ClaimToken> {
        let token = self.token();
        self.hold.let_go();
        token
    }

    fn confirm_some(&mut self, which: Which<'_>, results: Results) -> Result<Confirmation> {
        let Change { submission, positions, .. } = self.hold.confirmation(&self.claimed, which, results)?;
        let outcomes = submission.map(|submission| self.backend().run(submission)).transpose()?;
        Ok(self.hold.confirm(&self.claimed, &positions, outcomes.unwrap_or_default()))
    }

    fn release_some(&mut self, which: Which<'_>) -> Result<u64> {
        let Change { submission, positions, .. } = self.hold.release(&self.claimed, which)?;
        let released = submission.map(|submission| self.backend().run(submission)).transpose()?;
        self.hold.settle(&positions);
        Ok(released.unwrap_or_default())
    }

    fn extend_and(&mut self, lease: Option<Duration>, keep: Keep) -> Result<Timestamp> {
        let (extension, submission) = self.hold.extension(&self.claimed, lease, keep)?;
        let extended = self.backend().run(submission);
        self.hold.extended(&self.claimed, extension, extended)
    }

    fn backend(&self) -> &dyn Backend {
        self.claimed.pool.backend()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A drop cannot report a failure: the lease ends the claim.
        let _ = self.release();
    }
}
