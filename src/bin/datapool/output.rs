//! Standard output: JSON, sentences and tables, and how numbers, times and texts are shown in them.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use console::{Term, measure_text_width, style};
use datapool_store::{PageLinks, PageMeta, Timestamp};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use crate::failure::Failure;
use crate::plain::plain;

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

/// A table. On a terminal that is too narrow for it, its cells are wrapped; if they would become narrower than a word, each
/// row is shown as a list of names and values instead. Elsewhere each row is a line.
#[derive(Debug)]
pub(crate) struct Grid {
    columns: Vec<Column>,
    has_header: bool,
    rows: Vec<Vec<String>>,
    /// The terminal's width, if there is a terminal.
    width: Option<u16>,
}

/// The least average width of wrapped columns.
const COLUMN_MIN_WIDTH: usize = 8;
/// The blanks between two columns.
const COLUMN_GAP: usize = 2;

impl Grid {
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), has_header: true, rows: Vec::new(), width: terminal_width() }
    }

    /// Formats names and their values, without a header.
    pub(crate) fn of_properties<const N: usize>(properties: [(&str, String); N]) -> String {
        Self::properties(terminal_width(), properties).to_string()
    }

    fn properties<'a>(width: Option<u16>, properties: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let rows = properties.into_iter().map(|(name, value)| vec![name.to_owned(), plain(&value)]);
        let columns = vec![Column::Text(""), Column::Text("")];
        Self { columns, has_header: false, rows: rows.collect(), width }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|text| plain(&text)).collect());
    }

    /// Returns true if wrapped cells would become too narrow to be read.
    fn is_too_wide(&self) -> bool {
        let Some(width) = self.width.map(usize::from) else { return false };
        let widest = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells.map(|text| measure_text_width(text)).max().unwrap_or(0).max(column.name().len())
        };
        let whole: usize = self.columns.iter().enumerate().map(|column| widest(column) + COLUMN_GAP).sum();
        whole > width && self.columns.len() * (COLUMN_MIN_WIDTH + COLUMN_GAP) > width
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE);
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        if self.has_header {
            table.set_header(self.columns.iter().map(|column| column.cell(column.name())));
        }
        for row in &self.rows {
            table.add_row(self.columns.iter().zip(row).map(|(column, text)| column.cell(text)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        table
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
        Cell::new(text).set_alignment(alignment)
    }
}

impl Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.has_header && self.is_too_wide() {
            let names = || self.columns.iter().map(|column| column.name());
            let list = |row: &Vec<String>| {
                Self::properties(self.width, names().zip(row.iter().cloned())).to_string()
            };
            return f.write_str(&self.rows.iter().map(list).collect::<Vec<_>>().join("\n\n"));
        }
        // Above the line of dashes.
        let mut is_header = self.has_header;
        for (index, line) in self.table().lines().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            let line = line.trim_end();
            is_header &= !line.starts_with('─');
            if is_header {
                write!(f, "{end}{}", style(line).bold())?;
            } else {
                write!(f, "{end}{line}")?;
            }
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
    fn a_text_cannot_move_the_cursor() {
        assert_eq!(plain("a\tb\n\u{1b}[2Jc\u{9b}é"), "a\\tb\\n\\u{1b}[2Jc\\u{9b}é");
        assert_eq!(plain("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
    }

    /// A listing with long texts, as wide as the terminal.
    fn records(width: Option<u16>) -> Grid {
        let mut grid = Grid::new([
            Column::Number("id"),
            Column::Number("type"),
            Column::Text("value"),
            Column::Text("flow"),
            Column::Text("run"),
            Column::Text("step"),
            Column::Text("created (UTC)"),
        ]);
        grid.width = width;
        for id in ["1", "1,048,576"] {
            let cells = [id, "37", "an order number", "shop", "run 1 of many", "read", "2013-01-31 10:00:00"];
            grid.row(cells.map(str::to_owned));
        }
        grid
    }

    #[test]
    fn tables_fit_the_terminal_and_keep_every_word() {
        for width in [20, 30, 40, 60, 80, 100, 200] {
            let text = records(Some(width)).to_string();
            let longest = text.lines().map(measure_text_width).max();
            assert!(longest <= Some(usize::from(width)), "{width}:\n{text}");
        }
        let text = records(Some(40)).to_string();
        for word in ["1,048,576", "an order number", "run 1 of many", "2013-01-31 10:00:00"] {
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(text.lines().count(), 2 * 7 + 1, "{text}");
        assert_eq!(records(None).to_string(), records(Some(200)).to_string());
        assert_eq!(records(None).to_string().lines().count(), 2 + 2);
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time("2013-01-31T10:00:00.5Z".parse().unwrap()), "2013-01-31 10:00:00");
        assert_eq!(time(Timestamp::from_micros(i64::MAX)), "9223372036854775807us");
    }
}
