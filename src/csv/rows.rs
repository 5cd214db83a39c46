//! Rows: the contents of a file's records, checked one at a time.
//!
//! Owns: [`RowReader`]. Always holds: the good and bad rows that it returns, and the blank ones that it
//! counts, are all records of the file after the header; the times of good rows ascend.

use std::collections::HashSet;
use std::fmt::{Display, Write};
use std::io::Read;
use std::sync::Arc;

use super::bad_row::BadRow;
use super::foreign;
use super::options::{EntityTypeFrom, ImportOptions};
use super::records::{End, Records};
use crate::backend::import::ImportRow;
use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId};
use crate::model::{Origin, check_value};
use crate::time::Timestamp;

/// The column of each part of a row. Fields count from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    /// The number of fields that a row has.
    count: usize,
    value: usize,
    entity_type: EntityTypeAt,
    /// The columns of the flow, run and step ids.
    origin: [Option<usize>; 3],
    created_at: Option<usize>,
    version: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum EntityTypeAt {
    Field(usize),
    /// The entity type of all rows.
    Given(EntityTypeId),
}

/// Reads a CSV file row by row.
pub(super) struct RowReader<R> {
    records: Records<R>,
    columns: Columns,
    /// The origin of all rows, unless a column overrides it.
    origin: Origin,
    origins: Origins,
    times: Times,
    blank_rows: u64,
}

impl<R: Read> RowReader<R> {
    /// Creates a reader and reads the header. No row may have a later time than `now`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for bad options; `Csv` if the file is empty, is not CSV, or its header lacks a
    /// column or has one twice; `Io`.
    pub(super) fn new(inner: R, options: &ImportOptions, now: Timestamp) -> Result<Self> {
        let delimiter = options.delimiter_byte()?;
        let mut records = Records::new(inner, delimiter);
        if let Some(reason) = foreign::of_signature(records.signature()?) {
            return Err(BadRow::new(1, None, reason).into_error());
        }
        records.skip_byte_order_mark();
        let blank_rows = read_header(&mut records, options, delimiter)?;
        let columns = find_columns(&records, options, delimiter).map_err(BadRow::into_error)?;
        Ok(Self { blank_rows, ..Self::of_records(records, options, columns, now) })
    }

    /// Creates a reader for a part of a file that does not begin with the header. Lines count from the part's
    /// first line.
    pub(super) fn of_part(inner: R, options: &ImportOptions, columns: Columns) -> Result<Self> {
        let records = Records::new(inner, options.delimiter_byte()?);
        Ok(Self::of_records(records, options, columns, Timestamp::from_micros(i64::MAX)))
    }

    fn of_records(records: Records<R>, options: &ImportOptions, columns: Columns, now: Timestamp) -> Self {
        let (origin, origins) = (options.origin.clone(), Origins::default());
        Self { records, columns, origin, origins, times: Times { last: None, now }, blank_rows: 0 }
    }

    pub(super) fn columns(&self) -> Columns {
        self.columns
    }

    /// Returns the number of bytes of the file that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.records.bytes()
    }

    /// Returns the number of blank rows that were skipped so far.
    pub(super) fn blank_rows(&self) -> u64 {
        self.blank_rows
    }

    /// Reads the next row. Returns the row, or the reason why it is bad; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// `Csv` for an error after which no row can be read: an over-long record, an open quote; `Io`.
    pub(super) fn next_row(&mut self) -> Result<Option<std::result::Result<ImportRow<'_>, BadRow>>> {
        loop {
            match self.records.next()? {
                None => return Ok(None),
                Some(End::BadQuote { field, byte }) => {
                    return Ok(Some(Err(bad_quote(&self.records, field, byte))));
                }
                Some(End::Whole) if self.records.is_blank() => self.blank_rows += 1,
                Some(End::Whole) => break,
            }
        }
        Ok(Some(self.row()))
    }

    fn row(&mut self) -> std::result::Result<ImportRow<'_>, BadRow> {
        let Self { records, columns, .. } = self;
        let line = records.first_line();
        if records.field_count() != columns.count {
            let reason =
                format!("the row has {} fields; the header has {}", records.field_count(), columns.count);
            return Err(BadRow::new(line, None, reason));
        }
        let bad = |field: usize, reason: &dyn Display| BadRow::new(line, Some(field), reason.to_string());
        let text = |field: usize| {
            let bytes = records.field(field);
            std::str::from_utf8(bytes).map_err(|error| bad(field, &not_utf8(bytes, error)))
        };
        let value = text(columns.value)?;
        check_value(value).map_err(|error| bad(columns.value, &error))?;
        let entity_type = match columns.entity_type {
            EntityTypeAt::Given(entity_type) => entity_type,
            EntityTypeAt::Field(field) => {
                parse_entity_type(text(field)?).map_err(|reason| bad(field, &reason))?
            }
        };
        let mut parts = parts_of(&self.origin);
        for (part, field) in parts.iter_mut().zip(columns.origin) {
            if let Some(field) = field {
                *part = Some(text(field)?).filter(|id| !id.is_empty());
            }
        }
        let origin = self.origins.get(parts).map_err(|BadPart { part, error }| {
            BadRow::new(line, columns.origin.get(part).copied().flatten(), error.to_string())
        })?;
        let version = match columns.version {
            None => None,
            Some(field) => match text(field)? {
                "" => None,
                version => Some(version.parse().map_err(|error: Error| bad(field, &error))?),
            },
        };
        // NOTE: the last check, because later rows are compared with the times of good rows alone.
        let created_at = match columns.created_at {
            None => None,
            Some(field) => Some(self.times.next(text(field)?).map_err(|reason| bad(field, &reason))?),
        };
        Ok(ImportRow { line, entity_type, value, origin, created_at, version })
    }
}

/// Reads up to and including the header, which is the first row that is not blank. Returns the number of
/// blank rows before it.
fn read_header(records: &mut Records<impl Read>, options: &ImportOptions, delimiter: u8) -> Result<u64> {
    let mut blank_rows = 0;
    loop {
        match records.next()? {
            None => {
                let names = in_words(&options.required_columns());
                let reason = format!("the file is empty; its first line must name the columns {names}");
                return Err(BadRow::new(1, None, reason).into_error());
            }
            Some(End::BadQuote { field, byte }) => {
                // A header of quoted names fails like this if its delimiter is another one.
                let foreign = foreign::of_header(records.record(), delimiter, &options.value_column);
                let bad = match foreign {
                    Some(reason) => BadRow::new(records.first_line(), None, reason),
                    None => bad_quote(records, field, byte),
                };
                return Err(bad.into_error());
            }
            Some(End::Whole) if records.is_blank() => blank_rows += 1,
            Some(End::Whole) => return Ok(blank_rows),
        }
    }
}

fn find_columns<R>(
    header: &Records<R>,
    options: &ImportOptions,
    delimiter: u8,
) -> std::result::Result<Columns, BadRow> {
    for field in 0..header.field_count() {
        let bytes = header.field(field);
        if let Err(error) = std::str::from_utf8(bytes) {
            return Err(BadRow::new(header.first_line(), Some(field), not_utf8(bytes, error)));
        }
        if bytes.contains(&b'\r') {
            return Err(BadRow::new(header.first_line(), Some(field), foreign::CR_LINE_ENDS));
        }
    }
    let find = |name: &str| find_column(header, name, options, delimiter);
    let value = find(&options.value_column)?;
    let entity_type = match &options.entity_type {
        EntityTypeFrom::Column(name) => EntityTypeAt::Field(find(name)?),
        EntityTypeFrom::Given(entity_type) => EntityTypeAt::Given(*entity_type),
    };
    let mut origin = [None; 3];
    for (place, name) in origin.iter_mut().zip(&options.origin_columns) {
        *place = name.as_deref().map(find).transpose()?;
    }
    let created_at = options.created_at_column.as_deref().map(find).transpose()?;
    let version = options.version_column.as_deref().map(find).transpose()?;
    Ok(Columns { count: header.field_count(), value, entity_type, origin, created_at, version })
}

fn find_column<R>(
    header: &Records<R>,
    name: &str,
    options: &ImportOptions,
    delimiter: u8,
) -> std::result::Result<usize, BadRow> {
    let line = header.first_line();
    let mut matching = (0..header.field_count()).filter(|field| header.field(*field) == name.as_bytes());
    let Some(index) = matching.next() else {
        if let Some(reason) = foreign::of_header(header.record(), delimiter, name) {
            return Err(BadRow::new(line, None, reason));
        }
        let fields: Vec<_> = (0..header.field_count().min(20))
            .map(|field| String::from_utf8_lossy(header.field(field)))
            .collect();
        let shown: String = fields.join(&char::from(delimiter).to_string()).chars().take(200).collect();
        let names = in_words(&options.required_columns());
        let reason = format!(
            "the header has no column {name:?}; required are {names}, spelled exactly so (the header begins: {shown:?})"
        );
        return Err(BadRow::new(line, None, reason));
    };
    match matching.next() {
        None => Ok(index),
        Some(again) => {
            let reason = format!("the header has the column {name:?} twice; once is allowed");
            Err(BadRow::new(line, Some(again), reason))
        }
    }
}

/// Joins names: `a`, `a and b`, `a, b and c`.
fn in_words(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> String {
    let (at, hint) = (error.valid_up_to(), foreign::of_bytes(bytes));
    format!("the field is not UTF-8: {at} bytes in, there is a bad one{hint}")
}

fn bad_quote<R>(records: &Records<R>, field: usize, byte: u8) -> BadRow {
    let (first, last) = (records.first_line(), records.last_line());
    let shown = if byte.is_ascii_graphic() || byte == b' ' {
        format!("{:?}", char::from(byte))
    } else {
        format!("the byte 0x{byte:02x}")
    };
    let mut reason = format!(
        "on line {last}, {shown} follows a closing quote; allowed are a delimiter and a line end, and a quote within a quoted \
         field is doubled"
    );
    if first < last {
        let _ = write!(reason, " (the row reaches from line {first} to line {last})");
    }
    BadRow::new(first, Some(field), reason)
}

fn parse_entity_type(text: &str) -> std::result::Result<EntityTypeId, String> {
    let allowed = "allowed are the numbers 0 to 4294967295, in digits";
    if text.is_empty() {
        return Err(format!("the entity type is missing; {allowed}"));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(EntityTypeId::new(number)),
        _ => {
            let shown: String = text.chars().take(40).collect();
            Err(format!("the entity type is {shown:?}; {allowed}"))
        }
    }
}

/// Checks that the times of rows ascend and are not later than now.
#[derive(Debug)]
struct Times {
    /// The time of the last good row.
    last: Option<Timestamp>,
    now: Timestamp,
}

impl Times {
    fn next(&mut self, text: &str) -> std::result::Result<Timestamp, String> {
        if text.is_empty() {
            return Err("the time is missing; allowed is RFC 3339 (2013-01-31T10:00:00Z)".to_owned());
        }
        let time: Timestamp = text.parse().map_err(|error: Error| error.to_string())?;
        if time > self.now {
            return Err(format!("the time {time} is later than now, {}", self.now));
        }
        if let Some(last) = self.last.filter(|last| time < *last) {
            return Err(format!("the time {time} is earlier than {last}, that of a row before it"));
        }
        self.last = Some(time);
        Ok(time)
    }
}

/// The origins of rows, each created once. Most rows have the same origin as the row before, and equal
/// origins share one allocation.
#[derive(Debug, Default)]
pub(super) struct Origins {
    last: Option<Arc<Origin>>,
    known: HashSet<Arc<Origin>>,
}

/// The number of origins that are cached. An evicted one is created again.
const KNOWN_ORIGINS_MAX: usize = 1_024;

/// A part of an origin that cannot be stored.
#[derive(Debug)]
pub(super) struct BadPart {
    /// 0 is the flow, 1 the run, 2 the step.
    part: usize,
    pub(super) error: Error,
}

impl Origins {
    /// Returns the origin with this flow, run and step, or `None` if all three are absent.
    pub(super) fn get(
        &mut self,
        parts: [Option<&str>; 3],
    ) -> std::result::Result<Option<&Arc<Origin>>, BadPart> {
        // Most files have no origins.
        if matches!(parts, [None, None, None]) {
            return Ok(None);
        }
        if self.last.as_deref().map_or([None; 3], parts_of) != parts {
            self.last = Some(self.find(parts)?);
        }
        Ok(self.last.as_ref())
    }

    fn find(&mut self, parts: [Option<&str>; 3]) -> std::result::Result<Arc<Origin>, BadPart> {
        let [flow, run, step] = parts;
        let origin = Origin {
            flow: flow.map(FlowId::from),
            run: run.map(FlowRunId::from),
            step: step.map(FlowStepId::from),
        };
        if let Some(known) = self.known.get(&origin) {
            return Ok(Arc::clone(known));
        }
        let bad = |part| move |error| BadPart { part, error };
        origin.flow.as_ref().map_or(Ok(()), FlowId::check).map_err(bad(0))?;
        origin.run.as_ref().map_or(Ok(()), FlowRunId::check).map_err(bad(1))?;
        origin.step.as_ref().map_or(Ok(()), FlowStepId::check).map_err(bad(2))?;
        if self.known.len() >= KNOWN_ORIGINS_MAX {
            self.known.clear();
        }
        let origin = Arc::new(origin);
        self.known.insert(Arc::clone(&origin));
        Ok(origin)
    }
}

/// Returns the flow, run and step of an origin.
pub(super) fn parts_of(origin: &Origin) -> [Option<&str>; 3] {
    let Origin { flow, run, step } = origin;
    [
        flow.as_ref().map(FlowId::as_str),
        run.as_ref().map(FlowRunId::as_str),
        step.as_ref().map(FlowStepId::as_str),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::limits;
    use std::io;

    fn reader<R: Read>(inner: R) -> Result<RowReader<R>> {
        RowReader::new(inner, &ImportOptions::new(), Timestamp::from_micros(0))
    }

    fn lines_and_values(file: &str) -> Vec<(u64, String)> {
        let mut rows = reader(file.as_bytes()).unwrap();
        let mut found = Vec::new();
        while let Some(row) = rows.next_row().unwrap() {
            match row {
                Ok(row) => found.push((row.line, row.value.to_owned())),
                Err(bad) => found.push((bad.line, format!("bad: {}", bad.reason))),
            }
        }
        found
    }

    #[test]
    fn lines_are_counted_over_blank_lines_quoted_breaks_and_missing_final_breaks() {
        let file = "value,entity_type_id\na,1\n\n\"b\nb\",1\r\n\r\nc,1\n\"d\n\",1";
        let expected = [(2, "a"), (4, "b\nb"), (7, "c"), (8, "d\n")];
        let found = lines_and_values(file);
        assert_eq!(found, expected.map(|(line, value)| (line, value.to_owned())));
        assert_eq!(lines_and_values(&format!("{file}\n\n")), found);
        assert_eq!(lines_and_values(&format!("\u{feff}{file}")), found);
    }

    #[test]
    fn nothing_follows_the_end() {
        let mut rows = reader("value,entity_type_id\na,1\n".as_bytes()).unwrap();
        assert!(rows.next_row().unwrap().is_some());
        assert!(rows.next_row().unwrap().is_none());
        assert!(rows.next_row().unwrap().is_none());
    }

    #[test]
    fn a_quote_that_is_open_at_the_end_is_an_error_on_its_records_first_line() {
        let mut rows = reader("value,entity_type_id\na,1\n\"b,1\nc,1\n".as_bytes()).unwrap();
        assert!(rows.next_row().unwrap().unwrap().is_ok());
        let error = rows.next_row().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Csv { line: 3, column: None });
    }

    #[test]
    fn an_over_long_record_is_an_error_without_reading_on() {
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b'x');
                Ok(buffer.len())
            }
        }
        let head = "value,entity_type_id\na,1\n\"";
        let mut rows = reader(head.as_bytes().chain(Endless)).unwrap();
        assert!(rows.next_row().unwrap().unwrap().is_ok());
        let error = rows.next_row().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Csv { line: 3, column: None });
        assert!(rows.bytes() < 2 * limits::CSV_RECORD_MAX_BYTES);
    }
}
