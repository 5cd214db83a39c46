//! Waiting until none of some values is in flight: one after the other, and at the end all as of one moment.

use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::engine::format::schema::Fingerprint;
use crate::engine::pool::batch::Batch;
use crate::engine::pool::claims::ClaimId;
use crate::engine::read::view::View;
use crate::engine::storage::failure::contained;
use crate::error::Result;
use crate::ids::{PoolId, RecordNumber};
use crate::model::{Origin, WaitOutcome};
use crate::time::Moment;

/// The standing of a value that somebody waits for.
enum Standing {
    Tracked(RecordNumber),
    Free,
    InFlight(ClaimId),
}

impl View {
    fn standing_of(&self, fingerprint: Fingerprint, moment: Moment) -> Result<Standing> {
        if let Some(id) = self.find_first(&self.state, fingerprint)? {
            return Ok(Standing::Tracked(id));
        }
        if self.state.claims.is_empty() {
            return Ok(Standing::Free);
        }
        let owner = self.owner(fingerprint)?;
        let is_running =
            |id: &ClaimId| self.state.claims.get(*id, moment).is_some_and(|claim| !claim.is_lapsed(moment));
        Ok(owner.filter(is_running).map_or(Standing::Free, Standing::InFlight))
    }

    /// Returns the standing of each value of a batch, as callers see it.
    fn wait_outcomes(&self, batch: &Batch, moment: Moment) -> Result<Vec<WaitOutcome>> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for item in batch.items() {
            outcomes.push(match self.standing_of(item.fingerprint, moment)? {
                Standing::Tracked(id) => match self.fetch(&[id])?.pop() {
                    Some(record) => WaitOutcome::Tracked(Box::new(record)),
                    None => WaitOutcome::Free,
                },
                Standing::Free => WaitOutcome::Free,
                Standing::InFlight(id) => match self.state.claims.get(id, moment) {
                    Some(claim) => {
                        WaitOutcome::InFlight { by: Origin::clone(&claim.origin), until: claim.until }
                    }
                    None => WaitOutcome::Free,
                },
            });
        }
        Ok(outcomes)
    }
}

impl Engine {
    /// Blocks until none of the values of a batch is in flight, or for the timeout. Returns what each is then, as of one moment.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Closed`; `Storage` or `Corrupt` if reading fails.
    pub(crate) fn wait_for(
        &self,
        pool: PoolId,
        batch: &Batch,
        timeout: Duration,
    ) -> Result<Vec<WaitOutcome>> {
        let until = Instant::now().checked_add(timeout);
        loop {
            let mut is_late = false;
            for item in batch.items() {
                is_late = !self.wait_for_one(pool, item.fingerprint, until)?;
                if is_late {
                    break;
                }
            }
            let (view, moment) = (self.view(pool)?, self.clock.moment());
            let outcomes = contained("waiting", || view.wait_outcomes(batch, moment))?;
            // While one was waited for, another may have been claimed again.
            let in_flight = |outcome: &WaitOutcome| matches!(outcome, WaitOutcome::InFlight { .. });
            if is_late || !outcomes.iter().any(in_flight) {
                return Ok(outcomes);
            }
        }
    }

    /// Returns false if the value is still in flight when the time is over.
    fn wait_for_one(&self, pool: PoolId, fingerprint: Fingerprint, until: Option<Instant>) -> Result<bool> {
        let registered = self.waiting.register(pool, fingerprint);
        loop {
            let seen = registered.signal.raised();
            let (view, moment) = (self.view(pool)?, self.clock.moment());
            let Standing::InFlight(id) = contained("waiting", || view.standing_of(fingerprint, moment))?
            else {
                return Ok(true);
            };
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return Ok(false);
            }
            let deadline = view.state.claims.get(id, moment).map(|claim| claim.deadline);
            // The view keeps pages of the file from being reused.
            drop(view);
            let lease_end = deadline.and_then(|deadline| self.clock.left_until(deadline));
            let lease_end = lease_end.and_then(|left| now.checked_add(left));
            let wake = [until, lease_end].into_iter().flatten().min();
            registered.signal.wait(seen, wake);
        }
    }
}
