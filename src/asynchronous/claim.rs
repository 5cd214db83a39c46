//! A claim's guard for async code.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::threads::Answer;
use crate::backend::batch::Batch;
use crate::backend::operation::Entry;
use crate::claim::hold::{Change, Claimed, Hold, Keep, Which};
use crate::claim::results::Results;
use crate::dedupe::Split;
use crate::error::Result;
use crate::model::{ClaimToken, ClaimVerdict, Confirmation, Key};
use crate::shared::Shared;
use crate::time::Timestamp;

/// New items that one runner holds, for async code: a [`Claim`](crate::Claim) whose calls return futures.
///
/// **Dropping it releases** what is neither confirmed nor released. The store's thread does that soon after;
/// the drop does not block.
///
/// If the future of a call is dropped before it is ready, the call happens completely or not at all, and the
/// guard knows which. Make the same call again: it does what is left to do and returns the outcome of each
/// item, including those that the first call settled. If the dropped call released an item, confirming it
/// returns [`LeaseLost`](crate::ClaimOutcome::LeaseLost).
#[derive(Debug)]
#[must_use = "dropping a claim releases what it holds"]
pub struct AsyncClaim {
    claimed: Arc<Claimed>,
    hold: Arc<Mutex<Hold>>,
}

impl AsyncClaim {
    pub(super) fn new((claimed, hold): (Claimed, Hold)) -> Self {
        Self { claimed: Arc::new(claimed), hold: Arc::new(Mutex::new(hold)) }
    }

    /// Like [`Claim::verdicts`](crate::Claim::verdicts).
    pub fn verdicts(&self) -> &[(usize, ClaimVerdict)] {
        &self.claimed.verdicts
    }

    /// Like [`Claim::verdict`](crate::Claim::verdict).
    pub fn verdict(&self, index: usize) -> Option<&ClaimVerdict> {
        self.claimed.verdict(index)
    }

    /// Like [`Claim::claimed`](crate::Claim::claimed).
    pub fn claimed<'i, T>(&self, items: &'i [T]) -> impl Iterator<Item = (usize, &'i T)> + use<'i, T> {
        self.claimed.claimed(items)
    }

    /// Like [`Claim::partition`](crate::Claim::partition).
    pub fn partition<T>(&self, items: impl IntoIterator<Item = T>) -> Split<T> {
        self.claimed.partition(items)
    }

    /// Like [`Claim::keys`](crate::Claim::keys).
    pub fn keys(&self) -> impl Iterator<Item = (usize, Key<'_>)> {
        let held: Vec<usize> = self.hold.lock().held_positions().collect();
        held.into_iter().filter_map(|position| self.claimed.key_at(position))
    }

    /// Like [`Claim::held_count`](crate::Claim::held_count).
    pub fn held_count(&self) -> usize {
        self.hold.lock().held_positions().count()
    }

    /// Like [`Claim::until`](crate::Claim::until).
    pub fn until(&self) -> Timestamp {
        self.hold.lock().until()
    }

    /// Like [`Claim::fencing_number`](crate::Claim::fencing_number).
    pub fn fencing_number(&self) -> Option<u64> {
        self.claimed.fence
    }

    /// Like [`Claim::token`](crate::Claim::token).
    pub fn token(&self) -> Option<ClaimToken> {
        self.hold.lock().token(&self.claimed)
    }

    /// Like [`Claim::into_token`](crate::Claim::into_token).
    #[must_use = "without its token nobody can take the claim up before its lease ends"]
    pub fn into_token(self) -> Option<ClaimToken> {
        let mut hold = self.hold.lock();
        let token = hold.token(&self.claimed);
        hold.let_go();
        token
    }

    /// Like [`Claim::confirm`](crate::Claim::confirm).
    ///
    /// # Errors
    ///
    /// The errors of `Claim::confirm`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub async fn confirm(&mut self) -> Result<Confirmation> {
        self.confirm_some(Items::Open, Results::default()).await
    }

    /// Like [`Claim::confirm_with`](crate::Claim::confirm_with). `result` runs at once, before the future is
    /// polled.
    ///
    /// If the future of an earlier call was dropped, the items that it is still settling get its outcome, and
    /// no result of this call.
    ///
    /// # Errors
    ///
    /// The errors of `Claim::confirm_with`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub fn confirm_with<B: Into<Vec<u8>>>(
        &mut self,
        result: impl FnMut(usize) -> Option<B>,
    ) -> impl Future<Output = Result<Confirmation>> + Send {
        // The lock is not held while `result` runs.
        let open: Vec<(usize, usize)> = self.hold.lock().open_items(&self.claimed).collect();
        let results = Results::collect(open.into_iter(), result);
        async move { self.confirm_some(Items::Open, results?).await }
    }

    /// Like [`Claim::confirm_items`](crate::Claim::confirm_items).
    ///
    /// # Errors
    ///
    /// The errors of `Claim::confirm_items`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub async fn confirm_items(&mut self, indexes: &[usize]) -> Result<Confirmation> {
        self.confirm_some(Items::Indexes(indexes.to_vec()), Results::default()).await
    }

    /// Like [`Claim::confirm_keys`](crate::Claim::confirm_keys).
    ///
    /// # Errors
    ///
    /// The errors of `Claim::confirm_keys`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub async fn confirm_keys(&mut self, keys: &[Key<'_>]) -> Result<Confirmation> {
        self.confirm_some(self.hashed(keys)?, Results::default()).await
    }

    /// Like [`Claim::release`](crate::Claim::release).
    ///
    /// # Errors
    ///
    /// The errors of `Claim::release`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub async fn release(&mut self) -> Result<u64> {
        self.release_some(Items::Open).await
    }

    /// Like [`Claim::release_items`](crate::Claim::release_items).
    ///
    /// # Errors
    ///
    /// The errors of `Claim::release_items`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub async fn release_items(&mut self, indexes: &[usize]) -> Result<u64> {
        self.release_some(Items::Indexes(indexes.to_vec())).await
    }

    /// Like [`Claim::release_keys`](crate::Claim::release_keys).
    ///
    /// # Errors
    ///
    /// The errors of `Claim::release_keys`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub async fn release_keys(&mut self, keys: &[Key<'_>]) -> Result<u64> {
        self.release_some(self.hashed(keys)?).await
    }

    /// Like [`Claim::extend`](crate::Claim::extend).
    ///
    /// # Errors
    ///
    /// The errors of `Claim::extend`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub async fn extend(&mut self, lease: Duration) -> Result<Timestamp> {
        self.extend_and(Some(lease), Keep::AsBefore).await
    }

    /// Like [`Claim::keep_alive`](crate::Claim::keep_alive).
    ///
    /// # Errors
    ///
    /// The errors of `Claim::keep_alive`, and those of every [`StoreFuture`](crate::StoreFuture).
    pub async fn keep_alive(&mut self) -> Result<()> {
        self.extend_and(None, Keep::Alive).await.map(drop)
    }

    fn shared(&self) -> &Arc<Shared> {
        self.claimed.pool.shared()
    }

    fn hashed(&self, keys: &[Key<'_>]) -> Result<Items> {
        self.claimed.pool.hashed(keys).map(Items::Keys)
    }

    async fn confirm_some(&mut self, items: Items, results: Results) -> Result<Confirmation> {
        let (claimed, hold) = (Arc::clone(&self.claimed), Arc::clone(&self.hold));
        let prepare = move |answer: Answer<Confirmation>| {
            let change = hold.lock().confirmation(&claimed, items.which(), results);
            let Change { submission, positions, asked } = match change {
                Ok(change) => change,
                Err(error) => return answer.give_at_once(Err(error)),
            };
            let confirm =
                move |outcomes| hold.lock().confirm_unheard(&claimed, (&positions, &asked), outcomes);
            match submission {
                Some(submission) => Some(answer.of(submission, move |outcomes| Ok(confirm(outcomes?)))),
                None => answer.give_at_once(Ok(confirm(Vec::new()))),
            }
        };
        let confirmation =
            self.shared().threads.write(&self.shared().backend, self.claimed.pool.id(), prepare).await?;
        self.hold.lock().heard(&self.claimed, &confirmation);
        Ok(confirmation)
    }

    async fn release_some(&mut self, items: Items) -> Result<u64> {
        let prepare = releasing(&self.claimed, &self.hold, items);
        let released =
            self.shared().threads.write(&self.shared().backend, self.claimed.pool.id(), prepare).await?;
        self.hold.lock().heard_released();
        Ok(released)
    }

    async fn extend_and(&mut self, lease: Option<Duration>, keep: Keep) -> Result<Timestamp> {
        let (claimed, hold) = (Arc::clone(&self.claimed), Arc::clone(&self.hold));
        let prepare = move |answer: Answer<Timestamp>| {
            let extension = hold.lock().extension(&claimed, lease, keep);
            let (extension, submission) = match extension {
                Ok(extension) => extension,
                Err(error) => return answer.give_at_once(Err(error)),
            };
            let extended = move |extended| hold.lock().extended(&claimed, extension, extended);
            Some(answer.of(submission, extended))
        };
        self.shared().threads.write(&self.shared().backend, self.claimed.pool.id(), prepare).await
    }
}

impl Drop for AsyncClaim {
    fn drop(&mut self) {
        if self.token().is_some() {
            let release = releasing(&self.claimed, &self.hold, Items::Open);
            self.shared().threads.write_unheard(&self.shared().backend, self.claimed.pool.id(), release);
        }
    }
}

/// The items of a claim that a call settles.
enum Items {
    Open,
    Indexes(Vec<usize>),
    Keys(Batch),
}

impl Items {
    fn which(&self) -> Which<'_> {
        match self {
            Self::Open => Which::Open,
            Self::Indexes(indexes) => Which::Indexes(indexes),
            Self::Keys(keys) => Which::Keys(keys),
        }
    }
}

/// Returns a closure that prepares the release of some items.
fn releasing(
    claimed: &Arc<Claimed>,
    hold: &Arc<Mutex<Hold>>,
    items: Items,
) -> impl FnOnce(Answer<u64>) -> Option<Entry> + Send + use<> {
    let (claimed, hold) = (Arc::clone(claimed), Arc::clone(hold));
    move |answer| {
        let change = hold.lock().release(&claimed, items.which());
        let Change { submission, positions, .. } = match change {
            Ok(change) => change,
            Err(error) => return answer.give_at_once(Err(error)),
        };
        let release = move |released| hold.lock().release_unheard(&positions, released);
        match submission {
            Some(submission) => Some(answer.of(submission, move |released| Ok(release(released?)))),
            None => answer.give_at_once(Ok(release(0))),
        }
    }
}
