//! A row that cannot be imported, and the reason.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// A row that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BadRow {
    /// The line on which the row begins, from 1; the header is on line 1.
    pub line: u64,
    /// The field, from 1; `None` if the reason concerns the whole row.
    pub column: Option<u64>,
    /// The reason: what is wrong, and what is allowed.
    pub reason: String,
}

impl BadRow {
    /// Creates a report about a field, counted from 0, or about the whole row.
    pub(super) fn new(line: u64, field: Option<usize>, reason: impl Into<String>) -> Self {
        Self { line, column: field.map(|field| field as u64 + 1), reason: reason.into() }
    }

    pub(super) fn into_error(self) -> Error {
        let Self { line, column, reason } = self;
        let place =
            column.map_or_else(|| format!("line {line}"), |column| format!("line {line}, column {column}"));
        Error::new(ErrorKind::Csv { line, column }, format!("{place}: {reason}"))
    }
}
