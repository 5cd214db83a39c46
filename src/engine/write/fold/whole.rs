//! Folding all of a segment's records at once, for imports and rebuilding.
//!
//! Owns: [`WholeFold`]. Fingerprints are in shares by their leading bits from the start, so nothing is sorted as a
//! whole. A second thread sorts the shares and then writes the posting lists; while it sorts a share, the share before
//! it is written. Always holds: this writes what a [`Fold`] of the same records would write.

use std::array;
use std::sync::mpsc;
use std::thread;

use redb::WriteTransaction;

use super::entries::{Lists, PostingLists};
use super::{Fold, Share};
use crate::engine::format::schema::{Fingerprint, SegmentTables, Slot};
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::TailEntry;
use crate::engine::probe::membership::{Filter, store_filter};
use crate::engine::storage::failure::StorageResult;
use crate::error::{Error, Result};
use crate::parallel;

const SHARE_BITS: u32 = 4;
const SHARES: usize = 1 << SHARE_BITS;
/// Smaller shares are written together with those after them, because each write opens its tables again.
const WRITTEN_MIN: usize = 4_096;

/// The index entries of a segment's records, which are written into its tables in one commit.
#[derive(Debug)]
pub(crate) struct WholeFold {
    shares: [Vec<(Fingerprint, Slot)>; SHARES],
    lists: Lists,
    records: u64,
    written_min: usize,
}

impl Default for WholeFold {
    fn default() -> Self {
        Self {
            shares: array::from_fn(|_| Vec::new()),
            lists: Lists::default(),
            records: 0,
            written_min: WRITTEN_MIN,
        }
    }
}

impl WholeFold {
    pub(crate) fn push(&mut self, slot: Slot, entry: TailEntry) {
        let leading = (entry.fingerprint >> (Fingerprint::BITS - SHARE_BITS)) as usize;
        if let Some(share) = self.shares.get_mut(leading) {
            share.push((entry.fingerprint, slot));
        }
        self.lists.push(slot, entry);
        self.records += 1;
    }

    /// Returns the number of records that it has.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Writes everything. For a segment that gets no more than `whole` records, also writes its filter, and returns it.
    pub(crate) fn write(
        self,
        txn: &WriteTransaction,
        state: &PoolState,
        segment: &SegmentState,
        whole: Option<u32>,
    ) -> Result<Option<Filter>> {
        let mut filter = whole.map(Filter::for_segment_of);
        let fold = |fingerprints, postings| {
            Fold::of_sorted(
                state.id,
                state.geometry,
                segment.number,
                segment.first_id,
                fingerprints,
                postings,
            )
        };
        // Alone first: redb panics on some damaged files while it opens a table, and a table that is open then (here in
        // the other thread) cannot be dropped without aborting the process.
        drop(txn.open_table(SegmentTables::new(state.id, segment.number).postings()).storage()?);
        let Self { shares, lists, written_min, .. } = self;
        thread::scope(|scope| {
            let (sender, sorted) = mpsc::channel();
            let helper = parallel::spawn(scope, "datapool-sort", move || {
                let mut ready = Vec::new();
                for mut share in shares {
                    share.sort_unstable();
                    ready.append(&mut share);
                    // The receiver hangs up when writing failed.
                    if ready.len() >= written_min && sender.send(std::mem::take(&mut ready)).is_err() {
                        return Ok(());
                    }
                }
                if sender.send(ready).is_err() {
                    return Ok(());
                }
                drop(sender);
                fold(Vec::new(), lists.into_posting_lists()).write(txn, state, Share::All).map(drop)
            })?;
            let written = sorted.into_iter().try_for_each(|share| {
                if let Some(filter) = &mut filter {
                    for (fingerprint, _) in &share {
                        filter.insert(*fingerprint);
                    }
                }
                fold(share, PostingLists::default()).write(txn, state, Share::All).map(drop)
            });
            let sorting =
                helper.join().unwrap_or_else(|_| Err(Error::corrupt("the sorting thread panicked")));
            written.and(sorting)
        })?;
        if let Some(filter) = &filter {
            store_filter(txn, state.id, segment.number, None, filter)?;
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::schema::REPEATS;
    use crate::engine::write::fold::entries::Entries;
    use crate::model::Origin;
    use crate::store::DataPoolStore;
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableTable, TableDefinition};
    use std::cell::RefCell;
    use std::fmt::Debug;
    use std::sync::Arc;

    /// Some records of one segment: fingerprint, entity type and origin.
    type Records = Vec<(Fingerprint, u32, Option<u8>)>;

    fn any_records() -> impl Strategy<Value = Records> {
        // Some are equal, and all shares have some.
        let fingerprint = prop_oneof![any::<Fingerprint>(), (0_u128..20).prop_map(|n| n << 123 | n)];
        proptest::collection::vec((fingerprint, 0_u32..3, proptest::option::of(0_u8..4)), 0..100)
    }

    fn entry(fingerprint: Fingerprint, entity_type: u32, origin: Option<u8>) -> TailEntry {
        let origin = origin.map(|number| Arc::new(Origin::new("flow", format!("run {number}"), "step")));
        TailEntry { fingerprint, entity_type: entity_type.into(), origin }
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

    /// Returns the contents of a segment's index tables after parts of its records were folded, one after the other.
    fn folded(
        state: &PoolState,
        parts: &[Records],
        fold: impl Fn(&WriteTransaction, &[(Slot, TailEntry)]),
    ) -> Vec<Vec<String>> {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let txn = database.begin_write().unwrap();
        let mut slots = 0..;
        for part in parts {
            let entries: Vec<_> = slots
                .by_ref()
                .zip(part)
                .map(|(slot, (fingerprint, entity_type, origin))| {
                    (slot, entry(*fingerprint, *entity_type, *origin))
                })
                .collect();
            fold(&txn, &entries);
            slots = entries.last().map_or(slots.start, |(slot, _)| slot + 1)..;
        }
        let names = SegmentTables::new(state.id, 0);
        let tables = [rows(&txn, names.fingerprints()), rows(&txn, names.postings()), rows(&txn, REPEATS)];
        tables.into()
    }

    proptest! {
        #[test]
        fn what_it_writes_is_what_a_fold_writes(
            parts in proptest::collection::vec(any_records(), 1..4),
            dead in 0_u64..50,
            written_min in 1_usize..40,
        ) {
            let store = DataPoolStore::in_memory().unwrap();
            let pool = store.get_or_create_pool("orders").unwrap();
            let mut state = PoolState::clone(&store.shared().engine.view(pool.id()).unwrap().state);
            let newest = state.last_time;
            state.assign_more_ids(1_000, newest);
            state.expire_to(state.watermark + dead);
            let segment = state.segments[0].clone();
            let filters = RefCell::new(Vec::new());
            let of_parts = folded(&state, &parts, |txn, entries| {
                let mut all = Entries::default();
                for (slot, entry) in entries {
                    all.push(*slot, entry.clone());
                }
                let mut fold = Fold::new(state.id, state.geometry, 0, segment.first_id, all);
                assert!(fold.write(txn, &state, Share::All).unwrap());
            });
            let of_wholes = folded(&state, &parts, |txn, entries| {
                let mut whole = WholeFold { written_min, ..WholeFold::default() };
                for (slot, entry) in entries {
                    whole.push(*slot, entry.clone());
                }
                assert_eq!(whole.records(), entries.len() as u64);
                filters.borrow_mut().extend(whole.write(txn, &state, &segment, Some(1_000)).unwrap());
            });
            prop_assert_eq!(of_parts, of_wholes);
            prop_assert_eq!(filters.borrow().len(), parts.len());
            for (filter, part) in filters.borrow().iter().zip(&parts) {
                prop_assert!(part.iter().all(|(fingerprint, ..)| filter.may_contain(*fingerprint)));
            }
        }
    }
}
