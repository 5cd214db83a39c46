//! Background work: folding, merging, reclaiming space, storing expiry, and loading pools that age.

use std::ops::Bound;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::format::{codec, schema};
use crate::engine::pool::state::PoolState;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::storage::space::Need;
use crate::engine::write::apply;
use crate::engine::write::commit::{Changes, PoolChange};
use crate::engine::write::draft::PoolDraft;
use crate::engine::write::group::Group;
use crate::engine::write::turns::TURN_MIN_RECORDS;
use crate::engine::write::writer::Writer;
use crate::error::Result;
use crate::ids::PoolId;
use crate::model::PruneReport;
use crate::time::Reading;

/// The number of pools of the file that one commit looks at. Each takes a few microseconds.
const LOOKED_AT_TOGETHER: u32 = 64;

impl Engine {
    /// Reclaims as much of a pool's space as possible, one commit at a time, so that other writers get their
    /// turn in between.
    ///
    /// # Errors
    ///
    /// `NotFound`; the errors of the commit.
    pub(crate) fn prune(&self, id: PoolId) -> Result<PruneReport> {
        self.check_may_write()?;
        let mut total = PruneReport::default();
        while let Some(step) = self.exclusive(|writer| self.work_step(writer, id))? {
            total += step;
        }
        Ok(total)
    }

    /// Makes one commit of a pool's pending work: folding, merging, reclaiming space. Returns `None` if
    /// nothing is left to do.
    pub(crate) fn work_step(&self, writer: &mut Writer, id: PoolId) -> Result<Option<PruneReport>> {
        let now = self.clock.read();
        let draft = PoolDraft::new(self.view_at(id, now.time)?, now);
        let txn = self.begin()?;
        let written = apply::write(&txn, draft, writer.pool(id), &self.tuning, None)?;
        if !written.worked {
            return Ok(None);
        }
        let pruned = written.pruned;
        self.commit(writer, txn, Changes::new(Need::Reserve, vec![written.into()]))?;
        Ok(Some(pruned))
    }

    /// Stores how far the pools in use have expired, so that no expired record becomes live again if the
    /// clock is set back before the store is opened again.
    ///
    /// # Errors
    ///
    /// The errors of the commit.
    pub(crate) fn store_expiry(&self) -> Result<()> {
        let aged = |state: &&Arc<PoolState>| state.policy.retention.is_some();
        let ids: Vec<PoolId> = self.published.read().pools().filter(aged).map(|state| state.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.exclusive(|writer| {
            let now = self.clock.now();
            let mut states = Vec::<PoolChange>::new();
            for id in ids {
                // A pool that was deleted meanwhile has nothing to store.
                let Ok(view) = self.view_at(id, now) else { continue };
                if view.state.watermark > view.state.stored_watermark {
                    states.push(PoolState::clone(&view.state).into());
                }
            }
            if states.is_empty() {
                return Ok(());
            }
            let txn = self.begin()?;
            self.commit(writer, txn, Changes::new(Need::Reserve, states))
        })
    }
}

impl Engine {
    /// Looks at the next pools of the file, until all of them were looked at, and loads the first one that
    /// ages.
    pub(crate) fn visit_next_pool(&self) {
        let Some(visited) = self.aging.lock().visited else { return };
        // A failure here must not fail the commit. The next caller that uses the pool gets the error.
        let (aging, visited) = self.look_behind(visited).unwrap_or_default();
        if let Some(id) = aging {
            let _ = self.committed_view(id);
        }
        self.aging.lock().visited = visited;
    }

    /// Looks at the next pools of the file. Returns the first one that has a retention or claims, if there is
    /// one, and the last pool that was looked at, or `None` at the end of the file.
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
                    Some(claims) => {
                        claims.range((id, schema::FENCE_ROW + 1)..=(id, u64::MAX)).storage()?.next().is_some()
                    }
                    None => false,
                };
                // Callers that use the pool get the error of a damaged row.
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

impl Engine {
    /// Returns drafts of pools outside the group that have work left from earlier commits, or new work
    /// because time has passed. It is one pool, or as many with short frozen tails as keep pace with a commit
    /// of `records` records.
    pub(crate) fn due_work(&self, writer: &mut Writer, group: &Group<'_>, records: usize) -> Vec<PoolDraft> {
        let waits = |id: &PoolId| !group.drafts.contains_key(id);
        let (mut due, mut left) = (Vec::new(), records.saturating_mul(2).max(1));
        for id in writer.pools_with_work().filter(waits) {
            due.push(id);
            // NOTE: only readers and this thread take this lock, and readers only hold it briefly.
            let state = self.published.read().loaded(id).cloned();
            let frozen = state.and_then(|state| Some(state.frozen.as_ref()?.len()));
            left = left.saturating_sub(frozen.map_or(left, |len| len.max(TURN_MIN_RECORDS)));
            if left == 0 {
                break;
            }
        }
        let is_aged = due.is_empty();
        if is_aged {
            due.extend(self.next_aged(group.now).filter(waits));
        }
        let mut drafts = Vec::with_capacity(due.len());
        for id in due {
            let state = self.published.read().loaded(id).cloned();
            // A clock that is ahead must not advance the time of unused pools.
            let time = state.filter(|_| !is_aged).map_or(group.now.time, |state| state.time_so_far());
            let now = Reading { time, ..group.now };
            match self.view_at(id, now.time) {
                Ok(view) => drafts.push(PoolDraft::new(view, now)),
                Err(_) => self.forget_work(writer, id),
            }
        }
        drafts
    }

    /// Returns a pool with pending work.
    pub(crate) fn next_due(&self, writer: &Writer) -> Option<PoolId> {
        writer.pools_with_work().next().or_else(|| self.next_aged(self.clock.read()))
    }

    /// Forgets the work of a pool that was deleted or cannot be read.
    pub(crate) fn forget_work(&self, writer: &mut Writer, id: PoolId) {
        writer.forget_work(id);
        self.aging.lock().remove(id);
    }

    /// Returns the next aging pool, if it has space to reclaim.
    fn next_aged(&self, now: Reading) -> Option<PoolId> {
        self.visit_next_pool();
        let id = self.aging.lock().next()?;
        let state = self.published.read().loaded(id)?.clone();
        let is_due = state.claims.may_sweep(now.moment) || self.has_expired_segment(&state, now);
        is_due.then_some(id)
    }

    /// Returns true if all records of a segment have expired.
    fn has_expired_segment(&self, state: &PoolState, now: Reading) -> bool {
        // NOTE: looking must not advance the pool's time.
        let time = state.time_so_far().max(now.time);
        let horizon = state.policy.retention.and_then(|retention| time.checked_sub(retention));
        let first = state.segments.first();
        if horizon.is_none_or(|horizon| first.is_none_or(|first| first.base_time > horizon)) {
            return false;
        }
        // A failure here must not fail the commit. The next caller that uses the pool gets the error.
        let view = self.view_at(state.id, now.time);
        view.is_ok_and(|view| view.state.first_segment_is_dead() || view.state.is_dead())
    }
}
