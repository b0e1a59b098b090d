//! The page: sections of HTML, one after the other, with nothing loaded from elsewhere.

use super::html::{class, escape, ms};
use super::roofline;
use crate::commands::explain::limit::Bound;
use crate::commands::explain::{Analysis, Layer, Report, advice};
use std::fmt::Write;

/// Shares of zeros for which a layer's time is estimated.
const ZEROS: [f64; 6] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98];

const STYLE: &str = include_str!("style.css");

/// The whole page; `drawing` is the network's graph as SVG.
pub fn html(analysis: &Analysis, drawing: &str) -> String {
    let report = &analysis.report;
    let title = escape(&format!("{} on {}", report.model, report.cpu));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    head(report, &mut page);
    shares(report, &mut page);
    advice_list(report, &mut page);
    bars(report, &mut page);
    section(
        &mut page,
        "Roofline",
        "Each circle is a layer; its area is its share of the time. A layer on a roof is as fast as the \
         machine allows. Point at a circle for its figures.",
    );
    match roofline::svg(report, &analysis.speeds) {
        Some(svg) => {
            let _ = writeln!(page, "<div class=\"wide\">{svg}</div>");
        }
        None => page += "<p>No layer multiplies.</p>\n",
    }
    gains(analysis, &mut page);
    choices(report, &mut page);
    section(
        &mut page,
        "Network",
        "Layers from the input down; the share is that of weights other than zero.",
    );
    let _ = writeln!(page, "<div class=\"graph\">{drawing}</div>");
    let _ = writeln!(
        page,
        "<footer>skimjit {}</footer>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn section(page: &mut String, title: &str, text: &str) {
    let _ = writeln!(page, "<h2>{title}</h2>\n<p class=\"note\">{text}</p>");
}

fn head(report: &Report, page: &mut String) {
    let network = &report.network;
    let _ = writeln!(
        page,
        "<h1>{}</h1>\n<p>{}, {}, batch {}, {} thread{}. One core, measured: {:.0} GFLOP/s at {:.2} GHz, \
         {:.0} GB/s from memory, {:.0} GB/s from the last-level cache.</p>",
        escape(&report.model),
        escape(&report.cpu),
        escape(&report.isa),
        report.batch,
        report.threads,
        if report.threads == 1 { "" } else { "s" },
        report.peak.gflops,
        report.peak.clock_ghz,
        report.peak.read_gbps,
        report.peak.cache_gbps,
    );
    if let Some(doubt) = network.spread.doubt() {
        let _ = writeln!(page, "<p class=\"doubt\">Busy machine: {doubt}.</p>");
    }
    let figure = |value: String, what: &str| format!("<div><b>{value}</b>{what}</div>");
    let over = network.total_ms / network.limit_ms.max(f64::MIN_POSITIVE);
    let figures = [
        figure(format!("{} ms", ms(network.total_ms)), "a batch"),
        figure(
            format!("{:.1}", network.images_per_second),
            "images a second",
        ),
        figure(format!("{over:.2} ×"), "the machine's limit"),
        figure(
            format!("{:.0} %", network.dense.share * 1e2),
            "in dense kernels",
        ),
        figure(format!("{} ms", ms(network.jit_ms)), "to generate the code"),
    ];
    let _ = writeln!(page, "<div class=\"figures\">{}</div>", figures.concat());
}

/// One bar: where the time goes.
fn shares(report: &Report, page: &mut String) {
    let network = &report.network;
    section(
        page,
        "Where the time goes",
        "Dense kernels multiply with every weight; only pruning or a better dense kernel shortens them.",
    );
    let total = network.total_ms.max(f64::MIN_POSITIVE);
    let (mut bar, mut legend) = (String::new(), String::new());
    for (class, what, time) in [
        ("dense", "dense kernels", network.dense.time_ms),
        ("sparse", "sparse kernels", network.sparse.time_ms),
        ("other", "other layers", network.other.time_ms),
        ("outside", "outside of layers", network.outside_ms),
    ] {
        let share = time / total * 1e2;
        if share >= 0.05 {
            let text = format!("{what}: {} ms, {share:.0} %", ms(time));
            let _ = write!(
                bar,
                "<div class=\"{class}\" style=\"flex-grow:{share:.2}\" title=\"{text}\"></div>"
            );
            let _ = write!(legend, "<li><i class=\"{class}\"></i>{text}</li>");
        }
    }
    // Labels beside the bar: inside, those of small parts would be cut.
    let _ = writeln!(
        page,
        "<div class=\"shares\">{bar}</div>\n<ul class=\"legend\">{legend}</ul>"
    );
    if let Some(most) = network.most_without_dense {
        let _ = writeln!(
            page,
            "<p class=\"note\">If everything but the dense kernels took no time, the network would be \
             {most:.2} times as fast (Amdahl).</p>"
        );
    }
}

fn advice_list(report: &Report, page: &mut String) {
    if report.advice.is_empty() {
        return;
    }
    section(
        page,
        "What would help most",
        "Estimated from the limits above.",
    );
    *page += "<ol>\n";
    for advice in &report.advice {
        let _ = writeln!(
            page,
            "<li>{}: the network {} ms instead of {} ms</li>",
            escape(&advice.action),
            ms(advice.network_ms),
            ms(report.network.total_ms)
        );
    }
    *page += "</ol>\n";
}

fn bars(report: &Report, page: &mut String) {
    section(
        page,
        "Time of each layer",
        "The mark in a bar is the layer's limit on this machine: arithmetic on non-zeros, or bytes.",
    );
    let layers = || report.layers.iter().filter(|layer| layer.time_ms > 0.0);
    let longest = layers()
        .map(|layer| layer.time_ms)
        .fold(f64::MIN_POSITIVE, f64::max);
    *page += "<div class=\"wide\"><table class=\"bars\"><thead><tr><th>layer<th>type<th>output<th>density<th>ms<th>time<th>× limit<th>bound<th>of peak<th>kernel</tr></thead><tbody>\n";
    for layer in layers() {
        let limit = layer.limit.limit_ms;
        let mark = match limit > 0.0 {
            true => format!(
                "<i style=\"left:{:.2}%\"></i>",
                limit.min(layer.time_ms) / longest * 1e2
            ),
            false => String::new(),
        };
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"bar\"><div class=\"{}\" \
             style=\"width:{:.2}%\"></div>{mark}<td class=\"n\">{}<td>{}<td class=\"n\">{}<td>{}</tr>",
            escape(&layer.layer),
            escape(layer.kind),
            escape(&layer.shape),
            layer
                .density
                .map(|d| format!("{:.1} %", d * 1e2))
                .unwrap_or_default(),
            ms(layer.time_ms),
            class(&layer.variant),
            layer.time_ms / longest * 1e2,
            if limit > 0.0 {
                format!("{:.2}", layer.time_ms / limit)
            } else {
                String::new()
            },
            bound(layer),
            layer
                .peak_share
                .map(|p| format!("{:.0} %", p * 1e2))
                .unwrap_or_default(),
            escape(&layer.variant),
        );
    }
    *page += "</tbody></table></div>\n";
}

fn bound(layer: &Layer) -> &'static str {
    match layer.limit.bound {
        Bound::Nothing => "",
        Bound::Compute => "arithmetic",
        Bound::Bytes => "bytes",
    }
}

/// What each layer would take at higher sparsity.
fn gains(analysis: &Analysis, page: &mut String) {
    let report = &analysis.report;
    section(
        page,
        "What pruning would gain",
        "Milliseconds of each layer at a share of zeros, estimated: its limit then, over the share of the \
         limit that this network's sparse layers reach. Green: it saves at least 1 % of the network's time.",
    );
    *page += "<div class=\"wide\"><table><thead><tr><th>layer<th>zeros now<th>ms now";
    ZEROS.iter().for_each(|zeros| {
        let _ = write!(page, "<th>{:.0} %", zeros * 1e2);
    });
    *page += "</tr></thead><tbody>\n";
    for layer in &report.layers {
        let Some(density) = layer.density.filter(|_| layer.time_ms > 0.0) else {
            continue;
        };
        let _ = write!(
            page,
            "<tr><td>{}<td class=\"n\">{:.1} %<td class=\"n\">{}",
            escape(&layer.layer),
            (1.0 - density) * 1e2,
            ms(layer.time_ms)
        );
        for zeros in ZEROS {
            let time = advice::pruned_ms(layer, &report.layers, &analysis.speeds, zeros);
            match time.filter(|_| zeros > 1.0 - density) {
                Some(time) => {
                    let saves = layer.time_ms - time > 0.01 * report.network.total_ms;
                    let class = if saves { "n good" } else { "n" };
                    let _ = write!(page, "<td class=\"{class}\">{}", ms(time));
                }
                None => *page += "<td>",
            }
        }
        *page += "</tr>\n";
    }
    *page += "</tbody></table></div>\n";
}

/// Which kernels could compute each layer, and why one was chosen.
fn choices(report: &Report, page: &mut String) {
    section(
        page,
        "Chosen kernels",
        "Estimated and measured milliseconds of each kernel that can compute the layer (of one image, or of \
         the batch for inner products), and why the others lost.",
    );
    for layer in &report.layers {
        if layer.candidates.is_empty() && layer.refused.is_empty() {
            continue;
        }
        let _ = writeln!(
            page,
            "<details><summary><b>{}</b> {}: {}</summary><table><tbody>",
            escape(&layer.layer),
            escape(&layer.variant),
            escape(&layer.why)
        );
        for candidate in &layer.candidates {
            let chosen = if candidate.variant == layer.variant {
                " class=\"chosen\""
            } else {
                ""
            };
            let measured = candidate.measured_ms;
            let _ = writeln!(
                page,
                "<tr{chosen}><td>{}<td class=\"n\">{}<td class=\"n\">{}</tr>",
                escape(&candidate.variant),
                ms(candidate.estimate_ms),
                measured.map_or_else(|| "not worth a trial".to_owned(), ms),
            );
        }
        for refused in &layer.refused {
            let _ = writeln!(
                page,
                "<tr><td>{}<td colspan=\"2\">{}</tr>",
                escape(&refused.variant),
                escape(&refused.reason)
            );
        }
        let _ = writeln!(
            page,
            "</tbody></table><p class=\"note\">code {} bytes, packed weights {} bytes, generated in {} ms</p></details>",
            layer.code_bytes,
            layer.weight_bytes,
            ms(layer.jit_ms)
        );
    }
}
