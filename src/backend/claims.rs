//! Claims as they cross the seam.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use crate::ids::RecordNumber;
use crate::model::ClaimVerdict;
use crate::time::Timestamp;

pub(crate) type ClaimId = u64;

/// The id and the nonce of a claim, as its holder knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: ClaimId,
    pub(crate) nonce: u128,
}

/// The result of claiming a batch.
#[derive(Debug)]
pub(crate) struct Grant {
    /// `None` if there was nothing to claim.
    pub(crate) held: Option<Held>,
    /// Its fencing number.
    pub(crate) fence: Option<u64>,
    pub(crate) until: Timestamp,
    /// The indexes of the claimed items whose key had a record.
    pub(crate) changes: Vec<usize>,
    /// One verdict for each item of the batch, with the item's index.
    pub(crate) verdicts: Vec<(usize, ClaimVerdict)>,
}

/// The items of a claim that an operation settles.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Their positions in the batch of the claim's holder, ascending.
    pub(crate) positions: Vec<usize>,
    /// Their indexes in the batch that was claimed, ascending.
    pub(crate) indexes: Vec<u32>,
    /// The results of some of them, by position, ascending.
    pub(crate) results: Vec<(usize, ResultBytes)>,
    /// The positions of the items whose key had a record when they were claimed, ascending.
    pub(crate) changes: Vec<usize>,
}

/// The bytes of a result. All results of a call share one buffer, because a thousand small allocations take
/// as long as writing them.
#[derive(Debug, Clone)]
pub(crate) struct ResultBytes {
    all: Arc<Vec<u8>>,
    place: Range<usize>,
}

impl ResultBytes {
    pub(crate) fn new(all: Arc<Vec<u8>>, place: Range<usize>) -> Self {
        Self { all, place }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.all.get(self.place.clone()).unwrap_or_default()
    }
}

/// A stored claim, as read when it is taken up.
#[derive(Debug)]
pub(crate) struct StoredClaim {
    pub(crate) until: Timestamp,
    pub(crate) lease: Duration,
    pub(crate) fence: u64,
    /// The items that were claimed.
    pub(crate) batch: Batch,
    /// The index of each in the batch that was claimed, ascending.
    pub(crate) indexes: Vec<u32>,
    /// The newest record of each item's key when it was claimed; 0 if there was none.
    pub(crate) seen: Vec<RecordNumber>,
    pub(crate) standings: Vec<Standing>,
}

/// The state of an item of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The claim owns its value.
    Held,
    /// The claim does not own its value any more.
    Lost,
    /// It was confirmed or released.
    Settled,
}
