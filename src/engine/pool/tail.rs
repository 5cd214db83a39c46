//! The tail: the index entries of records that are not folded yet, as columns in memory.
//!
//! Owns: [`Tail`], which is append-only and shared, and [`TailView`], a tail as of one commit. Always holds:
//! a view sees no entry at or past its length. Entries are appended only after the commit that wrote their
//! records. Entry `n` belongs to record `first_id + n`. A tail belongs to one segment.

mod origins;

use std::collections::HashMap;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::RwLock;
use roaring::RoaringBitmap;

use self::origins::{NONE, Origins};
use crate::backend::batch::Batch;
use crate::backend::fingerprint::{Fingerprint, VALUE_BITS, value_part};
use crate::error::Result;
use crate::ids::{EntityTypeId, RecordNumber};
use crate::model::Origin;
use crate::query::RecordFilter;

/// The index entry of a record in a tail.
#[derive(Debug, Clone)]
pub(crate) struct TailEntry {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) entity_type: EntityTypeId,
    pub(crate) has_version: bool,
    pub(crate) origin: Option<Arc<Origin>>,
}

impl TailEntry {
    /// Returns the entry of a record that was an item of a batch.
    pub(crate) fn of(batch: &Batch, index: usize) -> Option<Self> {
        let item = batch.items().get(index)?;
        Some(Self {
            fingerprint: item.fingerprint,
            entity_type: item.entity_type,
            has_version: batch.version(index).is_some(),
            origin: batch.origin().cloned(),
        })
    }
}

#[derive(Debug, Default)]
struct Columns {
    fingerprints: Vec<Fingerprint>,
    entity_types: Vec<EntityTypeId>,
    /// The numbers of the origins; [`NONE`] for no origin.
    origins: Vec<u32>,
    /// The positions of the records that have a version.
    with_version: RoaringBitmap,
    /// The position of the previous entry with the same value, in any entity type, or [`NONE`].
    previous: Vec<u32>,
    /// The latest entry of each value, by position. If the table contained the fingerprints, it would not fit
    /// in the processor's caches.
    latest: HashTable<u32>,
    numbered: Origins,
}

impl Columns {
    fn with_capacity(len: usize) -> Self {
        Self {
            fingerprints: Vec::with_capacity(len),
            entity_types: Vec::with_capacity(len),
            origins: Vec::with_capacity(len),
            previous: Vec::with_capacity(len),
            latest: HashTable::with_capacity(len),
            ..Self::default()
        }
    }

    fn push(&mut self, entry: TailEntry) {
        let position = u32::try_from(self.fingerprints.len()).unwrap_or(NONE);
        let origin = entry.origin.map_or(NONE, |origin| self.numbered.number(origin));
        let value = value_part(entry.fingerprint);
        let fingerprints = &self.fingerprints;
        let value_at = |position: &u32| fingerprints.get(*position as usize).copied().map(value_part);
        let is_same = |latest: &u32| value_at(latest) == Some(value);
        let hash = |latest: &u32| value_at(latest).map_or(0, hash_of);
        let previous = match self.latest.entry(hash_of(value), is_same, hash) {
            Entry::Occupied(mut latest) => mem::replace(latest.get_mut(), position),
            Entry::Vacant(free) => {
                free.insert(position);
                NONE
            }
        };
        self.fingerprints.push(entry.fingerprint);
        self.entity_types.push(entry.entity_type);
        self.origins.push(origin);
        if entry.has_version {
            self.with_version.insert(position);
        }
        self.previous.push(previous);
    }

    /// Returns the bits of an entry's fingerprint that depend on the value alone.
    fn value_at(&self, position: u32) -> Option<u64> {
        self.fingerprints.get(position as usize).copied().map(value_part)
    }

    /// Returns the positions of a fingerprint below `len`, newest first.
    fn positions(&self, fingerprint: Fingerprint, len: usize) -> impl Iterator<Item = u32> {
        let is_same = move |position: &u32| self.fingerprints.get(*position as usize) == Some(&fingerprint);
        self.positions_of_value(fingerprint, len).filter(is_same)
    }

    /// Returns the positions below `len` of the fingerprints with the same value part, newest first.
    fn positions_of_value(&self, fingerprint: Fingerprint, len: usize) -> impl Iterator<Item = u32> {
        let value = value_part(fingerprint);
        let is_same = |latest: &u32| self.value_at(*latest) == Some(value);
        let mut next = self.latest.find(hash_of(value), is_same).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let position = next;
            next = *self.previous.get(position as usize)?;
            Some(position)
        })
        .filter(move |position| (*position as usize) < len)
    }
}

/// Repeats the value's random bits in the high bits, because hash tables also use those.
fn hash_of(value: u64) -> u64 {
    value << (u64::BITS - VALUE_BITS) | value
}

/// The values that a filter looks for in a tail, as fingerprints.
#[derive(Debug)]
pub(crate) enum SoughtValues {
    Exactly(Vec<Fingerprint>),
    OfAnyType(Vec<Fingerprint>),
}

/// Append-only columns that the states of many commits share.
#[derive(Debug)]
pub(crate) struct Tail {
    first_id: RecordNumber,
    columns: RwLock<Columns>,
}

impl Tail {
    pub(crate) fn starting_at(first_id: RecordNumber) -> Arc<Self> {
        Arc::new(Self { first_id, columns: RwLock::default() })
    }
}

/// A tail as of one commit.
#[derive(Debug, Clone)]
pub(crate) struct TailView {
    tail: Arc<Tail>,
    len: u32,
}

impl TailView {
    pub(crate) fn empty(first_id: RecordNumber) -> Self {
        Self { tail: Tail::starting_at(first_id), len: 0 }
    }

    /// Creates a tail with the `len` entries that `fill` pushes.
    pub(crate) fn filled(
        first_id: RecordNumber,
        len: usize,
        fill: impl FnOnce(&mut dyn FnMut(TailEntry)) -> Result<()>,
    ) -> Result<Self> {
        let mut columns = Columns::with_capacity(len);
        fill(&mut |entry| columns.push(entry))?;
        let len = u32::try_from(columns.fingerprints.len()).unwrap_or(u32::MAX);
        Ok(Self { tail: Arc::new(Tail { first_id, columns: RwLock::new(columns) }), len })
    }

    /// Appends entries after this view, and returns a view that sees them. Existing views do not see them.
    ///
    /// Only the writer calls this, after the commit of the records and on the newest view of the tail.
    pub(crate) fn append(&self, entries: impl Iterator<Item = TailEntry>) -> Self {
        let mut columns = self.tail.columns.write();
        entries.for_each(|entry| columns.push(entry));
        let len = u32::try_from(columns.fingerprints.len()).unwrap_or(u32::MAX);
        Self { tail: Arc::clone(&self.tail), len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns the approximate memory use in bytes.
    pub(crate) fn memory(&self) -> usize {
        // A fingerprint, its type, origin and predecessor, and a slot of a hash table that is between half
        // and nearly full.
        const ENTRY_BYTES: usize = 16 + 3 * 4 + 8;
        // The text of its run, two numbers each for the run and the origin, and their hash maps.
        const ORIGIN_BYTES: usize = 200;
        let columns = self.tail.columns.read();
        self.len() * ENTRY_BYTES + columns.numbered.len() * ORIGIN_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn ids(&self) -> Range<RecordNumber> {
        self.tail.first_id..self.tail.first_id + u64::from(self.len)
    }

    /// Returns the newest live record of the fingerprint.
    pub(crate) fn find_live(
        &self,
        fingerprint: Fingerprint,
        is_live: impl Fn(RecordNumber) -> bool,
    ) -> Option<RecordNumber> {
        let columns = self.tail.columns.read();
        let mut ids = columns.positions(fingerprint, self.len()).map(|position| self.id(position));
        ids.find(|id| is_live(*id))
    }

    /// Adds every record of the fingerprint, dead or alive, to `found`, newest first.
    pub(crate) fn find_all(&self, fingerprint: Fingerprint, found: &mut Vec<RecordNumber>) {
        let columns = self.tail.columns.read();
        found.extend(columns.positions(fingerprint, self.len()).map(|position| self.id(position)));
    }

    /// Returns true if this record of the tail has a version.
    pub(crate) fn has_version(&self, id: RecordNumber) -> bool {
        let position = id.checked_sub(self.tail.first_id).and_then(|position| u32::try_from(position).ok());
        position.is_some_and(|position| self.tail.columns.read().with_version.contains(position))
    }

    fn id(&self, position: u32) -> RecordNumber {
        self.tail.first_id + u64::from(position)
    }

    /// Returns the entries, oldest first.
    pub(crate) fn entries(&self) -> Vec<(RecordNumber, TailEntry)> {
        self.entries_from(0, self.len())
    }

    /// Returns up to `count` entries, starting at a position.
    pub(crate) fn entries_from(&self, start: usize, count: usize) -> Vec<(RecordNumber, TailEntry)> {
        let columns = self.tail.columns.read();
        let rows = columns.fingerprints.iter().zip(&columns.entity_types).zip(&columns.origins);
        let rows = rows.skip(start).take(count);
        let mut shared: HashMap<u32, Option<Arc<Origin>>> = HashMap::new();
        let mut position = u32::try_from(start).unwrap_or(u32::MAX);
        let entry = |(id, ((fingerprint, entity_type), origin)): (_, ((&u128, &EntityTypeId), &u32))| {
            let make = |number: &u32| columns.numbered.get(*number).map(Arc::new);
            let origin = shared.entry(*origin).or_insert_with_key(make).clone();
            let has_version = columns.with_version.contains(position);
            position += 1;
            (id, TailEntry { fingerprint: *fingerprint, entity_type: *entity_type, has_version, origin })
        };
        self.ids().skip(start).zip(rows).map(entry).collect()
    }

    /// Returns the positions of the entries within an id range that match a filter, including dead ones, and
    /// the number of entries examined. Values are matched by `sought` instead of the filter.
    pub(crate) fn select(
        &self,
        filter: &RecordFilter,
        sought: Option<&SoughtValues>,
        ids: &Range<RecordNumber>,
    ) -> (RoaringBitmap, u64) {
        let columns = self.tail.columns.read();
        let start = ids.start.saturating_sub(self.tail.first_id).min(u64::from(self.len));
        let end = ids.end.saturating_sub(self.tail.first_id).min(u64::from(self.len)).max(start);
        let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        let found = sought.map(|sought| {
            let mut found: Vec<u32> = match sought {
                SoughtValues::Exactly(all) => {
                    all.iter().flat_map(|one| columns.positions(*one, end)).collect()
                }
                SoughtValues::OfAnyType(all) => {
                    all.iter().flat_map(|one| columns.positions_of_value(*one, end)).collect()
                }
            };
            found.retain(|position| *position as usize >= start);
            found.sort_unstable();
            found
        });
        let looked_at = found.as_ref().map_or(self.len(), Vec::len) as u64;
        let mut found = Narrowing { positions: start..end, found };
        if let Some(passing) = columns.numbered.passing(filter) {
            found.by(&columns.origins, |origin| passing.get(*origin as usize).copied().unwrap_or(false));
        }
        let types = &filter.entity_types;
        if !types.is_empty() {
            found.by(&columns.entity_types, |entity_type| types.contains(entity_type));
        }
        (found.finish(), looked_at)
    }
}

/// The positions that have met every condition so far. The first condition reads its whole column. Each
/// further one reads only the remaining positions.
struct Narrowing {
    positions: Range<usize>,
    found: Option<Vec<u32>>,
}

impl Narrowing {
    fn by<T>(&mut self, column: &[T], holds: impl Fn(&T) -> bool) {
        if let Some(found) = &mut self.found {
            found.retain(|position| column.get(*position as usize).is_some_and(&holds));
            return;
        }
        let walked = column.get(self.positions.clone()).unwrap_or_default();
        let numbered = (0_u32..).skip(self.positions.start).zip(walked);
        self.found = Some(numbered.filter(|(_, cell)| holds(cell)).map(|(position, _)| position).collect());
    }

    fn finish(self) -> RoaringBitmap {
        match self.found {
            Some(found) => RoaringBitmap::from_sorted_iter(found).unwrap_or_default(),
            None => self.positions.filter_map(|position| u32::try_from(position).ok()).collect(),
        }
    }
}
