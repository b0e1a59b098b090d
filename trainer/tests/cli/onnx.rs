//! Commands that take an ONNX file: pruning by pictures and arrays alone.

use crate::support::{Outcome, Workplace};
use image::{Rgb, RgbImage};
use prost::Message;
use skimjit_models::{Shape, Tensor};
use skimjit_onnx::proto::{GraphProto, ValueInfoProto};
use skimjit_trainer::onnx::OnnxNetwork;

#[path = "../../../models/onnx/tests/support/mod.rs"]
mod made;
use made::{Attribute, attribute, floats, info, model, node};

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let number = |index: usize| {
        let mixed = (index as u32 + seed).wrapping_mul(2_654_435_761);
        ((mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b) >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(number).collect()
}

/// A convolution, a normalisation where it is asked for, and five classes.
fn write_network(place: &Workplace, name: &str, normalised: bool) {
    let pads = attribute("pads", Attribute::Ints(&[1, 1, 1, 1]));
    let strides = attribute("strides", Attribute::Ints(&[4, 4]));
    let mut nodes = vec![node("Conv", &["x", "w", "b"], &["c"], &[pads, strides])];
    if normalised {
        nodes.push(node(
            "BatchNormalization",
            &["c", "one", "b", "b", "one"],
            &["n"],
            &[],
        ));
    }
    let seen = if normalised { "n" } else { "c" };
    nodes.extend([
        node("Relu", &[seen], &["r"], &[]),
        node("Flatten", &["r"], &["f"], &[]),
        node("Gemm", &["f", "v"], &["y"], &[]),
    ]);
    let weights = |name: &str, dims: &[i64], seed| {
        floats(
            name,
            dims,
            &numbers(dims.iter().product::<i64>() as usize, seed),
        )
    };
    let network = model(GraphProto {
        node: nodes,
        initializer: vec![
            weights("w", &[4, 3, 3, 3], 1),
            floats("b", &[4], &[0.1, -0.2, 0.3, 0.0]),
            floats("one", &[4], &[1.0; 4]),
            weights("v", &[256, 5], 9),
        ],
        input: vec![info("x", &[0, 3, 32, 32])],
        output: vec![ValueInfoProto {
            name: Some("y".to_owned()),
            ..ValueInfoProto::default()
        }],
        ..GraphProto::default()
    });
    std::fs::write(place.path(name), network.encode_to_vec()).unwrap();
}

/// net.onnx, six pictures in photos/, and eight arrays of its input's shape in a.npy.
fn workplace() -> Workplace {
    let place = Workplace::new();
    write_network(&place, "net.onnx", true);
    std::fs::create_dir(place.path("photos")).unwrap();
    for number in 0..6u32 {
        let pixel = |x: u32, y: u32| {
            let mixed = (number * 1601 + x / 3 * 40 + y / 5).wrapping_mul(2_654_435_761);
            Rgb([(mixed >> 24) as u8, (mixed >> 16) as u8, (mixed >> 8) as u8])
        };
        let picture = RgbImage::from_fn(40, 36, pixel);
        picture
            .save(place.path(&format!("photos/{number}.png")))
            .unwrap();
    }
    place.write("photos/notes.txt", "no picture");
    let array = Tensor::new(
        Shape::new([8, 3, 32, 32]).unwrap(),
        numbers(8 * 3 * 32 * 32, 7),
    );
    skimjit_data::npy::write_npy(&place.path("a.npy"), &array).unwrap();
    place
}

fn run(place: &Workplace, command: &str) -> Outcome {
    place.run(&command.split(' ').collect::<Vec<_>>())
}

fn ok(place: &Workplace, command: &str) -> String {
    place.ok(&command.split(' ').collect::<Vec<_>>())
}

/// Zeros and elements of the weights of a layer.
fn zeros(place: &Workplace, file: &str, layer: &str) -> (usize, usize) {
    let network = OnnxNetwork::read(&place.path(file), Vec::new()).unwrap();
    let graph = network.graph();
    let node = graph.nodes.iter().find(|node| node.name == layer).unwrap();
    let data = graph.weight(node.op.weights()[0]).data();
    (
        data.iter().filter(|weight| **weight == 0.0).count(),
        data.len(),
    )
}

/// The examples of the help texts that take an ONNX file, as they are printed.
#[test]
fn examples_run_as_printed() {
    let place = workplace();
    let mut ran = 0;
    for command in ["oneshot", "recalibrate", "sensitivity"] {
        let help = place.ok(&[command, "--help"]);
        let lines = help
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("skimjit-train "));
        for line in lines.filter(|line| line.contains(".onnx")) {
            ok(&place, line.trim_start_matches("skimjit-train "));
            ran += 1;
        }
    }
    assert_eq!(ran, 3);
    assert_eq!(zeros(&place, "pruned.onnx", "c_Conv"), (76, 108));
    assert_eq!(zeros(&place, "recalibrated.onnx", "y_Gemm"), (896, 1280));
}

#[test]
fn the_change_of_the_outputs_is_told() {
    let place = workplace();
    let told = ok(
        &place,
        "oneshot --weights net.onnx --input a.npy --layers c_Conv=50 -o p.onnx",
    );
    assert!(
        told.contains("output y: changed by ") && told.contains("best class the same for "),
        "{told}"
    );
    assert!(
        told.contains("of 8 inputs") && told.contains("recalibrate"),
        "{told}"
    );
    assert_eq!(zeros(&place, "p.onnx", "c_Conv"), (54, 108));
    assert_eq!(zeros(&place, "p.onnx", "y_Gemm").0, 0);
    let json = ok(
        &place,
        "oneshot --weights net.onnx --input a.npy photos --resize 32x32 --sparsity 70 --erk -o q.onnx --json",
    );
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let change = &json["changes"][0];
    assert!(
        change["output"] == "y" && change["mean"].as_f64().unwrap() > 0.0,
        "{json}"
    );
    assert!(
        change["same_class"].as_f64().unwrap() <= 1.0 && json["before"].is_null(),
        "{json}"
    );
    let table = ok(
        &place,
        "sensitivity --weights net.onnx --input a.npy --levels 0,90 -o s.csv",
    );
    assert!(table.lines().next().unwrap().contains("y mean"), "{table}");
    assert_eq!(table.lines().count(), 5, "{table}");
    let csv = String::from_utf8(place.bytes("s.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0][4..], ["y mean", "y largest", "y same class"]);
    assert_eq!(rows[1][4..], ["0", "0", "1"]);
    assert_eq!(rows[2][4..], ["0", "0", "1"], "no zeros, no change");
    assert!(rows[3][4].parse::<f64>().unwrap() > 0.0, "{csv}");
}

/// A list of pictures with labels, as ImageData's are: they are the same inputs as the folder.
#[test]
fn lists_and_folders_name_the_same_pictures() {
    let place = workplace();
    let lines: Vec<String> = (0..6)
        .map(|number| format!("photos/{number}.png {number}"))
        .collect();
    place.write("list.txt", &lines.join("\n"));
    for (input, output) in [
        ("--input photos", "a.onnx"),
        ("--input-list list.txt", "b.onnx"),
    ] {
        ok(
            &place,
            &format!("oneshot --weights net.onnx {input} --resize 32x32 --scale 0.01 -o {output}"),
        );
    }
    assert_eq!(place.bytes("a.onnx"), place.bytes("b.onnx"));
}

fn assert_refused(place: &Workplace, command: &str, parts: &[&str]) {
    let outcome = run(place, command);
    assert_eq!(outcome.code, Some(3), "{command}: {}", outcome.stderr);
    for part in parts {
        assert!(
            outcome.stderr.contains(part),
            "{command}: {part:?} in {}",
            outcome.stderr
        );
    }
    assert!(!place.path("o.onnx").exists(), "{command}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let place = workplace();
    let small = Tensor::new(Shape::new([2, 3, 8, 8]).unwrap(), numbers(2 * 3 * 64, 7));
    skimjit_data::npy::write_npy(&place.path("small.npy"), &small).unwrap();
    std::fs::create_dir(place.path("empty")).unwrap();
    for (input, parts) in [
        (
            "",
            &[
                "net.onnx",
                "--input: found nothing, expected pictures, .npy arrays",
            ][..],
        ),
        (
            "--input a.npy --mean-value 4",
            &["--mean-value: found only arrays", "expected a picture"],
        ),
        (
            "--input small.npy",
            &[
                "small.npy",
                "an array of shape 2x3x8x8",
                "expected Nx3x32x32",
            ],
        ),
        (
            "--input photos",
            &["a picture of 3x40x36", "--resize 32x32"],
        ),
        (
            "--input photos --resize 30x30",
            &["resize: found 30x30", "expected 32x32"],
        ),
        ("--input empty", &["empty", "no picture and no array"]),
        (
            "--input z=a.npy",
            &["--input: found \"z\"", "expected \"x\""],
        ),
        (
            "--input a.npy --input-shape 1,3",
            &["input \"x\"", "4 axes"],
        ),
    ] {
        let command = format!("oneshot --weights net.onnx {input} -o o.onnx");
        assert_refused(&place, command.replace("  ", " ").trim(), parts);
    }
}

#[test]
fn options_for_other_networks_are_refused() {
    let place = workplace();
    let caffe = "expected an ONNX file alone";
    for (more, name) in [
        ("--prototxt net.prototxt", "--prototxt"),
        ("--test-batches 3", "--test-batches"),
        ("--phase test", "--phase"),
        ("--batches 3", "--batches"),
        ("--seed 3", "--seed"),
        ("--ignore-unknown-fields", "--ignore-unknown-fields"),
        ("--weights net.onnx", "--weights"),
    ] {
        let command = format!("oneshot --weights net.onnx --input a.npy {more} -o o.onnx");
        assert_refused(
            &place,
            &command,
            &["net.onnx", name, caffe, "neither data nor labels"],
        );
    }
    let parts = [
        "p.caffemodel",
        "--output",
        "expected a name that ends in .onnx",
    ];
    assert_refused(
        &place,
        "oneshot --weights net.onnx --input a.npy -o p.caffemodel",
        &parts,
    );
    write_network(&place, "folded.onnx", false);
    let parts = [
        "folded.onnx",
        "found no BatchNormalization",
        "exporters fold them into convolutions",
    ];
    assert_refused(
        &place,
        "recalibrate --weights folded.onnx --input a.npy -o o.onnx",
        &parts,
    );
    let tiny = Workplace::with_tiny_network();
    let trial = "oneshot --prototxt net.prototxt --weights w.caffemodel";
    assert_refused(
        &tiny,
        &format!("{trial} --mean-value 4 -o o.caffemodel"),
        &["--mean-value", "data layers"],
    );
    assert_refused(
        &tiny,
        "oneshot --weights w.caffemodel -o o.caffemodel",
        &["--prototxt: found nothing", "ONNX file"],
    );
}

/// A result is never written over an input.
#[test]
fn an_input_is_not_overwritten() {
    let place = workplace();
    for output in ["net.onnx", "./a.npy"] {
        let outcome = run(
            &place,
            &format!("oneshot --weights net.onnx --input x=a.npy -o {output}"),
        );
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    }
}

#[test]
fn commands_that_need_a_loss_say_what_to_do_with_an_onnx_file() {
    let place = Workplace::with_tiny_network();
    write_network(&place, "net.onnx", true);
    for command in [
        "train --solver solver.prototxt --weights net.onnx",
        "prune net.prototxt --lr 0.1 --weights net.onnx",
        "finetune net.prototxt --lr 0.1 --weights net.onnx",
        "cost --prototxt net.prototxt --weights net.onnx -o cost.json",
    ] {
        let parts = [
            "net.onnx: found an ONNX model",
            "neither losses nor labels",
            "skimjit-train oneshot",
        ];
        assert_refused(&place, command, &parts);
    }
}
