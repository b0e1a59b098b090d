//! Whole networks through the container: the same graph comes back, or an error.

use proptest::prelude::*;
use skimjit_models::artifact::container::FORMAT;
use skimjit_models::artifact::{self, Kind, Reader, Writer, graph, read_graph, write_graph};
use skimjit_models::ops::{
    Activation, Convolution, InnerProduct, PoolMethod, Pooling, PostOps, Rounding, Window,
};
use skimjit_models::{Graph, Op, Shape, Tensor, ValueId, WeightId, interpreter};

fn tensor(dims: &[u32], value: impl Fn(usize) -> f32) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let data = (0..shape.count()).map(value).collect();
    Tensor::new(shape, data)
}

fn window(kernel: u32, pad: u32) -> Window {
    Window {
        kernel: [kernel; 2],
        stride: [1; 2],
        pad_begin: [pad; 2],
        pad_end: [pad; 2],
        dilation: [1; 2],
    }
}

/// Convolution, ReLU, pooling, inner product, softmax.
fn network() -> Graph {
    let mut graph = Graph {
        name: "small".to_owned(),
        ..Graph::default()
    };
    let sparse = |i: usize| {
        if i.is_multiple_of(5) {
            i as f32 * 0.25 - 3.0
        } else {
            0.0
        }
    };
    let weights = graph.add_weight(tensor(&[4, 2, 3, 3], sparse));
    let bias = graph.add_weight(tensor(&[4], |i| i as f32));
    let classifier = graph.add_weight(tensor(&[3, 64], |i| (i as f32).sin()));
    let data = graph.add_value("data", Shape::new([1, 2, 5, 5]).unwrap());
    let post = PostOps::default();
    let conv = Convolution {
        window: window(3, 1),
        oc: 4,
        groups: 1,
        weights,
        bias: Some(bias),
        post,
    };
    let conv = graph
        .add_node("conv1", Op::Convolution(conv), vec![data], "conv1")
        .unwrap();
    let relu = Op::Activation(Activation::ReLU { slope: 0.0 });
    let relu = graph.add_node("relu1", relu, vec![conv], "conv1").unwrap();
    let pool = Op::Pooling(Pooling {
        method: PoolMethod::Max,
        window: window(2, 0),
        global: false,
        made_for: None,
        rounding: Rounding::Up,
        relu: false,
        mask: false,
    });
    let pool = graph.add_node("pool1", pool, vec![relu], "pool1").unwrap();
    let fc = InnerProduct {
        outputs: 3,
        axis: 1,
        transpose: false,
        weights: classifier,
        bias: None,
        post,
    };
    let fc = graph
        .add_node("fc", Op::InnerProduct(fc), vec![pool], "fc")
        .unwrap();
    let prob = graph
        .add_node("prob", Op::Softmax { axis: 1 }, vec![fc], "prob")
        .unwrap();
    graph.inputs.push(data);
    graph.outputs.push(prob);
    graph
}

fn artifact_of(graph: &Graph) -> Vec<u8> {
    let mut writer = Writer::new();
    write_graph(&mut writer, graph).unwrap();
    writer.to_bytes()
}

fn read(file: &[u8]) -> skimjit_models::Result<Graph> {
    read_graph(&Reader::new(file)?)
}

/// Everything that makes a graph, as text; floats print so that different bits differ.
fn text(graph: &Graph) -> String {
    let weights: Vec<(String, Vec<u32>)> = graph
        .weights
        .iter()
        .map(|w| {
            (
                w.shape().to_string(),
                w.data().iter().map(|v| v.to_bits()).collect(),
            )
        })
        .collect();
    let Graph {
        name,
        values,
        nodes,
        inputs,
        outputs,
        ..
    } = graph;
    format!("{name} {values:?} {nodes:?} {inputs:?} {outputs:?} {weights:?}")
}

#[test]
fn a_network_comes_back() {
    let graph = network();
    let file = artifact_of(&graph);
    assert_eq!(file, artifact_of(&graph), "same graph, same bytes");
    let back = read(&file).unwrap();
    assert_eq!(text(&back), text(&graph));
    let input = tensor(&[1, 2, 5, 5], |i| i as f32 / 7.0 - 3.0);
    let run = |graph: &Graph| interpreter::run(graph, std::slice::from_ref(&input)).unwrap();
    assert_eq!(run(&back), run(&graph));
}

#[test]
fn every_truncation_is_refused() {
    let file = artifact_of(&network());
    for length in 0..file.len() {
        assert!(read(&file[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn every_changed_byte_is_refused_or_harmless() {
    let graph = network();
    let file = artifact_of(&graph);
    for (at, flip) in (0..file.len()).flat_map(|at| [1, 0x40, 0xff].map(|flip| (at, flip))) {
        let mut damaged = file.clone();
        damaged[at] ^= flip;
        if let Ok(back) = read(&damaged) {
            assert_eq!(text(&back), text(&graph), "byte {at}");
        }
    }
}

#[test]
fn a_missing_section_is_named() {
    let graph = network();
    let mut writer = Writer::new();
    assert!(
        read(&writer.to_bytes())
            .unwrap_err()
            .to_string()
            .contains("graph")
    );
    writer
        .add(
            Kind::GRAPH,
            artifact::GRAPH_SECTION,
            graph::encode(&graph).unwrap(),
        )
        .unwrap();
    let text = read(&writer.to_bytes()).unwrap_err().to_string();
    assert!(text.contains("weight.0"), "{text}");
}

/// Encodes a graph that has been made inconsistent, and reads it back.
fn reread(edit: impl FnOnce(&mut Graph)) -> String {
    let mut graph = network();
    edit(&mut graph);
    read(&artifact_of(&graph))
        .expect_err("a refusal")
        .to_string()
}

#[test]
fn inconsistent_graphs_are_refused() {
    let wrong_shape = reread(|graph| graph.values[1].shape = Shape::new([1, 4, 5, 6]).unwrap());
    assert!(
        wrong_shape.contains("conv1") && wrong_shape.contains("1x4x5x5"),
        "{wrong_shape}"
    );
    reread(|graph| graph.nodes.swap(0, 1));
    reread(|graph| graph.nodes[0].inputs.clear());
    reread(|graph| graph.nodes[1].inputs[0] = ValueId(77));
    reread(|graph| graph.nodes[1].output = ValueId(u32::MAX));
    reread(|graph| graph.outputs.push(ValueId(9)));
    reread(|graph| graph.weights.truncate(1));
    reread(|graph| match &mut graph.nodes[0].op {
        Op::Convolution(conv) => conv.weights = WeightId(1),
        _ => unreachable!(),
    });
    reread(|graph| match &mut graph.nodes[0].op {
        Op::Convolution(conv) => conv.window.stride = [0, 0],
        _ => unreachable!(),
    });
}

/// A field more, as a later version may write it, is no field less of what is meant.
#[test]
fn unknown_fields_are_refused() {
    let bytes = graph::encode(&network()).unwrap();
    assert!(graph::decode(FORMAT, &bytes).is_ok());
    // The record is a map: one pair more in front of the others.
    let (&map, rest) = bytes.split_first().unwrap();
    let more = [&[map + 1, 0xA3], b"odd".as_slice(), &[7], rest].concat();
    let error = graph::decode(FORMAT, &more).err().unwrap().to_string();
    assert!(error.contains("not known"), "{error}");
}

proptest! {
    #[test]
    fn any_graph_section_is_survived(
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..8), cut in 0usize..40,
    ) {
        let mut bytes = graph::encode(&network()).unwrap();
        for (at, byte) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        for record in [2, 3, FORMAT].into_iter().filter_map(|format| graph::decode(format, &bytes).ok()) {
            // No more than the unchanged weights, so that a forged shape costs no memory here.
            let total: usize = record.weight_shapes().iter().map(Shape::count).sum();
            if total < 1 << 20 {
                let weights = record.weight_shapes().iter().cloned().map(Tensor::zeros).map(Into::into).collect();
                let _ = record.into_graph(weights);
            }
        }
    }
}
