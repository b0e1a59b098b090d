//! `skimjit bench`.

use super::args::{self, AskedTuneArguments, MOST_IMAGES, MachineArguments, iterations_parser};
use super::output::Output;
use super::problem::Problem;
use super::synth::{parse_net, parse_sparsity, usual_sparsity};
use super::table::{Table, left, milliseconds, percent, right};
use super::timing::{Repeat, median};
use super::{matrix_market, noise, progress, verify};
use serde::Serialize;
use skimjit::layer;
use skimjit::models::zoo::{self, Net, Sparsity};
use skimjit::models::{Error as InputError, Shape, Tensor, import, passes};
use skimjit::runtime::jit::CpuInfo;
use skimjit::runtime::machine::{self, Peak};
use skimjit::runtime::{Choice, Profile};
use skimjit::{CompileOptions, Engine, Error, Isa, Model, Result, Session};
use std::path::PathBuf;
use std::time::Duration;

/// Measures sparse kernels beside dense ones, layer by layer, and a whole network against its dense
/// plan.
///
/// The network is made up with the sparsities asked for, compiled, and verified once. Sparse and
/// dense run by turns; times are medians. A layer is measured on its own, so its weights stay in the
/// caches that hold them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit bench --net caffenet
  skimjit bench --net googlenet --batch 16 --layer inception_3a/3x3
  skimjit bench --mtx coo_conv2.mtx --problem g2mb1ic96ih27oc256oh27kh5ph2")]
pub struct Arguments {
    /// Network: lenet, cifar10-quick, squeezenet, googlenet, resnet-50, caffenet, alexnet, vgg-16
    #[arg(long, value_name = "NET", default_value = "caffenet", value_parser = parse_net)]
    net: &'static Net,
    /// Only this layer
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// Percentage of zero weights [default: published, or 90]
    #[arg(long, value_name = "PERCENT|published", value_parser = parse_sparsity)]
    sparsity: Option<Sparsity>,
    /// Images computed together
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 1
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_IMAGES))]
    batch: u32,
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
    /// Weights of one layer as a MatrixMarket file, instead of a network
    #[arg(long, value_name = "FILE", requires = "problem", conflicts_with_all = ["net", "layer", "sparsity"])]
    mtx: Option<PathBuf>,
    /// Problem that the weights are for, as in `verify --kernel`
    #[arg(long, value_name = "PROBLEM", requires = "mtx", value_parser = Problem::parse)]
    problem: Option<Problem>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Time for each layer's measurement when the number of runs is left open.
const LAYER_TIME: Duration = Duration::from_millis(400);
/// The same for the whole network.
const NET_TIME: Duration = Duration::from_secs(3);
/// Allowed difference from the reference, as a share of the largest value.
const TOLERANCE: f64 = 1e-4;

#[derive(Serialize)]
struct Report {
    cpu: String,
    isa: String,
    threads: usize,
    /// Of one core.
    peak: Option<Peak>,
    network: String,
    batch: u32,
    seed: u64,
    /// Largest difference from the reference over largest value.
    verified_difference: f64,
    layers: Vec<Layer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<Whole>,
}

/// One layer.
#[derive(Serialize)]
struct Layer {
    layer: String,
    kind: &'static str,
    shape: String,
    density: f64,
    /// Variant that the planner chooses.
    chosen: String,
    sparse: Option<Kernel>,
    dense: Option<Kernel>,
}

/// One variant on one layer.
#[derive(Serialize)]
struct Kernel {
    variant: String,
    /// Median time of one batch.
    time_ms: f64,
    /// As if every weight took part.
    dense_equivalent_gflops: f64,
    /// Multiply-adds that the variant does, two operations each.
    gflops: f64,
    /// Of the measured peak of all threads.
    peak_share: Option<f64>,
}

/// The whole network.
#[derive(Serialize)]
struct Whole {
    time_ms: f64,
    dense_time_ms: f64,
    images_per_second: f64,
    dense_images_per_second: f64,
}

/// What does not change during a bench.
struct Bench<'a> {
    arguments: &'a Arguments,
    options: CompileOptions,
    isa: Isa,
    peak: Option<Peak>,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    // Shares of the peak mean most for one core.
    let threads = arguments.machine.threads()?.unwrap_or(1);
    let isa = arguments.machine.isa()?;
    let options = arguments.machine.options()?;
    let options = CompileOptions {
        threads,
        batch: Some(arguments.batch),
        tuning: arguments.tune.tuning(),
        ..options
    };
    let peak = progress::spin("measuring the machine", || machine::measure(isa));
    let bench = Bench {
        arguments,
        options,
        isa,
        peak,
    };
    let report = match (&arguments.mtx, &arguments.problem) {
        (Some(mtx), Some(problem)) => bench.matrix(mtx, problem)?,
        _ => bench.network()?,
    };
    if arguments.json {
        return out.json(&report);
    }
    print(&report, out);
    Ok(())
}

impl Bench<'_> {
    fn report(&self, network: String) -> Report {
        Report {
            cpu: CpuInfo::query().model_name,
            isa: self.isa.to_string(),
            threads: self.options.threads,
            peak: self.peak,
            network,
            batch: self.arguments.batch,
            seed: self.arguments.seed,
            verified_difference: 0.0,
            layers: Vec::new(),
            whole: None,
        }
    }

    /// A layer whose weights are in a file.
    fn matrix(&self, mtx: &std::path::Path, problem: &Problem) -> Result<Report> {
        let weights = matrix_market::read(mtx, problem.rows_and_columns())?;
        let bias = Tensor::zeros(Shape::new([problem.oc])?);
        let model = problem.model_with(weights, bias)?;
        let batch = problem.batch;
        let options = CompileOptions {
            batch: Some(batch),
            ..self.options.clone()
        };
        let mut report = Report {
            batch,
            ..self.report(mtx.display().to_string())
        };
        report.verified_difference = verified(&model, &options)?;
        report.layers.push(self.layer(&model, &options)?);
        Ok(report)
    }

    fn network(&self) -> Result<Report> {
        let (net, arguments) = (self.arguments.net, self.arguments);
        let sparsity = arguments.sparsity.unwrap_or_else(|| usual_sparsity(net));
        let made = progress::spin("making weights", || {
            zoo::synthesize(net, sparsity, arguments.seed)
        })?;
        let graph = import::import(made, Vec::new(), &import::ImportOptions::default())?.graph;
        let optimized = passes::optimize(graph.with_batch(arguments.batch)?)?;
        let model = Model::from_graph(graph)?;
        let mut singles = Vec::new();
        for node in 0..optimized.nodes.len() {
            let wanted = arguments.layer.as_ref();
            if wanted.is_none_or(|name| *name == optimized.nodes[node].name) {
                singles.extend(layer::single(&optimized, node)?);
            }
        }
        if singles.is_empty() {
            let nodes = optimized.nodes.iter().enumerate();
            let weighted = nodes.filter(|(_, node)| !node.op.weights().is_empty());
            let names: Vec<&str> = weighted.map(|(_, node)| node.name.as_str()).collect();
            let name = arguments.layer.clone().unwrap_or_default();
            let list = names.join(", ");
            return Err(Error::Usage(format!(
                "--layer: found \"{name}\", expected one of: {list}"
            )));
        }
        let percent = match sparsity {
            Sparsity::Published => "published sparsities".to_owned(),
            Sparsity::Percent(percent) => format!("{percent} % zeros"),
        };
        let mut report = self.report(format!("{}, {percent}", net.name));
        let verified_model = if arguments.layer.is_some() {
            &singles[0]
        } else {
            &model
        };
        report.verified_difference = verified(verified_model, &self.options)?;
        let bar = progress::bar("layers", singles.len() as u64);
        for single in &singles {
            report.layers.push(self.layer(single, &self.options)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if arguments.layer.is_none() {
            report.whole = Some(progress::spin("whole network", || self.whole(&model))?);
        }
        Ok(report)
    }

    /// Best sparse and best dense variant of a layer, by turns.
    fn layer(&self, model: &Model, options: &CompileOptions) -> Result<Layer> {
        let planned = args::compile(model, options)?;
        let Some(choice) = planned.plan().choices.first().cloned() else {
            return Err(InputError::new("a network without layers")
                .expected("a layer")
                .into());
        };
        let force = |kind: fn(&str) -> bool| -> Result<Option<Engine>> {
            let variants = usable(&choice).find(|variant| kind(variant));
            variants
                .map(|variant| layer::force(model, options, variant))
                .transpose()
        };
        let engines = [force(layer::is_sparse)?, force(layer::is_dense)?];
        let images = planned.plan().batch as u32;
        let inputs = noise::inputs(model, images, self.arguments.seed)?;
        let times = self.by_turns(&engines, &inputs)?;
        let density = choice.density.unwrap_or(1.0);
        let images = u64::from(images);
        let kernel = |index: usize, macs: u64| {
            let variant = engines[index]
                .as_ref()?
                .plan()
                .choices
                .first()?
                .variant
                .clone();
            Some(self.kernel(variant, times[index], images * choice.macs, images * macs))
        };
        let (sparse, dense) = (kernel(0, choice.macs_nonzero), kernel(1, choice.macs));
        let (layer, chosen, shape) = (
            choice.layer.clone(),
            choice.variant.clone(),
            choice.shape.clone(),
        );
        Ok(Layer {
            layer,
            kind: choice.kind,
            shape,
            density,
            chosen,
            sparse,
            dense,
        })
    }

    fn kernel(&self, variant: String, time_ms: f64, dense_macs: u64, macs: u64) -> Kernel {
        let rate = |macs: u64| 2.0 * macs as f64 / (time_ms.max(1e-9) * 1e6);
        let threads = self.options.threads as f64;
        Kernel {
            variant,
            time_ms,
            dense_equivalent_gflops: rate(dense_macs),
            gflops: rate(macs),
            peak_share: self.peak.map(|peak| rate(macs) / (peak.gflops * threads)),
        }
    }

    /// Median times in milliseconds, 0 where there is no engine.
    fn by_turns(&self, engines: &[Option<Engine>; 2], inputs: &[Tensor]) -> Result<[f64; 2]> {
        let mut sessions: [Option<Session>; 2] =
            [0, 1].map(|index| engines[index].as_ref().map(Engine::session));
        let mut times: [Vec<f64>; 2] = [vec![], vec![]];
        let mut measure = |keep: bool| -> Result<()> {
            for ((engine, session), times) in engines.iter().zip(&mut sessions).zip(&mut times) {
                let (Some(engine), Some(session)) = (engine, session) else {
                    continue;
                };
                session.start_profile();
                engine.run(session, inputs)?;
                let time = session
                    .profile()
                    .map_or(0.0, |profile| kernel_ms(engine, profile));
                times.extend(keep.then_some(time));
            }
            Ok(())
        };
        measure(false)?;
        Repeat::new(self.arguments.iterations, LAYER_TIME).run(|| measure(true))?;
        Ok(times.map(median))
    }

    /// The planned network and its dense plan, by turns.
    fn whole(&self, model: &Model) -> Result<Whole> {
        let planned = args::compile(model, &self.options)?;
        let dense = |choice: &Choice| {
            let variant = usable(choice)
                .find(|variant| layer::is_dense(variant))?
                .to_owned();
            Some((choice.layer.clone(), variant))
        };
        let variants = planned.plan().choices.iter().filter_map(dense).collect();
        let dense = model.compile(&CompileOptions {
            variants,
            ..self.options.clone()
        })?;
        let inputs = noise::inputs(model, self.arguments.batch, self.arguments.seed)?;
        let engines = [planned, dense];
        let mut sessions = [engines[0].session(), engines[1].session()];
        let mut times: [Vec<f64>; 2] = [vec![], vec![]];
        let mut measure = |keep: bool| -> Result<()> {
            for ((engine, session), times) in engines.iter().zip(&mut sessions).zip(&mut times) {
                let started = std::time::Instant::now();
                engine.run(session, &inputs)?;
                times.extend(keep.then_some(started.elapsed().as_secs_f64() * 1e3));
            }
            Ok(())
        };
        measure(false)?;
        Repeat::new(self.arguments.iterations, NET_TIME).run(|| measure(true))?;
        let [time_ms, dense_time_ms] = times.map(median);
        let per_second = |ms: f64| f64::from(self.arguments.batch) * 1e3 / ms.max(1e-9);
        Ok(Whole {
            time_ms,
            dense_time_ms,
            images_per_second: per_second(time_ms),
            dense_images_per_second: per_second(dense_time_ms),
        })
    }
}

/// Variants that can compute a layer: the chosen one, then the others, best estimate first.
fn usable(choice: &Choice) -> impl Iterator<Item = &str> {
    let names = choice.candidates.iter().map(|c| c.variant.as_str());
    let others = names.filter(|name| *name != choice.variant);
    std::iter::once(choice.variant.as_str()).chain(others)
}

/// Elapsed time without the copies at the network's ends, which a layer inside a network does not
/// have.
fn kernel_ms(engine: &Engine, profile: &Profile) -> f64 {
    let copies = ["copy", "output", "to columns", "from columns"];
    let steps = profile.steps();
    let copied: u64 = steps
        .iter()
        .filter(|step| copies.contains(&step.label))
        .map(|step| step.time_ns)
        .sum();
    let copied = copied as f64 / engine.threads() as f64;
    (profile.wall_ns() as f64 - copied).max(0.0) / 1e6
}

/// Largest difference from the reference; an error when it is too large.
fn verified(model: &Model, options: &CompileOptions) -> Result<f64> {
    let inputs = noise::usual_inputs(model, options.batch)?;
    let options = args::settle(model, options)?;
    let found = progress::spin("verifying", || {
        skimjit::verify::verify(model, &options, &inputs, TOLERANCE)
    })?;
    if let Some(failed) = found.first_failure() {
        return Err(verify::failure(failed, TOLERANCE));
    }
    let checks = found.layers.iter().chain(&found.outputs);
    Ok(checks.fold(0.0, |most, check| check.relative.max(most)))
}

fn print(report: &Report, out: &mut Output) {
    let threads = report.threads;
    out.line(format!("{}, {}, {threads} threads", report.cpu, report.isa));
    if let Some(peak) = report.peak {
        out.line(format!(
            "measured for one core: {:.1} GFLOP/s, {:.1} GB/s read from memory",
            peak.gflops, peak.read_gbps
        ));
    }
    out.line(format!(
        "{}, batch {}, seed {}; verified against the reference, largest difference {:.1e}",
        report.network, report.batch, report.seed, report.verified_difference
    ));
    out.line("");
    let mut table = Table::new([
        left("layer"),
        left("output"),
        right("density"),
        left("sparse variant"),
        right("sparse ms"),
        right("dense ms"),
        right("speedup"),
        right("GF/s as dense"),
        right("GF/s real"),
        right("peak"),
        right("dense GF/s"),
        right("peak"),
        left("planned"),
    ]);
    report.layers.iter().for_each(|layer| table.row(row(layer)));
    out.line(table);
    if let Some(whole) = &report.whole {
        out.line("");
        out.line(format!(
            "whole network: {} ms ({:.1} images/s); all layers dense: {} ms ({:.1} images/s); {:.2} times as fast",
            milliseconds(whole.time_ms),
            whole.images_per_second,
            milliseconds(whole.dense_time_ms),
            whole.dense_images_per_second,
            whole.dense_time_ms / whole.time_ms.max(1e-9)
        ));
    }
}

fn row(layer: &Layer) -> Vec<String> {
    let text = |kernel: &Option<Kernel>, cell: &dyn Fn(&Kernel) -> String| {
        kernel.as_ref().map_or_else(|| "-".to_owned(), cell)
    };
    let share = |kernel: &Kernel| kernel.peak_share.map(percent).unwrap_or_default();
    let speedup = match (&layer.sparse, &layer.dense) {
        (Some(sparse), Some(dense)) => format!("{:.2}", dense.time_ms / sparse.time_ms.max(1e-9)),
        _ => "-".to_owned(),
    };
    let planned = if layer::is_sparse(&layer.chosen) {
        "sparse"
    } else {
        "dense"
    };
    vec![
        layer.layer.clone(),
        layer.shape.clone(),
        percent(layer.density),
        text(&layer.sparse, &|kernel| kernel.variant.clone()),
        text(&layer.sparse, &|kernel| milliseconds(kernel.time_ms)),
        text(&layer.dense, &|kernel| milliseconds(kernel.time_ms)),
        speedup,
        text(&layer.sparse, &|kernel| {
            format!("{:.1}", kernel.dense_equivalent_gflops)
        }),
        text(&layer.sparse, &|kernel| format!("{:.1}", kernel.gflops)),
        text(&layer.sparse, &share),
        text(&layer.dense, &|kernel| format!("{:.1}", kernel.gflops)),
        text(&layer.dense, &share),
        planned.to_owned(),
    ]
}
