//! The expected contents of a pool's tables of fingerprints, as sums that can be compared without storing the
//! contents.

use crate::engine::format::index_row::Entry;
use crate::engine::pool::state::PoolState;
use crate::ids::RecordNumber;

/// A set of fingerprints and ids, reduced to a count and a sum of hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    count: u64,
    hashes: u128,
}

impl Sum {
    /// Adds the [`identity`](crate::engine::format::index_row::identity) of an entry and its id.
    pub(super) fn add(&mut self, identity: Entry, id: RecordNumber) {
        self.count += 1;
        // The fingerprints are random and the products are mixed, so wrong entries cancel out only by chance.
        let hash = (identity ^ u128::from(id) << 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.hashes = self.hashes.wrapping_add(hash ^ hash >> 64);
    }
}

/// The expected contents of the tables of a pool, by table.
#[derive(Debug)]
pub(super) struct Expected(Vec<Sum>);

impl Expected {
    pub(super) fn sums(&self) -> &[Sum] {
        &self.0
    }

    pub(super) fn of(state: &PoolState) -> Self {
        Self(vec![Sum::default(); state.tables.len()])
    }

    /// Adds a live folded record. Returns false if there is no table for it.
    pub(super) fn add(&mut self, state: &PoolState, identity: Entry, id: RecordNumber) -> bool {
        let place = state.tables.partition_point(|table| table.ids.end <= id);
        let table = state.tables.get(place).filter(|table| table.ids.contains(&id));
        match (table, self.0.get_mut(place)) {
            (Some(_), Some(sum)) => {
                sum.add(identity, id);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Entries that have each other's record, or a wrong mark of a version, are another set.
        #[test]
        fn sets_that_differ_in_whose_record_is_whose_have_different_sums(
            (a, b) in (any::<u64>(), any::<u64>()), first in 1_u64..1 << 31, distance in 1_u64..4,
        ) {
            prop_assume!(a != b);
            let (a, b) = (u128::from(a) << 64, u128::from(b) << 64);
            let sum = |entries: [(Entry, RecordNumber); 2]| {
                let mut sum = Sum::default();
                for (identity, id) in entries { sum.add(identity, id); }
                sum
            };
            let right = sum([(a, first), (b, first + distance)]);
            prop_assert_eq!(right, sum([(b, first + distance), (a, first)]));
            prop_assert_ne!(right, sum([(b, first), (a, first + distance)]));
            prop_assert_ne!(right, sum([(a | 1, first), (b, first + distance)]));
            prop_assert_ne!(right, sum([(a, first)].repeat(2).try_into().unwrap()));
        }
    }
}
