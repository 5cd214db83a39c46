//! The steps that write a new claim and its items.

use super::items::ItemColumns;
use crate::model::Origin;
use crate::postgres::connection::Step;
use crate::postgres::draft::{Draft, NewClaim};
use crate::postgres::values::{Bits, bigint, micros, origin_columns};

pub(super) fn write_claim(draft: &Draft, claim: &NewClaim, steps: &mut Vec<Step>) {
    let pool = bigint(draft.head.pool.get());
    let origin = claim.batch.origin().map(|origin| Origin::clone(origin)).unwrap_or_default();
    let [flow, run, step] = origin_columns(&origin);
    let insert = "INSERT INTO {s}.claim (pool, id, nonce, owner, flow, run, step, since, until, lease, fence, items, open) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)";
    let items = bigint(claim.items.len() as u64);
    let owner = claim.owner.as_ref().map(|owner| owner.as_bytes().to_vec());
    steps.push(Step::Query(
        insert.into(),
        vec![
            Box::new(pool),
            Box::new(bigint(claim.id)),
            Box::new(Bits(claim.nonce)),
            Box::new(owner),
            Box::new(flow),
            Box::new(run),
            Box::new(step),
            Box::new(draft.now.as_micros()),
            Box::new(claim.until.as_micros()),
            Box::new(micros(claim.lease)),
            Box::new(bigint(claim.fence)),
            Box::new(items),
        ],
    ));
    let (mut indexes, mut newest_seen, mut is_owned) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = ItemColumns::default();
    for (index, newest) in &claim.items {
        indexes.push(bigint(*index as u64));
        newest_seen.push(bigint(*newest));
        // A later operation of the group may have taken it away.
        is_owned.push(
            claim.batch.items().get(*index).is_some_and(|item| draft.is_owner(claim.id, item.fingerprint)),
        );
        rows.push(&claim.batch, *index);
    }
    let insert = "INSERT INTO {s}.claim_item (pool, claim, item, fingerprint, entity_type, value, content, ordinal, seen, owned) \
                  SELECT h.pool, $2, u.* FROM {s}.head h, unnest($3::bigint[], $4::uuid[], $5::bigint[], $6::bytea[], \
                  $7::uuid[], $8::bigint[], $9::bigint[], $10::boolean[]) AS u WHERE h.pool = $1";
    let ItemColumns { fingerprints, entity_types, values, contents, ordinals } = rows;
    steps.push(Step::Query(
        insert.into(),
        vec![
            Box::new(pool),
            Box::new(bigint(claim.id)),
            Box::new(indexes),
            Box::new(fingerprints),
            Box::new(entity_types),
            Box::new(values),
            Box::new(contents),
            Box::new(ordinals),
            Box::new(newest_seen),
            Box::new(is_owned),
        ],
    ));
}
