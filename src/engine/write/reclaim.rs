//! Giving space back: drops segments without a live record, and cuts off the dead head of a segment.
//!
//! Owns: which commit gives back which part of a pool's space. Always holds: a commit's share is bounded, so that no
//! commit is long; the last record of a pool is never removed, because the next id is read from it; the head is written
//! together with each removal, so that no later state takes removed records for live.

use std::ops::RangeInclusive;

use redb::{Key, ReadableTable, ReadableTableMetadata, Table, Value, WriteTransaction};

use crate::engine::format::schema::{self, FingerprintsDefinition, RUNS_MAX, SegmentNumber, SegmentTables};
use crate::engine::pool::state::PoolState;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::draft::PoolDraft;
use crate::error::Result;
use crate::ids::PoolId;
use crate::model::PruneReport;

/// The least number of records in a dead head that is cut off. There must also be more of them than live records in the
/// pool.
const CUT_MIN_RECORDS: u32 = 1_024;
/// The number of records of a dead head that one commit removes.
const CUT_SLICE_RECORDS: u32 = 8_192;
/// A commit drops no further table of a segment once the tables that it dropped had this many rows.
const DROP_MAX_ROWS: u64 = 1 << 18;
/// The number of rows of a dropped segment that one commit removes from each table that segments share.
const DROP_SHARED_ROWS: usize = 1 << 16;

/// Performs a commit's share of giving back space.
pub(crate) fn prune_share(txn: &WriteTransaction, draft: &mut PoolDraft) -> Result<PruneReport> {
    let may_have_died = !draft.changed_bits.is_empty()
        || draft.state.first_segment_is_dead()
        || draft.state.folded_to != draft.base.state.folded_to;
    if may_have_died {
        draft.head_changed |= draft.state.drop_dead_segments();
    }
    let mut pruned = PruneReport::default();
    if let Some(number) = draft.state.dropped.last().copied() {
        if drop_share(txn, draft.state.id, number, &mut pruned)? {
            draft.state.forget_last_dropped();
        }
        draft.head_changed = true;
    }
    pruned += cut_dead_head(txn, draft)?;
    Ok(pruned)
}

/// Gives back all dead segments at once. This is for imports, which are long anyway and may leave many dead segments.
///
/// Returns the number of segments dropped.
pub(crate) fn prune_at_once(txn: &WriteTransaction, state: &mut PoolState) -> Result<u64> {
    state.drop_dead_segments();
    let mut dropped = 0;
    while let Some(number) = state.dropped.last().copied() {
        drop_segment(txn, state.id, number)?;
        state.forget_last_dropped();
        dropped += 1;
    }
    Ok(dropped)
}

/// Performs a share of giving back the space of a dropped segment: some of its tables, or some of its rows in shared
/// tables. Returns true if nothing is left of it.
fn drop_share(
    txn: &WriteTransaction,
    pool: PoolId,
    number: SegmentNumber,
    pruned: &mut PruneReport,
) -> Result<bool> {
    if drop_run(txn, pool, number)? {
        return Ok(false);
    }
    let names = SegmentTables::new(pool, number);
    let mut rows = {
        // A table that does not exist is created here, and dropped with the others.
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
    rows += txn.open_table(names.fingerprints()).storage()?.len().storage()?;
    txn.delete_table(names.fingerprints()).storage()?;
    if rows >= DROP_MAX_ROWS {
        return Ok(false);
    }
    txn.delete_table(names.postings()).storage()?;
    let is_gone = drop_shared_rows(txn, pool, number, Some(DROP_SHARED_ROWS))?;
    pruned.segments += u64::from(is_gone);
    Ok(is_gone)
}

/// Drops the table of one of a segment's runs. Returns false if there was none.
pub(crate) fn drop_run(txn: &WriteTransaction, pool: PoolId, number: SegmentNumber) -> Result<bool> {
    for run in 0..RUNS_MAX {
        let name = SegmentTables::run(pool, number, run);
        if txn.delete_table(FingerprintsDefinition::new(&name)).storage()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes every row of a segment.
pub(crate) fn drop_segment(txn: &WriteTransaction, pool: PoolId, number: SegmentNumber) -> Result<()> {
    let names = SegmentTables::new(pool, number);
    txn.delete_table(names.records()).storage()?;
    txn.delete_table(names.fingerprints()).storage()?;
    while drop_run(txn, pool, number)? {}
    txn.delete_table(names.postings()).storage()?;
    drop_shared_rows(txn, pool, number, None).map(drop)
}

/// Removes up to `limit` rows of a segment from each table that segments share, or all rows without a limit. Returns
/// true if none are left.
pub(crate) fn drop_shared_rows(
    txn: &WriteTransaction,
    pool: PoolId,
    number: SegmentNumber,
    limit: Option<usize>,
) -> Result<bool> {
    let rows = (pool, number, 0)..=(pool, number, u32::MAX);
    let repeats = (pool, number, 0, 0)..=(pool, number, u128::MAX, u32::MAX);
    let all = [
        remove_rows(&mut txn.open_table(schema::ORIGINS).storage()?, rows.clone(), limit)?,
        remove_rows(&mut txn.open_table(schema::TIMES).storage()?, rows.clone(), limit)?,
        remove_rows(&mut txn.open_table(schema::DELETED).storage()?, rows.clone(), limit)?,
        remove_rows(&mut txn.open_table(schema::MEMBERSHIP).storage()?, rows, limit)?,
        remove_rows(&mut txn.open_table(schema::REPEATS).storage()?, repeats, limit)?,
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

/// Removes the dead records at the head of the segment that contains the watermark, once there are more of them than
/// live records. Otherwise a pool that keeps few records would keep a segment of dead ones. If more records are live,
/// it is far cheaper to drop the whole segment later.
fn cut_dead_head(txn: &WriteTransaction, draft: &mut PoolDraft) -> Result<PruneReport> {
    let state = &draft.state;
    let Some((_, segment)) = state.segment_of(state.watermark) else { return Ok(PruneReport::default()) };
    let dead = segment.slot(state.watermark);
    if dead < CUT_MIN_RECORDS || u64::from(dead) <= state.live() {
        return Ok(PruneReport::default());
    }
    let names = SegmentTables::new(state.id, segment.number);
    let mut table = txn.open_table(names.records()).storage()?;
    let first = table.first().storage()?.map_or(dead, |(slot, _)| slot.value());
    if dead.saturating_sub(first) < CUT_MIN_RECORDS {
        return Ok(PruneReport::default());
    }
    let mut pruned = PruneReport::default();
    let end = dead.min(first.saturating_add(CUT_SLICE_RECORDS));
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
