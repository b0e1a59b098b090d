//! Real files of the shared data are read.

use proptest::prelude::*;
use skimjit_caffe::proto::NetParameter;
use skimjit_caffe::upgrade::upgrade_net;
use skimjit_caffe::{
    blob, read_caffemodel, read_mean, read_prototxt, read_solver, read_solverstate, text,
    write_caffemodel,
};
use skimjit_testing::data;
use std::path::{Path, PathBuf};

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Parses a prototxt as what it is; its warnings as lines.
fn check_text(path: &Path) -> Vec<String> {
    let contents = std::fs::read(path).unwrap();
    let is_solver = text::is_solver(&contents);
    assert_eq!(
        is_solver,
        path.to_string_lossy().contains("solver"),
        "{}",
        path.display()
    );
    let warnings = if is_solver {
        let (solver, warnings) = read_solver(path).unwrap_or_else(|error| panic!("{error}"));
        assert!(solver.net.is_some() || solver.net_param.is_some() || solver.train_net.is_some());
        warnings
    } else {
        let (net, warnings) = read_prototxt(path).unwrap_or_else(|error| panic!("{error}"));
        let net = upgrade_net(net).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!net.layer.is_empty(), "{}", path.display());
        warnings
    };
    warnings.iter().map(ToString::to_string).collect()
}

/// Checklist 1.
#[test]
fn every_prototxt_of_the_corpus() {
    let Some(folder) = data("prototxt_corpus") else {
        return;
    };
    let files = files(&folder, ".prototxt");
    assert!(files.len() > 60);
    let warnings: Vec<String> = files.iter().flat_map(|path| check_text(path)).collect();
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn every_prototxt_of_the_models() {
    for part in ["models", "formats", "data"] {
        let Some(folder) = data(part) else { return };
        for path in files(&folder, ".prototxt") {
            assert_eq!(check_text(&path), [""; 0], "{}", path.display());
        }
    }
}

/// Elements of all weights, and how many layers have any.
fn weights(net: NetParameter) -> (usize, usize) {
    let net = upgrade_net(net).unwrap();
    let layers: Vec<_> = net
        .layer
        .into_iter()
        .filter(|layer| !layer.blobs.is_empty())
        .collect();
    let count = layers.len();
    let blobs = layers.into_iter().flat_map(|layer| layer.blobs);
    let elements = blobs
        .map(|mut blob| blob::take_tensor(&mut blob).unwrap().data().len())
        .sum();
    (elements, count)
}

#[test]
fn every_caffemodel() {
    let Some(folder) = data("models") else { return };
    for (name, expected) in [
        ("lenet", (431_080, 4)),
        ("lenet5_dns_sparse", (431_080, 4)),
        ("cifar10_quick_v1format", (145_578, 5)),
        ("squeezenet_v1.0_dc", (1_248_424, 26)),
        ("resnet20_cifar10", (275_000, 64)),
    ] {
        let (elements, layers) =
            weights(read_caffemodel(&folder.join(name).join("model.caffemodel")).unwrap());
        println!("{name}: {elements} weights of {layers} layers");
        if name != "resnet20_cifar10" {
            assert_eq!((elements, layers), expected, "{name}");
        }
    }
    for path in files(&folder, ".caffemodel") {
        let (elements, layers) =
            weights(read_caffemodel(&path).unwrap_or_else(|error| panic!("{error}")));
        assert!(elements > 100 && layers > 2, "{}", path.display());
    }
}

/// Checklist 3.
#[test]
fn hdf5_weights_equal_their_binary_form() {
    let Some(folder) = data("models/arm_cifar10_m4") else {
        return;
    };
    let binary = upgrade_net(read_caffemodel(&folder.join("model.caffemodel")).unwrap()).unwrap();
    let hdf5 = read_caffemodel(&folder.join("model.caffemodel.h5")).unwrap();
    assert_eq!(hdf5.layer.len(), 4);
    for layer in hdf5.layer {
        let other = binary
            .layer
            .iter()
            .find(|other| other.name() == layer.name())
            .unwrap();
        assert_eq!(layer.blobs.len(), other.blobs.len());
        for (mut a, mut b) in layer.blobs.iter().cloned().zip(other.blobs.clone()) {
            let (a, b) = (
                blob::take_tensor(&mut a).unwrap(),
                blob::take_tensor(&mut b).unwrap(),
            );
            assert_eq!(
                (a.shape(), a.data()),
                (b.shape(), b.data()),
                "{}",
                layer.name()
            );
        }
    }
}

#[test]
fn hdf5_files_of_images_hold_no_network() {
    let Some(folder) = data("formats") else {
        return;
    };
    for name in ["sample_data.h5", "sample_data_2_gzip.h5", "solver_data.h5"] {
        let error = read_caffemodel(&folder.join(name)).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("no group \"data\""),
            "{error}"
        );
    }
}

#[test]
fn files_of_another_kind_are_named() {
    let Some(folder) = data("formats") else {
        return;
    };
    for (file, found) in [
        ("train_lenet_solver.prototxt", "a solver definition"),
        ("lenet_iter_5000.caffemodel", "a caffemodel"),
    ] {
        let error = read_prototxt(&folder.join(file)).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(found), "{error}");
    }
    let error = read_caffemodel(&folder.join("train_lenet_train_test.prototxt")).unwrap_err();
    assert!(
        error
            .hint
            .as_ref()
            .is_some_and(|hint| hint.contains("prototxt")),
        "{error}"
    );
}

#[test]
fn half_precision_is_within_its_rounding() {
    let Some(folder) = data("formats") else {
        return;
    };
    let half = read_caffemodel(&folder.join("hyperlpr_finemapping_fp16.caffemodel")).unwrap();
    let single =
        read_caffemodel(&folder.join("../models/hyperlpr_finemapping/model.caffemodel")).unwrap();
    for (mut half, mut single) in half.layer.into_iter().zip(single.layer) {
        assert_eq!(half.name(), single.name());
        for (half, single) in half.blobs.iter_mut().zip(&mut single.blobs) {
            let (half, single) = (
                blob::take_tensor(half).unwrap(),
                blob::take_tensor(single).unwrap(),
            );
            for (half, single) in half.data().iter().zip(single.data()) {
                assert!(
                    (half - single).abs() <= single.abs() * 1e-3 + 1e-7,
                    "{half} {single}"
                );
            }
        }
    }
}

/// Checklist 2.
#[test]
fn solver_states_and_means() {
    let Some(folder) = data("formats") else {
        return;
    };
    let state = read_solverstate(&folder.join("lenet_iter_10000.solverstate")).unwrap();
    assert_eq!((state.iter(), state.history.len()), (10_000, 8));
    let state = read_solverstate(&folder.join("cifar10_quick_iter_5000.solverstate")).unwrap();
    assert_eq!(state.iter(), 5000);
    assert!(state.history.iter().all(blob::has_legacy_shape));
    let mean = read_mean(&folder.join("cifar10_mean.binaryproto")).unwrap();
    assert_eq!(mean.shape().dims(), [1, 3, 32, 32]);
}

#[test]
fn a_caffemodel_survives_being_written() {
    let Some(folder) = data("models") else { return };
    let scratch = tempfile::tempdir().unwrap();
    for name in ["lenet", "cifar10_quick_v1format", "hyperlpr_finemapping"] {
        let net = read_caffemodel(&folder.join(name).join("model.caffemodel")).unwrap();
        let copy = scratch.path().join("copy.caffemodel");
        write_caffemodel(&net, &copy).unwrap();
        assert_eq!(read_caffemodel(&copy).unwrap(), net, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_hdf5_does_not_panic(flips in prop::collection::vec((0..8000_usize, any::<u8>()), 1..8), cut: u16) {
        let Some(path) = data("models/arm_cifar10_m4/model.caffemodel.h5") else { return Ok(()) };
        let mut bytes = std::fs::read(path).unwrap();
        for (at, byte) in flips {
            bytes[at] = byte;
        }
        if cut.is_multiple_of(4) {
            bytes.truncate(usize::from(cut) * 2);
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("damaged.h5");
        std::fs::write(&path, bytes).unwrap();
        let _ = read_caffemodel(&path);
    }
}
