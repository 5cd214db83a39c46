//! The steps that write the changes of a group.
//!
//! Always holds: values are freed before new claims own them. Must not know: why something changes.

use super::claims::write_claim;
use super::records::write_records;
use crate::postgres::connection::{Params, Step};
use crate::postgres::draft::Draft;
use crate::postgres::values::{Bits, bigint, micros};

/// Adds the steps that write what a group changes.
pub(super) fn write_changes(draft: &mut Draft, steps: &mut Vec<Step>) {
    let pool = bigint(draft.head.pool.get());
    let changes = &draft.changes;
    if !changes.deleted.is_empty() {
        let ids: Vec<i64> = changes.deleted.iter().copied().map(bigint).collect();
        for delete in [
            "DELETE FROM {s}.result WHERE pool = $1 AND record = ANY($2)",
            "DELETE FROM {s}.record WHERE pool = $1 AND id = ANY($2)",
        ] {
            steps.push(Step::Query(delete.into(), vec![Box::new(pool), Box::new(ids.clone())]));
        }
    }
    if !changes.voided.is_empty() {
        let voided: Vec<Bits> = changes.voided.iter().copied().map(Bits).collect();
        let void =
            "UPDATE {s}.claim_item SET owned = false WHERE pool = $1 AND fingerprint = ANY($2) AND owned";
        steps.push(Step::Query(void.into(), vec![Box::new(pool), Box::new(voided)]));
    }
    for (claim, items) in &changes.settled {
        let items: Vec<i64> = items.iter().map(|item| i64::from(*item)).collect();
        let claim = bigint(*claim);
        let settle =
            "UPDATE {s}.claim_item SET settled = true WHERE pool = $1 AND claim = $2 AND item = ANY($3)";
        let count = "UPDATE {s}.claim SET open = (SELECT count(*) FROM {s}.claim_item i WHERE i.pool = $1 AND i.claim = $2 \
                     AND NOT i.settled) WHERE pool = $1 AND id = $2";
        steps.push(Step::Query(settle.into(), vec![Box::new(pool), Box::new(claim), Box::new(items)]));
        steps.push(Step::Query(count.into(), vec![Box::new(pool), Box::new(claim)]));
        for delete in [
            "DELETE FROM {s}.claim_item WHERE pool = $1 AND claim = $2 AND NOT EXISTS (SELECT 1 FROM {s}.claim c \
             WHERE c.pool = $1 AND c.id = $2 AND c.open > 0)",
            "DELETE FROM {s}.claim WHERE pool = $1 AND id = $2 AND open = 0",
        ] {
            steps.push(Step::Query(delete.into(), vec![Box::new(pool), Box::new(claim)]));
        }
    }
    if !changes.leases.is_empty() {
        let mut columns = (Vec::new(), Vec::new(), Vec::new());
        for (id, (until, lease)) in &changes.leases {
            columns.0.push(bigint(*id));
            columns.1.push(until.as_micros());
            columns.2.push(micros(*lease));
        }
        let restart = "UPDATE {s}.claim c SET until = u.until, lease = u.lease FROM unnest($2::bigint[], $3::bigint[], \
                       $4::bigint[]) AS u(id, until, lease) WHERE c.pool = $1 AND c.id = u.id";
        let params: Params =
            vec![Box::new(pool), Box::new(columns.0), Box::new(columns.1), Box::new(columns.2)];
        steps.push(Step::Query(restart.into(), params));
    }
    for claim in &changes.claims {
        write_claim(draft, claim, steps);
    }
    write_records(draft, steps);
}
