//! The queries to all engines in a common form: filters and pages.
//!
//! Owns: [`Filter`], [`Listing`] and [`Include`]. `RecordFilter` cannot be used for filters, because only the
//! store can read its fields.

use datapool_store::{RecordFilter, RecordInclude, RecordQuery, Timestamp};

/// Conditions that must all hold. Several terms of a condition mean any of them; without terms, it is not
/// set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) entity_types: Vec<u32>,
    pub(crate) flows: Vec<String>,
    pub(crate) runs: Vec<String>,
    pub(crate) steps: Vec<String>,
    pub(crate) values: Vec<String>,
    /// Strictly later than this.
    pub(crate) after: Option<Timestamp>,
    /// Strictly earlier than this.
    pub(crate) before: Option<Timestamp>,
}

impl Filter {
    pub(crate) fn to_store(&self) -> RecordFilter {
        let mut filter = RecordFilter::new();
        filter = self.entity_types.iter().fold(filter, |filter, id| filter.entity_type_id(*id));
        filter = self.flows.iter().fold(filter, RecordFilter::flow_id);
        filter = self.runs.iter().fold(filter, RecordFilter::flow_run_id);
        filter = self.steps.iter().fold(filter, RecordFilter::step_id);
        filter = self.values.iter().fold(filter, RecordFilter::value);
        filter = self.after.into_iter().fold(filter, RecordFilter::created_after);
        self.before.into_iter().fold(filter, RecordFilter::created_before)
    }
}

/// One page of the records that match a filter, by ascending id, with the exact total.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) filter: Filter,
    pub(crate) page: u64,
    pub(crate) per_page: u32,
    pub(crate) include: Include,
}

/// The entries that a page includes for each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    /// The pool, and the registered entries of the entity type, flow, run and step.
    All,
}

impl Listing {
    pub(crate) fn to_store(&self) -> RecordQuery {
        let query = RecordQuery::new().filter(self.filter.to_store()).page(self.page).per_page(self.per_page);
        match self.include {
            Include::Nothing => query,
            Include::All => query.include(RecordInclude::ALL),
        }
    }

    /// Returns the number of records before the page.
    pub(crate) fn skip(&self) -> u64 {
        (self.page - 1) * u64::from(self.per_page)
    }
}
