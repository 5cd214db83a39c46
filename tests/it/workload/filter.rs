//! Filters, in terms that plain loops can hold records against.

use datapool_store::{RecordFilter, Timestamp};

use crate::support::items::Row;

#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) flows: Vec<u64>,
    pub(crate) runs: Vec<u64>,
    pub(crate) steps: Vec<u64>,
    pub(crate) entity_types: Vec<u32>,
    pub(crate) values: Vec<String>,
    pub(crate) after: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
}

impl Filter {
    /// The store's filter.
    pub(crate) fn build(&self) -> RecordFilter {
        let mut filter = RecordFilter::new();
        filter = self.flows.iter().fold(filter, |filter, id| filter.flow_id(*id));
        filter = self.runs.iter().fold(filter, |filter, id| filter.flow_run_id(*id));
        filter = self.steps.iter().fold(filter, |filter, id| filter.step_id(*id));
        filter = self.entity_types.iter().fold(filter, |filter, id| filter.entity_type_id(*id));
        filter = self.values.iter().fold(filter, RecordFilter::value);
        filter = self.after.into_iter().fold(filter, RecordFilter::created_after);
        self.before.into_iter().fold(filter, RecordFilter::created_before)
    }

    /// As [`build`](Self::build), for a deletion: what names nothing is everything in so many words.
    pub(crate) fn build_to_delete(&self) -> RecordFilter {
        let filter = self.build();
        if filter == RecordFilter::new() { RecordFilter::all() } else { filter }
    }

    /// Whether the filter takes a record: the specification's sentences, word for word.
    pub(crate) fn takes(&self, row: &Row) -> bool {
        let any_of = |allowed: &[u64], id: Option<&str>| {
            allowed.is_empty() || id.is_some_and(|id| allowed.iter().any(|allowed| allowed.to_string() == id))
        };
        any_of(&self.flows, row.origin.flow().map(AsRef::as_ref))
            && any_of(&self.runs, row.origin.run().map(AsRef::as_ref))
            && any_of(&self.steps, row.origin.step().map(AsRef::as_ref))
            && (self.entity_types.is_empty() || self.entity_types.contains(&row.item.entity_type.get()))
            && (self.values.is_empty() || self.values.contains(&row.item.value))
            && self.after.is_none_or(|after| row.created_at > after)
            && self.before.is_none_or(|before| row.created_at < before)
    }

    /// The rows that the filter takes, in their order.
    pub(crate) fn select(&self, rows: &[Row]) -> Vec<Row> {
        rows.iter().filter(|row| self.takes(row)).cloned().collect()
    }
}
