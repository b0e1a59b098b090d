//! Recurrent networks on the command line: several inputs, not all of which begin with the batch, weights
//! made by fillers, and what is said about layers that differ from Caffe's.

use crate::support::Workplace;
use skimjit::array::{read_npy, write_npy};
use skimjit_caffe::{parse_prototxt, write_caffemodel};
use skimjit_models::{Shape, Tensor};

const CAPTIONS: &str = r#"name: "captions"
layer { name: "words" type: "Input" top: "words" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "image" type: "Input" top: "image" input_param { shape { dim: 2 dim: 5 } } }
layer { name: "embed" type: "Embed" bottom: "words" top: "x"
  embed_param { num_output: 4 input_dim: 6 weight_filler { type: "uniform" min: -1 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" bottom: "image" top: "h"
  recurrent_param { num_output: 4 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "scores" type: "InnerProduct" bottom: "h" top: "scores"
  inner_product_param { axis: 2 num_output: 6 weight_filler { type: "gaussian" } } }
layer { name: "prob" type: "Softmax" bottom: "scores" top: "prob" softmax_param { axis: 2 } }
layer { name: "save" type: "HDF5Output" bottom: "h" hdf5_output_param { file_name: "h.h5" } }
"#;

fn tensor(dims: &[u32], data: &[f32]) -> Tensor {
    Tensor::new(Shape::new(dims).unwrap(), data.to_vec())
}

/// A caffemodel without weights.
fn topology(place: &Workplace, file: &str, prototxt: &str) {
    let (net, _) = parse_prototxt(prototxt, file).unwrap();
    write_caffemodel(&net, &place.path(file)).unwrap();
}

fn place() -> Workplace {
    let place = Workplace::new();
    topology(&place, "captions.caffemodel", CAPTIONS);
    let words = tensor(&[3, 2], &[0.0, 5.0, 2.0, 3.0, 1.0, 4.0]);
    let cont = tensor(&[3, 2], &[0.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
    let image = tensor(
        &[2, 5],
        &[0.5, -1.0, 0.0, 2.0, 0.25, 1.0, 1.5, -0.5, 0.0, 0.75],
    );
    for (file, tensor) in [("words", words), ("cont", cont), ("image", image)] {
        write_npy(&place.path(&format!("{file}.npy")), &tensor).unwrap();
    }
    place
}

const NET: [&str; 2] = ["captions.caffemodel", "--allow-missing-weights"];

const RUN: [&str; 10] = [
    "--input",
    "words=words.npy",
    "--input",
    "cont=cont.npy",
    "--input",
    "image=image.npy",
    "--output",
    "prob=prob.npy",
    "--output",
    "h=h.npy",
];

/// Arrays in, arrays out: the same from the prototxt and from the compiled network.
#[test]
fn captions_run_verify_and_compile() {
    let place = place();
    let result = place.skimjit(&[&["run"], &NET[..], &RUN].concat());
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    for words in [
        "layer \"lstm\": the state is zero",
        "\"h.h5\" is not written",
    ] {
        assert!(
            result.stderr.contains(words),
            "no {words:?} in {}",
            result.stderr
        );
    }
    let prob = read_npy(&place.path("prob.npy")).unwrap();
    assert_eq!(prob.shape().dims(), [3, 2, 6]);
    for row in prob.data().chunks(6) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
    }
    let h = read_npy(&place.path("h.npy")).unwrap();
    assert_eq!(h.shape().dims(), [3, 2, 4]);
    assert!(h.data().iter().any(|x| x.abs() > 0.05));

    for command in ["verify", "time"] {
        let result = place.skimjit(&[&[command], &NET[..]].concat());
        assert_eq!(result.code, Some(0), "{command}: {}", result.stderr);
    }
    let arguments = [&["compile"], &NET[..], &["-o", "captions.skim"]].concat();
    let result = place.skimjit(&arguments);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    place.ok(&[&["run", "captions.skim"][..], &RUN].concat());
    assert_eq!(
        read_npy(&place.path("prob.npy")).unwrap().data(),
        prob.data()
    );
}

/// Checklist 24.
#[test]
fn python_layers_are_refused_by_name() {
    let place = Workplace::new();
    let python = r#"layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
        layer { name: "mine" type: "Python" bottom: "x" top: "y" python_param { module: "a.b" layer: "L" } }"#;
    topology(&place, "net.caffemodel", python);
    let result = place.skimjit(&["inspect", "net.caffemodel", "--allow-missing-weights"]);
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    for words in ["layer \"mine\"", "Python", "(a.b.L)"] {
        assert!(result.stderr.contains(words), "{}", result.stderr);
    }
}
