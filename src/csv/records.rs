//! Splits a file's bytes into CSV records and their fields.
//!
//! Owns: [`Records`], and the meaning of quotes. A field that begins with a quote ends with one; only a
//! delimiter or a line end may follow. A quote elsewhere is an ordinary character. A line ends with LF or
//! CRLF; a CR elsewhere is an ordinary character.
//!
//! Always holds: each byte of the file belongs to exactly one record or to the line end after it, so no byte
//! is lost between two records. Reading ends with an error at a record over [`limits::CSV_RECORD_MAX_BYTES`],
//! and at a quote that is still open at the end of the file.

use std::io::{self, Read};

use super::bad_row::BadRow;
use crate::error::{Error, Result};
use crate::limits;

/// The smallest number of bytes to read at once, if the file has them.
const READ_BYTES: usize = 64 << 10;

const QUOTE: u8 = b'"';
/// The line end. A CR before it belongs to it.
const LINE_END: u8 = b'\n';
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// The number of bytes at the start of a file that identify its kind.
const SIGNATURE_BYTES: usize = 4;

/// The way in which a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All its fields are complete.
    Whole,
    /// Something other than a delimiter or a line end follows a closing quote. The record extends to the end
    /// of that line.
    BadQuote {
        /// The index of the field, from 0.
        field: usize,
        /// The byte after the quote.
        byte: u8,
    },
}

/// A field's place in its record, without the quotes around it.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: usize,
    end: usize,
    quotes: Quotes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    AsTheyAre,
    /// Two quotes stand for one.
    Doubled,
}

/// The state of the scan within a record.
#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field: the closing one, or the first of two.
    AfterQuote,
    /// After a bad quote: the scan only looks for the end of the line.
    Spoiled(End),
}

/// Finds the fields and the end of one record in the bytes read so far. Each call continues where the last
/// one stopped.
#[derive(Debug)]
struct Scan {
    delimiter: u8,
    state: State,
    /// The number of bytes of the record scanned so far. Once the end is found, the length of the record
    /// without the line end.
    at: usize,
    /// The length of the line end after the record.
    line_end: usize,
    fields: Vec<Field>,
    /// The start of the current field.
    field_start: usize,
    quotes: Quotes,
    /// The number of line ends within its quotes so far.
    line_ends: u64,
    has_doubled_quotes: bool,
}

impl Scan {
    fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            state: State::FieldStart,
            at: 0,
            line_end: 0,
            fields: Vec::new(),
            field_start: 0,
            quotes: Quotes::AsTheyAre,
            line_ends: 0,
            has_doubled_quotes: false,
        }
    }

    fn begin(&mut self) {
        (self.state, self.at, self.line_end) = (State::FieldStart, 0, 0);
        (self.line_ends, self.has_doubled_quotes) = (0, false);
        self.fields.clear();
    }

    fn end_field(&mut self, end: usize) {
        self.fields.push(Field { start: self.field_start, end, quotes: self.quotes });
        self.quotes = Quotes::AsTheyAre;
        self.state = State::FieldStart;
    }

    /// Moves the end back from an LF over the CR of a CRLF, but not below `least`.
    fn end_line(&mut self, bytes: &[u8], least: usize) {
        let before = self.at.checked_sub(1).filter(|before| *before >= least);
        let is_crlf = before.is_some_and(|before| bytes.get(before) == Some(&b'\r'));
        self.line_end = 1 + usize::from(is_crlf);
        self.at -= usize::from(is_crlf);
    }

    /// Continues the scan. Returns how the record ended, at [`Scan::at`], if the bytes contain its end.
    fn run(&mut self, bytes: &[u8]) -> Option<End> {
        while let Some(byte) = bytes.get(self.at).copied() {
            let rest = bytes.get(self.at..).unwrap_or_default();
            match self.state {
                State::FieldStart if byte == QUOTE => {
                    self.at += 1;
                    (self.state, self.field_start) = (State::Quoted, self.at);
                }
                State::FieldStart | State::Unquoted => {
                    if matches!(self.state, State::FieldStart) {
                        (self.state, self.field_start) = (State::Unquoted, self.at);
                    }
                    let delimiter = self.delimiter;
                    let Some(length) = rest.iter().position(|byte| *byte == delimiter || *byte == LINE_END)
                    else {
                        self.at = bytes.len();
                        return None;
                    };
                    self.at += length;
                    if rest.get(length) != Some(&delimiter) {
                        self.end_line(bytes, self.field_start);
                        self.end_field(self.at);
                        return Some(End::Whole);
                    }
                    self.end_field(self.at);
                    self.at += 1;
                }
                State::Quoted => {
                    let of_note = |byte: &u8| *byte == QUOTE || *byte == LINE_END;
                    let Some(length) = rest.iter().position(of_note) else {
                        self.at = bytes.len();
                        return None;
                    };
                    self.at += length + 1;
                    match rest.get(length) {
                        Some(&QUOTE) => self.state = State::AfterQuote,
                        _ => self.line_ends += 1,
                    }
                }
                State::AfterQuote if byte == QUOTE => {
                    self.at += 1;
                    (self.state, self.quotes, self.has_doubled_quotes) =
                        (State::Quoted, Quotes::Doubled, true);
                }
                State::AfterQuote if byte == self.delimiter => {
                    self.end_field(self.at - 1);
                    self.at += 1;
                }
                // The next byte decides whether the CR belongs to a line end.
                State::AfterQuote if byte == b'\r' && rest.len() == 1 => return None,
                State::AfterQuote if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") => {
                    self.line_end = if byte == LINE_END { 1 } else { 2 };
                    self.end_field(self.at - 1);
                    return Some(End::Whole);
                }
                State::AfterQuote => {
                    self.state = State::Spoiled(End::BadQuote { field: self.fields.len(), byte });
                    self.quotes = Quotes::AsTheyAre;
                }
                State::Spoiled(end) => match rest.iter().position(|byte| *byte == LINE_END) {
                    None => self.at = bytes.len(),
                    Some(length) => {
                        self.at += length;
                        self.end_line(bytes, 0);
                        return Some(end);
                    }
                },
            }
        }
        None
    }

    /// Ends a record of this length at the end of the file. Returns `None` if a quote is still open.
    fn finish(&mut self, length: usize) -> Option<End> {
        match self.state {
            State::AfterQuote if self.at < length => {
                self.at = length;
                return Some(End::BadQuote { field: self.fields.len(), byte: b'\r' });
            }
            State::FieldStart => {
                self.field_start = self.at;
                self.end_field(self.at);
            }
            State::Unquoted => self.end_field(self.at),
            State::AfterQuote => self.end_field(self.at - 1),
            State::Quoted => return None,
            State::Spoiled(end) => return Some(end),
        }
        Some(End::Whole)
    }
}

/// Reads a file record by record. Its only buffer is as long as the longest record.
#[derive(Debug)]
pub(super) struct Records<R> {
    inner: R,
    buffer: Vec<u8>,
    /// The start of the current record in the buffer, and the end of the bytes read.
    start: usize,
    end: usize,
    /// The number of bytes of the file that were read.
    bytes: u64,
    is_at_end: bool,
    scan: Scan,
    /// The lines on which the current record begins and ends.
    first_line: u64,
    last_line: u64,
}

impl<R: Read> Records<R> {
    pub(super) fn new(inner: R, delimiter: u8) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            bytes: 0,
            is_at_end: false,
            scan: Scan::new(delimiter),
            first_line: 1,
            last_line: 0,
        }
    }

    /// Returns the first bytes of the file, or fewer if the file is shorter. Call it before reading a record.
    pub(super) fn signature(&mut self) -> Result<&[u8]> {
        self.first_line = 1;
        while self.end < SIGNATURE_BYTES && self.fill()? {}
        Ok(self.buffer.get(..self.end.min(SIGNATURE_BYTES)).unwrap_or_default())
    }

    /// Skips a byte order mark at the start of the file.
    pub(super) fn skip_byte_order_mark(&mut self) {
        if self.buffer.get(..self.end).is_some_and(|bytes| bytes.starts_with(BYTE_ORDER_MARK)) {
            self.start = BYTE_ORDER_MARK.len();
        }
    }

    /// Returns the number of bytes of the file that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the next record. Returns `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// `Csv` for an over-long record or an open quote; `Io`.
    pub(super) fn next(&mut self) -> Result<Option<End>> {
        self.first_line = self.last_line + 1;
        self.start += self.scan.at + self.scan.line_end;
        self.scan.begin();
        loop {
            let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
            let end = self.scan.run(bytes);
            // If the end of the record is not read yet, its last byte may be the CR of its line end.
            if self.scan.at as u64 > limits::CSV_RECORD_MAX_BYTES + u64::from(end.is_none()) {
                return Err(too_long(self.first_line));
            }
            if let Some(end) = end {
                return Ok(Some(self.finish(end)));
            }
            if !self.fill()? {
                let length = self.end - self.start;
                if length == 0 {
                    return Ok(None);
                }
                let Some(end) = self.scan.finish(length) else { return Err(open_quote(self.first_line)) };
                if self.scan.at as u64 > limits::CSV_RECORD_MAX_BYTES {
                    return Err(too_long(self.first_line));
                }
                return Ok(Some(self.finish(end)));
            }
        }
    }

    fn finish(&mut self, end: End) -> End {
        let length = self.scan.at;
        self.last_line = self.first_line + self.scan.line_ends;
        let Some(record) = self.buffer.get_mut(self.start..self.start + length) else { return end };
        if self.scan.has_doubled_quotes {
            for field in self.scan.fields.iter_mut().filter(|field| field.quotes == Quotes::Doubled) {
                halve_quotes(record, field);
            }
        }
        end
    }

    /// Reads more. Returns false at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        if self.is_at_end {
            return Ok(false);
        }
        if self.start > 0 && self.buffer.len() - self.end < READ_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < READ_BYTES {
            self.buffer.resize((self.end + READ_BYTES).max(2 * READ_BYTES), 0);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = loop {
            match self.inner.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let doing = format!("reading CSV from line {} on", self.first_line);
                    return Err(Error::io(doing, error));
                }
                // A faulty reader may claim to have read more than the buffer had room for.
                Ok(count) => break count.min(room.len()),
            }
        };
        self.end += count;
        self.bytes += count as u64;
        self.is_at_end = count == 0;
        Ok(count > 0)
    }
}

impl<R> Records<R> {
    /// Returns the line on which the current record begins, from 1.
    pub(super) fn first_line(&self) -> u64 {
        self.first_line
    }

    /// Returns the line on which the current record ends.
    pub(super) fn last_line(&self) -> u64 {
        self.last_line
    }

    /// Returns the number of fields of the current record.
    pub(super) fn field_count(&self) -> usize {
        self.scan.fields.len()
    }

    /// Returns a field, without the quotes around it and with doubled quotes reduced to one. Returns an empty
    /// field if there is no such field.
    pub(super) fn field(&self, index: usize) -> &[u8] {
        let Some(field) = self.scan.fields.get(index) else { return &[] };
        self.record().get(field.start..field.end).unwrap_or_default()
    }

    /// Returns all bytes of the current record. Where quotes were doubled, the rest of the field has moved
    /// up.
    pub(super) fn record(&self) -> &[u8] {
        self.buffer.get(self.start..self.start + self.scan.at).unwrap_or_default()
    }

    /// Returns true if the current record has only delimiters and blanks.
    pub(super) fn is_blank(&self) -> bool {
        let delimiter = self.scan.delimiter;
        self.record().iter().all(|byte| *byte == delimiter || matches!(byte, b' ' | b'\t'))
    }
}

/// Replaces each pair of quotes with one quote, in place.
fn halve_quotes(record: &mut [u8], field: &mut Field) {
    let Some(bytes) = record.get_mut(field.start..field.end) else { return };
    let quote_after = |bytes: &[u8], from: usize| {
        bytes
            .get(from..)
            .and_then(|rest| rest.iter().position(|byte| *byte == QUOTE))
            .map(|length| from + length)
    };
    let Some(first) = quote_after(bytes, 0) else { return };
    // The second quote of each pair is left out: the bytes after it, up to the next pair, move up.
    let (mut from, mut to) = (first + 2, first + 1);
    while from < bytes.len() {
        let next = quote_after(bytes, from);
        let end = next.map_or(bytes.len(), |quote| quote + 1);
        bytes.copy_within(from..end, to);
        to += end - from;
        from = end + 1;
    }
    field.end = field.start + to;
}

fn too_long(line: u64) -> Error {
    let limit = limits::CSV_RECORD_MAX_BYTES;
    let reason = format!(
        "the record that begins here has more than {limit} bytes, the limit (CSV_RECORD_MAX_BYTES); \
         is a quote not closed?"
    );
    BadRow::new(line, None, reason).into_error()
}

fn open_quote(line: u64) -> Error {
    BadRow::new(line, None, "the record that begins here has a quote that is not closed").into_error()
}
