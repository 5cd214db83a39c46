//! The operations that write to a pool, as data, and their answers.
//!
//! Owns: [`Operation`] and [`Answer`], which an engine executes and returns, and [`Submission`], an operation
//! with the type of its answer. Always holds: an engine answers each operation with the variant that matches
//! its submission.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use super::claims::{Grant, Held, Settled};
use super::lease::Kept;
use super::queue::Weight;
use crate::dedupe::{Mode, Verdicts};
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::model::{ClaimFilter, ClaimOutcome};
use crate::query::RecordFilter;
use crate::time::Timestamp;

/// An operation on one pool.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Decides a batch, and tracks what passes.
    Dedupe {
        mode: Mode,
        batch: Arc<Batch>,
        firsts: Firsts,
    },
    DeleteIds(Vec<RecordNumber>),
    DeleteKeys(Batch),
    /// The filter has a term. This is the only operation in its group.
    DeleteWhere(RecordFilter),
    /// This is the only operation in its group.
    Clear,
    Claim {
        batch: Arc<Batch>,
        owner: Option<Arc<str>>,
        lease: Duration,
        nonce: u128,
    },
    Confirm {
        held: Held,
        batch: Arc<Batch>,
        settled: Settled,
    },
    Release {
        held: Held,
        batch: Arc<Batch>,
        settled: Settled,
    },
    /// Restarts a lease if the claim still owns an item at one of these positions.
    Extend {
        held: Held,
        batch: Arc<Batch>,
        positions: Vec<usize>,
        lease: Duration,
    },
    /// Restarts a lease that is kept alive, unless keeping it alive has ended meanwhile.
    Renew(Arc<Kept>),
    /// Takes up all claims of an owner. Each claim gets a new lease of the same length, a new fencing number,
    /// and a new nonce: this number plus the claim's id.
    TakeUp {
        owner: String,
        nonce: u128,
    },
    ReleaseMatching(ClaimFilter),
}

/// The answer to an operation.
#[derive(Debug)]
pub(crate) enum Answer {
    Verdicts(Verdicts),
    /// The number of records deleted, or of items or claims released.
    Count(u64),
    Grant(Grant),
    /// The outcome of each item, in order.
    Outcomes(Vec<ClaimOutcome>),
    /// The new expiry of the lease.
    Until(Timestamp),
    /// The new expiry of the lease; `None` if it is not to be renewed any more.
    Renewed(Option<Timestamp>),
    TakenUp(Vec<Held>),
}

/// Selects if a deduplication also looks up the first record of each duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firsts {
    Ignored,
    Wanted,
}

/// An operation to submit, and its share of a group.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) pool: PoolId,
    pub(crate) weight: Weight,
    pub(crate) operation: Operation,
}

/// A request with the type of its answer.
#[derive(Debug)]
pub(crate) struct Submission<T> {
    pub(super) request: Request,
    answer: PhantomData<fn() -> T>,
}

impl<T: OfAnswer> Submission<T> {
    pub(crate) fn new(pool: PoolId, weight: Weight, operation: Operation) -> Self {
        Self { request: Request { pool, weight, operation }, answer: PhantomData }
    }
}

/// Converts an answer to the type that the submission expects.
pub(super) fn read<T: OfAnswer>(answer: Answer) -> Result<T> {
    T::of_answer(answer).ok_or_else(|| Error::storage("the engine gave the answer to another operation"))
}

/// A type that is one variant of [`Answer`].
pub(crate) trait OfAnswer: Sized {
    /// Returns `None` for another variant.
    fn of_answer(answer: Answer) -> Option<Self>;
}

macro_rules! of_answer {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl OfAnswer for $type {
            fn of_answer(answer: Answer) -> Option<Self> {
                match answer {
                    Answer::$variant(answer) => Some(answer),
                    _ => None,
                }
            }
        })*
    };
}

of_answer!(
    Verdicts => Verdicts,
    u64 => Count,
    Grant => Grant,
    Vec<ClaimOutcome> => Outcomes,
    Timestamp => Until,
    Option<Timestamp> => Renewed,
    Vec<Held> => TakenUp,
);

/// A request, and the callback for its answer.
pub(crate) struct Entry {
    pub(crate) request: Request,
    /// Called once, with the operation's answer or the error of the commit.
    pub(crate) deliver: Box<dyn FnOnce(Result<Answer>) + Send>,
}

impl Entry {
    pub(crate) fn new<T: OfAnswer>(
        Submission { request, .. }: Submission<T>,
        deliver: impl FnOnce(Result<T>) + Send + 'static,
    ) -> Self {
        Self { request, deliver: Box::new(move |answer| deliver(answer.and_then(read))) }
    }
}
