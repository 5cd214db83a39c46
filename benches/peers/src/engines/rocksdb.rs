//! RocksDB, with hand-written indexes.
//!
//! For speed: each table has a bloom filter (ten bits per key), and filters and table indexes are kept in
//! memory in addition to the cache, which is the default. Each block has a hash index. A batch of writes is
//! one log entry and is synced once. Many keys are looked up in one call. A first load ingests complete
//! sorted tables. There is no compression, as with all other engines. As in fjall, writers that look up
//! values first take a lock.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DataBlockIndexType, IteratorMode, Options, SstFileWriter, WriteBatch, WriteOptions,
};

use super::CACHE_BYTES;
use super::indexed::{Fill, Indexed, LINKS, New, Old, Tables, Writer, link_key};
use crate::Result;

const KEYS: &str = "keys";
const RECORDS: &str = "records";
/// The value that RocksDB's tuning guide recommends for point lookups: a false positive rate of 1 %.
const BLOOM_BITS: f64 = 10.0;

#[derive(Clone)]
pub(super) struct RocksDb {
    database: Arc<DB>,
    directory: PathBuf,
    /// The writers' lock, with the last id and the number of records, which RocksDB only estimates.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    last_id: u64,
    count: u64,
}

impl fmt::Debug for RocksDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDb").finish_non_exhaustive()
    }
}

pub(super) fn open(directory: &Path) -> Result<Indexed<RocksDb>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.increase_parallelism(2);
    let table = table_options();
    let families = [KEYS, RECORDS].into_iter().chain(LINKS);
    let families = families.map(|name| ColumnFamilyDescriptor::new(name, table.clone()));
    let database = DB::open_cf_descriptors(&options, directory, families)?;
    let this = RocksDb {
        database: Arc::new(database),
        directory: directory.to_owned(),
        state: Arc::new(Mutex::new(State { last_id: 0, count: 0 })),
    };
    let (first_id, last_id) = (this.id_at(IteratorMode::Start)?, this.id_at(IteratorMode::End)?);
    // Ids have no gaps, because only the oldest records are deleted.
    let count = if last_id == 0 { 0 } else { last_id - first_id + 1 };
    *this.state.lock() = State { last_id, count };
    Ok(Indexed(this))
}

fn table_options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    blocks.set_bloom_filter(BLOOM_BITS, false);
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options
}

impl RocksDb {
    fn family(&self, name: &str) -> Result<&ColumnFamily> {
        Ok(self.database.cf_handle(name).ok_or("a column family is missing")?)
    }

    fn id_at(&self, end: IteratorMode<'_>) -> Result<u64> {
        match self.database.iterator_cf(self.family(RECORDS)?, end).next().transpose()? {
            Some((key, _)) => id_of(&key),
            None => Ok(0),
        }
    }
}

fn id_of(key: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(key.try_into()?))
}

impl Tables for RocksDb {
    fn write<T>(&self, fill: Fill, work: impl FnOnce(&mut dyn Writer) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock();
        let mut transaction = Transaction { tables: self, fill, batch: WriteBatch::default(), state: *state };
        let done = work(&mut transaction)?;
        let after = transaction.state;
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.database.write_opt(transaction.batch, &options)?;
        *state = after;
        Ok(done)
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.database.get_pinned_cf(self.family(KEYS)?, key)?.is_some())
    }

    fn contains_each(
        &self,
        keys: &mut dyn Iterator<Item = &[u8]>,
        answer: &mut dyn FnMut(bool),
    ) -> Result<()> {
        let keys: Vec<&[u8]> = keys.collect();
        for found in self.database.batched_multi_get_cf(self.family(KEYS)?, keys, true) {
            answer(found?.is_some());
        }
        Ok(())
    }

    fn each_record(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for entry in self.database.iterator_cf(self.family(RECORDS)?, IteratorMode::Start) {
            let (_, record) = entry?;
            each(&record)?;
        }
        Ok(())
    }

    fn count(&self) -> Result<u64> {
        Ok(self.state.lock().count)
    }
}

struct Transaction<'t> {
    tables: &'t RocksDb,
    fill: Fill,
    batch: WriteBatch,
    state: State,
}

impl Transaction<'_> {
    /// Writes a sorted table and ingests it.
    fn ingest(&self, name: &str, fill: impl FnOnce(&mut SstFileWriter<'_>) -> Result<()>) -> Result<()> {
        let options = table_options();
        let file = self.tables.directory.join(format!("{name}.ingested"));
        let mut writer = SstFileWriter::create(&options);
        writer.open(&file)?;
        fill(&mut writer)?;
        writer.finish()?;
        self.tables.database.ingest_external_file_cf(self.tables.family(name)?, vec![&file])?;
        Ok(std::fs::remove_file(file)?)
    }

    fn ingest_all(&self, new: &New<'_>) -> Result<()> {
        self.ingest(RECORDS, |into| new.each_record(|id, record| Ok(into.put(id.to_be_bytes(), record)?)))?;
        self.ingest(KEYS, |into| {
            new.keys.iter().try_for_each(|(key, id)| Ok(into.put(key, id.to_be_bytes())?))
        })?;
        let mut key = Vec::new();
        for (name, links) in LINKS.into_iter().zip(&new.links).filter(|(_, links)| !links.is_empty()) {
            self.ingest(name, |into| {
                for (value, ids) in links {
                    for id in ids {
                        link_key(value, *id, &mut key);
                        into.put(&key, [])?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Writer for Transaction<'_> {
    fn last_id(&mut self) -> Result<u64> {
        Ok(self.state.last_id)
    }

    fn known(&mut self, keys: &mut dyn Iterator<Item = &[u8]>, answer: &mut dyn FnMut(bool)) -> Result<()> {
        self.tables.contains_each(keys, answer)
    }

    fn add(&mut self, new: &New<'_>) -> Result<()> {
        let count = new.keys.len() as u64;
        self.state = State { last_id: self.state.last_id + count, count: self.state.count + count };
        if self.fill == Fill::Append {
            return self.ingest_all(new);
        }
        let (tables, batch) = (self.tables, &mut self.batch);
        let records = tables.family(RECORDS)?;
        new.each_record(|id, record| {
            batch.put_cf(records, id.to_be_bytes(), record);
            Ok(())
        })?;
        let keys = tables.family(KEYS)?;
        new.keys.iter().for_each(|(key, id)| batch.put_cf(keys, key, id.to_be_bytes()));
        let mut key = Vec::new();
        for (name, links) in LINKS.into_iter().zip(&new.links) {
            let table = tables.family(name)?;
            for (value, ids) in links {
                for id in ids {
                    link_key(value, *id, &mut key);
                    batch.put_cf(table, &key, []);
                }
            }
        }
        Ok(())
    }

    fn oldest(&mut self, goes_on: &mut dyn FnMut(u64, &[u8]) -> Result<bool>) -> Result<()> {
        for entry in self.tables.database.iterator_cf(self.tables.family(RECORDS)?, IteratorMode::Start) {
            let (key, record) = entry?;
            if !goes_on(id_of(&key)?, &record)? {
                break;
            }
        }
        Ok(())
    }

    fn remove(&mut self, old: &Old) -> Result<()> {
        self.state.count -= old.ids.len() as u64;
        let (tables, batch) = (self.tables, &mut self.batch);
        let (records, keys) = (tables.family(RECORDS)?, tables.family(KEYS)?);
        old.ids.iter().for_each(|id| batch.delete_cf(records, id.to_be_bytes()));
        old.keys.iter().for_each(|key| batch.delete_cf(keys, key));
        let mut key = Vec::new();
        for (name, links) in LINKS.into_iter().zip(&old.links) {
            let table = tables.family(name)?;
            for (value, ids) in links {
                for id in ids {
                    link_key(value, *id, &mut key);
                    batch.delete_cf(table, &key);
                }
            }
        }
        Ok(())
    }
}
