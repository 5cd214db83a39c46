//! Filters in a form that plain loops can apply to records.

use std::time::Duration;

use datapool_store::{ClaimFilter, Origin, RecordFilter, Timestamp};

use super::model::{ClaimModel, Now};
use crate::support::items::{Item, Row};

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
    /// Returns the store's filter.
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

    /// Like [`build`](Self::build), but for a deletion: a filter without terms becomes an explicit `all`.
    pub(crate) fn build_to_delete(&self) -> RecordFilter {
        let filter = self.build();
        if filter == RecordFilter::new() { RecordFilter::all() } else { filter }
    }

    /// Returns true if the filter matches a record. This follows the sentences of the specification word for
    /// word.
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

    /// Returns true if a claim with this origin loses an item: a record of it would match, regardless of its
    /// time.
    pub(crate) fn voids(&self, item: &Item, origin: &Origin) -> bool {
        let (created_at, origin) = (Timestamp::from_micros(0), origin.clone());
        let is_timeless = self.after.is_none() && self.before.is_none();
        !self.values.is_empty()
            && is_timeless
            && self.takes(&Row { id: 0, item: item.clone(), version: None, origin, created_at })
    }

    /// Returns the rows that the filter matches, in the same order.
    pub(crate) fn select(&self, rows: &[Row]) -> Vec<Row> {
        rows.iter().filter(|row| self.takes(row)).cloned().collect()
    }
}

/// A selection of a pool's claims to release.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClaimsFilter {
    /// Selects the claim at this position in the pool's list, and no other.
    pub(crate) place: Option<usize>,
    pub(crate) owner: Option<String>,
    pub(crate) flow: Option<u64>,
    pub(crate) run: Option<u64>,
    pub(crate) older_than: Option<Duration>,
    pub(crate) lapsed: bool,
}

impl ClaimsFilter {
    /// Returns the store's filter, given the ids in the store's list of claims. A filter without conditions
    /// becomes an explicit `all`.
    pub(crate) fn build(&self, listed: &[u64]) -> ClaimFilter {
        let mut filter = if self.lapsed { ClaimFilter::new().lapsed() } else { ClaimFilter::new() };
        let id = self.place.map(|place| listed.get(place).copied().unwrap_or(u64::MAX));
        filter = id.into_iter().fold(filter, ClaimFilter::id);
        filter = self.owner.iter().fold(filter, ClaimFilter::owner);
        filter = self.flow.into_iter().fold(filter, ClaimFilter::flow_id);
        filter = self.run.into_iter().fold(filter, ClaimFilter::flow_run_id);
        filter = self.older_than.into_iter().fold(filter, ClaimFilter::older_than);
        if filter == ClaimFilter::new() { ClaimFilter::all() } else { filter }
    }

    /// Returns true if the filter selects a claim at this position in the pool's list.
    pub(crate) fn takes(&self, place: usize, claim: &ClaimModel, now: Now) -> bool {
        let is = |wanted: Option<u64>, id: Option<&str>| {
            wanted.is_none_or(|wanted| id.is_some_and(|id| wanted.to_string() == id))
        };
        self.place.is_none_or(|wanted| wanted == place)
            && self.owner.as_ref().is_none_or(|owner| claim.owner.as_ref() == Some(owner))
            && is(self.flow, claim.origin.flow().map(AsRef::as_ref))
            && is(self.run, claim.origin.run().map(AsRef::as_ref))
            && self.older_than.is_none_or(|age| claim.age(now) > age)
            && (!self.lapsed || claim.is_lapsed(now))
    }
}
