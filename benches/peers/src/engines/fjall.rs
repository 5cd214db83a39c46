//! fjall, a log-structured engine, with hand-written indexes.
//!
//! For speed: a batch of writes is one journal entry and is synced once. A first load ingests complete sorted
//! tables without using the journal. fjall's batches cannot read, so writers that look up values first take a
//! lock, as they do inside the other engines.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};
use parking_lot::Mutex;

use super::CACHE_BYTES;
use super::indexed::{Fill, Indexed, LINKS, New, Old, Tables, Writer, link_key};
use crate::Result;

#[derive(Clone)]
pub(super) struct Fjall {
    database: Database,
    keys: Keyspace,
    records: Keyspace,
    links: [Keyspace; 5],
    /// The writers' lock, with the last id and the number of records, which fjall does not count.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    last_id: u64,
    count: u64,
}

impl fmt::Debug for Fjall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fjall").finish_non_exhaustive()
    }
}

pub(super) fn open(directory: &Path) -> Result<Indexed<Fjall>> {
    let database = Database::builder(directory).cache_size(CACHE_BYTES as u64).open()?;
    let keyspace = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default);
    let (keys, records) = (keyspace("keys")?, keyspace("records")?);
    let [entity_type, flow, run, step, time] = LINKS;
    let links = [keyspace(entity_type)?, keyspace(flow)?, keyspace(run)?, keyspace(step)?, keyspace(time)?];
    let id = |entry: Option<fjall::Guard>| entry.map_or(Ok(0), |entry| id_of(&entry.key()?));
    let (first_id, last_id) = (id(records.first_key_value())?, id(records.last_key_value())?);
    // Ids have no gaps, because only the oldest records are deleted.
    let count = if last_id == 0 { 0 } else { last_id - first_id + 1 };
    let state = Arc::new(Mutex::new(State { last_id, count }));
    Ok(Indexed(Fjall { database, keys, records, links, state }))
}

fn id_of(key: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(key.try_into()?))
}

impl Tables for Fjall {
    fn write<T>(&self, fill: Fill, work: impl FnOnce(&mut dyn Writer) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock();
        let batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        let mut transaction = Transaction { tables: self, fill, batch, state: *state };
        let done = work(&mut transaction)?;
        let after = transaction.state;
        transaction.batch.commit()?;
        *state = after;
        Ok(done)
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.keys.contains_key(key)?)
    }

    fn contains_each(
        &self,
        keys: &mut dyn Iterator<Item = &[u8]>,
        answer: &mut dyn FnMut(bool),
    ) -> Result<()> {
        let snapshot = self.database.snapshot();
        for key in keys {
            answer(snapshot.contains_key(&self.keys, key)?);
        }
        Ok(())
    }

    fn each_record(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for entry in self.records.iter() {
            each(&entry.value()?)?;
        }
        Ok(())
    }

    fn count(&self) -> Result<u64> {
        Ok(self.state.lock().count)
    }
}

struct Transaction<'t> {
    tables: &'t Fjall,
    fill: Fill,
    batch: OwnedWriteBatch,
    state: State,
}

impl Transaction<'_> {
    /// Ingests sorted tables, which are on disk when this returns.
    fn ingest(&mut self, new: &New<'_>) -> Result<()> {
        let Fjall { keys, records, links, .. } = self.tables;
        let mut into = records.start_ingestion()?;
        new.each_record(|id, record| Ok(into.write(id.to_be_bytes(), record)?))?;
        into.finish()?;
        let mut into = keys.start_ingestion()?;
        new.keys.iter().try_for_each(|(key, id)| into.write(*key, id.to_be_bytes()))?;
        into.finish()?;
        let mut key = Vec::new();
        for (table, links) in links.iter().zip(&new.links).filter(|(_, links)| !links.is_empty()) {
            let mut into = table.start_ingestion()?;
            for (value, ids) in links {
                for id in ids {
                    link_key(value, *id, &mut key);
                    into.write(key.as_slice(), [])?;
                }
            }
            into.finish()?;
        }
        Ok(())
    }
}

impl Writer for Transaction<'_> {
    fn last_id(&mut self) -> Result<u64> {
        Ok(self.state.last_id)
    }

    fn known(&mut self, keys: &mut dyn Iterator<Item = &[u8]>, answer: &mut dyn FnMut(bool)) -> Result<()> {
        for key in keys {
            answer(self.tables.keys.contains_key(key)?);
        }
        Ok(())
    }

    fn add(&mut self, new: &New<'_>) -> Result<()> {
        let count = new.keys.len() as u64;
        self.state = State { last_id: self.state.last_id + count, count: self.state.count + count };
        if self.fill == Fill::Append {
            return self.ingest(new);
        }
        let Self { tables, batch, .. } = self;
        new.each_record(|id, record| {
            batch.insert(&tables.records, id.to_be_bytes(), record);
            Ok(())
        })?;
        for (key, id) in &new.keys {
            batch.insert(&tables.keys, *key, id.to_be_bytes());
        }
        let mut key = Vec::new();
        for (table, links) in tables.links.iter().zip(&new.links) {
            for (value, ids) in links {
                for id in ids {
                    link_key(value, *id, &mut key);
                    batch.insert(table, key.as_slice(), []);
                }
            }
        }
        Ok(())
    }

    fn oldest(&mut self, goes_on: &mut dyn FnMut(u64, &[u8]) -> Result<bool>) -> Result<()> {
        for entry in self.tables.records.iter() {
            let (key, record) = entry.into_inner()?;
            if !goes_on(id_of(&key)?, &record)? {
                break;
            }
        }
        Ok(())
    }

    fn remove(&mut self, old: &Old) -> Result<()> {
        self.state.count -= old.ids.len() as u64;
        let Self { tables, batch, .. } = self;
        old.ids.iter().for_each(|id| batch.remove(&tables.records, id.to_be_bytes()));
        old.keys.iter().for_each(|key| batch.remove(&tables.keys, key.as_slice()));
        let mut key = Vec::new();
        for (table, links) in tables.links.iter().zip(&old.links) {
            for (value, ids) in links {
                for id in ids {
                    link_key(value, *id, &mut key);
                    batch.remove(table, key.as_slice());
                }
            }
        }
        Ok(())
    }
}
