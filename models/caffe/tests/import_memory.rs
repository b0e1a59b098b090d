//! Blobs that share memory in Caffe, and the in-place layers that change them: warned of, and computed as in
//! Caffe on request.

mod import_support;

use import_support::{net, outputs, with_input};
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_models::Imported;
use skimjit_models::{Shape, Tensor, interpreter};

/// Layers behind `data`, of two elements, of which blob `a` is a copy.
fn imported(layers: &str, caffe_in_place: bool) -> Imported {
    let copy = "layer { name: 't' type: 'Power' bottom: 'data' top: 'a' }";
    let text = with_input("1 2", &format!("{copy} {layers}"));
    let options = ImportOptions {
        caffe_in_place,
        ..ImportOptions::default()
    };
    import(net(&text), Vec::new(), &options).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A result for the input [-1, 3].
fn result(imported: &Imported, name: &str) -> Vec<f32> {
    let input = Tensor::new(Shape::new([1, 2]).unwrap(), vec![-1.0, 3.0]);
    let results = interpreter::run_outputs(&imported.graph, &[input]).unwrap();
    let position = outputs(&imported.graph)
        .iter()
        .position(|output| *output == name);
    results[position.unwrap_or_else(|| panic!("no result {name}"))]
        .data()
        .to_vec()
}

const TWICE: &str =
    "layer { name: 'o' type: 'Power' bottom: 'a' top: 'o' power_param { scale: 2 } }";

/// Ways to another name for the memory of `a`.
const SHARED: &[(&str, &str)] = &[
    (
        "f",
        "layer { name: 's' type: 'Reshape' bottom: 'a' top: 'f' reshape_param { shape { dim: 0 dim: -1 dim: 1 } } }",
    ),
    (
        "f",
        "layer { name: 's' type: 'Flatten' bottom: 'a' top: 'f' }",
    ),
    (
        "f",
        "layer { name: 's' type: 'Split' bottom: 'a' top: 'f' top: 'g' } layer { name: 'q' type: 'Silence' bottom: 'g' }",
    ),
    (
        "f",
        "layer { name: 's' type: 'Concat' bottom: 'a' top: 'f' }",
    ),
    (
        "f",
        "layer { name: 's' type: 'Slice' bottom: 'a' top: 'f' }",
    ),
    (
        "f",
        "layer { name: 's' type: 'Permute' bottom: 'a' top: 'f' permute_param { order: 0 order: 1 } }",
    ),
    (
        "h",
        "layer { name: 's' type: 'Flatten' bottom: 'a' top: 'f' } layer { name: 'v' type: 'Reshape' bottom: 'f' top: 'h' reshape_param { shape { dim: 2 } } }",
    ),
];

fn in_place(kind: &str, blob: &str) -> String {
    format!("layer {{ name: 'r' type: '{kind}' bottom: '{blob}' top: '{blob}' }}")
}

#[test]
fn a_changed_blob_is_warned_of_and_read_as_in_caffe_on_request() {
    for (blob, share) in SHARED {
        let layers = format!("{share} {} {TWICE}", in_place("ReLU", blob));
        let own = imported(&layers, false);
        assert_eq!(result(&own, "o"), [-2.0, 6.0], "{share}");
        let [warning] = &own.warnings[..] else {
            panic!("{share}: {:?}", own.warnings);
        };
        for words in [
            "layer \"o\"",
            "blob \"a\"",
            "in-place layer \"r\"",
            "--caffe-in-place",
        ] {
            assert!(warning.text.contains(words), "{warning}");
        }
        // BVLC/caffe 9b891540.
        let caffe = imported(&layers, true);
        assert_eq!(result(&caffe, "o"), [0.0, 6.0], "{share}");
        assert_eq!(caffe.warnings.len(), 1);
    }
}

/// What Caffe itself computes from the blobs' own values is not warned of.
#[test]
fn blobs_that_nothing_changes_are_not_warned_of() {
    let reshape = SHARED[0].1;
    let harmless = [
        // Read before it is changed.
        format!("{TWICE} {reshape} {}", in_place("ReLU", "f")),
        // Changed where nothing shares it.
        format!(
            "layer {{ name: 's' type: 'Power' bottom: 'a' top: 'f' }} {} {TWICE}",
            in_place("ReLU", "f")
        ),
        // A Dropout does nothing in tests.
        format!("{reshape} {} {TWICE}", in_place("Dropout", "f")),
        // Another reader of `f`: Caffe puts a Split before both, and the ReLU is not in place.
        format!(
            "{reshape} {} {TWICE} layer {{ name: 'p' type: 'Power' bottom: 'f' top: 'p' }}",
            in_place("ReLU", "f")
        )
        .replace(
            "layer { name: 'r'",
            "layer { name: 'z' type: 'Power' bottom: 'f' top: 'z' } layer { name: 'r'",
        ),
        // The usual way.
        format!("{} {TWICE}", in_place("ReLU", "a")),
        // Copies.
        format!(
            "layer {{ name: 's' type: 'Concat' bottom: 'a' bottom: 'a' top: 'f' }} {} {TWICE}",
            in_place("ReLU", "f")
        ),
    ];
    for layers in &harmless {
        let own = imported(layers, false);
        assert!(own.warnings.is_empty(), "{layers}: {:?}", own.warnings);
        let caffe = imported(layers, true);
        assert_eq!(result(&own, "o"), result(&caffe, "o"), "{layers}");
        assert_eq!(own.graph.nodes.len(), caffe.graph.nodes.len());
    }
}

#[test]
fn a_result_is_read_too() {
    let layers = format!(
        "layer {{ name: 's' type: 'Split' bottom: 'a' top: 'f' top: 'g' }} {}",
        in_place("ReLU", "f")
    );
    let own = imported(&layers, false);
    assert_eq!(
        (result(&own, "f"), result(&own, "g")),
        (vec![0.0, 3.0], vec![-1.0, 3.0])
    );
    assert!(
        own.warnings[0].text.contains("the result \"g\""),
        "{:?}",
        own.warnings
    );
    let caffe = imported(&layers, true);
    assert_eq!(result(&caffe, "g"), [0.0, 3.0]);
    assert_eq!(outputs(&caffe.graph), ["f", "g"]);
}

/// The last layer that changes the memory counts, and a batch of another size goes through.
#[test]
fn changes_add_up_and_batches_can_change() {
    let layers = format!(
        "{} {} layer {{ name: 'p' type: 'Power' bottom: 'f' top: 'f' power_param {{ shift: 1 }} }} {TWICE}",
        SHARED[0].1,
        in_place("ReLU", "f")
    );
    let caffe = imported(&layers, true);
    assert_eq!(result(&caffe, "o"), [2.0, 8.0]);
    let two = caffe.graph.with_batch(2).unwrap();
    let input = Tensor::new(Shape::new([2, 2]).unwrap(), vec![-1.0, 3.0, 5.0, -7.0]);
    let results = interpreter::run_outputs(&two, &[input]).unwrap();
    let position = outputs(&two)
        .iter()
        .position(|output| *output == "o")
        .unwrap();
    assert_eq!(results[position].data(), [2.0, 8.0, 12.0, 2.0]);
}
