//! Listing records.

use super::{Cursor, PageRequest, check_terms};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId};
use crate::model::check_value;
use crate::time::Timestamp;

/// The order of a listing of records. Ids grow with time: by id is by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RecordSort {
    /// Oldest (lowest id) first. The default.
    #[default]
    Ascending,
    /// Newest (highest id) first.
    Descending,
}

/// Which records are meant, in listings, counts, scans, exports and deletions.
///
/// Filters that are set must all hold; several terms given to one filter mean any of these. An empty filter means
/// every record. Texts match exactly.
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    pub(crate) flows: Vec<FlowId>,
    pub(crate) runs: Vec<FlowRunId>,
    pub(crate) steps: Vec<FlowStepId>,
    pub(crate) entity_types: Vec<EntityTypeId>,
    pub(crate) values: Vec<String>,
    pub(crate) created_after: Option<Timestamp>,
    pub(crate) created_before: Option<Timestamp>,
}

impl RecordFilter {
    /// Every record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tracked by this flow, or by any flow given so far.
    #[must_use]
    pub fn flow_id(mut self, id: impl Into<FlowId>) -> Self {
        self.flows.push(id.into());
        self
    }

    /// Tracked by this flow run, or by any run given so far.
    #[must_use]
    pub fn flow_run_id(mut self, id: impl Into<FlowRunId>) -> Self {
        self.runs.push(id.into());
        self
    }

    /// Tracked by this flow step, or by any step given so far.
    #[must_use]
    pub fn step_id(mut self, id: impl Into<FlowStepId>) -> Self {
        self.steps.push(id.into());
        self
    }

    /// Of this entity type, or of any entity type given so far.
    #[must_use]
    pub fn entity_type_id(mut self, id: impl Into<EntityTypeId>) -> Self {
        self.entity_types.push(id.into());
        self
    }

    /// With exactly this value, or with any value given so far.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Created later than this. The time itself is not included.
    #[must_use]
    pub fn created_after(mut self, time: Timestamp) -> Self {
        self.created_after = Some(time);
        self
    }

    /// Created earlier than this. The time itself is not included.
    #[must_use]
    pub fn created_before(mut self, time: Timestamp) -> Self {
        self.created_before = Some(time);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_terms("filter[flow_id]", self.flows.len())?;
        check_terms("filter[flow_run_id]", self.runs.len())?;
        check_terms("filter[step_id]", self.steps.len())?;
        check_terms("filter[entity_type_id]", self.entity_types.len())?;
        check_terms("filter[value]", self.values.len())?;
        self.flows.iter().try_for_each(|id| named("filter[flow_id]", id.check()))?;
        self.runs.iter().try_for_each(|id| named("filter[flow_run_id]", id.check()))?;
        self.steps.iter().try_for_each(|id| named("filter[step_id]", id.check()))?;
        self.values.iter().try_for_each(|value| named("filter[value]", check_value(value)))
    }
}

/// A term's own complaint, as one about the query's parameter.
fn named(parameter: &str, checked: Result<()>) -> Result<()> {
    checked.map_err(|error| Error::new(ErrorKind::InvalidQuery, format!("{parameter}: {error}")))
}

/// What to list of a pool's records: filter, order, page.
///
/// ```
/// use datapool_store::{DataPoolStore, Key, Mode, Origin, RecordQuery, RecordSort};
///
/// # fn main() -> datapool_store::Result<()> {
/// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
/// let orders = ["A-1", "A-2", "A-3"];
/// let _ = pool.dedupe(Mode::Track, &orders, |o| Key::new(37, *o), &Origin::new("shop", 1, "read"))?;
/// let query = RecordQuery::new().flow_id("shop").sort(RecordSort::Descending).per_page(2);
/// let page = pool.records(&query)?;
/// assert_eq!((page.meta.total, page.data[0].value.as_str()), (3, "A-3"));
/// let rest = pool.records(&query.clone().cursor(page.next_cursor.unwrap()))?;
/// assert_eq!(rest.data[0].value, "A-1");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordQuery {
    pub(crate) filter: RecordFilter,
    pub(crate) sort: RecordSort,
    pub(crate) page: PageRequest,
    pub(crate) cursor: Option<Cursor>,
}

impl RecordQuery {
    /// Every record, oldest first, page 1, 15 a page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the whole filter.
    #[must_use]
    pub fn filter(mut self, filter: RecordFilter) -> Self {
        self.filter = filter;
        self
    }

    /// The order. Default: oldest first.
    #[must_use]
    pub fn sort(mut self, sort: RecordSort) -> Self {
        self.sort = sort;
        self
    }

    /// The page's number, from 1. A page past the end is empty.
    #[must_use]
    pub fn page(mut self, page: u64) -> Self {
        self.page.page = page;
        self
    }

    /// How many records a page has: 1 to 100, 15 by default.
    #[must_use]
    pub fn per_page(mut self, per_page: u32) -> Self {
        self.page.per_page = per_page;
        self
    }

    /// Continues after the page that gave this cursor, instead of by page number; the same filter and order
    /// must be asked for.
    ///
    /// The page's `meta` says where it stands now. A page number other than 1 beside a cursor is an error.
    #[must_use]
    pub fn cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.page.check()?;
        if self.cursor.is_some() && self.page.page != 1 {
            return Err(Error::invalid_query(format!(
                "page is {} beside a cursor; a cursor stands for the position: leave the page at 1",
                self.page.page
            )));
        }
        self.filter.check()
    }
}

/// The filter's own setters, on the query, so that one builder is enough.
macro_rules! filter_setters {
    ($($(#[$doc:meta])* $name:ident: $argument:ty;)*) => {
        impl RecordQuery {
            $($(#[$doc])* #[must_use]
            pub fn $name(mut self, term: $argument) -> Self {
                self.filter = self.filter.$name(term);
                self
            })*
        }
    };
}

filter_setters! {
    /// See [`RecordFilter::flow_id`].
    flow_id: impl Into<FlowId>;
    /// See [`RecordFilter::flow_run_id`].
    flow_run_id: impl Into<FlowRunId>;
    /// See [`RecordFilter::step_id`].
    step_id: impl Into<FlowStepId>;
    /// See [`RecordFilter::entity_type_id`].
    entity_type_id: impl Into<EntityTypeId>;
    /// See [`RecordFilter::value`].
    value: impl Into<String>;
    /// See [`RecordFilter::created_after`].
    created_after: Timestamp;
    /// See [`RecordFilter::created_before`].
    created_before: Timestamp;
}
