//! The types of claims: verdicts on items, outcomes of confirming them, options, filters and descriptions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Origin, Record};
use super::seconds;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{FlowId, FlowRunId, RecordId};
use crate::limits;
use crate::time::Timestamp;

/// The verdict of a claim on one item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimVerdict {
    /// The claim holds the value. Process it, then confirm it.
    Claimed,
    /// Another claim holds the value, or the same claim holds it with another version.
    InFlight {
        /// The origin of that claim.
        by: Origin,
        /// The expiry of that claim's lease, by the clock when it was granted. The claim may be confirmed,
        /// released or extended before then.
        until: Timestamp,
    },
    /// The value is in the pool, with this version if the key has one. This is the record that was first with
    /// it; `None` if the value occurred earlier in the same batch.
    Duplicate(Option<Box<Record>>),
    /// The claim does not hold the value any more, because another caller tracked it, or took it over after
    /// the lease ran out. Confirming the item returns its outcome. Only a claim that was taken up, by its
    /// token or for its owner, has this verdict.
    Lost,
    /// The item was confirmed or released before. Only a claim that was taken up, by its token or for its
    /// owner, has this verdict.
    Settled,
}

impl ClaimVerdict {
    /// Returns true if the claim holds the value.
    pub fn is_claimed(&self) -> bool {
        matches!(self, Self::Claimed)
    }
}

/// The outcome of confirming one item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimOutcome {
    /// The value is now tracked by the record with this id.
    Confirmed(RecordId),
    /// Another caller tracked the value meanwhile, as this record. Nothing was written.
    AlreadyTracked(Box<Record>),
    /// The claim does not hold the value any more, and no record has it. Nothing was written. Possible
    /// reasons: the lease ran out and another claim took over the value; the lease ran out more than an hour
    /// ago; the value was tracked and deleted meanwhile; another guard of the same claim, made from its
    /// token, released it; [the claim was released](crate::Pool::release_claims); [its owner took it
    /// up](crate::Pool::resume_claims_of).
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
    /// `LeaseLost` with the [index](Error::item) of the first item that was not confirmed. Confirmed items
    /// stay confirmed.
    pub fn all_confirmed(&self) -> Result<()> {
        let lost = self.outcomes.iter().find(|(_, outcome)| !matches!(outcome, ClaimOutcome::Confirmed(_)));
        let Some((index, outcome)) = lost else { return Ok(()) };
        let how = match outcome {
            ClaimOutcome::AlreadyTracked(first) => {
                format!("somebody else tracked it meanwhile, as record {}", first.id)
            }
            _ => "its lease ran out and somebody else took it over, or it was released or taken up by its owner".to_owned(),
        };
        let text = format!("the claim does not hold the item any more: {how}");
        Err(Error::new(ErrorKind::LeaseLost, text).with_item(*index))
    }
}

/// The state of a value after [waiting](crate::Pool::wait_for) for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitOutcome {
    /// The value is in the pool. This is the record that was first with it.
    Tracked(Box<Record>),
    /// No claim holds the value, and it is not in the pool. It is not reserved: another caller may claim it
    /// first.
    Free,
    /// The timeout is over, and a claim still holds the value.
    InFlight {
        /// The origin of that claim.
        by: Origin,
        /// The expiry of that claim's lease, by the clock when it was granted.
        until: Timestamp,
    },
}

/// The options of [`Pool::claim_with`](crate::Pool::claim_with).
///
/// ```
/// use std::time::Duration;
/// use datapool_store::ClaimOptions;
///
/// let options = ClaimOptions::new().lease(Duration::from_secs(60)).owner("worker-7");
/// ```
///
/// Serializes with the fields `lease`, in seconds, and `owner`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct ClaimOptions {
    #[serde(with = "seconds")]
    pub(crate) lease: Duration,
    pub(crate) owner: Option<String>,
}

impl Default for ClaimOptions {
    fn default() -> Self {
        Self { lease: limits::LEASE_DEFAULT, owner: None }
    }
}

impl ClaimOptions {
    /// Creates options for a lease of five minutes, without an owner.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the length of the lease: 1 ms to 365 days.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the owner: a name for the runner, of 1 to 64 bytes, that stays the same when it restarts. With
    /// it, [`Pool::resume_claims_of`](crate::Pool::resume_claims_of) can take up the claims of a runner that
    /// died before it stored a token. No two running runners should have the same name.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_lease(self.lease)?;
        self.owner.as_deref().map_or(Ok(()), check_owner)
    }
}

pub(crate) fn check_lease(lease: Duration) -> Result<()> {
    seconds::check_range("lease", lease, limits::LEASE_MIN..=limits::LEASE_MAX, "LEASE_MIN, LEASE_MAX")
}

pub(crate) fn check_owner(owner: &str) -> Result<()> {
    let most = limits::OWNER_MAX_BYTES;
    match owner.len() {
        0 => Err(Error::invalid_argument(format!("a claim's owner is empty; it has 1 to {most} bytes"))),
        length if length > most => Err(Error::limit_exceeded(format!(
            "a claim's owner has {length} bytes; the limit is {most} (OWNER_MAX_BYTES)"
        ))),
        _ => return Ok(()),
    }
    .map_err(|error| error.with_parameter("owner"))
}

/// A filter of a pool's claims, for [`Pool::release_claims`](crate::Pool::release_claims). All conditions
/// must hold. A filter without a condition selects nothing, so that forgetting a condition releases nothing.
/// [`all`](Self::all) selects every claim.
///
/// ```
/// use std::time::Duration;
/// use datapool_store::ClaimFilter;
///
/// let stuck = ClaimFilter::new().owner("worker-7").older_than(Duration::from_secs(3600));
/// ```
///
/// Serializes with a field for each method, `older_than` in seconds. When it is deserialized, absent fields
/// add no condition, and unknown fields are errors, so that a misspelt condition does not release more
/// claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct ClaimFilter {
    id: Option<u64>,
    owner: Option<String>,
    #[serde(rename = "flow_id")]
    flow: Option<FlowId>,
    #[serde(rename = "flow_run_id")]
    run: Option<FlowRunId>,
    #[serde(serialize_with = "seconds::serialize_some", deserialize_with = "seconds::deserialize_some")]
    older_than: Option<Duration>,
    lapsed: bool,
    #[serde(rename = "all")]
    is_all: bool,
}

impl ClaimFilter {
    /// Creates a filter without a condition, which selects nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a filter that selects every claim. Added conditions narrow it down.
    pub fn all() -> Self {
        Self { is_all: true, ..Self::default() }
    }

    /// Selects the claim with this [id](ClaimInfo::id).
    pub fn id(mut self, id: u64) -> Self {
        self.id = Some(id);
        self
    }

    /// Selects the claims of an owner.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Selects claims whose origin has this flow.
    pub fn flow_id(mut self, flow: impl Into<FlowId>) -> Self {
        self.flow = Some(flow.into());
        self
    }

    /// Selects claims whose origin has this flow run.
    pub fn flow_run_id(mut self, run: impl Into<FlowRunId>) -> Self {
        self.run = Some(run.into());
        self
    }

    /// Selects claims that were made, or taken up for their owner, longer ago than this, by the wall clock.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Selects claims whose lease has ended.
    pub fn lapsed(mut self) -> Self {
        self.lapsed = true;
        self
    }

    /// Returns true if the filter selects a claim. `now` is the wall clock's time.
    pub(crate) fn takes(&self, claim: &ClaimInfo, now: Timestamp) -> bool {
        *self != Self::default()
            && self.id.is_none_or(|id| claim.id == id)
            && self.owner.as_ref().is_none_or(|owner| claim.owner.as_ref() == Some(owner))
            && self.flow.as_ref().is_none_or(|flow| claim.origin.flow() == Some(flow))
            && self.run.as_ref().is_none_or(|run| claim.origin.run() == Some(run))
            && self.older_than.is_none_or(|age| now.since(claim.since) > age)
            && (!self.lapsed || claim.is_lapsed)
    }
}

/// An open claim, as listed by [`Pool::claims`](crate::Pool::claims): neither settled nor swept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClaimInfo {
    /// The claim's id, unique among the open claims of the pool. After the store is opened again or vacuumed,
    /// a new claim may get the id of an ended one.
    pub id: u64,
    /// The origin of the claim.
    #[serde(flatten)]
    pub origin: Origin,
    /// The owner, if the claim has one.
    pub owner: Option<String>,
    /// The time at which the claim was made, or taken up for its owner, by the wall clock.
    pub since: Timestamp,
    /// The expiry of its lease, by the clock when it was granted.
    pub until: Timestamp,
    /// True if the lease has expired. The claim still holds its items until another claim takes them, or
    /// until it is swept.
    pub is_lapsed: bool,
    /// The number of items that were claimed. Some may have been settled or lost since.
    pub items: u64,
}
