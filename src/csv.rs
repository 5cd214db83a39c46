//! CSV import and export.
//!
//! The format: a header line, then one record a row, fields quoted with `"` where needed (RFC 4180), UTF-8 with
//! or without a byte order mark, LF or CRLF. Owns: what is read and written, and the policies. Must not know: how
//! rows are indexed; that is [`crate::engine`]'s.
//!
//! An import takes a file through these steps: `records` (bytes into fields), `rows` (fields into rows), `spool` (rows
//! wait for the writer) and `import` (rows into the pool).

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
