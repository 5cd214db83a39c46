//! CSV import and export.
//!
//! The format: a header line, then one record a row, fields quoted with `"` where needed (RFC 4180), UTF-8
//! with or without a byte order mark, LF or CRLF. Owns: the format, the options and the policies. Must not
//! know: how rows are indexed. That is the task of [`crate::engine`].
//!
//! An import has four steps: `records` parses bytes into fields, `rows` turns fields into rows, `spool` keeps
//! the rows until the writer is free, and `import` adds them to the pool.

mod bad_row;
mod check;
mod export;
mod foreign;
mod import;
mod options;
mod records;
mod rows;
mod spool;

pub use bad_row::BadRow;
pub use export::{CellQuoting, ExportColumns, ExportOptions, ExportReport};
pub use import::ImportReport;
pub use options::{ImportOptions, ImportProgress, OnBadRow, OnDuplicate};
