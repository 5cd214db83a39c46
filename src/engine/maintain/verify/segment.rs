//! Checks one segment: its records, and every index entry that follows from them.
//!
//! Always holds: every live and folded record must be in every index. Every index entry must match the record
//! that it refers to, dead or alive, for as long as that record is stored.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use redb::ReadableTable;
use roaring::RoaringBitmap;

use super::Verification;
use super::expected::Expected;
use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::Fingerprint;
use crate::engine::format::codec;
use crate::engine::format::index_row::identity;
use crate::engine::format::postings;
use crate::engine::format::record::{self, PostingKey, Stored, StoredOrigin};
use crate::engine::format::schema::{self, SegmentTables, Slot};
use crate::engine::pool::claims::Owners;
use crate::engine::pool::segment::SegmentState;
use crate::engine::pool::tail::TailEntry;
use crate::engine::read::claims::{ItemsByClaim, seen_by};
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::fold::entries::Entries;
use crate::error::{ErrorKind, Result};
use crate::ids::PoolId;
use crate::model::Origin;
use crate::time::Timestamp;

/// The number of records read between two calls of the observer.
const TICK_RECORDS: u64 = 65_536;

/// The parts of a segment's records from which its indexes follow.
pub(super) struct Column {
    pub(super) pool: PoolId,
    pub(super) names: SegmentTables,
    /// The slots that should be stored. A dead head may have been removed.
    pub(super) stored: Range<Slot>,
    /// The fingerprint of each of these slots; `None` if its record is missing or damaged.
    fingerprints: Vec<Option<Fingerprint>>,
    /// The live and folded slots, which every index must have.
    required: RoaringBitmap,
    /// The slots of the records that have a version.
    with_version: RoaringBitmap,
    /// The entries from which the posting lists follow.
    entries: Entries,
    block_times: BTreeMap<u32, Timestamp>,
}

impl Column {
    /// Returns the fingerprint of a slot, or `None` if nothing is stored there.
    pub(super) fn fingerprint(&self, slot: Slot) -> Option<Fingerprint> {
        let at = slot.checked_sub(self.stored.start)?;
        self.fingerprints.get(at as usize).copied().flatten()
    }
}

impl Verification<'_, '_, '_> {
    /// Checks a segment, in which no live record may be older than `before`. Returns the time of its last
    /// live record, or `before` if it has none.
    pub(super) fn check_segment(
        &mut self,
        view: &View,
        index: usize,
        before: Option<Timestamp>,
        (owners, items): (&mut Owners, Option<&ItemsByClaim>),
        expected: &mut Expected,
    ) -> Result<Option<Timestamp>> {
        let state = &view.state;
        let Some(segment) = state.segments.get(index) else { return Ok(before) };
        let (column, live_time) = self.read_column(view, index, segment, before)?;
        self.expect_entries(view, segment, &column, expected);
        self.check_times(segment, &column)?;
        self.check_deleted(view, segment, &column);
        if let Some(items) = items.filter(|_| !owners.is_empty()) {
            self.check_owned(view, segment, &column, owners, items);
        }
        self.check_results(view, index, &column)?;
        self.check_postings(view, index, column)?;
        Ok(live_time)
    }

    /// Reads a segment's records, and checks each of them.
    fn read_column(
        &mut self,
        view: &View,
        index: usize,
        segment: &SegmentState,
        before: Option<Timestamp>,
    ) -> Result<(Column, Option<Timestamp>)> {
        let state = &view.state;
        let pool = state.id;
        let names = SegmentTables::new(pool, segment.number);
        let len = segment.slot(state.end_of(index));
        let mut column = Column {
            pool,
            names,
            stored: len..len,
            fingerprints: Vec::new(),
            required: RoaringBitmap::new(),
            with_version: RoaringBitmap::new(),
            entries: Entries::default(),
            block_times: BTreeMap::new(),
        };
        let Some(table) = view.records(index)? else {
            if len > segment.slot(state.watermark) {
                self.findings.add(Some(pool), &column.names.records, "", "the segment's records are missing");
            }
            return Ok((column, before));
        };
        // Records below the watermark may have been removed, but no later ones.
        let first = table.first().storage()?.map_or(len, |(slot, _)| slot.value());
        column.stored = first.min(segment.slot(state.watermark)).min(len)..len;
        let mut origins: BTreeMap<Slot, Option<Arc<Origin>>> = BTreeMap::new();
        let mut expected = column.stored.start;
        let mut untold = 0;
        // An import with times may begin earlier than dead records of earlier segments.
        let (mut last_time, mut live_time) = (before, before);
        for row in table.range::<u32>(..).storage()? {
            let (slot, row) = row.storage()?;
            let slot = slot.value();
            if slot >= len {
                let text = format!("the segment has {len} records");
                self.findings.add(Some(pool), &column.names.records, slot.to_string(), text);
                break;
            }
            self.report_gap(&column, expected..slot, segment, view);
            column.fingerprints.resize((slot - column.stored.start) as usize, None);
            expected = slot + 1;
            let stored = match record::decode_slot(slot, segment.base_time, row.value()) {
                Ok(stored) => stored,
                Err(error) => {
                    self.findings.add(Some(pool), &column.names.records, slot.to_string(), error.to_string());
                    column.fingerprints.push(None);
                    continue;
                }
            };
            let created_at = stored.created_at();
            if last_time.is_some_and(|last| created_at < last) {
                let text = "it is older than the record before it";
                self.findings.add(Some(pool), &column.names.records, slot.to_string(), text);
            }
            last_time = Some(created_at);
            let id = segment.id(slot);
            let is_live = state.is_live(id);
            match stored {
                Stored::Record(stored) => {
                    let records = &column.names.records;
                    let origin =
                        self.origin_of(view, segment, records, slot, &stored.origin, &mut origins)?;
                    let fingerprint = self.engine.hash_key.fingerprint(stored.entity_type, stored.value);
                    column.fingerprints.push(Some(fingerprint));
                    let (entity_type, has_version) = (stored.entity_type, stored.version.is_some());
                    if has_version {
                        column.with_version.insert(slot);
                    }
                    column.entries.push(slot, TailEntry { fingerprint, entity_type, has_version, origin });
                }
                Stored::Stub(_) => {
                    column.fingerprints.push(None);
                    if is_live {
                        let text = "it has a stub, as if its record were dead, and it is live";
                        self.findings.add(Some(pool), &column.names.records, slot.to_string(), text);
                    }
                }
            }
            if is_live {
                live_time = Some(created_at);
                if id < state.folded_to {
                    column.required.insert(slot);
                }
            }
            if slot.is_multiple_of(schema::TIME_BLOCK_SLOTS) {
                column.block_times.insert(slot / schema::TIME_BLOCK_SLOTS, created_at);
            }
            untold += 1;
            if untold == TICK_RECORDS {
                self.tick(std::mem::take(&mut untold))?;
            }
        }
        self.report_gap(&column, expected..len, segment, view);
        column.fingerprints.resize(column.stored.len(), None);
        self.tick(untold)?;
        Ok((column, live_time))
    }

    /// Adds a finding for records that should be stored but are not. Those below the watermark may have been
    /// removed.
    fn report_gap(&mut self, column: &Column, slots: Range<Slot>, segment: &SegmentState, view: &View) {
        let gone = slots.start.max(segment.slot(view.state.watermark))..slots.end;
        if !gone.is_empty() {
            let key = format!("{} to {}", gone.start, gone.end - 1);
            self.findings.add(Some(column.pool), &column.names.records, key, "the records are missing");
        }
    }

    /// Returns the origin of a record, or `None` if it has no readable one.
    fn origin_of(
        &mut self,
        view: &View,
        segment: &SegmentState,
        records: &str,
        slot: Slot,
        stored: &StoredOrigin<'_>,
        known: &mut BTreeMap<Slot, Option<Arc<Origin>>>,
    ) -> Result<Option<Arc<Origin>>> {
        let read = match stored {
            StoredOrigin::None => return Ok(None),
            StoredOrigin::Here(row) => codec::decode_origin(row).map(Arc::new),
            StoredOrigin::Code(code) => match known.get(code) {
                Some(origin) => return Ok(origin.clone()),
                None => view.origin(segment, *code),
            },
        };
        let pool = view.state.id;
        let origin = match read {
            Ok(origin) => Some(origin),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let (table, key) = match stored {
                    StoredOrigin::Code(code) => ("origins", key_of(pool, segment, *code)),
                    _ => (records, slot.to_string()),
                };
                self.findings.add(Some(pool), table, key, error.to_string());
                None
            }
            Err(error) => return Err(error),
        };
        if let StoredOrigin::Code(code) = stored {
            known.insert(*code, origin.clone());
        }
        Ok(origin)
    }

    /// Adds each live folded record to the expected contents of the table of fingerprints that covers its id.
    fn expect_entries(
        &mut self,
        view: &View,
        segment: &SegmentState,
        column: &Column,
        expected: &mut Expected,
    ) {
        for slot in &column.required {
            let Some(fingerprint) = column.fingerprint(slot) else { continue };
            let id = segment.id(slot);
            let identity = identity(fingerprint, column.with_version.contains(slot));
            if !expected.add(&view.state, identity, id) {
                let text = format!("no table has record {id}");
                self.findings.add(Some(column.pool), "fingerprints", hex(fingerprint), text);
            }
        }
    }

    /// Checks that the sparse time index has the first time of each block.
    fn check_times(&mut self, segment: &SegmentState, column: &Column) -> Result<()> {
        let pool = column.pool;
        let key = |block| (pool, segment.number, block);
        let mut times = BTreeMap::new();
        if let Some(table) = self.snapshot.table(schema::TIMES)? {
            for row in table.range(key(0)..=key(u32::MAX)).storage()? {
                let (key, time) = row.storage()?;
                times.insert(key.value().2, Timestamp::from_micros(time.value()));
            }
        }
        if column.stored.end > 0 && !times.contains_key(&0) {
            let text = "the segment's first time is missing: the times of its records count from it";
            self.findings.add(Some(pool), "times", key_of(pool, segment, 0), text);
            return Ok(());
        }
        for (block, time) in &column.block_times {
            let reason = match times.get(block) {
                Some(found) if found == time => continue,
                Some(found) => format!("it says {found}; the block's first record is of {time}"),
                None => format!("it is missing; the block's first record is of {time}"),
            };
            self.findings.add(Some(pool), "times", key_of(pool, segment, *block), reason);
        }
        let blocks = column.stored.end.div_ceil(schema::TIME_BLOCK_SLOTS);
        let in_order = times.values().is_sorted();
        if !in_order {
            self.findings.add(Some(pool), "times", key_of(pool, segment, 0), "the times are out of order");
        }
        for block in times.keys().filter(|block| **block >= blocks) {
            let text = format!("the segment has {blocks} blocks");
            self.findings.add(Some(pool), "times", key_of(pool, segment, *block), text);
        }
        Ok(())
    }

    /// Checks that only existing records are marked as deleted.
    fn check_deleted(&mut self, view: &View, segment: &SegmentState, column: &Column) {
        let geometry = view.state.geometry;
        for (chunk, positions) in segment.deleted.chunks() {
            let base = chunk.saturating_mul(geometry.chunk_slots);
            let last = positions.max().map(|position| base.saturating_add(position));
            if last.is_some_and(|last| last >= column.stored.end) {
                let text = format!("it deletes slots behind the segment's {} records", column.stored.end);
                self.findings.add(Some(column.pool), "deleted", key_of(column.pool, segment, chunk), text);
            }
        }
    }

    /// Checks that no claim owns the value of a live record that the claim has not seen. Removes the rows
    /// that it reports from `owners`.
    fn check_owned(
        &mut self,
        view: &View,
        segment: &SegmentState,
        column: &Column,
        owners: &mut Owners,
        items: &ItemsByClaim,
    ) {
        for (slot, fingerprint) in column.stored.clone().zip(&column.fingerprints) {
            let id = segment.id(slot);
            let Some(fingerprint) = fingerprint.filter(|_| view.state.is_live(id)) else { continue };
            let is_unseen =
                |owner: &&ClaimId| seen_by(**owner, fingerprint, items).is_some_and(|seen| id > seen);
            if let Some(owner) = owners.get(&fingerprint).filter(is_unseen).copied() {
                owners.remove(&fingerprint);
                let reason = format!("claim {owner} owns it, and it is tracked: record {id} has it");
                self.add_owner(column.pool, fingerprint, reason);
            }
        }
    }

    /// Checks that each posting list has exactly the records with its value of the attribute.
    fn check_postings(&mut self, view: &View, index: usize, column: Column) -> Result<()> {
        let size = view.state.geometry.chunk_slots;
        let Column { pool, names, stored, required, entries, .. } = column;
        let mut expected: BTreeMap<Vec<u8>, RoaringBitmap> =
            entries.into_posting_rows(view.state.geometry).into_iter().collect();
        let required_in = |chunk: u32, positions: &RoaringBitmap| {
            let slots = positions.iter().map(|position| chunk * size + position);
            slots.filter(|slot| required.contains(*slot)).count()
        };
        if let Some(table) = view.postings(index)? {
            for row in ReadableTable::iter(table).storage()? {
                let (key, list) = row.storage()?;
                let Some((_, _, chunk)) = PostingKey::parse(key.value()) else {
                    self.findings.add(
                        Some(pool),
                        &names.postings,
                        PostingKey::describe(key.value()),
                        "the key is damaged",
                    );
                    continue;
                };
                let positions = match postings::decode(list.value(), size) {
                    Ok(positions) => positions,
                    Err(error) => {
                        self.findings.add(
                            Some(pool),
                            &names.postings,
                            PostingKey::describe(key.value()),
                            error.to_string(),
                        );
                        expected.remove(key.value());
                        continue;
                    }
                };
                let wanted = expected.remove(key.value()).unwrap_or_default();
                let missing = required_in(chunk, &(&wanted - &positions));
                let mut extra = &positions - &wanted;
                // The attributes of removed records are unknown.
                extra.remove_range(..stored.start.saturating_sub(chunk.saturating_mul(size)).min(size));
                if missing > 0 {
                    let text = format!("{missing} records are not in it");
                    self.findings.add(Some(pool), &names.postings, PostingKey::describe(key.value()), text);
                }
                if !extra.is_empty() {
                    let text = format!("{} slots do not belong in it", extra.len());
                    self.findings.add(Some(pool), &names.postings, PostingKey::describe(key.value()), text);
                }
            }
        }
        for (key, wanted) in expected {
            let Some((_, _, chunk)) = PostingKey::parse(&key) else { continue };
            let missing = required_in(chunk, &wanted);
            if missing > 0 {
                let text = format!("the list is missing; {missing} records belong in it");
                self.findings.add(Some(pool), &names.postings, PostingKey::describe(&key), text);
            }
        }
        Ok(())
    }
}

fn hex(fingerprint: Fingerprint) -> String {
    format!("{fingerprint:032x}")
}

/// Returns a description of the key of a row in a shared table.
fn key_of(pool: PoolId, segment: &SegmentState, last: u32) -> String {
    format!("{pool}, {}, {last}", segment.number)
}

#[cfg(test)]
mod tests {
    use crate::StoreOptions;
    use crate::engine::format::tables;
    use crate::testing::{self, Sizes};

    #[test]
    fn records_that_no_listed_table_of_fingerprints_covers_are_found_and_mended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.redb");
        let [id] = testing::file_of_pools(&path, ["orders"]);
        let lost = tables::change_head(&path, id, |head| {
            let lost = head.tables.remove(0);
            lost.first_id..lost.end_id
        });
        let store = testing::open(&path, &StoreOptions::new(), Sizes::SMALL).unwrap();
        let findings = store.verify().unwrap().findings;
        for id in lost {
            let reason = format!("no table has record {id}");
            let finding = findings.iter().find(|finding| finding.reason == reason).unwrap();
            assert_eq!(finding.table, "fingerprints");
            let is_hex = finding.key.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(finding.key.len() == 32 && is_hex, "{finding}");
        }
        assert_eq!(store.rebuild_indexes().unwrap().left, []);
        assert_eq!(store.verify().unwrap().findings, []);
    }
}
