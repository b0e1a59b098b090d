//! Random networks for other batches and sizes, whose plans share kernels.

mod network;
#[expect(
    dead_code,
    reason = "images of the recipe's own sizes are not used here"
)]
mod random;

use network::Random;
use proptest::prelude::*;
use random::Recipe;
use skimjit_models::ops::{
    Binary, BinaryOp, Eltwise, EltwiseOp, PostOps, Reduce, ReduceOp, Window,
};
use skimjit_models::{Graph, Op, Shape, Tensor, interpreter};
use skimjit_runtime::jit::Isa;
use skimjit_runtime::{KernelStore, Options, Plan, Session, ThreadPool, plan};
use skimjit_testing::isas;
use std::sync::Arc;

/// Allowed difference, as a share of the largest value of an output.
const TOLERANCE: f32 = 1e-4;
/// Largest value of outputs whose values are all smaller: differences of equal numbers.
const SMALLEST_SCALE: f32 = 1e-2;

fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.div_ceil(8),
        max_shrink_iters: 1_000,
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn resized_networks_agree_with_the_interpreter(
        recipe in Recipe::any(), batch in 1u32..=4, other in 1u32..=6, grow in [0u32..9, 0u32..9],
    ) {
        let graph = recipe.graph(batch);
        if !graph.nodes.is_empty() {
            check(&graph, other, grow).map_err(TestCaseError::fail)?;
        }
    }
}

/// The network as it is, for another batch, and for another size: with kernels of the plans before,
/// and without.
fn check(graph: &Graph, batch: u32, grow: [u32; 2]) -> Result<(), String> {
    let mut graphs = vec![graph.clone()];
    // Layers that have to refuse the change do.
    graphs.extend(graph.with_batch(batch).ok());
    graphs.extend(larger(graph, grow));
    graphs.extend(
        graph
            .with_batch(batch)
            .ok()
            .and_then(|graph| larger(&graph, grow)),
    );
    for isa in isas() {
        let options = Options {
            kernels: Some(Arc::new(KernelStore::default())),
            ..Options::default()
        };
        let mut alive: Vec<Arc<Plan>> = Vec::new();
        for graph in &graphs {
            let inputs = images(graph);
            let expected =
                interpreter::run_outputs(graph, &inputs).map_err(|error| error.to_string())?;
            let shared = planned(graph, isa, &options)?;
            let alone = planned(graph, isa, &Options::default())?;
            let (found, again) = (execute(&shared, &inputs)?, execute(&alone, &inputs)?);
            alive.push(shared);
            for (index, expected) in expected.iter().enumerate() {
                let shape = graph.shape(graph.inputs[0]);
                let what = |fault| format!("{isa}, input {shape}, output {index}: {fault}");
                difference(&found[index], expected.data()).map_err(what)?;
                if found[index]
                    .iter()
                    .map(|x| x.to_bits())
                    .ne(again[index].iter().map(|x| x.to_bits()))
                {
                    return Err(what("shared kernels change bits".to_owned()));
                }
            }
        }
    }
    Ok(())
}

/// With larger images, if the layers can work on them.
fn larger(graph: &Graph, grow: [u32; 2]) -> Option<Graph> {
    let mut shapes = Vec::new();
    for &id in &graph.inputs {
        let mut dims = graph.shape(id).dims().to_vec();
        if let [_, _, h, w] = &mut dims[..] {
            *h += grow[0];
            *w += grow[1];
        }
        shapes.push((graph.value(id).name.as_str(), Shape::new(dims).ok()?));
    }
    graph.with_input_shapes(&shapes).ok()
}

fn images(graph: &Graph) -> Vec<Tensor> {
    let mut random = Random::new(11);
    let inputs = graph.inputs.iter();
    inputs
        .map(|&id| random.tensor(graph.shape(id).dims(), 1.0))
        .collect()
}

fn planned(graph: &Graph, isa: Isa, options: &Options) -> Result<Arc<Plan>, String> {
    plan(graph, isa, options)
        .map(Arc::new)
        .map_err(|error| format!("{isa}: {error}"))
}

fn execute(plan: &Arc<Plan>, inputs: &[Tensor]) -> Result<Vec<Vec<f32>>, String> {
    let pool = Arc::new(ThreadPool::new(2)?);
    let mut session = Session::new(plan.clone(), pool);
    let rows = |per_image: bool| if per_image { plan.batch } else { 1 };
    let ports = plan.outputs.iter();
    let mut outputs: Vec<Vec<f32>> = ports
        .map(|port| vec![f32::NAN; port.elems * rows(port.per_image)])
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Tensor::data).collect();
    let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(|output| &mut output[..]).collect();
    session
        .run(&inputs, &mut slices)
        .map_err(|error| error.to_string())?;
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
    match found.iter().zip(expected).position(differs) {
        None => Ok(()),
        Some(index) => Err(format!(
            "element {index}: found {}, expected {}",
            found[index], expected[index]
        )),
    }
}

/// A plan for another batch takes over what is computed image by image, and gives it up with the last
/// plan that uses it.
#[test]
fn plans_share_kernels_that_are_the_same() {
    let isa = Isa::detect(None).expect("an x86 CPU with AVX2");
    let store = Arc::new(KernelStore::default());
    let options = Options {
        kernels: Some(store.clone()),
        keep_code: true,
        ..Options::default()
    };
    let graph = network::everything(1);
    let one = plan(&graph, isa, &options).unwrap();
    let made = store.kernels();
    assert!(made > 3 && store.hits() < made, "{made} made");
    let hits = store.hits();
    let two = plan(&graph.with_batch(2).unwrap(), isa, &options).unwrap();
    assert!(
        store.hits() > hits + 3,
        "{} taken over",
        store.hits() - hits
    );
    assert!(two.code_bytes > 0);
    // What is listed is the code that runs, new or not.
    let listed = |plan: &Plan| {
        plan.listings
            .iter()
            .map(|listing| listing.bytes.len())
            .sum::<usize>()
    };
    assert_eq!(
        [listed(&one), listed(&two)],
        [one.code_bytes, two.code_bytes]
    );
    drop(one);
    assert!(store.kernels() > 0, "the second plan uses some");
    drop(two);
    assert_eq!(store.kernels(), 0);
}

/// No blob may be larger than kernels can address; nothing is allocated for one that is.
#[test]
fn networks_that_are_too_large_are_refused() {
    let isa = Isa::detect(None).expect("an x86 CPU with AVX2");
    let (mut net, data) = network::Net::new(1, 3, 8, 8);
    let window = skimjit_models::ops::Window::square(3, 1, 1);
    let conv = net.conv(data, 4, window, 1, 1.0, true);
    net.graph.outputs = vec![conv];
    let large = Shape::new([1, 3, 10_000, 10_000]).unwrap();
    let large = net.graph.with_input_shapes(&[("data", large)]).unwrap();
    let error = plan(&large, isa, &Options::default())
        .map(drop)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("1x3x10000x10000") && text.contains("268435456"),
        "{text}"
    );
}

/// The memory of an image holds other layouts when the next image begins in the middle of the network: behind a
/// layer that computes the whole batch.
#[test]
fn images_begin_anew_behind_layers_of_the_batch() {
    let (mut net, data) = network::Net::new(3, 1, 5, 11);
    let double = Eltwise {
        op: EltwiseOp::Sum {
            coefficients: vec![1.0, 1.0],
        },
        post: PostOps::default(),
    };
    let sum = net.add(Op::Eltwise(double), &[data, data]);
    let first = net.add(Op::Concat { axis: 1 }, &[sum, data, data]);
    let rows = net.fc(first, 100, 0.0);
    let point = Window::square(1, 1, 0);
    let before = net.conv(first, 1, point, 1, 0.0, false);
    let wider = Window {
        pad_end: [0, 1],
        ..point
    };
    let wide = net.conv(before, 2, wider, 1, 0.0, false);
    let mean = Reduce {
        op: ReduceOp::Mean,
        axes: vec![2, 3],
        keep: true,
    };
    let mean = net.add(Op::Reduce(mean), &[sum]);
    let add = Binary {
        op: BinaryOp::Add,
        post: PostOps::default(),
    };
    let moved = net.add(Op::Binary(add), &[sum, mean]);
    let after = net.conv(moved, 2, Window::square(3, 1, 1), 1, 1.0, false);
    let last = net.add(Op::Identity, &[after]);
    net.graph.outputs = vec![rows, wide, last];
    check(&net.graph, 4, [0, 0]).unwrap();
}
