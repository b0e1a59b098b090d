//! `skimjit-train net` and `time`: definitions of well-known networks, and what they cost.

use super::support::Workplace;
use serde_json::Value;

/// Writes a network's definition with random data and a solver of so many steps.
fn define(place: &Workplace, name: &str, batch: &str, steps: u32) {
    let files = ["-o", "net.prototxt", "--solver-out", "solver.prototxt"];
    let mut arguments = vec!["net", name, "--batch", batch, "--test-batch", "2"];
    arguments.extend(files);
    place.ok(&arguments);
    let text = std::fs::read_to_string(place.path("solver.prototxt")).unwrap();
    let kept = text.lines().filter(|line| {
        ![
            "max_iter",
            "snapshot:",
            "display",
            "average_loss",
            "test_iter",
            "test_interval",
        ]
        .iter()
        .any(|field| line.starts_with(field))
    });
    let kept: Vec<&str> = kept.collect();
    let changed = format!(
        "{}\nmax_iter: {steps}\ndisplay: 1\nsnapshot_after_train: false\ntest_iter: 1\ntest_interval: {steps}\n",
        kept.join("\n")
    );
    place.write("solver.prototxt", &changed);
}

/// Losses of the steps of a run.
fn losses(place: &Workplace) -> Vec<f64> {
    let log = place.ok(&["train", "--solver", "solver.prototxt", "--json"]);
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["kind"] == "train")
        .map(|line| line["loss"].as_f64().unwrap())
        .collect()
}

fn learns(name: &str, batch: &str, steps: u32) {
    let place = Workplace::new();
    define(&place, name, batch, steps);
    let losses = losses(&place);
    println!("{name}: {losses:?}");
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(losses.len() >= steps as usize, "{name}: {losses:?}");
    assert!(last < 0.8 * first, "{name}: {losses:?}");
}

#[test]
fn small_networks_learn_random_pictures() {
    for name in ["lenet", "cifar10-quick", "cifar10-full", "resnet-20"] {
        learns(name, "4", 25);
    }
}

/// What has learnt from random pictures has no inputs that a command could compile.
#[test]
fn networks_of_random_data_have_no_next_command() {
    let place = Workplace::new();
    define(&place, "lenet", "4", 2);
    let said = place.ok(&["train", "--solver", "solver.prototxt", "--quiet"]);
    assert!(said.starts_with("iteration 2; loss "), "{said}");
    assert!(!said.contains("next:"), "{said}");
}

/// Minutes: `cargo test --release -p skimjit-trainer --test cli -- --ignored large_networks`.
#[test]
#[ignore = "minutes"]
fn large_networks_learn_random_pictures() {
    for name in ["googlenet-aux", "resnet-50", "squeezenet", "caffenet"] {
        learns(name, "4", 30);
    }
}

#[test]
fn every_name_has_a_definition_with_both_phases() {
    let place = Workplace::new();
    let names = place.ok(&["net", "--list"]);
    assert!(names.lines().count() >= 10, "{names}");
    assert!(!names.contains("ssd"), "{names}");
    for name in names.lines() {
        let text = place.ok(&[
            "net",
            name,
            "--lmdb",
            "a,b",
            "--mean-value",
            "104",
            "--mirror",
        ]);
        let count = |what: &str| text.matches(what).count();
        let heads = if name == "googlenet-aux" { 3 } else { 1 };
        assert_eq!(count("\"SoftmaxWithLoss\""), heads, "{name}");
        assert_eq!(count("\"Softmax\""), 0, "{name}");
        assert_eq!(count("type: \"Data\""), 2, "{name}");
        assert_eq!(count("mirror: true"), 1, "{name}");
        assert!(count("\"Accuracy\"") >= heads, "{name}");
    }
}

#[test]
fn classes_reach_the_classifiers_only() {
    let place = Workplace::new();
    let text = place.ok(&["net", "googlenet-aux", "--classes", "17"]);
    assert_eq!(text.matches("num_output: 17").count(), 3);
    let text = place.ok(&["net", "squeezenet", "--classes", "17"]);
    assert_eq!(text.matches("num_output: 17").count(), 1);
}

#[test]
fn wrong_networks_are_refused() {
    let place = Workplace::new();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["net", "transformer"], 3, "one of lenet"),
        (&["net", "mobilenet-ssd"], 3, "detectors"),
        (&["net", "lenet", "--lmdb", "a"], 3, "two"),
        (
            &["net", "lenet", "--lmdb", "a,b", "--mean-value", "1,2,3"],
            3,
            "one",
        ),
        (&["net"], 2, "NAME"),
    ];
    for (arguments, code, expected) in cases {
        let outcome = place.run(arguments);
        assert_eq!(outcome.code, Some(code), "{arguments:?}");
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    }
}

#[test]
fn time_counts_layers_steps_and_memory() {
    let place = Workplace::new();
    place.ok(&["net", "lenet", "--batch", "3", "-o", "net.prototxt"]);
    let arguments = ["time", "--prototxt", "net.prototxt", "--iterations", "3"];
    let table = place.ok(&arguments);
    assert!(
        table.contains("conv2") && table.contains("3 images a step"),
        "{table}"
    );
    let json = place.ok(&[&arguments[..], &["--json"]].concat());
    let times: Value = serde_json::from_str(&json).unwrap();
    let step = times["step_ms"].as_f64().unwrap();
    let parts = ["forward_ms", "backward_ms"].map(|key| times[key].as_f64().unwrap());
    assert!(
        parts.iter().all(|&part| part > 0.0 && part < 2.0 * step),
        "{json}"
    );
    // 431,080 parameters, each with gradient and momentum.
    assert_eq!(times["parameters_bytes"], 431_080 * 3 * 4);
    assert_eq!(times["batch"], 3);
}
