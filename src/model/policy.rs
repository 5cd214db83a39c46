//! The policy of a pool: how long it keeps records, and how many. Also its form in JSON.
//!
//! In JSON, a retention is a number of seconds, with decimals only if it is not a whole number.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::Serializer;

use super::change::Change;
use super::seconds;
use crate::error::{Error, Result, all};
use crate::limits;

/// The retention and the capacity of a pool. Without them, a pool keeps every record until it is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The time for which a record lives after its `created_at`.
    pub(crate) retention: Option<Duration>,
    /// The most live records.
    pub(crate) capacity: Option<u64>,
}

impl Policy {
    pub(crate) fn check(self) -> Result<()> {
        all([self.retention.map_or(Ok(()), check_retention), self.capacity.map_or(Ok(()), check_capacity)])
    }
}

fn check_retention(retention: Duration) -> Result<()> {
    let allowed = limits::RETENTION_MIN..=limits::RETENTION_MAX;
    seconds::check_range("retention", retention, allowed, "RETENTION_MIN, RETENTION_MAX")
}

fn check_capacity(capacity: u64) -> Result<()> {
    if capacity > 0 {
        return Ok(());
    }
    Err(Error::limit_exceeded("a capacity of 0 records would keep nothing; allowed is 1 or more")
        .with_parameter("capacity"))
}

/// Reads a retention from a JSON body: seconds, or null.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let retention = seconds::of(number);
    retention.map(Some).map_err(|error| D::Error::custom(format!("a retention of {error}")))
}

/// Reads a change of the retention from a JSON body.
pub(super) fn change_of_seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Change<Duration>, D::Error> {
    Ok(seconds(deserializer)?.map_or(Change::Clear, Change::Set))
}

/// Writes a change of the retention.
pub(super) fn change_to_seconds<S: Serializer>(
    change: &Change<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    to_seconds(&change.value().copied(), serializer)
}

/// Writes a retention in seconds.
#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn to_seconds<S: Serializer>(
    retention: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match retention {
        None => serializer.serialize_none(),
        Some(whole) if whole.subsec_nanos() == 0 => serializer.serialize_u64(whole.as_secs()),
        Some(retention) => serializer.serialize_f64(retention.as_secs_f64()),
    }
}
