//! Appending records to segments.
//!
//! Owns: how a record's row, its origin's row and the sparse time index are written. Always holds: slots are written
//! in order, without gaps. One table is open at a time: redb panics on some damaged files while it opens a table, and
//! a table that is open then cannot be dropped without aborting the process.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use redb::WriteTransaction;

use super::codec;
use super::draft::{NewRecord, PoolDraft};
use super::failure::StorageResult;
use super::record::StoredRecord;
use super::schema::{self, SegmentNumber, SegmentTables, Slot};
use super::state::SegmentState;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::model::Origin;

/// The codes of the origins that the open segment got lately.
#[derive(Debug, Default)]
pub(crate) struct OriginCodes {
    segment: SegmentNumber,
    codes: HashMap<Arc<Origin>, Slot>,
    /// The origin of the record before: most records come in batches of one origin.
    last: Option<(Arc<Origin>, Slot)>,
}

/// How many origins are remembered for each pool; one that is forgotten gets a second row, which does no harm.
const ORIGIN_CODES_MAX: usize = 1_024;

impl OriginCodes {
    /// The origin's code in a segment, and whether it must be written: then it is `slot`.
    fn code(&mut self, segment: SegmentNumber, origin: &Arc<Origin>, slot: Slot) -> (Slot, bool) {
        if self.segment != segment || self.codes.len() >= ORIGIN_CODES_MAX {
            *self = Self { segment, ..Self::default() };
        }
        if let Some((_, code)) = self.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, origin)) {
            return (*code, false);
        }
        let known = self.codes.get(origin).copied();
        let code = known.unwrap_or(slot);
        if known.is_none() {
            self.codes.insert(Arc::clone(origin), slot);
        }
        self.last = Some((Arc::clone(origin), code));
        (code, known.is_none())
    }
}

/// Appends the draft's new records, segment by segment.
pub(crate) fn append_records(
    txn: &WriteTransaction,
    draft: &PoolDraft,
    codes: &mut OriginCodes,
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
        let rows = with_origin_codes(txn, draft, segment, (first..).zip(now), codes)?;
        append_to_segment(txn, state.id, segment, first, rows.into_iter())?;
        id += now.len() as u64;
        rest = later;
    }
    Ok(())
}

/// The rows of new records of one segment. Writes the origins that the segment does not have yet.
fn with_origin_codes<'d>(
    txn: &WriteTransaction,
    draft: &'d PoolDraft,
    segment: &SegmentState,
    records: impl Iterator<Item = (Slot, &'d NewRecord)>,
    codes: &mut OriginCodes,
) -> Result<Vec<StoredRecord<'d>>> {
    let mut rows = Vec::with_capacity(records.size_hint().0);
    let mut origins = None;
    for (slot, NewRecord { batch, item }) in records {
        let no_item = || Error::storage("a draft's record has no item");
        let batch = draft.batches.get(*batch).ok_or_else(no_item)?;
        let entity_type = batch.items().get(*item).ok_or_else(no_item)?.entity_type;
        let origin_code = match batch.origin() {
            None => None,
            Some(origin) => {
                let (code, is_new) = codes.code(segment.number, origin, slot);
                if is_new {
                    let origins = match &mut origins {
                        Some(origins) => origins,
                        None => origins.insert(txn.open_table(schema::ORIGINS).storage()?),
                    };
                    let row = codec::encode_origin(origin)?;
                    origins.insert((draft.state.id, segment.number, code), row.as_slice()).storage()?;
                }
                Some(code)
            }
        };
        rows.push(StoredRecord {
            origin_code,
            entity_type,
            created_at: draft.time,
            value: batch.value(*item),
        });
    }
    Ok(rows)
}

/// Appends records to a segment, from the slot after its last one on.
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
