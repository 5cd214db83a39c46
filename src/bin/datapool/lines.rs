//! Lines of input, and their values.
//!
//! A line ends in LF or CRLF, which the last line may lack. A byte order mark at the start is skipped, and so are lines
//! that are empty or have only spaces and tabs.

use std::fmt::Display;
use std::io::{BufRead, Read};

use datapool_store::limits::{BATCH_MAX_ITEMS, VALUE_MAX_BYTES};
use datapool_store::{ErrorKind, JsonItems};
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::input;

/// A line without its end.
#[derive(Debug)]
pub(crate) struct Line {
    text: String,
    value: Value,
}

/// The value of a line.
#[derive(Debug)]
enum Value {
    /// The line itself.
    Line,
    /// The key of a JSON value.
    Key(String),
    /// No value: the JSON has no key.
    None,
}

impl Line {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the JSON value of a line that was read as one.
    pub(crate) fn json(&self) -> Option<&RawValue> {
        let without_mark = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        serde_json::from_str(without_mark).ok()
    }

    /// Returns the value, or `None` if the line has no key.
    pub(crate) fn value(&self) -> Option<&str> {
        match &self.value {
            Value::Line => Some(&self.text),
            Value::Key(key) => Some(key),
            Value::None => None,
        }
    }
}

/// Reads values, one on each line.
pub(crate) fn read_values(input: impl BufRead) -> Result<Vec<Line>, Failure> {
    read(input, VALUE_MAX_BYTES, |line| match std::str::from_utf8(line) {
        Ok(text) => Ok(Line { text: text.to_owned(), value: Value::Line }),
        Err(error) => Err((ErrorKind::InvalidArgument, format!(": it is not UTF-8: {error}"))),
    })
}

/// Reads JSON values, one on each line.
pub(crate) fn read_json(input: impl BufRead, items: &JsonItems) -> Result<Vec<Line>, Failure> {
    read(input, usize::MAX, |line| {
        let key = items.key_of(line).map_err(|error| {
            // The library takes the line for a whole document, so its line number is always 1.
            let message = error.to_string();
            let reason = match message.strip_prefix("line 1, ") {
                Some(rest) => format!(", {rest}"),
                None => format!(": {message}"),
            };
            (error.kind(), reason)
        })?;
        let value = key.map_or(Value::None, |key| Value::Key(key.value().to_owned()));
        // The line was read as JSON, so it is UTF-8.
        Ok(Line { text: String::from_utf8_lossy(line).into_owned(), value })
    })
}

/// Reads lines of at most `longest` bytes. An error of `line_of` is printed after the line's number.
fn read(
    input: impl BufRead,
    longest: usize,
    line_of: impl Fn(&[u8]) -> Result<Line, (ErrorKind, String)>,
) -> Result<Vec<Line>, Failure> {
    let failed = |number, error| bad_line(ErrorKind::Io, number, format_args!(": standard input: {error}"));
    let mut input = input::without_mark(input).map_err(|error| failed(1, error))?;
    let mut lines = Vec::new();
    let mut bytes = Vec::new();
    // Enough for the longest line and its end. The rest of a longer line is not read.
    let most = (longest as u64).saturating_add(3);
    for number in 1.. {
        bytes.clear();
        input.by_ref().take(most).read_until(b'\n', &mut bytes).map_err(|error| failed(number, error))?;
        if bytes.is_empty() {
            break;
        }
        let line = match bytes.strip_suffix(b"\n") {
            Some(ended) => ended.strip_suffix(b"\r").unwrap_or(ended),
            None => &bytes,
        };
        if line.len() > longest {
            let reason = format_args!(": it is longer than {VALUE_MAX_BYTES} bytes (VALUE_MAX_BYTES)");
            return Err(bad_line(ErrorKind::LimitExceeded, number, reason));
        }
        if line.iter().all(|byte| b" \t".contains(byte)) {
            continue;
        }
        let line = line_of(line).map_err(|(kind, reason)| bad_line(kind, number, reason))?;
        if lines.len() == BATCH_MAX_ITEMS {
            let reason = format_args!(": a batch has at most {BATCH_MAX_ITEMS} values (BATCH_MAX_ITEMS)");
            return Err(bad_line(ErrorKind::LimitExceeded, number, reason));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn bad_line(kind: ErrorKind, number: usize, reason: impl Display) -> Failure {
    Failure::of(kind, format!("line {number}{reason}"))
}

#[cfg(test)]
mod tests {
    //! Proves how lines become values, and which lines do not.

    use datapool_store::OnMissingKey;

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<String>, String> {
        let lines = read_values(text).map_err(|failure| format!("{failure:?}"))?;
        assert!(lines.iter().all(|line| line.value() == Some(line.text())));
        Ok(lines.into_iter().map(|line| line.text).collect())
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_the_last_one_as_it_likes() {
        assert_eq!(read(b"a\nb\r\n c \nd").unwrap(), ["a", "b", " c ", "d"]);
        assert_eq!(read(b"a\r\r\nb\rc\nd\r").unwrap(), ["a\r", "b\rc", "d\r"]);
        assert!(read(b"").unwrap().is_empty());
    }

    #[test]
    fn blank_lines_and_one_byte_order_mark_are_skipped() {
        assert_eq!(read(b"\na\n\n\r\n \t \nb\n\t\r\n\n").unwrap(), ["a", "b"]);
        assert_eq!(read(b"\xef\xbb\xbfA-1\r\n").unwrap(), ["A-1"]);
        assert_eq!(read(b"\xef\xbb\xbf\n\xef\xbb\xbfa\n").unwrap(), ["\u{feff}a"]);
        assert_eq!(read(b"\xef\xbb\xbf\xef\xbb\xbfa").unwrap(), ["\u{feff}a"]);
        assert_eq!(read("\u{a0}\n\u{3000}".as_bytes()).unwrap(), ["\u{a0}", "\u{3000}"]);
        for nothing in [b"".as_slice(), b"\n", b" ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n\n"] {
            assert!(read(nothing).unwrap().is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_value_is_named_by_its_number_in_the_file() {
        assert!(read(b"a\nb\n\xff\n").unwrap_err().contains("line 3: it is not UTF-8"));
        assert!(read(b"a\n\n \n\xff\n").unwrap_err().contains("line 4: it is not UTF-8"));
        assert!(read(&b" ".repeat(4_097)).unwrap_err().contains("line 1: it is longer"));
    }

    #[test]
    fn a_value_may_be_as_long_as_the_limit_and_no_longer() {
        let longest = "x".repeat(VALUE_MAX_BYTES);
        for end in ["\n", "\r\n", ""] {
            assert_eq!(read(format!("{longest}{end}").as_bytes()).unwrap(), [longest.as_str()]);
            assert_eq!(read(format!("\u{feff}{longest}{end}").as_bytes()).unwrap(), [longest.as_str()]);
            assert!(
                read(format!("{longest}x{end}").as_bytes()).unwrap_err().contains("line 1: it is longer")
            );
            assert!(
                read(format!("{longest}xxxxxx{end}").as_bytes())
                    .unwrap_err()
                    .contains("line 1: it is longer")
            );
        }
    }
    #[test]
    fn a_line_of_json_stands_for_its_key() {
        let items = JsonItems::new(37, "/id").on_missing_key(OnMissingKey::Pass);
        let text = "\u{feff} {\"id\":  \"A\\u002d1\"} \r\n\n \t\n{\"id\":17.0}\n{\"id\":null}\n[]";
        let lines = read_json(text.as_bytes(), &items).unwrap();
        let texts: Vec<&str> = lines.iter().map(Line::text).collect();
        assert_eq!(texts, [" {\"id\":  \"A\\u002d1\"} ", "{\"id\":17.0}", "{\"id\":null}", "[]"]);
        let values: Vec<Option<&str>> = lines.iter().map(Line::value).collect();
        assert_eq!(values, [Some("A-1"), Some("17"), None, None]);
        let failure = read_json(&b"{}\n\n{\"id\": x}"[..], &items).unwrap_err();
        assert!(format!("{failure:?}").contains("line 3, column 8: the document is not JSON"), "{failure:?}");
        let long = format!("{{\"id\": \"{}\"}}", "x".repeat(VALUE_MAX_BYTES + 1));
        let failure = read_json(long.as_bytes(), &items).unwrap_err();
        assert!(format!("{failure:?}").contains("line 1: a value has 4097 bytes"), "{failure:?}");
    }
}
