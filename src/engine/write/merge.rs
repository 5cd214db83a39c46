//! Merging tables of fingerprints into larger ones, a share with each commit.
//!
//! Always holds: a merge continues after the last stored piece, even after the file was opened again. Its
//! inputs never change.

use std::sync::Arc;

use redb::WriteTransaction;

use crate::engine::format::schema::Tuning;
use crate::engine::pool::state::PoolState;
use crate::engine::probe::table::FingerprintTable;
use crate::engine::write::draft::PoolDraft;
use crate::engine::write::tables::IndexWriter;
use crate::engine::write::writer::WriterPool;
use crate::error::Result;

/// The number of entries to merge per added record. A record is merged once per level, and there are five or
/// six levels.
const MERGED_FOR_EACH_RECORD: usize = 8;
/// The smallest cost of a piece, in entries, because a piece with almost no entries is some work, too.
const PIECE_MIN_ENTRIES: usize = 64;
/// The number of entries that a commit without records of its own merges.
const MERGED_ALONE: usize = 1 << 18;

/// Performs a commit's share of merging tables. Returns true if there was anything to merge. `incoming` is
/// the number of records that the whole commit adds; `None` in a commit for this work only.
pub(crate) fn merge_share(
    txn: &WriteTransaction,
    draft: &mut PoolDraft,
    pool: &mut WriterPool,
    tuning: &Tuning,
    incoming: Option<usize>,
) -> Result<bool> {
    let begun = draft.state.begin_merges(tuning.row_entries());
    draft.head_changed |= begun;
    if draft.state.merging.is_empty() {
        pool.merge_credit = 0;
        return Ok(false);
    }
    pool.merge_credit +=
        incoming.map_or(MERGED_ALONE, |incoming| incoming.saturating_mul(MERGED_FOR_EACH_RECORD));
    let mut writer = None;
    while let Some(output) = smallest_merge(&draft.state) {
        let expected = expected_entries(&output);
        if pool.merge_credit < expected {
            break;
        }
        pool.merge_credit -= expected;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(IndexWriter::open(txn, draft.state.id)?),
        };
        if merge_piece(writer, &draft.state, &output)? {
            draft.state.end_merge(&output);
            draft.head_changed = true;
            draft.state.begin_merges(tuning.row_entries());
        }
    }
    Ok(true)
}

/// Returns the smallest pending merge. Small ones go first, because their inputs are the tables that lookups
/// search most.
fn smallest_merge(state: &PoolState) -> Option<Arc<FingerprintTable>> {
    state.merging.iter().min_by_key(|output| output.len).cloned()
}

/// Returns the approximate number of entries in a piece.
fn expected_entries(table: &FingerprintTable) -> usize {
    let entries = usize::try_from(table.len / u64::from(table.shape.pieces())).unwrap_or(usize::MAX);
    entries.max(PIECE_MIN_ENTRIES)
}

/// Writes the next piece of a merged table. Returns true if the table is then complete.
fn merge_piece(
    writer: &mut IndexWriter<'_>,
    state: &PoolState,
    output: &Arc<FingerprintTable>,
) -> Result<bool> {
    let piece = writer.next_piece(output.number)?;
    if piece < output.shape.pieces() {
        let values = output.shape.values_of(&output.shape.rows_of_piece(piece));
        let mut entries = Vec::new();
        for input in state.inputs_of(output) {
            writer.read_values(state, &input, &values, output.ids.start, &mut entries)?;
        }
        // The stable sort makes use of sorted runs, and the entries of each input are one.
        #[allow(clippy::stable_sort_primitive, reason = "the stable sort makes use of sorted runs")]
        entries.sort();
        // NOTE: the lines must not be cached. If the commit fails, its deletions never happened, and the
        // piece that is written next has entries that these lines lack.
        let _lines = writer.write_piece(output, piece, &entries)?;
    }
    Ok(piece + 1 >= output.shape.pieces())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use proptest::prelude::*;
    use redb::Database;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::backend::fingerprint::Fingerprint;
    use crate::engine::format::index_row::has_version;
    use crate::engine::format::schema::Geometry;
    use crate::engine::probe::filter::Question;
    use crate::engine::probe::table::IndexRows as _;
    use crate::engine::write::tables::{Folded, add_folded};
    use crate::ids::RecordNumber;
    use crate::options::StoreOptions;
    use crate::testing::with_engine;

    /// Returns every live record of a fingerprint in the tables. Every third record has a version.
    fn found(writer: &IndexWriter<'_>, state: &PoolState, fingerprint: Fingerprint) -> Vec<RecordNumber> {
        let (question, mut ids) = (Question::of(fingerprint), Vec::new());
        for table in &*state.tables {
            if table.may_contain(writer, &question).unwrap() {
                let _all = table.visit(writer, fingerprint, question.value, |entry| {
                    assert_eq!(has_version(entry), table.id_of(entry) % 3 == 0);
                    ids.extend(Some(table.id_of(entry)).filter(|id| state.is_live(*id)));
                    ControlFlow::Continue(())
                });
            }
        }
        ids
    }

    fn fingerprint(number: u64) -> Fingerprint {
        u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number) << 40
    }

    /// A group that deletes records makes a merge without them. If it fails, they were never deleted.
    #[test]
    fn a_merge_in_a_transaction_that_is_given_up_leaves_nothing_behind() {
        let (store, engine) = with_engine(&StoreOptions::new(), (Geometry::DEFAULT, Tuning::DEFAULT));
        let pool = store.get_or_create_pool("orders").unwrap();
        let mut state = PoolState::clone(&engine.view(pool.id()).unwrap().state);
        let tuning = Tuning { fold_entries: 8, ..Tuning::DEFAULT };
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let txn = database.begin_write().unwrap();
        for _ in 0..8 {
            let (first, newest) = (state.next_id, state.last_time);
            state.assign_more_ids(8, newest);
            let mut new: Vec<_> = (first..first + 8).map(|id| (fingerprint(id), id, id % 3 == 0)).collect();
            new.sort_unstable();
            add_folded(&txn, &mut state, first..first + 8, &new, &tuning).unwrap();
            state.all_is_folded();
        }
        assert!(state.begin_merges(tuning.row_entries()));
        txn.commit().unwrap();
        let output = smallest_merge(&state).unwrap();
        let txn = database.begin_write().unwrap();
        let mut deleting = state.clone();
        for id in 1..60 {
            assert!(deleting.delete(id).is_some());
        }
        merge_piece(&mut IndexWriter::open(&txn, state.id).unwrap(), &deleting, &output).unwrap();
        drop((deleting, txn));
        let txn = database.begin_write().unwrap();
        let mut writer = IndexWriter::open(&txn, state.id).unwrap();
        while !merge_piece(&mut writer, &state, &output).unwrap() {}
        state.end_merge(&output);
        for id in 1..=64 {
            assert_eq!(found(&writer, &state, fingerprint(id)), [id]);
        }
    }

    /// Values in one row: 300 records before a value with 3,000 records, and 300 records after it.
    #[test]
    fn a_row_of_many_parts_has_each_value() {
        let (store, engine) = with_engine(&StoreOptions::new(), (Geometry::DEFAULT, Tuning::DEFAULT));
        let pool = store.get_or_create_pool("orders").unwrap();
        let mut state = PoolState::clone(&engine.view(pool.id()).unwrap().state);
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let txn = database.begin_write().unwrap();
        let newest = state.last_time;
        state.assign_more_ids(3_600, newest);
        // The values are so small that all of them are in the first row.
        let number = |id: RecordNumber| if id < 3_000 { id.min(300) } else { id - 3_000 + 300 };
        let fingerprint = |number: u64| u128::from(number) << 80;
        let records: Vec<_> = (1..3_601).map(|id| (fingerprint(number(id)), id, id % 3 == 0)).collect();
        add_folded(&txn, &mut state, 1..3_601, &records, &Tuning::DEFAULT).unwrap();
        state.all_is_folded();
        let writer = IndexWriter::open(&txn, state.id).unwrap();
        assert_eq!(state.tables.first().unwrap().shape.row_of(900), 0);
        assert!(writer.row(state.tables.first().unwrap().number, 0, 14).unwrap().is_some());
        for sought in 1..=901 {
            let expected: Vec<RecordNumber> = (1..3_601).filter(|id| number(*id) == sought).collect();
            assert_eq!(found(&writer, &state, fingerprint(sought)), expected, "{sought}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        /// Values are tracked once or many times, folds have any size, and records die at any moment of a
        /// merge. The tables have each live record, and the newest state has the same answers as a plain
        /// list. So does a state from before a merge.
        #[test]
        fn tables_have_what_a_plain_list_has_before_while_and_after_they_are_merged(
            folds in proptest::collection::vec((1_u64..60, 1_u64..400), 1..60),
            deaths in proptest::collection::vec((0_u64..2_000, any::<bool>()), 0..30),
            fold_entries in prop_oneof![Just(8_usize), Just(64), Just(400)],
            repeats in prop_oneof![9 => Just(0_u64), 1 => Just(700)],
        ) {
            let (store, engine) = with_engine(&StoreOptions::new(), (Geometry::DEFAULT, Tuning::DEFAULT));
            let pool = store.get_or_create_pool("orders").unwrap();
            let mut state = PoolState::clone(&engine.view(pool.id()).unwrap().state);
            let tuning = Tuning { fold_entries, ..Tuning::DEFAULT };
            let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
            let txn = database.begin_write().unwrap();
            let (mut records, mut deaths, mut held) = (Vec::<Folded>::new(), deaths.into_iter(), None);
            for (round, (count, kinds)) in folds.into_iter().enumerate() {
                let first = state.next_id;
                let count = if round == 3 { count + repeats } else { count };
                let newest = state.last_time;
                state.assign_more_ids(count, newest);
                let number = |id: RecordNumber| if round == 3 && repeats > 0 { 1 } else { id * id % kinds };
                let mut new: Vec<_> = (first..first + count).map(|id| (fingerprint(number(id)), id, id % 3 == 0)).collect();
                records.extend(&new);
                new.sort_unstable();
                add_folded(&txn, &mut state, first..first + count, &new, &tuning).unwrap();
                state.all_is_folded();
                if let Some((id, expires)) = deaths.next() {
                    if expires {
                        state.expire_to(id % state.next_id);
                    } else {
                        state.delete(id % state.next_id);
                    }
                }
                state.drop_dead_tables();
                state.begin_merges(tuning.row_entries());
                let mut writer = IndexWriter::open(&txn, state.id).unwrap();
                for _ in 0..2 {
                    if let Some(output) = smallest_merge(&state)
                        && merge_piece(&mut writer, &state, &output).unwrap()
                    {
                        state.end_merge(&output);
                    }
                }
                if round == 20 {
                    held = Some(state.clone());
                }
                for state in [Some(&state), held.as_ref()].into_iter().flatten() {
                    for number in 0..kinds.min(20) {
                        let sought = fingerprint(number);
                        let is_one = |(fingerprint, id, _): &&Folded| *fingerprint == sought && state.is_live(*id) && *id < state.folded_to;
                        let expected: Vec<RecordNumber> = records.iter().filter(is_one).map(|(_, id, _)| *id).collect();
                        prop_assert_eq!(found(&writer, state, sought), expected, "round {}", round);
                    }
                }
                prop_assert!(state.tables.is_sorted_by(|a, b| a.ids.end <= b.ids.start));
            }
            // At most four tables on each of a few levels.
            prop_assert!(state.tables.len() < 30, "{}", state.tables.len());
        }
    }
}
