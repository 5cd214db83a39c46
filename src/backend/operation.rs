//! The operations that write to a pool, as data, and their answers.
//!
//! Owns: [`Operation`] and [`Answer`], which an engine performs and gives, and [`Submission`], an operation whose type says
//! what its answer is. Always holds: an engine answers each operation with the variant that its submission names.

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
    /// The filter names something. It is its group's only operation.
    DeleteWhere(RecordFilter),
    /// It is its group's only operation.
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
    /// Restarts a lease, if the claim still owns one of the items at these positions.
    Extend {
        held: Held,
        batch: Arc<Batch>,
        positions: Vec<usize>,
        lease: Duration,
    },
    /// Restarts a lease that is kept alive, unless that has ended meanwhile.
    Renew(Arc<Kept>),
    /// Takes up all claims of an owner: each gets a new lease of its length, a new fencing number, and this number plus its id as
    /// its nonce.
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
    /// The number of records that were deleted, or of items or claims that were released.
    Count(u64),
    Grant(Grant),
    /// What became of each item, in order.
    Outcomes(Vec<ClaimOutcome>),
    /// The new end of the lease.
    Until(Timestamp),
    /// The new end of the lease; `None` if it is not to be renewed any more.
    Renewed(Option<Timestamp>),
    TakenUp(Vec<Held>),
}

/// Selects if a deduplication looks up the records that were first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firsts {
    Ignored,
    Wanted,
}

/// An operation that is to be submitted, and the share of a group that it takes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) pool: PoolId,
    pub(crate) weight: Weight,
    pub(crate) operation: Operation,
}

/// A request whose answer has this type.
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

/// Returns what the answer to a submission is.
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

/// A request, and who is told its answer.
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
