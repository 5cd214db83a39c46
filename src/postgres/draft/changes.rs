//! The changes of a group, before they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::batch::Batch;
use crate::backend::claims::{ClaimId, ResultBytes};
use crate::backend::fingerprint::Fingerprint;
use crate::ids::RecordNumber;
use crate::time::Timestamp;

/// A record that the group adds: an item of a batch.
#[derive(Debug, Clone)]
pub(crate) struct NewRecord {
    pub(crate) batch: Arc<Batch>,
    pub(crate) item: usize,
}

/// A claim that the group makes.
#[derive(Debug)]
pub(crate) struct NewClaim {
    pub(crate) id: ClaimId,
    pub(crate) batch: Arc<Batch>,
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) lease: Duration,
    pub(crate) nonce: u128,
    pub(crate) fence: u64,
    pub(crate) until: Timestamp,
    /// The indexes of its items, each with the newest record of its key, or 0.
    pub(crate) items: Vec<(usize, RecordNumber)>,
}

/// The changes of a group.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) new: BTreeMap<RecordNumber, NewRecord>,
    pub(crate) results: Vec<(RecordNumber, ResultBytes)>,
    /// Stored records that are deleted.
    pub(crate) deleted: BTreeSet<RecordNumber>,
    /// Values that claims no longer own.
    pub(crate) voided: BTreeSet<Fingerprint>,
    pub(crate) claims: Vec<NewClaim>,
    /// Items of claims that are settled, by their indexes.
    pub(crate) settled: Vec<(ClaimId, Vec<u32>)>,
    /// New ends and lengths of leases.
    pub(crate) leases: BTreeMap<ClaimId, (Timestamp, Duration)>,
}

impl Changes {
    /// Returns the length of the longest list that a statement needs to find the rows to change.
    pub(crate) fn longest_list(&self) -> usize {
        let settled = self.settled.iter().map(|(_, items)| items.len());
        settled.chain([self.deleted.len(), self.voided.len()]).max().unwrap_or(0)
    }
}

impl Changes {
    /// Returns true if there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { new, results: _, deleted, voided, claims, settled, leases } = self;
        new.is_empty()
            && deleted.is_empty()
            && voided.is_empty()
            && claims.is_empty()
            && settled.is_empty()
            && leases.is_empty()
    }
}
