//! Claims in memory: those of a pool, by id, and which of them can be swept.
//!
//! Always holds: a claim that can be swept does not exist for anybody, whether it is swept yet or not. Deadlines are of the
//! monotonic clock: they are made from the grant in the process that granted, and from the wall clock when a pool is loaded. A
//! claim that can be swept may exist again then, so nothing may depend on its end before it is swept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use rpds::RedBlackTreeMapSync;

use crate::engine::format::codec::ClaimRow;
use crate::engine::format::fingerprint::BuildFingerprintHasher;
use crate::engine::format::schema::Fingerprint;
use crate::limits;
use crate::model::Origin;
use crate::time::{Moment, Timestamp};

pub(crate) type ClaimId = u64;

/// Owner rows: which claim has which value.
pub(crate) type Owners = HashMap<Fingerprint, ClaimId, BuildFingerprintHasher>;

/// A claim as of one commit.
#[derive(Debug, Clone)]
pub(crate) struct ClaimState {
    pub(crate) origin: Arc<Origin>,
    /// When the lease ends, by the clock at its grant.
    pub(crate) until: Timestamp,
    pub(crate) lease: Duration,
    /// When the lease ends, by the monotonic clock.
    pub(crate) deadline: Moment,
    pub(crate) nonce: u128,
    pub(crate) items: u32,
    /// The indexes in the batch of those that were confirmed or released while others were not.
    pub(crate) settled: RoaringBitmap,
}

impl ClaimState {
    /// As it lies on disk.
    pub(crate) fn row(&self) -> ClaimRow {
        ClaimRow {
            origin: Origin::clone(&self.origin),
            until: self.until,
            lease: self.lease,
            nonce: self.nonce,
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

/// The claims of a pool, by id. Cheap to clone and to change in one place. Their items are on disk.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    by_id: RedBlackTreeMapSync<ClaimId, Arc<ClaimState>>,
    /// Nothing can be swept before.
    sweep_from: Moment,
}

impl Default for Claims {
    fn default() -> Self {
        Self { by_id: RedBlackTreeMapSync::default(), sweep_from: Moment::NEVER }
    }
}

impl Claims {
    /// Whether there is no claim, not even one to sweep.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the number of claims that exist.
    pub(crate) fn count(&self, moment: Moment) -> u64 {
        if !self.may_sweep(moment) {
            return self.by_id.size() as u64;
        }
        self.by_id.values().filter(|claim| !claim.is_sweepable(moment)).count() as u64
    }

    /// A claim, even if it can be swept: until it is, its rows are there, and a clock that is set back brings it to life.
    pub(crate) fn stored(&self, id: ClaimId) -> Option<&ClaimState> {
        self.by_id.get(&id).map(|claim| &**claim)
    }

    /// Every claim, those that can be swept included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClaimId, &ClaimState)> {
        self.by_id.iter().map(|(id, claim)| (*id, &**claim))
    }

    /// Whether there is such a claim, even if it can be swept.
    pub(crate) fn contains(&self, id: ClaimId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// A claim, if it exists.
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

    /// The id that the next claim gets.
    pub(crate) fn next_id(&self) -> ClaimId {
        self.by_id.last().map_or(1, |(last, _)| last + 1)
    }

    /// Whether there is a claim to sweep, as far as that is known without looking at each.
    pub(crate) fn may_sweep(&self, moment: Moment) -> bool {
        self.sweep_from <= moment
    }

    /// A claim to sweep. If there is none, remembers until when.
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
