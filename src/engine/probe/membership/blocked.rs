//! A Bloom filter whose probes for a fingerprint all lie in one cache line.
//!
//! After Putze, Sanders and Singler, "Cache-, hash- and space-efficient Bloom filters" (2007). One miss a question, where the
//! filters of segments (fastbloom) have up to four; at the same 12 bits a fingerprint one absent value in 150 is taken for
//! a present one, too. It is only ever in memory, so that it may change with each version.

use crate::engine::format::fingerprint::low_half;
use crate::engine::format::schema::Fingerprint;

const BITS_PER_FINGERPRINT: u64 = 12;
const PROBES: usize = 6;
const WORD_BITS: u32 = u64::BITS;
const LINE_WORDS: usize = 8;
/// A probe names one of the 512 bits of a line.
const PROBE_BITS: usize = 9;
/// So many lines belong together: a power of two, of which the number of lines is a multiple.
const CLOSE_LINES: usize = 16;

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; LINE_WORDS]);

#[derive(Debug)]
pub(crate) struct BlockedFilter(Vec<Line>);

impl BlockedFilter {
    /// For so many fingerprints.
    pub(crate) fn with_capacity(fingerprints: u64) -> Self {
        let line_bits = u64::from(WORD_BITS) * LINE_WORDS as u64;
        let lines = fingerprints.saturating_mul(BITS_PER_FINGERPRINT).div_ceil(line_bits).max(1);
        let lines = usize::try_from(lines).unwrap_or(usize::MAX).next_multiple_of(CLOSE_LINES);
        Self(vec![Line::default(); lines])
    }

    pub(crate) fn insert(&mut self, fingerprint: Fingerprint) {
        let place = self.place(fingerprint);
        let Some(Line(words)) = self.0.get_mut(place) else { return };
        for (word, bit) in probes(fingerprint) {
            if let Some(word) = words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    pub(crate) fn may_contain(&self, fingerprint: Fingerprint) -> bool {
        let Some(Line(words)) = self.0.get(self.place(fingerprint)) else { return true };
        probes(fingerprint).into_iter().all(|(word, bit)| words.get(word).is_none_or(|word| word & bit != 0))
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }

    /// The fingerprint's line. Fingerprints that follow each other have lines that are close, so that those of a table are
    /// inserted as fast as memory is read in order; the entity types of one value, whose high bits are the same, are spread over
    /// some lines.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the high half of the product is below the number of lines"
    )]
    fn place(&self, fingerprint: Fingerprint) -> usize {
        let close = (((fingerprint >> 64) * self.0.len() as u128) >> 64) as usize;
        let among = (low_half(fingerprint) >> (PROBES * PROBE_BITS)) as usize % CLOSE_LINES;
        close ^ among
    }
}

/// The bits of its line that stand for a fingerprint, by its low half: words and what they have set.
fn probes(fingerprint: Fingerprint) -> [(usize, u64); PROBES] {
    let low = low_half(fingerprint);
    std::array::from_fn(|probe| {
        let bits = low >> (probe * PROBE_BITS);
        ((bits >> 6) as usize % LINE_WORDS, 1 << (bits % u64::from(WORD_BITS)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::fingerprint::HashKey;

    #[test]
    fn it_knows_its_members_and_few_others() {
        let key = HashKey::new(*b"0123456789abcdef");
        let fingerprint = |number: u32| key.fingerprint((number % 3).into(), &number.to_string());
        for count in [1, 100, 20_000] {
            let mut filter = BlockedFilter::with_capacity(u64::from(count));
            assert!(!filter.may_contain(fingerprint(0)));
            (0..count).for_each(|number| filter.insert(fingerprint(number)));
            assert!((0..count).all(|number| filter.may_contain(fingerprint(number))));
            let wrong = (count..count + 100_000).filter(|number| filter.may_contain(fingerprint(*number)));
            let wrong = wrong.count();
            assert!(wrong < 1_000, "{wrong} of 100,000, beside {count}");
        }
    }

    /// All of them have the same high bits.
    #[test]
    fn it_tells_the_entity_types_of_one_value_apart() {
        let key = HashKey::new(*b"0123456789abcdef");
        let fingerprint =
            |value: u32, entity_type: u32| key.fingerprint(entity_type.into(), &value.to_string());
        let all = |types: std::ops::Range<u32>| {
            (0..500)
                .flat_map(move |value| types.clone().map(move |entity_type| fingerprint(value, entity_type)))
        };
        let mut filter = BlockedFilter::with_capacity(500 * 40);
        all(0..40).for_each(|member| filter.insert(member));
        assert!(all(0..40).all(|member| filter.may_contain(member)));
        let wrong = all(40..240).filter(|other| filter.may_contain(*other)).count();
        assert!(wrong < 1_000, "{wrong} of 100,000");
    }
}
