//! Batches: finds the new rows of a batch, and sorts them for each table.
//!
//! Always holds: ids are assigned in the order in which the rows came. Of equal keys, the first row counts.

use std::collections::BTreeMap;

use datapool_store::Timestamp;

use super::record::{KEY_HEAD_BYTES, Record, push_key};
use super::{Fill, Writer};
use crate::Result;
use crate::common::{Row, flow, step};
use crate::data::run_id;
use crate::engines::Runs;

/// Rows that are added in one step.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The keys, concatenated.
    keys: Vec<u8>,
    rows: Vec<Item>,
    /// The flow, run and step of each run, stored once.
    origins: Vec<[String; 3]>,
}

#[derive(Debug)]
struct Item {
    start: usize,
    length: usize,
    origin: Option<usize>,
    time: i64,
}

/// The new rows of a batch, in the order of each table.
#[derive(Debug)]
pub(in crate::engines) struct New<'b> {
    batch: &'b Batch,
    /// The id of each row of the batch; 0 for rows that are not new.
    ids: Vec<u64>,
    pub(in crate::engines) keys: Vec<(&'b [u8], u64)>,
    /// The values of each attribute, each with its ids in ascending order.
    pub(in crate::engines) links: [BTreeMap<Vec<u8>, Vec<u64>>; 5],
}

impl Batch {
    pub(super) fn push(&mut self, entity_type: u32, value: &str, time: i64) {
        let start = self.keys.len();
        push_key(entity_type, value.as_bytes(), &mut self.keys);
        let origin = self.origins.len().checked_sub(1);
        self.rows.push(Item { start, length: self.keys.len() - start, origin, time });
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Begins a run. Rows that are pushed from now on belong to it.
    fn begin_run(&mut self, run: usize) {
        self.origins.push([flow(run), run_id(run), step(run)]);
    }

    pub(super) fn push_all(&mut self, rows: &[Row], runs: Runs, time: Timestamp) {
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

    /// Returns the first row of each key, in the order of keys.
    fn distinct(&self) -> Vec<usize> {
        // Most comparisons are decided by these bytes, without reading the buffer.
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

    /// Adds the new rows. Returns their number.
    pub(super) fn add(&self, fill: Fill, writer: &mut dyn Writer) -> Result<usize> {
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
        // Ids are assigned in the order in which the rows came.
        (first_id..).zip(ids.iter_mut().filter(|id| **id > 0)).for_each(|(next, id)| *id = next);
        let id_of = |row: usize| ids.get(row).copied().unwrap_or_default();
        let keys = sorted.iter().map(|row| (self.key(*row), id_of(*row))).collect();
        let mut links: [BTreeMap<Vec<u8>, Vec<u64>>; 5] = Default::default();
        for (row, id) in ids.iter().enumerate().filter(|(_, id)| **id > 0) {
            for (links, value) in links.iter_mut().zip(self.record(row).link_values()) {
                let Some(value) = value else { continue };
                // Allocates only for the first record with a value.
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
    /// Calls back with ids and records, by ascending id.
    pub(in crate::engines) fn each_record(
        &self,
        mut each: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        for (row, id) in self.ids.iter().enumerate().filter(|(_, id)| **id > 0) {
            self.batch.record(row).encode(&mut bytes);
            each(*id, &bytes)?;
        }
        Ok(())
    }
}

/// The records to delete, in the order of each table.
#[derive(Debug, Default)]
pub(in crate::engines) struct Old {
    pub(in crate::engines) ids: Vec<u64>,
    pub(in crate::engines) keys: Vec<Vec<u8>>,
    pub(in crate::engines) links: [BTreeMap<Vec<u8>, Vec<u64>>; 5],
}

impl Old {
    pub(super) fn push(&mut self, id: u64, record: &Record<'_>) {
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
