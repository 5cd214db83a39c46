//! What a program writes by hand over an engine that has sorted tables and transactions, and no indexes.
//!
//! Owns: [`Batch`], which finds out what is new and sorts it for each table; the bytes of records and keys; and
//! [`Indexed`], which makes an [`Engine`] of [`Tables`]. The tables are the same everywhere: key to id, id to record, and
//! for each attribute its value to ids.
//!
//! For speed: each table is asked and written in its own order; a first load sorts everything in memory, in one
//! buffer, and appends to each table.

use std::collections::BTreeMap;
use std::path::Path;

use datapool_store::Timestamp;

use super::{CsvFile, Engine, Runs, each_csv_row};
use crate::Result;
use crate::common::{Row, flow, step};
use crate::data::{DataSet, Run, run_id, time_of};

/// The one pool. It stands first in every key, as it must where there are several.
const POOL: u32 = 1;
/// Bytes of a key before the value: pool and entity type.
const KEY_HEAD_BYTES: usize = 8;

/// The attributes that have an index: entity type, flow, run, step and time.
pub(super) const LINKS: [&str; 5] = ["entity_type", "flow", "run", "step", "created_at"];

/// How rows come into a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Anywhere.
    Insert,
    /// The table is empty, and they come in its order.
    Append,
}

/// An engine's tables.
pub(super) trait Tables: Clone + Send + 'static {
    /// Does some work in one transaction, which is on disk when this returns.
    fn write<T>(&self, fill: Fill, work: impl FnOnce(&mut dyn Writer) -> Result<T>) -> Result<T>;

    /// Whether there is a key.
    fn contains(&self, key: &[u8]) -> Result<bool>;

    /// Whether there are keys, which come in order, as of one moment.
    fn contains_each(
        &self,
        keys: &mut dyn Iterator<Item = &[u8]>,
        answer: &mut dyn FnMut(bool),
    ) -> Result<()>;

    /// All records in the order of their ids, as of one moment.
    fn each_record(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    fn count(&self) -> Result<u64>;
}

/// A transaction that writes.
pub(super) trait Writer {
    /// The highest id; 0 if there is none.
    fn last_id(&mut self) -> Result<u64>;

    /// Of keys that come in order, whether each is there.
    fn known(&mut self, keys: &mut dyn Iterator<Item = &[u8]>, answer: &mut dyn FnMut(bool)) -> Result<()>;

    fn add(&mut self, new: &New<'_>) -> Result<()>;

    /// Ids and records, from the oldest on, as long as `goes_on` says so.
    fn oldest(&mut self, goes_on: &mut dyn FnMut(u64, &[u8]) -> Result<bool>) -> Result<()>;

    fn remove(&mut self, old: &Old) -> Result<()>;
}

// ---- Records --------------------------------------------------------------------------------------------------

/// A record's row: entity type, time, three ids of some length, the value to the end.
#[derive(Debug)]
pub(super) struct Record<'a> {
    entity_type: u32,
    time: i64,
    /// Flow, run and step; each empty if there is none.
    origin: [&'a str; 3],
    value: &'a [u8],
}

impl<'a> Record<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.entity_type.to_be_bytes());
        out.extend_from_slice(&self.time.to_be_bytes());
        for id in self.origin {
            // Ids have at most 64 bytes.
            out.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(id.as_bytes());
        }
        out.extend_from_slice(self.value);
    }

    fn decode(bytes: &'a [u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| "a record is damaged".into())
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (entity_type, rest) = bytes.split_first_chunk()?;
        let (time, mut rest) = rest.split_first_chunk()?;
        let mut origin = [""; 3];
        for id in &mut origin {
            let (length, behind) = rest.split_first()?;
            let (text, behind) = behind.split_at_checked(usize::from(*length))?;
            *id = std::str::from_utf8(text).ok()?;
            rest = behind;
        }
        let (entity_type, time) = (u32::from_be_bytes(*entity_type), i64::from_be_bytes(*time));
        Some(Self { entity_type, time, origin, value: rest })
    }
}

fn push_key(entity_type: u32, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&POOL.to_be_bytes());
    out.extend_from_slice(&entity_type.to_be_bytes());
    out.extend_from_slice(value);
}

fn key_of(row: &Row) -> Vec<u8> {
    let mut key = Vec::with_capacity(KEY_HEAD_BYTES + row.value.len());
    push_key(row.entity_type, row.value.as_bytes(), &mut key);
    key
}

/// An attribute's value with an id, for tables that have one value a key.
pub(super) fn link_key(value: &[u8], id: u64, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(value);
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

// ---- Batches --------------------------------------------------------------------------------------------------

/// Rows that are added together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The keys, one behind the other.
    keys: Vec<u8>,
    rows: Vec<Item>,
    /// Flow, run and step of each run, once.
    origins: Vec<[String; 3]>,
}

#[derive(Debug)]
struct Item {
    start: usize,
    length: usize,
    origin: Option<usize>,
    time: i64,
}

/// What is new of a batch, in the order of each table.
#[derive(Debug)]
pub(super) struct New<'b> {
    batch: &'b Batch,
    /// An id for each row of the batch; 0 for those that are not new.
    ids: Vec<u64>,
    pub(super) keys: Vec<(&'b [u8], u64)>,
    /// For each attribute its values, each with ascending ids.
    pub(super) links: [BTreeMap<Vec<u8>, Vec<u64>>; 5],
}

impl Batch {
    fn push(&mut self, entity_type: u32, value: &str, time: i64) {
        let start = self.keys.len();
        push_key(entity_type, value.as_bytes(), &mut self.keys);
        let origin = self.origins.len().checked_sub(1);
        self.rows.push(Item { start, length: self.keys.len() - start, origin, time });
    }

    /// What is pushed from now on is of this run.
    fn begin_run(&mut self, run: usize) {
        self.origins.push([flow(run), run_id(run), step(run)]);
    }

    fn push_all(&mut self, rows: &[Row], runs: Runs, time: Timestamp) {
        let mut run = match runs {
            Runs::Each(first) => first,
            Runs::One(run) => {
                self.begin_run(run);
                run
            }
        };
        for Row { entity_type, value } in rows {
            if matches!(runs, Runs::Each(_)) {
                self.begin_run(run);
                run += 1;
            }
            self.push(*entity_type, value, time.as_micros());
        }
    }

    fn key(&self, row: usize) -> &[u8] {
        let item = self.rows.get(row).map(|item| item.start..item.start + item.length);
        item.and_then(|range| self.keys.get(range)).unwrap_or_default()
    }

    /// The first row of each key, in the order of keys.
    fn distinct(&self) -> Vec<usize> {
        // Most comparisons end in these bytes, without a look at the buffer.
        let start = |row| {
            let mut start = [0; 12];
            start.iter_mut().zip(self.key(row).iter().skip(4)).for_each(|(to, from)| *to = *from);
            start
        };
        let mut order: Vec<([u8; 12], u32)> =
            (0..self.rows.len()).map(|row| (start(row), u32::try_from(row).unwrap_or(u32::MAX))).collect();
        order.sort_unstable_by(|(a_start, a), (b_start, b)| {
            a_start.cmp(b_start).then_with(|| (self.key(*a as usize), a).cmp(&(self.key(*b as usize), b)))
        });
        let mut rows: Vec<usize> = order.into_iter().map(|(_, row)| row as usize).collect();
        rows.dedup_by(|next, first| self.key(*next) == self.key(*first));
        rows
    }

    /// Adds what is new. How much that was.
    fn add(&self, fill: Fill, writer: &mut dyn Writer) -> Result<usize> {
        let mut rows = self.distinct();
        if fill == Fill::Insert {
            let mut known = Vec::with_capacity(rows.len());
            writer.known(&mut rows.iter().map(|row| self.key(*row)), &mut |is| known.push(is))?;
            let mut known = known.into_iter();
            rows.retain(|_| known.next() == Some(false));
        }
        let new = self.new_rows(&rows, writer.last_id()? + 1);
        writer.add(&new)?;
        Ok(rows.len())
    }

    fn new_rows(&self, sorted: &[usize], first_id: u64) -> New<'_> {
        let mut ids = vec![0; self.rows.len()];
        for row in sorted {
            if let Some(id) = ids.get_mut(*row) {
                *id = 1;
            }
        }
        // Ids are given in the order in which the rows came.
        (first_id..).zip(ids.iter_mut().filter(|id| **id > 0)).for_each(|(next, id)| *id = next);
        let id_of = |row: usize| ids.get(row).copied().unwrap_or_default();
        let keys = sorted.iter().map(|row| (self.key(*row), id_of(*row))).collect();
        let mut links: [BTreeMap<Vec<u8>, Vec<u64>>; 5] = Default::default();
        for (row, id) in ids.iter().enumerate().filter(|(_, id)| **id > 0) {
            for (links, value) in links.iter_mut().zip(self.record(row).link_values()) {
                let Some(value) = value else { continue };
                // Allocates for a value's first record only.
                match links.get_mut(value.as_ref()) {
                    Some(ids) => ids.push(*id),
                    None => _ = links.insert(value.to_vec(), vec![*id]),
                }
            }
        }
        New { batch: self, ids, keys, links }
    }

    fn record(&self, row: usize) -> Record<'_> {
        let (head, value) = self.key(row).split_at_checked(KEY_HEAD_BYTES).unwrap_or_default();
        let item = self.rows.get(row);
        let origin = item.and_then(|item| self.origins.get(item.origin?));
        Record {
            entity_type: head.last_chunk().copied().map(u32::from_be_bytes).unwrap_or_default(),
            time: item.map(|item| item.time).unwrap_or_default(),
            origin: origin.map(|ids| ids.each_ref().map(String::as_str)).unwrap_or_default(),
            value,
        }
    }
}

impl New<'_> {
    /// Hands on ids and records, by ascending id.
    pub(super) fn each_record(&self, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut bytes = Vec::new();
        for (row, id) in self.ids.iter().enumerate().filter(|(_, id)| **id > 0) {
            self.batch.record(row).encode(&mut bytes);
            each(*id, &bytes)?;
        }
        Ok(())
    }
}

/// An attribute's value as it stands in its index.
enum LinkValue<'a> {
    Number([u8; 4]),
    Time([u8; 8]),
    Text(&'a str),
}

impl LinkValue<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Number(bytes) => bytes,
            Self::Time(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }

    fn to_vec(&self) -> Vec<u8> {
        self.as_ref().to_vec()
    }
}

impl Record<'_> {
    /// What [`LINKS`] has of it. What it lacks has no entry.
    fn link_values(&self) -> [Option<LinkValue<'_>>; 5] {
        let [flow, run, step] = self.origin.map(|id| (!id.is_empty()).then_some(LinkValue::Text(id)));
        let entity_type = LinkValue::Number(self.entity_type.to_be_bytes());
        [Some(entity_type), flow, run, step, Some(LinkValue::Time(self.time.to_be_bytes()))]
    }
}

/// What goes, in the order of each table.
#[derive(Debug, Default)]
pub(super) struct Old {
    pub(super) ids: Vec<u64>,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) links: [BTreeMap<Vec<u8>, Vec<u64>>; 5],
}

impl Old {
    fn push(&mut self, id: u64, record: &Record<'_>) {
        self.ids.push(id);
        let mut key = Vec::with_capacity(KEY_HEAD_BYTES + record.value.len());
        push_key(record.entity_type, record.value, &mut key);
        self.keys.push(key);
        for (links, value) in self.links.iter_mut().zip(record.link_values()) {
            let Some(value) = value else { continue };
            match links.get_mut(value.as_ref()) {
                Some(ids) => ids.push(id),
                None => _ = links.insert(value.to_vec(), vec![id]),
            }
        }
    }
}

// ---- The engine -----------------------------------------------------------------------------------------------

/// An engine made of tables.
#[derive(Debug, Clone)]
pub(super) struct Indexed<T>(pub(super) T);

impl<T: Tables> Indexed<T> {
    /// Into an empty database at once, otherwise as a batch.
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

    fn load(&mut self, set: DataSet) -> Result<()> {
        let mut batch = Batch::default();
        for Run { number, time, rows } in set.runs() {
            batch.push_all(&rows, Runs::One(number), time);
        }
        self.add_all(&batch)?;
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
            // Ids are in the order of time: no need to ask the index.
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
