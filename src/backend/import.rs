//! The rows of an import and its result.

use std::sync::Arc;

use crate::error::Result;
use crate::ids::EntityTypeId;
use crate::model::{Origin, Version};
use crate::time::Timestamp;

/// One row of an import.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImportRow<'r> {
    /// Its line in the file.
    pub(crate) line: u64,
    pub(crate) entity_type: EntityTypeId,
    pub(crate) value: &'r str,
    pub(crate) origin: Option<&'r Arc<Origin>>,
    /// The row's time, unless it is the time of the import. Either all rows of an import have one, or none.
    /// The times ascend and are not later than now.
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) version: Option<Version>,
}

/// The source of an import's rows, in file order and already validated.
pub(crate) trait RowSource {
    /// Passes the next row to `push`. Returns false at the end.
    fn next(&mut self, push: &mut dyn FnMut(ImportRow<'_>)) -> Result<bool>;
}

/// The treatment of a row whose value is in the pool, or occurred earlier in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Present {
    Add,
    Skip,
    Fail,
}

/// The result of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BulkReport {
    pub(crate) added: u64,
    pub(crate) skipped: u64,
}
