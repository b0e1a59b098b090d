//! `skimjit time`.

mod compare;
mod streams;
mod trace;

use crate::support::args::{self, AskedTuneArguments, EngineArguments, ReadingArguments, iterations_parser};
use crate::support::output::Output;
use crate::support::resident::Resident;
use crate::support::table::{Table, left, milliseconds, percent, right};
use crate::support::times::Times;
use crate::support::timing::{Repeat, Spread, middle};
use crate::support::noise;
use skimjit_program::progress;
use serde::{Deserialize, Serialize};
use skimjit::{Engine, Error, Model, Result, Session, Tensor};
use skimjit_runtime::Profile;
use std::path::PathBuf;
use std::time::Duration;

/// Measures a network step by step, over many runs on a random batch.
///
/// Times of steps, and their total, are means over the middle half of the runs by elapsed time, so that they
/// add up; median, least and quartiles of all runs are printed below. A step's time is that of all threads,
/// divided by their number; what is left of the total was spent outside of all kernels, waiting for other
/// threads and starting.
///
/// The memory that is told is that of the whole program: with the engine and a session, and at most while the
/// network was read and compiled.
///
/// `--prototxt` alone takes a definition, as `caffe time` does. Without weights it is timed with those of its fillers,
/// and with random ones where fillers are missing or give zeros: times of the dense network.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit time net.skim --batch 16 --threads 4
  skimjit time --prototxt deploy.prototxt --weights net.caffemodel --iterations 50
  skimjit time net.skim --json > before.json
  skimjit time net.skim --compare before.json
  skimjit time net.skim --streams 2 --threads 1
  skimjit time net.skim --trace trace.json")]
pub struct Arguments {
    /// Network: a .skim, .onnx, .caffemodel or .caffemodel.h5 file
    #[arg(
        value_name = "MODEL",
        required_unless_present_any = ["definition", "prototxt"],
        conflicts_with = "definition"
    )]
    model: Option<PathBuf>,
    /// The old name of --prototxt without MODEL
    #[arg(long = "model", hide = true, conflicts_with = "prototxt")]
    definition: Option<PathBuf>,
    /// Weights for --prototxt, instead of MODEL; of several files, later ones win
    #[arg(
        long,
        value_name = "CAFFEMODEL,...",
        value_delimiter = ',',
        conflicts_with = "model"
    )]
    weights: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    tune: AskedTuneArguments,
    /// Runs to measure [default: as many as fit 3 seconds, 5 to 200]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = iterations_parser())]
    iterations: Option<u32>,
    /// Compare with an earlier measurement: what --json printed
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Measure this many callers at the same time instead, each with a session and --threads threads of
    /// its own [default for --threads: the cores, shared out]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = streams::count_parser())]
    #[arg(conflicts_with_all = ["compare", "trace"])]
    streams: Option<u16>,
    /// Write every step of a few runs, thread by thread, for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Time that is spent measuring when the number of runs is left open.
const USUAL_TIME: Duration = Duration::from_secs(3);

/// Times of a network.
#[derive(Clone, Serialize, Deserialize)]
pub struct Report {
    isa: String,
    batch: usize,
    threads: usize,
    runs: usize,
    steps: Vec<Step>,
    /// Thread time outside of all steps, per thread and run.
    outside_ms: f64,
    /// Elapsed time of a run: all steps and what is outside of them.
    total_ms: f64,
    #[serde(flatten)]
    spread: Spread,
    images_per_second: f64,
    /// Where the system tells it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    memory: Option<Resident>,
}

/// Time of one step.
#[derive(Clone, Serialize, Deserialize)]
struct Step {
    layer: String,
    label: String,
    /// Thread time, per thread and run.
    time_ms: f64,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let before = arguments
        .compare
        .as_deref()
        .map(compare::read)
        .transpose()?;
    let mut options = arguments.engine.options()?;
    let model = arguments.load()?;
    options.tuning = arguments.tune.tuning()?;
    if let Some(count) = arguments.streams {
        return streams::run(arguments, &model, options, count, out);
    }
    let engine = args::compile(&model, &options)?;
    let peak = Resident::peak();
    let inputs = noise::inputs(&model, engine.plan().batch as u32, 1)?;
    drop(model);
    let report = measure(&engine, &inputs, arguments.iterations, peak)?;
    if let Some(file) = &arguments.trace {
        trace::write(&engine, &inputs, file)?;
    }
    match (&before, arguments.json) {
        (None, true) => return out.json(&report),
        (None, false) => report.print(out),
        (Some(before), true) => return out.json(&compare::Comparison::new(before, &report)),
        (Some(before), false) => compare::Comparison::new(before, &report).print(out),
    }
    if let Some(file) = &arguments.trace {
        out.line(format!("{}: trace", file.display()));
    }
    Ok(())
}

impl Arguments {
    fn load(&self) -> Result<Model> {
        let definition = self.definition.as_ref().or(self.reading.prototxt.as_ref());
        match (&self.model, definition) {
            (Some(model), _) => self.reading.load(model),
            (None, Some(definition)) => self.reading.load_definition(definition, &self.weights),
            (None, None) => Err(Error::Usage(
                "found no network, expected MODEL or --prototxt".to_owned(),
            )),
        }
    }
}

/// Times over many runs on a batch, and the memory of an engine that took so many bytes at most while it was loaded.
pub fn measure(
    engine: &Engine,
    inputs: &[Tensor],
    iterations: Option<u32>,
    loading_bytes: Option<u64>,
) -> Result<Report> {
    let mut session = engine.session();
    engine.run(&mut session, inputs)?;
    let memory = Resident::now(loading_bytes);
    let mut runs = Vec::new();
    progress::spin("measuring", || {
        Repeat::new(iterations, USUAL_TIME).run(|| {
            session.start_profile();
            engine.run(&mut session, inputs)?;
            runs.extend(session.profile().map(Times::of));
            Ok::<(), skimjit::Error>(())
        })
    })?;
    let report = Report::of_runs(engine, &session, &runs);
    report.spread.note("time");
    Ok(Report { memory, ..report })
}

impl Report {
    /// Of runs on a full batch each.
    fn of_runs(engine: &Engine, session: &Session, runs: &[Times]) -> Self {
        let threads = engine.threads() as f64;
        let counted = middle(runs);
        let milliseconds = |time: &dyn Fn(&Times) -> u64| {
            let sum: u64 = counted.iter().map(|run| time(run)).sum();
            sum as f64 / counted.len().max(1) as f64 / 1e6
        };
        let names = session.profile().map(Profile::steps).unwrap_or_default();
        let steps = names.into_iter().enumerate().map(|(index, step)| Step {
            layer: step.layer,
            label: step.label.to_owned(),
            time_ms: milliseconds(&|run| run.steps[index]) / threads,
        });
        let total_ms = milliseconds(&|run| run.wall);
        Self {
            isa: engine.plan().isa.to_string(),
            batch: engine.plan().batch,
            threads: engine.threads(),
            runs: runs.len(),
            steps: steps.collect(),
            outside_ms: milliseconds(&|run| run.outside) / threads,
            total_ms,
            spread: Spread::of(runs),
            images_per_second: per_second(engine.plan().batch as f64, total_ms),
            memory: None,
        }
    }
    /// Sums of a session's profile.
    pub fn of(engine: &Engine, session: &Session) -> Self {
        let sums: Vec<Times> = session.profile().map(Times::of).into_iter().collect();
        let mut report = Self::of_runs(engine, session, &sums);
        let (runs, images) = session.profile().map_or((0, 0), |p| (p.runs(), p.images()));
        report.runs = runs as usize;
        report.images_per_second = per_second(images as f64, report.total_ms);
        report
    }
    /// Prints the table.
    pub fn print(&self, out: &mut Output) {
        let mut table = Table::new([left("layer"), left("step"), right("ms"), right("share")]);
        let mut row = |layer: &str, label: &str, ms: f64| {
            let share = percent(ms / self.total_ms.max(f64::MIN_POSITIVE));
            table.row([layer.to_owned(), label.to_owned(), milliseconds(ms), share]);
        };
        self.steps
            .iter()
            .for_each(|step| row(&step.layer, &step.label, step.time_ms));
        row("outside kernels", "", self.outside_ms);
        row("total", "", self.total_ms);
        out.table(&table);
        out.line(self.machine());
        let spread = &self.spread;
        if self.runs > 1 {
            let [low, high] = spread.quartiles_ms.map(milliseconds);
            out.sentence(format!(
                "median {} ms, least {} ms; half of the runs took {low} to {high} ms",
                milliseconds(spread.median_ms),
                milliseconds(spread.least_ms)
            ));
        }
        if let Some(memory) = &self.memory {
            out.sentence(memory.text());
        }
    }
    /// What the network took of the computer's memory.
    pub fn memory(&self) -> Option<Resident> {
        self.memory
    }
    /// What was measured, in words.
    fn machine(&self) -> String {
        let (isa, batch, threads, runs) = (&self.isa, self.batch, self.threads, self.runs);
        let rate = self.images_per_second;
        format!("{isa}, batch {batch}, {threads} threads, {runs} runs: {rate:.1} images/s")
    }
}

impl Report {
    /// Time of a layer: all its steps.
    pub fn layer_ms(&self, layer: &str) -> f64 {
        let steps = self.steps.iter().filter(|step| step.layer == layer);
        steps.map(|step| step.time_ms).sum()
    }
    /// Elapsed time of a run.
    pub fn total_ms(&self) -> f64 {
        self.total_ms
    }
    /// Of all runs.
    pub fn spread(&self) -> Spread {
        self.spread
    }
}

fn per_second(images: f64, ms: f64) -> f64 {
    images * 1e3 / ms.max(f64::MIN_POSITIVE)
}
