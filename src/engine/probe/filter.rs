//! Blocked Bloom filters: all probes for a fingerprint are in one cache line.
//!
//! They follow Putze, Sanders and Singler, "Cache-, hash- and space-efficient Bloom filters" (2007). The line
//! of a fingerprint and four of its eight bits depend on the value alone. The other four bits depend on the
//! entity type, too. So one filter can be asked for a value within an entity type (false positive rate 1 in
//! 800) and for a value within any entity type (1 in 30).
//!
//! Layout: a piece of a filter is a sequence of lines of eight 64-bit words, little-endian. Lines are in the
//! order of fingerprints, so a merge writes them from first to last. The probing is part of the file format.

use crate::backend::fingerprint::{Fingerprint, VALUE_BITS, value_part};

pub(crate) const BITS_PER_ENTRY: u64 = 14;
pub(crate) const LINE_BITS: u64 = 512;
pub(crate) const LINE_BYTES: usize = 64;
const LINE_WORDS: usize = 8;
const PROBES: usize = 4;
/// The number of bits in a probe, which selects one bit of a line.
const PROBE_BITS: usize = 9;

/// One cache line of a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Line([u64; LINE_WORDS]);

/// A query to filters, prepared once for all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// The bits of the fingerprint that depend on the value alone.
    pub(crate) value: u64,
    /// The probes for the value, nine bits each.
    by_value: u64,
    /// The probes for the value and the entity type; `None` if any entity type will do.
    by_both: Option<u64>,
}

impl Question {
    /// Asks for a value within an entity type.
    ///
    /// Also accepts entries of tables, whose fingerprints lack the low 32 bits.
    #[allow(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    pub(crate) fn of(fingerprint: Fingerprint) -> Self {
        Self { by_both: Some((fingerprint >> 32) as u64), ..Self::of_value(fingerprint) }
    }

    /// Asks for a value within any entity type.
    pub(crate) fn of_value(fingerprint: Fingerprint) -> Self {
        let value = value_part(fingerprint);
        // The line is chosen by the high bits. The multiplication moves the low bits up.
        let by_value =
            value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS as usize - PROBES * PROBE_BITS);
        Self { value, by_value, by_both: None }
    }
}

/// Returns the index of a word of a line, and a bit in it, for a probe.
fn place(probes: u64, number: usize) -> (usize, u64) {
    let bits = probes >> (number * PROBE_BITS);
    ((bits >> 6) as usize % LINE_WORDS, 1 << (bits % 64))
}

impl Line {
    pub(crate) fn insert(&mut self, question: &Question) {
        for probes in std::iter::once(question.by_value).chain(question.by_both) {
            for number in 0..PROBES {
                let (word, bit) = place(probes, number);
                if let Some(word) = self.0.get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }

    /// Returns any part of the line, to make the processor fetch the whole line.
    #[inline]
    pub(crate) fn first_word(&self) -> u64 {
        let [first, ..] = self.0;
        first
    }

    #[inline]
    pub(crate) fn may_contain(&self, question: &Question) -> bool {
        let has = |probes: u64| {
            (0..PROBES).all(|number| {
                let (word, bit) = place(probes, number);
                self.0.get(word).is_none_or(|word| word & bit != 0)
            })
        };
        question.by_both.is_none_or(has) && has(question.by_value)
    }

    pub(crate) fn to_bytes(self) -> [u8; LINE_BYTES] {
        let mut bytes = [0; LINE_BYTES];
        for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn of_bytes(bytes: &[u8; LINE_BYTES]) -> Self {
        let mut line = Self::default();
        for (word, bytes) in line.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        line
    }
}

/// Scales `value` from the range of all values to a number below `of`. Returns that number and the remaining
/// fraction in units of 2^-48.
#[allow(clippy::cast_possible_truncation, reason = "the product is below `of` times 2^48")]
pub(crate) fn scaled(value: u64, of: u64) -> (u64, u64) {
    let product = u128::from(value) * u128::from(of);
    ((product >> VALUE_BITS) as u64, product as u64 & ((1 << VALUE_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fingerprint::HashKey;

    fn fingerprint(value: u32, entity_type: u32) -> Fingerprint {
        HashKey::new(*b"0123456789abcdef").fingerprint(entity_type.into(), &value.to_string())
    }

    fn filled(lines: u64, values: u32) -> Vec<Line> {
        let mut filter = vec![Line::default(); usize::try_from(lines).unwrap()];
        for value in 0..values {
            let question = Question::of(fingerprint(value, 37));
            filter[usize::try_from(scaled(question.value, lines).0).unwrap()].insert(&question);
        }
        filter
    }

    fn passes(filter: &[Line], question: &Question) -> bool {
        filter[usize::try_from(scaled(question.value, filter.len() as u64).0).unwrap()].may_contain(question)
    }

    #[test]
    fn it_knows_its_members_and_few_others() {
        const VALUES: u32 = 50_000;
        let filter = filled(u64::from(VALUES) * BITS_PER_ENTRY / LINE_BITS, VALUES);
        let of = |value| Question::of(fingerprint(value, 37));
        let of_value = |value| Question::of_value(fingerprint(value, 0));
        assert!((0..VALUES).all(|value| passes(&filter, &of(value)) && passes(&filter, &of_value(value))));
        let wrong = |question: &dyn Fn(u32) -> Question| {
            (VALUES..3 * VALUES).filter(|value| passes(&filter, &question(*value))).count()
        };
        let (exact, any_type) = (wrong(&of), wrong(&of_value));
        assert!(exact < 300 && any_type < 6_000, "{exact} and {any_type} of 100,000");
        // The same values within another entity type already have half of their bits set.
        let others =
            (0..VALUES).filter(|value| passes(&filter, &Question::of(fingerprint(*value, 47)))).count();
        assert!(others < 3_000, "{others} of 50,000");
    }

    /// Every later version must get the same answers from a stored filter.
    #[test]
    fn the_probing_is_frozen() {
        let line = filled(1, 8)[0];
        assert_eq!(Line::of_bytes(&line.to_bytes()), line);
        assert_eq!(line.0, FROZEN_WORDS);
    }

    const FROZEN_WORDS: [u64; 8] = [
        9_223_372_209_066_082_305,
        18_023_194_602_504_321,
        9_547_631_244_934_922_498,
        36_028_797_019_226_176,
        2_882_567_652_900_143_121,
        5_068_198_854_557_698,
        141_868_177_408,
        2_305_843_009_215_014_912,
    ];
}
