//! Merging the runs of a sealed segment into its table, in slices.
//!
//! Owns: [`RunMerge`], the progress of a merge. Always holds: the runs keep all their entries until the merge's last
//! slice, after which nothing reads them. So a merge that is begun again changes nothing that was merged, and a reader
//! of the table and the runs misses nothing. The tables of the runs are dropped before the segment's filter is built,
//! one with each commit.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use redb::{ReadOnlyTable, WriteTransaction};

use super::fingerprints::Fingerprints;
use crate::engine::format::schema::{self, Fingerprint, SegmentNumber};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::reclaim::remove_rows;
use crate::error::Result;

/// A merge of a segment's runs into its table.
#[derive(Debug)]
pub(crate) struct RunMerge {
    segment: SegmentNumber,
    /// All lower fingerprints are merged.
    next: Fingerprint,
}

impl RunMerge {
    pub(crate) fn of(segment: SegmentNumber) -> Self {
        Self { segment, next: 0 }
    }

    pub(crate) fn segment(&self) -> SegmentNumber {
        self.segment
    }

    /// Merges the next rows of the view's runs. Returns true if they were the last: the segment then has no runs.
    pub(crate) fn write(
        &mut self,
        txn: &WriteTransaction,
        view: &View,
        index: usize,
        state: &PoolState,
        segment: &SegmentState,
        rows: usize,
    ) -> Result<bool> {
        let mut runs = Vec::new();
        for run in view.run_numbers(index) {
            runs.extend(view.run(index, run)?);
        }
        let entries = self.read(&runs, rows)?;
        if let Some((last, _)) = entries.last() {
            Fingerprints::of(txn, state, segment).merge_into_table(&entries)?;
            if let Some(next) = last.checked_add(1).filter(|_| entries.len() >= rows) {
                self.next = next;
                return Ok(false);
            }
        }
        let key = |block| (state.id, segment.number, block);
        let filters = key(*schema::filter_blocks(Some(0)).start())..=key(u32::MAX);
        remove_rows(&mut txn.open_table(schema::MEMBERSHIP).storage()?, filters, None)?;
        Ok(true)
    }

    /// Reads at least this many entries, if there are as many, ascending, and all entries of the last fingerprint.
    fn read(&self, runs: &[&ReadOnlyTable<u128, u32>], rows: usize) -> Result<Vec<(Fingerprint, u32)>> {
        let mut entries = Vec::new();
        let mut cursors = Vec::with_capacity(runs.len());
        for run in runs {
            cursors.push(run.range(self.next..).storage()?);
        }
        let mut heads = BinaryHeap::with_capacity(runs.len());
        let mut advance = |cursor: usize, heads: &mut BinaryHeap<_>| -> Result<()> {
            if let Some(row) = cursors.get_mut(cursor).and_then(Iterator::next) {
                let (fingerprint, entry) = row.storage()?;
                heads.push(Reverse((fingerprint.value(), entry.value(), cursor)));
            }
            Ok(())
        };
        for cursor in 0..runs.len() {
            advance(cursor, &mut heads)?;
        }
        while let Some(Reverse((fingerprint, entry, cursor))) = heads.pop() {
            if entries.len() >= rows && entries.last().is_some_and(|(last, _)| *last != fingerprint) {
                break;
            }
            entries.push((fingerprint, entry));
            advance(cursor, &mut heads)?;
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::schema::{FingerprintsDefinition, SegmentTables};
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase};
    use std::collections::BTreeMap;

    proptest! {
        /// Slices of any size have all entries in order, and none cuts between two entries of one fingerprint.
        #[test]
        fn slices_have_the_entries_of_all_runs_in_order(
            entries in proptest::array::uniform3(proptest::collection::btree_map(0_u128..40, 0_u32..1_000, 0..30)),
            rows in 1_usize..30,
        ) {
            let names = [0, 1, 2].map(|run| SegmentTables::run(1, 0, run));
            let definitions = names.each_ref().map(|name| FingerprintsDefinition::new(name));
            let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
            let txn = database.begin_write().unwrap();
            for (definition, run) in definitions.iter().zip(&entries) {
                let mut table = txn.open_table(*definition).unwrap();
                for (key, entry) in run {
                    table.insert(key, entry).unwrap();
                }
            }
            txn.commit().unwrap();
            let txn = database.begin_read().unwrap();
            let runs = definitions.map(|definition| txn.open_table(definition).unwrap());
            let mut merge = RunMerge::of(0);
            let mut found: BTreeMap<Fingerprint, Vec<u32>> = BTreeMap::new();
            loop {
                let slice = merge.read(&runs.each_ref(), rows).unwrap();
                for group in slice.chunk_by(|a, b| a.0 == b.0) {
                    let (fingerprint, _) = group[0];
                    prop_assert!(found.keys().next_back().is_none_or(|last| *last < fingerprint));
                    found.insert(fingerprint, group.iter().map(|(_, entry)| *entry).collect());
                }
                if slice.len() < rows {
                    break;
                }
                merge.next = slice.last().unwrap().0 + 1;
            }
            let mut expected: BTreeMap<Fingerprint, Vec<u32>> = BTreeMap::new();
            for (fingerprint, entry) in entries.iter().flatten() {
                expected.entry(*fingerprint).or_default().push(*entry);
            }
            for entries in expected.values_mut() {
                entries.sort_unstable();
            }
            prop_assert_eq!(found, expected);
        }
    }
}
