//! Registered entity types, flows, flow runs and flow steps; and including them with records.
//!
//! Owns: the four registry tables. Always holds: nothing else in the file refers to them, so putting and deleting
//! there changes no record and no index.

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Bound;
use std::sync::Arc;

use redb::ReadOnlyTable;

use crate::engine::Engine;
use crate::engine::format::codec;
use crate::engine::format::schema::{self, RegistryTable};
use crate::engine::pool::batch::check_batch_len;
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::view::View;
use crate::engine::read::views::no_pool;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::storage::space::Need;
use crate::error::{Error, Result};
use crate::model::{Included, Record, Registered, RegisteredId, RegisteredKind, attributes_of};
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
    pub(crate) fn put_registered<Id: RegisteredId>(&self, entries: &[Registered<Id>]) -> Result<()> {
        self.check_may_write()?;
        check_batch_len(entries.len())?;
        let now = self.clock.now();
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            rows.push((
                entry.id.to_key(),
                codec::encode_registered(&entry.name, attributes_of(entry)?, now)?,
            ));
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.exclusive(|_| {
            let txn = self.begin()?;
            let mut table = txn.open_table(definition(Id::KIND)).storage()?;
            for (key, row) in &rows {
                table.insert(key.as_slice(), row.as_slice()).storage()?;
            }
            drop(table);
            self.commit_rows(txn, Need::Adding)
        })
    }

    /// Removes a registered entry. Returns false if there was none.
    pub(crate) fn delete_registered<Id: RegisteredId>(&self, id: &Id) -> Result<bool> {
        self.check_may_write()?;
        self.exclusive(|_| {
            if self.registered(id)?.is_none() {
                return Ok(false);
            }
            let txn = self.begin()?;
            txn.open_table(definition(Id::KIND)).storage()?.remove(id.to_key().as_slice()).storage()?;
            self.commit_rows(txn, Need::Reserve)?;
            Ok(true)
        })
    }

    /// Removes the entries that were registered before a point in time, in one commit. Returns the number of entries
    /// removed.
    pub(crate) fn delete_registered_before<Id: RegisteredId>(&self, time: Timestamp) -> Result<u64> {
        self.check_may_write()?;
        self.exclusive(|_| {
            let txn = self.begin()?;
            let (mut deleted, mut damaged) = (0, Ok(()));
            txn.open_table(definition(Id::KIND))
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

    /// Returns the registered entry of an id.
    pub(crate) fn registered<Id: RegisteredId>(&self, id: &Id) -> Result<Option<Registered<Id>>> {
        contained("reading what is registered", || Registry::open(&*self.snapshot()?, Id::KIND)?.get(id))
    }

    /// Returns the registered entries after an id, or from the first one on, in the order of the ids, up to `limit`.
    pub(crate) fn registered_after<Id: RegisteredId>(
        &self,
        after: Option<&Id>,
        limit: usize,
    ) -> Result<Vec<Registered<Id>>> {
        contained("reading what is registered", || {
            let snapshot = self.snapshot()?;
            let Some(table) = snapshot.table(definition(Id::KIND))? else { return Ok(Vec::new()) };
            let after = after.map(RegisteredId::to_key);
            let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut entries = Vec::new();
            for row in table.range::<&[u8]>((start, Bound::Unbounded)).storage()?.take(limit) {
                let (key, row) = row.storage()?;
                let id = Id::from_key(key.value()).ok_or_else(|| {
                    Error::corrupt(format!("the key of a registered {} is damaged", Id::KIND.noun()))
                })?;
                entries.push(codec::decode_registered(id, row.value())?);
            }
            Ok(entries)
        })
    }
}

/// One registry table as of one commit.
struct Registry {
    /// `None` if nothing was ever registered there.
    table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    /// The number of lookups in the table.
    lookups: Cell<u64>,
}

impl Registry {
    fn open(snapshot: &Snapshot, kind: RegisteredKind) -> Result<Self> {
        Ok(Self { table: snapshot.table(definition(kind))?, lookups: Cell::new(0) })
    }

    fn get<Id: RegisteredId>(&self, id: &Id) -> Result<Option<Registered<Id>>> {
        let Some(table) = &self.table else { return Ok(None) };
        self.lookups.set(self.lookups.get() + 1);
        let row = table.get(id.to_key().as_slice()).storage()?;
        row.map(|row| codec::decode_registered(id.clone(), row.value())).transpose()
    }
}

impl View {
    /// Adds the requested entries to records, with one lookup for each distinct id. Returns the number of lookups.
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
                        let found = registry.get(entry.key())?.map(Arc::new);
                        entry.insert(found).clone()
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
