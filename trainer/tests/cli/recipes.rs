//! Recipes: all methods, one after the other, stopped and gone on with.

use super::support::Workplace;
use serde_json::Value;
use skimjit_models::caffe::blob::take_values;
use skimjit_models::caffe::read_caffemodel;
use std::path::Path;

const RECIPE: &str = r#"
name = "methods"
net = "net.prototxt"

[solver]
base_lr = 0.02
momentum = 0.9
lr_policy = "fixed"
display = 20
snapshot = 13
test_iter = 2
test_interval = 20
random_seed = 7

[[phase]]
name = "dense"
solver = { max_iter = 60 }

[[phase]]
name = "alternating"
solver = { max_iter = 60 }
[[phase.method]]
kind = "ac-dc"
sparsity = 0.6
warm_up = 10
compressed = 10
dense = 5
end = 45
[[phase.method]]
kind = "distillation"
phase = "dense"
temperature = 2

[[phase]]
name = "surgery"
solver = { max_iter = 40 }
[[phase.method]]
kind = "surgery"
rate = 0.3
rates = { conv1 = -1.0 }
end = 30

[[phase]]
name = "clusters"
solver = { max_iter = 50 }
[[phase.method]]
kind = "gradual"
layers = ["conv1"]
sparsity = 0.5
cluster = 3
end = 40
every = 10

[[phase]]
name = "finetune"
solver = { max_iter = 20 }
[[phase.method]]
kind = "frozen"
"#;

fn place() -> Workplace {
    let place = Workplace::with_tiny_network();
    place.write("recipe.toml", RECIPE);
    place
}

/// First blob of a layer.
fn weights(file: &Path, layer: &str) -> Vec<f32> {
    let model = read_caffemodel(file).unwrap();
    let mut layers = model.layer.into_iter();
    let mut found = layers.find(|other| other.name() == layer).unwrap();
    take_values(&mut found.blobs[0]).unwrap()
}

fn zeros(weights: &[f32]) -> f64 {
    weights.iter().filter(|w| **w == 0.0).count() as f64 / weights.len() as f64
}

fn run(place: &Workplace) -> Value {
    let text = place.ok(&["recipe", "recipe.toml", "-o", "out", "--quiet", "--json"]);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_method_does_what_it_says() {
    let place = place();
    let phases = run(&place);
    let last = |phase: &str, iterations: u32| {
        place.path(&format!(
            "out/{phase}/snapshot_iter_{iterations}.caffemodel"
        ))
    };
    assert_eq!(zeros(&weights(&last("1-dense", 60), "ip1")), 0.0);

    let model = last("2-alternating", 60);
    let both = [weights(&model, "conv1"), weights(&model, "ip1")].concat();
    assert!((zeros(&both) - 0.6).abs() < 0.01, "{}", zeros(&both));
    let log = std::fs::read_to_string(place.path("out/2-alternating/metrics.jsonl")).unwrap();
    let count = |text: &str| log.matches(text).count();
    assert_eq!((count("compressed phase"), count("dense phase")), (3, 2));
    assert_eq!(count("\"distillation_loss\":"), 4, "{log}");

    let model = last("3-surgery", 40);
    assert!(zeros(&weights(&model, "ip1")) > 0.3);
    assert!(zeros(&weights(&model, "conv1")) < 0.6);

    // Six channels in two clusters of three: all of one have the same positions.
    let conv = weights(&last("4-clusters", 50), "conv1");
    for cluster in conv.chunks(27) {
        for position in 0..9 {
            let column: Vec<bool> = (0..3)
                .map(|row| cluster[row * 9 + position] == 0.0)
                .collect();
            assert!(column.iter().all(|zero| *zero == column[0]), "{conv:?}");
        }
    }
    assert!((zeros(&conv) - 0.5).abs() < 0.12, "{}", zeros(&conv));

    let tuned = weights(&last("5-finetune", 20), "conv1");
    assert!(conv.iter().zip(&tuned).all(|(a, b)| *a != 0.0 || *b == 0.0));
    assert_eq!(phases.as_array().unwrap().len(), 5);
}

#[test]
fn a_phase_that_was_stopped_goes_on_to_the_same_bits() {
    let (whole, parts) = (place(), place());
    run(&whole);
    run(&parts);
    // As if the process had been killed after the second snapshot of each phase.
    for (phase, iterations) in [("2-alternating", 60), ("3-surgery", 40), ("4-clusters", 50)] {
        for name in parts.files(&format!("out/{phase}")) {
            let late = ["_39.", "_40.", "_50.", "_52.", "_60."];
            if name == "finished.json" || late.iter().any(|number| name.contains(number)) {
                std::fs::remove_file(parts.path(&format!("out/{phase}/{name}"))).unwrap();
            }
        }
        run(&parts);
        let model = format!("out/{phase}/snapshot_iter_{iterations}.caffemodel");
        for layer in ["conv1", "ip1"] {
            let [a, b] = [&whole, &parts].map(|place| weights(&place.path(&model), layer));
            assert!(
                a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{phase} {layer}"
            );
        }
    }
}

#[test]
fn wrong_recipes_are_refused() {
    let place = place();
    for (from, to, words) in [
        (
            "phase = \"dense\"\n",
            "phase = \"later\"\n",
            ["later", "earlier phase"],
        ),
        ("phase = \"dense\"\n", "", ["teacher", "phase"]),
        (
            "phase = \"dense\"\n",
            "teacher = \"no.caffemodel\"\n",
            ["no.caffemodel", "No such file"],
        ),
        ("cluster = 3", "cluster = 0", ["cluster", "1 to 64"]),
        (
            "compressed = 10",
            "compressed = 10\ncluster = 2\nlayers = [\"ip1\"]",
            ["cluster", "convolution"],
        ),
        (
            "rates = { conv1 = -1.0 }",
            "rates = { conv9 = 1 }",
            ["conv9", "rates"],
        ),
        (
            "temperature = 2",
            "temperature = 0",
            ["temperature", "more than 0"],
        ),
        (
            "compressed = 10",
            "compressed = 0",
            ["compressed", "1 or more"],
        ),
        ("end = 45", "", ["end", "recipe.toml"]),
    ] {
        place.write("recipe.toml", &RECIPE.replace(from, to));
        let outcome = place.run(&["recipe", "recipe.toml", "-o", "wrong", "--quiet"]);
        assert_eq!(outcome.code, Some(3), "{to}: {}", outcome.stderr);
        for word in words {
            assert!(outcome.stderr.contains(word), "{to}: {}", outcome.stderr);
        }
    }
}
