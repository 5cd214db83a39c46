//! Registered entries, which listings can include: entity types, flows, flow runs and flow steps.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId};
use crate::limits;

/// A registered id with its name and other attributes that the program keeps with it.
///
/// [`DataPoolStore::put_flow`](crate::DataPoolStore::put_flow) and similar methods register it. Listings
/// return it if their query [includes](crate::RecordQuery::include) it. Serializes as `{"id", "name",
/// "attributes"}`, and deserializes from that.
///
/// ```
/// use datapool_store::{DataPoolStore, Flow};
///
/// # fn main() -> datapool_store::Result<()> {
/// let store = DataPoolStore::in_memory()?;
/// let attributes = serde_json::json!({"active": true, "owner": "sales"});
/// store.put_flow(Flow::new("12", "Shop to ERP").attributes(attributes))?;
/// assert_eq!(store.flow("12")?.unwrap().name, "Shop to ERP");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registered<Id> {
    /// The id, as records have it.
    pub id: Id,
    /// The name: at most 255 characters.
    pub name: String,
    /// The attributes: any JSON, at most 65,536 bytes of text and 64 levels deep. An empty object by default.
    pub attributes: Value,
}

/// A registered entity type.
pub type EntityType = Registered<EntityTypeId>;
/// A registered flow.
pub type Flow = Registered<FlowId>;
/// A registered flow run.
pub type FlowRun = Registered<FlowRunId>;
/// A registered flow step.
pub type FlowStep = Registered<FlowStepId>;

impl<Id> Registered<Id> {
    /// Creates an entry with a name and without attributes.
    pub fn new(id: impl Into<Id>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), attributes: Value::Object(serde_json::Map::new()) }
    }

    /// Sets the attributes: any JSON.
    #[must_use]
    pub fn attributes(mut self, attributes: impl Into<Value>) -> Self {
        self.attributes = attributes.into();
        self
    }
}

/// An id that can be registered, and its stored form.
pub(crate) trait RegisteredId: Sized + Clone {
    const KIND: RegisteredKind;

    /// Returns bytes that sort in the same order as the ids.
    fn to_key(&self) -> Vec<u8>;

    /// Returns the id from these bytes, or `None` if they are damaged.
    fn from_key(key: &[u8]) -> Option<Self>;

    fn check(&self) -> Result<()>;
}

/// The kinds of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegisteredKind {
    EntityType,
    Flow,
    FlowRun,
    FlowStep,
}

impl RegisteredKind {
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::EntityType => "entity type",
            Self::Flow => "flow",
            Self::FlowRun => "flow run",
            Self::FlowStep => "flow step",
        }
    }
}

impl RegisteredId for EntityTypeId {
    const KIND: RegisteredKind = RegisteredKind::EntityType;

    fn to_key(&self) -> Vec<u8> {
        self.get().to_be_bytes().to_vec()
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        key.try_into().ok().map(u32::from_be_bytes).map(Self::new)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

macro_rules! registered_text_id {
    ($($id:ident => $kind:ident),*) => {
        $(impl RegisteredId for $id {
            const KIND: RegisteredKind = RegisteredKind::$kind;

            fn to_key(&self) -> Vec<u8> {
                self.as_str().as_bytes().to_vec()
            }

            fn from_key(key: &[u8]) -> Option<Self> {
                std::str::from_utf8(key).ok().map(Self::from)
            }

            fn check(&self) -> Result<()> {
                $id::check(self)
            }
        })*
    };
}

registered_text_id!(FlowId => Flow, FlowRunId => FlowRun, FlowStepId => FlowStep);

/// The stored form of a registered entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegisteredEntry {
    /// The id, as [`RegisteredId::to_key`] returns it.
    pub(crate) key: Vec<u8>,
    pub(crate) name: String,
    /// The attributes as JSON text.
    pub(crate) attributes: String,
}

impl RegisteredEntry {
    /// Checks an entry.
    ///
    /// # Errors
    ///
    /// `LimitExceeded` or `InvalidArgument` with the name of the field.
    pub(crate) fn of<Id: RegisteredId>(entry: &Registered<Id>) -> Result<Self> {
        let attributes = attributes_of(entry)?;
        Ok(Self { key: entry.id.to_key(), name: entry.name.clone(), attributes })
    }

    /// Returns the entry as callers see it.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the key or the attributes are damaged.
    pub(crate) fn read<Id: RegisteredId>(self) -> Result<Registered<Id>> {
        let noun = Id::KIND.noun();
        let id = Id::from_key(&self.key)
            .ok_or_else(|| Error::corrupt(format!("the key of a registered {noun} is damaged")))?;
        let attributes: Value = serde_json::from_str(&self.attributes).map_err(|error| {
            Error::corrupt(format!("the attributes of a registered {noun}: {error}")).with_source(error)
        })?;
        Ok(Registered::new(id, self.name).attributes(attributes))
    }
}

/// Checks an entry and returns its attributes as the text to store.
fn attributes_of<Id: RegisteredId>(entry: &Registered<Id>) -> Result<String> {
    let noun = Id::KIND.noun();
    entry.id.check()?;
    let (length, limit) = (entry.name.chars().count(), limits::REGISTERED_NAME_MAX_CHARS);
    if length > limit {
        return Err(Error::limit_exceeded(format!(
            "the name of a {noun} has {length} characters; the limit is {limit} (REGISTERED_NAME_MAX_CHARS)"
        ))
        .with_parameter("name"));
    }
    let depth = limits::ATTRIBUTES_MAX_DEPTH;
    if !is_within(&entry.attributes, depth) {
        return Err(Error::limit_exceeded(format!(
            "the attributes of a {noun} are nested deeper than {depth} levels (ATTRIBUTES_MAX_DEPTH)"
        ))
        .with_parameter("attributes"));
    }
    let (text, limit) = (entry.attributes.to_string(), limits::ATTRIBUTES_MAX_BYTES);
    if text.len() > limit {
        return Err(Error::limit_exceeded(format!(
            "the attributes of a {noun} have {} bytes as JSON; the limit is {limit} (ATTRIBUTES_MAX_BYTES)",
            text.len()
        ))
        .with_parameter("attributes"));
    }
    Ok(text)
}

/// Returns true if a JSON value has at most this many levels of arrays and objects.
fn is_within(value: &Value, levels: usize) -> bool {
    let below = |inner: &Value| is_within(inner, levels - 1);
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(below),
        Value::Object(fields) => levels > 0 && fields.values().all(below),
        _ => true,
    }
}
