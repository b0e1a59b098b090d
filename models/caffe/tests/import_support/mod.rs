//! What the import tests share: arrays, prototxt text, filled weights.
#![allow(dead_code)]

use skimjit_caffe::import::{ImportOptions, import};
use skimjit_caffe::proto::{BlobProto, BlobShape, LayerParameter, NetParameter};
use skimjit_caffe::text;
use skimjit_models::Imported;
use skimjit_models::{Error, Graph, Op, Shape, Tensor, interpreter};
use std::path::Path;

/// Reads a NumPy array.
pub fn npy(path: &Path) -> Tensor {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = npyz::NpyFile::new(&bytes[..]).expect("a NumPy file");
    let dims: Vec<u32> = file.shape().iter().map(|&dim| dim as u32).collect();
    Tensor::new(
        Shape::new(dims).expect("a shape"),
        file.into_vec::<f32>().expect("floats"),
    )
}

/// Parses a prototxt.
pub fn net(text: &str) -> NetParameter {
    text::parse_net(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A weight file with one layer's blobs.
pub fn weights(layer: &str, blobs: &[(&[i64], &[f32])]) -> NetParameter {
    let blob = |&(dims, data): &(&[i64], &[f32])| BlobProto {
        shape: Some(BlobShape {
            dim: dims.to_vec(),
            ..BlobShape::default()
        }),
        data: data.to_vec(),
        ..BlobProto::default()
    };
    NetParameter {
        layer: vec![named(layer, blobs.iter().map(blob).collect())],
        ..Default::default()
    }
}

/// A layer of a weight file.
pub fn named(layer: &str, blobs: Vec<BlobProto>) -> LayerParameter {
    LayerParameter {
        name: Some(layer.to_owned()),
        r#type: Some("Any".to_owned()),
        blobs,
        ..LayerParameter::default()
    }
}

/// Imports a prototxt without weights; missing ones are 0.
pub fn bare(text: &str) -> Result<Imported, Error> {
    let options = ImportOptions {
        allow_missing_weights: true,
        ..ImportOptions::default()
    };
    import(net(text), Vec::new(), &options)
}

/// The graph of a prototxt whose weights are 0.
pub fn graph(text: &str) -> Graph {
    let graph = bare(text)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .graph;
    graph.check().expect("a sound graph");
    graph
}

/// One line of error of a prototxt that must be refused.
pub fn refusal(text: &str) -> String {
    match bare(text) {
        Ok(imported) => panic!("accepted: {:?}\n{text}", imported.graph.nodes),
        Err(error) => error.to_string(),
    }
}

/// A network of one Input layer `data` of that shape and the given layers.
pub fn with_input(dims: &str, layers: &str) -> String {
    let dims: String = dims
        .split_whitespace()
        .map(|dim| format!("dim: {dim} "))
        .collect();
    format!(
        "layer {{ name: 'in' type: 'Input' top: 'data' input_param {{ shape {{ {dims} }} }} }}\n{layers}"
    )
}

/// A layer from `data` to `out`.
pub fn layer(kind: &str, body: &str) -> String {
    format!("layer {{ name: 'it' type: '{kind}' bottom: 'data' top: 'out' {body} }}")
}

/// Op of the last node.
pub fn last_op(graph: &Graph) -> &Op {
    &graph.nodes.last().expect("a node").op
}

/// Dims of the last value of that name.
pub fn dims<'a>(graph: &'a Graph, name: &str) -> &'a [u32] {
    let value = graph.find(name).unwrap_or_else(|| panic!("no blob {name}"));
    graph.shape(value).dims()
}

/// Names of the results.
pub fn outputs(graph: &Graph) -> Vec<&str> {
    graph
        .outputs
        .iter()
        .map(|&id| graph.value(id).name.as_str())
        .collect()
}

/// Results for inputs that count up from 0 in steps of 0.25.
pub fn run(graph: &Graph) -> Vec<Tensor> {
    let input = |id: &skimjit_models::ValueId| {
        let shape = graph.shape(*id).clone();
        let data = (0..shape.count())
            .map(|index| index as f32 * 0.25)
            .collect();
        Tensor::new(shape, data)
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().map(input).collect();
    interpreter::run_outputs(graph, &inputs).expect("results")
}
