//! Importing from files: the right file is blamed, files beside the prototxt are found, and a
//! caffemodel can say its own topology.

mod import_support;

use import_support::{data, npy, outputs, weights, with_input};
use skimjit_models::caffe::{write_binaryproto, write_caffemodel};
use skimjit_models::import::{ImportOptions, load};
use skimjit_models::{Shape, Tensor, interpreter};
use std::path::PathBuf;

const FC: &str = "layer { name: 'fc' type: 'InnerProduct' bottom: 'data' top: 'fc'
                          inner_product_param { num_output: 2 bias_term: false } }";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn prototxt(&self, text: &str) -> PathBuf {
        let path = self.path("net.prototxt");
        std::fs::write(&path, text).expect("a file");
        path
    }
    fn weights(&self, name: &str, dims: &[i64]) -> PathBuf {
        let path = self.path(name);
        let count = dims.iter().product::<i64>() as usize;
        write_caffemodel(&weights("fc", &[(dims, &vec![1.0; count])]), &path).expect("a file");
        path
    }
}

#[test]
fn the_right_file_is_blamed() {
    let folder = Folder::new();
    let prototxt = folder.prototxt(&with_input("1 3", FC));
    let (good, bad) = (
        folder.weights("good", &[2, 3]),
        folder.weights("bad", &[3, 2]),
    );
    let options = ImportOptions::default();
    assert!(load(Some(&prototxt), std::slice::from_ref(&good), &options).is_ok());
    let error = load(Some(&prototxt), &[good.clone(), bad.clone()], &options).expect_err("a shape");
    assert_eq!(
        (error.file, error.layer.as_deref()),
        (Some(bad), Some("fc"))
    );
    let error = load(Some(&prototxt), &[], &options).expect_err("no weights");
    assert_eq!(error.file, Some(prototxt.clone()));
    let missing = folder.path("missing");
    let error =
        load(Some(&prototxt), std::slice::from_ref(&missing), &options).expect_err("no file");
    assert_eq!(error.file, Some(missing));
    let prototxt = folder.prototxt("layer { name: 'x' type: 'Nope' }");
    let error = load(Some(&prototxt), &[], &options).expect_err("a type");
    assert_eq!(
        (error.file, error.layer.as_deref()),
        (Some(prototxt), Some("x"))
    );
    let error = load(None, std::slice::from_ref(&good), &options).expect_err("no wiring");
    assert!(error.to_string().contains("weights only"), "{error}");
    let unused = load(
        Some(&folder.prototxt(&with_input("1 3", ""))),
        std::slice::from_ref(&good),
        &options,
    );
    assert_eq!(unused.expect("a network").warnings[0].file, Some(good));
    assert!(
        load(None, &[], &options)
            .expect_err("no files")
            .to_string()
            .contains("no files")
    );
}

#[test]
fn infogain_matrix_lies_beside_the_prototxt() {
    let folder = Folder::new();
    let text = |source: &str| {
        format!(
            "layer {{ name: 'in' type: 'Input' top: 'p' top: 'label'
                      input_param {{ shape {{ dim: 2 dim: 3 }} shape {{ dim: 2 }} }} }}
             layer {{ name: 'loss' type: 'InfogainLoss' bottom: 'p' bottom: 'label' top: 'loss'
                      infogain_loss_param {{ source: '{source}' }} }}"
        )
    };
    let matrix = |name: &str, dims: [u32; 4]| {
        let shape = Shape::new(dims).unwrap();
        write_binaryproto(Tensor::zeros(shape), &folder.path(name)).expect("a file");
    };
    matrix("good", [1, 1, 3, 3]);
    matrix("small", [1, 1, 2, 2]);
    let load = |source: &str| {
        load(
            Some(&folder.prototxt(&text(source))),
            &[],
            &ImportOptions::default(),
        )
    };
    assert_eq!(
        load("good").expect("a network").graph.weights[0]
            .shape()
            .count(),
        9
    );
    let error = load("small").expect_err("too small").to_string();
    assert!(error.contains("layer \"loss\""), "{error}");
    let error = load("nowhere").expect_err("no file").to_string();
    assert!(
        error.contains("nowhere") && error.contains("infogain_loss_param.source"),
        "{error}"
    );
}

/// Published caffemodels without prototxt: the network that they were trained as classifies the
/// same.
#[test]
fn published_caffemodels_say_their_topology() {
    let Some(root) = data() else { return };
    for (name, scores) in TOPOLOGIES {
        let refs = root.join("refs").join(name);
        let input = npy(&refs.join("input.npy"));
        let options = ImportOptions {
            input_shape: Some(input.shape().clone()),
            data_to_input: true,
            strip_losses: true,
            ..ImportOptions::default()
        };
        let model = root.join("models").join(name).join("model.caffemodel");
        let graph = load(None, &[model], &options)
            .unwrap_or_else(|error| panic!("{error}"))
            .graph;
        assert_eq!(graph.inputs.len(), 1, "{name}: {:?}", outputs(&graph));
        let values = interpreter::run(&graph, &[input]).expect("values");
        let found = &values[graph.find(scores).expect("scores").0 as usize];
        let expected = npy(&refs.join(format!("output__{scores}.npy")));
        let largest = expected
            .data()
            .iter()
            .fold(0.0, |largest: f32, x| largest.max(x.abs()));
        for (a, b) in found.data().iter().zip(expected.data()) {
            assert!((a - b).abs() <= 1e-4 * largest, "{name}: {a}, expected {b}");
        }
    }
}

/// Models whose file holds the whole network, and the blob to compare.
const TOPOLOGIES: [(&str, &str); 3] = [
    ("lenet", "ip2"),
    ("cifar10_quick_v1format", "ip2"),
    ("resnet20_cifar10", "InnerProduct1"),
];

/// Zeros that no file has become random where that is asked for, the same ones every time; biases and
/// other fillers are left alone.
#[test]
fn missing_weights_can_be_random_instead_of_zero() {
    let folder = Folder::new();
    let text = "input: 'data' input_shape { dim: 1 dim: 3 }
        layer { name: 'fc' type: 'InnerProduct' bottom: 'data' top: 'fc'
                inner_product_param { num_output: 2 } }
        layer { name: 'ones' type: 'InnerProduct' bottom: 'fc' top: 'ones'
                inner_product_param { num_output: 2 weight_filler { value: 1 } } }";
    let prototxt = folder.prototxt(text);
    let weights = |random_weights: bool| {
        let options = ImportOptions {
            allow_missing_weights: true,
            random_weights,
            ..ImportOptions::default()
        };
        let graph = load(Some(&prototxt), &[], &options).unwrap().graph;
        let data = graph.weights.iter().map(|tensor| tensor.data().to_vec());
        data.collect::<Vec<Vec<f32>>>()
    };
    let (zero, random) = (weights(false), weights(true));
    assert!(zero[0].iter().all(|&weight| weight == 0.0));
    assert!(random[0].iter().all(|&weight| weight != 0.0), "{random:?}");
    assert_eq!(zero[1..], random[1..], "biases and given fillers");
    assert_eq!(random, weights(true));
}
