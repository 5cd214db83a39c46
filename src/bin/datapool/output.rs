//! Standard output: JSON, sentences and tables, and how numbers, times and texts are shown in them.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use console::Term;
use datapool_store::{PageLinks, PageMeta, Timestamp};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use crate::failure::Failure;
use crate::plain::plain;

/// The reader for whom output is printed: a person or a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Human,
    Json,
}

/// The width of text if there is no terminal.
const PLAIN_WIDTH: u16 = 80;

const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction(' '))
    .content_lines(ContentLineStyle::none().junction(' '));

/// Prints one JSON value on a line.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    json_lines([value])
}

/// Prints JSON values, each on a line.
pub(crate) fn json_lines(values: impl IntoIterator<Item: Serialize>) -> Result<(), Failure> {
    let mut out = buffered();
    for value in values {
        serde_json::to_writer(&mut out, &value).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints texts, each on a line.
pub(crate) fn lines(texts: impl IntoIterator<Item: Display>) -> Result<(), Failure> {
    let mut out = buffered();
    for text in texts {
        writeln!(out, "{text}")?;
    }
    Ok(out.flush()?)
}

fn buffered() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// Returns the width of standard output, or `None` if it is no terminal.
fn terminal_width() -> Option<u16> {
    let terminal = Term::stdout();
    terminal.is_term().then(|| terminal.size().1)
}

/// Returns the number of columns that a chart may take.
pub(crate) fn width() -> usize {
    usize::from(terminal_width().unwrap_or(PLAIN_WIDTH))
}

/// The kind of a column's cells, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Text, to the left.
    Text(&'static str),
    /// Numbers, to the right.
    Number(&'static str),
}

/// A table: wrapped to the terminal's width if there is a terminal, and otherwise with one line for each row.
#[derive(Debug)]
pub(crate) struct Grid {
    table: Table,
    columns: Vec<Column>,
}

impl Grid {
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        let mut grid = Self::without_header(columns.into());
        let names: Vec<Cell> = grid.columns.iter().map(|column| column.cell(column.name())).collect();
        grid.table.set_header(names);
        grid
    }

    /// Formats names and their values, without a header.
    pub(crate) fn of_properties<const N: usize>(properties: [(&str, String); N]) -> String {
        let mut grid = Self::without_header(vec![Column::Text(""), Column::Text("")]);
        for (name, value) in properties {
            grid.row([name.to_owned(), value]);
        }
        grid.to_string()
    }

    fn without_header(columns: Vec<Column>) -> Self {
        let mut table = Table::new();
        table.load_style(STYLE);
        if let Some(width) = terminal_width() {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        Self { table, columns }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = self.columns.iter().zip(cells).map(|(column, text)| column.cell(&text));
        let cells: Vec<Cell> = cells.collect();
        self.table.add_row(cells);
    }
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Number(name) => name,
        }
    }

    fn cell(self, text: &str) -> Cell {
        let alignment = match self {
            Self::Text(_) => CellAlignment::Left,
            Self::Number(_) => CellAlignment::Right,
        };
        Cell::new(plain(text)).set_alignment(alignment)
    }
}

impl Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = self.table.clone();
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        for (index, line) in table.lines().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Returns the position of a page in its listing, and the query of the next page.
pub(crate) fn footer(noun: &str, meta: &PageMeta, links: &PageLinks) -> String {
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
    match &links.next {
        Some(next) => format!("{place}; the next page: '{}'", next.trim_start_matches('?')),
        None => place,
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
    fn a_text_cannot_move_the_cursor() {
        assert_eq!(plain("a\tb\n\u{1b}[2Jc\u{9b}é"), "a\\tb\\n\\u{1b}[2Jc\\u{9b}é");
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time("2013-01-31T10:00:00.5Z".parse().unwrap()), "2013-01-31 10:00:00");
        assert_eq!(time(Timestamp::from_micros(i64::MAX)), "9223372036854775807us");
    }
}
