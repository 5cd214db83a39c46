//! Pools: their rows, the options to create and change them, and the checks of their fields.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::change::Change;
use super::policy::{self, Policy};
use super::seconds;
use crate::error::{Error, Result, all};
use crate::ids::PoolId;
use crate::limits;
use crate::time::Timestamp;

/// A pool's row: its name, its policy, and when it was created and changed.
///
/// Serializes as in the HTTP API, with `retention` (in seconds) and `capacity` if they are set, and
/// deserializes from that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DataPool {
    /// The id: from 1, never reused.
    pub id: PoolId,
    /// The name: 3 to 100 characters, unique in the store.
    pub name: String,
    /// The description: at most 255 characters.
    pub description: Option<String>,
    /// The time at which the pool was created.
    pub created_at: Timestamp,
    /// The time of the last update of the pool, by the clock, even if it changed nothing. It never decreases.
    pub updated_at: Timestamp,
    /// The time for which a record is live after its `created_at`. `None` if records live until they are
    /// deleted.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "policy::to_seconds",
        deserialize_with = "policy::seconds"
    )]
    pub retention: Option<Duration>,
    /// The largest number of live records. If there are more, the oldest expire. `None` if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
}

impl DataPool {
    pub(crate) fn policy(&self) -> Policy {
        Policy { retention: self.retention, capacity: self.capacity }
    }
}

/// The fields of a new pool.
///
/// Serializes as the HTTP API's body, and deserializes from that: `{"name", "description"}`, and additionally
/// `retention` (in seconds) and `capacity`. Every field except the name may be absent or null. Other fields
/// are ignored, so that a pool's own JSON describes a new pool like it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPool {
    // An absent name is rejected like an empty one, with an error that states the name and its limit.
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default, serialize_with = "policy::to_seconds", deserialize_with = "policy::seconds")]
    pub(crate) retention: Option<Duration>,
    #[serde(default)]
    pub(crate) capacity: Option<u64>,
}

impl NewPool {
    /// Creates the fields of a pool with this name: 3 to 100 characters, unique in the store.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), description: None, retention: None, capacity: None }
    }

    /// Sets the description: at most 255 characters.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Sets how long records live after their `created_at`: 1 ms to 36,500 days.
    #[must_use]
    #[doc(alias("ttl", "expire", "expiry", "max_age"))]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(seconds::to_micros(retention));
        self
    }

    /// Sets the largest number of live records, at least 1. If there are more, the oldest expire.
    #[must_use]
    #[doc(alias("max_size", "limit", "eviction"))]
    pub fn capacity(mut self, records: u64) -> Self {
        self.capacity = Some(records);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        all([
            check_pool_name(&self.name),
            self.description.as_deref().map_or(Ok(()), check_description),
            Policy { retention: self.retention, capacity: self.capacity }.check(),
        ])
    }
}

impl From<&str> for NewPool {
    /// Creates the fields of a pool with only this name.
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<&String> for NewPool {
    fn from(name: &String) -> Self {
        Self::new(name)
    }
}

impl From<String> for NewPool {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// A change to a pool. Fields that are not set are not changed.
///
/// Serializes as the HTTP API's body, and deserializes from that: an absent field is not changed; null
/// removes a description, a `retention` (in seconds) or a `capacity`. Other fields are ignored.
///
/// ```
/// use datapool_store::PoolUpdate;
///
/// let update: PoolUpdate = serde_json::from_str(r#"{"name": "orders", "description": null}"#).unwrap();
/// assert_eq!(update, PoolUpdate::new().name("orders").clear_description());
/// assert_eq!(serde_json::from_str::<PoolUpdate>("{}").unwrap(), PoolUpdate::new());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub(crate) description: Change<String>,
    #[serde(
        default,
        skip_serializing_if = "Change::is_keep",
        serialize_with = "policy::change_to_seconds",
        deserialize_with = "policy::change_of_seconds"
    )]
    pub(crate) retention: Change<Duration>,
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub(crate) capacity: Change<u64>,
}

impl PoolUpdate {
    /// Creates an update that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Renames the pool: 3 to 100 characters, unique in the store.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the description: at most 255 characters.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Change::Set(description.into());
        self
    }

    /// Removes the description.
    #[must_use]
    pub fn clear_description(mut self) -> Self {
        self.description = Change::Clear;
        self
    }

    /// Sets how long records live after their `created_at`: 1 ms to 36,500 days. Records older than that
    /// expire with this update. Records that expired before stay expired, even if the new retention is
    /// longer.
    #[must_use]
    #[doc(alias("ttl", "expire", "expiry", "max_age"))]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Change::Set(seconds::to_micros(retention));
        self
    }

    /// Removes the retention: records live until they are deleted. Records that have expired stay expired.
    #[must_use]
    pub fn clear_retention(mut self) -> Self {
        self.retention = Change::Clear;
        self
    }

    /// Sets the largest number of live records, at least 1. If there are more, the oldest expire with this
    /// update.
    #[must_use]
    #[doc(alias("max_size", "limit", "eviction"))]
    pub fn capacity(mut self, records: u64) -> Self {
        self.capacity = Change::Set(records);
        self
    }

    /// Removes the capacity: the pool can hold any number of records.
    #[must_use]
    pub fn clear_capacity(mut self) -> Self {
        self.capacity = Change::Clear;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let description = match &self.description {
            Change::Set(text) => check_description(text),
            Change::Keep | Change::Clear => Ok(()),
        };
        let mut policy = Policy::default();
        self.retention.apply_to(&mut policy.retention);
        self.capacity.apply_to(&mut policy.capacity);
        all([self.name.as_deref().map_or(Ok(()), check_pool_name), description, policy.check()])
    }
}

fn check_pool_name(name: &str) -> Result<()> {
    let (min, max) = (limits::POOL_NAME_MIN_CHARS, limits::POOL_NAME_MAX_CHARS);
    let length = name.chars().count();
    if (min..=max).contains(&length) {
        return Ok(());
    }
    let shown: String = name.chars().take(max).collect();
    Err(Error::limit_exceeded(format!(
        "the pool name {shown:?} has {length} characters; allowed are {min} to {max} \
         (POOL_NAME_MIN_CHARS, POOL_NAME_MAX_CHARS)"
    ))
    .with_parameter("name"))
}

fn check_description(text: &str) -> Result<()> {
    let length = text.chars().count();
    if length <= limits::DESCRIPTION_MAX_CHARS {
        return Ok(());
    }
    Err(Error::limit_exceeded(format!(
        "the pool description has {length} characters; the limit is {} (DESCRIPTION_MAX_CHARS)",
        limits::DESCRIPTION_MAX_CHARS
    ))
    .with_parameter("description"))
}
