//! Registered entity types, flows, flow runs and flow steps, and including them with records.
//!
//! Owns: the four registry tables. Always holds: nothing else in the file refers to them, so adding and
//! deleting entries changes no record and no index.

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Bound;
use std::sync::Arc;

use redb::{AccessGuard, ReadOnlyTable};

use crate::engine::Engine;
use crate::engine::format::codec;
use crate::engine::format::schema::{self, RegistryTable};
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::view::View;
use crate::engine::read::views::no_pool;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::storage::space::Need;
use crate::error::Result;
use crate::model::{Included, Record, Registered, RegisteredEntry, RegisteredId, RegisteredKind};
use crate::query::RecordInclude;
use crate::time::Timestamp;

fn definition(kind: RegisteredKind) -> RegistryTable {
    match kind {
        RegisteredKind::EntityType => schema::ENTITY_TYPES,
        RegisteredKind::Flow => schema::FLOWS,
        RegisteredKind::FlowRun => schema::FLOW_RUNS,
        RegisteredKind::FlowStep => schema::FLOW_STEPS,
    }
}

impl Engine {
    /// Registers entries, or replaces registered ones, in one commit.
    pub(crate) fn put_registered(&self, kind: RegisteredKind, entries: Vec<RegisteredEntry>) -> Result<()> {
        let now = self.clock.now();
        let mut rows = Vec::with_capacity(entries.len());
        for mut entry in entries {
            rows.push((std::mem::take(&mut entry.key), codec::encode_registered(entry, now)?));
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.exclusive(|_| {
            let txn = self.begin()?;
            let mut table = txn.open_table(definition(kind)).storage()?;
            for (key, row) in &rows {
                table.insert(key.as_slice(), row.as_slice()).storage()?;
            }
            drop(table);
            self.commit_rows(txn, Need::Adding)
        })
    }

    /// Removes a registered entry. Returns false if there was none.
    pub(crate) fn delete_registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<bool> {
        self.exclusive(|_| {
            if self.registered(kind, key)?.is_none() {
                return Ok(false);
            }
            let txn = self.begin()?;
            txn.open_table(definition(kind)).storage()?.remove(key).storage()?;
            self.commit_rows(txn, Need::Reserve)?;
            Ok(true)
        })
    }

    /// Removes the entries that were registered before a point in time, in one commit. Returns the number of
    /// entries removed.
    pub(crate) fn delete_registered_before(&self, kind: RegisteredKind, time: Timestamp) -> Result<u64> {
        self.exclusive(|_| {
            let txn = self.begin()?;
            let (mut deleted, mut damaged) = (0, Ok(()));
            txn.open_table(definition(kind))
                .storage()?
                .retain(|_, row| match codec::registered_at(row) {
                    Ok(at) if at < time => {
                        deleted += 1;
                        false
                    }
                    Ok(_) => true,
                    Err(error) => {
                        damaged = Err(error);
                        true
                    }
                })
                .storage()?;
            damaged?;
            if deleted > 0 {
                self.commit_rows(txn, Need::Reserve)?;
            }
            Ok(deleted)
        })
    }

    /// Returns the registered entry of a key.
    pub(crate) fn registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<Option<RegisteredEntry>> {
        contained("reading what is registered", || Registry::open(&*self.snapshot()?, kind)?.get(key))
    }

    /// Returns up to `limit` registered entries in the order of their keys, starting after the given key, or
    /// with the first entry.
    pub(crate) fn registered_after(
        &self,
        kind: RegisteredKind,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<RegisteredEntry>> {
        contained("reading what is registered", || {
            let snapshot = self.snapshot()?;
            let Some(table) = snapshot.table(definition(kind))? else { return Ok(Vec::new()) };
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rows = table.range::<&[u8]>((start, Bound::Unbounded)).storage()?.take(limit);
            let entry = |row: redb::Result<_, _>| {
                let (key, row): (AccessGuard<'_, &[u8]>, AccessGuard<'_, &[u8]>) = row.storage()?;
                codec::decode_registered(key.value(), row.value())
            };
            rows.map(entry).collect()
        })
    }
}

/// A registry table as of one commit.
struct Registry {
    /// `None` if nothing was ever registered in it.
    table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    /// The number of lookups in the table.
    lookups: Cell<u64>,
}

impl Registry {
    fn open(snapshot: &Snapshot, kind: RegisteredKind) -> Result<Self> {
        Ok(Self { table: snapshot.table(definition(kind))?, lookups: Cell::new(0) })
    }

    fn get(&self, key: &[u8]) -> Result<Option<RegisteredEntry>> {
        let Some(table) = &self.table else { return Ok(None) };
        self.lookups.set(self.lookups.get() + 1);
        let row = table.get(key).storage()?;
        row.map(|row| codec::decode_registered(key, row.value())).transpose()
    }
}

impl View {
    /// Adds the requested entries to records, with one lookup for each distinct id. Returns the number of
    /// lookups.
    pub(crate) fn include(&self, records: &mut [Record], include: &BTreeSet<RecordInclude>) -> Result<u64> {
        let mut lookups = 0;
        for what in include {
            lookups += match what {
                RecordInclude::Flow => {
                    self.resolve(records, |record| record.flow_id.clone(), Included::set_flow)?
                }
                RecordInclude::FlowRun => {
                    self.resolve(records, |record| record.flow_run_id.clone(), Included::set_flow_run)?
                }
                RecordInclude::FlowStep => {
                    self.resolve(records, |record| record.step_id.clone(), Included::set_flow_step)?
                }
                RecordInclude::EntityType => {
                    self.resolve(records, |record| Some(record.entity_type_id), Included::set_entity_type)?
                }
                RecordInclude::DataPool => self.include_pool(records)?,
            };
        }
        Ok(lookups)
    }

    fn resolve<Id: RegisteredId + Eq + Hash>(
        &self,
        records: &mut [Record],
        id_of: impl Fn(&Record) -> Option<Id>,
        set: impl Fn(&mut Included, Option<Arc<Registered<Id>>>),
    ) -> Result<u64> {
        let registry = Registry::open(&self.snapshot, Id::KIND)?;
        let mut known: HashMap<Id, Option<Arc<Registered<Id>>>> = HashMap::new();
        for record in records {
            let entry = match id_of(record) {
                None => None,
                Some(id) => match known.entry(id) {
                    Entry::Occupied(entry) => entry.get().clone(),
                    Entry::Vacant(entry) => {
                        let found = registry.get(&entry.key().to_key())?;
                        let found = found.map(RegisteredEntry::read).transpose()?;
                        entry.insert(found.map(Arc::new)).clone()
                    }
                },
            };
            set(&mut record.included, entry);
        }
        Ok(registry.lookups.get())
    }

    fn include_pool(&self, records: &mut [Record]) -> Result<u64> {
        if records.is_empty() {
            return Ok(0);
        }
        let id = self.state.id;
        let row = match self.snapshot.table(schema::POOLS)? {
            Some(pools) => pools.get(id).storage()?,
            None => None,
        };
        let pool = Arc::new(codec::decode_pool(id, row.ok_or_else(|| no_pool(id))?.value())?);
        for record in records {
            record.included.set_data_pool(Some(Arc::clone(&pool)));
        }
        Ok(1)
    }
}
