//! Layers at sparsities from none to nearly all.

use super::measure::{Measure, Measured, named};
use super::network;
use super::report::{Case, Kernel, Point, Sweep};
use crate::support::noise::Noise;
use skimjit_program::progress;
use skimjit::{Model, Result, layer};
use skimjit_caffe::zoo::{self, LayerShape, Net, Sparsity};
use skimjit_models::{Op, Weight};
use skimjit_runtime::Choice;
use std::sync::Arc;

/// Zeros of the sweep's points, in percent.
const PERCENTS: [f64; 12] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 98.0,
];
/// Layers that are swept when none is named.
const USUAL_LAYERS: usize = 4;

/// Sweeps the wanted layers of a network, or some that differ most.
pub fn cases(
    measure: &Measure,
    net: &Net,
    wanted: &[String],
    batches: &[u32],
) -> Result<Vec<Case>> {
    let graph = network::graph(net, Sparsity::Percent(0.0), measure.seed)?;
    let typical = typical(zoo::layers(net)?);
    let wanted = if wanted.is_empty() { &typical } else { wanted };
    let singles = network::singles(&graph, wanted)?;
    let case = |&batch: &u32| {
        let mut case = Case {
            network: format!("{}, 0 to 98 % zeros", net.name),
            batch,
            verified_difference: 0.0,
            layers: Vec::new(),
            sweeps: Vec::new(),
            whole: None,
        };
        for single in &singles {
            // Without zeros the dense kernel's numbers are right, and the others agree with it.
            let difference = measure.verified(single, batch)?;
            case.verified_difference = case.verified_difference.max(difference);
            case.sweeps.push(sweep(measure, single, batch)?);
        }
        Ok(case)
    };
    batches.iter().map(case).collect()
}

/// Of the layers that differ in kernel or plane, those with most work.
fn typical(layers: Vec<LayerShape>) -> Vec<String> {
    let mut layers: Vec<LayerShape> = layers.into_iter().filter(LayerShape::has_weights).collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.macs));
    let form = |layer: &LayerShape| {
        let kernel = layer.blobs[0].get(2..).map(<[u32]>::to_vec);
        let plane = layer.output.get(1..).map(<[u32]>::to_vec);
        (kernel, plane)
    };
    let mut chosen: Vec<LayerShape> = Vec::new();
    for layer in layers {
        if chosen.len() < USUAL_LAYERS && chosen.iter().all(|other| form(other) != form(&layer)) {
            chosen.push(layer);
        }
    }
    chosen.into_iter().map(|layer| layer.name).collect()
}

fn sweep(measure: &Measure, dense: &Model, batch: u32) -> Result<Sweep> {
    let bar = progress::bar("sparsities", PERCENTS.len() as u64);
    let mut points = Vec::new();
    let mut described = (String::new(), "", String::new());
    for percent in PERCENTS {
        let model = pruned(dense, percent / 100.0, measure.seed)?;
        let measured = measure.variants(&model, batch, every_sparse_one_and_dense)?;
        let choice = &measured.choice;
        described = (choice.layer.clone(), choice.kind, measured.shape());
        points.push(point(percent, measured));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (layer, kind, shape) = described;
    let crossover_percent = crossover(&points);
    Ok(Sweep {
        layer,
        kind,
        shape,
        points,
        crossover_percent,
    })
}

fn every_sparse_one_and_dense(choice: &Choice) -> Vec<Vec<String>> {
    let sparse = named(choice, layer::is_sparse);
    let mut lists = vec![named(choice, layer::is_dense)];
    lists.extend(sparse.into_iter().map(|variant| vec![variant]));
    lists
}

fn point(percent: f64, mut measured: Measured) -> Point {
    Point {
        zeros_percent: percent,
        dense: measured.take(layer::is_dense),
        chosen: measured.choice.variant,
        sparse: measured.kernels,
    }
}

/// The layer with that share of its weights set to zero. What is zero stays zero at larger shares.
fn pruned(dense: &Model, zeros: f64, seed: u64) -> Result<Model> {
    let mut graph = dense.graph().clone();
    let weights = graph.nodes.iter().find_map(|node| match &node.op {
        Op::Convolution(op) => Some(op.weights),
        Op::InnerProduct(op) => Some(op.weights),
        _ => None,
    });
    if let Some(id) = weights {
        let mut drop = Noise::new(seed ^ 0x5eed);
        let weights = graph.weight(id);
        let shape = weights.shape().clone();
        let keep = |&weight: &f32| {
            let share = drop.bits() as f64 / u64::MAX as f64;
            if share < zeros { 0.0 } else { weight }
        };
        let data = weights.data().iter().map(keep).collect();
        graph.weights[id.0 as usize] = Arc::new(Weight::dense(shape, data));
    }
    Model::from_graph(graph)
}

/// Zeros from which on the fastest sparse variant is at least as fast as the dense one, between
/// points by straight lines.
fn crossover(points: &[Point]) -> Option<f64> {
    let ratio = |point: &Point| {
        let sparse = point.sparse.iter().map(|kernel| kernel.time_ms);
        let dense: &Kernel = point.dense.as_ref()?;
        Some(sparse.fold(f64::INFINITY, f64::min) / dense.time_ms.max(1e-9))
    };
    let ratios: Option<Vec<(f64, f64)>> = points
        .iter()
        .map(|point| Some((point.zeros_percent, ratio(point)?)))
        .collect();
    crossing(&ratios?)
}

/// Where a line through points of percentage and ratio comes to stay at 1 or below.
fn crossing(points: &[(f64, f64)]) -> Option<f64> {
    let above = points.iter().rposition(|&(_, ratio)| ratio > 1.0);
    let Some(above) = above else {
        return points.first().map(|&(percent, _)| percent);
    };
    let (from, high) = points[above];
    let &(to, low) = points.get(above + 1)?;
    let share = if high.is_finite() {
        (high - 1.0) / (high - low)
    } else {
        1.0
    };
    Some(from + share * (to - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossing_lies_between_points() {
        let points = [(0.0, 2.0), (10.0, 0.9), (20.0, 1.5), (40.0, 0.5)];
        assert_eq!(crossing(&points), Some(30.0));
        assert_eq!(crossing(&points[..3]), None);
        assert_eq!(crossing(&[(0.0, 0.8), (50.0, 0.5)]), Some(0.0));
        assert_eq!(crossing(&[(0.0, f64::INFINITY), (50.0, 0.5)]), Some(50.0));
        assert_eq!(crossing(&[]), None);
    }

    #[test]
    fn typical_layers_differ_in_form() {
        let layers = |name| typical(zoo::layers(zoo::find(name).unwrap()).unwrap());
        assert_eq!(layers("caffenet"), ["conv2", "conv3", "conv1", "fc6"]);
        assert_eq!(layers("googlenet").len(), USUAL_LAYERS);
    }

    #[test]
    fn pruning_nests() {
        let graph = network::graph(zoo::find("lenet").unwrap(), Sparsity::Percent(0.0), 1).unwrap();
        let single = network::singles(&graph, &["conv2".to_owned()]).unwrap();
        let weights = |zeros| pruned(&single[0], zeros, 1).unwrap().graph().weights[0].clone();
        let (some, most) = (weights(0.5), weights(0.9));
        let pairs = some.data().iter().zip(most.data());
        assert!(pairs.clone().all(|(a, b)| a == b || *b == 0.0));
        let zeros = pairs.filter(|(_, b)| **b == 0.0).count() as f64;
        assert!((zeros / most.data().len() as f64 - 0.9).abs() < 0.01);
    }
}
