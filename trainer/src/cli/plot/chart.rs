//! The picture: charts of accuracy, zeros and loss, one above the other, with their legends beside them.

use super::series::{clipped, sampled, zoomed};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::register_font;
use skimjit_trainer::history::{History, Series};
use std::ops::Range;
use std::path::Path;

/// Width of the picture, and of the legends on its right, in pixels.
const WIDTH: u32 = 1180;
const LEGEND: u32 = 230;
/// Height of a chart of lines.
const LINES: u32 = 300;
/// Layers that lines tell apart; more of them are rows of a heat map.
const MOST_LINES: usize = 10;
/// Height of a heat map's row, of all of them at most, and of a label.
const ROW: usize = 12;
const MOST_ROWS: usize = 1200;
const LABEL: usize = 12;
/// Columns of a heat map.
const COLUMNS: usize = 160;
/// Around a chart.
const MARGIN: u32 = 12;
const CAPTION: u32 = 30;
const X_LABELS: u32 = 34;
/// Letters of a name in a legend.
const MOST_LETTERS: usize = 24;

type Drawn<T> = std::result::Result<T, String>;
type Area<B> = DrawingArea<B, Shift>;
type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The picture as SVG.
pub fn svg(history: &History) -> Drawn<String> {
    load_font()?;
    let mut text = String::new();
    let size = (WIDTH, height(history));
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    draw(history, &area)?;
    drop(area);
    // Mitres of sharp angles would leave the data.
    Ok(text.replacen("<svg ", "<svg stroke-linejoin=\"round\" ", 1))
}

/// The picture as PNG.
pub fn png(history: &History, path: &Path) -> Drawn<()> {
    load_font()?;
    let area = BitMapBackend::new(path, (WIDTH, height(history))).into_drawing_area();
    draw(history, &area)
}

/// The font comes with the program: it needs none of the machine's.
fn load_font() -> Drawn<()> {
    for style in [FontStyle::Normal, FontStyle::Bold] {
        register_font("sans-serif", style, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| "the font that comes with the program cannot be read".to_owned())?;
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    format!("an error when drawing: {error}")
}

/// How zeros are shown.
enum Zeros {
    /// There are none.
    Nothing,
    Lines,
    /// Rows of layers, the last one all of them.
    Map,
}

impl Zeros {
    fn of(history: &History) -> Self {
        let some = |(_, series): &(String, Series)| series.iter().any(|(_, zeros)| *zeros > 0.0);
        match history.sparsity.len() {
            _ if !history.sparsity.iter().any(some) => Self::Nothing,
            count if count <= MOST_LINES => Self::Lines,
            _ => Self::Map,
        }
    }
    fn height(&self, history: &History) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Lines => LINES,
            Self::Map => {
                let rows = history.sparsity.len() + 1;
                2 * MARGIN + CAPTION + X_LABELS + (rows * ROW).min(MOST_ROWS) as u32
            }
        }
    }
}

fn height(history: &History) -> u32 {
    2 * LINES + Zeros::of(history).height(history)
}

fn draw<B: DrawingBackend>(history: &History, area: &Area<B>) -> Drawn<()> {
    area.fill(&WHITE).map_err(text)?;
    let end = last(history);
    let (upper, rest) = area.split_vertically(LINES);
    accuracy(history, &upper, end)?;
    let zeros = Zeros::of(history);
    let (middle, lower) = rest.split_vertically(zeros.height(history));
    match zeros {
        Zeros::Nothing => {}
        Zeros::Lines => zero_lines(history, &middle, end)?,
        Zeros::Map => zero_map(history, &middle, end)?,
    }
    loss(history, &lower, end)?;
    area.present().map_err(text)
}

fn last(history: &History) -> f64 {
    let tests = history.tests.values().flatten();
    let all = history.loss.iter().chain(tests);
    all.map(|(n, _)| *n).fold(1.0, f64::max)
}

/// Colours that differ for so many lines.
fn color(index: usize, count: usize) -> RGBAColor {
    HSLColor(index as f64 / count.max(1) as f64 * 0.85, 0.65, 0.45).to_rgba()
}

/// A line of a legend.
struct Entry {
    label: String,
    color: RGBAColor,
    width: u32,
}

impl Entry {
    fn new(label: &str, color: RGBAColor, width: u32) -> Self {
        Self {
            label: shortened(label),
            color,
            width,
        }
    }
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= MOST_LETTERS {
        return label.to_owned();
    }
    let kept: String = label.chars().take(MOST_LETTERS - 1).collect();
    format!("{kept}…")
}

fn legend<B: DrawingBackend>(area: &Area<B>, entries: &[Entry]) -> Drawn<()> {
    for (index, entry) in entries.iter().enumerate() {
        let y = (MARGIN + CAPTION) as i32 + 10 + 20 * index as i32;
        let line = PathElement::new([(6, y), (28, y)], entry.color.stroke_width(entry.width));
        area.draw(&line).map_err(text)?;
        label(area, &entry.label, (36, y - 5), 13)?;
    }
    Ok(())
}

fn label<B: DrawingBackend>(area: &Area<B>, words: &str, at: (i32, i32), size: u32) -> Drawn<()> {
    let style = ("sans-serif", size).into_font().color(&BLACK);
    area.draw(&Text::new(words.to_owned(), at, style))
        .map_err(text)
}

/// Width of the axis on the right, which the other charts leave empty.
const RIGHT_AXIS: u32 = 66;

/// What all charts have in common, so that iterations are at the same places.
fn frame<'a, B: DrawingBackend>(area: &'a Area<B>, caption: &str) -> ChartBuilder<'a, 'a, B> {
    let mut builder = ChartBuilder::on(area);
    builder
        .caption(caption, ("sans-serif", 20))
        .margin(MARGIN)
        .margin_right(MARGIN + RIGHT_AXIS)
        .x_label_area_size(X_LABELS)
        .y_label_area_size(58);
    builder
}

fn mesh<B: DrawingBackend>(chart: &mut Chart<'_, B>, y: &str) -> Drawn<()> {
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("iteration")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .y_desc(y)
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(text)
}

/// A line through points, as far as they are in the range. Thick lines are segments with round ends: joints of
/// mitres would leave the data.
fn curve<B: DrawingBackend>(
    chart: &mut Chart<'_, B>,
    points: &[(f64, f64)],
    range: &Range<f64>,
    (color, width): (RGBAColor, u32),
) -> Drawn<()> {
    let segments = clipped(points, range);
    if width > 1 {
        let ends = segments.iter().flatten();
        let dots = ends.map(|&point| Circle::new(point, (width / 2) as i32, color.filled()));
        chart.draw_series(dots).map_err(text)?;
    }
    let style = color.stroke_width(width);
    let lines = segments
        .iter()
        .map(|ends| PathElement::new(ends.to_vec(), style));
    chart.draw_series(lines).map(drop).map_err(text)
}

/// Results of tests that are shares of 1.
fn shares(history: &History) -> Vec<(&String, Series)> {
    let is_share = |series: &Series| series.iter().all(|(_, value)| (0.0..=1.0).contains(value));
    let shares = history
        .tests
        .iter()
        .filter(|(name, series)| !name.contains("loss") && is_share(series));
    let percent = |series: &Series| {
        series
            .iter()
            .map(|(n, value)| (*n, 100.0 * value))
            .collect()
    };
    shares
        .map(|(name, series)| (name, percent(series)))
        .collect()
}

/// Accuracies in percent, on an axis that shows where they differ.
fn accuracy<B: DrawingBackend>(history: &History, area: &Area<B>, end: f64) -> Drawn<()> {
    let (left, right) = area.split_horizontally(WIDTH - LEGEND);
    let shares = shares(history);
    let all: Vec<&Series> = shares.iter().map(|(_, series)| series).collect();
    let range = zoomed(&all, end);
    let mut chart = frame(&left, "accuracy")
        .build_cartesian_2d(0.0..end, range.clone())
        .map_err(text)?;
    mesh(&mut chart, "%")?;
    phases(history, &range, &mut chart)?;
    let mut entries = Vec::new();
    for (index, (name, series)) in shares.iter().enumerate() {
        let color = color(index, shares.len());
        curve(&mut chart, series, &range, (color, 3))?;
        let inside = series.iter().filter(|(_, value)| range.contains(value));
        let dots = inside.map(|&point| Circle::new(point, 3, color.filled()));
        chart.draw_series(dots).map_err(text)?;
        let value = series
            .last()
            .map_or(String::new(), |(_, value)| format!(" {value:.2} %"));
        entries.push(Entry::new(&format!("{}{value}", shortened(name)), color, 3));
    }
    for (_, name) in &history.phases {
        entries.push(Entry::new(&format!("from {name}"), BLACK.mix(0.4), 1));
    }
    entries.truncate((LINES as usize - 60) / 20);
    legend(&right, &entries)
}

fn zero_lines<B: DrawingBackend>(history: &History, area: &Area<B>, end: f64) -> Drawn<()> {
    let (left, right) = area.split_horizontally(WIDTH - LEGEND);
    let range = 0.0..100.0;
    let mut chart = frame(&left, "zeros")
        .build_cartesian_2d(0.0..end, range.clone())
        .map_err(text)?;
    mesh(&mut chart, "%")?;
    phases(history, &range, &mut chart)?;
    let count = history.sparsity.len();
    let mut entries = Vec::new();
    for (index, (name, series)) in history.sparsity.iter().enumerate() {
        let color = color(index, count);
        curve(&mut chart, series, &range, (color, 1))?;
        entries.push(Entry::new(name, color, 1));
    }
    if !history.total.is_empty() && count > 1 {
        let grey = RGBColor(90, 90, 90).to_rgba();
        curve(&mut chart, &history.total, &range, (grey, 3))?;
        entries.push(Entry::new("all", grey, 3));
    }
    legend(&right, &entries)
}

/// White for no zeros, dark blue for nothing else.
fn shade(percent: f64) -> RGBColor {
    let part = (percent / 100.0).clamp(0.0, 1.0);
    let mix = |from: f64, to: f64| (from + (to - from) * part) as u8;
    RGBColor(mix(255.0, 8.0), mix(255.0, 48.0), mix(255.0, 107.0))
}

/// A row for each layer, from dense (white) to nothing but zeros (dark).
fn zero_map<B: DrawingBackend>(history: &History, area: &Area<B>, end: f64) -> Drawn<()> {
    let (left, _) = area.split_horizontally(WIDTH - LEGEND);
    let all = ("all".to_owned(), history.total.clone());
    let rows: Vec<&(String, Series)> = history.sparsity.iter().chain([&all]).collect();
    let count = rows.len() as f64;
    let mut chart = frame(&left, "zeros of layers: white 0 %, dark 100 %")
        .build_cartesian_2d(0.0..end, count..0.0)
        .map_err(text)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .disable_y_axis()
        .x_desc("iteration")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(text)?;
    for (row, (_, series)) in rows.iter().enumerate() {
        let top = row as f64;
        let cells = sampled(series, end, COLUMNS)
            .into_iter()
            .map(|(from, to, zeros)| {
                Rectangle::new([(from, top), (to, top + 1.0)], shade(zeros).filled())
            });
        chart.draw_series(cells).map_err(text)?;
    }
    phases(history, &(0.0..count), &mut chart)?;
    let (columns, pixels) = chart.plotting_area().get_pixel_range();
    let row_height = f64::from(pixels.end - pixels.start) / count;
    let every = (LABEL as f64 / row_height).ceil().max(1.0) as usize;
    // Beside the rows, in the coordinates of the whole area.
    let (across, down) = area.get_pixel_range();
    let x = columns.end - across.start + 8;
    let first = f64::from(pixels.start - down.start);
    for (row, (name, series)) in rows.iter().enumerate().step_by(every) {
        let middle = first + (row as f64 + 0.5) * row_height;
        let zeros = series.last().map_or(0.0, |(_, zeros)| *zeros);
        let words = format!("{zeros:.1} % {}", shortened(name));
        label(area, &words, (x, middle as i32 - 5), 11)?;
    }
    Ok(())
}

/// Dashed lines where phases begin.
fn phases<B: DrawingBackend>(
    history: &History,
    range: &Range<f64>,
    chart: &mut Chart<'_, B>,
) -> Drawn<()> {
    for (n, _) in &history.phases {
        let line = vec![(*n, range.start), (*n, range.end)];
        let dashed = DashedLineSeries::new(line, 5, 4, BLACK.mix(0.4).into());
        chart.draw_series(dashed).map_err(text)?;
    }
    Ok(())
}

/// Loss on the left, learning rate on the right.
fn loss<B: DrawingBackend>(history: &History, area: &Area<B>, end: f64) -> Drawn<()> {
    let (left, right) = area.split_horizontally(WIDTH - LEGEND);
    let most = |series: &Series| {
        let values = series.iter().map(|(_, value)| *value);
        values
            .filter(|value| value.is_finite())
            .fold(1e-9, f64::max)
    };
    let (losses, rates) = (
        0.0..most(&history.loss) * 1.05,
        0.0..most(&history.rate) * 1.1,
    );
    let mut chart = frame(&left, "loss and learning rate")
        .margin_right(MARGIN)
        .right_y_label_area_size(RIGHT_AXIS)
        .build_cartesian_2d(0.0..end, losses.clone())
        .map_err(text)?
        .set_secondary_coord(0.0..end, rates.clone());
    mesh(&mut chart, "loss")?;
    chart
        .configure_secondary_axes()
        .y_desc("learning rate")
        .y_label_formatter(&|rate| format!("{rate:.1e}"))
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(text)?;
    phases(history, &losses, &mut chart)?;
    let green = RGBColor(0, 150, 60).to_rgba();
    let line = LineSeries::new(history.rate.iter().copied(), green.stroke_width(1));
    chart.draw_secondary_series(line).map_err(text)?;
    curve(&mut chart, &history.loss, &losses, (BLUE.to_rgba(), 2))?;
    let entries = [
        Entry::new("loss", BLUE.to_rgba(), 2),
        Entry::new("learning rate", green, 1),
    ];
    legend(&right, &entries)
}
