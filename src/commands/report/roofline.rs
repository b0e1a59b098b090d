//! The roofline plot: what each layer reaches, below what the machine allows.
//!
//! After Williams, Waterman, Patterson, "Roofline: an insightful visual performance model" (2009):
//! GFLOP/s over FLOP per byte, both logarithmic; the roofs are the arithmetic peak and bandwidths.

use super::html::{class, escape};
use crate::commands::explain::limit::Speeds;
use crate::commands::explain::{Layer, Report};
use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;
/// Layers that take less than this share of the network are drawn small.
const SMALL_SHARE: f64 = 0.005;

/// Layers that take more than this share are named.
const NAMED_SHARE: f64 = 0.05;

/// A layer in the plot.
struct Point<'a> {
    layer: &'a Layer,
    flop_per_byte: f64,
    gflops: f64,
}

/// The plot as an SVG element; `None` if no layer multiplies.
pub fn svg(report: &Report, speeds: &Speeds) -> Option<String> {
    let points: Vec<Point<'_>> = report
        .layers
        .iter()
        .filter_map(|layer| Point::of(layer, report.batch))
        .collect();
    let axes = Axes::around(&points, speeds)?;
    let mut svg = format!(
        "<svg class=\"roofline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Roofline plot\">\n"
    );
    axes.draw(&mut svg);
    axes.draw_roofs(speeds, &mut svg);
    let share =
        |point: &Point<'_>| point.layer.time_ms / report.network.total_ms.max(f64::MIN_POSITIVE);
    let circles: Vec<Circle<'_>> = points.iter().map(|p| axes.circle(p, share(p))).collect();
    circles.iter().for_each(|circle| circle.draw(&mut svg));
    name(&circles, &mut svg);
    svg += "</svg>\n";
    Some(svg)
}

impl<'a> Point<'a> {
    fn of(layer: &'a Layer, batch: usize) -> Option<Self> {
        let flop = 2.0 * layer.macs_nonzero as f64 * batch as f64;
        let (bytes, ms) = (layer.limit.bytes as f64, layer.time_ms);
        (flop > 0.0 && bytes > 0.0 && ms > 0.0).then(|| Self {
            layer,
            flop_per_byte: flop / bytes,
            gflops: flop / (ms * 1e6),
        })
    }
}

/// Powers of ten that the plot spans.
struct Axes {
    x: [f64; 2],
    y: [f64; 2],
}

impl Axes {
    fn around(points: &[Point<'_>], speeds: &Speeds) -> Option<Self> {
        let least =
            |value: &dyn Fn(&Point<'_>) -> f64| points.iter().map(value).min_by(f64::total_cmp);
        let most =
            |value: &dyn Fn(&Point<'_>) -> f64| points.iter().map(value).max_by(f64::total_cmp);
        let ridge = speeds.gflops / speeds.weight_gbps.min(speeds.activation_gbps);
        let x = [
            least(&|p| p.flop_per_byte)?.min(0.3),
            most(&|p| p.flop_per_byte)?.max(ridge * 3.0),
        ];
        let y = [least(&|p| p.gflops)?.min(1.0), speeds.gflops * 1.5];
        let powers = |[low, high]: [f64; 2]| [low.log10().floor(), high.log10().ceil()];
        Some(Self {
            x: powers(x),
            y: powers(y),
        })
    }

    fn at(&self, flop_per_byte: f64, gflops: f64) -> (f64, f64) {
        let part = |value: f64, [low, high]: [f64; 2]| (value.log10() - low) / (high - low);
        (
            LEFT + part(flop_per_byte, self.x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - part(gflops, self.y) * (HEIGHT - TOP - BOTTOM),
        )
    }

    fn draw(&self, svg: &mut String) {
        let ends = |[low, high]: [f64; 2]| (10f64.powf(low), 10f64.powf(high));
        let ((x0, x1), (y0, y1)) = (ends(self.x), ends(self.y));
        let powers = |[low, high]: [f64; 2]| low as i32..=high as i32;
        for power in powers(self.x) {
            for part in [2.0, 5.0]
                .map(|part| part * 10f64.powi(power))
                .into_iter()
                .filter(|&x| x < x1)
            {
                let ((x, bottom), (_, top)) = (self.at(part, y0), self.at(part, y1));
                line(svg, "fine", [x, bottom, x, top]);
            }
            let (value, text) = (10f64.powi(power), label(power));
            let ((x, bottom), (_, top)) = (self.at(value, y0), self.at(value, y1));
            line(svg, "grid", [x, bottom, x, top]);
            words(svg, "middle", [x, bottom + 18.0], &text);
        }
        for power in powers(self.y) {
            for part in [2.0, 5.0]
                .map(|part| part * 10f64.powi(power))
                .into_iter()
                .filter(|&y| y < y1)
            {
                let ((left, y), (right, _)) = (self.at(x0, part), self.at(x1, part));
                line(svg, "fine", [left, y, right, y]);
            }
            let (value, text) = (10f64.powi(power), label(power));
            let ((left, y), (right, _)) = (self.at(x0, value), self.at(x1, value));
            line(svg, "grid", [left, y, right, y]);
            words(svg, "end", [left - 8.0, y + 4.0], &text);
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        words(
            svg,
            "middle",
            [middle, HEIGHT - 8.0],
            "FLOP on non-zeros per byte of weights and activations",
        );
        let _ = writeln!(
            svg,
            "<text text-anchor=\"middle\" transform=\"translate(16 {:.1}) rotate(-90)\">GFLOP/s on non-zeros</text>",
            (TOP + HEIGHT - BOTTOM) / 2.0
        );
    }

    fn draw_roofs(&self, speeds: &Speeds, svg: &mut String) {
        let start = 10f64.powf(self.x[0]);
        let end = 10f64.powf(self.x[1]);
        for (what, gbps) in [
            ("memory", speeds.peak.read_gbps),
            ("last-level cache", speeds.activation_gbps),
        ] {
            let ridge = (speeds.gflops / gbps).clamp(start, end);
            // Below the plot's lowest line the roof is cut off.
            let from = start.max(10f64.powf(self.y[0]) / gbps);
            let ((x1, y1), (x2, y2)) = (self.at(from, from * gbps), self.at(ridge, ridge * gbps));
            line(svg, "roof", [x1, y1, x2, y2]);
            let steep = ((y2 - y1) / (x2 - x1)).atan().to_degrees();
            let _ = writeln!(
                svg,
                "<text class=\"roof\" transform=\"translate({:.1} {:.1}) rotate({steep:.1})\">{what} {gbps:.0} GB/s</text>",
                x1 + (x2 - x1) * 0.45,
                y1 + (y2 - y1) * 0.45 - 6.0
            );
        }
        let ((x1, y), (x2, _)) = (
            self.at(speeds.gflops / speeds.activation_gbps, speeds.gflops),
            self.at(end, speeds.gflops),
        );
        line(svg, "roof", [x1, y, x2, y]);
        let text = format!("arithmetic {:.0} GFLOP/s", speeds.gflops);
        words(svg, "end", [x2 - 4.0, y - 6.0], &text);
    }

    fn circle<'p>(&self, point: &'p Point<'p>, share: f64) -> Circle<'p> {
        let (x, y) = self.at(point.flop_per_byte, point.gflops);
        // The area of a circle is the layer's share of the time.
        let radius = if share < SMALL_SHARE {
            2.5
        } else {
            (share * 900.0).sqrt().max(3.5)
        };
        Circle {
            point,
            share,
            x,
            y,
            radius,
        }
    }
}

/// A layer where it is drawn.
struct Circle<'a> {
    point: &'a Point<'a>,
    share: f64,
    x: f64,
    y: f64,
    radius: f64,
}

impl Circle<'_> {
    fn draw(&self, svg: &mut String) {
        let Self {
            point,
            x,
            y,
            radius,
            ..
        } = self;
        let _ = writeln!(
            svg,
            "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{}: {:.1} GFLOP/s at {:.1} \
             FLOP per byte, {:.1} % of the time, {}</title></circle>",
            class(&point.layer.variant),
            escape(&point.layer.layer),
            point.gflops,
            point.flop_per_byte,
            self.share * 1e2,
            escape(&point.layer.variant),
        );
    }
    /// Where its name can stand: right, left, above, below. Left and top, width and height.
    fn places(&self, width: f64) -> [[f64; 4]; 4] {
        let away = self.radius + 3.0;
        let beside = self.y - LETTER[1] / 2.0;
        let middle = self.x - width / 2.0;
        [
            [self.x + away, beside],
            [self.x - away - width, beside],
            [middle, self.y - away - LETTER[1]],
            [middle, self.y + away],
        ]
        .map(|[x, y]| [x, y, width, LETTER[1]])
    }
}

/// Width and height of a letter.
const LETTER: [f64; 2] = [6.6, 13.0];

/// Names the layers that take most of the time, where there is room; the others tell theirs when pointed at.
fn name(circles: &[Circle<'_>], svg: &mut String) {
    let around = |c: &Circle<'_>| {
        let side = 2.0 * c.radius;
        [c.x - c.radius, c.y - c.radius, side, side]
    };
    let mut taken: Vec<[f64; 4]> = circles.iter().map(around).collect();
    let mut named: Vec<&Circle<'_>> = circles.iter().filter(|c| c.share > NAMED_SHARE).collect();
    named.sort_by(|a, b| b.share.total_cmp(&a.share));
    for circle in named {
        let name = &circle.point.layer.layer;
        let places = circle.places(name.chars().count() as f64 * LETTER[0]);
        let inside = |[x, y, w, h]: &[f64; 4]| {
            *x >= LEFT && x + w <= WIDTH - RIGHT && *y >= TOP && y + h <= HEIGHT - BOTTOM
        };
        let free = |place: &&[f64; 4]| inside(place) && !taken.iter().any(|t| overlap(place, t));
        let Some(place) = places.iter().find(free).copied() else {
            continue;
        };
        words(svg, "start", [place[0], place[1] + LETTER[1] - 3.0], name);
        taken.push(place);
    }
}

fn overlap(a: &[f64; 4], b: &[f64; 4]) -> bool {
    a[0] < b[0] + b[2] && b[0] < a[0] + a[2] && a[1] < b[1] + b[3] && b[1] < a[1] + a[3]
}

/// A power of ten as people write it.
fn label(power: i32) -> String {
    match power {
        0..=4 => format!("{}", 10i64.pow(power as u32)),
        -3..=-1 => format!("{}", 10f64.powi(power)),
        _ => format!("1e{power}"),
    }
}

fn line(svg: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn words(svg: &mut String, anchor: &str, [x, y]: [f64; 2], text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(text)
    );
}
