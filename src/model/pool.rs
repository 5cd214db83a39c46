//! Pools: their rows, what makes and changes them, and the checks of their fields.

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::limits;
use crate::time::Timestamp;

/// A pool's row: its name and when it was made and changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DataPool {
    /// From 1, never reused.
    pub id: PoolId,
    /// 3 to 100 characters, unique in the store.
    pub name: String,
    /// At most 255 characters.
    pub description: Option<String>,
    /// When the pool was made.
    pub created_at: Timestamp,
    /// When its name or description was last set.
    pub updated_at: Timestamp,
}

/// What a new pool is made from.
///
/// Deserializes from the HTTP API's body, `{"name", "description"}`; the description may be absent or null.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NewPool {
    // An absent name is refused as an empty one is, by name and limit.
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: Option<String>,
}

impl NewPool {
    /// A pool of that name: 3 to 100 characters, unique in the store.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), description: None }
    }

    /// Sets its description: at most 255 characters.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_pool_name(&self.name)?;
        self.description.as_deref().map_or(Ok(()), check_description)
    }
}

/// A change to a pool. What is not named stays as it is.
///
/// Deserializes from the HTTP API's body: an absent field leaves what is there, a null description removes it.
///
/// ```
/// use datapool_store::PoolUpdate;
///
/// let update: PoolUpdate = serde_json::from_str(r#"{"name": "orders", "description": null}"#).unwrap();
/// assert_eq!(update, PoolUpdate::new().name("orders").clear_description());
/// assert_eq!(serde_json::from_str::<PoolUpdate>("{}").unwrap(), PoolUpdate::new());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct PoolUpdate {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) description: DescriptionUpdate,
}

/// What becomes of a description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum DescriptionUpdate {
    #[default]
    Keep,
    Clear,
    Set(String),
}

impl<'de> Deserialize<'de> for DescriptionUpdate {
    /// A field that is there: null or a text. An absent one is the default, `Keep`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl PoolUpdate {
    /// Changes nothing yet.
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
        self.description = DescriptionUpdate::Set(description.into());
        self
    }

    /// Removes the description.
    #[must_use]
    pub fn clear_description(mut self) -> Self {
        self.description = DescriptionUpdate::Clear;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.name.as_deref().map_or(Ok(()), check_pool_name)?;
        match &self.description {
            DescriptionUpdate::Set(text) => check_description(text),
            DescriptionUpdate::Keep | DescriptionUpdate::Clear => Ok(()),
        }
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
