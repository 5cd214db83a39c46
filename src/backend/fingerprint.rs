//! Fingerprints: 128-bit hashes of an entity type and a value.
//!
//! Owns: the hash. Always holds: the high 48 bits depend on the value alone, so one row of a table of
//! fingerprints holds every entity type of a value. The low 80 bits depend on both. The key is secret, so
//! nobody who supplies values can construct a collision. With 2^32 records, the probability of any collision
//! is below 2^-40.
//!
//! The hash is SipHash-1-3 with 128 bits of output, keyed, as described by Jean-Philippe Aumasson and Daniel
//! J. Bernstein ("`SipHash`: a fast short-input PRF"). It is computed first over the value, then over that
//! digest and the entity type.

use std::hash::Hasher;
use std::ops::RangeInclusive;

use siphasher::sip128::SipHasher13;

use crate::ids::EntityTypeId;

/// A 128-bit hash of an entity type and a value.
pub(crate) type Fingerprint = u128;

/// The number of high bits that depend on the value alone.
pub(crate) const VALUE_BITS: u32 = 48;
const REST_BITS: u32 = 128 - VALUE_BITS;
const REST_MASK: u128 = (1 << REST_BITS) - 1;

/// The secret hash key of a store, ready for use.
#[derive(Clone)]
pub(crate) struct HashKey {
    value: SipHasher13,
    pair: SipHasher13,
}

impl std::fmt::Debug for HashKey {
    /// Never prints the key, because it is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl HashKey {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        let mut pair_key = key;
        // The second hash has a different key, so its input can never be mistaken for a value.
        for byte in &mut pair_key {
            *byte ^= 0x5c;
        }
        Self { value: SipHasher13::new_with_key(&key), pair: SipHasher13::new_with_key(&pair_key) }
    }

    fn digest(&self, value: &str) -> u128 {
        self.value.hash(value.as_bytes()).as_u128()
    }

    /// Returns the fingerprint of a value within an entity type.
    pub(crate) fn fingerprint(&self, entity_type: EntityTypeId, value: &str) -> Fingerprint {
        let digest = self.digest(value);
        let mut input = [0; 20];
        let (head, tail) = input.split_at_mut(16);
        head.copy_from_slice(&digest.to_le_bytes());
        tail.copy_from_slice(&entity_type.get().to_le_bytes());
        let rest = self.pair.hash(&input).as_u128() & REST_MASK;
        (digest >> REST_BITS << REST_BITS) | rest
    }

    /// Returns the fingerprint of a value without an entity type. Only its value part is meaningful.
    pub(crate) fn of_value(&self, value: &str) -> Fingerprint {
        self.digest(value) >> REST_BITS << REST_BITS
    }

    /// Returns the range of the fingerprints of a value with any entity type.
    pub(crate) fn range_of_value(&self, value: &str) -> RangeInclusive<Fingerprint> {
        let first = self.of_value(value);
        first..=first | ((1 << REST_BITS) - 1)
    }
}

/// Returns the bits of a fingerprint that depend on the value alone.
#[allow(clippy::cast_possible_truncation, reason = "48 bits")]
pub(crate) fn value_part(fingerprint: Fingerprint) -> u64 {
    (fingerprint >> REST_BITS) as u64
}

/// Returns the bits of a fingerprint that depend on the value and the entity type.
#[allow(clippy::cast_possible_truncation, reason = "the low half is wanted")]
pub(crate) fn low_half(fingerprint: Fingerprint) -> u64 {
    fingerprint as u64
}

/// A hasher for maps whose keys are already random: fingerprints or hashes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = low_half(fingerprint);
    }
}

/// Builds [`FingerprintHasher`]s.
pub(crate) type BuildFingerprintHasher = std::hash::BuildHasherDefault<FingerprintHasher>;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every later version must find stored fingerprints, so the hash is part of the file format.
    #[test]
    fn the_hash_is_frozen() {
        let key = HashKey::new(*b"0123456789abcdef");
        let orders = key.fingerprint(EntityTypeId::new(37), "A-1");
        let customers = key.fingerprint(EntityTypeId::new(47), "A-1");
        assert_eq!(orders, FROZEN_ORDERS);
        assert_eq!(orders >> REST_BITS, customers >> REST_BITS);
        assert_ne!(orders, customers);
        assert_eq!(value_part(key.of_value("A-1")), value_part(orders));
        assert_ne!(value_part(key.of_value("A-2")), value_part(orders));
    }

    const FROZEN_ORDERS: u128 = 166_155_324_643_535_184_188_179_840_522_774_861_726;
}
