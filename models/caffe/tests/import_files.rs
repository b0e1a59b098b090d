//! Importing from files: the right file is blamed, files beside the prototxt are found, and a
//! caffemodel can say its own topology.

mod import_support;

use import_support::{npy, outputs, weights, with_input};
use skimjit_caffe::import::{ImportOptions, load};
use skimjit_caffe::{text, write_binaryproto, write_caffemodel};
use skimjit_models::Imported;
use skimjit_models::{Error, Shape, Tensor, interpreter};
use skimjit_testing::data;
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
    let Some(root) = data("") else { return };
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

/// A network with a field that nothing knows in a place of a pooling layer.
fn odd_pooling(layer: &str, parameter: &str) -> String {
    let pool = format!(
        "layer {{ name: 'p' type: 'Pooling' bottom: 'data' top: 'p' {layer}
  pooling_param {{ kernel_size: 2 stride: 2 {parameter} }} }}"
    );
    with_input("1 1 5 5", &pool)
}

fn load_text(folder: &Folder, text: &str, options: &ImportOptions) -> Result<Imported, Error> {
    load(Some(&folder.prototxt(text)), &[], options)
}

fn warnings(imported: &Imported) -> Vec<String> {
    imported.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn an_unknown_field_of_a_layer_is_refused_by_place_and_name() {
    let folder = Folder::new();
    let usual = ImportOptions::default();
    let ignore = ImportOptions {
        ignore_unknown_fields: true,
        ..ImportOptions::default()
    };
    for (layer, parameter, position, said) in [
        (
            "",
            "ceil_mod: false",
            (3, 44),
            "layer \"p\": pooling_param.ceil_mod: found an unknown field of PoolingParameter, expected \
             fields whose meaning is known; the closest is ceil_mode; --ignore-unknown-fields",
        ),
        (
            "needs_force: true",
            "",
            (2, 59),
            "layer \"p\": needs_force: found an unknown field of LayerParameter",
        ),
        (
            "param { lr_mlt: 1 }",
            "",
            (2, 67),
            "param[0].lr_mlt: found an unknown field of ParamSpec",
        ),
    ] {
        let text = odd_pooling(layer, parameter);
        let error = load_text(&folder, &text, &usual).expect_err("an unknown field");
        assert_eq!(error.position, Some(position), "{error}");
        assert_eq!(error.file, Some(folder.path("net.prototxt")));
        assert!(error.to_string().contains(said), "{error}");
        let imported = load_text(&folder, &text, &ignore).expect("a network");
        let told = warnings(&imported);
        assert!(
            told.len() == 1 && told[0].contains("unknown field"),
            "{told:?}"
        );
    }
}

#[test]
fn unknown_fields_outside_of_layers_that_are_used_are_warnings() {
    let folder = Folder::new();
    let text = odd_pooling("", "")
        + "\nbatch: 3
layer { name: 'd' type: 'Data' top: 'image' top: 'label' data_param { batch_size: 1 shufle: true } }
layer { name: 't' type: 'Split' bottom: 'p' top: 't' quant: 8 include { phase: TRAIN } }
layer { name: 'l' type: 'SoftmaxWithLoss' bottom: 'image' bottom: 'label' top: 'l' odd: 1 }";
    let options = ImportOptions {
        data_to_input: true,
        strip_losses: true,
        input_shape: None,
        ..ImportOptions::default()
    };
    let text = text.replace(
        "batch_size: 1",
        "batch_size: 1 } transform_param { crop_size: 4",
    );
    let told = warnings(&load_text(&folder, &text, &options).expect("a network"));
    let names: Vec<&str> = told
        .iter()
        .filter_map(|text| text.split('"').nth(1))
        .collect();
    assert_eq!(names, ["batch", "shufle", "quant", "odd"]);
}

/// The bytes of a prototxt with unknown fields in the pooling layer and in the network, as a fork
/// writes them.
fn odd_caffemodel(folder: &Folder) -> PathBuf {
    let mut net = text::parse_net(&odd_pooling("", "")).expect("a network");
    let odd = |encoded: &[u8]| skimjit_caffe::proto::UnknownField {
        encoded: Some(encoded.to_vec()),
        ..Default::default()
    };
    // Number 50, and number 20 twice.
    net.unknown_fields.push(odd(&[0x90, 0x03, 1]));
    let pool = net.layer[1].pooling_param.as_mut().expect("a parameter");
    pool.unknown_fields
        .push(odd(&[0xa0, 0x01, 1, 0xa0, 0x01, 2]));
    let path = folder.path("odd.caffemodel");
    write_caffemodel(&net, &path).expect("a file");
    path
}

#[test]
fn a_caffemodel_with_unknown_fields_brings_weights_but_no_topology() {
    let folder = Folder::new();
    let odd = odd_caffemodel(&folder);
    let error = load(None, std::slice::from_ref(&odd), &ImportOptions::default())
        .expect_err("an unknown field");
    assert!(
        error.to_string().ends_with(
            "odd.caffemodel: layer \"p\": pooling_param: found unknown field 20 of PoolingParameter, \
             expected fields whose meaning is known; --ignore-unknown-fields reads the network without it"
        ),
        "{error}"
    );
    let ignore = ImportOptions {
        ignore_unknown_fields: true,
        ..ImportOptions::default()
    };
    let imported = load(None, std::slice::from_ref(&odd), &ignore).expect("a network");
    let told = warnings(&imported);
    assert!(
        told[0].contains("unknown field 50 of NetParameter"),
        "{told:?}"
    );
    assert!(
        told[1].contains("unknown field 20 of PoolingParameter"),
        "{told:?}"
    );
    assert_eq!(told.len(), 2);
    let prototxt = folder.prototxt(&odd_pooling("", ""));
    let imported = load(Some(&prototxt), &[odd], &ImportOptions::default()).expect("a network");
    assert_eq!(warnings(&imported), [""; 0]);
}

#[test]
fn forks_rounding_under_bvlcs_number_is_told() {
    let folder = Folder::new();
    let net = text::parse_net(&odd_pooling("", "round_mode: FLOOR")).expect("a network");
    let path = folder.path("net.caffemodel");
    write_caffemodel(&net, &path).expect("a file");
    let told = warnings(&load(None, &[path], &ImportOptions::default()).expect("a network"));
    assert!(
        told.len() == 1 && told[0].contains("layer \"p\": field 13 of PoolingParameter"),
        "{told:?}"
    );
    let prototxt = folder.prototxt(&odd_pooling("", "round_mode: FLOOR"));
    let imported = load(Some(&prototxt), &[], &ImportOptions::default()).expect("a network");
    assert_eq!(warnings(&imported), [""; 0]);
}

#[test]
fn unknown_fields_of_old_layers_are_refused_too() {
    let folder = Folder::new();
    let text = "input: 'data' input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4
layers { name: 'r' type: RELU bottom: 'data' top: 'r' slope: 1 }";
    let error = load_text(&folder, text, &ImportOptions::default()).expect_err("an unknown field");
    let said = "net.prototxt:2:55: layer \"r\": slope: found an unknown field of V1LayerParameter";
    assert!(error.to_string().contains(said), "{error}");
    let text = "input: 'data' input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4
layers { bottom: 'data' top: 'r' layer { name: 'r' type: 'relu' slope: 1 } }";
    let error = load_text(&folder, text, &ImportOptions::default()).expect_err("an unknown field");
    assert!(
        error
            .to_string()
            .contains("unknown field of V0LayerParameter"),
        "{error}"
    );
}
