//! Listings as values: filters, order, includes, pages, cursors; and the HTTP API's query strings.
//!
//! Owns: what can be asked, the checks of it, and its text. Must not know: storage. The engine's planner answers.

mod explain;
mod include;
mod page;
mod pools;
mod records;
mod text;

pub use explain::{AttributeUse, Blocks, Explanation, ListUse};
pub use include::{PoolInclude, RecordInclude};
pub use page::{Cursor, Page, PageLinks, PageMeta};
pub use pools::{PoolFilter, PoolQuery, PoolSort};
pub use records::{RecordFilter, RecordQuery, RecordSort};

pub(crate) use page::PageRequest;

use crate::error::{Error, Result};
use crate::limits;

/// One filter's list of terms must stay within [`limits::FILTER_MAX_TERMS`].
fn check_terms(parameter: &'static str, count: usize) -> Result<()> {
    if count <= limits::FILTER_MAX_TERMS {
        return Ok(());
    }
    let limit = limits::FILTER_MAX_TERMS;
    Err(Error::bad_parameter(
        parameter,
        format!("lists {count} terms; the limit is {limit} (FILTER_MAX_TERMS)"),
    ))
}
