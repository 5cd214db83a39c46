//! Index entries of a segment's records, before they become posting lists.
//!
//! Owns: the rule that turns records into posting lists, and the order in which lists are written. Always
//! holds: only as many lists are sorted as are taken, so a fold of many short lists delays no commit.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::backend::fingerprint::Fingerprint;
use crate::engine::format::record::{PostingKey, origin_posting_keys};
use crate::engine::format::schema::{Geometry, Slot};
use crate::engine::pool::interner::Interner;
use crate::engine::pool::tail::TailEntry;
use crate::ids::EntityTypeId;
use crate::model::Origin;

/// The data of a record for the table of fingerprints: its fingerprint, its slot, and true if it has a
/// version.
pub(super) type Indexed = (Fingerprint, Slot, bool);

/// The index entries of records of one segment, before they are sorted.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    fingerprints: Vec<Indexed>,
    lists: Lists,
}

/// The posting lists of records of one segment, before they are sorted.
#[derive(Debug, Default)]
pub(super) struct Lists {
    keys: Interner<PostingKey>,
    /// The slots of each list, by the number of the list's key.
    slots: Vec<Vec<Slot>>,
    /// The number of each entity type's list.
    entity_types: HashMap<EntityTypeId, u32>,
    /// The lists of each origin, by address. The origin is kept, so that its address is not reused.
    origins: HashMap<usize, (Arc<Origin>, Vec<u32>)>,
}

/// A row of a posting list: its key, and slots relative to its chunk.
pub(super) type PostingRow = (Vec<u8>, RoaringBitmap);

impl Lists {
    /// **The only rule** that turns records into posting lists.
    pub(super) fn push(&mut self, slot: Slot, entry: TailEntry) {
        let (keys, slots) = (&mut self.keys, &mut self.slots);
        let mut list_of = |key: PostingKey| {
            let list = keys.number(&key);
            if list as usize == slots.len() {
                slots.push(Vec::new());
            }
            list
        };
        let of_type = *self
            .entity_types
            .entry(entry.entity_type)
            .or_insert_with(|| list_of(PostingKey::of_entity_type(entry.entity_type)));
        let of_origin = entry.origin.map(|origin| {
            let known = self.origins.entry(Arc::as_ptr(&origin).addr());
            let lists = known.or_insert_with(|| {
                let lists = origin_posting_keys(&origin).map(list_of).collect();
                (origin, lists)
            });
            &lists.1
        });
        for list in std::iter::once(&of_type).chain(of_origin.into_iter().flatten()) {
            if let Some(slots) = self.slots.get_mut(*list as usize) {
                slots.push(slot);
            }
        }
    }

    pub(super) fn into_posting_lists(self) -> PostingLists {
        let unsorted = self.keys.into_things().into_iter().zip(self.slots).collect();
        PostingLists { unsorted, sorted: Vec::new() }
    }
}

impl Entries {
    pub(crate) fn push(&mut self, slot: Slot, entry: TailEntry) {
        self.fingerprints.push((entry.fingerprint, slot, entry.has_version));
        self.lists.push(slot, entry);
    }

    /// Adds many entries, and sorts their fingerprints, which makes the final sort faster.
    pub(crate) fn extend(&mut self, entries: impl Iterator<Item = (Slot, TailEntry)>) {
        let start = self.fingerprints.len();
        for (slot, entry) in entries {
            self.push(slot, entry);
        }
        // Free the origins now, so that no commit has to wait until all of them are freed.
        self.lists.origins.clear();
        if let Some(run) = self.fingerprints.get_mut(start..) {
            run.sort_unstable();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Returns the rows of the posting lists of these entries, in key order.
    pub(crate) fn into_posting_rows(self, geometry: Geometry) -> Vec<PostingRow> {
        self.into_parts().1.take(usize::MAX, geometry)
    }

    pub(super) fn into_parts(self) -> (Vec<Indexed>, PostingLists) {
        (self.fingerprints, self.lists.into_posting_lists())
    }
}

/// The smallest number of lists that are sorted at a time.
const SORTED_LISTS: usize = 8_192;

/// Posting lists to be taken in key order.
#[derive(Debug, Default)]
pub(super) struct PostingLists {
    unsorted: Vec<(PostingKey, Vec<Slot>)>,
    /// The lists with the lowest keys, in descending order.
    sorted: Vec<(PostingKey, Vec<Slot>)>,
}

impl PostingLists {
    /// Returns the number of remaining lists.
    pub(super) fn len(&self) -> usize {
        self.unsorted.len() + self.sorted.len()
    }

    /// Takes the rows of this many lists, in key order. No remaining list has a lower key.
    pub(super) fn take(&mut self, lists: usize, geometry: Geometry) -> Vec<PostingRow> {
        if self.sorted.len() < lists {
            self.sort(lists.max(SORTED_LISTS));
        }
        let taken = self.sorted.split_off(self.sorted.len().saturating_sub(lists));
        let mut rows = Vec::with_capacity(taken.len());
        for (key, mut slots) in taken.into_iter().rev() {
            slots.sort_unstable();
            for within in slots.chunk_by(|a, b| geometry.chunk_of(*a).0 == geometry.chunk_of(*b).0) {
                let Some(first) = within.first() else { continue };
                let (chunk, _) = geometry.chunk_of(*first);
                let base = chunk * geometry.chunk_slots;
                // The slots are sorted and distinct, so this cannot fail.
                let positions = RoaringBitmap::from_sorted_iter(within.iter().map(|slot| slot - base));
                rows.push((key.at_chunk(chunk), positions.unwrap_or_default()));
            }
        }
        rows
    }

    /// Sorts this many lists, or all that remain. Finding the lowest lists takes a pass over all of them, so
    /// many are sorted at a time.
    fn sort(&mut self, lists: usize) {
        let more = lists.saturating_sub(self.sorted.len()).min(self.unsorted.len());
        let kept = self.unsorted.len() - more;
        if kept > 0 && more > 0 {
            // The lowest lists go to the end, where they can be split off.
            self.unsorted.select_nth_unstable_by(kept, |a, b| b.0.cmp(&a.0));
        }
        let mut lowest = self.unsorted.split_off(kept);
        lowest.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        lowest.append(&mut self.sorted);
        self.sorted = lowest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const GEOMETRY: Geometry = Geometry { segment_slots: 64, chunk_slots: 8 };

    proptest! {
        /// The rows come in order and equal those of plain maps, in whatever portions lists are taken and
        /// sorted.
        #[test]
        fn shares_make_the_rows_of_all_records_in_key_order(
            records in proptest::collection::vec((0_u32..3, 0_u8..4, 0_u8..9, 0_u8..3), 1..64),
            shares in proptest::collection::vec((1_usize..9, 0_usize..20), 1..9),
        ) {
            let mut entries = Entries::default();
            let mut expected: BTreeMap<Vec<u8>, RoaringBitmap> = BTreeMap::new();
            for (slot, (entity_type, flow, run, step)) in (0_u32..).zip(&records) {
                let (flow, run, step) = (format!("f{flow}"), format!("run {run}"), format!("{step}"));
                let origin = Arc::new(Origin::new(flow.as_str(), run.as_str(), step.as_str()));
                let keys = [
                    PostingKey::of_entity_type((*entity_type).into()),
                    PostingKey::of_flow(&flow),
                    PostingKey::of_run(&run),
                    PostingKey::of_step(&step),
                ];
                for key in keys {
                    expected.entry(key.at_chunk(slot / 8)).or_default().insert(slot % 8);
                }
                let entity_type = (*entity_type).into();
                let entry = TailEntry { fingerprint: 0, entity_type, has_version: false, origin: Some(origin) };
                entries.extend(std::iter::once((slot, entry)));
            }
            let (_, mut lists) = entries.into_parts();
            let mut found: BTreeMap<Vec<u8>, RoaringBitmap> = BTreeMap::new();
            let mut last = Vec::new();
            for (share, sorted) in shares.into_iter().cycle() {
                if lists.len() == 0 {
                    break;
                }
                lists.sort(share.max(sorted));
                for (key, slots) in lists.take(share, GEOMETRY) {
                    prop_assert!(last < key);
                    last.clone_from(&key);
                    found.insert(key, slots);
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
