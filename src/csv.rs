//! CSV import and export.
//!
//! The format: a header line, then one record a row, fields quoted with `"` where needed (RFC 4180), UTF-8 with
//! or without a byte order mark, LF or CRLF. Owns: what is read and written, and the policies. Must not know: how
//! rows are indexed; that is [`crate::engine`]'s.

mod check;
mod export;
mod import;
mod rows;
mod spool;

pub use export::{CellQuoting, ExportColumns, ExportOptions, ExportReport};
pub use import::{ImportOptions, ImportProgress, ImportReport, OnBadRow, OnDuplicate};
pub use rows::BadRow;
