//! Tables of rows and columns.

use std::fmt::{self, Display};

use comfy_table::{Cell, CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use console::{measure_text_width, style};

use crate::plain::plain;
use crate::terminal;

const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction(' '))
    .content_lines(ContentLineStyle::none().junction(' '));

/// The kind of a column's cells, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Text, to the left.
    Text(&'static str),
    /// Numbers, to the right.
    Number(&'static str),
}

/// A table.
///
/// A terminal that is too narrow wraps its cells. If they would be narrower than a word, each row becomes a list of names
/// and values. Elsewhere each row is one line, and a long cell moves only the rest of its own row.
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
/// Without a terminal, wider cells do not widen their column.
const SHORT_CELL_COLUMNS: usize = 40;
/// The blanks between two columns.
const COLUMN_GAP: usize = 2;

impl Grid {
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), has_header: true, rows: Vec::new(), width: terminal::width_if_seen() }
    }

    /// Formats names and their values, without a header.
    pub(crate) fn of_properties<const N: usize>(properties: [(&str, String); N]) -> String {
        Self::properties(terminal::width_if_seen(), properties).to_string()
    }

    fn properties<'a>(width: Option<u16>, properties: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let rows = properties.into_iter().map(|(name, value)| vec![name.to_owned(), plain(&value)]);
        let columns = vec![Column::Text(""), Column::Text("")];
        Self { columns, has_header: false, rows: rows.collect(), width }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|text| plain(&text)).collect());
    }

    /// Returns true if wrapped cells would be too narrow to read.
    fn is_too_wide(&self) -> bool {
        let Some(width) = self.width.map(usize::from) else { return false };
        let widest = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells.map(|text| measure_text_width(text)).max().unwrap_or(0).max(column.name().len())
        };
        let whole: usize = self.columns.iter().enumerate().map(|column| widest(column) + COLUMN_GAP).sum();
        whole > width && self.columns.len() * (COLUMN_MIN_WIDTH + COLUMN_GAP) > width
    }

    /// Returns the table for a terminal of this width.
    fn table(&self, width: u16) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
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

/// The form without a terminal.
impl Grid {
    fn lines(&self) -> Vec<String> {
        let names: Vec<String> = self.columns.iter().map(|column| column.name().to_owned()).collect();
        let header = self.has_header.then_some(&names);
        let widths: Vec<usize> =
            (0..self.columns.len()).map(|index| self.short_width(index, header)).collect();
        let mut lines = Vec::new();
        if let Some(names) = header {
            lines.push(self.line(names, &widths));
            let dashes = widths.iter().map(|width| "─".repeat(width + 1));
            lines.push(dashes.collect::<Vec<_>>().join(" "));
        }
        lines.extend(self.rows.iter().map(|row| self.line(row, &widths)));
        lines
    }

    /// Returns the width of a column's widest cell. Long cells do not count.
    fn short_width(&self, index: usize, header: Option<&Vec<String>>) -> usize {
        let cells = self.rows.iter().chain(header).filter_map(|row| row.get(index));
        let widths = cells.map(|text| measure_text_width(text)).filter(|width| *width <= SHORT_CELL_COLUMNS);
        widths.max().unwrap_or_default()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = self.columns.iter().zip(row).zip(widths).map(|((column, text), width)| {
            let blanks = " ".repeat(width.saturating_sub(measure_text_width(text)));
            match column {
                Column::Text(_) => format!("{text}{blanks}"),
                Column::Number(_) => format!("{blanks}{text}"),
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
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
        let lines = match self.width {
            Some(width) => self.table(width).lines().collect(),
            None => self.lines(),
        };
        // Above the line of dashes.
        let mut is_header = self.has_header;
        for (index, line) in lines.iter().enumerate() {
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

#[cfg(test)]
mod tests {
    //! Proves that tables fit the terminal, and what they look like elsewhere.

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
}
