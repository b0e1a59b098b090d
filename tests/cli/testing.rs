//! `skimjit test` on a tiny network: outputs, losses, the report, and what is refused.

use crate::support::{PROTOTXT, Workplace, tiny};
use serde_json::Value;
use skimjit::{LoadOptions, Model};
use skimjit_caffe::write_caffemodel;
use skimjit_models::{Shape, Tensor, interpreter};
use std::path::Path;

pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

pub fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Mean of an output of one element.
pub fn mean(report: &Value, blob: &str) -> f64 {
    let outputs = report["outputs"].as_array().expect("outputs");
    let output = outputs.iter().find(|output| output["blob"] == blob);
    number(&output.unwrap_or_else(|| panic!("no {blob} in {outputs:?}"))["mean"][0])
}

fn layer<'a>(report: &'a Value, name: &str) -> &'a Value {
    let layers = report["layers"].as_array().expect("layers");
    let found = layers.iter().find(|layer| layer["layer"] == name);
    found.unwrap_or_else(|| panic!("no layer {name} in {layers:?}"))
}

/// A test of a prototxt that lies in the workplace, as JSON; warnings are allowed.
pub fn tested(place: &Workplace, weights: &Path, iterations: u32) -> Value {
    let (weights, iterations) = (text(weights), iterations.to_string());
    let arguments = ["test", "--prototxt", "test.prototxt", "--weights", &weights];
    let more = ["--iterations", &iterations, "--threads", "2", "--json"];
    let result = place.skimjit(&[&arguments[..], &more].concat());
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    serde_json::from_str(&result.stdout).expect("JSON")
}

/// The tiny network without its input, with judges behind it.
fn judged(data: &str) -> String {
    let layers = PROTOTXT.find("layer { name: \"conv1\"").expect("conv1");
    let judges = r#"
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "drop" }
layer { name: "accuracy" type: "Accuracy" bottom: "prob" bottom: "label" top: "accuracy" top: "each"
  accuracy_param { top_k: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "drop" bottom: "label" top: "loss" loss_weight: 0.5 }
layer { name: "twice" type: "Power" bottom: "loss" top: "twice" power_param { scale: 2 } }
layer { name: "unused" type: "AbsVal" bottom: "pool1" top: "unused" }
layer { name: "silence" type: "Silence" bottom: "unused" }
"#;
    format!("{data}\n{}{judges}", &PROTOTXT[layers..])
}

/// Eight pictures of 8 × 8 and their list, with labels 0 to 4 in turn.
fn pictures(place: &Workplace) {
    let mut list = String::new();
    for index in 0..8u32 {
        let pixel = |x: u32, y: u32| {
            let value = |c: u32| ((x * 31 + y * 17 + c * 71 + index * 53) % 256) as u8;
            image::Rgb([value(0), value(1), value(2)])
        };
        let file = format!("{index}.png");
        image::RgbImage::from_fn(8, 8, pixel)
            .save(place.path(&file))
            .unwrap();
        list += &format!("{file} {}\n", index % 5);
    }
    place.write("list.txt", list);
}

const IMAGES: &str = r#"layer { name: "images" type: "ImageData" top: "data" top: "label"
  transform_param { scale: 0.0078125 mean_value: 128 }
  image_data_param { source: "list.txt" batch_size: 4 } }"#;

/// A folder with the tiny network, its pictures, and its test definition.
fn tiny_test(data: &str) -> Workplace {
    let place = Workplace::with_tiny_network();
    pictures(&place);
    place.write("test.prototxt", judged(data));
    place
}

/// What the reference says for a batch of the pictures: accuracy, each class, loss times two.
fn expected(place: &Workplace, first: u32) -> Vec<Tensor> {
    let shape = |dims: &[u32]| Shape::new(dims).unwrap();
    let options = LoadOptions {
        prototxt: Some(place.path("test.prototxt")),
        data_shapes: vec![
            ("data".to_owned(), shape(&[4, 3, 8, 8])),
            ("label".to_owned(), shape(&[4])),
        ],
        ..LoadOptions::default()
    };
    let model = Model::from_caffe(&[place.path("tiny.caffemodel")], &options).unwrap();
    let (mut data, mut labels) = (vec![], vec![]);
    for index in first..first + 4 {
        let picture = image::open(place.path(&format!("{index}.png")))
            .unwrap()
            .to_rgb8();
        for channel in [2, 1, 0] {
            data.extend(
                picture
                    .pixels()
                    .map(|pixel| (f32::from(pixel[channel]) - 128.0) / 128.0),
            );
        }
        labels.push((index % 5) as f32);
    }
    let inputs = [
        Tensor::new(shape(&[4, 3, 8, 8]), data),
        Tensor::new(shape(&[4]), labels),
    ];
    interpreter::run_outputs(model.graph(), &inputs).unwrap()
}

#[test]
fn outputs_are_means_over_the_batches() {
    let place = tiny_test(IMAGES);
    let report = tested(&place, &place.path("tiny.caffemodel"), 2);
    let blobs: Vec<&str> = report["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| output["blob"].as_str().unwrap())
        .collect();
    assert_eq!(blobs, ["accuracy", "each", "twice"]);
    let batches = [expected(&place, 0), expected(&place, 4)];
    for (index, output) in report["outputs"].as_array().unwrap().iter().enumerate() {
        let means = output["mean"].as_array().unwrap();
        assert_eq!(means.len(), batches[0][index].data().len());
        for (element, found) in means.iter().enumerate() {
            let sum = batches
                .iter()
                .map(|batch| f64::from(batch[index].data()[element]));
            let mean = sum.sum::<f64>() / 2.0;
            assert!(
                (number(found) - mean).abs() < 1e-5,
                "{}: {found} {mean}",
                blobs[index]
            );
        }
    }
    // The loss is no output, as `twice` takes it, and counts half.
    let loss = mean(&report, "twice") / 2.0 * 0.5;
    assert!((number(&report["loss"]) - loss).abs() < 1e-6);
    assert_eq!(
        (report["images"].as_u64(), report["batch"].as_u64()),
        (Some(8), Some(4))
    );
}

/// Checklist 40.
#[test]
fn every_layer_is_accounted_for() {
    let place = tiny_test(IMAGES);
    let report = tested(&place, &place.path("tiny.caffemodel"), 3);
    let kernel = |name: &str| layer(&report, name)["kernel"].as_str().unwrap().to_owned();
    assert_eq!(kernel("relu1"), "in conv1");
    assert_eq!(kernel("drop"), "left out: a copy");
    assert_eq!(kernel("unused"), "left out: no output needs it");
    assert_eq!(kernel("accuracy"), "reference");
    let conv1 = layer(&report, "conv1");
    // 2 · 4 · 27 · 64 operations.
    assert!((number(&conv1["mflop_per_image"]) - 0.013824).abs() < 1e-9);
    let [time, cycles, flops] = ["time_ms", "kilocycles_per_image", "dense_equivalent_gflops"]
        .map(|field| number(&conv1[field]));
    assert!(time > 0.0 && cycles > 0.0, "{conv1}");
    // Both speak of the time of the slowest thread.
    let seconds = cycles * 1e3 / number(&report["frequency_hz"]);
    assert!(
        (0.013824e6 / seconds / 1e9 / flops - 1.0).abs() < 1e-6,
        "{conv1}"
    );
    assert!(seconds * 1e3 * 4.0 >= time * 0.999, "{conv1}");
    let layers = report["layers"].as_array().unwrap().iter();
    let inside: f64 = layers.map(|layer| number(&layer["time_ms"])).sum();
    let [copies, outside, total] =
        ["copies_ms", "outside_ms", "forward_ms"].map(|field| number(&report[field]));
    assert!(((inside + copies + outside) / total - 1.0).abs() < 1e-6);
}

/// Checklist 40, 58.
#[test]
fn the_text_is_the_one_that_caffe_users_know() {
    let place = tiny_test(IMAGES);
    let base = [
        "test",
        "--prototxt",
        "test.prototxt",
        "--weights",
        "tiny.caffemodel",
    ];
    let more = ["--iterations", "2", "--each-batch", "--data-cost"];
    let text = place.ok(&[&base[..], &more].concat());
    for line in [
        "\nTotal-images-processed: 8\n",
        "\nTotal forwarding time: ",
        "\nData waiting time: ",
        "\nWithout reading data: ",
        "\nBatch 1, accuracy = ",
        "\nLoss: ",
        "\naccuracy = ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let direct = text.matches("\neach = ").count();
    assert_eq!((direct, text.matches("Batch 0, each = ").count()), (5, 5));
    let each = place.json(&[&base[..], &more].concat());
    assert_eq!(each["batches"].as_array().map(Vec::len), Some(2));
    assert!(number(&each["alone"]["ms_per_batch"]) > 0.0);
}

#[test]
fn rules_choose_the_data_layer() {
    let other = IMAGES.replace("batch_size: 4", "batch_size: 2");
    let rule =
        |layer: &str, rule: &str| layer.replacen("top:", &format!("include {{ {rule} }} top:"), 1);
    let data = format!(
        "{}\n{}\n{}",
        rule(IMAGES, "phase: TEST stage: 'large'"),
        rule(&other, "phase: TEST min_level: 3"),
        rule(&other.replace("list.txt", "nowhere.txt"), "phase: TRAIN")
    );
    let place = tiny_test(&data);
    let base = [
        "test",
        "--prototxt",
        "test.prototxt",
        "--weights",
        "tiny.caffemodel",
    ];
    let batch = |more: &[&str]| {
        place.json(&[&base[..], &["--iterations", "1"], more].concat())["batch"].clone()
    };
    assert_eq!(batch(&["--stage", "large"]), 4);
    assert_eq!(batch(&["--level", "3"]), 2);
    let none = place.skimjit(&base);
    assert_eq!(none.code, Some(3));
    assert!(none.stderr.contains("data layer"), "{}", none.stderr);
}

#[test]
fn several_data_layers_feed_several_inputs() {
    let labels = r#"layer { name: "labels" type: "ImageData" top: "other" top: "label"
  image_data_param { source: "list.txt" batch_size: 4 } }
layer { name: "quiet" type: "Silence" bottom: "other" }"#;
    let data = IMAGES.replace("top: \"label\"", "top: \"first\"");
    let place = tiny_test(&format!("{data}\n{labels}"));
    let report = tested(&place, &place.path("tiny.caffemodel"), 1);
    let expected = expected(&tiny_test(IMAGES), 0);
    assert!((mean(&report, "accuracy") - f64::from(expected[0].data()[0])).abs() < 1e-6);
    // What nothing takes is an output.
    assert!((mean(&report, "first") - 0.0).abs() < 1e-6);
    let uneven = labels.replace("batch_size: 4", "batch_size: 2");
    place.write("test.prototxt", judged(&format!("{data}\n{uneven}")));
    let result = place.skimjit(&[
        "test",
        "--prototxt",
        "test.prototxt",
        "--weights",
        "tiny.caffemodel",
    ]);
    assert_eq!(result.code, Some(3));
    assert!(
        result.stderr.contains("one number of images"),
        "{}",
        result.stderr
    );
}

/// The one `error:` line of a test that fails.
#[track_caller]
fn refused(place: &Workplace, code: i32, parts: &[&str]) {
    let result = place.skimjit(&[
        "test",
        "--prototxt",
        "test.prototxt",
        "--weights",
        "tiny.caffemodel",
    ]);
    assert_eq!(result.code, Some(code), "{}", result.stderr);
    let errors: Vec<&str> = result
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{}", result.stderr);
    for part in parts {
        assert!(errors[0].contains(part), "no {part}: {}", errors[0]);
    }
}

#[test]
fn what_cannot_be_tested_is_refused() {
    let input = r#"layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } shape { dim: 4 } } }"#;
    refused(
        &tiny_test(input),
        3,
        &["test.prototxt", "data layer", "skimjit run --input"],
    );
    let memory = r#"layer { name: "in" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 4 channels: 3 height: 8 width: 8 } }"#;
    refused(&tiny_test(memory), 3, &["test.prototxt"]);
    let place = tiny_test(&IMAGES.replace("list.txt", "nowhere.txt"));
    refused(&place, 3, &["nowhere.txt"]);
    let place = tiny_test(IMAGES);
    std::fs::remove_file(place.path("2.png")).unwrap();
    refused(&place, 3, &["2.png"]);
    let place = tiny_test(IMAGES);
    let mut bare = tiny();
    bare.layer.retain(|layer| layer.name() != "ip1");
    write_caffemodel(&bare, &place.path("tiny.caffemodel")).unwrap();
    refused(&place, 3, &["test.prototxt", "ip1"]);
}

/// Digits of the demo, each with its number plus `more`.
fn digits(place: &Workplace, more: u32) -> String {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let line = |digit: u32| {
        let file = demo.join(format!("{digit}.png"));
        format!("{} {}\n", file.display(), (digit + more) % 10)
    };
    place.write("list.txt", (0..10).map(line).collect::<String>());
    text(&demo.join("lenet.skim"))
}

#[test]
fn pictures_of_known_classes_judge_a_network() {
    let place = Workplace::new();
    let model = digits(&place, 0);
    let command = ["test", &model, "--class-list", "list.txt"];
    let judged = |more: &[&str]| -> Value {
        let result = place.skimjit(&[&command[..], &["--json"], more].concat());
        assert_eq!(result.code, Some(0), "{}", result.stderr);
        serde_json::from_str(&result.stdout).expect("JSON")
    };
    let report = judged(&[]);
    assert_eq!(report["images"], 10);
    assert_eq!(
        [number(&report["top1"]), number(&report["top5"])],
        [1.0, 1.0]
    );
    assert_eq!(report["batch"], 10);
    let said = place.skimjit(&command).stdout;
    assert!(said.contains("top 1: 100.00 %"), "{said}");
    digits(&place, 1);
    let report = judged(&["--threads", "1"]);
    assert_eq!(number(&report["top1"]), 0.0);
}

#[test]
fn lists_that_say_no_class_are_refused_and_bad_pictures_are_told() {
    let place = Workplace::new();
    let model = digits(&place, 0);
    let list = std::fs::read_to_string(place.path("list.txt")).unwrap();
    place.write("none.txt", "list.txt\n");
    place.write("high.txt", list.replace(" 9", " 10"));
    place.write("empty.txt", "\n");
    place.write("bad.txt", format!("{list}absent.png 1\n"));
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (
            &["--class-list", "none.txt"],
            3,
            &["none.txt", "line 1", "number of its class"],
        ),
        (
            &["--class-list", "high.txt"],
            3,
            &["high.txt", "class 10", "0 to 9"],
        ),
        (&["--class-list", "empty.txt"], 3, &["empty list"]),
        (
            &["--class-list", "bad.txt"],
            3,
            &["absent.png", "1 of 11 inputs"],
        ),
        (&[], 2, &["--class-list"]),
        (
            &["--class-list", "list.txt", "--each-batch"],
            2,
            &["--each-batch"],
        ),
    ];
    for (more, code, words) in cases {
        let found = place.skimjit(&[&["test", &model][..], more].concat());
        assert_eq!(found.code, Some(code), "{more:?}: {}", found.stderr);
        for word in words {
            assert!(found.stderr.contains(word), "{more:?}: {}", found.stderr);
        }
    }
    let found = place.skimjit(&["test", &model, "--class-list", "bad.txt"]);
    assert!(found.stdout.contains("10 images"), "{}", found.stdout);
}
