//! Deduplicating the lines of standard input, as one batch.

use std::io::{self, BufRead, Read, Write};

use datapool_store::limits::{BATCH_MAX_ITEMS, VALUE_MAX_BYTES};
use datapool_store::{Key, Mode, Record, Verdict, Verdicts};
use serde::Serialize;

use crate::args::Dedupe;
use crate::failure::Failure;
use crate::input;
use crate::open::{self, StoreFile};
use crate::output::{self, Format};

/// The answer about one line.
#[derive(Serialize)]
struct Answer<'a> {
    value: &'a str,
    verdict: &'static str,
    first: Option<&'a Record>,
}

pub(crate) fn run(file: &StoreFile, arguments: &Dedupe, format: Format) -> Result<(), Failure> {
    // Read first: others can use the store while this waits for its input.
    let values = read_values(io::stdin().lock())?;
    let (mode, origin) = (arguments.mode, arguments.origin.origin());
    let entity_type = arguments.entity_type;
    let decide = |store: &_| {
        let pool = open::pool(store, file, &arguments.pool)?;
        Ok(match format {
            Format::Json => {
                pool.dedupe_with_first(mode, &values, |value| Key::new(entity_type, value), &origin)?
            }
            Format::Human => pool.dedupe(mode, &values, |value| Key::new(entity_type, value), &origin)?,
        })
    };
    let verdicts = match mode {
        Mode::Filter => open::to_read(file, decide)?,
        _ => open::to_write(file, decide)?,
    };
    let printed = match format {
        Format::Json => output::json_lines(answers(&values, &verdicts)),
        Format::Human => {
            tell_in_flight(&verdicts, mode);
            let numbered = values.iter().enumerate();
            output::lines(numbered.filter(|(index, _)| verdicts.passes(*index)).map(|(_, value)| value))
        }
    };
    if printed.is_err() && mode != Mode::Filter {
        let text = output::number_of(verdicts.new_count() as u64, "new value");
        // It makes no difference if standard error is closed.
        let _ =
            writeln!(io::stderr(), "note: tracked all the same, though not all of it was read here: {text}");
    }
    printed
}

fn answers<'a>(values: &'a [String], verdicts: &'a Verdicts) -> impl Iterator<Item = Answer<'a>> {
    let judged = values.iter().zip(verdicts.as_slice()).enumerate();
    judged.map(|(index, (value, verdict))| Answer {
        value,
        verdict: match verdict {
            Verdict::New => "new",
            Verdict::InFlight => "in_flight",
            _ => "duplicate",
        },
        first: verdicts.first(index),
    })
}

/// Prints how many values are in flight. They may be new again soon, so the user must learn that they are held back.
fn tell_in_flight(verdicts: &Verdicts, mode: Mode) {
    let in_flight = verdicts.as_slice().iter().filter(|verdict| **verdict == Verdict::InFlight).count();
    if in_flight > 0 && mode != Mode::Track {
        let text = output::number_of(in_flight as u64, "value");
        // It makes no difference if standard error is closed.
        let _ = writeln!(io::stderr(), "note: {text} in flight, claimed by another runner: not passed on");
    }
}

/// Reads values, one on each line. A line ends in LF or CRLF; the last one need not end. A byte order mark at the start
/// is skipped, and so are lines that are empty or have only spaces and tabs.
fn read_values(input: impl BufRead) -> Result<Vec<String>, Failure> {
    let failed = |number, error| bad_line(number, format_args!("standard input: {error}"));
    let mut input = input::without_mark(input).map_err(|error| failed(1, error))?;
    let mut values = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        // A little more than the longest value and its line break: a longer line is not read to its end.
        let most = VALUE_MAX_BYTES as u64 + 3;
        input.by_ref().take(most).read_until(b'\n', &mut line).map_err(|error| failed(number, error))?;
        if line.is_empty() {
            break;
        }
        let Some(value) = value_of(&line, number)? else { continue };
        if values.len() == BATCH_MAX_ITEMS {
            return Err(bad_line(
                number,
                format_args!("a batch has at most {BATCH_MAX_ITEMS} values (BATCH_MAX_ITEMS)"),
            ));
        }
        values.push(value);
    }
    Ok(values)
}

/// Returns the value of a line, or `None` if the line is blank.
fn value_of(line: &[u8], number: usize) -> Result<Option<String>, Failure> {
    let value = match line.strip_suffix(b"\n") {
        Some(ended) => ended.strip_suffix(b"\r").unwrap_or(ended),
        None => line,
    };
    if value.len() > VALUE_MAX_BYTES {
        return Err(bad_line(
            number,
            format_args!("it is longer than {VALUE_MAX_BYTES} bytes (VALUE_MAX_BYTES)"),
        ));
    }
    if value.iter().all(|byte| b" \t".contains(byte)) {
        return Ok(None);
    }
    match std::str::from_utf8(value) {
        Ok(value) => Ok(Some(value.to_owned())),
        Err(error) => Err(bad_line(number, format_args!("it is not UTF-8: {error}"))),
    }
}

fn bad_line(number: usize, reason: std::fmt::Arguments<'_>) -> Failure {
    Failure::new(format!("line {number}: {reason}"))
}

#[cfg(test)]
mod tests {
    //! Proves how lines become values, and which lines do not.

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<String>, String> {
        read_values(text).map_err(|failure| format!("{failure:?}"))
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
}
