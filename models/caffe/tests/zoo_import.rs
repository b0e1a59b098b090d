//! The zoo through the importer, the interpreter and the container.

use skimjit_caffe::import::{ImportOptions, import, load};
use skimjit_caffe::write_caffemodel;
use skimjit_caffe::zoo::{self, LayerShape, Net, Sparsity, synthesize};
use skimjit_models::artifact::{Reader, Writer, read_graph, write_graph};
use skimjit_models::{Graph, Op, Shape, Tensor, interpreter};
use std::collections::HashMap;

fn graph(net: &Net, sparsity: Sparsity) -> Graph {
    let model = synthesize(net, sparsity, 1).unwrap();
    let imported = import(model, vec![], &ImportOptions::default()).unwrap();
    assert!(
        imported.warnings.is_empty(),
        "{}: {:?}",
        net.name,
        imported.warnings
    );
    imported.graph
}

/// Pixels less their mean, or what the network takes for them.
fn input(net: &Net) -> Tensor {
    let shape = Shape::new(net.input_shape).unwrap();
    let wave = |i: usize| ((i as f32 * 0.37).sin() + (i as f32 * 0.0113).cos()) * net.input_std;
    let data = (0..shape.count()).map(wave).collect();
    Tensor::new(shape, data)
}

#[test]
fn the_importer_sees_the_same_shapes_and_work() {
    for net in zoo::all() {
        let graph = graph(net, Sparsity::Percent(50.0));
        let layers: HashMap<String, LayerShape> = zoo::layers(net)
            .unwrap()
            .into_iter()
            .map(|layer| (layer.name.clone(), layer))
            .collect();
        for node in &graph.nodes {
            let layer = &layers[&node.name];
            let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
            assert_eq!(
                graph.shape(node.output).dims()[1..],
                layer.output,
                "{} {}",
                net.name,
                node.name
            );
            assert_eq!(
                node.op.macs(&shapes, &graph.weights),
                layer.macs,
                "{} {}",
                net.name,
                node.name
            );
        }
        assert_eq!(
            graph.shape(graph.inputs[0]).dims(),
            net.input_shape,
            "{}",
            net.name
        );
        let heads = if net.name == "googlenet-aux" { 3 } else { 1 };
        assert_eq!(graph.outputs.len(), heads, "{}", net.name);
    }
}

#[test]
fn activations_neither_vanish_nor_explode() {
    let cases = [
        ("lenet", Sparsity::Percent(90.0)),
        ("cifar10-quick", Sparsity::Percent(90.0)),
        ("squeezenet", Sparsity::Percent(0.0)),
        ("caffenet", Sparsity::Published),
        ("resnet-50", Sparsity::Published),
    ];
    for (name, sparsity) in cases {
        let net = zoo::find(name).unwrap();
        let graph = graph(net, sparsity);
        let values = interpreter::run(&graph, &[input(net)]).unwrap();
        for node in graph
            .nodes
            .iter()
            .filter(|node| !matches!(node.op, Op::Softmax { .. }))
        {
            let data = values[node.output.0 as usize].data();
            let square: f64 = data.iter().map(|&x| f64::from(x).powi(2)).sum();
            let size = (square / data.len() as f64).sqrt();
            assert!(
                (0.05..50.0).contains(&size),
                "{name} {sparsity:?} {}: {size}",
                node.name
            );
        }
    }
}

#[test]
fn a_written_caffemodel_needs_no_prototxt() {
    let net = zoo::find("googlenet").unwrap();
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("googlenet.caffemodel");
    let sparsity = Sparsity::Published;
    write_caffemodel(&synthesize(net, sparsity, 1).unwrap(), &path).unwrap();
    let loaded = load(None, &[path], &ImportOptions::default())
        .unwrap()
        .graph;
    let direct = graph(net, sparsity);
    assert_eq!(loaded.nodes, direct.nodes);
    assert_eq!(loaded.values, direct.values);
    assert_eq!(loaded.weights, direct.weights);
}

#[test]
fn an_artifact_is_smaller_than_the_caffemodel_and_says_the_same() {
    let graph = graph(zoo::find("googlenet").unwrap(), Sparsity::Percent(90.0));
    let mut writer = Writer::new();
    write_graph(&mut writer, &graph).unwrap();
    let file = writer.to_bytes();
    let elements: usize = graph.weights.iter().map(|weight| weight.data().len()).sum();
    // 10 % of the weights at 4 bytes and about 5 bits for each position.
    assert!(
        file.len() < 4 * elements / 8,
        "{} bytes for {elements} weights",
        file.len()
    );
    let back = read_graph(&Reader::new(&file).unwrap()).unwrap();
    assert_eq!(back.nodes, graph.nodes);
    assert_eq!(back.weights, graph.weights);
}
