//! The page around the picture.

use skimjit_trainer::history::{History, Series};
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1140px;color:#222}\
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}";

/// One file that loads nothing from elsewhere.
pub fn html(title: &str, history: &History, svg: &str) -> String {
    let title = escaped(title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{svg}\n"
    );
    let last = |series: &Series| {
        series
            .last()
            .map_or(String::new(), |(_, value)| format!("{value:.5}"))
    };
    let best = |series: &Series| {
        let values = series.iter().map(|(_, value)| *value);
        values.fold(f64::NEG_INFINITY, f64::max)
    };
    page.push_str("<h2>Tests</h2>\n<table><tr><th>result</th><th>last</th><th>highest</th></tr>\n");
    for (name, series) in &history.tests {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{:.5}</td></tr>",
            escaped(name),
            last(series),
            best(series)
        );
    }
    page.push_str("</table>\n<h2>Zeros</h2>\n<table><tr><th>weights</th><th>%</th></tr>\n");
    let total = ("all".to_owned(), history.total.clone());
    for (name, series) in history.sparsity.iter().chain([&total]) {
        let value = series
            .last()
            .map_or(String::new(), |(_, value)| format!("{value:.2}"));
        let _ = writeln!(page, "<tr><td>{}</td><td>{value}</td></tr>", escaped(name));
    }
    page.push_str("</table>\n");
    if !history.events.is_empty() {
        page.push_str("<h2>What was done</h2>\n<table><tr><th>iteration</th><th></th></tr>\n");
        let count = history.events.len();
        for (n, text) in history.events.iter().skip(count.saturating_sub(200)) {
            let _ = writeln!(page, "<tr><td>{n}</td><td>{}</td></tr>", escaped(text));
        }
        page.push_str("</table>\n");
    }
    page + "</body></html>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
