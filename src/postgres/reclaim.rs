//! Removing rows: of records below the watermark, and of claims whose lease ended over an hour ago.
//!
//! Always holds: each commit removes a bounded number, so that no call waits long for it. Must not know: why they are not live.

use super::connection::{Connection, Failure, Step};
use super::draft::Draft;
use super::head::Head;
use super::store::Postgres;
use super::values::{Columns, bigint};
use crate::error::Result;
use crate::limits::CLAIM_KEPT_AFTER_LEASE;

/// The number of rows below the watermark that a commit removes at least, if there are as many.
const RECLAIMED_ROWS: u64 = 1_000;
/// The most claims that a commit removes.
const SWEPT_CLAIMS: i64 = 16;

const SWEEPABLE: &str = "SELECT id FROM {s}.claim WHERE pool = $1 AND until <= $2 ORDER BY until LIMIT $3";

impl Postgres {
    /// Adds the steps that remove claims whose lease ended over an hour ago.
    pub(super) fn sweep(
        connection: &mut Connection,
        draft: &Draft,
        steps: &mut Vec<Step>,
    ) -> Result<(), Failure> {
        if draft.head.next_claim == 1 {
            return Ok(());
        }
        let pool = bigint(draft.head.pool.get());
        let before = draft.now.saturating_sub(CLAIM_KEPT_AFTER_LEASE).as_micros();
        let rows =
            connection.query(SWEEPABLE, vec![Box::new(pool), Box::new(before), Box::new(SWEPT_CLAIMS)])?;
        let ids = rows.iter().map(|row| row.read("id")).collect::<Result<Vec<i64>>>()?;
        if !ids.is_empty() {
            remove_claims(pool, ids, steps);
        }
        Ok(())
    }
}

/// Adds the steps that remove claims with their items.
pub(super) fn remove_claims(pool: i64, ids: Vec<i64>, steps: &mut Vec<Step>) {
    for delete in [
        "DELETE FROM {s}.claim_item WHERE pool = $1 AND claim = ANY($2)",
        "DELETE FROM {s}.claim WHERE pool = $1 AND id = ANY($2)",
    ] {
        steps.push(Step::Query(delete.into(), vec![Box::new(pool), Box::new(ids.clone())]));
    }
}

/// Returns the steps that remove rows below the watermark: twice as many as were added, and a thousand at least.
pub(super) fn reclaim_steps(head: &Head, added: u64) -> Vec<Step> {
    if head.reclaimed >= head.watermark {
        return Vec::new();
    }
    let end = head.watermark.min(head.reclaimed.saturating_add(RECLAIMED_ROWS.max(2 * added)));
    let (pool, from, to) = (bigint(head.pool.get()), bigint(head.reclaimed), bigint(end));
    let mut steps = Vec::new();
    for delete in [
        "DELETE FROM {s}.result WHERE pool = $1 AND record >= $2 AND record < $3",
        "DELETE FROM {s}.record WHERE pool = $1 AND id >= $2 AND id < $3",
    ] {
        steps.push(Step::Query(delete.into(), vec![Box::new(pool), Box::new(from), Box::new(to)]));
    }
    let moved = "UPDATE {s}.head SET reclaimed = $2 WHERE pool = $1";
    steps.push(Step::Query(moved.into(), vec![Box::new(pool), Box::new(to)]));
    steps
}
