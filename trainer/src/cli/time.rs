//! `skimjit-train time`.

use super::console::{WARNINGS, warn};
use super::session::{CareArguments, MachineArguments};
use super::trial::{print, print_json};
use serde::Serialize;
use skimjit_caffe::solver::{Networks, SolverDefinition};
use skimjit_caffe::{Definition, Phase};
use skimjit_models::Result;
use skimjit_program::progress;
use skimjit_trainer::engine::NodeTime;
use skimjit_trainer::solver::report::Silent;
use skimjit_trainer::solver::{Solver, Start};
use std::path::PathBuf;
use std::time::Instant;

/// Measures training steps of a network: forward, backward and update, layer by layer, and its memory.
///
/// Medians over many steps with momentum, weight decay and a rate of 0. `skimjit-train net NAME` gives a
/// definition that needs no data.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train net caffenet --batch 16 -o net.prototxt
  skimjit-train time --prototxt net.prototxt")]
pub struct Arguments {
    /// Definition with data layers (train_val)
    #[arg(long = "prototxt", alias = "model", value_name = "FILE")]
    model: PathBuf,
    /// Runs to measure, a training step each, after 2 that are not
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: u32,
    #[command(flatten)]
    care: CareArguments,
    #[command(flatten)]
    machine: MachineArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Medians in milliseconds, and bytes.
#[derive(Serialize)]
struct Times {
    model: PathBuf,
    threads: usize,
    batch: u64,
    iterations: u32,
    layers: Vec<LayerTimes>,
    forward_ms: f64,
    backward_ms: f64,
    /// Data, update and everything else.
    rest_ms: f64,
    step_ms: f64,
    /// Values and their gradients.
    values_bytes: u64,
    /// Parameters, their gradients, and what the update rule remembers.
    parameters_bytes: u64,
    /// Most memory that the process ever had, where the system tells.
    peak_bytes: Option<u64>,
}

#[derive(Serialize)]
struct LayerTimes {
    name: String,
    kind: String,
    forward_ms: f64,
    backward_ms: f64,
}

/// Steps before those that are measured.
const WARM_UP: u32 = 2;

pub fn run(arguments: &Arguments) -> Result<()> {
    arguments.machine.start()?;
    let mut solver = open(arguments)?;
    let times = measure(arguments, &mut solver)?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&times);
        return print_json(text);
    }
    table(&times)
}

/// Updates as they usually are, that change nothing.
const SOLVER: &str = "base_lr: 0 lr_policy: 'fixed' momentum: 0.9 weight_decay: 0.0005 max_iter: 1000000000 random_seed: 1";

fn open(arguments: &Arguments) -> Result<Solver> {
    let definition = Definition::read(&arguments.model, arguments.care.care(), &mut |told| {
        warn(told)
    })?;
    WARNINGS.check()?;
    let networks = Networks {
        train: definition.in_phase(Phase::Train),
        tests: Vec::new(),
    };
    let settings = SolverDefinition::parse(SOLVER)?.0.settings()?;
    let engine = arguments.machine.engine()?;
    Solver::new(settings, &networks, engine, Start::default(), &mut Silent)
}

fn measure(arguments: &Arguments, solver: &mut Solver) -> Result<Times> {
    let id = solver.net();
    let bar = progress::bar("", arguments.iterations.into());
    let (mut steps, mut nodes) = (Vec::new(), Vec::<Vec<NodeTime>>::new());
    for step in 0..WARM_UP + arguments.iterations {
        let start = Instant::now();
        solver.iterate(&mut Silent)?;
        if step >= WARM_UP {
            steps.push(start.elapsed().as_secs_f64());
            nodes.push(solver.engine().times(id).to_vec());
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let total = |step: &[NodeTime], of: fn(&NodeTime) -> f64| step.iter().map(of).sum::<f64>();
    let forward = |step: &Vec<NodeTime>| total(step, |node| node.forward);
    let backward = |step: &Vec<NodeTime>| total(step, |node| node.backward);
    let rest = steps.iter().zip(&nodes);
    let rest = rest.map(|(&step, nodes)| step - forward(nodes) - backward(nodes));
    let layers = layers(solver, &nodes);
    Ok(Times {
        model: arguments.model.clone(),
        threads: rayon::current_num_threads(),
        batch: batch(solver),
        iterations: arguments.iterations,
        layers,
        forward_ms: median(nodes.iter().map(forward).collect()),
        backward_ms: median(nodes.iter().map(backward).collect()),
        rest_ms: median(rest.collect()),
        step_ms: median(steps),
        values_bytes: solver.engine().bytes(id),
        parameters_bytes: parameters_bytes(solver),
        peak_bytes: peak_bytes(),
    })
}

fn layers(solver: &mut Solver, steps: &[Vec<NodeTime>]) -> Vec<LayerTimes> {
    let id = solver.net();
    let of = |node: usize, time: fn(&NodeTime) -> f64| {
        median(
            steps
                .iter()
                .filter_map(|step| step.get(node))
                .map(time)
                .collect(),
        )
    };
    if steps.iter().all(Vec::is_empty) {
        // A GPU is not asked between two layers, which would slow it down.
        return Vec::new();
    }
    let nodes = solver.engine().net(id).graph.nodes.iter().enumerate();
    nodes
        .map(|(index, node)| LayerTimes {
            name: node.name.clone(),
            kind: node.op.name().to_owned(),
            forward_ms: of(index, |node| node.forward),
            backward_ms: of(index, |node| node.backward),
        })
        .collect()
}

/// Images of the first data layer's batch.
fn batch(solver: &mut Solver) -> u64 {
    let id = solver.net();
    let net = solver.engine().net(id);
    let first = net.graph.values.first();
    first.map_or(0, |value| value.shape.dim(0).into())
}

fn parameters_bytes(solver: &mut Solver) -> u64 {
    let engine = solver.engine();
    let mut count = 0;
    for index in 0..engine.params().len() {
        engine.edit(index, &mut |_, state| {
            let history: usize = state.history.iter().map(Vec::len).sum();
            count += state.data.len() + state.gradient.len() + history;
        });
    }
    4 * count as u64
}

/// Linux counts it in KiB.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibi: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibi.checked_mul(1024)
}

/// Milliseconds; 0 of nothing.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    1e3 * seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)
}

fn table(times: &Times) -> Result<()> {
    let width = times.layers.iter().map(|layer| layer.name.len()).max();
    let width = width.unwrap_or(0).max("everything else".len());
    print(&format!(
        "{:width$}  {:>10}  {:>11}  {:>6}",
        "layer", "forward ms", "backward ms", "share"
    ))?;
    let line = |name: &str, forward: f64, backward: f64| {
        let share = 100.0 * (forward + backward) / times.step_ms;
        print(&format!(
            "{name:width$}  {forward:>10.3}  {backward:>11.3}  {share:>5.1}%"
        ))
    };
    for layer in &times.layers {
        line(&layer.name, layer.forward_ms, layer.backward_ms)?;
    }
    line("everything else", times.rest_ms, 0.0)?;
    line("step", times.step_ms, 0.0)?;
    let mebi = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let peak = times.peak_bytes.map_or(String::new(), |bytes| {
        format!(", {:.0} MiB at most", mebi(bytes))
    });
    print(&format!(
        "{} images a step, {} threads, {:.1} images/s; {:.0} MiB of values, {:.0} MiB of parameters{peak}",
        times.batch,
        times.threads,
        1e3 * times.batch as f64 / times.step_ms,
        mebi(times.values_bytes),
        mebi(times.parameters_bytes),
    ))
}
