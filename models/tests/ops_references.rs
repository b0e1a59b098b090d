//! References of weightless layers against blobs that OpenCV computed for real nets.

use skimjit_models::ops::*;
use skimjit_models::{Op, Shape, Tensor};
use skimjit_testing::data;
use std::path::{Path, PathBuf};

/// The folder of one net's reference blobs.
fn layers(net: &str) -> Option<PathBuf> {
    data(&format!("refs/{net}/layers"))
}

/// A little-endian `f32` array of format version 1.
fn read(folder: &Path, name: &str) -> Tensor {
    let bytes = std::fs::read(folder.join(format!("{name}.npy"))).unwrap();
    let (header, data) =
        bytes[10..].split_at(usize::from(u16::from_le_bytes([bytes[8], bytes[9]])));
    let header = std::str::from_utf8(header).unwrap();
    assert!(
        header.contains("'<f4'") && header.contains("False"),
        "{header}"
    );
    let dims = header.split(['(', ')']).nth(1).unwrap();
    let dims: Vec<u32> = dims
        .split(',')
        .filter_map(|dim| dim.trim().parse().ok())
        .collect();
    let floats = data
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect();
    Tensor::new(Shape::new(dims).unwrap(), floats)
}

/// Compares `op(from)` with `to`, within `tolerance` of the largest value.
fn check(folder: &Path, from: &str, op: Op, to: &str, tolerance: f32) {
    let (src, expected) = (read(folder, from), read(folder, to));
    let shape = op.infer_shape(&[src.shape()], &[]).unwrap();
    assert_eq!(&shape, expected.shape(), "{to}");
    let mut found = Tensor::zeros(shape.clone());
    op.evaluate(&[src.view()], &[], &shape, found.data_mut());
    let largest = expected
        .data()
        .iter()
        .fold(0.0f32, |largest, x| largest.max(x.abs()));
    for (a, b) in found.data().iter().zip(expected.data()) {
        assert!((a - b).abs() <= tolerance * largest, "{to}: {a} {b}");
    }
}

fn pool(method: PoolMethod, relu: bool) -> Op {
    let window = Window::square(3, 2, 0);
    Op::Pooling(Pooling {
        method,
        window,
        global: false,
        made_for: None,
        rounding: Rounding::Up,
        relu,
        mask: false,
    })
}

#[test]
fn pruned_alexnet() {
    let Some(folder) = layers("alexnet_pruned_convs") else {
        return;
    };
    let lrn = Lrn {
        size: 5,
        alpha: 1e-4,
        beta: 0.75,
        k: 1.0,
        within_channel: false,
    };
    let max = pool(PoolMethod::Max, false);
    check(&folder, "000__conv1", max.clone(), "001__pool1", 0.0);
    check(
        &folder,
        "001__pool1",
        Op::Lrn(lrn.clone()),
        "002__norm1",
        1e-6,
    );
    check(&folder, "003__conv2", max.clone(), "004__pool2", 0.0);
    check(&folder, "004__pool2", Op::Lrn(lrn), "005__norm2", 1e-6);
    check(&folder, "008__conv5", max, "009__pool5", 0.0);
}

#[test]
fn cifar10_quick() {
    let Some(folder) = layers("cifar10_quick_v1format") else {
        return;
    };
    check(
        &folder,
        "000__conv1",
        pool(PoolMethod::Max, true),
        "001__pool1",
        0.0,
    );
    check(
        &folder,
        "002__conv2",
        pool(PoolMethod::Average, false),
        "003__pool2",
        1e-6,
    );
    check(
        &folder,
        "004__conv3",
        pool(PoolMethod::Average, false),
        "005__pool3",
        1e-6,
    );
    check(
        &folder,
        "007__ip2",
        Op::Softmax { axis: 1 },
        "008__prob",
        1e-6,
    );
}
