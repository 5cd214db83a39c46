//! Pools: creating, listing, showing, changing and deleting them.

use std::path::Path;
use std::time::Duration;

use datapool_store::{DataPool, DataPoolStore, NewPool, PoolQuery, PoolUpdate, RecordFilter};

use crate::args::PoolCommand;
use crate::consent::{self, Consent};
use crate::failure::Failure;
use crate::format::Format;
use crate::open::{self, StoreFile};
use crate::output::{self, Column, Deleted, Grid, or_dash};
use crate::settings::{self, Setting};

pub(crate) fn run(file: &StoreFile, command: &PoolCommand, format: Format) -> Result<(), Failure> {
    match command {
        PoolCommand::Create { name, description, retention, capacity } => {
            print(&create(file, new_pool(name, description.as_deref(), *retention, *capacity))?, format)
        }
        PoolCommand::List { query } => list(file, query.as_ref(), format),
        PoolCommand::Show { pool } => {
            let row = open::to_read(file, |store| Ok(open::pool(store, file, pool)?.info()?))?;
            print(&row, format)
        }
        PoolCommand::Update { pool, name, description, retention, capacity } => {
            let update = update_of(name.as_deref(), description.as_deref(), *retention, *capacity);
            let (row, expired) = open::to_write(file, |store| {
                let pool = open::pool(store, file, pool)?;
                let before = pool.count(&RecordFilter::new())?;
                let row = store.update_pool(pool.id(), update)?;
                Ok((row, before.saturating_sub(pool.count(&RecordFilter::new())?)))
            })?;
            print(&row, format)?;
            match format {
                Format::Human if expired > 0 => {
                    output::lines([format!("{} expired", output::number_of(expired, "record"))])
                }
                Format::Human | Format::Json => Ok(()),
            }
        }
        PoolCommand::Delete { pool, consent } => delete(file, pool, *consent, format),
    }
}

fn new_pool(
    name: &str,
    description: Option<&str>,
    retention: Option<Duration>,
    capacity: Option<u64>,
) -> NewPool {
    let mut new = NewPool::new(name);
    if let Some(description) = description {
        new = new.description(description);
    }
    if let Some(retention) = retention {
        new = new.retention(retention);
    }
    if let Some(capacity) = capacity {
        new = new.capacity(capacity);
    }
    new
}

fn create(file: &StoreFile, new: NewPool) -> Result<DataPool, Failure> {
    if !file.path().is_some_and(Path::exists) {
        // A pool that cannot be created must not leave an empty store.
        DataPoolStore::in_memory()?.create_pool(new.clone())?;
    }
    open::to_create(file, |store| Ok(store.create_pool(new)?.info()?))
}

fn update_of(
    name: Option<&str>,
    description: Option<&str>,
    retention: Option<Setting<Duration>>,
    capacity: Option<Setting<u64>>,
) -> PoolUpdate {
    let mut update = PoolUpdate::new();
    if let Some(name) = name {
        update = update.name(name);
    }
    update = match description {
        None => update,
        Some("") => update.clear_description(),
        Some(description) => update.description(description),
    };
    update = match retention {
        None => update,
        Some(Setting::Clear) => update.clear_retention(),
        Some(Setting::To(retention)) => update.retention(retention),
    };
    match capacity {
        None => update,
        Some(Setting::Clear) => update.clear_capacity(),
        Some(Setting::To(capacity)) => update.capacity(capacity),
    }
}

fn list(file: &StoreFile, query: Option<&PoolQuery>, format: Format) -> Result<(), Failure> {
    let query = query.cloned().unwrap_or_default();
    let page = open::to_read(file, |store| Ok(store.pools(&query)?))?;
    if format == Format::Json {
        return output::json(&page);
    }
    let mut grid = Grid::new([
        Column::Number("id"),
        Column::Text("name"),
        Column::Number("retention"),
        Column::Number("capacity"),
        Column::Text("created (UTC)"),
        Column::Text("description"),
    ]);
    for pool in &page.data {
        grid.row([
            pool.id.to_string(),
            pool.name.clone(),
            or_dash(pool.retention.map(settings::shown)),
            or_dash(pool.capacity.map(output::count)),
            output::time(pool.created_at),
            pool.description.clone().unwrap_or_default(),
        ]);
    }
    output::lines([grid.to_string(), output::footer("data pool", &page.meta, &page.links)])
}

fn print(pool: &DataPool, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(pool);
    }
    output::lines([Grid::of_properties([
        ("id", pool.id.to_string()),
        ("name", pool.name.clone()),
        ("description", or_dash(pool.description.as_ref())),
        ("retention", or_dash(pool.retention.map(settings::shown))),
        ("capacity", or_dash(pool.capacity.map(output::count))),
        ("created (UTC)", output::time(pool.created_at)),
        ("updated (UTC)", output::time(pool.updated_at)),
    ])])
}

fn delete(file: &StoreFile, pool: &str, consent: Consent, format: Format) -> Result<(), Failure> {
    consent::ask(consent, file, pool, "delete")?;
    let row = open::to_write(file, |store| {
        let row = open::pool(store, file, pool)?.info()?;
        store.delete_pool(row.id)?;
        Ok(row)
    })?;
    match format {
        Format::Json => output::json(&Deleted { deleted: row.id.get() }),
        Format::Human => output::lines([format!("deleted data pool {}, {:?}", row.id, row.name)]),
    }
}
