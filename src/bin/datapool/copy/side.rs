//! The two stores of a copy.

use datapool_store::{DataPool, DataPoolStore, Error, ErrorKind, Pool, Record};

use crate::failure::Failure;

/// One of the two stores, and its name in messages.
pub(super) struct Side<'a> {
    pub(super) store: &'a DataPoolStore,
    pub(super) name: String,
}

impl Side<'_> {
    pub(super) fn failed(&self, error: Error) -> Failure {
        Failure::about(&self.name, error)
    }

    pub(super) fn pool(&self, row: &DataPool) -> Result<Pool, Failure> {
        self.store.pool(row.id).map_err(|error| self.failed(error))
    }

    /// Returns the pool of that name, if there is one.
    pub(super) fn find(&self, name: &str) -> Result<Option<Pool>, Failure> {
        match self.store.pool_named(name) {
            Ok(pool) => Ok(Some(pool)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// Returns true if a record is a copy of another one. Their ids may differ.
pub(super) fn is_copy(copy: &Record, of: &Record) -> bool {
    (copy.key(), copy.created_at, copy.origin()) == (of.key(), of.created_at, of.origin())
}
