//! Filters of records as options, instead of the API's query string.

use clap::Args;
use datapool_store::{EntityTypeId, FlowId, FlowRunId, FlowStepId, RecordFilter, Timestamp};

use crate::rehearsal;

/// The options' names, for conflicts with other arguments.
pub(crate) const OPTIONS: [&str; 7] = ["flow", "run", "step", "entity_type", "value", "after", "before"];

/// Conditions that must all hold. If an option is repeated, one of its values must match.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArguments {
    /// Only records of this flow; repeat it, or one of the next four, to match any of several
    #[arg(long, value_name = "F", value_parser = rehearsal::flow)]
    flow: Vec<FlowId>,
    /// Only records of this flow run
    #[arg(long, value_name = "R", value_parser = rehearsal::run)]
    run: Vec<FlowRunId>,
    /// Only records of this flow step
    #[arg(long, value_name = "S", value_parser = rehearsal::step)]
    step: Vec<FlowStepId>,
    /// Only records of this entity type
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    entity_type: Vec<EntityTypeId>,
    /// Only records of this value
    #[arg(long, value_name = "V", value_parser = rehearsal::value, allow_hyphen_values = true)]
    value: Vec<String>,
    /// Only records after this time: 2026-01-31, or 2026-01-31T10:00, in UTC unless it has an offset
    #[arg(long, value_name = "TIME")]
    after: Option<Timestamp>,
    /// Only records before this time
    #[arg(long, value_name = "TIME", value_parser = only_before)]
    before: Option<RecordFilter>,
}

impl FilterArguments {
    pub(crate) fn filter(&self) -> RecordFilter {
        let mut filter = self.before.clone().unwrap_or_default();
        filter = self.flow.iter().cloned().fold(filter, RecordFilter::flow_id);
        filter = self.run.iter().cloned().fold(filter, RecordFilter::flow_run_id);
        filter = self.step.iter().cloned().fold(filter, RecordFilter::step_id);
        filter = self.entity_type.iter().copied().fold(filter, RecordFilter::entity_type_id);
        filter = self.value.iter().fold(filter, |filter, value| filter.value(value.as_str()));
        if let Some(time) = self.after {
            filter = filter.created_after(time);
        }
        filter
    }
}

/// Returns a filter for records before a time. The filter reads the time, because a point between two microseconds counts
/// as the later one for it.
fn only_before(text: &str) -> Result<RecordFilter, String> {
    serde_json::from_value(serde_json::json!({ "created_before": text })).map_err(|error| error.to_string())
}
