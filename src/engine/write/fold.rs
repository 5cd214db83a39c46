//! Folding: writes index entries from memory into a segment's tables, in bulk and in slices.
//!
//! Owns: [`Fold`], the sorted entries of some records of one segment, and how they merge with existing entries. Always
//! holds: writing a slice twice changes nothing; for every fingerprint with a live folded record, the slots of the
//! entry and of its repeats include all its live slots, and the entry's slot is the lowest of them or dead.

pub(crate) mod entries;
pub(crate) mod fingerprints;
pub(crate) mod runs;
pub(crate) mod whole;

use std::collections::BTreeMap;
use std::ops::Range;

use redb::{ReadableTable, WriteTransaction};
use roaring::RoaringBitmap;

use self::entries::Entries;
use self::entries::PostingLists;
use self::fingerprints::Fingerprints;
use crate::engine::format::postings;
use crate::engine::format::schema::{Fingerprint, Geometry, SegmentNumber, SegmentTables, Slot};
use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::TailEntry;
use crate::engine::probe::membership::{Filter, store_filter};
use crate::engine::storage::failure::StorageResult;
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordId};

/// The sorted index entries of a fold, until they are written into one segment's tables.
#[derive(Debug)]
pub(crate) struct Fold {
    pool: PoolId,
    segment: SegmentNumber,
    first_id: RecordId,
    geometry: Geometry,
    /// The run that its fingerprints become; `None` if they are merged into the segment's table.
    run: Option<Run>,
    fingerprints: Vec<(Fingerprint, Slot)>,
    postings: PostingLists,
    /// The number of fingerprints and posting lists at the beginning.
    rows: usize,
    /// The number of `fingerprints` that are written.
    written: usize,
    /// The range of `fingerprints` that was written last.
    last: Range<usize>,
}

/// A run that is being written.
#[derive(Debug)]
struct Run {
    number: u32,
    filter: Filter,
}

/// The part of a fold that one commit writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Share {
    Rows(usize),
    All,
}

impl Fold {
    /// Sorts the entries of records of the segment that begins at `first_id`.
    pub(crate) fn new(
        pool: PoolId,
        geometry: Geometry,
        segment: SegmentNumber,
        first_id: RecordId,
        entries: Entries,
    ) -> Self {
        let (mut fingerprints, postings) = entries.into_parts();
        #[allow(
            clippy::stable_sort_primitive,
            reason = "this sort finds runs that are sorted, the unstable one none"
        )]
        fingerprints.sort();
        Self::of_sorted(pool, geometry, segment, first_id, fingerprints, postings)
    }

    fn of_sorted(
        pool: PoolId,
        geometry: Geometry,
        segment: SegmentNumber,
        first_id: RecordId,
        fingerprints: Vec<(Fingerprint, Slot)>,
        postings: PostingLists,
    ) -> Self {
        let rows = fingerprints.len() + postings.len();
        Self {
            pool,
            segment,
            first_id,
            geometry,
            run: None,
            fingerprints,
            postings,
            rows,
            written: 0,
            last: 0..0,
        }
    }

    /// Makes its fingerprints a run of that number.
    pub(crate) fn into_run(self, number: u32) -> Self {
        let slots = u32::try_from(self.fingerprints.len()).unwrap_or(u32::MAX);
        let filter = Filter::for_segment_of(slots);
        Self { run: Some(Run { number, filter }), ..self }
    }

    /// Returns the filter of the run that its fingerprints became. The filter is stored with the last slice.
    pub(crate) fn into_run_filter(self) -> Option<Filter> {
        self.run.map(|run| run.filter)
    }

    /// Returns the number of rows to write in total.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn segment(&self) -> SegmentNumber {
        self.segment
    }

    /// Returns the fingerprints that the last call of [`write`](Self::write) wrote, with their slots.
    pub(crate) fn last_slice(&self) -> &[(Fingerprint, Slot)] {
        self.fingerprints.get(self.last.clone()).unwrap_or_default()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.written == self.fingerprints.len() && self.postings.len() == 0
    }

    /// Writes the next rows. Returns true if the fold is done.
    pub(crate) fn write(&mut self, txn: &WriteTransaction, state: &PoolState, share: Share) -> Result<bool> {
        let mut left = match share {
            Share::Rows(rows) => rows,
            Share::All => usize::MAX,
        };
        let start = self.written;
        let end = self.end_of_slice(start, left);
        if let Some(slice) = self.fingerprints.get(start..end).filter(|slice| !slice.is_empty()) {
            let (segment, first_id) = (self.segment, self.first_id);
            let fingerprints = Fingerprints { txn, state, segment, first_id };
            match &mut self.run {
                Some(Run { number, filter }) => {
                    fingerprints.append_to_run(*number, slice, start == 0)?;
                    for (fingerprint, _) in slice {
                        filter.insert(*fingerprint);
                    }
                }
                None => fingerprints.merge_into_table(slice)?,
            }
            left -= left.min(end - start);
            self.written = end;
        }
        self.last = start..end;
        let rows = self.postings.take(left, self.geometry);
        if !rows.is_empty() {
            self.write_postings(txn, &rows)?;
        }
        if let Some(Run { number, filter }) = self.run.as_ref().filter(|_| self.is_done()) {
            store_filter(txn, self.pool, self.segment, Some(*number), filter)?;
        }
        Ok(self.is_done())
    }

    /// Returns the end of a slice, which never cuts between two slots of one fingerprint.
    fn end_of_slice(&self, start: usize, rows: usize) -> usize {
        let mut end = self.fingerprints.len().min(start.saturating_add(rows));
        while let (Some((last, _)), Some((next, _))) =
            (self.fingerprints.get(end.wrapping_sub(1)), self.fingerprints.get(end))
        {
            if last != next {
                break;
            }
            end += 1;
        }
        end
    }

    fn tables(&self) -> SegmentTables {
        SegmentTables::new(self.pool, self.segment)
    }

    fn write_postings(&self, txn: &WriteTransaction, slice: &[(Vec<u8>, RoaringBitmap)]) -> Result<()> {
        let names = self.tables();
        let mut table = txn.open_table(names.postings()).storage()?;
        let size = self.geometry.chunk_slots;
        for (key, slots) in slice {
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
}

/// Folds records of any segments of a pool at once: those of tails, and new ones.
pub(crate) fn fold_now(
    txn: &WriteTransaction,
    state: &PoolState,
    records: impl Iterator<Item = (RecordId, TailEntry)>,
) -> Result<()> {
    let mut by_segment: BTreeMap<usize, Entries> = BTreeMap::new();
    for (id, entry) in records {
        let (index, segment) =
            state.segment_of(id).ok_or_else(|| Error::corrupt(format!("no segment holds record {id}")))?;
        by_segment.entry(index).or_default().push(segment.slot(id), entry);
    }
    for (index, entries) in by_segment {
        let Some(segment) = state.segments.get(index) else { continue };
        Fold::new(state.id, state.geometry, segment.number, segment.first_id, entries).write(
            txn,
            state,
            Share::All,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a fold of fingerprints with this many slots each.
    fn fold(slots: &[u128]) -> Fold {
        let mut entries = Entries::default();
        let fingerprints =
            (0..).zip(slots).flat_map(|(fingerprint, count)| (0..*count).map(move |_| fingerprint));
        for (slot, fingerprint) in (0..).zip(fingerprints) {
            entries.push(slot, TailEntry { fingerprint, entity_type: 1.into(), origin: None });
        }
        Fold::new(1, Geometry::DEFAULT, 0, 1, entries)
    }

    #[test]
    fn a_slice_has_as_many_rows_as_are_asked_for_and_those_of_its_last_fingerprint() {
        let fold = fold(&[1, 1, 3, 1, 2]);
        let ends: Vec<usize> = (0..=9).map(|rows| fold.end_of_slice(0, rows)).collect();
        assert_eq!(ends, [0, 1, 2, 5, 5, 5, 6, 8, 8, 8]);
        let ends: Vec<usize> = (0..=4).map(|rows| fold.end_of_slice(5, rows)).collect();
        assert_eq!(ends, [5, 6, 8, 8, 8]);
    }
}
