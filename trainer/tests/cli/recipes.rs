//! Recipes: all methods, one after the other, stopped and gone on with.

use super::support::Workplace;
use serde_json::{Value, json};
use skimjit_caffe::blob::take_values;
use skimjit_caffe::{read_caffemodel, write_caffemodel};
use skimjit_testing::skip;
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

/// The thresholds of a run that is resumed are those of the snapshot: by the names of method and parameter, or in
/// their order, as older snapshots have them.
#[test]
fn states_of_methods_are_kept_by_name_and_older_ones_are_read() {
    let place = Workplace::with_tiny_network();
    let mut parts = RECIPE.split("[[phase]]");
    let head = parts.next().unwrap();
    let surgery = parts.find(|phase| phase.contains("\"surgery\"")).unwrap();
    place.write("recipe.toml", &format!("{head}[[phase]]{surgery}"));
    let command = ["recipe", "recipe.toml", "-o", "out", "--quiet"];
    place.ok(&command);
    let model = "out/1-surgery/snapshot_iter_40.caffemodel";
    let whole = place.bytes(model);
    let states = place.path("out/1-surgery/snapshot_iter_13.prunestate");
    let mut kept = read_caffemodel(&states).unwrap();
    let by_name: Value = serde_json::from_str(kept.name()).unwrap();
    let [conv1, ip1] = ["conv1[0]", "ip1[0]"].map(|name| by_name["surgery"][name].clone());
    assert_eq!(
        by_name,
        json!({ "surgery": { "conv1[0]": conv1, "ip1[0]": ip1 } })
    );
    // As if the process had been killed after the first snapshot.
    let mut resume = |state: &Value| {
        let late = ["_26.", "_39.", "_40.", "finished.json"];
        let files = place.files("out/1-surgery").into_iter();
        for name in files.filter(|name| late.iter().any(|late| name.contains(late))) {
            std::fs::remove_file(place.path("out/1-surgery").join(name)).unwrap();
        }
        kept.name = Some(state.to_string());
        write_caffemodel(&kept, &states).unwrap();
        place.run(&command)
    };
    let other = json!([0.1, 0.2]);
    for (state, same) in [
        (json!([[conv1, ip1]]), true),
        (json!([[conv1, other]]), false),
        (
            json!({ "surgery": { "conv1[0]": conv1, "ip1[0]": other } }),
            false,
        ),
        (by_name.clone(), true),
    ] {
        let outcome = resume(&state);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert_eq!(place.bytes(model) == whole, same, "{state}");
    }
    for (state, words) in [
        (json!([[conv1]]), "thresholds of 1 layers, expected 2"),
        (
            json!({ "surgery": { "conv1[0]": conv1, "a[0]": ip1 } }),
            "expected ip1[0]",
        ),
        (json!({ "surgery": 7 }), "thresholds that cannot be read"),
        (json!("surgery"), "state of the methods that cannot be read"),
    ] {
        let outcome = resume(&state);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
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

/// A recipe whose last phase is wrong fails before the first one runs, and leaves nothing.
#[test]
fn all_phases_are_checked_before_anything_runs() {
    let place = place();
    place.write("text.caffemodel", "not weights");
    let last = "kind = \"frozen\"\n";
    for (to, words) in [
        (
            "kind = \"frozen\"\nlayers = [\"conv9\"]\n",
            ["conv9", "finetune"],
        ),
        (
            "kind = \"gradual\"\nsparsity = 50\nend = 10\nlayers = [\"ip7\"]\n",
            ["ip7", "finetune"],
        ),
        (
            "kind = \"gradual\"\nsparsity = 50\nend = 10\ntargets = { ip7 = 50 }\n",
            ["ip7", "finetune"],
        ),
        (
            "kind = \"surgery\"\nrate = 1\nend = 10\nrates = { ip7 = 1 }\n",
            ["ip7", "finetune"],
        ),
        (
            "kind = \"guided\"\ncost = \"none.json\"\ntarget_speedup = 2\nend = 10\n",
            ["none.json", "finetune"],
        ),
        (
            "kind = \"distillation\"\nteacher = \"text.caffemodel\"\n",
            ["text.caffemodel", "finetune"],
        ),
        (
            "kind = \"distillation\"\nteacher = \"absent.caffemodel\"\n",
            ["absent.caffemodel", "finetune"],
        ),
        ("kind = \"magic\"\n", ["magic", "recipe.toml"]),
    ] {
        place.write("recipe.toml", &RECIPE.replace(last, to));
        let outcome = place.run(&["recipe", "recipe.toml", "-o", "wrong", "--quiet"]);
        assert_eq!(outcome.code, Some(3), "{to}: {}", outcome.stderr);
        for word in words {
            assert!(outcome.stderr.contains(word), "{to}: {}", outcome.stderr);
        }
        assert!(!place.path("wrong").exists(), "{to}");
    }
    for (from, to, word) in [
        (
            "solver = { max_iter = 20 }",
            "solver = { max_iter = 20, momentum = 3 }",
            "momentum",
        ),
        (
            "solver = { max_iter = 20 }",
            "solver = { max_iter = 20 }\nregularization = { conv9 = \"L1\" }",
            "conv9",
        ),
        (
            "solver = { max_iter = 20 }",
            "solver = { max_iter = 20 }\nregularization = { conv1 = \"L7\" }",
            "L7",
        ),
        (
            "net = \"net.prototxt\"\n",
            "net = \"net.prototxt\"\nweights = \"absent.caffemodel\"\n",
            "absent.caffemodel",
        ),
        (
            "net = \"net.prototxt\"\n",
            "net = \"net.prototxt\"\ndata = { train_lmdb = \"absent\" }\n",
            "absent",
        ),
    ] {
        place.write("recipe.toml", &RECIPE.replace(from, to));
        let outcome = place.run(&["recipe", "recipe.toml", "-o", "wrong", "--quiet"]);
        assert_eq!(outcome.code, Some(3), "{to}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(word), "{to}: {}", outcome.stderr);
        assert!(!place.path("wrong").exists(), "{to}");
    }
}

/// Zeros as percentages, and as the shares of before, which are told.
#[test]
fn zeros_are_percentages() {
    let place = place();
    let recipe = |sparsity: &str| {
        format!(
            "name = \"r\"\nnet = \"net.prototxt\"\n[solver]\nbase_lr = 0.01\nlr_policy = \"fixed\"\nmax_iter = 4\nrandom_seed = 1\n\
             [[phase]]\nname = \"one\"\n[[phase.method]]\nkind = \"gradual\"\nsparsity = {sparsity}\nend = 2\nevery = 1\n"
        )
    };
    for (number, sparsity) in ["75", "\"75%\"", "0.75"].into_iter().enumerate() {
        place.write("recipe.toml", &recipe(sparsity));
        let folder = format!("out{number}");
        let outcome = place.run(&["recipe", "recipe.toml", "-o", &folder, "--quiet"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let model = place.path(&format!("{folder}/1-one/snapshot_iter_4.caffemodel"));
        let both = [weights(&model, "conv1"), weights(&model, "ip1")].concat();
        assert!((zeros(&both) - 0.75).abs() < 0.01, "{}", zeros(&both));
        let told = outcome.stderr.contains("read as a share of 1; write 75");
        assert_eq!(told, sparsity == "0.75", "{}", outcome.stderr);
    }
}

/// The tiny network with a BatchNorm, without Dropout.
fn normalized() -> String {
    let norm = "layer { name: \"norm1\" type: \"BatchNorm\" bottom: \"conv1\" top: \"conv1\"\n  batch_norm_param { moving_average_fraction: 0.999 } }\nlayer { name: \"relu1\"";
    let net = crate::support::NET.replace("layer { name: \"relu1\"", norm);
    net.replace("dropout_ratio: 0.2", "dropout_ratio: 0")
}

/// Pruned networks with BatchNorm are tested with statistics that belong to what is left of them.
#[test]
fn statistics_are_gathered_anew_before_tests_of_pruned_phases() {
    let place = place();
    place.write("net.prototxt", &normalized());
    let recipe = |more: &str| {
        format!(
            "name = \"r\"\nnet = \"net.prototxt\"\n{more}\n[solver]\nbase_lr = 0.02\nmomentum = 0.9\nlr_policy = \"fixed\"\nrandom_seed = 3\ntest_iter = 6\ntest_interval = 20\nsnapshot = 13\n\
             [[phase]]\nname = \"dense\"\nsolver = {{ max_iter = 40 }}\n\
             [[phase]]\nname = \"prune\"\nsolver = {{ max_iter = 40 }}\n[[phase.method]]\nkind = \"gradual\"\nsparsity = 90\nend = 20\nevery = 10\n"
        )
    };
    for (folder, more) in [("on", "recalibrate = 7"), ("off", "recalibrate = 0")] {
        place.write("recipe.toml", &recipe(more));
        place.ok(&["recipe", "recipe.toml", "-o", folder, "--quiet"]);
        let said = |phase: &str| {
            let log = std::fs::read_to_string(place.path(&format!("{folder}/{phase}/train.info")));
            let log = log.unwrap();
            log.matches("statistics of 1 BatchNorm layers from 7 batches")
                .count()
        };
        // In iterations 0, 20 and 40, and at the end.
        let expected = if folder == "on" { (0, 4) } else { (0, 0) };
        assert_eq!((said("1-dense"), said("2-prune")), expected);
    }
    // Training does not see them: what differs is what the command makes.
    let words = "recalibrate --prototxt net.prototxt --batches 7 --seed 3 -o new.caffemodel \
                 --weights off/2-prune/snapshot_iter_40.caffemodel";
    place.ok(&words.split_whitespace().collect::<Vec<_>>());
    let blobs = |file: &str| {
        let layers = read_caffemodel(&place.path(file)).unwrap().layer;
        let blobs = layers
            .into_iter()
            .map(|layer| (layer.name().to_owned(), layer.blobs));
        blobs
            .filter(|(_, blobs)| !blobs.is_empty())
            .collect::<Vec<_>>()
    };
    let (on, off) = (
        blobs("on/2-prune/snapshot_iter_40.caffemodel"),
        blobs("off/2-prune/snapshot_iter_40.caffemodel"),
    );
    assert_eq!(on, blobs("new.caffemodel"));
    assert_ne!(on, off);
    // Other commands leave them, and say what to do.
    let words = "finetune net.prototxt --lr 0.01 --set max_iter=2 --quiet -o runs \
                 --weights off/2-prune/snapshot_iter_40.caffemodel";
    let said = place.ok(&words.split_whitespace().collect::<Vec<_>>());
    let next = said
        .lines()
        .find(|line| line.starts_with("next: skimjit-train recalibrate"));
    assert!(
        next.is_some_and(|line| line.contains("net.prototxt")),
        "{said}"
    );
    // A phase that was stopped goes on to the same bits.
    let model = "on/2-prune/snapshot_iter_40.caffemodel";
    let all = |name: &str| read_caffemodel(&place.path(name)).unwrap().layer;
    let before = all(model);
    for name in place.files("on/2-prune") {
        if name == "finished.json" || name.contains("_39.") || name.contains("_40.") {
            std::fs::remove_file(place.path(&format!("on/2-prune/{name}"))).unwrap();
        }
    }
    place.write("recipe.toml", &recipe("recalibrate = 7"));
    place.ok(&["recipe", "recipe.toml", "-o", "on", "--quiet"]);
    assert_eq!(before, all(model));
}

/// What comes out can be compiled with the command that is printed.
#[test]
fn the_next_command_is_printed() {
    let place = place();
    place.write(
        "recipe.toml",
        &RECIPE
            .split("[[phase]]")
            .take(2)
            .collect::<Vec<_>>()
            .join("[[phase]]"),
    );
    let said = place.ok(&["recipe", "recipe.toml", "-o", "out", "--quiet"]);
    let expected = "next: skimjit compile out/1-dense/snapshot_iter_60.caffemodel --prototxt out/1-dense/net.prototxt --input-shape 1,1,7,7 -o snapshot_iter_60.skim";
    assert_eq!(said.lines().last(), Some(expected), "{said}");
    place.solver("max_iter: 6 test_interval: 3");
    let said = place.ok(&["train", "--solver", "solver.prototxt", "--quiet"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("iteration 6; loss ") && lines[0].contains("accuracy"),
        "{said}"
    );
    assert!(
        lines[0].contains("(test at 6)") && lines[0].ends_with("% zeros"),
        "{said}"
    );
    assert_eq!(lines[1], "weights: snap/tiny_iter_6.caffemodel");
    assert_eq!(
        lines[2],
        "next: skimjit compile snap/tiny_iter_6.caffemodel --prototxt net.prototxt --input-shape 1,1,7,7 -o tiny_iter_6.skim"
    );
    compiles(&place, lines[2]);
    // With --json, standard output is for programs.
    let said = place.ok(&["train", "--solver", "solver.prototxt", "--json"]);
    assert!(said.lines().all(|line| line.starts_with('{')), "{said}");
}

/// Runs the printed command, where the program lies beside this one.
fn compiles(place: &Workplace, next: &str) {
    let beside = Path::new(env!("CARGO_BIN_EXE_skimjit-train")).with_file_name("skimjit");
    if !beside.is_file() {
        skip(format!("{} is not built", beside.display()));
        return;
    }
    let command = next.strip_prefix("next: skimjit ").unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("'{}' {command}", beside.display())])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(place.path("tiny_iter_6.skim").is_file());
}
