//! Listing pools.

use super::{PageRequest, check_terms};
use crate::error::Result;
use crate::ids::PoolId;
use crate::model::DataPool;

/// The order of a listing of pools.
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

/// Which pools a listing shows. All conditions that are set must hold; none shows every pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolFilter {
    ids: Vec<PoolId>,
    name: Option<String>,
    terms: Vec<String>,
}

impl PoolFilter {
    pub(crate) fn check(&self) -> Result<()> {
        check_terms("filter[id]", self.ids.len())?;
        check_terms("filter[,]", self.terms.len())
    }

    pub(crate) fn matches(&self, pool: &DataPool) -> bool {
        let by_id = self.ids.is_empty() || self.ids.contains(&pool.id);
        let by_name = self.name.as_deref().is_none_or(|part| contains_ignoring_case(&pool.name, part));
        let term_matches = |term: &String| *term == pool.name || term.parse() == Ok(pool.id);
        by_id && by_name && (self.terms.is_empty() || self.terms.iter().any(term_matches))
    }
}

fn contains_ignoring_case(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(&part.to_lowercase())
}

/// What to list of the pools: filter, order and page.
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolQuery {
    pub(crate) filter: PoolFilter,
    pub(crate) sort: PoolSort,
    pub(crate) page: PageRequest,
}

impl PoolQuery {
    /// Every pool, lowest id first, page 1, 15 a page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only the pool of this id, or of any id given so far.
    #[must_use]
    pub fn id(mut self, id: PoolId) -> Self {
        self.filter.ids.push(id);
        self
    }

    /// Only pools whose name contains this text, ignoring case.
    #[must_use]
    pub fn name(mut self, part: impl Into<String>) -> Self {
        self.filter.name = Some(part.into());
        self
    }

    /// Only pools whose id or whole name is this term, or any term given so far (the API's `filter[,]`).
    #[must_use]
    pub fn id_or_name(mut self, term: impl Into<String>) -> Self {
        self.filter.terms.push(term.into());
        self
    }

    /// The order. Default: lowest id first.
    #[must_use]
    pub fn sort(mut self, sort: PoolSort) -> Self {
        self.sort = sort;
        self
    }

    /// The page's number, from 1.
    #[must_use]
    pub fn page(mut self, page: u64) -> Self {
        self.page.page = page;
        self
    }

    /// How many pools a page has: 1 to 100, 15 by default.
    #[must_use]
    pub fn per_page(mut self, per_page: u32) -> Self {
        self.page.per_page = per_page;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.filter.check()?;
        self.page.check()
    }
}
