//! The report as text.

use super::layers::{Layer, Work};
use super::tally::Mean;
use super::{Batch, Report};
use crate::support::output::Output;
use crate::support::table::{Table, left, milliseconds, percent, right};

/// Elements of an output that are printed one by one.
const MOST_LINES: usize = 1000;

/// One batch: what Caffe logs while it tests.
pub fn batch(batch: &Batch, out: &mut Output) {
    out.table(&table(
        &batch.layers,
        batch.copies_ms,
        batch.outside_ms,
        None,
    ));
    out.line(format!(
        "Total forwarding time: {} ms",
        milliseconds(batch.forward_ms)
    ));
    out.line(format!(
        "Data waiting time: {} ms",
        milliseconds(batch.waiting_ms)
    ));
    for mean in &batch.outputs {
        for line in lines(mean) {
            out.line(format!("Batch {}, {line}", batch.batch));
        }
    }
}

/// The whole report.
pub fn report(report: &Report, out: &mut Output) {
    out.line(format!(
        "{}, batch {}, {} threads, {} batches; cycles at {:.3} GHz",
        report.isa,
        report.batch,
        report.threads,
        report.iterations,
        report.frequency_hz / 1e9
    ));
    let total = Some((report.forward_ms, &report.total));
    out.table(&table(
        &report.layers,
        report.copies_ms,
        report.outside_ms,
        total,
    ));
    times(report, out);
    out.line(format!("Total-images-processed: {}", report.images));
    if let Some(loss) = report.loss {
        out.line(format!("Loss: {}", number(loss)));
    }
    for mean in &report.outputs {
        for line in lines(mean) {
            out.line(line);
        }
    }
}

fn times(report: &Report, out: &mut Output) {
    let batches = f64::from(report.iterations.max(1));
    out.line(format!(
        "Total forwarding time: {} ms, {} ms per batch",
        milliseconds(report.forward_ms * batches),
        milliseconds(report.forward_ms)
    ));
    out.line(format!(
        "Data waiting time: {} ms, {} of the elapsed {} ms",
        milliseconds(report.waiting_ms),
        percent(report.waiting_share),
        milliseconds(report.elapsed_ms)
    ));
    if let Some(alone) = &report.alone {
        out.line(format!(
            "Without reading data: {} ms per batch; with it {} ms, {:+.2} %",
            milliseconds(alone.ms_per_batch),
            milliseconds(report.elapsed_ms / batches),
            alone.data_cost * 100.0
        ));
    }
    out.line(format!("{:.1} images/s", report.images_per_second));
}

fn table(layers: &[Layer], copies: f64, outside: f64, total: Option<(f64, &Work)>) -> Table {
    let mut table = Table::new([
        left("layer"),
        left("type").extra(),
        left("kernel"),
        right("ms"),
        right("share"),
        right("K-cycles/image").extra(),
        right("MFLOP/image"),
        right("dense GFLOP/s"),
        right("real GFLOP/s"),
    ]);
    for layer in layers {
        table.row(row(layer));
    }
    let sum: f64 = layers.iter().map(|layer| layer.time_ms).sum();
    let all = total.map_or(sum + copies + outside, |(ms, _)| ms);
    let mut extra = |name: &str, ms: f64, work: Option<&Work>| {
        let share = percent(ms / all.max(f64::MIN_POSITIVE));
        let names = [name, "", ""].map(str::to_owned);
        table.row([&names[..], &[milliseconds(ms), share], &speed(work)].concat());
    };
    extra("copies between layers", copies, None);
    extra("outside kernels", outside, None);
    if let Some((ms, work)) = total {
        extra("total", ms, Some(work));
    }
    table
}

/// A layer that does nothing of its own has no time either.
fn row(layer: &Layer) -> Vec<String> {
    let names = [&layer.layer, layer.kind, &layer.kernel].map(str::to_owned);
    if layer.time_ms == 0.0 {
        return names.to_vec();
    }
    let times = [milliseconds(layer.time_ms), percent(layer.share)];
    [&names[..], &times, &speed(layer.work.as_ref())].concat()
}

fn speed(work: Option<&Work>) -> [String; 4] {
    let Some(work) = work else {
        return Default::default();
    };
    [
        format!("{:.1}", work.kilocycles_per_image),
        format!("{:.3}", work.mflop_per_image),
        format!("{:.1}", work.dense_equivalent_gflops),
        format!("{:.1}", work.gflops),
    ]
}

/// `name = mean (* weight = share of the loss)` for every element.
fn lines(mean: &Mean) -> Vec<String> {
    if mean.mean.len() > MOST_LINES {
        let average = mean.mean.iter().sum::<f64>() / mean.mean.len() as f64;
        return vec![format!(
            "{} = {} on average over {} elements, each in --json",
            mean.blob,
            number(average),
            mean.shape
        )];
    }
    let line = |&value: &f64| {
        let weighted = mean.loss_weight.map(f64::from).map(|weight| {
            let term = number(weight * value);
            format!(" (* {weight} = {term} loss)")
        });
        let (blob, value) = (&mean.blob, number(value));
        format!("{blob} = {value}{}", weighted.unwrap_or_default())
    };
    mean.mean.iter().map(line).collect()
}

/// Six digits, without zeros at the end.
fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    match text.contains('.') && value.abs() >= 1e-4 {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false if value == 0.0 => "0".to_owned(),
        false => format!("{value:e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        let found = [0.9857, 1.0, 0.0, -2.5, 1e-9, f64::NAN].map(number);
        assert_eq!(found, ["0.9857", "1", "0", "-2.5", "1e-9", "NaN"]);
    }

    #[test]
    fn losses_show_their_weight() {
        let mut mean = Mean {
            blob: "loss".to_owned(),
            shape: "scalar".to_owned(),
            loss_weight: Some(0.5),
            mean: vec![2.25],
        };
        assert_eq!(lines(&mean), ["loss = 2.25 (* 0.5 = 1.125 loss)"]);
        mean.loss_weight = None;
        mean.mean = vec![0.25, 0.75];
        assert_eq!(lines(&mean), ["loss = 0.25", "loss = 0.75"]);
    }
}
