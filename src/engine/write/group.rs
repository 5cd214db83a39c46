//! A commit group: the operations of several callers that one commit carries.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::operation::{Answer, Request};
use crate::engine::read::view::View;
use crate::engine::write::draft::PoolDraft;
use crate::error::Result;
use crate::ids::PoolId;
use crate::time::{Reading, Timestamp};

/// The requests of one or more callers, and where their answers go. `None` for a caller that runs alone, on
/// its own thread.
pub(crate) type Job = Option<(Vec<Request>, Answers)>;

/// The answers to some requests, in order. They are valid only once the commit has succeeded.
pub(crate) type Answers = Arc<Mutex<Vec<Result<Answer>>>>;

/// Returns a pool as of the last commit, without the records that have expired at a point in time.
type ViewAt<'e> = dyn Fn(PoolId, Timestamp) -> Result<Arc<View>> + 'e;

/// The drafts of the operations in one commit.
pub(crate) struct Group<'e> {
    /// Returns pools as of the last commit.
    view: &'e ViewAt<'e>,
    pub(crate) now: Reading,
    pub(crate) drafts: BTreeMap<PoolId, PoolDraft>,
}

impl<'e> Group<'e> {
    pub(crate) fn new(now: Reading, view: &'e ViewAt<'e>) -> Self {
        Self { view, now, drafts: BTreeMap::new() }
    }

    /// Returns the state of a pool in the group so far.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such pool.
    pub(crate) fn pool(&mut self, id: PoolId) -> Result<&mut PoolDraft> {
        match self.drafts.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let view = (self.view)(id, self.now.time)?;
                Ok(entry.insert(PoolDraft::new(view, self.now)))
            }
        }
    }

    /// Performs the operations of a job.
    pub(crate) fn perform(&mut self, job: Job) {
        let Some((requests, answers)) = job else { return };
        let perform = |Request { pool, operation, .. }| self.pool(pool)?.perform(operation);
        *answers.lock() = requests.into_iter().map(perform).collect();
    }
}
