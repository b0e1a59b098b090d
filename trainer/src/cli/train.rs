//! `skimjit-train train`.

use super::console::{Console, ConsoleOptions, say};
use super::results;
use super::session::{self, CareArguments, Files, MachineArguments, ThresholdArguments};
use skimjit_models::Result;
use std::path::PathBuf;

/// Trains what a solver definition says, as `caffe train`.
///
/// Ctrl-C writes a snapshot and stops, with exit code 130; a second one stops at once. SIGHUP writes a snapshot. With
/// `--snapshot`, a run goes on as if it had not been interrupted: same data, same random numbers.
/// `solver_mode` and `device_id` are ignored: `--device` decides, and a note tells where a GPU was meant.
///
/// Relative paths in the definitions are looked for from the working folder, as in Caffe, and where there is
/// nothing, from the folder of the file that names them; snapshots go to the working folder. At the end the
/// last figures are printed, and the command that compiles the network.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train train --solver lenet_solver.prototxt --threads 2 --log run
  skimjit-train train --solver lenet_solver.prototxt --snapshot lenet_iter_5000.solverstate")]
pub struct Arguments {
    /// Solver definition
    #[arg(long, value_name = "PROTOTXT")]
    solver: PathBuf,
    /// Weights to start from; of several files, later ones win
    #[arg(
        long,
        value_name = "CAFFEMODEL,...",
        value_delimiter = ',',
        conflicts_with = "snapshot"
    )]
    weights: Vec<PathBuf>,
    /// Snapshot to go on from
    #[arg(long, value_name = "SOLVERSTATE")]
    snapshot: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    thresholds: ThresholdArguments,
    #[command(flatten)]
    care: CareArguments,
    /// On a terminal, print the whole log and not only tests, warnings and the progress bar
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Folder for the log (train.info) and the metrics (metrics.jsonl), which are appended to
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// Print only the progress bar, warnings, the final figures and errors
    #[arg(short, long)]
    quiet: bool,
    /// Print the metrics on standard output, one JSON document per line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    arguments.machine.start()?;
    let mut console = Console::new(&ConsoleOptions {
        folder: arguments.log.as_deref(),
        quiet: arguments.quiet,
        verbose: arguments.verbose,
        json: arguments.json,
    })?;
    let files = Files {
        solver: &arguments.solver,
        weights: &arguments.weights,
        snapshot: arguments.snapshot.as_deref(),
        care: arguments.care.care(),
    };
    let mut asked = session::requests()?;
    let change = |settings: &mut _| arguments.thresholds.apply(settings);
    let mut solver = session::open(&files, &arguments.machine, change, &mut console)?;
    solver.solve(&mut console, &mut asked)?;
    session::tell_end(&solver);
    let lines = results::describe(&mut solver, console.tracked());
    console.finish()?;
    // With --json, standard output is for programs.
    if !arguments.json {
        lines.iter().for_each(|line| say(line));
    }
    Ok(())
}
