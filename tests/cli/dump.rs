//! `skimjit dump`: the matrices are the weights, and the statistics those that SkimCaffe prints.

use crate::support::Workplace;
use crate::testing::{number, text};
use serde_json::Value;
use skimjit::{LoadOptions, Model};
use skimjit_caffe::blob::from_tensor;
use skimjit_caffe::{parse_prototxt, write_caffemodel};
use skimjit_models::{Graph, Op, Shape, Tensor, Weight};
use skimjit_testing::data;
use std::collections::BTreeMap;
use std::path::Path;

/// Entries of a matrix, by row and column, and its size.
fn matrix(path: &Path) -> ([usize; 2], BTreeMap<[usize; 2], f32>) {
    let file = std::fs::read_to_string(path).unwrap();
    let mut lines = file.lines().filter(|line| !line.starts_with('%'));
    let mut words = || {
        let line = lines.next()?;
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Some(<[String; 3]>::try_from(words).unwrap())
    };
    let [rows, columns, count] = words().unwrap().map(|word| word.parse::<usize>().unwrap());
    let mut entries = BTreeMap::new();
    while let Some([row, column, value]) = words() {
        let at = [row, column].map(|word| word.parse::<usize>().unwrap());
        assert!(
            (1..=rows).contains(&at[0]) && (1..=columns).contains(&at[1]),
            "{at:?}"
        );
        assert!(
            entries.insert(at, value.parse().unwrap()).is_none(),
            "{at:?} twice"
        );
    }
    assert_eq!(entries.len(), count);
    ([rows, columns], entries)
}

/// The elements of a weight matrix other than zero.
fn expected(weights: &Weight) -> ([usize; 2], BTreeMap<[usize; 2], f32>) {
    let rows = weights.shape().dim(0) as usize;
    let columns = weights.data().len() / rows;
    let all = weights.data().iter().enumerate();
    let entries = all.filter(|(_, w)| **w != 0.0);
    let placed = |(i, &w): (usize, &f32)| ([i / columns + 1, i % columns + 1], w);
    ([rows, columns], entries.map(placed).collect())
}

fn weights<'g>(graph: &'g Graph, layer: &str) -> &'g Weight {
    let node = graph
        .nodes
        .iter()
        .find(|node| node.name == layer)
        .expect(layer);
    graph.weight(node.op.weights()[0])
}

/// A convolution of two groups, layers whose names differ in a slash, one that shares its weights.
const NET: &str = r#"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 dim: 6 dim: 6 } } }
layer { name: "a/b" type: "Convolution" bottom: "data" top: "x" param { name: "w" }
  convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 group: 2 } }
layer { name: "a_b" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 3 bias_term: false } }
layer { name: "same" type: "Convolution" bottom: "data" top: "z" param { name: "w" }
  convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 group: 2 } }
"#;

/// The network, with zeros, and empty columns in its second group.
fn grouped() -> Workplace {
    let place = Workplace::new();
    let (mut net, _) = parse_prototxt(NET, "net.prototxt").unwrap();
    let blob = |dims: &[u32], value: &dyn Fn(usize) -> f32| {
        let shape = Shape::new(dims).unwrap();
        let data = (0..shape.count()).map(value).collect();
        from_tensor(Tensor::new(shape, data))
    };
    // 12 weights a filter: 2 input channels of 6 positions.
    let conv = |i: usize| match (i / 12, i % 12) {
        (3.., 4..) => 0.0,
        (row, column) if (row + column) % 3 == 0 => 0.0,
        (row, column) => 0.1 * row as f32 - column as f32,
    };
    for layer in &mut net.layer {
        layer.blobs = match layer.name() {
            "a/b" | "same" => vec![blob(&[6, 2, 3, 2], &conv), blob(&[6], &|i| i as f32 * 0.3)],
            "a_b" => vec![blob(&[3, 120], &|i| (i % 4) as f32 * 1e-20)],
            _ => vec![],
        };
    }
    write_caffemodel(&net, &place.path("net.caffemodel")).unwrap();
    place
}

/// Checklist 41.
#[test]
fn matrices_hold_the_weights_bit_for_bit() {
    let place = grouped();
    let report = place.json(&["dump", "net.caffemodel", "--output", "w"]);
    let layers = report.as_array().unwrap();
    assert_eq!(layers.len(), 2, "shared weights once");
    let model = Model::load(&place.path("net.caffemodel"), &LoadOptions::default()).unwrap();
    let mut files = Vec::new();
    for layer in layers {
        let (name, file) = (
            layer["layer"].as_str().unwrap(),
            layer["file"].as_str().unwrap(),
        );
        let found = matrix(&place.path(file));
        assert!(found == expected(weights(model.graph(), name)), "{name}");
        files.push(file);
    }
    assert_eq!(files, ["w/a_b.mtx", "w/a_b.2.mtx"]);
    let comment = std::fs::read_to_string(place.path(files[0])).unwrap();
    let comment = comment.lines().nth(1).unwrap().to_owned();
    assert!(
        comment.contains("layer a/b") && comment.contains("2 group(s)"),
        "{comment}"
    );
    assert_eq!(layers[0]["bias_file"], "w/a_b.bias.npy");
    assert_eq!(layers[1]["bias_file"], Value::Null);
    let problem = ["--problem", "g2ic4ih6iw6oc6kh3kw2", "--iterations", "1"];
    let bench = place.json(&[&["bench", "--mtx", files[0]], &problem[..]].concat());
    let density = number(&bench["cases"][0]["layers"][0]["density"]);
    let dumped = number(&layers[0]["nonzeros"]) / 72.0;
    assert!((density - dumped).abs() < 1e-9, "{density} {dumped}");
}

/// The definitions of SkimCaffe's log, counted here one group at a time.
///
/// Checklist 42.
#[test]
fn fibers_and_slices_are_skimcaffes() {
    let place = grouped();
    let model = Model::load(&place.path("net.caffemodel"), &LoadOptions::default()).unwrap();
    for threshold in [0.0, 0.5] {
        let limit = threshold.to_string();
        let report = place.json(&["dump", "net.caffemodel", "--zero-below", &limit]);
        let data = weights(model.graph(), "a/b").data();
        let zero = |oc: usize, ic: usize, k: usize| data[(oc * 2 + ic) * 6 + k].abs() <= threshold;
        let share = |groups: Vec<bool>| {
            100.0 * groups.iter().filter(|zero| **zero).count() as f64 / groups.len() as f64
        };
        let pairs = |a: usize, b: usize| (0..a * b).map(move |i| (i / b, i % b));
        let of = |n: usize, all: &dyn Fn(usize) -> bool| (0..n).all(all);
        let columns = pairs(2, 12)
            .map(|(group, column)| of(3, &|oc| zero(group * 3 + oc, column / 6, column % 6)));
        for (name, expected) in [
            (
                "element",
                share(pairs(12, 6).map(|(i, k)| zero(i / 2, i % 2, k)).collect()),
            ),
            (
                "oc_fiber",
                share(
                    pairs(2, 6)
                        .map(|(c, k)| of(6, &|o| zero(o, c, k)))
                        .collect(),
                ),
            ),
            (
                "ic_fiber",
                share(
                    pairs(6, 6)
                        .map(|(o, k)| of(2, &|c| zero(o, c, k)))
                        .collect(),
                ),
            ),
            (
                "kernel_fiber",
                share(
                    pairs(6, 2)
                        .map(|(o, c)| of(6, &|k| zero(o, c, k)))
                        .collect(),
                ),
            ),
            (
                "oc_slice",
                share((0..6).map(|o| of(12, &|i| zero(o, i / 6, i % 6))).collect()),
            ),
            (
                "ic_slice",
                share((0..2).map(|c| of(36, &|i| zero(i / 6, c, i % 6))).collect()),
            ),
            (
                "kernel_slice",
                share((0..6).map(|k| of(12, &|i| zero(i / 2, i % 2, k))).collect()),
            ),
            ("column", share(columns.collect())),
        ] {
            let found = number(&report[0]["zeros"][name]);
            assert!(
                (found - expected).abs() < 1e-9,
                "{name}: {found}, {expected}"
            );
        }
    }
}

/// Checklist 42.
#[test]
fn every_pattern_is_in_the_json() {
    let place = grouped();
    let arguments = [
        "dump",
        "net.caffemodel",
        "--layers",
        "a/b",
        "--histogram",
        "1",
    ];
    let report = place.json(&arguments);
    let patterns = report[0]["patterns"]["all"].as_array().unwrap();
    let model = Model::load(&place.path("net.caffemodel"), &LoadOptions::default()).unwrap();
    let mut expected: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    for kernel in weights(model.graph(), "a/b").data().chunks(6) {
        let mark = |w: &f32| if *w == 0.0 { '.' } else { 'x' };
        let rows = kernel.chunks(2).map(|row| row.iter().map(mark).collect());
        *expected.entry(rows.collect()).or_default() += 1;
    }
    let found = patterns.iter().map(|pattern| {
        let rows = pattern["rows"].as_array().unwrap().iter();
        let rows = rows.map(|row| row.as_str().unwrap().to_owned()).collect();
        (rows, pattern["count"].as_u64().unwrap())
    });
    let found: Vec<(Vec<String>, u64)> = found.collect();
    assert!(found.is_sorted_by(|a, b| a.1 >= b.1), "{found:?}");
    assert!(found.len() > 1);
    assert_eq!(found.iter().cloned().collect::<BTreeMap<_, _>>(), expected);
    assert_eq!(report[0]["patterns"]["distinct"], found.len());
    let printed = place.ok(&arguments);
    let most = format!("\n  {}\n", found[0].0[0]);
    assert!(printed.contains(&most), "one pattern only: {printed}");
}

/// SkimCaffe's own dumps of pruned layers, from which the network was made, come out again.
#[test]
fn published_matrices_come_out_again() {
    let Some(shared) = data("") else { return };
    let place = Workplace::new();
    let folder = shared.join("models/alexnet_pruned_convs");
    let files = ["model.caffemodel", "deploy.prototxt"].map(|name| text(&folder.join(name)));
    let arguments = [
        "dump",
        &files[0],
        "--prototxt",
        &files[1],
        "--output",
        "w",
        "--json",
    ];
    let result = place.skimjit(&arguments);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    let report: Value = serde_json::from_str(&result.stdout).unwrap();
    let options = LoadOptions {
        prototxt: Some(folder.join("deploy.prototxt")),
        ..LoadOptions::default()
    };
    let model = Model::load(&folder.join("model.caffemodel"), &options).unwrap();
    let convolutions = model
        .graph()
        .nodes
        .iter()
        .filter(|node| matches!(node.op, Op::Convolution(_)));
    assert_eq!(convolutions.count(), 5);
    for (index, layer) in report.as_array().unwrap().iter().enumerate() {
        let dumped = matrix(&place.path(&format!("w/conv{}.mtx", index + 1)));
        let file = format!(
            "sparse_mtx/alexnet_0.56068_l2_0.00025_l1_0.00009/coo_conv{}.mtx",
            index + 1
        );
        assert!(dumped == matrix(&shared.join(file)), "conv{}", index + 1);
        println!(
            "{}: {} of {}",
            layer["layer"], layer["nonzeros"], layer["shape"]
        );
    }
    // Columns that no filter uses, and empty rows, as the table beside the matrices counts them.
    let conv3 = &report[2]["zeros"];
    assert!((number(&conv3["oc_fiber"]) - 100.0 * 198.0 / 2304.0).abs() < 1e-9);
    assert!((number(&conv3["oc_slice"]) - 100.0 * 65.0 / 384.0).abs() < 1e-9);
}
