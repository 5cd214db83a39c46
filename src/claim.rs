//! Claims: values held for one runner until its work is confirmed.
//!
//! Part of the public API: each method is a few lines over the backend. [`calls`] has the calls of a pool and
//! of a store. [`crate::model`] has the verdicts and outcomes of claims.

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
/// [`Pool::claim`](crate::Pool::claim) and [`Pool::claim_with`](crate::Pool::claim_with) make a claim.
/// [`DataPoolStore::resume_claim`](crate::DataPoolStore::resume_claim) takes one up from a token, and
/// [`Pool::resume_claims_of`](crate::Pool::resume_claims_of) takes up those of an owner. Process the items
/// whose verdict is [`Claimed`](ClaimVerdict::Claimed), then [`confirm`](Self::confirm) them. Confirmed items
/// are tracked, with the claim's origin. If the work fails, [`release`](Self::release) them, and they are new
/// again. Both also work for some of the items.
///
/// **Dropping a claim releases** the items that are neither confirmed nor released, so that a flow that
/// returns early or panics blocks no other runner. A drop cannot report an error: if the release fails, the
/// items stay held until the lease ends. The drop writes to the disk and blocks until that is done. To keep
/// the claim without the guard, call [`into_token`](Self::into_token).
///
/// Everything that a claim's methods change is on disk when they return, whatever the store's durability.
///
/// # Items
///
/// As long as the claim exists, an item is named by its index in the batch that was claimed. Tokens and
/// restarts do not change the index. If only the values are known, [`confirm_keys`](Self::confirm_keys) and
/// [`release_keys`](Self::release_keys) name items by key.
///
/// # Leases
///
/// Once a lease has run out, the next claimer may take the items. Until another caller takes them, a late
/// confirmation still succeeds, for up to an hour. Then the claim is swept. Leases run on the monotonic
/// clock, so setting the system's clock neither ends nor extends them. After the store is opened again, the
/// time left of a lease is computed from the system's clock, and is never more than the lease's length.
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

    /// Returns the verdict that each item got when the claim was made or taken up, with the item's index,
    /// ascending.
    ///
    /// A new claim has a verdict for each item of the batch. A claim that was taken up has verdicts only for
    /// the items that were claimed.
    pub fn verdicts(&self) -> &[(usize, ClaimVerdict)] {
        &self.claimed.verdicts
    }

    /// Returns the verdict of the item with this index, or `None` if [`verdicts`](Self::verdicts) has none.
    pub fn verdict(&self, index: usize) -> Option<&ClaimVerdict> {
        self.claimed.verdict(index)
    }

    /// Returns the items of the batch that was claimed whose verdict is [`Claimed`](ClaimVerdict::Claimed),
    /// in order, each with its index. Indexes past the end of `items` are left out. The iterator does not
    /// borrow the claim, so each item can be confirmed as soon as it is processed.
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

    /// Splits the batch that was claimed. Claimed items are fresh. Items that another runner holds or took
    /// over are in flight. Items that were settled before the claim was taken up are duplicates. Items
    /// without a verdict are unmatched. In a claim that was taken up, these are all items except the claimed
    /// ones.
    pub fn partition<T>(&self, items: impl IntoIterator<Item = T>) -> Split<T> {
        self.claimed.partition(items)
    }

    /// Returns the items that are claimed and neither confirmed nor released yet: the index and the key of
    /// each.
    pub fn keys(&self) -> impl Iterator<Item = (usize, Key<'_>)> {
        self.hold.held_positions().filter_map(|position| self.claimed.key_at(position))
    }

    /// Returns the number of items that are neither confirmed nor released yet, as far as this guard knows:
    /// another guard of the same claim may have settled some.
    pub fn held_count(&self) -> usize {
        self.hold.held_positions().count()
    }

    /// Returns the time at which the lease expires, by the clock when it was granted.
    pub fn until(&self) -> Timestamp {
        self.hold.until()
    }

    /// Returns the fencing number of this grant; `None` if nothing was claimed.
    ///
    /// In a pool, each grant has a higher number than all before it. The number is the highest so far plus
    /// one, or the wall clock in microseconds if that is higher. So the numbers also grow after a backup is
    /// restored, unless the system's clock was set back. A system that the runner writes to can refuse
    /// writers with a lower number than the highest it has seen. Then a runner whose lease has expired cannot
    /// overwrite newer data. [`extend`](Self::extend) and
    /// [`resume_claim`](crate::DataPoolStore::resume_claim) keep the number;
    /// [`resume_claims_of`](crate::Pool::resume_claims_of) makes a new grant.
    ///
    /// See Kleppmann, "How to do distributed locking" (2016).
    pub fn fencing_number(&self) -> Option<u64> {
        self.claimed.fence
    }

    /// Returns the claim's token, or `None` if every item is confirmed or released. Store the token before
    /// the work begins: if this process dies, another one can [take up the
    /// claim](crate::DataPoolStore::resume_claim) with it. This guard stays valid, and still releases when it
    /// is dropped.
    pub fn token(&self) -> Option<ClaimToken> {
        self.hold.token(&self.claimed)
    }

    /// Tracks every item that is neither confirmed nor released yet, in one commit that also ends the claim.
    ///
    /// Each item has its own outcome. If another caller took over an item, the others are still confirmed.
    /// The same is true of an item that was [`Lost`](ClaimVerdict::Lost) when the claim was taken up; it has
    /// an outcome, too. After an error, the claim is unchanged and can be confirmed again.
    ///
    /// # Errors
    ///
    /// `NotFound` if the pool was deleted; `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the
    /// disk fails.
    #[doc(alias("ack", "commit", "complete"))]
    pub fn confirm(&mut self) -> Result<Confirmation> {
        self.confirm_some(Which::Open, Results::default())
    }

    /// Like [`confirm`](Self::confirm), but also keeps a result with each record. `result` gets the item's
    /// index in the batch that was claimed and returns the bytes to keep, or `None` for nothing. A caller
    /// that sees a duplicate later reads the bytes with [`Pool::result`](crate::Pool::result) or
    /// [`Pool::results`](crate::Pool::results). So a receiver can answer a repeated request as it answered
    /// the first.
    ///
    /// `result` runs once for each item that is neither confirmed nor released yet, in the order of their
    /// indexes, on the calling thread, before anything is locked or written. So it may call the store. A
    /// `Vec` or a `String` is taken without a copy. If `result` panics, nothing is confirmed, and the claim
    /// stays open. The result of an item that is not [`Confirmed`](crate::ClaimOutcome::Confirmed) is
    /// dropped.
    ///
    /// A result is deleted with its record: once the record is deleted or expired, the result is not returned
    /// any more. Its space is reclaimed together with the record's segment. Checks, listings and exports do
    /// not read results. A copy made by export and import has none.
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
    /// `LimitExceeded` for a result of more than 65,536 bytes
    /// ([`RESULT_MAX_BYTES`](crate::limits::RESULT_MAX_BYTES)), or for results of more than 67,108,864 bytes
    /// together ([`RESULTS_MAX_BYTES`](crate::limits::RESULTS_MAX_BYTES)), with the
    /// [index](crate::Error::item) of the item that exceeds the limit. Nothing is confirmed, and the claim
    /// stays open. Also the errors of [`confirm`](Self::confirm).
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
    /// `InvalidArgument` for an index that the claim does not hold, with that [index](crate::Error::item).
    /// Nothing is confirmed then. Also the errors of [`confirm`](Self::confirm).
    pub fn confirm_items(&mut self, indexes: &[usize]) -> Result<Confirmation> {
        self.confirm_some(Which::Indexes(indexes), Results::default())
    }

    /// Tracks some of the items, named by key without version. The claim keeps the others.
    ///
    /// The outcomes have the items' indexes in the batch that was claimed, ascending.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a key that the claim does not hold, with its [index](crate::Error::item) in
    /// `keys`. `InvalidArgument` or `LimitExceeded` for a bad key, or for more than 1,048,576 keys. Nothing
    /// is confirmed then. Also the errors of [`confirm`](Self::confirm). An item whose claim lost it is
    /// confirmed as `LeaseLost`, as long as the file has its value: after a
    /// [vacuum](crate::DataPoolStore::vacuum), and in a backup, the claim does not hold its key any more.
    pub fn confirm_keys(&mut self, keys: &[Key<'_>]) -> Result<Confirmation> {
        self.confirm_some(Which::Keys(&self.claimed.pool.hashed(keys)?), Results::default())
    }

    /// Releases every item that is still held; the items are new again. Returns the number of items released.
    /// Items that another caller took over or tracked do not count.
    ///
    /// # Errors
    ///
    /// The errors of [`confirm`](Self::confirm).
    #[doc(alias("nack", "unlock", "rollback", "abort"))]
    pub fn release(&mut self) -> Result<u64> {
        self.release_some(Which::Open)
    }

    /// Releases some of the items, by index. The claim keeps the others.
    ///
    /// # Errors
    ///
    /// The errors of [`confirm_items`](Self::confirm_items).
    pub fn release_items(&mut self, indexes: &[usize]) -> Result<u64> {
        self.release_some(Which::Indexes(indexes))
    }

    /// Releases some of the items, named by key without version. The claim keeps the others.
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
    /// `LimitExceeded` for a lease outside 1 ms to 365 days; `InvalidArgument` for one of less than 1 s if
    /// the claim is [kept alive](Self::keep_alive); `LeaseLost` if the claim owns none of its items any more;
    /// also the errors of [`confirm`](Self::confirm). After an error, the lease is unchanged.
    #[doc(alias("renew", "heartbeat"))]
    pub fn extend(&mut self, lease: Duration) -> Result<Timestamp> {
        self.extend_and(Some(lease), Keep::AsBefore)
    }

    /// Renews the lease for as long as this guard lives: at once, and then after every third of its length.
    /// One thread of the store renews all claims; it starts with the first.
    ///
    /// The lease can still expire: if writing to the disk fails, if the process is suspended for longer than
    /// the lease, or if a call that blocks all other writers (an import, a rebuild, compacting) takes longer
    /// than the lease. Then other runners may take the items, and the guard's next call reports it:
    /// [`confirm`](Self::confirm) in its outcomes, other calls as `LeaseLost`. With a
    /// [`ManualClock`](crate::ManualClock), the interval is still measured in real time.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a lease of less than 1 s; also the errors of [`extend`](Self::extend):
    /// `LeaseLost` if the claim holds nothing, for example because every item of the batch was a duplicate.
    #[doc(alias("renew", "heartbeat"))]
    pub fn keep_alive(&mut self) -> Result<()> {
        self.extend_and(None, Keep::Alive).map(drop)
    }

    /// Consumes the guard but keeps the claim: any process with the token can [take it
    /// up](crate::DataPoolStore::resume_claim). Returns `None` if every item is confirmed or released. Items
    /// that the claim has [lost](ClaimVerdict::Lost) count as open: confirming them returns the outcome of
    /// each.
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
        // A drop cannot report a failure. If the release fails, the claim ends with its lease.
        let _ = self.release();
    }
}
