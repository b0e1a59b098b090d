//! Bad input: one clear line, and the right exit code.

use crate::support::{NET, Outcome, Workplace, record};

/// Checks that a command fails with this code and one line that holds all of `parts`.
fn assert_refused(outcome: &Outcome, code: i32, parts: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    let errors: Vec<&str> = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{}", outcome.stderr);
    assert_eq!(
        outcome.stderr.lines().last(),
        Some(errors[0]),
        "{}",
        outcome.stderr
    );
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} in {}", errors[0]);
    }
}

fn train(place: &Workplace, more: &[&str]) -> Outcome {
    let mut arguments = vec!["train", "--solver", "solver.prototxt", "--quiet"];
    arguments.extend(more);
    place.run(&arguments)
}

#[test]
fn wrong_usage() {
    let place = Workplace::with_tiny_network();
    let cases: [(&[&str], &str); 9] = [
        (&[], "subcommand"),
        (&["learn"], "learn"),
        (&["train"], "--solver"),
        (
            &["train", "--solver", "solver.prototxt", "--threads", "0"],
            "--threads",
        ),
        (
            &[
                "train",
                "--solver",
                "solver.prototxt",
                "--snapshot",
                "a",
                "--weights",
                "b",
            ],
            "--snapshot",
        ),
        (&["train", "--solver"], "--solver"),
        (&["prune", "net.prototxt"], "--lr"),
        (&["prune", "net.prototxt", "--lr", "fast"], "--lr"),
        (
            &[
                "finetune",
                "net.prototxt",
                "--lr",
                "0.1",
                "--set",
                "max_iter",
            ],
            "--set",
        ),
    ];
    for (arguments, part) in cases {
        assert_refused(&place.run(arguments), 2, &[part]);
    }
}

#[test]
fn wrong_solver_fields() {
    let place = Workplace::with_tiny_network();
    for (changes, parts) in [
        (
            "lr_policy: \"cosine\"",
            ["lr_policy", "\"cosine\"", "multistep"],
        ),
        ("lr_policy: \"step\"", ["stepsize", "0", "at least 1"]),
        (
            "lr_policy: \"multistep\" stepvalue: 9 stepvalue: 5",
            ["stepvalue", "[9, 5]", "in order"],
        ),
        (
            "lr_policy: \"multistep\" stepvalue: -5",
            ["stepvalue", "[-5]", "in order"],
        ),
        ("type: \"Lion\"", ["type", "\"Lion\"", "AdaDelta or Adam"]),
        (
            "type: \"AdaGrad\" momentum: 0.9",
            ["momentum", "0.9", "AdaGrad has none"],
        ),
        (
            "type: \"RMSProp\" momentum: 0.5",
            ["momentum", "0.5", "RMSProp has none"],
        ),
        ("max_iter: -5", ["max_iter", "-5", "0 or more"]),
        ("iter_size: 0", ["iter_size", "0", "at least 1"]),
        ("test_iter: -1", ["test_iter", "-1", "at least 1"]),
        ("test_interval: 0", ["test_interval", "0", "at least 1"]),
        ("average_loss: 0", ["average_loss", "0", "at least 1"]),
        ("snapshot: -2", ["snapshot", "-2", "0 or more"]),
        ("display: -2", ["display", "-2", "0 or more"]),
        (
            "prune_threshold: -1",
            ["prune_threshold", "-1", "0 or more"],
        ),
        ("base_lr: nan", ["base_lr", "NaN", "0 or more"]),
        ("base_lr: -1", ["base_lr", "-1", "0 or more"]),
        ("momentum: 1.5", ["momentum", "1.5", "less than 1"]),
        ("momentum: -0.1", ["momentum", "-0.1", "less than 1"]),
        (
            "type: \"Adam\" momentum2: 1",
            ["momentum2", "1", "less than 1"],
        ),
        ("clip_gradients: nan", ["clip_gradients", "NaN", "-1"]),
        ("clip_gradients: inf", ["clip_gradients", "inf", "-1"]),
        ("clip_gradients: 0", ["clip_gradients", "0", "-1"]),
        ("weight_decay: -0.1", ["weight_decay", "-0.1", "0 or more"]),
        (
            "lr_policy: \"exp\" gamma: -0.5",
            ["gamma", "-0.5", "0 or more"],
        ),
        (
            "regularization_type: \"L7\"",
            ["regularization_type", "L7", "L1"],
        ),
        (
            "test_state: { } test_state: { }",
            ["test_state", "2", "test_iter"],
        ),
        (
            "net: \"other.prototxt\"",
            ["other.prototxt", "net", "No such file"],
        ),
        ("max_iter: many", ["max_iter", "many", "solver.prototxt"]),
        (
            "train_net: \"net.prototxt\"",
            ["net", "train_net", "one of them"],
        ),
    ] {
        place.solver(changes);
        assert_refused(&train(&place, &[]), 3, &parts);
        assert_refused(
            &train(&place, &[]),
            3,
            &["solver.prototxt"][..usize::from(!changes.contains("other"))],
        );
    }
    place.write(
        "solver.prototxt",
        "base_lr: 0.1 lr_policy: \"fixed\" max_iter: 1",
    );
    assert_refused(
        &train(&place, &[]),
        3,
        &["solver.prototxt", "net", "nothing"],
    );
    place.write(
        "solver.prototxt",
        "net: \"net.prototxt\" lr_policy: \"fixed\" max_iter: 1",
    );
    assert_refused(
        &train(&place, &[]),
        3,
        &["solver.prototxt", "base_lr", "nothing"],
    );
    assert_refused(
        &place.run(&["train", "--solver", "absent.prototxt"]),
        3,
        &["absent.prototxt"],
    );
    place.solver("");
    assert_refused(
        &train(&place, &["--device", "tpu"]),
        2,
        &["--device", "tpu", "cuda:N"],
    );
    assert_refused(&train(&place, &["--device", "cuda:-1"]), 2, &["--device"]);
    if cfg!(feature = "cuda") {
        // Without a driver or a library it says so, with them how many GPUs there are.
        assert_refused(
            &train(&place, &["--device", "cuda:4000000"]),
            3,
            &["--device", "expected"],
        );
    } else {
        assert_refused(
            &train(&place, &["--device", "cuda:1"]),
            3,
            &["--device", "cuda:1", "--features cuda"],
        );
    }
}

#[test]
fn wrong_networks() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 1 snapshot: 0");
    let without = NET.lines().filter(|line| !line.contains("SoftmaxWithLoss"));
    let without: String = without.map(|line| line.to_owned() + "\n").collect();
    for (net, parts) in [
        (without, vec!["net.prototxt", "loss"]),
        (NET.replace("type: \"ReLU\"", "type: \"Fancy\""), vec!["net.prototxt", "relu1", "Fancy"]),
        (NET.replace("train_lmdb", "absent_lmdb"), vec!["absent_lmdb"]),
        (NET.replace("num_output: 6", "num_output: 0"), vec!["conv1", "num_output"]),
        (NET.replace("bottom: \"ip1\" bottom: \"label\" top: \"loss\"", "bottom: \"ip9\" bottom: \"label\" top: \"loss\""), vec!["loss", "ip9"]),
        (NET.replace("type: \"Data\" top: \"data\" top: \"label\"\n  include { phase: TRAIN }", "type: \"Input\" top: \"data\" top: \"label\" include { phase: TRAIN } input_param { shape { dim: 8 dim: 1 dim: 7 dim: 7 } shape { dim: 8 } }\n"), vec!["net.prototxt", "data"]),
        (NET.replace("crop_size: 7", "crop_size: 9"), vec!["data", "crop_size"]),
        (NET.replace("{ lr_mult: 2 ", "{ lr_mult: -2 "), vec!["conv1", "param[1].lr_mult", "-2"]),
        (NET.replace("decay_mult: 0", "decay_mult: nan"), vec!["conv1", "param[1].decay_mult", "NaN"]),
        (NET.replace("dropout_ratio: 0.2", "dropout_ratio: 1"), vec!["drop1", "dropout_ratio", "less than 1"]),
        (NET.replace("bottom: \"ip1\" bottom: \"label\" top: \"loss\"", "bottom: \"ip1\" bottom: \"label\" top: \"loss\" propagate_down: true"), vec!["loss", "propagate_down", "one per bottom"]),
        (NET.replace("weight_filler { type: \"xavier\" } }", "weight_filler { type: \"magic\" } }"), vec!["conv1", "filler", "magic"]),
    ] {
        place.write("net.prototxt", &net);
        assert_refused(&train(&place, &[]), 3, &parts);
    }
}

#[test]
fn wrong_data() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 20");
    let good = |n: u32| record(n, (n % 10) as i32);
    let with = |name: &str, odd: Vec<u8>| {
        let records: Vec<Vec<u8>> = (0..60)
            .map(|n| if n == 33 { odd.clone() } else { good(n) })
            .collect();
        place.data_base(name, &records);
        place.write("net.prototxt", &NET.replace("train_lmdb", name));
        train(&place, &[])
    };
    assert_refused(
        &with("label", record(0, 10)),
        3,
        &["loss", "label", "10", "0 to 9"],
    );
    assert_refused(
        &with("negative", record(0, -3)),
        3,
        &["loss", "label", "-3", "0 to 9"],
    );
    assert_refused(
        &with("garbage", vec![0xff; 40]),
        3,
        &["garbage", "00000033", "Datum"],
    );
    assert_refused(
        &with("short", good(33)[..50].to_vec()),
        3,
        &["short", "00000033"],
    );
    let mut large = good(33);
    large.truncate(0);
    assert_refused(&with("empty", large), 3, &["empty", "00000033"]);
    // A data base that is cut off.
    let file = place.path("train_lmdb/data.mdb");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2 / 4096 * 4096]).unwrap();
    place.write("net.prototxt", NET);
    assert_refused(&train(&place, &[]), 3, &["train_lmdb"]);
    std::fs::write(&file, vec![0; 8192]).unwrap();
    assert_refused(&train(&place, &[]), 3, &["train_lmdb"]);
}

#[test]
fn diverging_runs_stop() {
    let place = Workplace::with_tiny_network();
    place.solver("base_lr: 1e20");
    let outcome = train(&place, &[]);
    assert_refused(&outcome, 3, &["iteration", "layer", "base_lr"]);
    assert!(
        outcome.stderr.contains("conv1") || outcome.stderr.contains("ip1"),
        "{}",
        outcome.stderr
    );
    // Weights that are none never become a snapshot.
    let net = NET.replace("param { lr_mult: 1 }", "param { lr_mult: 1e10 }");
    place.write("net.prototxt", &net);
    place.solver("base_lr: 1e38 max_iter: 1 snapshot_prefix: \"bad/tiny\"");
    let outcome = train(&place, &[]);
    assert_refused(&outcome, 3, &["iteration", "layer", "base_lr"]);
    assert!(
        !place
            .files("bad")
            .iter()
            .any(|name| name.ends_with("solverstate"))
    );
}

#[test]
fn weights_of_another_network() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 2");
    place.ok(&["train", "--solver", "solver.prototxt", "--quiet"]);
    let state = "snap/tiny_iter_2.solverstate";
    let model = "snap/tiny_iter_2.caffemodel";
    // Another shape.
    place.write(
        "net.prototxt",
        &NET.replace("num_output: 6", "num_output: 7"),
    );
    assert_refused(
        &train(&place, &["--weights", model]),
        3,
        &["conv1", "blobs[0]", "6", "7"],
    );
    assert_refused(
        &train(&place, &["--snapshot", state]),
        3,
        &["conv1", "blobs[0]", "6", "7"],
    );
    // More parameters than the history is of: the weights fit, layer by layer.
    let more = NET.replace("layer { name: \"accuracy\"", "layer { name: \"ip2\" type: \"InnerProduct\" bottom: \"ip1\" top: \"ip2\" inner_product_param { num_output: 10 weight_filler { type: \"xavier\" } } }\nlayer { name: \"accuracy\"");
    place.write(
        "net.prototxt",
        &more.replace(
            "bottom: \"ip1\" bottom: \"label\"",
            "bottom: \"ip2\" bottom: \"label\"",
        ),
    );
    assert_refused(
        &train(&place, &["--snapshot", state]),
        3,
        &[state, "history", "4 arrays", "6 parameters"],
    );
    place.write("net.prototxt", NET);
    // Another solver.
    place.solver("type: \"Adam\" max_iter: 4");
    assert_refused(
        &train(&place, &["--snapshot", state]),
        3,
        &[state, "history", "4 arrays", "8 for the 4 parameters"],
    );
    place.solver("max_iter: 4");
    // Files that are none.
    assert_refused(
        &train(&place, &["--weights", "absent.caffemodel"]),
        3,
        &["absent.caffemodel"],
    );
    assert_refused(
        &train(&place, &["--weights", "net.prototxt"]),
        3,
        &["net.prototxt"],
    );
    place.write("half.solverstate", "");
    assert_refused(
        &train(&place, &["--snapshot", "half.solverstate"]),
        3,
        &["half.solverstate", "empty"],
    );
    let bytes = place.bytes(state);
    std::fs::write(place.path("half.solverstate"), &bytes[..bytes.len() / 2]).unwrap();
    assert_refused(
        &train(&place, &["--snapshot", "half.solverstate"]),
        3,
        &["half.solverstate"],
    );
    // The weights are gone.
    std::fs::remove_file(place.path(model)).unwrap();
    assert_refused(
        &train(&place, &["--snapshot", state]),
        3,
        &[state, "learned_net", model],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn full_disks() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 30 snapshot: 10");
    // Files of at most 2 blocks of 512 bytes, where weights need more; the signal of it is ignored.
    let binary = env!("CARGO_BIN_EXE_skimjit-train");
    let script = format!(
        "trap '' XFSZ; ulimit -f 2; exec '{binary}' train --solver solver.prototxt --quiet"
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    assert_refused(
        &crate::support::outcome(output),
        3,
        &["snap/tiny_iter_10.caffemodel", "free space"],
    );
    assert_eq!(place.files("snap"), [""; 0], "what was begun is removed");
    // A log that cannot be written.
    std::fs::create_dir(place.path("log")).unwrap();
    std::os::unix::fs::symlink("/dev/full", place.path("log/train.info")).unwrap();
    assert_refused(
        &train(&place, &["--log", "log"]),
        3,
        &["log", "No space left"],
    );
    // A folder that cannot be made.
    place.solver("max_iter: 3 snapshot: 1 snapshot_prefix: \"net.prototxt/x\"");
    assert_refused(
        &train(&place, &[]),
        3,
        &["net.prototxt/x_iter_1.caffemodel"],
    );
}

#[test]
fn files_of_other_programs_are_named() {
    let place = Workplace::with_tiny_network();
    let path = |file: &str| place.path(file);
    std::fs::write(path("net.onnx"), b"\x08\x07\x12\x07pytorch\x3a\x00\x42\x00").unwrap();
    std::fs::write(path("yolo.weights"), [0, 0, 0, 0, 2, 0, 0, 0]).unwrap();
    let onnx = ["net.onnx", "an ONNX model", "ONNX model"];
    assert_refused(&train(&place, &["--weights", "net.onnx"]), 3, &onnx);
    assert_refused(&train(&place, &["--snapshot", "net.onnx"]), 3, &onnx);
    let darknet = ["yolo.weights", "Darknet weights"];
    assert_refused(&train(&place, &["--weights", "yolo.weights"]), 3, &darknet);
    let definition = ["net.prototxt", "a network definition", ".caffemodel"];
    assert_refused(
        &train(&place, &["--weights", "net.prototxt"]),
        3,
        &definition,
    );
}
