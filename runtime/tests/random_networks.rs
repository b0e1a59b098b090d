//! Random networks through planner and session, compared with the reference interpreter.
//!
//! `PROPTEST_CASES` sets how many, four times as many as are run here.

#[expect(
    dead_code,
    reason = "the other suites' network; only its random numbers are used here"
)]
mod network;
mod random;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use random::Recipe;
use skimjit_models::{Graph, Shape, Tensor, interpreter, passes};
use skimjit_runtime::{Options, Plan, Session, ThreadPool, plan};
use skimjit_testing::isas;
use std::sync::Arc;

/// Allowed difference, as a share of the largest value of an output.
const TOLERANCE: f32 = 1e-4;
/// Largest value of outputs whose values are all smaller: differences of equal numbers.
const SMALLEST_SCALE: f32 = 1e-2;

/// How a network is run.
#[derive(Clone, Debug)]
struct Run {
    /// Images computed together.
    batch: u32,
    /// Images there are.
    images: u32,
    threads: usize,
    /// Run the graph passes first.
    optimize: bool,
}

fn run() -> impl Strategy<Value = Run> {
    let batch = prop_oneof![3 => 1u32..=5, 1 => Just(16u32)];
    (batch, 1u32..=5, 2usize..=3, any::<bool>()).prop_map(|(batch, images, threads, optimize)| {
        Run {
            batch,
            images,
            threads,
            optimize,
        }
    })
}

fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.div_ceil(4),
        max_shrink_iters: 2_000,
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    /// Checklist 30.
    #[test]
    fn engine_and_interpreter_agree(recipe in Recipe::any(), run in run()) {
        let graph = recipe.graph(run.batch);
        if graph.nodes.is_empty() {
            return Ok(());
        }
        check(&recipe, &graph, &run)?;
    }
}

fn check(recipe: &Recipe, graph: &Graph, run: &Run) -> Result<(), TestCaseError> {
    faults(recipe, graph, run)
        .map_err(|fault| TestCaseError::fail(format!("{fault}\n{}", listing(graph))))
}

fn faults(recipe: &Recipe, graph: &Graph, run: &Run) -> Result<(), String> {
    // Images that depend on each other come in full batches.
    let n = if is_coupled(graph) {
        run.batch
    } else {
        run.images
    };
    let inputs = recipe.images(n);
    let alone = graph.with_batch(n).map_err(|error| error.to_string())?;
    let expected = interpreter::run_outputs(&alone, &inputs).map_err(|error| error.to_string())?;
    let mut planned = graph.clone();
    if run.optimize {
        planned = passes::optimize(planned).map_err(|error| error.to_string())?;
    }
    for isa in isas() {
        let plan = plan(&planned, isa, &Options::default());
        let plan = Arc::new(plan.map_err(|error| format!("{isa}: {error}"))?);
        let [one, team] = [1, run.threads].map(|threads| execute(&plan, threads, &inputs, n));
        let (one, team) = (one?, team?);
        for (index, expected) in expected.iter().enumerate() {
            let name = &graph.value(graph.outputs[index]).name;
            let what = |fault| format!("{isa}, {n} images, output {name}: {fault}");
            difference(&one[index], expected.data()).map_err(what)?;
            same_bits(&one[index], &team[index]).map_err(what)?;
        }
    }
    Ok(())
}

/// True when some layer mixes the images of a batch.
fn is_coupled(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| {
        let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
        !node.op.per_image(&shapes)
    })
}

/// Outputs of the second run, in which nothing is left of the first.
fn execute(
    plan: &Arc<Plan>,
    threads: usize,
    inputs: &[Tensor],
    n: u32,
) -> Result<Vec<Vec<f32>>, String> {
    let pool = Arc::new(ThreadPool::new(threads)?);
    let mut session = Session::new(plan.clone(), pool);
    let rows = |per_image: bool| if per_image { n as usize } else { 1 };
    let ports = plan.outputs.iter();
    let mut outputs: Vec<Vec<f32>> = ports
        .map(|port| vec![f32::NAN; port.elems * rows(port.per_image)])
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Tensor::data).collect();
    for _ in 0..2 {
        outputs.iter_mut().for_each(|output| output.fill(f32::NAN));
        let mut slices: Vec<&mut [f32]> =
            outputs.iter_mut().map(|output| &mut output[..]).collect();
        session
            .run(&inputs, &mut slices)
            .map_err(|error| error.to_string())?;
    }
    Ok(outputs)
}

/// An error that names the first element that differs too much.
fn difference(found: &[f32], expected: &[f32]) -> Result<(), String> {
    if found.len() != expected.len() {
        let (found, expected) = (found.len(), expected.len());
        return Err(format!("found {found} elements, expected {expected}"));
    }
    let largest = |most: f32, x: &f32| most.max(x.abs());
    let scale = expected.iter().fold(SMALLEST_SCALE, largest);
    let differs = |(a, b): (&f32, &f32)| (a - b).abs() > TOLERANCE * scale || a.is_nan();
    let Some(index) = found.iter().zip(expected).position(differs) else {
        return Ok(());
    };
    let (found, expected) = (found[index], expected[index]);
    Err(format!(
        "element {index}: found {found}, expected {expected}"
    ))
}

/// An error when the number of threads changes any bit.
fn same_bits(one: &[f32], team: &[f32]) -> Result<(), String> {
    let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    let Some(index) = one.iter().zip(team).position(differs) else {
        return Ok(());
    };
    let (one, team) = (one[index], team[index]);
    Err(format!(
        "element {index}: one thread finds {one}, several {team}"
    ))
}

/// The network in words.
fn listing(graph: &Graph) -> String {
    let line = |node: &skimjit_models::ir::Node| {
        let name = |&id| format!("{} {}", graph.value(id).name, graph.shape(id));
        let inputs: Vec<String> = node.inputs.iter().map(name).collect();
        format!(
            "{} = {:?} of {}\n",
            name(&node.output),
            node.op,
            inputs.join(", ")
        )
    };
    let outputs: Vec<&str> = graph
        .outputs
        .iter()
        .map(|&id| graph.value(id).name.as_str())
        .collect();
    let nodes: String = graph.nodes.iter().map(line).collect();
    format!("{nodes}outputs: {}", outputs.join(", "))
}
