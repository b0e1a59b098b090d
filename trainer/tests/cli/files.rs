//! Files that are named in files, and weights that belong to other networks.

use crate::support::{NET, Workplace};
use skimjit_caffe::blob::take_values;
use skimjit_caffe::{read_caffemodel, read_prototxt, write_caffemodel, write_mean};
use std::path::Path;

/// A place with trained weights: `snap/tiny_iter_30.caffemodel`.
fn trained() -> Workplace {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 30");
    place.ok(&["train", "--solver", "solver.prototxt", "--quiet"]);
    place
}

/// Renames layers of a file of weights.
fn rename(place: &Workplace, names: &[(&str, &str)], to: &str) {
    let mut model = read_caffemodel(&place.path("snap/tiny_iter_30.caffemodel")).unwrap();
    for layer in &mut model.layer {
        for (from, to) in names {
            if layer.name() == *from {
                layer.name = Some((*to).to_owned());
            }
        }
    }
    write_caffemodel(&model, &place.path(to)).unwrap();
}

const TRIAL: [&str; 2] = ["--prototxt", "net.prototxt"];

/// The commands that start from weights.
fn commands(weights: &str) -> Vec<Vec<String>> {
    let lines = [
        "train --solver solver.prototxt --quiet".to_owned(),
        "prune solver.prototxt --lr 0.01 --set max_iter=2 --quiet -o runs".to_owned(),
        "finetune solver.prototxt --lr 0.01 --set max_iter=2 --quiet -o runs".to_owned(),
        "recipe recipe.toml --quiet -o recipe".to_owned(),
        format!(
            "oneshot {} --sparsity 50% --batches 1 --test-batches 1 -o new.caffemodel",
            TRIAL.join(" ")
        ),
        format!("sensitivity {} --levels 50 --batches 1", TRIAL.join(" ")),
    ];
    let words = |line: &String| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let with = |mut words: Vec<String>| {
        words.extend(["--weights".to_owned(), weights.to_owned()]);
        words
    };
    lines.iter().map(words).map(with).collect()
}

const RECIPE: &str = "name = \"r\"\nnet = \"net.prototxt\"\n[solver]\nbase_lr = 0.01\nlr_policy = \"fixed\"\nmax_iter = 2\n[[phase]]\nname = \"one\"\n";

#[test]
fn weights_of_which_no_layer_matches_are_refused() {
    let place = trained();
    place.solver("max_iter: 2");
    place.write("recipe.toml", RECIPE);
    rename(&place, &[("conv1", "a"), ("ip1", "b")], "other.caffemodel");
    for words in commands("other.caffemodel") {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = place.run(&words);
        assert_eq!(outcome.code, Some(3), "{words:?}: {}", outcome.stderr);
        let error = outcome.stderr.lines().last().unwrap();
        for part in ["other.caffemodel", "layers a, b", "conv1, ip1", "by name"] {
            assert!(error.contains(part), "{part}: {words:?}: {error}");
        }
    }
    assert!(!place.path("new.caffemodel").exists());
    assert!(
        !place.path("recipe").exists(),
        "nothing is written before the check"
    );
}

#[test]
fn what_matches_in_part_is_told_on_both_sides() {
    let place = trained();
    place.solver("max_iter: 2");
    place.write("recipe.toml", RECIPE);
    rename(&place, &[("ip1", "old")], "part.caffemodel");
    for words in commands("part.caffemodel") {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = place.run(&words);
        assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.stderr);
        let warnings = outcome
            .stderr
            .lines()
            .filter(|line| line.starts_with("warning: "));
        let warnings: Vec<&str> = warnings.collect();
        let told = |parts: &[&str]| {
            let all = |line: &&&str| parts.iter().all(|part| line.contains(part));
            warnings.iter().any(|line| all(&line))
        };
        assert!(
            told(&["part.caffemodel", "old"]),
            "{words:?}: {}",
            outcome.stderr
        );
        assert!(
            told(&["without weights", "ip1"]),
            "{words:?}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn statistics_of_other_weights_are_not_gathered() {
    let place = trained();
    let norm = "layer { name: \"norm1\" type: \"BatchNorm\" bottom: \"conv1\" top: \"conv1\" }\nlayer { name: \"relu1\"";
    place.write(
        "net.prototxt",
        &NET.replace("layer { name: \"relu1\"", norm),
    );
    rename(&place, &[("conv1", "a"), ("ip1", "b")], "other.caffemodel");
    let words = [
        "recalibrate",
        "--prototxt",
        "net.prototxt",
        "--batches",
        "1",
        "--weights",
        "other.caffemodel",
        "-o",
        "new.caffemodel",
    ];
    let outcome = place.run(&words);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("layers a, b"), "{}", outcome.stderr);
    let words = words.map(|word| {
        if word == "other.caffemodel" {
            "snap/tiny_iter_30.caffemodel"
        } else {
            word
        }
    });
    let outcome = place.run(&words);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("norm1"), "{}", outcome.stderr);
}

/// Moves the tiny network to a folder `net`, with its data and a mean beside it.
fn in_a_folder() -> Workplace {
    let place = Workplace::with_tiny_network();
    std::fs::create_dir_all(place.path("nets/data")).unwrap();
    for name in ["net.prototxt", "solver.prototxt"] {
        std::fs::rename(place.path(name), place.path("nets").join(name)).unwrap();
    }
    std::fs::rename(place.path("train_lmdb"), place.path("nets/data/train_lmdb")).unwrap();
    let shape = skimjit_models::Shape::new([1, 1, 8, 8]).unwrap();
    let mean = skimjit_models::Tensor::new(shape, vec![20.0; 64]);
    write_mean(mean, &place.path("nets/data/mean.binaryproto")).unwrap();
    let net = NET.replace("train_lmdb", "data/train_lmdb").replace(
        "crop_size: 7",
        "crop_size: 7 mean_file: \"data/mean.binaryproto\"",
    );
    place.write("nets/net.prototxt", &net);
    place.write(
        "nets/recipe.toml",
        &RECIPE.replace(
            "max_iter = 2",
            "max_iter = 2\ntest_iter = 1\ntest_interval = 2\nrandom_seed = 7",
        ),
    );
    place
}

fn conv1(file: &Path) -> Vec<f32> {
    let model = read_caffemodel(file).unwrap();
    let mut layers = model.layer.into_iter();
    let mut found = layers.find(|layer| layer.name() == "conv1").unwrap();
    take_values(&mut found.blobs[0]).unwrap()
}

/// Nets, data, means and solvers, named by one another, from other working folders.
#[test]
fn names_in_files_mean_the_same_from_any_folder() {
    let place = in_a_folder();
    let solver = "nets/solver.prototxt";
    let from_here = |words: &[&str]| place.ok(words);
    place.write(
        solver,
        &crate::support::SOLVER.replace("max_iter: 100", "max_iter: 2"),
    );
    from_here(&["train", "--solver", solver, "--quiet"]);
    assert!(
        place.path("snap/tiny_iter_2.caffemodel").is_file(),
        "snapshots go to the working folder"
    );
    from_here(&["recipe", "nets/recipe.toml", "--quiet", "-o", "out"]);
    let expected = conv1(&place.path("out/1-one/snapshot_iter_2.caffemodel"));

    // The copies keep meaning the same files.
    let copy = place.path("out/1-one/net.prototxt");
    let (net, _) = read_prototxt(&copy).unwrap();
    let first = &net.layer[0];
    let mean = first.transform_param.as_ref().unwrap().mean_file();
    assert!(
        Path::new(mean).is_absolute() && mean.ends_with("nets/data/mean.binaryproto"),
        "{mean}"
    );
    let source = first.data_param.as_ref().unwrap().source();
    assert!(
        Path::new(source).is_absolute() && source.ends_with("nets/data/train_lmdb"),
        "{source}"
    );
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let elsewhere = |words: &[&str]| {
        let output = place
            .command(words)
            .current_dir(place.path("elsewhere"))
            .output()
            .unwrap();
        let outcome = crate::support::outcome(output);
        assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.stderr);
        outcome.stdout
    };
    std::fs::remove_file(place.path("out/1-one/snapshot_iter_2.caffemodel")).unwrap();
    elsewhere(&[
        "train",
        "--solver",
        "../out/1-one/solver.prototxt",
        "--quiet",
    ]);
    assert_eq!(
        conv1(&place.path("out/1-one/snapshot_iter_2.caffemodel")),
        expected
    );

    // The recipe from elsewhere, and from its own folder.
    elsewhere(&["recipe", "../nets/recipe.toml", "--quiet", "-o", "out"]);
    assert_eq!(
        conv1(&place.path("elsewhere/out/1-one/snapshot_iter_2.caffemodel")),
        expected
    );

    // A template is copied too.
    let said = elsewhere(&[
        "prune",
        "../nets/solver.prototxt",
        "--lr",
        "0.01",
        "--set",
        "max_iter=2",
        "--quiet",
        "-o",
        "runs",
    ]);
    let folder = place.path("elsewhere").join(said.lines().next().unwrap());
    let solver = std::fs::read_to_string(folder.join("solver.prototxt")).unwrap();
    let net = solver
        .lines()
        .find(|line| line.starts_with("net: "))
        .unwrap();
    assert!(net.contains("/nets/net.prototxt"), "{net}");
    assert!(folder.join("train_iter_2.caffemodel").is_file());
}

#[test]
fn a_name_that_means_two_files_is_told() {
    let place = in_a_folder();
    place.write(
        "net.prototxt",
        &NET.replace("train_lmdb", "nets/data/train_lmdb"),
    );
    place.write(
        "nets/solver.prototxt",
        &crate::support::SOLVER.replace("max_iter: 100", "max_iter: 2"),
    );
    for words in [
        &["train", "--solver", "nets/solver.prototxt"] as &[&str],
        &["recipe", "nets/recipe.toml", "-o", "out"],
    ] {
        let outcome = place.run(words);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let told = outcome
            .stderr
            .lines()
            .find(|line| line.contains("working folder is taken"));
        assert!(
            told.is_some_and(|line| line.contains("net.prototxt")),
            "{}",
            outcome.stderr
        );
    }
}
