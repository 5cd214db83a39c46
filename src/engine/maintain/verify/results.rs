//! Checks that each result belongs to a record.

use redb::ReadableTable;

use super::Verification;
use super::segment::Column;
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use crate::limits::RESULT_MAX_BYTES;

impl Verification<'_, '_, '_> {
    pub(super) fn check_results(&mut self, view: &View, index: usize, column: &Column) -> Result<()> {
        let Some(table) = view.results(index)? else { return Ok(()) };
        for row in ReadableTable::iter(table).storage()? {
            let (slot, result) = row.storage()?;
            let (slot, len) = (slot.value(), result.value().len());
            let text = if !column.stored.contains(&slot) {
                "the segment has no such record".to_owned()
            } else if column.fingerprint(slot).is_none() {
                "its record is a stub, or cannot be read".to_owned()
            } else if len > RESULT_MAX_BYTES {
                format!("the result has {len} bytes; the limit is {RESULT_MAX_BYTES} (RESULT_MAX_BYTES)")
            } else {
                continue;
            };
            self.findings.add(Some(column.pool), &column.names.results, slot.to_string(), text);
        }
        Ok(())
    }
}
