//! Reading results.
//!
//! Always holds: the result of a dead record is not returned, even if it is still stored.

use crate::backend::batch::Batch;
use crate::engine::read::view::View;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::error::Result;
use crate::ids::{RecordId, RecordNumber};
use crate::model::Key;

impl View {
    /// Returns the result of a record, if it is live and has one.
    pub(crate) fn result(&self, id: RecordId) -> Result<Option<Vec<u8>>> {
        contained("reading a result", || self.live_result(id.get()))
    }

    /// Returns for each key, in order, the result of the record that was first with its value.
    pub(crate) fn results_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Vec<u8>>>> {
        let batch = Batch::from_keys(&self.hash_key, keys.iter().cloned())?;
        contained("reading results", || {
            let ids = batch.ask_each(|fingerprint| self.find_first(&self.state, fingerprint))?;
            let result = |(index, id): (usize, Option<RecordNumber>)| {
                let Some(id) = id else { return Ok(None) };
                let result = self.live_result(id)?;
                if result.is_some() {
                    // A caller must never get the result of another value, even if an index is damaged.
                    let row = self.row(id)?;
                    self.check_value(id, self.stored_in(id, &row)?.value, batch.value(index))?;
                }
                Ok(result)
            };
            ids.into_iter().enumerate().map(result).collect()
        })
    }

    fn live_result(&self, id: RecordNumber) -> Result<Option<Vec<u8>>> {
        let Some((index, segment)) = self.state.segment_of(id).filter(|_| self.state.is_live(id)) else {
            return Ok(None);
        };
        let Some(table) = self.results(index)? else { return Ok(None) };
        Ok(table.get(segment.slot(id)).storage()?.map(|result| result.value().to_vec()))
    }
}
