//! Recognizing a copy that was finished before.
//!
//! A finished copy has removed its notes, so the two stores are compared.

use datapool_store::{DataPool, Pool, RecordFilter};

use super::notes::Note;
use super::side::{Side, is_copy};
use crate::failure::Failure;

/// Returns true if the destination has every pool of the source with the same fields and records, and no notes about
/// them.
pub(super) fn is_finished(from: &Side<'_>, to: &Side<'_>, rows: &[DataPool]) -> Result<bool, Failure> {
    let mut copies = Vec::new();
    // All names first, because reading records is expensive.
    for row in rows {
        match to.find(&row.name)? {
            Some(copy) if Note::read(to, row)?.is_none() => copies.push((row, copy)),
            _ => return Ok(false),
        }
    }
    for (row, copy) in copies {
        if !has_same_fields(to, row, &copy)? || !has_same_records(from, to, row, &copy)? {
            return Ok(false);
        }
    }
    Ok(!rows.is_empty())
}

fn has_same_fields(to: &Side<'_>, row: &DataPool, copy: &Pool) -> Result<bool, Failure> {
    let copy = copy.info().map_err(|error| to.failed(error))?;
    let fields = |row: &DataPool| (row.description.clone(), row.retention, row.capacity);
    Ok(fields(&copy) == fields(row))
}

fn has_same_records(from: &Side<'_>, to: &Side<'_>, row: &DataPool, copy: &Pool) -> Result<bool, Failure> {
    let all = RecordFilter::new();
    let pool = from.pool(row)?;
    let counts = (
        pool.count(&all).map_err(|error| from.failed(error))?,
        copy.count(&all).map_err(|error| to.failed(error))?,
    );
    if counts.0 != counts.1 {
        return Ok(false);
    }
    let mut copied = copy.scan(&all).map_err(|error| to.failed(error))?;
    for record in pool.scan(&all).map_err(|error| from.failed(error))? {
        let record = record.map_err(|error| from.failed(error))?;
        let same = copied.next().transpose().map_err(|error| to.failed(error))?;
        if !same.is_some_and(|same| is_copy(&same, &record)) {
            return Ok(false);
        }
    }
    Ok(copied.next().is_none())
}
