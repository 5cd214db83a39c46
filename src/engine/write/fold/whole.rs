//! Folding all records of a segment at once, for imports and rebuilding.
//!
//! Owns: [`WholeFold`]. Fingerprints are divided into shares by their leading bits from the start, so they
//! are never sorted all at once. A second thread sorts the shares and then writes the posting lists. While it
//! sorts one share, the share before is written. Always holds: this writes the same as a [`Fold`] of the same
//! records.

use std::array;
use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use redb::WriteTransaction;

use super::entries::{Indexed, Lists};
use super::write_postings;
use crate::backend::fingerprint::Fingerprint;
use crate::engine::format::schema::{SegmentTables, Slot, TableNumber};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::TailEntry;
use crate::engine::probe::table::FingerprintTable;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::tables::{IndexWriter, TableWriter};
use crate::error::{Error, Result};
use crate::parallel;

const SHARE_BITS: u32 = 4;
const SHARES: usize = 1 << SHARE_BITS;
/// Shares smaller than this are written together with those after them, because each write opens its tables
/// again.
const WRITTEN_MIN: usize = 4_096;

/// The index entries of a segment's records, which are written into its tables in one commit.
#[derive(Debug)]
pub(crate) struct WholeFold {
    shares: [Vec<Indexed>; SHARES],
    lists: Lists,
    records: u64,
    /// The range from the first record to the last.
    slots: Option<Range<Slot>>,
    written_min: usize,
}

impl Default for WholeFold {
    fn default() -> Self {
        Self {
            shares: array::from_fn(|_| Vec::new()),
            lists: Lists::default(),
            records: 0,
            slots: None,
            written_min: WRITTEN_MIN,
        }
    }
}

impl WholeFold {
    pub(crate) fn push(&mut self, slot: Slot, entry: TailEntry) {
        let leading = (entry.fingerprint >> (Fingerprint::BITS - SHARE_BITS)) as usize;
        if let Some(share) = self.shares.get_mut(leading) {
            share.push((entry.fingerprint, slot, entry.has_version));
        }
        self.lists.push(slot, entry);
        self.slots.get_or_insert(slot..slot).end = slot + 1;
        self.records += 1;
    }

    /// Returns the number of records in the fold.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Writes everything. Returns the table of the fingerprints, with the given number, or `None` if no
    /// record is live.
    pub(crate) fn write(
        self,
        txn: &WriteTransaction,
        state: &PoolState,
        segment: &SegmentState,
        number: TableNumber,
        row_entries: u64,
    ) -> Result<Option<FingerprintTable>> {
        let Self { shares, lists, records, slots, written_min } = self;
        let Some(slots) = slots else { return Ok(None) };
        let ids = segment.id(slots.start)..segment.id(slots.end - 1) + 1;
        if state.live_in(&ids) == 0 {
            // Dead records need no index, because nobody will look for them.
            return Ok(None);
        }
        let mut table = TableWriter::new(state, number, ids, records, row_entries);
        // Open it alone first. redb panics on some damaged files when it opens a table, and then a table that
        // is open, here by the other thread, cannot be dropped without aborting the process.
        drop(txn.open_table(SegmentTables::new(state.id, segment.number).postings()).storage()?);
        let mut writer = IndexWriter::open(txn, state.id)?;
        thread::scope(|scope| {
            let (sender, sorted) = mpsc::channel();
            let helper = parallel::spawn(scope, "datapool-sort", move || {
                let mut ready = Vec::new();
                for mut share in shares {
                    share.sort_unstable();
                    ready.append(&mut share);
                    // The receiver is dropped if writing has failed.
                    if ready.len() >= written_min && sender.send(std::mem::take(&mut ready)).is_err() {
                        return Ok(());
                    }
                }
                if sender.send(ready).is_err() {
                    return Ok(());
                }
                drop(sender);
                let rows = lists.into_posting_lists().take(usize::MAX, state.geometry);
                write_postings(txn, state.id, segment.number, state.geometry, &rows)
            })?;
            let written = sorted.into_iter().try_for_each(|share: Vec<Indexed>| {
                let folded =
                    |(fingerprint, slot, has_version): Indexed| (fingerprint, segment.id(slot), has_version);
                table.push(state, share.into_iter().map(folded));
                table.write_complete(&mut writer)
            });
            let sorting =
                helper.join().unwrap_or_else(|_| Err(Error::corrupt("the sorting thread panicked")));
            written.and(sorting)
        })?;
        table.finish(&mut writer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::schema::{FILTERS, FINGERPRINTS, Geometry, Tuning};
    use crate::engine::write::fold::entries::Entries;
    use crate::engine::write::fold::{Fold, Share};
    use crate::engine::write::tables::add_folded;
    use crate::ids::PoolId;
    use crate::model::Origin;
    use crate::options::StoreOptions;
    use crate::testing::with_engine;
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableTable, TableDefinition};
    use std::fmt::Debug;
    use std::sync::Arc;

    /// Some records of one segment: fingerprint, entity type and origin.
    type Records = Vec<(Fingerprint, u32, Option<u8>)>;

    fn any_records() -> impl Strategy<Value = Records> {
        // Some are equal, and every share has some.
        let fingerprint = prop_oneof![any::<Fingerprint>(), (0_u128..20).prop_map(|n| n << 123 | n << 40)];
        proptest::collection::vec((fingerprint, 0_u32..3, proptest::option::of(0_u8..4)), 1..300)
    }

    fn rows<K: redb::Key + 'static, V: redb::Value + 'static>(
        txn: &WriteTransaction,
        definition: TableDefinition<'_, K, V>,
    ) -> Vec<String>
    where
        for<'a> K::SelfType<'a>: Debug,
        for<'a> V::SelfType<'a>: Debug,
    {
        let table = txn.open_table(definition).unwrap();
        let row = |row: std::result::Result<(redb::AccessGuard<'_, K>, redb::AccessGuard<'_, V>), _>| {
            let (key, value) = row.unwrap();
            format!("{:?} {:?}", key.value(), value.value())
        };
        table.iter().unwrap().map(row).collect()
    }

    /// Returns the contents of a segment's index tables after its records were folded.
    fn folded(write: impl FnOnce(&WriteTransaction)) -> [Vec<String>; 3] {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let txn = database.begin_write().unwrap();
        write(&txn);
        let postings = SegmentTables::new(PoolId::new(1), 0);
        [rows(&txn, FINGERPRINTS), rows(&txn, FILTERS), rows(&txn, postings.postings())]
    }

    proptest! {
        #[test]
        fn what_it_writes_is_what_a_fold_writes(
            records in any_records(),
            first in 0_u32..40,
            // A table has capacity for all records, or for the live ones. Here, all of them are live or all
            // are dead.
            dead in prop_oneof![4 => Just(0_u64), 1 => Just(1_000)],
            written_min in 1_usize..40,
        ) {
            let (store, engine) = with_engine(&StoreOptions::new(), (Geometry::DEFAULT, Tuning::DEFAULT));
            let pool = store.get_or_create_pool("orders").unwrap();
            let mut state = PoolState::clone(&engine.view(pool.id()).unwrap().state);
            let newest = state.last_time;
            state.assign_more_ids(1_000, newest);
            state.expire_to(state.watermark + dead);
            let segment = state.segments[0].clone();
            let tuning = Tuning { fold_entries: 40, ..Tuning::DEFAULT };
            let entries: Vec<(Slot, TailEntry)> = (first..)
                .zip(&records)
                .map(|(slot, (fingerprint, entity_type, origin))| {
                    let origin = origin.map(|number| Arc::new(Origin::new("flow", format!("run {number}"), "step")));
                    let entity_type = (*entity_type).into();
                    let has_version = slot % 3 == 0;
                    (slot, TailEntry { fingerprint: *fingerprint, entity_type, has_version, origin })
                })
                .collect();
            let ids = segment.id(first)..segment.id(first) + records.len() as u64;
            let of_whole = folded(|txn| {
                let mut whole = WholeFold { written_min, ..WholeFold::default() };
                for (slot, entry) in &entries {
                    whole.push(*slot, entry.clone());
                }
                assert_eq!(whole.records(), entries.len() as u64);
                let table = whole.write(txn, &state, &segment, 0, tuning.row_entries()).unwrap();
                assert_eq!(table.is_some(), state.live_in(&ids) > 0);
                if let Some(table) = table {
                    assert_eq!((table.number, &table.ids), (0, &ids));
                }
            });
            let of_fold = folded(|txn| {
                if state.live_in(&ids) == 0 {
                    return;
                }
                let mut all = Entries::default();
                for (slot, entry) in &entries {
                    all.push(*slot, entry.clone());
                }
                let mut fold = Fold::new(state.id, state.geometry, 0, segment.first_id, all);
                assert!(fold.write(txn, Share::All).unwrap());
                let mut state = state.clone();
                add_folded(txn, &mut state, ids.clone(), &fold.into_fingerprints(), &tuning).unwrap();
            });
            prop_assert_eq!(of_whole, of_fold);
        }
    }
}
