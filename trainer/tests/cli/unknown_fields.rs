//! Fields that nothing knows: every reader of a definition tells them once, and none trains a layer
//! whose meaning they may change.

use crate::support::{NET, Outcome, SOLVER, Workplace};

/// The tiny network with another text in place of one.
fn place_with(from: &str, to: &str) -> Workplace {
    let place = Workplace::with_tiny_network();
    assert!(NET.contains(from));
    place.write("net.prototxt", &NET.replacen(from, to, 1));
    place
}

fn short(place: &Workplace) {
    place.solver("max_iter: 2 display: 1 snapshot: 0");
}

fn run(place: &Workplace, command: &str) -> Outcome {
    place.run(&command.split(' ').collect::<Vec<_>>())
}

#[track_caller]
fn refused(place: &Workplace, command: &str, said: &str) {
    let outcome = run(place, command);
    assert_eq!(outcome.code, Some(3), "{command}: {}", outcome.stderr);
    let error = outcome.stderr.lines().last().unwrap_or_default();
    assert!(
        error.starts_with("error: ") && error.contains(said),
        "{command}: {error}"
    );
}

const SAID: &str = "net.prototxt:11:22: layer \"conv1\": param[0].regularisation_type: found an unknown field \
                    of ParamSpec, expected fields whose meaning is known; the closest is regularization_type; \
                    --ignore-unknown-fields";

/// Trained unpruned, without a word.
#[test]
fn a_misspelled_regularization_is_refused_by_every_reader() {
    let place = place_with(
        "param { lr_mult: 1 }",
        "param { lr_mult: 1 regularisation_type: \"L1\" }",
    );
    short(&place);
    place.write("weights.caffemodel", "\n\u{1}x");
    let recipe =
        "name = \"r\"\nnet = \"net.prototxt\"\n[solver]\nbase_lr = 0.01\nlr_policy = \"fixed\"
test_iter = 1\ntest_interval = 100\n[[phase]]\nname = \"a\"\nsolver = { max_iter = 2 }\n";
    place.write("r.toml", recipe);
    for command in [
        "train --solver solver.prototxt",
        "prune solver.prototxt --lr 0.01",
        "prune net.prototxt --lr 0.01",
        "recipe r.toml -o out",
        "time --prototxt net.prototxt --iterations 1",
        "oneshot --prototxt net.prototxt --weights weights.caffemodel -o o.caffemodel",
        "cost --prototxt net.prototxt --weights weights.caffemodel -o cost.json",
    ] {
        refused(&place, command, SAID);
    }
    assert!(!place.path("out").exists());
    let outcome = run(
        &place,
        "train --solver solver.prototxt --ignore-unknown-fields",
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(
        outcome.stderr.matches("regularisation_type").count(),
        1,
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_unknown_field_of_a_data_layer_counts_in_its_phase() {
    let place = place_with("mirror: true", "mirorr: true");
    short(&place);
    let said =
        "layer \"data\": transform_param.mirorr: found an unknown field of TransformationParameter";
    refused(&place, "train --solver solver.prototxt", said);
}

#[test]
fn what_is_odd_elsewhere_is_told_once_and_strict_makes_it_an_error() {
    let place = place_with("name: \"tiny\"", "name: \"tiny\" debug: 1");
    let solver = SOLVER.replace("momentum: 0.9", "momentum: 0.9 wieght_decay: 1");
    place.write(
        "solver.prototxt",
        &solver.replace("max_iter: 100", "max_iter: 2"),
    );
    let outcome = run(&place, "train --solver solver.prototxt");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for said in [
        "warning: net.prototxt:1:14: unknown field \"debug\" of NetParameter",
        "unknown field \"wieght_decay\" of SolverParameter; the closest is \"weight_decay\"",
    ] {
        assert_eq!(
            outcome.stderr.matches(said).count(),
            1,
            "{}",
            outcome.stderr
        );
    }
    refused(
        &place,
        "train --solver solver.prototxt --strict",
        "found 2 warnings, expected none",
    );
    refused(
        &place,
        "prune solver.prototxt --lr 0.01 --strict",
        "found 1 warning, expected none",
    );
    let outcome = run(
        &place,
        "time --prototxt net.prototxt --iterations 1 --strict",
    );
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert_eq!(
        outcome.stderr.matches("\"debug\"").count(),
        1,
        "{}",
        outcome.stderr
    );
}

/// Fields of other forks in a caffemodel are there after pruning.
#[test]
fn oneshot_keeps_the_unknown_fields_of_the_weights() {
    const ODD: [u8; 3] = [0xa0, 0x38, 7];
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 2 display: 0 snapshot: 2");
    place.ok(&["train", "--solver", "solver.prototxt", "--quiet"]);
    let mut weights = place.bytes("snap/tiny_iter_2.caffemodel");
    weights.extend(ODD);
    std::fs::write(place.path("odd.caffemodel"), weights).unwrap();
    let command = "oneshot --prototxt net.prototxt --weights odd.caffemodel --batches 1 --test-batches 0 \
                   --sparsity 50 -o pruned.caffemodel";
    place.ok(&command.split(' ').collect::<Vec<_>>());
    assert!(place.bytes("pruned.caffemodel").ends_with(&ODD));
}
