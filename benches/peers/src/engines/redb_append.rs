//! One table of redb, to which records are appended with a cursor. This is the lower bound for everything
//! built on redb.
//!
//! It cannot find values and has no index, so it only takes part where rows are added.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use datapool_store::Timestamp;
use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use super::redb::{RECORDS, append, last_id, open_database};
use super::{Engine, Past, Runs, each_csv_row};
use crate::Result;
use crate::common::Row;
use crate::data::DataSet;

#[derive(Clone)]
pub(super) struct RedbAppend(Arc<Database>);

impl fmt::Debug for RedbAppend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbAppend").finish_non_exhaustive()
    }
}

impl RedbAppend {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        Ok(Self(Arc::new(open_database(directory)?)))
    }

    /// Appends the records that `each` passes on, in one commit. Returns their number.
    fn append(
        &self,
        each: impl FnOnce(&mut dyn FnMut(u32, &str) -> Result<()>) -> Result<()>,
    ) -> Result<u64> {
        let txn = self.0.begin_write()?;
        let before = last_id(&txn)?;
        let (mut id, mut record) = (before, Vec::new());
        append(&txn, |push| {
            each(&mut |entity_type, value| {
                id += 1;
                record.clear();
                record.extend_from_slice(&entity_type.to_be_bytes());
                record.extend_from_slice(value.as_bytes());
                push(id, &record)
            })
        })?;
        txn.commit()?;
        Ok(id - before)
    }
}

/// Returns the error for operations that this engine cannot do.
fn unable<T>() -> Result<T> {
    Err("an append-only table cannot look up records".into())
}

impl Engine for RedbAppend {
    fn another(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(self.clone()))
    }

    fn import(&mut self, file: &Path) -> Result<u64> {
        self.append(|push| each_csv_row(file, push))
    }

    fn load(&mut self, set: DataSet, _: Past) -> Result<()> {
        self.append(|push| set.rows().try_for_each(|row| push(row.entity_type, &row.value)))?;
        Ok(())
    }

    fn track(&mut self, rows: &[Row], _: Runs, _: Timestamp) -> Result<usize> {
        let new = self.append(|push| rows.iter().try_for_each(|row| push(row.entity_type, &row.value)))?;
        Ok(usize::try_from(new)?)
    }

    fn contains(&mut self, _: &Row) -> Result<bool> {
        unable()
    }

    fn contains_many(&mut self, _: &[Row]) -> Result<Vec<bool>> {
        unable()
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.0.begin_read()?.open_table(RECORDS)?.len()?)
    }

    fn expire(&mut self, _: Timestamp) -> Result<u64> {
        unable()
    }

    fn export(&mut self, _: &Path) -> Result<()> {
        unable()
    }
}
