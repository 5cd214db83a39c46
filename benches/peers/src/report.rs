//! Measurements as tables.
//!
//! Owns: [`Report`], the rows of a group. Always holds: a measurement is a cost, so less is better. A ratio
//! is a rival's cost divided by the store's: above 1 the store is better.

use std::fmt::Write as _;

use crate::measure::Spread;

/// The column with which the others are compared.
pub(crate) const OWN: &str = "store";

/// The unit of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds.
    Time,
    /// Seconds per unit of this kind, printed as units per second.
    Rate(&'static str),
    Bytes,
    /// A factor, where more is better. It is not a cost and is not compared.
    Times,
}

/// A piece of work, and its cost for each engine that does it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) unit: Unit,
    pub(crate) cells: Vec<(&'static str, Spread)>,
}

/// The measurements of a group.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) group: &'static str,
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
    notes: Vec<String>,
}

impl Row {
    pub(crate) fn of(&self, engine: &str) -> Option<Spread> {
        self.cells.iter().find(|(name, _)| *name == engine).map(|(_, spread)| *spread)
    }

    /// Returns a rival's median divided by the store's.
    pub(crate) fn ratio(&self, rival: &str) -> Option<f64> {
        let comparable = self.unit != Unit::Times && rival != OWN;
        let ratio = self.of(rival)?.median / self.of(OWN)?.median;
        (comparable && ratio.is_finite()).then_some(ratio)
    }

    /// Returns the row as one line, to show progress.
    fn line(&self) -> String {
        let cells =
            self.cells.iter().map(|(engine, spread)| format!("{engine} {}", cell(*spread, self.unit)));
        format!("{}: {}", self.work, cells.collect::<Vec<_>>().join(", "))
    }
}

impl Report {
    pub(crate) fn new(group: &'static str, title: impl Into<String>) -> Self {
        Self { group, title: title.into(), rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn row(
        &mut self,
        work: impl Into<String>,
        unit: Unit,
        cells: impl IntoIterator<Item = (&'static str, Spread)>,
    ) {
        let row = Row { work: work.into(), unit, cells: cells.into_iter().collect() };
        eprintln!("  {}", row.line());
        self.rows.push(row);
    }

    /// Adds a line below the tables.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Returns all engines that have a cell, in the order in which they occur.
    pub(crate) fn engines(&self) -> Vec<&'static str> {
        let mut engines = Vec::new();
        for (engine, _) in self.rows.iter().flat_map(|row| &row.cells) {
            if !engines.contains(engine) {
                engines.push(*engine);
            }
        }
        engines
    }

    /// Returns a table of medians, a table of ratios, and the notes.
    pub(crate) fn markdown(&self) -> String {
        let engines = self.engines();
        let mut text = format!("### {}\n\n", self.title);
        let medians = self.rows.iter().map(|row| {
            let cells = engines.iter().map(|engine| row.of(engine).map(|spread| cell(spread, row.unit)));
            (row.work.as_str(), cells.collect())
        });
        table(&mut text, &engines, medians);
        text.push_str("\nMedians of alternating runs (least to most, where they differ).\n\n");

        let rivals: Vec<&str> = engines.iter().copied().filter(|engine| *engine != OWN).collect();
        let compared = self.rows.iter().filter(|row| rivals.iter().any(|rival| row.ratio(rival).is_some()));
        let ratios: Vec<_> = compared
            .map(|row| (row.work.as_str(), rivals.iter().map(|rival| row.ratio(rival).map(times)).collect()))
            .collect();
        if !ratios.is_empty() {
            table(&mut text, &rivals, ratios.into_iter());
            text.push_str("\nCost by the store's: over 1 the store does better.\n\n");
        }
        for note in &self.notes {
            _ = writeln!(text, "- {note}");
        }
        text
    }
}

fn table<'a>(text: &mut String, heads: &[&str], rows: impl Iterator<Item = (&'a str, Vec<Option<String>>)>) {
    _ = writeln!(text, "| work | {} |", heads.join(" | "));
    _ = writeln!(text, "| --- |{}", " --- |".repeat(heads.len()));
    for (work, cells) in rows {
        let cells: Vec<String> = cells.into_iter().map(Option::unwrap_or_default).collect();
        _ = writeln!(text, "| {work} | {} |", cells.join(" | "));
    }
}

fn cell(Spread { median, least, most }: Spread, unit: Unit) -> String {
    let (middle, low, high) = (readable(median, unit), readable(least, unit), readable(most, unit));
    match unit {
        _ if low == high => middle,
        // The lowest cost is the highest rate.
        Unit::Rate(_) => format!("{middle} ({high} to {low})"),
        _ => format!("{middle} ({low} to {high})"),
    }
}

/// Returns a ratio as text.
pub(crate) fn times(ratio: f64) -> String {
    match ratio {
        ..1_000.0 => digits(ratio),
        // More digits would measure the clock and not the engines.
        _ => "over 1,000".to_owned(),
    }
}

/// Returns a value with its unit, to three significant digits.
pub(crate) fn readable(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Time if value < 1e-3 => format!("{} µs", digits(value * 1e6)),
        Unit::Time if value < 1.0 => format!("{} ms", digits(value * 1e3)),
        Unit::Time => format!("{} s", digits(value)),
        Unit::Rate(what) => format!("{} {what}/s", grouped(1.0 / value)),
        Unit::Bytes => format!("{} MB", digits(value / 1e6)),
        Unit::Times => format!("{} times", digits(value)),
    }
}

fn digits(number: f64) -> String {
    let decimals = match number {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

/// Returns a whole number with commas.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
