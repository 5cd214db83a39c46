//! The calls of a pool and of a store for claims: making them, taking them up, listing and releasing them,
//! and waiting for them to end.

use std::sync::Arc;
use std::time::Duration;

use super::Claim;
use super::hold::{Claimed, Hold};
use crate::backend::batch::Batch;
use crate::backend::claims::{Grant, Held};
use crate::backend::operation::{Operation, Submission};
use crate::backend::queue::Weight;
use crate::backend::wait_for::Waiter;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    ClaimFilter, ClaimInfo, ClaimOptions, ClaimToken, ClaimVerdict, Key, Origin, WaitOutcome, check_owner,
};
use crate::pool::Pool;
use crate::random::random_bytes;
use crate::store::DataPoolStore;

impl Pool {
    /// Claims the new items of a batch and holds them until they are confirmed or released, or the lease runs
    /// out.
    ///
    /// This is one atomic step, as in [`dedupe`](Self::dedupe): if several threads bring the same new value
    /// at once, exactly one gets it. Of equal items within the batch, the first is claimed, and the others
    /// are duplicates.
    ///
    /// An item whose key has a [version](Key::content) is also claimed if it changes the key. Confirming it
    /// replaces the records that the claim saw, if they are still live. If another caller tracked the value
    /// meanwhile, the outcome is [`AlreadyTracked`](crate::ClaimOutcome::AlreadyTracked). A claim holds each
    /// key once: further items of the key are in flight in the same claim, except those that are duplicates of
    /// a record in the pool.
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
    /// assert!(matches!(other.verdict(0), Some(ClaimVerdict::InFlight { .. })));
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
    /// `InvalidArgument` or `LimitExceeded` for a bad key (with its [index](Error::item)) or origin, for more
    /// than 1,048,576 items, or for a lease outside 1 ms to 365 days; `NotFound`; `StorageFull`,
    /// `OutcomeUnknown` or `Storage` if writing to the disk fails. In all cases but `OutcomeUnknown` nothing
    /// was claimed.
    #[doc(alias("lock", "lease", "reserve", "acquire", "checkout"))]
    pub fn claim<'a, 'k, T>(
        &self,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
        lease: Duration,
    ) -> Result<Claim> {
        self.claim_with(items, key, origin, &ClaimOptions::new().lease(lease))
    }

    /// Like [`claim`](Self::claim), but with options. The claim may have an owner;
    /// [`resume_claims_of`](Self::resume_claims_of) takes up the claims of an owner.
    ///
    /// # Errors
    ///
    /// The errors of [`claim`](Self::claim); also `InvalidArgument` for an empty owner, and `LimitExceeded`
    /// for one of more than 64 bytes.
    pub fn claim_with<'a, 'k, T>(
        &self,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
        options: &ClaimOptions,
    ) -> Result<Claim> {
        let batch = self.batch_to_claim(items, key, origin, options)?;
        let grant = self.backend().run(self.claiming(&batch, options)?)?;
        Ok(Claim::new(self.granted(batch, grant, options)))
    }

    pub(crate) fn batch_to_claim<'a, 'k, T>(
        &self,
        items: &'a [T],
        key: impl FnMut(&'a T) -> Key<'k>,
        origin: &Origin,
        options: &ClaimOptions,
    ) -> Result<Arc<Batch>> {
        origin.check()?;
        options.check()?;
        Ok(Arc::new(self.batch_of(items, key)?.with_origin(origin)))
    }

    /// Returns the submission that claims a batch.
    pub(crate) fn claiming(&self, batch: &Arc<Batch>, options: &ClaimOptions) -> Result<Submission<Grant>> {
        let (lease, owner) = (options.lease, options.owner.as_deref().map(Into::into));
        let claim = Operation::Claim { batch: Arc::clone(batch), owner, lease, nonce: new_nonce()? };
        Ok(Submission::new(self.id(), Weight::of(batch), claim))
    }

    pub(crate) fn granted(&self, batch: Arc<Batch>, grant: Grant, options: &ClaimOptions) -> (Claimed, Hold) {
        let is_duplicate =
            |(_, verdict): &&(usize, ClaimVerdict)| matches!(verdict, ClaimVerdict::Duplicate(_));
        let duplicates = grant.verdicts.iter().filter(is_duplicate).count();
        self.counters().claim(grant.verdicts.len(), duplicates);
        Claimed::of_grant(self, batch, grant, options.lease)
    }

    /// Takes up all open claims of an owner, in the order of their ids. Use it when an owner has died, even if
    /// it did not store the tokens of its claims. Each claim gets a new lease of the same length and a new
    /// [fencing number](Claim::fencing_number).
    ///
    /// Existing guards and tokens of these claims cannot confirm, release or extend any more: they get
    /// `LeaseLost`. So call this when the owner starts, before it claims anything. The items of each claim
    /// are as described for [`resume_claim`](DataPoolStore::resume_claim). Claims whose lease ended over an
    /// hour ago are gone.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use datapool_store::{ClaimOptions, DataPoolStore, EntityTypeId, Key, Origin};
    /// # const ORDERS: EntityTypeId = EntityTypeId::new(37);
    /// # fn main() -> datapool_store::Result<()> {
    /// # let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let options = ClaimOptions::new().owner("worker-7");
    /// let claim = pool.claim_with(&["A-1"], |o| Key::new(ORDERS, *o), &Origin::none(), &options)?;
    /// std::mem::forget(claim); // The worker dies.
    ///
    /// for mut claim in pool.resume_claims_of("worker-7")? {
    ///     let open: Vec<String> = claim.keys().map(|(_, key)| key.value().to_owned()).collect();
    ///     assert_eq!(open, ["A-1"]);
    ///     claim.confirm()?.all_confirmed()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidArgument` or `LimitExceeded` for a bad owner; `NotFound`; `StorageFull`, `OutcomeUnknown` or
    /// `Storage` if writing to the disk fails; `Corrupt` if the items of a claim cannot be read. Nothing is
    /// released then, and the call can be repeated.
    #[doc(alias("take over", "recover"))]
    pub fn resume_claims_of(&self, owner: &str) -> Result<Vec<Claim>> {
        let held = self.backend().run(self.taking_up(owner)?)?;
        Ok(self.taken_up(held)?.into_iter().map(Claim::new).collect())
    }

    /// Returns the submission that takes up an owner's claims.
    pub(crate) fn taking_up(&self, owner: &str) -> Result<Submission<Vec<Held>>> {
        check_owner(owner)?;
        let take_up = Operation::TakeUp { owner: owner.to_owned(), nonce: new_nonce()? };
        Ok(Submission::new(self.id(), Weight::ONE, take_up))
    }

    pub(crate) fn taken_up(&self, held: Vec<Held>) -> Result<Vec<(Claimed, Hold)>> {
        let mut claims = Vec::with_capacity(held.len());
        for held in held {
            // Another caller may have settled the claim meanwhile.
            if let Some(claim) = self.backend().stored_claim(self.id(), held)? {
                claims.push(Claimed::of_stored(self, held, claim));
            }
        }
        Ok(claims)
    }

    /// Releases all claims that a filter selects, whoever holds them. Their items are new again. Returns the
    /// number of claims released. This is for operators, when a runner hangs or will not come back.
    ///
    /// Guards and tokens of these claims get `LeaseLost`, or `AlreadyTracked` for items that another runner
    /// tracks. Items that the claims confirmed before stay tracked.
    ///
    /// # Errors
    ///
    /// `NotFound`; `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the disk fails. Nothing was
    /// released then; with `OutcomeUnknown`, the claims may have been released.
    #[doc(alias("unlock", "force_unlock"))]
    pub fn release_claims(&self, filter: &ClaimFilter) -> Result<u64> {
        self.backend().run(self.releasing(filter))
    }

    /// Returns the submission that releases the claims that a filter selects.
    pub(crate) fn releasing(&self, filter: &ClaimFilter) -> Submission<u64> {
        Submission::new(self.id(), Weight::ONE, Operation::ReleaseMatching(filter.clone()))
    }

    /// Blocks until none of the keys is in flight, or until the timeout. The caller's own claims count, too.
    /// Returns the state of each key's value, in order, as of one moment. For a key with a
    /// [version](Key::content), this is the state of that version: free if an item with it would change the
    /// key.
    ///
    /// A caller sleeps, and is woken when a claim is confirmed, released or taken away, and when its lease
    /// ends. The timeout is in real time, even with a [`ManualClock`](crate::ManualClock).
    /// [`Free`](WaitOutcome::Free) reserves nothing: of several woken callers, only one can claim the value.
    /// A value that nobody holds does not block.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use datapool_store::{DataPoolStore, EntityTypeId, Key, Origin, WaitOutcome};
    /// # const ORDERS: EntityTypeId = EntityTypeId::new(37);
    /// # fn main() -> datapool_store::Result<()> {
    /// # let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// # let minute = Duration::from_secs(60);
    /// let mut claim = pool.claim(&["A-1"], |o| Key::new(ORDERS, *o), &Origin::none(), minute)?;
    /// std::thread::scope(|scope| {
    ///     let waiting = scope.spawn(|| pool.wait_for(&[Key::new(ORDERS, "A-1")], minute));
    ///     claim.confirm()?.all_confirmed()?;
    ///     let outcomes = waiting.join().expect("it does not panic")?;
    ///     assert!(matches!(&outcomes[0], WaitOutcome::Tracked(record) if record.value == "A-1"));
    ///     datapool_store::Result::Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidArgument` or `LimitExceeded` for a bad key (with its [index](Error::item)), or for more than
    /// 1,048,576 keys; `NotFound`, also if the pool is deleted meanwhile; `Closed` if the store is closed
    /// meanwhile.
    #[doc(alias("poll", "block", "subscribe"))]
    pub fn wait_for(&self, keys: &[Key<'_>], timeout: Duration) -> Result<Vec<WaitOutcome>> {
        self.waiter(keys, timeout)?.block(self.backend())
    }

    pub(crate) fn waiter(&self, keys: &[Key<'_>], timeout: Duration) -> Result<Waiter> {
        Ok(Waiter::new(self.id(), self.hashed(keys)?, timeout))
    }

    /// Returns the claims on this pool in the order of their ids, including lapsed ones. Claims that are
    /// settled, or whose lease ended over an hour ago, are not listed.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn claims(&self) -> Result<Vec<ClaimInfo>> {
        self.backend().claims(self.id())
    }
}

impl DataPoolStore {
    /// Takes up the claim of a token, in the process that made the claim or in another one.
    ///
    /// The claim's items are those that were [`Claimed`](ClaimVerdict::Claimed), and each keeps its index in
    /// the batch that was claimed. [`keys`](Claim::keys) returns the items that the claim still holds. Items
    /// that were confirmed or released are [`Settled`](ClaimVerdict::Settled). Items that the claim lost are
    /// [`Lost`](ClaimVerdict::Lost), and confirming them returns the outcome of each. Taking up a claim does
    /// not extend its lease: call [`extend`](Claim::extend) for that.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use datapool_store::{DataPoolStore, EntityTypeId, Key, Mode, Origin};
    /// # const ORDERS: EntityTypeId = EntityTypeId::new(37);
    /// # fn main() -> datapool_store::Result<()> {
    /// # let store = DataPoolStore::in_memory()?;
    /// # let pool = store.get_or_create_pool("orders")?;
    /// let key = |order: &&'static str| Key::new(ORDERS, *order);
    /// let _ = pool.dedupe(Mode::Track, &["A-1"], key, &Origin::none())?;
    ///
    /// let batch = ["A-1", "A-2", "A-3"]; // A-1 is a duplicate.
    /// let claim = pool.claim(&batch, key, &Origin::none(), Duration::from_secs(60))?;
    /// let token = claim.into_token().expect("something was claimed");
    ///
    /// let mut claim = store.resume_claim(&token)?;
    /// let split = claim.partition(batch);
    /// assert_eq!((split.fresh, split.unmatched), (vec!["A-2", "A-3"], vec!["A-1"]));
    /// claim.confirm_items(&[1])?.all_confirmed()?;
    /// assert!(pool.contains(Key::new(ORDERS, "A-2"))?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A token can be taken up more than once while the claim exists. Then there are two guards of one claim:
    /// the one that confirms an item first tracks it, and dropping one guard releases the items for both.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the token is of another store; `LeaseLost` if the claim does not exist any more,
    /// because it was settled or released, its owner took it up, or it was swept an hour after its lease
    /// ended; `NotFound` if the pool was deleted.
    #[doc(alias("take over", "recover"))]
    pub fn resume_claim(&self, token: &ClaimToken) -> Result<Claim> {
        Ok(Claim::new(self.resumed(token)?))
    }

    pub(crate) fn resumed(&self, token: &ClaimToken) -> Result<(Claimed, Hold)> {
        if token.store != self.backend().store_id() {
            return Err(Error::invalid_argument("the token is of another store than this one"));
        }
        let held = Held { id: token.claim, nonce: token.nonce };
        let claim = self.backend().stored_claim(token.pool, held)?.ok_or_else(|| {
            let text = format!(
                "the token's claim {} on data pool {} does not exist any more: it was settled or released, its owner took it \
                 up, or its lease ran out over an hour ago",
                token.claim, token.pool
            );
            Error::new(ErrorKind::LeaseLost, text)
        })?;
        Ok(Claimed::of_stored(&self.handle(token.pool), held, claim))
    }
}

/// Returns a secret number that only the claim's holder knows.
fn new_nonce() -> Result<u128> {
    Ok(u128::from_le_bytes(random_bytes()?))
}
