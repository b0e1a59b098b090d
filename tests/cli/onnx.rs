//! ONNX models: every command takes them, and they are the same network as the Caffe files they were made from.

use crate::support::{Workplace, ramp};
use skimjit::array::{read_npy, write_npy};

/// A folder with `net.caffemodel`, a pruned zoo network, `net.onnx` of it, and an input for it.
fn workplace(net: &str, shape: [u32; 4]) -> Workplace {
    let place = Workplace::new();
    place.ok(&[
        "synth",
        net,
        "--sparsity",
        "80",
        "--seed",
        "5",
        "-o",
        "net.caffemodel",
    ]);
    let made = place.json(&["export", "net.caffemodel", "net.onnx"]);
    assert_eq!(made["format"], "onnx");
    write_npy(&place.path("in.npy"), &ramp(shape, 0.01)).unwrap();
    place.write("list.txt", "in.npy 3\n");
    place
}

#[test]
fn every_command_takes_a_model() {
    let place = workplace("lenet", [1, 1, 28, 28]);
    let caffe = place.json(&["inspect", "net.caffemodel"]);
    let onnx = place.json(&["inspect", "net.onnx"]);
    assert_eq!(caffe["total"]["zeros"], onnx["total"]["zeros"]);
    assert_eq!(caffe["total"]["macs"], onnx["total"]["macs"]);
    assert_eq!(
        place
            .json(&["inspect", "net.onnx", "--support"])
            .as_array()
            .map(Vec::len),
        Some(0)
    );
    for arguments in [
        &["compile", "net.onnx", "--no-tune", "-o", "net.skim"][..],
        &["run", "net.onnx", "in.npy", "--output", "prob.npy"],
        &["verify", "net.onnx"],
        &["verify", "net.onnx", "--kernels"],
        &[
            "verify", "net.onnx", "--input", "in.npy", "--expect", "prob.npy",
        ],
        &["time", "net.onnx", "--iterations", "1"],
        &["test", "net.onnx", "--class-list", "list.txt"],
        &["explain", "net.onnx", "--no-tune"],
        &["report", "net.onnx", "--no-tune", "-o", "net.html"],
        &["draw", "net.onnx", "-o", "net.svg"],
        &["dump", "net.onnx", "--output", "weights"],
        &["disasm", "net.onnx", "--layers", "ip1"],
        &["export", "net.onnx", "net.safetensors"],
        &["export", "net.onnx", "again.onnx"],
        &[
            "compile",
            "net.onnx",
            "--no-tune",
            "--emit",
            "so",
            "-o",
            "net.so",
        ],
    ] {
        place.ok(arguments);
    }
}

/// The bits of what a network computes.
fn bits(place: &Workplace, model: &str, more: &[&str]) -> Vec<u32> {
    let arguments = [
        &["run", model, "in.npy", "--top", "0", "--output", "out.npy"],
        more,
    ]
    .concat();
    place.ok(&arguments);
    let output = read_npy(&place.path("out.npy")).unwrap();
    output.data().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_network_gives_the_same_bits_through_both_formats() {
    let place = workplace("squeezenet", [2, 3, 227, 227]);
    place.ok(&["export", "net.caffemodel", "sparse.onnx", "--sparse"]);
    let size = |file: &str| std::fs::metadata(place.path(file)).unwrap().len();
    for isa in ["avx2", "auto"] {
        let more = ["--isa", isa, "--threads", "1"];
        let wanted = bits(&place, "net.caffemodel", &more);
        assert_eq!(wanted, bits(&place, "net.onnx", &more));
        assert_eq!(wanted, bits(&place, "sparse.onnx", &more));
    }
    // Places of 8 bytes and values of 4, of a fifth.
    assert!(size("sparse.onnx") < size("net.onnx") * 7 / 10);
}

#[test]
fn what_is_only_caffes_is_refused() {
    let place = workplace("lenet", [1, 1, 28, 28]);
    std::fs::write(place.path("net.prototxt"), "name: 'x'").unwrap();
    for (arguments, words) in [
        (
            &["run", "net.onnx", "in.npy", "--prototxt", "net.prototxt"][..],
            "another topology",
        ),
        (
            &["run", "net.onnx", "in.npy", "--caffe-in-place"],
            "in-place",
        ),
        (
            &["run", "net.onnx", "in.npy", "--allow-missing-weights"],
            "missing weights",
        ),
        (
            &["run", "net.onnx", "in.npy", "--input-shape", "no=1,1,28,28"],
            "no input \"no\"",
        ),
        (
            &["run", "net.onnx", "in.npy", "--input-shape", "1,28,28"],
            "4 axes",
        ),
        (
            &["export", "net.onnx", "out.caffemodel", "--sparse"],
            "--sparse",
        ),
        (
            &[
                "export",
                "net.onnx",
                "out.onnx",
                "--prototxt-out",
                "out.prototxt",
            ],
            "--prototxt-out",
        ),
        (&["inspect", "net.caffemodel", "--support"], "an ONNX model"),
    ] {
        let outcome = place.skimjit(arguments);
        let text = outcome.stderr;
        assert_ne!(outcome.code, Some(0), "{arguments:?}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
}

#[test]
fn a_name_of_an_input_goes_before_its_shape() {
    let place = workplace("squeezenet", [1, 3, 227, 227]);
    write_npy(&place.path("small.npy"), &ramp([1, 3, 64, 96], 0.01)).unwrap();
    place.ok(&[
        "compile",
        "net.onnx",
        "--no-tune",
        "--no-verify",
        "-o",
        "net.skim",
    ]);
    for net in ["net.onnx", "net.caffemodel", "net.skim"] {
        for shape in ["1,3,64,96", "data=1,3,64,96"] {
            place.ok(&[
                "run",
                net,
                "small.npy",
                "--input-shape",
                shape,
                "--top",
                "1",
            ]);
        }
    }
    let shape = "1,3,64,96";
    let named = format!("data={shape}");
    // Of the last two, only the network says that they are for one input.
    for (first, second, code) in [(shape, shape, 2), (&named, &named, 2), (shape, &named, 3)] {
        let shapes = ["--input-shape", first, "--input-shape", second];
        for net in ["net.onnx", "net.caffemodel"] {
            let outcome = place.skimjit(&[&["run", net, "small.npy"], &shapes[..]].concat());
            assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("two shapes"), "{}", outcome.stderr);
        }
    }
}
