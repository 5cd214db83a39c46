//! Bitmaps of slots within a chunk: posting lists and deletions.
//!
//! Layout: a tag byte, then
//! - 1: the set slots as ascending u16, little-endian;
//! - 2: a bit for each slot of the chunk, least significant first (2 KiB at 2^14 slots);
//! - 3: runs, each two u16, little-endian: the first slot, and the number of further slots.
//!
//! The smallest form is written. In memory, a bitmap is a roaring bitmap of slots relative to the chunk. The
//! planner merges lists into a [`ChunkSet`] without decoding each.

use std::ops::Range;

use roaring::RoaringBitmap;

use crate::engine::format::chunk_set::ChunkSet;
use crate::error::{Error, Result};

const TAG_ARRAY: u8 = 1;
const TAG_BITS: u8 = 2;
const TAG_RUNS: u8 = 3;

/// Encodes a bitmap whose slots are all below `chunk_slots` (at most 2^14).
pub(crate) fn encode(bitmap: &RoaringBitmap, chunk_slots: u32) -> Vec<u8> {
    let count = usize::try_from(bitmap.len()).unwrap_or(usize::MAX);
    let array_bytes = count.saturating_mul(2);
    let bits_bytes = chunk_slots.div_ceil(8) as usize;
    let limit = array_bytes.min(bits_bytes);
    let mut runs = Vec::new();
    let mut iter = bitmap.iter();
    while let Some(range) = iter.next_range() {
        if (runs.len() + 1) * 4 >= limit {
            return if array_bytes <= bits_bytes {
                encode_array(bitmap)
            } else {
                encode_bits(bitmap, bits_bytes)
            };
        }
        runs.push((*range.start(), range.end() - range.start()));
    }
    let mut bytes = vec![TAG_RUNS];
    for (start, further) in runs {
        push_u16(start, &mut bytes);
        push_u16(further, &mut bytes);
    }
    bytes
}

fn encode_array(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = vec![TAG_ARRAY];
    bitmap.iter().for_each(|slot| push_u16(slot, &mut bytes));
    bytes
}

fn encode_bits(bitmap: &RoaringBitmap, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length + 1];
    if let Some((tag, bits)) = bytes.split_first_mut() {
        *tag = TAG_BITS;
        for slot in bitmap {
            if let Some(byte) = bits.get_mut(slot as usize / 8) {
                *byte |= 1 << (slot % 8);
            }
        }
    }
    bytes
}

fn push_u16(number: u32, bytes: &mut Vec<u8>) {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&number.to_le_bytes());
}

/// Decodes a bitmap. A slot at or above `chunk_slots` means that it is damaged.
pub(crate) fn decode(bytes: &[u8], chunk_slots: u32) -> Result<RoaringBitmap> {
    let mut bitmap = RoaringBitmap::new();
    unite(bytes, chunk_slots, &mut bitmap)?;
    Ok(bitmap)
}

/// A set that collects the slots of posting lists.
pub(crate) trait SlotSink {
    /// Adds slots in ascending order.
    fn add_slots(&mut self, slots: impl Iterator<Item = u32>);
    fn add_range(&mut self, slots: Range<u32>);
    /// Adds the slots whose bits are set, least significant first.
    fn add_bits(&mut self, bytes: &[u8]);
}

impl SlotSink for RoaringBitmap {
    fn add_slots(&mut self, slots: impl Iterator<Item = u32>) {
        self.extend(slots);
    }

    fn add_range(&mut self, slots: Range<u32>) {
        self.insert_range(slots);
    }

    fn add_bits(&mut self, bytes: &[u8]) {
        *self |= Self::from_lsb0_bytes(0, bytes);
    }
}

impl SlotSink for ChunkSet {
    fn add_slots(&mut self, slots: impl Iterator<Item = u32>) {
        slots.for_each(|slot| self.insert(slot));
    }

    fn add_range(&mut self, slots: Range<u32>) {
        self.insert_range(slots);
    }

    fn add_bits(&mut self, bytes: &[u8]) {
        self.insert_bits(bytes);
    }
}

/// Adds the slots of a list to a set. The list is checked first, so a damaged list adds nothing.
pub(crate) fn unite(bytes: &[u8], chunk_slots: u32, set: &mut impl SlotSink) -> Result<()> {
    let united = match bytes.split_first() {
        Some((&TAG_ARRAY, body)) => unite_array(body, chunk_slots, set),
        Some((&TAG_BITS, body)) => unite_bits(body, chunk_slots, set),
        Some((&TAG_RUNS, body)) => unite_runs(body, chunk_slots, set),
        _ => None,
    };
    united.ok_or_else(|| Error::corrupt(format!("a bitmap of {} bytes is damaged", bytes.len())))
}

fn u16s(bytes: &[u8]) -> Option<impl Iterator<Item = u32> + Clone> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|pair| u32::from(u16::from_le_bytes(*pair))))
}

fn unite_array(bytes: &[u8], chunk_slots: u32, set: &mut impl SlotSink) -> Option<()> {
    let slots = u16s(bytes)?;
    let ascending = slots.clone().is_sorted_by(|a, b| a < b);
    if !ascending || slots.clone().last().is_some_and(|last| last >= chunk_slots) {
        return None;
    }
    set.add_slots(slots);
    Some(())
}

fn unite_bits(bytes: &[u8], chunk_slots: u32, set: &mut impl SlotSink) -> Option<()> {
    // The last byte may have more bits than the chunk has slots.
    let spare = (8 - chunk_slots % 8) % 8;
    let overflows = bytes.last().is_some_and(|last| last.leading_zeros() < spare);
    if bytes.len() != chunk_slots.div_ceil(8) as usize || overflows {
        return None;
    }
    set.add_bits(bytes);
    Some(())
}

fn unite_runs(bytes: &[u8], chunk_slots: u32, set: &mut impl SlotSink) -> Option<()> {
    let (runs, rest) = bytes.as_chunks::<4>();
    let run = |[a, b, c, d]: &[u8; 4]| {
        let (start, further) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        u32::from(start)..u32::from(start) + u32::from(further) + 1
    };
    if !rest.is_empty() || runs.iter().any(|bytes| run(bytes).end > chunk_slots) {
        return None;
    }
    for bytes in runs {
        set.add_range(run(bytes));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bitmap_reads_back_as_it_was_written(
            slots in proptest::collection::btree_set(0_u32..16_384, 0..600),
            run in proptest::option::of((0_u32..16_384, 1_u32..9_000)),
        ) {
            let mut bitmap: RoaringBitmap = slots.into_iter().collect();
            if let Some((start, length)) = run {
                bitmap.insert_range(start..(start + length).min(16_384));
            }
            let bytes = encode(&bitmap, 16_384);
            prop_assert!(bytes.len() <= 2_049);
            prop_assert_eq!(decode(&bytes, 16_384).unwrap(), bitmap.clone());
            let mut set = ChunkSet::new();
            unite(&bytes, 16_384, &mut set).unwrap();
            prop_assert_eq!(set.to_bitmap(), bitmap);
        }

        #[test]
        fn damaged_bitmaps_never_panic(tag in 0_u8..5, body: Vec<u8>, chunk_slots in 1_u32..16_385) {
            let bytes = [&[tag], &body[..]].concat();
            if let Ok(bitmap) = decode(&bytes, chunk_slots) {
                prop_assert!(bitmap.max().is_none_or(|last| last < chunk_slots));
                let mut set = ChunkSet::new();
                unite(&bytes, chunk_slots, &mut set).unwrap();
                prop_assert_eq!(set.to_bitmap(), bitmap);
            }
        }
    }

    #[test]
    fn a_slot_outside_of_the_chunk_or_a_wrong_length_is_damage_in_each_form() {
        let slots = |bytes: &[u8]| decode(bytes, 13).map(|bitmap| bitmap.iter().collect::<Vec<_>>());
        assert_eq!(slots(&[TAG_ARRAY, 0, 0, 12, 0]).unwrap(), [0, 12]);
        assert_eq!(slots(&[TAG_BITS, 0b1, 0b1_0000]).unwrap(), [0, 12]);
        assert_eq!(slots(&[TAG_RUNS, 10, 0, 2, 0]).unwrap(), [10, 11, 12]);
        let damaged: [&[u8]; 11] = [
            &[],
            &[0],
            &[TAG_ARRAY, 13, 0],
            &[TAG_ARRAY, 1, 0, 1, 0],
            &[TAG_ARRAY, 2, 0, 1, 0],
            &[TAG_ARRAY, 1],
            &[TAG_BITS, 0b1, 0b10_0000],
            &[TAG_BITS, 0b1],
            &[TAG_BITS, 0b1, 0b1, 0],
            &[TAG_RUNS, 10, 0, 3, 0],
            &[TAG_RUNS, 10, 0, 2],
        ];
        for bytes in damaged {
            let error = slots(bytes).unwrap_err();
            assert!(error.to_string().contains("bitmap") && error.kind() == ErrorKind::Corrupt, "{bytes:?}");
        }
    }

    #[test]
    fn each_form_is_chosen_where_it_is_smallest() {
        let sparse: RoaringBitmap = (0..16_384).step_by(100).collect();
        let dense: RoaringBitmap = (0..16_384).step_by(2).collect();
        let full: RoaringBitmap = (0..16_384).collect();
        assert_eq!(encode(&sparse, 16_384)[0], TAG_ARRAY);
        assert_eq!(encode(&dense, 16_384)[0], TAG_BITS);
        assert_eq!(encode(&full, 16_384), [TAG_RUNS, 0, 0, 0xff, 0x3f]);
    }
}
