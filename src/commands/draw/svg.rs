//! The picture as SVG: no scripts, nothing from elsewhere.

use super::layout::layout;
use super::picture::{Card, Family, Picture};
use skimjit_host::{octets, printable};
use std::fmt::Write;

/// Width of a letter and height of a line, of 12 pixels.
const LETTER: [f64; 2] = [7.3, 15.0];
/// Between text and border.
const PADDING: f64 = 8.0;

/// Fill and border of a box.
fn colors(family: Family) -> [&'static str; 2] {
    match family {
        Family::Input => ["#eceff1", "#78909c"],
        Family::Convolution => ["#e3f2fd", "#1e88e5"],
        Family::InnerProduct => ["#ede7f6", "#7e57c2"],
        Family::Pooling => ["#fff3e0", "#fb8c00"],
        Family::Normalization => ["#e8f5e9", "#43a047"],
        Family::Combination => ["#fce4ec", "#d81b60"],
        Family::Other => ["#fafafa", "#9e9e9e"],
    }
}

/// Lines of a box, the title first.
fn lines(card: &Card) -> Vec<String> {
    let mut lines = vec![card.title.clone()];
    lines.extend(card.lines.iter().cloned());
    lines.push(card.shape.clone());
    lines
}

fn size(card: &Card) -> [f64; 2] {
    let lines = lines(card);
    let longest = lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or_default();
    let bar = if card.density.is_some() { 10.0 } else { 0.0 };
    [
        (longest as f64 * LETTER[0] + 2.0 * PADDING).max(90.0),
        lines.len() as f64 * LETTER[1] + 2.0 * PADDING + bar,
    ]
}

/// The whole picture.
pub fn text(picture: &Picture) -> String {
    let sizes: Vec<[f64; 2]> = picture.boxes.iter().map(size).collect();
    let layout = layout(&sizes, &picture.edges);
    let [width, height] = layout.size;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>{}</title>\n\
         <g fill=\"none\" stroke=\"#607d8b\" stroke-width=\"1.3\">\n",
        escaped(&picture.name)
    );
    for path in &layout.paths {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(svg, "<path d=\"{}\"/>", curve(path));
        if let Some([x, y]) = path.last() {
            // Edges end vertically.
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {y:.1} l-4 -7 h8 z\" fill=\"#607d8b\" stroke=\"none\"/>"
            );
        }
    }
    svg.push_str("</g>\n");
    for ((card, corner), size) in picture.boxes.iter().zip(&layout.corners).zip(&sizes) {
        draw(card, *corner, *size, &mut svg);
    }
    svg + "</svg>\n"
}

/// A line through the points that leaves and meets each of them vertically.
fn curve(points: &[[f64; 2]]) -> String {
    let mut text = String::new();
    for (index, [x, y]) in points.iter().enumerate() {
        match index.checked_sub(1).map(|before| points[before]) {
            None => {
                let _ = write!(text, "M{x:.1} {y:.1}");
            }
            Some([before_x, before_y]) => {
                let half = (before_y + y) / 2.0;
                let _ = write!(
                    text,
                    " C{before_x:.1} {half:.1} {x:.1} {half:.1} {x:.1} {y:.1}"
                );
            }
        }
    }
    text
}

fn draw(card: &Card, [x, y]: [f64; 2], [width, height]: [f64; 2], svg: &mut String) {
    let [fill, border] = colors(card.family);
    let _ = writeln!(
        svg,
        "<g><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\" \
         fill=\"{fill}\" stroke=\"{border}\"/>"
    );
    let middle = x + width / 2.0;
    for (index, line) in lines(card).iter().enumerate() {
        let weight = if index == 0 {
            " font-weight=\"600\""
        } else {
            " fill=\"#37474f\""
        };
        let line_y = y + PADDING + (index as f64 + 0.75) * LETTER[1];
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{line_y:.1}\" text-anchor=\"middle\"{weight}>{}</text>",
            escaped(line)
        );
    }
    if let Some(density) = card.density {
        let (left, top, whole) = (
            x + PADDING,
            y + height - PADDING - 6.0,
            width - 2.0 * PADDING,
        );
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{whole:.1}\" height=\"6\" fill=\"#ffffff\" \
             stroke=\"{border}\" stroke-width=\"0.6\"/>\
             <rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"6\" fill=\"{border}\"/>\
             <title>{:.2} % of the weights are not zero</title>",
            whole * density,
            100.0 * density
        );
    }
    svg.push_str("</g>\n");
}

/// For element contents and attributes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c if octets::byte(c).is_some() => {
                escaped.push_str(&printable::cell(c.encode_utf8(&mut [0; 4])));
            }
            c => escaped.push(c),
        }
    }
    escaped
}
