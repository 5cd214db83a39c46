//! Listing pools.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::include::PoolInclude;
use super::page::{Page, PageLinks, PageRequest};
use super::query_string::{self, Parameter, Printer, check_terms};
use crate::error::{Error, Result, all, shown};
use crate::ids::PoolId;
use crate::model::DataPool;
use crate::words::words;

/// The order of a listing of pools. Prints, parses and serializes as `id`, `created_at` or `-created_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PoolSort {
    /// Lowest id first. The default.
    #[default]
    Id,
    /// Oldest first.
    CreatedAt,
    /// Newest first (`-created_at`).
    CreatedAtDescending,
}

words!(PoolSort, "an order of pools": Id => "id", CreatedAt => "created_at", CreatedAtDescending => "-created_at");

/// A filter of pools. A pool must meet every condition; without conditions, all pools match.
///
/// Serializes with the fields `id`, `name` and `id_or_name`, each a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolFilter {
    #[serde(rename = "id")]
    ids: Vec<PoolId>,
    #[serde(rename = "name")]
    names: Vec<String>,
    #[serde(rename = "id_or_name")]
    terms: Vec<String>,
}

impl PoolFilter {
    pub(crate) fn check(&self) -> Result<()> {
        let empty = || Error::bad_parameter("filter[,]", "has an empty term; allowed are ids and names");
        all([
            check_terms("filter[id]", self.ids.len()),
            check_terms("filter[name]", self.names.len()),
            check_terms("filter[,]", self.terms.len()),
            if self.terms.iter().any(String::is_empty) { Err(empty()) } else { Ok(()) },
        ])
    }

    pub(crate) fn matches(&self, pool: &DataPool) -> bool {
        let name_matches = |part: &String| contains_ignoring_case(&pool.name, part);
        let id = pool.id.to_string();
        let term_matches = |term: &String| *term == pool.name || *term == id;
        any_of(&self.ids, |id| *id == pool.id)
            && any_of(&self.names, name_matches)
            && any_of(&self.terms, term_matches)
    }
}

/// Returns true if `holds` is true for one of the terms, or if there are no terms.
fn any_of<T>(terms: &[T], holds: impl Fn(&T) -> bool) -> bool {
    terms.is_empty() || terms.iter().any(holds)
}

fn contains_ignoring_case(name: &str, part: &str) -> bool {
    folded(name).contains(&folded(part))
}

/// Folds the case of a text: maps each character to upper case and then to lower case. Each character becomes
/// exactly one, independent of its neighbours. `str::to_lowercase` looks at neighbours (a sigma at the end of
/// a word), so part of a name would not be found in the whole name.
fn folded(text: &str) -> String {
    let fold = |c: char| {
        let capital = single(c.to_uppercase()).unwrap_or(c);
        single(capital.to_lowercase()).unwrap_or(capital)
    };
    text.chars().map(fold).collect()
}

/// Returns the only item, or `None` if there are several, as in the upper case of ß.
fn single(mut items: impl Iterator<Item = char>) -> Option<char> {
    items.next().filter(|_| items.next().is_none())
}

/// A query of pools: filter, order and page. It is built in code, or parsed from the HTTP API's query string.
/// It prints as such a string, without defaults.
///
/// | parameter | method |
/// | --- | --- |
/// | `filter[id]=1,2` | [`id`](Self::id) |
/// | `filter[name]=shop` (never split) | [`name`](Self::name) |
/// | `filter[,]=orders,2` | [`id_or_name`](Self::id_or_name) |
/// | `include=name,description` | [`include`](Self::include) |
/// | `sort=created_at`, `sort=-created_at` | [`sort`](Self::sort) |
/// | `page=2` | [`page`](Self::page) |
/// | `per_page=50` | [`per_page`](Self::per_page) |
///
/// Blanks around a term of a list are dropped. The filters and `include` may also be arrays, as client
/// libraries write them: `filter[id][]=1&filter[id][]=2` or `filter[id][0]=1&filter[id][1]=2`. Elements of
/// `filter[name][]` and `filter[,][]` are not split. Use them for several names, or for terms with a comma;
/// they also print that way.
///
/// Serializes with the fields `filter`, `sort`, `include`, `page` and `per_page`. When it is deserialized,
/// absent fields get their defaults, and unknown fields are errors. The call that gets the query checks its
/// numbers and terms.
///
/// ```
/// use datapool_store::{PoolQuery, PoolSort};
///
/// let query: PoolQuery = "filter[name]=Shop+orders&sort=-created_at&per_page=50".parse()?;
/// assert_eq!(query, PoolQuery::new().name("Shop orders").sort(PoolSort::CreatedAtDescending).per_page(50));
/// assert_eq!(query.to_string(), "filter%5Bname%5D=Shop%20orders&sort=-created_at&per_page=50");
/// # Ok::<(), datapool_store::Error>(())
/// ```
///
/// ```
/// use datapool_store::{DataPoolStore, NewPool, PoolQuery, PoolSort};
///
/// # fn main() -> datapool_store::Result<()> {
/// let store = DataPoolStore::in_memory()?;
/// store.create_pool(NewPool::new("Shop orders"))?;
/// let page = store.pools(&PoolQuery::new().name("ORDERS").sort(PoolSort::CreatedAtDescending))?;
/// assert_eq!(page.meta.total, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub struct PoolQuery {
    pub(crate) filter: PoolFilter,
    pub(crate) sort: PoolSort,
    include: BTreeSet<PoolInclude>,
    pub(crate) page: PageRequest,
}

/// The fields of a serialized query.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    filter: PoolFilter,
    sort: PoolSort,
    include: BTreeSet<PoolInclude>,
    page: u64,
    per_page: u32,
}

impl Default for Fields {
    fn default() -> Self {
        PoolQuery::default().into()
    }
}

impl From<PoolQuery> for Fields {
    fn from(query: PoolQuery) -> Self {
        let PoolQuery { filter, sort, include, page: PageRequest { page, per_page } } = query;
        Self { filter, sort, include, page, per_page }
    }
}

impl From<Fields> for PoolQuery {
    fn from(fields: Fields) -> Self {
        let Fields { filter, sort, include, page, per_page } = fields;
        Self { filter, sort, include, page: PageRequest { page, per_page } }
    }
}

impl PoolQuery {
    /// Creates a query for every pool, lowest id first, page 1, 15 a page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an id: only pools with one of the ids given so far match.
    #[must_use]
    pub fn id(mut self, id: impl Into<PoolId>) -> Self {
        self.filter.ids.push(id.into());
        self
    }

    /// Adds a text: only pools whose name contains one of the texts given so far match, ignoring the case of
    /// each character.
    #[must_use]
    pub fn name(mut self, part: impl Into<String>) -> Self {
        self.filter.names.push(part.into());
        self
    }

    /// Adds a term: only pools whose id (in digits, as it prints) or whole name is one of the terms given so
    /// far match (the API's `filter[,]`).
    #[must_use]
    pub fn id_or_name(mut self, term: impl Into<String>) -> Self {
        self.filter.terms.push(term.into());
        self
    }

    /// Sets the order. Default: lowest id first.
    #[must_use]
    pub fn sort(mut self, sort: PoolSort) -> Self {
        self.sort = sort;
        self
    }

    /// Accepts the fields to include, as in the API, but has no effect, because both fields are always
    /// present.
    #[must_use]
    pub fn include(mut self, include: impl IntoIterator<Item = PoolInclude>) -> Self {
        self.include.extend(include);
        self
    }

    /// Sets the page's number, from 1.
    #[must_use]
    pub fn page(mut self, page: u64) -> Self {
        self.page.page = page;
        self
    }

    /// Sets the number of pools per page: 1 to 100, 15 by default.
    #[must_use]
    pub fn per_page(mut self, per_page: u32) -> Self {
        self.page.per_page = per_page;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        all([self.filter.check(), self.page.check()])
    }

    /// Returns the page that this query requests.
    pub(crate) fn answer(&self, data: Vec<DataPool>, total: u64) -> Page<DataPool> {
        let meta = self.page.meta(self.page.skip(), data.len(), total);
        let links = PageLinks::by_number(&self.print_but_page(), &meta);
        Page { data, meta, links, next_cursor: None }
    }

    fn print_but_page(&self) -> Printer {
        let (mut printer, filter) = (Printer::default(), &self.filter);
        printer.push_list("filter[id]", &filter.ids);
        printer.push_texts("filter[name]", &filter.names);
        if query_string::are_list_terms(&filter.terms) {
            printer.push_list("filter[,]", &filter.terms);
        } else {
            filter.terms.iter().for_each(|term| printer.push("filter[,][]", term));
        }
        printer.push_list("include", self.include.iter().map(|include| include.as_str()));
        printer.push_some("sort", Some(self.sort).filter(|sort| *sort != PoolSort::default()));
        printer
    }

    fn take(&mut self, parameter: &Parameter) -> Result<()> {
        let filter = &mut self.filter;
        let owned = |terms: Vec<&str>| terms.into_iter().map(str::to_owned).collect::<Vec<_>>();
        match parameter.name() {
            "filter[id]" => {
                for term in parameter.terms()? {
                    filter.ids.push(query_string::id(
                        "filter[id]",
                        term,
                        "ids in digits, with commas between them",
                    )?);
                }
            }
            "filter[name]" => filter.names = owned(parameter.texts()),
            "filter[,]" => filter.terms = owned(parameter.terms_or_elements()?),
            "include" => self.include = parameter.choices(&PoolInclude::ALL, PoolInclude::as_str)?,
            "sort" => self.sort = sort_named(parameter.one()?)?,
            _ if self.page.take(parameter)? => {}
            name => return Err(query_string::unknown(name, &PARAMETERS)),
        }
        Ok(())
    }
}

const PARAMETERS: [&str; 7] =
    ["filter[id]", "filter[name]", "filter[,]", "include", "sort", "page", "per_page"];

fn sort_named(name: &str) -> Result<PoolSort> {
    match name {
        "created_at" => Ok(PoolSort::CreatedAt),
        "-created_at" => Ok(PoolSort::CreatedAtDescending),
        _ => Err(Error::bad_parameter(
            "sort",
            format!("is {}; allowed are created_at, -created_at", shown(name)),
        )),
    }
}

impl fmt::Display for PoolQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = self.print_but_page();
        self.page.print(&mut printer);
        f.write_str(&printer.finish())
    }
}

impl FromStr for PoolQuery {
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
