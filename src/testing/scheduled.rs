//! For the tests of interleavings: parts of a store that its calls do not show one by one.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{lanes, queue};
use crate::engine::Engine;
use crate::engine::embedded::Embedded;
use crate::engine::maintain::opener::Place;
use crate::error::Result;
use crate::ids::PoolId;
use crate::options::StoreOptions;
use crate::store::DataPoolStore;
use crate::testing::Sizes;

/// The queue of callers that wait for the writer.
#[derive(Default)]
pub struct Queue<J>(queue::Queue<J>);

impl<J> std::fmt::Debug for Queue<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<J> Queue<J> {
    /// Runs a job: alone, or in a group of as many as wait.
    ///
    /// # Errors
    ///
    /// The error of the group; `Busy` from within a group.
    pub fn submit(&self, job: J, alone: bool, lead: impl FnOnce(Vec<J>) -> Result<()>) -> Result<()> {
        let weight = if alone { queue::Weight::ALONE } else { queue::Weight::ONE };
        self.0.submit(job, weight, lead)
    }

    /// Returns the number of jobs that wait for the next group.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}

/// A lane for each pool.
#[derive(Debug)]
pub struct Lanes<T>(Arc<lanes::Lanes<T>>);

impl<T: Send + 'static> Default for Lanes<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Send + 'static> Lanes<T> {
    /// Adds an entry to a pool's lane, which runs entries in order.
    pub fn add(&self, pool: u64, entry: T, run: impl Fn(Vec<T>) + Clone + Send + 'static) {
        self.0.add(PoolId::new(pool), entry, run);
    }

    /// Waits until no lane runs, or none has made progress for this time.
    pub fn settle(&self, time: Duration) {
        self.0.settle(time);
    }
}

/// Looks at what is kept of the tables of fingerprints.
#[derive(Debug)]
pub struct Caches(Arc<Engine>);

/// What is kept of a pool's tables of fingerprints, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The number of tables.
    pub tables: usize,
    /// The pieces and rows that are in memory.
    pub cached: usize,
    /// The sum that the tables have counted.
    pub counted: usize,
    /// The sum that the budget of the whole store has counted.
    pub budgeted: usize,
}

impl Caches {
    /// Returns what is kept of a pool's tables.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Closed`.
    pub fn of(&self, pool: PoolId) -> Result<Kept> {
        let view = self.0.committed_view(pool)?;
        let kept: Vec<_> = view.state.tables.iter().map(|table| table.kept()).collect();
        let (cached, counted) = (kept.iter().map(|kept| kept.0).sum(), kept.iter().map(|kept| kept.1).sum());
        Ok(Kept { tables: kept.len(), cached, counted, budgeted: view.state.budget.kept() })
    }
}

/// Creates a store in memory, and shows its caches.
///
/// # Errors
///
/// The errors of [`StoreOptions::open_in_memory`].
pub fn in_memory(options: &StoreOptions, sizes: Sizes) -> Result<(DataPoolStore, Caches)> {
    let (geometry, tuning) = sizes.split();
    let embedded = Embedded::open(Place::Memory, options, geometry, tuning)?;
    let caches = Caches(embedded.engine());
    Ok((DataPoolStore::over(Arc::new(embedded)), caches))
}
