//! `skimjit compile --emit`: files that run without skimjit, and what is refused.

use crate::support::Workplace;
use skimjit_testing::has;

/// The tiny network with one instruction set that every machine of the tests has.
const COMPILE: [&str; 5] = ["compile", "tiny.caffemodel", "--no-tune", "--isa", "avx2"];

#[test]
fn every_kind_gets_its_extension() {
    let place = Workplace::with_tiny_network();
    let found = place.json(&[&COMPILE[..], &["--emit", "obj,header,asm", "-o", "net.o"]].concat());
    assert_eq!(found["name"], "net");
    assert_eq!(found["isas"][0], "avx2");
    assert_eq!(found["batch"], 1);
    assert_eq!(found["files"].as_array().unwrap().len(), 3);
    let functions = found["layers"].as_array().unwrap().iter();
    let functions: Vec<_> = functions
        .map(|layer| layer["function"].as_str().unwrap())
        .collect();
    let expected = [
        "net_layer_conv1",
        "net_layer_pool1",
        "net_layer_ip1",
        "net_layer_prob",
    ];
    assert_eq!(functions, expected);
    let header = std::fs::read_to_string(place.path("net.h")).unwrap();
    assert!(header.contains("int net_run(const float *in, float *out, void *scratch);"));
    let object = std::fs::read(place.path("net.o")).unwrap();
    assert!(object.starts_with(b"\x7fELF"));
    assert!(place.path("net.s").exists() && !place.path("tiny.skim").exists());
}

#[test]
fn the_model_names_files_and_functions() {
    let place = Workplace::with_tiny_network();
    let text = place.ok(&[&COMPILE[..], &["--emit", "header", "--layers", "ip1,conv1"]].concat());
    assert!(
        text.contains("wrote tiny.h") && text.contains("verified"),
        "{text}"
    );
    let header = std::fs::read_to_string(place.path("tiny.h")).unwrap();
    assert!(header.contains("int tiny_layer_ip1(") && !header.contains("tiny_layer_pool1"));
    assert!(!header.contains("tiny_run"));
    place.ok(&[
        &COMPILE[..],
        &["--emit", "obj", "-o", "a.bin", "--name", "b"],
    ]
    .concat());
    assert!(place.path("a.bin").exists());
}

#[test]
fn shared_libraries_are_linked() {
    if !has("cc") {
        return;
    }
    let place = Workplace::with_tiny_network();
    let both = [
        "compile",
        "tiny.caffemodel",
        "--no-tune",
        "--isa",
        "avx512,avx2",
    ];
    let found = place.json(&[&both[..], &["--emit", "so", "-o", "libtiny.so"]].concat());
    assert_eq!(found["isas"].as_array().unwrap().len(), 2);
    assert_eq!(found["name"], "libtiny");
    let library = std::fs::read(place.path("libtiny.so")).unwrap();
    assert!(library.starts_with(b"\x7fELF"));
    // Nothing is left beside it.
    let parts = std::fs::read_dir(place.path("")).unwrap();
    let mut parts = parts.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!parts.any(|name| name.contains(".part")));
}

#[test]
fn wrong_arguments_are_refused() {
    let place = Workplace::with_tiny_network();
    let cases: [(&[&str], i32, &str); 9] = [
        (&["--emit", "elf"], 2, "skim, so, obj, header, asm"),
        (
            &["--emit", "skim,obj"],
            2,
            "--emit: found skim and another kind",
        ),
        (
            &["--layers", "conv1"],
            2,
            "--layers: found it for an artifact",
        ),
        (&["--name", "net"], 2, "--name: found it for an artifact"),
        (
            &["--emit", "obj", "--name", "1net"],
            2,
            "--name: found \"1net\"",
        ),
        (
            &["--emit", "obj", "--layers", "conv7"],
            3,
            "expected one of: conv1, pool1, ip1, prob",
        ),
        (
            &["--emit", "obj", "--code-info", "gdb"],
            2,
            "--code-info: found it",
        ),
        (
            &["--emit", "obj", "-o", "tiny.caffemodel"],
            2,
            "another file of this command",
        ),
        (&["--emit", "obj", "-o", "none/net.o"], 3, "none/net.o"),
    ];
    for (arguments, code, words) in cases {
        let found = place.skimjit(&[&COMPILE[..], arguments].concat());
        assert_eq!(found.code, Some(code), "{arguments:?}: {}", found.stderr);
        let errors = found
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{arguments:?}: {}", found.stderr);
        assert!(
            found.stderr.contains(words),
            "{arguments:?}: {}",
            found.stderr
        );
    }
    let both = ["compile", "tiny.caffemodel", "--isa", "avx2,avx512"];
    let found = place.skimjit(&both);
    assert_eq!(found.code, Some(2));
    assert!(
        found.stderr.contains("expected one for an artifact"),
        "{}",
        found.stderr
    );
}
