//! Applying: writes a decided draft into a redb transaction, and computes the resulting state.
//!
//! Owns: the order of a commit's writes, the background work of each commit, and [`WriterPool`], what the
//! writer remembers of a pool between commits. Folding is here; merging is in
//! [`crate::engine::write::merge`], and reclaiming space in [`crate::engine::write::reclaim`]. Always holds:
//! nothing here changes what readers see. [`Written::publish`] does so, after the commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::WriteTransaction;

use crate::backend::counters::Work;
use crate::engine::format::codec;
use crate::engine::format::postings;
use crate::engine::format::schema::{self, Tuning};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::segments::ChangedBits;
use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::{TailEntry, TailView};
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::append::append_records;
use crate::engine::write::claim_rows;
use crate::engine::write::draft::{ClaimChanges, NewRecord, PoolDraft};
use crate::engine::write::fold::entries::Entries;
use crate::engine::write::fold::{Fold, Share, fold_now};
use crate::engine::write::merge::merge_share;
use crate::engine::write::reclaim;
use crate::engine::write::results::write_results;
use crate::engine::write::sweep::{Swept, sweep};
use crate::engine::write::tables::add_folded;
use crate::engine::write::writer::{Folding, WriterPool};
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::model::PruneReport;

/// The amount of background work that one commit performs.
#[derive(Debug, Clone, Copy)]
enum Pace<'t> {
    /// A slice, and more for each added record, so that the fold is finished when half of the next tail is
    /// full.
    With {
        tuning: &'t Tuning,
        /// The number of records that the commit adds; `None` in a commit for background work only.
        incoming: Option<usize>,
    },
    All,
}

/// The smallest slice, in rows. A commit of few records must stay short.
const SLICE_MIN: usize = 64;
/// The number of entries that can be gathered in the time that writing one row takes.
const ENTRIES_A_ROW: usize = 4;

impl Pace<'_> {
    fn rows(self, for_each_record: usize) -> usize {
        match self {
            Self::With { tuning, incoming } => {
                let most = tuning.fold_entries.div_ceil(tuning.fold_slices).max(1);
                let Some(incoming) = incoming else { return most };
                let slice = incoming.saturating_mul(2).max(SLICE_MIN).min(most);
                incoming.saturating_mul(for_each_record).saturating_add(slice)
            }
            Self::All => usize::MAX,
        }
    }

    /// Returns the number of entries to gather.
    fn entries(self) -> usize {
        self.rows(2).saturating_mul(ENTRIES_A_ROW)
    }

    fn share_of(self, fold: &Fold) -> Share {
        match self {
            Self::With { tuning, .. } => {
                Share::Lists(self.rows((2 * fold.lists()).div_ceil(tuning.fold_entries.max(1))))
            }
            Self::All => Share::All,
        }
    }
}

/// The change of the tails after the commit.
#[derive(Debug)]
enum TailChange {
    /// The new records are added to the active tail.
    Extend,
    /// The new records up to this id complete the segment of the active tail. The tail is frozen, and a new
    /// one begins.
    Cross(RecordNumber),
    /// All records are folded.
    Reset,
}

/// A draft that was written in the transaction, and what is needed to publish it.
#[derive(Debug)]
pub(crate) struct Written {
    draft: PoolDraft,
    tails: TailChange,
    /// The space that the commit reclaimed.
    pub(crate) pruned: PruneReport,
    /// True if the commit performed background work.
    pub(crate) worked: bool,
    /// The time that writing took, without the commit.
    pub(crate) took: Duration,
}

impl Written {
    pub(crate) fn pool(&self) -> PoolId {
        self.draft.state.id
    }

    /// Returns the changes to the pool's claims.
    pub(crate) fn claims(&self) -> &ClaimChanges {
        &self.draft.claims
    }

    /// Returns the number of records that the draft adds.
    pub(crate) fn records(&self) -> usize {
        self.draft.new.len()
    }

    /// Returns the background work that this commit completed.
    pub(crate) fn work(&self) -> Work {
        let (before, after) = (&self.draft.base.state, &self.draft.state);
        let sealed = |segment: &&SegmentState| {
            let was_sealed = |old: &SegmentState| old.number == segment.number && old.sealed_len > 0;
            segment.sealed_len > 0 && !before.segments.iter().any(was_sealed)
        };
        Work {
            folds: u64::from(before.frozen.is_some() && after.folded_to > before.folded_to),
            seals: after.segments.iter().filter(sealed).count() as u64,
            segments_dropped: self.pruned.segments,
        }
    }

    /// Returns the pool's state after the commit. Appends to the active tail, so call it once, after the
    /// commit.
    pub(crate) fn publish(self, tuning: &Tuning) -> PoolState {
        let entries: Vec<TailEntry> = match self.tails {
            TailChange::Reset => Vec::new(),
            _ => new_entries(&self.draft).map(|(_, entry)| entry).collect(),
        };
        let first_new = self.draft.base.state.next_id;
        let mut state = self.draft.state;
        let mut entries = entries.into_iter();
        match self.tails {
            TailChange::Reset => state.all_is_folded(),
            TailChange::Extend => state.extend_tail(entries),
            TailChange::Cross(boundary) => {
                let old = usize::try_from(boundary - first_new).unwrap_or(usize::MAX);
                state.extend_tail(entries.by_ref().take(old));
                state.freeze();
                state.extend_tail(entries);
            }
        }
        if state.frozen.is_none() && state.active.len() >= tuning.fold_entries {
            state.freeze();
        }
        state
    }
}

/// Returns the index entries of the records that a draft adds.
fn new_entries(draft: &PoolDraft) -> impl Iterator<Item = (RecordNumber, TailEntry)> {
    let entry = |NewRecord { batch, item }: &NewRecord| TailEntry::of(draft.batches.get(*batch)?, *item);
    (draft.base.state.next_id..).zip(&draft.new).filter_map(move |(id, record)| Some((id, entry(record)?)))
}

/// Writes a draft, and performs the pool's share of background work. `incoming` is the number of records that
/// the whole commit adds, to this pool and others; folding keeps pace with it. It is `None` in a commit for
/// background work only.
pub(crate) fn write(
    txn: &WriteTransaction,
    mut draft: PoolDraft,
    pool: &mut WriterPool,
    tuning: &Tuning,
    incoming: Option<usize>,
) -> Result<Written> {
    let started = Instant::now();
    if draft.starts_over {
        // The remembered work concerns segments that are gone, including a fold in progress.
        *pool = WriterPool::default();
    }
    append_records(txn, &draft, &mut pool.origins)?;
    write_results(txn, &draft)?;
    write_deletions(txn, &draft)?;
    claim_rows::write(txn, &draft)?;
    draft.state.skip_deleted_head();
    draft.head_changed |= draft.state.start_over_if_dead(draft.now.time) || draft.starts_over;
    let tails = fold_share(txn, &mut draft, pool, tuning, incoming)?;
    let merges = merge_share(txn, &mut draft, pool, tuning, incoming)?;
    let mut pruned = reclaim::prune_share(txn, &mut draft, tuning.row_entries(), incoming)?;
    let swept = sweep(txn, &mut draft)?;
    pruned.claims = u64::from(swept == Swept::Claim);
    let segments_changed = draft.state.segments.len() != draft.base.state.segments.len();
    let worked = draft.base.state.frozen.is_some()
        || merges
        || draft.head_changed
        || !pruned.is_nothing()
        || swept != Swept::Nothing;
    if draft.head_changed || segments_changed || !watermark_follows(&draft) {
        write_head(txn, &mut draft.state)?;
    }
    Ok(Written { draft, tails, pruned, worked, took: started.elapsed() })
}

/// Returns true if the watermark need not be stored, because loading the pool computes the same one. For the
/// capacity, see [`PoolState::evict`]. For the retention: records that had expired at the time of the newest
/// record expire again when the pool is loaded. A commit that adds no record must store later expiry, because
/// its decisions may depend on it, for example a claim on a value.
fn watermark_follows(draft: &PoolDraft) -> bool {
    let deletes_under_capacity = !draft.changed_bits.is_empty() && draft.state.policy.capacity.is_some();
    let expires_alone = draft.new.is_empty() && draft.state.policy.retention.is_some();
    let is_stored = draft.state.watermark == draft.state.stored_watermark;
    is_stored || !(deletes_under_capacity || expires_alone)
}

pub(crate) fn write_head(txn: &WriteTransaction, state: &mut PoolState) -> Result<()> {
    let bytes = codec::encode_head(&state.head())?;
    let mut heads = txn.open_table(schema::POOL_HEADS).storage()?;
    heads.insert(state.id, bytes.as_slice()).storage()?;
    state.head_is_stored();
    Ok(())
}

fn write_deletions(txn: &WriteTransaction, draft: &PoolDraft) -> Result<()> {
    if draft.changed_bits.is_empty() {
        return Ok(());
    }
    let state = &draft.state;
    let mut table = txn.open_table(schema::DELETED).storage()?;
    for ChangedBits { index, chunk } in &draft.changed_bits {
        let Some(segment) = state.segments.get(*index) else { continue };
        let Some(bitmap) = segment.deleted.chunk(*chunk) else { continue };
        let bytes = postings::encode(bitmap, state.geometry.chunk_slots);
        table.insert((state.id, segment.number, *chunk), bytes.as_slice()).storage()?;
    }
    Ok(())
}

/// Performs the pool's share of folding in this commit. Returns the change of its tails.
fn fold_share(
    txn: &WriteTransaction,
    draft: &mut PoolDraft,
    pool: &mut WriterPool,
    tuning: &Tuning,
    incoming: Option<usize>,
) -> Result<TailChange> {
    let base = Arc::clone(&draft.base.state);
    if draft.state.folded_to == draft.state.next_id {
        pool.fold = None;
        return Ok(TailChange::Reset);
    }
    let opened = draft.state.segments.len() - base.segments.len();
    if draft.new.len() >= tuning.fold_entries || opened >= 2 {
        // The commit has more records than a tail holds, so keeping them in memory first would not help.
        let tails = base.frozen.iter().chain([&base.active]).flat_map(TailView::entries);
        let all: Vec<_> = tails.chain(new_entries(draft)).collect();
        fold_now(txn, &mut draft.state, all.into_iter(), tuning)?;
        pool.fold = None;
        draft.state.all_is_folded();
        draft.head_changed = true;
        return Ok(TailChange::Reset);
    }
    let pace = if opened > 0 { Pace::All } else { Pace::With { tuning, incoming } };
    match &base.frozen {
        // Dead records need no index, because nobody will look for them.
        Some(frozen) if frozen.ids().end <= draft.state.watermark => end_fold(draft, pool),
        Some(frozen) => continue_fold(txn, draft, pool, frozen, pace, tuning)?,
        None => {}
    }
    match draft.state.open_segment() {
        Some(open) if opened > 0 => Ok(TailChange::Cross(open.first_id)),
        _ => Ok(TailChange::Extend),
    }
}

fn continue_fold(
    txn: &WriteTransaction,
    draft: &mut PoolDraft,
    pool: &mut WriterPool,
    frozen: &TailView,
    pace: Pace<'_>,
    tuning: &Tuning,
) -> Result<()> {
    let Some(fold) = gather(&draft.state, pool, frozen, pace, tuning)? else { return Ok(()) };
    if !fold.write(txn, pace.share_of(fold))? {
        return Ok(());
    }
    if let Some(Folding::Writing(fold)) = pool.fold.take() {
        add_folded(txn, &mut draft.state, frozen.ids(), &fold.into_fingerprints(), tuning)?;
    }
    end_fold(draft, pool);
    Ok(())
}

fn end_fold(draft: &mut PoolDraft, pool: &mut WriterPool) {
    pool.fold = None;
    draft.state.frozen_is_folded();
    draft.head_changed = true;
}

/// Returns the fold of a frozen tail once all its entries are gathered. Gathering is done in slices, too.
fn gather<'p>(
    state: &PoolState,
    pool: &'p mut WriterPool,
    frozen: &TailView,
    pace: Pace<'_>,
    tuning: &Tuning,
) -> Result<Option<&'p mut Fold>> {
    let folding = pool.fold.get_or_insert_with(|| Folding::Gathering(Entries::default()));
    if let Folding::Gathering(entries) = folding {
        let start = frozen.ids().start;
        let (_, segment) = state
            .segment_of(start)
            .ok_or_else(|| Error::corrupt(format!("no segment holds record {start}")))?;
        let some = frozen.entries_from(entries.len(), pace.entries());
        entries.extend(some.into_iter().map(|(id, entry)| (segment.slot(id), entry)));
        if entries.len() == frozen.len() {
            let (number, first_id, entries) = (segment.number, segment.first_id, std::mem::take(entries));
            *folding = Folding::Writing(Fold::new(state.id, state.geometry, number, first_id, entries));
        }
        // Folding a short tail is no more work than gathering a slice of a long one.
        if !matches!(pace, Pace::All) && frozen.len() > SLICE_MIN.min(tuning.fold_entries / 2) {
            return Ok(None);
        }
    }
    match folding {
        Folding::Writing(fold) => Ok(Some(fold)),
        Folding::Gathering(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each record has its own run, and so its own list.
    #[test]
    fn a_fold_goes_by_slices_that_suit_the_commit_and_is_through_when_half_of_the_next_tail_is_full() {
        let tuning = Tuning::DEFAULT;
        let tail = tuning.fold_entries;
        for incoming in [1, 2, 7, 50, 300, 1_000, 4_000, 16_384] {
            let pace = Pace::With { tuning: &tuning, incoming: Some(incoming) };
            let lists = pace.rows((2 * 2 * tail).div_ceil(tail));
            let commits = tail.div_ceil(pace.entries()) + (2 * tail).div_ceil(lists);
            // Gathering ends with the end of a commit, and so does writing.
            assert!((commits - 2) * incoming <= tail / 2, "{incoming} at a time: {commits} commits");
            assert!(lists <= 64 + 6 * incoming, "{incoming} at a time: {lists} rows");
        }
        // A commit for background work only need not be short.
        let alone = Pace::With { tuning: &tuning, incoming: None };
        assert_eq!(alone.rows(4), 1_024);
    }
}
