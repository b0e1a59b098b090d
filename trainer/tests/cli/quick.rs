//! `prune`, `finetune` and `plot`.

use crate::support::Workplace;
use skimjit_caffe::read_caffemodel;
use std::path::PathBuf;

const WEIGHTS: [&str; 2] = ["--weights", "snap/tiny_iter_60.caffemodel"];

/// Runs `prune` or `finetune`; the folder of the run.
fn run(place: &Workplace, arguments: &[&str]) -> PathBuf {
    let said = place.ok(arguments);
    place.path(said.lines().next().unwrap())
}

/// A place with a trained network.
fn trained() -> Workplace {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 60");
    place.ok(&["train", "--solver", "solver.prototxt", "--quiet"]);
    place
}

fn ip1(folder: &std::path::Path, iterations: u32) -> Vec<f32> {
    let net = read_caffemodel(&folder.join(format!("train_iter_{iterations}.caffemodel"))).unwrap();
    let layer = net
        .layer
        .into_iter()
        .find(|layer| layer.name() == "ip1")
        .unwrap();
    layer.blobs[0].data.clone()
}

fn zeros(data: &[f32]) -> usize {
    data.iter().filter(|w| **w == 0.0).count()
}

/// Checklist 60.
#[test]
fn a_network_is_pruned_fine_tuned_and_drawn() {
    let place = trained();
    let options = "--lr 0.02 --decay 0.005 --zero-below 0.001 --factor 10 --group-decay 0 \
                   --set max_iter=80 --quiet -o runs";
    let mut arguments = vec!["prune", "solver.prototxt"];
    arguments.extend(options.split_whitespace().chain(WEIGHTS));
    let folder = run(&place, &arguments);
    let name = folder.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("0.02_0.005_0.001_10_0_20"), "{name}");
    for file in [
        "solver.prototxt",
        "train.info",
        "metrics.jsonl",
        "loss.info",
    ] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let solver = std::fs::read_to_string(folder.join("solver.prototxt")).unwrap();
    for line in [
        "regularization_type: \"L1\"",
        "prune_threshold: 0.001",
        "max_threshold_factor: 10",
        "base_lr: 0.02",
        "max_iter: 80",
    ] {
        assert_eq!(solver.matches(line).count(), 1, "{line} in {solver}");
    }
    let terms = std::fs::read_to_string(folder.join("loss.info")).unwrap();
    assert_eq!(terms.lines().count(), 4);
    for line in terms.lines() {
        let columns: Vec<f64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        assert!(
            columns.len() == 2 && columns[0] > 0.0 && columns[1] > columns[0],
            "{line}"
        );
    }
    let pruned = ip1(&folder, 80);
    assert!(zeros(&pruned) > pruned.len() / 20, "{}", zeros(&pruned));
    let weights = folder.join("train_iter_80.caffemodel");
    let weights = weights.to_str().unwrap();
    let tuned = run(
        &place,
        &[
            "finetune",
            "solver.prototxt",
            "--lr",
            "0.01",
            "--set",
            "max_iter=30",
            "--quiet",
            "-o",
            "runs",
            "--weights",
            weights,
        ],
    );
    let tuned = ip1(&tuned, 30);
    assert!(
        tuned
            .iter()
            .zip(&pruned)
            .all(|(new, old)| (*old == 0.0) == (*new == 0.0))
    );
    assert_ne!(tuned, pruned);
    let folder = folder.to_str().unwrap();
    place.ok(&["plot", folder, "-o", "picture"]);
    let page = String::from_utf8(place.bytes("picture.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("accuracy") && page.contains("ip1"));
    for foreign in ["http://", "https://", "<script src", "<link", "url("] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(place.bytes("picture.png").starts_with(b"\x89PNG"));
    // SkimCaffe's own logs, where there are no metrics.
    std::fs::remove_file(place.path(folder).join("metrics.jsonl")).unwrap();
    place.ok(&["plot", folder, "-o", "old"]);
    let page = String::from_utf8(place.bytes("old.html")).unwrap();
    assert!(
        page.contains("accuracy") && page.contains("weight 1"),
        "{page}"
    );
}

/// SkimCaffe's ResNet template: L2 for all, L1 for what is to be pruned.
#[test]
fn a_templates_regularization_stays() {
    let place = trained();
    let net = crate::support::NET.replace(
        "top: \"ip1\"\n  param { lr_mult: 1 }",
        "top: \"ip1\"\n  param { lr_mult: 1 regularization_type: \"L1\" }",
    );
    place.write("net.prototxt", &net);
    place.solver("max_iter: 3 regularization_type: \"L2\"");
    let zeros_of = |folder: &std::path::Path, name: &str| {
        let net = read_caffemodel(&folder.join("train_iter_3.caffemodel")).unwrap();
        let layer = net.layer.into_iter().find(|layer| layer.name() == name);
        zeros(&layer.unwrap().blobs[0].data)
    };
    let definition =
        |folder: &std::path::Path| std::fs::read_to_string(folder.join("solver.prototxt")).unwrap();
    let mut arguments = "prune solver.prototxt --lr 0.01 --zero-below 0.02 -o runs".to_owned();
    arguments += " --weights snap/tiny_iter_60.caffemodel";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let outcome = place.run(&arguments);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let folder = place.path(outcome.stdout.lines().next().unwrap());
    assert_eq!(
        (zeros_of(&folder, "conv1"), zeros_of(&folder, "ip1") > 0),
        (0, true)
    );
    assert_eq!(
        definition(&folder)
            .matches("regularization_type: \"L2\"")
            .count(),
        1
    );
    for told in [
        "sets base_lr: 0.01, where the template says 0.02",
        "sets prune_threshold: 0.02",
        "regularization_type: \"L2\" stays",
    ] {
        assert!(outcome.stderr.contains(told), "{told}: {}", outcome.stderr);
    }
    assert!(
        !outcome.stderr.contains("nothing will be pruned"),
        "{}",
        outcome.stderr
    );

    // Without any L1 thresholds reach nothing, which is a warning before anything is trained.
    place.write("net.prototxt", crate::support::NET);
    let pointless = place.run(&arguments);
    assert_eq!(pointless.code, Some(0), "{}", pointless.stderr);
    let strict = place.run(&[&arguments[..], &["--strict"]].concat());
    assert_eq!(strict.code, Some(3), "{}", strict.stderr);
    for outcome in [&pointless, &strict] {
        let told = outcome.stderr.matches("nothing will be pruned").count();
        assert_eq!(told, 1, "{}", outcome.stderr);
    }
    assert!(
        strict.stderr.contains("found 1 warning"),
        "{}",
        strict.stderr
    );
    place.write("net.prototxt", &net);

    // What is set expressly goes before the template.
    let mut over = arguments.clone();
    over.extend(["--set", "regularization_type=\"L1\""]);
    let folder = run(&place, &over);
    assert!(zeros_of(&folder, "conv1") > 0);
    assert!(definition(&folder).contains("regularization_type: \"L1\""));

    // Fine-tuning leaves it too, and a template without a word gets the command's.
    let tune = [
        "finetune",
        "solver.prototxt",
        "--lr",
        "0.01",
        "--quiet",
        "-o",
        "runs",
    ];
    place.solver("max_iter: 3 regularization_type: \"L1\"");
    assert!(definition(&run(&place, &tune)).contains("regularization_type: \"L1\""));
    place.solver("max_iter: 3");
    assert!(definition(&run(&place, &tune)).contains("regularization_type: \"L2\""));

    // Where nothing is under L1, pruning prunes nothing, and that is told.
    place.write("net.prototxt", crate::support::NET);
    place.solver("max_iter: 3 regularization_type: \"L2\"");
    let outcome = place.run(&arguments);
    assert!(
        outcome.stderr.contains("nothing will be pruned"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_network_without_template_has_usual_settings() {
    let place = trained();
    let mut arguments = vec![
        "prune",
        "net.prototxt",
        "--lr",
        "0.001",
        "--set",
        "max_iter=5",
        "--quiet",
    ];
    arguments.extend(WEIGHTS);
    let folder = run(&place, &arguments);
    let name = folder.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("0.001_0.00005_0.0001_10_0_20"), "{name}");
    assert!(folder.join("train_iter_5.solverstate").is_file());
    let state = folder.join("train_iter_5.solverstate");
    let state = state.to_str().unwrap();
    let goes_on = [
        "prune",
        "net.prototxt",
        "--lr",
        "0.001",
        "--set",
        "max_iter=8",
        "--quiet",
        "--snapshot",
        state,
    ];
    assert!(
        run(&place, &goes_on)
            .join("train_iter_8.solverstate")
            .is_file()
    );
    for (set, part) in [
        ("depth=5", "depth"),
        ("max_iter=many", "many"),
        ("type=Adam", "quotes"),
    ] {
        let outcome = place.run(&["prune", "net.prototxt", "--lr", "0.1", "--set", set]);
        assert_eq!(outcome.code, Some(3));
        assert!(
            outcome.stderr.starts_with("error: ") && outcome.stderr.contains(part),
            "{}",
            outcome.stderr
        );
    }
}

const COSTS: &str = r#"{ "machine": "a machine", "batch": 1, "threads": 1, "rest_ms": 0.1, "layers": [
  { "layer": "conv1", "points": [[0.0, 1.0], [0.5, 1.2], [0.9, 1.1]] },
  { "layer": "ip1", "points": [[0.0, 4.0], [0.5, 2.0], [0.9, 0.4], [0.95, 0.4]] } ] }"#;

#[test]
fn a_network_is_pruned_to_a_speed() {
    let place = trained();
    place.write("cost.json", COSTS);
    let options =
        "--lr 0.02 --target-speedup 2.5x --cost cost.json --set max_iter=100 --quiet -o runs";
    let mut arguments = vec!["prune", "solver.prototxt"];
    arguments.extend(options.split_whitespace().chain(WEIGHTS));
    let folder = run(&place, &arguments);
    let log = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    assert!(
        log.contains("conv1 is not pruned: it is never faster than dense"),
        "{log}"
    );
    assert!(log.contains("2.50 times as fast as dense"), "{log}");
    // 5.1 ms / 2.5 leave 0.94 ms for ip1, on the way from 2.0 at half to 0.4 at nine tenths.
    let pruned = ip1(&folder, 100);
    let share = zeros(&pruned) as f64 / pruned.len() as f64;
    assert!((share - 0.765).abs() < 0.02, "{share}");

    let with_threshold = "--target-speedup 3x --cost cost.json --zero-below 0.1";
    let twice = "--target-speedup 3x --target-latency 5ms --cost cost.json";
    for (wrong, words) in [
        ("--target-speedup 0.5", "above 1"),
        ("--target-latency soon", "milliseconds"),
        ("--target-speedup 3x", "--cost"),
        ("--cost cost.json", "--target-speedup"),
        (with_threshold, "--zero-below"),
        (twice, "--target-latency"),
    ] {
        let mut arguments = vec!["prune", "solver.prototxt", "--lr", "0.1"];
        arguments.extend(wrong.split_whitespace());
        let outcome = place.run(&arguments);
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}
