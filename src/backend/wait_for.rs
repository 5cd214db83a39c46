//! Waiting until none of some values is in flight. The waiter waits for one value after the other, then
//! checks all of them as of one moment.

use std::sync::Arc;
use std::time::Duration;

use super::Backend;
use super::batch::Batch;
use super::waiting::{Registered, Sleep};
use crate::error::Result;
use crate::ids::PoolId;
use crate::model::WaitOutcome;
use crate::sync::Instant;

/// Waits until no value of a batch is in flight. It waits for one after the other, until it finds all of them
/// free or tracked.
#[derive(Debug)]
pub(crate) struct Waiter {
    pool: PoolId,
    batch: Batch,
    /// The time at which the waiter gives up.
    until: Option<Instant>,
    /// The item that it waits for. Those before it were not in flight.
    item: usize,
    /// Receives signals when that item changes.
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

    /// Looks at the values. Returns the state of each as of one moment, or how to sleep before looking again.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Closed`; `Storage` or `Corrupt` if reading fails.
    pub(crate) fn look(&mut self, backend: &dyn Backend) -> Result<Step> {
        loop {
            // Prepare the sleep before looking at the value, so that no change is missed.
            let sleep = self.registered.as_ref().map(Registered::sleep);
            let found = backend.first_in_flight(self.pool, &self.batch, self.item)?;
            let mut is_late = false;
            if let Some(found) = found {
                let now = Instant::now();
                is_late = self.until.is_some_and(|until| until <= now);
                match sleep.filter(|_| found.item == self.item) {
                    _ if is_late => {}
                    Some(mut sleep) => {
                        let again = found.look_again_in.and_then(|left| now.checked_add(left));
                        sleep.until = [self.until, again].into_iter().flatten().min();
                        return Ok(Step::Sleep(sleep));
                    }
                    None => {
                        self.wait_for(found.item, backend);
                        continue;
                    }
                }
            }
            let outcomes = backend.wait_outcomes(self.pool, &self.batch)?;
            // While the waiter waited for one value, another may have been claimed again.
            let in_flight = |outcome: &WaitOutcome| matches!(outcome, WaitOutcome::InFlight { .. });
            if is_late || !outcomes.iter().any(in_flight) {
                return Ok(Step::Done(outcomes));
            }
            (self.item, self.registered) = (0, None);
        }
    }

    fn wait_for(&mut self, item: usize, backend: &dyn Backend) {
        let fingerprint = self.batch.items().get(item).map(|item| item.fingerprint);
        let registered = fingerprint.map(|fingerprint| backend.waiting().register(self.pool, fingerprint));
        (self.item, self.registered) = (item, registered);
    }

    /// Blocks until none of the values is in flight, or until the timeout. Then returns the state of each as
    /// of one moment.
    ///
    /// # Errors
    ///
    /// The errors of [`look`](Self::look).
    pub(crate) fn block(mut self, backend: &dyn Backend) -> Result<Vec<WaitOutcome>> {
        loop {
            match self.look(backend)? {
                Step::Done(outcomes) => return Ok(outcomes),
                Step::Sleep(sleep) => sleep.block(),
            }
        }
    }
}
