//! Writing fingerprints: into a segment's table, merged with existing entries, or as a run of their own.
//!
//! Owns: what becomes of an entry if there are others of its fingerprint. A run is the sorted fingerprints of one fold.
//! Its rows are appended, which takes a tenth of the time of inserting them among a million others. Always holds: the
//! entries of a fingerprint in a segment's table and runs, together with its repeats, have all its live folded slots.

use std::ops::Bound;

use redb::{ReadableTable, Table, WriteTransaction};

use crate::engine::format::schema::{
    self, Fingerprint, FingerprintsDefinition, HAS_REPEATS, SegmentNumber, SegmentTables, Slot,
};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use crate::ids::{PoolId, RecordId};

type RepeatsTable<'txn> = Table<'txn, (u64, u32, u128, u32), ()>;

/// A segment's fingerprints, for writing.
pub(super) struct Fingerprints<'a> {
    pub(super) txn: &'a WriteTransaction,
    pub(super) state: &'a PoolState,
    pub(super) segment: SegmentNumber,
    pub(super) first_id: RecordId,
}

impl<'a> Fingerprints<'a> {
    pub(super) fn of(txn: &'a WriteTransaction, state: &'a PoolState, segment: &SegmentState) -> Self {
        Self { txn, state, segment: segment.number, first_id: segment.first_id }
    }

    fn pool(&self) -> PoolId {
        self.state.id
    }

    fn names(&self) -> SegmentTables {
        SegmentTables::new(self.pool(), self.segment)
    }

    /// Merges entries, ascending, with those in the segment's table.
    pub(super) fn merge_into_table(&self, entries: &[(Fingerprint, u32)]) -> Result<()> {
        let names = self.names();
        // Each table alone first: redb panics on some damaged files while it opens a table, and another table that is
        // open then cannot be dropped without aborting the process.
        drop(self.txn.open_table(schema::REPEATS).storage()?);
        let mut table = self.txn.open_table(names.fingerprints()).storage()?;
        let mut repeats = self.txn.open_table(schema::REPEATS).storage()?;
        let last = table.last().storage()?.map(|(fingerprint, _)| fingerprint.value());
        if last < entries.first().map(|(fingerprint, _)| *fingerprint) {
            return self.append(&mut table, &mut repeats, entries);
        }
        for group in entries.chunk_by(|a, b| a.0 == b.0) {
            let Some((fingerprint, _)) = group.first() else { continue };
            let Some(entry) = self.merged(&mut repeats, None, group)? else { continue };
            // Almost every fingerprint is new: one descent writes it, and returns the old entry if it was not new.
            let existing = table.insert(*fingerprint, entry).storage()?.map(|entry| entry.value());
            if existing.is_some_and(|existing| existing != entry) {
                let merged = self.merged(&mut repeats, existing, group)?.or(existing).unwrap_or(entry);
                table.insert(*fingerprint, merged).storage()?;
            }
        }
        Ok(())
    }

    /// Appends to a run. Entries also ascend from slice to slice. The first slice removes what is left of a fold that
    /// was not completed.
    pub(super) fn append_to_run(
        &self,
        run: u32,
        entries: &[(Fingerprint, u32)],
        is_first: bool,
    ) -> Result<()> {
        let name = SegmentTables::run(self.pool(), self.segment, run);
        let definition = FingerprintsDefinition::new(&name);
        if is_first {
            self.txn.delete_table(definition).storage()?;
        }
        drop(self.txn.open_table(schema::REPEATS).storage()?);
        let mut table = self.txn.open_table(definition).storage()?;
        let mut repeats = self.txn.open_table(schema::REPEATS).storage()?;
        self.append(&mut table, &mut repeats, entries)
    }

    /// Appends entries after all that are in the table, with a cursor, which is several times faster.
    fn append(
        &self,
        table: &mut Table<'_, u128, u32>,
        repeats: &mut RepeatsTable<'_>,
        entries: &[(Fingerprint, u32)],
    ) -> Result<()> {
        let mut cursor = table.upper_bound_mut(Bound::<u128>::Unbounded).storage()?;
        for group in entries.chunk_by(|a, b| a.0 == b.0) {
            let Some((fingerprint, _)) = group.first() else { continue };
            if let Some(entry) = self.merged(repeats, None, group)? {
                cursor.insert_before(*fingerprint, entry).storage()?;
            }
        }
        cursor.close().storage()
    }

    /// Returns the entry that a fingerprint gets, and writes its repeats. Returns `None` if the existing entry stays.
    ///
    /// A live entry keeps its place and gets the new slots as repeats. A dead one gives its place to the lowest
    /// live slot among its repeats and the new ones.
    fn merged(
        &self,
        repeats: &mut RepeatsTable<'_>,
        existing: Option<u32>,
        group: &[(Fingerprint, u32)],
    ) -> Result<Option<u32>> {
        let Some((fingerprint, _)) = group.first() else { return Ok(None) };
        let is_live = |slot: &Slot| self.state.is_live(self.first_id + u64::from(*slot));
        if let ([(_, entry)], None) = (group, existing)
            && entry & HAS_REPEATS == 0
        {
            // Almost all entries are like this.
            return Ok(Some(*entry).filter(is_live));
        }
        let entries = || group.iter().map(|(_, entry)| *entry).chain(existing);
        let mut slots: Vec<Slot> = entries().map(|entry| entry & !HAS_REPEATS).filter(is_live).collect();
        let key = |slot| (self.pool(), self.segment, *fingerprint, slot);
        if entries().any(|entry| entry & HAS_REPEATS != 0) {
            for row in repeats.range(key(0)..=key(u32::MAX)).storage()? {
                slots.extend(Some(row.storage()?.0.value().3).filter(is_live));
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
}
