//! Listings as values: filters, order, pages, cursors.
//!
//! Owns: what can be asked, and the checks of it. Must not know: storage. The engine's planner answers.

mod page;
mod pools;
mod records;

pub use page::{Cursor, Page, PageMeta};
pub use pools::{PoolFilter, PoolQuery, PoolSort};
pub use records::{RecordFilter, RecordQuery, RecordSort};

pub(crate) use page::PageRequest;

use crate::error::{Error, Result};
use crate::limits;

/// One filter's list of terms must stay within [`limits::FILTER_MAX_TERMS`].
fn check_terms(parameter: &str, count: usize) -> Result<()> {
    if count <= limits::FILTER_MAX_TERMS {
        return Ok(());
    }
    Err(Error::invalid_query(format!(
        "{parameter} lists {count} terms; the limit is {} (FILTER_MAX_TERMS)",
        limits::FILTER_MAX_TERMS
    )))
}
