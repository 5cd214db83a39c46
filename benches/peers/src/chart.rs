//! Charts in SVG: bars of ratios, and lines of growth.
//!
//! Always holds: an engine has the same colour everywhere. Axes are logarithmic, so a factor of two has the
//! same length in both directions.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::data::Size;
use crate::groups::{DRAWN, Point};
use crate::measure::float;
use crate::report::{OWN, Report, times};

const INK: RGBColor = RGBColor(40, 40, 40);
const RULE: RGBColor = RGBColor(200, 200, 200);
const FONT: &str = "sans-serif";
const WIDTH: i32 = 900;
/// The left end of the bars. The names of the engines are to the left of it.
const BARS_LEFT: i32 = 190;
/// The right end of the bars. The ratios are to the right of it.
const BARS_RIGHT: i32 = WIDTH - 80;
const BAR: i32 = 18;
const WORK: i32 = 30;
const HEAD: i32 = 50;

/// Returns the colour of an engine, from a palette for colour-blind readers (Okabe and Ito).
fn colour(engine: &str) -> RGBColor {
    match engine.split(',').next().unwrap_or_default() {
        OWN => RGBColor(0, 114, 178),
        "SQLite" => RGBColor(213, 94, 0),
        "SQLite + index" | "sqlite3" => RGBColor(230, 159, 0),
        "LMDB" => RGBColor(0, 158, 115),
        "fjall" => RGBColor(204, 121, 167),
        "RocksDB" => RGBColor(86, 180, 233),
        _ => RGBColor(120, 120, 120),
    }
}

/// Draws a bar per work and rival: the rival's cost divided by the store's.
pub(crate) fn bars(report: &Report, path: &Path) -> Result<()> {
    let engines = report.engines();
    let mut bars = Vec::new();
    for row in &report.rows {
        let ratios: Vec<_> =
            engines.iter().filter_map(|engine| Some((*engine, row.ratio(engine)?))).collect();
        if !ratios.is_empty() {
            bars.push((row.work.as_str(), ratios));
        }
    }
    if bars.is_empty() {
        return Ok(());
    }
    let lines: usize = bars.iter().map(|(_, ratios)| ratios.len()).sum();
    let height = HEAD + WORK * i32::try_from(bars.len())? + BAR * i32::try_from(lines)? + 20;
    let area = SVGBackend::new(path, (WIDTH.cast_unsigned(), height.cast_unsigned())).into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!("{}: cost by the store's (right of 1 the store does better)", report.title);
    text(&area, &title, (20, 18), 18, HPos::Left)?;

    let all = bars.iter().flat_map(|(_, ratios)| ratios.iter().map(|(_, ratio)| *ratio));
    let (least, most) =
        all.fold((1.0_f64, 1.0_f64), |(least, most), ratio| (least.min(ratio), most.max(ratio)));
    let scale = Scale::over(least / 1.1, most * 1.1);
    let one = scale.place(1.0);
    for decade in scale.decades() {
        let place = scale.place(decade);
        let style = if place == one { INK } else { RULE };
        area.draw(&PathElement::new([(place, HEAD), (place, height - 20)], style.stroke_width(1)))?;
        text(&area, &label(decade), (place, height - 10), 11, HPos::Center)?;
    }
    let mut y = HEAD;
    for (work, ratios) in bars {
        text(&area, work, (20, y + WORK - 12), 13, HPos::Left)?;
        y += WORK;
        for (engine, ratio) in ratios {
            let (end, top, bottom) = (scale.place(ratio), y + 2, y + BAR - 2);
            let (left, right) = (one.min(end), one.max(end).max(one + 1));
            area.draw(&Rectangle::new([(left, top), (right, bottom)], colour(engine).filled()))?;
            text(&area, engine, (BARS_LEFT - 10, y + BAR / 2), 12, HPos::Right)?;
            text(&area, &times(ratio), (right + 6, y + BAR / 2), 12, HPos::Left)?;
            y += BAR;
        }
    }
    Ok(area.present()?)
}

/// A horizontal logarithmic axis.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn over(least: f64, most: f64) -> Self {
        Self { least: least.log10(), most: most.log10() }
    }

    /// Returns the position of a value, in pixels from the left.
    #[allow(clippy::cast_possible_truncation, reason = "pixels of a chart")]
    fn place(&self, value: f64) -> i32 {
        let share = (value.log10() - self.least) / (self.most - self.least);
        BARS_LEFT + (share * f64::from(BARS_RIGHT - BARS_LEFT)).round() as i32
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        let range = self.least..=self.most;
        (-6_i32..=9).filter(move |power| range.contains(&f64::from(*power))).map(|power| 10.0_f64.powi(power))
    }
}

fn label(value: f64) -> String {
    if value >= 1.0 { format!("{value:.0}") } else { format!("{value:.3}").trim_end_matches('0').to_owned() }
}

fn text(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    text: &str,
    place: (i32, i32),
    size: u32,
    anchor: HPos,
) -> Result<()> {
    let style = (FONT, size).into_font().color(&INK).pos(Pos::new(anchor, VPos::Center));
    Ok(area.draw(&Text::new(text.to_owned(), place, style))?)
}

// ---- Growth ---------------------------------------------------------------------------------------------------

/// Draws a panel per operation, with a line per engine.
pub(crate) fn growth(points: &[Point], path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (WIDTH.cast_unsigned(), 960)).into_drawing_area();
    area.fill(&WHITE)?;
    for (operation, panel) in DRAWN.into_iter().zip(area.split_evenly((3, 2))) {
        let here: Vec<&Point> = points.iter().filter(|point| point.operation == operation).collect();
        panel_of(operation, &here, &panel)?;
    }
    Ok(area.present()?)
}

fn panel_of(operation: &str, points: &[&Point], panel: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> {
    let sizes = range(points.iter().map(|point| records(point.size)), 1.2, 1.2);
    // The range is wide enough that a constant cost looks constant, with room for the legend above.
    let costs = range(points.iter().map(|point| micros(point)), 2.0, 12.0);
    let marks = (-3..9).flat_map(|power| [1.0, 3.0].map(|digit| digit * 10.0_f64.powi(power)));
    let marks = marks.filter(|mark| costs.contains(mark)).collect();
    let all_sizes = points.iter().map(|point| records(point.size)).collect();
    let mut chart = ChartBuilder::on(panel)
        .caption(format!("{operation} (µs)"), (FONT, 16))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(56)
        .build_cartesian_2d(
            sizes.log_scale().with_key_points(all_sizes),
            costs.log_scale().with_key_points(marks),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE)
        .axis_style(INK)
        .label_style((FONT, 11))
        .x_label_formatter(&|records| short(*records))
        .y_label_formatter(&|micros| label(*micros))
        .draw()?;
    let mut engines = Vec::new();
    for Point { engine, .. } in points {
        if !engines.contains(engine) {
            engines.push(*engine);
        }
    }
    for engine in engines {
        let line: Vec<_> = points.iter().filter(|point| point.engine == engine).collect();
        let line: Vec<(f64, f64)> = line.iter().map(|point| (records(point.size), micros(point))).collect();
        let style = colour(engine).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.iter().copied(), style))?
            .label(engine)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        chart.draw_series(line.into_iter().map(|place| Circle::new(place, 3, colour(engine).filled())))?;
    }
    let position = SeriesLabelPosition::UpperLeft;
    chart
        .configure_series_labels()
        .position(position)
        .label_font((FONT, 12))
        .background_style(WHITE)
        .draw()?;
    Ok(())
}

/// Returns the range of the values, extended by a factor at both ends.
fn range(values: impl Iterator<Item = f64>, less: f64, more: f64) -> std::ops::Range<f64> {
    let (least, most) =
        values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    least / less..most * more
}

fn records(size: Size) -> f64 {
    float(size.records() as u64)
}

fn micros(point: &Point) -> f64 {
    point.seconds * 1e6
}

fn short(records: f64) -> String {
    if records >= 1e6 { format!("{:.0}M", records / 1e6) } else { format!("{:.0}K", records / 1e3) }
}
