//! redb's handle on the file, closed without panicking.
//!
//! Always holds: closing writes to the file, and on a damaged one redb may panic doing so; that ends here.

use redb::Database;

use super::failure::contained;
use crate::error::{Error, ErrorKind, Result};

/// An open redb database.
pub(super) struct OpenDatabase(Option<Database>);

impl OpenDatabase {
    pub(super) fn new(database: Database) -> Self {
        Self(Some(database))
    }

    pub(super) fn get(&self) -> Result<&Database> {
        self.0.as_ref().ok_or_else(|| Error::new(ErrorKind::Closed, "the store is closed"))
    }
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        let database = self.0.take();
        // Nobody is left to hear of it; the file is recovered when it is opened again.
        let _ = contained("closing the store", || {
            drop(database);
            Ok(())
        });
    }
}
