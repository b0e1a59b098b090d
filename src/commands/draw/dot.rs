//! The picture for Graphviz.

use super::picture::Picture;
use std::fmt::Write;

/// The whole picture.
pub fn text(picture: &Picture) -> String {
    let mut dot = format!(
        "digraph {} {{\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n",
        quoted(&picture.name)
    );
    for (index, card) in picture.boxes.iter().enumerate() {
        let mut lines = vec![card.title.clone()];
        lines.extend(card.lines.iter().cloned());
        lines.push(card.shape.clone());
        lines.extend(
            card.density
                .map(|density| format!("density {:.2} %", 100.0 * density)),
        );
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(dot, "  n{index} [label={}];", quoted(&lines.join("\n")));
    }
    for [from, to] in &picture.edges {
        let _ = writeln!(dot, "  n{from} -> n{to};");
    }
    dot + "}\n"
}

fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
