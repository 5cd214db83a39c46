//! The vocabulary of claims: what a claim says of its items, and what became of them.

use serde::Serialize;

use super::record::{Origin, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::RecordId;
use crate::time::Timestamp;

/// The verdict of a claim on one item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimVerdict {
    /// The claim holds its value: process it, then confirm.
    Claimed,
    /// Another claim holds its value.
    InFlight {
        /// The origin of that claim.
        by: Origin,
        /// The expiry of that claim's lease, by the clock when it was granted. It may be confirmed, released or extended before.
        until: Timestamp,
    },
    /// Its value is in the pool, by the record that was first; none if it came earlier in the same batch.
    Duplicate(Option<Box<Record>>),
    /// Only of a claim taken up by its token: it does not hold the value any more, since somebody tracked it, or took it
    /// over after the lease ran out. Confirming says what became of it.
    Lost,
    /// Only of a claim taken up by its token: it was confirmed or released before.
    Settled,
}

/// The outcome of confirming one item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimOutcome {
    /// Its value is tracked now, by the record of this id.
    Confirmed(RecordId),
    /// Somebody else has tracked its value meanwhile, by this record. Nothing was written.
    AlreadyTracked(Box<Record>),
    /// The claim does not hold its value any more, and no record has it. The lease ran out and somebody else took it over,
    /// or an hour has passed since; or it was tracked meanwhile and deleted again; or another guard of the same claim,
    /// made by its token, released it. Nothing was written.
    LeaseLost,
}

/// The outcomes of items that were confirmed together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an item may have been lost: see `outcomes` or `all_confirmed`"]
pub struct Confirmation {
    outcomes: Vec<(usize, ClaimOutcome)>,
}

impl Confirmation {
    pub(crate) fn new(outcomes: Vec<(usize, ClaimOutcome)>) -> Self {
        Self { outcomes }
    }

    /// The index of each item in the claim's batch, ascending, and what became of it.
    pub fn outcomes(&self) -> &[(usize, ClaimOutcome)] {
        &self.outcomes
    }

    /// Returns the number of items that this confirmation tracked.
    pub fn confirmed_count(&self) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| matches!(outcome, ClaimOutcome::Confirmed(_))).count()
    }

    /// That every item was confirmed.
    ///
    /// # Errors
    ///
    /// `LeaseLost` with the [index](Error::item) of the first item that was not. What was confirmed stays confirmed.
    pub fn all_confirmed(&self) -> Result<()> {
        let lost = self.outcomes.iter().find(|(_, outcome)| !matches!(outcome, ClaimOutcome::Confirmed(_)));
        let Some((index, outcome)) = lost else { return Ok(()) };
        let how = match outcome {
            ClaimOutcome::AlreadyTracked(first) => {
                format!("somebody else tracked it meanwhile, as record {}", first.id)
            }
            _ => "its lease ran out and somebody else took it over, or it was released".to_owned(),
        };
        let text = format!("the claim does not hold the item any more: {how}");
        Err(Error::new(ErrorKind::LeaseLost, text).with_item(*index))
    }
}

/// A claim that is neither settled nor swept, as [`Pool::claims`](crate::Pool::claims) lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClaimInfo {
    /// The highest of the pool's open claims and one, when it was made: it may have been that of a settled claim, too.
    pub id: u64,
    /// The origin of the claim.
    #[serde(flatten)]
    pub origin: Origin,
    /// The expiry of its lease, by the clock when it was granted.
    pub until: Timestamp,
    /// True if the lease has expired. The claim still holds its items until another claim takes them, or until it is swept.
    pub is_lapsed: bool,
    /// The number of items that it was made for. Some may have been settled or lost since.
    pub items: u64,
}
