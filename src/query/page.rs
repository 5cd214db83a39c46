//! Pages and cursors.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::RecordId;
use crate::limits;

/// One page of a listing, with the exact total.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The page's items.
    pub data: Vec<T>,
    /// Where the page stands in the listing.
    pub meta: PageMeta,
    /// Continues after this page's last item by position, whatever is added or removed meanwhile: see
    /// [`RecordQuery::cursor`](crate::RecordQuery::cursor). None on the last page and in a listing of pools.
    pub next_cursor: Option<Cursor>,
}

/// Where a page stands in its listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PageMeta {
    /// The page's number, from 1.
    pub current_page: u64,
    /// The position of its first item in the whole listing, from 1; none on an empty page.
    pub from: Option<u64>,
    /// The number of the last page; 1 when nothing was found.
    pub last_page: u64,
    /// How many items a page has.
    pub per_page: u32,
    /// The position of its last item in the whole listing, from 1; none on an empty page.
    pub to: Option<u64>,
    /// How many items the whole listing has.
    pub total: u64,
}

/// A position in a listing of records: after one record, in the listing's order.
///
/// It serializes, so that a program can hand it on and continue later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub(crate) RecordId);

/// Which page is asked for.
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
    pub(crate) fn check(self) -> Result<()> {
        if self.page == 0 {
            return Err(Error::invalid_query("page is 0; pages count from 1"));
        }
        if (1..=limits::PER_PAGE_MAX).contains(&self.per_page) {
            return Ok(());
        }
        Err(Error::invalid_query(format!(
            "per_page is {}; allowed are 1 to {} (PER_PAGE_MAX)",
            self.per_page,
            limits::PER_PAGE_MAX
        )))
    }

    /// How many items stand before the page.
    pub(crate) fn skip(self) -> u64 {
        (self.page - 1).saturating_mul(u64::from(self.per_page))
    }

    /// The meta block of a page that begins after `skipped` items and has `count` of `total`.
    ///
    /// A page that a cursor asked for has the number of the page that its first item is on.
    pub(crate) fn meta(self, skipped: u64, count: usize, total: u64) -> PageMeta {
        let per_page = u64::from(self.per_page);
        let shown = (count > 0).then_some(skipped);
        PageMeta {
            current_page: if skipped == self.skip() { self.page } else { skipped / per_page + 1 },
            from: shown.map(|skipped| skipped + 1),
            last_page: total.div_ceil(per_page).max(1),
            per_page: self.per_page,
            to: shown.map(|skipped| skipped + count as u64),
            total,
        }
    }
}
