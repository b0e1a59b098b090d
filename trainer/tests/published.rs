//! A published training run, done again: LeNet on MNIST from iteration 5000 to 10000.
//!
//! The shared data's README tells what the run was, and how near a plain float32 program came. Numbers
//! wander apart as rounding differs; what is asked for here is twice what such a program missed.

mod support;

use skimjit_caffe::blob::take_values;
use skimjit_caffe::{read_caffemodel, read_solverstate};
use skimjit_data::idx;
use skimjit_testing::data;
use std::path::Path;
use std::process::Command;

/// Data base of idx files.
fn digits(images: &Path, labels: &Path, into: &Path) {
    let (images, labels) = (
        idx::read_images(images).unwrap(),
        idx::read_labels(labels).unwrap(),
    );
    let records = images.iter().zip(&labels);
    let records = records.map(|(pixels, &label)| (pixels.to_vec(), i32::from(label)));
    support::data_base(into, 28, records);
}

/// The working folder of the run, as its definitions want it.
fn prepare(data: &Path, folder: &Path) {
    let place = folder.join("examples/mnist");
    std::fs::create_dir_all(&place).unwrap();
    let mnist = data.join("data/mnist");
    for (images, base) in [
        ("train", "mnist_train_lmdb"),
        ("test_first3000", "mnist_test_lmdb"),
    ] {
        digits(
            &mnist.join(format!("{images}-images-idx3-ubyte.gz")),
            &mnist.join(format!("{images}-labels-idx1-ubyte.gz")),
            &place.join(base),
        );
    }
    let formats = data.join("formats");
    let copy = |name: &str, to: &Path| std::fs::copy(formats.join(name), to).unwrap();
    copy(
        "train_lenet_train_test.prototxt",
        &place.join("lenet_train_test.prototxt"),
    );
    for kind in ["caffemodel", "solverstate"] {
        let name = format!("lenet_iter_5000.{kind}");
        copy(&name, &folder.join(&name));
    }
    let solver = std::fs::read_to_string(formats.join("train_lenet_solver.prototxt")).unwrap();
    // 3000 test images, not 10,000.
    let solver = solver.replace("test_iter: 100", "test_iter: 30");
    std::fs::write(folder.join("solver.prototxt"), solver).unwrap();
}

fn weights(path: &Path) -> Vec<Vec<f32>> {
    let model = read_caffemodel(path).unwrap();
    let blobs = model.layer.into_iter().flat_map(|layer| layer.blobs);
    blobs
        .map(|mut blob| take_values(&mut blob).unwrap())
        .collect()
}

fn momentum(path: &Path) -> Vec<Vec<f32>> {
    let state = read_solverstate(path).unwrap();
    let blobs = state.history.into_iter();
    blobs
        .map(|mut blob| take_values(&mut blob).unwrap())
        .collect()
}

/// Euclidean distance.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// A minute: `cargo test --release -p skimjit-trainer --test published -- --ignored --nocapture`.
#[test]
#[ignore = "a minute"]
fn lenet_reaches_the_published_snapshot() {
    let Some(data) = data("") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    prepare(&data, folder.path());
    let run = Command::new(env!("CARGO_BIN_EXE_skimjit-train"))
        .args(["train", "--solver", "solver.prototxt", "--log", "run"])
        .args(["--snapshot", "lenet_iter_5000.solverstate"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );

    let ours = folder
        .path()
        .join("examples/mnist/lenet_iter_10000.caffemodel");
    let published = weights(&data.join("models/lenet/model.caffemodel"));
    let start = weights(&folder.path().join("lenet_iter_5000.caffemodel"));
    let blobs = weights(&ours).into_iter().zip(published).zip(start);
    for (index, ((ours, published), start)) in blobs.enumerate() {
        let share = distance(&ours, &published) / distance(&published, &start);
        println!("blob {index}: {share:.4} of the way apart");
        // The bias of ip1 hardly moves.
        let limit = if index == 5 { 0.1 } else { 0.05 };
        assert!(share <= limit, "blob {index}: {share}");
    }
    let published = momentum(&data.join("formats/lenet_iter_10000.solverstate"));
    let pairs = momentum(&ours.with_extension("solverstate"))
        .into_iter()
        .zip(published);
    for (index, (ours, published)) in pairs.enumerate() {
        let zero = vec![0.0; published.len()];
        let error = distance(&ours, &published) / distance(&published, &zero);
        println!("momentum {index}: {error:.4}");
        assert!(error <= 0.15, "momentum {index}: {error}");
    }
    let log = std::fs::read_to_string(folder.path().join("run/train.info")).unwrap();
    let last = log.lines().rev().find(|line| line.contains("accuracy ="));
    let accuracy = last.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    println!("accuracy {accuracy:?}");
    assert!((accuracy.unwrap() - 0.986).abs() < 0.001, "{last:?}");
}
