//! Folding: writes index entries from memory into a segment's tables, in bulk and in slices.
//!
//! Owns: [`Fold`], the entries of some records of one segment, and how posting lists are merged with stored
//! ones. Always holds: writing a slice twice changes nothing.

pub(crate) mod entries;
pub(crate) mod whole;

use std::collections::BTreeMap;
use std::ops::Range;

use redb::{ReadableTable, WriteTransaction};
use roaring::RoaringBitmap;

use self::entries::Entries;
use self::entries::{Indexed, PostingLists};
use crate::engine::format::postings;
use crate::engine::format::schema::{Geometry, SegmentNumber, SegmentTables, Slot, Tuning};
use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::TailEntry;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::tables::{Folded, add_folded};
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};

/// Index entries of a segment's records on their way into the file. First, each commit writes a slice of the
/// posting lists. After the last slice, the table of fingerprints is written.
#[derive(Debug)]
pub(crate) struct Fold {
    pool: PoolId,
    segment: SegmentNumber,
    first_id: RecordNumber,
    geometry: Geometry,
    /// The fingerprints in ascending order.
    fingerprints: Vec<Indexed>,
    postings: PostingLists,
    /// The total number of posting lists.
    lists: usize,
}

/// The part of a fold that one commit writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Share {
    Lists(usize),
    All,
}

impl Fold {
    /// Creates the fold of some records of the segment that begins at `first_id`, and sorts their entries.
    pub(crate) fn new(
        pool: PoolId,
        geometry: Geometry,
        segment: SegmentNumber,
        first_id: RecordNumber,
        entries: Entries,
    ) -> Self {
        let (mut fingerprints, postings) = entries.into_parts();
        #[allow(clippy::stable_sort_primitive, reason = "the stable sort makes use of sorted runs")]
        fingerprints.sort();
        let lists = postings.len();
        Self { pool, segment, first_id, geometry, fingerprints, postings, lists }
    }

    /// Returns the total number of posting lists, written or not.
    pub(crate) fn lists(&self) -> usize {
        self.lists
    }

    /// Writes the next posting lists. Returns true if those were the last ones.
    pub(crate) fn write(&mut self, txn: &WriteTransaction, share: Share) -> Result<bool> {
        let lists = match share {
            Share::Lists(lists) => lists,
            Share::All => usize::MAX,
        };
        let rows = self.postings.take(lists, self.geometry);
        if !rows.is_empty() {
            write_postings(txn, self.pool, self.segment, self.geometry, &rows)?;
        }
        Ok(self.postings.len() == 0)
    }

    /// Returns the fingerprints in ascending order, with their records.
    pub(crate) fn into_fingerprints(self) -> Vec<Folded> {
        let id = |slot: Slot| self.first_id + u64::from(slot);
        let folded = |(fingerprint, slot, has_version): Indexed| (fingerprint, id(slot), has_version);
        self.fingerprints.into_iter().map(folded).collect()
    }
}

/// Merges posting lists with those stored in a segment.
fn write_postings(
    txn: &WriteTransaction,
    pool: PoolId,
    segment: SegmentNumber,
    geometry: Geometry,
    rows: &[(Vec<u8>, RoaringBitmap)],
) -> Result<()> {
    let names = SegmentTables::new(pool, segment);
    let mut table = txn.open_table(names.postings()).storage()?;
    let size = geometry.chunk_slots;
    for (key, slots) in rows {
        let existing = match table.get(key.as_slice()).storage()? {
            Some(list) => Some(postings::decode(list.value(), size)?),
            None => None,
        };
        let bytes = match existing {
            Some(existing) => postings::encode(&(existing | slots), size),
            None => postings::encode(slots, size),
        };
        table.insert(key.as_slice(), bytes.as_slice()).storage()?;
    }
    Ok(())
}

/// Folds records of any segments of a pool at once: those in tails, and new ones.
pub(crate) fn fold_now(
    txn: &WriteTransaction,
    state: &mut PoolState,
    records: impl Iterator<Item = (RecordNumber, TailEntry)>,
    tuning: &Tuning,
) -> Result<()> {
    let mut by_segment: BTreeMap<usize, Entries> = BTreeMap::new();
    let mut ids: Option<Range<RecordNumber>> = None;
    for (id, entry) in records {
        let (index, segment) =
            state.segment_of(id).ok_or_else(|| Error::corrupt(format!("no segment holds record {id}")))?;
        by_segment.entry(index).or_default().push(segment.slot(id), entry);
        let known = ids.get_or_insert(id..id + 1);
        known.end = known.end.max(id + 1);
    }
    let mut fingerprints = Vec::new();
    for (index, entries) in by_segment {
        let Some(segment) = state.segments.get(index) else { continue };
        let mut fold = Fold::new(state.id, state.geometry, segment.number, segment.first_id, entries);
        fold.write(txn, Share::All)?;
        fingerprints.append(&mut fold.into_fingerprints());
    }
    match ids {
        Some(ids) => add_folded(txn, state, ids, &fingerprints, tuning),
        None => Ok(()),
    }
}
