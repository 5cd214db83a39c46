//! LMDB, with hand-written indexes.
//!
//! For speed: sorted writes use append mode. The ids under an attribute's value are stored as duplicates of
//! fixed width. Readers are not bound to a thread. Durability is the default: each commit is synced. LMDB
//! cannot store values longer than its largest key, 511 bytes; the measured ones are shorter.

use std::fmt;
use std::path::Path;

use heed::byteorder::BigEndian;
use heed::types::{Bytes, DecodeIgnore, U64, Unit};
use heed::{CommitOrAbort, Database, DatabaseFlags, Env, EnvOpenOptions, PutFlags, RwTxn, WithoutTls};

use super::indexed::{Fill, Indexed, LINKS, New, Old, Tables, Writer};
use crate::Result;

/// More than any data set needs. This only reserves address space, not disk space.
const MAP_BYTES: usize = 1 << 36;
/// The number of tables: keys, records, and one for each attribute.
const TABLES: u32 = 7;
/// The number of reader slots, enough for all threads.
const READERS: u32 = 256;

type Id = U64<BigEndian>;
type Keys = Database<'static, Bytes, Id>;
type Records = Database<'static, Id, Bytes>;

#[derive(Clone)]
pub(super) struct Lmdb {
    env: Env<WithoutTls>,
    keys: Keys,
    records: Records,
    links: [Keys; 5],
}

impl fmt::Debug for Lmdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lmdb").field("path", &self.env.path()).finish_non_exhaustive()
    }
}

pub(super) fn open(directory: &Path) -> Result<Indexed<Lmdb>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(MAP_BYTES).max_dbs(TABLES).max_readers(READERS);
    let env = open_env(&options, directory)?;
    let (keys, records, links) = env
        .create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let keys = opener.create_database::<Bytes, Id>(txn, Some("keys"))?;
            let records = opener.create_database::<Id, Bytes>(txn, Some("records"))?;
            let mut link = |name| {
                let mut options = opener.database_options().types::<Bytes, Id>();
                options.name(name).flags(DatabaseFlags::DUP_SORT | DatabaseFlags::DUP_FIXED);
                options.create(txn)
            };
            let [entity_type, flow, run, step, time] = LINKS;
            let links = [link(entity_type)?, link(flow)?, link(run)?, link(step)?, link(time)?];
            heed::Result::Ok(CommitOrAbort::<_, ()>::Commit((keys, records, links)))
        })?
        .unwrap_commit();
    Ok(Indexed(Lmdb { env, keys, records, links }))
}

/// The only unsafe code of this crate. Nobody else changes the file while it is mapped, because it is in a
/// directory that only this program uses.
#[allow(unsafe_code, reason = "LMDB maps the file, and heed has no other way to open one")]
fn open_env(options: &EnvOpenOptions<WithoutTls>, directory: &Path) -> Result<Env<WithoutTls>> {
    // SAFETY: see above.
    Ok(unsafe { options.open(directory) }?)
}

impl Tables for Lmdb {
    fn write<T>(&self, fill: Fill, work: impl FnOnce(&mut dyn Writer) -> Result<T>) -> Result<T> {
        let mut transaction = Transaction { tables: self, fill, txn: self.env.write_txn()? };
        let done = work(&mut transaction)?;
        transaction.txn.commit()?;
        Ok(done)
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        let txn = self.env.read_txn()?;
        Ok(self.keys.get(&txn, key)?.is_some())
    }

    fn contains_each(
        &self,
        keys: &mut dyn Iterator<Item = &[u8]>,
        answer: &mut dyn FnMut(bool),
    ) -> Result<()> {
        let txn = self.env.read_txn()?;
        for key in keys {
            answer(self.keys.get(&txn, key)?.is_some());
        }
        Ok(())
    }

    fn each_record(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let txn = self.env.read_txn()?;
        for entry in self.records.remap_key_type::<DecodeIgnore>().iter(&txn)? {
            each(entry?.1)?;
        }
        Ok(())
    }

    fn count(&self) -> Result<u64> {
        let txn = self.env.read_txn()?;
        Ok(self.records.len(&txn)?)
    }
}

struct Transaction<'t> {
    tables: &'t Lmdb,
    fill: Fill,
    txn: RwTxn<'t>,
}

impl Writer for Transaction<'_> {
    fn last_id(&mut self) -> Result<u64> {
        let last = self.tables.records.remap_data_type::<Unit>().lazily_decode_data().last(&self.txn)?;
        Ok(last.map_or(0, |(id, _)| id))
    }

    fn known(&mut self, keys: &mut dyn Iterator<Item = &[u8]>, answer: &mut dyn FnMut(bool)) -> Result<()> {
        for key in keys {
            answer(self.tables.keys.get(&self.txn, key)?.is_some());
        }
        Ok(())
    }

    fn add(&mut self, new: &New<'_>) -> Result<()> {
        let Self { tables, fill, txn } = self;
        // Ids only increase.
        new.each_record(|id, record| {
            Ok(tables.records.put_with_flags(txn, PutFlags::APPEND, &id, record)?)
        })?;
        let keys = if *fill == Fill::Append { PutFlags::APPEND } else { PutFlags::empty() };
        for (key, id) in &new.keys {
            tables.keys.put_with_flags(txn, keys, key, id)?;
        }
        for (table, links) in tables.links.iter().zip(&new.links) {
            for (value, ids) in links {
                for id in ids {
                    table.put_with_flags(txn, PutFlags::APPEND_DUP, value, id)?;
                }
            }
        }
        Ok(())
    }

    fn oldest(&mut self, goes_on: &mut dyn FnMut(u64, &[u8]) -> Result<bool>) -> Result<()> {
        for entry in self.tables.records.iter(&self.txn)? {
            let (id, record) = entry?;
            if !goes_on(id, record)? {
                break;
            }
        }
        Ok(())
    }

    fn remove(&mut self, old: &Old) -> Result<()> {
        let Self { tables, txn, .. } = self;
        if let (Some(first), Some(last)) = (old.ids.first(), old.ids.last()) {
            tables.records.delete_range(txn, &(*first..=*last))?;
        }
        for key in &old.keys {
            tables.keys.delete(txn, key)?;
        }
        for (table, links) in tables.links.iter().zip(&old.links) {
            for (value, ids) in links {
                for id in ids {
                    table.delete_one_duplicate(txn, value, id)?;
                }
            }
        }
        Ok(())
    }
}
