//! Reclaiming space: drops segments without live records, and removes the dead records at the head of a
//! segment.
//!
//! Owns: the choice of which commit reclaims which part of a pool's space. Always holds: a commit's share is
//! bounded, so no commit is long. The last record of a pool is never removed, because the next id is derived
//! from it. The head is written together with each removal, so that no later state takes removed records for
//! live ones.

use std::ops::RangeInclusive;

use redb::{Key, ReadableTable, ReadableTableMetadata, Table, Value, WriteTransaction};

use crate::engine::format::schema::{self, SegmentNumber, SegmentTables, TableNumber};
use crate::engine::pool::state::PoolState;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::draft::PoolDraft;
use crate::engine::write::results::{cut_results, drop_results, removal_share};
use crate::error::Result;
use crate::ids::PoolId;
use crate::model::PruneReport;

/// The smallest number of dead records at the head of a segment that are removed. They must also outnumber
/// the live records in the pool.
const CUT_MIN_RECORDS: u32 = 1_024;
/// The number of dead records that one commit removes from the head of a segment.
const CUT_SLICE_RECORDS: u32 = 8_192;
/// If the tables of a segment dropped by a commit have this many rows in total, the commit drops no further
/// one.
const DROP_MAX_ROWS: u64 = 1 << 18;
/// The rows of dropped fingerprint tables that a commit removes: at least this many with other changes, and
/// the second number in a commit for this work only.
const DROP_TABLE_ROWS: usize = 1_024;
const DROP_TABLE_ROWS_ALONE: usize = 1 << 14;
/// A commit removes one row per this many added records. Added records create one row per 200 on each of five
/// or six levels, and as many rows must be removed.
const RECORDS_A_DROPPED_ROW: usize = 25;
/// The number of rows of a dropped segment that one commit removes from each shared table.
const DROP_SHARED_ROWS: usize = 1 << 16;

/// Performs a commit's share of reclaiming space.
///
/// `incoming` is the number of records that the whole commit adds; `None` in a commit for this work only.
pub(crate) fn prune_share(
    txn: &WriteTransaction,
    draft: &mut PoolDraft,
    row_entries: u64,
    incoming: Option<usize>,
) -> Result<PruneReport> {
    let may_have_died = !draft.changed_bits.is_empty()
        || draft.state.first_segment_is_dead()
        || draft.state.folded_to != draft.base.state.folded_to;
    if may_have_died {
        draft.head_changed |= draft.state.drop_dead_segments();
    }
    draft.head_changed |= draft.state.drop_dead_tables();
    let row_records = RECORDS_A_DROPPED_ROW * usize::try_from(row_entries).unwrap_or(usize::MAX) / 200;
    let rows = incoming
        .map_or(DROP_TABLE_ROWS_ALONE, |incoming| DROP_TABLE_ROWS.max(incoming.div_ceil(row_records.max(1))));
    drop_tables(txn, draft, rows)?;
    let mut pruned = PruneReport::default();
    let result_bytes = removal_share(draft);
    while let Some(number) = draft.state.dropped.last().copied() {
        draft.head_changed = true;
        if !drop_share(txn, draft.state.id, number, result_bytes, &mut pruned)? {
            break;
        }
        draft.state.forget_last_dropped();
        // Stop after one segment, or after as many as keep pace with the added records.
        if pruned.records >= 2 * incoming.unwrap_or_default() as u64 {
            break;
        }
    }
    pruned += cut_dead_head(txn, draft)?;
    Ok(pruned)
}

/// Reclaims all dead segments at once. This is for imports, which are long anyway and may leave many dead
/// segments.
///
/// Returns the number of segments dropped.
pub(crate) fn prune_at_once(txn: &WriteTransaction, state: &mut PoolState) -> Result<u64> {
    state.drop_dead_segments();
    state.drop_dead_tables();
    let mut dropped = 0;
    while let Some(number) = state.dropped.last().copied() {
        drop_segment(txn, state.id, number)?;
        state.forget_last_dropped();
        dropped += 1;
    }
    Ok(dropped)
}

/// Removes up to about `rows` rows of dropped tables of fingerprints.
fn drop_tables(txn: &WriteTransaction, draft: &mut PoolDraft, rows: usize) -> Result<()> {
    let (pool, mut left) = (draft.state.id, rows);
    while let Some(number) = draft.state.dropped_tables.last().copied().filter(|_| left > 0) {
        draft.head_changed = true;
        let (removed, is_gone) = drop_table_rows(txn, pool, number..=number, Some(left))?;
        if !is_gone {
            break;
        }
        draft.state.forget_last_dropped_table();
        // A table with few rows is some work, too.
        left = left.saturating_sub(removed.max(DROP_TABLE_ROWS / 8));
    }
    Ok(())
}

/// Removes up to `limit` rows of some tables of fingerprints, and of their filters. Returns the number of
/// rows removed, and true if none are left.
pub(crate) fn drop_table_rows(
    txn: &WriteTransaction,
    pool: PoolId,
    numbers: RangeInclusive<TableNumber>,
    limit: Option<usize>,
) -> Result<(usize, bool)> {
    let (first, last) = numbers.into_inner();
    let rows = (pool, first, 0, 0)..=(pool, last, u32::MAX, u32::MAX);
    let pieces = (pool, first, 0)..=(pool, last, u32::MAX);
    let mut table = txn.open_table(schema::FINGERPRINTS).storage()?;
    let before = table.len().storage()?;
    let rows_gone = remove_rows(&mut table, rows, limit)?;
    let removed = usize::try_from(before - table.len().storage()?).unwrap_or(usize::MAX);
    let filter_gone = remove_rows(&mut txn.open_table(schema::FILTERS).storage()?, pieces, limit)?;
    Ok((removed, rows_gone && filter_gone))
}

/// Performs a share of reclaiming a dropped segment: drops some of its tables, or some of its rows in shared
/// tables. Returns true if nothing is left of it.
fn drop_share(
    txn: &WriteTransaction,
    pool: PoolId,
    number: SegmentNumber,
    result_bytes: u64,
    pruned: &mut PruneReport,
) -> Result<bool> {
    let names = SegmentTables::new(pool, number);
    let rows = {
        // A missing table is created here, and dropped with the others.
        let records = txn.open_table(names.records()).storage()?;
        let stats = records.stats().storage()?;
        pruned.bytes += stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        records.len().storage()?
    };
    pruned.records += rows;
    txn.delete_table(names.records()).storage()?;
    if rows >= DROP_MAX_ROWS {
        return Ok(false);
    }
    txn.delete_table(names.postings()).storage()?;
    if !drop_results(txn, (pool, number), result_bytes, pruned)? {
        return Ok(false);
    }
    let is_gone = drop_shared_rows(txn, pool, number, Some(DROP_SHARED_ROWS))?;
    pruned.segments += u64::from(is_gone);
    Ok(is_gone)
}

/// Removes every row of a segment.
pub(crate) fn drop_segment(txn: &WriteTransaction, pool: PoolId, number: SegmentNumber) -> Result<()> {
    let names = SegmentTables::new(pool, number);
    txn.delete_table(names.records()).storage()?;
    txn.delete_table(names.postings()).storage()?;
    txn.delete_table(names.results()).storage()?;
    drop_shared_rows(txn, pool, number, None).map(drop)
}

/// Removes up to `limit` rows of a segment from each table that segments share, or all rows without a limit.
/// Returns true if none are left.
pub(crate) fn drop_shared_rows(
    txn: &WriteTransaction,
    pool: PoolId,
    number: SegmentNumber,
    limit: Option<usize>,
) -> Result<bool> {
    let rows = (pool, number, 0)..=(pool, number, u32::MAX);
    let all = [
        remove_rows(&mut txn.open_table(schema::ORIGINS).storage()?, rows.clone(), limit)?,
        remove_rows(&mut txn.open_table(schema::TIMES).storage()?, rows.clone(), limit)?,
        remove_rows(&mut txn.open_table(schema::DELETED).storage()?, rows, limit)?,
    ];
    Ok(all.iter().all(|all| *all))
}

/// Removes up to `limit` rows of a range, or all without a limit. Returns true if none are left.
pub(crate) fn remove_rows<K, V>(
    table: &mut Table<'_, K, V>,
    rows: RangeInclusive<K>,
    limit: Option<usize>,
) -> Result<bool>
where
    K: Key + for<'k> Value<SelfType<'k> = K> + Copy + 'static,
    V: Value + 'static,
{
    let behind = match limit {
        Some(limit) => table.range(rows.clone()).storage()?.nth(limit).transpose().storage()?,
        None => None,
    };
    let behind = behind.map(|(key, _)| key.value());
    match behind {
        Some(behind) => table.retain_in(*rows.start()..behind, |_, _| false).storage()?,
        None => table.retain_in(rows, |_, _| false).storage()?,
    }
    Ok(behind.is_none())
}

/// Removes the dead records at the head of the segment that contains the watermark, once they outnumber the
/// live records. Otherwise a pool that keeps few records would keep a whole segment of dead ones. If there
/// are more live records, it is far cheaper to drop the whole segment later.
fn cut_dead_head(txn: &WriteTransaction, draft: &mut PoolDraft) -> Result<PruneReport> {
    let state = &draft.state;
    let Some((_, segment)) = state.segment_of(state.watermark) else { return Ok(PruneReport::default()) };
    let dead = segment.slot(state.watermark);
    if dead < CUT_MIN_RECORDS || u64::from(dead) <= state.live() {
        return Ok(PruneReport::default());
    }
    let names = SegmentTables::new(state.id, segment.number);
    let first = {
        let table = txn.open_table(names.records()).storage()?;
        table.first().storage()?.map_or(dead, |(slot, _)| slot.value())
    };
    if dead.saturating_sub(first) < CUT_MIN_RECORDS {
        return Ok(PruneReport::default());
    }
    let mut pruned = PruneReport::default();
    let end = dead.min(first.saturating_add(CUT_SLICE_RECORDS));
    let end = cut_results(txn, draft, &names, end, &mut pruned)?;
    let mut table = txn.open_table(names.records()).storage()?;
    table
        .retain_in(first..end, |_, row| {
            pruned.records += 1;
            pruned.bytes += row.len() as u64;
            false
        })
        .storage()?;
    drop(table);
    draft.head_changed = true;
    Ok(pruned)
}
