//! Records, their origins, and the entries that a listing includes with them.

use std::sync::Arc;

use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::key::Key;
use super::pool::DataPool;
use super::registered::{EntityType, Flow, FlowRun, FlowStep};
use super::version::Version;

use crate::error::Result;
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId, PoolId, RecordId};
use crate::time::Timestamp;

/// The origin of a record: the flow, run and step that tracked it. Each part may be absent. Imported records
/// have none unless the import's options set them.
///
/// ```
/// use datapool_store::Origin;
///
/// let origin = Origin::new("UA", "2013-01-01", "IAH");
/// assert_eq!(origin.run().unwrap().as_str(), "2013-01-01");
/// assert!(Origin::none().flow().is_none());
/// ```
///
/// Serializes as in a record, `{"flow_id", "flow_run_id", "step_id"}`, with null for absent parts, and
/// deserializes from that.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[doc(alias("source", "provenance"))]
pub struct Origin {
    #[serde(rename = "flow_id")]
    pub(crate) flow: Option<FlowId>,
    #[serde(rename = "flow_run_id")]
    pub(crate) run: Option<FlowRunId>,
    #[serde(rename = "step_id")]
    pub(crate) step: Option<FlowStepId>,
}

impl Origin {
    /// Creates an origin with this flow, run and step.
    pub fn new(flow: impl Into<FlowId>, run: impl Into<FlowRunId>, step: impl Into<FlowStepId>) -> Self {
        Self { flow: Some(flow.into()), run: Some(run.into()), step: Some(step.into()) }
    }

    /// Returns an empty origin, which is the default of imported records. The `with_` methods add parts.
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

    /// Returns the flow.
    pub fn flow(&self) -> Option<&FlowId> {
        self.flow.as_ref()
    }

    /// Returns the flow run.
    pub fn run(&self) -> Option<&FlowRunId> {
        self.run.as_ref()
    }

    /// Returns the flow step.
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
///
/// Serializes as in the HTTP API, with `version` if it has one and with the fields of the query's includes at
/// the end. Deserializes from that.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias("row", "entry", "deduped data"))]
pub struct Record {
    /// The id: from 1, unique in its pool, increasing with time.
    pub id: RecordId,
    /// The pool that holds it.
    pub data_pool_id: PoolId,
    /// The entity type: the kind of thing that the value identifies.
    pub entity_type_id: EntityTypeId,
    /// The value, exactly as it was tracked.
    pub value: String,
    /// The flow that tracked it.
    pub flow_id: Option<FlowId>,
    /// The flow run that tracked it.
    pub flow_run_id: Option<FlowRunId>,
    /// The flow step that tracked it.
    pub step_id: Option<FlowStepId>,
    /// The pool time of the commit that wrote the record, or the time in [the imported
    /// file](crate::ImportOptions::created_at_column).
    pub created_at: Timestamp,
    /// The version of the item that was tracked, if its key had one.
    pub version: Option<Version>,
    /// The registered entries that the query [included](crate::RecordQuery::include).
    pub included: Included,
}

impl Record {
    /// Returns the key under which the value was tracked, with its version.
    pub fn key(&self) -> Key<'_> {
        Key { version: self.version, ..Key::new(self.entity_type_id, &self.value) }
    }

    /// Returns the flow, run and step that tracked the value.
    pub fn origin(&self) -> Origin {
        Origin { flow: self.flow_id.clone(), run: self.flow_run_id.clone(), step: self.step_id.clone() }
    }
}

/// The number of serialized fields of a record without a version or includes.
const RECORD_FIELDS: usize = 8;

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let more = usize::from(self.version.is_some()) + self.included.asked();
        let mut fields = serializer.serialize_struct("Record", RECORD_FIELDS + more)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("data_pool_id", &self.data_pool_id)?;
        fields.serialize_field("entity_type_id", &self.entity_type_id)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("flow_id", &self.flow_id)?;
        fields.serialize_field("flow_run_id", &self.flow_run_id)?;
        fields.serialize_field("step_id", &self.step_id)?;
        fields.serialize_field("created_at", &self.created_at)?;
        if let Some(version) = &self.version {
            fields.serialize_field("version", version)?;
        }
        self.included.serialize_into(&mut fields)?;
        fields.end()
    }
}

/// The fields from which a record is deserialized.
#[derive(Deserialize)]
struct RecordFields {
    id: RecordId,
    data_pool_id: PoolId,
    entity_type_id: EntityTypeId,
    value: String,
    flow_id: Option<FlowId>,
    flow_run_id: Option<FlowRunId>,
    step_id: Option<FlowStepId>,
    created_at: Timestamp,
    version: Option<Version>,
    #[serde(flatten)]
    included: Includes,
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = RecordFields::deserialize(deserializer)?;
        Ok(Self {
            id: fields.id,
            data_pool_id: fields.data_pool_id,
            entity_type_id: fields.entity_type_id,
            value: fields.value,
            flow_id: fields.flow_id,
            flow_run_id: fields.flow_run_id,
            step_id: fields.step_id,
            created_at: fields.created_at,
            version: fields.version,
            included: Included::from_fields(fields.included),
        })
    }
}

/// The registered entries that a listing adds to a record. Empty unless the query
/// [included](crate::RecordQuery::include) them. Records of one page share equal entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Included(Option<Box<Includes>>);

/// The state of each include: not requested, unknown, or found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Includes {
    #[serde(deserialize_with = "asked_for")]
    flow: Include<Flow>,
    #[serde(deserialize_with = "asked_for")]
    flow_run: Include<FlowRun>,
    #[serde(deserialize_with = "asked_for")]
    flow_step: Include<FlowStep>,
    #[serde(deserialize_with = "asked_for")]
    entity_type: Include<EntityType>,
    #[serde(deserialize_with = "asked_for")]
    data_pool: Include<DataPool>,
}

/// Reads a field that is present but may be null.
fn asked_for<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Include<T>, D::Error> {
    Option::deserialize(deserializer).map(|found: Option<T>| Include::asked_for(found.map(Arc::new)))
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Include<T> {
    #[default]
    NotAsked,
    /// The id was never registered, or the record has no such id.
    Unknown,
    Found(Arc<T>),
}

impl<T> Include<T> {
    fn asked_for(found: Option<Arc<T>>) -> Self {
        found.map_or(Self::Unknown, Self::Found)
    }

    fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            Self::NotAsked | Self::Unknown => None,
        }
    }

    fn was_asked(&self) -> bool {
        !matches!(self, Self::NotAsked)
    }
}

macro_rules! includes {
    ($($(#[$doc:meta])* $field:ident: $type:ident, $set:ident;)*) => {
        impl Included {
            $($(#[$doc])*
            pub fn $field(&self) -> Option<&$type> {
                self.0.as_ref()?.$field.found()
            }

            pub(crate) fn $set(&mut self, found: Option<Arc<$type>>) {
                self.0.get_or_insert_default().$field = Include::asked_for(found);
            })*

            fn from_fields(includes: Includes) -> Self {
                let is_any = [$(includes.$field.was_asked()),*].contains(&true);
                Self(is_any.then(|| Box::new(includes)))
            }

            /// Returns the number of includes that were requested.
            fn asked(&self) -> usize {
                let Some(includes) = &self.0 else { return 0 };
                [$(includes.$field.was_asked()),*].into_iter().filter(|asked| *asked).count()
            }

            /// Writes a field for each include that was requested; null if nothing was found.
            fn serialize_into<S: SerializeStruct>(&self, fields: &mut S) -> Result<(), S::Error> {
                let Some(includes) = &self.0 else { return Ok(()) };
                $(if includes.$field.was_asked() {
                    fields.serialize_field(stringify!($field), &includes.$field.found())?;
                })*
                Ok(())
            }
        }
    };
}

includes! {
    /// Returns the registered flow that tracked the record. Returns `None` if the query did not include it,
    /// if it was never registered, or if the record has no flow. The same holds for the other methods.
    flow: Flow, set_flow;
    /// Returns the registered flow run that tracked the record.
    flow_run: FlowRun, set_flow_run;
    /// Returns the registered flow step that tracked the record.
    flow_step: FlowStep, set_flow_step;
    /// Returns the record's registered entity type.
    entity_type: EntityType, set_entity_type;
    /// Returns the pool that holds the record.
    data_pool: DataPool, set_data_pool;
}
