//! Membership filters of sealed segments: whether a fingerprint may be in a segment at all.
//!
//! Owns: the filter and its form on disk. A Bloom filter (fastbloom), 16 bits and 4 probes a fingerprint:
//! 0.24 % false positives, 7 ns a question. It was chosen over a binary fuse filter (xorf: 0.39 %, 7 ns, half
//! of the size) because it can be built piece by piece, a slice per commit, where the other one takes
//! 63 ms at once for 2^20 fingerprints.
//!
//! Layout: block 0 is a u32, little-endian, the number of 64-bit words; each further block is 508 words, little-endian, the
//! last one what is left. Always holds: a filter that does not know a fingerprint of its own segment is not used (see
//! [`Filter::knows_all`]): its crate then probes other bits than the one that wrote it.

mod blocked;
pub(crate) mod sliced;
pub(crate) mod union;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use fastbloom::BloomFilter;
use redb::WriteTransaction;

use crate::engine::format::fingerprint::low_half;
use crate::engine::format::schema::{self, BLOCK_MAX_BYTES, Fingerprint, SegmentNumber};
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use crate::ids::PoolId;

const BITS_PER_FINGERPRINT: usize = 16;
const PROBES: u32 = 4;
/// After so many questions to a segment its filter is loaded: 3 ms for 2^20 fingerprints, as much as some hundred
/// questions to the table. Without this the first check of a pool of ten segments took 30 ms for their filters.
const LOAD_AFTER_QUESTIONS: u32 = 32;
const WORDS_PER_BLOCK: usize = BLOCK_MAX_BYTES / 8;

/// The filter of one segment.
#[derive(Debug, Clone)]
pub(crate) struct Filter(BloomFilter);

impl Filter {
    pub(crate) fn for_segment_of(slots: u32) -> Self {
        // The seed plays no part: only hashes are inserted, never values to be hashed.
        Self(BloomFilter::with_num_bits(words_for(slots) * 64).seed(&0).hashes(PROBES))
    }

    pub(crate) fn insert(&mut self, fingerprint: Fingerprint) {
        self.0.insert_hash(low_half(fingerprint));
    }

    #[inline]
    pub(crate) fn may_contain(&self, fingerprint: Fingerprint) -> bool {
        self.0.contains_hash(low_half(fingerprint))
    }

    /// Whether it knows each of some fingerprints that are in the segment.
    pub(crate) fn knows_all(&self, members: &[Fingerprint]) -> bool {
        members.iter().all(|member| self.may_contain(*member))
    }

    /// The blocks that are stored, block 0 first.
    pub(crate) fn to_blocks(&self) -> Vec<Vec<u8>> {
        let words = self.0.as_slice();
        let count = u32::try_from(words.len()).unwrap_or(u32::MAX);
        let mut blocks = vec![count.to_le_bytes().to_vec()];
        let block = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        blocks.extend(words.chunks(WORDS_PER_BLOCK).map(block));
        blocks
    }

    /// The filter from its blocks; none if they are not whole.
    pub(crate) fn from_blocks(blocks: &[Vec<u8>]) -> Option<Self> {
        let (head, body) = blocks.split_first()?;
        let count = words_of(head)?;
        let (_, full) = body.split_last()?;
        if full.iter().any(|block| block.len() != WORDS_PER_BLOCK * 8) {
            return None;
        }
        let words: Vec<u64> = body
            .iter()
            .flat_map(|block| block.as_chunks::<8>().0)
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        (words.len() == count && count > 0)
            .then(|| Self(BloomFilter::from_vec(words).seed(&0).hashes(PROBES)))
    }
}

/// Stores the filter of a segment, or of one of its runs.
pub(crate) fn store_filter(
    txn: &WriteTransaction,
    pool: PoolId,
    segment: SegmentNumber,
    run: Option<u32>,
    filter: &Filter,
) -> Result<()> {
    let mut table = txn.open_table(schema::MEMBERSHIP).storage()?;
    for (number, block) in schema::filter_blocks(run).zip(filter.to_blocks()) {
        table.insert((pool, segment, number), block.as_slice()).storage()?;
    }
    Ok(())
}

/// How many words a filter of so many fingerprints has.
pub(crate) fn words_for(slots: u32) -> usize {
    ((slots as usize).max(64) * BITS_PER_FINGERPRINT).div_ceil(64)
}

/// How many words block 0 says that follow; none if it is no block 0.
fn words_of(head: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(head.try_into().ok()?) as usize)
}

/// The bits that a filter of so many bits probes for a hash: what fastbloom does.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the high half of the product is below the number of bits"
)]
fn probes(hash: u64, bits: usize) -> [usize; PROBES as usize] {
    let step = hash.wrapping_mul(0x517c_c1b7_2722_0a95);
    let mut hash = hash;
    std::array::from_fn(|probe| {
        if probe > 0 {
            hash = hash.rotate_left(5).wrapping_add(step);
        }
        ((u128::from(hash) * bits as u128) >> 64) as usize
    })
}

/// Where a segment's filter is kept once it is loaded or built; shared by the states of many commits.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilterCell {
    is_stored: bool,
    filter: Arc<OnceLock<Option<Filter>>>,
    /// How often the segment was asked before its filter was loaded.
    asked: Arc<AtomicU32>,
}

impl FilterCell {
    /// A filter that was just built and stored.
    pub(crate) fn ready(filter: Filter) -> Self {
        Self { is_stored: true, filter: Arc::new(OnceLock::from(Some(filter))), ..Self::default() }
    }

    /// A filter that is on disk and is loaded when first asked.
    pub(crate) fn stored() -> Self {
        Self { is_stored: true, ..Self::default() }
    }

    /// Whether the segment's filter is on disk.
    pub(crate) fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// Whether the filter takes memory of its own.
    pub(crate) fn is_loaded(&self) -> bool {
        self.filter.get().is_some()
    }

    /// Counts a question to a filter that is not loaded. Whether there were enough of them to load it.
    pub(crate) fn is_worth_loading(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= LOAD_AFTER_QUESTIONS
    }

    /// How many bytes of memory it takes, once it is loaded.
    pub(crate) fn memory(&self) -> usize {
        self.filter.get().and_then(Option::as_ref).map_or(0, |filter| filter.0.num_bits() / 8)
    }

    /// Whether the filter, if it is in memory, says that the segment has no such fingerprint.
    pub(crate) fn rules_out(&self, fingerprint: Fingerprint) -> bool {
        let filter = self.filter.get().and_then(Option::as_ref);
        filter.is_some_and(|filter| !filter.may_contain(fingerprint))
    }

    /// The filter; none if the segment has none that can be used.
    #[inline]
    pub(crate) fn get_or_load(
        &self,
        load: impl FnOnce() -> Result<Option<Filter>>,
    ) -> Result<Option<&Filter>> {
        if let Some(filter) = self.filter.get() {
            return Ok(filter.as_ref());
        }
        let filter = load()?;
        Ok(self.filter.get_or_init(|| filter).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprints(count: u64) -> Vec<Fingerprint> {
        let mix = |n: u64| {
            u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 17
                | u128::from(n.wrapping_mul(0xd1b5_4a32_d192_ed03))
        };
        (1..=count).map(mix).collect()
    }

    #[test]
    fn a_filter_reads_back_and_knows_its_members() {
        let members = fingerprints(5_000);
        let mut filter = Filter::for_segment_of(5_000);
        for member in &members {
            filter.insert(*member);
        }
        let blocks = filter.to_blocks();
        assert!(blocks.iter().all(|block| block.len() <= BLOCK_MAX_BYTES));
        let read = Filter::from_blocks(&blocks).unwrap();
        assert!(read.knows_all(&members));
        assert!(Filter::from_blocks(&blocks[..blocks.len() - 1]).is_none());
        let wrong =
            fingerprints(25_000).split_off(5_000).iter().filter(|other| read.may_contain(**other)).count();
        assert!(wrong < 20_000 / 200, "{wrong} false positives of 20,000");
    }

    /// A stored filter must answer the same in every later version. This one is small: 12 bits a fingerprint.
    #[test]
    fn the_probing_is_frozen() {
        let mut filter = Filter(BloomFilter::with_num_bits(12 * 64).seed(&0).hashes(PROBES));
        for member in fingerprints(8) {
            filter.insert(member);
        }
        let words = filter.0.as_slice().to_vec();
        assert_eq!(words, FROZEN_WORDS);
    }

    const FROZEN_WORDS: [u64; 12] = [
        2_306_968_909_120_536_576,
        288_230_651_031_715_840,
        4_429_185_026,
        4_576_167_394_807_808,
        68_719_476_744,
        16,
        4_398_080_065_536,
        2_201_170_739_200,
        2_251_799_816_044_544,
        140_737_488_355_840,
        36_028_797_018_972_800,
        5_764_607_523_168_452_608,
    ];
}
