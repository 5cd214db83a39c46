//! Standard output: JSON, values and sentences, and how numbers and times are shown in them.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use console::style;
use datapool_store::{PageLinks, PageMeta, Timestamp};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use crate::failure::Failure;
use crate::plain::{plain, plain_json};
use crate::terminal::{self, wrap};

/// Prints one JSON value on a line.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    json_lines([value])
}

/// Prints JSON values, each on a line.
pub(crate) fn json_lines(values: impl IntoIterator<Item: Serialize>) -> Result<(), Failure> {
    let is_seen = terminal::is_seen();
    let mut out = buffered();
    for value in values {
        if is_seen {
            let text = serde_json::to_string(&value).map_err(io::Error::from)?;
            out.write_all(plain_json(&text).as_bytes())?;
        } else {
            serde_json::to_writer(&mut out, &value).map_err(io::Error::from)?;
        }
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints values, each on a line. Escapes their control characters on a terminal only: programs get the exact bytes.
pub(crate) fn values(texts: impl IntoIterator<Item: AsRef<str>>) -> Result<(), Failure> {
    let is_seen = terminal::is_seen();
    let mut out = buffered();
    for text in texts {
        let text = text.as_ref();
        if is_seen {
            out.write_all(plain(text).as_bytes())?;
        } else {
            out.write_all(text.as_bytes())?;
        }
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints sentences and tables, each on a new line. Wraps lines that are wider than the terminal.
pub(crate) fn lines(texts: impl IntoIterator<Item: Display>) -> Result<(), Failure> {
    let width = terminal::width_if_seen().map(usize::from);
    let mut out = buffered();
    for text in texts {
        match width {
            Some(width) => writeln!(out, "{}", wrap(&text.to_string(), width))?,
            None => writeln!(out, "{text}")?,
        }
    }
    Ok(out.flush()?)
}

fn buffered() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// The form in which the user chose a page. The hint about the next page has the same form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageForm {
    /// `page=2&per_page=50`
    Query,
    /// `--page 2`, beside the user's other options.
    Options,
}

/// Returns the position of a page in its listing, and a hint about the next page.
pub(crate) fn footer(noun: &str, meta: &PageMeta, links: &PageLinks, form: PageForm) -> String {
    let all = number_of(meta.total, noun);
    let place = match (meta.from, meta.to) {
        (Some(from), Some(to)) if meta.total > to + 1 - from => {
            format!("{} to {} of {all}", count(from), count(to))
        }
        (None, _) if meta.total > 0 => {
            format!("none on page {} of {}: {all}", meta.current_page, meta.last_page)
        }
        _ => all,
    };
    match (&links.next, form) {
        (Some(next), PageForm::Query) => {
            format!("{place}; the next page: '{}'", next.trim_start_matches('?'))
        }
        (Some(_), PageForm::Options) => format!("{place}; the next page: --page {}", meta.current_page + 1),
        (None, _) => place,
    }
}

/// Returns an id, with the name that is registered for it.
pub(crate) fn named(id: impl Display, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{id} ({name})"),
        None => id.to_string(),
    }
}

/// The number of records, or the id of the pool, that a command deleted.
#[derive(Serialize)]
pub(crate) struct Deleted {
    pub(crate) deleted: u64,
}

/// Colours good news, if standard output is a terminal with colours.
pub(crate) fn good(text: &str) -> String {
    style(text).green().to_string()
}

/// Colours bad news, if standard output is a terminal with colours.
pub(crate) fn bad(text: &str) -> String {
    style(text).red().to_string()
}

/// Formats a number: `1,048,576`.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Formats a number of things: `1 row`, `1,048,576 rows`.
pub(crate) fn number_of(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Formats a number of bytes: `1.00 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    HumanBytes(number).to_string()
}

/// Formats a date and a time of day in UTC, to the second.
pub(crate) fn time(time: Timestamp) -> String {
    let text = time.to_string();
    match text.get(..19) {
        Some(seconds) if text.ends_with('Z') => seconds.replace('T', " "),
        _ => text,
    }
}

/// Formats a value, or a dash if there is none.
pub(crate) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    //! Proves how texts are shown.

    use super::*;

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time("2013-01-31T10:00:00.5Z".parse().unwrap()), "2013-01-31 10:00:00");
        assert_eq!(time(Timestamp::from_micros(i64::MAX)), "9223372036854775807us");
    }
}
