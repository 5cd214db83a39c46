//! Bar charts of text.

use std::fmt;

use crate::output;
use crate::plain::plain;
use crate::terminal;

/// Blocks of one to eight eighths of a column.
const BLOCKS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const BLANK: char = ' ';
/// The widest label, and the narrowest one to which a narrow terminal cuts it.
const LABEL_MAX_COLUMNS: usize = 32;
const LABEL_MIN_COLUMNS: usize = 8;
/// The width of the longest bar: at least this on a narrow terminal if possible, and at most that on a wide one.
const BAR_MIN_COLUMNS: usize = 8;
const BAR_MAX_COLUMNS: usize = 100;

/// The text before each cell and before the bar.
const GAP: &str = "  ";

/// A line of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    number: u64,
    /// The cells before the bar: label, number, percent, note.
    cells: [String; 4],
}

const SIDES: [Side; 4] = [Side::Left, Side::Right, Side::Right, Side::Right];

impl Row {
    pub(super) fn new(label: impl AsRef<str>, number: u64) -> Self {
        let label = cut(&plain(label.as_ref()), LABEL_MAX_COLUMNS);
        Self { number, cells: [label, output::count(number), String::new(), String::new()] }
    }

    /// Adds the percentage of a whole that the number is.
    pub(super) fn with_percent_of(mut self, whole: u64) -> Self {
        let [_, _, percent, _] = &mut self.cells;
        *percent = percent_of(self.number, whole);
        self
    }

    /// Adds a note between the numbers and the bar.
    pub(super) fn with_note(mut self, text: String) -> Self {
        let [_, _, _, note] = &mut self.cells;
        *note = text;
        self
    }
}

/// A title, and a bar for each row.
#[derive(Debug)]
pub(super) struct Chart {
    title: String,
    rows: Vec<Row>,
    /// The number that the longest bar shows.
    most: u64,
    columns: usize,
}

impl Chart {
    pub(super) fn new(title: impl Into<String>, rows: impl IntoIterator<Item = Row>) -> Self {
        let rows: Vec<Row> = rows.into_iter().collect();
        let most = rows.iter().map(|row| row.number).max().unwrap_or_default();
        Self { title: title.into(), rows, most, columns: terminal::width() }
    }

    /// Makes the longest bar show this number, instead of the largest one.
    pub(super) fn up_to(mut self, most: u64) -> Self {
        self.most = most;
        self
    }
}

impl Chart {
    /// Returns the width of the widest text of a cell.
    fn widest(&self, cell: usize) -> usize {
        let texts = self.rows.iter().filter_map(|row| row.cells.get(cell));
        texts.map(|text| columns_of(text)).max().unwrap_or_default()
    }

    /// Returns the widths of the cells, and the room for bars beside them. A narrow terminal first cuts labels, and then
    /// leaves out notes.
    fn layout(&self) -> ([usize; 4], usize) {
        let [mut label, number, percent, mut note] = [0, 1, 2, 3].map(|cell| self.widest(cell));
        let left_by = |label: usize, note: usize| {
            let cells = [label, number, percent, note].into_iter().filter(|width| *width > 0);
            self.columns.saturating_sub(cells.map(|width| width + GAP.len()).sum::<usize>() + GAP.len())
        };
        let missing = (label + GAP.len() + BAR_MIN_COLUMNS).saturating_sub(left_by(0, note));
        label = label.min(label.saturating_sub(missing).max(LABEL_MIN_COLUMNS));
        if left_by(label, note) < BAR_MIN_COLUMNS {
            note = 0;
        }
        ([label, number, percent, note], left_by(label, note).clamp(1, BAR_MAX_COLUMNS))
    }
}

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", terminal::wrap(&self.title, self.columns))?;
        let (widths, room) = self.layout();
        for row in &self.rows {
            let mut line = String::from("\n");
            let cells = row.cells.iter().zip(SIDES).zip(widths);
            for ((text, side), width) in cells.filter(|(_, width)| *width > 0) {
                line.push_str(GAP);
                side.pad(&mut line, &cut(text, width), width);
            }
            line.push_str(GAP);
            line.push_str(&bar(row.number, self.most, room));
            write!(f, "{}", line.trim_end_matches(BLANK))?;
        }
        Ok(())
    }
}

/// The side to which a cell's text is aligned.
#[derive(Debug, Clone, Copy)]
enum Side {
    Left,
    Right,
}

impl Side {
    fn pad(self, line: &mut String, text: &str, width: usize) {
        let blanks = std::iter::repeat_n(BLANK, width.saturating_sub(columns_of(text)));
        match self {
            Self::Left => {
                line.push_str(text);
                line.extend(blanks);
            }
            Self::Right => {
                line.extend(blanks);
                line.push_str(text);
            }
        }
    }
}

/// Formats a share to a tenth of a percent. Only an empty part is 0.0%, and only the whole is 100.0%.
fn percent_of(number: u64, whole: u64) -> String {
    let thousandths = (u128::from(number) * 1_000 + u128::from(whole) / 2) / u128::from(whole.max(1));
    match thousandths {
        0 if number > 0 => "<0.1%".to_owned(),
        1_000 if number < whole => ">99.9%".to_owned(),
        _ => format!("{}.{}%", thousandths / 10, thousandths % 10),
    }
}

/// Returns the bar of a number, if the bar of `most` has this many columns. A number above zero is always visible.
fn bar(number: u64, most: u64, columns: usize) -> String {
    if number == 0 || most == 0 {
        return String::new();
    }
    let whole = columns * BLOCKS.len();
    let eighths = u128::from(number) * whole as u128 / u128::from(most);
    let eighths = usize::try_from(eighths).unwrap_or(whole).clamp(1, whole);
    let full = std::iter::repeat_n('█', eighths / BLOCKS.len());
    let rest = (eighths % BLOCKS.len()).checked_sub(1).and_then(|index| BLOCKS.get(index));
    full.chain(rest.copied()).collect()
}

fn cut(text: &str, columns: usize) -> String {
    console::truncate_str(text, columns, "…").into_owned()
}

fn columns_of(text: &str) -> usize {
    console::measure_text_width(text)
}

#[cfg(test)]
mod tests {
    //! Proves how long bars are and how a chart is laid out.

    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_number_in_eighths_of_a_column() {
        assert_eq!(bar(0, 10, 10), "");
        assert_eq!(bar(10, 10, 10), "██████████");
        assert_eq!(bar(5, 10, 10), "█████");
        assert_eq!(bar(1, 16, 1), "▏");
        assert_eq!(bar(3, 16, 2), "▍");
        assert_eq!(bar(1, 1_000_000, 10), "▏");
        assert_eq!(bar(20, 10, 3), "███");
        assert_eq!(bar(u64::MAX, u64::MAX, 100).chars().count(), 100);
        assert_eq!(bar(1, 0, 10), "");
    }

    #[test]
    fn a_chart_has_its_columns_below_each_other_and_fits() {
        let rows = [
            Row::new("日本", 1_000).with_percent_of(1_500),
            Row::new("b\n", 500).with_percent_of(1_500).with_note("x".to_owned()),
            Row::new("c", 0).with_percent_of(1_500),
        ];
        let mut chart = Chart::new("Shares", rows);
        chart.columns = 41;
        let expected = "Shares\n  日本  1,000  66.7%     ████████████████\n  b\\n     500  33.3%  x  ████████\n  c         0   0.0%";
        assert_eq!(chart.to_string(), expected);
        assert!(chart.to_string().lines().all(|line| columns_of(line) <= 41));
    }

    #[test]
    fn a_chart_fits_a_narrow_terminal() {
        let row = |label: &str| {
            Row::new(label, 104_857_600).with_percent_of(204_857_600).with_note("1,048,576 live".to_owned())
        };
        let shown = |columns: usize| {
            let mut chart = Chart::new("Shares", [row("a flow with a long name"), row("another flow")]);
            chart.columns = columns;
            let text = chart.to_string();
            assert!(text.lines().all(|line| columns_of(line) <= columns), "{columns}:\n{text}");
            text
        };
        assert!(shown(80).contains("  a flow with a long name  104,857,600  51.2%  1,048,576 live  █"));
        assert!(shown(60).contains("  a flow with…  104,857,600  51.2%  1,048,576 live  ████████"));
        assert!(shown(40).contains("  a flow …  104,857,600  51.2%  ████████"));
    }

    #[test]
    fn a_percent_is_rounded_but_not_to_nothing_or_the_whole() {
        assert_eq!(percent_of(0, 7), "0.0%");
        assert_eq!(percent_of(0, 0), "0.0%");
        assert_eq!(percent_of(2, 3), "66.7%");
        assert_eq!(percent_of(7, 7), "100.0%");
        assert_eq!(percent_of(1, 2_001), "<0.1%");
        assert_eq!(percent_of(2_000, 2_001), ">99.9%");
    }

    #[test]
    fn long_labels_are_cut() {
        assert_eq!(columns_of(&Row::new("é".repeat(100), 1).cells[0]), LABEL_MAX_COLUMNS);
    }
}
