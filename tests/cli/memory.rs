//! What files claim does not decide how much memory is taken: one error line, whatever they say.

use crate::support::{Outcome, Workplace, outcome};
use std::process::Command;

/// Address space of the commands, in KiB: a hundred times what they need for these files.
const LIMIT_KIB: u64 = 2 << 20;

/// Runs the program with little memory.
fn limited(place: &Workplace, arguments: &[&str]) -> Outcome {
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {LIMIT_KIB} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_skimjit")]);
    command.args(arguments).current_dir(place.path(""));
    command.env("SKIMJIT_TUNE_CACHE", "tune.json");
    outcome(&mut command)
}

fn assert_refused(result: &Outcome, what: &str) {
    let Outcome { code, stderr, .. } = result;
    assert_eq!(*code, Some(3), "{what}: {stderr}");
    let errors = stderr.lines().filter(|line| line.starts_with("error: "));
    let told = |line: &&str| line.starts_with("warning: ") || line.starts_with("note: ");
    let others = stderr.lines().filter(|line| !told(line));
    assert_eq!((errors.count(), others.count()), (1, 1), "{what}: {stderr}");
}

macro_rules! claims {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../models/caffe/tests/claims/", $name)).as_slice(),
        )
    };
}

#[test]
fn artifacts_and_weights_that_claim_too_much_are_one_error() {
    let place = Workplace::new();
    for (name, bytes) in [
        claims!("bomb.skim"),
        claims!("min.caffemodel.h5"),
        claims!("net.caffemodel.h5"),
        claims!("328-bytes.h5"),
    ] {
        place.write(name, bytes);
        for command in [
            &["inspect"][..],
            &["verify"],
            &["compile", "-o", "new.skim"],
        ] {
            assert_refused(&limited(&place, &[command, &[name]].concat()), name);
        }
    }
}

#[test]
fn data_layers_of_hdf5_files_that_claim_too_much_are_one_error() {
    let place = Workplace::new();
    place.write(
        "net.prototxt",
        "layer { name: \"d\" type: \"HDF5Data\" top: \"data\" top: \"label\"
           hdf5_data_param { source: \"list.txt\" batch_size: 2 } }
         layer { name: \"f\" type: \"InnerProduct\" bottom: \"data\" top: \"f\"
           inner_product_param { num_output: 2 } }
         layer { name: \"loss\" type: \"EuclideanLoss\" bottom: \"f\" bottom: \"f\" top: \"loss\" }",
    );
    place.write("e.caffemodel", b"\x0a\x01x");
    for (name, bytes) in [
        claims!("crash.h5"),
        claims!("328-bytes.h5"),
        claims!("497-bytes.h5"),
    ] {
        place.write(name, bytes);
        place.write("list.txt", format!("{name}\n"));
        let arguments = ["--weights", "e.caffemodel", "--iterations", "1"];
        let result = limited(
            &place,
            &[&["test", "--prototxt", "net.prototxt"], &arguments[..]].concat(),
        );
        assert_refused(&result, name);
    }
}

/// A header of 54 bytes that says 16384 × 16384 pixels.
fn huge_bitmap() -> Vec<u8> {
    let mut file = b"BM".to_vec();
    for word in [
        0x3000_0036u32,
        0,
        54,
        40,
        16_384,
        16_384,
        0x18_0001,
        0,
        0,
        0,
        0,
        0,
        0,
    ] {
        file.extend(word.to_le_bytes());
    }
    file
}

#[test]
fn a_picture_that_claims_too_much_is_one_error() {
    let place = Workplace::with_tiny_network();
    place.write("huge.bmp", huge_bitmap());
    let arguments = [
        "run",
        "tiny.caffemodel",
        "--input",
        "huge.bmp",
        "--resize",
        "8x8",
    ];
    let result = limited(&place, &arguments);
    assert_refused(&result, "huge.bmp");
    assert!(result.stderr.contains("16384x16384"), "{}", result.stderr);
    place.write("list.txt", "huge.bmp 1\n");
    assert_refused(
        &limited(&place, &["convert-imageset", ".", "list.txt", "base"]),
        "list",
    );
}

#[test]
fn the_memory_limit_is_an_option_and_a_variable() {
    let place = Workplace::with_tiny_network();
    place.ok(&["inspect", "tiny.caffemodel", "--memory-limit", "100M"]);
    let result = place.skimjit(&["inspect", "tiny.caffemodel", "--memory-limit", "1K"]);
    assert_refused(&result, "--memory-limit");
    assert!(
        result.stderr.contains("--memory-limit"),
        "{}",
        result.stderr
    );
    assert!(
        result.stderr.contains("tiny.caffemodel"),
        "{}",
        result.stderr
    );
    let wrong = place.skimjit(&["inspect", "tiny.caffemodel", "--memory-limit", "much"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    for (value, code) in [("1K", 3), ("much", 2), ("1G", 0)] {
        let mut command = place.command(&["inspect", "tiny.caffemodel"]);
        let result = outcome(command.env("SKIMJIT_MEMORY_LIMIT", value));
        assert_eq!(result.code, Some(code), "{value}: {}", result.stderr);
    }
}
