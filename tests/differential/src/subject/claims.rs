//! Claims.

use std::time::Duration;

use datapool_store::{
    Claim, ClaimFilter, ClaimOptions, ClaimOutcome, ClaimVerdict, Confirmation, Result, WaitOutcome,
};

use super::text;
use super::{Subject, unit};
use crate::answer::{Answer, Refusal};
use crate::model::result_of;
use crate::operation::{ClaimsFilter, Item, Operation, Which};

impl Subject {
    pub fn apply_to_claims(&mut self, operation: &Operation) -> Answer {
        use Operation::*;
        match operation {
            Claim { pool, items, from, lease, owner, guard } => {
                let mut options = ClaimOptions::new().lease(text::duration(*lease));
                if let Some(owner) = owner {
                    options = options.owner(owner);
                }
                let claim = self.pool(*pool)?.claim_with(items, text::key, &text::origin(from), &options)?;
                let mut lines: Vec<String> =
                    claim.verdicts().iter().map(|(_, verdict)| line_of(verdict)).collect();
                lines.extend(claim.token().map(|_| format!("until {}", claim.until().as_micros())));
                lines.extend(open_lines(&claim));
                lines.extend(self.grant(*pool, claim.fencing_number()));
                self.guards.insert(*guard, claim);
                Ok(lines)
            }
            Confirm { guard, which, results } => self.confirm(*guard, which, *results).map_err(Refusal::from),
            Release { guard, which } => {
                let guard = self.guard(*guard);
                let released = match which {
                    Which::All => guard.release(),
                    Which::Indexes(indexes) => guard.release_items(indexes),
                    Which::Keys(items) => guard.release_keys(&text::keys(items)),
                };
                Ok(vec![released?.to_string()])
            }
            DropGuard { guard } => {
                self.guards.remove(guard);
                Ok(Vec::new())
            }
            IntoToken { guard } => {
                let token = self.guards.remove(guard).and_then(datapool_store::Claim::into_token);
                let has_token = token.is_some();
                if let Some(token) = token {
                    self.tokens.insert(*guard, token.to_string().parse().unwrap());
                }
                Ok(vec![has_token.to_string()])
            }
            Resume { token, guard } => {
                let claim = self.store.resume_claim(&self.tokens[token])?;
                let lines = taken_up(&claim);
                self.guards.insert(*guard, claim);
                Ok(lines)
            }
            ResumeOwner { pool, owner, first_guard } => {
                let claims = self.pool(*pool)?.resume_claims_of(owner)?;
                let mut lines = Vec::new();
                for (claim, guard) in claims.into_iter().zip(*first_guard..) {
                    lines.extend(taken_up(&claim));
                    lines.extend(self.grant(*pool, claim.fencing_number()));
                    self.guards.insert(guard, claim);
                }
                Ok(lines)
            }
            Extend { guard, lease } => {
                let until = self.guard(*guard).extend(text::duration(*lease))?;
                Ok(vec![format!("until {}", until.as_micros())])
            }
            KeepAlive { guard } => unit(self.guard(*guard).keep_alive()),
            ReleaseClaims { pool, filter } => {
                Ok(vec![self.pool(*pool)?.release_claims(&claim_filter(filter))?.to_string()])
            }
            ListClaims { pool } => {
                let claims = self.pool(*pool)?.claims()?;
                let line = |claim: &datapool_store::ClaimInfo| {
                    let (since, until) = (claim.since.as_micros(), claim.until.as_micros());
                    let (from, owner) = (text::from_of(&claim.origin), &claim.owner);
                    let (lapsed, items) = (claim.is_lapsed, claim.items);
                    format!("{from:?} {owner:?} since {since} until {until} lapsed {lapsed} items {items}")
                };
                Ok(claims.iter().map(line).collect())
            }
            Wait { pool, items } => {
                let found = self.pool(*pool)?.wait_for(&text::keys(items), Duration::ZERO)?;
                Ok(found.iter().map(waited).collect())
            }
            other => panic!("{other:?} is about no claim"),
        }
    }

    fn guard(&mut self, guard: u64) -> &mut Claim {
        self.guards.get_mut(&guard).expect("the model has this guard")
    }

    fn confirm(&mut self, guard: u64, which: &Which, results: bool) -> Result<Vec<String>> {
        let guard = self.guard(guard);
        let confirmation = match which {
            Which::All if results => guard.confirm_with(result_of)?,
            Which::All => guard.confirm()?,
            Which::Indexes(indexes) => guard.confirm_items(indexes)?,
            Which::Keys(items) => guard.confirm_keys(&text::keys(items))?,
        };
        Ok(outcomes(&confirmation))
    }
}

fn outcomes(confirmation: &Confirmation) -> Vec<String> {
    let line = |(index, outcome): &(usize, ClaimOutcome)| match outcome {
        ClaimOutcome::Confirmed(id) => format!("{index} confirmed {id}"),
        ClaimOutcome::AlreadyTracked(record) => {
            format!("{index} already tracked {}", text::row(record).line())
        }
        ClaimOutcome::LeaseLost => format!("{index} lease lost"),
        other => format!("{index} {other:?}"),
    };
    confirmation.outcomes().iter().map(line).collect()
}

fn line_of(verdict: &ClaimVerdict) -> String {
    match verdict {
        ClaimVerdict::Claimed => "claimed".to_owned(),
        ClaimVerdict::InFlight { by, until } => {
            format!("in flight by {:?} until {}", text::from_of(by), until.as_micros())
        }
        ClaimVerdict::Duplicate(first) => format!("duplicate {}", text::maybe_row(first.as_deref())),
        ClaimVerdict::Lost => "lost".to_owned(),
        ClaimVerdict::Settled => "settled".to_owned(),
        other => format!("{other:?}"),
    }
}

fn waited(outcome: &WaitOutcome) -> String {
    match outcome {
        WaitOutcome::Tracked(record) => text::row(record).line(),
        WaitOutcome::Free => "free".to_owned(),
        WaitOutcome::InFlight { by, until } => {
            format!("in flight by {:?} until {}", text::from_of(by), until.as_micros())
        }
        other => format!("{other:?}"),
    }
}

fn taken_up(claim: &Claim) -> Vec<String> {
    let verdicts = claim.verdicts().iter().map(|(index, verdict)| format!("{index} {}", line_of(verdict)));
    let until = format!("until {}", claim.until().as_micros());
    std::iter::once(until).chain(verdicts).chain(open_lines(claim)).collect()
}

fn open_lines(claim: &Claim) -> Vec<String> {
    let line = |(index, key): (usize, datapool_store::Key<'_>)| {
        let (entity, value) = (key.entity_type().get(), key.value().to_owned());
        format!("holds {index} {:?}", Item { entity, value, version: key.version() })
    };
    claim.keys().map(line).collect()
}

fn claim_filter(filter: &ClaimsFilter) -> ClaimFilter {
    let ClaimsFilter { owner, flow, run, older_than, lapsed, all } = filter;
    let mut made = if *all { ClaimFilter::all() } else { ClaimFilter::new() };
    made = owner.iter().fold(made, |made, owner| made.owner(owner));
    made = flow.iter().fold(made, |made, flow| made.flow_id(flow));
    made = run.iter().fold(made, |made, run| made.flow_run_id(run));
    made = older_than.iter().fold(made, |made, age| made.older_than(text::duration(*age)));
    if *lapsed { made.lapsed() } else { made }
}
