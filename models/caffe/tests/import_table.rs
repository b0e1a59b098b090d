//! SUPPORTED.md says what the table of layer types says, and unknown types are refused helpfully.

mod import_support;

use import_support::{layer, refusal, with_input};
use std::path::Path;

#[test]
fn supported_md_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("SUPPORTED.md");
    let expected = skimjit_caffe::import::supported_markdown();
    if std::env::var_os("SKIMJIT_BLESS").is_some() {
        std::fs::write(&path, &expected).expect("SUPPORTED.md is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "run with SKIMJIT_BLESS=1 and review the diff of SUPPORTED.md"
    );
}

#[test]
fn tables_are_sorted() {
    let text = skimjit_caffe::import::supported_markdown();
    for table in text.split("\n## ").skip(1).take(2) {
        let names: Vec<&str> = table
            .lines()
            .filter_map(|line| line.split(" | ").next())
            .collect();
        let rows: Vec<&&str> = names
            .iter()
            .filter(|name| name.starts_with("| "))
            .skip(1)
            .collect();
        assert!(!rows.is_empty() && rows.is_sorted(), "{rows:?}");
    }
}

#[test]
fn unknown_types_name_the_closest() {
    let unknown = refusal(&with_input("1 3 4 4", &layer("Convolutoin", "")));
    assert!(unknown.contains("layer \"it\""), "{unknown}");
    assert!(
        unknown.contains("Concat, ContrastiveLoss, Convolution"),
        "{unknown}"
    );
    assert!(unknown.ends_with("the closest is Convolution"), "{unknown}");
    let case = refusal(&with_input("1 3 4 4", &layer("Relu", "")));
    assert!(case.ends_with("the closest is ReLU"), "{case}");
    let own = refusal(&with_input("1 3 4 4", &layer("MyOwnFunction", "")));
    assert!(
        !own.contains("closest") && own.contains("of another Caffe"),
        "{own}"
    );
}

/// Layers of well-known forks are told by what they are, not by a name that is spelt alike.
#[test]
fn layers_of_forks_say_what_they_are() {
    for (kind, words) in [
        ("ShuffleChannel", "ShuffleNet"),
        ("Interp", "bilinear"),
        ("Reorg", "YOLO"),
        ("Upsample", "SegNet"),
        ("ROIPooling", "Fast R-CNN"),
        ("Axpy", "SENet"),
        ("BN", "BatchNorm layer and a Scale layer"),
        ("CropCenter", "Crop layer"),
        ("PriorBoxClustered", "OpenVINO"),
    ] {
        let refused = refusal(&with_input("1 3 4 4", &layer(kind, "")));
        let known = format!("{kind} is known but not supported: ");
        assert!(
            refused.contains(&known) && refused.contains(words),
            "{refused}"
        );
        assert!(!refused.contains("the closest"), "{refused}");
    }
}

#[test]
fn known_types_are_refused_by_name() {
    let body = "python_param { module: 'pyloss' layer: 'EuclideanLossLayer' }";
    let refused = refusal(&with_input("1 3 4 4", &layer("Python", body)));
    for words in [
        "Python is known but not supported",
        "(pyloss.EuclideanLossLayer)",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
}
