//! The liveness rule: a slot is dead if it is below the pool's watermark or its deleted bit is set.
//!
//! Owns: the deletion bitmaps of a segment in memory, and counting with them. Always holds: deleting only
//! sets bits and removes no index entry. Every reader of an index entry checks liveness.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::engine::format::schema::{ChunkNumber, Geometry, Slot};

/// The deleted slots of one segment, by chunk. Cloning and changing one chunk are cheap, because chunks are
/// shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deleted {
    chunks: BTreeMap<ChunkNumber, Arc<RoaringBitmap>>,
    count: u64,
}

impl Deleted {
    pub(crate) fn from_chunks(chunks: BTreeMap<ChunkNumber, Arc<RoaringBitmap>>) -> Self {
        let count = chunks.values().map(|bitmap| bitmap.len()).sum();
        Self { chunks, count }
    }

    pub(crate) fn contains(&self, geometry: Geometry, slot: Slot) -> bool {
        let (chunk, offset) = geometry.chunk_of(slot);
        self.count > 0 && self.chunks.get(&chunk).is_some_and(|bitmap| bitmap.contains(offset))
    }

    /// Returns the deleted slots of a chunk, relative to it.
    pub(crate) fn chunk(&self, chunk: ChunkNumber) -> Option<&RoaringBitmap> {
        self.chunks.get(&chunk).map(|bitmap| &**bitmap)
    }

    /// Iterates over the chunks that have deleted slots.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (ChunkNumber, &RoaringBitmap)> {
        self.chunks.iter().map(|(chunk, bitmap)| (*chunk, &**bitmap))
    }

    /// Sets a bit. Returns true if it was not set before.
    pub(crate) fn insert(&mut self, geometry: Geometry, slot: Slot) -> bool {
        let (chunk, offset) = geometry.chunk_of(slot);
        let added = Arc::make_mut(self.chunks.entry(chunk).or_default()).insert(offset);
        self.count += u64::from(added);
        added
    }

    /// Sets all bits of `slots`, relative to the chunk. Returns the number of bits that were not set before.
    pub(crate) fn insert_all(&mut self, chunk: ChunkNumber, slots: &RoaringBitmap) -> u64 {
        let bitmap = Arc::make_mut(self.chunks.entry(chunk).or_default());
        let before = bitmap.len();
        *bitmap |= slots;
        let added = bitmap.len() - before;
        self.count += added;
        added
    }

    /// Returns the approximate memory use in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.chunks.values().map(|bitmap| bitmap.serialized_size() + 64).sum()
    }

    /// Returns the number of deleted slots in the range.
    pub(crate) fn count_in(&self, geometry: Geometry, range: Range<Slot>) -> u64 {
        if self.count == 0 || range.is_empty() {
            return 0;
        }
        let (first, _) = geometry.chunk_of(range.start);
        let (last, _) = geometry.chunk_of(range.end - 1);
        let within = |(chunk, bitmap): (&ChunkNumber, &Arc<RoaringBitmap>)| {
            let base = chunk * geometry.chunk_slots;
            let start = range.start.saturating_sub(base);
            let end = (range.end - base).min(geometry.chunk_slots);
            let whole = start == 0 && end == geometry.chunk_slots;
            if whole { bitmap.len() } else { bitmap.range_cardinality(start..end) }
        };
        self.chunks.range(first..=last).map(within).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GEOMETRY: Geometry = Geometry { segment_slots: 64, chunk_slots: 8 };

    proptest! {
        #[test]
        fn counting_a_range_counts_its_deleted_slots(
            slots in proptest::collection::btree_set(0_u32..64, 0..64), start in 0_u32..64, end in 0_u32..65,
        ) {
            let mut deleted = Deleted::default();
            for slot in &slots {
                prop_assert!(deleted.insert(GEOMETRY, *slot));
                prop_assert!(!deleted.insert(GEOMETRY, *slot));
            }
            let expected = slots.iter().filter(|slot| (start..end).contains(slot)).count() as u64;
            prop_assert_eq!(deleted.count_in(GEOMETRY, start..end), expected);
        }
    }
    #[test]
    fn memory_is_that_of_the_bits_and_of_a_map_of_chunks() {
        let mut deleted = Deleted::default();
        assert_eq!(deleted.memory(), 0);
        for slot in (0..64).step_by(8) {
            deleted.insert(GEOMETRY, slot);
        }
        let in_eight_chunks = deleted.memory();
        assert!((8 * 64..8 * 128).contains(&in_eight_chunks), "{in_eight_chunks}");
        (0..8).for_each(|slot| assert_eq!(deleted.insert(GEOMETRY, slot), slot > 0));
        assert!((1..32).contains(&(deleted.memory() - in_eight_chunks)));
    }
}
