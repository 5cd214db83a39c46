//! Index entries of a segment's records on their way to posting lists.
//!
//! Owns: the rule that turns records into posting lists, and the order in which lists are written. Always holds: lists are
//! sorted only as far as they are taken, so that a fold of many short ones stalls no commit.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::engine::record::{PostingKey, origin_posting_keys};
use crate::engine::schema::{Fingerprint, Geometry, Slot};
use crate::engine::tail::TailEntry;
use crate::ids::EntityTypeId;
use crate::model::Origin;

/// The index entries of records of one segment, before they are sorted.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    fingerprints: Vec<(Fingerprint, Slot)>,
    lists: PostingLists,
    /// Which of the lists' slots are those of an entity type.
    entity_types: HashMap<EntityTypeId, usize>,
    /// The same of an origin, by address: those of equal origins at two addresses merge when their rows are made. The
    /// origin is kept, lest its address be used again.
    origins: HashMap<usize, (Arc<Origin>, usize)>,
}

/// A row of a posting list: its key, and slots relative to its chunk.
pub(super) type PostingRow = (Vec<u8>, RoaringBitmap);

impl Entries {
    /// **The one rule** that turns records into posting lists.
    pub(crate) fn push(&mut self, slot: Slot, entry: TailEntry) {
        self.fingerprints.push((entry.fingerprint, slot));
        let lists = &mut self.lists;
        let of_type = *self.entity_types.entry(entry.entity_type).or_insert_with(|| {
            let key = PostingKey::of_entity_type(entry.entity_type);
            lists.begin(std::iter::once(key))
        });
        lists.push(of_type, slot);
        if let Some(origin) = entry.origin {
            let address = Arc::as_ptr(&origin).addr();
            let (_, of_origin) = self.origins.entry(address).or_insert_with(|| {
                let place = lists.begin(origin_posting_keys(&origin));
                (origin, place)
            });
            lists.push(*of_origin, slot);
        }
    }

    /// Takes many entries. Their fingerprints are sorted, so that later all are sorted faster.
    pub(crate) fn push_sorted(&mut self, entries: impl Iterator<Item = (Slot, TailEntry)>) {
        let start = self.fingerprints.len();
        for (slot, entry) in entries {
            self.push(slot, entry);
        }
        if let Some(run) = self.fingerprints.get_mut(start..) {
            run.sort_unstable();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// The rows of posting lists that the entries make, in key order.
    pub(crate) fn into_posting_rows(mut self, geometry: Geometry) -> Vec<PostingRow> {
        self.lists.take(usize::MAX, geometry)
    }

    pub(super) fn into_parts(self) -> (Vec<(Fingerprint, Slot)>, PostingLists) {
        (self.fingerprints, self.lists)
    }
}

/// So many pieces are sorted at a time, at least.
const SORTED_PIECES: usize = 8_192;

/// Posting lists, of which the first ones by key can be taken.
#[derive(Debug, Default)]
pub(super) struct PostingLists {
    slots: Vec<Vec<Slot>>,
    /// Pieces of lists: the list's key, and which of `slots` the piece is. Several may have one key.
    pieces: Vec<(PostingKey, usize)>,
    /// Those that come before, in descending order.
    sorted: Vec<(PostingKey, usize)>,
}

impl PostingLists {
    /// Begins a piece of each list; where its slots go.
    fn begin(&mut self, keys: impl Iterator<Item = PostingKey>) -> usize {
        let place = self.slots.len();
        self.pieces.extend(keys.map(|key| (key, place)));
        self.slots.push(Vec::new());
        place
    }

    fn push(&mut self, place: usize, slot: Slot) {
        if let Some(slots) = self.slots.get_mut(place) {
            slots.push(slot);
        }
    }

    /// How many pieces are left.
    pub(super) fn len(&self) -> usize {
        self.pieces.len() + self.sorted.len()
    }

    /// Takes the rows of so many pieces, in key order: no row that is left has a lower key, though the last list may go on.
    pub(super) fn take(&mut self, pieces: usize, geometry: Geometry) -> Vec<PostingRow> {
        if self.sorted.len() < pieces {
            self.sort(pieces.max(SORTED_PIECES));
        }
        let taken = self.sorted.split_off(self.sorted.len().saturating_sub(pieces));
        let mut rows = Vec::with_capacity(taken.len());
        for list in taken.chunk_by(|a, b| a.0 == b.0).rev() {
            let Some((key, _)) = list.first() else { continue };
            let of_piece =
                |(_, piece): &(PostingKey, usize)| self.slots.get(*piece).into_iter().flatten().copied();
            let mut slots: Vec<Slot> = list.iter().flat_map(of_piece).collect();
            slots.sort_unstable();
            slots.dedup();
            for within in slots.chunk_by(|a, b| geometry.chunk_of(*a).0 == geometry.chunk_of(*b).0) {
                let Some(first) = within.first() else { continue };
                let (chunk, _) = geometry.chunk_of(*first);
                let base = chunk * geometry.chunk_slots;
                // They are sorted: nothing can be refused.
                let positions = RoaringBitmap::from_sorted_iter(within.iter().map(|slot| slot - base));
                rows.push((key.at_chunk(chunk), positions.unwrap_or_default()));
            }
        }
        rows
    }

    /// Has so many sorted, if there are. Finding the lowest ones takes a walk over all: that is why it is done for many.
    fn sort(&mut self, pieces: usize) {
        let more = pieces.saturating_sub(self.sorted.len()).min(self.pieces.len());
        let kept = self.pieces.len() - more;
        if kept > 0 && more > 0 {
            // The lowest go to the end, where they can be cut off.
            self.pieces.select_nth_unstable_by(kept, |a, b| b.cmp(a));
        }
        let mut lowest = self.pieces.split_off(kept);
        lowest.sort_unstable_by(|a, b| b.cmp(a));
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
        /// In whatever shares lists are taken, and however many are sorted before: the rows come in order, and together
        /// they are those of plain maps.
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
                entries.push(slot, TailEntry { fingerprint: 0, entity_type, origin: Some(origin) });
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
                    // A share may end within a list, whose chunks then come again.
                    let list = key[..key.len() - 4].to_vec();
                    prop_assert!(last <= list);
                    last = list;
                    *found.entry(key).or_default() |= slots;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
