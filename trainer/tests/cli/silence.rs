//! What must not pass without a word: methods that a phase never comes to, runs that were stopped, runs that
//! have told nothing, definitions that ask for a GPU.

use crate::support::{Workplace, outcome};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const RECIPE: &str = r#"name = "small"
net = "net.prototxt"
[solver]
base_lr = 0.02
lr_policy = "fixed"
random_seed = 7
snapshot = 20
[[phase]]
name = "dense"
solver = { max_iter = 5 }
[[phase]]
name = "prune"
solver = { max_iter = 5 }
[[phase.method]]
kind = "gradual"
sparsity = 90
end = 5
every = 1
"#;

fn place() -> Workplace {
    let place = Workplace::with_tiny_network();
    place.write("recipe.toml", RECIPE);
    place
}

#[test]
fn a_method_that_its_phase_never_comes_to_is_refused() {
    let place = place();
    let recipe = RECIPE.replace("end = 5", "end = 100");
    place.write("recipe.toml", &recipe);
    let ended = place.run(&["recipe", "recipe.toml", "-o", "out"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let words = "recipe.toml: phase \"prune\": method \"gradual\": end: found 100, expected 1 to 5";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    assert!(!place.path("out").exists());
}

#[test]
fn a_recipe_writes_into_a_folder_of_its_name() {
    let place = place();
    let outside = place.path("outside").display().to_string();
    for name in [&*outside, "../x"] {
        place.write("recipe.toml", &RECIPE.replace("small", name));
        let ended = place.run(&["recipe", "recipe.toml"]);
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        assert!(ended.stderr.contains("recipe.toml: name: found"));
        assert!(!place.path("outside").exists());
    }
    place.write("recipe.toml", RECIPE);
    place.ok(&["recipe", "recipe.toml", "--quiet"]);
    assert!(place.path("small/2-prune/finished.json").is_file());
}

#[test]
fn a_definition_that_asks_for_a_gpu_is_told_once() {
    let place = place();
    let told = |arguments: &[&str]| {
        let ended = place.run(arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let words = "note: the definition says solver_mode: GPU, and the CPU trains";
        ended.stderr.matches(words).count()
    };
    let train = ["train", "--solver", "solver.prototxt", "--strict"];
    for (changes, count) in [
        ("max_iter: 2 solver_mode: GPU", 1),
        ("max_iter: 2 solver_mode: CPU", 0),
        ("max_iter: 2", 0),
    ] {
        place.solver(changes);
        assert_eq!(told(&train), count, "{changes}");
    }
    let recipe = RECIPE.replace("[solver]\n", "[solver]\nsolver_mode = \"GPU\"\n");
    place.write("recipe.toml", &recipe);
    assert_eq!(told(&["recipe", "recipe.toml", "-o", "out"]), 1);
}

fn stop(place: &Workplace, arguments: &[&str], state: &str, signal: &str) -> (Option<i32>, String) {
    let child: Child = place.command(arguments).spawn().unwrap();
    let started = Instant::now();
    while !place.path(state).is_file() {
        assert!(started.elapsed() < Duration::from_secs(60), "no {state}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let number = child.id().to_string();
    let sent = Command::new("kill").args([signal, &number]).status();
    assert!(sent.unwrap().success());
    let ended = outcome(child.wait_with_output().unwrap());
    (ended.code, ended.stderr)
}

/// Otherwise what stands behind `&&` would take half a run for a whole one.
#[test]
fn a_run_that_is_stopped_has_an_exit_code_of_its_own() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let place = place();
        place.solver("max_iter: 1000000 snapshot: 20");
        let train = ["train", "--solver", "solver.prototxt", "--quiet"];
        let ended = stop(&place, &train, "snap/tiny_iter_20.solverstate", signal);
        assert_eq!(ended.0, Some(code), "{}", ended.1);
        assert!(ended.1.contains("stopped: after"), "{}", ended.1);

        let recipe = RECIPE.replacen("max_iter = 5", "max_iter = 1000000", 1);
        place.write("recipe.toml", &recipe);
        let run = ["recipe", "recipe.toml", "-o", "out", "--quiet"];
        let ended = stop(
            &place,
            &run,
            "out/1-dense/snapshot_iter_20.solverstate",
            signal,
        );
        assert_eq!(ended.0, Some(code), "{}", ended.1);
        assert!(ended.1.contains("run the recipe again"), "{}", ended.1);
    }
}

#[test]
fn a_run_that_has_told_nothing_is_not_drawn() {
    for file in ["metrics.jsonl", "train.info"] {
        let place = Workplace::new();
        std::fs::create_dir(place.path("run")).unwrap();
        place.write(&format!("run/{file}"), "");
        let ended = place.run(&["plot", "run"]);
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        let words = format!("run/{file}: found neither a loss nor a test, expected");
        assert!(ended.stderr.contains(&words), "{}", ended.stderr);
        assert_eq!(place.files("run"), [file]);
        let ended = place.run(&["plot", &format!("run/{file}")]);
        assert!(
            ended.stderr.contains("expected the --log folder"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn folders_given_as_files_are_told_what_was_expected() {
    let place = place();
    for arguments in [
        &["recipe", "snap"][..],
        &["train", "--solver", "snap"],
        &["prune", "snap", "--lr", "0.1"],
        &["cost", "--prototxt", "snap", "--weights", "snap", "-o", "c"],
    ] {
        std::fs::create_dir_all(place.path("snap")).unwrap();
        let ended = place.run(arguments);
        assert_eq!(ended.code, Some(3), "{arguments:?}: {}", ended.stderr);
        let told = ended.stderr.contains("found a folder, expected");
        assert!(told, "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn what_is_read_is_never_written_nor_one_file_twice() {
    let place = Workplace::new();
    for file in ["net.prototxt", "net.caffemodel"] {
        place.write(file, "as it was");
    }
    let trial = [
        "--prototxt",
        "net.prototxt",
        "--weights",
        "net.caffemodel",
        "-o",
    ];
    for (command, output) in [
        ("oneshot", "net.caffemodel"),
        ("recalibrate", "./net.prototxt"),
        ("sensitivity", "net.caffemodel"),
    ] {
        let sparsity: &[&str] = if command == "oneshot" {
            &["--sparsity", "50"]
        } else {
            &[]
        };
        let arguments = [&[command], &trial[..], &[output], sparsity].concat();
        let result = outcome(place.command(&arguments).output().unwrap());
        assert_eq!(result.code, Some(2), "{arguments:?}: {}", result.stderr);
        assert!(
            result.stderr.contains("another file of this command"),
            "{arguments:?}: {}",
            result.stderr
        );
        assert_eq!(
            std::fs::read_to_string(place.path(output)).unwrap(),
            "as it was"
        );
    }
    let arguments = [
        "net",
        "lenet",
        "-o",
        "x.prototxt",
        "--solver-out",
        "x.prototxt",
    ];
    let result = outcome(place.command(&arguments).output().unwrap());
    assert!(
        result.stderr.contains("another file of this command"),
        "{}",
        result.stderr
    );
    assert!(!place.path("x.prototxt").exists());
}
