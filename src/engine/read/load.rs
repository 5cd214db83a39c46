//! Loading: reads a pool's state from the file, and rebuilds its tails from the records that are in no index.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::format::codec::{self, HeadRow, SegmentRow, TableRow};
use crate::engine::format::index_row::OFFSET_MAX;
use crate::engine::format::postings;
use crate::engine::format::record::{self, Stored, StoredOrigin, StoredRecord};
use crate::engine::format::schema::{self, Geometry, SegmentTables, Slot};
use crate::engine::format::tables::record_count;
use crate::engine::pool::liveness::Deleted;
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::state::{PoolFields, PoolState};
use crate::engine::pool::tail::{TailEntry, TailView};
use crate::engine::probe::budget::Budget;
use crate::engine::probe::table::{FingerprintTable, Shape};
use crate::engine::read::claims;
use crate::engine::read::snapshot::Snapshot;
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::model::Origin;
use crate::time::{Reading, Timestamp};

/// Loads a pool. Returns `None` if there is no such pool.
pub(crate) fn load(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    id: PoolId,
    now: Reading,
) -> Result<Option<PoolState>> {
    let geometry = engine.geometry;
    let Some(pools) = snapshot.table(schema::POOLS)? else { return Ok(None) };
    let Some(row) = pools.get(id).storage()? else { return Ok(None) };
    let row = codec::decode_pool(id, row.value())?;
    let head = read_head(snapshot, id)?.unwrap_or_else(first_head);
    check_head(id, &head)?;
    check_tables(id, &head, engine.file_size()?)?;
    let (mut segments, mut has_base) = (Vec::<SegmentState>::new(), Vec::new());
    for row in &head.segments {
        let (segment, has) = load_segment(snapshot, geometry, id, row, head.last_time)?;
        segments.push(segment);
        has_base.push(has);
    }
    let open = segments.last().ok_or_else(|| Error::corrupt(format!("pool {id} has no segment")))?;
    let open_len = match snapshot.table(SegmentTables::new(id, open.number).records())? {
        Some(records) => record_count(&records)?,
        None => 0,
    };
    check_lengths(id, geometry, &segments, open_len)?;
    for (segment, has_base) in segments.iter().zip(has_base) {
        if !has_base && (segment.sealed_len > 0 || open_len > 0) {
            let text = format!("pool {id}: the first time of segment {} is missing", segment.number);
            return Err(Error::corrupt(text));
        }
    }
    let next_id = open.first_id + u64::from(open_len);
    if head.folded_to > next_id || head.watermark > next_id {
        return Err(Error::corrupt(format!(
            "pool {id}: the next id is {next_id}, but records below {} are folded and below {} dead",
            head.folded_to, head.watermark
        )));
    }
    let claims = claims::load(snapshot, id, now)?;
    let table = |row: &TableRow| Arc::new(table_of(row, &engine.budget));
    let state = PoolState::stored(PoolFields {
        id,
        geometry,
        policy: row.policy(),
        early_seal_slots: engine.tuning.early_seal_slots,
        watermark: head.watermark,
        stored_watermark: head.watermark,
        folded_to: head.folded_to,
        next_id,
        last_time: Timestamp::from_micros(head.last_time),
        latest: engine.latest_times.lock().entry(id).or_default().clone(),
        segments: Arc::new(segments),
        dropped: Arc::new(head.dropped),
        frozen: None,
        active: TailView::empty(head.folded_to),
        next_claim: claims.next_id(),
        claims,
        tables: Arc::new(head.tables.iter().map(table).collect()),
        merging: Arc::new(head.merging.iter().map(table).collect()),
        dropped_tables: Arc::new(head.dropped_tables),
        next_table: head.next_table,
        budget: Arc::clone(&engine.budget),
    });
    let view = View::new(Arc::clone(snapshot), Arc::new(state.clone()), engine.hash_key.clone());
    let last = view.last_record_time()?;
    let (frozen, active) = rebuild_tails(&view)?;
    Ok(Some(state.with_tails(frozen, active, last)))
}

fn read_head(snapshot: &Snapshot, id: PoolId) -> Result<Option<HeadRow>> {
    let Some(heads) = snapshot.table(schema::POOL_HEADS)? else { return Ok(None) };
    heads.get(id).storage()?.map(|row| codec::decode_head(row.value())).transpose()
}

/// Returns the head of a pool that has no stored head yet.
fn first_head() -> HeadRow {
    let segment = SegmentRow { number: 0, first_id: 1, sealed_len: 0 };
    let last_time = i64::MIN;
    HeadRow {
        watermark: 1,
        folded_to: 1,
        last_time,
        segments: vec![segment],
        dropped: Vec::new(),
        tables: Vec::new(),
        merging: Vec::new(),
        dropped_tables: Vec::new(),
        next_table: 0,
    }
}

fn table_of(row: &TableRow, budget: &Arc<Budget>) -> FingerprintTable {
    let shape = Shape::with_rows(row.len, row.rows);
    FingerprintTable::new(row.number, row.first_id..row.end_id, row.len, shape, budget)
}

/// Checks that tables are in id order, have no more rows than entries, and have numbers below the next one.
fn check_tables(id: PoolId, head: &HeadRow, file_size: u64) -> Result<()> {
    let in_order = head.tables.windows(2).all(|pair| match pair {
        [a, b] => a.end_id <= b.first_id,
        _ => true,
    });
    let is_sound = |table: &TableRow| {
        let ids = table.end_id.checked_sub(table.first_id);
        ids.is_some_and(|ids| table.len <= ids && ids <= OFFSET_MAX)
            && u64::from(table.rows) <= table.len.max(1)
            && table.number < head.next_table
            && table.end_id <= head.folded_to
            // The filters of completed tables are stored. A damaged length must not cause a huge allocation.
            && Shape::with_rows(table.len, table.rows).filter_bytes() as u64 <= file_size
    };
    if in_order && head.tables.iter().chain(&head.merging).all(is_sound) {
        return Ok(());
    }
    Err(Error::corrupt(format!("pool {id}: its list of tables of fingerprints is damaged")))
}

fn check_head(id: PoolId, head: &HeadRow) -> Result<()> {
    let in_order = head.segments.windows(2).all(|pair| match pair {
        [a, b] => {
            a.number < b.number
                && a.sealed_len > 0
                && a.first_id.saturating_add(a.sealed_len.into()) <= b.first_id
        }
        _ => true,
    });
    let open = head.segments.last().is_some_and(|open| open.sealed_len == 0 && open.first_id < u64::MAX / 2);
    let first = head.segments.first().is_some_and(|first| first.first_id > 0);
    if in_order && open && first {
        return Ok(());
    }
    Err(Error::corrupt(format!("pool {id}: its list of segments is damaged")))
}

/// Checks the lengths of segments, so that a damaged length does not cause a huge allocation.
fn check_lengths(id: PoolId, geometry: Geometry, segments: &[SegmentState], open_len: u32) -> Result<()> {
    let longest = segments.iter().map(|segment| segment.sealed_len).chain([open_len]).max().unwrap_or(0);
    if longest <= geometry.segment_slots {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "pool {id}: a segment has {longest} records; the store's segments have at most {}",
        geometry.segment_slots
    )))
}

/// Returns a segment, and true if its base time is stored.
fn load_segment(
    snapshot: &Snapshot,
    geometry: Geometry,
    pool: PoolId,
    row: &SegmentRow,
    head_time: i64,
) -> Result<(SegmentState, bool)> {
    let key = |number| (pool, row.number, number);
    let base_time = match snapshot.table(schema::TIMES)? {
        Some(times) => times.get(key(0)).storage()?.map(|time| time.value()),
        None => None,
    };
    let mut chunks = BTreeMap::new();
    if let Some(deleted) = snapshot.table(schema::DELETED)? {
        for entry in deleted.range(key(0)..=key(u32::MAX)).storage()? {
            let (key, bitmap) = entry.storage()?;
            let bitmap = postings::decode(bitmap.value(), geometry.chunk_slots)?;
            chunks.insert(key.value().2, Arc::new(bitmap));
        }
    }
    let segment = SegmentState {
        number: row.number,
        first_id: row.first_id,
        sealed_len: row.sealed_len,
        base_time: Timestamp::from_micros(base_time.unwrap_or(head_time)),
        deleted: Arc::new(Deleted::from_chunks(chunks)),
    };
    Ok((segment, base_time.is_some()))
}

/// Rebuilds the tails from the records that are in no index. Records of a sealed segment become the frozen
/// tail, because its fold was under way.
fn rebuild_tails(view: &View) -> Result<(Option<TailView>, TailView)> {
    let state = &view.state;
    let open_first = state.open_segment().map_or(state.next_id, |open| open.first_id);
    let sealed = state.folded_to..open_first.max(state.folded_to);
    let frozen = if sealed.is_empty() { None } else { Some(rebuild_tail(view, sealed.clone())?) };
    let active = rebuild_tail(view, sealed.end..state.next_id)?;
    Ok((frozen, active))
}

fn rebuild_tail(view: &View, ids: Range<RecordNumber>) -> Result<TailView> {
    let len = usize::try_from(ids.end - ids.start).unwrap_or_default();
    let Some((index, segment)) = view.state.segment_of(ids.start) else {
        return Ok(TailView::empty(ids.start));
    };
    let slots = segment.slot(ids.start)..segment.slot(ids.end);
    TailView::filled(ids.start, len, |push| {
        view.each_record(index, slots, |slot, _, entry| {
            let no_entry = || Error::corrupt(format!("slot {slot} has a stub, and no index has its record"));
            push(entry.ok_or_else(no_entry)?);
            Ok(())
        })
    })
}

impl View {
    /// Calls `each` for every record in some slots of a segment, with the data from which indexes follow: the
    /// slot, the time and the entry. A stub has no entry.
    pub(crate) fn each_record(
        &self,
        index: usize,
        slots: Range<Slot>,
        mut each: impl FnMut(Slot, Timestamp, Option<TailEntry>) -> Result<()>,
    ) -> Result<()> {
        let Some(segment) = self.state.segments.get(index).filter(|_| !slots.is_empty()) else {
            return Ok(());
        };
        let mut origins = KnownOrigins::default();
        let mut expected = slots.start;
        if let Some(records) = self.records(index)? {
            for row in records.range(slots.clone()).storage()? {
                let (slot, row) = row.storage()?;
                let slot = slot.value();
                if slot != expected {
                    break;
                }
                expected += 1;
                let stored = if self.state.is_live(segment.id(slot)) {
                    Stored::Record(record::decode(slot, segment.base_time, row.value())?)
                } else {
                    record::decode_slot(slot, segment.base_time, row.value())?
                };
                let created_at = stored.created_at();
                let entry = match stored {
                    Stored::Record(record) => Some(self.entry_of(segment, &record, &mut origins)?),
                    Stored::Stub(_) => None,
                };
                each(slot, created_at, entry)?;
            }
        }
        if expected == slots.end {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "pool {}: the record in slot {expected} of segment {} is missing",
            self.state.id, segment.number
        )))
    }
}

/// The origins of a segment that were read so far. Most records come in batches with one origin.
#[derive(Debug, Default)]
pub(crate) struct KnownOrigins {
    all: HashMap<Slot, Arc<Origin>>,
    last: Option<(Slot, Arc<Origin>)>,
}

impl View {
    /// Returns the entry of a record from which indexes follow.
    pub(crate) fn entry_of(
        &self,
        segment: &SegmentState,
        record: &StoredRecord<'_>,
        known: &mut KnownOrigins,
    ) -> Result<TailEntry> {
        let origin = match &record.origin {
            StoredOrigin::None => None,
            StoredOrigin::Here(row) => Some(Arc::new(codec::decode_origin(row)?)),
            StoredOrigin::Code(code) => {
                let origin = match &known.last {
                    Some((last, origin)) if last == code => Arc::clone(origin),
                    _ => match known.all.entry(*code) {
                        Entry::Occupied(entry) => Arc::clone(entry.get()),
                        Entry::Vacant(entry) => Arc::clone(entry.insert(self.origin(segment, *code)?)),
                    },
                };
                known.last = Some((*code, Arc::clone(&origin)));
                Some(origin)
            }
        };
        let fingerprint = self.hash_key.fingerprint(record.entity_type, record.value);
        let (entity_type, has_version) = (record.entity_type, record.version.is_some());
        Ok(TailEntry { fingerprint, entity_type, has_version, origin })
    }

    /// Returns the pool time of the newest record of the pool, dead or alive.
    fn last_record_time(&self) -> Result<Option<Timestamp>> {
        match self.state.next_id.checked_sub(1) {
            Some(last) if self.state.segment_of(last).is_some() => self.created_at(last).map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::format::tables;
    use crate::testing::{self, Sizes};
    use crate::{ErrorKind, RecordFilter, RecordQuery, StoreOptions};

    /// Heads that a damaged file may have: what is wrong, the change, and what the error says.
    type Damage = (&'static str, fn(&mut HeadRow), &'static str);

    const SEGMENTS: &str = "its list of segments is damaged";
    const TABLES: &str = "its list of tables of fingerprints is damaged";

    const DAMAGES: &[Damage] = &[
        ("no segment", |head| head.segments.clear(), SEGMENTS),
        ("segments in another order", |head| head.segments.swap(0, 1), SEGMENTS),
        ("two segments of one number", |head| head.segments[1].number = head.segments[0].number, SEGMENTS),
        ("a segment without an end before others", |head| head.segments[0].sealed_len = 0, SEGMENTS),
        ("a segment that reaches into the next", |head| head.segments[0].sealed_len += 1, SEGMENTS),
        ("a first record of number 0", |head| head.segments[0].first_id = 0, SEGMENTS),
        ("an open segment that is sealed", |head| head.segments.last_mut().unwrap().sealed_len = 1, SEGMENTS),
        (
            "no room for further records",
            |head| head.segments.last_mut().unwrap().first_id = u64::MAX / 2,
            SEGMENTS,
        ),
        (
            "a segment longer than any",
            |head| {
                head.segments.truncate(1);
                head.segments[0].sealed_len = Sizes::SMALL.segment_slots + 1;
                head.segments.push(SegmentRow { number: 90, first_id: 1_000, sealed_len: 0 });
                head.folded_to = 1_000;
            },
            "a segment has 65 records; the store's segments have at most 64",
        ),
        (
            "more folded than there are",
            |head| head.folded_to = 1_000,
            "the next id is 301, but records below 1000",
        ),
        ("more dead than there are", |head| head.watermark = 302, "and below 302 dead"),
        (
            "a table that ends before it begins",
            |head| head.tables[0].first_id = head.tables[0].end_id + 1,
            TABLES,
        ),
        ("more entries than records", |head| head.tables[0].len += 1_000, TABLES),
        ("more rows than entries", |head| head.tables[0].rows = 1_000_000, TABLES),
        ("a table's number that was never given", |head| head.tables[0].number = head.next_table, TABLES),
        (
            "entries of records that are not folded",
            |head| head.tables.last_mut().unwrap().end_id += 1_000,
            TABLES,
        ),
        ("tables that overlap", |head| head.tables.push(head.tables[0].clone()), TABLES),
        (
            "a filter larger than the file",
            |head| {
                head.folded_to = 1 << 30;
                let table = head.tables.last_mut().unwrap();
                (table.end_id, table.len) = (1 << 30, 1 << 29);
            },
            TABLES,
        ),
        (
            "a table that is too long for offsets",
            |head| {
                head.folded_to = 1 << 40;
                head.tables.last_mut().unwrap().end_id = 1 << 40;
            },
            TABLES,
        ),
    ];

    #[test]
    fn a_damaged_head_is_an_error_that_says_what_is_wrong_and_takes_no_other_pool_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let whole = directory.path().join("whole.redb");
        let [damaged, other] = testing::file_of_pools(&whole, ["damaged", "other"]);
        let as_it_was: Damage = ("nothing", |_| {}, "");
        for (what, change, says) in [as_it_was].iter().chain(DAMAGES) {
            let path = directory.path().join("damaged.redb");
            fs::copy(&whole, &path).unwrap();
            tables::change_head(&path, damaged, change);
            let store = testing::open(&path, &StoreOptions::new(), Sizes::SMALL).unwrap();
            let found = store.pool(damaged).and_then(|pool| pool.records(&RecordQuery::default()));
            if says.is_empty() {
                found.unwrap();
            } else {
                let error = found.expect_err(what);
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
                assert!(error.to_string().contains(says), "{what}: {error}");
            }
            assert_eq!(store.pool(other).unwrap().count(&RecordFilter::default()).unwrap(), 300, "{what}");
        }
    }
}
