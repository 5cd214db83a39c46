//! A hash table of fingerprints and slots that is read without a lock.
//!
//! Owns: the layout in memory. Open addressing in groups of eight places: a word of eight tags, a byte each, says which of
//! them may hold a fingerprint, so that a look-up reads one word of tags and, of what is there, one place. A fingerprint's home follows from its highest bits, so look-ups in fingerprint order walk the memory forwards; the lower 76
//! bits are compared. Always holds: a place is written before its tag and never given to another fingerprint; one thread
//! writes at a time.
//!
//! The tags are those of Google's Swiss tables, and eight of them are compared in one word by the bit trick of Hacker's
//! Delight (H. S. Warren, 6-1, "find first 0-byte").

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::engine::format::fingerprint::low_half;
use crate::engine::format::schema::{Fingerprint, SLOT_BITS, Slot};

/// Places of a group.
const GROUP: usize = 8;
/// How many places of a group are used on average when a table is full.
const USED: usize = 7;
/// How many groups from its home on a fingerprint may lie. Random ones fill so many in a row in one table of 10^11: as
/// often as Poisson's distribution has 4,096 where 3,584 are expected, for each group.
const REACH: usize = 512;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Why a fingerprint cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are as many as it is made for.
    Full,
    /// Too many have nearly the same home: a value within some thousand entity types.
    Crowded,
}

pub(super) struct HotTable {
    /// A group's tags: 0 for a free place, else the high bit and seven bits of the fingerprint. Apart from the places: so
    /// small, they often are in the processor's caches, and mostly they rule out what is absent.
    tags: Box<[AtomicU64]>,
    places: Box<[Places]>,
    capacity: usize,
}

/// The places of a group.
#[derive(Default)]
struct Places {
    /// The low 64 bits of the fingerprint.
    lows: [AtomicU64; GROUP],
    /// Its next 12 bits, and the slot.
    rests: [AtomicU32; GROUP],
}

impl Places {
    /// Where a fingerprint is, if it is one of those with its tag.
    fn find(&self, tags: u64, fingerprint: Fingerprint) -> Option<&AtomicU32> {
        let (low, high) = key_of(fingerprint);
        matching(tags, tag_of(fingerprint)).find_map(|place| {
            let rest = self.rests.get(place)?;
            let is_it = self.lows.get(place)?.load(Ordering::Relaxed) == low
                && rest.load(Ordering::Relaxed) >> SLOT_BITS == high;
            is_it.then_some(rest)
        })
    }
}

impl HotTable {
    /// How many bytes a table for so many fingerprints takes: 15 for each.
    pub(super) fn bytes(capacity: usize) -> usize {
        Self::groups(capacity) * (size_of::<AtomicU64>() + size_of::<Places>())
    }

    /// Nothing that overflows wraps around.
    fn groups(capacity: usize) -> usize {
        capacity.div_ceil(USED) + REACH
    }

    pub(super) fn with_capacity(capacity: usize) -> Self {
        let groups = Self::groups(capacity);
        Self {
            tags: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            places: (0..groups).map(|_| Places::default()).collect(),
            capacity,
        }
    }

    /// The first group in which a fingerprint may be.
    fn home(&self, fingerprint: Fingerprint) -> usize {
        let homes = (self.tags.len() - REACH) as u128;
        usize::try_from(((fingerprint >> 64) * homes) >> 64).unwrap_or(0)
    }

    /// The groups in which a fingerprint may be.
    fn probe(&self, fingerprint: Fingerprint) -> impl Iterator<Item = (&AtomicU64, &Places)> {
        self.tags.iter().zip(&self.places).skip(self.home(fingerprint)).take(REACH)
    }

    /// Reads what [`get`](Self::get) will most likely read for these fingerprints. Between two of these misses the processor
    /// has so little to do that it waits for several at once.
    pub(super) fn prefetch(&self, fingerprints: impl Iterator<Item = Fingerprint> + Clone) {
        let tags = |home: usize| self.tags.get(home).map_or(0, |tags| tags.load(Ordering::Relaxed));
        let place = |fingerprint| {
            let home = self.home(fingerprint);
            let place = matching(tags(home), tag_of(fingerprint)).next()?;
            let Places { lows, rests } = self.places.get(home)?;
            Some(
                lows.get(place)?.load(Ordering::Relaxed)
                    | u64::from(rests.get(place)?.load(Ordering::Relaxed)),
            )
        };
        let homes = fingerprints.clone().map(|fingerprint| self.home(fingerprint));
        black_box(homes.fold(0, |all, home| all | tags(home)));
        black_box(fingerprints.filter_map(place).fold(0, |all, place| all | place));
    }

    /// The slot of a fingerprint.
    #[inline]
    pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<Slot> {
        for (tags, places) in self.probe(fingerprint) {
            let tags = tags.load(Ordering::Acquire);
            if let Some(rest) = places.find(tags, fingerprint) {
                return Some(slot_in(rest.load(Ordering::Relaxed)));
            }
            if tags & HIGH_BITS != HIGH_BITS {
                return None;
            }
        }
        None
    }

    /// Adds a fingerprint, or gives it the lower one of two slots. Only one thread at a time may write; `len` is how many
    /// fingerprints there are.
    pub(super) fn insert(
        &self,
        len: &mut usize,
        fingerprint: Fingerprint,
        slot: Slot,
    ) -> Result<(), Refused> {
        let (low, high) = key_of(fingerprint);
        let packed = |slot| high << SLOT_BITS | slot;
        for (tags, places) in self.probe(fingerprint) {
            let known = tags.load(Ordering::Relaxed);
            if let Some(rest) = places.find(known, fingerprint) {
                let slot = slot.min(slot_in(rest.load(Ordering::Relaxed)));
                rest.store(packed(slot), Ordering::Relaxed);
                return Ok(());
            }
            // Places of a group are taken in order: the first free one is behind those that are taken.
            let free = (!known & HIGH_BITS).trailing_zeros() as usize / GROUP;
            let (Some(lower), Some(rest)) = (places.lows.get(free), places.rests.get(free)) else { continue };
            if *len >= self.capacity {
                return Err(Refused::Full);
            }
            *len += 1;
            lower.store(low, Ordering::Relaxed);
            rest.store(packed(slot), Ordering::Relaxed);
            tags.store(known | tag_of(fingerprint) << (free * GROUP), Ordering::Release);
            return Ok(());
        }
        Err(Refused::Crowded)
    }
}

/// The bits that are compared: the low 64, and those above them for which a slot leaves room.
#[allow(clippy::cast_possible_truncation, reason = "those bits are meant")]
fn key_of(fingerprint: Fingerprint) -> (u64, u32) {
    (low_half(fingerprint), (fingerprint >> 64) as u32 & (u32::MAX >> SLOT_BITS))
}

fn tag_of(fingerprint: Fingerprint) -> u64 {
    (low_half(fingerprint) & 0x7f) | 0x80
}

fn slot_in(packed: u32) -> Slot {
    packed & ((1 << SLOT_BITS) - 1)
}

/// The places of a group that may have the tag; one behind a place that has it may be wrong.
fn matching(tags: u64, tag: u64) -> impl Iterator<Item = usize> {
    let differences = tags ^ (tag * LOW_BITS);
    let mut equal = differences.wrapping_sub(LOW_BITS) & !differences & HIGH_BITS;
    std::iter::from_fn(move || {
        let place = (equal != 0).then(|| equal.trailing_zeros() as usize / GROUP);
        equal &= equal.wrapping_sub(1);
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Few distinct bits, so that homes and tags are shared; the lower 76 bits differ, as those of fingerprints do.
        #[test]
        fn it_answers_as_a_map_that_keeps_the_lower_slot(
            entries in proptest::collection::vec((0_u128..8, 0_u128..8, 0_u128..4, 0_u32..1 << SLOT_BITS), 0..200),
        ) {
            let fingerprint = |(home, high, low, _): (u128, u128, u128, u32)| home << 125 | high << 64 | home << 16 | low;
            let table = HotTable::with_capacity(entries.len());
            let (mut model, mut len) = (BTreeMap::new(), 0);
            for entry in &entries {
                let slot = model.entry(fingerprint(*entry)).or_insert(entry.3);
                *slot = entry.3.min(*slot);
                prop_assert_eq!(table.insert(&mut len, fingerprint(*entry), entry.3), Ok(()));
            }
            prop_assert_eq!(len, model.len());
            for (home, high, low) in (0..8).flat_map(|a| (0..8).flat_map(move |b| (0..4).map(move |c| (a, b, c)))) {
                let asked = fingerprint((home, high, low, 0));
                prop_assert_eq!(table.get(asked), model.get(&asked).copied());
            }
        }
    }

    /// In the order in which folds bring them: many sorted ones, then more, each time sorted again.
    #[test]
    fn random_fingerprints_never_crowd() {
        let key = crate::engine::format::fingerprint::HashKey::new(*b"0123456789abcdef");
        let fingerprint = |number: u32| key.fingerprint(1.into(), &number.to_string());
        let mut all: Vec<(Fingerprint, Slot)> =
            (0..1 << 20).map(|number| (fingerprint(number), number)).collect();
        let (table, mut len) = (HotTable::with_capacity(all.len()), 0);
        for fold in all.chunks_mut(1 << 16) {
            fold.sort_unstable();
            assert!(fold.iter().all(|(asked, slot)| table.insert(&mut len, *asked, *slot).is_ok()));
        }
        assert!(all.iter().all(|(asked, slot)| table.get(*asked) == Some(*slot)));
        assert!((1 << 20..1 << 21).all(|number| table.get(fingerprint(number)).is_none()));
    }

    #[test]
    fn it_is_full_at_its_capacity_and_crowded_where_too_many_share_a_home() {
        let mut len = 0;
        let table = HotTable::with_capacity(1_000);
        let spread =
            |number: u64| u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number);
        for number in 0..1_000 {
            assert_eq!(table.insert(&mut len, spread(number), 7), Ok(()), "{number}");
        }
        assert_eq!(table.insert(&mut len, spread(1_000), 7), Err(Refused::Full));
        assert_eq!(table.insert(&mut len, spread(999), 3), Ok(()));
        assert_eq!((table.get(spread(999)), table.get(spread(1_000))), (Some(3), None));

        let (table, mut len) = (HotTable::with_capacity(5_000), 0);
        let crowd: Vec<_> = (0..5_000).map(|low| table.insert(&mut len, low, 0)).collect();
        assert_eq!(crowd.iter().position(Result::is_err), Some(REACH * GROUP));
        assert_eq!(crowd.last(), Some(&Err(Refused::Crowded)));
    }
}
