//! `skimjit-train prune` and `skimjit-train finetune`: what SkimCaffe's train_script.sh did.

use super::console::{Console, ConsoleOptions, LOG, WARNINGS, say, warn, write_file};
use super::results;
use super::session::{self, CareArguments, Files, MachineArguments, ThresholdArguments};
use jiff::Zoned;
use skimjit_caffe::solver::SolverDefinition;
use skimjit_caffe::{Definition, paths, text};
use skimjit_models::{Error, Result};
use skimjit_pruning::guided::GuidedOptions;
use skimjit_trainer::recipe::MethodOptions;
use skimjit_trainer::solver::report::Report as _;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Prunes a network as SkimCaffe does: L1 regularisation, and a threshold after every update.
///
/// Writes a solver definition into a folder that is named after its parameters and the date, runs it,
/// and keeps log (train.info), metrics (metrics.jsonl), regularisation terms (loss.info) and snapshots beside
/// it. The threshold grows from T for weights that change to T·F for those that do not.
///
/// What the command sets in the definition is printed. A template's own regularization_type stays; L1 is for
/// templates without one. Thresholds reach parameters under L1 only.
///
/// With a time or a speedup as goal, and the costs that `cost` measured, layers are pruned as far as that makes them
/// faster, in the first 70 % of the iterations; thresholds are not used then.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit-train prune template_l1_solver.prototxt --lr 0.001 --decay 5e-5 --zero-below 1e-4 --factor 10 --weights net.caffemodel
  skimjit-train prune train_val.prototxt --lr 0.001 --weights net.caffemodel --target-speedup 3x --cost cost.json")]
pub struct PruneArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Weights of this magnitude and below become zero
    #[arg(
        long = "zero-below",
        alias = "threshold",
        value_name = "T",
        default_value_t = 1e-4
    )]
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
    fn guided(&self, iterations: u64) -> Option<MethodOptions> {
        if self.target_speedup.is_none() && self.target_latency.is_none() {
            return None;
        }
        let end = (iterations * 7 / 10).max(1);
        Some(MethodOptions::Guided(GuidedOptions {
            cost: self.cost.clone().unwrap_or_default(),
            target_speedup: self.target_speedup,
            target_latency_ms: self.target_latency,
            begin: 0,
            end,
            every: (end / 15).max(1),
        }))
    }
}

/// Fine-tunes a pruned network: weights that are zero stay zero.
///
/// Writes and runs a solver definition as `prune` does, without thresholds, and with L2 regularisation unless
/// the template has a regularization_type.
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
    /// Folder to write the run's folder into [default: that of TEMPLATE]
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
    /// Print only the progress bar, warnings, the folder, the final figures and errors
    #[arg(short, long)]
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
        ("prune_threshold", threshold.to_string()),
        ("max_threshold_factor", factor.to_string()),
    ];
    let own = Own {
        regularization: "L1",
        fields: &fields,
        numbers: &[common.lr, common.decay, threshold, last, common.group_decay],
        thresholds: goal.is_none(),
    };
    common.run(&own, |iterations| arguments.guided(iterations))
}

/// Fine-tunes.
pub fn finetune(arguments: &FinetuneArguments) -> Result<()> {
    let common = &arguments.common;
    let fields = [
        ("prune_threshold", "0".to_owned()),
        ("max_threshold_factor", "1".to_owned()),
    ];
    let own = Own {
        regularization: "L2",
        fields: &fields,
        numbers: &[common.lr, common.decay, 0.0, 1.0, common.group_decay],
        thresholds: false,
    };
    common.run(&own, |_| Some(MethodOptions::Frozen { layers: vec![] }))
}

/// What a command brings beside the options that both have.
struct Own<'a> {
    /// For templates without one.
    regularization: &'a str,
    /// Over those of the template.
    fields: &'a [(&'a str, String)],
    /// What the folder is named after.
    numbers: &'a [f32],
    /// Thresholds are to prune.
    thresholds: bool,
}

/// A solver definition, and what the command set in it.
struct Made {
    text: String,
    told: Vec<String>,
}

impl CommonArguments {
    /// Writes and runs the definition, with the method for so many iterations.
    fn run(&self, own: &Own<'_>, method: impl FnOnce(u64) -> Option<MethodOptions>) -> Result<()> {
        let parent = self
            .output
            .clone()
            .or_else(|| self.template.parent().map(Path::to_owned))
            .unwrap_or_default();
        let date = Zoned::now().strftime("%Y-%m-%d_%H-%M-%S");
        let name: Vec<String> = own.numbers.iter().map(f32::to_string).collect();
        let folder = parent.join(format!("{}_{date}", name.join("_")));
        let Made { text, told } = self.solver(own, &folder)?;
        let file = folder.join("solver.prototxt");
        write_file(&file, &text)?;
        say(&folder.display().to_string());
        self.machine.start()?;
        let mut console = Console::new(&ConsoleOptions {
            folder: Some(&folder),
            quiet: self.quiet,
            verbose: self.verbose,
            json: false,
        })?;
        told.iter().for_each(|told| console.line(told));
        let files = Files {
            solver: &file,
            weights: &self.weights,
            snapshot: self.snapshot.as_deref(),
            care: self.care.care(),
        };
        let mut asked = session::requests()?;
        let change = |settings: &mut _| self.thresholds.apply(settings);
        let mut solver = session::open(&files, &self.machine, change, &mut console)?;
        if own.thresholds && !solver.has_thresholds() {
            warn(
                "no weights are under L1, and thresholds reach nothing else: nothing will be pruned; \
                 give layers a regularization_type, or set it: --set 'regularization_type=\"L1\"'",
            );
            WARNINGS.check()?;
        }
        if let Some(method) = method(solver.settings().max_iter) {
            let built = method.build(&Definition::default())?;
            solver.add_method(method.kind(), built, &mut console)?;
        }
        solver.solve(&mut console, &mut asked)?;
        session::tell_end(&solver);
        let lines = results::describe(&mut solver, console.tracked());
        console.finish()?;
        lines.iter().for_each(|line| say(line));
        write_terms(&folder)
    }

    /// The solver definition: the template's fields, then those of the command line.
    fn solver(&self, own: &Own<'_>, folder: &Path) -> Result<Made> {
        let template = std::fs::read(&self.template)
            .map_err(|error| Error::unreadable(&self.template, &error, TEMPLATE))?;
        let mut base = if text::is_solver(&template) {
            let care = self.care.care();
            let solver = SolverDefinition::read(&self.template, care, &mut |told| warn(told))?;
            // The run's own definition would lack what networks inside of it have.
            solver.refuse_unknown()?;
            WARNINGS.check()?;
            solver
        } else {
            text::net(&template).map_err(|error| error.file(&self.template))?;
            self.usual()?
        };
        // The definition is a copy in another folder.
        base.anchor();
        let said = base.regularization().map(str::to_owned);
        let base = base.text();
        let all = self.fields_over(own, said.is_some(), folder);
        let mut told: Vec<String> = all.iter().map(|field| tell(field, &base)).collect();
        if let Some(said) = said.filter(|_| !all.iter().any(|(field, _)| field == REGULARIZATION)) {
            told.push(format!(
                "{REGULARIZATION}: {said:?} stays, as the template says"
            ));
        }
        let kept = |line: &&str| {
            let begins = |(field, _): &(String, String)| line.starts_with(&format!("{field}: "));
            !all.iter().any(begins)
        };
        let mut lines: String = base
            .lines()
            .filter(kept)
            .flat_map(|line| [line, "\n"])
            .collect();
        for (field, value) in &all {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{field}: {value}");
        }
        let (_, warnings) = SolverDefinition::parse(&lines).map_err(|error| {
            error
                .field("--set")
                .hint("text values need quotes: --set 'type=\"Adam\"'")
        })?;
        match warnings.first() {
            None => Ok(Made { text: lines, told }),
            Some(warning) => Err(Error::new(warning.to_string())
                .field("--set")
                .expected("fields of a solver definition")),
        }
    }

    /// What the command line sets: what the command is about, and `--set` over it.
    fn fields_over(
        &self,
        own: &Own<'_>,
        regularized: bool,
        folder: &Path,
    ) -> Vec<(String, String)> {
        let prefix = paths::absolute(&folder.join("train")).display().to_string();
        let mut all: Vec<(String, String)> = vec![
            ("base_lr".to_owned(), self.lr.to_string()),
            ("weight_decay".to_owned(), self.decay.to_string()),
            ("block_group_decay".to_owned(), self.group_decay.to_string()),
            ("snapshot_prefix".to_owned(), format!("{prefix:?}")),
        ];
        if !regularized {
            all.push((
                REGULARIZATION.to_owned(),
                format!("{:?}", own.regularization),
            ));
        }
        let fields = own.fields.iter();
        all.extend(fields.map(|(field, value)| ((*field).to_owned(), value.clone())));
        for (field, value) in &self.fields {
            all.retain(|(known, _)| known != field);
            all.push((field.clone(), value.clone()));
        }
        all
    }

    /// Settings for a network without a template.
    fn usual(&self) -> Result<SolverDefinition> {
        let fields = "lr_policy: 'fixed' momentum: 0.9 max_iter: 10000 display: 100 average_loss: 100 snapshot: 2000";
        let (mut solver, _) = SolverDefinition::parse(fields)?;
        solver.set_net(&paths::absolute(&self.template));
        Ok(solver)
    }
}

/// What the template is.
const TEMPLATE: &str = "a solver definition or a train_val prototxt";

/// The field that a template's word goes before the command's in.
const REGULARIZATION: &str = "regularization_type";

/// `sets base_lr: 0.001, where the template says 0.01`.
fn tell((field, value): &(String, String), template: &str) -> String {
    let begin = format!("{field}: ");
    let said: Vec<&str> = template
        .lines()
        .filter_map(|line| line.strip_prefix(&begin))
        .collect();
    match said.as_slice() {
        [] => format!("sets {field}: {value}"),
        said => format!(
            "sets {field}: {value}, where the template says {}",
            said.join(", ")
        ),
    }
}

/// loss.info: the regularisation terms, and these with the loss, of every displayed iteration.
fn write_terms(folder: &Path) -> Result<()> {
    let log = folder.join(LOG);
    let text =
        std::fs::read_to_string(&log).map_err(|error| Error::unreadable(&log, &error, "a log"))?;
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
    write_file(&path, terms)
}
