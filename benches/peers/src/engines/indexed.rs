//! The code that a program writes itself on top of an engine that has sorted tables and transactions but no
//! indexes.
//!
//! Owns: [`Indexed`], which turns [`Tables`] into an [`Engine`]. [`batch`] finds the new rows of a batch and
//! sorts them for each table; [`record`] has the byte layouts. The tables are the same for all engines: key
//! to id, id to record, and for each attribute its value to ids.
//!
//! For speed: each table is read and written in its own order. A first load sorts everything in memory, in
//! one buffer, and appends to each table.

mod batch;
mod record;

use std::path::Path;

use datapool_store::Timestamp;

use super::{CsvFile, Engine, Past, Runs, each_csv_row};
use crate::Result;
use crate::common::Row;
use crate::data::{DataSet, Run, time_of};

use batch::Batch;
pub(super) use batch::{New, Old};
pub(super) use record::link_key;
use record::{Record, key_of};

/// The attributes that have an index: entity type, flow, run, step and time.
pub(super) const LINKS: [&str; 5] = ["entity_type", "flow", "run", "step", "created_at"];

/// The number of rows per step while a database grows. It is small compared with the database, so that pages
/// are as full as with rows that are inserted one by one.
const GROWTH_ROWS: usize = 20_000;

/// The way in which rows are added to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// At any position.
    Insert,
    /// In the order of the table, which is empty.
    Append,
}

/// The tables of an engine.
pub(super) trait Tables: Clone + Send + 'static {
    /// Runs a closure in one transaction, which is on disk when this returns.
    fn write<T>(&self, fill: Fill, work: impl FnOnce(&mut dyn Writer) -> Result<T>) -> Result<T>;

    /// Returns true if the key exists.
    fn contains(&self, key: &[u8]) -> Result<bool>;

    /// Returns true for each key that exists. The keys are sorted. All answers are as of one moment.
    fn contains_each(
        &self,
        keys: &mut dyn Iterator<Item = &[u8]>,
        answer: &mut dyn FnMut(bool),
    ) -> Result<()>;

    /// Iterates over all records in the order of their ids, as of one moment.
    fn each_record(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    fn count(&self) -> Result<u64>;
}

/// A write transaction.
pub(super) trait Writer {
    /// Returns the highest id; 0 if there is none.
    fn last_id(&mut self) -> Result<u64>;

    /// Answers for each of the sorted keys if it exists.
    fn known(&mut self, keys: &mut dyn Iterator<Item = &[u8]>, answer: &mut dyn FnMut(bool)) -> Result<()>;

    fn add(&mut self, new: &New<'_>) -> Result<()>;

    /// Iterates over ids and records, oldest first, until `goes_on` returns false.
    fn oldest(&mut self, goes_on: &mut dyn FnMut(u64, &[u8]) -> Result<bool>) -> Result<()>;

    fn remove(&mut self, old: &Old) -> Result<()>;
}

// ---- The engine -----------------------------------------------------------------------------------------------

/// An engine that consists of tables.
#[derive(Debug, Clone)]
pub(super) struct Indexed<T>(pub(super) T);

impl<T: Tables> Indexed<T> {
    /// Adds a batch. If the database is empty, rows are appended; otherwise they are inserted.
    fn add_all(&self, batch: &Batch) -> Result<u64> {
        let fill = if self.0.count()? == 0 { Fill::Append } else { Fill::Insert };
        Ok(self.0.write(fill, |writer| batch.add(fill, writer))? as u64)
    }
}

impl<T: Tables> Engine for Indexed<T> {
    fn another(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self(self.0.clone())))
    }

    fn import(&mut self, file: &Path) -> Result<u64> {
        let (mut batch, now) = (Batch::default(), time_of(0).as_micros());
        each_csv_row(file, |entity_type, value| {
            batch.push(entity_type, value, now);
            Ok(())
        })?;
        self.add_all(&batch)
    }

    fn load(&mut self, set: DataSet, past: Past) -> Result<()> {
        let mut batch = Batch::default();
        for Run { number, time, rows } in set.runs() {
            batch.push_all(&rows, Runs::One(number), time);
            if past == Past::Grown && batch.len() >= GROWTH_ROWS {
                let grown = std::mem::take(&mut batch);
                self.0.write(Fill::Insert, |writer| grown.add(Fill::Insert, writer))?;
            }
        }
        let fill = if past == Past::Grown { Fill::Insert } else { Fill::Append };
        self.0.write(fill, |writer| batch.add(fill, writer))?;
        Ok(())
    }

    fn track(&mut self, rows: &[Row], runs: Runs, time: Timestamp) -> Result<usize> {
        let mut batch = Batch::default();
        batch.push_all(rows, runs, time);
        self.0.write(Fill::Insert, |writer| batch.add(Fill::Insert, writer))
    }

    fn contains(&mut self, row: &Row) -> Result<bool> {
        self.0.contains(&key_of(row))
    }

    fn contains_many(&mut self, rows: &[Row]) -> Result<Vec<bool>> {
        let mut keys: Vec<(Vec<u8>, usize)> = rows.iter().map(key_of).zip(0..).collect();
        keys.sort_unstable();
        let mut found = vec![false; rows.len()];
        let mut places = keys.iter().map(|(_, place)| *place);
        self.0.contains_each(&mut keys.iter().map(|(key, _)| key.as_slice()), &mut |is| {
            if let Some(found) = places.next().and_then(|place| found.get_mut(place)) {
                *found = is;
            }
        })?;
        Ok(found)
    }

    fn count(&mut self) -> Result<u64> {
        self.0.count()
    }

    fn expire(&mut self, before: Timestamp) -> Result<u64> {
        self.0.write(Fill::Insert, |writer| {
            let mut old = Old::default();
            // Ids are in time order, so the index need not be read.
            writer.oldest(&mut |id, bytes| {
                let record = Record::decode(bytes)?;
                let goes = record.time < before.as_micros();
                if goes {
                    old.push(id, &record);
                }
                Ok(goes)
            })?;
            old.keys.sort_unstable();
            writer.remove(&old)?;
            Ok(old.ids.len() as u64)
        })
    }

    fn export(&mut self, file: &Path) -> Result<()> {
        let mut csv = CsvFile::create(file)?;
        self.0.each_record(&mut |bytes| {
            let record = Record::decode(bytes)?;
            csv.push(record.value, record.entity_type)
        })?;
        csv.finish()
    }
}
