//! Listing records.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::include::RecordInclude;
use super::page::{Cursor, Page, PageLinks, PageRequest};
use super::query_string::{self, Parameter, Printer};
use super::record_filter::RecordFilter;
use crate::error::{Error, Result, all, shown};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId};
use crate::model::{KeyText, Record};
use crate::time::Timestamp;
use crate::words::words;

/// The order of a listing of records. Ids grow with time, so ordering by id is ordering by time. Prints,
/// parses and serializes as `created_at` or `-created_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RecordSort {
    /// Oldest (lowest id) first. The default.
    #[default]
    Ascending,
    /// Newest (highest id) first.
    Descending,
}

words!(RecordSort, "an order of records": Ascending => "created_at", Descending => "-created_at");

/// A query of records: filter, order, includes and page. It is built in code, or parsed from the HTTP API's
/// query string. It prints as such a string, without defaults.
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
/// Blanks around a term of a list are dropped. The filters that take several terms and `include` may also be
/// arrays, as client libraries write them: `filter[flow_id][]=12&filter[flow_id][]=13` or
/// `filter[flow_id][0]=12&filter[flow_id][1]=13`. Elements of `filter[value][]` are not split; several values
/// are written and printed that way. An element of another array may itself be a list.
///
/// Times are in any form that [`Timestamp`] parses. They are exact in a filter, although records have whole
/// microseconds: `filter[created_before]=...00.0000015Z` also matches a record of the microsecond that
/// contains this point.
///
/// `cursor=...` ([`cursor`](Self::cursor)) is an addition of this crate: the HTTP API does not have it.
///
/// Serializes with the fields `filter`, `sort`, `include`, `page`, `per_page` and `cursor`. When it is
/// deserialized, absent fields get their defaults, and unknown fields are errors. The call that gets the
/// query checks its numbers and terms.
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub struct RecordQuery {
    pub(crate) filter: RecordFilter,
    pub(crate) sort: RecordSort,
    pub(crate) include: BTreeSet<RecordInclude>,
    pub(crate) page: PageRequest,
    pub(crate) cursor: Option<Cursor>,
}

/// The fields of a serialized query.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    filter: RecordFilter,
    sort: RecordSort,
    include: BTreeSet<RecordInclude>,
    page: u64,
    per_page: u32,
    cursor: Option<Cursor>,
}

impl Default for Fields {
    fn default() -> Self {
        RecordQuery::default().into()
    }
}

impl From<RecordQuery> for Fields {
    fn from(query: RecordQuery) -> Self {
        let RecordQuery { filter, sort, include, page: PageRequest { page, per_page }, cursor } = query;
        Self { filter, sort, include, page, per_page, cursor }
    }
}

impl From<Fields> for RecordQuery {
    fn from(fields: Fields) -> Self {
        let Fields { filter, sort, include, page, per_page, cursor } = fields;
        Self { filter, sort, include, page: PageRequest { page, per_page }, cursor }
    }
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

    /// Returns only the filter. Use it to count, scan, export or delete the records that a query string
    /// selects.
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

    /// Includes the registered entries of each record's flow, run, step and entity type, or the pool. See
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

    /// Requests the page after the one that returned this cursor, instead of a page number. The filter and
    /// the order must be the same as for that page: a cursor is a position among ids, and is not tied to its
    /// listing. With another filter, order or pool, the page begins at that position of the other listing.
    ///
    /// The page's `meta` has its current position. If nothing is left after the cursor, that is past the end.
    /// A cursor together with a page number other than 1 is an error.
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

    /// Returns the page that this query requests: the records after `skipped` of `total`.
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
        printer.push_some("sort", Some(self.sort).filter(|sort| *sort != RecordSort::default()));
        printer
    }

    fn take(&mut self, parameter: &Parameter) -> Result<()> {
        match parameter.name() {
            "include" => self.include = parameter.choices(&RecordInclude::ALL, RecordInclude::as_str)?,
            "sort" => self.sort = sort_named(parameter.one()?)?,
            "cursor" => self.cursor = Some(parameter.one()?.parse()?),
            _ if self.filter.take(parameter)? || self.page.take(parameter)? => {}
            name => return Err(query_string::unknown(name, &PARAMETERS)),
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
            format!("is {}; allowed are created_at, -created_at, id, -id", shown(name)),
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

    /// Parses the API's query string, with or without its `?`.
    fn from_str(text: &str) -> Result<Self> {
        let mut query = Self::new();
        let (parameters, given) = query_string::parameters(text, &PARAMETERS);
        let taken = all(parameters.iter().map(|parameter| query.take(parameter)));
        all([given, taken, query.check()])?;
        Ok(query)
    }
}

impl RecordQuery {
    /// See [`RecordFilter::value`].
    #[must_use]
    pub fn value<'v>(mut self, value: impl Into<KeyText<'v>>) -> Self {
        self.filter = self.filter.value(value);
        self
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
    /// See [`RecordFilter::created_after`].
    created_after: Timestamp;
    /// See [`RecordFilter::created_before`].
    created_before: Timestamp;
}
