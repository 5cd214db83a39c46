//! The list of a pool's fingerprint tables, and the choice of which tables to merge.
//!
//! Each fold adds a table. Four tables of about the same size are merged into one, so a pool of 100 million
//! records has about ten tables. Each record is merged once per level. The level of a table depends on its
//! number of entries.
//!
//! Always holds: tables are in id order and do not overlap. Together they have every live folded record. A
//! table that is being merged stays listed until the merged table is complete. A number is given to one table
//! only.

use std::ops::Range;
use std::sync::Arc;

use crate::engine::format::index_row::OFFSET_MAX;
use crate::engine::format::schema::TableNumber;
use crate::engine::pool::state::PoolState;
use crate::engine::probe::table::{FingerprintTable, Shape};
use crate::ids::RecordNumber;

/// The number of tables of one level that are merged into one of the next. Measured with 4, 8 and 16: see
/// docs/decisions.md.
const FAN_OUT: usize = 4;

/// Returns the level of a table with this many entries: the number of base-4 digits of that number.
fn level(len: u64) -> u32 {
    (u64::BITS - len.leading_zeros()).div_ceil(FAN_OUT.ilog2())
}

impl PoolState {
    fn is_merging(&self, table: &FingerprintTable) -> bool {
        self.merging
            .iter()
            .any(|output| output.ids.start <= table.ids.start && table.ids.end <= output.ids.end)
    }

    /// Returns the tables that a merge reads.
    pub(crate) fn inputs_of(&self, output: &FingerprintTable) -> Vec<Arc<FingerprintTable>> {
        self.tables.iter().filter(|table| output.is_made_from(table)).cloned().collect()
    }

    /// Returns the next adjacent tables to merge into one, starting with the lowest level.
    pub(crate) fn due_merge(&self) -> Option<Range<usize>> {
        if self.tables.len() < FAN_OUT {
            return None;
        }
        let levels: Vec<Option<u32>> =
            self.tables.iter().map(|table| (!self.is_merging(table)).then(|| level(table.len))).collect();
        let highest = levels.iter().flatten().max().copied()?;
        (0..=highest).find_map(|wanted| {
            let mut start = 0;
            let stretches = levels.chunk_by(|a, b| {
                let is_low = |level: &Option<u32>| level.is_some_and(|level| level <= wanted);
                is_low(a) && is_low(b)
            });
            for stretch in stretches {
                let range = start..start + stretch.len();
                start = range.end;
                let count = stretch.iter().filter(|level| **level == Some(wanted)).count();
                if count >= FAN_OUT && self.fits_one_table(&range) {
                    return Some(range);
                }
            }
            None
        })
    }

    fn fits_one_table(&self, range: &Range<usize>) -> bool {
        let tables = self.tables.get(range.clone()).unwrap_or_default();
        let (first, last) = (tables.first(), tables.last());
        first.zip(last).is_some_and(|(first, last)| last.ids.end - first.ids.start <= OFFSET_MAX)
    }

    /// Returns true if every record of the oldest table is dead and the table is not being merged.
    pub(crate) fn first_table_is_dead(&self) -> bool {
        let first = self.tables.first();
        first.is_some_and(|first| first.ids.end <= self.watermark && !self.is_merging(first))
    }
}

/// Changes to the list.
impl PoolState {
    /// Returns the number for a table that is about to be written.
    pub(crate) fn take_table_number(&mut self) -> TableNumber {
        self.0.next_table += 1;
        self.next_table - 1
    }

    /// Adds a table that a fold, an import or a rebuild has written. Its records come after those of all
    /// other tables.
    pub(crate) fn add_table(&mut self, table: FingerprintTable) {
        Arc::make_mut(&mut self.0.tables).push(Arc::new(table));
    }

    /// Returns the last table if a fold of this many entries should rewrite it instead of adding another
    /// table.
    pub(crate) fn table_to_absorb(
        &self,
        ids: &Range<RecordNumber>,
        len: u64,
        max: u64,
    ) -> Option<Arc<FingerprintTable>> {
        let last = self.tables.last()?;
        let is_small = last.len + len <= max && last.len <= len.saturating_mul(FAN_OUT as u64);
        let is_near = ids.end - last.ids.start <= OFFSET_MAX;
        (is_small && is_near && !self.is_merging(last)).then(|| Arc::clone(last))
    }

    /// Drops the last table, whose entries were written into its replacement.
    pub(crate) fn drop_last_table(&mut self) {
        if let Some(last) = Arc::make_mut(&mut self.0.tables).pop() {
            Arc::make_mut(&mut self.0.dropped_tables).push(last.number);
        }
    }

    /// Begins the merges that are due. Returns true if there was one.
    pub(crate) fn begin_merges(&mut self, row_entries: u64) -> bool {
        let mut begun = false;
        while let Some(range) = self.due_merge() {
            let inputs = self.tables.get(range).unwrap_or_default();
            let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else { break };
            let ids = first.ids.start..last.ids.end;
            let len = self.live_in(&ids);
            let number = self.take_table_number();
            let table = FingerprintTable::new(number, ids, len, Shape::of(len, row_entries), &self.budget);
            Arc::make_mut(&mut self.0.merging).push(Arc::new(table));
            begun = true;
        }
        begun
    }

    /// Ends a merge: the merged table is complete and replaces its inputs.
    pub(crate) fn end_merge(&mut self, output: &Arc<FingerprintTable>) {
        Arc::make_mut(&mut self.0.merging).retain(|merging| merging.number != output.number);
        let is_input = |table: &Arc<FingerprintTable>| output.is_made_from(table);
        let tables = Arc::make_mut(&mut self.0.tables);
        let place = tables.iter().position(is_input).unwrap_or(tables.len());
        let inputs: Vec<TableNumber> =
            tables.iter().filter(|table| is_input(table)).map(|table| table.number).collect();
        tables.retain(|table| !is_input(table));
        tables.insert(place, Arc::clone(output));
        Arc::make_mut(&mut self.0.dropped_tables).extend(inputs);
    }

    /// Drops the oldest tables whose records are all dead. Returns true if there was one.
    pub(crate) fn drop_dead_tables(&mut self) -> bool {
        let mut dropped = false;
        while self.first_table_is_dead() {
            let first = Arc::make_mut(&mut self.0.tables).remove(0);
            Arc::make_mut(&mut self.0.dropped_tables).push(first.number);
            dropped = true;
        }
        dropped
    }

    /// Drops all tables, because every record is dead or every table is being rewritten.
    pub(crate) fn drop_all_tables(&mut self) {
        let tables = self.tables.iter().chain(&*self.merging).map(|table| table.number);
        let numbers: Vec<TableNumber> = tables.collect();
        Arc::make_mut(&mut self.0.dropped_tables).extend(numbers);
        (self.0.tables, self.0.merging) = (Arc::default(), Arc::default());
    }

    /// Forgets all tables, including dropped ones, because their rows were removed and will be written again.
    pub(crate) fn forget_tables(&mut self) {
        self.drop_all_tables();
        self.0.dropped_tables = Arc::default();
    }

    /// Forgets the last table in the list of dropped ones, because all its rows were removed.
    pub(crate) fn forget_last_dropped_table(&mut self) {
        Arc::make_mut(&mut self.0.dropped_tables).pop();
    }

    /// Returns the numbers of all tables that rows may belong to.
    pub(crate) fn table_numbers(&self) -> impl Iterator<Item = TableNumber> {
        let tables = self.tables.iter().chain(&*self.merging).map(|table| table.number);
        tables.chain(self.dropped_tables.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::schema::{Geometry, Tuning};
    use crate::options::StoreOptions;
    use crate::testing::with_engine;

    #[test]
    fn a_level_has_four_times_the_entries_of_the_one_below() {
        assert_eq!([1, 3, 4, 15, 16, 63, 64].map(level), [1, 1, 2, 2, 3, 3, 4]);
        assert_eq!((level(65_536), level(4 * 65_536), level(0)), (9, 10, 0));
    }

    /// Returns a state with tables of ten entries each, with these ids.
    fn with_tables(empty: &PoolState, tables: &[Range<RecordNumber>]) -> PoolState {
        let mut state = empty.clone();
        for (number, ids) in (0..).zip(tables) {
            state.add_table(FingerprintTable::new(
                number,
                ids.clone(),
                10,
                Shape::of(10, 200),
                &empty.budget,
            ));
        }
        state
    }

    /// An entry has the offset of its record from the first one of its table, in 31 bits.
    #[test]
    fn tables_whose_ids_are_too_far_apart_for_offsets_stay_apart() {
        let (store, engine) = with_engine(&StoreOptions::new(), (Geometry::DEFAULT, Tuning::DEFAULT));
        let pool = store.get_or_create_pool("orders").unwrap();
        let empty = PoolState::clone(&engine.view(pool.id()).unwrap().state);
        for first in [1, 1 << 40] {
            for (len, fits) in [(40, true), (OFFSET_MAX, true), (OFFSET_MAX + 1, false)] {
                let end = first + len;
                let ids =
                    [first..first + 10, first + 10..first + 20, first + 20..first + 30, first + 30..end];
                assert_eq!(with_tables(&empty, &ids).due_merge(), fits.then_some(0..4), "{first} to {end}");
                let state = with_tables(&empty, &ids[..1]);
                let absorbed = |len, max| state.table_to_absorb(&(first + 10..end), len, max);
                assert_eq!(absorbed(10, 20).map(|table| table.number), fits.then_some(0), "{first} to {end}");
                assert!(absorbed(10, 19).is_none(), "together they are too large");
                assert!(absorbed(2, 20).is_none(), "the last table is too large to be rewritten for two");
            }
        }
    }

    #[test]
    fn tables_are_dropped_when_all_their_records_are_dead_unless_they_are_being_merged() {
        let (store, engine) = with_engine(&StoreOptions::new(), (Geometry::DEFAULT, Tuning::DEFAULT));
        let pool = store.get_or_create_pool("orders").unwrap();
        let empty = PoolState::clone(&engine.view(pool.id()).unwrap().state);
        assert_eq!(with_tables(&empty, &[1..11, 11..21, 21..31]).due_merge(), None);
        let mut state = with_tables(&empty, &[1..11, 11..21, 21..31, 31..41]);
        let mut merging = state.clone();
        assert!(merging.begin_merges(200) && !merging.begin_merges(200));
        for state in [&mut state, &mut merging] {
            state.expire_to(30);
        }
        assert!(state.first_table_is_dead() && state.drop_dead_tables());
        assert_eq!(*state.dropped_tables, [0, 1]);
        assert!(!state.first_table_is_dead() && !state.drop_dead_tables());
        assert!(!merging.first_table_is_dead() && !merging.drop_dead_tables());
        // A table behind those that are being merged is not one of them.
        merging.add_table(FingerprintTable::new(9, 41..51, 10, Shape::of(10, 200), &empty.budget));
        let last = merging.table_to_absorb(&(51..61), 10, 20).map(|table| table.number);
        assert_eq!(last, Some(9));
    }
}
