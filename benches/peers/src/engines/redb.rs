//! redb, used in a plain way: one B-tree per index.
//!
//! For speed: rows that come in a table's order are appended through a cursor, which is several times faster
//! than inserting. Records always are, and index entries in a first load. Everything else is inserted in the
//! table's order. Durability is the default.

use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use super::CACHE_BYTES;
use super::indexed::{Fill, Indexed, LINKS, New, Old, Tables, Writer, link_key};
use crate::Result;

const KEYS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("keys");
pub(super) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

#[derive(Clone)]
pub(super) struct Redb(Arc<Database>);

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").finish_non_exhaustive()
    }
}

/// Returns the table of an attribute, whose keys are a value and an id.
fn link_table(name: &str) -> TableDefinition<'_, &'static [u8], ()> {
    TableDefinition::new(name)
}

pub(super) fn open(directory: &Path) -> Result<Indexed<Redb>> {
    let database = open_database(directory)?;
    let txn = database.begin_write()?;
    if txn.list_tables()?.next().is_some() {
        txn.abort()?;
        return Ok(Indexed(Redb(Arc::new(database))));
    }
    txn.open_table(KEYS)?;
    txn.open_table(RECORDS)?;
    for name in LINKS {
        txn.open_table(link_table(name))?;
    }
    txn.commit()?;
    Ok(Indexed(Redb(Arc::new(database))))
}

pub(super) fn open_database(directory: &Path) -> Result<Database> {
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create(directory.join("pools.redb"))?)
}

/// Appends records in the order of their ids.
pub(super) fn append(
    txn: &WriteTransaction,
    each: impl FnOnce(&mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let mut records = txn.open_table(RECORDS)?;
    let mut cursor = records.upper_bound_mut(Bound::<u64>::Unbounded)?;
    each(&mut |id, record| Ok(cursor.insert_before(id, record)?))?;
    Ok(cursor.close()?)
}

pub(super) fn last_id(txn: &WriteTransaction) -> Result<u64> {
    let records = txn.open_table(RECORDS)?;
    let last = records.last()?;
    Ok(last.map_or(0, |(id, _)| id.value()))
}

impl Tables for Redb {
    fn write<T>(&self, fill: Fill, work: impl FnOnce(&mut dyn Writer) -> Result<T>) -> Result<T> {
        let mut transaction = Transaction { fill, txn: self.0.begin_write()? };
        let done = work(&mut transaction)?;
        transaction.txn.commit()?;
        Ok(done)
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        let keys = self.0.begin_read()?.open_table(KEYS)?;
        Ok(keys.get_owned(key)?.is_some())
    }

    fn contains_each(
        &self,
        asked: &mut dyn Iterator<Item = &[u8]>,
        answer: &mut dyn FnMut(bool),
    ) -> Result<()> {
        let txn = self.0.begin_read()?;
        let keys = txn.open_table(KEYS)?;
        for key in asked {
            answer(keys.get(key)?.is_some());
        }
        Ok(())
    }

    fn each_record(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let txn = self.0.begin_read()?;
        for entry in txn.open_table(RECORDS)?.iter()? {
            each(entry?.1.value())?;
        }
        Ok(())
    }

    fn count(&self) -> Result<u64> {
        Ok(self.0.begin_read()?.open_table(RECORDS)?.len()?)
    }
}

struct Transaction {
    fill: Fill,
    txn: WriteTransaction,
}

impl Writer for Transaction {
    fn last_id(&mut self) -> Result<u64> {
        last_id(&self.txn)
    }

    fn known(&mut self, asked: &mut dyn Iterator<Item = &[u8]>, answer: &mut dyn FnMut(bool)) -> Result<()> {
        let keys = self.txn.open_table(KEYS)?;
        for key in asked {
            answer(keys.get(key)?.is_some());
        }
        Ok(())
    }

    fn add(&mut self, new: &New<'_>) -> Result<()> {
        append(&self.txn, |push| new.each_record(push))?;
        let keys = self.txn.open_table(KEYS)?;
        fill(self.fill, keys, |push| new.keys.iter().try_for_each(|(key, id)| push(key, *id)))?;
        let mut key = Vec::new();
        for (name, links) in LINKS.into_iter().zip(&new.links) {
            fill(self.fill, self.txn.open_table(link_table(name))?, |push| {
                for (value, ids) in links {
                    for id in ids {
                        link_key(value, *id, &mut key);
                        push(&key, ())?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn oldest(&mut self, goes_on: &mut dyn FnMut(u64, &[u8]) -> Result<bool>) -> Result<()> {
        for entry in self.txn.open_table(RECORDS)?.iter()? {
            let (id, record) = entry?;
            if !goes_on(id.value(), record.value())? {
                break;
            }
        }
        Ok(())
    }

    fn remove(&mut self, old: &Old) -> Result<()> {
        if let (Some(first), Some(last)) = (old.ids.first(), old.ids.last()) {
            self.txn.open_table(RECORDS)?.retain_in(*first..=*last, |_, _| false)?;
        }
        let mut keys = self.txn.open_table(KEYS)?;
        for key in &old.keys {
            keys.remove(key.as_slice())?;
        }
        let mut key = Vec::new();
        for (name, links) in LINKS.into_iter().zip(&old.links) {
            let mut table = self.txn.open_table(link_table(name))?;
            for (value, ids) in links {
                for id in ids {
                    link_key(value, *id, &mut key);
                    table.remove(key.as_slice())?;
                }
            }
        }
        Ok(())
    }
}

/// Adds entries, in the order of the table.
fn fill<V>(
    fill: Fill,
    mut table: Table<'_, &'static [u8], V>,
    each: impl FnOnce(&mut dyn FnMut(&[u8], V) -> Result<()>) -> Result<()>,
) -> Result<()>
where
    V: redb::Value + for<'v> std::borrow::Borrow<V::SelfType<'v>> + 'static,
{
    match fill {
        Fill::Insert => each(&mut |key, value| {
            table.insert(key, value)?;
            Ok(())
        }),
        Fill::Append => {
            let mut cursor = table.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
            each(&mut |key, value| Ok(cursor.insert_before(key, value)?))?;
            Ok(cursor.close()?)
        }
    }
}
