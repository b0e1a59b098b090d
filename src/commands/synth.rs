//! `skimjit synth`.

use crate::support::output::{self, Output, write_file};
use skimjit_program::progress;
use serde::Serialize;
use skimjit::Result;
use skimjit_caffe as caffe;
use skimjit_caffe::zoo::{self, Net, Sparsity};
use skimjit_models::Percent;
use std::path::PathBuf;

/// Writes a caffemodel of a well-known network with made-up weights of chosen sparsity.
///
/// The same network, sparsity and seed give the same file on any computer.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit synth caffenet --sparsity published --seed 1 -o caffenet.caffemodel")]
pub struct Arguments {
    #[arg(value_name = "NET", value_parser = parse_net, help = nets())]
    net: &'static Net,
    /// Percentage of zero weights (90 and 90% are the same), or "published" for those of SkimCaffe's pruned model
    #[arg(long, value_name = "PERCENT|published", value_parser = SparsityArgument::parse)]
    sparsity: SparsityArgument,
    /// Seed of the random numbers
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 1
    )]
    seed: u64,
    /// Caffemodel to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Prototxt to write
    #[arg(long, value_name = "FILE")]
    prototxt_out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    net: &'static str,
    seed: u64,
    weights: u64,
    zeros: u64,
    output: PathBuf,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let (net, seed) = (arguments.net, arguments.seed);
    let sparsity = arguments.sparsity.sparsity();
    let made = progress::spin("making weights", || zoo::synthesize(net, sparsity, seed))?;
    caffe::write_caffemodel(&made, &arguments.output)?;
    if let Some(file) = &arguments.prototxt_out {
        write_file(file, net.prototxt)?;
    }
    let is_pruned = |kind: &str| matches!(kind, "Convolution" | "InnerProduct");
    let pruned = made.layer.iter().filter(|layer| is_pruned(layer.r#type()));
    let blobs: Vec<&[f32]> = pruned
        .filter_map(|layer| layer.blobs.first())
        .map(|blob| &blob.data[..])
        .collect();
    let count = |keep: fn(f32) -> bool| {
        blobs
            .iter()
            .flat_map(|data| data.iter())
            .filter(|&&w| keep(w))
            .count() as u64
    };
    let (weights, zeros) = (count(|_| true), count(|w| w == 0.0));
    let output = arguments.output.clone();
    if arguments.json {
        return out.json(&Report {
            net: net.name,
            seed,
            weights,
            zeros,
            output,
        });
    }
    let share = 100.0 * zeros as f64 / weights.max(1) as f64;
    out.line(format!(
        "{}: {weights} weights, {share:.2} % zeros",
        output.display()
    ));
    Ok(())
}

/// Help of an argument that is a network of the zoo.
pub fn nets() -> String {
    let names: Vec<&str> = zoo::all().iter().map(|net| net.name).collect();
    format!("Network: {}", names.join(", "))
}

/// A network of the zoo.
pub fn parse_net(name: &str) -> std::result::Result<&'static Net, String> {
    zoo::find(name).ok_or_else(|| {
        let names: Vec<&str> = zoo::all().iter().map(|net| net.name).collect();
        format!("expected one of: {}", names.join(", "))
    })
}

/// Zeros asked for.
#[derive(Clone, Copy)]
pub enum SparsityArgument {
    Published,
    Percent(Percent),
}

impl SparsityArgument {
    /// `published`, or a percentage with or without `%`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if text == "published" {
            return Ok(Self::Published);
        }
        let percent = text.parse::<Percent>();
        let expected = |error| format!("{error}, or \"published\"");
        Ok(Self::Percent(percent.map_err(expected)?))
    }
    /// Warns where a share may have been meant.
    pub fn sparsity(self) -> Sparsity {
        let Self::Percent(percent) = self else {
            return Sparsity::Published;
        };
        if let Some(warning) = percent.warning("--sparsity") {
            output::warn(warning);
        }
        Sparsity::Percent(percent.value())
    }
}

/// Sparsity of networks without published ones, in percent.
const USUAL_PERCENT: f64 = 90.0;

/// The sparsity to use when none is asked for.
pub fn usual_sparsity(net: &Net) -> Sparsity {
    if net.published.is_some() {
        Sparsity::Published
    } else {
        Sparsity::Percent(USUAL_PERCENT)
    }
}
