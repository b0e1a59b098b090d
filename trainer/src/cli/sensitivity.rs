//! `skimjit-train sensitivity`.

use super::console::write_file;
use super::trial::{TrialArguments, describe, print, print_json, warn_of_shares};
use skimjit_caffe::Phase;
use skimjit_host::printable;
use skimjit_models::{Percent, Result};
use skimjit_program::progress;
use skimjit_trainer::param::prunable;
use skimjit_trainer::prune::sensitivity::{Point, Sensitivity, scan};
use skimjit_trainer::trial::Judgement;
use std::fmt::Write;
use std::path::PathBuf;

/// Judges a network with each convolution and inner product pruned alone, by magnitude, at several
/// levels: which layers can lose most.
///
/// The network of phase TEST runs over batches of its data, which are held in memory.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train sensitivity --prototxt train_val.prototxt --weights net.caffemodel --levels 50,90 --batches 10 -o sensitivity.csv")]
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
    /// Batches of phase TEST to judge by
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
    /// Table to write, as CSV
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    arguments.trial.machine.start()?;
    let source = arguments.trial.source()?;
    let mut engine = arguments.trial.machine.engine()?;
    let stream = source.add(engine.as_mut(), [Phase::Test; 2], arguments.batches)?;
    arguments.trial.compare(&source, engine.net(stream.id()))?;
    warn_of_shares("--levels", &arguments.levels);
    let params = prunable(engine.params(), &arguments.layers, "--layers")?;
    let steps = params.len() * arguments.levels.len();
    let bar = progress::bar("", steps as u64);
    let mut progress = |point: &Point| {
        bar.set_message(printable::cell(&point.layer).into_owned());
        bar.inc(1);
    };
    let levels = arguments.levels.iter().map(|level| level.share());
    let levels: Vec<f64> = levels.collect();
    let found = scan(engine.as_mut(), &stream, &params, &levels, &mut progress)?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.output {
        write_file(path, csv(&found))?;
    }
    if arguments.json {
        let text = serde_json::to_string(&found);
        return print_json(text);
    }
    print(table(&found).trim_end())
}

/// Results that a table shows: not those that the loss is the sum of.
fn columns(judgement: &Judgement) -> impl Iterator<Item = (&str, f64)> {
    let outputs = judgement.outputs.iter();
    let judged = outputs.filter(|output| output.loss_weight.is_none());
    judged
        .map(|output| (output.name.as_str(), output.value))
        .chain([("loss", judgement.loss)])
}

fn table(found: &Sensitivity) -> String {
    let mut text = format!("dense: {}\n", describe(&found.baseline));
    let widest = found.points.iter().map(|point| point.layer.len()).max();
    let width = widest.unwrap_or(0).max(5);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{:width$} {:>10} {:>9}",
        "layer", "weights", "sparsity"
    );
    for (name, _) in columns(&found.baseline) {
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
        for (name, value) in columns(&point.judgement) {
            let width = name.len().max(12);
            let _ = write!(text, " {value:>width$.4}");
        }
        text.push('\n');
    }
    text
}

fn csv(found: &Sensitivity) -> String {
    let quoted = |name: &str| {
        if name.contains([',', '"', '\n']) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.to_owned()
        }
    };
    let mut text = "layer,weights,level,sparsity".to_owned();
    for (name, _) in columns(&found.baseline) {
        let _ = write!(text, ",{}", quoted(name));
    }
    text.push('\n');
    let mut row = |layer: &str, numbers: [String; 3], judgement: &Judgement| {
        let _ = write!(text, "{},{}", quoted(layer), numbers.join(","));
        for (_, value) in columns(judgement) {
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
