//! The steps that write new records and their results.

use super::items::ItemColumns;
use crate::model::Origin;
use crate::postgres::connection::Step;
use crate::postgres::draft::{Draft, NewRecord};
use crate::postgres::values::{bigint, origin_columns};

pub(super) fn write_records(draft: &Draft, steps: &mut Vec<Step>) {
    let (pool, changes) = (bigint(draft.head.pool.get()), &draft.changes);
    let (mut ids, mut rows) = (Vec::new(), ItemColumns::default());
    let (mut flows, mut runs, mut origin_steps) = (Vec::new(), Vec::new(), Vec::new());
    for (id, NewRecord { batch, item }) in &changes.new {
        let none = Origin::none();
        let [flow, run, step] = origin_columns(batch.origin().map_or(&none, |origin| &**origin));
        ids.push(bigint(*id));
        rows.push(batch, *item);
        flows.push(flow);
        runs.push(run);
        origin_steps.push(step);
    }
    if !ids.is_empty() {
        let insert = "INSERT INTO {s}.record (pool, id, fingerprint, entity_type, value, content, ordinal, flow, run, step, \
                      created_at) SELECT h.pool, u.*, $11::bigint FROM {s}.head h, unnest($2::bigint[], $3::uuid[], \
                      $4::bigint[], $5::bytea[], $6::uuid[], $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[]) AS u \
                      WHERE h.pool = $1";
        let ItemColumns { fingerprints, entity_types, values, contents, ordinals } = rows;
        steps.push(Step::Query(
            insert.into(),
            vec![
                Box::new(pool),
                Box::new(ids),
                Box::new(fingerprints),
                Box::new(entity_types),
                Box::new(values),
                Box::new(contents),
                Box::new(ordinals),
                Box::new(flows),
                Box::new(runs),
                Box::new(origin_steps),
                Box::new(draft.time.as_micros()),
            ],
        ));
    }
    let results = changes.results.iter().filter(|(id, _)| changes.new.contains_key(id));
    let (ids, bytes): (Vec<i64>, Vec<Vec<u8>>) =
        results.map(|(id, bytes)| (bigint(*id), bytes.as_slice().to_vec())).unzip();
    if !ids.is_empty() {
        let insert = "INSERT INTO {s}.result (pool, record, bytes) SELECT h.pool, u.* FROM {s}.head h, \
                      unnest($2::bigint[], $3::bytea[]) AS u WHERE h.pool = $1";
        steps.push(Step::Query(insert.into(), vec![Box::new(pool), Box::new(ids), Box::new(bytes)]));
    }
}
