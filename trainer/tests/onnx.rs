//! Networks of ONNX files: run, pruned and written without training.

#[path = "../../models/onnx/tests/support/mod.rs"]
mod support;

use prost::Message;
use skimjit_models::{Graph, Op, Shape, Tensor, interpreter};
use skimjit_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use skimjit_trainer::engine::Engine;
use skimjit_trainer::executor::CpuEngine;
use skimjit_trainer::onnx::{OnnxNetwork, Purpose};
use skimjit_trainer::prune::change::Outputs;
use skimjit_trainer::prune::one_shot::{Target, one_shot, prunable};
use skimjit_trainer::prune::recalibration::recalibrate_by;
use skimjit_trainer::trial::Stream;
use std::path::Path;
use support::{Attribute, attribute, floats, info, ints, model, node};

/// Numbers of both signs that look like none in particular.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let number = |index: usize| {
        let mixed = (index as u32 + 1)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(seed.wrapping_mul(40_503));
        ((mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b) >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(number).collect()
}

fn weights(name: &str, dims: &[i64], seed: u32) -> TensorProto {
    floats(
        name,
        dims,
        &numbers(dims.iter().product::<i64>() as usize, seed),
    )
}

fn tensor(dims: &[u32], seed: u32) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let data = numbers(shape.count(), seed);
    Tensor::new(shape, data)
}

fn network(
    folder: &Path,
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    outputs: &[&str],
) -> OnnxNetwork {
    let output = |name: &&str| ValueInfoProto {
        name: Some((*name).to_owned()),
        ..ValueInfoProto::default()
    };
    let made: ModelProto = model(GraphProto {
        node: nodes,
        initializer: weights,
        input: vec![info("x", &[0, 3, 7, 6])],
        output: outputs.iter().map(output).collect(),
        ..GraphProto::default()
    });
    let path = folder.join("net.onnx");
    std::fs::write(&path, made.encode_to_vec()).unwrap();
    OnnxNetwork::read(&path, Vec::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// Operators with layers in the trainer, in all the ways that ONNX has and Caffe has not, and some that only have
/// references.
fn mixed(folder: &Path) -> OnnxNetwork {
    let ints_of = |name: &str, values: &[i64]| attribute(name, Attribute::Ints(values));
    let int = |name: &str, value: i64| attribute(name, Attribute::Int(value));
    let nodes = vec![
        node(
            "Conv",
            &["x", "w1", "b"],
            &["c1"],
            &[ints_of("pads", &[0, 1, 1, 0]), ints_of("strides", &[2, 1])],
        ),
        node(
            "BatchNormalization",
            &["c1", "scale", "shift", "mean", "var"],
            &["n1"],
            &[],
        ),
        node("Relu", &["n1"], &["r1"], &[]),
        // Windows of one element, beside which there are zeros at the end only.
        node(
            "Conv",
            &["r1", "w2", "b"],
            &["c2"],
            &[ints_of("pads", &[0, 0, 1, 2])],
        ),
        node("PRelu", &["c2", "slope"], &["p2"], &[]),
        node(
            "Conv",
            &["p2", "w3"],
            &["c3"],
            &[int("group", 2), ints_of("dilations", &[2, 1])],
        ),
        // c3 is a result too, in whose place r3 cannot be made.
        node("Relu", &["c3"], &["r3"], &[]),
        node(
            "MaxPool",
            &["r3"],
            &["m3"],
            &[
                ints_of("kernel_shape", &[2, 2]),
                ints_of("strides", &[2, 2]),
                int("ceil_mode", 1),
            ],
        ),
        node(
            "AveragePool",
            &["m3"],
            &["a3"],
            &[
                ints_of("kernel_shape", &[2, 2]),
                ints_of("pads", &[0, 1, 1, 0]),
            ],
        ),
        node(
            "ConvTranspose",
            &["a3", "w4"],
            &["d4"],
            &[ints_of("strides", &[2, 2]), ints_of("pads", &[1, 0, 0, 0])],
        ),
        node("Sigmoid", &["d4"], &["s4"], &[]),
        node("Mul", &["d4", "s4"], &["y4"], &[]),
        node("Resize", &["y4", "", "factors"], &["u4"], &[]),
        node("Pad", &["u4", "border"], &["q4"], &[]),
        node("Add", &["q4", "row"], &["e4"], &[]),
        node(
            "Transpose",
            &["e4"],
            &["t4"],
            &[ints_of("perm", &[0, 2, 3, 1])],
        ),
        node("MatMul", &["t4", "w5"], &["i5"], &[]),
        node(
            "ReduceMean",
            &["i5", "axes"],
            &["g5"],
            &[int("keepdims", 0)],
        ),
        node("Gemm", &["g5", "w6", "b6"], &["f6"], &[int("transB", 1)]),
        node("Softmax", &["f6"], &["y"], &[]),
    ];
    let made = vec![
        weights("w1", &[4, 3, 3, 3], 1),
        weights("b", &[4], 2),
        floats("scale", &[4], &[1.0, 0.5, -0.5, 2.0]),
        weights("shift", &[4], 3),
        weights("mean", &[4], 4),
        floats("var", &[4], &[1.0, 0.5, 2.0, 3.0]),
        weights("w2", &[4, 4, 1, 1], 5),
        floats("slope", &[4, 1, 1], &[0.1, -0.2, 0.3, 0.0]),
        weights("w3", &[6, 2, 2, 3], 6),
        weights("w4", &[6, 4, 3, 3], 7),
        floats("factors", &[4], &[1.0, 1.0, 2.0, 2.0]),
        ints("border", &[8], &[0, 0, 1, 0, 0, 0, 0, 1]),
        weights("row", &[1], 8),
        weights("w5", &[4, 5], 9),
        ints("axes", &[2], &[1, 2]),
        weights("w6", &[3, 5], 10),
        weights("b6", &[3], 11),
    ];
    network(folder, nodes, made, &["y", "c3"])
}

fn references(graph: &Graph, input: &Tensor) -> Vec<Tensor> {
    let graph = graph.with_batch(input.shape().dim(0)).unwrap();
    interpreter::run_outputs(&graph, std::slice::from_ref(input)).unwrap()
}

fn assert_close(engine: &CpuEngine, stream: &Stream, expected: &[Tensor]) {
    let outputs = &engine.net(stream.id()).graph.outputs;
    for (&id, expected) in outputs.iter().zip(expected) {
        let found = engine.value(stream.id(), id);
        assert_eq!(found.len(), expected.data().len());
        let pairs = found.iter().zip(expected.data());
        let worst = pairs
            .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
            .fold(0.0, f32::max);
        assert!(worst < 1e-5, "{worst}");
    }
}

#[test]
fn the_trainer_computes_what_the_references_do() {
    let folder = tempfile::tempdir().unwrap();
    let network = mixed(folder.path());
    for batch in [1, 3] {
        let mut engine = CpuEngine::default();
        let input = tensor(&[batch, 3, 7, 6], 20 + batch);
        let net = network.net(batch, Purpose::Use).unwrap();
        let stream = Stream::new(&mut engine, net, vec![vec![input.clone()]].into()).unwrap();
        stream.run(&mut engine, &mut |_| Ok(())).unwrap();
        assert_close(&engine, &stream, &references(network.graph(), &input));
    }
}

fn targets(engine: &dyn Engine, stream: &Stream, sparsity: f64) -> Vec<Target> {
    let params = prunable(engine, stream).into_iter();
    params.map(|param| Target { param, sparsity }).collect()
}

/// Bits of what a graph computes by its references.
fn bits(graph: &Graph, input: &Tensor) -> Vec<u32> {
    let outputs = references(graph, input);
    outputs
        .iter()
        .flat_map(Tensor::data)
        .map(|value| value.to_bits())
        .collect()
}

#[test]
fn what_is_pruned_is_written_and_read_again_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let network = mixed(folder.path());
    let mut engine = CpuEngine::default();
    let batches: Vec<Vec<Tensor>> = (0..4)
        .map(|seed| vec![tensor(&[2, 3, 7, 6], seed)])
        .collect();
    let net = network.net(2, Purpose::Use).unwrap();
    let stream = Stream::new(&mut engine, net, batches.clone().into()).unwrap();
    let before = Outputs::of(&mut engine, &stream).unwrap();
    let none = before.change(&mut engine, &stream).unwrap();
    assert!(none.changes.iter().all(|change| change.largest == 0.0));
    assert_eq!(
        (none.changes[0].same_class, none.changes[1].same_class),
        (Some(1.0), None)
    );
    let targets = targets(&engine, &stream, 0.5);
    let names: Vec<&str> = targets
        .iter()
        .map(|one| engine.params()[one.param].layer.as_str())
        .collect();
    assert_eq!(
        names,
        ["c1_Conv", "c2_Conv", "c3_Conv", "i5_MatMul", "f6_Gemm"]
    );
    let reports = one_shot(&mut engine, &stream, &targets, 0.01, &mut |_| ()).unwrap();
    let change = before.change(&mut engine, &stream).unwrap();
    let first = &change.changes[0];
    assert!(
        first.mean > 0.0 && first.largest >= first.mean && first.largest < 1.0,
        "{first:?}"
    );

    let pruned = network.changed(&mut engine).unwrap();
    let path = folder.path().join("pruned.onnx");
    network.write(&mut engine, &path).unwrap();
    let read = OnnxNetwork::read(&path, Vec::new()).unwrap();
    let input = tensor(&[2, 3, 7, 6], 0);
    assert_eq!(bits(&pruned, &input), bits(read.graph(), &input));
    assert_close(&engine, &stream, &references(read.graph(), &batches[3][0]));
    let weighted = |op: &Op| match op {
        Op::Convolution(op) => Some(op.weights),
        Op::InnerProduct(op) => Some(op.weights),
        _ => None,
    };
    let graph = read.graph();
    let zeros = graph
        .nodes
        .iter()
        .filter_map(|node| weighted(&node.op))
        .map(|id| {
            let data = graph.weight(id).data();
            let zeros = data.iter().filter(|weight| weight.to_bits() == 0).count();
            (data.len(), zeros)
        });
    let expected: Vec<(usize, usize)> = reports
        .iter()
        .map(|one| (one.weights, one.weights.div_ceil(2)))
        .collect();
    assert_eq!(zeros.collect::<Vec<_>>(), expected);
}

/// Layers c1 and c2 have one offset in the file: each gets its own, and what one loses does not reach the other.
#[test]
fn offsets_that_layers_share_by_chance_become_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let network = mixed(folder.path());
    let mut engine = CpuEngine::default();
    let net = network.net(1, Purpose::Use).unwrap();
    let stream = Stream::new(
        &mut engine,
        net,
        vec![vec![tensor(&[1, 3, 7, 6], 5)]].into(),
    )
    .unwrap();
    let first: Vec<Target> = targets(&engine, &stream, 0.5).into_iter().take(1).collect();
    one_shot(&mut engine, &stream, &first, 0.01, &mut |_| ()).unwrap();
    let graph = network.changed(&mut engine).unwrap();
    let offset = |layer: &str| {
        let node = graph.nodes.iter().find(|node| node.name == layer).unwrap();
        graph.weight(node.op.weights()[1]).data().to_vec()
    };
    assert_ne!(offset("c1_Conv"), numbers(4, 2));
    assert_eq!(offset("c2_Conv"), numbers(4, 2));
}

#[test]
fn statistics_are_gathered_from_the_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let network = mixed(folder.path());
    assert!(network.has_batch_norm());
    let mut engine = CpuEngine::default();
    let batches = vec![
        vec![tensor(&[2, 3, 7, 6], 1)],
        vec![tensor(&[2, 3, 7, 6], 2)],
    ];
    let net = network.net(2, Purpose::Statistics).unwrap();
    let gathering = Stream::new(&mut engine, net, batches.clone().into()).unwrap();
    assert_eq!(recalibrate_by(&mut engine, &gathering).unwrap(), 1);
    let graph = network.changed(&mut engine).unwrap();
    let norm = graph.nodes.iter().find_map(|node| match &node.op {
        Op::BatchNorm(norm) => Some((norm, node.inputs[0])),
        _ => None,
    });
    let (norm, seen) = norm.unwrap();
    let of_two = graph.with_batch(2).unwrap();
    let values = batches.iter().map(|batch| {
        let values = interpreter::run(&of_two, batch).unwrap();
        values[seen.0 as usize].clone()
    });
    let values: Vec<Tensor> = values.collect();
    let plane = values[0].shape().count_of(2, 4);
    let of_channel = |values: &Tensor| {
        let planes = values.data().chunks_exact(plane).step_by(4);
        let all: Vec<f64> = planes.flatten().map(|&x| f64::from(x)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        (
            mean,
            all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (all.len() - 1) as f64,
        )
    };
    let (mut mean, mut variance) = (0.0, 0.0);
    for (m, v) in values.iter().map(of_channel) {
        mean += m / 2.0;
        variance += v / 2.0;
    }
    let [found_mean, found_variance] = norm.running_statistics(&graph.weights, 0);
    assert!((found_mean - mean).abs() < 1e-5, "{found_mean} {mean}");
    assert!(
        (found_variance - variance).abs() < 1e-4,
        "{found_variance} {variance}"
    );
}

#[test]
fn a_batch_divides_the_images() {
    let folder = tempfile::tempdir().unwrap();
    let network = mixed(folder.path());
    let batches = [1, 7, 16, 17, 24, 48].map(|images| network.batch_for(images).unwrap());
    assert_eq!(batches, [1, 7, 16, 1, 12, 16]);
}
