//! upgrade, export, dump, draw, device-query, and time of a definition alone.

use crate::support::{PROTOTXT, Workplace, ramp};
use skimjit::array::{read_npy, write_npy};
use skimjit::models::caffe::{parse_prototxt, read_caffemodel};

const V1: &str = r#"name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
"#;

/// Checklist 2, 59.
#[test]
fn old_files_are_upgraded() {
    let place = Workplace::new();
    place.write("old.prototxt", V1);
    let report = place.json(&["upgrade", "old.prototxt", "new.prototxt"]);
    assert_eq!(report["kind"], "network definition");
    assert_eq!(report["upgrades"][0], "2 V1 layers");
    let text = std::fs::read_to_string(place.path("new.prototxt")).unwrap();
    let (net, warnings) = parse_prototxt(&text, "new.prototxt").unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(net.layer.len(), 3);
    assert_eq!(net.layer[1].param[1].lr_mult, Some(2.0));
    let again = place.ok(&["upgrade", "new.prototxt", "again.prototxt"]);
    assert!(again.contains("of today's form already"), "{again}");
    let twice = std::fs::read_to_string(place.path("again.prototxt")).unwrap();
    assert_eq!(text, twice);
    place.write(
        "solver.prototxt",
        "net: \"a\" base_lr: 0.1 solver_type: ADAM",
    );
    place.ok(&["upgrade", "solver.prototxt", "solver2.prototxt"]);
    let solver = std::fs::read_to_string(place.path("solver2.prototxt")).unwrap();
    assert!(
        solver.contains("type: \"Adam\"") && !solver.contains("solver_type"),
        "{solver}"
    );
}

#[test]
fn upgrade_refuses_what_it_should() {
    let place = Workplace::new();
    place.write("old.prototxt", V1);
    place.write(
        "both.prototxt",
        "layer { name: \"a\" } layers { name: \"b\" }",
    );
    std::fs::create_dir(place.path("folder")).unwrap();
    for (arguments, code, word) in [
        (["old.prototxt", "old.prototxt"], 2, "--force"),
        (["none.prototxt", "new.prototxt"], 3, "none.prototxt"),
        (
            ["both.prototxt", "new.prototxt"],
            3,
            "both \"layer\" and \"layers\"",
        ),
        (["old.prototxt", "folder"], 3, "error when writing"),
    ] {
        let result = place.skimjit(&[&["upgrade"], &arguments[..]].concat());
        assert_eq!(result.code, Some(code), "{}", result.stderr);
        assert!(result.stderr.contains(word), "{}", result.stderr);
        assert_eq!(result.stderr.lines().count(), 1, "{}", result.stderr);
    }
}

/// A network on its way through an artifact keeps its weights, bit for bit.
#[test]
fn weights_go_out_as_they_came_in() {
    let place = Workplace::with_tiny_network();
    place.ok(&[
        "compile",
        "tiny.caffemodel",
        "--no-tune",
        "--zero-below",
        "0.2",
    ]);
    place.write("tiny.prototxt", PROTOTXT);
    let report = place.json(&["export", "tiny.skim", "weights.caffemodel"]);
    assert_eq!(
        (report["tensors"].as_u64(), &report["weights_only"]),
        (Some(4), &true.into())
    );
    let whole = [
        "export",
        "tiny.skim",
        "whole.caffemodel",
        "--prototxt",
        "tiny.prototxt",
    ];
    assert_eq!(
        place.skimjit(&whole).code,
        Some(2),
        "an artifact takes no prototxt"
    );
    let arguments = [
        "export",
        "tiny.caffemodel",
        "direct.caffemodel",
        "--zero-below",
        "0.2",
    ];
    assert_eq!(place.json(&arguments)["weights_only"], false);
    write_npy(&place.path("in.npy"), &ramp([2, 3, 8, 8], 1.0)).unwrap();
    let run = |model: &str, file: &str, more: &[&str]| {
        let output = format!("prob={file}");
        let arguments = ["run", model, "--input", "in.npy", "--output", &output];
        place.ok(&[&arguments[..], more].concat());
        read_npy(&place.path(file)).unwrap()
    };
    let first = run("tiny.skim", "a.npy", &[]);
    let prototxt = ["--prototxt", "tiny.prototxt"];
    assert_eq!(first, run("weights.caffemodel", "b.npy", &prototxt));
    assert_eq!(first, run("direct.caffemodel", "c.npy", &[]));
    let blobs = |file: &str| {
        let net = read_caffemodel(&place.path(file)).unwrap();
        let with = net
            .layer
            .into_iter()
            .filter(|layer| !layer.blobs.is_empty());
        with.map(|layer| (layer.name, layer.blobs))
            .collect::<Vec<_>>()
    };
    assert_eq!(blobs("weights.caffemodel"), blobs("direct.caffemodel"));
}

/// The formats' own definitions: a length and a JSON header; a zip of .npy files.
#[test]
fn tensors_have_names_and_shapes() {
    let place = Workplace::with_tiny_network();
    place.ok(&["export", "tiny.caffemodel", "w.safetensors"]);
    let bytes = std::fs::read(place.path("w.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header["conv1.0"]["shape"], serde_json::json!([4, 3, 3, 3]));
    assert_eq!(header["ip1.1"]["dtype"], "F32");
    let at = header["ip1.1"]["data_offsets"][0].as_u64().unwrap() as usize + 8 + length;
    let first = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let net = read_caffemodel(&place.path("tiny.caffemodel")).unwrap();
    let ip1 = net
        .layer
        .iter()
        .find(|layer| layer.name() == "ip1")
        .unwrap();
    assert_eq!(first, ip1.blobs[1].data[0]);
    place.ok(&["export", "tiny.caffemodel", "w.npz"]);
    let bytes = std::fs::read(place.path("w.npz")).unwrap();
    assert!(bytes.starts_with(b"PK"));
    for name in ["conv1.0.npy", "ip1.1.npy"] {
        assert!(
            bytes
                .windows(name.len())
                .any(|window| window == name.as_bytes()),
            "{name}"
        );
    }
    for arguments in [["tiny.caffemodel", "w.bin"], ["tiny.caffemodel", "w"]] {
        let result = place.skimjit(&[&["export"], &arguments[..]].concat());
        assert_eq!(result.code, Some(2), "{}", result.stderr);
    }
}

/// Checklist 41: matrices that `bench --mtx` reads back.
#[test]
fn weights_are_dumped_as_matrices() {
    let place = Workplace::with_tiny_network();
    let report = place.json(&[
        "dump",
        "tiny.caffemodel",
        "--folder",
        "w",
        "--threshold",
        "0.2",
    ]);
    let conv1 = &report[0];
    assert_eq!(
        (&conv1["layer"], conv1["rows"].as_u64()),
        (&"conv1".into(), Some(4))
    );
    let text = std::fs::read_to_string(place.path("w/conv1.mtx")).unwrap();
    let size = text.lines().nth(2).unwrap();
    assert_eq!(size, format!("4 27 {}", conv1["nonzeros"]));
    assert!(conv1["nonzeros"].as_u64().unwrap() < 108);
    assert_eq!(
        text.lines().count() as u64,
        3 + conv1["nonzeros"].as_u64().unwrap()
    );
    assert_eq!(
        read_npy(&place.path("w/conv1.bias.npy"))
            .unwrap()
            .shape()
            .dims(),
        [4]
    );
    let problem = ["--problem", "ic3ih8oc4kh3ph1", "--iterations", "1"];
    let bench = place.json(&[&["bench", "--mtx", "w/conv1.mtx"], &problem[..]].concat());
    let density = bench["cases"][0]["layers"][0]["density"].as_f64().unwrap();
    let expected = conv1["nonzeros"].as_f64().unwrap() / 108.0;
    assert!((density - expected).abs() < 1e-9, "{density} {expected}");
    let result = place.skimjit(&["dump", "tiny.caffemodel", "--layers", "conv9"]);
    assert_eq!(result.code, Some(3));
    assert!(result.stderr.contains("conv1, ip1"), "{}", result.stderr);
}

/// Checklist 42.
#[test]
fn patterns_and_fibers_are_counted() {
    let place = Workplace::with_tiny_network();
    let arguments = [
        "dump",
        "tiny.caffemodel",
        "--threshold",
        "0.3",
        "--histogram",
    ];
    let text = place.ok(&arguments);
    assert!(text.contains("conv1: 12 kernels of 3x3"), "{text}");
    assert!(!text.contains("ip1: "), "no kernels: {text}");
    let report = place.json(&arguments);
    let by_nonzeros = report[0]["patterns"]["by_nonzeros"].as_array().unwrap();
    let kernels: u64 = by_nonzeros.iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((by_nonzeros.len(), kernels), (10, 12));
    let element = report[0]["zeros"]["element"].as_f64().unwrap();
    let nonzeros = report[0]["nonzeros"].as_f64().unwrap();
    assert!((element - 100.0 * (1.0 - nonzeros / 108.0)).abs() < 1e-9);
}

#[test]
fn networks_are_drawn() {
    let place = Workplace::with_tiny_network();
    place.ok(&["draw", "tiny.caffemodel", "-o", "net.svg"]);
    let svg = std::fs::read_to_string(place.path("net.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for word in [
        ">conv1<",
        ">Convolution 3×3, pad 1<",
        ">1x5<",
        "% of the weights are not zero",
    ] {
        assert!(svg.contains(word), "{word}\n{svg}");
    }
    assert!(!svg.contains("<script") && !svg.contains("href"));
    place.write("tiny.prototxt", PROTOTXT);
    place.ok(&["draw", "tiny.prototxt", "-o", "net.dot"]);
    let dot = std::fs::read_to_string(place.path("net.dot")).unwrap();
    assert!(
        dot.starts_with("digraph ") && dot.contains("n0 -> n1"),
        "{dot}"
    );
    assert!(!dot.contains("density"), "weights of fillers tell nothing");
    for (arguments, code) in [
        (["tiny.prototxt", "-o", "net.pdf"], 2),
        (["none", "-o", "net.svg"], 3),
    ] {
        let result = place.skimjit(&[&["draw"], &arguments[..]].concat());
        assert_eq!(result.code, Some(code), "{}", result.stderr);
    }
}

/// Checklist 58.
#[test]
fn the_machine_is_described() {
    let place = Workplace::new();
    let report = place.json(&["device-query"]);
    assert!(report["cores"].as_u64() > Some(0));
    let sets = report["instruction_sets"].as_array().unwrap();
    assert_eq!(report["limits"].as_array().map(Vec::len), Some(sets.len()));
    assert!(report["limits"][0]["gflops"].as_f64() > Some(1.0));
    let text = place.ok(&["device-query", "--no-measure"]);
    assert!(
        text.contains("instruction sets") && !text.contains("GFLOP"),
        "{text}"
    );
}

/// Checklist 58: as `caffe time`, with and without weights.
#[test]
fn a_definition_is_timed() {
    let place = Workplace::with_tiny_network();
    place.write("tiny.prototxt", PROTOTXT);
    let arguments = ["time", "--model", "tiny.prototxt", "--iterations", "2"];
    let result = place.skimjit(&arguments);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    assert!(
        result
            .stderr
            .starts_with("note: weights are those of the fillers"),
        "{}",
        result.stderr
    );
    let with = [&arguments[..], &["--weights", "tiny.caffemodel"]].concat();
    assert!(place.ok(&with).contains("images/s"));
    for wrong in [
        &["time"][..],
        &["time", "tiny.caffemodel", "--model", "tiny.prototxt"],
    ] {
        assert_eq!(place.skimjit(wrong).code, Some(2));
    }
}
