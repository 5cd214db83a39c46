//! For this crate's own tests, benches and fuzz targets: small segments, and disks that fail. Not part of the
//! stable API.

#[cfg(datapool_shuttle)]
pub mod scheduled;

use std::path::Path;

pub use crate::disk::Disk;
use crate::engine::format::schema::{Geometry, Tuning};
use crate::engine::maintain::opener::Place;
use crate::error::Result;
use crate::options::StoreOptions;
use crate::store::DataPoolStore;

/// Sizes that are small enough for a few records to reach every code path.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The most records per segment. It is fixed when a store is created.
    pub segment_slots: u32,
    /// The number of slots per posting bitmap, which divides `segment_slots`. It is fixed when a store is
    /// created.
    pub chunk_slots: u32,
    /// The number of unfolded records that trigger a fold.
    pub fold_entries: usize,
    /// The number of slices of a fold.
    pub fold_slices: usize,
    /// The most unfolded records in all pools together.
    pub tails_max_entries: usize,
    /// The fewest records for which a segment is sealed early because of a retention or capacity.
    pub early_seal_slots: u32,
}

impl Sizes {
    /// Segments of 64 records in chunks of 16, folds of 16 in 4 slices, 64 unfolded records in all, early
    /// seals at 16 records.
    pub const SMALL: Self = Self {
        segment_slots: 64,
        chunk_slots: 16,
        fold_entries: 16,
        fold_slices: 4,
        tails_max_entries: 64,
        early_seal_slots: 16,
    };

    pub(crate) fn split(self) -> (Geometry, Tuning) {
        let geometry = Geometry { segment_slots: self.segment_slots, chunk_slots: self.chunk_slots };
        let tuning = Tuning {
            fold_entries: self.fold_entries,
            fold_slices: self.fold_slices,
            tails_max_entries: self.tails_max_entries,
            early_seal_slots: self.early_seal_slots,
        };
        (geometry, tuning)
    }
}

/// Creates a store in memory for a test of the engine.
#[cfg(test)]
pub(crate) fn with_engine(
    options: &StoreOptions,
    (geometry, tuning): (Geometry, Tuning),
) -> (DataPoolStore, std::sync::Arc<crate::engine::Engine>) {
    use crate::engine::embedded::Embedded;

    let embedded = Embedded::open(Place::Memory, options, geometry, tuning).unwrap();
    let engine = embedded.engine();
    (DataPoolStore::over(std::sync::Arc::new(embedded)), engine)
}

/// Creates a store in a file, with small sizes and pools of 300 records each: `A-0`, `A-1` and so on.
#[cfg(test)]
pub(crate) fn file_of_pools<const POOLS: usize>(path: &Path, names: [&str; POOLS]) -> [crate::PoolId; POOLS] {
    use crate::{Key, Mode, Origin};

    let store = open(path, &StoreOptions::new(), Sizes::SMALL).unwrap();
    let values: Vec<String> = (0..300).map(|number| format!("A-{number}")).collect();
    names.map(|name| {
        let pool = store.get_or_create_pool(name).unwrap();
        let key = |value: &'_ String| Key::new(37, value.clone());
        assert_eq!(pool.dedupe(Mode::Track, &values, key, &Origin::none()).unwrap().new_count(), 300);
        pool.prune().unwrap();
        pool.id()
    })
}

/// Opens a file with these sizes.
///
/// # Errors
///
/// The errors of [`StoreOptions::open`].
pub fn open(path: &Path, options: &StoreOptions, sizes: Sizes) -> Result<DataPoolStore> {
    let (geometry, tuning) = sizes.split();
    DataPoolStore::open_place(Place::Path(path), options, geometry, tuning)
}

/// Creates a store in memory with these sizes.
///
/// # Errors
///
/// The errors of [`StoreOptions::open_in_memory`].
pub fn in_memory(options: &StoreOptions, sizes: Sizes) -> Result<DataPoolStore> {
    let (geometry, tuning) = sizes.split();
    DataPoolStore::open_place(Place::Memory, options, geometry, tuning)
}

/// Opens or creates a store on a disk that the test made.
///
/// # Errors
///
/// The errors of [`StoreOptions::open`].
pub fn on_disk(disk: impl Disk, options: &StoreOptions, sizes: Sizes) -> Result<DataPoolStore> {
    let (geometry, tuning) = sizes.split();
    DataPoolStore::open_place(Place::Disk(Box::new(disk)), options, geometry, tuning)
}
