//! The picture: two charts, one above the other.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use skimjit_trainer::history::{History, Series};
use std::path::Path;

/// Width and height, in pixels.
const SIZE: (u32, u32) = (1100, 900);

type Drawn<T> = std::result::Result<T, String>;

/// The picture as SVG.
pub fn svg(history: &History) -> Drawn<String> {
    load_font()?;
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    draw(history, &area)?;
    drop(area);
    Ok(text)
}

/// The picture as PNG.
pub fn png(history: &History, path: &Path) -> Drawn<()> {
    load_font()?;
    let area = BitMapBackend::new(path, SIZE).into_drawing_area();
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

fn draw<B: DrawingBackend>(history: &History, area: &DrawingArea<B, Shift>) -> Drawn<()> {
    area.fill(&WHITE).map_err(text)?;
    let (upper, lower) = area.split_vertically((58).percent_height());
    let end = last(history);
    accuracy(history, &upper, end)?;
    loss(history, &lower, end)?;
    area.present().map_err(text)
}

fn last(history: &History) -> f64 {
    let tests = history.tests.values().flatten();
    let all = history.loss.iter().chain(tests);
    all.map(|(n, _)| *n).fold(1.0, f64::max)
}

/// Colours that differ for as many lines as layers.
fn color(index: usize, count: usize) -> HSLColor {
    HSLColor(index as f64 / count.max(1) as f64 * 0.85, 0.65, 0.45)
}

/// Results of tests that are shares of 1.
fn shares(history: &History) -> Vec<(&String, &Series)> {
    let is_share = |series: &Series| series.iter().all(|(_, value)| (0.0..=1.0).contains(value));
    let named = |name: &str| !name.contains("loss");
    history
        .tests
        .iter()
        .filter(|(name, series)| named(name) && is_share(series))
        .collect()
}

/// Accuracies and zeros, both in percent.
fn accuracy<B: DrawingBackend>(
    history: &History,
    area: &DrawingArea<B, Shift>,
    end: f64,
) -> Drawn<()> {
    let mut chart = ChartBuilder::on(area)
        .caption("accuracy and zeros", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(52)
        // As below, so that iterations are at the same places.
        .right_y_label_area_size(66)
        .build_cartesian_2d(0.0..end, 0.0..100.0)
        .map_err(text)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("iteration")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .y_desc("%")
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(text)?;
    let count = history.sparsity.len();
    for (index, (name, series)) in history.sparsity.iter().enumerate() {
        let color = color(index, count);
        let line = LineSeries::new(series.iter().copied(), color.stroke_width(1));
        let drawn = chart.draw_series(line).map_err(text)?;
        drawn
            .label(format!("zeros of {name}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
    }
    if !history.total.is_empty() && count > 1 {
        let line = LineSeries::new(
            history.total.iter().copied(),
            BLACK.mix(0.6).stroke_width(2),
        );
        let drawn = chart.draw_series(line).map_err(text)?;
        drawn
            .label("zeros of all")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], BLACK.mix(0.6)));
    }
    for (name, series) in shares(history) {
        let points: Vec<(f64, f64)> = series
            .iter()
            .map(|(n, value)| (*n, 100.0 * value))
            .collect();
        let line = LineSeries::new(points.clone(), RED.stroke_width(3));
        let drawn = chart.draw_series(line).map_err(text)?;
        drawn
            .label(name.as_str())
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], RED.stroke_width(3)));
        let dots = points
            .into_iter()
            .map(|point| Circle::new(point, 3, RED.filled()));
        chart.draw_series(dots).map_err(text)?;
    }
    phases(history, 100.0, |line| {
        chart.draw_series(line).map(drop).map_err(text)
    })?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()
        .map_err(text)
}

/// Dashed lines where phases begin.
fn phases(
    history: &History,
    top: f64,
    mut draw: impl FnMut(DashedLineSeries<std::vec::IntoIter<(f64, f64)>, u32>) -> Drawn<()>,
) -> Drawn<()> {
    for (n, _) in &history.phases {
        let line = vec![(*n, 0.0), (*n, top)];
        draw(DashedLineSeries::new(line, 5, 4, BLACK.mix(0.4).into()))?;
    }
    Ok(())
}

/// Loss on the left, learning rate on the right.
fn loss<B: DrawingBackend>(history: &History, area: &DrawingArea<B, Shift>, end: f64) -> Drawn<()> {
    let most = |series: &Series| {
        series
            .iter()
            .map(|(_, value)| *value)
            .filter(|value| value.is_finite())
            .fold(1e-9, f64::max)
    };
    let (loss, rate) = (most(&history.loss), most(&history.rate));
    let mut chart = ChartBuilder::on(area)
        .caption("loss and learning rate", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(52)
        .right_y_label_area_size(66)
        .build_cartesian_2d(0.0..end, 0.0..loss * 1.05)
        .map_err(text)?
        .set_secondary_coord(0.0..end, 0.0..rate * 1.1);
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("iteration")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .y_desc("loss")
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(text)?;
    chart
        .configure_secondary_axes()
        .y_desc("learning rate")
        .y_label_formatter(&|rate| format!("{rate:.1e}"))
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(text)?;
    let line = LineSeries::new(history.loss.iter().copied(), BLUE.stroke_width(2));
    let drawn = chart.draw_series(line).map_err(text)?;
    drawn
        .label("loss")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], BLUE));
    let line = LineSeries::new(history.rate.iter().copied(), GREEN.mix(0.8).stroke_width(1));
    let drawn = chart.draw_secondary_series(line).map_err(text)?;
    drawn
        .label("learning rate")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], GREEN.mix(0.8)));
    phases(history, loss * 1.05, |line| {
        chart.draw_series(line).map(drop).map_err(text)
    })?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()
        .map_err(text)
}
