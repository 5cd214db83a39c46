//! Filters of records as conditions in SQL.
//!
//! Owns: [`Condition`]. Always holds: values of a filter are parameters, never part of the text. Must not know: which statement
//! has the condition.

use std::fmt::Write as _;
use std::ops::Range;

use super::connection::Params;
use super::head::Head;
use super::values::{Bits, bigint};
use crate::backend::fingerprint::HashKey;
use crate::ids::RecordNumber;
use crate::query::RecordFilter;
use crate::time::Timestamp;

/// A condition on rows of `record`, with its parameters.
pub(crate) struct Condition {
    pub(super) text: String,
    pub(super) params: Params,
}

impl Condition {
    /// Selects the live records of a pool.
    pub(super) fn live(head: &Head, time: Timestamp) -> Self {
        let mut condition = Self { text: String::from("pool = $1 AND id >= $2"), params: Vec::new() };
        condition.params.push(Box::new(bigint(head.pool.get())));
        condition.params.push(Box::new(bigint(head.watermark)));
        if let Some(horizon) = head.horizon(time) {
            condition.and("created_at > ", horizon.as_micros(), "");
        }
        condition
    }

    fn and(
        &mut self,
        before: &str,
        param: impl tokio_postgres::types::ToSql + Sync + Send + 'static,
        after: &str,
    ) {
        self.params.push(Box::new(param));
        _ = write!(self.text, " AND {before}${}{after}", self.params.len());
    }

    /// Adds a condition that is SQL already.
    pub(super) fn and_text(&mut self, text: std::fmt::Arguments<'_>) {
        _ = write!(self.text, " AND {text}");
    }

    /// Adds a parameter. Returns its number.
    pub(super) fn param(
        &mut self,
        param: impl tokio_postgres::types::ToSql + Sync + Send + 'static,
    ) -> usize {
        self.params.push(Box::new(param));
        self.params.len()
    }

    pub(super) fn within(mut self, ids: &Range<RecordNumber>) -> Self {
        self.and("id >= ", bigint(ids.start), "");
        self.and("id < ", bigint(ids.end), "");
        self
    }

    pub(super) fn after(mut self, id: RecordNumber) -> Self {
        self.and("id > ", bigint(id), "");
        self
    }

    pub(super) fn before(mut self, id: RecordNumber) -> Self {
        self.and("id < ", bigint(id), "");
        self
    }

    /// Adds the terms of a filter.
    pub(super) fn matching(mut self, filter: &RecordFilter, hash_key: &HashKey) -> Self {
        let bytes = |ids: &mut dyn Iterator<Item = &str>| -> Vec<Vec<u8>> {
            ids.map(|id| id.as_bytes().to_vec()).collect()
        };
        if !filter.flows.is_empty() {
            self.and("flow = ANY(", bytes(&mut filter.flows.iter().map(crate::ids::FlowId::as_str)), ")");
        }
        if !filter.runs.is_empty() {
            self.and("run = ANY(", bytes(&mut filter.runs.iter().map(crate::ids::FlowRunId::as_str)), ")");
        }
        if !filter.steps.is_empty() {
            self.and("step = ANY(", bytes(&mut filter.steps.iter().map(crate::ids::FlowStepId::as_str)), ")");
        }
        if !filter.entity_types.is_empty() {
            let types: Vec<i64> = filter.entity_types.iter().map(|id| id.get().into()).collect();
            self.and("entity_type = ANY(", types, ")");
        }
        if !filter.values.is_empty() {
            self.values(filter, hash_key);
        }
        if let Some(time) = filter.created_after {
            self.and("created_at > ", time.as_micros(), "");
        }
        if let Some(time) = filter.created_before {
            self.and("created_at < ", time.as_micros(), "");
        }
        self
    }

    /// Adds the values of a filter. With entity types, a value has one fingerprint for each; without, a range of them.
    fn values(&mut self, filter: &RecordFilter, hash_key: &HashKey) {
        let values: Vec<Vec<u8>> = filter.values.iter().map(|value| value.as_bytes().to_vec()).collect();
        if !filter.entity_types.is_empty() {
            let fingerprints = |value: &String| -> Vec<Bits> {
                filter.entity_types.iter().map(|id| Bits(hash_key.fingerprint(*id, value))).collect()
            };
            let fingerprints: Vec<Bits> = filter.values.iter().flat_map(fingerprints).collect();
            self.and("fingerprint = ANY(", fingerprints, ")");
        } else if let [value] = filter.values.as_slice() {
            let range = hash_key.range_of_value(value);
            self.and("fingerprint >= ", Bits(*range.start()), "");
            self.and("fingerprint <= ", Bits(*range.end()), "");
        } else {
            let mut any = Vec::new();
            for value in &filter.values {
                let range = hash_key.range_of_value(value);
                let (from, to) = (self.param(Bits(*range.start())), self.param(Bits(*range.end())));
                any.push(format!("fingerprint BETWEEN ${from} AND ${to}"));
            }
            _ = write!(self.text, " AND ({})", any.join(" OR "));
        }
        self.and("value = ANY(", values, ")");
    }
}
