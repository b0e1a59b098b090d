//! `skimjit-train recipe`.

use super::console::{Console, ConsoleOptions};
use super::session::{self, Files, MachineArguments, ThresholdArguments};
use serde::{Deserialize, Serialize};
use skimjit_models::caffe::text;
use skimjit_models::{Error, Result};
use skimjit_trainer::prune::sparsity::{Sparsity, measure};
use skimjit_trainer::recipe::{MethodOptions, Phase, Recipe};
use skimjit_trainer::solver::method::Method;
use skimjit_trainer::solver::report::{Output, Report as _};
use skimjit_trainer::solver::snapshot::write_whole;
use skimjit_trainer::solver::{Request, Solver};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Runs the phases of a recipe one after the other: training, pruning, fine-tuning.
///
/// Every phase has a folder with its network, solver definition, log, metrics and snapshots; it starts from
/// the weights of the phase before. A recipe that is run again into the same folder leaves out phases that
/// are finished, and goes on with the last snapshot of the one that is not. At the end accuracy and zeros are
/// printed, layer by layer.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train recipe lenet.toml --data mnist_train=train_lmdb,mnist_test=test_lmdb -o lenet")]
pub struct Arguments {
    /// Recipe
    #[arg(value_name = "TOML")]
    recipe: PathBuf,
    /// Where data bases are: what the prototxt calls them, and a path
    #[arg(long, value_name = "NAME=PATH,...", value_delimiter = ',', value_parser = parse_place)]
    data: Vec<(String, PathBuf)>,
    /// Weights for the first phase, instead of the recipe's
    #[arg(long, value_name = "CAFFEMODEL")]
    weights: Option<PathBuf>,
    /// Folder for all phases [default: the recipe's name]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    thresholds: ThresholdArguments,
    /// Print only the progress bar, results and errors
    #[arg(long)]
    quiet: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

fn parse_place(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("expected NAME=PATH".to_owned()),
    }
}

/// What a finished phase leaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Finished {
    phase: String,
    /// The trained network.
    weights: PathBuf,
    iterations: u64,
    /// Of the last test of every test network.
    tests: Vec<Vec<Output>>,
    /// Zeros of all parameters of two axes or more.
    sparsity: Vec<Sparsity>,
}

/// File that a finished phase leaves.
const FINISHED: &str = "finished.json";

pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe::read(&arguments.recipe)?;
    arguments.machine.start()?;
    let folder = arguments.recipe.parent().unwrap_or(Path::new(""));
    let output = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(&recipe.name));
    let mut asked = session::requests()?;
    let mut weights = arguments
        .weights
        .clone()
        .or_else(|| recipe.weights.as_ref().map(|path| folder.join(path)));
    let (mut all, mut earlier) = (Vec::new(), Vec::new());
    for (number, phase) in recipe.phases.iter().enumerate() {
        let place = output.join(format!("{}-{}", number + 1, phase.name));
        let run = Run {
            arguments,
            recipe: &recipe,
            phase,
            place: &place,
            earlier: &earlier,
        };
        let finished = match run.finished()? {
            Some(finished) => finished,
            None => match run.run(folder, weights.as_deref(), &mut asked)? {
                Some(finished) => finished,
                None => {
                    super::console::complain(
                        "stopped",
                        &format!("phase {:?}; run the recipe again to go on", phase.name),
                    );
                    return Ok(());
                }
            },
        };
        weights = Some(place.join(&finished.weights));
        earlier.push((phase.name.clone(), place.join(&finished.weights)));
        all.push(finished);
    }
    print(&all, arguments, &output)
}

struct Run<'a> {
    arguments: &'a Arguments,
    recipe: &'a Recipe,
    phase: &'a Phase,
    place: &'a Path,
    /// Names and weights of the phases before.
    earlier: &'a [(String, PathBuf)],
}

impl Run<'_> {
    fn finished(&self) -> Result<Option<Finished>> {
        let path = self.place.join(FINISHED);
        match std::fs::read_to_string(&path) {
            Err(_) => Ok(None),
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
                Error::new(error.to_string())
                    .file(&path)
                    .hint("remove the file to run the phase again")
            }),
        }
    }

    /// Runs the phase to its end; `None` when it was stopped before.
    fn run(
        &self,
        folder: &Path,
        weights: Option<&Path>,
        asked: &mut dyn FnMut() -> Option<Request>,
    ) -> Result<Option<Finished>> {
        let solver = self.write_definitions(folder)?;
        let mut console = Console::new(&ConsoleOptions {
            folder: Some(self.place),
            quiet: self.arguments.quiet,
            json: false,
        })?;
        console.line(&format!("Phase {}", self.phase.name));
        let snapshot = latest_snapshot(self.place);
        let weights: Vec<PathBuf> = weights
            .filter(|_| snapshot.is_none())
            .map(Path::to_owned)
            .into_iter()
            .collect();
        let files = Files {
            solver: &solver,
            weights: &weights,
            snapshot: snapshot.as_deref(),
        };
        let change = |settings: &mut _| self.arguments.thresholds.apply(settings);
        let mut solver = session::open(&files, &self.arguments.machine, change, &mut console)?;
        for method in self.methods(folder)? {
            solver.add_method(method, &mut console)?;
        }
        solver.solve(&mut console, asked)?;
        if solver.iteration() < solver.settings().max_iter && !solver.is_done() {
            console.finish()?;
            return Ok(None);
        }
        let finished = self.finish(&mut solver, &mut console)?;
        console.finish()?;
        Ok(Some(finished))
    }

    /// The methods of the phase; teachers that are phases are files by now.
    fn methods(&self, folder: &Path) -> Result<Vec<Box<dyn Method>>> {
        let net = self.recipe.network(folder, &self.places(), self.phase)?;
        let build = |method: &MethodOptions| {
            let mut method = method.clone();
            if let MethodOptions::Distillation(options) = &mut method
                && let Some(name) = options.phase.take()
            {
                let found = self.earlier.iter().find(|(phase, _)| *phase == name);
                options.teacher = found.map(|(_, weights)| weights.clone());
            }
            method.build(&net)
        };
        self.phase.methods.iter().map(build).collect()
    }

    fn places(&self) -> BTreeMap<String, PathBuf> {
        self.arguments.data.iter().cloned().collect()
    }

    /// Writes the network and the solver definition of the phase; the path of the latter.
    fn write_definitions(&self, folder: &Path) -> Result<PathBuf> {
        let net = self.recipe.network(folder, &self.places(), self.phase)?;
        let mut solver = self.recipe.solver(self.phase)?;
        let net_file = self.place.join("net.prototxt");
        let solver_file = self.place.join("solver.prototxt");
        solver.net = Some(net_file.display().to_string());
        solver.snapshot_prefix = Some(self.place.join("snapshot").display().to_string());
        let write = |path: &Path, text: String| {
            write_whole(path, |path| {
                std::fs::write(path, text).map_err(|error| Error::new(error.to_string()).file(path))
            })
        };
        write(&net_file, text::net_text(&net))?;
        write(&solver_file, text::solver_text(&solver))?;
        Ok(solver_file)
    }

    fn finish(&self, solver: &mut Solver, console: &mut Console) -> Result<Finished> {
        let tests = solver.test(console)?;
        let state = solver.snapshot(console)?;
        let weights = state.with_extension("caffemodel");
        let mut sparsity = Vec::new();
        let engine = solver.engine();
        for index in 0..engine.params().len() {
            engine.edit(index, &mut |param, state| {
                sparsity.extend(measure(param, &state.data, 0.0))
            });
        }
        let finished = Finished {
            phase: self.phase.name.clone(),
            weights: PathBuf::from(weights.file_name().unwrap_or_default()),
            iterations: solver.iteration(),
            tests,
            sparsity,
        };
        let text = serde_json::to_string_pretty(&finished)
            .map_err(|error| Error::new(error.to_string()))?;
        write_whole(&self.place.join(FINISHED), |path| {
            std::fs::write(path, text).map_err(|error| Error::new(error.to_string()).file(path))
        })?;
        Ok(finished)
    }
}

/// The solverstate of a folder with the most iterations.
fn latest_snapshot(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let numbered = entries.filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        let number = name
            .strip_prefix("snapshot_iter_")?
            .strip_suffix(".solverstate")?;
        Some((number.parse::<u64>().ok()?, path))
    });
    numbered.max().map(|(_, path)| path)
}

fn print(all: &[Finished], arguments: &Arguments, folder: &Path) -> Result<()> {
    let mut out = std::io::stdout();
    let mut line = |text: String| {
        // A reader that goes away ends the printing only.
        let _ = writeln!(out, "{text}");
    };
    if arguments.json {
        let text =
            serde_json::to_string_pretty(all).map_err(|error| Error::new(error.to_string()))?;
        line(text);
        return Ok(());
    }
    for finished in all {
        let outputs = finished.tests.iter().flatten();
        let outputs: Vec<String> = outputs
            .map(|output| format!("{} {:.4}", output.name, output.value))
            .collect();
        let total = skimjit_trainer::prune::sparsity::total(&finished.sparsity);
        line(format!(
            "{}: {}; {total:.2} % zeros",
            finished.phase,
            outputs.join(", ")
        ));
    }
    if let Some(last) = all.last() {
        for sparsity in &last.sparsity {
            line(format!(
                "  {:<24} {:>10} weights {:>7.2} % zeros",
                sparsity.layer, sparsity.count, sparsity.element
            ));
        }
        let number = all.len();
        let file = folder
            .join(format!("{number}-{}", last.phase))
            .join(&last.weights);
        line(format!("weights: {}", file.display()));
    }
    Ok(())
}
