//! Names that are not UTF-8, which a caffemodel cannot be rid of.

use crate::support::Workplace;
use skimjit::array::{read_npy, write_npy};
use skimjit_caffe::{read_caffemodel, read_prototxt};
use skimjit_models::{Shape, Tensor};

/// The definition of one layer called "café" in Latin-1.
const PROTOTXT: &[u8] = b"input: 'data' input_shape { dim: 1 dim: 2 }
layer { name: 'caf\xe9' type: 'InnerProduct' bottom: 'data' top: 'caf\xe9'
        inner_product_param { num_output: 1 } }
";

/// Its weights, 3 and 5, and bias, 7.
fn caffemodel() -> Vec<u8> {
    let floats = |values: &[f32]| -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let field = |key: &[u8], contents: &[u8]| [key, &[contents.len() as u8], contents].concat();
    let blob = |dims: &[u8], values: &[f32]| {
        let shape = field(b"\x3a", &field(b"\x0a", dims));
        field(b"\x3a", &[field(b"\x2a", &floats(values)), shape].concat())
    };
    let layer = [
        field(b"\x0a", b"caf\xe9"),
        field(b"\x12", b"InnerProduct"),
        blob(&[1, 2], &[3.0, 5.0]),
        blob(&[1], &[7.0]),
    ];
    field(b"\xa2\x06", &layer.concat())
}

fn workplace() -> Workplace {
    let place = Workplace::new();
    place.write("net.prototxt", PROTOTXT);
    place.write("net.caffemodel", caffemodel());
    let input = Tensor::new(Shape::new([1, 2]).unwrap(), vec![2.0, 1.0]);
    write_npy(&place.path("in.npy"), &input).unwrap();
    place
}

/// Standard output and standard error, of which nothing is a character of private use.
fn shown(place: &Workplace, command: &str) -> (String, String) {
    let arguments: Vec<&str> = command.split_whitespace().collect();
    let output = place.command(&arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{command}: {stderr}");
    for text in [&stdout, &stderr] {
        let private = |c: char| ('\u{e000}'..='\u{f8ff}').contains(&c);
        assert!(!text.contains(private), "{command}: {text:?}");
    }
    (stdout, stderr)
}

#[test]
fn a_network_in_latin_1_runs_and_its_names_are_readable() {
    let place = workplace();
    let (_, warnings) = shown(
        &place,
        "compile net.caffemodel --prototxt net.prototxt --no-tune -o net.skim",
    );
    let odd = warnings
        .lines()
        .filter(|line| line.contains("not in UTF-8"));
    let files: Vec<&str> = odd.filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(files, ["net.prototxt:2:15", "net.caffemodel"], "{warnings}");
    for model in ["net.caffemodel --prototxt net.prototxt", "net.skim"] {
        let (table, _) = shown(&place, &format!("inspect {model}"));
        assert!(table.contains("caf\\xe9"), "{table}");
        shown(&place, &format!("verify {model}"));
        shown(
            &place,
            &format!("run {model} --input in.npy --output out.npy"),
        );
        let found = read_npy(&place.path("out.npy")).unwrap();
        assert_eq!(found.data(), [2.0 * 3.0 + 5.0 + 7.0]);
    }
    shown(&place, "draw net.prototxt -o net.svg");
    let picture = std::fs::read_to_string(place.path("net.svg")).unwrap();
    assert!(picture.contains("caf\\xe9"), "{picture}");
}

#[test]
fn upgrade_and_export_write_the_bytes_that_were_read() {
    let place = workplace();
    let (_, warning) = shown(&place, "upgrade net.caffemodel new.caffemodel");
    assert!(
        warning.contains("net.caffemodel: 1 string not in UTF-8"),
        "{warning}"
    );
    assert_eq!(
        std::fs::read(place.path("new.caffemodel")).unwrap(),
        caffemodel()
    );
    shown(&place, "upgrade net.prototxt new.prototxt");
    let text = std::fs::read_to_string(place.path("new.prototxt")).unwrap();
    assert!(text.contains(r#"name: "caf\351""#), "{text}");
    shown(
        &place,
        "compile net.caffemodel --prototxt net.prototxt --no-tune -o net.skim",
    );
    shown(&place, "export net.skim out.caffemodel");
    let exported = std::fs::read(place.path("out.caffemodel")).unwrap();
    assert!(exported.windows(4).any(|bytes| bytes == b"caf\xe9"));
    // What is written is read again, and still fits.
    let weights = read_caffemodel(&place.path("new.caffemodel")).unwrap();
    let (net, _) = read_prototxt(&place.path("new.prototxt")).unwrap();
    assert_eq!(net.layer[1].name(), weights.layer[0].name());
}
