//! A set of slots within one chunk, stored as bits. The planner computes with it.
//!
//! Owns: [`ChunkSet`]. Always holds: every slot is below 2^14, the most slots that a chunk has. The rest of
//! the engine uses roaring bitmaps for sets that live longer. Here, posting lists are merged into existing
//! words without building a bitmap for each list.

use std::ops::Range;

use roaring::RoaringBitmap;

/// The number of 64-bit words for the largest chunk.
const WORDS: usize = (1 << 14) / 64;

/// Slots of one chunk, relative to its first slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkSet(Box<[u64; WORDS]>);

impl ChunkSet {
    pub(crate) fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    pub(crate) fn insert(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    fn remove(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    pub(crate) fn insert_range(&mut self, slots: Range<u32>) {
        for (word, bits) in words_of(slots) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= bits;
            }
        }
    }

    /// Adds the slots whose bits are set, least significant first.
    pub(crate) fn insert_bits(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for (word, bits) in self.0.iter_mut().zip(words) {
            *word |= u64::from_le_bytes(*bits);
        }
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(byte, bits)| *byte = *bits);
        if let Some(word) = self.0.get_mut(words.len()) {
            *word |= u64::from_le_bytes(last);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(crate) fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(word, other)| *word &= other);
    }

    /// Keeps only the slots of the range.
    pub(crate) fn retain_range(&mut self, slots: &Range<u32>) {
        let mut kept = Self::new();
        kept.insert_range(slots.clone());
        self.intersect(&kept);
    }

    /// Removes the slots of a bitmap. Iterates over the smaller of the two sets.
    pub(crate) fn subtract(&mut self, other: &RoaringBitmap) {
        if other.len() <= self.len() {
            for slot in other {
                self.remove(slot);
            }
            return;
        }
        let both: Vec<u32> = self.iter().filter(|slot| other.contains(*slot)).collect();
        for slot in both {
            self.remove(slot);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Returns the number of slots below this one.
    pub(crate) fn rank(&self, slot: u32) -> u64 {
        let whole = slot as usize / 64;
        let below: u64 = self.0.iter().take(whole).map(|word| u64::from(word.count_ones())).sum();
        let last = self.0.get(whole).map_or(0, |word| word & ((1 << (slot % 64)) - 1));
        below + u64::from(last.count_ones())
    }

    /// Iterates over the slots, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).step_by(64).zip(self.0.iter()).flat_map(|(base, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let slot = (rest != 0).then(|| base + rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(slot)
            })
        })
    }

    pub(crate) fn to_bitmap(&self) -> RoaringBitmap {
        RoaringBitmap::from_sorted_iter(self.iter()).unwrap_or_default()
    }
}

/// Returns the index of each word that a range of slots touches, with a mask of the range's bits in that
/// word.
fn words_of(slots: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let words = slots.start / 64..if slots.is_empty() { slots.start / 64 } else { slots.end.div_ceil(64) };
    words.map(move |word| {
        let (start, end) = (slots.start.saturating_sub(word * 64), (slots.end - word * 64).min(64));
        (word as usize, (u64::MAX >> (64 - (end - start))) << start)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn set_of(slots: &BTreeSet<u32>) -> ChunkSet {
        let mut set = ChunkSet::new();
        for slot in slots {
            set.insert(*slot);
        }
        set
    }

    fn slots() -> impl Strategy<Value = BTreeSet<u32>> {
        btree_set(0_u32..16_384, 0..200)
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_slots(a in slots(), b in slots(), start in 0_u32..=16_384, end in 0_u32..=16_384) {
            let set = set_of(&a);
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!((set.len(), set.is_empty()), (a.len() as u64, a.is_empty()));
            prop_assert_eq!(set.to_bitmap(), a.iter().collect::<RoaringBitmap>());
            prop_assert_eq!(set.rank(start), a.range(..start).count() as u64);

            let mut both = set.clone();
            both.intersect(&set_of(&b));
            prop_assert_eq!(both, set_of(&(&a & &b)));
            let mut less = set.clone();
            less.subtract(&b.iter().collect());
            prop_assert_eq!(less, set_of(&(&a - &b)));

            let range = start.min(end)..end;
            let mut more = set.clone();
            more.insert_range(range.clone());
            prop_assert_eq!(more, set_of(&a.iter().copied().chain(range.clone()).collect()));
            let mut cut = set.clone();
            cut.retain_range(&range);
            prop_assert_eq!(cut, set_of(&a.range(range).copied().collect()));
        }

        #[test]
        fn bits_are_read_from_the_least_significant_one(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut set = ChunkSet::new();
            set.insert_bits(&bytes);
            let slots = (0_u32..).zip(bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)));
            prop_assert_eq!(set, set_of(&slots.filter(|(_, set)| *set).map(|(slot, _)| slot).collect()));
        }
    }
}
