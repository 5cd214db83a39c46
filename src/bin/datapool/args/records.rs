//! The arguments of the commands that list and delete records.

use clap::Args;
use datapool_store::{RecordFilter, RecordId, RecordQuery, RecordSort};

use super::values::{filter_of_query, page, per_page, record_sort};
use crate::filter::{self, FilterArguments};
use crate::output::PageForm;

#[derive(Debug, Args)]
pub(crate) struct Records {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The HTTP API's query string
    #[arg(conflicts_with_all = filter::OPTIONS, conflicts_with_all = ["sort", "page", "per_page"])]
    query: Option<RecordQuery>,
    /// The order of the records
    #[arg(long, value_name = "ORDER", value_parser = record_sort(), allow_hyphen_values = true)]
    sort: Option<RecordSort>,
    /// The page, from 1
    #[arg(long, value_name = "N", value_parser = page())]
    page: Option<u64>,
    /// The number of records on a page: 1 to 100
    #[arg(long, value_name = "N", value_parser = per_page())]
    per_page: Option<u32>,
    #[command(flatten)]
    filter: FilterArguments,
}

impl Records {
    /// Returns the form in which the user chose the page.
    pub(crate) fn form(&self) -> PageForm {
        if self.query.is_some() { PageForm::Query } else { PageForm::Options }
    }

    pub(crate) fn query(&self) -> RecordQuery {
        if let Some(query) = &self.query {
            return query.clone();
        }
        let mut query = RecordQuery::new().filter(self.filter.filter()).sort(self.sort.unwrap_or_default());
        if let Some(page) = self.page {
            query = query.page(page);
        }
        if let Some(per_page) = self.per_page {
            query = query.per_page(per_page);
        }
        query
    }
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The ids of the records
    #[arg(value_name = "ID", conflicts_with = "where", conflicts_with_all = filter::OPTIONS)]
    ids: Vec<RecordId>,
    /// A filter, written as in the HTTP API's query string
    #[arg(id = "where", long, value_name = "QUERY", value_parser = filter_of_query, conflicts_with_all = filter::OPTIONS)]
    query: Option<RecordFilter>,
    #[command(flatten)]
    filter: FilterArguments,
}

/// The records to delete.
pub(crate) enum Selection<'a> {
    Ids(&'a [RecordId]),
    Filter(RecordFilter),
}

impl Delete {
    pub(super) fn names_records(&self) -> bool {
        match self.selection() {
            Selection::Ids(ids) => !ids.is_empty(),
            Selection::Filter(filter) => filter != RecordFilter::new(),
        }
    }

    pub(crate) fn selection(&self) -> Selection<'_> {
        match &self.query {
            _ if !self.ids.is_empty() => Selection::Ids(&self.ids),
            Some(filter) => Selection::Filter(filter.clone()),
            None => Selection::Filter(self.filter.filter()),
        }
    }
}
