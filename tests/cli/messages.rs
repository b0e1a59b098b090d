//! What is refused says what was found and what to do next, with the warnings that came before it.

use crate::support::{PROTOTXT, Workplace, ramp, tiny};
use skimjit::array::{read_npy, write_npy};
use skimjit::{LoadOptions, Model};
use skimjit_caffe::proto::{BlobProto, NetParameter, SolverState};
use skimjit_caffe::{write_binaryproto, write_caffemodel, write_solverstate};
use skimjit_models::{Shape, Tensor};

/// What a command that fails says.
fn refusal(place: &Workplace, arguments: &[&str]) -> String {
    let result = place.skimjit(arguments);
    assert_ne!(result.code, Some(0), "{arguments:?}: {}", result.stdout);
    result.stderr
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

#[test]
fn a_definition_alone_says_what_to_do_and_is_read_on_request() {
    let place = Workplace::new();
    place.write("net.prototxt", PROTOTXT);
    for command in ["compile", "inspect", "time", "explain"] {
        let text = refusal(&place, &[command, "net.prototxt"]);
        says(
            &text,
            &[
                "net.prototxt: found a network definition",
                "--prototxt",
                "--allow-missing-weights",
            ],
        );
    }
    let inspected = place.skimjit(&["inspect", "net.prototxt", "--allow-missing-weights"]);
    assert_eq!(inspected.code, Some(0), "{}", inspected.stderr);
    says(&inspected.stdout, &["conv1", "InnerProduct"]);
    says(
        &inspected.stderr,
        &["warning: net.prototxt: no weights", "fillers"],
    );
    let compiled = place.skimjit(&[
        "compile",
        "net.prototxt",
        "--allow-missing-weights",
        "--no-tune",
    ]);
    assert_eq!(compiled.code, Some(0), "{}", compiled.stderr);
    place.ok(&["draw", "net.prototxt", "-o", "net.svg"]);
    // Beside weights it goes with --prototxt, and is no weight file.
    let text = refusal(
        &place,
        &["inspect", "net.prototxt", "--prototxt", "net.prototxt"],
    );
    says(
        &text,
        &[
            "found a network definition",
            "expected weights",
            ".caffemodel",
        ],
    );
}

#[test]
fn weights_that_are_missing_are_looked_for_under_other_names() {
    let place = Workplace::with_tiny_network();
    place.write(
        "net.prototxt",
        PROTOTXT.replace("name: \"ip1\"", "name: \"ip1_new\""),
    );
    let text = refusal(
        &place,
        &["inspect", "tiny.caffemodel", "--prototxt", "net.prototxt"],
    );
    says(
        &text,
        &[
            "\"ip1_new\"",
            "no weight file",
            "the closest",
            "\"ip1\"",
            "5x64",
            "--allow-missing-weights",
        ],
    );
}

#[test]
fn other_files_of_caffe_are_named() {
    let place = Workplace::with_tiny_network();
    let state = SolverState {
        iter: Some(100),
        learned_net: Some("net_iter_100.caffemodel".to_owned()),
        history: vec![BlobProto::default()],
        ..SolverState::default()
    };
    write_solverstate(&state, &place.path("x.solverstate")).unwrap();
    let mean = Tensor::zeros(Shape::new([1, 3, 8, 8]).unwrap());
    write_binaryproto(mean, &place.path("mean.binaryproto")).unwrap();
    place.write("solver.prototxt", "net: 'net.prototxt' base_lr: 1");
    place.write("net.prototxt", PROTOTXT);
    for prototxt in [&[][..], &["--prototxt", "net.prototxt"]] {
        let text = |file| refusal(&place, &[&["inspect", file], prototxt].concat());
        says(
            &text("x.solverstate"),
            &["the state of a solver", "net_iter_100.caffemodel"],
        );
        says(
            &text("mean.binaryproto"),
            &["one array", "mean image", "--mean-file"],
        );
        says(
            &text("solver.prototxt"),
            &["a solver definition", ".caffemodel"],
        );
    }
    let swapped = [
        "inspect",
        "tiny.caffemodel",
        "--prototxt",
        "tiny.caffemodel",
    ];
    says(
        &refusal(&place, &swapped),
        &["found a caffemodel", "prototxt"],
    );
}

const ONNX: &[u8] = b"\x08\x07\x12\x07pytorch\x3a\x00\x42\x00";

/// One line each, wherever a network is read.
#[test]
fn files_of_other_programs_are_named() {
    let place = Workplace::with_tiny_network();
    place.write("net.prototxt", PROTOTXT);
    let files: [(&str, &[u8], &str); 3] = [
        ("net.tflite", b"\x1c\0\0\0TFL3", "a TFLite model"),
        ("yolo.cfg", b"[net]\nbatch=1\n", "a Darknet network"),
        ("net.engine", b"ftrt\0\0", "a TensorRT engine"),
    ];
    for (file, bytes, words) in files {
        place.write(file, bytes);
        let as_prototxt = ["inspect", "tiny.caffemodel", "--prototxt", file];
        let as_weights = ["inspect", file, "--prototxt", "net.prototxt"];
        for arguments in [
            &["compile", file][..],
            &["draw", file],
            &as_weights,
            &as_prototxt,
        ] {
            let text = refusal(&place, arguments);
            says(&text, &[&format!("{file}: found {words}"), "Caffe"]);
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    // As the C interface reads it.
    let bytes = b"\x1c\0\0\0TFL3";
    let error = Model::from_bytes(bytes, None, &LoadOptions::default())
        .err()
        .unwrap();
    says(&error.to_string(), &["a TFLite model", "ONNX"]);
}

/// ONNX models are networks, but neither a definition nor weights for one.
#[test]
fn an_onnx_model_is_told_from_what_goes_with_caffes_files() {
    let place = Workplace::with_tiny_network();
    place.write("net.prototxt", PROTOTXT);
    place.write("net.onnx", ONNX);
    let as_prototxt = ["inspect", "tiny.caffemodel", "--prototxt", "net.onnx"];
    says(
        &refusal(&place, &as_prototxt),
        &["net.onnx: found an ONNX model", "as MODEL"],
    );
    let as_weights = [
        "time",
        "--prototxt",
        "net.prototxt",
        "--weights",
        "net.onnx",
    ];
    says(
        &refusal(&place, &as_weights),
        &["net.onnx: found an ONNX model", "as MODEL"],
    );
    let with_prototxt = place.skimjit(&["inspect", "net.onnx", "--prototxt", "net.prototxt"]);
    says(&with_prototxt.stderr, &["another topology", "ONNX model"]);
    says(
        &refusal(&place, &["inspect", "net.onnx"]),
        &["without outputs"],
    );
}

#[test]
fn a_network_that_mixes_images_names_the_batch() {
    let place = Workplace::new();
    place.write(
        "mix.prototxt",
        "input: 'data' input_shape { dim: 4 dim: 3 }
         layer { name: 's' type: 'Softmax' bottom: 'data' top: 's' softmax_param { axis: 0 } }",
    );
    place.write("none.caffemodel", "\n\x03two");
    write_npy(
        &place.path("five.npy"),
        &Tensor::zeros(Shape::new([5, 3]).unwrap()),
    )
    .unwrap();
    let run = [
        "run",
        "none.caffemodel",
        "--prototxt",
        "mix.prototxt",
        "--input",
        "five.npy",
    ];
    says(
        &refusal(&place, &run),
        &["combines the images", "--batch 5"],
    );
    place.ok(&[&run[..], &["--batch", "5", "--output", "s.npy"]].concat());
    let found = read_npy(&place.path("s.npy")).unwrap();
    assert!(found.data().iter().all(|value| (value - 0.2).abs() < 1e-6));
}

#[test]
fn warnings_before_an_error_are_printed() {
    let place = Workplace::with_tiny_network();
    let text = PROTOTXT.replace("bottom: \"ip1\"", "bottom: \"ip2\"");
    place.write("bad.prototxt", format!("shininess: 3\n{text}"));
    let text = refusal(
        &place,
        &["inspect", "tiny.caffemodel", "--prototxt", "bad.prototxt"],
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("warning: bad.prototxt:1:1: "),
        "{text}"
    );
    assert!(
        lines[1].starts_with("error: bad.prototxt: layer \"prob\""),
        "{text}"
    );
}

/// cases/01: BVLC/caffe gives 10 and 100.
#[test]
fn the_last_copy_of_a_shared_parameter_is_used_with_a_warning() {
    let place = Workplace::new();
    let layer = |name: &str, bottom: &str, top: &str| {
        format!(
            "layer {{ name: '{name}' type: 'InnerProduct' bottom: '{bottom}' top: '{top}' param {{ name: 'w' }}
             inner_product_param {{ num_output: 1 bias_term: false }} }}\n"
        )
    };
    let layers = layer("a", "data", "x") + &layer("b", "x", "y");
    let text = format!("input: 'data' input_shape {{ dim: 1 dim: 1 }}\n{layers}");
    place.write("net.prototxt", &text);
    let (mut net, _) = skimjit_caffe::parse_prototxt(&text, "net").unwrap();
    net = NetParameter {
        layer: net.layer,
        ..NetParameter::default()
    };
    for (layer, value) in net.layer.iter_mut().zip([2.0, 10.0]) {
        layer.blobs = vec![skimjit_caffe::blob::from_tensor(Tensor::new(
            Shape::new([1, 1]).unwrap(),
            vec![value],
        ))];
    }
    write_caffemodel(&net, &place.path("net.caffemodel")).unwrap();
    let one = Tensor::new(Shape::new([1, 1]).unwrap(), vec![1.0]);
    write_npy(&place.path("in.npy"), &one).unwrap();
    let result = place.skimjit(&[
        "run",
        "net.caffemodel",
        "--prototxt",
        "net.prototxt",
        "--input",
        "in.npy",
        "--output",
        "y=y.npy",
        "--dump-blob",
        "x=x.npy",
    ]);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    says(
        &result.stderr,
        &["warning: ", "\"a\"", "\"b\"", "parameter \"w\""],
    );
    let value = |file: &str| read_npy(&place.path(file)).unwrap().data().to_vec();
    assert_eq!((value("x.npy"), value("y.npy")), (vec![10.0], vec![100.0]));
}

/// cases/02: BVLC/caffe gives [0, 6].
#[test]
fn in_place_layers_on_shared_memory_are_warned_of_or_computed_as_in_caffe() {
    let place = Workplace::new();
    place.write(
        "net.prototxt",
        "input: 'data' input_shape { dim: 1 dim: 2 }
         layer { name: 't' type: 'Power' bottom: 'data' top: 'a' }
         layer { name: 'f' type: 'Reshape' bottom: 'a' top: 'f' reshape_param { shape { dim: 0 dim: -1 } } }
         layer { name: 'r' type: 'ReLU' bottom: 'f' top: 'f' }
         layer { name: 'o' type: 'Power' bottom: 'a' top: 'o' power_param { scale: 2 } }",
    );
    place.write("none.caffemodel", "\n\x03two");
    let input = Tensor::new(Shape::new([1, 2]).unwrap(), vec![-1.0, 3.0]);
    write_npy(&place.path("in.npy"), &input).unwrap();
    let run = |more: &[&str]| {
        let arguments = [
            "run",
            "none.caffemodel",
            "--prototxt",
            "net.prototxt",
            "--input",
            "in.npy",
            "--output",
            "o=o.npy",
        ];
        let result = place.skimjit(&[&arguments[..], more].concat());
        assert_eq!(result.code, Some(0), "{}", result.stderr);
        says(
            &result.stderr,
            &[
                "warning: net.prototxt: layer \"o\" reads blob \"a\"",
                "\"r\"",
            ],
        );
        read_npy(&place.path("o.npy")).unwrap().into_data()
    };
    assert_eq!(run(&[]), [-2.0, 6.0]);
    assert_eq!(run(&["--caffe-in-place"]), [0.0, 6.0]);
    let compile = [
        "compile",
        "none.caffemodel",
        "--prototxt",
        "net.prototxt",
        "--caffe-in-place",
        "-o",
        "n.skim",
    ];
    assert_eq!(place.skimjit(&compile).code, Some(0));
    let arguments = ["run", "n.skim", "--input", "in.npy", "--output", "o=o.npy"];
    place.ok(&arguments);
    assert_eq!(read_npy(&place.path("o.npy")).unwrap().data(), [0.0, 6.0]);
    says(
        &refusal(&place, &[&arguments[..], &["--caffe-in-place"]].concat()),
        &["in-place", "compile"],
    );
}

/// The reference adds in double; the engine in float, in which the first half of the sum is infinite.
#[test]
fn verify_calls_an_overflow_by_its_name() {
    let place = Workplace::new();
    place.write(
        "net.prototxt",
        "input: 'data' input_shape { dim: 1 dim: 256 }
         layer { name: 'big' type: 'InnerProduct' bottom: 'data' top: 'y'
                 inner_product_param { num_output: 1 bias_term: false } }",
    );
    let mut weights = vec![3e38; 128];
    weights.resize(255, -3e38);
    weights.push(1.0);
    let blob = Tensor::new(Shape::new([1, 256]).unwrap(), weights);
    let mut net = tiny();
    net.layer.truncate(1);
    net.layer[0].name = Some("big".to_owned());
    net.layer[0].blobs = vec![skimjit_caffe::blob::from_tensor(blob)];
    write_caffemodel(&net, &place.path("net.caffemodel")).unwrap();
    let ones = Tensor::new(Shape::new([1, 256]).unwrap(), vec![1.0; 256]);
    write_npy(&place.path("in.npy"), &ones).unwrap();
    let arguments = [
        "verify",
        "net.caffemodel",
        "--prototxt",
        "net.prototxt",
        "--input",
        "in.npy",
    ];
    let result = place.skimjit(&arguments);
    assert_eq!(result.code, Some(1), "{}", result.stderr);
    says(&result.stdout, &["OVERFLOWS"]);
    says(
        &result.stderr,
        &["layer \"big\"", "an overflow", "3.4e38", "scale"],
    );
}

/// A window wholly outside: 0, in the reference and in generated code (Caffe divides 0 by 0).
#[test]
fn an_average_of_nothing_is_zero() {
    let place = Workplace::new();
    place.write(
        "pool.prototxt",
        "input: 'data' input_shape { dim: 1 dim: 3 dim: 10 dim: 10 }
         layer { name: 'p' type: 'Pooling' bottom: 'data' top: 'p'
                 pooling_param { pool: AVE kernel_size: 1 stride: 2 } }",
    );
    place.write("none.caffemodel", "\n\x03two");
    write_npy(&place.path("in.npy"), &ramp([1, 3, 10, 10], 1.0)).unwrap();
    for isa in ["avx2", "auto"] {
        let arguments = [
            "none.caffemodel",
            "--prototxt",
            "pool.prototxt",
            "--input",
            "in.npy",
            "--isa",
            isa,
        ];
        place.ok(&[&["verify"], &arguments[..]].concat());
        place.ok(&[&["run"], &arguments[..], &["--output", "p=p.npy"]].concat());
        let found = read_npy(&place.path("p.npy")).unwrap();
        assert_eq!(found.shape().dims(), [1, 3, 6, 6]);
        for (index, value) in found.data().iter().enumerate() {
            let outside = index % 6 == 5 || index / 6 % 6 == 5;
            assert_eq!(*value == 0.0, outside, "{index}: {value}");
        }
    }
}

/// A Dropout of everything does nothing in tests, as in Caffe.
#[test]
fn a_dropout_of_everything_is_read_for_tests() {
    let place = Workplace::new();
    place.write(
        "net.prototxt",
        "input: 'data' input_shape { dim: 1 dim: 1 }
         layer { name: 'd' type: 'Dropout' bottom: 'data' top: 'r' dropout_param { dropout_ratio: 1 } }",
    );
    place.write("none.caffemodel", "\n\x03two");
    place.ok(&["inspect", "none.caffemodel", "--prototxt", "net.prototxt"]);
}

/// An artifact of constants would compute the same for ever.
#[test]
fn a_network_without_inputs_is_not_compiled() {
    let place = Workplace::new();
    place.write(
        "net.prototxt",
        "layer { name: 'd' type: 'DummyData' top: 'x' dummy_data_param { shape { dim: 1 dim: 4 } } }
         layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' }",
    );
    place.write("none.caffemodel", "\n\x03two");
    let model = ["none.caffemodel", "--prototxt", "net.prototxt", "--no-tune"];
    for options in [vec!["-o", "net.skim"], vec!["--emit", "asm", "-o", "net.s"]] {
        let text = refusal(&place, &[&["compile"], &model[..], &options].concat());
        says(
            &text,
            &[
                "layer \"d\"",
                "without inputs",
                "DummyData",
                "an Input layer",
            ],
        );
        assert!(!place.path(options[options.len() - 1]).exists());
    }
    // To measure it is what DummyData is for.
    let (weights, prototxt) = ("none.caffemodel", "net.prototxt");
    place.ok(&["time", weights, "--prototxt", prototxt, "--iterations", "1"]);
    place.ok(&["inspect", weights, "--prototxt", prototxt]);
}

/// NVIDIA's `scale_bias`: normalised by mean 0 and variance 1, times 3, plus 4.
#[test]
fn a_batch_norm_with_scale_bias_is_both() {
    let place = Workplace::new();
    place.write("net.prototxt", include_bytes!("forks/nvbn.prototxt"));
    place.write("net.caffemodel", include_bytes!("forks/nvbn.caffemodel"));
    let input = ramp([1, 2, 2, 2], 1.0);
    write_npy(&place.path("in.npy"), &input).unwrap();
    let model = [
        "net.caffemodel",
        "--prototxt",
        "net.prototxt",
        "--input",
        "in.npy",
    ];
    place.ok(&[&["verify"], &model[..]].concat());
    place.ok(&[&["run"], &model[..], &["--output", "out.npy"]].concat());
    let found = read_npy(&place.path("out.npy")).unwrap();
    for (x, y) in input.data().iter().zip(found.data()) {
        let expected = f64::from(*x) / (1.0 + 1e-5_f64).sqrt() * 3.0 + 4.0;
        assert!(
            (f64::from(*y) - expected).abs() < 1e-5,
            "{x}: {y}, {expected}"
        );
    }
}
