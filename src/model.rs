//! What the store holds: pools, records, origins, and the keys that are compared.
//!
//! Owns: the rows as users see them, and the checks of their fields. Must not know: how they are stored.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId, PoolId, RecordId};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPool {
    pub(crate) name: String,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolUpdate {
    pub(crate) name: Option<String>,
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
    )))
}

fn check_description(text: &str) -> Result<()> {
    let length = text.chars().count();
    if length <= limits::DESCRIPTION_MAX_CHARS {
        return Ok(());
    }
    Err(Error::limit_exceeded(format!(
        "the pool description has {length} characters; the limit is {} (DESCRIPTION_MAX_CHARS)",
        limits::DESCRIPTION_MAX_CHARS
    )))
}

/// Where a record came from: the flow, its run and its step that tracked it. Each part may be absent; imported
/// records have none.
///
/// ```
/// use datapool_store::Origin;
///
/// let origin = Origin::new("UA", "2013-01-01", "IAH");
/// assert_eq!(origin.run().unwrap().as_str(), "2013-01-01");
/// assert!(Origin::none().flow().is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub(crate) flow: Option<FlowId>,
    pub(crate) run: Option<FlowRunId>,
    pub(crate) step: Option<FlowStepId>,
}

impl Origin {
    /// The origin of that flow, run and step.
    pub fn new(flow: impl Into<FlowId>, run: impl Into<FlowRunId>, step: impl Into<FlowStepId>) -> Self {
        Self { flow: Some(flow.into()), run: Some(run.into()), step: Some(step.into()) }
    }

    /// No origin, as imported records have it. Parts can be added with the `with_` methods.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets the flow.
    #[must_use]
    pub fn with_flow(mut self, flow: impl Into<FlowId>) -> Self {
        self.flow = Some(flow.into());
        self
    }

    /// Sets the flow run.
    #[must_use]
    pub fn with_run(mut self, run: impl Into<FlowRunId>) -> Self {
        self.run = Some(run.into());
        self
    }

    /// Sets the flow step.
    #[must_use]
    pub fn with_step(mut self, step: impl Into<FlowStepId>) -> Self {
        self.step = Some(step.into());
        self
    }

    /// The flow.
    pub fn flow(&self) -> Option<&FlowId> {
        self.flow.as_ref()
    }

    /// The flow run.
    pub fn run(&self) -> Option<&FlowRunId> {
        self.run.as_ref()
    }

    /// The flow step.
    pub fn step(&self) -> Option<&FlowStepId> {
        self.step.as_ref()
    }

    pub(crate) fn is_none(&self) -> bool {
        self.flow.is_none() && self.run.is_none() && self.step.is_none()
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.flow.as_ref().map_or(Ok(()), FlowId::check)?;
        self.run.as_ref().map_or(Ok(()), FlowRunId::check)?;
        self.step.as_ref().map_or(Ok(()), FlowStepId::check)
    }
}

/// One tracked value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// From 1, unique in its pool, growing with time.
    pub id: RecordId,
    /// The pool that holds it.
    pub data_pool_id: PoolId,
    /// What the value identifies.
    pub entity_type_id: EntityTypeId,
    /// The value, exactly as it was tracked.
    pub value: String,
    /// The flow that tracked it.
    pub flow_id: Option<FlowId>,
    /// The flow run that tracked it.
    pub flow_run_id: Option<FlowRunId>,
    /// The flow step that tracked it.
    pub step_id: Option<FlowStepId>,
    /// The pool time of the commit that wrote it.
    pub created_at: Timestamp,
}

/// What is compared: a value within its entity type.
///
/// The value is taken as it is, never trimmed, folded or normalised: 1 to 4,096 bytes, checked by the call that
/// takes the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a> {
    pub(crate) entity_type: EntityTypeId,
    pub(crate) value: Cow<'a, str>,
}

impl<'a> Key<'a> {
    /// The key of a value within an entity type.
    pub fn new(entity_type: impl Into<EntityTypeId>, value: impl Into<Cow<'a, str>>) -> Self {
        Self { entity_type: entity_type.into(), value: value.into() }
    }

    /// What the value identifies.
    pub fn entity_type(&self) -> EntityTypeId {
        self.entity_type
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_value(&self.value)
    }
}

pub(crate) fn check_value(value: &str) -> Result<()> {
    match value.len() {
        0 => Err(Error::invalid_argument(format!(
            "a value is empty; it has 1 to {} bytes",
            limits::VALUE_MAX_BYTES
        ))),
        length if length > limits::VALUE_MAX_BYTES => Err(Error::limit_exceeded(format!(
            "a value has {length} bytes; the limit is {} (VALUE_MAX_BYTES)",
            limits::VALUE_MAX_BYTES
        ))),
        _ => Ok(()),
    }
}

/// Several typed fields joined into one value, unambiguously and readably.
///
/// The text is a JSON array without white space (`["a",1,true]`), with `serde_json`'s string escapes. That form is
/// frozen: it is what is stored and compared. A plain value of the same text is the same value.
///
/// ```
/// use datapool_store::{CompositeKey, Key};
///
/// let key = CompositeKey::new().text("JFK").integer(1545).boolean(true);
/// assert_eq!(key.as_str(), r#"["JFK",1545,true]"#);
/// assert_ne!(CompositeKey::new().text("1"), CompositeKey::new().integer(1));
/// let key: Key<'_> = Key::new(37, &key);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompositeKey(String);

impl CompositeKey {
    /// A key without fields: `[]`.
    pub fn new() -> Self {
        Self("[]".to_owned())
    }

    /// Adds a text field.
    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.push(&serde_json::Value::from(field).to_string())
    }

    /// Adds an integer field.
    #[must_use]
    pub fn integer(self, field: impl Into<i128>) -> Self {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", field.into());
        self.push(&text)
    }

    /// Adds a boolean field.
    #[must_use]
    pub fn boolean(self, field: bool) -> Self {
        self.push(if field { "true" } else { "false" })
    }

    /// The value's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn push(mut self, field: &str) -> Self {
        self.0.pop();
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(field);
        self.0.push(']');
        self
    }
}

impl Default for CompositeKey {
    fn default() -> Self {
        Self::new()
    }
}

impl From<CompositeKey> for Cow<'_, str> {
    fn from(key: CompositeKey) -> Self {
        Cow::Owned(key.0)
    }
}

impl<'a> From<&'a CompositeKey> for Cow<'a, str> {
    fn from(key: &'a CompositeKey) -> Self {
        Cow::Borrowed(&key.0)
    }
}
