//! redb's handle on the file, open for writing or only for reading. It closes without panicking.
//!
//! Always holds: closing writes to the file, and redb may panic there if the file is damaged. Such a panic is
//! caught here.

use redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::engine::storage::failure::{StorageResult, contained};
use crate::error::{Error, ErrorKind, Result};

/// redb's handle on the file.
pub(crate) enum Handle {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
}

/// An open redb database. Dropping it closes it without reporting a failure.
pub(crate) struct OpenDatabase(Option<Handle>);

impl OpenDatabase {
    pub(crate) fn new(handle: Handle) -> Self {
        Self(Some(handle))
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction> {
        match self.0.as_ref().ok_or_else(Error::closed)? {
            Handle::Writable(database) => database.begin_read().storage(),
            Handle::ReadOnly(database) => database.begin_read().storage(),
        }
    }

    pub(crate) fn begin_write(&self) -> Result<WriteTransaction> {
        match self.0.as_ref().ok_or_else(Error::closed)? {
            Handle::Writable(database) => database.begin_write().storage(),
            Handle::ReadOnly(_) => Err(read_only()),
        }
    }

    /// Returns the database for work that redb does only without readers.
    pub(crate) fn writable(&mut self) -> Result<&mut Database> {
        match self.0.as_mut().ok_or_else(Error::closed)? {
            Handle::Writable(database) => Ok(database),
            Handle::ReadOnly(_) => Err(read_only()),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.0, Some(Handle::ReadOnly(_)))
    }

    /// Closes the file. Readers that still use it fail from then on.
    pub(crate) fn close(&mut self) -> Result<()> {
        let Some(handle) = self.0.take() else { return Ok(()) };
        contained("closing the store", || match handle {
            Handle::Writable(database) => database.close().storage(),
            Handle::ReadOnly(database) => database.close().storage(),
        })
    }
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        // A failure cannot be reported here. The file is recovered when it is opened again.
        let _ = self.close();
    }
}

pub(crate) fn read_only() -> Error {
    let text = "the store is open for reading only: open it with `Access::ReadWrite` to write to it";
    Error::new(ErrorKind::ReadOnly, text)
}
