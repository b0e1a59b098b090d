//! Topologies of the zoo against published totals, and row by row against the layer tables of the
//! specification where those are at hand.

use skimjit_caffe::zoo::{self, LayerShape};
use skimjit_testing::data;
use std::collections::HashMap;

fn layers(name: &str) -> Vec<LayerShape> {
    zoo::layers(zoo::find(name).unwrap()).unwrap()
}

/// Multiply-adds of convolutions and of inner products, their weights, and their biases.
fn totals(name: &str) -> [u64; 4] {
    let mut totals = [0; 4];
    for layer in layers(name).iter().filter(|layer| layer.has_weights()) {
        totals[usize::from(layer.kind == "InnerProduct")] += layer.macs;
        totals[2] += layer.blob_count(0);
        totals[3] += layer.blob_count(1);
    }
    totals
}

/// Checklist 65.
#[test]
fn totals_are_the_published_ones() {
    let cases = [
        ("caffenet", [665_784_864, 58_621_952, 60_954_656, 10_568]),
        ("alexnet", [665_784_864, 58_621_952, 60_954_656, 10_568]),
        ("googlenet", [1_581_647_872, 1_024_000, 6_990_272, 8_280]),
        (
            "googlenet-aux",
            [1_583_777_792, 7_266_304, 13_365_696, 12_584],
        ),
        ("resnet-50", [3_855_925_248, 2_048_000, 25_502_912, 1_064]),
        ("vgg-16", [15_346_630_656, 123_633_664, 138_344_128, 13_416]),
        ("lenet", [1_888_000, 405_000, 430_500, 580]),
        ("cifar10-quick", [12_288_000, 66_176, 145_376, 202]),
    ];
    for (name, expected) in cases {
        assert_eq!(
            totals(name),
            expected,
            "{name}: conv MACs, fc MACs, weights, biases"
        );
    }
    let [_, _, weights, biases] = totals("squeezenet");
    assert_eq!(weights + biases, 1_248_424, "squeezenet: parameters");
}

#[test]
fn resnet_normalisation_has_the_published_parameters() {
    let layers = layers("resnet-50");
    let sum = |kind: &str, blob: usize| -> u64 {
        layers
            .iter()
            .filter(|layer| layer.kind == kind)
            .map(|layer| layer.blob_count(blob))
            .sum()
    };
    assert_eq!((sum("Scale", 0), sum("Scale", 1)), (26_560, 26_560));
    assert_eq!(
        sum("BatchNorm", 0) + sum("BatchNorm", 1) + sum("BatchNorm", 2),
        53_173
    );
}

#[test]
fn inputs_and_outputs_are_as_declared() {
    for net in zoo::all() {
        let layers = zoo::layers(net).unwrap();
        assert_eq!(layers[0].output, net.input_shape[1..], "{}", net.name);
        let results = layers.last().unwrap().output.iter().product::<u32>();
        assert_eq!(
            results,
            match net.name {
                "mobilenet-ssd" => 100 * 7,
                _ if net.input_shape[3] < 100 => 10,
                _ => 1000,
            },
            "{}",
            net.name
        );
        let mut names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(
            names.len(),
            layers.len(),
            "{}: layer names are unique",
            net.name
        );
    }
}

#[test]
fn every_published_sparsity_belongs_to_a_layer() {
    for (name, sparsities) in [("caffenet", 7), ("googlenet-aux", 24), ("resnet-50", 17)] {
        let published = zoo::find(name).unwrap().published.unwrap();
        assert_eq!(published.len(), sparsities);
        let layers = layers(name);
        for (layer, percent) in published {
            assert!(
                layers.iter().any(|l| l.name == *layer && l.has_weights()),
                "{name} {layer}"
            );
            assert!((70.0..100.0).contains(percent), "{name} {layer}");
        }
    }
}

#[test]
fn names_are_found_in_any_form() {
    for (name, expected) in [
        ("CaffeNet", "caffenet"),
        ("bvlc_googlenet", "googlenet"),
        ("ResNet_50", "resnet-50"),
        ("VGG16", "vgg-16"),
        ("SqueezeNet_v1.0", "squeezenet-v1.0"),
    ] {
        assert_eq!(
            zoo::find(name).map(|net| net.name),
            Some(expected),
            "{name}"
        );
    }
    assert!(zoo::find("transformer").is_none());
    let mut names: Vec<&str> = zoo::all()
        .iter()
        .flat_map(|net| net.aliases.iter().copied().chain([net.name]))
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "no name stands for two networks");
}

/// Rows of the specification's layer table: net, layer, type, in, out, kernel, stride, pad, group,
/// weight shape, weights, biases, MACs.
///
/// Checklist 65.
#[test]
fn every_layer_is_that_of_the_specification() {
    let Some(file) = data("../spec/nets.csv") else {
        return;
    };
    let table = std::fs::read_to_string(&file).unwrap();
    let nets = [
        ("CaffeNet", "caffenet"),
        ("GoogLeNet", "googlenet-aux"),
        ("GoogLeNet-deploy", "googlenet"),
        ("ResNet-50", "resnet-50"),
    ];
    let by_net: HashMap<&str, Vec<LayerShape>> = nets
        .iter()
        .map(|&(table, zoo)| (table, layers(zoo)))
        .collect();
    let ends = ["Data", "Input", "Accuracy", "SoftmaxWithLoss", "Softmax"];
    let mut rows = 0;
    for row in table
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
    {
        if !ends.contains(&row[2]) {
            let layer = by_net[row[0]].iter().find(|layer| layer.name == row[1]);
            assert_row(
                layer.unwrap_or_else(|| panic!("{} {}", row[0], row[1])),
                &row,
            );
            rows += 1;
        }
    }
    let others = by_net
        .values()
        .flatten()
        .filter(|layer| !ends.contains(&layer.kind.as_str()));
    assert_eq!(rows, others.count(), "no layer beyond those of the table");
}

fn assert_row(layer: &LayerShape, row: &[&str]) {
    let dims = |dims: &[u32]| {
        dims.iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join("x")
    };
    let inputs = layer
        .inputs
        .iter()
        .map(|input| dims(input))
        .collect::<Vec<_>>()
        .join(";");
    assert_eq!(layer.kind, row[2].split(':').next().unwrap(), "{row:?}");
    assert_eq!(
        (inputs.as_str(), dims(&layer.output).as_str()),
        (row[3], row[4]),
        "{row:?}"
    );
    assert_eq!(layer.macs.to_string(), row[12], "{row:?}");
    if layer.has_weights() {
        assert_eq!(dims(&layer.blobs[0]), row[9], "{row:?}");
        assert_eq!(layer.blob_count(0).to_string(), row[10], "{row:?}");
        assert_eq!(layer.blob_count(1).to_string(), row[11], "{row:?}");
    }
}
