//! Every example of every help text runs as it is printed.
//!
//! A folder is prepared with a file for each name that examples use; commands that make what others read go
//! first.

use crate::support::{Outcome, Workplace, libraries, outcome, ramp};
use flate2::{Compression, write::GzEncoder};
use image::{Rgb, RgbImage};
use skimjit::array::write_npy;
use skimjit_caffe::{proto::NetParameter, read_caffemodel, read_prototxt, write_caffemodel};
use skimjit_testing::help::commands;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Layers of a network for pictures of 3 × 227 × 227, behind its data layer.
const LAYERS: &str = r#"
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 11 stride: 16 weight_filler { type: "xavier" } } }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "fc7" type: "InnerProduct" bottom: "conv2" top: "fc7"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
"#;

const INPUT: &str = r#"name: "example"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 227 dim: 227 } } }
"#;

const PROBABILITIES: &str = r#"layer { name: "prob" type: "Softmax" bottom: "fc7" top: "prob" }"#;

/// Reads the data base that the example of `convert-imageset` makes.
const DATA: &str = r#"name: "example"
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 227 }
  data_param { source: "ilsvrc12_train_lmdb" backend: LMDB batch_size: 2 } }
"#;

const JUDGED: &str =
    r#"layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc7" bottom: "label" top: "loss" }"#;

/// A network that takes any size, with the output `prob1`.
const DETECTOR: &str = r#"name: "det"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 12 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "prob1" type: "Softmax" bottom: "conv1" top: "prob1" }
"#;

/// Of Caffe before its layers had names of today.
const OLD: &str = r#"name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
"#;

/// They measure networks of full size, for minutes.
const SLOW: [&str; 3] = [
    "skimjit bench --net caffenet",
    "skimjit bench --net googlenet",
    "skimjit bench --mtx",
];

/// Examples of a command's help; lines that go on are one.
fn examples(place: &Workplace, command: &str) -> Vec<String> {
    let help = place.ok(&[command, "--help"]);
    let (_, list) = help.split_once("Example").expect("every help has one");
    let joined = list.replace("\\\n", " ");
    let lines = joined.lines().skip(1).map(|line| line.trim().to_owned());
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    assert!(!lines.is_empty(), "{help}");
    lines
}

fn shell(place: &Workplace, line: &str) -> Outcome {
    let folder = libraries();
    let home = place.path("");
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(place.path(""));
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.display()));
    command.env("PKG_CONFIG_PATH", place.path(".local/lib/pkgconfig"));
    command
        .env("SKIMJIT_TUNE_CACHE", place.path("tune.json"))
        .env("HOME", home);
    outcome(&mut command)
}

fn run(place: &Workplace, line: &str) {
    let result = shell(place, line);
    assert_eq!(
        result.code,
        Some(0),
        "{line}\n{}{}",
        result.stdout,
        result.stderr
    );
}

fn picture(place: &Workplace, file: &str, seed: u32) {
    let pixel =
        |x: u32, y: u32| Rgb([0, 80, 160].map(|c| ((x * 3 + y * 5 + c + seed * 40) % 256) as u8));
    RgbImage::from_fn(260, 240, pixel)
        .save(place.path(file))
        .unwrap();
}

fn gzipped(place: &Workplace, file: &str, contents: &[u8]) {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(contents).unwrap();
    place.write(file, out.finish().unwrap());
}

/// Everything that examples read.
fn prepared() -> Workplace {
    let place = Workplace::new();
    place.write("deploy.prototxt", format!("{INPUT}{LAYERS}{PROBABILITIES}"));
    place.write("train_val.prototxt", format!("{DATA}{LAYERS}{JUDGED}"));
    place.write("det1.prototxt", DETECTOR);
    place.write("old.prototxt", OLD);
    networks(&place);
    for (seed, file) in (0..).zip(["cat.jpg", "a.jpg", "b.jpg"]) {
        picture(&place, file, seed);
    }
    for folder in ["photos", "more"] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
        picture(&place, &format!("{folder}/c.jpg"), 7);
    }
    place.write("val.txt", "photos/c.jpg 3\na.jpg 0\n");
    place.write(
        "labels.txt",
        (0..10).map(|n| format!("name {n}\n")).collect::<String>(),
    );
    write_npy(&place.path("in.npy"), &ramp([1, 3, 227, 227], 50.0)).unwrap();
    data_sets(&place);
    // A pruned convolution of 256 x 96 / 2 x 5 x 5, and a folder with one.
    let entries: String = (1..=256).map(|row| format!("{row} {row} 0.5\n")).collect();
    let matrix = format!("%%MatrixMarket matrix coordinate real general\n256 1200 256\n{entries}");
    place.write("coo_conv2.mtx", matrix);
    let c = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/c/classify.c");
    std::fs::copy(c, place.path("classify.c")).unwrap();
    place
}

/// Caffemodels and artifacts, with weights from fillers.
fn networks(place: &Workplace) {
    let nameless = NetParameter {
        name: Some("nothing".to_owned()),
        ..NetParameter::default()
    };
    write_caffemodel(&nameless, &place.path("empty.caffemodel")).unwrap();
    for (net, definition) in [("net", "deploy"), ("det1", "det1")] {
        let empty = ["empty.caffemodel", "--allow-missing-weights"];
        let definition = format!("{definition}.prototxt");
        let artifact = format!("{net}.skim");
        let compile = [
            "compile",
            "--prototxt",
            &definition,
            "--no-tune",
            "-o",
            &artifact,
        ];
        let made = place.skimjit(&[&compile[..1], &empty, &compile[1..]].concat());
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        place.ok(&["export", &artifact, "weights.caffemodel"]);
        let weights = read_caffemodel(&place.path("weights.caffemodel")).unwrap();
        let (mut whole, _) = read_prototxt(&place.path(&definition)).unwrap();
        for layer in &mut whole.layer {
            let own = weights.layer.iter().find(|own| own.name == layer.name);
            layer.blobs = own.map(|own| own.blobs.clone()).unwrap_or_default();
        }
        write_caffemodel(&whole, &place.path(&format!("{net}.caffemodel"))).unwrap();
    }
    std::fs::copy(place.path("net.caffemodel"), place.path("old.caffemodel")).unwrap();
    std::fs::copy(
        place.path("net.caffemodel"),
        place.path("bvlc_v1.caffemodel"),
    )
    .unwrap();
    place.ok(&["export", "net.caffemodel", "net.onnx"]);
}

/// Pictures for `convert-imageset`, and small MNIST and CIFAR-10 files.
fn data_sets(place: &Workplace) {
    std::fs::create_dir_all(place.path("imagenet/train")).unwrap();
    let mut list = String::new();
    for n in 0..4 {
        picture(place, &format!("imagenet/train/{n}.jpg"), n);
        list += &format!("{n}.jpg {n}\n");
    }
    place.write("train.txt", list);
    let idx = |dims: &[u32], elements: Vec<u8>| {
        let mut file = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|dim| file.extend(dim.to_be_bytes()));
        file.extend(elements);
        file
    };
    let images = idx(&[3, 28, 28], vec![7; 3 * 28 * 28]);
    gzipped(place, "train-images-idx3-ubyte.gz", &images);
    gzipped(
        place,
        "train-labels-idx1-ubyte.gz",
        &idx(&[3], vec![0, 1, 2]),
    );
    for file in ["data_batch_1.bin", "data_batch_2.bin"] {
        place.write(file, [&[3u8][..], &[9; 3072]].concat().repeat(2));
    }
    for file in ["sheet_0.png", "sheet_1.png"] {
        RgbImage::from_pixel(1024, 2, Rgb([5, 6, 7]))
            .save(place.path(file))
            .unwrap();
    }
    place.write("labels.u8", [1, 2, 3, 4]);
}

/// All examples, those first that make what others read.
fn in_order(place: &Workplace) -> Vec<String> {
    let first = ["synth", "convert-imageset", "compile", "run", "dump"];
    let others = commands(&place.ok(&["--help"]));
    let others = others
        .iter()
        .map(String::as_str)
        .filter(|name| !first.contains(name));
    let names = first.into_iter().chain(others);
    names.flat_map(|name| examples(place, name)).collect()
}

fn is_slow(line: &str) -> bool {
    SLOW.iter().any(|slow| line.starts_with(slow))
}

#[test]
fn examples_run_as_printed() {
    let place = prepared();
    for line in in_order(&place).iter().filter(|line| !is_slow(line)) {
        run(&place, line);
    }
    // Of `run`: a blob, and an array for each picture of its own size.
    for made in ["conv1.npy", "faces.1.npy"] {
        assert!(place.path(made).is_file(), "{made}");
    }
}

/// Minutes: `cargo test --release --test cli -- --ignored slow_examples`.
#[test]
#[ignore = "measures networks of full size"]
fn slow_examples_run_as_printed() {
    let place = prepared();
    std::fs::create_dir_all(place.path("pruned_layers/caffenet")).unwrap();
    let matrix = place.path("coo_conv2.mtx");
    std::fs::copy(matrix, place.path("pruned_layers/caffenet/coo_conv2.mtx")).unwrap();
    for line in in_order(&place).iter().filter(|line| is_slow(line)) {
        run(&place, line);
    }
}
