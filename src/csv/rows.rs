//! Rows: parsing and validating CSV records, one at a time, in bounded memory.
//!
//! Owns: [`RowReader`]. Always holds: a record over [`limits::CSV_RECORD_MAX_BYTES`] ends the reading, whether it
//! is one long row or a quote that nobody closed; so does a quote that is open at the end of the file.

use std::cell::Cell;
use std::io::{self, Read};

use csv::ByteRecord;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::EntityTypeId;
use crate::limits;
use crate::model::check_value;

/// A row that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BadRow {
    /// The line on which the row begins, from 1; the header is on line 1.
    pub line: u64,
    /// The field, from 1; none when the whole row is meant.
    pub column: Option<u64>,
    /// What is wrong with it, and what is allowed.
    pub reason: String,
}

impl BadRow {
    pub(super) fn into_error(self) -> Error {
        let Self { line, column, reason } = self;
        let place =
            column.map_or_else(|| format!("line {line}"), |column| format!("line {line}, column {column}"));
        Error::new(ErrorKind::Csv { line, column }, format!("{place}: {reason}"))
    }
}

/// A row that can be imported.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) line: u64,
    pub(super) entity_type: EntityTypeId,
    pub(super) value: &'a str,
}

/// Follows the file's last byte: a line break and one more record. When the file's end comes with another record, a
/// quote that is still open has swallowed it.
const END_MARK: &[u8] = b"\n\x01datapool end of file\x01\n";
const END_RECORD: &[u8] = b"\x01datapool end of file\x01";

/// How much the csv crate reads ahead.
const READ_AHEAD: usize = 64 << 10;

/// The marker of the error that [`Metered`] raises.
#[derive(Debug, thiserror::Error)]
#[error("the record is too long")]
struct RecordTooLong;

/// A reader that stops when one record takes too much, and ends with [`END_MARK`].
struct Metered<R> {
    inner: R,
    /// How many bytes the current record may still read.
    allowance: Cell<u64>,
    bytes: u64,
    /// What is left of the end mark, once the file's end was seen.
    mark: Option<&'static [u8]>,
    /// The bytes handed out last, and how many were handed out before them.
    chunk: Vec<u8>,
    chunk_start: u64,
}

impl<R> Metered<R> {
    fn new(inner: R) -> Self {
        Self { inner, allowance: Cell::new(0), bytes: 0, mark: None, chunk: Vec::new(), chunk_start: 0 }
    }

    /// How many bytes there are with the end mark, once the file's end was seen.
    fn total(&self) -> Option<u64> {
        self.mark.map(|_| self.bytes + END_MARK.len() as u64)
    }

    /// The byte at an offset, if it was handed out last.
    fn byte_at(&self, offset: u64) -> Option<u8> {
        let index = usize::try_from(offset.checked_sub(self.chunk_start)?).ok()?;
        self.chunk.get(index).copied()
    }

    fn handed_out(&mut self, bytes: &[u8]) {
        self.chunk_start += self.chunk.len() as u64;
        self.chunk.clear();
        self.chunk.extend_from_slice(bytes);
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(mark) = &mut self.mark {
            let count = mark.read(buffer)?;
            self.handed_out(buffer.get(..count).unwrap_or_default());
            return Ok(count);
        }
        let allowance = usize::try_from(self.allowance.get()).unwrap_or(usize::MAX);
        if allowance == 0 {
            return Err(io::Error::other(RecordTooLong));
        }
        let length = buffer.len().min(allowance);
        let Some(buffer) = buffer.get_mut(..length).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let count = loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.bytes += count as u64;
        self.allowance.set((allowance - count) as u64);
        if count == 0 {
            self.mark = Some(END_MARK);
            return self.read(buffer);
        }
        self.handed_out(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Columns {
    /// How many fields a row has.
    count: usize,
    /// Where these are, from 0.
    value: usize,
    entity_type: usize,
}

/// Reads a CSV file with `value` and `entity_type_id` columns, row by row.
pub(super) struct RowReader<R> {
    csv: csv::Reader<Metered<R>>,
    record: ByteRecord,
    columns: Columns,
}

impl<R: Read> RowReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// `Csv` if the file is empty or the header lacks a column or has it twice; `Io`.
    pub(super) fn new(inner: R) -> Result<Self> {
        let mut reader = Self::of_part(inner, Columns::default());
        let Some(line) = reader.read_record()? else {
            let reason = "the file is empty; its first line must name the columns value and entity_type_id";
            return Err(bad(1, None, reason).into_error());
        };
        reader.columns = Columns {
            count: reader.record.len(),
            value: reader.find_column(line, "value")?,
            entity_type: reader.find_column(line, "entity_type_id")?,
        };
        Ok(reader)
    }

    /// Reads a part of a file that does not begin with the header; lines count from the part's first.
    pub(super) fn of_part(inner: R, columns: Columns) -> Self {
        let csv = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(READ_AHEAD)
            .from_reader(Metered::new(inner));
        Self { csv, record: ByteRecord::new(), columns }
    }

    pub(super) fn columns(&self) -> Columns {
        self.columns
    }

    fn find_column(&self, line: u64, name: &str) -> Result<usize> {
        let mut matching = self.record.iter().enumerate().filter(|(_, field)| *field == name.as_bytes());
        let Some((index, _)) = matching.next() else {
            let fields: Vec<_> = self.record.iter().take(20).map(String::from_utf8_lossy).collect();
            let header: String = fields.join(",").chars().take(200).collect();
            let reason = format!(
                "the header has no column {name:?}; required are value and entity_type_id, spelled exactly so \
                 (the header begins: {header:?})"
            );
            return Err(bad(line, None, reason).into_error());
        };
        match matching.next() {
            None => Ok(index),
            Some((again, _)) => {
                let reason = format!("the header has the column {name:?} twice; once is allowed");
                Err(bad(line, Some(again), reason).into_error())
            }
        }
    }

    /// How many bytes of the file were read.
    pub(super) fn bytes(&self) -> u64 {
        self.csv.get_ref().bytes
    }

    /// The next row, or what is wrong with it; nothing at the end of the file.
    ///
    /// # Errors
    ///
    /// `Csv` for what no row can be skipped after: an over-long record, an open quote; `Io`.
    pub(super) fn next_row(&mut self) -> Result<Option<std::result::Result<Row<'_>, BadRow>>> {
        let Some(line) = self.read_record()? else { return Ok(None) };
        Ok(Some(self.row(line)))
    }

    fn row(&self, line: u64) -> std::result::Result<Row<'_>, BadRow> {
        if self.record.len() != self.columns.count {
            let reason =
                format!("the row has {} fields; the header has {}", self.record.len(), self.columns.count);
            return Err(bad(line, None, reason));
        }
        let value = self.text(line, self.columns.value)?;
        check_value(value).map_err(|error| bad(line, Some(self.columns.value), error.to_string()))?;
        let number = self.text(line, self.columns.entity_type)?;
        let entity_type =
            parse_entity_type(number).map_err(|reason| bad(line, Some(self.columns.entity_type), reason))?;
        Ok(Row { line, entity_type, value })
    }

    fn text(&self, line: u64, field: usize) -> std::result::Result<&str, BadRow> {
        let bytes = self.record.get(field).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|error| {
            let reason =
                format!("the field is not UTF-8: {} bytes in, there is a bad one", error.valid_up_to());
            bad(line, Some(field), reason)
        })
    }

    /// Reads a record; the line it begins on.
    fn read_record(&mut self) -> Result<Option<u64>> {
        self.csv.get_ref().allowance.set(limits::CSV_RECORD_MAX_BYTES + 2 * READ_AHEAD as u64);
        let start = self.csv.position().clone();
        let after_cr = self.csv.get_ref().byte_at(start.byte().wrapping_sub(1)) == Some(b'\r');
        match self.csv.read_byte_record(&mut self.record) {
            Ok(true) => {}
            // Behind the end mark.
            Ok(false) => return Ok(None),
            Err(error) => return Err(read_error(start.line() + u64::from(after_cr), error)),
        }
        let line = self.first_line();
        if self.csv.get_ref().total() == Some(self.csv.position().byte()) {
            let is_mark = self.record.len() == 1 && self.record.get(0) == Some(END_RECORD);
            return if is_mark { Ok(None) } else { Err(open_quote(line)) };
        }
        if self.csv.position().byte() - start.byte() > limits::CSV_RECORD_MAX_BYTES {
            return Err(too_long(line));
        }
        Ok(Some(line))
    }

    /// The line the record begins on: the one it ends on, less the line breaks in its fields.
    ///
    /// The csv crate's own count begins at the blank lines that it skips before a record.
    fn first_line(&self) -> u64 {
        let breaks = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let end = self.csv.position();
        // A record ends at the first byte of a CRLF; its line break is then counted with the next record.
        let ended_by_lf = self.csv.get_ref().byte_at(end.byte().saturating_sub(1)) == Some(b'\n');
        end.line().saturating_sub(breaks + u64::from(ended_by_lf))
    }
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

/// A complaint about a field, counted from 0.
fn bad(line: u64, field: Option<usize>, reason: impl Into<String>) -> BadRow {
    BadRow { line, column: field.map(|field| field as u64 + 1), reason: reason.into() }
}

fn too_long(line: u64) -> Error {
    let limit = limits::CSV_RECORD_MAX_BYTES;
    let reason = format!(
        "the record that begins here has more than {limit} bytes, the limit (CSV_RECORD_MAX_BYTES); \
         is a quote not closed?"
    );
    bad(line, None, reason).into_error()
}

fn open_quote(line: u64) -> Error {
    bad(line, None, "the record that begins here has a quote that is not closed").into_error()
}

fn read_error(line: u64, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error)
            if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<RecordTooLong>) =>
        {
            too_long(line)
        }
        csv::ErrorKind::Io(error) => Error::io(format_args!("reading CSV from line {line} on"), error),
        other => bad(line, None, format!("{other:?}")).into_error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_and_values(file: &str) -> Vec<(u64, String)> {
        let mut rows = RowReader::new(file.as_bytes()).unwrap();
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
        let mut rows = RowReader::new("value,entity_type_id\na,1\n".as_bytes()).unwrap();
        assert!(rows.next_row().unwrap().is_some());
        assert!(rows.next_row().unwrap().is_none());
        assert!(rows.next_row().unwrap().is_none());
    }

    #[test]
    fn a_quote_that_is_open_at_the_end_is_an_error_on_its_records_first_line() {
        let mut rows = RowReader::new("value,entity_type_id\na,1\n\"b,1\nc,1\n".as_bytes()).unwrap();
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
        let mut rows = RowReader::new(head.as_bytes().chain(Endless)).unwrap();
        assert!(rows.next_row().unwrap().unwrap().is_ok());
        let error = rows.next_row().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Csv { line: 3, column: None });
        assert!(rows.bytes() < 2 * limits::CSV_RECORD_MAX_BYTES);
    }
}
