//! What a program registers so that listings can include it: entity types, flows, flow runs, flow steps.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId};
use crate::limits;

/// A registered id: its name, and any other attributes that the program keeps with it.
///
/// Registered with [`DataPoolStore::put_flow`](crate::DataPoolStore::put_flow) and its like, and brought along by the
/// query's [`include`](crate::RecordQuery::include). Serializes as `{"id", "name", "attributes"}`, and
/// deserializes from that.
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
    /// The id that records carry.
    pub id: Id,
    /// At most 255 characters.
    pub name: String,
    /// Any JSON, at most 65,536 bytes of text and 64 levels deep. An empty object unless set.
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
    /// Names an id, without attributes.
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

/// The ids that can be registered, as the store keeps them.
pub(crate) trait RegisteredId: Sized + Clone {
    const KIND: RegisteredKind;

    /// Bytes that sort as the ids do.
    fn to_key(&self) -> Vec<u8>;

    /// The id of such bytes; none if they are damaged.
    fn from_key(key: &[u8]) -> Option<Self>;

    fn check(&self) -> Result<()>;
}

/// What kinds of ids there are.
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

/// The attributes as the text that they are stored as, once everything about the entry is checked.
pub(crate) fn attributes_of<Id: RegisteredId>(entry: &Registered<Id>) -> Result<String> {
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

/// Whether a JSON value has at most so many levels of arrays and objects.
fn is_within(value: &Value, levels: usize) -> bool {
    let below = |inner: &Value| is_within(inner, levels - 1);
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(below),
        Value::Object(fields) => levels > 0 && fields.values().all(below),
        _ => true,
    }
}
