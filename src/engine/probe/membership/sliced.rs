//! Bit-sliced filters: the membership filters of a group of segments, asked with one look.
//!
//! Each probe of a Bloom filter is a cache miss, and a check of many segments waits for one after another. Where filters are
//! equally long, a fingerprint probes the same bits in each. Laid side by side, those bits are a byte; the bytes of all
//! probes, combined by "and", say which segments may have the fingerprint: four misses for eight segments, all at once. Such
//! an index is a bit-sliced signature file; BIGSI is one over Bloom filters (Bradley et al., "Ultrafast search of all
//! deposited bacterial and viral genomic data", 2019).
//!
//! Owns: which segments are a group, and the copying of their stored filters, a block with each question. Always holds: of
//! its members a group answers what their own filters would. A sealed segment's filter never changes; a segment that is
//! rebuilt gets another group.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::{LOAD_AFTER_QUESTIONS, WORDS_PER_BLOCK, probes, words_of};
use crate::engine::format::fingerprint::low_half;
use crate::engine::format::schema::{Fingerprint, SegmentNumber};
use crate::error::Result;

/// How many segments a group has: as many as a byte has bits.
const SEGMENTS: SegmentNumber = 8;
const LANES: usize = SEGMENTS as usize;
const WORD_BITS: usize = 64;
/// The filters of fewer take less memory one by one.
pub(crate) const MEMBERS_MIN: usize = 4;

/// A group of segments: those whose numbers have the same quotient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group(SegmentNumber);

impl Group {
    pub(crate) fn of(segment: SegmentNumber) -> Self {
        Self(segment / SEGMENTS)
    }
}

/// A segment's place in its group.
fn lane(segment: SegmentNumber) -> usize {
    (segment % SEGMENTS) as usize
}

/// A block of a segment's stored filter.
pub(crate) struct Block {
    pub(crate) segment: SegmentNumber,
    pub(crate) bytes: Vec<u8>,
}

/// The filters of a group; shared by its segments, and by the states of many commits.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlicedFilters(Arc<Cell>);

#[derive(Debug, Default)]
struct Cell {
    /// How often the group was asked before it was whole.
    asked: AtomicU32,
    /// Readers take turns.
    copying: Mutex<Option<Copying>>,
    whole: OnceLock<Sliced>,
    /// The filters cannot be laid side by side.
    is_hopeless: AtomicBool,
}

#[derive(Debug)]
struct Copying {
    /// How many words each filter has.
    words: usize,
    copied: Sliced,
    /// How many of the blocks are copied.
    blocks: u32,
}

#[derive(Debug, Default)]
struct Sliced {
    /// One for each bit of a filter, with a bit for each segment.
    bytes: Vec<u8>,
    /// The bits that belong to a segment.
    members: u8,
}

/// What a group knows of a fingerprint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    members: u8,
    may_contain: u8,
}

impl Answer {
    /// Whether a segment of the group may have it; none if the group was copied without that segment.
    pub(crate) fn of(self, segment: SegmentNumber) -> Option<bool> {
        let bit = 1 << lane(segment);
        (self.members & bit != 0).then_some(self.may_contain & bit != 0)
    }
}

impl SlicedFilters {
    pub(crate) fn is_whole(&self) -> bool {
        self.0.whole.get().is_some()
    }

    /// None unless the group is whole.
    pub(crate) fn ask(&self, fingerprint: Fingerprint) -> Option<Answer> {
        let sliced = self.0.whole.get()?;
        Some(Answer { members: sliced.members, may_contain: sliced.ask(fingerprint) })
    }

    /// Reads the memory that [`ask`](Self::ask) will read for these fingerprints, so that they wait for it together.
    pub(crate) fn prefetch(&self, fingerprints: impl Iterator<Item = Fingerprint>) {
        if let Some(sliced) = self.0.whole.get() {
            black_box(fingerprints.fold(0, |all, fingerprint| all | sliced.ask(fingerprint)));
        }
    }

    /// Counts a question to the group, and after enough of them copies a block of each filter: `read` reads it. Whether that
    /// is under way: if not, the filters must be asked one by one.
    ///
    /// Before it counts as whole, `is_right` asks it for what its segments are known to have. No filter has more than `words_max`
    /// words.
    pub(crate) fn grow(
        &self,
        words_max: usize,
        read: impl FnOnce(u32) -> Result<Vec<Block>>,
        is_right: impl FnOnce(&dyn Fn(SegmentNumber, Fingerprint) -> bool) -> Result<bool>,
    ) -> Result<bool> {
        if self.0.is_hopeless.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if self.0.asked.fetch_add(1, Ordering::Relaxed) < LOAD_AFTER_QUESTIONS {
            return Ok(true);
        }
        let Some(mut copying) = self.0.copying.try_lock() else { return Ok(true) };
        if self.is_whole() {
            return Ok(true);
        }
        let next = copying.as_ref().map_or(0, |copying| copying.blocks);
        let blocks = read(next)?;
        let is_good = match &mut *copying {
            None => {
                *copying = Copying::begun(&blocks, words_max);
                copying.is_some()
            }
            Some(copying) => copying.copy(&blocks),
        };
        let is_done = copying.as_ref().is_some_and(Copying::is_done);
        if is_done && let Some(Copying { copied, .. }) = copying.take() {
            let knows = |segment, fingerprint| copied.ask(fingerprint) & (1 << lane(segment)) != 0;
            if is_right(&knows)? {
                self.0.whole.get_or_init(|| copied);
                return Ok(true);
            }
        } else if is_good {
            return Ok(true);
        }
        *copying = None;
        self.0.is_hopeless.store(true, Ordering::Relaxed);
        Ok(false)
    }

    /// How many bytes of memory a segment's share takes, once the group is whole.
    pub(crate) fn memory_of(&self, segment: SegmentNumber) -> usize {
        let Some(sliced) = self.0.whole.get() else { return 0 };
        let is_member = sliced.members & (1 << lane(segment)) != 0;
        if is_member { sliced.bytes.len() / sliced.members.count_ones() as usize } else { 0 }
    }
}

impl Copying {
    /// From the first blocks: they say how long the filters are.
    fn begun(blocks: &[Block], words_max: usize) -> Option<Self> {
        let lengths: Vec<Option<usize>> = blocks.iter().map(|block| words_of(&block.bytes)).collect();
        let words = (*lengths.first()?)?;
        if words == 0 || words > words_max || lengths.iter().any(|length| *length != Some(words)) {
            return None;
        }
        let members = blocks.iter().fold(0, |members, block| members | 1 << lane(block.segment));
        Some(Self {
            words,
            copied: Sliced { bytes: Vec::with_capacity(words * WORD_BITS), members },
            blocks: 1,
        })
    }

    /// Lays the next blocks of all members side by side; if they are not what they should be, it does nothing.
    fn copy(&mut self, blocks: &[Block]) -> bool {
        let left = self.words - self.copied.bytes.len() / WORD_BITS;
        let wanted = left.min(WORDS_PER_BLOCK);
        if wanted == 0 {
            return false;
        }
        let mut members = 0;
        let mut words = vec![[0; LANES]; wanted];
        for Block { segment, bytes } in blocks {
            members |= 1 << lane(*segment);
            if bytes.len() != wanted * 8 {
                return false;
            }
            for (row, word) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                if let Some(place) = row.get_mut(lane(*segment)) {
                    *place = u64::from_le_bytes(*word);
                }
            }
        }
        for row in words {
            self.copied.bytes.extend_from_slice(side_by_side(row).as_flattened());
        }
        self.blocks += 1;
        members == self.copied.members
    }

    fn is_done(&self) -> bool {
        self.copied.bytes.len() >= self.words * WORD_BITS
    }
}

impl Sliced {
    /// The segments that may have the fingerprint: a bit each.
    fn ask(&self, fingerprint: Fingerprint) -> u8 {
        let byte = |bit: usize| self.bytes.get(bit).copied().unwrap_or(u8::MAX);
        probes(low_half(fingerprint), self.bytes.len()).into_iter().fold(u8::MAX, |all, bit| all & byte(bit))
    }
}

/// From a word of each of eight filters, a byte for each of its bits.
fn side_by_side(words: [u64; LANES]) -> [[u8; 8]; WORD_BITS / 8] {
    let words = words.map(u64::to_le_bytes);
    std::array::from_fn(|place| {
        let square = words.map(|bytes| bytes.get(place).copied().unwrap_or_default());
        transposed(u64::from_le_bytes(square)).to_le_bytes()
    })
}

/// Transposes a square of eight by eight bits (Warren, "Hacker's Delight", 2nd edition, 7-3).
fn transposed(square: u64) -> u64 {
    let swap = |square: u64, distance: u32, mask: u64| {
        let other = (square ^ (square >> distance)) & mask;
        square ^ other ^ (other << distance)
    };
    let square = swap(square, 7, 0x00aa_00aa_00aa_00aa);
    let square = swap(square, 14, 0x0000_cccc_0000_cccc);
    swap(square, 28, 0x0000_0000_f0f0_f0f0)
}

#[cfg(test)]
mod tests {
    use super::super::Filter;
    use super::*;
    use crate::engine::format::fingerprint::HashKey;

    const SLOTS: u32 = 10_000;

    fn fingerprint(number: u32) -> Fingerprint {
        HashKey::new(*b"0123456789abcdef").fingerprint(1.into(), &number.to_string())
    }

    /// The filter of a segment, which has the fingerprints of its own range of numbers.
    fn filter(segment: SegmentNumber) -> Filter {
        let mut filter = Filter::for_segment_of(SLOTS);
        (segment * SLOTS..(segment + 1) * SLOTS).for_each(|number| filter.insert(fingerprint(number)));
        filter
    }

    /// Asks until the group is whole; none if it is hopeless.
    fn grown(blocks: &[(SegmentNumber, Vec<Vec<u8>>)]) -> Option<SlicedFilters> {
        let sliced = SlicedFilters::default();
        let read = |number: u32| {
            let block = |(segment, blocks): &(SegmentNumber, Vec<Vec<u8>>)| Block {
                segment: *segment,
                bytes: blocks.get(number as usize).cloned().unwrap_or_default(),
            };
            Ok(blocks.iter().map(block).collect())
        };
        for _ in 0..LOAD_AFTER_QUESTIONS + 10 {
            assert!(sliced.ask(0).is_none());
            let is_right = |knows: &dyn Fn(SegmentNumber, Fingerprint) -> bool| {
                Ok(blocks.iter().all(|(segment, _)| knows(*segment, fingerprint(segment * SLOTS))))
            };
            if !sliced.grow(super::super::words_for(SLOTS), read, is_right).unwrap() {
                assert!(!sliced.grow(usize::MAX, |_| panic!("it is hopeless"), |_| Ok(true)).unwrap());
                return None;
            }
            if sliced.is_whole() {
                return Some(sliced);
            }
        }
        panic!("the group is not whole after {} blocks", LOAD_AFTER_QUESTIONS + 10);
    }

    fn blocks_of(segments: &[SegmentNumber]) -> Vec<(SegmentNumber, Vec<Vec<u8>>)> {
        segments.iter().map(|segment| (*segment, filter(*segment).to_blocks())).collect()
    }

    #[test]
    fn a_group_answers_for_each_member_what_its_filter_would() {
        for segments in [&[8, 9, 10, 11, 12, 13, 14, 15][..], &[8, 10, 13, 15]] {
            let sliced = grown(&blocks_of(segments)).unwrap();
            let filters: Vec<_> = segments.iter().map(|segment| (*segment, filter(*segment))).collect();
            for number in (0..20 * SLOTS).step_by(7) {
                let answer = sliced.ask(fingerprint(number)).unwrap();
                for (segment, filter) in &filters {
                    assert_eq!(
                        answer.of(*segment),
                        Some(filter.may_contain(fingerprint(number))),
                        "{number}"
                    );
                }
                assert_eq!(answer.of(9).is_some(), segments.contains(&9));
            }
            let memory: usize = segments.iter().map(|segment| sliced.memory_of(*segment)).sum();
            assert_eq!(memory, filters.first().unwrap().1.to_blocks().concat()[4..].len() * LANES);
        }
    }

    #[test]
    fn filters_that_cannot_lie_side_by_side_are_given_up() {
        let good = blocks_of(&[0, 1, 2, 3]);
        assert!(grown(&good).is_some());
        let mut longer = good.clone();
        longer[2].1 = Filter::for_segment_of(SLOTS + 64).to_blocks();
        assert!(grown(&longer).is_none());
        let mut huge = good.clone();
        for (_, blocks) in &mut huge {
            blocks[0] = u32::MAX.to_le_bytes().to_vec();
        }
        assert!(grown(&huge).is_none());
        let mut cut = good.clone();
        cut[1].1.pop();
        assert!(grown(&cut).is_none());
        let mut shorter = good.clone();
        for (_, blocks) in &mut shorter {
            let body = blocks.split_off(1).concat();
            blocks.extend(body.chunks(500 * 8).map(<[u8]>::to_vec));
        }
        assert!(grown(&shorter).is_none());
        let mut without_head = good.clone();
        without_head[0].1[0].clear();
        assert!(grown(&without_head).is_none());
        // It does not know what its segment has.
        let mut wrong = good;
        wrong[3].1 = filter(7).to_blocks();
        assert!(grown(&wrong).is_none());
    }
}
