//! Waiting until none of some values is in flight: one after the other, and at the end all as of one moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::engine::format::schema::Fingerprint;
use crate::engine::pool::batch::Batch;
use crate::engine::pool::claims::ClaimId;
use crate::engine::read::view::View;
use crate::engine::read::waiting::{Registered, Sleep};
use crate::engine::storage::failure::contained;
use crate::error::Result;
use crate::ids::{PoolId, RecordNumber};
use crate::model::{Origin, Version, WaitOutcome};
use crate::time::Moment;

/// The standing of a value that somebody waits for.
#[derive(Clone, Copy, Default)]
enum Standing {
    Tracked(RecordNumber),
    #[default]
    Free,
    InFlight(ClaimId),
}

impl View {
    /// Returns the standing of a value; of one with a version, the standing of that version.
    fn standing_of(
        &self,
        fingerprint: Fingerprint,
        asked: Option<Version>,
        moment: Moment,
    ) -> Result<Standing> {
        let tracked = if asked.is_none() {
            self.find_first(&self.state, fingerprint)?
        } else {
            let live = self.live_records_of(&self.state, &[fingerprint])?.pop().unwrap_or_default();
            live.ids.first().copied().filter(|_| live.contain(asked))
        };
        // As `LiveRecords::answer_under_claim` says.
        if let Some(id) = tracked.filter(|_| !Version::is_content(asked)) {
            return Ok(Standing::Tracked(id));
        }
        let owner = if self.state.claims.is_empty() { None } else { self.owner(fingerprint)? };
        let is_running =
            |id: &ClaimId| self.state.claims.get(*id, moment).is_some_and(|claim| !claim.is_lapsed(moment));
        Ok(match (owner.filter(is_running), tracked) {
            (Some(owner), _) => Standing::InFlight(owner),
            (None, Some(id)) => Standing::Tracked(id),
            (None, None) => Standing::Free,
        })
    }

    /// Returns the standing of each value of a batch, as callers see it.
    fn wait_outcomes(&self, batch: &Batch, moment: Moment) -> Result<Vec<WaitOutcome>> {
        let standings = if batch.has_versions() {
            let items = batch.items().iter().enumerate();
            items
                .map(|(index, item)| self.standing_of(item.fingerprint, batch.version(index), moment))
                .collect::<Result<_>>()?
        } else {
            batch.ask_each(|fingerprint| self.standing_of(fingerprint, None, moment))?
        };
        let tracked = standings.iter().filter_map(|standing| match standing {
            Standing::Tracked(id) => Some(*id),
            _ => None,
        });
        let mut ids: Vec<RecordNumber> = tracked.collect();
        ids.sort_unstable();
        ids.dedup();
        let records = self.fetch(&ids)?;
        let outcome = |standing: Standing| match standing {
            Standing::Tracked(id) => {
                let record = ids.binary_search(&id).ok().and_then(|place| records.get(place));
                record.map_or(WaitOutcome::Free, |record| WaitOutcome::Tracked(Box::new(record.clone())))
            }
            Standing::Free => WaitOutcome::Free,
            Standing::InFlight(id) => match self.state.claims.get(id, moment) {
                Some(claim) => WaitOutcome::InFlight { by: Origin::clone(&claim.origin), until: claim.until },
                None => WaitOutcome::Free,
            },
        };
        Ok(standings.into_iter().map(outcome).collect())
    }
}

/// Waits until no value of a batch is in flight: for one after the other, until it finds all of them free or tracked.
#[derive(Debug)]
pub(crate) struct Waiter {
    pool: PoolId,
    batch: Batch,
    /// The time at which it gives up.
    until: Option<Instant>,
    /// The item that it waits for.
    item: usize,
    registered: Option<Arc<Registered>>,
}

/// The next step of a waiter.
#[derive(Debug)]
pub(crate) enum Step {
    Done(Vec<WaitOutcome>),
    Sleep(Sleep),
}

impl Waiter {
    pub(crate) fn new(pool: PoolId, batch: Batch, timeout: Duration) -> Self {
        Self { pool, batch, until: Instant::now().checked_add(timeout), item: 0, registered: None }
    }

    /// Looks at the values, and returns what each is, as of one moment; or what to sleep for before looking again.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Closed`; `Storage` or `Corrupt` if reading fails.
    pub(crate) fn look(&mut self, engine: &Engine) -> Result<Step> {
        loop {
            let mut is_late = false;
            while let Some(item) = self.batch.items().get(self.item) {
                let registered = self
                    .registered
                    .get_or_insert_with(|| engine.waiting.register(self.pool, item.fingerprint));
                let mut sleep = registered.sleep();
                let (view, moment) = (engine.view(self.pool)?, engine.clock.moment());
                let standing = contained("waiting", || {
                    view.standing_of(item.fingerprint, self.batch.version(self.item), moment)
                })?;
                if let Standing::InFlight(id) = standing {
                    let now = Instant::now();
                    is_late = self.until.is_some_and(|until| until <= now);
                    if is_late {
                        break;
                    }
                    let deadline = view.state.claims.get(id, moment).map(|claim| claim.deadline);
                    let lease_end = deadline.and_then(|deadline| engine.clock.left_until(deadline));
                    let lease_end = lease_end.and_then(|left| now.checked_add(left));
                    sleep.until = [self.until, lease_end].into_iter().flatten().min();
                    return Ok(Step::Sleep(sleep));
                }
                (self.item, self.registered) = (self.item + 1, None);
            }
            let (view, moment) = (engine.view(self.pool)?, engine.clock.moment());
            let outcomes = contained("waiting", || view.wait_outcomes(&self.batch, moment))?;
            // While one was waited for, another may have been claimed again.
            let in_flight = |outcome: &WaitOutcome| matches!(outcome, WaitOutcome::InFlight { .. });
            if is_late || !outcomes.iter().any(in_flight) {
                return Ok(Step::Done(outcomes));
            }
            self.item = 0;
        }
    }
}

impl Engine {
    /// Blocks until none of the values of a batch is in flight, or for the timeout. Returns what each is then, as of one moment.
    ///
    /// # Errors
    ///
    /// The errors of [`Waiter::look`].
    pub(crate) fn wait_for(&self, mut waiter: Waiter) -> Result<Vec<WaitOutcome>> {
        loop {
            match waiter.look(self)? {
                Step::Done(outcomes) => return Ok(outcomes),
                Step::Sleep(sleep) => sleep.block(),
            }
        }
    }
}
