//! `skimjit-train sensitivity`.

use super::console::write_file;
use super::trial::{Files, TrialArguments, describe, print, print_json, warn_of_shares};
use serde::Serialize;
use skimjit_caffe::Phase;
use skimjit_host::printable;
use skimjit_models::{Percent, Result};
use skimjit_program::progress;
use skimjit_trainer::engine::Engine;
use skimjit_trainer::onnx::Purpose;
use skimjit_trainer::param::prunable;
use skimjit_trainer::prune::change::{Change, Outputs};
use skimjit_trainer::prune::sensitivity::{Point, Sensitivity, scan_by};
use skimjit_trainer::trial::Judgement;
use std::fmt::Write;
use std::path::PathBuf;

/// Judges a network with each convolution and inner product pruned alone, by magnitude, at several
/// levels: which layers can lose most.
///
/// The network of phase TEST runs over batches of its data, which are held in memory. An ONNX network runs over its
/// inputs (--input), and how much its outputs have changed is told instead of loss and accuracy: ‖after − before‖ /
/// ‖before‖ of an input, in the mean and at most, and the share of inputs whose best class is the same.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit-train sensitivity --prototxt train_val.prototxt --weights net.caffemodel --levels 50,90 --batches 10 -o sensitivity.csv
  skimjit-train sensitivity --weights net.onnx --input photos --resize 32x32 --scale 0.0078125 --levels 50,90 -o sensitivity.csv")]
pub struct Arguments {
    #[command(flatten)]
    trial: TrialArguments,
    /// Zeros in percent: 90 or 90%
    #[arg(
        long,
        value_name = "PERCENT,...",
        value_delimiter = ',',
        default_value = "50,70,90,95,98"
    )]
    levels: Vec<Percent>,
    /// Only these layers, instead of all convolutions and inner products
    #[arg(long, value_name = "LAYER,...", value_delimiter = ',')]
    layers: Vec<String>,
    /// Batches of phase TEST to judge by [default: 10; of an ONNX network all inputs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batches: Option<u32>,
    /// Table to write, as CSV
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    arguments.trial.machine.start()?;
    let files = arguments
        .trial
        .files(&[(arguments.batches.is_some(), "--batches")])?;
    let mut engine = arguments.trial.machine.engine()?;
    let engine = engine.as_mut();
    match &files {
        Files::Caffe(source) => {
            let stream = source.add(engine, [Phase::Test; 2], arguments.batches.unwrap_or(10))?;
            arguments.trial.compare(source, engine.net(stream.id()))?;
            arguments.scan(engine, &mut |engine| stream.judge(engine))
        }
        Files::Onnx(onnx) => {
            let stream = onnx.stream(engine, Purpose::Use)?;
            let outputs = Outputs::of(engine, &stream)?;
            arguments.scan(engine, &mut |engine| outputs.change(engine, &stream))
        }
    }
}

impl Arguments {
    fn scan<J: Judged>(
        &self,
        engine: &mut dyn Engine,
        judge: &mut dyn FnMut(&mut dyn Engine) -> Result<J>,
    ) -> Result<()> {
        warn_of_shares("--levels", &self.levels);
        let params = prunable(engine.params(), &self.layers, "--layers")?;
        let steps = params.len() * self.levels.len();
        let bar = progress::bar("", steps as u64);
        let mut progress = |point: &Point<J>| {
            bar.set_message(printable::cell(&point.layer).into_owned());
            bar.inc(1);
        };
        let levels: Vec<f64> = self.levels.iter().map(|level| level.share()).collect();
        let found = scan_by(engine, &params, &levels, judge, &mut progress)?;
        bar.finish_and_clear();
        if let Some(path) = &self.output {
            write_file(path, csv(&found))?;
        }
        if self.json {
            let text = serde_json::to_string(&found);
            return print_json(text);
        }
        print(table(&found).trim_end())
    }
}

/// What a network is judged by.
trait Judged: Serialize {
    /// Results that a table shows, by name.
    fn columns(&self) -> Vec<(String, f64)>;
    /// Of the network as it is, where it is not nothing.
    fn dense(&self) -> Option<String>;
}

impl Judged for Judgement {
    /// Not those that the loss is the sum of.
    fn columns(&self) -> Vec<(String, f64)> {
        let outputs = self.outputs.iter();
        let judged = outputs.filter(|output| output.loss_weight.is_none());
        judged
            .map(|output| (output.name.clone(), output.value))
            .chain([("loss".to_owned(), self.loss)])
            .collect()
    }
    fn dense(&self) -> Option<String> {
        Some(describe(self))
    }
}

impl Judged for Change {
    fn columns(&self) -> Vec<(String, f64)> {
        let mut columns = Vec::new();
        for change in &self.changes {
            let name = &change.output;
            columns.push((format!("{name} mean"), change.mean));
            columns.push((format!("{name} largest"), change.largest));
            columns.extend(
                change
                    .same_class
                    .map(|same| (format!("{name} same class"), same)),
            );
        }
        columns
    }
    fn dense(&self) -> Option<String> {
        None
    }
}

fn table<J: Judged>(found: &Sensitivity<J>) -> String {
    let dense = found.baseline.dense();
    let mut text = dense.map_or_else(String::new, |dense| format!("dense: {dense}\n"));
    let widest = found.points.iter().map(|point| point.layer.len()).max();
    let width = widest.unwrap_or(0).max(5);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{:width$} {:>10} {:>9}",
        "layer", "weights", "sparsity"
    );
    for (name, _) in found.baseline.columns() {
        let _ = write!(text, " {name:>12}");
    }
    text.push('\n');
    for point in &found.points {
        let _ = write!(
            text,
            "{:width$} {:>10} {:>8.2}%",
            printable::cell(&point.layer),
            point.weights,
            100.0 * point.sparsity
        );
        for (name, value) in point.judgement.columns() {
            let width = name.len().max(12);
            let _ = write!(text, " {value:>width$.4}");
        }
        text.push('\n');
    }
    text
}

fn csv<J: Judged>(found: &Sensitivity<J>) -> String {
    let quoted = |name: &str| {
        if name.contains([',', '"', '\n']) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.to_owned()
        }
    };
    let mut text = "layer,weights,level,sparsity".to_owned();
    for (name, _) in found.baseline.columns() {
        let _ = write!(text, ",{}", quoted(&name));
    }
    text.push('\n');
    let mut row = |layer: &str, numbers: [String; 3], judgement: &J| {
        let _ = write!(text, "{},{}", quoted(layer), numbers.join(","));
        for (_, value) in judgement.columns() {
            let _ = write!(text, ",{value}");
        }
        text.push('\n');
    };
    let none = || [String::new(), String::new(), String::new()];
    row("", none(), &found.baseline);
    for point in &found.points {
        let numbers = [
            point.weights.to_string(),
            point.level.to_string(),
            point.sparsity.to_string(),
        ];
        row(&point.layer, numbers, &point.judgement);
    }
    text
}
