//! What the tables of fingerprints of a pool should have, as far as it can be compared without keeping it.

use crate::engine::format::index_row::Entry;
use crate::engine::pool::state::PoolState;
use crate::ids::RecordNumber;

/// A set of fingerprints and ids, as far as it can be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    count: u64,
    hashes: u128,
}

impl Sum {
    /// Adds what tells an entry from others ([`identity`](crate::engine::format::index_row::identity)), and its id.
    pub(super) fn add(&mut self, identity: Entry, id: RecordNumber) {
        self.count += 1;
        // Fingerprints are random. Multiplied, no two wrong pairs make up for each other but by chance.
        let hash = (identity ^ u128::from(id) << 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.hashes = self.hashes.wrapping_add(hash ^ hash >> 64);
    }
}

/// What the tables of a pool should have, by table.
#[derive(Debug)]
pub(super) struct Expected(Vec<Sum>);

impl Expected {
    pub(super) fn sums(&self) -> &[Sum] {
        &self.0
    }

    pub(super) fn of(state: &PoolState) -> Self {
        Self(vec![Sum::default(); state.tables.len()])
    }

    /// A live folded record. Returns false if no table is there for it.
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
