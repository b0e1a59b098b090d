//! `skimjit-train prune` and `skimjit-train finetune`: what SkimCaffe's train_script.sh did.

use super::console::{Console, ConsoleOptions, LOG, say};
use super::session::{self, Files, MachineArguments, ThresholdArguments};
use jiff::Zoned;
use skimjit_models::caffe::proto::SolverParameter;
use skimjit_models::caffe::text;
use skimjit_models::{Error, Result};
use skimjit_trainer::prune::guided::{Guided, GuidedOptions};
use skimjit_trainer::prune::mask::Frozen;
use skimjit_trainer::solver::method::Method;
use skimjit_trainer::solver::snapshot::write_whole;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Prunes a network as SkimCaffe does: L1 regularisation, and a threshold after every update.
///
/// Writes a solver definition into a folder that is named after its parameters and the date, runs it there,
/// and keeps log (train.info), metrics (metrics.jsonl), regularisation terms (loss.info) and snapshots beside
/// it. The threshold grows from T for weights that change to T·F for those that do not.
///
/// With a time or a speedup as goal, and the costs that `cost` measured, layers are pruned as far as that makes them
/// faster, in the first 70 % of the iterations; thresholds are not used then.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit-train prune template_l1_solver.prototxt --lr 0.001 --decay 5e-5 --threshold 1e-4 --factor 10 --weights net.caffemodel
  skimjit-train prune train_val.prototxt --lr 0.001 --weights net.caffemodel --target-speedup 3x --cost cost.json")]
pub struct PruneArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Weights of this magnitude and below become zero
    #[arg(long, value_name = "T", default_value_t = 1e-4)]
    threshold: f32,
    /// Largest threshold over the smallest
    #[arg(long, value_name = "F", default_value_t = 10.0)]
    factor: f32,
    /// Goal: how many times as fast as dense
    #[arg(long, value_name = "X", value_parser = parse_speedup, group = "goal", requires = "cost", conflicts_with_all = ["threshold", "factor"])]
    target_speedup: Option<f64>,
    /// Goal: the time of the network
    #[arg(long, value_name = "MS", value_parser = parse_milliseconds, group = "goal", requires = "cost", conflicts_with_all = ["threshold", "factor"])]
    target_latency: Option<f64>,
    /// What `skimjit-train cost` measured
    #[arg(long, value_name = "JSON", requires = "goal")]
    cost: Option<PathBuf>,
}

/// `3x`, or `3`.
fn parse_speedup(text: &str) -> std::result::Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
    let fine = number.filter(|x| x.is_finite() && *x > 1.0);
    fine.ok_or_else(|| "expected a number above 1, like 3x".to_owned())
}

/// `5ms`, or `5`.
fn parse_milliseconds(text: &str) -> std::result::Result<f64, String> {
    let number = text.strip_suffix("ms").unwrap_or(text).parse::<f64>().ok();
    let fine = number.filter(|ms| ms.is_finite() && *ms > 0.0);
    fine.ok_or_else(|| "expected milliseconds, like 5ms".to_owned())
}

impl PruneArguments {
    /// Pruning to a goal, when there is one.
    fn guided(&self, iterations: u64) -> Result<Vec<Box<dyn Method>>> {
        if self.target_speedup.is_none() && self.target_latency.is_none() {
            return Ok(vec![]);
        }
        let end = (iterations * 7 / 10).max(1);
        let options = GuidedOptions {
            cost: self.cost.clone().unwrap_or_default(),
            target_speedup: self.target_speedup,
            target_latency_ms: self.target_latency,
            begin: 0,
            end,
            every: (end / 15).max(1),
        };
        Ok(vec![Box::new(Guided::new(options)?)])
    }
}

/// Fine-tunes a pruned network: weights that are zero stay zero.
///
/// Writes and runs a solver definition as `prune` does, with L2 regularisation and without thresholds.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train finetune template_solver.prototxt --lr 0.001 --decay 5e-5 --weights pruned.caffemodel")]
pub struct FinetuneArguments {
    #[command(flatten)]
    common: CommonArguments,
}

/// What both have in common.
#[derive(clap::Args)]
struct CommonArguments {
    /// Solver definition that the rest comes from, or a train_val prototxt
    #[arg(value_name = "TEMPLATE")]
    template: PathBuf,
    /// Learning rate (base_lr)
    #[arg(long, value_name = "RATE")]
    lr: f32,
    /// Regularisation (weight_decay)
    #[arg(long, value_name = "DECAY", default_value_t = 5e-5)]
    decay: f32,
    /// Group lasso over the blocks that the definition names (block_group_decay)
    #[arg(long, value_name = "DECAY", default_value_t = 0.0)]
    group_decay: f32,
    /// Other fields of the solver definition
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = parse_field)]
    fields: Vec<(String, String)>,
    /// Weights to start from
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
    /// Folder that the run's folder is made in [default: that of TEMPLATE]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    thresholds: ThresholdArguments,
    /// Print only the progress bar, the folder and errors
    #[arg(long)]
    quiet: bool,
}

fn parse_field(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, value)) if !field.is_empty() && !value.is_empty() => {
            Ok((field.to_owned(), value.to_owned()))
        }
        _ => Err("expected FIELD=VALUE".to_owned()),
    }
}

/// Prunes.
pub fn prune(arguments: &PruneArguments) -> Result<()> {
    let common = &arguments.common;
    let goal = arguments.target_speedup.or(arguments.target_latency);
    // With a goal, thresholds are switched off, and the folder is named after the goal.
    let (threshold, factor, last) = match goal {
        None => (arguments.threshold, arguments.factor, arguments.factor),
        Some(goal) => (0.0, 1.0, goal as f32),
    };
    let fields = [
        ("regularization_type", "\"L1\"".to_owned()),
        ("prune_threshold", threshold.to_string()),
        ("max_threshold_factor", factor.to_string()),
    ];
    let numbers = [common.lr, common.decay, threshold, last, common.group_decay];
    common.run(&fields, &numbers, |iterations| arguments.guided(iterations))
}

/// Fine-tunes.
pub fn finetune(arguments: &FinetuneArguments) -> Result<()> {
    let common = &arguments.common;
    let fields = [
        ("regularization_type", "\"L2\"".to_owned()),
        ("prune_threshold", "0".to_owned()),
        ("max_threshold_factor", "1".to_owned()),
    ];
    let numbers = [common.lr, common.decay, 0.0, 1.0, common.group_decay];
    common.run(&fields, &numbers, |_| {
        Ok(vec![Box::new(Frozen { layers: vec![] })])
    })
}

impl CommonArguments {
    /// Writes and runs the definition, with the methods for so many iterations.
    fn run(
        &self,
        fields: &[(&str, String)],
        numbers: &[f32],
        methods: impl FnOnce(u64) -> Result<Vec<Box<dyn Method>>>,
    ) -> Result<()> {
        let parent = self
            .output
            .clone()
            .or_else(|| self.template.parent().map(Path::to_owned))
            .unwrap_or_default();
        let date = Zoned::now().strftime("%Y-%m-%d_%H-%M-%S");
        let name: Vec<String> = numbers.iter().map(f32::to_string).collect();
        let folder = parent.join(format!("{}_{date}", name.join("_")));
        let solver = self.solver(fields, &folder)?;
        let file = folder.join("solver.prototxt");
        write_whole(&file, |path| {
            std::fs::write(path, &solver).map_err(|error| Error::new(error.to_string()).file(path))
        })?;
        say(&folder.display().to_string());
        self.machine.start()?;
        let mut console = Console::new(&ConsoleOptions {
            folder: Some(&folder),
            quiet: self.quiet,
            json: false,
        })?;
        let files = Files {
            solver: &file,
            weights: &self.weights,
            snapshot: self.snapshot.as_deref(),
        };
        let mut asked = session::requests()?;
        let change = |settings: &mut _| self.thresholds.apply(settings);
        let mut solver = session::open(&files, &self.machine, change, &mut console)?;
        for method in methods(solver.settings().max_iter)? {
            solver.add_method(method, &mut console)?;
        }
        solver.solve(&mut console, &mut asked)?;
        session::tell_end(&solver);
        console.finish()?;
        write_terms(&folder)
    }

    /// The solver definition: the template's fields, then those of the command line.
    fn solver(&self, fields: &[(&str, String)], folder: &Path) -> Result<String> {
        let template = std::fs::read(&self.template)
            .map_err(|error| Error::new(error.to_string()).file(&self.template))?;
        let in_file = |error: Error| error.file(&self.template);
        let base = if text::is_solver(&template) {
            self.with_paths(text::solver(&template).map_err(in_file)?.0)
        } else {
            text::net(&template).map_err(in_file)?;
            self.usual()
        };
        let mut all: Vec<(String, String)> = vec![
            ("base_lr".to_owned(), self.lr.to_string()),
            ("weight_decay".to_owned(), self.decay.to_string()),
            ("block_group_decay".to_owned(), self.group_decay.to_string()),
            (
                "snapshot_prefix".to_owned(),
                format!("{:?}", folder.join("train").display().to_string()),
            ),
        ];
        all.extend(
            fields
                .iter()
                .map(|(field, value)| ((*field).to_owned(), value.clone())),
        );
        for (field, value) in &self.fields {
            all.retain(|(known, _)| known != field);
            all.push((field.clone(), value.clone()));
        }
        let mut lines = text::solver_text(&base)
            .lines()
            .filter(|line| {
                !all.iter()
                    .any(|(field, _)| line.starts_with(&format!("{field}: ")))
            })
            .fold(String::new(), |text, line| text + line + "\n");
        for (field, value) in &all {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{field}: {value}");
        }
        let (_, warnings) = text::solver(lines.as_bytes()).map_err(|mut error| {
            error.position = None;
            error
                .field("--set")
                .hint("text values need quotes: --set 'type=\"Adam\"'")
        })?;
        match warnings.first() {
            None => Ok(lines),
            Some(warning) => Err(Error::new(warning.to_string())
                .field("--set")
                .expected("fields of a solver definition")),
        }
    }

    /// Networks that are beside the template are so for the run's own definition too.
    fn with_paths(&self, mut solver: SolverParameter) -> SolverParameter {
        let folder = self.template.parent().unwrap_or(Path::new(""));
        let nets = solver.net.iter_mut().chain(&mut solver.train_net);
        for net in nets.chain(&mut solver.test_net) {
            let beside = folder.join(&net);
            if !Path::new(&net).exists() && beside.exists() {
                *net = beside.display().to_string();
            }
        }
        solver
    }

    /// Settings for a network without a template.
    fn usual(&self) -> SolverParameter {
        SolverParameter {
            net: Some(self.template.display().to_string()),
            lr_policy: Some("fixed".to_owned()),
            momentum: Some(0.9),
            max_iter: Some(10_000),
            display: Some(100),
            average_loss: Some(100),
            snapshot: Some(2_000),
            ..SolverParameter::default()
        }
    }
}

/// loss.info: the regularisation terms, and these with the loss, of every displayed iteration.
fn write_terms(folder: &Path) -> Result<()> {
    let log = folder.join(LOG);
    let text =
        std::fs::read_to_string(&log).map_err(|error| Error::new(error.to_string()).file(&log))?;
    let mut terms = String::new();
    for line in text.lines() {
        let numbers = line
            .split_once("Total regularization terms: ")
            .and_then(|(_, rest)| rest.split_once(" loss+regular. : "));
        if let Some((term, sum)) = numbers {
            let _ = writeln!(terms, "{term} {sum}");
        }
    }
    let path = folder.join("loss.info");
    std::fs::write(&path, terms).map_err(|error| Error::new(error.to_string()).file(&path))
}
