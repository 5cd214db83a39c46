//! The results with which a call confirms items.
//!
//! Always holds: each result, and their total size, are within the limits.

use std::ops::Range;
use std::sync::Arc;

use crate::backend::claims::ResultBytes;
use crate::error::{Error, Result};
use crate::limits::{RESULT_MAX_BYTES, RESULTS_MAX_BYTES};

/// The results of some items of a claim.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// All results, concatenated.
    bytes: Vec<u8>,
    /// The range of each result in `bytes`, by the item's position, ascending.
    by_position: Vec<(usize, Range<usize>)>,
}

impl Results {
    /// Collects the result of each item. `result` gets the item's index in the batch that was claimed.
    ///
    /// # Errors
    ///
    /// `LimitExceeded` with the index of the item whose result exceeds a limit. Later items are not asked
    /// for.
    pub(crate) fn collect<B: Into<Vec<u8>>>(
        items: impl Iterator<Item = (usize, usize)>,
        mut result: impl FnMut(usize) -> Option<B>,
    ) -> Result<Self> {
        let mut results = Self::default();
        for (position, index) in items {
            if let Some(bytes) = result(index) {
                results.add(position, &bytes.into()).map_err(|error| error.with_item(index))?;
            }
        }
        Ok(results)
    }

    fn add(&mut self, position: usize, bytes: &[u8]) -> Result<()> {
        let (len, start) = (bytes.len(), self.bytes.len());
        if len > RESULT_MAX_BYTES {
            return Err(Error::limit_exceeded(format!(
                "the result has {len} bytes; the limit is {RESULT_MAX_BYTES} (RESULT_MAX_BYTES)"
            )));
        }
        let end = start + len;
        if end > RESULTS_MAX_BYTES {
            return Err(Error::limit_exceeded(format!(
                "the results of the call have {end} bytes up to here; the limit is {RESULTS_MAX_BYTES} \
                 (RESULTS_MAX_BYTES). Confirm fewer items at once"
            )));
        }
        self.bytes.extend_from_slice(bytes);
        self.by_position.push((position, start..end));
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the results at some positions, which ascend.
    pub(super) fn of(self, positions: &[usize]) -> Vec<(usize, ResultBytes)> {
        let all = Arc::new(self.bytes);
        let those = self.by_position.into_iter();
        let those = those.filter(|(position, _)| positions.binary_search(position).is_ok());
        those.map(|(position, place)| (position, ResultBytes::new(Arc::clone(&all), place))).collect()
    }
}
