//! Checking values of standard input, without tracking any.

use std::io;

use datapool_store::{Key, Record};
use serde::Serialize;

use crate::failure::Failure;
use crate::format::Format;
use crate::lines::{self, Line};
use crate::open::{self, StoreFile};
use crate::output;

/// The answer about one value.
#[derive(Serialize)]
struct Answer<'a> {
    value: &'a str,
    present: bool,
    first: Option<&'a Record>,
}

pub(crate) fn run(file: &StoreFile, pool: &str, entity_type: u32, format: Format) -> Result<(), Failure> {
    // Read before opening: others can use the store while this waits for input.
    let lines = lines::read_values(io::stdin().lock())?;
    let values: Vec<&str> = lines.iter().map(Line::text).collect();
    let keys: Vec<Key<'_>> = values.iter().map(|value| Key::new(entity_type, *value)).collect();
    match format {
        Format::Json => {
            let records = open::to_read(file, |store| Ok(open::pool(store, file, pool)?.lookup(&keys)?))?;
            output::json_lines(values.iter().zip(&records).map(|(value, record)| Answer {
                value,
                present: record.is_some(),
                first: record.as_ref(),
            }))
        }
        Format::Human => {
            let present =
                open::to_read(file, |store| Ok(open::pool(store, file, pool)?.contains_many(&keys)?))?;
            output::values(values.iter().zip(present).map(|(value, present)| {
                let answer = if present { "present" } else { "absent" };
                format!("{answer}\t{value}")
            }))
        }
    }
}
