//! `skimjit-train recipe`.

use super::console::{Console, ConsoleOptions, WARNINGS, complain, warn, write_file};
use super::results;
use super::session::{self, CareArguments, Files, MachineArguments, ThresholdArguments};
use super::trial::print_json;
use serde::{Deserialize, Serialize};
use skimjit_caffe::{Definition, paths};
use skimjit_host::printable;
use skimjit_models::{Error, Result};
use skimjit_trainer::executor::CpuEngine;
use skimjit_trainer::prune::sparsity::{Sparsity, measure};
use skimjit_trainer::recipe::{MethodOptions, Phase, Recipe, in_phase};
use skimjit_trainer::solver::method::Method;
use skimjit_trainer::solver::report::{Output, Report as _, Silent};
use skimjit_trainer::solver::{Request, Solver, Start};
use skimjit_trainer::weights::compare;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Runs the phases of a recipe one after the other: training, pruning, fine-tuning.
///
/// All phases are checked before the first one runs: layers, methods, files, weights and data. Every phase has a
/// folder with its network, solver definition, log, metrics and snapshots; it starts from
/// the weights of the phase before. A recipe that is run again into the same folder leaves out phases that
/// are finished, and goes on with the last snapshot of the one that is not. Ctrl-C writes a snapshot and stops, with
/// exit code 130. At the end accuracy and zeros are
/// printed, layer by layer, and the command that compiles the network.
///
/// Relative paths in recipe and network are looked for from the working folder, as in Caffe, and where there is
/// nothing, from the folder of the file that names them. BatchNorm's statistics are gathered anew before each
/// test of a phase that prunes and at its end (recalibrate = 0 in the recipe switches that off).
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
    /// Folder to write all phases into [default: the recipe's name]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    thresholds: ThresholdArguments,
    #[command(flatten)]
    care: CareArguments,
    /// On a terminal, print the whole log and not only tests, warnings and the progress bar
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Print only the progress bar, warnings, results and errors
    #[arg(short, long)]
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

/// What a phase is run by.
struct Definitions {
    /// The solver's.
    file: PathBuf,
    /// Batches that BatchNorm's statistics are gathered anew from before tests.
    batches: u32,
}

/// File of a phase's network.
const NET: &str = "net.prototxt";
/// File that a finished phase leaves.
const FINISHED: &str = "finished.json";

pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe::read(&arguments.recipe)?;
    arguments.machine.start()?;
    let file = arguments.recipe.display();
    let told = recipe.warnings.iter();
    told.for_each(|told| warn(format!("{file}: {told}")));
    let output = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(&recipe.name));
    // What is odd about the network is told once, not in every phase.
    let net = Definition::read(&recipe.net, arguments.care.care(), &mut |told| warn(told))?;
    WARNINGS.check()?;
    net.refuse_unknown()?;
    let mut asked = session::requests()?;
    let mut weights = arguments.weights.clone().or_else(|| recipe.weights.clone());
    check(arguments, &recipe, &output, weights.as_deref())?;
    let (mut all, mut earlier) = (Vec::new(), Vec::new());
    let mut next = None;
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
            None => match run.run(weights.as_deref(), &mut asked)? {
                Some((finished, command)) => {
                    next = command;
                    finished
                }
                None => {
                    session::note_stop();
                    complain(
                        "stopped",
                        format!("phase {:?}; run the recipe again to go on", phase.name),
                    );
                    return Ok(());
                }
            },
        };
        weights = Some(place.join(&finished.weights));
        earlier.push((phase.name.clone(), place.join(&finished.weights)));
        all.push(finished);
    }
    print(&all, arguments, &output, next.as_deref())
}

/// Builds all phases that are not finished, before anything runs and before anything is written.
fn check(
    arguments: &Arguments,
    recipe: &Recipe,
    output: &Path,
    weights: Option<&Path>,
) -> Result<()> {
    // Those of the phase before, once it is finished; what a phase makes later cannot be checked now.
    let mut weights = weights.map(Path::to_owned);
    for (number, phase) in recipe.phases.iter().enumerate() {
        let place = output.join(format!("{}-{}", number + 1, phase.name));
        let run = Run {
            arguments,
            recipe,
            phase,
            place: &place,
            earlier: &[],
        };
        let finished = run.finished()?;
        if finished.is_none() {
            let checked = run.check(weights.take().as_deref());
            checked.map_err(|error| in_phase(error, phase).file(&arguments.recipe))?;
        }
        weights = finished.map(|finished| place.join(finished.weights));
    }
    Ok(())
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

    /// Builds the phase on the CPU without running or writing anything.
    fn check(&self, weights: Option<&Path>) -> Result<()> {
        let net = self.network()?;
        let definition = self.recipe.solver(self.phase)?.with_net(net.clone());
        let mut settings = definition.settings()?;
        self.arguments.thresholds.apply(&mut settings);
        let care = self.arguments.care.care();
        let networks = definition.networks(care, &mut |_| ())?;
        let paths: Vec<PathBuf> = weights.map(Path::to_owned).into_iter().collect();
        let files = session::read_weights(&paths)?;
        let start = Start {
            weights: &files,
            resume: None,
        };
        let engine = Box::new(CpuEngine::default());
        let mut solver = Solver::new(settings, &networks, engine, start, &mut Silent)?;
        let id = solver.net();
        let named: Vec<_> = paths.iter().map(PathBuf::as_path).zip(&files).collect();
        compare(solver.engine().net(id), &named)?;
        for method in &self.phase.methods {
            let learns =
                matches!(method, MethodOptions::Distillation(options) if options.phase.is_some());
            // The weights of a teacher that is a phase are not there yet.
            if !learns {
                solver.add_method(method.kind(), method.build(&net)?, &mut Silent)?;
            }
        }
        Ok(())
    }

    /// Runs the phase to its end; `None` when it was stopped before. Also the command to run next.
    fn run(
        &self,
        weights: Option<&Path>,
        asked: &mut dyn FnMut() -> Option<Request>,
    ) -> Result<Option<(Finished, Option<String>)>> {
        let Definitions {
            file: solver,
            batches,
        } = self.write_definitions()?;
        let mut console = Console::new(&ConsoleOptions {
            folder: Some(self.place),
            quiet: self.arguments.quiet,
            verbose: self.arguments.verbose,
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
            care: self.arguments.care.care(),
        };
        let change = |settings: &mut _| self.arguments.thresholds.apply(settings);
        let mut solver = session::open(&files, &self.arguments.machine, change, &mut console)?;
        solver.recalibrate_before_tests(batches);
        for (kind, method) in self.methods()? {
            solver.add_method(kind, method, &mut console)?;
        }
        solver.solve(&mut console, asked)?;
        if solver.iteration() < solver.settings().max_iter && !solver.is_done() {
            console.finish()?;
            return Ok(None);
        }
        let finished = self.finish(&mut solver, &mut console)?;
        console.finish()?;
        let net = self.place.join(NET);
        let weights = self.place.join(&finished.weights).display().to_string();
        let command = results::compile(&mut solver, &net, &weights);
        Ok(Some((finished, command)))
    }

    /// The methods of the phase; teachers that are phases are files by now.
    fn methods(&self) -> Result<Vec<(&'static str, Box<dyn Method>)>> {
        let net = self.network()?;
        let build = |method: &MethodOptions| {
            let mut method = method.clone();
            if let MethodOptions::Distillation(options) = &mut method
                && let Some(name) = options.phase.take()
            {
                let found = self.earlier.iter().find(|(phase, _)| *phase == name);
                options.teacher = found.map(|(_, weights)| weights.clone());
            }
            Ok((method.kind(), method.build(&net)?))
        };
        self.phase.methods.iter().map(build).collect()
    }

    fn network(&self) -> Result<Definition> {
        let care = self.arguments.care.care();
        self.recipe.network(&self.places(), self.phase, care)
    }

    fn places(&self) -> BTreeMap<String, PathBuf> {
        self.arguments.data.iter().cloned().collect()
    }

    /// Writes the network and the solver definition of the phase.
    fn write_definitions(&self) -> Result<Definitions> {
        let net = self.network()?;
        let mut solver = self.recipe.solver(self.phase)?;
        let batches = self.recipe.recalibration(self.phase, &solver, &net);
        let net_file = self.place.join(NET);
        let file = self.place.join("solver.prototxt");
        solver.set_net(&paths::absolute(&net_file));
        solver.set_snapshot_prefix(&paths::absolute(&self.place.join("snapshot")));
        write_file(&net_file, net.text())?;
        write_file(&file, solver.text())?;
        Ok(Definitions { file, batches })
    }

    fn finish(&self, solver: &mut Solver, console: &mut Console) -> Result<Finished> {
        let tests = solver.test(console)?;
        solver.snapshot(console)?;
        let weights = console.tracked().snapshot.clone().unwrap_or_default();
        let weights = Path::new(&weights);
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
        write_file(&self.place.join(FINISHED), text)?;
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
            .strip_suffix(".solverstate")
            .or_else(|| {
                name.strip_prefix("snapshot_iter_")?
                    .strip_suffix(".solverstate.h5")
            })?;
        Some((number.parse::<u64>().ok()?, path))
    });
    numbered.max().map(|(_, path)| path)
}

fn print(all: &[Finished], arguments: &Arguments, folder: &Path, next: Option<&str>) -> Result<()> {
    let mut out = std::io::stdout();
    let mut line = |text: String| {
        // A reader that goes away ends the printing only.
        let _ = writeln!(out, "{}", printable::lines(&text));
    };
    if arguments.json {
        return print_json(serde_json::to_string_pretty(all));
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
        if let Some(command) = next {
            line(format!("next: {command}"));
        }
    }
    Ok(())
}
