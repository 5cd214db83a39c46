//! The tables of the file, with their keys and values.
//!
//! Owns: table names and types, the format version, and the geometry of segments and chunks. Always holds:
//! redb sees only byte slices, integers and tuples of integers. The byte layouts of the values are in
//! [`crate::engine::format::codec`], [`crate::engine::format::record`] and
//! [`crate::engine::format::postings`].

use std::cmp::Ordering;

use redb::{Key, TableDefinition, TypeName, Value};

use crate::ids::PoolId;

/// The version of the file format. Stores of other versions are refused.
pub(crate) const FORMAT_VERSION: u32 = 5;
/// The last version before the first release. Files of it and of earlier versions are not read.
pub(crate) const UNRELEASED_FORMAT: u32 = 4;

/// The number of a segment within its pool: from 0, never reused.
pub(crate) type SegmentNumber = u32;
/// The number of a table of fingerprints within its pool. Numbers are never reused.
pub(crate) type TableNumber = u32;
/// The position of a record within its segment.
pub(crate) type Slot = u32;
/// The number of a chunk, a run of `chunk_slots` slots, within its segment.
pub(crate) type ChunkNumber = u32;

/// A pool's id is stored as its number. redb records the type name in the file, so this is the name of the
/// number's type.
#[doc(hidden)]
impl Value for PoolId {
    type SelfType<'a> = Self;
    type AsBytes<'a> = <u64 as Value>::AsBytes<'a>;

    #[inline]
    fn fixed_width() -> Option<usize> {
        Some(size_of::<u64>())
    }

    #[inline]
    fn from_bytes<'a>(data: &'a [u8]) -> Self
    where
        Self: 'a,
    {
        // redb passes exactly as many bytes as the width says.
        Self::new(data.first_chunk().copied().map_or(0, u64::from_le_bytes))
    }

    #[inline]
    fn as_bytes<'a, 'b: 'a>(value: &'a Self) -> Self::AsBytes<'a>
    where
        Self: 'b,
    {
        value.get().to_le_bytes()
    }

    fn type_name() -> TypeName {
        u64::type_name()
    }
}

#[doc(hidden)]
impl Key for PoolId {
    #[inline]
    fn compare(one: &[u8], other: &[u8]) -> Ordering {
        Self::from_bytes(one).cmp(&Self::from_bytes(other))
    }
}

/// name -> bytes. See the `META_*` names.
pub(crate) const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");
/// u32, little-endian: the format version.
pub(crate) const META_FORMAT: &[u8] = b"format";
/// 16 random bytes that identify the store.
pub(crate) const META_STORE_ID: &[u8] = b"store id";
/// 16 secret bytes: the key of every fingerprint.
pub(crate) const META_HASH_KEY: &[u8] = b"hash key";
/// Two u32, little-endian: the slots per segment, and the slots per chunk.
pub(crate) const META_GEOMETRY: &[u8] = b"geometry";
/// u64, little-endian: the id of the next pool.
pub(crate) const META_NEXT_POOL: &[u8] = b"next pool id";

/// pool id -> pool row.
pub(crate) const POOLS: TableDefinition<'_, PoolId, &[u8]> = TableDefinition::new("pools");
/// name -> pool id.
pub(crate) const POOL_NAMES: TableDefinition<'_, &[u8], PoolId> = TableDefinition::new("pool names");
/// pool id -> head row: watermark, folded-up-to, segment list, table lists.
pub(crate) const POOL_HEADS: TableDefinition<'_, PoolId, &[u8]> = TableDefinition::new("pool heads");

/// id -> name and attributes. A text id is its own key; an entity type's is its number, big-endian.
pub(crate) type RegistryTable = TableDefinition<'static, &'static [u8], &'static [u8]>;
/// Registered entity types.
pub(crate) const ENTITY_TYPES: RegistryTable = TableDefinition::new("entity types");
/// Registered flows.
pub(crate) const FLOWS: RegistryTable = TableDefinition::new("flows");
/// Registered flow runs.
pub(crate) const FLOW_RUNS: RegistryTable = TableDefinition::new("flow runs");
/// Registered flow steps.
pub(crate) const FLOW_STEPS: RegistryTable = TableDefinition::new("flow steps");

/// (pool, table, row, part) -> entries of a table of fingerprints: see [`super::index_row`].
pub(crate) const FINGERPRINTS: TableDefinition<'_, (PoolId, u32, u32, u32), &[u8]> =
    TableDefinition::new("fingerprints");
/// (pool, table, piece) -> lines of a table's membership filter: see [`crate::engine::probe::filter`].
pub(crate) const FILTERS: TableDefinition<'_, (PoolId, u32, u32), &[u8]> = TableDefinition::new("filters");
/// (pool, segment, code) -> origin row.
pub(crate) const ORIGINS: TableDefinition<'_, (PoolId, u32, u32), &[u8]> = TableDefinition::new("origins");
/// (pool, segment, block of [`TIME_BLOCK_SLOTS`] slots) -> `created_at` of the block's first record.
pub(crate) const TIMES: TableDefinition<'_, (PoolId, u32, u32), i64> = TableDefinition::new("times");
/// (pool, segment, chunk) -> bitmap of deleted slots.
pub(crate) const DELETED: TableDefinition<'_, (PoolId, u32, u32), &[u8]> = TableDefinition::new("deleted");

/// (pool, claim) -> claim row; (pool, [`FENCE_ROW`]) -> the highest fencing number of the pool.
pub(crate) const CLAIMS: TableDefinition<'_, (PoolId, u64), &[u8]> = TableDefinition::new("claims");
/// A key that no claim has, because claim ids begin with 1.
pub(crate) const FENCE_ROW: u64 = 0;
/// (pool, claim, block) -> the claim's items: see [`super::claim_items`].
pub(crate) const CLAIM_ITEMS: TableDefinition<'_, (PoolId, u64, u32), &[u8]> =
    TableDefinition::new("claim items");
/// (pool, fingerprint) -> the claim that owns the value.
pub(crate) const CLAIMED: TableDefinition<'_, (PoolId, u128), u64> = TableDefinition::new("claimed");

/// slot -> record. One table per segment.
pub(crate) type RecordsDefinition<'a> = TableDefinition<'a, u32, &'static [u8]>;
/// posting key -> bitmap of slots. One table per segment.
pub(crate) type PostingsDefinition<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// slot -> result. One table per segment, created with the segment's first result.
pub(crate) type ResultsDefinition<'a> = TableDefinition<'a, u32, &'static [u8]>;

/// The names of the tables that belong to one segment.
#[derive(Debug)]
pub(crate) struct SegmentTables {
    pub(crate) records: String,
    pub(crate) postings: String,
    pub(crate) results: String,
}

impl SegmentTables {
    pub(crate) fn new(pool: PoolId, segment: SegmentNumber) -> Self {
        Self {
            records: format!("records/{pool}/{segment}"),
            postings: format!("postings/{pool}/{segment}"),
            results: format!("results/{pool}/{segment}"),
        }
    }

    /// Returns the pool and the segment that a table with this name belongs to.
    pub(crate) fn owner(table: &str) -> Option<(PoolId, SegmentNumber)> {
        let mut parts = table.split('/').skip(1);
        let owner = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(owner)
    }

    pub(crate) fn records(&self) -> RecordsDefinition<'_> {
        TableDefinition::new(&self.records)
    }

    pub(crate) fn postings(&self) -> PostingsDefinition<'_> {
        TableDefinition::new(&self.postings)
    }

    pub(crate) fn results(&self) -> ResultsDefinition<'_> {
        TableDefinition::new(&self.results)
    }
}

/// The number of slots that share a row of [`TIMES`].
pub(crate) const TIME_BLOCK_SLOTS: u32 = 4_096;

/// The largest number of bits in a slot number.
pub(crate) const SLOT_BITS: u32 = 20;

/// The largest value that fits in one page with a key of 20 bytes. redb spreads a larger value over several
/// pages.
pub(crate) const BLOCK_MAX_BYTES: usize = 4_064;

/// The sizes that determine the file's layout. They are stored in the file, so it is always read as it was
/// written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// The most records per segment: a multiple of `chunk_slots`, at most 2^20.
    pub(crate) segment_slots: u32,
    /// The number of slots per posting bitmap, at most 2^14, so that a dense bitmap has 2 KiB.
    pub(crate) chunk_slots: u32,
}

impl Geometry {
    pub(crate) const DEFAULT: Self = Self { segment_slots: 1 << SLOT_BITS, chunk_slots: 1 << 14 };

    /// Returns true if these sizes are valid.
    pub(crate) fn is_sound(self) -> bool {
        let chunk_fits = (1..=1 << 14).contains(&self.chunk_slots);
        let segment_fits = (1..=1 << SLOT_BITS).contains(&self.segment_slots);
        chunk_fits && segment_fits && self.segment_slots.is_multiple_of(self.chunk_slots)
    }

    pub(crate) fn chunk_of(self, slot: Slot) -> (ChunkNumber, u32) {
        (slot / self.chunk_slots, slot % self.chunk_slots)
    }
}

/// The sizes that determine how work is divided. They do not affect the file's layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// The number of unfolded records at which a pool is folded.
    pub(crate) fold_entries: usize,
    /// The number of slices of a fold. A commit of many records folds one slice more than is needed to keep
    /// pace with its records. A commit of few records folds less.
    pub(crate) fold_slices: usize,
    /// The most unfolded records in all pools together.
    pub(crate) tails_max_entries: usize,
    /// The fewest records for which a pool's policy seals a segment early.
    pub(crate) early_seal_slots: u32,
}

impl Tuning {
    /// Returns the average number of entries per row in newly written tables of fingerprints. 200 leave room
    /// for random variation: one row in thousands needs a second part.
    pub(crate) fn row_entries(&self) -> u64 {
        (self.fold_entries as u64 / 4).clamp(2, 200)
    }

    /// Returns the largest number of entries for which a fold rewrites the last table instead of adding
    /// another one.
    pub(crate) fn absorb_max(&self) -> u64 {
        self.fold_entries as u64 / 16
    }

    pub(crate) const DEFAULT: Self =
        Self { fold_entries: 65_536, fold_slices: 64, tails_max_entries: 262_144, early_seal_slots: 4_096 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableTableMetadata};

    #[test]
    fn a_geometry_is_sound_up_to_its_limits_and_if_chunks_fill_segments() {
        let is_sound = |segment_slots, chunk_slots| Geometry { segment_slots, chunk_slots }.is_sound();
        assert!(Geometry::DEFAULT.is_sound());
        for (segment, chunk) in [(1, 1), (64, 16), (1 << 20, 1 << 14), (3, 1), (26, 13)] {
            assert!(is_sound(segment, chunk), "{segment} and {chunk}");
        }
        for (segment, chunk) in [(0, 1), (1, 0), (0, 0), (2 << 20, 1), (1 << 15, 1 << 15), (64, 48), (16, 64)]
        {
            assert!(!is_sound(segment, chunk), "{segment} and {chunk}");
        }
    }

    #[test]
    fn a_block_of_the_largest_size_takes_one_page() {
        const PAGE: u64 = 4_096;
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let txn = database.begin_write().unwrap();
        let mut table = txn.open_table(CLAIM_ITEMS).unwrap();
        for block in 0..16 {
            table.insert((PoolId::new(1), 1, block), [0; BLOCK_MAX_BYTES].as_slice()).unwrap();
        }
        let stats = table.stats().unwrap();
        let allocated = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        assert_eq!(allocated, (stats.leaf_pages() + stats.branch_pages()) * PAGE);
        assert_eq!(stats.leaf_pages(), 16);
    }
}
