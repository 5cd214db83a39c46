//! Rebuilds every index from the records.
//!
//! Always holds: the indexes of a pool are rebuilt in one commit, by the same rules that built them
//! ([`crate::engine::write::fold`], [`crate::engine::write::append`]). Data that does not follow from the
//! records is not changed.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Key, ReadableTable, TableDefinition, Value, WriteTransaction};

use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::Fingerprint;
use crate::engine::Engine;
use crate::engine::format::codec;
use crate::engine::format::schema::{self, SegmentTables, TableNumber};
use crate::engine::format::tables::{AnyTable, TableVisitor};
use crate::engine::maintain::verify::owned::{Numbers, Owned};
use crate::engine::maintain::verify::strays::{Stray, find_strays};
use crate::engine::pool::state::PoolState;
use crate::engine::read::claims::seen_by;
use crate::engine::read::view::View;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::storage::space::Need;
use crate::engine::write::catalog::raise_next_pool_id;
use crate::engine::write::claim_rows;
use crate::engine::write::commit::Changes;
use crate::engine::write::fold::whole::WholeFold;
use crate::engine::write::reclaim::{drop_shared_rows, drop_table_rows, remove_rows};
use crate::engine::write::writer::Writer;
use crate::error::{ErrorKind, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::model::{Finding, RebuildReport};

impl Engine {
    /// Rebuilds every index.
    ///
    /// # Errors
    ///
    /// `ReadOnly`; the errors of the commits.
    pub(crate) fn rebuild_indexes(&self) -> Result<RebuildReport> {
        self.check_may_write()?;
        let mut report = RebuildReport::default();
        let ids = self.exclusive(|_| self.rebuild_names())?;
        for id in ids {
            match self.exclusive(|writer| self.rebuild_pool(writer, id)) {
                Ok(records) => {
                    report.pools += 1;
                    report.records += records;
                }
                // The pool was deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    report.left.push(Finding::new(Some(id), "pools", id.to_string(), error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        self.exclusive(|_| self.remove_strays(&mut report))?;
        Ok(report)
    }

    /// Rebuilds the index of names, and the id for the next pool. Returns the ids of all pools, including
    /// unreadable ones.
    fn rebuild_names(&self) -> Result<Vec<PoolId>> {
        let txn = self.begin()?;
        let mut ids = Vec::new();
        let (mut unreadable, mut names) = (BTreeSet::new(), BTreeMap::new());
        {
            let pools = txn.open_table(schema::POOLS).storage()?;
            for row in pools.iter().storage()? {
                let (id, row) = row.storage()?;
                ids.push(id.value());
                match codec::decode_pool(id.value(), row.value()) {
                    Ok(pool) => drop(names.insert(pool.name.into_bytes(), id.value())),
                    Err(_) => drop(unreadable.insert(id.value())),
                }
            }
        }
        {
            let mut table = txn.open_table(schema::POOL_NAMES).storage()?;
            // If a pool's row cannot be read, its name must stay taken, because the name is stored nowhere
            // else.
            table.retain(|name, id| unreadable.contains(&id) || names.get(name) == Some(&id)).storage()?;
            for (name, id) in names {
                table.insert(name.as_slice(), id).storage()?;
            }
        }
        raise_next_pool_id(&txn, ids.last().copied().unwrap_or(PoolId::new(0)))?;
        self.commit_rows(txn, Need::Adding)?;
        Ok(ids)
    }

    /// Rebuilds a pool's indexes. Returns the number of records in them.
    fn rebuild_pool(&self, writer: &mut Writer, id: PoolId) -> Result<u64> {
        let view = self.view_at(id, self.clock.now())?;
        let mut state = PoolState::clone(&view.state);
        let txn = self.begin()?;
        let (mut records, mut owners, mut lost) = (0, view.owners()?, Vec::new());
        let items = view.items_by_claim()?;
        drop_table_rows(&txn, id, 0..=TableNumber::MAX, None)?;
        state.forget_tables();
        let row_entries = self.tuning.row_entries();
        for index in 0..state.segments.len() {
            self.check_room(Need::Adding)?;
            records += rebuild_segment(&txn, &view, &mut state, index, row_entries, |id, fingerprint| {
                let is_unseen =
                    |owner: &ClaimId| seen_by(*owner, fingerprint, &items).is_some_and(|seen| id > seen);
                if owners.get(&fingerprint).is_some_and(is_unseen) && view.state.is_live(id) {
                    owners.remove(&fingerprint);
                    lost.push(fingerprint);
                }
            })?;
        }
        state.all_is_folded();
        let is_lost = |(fingerprint, owner): &(Fingerprint, ClaimId)| match items.get(owner) {
            Some(Ok(items)) => !items.contains_key(fingerprint),
            // The items cannot be read, or the claim is being swept.
            Some(Err(_)) | None => !view.state.claims.contains(*owner),
        };
        lost.extend(owners.into_iter().filter(is_lost).map(|(fingerprint, _)| fingerprint));
        claim_rows::void(&txn, id, &lost)?;
        drop(view);
        self.commit(writer, txn, Changes::new(Need::Adding, vec![state.into()]))?;
        self.note_drop();
        Ok(records)
    }

    /// Removes rows and tables that belong to no pool.
    fn remove_strays(&self, report: &mut RebuildReport) -> Result<()> {
        let snapshot = self.snapshot()?;
        let mut owned = Owned::new();
        if let Some(pools) = snapshot.table(schema::POOLS)? {
            for row in pools.range::<PoolId>(..).storage()? {
                let id = row.storage()?.0.value();
                let numbers = self.view(id).map(|view| Numbers {
                    segments: view.state.segment_numbers().collect(),
                    tables: view.state.table_numbers().collect(),
                });
                // It is not known what belongs to a pool that cannot be loaded.
                owned.insert(id, numbers.ok());
            }
        }
        let strays = find_strays(&snapshot, &owned)?;
        drop(snapshot);
        if strays.is_empty() {
            return Ok(());
        }
        let txn = self.begin()?;
        for stray in strays {
            match stray {
                Stray::Table(name) => match AnyTable::named(&name) {
                    Some(table) => table.visit(&mut DeleteTable(&txn))?,
                    None => report.left.push(Finding::new(None, name, "", "no store has such a table")),
                },
                Stray::Rows { pool, segment, .. } => drop_shared_rows(&txn, pool, segment, None).map(drop)?,
                Stray::TableRows { pool, table, .. } => {
                    drop_table_rows(&txn, pool, table..=table, None).map(drop)?;
                }
                Stray::PoolRows { pool, .. } => {
                    txn.open_table(schema::POOL_HEADS).storage()?.remove(pool).storage()?;
                    claim_rows::remove_rows_of_pool(&txn, pool)?;
                }
            }
        }
        self.commit_rows(txn, Need::Adding)
    }
}

struct DeleteTable<'a>(&'a WriteTransaction);

impl TableVisitor for DeleteTable<'_> {
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<()> {
        self.0.delete_table(table).storage().map(drop)
    }
}

/// Rebuilds a segment's indexes, and calls `each` with the value of each record. Returns the number of
/// records in the indexes.
fn rebuild_segment(
    txn: &WriteTransaction,
    view: &View,
    state: &mut PoolState,
    index: usize,
    row_entries: u64,
    mut each: impl FnMut(RecordNumber, Fingerprint),
) -> Result<u64> {
    let Some(segment) = state.segments.get(index).cloned() else { return Ok(0) };
    let (pool, number) = (state.id, segment.number);
    let names = SegmentTables::new(pool, number);
    txn.delete_table(names.postings()).storage()?;
    let mut fold = WholeFold::default();
    let mut times = Vec::new();
    let first = view.first_stored(index)?.min(state.watermark.max(segment.first_id));
    let slots = segment.slot(first)..segment.slot(state.end_of(index));
    // The time of a block whose first record was removed cannot be rebuilt. The very first time is not an
    // index entry, because the records' times are relative to it.
    let first_block = slots.start.div_ceil(schema::TIME_BLOCK_SLOTS).max(1);
    contained("reading a segment", || {
        view.each_record(index, slots, |slot, created_at, entry| {
            if slot > 0 && slot.is_multiple_of(schema::TIME_BLOCK_SLOTS) {
                times.push((slot / schema::TIME_BLOCK_SLOTS, created_at));
            }
            if let Some(entry) = entry {
                each(segment.id(slot), entry.fingerprint);
                fold.push(slot, entry);
            }
            Ok(())
        })
    })?;
    let records = fold.records();
    let blocks = |from| (pool, number, from)..=(pool, number, u32::MAX);
    {
        let mut table = txn.open_table(schema::TIMES).storage()?;
        remove_rows(&mut table, blocks(first_block), None)?;
        for (block, time) in times {
            table.insert((pool, number, block), time.as_micros()).storage()?;
        }
    }
    let table = state.take_table_number();
    if let Some(table) = fold.write(txn, state, &segment, table, row_entries)? {
        state.add_table(table);
    }
    Ok(records)
}
