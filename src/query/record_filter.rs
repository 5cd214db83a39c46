//! Filters of records: their terms, and the `filter[...]` parameters of the HTTP API.

use serde::{Deserialize, Serialize};

use super::query_string::{self, Parameter, Printer, check_terms};
use crate::error::{Error, ErrorKind, Result, all};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId};
use crate::model::{KeyText, Origin, check_value};
use crate::time::{self, Rounding, Timestamp};

/// A filter of records, for listings, counts, scans, exports and deletions.
///
/// All filters that are set must match. If a filter has several terms, one of them must match. An empty
/// filter matches every record, but deletes none: see [`RecordFilter::new`] and [`RecordFilter::all`]. Texts
/// match exactly.
///
/// ```
/// use datapool_store::RecordFilter;
///
/// let filter = RecordFilter::new()
///     .flow_id("UA")
///     .flow_id("AA")
///     .created_after("2013-01-01".parse()?);
/// # Ok::<(), datapool_store::Error>(())
/// ```
///
/// Serializes with a field for each method, `flow_id`, `flow_run_id`, `step_id`, `entity_type_id` and `value`
/// as lists. When it is deserialized, absent fields are empty, and unknown fields are errors, so that a
/// misspelt field does not widen a deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordFilter {
    #[serde(rename = "flow_id")]
    pub(crate) flows: Vec<FlowId>,
    #[serde(rename = "flow_run_id")]
    pub(crate) runs: Vec<FlowRunId>,
    #[serde(rename = "step_id")]
    pub(crate) steps: Vec<FlowStepId>,
    #[serde(rename = "entity_type_id")]
    pub(crate) entity_types: Vec<EntityTypeId>,
    #[serde(rename = "value")]
    pub(crate) values: Vec<String>,
    pub(crate) created_after: Option<Timestamp>,
    #[serde(deserialize_with = "time::deserialize_rounded_up")]
    pub(crate) created_before: Option<Timestamp>,
    /// True if the filter was made by [`RecordFilter::all`] and so also deletes every record.
    #[serde(rename = "all")]
    is_all: bool,
}

impl RecordFilter {
    /// Creates a filter without a term. In listings, counts, scans and exports it matches every record. In a
    /// deletion it matches no record, so that a filter whose terms got lost does not empty a pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a filter that matches every record, even in a [deletion](crate::Pool::delete_where).
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, Key, Mode, Origin, RecordFilter, RecordQuery};
    ///
    /// # fn main() -> datapool_store::Result<()> {
    /// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let _ = pool.dedupe(Mode::Track, &["A-1", "A-2"], |o| Key::new(37, *o), &Origin::none())?;
    /// assert_eq!(pool.delete_where(&"".parse::<RecordQuery>()?.into_filter())?, 0);
    /// assert_eq!(pool.delete_where(&RecordFilter::all())?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn all() -> Self {
        Self { is_all: true, ..Self::default() }
    }

    /// Returns true if the filter has no term and is not [`all`](Self::all).
    pub(crate) fn names_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a flow. Only records that were tracked by one of the flows added so far match.
    #[must_use]
    pub fn flow_id(mut self, id: impl Into<FlowId>) -> Self {
        self.flows.push(id.into());
        self
    }

    /// Adds a flow run. Only records that were tracked by one of the runs added so far match.
    #[must_use]
    pub fn flow_run_id(mut self, id: impl Into<FlowRunId>) -> Self {
        self.runs.push(id.into());
        self
    }

    /// Adds a flow step. Only records that were tracked by one of the steps added so far match.
    #[must_use]
    pub fn step_id(mut self, id: impl Into<FlowStepId>) -> Self {
        self.steps.push(id.into());
        self
    }

    /// Adds an entity type. Only records of one of the entity types added so far match.
    #[must_use]
    pub fn entity_type_id(mut self, id: impl Into<EntityTypeId>) -> Self {
        self.entity_types.push(id.into());
        self
    }

    /// Adds a value. Only records with exactly one of the values added so far match.
    #[must_use]
    pub fn value<'v>(mut self, value: impl Into<KeyText<'v>>) -> Self {
        self.values.push(value.into().0.into_owned());
        self
    }

    /// Sets a lower bound: only records created later than this time match, not those created at it.
    #[must_use]
    pub fn created_after(mut self, time: Timestamp) -> Self {
        self.created_after = Some(time);
        self
    }

    /// Sets an upper bound: only records created earlier than this time match, not those created at it.
    #[must_use]
    pub fn created_before(mut self, time: Timestamp) -> Self {
        self.created_before = Some(time);
        self
    }

    /// Returns true if the filter may match claimed items: it has values, and no time, because a claimed item
    /// is not created yet.
    pub(crate) fn may_name_claimed(&self) -> bool {
        !self.values.is_empty() && self.created_after.is_none() && self.created_before.is_none()
    }

    pub(crate) fn takes_entity_type(&self, id: EntityTypeId) -> bool {
        self.entity_types.is_empty() || self.entity_types.contains(&id)
    }

    /// Returns true if the flow, run and step of an origin match.
    pub(crate) fn takes_origin(&self, origin: &Origin) -> bool {
        takes(&self.flows, origin.flow())
            && takes(&self.runs, origin.run())
            && takes(&self.steps, origin.step())
    }

    pub(crate) fn check(&self) -> Result<()> {
        all([
            check_terms("filter[flow_id]", self.flows.len()),
            check_terms("filter[flow_run_id]", self.runs.len()),
            check_terms("filter[step_id]", self.steps.len()),
            check_terms("filter[entity_type_id]", self.entity_types.len()),
            check_terms("filter[value]", self.values.len()),
            self.flows.iter().try_for_each(|id| named("filter[flow_id]", id.check())),
            self.runs.iter().try_for_each(|id| named("filter[flow_run_id]", id.check())),
            self.steps.iter().try_for_each(|id| named("filter[step_id]", id.check())),
            self.values.iter().try_for_each(|value| named("filter[value]", check_value(value))),
        ])
    }
}

fn takes<Id: PartialEq>(terms: &[Id], id: Option<&Id>) -> bool {
    terms.is_empty() || id.is_some_and(|id| terms.contains(id))
}

/// Turns an error about a term into an error about the query's parameter.
fn named<T>(parameter: &'static str, checked: Result<T>) -> Result<T> {
    checked.map_err(|error| {
        Error::new(ErrorKind::InvalidQuery, format!("{parameter}: {error}")).with_parameter(parameter)
    })
}

impl RecordFilter {
    pub(super) fn print(&self, printer: &mut Printer) {
        printer.push_list("filter[flow_id]", &self.flows);
        printer.push_list("filter[flow_run_id]", &self.runs);
        printer.push_list("filter[step_id]", &self.steps);
        printer.push_list("filter[entity_type_id]", &self.entity_types);
        printer.push_texts("filter[value]", &self.values);
        printer.push_some("filter[created_after]", self.created_after);
        printer.push_some("filter[created_before]", self.created_before);
    }

    /// Reads a filter from a parameter. Returns true if the parameter was a filter.
    pub(super) fn take(&mut self, parameter: &Parameter) -> Result<bool> {
        match parameter.name() {
            "filter[flow_id]" => self.flows = ids_of(parameter)?,
            "filter[flow_run_id]" => self.runs = ids_of(parameter)?,
            "filter[step_id]" => self.steps = ids_of(parameter)?,
            "filter[entity_type_id]" => {
                for term in parameter.terms()? {
                    let allowed = "whole numbers up to 4294967295, with commas between them";
                    let id: u32 = query_string::id("filter[entity_type_id]", term, allowed)?;
                    self.entity_types.push(id.into());
                }
            }
            "filter[value]" => self.values = parameter.texts().into_iter().map(str::to_owned).collect(),
            // Records have whole microseconds. A point between two of them counts as the earlier one for
            // "after", and as the later one for "before".
            "filter[created_after]" => {
                let time = Timestamp::parse(parameter.one()?, Rounding::Down);
                self.created_after = Some(named("filter[created_after]", time)?);
            }
            "filter[created_before]" => {
                let time = Timestamp::parse(parameter.one()?, Rounding::Up);
                self.created_before = Some(named("filter[created_before]", time)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn ids_of<'a, Id: From<&'a str>>(parameter: &'a Parameter) -> Result<Vec<Id>> {
    Ok(parameter.terms()?.into_iter().map(Id::from).collect())
}
