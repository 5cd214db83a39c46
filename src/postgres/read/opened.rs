//! Scans and snapshots that are open.
//!
//! Always holds: they end when the store is closed, also if it is opened again.

use std::sync::Arc;

use crate::backend::OpenReader;
use crate::error::{Error, Result};
use crate::postgres::store::Postgres;

/// A scan or snapshot, which ends when the store is closed.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<Postgres>,
    /// The number of times that the store had been closed.
    pub(crate) closes: u64,
}

impl OpenReader for Opened {
    fn check_open(&self) -> Result<()> {
        if self.store.closes() == self.closes { Ok(()) } else { Err(Error::closed()) }
    }
}
