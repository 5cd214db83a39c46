//! Listing records.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::include::RecordInclude;
use super::page::{Cursor, Page, PageLinks, PageRequest};
use super::text::{self, Parameter, Printer, check_terms};
use crate::error::{Error, ErrorKind, Result, all};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId};
use crate::model::{Record, check_value};
use crate::time::{Rounding, Timestamp};

/// The order of a listing of records. Ids grow with time, so the order by id is the order by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RecordSort {
    /// Oldest (lowest id) first. The default.
    #[default]
    Ascending,
    /// Newest (highest id) first.
    Descending,
}

/// A filter of records, for listings, counts, scans, exports and deletions.
///
/// All filters that are set must match. Several terms of one filter mean any of them. An empty filter matches every
/// record, but deletes none: see [`RecordFilter::new`] and [`RecordFilter::all`]. Texts match exactly.
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
    /// Set by [`RecordFilter::all`]: the filter also deletes every record.
    is_all: bool,
}

impl RecordFilter {
    /// Creates a filter without a term. In listings, counts, scans and exports it matches every record. In a deletion
    /// it matches none, so that a filter that has lost its terms does not empty a pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a filter that matches every record, also for [deletion](crate::Pool::delete_where).
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

    /// Returns true if the filter has no term, and is not [`all`](Self::all).
    pub(crate) fn names_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a flow: only records that one of the flows given so far tracked match.
    #[must_use]
    pub fn flow_id(mut self, id: impl Into<FlowId>) -> Self {
        self.flows.push(id.into());
        self
    }

    /// Adds a flow run: only records that one of the runs given so far tracked match.
    #[must_use]
    pub fn flow_run_id(mut self, id: impl Into<FlowRunId>) -> Self {
        self.runs.push(id.into());
        self
    }

    /// Adds a flow step: only records that one of the steps given so far tracked match.
    #[must_use]
    pub fn step_id(mut self, id: impl Into<FlowStepId>) -> Self {
        self.steps.push(id.into());
        self
    }

    /// Adds an entity type: only records of one of the entity types given so far match.
    #[must_use]
    pub fn entity_type_id(mut self, id: impl Into<EntityTypeId>) -> Self {
        self.entity_types.push(id.into());
        self
    }

    /// Adds a value: only records with exactly one of the values given so far match.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Only records created later than this time match. The time itself is not included.
    #[must_use]
    pub fn created_after(mut self, time: Timestamp) -> Self {
        self.created_after = Some(time);
        self
    }

    /// Only records created earlier than this time match. The time itself is not included.
    #[must_use]
    pub fn created_before(mut self, time: Timestamp) -> Self {
        self.created_before = Some(time);
        self
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

/// Turns a term's error into one about the query's parameter.
fn named<T>(parameter: &'static str, checked: Result<T>) -> Result<T> {
    checked.map_err(|error| {
        Error::new(ErrorKind::InvalidQuery, format!("{parameter}: {error}")).with_parameter(parameter)
    })
}

impl RecordFilter {
    fn print(&self, printer: &mut Printer) {
        printer.push_list("filter[flow_id]", &self.flows);
        printer.push_list("filter[flow_run_id]", &self.runs);
        printer.push_list("filter[step_id]", &self.steps);
        printer.push_list("filter[entity_type_id]", &self.entity_types);
        printer.push_texts("filter[value]", &self.values);
        printer.push_some("filter[created_after]", self.created_after);
        printer.push_some("filter[created_before]", self.created_before);
    }

    /// Takes a filter from a query string. Returns true if the parameter was a filter.
    fn take(&mut self, parameter: &Parameter) -> Result<bool> {
        match parameter.name() {
            "filter[flow_id]" => self.flows = ids_of(parameter)?,
            "filter[flow_run_id]" => self.runs = ids_of(parameter)?,
            "filter[step_id]" => self.steps = ids_of(parameter)?,
            "filter[entity_type_id]" => {
                for term in parameter.terms()? {
                    let allowed = "whole numbers up to 4294967295, with commas between them";
                    let id: u32 = text::id("filter[entity_type_id]", term, allowed)?;
                    self.entity_types.push(id.into());
                }
            }
            "filter[value]" => self.values = parameter.texts().into_iter().map(str::to_owned).collect(),
            // Records have whole microseconds. A point between two of them counts as the earlier one for "after", and
            // as the later one for "before".
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

/// A query of records: filter, order, includes and page. Built in code, or parsed from the HTTP API's query string.
/// Also prints as such a string, without defaults.
///
/// | parameter | method |
/// | --- | --- |
/// | `filter[flow_id]=12,13` | [`flow_id`](Self::flow_id) |
/// | `filter[flow_run_id]=...` | [`flow_run_id`](Self::flow_run_id) |
/// | `filter[step_id]=...` | [`step_id`](Self::step_id) |
/// | `filter[entity_type_id]=37,47` | [`entity_type_id`](Self::entity_type_id) |
/// | `filter[value]=A-1` (never split) | [`value`](Self::value) |
/// | `filter[created_after]=2013-01-31` | [`created_after`](Self::created_after) |
/// | `filter[created_before]=2013-01-31T10:00:00Z` | [`created_before`](Self::created_before) |
/// | `include=flow,flowRun,flowStep,entityType,dataPool` | [`include`](Self::include) |
/// | `sort=created_at`, `-created_at`, `id`, `-id` | [`sort`](Self::sort) |
/// | `page=2` | [`page`](Self::page) |
/// | `per_page=50` | [`per_page`](Self::per_page) |
///
/// Blanks around a term of a list are dropped. The filters that take several terms and `include` may also be arrays, as
/// clients' libraries write them: `filter[flow_id][]=12&filter[flow_id][]=13` or
/// `filter[flow_id][0]=12&filter[flow_id][1]=13`. Elements of `filter[value][]` are not split: several values are
/// written and printed that way. An element of another array may itself be a list.
///
/// Times are in any form that [`Timestamp`] parses. They are exact in a filter, although records have whole
/// microseconds: `filter[created_before]=...00.0000015Z` also matches a record of the microsecond that contains this
/// point.
///
/// `cursor=...` ([`cursor`](Self::cursor)) is an addition of this crate: the HTTP API does not have it.
///
/// ```
/// use datapool_store::{RecordInclude, RecordQuery, RecordSort};
///
/// let query: RecordQuery = "filter[flow_id]=12,13&include=flow&sort=-created_at&per_page=50".parse()?;
/// let built = RecordQuery::new().flow_id(12).flow_id(13).include([RecordInclude::Flow]);
/// assert_eq!(query, built.sort(RecordSort::Descending).per_page(50));
/// assert_eq!(query.to_string(), "filter%5Bflow_id%5D=12,13&include=flow&sort=-created_at&per_page=50");
///
/// let error = "per_page=500".parse::<RecordQuery>().unwrap_err();
/// assert_eq!(error.to_string(), "per_page is 500; allowed are 1 to 100 (PER_PAGE_MAX)");
/// assert_eq!(error.parameter(), Some("per_page"));
/// # Ok::<(), datapool_store::Error>(())
/// ```
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
    pub(crate) include: BTreeSet<RecordInclude>,
    pub(crate) page: PageRequest,
    pub(crate) cursor: Option<Cursor>,
}

impl RecordQuery {
    /// Creates a query for every record, oldest first, page 1, 15 a page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the whole filter.
    #[must_use]
    pub fn filter(mut self, filter: RecordFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Returns the filter alone, for calls that take one: to count, scan, export or delete the records that a query
    /// string names.
    #[must_use]
    pub fn into_filter(self) -> RecordFilter {
        self.filter
    }

    /// Sets the order. Default: oldest first.
    #[must_use]
    pub fn sort(mut self, sort: RecordSort) -> Self {
        self.sort = sort;
        self
    }

    /// Includes the registered entries of each record's flow, run, step and entity type, or the pool: see
    /// [`Record::included`](crate::Record::included).
    #[must_use]
    pub fn include(mut self, include: impl IntoIterator<Item = RecordInclude>) -> Self {
        self.include.extend(include);
        self
    }

    /// Sets the page's number, from 1. A page past the end is empty.
    #[must_use]
    pub fn page(mut self, page: u64) -> Self {
        self.page.page = page;
        self
    }

    /// Sets the number of records per page: 1 to 100, 15 by default.
    #[must_use]
    pub fn per_page(mut self, per_page: u32) -> Self {
        self.page.per_page = per_page;
        self
    }

    /// Continues after the page that returned this cursor, instead of by page number. The filter and the order must be
    /// the same as for that page.
    ///
    /// The page's `meta` says at which position it is now; if nothing is left after the cursor, that is past the end. A
    /// page number other than 1 together with a cursor is an error.
    #[must_use]
    pub fn cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let page = if self.cursor.is_some() && self.page.page != 1 {
            let beside =
                format!("is {} beside a cursor; allowed is 1: the cursor is the position", self.page.page);
            Err(Error::bad_parameter("page", beside))
        } else {
            self.page.check()
        };
        all([page, self.filter.check()])
    }

    /// Returns the page that this query requested: the records after `skipped` of `total`.
    pub(crate) fn answer(&self, data: Vec<Record>, skipped: u64, total: u64) -> Page<Record> {
        let meta = self.page.meta(skipped, data.len(), total);
        let is_last = skipped.saturating_add(data.len() as u64) >= total;
        let next_cursor = data.last().map(|record| Cursor(record.id)).filter(|_| !is_last);
        let base = self.print_but_page();
        let links = match self.cursor {
            None => PageLinks::by_number(&base, &meta),
            Some(_) => PageLinks::by_cursor(&base, &meta, next_cursor),
        };
        Page { data, meta, links, next_cursor }
    }

    fn print_but_page(&self) -> Printer {
        let mut printer = Printer::default();
        self.filter.print(&mut printer);
        printer.push_list("include", self.include.iter().map(|include| include.as_str()));
        let descending = self.sort == RecordSort::Descending;
        printer.push_some("sort", descending.then_some("-created_at"));
        printer
    }

    fn take(&mut self, parameter: &Parameter) -> Result<()> {
        match parameter.name() {
            "include" => self.include = parameter.choices(&RecordInclude::ALL, RecordInclude::as_str)?,
            "sort" => self.sort = sort_named(parameter.one()?)?,
            "cursor" => self.cursor = Some(parameter.one()?.parse()?),
            _ if self.filter.take(parameter)? || self.page.take(parameter)? => {}
            name => return Err(text::unknown(name, &PARAMETERS)),
        }
        Ok(())
    }
}

const PARAMETERS: [&str; 12] = [
    "filter[flow_id]",
    "filter[flow_run_id]",
    "filter[step_id]",
    "filter[entity_type_id]",
    "filter[value]",
    "filter[created_after]",
    "filter[created_before]",
    "include",
    "sort",
    "page",
    "per_page",
    "cursor",
];

fn sort_named(name: &str) -> Result<RecordSort> {
    match name {
        "created_at" | "id" => Ok(RecordSort::Ascending),
        "-created_at" | "-id" => Ok(RecordSort::Descending),
        _ => Err(Error::bad_parameter(
            "sort",
            format!("is {}; allowed are created_at, -created_at, id, -id", text::shown(name)),
        )),
    }
}

impl fmt::Display for RecordQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = self.print_but_page();
        printer.push_some("cursor", self.cursor);
        self.page.print(&mut printer);
        f.write_str(&printer.finish())
    }
}

impl FromStr for RecordQuery {
    type Err = Error;

    /// Reads the API's query string, with or without its `?`.
    fn from_str(text: &str) -> Result<Self> {
        let mut query = Self::new();
        let (parameters, given) = text::parameters(text, &PARAMETERS);
        let taken = all(parameters.iter().map(|parameter| query.take(parameter)));
        all([given, taken, query.check()])?;
        Ok(query)
    }
}

/// Adds the filter's setters to the query, so that one builder is enough.
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
