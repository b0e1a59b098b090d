//! `skimjit-train oneshot`.

use super::trial::{
    Files, Judge, TrialArguments, Verdict, print, print_json, save, warn_of_shares,
};
use serde::Serialize;
use skimjit_caffe::Phase;
use skimjit_host::printable;
use skimjit_models::percent::NoPercent;
use skimjit_models::{Error, Percent, Result};
use skimjit_program::progress;
use skimjit_pruning::allocation::erk;
use skimjit_trainer::engine::Engine;
use skimjit_trainer::onnx::Purpose;
use skimjit_trainer::param::Role;
use skimjit_trainer::prune::one_shot::{LayerReport, Target, one_shot, prunable};
use skimjit_trainer::trial::Stream;
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
///
/// The network is a Caffe definition with weights, or an ONNX file with pictures or arrays (--input) of what it will
/// see. An ONNX file has no labels: how much its outputs on these inputs have changed is told instead of loss and
/// accuracy, ‖after − before‖ / ‖before‖ of each input.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit-train oneshot --prototxt train_val.prototxt --weights net.caffemodel --sparsity 80% --erk -o pruned.caffemodel
  skimjit-train oneshot --prototxt train_val.prototxt --weights net.caffemodel --layers conv2=70%,ip1=95% -o pruned.caffemodel
  skimjit-train oneshot --weights net.onnx --input photos --resize 32x32 --mean-value 127.5 --scale 0.0078125 --channel-order rgb --sparsity 70% -o pruned.onnx")]
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
    /// Batches to calibrate by [default: 10; of an ONNX network all inputs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batches: Option<u32>,
    /// Phase whose data it is calibrated by [default: train]
    #[arg(long, alias = "data", value_name = "PHASE", value_parser = ["train", "test"])]
    phase: Option<String>,
    /// Batches of phase TEST to judge the network by, before and after [default: 10]
    #[arg(long, value_name = "N")]
    test_batches: Option<u32>,
    /// What is added to the second moments, as a part of their mean
    #[arg(long, value_name = "FACTOR", default_value_t = 0.01)]
    damping: f32,
    /// Weights to write, or the network as an ONNX file where it is read from one
    #[arg(short, long, value_name = "CAFFEMODEL|ONNX")]
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
    #[serde(flatten)]
    verdict: Verdict,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if !(arguments.damping.is_finite() && arguments.damping > 0.0) {
        return Err(Error::new(arguments.damping.to_string())
            .field("--damping")
            .expected("more than 0"));
    }
    arguments.trial.machine.start()?;
    let files = arguments.files()?;
    arguments.trial.check_output(&files, &arguments.output)?;
    let mut engine = arguments.trial.machine.engine()?;
    warn_of_shares("--sparsity", [&arguments.sparsity]);
    let own = arguments.layers.iter().filter_map(|(_, own)| own.as_ref());
    warn_of_shares("--layers", own);
    let calibration = arguments.calibration(&files, engine.as_mut())?;
    let targets = targets(arguments, engine.as_ref(), &calibration)?;
    let judge = match &files {
        Files::Caffe(source) => Judge::labels(
            source,
            engine.as_mut(),
            arguments.test_batches.unwrap_or(10),
        )?,
        Files::Onnx(_) => Judge::outputs(engine.as_mut(), calibration.clone())?,
    };
    let layers = prune(arguments, engine.as_mut(), &calibration, &targets)?;
    let verdict = judge.after(engine.as_mut())?;
    save(&files, engine.as_mut(), calibration.id(), &arguments.output)?;
    let zeros = layers.iter().map(|one| one.sparsity * one.weights as f64);
    let count: usize = layers.iter().map(|one| one.weights).sum();
    let summary = Summary {
        sparsity: zeros.sum::<f64>() / count.max(1) as f64,
        layers,
        verdict,
    };
    let norms = engine
        .params()
        .iter()
        .any(|param| param.role == Role::Statistic);
    tell(arguments, &summary, norms)
}

impl Arguments {
    fn files(&self) -> Result<Files> {
        self.trial.files(&[
            (self.batches.is_some(), "--batches"),
            (self.phase.is_some(), "--phase"),
            (self.test_batches.is_some(), "--test-batches"),
        ])
    }
    /// Adds the network as it computes in use, with what it is calibrated by.
    fn calibration(&self, files: &Files, engine: &mut dyn Engine) -> Result<Stream> {
        let source = match files {
            Files::Caffe(source) => source,
            Files::Onnx(onnx) => return onnx.stream(engine, Purpose::Use),
        };
        let phase = match self.phase.as_deref() {
            Some("test") => Phase::Test,
            _ => Phase::Train,
        };
        let stream = source.add(engine, [Phase::Test, phase], self.batches.unwrap_or(10))?;
        self.trial.compare(source, engine.net(stream.id()))?;
        Ok(stream)
    }
}

fn prune(
    arguments: &Arguments,
    engine: &mut dyn Engine,
    calibration: &Stream,
    targets: &[Target],
) -> Result<Vec<LayerReport>> {
    let bar = progress::bar("", targets.len() as u64);
    let mut progress = |report: &LayerReport| {
        bar.set_message(printable::cell(&report.layer).into_owned());
        bar.inc(1);
    };
    let layers = one_shot(
        engine,
        calibration,
        targets,
        arguments.damping,
        &mut progress,
    )?;
    bar.finish_and_clear();
    Ok(layers)
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
    let shares = if arguments.erk {
        let dims = |&index: &usize| -> Vec<usize> {
            let dims = engine.params()[index].shape.dims().iter();
            dims.map(|&dim| dim as usize).collect()
        };
        let dims: Vec<Vec<usize>> = chosen.iter().map(dims).collect();
        let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
        let densities = erk(&dims, 1.0 - arguments.sparsity.share());
        densities.iter().map(|density| 1.0 - density).collect()
    } else {
        vec![arguments.sparsity.share(); chosen.len()]
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
    summary.verdict.print()?;
    print(&format!("wrote {}", arguments.output.display()))?;
    if norms {
        print(
            "the network has BatchNorm layers: `skimjit-train recalibrate` brings their statistics up to date",
        )?;
    }
    Ok(())
}
