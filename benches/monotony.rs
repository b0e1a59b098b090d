//! More zeros never make a layer slower, and no layer is slower than its dense kernel.
//!
//! Times are compared as ratios within a round, all engines of a layer taking turns; what is too slow
//! has to be so several times, on a quiet machine: where the machine is busy, this says that nothing is known.
//!
//! `cargo bench --bench monotony`

use skimjit::{CompileOptions, Engine, Isa, Model, Session, TuneCache, Tuning, layer};
use skimjit_models::ops::{Convolution, InnerProduct, PostOps, Window};
use skimjit_models::{Graph, Op, Shape, Tensor};
use skimjit_testing::{Noise, isas};
use std::process::ExitCode;
use std::time::Instant;

/// Zero weights of the sweep, in percent.
const PERCENTS: [u32; 8] = [0, 20, 40, 60, 80, 90, 95, 98];
/// Turns of each engine in one measurement.
const ROUNDS: usize = 21;
/// How much slower counts as slower: what is left of noise in a median of ratios.
const TOLERANCE: f64 = 1.15;
/// Measurements before a layer is said to be too slow.
const ATTEMPTS: usize = 3;

/// How layers are compiled here.
fn options(isa: Isa) -> CompileOptions {
    CompileOptions {
        isa: Some(isa),
        threads: 1,
        batch: Some(1),
        tuning: Some(Tuning::with(TuneCache::in_memory())),
        ..CompileOptions::default()
    }
}

fn main() -> ExitCode {
    let layers = [
        ("3x3 on 14x14", convolution(128, 256, 14, 3)),
        ("1x1 on 14x14", convolution(512, 256, 14, 1)),
        ("5x5 on 27x27", convolution(48, 128, 27, 5)),
        ("inner product 4096 to 2048", inner_product(4096, 2048)),
    ];
    let mut found = false;
    for (name, graph) in &layers {
        for isa in isas() {
            let faults = faults(graph, isa);
            found |= !faults.is_empty();
            let verdict = if faults.is_empty() {
                "as it should be"
            } else {
                "too slow"
            };
            println!("{name}, {isa}: {verdict}");
            faults.iter().for_each(|fault| println!("{fault}"));
        }
    }
    match (found, is_busy()) {
        (false, _) => ExitCode::SUCCESS,
        (true, false) => ExitCode::FAILURE,
        (true, true) => {
            println!("nothing is known: the machine is busy; measure again when nothing else runs");
            ExitCode::SUCCESS
        }
    }
}

fn inner_product(inputs: u32, outputs: u32) -> Graph {
    let op = |graph: &mut Graph| {
        let weights = graph.add_weight(noise(&[outputs, inputs], 1));
        Op::InnerProduct(InnerProduct {
            outputs,
            axis: 1,
            transpose: false,
            weights,
            bias: None,
            post: PostOps::default(),
        })
    };
    single(&[1, inputs], op)
}

fn convolution(ic: u32, oc: u32, side: u32, kernel: u32) -> Graph {
    let op = |graph: &mut Graph| {
        let weights = graph.add_weight(noise(&[oc, ic, kernel, kernel], 1));
        Op::Convolution(Convolution {
            window: Window::square(kernel, 1, kernel / 2),
            oc,
            groups: 1,
            weights,
            bias: None,
            post: PostOps::default(),
        })
    };
    single(&[1, ic, side, side], op)
}

fn single(input: &[u32], op: impl Fn(&mut Graph) -> Op) -> Graph {
    let mut graph = Graph::default();
    let op = op(&mut graph);
    let input = graph.add_value("data", Shape::new(input).unwrap());
    graph.inputs.push(input);
    let output = graph.add_node("layer", op, vec![input], "result").unwrap();
    graph.outputs.push(output);
    graph
}

/// Reproducible numbers of −1 to 1.
fn noise(dims: &[u32], seed: u64) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let data = Noise::new(seed).values(shape.count());
    Tensor::new(shape, data)
}

/// The network with that share of its weights zero; what is zero stays zero at larger shares.
fn pruned(graph: &Graph, percent: u32) -> Model {
    let mut graph = graph.clone();
    let weights = &graph.weights[0];
    let order = noise(weights.shape().dims(), 2);
    let kept = |(&weight, &order): (&f32, &f32)| {
        let zero = order < percent as f32 / 50.0 - 1.0;
        if zero { 0.0 } else { weight }
    };
    let data = weights.data().iter().zip(order.data()).map(kept).collect();
    graph.weights[0] = Tensor::new(weights.shape().clone(), data).into();
    Model::from_graph(graph).unwrap()
}

/// A compiled layer, its name in messages, and where it runs.
struct Contender {
    name: String,
    engine: Engine,
    session: Session,
}

impl Contender {
    fn new(name: String, engine: Engine) -> Self {
        let session = engine.session();
        let variant = &engine.plan().choices[0].variant;
        Self {
            name: format!("{name} ({variant})"),
            engine,
            session,
        }
    }
    fn time(&mut self, input: &[Tensor]) -> f64 {
        let started = Instant::now();
        self.engine.run(&mut self.session, input).unwrap();
        started.elapsed().as_secs_f64()
    }
}

/// What was too slow in every attempt.
fn faults(graph: &Graph, isa: Isa) -> Vec<String> {
    let input = [noise(graph.shape(graph.inputs[0]).dims(), 3)];
    let mut left = pairs();
    let mut messages = Vec::new();
    for _ in 0..ATTEMPTS {
        // Chosen anew as well: what the trials of one compilation measured may be the neighbours' noise.
        let mut contenders = contenders(graph, isa);
        let times = times(&mut contenders, &input);
        left.retain(|&(slower, faster)| ratio(&times[slower], &times[faster]) > TOLERANCE);
        let message = |&(slower, faster): &(usize, usize)| {
            let ratio = ratio(&times[slower], &times[faster]);
            let (slower, faster) = (&contenders[slower].name, &contenders[faster].name);
            format!("  {slower} takes {ratio:.2} times as long as {faster}")
        };
        messages = left.iter().map(message).collect();
        if left.is_empty() {
            break;
        }
    }
    messages
}

/// The dense kernel, then the planner's choice at every sparsity.
fn contenders(graph: &Graph, isa: Isa) -> Vec<Contender> {
    let options = options(isa);
    let full = pruned(graph, 0);
    let planned = full.compile(&options).unwrap();
    let choice = &planned.plan().choices[0];
    let others = choice.candidates.iter().map(|other| &other.variant);
    let mut dense = std::iter::once(&choice.variant)
        .chain(others)
        .filter(|variant| layer::is_dense(variant))
        .filter_map(|variant| layer::force(&full, &options, variant).ok());
    let dense = dense.next().expect("a dense kernel for every layer");
    let choices = PERCENTS.iter().map(|&percent| {
        let engine = pruned(graph, percent).compile(&options).unwrap();
        Contender::new(format!("{percent} % zeros"), engine)
    });
    std::iter::once(Contender::new("the dense kernel".to_owned(), dense))
        .chain(choices)
        .collect()
}

/// Contenders of which the first may not be slower than the second.
fn pairs() -> Vec<(usize, usize)> {
    let all = 1..=PERCENTS.len();
    let than_dense = all.clone().map(|choice| (choice, 0));
    let than_fewer_zeros = all.flat_map(|more| (1..more).map(move |fewer| (more, fewer)));
    than_dense.chain(than_fewer_zeros).collect()
}

/// Seconds of each contender in each round.
fn times(contenders: &mut [Contender], input: &[Tensor]) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            // The first run brings this contender's weights back into the caches.
            contender.time(input);
            times.push(contender.time(input));
        }
    }
    times
}

/// Median of how many times as long the first took, round by round.
fn ratio(times: &[f64], others: &[f64]) -> f64 {
    median(times.iter().zip(others).map(|(a, b)| a / b).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// True when the same work takes now this long, now that long.
fn is_busy() -> bool {
    let work = || {
        let started = Instant::now();
        let sum = (0..2_000_000u64).fold(0, |sum: u64, x| std::hint::black_box(sum ^ x));
        std::hint::black_box(sum);
        started.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = (0..40).map(|_| work()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() * 3 / 4] > 1.2 * times[0]
}
