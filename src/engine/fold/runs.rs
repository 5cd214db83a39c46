//! Merging the runs of a sealed segment into its table, in slices.
//!
//! Owns: [`RunMerge`], how far a merge is. Always holds: until its last slice, which drops the runs, they have all that
//! they had: a merge that is begun anew changes nothing that was merged, and who reads the table and the runs misses nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use redb::WriteTransaction;

use super::fingerprints::Fingerprints;
use crate::engine::failure::StorageResult;
use crate::engine::prune::remove_rows;
use crate::engine::schema::{self, Fingerprint, SegmentNumber, SegmentTables};
use crate::engine::state::{PoolState, SegmentState};
use crate::engine::view::{RunsTable, View};
use crate::error::Result;

/// The runs of a segment on their way into its table.
#[derive(Debug)]
pub(crate) struct RunMerge {
    segment: SegmentNumber,
    /// What is lower is merged.
    next: Fingerprint,
}

impl RunMerge {
    pub(crate) fn of(segment: SegmentNumber) -> Self {
        Self { segment, next: 0 }
    }

    pub(crate) fn segment(&self) -> SegmentNumber {
        self.segment
    }

    /// Merges the next rows of the view's runs. Whether these were the last: then the runs are gone.
    pub(crate) fn write(
        &mut self,
        txn: &WriteTransaction,
        view: &View,
        index: usize,
        state: &PoolState,
        segment: &SegmentState,
        rows: usize,
    ) -> Result<bool> {
        let runs = view.runs(index)?;
        let entries =
            runs.map(|runs| self.read(runs, view.run_numbers(index), rows)).transpose()?.unwrap_or_default();
        if let Some((last, _)) = entries.last() {
            Fingerprints::of(txn, state, segment).merge_into_table(&entries)?;
            if let Some(next) = last.checked_add(1).filter(|_| entries.len() >= rows) {
                self.next = next;
                return Ok(false);
            }
        }
        txn.delete_table(SegmentTables::new(state.id, segment.number).runs()).storage()?;
        let key = |block| (state.id, segment.number, block);
        let filters = key(*schema::filter_blocks(Some(0)).start())..=key(u32::MAX);
        remove_rows(&mut txn.open_table(schema::MEMBERSHIP).storage()?, filters, None)?;
        Ok(true)
    }

    /// At least so many entries, if there are, ascending, and all that their last fingerprint has.
    fn read(&self, runs: &RunsTable, numbers: Range<u32>, rows: usize) -> Result<Vec<(Fingerprint, u32)>> {
        let mut entries = Vec::new();
        let mut cursors = Vec::new();
        let mut heads = BinaryHeap::new();
        for run in numbers {
            cursors.push(runs.range((run, self.next)..=(run, Fingerprint::MAX)).storage()?);
        }
        let count = cursors.len();
        let mut advance = |cursor: usize, heads: &mut BinaryHeap<_>| -> Result<()> {
            if let Some(row) = cursors.get_mut(cursor).and_then(Iterator::next) {
                let (key, entry) = row.storage()?;
                heads.push(Reverse((key.value().1, entry.value(), cursor)));
            }
            Ok(())
        };
        for cursor in 0..count {
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
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase};
    use std::collections::BTreeMap;

    proptest! {
        /// In whatever slices: they are all entries in order, and none cuts between two of one fingerprint.
        #[test]
        fn slices_have_the_entries_of_all_runs_in_order(
            entries in proptest::collection::btree_map((0_u32..5, 0_u128..40), 0_u32..1_000, 0..80),
            rows in 1_usize..30,
        ) {
            let names = SegmentTables::new(1, 0);
            let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
            let txn = database.begin_write().unwrap();
            for (key, entry) in &entries {
                txn.open_table(names.runs()).unwrap().insert(key, entry).unwrap();
            }
            drop(txn.open_table(names.runs()).unwrap());
            txn.commit().unwrap();
            let runs = database.begin_read().unwrap().open_table(names.runs()).unwrap();
            let mut merge = RunMerge::of(0);
            let mut found: BTreeMap<Fingerprint, Vec<u32>> = BTreeMap::new();
            loop {
                // The last run is being written yet.
                let slice = merge.read(&runs, 0..4, rows).unwrap();
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
            for ((_, fingerprint), entry) in entries.iter().filter(|((run, _), _)| *run < 4) {
                expected.entry(*fingerprint).or_default().push(*entry);
            }
            for entries in expected.values_mut() {
                entries.sort_unstable();
            }
            prop_assert_eq!(found, expected);
        }
    }
}
