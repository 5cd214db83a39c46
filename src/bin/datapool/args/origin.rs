//! The origin of records, as options.

use clap::Args;
use datapool_store::{FlowId, FlowRunId, FlowStepId, Origin};

use crate::rehearsal;

/// The origin of records.
#[derive(Debug, Args)]
pub(crate) struct OriginArguments {
    /// The flow of all records
    #[arg(long, value_name = "F", value_parser = rehearsal::flow)]
    flow: Option<FlowId>,
    /// The flow run of all records
    #[arg(long, value_name = "R", value_parser = rehearsal::run)]
    run: Option<FlowRunId>,
    /// The flow step of all records
    #[arg(long, value_name = "S", value_parser = rehearsal::step)]
    step: Option<FlowStepId>,
}

impl OriginArguments {
    pub(crate) fn origin(&self) -> Origin {
        let mut origin = Origin::none();
        if let Some(flow) = &self.flow {
            origin = origin.with_flow(flow);
        }
        if let Some(run) = &self.run {
            origin = origin.with_run(run);
        }
        if let Some(step) = &self.step {
            origin = origin.with_step(step);
        }
        origin
    }
}
