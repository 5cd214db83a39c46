//! Pools: creating, listing, showing, changing and deleting them.

use std::time::Duration;

use datapool_store::{DataPool, NewPool, Pool, PoolQuery, PoolUpdate, RecordFilter, Timestamp};

use crate::args::PoolCommand;
use crate::consent::{self, Consent};
use crate::failure::Failure;
use crate::format::Format;
use crate::grid::{Column, Grid};
use crate::open::{self, StoreFile};
use crate::output::{self, Deleted, PageForm, or_dash};
use crate::settings::{self, Setting};

pub(crate) fn run(file: &StoreFile, command: &PoolCommand, format: Format) -> Result<(), Failure> {
    match command {
        PoolCommand::Create { name, description, retention, capacity } => {
            print(&create(file, new_pool(name, description.as_deref(), *retention, *capacity))?, format)
        }
        PoolCommand::List { query: Some(query), .. } => list(file, query, PageForm::Query, format),
        PoolCommand::List { query: None, page, per_page } => {
            list(file, &page_of(*page, *per_page), PageForm::Options, format)
        }
        PoolCommand::Show { pool } => {
            let row = open::to_read(file, |store| Ok(open::pool(store, file, pool)?.info()?))?;
            print(&row, format)
        }
        PoolCommand::Update { pool, name, description, retention, capacity, consent } => {
            let update = update_of(name.as_deref(), description.as_deref(), *retention, *capacity);
            ask_to_expire(*consent, file, pool, *retention, *capacity)?;
            change(file, pool, update, format)
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

fn page_of(page: Option<u64>, per_page: Option<u32>) -> PoolQuery {
    let mut query = PoolQuery::new();
    if let Some(page) = page {
        query = query.page(page);
    }
    if let Some(per_page) = per_page {
        query = query.per_page(per_page);
    }
    query
}

/// Asks before a shorter retention or a smaller capacity expires records, which no later one brings back.
fn ask_to_expire(
    consent: Consent,
    file: &StoreFile,
    pool: &str,
    retention: Option<Setting<Duration>>,
    capacity: Option<Setting<u64>>,
) -> Result<(), Failure> {
    let (retention, capacity) = (retention.and_then(Setting::value), capacity.and_then(Setting::value));
    if consent.is_given() || (retention.is_none() && capacity.is_none()) {
        return Ok(());
    }
    let (row, records) = open::to_read(file, |store| {
        let pool = open::pool(store, file, pool)?;
        Ok((pool.info()?, records_to_expire(&pool, retention, capacity)?))
    })?;
    if records == 0 {
        return Ok(());
    }
    let records = output::number_of(records, "record");
    consent::confirm(&format!("expire {records} of data pool {}, {:?}", row.id, row.name))
}

/// Returns the number of live records that would expire under this retention and capacity.
fn records_to_expire(
    pool: &Pool,
    retention: Option<Duration>,
    capacity: Option<u64>,
) -> Result<u64, Failure> {
    let stats = pool.stats()?;
    let over = capacity.map_or(0, |capacity| stats.live.saturating_sub(capacity));
    let Some(retention) = retention else { return Ok(over) };
    // The pool's time: its newest record may be ahead of the clock.
    let now = stats.newest.map_or(Timestamp::now(), |newest| newest.max(Timestamp::now()));
    let horizon = now.saturating_sub(retention).saturating_add(Duration::from_micros(1));
    let old = pool.count(&RecordFilter::new().created_before(horizon))?;
    // Both take the oldest records first, so the larger number includes the smaller one.
    Ok(old.max(over))
}

fn change(file: &StoreFile, pool: &str, update: PoolUpdate, format: Format) -> Result<(), Failure> {
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

fn list(file: &StoreFile, query: &PoolQuery, form: PageForm, format: Format) -> Result<(), Failure> {
    let page = open::to_read(file, |store| Ok(store.pools(query)?))?;
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
    output::lines([grid.to_string(), output::footer("data pool", &page.meta, &page.links, form)])
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
