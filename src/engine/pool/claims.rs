//! The claims of a pool in memory, by id, and the rule when they can be swept.
//!
//! Always holds: a claim that can be swept does not exist for callers, even before it is swept. Deadlines are
//! on the monotonic clock. In the process that granted the claim, they count from the grant; when a pool is
//! loaded, they are computed from the wall clock. After loading, a claim that could be swept may exist again.
//! So nothing may depend on the end of a claim before it is swept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use rpds::RedBlackTreeMapSync;

use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint};
use crate::engine::format::codec::ClaimRow;
use crate::limits;
use crate::model::{ClaimInfo, Origin};
use crate::time::{Moment, Timestamp};

/// The owner rows: the claim that owns each claimed value.
pub(crate) type Owners = HashMap<Fingerprint, ClaimId, BuildFingerprintHasher>;

/// The state of a claim as of one commit.
#[derive(Debug, Clone)]
pub(crate) struct ClaimState {
    pub(crate) origin: Arc<Origin>,
    pub(crate) owner: Option<Arc<str>>,
    /// The time of the grant.
    pub(crate) since: Timestamp,
    /// The expiry of the lease, by the wall clock at the grant.
    pub(crate) until: Timestamp,
    pub(crate) lease: Duration,
    /// The expiry of the lease, by the monotonic clock.
    pub(crate) deadline: Moment,
    pub(crate) nonce: u128,
    /// The fencing number of the grant.
    pub(crate) fence: u64,
    pub(crate) items: u32,
    /// The indexes in the batch of items that are confirmed or released while others are still open.
    pub(crate) settled: RoaringBitmap,
}

impl ClaimState {
    /// Creates the state of a stored claim whose lease expires at `deadline`.
    pub(crate) fn of_row(row: ClaimRow, deadline: Moment) -> Self {
        Self {
            origin: Arc::new(row.origin),
            owner: row.owner.map(Into::into),
            since: row.since,
            until: row.until,
            lease: row.lease,
            deadline,
            nonce: row.nonce,
            fence: row.fence,
            items: row.items,
            settled: row.settled,
        }
    }

    /// Returns the row to store.
    pub(crate) fn row(&self) -> ClaimRow {
        ClaimRow {
            origin: Origin::clone(&self.origin),
            owner: self.owner.as_deref().map(str::to_owned),
            since: self.since,
            until: self.until,
            lease: self.lease,
            nonce: self.nonce,
            fence: self.fence,
            items: self.items,
            settled: self.settled.clone(),
        }
    }

    pub(crate) fn is_lapsed(&self, moment: Moment) -> bool {
        self.deadline <= moment
    }

    pub(crate) fn is_sweepable(&self, moment: Moment) -> bool {
        self.deadline.after(limits::CLAIM_KEPT_AFTER_LEASE) <= moment
    }
}

/// The claims of a pool, by id. Cloning and changing one claim are cheap. Their items are on disk.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    by_id: RedBlackTreeMapSync<ClaimId, Arc<ClaimState>>,
    /// No claim can be swept before this moment.
    sweep_from: Moment,
    /// The highest fencing number given so far.
    fence: u64,
}

impl Default for Claims {
    fn default() -> Self {
        Self { by_id: RedBlackTreeMapSync::default(), sweep_from: Moment::NEVER, fence: 0 }
    }
}

impl Claims {
    /// Creates an empty set of claims for a pool whose highest fencing number is this.
    pub(crate) fn fenced_to(fence: u64) -> Self {
        Self { fence, ..Self::default() }
    }

    /// Returns the highest fencing number given so far; 0 if there is none.
    pub(crate) fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns the next fencing number. It follows the wall clock, so that a restored backup gives higher
    /// numbers than the store that it was copied from.
    pub(in crate::engine::pool) fn next_fence(&mut self, now: Timestamp) -> u64 {
        let clock = u64::try_from(now.as_micros()).unwrap_or(0);
        self.fence = self.fence.saturating_add(1).max(clock);
        self.fence
    }

    /// Returns true if there are no claims, not even ones to sweep.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the number of claims that exist for callers.
    pub(crate) fn count(&self, moment: Moment) -> u64 {
        if !self.may_sweep(moment) {
            return self.by_id.size() as u64;
        }
        self.by_id.values().filter(|claim| !claim.is_sweepable(moment)).count() as u64
    }

    /// Returns a claim even if it can be swept. Until it is swept, its rows exist, and it exists again if the
    /// clock is set back.
    pub(crate) fn stored(&self, id: ClaimId) -> Option<&ClaimState> {
        self.by_id.get(&id).map(|claim| &**claim)
    }

    /// Iterates over all claims, including those that can be swept.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClaimId, &ClaimState)> {
        self.by_id.iter().map(|(id, claim)| (*id, &**claim))
    }

    /// Describes the claims that exist, oldest first.
    pub(crate) fn infos(&self, moment: Moment) -> impl Iterator<Item = ClaimInfo> {
        let info = move |(id, claim): (ClaimId, &ClaimState)| ClaimInfo {
            id,
            origin: Origin::clone(&claim.origin),
            owner: claim.owner.as_deref().map(str::to_owned),
            since: claim.since,
            until: claim.until,
            is_lapsed: claim.is_lapsed(moment),
            items: claim.items.into(),
        };
        self.iter().filter(move |(_, claim)| !claim.is_sweepable(moment)).map(info)
    }

    /// Returns true if there is a claim with this id, even if it can be swept.
    pub(crate) fn contains(&self, id: ClaimId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Returns a claim if it exists for callers.
    pub(crate) fn get(&self, id: ClaimId, moment: Moment) -> Option<&ClaimState> {
        self.by_id.get(&id).map(|claim| &**claim).filter(|claim| !claim.is_sweepable(moment))
    }

    pub(crate) fn insert(&mut self, id: ClaimId, claim: ClaimState) {
        self.sweep_from = self.sweep_from.min(claim.deadline.after(limits::CLAIM_KEPT_AFTER_LEASE));
        self.by_id.insert_mut(id, Arc::new(claim));
    }

    pub(in crate::engine::pool) fn remove(&mut self, id: ClaimId) {
        self.by_id.remove_mut(&id);
    }

    /// Returns the id of the next claim.
    pub(crate) fn next_id(&self) -> ClaimId {
        self.by_id.last().map_or(1, |(last, _)| last + 1)
    }

    /// Returns true if there may be a claim to sweep. Does not look at each claim.
    pub(crate) fn may_sweep(&self, moment: Moment) -> bool {
        self.sweep_from <= moment
    }

    /// Returns a claim to sweep. If there is none, remembers the earliest moment at which there can be one.
    pub(in crate::engine::pool) fn next_to_sweep(&mut self, moment: Moment) -> Option<ClaimId> {
        if !self.may_sweep(moment) {
            return None;
        }
        let found = self.by_id.iter().find(|(_, claim)| claim.is_sweepable(moment)).map(|(id, _)| *id);
        if found.is_none() {
            let ends = self.by_id.values().map(|claim| claim.deadline.after(limits::CLAIM_KEPT_AFTER_LEASE));
            self.sweep_from = ends.min().unwrap_or(Moment::NEVER);
        }
        found
    }
}
