//! The results that a call confirms items with.
//!
//! Always holds: each result, and all of them together, are within their limits.

use crate::error::{Error, Result};
use crate::limits::{RESULT_MAX_BYTES, RESULTS_MAX_BYTES};

/// The results of some items of a claim.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// By the items' positions, ascending.
    by_position: Vec<(usize, Vec<u8>)>,
    bytes: usize,
}

impl Results {
    /// Asks for the result of each item. Of an item it gets the position, and the index in the batch that was claimed.
    ///
    /// # Errors
    ///
    /// `LimitExceeded` with the index of the item whose result goes over a limit; later items are not asked for.
    pub(crate) fn collect<B: Into<Vec<u8>>>(
        items: impl Iterator<Item = (usize, usize)>,
        mut result: impl FnMut(usize) -> Option<B>,
    ) -> Result<Self> {
        let mut results = Self::default();
        for (position, index) in items {
            if let Some(bytes) = result(index) {
                results.add(position, bytes.into()).map_err(|error| error.with_item(index))?;
            }
        }
        Ok(results)
    }

    fn add(&mut self, position: usize, bytes: Vec<u8>) -> Result<()> {
        let len = bytes.len();
        if len > RESULT_MAX_BYTES {
            return Err(Error::limit_exceeded(format!(
                "the result has {len} bytes; the limit is {RESULT_MAX_BYTES} (RESULT_MAX_BYTES)"
            )));
        }
        self.bytes += len;
        if self.bytes > RESULTS_MAX_BYTES {
            return Err(Error::limit_exceeded(format!(
                "the results of the call have {} bytes up to here; the limit is {RESULTS_MAX_BYTES} \
                 (RESULTS_MAX_BYTES). Confirm fewer items at once",
                self.bytes
            )));
        }
        self.by_position.push((position, bytes));
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns those of some positions, which ascend.
    pub(super) fn of(mut self, positions: &[usize]) -> Vec<(usize, Vec<u8>)> {
        self.by_position.retain(|(position, _)| positions.binary_search(position).is_ok());
        self.by_position
    }
}
