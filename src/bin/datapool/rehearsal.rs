//! Checking arguments by trying them on an empty store in memory.
//!
//! Always holds: no store would accept what is refused here, so it is wrong usage. It is found before the user's store is
//! opened, and the limits stay in the library.

use std::time::Duration;

use datapool_store::{
    ClaimOptions, DataPoolStore, Error, ErrorKind, FlowId, FlowRunId, FlowStepId, ImportOptions, Key,
    NewPool, Origin, Pool, RecordFilter,
};

use crate::settings::{self, Setting};

/// Returns an empty pool in memory.
fn pool() -> Result<Pool, Error> {
    DataPoolStore::in_memory()?.create_pool("rehearsal")
}

fn pool_of(new: NewPool) -> Result<(), Error> {
    DataPoolStore::in_memory()?.create_pool(new).map(|_| ())
}

pub(crate) fn filter(filter: &RecordFilter) -> Result<(), Error> {
    if *filter == RecordFilter::new() {
        return Ok(());
    }
    pool()?.count(filter).map(|_| ())
}

/// Checks the value of an option by a filter that has it. Removes the parameter from the message, because clap names the
/// option.
fn term<T>(term: T, of: RecordFilter) -> Result<T, String> {
    filter(&of).map(|()| term).map_err(|error| {
        let text = error.to_string();
        match text.split_once("]: ") {
            Some((parameter, reason)) if parameter.starts_with("filter[") => reason.to_owned(),
            _ => text,
        }
    })
}

pub(crate) fn flow(text: &str) -> Result<FlowId, String> {
    term(FlowId::from(text), RecordFilter::new().flow_id(text))
}

pub(crate) fn run(text: &str) -> Result<FlowRunId, String> {
    term(FlowRunId::from(text), RecordFilter::new().flow_run_id(text))
}

pub(crate) fn step(text: &str) -> Result<FlowStepId, String> {
    term(FlowStepId::from(text), RecordFilter::new().step_id(text))
}

pub(crate) fn value(text: &str) -> Result<String, String> {
    term(text.to_owned(), RecordFilter::new().value(text))
}

pub(crate) fn owner(text: &str) -> Result<String, Error> {
    let none: [&str; 0] = [];
    let options = ClaimOptions::new().owner(text);
    let claim = pool()?.claim_with(&none, |value| Key::new(0, *value), &Origin::none(), &options);
    claim.map(|_| text.to_owned())
}

pub(crate) fn pool_name(text: &str) -> Result<String, Error> {
    pool_of(NewPool::new(text)).map(|()| text.to_owned())
}

pub(crate) fn description(text: &str) -> Result<String, Error> {
    pool_of(NewPool::new("rehearsal").description(text)).map(|()| text.to_owned())
}

pub(crate) fn retention(text: &str) -> Result<Duration, String> {
    let retention = settings::duration(text)?;
    let tried = pool_of(NewPool::new("rehearsal").retention(retention));
    tried.map(|()| retention).map_err(|error| error.to_string())
}

pub(crate) fn retention_or_none(text: &str) -> Result<Setting<Duration>, String> {
    match settings::duration_or_none(text)? {
        Setting::Clear => Ok(Setting::Clear),
        Setting::To(_) => retention(text).map(Setting::To),
    }
}

pub(crate) fn capacity(text: &str) -> Result<u64, String> {
    let capacity = settings::capacity(text)?;
    let tried = pool_of(NewPool::new("rehearsal").capacity(capacity));
    tried.map(|()| capacity).map_err(|error| error.to_string())
}

pub(crate) fn capacity_or_none(text: &str) -> Result<Setting<u64>, String> {
    match settings::capacity_or_none(text)? {
        Setting::Clear => Ok(Setting::Clear),
        Setting::To(_) => capacity(text).map(Setting::To),
    }
}

/// Checks the options of an import with an empty file. The error about its missing header does not count.
pub(crate) fn import(options: &ImportOptions) -> Result<(), Error> {
    match pool()?.import_csv(std::io::empty(), options) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::LimitExceeded) => {
            Err(error)
        }
        _ => Ok(()),
    }
}
