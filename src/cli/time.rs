//! `skimjit time`.

use super::args::{self, AskedTuneArguments, EngineArguments, ReadingArguments, iterations_parser};
use super::output::Output;
use super::table::{Table, left, milliseconds, percent, right};
use super::times::Times;
use super::timing::{Repeat, median};
use super::{noise, progress};
use serde::Serialize;
use skimjit::runtime::Profile;
use skimjit::{Engine, Error, Model, Result, Session};
use std::path::PathBuf;
use std::time::Duration;

/// Measures a network step by step: medians over many runs on a random batch.
///
/// A step's time is that of all threads, divided by their number; what is left of the total was spent
/// outside of all kernels, waiting for other threads and starting.
///
/// `--model` takes a prototxt, as `caffe time` does. Without weights it is timed with those of its fillers,
/// and with random ones where fillers are missing or give zeros: times of the dense network.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit time net.skim --batch 16 --threads 4
  skimjit time --model deploy.prototxt --weights net.caffemodel --iterations 50")]
pub struct Arguments {
    /// Network: a .skim, .caffemodel or .caffemodel.h5 file
    #[arg(
        value_name = "MODEL",
        required_unless_present = "definition",
        conflicts_with = "definition"
    )]
    model: Option<PathBuf>,
    /// Network definition, instead of MODEL
    #[arg(long = "model", value_name = "PROTOTXT", conflicts_with = "prototxt")]
    definition: Option<PathBuf>,
    /// Weights for the definition; of several files, later ones win
    #[arg(
        long,
        value_name = "CAFFEMODEL,...",
        value_delimiter = ',',
        requires = "definition"
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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Time that is spent measuring when the number of runs is left open.
const USUAL_TIME: Duration = Duration::from_secs(3);

/// Times of a network.
#[derive(Serialize)]
pub struct Report {
    isa: String,
    batch: usize,
    threads: usize,
    runs: usize,
    steps: Vec<Step>,
    /// Thread time outside of all steps, per thread and run.
    outside_ms: f64,
    /// Elapsed time of a run.
    total_ms: f64,
    images_per_second: f64,
}

/// Time of one step.
#[derive(Serialize)]
struct Step {
    layer: String,
    label: &'static str,
    /// Thread time, per thread and run.
    time_ms: f64,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let mut options = arguments.engine.options()?;
    let model = arguments.load()?;
    options.tuning = arguments.tune.tuning();
    let engine = args::compile(&model, &options)?;
    let report = measure(&model, &engine, arguments.iterations)?;
    if arguments.json {
        return out.json(&report);
    }
    report.print(out);
    Ok(())
}

impl Arguments {
    fn load(&self) -> Result<Model> {
        match (&self.definition, &self.model) {
            (Some(definition), _) => self.reading.load_definition(definition, &self.weights),
            (None, Some(model)) => self.reading.load(model),
            (None, None) => Err(Error::Usage(
                "found no network, expected MODEL or --model".to_owned(),
            )),
        }
    }
}

/// Medians over many runs on a random batch.
pub fn measure(model: &Model, engine: &Engine, iterations: Option<u32>) -> Result<Report> {
    let inputs = noise::inputs(model, engine.plan().batch as u32, 1)?;
    let mut session = engine.session();
    engine.run(&mut session, &inputs)?;
    let mut runs = Vec::new();
    progress::spin("measuring", || {
        Repeat::new(iterations, USUAL_TIME).run(|| {
            session.start_profile();
            engine.run(&mut session, &inputs)?;
            runs.extend(session.profile().map(Times::of));
            Ok::<(), skimjit::Error>(())
        })
    })?;
    Ok(Report::of_runs(engine, &session, &runs))
}

impl Report {
    /// Medians of runs on a full batch each.
    fn of_runs(engine: &Engine, session: &Session, runs: &[Times]) -> Self {
        let threads = engine.threads() as f64;
        let milliseconds = |time: &dyn Fn(&Times) -> u64| {
            median(runs.iter().map(|run| time(run) as f64 / 1e6).collect())
        };
        let names = session.profile().map(Profile::steps).unwrap_or_default();
        let steps = names.into_iter().enumerate().map(|(index, step)| {
            let time_ms = milliseconds(&|run| run.steps[index]) / threads;
            Step {
                layer: step.layer,
                label: step.label,
                time_ms,
            }
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
            images_per_second: per_second(engine.plan().batch as f64, total_ms),
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
            .for_each(|step| row(&step.layer, step.label, step.time_ms));
        row("outside kernels", "", self.outside_ms);
        row("total", "", self.total_ms);
        out.table(&table);
        out.line(format!(
            "{}, batch {}, {} threads, {} runs: {:.1} images/s",
            self.isa, self.batch, self.threads, self.runs, self.images_per_second
        ));
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
}

fn per_second(images: f64, ms: f64) -> f64 {
    images * 1e3 / ms.max(f64::MIN_POSITIVE)
}
