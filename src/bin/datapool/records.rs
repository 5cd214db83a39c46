//! Records: listing and deleting them.

use datapool_store::{Record, Registered};

use crate::args::{Records, Selection};
use crate::consent::{self, Consent};
use crate::failure::Failure;
use crate::format::Format;
use crate::grid::{Column, Grid};
use crate::open::{self, StoreFile};
use crate::output::{self, Deleted, or_dash};

pub(crate) fn list(file: &StoreFile, arguments: &Records, format: Format) -> Result<(), Failure> {
    let (pool, query) = (&arguments.pool, arguments.query());
    let page = open::to_read(file, |store| Ok(open::pool(store, file, pool)?.records(&query)?))?;
    if format == Format::Json {
        return output::json(&page);
    }
    let mut grid = Grid::new([
        Column::Number("id"),
        Column::Text("entity type"),
        Column::Text("value"),
        Column::Text("flow"),
        Column::Text("run"),
        Column::Text("step"),
        Column::Text("created (UTC)"),
    ]);
    for record in &page.data {
        grid.row(cells(record));
    }
    output::lines([grid.to_string(), output::footer("record", &page.meta, &page.links, arguments.form())])
}

/// Returns the cells of a record, with the names of the entries that the query included.
fn cells(record: &Record) -> [String; 7] {
    let included = &record.included;
    [
        record.id.to_string(),
        named(record.entity_type_id.to_string(), included.entity_type()),
        record.value.clone(),
        named(or_dash(record.flow_id.as_ref()), included.flow()),
        named(or_dash(record.flow_run_id.as_ref()), included.flow_run()),
        named(or_dash(record.step_id.as_ref()), included.flow_step()),
        output::time(record.created_at),
    ]
}

fn named<Id>(id: String, registered: Option<&Registered<Id>>) -> String {
    output::named(id, registered.map(|registered| registered.name.as_str()))
}

pub(crate) fn clear(file: &StoreFile, pool: &str, consent: Consent, format: Format) -> Result<(), Failure> {
    consent::ask(consent, file, pool, "empty")?;
    let deleted = open::to_write(file, |store| Ok(open::pool(store, file, pool)?.clear()?))?;
    print_deleted(deleted, format)
}

pub(crate) fn delete(
    file: &StoreFile,
    pool: &str,
    selection: &Selection<'_>,
    format: Format,
) -> Result<(), Failure> {
    let deleted = open::to_write(file, |store| {
        let pool = open::pool(store, file, pool)?;
        Ok(match selection {
            Selection::Ids(ids) => pool.delete_records(*ids)?,
            Selection::Filter(filter) => pool.delete_where(filter)?,
        })
    })?;
    print_deleted(deleted, format)
}

fn print_deleted(deleted: u64, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(&Deleted { deleted }),
        Format::Human => output::lines([format!("deleted {}", output::number_of(deleted, "record"))]),
    }
}
