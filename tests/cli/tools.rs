//! upgrade, export, dump, draw, device-query, and time of a definition alone.

use crate::support::{PROTOTXT, Workplace, ramp};
use skimjit::array::{read_npy, write_npy};
use skimjit_caffe::{parse_prototxt, read_caffemodel};
use skimjit_models::Tensor;
use skimjit_testing::data;

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

/// The tiny network as the oldest files write it.
const V0: &str = r#"name: "tiny" input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { layer { name: "pad1" type: "padding" pad: 1 } bottom: "data" top: "pad1" }
layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 3 blobs_lr: 1 blobs_lr: 2 }
  bottom: "pad1" top: "conv1" }
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "pool1" type: "pool" pool: MAX kernelsize: 2 stride: 2 }
  bottom: "conv1" top: "pool1" }
layers { layer { name: "ip1" type: "innerproduct" num_output: 5 } bottom: "pool1" top: "ip1" }
layers { layer { name: "prob" type: "softmax" } bottom: "ip1" top: "prob" }
"#;

/// Results of a network for the same input.
fn outputs(place: &Workplace, model: &str, prototxt: &str, input: [u32; 4]) -> Tensor {
    write_npy(&place.path("in.npy"), &ramp(input, 1.0)).unwrap();
    let arguments = ["run", model, "--prototxt", prototxt, "--input", "in.npy"];
    place.ok(&[&arguments[..], &["--output", "prob=out.npy"]].concat());
    read_npy(&place.path("out.npy")).unwrap()
}

/// Checklist 2, 59.
#[test]
fn upgraded_v0_files_compute_the_same() {
    let place = Workplace::with_tiny_network();
    place.write("today.prototxt", PROTOTXT);
    place.write("v0.prototxt", V0);
    let report = place.json(&["upgrade", "v0.prototxt", "new.prototxt"]);
    assert_eq!(report["upgrades"][0], "6 V0 layers");
    let again = place.ok(&["upgrade", "new.prototxt", "again.prototxt"]);
    assert!(again.contains("of today's form already"), "{again}");
    let text = |file: &str| std::fs::read_to_string(place.path(file)).unwrap();
    assert_eq!(text("new.prototxt"), text("again.prototxt"));
    let of = |prototxt| outputs(&place, "tiny.caffemodel", prototxt, [2, 3, 8, 8]);
    let expected = of("today.prototxt");
    assert_eq!(of("v0.prototxt"), expected);
    assert_eq!(of("new.prototxt"), expected);
}

/// Checklist 2, 59: a published network in the V1 format.
#[test]
fn upgraded_v1_files_compute_the_same() {
    let Some(data) = data("") else {
        return;
    };
    let place = Workplace::new();
    let folder = data.join("models/cifar10_quick_v1format");
    let file = |name: &str| folder.join(name).display().to_string();
    let (model, prototxt) = (file("model.caffemodel"), file("deploy.prototxt"));
    let report = place.json(&["upgrade", &model, "new.caffemodel"]);
    assert_eq!(report["upgrades"][0], "13 V1 layers");
    place.ok(&["upgrade", &prototxt, "new.prototxt"]);
    let input = [1, 3, 32, 32];
    let expected = outputs(&place, &model, &prototxt, input);
    let found = outputs(&place, "new.caffemodel", "new.prototxt", input);
    assert_eq!(found, expected);
}

#[test]
fn the_kind_of_a_file_can_be_forced_and_comments_have_any_encoding() {
    let place = Workplace::new();
    let latin1 = [&b"# caf\xe9\n"[..], V1.as_bytes()].concat();
    place.write("old.prototxt", latin1);
    let report = place.json(&["upgrade", "old.prototxt", "new.prototxt"]);
    assert_eq!(report["kind"], "network definition");
    place.ok(&["draw", "old.prototxt", "-o", "net.svg"]);
    // Only a field that both have: a network, unless told otherwise.
    place.write("some.prototxt", "debug_info: true");
    for (kind, found) in [
        ("net", "network definition"),
        ("solver", "solver definition"),
    ] {
        let arguments = ["upgrade", "some.prototxt", "out.prototxt", "--kind", kind];
        assert_eq!(place.json(&arguments)["kind"], found);
    }
    let arguments = [
        "upgrade",
        "old.prototxt",
        "out.caffemodel",
        "--kind",
        "weights",
    ];
    assert_eq!(place.skimjit(&arguments).code, Some(3));
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
        "--output",
        "w",
        "--zero-below",
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
        "--zero-below",
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
    // A data layer does not say what size its images have.
    let data = "layer { name: 'd' type: 'Data' top: 'data' data_param { batch_size: 2 } }";
    let (_, layers) = PROTOTXT.split_once("layer { name: \"conv1\"").unwrap();
    let trained = format!("{data} layer {{ name: \"conv1\"{layers}");
    place.write("trained.prototxt", trained);
    let draw = [
        "draw",
        "trained.prototxt",
        "--phase",
        "TRAIN",
        "-o",
        "t.svg",
    ];
    let result = place.skimjit(&draw);
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    assert!(result.stderr.contains("--input-shape"), "{}", result.stderr);
    place.ok(&[&draw[..], &["--input-shape", "2,3,8,8"]].concat());
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
    let arguments = ["device-query", "--threads", "2", "--isa", "avx2"];
    let team = place.json(&arguments);
    assert_eq!(team["used"], "avx2");
    assert_eq!(team["limits"].as_array().map(Vec::len), Some(1));
    assert_eq!(team["team"][0]["threads"], 2);
    assert!(team["team"][0]["gflops"].as_f64() > Some(1.0));
    assert!(team["memory_bytes"].as_u64() >= team["free_memory_bytes"].as_u64());
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
    let arguments = ["time", "--prototxt", "tiny.prototxt", "--iterations", "2"];
    let result = place.skimjit(&arguments);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    assert!(
        result.stderr.starts_with("note: no weights given"),
        "{}",
        result.stderr
    );
    // Without fillers too: a network of zeros would run in no time.
    assert!(!result.stdout.contains("sparse_"), "{}", result.stdout);
    assert!(result.stdout.contains("conv1"), "{}", result.stdout);
    let with = [&arguments[..], &["--weights", "tiny.caffemodel"]].concat();
    assert!(place.ok(&with).contains("images/s"));
    for wrong in [
        &["time"][..],
        &["time", "tiny.caffemodel", "--model", "tiny.prototxt"],
    ] {
        assert_eq!(place.skimjit(wrong).code, Some(2));
    }
}

/// One unit: percent, with and without its sign; what looks like a share is warned about.
#[test]
fn sparsities_are_percentages_everywhere() {
    let place = Workplace::new();
    let zeros = |sparsity: &str| {
        let arguments = [
            "synth",
            "lenet",
            "--sparsity",
            sparsity,
            "-o",
            "net.caffemodel",
            "--json",
        ];
        let result = place.skimjit(&arguments);
        assert_eq!(result.code, Some(0), "{}", result.stderr);
        let report: serde_json::Value = serde_json::from_str(&result.stdout).unwrap();
        (report["zeros"].as_u64().unwrap(), result.stderr)
    };
    let (ninety, said) = zeros("90");
    assert_eq!(zeros("90%"), (ninety, String::new()));
    assert_eq!(said, "");
    let (few, said) = zeros("0.9");
    assert!(few * 50 < ninety, "{few} of {ninety}");
    assert!(
        said.contains("--sparsity 0.9 means 0.9%") && said.contains("write 90%"),
        "{said}"
    );
    assert_eq!(zeros("0.9%"), (few, String::new()));
    let kernel = [
        "verify",
        "--kernel",
        "dense_conv.rolled",
        "--problem",
        "ic3ih8oc4kh3",
    ];
    let said = place
        .skimjit(&[&kernel[..], &["--density", "0.5"]].concat())
        .stderr;
    assert!(said.contains("--density 0.5 means 0.5%"), "{said}");
    let said = place
        .skimjit(&[&kernel[..], &["--density", "50%"]].concat())
        .stderr;
    assert_eq!(said, "");
}
