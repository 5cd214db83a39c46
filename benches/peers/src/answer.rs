//! The answers of all engines in a common form: pages of records with their includes.
//!
//! Owns: [`Page`] and its parts. SQLite's answers are read into it, as a program would read them. The store's
//! own pages are converted only for comparison, which is not timed.

use datapool_store::{DataPool, Record, Registered};

use crate::data::Named;
use crate::query::Include;

/// A page, and the total number of matching records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    pub(crate) total: u64,
}

/// A record. Times are microseconds since 1970.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) pool: i64,
    pub(crate) entity_type: u32,
    pub(crate) value: String,
    pub(crate) flow: Option<String>,
    pub(crate) run: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) created_at: i64,
    /// `None` unless it was requested.
    pub(crate) included: Option<Box<Included>>,
}

/// The entries of the includes; `None` where nothing is registered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Included {
    pub(crate) pool: Option<PoolRow>,
    pub(crate) entity_type: Option<Named<u32>>,
    pub(crate) flow: Option<Named<String>>,
    pub(crate) run: Option<Named<String>>,
    pub(crate) step: Option<Named<String>>,
}

/// A pool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PoolRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

impl Row {
    /// Returns true if everything requested is there. Every name of the data set is registered.
    pub(crate) fn is_complete(&self, include: Include) -> bool {
        match (include, &self.included) {
            (Include::Nothing, included) => included.is_none(),
            (Include::All, None) => false,
            (Include::All, Some(included)) => {
                let Included { pool, entity_type, flow, run, step } = &**included;
                pool.is_some() && entity_type.is_some() && flow.is_some() && run.is_some() && step.is_some()
            }
        }
    }
}

impl From<&datapool_store::Page<Record>> for Page {
    fn from(page: &datapool_store::Page<Record>) -> Self {
        Self { rows: page.data.iter().map(Row::from).collect(), total: page.meta.total }
    }
}

impl From<&Record> for Row {
    fn from(record: &Record) -> Self {
        let has_included = record.included != datapool_store::Included::default();
        Self {
            id: record.id.get().cast_signed(),
            pool: record.data_pool_id.get().cast_signed(),
            entity_type: record.entity_type_id.get(),
            value: record.value.clone(),
            flow: record.flow_id.as_ref().map(ToString::to_string),
            run: record.flow_run_id.as_ref().map(ToString::to_string),
            step: record.step_id.as_ref().map(ToString::to_string),
            created_at: record.created_at.as_micros(),
            included: has_included.then(|| Box::new(Included::from(&record.included))),
        }
    }
}

impl From<&datapool_store::Included> for Included {
    fn from(included: &datapool_store::Included) -> Self {
        Self {
            pool: included.data_pool().map(PoolRow::from),
            entity_type: included.entity_type().map(|own| named(own, own.id.get())),
            flow: included.flow().map(|own| named(own, own.id.to_string())),
            run: included.flow_run().map(|own| named(own, own.id.to_string())),
            step: included.flow_step().map(|own| named(own, own.id.to_string())),
        }
    }
}

impl From<&DataPool> for PoolRow {
    fn from(pool: &DataPool) -> Self {
        Self {
            id: pool.id.get().cast_signed(),
            name: pool.name.clone(),
            description: pool.description.clone(),
            created_at: pool.created_at.as_micros(),
            updated_at: pool.updated_at.as_micros(),
        }
    }
}

fn named<Own, Id>(own: &Registered<Own>, id: Id) -> Named<Id> {
    Named { id, name: own.name.clone(), attributes: own.attributes.to_string() }
}
