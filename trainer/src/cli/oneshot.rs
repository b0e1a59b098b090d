//! `skimjit-train oneshot`.

use super::trial::{TrialArguments, print, print_json, print_judgements, save, warn_of_shares};
use serde::Serialize;
use skimjit_caffe::Phase;
use skimjit_host::printable;
use skimjit_models::percent::NoPercent;
use skimjit_models::{Error, Percent, Result};
use skimjit_program::progress;
use skimjit_trainer::engine::Engine;
use skimjit_trainer::param::{Param, Role};
use skimjit_trainer::prune::allocation::erk;
use skimjit_trainer::prune::one_shot::{LayerReport, Target, one_shot, prunable};
use skimjit_trainer::trial::{Judgement, Stream};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Prunes a trained network without training it: layer by layer, so that the outputs on some batches
/// change least.
///
/// Weights go column by column, and those that stay make up for them (optimal brain surgeon, over the
/// second moments of the layer's inputs); offsets take the change of the means. Later layers see what
/// earlier ones have become. The moments of a layer take at most 340 MB (filters of 9216 inputs), and
/// about three times that is needed while it is pruned; filters that see more are cut into blocks.
/// Batches are held in memory. After it, `recalibrate` networks with BatchNorm.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train oneshot --prototxt train_val.prototxt --weights net.caffemodel --sparsity 80% --erk -o pruned.caffemodel
  skimjit-train oneshot --prototxt train_val.prototxt --weights net.caffemodel --layers conv2=70%,ip1=95% -o pruned.caffemodel")]
pub struct Arguments {
    #[command(flatten)]
    trial: TrialArguments,
    /// Zeros over all chosen layers, in percent: 80 or 80%
    #[arg(long, value_name = "PERCENT", default_value = "80")]
    sparsity: Percent,
    /// The same percentage in every layer, which is the default
    #[arg(long, conflicts_with = "erk")]
    uniform: bool,
    /// More zeros in layers with many weights for their dims (Erdős–Rényi kernel)
    #[arg(long)]
    erk: bool,
    /// Only these layers, instead of all convolutions and inner products; each may have a percentage of its own
    #[arg(long, value_name = "LAYER[=PERCENT],...", value_delimiter = ',', value_parser = layer)]
    layers: Vec<(String, Option<Percent>)>,
    /// Batches to calibrate by
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
    /// Phase whose data it is calibrated by
    #[arg(long, alias = "data", value_name = "PHASE", default_value = "train", value_parser = ["train", "test"])]
    phase: String,
    /// Batches of phase TEST to judge the network by, before and after
    #[arg(long, value_name = "N", default_value_t = 10)]
    test_batches: u32,
    /// What is added to the second moments, as a part of their mean
    #[arg(long, value_name = "FACTOR", default_value_t = 0.01)]
    damping: f32,
    /// Weights to write
    #[arg(short, long, value_name = "CAFFEMODEL")]
    output: PathBuf,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

fn layer(text: &str) -> std::result::Result<(String, Option<Percent>), String> {
    let Some((layer, own)) = text.rsplit_once('=') else {
        return Ok((text.to_owned(), None));
    };
    let own = own.parse().map_err(|wrong: NoPercent| wrong.to_string())?;
    Ok((layer.to_owned(), Some(own)))
}

#[derive(Serialize)]
struct Summary {
    layers: Vec<LayerReport>,
    sparsity: f64,
    before: Option<Judgement>,
    after: Option<Judgement>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if !(arguments.damping.is_finite() && arguments.damping > 0.0) {
        return Err(Error::new(arguments.damping.to_string())
            .field("--damping")
            .expected("more than 0"));
    }
    arguments.trial.machine.start()?;
    let source = arguments.trial.source()?;
    arguments.trial.check_writable(&source)?;
    let mut engine = arguments.trial.machine.engine()?;
    let phase = match arguments.phase.as_str() {
        "train" => Phase::Train,
        _ => Phase::Test,
    };
    warn_of_shares("--sparsity", [&arguments.sparsity]);
    let own = arguments.layers.iter().filter_map(|(_, own)| own.as_ref());
    warn_of_shares("--layers", own);
    let calibration = source.add(engine.as_mut(), [Phase::Test, phase], arguments.batches)?;
    let net = engine.net(calibration.id());
    arguments.trial.compare(&source, net)?;
    let test = source.add_test(engine.as_mut(), arguments.test_batches)?;
    let judge = |engine: &mut dyn Engine| test.as_ref().map(|test| test.judge(engine)).transpose();
    let targets = targets(arguments, engine.as_ref(), &calibration)?;
    let before = judge(engine.as_mut())?;
    let bar = progress::bar("", targets.len() as u64);
    let mut progress = |report: &LayerReport| {
        bar.set_message(printable::cell(&report.layer).into_owned());
        bar.inc(1);
    };
    let layers = one_shot(
        engine.as_mut(),
        &calibration,
        &targets,
        arguments.damping,
        &mut progress,
    )?;
    bar.finish_and_clear();
    let after = judge(engine.as_mut())?;
    save(
        &source.saved(engine.as_mut(), calibration.id()),
        &arguments.output,
    )?;
    let zeros: f64 = layers
        .iter()
        .map(|one| one.sparsity * one.weights as f64)
        .sum();
    let count: usize = layers.iter().map(|one| one.weights).sum();
    let summary = Summary {
        sparsity: zeros / count.max(1) as f64,
        layers,
        before,
        after,
    };
    let norms = engine
        .params()
        .iter()
        .any(|param| param.role == Role::Statistic);
    tell(arguments, &summary, norms)
}

fn targets(arguments: &Arguments, engine: &dyn Engine, stream: &Stream) -> Result<Vec<Target>> {
    let able = prunable(engine, stream);
    let own: BTreeMap<&str, Option<f64>> = arguments
        .layers
        .iter()
        .map(|(layer, own)| (layer.as_str(), own.map(Percent::share)))
        .collect();
    let name = |index: usize| engine.params()[index].layer.as_str();
    if let Some(layer) = own
        .keys()
        .find(|layer| !able.iter().any(|&index| name(index) == **layer))
    {
        let names: Vec<&str> = able.iter().map(|&index| name(index)).collect();
        return Err(Error::new(format!("layer {layer:?}"))
            .field("--layers")
            .expected(format!(
                "layers of phase TEST with weights: {}",
                names.join(", ")
            )));
    }
    let chosen: Vec<usize> = able
        .into_iter()
        .filter(|&index| own.is_empty() || own.contains_key(name(index)))
        .collect();
    let params: Vec<&Param> = chosen
        .iter()
        .map(|&index| &engine.params()[index])
        .collect();
    let shares = if arguments.erk {
        let densities = erk(&params, 1.0 - arguments.sparsity.share());
        densities.iter().map(|density| 1.0 - density).collect()
    } else {
        vec![arguments.sparsity.share(); params.len()]
    };
    let target = |(param, sparsity): (usize, f64)| Target {
        param,
        sparsity: own.get(name(param)).copied().flatten().unwrap_or(sparsity),
    };
    Ok(chosen.iter().copied().zip(shares).map(target).collect())
}

fn tell(arguments: &Arguments, summary: &Summary, norms: bool) -> Result<()> {
    if arguments.json {
        let text = serde_json::to_string(summary);
        return print_json(text);
    }
    let widest = summary.layers.iter().map(|one| one.layer.len()).max();
    let width = widest.unwrap_or(0).max(5);
    print(&format!(
        "{:width$} {:>10} {:>9} {:>12} {:>12}",
        "layer", "weights", "sparsity", "error", "magnitude's"
    ))?;
    for one in &summary.layers {
        let blocks = match one.blocks {
            1 => String::new(),
            blocks => format!("  in {blocks} blocks"),
        };
        print(&format!(
            "{:width$} {:>10} {:>8.2}% {:>11.4}% {:>11.4}%{blocks}",
            printable::cell(&one.layer),
            one.weights,
            100.0 * one.sparsity,
            100.0 * one.error,
            100.0 * one.magnitude_error
        ))?;
    }
    print(&format!("sparsity {:.2}%", 100.0 * summary.sparsity))?;
    print_judgements(&summary.before, &summary.after)?;
    print(&format!("wrote {}", arguments.output.display()))?;
    if norms {
        print(
            "the network has BatchNorm layers: `skimjit-train recalibrate` brings their statistics up to date",
        )?;
    }
    Ok(())
}
