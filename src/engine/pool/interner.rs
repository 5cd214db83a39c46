//! Assigns consecutive numbers to things.
//!
//! Owns: [`Interner`]. Always holds: each thing is hashed once and stored once. Apart from the things,
//! growing moves and freeing frees only plain numbers, so both are fast.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use crate::backend::fingerprint::BuildFingerprintHasher;

/// Distinct things, numbered from 0.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    things: Vec<T>,
    /// The numbers by hash. If several things have the same hash, all but the first are stored under the next
    /// free hashes.
    numbers: HashMap<u64, u32, BuildFingerprintHasher>,
    hasher: RandomState,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { things: Vec::new(), numbers: HashMap::default(), hasher: RandomState::new() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// Returns the number of a thing. A new thing gets the next free number.
    pub(crate) fn number(&mut self, thing: &T) -> u32 {
        match self.look_up(thing) {
            Ok(number) => number,
            Err(hash) => {
                let number = u32::try_from(self.things.len()).unwrap_or(u32::MAX);
                self.things.push(thing.clone());
                self.numbers.insert(hash, number);
                number
            }
        }
    }

    pub(crate) fn find(&self, thing: &T) -> Option<u32> {
        self.look_up(thing).ok()
    }

    /// Returns the number of a thing, or the hash under which it would be stored.
    fn look_up(&self, thing: &T) -> Result<u32, u64> {
        let mut hash = self.hasher.hash_one(thing);
        // Nothing is ever removed, so there is no gap before a thing stored under a later hash.
        while let Some(number) = self.numbers.get(&hash) {
            if self.get(*number) == Some(thing) {
                return Ok(*number);
            }
            hash = hash.wrapping_add(1);
        }
        Err(hash)
    }
}

impl<T> Interner<T> {
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.things.get(number as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.things.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.things.iter()
    }

    /// Returns the things in the order of their numbers.
    pub(crate) fn into_things(self) -> Vec<T> {
        self.things
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that has the same hash as three others.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Alike(u32);

    impl Hash for Alike {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            (self.0 / 4).hash(state);
        }
    }

    #[test]
    fn equal_things_have_one_number_and_others_another_even_with_the_same_hash() {
        let mut numbered = Interner::default();
        for _ in 0..2 {
            for n in 0..1_000 {
                assert_eq!(numbered.number(&Alike(n)), n);
            }
        }
        assert_eq!(numbered.len(), 1_000);
        assert_eq!(numbered.find(&Alike(999)), Some(999));
        assert_eq!(numbered.find(&Alike(1_000)), None);
        assert_eq!(numbered.get(7), Some(&Alike(7)));
        assert_eq!(numbered.into_things(), (0..1_000).map(Alike).collect::<Vec<_>>());
    }
}
