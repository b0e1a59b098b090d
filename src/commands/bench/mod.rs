//! `skimjit bench`.

mod matrices;
mod measure;
mod network;
mod report;
mod sweep;

use crate::support::args::{AskedTuneArguments, MOST_IMAGES, MachineArguments, iterations_parser};
use crate::support::output::Output;
use crate::support::problem::Problem;
use skimjit_program::progress;
use crate::commands::synth::{SparsityArgument, nets, parse_net};
use measure::Measure;
use report::Report;
use skimjit::{CompileOptions, Result};
use skimjit_caffe::zoo::Net;
use skimjit_runtime::jit::CpuInfo;
use skimjit_runtime::machine;
use std::path::PathBuf;

/// Measures sparse kernels beside dense ones, layer by layer, and a whole network against its dense
/// plan.
///
/// The network is made up with the sparsities asked for, compiled, and verified once. Sparse and
/// dense run by turns; times are medians. A layer is measured on its own, so its weights stay in the
/// caches that hold them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit bench --net caffenet
  skimjit bench --net googlenet --batch 1,16 --layers inception_3a/3x3
  skimjit bench --net caffenet --sweep
  skimjit bench --mtx coo_conv2.mtx --problem g2mb1ic96ih27oc256oh27kh5ph2
  skimjit bench --mtx pruned_layers --batch 1,16")]
pub struct Arguments {
    #[arg(long, value_name = "NET", default_value = "caffenet", value_parser = parse_net, help = nets())]
    net: &'static Net,
    /// Only these layers
    #[arg(long, alias = "layer", value_name = "LAYER,...", value_delimiter = ',')]
    layers: Vec<String>,
    /// Percentage of zero weights (90 and 90% are the same) [default: published, or 90]
    #[arg(long, value_name = "PERCENT|published", value_parser = SparsityArgument::parse)]
    sparsity: Option<SparsityArgument>,
    /// Every sparse variant and the dense one at 0 to 98 % zeros: the layers named, or some that
    /// differ most
    #[arg(long, conflicts_with = "sparsity")]
    sweep: bool,
    /// Images computed together; several numbers are measured one after the other [default: 1]
    #[arg(
        long,
        value_name = "N,...",
        allow_negative_numbers = true,
        value_delimiter = ','
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_IMAGES))]
    batch: Vec<u32>,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    tune: AskedTuneArguments,
    /// Runs of each kernel to measure [default: as many as fit a moment, 5 to 200]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = iterations_parser())]
    iterations: Option<u32>,
    /// Seed of the weights
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 1
    )]
    seed: u64,
    /// Weights of one layer as a MatrixMarket file, instead of a network; or a folder of such files
    #[arg(long, value_name = "FILE|FOLDER", conflicts_with_all = ["net", "layers", "sparsity", "sweep"])]
    mtx: Option<PathBuf>,
    /// Problem that the weights are for, as in `verify --kernel` [default: that of the layer which
    /// the file is named after, in the network whose name is in the path]
    #[arg(long, value_name = "PROBLEM", requires = "mtx", value_parser = Problem::parse)]
    problem: Option<Problem>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let measure = measure(arguments)?;
    let mut report = Report {
        cpu: CpuInfo::query().model_name,
        isa: measure.isa.to_string(),
        threads: measure.options.threads,
        peak: measure.peak,
        seed: arguments.seed,
        cases: Vec::new(),
    };
    let (batches, chosen) = (&arguments.batch[..], &arguments.layers[..]);
    let usual: &[u32] = if batches.is_empty() { &[1] } else { batches };
    report.cases = match &arguments.mtx {
        Some(mtx) => matrices::cases(&measure, mtx, arguments.problem.as_ref(), batches)?,
        None if arguments.sweep => sweep::cases(&measure, arguments.net, chosen, usual)?,
        None => {
            let sparsity = arguments.sparsity.map(SparsityArgument::sparsity);
            network::cases(&measure, arguments.net, sparsity, chosen, usual)?
        }
    };
    if arguments.json {
        return out.json(&report);
    }
    report.print(out);
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<Measure> {
    let isa = arguments.machine.isa()?;
    let options = CompileOptions {
        // Shares of the peak mean most for one core.
        threads: arguments.machine.threads()?.unwrap_or(1),
        tuning: arguments.tune.tuning()?,
        ..arguments.machine.options()?
    };
    Ok(Measure {
        options,
        isa,
        peak: Some(progress::spin("measuring the machine", || {
            machine::measure(isa)
        })?),
        iterations: arguments.iterations,
        seed: arguments.seed,
    })
}
