//! Appending records to segments.
//!
//! Owns: how a record's row, its origin and the sparse time index are written. Always holds: slots are
//! written in order, without gaps. Only one table is open at a time, because redb panics on some damaged
//! files when it opens a table, and then another open table cannot be dropped without aborting the process.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use redb::WriteTransaction;

use crate::engine::format::codec;
use crate::engine::format::record::{StoredOrigin, StoredRecord};
use crate::engine::format::schema::{self, SegmentNumber, SegmentTables, Slot};
use crate::engine::pool::segment::SegmentState;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::draft::{NewRecord, PoolDraft};
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::model::Origin;

/// The origins recently written to the open segment, and where each is stored.
#[derive(Debug, Default)]
pub(crate) struct KnownOrigins {
    segment: SegmentNumber,
    places: HashMap<Arc<Origin>, Place>,
    /// The origin of the previous record, and its code. Most records come in batches with one origin.
    last: Option<(Arc<Origin>, Slot)>,
}

/// The largest number of origins remembered per pool. One that is forgotten is written again, which is
/// harmless.
const KNOWN_ORIGINS_MAX: usize = 1_024;

/// The place where an origin is stored.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Inside the record in this slot. No other record uses it yet.
    Record(Slot),
    /// In the table of origins, with this code.
    Row(Slot),
    /// Like `Row`, but the row must still be written.
    NewRow(Slot),
}

/// The relation of the next record to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follower {
    /// The next record is in the same batch, so it has the same origin.
    OfSameBatch,
    /// The next record is in another batch, or there is none.
    OfAnother,
}

impl KnownOrigins {
    /// Returns the place for a record's origin. A new origin is stored inside the record if the record is
    /// alone in its batch, so that a commit of one record writes one table.
    fn place(
        &mut self,
        segment: SegmentNumber,
        origin: &Arc<Origin>,
        slot: Slot,
        follower: Follower,
    ) -> Place {
        if self.segment != segment || self.places.len() >= KNOWN_ORIGINS_MAX {
            *self = Self { segment, ..Self::default() };
        }
        if let Some((_, code)) = self.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, origin)) {
            return Place::Row(*code);
        }
        let place = match self.places.get(origin) {
            Some(Place::Row(code) | Place::NewRow(code)) => Place::Row(*code),
            Some(Place::Record(first)) => Place::NewRow(*first),
            None if follower == Follower::OfAnother => Place::Record(slot),
            None => Place::NewRow(slot),
        };
        self.places.insert(Arc::clone(origin), place);
        if let Place::Row(code) | Place::NewRow(code) = place {
            self.last = Some((Arc::clone(origin), code));
        }
        place
    }
}

/// Writes the origin rows that new records of a segment need. The table of origins is opened for the first of
/// them.
pub(crate) struct OriginWriter<'t> {
    txn: &'t WriteTransaction,
    pool: PoolId,
    segment: SegmentNumber,
    known: &'t mut KnownOrigins,
    table: Option<OriginsTable<'t>>,
}

type OriginsTable<'t> = redb::Table<'t, (PoolId, SegmentNumber, Slot), &'static [u8]>;

impl<'t> OriginWriter<'t> {
    pub(crate) fn new(
        txn: &'t WriteTransaction,
        pool: PoolId,
        segment: SegmentNumber,
        known: &'t mut KnownOrigins,
    ) -> Self {
        Self { txn, pool, segment, known, table: None }
    }

    /// Returns how the next record stores its origin.
    pub(crate) fn store(
        &mut self,
        origin: Option<&Arc<Origin>>,
        slot: Slot,
        follower: Follower,
    ) -> Result<StoredOrigin<'static>> {
        let Some(origin) = origin else { return Ok(StoredOrigin::None) };
        Ok(match self.known.place(self.segment, origin, slot, follower) {
            Place::Record(_) => StoredOrigin::Here(codec::encode_origin(origin)?.into()),
            Place::Row(code) => StoredOrigin::Code(code),
            Place::NewRow(code) => {
                let table = match &mut self.table {
                    Some(table) => table,
                    None => self.table.insert(self.txn.open_table(schema::ORIGINS).storage()?),
                };
                let row = codec::encode_origin(origin)?;
                table.insert((self.pool, self.segment, code), row.as_slice()).storage()?;
                StoredOrigin::Code(code)
            }
        })
    }
}

/// Appends the new records of the draft, segment by segment.
pub(crate) fn append_records(
    txn: &WriteTransaction,
    draft: &PoolDraft,
    known: &mut KnownOrigins,
) -> Result<()> {
    let state = &draft.state;
    let mut id = draft.base.state.next_id;
    let mut rest = draft.new.as_slice();
    while !rest.is_empty() {
        let (index, segment) =
            state.segment_of(id).ok_or_else(|| Error::corrupt(format!("no segment for record {id}")))?;
        let room = usize::try_from(state.end_of(index) - id).unwrap_or(usize::MAX);
        let (now, later) = rest.split_at(room.min(rest.len()));
        let first = segment.slot(id);
        let rows = with_origins(txn, draft, segment, (first..).zip(now), known)?;
        append_to_segment(txn, state.id, segment, first, rows.into_iter())?;
        id += now.len() as u64;
        rest = later;
    }
    Ok(())
}

/// Returns the rows of the new records of one segment, and writes the origin rows that they need.
fn with_origins<'d>(
    txn: &WriteTransaction,
    draft: &'d PoolDraft,
    segment: &SegmentState,
    records: impl Iterator<Item = (Slot, &'d NewRecord)>,
    known: &mut KnownOrigins,
) -> Result<Vec<StoredRecord<'d>>> {
    let mut rows = Vec::with_capacity(records.size_hint().0);
    let mut origins = OriginWriter::new(txn, draft.state.id, segment.number, known);
    let mut records = records.peekable();
    while let Some((slot, NewRecord { batch: number, item })) = records.next() {
        let no_item = || Error::storage("a draft's record has no item");
        let batch = draft.batches.get(*number).ok_or_else(no_item)?;
        let entity_type = batch.items().get(*item).ok_or_else(no_item)?.entity_type;
        let follower = match records.peek() {
            Some((_, next)) if next.batch == *number => Follower::OfSameBatch,
            _ => Follower::OfAnother,
        };
        let origin = origins.store(batch.origin(), slot, follower)?;
        let (version, value) = (batch.version(*item), batch.value(*item));
        rows.push(StoredRecord { origin, entity_type, created_at: draft.time, version, value });
    }
    Ok(rows)
}

/// Appends records to a segment, after its last slot.
pub(crate) fn append_to_segment<'r>(
    txn: &WriteTransaction,
    pool: PoolId,
    segment: &SegmentState,
    first: Slot,
    rows: impl Iterator<Item = StoredRecord<'r>>,
) -> Result<()> {
    let mut block_times = Vec::new();
    {
        let names = SegmentTables::new(pool, segment.number);
        let mut records = txn.open_table(names.records()).storage()?;
        let mut cursor = records.upper_bound_mut(Bound::<u32>::Unbounded).storage()?;
        let mut bytes = Vec::new();
        for (slot, row) in (first..).zip(rows) {
            row.encode(slot, segment.base_time, &mut bytes);
            cursor.insert_before(slot, bytes.as_slice()).storage()?;
            if slot.is_multiple_of(schema::TIME_BLOCK_SLOTS) {
                block_times.push((slot / schema::TIME_BLOCK_SLOTS, row.created_at));
            }
        }
        cursor.close().storage()?;
    }
    if block_times.is_empty() {
        return Ok(());
    }
    let mut times = txn.open_table(schema::TIMES).storage()?;
    for (block, time) in block_times {
        times.insert((pool, segment.number, block), time.as_micros()).storage()?;
    }
    Ok(())
}
