//! Results on disk: written with their records, and removed with their segment.
//!
//! Always holds: a result belongs to a record of its segment, dead or alive; a segment without results has no
//! table for them.

use std::ops::Bound;

use redb::{ReadableTable, Table, WriteTransaction};

use crate::engine::format::schema::{SegmentNumber, SegmentTables, Slot};
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::draft::PoolDraft;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::model::PruneReport;

/// The number of bytes of results that one commit removes, unless twice what it adds is more.
const REMOVED_BYTES: u64 = 4 << 20;
/// The largest number of results that one commit removes.
const REMOVED_ROWS: u64 = 1 << 16;

/// Writes the results of the records that a draft adds. Records that the draft evicts again are left out.
pub(crate) fn write_results(txn: &WriteTransaction, draft: &PoolDraft) -> Result<()> {
    let state = &draft.state;
    let mut results = draft.results.iter().filter(|(id, _)| state.is_live(*id)).peekable();
    while let Some((id, _)) = results.peek() {
        let (index, segment) =
            state.segment_of(*id).ok_or_else(|| Error::corrupt(format!("no segment for record {id}")))?;
        let end = state.end_of(index);
        let names = SegmentTables::new(state.id, segment.number);
        let mut table = txn.open_table(names.results()).storage()?;
        // Results come in the order of their records, so each is appended after the last one.
        let mut cursor = table.upper_bound_mut(Bound::<Slot>::Unbounded).storage()?;
        while let Some((id, bytes)) = results.next_if(|(id, _)| *id < end) {
            cursor.insert_before(segment.slot(*id), bytes.as_slice()).storage()?;
        }
        cursor.close().storage()?;
    }
    Ok(())
}

/// Returns how many bytes of results a commit removes.
pub(crate) fn removal_share(draft: &PoolDraft) -> u64 {
    let added: usize = draft.results.iter().map(|(_, bytes)| bytes.as_slice().len()).sum();
    REMOVED_BYTES.max(2 * added as u64)
}

/// Removes results of a dropped segment, up to about this many bytes. Returns true if none are left.
pub(crate) fn drop_results(
    txn: &WriteTransaction,
    (pool, number): (PoolId, SegmentNumber),
    share: u64,
    pruned: &mut PruneReport,
) -> Result<bool> {
    let names = SegmentTables::new(pool, number);
    // A missing table is created here, and dropped at once.
    let mut table = txn.open_table(names.results()).storage()?;
    let is_gone = remove_share(&mut table, Slot::MAX, share, pruned)?.is_none();
    drop(table);
    if is_gone {
        txn.delete_table(names.results()).storage()?;
    }
    Ok(is_gone)
}

/// Removes the results of a segment's records before a slot, up to about a commit's share. Returns the slot
/// before which none are left.
pub(crate) fn cut_results(
    txn: &WriteTransaction,
    draft: &PoolDraft,
    names: &SegmentTables,
    end: Slot,
    pruned: &mut PruneReport,
) -> Result<Slot> {
    // Opening a missing table would create it.
    if draft.base.snapshot.table(names.results())?.is_none() {
        return Ok(end);
    }
    let mut table = txn.open_table(names.results()).storage()?;
    Ok(remove_share(&mut table, end, removal_share(draft), pruned)?.unwrap_or(end))
}

/// Removes results before a slot, up to about this many bytes. Returns the slot of the first remaining one,
/// if there is one.
fn remove_share(
    table: &mut Table<'_, Slot, &'static [u8]>,
    end: Slot,
    share: u64,
    pruned: &mut PruneReport,
) -> Result<Option<Slot>> {
    let (mut bytes, mut rows, mut left) = (0, 0, None);
    for row in table.range(..end).storage()? {
        let (slot, result) = row.storage()?;
        if bytes >= share || rows >= REMOVED_ROWS {
            left = Some(slot.value());
            break;
        }
        bytes += result.value().len() as u64;
        rows += 1;
    }
    table.retain_in(..left.unwrap_or(end), |_, _| false).storage()?;
    pruned.bytes += bytes;
    Ok(left)
}
