//! The report as text.

use super::crossover::Crossover;
use super::limit::Bound;
use super::{Layer, Network, Part, Report};
use crate::commands::compile::by;
use crate::support::output::Output;
use crate::support::table::{Table, kib, left, millions, milliseconds, percent, right};

pub fn print(report: &Report, out: &mut Output) {
    let (isa, batch, threads) = (&report.isa, report.batch, report.threads);
    let peak = report.peak;
    out.sentence(format!(
        "{}, {isa}, batch {batch}, {threads} threads",
        report.cpu
    ));
    out.sentence(format!(
        "measured for one core: {:.1} GFLOP/s at {:.2} GHz, {:.1} GB/s read from memory, {:.1} GB/s \
         from the last-level cache",
        peak.gflops, peak.clock_ghz, peak.read_gbps, peak.cache_gbps
    ));
    out.line("");
    out.table(&table(report));
    out.sentence(
        "limit: of this machine, by arithmetic or by bytes; peak: of multiply-adds with weights other \
         than zero; kernels: estimated and measured ms",
    );
    out.line("");
    network(&report.network, out);
    if !report.advice.is_empty() {
        out.line("");
        out.line("what would help most:");
    }
    for (index, advice) in report.advice.iter().enumerate() {
        out.sentence(format!(
            "{}. {}; the network {} ms instead of {} ms",
            index + 1,
            advice.action,
            milliseconds(advice.network_ms),
            milliseconds(report.network.total_ms)
        ));
    }
}

fn table(report: &Report) -> Table {
    let crossovers = report.layers.iter().any(|layer| layer.crossover.is_some());
    let mut columns = vec![
        left("layer"),
        left("type").extra(),
        left("shape"),
        right("density"),
        right("10^6 MACs").extra(),
        right("ms"),
        right("limit ms"),
        left("bound").extra(),
        right("x limit"),
        right("peak"),
        left("variant"),
        left("by").extra(),
        right("code KiB").extra(),
        right("JIT ms").extra(),
    ];
    if crossovers {
        columns.push(right("crossover"));
    }
    let mut table = Table::new(columns);
    for layer in &report.layers {
        table.row(row(layer));
        for note in notes(layer) {
            table.note(format!("  {note}"));
        }
    }
    let network = &report.network;
    let mut sum = |name: &str, ms: f64| {
        let mut cells = vec![String::new(); 6];
        (cells[0], cells[5]) = (name.to_owned(), milliseconds(ms));
        table.row(cells);
    };
    sum("outside of layers", network.outside_ms);
    sum("total", network.total_ms);
    table
}

fn row(layer: &Layer) -> Vec<String> {
    let limit = &layer.limit;
    let timed = |ms: f64| {
        if ms > 0.0 {
            milliseconds(ms)
        } else {
            String::new()
        }
    };
    let over = (limit.limit_ms > 0.0 && layer.time_ms > 0.0)
        .then(|| format!("{:.2}", layer.time_ms / limit.limit_ms));
    let bound = match limit.bound {
        Bound::Nothing => "",
        Bound::Compute => "arithmetic",
        Bound::Bytes => "bytes",
    };
    vec![
        layer.layer.clone(),
        layer.kind.to_owned(),
        layer.shape.clone(),
        layer.density.map(percent).unwrap_or_default(),
        millions(layer.macs_nonzero),
        timed(layer.time_ms),
        timed(limit.limit_ms),
        bound.to_owned(),
        over.unwrap_or_default(),
        layer.peak_share.map(percent).unwrap_or_default(),
        layer.variant.clone(),
        by(layer.basis).to_owned(),
        kib(layer.code_bytes),
        timed(layer.jit_ms),
        layer.crossover.map(crossover).unwrap_or_default(),
    ]
}

fn crossover(found: Crossover) -> String {
    match found {
        Crossover::At(sparsity) => format!("{:.0} %", sparsity * 1e2),
        Crossover::Above(sparsity) => format!("> {:.0} %", sparsity * 1e2),
    }
}

/// Candidates, where there are several, and who refused.
fn notes(layer: &Layer) -> Vec<String> {
    let mut notes = Vec::new();
    if layer.candidates.len() > 1 {
        let candidates = layer.candidates.iter().map(|candidate| {
            let measured = match candidate.measured_ms {
                Some(ms) => milliseconds(ms),
                None => "-".to_owned(),
            };
            let estimate = milliseconds(candidate.estimate_ms);
            format!("{} {estimate} / {measured}", candidate.variant)
        });
        let candidates: Vec<String> = candidates.collect();
        notes.push(format!("{}: {}", candidates.join(", "), layer.why));
    }
    let refused = layer.refused.iter();
    notes.extend(refused.map(|r| format!("not {}: {}", r.variant, r.reason)));
    notes
}

fn network(network: &Network, out: &mut Output) {
    out.sentence(format!(
        "network: {} ms ({:.1} images/s), {:.2} times its limit of {} ms; JIT {} ms",
        milliseconds(network.total_ms),
        network.images_per_second,
        network.total_ms / network.limit_ms.max(f64::MIN_POSITIVE),
        milliseconds(network.limit_ms),
        milliseconds(network.jit_ms)
    ));
    let [low, high] = network.spread.quartiles_ms.map(milliseconds);
    out.sentence(format!(
        "  median {} ms, least {} ms; half of the runs took {low} to {high} ms",
        milliseconds(network.spread.median_ms),
        milliseconds(network.spread.least_ms)
    ));
    let part = |what: &str, part: &Part| {
        format!(
            "  {what}: {} layers, {} ms ({}), limit {} ms",
            part.layers,
            milliseconds(part.time_ms),
            percent(part.share),
            milliseconds(part.limit_ms)
        )
    };
    let mut dense = part("dense kernels", &network.dense);
    if let Some(most) = network.most_without_dense {
        dense += &format!("; without all the rest, the network is {most:.2} times as fast");
    }
    out.sentence(dense);
    out.line(part("sparse kernels", &network.sparse));
    out.line(part("other layers", &network.other));
    out.sentence(format!(
        "  outside of layers: {} ms ({})",
        milliseconds(network.outside_ms),
        percent(network.outside_ms / network.total_ms.max(f64::MIN_POSITIVE))
    ));
    if let Some(memory) = &network.memory {
        out.sentence(format!("  {}", memory.text()));
    }
}
