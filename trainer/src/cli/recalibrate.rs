//! `skimjit-train recalibrate`.

use super::trial::{Files, Judge, Onnx, TrialArguments, Verdict, print, print_json, save};
use serde::Serialize;
use skimjit_caffe::Phase;
use skimjit_models::{Error, Result};
use skimjit_trainer::engine::{Engine, NetId};
use skimjit_trainer::onnx::Purpose;
use skimjit_trainer::prune::recalibration::{recalibrate, recalibrate_by};
use skimjit_trainer::trial::Source;
use std::path::PathBuf;

/// Gathers the running statistics of all BatchNorm layers anew, which no longer fit after pruning.
///
/// The network of phase TRAIN runs forward over its data; the statistics become the means over these
/// batches. With `--test-batches`, the network of phase TEST is judged before and after.
///
/// An ONNX network runs over its inputs (--input), up to 16 in a batch, and the change of its outputs is told.
/// Many exporters fold BatchNormalization into convolutions: then there is nothing to recalibrate.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit-train recalibrate --prototxt train_val.prototxt --weights pruned.caffemodel --batches 100 -o recalibrated.caffemodel
  skimjit-train recalibrate --weights pruned.onnx --input photos --resize 32x32 --scale 0.0078125 -o recalibrated.onnx")]
pub struct Arguments {
    #[command(flatten)]
    trial: TrialArguments,
    /// Batches to gather statistics from [default: 100; of an ONNX network all inputs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batches: Option<u32>,
    /// Batches of phase TEST to judge the network by [default: 0]
    #[arg(long, value_name = "N")]
    test_batches: Option<u32>,
    /// Weights to write, or the network as an ONNX file where it is read from one
    #[arg(short, long, value_name = "CAFFEMODEL|ONNX")]
    output: PathBuf,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Summary {
    layers: usize,
    batches: u32,
    #[serde(flatten)]
    verdict: Verdict,
}

/// What was recalibrated.
struct Done {
    net: NetId,
    layers: usize,
    batches: u32,
    verdict: Verdict,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    arguments.trial.machine.start()?;
    let files = arguments.trial.files(&[
        (arguments.batches.is_some(), "--batches"),
        (arguments.test_batches.is_some(), "--test-batches"),
    ])?;
    arguments.trial.check_output(&files, &arguments.output)?;
    let mut engine = arguments.trial.machine.engine()?;
    let done = match &files {
        Files::Caffe(source) => arguments.caffe(source, engine.as_mut())?,
        Files::Onnx(network) => arguments.onnx(network, engine.as_mut())?,
    };
    save(&files, engine.as_mut(), done.net, &arguments.output)?;
    let summary = Summary {
        layers: done.layers,
        batches: done.batches,
        verdict: done.verdict,
    };
    if arguments.json {
        return print_json(serde_json::to_string(&summary));
    }
    print(&format!(
        "{} BatchNorm layers from {} batches",
        summary.layers, summary.batches
    ))?;
    summary.verdict.print()?;
    print(&format!("wrote {}", arguments.output.display()))
}

impl Arguments {
    fn caffe(&self, source: &Source, engine: &mut dyn Engine) -> Result<Done> {
        let (net, mut feed) = source.open(Phase::Train, Phase::Train)?;
        let net = engine.add(net)?;
        self.trial.compare(source, engine.net(net))?;
        let judge = Judge::labels(source, engine, self.test_batches.unwrap_or(0))?;
        let batches = self.batches.unwrap_or(100);
        let layers = recalibrate(engine, net, &mut feed, batches)?;
        if layers == 0 {
            return Err(Error::new("no BatchNorm layer that gathers statistics")
                .file(source.definition.file())
                .expected("BatchNorm layers, without use_global_stats: true in phase TRAIN"));
        }
        let verdict = judge.after(engine)?;
        Ok(Done {
            net,
            layers,
            batches,
            verdict,
        })
    }

    fn onnx(&self, onnx: &Onnx, engine: &mut dyn Engine) -> Result<Done> {
        if !onnx.network.has_batch_norm() {
            return Err(Error::new("no BatchNormalization")
                .file(&self.trial.weights[0])
                .expected("BatchNormalization nodes, whose statistics are gathered anew")
                .hint("exporters fold them into convolutions, and then there is nothing to recalibrate; PyTorch keeps \
                       them with torch.onnx.export(..., training=TrainingMode.PRESERVE, dynamo=False)"));
        }
        let stream = onnx.stream(engine, Purpose::Use)?;
        let gathering = onnx.stream(engine, Purpose::Statistics)?;
        let judge = Judge::outputs(engine, stream)?;
        let layers = recalibrate_by(engine, &gathering)?;
        let verdict = judge.after(engine)?;
        Ok(Done {
            net: gathering.id(),
            layers,
            batches: gathering.batches().len() as u32,
            verdict,
        })
    }
}
