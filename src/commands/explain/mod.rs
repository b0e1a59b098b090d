//! `skimjit explain`.

pub mod advice;
mod crossover;
pub mod limit;
mod print;

use crate::support::args::{self, EngineArguments, ModelArguments, TuneArguments, iterations_parser};
use crate::support::noise;
use crate::support::output::Output;
use crate::support::resident::Resident;
use crate::support::timing::Spread;
use skimjit_program::progress;
use crate::commands::time;
use advice::Advice;
use limit::{Limit, Speeds};
use serde::Serialize;
use skimjit::{CompileOptions, Engine, Result, layer};
use skimjit_runtime::jit::CpuInfo;
use skimjit_runtime::machine::{self, Peak};
use skimjit_runtime::{Basis, Caches, Choice};

/// Says why a network is as fast as it is: for each layer the limit of this machine, the kernels that
/// could compute it with their estimated and measured times, and the choice; for the network, what
/// takes the time and what would help most.
///
/// Times are of a whole random batch, means over the middle half of the runs by elapsed time, so that they
/// add up. A layer's limit is the longer of two: its
/// multiply-adds with weights other than zero at the measured peak, and the bytes of its weights (6
/// per non-zero of a pruned layer, 4 per weight of a dense one) at the bandwidth of memory, or of the
/// last-level cache if the network fits there, plus its activations at the bandwidth of that cache.
///
/// The memory that is told is that of the whole program: with the engine and a session, and at most while the
/// network was read and compiled, trials of kernels included.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit explain net.caffemodel
  skimjit explain net.skim --batch 16 --crossover --json")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    tune: TuneArguments,
    /// Also find the share of zeros from which on sparse kernels are faster than dense ones, for each
    /// layer's shape; slow where the tune cache does not know the times yet
    #[arg(long)]
    crossover: bool,
    /// Runs to measure [default: as many as fit 3 seconds, 5 to 200]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = iterations_parser())]
    iterations: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is known of a compiled network on this machine.
#[derive(Serialize)]
pub struct Report {
    pub model: String,
    pub cpu: String,
    pub isa: String,
    /// Those that the plan was made for.
    pub caches: Caches,
    pub batch: usize,
    pub threads: usize,
    /// Of one core.
    pub peak: Peak,
    pub layers: Vec<Layer>,
    pub network: Network,
    /// What would help most, best first.
    pub advice: Vec<Advice>,
}

/// One layer; times are of one batch.
#[derive(Serialize)]
pub struct Layer {
    pub layer: String,
    pub kind: &'static str,
    pub shape: String,
    pub density: Option<f64>,
    /// Multiply-adds of one image.
    pub macs: u64,
    /// Of these, with weights other than zero.
    pub macs_nonzero: u64,
    /// Elements of the weight matrix.
    pub weights: usize,
    /// In the network, all steps of the layer.
    pub time_ms: f64,
    #[serde(flatten)]
    pub limit: Limit,
    /// Multiply-adds with weights other than zero over what the peak allows in this time.
    pub peak_share: Option<f64>,
    pub variant: String,
    pub basis: Basis,
    pub why: String,
    pub candidates: Vec<Candidate>,
    pub refused: Vec<Refused>,
    /// Share of zeros from which on sparse kernels are faster than dense ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crossover: Option<crossover::Crossover>,
    pub code_bytes: usize,
    pub weight_bytes: usize,
    /// Generating the code and packing the weights.
    pub jit_ms: f64,
}

/// A variant that can compute a layer. Times are of one image, or of the batch for inner products of
/// a batch.
#[derive(Serialize)]
pub struct Candidate {
    pub variant: String,
    pub estimate_ms: f64,
    /// `null`: not worth a trial.
    pub measured_ms: Option<f64>,
}

#[derive(Serialize)]
pub struct Refused {
    pub variant: String,
    pub reason: String,
}

/// The whole network; times are of one batch.
#[derive(Serialize)]
pub struct Network {
    pub total_ms: f64,
    /// Of whole runs.
    #[serde(flatten)]
    pub spread: Spread,
    pub images_per_second: f64,
    /// Sum of the layers' limits.
    pub limit_ms: f64,
    /// Layers that run on dense kernels.
    pub dense: Part,
    /// Layers that run on sparse kernels.
    pub sparse: Part,
    /// Other layers.
    pub other: Part,
    /// Copies that belong to no layer, waiting and starting.
    pub outside_ms: f64,
    /// How many times as fast the network would be if all but its dense layers took no time.
    pub most_without_dense: Option<f64>,
    /// Generating the code and packing the weights, on one core.
    pub jit_ms: f64,
    /// Where the system tells it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Resident>,
}

/// Some of the layers.
#[derive(Serialize)]
pub struct Part {
    pub layers: usize,
    pub time_ms: f64,
    pub share: f64,
    pub limit_ms: f64,
}

/// A network that was compiled and measured.
pub struct Analysis {
    pub report: Report,
    pub engine: Engine,
    pub speeds: Speeds,
    options: CompileOptions,
}

/// What is analysed, and how.
pub struct Subject<'a> {
    pub model: &'a ModelArguments,
    pub engine: &'a EngineArguments,
    pub tune: &'a TuneArguments,
    pub iterations: Option<u32>,
    /// See [`CompileOptions::keep_weights`].
    pub keep_weights: bool,
}

impl Subject<'_> {
    /// Compiles and measures the network.
    pub fn analyse(&self) -> Result<Analysis> {
        let mut options = self.engine.options()?;
        // Shares of the peak mean most for one core.
        options.threads = self.engine.machine.threads()?.unwrap_or(1);
        let isa = self.engine.machine.isa()?;
        options.keep_weights = self.keep_weights;
        options.tuning = self.tune.tuning()?;
        if let Some(tuning) = &mut options.tuning {
            tuning.named_too = true;
        }
        let model = self.model.load()?;
        let engine = args::compile(&model, &options)?;
        let loading_bytes = Resident::peak();
        let inputs = noise::inputs(&model, engine.plan().batch as u32, 1)?;
        drop(model);
        // Behind the compilation: what it measures with is not the network's memory.
        let peak = progress::spin("measuring the machine", || machine::measure(isa))?;
        let times = time::measure(&engine, &inputs, self.iterations, loading_bytes)?;
        let speeds = Speeds::new(&engine, peak);
        let report = Report::new(self.model.name(), &engine, &speeds, &times);
        Ok(Analysis {
            report,
            engine,
            speeds,
            options,
        })
    }
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let subject = Subject {
        model: &arguments.model,
        engine: &arguments.engine,
        tune: &arguments.tune,
        iterations: arguments.iterations,
        // Single layers are timed with weights of their own, but compiled with the bias.
        keep_weights: arguments.crossover,
    };
    let mut analysis = subject.analyse()?;
    if arguments.crossover {
        let (engine, options) = (&analysis.engine, &analysis.options);
        analysis.report.find_crossovers(engine, options)?;
    }
    if arguments.json {
        return out.json(&analysis.report);
    }
    print::print(&analysis.report, out);
    Ok(())
}

impl Report {
    fn new(model: String, engine: &Engine, speeds: &Speeds, times: &time::Report) -> Self {
        let plan = engine.plan();
        let layers: Vec<Layer> = plan
            .choices
            .iter()
            .map(|choice| Layer::new(engine, choice, speeds, times.layer_ms(&choice.layer)))
            .collect();
        let network = Network::new(&layers, times, plan.batch);
        Self {
            model,
            cpu: CpuInfo::query().model_name,
            isa: plan.isa.to_string(),
            caches: plan.caches,
            batch: plan.batch,
            threads: engine.threads(),
            peak: speeds.peak,
            advice: advice::best(&layers, speeds, network.total_ms),
            layers,
            network,
        }
    }

    fn find_crossovers(&mut self, engine: &Engine, options: &CompileOptions) -> Result<()> {
        let mut finder = crossover::Finder::new(engine, options);
        let bar = progress::bar("crossover", self.layers.len() as u64);
        for layer in &mut self.layers {
            layer.crossover = finder.find(&layer.layer)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        finder.save();
        Ok(())
    }
}

impl Layer {
    fn new(engine: &Engine, choice: &Choice, speeds: &Speeds, time_ms: f64) -> Self {
        let limit = speeds.limit(engine, choice);
        let estimate = |cycles: f64| cycles / (speeds.peak.clock_ghz * 1e6);
        let candidates = choice.candidates.iter().map(|candidate| Candidate {
            variant: candidate.variant.clone(),
            estimate_ms: estimate(candidate.cycles),
            measured_ms: candidate.time_ns.map(|ns| ns / 1e6),
        });
        let known = |name: &str| choice.candidates.iter().any(|c| c.variant == name);
        let refused = choice.rejected.iter().filter(|(name, _)| !known(name));
        let busy = limit.compute_ms > 0.0 && time_ms > 0.0;
        Self {
            layer: choice.layer.clone(),
            kind: choice.kind,
            shape: choice.shape.clone(),
            density: choice.density,
            macs: choice.macs,
            macs_nonzero: choice.macs_nonzero,
            weights: limit::weights(engine.graph(), &choice.layer),
            time_ms,
            peak_share: busy.then(|| limit.compute_ms / time_ms),
            limit,
            variant: choice.variant.clone(),
            basis: choice.basis,
            why: why(choice),
            candidates: candidates.collect(),
            refused: refused
                .map(|(variant, reason)| Refused {
                    variant: variant.clone(),
                    reason: reason.clone(),
                })
                .collect(),
            crossover: None,
            code_bytes: choice.code_bytes,
            weight_bytes: choice.weight_bytes,
            jit_ms: choice.build_ns as f64 / 1e6,
        }
    }
}

/// Why the variant was chosen, in words.
fn why(choice: &Choice) -> String {
    let text = match (choice.basis, choice.variant.as_str()) {
        (Basis::Only, "reference") => "no kernel can compute it: the slow reference does",
        (Basis::Only, "view") => "nothing to compute",
        (Basis::Only, "fused") => "the convolution in front of it does it",
        (Basis::Only, _) => "the only variant",
        (Basis::Named, _) => "named by the artifact",
        (Basis::Estimated, _) => "best estimate",
        (Basis::Measured | Basis::Remembered, _) => return by_trial(choice),
        (Basis::Disturbed, _) => {
            return format!("{}, on a busy machine", by_trial(choice));
        }
    };
    text.to_owned()
}

fn by_trial(choice: &Choice) -> String {
    let timed = choice.candidates.iter();
    let timed = timed.filter_map(|c| Some((c.variant.as_str(), c.time_ns?)));
    let (own, others): (Vec<_>, Vec<_>) = timed.partition(|(name, _)| *name == choice.variant);
    let next = others.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    match (own.first(), next) {
        (Some((_, own)), Some((name, next))) if next / own < 1.03 => {
            format!("as fast as {name} within the noise, and the better estimate")
        }
        (Some((_, own)), Some((name, next))) => {
            format!("{:.2} times as fast as {name}", next / own)
        }
        _ => "the only one that could be built".to_owned(),
    }
}

impl Network {
    fn new(layers: &[Layer], times: &time::Report, batch: usize) -> Self {
        let total_ms = times.total_ms();
        let part = |wanted: &dyn Fn(&Layer) -> bool| {
            let some = || layers.iter().filter(|layer| wanted(layer));
            // The sum of no numbers is -0.
            let time_ms = 0.0 + some().map(|layer| layer.time_ms).sum::<f64>();
            Part {
                layers: some().count(),
                time_ms,
                share: time_ms / total_ms.max(f64::MIN_POSITIVE),
                limit_ms: 0.0 + some().map(|layer| layer.limit.limit_ms).sum::<f64>(),
            }
        };
        let dense = part(&|layer| layer::is_dense(&layer.variant));
        let sparse = part(&|layer| layer::is_sparse(&layer.variant));
        let other =
            part(&|layer| !layer::is_dense(&layer.variant) && !layer::is_sparse(&layer.variant));
        let inside = dense.time_ms + sparse.time_ms + other.time_ms;
        Self {
            total_ms,
            spread: times.spread(),
            images_per_second: batch as f64 * 1e3 / total_ms.max(f64::MIN_POSITIVE),
            limit_ms: dense.limit_ms + sparse.limit_ms + other.limit_ms,
            most_without_dense: (dense.time_ms > 0.0).then(|| total_ms / dense.time_ms),
            dense,
            sparse,
            other,
            outside_ms: (total_ms - inside).max(0.0),
            jit_ms: layers.iter().map(|layer| layer.jit_ms).sum(),
            memory: times.memory(),
        }
    }
}
