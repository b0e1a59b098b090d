//! `skimjit-train recalibrate`.

use super::trial::{TrialArguments, print, print_json, print_judgements, save};
use serde::Serialize;
use skimjit_caffe::Phase;
use skimjit_models::{Error, Result};
use skimjit_trainer::engine::Engine;
use skimjit_trainer::prune::recalibration::recalibrate;
use skimjit_trainer::trial::Judgement;
use std::path::PathBuf;

/// Gathers the running statistics of all BatchNorm layers anew, which no longer fit after pruning.
///
/// The network of phase TRAIN runs forward over its data; the statistics become the means over these
/// batches. With `--test-batches`, the network of phase TEST is judged before and after.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train recalibrate --prototxt train_val.prototxt --weights pruned.caffemodel --batches 100 -o recalibrated.caffemodel")]
pub struct Arguments {
    #[command(flatten)]
    trial: TrialArguments,
    /// Batches to gather statistics from
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
    /// Batches of phase TEST to judge the network by
    #[arg(long, value_name = "N", default_value_t = 0)]
    test_batches: u32,
    /// Weights to write
    #[arg(short, long, value_name = "CAFFEMODEL")]
    output: PathBuf,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Summary {
    layers: usize,
    batches: u32,
    before: Option<Judgement>,
    after: Option<Judgement>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    arguments.trial.machine.start()?;
    let source = arguments.trial.source()?;
    arguments.trial.check_writable(&source)?;
    let mut engine = arguments.trial.machine.engine()?;
    let (net, mut feed) = source.open(Phase::Train, Phase::Train)?;
    let id = engine.add(net)?;
    arguments.trial.compare(&source, engine.net(id))?;
    let test = source.add_test(engine.as_mut(), arguments.test_batches)?;
    let judge = |engine: &mut dyn Engine| test.as_ref().map(|test| test.judge(engine)).transpose();
    let before = judge(engine.as_mut())?;
    let layers = recalibrate(engine.as_mut(), id, &mut feed, arguments.batches)?;
    if layers == 0 {
        return Err(Error::new("no BatchNorm layer that gathers statistics")
            .file(&arguments.trial.model)
            .expected("BatchNorm layers, without use_global_stats: true in phase TRAIN"));
    }
    let after = judge(engine.as_mut())?;
    save(&source.saved(engine.as_mut(), id), &arguments.output)?;
    let summary = Summary {
        layers,
        batches: arguments.batches,
        before,
        after,
    };
    if arguments.json {
        return print_json(serde_json::to_string(&summary));
    }
    print(&format!(
        "{layers} BatchNorm layers from {} batches",
        summary.batches
    ))?;
    print_judgements(&summary.before, &summary.after)?;
    print(&format!("wrote {}", arguments.output.display()))
}
