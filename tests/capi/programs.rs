//! The examples in C, C++ and Rust, and a program that does everything wrong.

use crate::network::{self, Workplace};
use crate::support::{Link, compile, ok, root, valgrind};
use serde_json::Value;
use skimjit::picture::{ChannelOrder, Picture};
use skimjit_testing::{data, has};
use std::path::Path;
use std::process::Command;

#[path = "../../examples/embed.rs"]
#[allow(dead_code, reason = "the example's main")]
mod embed;
#[path = "../../examples/kernel.rs"]
#[allow(dead_code, reason = "the example's main")]
mod kernel;

/// The cap of the whole test run, as an argument of the examples.
fn cap() -> Vec<String> {
    let cap = std::env::var("SKIMJIT_MAX_ISA").unwrap_or_default();
    match cap.is_empty() {
        true => vec![],
        false => vec!["--isa".to_owned(), cap],
    }
}

/// Class and score, line by line.
type Classes = Vec<(usize, f32)>;

fn parse(printed: &str) -> Classes {
    let line = |line: &str| {
        let (class, score) = line.split_once(' ').unwrap();
        (class.parse().unwrap(), score.parse().unwrap())
    };
    printed.lines().map(line).collect()
}

/// What `skimjit run` says, image after image.
fn expected(place: &Workplace, arguments: &[&str]) -> Classes {
    let report = place.json(&[&["run"], arguments, &["--batch", "1", "--threads", "1"]].concat());
    let images = report["images"].as_array().unwrap().iter();
    let classes = images.flat_map(|image| image["classes"].as_array().unwrap());
    let class = |class: &Value| {
        let score = class["score"].as_f64().unwrap() as f32;
        (class["class"].as_u64().unwrap() as usize, score)
    };
    classes.map(class).collect()
}

/// A place with the tiny network and three images for it.
fn tiny() -> Workplace {
    let place = Workplace::with_tiny_network();
    place.write("tiny.prototxt", network::PROTOTXT);
    let input = network::ramp([3, 3, 8, 8], 2.0);
    skimjit::array::write_npy(&place.path("in.npy"), &input).unwrap();
    place
}

#[test]
fn c_and_cpp_examples_say_what_the_command_line_says() {
    let place = tiny();
    let expected = expected(&place, &["tiny.caffemodel", "--input", "in.npy"]);
    assert_eq!(expected.len(), 15);
    // The same network, and so the same scores.
    place.json(&["export", "tiny.caffemodel", "tiny.onnx"]);
    for link in [Link::Shared, Link::Static] {
        for source in ["examples/c/classify.c", "examples/cpp/classify.cpp"] {
            let Some(program) = compile(source, &place.path(""), link, false) else {
                continue;
            };
            for network in ["tiny.caffemodel", "tiny.onnx"] {
                let mut command = Command::new(&program);
                command
                    .arg(place.path(network))
                    .arg(place.path("in.npy"))
                    .args(cap());
                assert_eq!(parse(&ok(&mut command)), expected, "{source} {network}");
            }
        }
    }
}

#[test]
fn examples_run_without_memory_errors() {
    let place = tiny();
    let arguments = [place.path("tiny.caffemodel"), place.path("in.npy")];
    let expected = expected(
        &place,
        &["tiny.caffemodel", "--input", "in.npy", "--isa", "avx2"],
    );
    for source in ["examples/c/classify.c", "examples/cpp/classify.cpp"] {
        if let Some(program) = compile(source, &place.path(""), Link::Shared, true) {
            let mut command = Command::new(&program);
            command.args(&arguments).args(["--isa", "avx2"]);
            assert_eq!(parse(&ok(&mut command)), expected, "{source}");
        }
        let Some(program) = compile(source, &place.path(""), Link::Shared, false) else {
            continue;
        };
        if has("valgrind") {
            let mut command = valgrind(&program);
            command.args(&arguments).args(["--isa", "avx2"]);
            assert_eq!(parse(&ok(&mut command)), expected, "{source}");
        }
    }
}

#[test]
fn generated_functions_can_be_called_from_c() {
    let place = Workplace::new();
    let source = "examples/c/kernel.c";
    if let Some(program) = compile(source, &place.path(""), Link::Shared, true) {
        ok(Command::new(&program).arg("avx2"));
    }
    if let Some(program) = compile(source, &place.path(""), Link::Static, false) {
        ok(Command::new(&program).args(cap().get(1)));
        if has("valgrind") {
            ok(valgrind(&program).arg("avx2"));
        }
    }
}

#[test]
fn mistakes_of_callers_are_errors() {
    let place = tiny();
    let arguments = [place.path("tiny.caffemodel"), place.path("tiny.prototxt")];
    let source = "tests/capi/misuse.c";
    if let Some(program) = compile(source, &place.path(""), Link::Shared, true) {
        ok(Command::new(&program).args(&arguments));
    }
    let Some(program) = compile(source, &place.path(""), Link::Shared, false) else {
        return;
    };
    ok(Command::new(&program).args(&arguments));
    if has("valgrind") {
        ok(valgrind(&program).args(&arguments));
    }
}

#[test]
fn rust_examples_run() {
    assert!(kernel::run().unwrap() < 1e-5);
    let place = tiny();
    let arguments = ["tiny.caffemodel", "in.npy"].map(|file| place.path(file));
    let arguments = arguments.map(|path| path.to_str().unwrap().to_owned());
    let best = embed::run(&arguments).unwrap();
    let expected = expected(
        &place,
        &["tiny.caffemodel", "--input", "in.npy", "--top", "1"],
    );
    assert_eq!(best.len(), 3);
    for ((class, score), (expected, expected_score)) in best.iter().zip(&expected) {
        assert_eq!(class, expected);
        // The command may be capped to another instruction set.
        assert!((score - expected_score).abs() < 1e-5);
    }
}

/// A picture in the simplest format there is.
fn write_ppm(jpeg: &Path, ppm: &Path) {
    let picture = Picture::open(jpeg, 3, ChannelOrder::Rgb).unwrap();
    let mut bytes = format!("P6\n{} {}\n255\n", picture.width(), picture.height()).into_bytes();
    bytes.extend(picture.data());
    std::fs::write(ppm, bytes).unwrap();
}

#[test]
fn a_photograph_is_what_the_command_line_says() {
    let model = data("models/squeezenet_v1.0_dc/model.caffemodel");
    let photograph = data("imagenet/images256/n01440764_tench.jpg");
    let (Some(model), Some(photograph)) = (model, photograph) else {
        return;
    };
    let place = Workplace::new();
    write_ppm(&photograph, &place.path("photograph.ppm"));
    let prototxt = model.with_file_name("deploy.prototxt");
    let (text, mean) = (
        |path: &Path| path.to_str().unwrap().to_owned(),
        "104,117,123",
    );
    let (model, prototxt, photograph) = (text(&model), text(&prototxt), text(&photograph));
    let expected = expected(
        &place,
        &[
            &model,
            "--prototxt",
            &prototxt,
            "--input",
            &photograph,
            "--crop",
            "227",
            "--mean-value",
            mean,
            "--isa",
            "avx2",
        ],
    );
    let source = "examples/c/classify.c";
    for sanitize in [false, true] {
        let Some(program) = compile(source, &place.path(""), Link::Shared, sanitize) else {
            continue;
        };
        let mut command = Command::new(&program);
        command.arg(&model).arg(place.path("photograph.ppm"));
        command.args(["--prototxt", &prototxt, "--isa", "avx2", "--mean", mean]);
        assert_eq!(parse(&ok(&mut command)), expected);
    }
}

/// Little more memory than the process has: a status, never the end of the process.
#[test]
fn without_memory_calls_fail_with_a_status() {
    let place = Workplace::new();
    let model = root().join("models/demo/lenet.skim");
    let Some(program) = compile("tests/capi/oom.c", &place.path("."), Link::Shared, false) else {
        return;
    };
    let run = |mib: u32, when: &str| {
        let mut command = Command::new(&program);
        command.arg(&model).arg(mib.to_string()).arg(when);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{when} {mib}: {said}{error}");
        said
    };
    let (mut refused, mut done) = ([0, 0], 0);
    for mib in [0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 256] {
        for (when, name) in ["load", "session"].into_iter().enumerate() {
            let said = run(mib, name);
            let last = said.lines().last().unwrap_or_default();
            match last {
                "session 0 " => done += 1,
                _ => {
                    let plan = last.starts_with(&format!("{name} 4 "));
                    assert!(plan && last.contains("memory"), "{name} {mib}: {said}");
                    refused[when] += 1;
                }
            }
        }
    }
    assert!(
        refused[0] > 0 && refused[1] > 0 && done > 0,
        "{refused:?} {done}"
    );
}

#[test]
fn an_artifact_says_how_pictures_become_inputs() {
    let place = tiny();
    let mut pixels = b"P6\n10 9\n255\n".to_vec();
    pixels.extend((0..270u32).map(|index| (index * 37 % 251) as u8));
    place.write("picture.ppm", &pixels);
    let rgb = image::RgbImage::from_raw(10, 9, pixels[pixels.len() - 270..].to_vec()).unwrap();
    rgb.save(place.path("picture.png")).unwrap();
    let options = [
        "--crop",
        "8",
        "--mean-value",
        "104,117,123",
        "--scale",
        "0.5",
    ];
    let compile_it = ["compile", "tiny.caffemodel", "--no-tune"];
    place.ok(&[&compile_it[..], &options].concat());
    let expected = expected(
        &place,
        &[
            &["tiny.caffemodel", "picture.png", "--isa", "avx2"],
            &options[..],
        ]
        .concat(),
    );
    let source = "examples/c/classify.c";
    let Some(program) = compile(source, &place.path(""), Link::Shared, false) else {
        return;
    };
    let mut command = Command::new(&program);
    command
        .arg(place.path("tiny.skim"))
        .arg(place.path("picture.ppm"));
    assert_eq!(parse(&ok(command.args(["--isa", "avx2"]))), expected);
}
