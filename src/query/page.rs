//! Pages, their links, and cursors.

use std::fmt;
use std::ops::Index;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::query_string::{self, Parameter, Printer};
use crate::error::{Error, Result, all};
use crate::ids::RecordId;
use crate::limits;

/// One page of a listing, with the exact total.
///
/// Serializes as in the HTTP API, `{"data": [...], "meta": {...}, "links": {...}}`, and deserializes from
/// that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// The page's items.
    pub data: Vec<T>,
    /// The page's position in the listing.
    pub meta: PageMeta,
    /// Query strings of the listing's other pages.
    pub links: PageLinks,
    /// The cursor that continues after this page's last item, even if items are added or removed meanwhile.
    /// See [`RecordQuery::cursor`](crate::RecordQuery::cursor). `None` on the last page and in a listing of
    /// pools.
    ///
    /// It is not part of the serialized page.
    #[serde(skip)]
    pub next_cursor: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes the links absolute, as in the HTTP API, and sets [`PageMeta::path`]. `url` is the listing's URL
    /// without a query.
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, PoolQuery};
    ///
    /// # fn main() -> datapool_store::Result<()> {
    /// let page = DataPoolStore::in_memory()?.pools(&PoolQuery::new())?;
    /// let page = page.with_base_url("https://example.com/api/v1/data-pool");
    /// assert_eq!(page.links.first, "https://example.com/api/v1/data-pool?page=1");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_base_url(mut self, url: &str) -> Self {
        let PageLinks { first, last, prev, next } = &mut self.links;
        for link in [Some(first), Some(last), prev.as_mut(), next.as_mut()].into_iter().flatten() {
            link.insert_str(0, url);
        }
        self.meta.path = Some(url.to_owned());
        self
    }
}

impl<T> Page<T> {
    /// Returns the page's items, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.data.iter()
    }
}

impl<T> Index<usize> for Page<T> {
    type Output = T;

    /// Returns the page's item at `index`, from 0.
    ///
    /// # Panics
    ///
    /// Panics if there is no such item, like a `Vec`. [`data`](Page::data) has `get`.
    #[allow(clippy::indexing_slicing, reason = "the caller promises a valid index, as with a Vec")]
    fn index(&self, index: usize) -> &T {
        &self.data[index]
    }
}

impl<T> IntoIterator for Page<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.data.into_iter()
    }
}

impl<'p, T> IntoIterator for &'p Page<T> {
    type Item = &'p T;
    type IntoIter = std::slice::Iter<'p, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The position of a page in its listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageMeta {
    /// The page's number, from 1.
    pub current_page: u64,
    /// The position of its first item in the whole listing, from 1; `None` on an empty page.
    pub from: Option<u64>,
    /// The number of the last page; 1 if nothing was found.
    pub last_page: u64,
    /// The listing's URL, if [`Page::with_base_url`] set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The number of items per page.
    pub per_page: u32,
    /// The position of its last item in the whole listing, from 1; `None` on an empty page.
    pub to: Option<u64>,
    /// The number of items in the whole listing.
    pub total: u64,
}

/// The query strings of a listing's other pages, each starting with `?`. They can be parsed:
///
/// ```
/// use datapool_store::{DataPoolStore, PoolQuery};
///
/// # fn main() -> datapool_store::Result<()> {
/// let store = DataPoolStore::in_memory()?;
/// # for name in ["orders", "customers", "products"] { store.get_or_create_pool(name)?; }
/// let page = store.pools(&PoolQuery::new().per_page(2))?;
/// assert_eq!(page.links.next.as_deref(), Some("?page=2&per_page=2"));
/// let next = store.pools(&page.links.next.unwrap().parse()?)?;
/// assert_eq!(next.meta.current_page, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageLinks {
    /// The first page.
    pub first: String,
    /// The last page.
    pub last: String,
    /// The previous page; on a page past the end of the listing, the last page. `None` on the first page, and
    /// on a page that was requested by cursor, because cursors only go forward.
    pub prev: Option<String>,
    /// The next page, by cursor if this page was requested by cursor. `None` on the last page and past it.
    pub next: Option<String>,
}

impl PageLinks {
    /// Returns the links of a page that was requested by number. `base` is the query without its page
    /// parameters.
    pub(super) fn by_number(base: &Printer, meta: &PageMeta) -> Self {
        let link = |page: u64| link_to(base, meta.per_page, |link| link.push("page", page));
        let (current, last) = (meta.current_page, meta.last_page);
        Self {
            first: link(1),
            last: link(last),
            prev: (current > 1).then(|| link((current - 1).min(last))),
            next: (current < last).then(|| link(current + 1)),
        }
    }

    /// Returns the links of a page that was requested by cursor.
    pub(super) fn by_cursor(base: &Printer, meta: &PageMeta, next: Option<Cursor>) -> Self {
        let next = next.map(|cursor| link_to(base, meta.per_page, |link| link.push("cursor", cursor)));
        Self { prev: None, next, ..Self::by_number(base, meta) }
    }
}

fn link_to(base: &Printer, per_page: u32, position: impl FnOnce(&mut Printer)) -> String {
    let mut link = base.copy();
    position(&mut link);
    PageRequest { page: 1, per_page }.print(&mut link);
    let mut link = link.finish();
    link.insert(0, '?');
    link
}

/// A position in a listing of records: directly after one record, in the listing's order.
///
/// It can be serialized, printed and parsed, so that a program can pass it on and continue later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub(crate) RecordId);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        query_string::id("cursor", text, "cursors that a page gave").map(Self)
    }
}

/// The requested page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRequest {
    pub(crate) page: u64,
    pub(crate) per_page: u32,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { page: 1, per_page: limits::PER_PAGE_DEFAULT }
    }
}

impl PageRequest {
    /// Reads `page` or `per_page` from a parameter. Returns true if the parameter was one of them.
    pub(super) fn take(&mut self, parameter: &Parameter) -> Result<bool> {
        match parameter.name() {
            "page" => self.page = query_string::number("page", parameter.one()?, "whole numbers from 1")?,
            "per_page" => {
                self.per_page =
                    query_string::number("per_page", parameter.one()?, "1 to 100 (PER_PAGE_MAX)")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Prints the parameters that differ from their defaults.
    pub(super) fn print(self, printer: &mut Printer) {
        let default = Self::default();
        printer.push_some("page", Some(self.page).filter(|page| *page != default.page));
        printer.push_some("per_page", Some(self.per_page).filter(|count| *count != default.per_page));
    }

    pub(crate) fn check(self) -> Result<()> {
        let (count, limit) = (self.per_page, limits::PER_PAGE_MAX);
        let page = if self.page == 0 {
            Err(Error::bad_parameter("page", "is 0; pages count from 1"))
        } else {
            Ok(())
        };
        let per_page = if (1..=limit).contains(&count) {
            Ok(())
        } else {
            Err(Error::bad_parameter(
                "per_page",
                format!("is {count}; allowed are 1 to {limit} (PER_PAGE_MAX)"),
            ))
        };
        all([page, per_page])
    }

    /// Returns the number of items before this page.
    pub(crate) fn skip(self) -> u64 {
        (self.page - 1).saturating_mul(u64::from(self.per_page))
    }

    /// Returns the metadata of a page that begins after `skipped` items and has `count` of `total` items.
    ///
    /// The page number of a page that was requested by cursor is that of the page on which its first item is.
    pub(crate) fn meta(self, skipped: u64, count: usize, total: u64) -> PageMeta {
        let per_page = u64::from(self.per_page);
        let shown = (count > 0).then_some(skipped);
        PageMeta {
            current_page: if skipped == self.skip() { self.page } else { skipped / per_page + 1 },
            from: shown.map(|skipped| skipped + 1),
            last_page: total.div_ceil(per_page).max(1),
            path: None,
            per_page: self.per_page,
            to: shown.map(|skipped| skipped + count as u64),
            total,
        }
    }
}
