//! Listings as values: filters, order, includes, pages and cursors; and the HTTP API's query strings.
//!
//! Owns: the queries, their checks and their text. Must not know: storage. The engine's planner answers them.

mod explain;
mod include;
mod page;
mod pools;
mod query_string;
mod record_filter;
mod records;

pub use explain::{AttributeUse, Blocks, Explanation, ListUse};
pub use include::{PoolInclude, RecordInclude};
pub use page::{Cursor, Page, PageLinks, PageMeta};
pub use pools::{PoolFilter, PoolQuery, PoolSort};
pub use record_filter::RecordFilter;
pub use records::{RecordQuery, RecordSort};
