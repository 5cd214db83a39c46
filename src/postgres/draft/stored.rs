//! The stored state of keys and claims, as a group has read it.

use std::time::Duration;

use crate::backend::claims::ClaimId;
use crate::backend::rules::LiveRecords;
use crate::ids::RecordNumber;
use crate::model::{Origin, Version};
use crate::time::Timestamp;

/// The stored state of a key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    /// Its live records, ascending, each with its version.
    pub(crate) live: Vec<(RecordNumber, Option<Version>)>,
    /// The claim in its owner row, with the version that it claimed.
    pub(crate) owner: Option<(ClaimId, Option<Version>)>,
}

impl Stored {
    pub(super) fn records(&self) -> LiveRecords {
        LiveRecords {
            ids: self.live.iter().map(|(id, _)| *id).collect(),
            version: self.live.last().and_then(|(_, version)| *version),
        }
    }
}

/// The stored state of a claim.
#[derive(Debug, Clone)]
pub(crate) struct StoredClaim {
    pub(crate) nonce: u128,
    pub(crate) until: Timestamp,
    pub(crate) lease: Duration,
    pub(crate) origin: Origin,
}
