//! `skimjit synth`.

use super::output::{Output, write_file};
use super::progress;
use serde::Serialize;
use skimjit::Result;
use skimjit::models::caffe;
use skimjit::models::zoo::{self, Net, Sparsity};
use std::path::PathBuf;

/// Writes a caffemodel of a well-known network with made-up weights of chosen sparsity.
///
/// The same network, sparsity and seed give the same file on any computer.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit synth caffenet --sparsity published --seed 1 -o caffenet.caffemodel")]
pub struct Arguments {
    /// Network: lenet, cifar10-quick, squeezenet, googlenet, resnet-50, caffenet, alexnet, vgg-16,
    /// mobilenet-ssd
    #[arg(value_name = "NET", value_parser = parse_net)]
    net: &'static Net,
    /// Percentage of zero weights, or "published" for those of SkimCaffe's pruned model
    #[arg(long, value_name = "PERCENT|published", value_parser = parse_sparsity)]
    sparsity: Sparsity,
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
    let made = progress::spin("making weights", || {
        zoo::synthesize(net, arguments.sparsity, seed)
    })?;
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

/// A network of the zoo.
pub fn parse_net(name: &str) -> std::result::Result<&'static Net, String> {
    zoo::find(name).ok_or_else(|| {
        let names: Vec<&str> = zoo::all().iter().map(|net| net.name).collect();
        format!("expected one of: {}", names.join(", "))
    })
}

/// `published`, or a percentage with or without `%`.
pub fn parse_sparsity(text: &str) -> std::result::Result<Sparsity, String> {
    if text == "published" {
        return Ok(Sparsity::Published);
    }
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Sparsity::Percent(percent)),
        _ => Err("expected \"published\" or a percentage of 0 to 100".to_owned()),
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
