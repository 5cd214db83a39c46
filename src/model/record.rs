//! Records and where they came from.

use serde::Serialize;

use crate::error::Result;
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId, PoolId, RecordId};
use crate::time::Timestamp;

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
