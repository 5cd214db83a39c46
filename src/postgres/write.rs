//! Writing: the answers of a group, and the steps that store what it changes.
//!
//! Owns: the order of the steps. [`changes`] writes what operations decided, [`claims`] new claims, and [`records`] new records;
//! [`items`] has the columns that both have. Always holds: records that answers name are read before they may be deleted. Must not
//! know: how operations are decided.

mod changes;
mod claims;
mod items;
mod records;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use self::changes::write_changes;
use super::connection::{Connection, Failure, Step};
use super::draft::{Changes, Decided, Draft};
use super::head::head_step;
use super::isolation::{LONG_LIST, PLAN_WITH_VALUES};
use super::reclaim::reclaim_steps;
use super::store::Postgres;
use super::transaction::{Commit, Outcome};
use super::values::bigint;
use crate::backend::fingerprint::Fingerprint;
use crate::backend::operation::Answer;
use crate::error::Result;
use crate::ids::RecordNumber;
use crate::model::Record;

impl Postgres {
    /// Returns the answers to what was decided, and the steps that write and commit it.
    pub(super) fn write(
        &self,
        connection: &mut Connection,
        mut draft: Draft,
        decided: Vec<Result<Decided>>,
    ) -> Result<Outcome<Vec<Result<Answer>>>, Failure> {
        let records = Self::records_named(connection, &draft, &decided)?;
        let record = |id: RecordNumber| records.get(&id).cloned().or_else(|| draft.new_record(id));
        let finish = |decided: Result<Decided>| decided.map(|decided| decided.finish(record));
        let answered = decided.len();
        let answer = decided.into_iter().map(finish).collect();
        let (pool, freed) = (draft.head.pool, freed_by(&draft.changes));
        if draft.changes.is_empty() {
            return Ok(Outcome { answer, commit: Commit::nothing() });
        }
        self.counters.group(answered);
        let mut steps = Vec::new();
        if draft.changes.longest_list() >= LONG_LIST {
            steps.push(Step::Command(PLAN_WITH_VALUES.into()));
        }
        Self::sweep(connection, &draft, &mut steps)?;
        if !freed.is_empty() {
            Self::notify(connection, pool, &mut steps)?;
        }
        write_changes(&mut draft, &mut steps);
        steps.push(head_step(&mut draft.head));
        steps.extend(reclaim_steps(&draft.head, draft.changes.new.len() as u64));
        let waiting = Arc::clone(&self.waiting);
        let done = move || waiting.wake(pool, freed.into_iter());
        Ok(Outcome { answer, commit: Commit::new(steps, done) })
    }

    /// Reads the stored records that answers name, before they may be deleted.
    fn records_named(
        connection: &mut Connection,
        draft: &Draft,
        decided: &[Result<Decided>],
    ) -> Result<HashMap<RecordNumber, Record>, Failure> {
        let named: BTreeSet<RecordNumber> = decided.iter().flatten().flat_map(Decided::records).collect();
        let stored: Vec<i64> =
            named.into_iter().filter(|id| !draft.changes.new.contains_key(id)).map(bigint).collect();
        if stored.is_empty() {
            return Ok(HashMap::new());
        }
        Self::records_of(connection, draft.head.pool, stored)
    }
}

/// Returns the values that may be free, or tracked, after a group.
fn freed_by(changes: &Changes) -> Vec<Fingerprint> {
    changes.voided.iter().copied().collect()
}
