//! The state of values, for callers that wait until they are no longer in flight.

use crate::backend::InFlight;
use crate::backend::batch::Batch;
use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::Fingerprint;
use crate::engine::Engine;
use crate::engine::read::view::View;
use crate::engine::storage::failure::contained;
use crate::error::Result;
use crate::ids::{PoolId, RecordNumber};
use crate::model::{Origin, Version, WaitOutcome};
use crate::time::Moment;

/// The state of a value that a caller waits for.
#[derive(Clone, Copy, Default)]
enum Standing {
    Tracked(RecordNumber),
    #[default]
    Free,
    InFlight(ClaimId),
}

impl View {
    /// Returns the state of a value, or of the version if the key has one.
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
        // The same rule as in `LiveRecords::answer_under_claim`.
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

    /// Returns the state of each value of a batch, in the form that callers see.
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

impl Engine {
    /// Finds the first item of a batch that is in flight, starting at a position.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Closed`; `Storage` or `Corrupt` if reading fails.
    pub(crate) fn first_in_flight(
        &self,
        pool: PoolId,
        batch: &Batch,
        from: usize,
    ) -> Result<Option<InFlight>> {
        let (view, moment) = (self.view(pool)?, self.clock.moment());
        contained("waiting", || {
            for (index, item) in batch.items().iter().enumerate().skip(from) {
                let standing = view.standing_of(item.fingerprint, batch.version(index), moment)?;
                if let Standing::InFlight(id) = standing {
                    let deadline = view.state.claims.get(id, moment).map(|claim| claim.deadline);
                    let look_again_in = deadline.and_then(|deadline| self.clock.left_until(deadline));
                    return Ok(Some(InFlight { item: index, look_again_in }));
                }
            }
            Ok(None)
        })
    }

    /// Returns the state of each item's value, as of one moment.
    ///
    /// # Errors
    ///
    /// The errors of [`first_in_flight`](Self::first_in_flight).
    pub(crate) fn wait_outcomes(&self, pool: PoolId, batch: &Batch) -> Result<Vec<WaitOutcome>> {
        let (view, moment) = (self.view(pool)?, self.clock.moment());
        contained("waiting", || view.wait_outcomes(batch, moment))
    }
}
