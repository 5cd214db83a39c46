//! The matches of a filter in one block.

use std::ops::Range;

use roaring::RoaringBitmap;

use crate::engine::format::chunk_set::ChunkSet;
use crate::engine::format::schema::ChunkNumber;
use crate::ids::RecordNumber;
use crate::query::RecordSort;

/// The matches in one chunk of a segment, or in a tail. Positions count from the block's first record.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// The id of the record at position 0.
    pub(super) base: RecordNumber,
    /// The index of the segment, and the chunk; `None` for a tail.
    pub(crate) chunk: Option<(usize, ChunkNumber)>,
    pub(super) matches: Matches<'a>,
}

#[derive(Debug)]
pub(super) enum Matches<'a> {
    /// All positions of the range except the deleted ones.
    AllBut {
        positions: Range<u32>,
        deleted: Option<&'a RoaringBitmap>,
    },
    Chunk(ChunkSet),
    /// Ascending positions that were found by value.
    Few(Vec<u32>),
    Tail(RoaringBitmap),
}

impl Block<'_> {
    pub(crate) fn count(&self) -> u64 {
        match &self.matches {
            Matches::AllBut { positions, deleted } => live_in(positions, *deleted),
            Matches::Chunk(set) => set.len(),
            Matches::Few(positions) => positions.len() as u64,
            Matches::Tail(set) => set.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.matches {
            Matches::Chunk(set) => set.is_empty(),
            _ => self.count() == 0,
        }
    }

    /// Returns the number of matches up to and including a record, in the requested order.
    pub(crate) fn count_through(&self, id: RecordNumber, sort: RecordSort) -> u64 {
        match sort {
            RecordSort::Ascending => self.count_below(id.saturating_add(1)),
            RecordSort::Descending => self.count() - self.count_below(id),
        }
    }

    fn count_below(&self, id: RecordNumber) -> u64 {
        let end = u32::try_from(id.saturating_sub(self.base)).unwrap_or(u32::MAX);
        match &self.matches {
            Matches::AllBut { positions, deleted } => {
                live_in(&(positions.start..end.clamp(positions.start, positions.end)), *deleted)
            }
            Matches::Chunk(set) => set.rank(end),
            Matches::Few(positions) => positions.partition_point(|position| *position < end) as u64,
            Matches::Tail(set) => set.range_cardinality(..end),
        }
    }

    /// Returns the positions of the matches.
    pub(crate) fn positions(&self) -> RoaringBitmap {
        match &self.matches {
            Matches::AllBut { positions, deleted } => {
                let mut set = RoaringBitmap::new();
                set.insert_range(positions.clone());
                if let Some(deleted) = deleted {
                    set -= *deleted;
                }
                set
            }
            Matches::Chunk(set) => set.to_bitmap(),
            Matches::Few(positions) => positions.iter().copied().collect(),
            Matches::Tail(set) => set.clone(),
        }
    }

    /// Returns the ids of the matches, ascending.
    pub(crate) fn ids(&self) -> Vec<RecordNumber> {
        if let Matches::AllBut { positions, deleted: None } = &self.matches {
            return (self.base + u64::from(positions.start)..self.base + u64::from(positions.end)).collect();
        }
        if let Matches::Few(positions) = &self.matches {
            return positions.iter().map(|position| self.base + u64::from(*position)).collect();
        }
        self.positions().iter().map(|position| self.base + u64::from(position)).collect()
    }

    /// Returns the ids of the matches with some ordinal numbers in the requested order.
    pub(crate) fn ids_at(&self, places: Range<u64>, sort: RecordSort) -> Vec<RecordNumber> {
        let skip = usize::try_from(places.start).unwrap_or(usize::MAX);
        let take = usize::try_from(places.end.saturating_sub(places.start)).unwrap_or(usize::MAX);
        if take == 0 {
            return Vec::new();
        }
        let ids = self.ids();
        match sort {
            RecordSort::Ascending => ids.into_iter().skip(skip).take(take).collect(),
            RecordSort::Descending => ids.into_iter().rev().skip(skip).take(take).collect(),
        }
    }
}

fn live_in(positions: &Range<u32>, deleted: Option<&RoaringBitmap>) -> u64 {
    let dead = deleted.map_or(0, |deleted| deleted.range_cardinality(positions.clone()));
    u64::from(positions.end - positions.start) - dead
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The same matches in each of the four forms, beside plain loops over their ids.
        #[test]
        fn a_block_counts_and_selects_what_plain_loops_do(
            positions in btree_set(0_u32..40, 0..40), base in 1_u64..100, id in 0_u64..160,
            (first, end) in (0_usize..45, 0_usize..45),
        ) {
            let deleted: RoaringBitmap = (5..60).filter(|position| !positions.contains(position)).collect();
            let mut chunk = ChunkSet::new();
            for position in &positions {
                chunk.insert(*position);
            }
            let few: Vec<u32> = positions.iter().copied().collect();
            let of_range: BTreeSet<u32> = positions.iter().copied().filter(|position| *position >= 5).collect();
            for (matches, positions) in [
                (Matches::AllBut { positions: 5..40, deleted: Some(&deleted) }, &of_range),
                (Matches::AllBut { positions: 5..40, deleted: None }, &(5..40).collect()),
                (Matches::Chunk(chunk), &positions),
                (Matches::Few(few.clone()), &positions),
                (Matches::Tail(few.iter().copied().collect()), &positions),
            ] {
                let block = Block { base, chunk: None, matches };
                let mut ids: Vec<RecordNumber> =
                    positions.iter().map(|position| base + u64::from(*position)).collect();
                prop_assert_eq!(block.ids(), ids.clone());
                prop_assert_eq!(block.count(), ids.len() as u64);
                prop_assert_eq!(block.is_empty(), ids.is_empty());
                for sort in [RecordSort::Ascending, RecordSort::Descending] {
                    let is_through = |of: &&RecordNumber| if sort == RecordSort::Ascending { **of <= id } else { **of >= id };
                    let through = ids.iter().filter(is_through).count() as u64;
                    prop_assert_eq!(block.count_through(id, sort), through, "{:?} through {}", block, id);
                    let selected: Vec<_> = ids.iter().copied().take(end).skip(first).collect();
                    prop_assert_eq!(block.ids_at(first as u64..end as u64, sort), selected);
                    ids.reverse();
                }
            }
        }
    }
}
