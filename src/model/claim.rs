//! The vocabulary of claims: verdicts on items, and outcomes of confirming them.

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
        /// The expiry of that claim's lease, by the clock when it was granted. The claim may be confirmed, released or
        /// extended before then.
        until: Timestamp,
    },
    /// The value is in the pool: the record that was first with it; `None` if it occurred earlier in the same batch.
    Duplicate(Option<Box<Record>>),
    /// Only in a claim that was taken up by its token: the claim does not hold the value any more, because another
    /// caller tracked it, or took it over after the lease ran out. Confirming the item returns what became of it.
    Lost,
    /// Only in a claim that was taken up by its token: the item was confirmed or released before.
    Settled,
}

/// The outcome of confirming one item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimOutcome {
    /// The value is tracked now, by the record of this id.
    Confirmed(RecordId),
    /// Another caller tracked the value meanwhile, as this record. Nothing was written.
    AlreadyTracked(Box<Record>),
    /// The claim does not hold the value any more, and no record has it. Nothing was written. Possible reasons: the
    /// lease ran out, and another claim took the value over; the lease ran out over an hour ago; the value was tracked
    /// meanwhile and deleted again; another guard of the same claim, made by its token, released it.
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

    /// Returns the index in the claim's batch and the outcome of each item, ascending.
    pub fn outcomes(&self) -> &[(usize, ClaimOutcome)] {
        &self.outcomes
    }

    /// Returns the number of items that this confirmation tracked.
    pub fn confirmed_count(&self) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| matches!(outcome, ClaimOutcome::Confirmed(_))).count()
    }

    /// Checks that every item was confirmed.
    ///
    /// # Errors
    ///
    /// `LeaseLost` with the [index](Error::item) of the first item that was not confirmed. Confirmed items stay
    /// confirmed.
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
    /// The claim's id: the highest id of the pool's open claims when it was made, plus one. A settled claim may have
    /// had the same id.
    pub id: u64,
    /// The origin of the claim.
    #[serde(flatten)]
    pub origin: Origin,
    /// The expiry of its lease, by the clock when it was granted.
    pub until: Timestamp,
    /// True if the lease has expired. The claim still holds its items until another claim takes them, or until it is
    /// swept.
    pub is_lapsed: bool,
    /// The number of items that were claimed. Some may have been settled or lost since.
    pub items: u64,
}
