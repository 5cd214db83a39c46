//! Folding: index entries from memory into a segment's tables, in bulk and in slices.
//!
//! Owns: [`Fold`], the sorted entries of some records of one segment, and how they merge with what is there.
//! Always holds: writing a slice twice changes nothing; for every fingerprint with a live folded record, the
//! entry's slot and its repeats together hold all its live slots, and the entry is the lowest of them or dead.

mod entries;
mod whole;

use std::collections::BTreeMap;
use std::ops::Range;

use redb::{ReadableTable, Table, WriteTransaction};
use roaring::RoaringBitmap;

pub(crate) use self::entries::Entries;
use self::entries::PostingLists;
pub(crate) use self::whole::WholeFold;
use super::failure::StorageResult;
use super::postings;
use super::schema::{self, Fingerprint, Geometry, HAS_REPEATS, SegmentNumber, SegmentTables, Slot};
use super::state::PoolState;
use super::tail::TailEntry;
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordId};

/// Sorted index entries on their way into one segment's tables.
#[derive(Debug)]
pub(crate) struct Fold {
    pool: PoolId,
    segment: SegmentNumber,
    first_id: RecordId,
    geometry: Geometry,
    fingerprints: Vec<(Fingerprint, Slot)>,
    postings: PostingLists,
    /// How many fingerprints and posting lists there were.
    rows: usize,
    /// How many of `fingerprints` are written.
    written: usize,
    /// Which of them were written last.
    last: Range<usize>,
}

/// How much of a fold one commit writes.
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
        Self { pool, segment, first_id, geometry, fingerprints, postings, rows, written: 0, last: 0..0 }
    }

    /// How much there is to write in all.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn segment(&self) -> SegmentNumber {
        self.segment
    }

    /// The fingerprints that the last call of [`write`](Self::write) wrote, with their slots.
    pub(crate) fn last_slice(&self) -> &[(Fingerprint, Slot)] {
        self.fingerprints.get(self.last.clone()).unwrap_or_default()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.written == self.fingerprints.len() && self.postings.len() == 0
    }

    /// Writes the next rows. Whether the fold is done.
    pub(crate) fn write(&mut self, txn: &WriteTransaction, state: &PoolState, share: Share) -> Result<bool> {
        let mut left = match share {
            Share::Rows(rows) => rows,
            Share::All => usize::MAX,
        };
        let start = self.written;
        let end = self.end_of_slice(start, left);
        if let Some(slice) = self.fingerprints.get(start..end).filter(|slice| !slice.is_empty()) {
            self.write_fingerprints(txn, state, slice)?;
            left -= left.min(end - start);
            self.written = end;
        }
        self.last = start..end;
        let rows = self.postings.take(left, self.geometry);
        if !rows.is_empty() {
            self.write_postings(txn, &rows)?;
        }
        Ok(self.is_done())
    }

    /// A slice never cuts between two slots of one fingerprint.
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

    fn write_fingerprints(
        &self,
        txn: &WriteTransaction,
        state: &PoolState,
        slice: &[(Fingerprint, Slot)],
    ) -> Result<()> {
        let names = self.tables();
        // Each alone first: redb panics on some damaged files while it opens a table, and a table that is open then
        // cannot be dropped without aborting the process.
        drop(txn.open_table(schema::REPEATS).storage()?);
        let mut table = txn.open_table(names.fingerprints()).storage()?;
        let mut repeats = txn.open_table(schema::REPEATS).storage()?;
        let last = table.last().storage()?.map(|(fingerprint, _)| fingerprint.value());
        if last < slice.first().map(|(fingerprint, _)| *fingerprint) {
            return self.append_fingerprints(&mut table, &mut repeats, state, slice);
        }
        for group in slice.chunk_by(|a, b| a.0 == b.0) {
            let Some((fingerprint, _)) = group.first() else { continue };
            let Some(entry) = self.merge(&mut repeats, state, None, group)? else { continue };
            // Almost every fingerprint is new: one descent writes it and tells if it was not.
            let existing = table.insert(*fingerprint, entry).storage()?.map(|entry| entry.value());
            if existing.is_some_and(|existing| existing != entry) {
                let merged = self.merge(&mut repeats, state, existing, group)?.or(existing).unwrap_or(entry);
                table.insert(*fingerprint, merged).storage()?;
            }
        }
        Ok(())
    }

    /// Behind all that is in the table: ascending through a cursor, which is several times faster.
    fn append_fingerprints(
        &self,
        table: &mut Table<'_, u128, u32>,
        repeats: &mut RepeatsTable<'_>,
        state: &PoolState,
        slice: &[(Fingerprint, Slot)],
    ) -> Result<()> {
        let mut cursor = table.upper_bound_mut(std::ops::Bound::<u128>::Unbounded).storage()?;
        for group in slice.chunk_by(|a, b| a.0 == b.0) {
            let Some((fingerprint, _)) = group.first() else { continue };
            if let Some(entry) = self.merge(repeats, state, None, group)? {
                cursor.insert_before(*fingerprint, entry).storage()?;
            }
        }
        cursor.close().storage()
    }

    /// The entry that a fingerprint gets, and its repeats; none if the one that is there stays.
    ///
    /// A live entry keeps its place and gets the new slots as repeats. A dead one gives its place to the lowest
    /// live slot among its repeats and the new ones.
    fn merge(
        &self,
        repeats: &mut RepeatsTable<'_>,
        state: &PoolState,
        existing: Option<u32>,
        group: &[(Fingerprint, Slot)],
    ) -> Result<Option<u32>> {
        let Some((fingerprint, _)) = group.first() else { return Ok(None) };
        let is_live = |slot: &Slot| state.is_live(self.first_id + u64::from(*slot));
        if let ([(_, slot)], None) = (group, existing) {
            // Almost all are so.
            return Ok(Some(*slot).filter(is_live));
        }
        let mut slots: Vec<Slot> = group.iter().map(|(_, slot)| *slot).filter(is_live).collect();
        let key = |slot| (self.pool, self.segment, *fingerprint, slot);
        if let Some(entry) = existing {
            let slot = entry & !HAS_REPEATS;
            if is_live(&slot) {
                slots.push(slot);
            }
            if entry & HAS_REPEATS != 0 {
                for row in repeats.range(key(0)..=key(u32::MAX)).storage()? {
                    slots.extend(Some(row.storage()?.0.value().3).filter(is_live));
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        let Some((lowest, others)) = slots.split_first() else { return Ok(None) };
        for other in others {
            repeats.insert(key(*other), ()).storage()?;
        }
        let entry = if others.is_empty() { *lowest } else { lowest | HAS_REPEATS };
        Ok((existing != Some(entry)).then_some(entry))
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

type RepeatsTable<'txn> = Table<'txn, (u64, u32, u128, u32), ()>;

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

    /// Fingerprints with so many slots each.
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
