//! Pools in which time makes work: records expire, claims lapse.
//!
//! Owns: which of the loaded pools these are, and whose turn it is. Each commit looks at the next of them; after opening
//! it also looks at one more such pool of the file, so that those age, too, that nobody uses.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::engine::Engine;
use crate::engine::format::codec;
use crate::engine::format::schema;
use crate::engine::pool::state::PoolState;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::error::Result;
use crate::ids::PoolId;

/// The number of pools of the file that one commit looks at: some microseconds each.
const LOOKED_AT_TOGETHER: u32 = 64;

/// Loaded pools that age, and the turns.
#[derive(Debug)]
pub(crate) struct Aging {
    ids: BTreeSet<PoolId>,
    looked_at: PoolId,
    /// The pools of the file up to this one were looked at; none once all were.
    visited: Option<PoolId>,
}

impl Default for Aging {
    fn default() -> Self {
        Self { ids: BTreeSet::new(), looked_at: 0, visited: Some(0) }
    }
}

impl Aging {
    /// A pool's state changed, or it was loaded.
    pub(crate) fn set(&mut self, state: &PoolState) {
        if state.policy.retention.is_some() || !state.claims.is_empty() {
            self.ids.insert(state.id);
        } else {
            self.ids.remove(&state.id);
        }
    }

    pub(crate) fn remove(&mut self, id: PoolId) {
        self.ids.remove(&id);
    }

    /// Whose turn it is.
    pub(crate) fn next(&mut self) -> Option<PoolId> {
        let behind = (Bound::Excluded(self.looked_at), Bound::Unbounded);
        let next = self.ids.range(behind).next().or_else(|| self.ids.first()).copied()?;
        self.looked_at = next;
        Some(next)
    }
}

impl Engine {
    /// Looks at the next pools of the file, until all were looked at, and loads the first of them that ages.
    pub(crate) fn visit_next_pool(&self) {
        let Some(visited) = self.aging.lock().visited else { return };
        // A failure to look is no failure of the commit: whoever uses the pool hears of it.
        let (aging, visited) = self.look_behind(visited).unwrap_or_default();
        if let Some(id) = aging {
            let _ = self.committed_view(id);
        }
        self.aging.lock().visited = visited;
    }

    /// Returns the first of the next pools of the file that has a retention or claims, if one does, and the last pool that
    /// was looked at; `None` at the end of the file.
    fn look_behind(&self, visited: PoolId) -> Result<(Option<PoolId>, Option<PoolId>)> {
        contained("looking at a pool", || {
            let snapshot = self.snapshot()?;
            let Some(pools) = snapshot.table(schema::POOLS)? else { return Ok((None, None)) };
            let claims = snapshot.table(schema::CLAIMS)?;
            let behind = (Bound::Excluded(visited), Bound::Unbounded);
            for (row, looked_at) in pools.range(behind).storage()?.zip(1..) {
                let (id, row) = row.storage()?;
                let id = id.value();
                let has_claims = match &claims {
                    Some(claims) => claims.range((id, 0)..=(id, u64::MAX)).storage()?.next().is_some(),
                    None => false,
                };
                // A damaged row is for those to hear of who use the pool.
                let ages =
                    |row: &[u8]| codec::decode_pool(id, row).is_ok_and(|pool| pool.retention.is_some());
                if has_claims || ages(row.value()) {
                    return Ok((Some(id), Some(id)));
                }
                if looked_at == LOOKED_AT_TOGETHER {
                    return Ok((None, Some(id)));
                }
            }
            Ok((None, None))
        })
    }
}
