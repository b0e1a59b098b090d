//! `skimjit report`.

mod html;
mod page;
mod roofline;

use crate::support::args::{EngineArguments, ModelArguments, TuneArguments, iterations_parser};
use crate::commands::draw;
use crate::commands::explain::Subject;
use crate::support::output::{self, Output};
use skimjit::Result;
use std::path::PathBuf;

/// Writes a page about a network on this machine, to be looked at in a browser: time of each layer
/// beside its limit, roofline plot, what pruning would gain, the chosen kernels and why, and the
/// network's graph.
///
/// The page is one file and loads nothing from elsewhere. `explain --json` has the same figures.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit report net.caffemodel -o net.html")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    tune: TuneArguments,
    /// Runs to measure [default: as many as fit 3 seconds, 5 to 200]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = iterations_parser())]
    iterations: Option<u32>,
    /// Page to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let subject = Subject {
        model: &arguments.model,
        engine: &arguments.engine,
        tune: &arguments.tune,
        iterations: arguments.iterations,
        // The drawing says how many are zero.
        keep_weights: true,
    };
    let analysis = subject.analyse()?;
    let text = page::html(&analysis, &draw::svg(analysis.engine.graph()));
    let path = &arguments.output;
    output::write_file(path, &text)?;
    let network = &analysis.report.network;
    out.line(format!(
        "{}: {} layers, {} ms, {:.2} times the limit, {:.0} % in dense kernels",
        path.display(),
        analysis.report.layers.len(),
        crate::support::table::milliseconds(network.total_ms),
        network.total_ms / network.limit_ms.max(f64::MIN_POSITIVE),
        network.dense.share * 1e2
    ));
    Ok(())
}
