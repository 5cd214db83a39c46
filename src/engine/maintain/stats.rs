//! Statistics of the store and of a pool, which are cheap enough to compute once a second.
//!
//! Always holds: nothing here walks over a table. The size of a pool is estimated from the number of rows
//! (which redb keeps) and the length of some of them.

use std::ops::Range;

use redb::{ReadableTable, ReadableTableMetadata};

use crate::engine::Engine;
use crate::engine::format::record::{self, Attribute, PostingKey, Stored, StoredOrigin, StoredRecord};
use crate::engine::format::schema::{self, Slot};
use crate::engine::read::view::View;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::error::{Error, Result};
use crate::ids::RecordNumber;
use crate::model::{PoolStats, SegmentFill, StoreStats};
use crate::time::Reading;

/// The number of rows of a pool that are read to estimate the length of its rows.
const SAMPLES: usize = 64;
/// The number of bytes that redb adds to a row whose key and value have variable lengths: the offsets of
/// their ends.
const ROW_OVERHEAD_BYTES: f64 = 4.0;
/// The fill of redb's pages if rows are only appended. If some rows are appended and others are inserted
/// anywhere, it is 0.68 to 0.98.
const FILL_APPENDED: f64 = 0.98;
const FILL_INSERTED: f64 = 0.8;
/// The approximate size of an origin's row with its key.
const ORIGIN_ROW_BYTES: usize = 70;
/// The size of tables with at most this many rows is measured, because the fill of their pages depends on the
/// size of the commits.
const MEASURED_ROWS: u64 = 4_096;

impl Engine {
    /// Returns the store's statistics.
    ///
    /// # Errors
    ///
    /// `Closed`; `Storage`.
    pub(crate) fn stats(&self) -> Result<StoreStats> {
        let pools = contained("counting the pools", || match self.snapshot()?.table(schema::POOLS)? {
            Some(pools) => pools.len().storage(),
            None => Ok(0),
        })?;
        let index_memory = {
            let published = self.published.read();
            published.pools().map(|state| state.memory()).sum::<usize>() as u64
        };
        let file_size = self.file_size()?;
        let session = self.session.read();
        let session = session.as_ref().ok_or_else(Error::closed)?;
        let traffic = session.backend.traffic();
        let holding = session.readers.holding();
        Ok(StoreStats {
            pools,
            file_size,
            // Every cached page was read or written before.
            cache_memory: (traffic.read() + traffic.written())
                .min(self.opener.page_bytes() as u64)
                .min(file_size),
            index_memory,
            oldest_snapshot: holding.longest,
            snapshots: holding.readers,
            held_by_readers: holding.bytes.min(file_size),
            bytes_read: traffic.read(),
            bytes_written: traffic.written(),
            ..self.counters.read()
        })
    }
}

impl View {
    /// Returns the pool's statistics.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Storage`.
    pub(crate) fn stats(&self, now: Reading) -> Result<PoolStats> {
        contained("gathering figures", || {
            let state = &self.state;
            let mut figures =
                PoolStats::new(state.live(), state.claims.count(now.moment), state.unfolded() as u64);
            let samples = SAMPLES.div_ceil(state.segments.len().max(1));
            for (index, segment) in state.segments.iter().enumerate() {
                let (first, end) = (self.first_stored(index)?, state.end_of(index));
                let records = end.saturating_sub(first);
                let live = state.live_in(&(first..end));
                let slots = segment.slot(first)..segment.slot(end);
                let deleted = segment.deleted.count_in(state.geometry, slots);
                figures.deleted += deleted;
                figures.expired += records.saturating_sub(live + deleted);
                figures.segments += 1;
                let slots = u64::from(state.geometry.segment_slots);
                figures.fill.push(SegmentFill::new(
                    segment.number,
                    segment.sealed_len > 0,
                    records,
                    live,
                    slots,
                ));
                figures.bytes += self.bytes_of(index, first..end, samples)?;
            }
            figures.bytes +=
                state.tables.iter().map(|table| table.shape.stored_bytes(table.len)).sum::<u64>();
            if figures.live > 0 {
                figures.time_ahead = state.pool_time(now.time).since(now.time);
            }
            figures.oldest = self.nth_live_time(0)?;
            figures.newest = match figures.live.checked_sub(1) {
                Some(last) => self.nth_live_time(last)?,
                None => None,
            };
            Ok(figures)
        })
    }

    /// Returns the first record of a segment that is stored. The dead head of the segment may have been
    /// removed.
    pub(crate) fn first_stored(&self, index: usize) -> Result<RecordNumber> {
        let state = &self.state;
        let Some(segment) = state.segments.get(index) else { return Ok(state.next_id) };
        if segment.first_id >= state.watermark {
            return Ok(segment.first_id);
        }
        let first = match self.records(index)? {
            Some(table) => table.first().storage()?.map(|(slot, _)| slot.value()),
            None => None,
        };
        Ok(first.map_or(state.end_of(index), |slot| segment.id(slot)))
    }

    /// Returns the time of the live record that comes after `before` live records.
    fn nth_live_time(&self, before: u64) -> Result<Option<crate::time::Timestamp>> {
        if before >= self.state.live() {
            return Ok(None);
        }
        let behind = self.state.after_oldest(before + 1);
        self.created_at(behind - 1).map(Some)
    }

    /// Returns the approximate size of a segment in the file, in bytes.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    fn bytes_of(&self, index: usize, ids: Range<RecordNumber>, samples: usize) -> Result<u64> {
        let Some(segment) = self.state.segments.get(index) else { return Ok(0) };
        let records = ids.end.saturating_sub(ids.start) as f64;
        let mut bytes = 0.0;
        if let Some(table) = self.records(index)? {
            let slots = segment.slot(ids.start)..segment.slot(ids.end);
            let (mut mean, mut origins) = (Mean::default(), Mean::default());
            for slot in samples_of(slots, samples) {
                let Some(row) = table.get(slot).storage()? else { continue };
                let stored = record::decode_slot(slot, segment.base_time, row.value())?;
                mean.add(row.value().len());
                // The first of several records with the same origin adds a row.
                let is_first = |record: &StoredRecord<'_>| record.origin == StoredOrigin::Code(slot);
                let brings_row = matches!(&stored, Stored::Record(record) if is_first(record));
                origins.add(if brings_row { ORIGIN_ROW_BYTES } else { 0 });
            }
            bytes += if table.len().storage()? <= MEASURED_ROWS {
                let stats = table.stats().storage()?;
                (stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes()) as f64
            } else {
                records * (mean.value() + 4.0 + ROW_OVERHEAD_BYTES) / FILL_APPENDED
            };
            bytes += records * origins.value();
        }
        if let Some(table) = self.postings(index)? {
            let mut mean = Mean::default();
            // Attributes with few values have long lists, and those with many values have short lists, so
            // some lists of each are read.
            for attribute in Attribute::ALL {
                let (first, behind) = PostingKey::range_of(attribute);
                for row in table
                    .range::<&[u8]>(first.as_slice()..behind.as_slice())
                    .storage()?
                    .take(samples.div_ceil(Attribute::ALL.len()))
                {
                    let (key, list) = row.storage()?;
                    mean.add(key.value().len() + list.value().len());
                }
            }
            bytes +=
                table.len().storage()? as f64 * (mean.value() + 2.0 * ROW_OVERHEAD_BYTES) / FILL_INSERTED;
        }
        bytes += self.result_bytes(index, samples)?;
        Ok(bytes as u64)
    }

    /// Returns the approximate size of a segment's results in the file, in bytes.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    fn result_bytes(&self, index: usize, samples: usize) -> Result<f64> {
        let Some(table) = self.results(index)? else { return Ok(0.0) };
        let ends = (table.first().storage()?, table.last().storage()?);
        let (Some((first, _)), Some((last, _))) = ends else { return Ok(0.0) };
        let slots = first.value()..last.value().saturating_add(1);
        let mut mean = Mean::default();
        for slot in samples_of(slots, samples) {
            if let Some(row) = table.range(slot..).storage()?.next() {
                mean.add(row.storage()?.1.value().len());
            }
        }
        Ok(table.len().storage()? as f64 * (mean.value() + 4.0 + ROW_OVERHEAD_BYTES) / FILL_APPENDED)
    }
}

/// Returns up to `most` slots, one of each of as many equal parts. Their places in the parts differ, because batches may be as long as
/// a part.
fn samples_of(slots: Range<Slot>, most: usize) -> impl Iterator<Item = Slot> {
    // The golden ratio, of 2^32: its multiples are spread evenly.
    const STRIDE: u32 = 0x9e37_79b9;
    let part = (slots.len() / most).max(1);
    let within = move |number: u32| (u64::from(number.wrapping_mul(STRIDE)) * part as u64) >> 32;
    let firsts = slots.step_by(part).take(most);
    firsts.zip(0..).map(move |(first, number)| first + u32::try_from(within(number)).unwrap_or(0))
}

#[derive(Default)]
struct Mean {
    sum: usize,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: usize) {
        self.sum += value;
        self.count += 1;
    }

    #[allow(clippy::cast_precision_loss, reason = "a mean of small numbers")]
    fn value(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }
}
