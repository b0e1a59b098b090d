//! Published models import, and the reference interpreter computes what OpenCV computed from them.

mod import_support;

use import_support::npy;
use skimjit_caffe::import::{ImportOptions, load};
use skimjit_models::{Graph, Shape, Tensor, ValueId, interpreter};
use skimjit_testing::data;
use std::path::Path;

/// Largest difference, as a fraction of the blob's largest magnitude.
const TOLERANCE: f32 = 1e-4;

fn import_model(prototxt: &Path, weights: &Path, input: &Shape) -> Graph {
    let options = ImportOptions {
        input_shape: Some(input.clone()),
        ..ImportOptions::default()
    };
    let imported = load(Some(prototxt), &[weights.to_owned()], &options);
    let imported = imported.unwrap_or_else(|error| panic!("{error}"));
    imported.graph.check().expect("a sound graph");
    for warning in &imported.warnings {
        println!("{warning}");
    }
    imported.graph
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(
        found.shape().count(),
        expected.shape().count(),
        "{what}: {:?}",
        found.shape()
    );
    let largest = expected
        .data()
        .iter()
        .fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let pairs = found.data().iter().zip(expected.data());
    let worst = pairs.fold(0.0, |worst: f32, (a, b)| worst.max((a - b).abs()));
    assert!(
        worst <= TOLERANCE * largest,
        "{what}: differs by {worst}, values to {largest}"
    );
    assert!(
        found.data().iter().all(|x| x.is_finite()),
        "{what}: not finite"
    );
}

/// The first image of a batch.
fn first(input: &Tensor) -> Tensor {
    let shape = input.shape().with_batch(1);
    let data = input.data()[..shape.count()].to_vec();
    Tensor::new(shape, data)
}

/// Compares the outputs for the whole input.
fn check_outputs(refs: &Path, graph: &Graph, input: &Tensor) {
    let outputs = interpreter::run_outputs(graph, std::slice::from_ref(input)).expect("outputs");
    for (id, output) in graph.outputs.iter().zip(&outputs) {
        let name = &graph.value(*id).name;
        let file = refs.join(format!("output__{}.npy", name.replace('/', "__")));
        assert_close(name, output, &npy(&file));
    }
}

/// Compares every blob of which there is a file with the run of the first image.
fn check_layers(refs: &Path, graph: &Graph, input: &Tensor) -> usize {
    let graph = graph.with_batch(1).expect("a batch of 1");
    let values = interpreter::run(&graph, &[first(input)]).expect("values");
    let index = std::fs::read_to_string(refs.join("layers/INDEX.tsv")).expect("an index");
    let mut compared = 0;
    for line in index.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (name, file) = (columns[1], columns[7]);
        if file == "-" {
            continue;
        }
        let ValueId(id) = graph.find(name).unwrap_or_else(|| panic!("no blob {name}"));
        assert_close(
            name,
            &values[id as usize],
            &npy(&refs.join("layers").join(file)),
        );
        compared += 1;
    }
    compared
}

/// Imports a model and compares its outputs, for `images` images at most, and its blobs.
fn check(name: &str, weights: &str, images: u32) {
    let Some(root) = data("") else { return };
    let (model, refs) = (root.join("models").join(name), root.join("refs").join(name));
    let input = npy(&refs.join("input.npy"));
    let prototxt = model.join("deploy.prototxt");
    let graph = import_model(&prototxt, &model.join(weights), input.shape());
    if input.shape().dim(0) <= images {
        check_outputs(&refs, &graph, &input);
    }
    assert!(check_layers(&refs, &graph, &input) > 3);
}

macro_rules! models {
    ($($test:ident: $name:literal, $weights:literal, $images:literal;)*) => {
        $(#[test] fn $test() { check($name, $weights, $images); })*
    };
}

models! {
    alexnet_pruned_convs: "alexnet_pruned_convs", "model.caffemodel", 1;
    arm_cifar10_m4: "arm_cifar10_m4", "model.caffemodel", 64;
    arm_cifar10_m4_hdf5: "arm_cifar10_m4", "model.caffemodel.h5", 64;
    arm_cifar10_m4_quantised: "arm_cifar10_m4_quantised", "model.caffemodel", 64;
    cifar10_quick_v1format: "cifar10_quick_v1format", "model.caffemodel", 64;
    hyperlpr_finemapping: "hyperlpr_finemapping", "model.caffemodel", 64;
    lenet: "lenet", "model.caffemodel", 64;
    lenet5_dns_sparse: "lenet5_dns_sparse", "model.caffemodel", 64;
    mtcnn_det1: "mtcnn_det1", "model.caffemodel", 64;
    mtcnn_det2: "mtcnn_det2", "model.caffemodel", 64;
    resnet20_cifar10: "resnet20_cifar10", "model.caffemodel", 64;
    rfb320_face: "rfb320_face", "model.caffemodel", 1;
    squeezenet: "squeezenet_v1.0_dc", "model.caffemodel", 1;
    wechat_sr: "wechat_sr", "model.caffemodel", 1;
}

/// Half-precision weights: same outputs, less exactly.
#[test]
fn hyperlpr_half_precision() {
    let Some(root) = data("") else { return };
    let refs = root.join("refs/hyperlpr_finemapping");
    let input = npy(&refs.join("input.npy"));
    let formats = root.join("formats");
    let graph = import_model(
        &formats.join("hyperlpr_finemapping_fp16.prototxt"),
        &formats.join("hyperlpr_finemapping_fp16.caffemodel"),
        input.shape(),
    );
    let outputs = interpreter::run_outputs(&graph, &[input]).expect("outputs");
    let expected = npy(&refs.join("output__dense.npy"));
    let pairs = outputs[0].data().iter().zip(expected.data());
    let worst = pairs.fold(0.0, |worst: f32, (a, b)| worst.max((a - b).abs()));
    assert!(worst < 0.02, "differs by {worst}");
}
